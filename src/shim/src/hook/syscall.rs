//! syscall(2): the same gate by another name.
//!
//! The function must pass on calls that return twice or never (`clone`,
//! `exit`) with every register as it came, so it is written in assembler: it
//! compares the number and jumps on, leaving no frame. Only the few numbers
//! that concern sockets take the way through Rust.

use core::ffi::{c_int, c_long};

use bindgate_core::record::flag;

use super::{bind, connect, descriptor, exec, listen, name, send, socket};
use crate::real;

/// The numbers that take the way through Rust, and perhaps others.
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
            libc::SYS_bind => bind::bind_by_number(a as c_int, b as *const _, c as u32),
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
            libc::SYS_prctl => descriptor::prctl(
                a as c_int,
                b as *mut _,
                c as *mut _,
                d as *mut _,
                e as *mut _,
            ),
            libc::SYS_seccomp => {
                let next = real::syscall();
                return descriptor::seccomp(a as u32, b as u32, || {
                    next(n, a, b, c, d, e, f) as isize
                }) as c_long;
            }
            _ => return real::syscall()(n, a, b, c, d, e, f),
        };
        c_long::from(ret)
    }
}

/// One more than the highest number that takes the way through Rust.
#[cfg(target_arch = "x86_64")]
const END: c_long = 512;

/// The numbers that take the way through Rust, as bits.
#[cfg(target_arch = "x86_64")]
static NUMBERS: [u64; END as usize / 64] = {
    let numbers = [
        libc::SYS_close,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_accept,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_getsockname,
        libc::SYS_getpeername,
        libc::SYS_socketpair,
        libc::SYS_setsockopt,
        libc::SYS_getsockopt,
        libc::SYS_execve,
        libc::SYS_prctl,
        libc::SYS_accept4,
        libc::SYS_dup3,
        libc::SYS_sendmmsg,
        libc::SYS_seccomp,
        libc::SYS_execveat,
        libc::SYS_close_range,
    ];
    let (mut bits, mut i) = ([0; END as usize / 64], 0);
    while i < numbers.len() {
        bits[numbers[i] as usize / 64] |= 1 << (numbers[i] % 64);
        i += 1;
    }
    bits
};

/// syscall(2).
///
/// # Safety
/// As syscall(2).
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn syscall() {
    // The seventh argument lies where a Rust function expects it: just above
    // the return address.
    core::arch::naked_asm!(
        "cmp rdi, {end}",
        "jae 2f",
        "bt qword ptr [rip + {numbers}], rdi",
        "jc {dispatch}",
        "2:",
        "jmp qword ptr [rip + {next}]",
        end = const END,
        numbers = sym NUMBERS,
        next = sym real::cell::syscall,
        dispatch = sym dispatch,
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
        "cmp x0, {prctl}",
        "b.eq 2f",
        "cmp x0, {execveat}",
        "b.eq 2f",
        "cmp x0, {close_range}",
        "b.eq 2f",
        "adrp x9, {next}",
        "ldr x9, [x9, :lo12:{next}]",
        "br x9",
        "2:",
        "b {dispatch}",
        close = const libc::SYS_close,
        execve = const libc::SYS_execve,
        accept4 = const libc::SYS_accept4,
        dup3 = const libc::SYS_dup3,
        sendmmsg = const libc::SYS_sendmmsg,
        seccomp = const libc::SYS_seccomp,
        prctl = const libc::SYS_prctl,
        execveat = const libc::SYS_execveat,
        close_range = const libc::SYS_close_range,
        next = sym real::cell::syscall,
        dispatch = sym dispatch,
    )
}
