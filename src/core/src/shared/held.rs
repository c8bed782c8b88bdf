//! How the ports of a run's vsock host were ever held, and who is about to hold one.

use crate::sync::{AtomicU8, AtomicU32, Ordering::SeqCst};

/// Ports that differ in a multiple of this share a byte.
const BYTES: usize = if cfg!(loom) { 2 } else { 16384 };
/// Ports that differ in a multiple of this are counted together.
const COUNTS: usize = if cfg!(loom) { 1 } else { 1024 };

/// A byte for each port, with the bits of `judge::vsock::bit`: which ways of
/// holding the port there ever were.
///
/// Who holds a port is the kernel's to say, by the Unix names. But a name says
/// nothing about the other names that the port could be held by, and to ask for
/// each of them takes three system calls. The bits say which there is no need to
/// ask for. They are never cleared: a process may be killed at any time.
///
/// Who found that nobody need be asked binds, and others who come meanwhile would find
/// its name free. So it is counted until it has its name, and they wait for that.
#[repr(C, align(64))]
pub struct Held {
    bytes: [AtomicU8; BYTES],
    counts: [AtomicU32; COUNTS],
}

impl Held {
    #[cfg(any(test, loom))]
    pub(super) fn new() -> Held {
        Held {
            bytes: core::array::from_fn(|_| AtomicU8::new(0)),
            counts: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    fn count(&self, port: u32) -> Option<&AtomicU32> {
        self.counts.get(port as usize % COUNTS)
    }

    /// Says that a port is about to be held in a way, and asks in which others it
    /// ever was. Whoever asks later sees this one, and waits for it until it
    /// [leaves](Held::leave).
    pub fn enter(&self, port: u32, bit: u8) -> u8 {
        if let Some(count) = self.count(port) {
            count.fetch_add(1, SeqCst);
        }
        match self.bytes.get(port as usize % BYTES) {
            Some(byte) => byte.fetch_or(bit, SeqCst) & !bit,
            // Nothing is known, so everything is possible.
            None => !bit,
        }
    }

    /// Says that it has its name, or gave up, or that it asks for the others first.
    pub fn leave(&self, port: u32) {
        if let Some(count) = self.count(port) {
            // One that was forgotten is not counted any more.
            let _ = count.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
        }
    }

    /// How many are about to hold the port, or another one that is counted with it.
    #[must_use]
    pub fn entered(&self, port: u32) -> u32 {
        self.count(port).map_or(0, |count| count.load(SeqCst))
    }

    /// Forgets as many who never left: they were killed, or stopped for long.
    pub fn forget(&self, port: u32, many: u32) {
        if let Some(count) = self.count(port) {
            let _ = count.fetch_update(SeqCst, SeqCst, |n| Some(n.saturating_sub(many)));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_was_forgotten_is_not_counted_twice() {
        let held = Held::new();
        assert_eq!(held.enter(5000, 1), 0);
        assert_eq!((held.enter(5000, 2), held.entered(5000)), (1, 2));
        held.forget(5000, 1);
        assert_eq!(held.entered(5000), 1);
        held.leave(5000);
        held.leave(5000);
        assert_eq!((held.entered(5000), held.enter(5000, 1)), (0, 2));
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::sync::Arc;
    use std::prelude::rust_2024::*;

    /// What the kernel knows: whether each of two names has an owner.
    struct Names([AtomicU8; 2]);

    impl Names {
        fn bind(&self, at: usize) -> bool {
            let name = &self.0[at];
            name.compare_exchange(0, 1, SeqCst, SeqCst).is_ok()
        }
    }

    /// As the shim's hook does it, but once: does it get the name?
    fn claim(held: &Held, names: &Names, at: usize) -> bool {
        let bit = 1 << at;
        if held.enter(0, bit) == 0 {
            let bound = names.bind(at);
            held.leave(0);
            return bound;
        }
        held.leave(0);
        while held.entered(0) != 0 {
            loom::thread::yield_now();
        }
        let other = 1 - at;
        let is_free = names.bind(other);
        let bound = is_free && names.bind(at);
        if is_free {
            names.0[other].store(0, SeqCst);
        }
        bound
    }

    #[test]
    fn two_names_of_a_port_have_one_owner() {
        crate::sync::model(|| {
            let shared = Arc::new((Held::new(), Names([AtomicU8::new(0), AtomicU8::new(0)])));
            let other = Arc::clone(&shared);
            let thread = loom::thread::spawn(move || claim(&other.0, &other.1, 1));
            let own = claim(&shared.0, &shared.1, 0);
            let theirs = thread.join().unwrap();
            assert!(!(own && theirs));
        });
    }
}
