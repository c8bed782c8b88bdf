//! Faults on purpose (feature `inject`, for the tests only).
//!
//! `BINDGATE_INJECT=list` names every guard on standard error as it is passed:
//! `FILE:LINE CALL STAGE`, STAGE being the number of the stage's bit. Such a
//! name with ` before`, ` after` or ` twice` behind it makes the part behind
//! that guard panic each time: before it has done anything, after it has done
//! all, or before and once more while the fault is being reported.

use core::ffi::{CStr, c_char};
use core::panic::Location;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use std::io::Write;

use bindgate_core::record::Call;

use crate::sys;

/// The value of `BINDGATE_INJECT`, which stays where the kernel put it.
static WANTED: AtomicPtr<c_char> = AtomicPtr::new(null_mut());

/// Reads the environment; before that nothing is injected.
pub fn start() {
    // SAFETY: nobody has changed the environment before the constructors ran,
    // and the tests' programs leave it alone.
    WANTED.store(
        unsafe { libc::getenv(c"BINDGATE_INJECT".as_ptr()) },
        Relaxed,
    );
}

/// The position that is wanted at this guard: empty if none is.
fn wanted(call: Call, stage: u16, at: &Location<'_>) -> &'static [u8] {
    let wanted = WANTED.load(Relaxed);
    if wanted.is_null() {
        return b"";
    }
    // SAFETY: NUL-terminated, and never changed.
    let wanted = unsafe { CStr::from_ptr(wanted) }.to_bytes();
    let mut buf = [0; 128];
    let name = format_args!("{}:{} {} {stage}\n", at.file(), at.line(), call.name());
    let room = buf.len();
    let mut rest = &mut buf[..];
    if rest.write_fmt(name).is_err() {
        return b"";
    }
    let len = room - rest.len();
    let line = buf.get(..len).unwrap_or(&[]);
    if wanted == b"list" {
        sys::write_all(sys::Allowed::ALL, 2, line);
        return b"";
    }
    line.strip_suffix(b"\n")
        .and_then(|name| wanted.strip_prefix(name)?.strip_prefix(b" "))
        .unwrap_or(b"")
}

/// Runs the part of a hook, and panics where that is wanted.
pub fn around<T>(call: Call, stage: u16, at: &Location<'_>, part: impl FnOnce() -> T) -> T {
    let position = wanted(call, stage, at);
    assert!(!matches!(position, b"before" | b"twice"), "injected");
    let value = part();
    assert!(position != b"after", "injected");
    value
}

/// The fault at a guard is being reported.
pub fn report() {
    let wanted = WANTED.load(Relaxed);
    if !wanted.is_null() {
        // SAFETY: as above.
        let wanted = unsafe { CStr::from_ptr(wanted) }.to_bytes();
        assert!(!wanted.ends_with(b" twice"), "injected");
    }
}
