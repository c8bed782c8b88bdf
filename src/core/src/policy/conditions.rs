//! Which `for` globs the program matches, remembered by the process.
//!
//! The memory is the caller's and starts as zeros. Byte 0 says whether it is
//! filled, and whether any glob matches; then one bit for each condition, one
//! for each byte of those, one for each byte of these, and so on. Threads that
//! fill it at the same time set the same bits.

use core::sync::atomic::{AtomicU8, Ordering};

const FILLED: u8 = 1;
/// None of them: mostly so.
const EMPTY: u8 = 2;

/// Offsets and lengths of the four levels.
const fn levels(n: u32) -> [(usize, usize); 4] {
    let a = (n as usize).div_ceil(8);
    let b = a.div_ceil(8);
    let c = b.div_ceil(8);
    let d = c.div_ceil(8);
    [(1, a), (1 + a, b), (1 + a + b, c), (1 + a + b + c, d)]
}

/// Bytes of memory for `n` conditions.
pub(super) const fn bytes(n: u32) -> u32 {
    let [_, _, _, (at, len)] = levels(n);
    if n == 0 { 0 } else { (at + len) as u32 }
}

fn state(cache: &[AtomicU8]) -> u8 {
    cache.first().map_or(0, |b| b.load(Ordering::Acquire))
}

fn bit(i: usize) -> u8 {
    1 << (i % 8)
}

/// Fills the memory, if there is one and it is not filled.
pub(super) fn fill(cache: &[AtomicU8], n: u32, holds: impl Fn(u32) -> bool) {
    let Some(to) = cache.first() else {
        return;
    };
    if state(cache) != 0 {
        return;
    }
    let mut found = EMPTY;
    for i in (0..n).filter(|&i| holds(i)) {
        found = FILLED;
        let mut i = i as usize;
        for (at, _) in levels(n) {
            if let Some(byte) = cache.get(at + i / 8) {
                byte.fetch_or(bit(i), Ordering::Relaxed);
            }
            i /= 8;
        }
    }
    to.store(found, Ordering::Release);
}

/// Returns the remembered result of condition `i`, or `None` if there is none.
pub(super) fn recall(cache: &[AtomicU8], n: u32, i: u32) -> Option<bool> {
    if i >= n || state(cache) == 0 {
        return None;
    }
    let i = i as usize;
    Some(cache.get(1 + i / 8)?.load(Ordering::Relaxed) & bit(i) != 0)
}

/// Calls `f` with each condition that holds. False if the memory is not
/// filled.
pub(super) fn each(cache: &[AtomicU8], n: u32, f: &mut impl FnMut(u32)) -> bool {
    match state(cache) {
        0 => return false,
        EMPTY => return true,
        _ => {}
    }
    let [a, b, c, d] = levels(n);
    let bits = |(at, len): (usize, usize), i: usize| {
        let byte = cache.get(at + i).filter(|_| i < len);
        let mut left = byte.map_or(0, |b| b.load(Ordering::Relaxed));
        core::iter::from_fn(move || {
            let k = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(i * 8 + k)
        })
    };
    for i in 0..d.1 {
        for i in bits(d, i) {
            for i in bits(c, i) {
                for i in bits(b, i) {
                    for i in bits(a, i) {
                        if i < n as usize {
                            f(i as u32);
                        }
                    }
                }
            }
        }
    }
    true
}
