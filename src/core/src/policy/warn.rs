//! Warnings: what in a policy is probably not meant.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Op;
use super::ast::{
    Action, At, IpSet, Kinds, Policy, PortSet, Program, Rule, TargetHost, TargetPort, TargetSpec,
    Term, UnixTerm,
};
use super::diag::{Diagnostic, Severity};
use super::footprint::{Footprint, Ranges, Spot, footprint};
use super::layout::{Class, entry};
use super::parse::has_auto;
use super::print::Errno;
use super::trie::Prefix;
use crate::socket::KindSet;

/// Pairs of rules that are compared, at most: a policy of thousands of rules
/// is a program's work, and the program can compare them better.
const MAX_PAIRS: usize = 200_000;

/// Returns the warnings about a policy. `reached` says for each rule whether it is
/// in the index.
pub(super) fn warnings(p: &Policy, reached: &[bool]) -> Vec<Diagnostic> {
    let mut w = Warner {
        policy: p,
        out: Vec::new(),
    };
    for rule in &p.rules {
        w.address(rule);
        w.target(rule);
        w.program(rule);
    }
    for gap in super::gaps::all(p) {
        w.say(gap.at, gap.message, gap.suggestion);
    }
    w.collisions();
    w.hidden(reached);
    w.idle();
    w.deaf();
    w.out.sort_by_key(|(at, _)| (at.source, at.line, at.column));
    w.out.into_iter().map(|(_, d)| d).collect()
}

struct Warner<'p> {
    policy: &'p Policy,
    out: Vec<(At, Diagnostic)>,
}

impl Warner<'_> {
    fn say(&mut self, at: At, message: String, suggestion: Option<String>) {
        let mut d = Diagnostic::at(self.policy, at, Severity::Warning, message);
        d.suggestion = suggestion;
        self.out.push((at, d));
    }

    /// A rule by number and place.
    fn named(&self, i: usize) -> String {
        let at = self.policy.rules.get(i).map(|r| r.at).unwrap_or_default();
        match self.policy.sources.get(at.source as usize) {
            Some(s) => format!("rule {} ({}:{})", i + 1, s.name, at.line),
            None => format!("rule {}", i + 1),
        }
    }

    fn address(&mut self, rule: &Rule) {
        if let Term::Unix(UnixTerm::Path(s) | UnixTerm::Abstract(s)) = &rule.term
            && super::glob::literal_prefix(s.as_bytes()) > 108
        {
            let message = "a Unix name has at most 108 bytes: this rule never matches";
            self.say(rule.at, message.to_string(), None);
        }
        let Term::Ip { addrs, .. } = &rule.term else {
            return;
        };
        let six_only = addrs
            .iter()
            .all(|a| matches!(a, IpSet::Wild6 | IpSet::V6(..)));
        if six_only && rule.kinds == Kinds::Of(KindSet::INET) {
            let message = "an IPv4 socket has no IPv6 address: this rule never matches";
            self.say(rule.at, message.to_string(), None);
        }
        let grants = matches!(rule.action, Action::Allow | Action::Move(_));
        let has = |a| addrs.contains(&a);
        if grants
            && !rule.exactly
            && has(IpSet::Wild6)
            && !has(IpSet::Wild4)
            && !has(IpSet::Any)
            && !self.has_ipv4_beside(rule)
        {
            let message = "'[::]' means IPv6 only here: a dual-stack socket on [::] also receives \
                           IPv4, and this rule does not match it";
            let mut r = rule.clone();
            r.exactly = true;
            self.say(rule.at, message.to_string(), Some(r.to_string()));
        }
    }

    /// Does another rule grant the same of IPv4? Then there are two sockets, and it is
    /// meant so.
    fn has_ipv4_beside(&self, rule: &Rule) -> bool {
        let Term::Ip { ports, .. } = &rule.term else {
            return false;
        };
        let is_beside = |other: &Rule| {
            let Term::Ip {
                addrs,
                ports: others,
            } = &other.term
            else {
                return false;
            };
            (other.op, other.kinds, &other.program) == (rule.op, rule.kinds, &rule.program)
                && matches!(other.action, Action::Allow | Action::Move(_))
                && others == ports
                && addrs.contains(&IpSet::Wild4)
        };
        self.policy.rules.iter().any(is_beside)
    }

    fn target(&mut self, rule: &Rule) {
        let Action::Move(spec) = &rule.action else {
            return;
        };
        let fam = rule.kinds.families();
        let is = |k: KindSet| rule.kinds == Kinds::Of(k);
        let (mut four, mut six, mut unix, mut vsock) = (fam.ip, fam.ip, fam.unix, fam.vsock);
        match &rule.term {
            Term::Every => {}
            Term::Ip { addrs, .. } => {
                let any = addrs.contains(&IpSet::Any);
                let both = any || addrs.contains(&IpSet::Loopback);
                four &= both
                    || addrs
                        .iter()
                        .any(|a| matches!(a, IpSet::V4(..) | IpSet::Wild4));
                six &= both
                    || addrs
                        .iter()
                        .any(|a| matches!(a, IpSet::V6(..) | IpSet::Wild6));
                vsock &= any;
                unix = false;
            }
            Term::Vsock { .. } => (four, six, unix) = (false, false, false),
            Term::Unix(_) | Term::File(_) => (four, six, vsock) = (false, false, false),
        }
        if is(KindSet::INET) {
            six = false;
        }
        let wrong = match spec {
            TargetSpec::Path(_) | TargetSpec::Abstract(_) => {
                let raw = [
                    KindSet::RAW,
                    KindSet::PING,
                    KindSet::PACKET,
                    KindSet::NETLINK,
                ];
                raw.into_iter()
                    .any(is)
                    .then_some("a socket of this kind cannot be replaced by a Unix socket")
            }
            TargetSpec::Port { host, .. } => match host {
                TargetHost::Cid(_) if four || six || unix => {
                    Some("only a vsock socket can be bound to a context id")
                }
                TargetHost::V4(_) | TargetHost::V6(_) if vsock || unix => {
                    Some("a vsock or Unix socket cannot be bound to an IP address")
                }
                TargetHost::Loopback if unix => {
                    Some("a Unix socket cannot be bound to an IP address")
                }
                TargetHost::V6(_) if four && !is(KindSet::INET6) => {
                    Some("an IPv4 socket cannot be bound to an IPv6 address")
                }
                TargetHost::V4(_) if six && !four => {
                    Some("a socket with IPV6_V6ONLY cannot be bound to an IPv4 address")
                }
                _ => None,
            },
        };
        if let Some(message) = wrong {
            self.say(rule.target_at, message.to_string(), None);
        }
        if rule.op != Op::Bind {
            return;
        }
        let (Term::Ip { ports, .. } | Term::Vsock { ports, .. }) = &rule.term else {
            return;
        };
        let uses_port = |t: &str| t.replace("%%", "").contains("%p");
        let many = !matches!(ports.as_slice(), [PortSet::Auto])
            && !matches!(ports.as_slice(), [PortSet::Range(a, b)] if a == b);
        let message = match spec {
            TargetSpec::Port {
                port: TargetPort::Number(n),
                ..
            } if many => {
                format!(
                    "several ports are redirected to port {n}: the second bind fails with EADDRINUSE"
                )
            }
            TargetSpec::Path(t) | TargetSpec::Abstract(t) if many && !uses_port(t) => {
                "several ports are redirected to one Unix name: the second bind fails with \
                 EADDRINUSE ('%p' stands for the port)"
                    .to_string()
            }
            TargetSpec::Path(t) | TargetSpec::Abstract(t) if has_auto(ports) && uses_port(t) => {
                "'%p' is 'auto' for every automatic port: the second bind fails with EADDRINUSE"
                    .to_string()
            }
            _ => return,
        };
        self.say(rule.target_at, message, None);
    }

    fn program(&mut self, rule: &Rule) {
        let program = match &rule.program {
            Some(Program::Executable(g) | Program::Script(g)) => Some(g),
            None => None,
        };
        let file = match &rule.term {
            Term::File(g) => Some(g),
            _ => None,
        };
        for g in program.into_iter().chain(file) {
            if g.contains('/') && !g.starts_with(['/', '*', '?', '[', '\\']) {
                let message =
                    format!("'{g}' matches no program: the path of a program begins with '/'");
                self.say(rule.at, message, None);
            }
        }
    }

    /// Rules that move different addresses to the same one.
    fn collisions(&mut self) {
        let mut by: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, rule) in self.policy.rules.iter().enumerate() {
            if let Action::Move(spec) = &rule.action
                && rule.op == Op::Bind
            {
                let fixed = match spec {
                    TargetSpec::Port { port, .. } => matches!(port, TargetPort::Number(_)),
                    TargetSpec::Path(t) | TargetSpec::Abstract(t) => !t.contains('%'),
                };
                if fixed {
                    by.entry(spec.to_string()).or_default().push(i);
                }
            }
        }
        for rules in by.values() {
            for (n, &b) in rules.iter().enumerate().take(100) {
                let same = |a: &&usize| self.collide(**a, b);
                if let Some(&a) = rules.iter().take(n).find(same)
                    && let Some(rule) = self.policy.rules.get(b)
                {
                    let message = format!(
                        "{} redirects another address to the same target: the second bind fails \
                         with EADDRINUSE",
                        self.named(a)
                    );
                    self.say(rule.target_at, message, None);
                }
            }
        }
    }

    fn collide(&self, a: usize, b: usize) -> bool {
        let (Some(a), Some(b)) = (self.policy.rules.get(a), self.policy.rules.get(b)) else {
            return false;
        };
        let kinds = match (a.kinds, b.kinds) {
            (Kinds::Of(a), Kinds::Of(b)) => a.intersects(b),
            _ => true,
        };
        let keeps = matches!(
            a.action,
            Action::Move(TargetSpec::Port {
                host: TargetHost::Keep,
                ..
            })
        );
        let parts = |t: &Term| match t {
            Term::Ip { addrs, ports } => (Some(addrs.clone()), Some(ports.clone())),
            Term::Vsock { ports, .. } => (None, Some(ports.clone())),
            _ => (None, None),
        };
        let ((addrs_a, ports_a), (addrs_b, ports_b)) = (parts(&a.term), parts(&b.term));
        // Another address that stays another address is no collision.
        kinds && ports_a != ports_b && (!keeps || addrs_a == addrs_b)
    }

    /// Rules that others always get ahead of.
    fn hidden(&mut self, reached: &[bool]) {
        let rules = &self.policy.rules;
        // Those that always match what they are about, by operation.
        let mut sure: [Vec<(usize, Footprint)>; Op::ALL.len()] = Default::default();
        let mut pairs = 0;
        let mut found: Vec<(usize, Option<(usize, Cover)>)> = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            if pairs > MAX_PAIRS {
                break;
            }
            if rule.op == Op::Exec {
                continue;
            }
            let fp = footprint(rule);
            let Some(before) = sure.get_mut(rule.op.index()) else {
                continue;
            };
            let mut by = None;
            for (a, earlier) in before.iter() {
                pairs += 1 + fp.spots.len() * earlier.spots.len() / 16;
                by = covers(earlier, &fp).map(|how| (*a, how));
                if by.is_some() {
                    break;
                }
            }
            if by.is_some() || reached.get(i) == Some(&false) {
                found.push((i, by));
            } else if fp.entry & entry::PLAIN != 0 && fp.entry & entry::NOTE == 0 {
                before.push((i, fp));
            }
        }
        for (i, by) in found {
            let message = match by {
                Some((a, Cover::Always)) => {
                    format!("this rule is never reached: {} comes first", self.named(a))
                }
                Some((a, Cover::WhereReserved)) => format!(
                    "where ports below 1024 are reserved, this rule is not reached: {} comes first",
                    self.named(a)
                ),
                None => "this rule is never reached: earlier rules always match first".to_string(),
            };
            if let Some(rule) = self.policy.rules.get(i) {
                self.say(rule.at, message, None);
            }
        }
    }

    /// `allow` rules where nothing is refused.
    fn idle(&mut self) {
        for op in Op::ALL {
            let mut rules = self.policy.rules.iter().filter(|r| r.op == op);
            let refuses = matches!(self.policy.defaults.get(op), Some(d) if d.deny.is_some());
            // A policy that enforces refuses to start what it cannot hold.
            let refuses = refuses || op == Op::Exec && self.policy.acts();
            if refuses || !rules.clone().all(|r| r.action == Action::Allow) {
                continue;
            }
            if let Some(rule) = rules.next() {
                let message = format!(
                    "this has no effect: no rule refuses {1} {0}, and the default allows it",
                    op.name(),
                    if op == Op::Exec { "an" } else { "a" }
                );
                let s = format!("default deny for {}", op.name());
                self.say(rule.at, message, Some(s));
            }
        }
    }

    /// A bare `default deny` that lets servers bind, and none listen.
    fn deaf(&mut self) {
        let Some(line) = self.policy.defaults.get(Op::Listen) else {
            return;
        };
        let Some(errno) = line.deny.filter(|_| !line.named) else {
            return;
        };
        let at = line.at;
        let rules = &self.policy.rules;
        let listens = |k: Kinds| match k {
            Kinds::Any => true,
            Kinds::Of(set) => set.intersects(LISTENERS),
        };
        let refuses = |r: &Rule| matches!(r.action, Action::Deny(_) | Action::Note);
        let binds = |r: &Rule| r.op == Op::Bind && !refuses(r) && listens(r.kinds);
        if rules.iter().any(binds) && !rules.iter().any(|r| r.op == Op::Listen && !refuses(r)) {
            let message = "this refuses listen() too, and no rule allows it: servers may bind, but \
                           not listen";
            let deny = match errno {
                super::errno::EACCES => "deny".to_string(),
                errno => format!("deny {}", Errno(errno)),
            };
            let s = format!("default {deny} for bind");
            self.say(at, message.to_string(), Some(s));
        }
    }
}

/// Kinds of sockets that listen(2).
const LISTENERS: KindSet = KindSet(
    KindSet::INET.0
        | KindSet::INET6.0
        | KindSet::TCP.0
        | KindSet::TCP_ONLY.0
        | KindSet::MPTCP.0
        | KindSet::UNIX.0
        | KindSet::VSOCK.0,
);

/// How sure it is that one rule gets ahead of another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cover {
    Always,
    /// Where the unprivileged ports start at 1024, as they mostly do.
    WhereReserved,
}

/// Returns how surely a rule that always matches leaves nothing for another.
fn covers(a: &Footprint, b: &Footprint) -> Option<Cover> {
    if !kinds_cover(a.entry, b.entry) {
        return None;
    }
    let mut how = Cover::Always;
    for s in &b.spots {
        if !a.spots.iter().any(|t| spot_covers(t, s)) {
            return None;
        }
        how = how.max(ports_cover(a, b, s.0)?);
    }
    Some(how)
}

fn kinds_cover(a: u64, b: u64) -> bool {
    let kinds = a & entry::ANY_KIND != 0
        || (b & entry::ANY_KIND == 0 && (b & 0xffff) & !super::cells::widen(a & 0xffff) == 0);
    kinds && (b & entry::IMPLICIT == 0 || a & entry::IMPLICIT != 0)
}

fn spot_covers((class, at): &Spot, (class2, at2): &Spot) -> bool {
    class == class2
        && match class {
            // Of names, only that for all covers another.
            Class::UnixPath | Class::UnixAbstract => *at == Prefix::ALL,
            _ => at.covers(at2),
        }
}

fn ports_cover(a: &Footprint, b: &Footprint, class: Class) -> Option<Cover> {
    // vsock's reserved ports are the same everywhere.
    let (a, b, from) = match class {
        Class::V4 | Class::V6 | Class::Wild4 | Class::Wild6 | Class::WildDual => (&a.ip, &b.ip, 1),
        Class::Vsock | Class::VsockWild => (&a.vsock, &b.vsock, 0),
        _ => return Some(Cover::Always),
    };
    let within =
        |a: &Ranges, (from, to): (u32, u32)| a.list.iter().any(|&(f, t)| f <= from && to <= t);
    if b.reserved && !a.reserved && !within(a, (0, u32::MAX)) {
        return None;
    }
    let mut how = Cover::Always;
    for &(first, last) in &b.list {
        if within(a, (first, last)) {
        } else if a.reserved && first >= from && last < 1024 {
            how = Cover::WhereReserved;
        } else {
            return None;
        }
    }
    Some(how)
}
