//! A policy into words.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::ast::{
    Action, HostSetting, Policy, PortSet, Program, Rule, TargetHost, TargetPort, TargetSpec, Term,
    UnixTerm, User,
};
use super::cells::Cells;
use super::diag::{Diagnostic, Severity};
use super::footprint::{footprint, kind_bits, protocol};
use super::layout::{MAGIC, VERSION, condition_flag, flag, header, rule_flag, section, verb};
use super::target::{FOLLOWED, host, port};
use super::{Mode, Op, glob, print, warn};
use crate::addr::VMADDR_ANY;
use crate::judge::vsock::{CID_HOST, GUEST};
use crate::socket::KindSet;

/// Rules with `times` in a policy, at most.
pub const MAX_COUNTERS: u32 = 1024;
/// Addresses times ports of all rules, at most.
const MAX_PLACES: usize = 4_000_000;

/// Looks up what the core cannot know.
pub trait Resolver {
    /// The number of a user.
    fn uid(&self, name: &str) -> Option<u32>;
}

/// A policy as plain words without pointers: what [`super::View`] reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    /// The words.
    pub words: Vec<u64>,
}

/// Makes the words of a compiled policy those of the vsock host that the run with
/// this id is: a run inside it is on the same host. `mode` is that of its files in
/// the fabric.
pub fn set_vsock_run(words: &mut [u64], run: u64, mode: u32) {
    if let Some(word) = words.get_mut(header::VSOCK_RUN) {
        *word = run;
    }
    if let Some(word) = words.get_mut(header::VSOCK_CID) {
        *word = *word & u64::from(u32::MAX) | u64::from(mode) << 32;
    }
}

/// Makes the words of a compiled policy those of a run whose host the kernel rules
/// alone: it has been given what the lines about the host describe.
pub fn set_ruled_by_kernel(words: &mut [u64]) {
    if let Some(word) = words.get_mut(header::FLAGS) {
        *word &= !flag::RULED;
    }
}

/// Makes the ports that the run with these words leases `count` from `first` on.
pub fn set_lease(words: &mut [u64], count: u16, first: u16) {
    if let Some(word) = words.get_mut(header::LEASE) {
        *word = u64::from(count) | u64::from(first) << 16;
    }
}

/// Compiles a policy, and says what in it is probably not meant.
///
/// # Errors
/// Everything in it that cannot be carried out: unknown users, offsets that
/// leave the ports, names that would be too long, virtual hosts, too much of
/// something.
pub fn compile(
    p: &Policy,
    resolver: &dyn Resolver,
) -> Result<(Compiled, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut c = Compiler {
        policy: p,
        errors: Vec::new(),
        out: Sections::default(),
        conditions: BTreeMap::new(),
        counters: 0,
        flags: 0,
        cells: Cells::default(),
    };
    c.check_vsock();
    if p.host.iter().any(|h| h.setting.is_described()) {
        c.flags |= flag::RULED;
    }
    for rule in &p.rules {
        c.check(rule, resolver);
    }
    if c.errors.is_empty() {
        for (i, rule) in p.rules.iter().enumerate() {
            c.place(i as u32, rule);
            if c.cells.places() > MAX_PLACES {
                let d = c.diagnostic(
                    rule.at,
                    "too many combinations of addresses and ports".into(),
                );
                c.errors.push(d);
                break;
            }
        }
    }
    if c.errors.is_empty() {
        let (compiled, reached) = c.finish();
        Ok((compiled, warn::warnings(p, &reached)))
    } else {
        c.errors
            .sort_by_key(|d| (d.source_name.clone(), d.line, d.column));
        Err(c.errors)
    }
}

/// The sections as they grow.
#[derive(Default)]
pub(super) struct Sections {
    pub words: [Vec<u64>; section::COUNT],
    bytes: Vec<u8>,
    known: BTreeMap<Vec<u8>, u64>,
}

impl Sections {
    pub fn of(&mut self, which: usize) -> &mut Vec<u64> {
        // `which` is always one of the constants in `section`.
        &mut self.words[which]
    }

    /// The place of a string: offset << 32 | length.
    fn string(&mut self, s: &[u8]) -> u64 {
        if let Some(&place) = self.known.get(s) {
            return place;
        }
        let place = (self.bytes.len() as u64) << 32 | s.len() as u64;
        self.bytes.extend_from_slice(s);
        self.known.insert(s.to_vec(), place);
        place
    }

    fn text(&mut self, s: &[u8]) -> u64 {
        let place = (self.bytes.len() as u64) << 32 | s.len() as u64;
        self.bytes.extend_from_slice(s);
        place
    }
}

struct Compiler<'p> {
    policy: &'p Policy,
    errors: Vec<Diagnostic>,
    out: Sections,
    conditions: BTreeMap<Program, u32>,
    counters: u32,
    flags: u64,
    cells: Cells,
}

impl Compiler<'_> {
    /// What the lines about a vsock host say of each other.
    fn check_vsock(&mut self) {
        let lines = &self.policy.host;
        let find = |is: fn(&HostSetting) -> bool| lines.iter().find(|h| is(&h.setting));
        let cid = find(|s| matches!(s, HostSetting::Cid(_)));
        let is_guest = cid.is_some_and(|h| h.setting != HostSetting::Cid(CID_HOST));
        let monitor = find(|s| matches!(s, HostSetting::VsockUds(_) | HostSetting::VsockPort(..)));
        let fabric = find(|s| matches!(s, HostSetting::Fabric(_)));
        let guest = find(|s| matches!(s, HostSetting::VsockGuest(_)));
        let line = "a line 'host vsock-uds PATH' beside it";
        let wrong = [
            (
                cid.filter(|_| !is_guest && monitor.is_none()),
                "context id 2 is the host's, which needs a virtual machine monitor",
                line,
            ),
            (
                guest.filter(|_| monitor.is_none()),
                "a guest needs a virtual machine monitor",
                line,
            ),
            (
                guest.filter(|_| is_guest),
                "the run is the guest: its context id is that of 'host cid'",
                "no such line",
            ),
            (
                fabric.filter(|_| cid.is_none() && monitor.is_none()),
                "a fabric needs a context id",
                "a line 'host cid N' beside it",
            ),
            (
                fabric.filter(|_| monitor.is_some()),
                "a virtual machine monitor takes the place of a fabric",
                "one of the two",
            ),
        ];
        for (at, message, expected) in wrong {
            if let Some(at) = at {
                let mut d = self.diagnostic(at.at, message.into());
                d.expected = Some(expected.into());
                self.errors.push(d);
            }
        }
    }

    fn diagnostic(&self, at: super::At, message: String) -> Diagnostic {
        Diagnostic::at(self.policy, at, Severity::Error, message)
    }

    fn error(&mut self, at: super::At, message: String) {
        let d = self.diagnostic(at, message);
        self.errors.push(d);
    }

    /// Checks a rule and writes its words.
    fn check(&mut self, rule: &Rule, resolver: &dyn Resolver) {
        let mut flags = 0u8;
        if rule.implicit {
            flags |= rule_flag::IMPLICIT;
            self.flags |= flag::IMPLICIT;
        }
        self.flags |= flag::HAS_RULES << rule.op.index();
        if !matches!(rule.action, Action::Allow | Action::Note) {
            self.flags |= flag::RESTRICTS << rule.op.index();
        }
        let exact = KindSet::TCP_ONLY | KindSet::MPTCP | KindSet::UDP_ONLY | KindSet::UDPLITE;
        if matches!(rule.kinds, super::ast::Kinds::Of(set) if set.intersects(exact) || set.protocol() != 0)
        {
            self.flags |= flag::TELLS_SIBLINGS << rule.op.index();
        }
        let raw = KindSet::INET | KindSet::RAW;
        if !matches!(rule.kinds, super::ast::Kinds::Of(set) if !set.intersects(raw) && set.protocol() == 0)
        {
            self.flags |= flag::NAMES_RAW << rule.op.index();
        }
        let uid = match &rule.user {
            None => 0,
            Some(user) => {
                flags |= rule_flag::USER;
                self.flags |= flag::NEEDS_USER << rule.op.index();
                match user {
                    User::Id(n) => *n,
                    User::Name(name) => resolver.uid(name).unwrap_or_else(|| {
                        self.error(rule.user_at, format!("there is no user '{name}'"));
                        0
                    }),
                }
            }
        };
        if rule.unprivileged {
            flags |= rule_flag::UNPRIVILEGED;
            self.flags |= flag::NEEDS_PRIVILEGE << rule.op.index();
        }
        let condition = self.condition(rule);
        let uses = match rule.uses {
            None => 0,
            Some(uses) => {
                flags |= rule_flag::TIMES;
                if self.counters == MAX_COUNTERS {
                    let message =
                        format!("more than {MAX_COUNTERS} rules with 'times', 'after' or 'every'");
                    self.error(rule.at, message);
                }
                self.counters += 1;
                uses.to_word(self.counters - 1)
            }
        };
        let mut pattern = 0;
        if let Term::Unix(UnixTerm::Path(s) | UnixTerm::Abstract(s)) = &rule.term {
            flags |= rule_flag::PATTERN;
            if rule.exactly || glob::is_literal(s.as_bytes()) {
                flags |= rule_flag::LITERAL;
            } else {
                self.check_glob(rule, s);
            }
            pattern = self.out.string(s.as_bytes());
        }
        if let Term::File(glob) = &rule.term {
            flags |= rule_flag::PATTERN;
            if !glob.contains('/') && glob != "**" {
                flags |= rule_flag::NAME_ONLY;
            }
            self.check_glob(rule, glob);
            pattern = self.out.string(glob.as_bytes());
        }
        let (verb, errno) = match &rule.action {
            Action::Allow => (verb::ALLOW, 0),
            Action::Deny(e) => (verb::DENY, *e),
            Action::Move(_) => (verb::MOVE, 0),
            Action::Hide => (verb::HIDE, 0),
            Action::Note => (verb::NOTE, 0),
        };
        let mut target = 0;
        if let Action::Move(spec) = &rule.action {
            self.check_target(rule, spec);
            let mut words = self.target(spec);
            if rule.followed {
                self.check_followed(rule, spec);
                words[0] |= FOLLOWED;
                self.flags |= flag::FOLLOWED;
            }
            let targets = self.out.of(section::TARGETS);
            target = targets.len() as u64;
            targets.extend(words);
        }
        let text = print::line(rule);
        let text = self.out.text(text.as_bytes());
        let kinds = kind_bits(rule.kinds) | u64::from(protocol(rule.kinds)) << 16;
        let words = [
            u64::from(verb) | u64::from(flags) << 8 | u64::from(errno) << 16 | kinds << 32,
            u64::from(uid) | u64::from(condition) << 32,
            uses,
            pattern,
            target | u64::from(rule.at.source) << 32,
            u64::from(rule.at.line),
            0,
            text,
        ];
        self.out.of(section::RULES).extend(words);
    }

    fn check_glob(&mut self, rule: &Rule, s: &str) {
        let wild = s.len() - glob::literal_prefix(s.as_bytes());
        if wild > glob::MAX_PATTERN {
            let message = format!(
                "a glob of {wild} bytes from its first wildcard on; at most {} are supported",
                glob::MAX_PATTERN
            );
            self.error(rule.at, message);
        }
    }

    /// The rule's condition + 1, or 0.
    fn condition(&mut self, rule: &Rule) -> u32 {
        let Some(program) = &rule.program else {
            return 0;
        };
        self.flags |= flag::NEEDS_PROGRAM << rule.op.index();
        if let Some(c) = self.conditions.get(program) {
            return c + 1;
        }
        let (Program::Executable(s) | Program::Script(s)) = program;
        self.check_glob(rule, s);
        let mut flags = 0;
        if matches!(program, Program::Script(_)) {
            flags |= condition_flag::SCRIPT;
        }
        if !s.contains('/') && s != "**" {
            flags |= condition_flag::NAME_ONLY;
        }
        let pattern = self.out.string(s.as_bytes());
        self.out.of(section::CONDITIONS).extend([flags, pattern]);
        let c = self.conditions.len() as u32;
        self.conditions.insert(program.clone(), c);
        c + 1
    }

    fn check_target(&mut self, rule: &Rule, spec: &TargetSpec) {
        let at = rule.target_at;
        match spec {
            TargetSpec::Path(t) | TargetSpec::Abstract(t) => {
                let longest = longest(t);
                // Either name space has room for 107 bytes and a NUL.
                if longest > 107 {
                    let message = format!("a Unix name of up to {longest} bytes; at most 107 fit");
                    self.error(at, message);
                }
                let fam = rule.kinds.families();
                let ports = matches!(rule.term, Term::Ip { .. } | Term::Vsock { .. });
                let named = t.replace("%%", "");
                if fam.unix && !ports && (named.contains("%p") || named.contains("%a")) {
                    let message = "a Unix name has neither a port for %p nor an address for %a";
                    self.error(at, message.into());
                }
            }
            TargetSpec::Port { port, .. } => {
                if rule.op == Op::Connect && *port == TargetPort::Auto {
                    self.error(at, "connect() needs a port, not 'auto'".into());
                }
                if let (Term::Unix(_), TargetPort::Keep | TargetPort::Offset(_)) =
                    (&rule.term, port)
                {
                    self.error(at, "a Unix name has no port to keep".into());
                }
                if let TargetPort::Offset(n) = port
                    && let Some((from, to)) = port_span(rule)
                {
                    let max = match rule.term {
                        Term::Vsock { .. } => i64::from(VMADDR_ANY) - 1,
                        _ => 65535,
                    };
                    let (low, high) = (i64::from(from) + n, i64::from(to) + n);
                    if low < 1 || high > max {
                        let message = match from == to {
                            true => format!("port {from} becomes {low}, outside 1-{max}"),
                            false => {
                                format!("ports {from}-{to} become {low}-{high}, outside 1-{max}")
                            }
                        };
                        let mut d = self.diagnostic(at, message);
                        d.expected = Some("another offset, or fewer ports in the rule".into());
                        self.errors.push(d);
                    }
                }
            }
        }
    }

    /// Clients follow to another IP address.
    fn check_followed(&mut self, rule: &Rule, spec: &TargetSpec) {
        let is_ip = match spec {
            TargetSpec::Port { host, .. } => !matches!(host, TargetHost::Cid(_)),
            _ => false,
        };
        if !is_ip || !matches!(rule.term, Term::Ip { .. } | Term::Every) {
            let message = "'followed' is about IP addresses that become other IP addresses";
            let mut d = self.diagnostic(rule.at, message.into());
            d.expected = Some("a 'move connect' rule, or an IP target".into());
            self.errors.push(d);
        }
    }

    fn target(&mut self, spec: &TargetSpec) -> [u64; 4] {
        match spec {
            TargetSpec::Path(t) => [host::PATH, 0, self.out.string(t.as_bytes()), 0],
            TargetSpec::Abstract(t) => [host::ABSTRACT, 0, self.out.string(t.as_bytes()), 0],
            TargetSpec::Port { host, port } => {
                let (h, hi, lo) = match host {
                    TargetHost::Keep => (host::KEEP, 0, 0),
                    TargetHost::Loopback => (host::LOOPBACK, 0, 0),
                    TargetHost::V4(a) => (host::V4, 0, u64::from(u32::from_be_bytes(*a))),
                    TargetHost::V6(a) => {
                        let a = u128::from_be_bytes(*a);
                        (host::V6, (a >> 64) as u64, a as u64)
                    }
                    TargetHost::Cid(n) => (host::CID, 0, u64::from(*n)),
                };
                let (p, n) = match port {
                    TargetPort::Keep => (port::KEEP, 0),
                    TargetPort::Auto => (port::AUTO, 0),
                    TargetPort::Number(n) => (port::NUMBER, i64::from(*n)),
                    TargetPort::Offset(n) => (port::OFFSET, *n),
                };
                [h | p << 8, n as u64, hi, lo]
            }
        }
    }

    /// Puts a rule into the index.
    fn place(&mut self, id: u32, rule: &Rule) {
        let words = self.out.of(section::RULES);
        let condition = words
            .get(id as usize * super::layout::RULE + 1)
            .map_or(0, |w| (w >> 32) as u32);
        if rule.op == Op::Exec {
            self.out.of(section::EXEC).push(u64::from(id));
        }
        let footprint = footprint(rule);
        if becomes_unix(&rule.action) && footprint.is_about_vsock() {
            self.flags |= flag::MOVES_VSOCK;
            let words = self.out.of(section::RULES);
            if let Some(word) = words.get_mut(id as usize * super::layout::RULE) {
                *word |= u64::from(rule_flag::MOVES_VSOCK) << 8;
            }
        }
        self.cells.put(rule.op, footprint, condition);
    }

    /// The words, and which rules the index still has.
    fn finish(mut self) -> (Compiled, Vec<bool>) {
        let mut reached = self.cells.write(&mut self.out);
        for (rule, reached) in self.policy.rules.iter().zip(&mut reached) {
            *reached |= rule.op == Op::Exec;
        }
        let sources: Vec<u64> = self
            .policy
            .sources
            .iter()
            .map(|s| self.out.string(s.name.as_bytes()))
            .collect();
        // A policy built by hand has rules without sources.
        *self.out.of(section::SOURCES) = sources;
        if self.policy.sources.is_empty() {
            let place = self.out.string(b"policy");
            self.out.of(section::SOURCES).push(place);
        }
        let (mut cid, mut fabric) = (0, 0);
        let (mut uds, mut guest, mut ports, mut lease) = (0, 0, Vec::new(), 0);
        for h in &self.policy.host {
            match &h.setting {
                // The outer run's comes first.
                HostSetting::Cid(n) if cid == 0 => cid = u64::from(*n),
                HostSetting::Fabric(path) if fabric == 0 => {
                    fabric = self.out.string(path.as_bytes());
                }
                HostSetting::VsockUds(path) if uds == 0 => {
                    uds = self.out.string(path.as_bytes());
                }
                HostSetting::Share(service) => {
                    let words = super::shares::words(service);
                    self.out.of(section::SHARES).extend(words);
                }
                HostSetting::Lease(n) if lease == 0 => lease = u64::from(*n),
                HostSetting::VsockGuest(n) if guest == 0 => guest = u64::from(*n),
                HostSetting::VsockPort(port, path) => {
                    ports.extend_from_slice(alloc::format!("{port}={path}\0").as_bytes());
                }
                _ => {}
            }
        }
        let has_monitor = uds != 0 || !ports.is_empty();
        if has_monitor && cid == 0 {
            cid = u64::from(CID_HOST);
        }
        let ports = match ports.is_empty() {
            true => 0,
            false => self.out.string(&ports),
        };
        let bytes = core::mem::take(&mut self.out.bytes);
        let strings = self.out.of(section::STRINGS);
        for chunk in bytes.chunks(8) {
            let mut w = [0; 8];
            for (to, from) in w.iter_mut().zip(chunk) {
                *to = *from;
            }
            strings.push(u64::from_ne_bytes(w));
        }
        let mut words = alloc::vec![0; header::WORDS];
        words[header::VSOCK_CID] = cid;
        words[header::FABRIC] = fabric;
        words[header::LEASE] = lease;
        words[header::VSOCK_UDS] = uds;
        words[header::VSOCK_PORTS] = ports;
        words[header::VSOCK_GUEST] = match guest {
            0 => u64::from(GUEST),
            guest => guest,
        };
        for op in Op::ALL {
            let Some(d) = self.policy.defaults.get(op) else {
                continue;
            };
            let deny = u64::from(d.deny.unwrap_or(0));
            if deny != 0 {
                self.flags |= (flag::HAS_RULES | flag::RESTRICTS) << op.index();
            }
            let i = header::DEFAULTS + 2 * op.index();
            words[i] = deny | 1 << 16 | u64::from(d.at.source) << 32;
            words[i + 1] = u64::from(d.at.line);
        }
        let observe = match self.policy.mode {
            Some(mode) => mode == Mode::Observe,
            None => !self.policy.acts(),
        };
        if observe {
            self.flags |= flag::OBSERVE;
        }
        for (i, s) in self.out.words.iter().enumerate() {
            words[header::SECTIONS + i] = (words.len() as u64) << 32 | s.len() as u64;
            words.extend_from_slice(s);
        }
        words[header::MAGIC] = MAGIC;
        words[header::VERSION] = u64::from(VERSION) << 32 | words.len() as u64;
        words[header::FLAGS] = self.flags;
        words[header::COUNTS] = u64::from(self.counters);
        (Compiled { words }, reached)
    }
}

/// Does a Unix socket take the place of a vsock one that such a rule redirects?
fn becomes_unix(action: &Action) -> bool {
    matches!(
        action,
        Action::Hide | Action::Move(TargetSpec::Path(_) | TargetSpec::Abstract(_))
    )
}

/// Bytes that a template can grow to.
fn longest(template: &str) -> usize {
    let mut n = 0;
    let mut bytes = template.bytes();
    while let Some(b) = bytes.next() {
        n += match (b, if b == b'%' { bytes.next() } else { None }) {
            (b'%', Some(b'p')) => 10,
            (b'%', Some(b'a')) => 39,
            (b'%', Some(b't')) => 5,
            _ => 1,
        };
    }
    n
}

/// The lowest and the highest port that a rule is about, `auto` apart.
fn port_span(rule: &Rule) -> Option<(u32, u32)> {
    let (ports, last, first) = match &rule.term {
        Term::Ip { ports, .. } => (ports.as_slice(), 65535, 1),
        Term::Vsock { ports, .. } => (ports.as_slice(), VMADDR_ANY - 1, 0),
        Term::Every => (&[PortSet::Any][..], 65535, 1),
        Term::Unix(_) | Term::File(_) => return None,
    };
    let spans = ports.iter().filter_map(|p| match p {
        PortSet::Any => Some((first, last)),
        PortSet::Auto => None,
        PortSet::Reserved => Some((first, 1023)),
        PortSet::Range(a, b) => Some((*a, *b)),
    });
    spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}
