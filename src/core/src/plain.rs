//! What passes between the shim and `libbindgate_plain.so`, its other half in
//! a preload without a launcher: plain C values.
//!
//! The names of the two functions end with a number that goes up with any
//! change here, so that halves of two versions never meet.

/// File name of the library. It lies beside the shim.
pub const LIBRARY: &[u8] = b"libbindgate_plain.so\0";

/// Name of the function that compiles a policy: [`Compile`].
pub const COMPILE: &core::ffi::CStr = c"bindgate_plain_compile_4";
/// Name of the function that puts a record into words: [`Say`].
pub const SAY: &core::ffi::CStr = c"bindgate_plain_say_4";

/// Compiles a policy of the two texts given: the rules themselves, and the
/// path of a file. Sets the second pointer's target to the number of words.
/// The words stay, read-only. Null, with the reason on standard error, if the
/// policy is broken.
pub type Compile = unsafe extern "C" fn(texts: *const Texts, count: *mut usize) -> *const u64;

/// Writes a line at `to`, at most `room` bytes; its length, or one of
/// [`TOO_LONG`] and [`FAILED`]. Async-signal-safe.
pub type Say = unsafe extern "C" fn(line: *const Line, to: *mut u8, room: usize) -> isize;

/// The line does not fit.
pub const TOO_LONG: isize = -1;
/// There is no such line.
pub const FAILED: isize = -2;

/// Some bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The first.
    pub at: *const u8,
    /// How many.
    pub len: usize,
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Bytes {
        Bytes {
            at: bytes.as_ptr(),
            len: bytes.len(),
        }
    }
}

/// Where a policy comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Texts {
    /// `BINDGATE_RULES`
    pub rules: Bytes,
    /// `BINDGATE_POLICY`, without a NUL.
    pub file: Bytes,
}

/// What a line is to say.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The record; null for a line that says how many lines could not be
    /// written. Where it lies, not as words: room on a signal handler's stack
    /// is short.
    pub record: *const crate::record::Record,
    /// How many could not be written.
    pub lost: u64,
    /// Nanoseconds since 1970, of that line.
    pub time_ns: u64,
    /// JSON, not text.
    pub json: bool,
    /// Path of the executable.
    pub program: Bytes,
    /// Path of the script that it runs; empty if it runs none.
    pub script: Bytes,
    /// The compiled policy.
    pub policy: *const u64,
    /// Its length in words.
    pub policy_len: usize,
}
