//! A socket, and its two views of an address.

use bytemuck::{Pod, Zeroable};

use super::{NONE, SockId};
use crate::addr::{UnixKind, UnixName, VMADDR_ANY, af};
use crate::model::host::Cred;
use crate::socket::{SocketType, proto};

/// Which name space a socket's name lives in. A number and not an `enum`: it
/// lies in memory that others can write, and every number is one of these or
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct Table(pub u8);

#[allow(missing_docs, non_upper_case_globals)]
impl Table {
    pub const Tcp: Table = Table(0);
    pub const Udp: Table = Table(1);
    pub const UdpLite: Table = Table(2);
    pub const Ping: Table = Table(3);
    pub const Vsock: Table = Table(4);
    pub const Unix: Table = Table(5);
    pub const Netlink: Table = Table(6);
    /// Sockets that never conflict: raw and packet.
    pub const Other: Table = Table(7);
}

/// TCP's states, as far as they differ for binding. UDP has `Close` and
/// `Established`. A number for the reason that [`Table`] is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct State(pub u8);

#[allow(missing_docs, non_upper_case_globals)]
impl State {
    pub const Close: State = State(0);
    pub const Listen: State = State(1);
    pub const SynSent: State = State(2);
    pub const Established: State = State(3);
    /// This side has sent its FIN, the other has not.
    pub const FinWait2: State = State(4);
    pub const TimeWait: State = State(5);
    /// The other side has sent its FIN, this one has not.
    pub const CloseWait: State = State(6);
}

/// A listener's accept queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::model) struct Queue {
    pub first: u32,
    pub last: u32,
    pub len: u32,
}

impl Queue {
    pub const EMPTY: Queue = Queue {
        first: NONE,
        last: NONE,
        len: 0,
    };
}

/// A socket. Field names are the kernel's where it has one.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Sock {
    pub kind: SocketType,
    pub table: Table,
    pub state: State,
    /// What is on or off: see the methods.
    flags: u32,
    /// Descriptors in all processes; 0 for a free place.
    pub refs: u32,
    pub uid: u32,
    /// `sk_bound_dev_if`; on FreeBSD, which has none, the jail that made the
    /// socket, from 1 for none on.
    pub dev: u32,
    /// `inet_num`, vsock port, netlink port id, packet ifindex.
    pub num: u32,
    /// The vsock CID, netlink groups, the packet protocol; for MPTCP the
    /// device of the outer socket; for a Unix socket how many others have it as
    /// their peer.
    pub aux: u32,
    /// `sk_rcv_saddr`, `sk_v6_rcv_saddr`: for IPv4 sockets the latter is mapped.
    pub rcv4: u32,
    pub rcv6: [u8; 16],
    pub daddr: [u8; 16],
    /// What the outer socket of MPTCP says its address is …
    pub msk_addr: [u8; 16],
    /// … and its port.
    pub msk_port: u16,
    pub dport: u16,
    /// `inet_sport`: what getsockname shows, even where the port is gone.
    pub sport: u16,
    /// `sk_reuse`: 2 is TCP_REPAIR's.
    pub reuse: u8,
    /// FreeBSD's `IP_PORTRANGE`
    pub bsd_range: u8,
    /// `IP_LOCAL_PORT_RANGE`: low, high; 0 for unset.
    pub range: [u16; 2],
    /// The other end, if it is on this host.
    pub peer: u32,
    /// The listener that a child waits at.
    pub parent: u32,
    pub(in crate::model) queue: Queue,
    /// The next one in the queue that this child waits in.
    pub(in crate::model) queue_next: u32,
    /// The address group that it is in, if it is hashed.
    pub(super) bind2: u32,
    pub(super) port_next: u32,
    pub(super) port_prev: u32,
    pub(super) addr_next: u32,
    pub(super) addr_prev: u32,
    pub(super) class_next: u32,
    pub(super) class_prev: u32,
    name_kind: u8,
    name_len: u8,
    /// FreeBSD: bits of its own, see [`freebsd`](crate::model::freebsd).
    pub(in crate::model) bsd: u8,
    pad: u8,
    name: [u8; 108],
}

macro_rules! flags {
    ($($(#[$doc:meta])* $bit:literal $get:ident $set:ident;)*) => {
        impl Sock {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $get(&self) -> bool {
                    self.flags & 1 << $bit != 0
                }

                #[allow(missing_docs)]
                pub fn $set(&mut self, on: bool) {
                    self.flags = self.flags & !(1 << $bit) | u32::from(on) << $bit;
                }
            )*
        }
    };
}

flags! {
    /// `SO_REUSEPORT`
    0 reuseport set_reuseport;
    /// `IPV6_V6ONLY`
    1 v6only set_v6only;
    /// `IP_FREEBIND`
    2 freebind set_freebind;
    /// `IP_TRANSPARENT`
    3 transparent set_transparent;
    /// `IP_BIND_ADDRESS_NO_PORT`
    4 no_port set_no_port;
    /// `sk_reuseport_cb`: member of a reuseport group.
    5 group set_group;
    /// `SOCK_CONNECT_BIND`: the port came from connect().
    6 connect_bind set_connect_bind;
    /// `SOCK_BINDADDR_LOCK`
    7 addr_lock set_addr_lock;
    /// `SOCK_BINDPORT_LOCK`
    8 port_lock set_port_lock;
    /// In the port's list.
    9 hashed set_hashed;
    /// `SS_CONNECTED`
    10 connected set_connected;
    /// An IPv6 socket that has been connected by IPv4: of TCP, `ipv6_mapped`.
    11 mapped_ops set_mapped_ops;
    /// `SO_LINGER` with time 0: close resets.
    12 linger_zero set_linger_zero;
    /// A Unix socket with a name.
    13 has_name set_has_name;
    /// FreeBSD's `SO_REUSEPORT_LB`
    14 reuseport_lb set_reuseport_lb;
    /// FreeBSD's `IP_BINDANY`
    15 bindany set_bindany;
    /// FreeBSD's `INP_DROPPED`
    16 dropped set_dropped;
    /// FreeBSD: the creator was privileged.
    17 root set_root;
    /// `SEND_SHUTDOWN` in `sk_shutdown`
    18 send_shutdown set_send_shutdown;
    /// `TCP_REPAIR`
    19 repair set_repair;
    /// It came from accept().
    20 accepted set_accepted;
    /// Of a connection that began where one in TIME_WAIT was: its sequence
    /// numbers are ahead of the clock, and a third one may find them so.
    21 ahead set_ahead;
    /// `RCV_SHUTDOWN` in a Unix socket's `sk_shutdown`
    22 recv_shutdown set_recv_shutdown;
    /// `SO_PASSCRED` (`sk_scm_credentials`)
    23 pass_cred set_pass_cred;
    /// `SO_PASSPIDFD` (`sk_scm_pidfd`)
    24 pass_pidfd set_pass_pidfd;
    /// A FreeBSD host's: its class is what matters to that one's rules.
    25 freebsd set_freebsd;
}

/// `::1` (`in6addr_loopback`)
pub const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

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
#[inline]
#[must_use]
pub fn unmapped(v6: &[u8; 16]) -> Option<u32> {
    let all = u128::from_be_bytes(*v6);
    (all >> 32 == 0xffff).then_some(all as u32)
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
        state: State::Close,
        flags: 0,
        refs: 0,
        uid: 0,
        dev: 0,
        num: 0,
        aux: 0,
        rcv4: 0,
        rcv6: [0; 16],
        daddr: [0; 16],
        msk_addr: [0; 16],
        msk_port: 0,
        dport: 0,
        sport: 0,
        reuse: 0,
        bsd_range: 0,
        range: [0; 2],
        peer: NONE,
        parent: NONE,
        queue: Queue::EMPTY,
        queue_next: NONE,
        bind2: NONE,
        port_next: NONE,
        port_prev: NONE,
        addr_next: NONE,
        addr_prev: NONE,
        class_next: NONE,
        class_prev: NONE,
        name_kind: 0,
        name_len: 0,
        bsd: 0,
        pad: 0,
        name: [0; 108],
    };

    /// A free place, before that one in the chain of free places.
    pub(super) fn free_before(next: u32) -> Sock {
        Sock {
            port_next: next,
            ..Sock::FREE
        }
    }

    pub(super) fn next_free(&self) -> u32 {
        self.port_next
    }

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
                s.msk_addr = MAPPED_ANY;
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

    /// What a connect by `client` makes at this listener, whose place is
    /// `listener`: like it, connected, without a descriptor, and in no list yet.
    pub(in crate::model) fn child(&self, listener: SockId, client: SockId) -> Sock {
        let mut child = *self;
        child.state = State::Established;
        child.refs = 0;
        child.parent = listener.0;
        child.peer = client.0;
        child.queue = Queue::EMPTY;
        child.set_hashed(false);
        child
    }

    /// The same of a Unix listener: a new socket of its type, which has its name
    /// and is not found by that.
    pub(in crate::model) fn unix_child(&self, listener: SockId, cred: &Cred) -> Sock {
        let mut child = Sock::new(self.kind, Table::Unix, cred);
        child.set_unix_name(self.unix_name());
        child.state = State::Established;
        child.refs = 0;
        child.parent = listener.0;
        child
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

    /// Is it an owner in this address group?
    pub(in crate::model) fn is_in(&self, group: u32) -> bool {
        self.hashed() && self.bind2 == group
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
    /// Is it a child that nobody has accepted yet?
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.parent != NONE
    }

    /// In TIME_WAIT, but the other side has not sent its FIN (`tw_substate`
    /// FIN_WAIT2)?
    #[must_use]
    pub fn awaits_fin(&self) -> bool {
        self.state == State::TimeWait && self.peer != NONE
    }

    /// The name of a Unix socket.
    #[must_use]
    pub fn unix_name(&self) -> Option<UnixName> {
        let bytes = self.name.get(..usize::from(self.name_len))?;
        match self.name_kind {
            1 => UnixName::path(bytes),
            2 => UnixName::abstract_(bytes),
            _ => None,
        }
    }

    /// Is it this abstract name?
    pub(in crate::model) fn is_abstract(&self, name: &[u8]) -> bool {
        self.name_kind == 2 && self.name.get(..usize::from(self.name_len)) == Some(name)
    }

    /// Is it bound to this path?
    pub(in crate::model) fn is_path(&self, path: &[u8]) -> bool {
        self.name_kind == 1 && self.name.get(..usize::from(self.name_len)) == Some(path)
    }

    pub(in crate::model) fn set_unix_name(&mut self, name: Option<UnixName>) {
        let name = name.unwrap_or(UnixName::AUTO);
        self.set_has_name(true);
        self.name_kind = match name.kind {
            UnixKind::Auto => 0,
            UnixKind::Path => 1,
            UnixKind::Abstract => 2,
        };
        self.name = [0; 108];
        for (to, from) in self.name.iter_mut().zip(name.bytes()) {
            *to = *from;
        }
        self.name_len = name.bytes().len() as u8;
    }

    /// The other end of a vsock connection: CID and port.
    pub(in crate::model) fn vsock_peer(&self) -> (u32, u32) {
        let [cid, port, ..] = bytemuck::cast::<[u8; 16], [u32; 4]>(self.daddr);
        (cid, port)
    }

    pub(in crate::model) fn set_vsock_peer(&mut self, cid: u32, port: u32) {
        self.daddr = bytemuck::cast([cid, port, 0, 0]);
    }

    pub(in crate::model) fn is_mptcp(&self) -> bool {
        self.kind.protocol == proto::MPTCP
    }
}
