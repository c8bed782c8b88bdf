//! What one policy allows and another does not.
//!
//! The terms of both policies cut everything that a call can be into cells; in each of
//! them no rule of either tells one call from another. Both compiled policies are asked
//! about one call of each cell, so that the answer is theirs and holds for the cell.

mod atoms;
mod cells;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use self::atoms::{Pattern, Texts, atoms};
use self::cells::{Place, Ports};
use super::ast::{Action, Kinds, Policy, Program, Rule, Term, User};
use super::compile::{Resolver, compile};
use super::diag::Diagnostic;
use super::{ExecQuery, Implicit, Op, Paths, Query, Says, Times, Uses, Verb, View, errno};
use crate::addr::{Addr, af};
use crate::socket::{KindSet, SocketType, proto, ty};

/// Calls that are asked about, at most.
const MOST_CALLS: usize = 20_000_000;

/// What comes of a call.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// It goes on as asked.
    Allow,
    /// It is refused, with this error.
    Deny(String),
    /// It goes elsewhere: the target, as a rule has it.
    Move(String),
    /// It only seems to have happened.
    Hide,
}

impl Outcome {
    /// Is it not refused?
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        !matches!(self, Outcome::Deny(_))
    }
}

impl core::fmt::Display for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Outcome::Allow => f.write_str("allow"),
            Outcome::Deny(errno) => write!(f, "deny with {errno}"),
            Outcome::Move(to) => write!(f, "move to {to}"),
            Outcome::Hide => f.write_str("hide"),
        }
    }
}

/// Calls about which two policies differ, in the same way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// What is called.
    pub op: Op,
    /// What the first policy says, and the second.
    pub outcomes: [Outcome; 2],
    /// The kinds of sockets; of an exec, `intercepted` or `unintercepted`, if it is only
    /// about programs that can or cannot be.
    pub kinds: Vec<String>,
    /// Addresses and ports, or files.
    pub what: Vec<String>,
    /// Who calls, where only some do: `for nginx, user 33`.
    pub who: String,
    /// One such call.
    pub example: String,
    /// What decides it in each: a place, or nothing for the default.
    pub places: [Option<String>; 2],
}

/// The policies tell so much apart that nobody can look at all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

/// Why two policies were not compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// One of them does not compile.
    Broken(Vec<Diagnostic>),
    /// They tell too much apart.
    TooMany,
}

impl From<TooMany> for Failure {
    fn from(_: TooMany) -> Failure {
        Failure::TooMany
    }
}

/// The calls about which two policies differ. `start` is the first port that is not
/// reserved.
///
/// # Errors
/// If a policy does not compile, or if there are too many cells.
pub fn differ(
    policies: [&Policy; 2],
    users: &dyn Resolver,
    start: u16,
) -> Result<Vec<Difference>, Failure> {
    let broken = |e| Failure::Broken(e);
    let (first, _) = compile(policies[0], users).map_err(broken)?;
    let (second, _) = compile(policies[1], users).map_err(broken)?;
    let view = |words| View::new(words).map_err(|_| Failure::TooMany);
    let views = [view(&first.words)?, view(&second.words)?];
    let mut all = Vec::new();
    for op in Op::ALL {
        let rules: Vec<&Rule> = policies
            .iter()
            .flat_map(|p| p.rules.iter())
            .filter(|rule| rule.op == op)
            .collect();
        let comparison = Comparison {
            op,
            policies,
            views,
            rules,
            users,
            start,
        };
        match op {
            Op::Exec => all.extend(comparison.exec()?),
            _ => all.extend(comparison.calls()?),
        }
    }
    Ok(all)
}

struct Comparison<'a> {
    op: Op,
    policies: [&'a Policy; 2],
    views: [View<'a>; 2],
    rules: Vec<&'a Rule>,
    users: &'a dyn Resolver,
    start: u16,
}

/// Who calls.
#[derive(Clone)]
struct Caller {
    program: Vec<u8>,
    script: Vec<u8>,
    uid: u32,
    unprivileged: bool,
    /// It is the first match of each rule that counts them, and not a much later one.
    fresh: bool,
    name: String,
}

/// At the first match of a rule that counts them, or much later?
struct Fresh(bool);

impl Times for Fresh {
    fn take(&self, _: u32, uses: Uses) -> bool {
        uses.takes(if self.0 { 0 } else { u32::MAX })
    }
}

/// A kind of socket.
struct Socket {
    ty: SocketType,
    name: String,
}

/// What a difference is by: outcomes.
type Both = [Outcome; 2];

/// Addresses and ports that differ in the same way, with one example.
#[derive(Clone)]
struct Row {
    what: String,
    example: String,
    /// The program of the example.
    by: String,
    places: [Option<String>; 2],
}

/// The same before it has a name.
struct Raw {
    place: Place,
    ports: Vec<Ports>,
    row: Row,
}

impl Comparison<'_> {
    /// The callers that the rules tell apart.
    fn callers(&self) -> Result<Vec<Caller>, TooMany> {
        let (mut programs, mut scripts) = (BTreeSet::new(), BTreeSet::new());
        let mut users = BTreeSet::new();
        for rule in &self.rules {
            let (to, glob) = match &rule.program {
                Some(Program::Executable(glob)) => (&mut programs, glob),
                Some(Program::Script(glob)) => (&mut scripts, glob),
                None => continue,
            };
            to.insert(of_files(glob));
        }
        for rule in &self.rules {
            match &rule.user {
                Some(User::Id(n)) => drop(users.insert(*n)),
                Some(User::Name(name)) => users.extend(self.users.uid(name)),
                None => {}
            }
        }
        let other = (0..)
            .map(|n| 54321 + n)
            .find(|n| !users.contains(n))
            .unwrap_or(54321);
        let of = |set: BTreeSet<Pattern>, word: &str| -> Result<Vec<(Vec<u8>, String)>, TooMany> {
            let patterns: Vec<_> = set.into_iter().collect();
            let named = |a: atoms::Atom| {
                let name = match patterns.is_empty() {
                    true => String::new(),
                    false => format!("{word}{}", cells::called(&patterns, &a.matches)),
                };
                (a.text, name)
            };
            Ok(atoms(&patterns, Texts::Programs)?
                .into_iter()
                .map(named)
                .collect())
        };
        let programs = of(programs, "for ")?;
        let has_scripts = !scripts.is_empty();
        let mut scripts = of(scripts, "for script:")?;
        if has_scripts {
            scripts.insert(0, (Vec::new(), "for no script".to_string()));
        } else {
            scripts = vec![(Vec::new(), String::new())];
        }
        let mut uids: Vec<(u32, String)> =
            users.iter().map(|n| (*n, format!("user {n}"))).collect();
        uids.push(match users.is_empty() {
            true => (other, String::new()),
            false => (other, "any other user".to_string()),
        });
        let flag = |is_told: bool, yes: &str, no: &str| match is_told {
            true => vec![(true, yes.to_string()), (false, no.to_string())],
            false => vec![(false, String::new())],
        };
        let unprivileged = self.rules.iter().any(|rule| rule.unprivileged);
        let unprivileged = flag(unprivileged, "unprivileged", "privileged");
        let counted = self.rules.iter().any(|rule| rule.uses.is_some());
        let fresh = flag(counted, "", "at a later match");
        let mut all = Vec::new();
        for (program, program_name) in &programs {
            for (script, script_name) in &scripts {
                for (uid, user_name) in &uids {
                    for (unprivileged, privilege) in &unprivileged {
                        for (fresh, use_name) in &fresh {
                            let names = [program_name, script_name, user_name, privilege, use_name];
                            let names = names.into_iter().filter(|name| !name.is_empty());
                            let names: Vec<&str> = names.map(String::as_str).collect();
                            all.push(Caller {
                                program: program.clone(),
                                script: script.clone(),
                                uid: *uid,
                                unprivileged: *unprivileged,
                                fresh: *fresh,
                                name: names.join(", "),
                            });
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    /// The kinds of sockets that rules can tell apart.
    fn sockets(&self) -> Vec<Socket> {
        let named: BTreeSet<u16> = self
            .rules
            .iter()
            .filter_map(|rule| match rule.kinds {
                Kinds::Of(set) if set.protocol() != 0 => Some(set.protocol()),
                _ => None,
            })
            .collect();
        let unnamed = |but: &[u16]| (250..).find(|n| !named.contains(n) && !but.contains(n));
        let mut all = Vec::new();
        for (family, word) in [(af::INET, "inet"), (af::INET6, "inet6")] {
            let icmp = if family == af::INET {
                proto::ICMP
            } else {
                proto::ICMPV6
            };
            let mut add = |ty, protocol, name: &str| {
                all.push(Socket {
                    ty: SocketType {
                        domain: family,
                        ty,
                        protocol,
                    },
                    name: format!("{word} {name}"),
                });
            };
            add(ty::STREAM, proto::TCP, "tcp-only");
            add(ty::STREAM, proto::MPTCP, "mptcp");
            add(ty::DGRAM, proto::UDP, "udp-only");
            add(ty::DGRAM, proto::UDPLITE, "udplite");
            add(ty::STREAM, proto::SCTP, "sctp");
            add(ty::DGRAM, icmp, "ping");
            for n in &named {
                add(ty::RAW, *n, &format!("raw of proto {n}"));
                let own = [
                    proto::TCP,
                    proto::MPTCP,
                    proto::UDP,
                    proto::UDPLITE,
                    proto::SCTP,
                    icmp,
                ];
                if !own.contains(n) {
                    add(6, *n, &format!("proto {n}"));
                }
            }
            let rest = unnamed(&[proto::MPTCP]).unwrap_or(250);
            add(ty::RAW, rest, "raw");
            add(6, rest, "other");
        }
        for (domain, name) in [
            (af::UNIX, "unix"),
            (af::VSOCK, "vsock"),
            (af::NETLINK, "netlink"),
            (af::PACKET, "packet"),
            (38, "other"),
        ] {
            all.push(Socket {
                ty: SocketType::created(domain.into(), 1, 0),
                name: name.to_string(),
            });
        }
        all
    }

    fn places(&self, socket: &Socket) -> Result<Vec<Place>, TooMany> {
        let one = |addr| {
            vec![Place {
                addr,
                v6only: false,
                range: None,
                name: "*".to_string(),
                has_ports: false,
            }]
        };
        if self.op == Op::Socket {
            return Ok(one(None));
        }
        Ok(match socket.ty.domain {
            af::INET => cells::ip(&self.rules, false),
            af::INET6 => cells::ip(&self.rules, true),
            af::VSOCK => cells::vsock(&self.rules),
            af::UNIX => cells::unix(&self.rules)?,
            _ => one(None),
        })
    }

    fn outcome(&self, which: usize, q: &Query<'_>, fresh: bool) -> (Outcome, Option<u32>) {
        let (Some(view), Some(policy)) = (self.views.get(which), self.policies.get(which)) else {
            return (Outcome::Allow, None);
        };
        if !view.is_enforcing() {
            return (Outcome::Allow, None);
        }
        let d = view.decide(q, &Fresh(fresh));
        let target = || {
            let rule = d.rule.and_then(|rule| policy.rules.get(rule as usize));
            match rule.map(|rule| (&rule.action, rule.followed)) {
                Some((Action::Move(to), true)) => format!("{to} followed"),
                Some((Action::Move(to), false)) => to.to_string(),
                _ => String::new(),
            }
        };
        let outcome = match d.verb {
            Verb::Allow => Outcome::Allow,
            Verb::Deny => Outcome::Deny(errno_text(d.errno)),
            Verb::Move => Outcome::Move(target()),
            Verb::Hide => Outcome::Hide,
        };
        (outcome, d.rule)
    }

    fn place(&self, which: usize, rule: Option<u32>) -> Option<String> {
        let view = self.views.get(which)?;
        let (file, line, number) = view.rule_source(rule?)?;
        Some(format!(
            "rule {number}, {}:{line}",
            String::from_utf8_lossy(file)
        ))
    }

    /// Calls with a socket.
    fn calls(&self) -> Result<Vec<Difference>, TooMany> {
        let callers = self.callers()?;
        let sockets = self.sockets();
        let places: Vec<_> = sockets
            .iter()
            .map(|s| self.places(s))
            .collect::<Result<_, _>>()?;
        let ip_ports = cells::ports(&self.rules, false, self.start);
        let vsock_ports = cells::ports(&self.rules, true, self.start);
        let count: usize = places.iter().map(Vec::len).sum();
        let ports = ip_ports.len().max(vsock_ports.len());
        if count.saturating_mul(ports).saturating_mul(callers.len()) > MOST_CALLS {
            return Err(TooMany);
        }
        let implicits: &[Implicit] =
            match self.op == Op::Bind && self.rules.iter().any(|r| r.implicit) {
                true => &[Implicit::No, Implicit::Connect],
                false => &[Implicit::No],
            };
        let mut found = Found::default();
        for caller in &callers {
            for implicit in implicits {
                for (socket, places) in sockets.iter().zip(&places) {
                    let is_vsock = socket.ty.domain == af::VSOCK;
                    let ports = if is_vsock { &vsock_ports } else { &ip_ports };
                    let rows = self.rows(caller, *implicit, socket, places, ports);
                    for (both, row) in rows {
                        let mut name = caller.name.clone();
                        if *implicit == Implicit::Connect {
                            let comma = if name.is_empty() { "" } else { ", " };
                            name = format!("implicit{comma}{name}");
                        }
                        found.add(both, &name, &socket.name, row);
                    }
                }
            }
        }
        Ok(found.differences(self.op, callers.len() * implicits.len()))
    }

    /// What one caller's socket can do in one policy alone, or otherwise.
    fn rows(
        &self,
        caller: &Caller,
        implicit: Implicit,
        socket: &Socket,
        places: &[Place],
        ports: &[Ports],
    ) -> Vec<(Both, Row)> {
        let mut all: BTreeMap<Both, Vec<Raw>> = BTreeMap::new();
        let is_vsock = socket.ty.domain == af::VSOCK;
        for place in places {
            let ports = if place.has_ports {
                ports
            } else {
                &[(0, 0)][..]
            };
            for range in ports {
                let addr = place.addr.map(|addr| match place.has_ports {
                    true => addr.with_port(range.0),
                    false => addr,
                });
                let is_any = addr.is_some_and(|a| Some(a) == Addr::any(a.family()));
                if implicit == Implicit::Connect && !is_any {
                    continue;
                }
                let is_reserved = range.0 != 0 && range.0 < self.start.into();
                if caller.unprivileged && !(place.has_ports && is_reserved) {
                    continue;
                }
                let q = Query {
                    op: self.op,
                    kinds: socket.ty.kinds(),
                    addr: addr.as_ref(),
                    v6only: place.v6only,
                    implicit,
                    unprivileged_start: self.start,
                    program: &caller.program,
                    script: &caller.script,
                    uid: Some(caller.uid),
                    unprivileged: Some(caller.unprivileged),
                    ..Query::default()
                };
                let (a, rule_a) = self.outcome(0, &q, caller.fresh);
                let (b, rule_b) = self.outcome(1, &q, caller.fresh);
                if a == b {
                    continue;
                }
                let rows = all.entry([a, b]).or_default();
                match rows.last_mut() {
                    Some(last) if is_same(&last.place, place) => last.ports.push(*range),
                    _ => rows.push(Raw {
                        place: place.clone(),
                        ports: vec![*range],
                        row: Row {
                            what: String::new(),
                            example: self.example(socket, place, addr),
                            by: String::from_utf8_lossy(&caller.program).into_owned(),
                            places: [self.place(0, rule_a), self.place(1, rule_b)],
                        },
                    }),
                }
            }
        }
        let mut out = Vec::new();
        for (both, rows) in all {
            out.extend(
                joined(rows, is_vsock)
                    .into_iter()
                    .map(|row| (both.clone(), row)),
            );
        }
        out
    }

    fn example(&self, socket: &Socket, place: &Place, addr: Option<Addr>) -> String {
        let v6only = if place.v6only { " v6only" } else { "" };
        let at = addr.map_or_else(String::new, |addr| format!(" {addr}{v6only}"));
        format!(
            "{} {}{at}",
            self.op.name(),
            socket.name.rsplit(' ').next().unwrap_or("")
        )
    }

    /// Programs that are started.
    fn exec(&self) -> Result<Vec<Difference>, TooMany> {
        let files: BTreeSet<Pattern> = self
            .rules
            .iter()
            .filter_map(|rule| match &rule.term {
                Term::File(glob) => Some(of_files(glob)),
                _ => None,
            })
            .collect();
        let patterns: Vec<_> = files.into_iter().collect();
        let files = atoms(&patterns, Texts::Programs)?;
        let callers = self.callers()?;
        if files.len().saturating_mul(callers.len()) > MOST_CALLS {
            return Err(TooMany);
        }
        let mut found = Found::default();
        for caller in &callers {
            for file in &files {
                for (is_intercepted, kind) in [(true, "intercepted"), (false, "unintercepted")] {
                    let q = ExecQuery {
                        file: &file.text,
                        caller: Paths {
                            program: &caller.program,
                            script: &caller.script,
                        },
                        uid: Some(caller.uid),
                    };
                    let outcome = |view: &View<'_>| {
                        let ruling = view.exec(&q, &Fresh(caller.fresh));
                        let refused = match ruling.says {
                            Says::Allow => None,
                            Says::Deny(errno) => Some(errno),
                            Says::Nothing if is_intercepted => None,
                            Says::Nothing => Some(errno::EACCES),
                        };
                        let refused = refused.filter(|_| view.is_enforcing() && self.acts(view));
                        let outcome =
                            refused.map_or(Outcome::Allow, |e| Outcome::Deny(errno_text(e)));
                        (outcome, ruling.rule)
                    };
                    let [(a, rule_a), (b, rule_b)] =
                        [outcome(&self.views[0]), outcome(&self.views[1])];
                    if a == b {
                        continue;
                    }
                    let row = Row {
                        what: cells::called(&patterns, &file.matches),
                        example: format!("exec {}", String::from_utf8_lossy(&file.text)),
                        by: String::from_utf8_lossy(&caller.program).into_owned(),
                        places: [self.place(0, rule_a), self.place(1, rule_b)],
                    };
                    found.add([a, b], &caller.name, kind, row);
                }
            }
        }
        Ok(found.differences(self.op, callers.len()))
    }

    /// Does that policy refuse or change anything?
    fn acts(&self, view: &View<'_>) -> bool {
        let own = self
            .views
            .iter()
            .zip(self.policies)
            .find(|(v, _)| core::ptr::eq(*v, view));
        own.is_none_or(|(_, policy)| policy.acts() || policy.mode.is_some())
    }
}

fn of_files(glob: &str) -> Pattern {
    Pattern {
        text: glob.to_string(),
        name_only: !glob.contains('/') && glob != "**",
        literal: false,
    }
}

fn errno_text(errno: u16) -> String {
    super::errno::name(errno).map_or_else(|| errno.to_string(), ToString::to_string)
}

fn is_same(a: &Place, b: &Place) -> bool {
    (a.addr, a.v6only, &a.name) == (b.addr, b.v6only, &b.name)
}

/// Addresses with the same ports are one, where they follow each other.
fn joined(rows: Vec<Raw>, is_vsock: bool) -> Vec<Row> {
    let mut all: Vec<Raw> = Vec::new();
    for raw in rows {
        match (all.last_mut(), raw.place.range) {
            (Some(last), Some(range))
                if last.ports == raw.ports
                    && last
                        .place
                        .range
                        .is_some_and(|before| before.is_before(&range)) =>
            {
                if let Some(before) = &mut last.place.range {
                    before.to = range.to;
                }
            }
            _ => all.push(raw),
        }
    }
    // All that there is, with the same ports.
    let is_whole = |raw: &&Raw| raw.place.range.is_some_and(|range| range.is_whole());
    let whole = all.iter().filter(is_whole).count();
    let wild = all.iter().filter(|raw| raw.place.range.is_none()).count();
    let is_all = [(1, 1), (2, 3)].contains(&(whole, wild)) && all.len() == whole + wild;
    if let Some(first) = all.first()
        && is_all
        && first.place.has_ports
        && all.iter().all(|raw| raw.ports == first.ports)
    {
        let what = format!("*:{}", cells::ports_text(&first.ports, is_vsock));
        let row = first.row.clone();
        return vec![Row { what, ..row }];
    }
    let named = |raw: Raw| {
        let host = raw.place.range.map_or(raw.place.name, |range| range.text());
        let what = match raw.place.has_ports {
            true => {
                let (host, word) = host.split_once(' ').unwrap_or((&host, ""));
                let space = if word.is_empty() { "" } else { " " };
                let ports = cells::ports_text(&raw.ports, is_vsock);
                format!("{host}:{ports}{space}{word}")
            }
            false => host,
        };
        Row { what, ..raw.row }
    };
    all.into_iter().map(named).collect()
}

/// Differences on their way: by outcomes, who and kind.
#[derive(Default)]
struct Found {
    all: Vec<(Both, String, String, Row)>,
}

impl Found {
    fn add(&mut self, both: Both, who: &str, kind: &str, row: Row) {
        self.all
            .push((both, who.to_string(), kind.to_string(), row));
    }

    /// Kinds and callers that differ in the same are one, and what they differ in.
    fn differences(self, op: Op, callers: usize) -> Vec<Difference> {
        // Of each caller the kinds, and an example.
        type Whos = BTreeMap<String, (Vec<String>, Row)>;
        let mut by_what: Vec<(Both, Whos)> = Vec::new();
        let mut at: BTreeMap<(Both, String), usize> = BTreeMap::new();
        for (both, who, kind, row) in self.all {
            let next = by_what.len();
            let i = *at.entry((both.clone(), row.what.clone())).or_insert(next);
            if i == next {
                by_what.push((both, Whos::new()));
            }
            if let Some((_, whos)) = by_what.get_mut(i) {
                let (kinds, _) = whos.entry(who).or_insert_with(|| (Vec::new(), row));
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
        }
        let mut out: Vec<Difference> = Vec::new();
        for (outcomes, whos) in by_what {
            let mut by_kinds: BTreeMap<Vec<String>, (Vec<String>, Row)> = BTreeMap::new();
            for (who, (kinds, row)) in whos {
                let (whos, _) = by_kinds.entry(kinds).or_insert_with(|| (Vec::new(), row));
                whos.push(who);
            }
            for (kinds, (whos, row)) in by_kinds {
                let is_all = whos.len() == callers;
                let who = if is_all {
                    String::new()
                } else {
                    whos.join(" or ")
                };
                let kinds = joined_kinds(kinds);
                let is_same = |d: &&mut Difference| {
                    (&d.outcomes, &d.kinds, &d.who) == (&outcomes, &kinds, &who)
                };
                if let Some(same) = out.iter_mut().find(is_same) {
                    same.what.push(row.what.clone());
                    continue;
                }
                let by = match who.contains("for ") {
                    true => format!(" by {}", row.by),
                    false => String::new(),
                };
                out.push(Difference {
                    op,
                    outcomes: outcomes.clone(),
                    kinds,
                    what: vec![row.what.clone()],
                    who,
                    example: format!("{}{by}", row.example),
                    places: row.places.clone(),
                });
            }
        }
        out
    }
}

/// `inet tcp-only` and the others of TCP are `tcp`.
fn joined_kinds(mut kinds: Vec<String>) -> Vec<String> {
    let mut join = |parts: &[&str], whole: &str| {
        if parts
            .iter()
            .all(|part| kinds.iter().any(|kind| kind == part))
        {
            let first = kinds.iter().position(|kind| kind == parts[0]).unwrap_or(0);
            kinds[first] = whole.to_string();
            kinds.retain(|kind| !parts.contains(&kind.as_str()));
        }
    };
    for word in [
        "tcp-only", "mptcp", "udp-only", "udplite", "sctp", "ping", "raw",
    ] {
        let (four, six) = (format!("inet {word}"), format!("inet6 {word}"));
        join(&[&four, &six], word);
    }
    join(&["inet tcp-only", "inet mptcp"], "inet tcp");
    join(&["inet6 tcp-only", "inet6 mptcp"], "inet6 tcp");
    join(&["inet udp-only", "inet udplite"], "inet udp");
    join(&["inet6 udp-only", "inet6 udplite"], "inet6 udp");
    join(&["intercepted", "unintercepted"], "");
    join(&["tcp-only", "mptcp"], "tcp");
    join(&["udp-only", "udplite"], "udp");
    kinds.retain(|kind| !kind.is_empty());
    kinds
}

// The set of kinds is what the sockets above stand for.
const _: () = assert!(KindSet::NAMES.len() == 15);

#[cfg(test)]
mod tests;
