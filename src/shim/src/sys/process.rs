//! Who asks, and what this process may.

use super::Errno;

/// getpid(2).
pub fn getpid() -> u32 {
    call!(libc::SYS_getpid).unwrap_or(0) as u32
}

/// gettid(2).
pub fn gettid() -> u32 {
    call!(libc::SYS_gettid).unwrap_or(0) as u32
}

/// getuid(2).
pub fn getuid() -> u32 {
    call!(libc::SYS_getuid).unwrap_or(0) as u32
}

/// getgid(2).
pub fn getgid() -> u32 {
    call!(libc::SYS_getgid).unwrap_or(0) as u32
}

/// geteuid(2).
pub fn geteuid() -> u32 {
    call!(libc::SYS_geteuid).unwrap_or(0) as u32
}

/// exit_group(2).
pub fn exit(status: i32) -> ! {
    loop {
        let _ = call!(libc::SYS_exit_group, status);
    }
}

/// sched_yield(2).
pub fn yield_now() {
    let _ = call!(libc::SYS_sched_yield);
}

/// `PR_GET_SECCOMP`: 0 if no filter binds this thread.
pub fn seccomp_mode() -> Result<usize, Errno> {
    call!(libc::SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0)
}
