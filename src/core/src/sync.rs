//! The atomics of what processes share, behind one name: those of `core`, or
//! loom's, which try every order in which threads can meet.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p bindgate-core --lib loom_models` runs the
//! models. The tables are as small as they can be then.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Runs a model in every order in which at most three threads are interrupted.
#[cfg(all(test, loom))]
pub fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}
