//! syscall(2): the same gate by another name.
//!
//! The function must pass on calls that return twice or never (`clone`,
//! `exit`) with every register as it came, so it is written in assembler: it
//! compares the number and jumps on, leaving no frame. Only the few numbers
//! that concern sockets take the way through Rust.

use core::ffi::{c_int, c_long};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bindgate_core::record::flag;

use super::{bind, connect, descriptor, exec, listen, name, send, socket};
use crate::real;

/// Where the next `syscall` is; 0 until somebody looked.
static NEXT: AtomicUsize = AtomicUsize::new(0);

extern "C-unwind" fn find_next() -> usize {
    let before = super::errno();
    let at = real::syscall().map_or(0, |f| f as usize);
    NEXT.store(at, Relaxed);
    super::set_errno(before);
    at
}

/// The numbers that take the way through Rust lie between these two, or are
/// one of the others that the assembler names.
unsafe extern "C-unwind" fn dispatch(
    n: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    // SAFETY: the caller of syscall(2) made the same promises by giving the
    // number: the arguments are those of the function.
    unsafe {
        let ret = match n {
            libc::SYS_socket => {
                socket::socket_as(a as c_int, b as c_int, c as c_int, flag::RAW_SYSCALL)
            }
            libc::SYS_bind => bind::bind_as(a as c_int, b as *const _, c as u32, flag::RAW_SYSCALL),
            libc::SYS_socketpair => {
                socket::socketpair(a as c_int, b as c_int, c as c_int, d as *mut _)
            }
            libc::SYS_listen => listen::listen(a as c_int, b as c_int),
            libc::SYS_connect => connect::connect(a as c_int, b as *const _, c as u32),
            libc::SYS_accept => name::accept(a as c_int, b as *mut _, c as *mut _),
            libc::SYS_accept4 => name::accept4(a as c_int, b as *mut _, c as *mut _, d as c_int),
            libc::SYS_getsockname => name::getsockname(a as c_int, b as *mut _, c as *mut _),
            libc::SYS_getpeername => name::getpeername(a as c_int, b as *mut _, c as *mut _),
            libc::SYS_setsockopt => {
                name::setsockopt(a as c_int, b as c_int, c as c_int, d as *const _, e as u32)
            }
            libc::SYS_getsockopt => {
                name::getsockopt(a as c_int, b as c_int, c as c_int, d as *mut _, e as *mut _)
            }
            libc::SYS_sendto => {
                return send::sendto(
                    a as c_int,
                    b as *const _,
                    c,
                    d as c_int,
                    e as *const _,
                    f as u32,
                ) as c_long;
            }
            libc::SYS_sendmsg => {
                return send::sendmsg(a as c_int, b as *const _, c as c_int) as c_long;
            }
            libc::SYS_recvmsg => {
                return descriptor::recvmsg(a as c_int, b as *mut _, c as c_int) as c_long;
            }
            libc::SYS_sendmmsg => send::sendmmsg(a as c_int, b as *mut _, c as u32, d as c_int),
            libc::SYS_execve => exec::execve(a as *const _, b as *const _, c as *const _),
            libc::SYS_execveat => exec::execveat(
                a as c_int,
                b as *const _,
                c as *const _,
                d as *const _,
                e as c_int,
            ),
            libc::SYS_close => descriptor::close(a as c_int),
            libc::SYS_close_range => descriptor::close_range(a as u32, b as u32, c as c_int),
            libc::SYS_dup3 => descriptor::dup3(a as c_int, b as c_int, c as c_int),
            libc::SYS_seccomp => {
                let Some(next) = real::syscall() else {
                    return c_long::from(super::absent());
                };
                return descriptor::filtering(|| next(n, a, b, c, d, e, f) as isize) as c_long;
            }
            _ => {
                return match real::syscall() {
                    Some(next) => next(n, a, b, c, d, e, f),
                    None => c_long::from(super::absent()),
                };
            }
        };
        c_long::from(ret)
    }
}

/// syscall(2).
///
/// # Safety
/// As syscall(2).
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn syscall() {
    // socket 41, connect 42, accept 43, sendto 44, sendmsg 46, recvmsg 47,
    // bind 49 … getsockopt 55 lie together; the rest is compared one by one.
    core::arch::naked_asm!(
        ".cfi_startproc",
        "lea rax, [rdi - 41]",
        "cmp rax, 14",
        "jbe 2f",
        "cmp rdi, {close}",
        "je 2f",
        "cmp rdi, {execve}",
        "je 2f",
        "cmp rdi, {accept4}",
        "je 2f",
        "cmp rdi, {dup3}",
        "je 2f",
        "cmp rdi, {sendmmsg}",
        "je 2f",
        "cmp rdi, {seccomp}",
        "je 2f",
        "cmp rdi, {execveat}",
        "je 2f",
        "cmp rdi, {close_range}",
        "je 2f",
        "mov rax, [rip + {next}]",
        "test rax, rax",
        "jz 3f",
        "jmp rax",
        // The seventh argument lies where a Rust function expects it: just
        // above the return address.
        "2:",
        "jmp {dispatch}",
        // Before anybody looked for the next function: look, with the
        // arguments kept.
        "3:",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "push rsi",
        ".cfi_adjust_cfa_offset 8",
        "push rdx",
        ".cfi_adjust_cfa_offset 8",
        "push rcx",
        ".cfi_adjust_cfa_offset 8",
        "push r8",
        ".cfi_adjust_cfa_offset 8",
        "push r9",
        ".cfi_adjust_cfa_offset 8",
        "sub rsp, 8",
        ".cfi_adjust_cfa_offset 8",
        "call {find}",
        "add rsp, 8",
        ".cfi_adjust_cfa_offset -8",
        "pop r9",
        ".cfi_adjust_cfa_offset -8",
        "pop r8",
        ".cfi_adjust_cfa_offset -8",
        "pop rcx",
        ".cfi_adjust_cfa_offset -8",
        "pop rdx",
        ".cfi_adjust_cfa_offset -8",
        "pop rsi",
        ".cfi_adjust_cfa_offset -8",
        "pop rdi",
        ".cfi_adjust_cfa_offset -8",
        "jmp rax",
        ".cfi_endproc",
        close = const libc::SYS_close,
        execve = const libc::SYS_execve,
        accept4 = const libc::SYS_accept4,
        dup3 = const libc::SYS_dup3,
        sendmmsg = const libc::SYS_sendmmsg,
        seccomp = const libc::SYS_seccomp,
        execveat = const libc::SYS_execveat,
        close_range = const libc::SYS_close_range,
        next = sym NEXT,
        dispatch = sym dispatch,
        find = sym find_next,
    )
}

/// syscall(2).
///
/// # Safety
/// As syscall(2).
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn syscall() {
    // socket 198 … recvmsg 212 lie together; the rest is compared one by one.
    core::arch::naked_asm!(
        ".cfi_startproc",
        "sub x9, x0, 198",
        "cmp x9, 14",
        "b.ls 2f",
        "cmp x0, {close}",
        "b.eq 2f",
        "cmp x0, {execve}",
        "b.eq 2f",
        "cmp x0, {accept4}",
        "b.eq 2f",
        "cmp x0, {dup3}",
        "b.eq 2f",
        "cmp x0, {sendmmsg}",
        "b.eq 2f",
        "cmp x0, {seccomp}",
        "b.eq 2f",
        "cmp x0, {execveat}",
        "b.eq 2f",
        "cmp x0, {close_range}",
        "b.eq 2f",
        "adrp x9, {next}",
        "ldr x9, [x9, :lo12:{next}]",
        "cbz x9, 3f",
        "br x9",
        "2:",
        "b {dispatch}",
        "3:",
        "stp x29, x30, [sp, -80]!",
        ".cfi_adjust_cfa_offset 80",
        "stp x0, x1, [sp, 16]",
        "stp x2, x3, [sp, 32]",
        "stp x4, x5, [sp, 48]",
        "str x6, [sp, 64]",
        "bl {find}",
        "mov x9, x0",
        "ldp x0, x1, [sp, 16]",
        "ldp x2, x3, [sp, 32]",
        "ldp x4, x5, [sp, 48]",
        "ldr x6, [sp, 64]",
        "ldp x29, x30, [sp], 80",
        ".cfi_adjust_cfa_offset -80",
        "br x9",
        ".cfi_endproc",
        close = const libc::SYS_close,
        execve = const libc::SYS_execve,
        accept4 = const libc::SYS_accept4,
        dup3 = const libc::SYS_dup3,
        sendmmsg = const libc::SYS_sendmmsg,
        seccomp = const libc::SYS_seccomp,
        execveat = const libc::SYS_execveat,
        close_range = const libc::SYS_close_range,
        next = sym NEXT,
        dispatch = sym dispatch,
        find = sym find_next,
    )
}
