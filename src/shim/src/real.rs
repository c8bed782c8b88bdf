//! The functions that the hooks stand in front of.
//!
//! Each is looked up with `dlsym(RTLD_NEXT)`: the next library in line, which
//! is libc unless somebody else preloads too. [`warm`] looks all of them up in
//! the constructor; an earlier call looks up its own. The cell is a race, not
//! a lock: two threads may both look up and get the same answer, and a signal
//! handler or a forked child can never find it held. It always holds somewhere
//! to go to, so a hook with nothing to do is a jump.

use core::arch::naked_asm;
use core::ffi::{c_char, c_int, c_long, c_uint, c_void};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use libc::{mmsghdr, msghdr, sockaddr, socklen_t, ssize_t};

use crate::hook;

/// Room for the longest name and its NUL.
const NAME: usize = 16;

/// A function of the next library.
#[repr(C)]
pub struct Real {
    /// Where to go: at first a stub that looks the function up.
    at: AtomicPtr<c_void>,
    name: [u8; NAME],
}

/// The name and a NUL. Here and not behind a pointer, which the loader would
/// have to set right in every process.
const fn name(text: &str) -> [u8; NAME] {
    let (text, mut name, mut i) = (text.as_bytes(), [0; NAME], 0);
    while i < text.len() {
        name[i] = text[i];
        i += 1;
    }
    assert!(i < NAME, "no room for the NUL");
    name
}

impl Real {
    /// Looks the function up, and remembers it. What the running libc lacks is
    /// [`absent`].
    #[cold]
    fn find(&self) -> *mut c_void {
        let look_up = |name: *const c_char| {
            // SAFETY: a NUL-terminated name; RTLD_NEXT is a valid handle.
            unsafe { libc::dlsym(libc::RTLD_NEXT, name) }
        };
        let mut at = look_up(self.name.as_ptr().cast());
        if at.is_null() && self.name == name("fcntl64") {
            // A libc without the name has the same function under the other.
            at = look_up(c"fcntl".as_ptr());
        }
        if at.is_null() {
            at = absent as *const () as *mut c_void;
        }
        self.at.store(at, Relaxed);
        at
    }
}

/// Stands for a function that the running libc lacks. As wide as the widest of
/// their results.
extern "C" fn absent() -> isize {
    hook::absent() as isize
}

/// What [`resolve`] calls.
extern "C" fn find(real: &Real) -> *mut c_void {
    let before = hook::errno();
    let at = real.find();
    hook::set_errno(before);
    at
}

/// Where the stubs of the functions that nobody has looked up yet jump to,
/// with the [`Real`] in a register that no argument travels in: looks it up and
/// goes on there, with every argument as it came.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn resolve() {
    naked_asm!(
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "sub rsp, 8",
        "mov rdi, rax",
        "call {find}",
        "add rsp, 8",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "jmp rax",
        find = sym find,
    )
}

/// As on the other architecture.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn resolve() {
    naked_asm!(
        "stp x29, x30, [sp, -80]!",
        "stp x0, x1, [sp, 16]",
        "stp x2, x3, [sp, 32]",
        "stp x4, x5, [sp, 48]",
        "stp x6, x7, [sp, 64]",
        "mov x0, x16",
        "bl {find}",
        "mov x16, x0",
        "ldp x0, x1, [sp, 16]",
        "ldp x2, x3, [sp, 32]",
        "ldp x4, x5, [sp, 48]",
        "ldp x6, x7, [sp, 64]",
        "ldp x29, x30, [sp], 80",
        "br x16",
        find = sym find,
    )
}

macro_rules! reals {
    ($($name:ident: $abi:literal fn($($arg:ty),*) -> $ret:ty;)*) => {
        /// The cells, by the names of their functions.
        #[allow(non_upper_case_globals)]
        pub mod cell {
            use super::*;
            $(
                #[doc = concat!("Of `", stringify!($name), "`.")]
                pub static $name: Real = Real {
                    at: AtomicPtr::new(super::stub::$name as *const () as *mut c_void),
                    name: name(stringify!($name)),
                };
            )*
        }

        /// Where the cells lead before their functions are known.
        mod stub {
            use super::*;
            $(
                #[unsafe(naked)]
                pub unsafe extern "C" fn $name() {
                    #[cfg(target_arch = "x86_64")]
                    naked_asm!(
                        "lea rax, [rip + {cell}]",
                        "jmp {resolve}",
                        cell = sym cell::$name,
                        resolve = sym resolve,
                    );
                    #[cfg(target_arch = "aarch64")]
                    naked_asm!(
                        "adrp x16, {cell}",
                        "add x16, x16, :lo12:{cell}",
                        "b {resolve}",
                        cell = sym cell::$name,
                        resolve = sym resolve,
                    );
                }
            )*
        }

        $(
            #[doc = concat!("The next `", stringify!($name), "`.")]
            #[inline(always)]
            pub fn $name() -> unsafe extern $abi fn($($arg),*) -> $ret {
                let at = cell::$name.at.load(Relaxed);
                // SAFETY: the symbol of this name has this C signature (its
                // man page), and what stands in for it takes any. "C-unwind"
                // lets thread cancellation unwind through us; "C" are those
                // that are no cancellation points.
                unsafe { core::mem::transmute::<*mut c_void, unsafe extern $abi fn($($arg),*) -> $ret>(at) }
            }
        )*

        /// Looks up every function, so that no hook has to later.
        pub fn warm() {
            $( let _ = cell::$name.find(); )*
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
    send: "C-unwind" fn(c_int, *const c_void, usize, c_int) -> ssize_t;
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

/// Functions that are looked up when they are first called: most programs never
/// call those that start a process, and the others are there for vsock hosts.
pub mod rare {
    #![allow(dead_code, reason = "`warm` is not called")]
    use super::*;

    reals! {
        system: "C-unwind" fn(*const c_char) -> c_int;
        popen: "C-unwind" fn(*const c_char, *const c_char) -> *mut c_void;
        wordexp: "C-unwind" fn(*const c_char, *mut c_void, c_int) -> c_int;
        recv: "C-unwind" fn(c_int, *mut c_void, usize, c_int) -> ssize_t;
        recvfrom: "C-unwind" fn(c_int, *mut c_void, usize, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t;
        shutdown: "C-unwind" fn(c_int, c_int) -> c_int;
        __recv_chk: "C-unwind" fn(c_int, *mut c_void, usize, usize, c_int) -> ssize_t;
        __recvfrom_chk: "C-unwind" fn(c_int, *mut c_void, usize, usize, c_int, *mut sockaddr, *mut socklen_t) -> ssize_t;
        poll: "C-unwind" fn(*mut libc::pollfd, libc::nfds_t, c_int) -> c_int;
        __poll_chk: "C-unwind" fn(*mut libc::pollfd, libc::nfds_t, c_int, usize) -> c_int;
        ppoll: "C-unwind" fn(*mut libc::pollfd, libc::nfds_t, *const libc::timespec, *const libc::sigset_t) -> c_int;
        __ppoll_chk: "C-unwind" fn(*mut libc::pollfd, libc::nfds_t, *const libc::timespec, *const libc::sigset_t, usize) -> c_int;
        ioctl: "C-unwind" fn(c_int, libc::c_ulong, *mut c_void) -> c_int;
        open: "C-unwind" fn(*const c_char, c_int, libc::mode_t) -> c_int;
        open64: "C-unwind" fn(*const c_char, c_int, libc::mode_t) -> c_int;
        openat: "C-unwind" fn(c_int, *const c_char, c_int, libc::mode_t) -> c_int;
        openat64: "C-unwind" fn(c_int, *const c_char, c_int, libc::mode_t) -> c_int;
    }
}
