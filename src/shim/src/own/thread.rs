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

/// In the half of the word that is a pid: the thread has installed a seccomp
/// filter for itself, or was forked from one that had.
pub const FILTERED: u64 = 1 << 31;
/// There too: the word is that of a vfork child, in its parent's memory.
pub const VFORK_CHILD: u64 = 1 << 30;
/// What is no part of the pid. Pids end at 2²² (`PID_MAX_LIMIT`).
const FLAGS: u64 = FILTERED | VFORK_CHILD;

/// Is the thread of this word under a filter of its own?
pub fn is_filtered(word: u64) -> bool {
    word & FILTERED != 0
}

/// Is this a vfork child, in its parent's memory?
pub fn is_vfork_child() -> bool {
    word() & VFORK_CHILD != 0
}

/// Notes whether this thread is under a filter of its own.
pub fn set_filtered(filtered: bool) {
    let word = word();
    set_word(if filtered {
        word | FILTERED
    } else {
        word & !FILTERED
    });
}

/// The pid that this thread's id was asked for in, and the id; zeros if it was
/// not asked for.
pub fn ids() -> (u32, u32) {
    let word = word();
    ((word & !FLAGS) as u32, (word >> 32) as u32)
}

/// Keeps this thread's id, as it is in process `pid`.
pub fn set_ids(pid: u32, tid: u32) {
    let flags = word() & FLAGS;
    set_word(u64::from(tid) << 32 | u64::from(pid) | flags);
}

/// Sets this thread's word.
fn set_word(word: u64) {
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
