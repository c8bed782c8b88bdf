//! Numbers by the names that programs write.

use core::fmt;

use crate::addr::{RawAddr, af};
use crate::socket::{proto, ty};

/// A name if there is one, the number if not.
pub(super) struct Named(pub Option<&'static str>, pub u16);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.1),
        }
    }
}

pub(super) fn family(n: u16) -> Named {
    let name = match n {
        af::UNSPEC => "unspec",
        af::UNIX => "unix",
        af::INET => "inet",
        af::INET6 => "inet6",
        af::NETLINK => "netlink",
        af::PACKET => "packet",
        af::VSOCK => "vsock",
        3 => "ax25",
        15 => "key",
        24 => "pppox",
        29 => "can",
        30 => "tipc",
        31 => "bluetooth",
        38 => "alg",
        44 => "xdp",
        _ => return Named(None, n),
    };
    Named(Some(name), n)
}

pub(super) fn kind(n: u16) -> Named {
    let name = match n {
        ty::STREAM => "stream",
        ty::DGRAM => "dgram",
        ty::RAW => "raw",
        ty::RDM => "rdm",
        ty::SEQPACKET => "seqpacket",
        ty::PACKET => "packet",
        _ => return Named(None, n),
    };
    Named(Some(name), n)
}

/// The protocol's name; a number means something else in each family.
pub(super) fn protocol(domain: u16, n: u16) -> Named {
    let name = match (domain, n) {
        (af::INET | af::INET6, proto::ICMP) => "icmp",
        (af::INET | af::INET6, proto::TCP) => "tcp",
        (af::INET | af::INET6, proto::UDP) => "udp",
        (af::INET | af::INET6, 33) => "dccp",
        (af::INET | af::INET6, proto::ICMPV6) => "icmpv6",
        (af::INET | af::INET6, 132) => "sctp",
        (af::INET | af::INET6, proto::UDPLITE) => "udplite",
        (af::INET | af::INET6, 255) => "raw",
        (af::INET | af::INET6, proto::MPTCP) => "mptcp",
        (af::NETLINK, 0) => "route",
        (af::NETLINK, 4) => "sock_diag",
        (af::NETLINK, 9) => "audit",
        (af::NETLINK, 12) => "netfilter",
        (af::NETLINK, 15) => "kobject_uevent",
        (af::NETLINK, 16) => "generic",
        _ => return Named(None, n),
    };
    Named(Some(name), n)
}

/// An address, readable or as the bytes that the family calls malformed.
pub(super) struct Address<'a>(pub &'a RawAddr);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.read() {
            Some(addr) => write!(f, "{addr}"),
            None => {
                f.write_str("malformed:")?;
                self.0.bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
    }
}
