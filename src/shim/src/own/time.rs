//! What time it is, and what the processor counts.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{filter, process};
use crate::sys::{self, Call};

/// Nanoseconds of a clock, by the vDSO: no system call on an ordinary machine.
pub fn clock(id: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if process::is_counter_forbidden() {
        return clock_by_kernel(id);
    }
    // SAFETY: a live local; clock_gettime is async-signal-safe and, with a
    // valid clock, leaves errno alone.
    unsafe { libc::clock_gettime(id, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// The clock where the vDSO's would end the program. Where the kernel may not
/// be asked either, a record has the time of the one before it, and no wait for
/// anybody is short enough.
#[cold]
fn clock_by_kernel(id: libc::clockid_t) -> u64 {
    let allowed = filter::allowed();
    if !allowed.may(Call::ClockGettime) {
        return match id {
            libc::CLOCK_REALTIME => LAST.load(Relaxed),
            _ => u64::MAX,
        };
    }
    let now = sys::clock_gettime(allowed, id).unwrap_or(0);
    if id == libc::CLOCK_REALTIME {
        LAST.store(now, Relaxed);
    }
    now
}

/// Keeps the time for when it cannot be asked for any more.
pub fn keep() {
    LAST.store(clock(libc::CLOCK_REALTIME), Relaxed);
}

static LAST: AtomicU64 = AtomicU64::new(0);

/// The processor's counter. Only where [`process::has_counter`].
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
