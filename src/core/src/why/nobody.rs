//! `ECONNREFUSED`: who listens instead.

use alloc::format;
use alloc::string::{String, ToString};

use super::facts::{Facts, Former, Question, Seen};
use super::words::{clock, doing, hidden, kind_name, named, origin, takes, whose};
use super::{Cause, Why};
use crate::addr::{Addr, UnixKind};
use crate::model::AddrType;
use crate::render::HolderState;
use crate::socket::BindOptions;

pub(super) fn explain(q: &Question, f: &Facts) -> Why {
    match q.addr {
        Addr::Unix(name) if name.kind == UnixKind::Path && f.sockets.is_empty() => {
            let text = format!(
                "nobody listens at {}: no socket here is bound to the path any more",
                q.addr
            );
            Why::of(Cause::Nobody, text)
        }
        Addr::Unix(_) | Addr::Vsock { .. } => named_peer(q, f),
        _ => inet(q, f),
    }
}

fn named_peer(q: &Question, f: &Facts) -> Why {
    match f.sockets.first() {
        Some(s) if s.state != HolderState::Listening => bound(s),
        Some(s) => by_now(q, f, s),
        None => Why::of(Cause::Nobody, format!("nobody listens at {}", q.addr)),
    }
}

fn inet(q: &Question, f: &Facts) -> Why {
    let to = called(&q.addr);
    if let Some(host) = f.host.as_deref()
        && !is_here(host, &to)
        && !f.has_more_addresses
    {
        let text = format!("{to} is not an address of this host: whoever has it refused");
        let mut why = Why::of(Cause::Unknown, text);
        why.unseen
            .push("who listens there, because it is another machine".to_string());
        return why;
    }
    let v6only = |s: &Seen| s.options.has(BindOptions::V6ONLY);
    let exact = |s: &&Seen| takes(&s.addr, v6only(s), &to);
    let listens = |s: &&Seen| s.state == HolderState::Listening;
    if let Some(s) = f.sockets.iter().filter(listens).find(exact) {
        return by_now(q, f, s);
    }
    let is_bound = |s: &&Seen| s.state == HolderState::Bound;
    if let Some(s) = f.sockets.iter().filter(is_bound).find(exact) {
        return bound(s);
    }
    let mut why = if let Some(former) = former(q, f, &to) {
        let closed = match q.at_ns {
            0 => former.closed_by_ns,
            at => former.closed_by_ns.min(at),
        };

        let who = match former.program.as_str() {
            "" => format!("process {}", former.pid),
            name => format!("{name}[{}]", former.pid),
        };
        let (at, since) = (former.addr, clock(former.bound_ns, f.utc_offset));
        let closed = clock(closed, f.utc_offset);
        match former.listened {
            // It would have answered.
            true => Why::of(
                Cause::NotAnyMore,
                format!("{who} listened at {at} since {since}, and had closed it by {closed}"),
            ),
            false => Why::of(
                Cause::Nobody,
                format!(
                    "nobody listens there: {who} was bound to {at} since {since}, and did not \
                     listen yet, or had closed it"
                ),
            ),
        }
    } else if let Some(s) = f.sockets.iter().find(listens) {
        instead(q, f, s, &to)
    } else if let Some(other) = f.elsewhere.first() {
        let who = named(&other.process);
        let text = match other.is_listener {
            true => format!(
                "{who} listens at {}, in another network namespace",
                other.addr
            ),
            false => format!(
                "somebody listens at {} in another network namespace, that of {who}",
                other.addr
            ),
        };
        let mut why = Why::of(Cause::OtherNetwork, text);
        why.details.extend(origin(&other.process));
        why.mends
            .push("connect to an address of that network, or publish the port from there".into());
        why
    } else {
        let text = format!(
            "nobody listens on {} port {} here",
            kind_name(q.kind),
            to.port().unwrap_or(0)
        );
        Why::of(Cause::Nobody, text)
    };
    if why.cause == Cause::NotAnyMore || why.cause == Cause::OtherNetwork {
        for s in f.sockets.iter().filter(listens).take(3) {
            let doing = doing(s, f.utc_offset);
            why.details
                .push(format!("{} at {}, {doing}", whose(s), s.addr));
        }
    }
    why
}

/// Who of the run was at this very address before: it has left, for it did not answer.
fn former<'f>(q: &Question, f: &'f Facts, to: &Addr) -> Option<&'f Former> {
    let was = |former: &&Former| {
        let is_before = q.at_ns == 0 || former.bound_ns < q.at_ns;
        is_before && former.closed_by_ns != 0 && takes(&former.addr, false, to)
    };
    f.former.iter().rev().find(was)
}

/// A listener of the other family, or at another address.
fn instead(q: &Question, f: &Facts, s: &Seen, to: &Addr) -> Why {
    let six = |a: &Addr| matches!(a, Addr::Inet6 { .. }) && a.ipv4().is_none();
    let family = match six(&s.addr) {
        true => "IPv6",
        false => "IPv4",
    };
    let who = whose(s);
    let (cause, text) = match six(&s.addr) == six(to) {
        false => (
            Cause::OtherFamily,
            format!("{who} listens at {}, for {family} alone", s.addr),
        ),
        true => (
            Cause::OtherAddress,
            format!("{who} listens at {}, and not at {to}", s.addr),
        ),
    };
    let mut why = Why::of(cause, text);
    why.details.extend(s.open_in.first().and_then(origin));
    why.unseen.extend(hidden(s));
    let others = f.sockets.iter().filter(|o| !core::ptr::eq(*o, s));
    for other in others.filter(|o| o.state == HolderState::Listening).take(3) {
        why.details
            .push(format!("{} listens at {}", whose(other), other.addr));
    }
    let there = called(&s.addr);
    why.mends.push(format!("connect to {there}"));
    why.mends.push(format!(
        "bindgate run -r 'move connect {} {} to {there}' -- PROGRAM",
        kind_name(q.kind),
        q.addr
    ));
    why
}

/// Somebody listens there.
fn by_now(q: &Question, f: &Facts, s: &Seen) -> Why {
    let doing = doing(s, f.utc_offset);
    let text = format!(
        "{} at {}, {doing}, answers there by now: it came after the connect, or a packet filter \
         refused it",
        whose(s),
        s.addr
    );
    let mut why = Why::of(Cause::NotYet, text);
    why.details.extend(s.open_in.first().and_then(origin));
    why.unseen.extend(hidden(s));
    if q.at_ns != 0 && s.since_ns > q.at_ns {
        why.text = format!(
            "not yet: {} has been at {} since {}, and the connect came {}",
            whose(s),
            s.addr,
            clock(s.since_ns, f.utc_offset),
            clock(q.at_ns, f.utc_offset)
        );
        why.clause.clone_from(&why.text);
    }
    why.mends.push(wait_for());
    why
}

/// It is bound, and does not listen.
fn bound(s: &Seen) -> Why {
    let who = whose(s);
    let text = format!("{who} is bound to {}, and does not listen", s.addr);
    let mut why = Why::of(Cause::NotYet, text);
    why.details.extend(s.open_in.first().and_then(origin));
    why.unseen.extend(hidden(s));
    why.mends.push(wait_for());
    why
}

fn wait_for() -> String {
    "wait until the server listens before the connect".to_string()
}

/// Where a call of this address arrives: that of a wildcard at loopback.
fn called(addr: &Addr) -> Addr {
    let port = addr.port().unwrap_or(0);
    match addr {
        Addr::Inet {
            ip: [0, 0, 0, 0], ..
        } => Addr::Inet {
            ip: [127, 0, 0, 1],
            port: port as u16,
        },
        Addr::Inet6 { ip, .. } if *ip == [0; 16] => {
            Addr::inet6(core::net::Ipv6Addr::LOCALHOST.octets(), port as u16)
        }
        other => *other,
    }
}

fn is_here(host: &crate::model::Host, addr: &Addr) -> bool {
    match (addr.ipv4(), addr) {
        (Some(four), _) => host.addr_type(u32::from_be_bytes(four)) == AddrType::Local,
        (None, Addr::Inet6 { ip, .. }) => host.v6.as_slice().iter().any(|a| a.addr == *ip),
        _ => true,
    }
}
