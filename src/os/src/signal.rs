//! Signals blocked, waited for, passed on.

use std::io;
use std::mem::zeroed;
use std::sync::atomic::{AtomicI32, Ordering};

use super::{check, limits};

/// What the launcher inherited, to be given back to the program.
pub struct Inherited {
    mask: libc::sigset_t,
    child: libc::sigaction,
    memory: [libc::rlimit; 2],
}

/// Blocks every signal, makes children waitable and takes as much memory as is
/// to be had, whatever the parent left.
pub fn take_over() -> Inherited {
    let memory = limits::MEMORY.map(|limit| limit.get());
    for (limit, before) in limits::MEMORY.iter().zip(memory) {
        limit.set(&libc::rlimit {
            rlim_cur: before.rlim_max,
            ..before
        });
    }
    // SAFETY: all-zero is a value of these structures; all pointers are to
    // locals.
    unsafe {
        let mut inherited = Inherited {
            mask: zeroed(),
            child: zeroed(),
            memory,
        };
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut inherited.mask);
        // An inherited SIG_IGN would make the kernel throw exit statuses away.
        let mut default: libc::sigaction = zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(libc::SIGCHLD, &raw const default, &raw mut inherited.child);
        inherited
    }
}

impl Inherited {
    /// Gives back what was there, right before exec.
    pub fn restore(&self) {
        for (limit, before) in limits::MEMORY.iter().zip(&self.memory) {
            limit.set(before);
        }
        // SAFETY: both came from the kernel.
        unsafe {
            libc::sigaction(libc::SIGCHLD, &raw const self.child, std::ptr::null_mut());
            libc::sigprocmask(
                libc::SIG_SETMASK,
                &raw const self.mask,
                std::ptr::null_mut(),
            );
        }
    }
}

/// While it lives, whatever this thread waits for is interrupted every 10 ms.
///
/// Whoever sends descriptors to a thread has it close what it does not keep, and to
/// close a socket with `SO_LINGER` waits for as long as its sender likes.
#[must_use]
pub struct Unheld {
    timer: Option<libc::timer_t>,
    mask: libc::sigset_t,
}

extern "C" fn nothing(_: libc::c_int) {}

impl Unheld {
    /// Begins; without a timer where none can be had.
    pub fn new() -> Unheld {
        const EVERY: libc::timespec = libc::timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        // SAFETY: all-zero is a value of these structures, all pointers are to locals,
        // and the handler does nothing.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
            let (mut alarm, mut mask): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
            libc::sigemptyset(&raw mut alarm);
            libc::sigaddset(&raw mut alarm, libc::SIGALRM);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const alarm, &raw mut mask);
            let mut event: libc::sigevent = zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = std::ptr::null_mut();
            let made = libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer);
            let times = libc::itimerspec {
                it_interval: EVERY,
                it_value: EVERY,
            };
            let timer = (made == 0).then(|| {
                libc::timer_settime(timer, 0, &raw const times, std::ptr::null_mut());
                timer
            });
            Unheld { timer, mask }
        }
    }
}

impl Default for Unheld {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Unheld {
    fn drop(&mut self) {
        // SAFETY: a timer of ours, which ends here; the mask came from the kernel.
        unsafe {
            if let Some(timer) = self.timer {
                libc::timer_delete(timer);
            }
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.mask,
                std::ptr::null_mut(),
            );
        }
    }
}

/// A signal that came.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// Did a process send it, rather than the kernel or the terminal?
    pub sent: bool,
    /// Which process, if one did.
    pub from: i32,
    queued: bool,
    value: usize,
}

/// Waits for the next signal, for as long as `time` if that is given.
pub fn next(time: Option<std::time::Duration>) -> Option<Signal> {
    // SAFETY: all-zero is a value of these structures; all pointers are to
    // locals; the fields read are those of the codes that have them.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        let mut info: libc::siginfo_t = zeroed();
        let time = time.map(|t| libc::timespec {
            tv_sec: t.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(t.subsec_nanos()),
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        loop {
            let number = libc::sigtimedwait(&raw const all, &raw mut info, time);
            if number > 0 {
                let sent = matches!(
                    info.si_code,
                    libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL
                );
                let queued = info.si_code == libc::SI_QUEUE;
                return Some(Signal {
                    number,
                    sent,
                    from: if sent { info.si_pid() } else { 0 },
                    queued,
                    value: if queued {
                        info.si_value().sival_ptr as usize
                    } else {
                        0
                    },
                });
            }
            if io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN) {
                return None;
            }
        }
    }
}

/// Did whoever started us leave signal `number` ignored?
pub fn is_ignored(number: i32) -> bool {
    // SAFETY: all-zero is a value; the pointer is to a local.
    unsafe {
        let mut now: libc::sigaction = zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut now);
        now.sa_sigaction == libc::SIG_IGN
    }
}

/// To whom [`relay_to`] passes signals on, or 0.
static RELAY: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass(number: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands over a siginfo; kill is async-signal-safe, and errno is
    // put back as it was.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let to = RELAY.load(Ordering::Relaxed);
        let is_sent = (*info).si_code <= 0;
        if to > 0 && is_sent {
            libc::kill(to, number);
        }
        *errno = before;
    }
}

/// From now on a signal that would end this process does not: if a process sent it,
/// it goes on to `pid`, unless that is 0. Those of the terminal reach every process of
/// the job by themselves. What was ignored stays ignored, and a program that is started
/// inherits nothing of this.
pub fn relay_to(pid: i32) {
    RELAY.store(pid, Ordering::Relaxed);
    let ending = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    for number in ending.into_iter().filter(|n| !is_ignored(*n)) {
        // SAFETY: all-zero is a value of the structure; the handler does only what a
        // handler may.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = pass as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigaction(number, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Takes every pending signal off, without a reaction.
pub fn forget_pending() {
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: all-zero is a value; all pointers are to locals.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        while libc::sigtimedwait(&raw const all, std::ptr::null_mut(), &raw const at_once) > 0 {}
    }
}

/// Is a signal waiting that would end the launcher by default?
pub fn is_ending_pending() -> bool {
    // SAFETY: all-zero is a value; the pointer is to a local.
    unsafe {
        let mut pending: libc::sigset_t = zeroed();
        libc::sigpending(&raw mut pending);
        [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP]
            .iter()
            .any(|s| libc::sigismember(&raw const pending, *s) == 1)
    }
}

impl Signal {
    /// Sends the same signal to `pid`, with its value if it had one.
    pub fn pass_on(&self, pid: i32) {
        // SAFETY: no memory is involved: the value is only carried.
        unsafe {
            if self.queued {
                let value = libc::sigval {
                    sival_ptr: self.value as *mut libc::c_void,
                };
                libc::sigqueue(pid, self.number, value);
            } else {
                libc::kill(pid, self.number);
            }
        }
    }
}

/// Lets signal `number` do to this process what it does by default. Returns
/// when a stop is over, or if the signal does nothing here (as in pid 1).
pub fn suffer(number: i32) {
    // SAFETY: all-zero is a value of these structures; all pointers are to
    // locals.
    unsafe {
        let mut default: libc::sigaction = zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        let mut before: libc::sigaction = zeroed();
        libc::sigaction(number, &raw const default, &raw mut before);
        libc::kill(libc::getpid(), number);
        let mut one: libc::sigset_t = zeroed();
        libc::sigaddset(&raw mut one, number);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const one, std::ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &raw const one, std::ptr::null_mut());
        libc::sigaction(number, &raw const before, std::ptr::null_mut());
    }
}

/// Leaves no core file: the program left its own, if any.
pub fn no_core() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local. The second call is for core patterns
    // that are pipes: they do not look at the limit.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

/// Where [`tell`] writes; -1 before there is anything.
static TOLD: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

extern "C" fn tell(number: i32) {
    let to = TOLD.load(std::sync::atomic::Ordering::Relaxed);
    let byte = number as u8;
    // SAFETY: write(2) may be called in a handler; errno is left as it was.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(to, (&raw const byte).cast(), 1);
        *libc::__errno_location() = errno;
    }
}

/// A descriptor from which each of these signals can be read, one byte each, as it comes.
/// Those that are ignored stay so. A program that is started finds them as they were.
///
/// # Errors
/// As pipe(2) and sigaction(2).
pub fn caught(numbers: &[i32]) -> io::Result<std::os::fd::OwnedFd> {
    let mut ends = [0; 2];
    // SAFETY: room for two.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    let [from, to] = ends;
    let from = super::own(from)?;
    TOLD.store(to, std::sync::atomic::Ordering::Relaxed);
    for number in numbers.iter().filter(|n| !is_ignored(**n)) {
        // SAFETY: all-zero is a value; the handler lives as long as the process, and does
        // nothing that a handler may not.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = tell as extern "C" fn(i32) as usize;
            action.sa_flags = libc::SA_RESTART;
            check(libc::sigaction(
                *number,
                &raw const action,
                std::ptr::null_mut(),
            ))?;
        }
    }
    Ok(from)
}

/// Lets signal `number` wait until somebody asks for it.
///
/// # Errors
/// As sigprocmask(2).
pub fn block(number: i32) -> io::Result<()> {
    // SAFETY: all-zero is a value; the pointers are to a local, or null.
    unsafe {
        let mut one: libc::sigset_t = zeroed();
        libc::sigaddset(&raw mut one, number);
        let set = libc::sigprocmask(libc::SIG_BLOCK, &raw const one, std::ptr::null_mut());
        check(set).map(drop)
    }
}

/// A descriptor that gets readable when signal `number` comes.
pub fn watch(number: i32) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: all-zero is a value; the pointer is to a local.
    super::own(unsafe {
        let mut one: libc::sigset_t = zeroed();
        libc::sigaddset(&raw mut one, number);
        check(libc::signalfd(
            -1,
            &raw const one,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?
    })
}
