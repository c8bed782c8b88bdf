//! Where in the index a rule stands.

use alloc::vec::Vec;

use super::Op;
use super::ast::{Action, CidSet, IpSet, Kinds, PortSet, Rule, Term, UnixTerm};
use super::glob;
use super::layout::{Class, RESERVED_PORTS, entry};
use super::terms::Families;
use super::trie::Prefix;
use crate::addr::VMADDR_ANY;

/// A class of addresses, and those of it with a prefix.
pub(super) type Spot = (Class, Prefix);

/// The index entries of a rule: every place where it can match.
pub(super) struct Footprint {
    /// The rule as lists have it, without its number.
    pub entry: u64,
    pub spots: Vec<Spot>,
    pub ip: Ranges,
    pub vsock: Ranges,
}

impl Footprint {
    /// Can the rule match an address of vsock?
    pub fn is_about_vsock(&self) -> bool {
        let of_vsock = |(class, _): &Spot| matches!(class, Class::Vsock | Class::VsockWild);
        self.spots.iter().any(of_vsock)
    }
}

/// Ports of a rule, as the index sees them.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranges {
    /// First and last, in order, apart from each other.
    pub list: Vec<(u32, u32)>,
    pub reserved: bool,
}

/// Computes the index entries of a rule.
pub(super) fn footprint(rule: &Rule) -> Footprint {
    // `exactly` and the verbs that grant something want the whole of what
    // a socket receives in the term; the others want any of it.
    let receives =
        !rule.exactly && matches!(rule.action, Action::Deny(_) | Action::Hide | Action::Note);
    let fam = rule.kinds.families();
    let mut cells: Vec<Spot> = Vec::new();
    let mut ip_ports: &[PortSet] = &[PortSet::Any];
    let mut vsock_ports: &[PortSet] = &[PortSet::Any];
    let whole = |cells: &mut Vec<_>, classes: &[Class]| {
        cells.extend(classes.iter().map(|c| (*c, Prefix::ALL)));
    };
    let vsock = [Class::Vsock, Class::VsockWild];
    match &rule.term {
        Term::Every => {
            whole(&mut cells, &[Class::Other]);
            if rule.op != Op::Socket {
                every(fam, &mut cells);
            }
        }
        Term::Ip { addrs, ports } => {
            ip_ports = ports;
            ip(rule, addrs, receives, &mut cells);
            if addrs.contains(&IpSet::Any) {
                if fam.vsock {
                    vsock_ports = ports;
                    whole(&mut cells, &vsock);
                }
                // Under `*:auto` and `*:*` come the names that the kernel
                // makes up; under `*:*` all the others as well.
                if fam.unix && super::parse::has_auto(ports) {
                    whole(&mut cells, &[Class::UnixAuto]);
                }
                if ports.contains(&PortSet::Any) {
                    if fam.unix {
                        whole(&mut cells, &[Class::UnixPath, Class::UnixAbstract]);
                    }
                    whole(&mut cells, &[Class::Other]);
                }
            }
        }
        Term::Vsock { cids, ports } => {
            vsock_ports = ports;
            for cid in cids {
                match cid {
                    CidSet::Any => whole(&mut cells, &vsock),
                    CidSet::Wild => whole(&mut cells, &[Class::VsockWild]),
                    CidSet::Id(n) => {
                        cells.push((Class::Vsock, Prefix::of_32(*n, 32)));
                        if receives {
                            whole(&mut cells, &[Class::VsockWild]);
                        }
                    }
                }
            }
        }
        // The index is about addresses.
        Term::File(_) => {}
        Term::Unix(UnixTerm::Auto) => whole(&mut cells, &[Class::UnixAuto]),
        Term::Unix(UnixTerm::Path(s)) => name(&mut cells, Class::UnixPath, s, rule.exactly),
        Term::Unix(UnixTerm::Abstract(s)) => {
            name(&mut cells, Class::UnixAbstract, s, rule.exactly);
        }
    }
    cells.sort_unstable();
    cells.dedup();
    let ip_ranges = ranges(ip_ports, 0, u32::from(u16::MAX));
    let vsock_ranges = ranges(vsock_ports, VMADDR_ANY, VMADDR_ANY);
    let plain = rule.uses.is_none()
        && rule.user.is_none()
        && !rule.unprivileged
        && rule.program.is_none()
        && protocol(rule.kinds) == 0
        && !matches!(
            rule.term,
            Term::Unix(UnixTerm::Path(_) | UnixTerm::Abstract(_))
        );
    let note = rule.action == Action::Note;
    let mut e = kind_bits(rule.kinds);
    if rule.kinds == Kinds::Any {
        e |= entry::ANY_KIND;
    }
    if note {
        e |= entry::NOTE;
    }
    // A rule with `times` matches like any other; what it may do is
    // checked afterwards. It hides nothing, though.
    if plain {
        e |= entry::PLAIN;
    }
    if rule.implicit {
        e |= entry::IMPLICIT;
    }
    if rule.action == Action::Allow && rule.uses.is_none() && rule.user.is_none() {
        e |= entry::ALLOWS;
    }
    Footprint {
        entry: e,
        spots: cells,
        ip: ip_ranges,
        vsock: vsock_ranges,
    }
}

fn every(fam: Families, cells: &mut Vec<Spot>) {
    if fam.ip {
        for c in [
            Class::V4,
            Class::V6,
            Class::Wild4,
            Class::Wild6,
            Class::WildDual,
        ] {
            cells.push((c, Prefix::ALL));
        }
    }
    if fam.vsock {
        cells.push((Class::Vsock, Prefix::ALL));
        cells.push((Class::VsockWild, Prefix::ALL));
    }
    if fam.unix {
        for c in [Class::UnixAuto, Class::UnixPath, Class::UnixAbstract] {
            cells.push((c, Prefix::ALL));
        }
    }
}

/// The truth table of `docs/policy.md`, "What a term holds".
fn ip(rule: &Rule, addrs: &[IpSet], receives: bool, cells: &mut Vec<Spot>) {
    let (mut wild4, mut wild6, mut dual) = (false, false, false);
    for a in addrs {
        let (mut four, mut six) = (None, None);
        match a {
            IpSet::Any => {
                four = Some(([0; 4], 0));
                six = Some(([0; 16], 0));
                (wild4, wild6) = (true, true);
                dual = true;
            }
            IpSet::Loopback => {
                let mut one = [0; 16];
                one[15] = 1;
                four = Some(([127, 0, 0, 0], 8));
                six = Some((one, 128));
            }
            IpSet::Wild4 => wild4 = true,
            IpSet::Wild6 => {
                wild6 = true;
                dual |= rule.exactly;
            }
            IpSet::V4(ip, len) => four = Some((*ip, *len)),
            IpSet::V6(ip, len) => six = Some((*ip, *len)),
        }
        if let Some((ip, len)) = four {
            let prefix = Prefix::of_32(u32::from_be_bytes(ip), len);
            cells.push((Class::V4, prefix));
            wild4 |= receives;
        }
        if let Some((ip, len)) = six {
            cells.push((Class::V6, Prefix::of_128(u128::from_be_bytes(ip), len)));
            wild6 |= receives;
        }
    }
    if receives {
        dual = wild4 || wild6;
    } else if !rule.exactly {
        dual = wild4 && wild6;
    }
    for (class, holds) in [
        (Class::Wild4, wild4),
        (Class::Wild6, wild6),
        (Class::WildDual, dual),
    ] {
        if holds {
            cells.push((class, Prefix::ALL));
        }
    }
}

/// The IP protocol number that a rule wants, or 0.
pub(super) fn protocol(kinds: Kinds) -> u16 {
    match kinds {
        Kinds::Any => 0,
        Kinds::Of(set) => set.protocol(),
    }
}

/// The names of a rule's kinds, one bit each.
pub(super) fn kind_bits(kinds: Kinds) -> u64 {
    match kinds {
        Kinds::Any => 0xffff,
        Kinds::Of(set) => u64::from(set.names()),
    }
}

/// What a name must begin with. A name that is not a glob has to be the whole
/// of it; the rule's own words say so.
fn name(cells: &mut Vec<Spot>, class: Class, s: &str, exactly: bool) {
    let s = s.as_bytes();
    let n = if exactly {
        s.len()
    } else {
        glob::literal_prefix(s)
    };
    // No name is longer than 108 bytes, so a longer prefix is one of none.
    cells.push((class, Prefix::of_bytes(s.get(..n.min(109)).unwrap_or(s))));
}

/// Ports as ranges of what the index sees.
fn ranges(ports: &[PortSet], auto: u32, last: u32) -> Ranges {
    let mut r = Ranges::default();
    for p in ports {
        match p {
            PortSet::Any => r.list.push((0, u32::MAX)),
            PortSet::Auto => r.list.push((auto, auto)),
            PortSet::Reserved => r.reserved = true,
            PortSet::Range(a, b) => r.list.push((*a, (*b).min(last))),
        }
    }
    r.tidy();
    r
}

impl Ranges {
    pub fn tidy(&mut self) {
        self.list.sort_unstable();
        let mut out: Vec<(u32, u32)> = Vec::new();
        for &(a, b) in &self.list {
            match out.last_mut() {
                Some(last) if a <= last.1.saturating_add(1) => last.1 = last.1.max(b),
                _ => out.push((a, b)),
            }
        }
        self.list = out;
    }

    /// As a rule's port ranges in `LISTS`.
    pub(super) fn words(&self) -> Vec<u64> {
        let list = self.list.iter();
        let mut out: Vec<u64> = list
            .map(|&(a, b)| u64::from(a) << 32 | u64::from(b))
            .collect();
        if self.reserved {
            out.push(RESERVED_PORTS);
        }
        out
    }
}
