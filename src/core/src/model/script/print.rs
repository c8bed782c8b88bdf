//! Scripts as text.

use super::parse::address;
use super::{Call, Caps, Expect, Line, Process, Script};
use crate::addr::RawAddr;
use crate::model::{Errno, GetOpt, Opt};
use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt::{self, Write as _};

/// Socket types by the names that scripts use.
pub(super) const KINDS: [(&str, (i32, i32, i32)); 20] = [
    ("tcp", (2, 1, 0)),
    ("tcp6", (10, 1, 0)),
    ("udp", (2, 2, 0)),
    ("udp6", (10, 2, 0)),
    ("udplite", (2, 2, 136)),
    ("udplite6", (10, 2, 136)),
    ("mptcp", (2, 1, 262)),
    ("mptcp6", (10, 1, 262)),
    ("ping", (2, 2, 1)),
    ("ping6", (10, 2, 58)),
    ("raw", (2, 3, 255)),
    ("raw6", (10, 3, 255)),
    ("unix", (1, 1, 0)),
    ("unix-dgram", (1, 2, 0)),
    ("unix-seqpacket", (1, 5, 0)),
    ("vsock", (40, 1, 0)),
    ("vsock-seqpacket", (40, 5, 0)),
    ("vsock-dgram", (40, 2, 0)),
    ("netlink", (16, 3, 0)),
    ("packet", (17, 3, 0)),
];

/// Family, type and protocol of a kind that scripts name.
#[must_use]
pub fn kind_of(name: &str) -> Option<(i32, i32, i32)> {
    KINDS.iter().find(|(n, _)| *n == name).map(|(_, k)| *k)
}

struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The readable form, if it can be read and nothing is lost by it.
        if let Some(addr) = RawAddr::new(self.0).and_then(|raw| raw.read()) {
            let text = addr.to_string();
            let is_word = !text.contains(char::is_whitespace);
            if is_word && address(&text).as_deref() == Ok(self.0) {
                return f.write_str(&text);
            }
        }
        f.write_str("hex:")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Capabilities as a script writes them.
struct Names(Caps);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (has, name) in [
            (self.0.net_bind_service, "CAP_NET_BIND_SERVICE"),
            (self.0.net_admin, "CAP_NET_ADMIN"),
            (self.0.net_raw, "CAP_NET_RAW"),
        ] {
            if has {
                write!(f, "{between}{name}")?;
                between = ",";
            }
        }
        if between.is_empty() {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}

impl fmt::Display for Opt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |b: bool| if b { "on" } else { "off" };
        match *self {
            Opt::ReuseAddr(b) => write!(f, "SO_REUSEADDR {}", on(b)),
            Opt::ReusePort(b) => write!(f, "SO_REUSEPORT {}", on(b)),
            Opt::ReusePortLb(b) => write!(f, "SO_REUSEPORT_LB {}", on(b)),
            Opt::V6Only(b) => write!(f, "IPV6_V6ONLY {}", on(b)),
            Opt::BindToIfIndex(i) => write!(f, "SO_BINDTOIFINDEX {i}"),
            Opt::BindToDevice(name) => write!(f, "SO_BINDTODEVICE {}", name.as_str()),
            Opt::FreeBind(b) => write!(f, "IP_FREEBIND {}", on(b)),
            Opt::Transparent(b) => write!(f, "IP_TRANSPARENT {}", on(b)),
            Opt::NoPort(b) => write!(f, "IP_BIND_ADDRESS_NO_PORT {}", on(b)),
            Opt::PortRange(lo, hi) => write!(f, "IP_LOCAL_PORT_RANGE {lo}-{hi}"),
            Opt::LingerZero(b) => write!(f, "SO_LINGER {}", if b { "zero" } else { "off" }),
            Opt::Repair(b) => write!(f, "TCP_REPAIR {}", on(b)),
            Opt::PassCred(b) => write!(f, "SO_PASSCRED {}", on(b)),
            Opt::PassPidfd(b) => write!(f, "SO_PASSPIDFD {}", on(b)),
            Opt::AttachReuseport => write!(f, "SO_ATTACH_REUSEPORT_CBPF on"),
            Opt::BsdPortRange(r) => write!(f, "IP_PORTRANGE {}", r.name()),
            Opt::BsdPortRange6(r) => write!(f, "IPV6_PORTRANGE {}", r.name()),
            Opt::BsdBindAny(b) => write!(f, "IP_BINDANY {}", on(b)),
            Opt::BsdBindAny6(b) => write!(f, "IPV6_BINDANY {}", on(b)),
            Opt::BsdSetFib(n) => write!(f, "SO_SETFIB {n}"),
        }
    }
}

/// What an option holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value(pub GetOpt, pub u32);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Value(option, value) = *self;
        match option {
            GetOpt::PortRange => write!(f, "{}-{}", value & 0xffff, value >> 16),
            _ => write!(f, "{value}"),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Ok => f.write_str("ok"),
            Expect::Name(name) => f.write_str(name),
            Expect::Value(option, value) => Value(*option, *value).fmt(f),
            Expect::Fails(e) => f.write_str(Errno::name(*e)),
        }
    }
}

impl Script {
    /// The address of a call as a script writes it.
    fn addressed(&self, line: &Line, bytes: &[u8]) -> String {
        let text = Bytes(bytes).to_string();
        let Some(var) = line.port_of.and_then(|var| self.vars.get(var)) else {
            return text;
        };
        match text.strip_prefix("netlink:0:") {
            Some(groups) => format!("netlink:${var}:{groups}"),
            // The port is the last part.
            None => {
                let front = text.rsplit_once(':').map_or("", |(front, _)| front);
                format!("{front}:${var}")
            }
        }
    }

    /// A line as text, without its expectation.
    #[must_use]
    pub fn line_text(&self, line: &Line) -> String {
        let mut text = String::new();
        let name = |var: usize| self.vars.get(var).map_or("?", |v| v);
        let process = self.processes.get(line.process).map_or("?", |p| &p.name);
        let v = name(line.var);
        let _ = write!(text, "{process}: ");
        let _ = match &line.call {
            Call::Socket {
                domain,
                ty,
                protocol,
            } => match KINDS.iter().find(|(_, k)| *k == (*domain, *ty, *protocol)) {
                Some((kind, _)) => write!(text, "{v} = socket {kind}"),
                None => write!(text, "{v} = socket {domain} {ty} {protocol}"),
            },
            Call::File => write!(text, "{v} = file"),
            Call::Get(option) => write!(text, "getsockopt {v} {}", option.name()),
            Call::GetSockName => write!(text, "getsockname {v}"),
            Call::GetPeerName => write!(text, "getpeername {v}"),
            Call::BindNowhere { len } => write!(text, "bind {v} nowhere len {len}"),
            Call::Set(opt) => write!(text, "set {v} {opt}"),
            Call::Bind { bytes, len } => {
                let _ = write!(text, "bind {v} {}", self.addressed(line, bytes));
                match len {
                    Some(len) => write!(text, " len {len}"),
                    None => Ok(()),
                }
            }
            Call::Listen => write!(text, "listen {v}"),
            Call::Connect { bytes } => {
                write!(text, "connect {v} {}", self.addressed(line, bytes))
            }
            Call::Accept { from } => write!(text, "{v} = accept {}", name(*from)),
            Call::Shutdown(how) => {
                let how = ["read", "write", "both"]
                    .get(usize::from(*how))
                    .unwrap_or(&"?");
                write!(text, "shutdown {v} {how}")
            }
            Call::Dup { of } => write!(text, "{v} = dup {}", name(*of)),
            Call::Close => write!(text, "close {v}"),
        };
        text
    }
}

impl Process {
    /// The line that describes it.
    fn write(&self, script: &Script, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} uid {}", self.name, self.uid)?;
        if self.caps != Caps::of_user(self.uid) {
            write!(f, " with {}", Names(self.caps))?;
        }
        let place = self.jail.checked_sub(1);
        let jail = place.and_then(|j| script.jails.get(j as usize));
        if let Some(jail) = jail {
            write!(f, " jail {jail}")?;
        }
        f.write_char('\n')
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Those that no line describes: all, if nobody has read the script.
        let described = self.changes.iter().filter(|c| c.describes_process());
        let others = self.processes.len() - described.count().min(self.processes.len());
        for p in self.processes.iter().take(others) {
            if *p != Process::new("root", 0) {
                p.write(self, f)?;
            }
        }
        let mut changes = self.changes.iter();
        let mut shown = 0;
        for line in &self.lines {
            while shown < line.after {
                shown += 1;
                if let Some(change) = changes.next() {
                    writeln!(f, "{}", change.text)?;
                }
            }
            write!(f, "{}", self.line_text(line))?;
            if let Some(expect) = &line.expect {
                write!(f, "    expect {expect}")?;
            }
            f.write_char('\n')?;
        }
        for change in changes {
            writeln!(f, "{}", change.text)?;
        }
        Ok(())
    }
}
