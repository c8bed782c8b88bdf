//! The policy language read off its page, rule by rule, without an index.

use std::collections::HashMap;

use bindgate_core::addr::{Addr, UnixKind, VMADDR_ANY};
use bindgate_core::policy::*;
use bindgate_core::socket::KindSet;

/// What the oracle says: the deciding rule and the first note.
pub type Answer = (Option<usize>, Option<usize>);

/// The first rule that matches.
pub fn decide(p: &Policy, q: &Query<'_>, used: &mut HashMap<usize, u32>) -> Answer {
    let mut note = None;
    for (i, rule) in p.rules.iter().enumerate() {
        let is_note = rule.action == Action::Note;
        if is_note && note.is_some() {
            continue;
        }
        match matches(rule, q) {
            Some(true) => {}
            Some(false) => continue,
            // Whether it matches is unknown: a rule that allows does not.
            None if rule.action == Action::Allow => continue,
            None => {}
        }
        if let Some(uses) = rule.uses {
            let n = used.entry(i).or_default();
            *n += 1;
            let takes = match uses {
                Uses::Times(count) => *n <= count,
                Uses::After(count) => *n > count,
                Uses::Every(count) => n.is_multiple_of(count),
            };
            if !takes {
                continue;
            }
        }
        if is_note {
            note = Some(i);
        } else {
            return (Some(i), note);
        }
    }
    (None, note)
}

/// Does the rule match? `None` if a condition of it cannot be evaluated and all
/// others hold.
fn matches(rule: &Rule, q: &Query<'_>) -> Option<bool> {
    let kind = match rule.kinds {
        Kinds::Any => Some(true),
        Kinds::Of(_) if q.unknown_socket => None,
        Kinds::Of(set) => Some(set.holds(q.kinds)),
    };
    let user = match &rule.user {
        None => Some(true),
        Some(User::Id(n)) => q.uid.map(|uid| uid == *n),
        Some(User::Name(name)) => q.uid.map(|uid| super::Users.uid(name) == Some(uid)),
    };
    let program = match &rule.program {
        None => Some(true),
        Some(_) if q.program.is_empty() => None,
        Some(Program::Executable(glob)) => Some(in_program(glob, q.program)),
        Some(Program::Script(glob)) => Some(in_program(glob, q.script)),
    };
    let rest = rule.op == q.op
        && (q.implicit != Implicit::Connect || rule.implicit)
        && (!rule.unprivileged || q.unprivileged == Some(true))
        && (q.op == Op::Socket || address(rule, q));
    let all = [kind, user, program, Some(rest)];
    if all.contains(&Some(false)) {
        return Some(false);
    }
    all.into_iter().collect::<Option<Vec<_>>>().map(|_| true)
}

fn in_program(glob: &str, path: &[u8]) -> bool {
    let name = path.rsplit(|b| *b == b'/').next().unwrap();
    let path = if glob.contains('/') || glob == "**" {
        path
    } else {
        name
    };
    !path.is_empty() && glob_matches(glob.as_bytes(), path)
}

/// Can sockets of this kind have an address of this family at all?
fn family_fits(kinds: Kinds, addr: &Addr) -> bool {
    let has = |names: &[&str]| match kinds {
        Kinds::Any => true,
        Kinds::Of(set) => KindSet::NAMES
            .iter()
            .any(|(n, k)| set.intersects(*k) && names.contains(n)),
    };
    match addr {
        Addr::Unix(_) => has(&["unix"]),
        Addr::Vsock { .. } => has(&["vsock"]),
        Addr::Inet { .. } | Addr::Inet6 { .. } => has(&[
            "inet", "inet6", "tcp", "tcp-only", "mptcp", "udp", "udp-only", "udplite", "sctp",
            "ping", "raw",
        ]),
        _ => true,
    }
}

fn address(rule: &Rule, q: &Query<'_>) -> bool {
    let Some(addr) = q.addr else {
        return every(&rule.term, rule.kinds);
    };
    if !family_fits(rule.kinds, addr) {
        return false;
    }
    // The reading that grants, or the one that takes.
    let grants = matches!(rule.action, Action::Allow | Action::Move(_));
    match (&rule.term, addr) {
        (term, _) if every(term, rule.kinds) => true,
        (Term::Ip { addrs, ports }, Addr::Inet { .. } | Addr::Inet6 { .. }) => {
            let port = addr.port().unwrap();
            ports.iter().any(|p| match p {
                PortSet::Any => true,
                PortSet::Auto => port == 0,
                PortSet::Reserved => port != 0 && port < u32::from(q.unprivileged_start),
                PortSet::Range(a, b) => (*a..=*b).contains(&port),
            }) && ip(addrs, addr, q.v6only, grants, rule.exactly)
        }
        (Term::Ip { addrs, ports }, Addr::Vsock { port, .. }) => {
            addrs.contains(&IpSet::Any) && vsock_port(ports, *port)
        }
        (Term::Ip { addrs, ports }, Addr::Unix(name)) => {
            addrs.contains(&IpSet::Any)
                && (ports.contains(&PortSet::Any)
                    || (ports.contains(&PortSet::Auto) && name.kind == UnixKind::Auto))
        }
        (Term::Ip { addrs, ports }, _) => {
            addrs.contains(&IpSet::Any) && ports.contains(&PortSet::Any)
        }
        (Term::Vsock { cids, ports }, Addr::Vsock { cid, port, .. }) => {
            vsock_port(ports, *port)
                && cids.iter().any(|c| match c {
                    CidSet::Any => true,
                    CidSet::Wild => *cid == VMADDR_ANY,
                    CidSet::Id(n) if *cid == VMADDR_ANY => !grants && !rule.exactly && *n != *cid,
                    CidSet::Id(n) => n == cid,
                })
        }
        (Term::Unix(term), Addr::Unix(name)) => {
            let text = String::from_utf8(name.bytes().to_vec()).unwrap();
            let same = |glob: &str, text: &str| {
                if rule.exactly {
                    glob == text
                } else {
                    glob_matches(glob.as_bytes(), text.as_bytes())
                }
            };
            match term {
                UnixTerm::Auto => name.kind == UnixKind::Auto,
                UnixTerm::Path(glob) => {
                    let mut text = text;
                    while let Some(i) = text.find("//") {
                        text.remove(i);
                    }
                    while let Some(i) = text.find("/./") {
                        text.replace_range(i..i + 2, "");
                    }
                    name.kind == UnixKind::Path && same(glob, &text)
                }
                UnixTerm::Abstract(glob) => name.kind == UnixKind::Abstract && same(glob, &text),
            }
        }
        _ => false,
    }
}

/// Is it every address, whatever it is? `*:*` is, for what has no ports too.
fn every(term: &Term, _kinds: Kinds) -> bool {
    match term {
        Term::Every => true,
        Term::Ip { addrs, ports } => addrs.contains(&IpSet::Any) && ports.contains(&PortSet::Any),
        _ => false,
    }
}

fn vsock_port(ports: &[PortSet], port: u32) -> bool {
    ports.iter().any(|p| match p {
        PortSet::Any => true,
        PortSet::Auto => port == VMADDR_ANY,
        PortSet::Reserved => port < 1024,
        PortSet::Range(a, b) => (*a..=*b).contains(&port),
    })
}

/// What somebody can send to, as far as the sets of the language tell it
/// apart: single addresses, and "everything else" of a family.
fn ip(addrs: &[IpSet], addr: &Addr, v6only: bool, grants: bool, exactly: bool) -> bool {
    let v4 = addr.ipv4();
    let v6 = match addr {
        Addr::Inet6 { ip, .. } if v4.is_none() => Some(*ip),
        _ => None,
    };
    // The wildcards that the socket is.
    let wild4 = v4 == Some([0; 4]);
    let wild6 = v6 == Some([0; 16]);
    if exactly {
        return addrs.iter().any(|a| match a {
            IpSet::Any => true,
            IpSet::Wild4 => wild4,
            IpSet::Wild6 => wild6,
            a if wild4 || wild6 => {
                let _ = a;
                false
            }
            a => holds(a, v4, v6),
        });
    }
    let all4 = wild4 || (wild6 && !v6only);
    let all6 = wild6;
    if !all4 && !all6 {
        return addrs.iter().any(|a| holds(a, v4, v6));
    }
    let has = |want: &[IpSet]| addrs.iter().any(|a| want.contains(a));
    if grants {
        (!all4 || has(&[IpSet::Any, IpSet::Wild4])) && (!all6 || has(&[IpSet::Any, IpSet::Wild6]))
    } else {
        addrs.iter().any(|a| match a {
            IpSet::Any | IpSet::Loopback => true,
            IpSet::Wild4 | IpSet::V4(..) => all4,
            IpSet::Wild6 | IpSet::V6(..) => all6,
        })
    }
}

/// Is the single address in the set?
fn holds(set: &IpSet, v4: Option<[u8; 4]>, v6: Option<[u8; 16]>) -> bool {
    let same_bits = |a: &[u8], b: &[u8], n: u8| {
        (0..usize::from(n)).all(|i| (a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1 == 0)
    };
    match (set, v4, v6) {
        (IpSet::Any, _, _) => true,
        (IpSet::Loopback, Some(a), _) => a[0] == 127,
        (IpSet::Loopback, _, Some(a)) => std::net::Ipv6Addr::from(a).is_loopback(),
        (IpSet::V4(p, n), Some(a), _) => same_bits(p, &a, *n),
        (IpSet::V6(p, n), _, Some(a)) => same_bits(p, &a, *n),
        _ => false,
    }
}
