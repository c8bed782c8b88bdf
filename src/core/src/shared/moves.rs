//! Sockets that are elsewhere than their program thinks.
//!
//! The key is the socket's cookie, so dup, fork, exec and descriptor passing
//! need no bookkeeping. Accepted children carry their listener's [`Tag`]
//! (`IP_LOCAL_PORT_RANGE`, which they inherit and which does nothing on a
//! socket that has its port) or, for a Unix listener, its name.
//!
//! Nobody tells the table that a socket was closed: a program may be killed,
//! and a descriptor may be held by several. When there is no room for an entry,
//! somebody asks the kernel for every socket that lives and removes the entries
//! of the others ([`Sweep`]).

use crate::addr::{RawAddr, STORAGE, af};
use crate::socket::SocketType;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};
use crate::text::fill;

/// Entries of the table: redirected sockets that may be alive at one time.
pub const MOVES: usize = if cfg!(loom) { 4 } else { 16384 };
const PROBES: usize = if MOVES < 64 { MOVES } else { 64 };
const ADDR_WORDS: usize = if cfg!(loom) { 1 } else { STORAGE / 8 };
/// In a key: an entry is being written. The low half is the sweep before
/// which that was begun.
const WRITING: u64 = 1 << 63;
/// Lanes of 16 bits in a word of [`Lanes`].
const PER_WORD: usize = 4;

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
    /// A Unix socket from its birth, without a name and a peer yet: `virt` and
    /// `real` are addresses of the kernel's choice.
    pub const CARRIER: u32 = 5;
    /// In a block, where several addresses of the program's are one: `virt` is
    /// the one that it knows, and `real` is empty.
    pub const NAMED: u32 = 6;
}

/// What matters for conflicts and for what the program is told, in
/// [`Moved::marks`].
pub mod mark {
    #![allow(missing_docs)]
    pub const REUSEADDR: u32 = 1;
    pub const REUSEPORT: u32 = 1 << 1;
    pub const V6ONLY: u32 = 1 << 2;
    pub const LISTENING: u32 = 1 << 3;
    /// The program set `IP_LOCAL_PORT_RANGE` itself: the socket has no tag.
    pub const NO_TAG: u32 = 1 << 4;
    /// It was bound to the device `lo` by the redirect and not by the program.
    pub const ON_LO: u32 = 1 << 5;
}

/// A moved socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// `SO_COOKIE` of the socket.
    pub cookie: u64,
    /// `SO_NETNS_COOKIE` of its network namespace, 0 where it is unknown.
    pub netns: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// Bits of [`mark`], as of the last look.
    pub marks: u32,
    /// Owner: effective uid at the move.
    pub uid: u32,
    /// Rule that moved it.
    pub rule: u32,
    /// Index of the device that the program bound it to, 0 for none.
    pub device: u32,
    /// What the program created.
    pub socket: SocketType,
    /// Where the program thinks it is.
    pub virt: RawAddr,
    /// Where it is.
    pub real: RawAddr,
}

impl Moved {
    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = HEAD + 2 * STORAGE;

    /// The entry and its tag as bytes, for another process.
    #[must_use]
    pub fn to_bytes(&self, tag: Tag) -> [u8; Self::BYTES] {
        let mut b = [0; Self::BYTES];
        let (virt, real) = (self.virt.bytes(), self.real.bytes());
        let words = [
            tag.0,
            self.kind,
            self.marks,
            self.uid,
            self.rule,
            self.device,
        ];
        let halves = [self.socket.domain, self.socket.ty, self.socket.protocol];
        let head = [self.cookie, self.netns]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .chain(words.into_iter().flat_map(u32::to_le_bytes))
            .chain(halves.into_iter().flat_map(u16::to_le_bytes))
            .chain([virt.len() as u8, real.len() as u8]);
        for (to, from) in b.iter_mut().zip(head) {
            *to = from;
        }
        for (at, bytes) in [(HEAD, virt), (HEAD + STORAGE, real)] {
            if let Some(to) = b.get_mut(at..) {
                fill(to, bytes);
            }
        }
        b
    }

    /// What [`Self::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Option<(Moved, Tag)> {
        let long = |at: usize| Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?));
        let addr = |at: usize, len: u8| RawAddr::new(b.get(at..at + usize::from(len))?);
        let moved = Moved {
            cookie: long(0)?,
            netns: long(8)?,
            kind: word(20)?,
            marks: word(24)?,
            uid: word(28)?,
            rule: word(32)?,
            device: word(36)?,
            socket: SocketType {
                domain: half(40)?,
                ty: half(42)?,
                protocol: half(44)?,
            },
            virt: addr(HEAD, b[46])?,
            real: addr(HEAD + STORAGE, b[47])?,
        };
        Some((moved, Tag(word(16)?)))
    }
}

/// Bytes of [`Moved::to_bytes`] before the addresses.
const HEAD: usize = 48;

/// Entry and generation in 32 bits that the kernel takes for a port range:
/// low half 1..=32767, high half 32768..=65535, so low ≤ high always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(pub u32);

const _: () = assert!(MOVES <= 0x7fff);

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
    device: AtomicU32,
    /// The sweep before which the entry was there; 0 while that is not known,
    /// and then no sweep is about it.
    born: AtomicU32,
    /// The last sweep that met the socket alive.
    met: AtomicU32,
    spare: AtomicU32,
    socket: AtomicU64,
    netns: AtomicU64,
    virt: [AtomicU64; ADDR_WORDS],
    real: [AtomicU64; ADDR_WORDS],
}

impl Entry {
    #[cfg(any(test, loom))]
    fn new() -> Entry {
        Entry {
            generation: AtomicU32::new(0),
            kind: AtomicU32::new(0),
            marks: AtomicU32::new(0),
            uid: AtomicU32::new(0),
            rule: AtomicU32::new(0),
            lens: AtomicU32::new(0),
            device: AtomicU32::new(0),
            born: AtomicU32::new(0),
            met: AtomicU32::new(0),
            spare: AtomicU32::new(0),
            socket: AtomicU64::new(0),
            netns: AtomicU64::new(0),
            virt: core::array::from_fn(|_| AtomicU64::new(0)),
            real: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    fn fill(&self, moved: &Moved) {
        // A reader that sees any of what follows sees that the generation is
        // another one: its fence stands before its second look at it.
        fence(Release);
        self.kind.store(moved.kind, Relaxed);
        self.marks.store(moved.marks, Relaxed);
        self.uid.store(moved.uid, Relaxed);
        self.rule.store(moved.rule, Relaxed);
        self.device.store(moved.device, Relaxed);
        self.netns.store(moved.netns, Relaxed);
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

/// A hint of 16 bits for each entry: where to look for an address without
/// reading every entry.
#[repr(C, align(64))]
struct Lanes {
    words: [AtomicU64; MOVES / PER_WORD],
}

impl Lanes {
    #[cfg(any(test, loom))]
    fn new() -> Lanes {
        Lanes {
            words: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    fn set(&self, i: usize, hint: u16) {
        let Some(word) = self.words.get(i / PER_WORD) else {
            return;
        };
        let shift = i % PER_WORD * 16;
        let _ = word.fetch_update(Relaxed, Relaxed, |w| {
            Some(w & !(0xffff << shift) | u64::from(hint) << shift)
        });
    }

    /// The entries that may have this hint.
    fn with(&self, hint: u16) -> impl Iterator<Item = usize> {
        const ONES: u64 = 0x0001_0001_0001_0001;
        let pattern = u64::from(hint) * ONES;
        let words = self.words.iter().enumerate();
        let hits = words.filter_map(move |(n, word)| {
            let differs = word.load(Relaxed) ^ pattern;
            // The top bit of each lane that is 0, and perhaps of one above it.
            let hits = differs.wrapping_sub(ONES) & !differs & (ONES << 15);
            (hits != 0).then_some((n, hits))
        });
        hits.flat_map(|(n, hits)| {
            (0..PER_WORD)
                .filter(move |lane| hits >> (lane * 16 + 15) & 1 != 0)
                .map(move |lane| n * PER_WORD + lane)
        })
    }
}

/// The hint of an address: its port, or a few bits of its name. Never 0.
fn hint(addr: &RawAddr) -> u16 {
    let port = match addr.read().and_then(|a| a.port()) {
        Some(port) => port,
        None => addr
            .bytes()
            .iter()
            .fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(*b))),
    };
    ((port ^ port >> 16) as u16).max(1)
}

/// The table: keys apart from entries, so that a look-up touches few lines.
#[repr(C, align(64))]
pub struct Moves {
    keys: [AtomicU64; MOVES],
    virt: Lanes,
    real: Lanes,
    /// How many sweeps were begun.
    sweeps: AtomicU32,
    entries: [Entry; MOVES],
}

/// Who is alive, asked of the kernel for the whole table.
///
/// Begun before the kernel is asked; then [`Sweep::met`] for each socket that
/// it knows, then [`Sweep::end`]. An entry that was there when the sweep began
/// and was not met is of a socket that is gone, if it is one that the kernel
/// was asked about. Several sweeps may go on at a time.
#[must_use]
pub struct Sweep<'a> {
    moves: &'a Moves,
    number: u32,
}

impl Sweep<'_> {
    /// The kernel knows a socket with this cookie.
    pub fn met(&self, cookie: u64) {
        for key in [cookie, cookie | PEER_KEY, cookie | NAME_KEY] {
            let entry = self
                .moves
                .index(key)
                .and_then(|i| self.moves.entries.get(i));
            if let Some(e) = entry {
                e.met.fetch_max(self.number, Relaxed);
            }
        }
    }

    /// Removes the entries that were not met, of those that `is_gone` takes: it
    /// is asked about no other, and told how many sweeps an entry has seen.
    pub fn end(self, mut is_gone: impl FnMut(&Moved, u32) -> bool) {
        for (i, (key, e)) in self.moves.keys.iter().zip(&self.moves.entries).enumerate() {
            let cookie = key.load(Acquire);
            if cookie & WRITING != 0 {
                // Whoever began to write it was killed, or has slept over two
                // sweeps.
                if (cookie as u32).wrapping_add(2) < self.number {
                    let _ = key.compare_exchange(cookie, 0, AcqRel, Relaxed);
                }
                continue;
            }
            if cookie == 0 {
                continue;
            }
            let born = e.born.load(Acquire);
            if born == 0 || born >= self.number || e.met.load(Relaxed) >= self.number {
                continue;
            }
            let age = self.number.wrapping_sub(born);
            if self.moves.read(i, cookie).is_some_and(|m| is_gone(&m, age)) {
                let _ = key.compare_exchange(cookie, 0, AcqRel, Relaxed);
            }
        }
    }
}

/// Marks the key of an entry that is about the peer of a socket, not about
/// its own name.
pub const PEER_KEY: u64 = 1 << 62;
/// In the key of an entry that is as what a socket of a block is known.
pub const NAME_KEY: u64 = 1 << 61;

impl Moves {
    #[cfg(any(test, loom))]
    pub(super) fn new() -> Moves {
        Moves {
            keys: core::array::from_fn(|_| AtomicU64::new(0)),
            virt: Lanes::new(),
            real: Lanes::new(),
            sweeps: AtomicU32::new(0),
            entries: core::array::from_fn(|_| Entry::new()),
        }
    }

    fn probe(cookie: u64) -> impl Iterator<Item = usize> {
        let start = (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        (0..PROBES).map(move |n| (start + n) % MOVES)
    }

    /// Is it the key of a socket?
    fn is_cookie(key: u64) -> bool {
        key != 0 && key & WRITING == 0
    }

    /// Adds or replaces the entry of `moved.cookie`. `None` if there is no
    /// room near its place: the caller can make some with a [`Sweep`].
    pub fn insert(&self, moved: &Moved) -> Option<Tag> {
        if !Self::is_cookie(moved.cookie) {
            return None;
        }
        self.remove(moved.cookie);
        let writing = WRITING | u64::from(self.sweeps.load(Relaxed));
        for i in Self::probe(moved.cookie) {
            let (key, e) = (self.keys.get(i)?, self.entries.get(i)?);
            if key.compare_exchange(0, writing, AcqRel, Relaxed).is_err() {
                continue;
            }
            let generation = e.generation.fetch_add(1, AcqRel).wrapping_add(1);
            return self
                .publish(i, writing, moved)
                .then(|| Tag::new(i, generation));
        }
        None
    }

    /// Puts back an entry that another process of a plain preload had, in the
    /// same place and with the same tag: accepted sockets carry it.
    pub fn restore(&self, moved: &Moved, tag: Tag) -> bool {
        let generation = (tag.0 >> 16) & 0x7fff;
        let Some((i, key, e)) = tag
            .index()
            .and_then(|i| Some((i, self.keys.get(i)?, self.entries.get(i)?)))
        else {
            return false;
        };
        if !Self::is_cookie(moved.cookie)
            || key.compare_exchange(0, WRITING, AcqRel, Relaxed).is_err()
        {
            return false;
        }
        e.generation.store(generation, Release);
        self.publish(i, WRITING, moved)
    }

    /// Fills a slot that was claimed and makes it to be found.
    fn publish(&self, i: usize, writing: u64, moved: &Moved) -> bool {
        let (Some(key), Some(e)) = (self.keys.get(i), self.entries.get(i)) else {
            return false;
        };
        e.born.store(0, Relaxed);
        e.met.store(0, Relaxed);
        e.fill(moved);
        let is_name = moved.kind != kind::CONNECT;
        self.virt
            .set(i, if is_name { hint(&moved.virt) } else { 0 });
        self.real
            .set(i, if is_name { hint(&moved.real) } else { 0 });
        let published = key
            .compare_exchange(writing, moved.cookie, AcqRel, Relaxed)
            .is_ok();
        // A sweep that this does not see looks for the socket after the key
        // was there.
        fence(SeqCst);
        e.born
            .store(self.sweeps.load(Relaxed).wrapping_add(1), Release);
        published
    }

    /// Begins to look for what is gone.
    pub fn sweep(&self) -> Sweep<'_> {
        let number = self.sweeps.fetch_add(1, Relaxed).wrapping_add(2);
        fence(SeqCst);
        Sweep {
            moves: self,
            number,
        }
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

    /// Has a socket an entry?
    #[must_use]
    pub fn has(&self, cookie: u64) -> bool {
        self.index(cookie).is_some()
    }

    /// The entry of a socket.
    #[must_use]
    pub fn find(&self, cookie: u64) -> Option<Moved> {
        let i = self.index(cookie)?;
        self.read(i, cookie)
    }

    fn index(&self, cookie: u64) -> Option<usize> {
        if !Self::is_cookie(cookie) {
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
        let moved = self.read(i, self.keys.get(i)?.load(Acquire))?;
        // Somebody else may have the place since the tag was compared.
        let is_same = self.entries.get(i)?.generation.load(Relaxed) == generation;
        is_same.then_some(moved)
    }

    /// The tag of a socket's entry.
    #[must_use]
    pub fn tag(&self, cookie: u64) -> Option<Tag> {
        let i = self.index(cookie)?;
        let generation = self.entries.get(i)?.generation.load(Acquire);
        let is_same = self.keys.get(i)?.load(Relaxed) == cookie;
        is_same.then_some(Tag::new(i, generation))
    }

    #[inline]
    fn read(&self, i: usize, cookie: u64) -> Option<Moved> {
        if !Self::is_cookie(cookie) {
            return None;
        }
        let e = self.entries.get(i)?;
        let generation = e.generation.load(Acquire);
        let s = e.socket.load(Relaxed);
        let lens = e.lens.load(Relaxed);
        let moved = Moved {
            cookie,
            netns: e.netns.load(Relaxed),
            kind: e.kind.load(Relaxed),
            marks: e.marks.load(Relaxed),
            uid: e.uid.load(Relaxed),
            rule: e.rule.load(Relaxed),
            device: e.device.load(Relaxed),
            socket: unpacked(s),
            virt: load(&e.virt, lens as u8)?,
            real: load(&e.real, (lens >> 8) as u8)?,
        };
        fence(Acquire);
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

    /// What each socket was made as, and whether it is a Unix socket now.
    pub fn kinds(&self) -> impl Iterator<Item = (SocketType, bool)> {
        let taken = |(key, e): (&AtomicU64, &'_ Entry)| {
            let (s, lens) = (e.socket.load(Relaxed), e.lens.load(Relaxed));
            let family = e.real.first().map_or(0, |w| w.load(Relaxed)).to_ne_bytes();
            let is_unix = lens >> 8 >= 2 && u16::from_ne_bytes([family[0], family[1]]) == af::UNIX;
            Self::is_cookie(key.load(Acquire)).then_some((unpacked(s), is_unix))
        };
        self.keys.iter().zip(&self.entries).filter_map(taken)
    }

    /// The cookie of the first entry that `is_it` takes, of the sockets whose
    /// program thinks that they are at a port of this address, or that really
    /// are at one of the other. One entry is on the stack at a time.
    pub fn first_at(
        &self,
        virt: Option<&RawAddr>,
        real: Option<&RawAddr>,
        mut is_it: impl FnMut(&Moved) -> bool,
    ) -> Option<u64> {
        for (index, at) in [(&self.virt, virt), (&self.real, real)] {
            let Some(at) = at else { continue };
            for i in index.with(hint(at)) {
                let cookie = self.keys.get(i)?.load(Acquire);
                if let Some(moved) = self.read(i, cookie)
                    && is_it(&moved)
                {
                    return Some(cookie);
                }
            }
        }
        None
    }
}

fn unpacked(s: u64) -> SocketType {
    SocketType {
        domain: s as u16,
        ty: (s >> 16) as u16,
        protocol: (s >> 32) as u16,
    }
}

/// Writes bytes into words, a reader of which finds out by other means whether
/// they are whole.
pub(super) fn store(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut b = [0; 8];
        fill(&mut b, chunk);
        word.store(u64::from_ne_bytes(b), Relaxed);
    }
}

/// The bytes of words.
pub(super) fn bytes_of<const N: usize>(words: &[AtomicU64]) -> [u8; N] {
    let mut bytes = [0; N];
    for (chunk, word) in bytes.chunks_mut(8).zip(words) {
        fill(chunk, &word.load(Relaxed).to_ne_bytes());
    }
    bytes
}

fn load(words: &[AtomicU64], len: u8) -> Option<RawAddr> {
    let bytes: [u8; STORAGE] = bytes_of(words);
    RawAddr::new(bytes.get(..usize::from(len))?)
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(loom)))]
mod tests;
