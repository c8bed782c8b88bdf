//! Scripts as text.

use core::fmt::{self, Write as _};
use core::net::{Ipv4Addr, Ipv6Addr};

use super::{Call, Caps, Expect, Line, Script};
use crate::addr::RawAddr;
use crate::model::{Errno, Opt};

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
        // The readable form, if nothing is lost by it.
        if let Some(addr) = RawAddr::new(self.0).and_then(|raw| raw.read())
            && addr.write().bytes() == self.0
        {
            return write!(f, "{addr}");
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
            Opt::BindToNoDevice => write!(f, "SO_BINDTODEVICE no-such-device"),
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

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Ok => f.write_str("ok"),
            Expect::Name(name) => f.write_str(name),
            Expect::Fails(e) => f.write_str(Errno::name(*e)),
        }
    }
}

impl Script {
    /// A line as text, without its expectation.
    #[must_use]
    pub fn line_text(&self, line: &Line) -> alloc::string::String {
        let mut text = alloc::string::String::new();
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
            Call::BindNowhere { len } => write!(text, "bind {v} nowhere len {len}"),
            Call::Set(opt) => write!(text, "set {v} {opt}"),
            Call::Bind { bytes, len } => {
                let _ = write!(text, "bind {v} {}", Bytes(bytes));
                match len {
                    Some(len) => write!(text, " len {len}"),
                    None => Ok(()),
                }
            }
            Call::Listen => write!(text, "listen {v}"),
            Call::Connect { bytes } => write!(text, "connect {v} {}", Bytes(bytes)),
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

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.sysctls {
            writeln!(f, "sysctl {name} = {value}")?;
        }
        for (name, jail) in self.jails.iter().zip(self.host.jails.as_slice()) {
            write!(f, "jail {name}")?;
            for addr in jail.v4.as_slice() {
                write!(f, " {}", Ipv4Addr::from_bits(*addr))?;
            }
            for addr in jail.v6.as_slice() {
                write!(f, " [{}]", Ipv6Addr::from(*addr))?;
            }
            f.write_char('\n')?;
        }
        for p in &self.processes {
            write!(f, "process {} uid {}", p.name, p.uid)?;
            if p.caps != Caps::of_user(p.uid) {
                write!(f, " with {}", Names(p.caps))?;
            }
            let jail = p
                .jail
                .checked_sub(1)
                .and_then(|j| self.jails.get(j as usize));
            if let Some(jail) = jail {
                write!(f, " jail {jail}")?;
            }
            f.write_char('\n')?;
        }
        for line in &self.lines {
            write!(f, "{}", self.line_text(line))?;
            if let Some(expect) = &line.expect {
                write!(f, "    expect {expect}")?;
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}
