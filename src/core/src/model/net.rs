//! The tables of one network: sockets, ports, address chains.
//!
//! Plain values in slices that the caller owns, so that they can lie in
//! memory which several processes map. Nothing here allocates: a [`Net`] has
//! as many sockets as its slice has places, and says `ENOMEM` after that.
//!
//! * `socks`: one [`Sock`] a place; free places are chained.
//! * `buckets`: 65,536 [`Bucket`]s for each of TCP, UDP and UDP-Lite, with the
//!   owners of a port in the kernel's order.
//! * `heads`: chains of sockets hashed by table, port and address, so that the
//!   owners of one address are found without looking at the others.

#[cfg(feature = "alloc")]
mod owned;
mod portmap;
mod sock;

#[cfg(feature = "alloc")]
pub use owned::OwnedNet;
pub use portmap::PortMap;
pub use sock::{MAPPED_ANY, Sock, State, Table, mapped, unmapped};

use super::host::{Cred, Host};
use super::step::{Step, Trail};
use super::{Errno, Pick};
use crate::addr::{Addr, af};
use crate::socket::{SocketType, proto};

/// No socket.
pub const NONE: u32 = u32::MAX;

/// A socket of a [`Net`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct SockId(pub u32);

/// A port and its owners: `inet_bind_bucket`, or UDP's list of a port.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Bucket {
    pub(super) head: u32,
    pub(super) tail: u32,
    pub count: u32,
    /// Owners whose port came from bind() or listen().
    pub bind_owners: u32,
    pub fastreuse: i8,
    pub fastreuseport: i8,
    pub fast_v6only: bool,
    pub fast_six: bool,
    pub fastuid: u32,
    pub fast4: u32,
    pub fast6: [u8; 16],
}

impl Bucket {
    /// A port without owners.
    pub const EMPTY: Bucket = Bucket {
        head: NONE,
        tail: NONE,
        count: 0,
        bind_owners: 0,
        fastreuse: 0,
        fastreuseport: 0,
        fast_v6only: false,
        fast_six: false,
        fastuid: 0,
        fast4: 0,
        fast6: [0; 16],
    };
}

/// A socket that the model has not seen come: another process's, or what
/// TIME_WAIT left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outside {
    /// TCP, UDP or UDP-Lite.
    pub kind: SocketType,
    /// Its user.
    pub uid: u32,
    /// Its local address; IPv4 mapped.
    pub addr: [u8; 16],
    /// Its port.
    pub port: u16,
    /// Its state.
    pub state: State,
    /// `SO_REUSEADDR`; not to be seen from outside.
    pub reuse: bool,
    /// `SO_REUSEPORT`; likewise.
    pub reuseport: bool,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// Its device, or 0.
    pub dev: u32,
}

/// What a [`Net`] has besides its sockets.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    /// The host.
    pub host: Host,
    pub(super) free: u32,
    /// Sockets in use.
    pub used: u32,
    pub(super) taken: [PortMap; 3],
    /// The next automatic vsock port; 0 before the first.
    pub vsock_next: u32,
    /// The last automatic ping identifier.
    pub ping_last: u16,
    /// What the file system says of the path of the next Unix bind.
    pub path: super::linux::PathState,
    /// FreeBSD: the last automatic port, where it is not random.
    pub last_port: [u16; 2],
}

impl Core {
    /// No sockets on this host.
    #[must_use]
    pub const fn new(host: Host) -> Core {
        Core {
            host,
            free: NONE,
            used: 0,
            taken: [PortMap::EMPTY; 3],
            vsock_next: 0,
            ping_last: 0,
            path: super::linux::PathState::Free,
            last_port: [0; 2],
        }
    }
}

/// Ports of one table.
pub const PORTS: usize = 65536;

/// The bind tables of a network, in memory that somebody else owns.
#[derive(Debug)]
pub struct Net<'m> {
    /// Host, counters, free places.
    pub core: &'m mut Core,
    pub(super) socks: &'m mut [Sock],
    pub(super) heads: &'m mut [u32],
    pub(super) buckets: &'m mut [Bucket],
}

/// What a call is doing: how it picks, what it has passed, who was in the way.
#[derive(Debug)]
pub(super) struct Ctx {
    pub pick: Pick,
    pub trail: Trail,
    pub holder: Option<SockId>,
}

impl Ctx {
    pub fn new(pick: Pick) -> Ctx {
        Ctx {
            pick,
            trail: Trail::new(),
            holder: None,
        }
    }

    pub fn fail<T>(&mut self, step: Step, errno: Errno) -> Result<T, Errno> {
        self.trail.push(step);
        Err(errno)
    }

    pub fn pass(&mut self, step: Step) {
        self.trail.push(step);
    }
}

impl<'m> Net<'m> {
    /// A network in fresh memory: `socks` and `buckets` (three times
    /// [`PORTS`]) are overwritten, `heads` should be a power of two, about as
    /// many as sockets.
    #[must_use]
    pub fn format(
        core: &'m mut Core,
        socks: &'m mut [Sock],
        heads: &'m mut [u32],
        buckets: &'m mut [Bucket],
    ) -> Net<'m> {
        let mut net = Net::attach(core, socks, heads, buckets);
        net.clear();
        net
    }

    /// A network in memory that [`Net::format`] has laid out before.
    #[must_use]
    pub fn attach(
        core: &'m mut Core,
        socks: &'m mut [Sock],
        heads: &'m mut [u32],
        buckets: &'m mut [Bucket],
    ) -> Net<'m> {
        Net {
            core,
            socks,
            heads,
            buckets,
        }
    }

    /// Forgets all sockets.
    pub fn clear(&mut self) {
        self.heads.fill(NONE);
        self.buckets.fill(Bucket::EMPTY);
        let last = self.socks.len().saturating_sub(1);
        for (i, s) in self.socks.iter_mut().enumerate() {
            *s = Sock::FREE;
            s.port_next = if i == last { NONE } else { i as u32 + 1 };
        }
        self.core.taken = [PortMap::EMPTY; 3];
        self.core.free = if self.socks.is_empty() { NONE } else { 0 };
        self.core.used = 0;
    }

    /// The socket; a free one for a number that none has.
    #[must_use]
    pub fn get(&self, id: SockId) -> &Sock {
        const FREE: Sock = Sock::FREE;
        self.socks.get(id.0 as usize).unwrap_or(&FREE)
    }

    pub(super) fn edit(&mut self, id: SockId, change: impl FnOnce(&mut Sock)) {
        if let Some(s) = self.socks.get_mut(id.0 as usize) {
            change(s);
        }
    }

    pub(super) fn alloc(&mut self, sock: Sock) -> Option<SockId> {
        let id = self.core.free;
        let place = self.socks.get_mut(id as usize)?;
        self.core.free = place.port_next;
        *place = sock;
        self.core.used += 1;
        Some(SockId(id))
    }

    pub(super) fn release(&mut self, id: SockId) {
        let free = self.core.free;
        if let Some(place) = self.socks.get_mut(id.0 as usize) {
            *place = Sock::FREE;
            place.port_next = free;
            self.core.free = id.0;
            self.core.used -= 1;
        }
    }

    fn bucket_index(table: Table, port: u32) -> Option<usize> {
        let table = match table {
            Table::Tcp => 0,
            Table::Udp => 1,
            Table::UdpLite => 2,
            _ => return None,
        };
        Some(table * PORTS + port as usize % PORTS)
    }

    /// The owners of a port, as far as the table has ports.
    pub(super) fn bucket(&self, table: Table, port: u32) -> &Bucket {
        const EMPTY: Bucket = Bucket::EMPTY;
        Self::bucket_index(table, port)
            .and_then(|i| self.buckets.get(i))
            .unwrap_or(&EMPTY)
    }

    pub(super) fn edit_bucket(&mut self, table: Table, port: u32, f: impl FnOnce(&mut Bucket)) {
        if let Some(b) = Self::bucket_index(table, port).and_then(|i| self.buckets.get_mut(i)) {
            f(b);
        }
    }

    fn chain(&self, table: Table, port: u32, addr: &[u8; 16]) -> usize {
        let (hi, lo) = addr.split_at(8);
        let word = |b: &[u8]| b.iter().fold(0u64, |n, &x| n << 8 | u64::from(x));
        let mut h = word(hi) ^ (u64::from(port) << 8 | table as u64);
        h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= word(lo);
        h ^= h >> 29;
        h = h.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h ^= h >> 32;
        (h as usize) & (self.heads.len().max(1) - 1)
    }

    /// `inet_bind_hash`: enters the port's list and the address's chain; at
    /// the end for an IPv6 UDP socket with `SO_REUSEPORT`.
    pub(super) fn inet_bind_hash(&mut self, id: SockId) {
        let s = *self.get(id);
        let at_end = s.is_v6() && s.reuseport && matches!(s.table, Table::Udp | Table::UdpLite);
        if let Some(i) = Self::bucket_index(s.table, s.num) {
            let b = self.buckets.get(i).copied().unwrap_or(Bucket::EMPTY);
            let (prev, next) = if at_end {
                (b.tail, NONE)
            } else {
                (NONE, b.head)
            };
            self.edit(id, |s| {
                s.port_prev = prev;
                s.port_next = next;
            });
            self.edit(SockId(prev), |p| p.port_next = id.0);
            self.edit(SockId(next), |n| n.port_prev = id.0);
            self.edit_bucket(s.table, s.num, |b| {
                if prev == NONE {
                    b.head = id.0;
                }
                if next == NONE {
                    b.tail = id.0;
                }
                b.count += 1;
                b.bind_owners += u32::from(!s.connect_bind);
            });
            if let Some(map) = self.core.taken.get_mut(i / PORTS) {
                map.set(s.num as u16, true);
            }
        }
        self.link_addr(id, at_end);
        self.edit(id, |s| {
            s.hashed = true;
            s.sport = s.num as u16;
        });
    }

    fn link_addr(&mut self, id: SockId, at_end: bool) {
        let s = *self.get(id);
        let c = self.chain(s.table, s.num, &s.key());
        let head = self.heads.get(c).copied().unwrap_or(NONE);
        if at_end && head != NONE {
            let mut last = head;
            loop {
                let next = self.get(SockId(last)).addr_next;
                if next == NONE {
                    break;
                }
                last = next;
            }
            self.edit(SockId(last), |l| l.addr_next = id.0);
            self.edit(id, |s| {
                s.addr_prev = last;
                s.addr_next = NONE;
            });
            return;
        }
        self.edit(id, |s| {
            s.addr_prev = NONE;
            s.addr_next = head;
        });
        self.edit(SockId(head), |h| h.addr_prev = id.0);
        if let Some(h) = self.heads.get_mut(c) {
            *h = id.0;
        }
    }

    fn unlink_addr(&mut self, id: SockId) {
        let s = *self.get(id);
        if s.addr_prev == NONE {
            let c = self.chain(s.table, s.num, &s.key());
            if let Some(h) = self.heads.get_mut(c) {
                *h = s.addr_next;
            }
        } else {
            self.edit(SockId(s.addr_prev), |p| p.addr_next = s.addr_next);
        }
        self.edit(SockId(s.addr_next), |n| n.addr_prev = s.addr_prev);
    }

    /// `inet_put_port`: leaves list and chain. A bucket whose last bind owner
    /// leaves is again one that connect() may use (6.18).
    pub(super) fn inet_put_port(&mut self, id: SockId) {
        let s = *self.get(id);
        if !s.hashed {
            return;
        }
        self.unlink_addr(id);
        if let Some(i) = Self::bucket_index(s.table, s.num) {
            self.edit(SockId(s.port_prev), |p| p.port_next = s.port_next);
            self.edit(SockId(s.port_next), |n| n.port_prev = s.port_prev);
            let again = self.core.host.generation >= super::Generation::Linux6_18;
            let mut empty = false;
            self.edit_bucket(s.table, s.num, |b| {
                if s.port_prev == NONE {
                    b.head = s.port_next;
                }
                if s.port_next == NONE {
                    b.tail = s.port_prev;
                }
                b.count -= 1;
                b.bind_owners -= u32::from(!s.connect_bind);
                empty = b.count == 0;
                if empty {
                    *b = Bucket::EMPTY;
                } else if again && b.bind_owners == 0 {
                    b.fastreuse = -1;
                    b.fastreuseport = -1;
                }
            });
            if empty && let Some(map) = self.core.taken.get_mut(i / PORTS) {
                map.set(s.num as u16, false);
            }
        }
        self.edit(id, |s| {
            s.hashed = false;
            s.connect_bind = false;
            s.num = 0;
        });
    }

    /// `mptcp_copy_inaddrs`: the outer socket takes the name of the inner one.
    pub(super) fn mptcp_copy_inaddrs(&mut self, id: SockId) {
        self.edit(id, |s| {
            if s.is_mptcp() {
                s.msk = (s.rcv6, s.num as u16);
            }
        });
    }

    /// `inet_bhash2_update_saddr`: the socket's address changes, its port stays.
    pub(super) fn update_saddr(&mut self, id: SockId, v6: [u8; 16]) {
        let hashed = self.get(id).hashed;
        if hashed {
            self.unlink_addr(id);
        }
        self.edit(id, |s| s.set_rcv(v6));
        if hashed {
            self.link_addr(id, false);
        }
    }

    /// The owners of a port, in the kernel's order.
    pub(super) fn owners(&self, table: Table, port: u32) -> Owners<'_, 'm> {
        Owners {
            net: self,
            at: self.bucket(table, port).head,
        }
    }

    /// The owners of a port with exactly this address, newest first.
    pub(super) fn at_addr(&self, table: Table, port: u32, addr: [u8; 16]) -> AtAddr<'_, 'm> {
        let c = self.chain(table, port, &addr);
        AtAddr {
            net: self,
            at: self.heads.get(c).copied().unwrap_or(NONE),
            table,
            port,
            addr,
        }
    }

    /// What getsockname(2) gives.
    #[must_use]
    pub fn getsockname(&self, id: SockId) -> Addr {
        let s = self.get(id);
        let (ip, port, dev) = if s.is_mptcp() {
            (s.msk.0, s.msk.1, s.aux)
        } else {
            (s.rcv6, s.sport, s.dev)
        };
        match s.kind.domain {
            af::INET6 => Addr::Inet6 {
                ip,
                port,
                flow: 0,
                scope: if super::linux::needs_scope(&ip) {
                    dev
                } else {
                    0
                },
            },
            af::UNIX => Addr::Unix(s.name),
            af::VSOCK => Addr::Vsock {
                cid: s.aux,
                port: s.num,
                flags: 0,
            },
            af::NETLINK => Addr::Netlink {
                pid: s.num,
                groups: s.aux,
            },
            af::PACKET => Addr::Packet {
                protocol: s.aux as u16,
                ifindex: s.num,
            },
            _ => Addr::Inet {
                ip: unmapped(&ip).unwrap_or(0).to_be_bytes(),
                port,
            },
        }
    }

    /// Enters a socket of somebody else, as sock_diag shows it. `None` if the
    /// table is full.
    pub fn adopt(&mut self, o: &Outside) -> Option<SockId> {
        let table = match o.kind.protocol {
            proto::TCP | proto::MPTCP => Table::Tcp,
            proto::UDP => Table::Udp,
            proto::UDPLITE => Table::UdpLite,
            _ => return None,
        };
        let cred = Cred {
            uid: o.uid,
            ..Cred::default()
        };
        let mut sock = Sock::new(o.kind, table, &cred);
        sock.set_rcv(o.addr);
        sock.num = u32::from(o.port);
        sock.sport = o.port;
        sock.state = o.state;
        sock.reuse = u8::from(o.reuse);
        sock.reuseport = o.reuseport;
        sock.v6only = o.v6only;
        sock.dev = o.dev;
        let id = self.alloc(sock)?;
        if o.port != 0 {
            self.inet_bind_hash(id);
        }
        Some(id)
    }

    /// Sockets in use, in the order of their places.
    pub fn ids(&self) -> impl Iterator<Item = SockId> + '_ {
        self.socks
            .iter()
            .enumerate()
            .filter(|(_, s)| s.kind.domain != 0)
            .map(|(i, _)| SockId(i as u32))
    }
}

/// See [`Net::owners`].
pub(super) struct Owners<'n, 'm> {
    net: &'n Net<'m>,
    at: u32,
}

impl<'n> Iterator for Owners<'n, '_> {
    type Item = (SockId, &'n Sock);
    fn next(&mut self) -> Option<Self::Item> {
        let id = SockId(self.at);
        let s = self.net.socks.get(self.at as usize)?;
        self.at = s.port_next;
        Some((id, s))
    }
}

/// See [`Net::at_addr`].
pub(super) struct AtAddr<'n, 'm> {
    net: &'n Net<'m>,
    at: u32,
    table: Table,
    port: u32,
    addr: [u8; 16],
}

impl<'n> Iterator for AtAddr<'n, '_> {
    type Item = (SockId, &'n Sock);
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let id = SockId(self.at);
            let s = self.net.socks.get(self.at as usize)?;
            self.at = s.addr_next;
            if s.table == self.table && s.num == self.port && s.key() == self.addr {
                return Some((id, s));
            }
        }
    }
}
