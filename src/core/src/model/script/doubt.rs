//! What hangs on answers that the model did not know: the sockets of such calls,
//! and the ports and names that they may hold by now.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Call;
use crate::addr::{Addr, RawAddr, VMADDR_ANY};
use crate::model::net::{NONE, Sock};
use crate::model::{Errno, Net, No, SockId, Step, Table};

/// A socket of a network.
type At = (u32, SockId);

/// A port, a Unix name or a netlink id of a network and a table.
type Name = (u32, u8, Vec<u8>);

/// What a socket may hold.
#[derive(Clone, Debug, Default)]
struct Held {
    names: Vec<Name>,
    /// A port that the kernel chose.
    automatic: Option<(u32, u8)>,
    /// A connection may go on after close().
    lingers: bool,
}

#[derive(Debug, Default)]
pub(super) struct Doubts {
    sockets: BTreeMap<At, Held>,
    /// How many sockets may hold the name; those that linger for good.
    names: BTreeMap<Name, u32>,
    automatic: BTreeMap<(u32, u8), u32>,
    /// What connects have gone to that may have come there.
    asked: BTreeSet<Name>,
    /// Variables that may hold a socket or not.
    pub(super) vars: BTreeSet<usize>,
}

/// What an address asks for: `Some(None)` if the kernel is to choose.
fn asked(bytes: &[u8]) -> Option<Option<Vec<u8>>> {
    let number = |n: u32| Some((n != 0).then(|| n.to_ne_bytes().to_vec()));
    match RawAddr::new(bytes)?.read()? {
        Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => number(port.into()),
        Addr::Vsock { port, .. } => number(if port == VMADDR_ANY { 0 } else { port }),
        Addr::Netlink { pid, .. } => number(pid),
        Addr::Unix(_) => Some(Some(bytes.to_vec())),
        _ => None,
    }
}

/// The port that a socket has, 0 for none.
pub(super) fn port(s: &Sock) -> u32 {
    if s.num == VMADDR_ANY { 0 } else { s.num }
}

/// Could the kernel choose this port for a socket of the table?
fn is_automatic(net: &Net<'_>, table: u8, name: &[u8]) -> bool {
    let Some(port) = name.first_chunk().map(|b| u32::from_ne_bytes(*b)) else {
        return false;
    };
    let (low, high) = net.host.sysctl.local_port_range;
    match Table(table) {
        Table::Tcp | Table::Udp | Table::UdpLite | Table::Ping => {
            let has_low_range = net.host.generation.is_freebsd() && port >= 600;
            has_low_range || (u32::from(low)..=u32::from(high)).contains(&port)
        }
        Table::Vsock => port > 1023,
        _ => false,
    }
}

impl Doubts {
    pub(super) fn clear(&mut self) {
        *self = Doubts::default();
    }

    /// Is there any?
    pub(super) fn any(&self) -> bool {
        !self.sockets.is_empty() || !self.names.is_empty() || !self.vars.is_empty()
    }

    /// Was an answer about this socket unknown?
    pub(super) fn about(&self, at: At) -> bool {
        self.sockets.contains_key(&at)
    }

    /// A call on this socket was unknown, which had the port `before`.
    pub(super) fn add(&mut self, net: &Net<'_>, at: At, call: &Call, before: u32) {
        let (home, id) = at;
        let s = net.get(id);
        let table = s.table.0;
        let mut names = Vec::new();
        let mut automatic = false;
        if before != 0 {
            names.push(before.to_ne_bytes().to_vec());
        }
        match call {
            Call::Bind { bytes, .. } => match asked(bytes) {
                Some(Some(name)) => names.push(name),
                Some(None) => automatic = true,
                None => {}
            },
            Call::Connect { bytes } => {
                automatic = before == 0;
                if let Some(Some(name)) = asked(bytes) {
                    self.asked.insert((home, table, name));
                }
            }
            Call::Listen => automatic = before == 0,
            _ => {}
        }
        let held = self.sockets.entry(at).or_default();
        held.lingers |= s.table == Table::Tcp && !matches!(call, Call::Bind { .. } | Call::Listen);
        for name in names {
            let name = (home, table, name);
            if !held.names.contains(&name) {
                *self.names.entry(name.clone()).or_default() += 1;
                held.names.push(name);
            }
        }
        if automatic && held.automatic.is_none() {
            held.automatic = Some((home, table));
            *self.automatic.entry((home, table)).or_default() += 1;
        }
        // What became of the other end?
        if s.peer != NONE && !matches!(call, Call::Bind { .. }) {
            self.sockets.entry((home, SockId(s.peer))).or_default();
        }
    }

    /// What becomes of a socket that is closed is unknown: it may keep its port.
    pub(super) fn linger(&mut self, home: u32, was: &Sock) {
        if port(was) != 0 {
            let port = was.num.to_ne_bytes().to_vec();
            *self.names.entry((home, was.table.0, port)).or_default() += 1;
        }
        if was.peer != NONE {
            self.sockets.entry((home, SockId(was.peer))).or_default();
        }
    }

    /// The last descriptor of the socket is closed.
    pub(super) fn close(&mut self, at: At) {
        let Some(held) = self.sockets.remove(&at) else {
            return;
        };
        if held.lingers {
            return;
        }
        for name in held.names {
            if let Some(n) = self.names.get_mut(&name) {
                *n -= 1;
                if *n == 0 {
                    self.names.remove(&name);
                }
            }
        }
        if let Some(n) = held.automatic.and_then(|of| self.automatic.get_mut(&of)) {
            *n -= 1;
        }
    }

    /// Does this answer about a socket hang on one that was unknown?
    pub(super) fn concern(
        &self,
        net: &Net<'_>,
        (home, id): At,
        call: &Call,
        result: Result<(), No>,
    ) -> bool {
        let s = net.get(id);
        let table = s.table.0;
        let own = || s.num.to_ne_bytes().to_vec();
        let name = match call {
            Call::Bind { bytes, .. } | Call::Connect { bytes } => asked(bytes).flatten(),
            Call::Listen | Call::Accept { .. } if port(s) != 0 => Some(own()),
            _ => None,
        };
        let Some(name) = name else {
            return false;
        };
        let is_automatic = self.automatic.get(&(home, table)).is_some_and(|n| *n != 0)
            && is_automatic(net, table, &name);
        let name = (home, table, name);
        let errno = result.err().and_then(No::errno);
        match call {
            // Everything else is refused before anybody looks for others.
            Call::Bind { .. } | Call::Listen => {
                matches!(errno, None | Some(Errno::EADDRINUSE))
                    && (is_automatic || self.names.contains_key(&name))
            }
            Call::Connect { .. } => {
                !matches!(
                    errno,
                    Some(Errno::EINVAL | Errno::EISCONN | Errno::EALREADY)
                ) && self.names.contains_key(&name)
            }
            _ => self.asked.contains(&name),
        }
    }
}

/// The answer to a call that hangs on one that was unknown.
pub(super) const WHY: Step = Step::UnknownBefore;
