//! Which of the ports that a run leases are taken.

use crate::sync::{
    AtomicU8, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// How many ports a run can lease for each transport protocol.
pub const LEASES: usize = if cfg!(loom) { 2 } else { 4096 };

/// Nobody has asked for the port.
const FREE: u8 = 0;
/// A program got it from an automatic bind, and nobody has asked for it by its
/// number since then.
const LEASED: u8 = 1;
/// A program has bound it by its number: the lease has served its purpose.
const ASKED: u8 = 2;

/// A byte for each port that the run leases, and where to go on looking.
///
/// One atomic operation takes a port. Who is killed between that and the bind
/// leaves a lease that nobody uses, which lasts as long as the run.
#[repr(C, align(64))]
pub struct Leases {
    next: AtomicU32,
    ports: [AtomicU8; LEASES],
}

/// A port that was taken, by its number among those that the run leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The number.
    pub index: u32,
    /// Was it bound by its number before, so that a socket may still be there?
    pub was_asked: bool,
}

impl Leases {
    #[cfg(any(test, loom))]
    pub(super) fn new() -> Leases {
        Leases {
            next: AtomicU32::new(0),
            ports: core::array::from_fn(|_| AtomicU8::new(FREE)),
        }
    }

    /// Takes one of the first `count` ports: one that nobody has had, otherwise
    /// the one that was asked for by its number and has waited longest. `None`
    /// if all of them are leased.
    #[must_use]
    pub fn take(&self, count: u32) -> Option<Taken> {
        [FREE, ASKED]
            .into_iter()
            .find_map(|state| self.take_from(state, count))
    }

    fn take_from(&self, state: u8, count: u32) -> Option<Taken> {
        let start = self.next.load(Relaxed);
        (0..count).find_map(|i| {
            let index = start.wrapping_add(i).checked_rem(count)?;
            let port = self.ports.get(index as usize)?;
            if port.load(Relaxed) != state {
                return None;
            }
            port.compare_exchange(state, LEASED, AcqRel, Acquire).ok()?;
            self.next.store(index.wrapping_add(1), Relaxed);
            Some(Taken {
                index,
                was_asked: state == ASKED,
            })
        })
    }

    /// The port has been asked for by its number, or was found in use: it is the
    /// last that an automatic bind gets.
    pub fn asked(&self, index: u32) {
        if let Some(port) = self.ports.get(index as usize) {
            port.store(ASKED, Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn take(leases: &Leases, count: u32) -> Option<(u32, bool)> {
        leases.take(count).map(|t| (t.index, t.was_asked))
    }

    #[test]
    fn a_leased_port_is_not_handed_out_again() {
        let leases = Leases::new();
        let taken: Vec<_> = (0..3).map(|_| take(&leases, 3)).collect();
        assert_eq!(taken, [0, 1, 2].map(|n| Some((n, false))));
        assert_eq!(take(&leases, 3), None);
        leases.asked(1);
        assert_eq!(take(&leases, 3), Some((1, true)));
        assert_eq!(take(&leases, 3), None);
    }

    #[test]
    fn one_that_nobody_had_comes_first() {
        let leases = Leases::new();
        assert_eq!(take(&leases, 3), Some((0, false)));
        leases.asked(0);
        assert_eq!(take(&leases, 3), Some((1, false)));
        assert_eq!(take(&leases, 3), Some((2, false)));
        assert_eq!(take(&leases, 3), Some((0, true)));
    }

    #[test]
    fn numbers_beyond_the_end_are_nobody_s() {
        let leases = Leases::new();
        leases.asked(u32::MAX);
        assert_eq!(take(&leases, 0), None);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::sync::Arc;
    use std::prelude::rust_2024::*;

    #[test]
    fn a_port_is_taken_once() {
        crate::sync::model(|| {
            let leases = Arc::new(Leases::new());
            leases.asked(1);
            let other = Arc::clone(&leases);
            let thread = loom::thread::spawn(move || other.take(2).map(|t| t.index));
            let own = leases.take(2).map(|t| t.index);
            let theirs = thread.join().unwrap();
            assert!(own != theirs && own.is_some() && theirs.is_some());
        });
    }
}
