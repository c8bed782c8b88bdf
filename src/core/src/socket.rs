//! What a socket is, apart from its address.

use core::fmt;

use bytemuck::{Pod, Zeroable};

use crate::addr::af;

/// Socket types by the numbers of `<linux/net.h>`.
pub mod ty {
    #![allow(missing_docs)]
    pub const STREAM: u16 = 1;
    pub const DGRAM: u16 = 2;
    pub const RAW: u16 = 3;
    pub const RDM: u16 = 4;
    pub const SEQPACKET: u16 = 5;
    pub const PACKET: u16 = 10;
    /// Bits of the type argument that name the type; the rest are flags.
    pub const MASK: u32 = 0xf;
}

/// Protocol numbers that change what a socket is called.
pub mod proto {
    #![allow(missing_docs)]
    pub const ICMP: u16 = 1;
    pub const TCP: u16 = 6;
    pub const UDP: u16 = 17;
    pub const ICMPV6: u16 = 58;
    pub const SCTP: u16 = 132;
    pub const UDPLITE: u16 = 136;
    pub const MPTCP: u16 = 262;
}

/// `SO_DOMAIN`, `SO_TYPE` and `SO_PROTOCOL` of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct SocketType {
    /// Address family.
    pub domain: u16,
    /// `SOCK_STREAM`, …, without flags.
    pub ty: u16,
    /// Protocol, with 0 replaced by the family's default.
    pub protocol: u16,
}

/// What the IP families put in the place of protocol 0.
#[inline(always)]
fn default_protocol(ty: u16) -> u16 {
    match ty {
        ty::STREAM => proto::TCP,
        ty::DGRAM => proto::UDP,
        ty::SEQPACKET => proto::SCTP,
        _ => 0,
    }
}

impl SocketType {
    /// What a socket made by `socket(domain, type, protocol)` reports about
    /// itself: default protocols filled in as `inet_create` does, the raw Unix
    /// type turned into datagram as `unix_create` does, and
    /// `AF_INET`/`SOCK_PACKET` into `AF_PACKET` as `__sock_create` does.
    #[must_use]
    #[inline(always)]
    pub fn created(domain: i32, ty_and_flags: i32, protocol: i32) -> SocketType {
        let mut s = SocketType {
            domain: domain as u16,
            ty: (ty_and_flags as u32 & ty::MASK) as u16,
            protocol: protocol as u16,
        };
        match (s.domain, s.ty) {
            (af::INET, ty::PACKET) => s.domain = af::PACKET,
            (af::INET | af::INET6, ty) if protocol == 0 => s.protocol = default_protocol(ty),
            (af::UNIX, _) => {
                s.protocol = 0;
                if s.ty == ty::RAW {
                    s.ty = ty::DGRAM;
                }
            }
            (af::VSOCK, _) => s.protocol = 0,
            _ => {}
        }
        s
    }

    /// Every kind name that this socket answers to, and for an IP socket its
    /// protocol number.
    #[must_use]
    pub fn kinds(self) -> KindSet {
        let inet = |base: KindSet, ty: u16, p: u16| match (ty, p) {
            (ty::RAW, _) => base | KindSet::RAW,
            (_, proto::SCTP) => base | KindSet::SCTP,
            (ty::STREAM, proto::TCP) => base | KindSet::TCP | KindSet::TCP_ONLY,
            (ty::STREAM, proto::MPTCP) => base | KindSet::TCP | KindSet::MPTCP,
            (ty::DGRAM, proto::UDP) => base | KindSet::UDP | KindSet::UDP_ONLY,
            (ty::DGRAM, proto::UDPLITE) => base | KindSet::UDP | KindSet::UDPLITE,
            (ty::DGRAM, proto::ICMP | proto::ICMPV6) => base | KindSet::PING,
            _ => base,
        };
        match self.domain {
            af::INET => inet(KindSet::INET, self.ty, self.protocol).with_protocol(self.protocol),
            af::INET6 => inet(KindSet::INET6, self.ty, self.protocol).with_protocol(self.protocol),
            af::UNIX => KindSet::UNIX,
            af::VSOCK => KindSet::VSOCK,
            af::NETLINK => KindSet::NETLINK,
            af::PACKET => KindSet::PACKET,
            _ => KindSet::NONE,
        }
    }

    /// Are its addresses such as [`Addr::read`](crate::addr::Addr::read) reads?
    /// Not those of families without a name here, and not the device's name
    /// that `packet_bind_spkt` takes.
    #[must_use]
    pub fn is_read(self) -> bool {
        self.kinds() != KindSet::NONE && (self.domain, self.ty) != (af::PACKET, ty::PACKET)
    }

    /// Does it carry connections that `accept` returns?
    #[must_use]
    pub fn is_stream(self) -> bool {
        self.ty == ty::STREAM || self.ty == ty::SEQPACKET
    }

    /// Do its addresses have TCP or UDP ports?
    #[must_use]
    pub fn has_ports(self) -> bool {
        self.kinds().intersects(KindSet::TCP | KindSet::UDP)
    }
}

/// A set of kind names of the policy language. A rule names one kind; a
/// socket answers to several. `any` is answered to by every socket and has no
/// bit of its own.
///
/// The upper half is an IP protocol number: that of the socket, or the one that
/// a rule for `proto N` wants. It is 0 where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct KindSet(pub u32);

impl KindSet {
    #![allow(missing_docs)]
    pub const NONE: KindSet = KindSet(0);
    pub const INET: KindSet = KindSet(1);
    pub const INET6: KindSet = KindSet(1 << 1);
    /// TCP and MPTCP: an MPTCP listener serves plain TCP clients.
    pub const TCP: KindSet = KindSet(1 << 2);
    pub const TCP_ONLY: KindSet = KindSet(1 << 3);
    pub const MPTCP: KindSet = KindSet(1 << 4);
    /// UDP and UDP-Lite.
    pub const UDP: KindSet = KindSet(1 << 5);
    pub const UDP_ONLY: KindSet = KindSet(1 << 6);
    pub const UDPLITE: KindSet = KindSet(1 << 7);
    /// ICMP datagram sockets.
    pub const PING: KindSet = KindSet(1 << 8);
    pub const RAW: KindSet = KindSet(1 << 9);
    pub const UNIX: KindSet = KindSet(1 << 10);
    pub const VSOCK: KindSet = KindSet(1 << 11);
    pub const NETLINK: KindSet = KindSet(1 << 12);
    pub const PACKET: KindSet = KindSet(1 << 13);
    pub const SCTP: KindSet = KindSet(1 << 14);

    /// Names as the policy language writes them, with their bit. `any` is not
    /// among them.
    pub const NAMES: [(&'static str, KindSet); 15] = [
        ("inet", KindSet::INET),
        ("inet6", KindSet::INET6),
        ("tcp", KindSet::TCP),
        ("tcp-only", KindSet::TCP_ONLY),
        ("mptcp", KindSet::MPTCP),
        ("udp", KindSet::UDP),
        ("udp-only", KindSet::UDP_ONLY),
        ("udplite", KindSet::UDPLITE),
        ("sctp", KindSet::SCTP),
        ("ping", KindSet::PING),
        ("raw", KindSet::RAW),
        ("unix", KindSet::UNIX),
        ("vsock", KindSet::VSOCK),
        ("netlink", KindSet::NETLINK),
        ("packet", KindSet::PACKET),
    ];

    /// The names alone, one bit each.
    #[must_use]
    pub const fn names(self) -> u16 {
        self.0 as u16
    }

    /// The IP protocol number, or 0.
    #[must_use]
    pub const fn protocol(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The same names with an IP protocol number.
    #[must_use]
    pub const fn with_protocol(self, protocol: u16) -> KindSet {
        KindSet(self.names() as u32 | (protocol as u32) << 16)
    }

    /// Returns whether the two sets have a name in common.
    #[must_use]
    pub const fn intersects(self, other: KindSet) -> bool {
        self.names() & other.names() != 0
    }

    /// Returns whether a rule for this set is about a socket of those kinds:
    /// it has one of the names, and the protocol if the rule names one.
    #[must_use]
    pub const fn holds(self, socket: KindSet) -> bool {
        self.intersects(socket) && (self.protocol() == 0 || self.protocol() == socket.protocol())
    }
}

impl core::ops::BitOr for KindSet {
    type Output = KindSet;
    fn bitor(self, other: KindSet) -> KindSet {
        KindSet(self.0 | other.0)
    }
}

impl fmt::Debug for KindSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(
                Self::NAMES
                    .iter()
                    .filter(|(_, k)| self.intersects(*k))
                    .map(|(n, _)| n),
            )
            .finish()
    }
}

/// The options of a socket that decide what it may be bound to and beside
/// whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BindOptions(pub u8);

impl BindOptions {
    /// `SO_REUSEADDR`
    pub const REUSEADDR: u8 = 1;
    /// `SO_REUSEPORT`
    pub const REUSEPORT: u8 = 1 << 1;
    /// `IPV6_V6ONLY`: an IPv6 socket that does not receive IPv4.
    pub const V6ONLY: u8 = 1 << 2;
    /// `IP_FREEBIND`, `IPV6_FREEBIND`
    pub const FREEBIND: u8 = 1 << 3;
    /// `IP_TRANSPARENT`, `IPV6_TRANSPARENT`
    pub const TRANSPARENT: u8 = 1 << 4;
    /// `IP_BIND_ADDRESS_NO_PORT`
    pub const BIND_ADDRESS_NO_PORT: u8 = 1 << 5;
    /// `SO_BINDTODEVICE` or `SO_BINDTOIFINDEX` names a device.
    pub const DEVICE: u8 = 1 << 6;
    /// Nobody saw which options were set: the other bits say nothing.
    pub const UNKNOWN: u8 = 1 << 7;

    /// Names, as the log writes them, with their bits.
    pub const NAMES: [(&'static str, u8); 7] = [
        ("v6only", BindOptions::V6ONLY),
        ("reuseaddr", BindOptions::REUSEADDR),
        ("reuseport", BindOptions::REUSEPORT),
        ("freebind", BindOptions::FREEBIND),
        ("transparent", BindOptions::TRANSPARENT),
        ("bind_address_no_port", BindOptions::BIND_ADDRESS_NO_PORT),
        ("device", BindOptions::DEVICE),
    ];

    /// Is one of these bits set?
    #[must_use]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// Sets these bits, or clears them.
    pub const fn set(&mut self, bits: u8, on: bool) {
        self.0 = if on { self.0 | bits } else { self.0 & !bits };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mptcp_answers_to_tcp_but_not_to_tcp_only() {
        let k = SocketType::created(2, 1, 262).kinds();
        assert!(k.intersects(KindSet::TCP));
        assert!(!k.intersects(KindSet::TCP_ONLY));
    }

    #[test]
    fn sctp_has_a_name_and_every_ip_protocol_its_number() {
        let k = SocketType::created(10, 5, 0).kinds();
        assert!(k.intersects(KindSet::SCTP) && k.protocol() == 132);
        let by_number = |n| KindSet::INET.with_protocol(n);
        assert!(by_number(132).holds(SocketType::created(2, 1, 132).kinds()));
        assert!(!by_number(132).holds(SocketType::created(2, 1, 0).kinds()));
        assert_eq!(SocketType::created(1, 1, 0).kinds(), KindSet::UNIX);
    }

    #[test]
    fn flags_and_defaults_are_filled_in_as_the_kernel_does() {
        let s = SocketType::created(10, 0o2004002, 0);
        assert_eq!((s.domain, s.ty, s.protocol), (10, 2, 17));
        assert_eq!(SocketType::created(1, 3, 1).ty, ty::DGRAM);
        assert_eq!(SocketType::created(2, 10, 0).domain, af::PACKET);
    }
}
