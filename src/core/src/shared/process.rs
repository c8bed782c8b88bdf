//! The processes of a run.
//!
//! A slot is claimed by the process itself, once per executable image, and
//! freed by the drainer when it knows that the process is gone. Of two slots
//! with one pid the older is an earlier image's, and its owner dead: a process
//! must not take a second one.

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Slots of the process table. More processes than that at one time are
/// recorded without a program name.
pub const PROCESSES: usize = if cfg!(loom) { 2 } else { 4096 };
const NAME_WORDS: usize = if cfg!(loom) { 1 } else { 24 };

/// Longest program name kept, bytes; of longer ones the end is kept.
const NAME: usize = NAME_WORDS * 8;

/// In [`Process::key`] while the slot is being filled.
const FILLING: u64 = 1 << 63;

/// One process image.
#[repr(C, align(64))]
pub struct Process {
    /// 0: free; else the pid, with bit 63 while the slot is filled.
    key: AtomicU64,
    /// Inode of the pid name space that the pid counts in.
    pid_ns: AtomicU64,
    /// `CLOCK_MONOTONIC` nanoseconds at registration.
    since: AtomicU64,
    name_len: AtomicU64,
    name: [AtomicU64; NAME_WORDS],
    spare: [AtomicU64; 4],
}

/// A copy of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessInfo {
    /// Process id in its own pid name space.
    pub pid: u32,
    /// Inode of that name space, 0 if it was not asked yet or could not be.
    pub pid_ns: u64,
    /// `CLOCK_MONOTONIC` nanoseconds at registration.
    pub since: u64,
    name: [u8; NAME],
    name_len: usize,
}

impl ProcessInfo {
    /// The executable's path, or its end if it is long.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.part(0)
    }

    /// The path of the script that it runs, or its end if it is long; empty if
    /// it runs none.
    #[must_use]
    pub fn script(&self) -> &[u8] {
        self.part(1)
    }

    /// A NUL ends a part, whatever a program has scribbled there.
    fn part(&self, n: usize) -> &[u8] {
        let all = self.name.get(..self.name_len).unwrap_or(&[]);
        all.split(|b| *b == 0).nth(n).unwrap_or(&[])
    }
}

/// The last bytes of a path.
fn end_of(path: &[u8], most: usize) -> &[u8] {
    path.get(path.len().saturating_sub(most)..).unwrap_or(path)
}

/// The process table. Slot numbers start at 1: 0 is "none".
#[repr(C, align(64))]
pub struct Processes {
    slots: [Process; PROCESSES],
}

impl Processes {
    #[cfg(all(test, not(loom)))]
    pub(super) const fn new() -> Processes {
        Processes {
            slots: [const {
                Process {
                    key: AtomicU64::new(0),
                    pid_ns: AtomicU64::new(0),
                    since: AtomicU64::new(0),
                    name_len: AtomicU64::new(0),
                    name: [const { AtomicU64::new(0) }; NAME_WORDS],
                    spare: [const { AtomicU64::new(0) }; 4],
                }
            }; PROCESSES],
        }
    }

    /// Claims a slot, which says no more than that the process is there; 0 if
    /// all are taken.
    pub fn register(&self, pid: u32, since: u64) -> u32 {
        for n in 0..PROCESSES {
            let i = (pid as usize).wrapping_add(n) % PROCESSES;
            let Some(slot) = self.slots.get(i) else {
                break;
            };
            // Written at once: to read from a page first that nobody has yet
            // makes the kernel bring its neighbours, too.
            let filling = FILLING | u64::from(pid);
            if slot
                .key
                .compare_exchange(0, filling, AcqRel, Relaxed)
                .is_err()
            {
                continue;
            }
            slot.name_len.store(0, Relaxed);
            slot.pid_ns.store(0, Relaxed);
            slot.since.store(since, Relaxed);
            slot.key.store(u64::from(pid), Release);
            return i as u32 + 1;
        }
        0
    }

    /// Says who the process in slot `number` is: its program, and the script
    /// that it runs or nothing. `false` if the slot is not, or no longer, that
    /// of `pid`.
    pub fn name(&self, number: u32, pid: u32, pid_ns: u64, program: &[u8], script: &[u8]) -> bool {
        let slot = (number as usize)
            .checked_sub(1)
            .and_then(|i| self.slots.get(i))
            .filter(|slot| slot.key.load(Acquire) == u64::from(pid));
        let Some(slot) = slot else { return false };
        let mut bytes = [0; NAME];
        let mut len = 0;
        let (program, script) = match script {
            [] => (end_of(program, NAME), &[][..]),
            _ => (end_of(program, NAME / 2 - 1), end_of(script, NAME / 2)),
        };
        let separator: &[u8] = if script.is_empty() { b"" } else { b"\0" };
        let all = program.iter().chain(separator).chain(script);
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = *from;
            len += 1;
        }
        for (to, chunk) in slot.name.iter().zip(bytes.as_chunks().0) {
            to.store(u64::from_ne_bytes(*chunk), Relaxed);
        }
        slot.pid_ns.store(pid_ns, Relaxed);
        slot.name_len.store(len, Release);
        true
    }

    /// A copy of slot `number`; `None` if it is free or being filled.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<ProcessInfo> {
        let slot = self.slots.get((number as usize).checked_sub(1)?)?;
        let key = slot.key.load(Acquire);
        if key == 0 || key & FILLING != 0 {
            return None;
        }
        let name_len = (slot.name_len.load(Acquire) as usize).min(NAME);
        let mut name = [0; NAME];
        for (chunk, word) in name.chunks_mut(8).zip(&slot.name) {
            chunk.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        Some(ProcessInfo {
            pid: key as u32,
            pid_ns: slot.pid_ns.load(Relaxed),
            since: slot.since.load(Relaxed),
            name_len,
            name,
        })
    }

    /// When the process in slot `number` registered: enough to tell it from
    /// another one that has the slot later. `None` if the slot is free or being
    /// filled.
    #[must_use]
    pub fn since(&self, number: u32) -> Option<u64> {
        let slot = self.slots.get((number as usize).checked_sub(1)?)?;
        let key = slot.key.load(Acquire);
        (key != 0 && key & FILLING == 0).then(|| slot.since.load(Relaxed))
    }

    /// Who is filling slot `number` right now, if anybody.
    #[must_use]
    pub fn filling(&self, number: u32) -> Option<u32> {
        let slot = self.slots.get((number as usize).checked_sub(1)?)?;
        let key = slot.key.load(Acquire);
        (key & FILLING != 0).then_some(key as u32)
    }

    /// Gives slot `number` back, of which no record says anything yet, unless
    /// the drainer has done so and it is another process's.
    pub fn give_back(&self, number: u32, pid: u32) {
        if let Some(slot) = (number as usize)
            .checked_sub(1)
            .and_then(|i| self.slots.get(i))
        {
            let _ = slot
                .key
                .compare_exchange(u64::from(pid), 0, AcqRel, Relaxed);
        }
    }

    /// Gives slot `number` back. Only the drainer does this, after the last
    /// record that names the slot.
    pub fn free(&self, number: u32) {
        if let Some(slot) = (number as usize)
            .checked_sub(1)
            .and_then(|i| self.slots.get(i))
        {
            slot.key.store(0, Release);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use core::array::from_fn;
    use loom::thread;
    use std::sync::Arc;

    fn table() -> Arc<Processes> {
        let zero = |_| AtomicU64::new(0);
        Arc::new(Processes {
            slots: from_fn(|_| Process {
                key: AtomicU64::new(0),
                pid_ns: AtomicU64::new(0),
                since: AtomicU64::new(0),
                name_len: AtomicU64::new(0),
                name: from_fn(zero),
                spare: from_fn(zero),
            }),
        })
    }

    /// A slot is never two processes', and a name that is seen is whole.
    #[test]
    fn two_processes_register_and_the_daemon_looks() {
        crate::sync::model(|| {
            let table = table();
            let other = {
                let table = table.clone();
                thread::spawn(move || {
                    let slot = table.register(2, 20);
                    assert!(slot != 0 && table.name(slot, 2, 7, b"/bin/b", b""));
                    slot
                })
            };
            let mine = table.register(4, 40);
            assert!(mine != 0);
            for slot in 1..=2 {
                if let Some(info) = table.get(slot) {
                    assert_eq!(u64::from(info.pid) * 10, info.since);
                    let name = info.name();
                    assert!(name.is_empty() || (info.pid, name) == (2, &b"/bin/b"[..]));
                }
            }
            let theirs = other.join().unwrap();
            assert_ne!(mine, theirs);
            assert_eq!(table.get(theirs).map(|info| info.since), Some(20));
        });
    }

    /// A slot that the daemon frees while its owner gives it back is free once.
    #[test]
    fn a_slot_is_given_back_and_taken_anew() {
        crate::sync::model(|| {
            let table = table();
            let slot = table.register(2, 20);
            let other = {
                let table = table.clone();
                thread::spawn(move || table.give_back(slot, 2))
            };
            let next = table.register(4, 40);
            other.join().unwrap();
            table.give_back(slot, 2);
            assert_eq!(
                table.get(next).map(|info| (info.pid, info.since)),
                Some((4, 40))
            );
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_claimed_read_and_freed() {
        std::thread::Builder::new()
            .stack_size(64 << 20)
            .spawn(|| {
                let table = std::boxed::Box::new(Processes::new());
                let a = table.register(4000, 2);
                let b = table.register(4000, 3);
                assert_ne!(a, b);
                let info = table.get(a).unwrap();
                assert_eq!((info.pid, info.pid_ns, info.since), (4000, 0, 2));
                assert_eq!(info.name(), b"");
                assert!(table.name(a, 4000, 1, b"/usr/sbin/nginx", b""));
                assert!(!table.name(a, 4001, 1, b"/usr/sbin/apache2", b""));
                let info = table.get(a).unwrap();
                assert_eq!((info.pid, info.pid_ns, info.since), (4000, 1, 2));
                assert_eq!(info.name(), b"/usr/sbin/nginx");
                assert!(table.name(b, 4000, 1, &[b'x'; 300], b""));
                let info = table.get(b).unwrap();
                assert_eq!((info.name().len(), info.script().len()), (NAME, 0));
                assert!(table.name(b, 4000, 1, &[b'x'; 300], &[b's'; 300]));
                let info = table.get(b).unwrap();
                assert_eq!((info.name().len(), info.script().len()), (95, 96));
                assert!(table.name(b, 4000, 1, b"/bin/perl", b"/srv/x.pl"));
                let info = table.get(b).unwrap();
                assert_eq!(
                    (info.name(), info.script()),
                    (&b"/bin/perl"[..], &b"/srv/x.pl"[..])
                );
                table.free(a);
                assert_eq!(table.get(a), None);
                assert!(!table.name(a, 4000, 1, b"/usr/sbin/nginx", b""));
                // Who takes the slot next has another name.
                assert_eq!(table.register(4000, 4), a);
                assert_eq!(table.get(a).unwrap().name(), b"");
                // Given back by whom it belongs to, and by nobody else.
                table.give_back(a, 4001);
                assert!(table.get(a).is_some());
                table.give_back(a, 4000);
                assert_eq!(table.get(a), None);
                table.give_back(0, 4000);
                assert_eq!(table.get(0), None);
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
