//! Policies asked by lines of text: `bind tcp 0.0.0.0:80 => deny EACCES`.
//!
//! A question is an operation, a socket, an address, and then any of `v6only`,
//! `implicit listen`, `implicit connect`, `for PROGRAM`, `script PATH`,
//! `user NAME`, `unprivileged-start N`. The family of an IP socket is that of
//! the address; `tcp6` and `udp6` are IPv6 sockets whatever the address says.
//! An answer is `allow`, `deny ERRNO`, `move ADDRESS` or `hide`, then any of
//! `rule N`, `default`, `note N`.
#![allow(dead_code)]

pub mod generate;
pub mod oracle;
pub mod prefixes;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use bindgate_core::addr::{Addr, UnixName, VMADDR_ANY, af};
use bindgate_core::judge::redirect::{self, Placement};
use bindgate_core::policy::*;
use bindgate_core::socket::{KindSet, SocketType, proto, ty};

/// Users that the examples name.
pub struct Users;

impl Resolver for Users {
    fn uid(&self, name: &str) -> Option<u32> {
        match name {
            "root" => Some(0),
            "nobody" => Some(65534),
            "www-data" => Some(33),
            _ => None,
        }
    }
}

/// Counters of one run.
#[derive(Default)]
pub struct Counters(pub RefCell<HashMap<u32, u32>>);

impl Times for Counters {
    fn take(&self, counter: u32, uses: Uses) -> bool {
        let mut all = self.0.borrow_mut();
        let n = all.entry(counter).or_default();
        let takes = uses.takes(*n);
        *n = uses.next(*n);
        takes
    }
}

pub fn policy(text: &str) -> Policy {
    let source = Source { name: "test", text };
    parse(&[source]).unwrap_or_else(|e| panic!("{}", messages(&e)))
}

pub fn compiled(text: &str) -> Compiled {
    let p = policy(text);
    compile(&p, &Users)
        .unwrap_or_else(|e| panic!("{}", messages(&e)))
        .0
}

pub fn messages(all: &[Diagnostic]) -> String {
    all.iter().map(|d| format!("{d}\n")).collect()
}

pub fn kinds(name: &str, family: u16) -> KindSet {
    let (family, base) = match name {
        "tcp6" | "udp6" => (af::INET6, &name[..3]),
        _ => (family, name),
    };
    let t = |domain, ty, protocol| SocketType {
        domain,
        ty,
        protocol,
    };
    match base {
        "tcp" => t(family, ty::STREAM, proto::TCP),
        "mptcp" => t(family, ty::STREAM, proto::MPTCP),
        "udp" => t(family, ty::DGRAM, proto::UDP),
        "udplite" => t(family, ty::DGRAM, proto::UDPLITE),
        "sctp" => t(family, ty::STREAM, proto::SCTP),
        "ping" => t(family, ty::DGRAM, proto::ICMP),
        "raw" => t(family, ty::RAW, 1),
        "unix" => t(af::UNIX, ty::STREAM, 0),
        "vsock" => t(af::VSOCK, ty::STREAM, 0),
        "netlink" => t(af::NETLINK, ty::RAW, 0),
        "packet" => t(af::PACKET, ty::RAW, 0),
        "other" => t(38, ty::STREAM, 0),
        _ => panic!("no socket '{name}'"),
    }
    .kinds()
}

pub fn address(kind: &str, text: &str) -> Option<Addr> {
    if text == "-" {
        return None;
    }
    if text == "?" {
        return Some(Addr::Netlink { pid: 0, groups: 0 });
    }
    if kind == "unix" || text.starts_with("unix:") {
        let name = text.strip_prefix("unix:").unwrap_or(text);
        return Some(Addr::Unix(match name.strip_prefix('@') {
            _ if name == "auto" => UnixName::AUTO,
            Some(a) => UnixName::abstract_(a.as_bytes()).unwrap(),
            None => UnixName::path(name.as_bytes()).unwrap(),
        }));
    }
    if kind == "vsock" || text.starts_with("vsock:") {
        let text = text.strip_prefix("vsock:").unwrap_or(text);
        let (cid, port) = text.split_once(':').unwrap();
        let any = |s: &str| match s {
            "any" | "cid-any" | "auto" => VMADDR_ANY,
            n => n.parse().unwrap(),
        };
        return Some(Addr::Vsock {
            cid: any(cid),
            port: any(port),
            flags: 0,
        });
    }
    let (host, port) = text.rsplit_once(':').unwrap();
    let port = port.parse().unwrap();
    Some(match host.strip_prefix('[') {
        Some(h) => Addr::Inet6 {
            ip: h
                .trim_end_matches(']')
                .parse::<Ipv6Addr>()
                .unwrap()
                .octets(),
            port,
            flow: 0,
            scope: 0,
        },
        None => Addr::Inet {
            ip: host.parse::<Ipv4Addr>().unwrap().octets(),
            port,
        },
    })
}

/// As [`ask`], for `exec PATH [unintercepted] [for PROGRAM] [user NAME]`.
fn ask_exec<'a>(
    view: &View<'_>,
    times: &Counters,
    line: &str,
    w: &mut impl Iterator<Item = &'a str>,
    answer: &str,
) {
    let mut q = ExecQuery {
        file: w.next().unwrap().as_bytes(),
        caller: Paths {
            program: b"/usr/bin/caller",
            script: &[],
        },
        uid: Some(0),
    };
    let mut intercepted = true;
    while let Some(word) = w.next() {
        match word {
            "unintercepted" => intercepted = false,
            "for" => q.caller.program = w.next().unwrap().as_bytes(),
            "user" => q.uid = Users.uid(w.next().unwrap()),
            _ => panic!("'{word}' in {line}"),
        }
    }
    let ruling = view.exec(&q, times);
    let mut said = match ruling.says {
        Says::Allow => "allow".to_string(),
        Says::Deny(e) => format!("deny {}", errno::name(e).unwrap()),
        Says::Nothing if intercepted || !view.is_enforcing() => "allow".to_string(),
        Says::Nothing => "deny EACCES".to_string(),
    };
    for (word, rule) in [("rule", ruling.rule), ("note", ruling.note)] {
        if let Some(rule) = rule {
            said += &format!(" {word} {}", rule + 1);
        }
    }
    assert_eq!(said, answer.trim(), "{line}");
}

/// The socket that a question is about.
fn socket(kind: &str, addr: Option<&Addr>) -> SocketType {
    let ty = if kind.starts_with("udp") { 2 } else { 1 };
    let domain = addr.map_or(af::INET, |a| a.family());
    SocketType::created(i32::from(domain), ty, 0)
}

/// Asks one question, and panics if the answer is another.
pub fn ask(view: &View<'_>, times: &Counters, line: &str) {
    let (question, answer) = line
        .split_once("=>")
        .unwrap_or_else(|| panic!("no => in {line}"));
    let mut w = question.split_whitespace();
    let op = w.next().unwrap();
    let op = *Op::ALL.iter().find(|o| o.name() == op).unwrap();
    if op == Op::Exec {
        return ask_exec(view, times, line, &mut w, answer);
    }
    let kind = w.next().unwrap();
    let addr = if op == Op::Socket {
        None
    } else {
        address(kind, w.next().unwrap())
    };
    let mut q = Query {
        op,
        kinds: kinds(kind, addr.map_or(af::INET, |a| a.family())),
        addr: addr.as_ref(),
        program: b"/usr/bin/some-program",
        uid: Some(54321),
        ..Query::default()
    };
    while let Some(word) = w.next() {
        match word {
            "v6only" => q.v6only = true,
            "implicit" => {
                q.implicit = match w.next() {
                    Some("listen") => Implicit::Listen,
                    _ => Implicit::Connect,
                }
            }
            "unknown" => match w.next().unwrap() {
                "socket" => (q.kinds, q.unknown_socket) = (KindSet::NONE, true),
                "user" => q.uid = None,
                "program" => q.program = &[],
                what => panic!("unknown {what} in {line}"),
            },
            "for" => q.program = w.next().unwrap().as_bytes(),
            "script" => q.script = w.next().unwrap().as_bytes(),
            "user" => q.uid = Users.uid(w.next().unwrap()),
            "unprivileged" => q.unprivileged = Some(true),
            "privileged" => q.unprivileged = Some(false),
            "unprivileged-start" => q.unprivileged_start = w.next().unwrap().parse().unwrap(),
            _ => panic!("'{word}' in {line}"),
        }
    }
    let d = view.decide(&q, times);
    // Where a bind really goes; not every target can be had by every socket.
    let placement = match (d.verb, op) {
        (Verb::Move, Op::Bind) => {
            redirect::bind(&d, addr.as_ref(), socket(kind, addr.as_ref()), q.v6only).ok()
        }
        _ => None,
    };
    let mut w = answer.split_whitespace();
    let mut said = match d.verb {
        Verb::Allow => vec!["allow".to_string()],
        Verb::Deny => vec![
            "deny".to_string(),
            errno::name(d.errno).unwrap_or("?").to_string(),
        ],
        Verb::Move => {
            let to = placement.map_or_else(|| d.target.unwrap(), |p| p.addr());
            vec!["move".to_string(), to.to_string()]
        }
        Verb::Hide => vec!["hide".to_string()],
    };
    let n = match answer.split_whitespace().next() {
        Some("deny" | "move") => 2,
        _ => 1,
    };
    let mut wanted: Vec<String> = w.by_ref().take(n).map(str::to_string).collect();
    while let Some(word) = w.next() {
        wanted.push(word.to_string());
        said.push(word.to_string());
        let number = |r: Option<u32>| r.map_or("none".to_string(), |r| (r + 1).to_string());
        match word {
            "on" => said.push(match placement {
                Some(Placement::OnLo(_)) => "lo".to_string(),
                _ => "no device".to_string(),
            }),
            "rule" => said.push(number(d.rule)),
            "note" => said.push(number(d.note)),
            "default" => {
                assert!(d.by_default, "{line}\n  but: {d:?}");
                continue;
            }
            _ => panic!("'{word}' in {line}"),
        }
        wanted.push(w.next().unwrap().to_string());
    }
    assert_eq!(said, wanted, "{line}\n  but: {d:?}");
    let mut room = Room::default();
    let candidates = view.candidates(&q, &mut room);
    if let Outlook::NoRule(said) = view.outlook(&q, &candidates) {
        assert!(
            d.by_default && d.note.is_none() && said.verb == d.verb,
            "no rule can match, but one did: {line}"
        );
    }
}

/// Runs a block: policy lines, then `#?` lines.
pub fn run(block: &str) {
    let c = compiled(block);
    let view = View::new(&c.words).unwrap();
    let times = Counters::default();
    for line in block.lines() {
        if let Some(q) = line.trim().strip_prefix("#?") {
            ask(&view, &times, q);
        }
    }
}
