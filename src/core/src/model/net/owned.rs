//! A network with memory of its own.

use super::Net;
use crate::model::host::Host;

/// A network that owns its memory, for tests and the launcher.
#[derive(Debug)]
pub struct OwnedNet {
    /// The host.
    pub host: Host,
    words: alloc::vec::Vec<u64>,
}

impl OwnedNet {
    /// Room for `sockets` sockets on this host.
    #[must_use]
    pub fn new(host: Host, sockets: u32) -> OwnedNet {
        let mut words = alloc::vec![0; Net::words(sockets)];
        let _ = Net::format(&mut words, sockets, &host);
        OwnedNet { host, words }
    }

    /// The network.
    pub fn net(&mut self) -> Net<'_> {
        // `new` has laid it out, and nobody else can write it.
        Net::attach(&mut self.words, &self.host).expect("a network's own memory")
    }
}
