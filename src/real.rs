//! The functions that the hooks stand in front of.
//!
//! Each is looked up with `dlsym(RTLD_NEXT)`: the next library in line, which
//! is libc unless somebody else preloads too. [`warm`] looks all of them up in
//! the constructor; an earlier call looks up its own. The cell is a race, not
//! a lock: two threads may both look up and get the same answer, and a signal
//! handler or a forked child can never find it held.

use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use core::num::NonZeroUsize;

use libc::{mmsghdr, msghdr, sockaddr, socklen_t, ssize_t};
use once_cell::race::OnceNonZeroUsize;

/// A function of the next library.
pub struct Real {
    name: &'static CStr,
    at: OnceNonZeroUsize,
}

/// Stands for "the libc has no such function".
const ABSENT: NonZeroUsize = NonZeroUsize::MAX;

impl Real {
    const fn new(name: &'static CStr) -> Real {
        Real {
            name,
            at: OnceNonZeroUsize::new(),
        }
    }

    fn address(&self) -> Option<usize> {
        let at = self.at.get_or_init(|| {
            // SAFETY: a NUL-terminated name; RTLD_NEXT is a valid handle.
            let at = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            NonZeroUsize::new(at as usize).unwrap_or(ABSENT)
        });
        (at != ABSENT).then_some(at.get())
    }
}

macro_rules! reals {
    ($($name:ident: fn($($arg:ty),*) -> $ret:ty;)*) => {
        $(
            #[doc = concat!("The next `", stringify!($name), "`, if there is one.")]
            #[inline]
            pub fn $name() -> Option<unsafe extern "C-unwind" fn($($arg),*) -> $ret> {
                static REAL: Real = Real::new(
                    match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a name with a NUL"),
                    },
                );
                // SAFETY: the symbol of this name has this C signature (its
                // man page); "C-unwind" is the C convention, and lets thread
                // cancellation unwind through us.
                REAL.address().map(|at| unsafe {
                    core::mem::transmute::<usize, unsafe extern "C-unwind" fn($($arg),*) -> $ret>(at)
                })
            }
        )*

        /// Looks up every function, so that no hook has to later.
        pub fn warm() {
            $( let _ = $name(); )*
        }
    };
}

reals! {
    socket: fn(c_int, c_int, c_int) -> c_int;
    socketpair: fn(c_int, c_int, c_int, *mut c_int) -> c_int;
    bind: fn(c_int, *const sockaddr, socklen_t) -> c_int;
    listen: fn(c_int, c_int) -> c_int;
    connect: fn(c_int, *const sockaddr, socklen_t) -> c_int;
    accept: fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    accept4: fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;
    getsockname: fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    getpeername: fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    getsockopt: fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
    setsockopt: fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;
    close: fn(c_int) -> c_int;
    close_range: fn(c_uint, c_uint, c_int) -> c_int;
    closefrom: fn(c_int) -> ();
    dup: fn(c_int) -> c_int;
    dup2: fn(c_int, c_int) -> c_int;
    dup3: fn(c_int, c_int, c_int) -> c_int;
    fcntl: fn(c_int, c_int, *mut c_void) -> c_int;
    fcntl64: fn(c_int, c_int, *mut c_void) -> c_int;
    recvmsg: fn(c_int, *mut msghdr, c_int) -> ssize_t;
    recvmmsg: fn(c_int, *mut mmsghdr, c_uint, c_int, *mut libc::timespec) -> c_int;
    sendto: fn(c_int, *const c_void, usize, c_int, *const sockaddr, socklen_t) -> ssize_t;
    sendmsg: fn(c_int, *const msghdr, c_int) -> ssize_t;
    sendmmsg: fn(c_int, *mut mmsghdr, c_uint, c_int) -> c_int;
    epoll_ctl: fn(c_int, c_int, c_int, *mut libc::epoll_event) -> c_int;
    prctl: fn(c_int, *mut c_void, *mut c_void, *mut c_void, *mut c_void) -> c_int;
    syscall: fn(c_long, usize, usize, usize, usize, usize, usize) -> c_long;
    execve: fn(*const c_char, *const *const c_char, *const *const c_char) -> c_int;
    execvpe: fn(*const c_char, *const *const c_char, *const *const c_char) -> c_int;
    fexecve: fn(c_int, *const *const c_char, *const *const c_char) -> c_int;
    execveat: fn(c_int, *const c_char, *const *const c_char, *const *const c_char, c_int) -> c_int;
    posix_spawn: fn(*mut libc::pid_t, *const c_char, *const c_void, *const c_void, *const *mut c_char, *const *mut c_char) -> c_int;
    posix_spawnp: fn(*mut libc::pid_t, *const c_char, *const c_void, *const c_void, *const *mut c_char, *const *mut c_char) -> c_int;
}
