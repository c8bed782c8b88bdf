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
    ($($name:ident: $abi:literal fn($($arg:ty),*) -> $ret:ty;)*) => {
        $(
            #[doc = concat!("The next `", stringify!($name), "`, if there is one.")]
            #[inline]
            pub fn $name() -> Option<unsafe extern $abi fn($($arg),*) -> $ret> {
                static REAL: Real = Real::new(
                    match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("a name with a NUL"),
                    },
                );
                // SAFETY: the symbol of this name has this C signature (its
                // man page). "C-unwind" lets thread cancellation unwind
                // through us; "C" are those that are no cancellation points.
                REAL.address().map(|at| unsafe {
                    core::mem::transmute::<usize, unsafe extern $abi fn($($arg),*) -> $ret>(at)
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
    socket: "C" fn(c_int, c_int, c_int) -> c_int;
    socketpair: "C-unwind" fn(c_int, c_int, c_int, *mut c_int) -> c_int;
    bind: "C" fn(c_int, *const sockaddr, socklen_t) -> c_int;
    listen: "C-unwind" fn(c_int, c_int) -> c_int;
    connect: "C-unwind" fn(c_int, *const sockaddr, socklen_t) -> c_int;
    accept: "C-unwind" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    accept4: "C-unwind" fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;
    getsockname: "C-unwind" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    getpeername: "C-unwind" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int;
    getsockopt: "C-unwind" fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int;
    setsockopt: "C-unwind" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;
    close: "C-unwind" fn(c_int) -> c_int;
    close_range: "C-unwind" fn(c_uint, c_uint, c_int) -> c_int;
    closefrom: "C-unwind" fn(c_int) -> ();
    dup: "C-unwind" fn(c_int) -> c_int;
    dup2: "C-unwind" fn(c_int, c_int) -> c_int;
    dup3: "C-unwind" fn(c_int, c_int, c_int) -> c_int;
    fcntl: "C-unwind" fn(c_int, c_int, *mut c_void) -> c_int;
    fcntl64: "C-unwind" fn(c_int, c_int, *mut c_void) -> c_int;
    recvmsg: "C-unwind" fn(c_int, *mut msghdr, c_int) -> ssize_t;
    recvmmsg: "C-unwind" fn(c_int, *mut mmsghdr, c_uint, c_int, *mut libc::timespec) -> c_int;
    sendto: "C-unwind" fn(c_int, *const c_void, usize, c_int, *const sockaddr, socklen_t) -> ssize_t;
    sendmsg: "C-unwind" fn(c_int, *const msghdr, c_int) -> ssize_t;
    sendmmsg: "C-unwind" fn(c_int, *mut mmsghdr, c_uint, c_int) -> c_int;
    epoll_ctl: "C-unwind" fn(c_int, c_int, c_int, *mut libc::epoll_event) -> c_int;
    prctl: "C-unwind" fn(c_int, *mut c_void, *mut c_void, *mut c_void, *mut c_void) -> c_int;
    syscall: "C-unwind" fn(c_long, usize, usize, usize, usize, usize, usize) -> c_long;
    execve: "C" fn(*const c_char, *const *const c_char, *const *const c_char) -> c_int;
    execvpe: "C" fn(*const c_char, *const *const c_char, *const *const c_char) -> c_int;
    fexecve: "C" fn(c_int, *const *const c_char, *const *const c_char) -> c_int;
    execveat: "C" fn(c_int, *const c_char, *const *const c_char, *const *const c_char, c_int) -> c_int;
    posix_spawn: "C" fn(*mut libc::pid_t, *const c_char, *const c_void, *const c_void, *const *mut c_char, *const *mut c_char) -> c_int;
    posix_spawnp: "C" fn(*mut libc::pid_t, *const c_char, *const c_void, *const c_void, *const *mut c_char, *const *mut c_char) -> c_int;
}
