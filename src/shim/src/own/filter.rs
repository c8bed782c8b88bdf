//! Which system calls of our own this thread may make.
//!
//! A seccomp filter that was there when the program started binds the launcher
//! too, or could be tried in a child: what it lets through is known, and is
//! one set for the whole process. A filter that the program installs itself is
//! anybody's guess, so it leaves us nothing but the program's own calls; it
//! binds the thread that installed it and those that this thread starts, or,
//! with `SECCOMP_FILTER_FLAG_TSYNC`, all of them.
//!
//! So there is one word for the process and one bit for each thread, which is
//! looked at only after some thread has installed a filter for itself. A
//! thread that we never saw before then may have been started by that one, and
//! counts as filtered too.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{process, thread};
use crate::session;
use crate::sys::{Allowed, Call, Calls};

/// The calls that may not be made, and the two bits below. None may before it
/// is known.
#[unsafe(link_section = ".data")]
static FORBIDDEN: AtomicU64 = AtomicU64::new(Allowed::NONE.forbidden());
/// Some thread has a filter of its own: its word says so.
const LOOK: u64 = 1 << 63;
/// A thread without a word may have been started by such a thread.
const STRANGERS: u64 = 1 << 62;

/// The calls that the fast paths may need.
const FAST: Calls = Calls::of(&[
    Call::Getpid,
    Call::Gettid,
    Call::RtSigprocmask,
    Call::Getsockopt,
    Call::Getsockname,
]);

/// Which system calls this thread may make now.
#[inline(always)]
pub fn allowed() -> Allowed {
    let bits = FORBIDDEN.load(Relaxed);
    if bits & LOOK == 0 {
        Allowed::from_forbidden(bits)
    } else {
        of_thread(bits)
    }
}

#[cold]
#[inline(never)]
fn of_thread(bits: u64) -> Allowed {
    let word = thread::word();
    if thread::is_filtered(word) || word == 0 && bits & STRANGERS != 0 {
        Allowed::NONE
    } else {
        Allowed::from_forbidden(bits & !(LOOK | STRANGERS))
    }
}

/// [`allowed`], if whatever a fast path needs may be asked, by any thread.
#[inline(always)]
pub fn fast() -> Option<Allowed> {
    let bits = FORBIDDEN.load(Relaxed);
    (bits & (LOOK | FAST.word()) == 0).then(|| Allowed::from_forbidden(bits))
}

/// Is so little allowed that a record is not what it would be otherwise?
pub fn is_reduced(allowed: Allowed) -> bool {
    !allowed.may_all(FAST)
}

/// From now on the process may make these calls.
pub fn set(allowed: Allowed) {
    FORBIDDEN.store(allowed.forbidden(), Relaxed);
}

/// Whom a new filter binds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The calling thread.
    Thread,
    /// All threads of the process.
    Process,
}

/// What was so before the program began to install a filter.
pub struct Before {
    scope: Scope,
    bits: u64,
    was_filtered: bool,
}

// A vfork child installs one for itself: its word is not its parent's, and it has
// no other threads.

/// The program is about to install a filter. Asks now for what a record needs
/// when nothing may be asked any more.
pub fn begin(scope: Scope) -> Before {
    // First the run: its set-up makes the page on which the rest is kept.
    let run = session::get();
    let _ = process::ids();
    if let Some(run) = run {
        let _ = process::slot(run);
    }
    let was_filtered = thread::is_filtered(thread::word());
    let scope = match thread::is_vfork_child() {
        true => Scope::Thread,
        false => scope,
    };
    let bits = match scope {
        Scope::Thread => {
            thread::set_filtered(true);
            FORBIDDEN.fetch_or(LOOK, Relaxed)
        }
        Scope::Process => FORBIDDEN.fetch_or(Allowed::NONE.forbidden(), Relaxed),
    };
    Before {
        scope,
        bits,
        was_filtered,
    }
}

/// The kernel has answered: is the filter there?
pub fn end(before: &Before, installed: bool) {
    match (before.scope, installed) {
        (Scope::Thread, true) if thread::is_vfork_child() => {}
        (Scope::Thread, true) => {
            FORBIDDEN.fetch_or(STRANGERS, Relaxed);
        }
        (Scope::Thread, false) => thread::set_filtered(before.was_filtered),
        (Scope::Process, true) => {}
        (Scope::Process, false) => {
            let added = Allowed::NONE.forbidden() & !before.bits;
            FORBIDDEN.fetch_and(!added, Relaxed);
        }
    }
}
