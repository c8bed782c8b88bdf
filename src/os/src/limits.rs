//! Resource limits that the caller of bindgate has set for the program.

use std::mem::zeroed;

/// Runs a part that makes memory files. The kernel counts them as files, and
/// `RLIMIT_FSIZE` is about what the program writes; so the part may make them
/// as large as the hard limit lets it, and gets an error beyond, not a signal.
pub fn with_large_files<T>(part: impl FnOnce() -> T) -> T {
    // SAFETY: all-zero is a value of these structures; all pointers are to
    // locals.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        let mut before: libc::sigaction = zeroed();
        let mut ignore: libc::sigaction = zeroed();
        ignore.sa_sigaction = libc::SIG_IGN;
        libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit);
        libc::sigaction(libc::SIGXFSZ, &raw const ignore, &raw mut before);
        let raised = libc::rlimit {
            rlim_cur: limit.rlim_max,
            ..limit
        };
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const raised);
        let done = part();
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
        libc::sigaction(libc::SIGXFSZ, &raw const before, std::ptr::null_mut());
        done
    }
}

/// Memory of its own that the process which writes the log needs, in bytes.
pub const DATA: u64 = 24 << 20;

/// `RLIMIT_DATA`, as it is.
pub fn data() -> libc::rlimit {
    // SAFETY: all-zero is a value of the structure; the pointer is to a local.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit);
        limit
    }
}

/// Sets `RLIMIT_DATA`.
pub fn set_data(limit: &libc::rlimit) {
    // SAFETY: a live structure.
    unsafe { libc::setrlimit(libc::RLIMIT_DATA, limit) };
}
