//! Phrases that the causes share.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::facts::{Opener, Seen};
use crate::addr::{Addr, af};
use crate::render::{HolderState, Stamp, civil};
use crate::socket::{BindOptions, SocketType, proto};

/// A time of day to the millisecond, so many seconds ahead of UTC; without that, date
/// and time as JSON lines have them.
#[must_use]
pub fn clock(time_ns: u64, utc_offset: Option<i32>) -> String {
    let Some(utc_offset) = utc_offset else {
        return Stamp(time_ns).to_string();
    };
    let c = civil(time_ns, utc_offset);
    let ms = c.micro / 1000;
    format!("{:02}:{:02}:{:02}.{ms:03}", c.hour, c.minute, c.second)
}

/// What a rule calls such a socket.
#[must_use]
pub fn kind_name(kind: SocketType) -> &'static str {
    match (kind.domain, kind.protocol) {
        (af::UNIX, _) => "unix",
        (af::VSOCK, _) => "vsock",
        (af::INET | af::INET6, proto::TCP) => "tcp",
        (af::INET | af::INET6, proto::MPTCP) => "mptcp",
        (af::INET | af::INET6, proto::UDP) => "udp",
        (af::INET | af::INET6, proto::UDPLITE) => "udplite",
        _ => "any",
    }
}

/// `nginx[401]`
pub(super) fn named(p: &Opener) -> String {
    match (p.program.as_str(), p.pid) {
        ("", pid) => format!("process {pid}"),
        (name, 0) => name.to_string(),
        (name, pid) => format!("{name}[{pid}]"),
    }
}

/// Whoever has the socket, in a few words.
pub(super) fn whose(s: &Seen) -> String {
    let first = s.open_in.first();
    match (first.or(s.bound_by.as_ref()), s.uid) {
        (Some(p), _) => named(p),
        (None, Some(uid)) if s.inode != 0 => format!("a process of uid {uid}"),
        (None, _) if s.inode != 0 => "a process that cannot be seen".to_string(),
        (None, _) => "nobody any more".to_string(),
    }
}

/// `listening since 12:03:01.123`
pub(super) fn doing(s: &Seen, utc_offset: Option<i32>) -> String {
    let word = match s.state {
        HolderState::TimeWait => "in TIME_WAIT",
        other => other.name(),
    };
    match s.since_ns {
        0 => word.to_string(),
        since => format!("{word} since {}", clock(since, utc_offset)),
    }
}

/// What is known of a process beside its number.
pub(super) fn origin(p: &Opener) -> Option<String> {
    let l = &p.lineage;
    let mut parts: Vec<String> = Vec::new();
    if !l.parents.is_empty() {
        let chain = l.parents.iter().map(|(pid, name)| format!("{name}[{pid}]"));
        let chain: Vec<_> = chain.collect();
        parts.push(format!("was started by {}", chain.join(" < ")));
    }
    if let Some(unit) = &l.unit {
        parts.push(format!("belongs to {unit}"));
    }
    if let Some(container) = &l.container {
        parts.push(format!("is in {container}"));
    }
    if let Some(terminal) = &l.terminal {
        parts.push(format!("has the terminal {terminal}"));
    }
    match parts.as_slice() {
        [] => None,
        [one] => Some(format!("{} {one}", named(p))),
        [before @ .., last] => Some(format!("{} {} and {last}", named(p), before.join(", "))),
    }
}

/// The options by their names; `None` if they are not known.
pub(super) fn options(o: BindOptions) -> Option<String> {
    if o.has(BindOptions::UNKNOWN) {
        return None;
    }
    let set = BindOptions::NAMES.iter().filter(|(_, bit)| o.has(*bit));
    let names: Vec<_> = set.map(|(name, _)| *name).collect();
    Some(match names.as_slice() {
        [] => "none".to_string(),
        names => names.join(" "),
    })
}

/// The IPv6 form of an address; IPv4 mapped.
pub(super) fn wide(addr: &Addr) -> Option<[u8; 16]> {
    match addr {
        Addr::Inet { ip, .. } => Some(core::net::Ipv4Addr::from(*ip).to_ipv6_mapped().octets()),
        Addr::Inet6 { ip, .. } => Some(*ip),
        _ => None,
    }
}

/// Would a listener take a connection, or a datagram, to this address? `v6only` is
/// about a listener at `[::]`.
pub(super) fn takes(at: &Addr, v6only: bool, to: &Addr) -> bool {
    let four = |a: &Addr| a.ipv4();
    if at.port() != to.port() {
        return false;
    }
    match (at, four(at), four(to)) {
        // `[::]`: everything, unless it is for IPv6 alone.
        (Addr::Inet6 { ip, .. }, None, to_four) if *ip == [0; 16] => to_four.is_none() || !v6only,
        (_, Some(at), Some(to)) => at == [0; 4] || at == to,
        (_, None, None) => wide(at) == wide(to),
        _ => false,
    }
}

/// The process that has a socket open, where it cannot be seen: why not.
pub(super) fn hidden(s: &Seen) -> Option<String> {
    if !s.open_in.is_empty() || s.inode == 0 {
        return None;
    }
    let what = "the process that has the socket open, because";
    Some(match (s.all_seen, s.uid) {
        (true, _) => format!("{what} no process here has: it is in another pid namespace"),
        (false, Some(uid)) => format!("{what} it is uid {uid}'s: root sees it"),
        (false, None) => format!("{what} not all processes may be looked at: root may"),
    })
}
