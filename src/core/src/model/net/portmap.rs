//! Which ports are free, found fast.

use bytemuck::{Pod, Zeroable};

/// Which ports of a table have owners, as a tree of bits: the next port
/// without one is found in a few steps however many are taken.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct PortMap {
    /// A set bit is a port with an owner.
    taken: [u64; 1024],
    /// A set bit is a word of `taken` without an even free port …
    even_full: [u64; 16],
    /// … and without an odd one.
    odd_full: [u64; 16],
}

const EVEN: u64 = 0x5555_5555_5555_5555;

impl PortMap {
    pub(super) const EMPTY: PortMap = PortMap {
        taken: [0; 1024],
        even_full: [0; 16],
        odd_full: [0; 16],
    };

    pub(in crate::model) fn set(&mut self, port: u16, on: bool) {
        let w = usize::from(port >> 6);
        let bit = 1u64 << (port & 63);
        let Some(word) = self.taken.get_mut(w) else {
            return;
        };
        if on {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        let word = *word;
        let up = 1u64 << (w & 63);
        for (full, mask) in [(&mut self.even_full, EVEN), (&mut self.odd_full, !EVEN)] {
            if let Some(f) = full.get_mut(w >> 6) {
                if word & mask == mask {
                    *f |= up;
                } else {
                    *f &= !up;
                }
            }
        }
    }

    /// Is the port's bit set?
    pub(in crate::model) fn has(&self, port: u16) -> bool {
        self.word(usize::from(port >> 6)) >> (port & 63) & 1 != 0
    }

    /// The bits of 64 ports.
    pub(in crate::model) fn word(&self, w: usize) -> u64 {
        self.taken.get(w).copied().unwrap_or(0)
    }

    /// The first port without an owner in `from..=to` with this parity.
    pub(in crate::model) fn next_free(&self, from: u16, to: u16, odd: bool) -> Option<u16> {
        if from > to {
            return None;
        }
        let mask = if odd { !EVEN } else { EVEN };
        let full = if odd { &self.odd_full } else { &self.even_full };
        let at = usize::from(from >> 6);
        let here = !self.taken.get(at)? & mask & (u64::MAX << (from & 63));
        let port = |w: usize, free: u64| {
            let port = (w as u32) << 6 | free.trailing_zeros();
            (port <= u32::from(to)).then_some(port as u16)
        };
        if here != 0 {
            return port(at, here);
        }
        let mut w = at + 1;
        while w < 1024 {
            let not_full = !full.get(w >> 6)? & (u64::MAX << (w & 63));
            if not_full == 0 {
                w = (w & !63) + 64;
                continue;
            }
            w = (w & !63) + not_full.trailing_zeros() as usize;
            return port(w, !self.taken.get(w)? & mask);
        }
        None
    }
}
