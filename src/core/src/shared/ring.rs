//! Decisions on their way to the log: many writers, one reader.
//!
//! A writer claims a slot with one compare-and-swap of a word that holds lap,
//! owner and state together, so no claim is ever anonymous. Then it writes the
//! record and marks the slot ready. Nobody waits for anybody:
//!
//! * a writer who finds a slot still claimed from an earlier lap walks past it;
//! * the reader passes over a claimed slot, remembers it, and takes it when it
//!   gets ready, or gives it up when its owner is dead (the record is counted
//!   as lost).
//!
//! `tail` is a hint that every writer helps to move on; `head` is what the
//! reader publishes of its own position. The reader trusts neither: a program
//! can scribble on all of this, and what no writer can have left is repaired
//! ([`Popped::Repaired`]) and costs records, not the reader.

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::record::{self, Record, WORDS};

/// Slots of the ring.
pub const SLOTS: u64 = if cfg!(loom) { 2 } else { 4096 };
/// Slots that only refusals and moves may use.
pub const RESERVED: u64 = SLOTS / 8;

const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const READY: u64 = 2;
/// state: 2 bits, owner: 20 bits, lap: the rest.
const OWNER_SHIFT: u32 = 2;
const OWNER_MASK: u64 = (1 << 20) - 1;
const LAP_SHIFT: u32 = 22;

const fn word(lap: u64, owner: u64, state: u64) -> u64 {
    lap << LAP_SHIFT | (owner & OWNER_MASK) << OWNER_SHIFT | state
}
const fn lap(word: u64) -> u64 {
    word >> LAP_SHIFT
}
const fn owner(word: u64) -> u32 {
    ((word >> OWNER_SHIFT) & OWNER_MASK) as u32
}
const fn state(word: u64) -> u64 {
    word & 3
}

#[repr(C, align(64))]
struct Line(AtomicU64);

/// The writers' hint, and beside it, where each writer looks anyway, what they are
/// asked for.
#[repr(C, align(64))]
struct Tail {
    at: AtomicU64,
    awaited: AtomicU64,
}

/// A claim and its record, side by side: a short record is one cache line, and
/// no record of an IP address that was granted is more than two.
#[repr(C, align(128))]
struct Slot {
    claim: AtomicU64,
    data: [AtomicU64; SHORT],
}

/// Words of a record that stand beside its claim; the rest is elsewhere, so
/// that the slots lie on few pages.
const SHORT: usize = 15;

/// The ring: positions count up for ever, a position's slot is it modulo [`SLOTS`].
#[repr(C, align(64))]
pub struct Ring {
    tail: Tail,
    head: Line,
    slots: [Slot; SLOTS as usize],
    rest: [[AtomicU64; WORDS - SHORT]; SLOTS as usize],
}

/// What came of a [`Ring::push`] or [`Claim::publish`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Push {
    /// It is in the ring, at this position.
    Done(u64),
    /// No room: the reader is behind.
    Full,
}

impl Ring {
    #[cfg(all(test, not(loom)))]
    pub(super) const fn new() -> Ring {
        Ring {
            tail: Tail {
                at: AtomicU64::new(0),
                awaited: AtomicU64::new(0),
            },
            head: Line(AtomicU64::new(0)),
            slots: [const {
                Slot {
                    claim: AtomicU64::new(0),
                    data: [const { AtomicU64::new(0) }; SHORT],
                }
            }; SLOTS as usize],
            rest: [const { [const { AtomicU64::new(0) }; WORDS - SHORT] }; SLOTS as usize],
        }
    }

    #[inline]
    fn slot(&self, position: u64) -> Option<&Slot> {
        self.slots.get((position % SLOTS) as usize)
    }

    /// Word `i` of a record that is longer than [`SHORT`].
    fn rest(&self, position: u64, i: usize) -> Option<&AtomicU64> {
        let rest = self.rest.get((position % SLOTS) as usize)?;
        rest.get(i.checked_sub(SHORT)?)
    }

    /// The words of the record at `position`, zeros behind them.
    fn take(&self, position: u64, slot: &Slot) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        let short = slot.data.iter().map(|word| word.load(Relaxed));
        for (to, word) in words.iter_mut().zip(short) {
            *to = word;
        }
        let len = words.first_chunk().map_or(0, record::len_of);
        for (i, to) in words.iter_mut().enumerate().take(len).skip(SHORT) {
            *to = self.rest(position, i).map_or(0, |word| word.load(Relaxed));
        }
        // What an earlier record left behind this one is none of it.
        for to in words.iter_mut().skip(len) {
            *to = 0;
        }
        words
    }

    /// Puts a record in: its words, at most [`WORDS`]. `owner` is the writer's
    /// slot in the process table, `important` may use the reserved room.
    pub fn push(&self, owner: u32, words: &[u64], important: bool) -> Push {
        let Some(claim) = self.claim(owner, important) else {
            return Push::Full;
        };
        for (i, word) in words.iter().enumerate() {
            claim.put(i, *word);
        }
        claim.publish()
    }

    /// Puts a record in, as [`Ring::push`] does its words.
    pub fn push_record(&self, record: &Record, important: bool) -> Push {
        let Some(claim) = self.claim(record.process, important) else {
            return Push::Full;
        };
        record.each_word(|i, word| claim.put(i, word));
        claim.publish()
    }

    /// Claims a slot for a record; `None` if there is no room. Whoever claims
    /// one should write the record at once.
    #[inline]
    pub fn claim(&self, owner: u32, important: bool) -> Option<Claim<'_>> {
        let room = if important { SLOTS } else { SLOTS - RESERVED };
        let h = self.head.0.load(Acquire);
        // Acquired, because this writer hands the hint on: a reader that sees its
        // tail must find every slot before it claimed.
        let mut t = self.tail.at.load(Acquire);
        if t.wrapping_sub(h) > u64::MAX / 2 {
            // The hint is behind the reader.
            t = h;
        }
        // Each turn either wins a slot or goes one on; the bound is only there
        // for a state that somebody scribbled on.
        for _ in 0..2 * SLOTS {
            if t.wrapping_sub(h) >= room {
                return None;
            }
            let slot = self.slot(t)?;
            let free = word(t / SLOTS, 0, FREE);
            let mine = word(t / SLOTS, u64::from(owner), CLAIMED);
            // Looked at first: a slot that is not free is the common case
            // where another writer was faster.
            let won = state(slot.claim.load(Relaxed)) == FREE
                && slot
                    .claim
                    .compare_exchange(free, mine, Acquire, Relaxed)
                    .is_ok();
            if won {
                // A hint for the next writer. A store that comes late may set
                // it back; the next writer walks on from there.
                // Released, so that nobody sees it before the claim.
                self.tail.at.store(t.wrapping_add(1), Release);
                return Some(Claim {
                    ring: self,
                    slot,
                    position: t,
                    mine,
                });
            }
            t = t.wrapping_add(1);
        }
        None
    }

    /// Does somebody wait for what a record will say? Then each writer rings the
    /// reader's bell, and a granted listen(2) is recorded too.
    #[must_use]
    #[inline]
    pub fn is_awaited(&self) -> bool {
        self.tail.awaited.load(Relaxed) != 0
    }

    /// So many wait from now on.
    pub fn set_awaited(&self, count: u64) {
        self.tail.awaited.store(count, Release);
    }

    /// Where the next record is likely to go, for a writer who wants those
    /// bytes in its cache: the slot's first word.
    #[must_use]
    pub fn next(&self) -> &AtomicU64 {
        let slot = self.slot(self.tail.at.load(Relaxed));
        // `SLOTS` is not 0: there is a slot for every position.
        slot.map_or(&self.tail.at, |slot| &slot.claim)
    }

    /// The position that the next writer will try, or one that lies a little
    /// behind it.
    fn tail(&self) -> u64 {
        self.tail.at.load(Acquire)
    }
}

/// A slot that is being written.
#[must_use]
pub struct Claim<'a> {
    ring: &'a Ring,
    slot: &'a Slot,
    position: u64,
    mine: u64,
}

impl Claim<'_> {
    /// Writes word `i` of the record.
    #[inline]
    pub fn put(&self, i: usize, word: u64) {
        let to = match self.slot.data.get(i) {
            None => self.ring.rest(self.position, i),
            short => short,
        };
        if let Some(to) = to {
            to.store(word, Relaxed);
        }
    }

    /// Hands the record to the reader.
    #[inline]
    pub fn publish(self) -> Push {
        let ready = self.mine & !0b11 | READY;
        if self.slot.claim.load(Relaxed) != self.mine {
            // The reader gave this owner up for dead.
            return Push::Full;
        }
        // Not in one step with the question, which would cost a locked
        // instruction. Nobody but the reader takes a claim away, and only from
        // the dead, or where somebody scribbled; should it do so in between,
        // it finds a slot as no writer leaves it, and repairs the ring.
        self.slot.claim.store(ready, Release);
        Push::Done(self.position)
    }
}

/// What [`Drain::pop`] found.
#[derive(Debug)]
// There is no heap to put the record on, and only one of these at a time.
#[allow(clippy::large_enum_variant)]
pub enum Popped {
    /// A record's words, and the process-table slot of the writer.
    Record(u32, [u64; WORDS]),
    /// A record of a dead process that will never be finished.
    Lost(u32),
    /// The slot at the head is claimed by this owner, who may still finish:
    /// ask again, or [`Drain::pass`] over it.
    Claimed(u32),
    /// The ring was not as any writer leaves it. It is empty now, and what was
    /// in it is lost.
    Repaired,
    /// Nothing to read.
    Empty,
}

/// The reader's own memory: where it is, and what it passed over.
pub struct Drain {
    at: u64,
    passed: [u64; Self::PASSED],
    count: usize,
    emptied: u64,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain {
            at: 0,
            passed: [0; Self::PASSED],
            count: 0,
            emptied: 0,
        }
    }
}

impl Drain {
    /// Claimed slots that the reader can remember. More wait at the head.
    const PASSED: usize = SLOTS as usize / 2;
    /// Records between two publications of the reader's position: the writers
    /// look at it with each record, and each publication takes it out of their
    /// caches.
    const PUBLISHED: u64 = 128;

    /// The reader's position.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// How many times the ring was found empty.
    #[must_use]
    pub fn emptied(&self) -> u64 {
        self.emptied
    }

    /// Tells the writers how far the reader is.
    pub fn publish(&self, ring: &Ring) {
        ring.head.0.store(self.at, Release);
    }

    fn advance(&mut self, ring: &Ring) {
        self.at += 1;
        if self.at.is_multiple_of(Self::PUBLISHED) {
            self.publish(ring);
        }
    }

    /// The next record in order. `is_dead` says whether a process-table slot's
    /// owner is gone for good. The reader's position is published at least
    /// whenever there is no record to give.
    ///
    /// A slot that is free for its position ends the ring: nobody passes over
    /// one. One that is neither free nor taken for it was passed over by the
    /// writers, so the reader does the same.
    pub fn pop(&mut self, ring: &Ring, mut is_dead: impl FnMut(u32) -> bool) -> Popped {
        for _ in 0..=SLOTS {
            let h = self.at;
            let Some(slot) = ring.slot(h) else { break };
            let seen = slot.claim.load(Acquire);
            let lap_of_seen = lap(seen).wrapping_sub(h / SLOTS);
            match (state(seen), lap_of_seen) {
                (READY, 0) => {
                    let words = ring.take(h, slot);
                    slot.claim.store(word(h / SLOTS + 1, 0, FREE), Release);
                    self.advance(ring);
                    return Popped::Record(owner(seen), words);
                }
                (CLAIMED, 0) => {
                    if !is_dead(owner(seen)) {
                        self.publish(ring);
                        return Popped::Claimed(owner(seen));
                    }
                    let free = word(h / SLOTS + 1, 0, FREE);
                    if slot
                        .claim
                        .compare_exchange(seen, free, AcqRel, Relaxed)
                        .is_ok()
                    {
                        self.advance(ring);
                        return Popped::Lost(owner(seen));
                    }
                }
                (FREE, 0) => {
                    self.publish(ring);
                    let ahead = ring.tail().wrapping_sub(h);
                    if (1..u64::MAX / 2).contains(&ahead) {
                        if slot.claim.load(Acquire) == seen {
                            // Nobody passes over a free slot.
                            break;
                        }
                        continue;
                    }
                    let passed = self.pop_passed(ring, is_dead);
                    if matches!(passed, Popped::Empty) {
                        self.emptied += 1;
                    }
                    return passed;
                }
                // Still claimed from an earlier lap and remembered, or freed
                // late from one.
                _ if self.has_passed(h % SLOTS) || state(seen) == FREE && lap_of_seen <= 3 => {
                    self.advance(ring);
                }
                _ => break,
            }
        }
        self.repair(ring);
        Popped::Repaired
    }

    fn has_passed(&self, slot: u64) -> bool {
        let passed = self.passed.get(..self.count).unwrap_or(&[]);
        passed.iter().any(|at| at % SLOTS == slot)
    }

    /// Makes the ring empty at the reader's position.
    fn repair(&mut self, ring: &Ring) {
        self.count = 0;
        for (i, slot) in ring.slots.iter().enumerate() {
            let lap = self.at / SLOTS + u64::from((i as u64) < self.at % SLOTS);
            slot.claim.store(word(lap, 0, FREE), Release);
        }
        ring.tail.at.store(self.at, Release);
        self.publish(ring);
    }

    /// Passes over the claimed slot at the head; `false` if no more can be
    /// remembered.
    pub fn pass(&mut self, ring: &Ring) -> bool {
        let Some(to) = self.passed.get_mut(self.count) else {
            return false;
        };
        *to = self.at;
        self.count += 1;
        self.at += 1;
        self.publish(ring);
        true
    }

    /// One of the slots passed over earlier, if it got ready or its owner died.
    fn pop_passed(&mut self, ring: &Ring, mut is_dead: impl FnMut(u32) -> bool) -> Popped {
        for n in 0..self.count {
            let Some(&at) = self.passed.get(n) else { break };
            let Some(slot) = ring.slot(at) else { break };
            let seen = slot.claim.load(Acquire);
            // A lap that no writer has in hand yet: one with an old position
            // must find the slot too new for it.
            let free = word(self.at / SLOTS + 2, 0, FREE);
            let found = if lap(seen) != at / SLOTS || state(seen) == FREE {
                Popped::Lost(owner(seen))
            } else if state(seen) == READY {
                let words = ring.take(at, slot);
                slot.claim.store(free, Release);
                Popped::Record(owner(seen), words)
            } else if is_dead(owner(seen))
                && slot
                    .claim
                    .compare_exchange(seen, free, AcqRel, Relaxed)
                    .is_ok()
            {
                Popped::Lost(owner(seen))
            } else {
                continue;
            };
            self.count -= 1;
            self.passed.swap(n, self.count);
            return found;
        }
        Popped::Empty
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use core::array::from_fn;
    use loom::thread;
    use std::sync::Arc;
    use std::vec::Vec;

    fn ring() -> Arc<Ring> {
        let zero = |_| AtomicU64::new(0);
        Arc::new(Ring {
            tail: Tail {
                at: AtomicU64::new(0),
                awaited: AtomicU64::new(0),
            },
            head: Line(AtomicU64::new(0)),
            slots: from_fn(|_| Slot {
                claim: AtomicU64::new(0),
                data: from_fn(zero),
            }),
            rest: from_fn(|_| from_fn(zero)),
        })
    }

    /// A record of no address: the head alone, whose words tell who wrote it.
    fn record(n: u64) -> [u64; 5] {
        [n, n, n, 0, n]
    }

    fn check(words: &[u64; WORDS], owner: u32) {
        assert_eq!(words[..5], record(u64::from(owner)));
    }

    /// Takes records until so many have come, or nothing more can come.
    fn take(drain: &mut Drain, ring: &Ring, owners: &mut Vec<u32>, all: usize) {
        while owners.len() < all {
            match drain.pop(ring, |_| false) {
                Popped::Record(owner, words) => {
                    check(&words, owner);
                    owners.push(owner);
                }
                Popped::Claimed(_) | Popped::Empty => thread::yield_now(),
                other => panic!("nothing is lost: {other:?}"),
            }
        }
    }

    #[test]
    fn two_writers_and_a_reader() {
        crate::sync::model(|| {
            let ring = ring();
            let writers: Vec<_> = (1..=2)
                .map(|owner| {
                    let ring = ring.clone();
                    thread::spawn(move || {
                        let done = ring.push(owner, &record(u64::from(owner)), true);
                        assert!(matches!(done, Push::Done(_)));
                    })
                })
                .collect();
            let mut owners = Vec::new();
            take(&mut Drain::default(), &ring, &mut owners, 2);
            for writer in writers {
                writer.join().unwrap();
            }
            owners.sort_unstable();
            assert_eq!(owners, [1, 2]);
        });
    }

    #[test]
    fn a_writer_goes_round_while_the_reader_reads() {
        crate::sync::model(|| {
            let ring = ring();
            let writer = {
                let ring = ring.clone();
                thread::spawn(move || {
                    (1..=3)
                        .filter(|&n| ring.push(n, &record(u64::from(n)), true) != Push::Full)
                        .count()
                })
            };
            let (mut drain, mut owners) = (Drain::default(), Vec::new());
            // What found no room never comes: one look, then all the rest.
            if let Popped::Record(owner, words) = drain.pop(&ring, |_| false) {
                check(&words, owner);
                owners.push(owner);
            }
            let written = writer.join().unwrap();
            take(&mut drain, &ring, &mut owners, written);
            assert!(written >= 2 && owners.is_sorted());
            assert!(matches!(drain.pop(&ring, |_| false), Popped::Empty));
        });
    }

    #[test]
    fn a_claim_of_the_dead_is_given_up_once() {
        crate::sync::model(|| {
            let ring = ring();
            let writer = {
                let ring = ring.clone();
                thread::spawn(move || {
                    // Killed before it publishes.
                    drop(ring.claim(1, true));
                    assert!(matches!(ring.push(2, &record(2), true), Push::Done(_)));
                })
            };
            writer.join().unwrap();
            let mut drain = Drain::default();
            assert!(matches!(drain.pop(&ring, |o| o == 1), Popped::Lost(1)));
            let mut owners = Vec::new();
            take(&mut drain, &ring, &mut owners, 1);
            assert_eq!(owners, [2]);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    fn big_stack(f: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new()
            .stack_size(64 << 20)
            .spawn(f)
            .unwrap()
            .join()
            .unwrap();
    }

    /// A record of the greatest length, told by its third word, with `n` in
    /// all others.
    fn numbered(n: u64) -> [u64; WORDS] {
        let mut w = [n; WORDS];
        w[3] = u64::from_le_bytes([0, 0, 0, 0, 128, 128, 1, 0]);
        w
    }

    fn put(ring: &Ring, n: u64, important: bool) {
        assert!(matches!(
            ring.push(1, &numbered(n), important),
            Push::Done(_)
        ));
    }

    /// Claims the next slot as a writer does that stops before it is done.
    fn claim_only(ring: &Ring, owner: u32) {
        let t = ring.tail.at.load(Relaxed);
        ring.slots[(t % SLOTS) as usize]
            .claim
            .store(word(t / SLOTS, u64::from(owner), CLAIMED), Relaxed);
        ring.tail.at.store(t + 1, Relaxed);
    }

    #[test]
    fn many_writers_lose_nothing_and_keep_their_order() {
        big_stack(|| {
            let ring: &'static Ring = Box::leak(Box::new(Ring::new()));
            const WRITERS: u64 = 4;
            const EACH: u64 = 50_000;
            let writers: Vec<_> = (0..WRITERS)
                .map(|w| {
                    std::thread::spawn(move || {
                        for n in 0..EACH {
                            let words = numbered(w << 32 | n);
                            while ring.push(w as u32 + 1, &words, false) == Push::Full {
                                std::thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            let mut next = [0; WRITERS as usize];
            let mut drain = Drain::default();
            let mut got = 0;
            while got < WRITERS * EACH {
                match drain.pop(ring, |_| false) {
                    Popped::Record(owner, words) => {
                        assert_eq!(words, numbered(words[0]), "torn");
                        let w = (words[0] >> 32) as usize;
                        assert_eq!(owner, w as u32 + 1);
                        assert_eq!(words[0] & 0xffff_ffff, next[w]);
                        next[w] += 1;
                        got += 1;
                    }
                    Popped::Lost(_) => panic!("nobody died"),
                    _ => std::thread::yield_now(),
                }
            }
            for w in writers {
                w.join().unwrap();
            }
        });
    }

    #[test]
    fn a_stopped_writer_holds_up_nobody_and_is_heard_later() {
        big_stack(|| {
            let ring = Box::new(Ring::new());
            let mut drain = Drain::default();
            claim_only(&ring, 9);
            let stuck = &ring.slots[0].claim;
            for n in 0..3 * SLOTS {
                put(&ring, n, false);
                loop {
                    match drain.pop(&ring, |_| false) {
                        Popped::Claimed(9) => assert!(drain.pass(&ring)),
                        Popped::Record(1, w) => {
                            assert_eq!(w[0], n);
                            break;
                        }
                        other => panic!("{n}: {other:?}"),
                    }
                }
            }
            // It wakes up and finishes.
            stuck.store(word(0, 9, READY), Relaxed);
            assert!(matches!(drain.pop(&ring, |_| false), Popped::Record(9, _)));
            assert!(matches!(drain.pop(&ring, |_| false), Popped::Empty));
            // The slot is used again.
            for n in 0..4 * SLOTS {
                put(&ring, n, false);
                assert!(matches!(drain.pop(&ring, |_| false), Popped::Record(1, _)));
            }
            assert_eq!(lap(stuck.load(Relaxed)), ring.tail() / SLOTS + 1);
        });
    }

    #[test]
    fn a_dead_writer_is_counted_once() {
        big_stack(|| {
            let ring = Box::new(Ring::new());
            let mut drain = Drain::default();
            claim_only(&ring, 5);
            assert!(matches!(drain.pop(&ring, |_| false), Popped::Claimed(5)));
            assert!(matches!(drain.pop(&ring, |p| p == 5), Popped::Lost(5)));
            assert!(matches!(drain.pop(&ring, |p| p == 5), Popped::Empty));
        });
    }

    #[test]
    fn whatever_is_scribbled_records_flow_again() {
        big_stack(|| {
            let ring = Box::new(Ring::new());
            let mut drain = Drain::default();
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            let mut next = move || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            for _ in 0..200 {
                for _ in 0..2000 {
                    let words = [&ring.tail.at, &ring.head.0];
                    match next() % 64 {
                        n @ 0..2 => words[n as usize].store(next(), Relaxed),
                        _ => ring.slots[(next() % SLOTS) as usize]
                            .claim
                            .store(next(), Relaxed),
                    }
                }
                // The reader comes to an end, whatever it finds.
                while !matches!(drain.pop(&ring, |_| true), Popped::Empty) {}
                // Soon everything that is put in comes out again.
                for _ in 0..2 * SLOTS {
                    let _ = ring.push(1, &numbered(7), true);
                    while !matches!(drain.pop(&ring, |_| true), Popped::Empty) {}
                }
                for n in 0..100 {
                    put(&ring, n, true);
                    let Popped::Record(1, w) = drain.pop(&ring, |_| true) else {
                        panic!("record {n} did not come");
                    };
                    assert_eq!(w[0], n);
                }
            }
        });
    }

    #[test]
    fn refusals_have_reserved_room() {
        big_stack(|| {
            let ring = Box::new(Ring::new());
            for n in 0..SLOTS - RESERVED {
                put(&ring, n, false);
            }
            assert_eq!(ring.push(1, &numbered(0), false), Push::Full);
            for n in 0..RESERVED {
                put(&ring, n, true);
            }
            assert_eq!(ring.push(1, &numbered(0), true), Push::Full);
        });
    }
}
