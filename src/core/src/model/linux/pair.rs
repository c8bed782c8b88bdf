//! Two sockets and one port: may the second be bound while the first is?
//!
//! The same functions that the tables of the model are made of, asked about a
//! single pair: what a redirect needs to know of sockets that the kernel cannot
//! compare, because they are not where their programs think.

use super::tcp::{BIND, inet_bind_conflict, inet_rcv_saddr_equal};
use super::udp;
use crate::addr::Addr;
use crate::model::Cred;
use crate::model::net::{Asker, Sock, SockId, State, Table, mapped};
use crate::socket::{KindSet, SocketType, proto};

/// A socket that is bound or wants to be, as far as that decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// What it is.
    pub socket: SocketType,
    /// Its address and port.
    pub addr: Addr,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// `SO_REUSEADDR`
    pub reuse: bool,
    /// `SO_REUSEPORT`
    pub reuseport: bool,
    /// Does it listen?
    pub listens: bool,
    /// The user that made it.
    pub uid: u32,
    /// `sk_bound_dev_if`
    pub device: u32,
}

impl Claim {
    /// The bind table that it is in, if it is one with ports.
    #[must_use]
    pub fn table(&self) -> Option<Table> {
        let kinds = self.socket.kinds();
        if kinds.intersects(KindSet::TCP) {
            Some(Table::Tcp)
        } else if self.socket.protocol == proto::UDPLITE && kinds.intersects(KindSet::UDP) {
            Some(Table::UdpLite)
        } else if kinds.intersects(KindSet::UDP) {
            Some(Table::Udp)
        } else if kinds.intersects(KindSet::VSOCK) {
            Some(Table::Vsock)
        } else {
            None
        }
    }

    /// Makes a new socket into this one; `false` if it has no IP address. In
    /// place: a handler's stack is small.
    fn describe(&self, s: &mut Sock) -> bool {
        let (ip, is_six_alone) = match self.addr {
            Addr::Inet { ip, .. } => (mapped(u32::from_be_bytes(ip)), false),
            Addr::Inet6 { ip, .. } => {
                // What inet6_bind does to a socket with an address of its own.
                let specific = ip != [0; 16] && self.addr.ipv4().is_none();
                (ip, specific)
            }
            _ => return false,
        };
        s.set_rcv(ip);
        s.set_v6only(self.v6only || is_six_alone);
        s.reuse = u8::from(self.reuse);
        s.set_reuseport(self.reuseport);
        s.dev = self.device;
        if self.listens {
            s.state = State::Listen;
        }
        true
    }

    /// Would a packet, or a client, reach both?
    #[must_use]
    pub fn overlaps(&self, other: &Claim) -> bool {
        self.compare(other, |_, _| true)
    }

    /// Would this one be refused with `EADDRINUSE` while `old` is bound?
    #[must_use]
    pub fn is_refused_by(&self, old: &Claim) -> bool {
        self.compare(old, |new, old| match new.table {
            Table::Tcp => inet_bind_conflict(new, old, BIND),
            _ => udp::meets(new, old) && !udp::shares(new, old),
        })
    }

    /// Whether both are at one port of one table and address, and `then`.
    #[inline(never)]
    fn compare(&self, other: &Claim, then: impl FnOnce(&Asker, &Sock) -> bool) -> bool {
        let Some(table) = self.table() else {
            return false;
        };
        if other.table() != Some(table) || self.addr.port() != other.addr.port() {
            return false;
        }
        if let (Addr::Vsock { .. }, Addr::Vsock { .. }) = (&self.addr, &other.addr) {
            return self.addr.is_wildcard() || other.addr.is_wildcard() || self.addr == other.addr;
        }
        let mut new = Sock::new(self.socket, table, &Cred::user(self.uid));
        let mut old = Sock::new(other.socket, table, &Cred::user(other.uid));
        if !self.describe(&mut new) || !other.describe(&mut old) {
            return false;
        }
        let asker = Asker::of(SockId(u32::MAX), &new);
        inet_rcv_saddr_equal(&asker, &old)
            && crate::model::net::meet(new.dev, old.dev)
            && then(&asker, &old)
    }
}
