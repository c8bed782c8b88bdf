//! What this process is: pid, thread, slot, counter.
//!
//! A fork child must notice that it is one without a system call and without
//! a hook on fork(2): its numbers live on a page that the kernel wipes in the
//! child (`MADV_WIPEONFORK`). A vfork child has its parent's page, which it must
//! not write to, and asks for its own numbers.

use core::sync::atomic::{
    AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::own::{filter, thread, time};
use crate::session;
use crate::sys::{self, Allowed};

/// What a fork child must not inherit.
#[repr(C)]
struct Own {
    pid: AtomicU32,
    slot: AtomicU32,
}

#[unsafe(link_section = ".data")]
static OWN: AtomicPtr<Own> = AtomicPtr::new(core::ptr::null_mut());
static NO_PAGE: Own = Own {
    pid: AtomicU32::new(0),
    slot: AtomicU32::new(0),
};
/// Where there is no page: the slot, and in the upper half the pid that it was
/// taken for, which a fork child finds to be another's.
#[unsafe(link_section = ".data")]
static UNWIPED: AtomicU64 = AtomicU64::new(0);

fn own() -> &'static Own {
    let page = OWN.load(Acquire);
    if page.is_null() {
        return &NO_PAGE;
    }
    // SAFETY: `start` maps the page once and never unmaps it; it holds atomics
    // only, for which all-zero bytes are a value.
    unsafe { &*page }
}

#[unsafe(link_section = ".data")]
static STACK_END: AtomicUsize = AtomicUsize::new(0);

/// Where the main thread's stack begins, at its high end: above it the kernel
/// put the arguments and the environment. 0 if nobody knows.
pub fn stack_end() -> usize {
    STACK_END.load(Relaxed)
}

#[unsafe(link_section = ".data")]
static STACK_TOP: AtomicUsize = AtomicUsize::new(0);

/// Where the main thread's stack ends, above the arguments and the environment
/// that the kernel put there. 0 if nobody knows.
pub fn stack_top() -> usize {
    STACK_TOP.load(Relaxed)
}

/// The environment that the kernel gave to the program. libc's own list is not
/// set up yet when a `preinit_array` of the program calls us.
pub fn first_environment() -> *const *const libc::c_char {
    let end = stack_end() as *const usize;
    if end.is_null() {
        return core::ptr::null();
    }
    // SAFETY: the loader keeps the stack pointer that the kernel started the
    // program with; there lie argc, the arguments, a null pointer, and the
    // environment.
    unsafe { end.add(*end + 2).cast() }
}

/// Learns where the main thread's stack begins.
pub fn find_stack() {
    // SAFETY: a NUL-terminated name; the symbol, where the loader has it, is a
    // pointer that it set before it called anybody.
    unsafe {
        let end = libc::dlsym(libc::RTLD_DEFAULT, c"__libc_stack_end".as_ptr());
        if !end.is_null() {
            let end = *end.cast::<usize>();
            STACK_END.store(end, Relaxed);
            STACK_TOP.store(top_of(end), Relaxed);
        }
    }
}

/// The end of the page on which the kernel put the file's name, behind all
/// strings that it put there; `end` itself where it is not found above, as in an
/// emulator.
fn top_of(end: usize) -> usize {
    /// More than all arguments and the environment can take (`_STK_LIM / 4 * 3`).
    const MOST: usize = 8 << 20;
    const PAGE: usize = 4096;
    // SAFETY: reads the vector that the kernel put on the stack.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as usize;
    match name.checked_sub(end) {
        Some(above) if above < MOST => (name / PAGE + 1) * PAGE,
        _ => end,
    }
}

/// Maps the page that fork wipes. Where there is none (`MADV_WIPEONFORK` came
/// with Linux 4.14; QEMU's user emulation takes any advice and follows few)
/// every record asks for the pid, and so learns whether it is a fork child's.
pub fn start(allowed: Allowed) {
    const NO_ADVICE: i32 = -1;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // It is written at once.
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    let Ok(page) = sys::mmap(allowed, 4096, prot, flags, -1) else {
        return;
    };
    let is_heard = sys::madvise(allowed, page, 4096, NO_ADVICE).is_err();
    if is_heard && sys::madvise(allowed, page, 4096, libc::MADV_WIPEONFORK).is_ok() {
        OWN.store(page.cast(), Release);
    }
}

/// This process's id, as it sees itself.
#[inline(always)]
pub fn pid() -> u32 {
    match own().pid.load(Relaxed) {
        0 => first_pid(),
        known => known,
    }
}

#[cold]
fn first_pid() -> u32 {
    let (own, pid) = (own(), sys::getpid(filter::allowed()));
    if pid != 0 && !core::ptr::eq(own, &raw const NO_PAGE) && !thread::is_vfork_child() {
        own.pid.store(pid, Relaxed);
    }
    pid
}

/// This process's slot in the run's process table; registers it first if it
/// is a fork child that nobody knows yet.
#[inline]
pub fn slot(run: &session::Run) -> u32 {
    match own().slot.load(Relaxed) {
        0 => register(run),
        known => known,
    }
}

#[cold]
fn register(run: &session::Run) -> u32 {
    let (own, pid) = (own(), pid());
    if pid == 0 || thread::is_vfork_child() {
        // Behind a filter nobody may ask: a fork child without a number of its
        // own has no slot either.
        return 0;
    }
    let has_page = !core::ptr::eq(own, &raw const NO_PAGE);
    let before = UNWIPED.load(Relaxed);
    if !has_page && (before >> 32) as u32 == pid {
        return before as u32;
    }
    let processes = &run.state.processes;
    let slot = processes.register(pid, time::clock(libc::CLOCK_MONOTONIC));
    let (program, script) = session::who::for_log();
    processes.name(slot, pid, session::who::pid_ns(), program, script);
    run.state.header.entered.fetch_add(1, Release);
    // One slot for good: the drainer takes the owner of an older one for an
    // image that has executed another since, and gives its records up. Another
    // thread, or a handler that interrupts this, may have been faster.
    let first = if has_page {
        let first = own.slot.compare_exchange(0, slot, Relaxed, Relaxed);
        first.err()
    } else if slot != 0 {
        let mine = u64::from(pid) << 32 | u64::from(slot);
        let first = UNWIPED.compare_exchange(before, mine, Relaxed, Relaxed);
        // A vfork child writes here too.
        let first = first.err().filter(|word| (word >> 32) as u32 == pid);
        first.map(|word| word as u32)
    } else {
        None
    };
    match first {
        Some(first) => {
            processes.give_back(slot, pid);
            first
        }
        None => slot,
    }
}

/// What a record says of who calls: [`ids`] and [`slot`].
#[inline(always)]
pub fn numbers(run: &session::Run) -> (u32, u32, u32) {
    let own = own();
    let (pid, slot) = (own.pid.load(Relaxed), own.slot.load(Relaxed));
    let word = thread::word();
    match (word as u32, (word >> 32) as u32) {
        (of, tid) if of == pid && tid != 0 && pid != 0 && slot != 0 => (pid, tid, slot),
        _ => first_numbers(run),
    }
}

#[cold]
#[inline(never)]
fn first_numbers(run: &session::Run) -> (u32, u32, u32) {
    let (pid, tid) = ids();
    (pid, tid, slot(run))
}

/// This process's and this thread's id, as they see themselves.
#[inline(always)]
pub fn ids() -> (u32, u32) {
    let pid = pid();
    // The pid that the thread's id was asked in, and the id: a fork child's
    // thread has its parent's word.
    let word = thread::word();
    match (word as u32, (word >> 32) as u32) {
        (of, tid) if of == pid && tid != 0 => (pid, tid),
        _ => first_ids(pid),
    }
}

#[cold]
fn first_ids(mut pid: u32) -> (u32, u32) {
    let known = thread::ids();
    if thread::is_vfork_child() {
        pid = match known {
            (0, _) => sys::getpid(filter::allowed()),
            (own, _) => own,
        };
    }
    if known.0 == pid && known.1 != 0 {
        return known;
    }
    let tid = sys::gettid(filter::allowed());
    if tid != 0 {
        thread::set_ids(pid, tid);
    }
    (pid, tid)
}

/// What is known of the processor's counter.
#[unsafe(link_section = ".data")]
static COUNTER: AtomicU8 = AtomicU8::new(UNUSED);
const UNUSED: u8 = 0;
const STEADY: u8 = 1;
const FORBIDDEN: u8 = 2;

/// May the processor's counter be read for the time of a record?
#[inline]
pub fn has_counter() -> bool {
    COUNTER.load(Relaxed) == STEADY
}

/// Has the program forbidden it to itself (`PR_SET_TSC`)? Then the vDSO's clock
/// would end it too.
pub fn is_counter_forbidden() -> bool {
    COUNTER.load(Relaxed) == FORBIDDEN
}

/// The run lets the counter be read, if the program may.
pub fn use_counter() {
    let _ = COUNTER.compare_exchange(UNUSED, STEADY, Relaxed, Relaxed);
}

/// The program is about to forbid the counter to this thread and those that it
/// starts, or has come to life with that.
pub fn forbid_counter() {
    COUNTER.store(FORBIDDEN, Relaxed);
}
