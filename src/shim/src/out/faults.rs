//! When the shim itself fails.
//!
//! A panic must not reach the program, and it must not be silent: [`guard`]
//! stops it, counts it and leaves a record, and the caller goes on as if the
//! shim were not there. No guard is ever around the forward: a cancelled
//! thread unwinds through there, and a second real call would be worse than
//! the fault. The descriptor cache needs none either: atomics behind `get`,
//! nothing there can panic.
//!
//! [`Call::Fault`] stands for parts that belong to no call of the log. A fault
//! at start-up leaves no policy to follow: then nothing runs (78).
//!
//! `c-tests/inject` makes the part behind every guard panic.

#[cfg(any(debug_assertions, feature = "inject"))]
use std::panic::{AssertUnwindSafe, catch_unwind};

use bindgate_core::record::Call;
#[cfg(any(debug_assertions, feature = "inject"))]
use bindgate_core::record::{Record, Verdict};

#[cfg(any(debug_assertions, feature = "inject"))]
use crate::out::emit;
#[cfg(any(debug_assertions, feature = "inject"))]
use crate::session;

/// Runs a part of a hook; `None` if it panicked.
#[cfg_attr(feature = "inject", track_caller)]
#[inline(always)]
pub fn guard<T>(call: Call, stage: u16, part: impl FnOnce() -> T) -> Option<T> {
    #[cfg(feature = "inject")]
    let part = {
        let at = core::panic::Location::caller();
        move || crate::inject::around(call, stage, at, part)
    };
    caught(call, stage, part)
}

/// In a release build nothing in this library can panic, which `scripts/size`
/// proves of the linked file: there is nothing to catch. A landing pad would
/// bring back what a panic takes wherever the compiler proves that too late.
#[cfg(not(any(debug_assertions, feature = "inject")))]
#[inline(always)]
fn caught<T>(_call: Call, _stage: u16, part: impl FnOnce() -> T) -> Option<T> {
    Some(part())
}

#[cfg(any(debug_assertions, feature = "inject"))]
fn caught<T>(call: Call, stage: u16, part: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(part)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // Dropping the payload would free memory; in a signal handler
            // that can deadlock. A fault leaks a few bytes instead.
            core::mem::forget(payload);
            let _ = catch_unwind(|| report(call, stage)).map_err(core::mem::forget);
            None
        }
    }
}

#[cfg(any(debug_assertions, feature = "inject"))]
fn report(call: Call, stage: u16) {
    let Some(run) = session::get() else { return };
    run.state
        .header
        .faults
        .fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    #[cfg(feature = "inject")]
    crate::inject::report();
    let mut record = Record::new(Call::Fault);
    record.verdict = Verdict::Passed;
    record.stages = stage;
    record.reason = call as u16;
    emit::emit(run, &mut record);
}

/// Silences the standard panic message: it would take std's stderr lock and go
/// to the program's standard error.
///
/// Only in builds that can panic. In a release build nothing in this library
/// can: what it calls is known to the compiler to the last function, and
/// `scripts/size` fails if anything of std's panic machinery is left in it.
/// Naming the hook here would bring that back, 250 KB of it.
pub fn silence_panics() {
    #[cfg(any(debug_assertions, feature = "inject"))]
    {
        std::panic::set_hook(Box::new(|_| {}));
        // The unwinder is loaded now, not in a signal handler.
        let _ = catch_unwind(|| std::panic::resume_unwind(Box::new(())));
    }
}
