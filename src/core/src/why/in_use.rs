//! `EADDRINUSE`: who has the address, and how it could be had.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::facts::{Facts, Former, Question, Seen};
use super::words::{clock, doing, hidden, kind_name, named, options, origin, takes, whose};
use super::would::{Change, Trial};
use super::{Cause, Why};
use crate::addr::{Addr, UnixKind, af};
use crate::model::table_of;
use crate::policy::Op;
use crate::render::HolderState;
use crate::socket::BindOptions;

pub(super) fn explain(q: &Question, f: &Facts) -> Why {
    match q.addr {
        Addr::Unix(_) => unix(q, f),
        _ if table_of(q.kind).is_none() => by_name(q, f),
        _ if q.addr.is_auto() => no_port(f),
        _ => by_port(q, f),
    }
}

fn by_port(q: &Question, f: &Facts) -> Why {
    let mut trial = Trial::new(q, f);
    let in_the_way = trial.in_the_way();
    // What is there for good before what goes by itself.
    let first = in_the_way.iter().min_by_key(|s| rank(s));
    let Some(first) = first else {
        return left(q, f);
    };
    let mut why = held(q, f, first, &in_the_way);
    details(&mut why, f, first, &in_the_way);
    mends(&mut why, q, f, first, trial.changes());
    unseen(&mut why, first);
    why
}

fn rank(s: &Seen) -> u32 {
    match s.state {
        HolderState::Listening => 0,
        HolderState::Bound => 1,
        HolderState::Connected if s.inode != 0 => 2,
        HolderState::Connected => 3,
        HolderState::TimeWait => 4,
    }
}

/// The sentence.
fn held(q: &Question, f: &Facts, s: &Seen, all: &[&Seen]) -> Why {
    let run = match s.in_run {
        Some(true) => ", in this run",
        Some(false) => ", outside this run",
        None => "",
    };
    let peer = match s.peer {
        Some(peer) => format!(" with {peer}"),
        None => String::new(),
    };
    let more = match all.len() {
        0 | 1 => String::new(),
        2 => " (and another socket there)".to_string(),
        n => format!(" (and {} more sockets there)", n - 1),
    };
    match s.state {
        HolderState::TimeWait => {
            let left = match s.left_ms {
                Some(ms) => format!(" for {} s more", ms.div_ceil(1000)),
                None => String::new(),
            };
            let whose = match &s.bound_by {
                Some(by) => format!(" of {}", named(by)),
                None => String::new(),
            };
            let text = format!(
                "held at {} by TIME_WAIT: a connection{whose}{peer} has ended, and the kernel \
                 keeps its address{left}{more}",
                s.addr
            );
            let mut why = Why::of(Cause::TimeWait, text);
            why.clause = match s.left_ms {
                Some(ms) => format!("for {} s more", ms.div_ceil(1000)),
                None => String::new(),
            };
            why
        }
        HolderState::Connected if s.inode == 0 => {
            let phase = s.phase.map_or(String::new(), |p| format!(", {p}"));
            let text = format!(
                "held at {} by a closed connection{peer} that is not over yet{phase}{more}",
                s.addr
            );
            Why::of(Cause::Closing, text)
        }
        HolderState::Connected => {
            let began = match s.on_the_way {
                Some(true) => ", for which the kernel chose the port",
                _ => "",
            };
            let text = format!(
                "held by {} at {}, one end of a connection{peer}{began}{run}{more}",
                whose(s),
                s.addr
            );
            let mut why = Why::of(Cause::Connection, text);
            why.clause = match s.peer {
                Some(peer) => format!("one end of a connection with {peer}{began}"),
                None => String::new(),
            };
            taken(&mut why, q, f, s);
            why
        }
        HolderState::Bound | HolderState::Listening => {
            let doing = doing(s, f.utc_offset);
            let text = format!("held by {} at {}, {doing}{run}{more}", whose(s), s.addr);
            let mut why = Why::of(Cause::Held, text);
            why.clause.clear();
            inherited(&mut why, s, f.utc_offset);
            taken(&mut why, q, f, s);
            why
        }
    }
}

/// Is it open in others than the one that bound it?
fn inherited(why: &mut Why, s: &Seen, utc_offset: Option<i32>) {
    let Some(by) = &s.bound_by else { return };
    let is_there = s.open_in.iter().any(|p| p.pid == by.pid);
    let Some(heir) = s.open_in.first().filter(|_| !is_there && by.pid != 0) else {
        return;
    };
    let when = match s.since_ns {
        0 => String::new(),
        since => format!(" at {}", clock(since, utc_offset)),
    };
    why.cause = Cause::Inherited;
    let sentence = format!(
        "{} inherited it from {}, which bound it{when} and has it open no more",
        named(heir),
        named(by)
    );
    why.text = format!("{}: {sentence}", why.text);
    why.clause = sentence;
}

/// Had an automatic bind of the run found the port free before somebody took it?
fn taken(why: &mut Why, q: &Question, f: &Facts, s: &Seen) {
    let is_his = |former: &Former| {
        let by = s.bound_by.as_ref().or(s.open_in.first());
        by.is_some_and(|p| p.pid == former.pid)
    };
    let found = f.former.iter().rev().find(|former| {
        former.automatic
            && former.closed_by_ns != 0
            && former.closed_by_ns <= after(q)
            && (s.since_ns == 0 || former.bound_ns < s.since_ns)
            && overlap(&former.addr, &s.addr)
            && (s.since_ns != 0 || !is_his(former))
    });
    let Some(former) = found else { return };
    let at = |ns| clock(ns, f.utc_offset);
    let port = q.addr.port().unwrap_or(0);
    let who = Seen::clone(s);
    let taker = whose(&who);
    let started = s.open_in.first().map_or(0, |p| p.lineage.started_ns);
    let taken = match s.since_ns {
        0 if started > former.bound_ns => format!("taken by {taker} (started {})", at(started)),
        0 => format!("then taken by {taker}"),
        since => format!("taken by {taker} {}", at(since)),
    };
    let closed = match s.since_ns {
        0 => former.closed_by_ns,
        since => former.closed_by_ns.min(since),
    };
    let failed = match q.at_ns {
        0 => String::new(),
        failed => format!(", this {} failed {}", q.op.name(), at(failed)),
    };
    why.cause = Cause::Taken;
    let sentence = format!(
        "{port}: bind(0) by {} {}, closed by {}, {taken}{failed}",
        by(former),
        at(former.bound_ns),
        at(closed)
    );
    why.text = format!("{}; {sentence}", why.text);
    why.clause = match why.clause.as_str() {
        "" => sentence,
        before => format!("{before}, {sentence}"),
    };
}

fn after(q: &Question) -> u64 {
    match q.at_ns {
        0 => u64::MAX,
        at => at,
    }
}

fn by(former: &Former) -> String {
    match former.program.as_str() {
        "" => format!("process {}", former.pid),
        name => format!("{name}[{}]", former.pid),
    }
}

/// Could both not have had the port at the same time?
fn overlap(a: &Addr, b: &Addr) -> bool {
    takes(a, false, b) || takes(b, false, a)
}

/// Nobody is there any more.
fn left(q: &Question, f: &Facts) -> Why {
    let mut why = if let Some(s) = &f.gone {
        let who = s.bound_by.as_ref().or(s.open_in.first());
        let who = who.map_or_else(|| "a process of this run".to_string(), named);
        let doing = doing(s, f.utc_offset);
        let text = format!(
            "was held by {who} at {}, {doing}, and has been left since",
            s.addr
        );
        let mut why = Why::of(Cause::Left, text);
        why.clause.clear();
        why
    } else {
        let text = format!(
            "nobody is seen at {} port {} any more",
            kind_name(q.kind),
            q.addr.port().unwrap_or(0)
        );
        let mut why = Why::of(Cause::Unknown, text);
        why.clause.clear();
        let lists_bound = f.host.as_ref().is_none_or(|h| h.generation.since(6, 8));
        if q.kind.is_stream() && !lists_bound {
            why.unseen.push(
                "this kernel does not list TCP sockets that are bound and do not listen \
                 (Linux 6.8 does)"
                    .to_string(),
            );
        }
        why
    };
    if q.op == Op::Bind {
        why.mends.push("try again".to_string());
    }
    why
}

fn details(why: &mut Why, f: &Facts, s: &Seen, all: &[&Seen]) {
    if let Some(origin) = s.open_in.first().and_then(origin) {
        why.details.push(origin);
    }
    if let Some(heirs) = others(s) {
        why.details.push(heirs);
    }
    if let (Some(group), true) = (&s.group, s.open_in.is_empty()) {
        why.details
            .push(format!("the socket was made in the control group {group}"));
    }
    if let Some(uid) = s.uid {
        why.details.push(format!("the socket's user is {uid}"));
    }
    if let Some(options) = options(s.options) {
        why.details.push(format!("its options: {options}"));
    }
    for other in all.iter().filter(|o| !core::ptr::eq(**o, s)).take(4) {
        let (at, doing) = (other.addr, doing(other, f.utc_offset));
        why.details.push(match other.state {
            HolderState::TimeWait => format!("TIME_WAIT at {at} is in the way as well"),
            _ => format!("{} at {at}, {doing}, is in the way as well", whose(other)),
        });
    }
    if why.cause == Cause::Connection
        && let Some(range) = given_out(f, s)
    {
        why.details.push(range);
    }
}

/// The port is one that the kernel gives out to clients.
fn given_out(f: &Facts, s: &Seen) -> Option<String> {
    let (low, high) = f.host.as_ref()?.sysctl.first_and_last();
    let port = u16::try_from(s.addr.port()?).ok()?;
    (low..=high).contains(&port).then(|| {
        format!("the kernel gives {port} out to clients: ip_local_port_range is {low} to {high}")
    })
}

/// The other processes that have it open.
fn others(s: &Seen) -> Option<String> {
    let (first, rest) = s.open_in.split_first()?;
    let names: Vec<_> = rest.iter().take(3).map(named).collect();
    let more = match rest.len() {
        0 => return None,
        1..=3 => String::new(),
        n => format!(" and {} more", n - 3),
    };
    let is_child = |p: &super::Opener| {
        p.lineage
            .parents
            .first()
            .is_some_and(|(pid, _)| *pid == first.pid)
    };
    let has = if rest.len() == 1 { "has" } else { "have" };
    let children = match rest.iter().all(is_child) {
        true => ", and inherited it",
        false => "",
    };
    Some(format!(
        "{}{more} {has} it open too{children}",
        names.join(", ")
    ))
}

fn mends(why: &mut Why, q: &Question, f: &Facts, s: &Seen, changes: Vec<Change>) {
    let (port, kind) = (q.addr.port().unwrap_or(0), kind_name(q.kind));
    for change in changes {
        why.mends.push(option(&change, s));
    }
    let other_user = s.uid.is_some() && q.uid.is_some() && s.uid != q.uid;
    let shares = q.options.has(BindOptions::REUSEPORT) && !q.options.has(BindOptions::UNKNOWN);
    if other_user && shares {
        why.details.push(format!(
            "SO_REUSEPORT shares a port among sockets of one user: the holder's is {}, this \
             one's {}",
            s.uid.unwrap_or(0),
            q.uid.unwrap_or(0)
        ));
    }
    match (s.state, s.left_ms) {
        (HolderState::TimeWait, Some(ms)) => {
            why.mends.push(format!("wait {} s", ms.div_ceil(1000)));
        }
        (HolderState::Connected, _) if why.cause == Cause::Closing => {
            why.mends.push("wait until it is over".to_string());
        }
        (HolderState::Connected, _) if why.cause != Cause::Taken && given_out(f, s).is_some() => {
            why.mends.push(format!(
                "keep the port from clients: sysctl net.ipv4.ip_local_reserved_ports={port}"
            ));
        }
        _ => {}
    }
    if why.cause == Cause::Taken {
        why.mends
            .push("keep automatic ports for the run: bindgate run --lease -- PROGRAM".to_string());
        return;
    }
    if let Some(p) = s
        .open_in
        .first()
        .filter(|_| s.state != HolderState::Connected)
    {
        why.mends.push(match &p.lineage.unit {
            Some(unit) if unit.ends_with(".service") => format!("systemctl stop {unit}"),
            _ => format!("end {}", named(p)),
        });
    }
    if s.state != HolderState::TimeWait {
        let to = if port < 55_000 {
            port + 10_000
        } else {
            port - 10_000
        };
        why.mends.push(format!(
            "bindgate run -r 'move bind {kind} *:{port} to *:{to}' -- PROGRAM"
        ));
    }
}

/// An option that would have made it succeed.
fn option(change: &Change, s: &Seen) -> String {
    let name = match change.bit {
        BindOptions::REUSEADDR => "SO_REUSEADDR",
        BindOptions::REUSEPORT => "SO_REUSEPORT",
        _ => "IPV6_V6ONLY",
    };
    let is_known = !s.options.has(BindOptions::UNKNOWN);
    let waits = s.state == HolderState::TimeWait;
    let has = is_known && s.options.has(change.bit);
    match (change.here, change.there) {
        (true, false) if has => format!("set {name} here before the bind: the holder has it"),
        (true, false) => format!("set {name} here before the bind"),
        (false, true) if waits => format!("set {name} on the earlier socket before it is bound"),
        (_, true) if waits => format!("set {name} here and on the earlier socket before the bind"),
        (false, true) => format!("set {name} on the holder's socket before it is bound"),
        _ if is_known => {
            format!("set {name} on both sockets before the bind: the holder is without")
        }
        _ => format!("set {name} on both sockets before the bind"),
    }
}

fn unseen(why: &mut Why, s: &Seen) {
    why.unseen.extend(hidden(s));
    let has_descriptor = s.state != HolderState::TimeWait && s.inode != 0;
    if has_descriptor && s.options.has(BindOptions::UNKNOWN) {
        why.unseen.push(
            "SO_REUSEADDR and SO_REUSEPORT of the holder, because sock_diag does not tell them"
                .to_string(),
        );
    }
}

fn no_port(f: &Facts) -> Why {
    let range = f.host.as_ref().map(|h| h.sysctl.first_and_last());
    let range = match range {
        Some((low, high)) => format!(" (ip_local_port_range is {low} to {high})"),
        None => String::new(),
    };
    let mut why = Why::of(
        Cause::NoPort,
        format!("none of the ports that the kernel gives out is free for this address{range}"),
    );
    why.mends
        .push("widen net.ipv4.ip_local_port_range, or close sockets".to_string());
    why
}

/// A name of vsock or netlink.
fn by_name(q: &Question, f: &Facts) -> Why {
    match f.sockets.first() {
        Some(s) => {
            let mut why = held(q, f, s, &[]);
            details(&mut why, f, s, &[]);
            why
        }
        None if f.gone.is_some() => left(q, f),
        None => {
            let mut why = Why::of(Cause::Held, format!("somebody has {}", q.addr));
            why.clause.clear();
            if q.kind.domain == af::VSOCK {
                why.unseen.push(
                    "who has the vsock port, because vsock sockets of others are not looked for"
                        .to_string(),
                );
            }
            why
        }
    }
}

fn unix(q: &Question, f: &Facts) -> Why {
    let Addr::Unix(name) = q.addr else {
        return by_name(q, f);
    };
    let is_path = name.kind == UnixKind::Path;
    if let Some(s) = f.sockets.first() {
        let mut why = held(q, f, s, &[]);
        details(&mut why, f, s, &[]);
        unseen(&mut why, s);
        why.unseen.retain(|u| !u.starts_with("SO_REUSE"));
        if let Some(p) = s.open_in.first() {
            why.mends.push(format!("end {}", named(p)));
        }
        if is_path {
            why.mends
                .push("unlink the path first: the holder keeps its socket".to_string());
        }
        return why;
    }
    if is_path && f.has_file {
        let text = format!(
            "something stands at {} that no socket here is bound to, as a server leaves it behind",
            q.addr
        );
        let mut why = Why::of(Cause::File, text);
        why.mends
            .push("unlink the path before the bind".to_string());
        return why;
    }
    left(q, f)
}
