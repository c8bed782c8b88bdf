//! Who this process is, what time it is, and who waits for whom.

use core::sync::atomic::AtomicU32;

use crate::{Allowed, Call, Calls, Errno};

macro_rules! asks {
    ($($(#[$doc:meta])* $name:ident: $call:ident, $n:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        #[inline]
        pub fn $name(allowed: Allowed) -> u32 {
            // SAFETY: no memory is involved.
            unsafe { call!(allowed, Call::$call, libc::$n) }.unwrap_or(0) as u32
        }
    )*};
}

asks! {
    /// getpid(2); 0 if it may not be asked.
    getpid: Getpid, SYS_getpid;
    /// gettid(2); 0 if it may not be asked.
    gettid: Gettid, SYS_gettid;
}

/// geteuid(2); `None` if it may not be asked.
#[must_use]
#[inline]
pub fn geteuid(allowed: Allowed) -> Option<u32> {
    // SAFETY: no memory is involved.
    let uid = unsafe { call!(allowed, Call::Geteuid, libc::SYS_geteuid) };
    uid.ok().map(|uid| uid as u32)
}

/// Real and effective user ID: getresuid(2). `None` if they may not be asked.
#[must_use]
pub fn user_ids(allowed: Allowed) -> Option<(u32, u32)> {
    ids(allowed, Call::Getresuid, libc::SYS_getresuid)
}

/// Real and effective group ID: getresgid(2). `None` if they may not be asked.
#[must_use]
pub fn group_ids(allowed: Allowed) -> Option<(u32, u32)> {
    ids(allowed, Call::Getresgid, libc::SYS_getresgid)
}

fn ids(allowed: Allowed, call: Call, n: libc::c_long) -> Option<(u32, u32)> {
    let (mut real, mut effective, mut saved) = (0u32, 0u32, 0u32);
    // SAFETY: the kernel writes to three live integers.
    let asked = unsafe {
        call!(
            allowed,
            call,
            n,
            &raw mut real,
            &raw mut effective,
            &raw mut saved
        )
    };
    asked.ok().map(|_| (real, effective))
}

/// `PR_GET_NO_NEW_PRIVS`: is it set for this thread?
#[must_use]
pub fn no_new_privs(allowed: Allowed) -> bool {
    // SAFETY: no memory is involved.
    let answer = unsafe {
        call!(
            allowed,
            Call::Prctl,
            libc::SYS_prctl,
            libc::PR_GET_NO_NEW_PRIVS,
            0,
            0,
            0,
            0
        )
    };
    answer == Ok(1)
}

/// exit_group(2), allowed or not: there is nothing left to be ended by it.
#[inline]
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: no memory is involved, and nothing comes after it.
        unsafe { raw!(libc::SYS_exit_group, status) };
    }
}

/// sched_yield(2); where it may not be called, a hint to the processor.
#[inline]
pub fn yield_now(allowed: Allowed) {
    // SAFETY: no memory is involved.
    if unsafe { call!(allowed, Call::SchedYield, libc::SYS_sched_yield) }.is_err() {
        core::hint::spin_loop();
    }
}

/// `PR_GET_TSC`: may this thread read the processor's counter? Only x86 can
/// forbid it.
#[must_use]
#[inline]
pub fn may_read_counter(allowed: Allowed) -> bool {
    if !cfg!(target_arch = "x86_64") {
        return true;
    }
    let mut value = 0u32;
    // SAFETY: the kernel writes to a live local.
    let asked = unsafe {
        call!(
            allowed,
            Call::Prctl,
            libc::SYS_prctl,
            libc::PR_GET_TSC,
            &raw mut value
        )
    };
    // An error is an old kernel's, or a filter's: neither forbids it.
    asked.is_err() || value == libc::PR_TSC_ENABLE as u32
}

/// clock_gettime(2) in nanoseconds, by a system call.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn clock_gettime(allowed: Allowed, id: libc::clockid_t) -> Result<u64, Errno> {
    let mut ts = [0i64; 2];
    // SAFETY: the kernel fills in a live timespec.
    unsafe {
        call!(
            allowed,
            Call::ClockGettime,
            libc::SYS_clock_gettime,
            id,
            &raw mut ts
        )?;
    }
    let [seconds, nanoseconds] = ts;
    Ok((seconds as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(nanoseconds as u64))
}

/// Wakes all sleepers on a futex word shared between processes.
#[inline]
pub fn futex_wake(allowed: Allowed, word: &AtomicU32) {
    // SAFETY: the kernel looks for sleepers on a live word.
    let _ = unsafe {
        call!(
            allowed,
            Call::Futex,
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            i32::MAX,
            0,
            0,
            0
        )
    };
}

/// Sleeps while `word` is `seen`, at most `millis`; not at all if it may not.
#[inline]
pub fn futex_wait(allowed: Allowed, word: &AtomicU32, seen: u32, millis: u64) {
    let _ = wait_on(allowed, word, seen, millis);
}

/// Sleeps.
///
/// # Errors
/// `EINTR` if a signal handler ran meanwhile.
pub fn sleep(allowed: Allowed, millis: u64) -> Result<(), Errno> {
    // The word is nobody else's.
    match wait_on(allowed, &AtomicU32::new(0), 0, millis) {
        Err(Errno(e)) if i32::from(e) == libc::EINTR => Err(Errno(e)),
        _ => Ok(()),
    }
}

/// futex(2) with `FUTEX_WAIT`.
#[inline]
fn wait_on(allowed: Allowed, word: &AtomicU32, seen: u32, millis: u64) -> Result<usize, Errno> {
    let timeout = libc::timespec {
        tv_sec: (millis / 1000) as libc::time_t,
        tv_nsec: (millis % 1000 * 1_000_000) as libc::c_long,
    };
    // SAFETY: the kernel reads a live word and a live local.
    unsafe {
        call!(
            allowed,
            Call::Futex,
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            &raw const timeout,
            0,
            0
        )
    }
}

/// No signal reaches this thread while this lives: a handler that left by
/// siglongjmp would leave behind what is held meanwhile, a descriptor above
/// all. Where the mask may not be changed signals come all the same.
#[must_use]
pub struct NoSignals {
    /// What was blocked before; `None` if nothing was changed.
    before: Option<u64>,
    allowed: Allowed,
}

impl NoSignals {
    /// From now on. What the program had blocked comes back in the end.
    #[inline]
    pub fn hold(allowed: Allowed) -> NoSignals {
        NoSignals {
            before: set_mask(allowed, libc::SIG_SETMASK, !0).ok(),
            allowed,
        }
    }

    /// Could nothing be held back?
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.before.is_none()
    }
}

impl Drop for NoSignals {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = set_mask(self.allowed, libc::SIG_SETMASK, before);
        }
    }
}

/// Changes which signals are blocked; those that were before.
#[inline]
fn set_mask(allowed: Allowed, how: i32, mask: u64) -> Result<u64, Errno> {
    let mut before = 0u64;
    // SAFETY: the kernel reads one live local and writes another.
    unsafe {
        call!(
            allowed,
            Call::RtSigprocmask,
            libc::SYS_rt_sigprocmask,
            how,
            &raw const mask,
            &raw mut before,
            8
        )?;
    }
    Ok(before)
}

/// Runs `part` while no signal reaches this thread; see [`NoSignals`].
///
/// A guard that is dropped costs more than it looks: its clean-up for a panic
/// keeps the compiler from seeing, a few calls further up, that there is none.
/// So only builds that can panic have it.
#[inline]
pub fn without_signals<T>(allowed: Allowed, part: impl FnOnce() -> T) -> T {
    let held = NoSignals::hold(allowed);
    #[cfg(not(any(debug_assertions, feature = "unwind")))]
    let held = core::mem::ManuallyDrop::new(held);
    let done = part();
    #[cfg(not(any(debug_assertions, feature = "unwind")))]
    let held = core::mem::ManuallyDrop::into_inner(held);
    drop(held);
    done
}

/// The signals that a write can raise: of a pipe that nobody reads, and of a
/// file that is as large as `RLIMIT_FSIZE` lets it be.
const OF_WRITES: u64 = 1 << (libc::SIGPIPE - 1) | 1 << (libc::SIGXFSZ - 1);

/// Runs a part that writes on its own account: a signal that the writing
/// raises is not the program's. Other signals come through.
///
/// Where signals may not be blocked the part is not run.
#[inline]
pub fn without_write_signals<T>(allowed: Allowed, part: impl FnOnce() -> T) -> Option<T> {
    const NEEDED: Calls = Calls::of(&[
        Call::RtSigprocmask,
        Call::RtSigpending,
        Call::RtSigtimedwait,
    ]);
    if !allowed.may_all(NEEDED) {
        return None;
    }
    let before = set_mask(allowed, libc::SIG_BLOCK, OF_WRITES).ok()?;
    let pending_before = pending(allowed).unwrap_or(0);
    let done = part();
    let mut ours = pending(allowed).unwrap_or(0) & !pending_before & OF_WRITES;
    while ours != 0
        && let Ok(number @ 1..=64) = take_one(allowed, ours)
    {
        ours &= !(1 << (number - 1));
    }
    if before & OF_WRITES != OF_WRITES {
        let _ = set_mask(allowed, libc::SIG_UNBLOCK, OF_WRITES & !before);
    }
    Some(done)
}

/// The signals that wait for this thread to let them in.
#[inline]
pub(crate) fn pending(allowed: Allowed) -> Result<u64, Errno> {
    let mut set = 0u64;
    // SAFETY: the kernel writes to a live local.
    unsafe {
        call!(
            allowed,
            Call::RtSigpending,
            libc::SYS_rt_sigpending,
            &raw mut set,
            8
        )?;
    }
    Ok(set)
}

/// Takes one of these signals, if it waits; its number.
#[inline]
pub(crate) fn take_one(allowed: Allowed, signals: u64) -> Result<usize, Errno> {
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel reads two live locals.
    unsafe {
        call!(
            allowed,
            Call::RtSigtimedwait,
            libc::SYS_rt_sigtimedwait,
            &raw const signals,
            core::ptr::null::<u8>(),
            &raw const at_once,
            8
        )
    }
}
