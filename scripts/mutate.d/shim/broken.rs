//! What breakages are made of; in the copy that scripts/mutate-shim builds.

use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU32,
    Ordering::{Relaxed, SeqCst},
};

use crate::own::filter;
use crate::sys;

static LOCK: AtomicBool = AtomicBool::new(false);

/// Takes a lock, if `broken`. Whoever waits for it longer than any holder
/// should take is in a deadlock, and says so.
pub fn lock(broken: bool) {
    if !broken {
        return;
    }
    let mut turns = 0u64;
    while LOCK.swap(true, SeqCst) {
        core::hint::spin_loop();
        turns += 1;
        if turns > 100_000_000 {
            // SAFETY: ends the process.
            unsafe { libc::abort() };
        }
    }
}

/// Gives it back.
pub fn unlock(broken: bool) {
    if broken {
        LOCK.store(false, SeqCst);
    }
}

/// The lock, until this goes.
pub struct Held(bool);

impl Held {
    pub fn take(broken: bool) -> Held {
        lock(broken);
        Held(broken)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        unlock(self.0);
    }
}

/// Needs more stack than a handler has.
#[inline(never)]
pub fn large_frame(broken: bool) {
    if broken {
        fill();
    }
}

#[inline(never)]
fn fill() {
    core::hint::black_box(&mut [0u8; 6000]);
}

/// Needs more stack than the smallest that a thread can have.
#[inline(never)]
pub fn very_large_frame(broken: bool) {
    if broken {
        core::hint::black_box(&mut [0u8; 16_000]);
    }
}

/// Allocates, as malloc(3) does; often, so that a handler will meet another
/// call at it.
pub fn allocate() {
    for size in (0..200).map(|n| 2_000 + 1_000 * (n % 20)) {
        // SAFETY: given back at once.
        unsafe { libc::free(core::hint::black_box(libc::malloc(size))) };
    }
}

/// Decides by memory that nobody wrote.
#[inline(never)]
pub fn uninitialised() {
    let bytes = core::mem::MaybeUninit::<[u8; 64]>::uninit();
    // SAFETY: it is not: this is the breakage.
    if unsafe { core::hint::black_box(&bytes).assume_init_ref() }[7] == 7 {
        sys::yield_now(filter::allowed());
    }
}

/// True once in sixty times, about.
pub fn now_and_then() -> bool {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Relaxed) % 61 == 31
}

/// The descriptor that `open` gives; the one of the first time if `broken`.
pub fn kept(
    broken: bool,
    open: impl FnOnce() -> Result<i32, sys::Errno>,
) -> Result<i32, sys::Errno> {
    static KEPT: AtomicI32 = AtomicI32::new(-1);
    match KEPT.load(Relaxed) {
        fd @ 0.. if broken => Ok(fd),
        _ => open().inspect(|fd| KEPT.store(*fd, Relaxed)),
    }
}

/// Has our constructor run?
pub static CONSTRUCTED: AtomicBool = AtomicBool::new(false);
/// And our destructor?
pub static OVER: AtomicBool = AtomicBool::new(false);

/// bind(2) of the kernel, not of the next library.
pub unsafe extern "C" fn bind(fd: i32, addr: *const libc::sockaddr, len: u32) -> i32 {
    // SAFETY: the kernel looks at it, nobody else.
    match sys::bind(filter::allowed(), fd, unsafe {
        core::slice::from_raw_parts(addr.cast(), len as usize)
    }) {
        Ok(()) => 0,
        Err(e) => {
            crate::hook::set_errno(e.0.into());
            -1
        }
    }
}
