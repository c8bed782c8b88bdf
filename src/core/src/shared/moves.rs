//! Sockets that are elsewhere than their program thinks.
//!
//! The key is the socket's cookie, so dup, fork, exec and descriptor passing
//! need no bookkeeping. Accepted children carry their listener's [`Tag`]
//! (`IP_LOCAL_PORT_RANGE`, which they inherit and which does nothing on a
//! socket that has its port) or, for a Unix listener, its name.

use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::addr::{RawAddr, STORAGE};
use crate::socket::SocketType;

/// Entries of the table: moved and hidden sockets that may be alive at one time.
pub const MOVES: usize = 4096;
const PROBES: usize = 64;
const ADDR_WORDS: usize = STORAGE / 8;
/// In a key: an entry is being written.
const WRITING: u64 = u64::MAX;

/// How a socket was placed elsewhere, in [`Moved::kind`].
pub mod kind {
    #![allow(missing_docs)]
    /// Another address of the same family.
    pub const SAME_FAMILY: u32 = 1;
    /// Replaced by a Unix socket.
    pub const UNIX: u32 = 2;
    /// Placed where nobody can reach it.
    pub const HIDDEN: u32 = 3;
    /// Connected to another address than asked: `virt` and `real` are peers.
    pub const CONNECT: u32 = 4;
}

/// What matters for conflicts, in [`Moved::marks`].
pub mod mark {
    #![allow(missing_docs)]
    pub const REUSEADDR: u32 = 1;
    pub const REUSEPORT: u32 = 1 << 1;
    pub const V6ONLY: u32 = 1 << 2;
    pub const LISTENING: u32 = 1 << 3;
    /// The program set `IP_LOCAL_PORT_RANGE` itself: the socket has no tag.
    pub const NO_TAG: u32 = 1 << 4;
}

/// A moved socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// `SO_COOKIE` of the socket.
    pub cookie: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// Bits of [`mark`], as of the last look.
    pub marks: u32,
    /// Owner: effective uid at the move.
    pub uid: u32,
    /// Rule that moved it.
    pub rule: u32,
    /// What the program created.
    pub socket: SocketType,
    /// Where the program thinks it is.
    pub virt: RawAddr,
    /// Where it is.
    pub real: RawAddr,
}

impl Moved {
    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = 8 + 4 * 5 + 6 + 2 + 2 * STORAGE;

    /// The entry and its tag as bytes, for another process.
    #[must_use]
    pub fn to_bytes(&self, tag: Tag) -> [u8; Self::BYTES] {
        let mut b = [0; Self::BYTES];
        b[..8].copy_from_slice(&self.cookie.to_le_bytes());
        let words = [tag.0, self.kind, self.marks, self.uid, self.rule];
        for (to, word) in b[8..28].chunks_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let halves = [self.socket.domain, self.socket.ty, self.socket.protocol];
        for (to, half) in b[28..34].chunks_mut(2).zip(halves) {
            to.copy_from_slice(&half.to_le_bytes());
        }
        let (virt, real) = (self.virt.bytes(), self.real.bytes());
        b[34] = virt.len() as u8;
        b[35] = real.len() as u8;
        b[36..36 + virt.len()].copy_from_slice(virt);
        b[36 + STORAGE..36 + STORAGE + real.len()].copy_from_slice(real);
        b
    }

    /// What [`Self::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Option<(Moved, Tag)> {
        let word = |at: usize| Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?));
        let addr = |at: usize, len: u8| RawAddr::new(b.get(at..at + usize::from(len))?);
        let moved = Moved {
            cookie: u64::from_le_bytes(b.get(..8)?.try_into().ok()?),
            kind: word(12)?,
            marks: word(16)?,
            uid: word(20)?,
            rule: word(24)?,
            socket: SocketType {
                domain: half(28)?,
                ty: half(30)?,
                protocol: half(32)?,
            },
            virt: addr(36, b[34])?,
            real: addr(36 + STORAGE, b[35])?,
        };
        Some((moved, Tag(word(8)?)))
    }
}

/// Entry and generation in 32 bits that the kernel takes for a port range:
/// low half 1..=32767, high half 32768..=65535, so low ≤ high always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(pub u32);

impl Tag {
    fn new(index: usize, generation: u32) -> Tag {
        Tag((index as u32 + 1) & 0x7fff | (0x8000 | generation & 0x7fff) << 16)
    }
    fn index(self) -> Option<usize> {
        (self.0 as usize & 0x7fff).checked_sub(1)
    }
}

#[repr(C, align(64))]
struct Entry {
    generation: AtomicU32,
    kind: AtomicU32,
    marks: AtomicU32,
    uid: AtomicU32,
    rule: AtomicU32,
    lens: AtomicU32,
    socket: AtomicU64,
    spare: [AtomicU64; 4],
    virt: [AtomicU64; ADDR_WORDS],
    real: [AtomicU64; ADDR_WORDS],
}

impl Entry {
    fn fill(&self, moved: &Moved) {
        self.kind.store(moved.kind, Relaxed);
        self.marks.store(moved.marks, Relaxed);
        self.uid.store(moved.uid, Relaxed);
        self.rule.store(moved.rule, Relaxed);
        let s = moved.socket;
        self.socket.store(
            u64::from(s.domain) | u64::from(s.ty) << 16 | u64::from(s.protocol) << 32,
            Relaxed,
        );
        let (virt, real) = (moved.virt.bytes(), moved.real.bytes());
        self.lens
            .store(virt.len() as u32 | (real.len() as u32) << 8, Relaxed);
        store(&self.virt, virt);
        store(&self.real, real);
    }
}

/// The table: keys apart from entries, so that a look-up touches few lines.
#[repr(C, align(64))]
pub struct Moves {
    keys: [AtomicU64; MOVES],
    entries: [Entry; MOVES],
}

impl Moves {
    #[cfg(test)]
    pub(super) const fn new() -> Moves {
        Moves {
            keys: [const { AtomicU64::new(0) }; MOVES],
            entries: [const {
                Entry {
                    generation: AtomicU32::new(0),
                    kind: AtomicU32::new(0),
                    marks: AtomicU32::new(0),
                    uid: AtomicU32::new(0),
                    rule: AtomicU32::new(0),
                    lens: AtomicU32::new(0),
                    socket: AtomicU64::new(0),
                    spare: [const { AtomicU64::new(0) }; 4],
                    virt: [const { AtomicU64::new(0) }; ADDR_WORDS],
                    real: [const { AtomicU64::new(0) }; ADDR_WORDS],
                }
            }; MOVES],
        }
    }

    fn probe(cookie: u64) -> impl Iterator<Item = usize> {
        let start = (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        (0..PROBES).map(move |n| (start + n) % MOVES)
    }

    /// Adds or replaces the entry of `moved.cookie`. `None` if there is no
    /// room near its place: the caller can [`Self::victims`] and try again.
    pub fn insert(&self, moved: &Moved) -> Option<Tag> {
        if moved.cookie == 0 || moved.cookie == WRITING {
            return None;
        }
        self.remove(moved.cookie);
        for i in Self::probe(moved.cookie) {
            let (key, e) = (self.keys.get(i)?, self.entries.get(i)?);
            if key.compare_exchange(0, WRITING, AcqRel, Relaxed).is_err() {
                continue;
            }
            let generation = e.generation.fetch_add(1, AcqRel).wrapping_add(1);
            e.fill(moved);
            key.store(moved.cookie, Release);
            return Some(Tag::new(i, generation));
        }
        None
    }

    /// Puts back an entry that another process of a plain preload had, in the
    /// same place and with the same tag: accepted sockets carry it.
    pub fn restore(&self, moved: &Moved, tag: Tag) -> bool {
        let generation = (tag.0 >> 16) & 0x7fff;
        let Some((key, e)) = tag
            .index()
            .and_then(|i| Some((self.keys.get(i)?, self.entries.get(i)?)))
        else {
            return false;
        };
        if key.compare_exchange(0, WRITING, AcqRel, Relaxed).is_err() {
            return false;
        }
        e.generation.store(generation, Release);
        e.fill(moved);
        key.store(moved.cookie, Release);
        true
    }

    /// Is there room for an entry of `cookie`?
    #[must_use]
    pub fn has_room(&self, cookie: u64) -> bool {
        Self::probe(cookie).any(|i| {
            self.keys
                .get(i)
                .is_some_and(|k| [0, cookie].contains(&k.load(Acquire)))
        })
    }

    /// The entry of a socket.
    #[must_use]
    pub fn find(&self, cookie: u64) -> Option<Moved> {
        let i = self.index(cookie)?;
        self.read(i, cookie)
    }

    fn index(&self, cookie: u64) -> Option<usize> {
        if cookie == 0 || cookie == WRITING {
            return None;
        }
        Self::probe(cookie).find(|i| self.keys.get(*i).is_some_and(|k| k.load(Acquire) == cookie))
    }

    /// The entry that a tag names, if it is still the same one.
    #[must_use]
    pub fn by_tag(&self, tag: Tag) -> Option<Moved> {
        let i = tag.index()?;
        let generation = self.entries.get(i)?.generation.load(Acquire);
        if Tag::new(i, generation) != tag {
            return None;
        }
        self.read(i, self.keys.get(i)?.load(Acquire))
    }

    /// The tag of a socket's entry.
    #[must_use]
    pub fn tag(&self, cookie: u64) -> Option<Tag> {
        let i = self.index(cookie)?;
        Some(Tag::new(i, self.entries.get(i)?.generation.load(Acquire)))
    }

    #[inline]
    fn read(&self, i: usize, cookie: u64) -> Option<Moved> {
        if cookie == 0 || cookie == WRITING {
            return None;
        }
        let e = self.entries.get(i)?;
        let generation = e.generation.load(Acquire);
        let s = e.socket.load(Relaxed);
        let lens = e.lens.load(Relaxed);
        let moved = Moved {
            cookie,
            kind: e.kind.load(Relaxed),
            marks: e.marks.load(Relaxed),
            uid: e.uid.load(Relaxed),
            rule: e.rule.load(Relaxed),
            socket: SocketType {
                domain: s as u16,
                ty: (s >> 16) as u16,
                protocol: (s >> 32) as u16,
            },
            virt: load(&e.virt, lens as u8)?,
            real: load(&e.real, (lens >> 8) as u8)?,
        };
        core::sync::atomic::fence(Acquire);
        let same =
            e.generation.load(Relaxed) == generation && self.keys.get(i)?.load(Relaxed) == cookie;
        same.then_some(moved)
    }

    /// Forgets a socket.
    pub fn remove(&self, cookie: u64) {
        if let Some(key) = self.index(cookie).and_then(|i| self.keys.get(i)) {
            let _ = key.compare_exchange(cookie, 0, AcqRel, Relaxed);
        }
    }

    /// Sets the bits of `on` and clears those of `off` in a socket's marks.
    pub fn set_marks(&self, cookie: u64, on: u32, off: u32) {
        if let Some(e) = self.index(cookie).and_then(|i| self.entries.get(i)) {
            let _ = e
                .marks
                .fetch_update(Relaxed, Relaxed, |m| Some(m & !off | on));
        }
    }

    /// Every entry, in no order. Takes one pass over the keys.
    pub fn iter(&self) -> impl Iterator<Item = Moved> {
        self.keys.iter().enumerate().filter_map(|(i, key)| {
            let cookie = key.load(Acquire);
            self.read(i, cookie)
        })
    }

    /// The cookie of the first entry that `is_it` takes. As [`Self::iter`], with
    /// one entry on the stack at a time.
    pub fn first(&self, mut is_it: impl FnMut(&Moved) -> bool) -> Option<u64> {
        for (i, key) in self.keys.iter().enumerate() {
            let cookie = key.load(Acquire);
            if self.read(i, cookie).as_ref().is_some_and(&mut is_it) {
                return Some(cookie);
            }
        }
        None
    }

    /// The entries that stand where `cookie` could: what to look through for
    /// dead ones when [`Self::insert`] found no room.
    pub fn victims(&self, cookie: u64) -> impl Iterator<Item = Moved> {
        Self::probe(cookie).filter_map(|i| self.read(i, self.keys.get(i)?.load(Acquire)))
    }
}

fn store(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut b = [0; 8];
        b[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(b), Relaxed);
    }
}

fn load(words: &[AtomicU64], len: u8) -> Option<RawAddr> {
    let mut bytes = [0; STORAGE];
    for (chunk, word) in bytes.chunks_mut(8).zip(words) {
        chunk.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
    }
    RawAddr::new(bytes.get(..usize::from(len))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(cookie: u64) -> Moved {
        Moved {
            cookie,
            kind: kind::SAME_FAMILY,
            marks: 0,
            uid: 0,
            rule: 1,
            socket: SocketType::created(2, 1, 0),
            virt: RawAddr::new(&[1; 16]).unwrap(),
            real: RawAddr::new(&[2; 110]).unwrap(),
        }
    }

    fn with_table(f: impl FnOnce(&Moves) + Send + 'static) {
        std::thread::Builder::new()
            .stack_size(64 << 20)
            .spawn(|| f(&std::boxed::Box::new(Moves::new())))
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn found_by_cookie_and_by_tag_until_removed() {
        with_table(|t| {
            let tag = t.insert(&moved(5)).unwrap();
            assert_eq!(t.find(5), Some(moved(5)));
            assert_eq!(t.by_tag(tag), Some(moved(5)));
            assert_eq!(t.tag(5), Some(tag));
            t.set_marks(5, mark::LISTENING | mark::V6ONLY, 0);
            t.set_marks(5, 0, mark::V6ONLY);
            assert_eq!(t.find(5).unwrap().marks, mark::LISTENING);
            t.remove(5);
            assert_eq!(t.find(5), None);
            assert_eq!(t.by_tag(tag), None);
        });
    }

    #[test]
    fn an_entry_crosses_to_another_table_with_its_tag() {
        with_table(|old| {
            let tag = old.insert(&moved(5)).unwrap();
            let bytes = old.find(5).unwrap().to_bytes(tag);
            with_table(move |new| {
                let (entry, tag) = Moved::from_bytes(&bytes).unwrap();
                assert!(new.restore(&entry, tag));
                assert_eq!(new.find(5), Some(moved(5)));
                assert_eq!(new.by_tag(tag), Some(moved(5)));
                assert!(!new.restore(&entry, tag));
            });
        });
    }

    #[test]
    fn an_old_tag_does_not_name_a_new_socket_in_the_same_place() {
        with_table(|t| {
            let old = t.insert(&moved(5)).unwrap();
            let new = t.insert(&moved(5)).unwrap();
            assert_ne!(old, new);
            assert_eq!(t.by_tag(old), None);
        });
    }

    #[test]
    fn a_full_neighbourhood_is_said_and_can_be_looked_through() {
        with_table(|t| {
            let mut n = 1;
            while t.insert(&moved(n)).is_some() {
                n += 1;
            }
            assert!(n > MOVES as u64 / 2, "{n}");
            assert_eq!(t.victims(n).count(), PROBES);
        });
    }

    #[test]
    fn tags_are_port_ranges_that_the_kernel_takes() {
        for index in [0, 1, MOVES - 1] {
            for generation in [0, 1, 0x7fff, 0x8000, u32::MAX] {
                let tag = Tag::new(index, generation);
                assert_eq!(tag.index(), Some(index));
                assert!(tag.0 & 0xffff != 0 && (tag.0 & 0xffff) <= tag.0 >> 16);
            }
        }
    }
}
