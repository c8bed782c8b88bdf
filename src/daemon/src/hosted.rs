//! Who bound which place of the vsock host that the run is, by the records.
//!
//! The kernel holds each place, as a Unix name, and says whether it is still held;
//! who bound it, when and by which rule it does not know.

use std::collections::{HashMap, VecDeque};

use bindgate_core::addr::{Addr, RawAddr};
use bindgate_core::errno::EADDRINUSE;
use bindgate_core::judge::vsock::{self, Host, Name};
use bindgate_core::record::Record;
use bindgate_core::render::HolderState;
use bindgate_core::socket::SocketType;
use bindgate_host_live::machine::UnixSocket;

use super::table::{Held, Owner};

/// Places that are remembered.
const MOST: usize = 16 << 10;

/// See the module.
#[derive(Clone, Default)]
pub struct Hosted {
    /// By the address that it really is at, CID and port.
    by: HashMap<(u32, u32), (SocketType, Held)>,
    /// The order in which they came.
    order: VecDeque<(u32, u32)>,
}

impl Hosted {
    /// Enters what a record says, if it is of a place that was got.
    pub fn record(&mut self, r: &Record, owner: impl FnOnce() -> Owner) {
        let Some(at) = place(r).and_then(|at| key(&at)) else {
            return;
        };
        if r.errno != 0 {
            return;
        }
        let kind = SocketType {
            domain: r.domain,
            ty: r.ty,
            protocol: r.protocol,
        };
        let held = Held {
            owner: owner(),
            addr: *really(r),
            state: HolderState::Bound,
            gone: false,
        };
        if self.by.insert(at, (kind, held)).is_none() {
            self.order.push_back(at);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.by.remove(&oldest);
        }
    }

    /// Who bound the place last.
    pub fn get(&self, name: Name) -> Option<&(SocketType, Held)> {
        self.by.get(&key(&name.bound_to())?)
    }
}

fn key(at: &Addr) -> Option<(u32, u32)> {
    match *at {
        Addr::Vsock { cid, port, .. } => Some((cid, port)),
        _ => None,
    }
}

/// Where a bind went: where nothing else is said, to where it was asked to.
fn really(r: &Record) -> &RawAddr {
    match r.used.bytes() {
        [] => &r.asked,
        _ => &r.used,
    }
}

/// The place of the host that a bind was about.
fn place(r: &Record) -> Option<Addr> {
    let at = really(r).read();
    at.filter(|at| matches!(at, Addr::Vsock { .. }))
}

/// Of those that the kernel shows, the one that is in the way of a bind that the
/// host has refused: its place, and its Unix socket.
pub fn in_the_way<'s>(
    host: &Host<'_>,
    r: &Record,
    shown: &'s [UnixSocket],
) -> Option<(Name, &'s UnixSocket)> {
    // A port below 1024 was not refused for that.
    let wanted = host.place(&place(r)?, || true).ok()?;
    let others = vsock::in_the_way(wanted.at, false) | vsock::bit(wanted.at, false);
    shown.iter().find_map(|s| {
        let there = host.read(&s.name?)?;
        let is_it = there.cid == wanted.cid
            && there.port == wanted.port
            && vsock::ways(others).any(|(at, _)| at == there.at);
        is_it.then_some((there, s))
    })
}

/// Has the host refused a bind because a place is held?
pub fn is_refused(r: &Record) -> bool {
    r.errno == EADDRINUSE && place(r).is_some()
}

/// The address of a place, as a record has it.
pub fn address(name: Name) -> RawAddr {
    name.bound_to().write()
}
