//! vfork(2): the child has the parent's memory until it execs or ends.
//!
//! What the child does to itself (its pid, a seccomp filter of its own) must
//! not stay in that memory. It is kept in the word of the calling thread
//! ([`thread`]), so the word is set anew for the child and put back for the
//! parent, which sleeps until the child is done.
//!
//! Only the calling function may return twice from vfork(2), and nothing that
//! lies on the stack survives the child. So the call is made here, in
//! assembler, with what must survive in registers, which the kernel keeps for
//! each of the two.

use core::ffi::c_int;

use bindgate_core::record::{Call, stage};

use super::{errno, set_errno};
use crate::out::faults::guard;
use crate::own::{filter, process, thread};
use crate::session::{self, Sink};

/// Has the parent known to itself and to the run: the child must not be the
/// first to ask.
extern "C" fn prepare() {
    let before = errno();
    guard(Call::Fault, stage::HOOK, || {
        let Some(run) = session::get() else { return };
        let _ = process::ids();
        if run.sink == Sink::Ring && !filter::is_reduced(filter::allowed()) {
            let _ = process::slot(run);
        }
    });
    set_errno(before);
}

/// The call has failed with this number of errno, negative.
extern "C" fn failed(negative: c_int) -> c_int {
    set_errno(negative.wrapping_neg());
    -1
}

/// vfork(2).
///
/// # Safety
/// As vfork(2).
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn vfork() -> c_int {
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {prepare}",
        "add rsp, 8",
        "mov r8, qword ptr [rip + bindgate_word@GOTTPOFF]",
        "mov rsi, qword ptr fs:[r8]",
        // The child overwrites the place of the return address.
        "pop rdx",
        "mov eax, {vfork}",
        "syscall",
        "push rdx",
        "test rax, rax",
        "jz 2f",
        "mov qword ptr fs:[r8], rsi",
        "js 3f",
        "ret",
        "2:",
        "and esi, {filtered}",
        "or esi, {child}",
        "mov qword ptr fs:[r8], rsi",
        "ret",
        "3:",
        "mov edi, eax",
        "jmp {failed}",
        prepare = sym prepare,
        failed = sym failed,
        vfork = const libc::SYS_vfork,
        filtered = const thread::FILTERED as u32 as i32,
        child = const thread::VFORK_CHILD as u32 as i32,
    )
}

/// vfork(2), which is clone(2) with `CLONE_VM | CLONE_VFORK` here.
///
/// # Safety
/// As vfork(2).
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn vfork() -> c_int {
    core::arch::naked_asm!(
        "stp x29, x30, [sp, -16]!",
        "bl {prepare}",
        "ldp x29, x30, [sp], 16",
        "adrp x9, :gottprel:bindgate_word",
        "ldr x9, [x9, :gottprel_lo12:bindgate_word]",
        "mrs x10, tpidr_el0",
        "ldr x11, [x10, x9]",
        "mov x0, {flags}",
        "mov x1, xzr",
        "mov x8, {clone}",
        "svc 0",
        "cbz x0, 2f",
        "str x11, [x10, x9]",
        "tbnz x0, 63, 3f",
        "ret",
        "2:",
        "and x11, x11, {filtered}",
        "orr x11, x11, {child}",
        "str x11, [x10, x9]",
        "ret",
        "3:",
        "b {failed}",
        prepare = sym prepare,
        failed = sym failed,
        flags = const libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
        clone = const libc::SYS_clone,
        filtered = const thread::FILTERED,
        child = const thread::VFORK_CHILD,
    )
}
