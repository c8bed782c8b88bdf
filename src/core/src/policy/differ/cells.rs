//! The cells that the terms of two policies cut addresses and ports into: in each of
//! them every rule of both says the same.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::TooMany;
use super::atoms::{Pattern, Texts, atoms};
use crate::addr::{Addr, UnixName, VMADDR_ANY, af};
use crate::policy::ast::{CidSet, IpSet, PortSet, Rule, Term, UnixTerm};

/// Addresses in which every rule says the same.
#[derive(Clone)]
pub(super) struct Place {
    /// One of them; none for sockets whose addresses are not read.
    pub addr: Option<Addr>,
    pub v6only: bool,
    /// From the first to the last: places that follow each other can be one.
    pub range: Option<Range>,
    /// What it is called, if it is no range.
    pub name: String,
    /// The ports of its family count.
    pub has_ports: bool,
}

/// Addresses of one family, first and last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub family: u16,
    pub from: u128,
    pub to: u128,
}

/// Ports, first and last.
pub(super) type Ports = (u32, u32);

impl Range {
    pub fn is_before(&self, next: &Range) -> bool {
        // What is IPv4 is no IPv6 address: there is no gap.
        let is_around_mapped = self.family == af::INET6
            && self.to.checked_add(1) == Some(MAPPED.0)
            && next.from == MAPPED.1 + 1;
        self.family == next.family
            && (self.to.checked_add(1) == Some(next.from) || is_around_mapped)
    }

    /// Is it every address of its family but the wildcard?
    pub fn is_whole(&self) -> bool {
        let end = match self.family {
            af::INET => u32::MAX.into(),
            af::INET6 => u128::MAX,
            _ => u128::from(VMADDR_ANY - 1),
        };
        self.from <= 1 && self.to == end
    }

    /// As a term has it, if it is one.
    pub fn text(&self) -> String {
        let one = |n: u128| match self.family {
            af::INET => Ipv4Addr::from_bits(n as u32).to_string(),
            af::INET6 => format!("[{}]", Ipv6Addr::from_bits(n)),
            _ => n.to_string(),
        };
        let bits = if self.family == af::INET { 32 } else { 128 };
        if self.from == self.to {
            return one(self.from);
        }
        // The wildcard, which is the first, is apart: 0.0.0.1 begins what is left.
        let from = if self.from == 1 { 0 } else { self.from };
        let size = self.to - from;
        let is_prefix = size & size.wrapping_add(1) == 0 && from & size == 0;
        let len = bits - size.count_ones();
        match self.family {
            af::INET if is_prefix => format!("{}/{len}", Ipv4Addr::from_bits(from as u32)),
            af::INET6 if is_prefix => format!("[{}/{len}]", Ipv6Addr::from_bits(from)),
            _ if self.is_whole() => "every id".to_string(),
            _ => format!("{}-{}", one(self.from), one(self.to)),
        }
    }
}

/// Intervals of `from..=to` between these places.
fn intervals(cuts: BTreeSet<u128>, from: u128, to: u128) -> Vec<(u128, u128)> {
    let mut starts: Vec<u128> = cuts
        .into_iter()
        .filter(|c| (from..=to).contains(c))
        .collect();
    if starts.first() != Some(&from) {
        starts.insert(0, from);
    }
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([to]);
    starts.iter().copied().zip(ends).collect()
}

/// Cuts at the ends of a range.
fn cut(cuts: &mut BTreeSet<u128>, from: u128, to: u128) {
    cuts.insert(from);
    cuts.extend(to.checked_add(1));
}

/// The last address of a prefix.
fn last(from: u128, bits: u32, len: u8) -> u128 {
    let host = bits.saturating_sub(len.into());
    from | 1u128.checked_shl(host).map_or(u128::MAX, |n| n - 1)
}

const MAPPED: (u128, u128) = (0xffff << 32, 0xffff_ffff_ffff);

/// The places of IP, for sockets of one family.
pub(super) fn ip(rules: &[&Rule], is_six: bool) -> Vec<Place> {
    let (mut four, mut six) = (BTreeSet::new(), BTreeSet::new());
    cut(&mut six, MAPPED.0, MAPPED.1);
    for rule in rules {
        let Term::Ip { addrs, .. } = &rule.term else {
            continue;
        };
        for set in addrs {
            match set {
                IpSet::Any | IpSet::Wild4 | IpSet::Wild6 => {}
                IpSet::Loopback => {
                    cut(&mut four, 127 << 24, (128 << 24) - 1);
                    cut(&mut six, 1, 1);
                }
                IpSet::V4(ip, len) => {
                    let from = u128::from(u32::from_be_bytes(*ip));
                    cut(&mut four, from, last(from, 32, *len));
                }
                IpSet::V6(ip, len) => {
                    let from = u128::from_be_bytes(*ip);
                    cut(&mut six, from, last(from, 128, *len));
                }
            }
        }
    }
    let range = |family, (from, to): (u128, u128)| Place {
        addr: Some(match (family, is_six) {
            (af::INET, false) => Addr::Inet {
                ip: (from as u32).to_be_bytes(),
                port: 0,
            },
            (af::INET, true) => Addr::inet6((MAPPED.0 | from).to_be_bytes(), 0),
            _ => Addr::inet6(from.to_be_bytes(), 0),
        }),
        v6only: false,
        range: Some(Range { family, from, to }),
        name: String::new(),
        has_ports: true,
    };
    let wild = |addr, v6only, name: &str| Place {
        addr: Some(addr),
        v6only,
        range: None,
        name: name.to_string(),
        has_ports: true,
    };
    let wild4 = range(af::INET, (0, 0));
    let mut places = Vec::new();
    places.push(Place {
        range: None,
        name: "0.0.0.0".to_string(),
        ..wild4
    });
    let of_four = intervals(four, 1, u32::MAX.into()).into_iter();
    places.extend(of_four.map(|i| range(af::INET, i)));
    if is_six {
        let any = Addr::inet6([0; 16], 0);
        places.push(wild(any, true, "[::] v6only"));
        places.push(wild(any, false, "[::] dual-stack"));
        let of_six = intervals(six, 1, u128::MAX).into_iter();
        places.extend(
            of_six
                .filter(|i| i.0 != MAPPED.0)
                .map(|i| range(af::INET6, i)),
        );
    }
    places
}

/// The places of vsock.
pub(super) fn vsock(rules: &[&Rule]) -> Vec<Place> {
    let mut cuts = BTreeSet::new();
    for rule in rules {
        if let Term::Vsock { cids, .. } = &rule.term {
            for cid in cids {
                if let CidSet::Id(n) = cid {
                    cut(&mut cuts, (*n).into(), (*n).into());
                }
            }
        }
    }
    let addr = |cid| {
        Some(Addr::Vsock {
            cid,
            port: 0,
            flags: 0,
        })
    };
    let mut places: Vec<_> = intervals(cuts, 0, u128::from(VMADDR_ANY - 1))
        .into_iter()
        .map(|(from, to)| Place {
            addr: addr(from as u32),
            v6only: false,
            range: Some(Range {
                family: af::VSOCK,
                from,
                to,
            }),
            name: String::new(),
            has_ports: true,
        })
        .collect();
    places.push(Place {
        addr: addr(VMADDR_ANY),
        v6only: false,
        range: None,
        name: "cid-any".to_string(),
        has_ports: true,
    });
    places
}

/// The places of Unix sockets.
pub(super) fn unix(rules: &[&Rule]) -> Result<Vec<Place>, TooMany> {
    let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
    for rule in rules {
        let (to, text) = match &rule.term {
            Term::Unix(UnixTerm::Path(text)) => (&mut paths, text),
            Term::Unix(UnixTerm::Abstract(text)) => (&mut names, text),
            _ => continue,
        };
        to.insert(Pattern {
            text: text.clone(),
            name_only: false,
            literal: rule.exactly,
        });
    }
    let place = |addr, name| Place {
        addr: Some(Addr::Unix(addr)),
        v6only: false,
        range: None,
        name,
        has_ports: false,
    };
    let mut places = Vec::new();
    places.push(place(UnixName::AUTO, "unix:auto".to_string()));
    for (set, texts, of) in [
        (paths, Texts::Paths, "unix:"),
        (names, Texts::Names, "unix:@"),
    ] {
        let patterns: Vec<Pattern> = set.into_iter().collect();
        for atom in atoms(&patterns, texts)? {
            let name = match texts {
                Texts::Names => UnixName::abstract_(&atom.text),
                _ => UnixName::path(&atom.text),
            };
            let Some(name) = name else {
                continue;
            };
            places.push(place(
                name,
                format!("{of}{}", called(&patterns, &atom.matches)),
            ));
        }
    }
    Ok(places)
}

/// A set of texts by the patterns that they match.
pub(super) fn called(patterns: &[Pattern], matches: &[bool]) -> String {
    let of = |wanted: bool| {
        let these = patterns
            .iter()
            .zip(matches)
            .filter(move |(_, m)| **m == wanted);
        these.map(|(p, _)| p.text.as_str()).collect::<Vec<_>>()
    };
    match (of(true).as_slice(), patterns.len()) {
        ([], 0) => "**".to_string(),
        ([], _) => "(any other)".to_string(),
        // What matches a text matches it and nothing beside.
        (some, _) => {
            let narrow = some.iter().max_by_key(|text| text.len());
            narrow.map_or_else(String::new, |text| text.to_string())
        }
    }
}

/// The ports that the rules tell apart, from 0 for one of the kernel's choice, which
/// for vsock is the last.
pub(super) fn ports(rules: &[&Rule], is_vsock: bool, start: u16) -> Vec<Ports> {
    let mut cuts = BTreeSet::new();
    let end: u128 = if is_vsock { VMADDR_ANY.into() } else { 65535 };
    match is_vsock {
        true => cut(&mut cuts, end, end),
        false => cut(&mut cuts, 0, 0),
    }
    for rule in rules {
        let (Term::Ip { ports, .. } | Term::Vsock { ports, .. }) = &rule.term else {
            continue;
        };
        for set in ports {
            match set {
                PortSet::Any | PortSet::Auto => {}
                PortSet::Reserved if is_vsock => cut(&mut cuts, 0, 1023),
                PortSet::Reserved => cut(&mut cuts, 1, u128::from(start.max(1)) - 1),
                PortSet::Range(from, to) => cut(&mut cuts, (*from).into(), (*to).into()),
            }
        }
    }
    if !is_vsock && rules.iter().any(|rule| rule.unprivileged) {
        cut(&mut cuts, 1, u128::from(start.max(1)) - 1);
    }
    let all = intervals(cuts, 0, end).into_iter();
    all.map(|(from, to)| (from as u32, to as u32)).collect()
}

/// Ports as a term has them.
pub(super) fn ports_text(ports: &[Ports], is_vsock: bool) -> String {
    let (auto, last) = match is_vsock {
        true => (VMADDR_ANY, VMADDR_ANY - 1),
        false => (0, 65535),
    };
    let first = if is_vsock { 0 } else { 1 };
    let mut joined: Vec<Ports> = Vec::new();
    let mut has_auto = false;
    for &(from, to) in ports {
        if (from, to) == (auto, auto) {
            has_auto = true;
            continue;
        }
        match joined.last_mut() {
            Some(before) if before.1.checked_add(1) == Some(from) => before.1 = to,
            _ => joined.push((from, to)),
        }
    }
    if has_auto && joined == [(first, last)] {
        return "*".to_string();
    }
    let mut texts: Vec<String> = joined
        .iter()
        .map(|(from, to)| match from == to {
            true => from.to_string(),
            false => format!("{from}-{to}"),
        })
        .collect();
    if has_auto {
        texts.push("auto".to_string());
    }
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("{{{}}}", many.join(",")),
    }
}
