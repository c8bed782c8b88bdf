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

use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use crate::record::WORDS;

/// Slots of the ring.
pub const SLOTS: u64 = 4096;
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

/// The ring: positions count up for ever, a position's slot is it modulo [`SLOTS`].
#[repr(C, align(64))]
pub struct Ring {
    tail: Line,
    head: Line,
    claims: [AtomicU64; SLOTS as usize],
    data: [[AtomicU64; WORDS]; SLOTS as usize],
}

/// What came of a [`Ring::push`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Push {
    /// It is in the ring.
    Done,
    /// No room: the reader is behind.
    Full,
}

impl Ring {
    #[cfg(test)]
    pub(super) const fn new() -> Ring {
        Ring {
            tail: Line(AtomicU64::new(0)),
            head: Line(AtomicU64::new(0)),
            claims: [const { AtomicU64::new(0) }; SLOTS as usize],
            data: [const { [const { AtomicU64::new(0) }; WORDS] }; SLOTS as usize],
        }
    }

    /// Puts a record in: its first words, as many as carry something. `owner` is the writer's slot in the process table,
    /// `important` may use the reserved room.
    pub fn push(&self, owner: u32, words: &[u64], important: bool) -> Push {
        let room = if important { SLOTS } else { SLOTS - RESERVED };
        // Each turn either wins a slot or sees `tail` move on; the bound is
        // only there for a state that somebody scribbled on.
        for _ in 0..16 * SLOTS {
            let t = self.tail.0.load(Acquire);
            let h = self.head.0.load(Acquire);
            if t.wrapping_sub(h) >= room {
                return Push::Full;
            }
            let i = (t % SLOTS) as usize;
            let (Some(claim), Some(data)) = (self.claims.get(i), self.data.get(i)) else {
                return Push::Full;
            };
            let seen = claim.load(Acquire);
            let mine = word(t / SLOTS, u64::from(owner), CLAIMED);
            let won = state(seen) == FREE
                && lap(seen) == t / SLOTS
                && claim.compare_exchange(seen, mine, AcqRel, Relaxed).is_ok();
            let _ = self.tail.0.compare_exchange(t, t + 1, AcqRel, Relaxed);
            if won {
                for (to, from) in data.iter().zip(words) {
                    to.store(*from, Relaxed);
                }
                let ready = word(t / SLOTS, u64::from(owner), READY);
                // Fails only if the reader gave this owner up for dead.
                return match claim.compare_exchange(mine, ready, Release, Relaxed) {
                    Ok(_) => Push::Done,
                    Err(_) => Push::Full,
                };
            }
        }
        Push::Full
    }

    /// Positions handed out and not yet passed by the reader.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.tail
            .0
            .load(Acquire)
            .wrapping_sub(self.head.0.load(Acquire))
    }

    /// The position that the next writer will try.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.tail.0.load(Acquire)
    }

    /// The reader's position.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head.0.load(Acquire)
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

/// The reader's own memory: what it passed over.
pub struct Drain {
    at: u64,
    passed: [u64; Self::PASSED],
    count: usize,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain {
            at: 0,
            passed: [0; Self::PASSED],
            count: 0,
        }
    }
}

impl Drain {
    /// Claimed slots that the reader can remember. More wait at the head.
    const PASSED: usize = SLOTS as usize / 2;

    /// The next record in order. `is_dead` says whether a process-table slot's
    /// owner is gone for good.
    pub fn pop(&mut self, ring: &Ring, mut is_dead: impl FnMut(u32) -> bool) -> Popped {
        loop {
            let h = self.at;
            // Published anew each time: writers wait for it.
            ring.head.0.store(h, Release);
            let tail = ring.tail.0.load(Acquire);
            if h == tail {
                return self.pop_passed(ring, is_dead);
            }
            if tail.wrapping_sub(h) > SLOTS {
                self.repair(ring);
                return Popped::Repaired;
            }
            let Some(claim) = ring.claims.get((h % SLOTS) as usize) else {
                return Popped::Empty;
            };
            let seen = claim.load(Acquire);
            if lap(seen) != h / SLOTS || state(seen) == FREE {
                // Still claimed from an earlier lap, or freed late from one:
                // writers walked past it, so does the reader. Anything else no
                // writer left there.
                let freed_late =
                    state(seen) == FREE && (1..=3).contains(&lap(seen).wrapping_sub(h / SLOTS));
                if !freed_late && !self.has_passed(h % SLOTS) {
                    claim.store(word(h / SLOTS + 1, 0, FREE), Release);
                }
                self.at += 1;
                continue;
            }
            if state(seen) == READY {
                let words = Self::take(ring, h);
                claim.store(word(h / SLOTS + 1, 0, FREE), Release);
                self.at += 1;
                ring.head.0.store(self.at, Release);
                return Popped::Record(owner(seen), words);
            }
            if !is_dead(owner(seen)) {
                return Popped::Claimed(owner(seen));
            }
            let free = word(h / SLOTS + 1, 0, FREE);
            if claim.compare_exchange(seen, free, AcqRel, Relaxed).is_ok() {
                self.at += 1;
                ring.head.0.store(self.at, Release);
                return Popped::Lost(owner(seen));
            }
        }
    }

    fn has_passed(&self, slot: u64) -> bool {
        let passed = self.passed.get(..self.count).unwrap_or(&[]);
        passed.iter().any(|at| at % SLOTS == slot)
    }

    /// Makes the ring empty at the reader's position.
    fn repair(&mut self, ring: &Ring) {
        self.count = 0;
        for (i, claim) in ring.claims.iter().enumerate() {
            let lap = self.at / SLOTS + u64::from((i as u64) < self.at % SLOTS);
            claim.store(word(lap, 0, FREE), Release);
        }
        ring.tail.0.store(self.at, Release);
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
        ring.head.0.store(self.at, Release);
        true
    }

    /// One of the slots passed over earlier, if it got ready or its owner died.
    pub fn pop_passed(&mut self, ring: &Ring, mut is_dead: impl FnMut(u32) -> bool) -> Popped {
        for n in 0..self.count {
            let Some(&at) = self.passed.get(n) else { break };
            let Some(claim) = ring.claims.get((at % SLOTS) as usize) else {
                break;
            };
            let seen = claim.load(Acquire);
            // A lap that no writer has in hand yet: one with an old position
            // must find the slot too new for it.
            let free = word(ring.tail() / SLOTS + 2, 0, FREE);
            let found = if lap(seen) != at / SLOTS || state(seen) == FREE {
                Popped::Lost(owner(seen))
            } else if state(seen) == READY {
                let words = Self::take(ring, at);
                claim.store(free, Release);
                Popped::Record(owner(seen), words)
            } else if is_dead(owner(seen))
                && claim.compare_exchange(seen, free, AcqRel, Relaxed).is_ok()
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

    fn take(ring: &Ring, at: u64) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        if let Some(data) = ring.data.get((at % SLOTS) as usize) {
            for (to, from) in words.iter_mut().zip(data) {
                *to = from.load(Relaxed);
            }
        }
        words
    }
}

#[cfg(test)]
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

    fn numbered(n: u64) -> [u64; WORDS] {
        let mut w = [n; WORDS];
        w[0] = n;
        w
    }

    /// Claims the next slot as a writer does that stops before it is done.
    fn claim_only(ring: &Ring, owner: u32) {
        let t = ring.tail.0.load(Relaxed);
        ring.claims[(t % SLOTS) as usize]
            .store(word(t / SLOTS, u64::from(owner), CLAIMED), Relaxed);
        ring.tail.0.store(t + 1, Relaxed);
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
                        assert!(words.iter().all(|w| *w == words[0]), "torn");
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
            let stuck = &ring.claims[0];
            for n in 0..3 * SLOTS {
                assert_eq!(ring.push(1, &numbered(n), false), Push::Done);
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
                assert_eq!(ring.push(1, &numbered(n), false), Push::Done);
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
                    let words = [&ring.tail.0, &ring.head.0];
                    match next() % 64 {
                        n @ 0..2 => words[n as usize].store(next(), Relaxed),
                        _ => ring.claims[(next() % SLOTS) as usize].store(next(), Relaxed),
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
                    assert_eq!(ring.push(1, &numbered(n), true), Push::Done);
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
                assert_eq!(ring.push(1, &numbered(n), false), Push::Done);
            }
            assert_eq!(ring.push(1, &numbered(0), false), Push::Full);
            for n in 0..RESERVED {
                assert_eq!(ring.push(1, &numbered(n), true), Push::Done);
            }
            assert_eq!(ring.push(1, &numbered(0), true), Push::Full);
        });
    }
}
