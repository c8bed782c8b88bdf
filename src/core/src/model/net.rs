//! The tables of one network: sockets, ports, addresses of ports.
//!
//! Plain values in memory that the caller owns ([`Net::words`]), so that it
//! can be memory which several processes map. Nothing here allocates: a
//! [`Net`] has as many sockets as it was laid out for, and says that it does not
//! know ([`Step::NoRoom`]) after that.
//!
//! | file | what |
//! |---|---|
//! | `sock` | [`Sock`], one a place; free places are chained |
//! | `tables` | 65,536 [`Bucket`]s for each of TCP, UDP and UDP-Lite with the owners of a port in the kernel's order, and a hash of groups with those of one address on it |
//! | `class`, `tally`, `counts` | what these owners are like, in numbers: a conflict is seen without looking at each of them |
//! | `views`, `portmap` | which automatic ports are open to a socket, as trees of bits |
//! | `memory` | where it all lies |

mod class;
mod counts;
mod memory;
#[cfg(feature = "alloc")]
mod owned;
mod portmap;
mod sock;
mod tables;
mod tally;
mod views;

use bytemuck::{Pod, Zeroable};

pub(super) use class::{
    ALL, AT_ANY, Asker, Class, Classes, LISTEN, REUSE, REUSEPORT, Scope, TIME_WAIT, V6ONLY, each,
};
pub use memory::MOST_SOCKETS;
#[cfg(feature = "alloc")]
pub use owned::OwnedNet;
pub use portmap::PortMap;
pub use sock::{LOOPBACK6, MAPPED_ANY, Sock, State, Table, mapped, unmapped};
pub(super) use tally::meet;
pub use views::VIEWS;

use super::host::{Cred, Host};
use super::linux::PathState;
use super::step::{Step, Trail};
use super::{Errno, No, Pick};
use crate::addr::{Addr, UnixName, af};
use crate::socket::{SocketType, proto};
use class::Summary;

/// No socket.
pub const NONE: u32 = u32::MAX;

/// Owners that are looked at one by one to name the one in the way.
pub(super) const NAMED: usize = 64;

/// A socket of a [`Net`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct SockId(pub u32);

/// A port and its owners: `inet_bind_bucket`, or UDP's list of a port. All
/// zero for a port without owners.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Bucket {
    /// First and last owner, one more than their numbers; 0 for none.
    head: u32,
    tail: u32,
    pub count: u32,
    /// Owners whose port came from bind() or listen().
    pub bind_owners: u32,
    pub fastreuse: i8,
    pub fastreuseport: i8,
    pub fast_v6only: u8,
    pub fast_six: u8,
    pub fastuid: u32,
    pub fast4: u32,
    pub fast6: [u8; 16],
    /// The list of the owners' class, one more than the first's number, while
    /// they are all alike; the counts have the lists otherwise.
    class_head: u32,
    sum: Summary,
}

impl Bucket {
    /// A port without owners.
    pub const EMPTY: Bucket = Bucket {
        head: 0,
        tail: 0,
        count: 0,
        bind_owners: 0,
        fastreuse: 0,
        fastreuseport: 0,
        fast_v6only: 0,
        fast_six: 0,
        fastuid: 0,
        fast4: 0,
        fast6: [0; 16],
        class_head: 0,
        sum: Summary::EMPTY,
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

/// What a [`Net`] has besides its tables.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Core {
    layout: u32,
    /// Sockets that there is room for.
    pub sockets: u32,
    /// The first free place of those that were used before, one more than its
    /// number …
    free: u32,
    /// … and how many have been used at all.
    fresh: u32,
    /// Sockets in use.
    pub used: u32,
    group_free: u32,
    group_fresh: u32,
    /// The views' clock.
    clock: u32,
    /// The next automatic vsock port; 0 before the first.
    pub vsock_next: u32,
    /// The last automatic ping identifier.
    pub ping_last: u16,
    /// FreeBSD: the last automatic port, where it is not random.
    pub last_port: [u16; 2],
    /// The views of each table's askers, a bit for each.
    viewed: [u8; 4],
    pad: u16,
    /// Ports with owners: TCP, UDP, UDP-Lite, ping.
    owned: [u32; 4],
    pub(super) taken: [PortMap; 4],
    views: [views::View; VIEWS],
    closed: [PortMap; VIEWS],
}

impl Core {
    const fn new(layout: u32, sockets: u32) -> Core {
        Core {
            layout,
            sockets,
            free: 0,
            fresh: 0,
            used: 0,
            group_free: 0,
            group_fresh: 0,
            clock: 0,
            vsock_next: 0,
            ping_last: 0,
            last_port: [0; 2],
            viewed: [0; 4],
            pad: 0,
            owned: [0; 4],
            taken: [PortMap::EMPTY; 4],
            views: [views::View::NONE; VIEWS],
            closed: [PortMap::EMPTY; VIEWS],
        }
    }
}

/// Ports of one table.
pub const PORTS: usize = 65536;

/// The bind tables of a network, in memory that somebody else owns.
#[derive(Debug)]
pub struct Net<'m> {
    /// The host.
    pub host: &'m Host,
    /// What the file system says of the path of the next Unix bind.
    pub path: PathState,
    /// The listener that the kernel chose among equal ones in the next connect,
    /// if somebody has seen that.
    pub chosen: Option<SockId>,
    /// Counters, free places.
    pub core: &'m mut Core,
    socks: &'m mut [Sock],
    groups: &'m mut [tables::Group],
    heads: &'m mut [u32],
    buckets: &'m mut [Bucket],
    counts: counts::Counts<'m>,
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

    pub fn fail<T>(&mut self, step: Step, errno: Errno) -> Result<T, No> {
        self.trail.push(step);
        Err(No::Errno(errno))
    }

    /// The model cannot say what the kernel answers.
    pub fn unknown<T>(&mut self, why: Step) -> Result<T, No> {
        self.trail.push(why);
        Err(No::Unknown(why))
    }

    pub fn pass(&mut self, step: Step) {
        self.trail.push(step);
    }
}

impl Net<'_> {
    /// Forgets all sockets.
    pub fn clear(&mut self) {
        let most = self.core.fresh.min(self.socks.len() as u32);
        for i in 0..most {
            if self.get(SockId(i)).kind.domain != 0 {
                self.forget(SockId(i));
            }
        }
    }

    /// The socket; a free one for a number that none has.
    #[must_use]
    pub fn get(&self, id: SockId) -> &Sock {
        const FREE: Sock = Sock::FREE;
        self.socks.get(id.0 as usize).unwrap_or(&FREE)
    }

    pub(super) fn alloc(&mut self, sock: Sock) -> Option<SockId> {
        let id = match self.core.free.checked_sub(1) {
            Some(id) => id,
            None => self.core.fresh,
        };
        let place = self.socks.get_mut(id as usize)?;
        if id == self.core.fresh {
            self.core.fresh += 1;
        } else {
            self.core.free = place.next_free();
        }
        *place = sock;
        self.core.used = self.core.used.saturating_add(1);
        Some(SockId(id))
    }

    pub(super) fn release(&mut self, id: SockId) {
        let free = self.core.free;
        if let Some(place) = self.socks.get_mut(id.0 as usize) {
            *place = Sock::free_before(free);
            self.core.free = id.0 + 1;
            self.core.used = self.core.used.saturating_sub(1);
        }
    }

    /// `mptcp_copy_inaddrs`: the outer socket takes the name of the inner one.
    pub(super) fn mptcp_copy_inaddrs(&mut self, id: SockId) {
        self.note(id, |s| {
            if s.is_mptcp() {
                s.msk_addr = s.rcv6;
                s.msk_port = s.num as u16;
            }
        });
    }

    /// What getsockname(2) gives.
    #[must_use]
    pub fn getsockname(&self, id: SockId) -> Addr {
        let s = self.get(id);
        let (ip, port, dev) = if s.is_mptcp() {
            (s.msk_addr, s.msk_port, s.aux)
        } else {
            (s.rcv6, s.sport, s.dev)
        };
        match s.kind.domain {
            af::INET6 if s.freebsd() => super::freebsd::in6_sockaddr(s),
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
            af::UNIX => Addr::Unix(s.unix_name().unwrap_or(UnixName::AUTO)),
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

    /// What getpeername(2) gives for a Unix socket: its peer's name, which a
    /// peer that is closed still has. `None` for `ENOTCONN`, and for the other
    /// families.
    #[must_use]
    pub fn unix_peer_name(&self, id: SockId) -> Option<UnixName> {
        let s = self.get(id);
        if s.table != Table::Unix || s.peer == NONE {
            return None;
        }
        let peer = self.get(SockId(s.peer));
        Some(peer.unix_name().unwrap_or(UnixName::AUTO))
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
        sock.set_reuseport(o.reuseport);
        sock.set_v6only(o.v6only);
        sock.dev = o.dev;
        if self.host.generation.is_freebsd() {
            super::freebsd::adopt(&mut sock);
        }
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
            .take(self.core.fresh as usize)
            .enumerate()
            .filter(|(_, s)| s.kind.domain != 0)
            .map(|(i, _)| SockId(i as u32))
    }
}
