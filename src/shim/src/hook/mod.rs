//! The functions that the program calls in place of libc's: the only place
//! that speaks C.
//!
//! Every hook has the same shape:
//!
//! ```text
//!   let errno = errno();                       // kept for success
//!   let plan = guard(|| decide(…));            // may panic, may not reach the program
//!   let ret = real(…);                         // bare: cancelled, longjmped over
//!   guard(|| note(plan, ret, …));
//!   finish(ret, errno)                         // errno as the kernel or the policy said
//! ```
//!
//! `socket` and `bind` are declared through redhook; they are no cancellation
//! points. The others are `extern "C-unwind"`: a cancelled thread unwinds
//! through them, and redhook's `catch_unwind` would abort the process there.

mod bind;
mod block;
mod carry;
mod connect;
mod descriptor;
mod driver;
mod entry;
mod exec;
mod fast;
mod file_actions;
mod lease;
mod listen;
mod name;
mod note;
mod peer;
mod reach;
mod send;
mod socket;
pub mod sockopt;
mod spawn;
mod syscall;
mod vfork;
mod vsock;

pub use bind::{Binding, Plan};
pub use driver::caller;
pub use note::answered;

use core::ffi::{c_char, c_int};

use bindgate_core::record::{Call, stage};

use crate::out::faults::guard;
use crate::session;
use crate::sys::Errno;

unsafe extern "C" {
    /// The environment, as libc keeps it.
    pub static mut environ: *mut *mut c_char;
}

/// Runs before `main` and before the constructors of the program itself; the
/// constructors of its libraries may have called hooks already.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C-unwind" fn() = {
    extern "C-unwind" fn start() {
        let saved = errno();
        // Unless an earlier constructor made a hook do it, and perhaps installed
        // a filter since.
        let _ = session::get();
        set_errno(saved);
    }
    start
};

/// Runs after the program's own exit handlers.
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C-unwind" fn() = {
    extern "C-unwind" fn end() {
        guard(Call::Fault, stage::RECORD, || {
            if let Some(run) = session::get() {
                crate::out::emit::at_exit(run);
            }
        });
    }
    end
};

/// This thread's errno.
pub fn errno() -> c_int {
    // SAFETY: a pointer to this thread's errno.
    unsafe { *libc::__errno_location() }
}

/// Sets this thread's errno.
pub fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value }
}

/// What the program gets to see of a call that was forwarded: its result, with
/// `errno` as the call left it on failure and as it was before on success.
fn finish<T: Copy + PartialEq + From<i8>>(ret: T, before: c_int, after: c_int) -> T {
    set_errno(if ret == T::from(-1) { after } else { before });
    ret
}

/// A refusal: −1 and `errno`.
fn refuse(e: Errno) -> c_int {
    set_errno(c_int::from(e.0));
    -1
}

/// The errno of a forwarded call, 0 for success.
fn outcome(ret: isize) -> u16 {
    if ret == -1 { errno() as u16 } else { 0 }
}

/// A function that the running libc lacks.
pub fn absent() -> c_int {
    set_errno(libc::ENOSYS);
    -1
}
