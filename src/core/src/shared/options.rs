//! Options of sockets that were moved to another family: what the program set
//! and the Unix socket behind it cannot hold.

use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};
use crate::text::fill;

/// Entries of the table.
pub const OPTIONS: usize = 8192;
const PROBES: usize = 64;
const VALUE_WORDS: usize = 2;
/// Longest value kept, bytes.
const VALUE: usize = VALUE_WORDS * 8;
const WRITING: u64 = u64::MAX;

#[repr(C)]
struct Entry {
    cookie: AtomicU64,
    name: AtomicU64,
    netns: AtomicU64,
    len: AtomicU32,
    /// As [`super::Moves`] has it: the sweep before which the value was there.
    born: AtomicU32,
    /// The last sweep that met the socket alive.
    met: AtomicU64,
    value: [AtomicU64; VALUE_WORDS],
}

/// (cookie, level, option) → value.
#[repr(C, align(64))]
pub struct Options {
    entries: [Entry; OPTIONS],
    sweeps: AtomicU32,
}

/// Which sockets live, asked of the kernel, as [`super::Sweep`]: of the sockets
/// of one network namespace.
#[must_use]
pub struct OptionsSweep<'a> {
    options: &'a Options,
    number: u32,
}

impl OptionsSweep<'_> {
    /// The kernel knows a socket with this cookie.
    pub fn met(&self, cookie: u64) {
        for e in Options::probe(cookie).filter_map(|i| self.options.entries.get(i)) {
            if e.cookie.load(Acquire) == cookie {
                e.met.fetch_max(u64::from(self.number), Relaxed);
            }
        }
    }

    /// Removes the values of the sockets in `netns` that were not met.
    pub fn end(self, netns: u64) {
        for e in &self.options.entries {
            let (cookie, born) = (e.cookie.load(Acquire), e.born.load(Acquire));
            let is_gone = born != 0
                && born < self.number
                && e.met.load(Relaxed) < u64::from(self.number)
                && e.netns.load(Relaxed) == netns;
            if cookie != 0 && cookie != WRITING && is_gone {
                let _ = e.cookie.compare_exchange(cookie, 0, AcqRel, Relaxed);
            }
        }
    }
}

impl Options {
    #[cfg(test)]
    pub(super) fn new() -> Options {
        Options {
            entries: core::array::from_fn(|_| Entry {
                cookie: AtomicU64::new(0),
                name: AtomicU64::new(0),
                netns: AtomicU64::new(0),
                len: AtomicU32::new(0),
                born: AtomicU32::new(0),
                met: AtomicU64::new(0),
                value: core::array::from_fn(|_| AtomicU64::new(0)),
            }),
            sweeps: AtomicU32::new(0),
        }
    }

    fn name(level: i32, option: i32) -> u64 {
        u64::from(level as u32) << 32 | u64::from(option as u32)
    }

    /// All options of a socket lie near each other.
    fn probe(cookie: u64) -> impl Iterator<Item = usize> {
        let start = cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (0..PROBES).map(move |n| (start as usize + n) % OPTIONS)
    }

    /// Keeps a value of at most 16 bytes. `false` if it is longer or there is
    /// no room, which an [`OptionsSweep`] may make.
    pub fn set(&self, cookie: u64, netns: u64, level: i32, option: i32, value: &[u8]) -> bool {
        let name = Self::name(level, option);
        if value.len() > VALUE || cookie == 0 || cookie == WRITING {
            return false;
        }
        let slot = self.find(cookie, name).or_else(|| {
            Self::probe(cookie)
                .filter_map(|i| self.entries.get(i))
                .find(|e| {
                    e.cookie
                        .compare_exchange(0, WRITING, AcqRel, Relaxed)
                        .is_ok()
                })
        });
        let Some(e) = slot else { return false };
        e.cookie.store(WRITING, Release);
        e.born.store(0, Relaxed);
        e.met.store(0, Relaxed);
        e.name.store(name, Relaxed);
        e.netns.store(netns, Relaxed);
        e.len.store(value.len() as u32, Relaxed);
        for (word, chunk) in e.value.iter().zip(value.chunks(8)) {
            let mut b = [0; 8];
            fill(&mut b, chunk);
            word.store(u64::from_ne_bytes(b), Relaxed);
        }
        e.cookie.store(cookie, Release);
        fence(SeqCst);
        let sweeps = self.sweeps.load(Relaxed);
        e.born.store(sweeps.wrapping_add(1), Release);
        true
    }

    /// Begins to look for what is gone.
    pub fn sweep(&self) -> OptionsSweep<'_> {
        let number = self.sweeps.fetch_add(1, Relaxed).wrapping_add(2);
        fence(SeqCst);
        OptionsSweep {
            options: self,
            number,
        }
    }

    fn find(&self, cookie: u64, name: u64) -> Option<&Entry> {
        Self::probe(cookie)
            .filter_map(|i| self.entries.get(i))
            .find(|e| e.cookie.load(Acquire) == cookie && e.name.load(Relaxed) == name)
    }

    /// The value kept, and its length.
    #[must_use]
    pub fn get(&self, cookie: u64, level: i32, option: i32) -> Option<([u8; VALUE], usize)> {
        let e = self.find(cookie, Self::name(level, option))?;
        let mut value = [0; VALUE];
        for (chunk, word) in value.chunks_mut(8).zip(&e.value) {
            fill(chunk, &word.load(Relaxed).to_ne_bytes());
        }
        let len = e.len.load(Relaxed) as usize;
        (len <= VALUE).then_some((value, len))
    }

    /// Forgets everything about a socket.
    pub fn forget(&self, cookie: u64) {
        for e in Self::probe(cookie).filter_map(|i| self.entries.get(i)) {
            if e.cookie.load(Relaxed) == cookie {
                let _ = e.cookie.compare_exchange(cookie, 0, AcqRel, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_per_socket_and_option() {
        std::thread::Builder::new()
            .stack_size(16 << 20)
            .spawn(|| {
                let o = Options::new();
                assert!(o.set(9, 1, 6, 1, &[1, 0, 0, 0]));
                assert!(o.set(9, 1, 6, 1, &[2, 0, 0, 0]));
                assert!(!o.set(9, 1, 6, 2, &[0; 17]));
                let (value, len) = o.get(9, 6, 1).unwrap();
                assert_eq!(&value[..len], &[2, 0, 0, 0]);
                assert_eq!(o.get(8, 6, 1), None);
                o.forget(9);
                assert_eq!(o.get(9, 6, 1), None);
            })
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn values_of_sockets_that_are_gone_make_room() {
        std::thread::Builder::new()
            .stack_size(16 << 20)
            .spawn(|| {
                let o = std::boxed::Box::new(Options::new());
                let mut cookie = 1;
                while o.set(cookie, 1, 6, 1, &[1]) {
                    cookie += 1;
                }
                let (kept, elsewhere) = (7, 8);
                o.forget(elsewhere);
                assert!(o.set(elsewhere, 2, 6, 1, &[2]));
                let sweep = o.sweep();
                sweep.met(kept);
                let meanwhile = cookie + 1;
                o.forget(kept + 2);
                let came = o.set(meanwhile, 1, 6, 1, &[3]);
                sweep.end(1);
                assert!(o.set(cookie, 1, 6, 1, &[4]));
                assert!(o.get(kept, 6, 1).is_some() && o.get(elsewhere, 6, 1).is_some());
                assert_eq!(o.get(meanwhile, 6, 1).is_some(), came);
                assert_eq!(o.get(9, 6, 1), None);
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
