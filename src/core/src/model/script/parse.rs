//! Scripts from text.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::print::KINDS;
use super::{
    Call, Caps, Change, Directory, Expect, FileLine, Line, MOST_SPACES, Process, Script, Setting,
};
use crate::addr::{Addr, UnixName, VMADDR_ANY};
use crate::model::freebsd::PortRange;
use crate::model::{DeviceName, Errno, Generation, GetOpt, Host, Jail, Opt};
use crate::policy::{self, HostSetting};

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

/// What the file's lines are read into.
struct Reader {
    script: Script,
    /// The hosts as they are by the line at hand: the first network
    /// namespace's, then the others'.
    now: Vec<Host>,
    processes: BTreeMap<String, usize>,
    vars: BTreeMap<String, usize>,
    /// A call has been read: hosts change from here on.
    begun: bool,
    at: u32,
}

/// Reads a script that plays on `host`, unless it says otherwise.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str, host: Host) -> Result<Script, ScriptError> {
    let mut r = Reader {
        script: Script::new(host),
        now: alloc::vec![host],
        processes: BTreeMap::new(),
        vars: BTreeMap::new(),
        begun: false,
        at: 0,
    };
    r.new_process(Process::new("root", 0));
    for (n, line) in (1u32..).zip(text.lines()) {
        r.at = n;
        r.line(line)
            .map_err(|message| ScriptError { line: n, message })?;
    }
    r.begin();
    Ok(r.script)
}

pub(super) fn number<T: core::str::FromStr>(word: &str, what: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("'{word}' is not a valid {what}"))
}

pub(super) fn on_off(word: &str) -> Result<bool, String> {
    match word {
        "on" | "1" => Ok(true),
        "off" | "0" => Ok(false),
        _ => Err(format!("'{word}' is neither on nor off")),
    }
}

/// Words that begin a line that is not a call.
const DECLARATIONS: [&str; 7] = [
    "host",
    "sysctl",
    "jail",
    "process",
    "netns",
    "file",
    "directory",
];

/// What may be the name of a process, a variable and so on.
fn name(word: &str) -> Result<&str, String> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if word.is_empty() || !word.chars().all(fits) {
        return Err(format!(
            "'{word}' is not a name: names have letters, digits, '_', '-' and '.'"
        ));
    }
    Ok(word)
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = without_comment(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.iter().position(|word| *word == "expect");
        let (words, expect) = match place.map(|place| words.split_at(place)) {
            None => (words.as_slice(), None),
            Some((call, after)) => {
                let declares = |word| DECLARATIONS.contains(word);
                if call.first().is_none_or(declares) {
                    return Err("'expect' must follow a call".to_owned());
                }
                (call, Some(after))
            }
        };
        match words {
            [] => Ok(()),
            ["netns", name] => self.new_space(name),
            ["netns", name, words @ ..] => {
                let space = self.space(name)?;
                match words {
                    ["host" | "sysctl", ..] => self.declaration(words, space),
                    _ => Err("after netns NAME comes host or sysctl".to_owned()),
                }
            }
            [first, ..] if DECLARATIONS.contains(first) => self.declaration(words, 0),
            [first, rest @ ..] => {
                // `p: bind s …`, and `p:s = …`
                let (process, after) = match first.split_once(':') {
                    None => (self.process("root")?, None),
                    Some((name, after)) => (self.process(name)?, Some(after)),
                };
                match after {
                    None => self.call(process, words, expect),
                    Some("") => self.call(process, rest, expect),
                    Some(word) => {
                        let mut words = alloc::vec![word];
                        words.extend(rest);
                        self.call(process, &words, expect)
                    }
                }
            }
        }
    }

    fn declaration(&mut self, words: &[&str], space: usize) -> Result<(), String> {
        let what = match words {
            ["host", "kernel", name @ ..] => {
                if space != 0 {
                    return Err("all network namespaces have the same kernel".to_owned());
                }
                self.kernel(&name.join(" "))?
            }
            ["host", "device", name, addresses @ ..] => device(name, addresses)?,
            ["host", "lo", "up"] => Setting::Lo(true),
            ["host", "lo", "down"] => Setting::Lo(false),
            ["host", "lo", "never-up"] if self.begun => {
                return Err(
                    "lo is up by now: 'host lo never-up' comes before the first call; \
                            later it is 'host lo down'"
                        .to_owned(),
                );
            }
            ["host", "lo", "never-up"] => Setting::LoNeverUp,
            ["host", "lo", ..] => return Err("host lo is up, down or never-up".to_owned()),
            ["host", ..] => self.host(&words.join(" "), space)?,
            ["sysctl", name, rest @ ..] => {
                let rest = rest.strip_prefix(&["="]).unwrap_or(rest);
                Setting::Sysctl((*name).to_owned(), rest.join(" "))
            }
            ["jail", name, addresses @ ..] => {
                self.new_jail(name, addresses)?;
                Setting::Declared
            }
            ["process", name, "uid", uid, rest @ ..] => {
                let process = self.described(name, uid, rest)?;
                self.new_process(process);
                Setting::Declared
            }
            ["file", path] => Setting::File(FileLine::File(path_bytes(path)?)),
            ["file", path, "removed"] => Setting::File(FileLine::Removed(path_bytes(path)?)),
            ["directory", path, rest @ ..] => {
                let is = directory(rest)?;
                Setting::File(FileLine::Directory(path_bytes(path)?, is))
            }
            _ => {
                return Err(match words.first() {
                    Some(&"sysctl") => "expected: sysctl NAME = VALUE",
                    Some(&"jail") => "expected: jail NAME ADDRESS...",
                    Some(&"process") => "expected: process NAME uid N",
                    Some(&"file") => "expected: file PATH, or file PATH removed",
                    _ => "expected: directory PATH [absent] [read-only] [uid N] [mode MODE]",
                }
                .to_owned());
            }
        };
        self.change(words, what, space)
    }

    /// Enters a line that is not a call, and has it count.
    fn change(&mut self, words: &[&str], what: Setting, space: usize) -> Result<(), String> {
        let mut text = words.join(" ");
        if let Some((name, _)) = space.checked_sub(1).and_then(|n| self.script.spaces.get(n)) {
            text = format!("netns {name} {text}");
        }
        let change = Change {
            text,
            what,
            space,
            at: self.at,
        };
        if let Some(host) = self.now.get_mut(space) {
            change.apply(host)?;
        }
        if let Setting::Kernel(_) | Setting::Host(_) = change.what {
            // The kernel is the same everywhere.
            let generation = self.now.first().map(|h| h.generation);
            for host in &mut self.now {
                host.generation = generation.unwrap_or(host.generation);
            }
        }
        self.script.changes.push(change);
        Ok(())
    }

    /// The first call: what was said until now is how hosts begin.
    fn begin(&mut self) {
        if self.begun {
            return;
        }
        self.begun = true;
        let mut hosts = self.now.iter();
        self.script.host = *hosts.next().unwrap_or(&self.script.host);
        for ((_, space), host) in self.script.spaces.iter_mut().zip(hosts) {
            *space = *host;
        }
    }

    fn kernel(&mut self, name: &str) -> Result<Setting, String> {
        let Some(generation) = Generation::of_name(name) else {
            let all = Generation::ALL.map(|(name, _)| name).join(", ");
            return Err(format!(
                "unknown kernel '{name}'; known are: {all}, and any other release of Linux"
            ));
        };
        if self.begun {
            return Err("the kernel is named before the first call".to_owned());
        }
        Ok(Setting::Kernel(generation))
    }

    fn host(&mut self, text: &str, space: usize) -> Result<Setting, String> {
        let source = policy::Source {
            name: "script",
            text,
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
        let settings: Vec<_> = parsed.host.into_iter().map(|line| line.setting).collect();
        for setting in &settings {
            match setting {
                HostSetting::Privileged(_) | HostSetting::Personality(_) if space != 0 => {
                    return Err("this is of the whole host, not of a network namespace".to_owned());
                }
                HostSetting::Privileged(yes) => {
                    self.new_process(Process::new("root", if *yes { 0 } else { 1000 }));
                }
                HostSetting::Busy(busy) => {
                    return Err(format!(
                        "this is of a policy: a script says 's = socket' and 'bind s {busy}'"
                    ));
                }
                HostSetting::Personality(_) if self.begun => {
                    return Err("the personality is named before the first call".to_owned());
                }
                _ => {}
            }
        }
        Ok(Setting::Host(settings))
    }

    /// The number of a jail, from 1.
    fn jail(&self, name: &str) -> Result<u32, String> {
        let place = self.script.jails.iter().position(|j| j == name);
        place
            .map(|p| p as u32 + 1)
            .ok_or_else(|| format!("there is no jail '{name}'; declare it: jail {name} ADDRESS..."))
    }

    fn new_jail(&mut self, word: &str, addresses: &[&str]) -> Result<(), String> {
        if self.jail(name(word)?).is_ok() {
            return Err(format!("there is a jail '{word}' already"));
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
        let host = &mut self.script.host;
        let mut all = [Some(host), self.now.first_mut()];
        if !all.iter_mut().flatten().all(|host| host.jails.push(jail)) {
            return Err("there are at most 8 jails".to_owned());
        }
        self.script.jails.push(word.to_owned());
        Ok(())
    }

    /// The number of a network namespace, from 1.
    fn space(&self, name: &str) -> Result<usize, String> {
        let place = self.script.spaces.iter().position(|(n, _)| n == name);
        place.map(|p| p + 1).ok_or_else(|| {
            format!("there is no network namespace '{name}'; declare it: netns {name}")
        })
    }

    fn new_space(&mut self, word: &str) -> Result<(), String> {
        if self.space(name(word)?).is_ok() {
            return Err(format!("there is a network namespace '{word}' already"));
        }
        if self.script.spaces.len() == MOST_SPACES {
            return Err(format!(
                "there are at most {MOST_SPACES} network namespaces besides the first"
            ));
        }
        let of = self.now.first().copied().unwrap_or(self.script.host);
        let host = Host {
            vsock: of.vsock,
            netlink: of.netlink,
            ..Host::loopback(of.generation)
        };
        self.script.spaces.push((word.to_owned(), host));
        self.now.push(host);
        self.change(&["netns", word], Setting::Declared, 0)
    }

    /// A process as a line describes it.
    fn described(&self, word: &str, uid: &str, rest: &[&str]) -> Result<Process, String> {
        let mut process = Process::new(name(word)?, number(uid, "user id")?);
        let mut rest = rest;
        loop {
            rest = match rest {
                [] => return Ok(process),
                ["capability-mode", rest @ ..] => {
                    process.capability_mode = true;
                    rest
                }
                ["with", list, rest @ ..] => {
                    process.caps = capabilities(list)?;
                    rest
                }
                ["jail", jail, rest @ ..] => {
                    process.jail = self.jail(jail)?;
                    rest
                }
                ["netns", space, rest @ ..] => {
                    process.space = self.space(space)?;
                    rest
                }
                _ => {
                    return Err(
                        "after the user id come: with CAPABILITIES, jail NAME, netns NAME, \
                         capability-mode"
                            .to_owned(),
                    );
                }
            };
        }
    }

    fn new_process(&mut self, process: Process) {
        let place = self.script.processes.len();
        self.processes.insert(process.name.clone(), place);
        self.script.processes.push(process);
    }

    fn process(&self, name: &str) -> Result<usize, String> {
        self.processes.get(name).copied().ok_or_else(|| {
            format!("there is no process '{name}'; declare it: process {name} uid N")
        })
    }

    /// A variable that has been given a socket.
    fn known(&self, name: &str) -> Result<usize, String> {
        self.vars
            .get(name)
            .copied()
            .ok_or_else(|| match name.split_once(':') {
                Some((process, var)) => format!(
                    "there is no socket '{name}'; a process stands before its call: \
                     {process}: bind {var} …"
                ),
                None => format!("there is no socket '{name}'; make it: {name} = socket tcp"),
            })
    }

    fn new_var(&mut self, word: &str) -> Result<usize, String> {
        if let Some(var) = self.vars.get(word) {
            return Ok(*var);
        }
        let var = self.script.vars.len();
        self.vars.insert(name(word)?.to_owned(), var);
        self.script.vars.push(word.to_owned());
        Ok(var)
    }

    /// An address, and the variable whose port it has.
    fn address(&self, word: &str) -> Result<(Vec<u8>, Option<usize>), String> {
        let netlink = word.strip_prefix("netlink:$");
        let of_port = match netlink.and_then(|rest| rest.split_once(':')) {
            Some((var, groups)) => Some((format!("netlink:0:{groups}"), var)),
            None => word
                .rsplit_once(":$")
                .filter(|_| !word.starts_with("unix:"))
                .map(|(front, var)| (format!("{front}:0"), var)),
        };
        match of_port {
            None => Ok((address(word)?, None)),
            Some((zero, var)) => {
                let var = self.known(var)?;
                address(&zero).map(|bytes| (bytes, Some(var)))
            }
        }
    }

    fn call(
        &mut self,
        process: usize,
        words: &[&str],
        expect: Option<&[&str]>,
    ) -> Result<(), String> {
        self.begin();
        let mut port_of = None;
        let (var, call) = match words {
            [name, "=", "socket", rest @ ..] => {
                let call = socket(rest)?;
                (self.new_var(name)?, call)
            }
            [name, "=", "file"] => (self.new_var(name)?, Call::File),
            [name, "=", "accept", from] => {
                let from = self.known(from)?;
                (self.new_var(name)?, Call::Accept { from })
            }
            [name, "=", "dup", of] => {
                let of = self.known(of)?;
                (self.new_var(name)?, Call::Dup { of })
            }
            ["set", name, rest @ ..] => {
                let var = self.known(name)?;
                (var, Call::Set(option(rest)?))
            }
            ["getsockopt", name, option] => {
                let option = GetOpt::from_name(option).ok_or_else(|| {
                    let all = GetOpt::ALL.map(|(name, _)| name).join(", ");
                    format!("getsockopt has no option '{option}'; it has: {all}")
                })?;
                (self.known(name)?, Call::Get(option))
            }
            ["getsockname", name] => (self.known(name)?, Call::GetSockName),
            ["getpeername", name] => (self.known(name)?, Call::GetPeerName),
            ["bind", name, "nowhere", "len", len] => {
                let len = number(len, "length")?;
                (self.known(name)?, Call::BindNowhere { len })
            }
            ["bind", name, addr] => {
                let bytes;
                (bytes, port_of) = self.address(addr)?;
                (self.known(name)?, Call::Bind { bytes, len: None })
            }
            ["bind", name, addr, "len", len] => {
                let bytes;
                (bytes, port_of) = self.address(addr)?;
                let len = Some(number(len, "length")?);
                (self.known(name)?, Call::Bind { bytes, len })
            }
            ["listen", name] => (self.known(name)?, Call::Listen),
            ["connect", name, addr] => {
                let bytes;
                (bytes, port_of) = self.address(addr)?;
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
                     connect, NAME = accept NAME, shutdown, NAME = dup NAME, getsockopt, \
                     getsockname, getpeername, close"
                        .to_owned(),
                );
            }
        };
        let expect = expect.map(|words| expectation(words, &call)).transpose()?;
        self.script.lines.push(Line {
            expect,
            at: self.at,
            after: self.script.changes.len(),
            port_of,
            ..Line::new(process, var, call)
        });
        Ok(())
    }
}

/// `host device NAME ADDRESS/LEN…`
fn device(word: &str, addresses: &[&str]) -> Result<Setting, String> {
    if name(word)?.len() > 15 {
        return Err(format!(
            "'{word}' is too long: the name of a device has at most 15 bytes"
        ));
    }
    let mut all = Vec::new();
    for word in addresses {
        let wrong = || format!("'{word}' is not ADDRESS/LENGTH, as 10.1.0.1/24 or [fd00::1/64]");
        let bare = word.trim_start_matches('[').trim_end_matches(']');
        let (ip, prefix) = bare.split_once('/').ok_or_else(wrong)?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > if ip.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        all.push((ip, prefix));
    }
    Ok(Setting::Device(word.to_owned(), all))
}

/// `[absent] [read-only] [uid N] [mode MODE]`
fn directory(words: &[&str]) -> Result<Directory, String> {
    let mut is = Directory::OPEN;
    let mut rest = words;
    loop {
        rest = match rest {
            [] => return Ok(is),
            ["absent", rest @ ..] => {
                is.absent = true;
                rest
            }
            ["read-only", rest @ ..] => {
                is.read_only = true;
                rest
            }
            ["uid", uid, rest @ ..] => {
                is.uid = number(uid, "user id")?;
                rest
            }
            ["mode", mode, rest @ ..] => {
                is.mode = u16::from_str_radix(mode, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| format!("'{mode}' is not a mode, as 0755"))?;
                rest
            }
            _ => {
                return Err("after the path come: absent, read-only, uid N, mode MODE".to_owned());
            }
        };
    }
}

/// A path of the file system, with `unix:` or without.
fn path_bytes(word: &str) -> Result<Vec<u8>, String> {
    let path = bytes_of(word.strip_prefix("unix:").unwrap_or(word))?;
    if path.is_empty() || path.starts_with(b"@") || path.contains(&0) {
        return Err(format!("'{word}' is not a path"));
    }
    Ok(path)
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
fn expectation(words: &[&str], call: &Call) -> Result<Expect, String> {
    let [_, text] = words else {
        return Err("expect takes ok, the name of an error, or an address".to_owned());
    };
    if let (Call::Get(option), Some(value)) = (call, value(text)) {
        return Ok(Expect::Value(*option, value));
    }
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

/// The value of an option: a number, on, off, or a range.
fn value(text: &str) -> Option<u32> {
    if let Some((low, high)) = text.split_once('-') {
        let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
        return Some(u32::from(low) | u32::from(high) << 16);
    }
    match on_off(text) {
        Ok(on) => Some(on.into()),
        Err(_) => text.parse().ok(),
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
        "SO_BINDTODEVICE" if value.len() > 15 => {
            return Err(format!("'{value}' is too long for the name of a device"));
        }
        "SO_BINDTODEVICE" => Opt::BindToDevice(DeviceName::new(value)),
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
