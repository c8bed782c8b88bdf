//! A network with memory of its own.

use super::{Bucket, Core, NONE, Net, PORTS, Sock};
use crate::model::host::Host;

/// A network that owns its memory, for tests and the launcher.
#[derive(Debug)]
pub struct OwnedNet {
    core: alloc::boxed::Box<Core>,
    socks: alloc::vec::Vec<Sock>,
    heads: alloc::vec::Vec<u32>,
    buckets: alloc::vec::Vec<Bucket>,
}

impl OwnedNet {
    /// Room for `sockets` sockets on this host.
    #[must_use]
    pub fn new(host: Host, sockets: usize) -> OwnedNet {
        let mut owned = OwnedNet {
            core: alloc::boxed::Box::new(Core::new(host)),
            socks: alloc::vec![Sock::FREE; sockets],
            heads: alloc::vec![NONE; sockets.next_power_of_two()],
            buckets: alloc::vec![Bucket::EMPTY; 3 * PORTS],
        };
        let _ = Net::format(
            &mut owned.core,
            &mut owned.socks,
            &mut owned.heads,
            &mut owned.buckets,
        );
        owned
    }

    /// The network.
    pub fn net(&mut self) -> Net<'_> {
        Net::attach(
            &mut self.core,
            &mut self.socks,
            &mut self.heads,
            &mut self.buckets,
        )
    }
}
