//! A policy as text that parses to the same policy.

use alloc::string::String;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ast::{
    Action, CidSet, HostLine, HostSetting, IpSet, Kinds, Personality, Policy, PortSet, Program,
    Rule, Service, TargetHost, TargetPort, TargetSpec, Term, UnixTerm, User,
};
use super::errno;
use super::parse::MODIFIERS;
use super::{Mode, Op};
use crate::socket::KindSet;
use crate::text::is_unprintable;

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mode) = self.mode {
            writeln!(
                f,
                "mode {}",
                match mode {
                    Mode::Enforce => "enforce",
                    Mode::Observe => "observe",
                }
            )?;
        }
        for op in Op::ALL {
            if let Some(d) = self.defaults.get(op) {
                match d.deny {
                    None => writeln!(f, "default allow for {}", op.name())?,
                    Some(e) => writeln!(f, "default deny {} for {}", Errno(e), op.name())?,
                }
            }
        }
        for h in &self.host {
            writeln!(f, "{h}")?;
        }
        for r in &self.rules {
            writeln!(f, "{r}")?;
        }
        for e in &self.expectations {
            writeln!(f, "{e}")?;
        }
        Ok(())
    }
}

/// ` 10.0.0.5/24 [fd00::1/64]`
fn addresses(f: &mut fmt::Formatter<'_>, all: &[(IpAddr, u8)]) -> fmt::Result {
    all.iter().try_for_each(|(ip, len)| match ip {
        IpAddr::V4(a) => write!(f, " {a}/{len}"),
        IpAddr::V6(a) => write!(f, " [{a}/{len}]"),
    })
}

impl fmt::Display for HostLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("host ")?;
        match &self.setting {
            HostSetting::Cid(n) => write!(f, "cid {n}"),
            HostSetting::Fabric(path) => write!(f, "fabric {}", Quoted(path)),
            HostSetting::VsockUds(path) => write!(f, "vsock-uds {}", Quoted(path)),
            HostSetting::VsockGuest(cid) => write!(f, "vsock-guest {cid}"),
            HostSetting::VsockPort(port, path) => {
                write!(f, "vsock-port {}", Quoted(&alloc::format!("{port}={path}")))
            }
            HostSetting::Share(service) => write!(f, "share {service}"),
            HostSetting::Lease(n) => write!(f, "lease {n}"),
            HostSetting::Addresses(all) => {
                f.write_str("address")?;
                addresses(f, all)
            }
            HostSetting::Personality(Personality::Linux) => f.write_str("personality linux"),
            HostSetting::Personality(Personality::FreeBsd) => f.write_str("personality freebsd"),
            HostSetting::Privileged(true) => f.write_str("privileged"),
            HostSetting::Privileged(false) => f.write_str("unprivileged"),
            HostSetting::UnprivilegedStart(n) => write!(f, "unprivileged-start {n}"),
            HostSetting::AutomaticPorts(a, b) => write!(f, "automatic-ports {a}-{b}"),
            HostSetting::Kernel(generation) => write!(f, "kernel {generation}"),
            HostSetting::Device(name, all) => {
                write!(f, "device {name}")?;
                addresses(f, all)
            }
            HostSetting::NoIpv6 => f.write_str("no-ipv6"),
            HostSetting::Busy(busy) => write!(f, "busy {busy}"),
            HostSetting::Sysctl(name, value) => write!(f, "sysctl {name} = {value}"),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_udp { "udp" } else { "tcp" };
        let at = SocketAddr::new(self.ip, self.port);
        write!(f, "{kind} {at}")
    }
}

pub(super) struct Errno(pub u16);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match errno::name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A word, in quotes where it needs them: where blanks, quotes or comments
/// would split it, or where it would be taken for something else.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        let plain = !s.is_empty()
            && !s.starts_with(['#', '@', '{'])
            && !s.contains(|c: char| c.is_whitespace() || c == '"' || is_unprintable(c))
            && !s.contains(":{")
            && !["unix:", "vsock:", "script:"]
                .iter()
                .any(|p| s.starts_with(p))
            && !["auto", "*", "exactly"].contains(&s)
            && !MODIFIERS.contains(&s);
        if plain {
            return f.write_str(s);
        }
        f.write_str("\"")?;
        for c in s.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if is_unprintable(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

fn list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl ExactSizeIterator<Item = T>,
) -> fmt::Result {
    let braces = items.len() != 1;
    if braces {
        f.write_str("{")?;
    }
    for (i, item) in items.enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        write!(f, "{item}")?;
    }
    if braces {
        f.write_str("}")?;
    }
    Ok(())
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kinds::Any => f.write_str("any"),
            Kinds::Of(set) if set.protocol() != 0 => write!(f, "proto {}", set.protocol()),
            Kinds::Of(set) => {
                let names = KindSet::NAMES.iter().filter(|(_, k)| set.intersects(*k));
                let names: alloc::vec::Vec<_> = names.map(|(n, _)| *n).collect();
                list(f, names.iter())
            }
        }
    }
}

impl fmt::Display for IpSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IpSet::Any => f.write_str("*"),
            IpSet::Loopback => f.write_str("loopback"),
            IpSet::Wild4 => f.write_str("0.0.0.0"),
            IpSet::Wild6 => f.write_str("[::]"),
            IpSet::V4(a, 32) => write!(f, "{}", Ipv4Addr::from(*a)),
            IpSet::V4(a, len) => write!(f, "{}/{len}", Ipv4Addr::from(*a)),
            IpSet::V6(a, 128) => write!(f, "[{}]", Ipv6Addr::from(*a)),
            IpSet::V6(a, len) => write!(f, "[{}/{len}]", Ipv6Addr::from(*a)),
        }
    }
}

impl fmt::Display for CidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CidSet::Any => f.write_str("*"),
            CidSet::Wild => f.write_str("cid-any"),
            CidSet::Id(n) => write!(f, "{n}"),
        }
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortSet::Any => f.write_str("*"),
            PortSet::Auto => f.write_str("auto"),
            PortSet::Reserved => f.write_str("reserved"),
            PortSet::Range(a, b) if a == b => write!(f, "{a}"),
            PortSet::Range(a, b) => write!(f, "{a}-{b}"),
        }
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetSpec::Path(t) => write!(f, "unix:{}", Quoted(t)),
            TargetSpec::Abstract(t) => write!(f, "unix:@{}", Quoted(t)),
            TargetSpec::Port { host, port } => {
                match host {
                    TargetHost::Keep => f.write_str("*:")?,
                    TargetHost::Loopback => f.write_str("loopback:")?,
                    TargetHost::V4(a) => write!(f, "{}:", Ipv4Addr::from(*a))?,
                    TargetHost::V6(a) => write!(f, "[{}]:", Ipv6Addr::from(*a))?,
                    TargetHost::Cid(u32::MAX) => f.write_str("vsock:cid-any:")?,
                    TargetHost::Cid(n) => write!(f, "vsock:{n}:")?,
                }
                match port {
                    TargetPort::Keep => f.write_str("*"),
                    TargetPort::Auto => f.write_str("auto"),
                    TargetPort::Number(n) => write!(f, "{n}"),
                    TargetPort::Offset(n) => write!(f, "{n:+}"),
                }
            }
        }
    }
}

/// ` tcp *:80`: the sockets that a line is about.
pub(super) fn sockets(
    f: &mut fmt::Formatter<'_>,
    op: Op,
    kinds: Kinds,
    exactly: bool,
    term: &Term,
) -> fmt::Result {
    if op != Op::Exec {
        write!(f, " {}", kinds)?;
    }
    if exactly {
        f.write_str(" exactly")?;
    }
    let fam = kinds.families();
    match term {
        Term::File(glob) => write!(f, " {}", Quoted(glob))?,
        Term::Every if op == Op::Socket => {}
        Term::Every => f.write_str(" *")?,
        Term::Ip { addrs, ports } => {
            f.write_str(" ")?;
            list(f, addrs.iter())?;
            f.write_str(":")?;
            list(f, ports.iter())?;
        }
        Term::Vsock { cids, ports } => {
            // Where an IP address could stand as well, the family is named.
            f.write_str(if fam.ip || fam.unix { " vsock:" } else { " " })?;
            list(f, cids.iter())?;
            f.write_str(":")?;
            list(f, ports.iter())?;
        }
        Term::Unix(term) => {
            f.write_str(if fam.ip || fam.vsock { " unix:" } else { " " })?;
            match term {
                UnixTerm::Auto => f.write_str("auto")?,
                UnixTerm::Path(glob) => write!(f, "{}", Quoted(glob))?,
                UnixTerm::Abstract(glob) => write!(f, "@{}", Quoted(glob))?,
            }
        }
    }
    Ok(())
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match &self.action {
            Action::Allow => "allow",
            Action::Deny(_) => "deny",
            Action::Move(_) => "move",
            Action::Hide => "hide",
            Action::Note => "note",
        };
        write!(f, "{verb} {}", self.op.name())?;
        sockets(f, self.op, self.kinds, self.exactly, &self.term)?;
        if self.implicit {
            f.write_str(" implicit")?;
        }
        match &self.action {
            Action::Deny(e) => write!(f, " with {}", Errno(*e))?,
            Action::Move(to) => write!(f, " to {to}")?,
            _ => {}
        }
        for (on, word) in [
            (self.unprivileged, " unprivileged"),
            (self.followed, " followed"),
        ] {
            if on {
                f.write_str(word)?;
            }
        }
        if let Some(uses) = self.uses {
            let (word, n) = uses.words();
            write!(f, " {word} {n}")?;
        }
        match &self.program {
            Some(Program::Executable(glob)) => write!(f, " for {}", Quoted(glob))?,
            Some(Program::Script(glob)) => write!(f, " for script:{}", Quoted(glob))?,
            None => {}
        }
        match &self.user {
            Some(User::Id(n)) => write!(f, " user {n}")?,
            Some(User::Name(name)) => write!(f, " user {}", Quoted(name))?,
            None => {}
        }
        Ok(())
    }
}

/// The rule as one line of text.
pub(super) fn line(rule: &Rule) -> String {
    alloc::format!("{rule}")
}
