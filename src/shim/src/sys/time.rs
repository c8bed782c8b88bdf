//! What time it is, and what the processor counts.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Nanoseconds of a clock, by the vDSO: no system call on an ordinary machine.
pub fn clock(id: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if crate::own::process::is_counter_forbidden() {
        return clock_by_kernel(id);
    }
    // SAFETY: a live local; clock_gettime is async-signal-safe and, with a
    // valid clock, leaves errno alone.
    unsafe { libc::clock_gettime(id, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// The clock where the vDSO's would end the program. Once a seccomp filter
/// forbids to ask, a record has the time of the one before it, and no wait for
/// anybody is short enough.
#[cold]
fn clock_by_kernel(id: libc::clockid_t) -> u64 {
    if crate::own::process::is_under_seccomp() {
        return match id {
            libc::CLOCK_REALTIME => LAST_TIME.load(Relaxed),
            _ => u64::MAX,
        };
    }
    let mut ts = [0i64; 2];
    let _ = call!(libc::SYS_clock_gettime, id, &raw mut ts);
    let now = ts[0] as u64 * 1_000_000_000 + ts[1] as u64;
    if id == libc::CLOCK_REALTIME {
        LAST_TIME.store(now, Relaxed);
    }
    now
}

/// Keeps the time for when it cannot be asked for any more.
pub fn keep_time() {
    LAST_TIME.store(clock(libc::CLOCK_REALTIME), Relaxed);
}

static LAST_TIME: AtomicU64 = AtomicU64::new(0);

/// The processor's counter. Only where [`crate::own::process::has_counter`].
#[inline]
pub fn counter() -> u64 {
    // SAFETY: reads a register that the program may read.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack, preserves_flags));
        }
        count
    }
}

/// May this thread read the processor's counter? Only x86 can forbid it.
pub fn may_read_counter() -> bool {
    if !cfg!(target_arch = "x86_64") {
        return true;
    }
    let mut value = 0u32;
    let asked = call!(libc::SYS_prctl, libc::PR_GET_TSC, &raw mut value);
    // An error is an old kernel's, or a filter's: neither forbids it.
    asked.is_err() || value == libc::PR_TSC_ENABLE as u32
}
