//! The unwinder, loaded when something panics: for the library and for the
//! launcher.
//!
//! std refers to `libgcc_s.so.1`, and to have that loaded costs each start of
//! a program more than all else that the shim does. Here are the functions
//! that std refers to, hidden from everybody else: each jumps to the real one,
//! which the first call looks up. So the linker finds nothing that it would
//! need `libgcc_s` for.
//!
//! In a release build nothing in the library can panic, and the linker drops
//! these functions as well (`scripts/size` looks). In other builds they are
//! looked up at start (`faults::silence_panics` of the shim), so that a panic in a signal
//! handler or a forked child loads nothing. A cancelled thread is unwound by
//! libc, which loads `libgcc_s` for itself.
//!
//! [`functions`] defines them: the crate that is linked calls it once.

#![no_std]

use core::ffi::{CStr, c_char};

/// Looks a function of the unwinder up.
///
/// # Safety
/// The name must be NUL-terminated.
#[doc(hidden)]
pub unsafe extern "C" fn look_up(name: *const c_char) -> usize {
    // SAFETY: both names are NUL-terminated, the caller's by its word.
    let at = unsafe {
        let library = libc::dlopen(c"libgcc_s.so.1".as_ptr(), libc::RTLD_NOW);
        if library.is_null() {
            core::ptr::null_mut()
        } else {
            libc::dlsym(library, name)
        }
    };
    if at.is_null() {
        // There is a panic to be thrown, and nobody to throw it.
        // SAFETY: NUL-terminated, by the caller's word; the bytes written are
        // those of slices.
        unsafe {
            let name = CStr::from_ptr(name).to_bytes();
            for part in [&b"bindgate: the unwinder lacks "[..], name, b"\n"] {
                libc::write(2, part.as_ptr().cast(), part.len());
            }
            libc::_exit(78);
        }
    }
    at as usize
}

/// Defines the functions of the unwinder that std refers to, hidden from every
/// other library.
#[macro_export]
macro_rules! functions {
    () => {
        $crate::functions! {
            "_Unwind_Backtrace"
            "_Unwind_DeleteException"
            "_Unwind_GetCFA"
            "_Unwind_GetDataRelBase"
            "_Unwind_GetIP"
            "_Unwind_GetIPInfo"
            "_Unwind_GetLanguageSpecificData"
            "_Unwind_GetRegionStart"
            "_Unwind_GetTextRelBase"
            "_Unwind_RaiseException"
            "_Unwind_Resume"
            "_Unwind_SetGR"
            "_Unwind_SetIP"
        }
    };
    ($($name:literal)+) => {
        $(
            // The arguments are kept over the look-up, and the jump leaves the
            // stack as the call found it: the unwinder begins at its caller.
            #[cfg(target_arch = "x86_64")]
            core::arch::global_asm!(
                concat!(".pushsection .text.", $name, ",\"ax\",@progbits"),
                concat!(".globl ", $name),
                concat!(".hidden ", $name),
                concat!(".type ", $name, ",@function"),
                ".p2align 4",
                concat!($name, ":"),
                ".cfi_startproc",
                concat!("mov r11, qword ptr [rip + .Lbindgate_at", $name, "]"),
                "test r11, r11",
                "je 2f",
                "jmp r11",
                "2:",
                "push rdi",
                "push rsi",
                "push rdx",
                "push rcx",
                "push r8",
                ".cfi_adjust_cfa_offset 40",
                concat!("lea rdi, [rip + .Lbindgate_name", $name, "]"),
                "call {look_up}",
                "pop r8",
                "pop rcx",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                ".cfi_adjust_cfa_offset -40",
                concat!("mov qword ptr [rip + .Lbindgate_at", $name, "], rax"),
                "jmp rax",
                ".cfi_endproc",
                concat!(".size ", $name, ", .-", $name),
                concat!(".section .rodata.", $name, ",\"a\",@progbits"),
                concat!(".Lbindgate_name", $name, ":"),
                concat!(".asciz \"", $name, "\""),
                concat!(".section .bss.", $name, ",\"aw\",@nobits"),
                ".p2align 3",
                concat!(".Lbindgate_at", $name, ":"),
                ".zero 8",
                ".popsection",
                look_up = sym $crate::look_up,
            );

            #[cfg(target_arch = "aarch64")]
            core::arch::global_asm!(
                concat!(".pushsection .text.", $name, ",\"ax\",@progbits"),
                concat!(".globl ", $name),
                concat!(".hidden ", $name),
                concat!(".type ", $name, ",@function"),
                ".p2align 4",
                concat!($name, ":"),
                ".cfi_startproc",
                concat!("adrp x16, .Lbindgate_at", $name),
                concat!("ldr x16, [x16, :lo12:.Lbindgate_at", $name, "]"),
                "cbz x16, 2f",
                "br x16",
                "2:",
                "stp x29, x30, [sp, #-64]!",
                ".cfi_adjust_cfa_offset 64",
                ".cfi_offset x29, -64",
                ".cfi_offset x30, -56",
                "stp x0, x1, [sp, #16]",
                "stp x2, x3, [sp, #32]",
                "str x4, [sp, #48]",
                concat!("adrp x0, .Lbindgate_name", $name),
                concat!("add x0, x0, :lo12:.Lbindgate_name", $name),
                "bl {look_up}",
                "mov x16, x0",
                concat!("adrp x17, .Lbindgate_at", $name),
                concat!("str x16, [x17, :lo12:.Lbindgate_at", $name, "]"),
                "ldr x4, [sp, #48]",
                "ldp x2, x3, [sp, #32]",
                "ldp x0, x1, [sp, #16]",
                "ldp x29, x30, [sp], #64",
                ".cfi_adjust_cfa_offset -64",
                ".cfi_restore x29",
                ".cfi_restore x30",
                "br x16",
                ".cfi_endproc",
                concat!(".size ", $name, ", .-", $name),
                concat!(".section .rodata.", $name, ",\"a\",@progbits"),
                concat!(".Lbindgate_name", $name, ":"),
                concat!(".asciz \"", $name, "\""),
                concat!(".section .bss.", $name, ",\"aw\",@nobits"),
                ".p2align 3",
                concat!(".Lbindgate_at", $name, ":"),
                ".zero 8",
                ".popsection",
                look_up = sym $crate::look_up,
            );
        )+
    };
}
