//! Scripts from text.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::print::KINDS;
use super::{Call, Caps, Expect, Line, Process, Script};
use crate::addr::{Addr, UnixName, VMADDR_ANY};
use crate::model::freebsd::PortRange;
use crate::model::host::{Route, V4, V6};
use crate::model::{Errno, Generation, Host, Jail, Opt};
use crate::policy::{self, HostSetting, Personality};

/// Why a script cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptError {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

struct Reader {
    script: Script,
    lines: Vec<Line>,
    at: u32,
}

/// Reads a script that plays on `host`, unless it says otherwise.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str, host: Host) -> Result<Script, ScriptError> {
    let root = Process::new("root", 0);
    let mut r = Reader {
        script: Script {
            host,
            sysctls: Vec::new(),
            jails: Vec::new(),
            processes: alloc::vec![root],
            vars: Vec::new(),
            lines: Vec::new(),
        },
        lines: Vec::new(),
        at: 0,
    };
    for (n, line) in (1u32..).zip(text.lines()) {
        r.at = n;
        r.line(line)
            .map_err(|message| ScriptError { line: n, message })?;
    }
    r.script.lines = r.lines;
    Ok(r.script)
}

fn number<T: core::str::FromStr>(word: &str, what: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("'{word}' is not a valid {what}"))
}

fn on_off(word: &str) -> Result<bool, String> {
    match word {
        "on" | "1" => Ok(true),
        "off" | "0" => Ok(false),
        _ => Err(format!("'{word}' is neither on nor off")),
    }
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = without_comment(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.iter().position(|word| *word == "expect");
        let (words, expect) = match place.map(|place| words.split_at(place)) {
            None => (words.as_slice(), None),
            Some(([] | ["host" | "sysctl" | "jail" | "process", ..], _)) => {
                return Err("'expect' must follow a call".to_owned());
            }
            Some((call, after)) => (call, Some(expectation(after)?)),
        };
        match words {
            [] => Ok(()),
            ["host", "kernel", name @ ..] => self.kernel(&name.join(" ")),
            ["host", ..] => self.host(line),
            ["sysctl", name, rest @ ..] => {
                let value = rest
                    .iter()
                    .filter(|w| **w != "=")
                    .copied()
                    .collect::<Vec<_>>()
                    .join(" ");
                sysctl(&mut self.script.host, name, &value)?;
                self.script.sysctls.push(((*name).to_owned(), value));
                Ok(())
            }
            ["jail", name, addresses @ ..] => self.new_jail(name, addresses),
            ["process", name, "uid", uid, rest @ ..] => {
                let mut process = Process::new(name, number(uid, "user id")?);
                for pair in rest.chunks(2) {
                    match pair {
                        ["with", list] => process.caps = capabilities(list)?,
                        ["jail", jail] => process.jail = self.jail(jail)?,
                        _ => {
                            return Err(
                                "after the user id come: with CAPABILITIES, jail NAME".to_owned()
                            );
                        }
                    }
                }
                match self.script.processes.iter_mut().find(|p| p.name == *name) {
                    Some(p) => *p = process,
                    None => self.script.processes.push(process),
                }
                Ok(())
            }
            [first, rest @ ..] => {
                let (process, rest) = match first.strip_suffix(':') {
                    Some(name) => (self.process(name)?, rest),
                    None => (0, words),
                };
                self.call(process, rest, expect)
            }
        }
    }

    fn kernel(&mut self, name: &str) -> Result<(), String> {
        let Some(generation) = Generation::of_name(name) else {
            let all = Generation::ALL.map(|(name, _)| name).join(", ");
            return Err(format!(
                "unknown kernel '{name}'; known are: {all}, and any other release of Linux"
            ));
        };
        self.script.host.generation = generation;
        Ok(())
    }

    fn host(&mut self, line: &str) -> Result<(), String> {
        let source = policy::Source {
            name: "script",
            text: line,
        };
        // Where in the script says whoever reads it.
        let parsed = policy::parse(&[source]).map_err(|all| {
            let Some(first) = all.first() else {
                return String::new();
            };
            match first.hints() {
                Some(hints) => format!("{}; {hints}", first.message),
                None => first.message.clone(),
            }
        })?;
        for line in &parsed.host {
            apply(&mut self.script.host, &line.setting)?;
            if let HostSetting::Privileged(yes) = line.setting
                && let Some(root) = self.script.processes.first_mut()
            {
                *root = Process::new("root", if yes { 0 } else { 1000 });
            }
        }
        Ok(())
    }

    /// The number of a jail, from 1.
    fn jail(&self, name: &str) -> Result<u32, String> {
        let place = self.script.jails.iter().position(|j| j == name);
        place
            .map(|p| p as u32 + 1)
            .ok_or_else(|| format!("there is no jail '{name}'; declare it: jail {name} ADDRESS..."))
    }

    fn new_jail(&mut self, name: &str, addresses: &[&str]) -> Result<(), String> {
        if self.jail(name).is_ok() {
            return Err(format!("there is a jail '{name}' already"));
        }
        let mut jail = Jail::EMPTY;
        for word in addresses {
            let bare = word.trim_start_matches('[').trim_end_matches(']');
            let room = match number(bare, "address")? {
                IpAddr::V4(a) => jail.v4.push(a.to_bits()),
                IpAddr::V6(a) => jail.v6.push(a.octets()),
            };
            if !room {
                return Err("a jail has at most 4 addresses of a family".to_owned());
            }
        }
        if !self.script.host.jails.push(jail) {
            return Err("there are at most 8 jails".to_owned());
        }
        self.script.jails.push((*name).to_owned());
        Ok(())
    }

    fn process(&self, name: &str) -> Result<usize, String> {
        self.script
            .processes
            .iter()
            .position(|p| p.name == name)
            .ok_or_else(|| {
                format!("there is no process '{name}'; declare it: process {name} uid N")
            })
    }

    /// A variable that has been given a socket.
    fn known(&self, name: &str) -> Result<usize, String> {
        self.script
            .vars
            .iter()
            .position(|v| v == name)
            .ok_or_else(|| format!("there is no socket '{name}'; make it: {name} = socket tcp"))
    }

    fn new_var(&mut self, name: &str) -> usize {
        match self.known(name) {
            Ok(var) => var,
            Err(_) => {
                self.script.vars.push(name.to_owned());
                self.script.vars.len() - 1
            }
        }
    }

    fn call(
        &mut self,
        process: usize,
        words: &[&str],
        expect: Option<Expect>,
    ) -> Result<(), String> {
        let (var, call) = match words {
            [name, "=", "socket", rest @ ..] => (self.new_var(name), socket(rest)?),
            [name, "=", "file"] => (self.new_var(name), Call::File),
            [name, "=", "accept", from] => {
                let from = self.known(from)?;
                (self.new_var(name), Call::Accept { from })
            }
            [name, "=", "dup", of] => {
                let of = self.known(of)?;
                (self.new_var(name), Call::Dup { of })
            }
            ["set", name, rest @ ..] => (self.known(name)?, Call::Set(option(rest)?)),
            ["bind", name, "nowhere", "len", len] => {
                let len = number(len, "length")?;
                (self.known(name)?, Call::BindNowhere { len })
            }
            ["bind", name, addr] => {
                let bytes = address(addr)?;
                (self.known(name)?, Call::Bind { bytes, len: None })
            }
            ["bind", name, addr, "len", len] => {
                let bytes = address(addr)?;
                let len = Some(number(len, "length")?);
                (self.known(name)?, Call::Bind { bytes, len })
            }
            ["listen", name] => (self.known(name)?, Call::Listen),
            ["connect", name, addr] => {
                let bytes = address(addr)?;
                (self.known(name)?, Call::Connect { bytes })
            }
            ["shutdown", name, how] => {
                let how = ["read", "write", "both"]
                    .iter()
                    .position(|h| h == how)
                    .ok_or("shutdown takes read, write or both")?;
                (self.known(name)?, Call::Shutdown(how as u8))
            }
            ["close", name] => (self.known(name)?, Call::Close),
            _ => {
                return Err(
                    "expected a call: NAME = socket KIND, NAME = file, set, bind, listen, \
                     connect, NAME = accept NAME, shutdown, NAME = dup NAME, close"
                        .to_owned(),
                );
            }
        };
        self.lines.push(Line {
            process,
            var,
            call,
            expect,
            at: self.at,
        });
        Ok(())
    }
}

fn capabilities(list: &str) -> Result<Caps, String> {
    let mut caps = Caps::default();
    for word in list.split(',') {
        match word {
            "nothing" => {}
            "CAP_NET_BIND_SERVICE" => caps.net_bind_service = true,
            "CAP_NET_ADMIN" => caps.net_admin = true,
            "CAP_NET_RAW" => caps.net_raw = true,
            _ => {
                return Err(format!(
                    "'{word}' is none of CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, nothing"
                ));
            }
        }
    }
    Ok(caps)
}

/// What stands before a comment: a `#` begins one at the beginning of a word.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return line.get(..at).unwrap_or(line);
        }
        before = c;
    }
    line
}

/// `expect` and what is behind it.
fn expectation(words: &[&str]) -> Result<Expect, String> {
    let [_, text] = words else {
        return Err("expect takes ok, the name of an error, or an address".to_owned());
    };
    match Errno::from_name(text) {
        Some(e) => Ok(Expect::Fails(e)),
        None if *text == "ok" => Ok(Expect::Ok),
        None if address(text).is_ok() || text.starts_with("packet:") => {
            Ok(Expect::Name((*text).to_owned()))
        }
        None => Err(format!(
            "'{text}' is neither ok, nor the name of an error, nor an address"
        )),
    }
}

fn socket(words: &[&str]) -> Result<Call, String> {
    let (domain, ty, protocol) = match words {
        [kind] => {
            KINDS
                .iter()
                .find(|(name, _)| name == kind)
                .ok_or_else(|| format!("unknown kind of socket '{kind}'"))?
                .1
        }
        [d, t, p] => (
            number(d, "family")?,
            number(t, "type")?,
            number(p, "protocol")?,
        ),
        _ => return Err("socket takes a kind, or three numbers".to_owned()),
    };
    Ok(Call::Socket {
        domain,
        ty,
        protocol,
    })
}

fn option(words: &[&str]) -> Result<Opt, String> {
    let [name, value] = words else {
        return Err("set takes a socket, an option and a value".to_owned());
    };
    Ok(match *name {
        "SO_REUSEADDR" => Opt::ReuseAddr(on_off(value)?),
        "SO_REUSEPORT" => Opt::ReusePort(on_off(value)?),
        "SO_REUSEPORT_LB" => Opt::ReusePortLb(on_off(value)?),
        "IPV6_V6ONLY" => Opt::V6Only(on_off(value)?),
        "SO_BINDTOIFINDEX" => Opt::BindToIfIndex(number(value, "device index")?),
        "SO_BINDTODEVICE" => Opt::BindToNoDevice,
        "IP_FREEBIND" => Opt::FreeBind(on_off(value)?),
        "IP_TRANSPARENT" => Opt::Transparent(on_off(value)?),
        "IP_BIND_ADDRESS_NO_PORT" => Opt::NoPort(on_off(value)?),
        "IP_LOCAL_PORT_RANGE" => {
            let (lo, hi) = value.split_once('-').ok_or("a range is LOW-HIGH")?;
            Opt::PortRange(number(lo, "port")?, number(hi, "port")?)
        }
        "SO_LINGER" => match *value {
            "zero" => Opt::LingerZero(true),
            "off" => Opt::LingerZero(false),
            _ => return Err("SO_LINGER is zero or off".to_owned()),
        },
        "TCP_REPAIR" => Opt::Repair(on_off(value)?),
        "SO_PASSCRED" => Opt::PassCred(on_off(value)?),
        "SO_PASSPIDFD" => Opt::PassPidfd(on_off(value)?),
        "SO_ATTACH_REUSEPORT_CBPF" => Opt::AttachReuseport,
        "IP_PORTRANGE" => Opt::BsdPortRange(port_range(value)?),
        "IPV6_PORTRANGE" => Opt::BsdPortRange6(port_range(value)?),
        "IP_BINDANY" => Opt::BsdBindAny(on_off(value)?),
        "IPV6_BINDANY" => Opt::BsdBindAny6(on_off(value)?),
        "SO_SETFIB" => Opt::BsdSetFib(number(value, "routing table")?),
        _ => return Err(format!("the model has no option '{name}'")),
    })
}

fn port_range(word: &str) -> Result<PortRange, String> {
    match word {
        "default" => Ok(PortRange::Default),
        "high" => Ok(PortRange::High),
        "low" => Ok(PortRange::Low),
        _ => Err("a range of ports is default, high or low".to_owned()),
    }
}

fn port(word: &str) -> Result<u16, String> {
    if word == "auto" {
        Ok(0)
    } else {
        number(word, "port")
    }
}

fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                out.push(b'\\');
                rest = after;
            }
            [b'x', h, l, after @ ..] => {
                let digit = |d: &u8| char::from(*d).to_digit(16).ok_or("a byte is \\xNN");
                out.push((digit(h)? * 16 + digit(l)?) as u8);
                rest = after;
            }
            _ => return Err("after \\ comes \\ or xNN".to_owned()),
        }
    }
    Ok(out)
}

/// An address as the log writes it, or `hex:` and bytes.
///
/// # Errors
/// Says why it is none.
pub fn address(word: &str) -> Result<Vec<u8>, String> {
    if let Some(hex) = word.strip_prefix("hex:") {
        if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
            return Err("hex: takes pairs of digits".to_owned());
        }
        return (0..hex.len() / 2)
            .map(|i| {
                let pair = hex.get(2 * i..2 * i + 2).unwrap_or("");
                u8::from_str_radix(pair, 16).map_err(|_| format!("'{pair}' is not a byte"))
            })
            .collect();
    }
    let wrong = || {
        format!(
            "'{word}' is not an address (examples: 127.0.0.1:80, [::1]:80, unix:/path, vsock:any:5000)"
        )
    };
    let vsock_number = |w: &str, any: &str| {
        if w == any {
            Ok(VMADDR_ANY)
        } else {
            number(w, "number")
        }
    };
    let addr = if let Some(name) = word.strip_prefix("unix:") {
        let name = match name {
            "auto" => Some(UnixName::AUTO),
            _ => match name.strip_prefix('@') {
                Some(name) => UnixName::abstract_(&bytes_of(name)?),
                None => UnixName::path(&bytes_of(name)?),
            },
        };
        Addr::Unix(name.ok_or_else(wrong)?)
    } else if let Some(rest) = word.strip_prefix("vsock:") {
        let (cid, port) = rest.split_once(':').ok_or_else(wrong)?;
        Addr::Vsock {
            cid: vsock_number(cid, "any")?,
            port: vsock_number(port, "auto")?,
            flags: 0,
        }
    } else if let Some(rest) = word.strip_prefix("netlink:") {
        let (pid, groups) = rest.split_once(':').ok_or_else(wrong)?;
        let groups = groups.strip_prefix("0x").ok_or_else(wrong)?;
        Addr::Netlink {
            pid: number(pid, "port id")?,
            groups: u32::from_str_radix(groups, 16).map_err(|_| wrong())?,
        }
    } else if let Some(rest) = word.strip_prefix('[') {
        let (ip, after) = rest.split_once(']').ok_or_else(wrong)?;
        let (ip, scope) = ip.split_once('%').unwrap_or((ip, "0"));
        let ip: Ipv6Addr = ip.parse().map_err(|_| wrong())?;
        Addr::Inet6 {
            ip: ip.octets(),
            port: port(after.strip_prefix(':').ok_or_else(wrong)?)?,
            flow: 0,
            scope: number(scope, "scope id")?,
        }
    } else {
        let (ip, after) = word.rsplit_once(':').ok_or_else(wrong)?;
        let ip: Ipv4Addr = ip.parse().map_err(|_| wrong())?;
        Addr::Inet {
            ip: ip.octets(),
            port: port(after)?,
        }
    };
    Ok(addr.write().bytes().to_vec())
}

/// What a `host` line of the policy language says, on a [`Host`].
///
/// # Errors
///
/// The host has no room for so many addresses.
pub fn apply(host: &mut Host, setting: &HostSetting) -> Result<(), String> {
    match setting {
        HostSetting::Cid(cid) => host.vsock.cid = Some(*cid),
        HostSetting::Addresses(list) => {
            if !host.has_device(2) {
                host.add_device(2, b"eth0", false);
            }
            for (ip, prefix) in list {
                let (fits, route) = match ip {
                    IpAddr::V4(v4) => {
                        let a = V4 {
                            addr: u32::from(*v4),
                            prefix: *prefix,
                            dev: 2,
                        };
                        (host.v4.push(a), Route::connected(&a))
                    }
                    IpAddr::V6(v6) => {
                        let a = V6 {
                            addr: v6.octets(),
                            dev: 2,
                            tentative: false,
                        };
                        (host.v6.push(a), Route::connected6(&a, *prefix))
                    }
                };
                // What has no room is not known.
                host.has_routes &= host.routes.push(route);
                if !fits {
                    return Err("a host has at most 32 addresses of each family".to_owned());
                }
            }
        }
        HostSetting::Personality(Personality::Linux) => {
            if host.generation.is_freebsd() {
                host.generation = Generation::Linux6_18;
            }
        }
        HostSetting::Personality(Personality::FreeBsd) => {
            if !host.generation.is_freebsd() {
                host.generation = Generation::FreeBsd14_3;
            }
        }
        HostSetting::Privileged(_) => {}
        HostSetting::UnprivilegedStart(n) => host.sysctl.unprivileged_start = *n,
        HostSetting::AutomaticPorts(lo, hi) => host.sysctl.local_port_range = (*lo, *hi),
    }
    Ok(())
}

/// Sets a sysctl by its name.
fn sysctl(host: &mut Host, name: &str, value: &str) -> Result<(), String> {
    let s = &mut host.sysctl;
    let flag = || on_off(value);
    let pair = || {
        let (a, b) = value
            .split_once(' ')
            .ok_or_else(|| format!("expected two numbers, not '{value}'"))?;
        Ok::<_, String>((a.to_owned(), b.to_owned()))
    };
    match name {
        "net.ipv4.ip_local_port_range" => {
            let (a, b) = pair()?;
            let range = (number(&a, "port")?, number(&b, "port")?);
            if range.0 == 0 || range.0 > range.1 {
                return Err("the range is upside down".to_owned());
            }
            s.local_port_range = range;
        }
        "net.ipv4.ip_local_reserved_ports" => {
            s.reserved_ports.clear();
            for part in value.split(',').filter(|p| !p.is_empty()) {
                let (a, b) = part.split_once('-').unwrap_or((part, part));
                if !s
                    .reserved_ports
                    .push((number(a, "port")?, number(b, "port")?))
                {
                    return Err("at most 32 ranges are kept".to_owned());
                }
            }
        }
        "net.ipv4.ip_unprivileged_port_start" => s.unprivileged_start = number(value, "port")?,
        "net.ipv4.ip_nonlocal_bind" => s.nonlocal_bind = flag()?,
        "net.ipv6.ip_nonlocal_bind" => s.nonlocal_bind6 = flag()?,
        "net.ipv4.ip_autobind_reuse" => s.autobind_reuse = flag()?,
        "net.ipv6.bindv6only" => s.bindv6only = flag()?,
        "net.ipv4.ping_group_range" => {
            let (a, b) = pair()?;
            s.ping_groups = (number(&a, "group")?, number(&b, "group")?);
        }
        "net.fibs" => s.fibs = number(value, "number of routing tables")?,
        _ => return Err(format!("the model does not know sysctl '{name}'")),
    }
    Ok(())
}
