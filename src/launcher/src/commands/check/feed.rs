//! Lines of a log as a check sees them.

use std::fmt::Write as _;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::check::{Call, Listener};
use bindgate_core::model::script::address;
use bindgate_core::policy::Op;
use bindgate_core::socket::{BindOptions, SocketType, proto, ty};
use serde_json::Value;

use crate::events::Decision;

/// A time of a log, in microseconds since some midnight of its month.
pub fn micros(stamp: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| stamp.get(range)?.parse::<u64>().ok();
    let [days, hours, minutes, seconds] = [
        number(8..10)?,
        number(11..13)?,
        number(14..16)?,
        number(17..19)?,
    ];
    let whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    Some(whole * 1_000_000 + number(20..26)?)
}

/// A name of the log by its number, or that number.
fn numbered(text: Option<&str>, names: &[(&str, u16)]) -> u16 {
    let Some(text) = text else { return 0 };
    let named = names.iter().find(|(name, _)| *name == text);
    named.map_or_else(|| text.parse().unwrap_or(0), |(_, number)| *number)
}

/// What a socket is that the log describes by words.
fn socket(family: Option<&str>, kind: Option<&str>, protocol: Option<&str>) -> SocketType {
    let domain = numbered(
        family,
        &[
            ("unix", af::UNIX),
            ("inet", af::INET),
            ("inet6", af::INET6),
            ("netlink", af::NETLINK),
            ("packet", af::PACKET),
            ("vsock", af::VSOCK),
        ],
    );
    let ty = numbered(
        kind,
        &[
            ("stream", ty::STREAM),
            ("dgram", ty::DGRAM),
            ("raw", ty::RAW),
            ("rdm", ty::RDM),
            ("seqpacket", ty::SEQPACKET),
            ("packet", ty::PACKET),
        ],
    );
    let protocol = match domain {
        af::INET | af::INET6 => numbered(
            protocol,
            &[
                ("icmp", proto::ICMP),
                ("tcp", proto::TCP),
                ("udp", proto::UDP),
                ("icmpv6", proto::ICMPV6),
                ("sctp", proto::SCTP),
                ("udplite", proto::UDPLITE),
                ("mptcp", proto::MPTCP),
                ("dccp", 33),
                ("raw", 255),
            ],
        ),
        _ => 0,
    };
    SocketType {
        domain,
        ty,
        protocol,
    }
}

/// An address as the log prints it.
fn read(text: Option<&str>) -> Option<Addr> {
    RawAddr::new(&address(text?).ok()?)?.read()
}

/// The calls that a record is about: a listen(2) that binds is two.
pub fn calls(d: &Decision, record: usize, at_ms: u64) -> Vec<Call> {
    let op = match d.call.as_str() {
        "socket" | "socketpair" => Op::Socket,
        "bind" => Op::Bind,
        "listen" => Op::Listen,
        "exec" => Op::Exec,
        // The bind on the way of these is nobody's wish.
        "connect" | "sendto" | "sendmsg" | "sendmmsg" if !d.implicit => Op::Connect,
        _ => return Vec::new(),
    };
    let names = d.options.as_deref();
    let options = names.map(|names| {
        let bits = BindOptions::NAMES.iter();
        let set = bits.filter(|(name, _)| names.iter().any(|n| n == name));
        BindOptions(set.fold(0, |all, (_, bit)| all | bit))
    });
    let errno = d.errno.as_deref().map_or(0, |name| {
        bindgate_core::errno::by_name(name).unwrap_or_else(|| name.parse().unwrap_or(u16::MAX))
    });
    let call = Call {
        record,
        at_ms,
        op,
        socket: socket(d.family.as_deref(), d.ty.as_deref(), d.protocol.as_deref()),
        addr: match op {
            Op::Exec => None,
            _ => read(d.asked.as_deref()),
        },
        v6only: d.v6only == Some(true),
        options,
        errno,
        by_listen: op == Op::Listen && d.implicit,
        program: d.program.clone().unwrap_or_default().into_bytes(),
        script: d.script.clone().unwrap_or_default().into_bytes(),
        file: match op {
            Op::Exec => d.asked.clone().unwrap_or_default().into_bytes(),
            _ => Vec::new(),
        },
    };
    if !call.by_listen {
        return vec![call];
    }
    let bind = Call {
        op: Op::Bind,
        ..call.clone()
    };
    // Where a rule has put the socket it does not listen yet.
    if d.verdict != "allow" {
        return vec![bind];
    }
    let listen = Call {
        addr: read(d.used.as_deref()).or(call.addr),
        by_listen: false,
        ..call
    };
    vec![bind, listen]
}

/// `server[812] bind tcp 0.0.0.0:80 reuseaddr → failed: EADDRINUSE (held by …)`
pub fn described(d: &Decision, at_ms: u64) -> String {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let program = d.program.as_deref().map_or_else(|| "?".into(), name);
    let mut text = format!("+{}.{:03} s {program}", at_ms / 1000, at_ms % 1000);
    // Writing to a string does not fail.
    if let Some(script) = &d.script {
        let _ = write!(text, "({})", name(script));
    }
    let _ = write!(text, "[{}] {}", d.pid, d.call);
    if d.call != "exec" {
        let kind = match (d.family.as_deref(), d.protocol.as_deref(), d.ty.as_deref()) {
            (Some("inet" | "inet6"), Some(protocol), _) if d.ty.as_deref() != Some("raw") => {
                protocol.to_owned()
            }
            (Some(family), _, Some("stream")) => family.to_owned(),
            (Some(family), _, Some(kind)) => format!("{family} {kind}"),
            _ => format!("fd {}", d.fd.unwrap_or(-1)),
        };
        let _ = write!(text, " {kind}");
    }
    if let Some(asked) = &d.asked {
        let _ = write!(text, " {asked}");
    }
    if let (Some("inet6"), Some(false), Some(asked)) =
        (d.family.as_deref(), d.v6only, d.asked.as_deref())
        && asked.starts_with("[::]:")
    {
        text += " dual-stack";
    }
    for option in d.options.iter().flatten() {
        let _ = write!(text, " {option}");
    }
    text += " → ";
    let errno = d.errno.as_deref().unwrap_or("ok");
    match (d.verdict.as_str(), d.errno.is_some(), d.observed) {
        ("deny", true, false) => {
            let _ = write!(text, "refused: {errno}");
        }
        (_, true, _) => {
            let _ = write!(text, "failed: {errno}");
        }
        ("move", _, false) => {
            let _ = write!(text, "moved to {}", d.used.as_deref().unwrap_or("?"));
        }
        ("hide", _, false) => text += "hidden",
        _ => match &d.used {
            Some(used) if d.call != "socket" && d.asked.as_ref() != Some(used) => {
                let _ = write!(text, "ok, at {used}");
            }
            _ => text += "ok",
        },
    }
    if let Some(holder) = &d.holder {
        let program = holder.program.as_deref().map_or_else(|| "?".into(), name);
        let pid = holder
            .pid
            .map_or_else(String::new, |pid| format!("[{pid}]"));
        let _ = write!(text, ", held by {program}{pid}");
    }
    if let Some(rule) = d.rule.as_ref().filter(|rule| rule.number > 0) {
        let _ = write!(text, "  (rule {})", rule.number);
    }
    text
}

/// `bind tcp [::]:80: EAFNOSUPPORT`, of a call that failed; of one that did not, where it
/// listens, or is bound.
pub fn deed(d: &Decision) -> Option<String> {
    let is_stream = matches!(d.ty.as_deref(), Some("stream" | "seqpacket"));
    let failed = d.errno.as_deref().map(|errno| format!(": {errno}"));
    let is_told = match d.call.as_str() {
        "listen" => true,
        "bind" => failed.is_some() || !is_stream,
        "socket" => failed.is_some(),
        _ => false,
    };
    let kind = match d.family.as_deref() {
        Some("inet" | "inet6") => d.protocol.as_deref(),
        family => family,
    };
    let at = match d.asked.as_deref() {
        Some(asked) => format!(" {asked}"),
        None => String::new(),
    };
    let failed = failed.unwrap_or_default();
    is_told.then(|| format!("{} {}{at}{failed}", d.call, kind.unwrap_or("?")))
}

/// What listens in a run, by what `bindgate ls --json` says of it.
pub fn listeners(run: &Value) -> Vec<Listener> {
    let all = run["sockets"].as_array().into_iter().flatten();
    let listening = all.filter(|s| s["state"].as_str() == Some("listening"));
    let listener = |s: &Value| {
        let word = |name: &str| s[name].as_str();
        let family = word("family");
        let kind = word("kind").unwrap_or_default();
        let protocol = matches!(family, Some("inet" | "inet6")).then_some(kind);
        let pids: Vec<_> = s["pids"].as_array().into_iter().flatten().collect();
        let mut holders = Vec::new();
        for pid in pids.iter().filter_map(|pid| pid.as_u64()) {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            let comm = comm.unwrap_or_else(|_| "?".into());
            holders.push(format!("{}[{pid}]", comm.trim_end()));
        }
        let held = match holders.is_empty() {
            true => String::new(),
            false => format!(", held by {}", holders.join(", ")),
        };
        let has = |name: &str| {
            let options = s["options"].as_array().into_iter().flatten();
            options.into_iter().any(|o| o.as_str() == Some(name))
        };
        Listener {
            socket: socket(family, word("type"), protocol),
            addr: read(word("address")),
            v6only: has("v6only"),
            program: word("program").unwrap_or_default().as_bytes().to_vec(),
            text: format!("{kind} {}{held}", word("address").unwrap_or("?")),
        }
    };
    listening.map(listener).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, read as lines};

    #[test]
    fn a_record_becomes_a_call() {
        let document = include_str!("../../../../../docs/log.md");
        let example = document
            .lines()
            .find(|l| l.contains("\"event\":\"decision\""));
        let (_, line) = lines(example.unwrap().as_bytes()).next().unwrap().unwrap();
        let Event::Decision(d) = line.event else {
            panic!("{line:?}")
        };
        let calls = calls(&d, 1, 5);
        assert_eq!(calls.len(), 1);
        let call = &calls[0];
        assert_eq!(call.addr, read(Some("0.0.0.0:80")));
        assert_eq!(call.socket, SocketType::created(2, 1, 0));
        assert_eq!(call.options, Some(BindOptions(BindOptions::REUSEADDR)));
        assert_eq!(
            described(&d, 1005),
            "+1.005 s nginx[812] bind tcp 0.0.0.0:80 reuseaddr → moved to 127.0.0.1:8080  (rule 1)"
        );
        assert_eq!(
            micros("2026-11-22T12:03:01.123456Z"),
            Some(1_944_181_123_456)
        );
        assert!(read(Some("[fe80::1%2]:80")).is_some());
        assert!(read(Some("unix:/tmp/a\\x20b")).is_some());
    }
}
