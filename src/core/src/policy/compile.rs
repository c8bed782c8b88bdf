//! A policy into words.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::ast::{
    Action, CidSet, IpSet, Kinds, Policy, PortSet, Program, Rule, TargetHost, TargetPort,
    TargetSpec, Term, UnixTerm, User,
};
use super::cells::{Cells, Ranges};
use super::diag::{Diagnostic, Severity};
use super::layout::{
    Class, MAGIC, RESERVED_PORTS, VERSION, WHOLE, condition_flag, cut, entry, flag, hash_bytes,
    header, rule_flag, section, verb,
};
use super::target::{host, port};
use super::{Mode, Op, glob, print, warn};
use crate::addr::VMADDR_ANY;

/// Rules of a policy, at most.
pub const MAX_RULES: usize = 65_535;
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
    for h in &p.host {
        let at = h.at;
        let mut d = c.diagnostic(at, "virtual hosts are not supported yet".into());
        d.expected = Some("no 'host' lines".into());
        c.errors.push(d);
    }
    for rule in &p.rules {
        c.check(rule, resolver);
    }
    if c.errors.is_empty() {
        for (i, rule) in p.rules.iter().enumerate() {
            c.place(i as u32, rule);
            if c.cells.places() > MAX_PLACES {
                let d = c.diagnostic(rule.at, "too many addresses and ports in all".into());
                c.errors.push(d);
                break;
            }
        }
    }
    if c.errors.is_empty() {
        Ok((c.finish(), warn::warnings(p)))
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
        let condition = self.condition(rule);
        let (limit, counter) = match rule.times {
            None => (0, 0),
            Some(limit) => {
                flags |= rule_flag::TIMES;
                if self.counters == MAX_COUNTERS {
                    let message = format!("more than {MAX_COUNTERS} rules with 'times'");
                    self.error(rule.at, message);
                }
                self.counters += 1;
                (limit, self.counters - 1)
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
            let words = self.target(spec);
            let targets = self.out.of(section::TARGETS);
            target = targets.len() as u64;
            targets.extend(words);
        }
        let text = print::line(rule);
        let text = self.out.text(text.as_bytes());
        let bits = kind_bits(rule.kinds);
        let words = [
            u64::from(verb) | u64::from(flags) << 8 | u64::from(errno) << 16 | bits << 32,
            u64::from(uid) | u64::from(condition) << 32,
            u64::from(limit) | u64::from(counter) << 32,
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
                "a glob with {wild} bytes from its first wildcard on; at most {} are possible",
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
                    let message =
                        format!("a Unix name of up to {longest} bytes; at most 107 are possible");
                    self.error(at, message);
                }
                let fam = rule.kinds.families();
                let ports = matches!(rule.term, Term::Ip { .. } | Term::Vsock { .. });
                let named = t.replace("%%", "");
                if fam.unix && !ports && (named.contains("%p") || named.contains("%a")) {
                    let message = "a Unix name has no port and no address to put in for %p or %a";
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
                        let message =
                            format!("ports {from}-{to} become {low}-{high}, which leaves 1-{max}");
                        let mut d = self.diagnostic(at, message);
                        d.expected = Some("another offset, or fewer ports in the rule".into());
                        self.errors.push(d);
                    }
                }
            }
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

    /// Puts a rule into all the cells where it can match.
    fn place(&mut self, id: u32, rule: &Rule) {
        // `exactly` and the verbs that grant something want the whole of what
        // a socket receives in the term; the others want any of it.
        let receives =
            !rule.exactly && matches!(rule.action, Action::Deny(_) | Action::Hide | Action::Note);
        let fam = rule.kinds.families();
        let mut cells: Vec<(Class, u8, u64, u64)> = Vec::new();
        let mut ip_ports: &[PortSet] = &[PortSet::Any];
        let mut vsock_ports: &[PortSet] = &[PortSet::Any];
        let whole = |cells: &mut Vec<_>, classes: &[Class]| {
            cells.extend(classes.iter().map(|c| (*c, 0, 0, 0)));
        };
        let vsock = [Class::Vsock, Class::VsockWild];
        match &rule.term {
            Term::Every => {
                whole(&mut cells, &[Class::Other]);
                if rule.op != Op::Socket {
                    every(fam, &mut cells);
                }
            }
            Term::Ip { addrs, ports } => {
                ip_ports = ports;
                ip(rule, addrs, receives, &mut cells);
                if addrs.contains(&IpSet::Any) {
                    if fam.vsock {
                        vsock_ports = ports;
                        whole(&mut cells, &vsock);
                    }
                    // Under `*:auto` and `*:*` come the names that the kernel
                    // makes up; under `*:*` all the others as well.
                    if fam.unix && super::parse::has_auto(ports) {
                        whole(&mut cells, &[Class::UnixAuto]);
                    }
                    if ports.contains(&PortSet::Any) {
                        if fam.unix {
                            prefix(&mut cells, Class::UnixPath, b"");
                            prefix(&mut cells, Class::UnixAbstract, b"");
                        }
                        whole(&mut cells, &[Class::Other]);
                    }
                }
            }
            Term::Vsock { cids, ports } => {
                vsock_ports = ports;
                for cid in cids {
                    match cid {
                        CidSet::Any => whole(&mut cells, &vsock),
                        CidSet::Wild => whole(&mut cells, &[Class::VsockWild]),
                        CidSet::Id(n) => {
                            cells.push((Class::Vsock, 32, 0, u64::from(*n)));
                            if receives {
                                whole(&mut cells, &[Class::VsockWild]);
                            }
                        }
                    }
                }
            }
            Term::Unix(UnixTerm::Auto) => whole(&mut cells, &[Class::UnixAuto]),
            Term::Unix(UnixTerm::Path(s)) => name(&mut cells, Class::UnixPath, s, rule.exactly),
            Term::Unix(UnixTerm::Abstract(s)) => {
                name(&mut cells, Class::UnixAbstract, s, rule.exactly);
            }
        }
        cells.sort_unstable();
        cells.dedup();
        let ip_ranges = ranges(ip_ports, 0, u32::from(u16::MAX));
        let vsock_ranges = ranges(vsock_ports, VMADDR_ANY, VMADDR_ANY);
        let plain = rule.times.is_none()
            && rule.user.is_none()
            && rule.program.is_none()
            && !matches!(
                rule.term,
                Term::Unix(UnixTerm::Path(_) | UnixTerm::Abstract(_))
            );
        let note = rule.action == Action::Note;
        let mut e = u64::from(id) << 32 | kind_bits(rule.kinds);
        if rule.kinds == Kinds::Any {
            e |= entry::ANY_KIND;
        }
        if note {
            e |= entry::NOTE;
        }
        // A rule with `times` matches like any other; what it may do is
        // checked afterwards. It hides nothing, though.
        if plain {
            e |= entry::PLAIN;
        }
        if rule.implicit {
            e |= entry::IMPLICIT;
        }
        let words = self.out.of(section::RULES);
        let condition = words
            .get(id as usize * super::layout::RULE + 1)
            .map_or(0, |w| (w >> 32) as u32);
        let ip_ranges = self.cells.ranges(ip_ranges);
        let vsock_ranges = self.cells.ranges(vsock_ranges);
        self.cells.rule(e, condition, ip_ranges, vsock_ranges);
        for (class, len, hi, lo) in cells {
            self.cells.put(rule.op, class, len, hi, lo, id);
        }
    }

    fn finish(mut self) -> Compiled {
        self.cells.write(&mut self.out);
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
        let mut acts = self
            .policy
            .rules
            .iter()
            .any(|r| matches!(r.action, Action::Deny(_) | Action::Move(_) | Action::Hide));
        for op in Op::ALL {
            let Some(d) = self.policy.defaults.get(op) else {
                continue;
            };
            let deny = u64::from(d.deny.unwrap_or(0));
            if deny != 0 {
                acts = true;
                self.flags |= flag::HAS_RULES << op.index();
            }
            let i = header::DEFAULTS + 2 * op.index();
            words[i] = deny | 1 << 16 | u64::from(d.at.source) << 32;
            words[i + 1] = u64::from(d.at.line);
        }
        let observe = match self.policy.mode {
            Some(mode) => mode == Mode::Observe,
            None => !acts,
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
        Compiled { words }
    }
}

fn every(fam: super::terms::Families, cells: &mut Vec<(Class, u8, u64, u64)>) {
    if fam.ip {
        for c in [
            Class::V4,
            Class::V6,
            Class::Wild4,
            Class::Wild6,
            Class::WildDual,
        ] {
            cells.push((c, 0, 0, 0));
        }
    }
    if fam.vsock {
        cells.push((Class::Vsock, 0, 0, 0));
        cells.push((Class::VsockWild, 0, 0, 0));
    }
    if fam.unix {
        cells.push((Class::UnixAuto, 0, 0, 0));
        prefix(cells, Class::UnixPath, b"");
        prefix(cells, Class::UnixAbstract, b"");
    }
}

/// The truth table of `docs/policy.md`, "What a term holds".
fn ip(rule: &Rule, addrs: &[IpSet], receives: bool, cells: &mut Vec<(Class, u8, u64, u64)>) {
    let (mut wild4, mut wild6, mut dual) = (false, false, false);
    for a in addrs {
        let (mut four, mut six) = (None, None);
        match a {
            IpSet::Any => {
                four = Some(([0; 4], 0));
                six = Some(([0; 16], 0));
                (wild4, wild6) = (true, true);
                dual = true;
            }
            IpSet::Loopback => {
                let mut one = [0; 16];
                one[15] = 1;
                four = Some(([127, 0, 0, 0], 8));
                six = Some((one, 128));
            }
            IpSet::Wild4 => wild4 = true,
            IpSet::Wild6 => {
                wild6 = true;
                dual |= rule.exactly;
            }
            IpSet::V4(ip, len) => four = Some((*ip, *len)),
            IpSet::V6(ip, len) => six = Some((*ip, *len)),
        }
        if let Some((ip, len)) = four {
            let (hi, lo) = cut(u128::from(u32::from_be_bytes(ip)), len, 32);
            cells.push((Class::V4, len, hi, lo));
            wild4 |= receives;
        }
        if let Some((ip, len)) = six {
            let (hi, lo) = cut(u128::from_be_bytes(ip), len, 128);
            cells.push((Class::V6, len, hi, lo));
            wild6 |= receives;
        }
    }
    if receives {
        dual = wild4 || wild6;
    } else if !rule.exactly {
        dual = wild4 && wild6;
    }
    for (class, holds) in [
        (Class::Wild4, wild4),
        (Class::Wild6, wild6),
        (Class::WildDual, dual),
    ] {
        if holds {
            cells.push((class, 0, 0, 0));
        }
    }
}

fn kind_bits(kinds: Kinds) -> u64 {
    match kinds {
        Kinds::Any => 0xffff,
        Kinds::Of(set) => u64::from(set.0),
    }
}

fn prefix(cells: &mut Vec<(Class, u8, u64, u64)>, class: Class, s: &[u8]) {
    cells.push((class, s.len() as u8, hash_bytes(s), s.len() as u64));
}

fn name(cells: &mut Vec<(Class, u8, u64, u64)>, class: Class, s: &str, exactly: bool) {
    let s = s.as_bytes();
    if exactly || glob::is_literal(s) {
        cells.push((class, WHOLE, hash_bytes(s), s.len() as u64));
        return;
    }
    // No name is longer than 108 bytes, so a longer prefix matches none; the
    // pattern itself says so.
    let n = glob::literal_prefix(s).min(109);
    prefix(cells, class, s.get(..n).unwrap_or(s));
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
        Term::Unix(_) => return None,
    };
    let spans = ports.iter().filter_map(|p| match p {
        PortSet::Any => Some((first, last)),
        PortSet::Auto => None,
        PortSet::Reserved => Some((first, 1023)),
        PortSet::Range(a, b) => Some((*a, *b)),
    });
    spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// Ports as ranges of what the index sees.
fn ranges(ports: &[PortSet], auto: u32, last: u32) -> Ranges {
    let mut r = Ranges::default();
    for p in ports {
        match p {
            PortSet::Any => r.list.push((0, u32::MAX)),
            PortSet::Auto => r.list.push((auto, auto)),
            PortSet::Reserved => r.reserved = true,
            PortSet::Range(a, b) => r.list.push((*a, (*b).min(last))),
        }
    }
    r.tidy();
    r
}

impl Ranges {
    /// As a rule's port ranges in `LISTS`.
    pub(super) fn words(&self) -> Vec<u64> {
        let list = self.list.iter();
        let mut out: Vec<u64> = list
            .map(|&(a, b)| u64::from(a) << 32 | u64::from(b))
            .collect();
        if self.reserved {
            out.push(RESERVED_PORTS);
        }
        out
    }
}
