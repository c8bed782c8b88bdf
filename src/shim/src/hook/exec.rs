//! The exec family and posix_spawn: the preload goes along, and a program that
//! cannot be intercepted is reported or refused.
//!
//! exec is called between fork and exec in threaded programs and in vfork
//! children, where malloc is not allowed: everything here lives on the stack
//! or on pages of its own.

use core::ffi::{c_char, c_int, c_void};
use core::ptr::null;

use bindgate_core::record::{Call, stage};
use libc::pid_t;

use super::carry::{Strings, with_environment};
use super::reach::{Asked, Before, examine};
use super::{environ, errno, refuse, set_errno};
use crate::out::faults::guard;
use crate::real;
use crate::session;
use crate::sys::{Errno, Name};

/// The common way of every exec: look, carry, forward.
fn exec(asked: Asked, envp: Strings, go: impl FnOnce(Strings) -> c_int) -> c_int {
    let before = errno();
    let Some(run) = session::get() else {
        return go(envp);
    };
    let refused = guard(Call::Exec, stage::POLICY, || examine(run, asked)).flatten();
    if let Some(e) = refused {
        return refuse(e);
    }
    set_errno(before);
    with_environment(run, envp, go)
}

/// An exec of this file in this process as it is.
fn asked(name: Name, argv: Strings, searched: bool) -> Asked {
    Asked {
        name,
        argv,
        searched,
        before: Before::NOTHING,
    }
}

fn current() -> Strings {
    // SAFETY: the list as the program left it; exec without an environment
    // argument reads it in the same way.
    unsafe { environ as Strings }
}

/// execve(2).
///
/// # Safety
/// As execve(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execve(path: *const c_char, argv: Strings, envp: Strings) -> c_int {
    let next = real::execve();
    // SAFETY: as the caller's; the environment is theirs or ours.
    exec(asked(Name::here(path), argv, false), envp, |envp| unsafe {
        next(path, argv, envp)
    })
}

/// execv(3).
///
/// # Safety
/// As execv(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execv(path: *const c_char, argv: Strings) -> c_int {
    // SAFETY: as the caller's.
    unsafe { execve(path, argv, current()) }
}

/// execvpe(3).
///
/// # Safety
/// As execvpe(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execvpe(
    file: *const c_char,
    argv: Strings,
    envp: Strings,
) -> c_int {
    let next = real::execvpe();
    // SAFETY: as the caller's; the environment is theirs or ours.
    exec(asked(Name::here(file), argv, true), envp, |envp| unsafe {
        next(file, argv, envp)
    })
}

/// execvp(3).
///
/// # Safety
/// As execvp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execvp(file: *const c_char, argv: Strings) -> c_int {
    // SAFETY: as the caller's.
    unsafe { execvpe(file, argv, current()) }
}

/// fexecve(3).
///
/// # Safety
/// As fexecve(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fexecve(fd: c_int, argv: Strings, envp: Strings) -> c_int {
    let next = real::fexecve();
    if envp.is_null() {
        // Alone of its family it does not take that for an empty one: EINVAL.
        // SAFETY: as the caller's.
        return unsafe { next(fd, argv, envp) };
    }
    let name = Name {
        dir: fd,
        path: c"".as_ptr(),
        flags: libc::AT_EMPTY_PATH,
    };
    // SAFETY: as the caller's; the environment is theirs or ours.
    exec(asked(name, argv, false), envp, |envp| unsafe {
        next(fd, argv, envp)
    })
}

/// execveat(2).
///
/// # Safety
/// As execveat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execveat(
    dir: c_int,
    path: *const c_char,
    argv: Strings,
    envp: Strings,
    flags: c_int,
) -> c_int {
    let next = real::execveat();
    let name = Name {
        dir,
        path,
        flags: flags & libc::AT_EMPTY_PATH,
    };
    // SAFETY: as the caller's; the environment is theirs or ours.
    exec(asked(name, argv, false), envp, |envp| unsafe {
        next(dir, path, argv, envp, flags)
    })
}

macro_rules! spawning {
    ($(#[$doc:meta])* $name:ident, $searched:expr) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            pid: *mut pid_t,
            path: *const c_char,
            actions: *const c_void,
            attributes: *const c_void,
            argv: *const *mut c_char,
            envp: *const *mut c_char,
        ) -> c_int {
            let next = real::$name();
            let before = errno();
            let mut refused = true;
            let mut asked = asked(Name::here(path), argv.cast(), $searched);
            asked.before = Before {
                actions: actions.cast(),
                attributes: attributes.cast(),
            };
            let ret = exec(asked, envp.cast(), |envp| {
                refused = false;
                // SAFETY: as the caller's; the environment is theirs or ours.
                unsafe { next(pid, path, actions, attributes, argv, envp.cast()) }
            });
            if !refused {
                return ret;
            }
            // posix_spawn returns the error and leaves errno alone.
            let e = errno();
            set_errno(before);
            e
        }
    };
}

spawning! {
    /// posix_spawn(3).
    ///
    /// # Safety
    /// As posix_spawn(3).
    posix_spawn, false
}
spawning! {
    /// posix_spawnp(3).
    ///
    /// # Safety
    /// As posix_spawnp(3).
    posix_spawnp, true
}

// --- the variadic ones -----------------------------------------------------

/// What a variadic exec was given: the registers that carry arguments, spilt
/// in order, and the arguments on the stack.
struct Arguments {
    registers: *const usize,
    stack: *const usize,
}

impl Arguments {
    #[cfg(target_arch = "x86_64")]
    const REGISTERS: usize = 6;
    #[cfg(target_arch = "aarch64")]
    const REGISTERS: usize = 8;

    /// Argument `n`, the named ones counted.
    ///
    /// # Safety
    /// No argument before it was the terminating null pointer of the list.
    unsafe fn get(&self, n: usize) -> usize {
        // SAFETY: the trampoline spilt the registers, and the caller put the
        // rest on the stack.
        unsafe {
            match n.checked_sub(Self::REGISTERS) {
                None => *self.registers.add(n),
                Some(n) => *self.stack.add(n),
            }
        }
    }
}

const EXECL: usize = 0;
const EXECLE: usize = 1;
const EXECLP: usize = 2;

unsafe extern "C-unwind" fn variadic_exec(
    registers: *const usize,
    stack: *const usize,
    which: usize,
) -> c_int {
    let arguments = Arguments { registers, stack };
    let mut count = 0;
    // SAFETY: the list ends with a null pointer, at which the loop ends.
    while unsafe { arguments.get(count + 1) } != 0 {
        count += 1;
    }
    // SAFETY: so many arguments came before the null pointer.
    unsafe {
        match count {
            0..64 => exec_list::<64>(&arguments, count, which),
            64..512 => exec_list::<512>(&arguments, count, which),
            512..4096 => exec_list::<4096>(&arguments, count, which),
            4096..32768 => exec_list::<32768>(&arguments, count, which),
            _ => refuse(Errno(libc::E2BIG as u16)),
        }
    }
}

/// Calls exec with the arguments as a list, on the stack as libc has it: a
/// filter of the program's own lets us map nothing.
///
/// # Safety
/// The null pointer comes after `count` arguments, and `count` is less than `N`.
#[inline(never)]
unsafe fn exec_list<const N: usize>(arguments: &Arguments, count: usize, which: usize) -> c_int {
    let mut argv = [null::<c_char>(); N];
    for (n, to) in argv.iter_mut().take(count).enumerate() {
        // SAFETY: before the end of the list.
        *to = unsafe { arguments.get(n + 1) } as *const c_char;
    }
    // SAFETY: the first argument is the path or file name; execle has one more
    // behind the list.
    unsafe {
        let path = arguments.get(0) as *const c_char;
        match which {
            EXECLE => execve(path, argv.as_ptr(), arguments.get(count + 2) as Strings),
            EXECLP => execvpe(path, argv.as_ptr(), current()),
            _ => execve(path, argv.as_ptr(), current()),
        }
    }
}

macro_rules! variadic {
    ($(#[$doc:meta])* $name:ident, $which:ident) => {
        $(#[$doc])*
        #[cfg(target_arch = "x86_64")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "sub rsp, 56",
                ".cfi_adjust_cfa_offset 56",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "mov [rsp + 32], r8",
                "mov [rsp + 40], r9",
                "mov rdi, rsp",
                "lea rsi, [rsp + 64]",
                "mov edx, {which}",
                "call {exec}",
                "add rsp, 56",
                ".cfi_adjust_cfa_offset -56",
                "ret",
                ".cfi_endproc",
                which = const $which,
                exec = sym variadic_exec,
            )
        }

        $(#[$doc])*
        #[cfg(target_arch = "aarch64")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "stp x29, x30, [sp, -80]!",
                ".cfi_adjust_cfa_offset 80",
                "stp x0, x1, [sp, 16]",
                "stp x2, x3, [sp, 32]",
                "stp x4, x5, [sp, 48]",
                "stp x6, x7, [sp, 64]",
                "add x0, sp, 16",
                "add x1, sp, 80",
                "mov x2, {which}",
                "bl {exec}",
                "ldp x29, x30, [sp], 80",
                ".cfi_adjust_cfa_offset -80",
                "ret",
                ".cfi_endproc",
                which = const $which,
                exec = sym variadic_exec,
            )
        }
    };
}

variadic! {
    /// execl(3): `(path, arg0, …, NULL)`.
    ///
    /// # Safety
    /// As execl(3).
    execl, EXECL
}
variadic! {
    /// execle(3): `(path, arg0, …, NULL, envp)`.
    ///
    /// # Safety
    /// As execle(3).
    execle, EXECLE
}
variadic! {
    /// execlp(3): `(file, arg0, …, NULL)`.
    ///
    /// # Safety
    /// As execlp(3).
    execlp, EXECLP
}
