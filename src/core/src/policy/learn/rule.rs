//! The narrowest rule of the language that allows a call.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use super::{Call, Options};
use crate::addr::{Addr, UnixKind, UnixName, VMADDR_ANY};
use crate::policy::ast::{
    Action, At, CidSet, IpSet, Kinds, PortSet, Program, Rule, Term, UnixTerm,
};
use crate::policy::target::tidy;
use crate::policy::{Implicit, Op, glob};
use crate::socket::{KindSet, SocketType};

/// A name that the kernel makes up: five hexadecimal digits.
const MADE_UP: &str = "[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]";

/// The rule; `None` where only one for every address or every kind would do.
/// `is_made_up` says that the kernel chose the port or the name.
pub(super) fn rule(call: &Call, is_made_up: bool, options: &Options) -> Option<Rule> {
    let (kinds, exactly, term) = match call.op {
        Op::Exec => (Kinds::Any, false, file(&call.file)?),
        Op::Socket => (kinds(call.socket)?, false, Term::Every),
        _ => {
            let kinds = match call.is_unknown() {
                true => Kinds::Any,
                false => kinds(call.socket_at())?,
            };
            let (exactly, term) = term(call, kinds, is_made_up, options)?;
            (kinds, exactly, term)
        }
    };
    Some(Rule {
        action: Action::Allow,
        op: call.op,
        kinds,
        exactly,
        term,
        implicit: call.implicit == Implicit::Connect,
        uses: None,
        program: program(call).filter(|_| !options.any_program),
        user: None,
        at: At::default(),
        unprivileged: false,
        followed: false,
        user_at: At::default(),
        target_at: At::default(),
    })
}

/// The name of the kind that such sockets alone have, but for `tcp` and `udp`, which
/// are the language's plain words for them.
fn kinds(socket: SocketType) -> Option<Kinds> {
    let all = socket.kinds();
    let names = [
        KindSet::RAW,
        KindSet::SCTP,
        KindSet::MPTCP,
        KindSet::TCP,
        KindSet::UDPLITE,
        KindSet::UDP,
        KindSet::PING,
        KindSet::UNIX,
        KindSet::VSOCK,
        KindSet::NETLINK,
        KindSet::PACKET,
    ];
    if let Some(name) = names.into_iter().find(|name| all.intersects(*name)) {
        return Some(Kinds::Of(name));
    }
    let is_numbered = (1..=262).contains(&all.protocol());
    let numbered = (KindSet::INET | KindSet::INET6).with_protocol(all.protocol());
    is_numbered.then_some(Kinds::Of(numbered))
}

/// `exactly`, and the address.
fn term(call: &Call, kinds: Kinds, is_made_up: bool, options: &Options) -> Option<(bool, Term)> {
    let ports = |port: u16| match port {
        _ if kinds == Kinds::Of(KindSet::RAW) || is_made_up => PortSet::Any,
        0 => PortSet::Auto,
        port => PortSet::Range(port.into(), port.into()),
    };
    let ip = |set: IpSet, port: u16| Term::Ip {
        addrs: vec![set],
        ports: vec![ports(port)],
    };
    let four = |ip: [u8; 4]| match ip {
        [0, 0, 0, 0] => IpSet::Wild4,
        ip => IpSet::V4(ip, 32),
    };
    let fits = kinds.families();
    // Their addresses are in no rule.
    if let Kinds::Of(KindSet::NETLINK | KindSet::PACKET) = kinds {
        return Some((false, Term::Every));
    }
    Some(match *call.at()? {
        Addr::Inet { .. } | Addr::Inet6 { .. } if !fits.ip => return None,
        Addr::Vsock { .. } if !fits.vsock => return None,
        Addr::Unix(_) if !fits.unix => return None,
        Addr::Inet { ip: at, port } => (false, ip(four(at), port)),
        addr @ Addr::Inet6 { ip: at, port, .. } => match addr.ipv4() {
            Some(at) => (false, ip(four(at), port)),
            // One that receives IPv4 too is not held by `[::]`, and `{0.0.0.0,[::]}`
            // would allow a socket for IPv4 alone as well.
            None if at == [0; 16] => (call.v6only != Some(true), ip(IpSet::Wild6, port)),
            None => (false, ip(IpSet::V6(at, 128), port)),
        },
        Addr::Vsock { cid, port, .. } => {
            let cids = vec![match cid {
                VMADDR_ANY => CidSet::Wild,
                cid => CidSet::Id(cid),
            }];
            let ports = vec![match port {
                _ if is_made_up => PortSet::Any,
                VMADDR_ANY => PortSet::Auto,
                port => PortSet::Range(port, port),
            }];
            (false, Term::Vsock { cids, ports })
        }
        Addr::Unix(name) => unix(&name, call.pid, is_made_up, options),
        Addr::Netlink { .. } | Addr::Packet { .. } => return None,
    })
}

fn unix(name: &UnixName, pid: u32, is_made_up: bool, options: &Options) -> (bool, Term) {
    let shorter = tidy(name);
    let bytes = shorter.as_ref().unwrap_or(name).bytes();
    let of = |text: String| match name.kind {
        UnixKind::Abstract => UnixTerm::Abstract(text),
        _ => UnixTerm::Path(text),
    };
    if name.kind == UnixKind::Auto {
        return (false, Term::Unix(UnixTerm::Auto));
    }
    if is_made_up && name.kind == UnixKind::Abstract {
        return (false, Term::Unix(UnixTerm::Abstract(MADE_UP.to_string())));
    }
    if let Some((before, after)) = around_pid(bytes, pid)
        && options.pid_globs
    {
        let text = format!("{}[0-9]*{}", pattern(before), pattern(after));
        return (false, Term::Unix(of(text)));
    }
    match core::str::from_utf8(bytes) {
        Ok(text) if glob::is_literal(bytes) && !text.contains('\0') => {
            (false, Term::Unix(of(text.to_string())))
        }
        Ok(text) if !text.contains('\0') => (true, Term::Unix(of(text.to_string()))),
        _ => (false, Term::Unix(of(pattern(bytes)))),
    }
}

/// What stands before and behind the process id in a name: in the next run that is
/// another number.
pub(super) fn around_pid(name: &[u8], pid: u32) -> Option<(&[u8], &[u8])> {
    let digits = pid.to_string();
    // The first process of a container is number 1, as many things are.
    if digits.len() < 2 {
        return None;
    }
    (0..name.len()).find_map(|at| {
        let before = name.get(..at)?;
        let zeros = name.get(at..)?.iter().take_while(|b| **b == b'0').count();
        let after = name.get(at + zeros..)?.strip_prefix(digits.as_bytes())?;
        let is_digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
        (!is_digit(before.last()) && !is_digit(after.first())).then_some((before, after))
    })
}

/// A glob that these bytes match, and, but for bytes that text cannot have, nothing
/// else.
fn pattern(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '*' | '?' | '[' | '\\' => out.extend(['\\', c]),
                '\0' => out.push('?'),
                c => out.push(c),
            }
        }
        out.extend(chunk.invalid().iter().map(|_| '?'));
    }
    out
}

/// As [`pattern`], of a path as the log has it: `\xNN` is a byte that text cannot
/// have, and of a long path only the end is there.
fn path(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let digits = rest.get(at + 2..at + 4);
        let is_byte = digits.is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let end = if is_byte { at + 4 } else { at + 2 };
        out += &pattern(rest.get(..if is_byte { at } else { end })?.as_bytes());
        out += if is_byte { "?" } else { "" };
        rest = rest.get(end..)?;
    }
    out += &pattern(rest.as_bytes());
    (!text.is_empty()).then_some(out)
}

fn program(call: &Call) -> Option<Program> {
    if call.program.is_empty() {
        // Where the program is unknown no `for` matches.
        return None;
    }
    // Of a script's interpreter only what the script does was seen.
    let text = match call.script.as_str() {
        "" => call.program.as_str(),
        script => script,
    };
    let start = if text.starts_with('/') { "" } else { "**" };
    let glob = format!("{start}{}", path(text)?);
    Some(match call.script.as_str() {
        "" => Program::Executable(glob),
        _ => Program::Script(glob),
    })
}

/// The file that an exec names. Of one that is relative to nobody knows what, the
/// name.
fn file(text: &str) -> Option<Term> {
    let text = match text.starts_with('/') {
        true => text,
        false => text.rsplit('/').next()?,
    };
    Some(Term::File(path(text)?))
}
