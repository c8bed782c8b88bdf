//! A policy as a value.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::{Mode, Op, Uses};
use crate::model::Generation;
use crate::model::script::Busy;
use crate::socket::KindSet;

/// Where something stands in the text. Any two are equal: a policy is what
/// it says, not where it says it.
#[derive(Clone, Copy, Debug, Default)]
pub struct At {
    /// Index into [`Policy::sources`].
    pub source: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column of the first character, from 1.
    pub column: u32,
    /// How many characters it takes.
    pub width: u32,
}

impl PartialEq for At {
    fn eq(&self, _: &At) -> bool {
        true
    }
}
impl Eq for At {}

/// A source as it was read, for error messages.
#[derive(Clone, Debug, Default)]
pub struct SourceText {
    /// File name, `-r #1`, `BINDGATE_RULES`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// A whole policy: what all its sources say, in order.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The rules; the first match wins.
    pub rules: Vec<Rule>,
    /// The `mode` line.
    pub mode: Option<Mode>,
    /// The `default` lines.
    pub defaults: Defaults,
    /// The `host` lines.
    pub host: Vec<HostLine>,
    /// The `expect` and `forbid` lines, which only a check looks at.
    pub expectations: Vec<Expectation>,
    /// The texts that were parsed, for messages about them.
    pub sources: Vec<SourceText>,
}

impl PartialEq for Policy {
    fn eq(&self, o: &Policy) -> bool {
        self.rules == o.rules
            && self.mode == o.mode
            && self.defaults == o.defaults
            && self.host == o.host
            && self.expectations == o.expectations
    }
}
impl Eq for Policy {}

impl Policy {
    /// Returns whether any rule or default refuses or changes something.
    #[must_use]
    pub fn acts(&self) -> bool {
        let acts = |a: &Action| matches!(a, Action::Deny(_) | Action::Move(_) | Action::Hide);
        let refuses = |op| matches!(self.defaults.get(op), Some(d) if d.deny.is_some());
        self.rules.iter().any(|r| acts(&r.action)) || Op::ALL.into_iter().any(refuses)
    }

    /// Appends the policy of a run inside this run, which can only
    /// tighten. Where this policy's default refuses, nothing that the inner
    /// one allows, moves or hides is reached; where it does not, the inner
    /// default holds. What was enforced stays enforced.
    pub fn nest(&mut self, inner: Policy) {
        let mode = match self.mode {
            None if self.acts() => Some(Mode::Enforce),
            mode => mode.or(inner.mode),
        };
        let base = self.sources.len() as u32;
        let moved = |mut at: At| {
            at.source = at.source.saturating_add(base);
            at
        };
        self.sources.extend(inner.sources);
        // What cannot be intercepted is refused by a policy that acts, unless
        // its default says otherwise.
        let acts = match self.mode {
            Some(mode) => mode == Mode::Enforce,
            None => self.acts(),
        };
        let refuses: Vec<bool> = Op::ALL
            .iter()
            .map(|&op| match self.defaults.get(op) {
                Some(d) => d.deny.is_some(),
                None => op == Op::Exec && acts,
            })
            .collect();
        for mut rule in inner.rules {
            rule.at = moved(rule.at);
            rule.user_at = moved(rule.user_at);
            rule.target_at = moved(rule.target_at);
            let tightens = matches!(rule.action, Action::Deny(_) | Action::Note);
            if tightens || !refuses.get(rule.op.index()).copied().unwrap_or(false) {
                self.rules.push(rule);
            }
        }
        for op in Op::ALL {
            let loosens = |line: &DefaultLine| {
                line.deny.is_none() && refuses.get(op.index()).copied().unwrap_or(false)
            };
            if let (None | Some(DefaultLine { deny: None, .. }), Some(mut line)) =
                (self.defaults.get(op), inner.defaults.get(op).cloned())
                && !loosens(&line)
            {
                line.at = moved(line.at);
                self.defaults.set(op, line);
            }
        }
        self.expectations
            .extend(inner.expectations.into_iter().map(|mut e| {
                e.at = moved(e.at);
                e
            }));
        self.host.extend(inner.host.into_iter().map(|mut h| {
            h.at = moved(h.at);
            h
        }));
        self.mode = mode;
    }
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The action of the rule.
    pub action: Action,
    /// When it is asked.
    pub op: Op,
    /// Which sockets it is about.
    pub kinds: Kinds,
    /// Compare addresses literally.
    pub exactly: bool,
    /// Which addresses it is about.
    pub term: Term,
    /// Match binds that come from connect(2) or a send, too.
    pub implicit: bool,
    /// Which of its matches in a run it decides, if not all.
    pub uses: Option<Uses>,
    /// Only in these programs.
    pub program: Option<Program>,
    /// Only for this user.
    pub user: Option<User>,
    /// Where the rule begins.
    pub at: At,
    /// It matches only what the caller has no privilege for.
    pub unprivileged: bool,
    /// Clients in the run follow what it moves.
    pub followed: bool,
    /// Where its user stands.
    pub user_at: At,
    /// Where its target stands.
    pub target_at: At,
}

/// The action of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Let it happen.
    Allow,
    /// Refuse with this error number.
    Deny(u16),
    /// Put it elsewhere.
    Move(TargetSpec),
    /// Let the program think that it happened.
    Hide,
    /// Record it and go on with the next rule.
    Note,
}

/// What a check expects of a run, or forbids it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expectation {
    /// `forbid`, not `expect`.
    pub forbids: bool,
    /// What is to happen, or not to.
    pub what: Expected,
    /// `within`: milliseconds after the program's start.
    pub within_ms: Option<u32>,
    /// Only in these programs.
    pub program: Option<Program>,
    /// Where the line begins.
    pub at: At,
}

/// What an expectation is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    /// A call: expected to succeed, or forbidden even to be tried.
    Call(Op, Sockets),
    /// A bind with this one of [`crate::socket::BindOptions`].
    Option(u8, Sockets),
    /// One more bind after one that failed with this error number.
    Retry(Sockets, u16),
    /// Nothing listens there any more when the program has ended.
    NoListener(Sockets),
    /// How the program ends.
    Exit(Exit),
}

/// How a program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// With this status.
    Status(u8),
    /// By this signal.
    Signal(u8),
}

/// The sockets that a line is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sockets {
    /// Their kinds.
    pub kinds: Kinds,
    /// Compare addresses literally.
    pub exactly: bool,
    /// Their addresses.
    pub term: Term,
}

impl Sockets {
    /// The rule that is about them.
    #[must_use]
    pub fn rule(&self, action: Action, op: Op, program: Option<Program>, at: At) -> Rule {
        Rule {
            action,
            op,
            kinds: self.kinds,
            exactly: self.exactly,
            term: self.term.clone(),
            implicit: false,
            uses: None,
            program,
            user: None,
            at,
            unprivileged: false,
            followed: false,
            user_at: At::default(),
            target_at: At::default(),
        }
    }
}

/// Which sockets a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kinds {
    /// Every socket.
    Any,
    /// Those that answer to one of these names.
    Of(KindSet),
}

/// The addresses of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Term {
    /// `*`: every address of every family, also where there is none.
    Every,
    /// `10.0.0.0/8:80`; with an address `*` and kind `any` vsock as well.
    Ip {
        /// The addresses, any of them.
        addrs: Vec<IpSet>,
        /// The ports, any of them.
        ports: Vec<PortSet>,
    },
    /// `2:5000` for vsock.
    Vsock {
        /// The context ids, any of them.
        cids: Vec<CidSet>,
        /// The ports, any of them.
        ports: Vec<PortSet>,
    },
    /// A Unix name.
    Unix(UnixTerm),
    /// Of an `exec` rule: a glob over the files that are executed.
    File(String),
}

/// A set of IP addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpSet {
    /// `*`: every address and the wildcards.
    Any,
    /// `loopback`: 127.0.0.0/8 and ::1.
    Loopback,
    /// `0.0.0.0`: the IPv4 wildcard itself.
    Wild4,
    /// `[::]`: the IPv6 wildcard itself.
    Wild6,
    /// An IPv4 prefix; 32 bits for one address.
    V4([u8; 4], u8),
    /// An IPv6 prefix; 128 bits for one address.
    V6([u8; 16], u8),
}

/// A set of vsock context ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CidSet {
    /// `*`: every context id and the wildcard.
    Any,
    /// `cid-any`: the wildcard itself.
    Wild,
    /// One context id.
    Id(u32),
}

/// A set of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortSet {
    /// `*`: all of them, `auto` as well.
    Any,
    /// `auto`: the kernel chooses.
    Auto,
    /// `reserved`: from 1 to below the unprivileged start; 0–1023 for vsock.
    Reserved,
    /// From the first to the last, both included.
    Range(u32, u32),
}

/// A set of Unix names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UnixTerm {
    /// `auto`: the kernel chooses a name.
    Auto,
    /// A glob over paths.
    Path(String),
    /// A glob over abstract names, without the `@`.
    Abstract(String),
}

impl Rule {
    /// Does it let servers bind ports that it names, which `*` does not?
    #[must_use]
    pub fn names_ports(&self) -> bool {
        let Term::Ip { ports, .. } = &self.term else {
            return false;
        };
        self.op == Op::Bind
            && self.action == Action::Allow
            && ports.iter().all(|port| *port != PortSet::Any)
    }

    /// Is one of those ports below this one?
    #[must_use]
    pub fn names_port_below(&self, start: u16) -> bool {
        let Term::Ip { ports, .. } = &self.term else {
            return false;
        };
        let is_below = |port: &PortSet| match port {
            PortSet::Any | PortSet::Auto => false,
            PortSet::Reserved => true,
            PortSet::Range(from, _) => *from < u32::from(start),
        };
        self.names_ports() && ports.iter().any(is_below)
    }
}

/// `for`: a glob over the executable or the script.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Program {
    /// The executable.
    Executable(String),
    /// The script that `#!` starts.
    Script(String),
}

/// `user`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum User {
    /// By number.
    Id(u32),
    /// By name, resolved when the policy is compiled.
    Name(String),
}

/// The target of a `move`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetSpec {
    /// An address with a port.
    Port {
        /// The address.
        host: TargetHost,
        /// The port.
        port: TargetPort,
    },
    /// A Unix path made from a template.
    Path(String),
    /// An abstract Unix name made from a template, without the `@`.
    Abstract(String),
}

/// The address of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetHost {
    /// `*`: the address stays.
    Keep,
    /// 127.0.0.1 or ::1 by the socket's family, context id 1 for vsock.
    Loopback,
    /// An IPv4 address, mapped for an IPv6 socket.
    V4([u8; 4]),
    /// An IPv6 address.
    V6([u8; 16]),
    /// A vsock context id.
    Cid(u32),
}

/// The port of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetPort {
    /// `*`: the port stays.
    Keep,
    /// `auto`: the kernel chooses.
    Auto,
    /// This one.
    Number(u32),
    /// That many above or below; an automatic port stays automatic.
    Offset(i64),
}

/// What happens where no rule matches, by operation. An operation without a
/// line is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Defaults([Option<DefaultLine>; Op::ALL.len()]);

impl Defaults {
    /// The line for `op`, if there is one.
    #[must_use]
    pub fn get(&self, op: Op) -> Option<&DefaultLine> {
        self.0.get(op.index())?.as_ref()
    }

    /// Removes the line for `op`.
    pub fn clear(&mut self, op: Op) {
        if let Some(slot) = self.0.get_mut(op.index()) {
            *slot = None;
        }
    }

    /// Sets the line for `op`.
    pub fn set(&mut self, op: Op, line: DefaultLine) {
        if let Some(slot) = self.0.get_mut(op.index()) {
            *slot = Some(line);
        }
    }
}

/// One `default` line, for one operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DefaultLine {
    /// The error number to refuse with; `None` allows.
    pub deny: Option<u16>,
    /// The line names the operation; without `for` it is about bind and listen.
    pub named: bool,
    /// Where it stands.
    pub at: At,
}

/// One `host` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostLine {
    /// The setting.
    pub setting: HostSetting,
    /// Where it stands.
    pub at: At,
}

/// What a `host` line says about the virtual host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostSetting {
    /// `host cid N`: its vsock context id.
    Cid(u32),
    /// `host fabric /run/fabric`: the directory where hosts meet.
    Fabric(String),
    /// `host vsock-uds /run/vm.sock`: where a virtual machine monitor speaks for
    /// the other side.
    VsockUds(String),
    /// `host vsock-guest N`: the context id that this other side is told to have.
    VsockGuest(u32),
    /// `host vsock-port 5000=/run/port.sock`: a port of the other side, or for it.
    VsockPort(u32, String),
    /// `host share tcp 127.0.0.1:5432`: a service of the machine that an isolated
    /// run reaches.
    Share(Service),
    /// `host lease N`: how many ports automatic binds get first, which stay the
    /// run's.
    Lease(u16),
    /// `host address ADDR/LEN …`: its IP addresses, each with the length of
    /// its network's prefix.
    Addresses(Vec<(IpAddr, u8)>),
    /// `host personality linux|freebsd`: whose rules its bind follows.
    Personality(Personality),
    /// `host unprivileged` or `host privileged`: may it bind reserved ports?
    Privileged(bool),
    /// `host unprivileged-start N`: the first port that is not reserved.
    UnprivilegedStart(u16),
    /// `host automatic-ports A-B`: where automatic ports come from.
    AutomaticPorts(u16, u16),
    /// `host kernel NAME`: the system and its release.
    Kernel(Generation),
    /// `host device NAME ADDR/LEN …`: a device with addresses.
    Device(String, Vec<(IpAddr, u8)>),
    /// `host no-ipv6`: its kernel was built without IPv6.
    NoIpv6,
    /// `host busy KIND ADDRESS …`: somebody else holds this address.
    Busy(Busy),
    /// `host sysctl NAME = VALUE`
    Sysctl(String, String),
}

/// A service of the machine, by its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Service {
    /// UDP, not TCP.
    pub is_udp: bool,
    /// Its IP address, which is not the wildcard. An IPv4-mapped one is written as IPv4.
    pub ip: IpAddr,
    /// Its port, which is not 0.
    pub port: u16,
}

/// Whose rules a virtual host follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Personality {
    /// Linux
    Linux,
    /// FreeBSD
    FreeBsd,
}
