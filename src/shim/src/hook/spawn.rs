//! system(3), popen(3) and wordexp(3): libc starts a shell inside them, with the
//! environment as it is and without a call that anybody else sees.
//!
//! A program that has cleared its environment would start children outside the
//! run. So the environment is put right before; the call itself is libc's.

use core::ffi::{c_char, c_int, c_void};

use bindgate_core::record::{Call, stage};

use super::carry::{Strings, repair};
use super::{environ, errno, set_errno};
use crate::out::faults::guard;
use crate::real::rare;
use crate::session;

/// Puts the environment right, if there is a run.
fn prepare() {
    let before = errno();
    if let Some(run) = session::get() {
        let _ = guard(Call::Exec, stage::HOOK, || {
            // SAFETY: the list as the program left it, which libc is about to
            // hand on.
            repair(run, unsafe { environ as Strings })
        });
    }
    set_errno(before);
}

/// system(3).
///
/// # Safety
/// As system(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn system(command: *const c_char) -> c_int {
    if !command.is_null() {
        prepare();
    }
    // SAFETY: as the caller's.
    unsafe { rare::system()(command) }
}

/// popen(3).
///
/// # Safety
/// As popen(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn popen(command: *const c_char, kind: *const c_char) -> *mut c_void {
    prepare();
    // SAFETY: as the caller's.
    unsafe { rare::popen()(command, kind) }
}

/// wordexp(3).
///
/// # Safety
/// As wordexp(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn wordexp(
    words: *const c_char,
    to: *mut c_void,
    flags: c_int,
) -> c_int {
    prepare();
    // SAFETY: as the caller's.
    unsafe { rare::wordexp()(words, to, flags) }
}
