//! Branches broken on purpose, for `scripts/mutate-model`: it builds a copy of
//! the model in which every branch asks [`m`]. Without that nobody does.

extern crate std;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// As many branches as there can be.
pub const MOST: usize = 4096;

/// Nobody has said yet which branch is broken.
const UNKNOWN: u32 = u32::MAX;
/// The branch that is broken from the start, in a program's environment.
pub const VARIABLE: &str = "BINDGATE_MUTANT";

static BROKEN: AtomicU32 = AtomicU32::new(UNKNOWN);
static REACHED: [AtomicBool; MOST] = [const { AtomicBool::new(false) }; MOST];

/// A condition; turned round if branch `n` is broken.
#[must_use]
pub fn m(n: u32, condition: bool) -> bool {
    if let Some(reached) = REACHED.get(n as usize) {
        reached.store(true, Relaxed);
    }
    let mut broken = BROKEN.load(Relaxed);
    if broken == UNKNOWN {
        let number = std::env::var(VARIABLE).ok().and_then(|n| n.parse().ok());
        broken = number.unwrap_or(0);
        BROKEN.store(broken, Relaxed);
    }
    condition != (broken == n)
}

/// Breaks one branch; 0 breaks none.
pub fn set_broken(n: u32) {
    BROKEN.store(n, Relaxed);
}

/// Was the branch reached since the last question?
pub fn take_reached(n: u32) -> bool {
    let reached = REACHED.get(n as usize);
    reached.is_some_and(|r| r.swap(false, Relaxed))
}
