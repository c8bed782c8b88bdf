//! What is bound in a run, as one JSON object: `bindgate ls`.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt::{self, Write};
#[cfg(feature = "alloc")]
use core::net::Ipv6Addr;

use super::json::{Object, Stamp, quoted};
use super::names::{Address, family, kind, protocol};
use super::{HolderState, Readable, RuleRef, SCHEMA};
use crate::addr::{Addr, RawAddr, af};
use crate::socket::{BindOptions, SocketType};

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// Its id.
    pub run: u64,
    /// When it began, in nanoseconds since the epoch.
    pub since_ns: u64,
    /// The process of its daemon.
    pub daemon: u32,
    /// The program that it was started with, 0 if that is not known.
    pub pid: u32,
    /// That program and its arguments.
    pub command: &'a [&'a [u8]],
    /// Whose it is.
    pub uid: u32,
    /// Has it a network of its own?
    pub is_sealed: bool,
    /// Has it ports of its own?
    pub has_own_ports: bool,
    /// Inode of the network namespace that it began in.
    pub network: u64,
    /// Does its policy enforce?
    pub enforces: bool,
    /// Its processes that are there.
    pub processes: u64,
    /// Its ports that are published.
    pub published: &'a [Published<'a>],
}

/// A port of the run's that is reached from outside it.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// `tcp` or `udp`.
    pub kind: &'a str,
    /// The port, as the run knows it.
    pub port: u16,
    /// Where it is reached.
    pub addresses: &'a [Addr],
}

/// A socket that is bound. What is not known is 0, empty or `None`.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// Family, type and protocol that the program believes in.
    pub socket: SocketType,
    /// Where the program believes that it is.
    pub address: RawAddr,
    /// Where it is.
    pub real: RawAddr,
    /// Where clients outside the run reach it.
    pub outside: &'a [Addr],
    /// What it does there.
    pub state: HolderState,
    /// The processes that have it open.
    pub pids: &'a [u32],
    /// The executable of the one that bound it.
    pub program: &'a [u8],
    /// Its user.
    pub uid: Option<u32>,
    /// The rule that decided.
    pub rule: Option<RuleRef<'a>>,
    /// When it was bound, in nanoseconds since the epoch.
    pub since_ns: u64,
    /// The options that it had before that.
    pub options: Option<BindOptions>,
    /// Inode of the network namespace that it is in.
    pub network: u64,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// The socket's inode.
    pub inode: u32,
    /// Was the bind recorded? Not that of a static program.
    pub is_recorded: bool,
}

/// Writes a run with what is bound in it as one JSON object and a line feed.
///
/// # Errors
/// If `w` fails.
pub fn json_listing(w: &mut dyn Write, run: &Listed<'_>, all: &[Bound<'_>]) -> fmt::Result {
    let mut o = Object::open(w)?;
    o.bare("v", SCHEMA)?;
    o.string("event", "run")?;
    o.string("run", format_args!("{:016x}", run.run))?;
    o.string("since", Stamp(run.since_ns))?;
    o.bare("daemon", run.daemon)?;
    o.maybe_bare("pid", (run.pid != 0).then_some(run.pid))?;
    o.list("command", run.command, |w, word| quoted(w, Readable(word)))?;
    o.bare("uid", run.uid)?;
    let isolate = match (run.is_sealed, run.has_own_ports) {
        (true, _) => Some("sealed"),
        (_, true) => Some("address"),
        _ => None,
    };
    o.maybe_word("isolate", isolate)?;
    o.maybe_bare("network", (run.network != 0).then_some(run.network))?;
    o.truth("enforces", run.enforces)?;
    o.bare("processes", run.processes)?;
    o.list("published", run.published, published)?;
    o.list("sockets", all, bound)?;
    o.close()?;
    w.write_char('\n')
}

/// Writes that a run has ended which was listed before, as one JSON object and a
/// line feed.
///
/// # Errors
/// If `w` fails.
pub fn json_ended(w: &mut dyn Write, run: &str, time_ns: u64) -> fmt::Result {
    let mut o = Object::open(w)?;
    o.bare("v", SCHEMA)?;
    o.string("event", "ended")?;
    o.string("time", Stamp(time_ns))?;
    o.string("run", run)?;
    o.close()?;
    w.write_char('\n')
}

fn published(w: &mut dyn Write, p: &Published<'_>) -> fmt::Result {
    let mut o = Object::open(w)?;
    o.string("kind", p.kind)?;
    o.bare("port", p.port)?;
    o.list("addresses", p.addresses, |w, at| quoted(w, at))?;
    o.close()
}

/// Where clients outside the run reach a socket that it has: `published` are its ports
/// that are, in the order in which they are best said. `known` is where the run knows the
/// socket, and `real` where it is; of a run that is sealed that is nowhere outside.
#[cfg(feature = "alloc")]
#[must_use]
pub fn outside(
    published: &[Published<'_>],
    is_sealed: bool,
    is_udp: bool,
    known: &Addr,
    real: &Addr,
) -> Vec<Addr> {
    // The relay calls 127.0.0.1 and ::1.
    let at = if is_sealed { real } else { known };
    let is_called = at.is_wildcard() || {
        let own = Ipv6Addr::LOCALHOST.octets();
        at.ipv4() == Some([127, 0, 0, 1]) || matches!(at, Addr::Inet6 { ip, .. } if *ip == own)
    };
    let kind = if is_udp { "udp" } else { "tcp" };
    let is_it =
        |p: &&Published<'_>| is_called && p.kind == kind && at.port() == Some(u32::from(p.port));
    let all = published.iter().filter(is_it);
    let mut all: Vec<Addr> = all.flat_map(|p| p.addresses.iter().copied()).collect();
    if !is_sealed {
        all.push(match real.ipv4() {
            Some(ip) => Addr::Inet {
                ip,
                port: real.port().unwrap_or(0) as u16,
            },
            None => *real,
        });
    }
    all
}

fn bound(w: &mut dyn Write, b: &Bound<'_>) -> fmt::Result {
    let SocketType {
        domain,
        ty,
        protocol: number,
    } = b.socket;
    let mut o = Object::open(w)?;
    match domain {
        af::INET | af::INET6 => o.string("kind", protocol(domain, number))?,
        _ => o.string("kind", family(domain))?,
    }
    o.string("family", family(domain))?;
    o.string("type", kind(ty))?;
    o.string("address", Address(&b.address))?;
    o.string("real", Address(&b.real))?;
    o.list("outside", b.outside, |w, at| quoted(w, at))?;
    o.word("state", b.state.name())?;
    o.list("pids", b.pids, |w, pid| write!(w, "{pid}"))?;
    let program = (!b.program.is_empty()).then_some(Readable(b.program));
    o.maybe_string("program", program)?;
    o.maybe_bare("uid", b.uid)?;
    match &b.rule {
        Some(rule) => o.rule("rule", rule)?,
        None => o.null("rule")?,
    }
    o.maybe_string("since", (b.since_ns != 0).then_some(Stamp(b.since_ns)))?;
    match b.options.filter(|o| !o.has(BindOptions::UNKNOWN)) {
        Some(options) => {
            let set = BindOptions::NAMES
                .iter()
                .filter(|(_, bit)| options.has(*bit));
            o.list("options", set, |w, (name, _)| write!(w, "\"{name}\""))?;
        }
        None => o.null("options")?,
    }
    o.maybe_bare("network", (b.network != 0).then_some(b.network))?;
    o.maybe_bare("cookie", (b.cookie != 0).then_some(b.cookie))?;
    o.maybe_bare("inode", (b.inode != 0).then_some(b.inode))?;
    o.truth("recorded", b.is_recorded)?;
    o.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn where_a_socket_is_reached_from_outside() {
        let four = |ip, port| Addr::Inet { ip, port };
        let own = [127, 0, 0, 1];
        let outer = four(own, 18080);
        let published = [Published {
            kind: "tcp",
            port: 80,
            addresses: &[outer],
        }];
        let real = four([127, 78, 16, 1], 61080);
        let sealed = |at| outside(&published, true, false, &at, &at);
        for at in [
            four(own, 80),
            four([0; 4], 80),
            Addr::inet6([0; 16], 80),
            Addr::inet6(Ipv6Addr::LOCALHOST.octets(), 80),
        ] {
            assert_eq!(sealed(at), [outer]);
            assert_eq!(outside(&published, false, false, &at, &real), [outer, real]);
            assert_eq!(outside(&published, false, true, &at, &real), [real]);
        }
        for at in [four(own, 81), four([127, 0, 0, 2], 80)] {
            assert_eq!(sealed(at), []);
            assert_eq!(outside(&published, false, false, &at, &real), [real]);
        }
        // In the block, by an IPv4-mapped address.
        let ip = core::net::Ipv4Addr::new(127, 78, 16, 1).to_ipv6_mapped();
        let mapped = Addr::inet6(ip.octets(), 61080);
        assert_eq!(outside(&[], false, false, &four(own, 80), &mapped), [real]);
    }

    #[test]
    fn a_run_is_one_line_of_json() {
        let outer = Addr::Inet {
            ip: [127, 0, 0, 1],
            port: 9,
        };
        let run = Listed {
            run: 1,
            since_ns: 0,
            daemon: 2,
            pid: 3,
            command: &[b"a\"b", b"c\n"],
            uid: 4,
            is_sealed: true,
            has_own_ports: false,
            network: 0,
            enforces: false,
            processes: 1,
            published: &[Published {
                kind: "tcp",
                port: 80,
                addresses: &[outer],
            }],
        };
        let at = |port| {
            let ip = [0; 4];
            Addr::Inet { ip, port }.write()
        };
        let socket = Bound {
            socket: SocketType::created(2, 1, 0),
            address: at(80),
            real: at(8080),
            outside: &[outer],
            state: HolderState::Listening,
            pids: &[5, 6],
            program: b"/bin/x",
            uid: Some(4),
            rule: None,
            since_ns: 0,
            options: Some(BindOptions(BindOptions::REUSEADDR)),
            network: 7,
            cookie: 0,
            inode: 8,
            is_recorded: true,
        };
        let mut line = String::new();
        json_listing(&mut line, &run, &[socket]).unwrap();
        assert_eq!(
            line,
            "{\"v\":2,\"event\":\"run\",\"run\":\"0000000000000001\",\
             \"since\":\"1970-01-01T00:00:00.000000Z\",\"daemon\":2,\"pid\":3,\
             \"command\":[\"a\\\"b\",\"c\\\\x0a\"],\"uid\":4,\"isolate\":\"sealed\",\"network\":null,\
             \"enforces\":false,\"processes\":1,\"published\":[{\"kind\":\"tcp\",\"port\":80,\
             \"addresses\":[\"127.0.0.1:9\"]}],\"sockets\":[{\"kind\":\"tcp\",\"family\":\"inet\",\
             \"type\":\"stream\",\"address\":\"0.0.0.0:80\",\"real\":\"0.0.0.0:8080\",\
             \"outside\":[\"127.0.0.1:9\"],\
             \"state\":\"listening\",\"pids\":[5,6],\"program\":\"/bin/x\",\"uid\":4,\"rule\":null,\
             \"since\":null,\"options\":[\"reuseaddr\"],\"network\":7,\"cookie\":null,\"inode\":8,\
             \"recorded\":true}]}\n"
        );
    }
}
