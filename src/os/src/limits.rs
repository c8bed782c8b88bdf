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

/// Lets this process have as many descriptors as it may; how many that is.
pub fn raise_files() -> usize {
    // SAFETY: all-zero is a value of the structure; the pointers are to a local.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        usize::try_from(limit.rlim_max).unwrap_or(usize::MAX)
    }
}

/// A limit of memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    which: libc::__rlimit_resource_t,
    /// What the process that writes the log needs, with its bind tables, in bytes.
    pub needed: u64,
    /// How a shell names the hard limit.
    pub ulimit: &'static str,
}

/// Memory of a process's own, and its address space.
pub const MEMORY: [Memory; 2] = [
    Memory {
        which: libc::RLIMIT_DATA,
        needed: 72 << 20,
        ulimit: "ulimit -Hd",
    },
    Memory {
        which: libc::RLIMIT_AS,
        needed: 96 << 20,
        ulimit: "ulimit -Hv",
    },
];

impl Memory {
    /// The limit as it is.
    #[must_use]
    pub fn get(&self) -> libc::rlimit {
        // SAFETY: all-zero is a value of the structure; the pointer is to a local.
        unsafe {
            let mut limit: libc::rlimit = zeroed();
            libc::getrlimit(self.which, &raw mut limit);
            limit
        }
    }

    /// Sets it.
    pub fn set(&self, limit: &libc::rlimit) {
        // SAFETY: a live structure.
        unsafe { libc::setrlimit(self.which, limit) };
    }
}
