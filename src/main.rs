//! The launcher: `bindgate`.
//!
//! It never names the shim's crate: a program that links it is hooked itself.

// Rust's own start-up would ignore SIGPIPE, open /dev/null on closed standard
// streams and install handlers for SIGSEGV: all of that would be inherited by
// the program that we start, which must find what its parent left.
#![no_main]

mod launcher;
mod unwind;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// Where C starts.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let arguments: Vec<OsString> = (0..usize::try_from(argc).unwrap_or(0))
        .map(|n| {
            // SAFETY: argv holds argc C strings.
            let bytes = unsafe { CStr::from_ptr(*argv.add(n)) }.to_bytes();
            OsStr::from_bytes(bytes).to_owned()
        })
        .collect();
    launcher::main(arguments)
}
