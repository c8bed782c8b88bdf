//! What a policy leaves out although its author probably thinks of it: clients
//! of one family, sockets that slip past a rule, calls that no rule sees.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::Op;
use super::ast::{
    Action, At, IpSet, Kinds, Policy, PortSet, Rule, TargetHost, TargetPort, TargetSpec, Term,
};
use super::diag::{Diagnostic, Severity};
use super::footprint::{Footprint, footprint};
use super::layout::Class;
use super::parse::has_auto;
use crate::socket::KindSet;

/// One of them, for a warning.
pub(super) struct Gap {
    pub at: At,
    pub message: String,
    pub suggestion: Option<String>,
}

/// All gaps that are worth a warning.
pub(super) fn all(policy: &Policy) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for rule in &policy.rules {
        let mut add = |at, message: &str, suggestion| {
            gaps.push(Gap {
                at,
                message: message.to_string(),
                suggestion,
            });
        };
        if let Some(suggestion) = slipped_past(policy, rule) {
            let message = "a server on a dual-stack [::] receives IPv4 as well, and this rule \
                           does not match it";
            add(rule.at, message, suggestion);
        }
        if let Some((message, suggestion)) = cut_off(rule) {
            add(rule.target_at, message, suggestion);
        }
        if loses_its_path(rule) {
            let message = "a program that calls chmod(), chown() or unlink() for its socket does \
                           so at the path that it asked for, not at the target";
            add(rule.target_at, message, None);
        }
        if is_about_resolver(rule) {
            let message = "glibc's own resolver (getaddrinfo and the like) is not intercepted: \
                           its queries to port 53 pass this rule";
            add(rule.at, message, None);
        }
    }
    gaps
}

fn has(fp: &Footprint, class: Class) -> bool {
    fp.spots.iter().any(|(c, _)| *c == class)
}

fn may_be_ipv6(kinds: Kinds) -> bool {
    kinds != Kinds::Of(KindSet::INET) && kinds.families().ip
}

fn may_be_ipv4(kinds: Kinds) -> bool {
    kinds != Kinds::Of(KindSet::INET6) && kinds.families().ip
}

fn refuses(policy: &Policy, op: Op) -> bool {
    matches!(policy.defaults.get(op), Some(line) if line.deny.is_some())
}

/// A move of 0.0.0.0 that a server on a dual-stack `[::]` slips past, since no
/// other rule and no default holds it. Gives the rule that does not.
fn slipped_past(policy: &Policy, rule: &Rule) -> Option<Option<String>> {
    let fp = footprint(rule);
    let moves = rule.op == Op::Bind && matches!(rule.action, Action::Move(_));
    if !moves
        || rule.exactly
        || !may_be_ipv6(rule.kinds)
        || !has(&fp, Class::Wild4)
        || has(&fp, Class::WildDual)
        || refuses(policy, rule.op)
    {
        return None;
    }
    let holds =
        |other: &Rule| {
            let acts = matches!(
                other.action,
                Action::Move(_) | Action::Deny(_) | Action::Hide
            );
            let kinds = match (rule.kinds, other.kinds) {
                (Kinds::Of(a), Kinds::Of(b)) => a.intersects(b),
                _ => true,
            };
            let other_fp = footprint(other);
            acts && other.op == rule.op
                && kinds
                && may_be_ipv6(other.kinds)
                && has(&other_fp, Class::WildDual)
                && (other_fp.ip.reserved && fp.ip.reserved
                    || fp.ip.list.iter().any(|&(from, to)| {
                        other_fp.ip.list.iter().any(|&(f, t)| f <= to && from <= t)
                    }))
        };
    if policy.rules.iter().any(holds) {
        return None;
    }
    let mut better = rule.clone();
    if let Term::Ip { addrs, .. } = &mut better.term {
        addrs.push(IpSet::Wild6);
    }
    if let Some((_, Some(target))) = cut_off(&better) {
        better.action = Action::Move(target_of(rule, TargetHost::Loopback)?);
        if target.starts_with('*') {
            better.action = Action::Move(target_of(rule, TargetHost::Keep)?);
        }
    }
    Some(Some(better.to_string()))
}

fn target_of(rule: &Rule, host: TargetHost) -> Option<TargetSpec> {
    match &rule.action {
        Action::Move(TargetSpec::Port { port, .. }) => Some(TargetSpec::Port { host, port: *port }),
        Action::Move(other) => Some(other.clone()),
        _ => None,
    }
}

/// A target that has one family for a socket that serves both, and the target
/// that keeps both if there is one.
fn cut_off(rule: &Rule) -> Option<(&'static str, Option<String>)> {
    let Action::Move(TargetSpec::Port { host, port }) = &rule.action else {
        return None;
    };
    let fp = footprint(rule);
    let four = may_be_ipv4(rule.kinds) && (has(&fp, Class::V4) || has(&fp, Class::Wild4));
    let six = may_be_ipv6(rule.kinds) && (has(&fp, Class::V6) || has(&fp, Class::Wild6));
    let dual = may_be_ipv6(rule.kinds) && has(&fp, Class::WildDual);
    if rule.op != Op::Bind || rule.kinds.families().vsock || rule.kinds.families().unix {
        return None;
    }
    let instead = |host, port: &TargetPort| {
        let spec = TargetSpec::Port { host, port: *port };
        Some(spec.to_string())
    };
    match host {
        TargetHost::V4(ip) if four && (six || dual) => {
            let suggestion = match Ipv4Addr::from(*ip) {
                Ipv4Addr::LOCALHOST => instead(TargetHost::Loopback, port),
                Ipv4Addr::UNSPECIFIED => instead(TargetHost::Keep, port),
                _ => None,
            };
            let message = "this target has IPv4 only: a server that listens on [::] loses its \
                           IPv6 clients";
            Some((message, suggestion))
        }
        TargetHost::V6(ip) if !four && dual && *ip != [0; 16] => {
            let local = core::net::Ipv6Addr::from(*ip).is_loopback();
            let suggestion = if local {
                instead(TargetHost::Loopback, port)
            } else {
                None
            };
            let message = "this target has IPv6 only: a server that listens on a dual-stack [::] \
                           loses its IPv4 clients";
            Some((message, suggestion))
        }
        _ => None,
    }
}

/// A socket file that is put elsewhere.
fn loses_its_path(rule: &Rule) -> bool {
    let elsewhere = matches!(
        rule.action,
        Action::Move(TargetSpec::Path(_) | TargetSpec::Abstract(_))
    );
    rule.op == Op::Bind
        && elsewhere
        && rule.kinds.families().unix
        && has(&footprint(rule), Class::UnixPath)
}

/// A rule about connections to name servers: port 53 is named, not only `*`.
fn is_about_resolver(rule: &Rule) -> bool {
    let acts = matches!(rule.action, Action::Deny(_) | Action::Move(_));
    let dns = |p: &PortSet| matches!(p, PortSet::Range(a, b) if (*a..=*b).contains(&53));
    let kinds = match rule.kinds {
        Kinds::Any => true,
        Kinds::Of(set) => set.intersects(RESOLVES),
    };
    rule.op == Op::Connect
        && acts
        && kinds
        && matches!(&rule.term, Term::Ip { ports, .. } if ports.iter().any(dns))
}

/// Kinds of sockets that name servers are asked with.
const RESOLVES: KindSet = KindSet(
    KindSet::INET.0
        | KindSet::INET6.0
        | KindSet::TCP.0
        | KindSet::TCP_ONLY.0
        | KindSet::UDP.0
        | KindSet::UDP_ONLY.0,
);

/// What a policy may refuse without its author thinking of it. It may well be
/// meant, so it is no warning: `bindgate policy check` tells it.
#[must_use]
pub fn hints(policy: &Policy) -> Vec<Diagnostic> {
    let Some(line) = policy.defaults.get(Op::Bind).filter(|l| l.deny.is_some()) else {
        return Vec::new();
    };
    let grants = |rule: &&Rule| {
        rule.op == Op::Bind && matches!(rule.action, Action::Allow | Action::Move(_))
    };
    let granted = || policy.rules.iter().filter(grants);
    let has_kind = |rule: &Rule, kind: KindSet| match rule.kinds {
        Kinds::Any => true,
        Kinds::Of(set) => set.intersects(kind),
    };
    let auto = |rule: &Rule| match &rule.term {
        Term::Every => true,
        Term::Ip { ports, .. } => has_auto(ports),
        _ => false,
    };
    let clients = KindSet::UDP | KindSet::UDP_ONLY | KindSet::INET;
    let missing = [
        (
            granted().any(|r| has_kind(r, KindSet::NETLINK) && has(&footprint(r), Class::Other)),
            "allow bind netlink",
            "netlink sockets, which ip and ss bind",
        ),
        (
            granted().any(|r| has_kind(r, clients) && auto(r)),
            "allow bind {tcp,udp} *:auto",
            "port 0, which dig, named and other clients bind",
        ),
    ];
    let missing = missing.into_iter().filter(|(granted, ..)| !granted);
    let hint = |(_, rule, what): (bool, &str, &str)| {
        let message = format!("the default refuses {what}; '{rule}' would not");
        Diagnostic::at(policy, line.at, Severity::Hint, message)
    };
    missing.map(hint).collect()
}
