//! Options of sockets that were moved to another family: what the program set
//! and the Unix socket behind it cannot hold.

use super::moves::{bytes_of, store};
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// Entries of the table.
pub const OPTIONS: usize = if cfg!(loom) { 2 } else { 8192 };
const PROBES: usize = if OPTIONS < 64 { OPTIONS } else { 64 };
/// How often somebody looks again while a value is being written.
const TRIES: usize = if cfg!(loom) { 2 } else { 1024 };
/// In [`Entry::len`]: the value is being written. Above it, how often it was.
const CHANGING: u32 = 1 << 8;
const VALUE_WORDS: usize = 2;
/// Longest value kept, bytes.
const VALUE: usize = VALUE_WORDS * 8;
const WRITING: u64 = u64::MAX;

#[repr(C)]
struct Entry {
    cookie: AtomicU64,
    name: AtomicU64,
    netns: AtomicU64,
    /// The value's length, [`CHANGING`], and a count.
    len: AtomicU32,
    /// As [`super::Moves`] has it: the sweep before which the value was there.
    born: AtomicU32,
    /// The last sweep that met the socket alive.
    met: AtomicU64,
    value: [AtomicU64; VALUE_WORDS],
}

impl Entry {
    /// Marks the value as one that is being written; `false` if somebody else
    /// writes it.
    fn claim(&self) -> bool {
        let len = self.len.load(Relaxed);
        let ours = len | CHANGING;
        len != ours
            && self
                .len
                .compare_exchange(len, ours, AcqRel, Relaxed)
                .is_ok()
    }

    fn write(&self, name: u64, netns: u64, value: &[u8]) {
        let count = self.len.load(Relaxed) & !(CHANGING - 1);
        self.len.store(count | CHANGING, Relaxed);
        // A reader that sees any of what follows sees the mark or another count:
        // its fence stands before its second look.
        fence(Release);
        self.name.store(name, Relaxed);
        self.netns.store(netns, Relaxed);
        store(&self.value, value);
        let next = (count | CHANGING).wrapping_add(CHANGING);
        self.len.store(next | value.len() as u32, Release);
    }

    /// The value and its length; `None` if it was written meanwhile.
    fn read(&self) -> Option<([u8; VALUE], usize)> {
        let len = self.len.load(Acquire);
        let value = bytes_of(&self.value);
        fence(Acquire);
        let is_whole = len & CHANGING == 0 && self.len.load(Relaxed) == len;
        let len = (len & (CHANGING - 1)) as usize;
        (is_whole && len <= VALUE).then_some((value, len))
    }
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
    #[cfg(any(test, loom))]
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
        if let Some(e) = self.find(cookie, name) {
            // Whoever was killed while it wrote has left the mark behind.
            let _ = (0..TRIES).find(|_| e.claim());
            e.write(name, netns, value);
            return true;
        }
        let mut near = Self::probe(cookie).filter_map(|i| self.entries.get(i));
        let Some(e) = near.find(|e| {
            let claimed = e.cookie.compare_exchange(0, WRITING, AcqRel, Relaxed);
            claimed.is_ok()
        }) else {
            return false;
        };
        e.born.store(0, Relaxed);
        e.met.store(0, Relaxed);
        e.write(name, netns, value);
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
        let name = Self::name(level, option);
        for _ in 0..TRIES {
            let e = self.find(cookie, name)?;
            if let Some(read) = e.read()
                && e.cookie.load(Relaxed) == cookie
            {
                return Some(read);
            }
        }
        None
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

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    #[test]
    fn a_value_is_read_whole_while_it_is_set_again() {
        crate::sync::model(|| {
            let options = Arc::new(Options::new());
            assert!(options.set(9, 1, 6, 1, &[1; 16]));
            let writer = {
                let options = options.clone();
                thread::spawn(move || assert!(options.set(9, 1, 6, 1, &[2; 16])))
            };
            if let Some((value, len)) = options.get(9, 6, 1) {
                assert!(len == 16 && (value == [1; 16] || value == [2; 16]));
            }
            writer.join().unwrap();
            assert_eq!(options.get(9, 6, 1), Some(([2; 16], 16)));
        });
    }

    #[test]
    fn a_value_is_nobody_elses() {
        crate::sync::model(|| {
            let options = Arc::new(Options::new());
            assert!(options.set(9, 1, 6, 1, &[1; 8]));
            assert!(options.set(8, 1, 6, 1, &[1; 8]));
            let writer = {
                let options = options.clone();
                thread::spawn(move || {
                    options.forget(9);
                    assert!(options.set(7, 1, 6, 1, &[2; 8]));
                })
            };
            if let Some((value, len)) = options.get(9, 6, 1) {
                assert_eq!(value[..len], [1; 8]);
            }
            writer.join().unwrap();
            assert_eq!(options.get(9, 6, 1), None);
        });
    }
}

#[cfg(all(test, not(loom)))]
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
