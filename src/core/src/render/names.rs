//! Numbers by the names that programs write.

use core::fmt;

use crate::addr::{Addr, RawAddr, af};
use crate::judge::redirect::Refusal;
use crate::reach::Class;
use crate::record::{Call, Record, flag, refusal};
use crate::socket::{SocketType, proto, ty};

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

/// The socket that a record calls by these words, each a name or a number.
#[must_use]
pub fn socket_type(domain: &str, ty: &str, number: &str) -> Option<SocketType> {
    let find = |word: &str, to: u16, named: &dyn Fn(u16) -> Named| match word.parse() {
        Ok(n) => Some(n),
        Err(_) => (0..=to).find(|n| named(*n).0 == Some(word)),
    };
    let domain = find(domain, 64, &family)?;
    Some(SocketType {
        domain,
        ty: find(ty, 16, &kind)?,
        protocol: find(number, proto::MPTCP, &|n| protocol(domain, n))?,
    })
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

/// A path that a record about exec carries in the shape of a Unix address; its
/// end, if it is long.
pub(super) fn exec_path(path: &RawAddr) -> Option<impl fmt::Display> {
    struct Path(crate::addr::UnixName);
    impl fmt::Display for Path {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", super::Readable(self.0.bytes()))
        }
    }
    match path.read() {
        Some(Addr::Unix(name)) => Some(Path(name)),
        _ => None,
    }
}

/// Which clients a redirected dual-stack socket has lost.
pub(super) fn lost(r: &Record) -> Option<&'static str> {
    match r.flags & (flag::LOST_INET | flag::LOST_INET6) {
        flag::LOST_INET => Some("no IPv4 client reaches it"),
        flag::LOST_INET6 => Some("no IPv6 client reaches it"),
        _ => None,
    }
}

/// Whose choice an automatic port was, in a run that leases ports.
pub(super) fn leased(r: &Record) -> Option<&'static str> {
    match r.flags & (flag::LEASED | flag::NOT_LEASED) {
        flag::LEASED => Some("leased"),
        flag::NOT_LEASED => Some("not leased: the run's leases are used up"),
        _ => None,
    }
}

/// What [`Record::reason`] means, where it means something.
pub(super) fn reason(r: &Record) -> Option<&'static str> {
    if r.flags & flag::UNSEEN != 0 {
        return Class::from_u16(r.reason).map(Class::name);
    }
    if r.call == Call::Fault {
        return Call::ALL.get(usize::from(r.reason)).map(|c| c.name());
    }
    match r.reason {
        refusal::UNKNOWN_SOCKET => Some("what the socket is may not be asked"),
        refusal::UNKNOWN_USER => Some("who the user is may not be asked"),
        refusal::UNKNOWN_PROGRAM => Some("the program is unknown"),
        other => Refusal::of_reason(other).map(Refusal::text),
    }
}
