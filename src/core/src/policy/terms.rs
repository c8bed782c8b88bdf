//! The words of a rule that have a shape of their own: kinds, addresses,
//! ports, targets.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ast::{CidSet, IpSet, Kinds, PortSet, Term, UnixTerm};
use super::diag::nearest;
use super::lex::Word;
use super::part::{Parsed, Part};
use crate::socket::KindSet;

/// Families of addresses that a kind of socket can have.
#[derive(Clone, Copy)]
pub(super) struct Families {
    pub ip: bool,
    pub vsock: bool,
    pub unix: bool,
}

const IP_KINDS: KindSet = KindSet(
    KindSet::INET.0
        | KindSet::INET6.0
        | KindSet::TCP.0
        | KindSet::TCP_ONLY.0
        | KindSet::MPTCP.0
        | KindSet::UDP.0
        | KindSet::UDP_ONLY.0
        | KindSet::UDPLITE.0
        | KindSet::PING.0
        | KindSet::RAW.0
        | KindSet::SCTP.0,
);

impl Kinds {
    pub(super) fn families(self) -> Families {
        let has = |k: KindSet| match self {
            Kinds::Any => true,
            Kinds::Of(set) => set.intersects(k),
        };
        Families {
            ip: has(IP_KINDS),
            vsock: has(KindSet::VSOCK),
            unix: has(KindSet::UNIX),
        }
    }
}

fn kind_names() -> impl Iterator<Item = &'static str> {
    core::iter::once("any").chain(KindSet::NAMES.iter().map(|(n, _)| *n))
}

/// Returns whether this is the name of a kind.
pub(super) fn is_kind_name(word: &str) -> bool {
    kind_names().any(|name| name == word)
}

pub(super) fn kind_list() -> String {
    let mut s = String::from("a kind (");
    for (i, n) in kind_names().enumerate() {
        if i > 0 {
            s.push(' ');
        }
        s.push_str(n);
    }
    s.push_str(", or proto NUMBER)");
    s
}

/// What follows `proto`.
pub(super) const PROTOCOL: &str = "an IP protocol number from 1 to 262";

/// IP sockets by the number of their protocol.
pub(super) fn protocol(word: &Word) -> Parsed<Kinds> {
    match number(&word.text) {
        Some(n @ 1..=262) => Ok(Kinds::Of(
            (KindSet::INET | KindSet::INET6).with_protocol(n as u16),
        )),
        _ => Part {
            text: &word.text,
            at: 0,
        }
        .fault(
            format!("'{}' is not the number of a protocol", word.text),
            PROTOCOL,
            None,
        ),
    }
}

pub(super) fn kinds(word: &Word) -> Parsed<Kinds> {
    let whole = Part {
        text: &word.text,
        at: 0,
    };
    let mut set = KindSet::NONE;
    let mut any = false;
    for m in whole.members()? {
        if m.text == "any" {
            any = true;
        } else if let Some((_, k)) = KindSet::NAMES.iter().find(|(n, _)| *n == m.text) {
            set = set | *k;
        } else if m.text == "proto" {
            let message = "'proto' has no place in a list: write a rule for each protocol";
            return m.fault(message.to_string(), "", None);
        } else {
            return m.fault(
                format!("unknown kind '{}'", m.text),
                &kind_list(),
                nearest(m.text, kind_names()),
            );
        }
    }
    Ok(if any { Kinds::Any } else { Kinds::Of(set) })
}

pub(super) fn term(word: &Word, kinds: Kinds) -> Parsed<Term> {
    let text = word.text.as_str();
    let whole = Part { text, at: 0 };
    if word.keyword() == Some("*") {
        return Ok(Term::Every);
    }
    let fam = kinds.families();
    let strip = |prefix: &str| {
        let rest = text.strip_prefix(prefix)?;
        (word.bare >= prefix.len()).then_some(Part {
            text: rest,
            at: prefix.len(),
        })
    };
    let unix_shape = matches!(text.bytes().next(), Some(b'/' | b'@' | b'.'));
    let lacks = |family: &str| {
        whole.fault(
            format!("sockets of this kind have no {family} address"),
            "",
            None,
        )
    };
    if let Some(rest) = strip("unix:") {
        if !fam.unix {
            return lacks("Unix");
        }
        return unix(rest, word.bare);
    }
    if let Some(rest) = strip("vsock:") {
        if !fam.vsock {
            return lacks("vsock");
        }
        return vsock(rest);
    }
    if fam.unix && (unix_shape || !(fam.ip || fam.vsock)) {
        return unix(whole, word.bare);
    }
    if fam.ip {
        return ip(whole);
    }
    if fam.vsock {
        return vsock(whole);
    }
    whole.fault(
        "rules cannot name addresses of this kind of socket".to_string(),
        "'*' or nothing",
        None,
    )
}

fn unix(part: Part<'_>, bare: usize) -> Parsed<Term> {
    if part.text == "auto" && bare >= part.at + 4 {
        return Ok(Term::Unix(UnixTerm::Auto));
    }
    let (name, pattern) = match part.text.strip_prefix('@') {
        Some(name) if bare > part.at => (name, UnixTerm::Abstract(name.to_string())),
        _ => (part.text, UnixTerm::Path(part.text.to_string())),
    };
    if name.is_empty() && matches!(pattern, UnixTerm::Path(_)) {
        return part.fault(
            "an empty path".to_string(),
            "a path, '@name' or 'auto'",
            None,
        );
    }
    if name.contains('\0') {
        return part.fault("a NUL in a name".to_string(), "", None);
    }
    Ok(Term::Unix(pattern))
}

/// Splits `host:port` at the last colon outside brackets and braces.
pub(super) fn host_port(part: Part<'_>) -> Option<(Part<'_>, Part<'_>)> {
    let mut depth = 0i32;
    let mut colon = None;
    for (i, c) in part.text.bytes().enumerate() {
        match c {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b':' if depth == 0 => colon = Some(i),
            _ => {}
        }
    }
    let i = colon?;
    Some((
        Part {
            text: part.text.get(..i)?,
            at: part.at,
        },
        Part {
            text: part.text.get(i + 1..)?,
            at: part.at + i + 1,
        },
    ))
}

const ADDRESS: &str =
    "ADDRESS:PORT (an address is '*', 'loopback', 10.0.0.5, 10.0.0.0/8, [::1] or [2001:db8::/32])";

fn ip(part: Part<'_>) -> Parsed<Term> {
    let Some((host, port)) = host_port(part) else {
        let words = super::parse::MODIFIERS.iter().copied();
        let is_port = super::parse::all_digits(part.text);
        let s = if is_port {
            Some(format!("*:{}", part.text))
        } else if ip_set(part).is_ok() {
            Some(format!("{}:*", part.text))
        } else if super::suggest::is_filler(part.text) {
            None
        } else {
            nearest(part.text, words.chain(["loopback:*"]))
        };
        let lacks = if is_port { "address" } else { "port" };
        return part.fault(format!("'{}' has no {lacks}", part.text), ADDRESS, s);
    };
    if host.text.matches(':').count() > 0 && !host.text.contains(['[', '{']) {
        return part.fault(
            format!("'{}' has no brackets", part.text),
            "an IPv6 address in brackets, then a port",
            match host.text.parse::<Ipv6Addr>() {
                Ok(ip) => Some(format!("[{ip}]:{}", port.text)),
                Err(_) => part
                    .text
                    .parse()
                    .ok()
                    .map(|ip: Ipv6Addr| format!("[{ip}]:*")),
            },
        );
    }
    if host.text.is_empty() {
        let message = format!("the address is missing before '{}'", part.text);
        return part.fault(message, ADDRESS, Some(format!("*{}", part.text)));
    }
    let addrs = host.members()?.into_iter().map(ip_set);
    let addrs = addrs.collect::<Parsed<Vec<_>>>()?;
    let ports = port_sets(port, u32::from(u16::MAX), 1)?;
    Ok(Term::Ip { addrs, ports })
}

fn ip_set(part: Part<'_>) -> Parsed<IpSet> {
    match part.text {
        "*" => return Ok(IpSet::Any),
        "loopback" => return Ok(IpSet::Loopback),
        _ => {}
    }
    let (ip, len) = ip_prefix(part)?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match ip {
        IpAddr::V4(a) => u128::from(a.to_bits()) << 96,
        IpAddr::V6(a) => a.to_bits(),
    };
    let keep = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
    if bits & !keep != 0 {
        let net = match ip {
            IpAddr::V4(_) => format!(
                "{}/{len}",
                Ipv4Addr::from_bits(((bits & keep) >> 96) as u32)
            ),
            IpAddr::V6(_) => format!("[{}/{len}]", Ipv6Addr::from_bits(bits & keep)),
        };
        return part.fault(
            format!("'{}' has bits set after its prefix", part.text),
            "the address of the network",
            Some(net),
        );
    }
    Ok(match ip {
        _ if len == max && ip.is_unspecified() => match ip {
            IpAddr::V4(_) => IpSet::Wild4,
            IpAddr::V6(_) => IpSet::Wild6,
        },
        IpAddr::V4(a) => IpSet::V4(a.octets(), len),
        IpAddr::V6(a) => IpSet::V6(a.octets(), len),
    })
}

/// `10.0.0.5`, `10.0.0.0/8`, `[::1]`, `[2001:db8::/32]`, `[2001:db8::]/32`.
/// What is IPv4-mapped comes back as IPv4.
pub(super) fn ip_prefix(part: Part<'_>) -> Parsed<(IpAddr, u8)> {
    let unknown = || {
        let words = ["loopback", "*"];
        let bare6 = part.text.parse::<Ipv6Addr>().ok();
        part.fault(
            format!("'{}' is not an address", part.text),
            "'*', 'loopback', an address or a prefix",
            match bare6 {
                Some(ip) => Some(format!("[{ip}]")),
                None => nearest(part.text, words),
            },
        )
    };
    let (inner, outer_len, v6) = match part.text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((inner, "")) => (inner, None, true),
            Some((inner, len)) if len.starts_with('/') => (inner, len.get(1..), true),
            _ => return unknown(),
        },
        None => (part.text, None, false),
    };
    let (addr, len) = match (inner.split_once('/'), outer_len) {
        (None, len) => (inner, len),
        (Some((addr, len)), None) => (addr, Some(len)),
        (Some(_), Some(_)) => return unknown(),
    };
    if addr.contains('%') {
        return part.fault(
            "an address with a scope: rules do not compare scopes".to_string(),
            "the address without '%' and what follows",
            None,
        );
    }
    let ip = match v6 {
        true => addr.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        false => addr.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
    };
    let Some(ip) = ip else {
        return unknown();
    };
    let max = if v6 { 128 } else { 32 };
    let len = match len {
        None => max,
        Some(len) => match number(len) {
            Some(n) if n <= max => n,
            _ => {
                return part.fault(
                    format!("'/{len}' is not the length of a prefix"),
                    &format!("a number from 0 to {max}"),
                    None,
                );
            }
        },
    };
    if let IpAddr::V6(a) = ip
        && let Some(a) = a.to_ipv4_mapped()
        && len >= 96
    {
        return Ok((IpAddr::V4(a), (len - 96) as u8));
    }
    Ok((ip, len as u8))
}

/// `10.0.0.5/24` of a `host address` line: host bits are what it is for.
pub(super) fn host_address(word: &Word) -> Parsed<Vec<(IpAddr, u8)>> {
    let whole = Part {
        text: word.text.strip_suffix(',').unwrap_or(&word.text),
        at: 0,
    };
    let mut out = Vec::new();
    for part in whole.members()? {
        let (ip, len) = ip_prefix(part)?;
        if ip.is_unspecified() || ip.is_multicast() {
            return part.fault(
                format!("'{}' cannot be the address of a host", part.text),
                "",
                None,
            );
        }
        out.push((ip, len));
    }
    Ok(out)
}

/// `127.0.0.1:5432` of a `host share` line: one address, one port.
pub(super) fn service(word: &Word) -> Parsed<(IpAddr, u16)> {
    const SERVICE: &str = "an address and a port: 127.0.0.1:5432 or [::1]:5432";
    let whole = Part {
        text: &word.text,
        at: 0,
    };
    let unknown = |suggestion| {
        whole.fault(
            format!("'{}' is not the address of a service", word.text),
            SERVICE,
            suggestion,
        )
    };
    let Some((host, port)) = host_port(whole) else {
        let port = number(whole.text).filter(|port| (1..=65535).contains(port));
        return unknown(port.map(|port| format!("127.0.0.1:{port}")));
    };
    let number = match number(port.text) {
        Some(number @ 1..=65535) => number as u16,
        _ => {
            return port.fault(
                format!("'{}' is not the port of a service", port.text),
                "a number from 1 to 65535",
                None,
            );
        }
    };
    if matches!(host.text, "localhost" | "loopback" | "*") {
        return unknown(Some(format!("127.0.0.1:{number}")));
    }
    let (ip, len) = ip_prefix(host)?;
    if len != if ip.is_ipv4() { 32 } else { 128 } || ip.is_unspecified() || ip.is_multicast() {
        return unknown(None);
    }
    Ok((ip, number))
}

fn vsock(part: Part<'_>) -> Parsed<Term> {
    let Some((host, port)) = host_port(part) else {
        let s = if super::parse::all_digits(part.text) {
            Some(format!("*:{}", part.text))
        } else {
            None
        };
        let lacks = if s.is_some() { "context id" } else { "port" };
        return part.fault(
            format!("'{}' has no {lacks}", part.text),
            "CID:PORT (a CID is a number, '*', 'cid-any', 'hypervisor', 'local' or 'host')",
            s,
        );
    };
    let cids = host.members()?.into_iter().map(cid);
    let cids = cids.collect::<Parsed<Vec<_>>>()?;
    let ports = port_sets(port, u32::MAX - 1, 0)?;
    Ok(Term::Vsock { cids, ports })
}

pub(super) fn cid(part: Part<'_>) -> Parsed<CidSet> {
    match part.text {
        "*" => Ok(CidSet::Any),
        "cid-any" | "any" => Ok(CidSet::Wild),
        "hypervisor" => Ok(CidSet::Id(0)),
        "local" => Ok(CidSet::Id(1)),
        "host" => Ok(CidSet::Id(2)),
        text => match number(text) {
            Some(u32::MAX) => Ok(CidSet::Wild),
            Some(n) => Ok(CidSet::Id(n)),
            None => part.fault(
                format!("'{text}' is not a context id"),
                "a number, '*', 'cid-any', 'hypervisor', 'local' or 'host'",
                nearest(text, ["cid-any", "hypervisor", "local", "host"]),
            ),
        },
    }
}

pub(super) fn number(text: &str) -> Option<u32> {
    if super::parse::all_digits(text) {
        text.parse().ok()
    } else {
        None
    }
}

fn port_sets(part: Part<'_>, max: u32, min: u32) -> Parsed<Vec<PortSet>> {
    part.members()?
        .into_iter()
        .map(|p| port_set(p, max, min))
        .collect()
}

pub(super) fn port_set(part: Part<'_>, max: u32, min: u32) -> Parsed<PortSet> {
    match part.text {
        "*" => return Ok(PortSet::Any),
        "auto" => return Ok(PortSet::Auto),
        "reserved" => return Ok(PortSet::Reserved),
        _ => {}
    }
    let (from, to) = part.text.split_once('-').unwrap_or((part.text, part.text));
    if !super::parse::all_digits(from) || !super::parse::all_digits(to) {
        return part.fault(
            format!("'{}' is not a port", part.text),
            "a number, a range like 8000-8100, a list like {80,443}, 'auto', 'reserved' or '*'",
            nearest(part.text, ["auto", "reserved", "*"]),
        );
    }
    let (from, to) = match (number(from), number(to)) {
        (Some(from), Some(to)) if from <= max && to <= max => (from, to),
        _ => {
            return part.fault(
                format!("'{}' is higher than the last port", part.text),
                &format!("at most {max}"),
                None,
            );
        }
    };
    if from > to {
        return part.fault(
            format!("the range '{}' is backwards", part.text),
            "the lower port first",
            Some(format!("{to}-{from}")),
        );
    }
    if from < min {
        let s = match to {
            0 => "auto".to_string(),
            1 => "{auto,1}".to_string(),
            to => format!("{{auto,1-{to}}}"),
        };
        return part.fault(
            "port 0 asks for an automatic port".to_string(),
            "'auto', or a number from 1",
            Some(s),
        );
    }
    Ok(PortSet::Range(from, to))
}
