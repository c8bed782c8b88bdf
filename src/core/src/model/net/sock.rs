//! A socket, and its two views of an address.

use super::NONE;
use crate::addr::{UnixKind, UnixName, VMADDR_ANY, af};
use crate::model::host::Cred;
use crate::socket::{SocketType, proto};

/// Which name space a socket's name lives in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Table {
    Tcp,
    Udp,
    UdpLite,
    Ping,
    Vsock,
    Unix,
    Netlink,
    /// Sockets that never conflict: raw and packet.
    Other,
}

/// TCP's states, as far as they differ for binding. UDP has `Close` and
/// `Established`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum State {
    Close,
    Listen,
    SynSent,
    Established,
    /// Closed by this side first, or by the other: still an owner.
    Closing,
    TimeWait,
}

/// A socket. Field names are the kernel's where it has one.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Sock {
    pub kind: SocketType,
    pub table: Table,
    /// Descriptors in all processes; 0 for a free place.
    pub refs: u32,
    pub uid: u32,
    pub reuse: u8,
    pub reuseport: bool,
    pub v6only: bool,
    pub freebind: bool,
    pub transparent: bool,
    /// `IP_BIND_ADDRESS_NO_PORT`
    pub no_port: bool,
    /// `sk_reuseport_cb`: member of a reuseport group.
    pub group: bool,
    /// `SOCK_CONNECT_BIND`: the port came from connect().
    pub connect_bind: bool,
    /// `SOCK_BINDADDR_LOCK`
    pub addr_lock: bool,
    /// `SOCK_BINDPORT_LOCK`
    pub port_lock: bool,
    /// In the port's list.
    pub hashed: bool,
    /// `sk_bound_dev_if`
    pub dev: u32,
    /// `IP_LOCAL_PORT_RANGE`: low, high; 0 for unset.
    pub range: (u16, u16),
    pub state: State,
    /// `sk_rcv_saddr`, `sk_v6_rcv_saddr`: for IPv4 sockets the latter is mapped.
    pub rcv4: u32,
    pub rcv6: [u8; 16],
    /// `inet_num`, vsock port, netlink port id, packet ifindex.
    pub num: u32,
    /// The vsock CID, netlink groups, the packet protocol; for MPTCP the
    /// device of the outer socket.
    pub aux: u32,
    /// What the outer socket of MPTCP says its name is.
    pub msk: ([u8; 16], u16),
    pub daddr: [u8; 16],
    pub dport: u16,
    /// `inet_sport`: what getsockname shows, even where the port is gone.
    pub sport: u16,
    /// `SS_CONNECTED`
    pub connected: bool,
    /// The other end, if it is on this host.
    pub peer: u32,
    /// A listener's accept queue: first, last, how many.
    pub(in crate::model) queue: (u32, u32, u32),
    /// The next one in the queue that this child waits in.
    pub(in crate::model) queue_next: u32,
    /// An IPv6 TCP socket that has been connected by IPv4 (`ipv6_mapped`).
    pub mapped_ops: bool,
    /// `SO_LINGER` with time 0: close resets.
    pub linger_zero: bool,
    /// The listener that a child waits at.
    pub parent: u32,
    /// `IP_PORTRANGE` and SO_REUSEPORT_LB of FreeBSD.
    pub bsd: crate::model::freebsd::BsdSock,
    pub name: UnixName,
    pub has_name: bool,
    pub(in crate::model) port_next: u32,
    pub(in crate::model) port_prev: u32,
    pub(in crate::model) addr_next: u32,
    pub(in crate::model) addr_prev: u32,
}

/// `::ffff:0.0.0.0`
pub const MAPPED_ANY: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0];

/// The IPv4-mapped form of an address.
#[must_use]
pub fn mapped(addr: u32) -> [u8; 16] {
    let mut v6 = MAPPED_ANY;
    let [.., a, b, c, d] = &mut v6;
    [*a, *b, *c, *d] = addr.to_be_bytes();
    v6
}

/// The address in an IPv4-mapped address.
#[must_use]
pub fn unmapped(v6: &[u8; 16]) -> Option<u32> {
    match v6 {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => {
            Some(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => None,
    }
}

impl Sock {
    /// A free place.
    pub const FREE: Sock = Sock {
        kind: SocketType {
            domain: 0,
            ty: 0,
            protocol: 0,
        },
        table: Table::Other,
        refs: 0,
        uid: 0,
        reuse: 0,
        reuseport: false,
        v6only: false,
        freebind: false,
        transparent: false,
        no_port: false,
        group: false,
        connect_bind: false,
        addr_lock: false,
        port_lock: false,
        hashed: false,
        dev: 0,
        range: (0, 0),
        state: State::Close,
        rcv4: 0,
        rcv6: [0; 16],
        num: 0,
        aux: 0,
        msk: ([0; 16], 0),
        daddr: [0; 16],
        dport: 0,
        sport: 0,
        connected: false,
        peer: NONE,
        queue: (NONE, NONE, 0),
        queue_next: NONE,
        mapped_ops: false,
        linger_zero: false,
        parent: NONE,
        bsd: crate::model::freebsd::BsdSock::NEW,
        name: UnixName::AUTO,
        has_name: false,
        port_next: NONE,
        port_prev: NONE,
        addr_next: NONE,
        addr_prev: NONE,
    };

    /// A new socket of this type.
    #[must_use]
    pub fn new(kind: SocketType, table: Table, cred: &Cred) -> Sock {
        let mut s = Sock {
            kind,
            table,
            uid: cred.uid,
            refs: 1,
            ..Sock::FREE
        };
        match kind.domain {
            af::INET => {
                s.rcv6 = MAPPED_ANY;
                s.msk.0 = MAPPED_ANY;
            }
            af::PACKET => s.aux = u32::from(kind.protocol.swap_bytes()),
            af::VSOCK => {
                s.num = VMADDR_ANY;
                s.aux = VMADDR_ANY;
            }
            _ => {}
        }
        if table == Table::Other && kind.domain != af::PACKET {
            s.num = u32::from(kind.protocol);
            s.sport = kind.protocol;
        }
        s
    }

    pub(in crate::model) fn is_v6(&self) -> bool {
        self.kind.domain == af::INET6
    }

    /// Sets both views of the local address (`inet_rcv_saddr`).
    pub(in crate::model) fn set_rcv(&mut self, v6: [u8; 16]) {
        self.rcv6 = v6;
        self.rcv4 = match unmapped(&v6) {
            Some(v4) => v4,
            None if v6 == [0; 16] => 0,
            // LOOPBACK4_IPV6: what the IPv4 field of a true IPv6 socket holds.
            None => 0x7f00_0006,
        };
    }

    /// `inet_reset_saddr`
    pub(in crate::model) fn reset_saddr(&mut self) {
        self.rcv4 = 0;
        self.rcv6 = if self.is_v6() { [0; 16] } else { MAPPED_ANY };
    }

    /// What the chains know the socket by, besides its number.
    pub(super) fn key(&self) -> [u8; 16] {
        if self.table == Table::Ping {
            [0; 16]
        } else {
            self.rcv6
        }
    }

    /// Is the local address specific (`inet_use_hash2_on_bind`)?
    pub(in crate::model) fn is_specific(&self) -> bool {
        if self.is_v6() && unmapped(&self.rcv6).is_none() {
            self.rcv6 != [0; 16]
        } else {
            self.rcv4 != 0
        }
    }
}

impl Sock {
    /// Has the Unix socket a name?
    #[must_use]
    pub fn unix_name(&self) -> Option<&UnixName> {
        (self.has_name && self.name.kind != UnixKind::Auto).then_some(&self.name)
    }

    pub(in crate::model) fn is_mptcp(&self) -> bool {
        self.kind.protocol == proto::MPTCP
    }
}
