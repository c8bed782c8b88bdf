//! Options of sockets that were moved to another family: what the program set
//! and the Unix socket behind it cannot hold.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Entries of the table.
pub const OPTIONS: usize = 2048;
const PROBES: usize = 64;
const VALUE_WORDS: usize = 2;
/// Longest value kept, bytes.
const VALUE: usize = VALUE_WORDS * 8;
const WRITING: u64 = u64::MAX;

#[repr(C)]
struct Entry {
    cookie: AtomicU64,
    name: AtomicU64,
    len: AtomicU64,
    value: [AtomicU64; VALUE_WORDS],
}

/// (cookie, level, option) → value.
#[repr(C, align(64))]
pub struct Options {
    entries: [Entry; OPTIONS],
}

impl Options {
    #[cfg(test)]
    pub(super) const fn new() -> Options {
        Options {
            entries: [const {
                Entry {
                    cookie: AtomicU64::new(0),
                    name: AtomicU64::new(0),
                    len: AtomicU64::new(0),
                    value: [const { AtomicU64::new(0) }; VALUE_WORDS],
                }
            }; OPTIONS],
        }
    }

    fn name(level: i32, option: i32) -> u64 {
        u64::from(level as u32) << 32 | u64::from(option as u32)
    }

    fn probe(cookie: u64, name: u64) -> impl Iterator<Item = usize> {
        let start = (cookie ^ name).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (0..PROBES).map(move |n| (start as usize + n) % OPTIONS)
    }

    /// Keeps a value of at most 16 bytes. `false` if it is longer or there is
    /// no room.
    pub fn set(&self, cookie: u64, level: i32, option: i32, value: &[u8]) -> bool {
        let name = Self::name(level, option);
        if value.len() > VALUE || cookie == 0 || cookie == WRITING {
            return false;
        }
        let slot = self.find(cookie, name).or_else(|| {
            Self::probe(cookie, name)
                .filter_map(|i| self.entries.get(i))
                .find(|e| {
                    e.cookie
                        .compare_exchange(0, WRITING, AcqRel, Relaxed)
                        .is_ok()
                })
        });
        let Some(e) = slot else { return false };
        e.cookie.store(WRITING, Release);
        e.name.store(name, Relaxed);
        e.len.store(value.len() as u64, Relaxed);
        for (word, chunk) in e.value.iter().zip(value.chunks(8)) {
            let mut b = [0; 8];
            b[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(b), Relaxed);
        }
        e.cookie.store(cookie, Release);
        true
    }

    fn find(&self, cookie: u64, name: u64) -> Option<&Entry> {
        Self::probe(cookie, name)
            .filter_map(|i| self.entries.get(i))
            .find(|e| e.cookie.load(Acquire) == cookie && e.name.load(Relaxed) == name)
    }

    /// The value kept, and its length.
    #[must_use]
    pub fn get(&self, cookie: u64, level: i32, option: i32) -> Option<([u8; VALUE], usize)> {
        let e = self.find(cookie, Self::name(level, option))?;
        let mut value = [0; VALUE];
        for (chunk, word) in value.chunks_mut(8).zip(&e.value) {
            chunk.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        let len = e.len.load(Relaxed) as usize;
        (len <= VALUE).then_some((value, len))
    }

    /// Forgets everything about a socket.
    pub fn forget(&self, cookie: u64) {
        for e in &self.entries {
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
                assert!(o.set(9, 6, 1, &[1, 0, 0, 0]));
                assert!(o.set(9, 6, 1, &[2, 0, 0, 0]));
                assert!(!o.set(9, 6, 2, &[0; 17]));
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
}
