//! One word that each thread has for itself.
//!
//! Rust's `thread_local!` asks the loader where it is, with a call each time,
//! because a library may come late. This one is there when the program starts,
//! so its word lies at a fixed distance from the thread pointer (the
//! initial-exec model of ELF thread-local storage), and one load finds it.
//! A new thread's word is 0.

core::arch::global_asm!(
    ".pushsection .tbss.bindgate_word, \"awT\", %nobits",
    ".balign 8",
    // Not local: the code that names it may be in another object.
    ".globl bindgate_word",
    ".hidden bindgate_word",
    ".type bindgate_word, %object",
    ".size bindgate_word, 8",
    "bindgate_word:",
    ".zero 8",
    ".popsection",
);

/// This thread's word.
#[inline(always)]
pub fn word() -> u64 {
    let word: u64;
    // SAFETY: reads eight bytes of this thread's own storage, which the loader
    // laid out before any code of ours could run.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "mov {at}, qword ptr [rip + bindgate_word@GOTTPOFF]",
            "mov {at}, qword ptr fs:[{at}]",
            at = out(reg) word,
            options(nostack, preserves_flags, readonly)
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "adrp {at}, :gottprel:bindgate_word",
            "ldr {at}, [{at}, #:gottprel_lo12:bindgate_word]",
            "mrs {base}, tpidr_el0",
            "ldr {at}, [{base}, {at}]",
            at = out(reg) word,
            base = out(reg) _,
            options(nostack, preserves_flags, readonly)
        );
    }
    word
}

/// Sets this thread's word.
pub fn set_word(word: u64) {
    // SAFETY: writes the eight bytes that only `word` and this function know.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "mov {at}, qword ptr [rip + bindgate_word@GOTTPOFF]",
            "mov qword ptr fs:[{at}], {word}",
            at = out(reg) _,
            word = in(reg) word,
            options(nostack, preserves_flags)
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "adrp {at}, :gottprel:bindgate_word",
            "ldr {at}, [{at}, #:gottprel_lo12:bindgate_word]",
            "mrs {base}, tpidr_el0",
            "str {word}, [{base}, {at}]",
            at = out(reg) _,
            base = out(reg) _,
            word = in(reg) word,
            options(nostack, preserves_flags)
        );
    }
}
