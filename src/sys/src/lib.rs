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

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn syscall6(n: libc::c_long, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel's calling convention: rcx and r11 are clobbered, all
    // else is kept. What the call does to memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") n as isize => ret,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    ret
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn syscall6(n: libc::c_long, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel's calling convention: only x0 changes. What the call
    // does to memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") n,
            inlateout("x0") a[0] as isize => ret,
            in("x1") a[1], in("x2") a[2], in("x3") a[3],
            in("x4") a[4], in("x5") a[5],
            options(nostack)
        );
    }
    ret
}

#[inline(always)]
fn check(ret: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&ret) {
        Err(Errno(-ret as u16))
    } else {
        Ok(ret as usize)
    }
}

/// Six arguments, with zeros for those that a call does not have. Written out:
/// of a loop over them the compiler sees too late that it cannot panic.
macro_rules! six {
    () => { [0, 0, 0, 0, 0, 0] };
    ($a:expr) => { [$a as usize, 0, 0, 0, 0, 0] };
    ($a:expr, $b:expr) => { [$a as usize, $b as usize, 0, 0, 0, 0] };
    ($a:expr, $b:expr, $c:expr) => { [$a as usize, $b as usize, $c as usize, 0, 0, 0] };
    ($a:expr, $b:expr, $c:expr, $d:expr) => {
        [$a as usize, $b as usize, $c as usize, $d as usize, 0, 0]
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        [$a as usize, $b as usize, $c as usize, $d as usize, $e as usize, 0]
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        [$a as usize, $b as usize, $c as usize, $d as usize, $e as usize, $f as usize]
    };
}

/// `call!(allowed, Call, number, args…)`: makes the call if it is allowed.
/// Unsafe, as the kernel reads and writes at the pointers among the arguments.
macro_rules! call {
    ($allowed:expr, $call:expr, $n:expr $(, $a:expr)*) => {{
        if $allowed.may($call) {
            $crate::check($crate::syscall6($n, six!($($a),*)))
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
