//! Raw system calls, for code that lives in somebody else's process.
//!
//! A call goes straight to the kernel: by way of libc it would come back to
//! the program's own hooks, touch `errno` and be a cancellation point. Nothing
//! here allocates, blocks without saying so, or panics, so all of it may be
//! called from a signal handler.
//!
//! A seccomp filter can end a program for a call that it did not expect.
//! Therefore every function takes an [`Allowed`]: which calls the thread may
//! make is a value that somebody found out, and a call that is not in it is
//! not made ([`Errno::NOT_ALLOWED`]).
//!
//! Everything is inlined into the crate that calls it: only there does the
//! compiler see, before it links, that nothing here can panic.
//!
//! | module | calls |
//! |---|---|
//! | [`allowed`] | none: the value itself |
//! | `socket` | sockets, their names and options |
//! | `file` | files, directories, paths |
//! | `path` | files by names that may be the program's own |
//! | `memory` | mappings, and the program's memory by way of the kernel |
//! | `process` | who this process is, futexes, signals, the clock |
//! | [`filter`] | whether a seccomp filter is there, and what it lets through |
#![no_std]

/// An errno value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub u16);

impl Errno {
    /// What a call that [`Allowed`] does not have answers: as on a kernel that
    /// does not have it.
    pub const NOT_ALLOWED: Errno = Errno(libc::ENOSYS as u16);
}

/// `raw!(number, args…)`: makes a call, and gives what the kernel answers. What a
/// call does not have as an argument is not set to anything.
///
/// The kernel's calling convention: `rcx` and `r11` are clobbered, all else is
/// kept. What the call does to memory is the promise of whoever makes it.
#[cfg(target_arch = "x86_64")]
macro_rules! raw {
    ($n:expr) => { raw!(@ $n) };
    ($n:expr, $a:expr) => { raw!(@ $n, "rdi" $a) };
    ($n:expr, $a:expr, $b:expr) => { raw!(@ $n, "rdi" $a, "rsi" $b) };
    ($n:expr, $a:expr, $b:expr, $c:expr) => { raw!(@ $n, "rdi" $a, "rsi" $b, "rdx" $c) };
    ($n:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
        raw!(@ $n, "rdi" $a, "rsi" $b, "rdx" $c, "r10" $d)
    };
    ($n:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        raw!(@ $n, "rdi" $a, "rsi" $b, "rdx" $c, "r10" $d, "r8" $e)
    };
    ($n:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        raw!(@ $n, "rdi" $a, "rsi" $b, "rdx" $c, "r10" $d, "r8" $e, "r9" $f)
    };
    (@ $n:expr $(, $register:tt $arg:expr)*) => {{
        let ret: isize;
        core::arch::asm!(
            "syscall",
            inlateout("rax") $n as isize => ret,
            $(in($register) $arg as usize,)*
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
        ret
    }};
}

/// As on the other architecture. Only `x0` changes.
#[cfg(target_arch = "aarch64")]
macro_rules! raw {
    ($n:expr) => { raw!(@ $n, 0) };
    ($n:expr, $a:expr) => { raw!(@ $n, $a) };
    ($n:expr, $a:expr, $b:expr) => { raw!(@ $n, $a, "x1" $b) };
    ($n:expr, $a:expr, $b:expr, $c:expr) => { raw!(@ $n, $a, "x1" $b, "x2" $c) };
    ($n:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
        raw!(@ $n, $a, "x1" $b, "x2" $c, "x3" $d)
    };
    ($n:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        raw!(@ $n, $a, "x1" $b, "x2" $c, "x3" $d, "x4" $e)
    };
    ($n:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        raw!(@ $n, $a, "x1" $b, "x2" $c, "x3" $d, "x4" $e, "x5" $f)
    };
    (@ $n:expr, $first:expr $(, $register:tt $arg:expr)*) => {{
        let ret: isize;
        core::arch::asm!(
            "svc 0",
            in("x8") $n,
            inlateout("x0") $first as isize => ret,
            $(in($register) $arg as usize,)*
            options(nostack)
        );
        ret
    }};
}

#[inline(always)]
fn check(ret: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&ret) {
        Err(Errno(-ret as u16))
    } else {
        Ok(ret as usize)
    }
}

/// `call!(allowed, Call, number, args…)`: makes the call if it is allowed.
/// Unsafe, as the kernel reads and writes at the pointers among the arguments.
macro_rules! call {
    ($allowed:expr, $call:expr, $n:expr $(, $a:expr)*) => {{
        if $allowed.may($call) {
            $crate::check(raw!($n $(, $a)*))
        } else {
            Err($crate::Errno::NOT_ALLOWED)
        }
    }};
}

pub mod allowed;
pub mod filter;

mod file;
mod memory;
mod path;
mod process;
mod socket;

pub use allowed::{Allowed, Call, Calls};
pub use file::*;
pub use memory::*;
pub use path::*;
pub use process::*;
pub use socket::*;
