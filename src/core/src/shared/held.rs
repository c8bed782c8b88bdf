//! How the ports of a run's vsock host were ever held.

use core::sync::atomic::{AtomicU8, Ordering::SeqCst};

/// Ports that differ in a multiple of this share a byte.
const BYTES: usize = if cfg!(loom) { 2 } else { 16384 };

/// A byte for each port, with the bits of `judge::vsock::Held`: which ways of
/// holding the port there ever were.
///
/// Who holds a port is the kernel's to say, by the Unix names. But a name says
/// nothing about the other names that the port could be held by, and to ask for
/// each of them takes three system calls. The bits say which there is no need to
/// ask for. They are never cleared: a process may be killed at any time.
#[repr(C, align(64))]
pub struct Held {
    bytes: [AtomicU8; BYTES],
}

impl Held {
    #[cfg(any(test, loom))]
    pub(super) fn new() -> Held {
        Held {
            bytes: [const { AtomicU8::new(0) }; BYTES],
        }
    }

    /// Says that a port is about to be held in a way, and asks in which others it
    /// ever was. Whoever asks later sees this one.
    pub fn enter(&self, port: u32, bit: u8) -> u8 {
        match self.bytes.get(port as usize % BYTES) {
            Some(byte) => byte.fetch_or(bit, SeqCst) & !bit,
            // Nothing is known, so everything is possible.
            None => !bit,
        }
    }
}
