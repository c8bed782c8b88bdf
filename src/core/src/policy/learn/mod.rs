//! The tightest policy that allows what runs did.
//!
//! A call that the policy there is refuses by its default gets the narrowest rule
//! that allows it. What a rule refuses stays refused: that rule is somebody's wish.
//! Whether a call is allowed is always the compiled policy's own answer.

mod rule;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use super::ast::{Action, DefaultLine, PortSet, Program, Rule, Term, UnixTerm};
use super::compile::{Resolver, compile};
use super::diag::Diagnostic;
use super::glob;
use super::parse::{Source, parse};
use super::{
    Decision, ExecQuery, Implicit, Op, Paths, Policy, Query, Says, Times, Uses, Verb, View,
};
use crate::addr::{Addr, af};
use crate::errno::EACCES;
use crate::socket::{KindSet, SocketType};
use crate::text::is_unprintable;

/// One call of a run, as its record tells it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What was called. The bind that listen(2) or connect(2) brings along is a bind.
    pub op: Op,
    /// The socket, as far as it is known.
    pub socket: SocketType,
    /// The address that was asked for, if it could be read.
    pub addr: Option<Addr>,
    /// The address that the socket got.
    pub got: Option<Addr>,
    /// Of a bind to `[::]`: whether it is for IPv6 only.
    pub v6only: Option<bool>,
    /// Where a bind comes from that the program did not ask for.
    pub implicit: Implicit,
    /// The kernel's name of the socket.
    pub cookie: Option<u64>,
    /// The executable's path, as the log has it.
    pub program: String,
    /// The script's.
    pub script: String,
    /// The process.
    pub pid: u32,
    /// The user, if that is known.
    pub uid: Option<u32>,
    /// Of an exec: the file.
    pub file: String,
    /// Of an exec: no library can be put in front of the program.
    pub is_unseen: bool,
    /// A rule redirected it: that rule.
    pub moved_by: Option<String>,
    /// What the comment at its rule says.
    pub comment: String,
}

impl Default for Call {
    fn default() -> Call {
        Call {
            op: Op::Bind,
            socket: SocketType::default(),
            addr: None,
            got: None,
            v6only: None,
            implicit: Implicit::No,
            cookie: None,
            program: String::new(),
            script: String::new(),
            pid: 0,
            uid: None,
            file: String::new(),
            is_unseen: false,
            moved_by: None,
            comment: String::new(),
        }
    }
}

impl Call {
    /// The socket as rules see it: of the two IP families it has the one of the
    /// address.
    pub(super) fn socket_at(&self) -> SocketType {
        let is_ip = |domain: u16| matches!(domain, af::INET | af::INET6);
        let at = self.addr.map(|addr| addr.family());
        let domain = at.filter(|at| is_ip(*at) && is_ip(self.socket.domain));
        SocketType {
            domain: domain.unwrap_or(self.socket.domain),
            ..self.socket
        }
    }

    /// Could nobody ask what the socket is, as behind a filter of the program's own?
    pub(super) fn is_unknown(&self) -> bool {
        self.socket.ty == 0 && self.op != Op::Exec
    }

    /// The address, where rules see it.
    pub(super) fn at(&self) -> Option<&Addr> {
        let is_read = match self.is_unknown() {
            // Nobody knows where it is bound, and a policy that restricts listen(2)
            // refuses it.
            true => self.op != Op::Listen,
            false => self.socket.is_read(),
        };
        self.addr.as_ref().filter(|_| is_read)
    }

    /// Does the name of the socket have the process's number in it, which is another
    /// in the next run?
    #[must_use]
    pub fn has_pid_in_name(&self) -> bool {
        match &self.addr {
            Some(Addr::Unix(name)) => rule::around_pid(name.bytes(), self.pid).is_some(),
            _ => false,
        }
    }

    fn exec_query<'a>(&'a self, options: &Options) -> ExecQuery<'a> {
        ExecQuery {
            file: self.file.as_bytes(),
            caller: Paths {
                program: self.program.as_bytes(),
                script: self.script.as_bytes(),
            },
            uid: self.uid.or(options.uid),
        }
    }

    fn query<'a>(&'a self, options: &Options) -> Query<'a> {
        let is_moved = self.moved_by.as_deref();
        Query {
            op: self.op,
            kinds: match self.is_unknown() {
                true => KindSet::NONE,
                false => self.socket_at().kinds(),
            },
            unknown_socket: self.is_unknown(),
            addr: self.at(),
            v6only: self.v6only == Some(true),
            implicit: self.implicit,
            unprivileged_start: options.unprivileged_start,
            program: self.program.as_bytes(),
            script: self.script.as_bytes(),
            uid: self.uid.or(options.uid),
            unprivileged: Some(is_moved.is_some_and(|rule| rule.contains(" unprivileged"))),
        }
    }
}

/// What is wanted of the rules.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operations that the policy is to be about. Where neither bind nor listen has
    /// a default yet, both are among them or bind alone.
    pub ops: Vec<Op>,
    /// That many ports at one address become a range.
    pub ranges: Option<usize>,
    /// The rules hold for every program.
    pub any_program: bool,
    /// `[0-9]*` for the process's number in a Unix name.
    pub pid_globs: bool,
    /// The user, where a record does not say.
    pub uid: Option<u32>,
    /// `net.ipv4.ip_unprivileged_port_start`
    pub unprivileged_start: u16,
    /// The comment above what is added.
    pub heading: String,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ops: [Op::Bind, Op::Listen].into(),
            ranges: None,
            any_program: false,
            pid_globs: false,
            uid: None,
            unprivileged_start: 1024,
            heading: String::new(),
        }
    }
}

/// A policy that was learned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Learned {
    /// The whole text: what there was, and behind it what was added.
    pub text: String,
    /// How many rules were added.
    pub added: usize,
    /// Calls that a rule of the policy there was refuses, by run and number, with
    /// that rule as `FILE:LINE`.
    pub refused: Vec<(usize, usize, String)>,
    /// Calls that no rule can name but one for every address: they are refused.
    pub unsaid: Vec<(usize, usize)>,
}

/// The counters of one run.
#[derive(Default)]
struct Counters(RefCell<BTreeMap<u32, u32>>);

impl Times for Counters {
    fn take(&self, counter: u32, uses: Uses) -> bool {
        let mut all = self.0.borrow_mut();
        let used = all.entry(counter).or_default();
        let takes = uses.takes(*used);
        *used = uses.next(*used);
        takes
    }
}

/// What a policy says of a call.
enum Answer {
    Allowed,
    ByDefault,
    /// By this rule, from 0.
    ByRule(u32),
}

fn ask(view: &View<'_>, call: &Call, uses: &Counters, options: &Options) -> Answer {
    if call.op == Op::Exec {
        let ruling = view.exec(&call.exec_query(options), uses);
        return match (ruling.says, ruling.rule) {
            (Says::Allow, _) => Answer::Allowed,
            (Says::Nothing, _) if !call.is_unseen => Answer::Allowed,
            (Says::Deny(_), Some(rule)) => Answer::ByRule(rule),
            _ => Answer::ByDefault,
        };
    }
    let Decision { verb, rule, .. } = view.decide(&call.query(options), uses);
    match (verb, rule) {
        (Verb::Deny, Some(rule)) => Answer::ByRule(rule),
        (Verb::Deny, None) => Answer::ByDefault,
        _ => Answer::Allowed,
    }
}

/// A rule that is to be added, and the calls that it is for.
struct Candidate {
    rule: Rule,
    calls: Vec<(usize, usize)>,
}

/// Adds to a policy what it takes to allow what each of some runs did.
///
/// # Errors
/// If the policy that there is cannot be read.
pub fn learn(
    there: &Source<'_>,
    runs: &[Vec<Call>],
    options: &Options,
    users: &dyn Resolver,
) -> Result<Learned, Vec<Diagnostic>> {
    let mut policy = parse(&[*there])?;
    let defaults = add_defaults(&mut policy, &options.ops);
    let (compiled, _) = compile(&policy, users)?;
    let view = View::new(&compiled.words).map_err(|_| Vec::new())?;
    let runs: Vec<Vec<Call>> = runs.iter().map(|run| linked(run)).collect();
    let made_up: Vec<BTreeSet<String>> = runs.iter().map(|run| chosen(run)).collect();

    let mut found: Vec<Candidate> = Vec::new();
    let mut by_text: BTreeMap<String, usize> = BTreeMap::new();
    let (mut refused, mut unsaid) = (Vec::new(), Vec::new());
    for (r, run) in runs.iter().enumerate() {
        let uses = Counters::default();
        for (c, call) in run.iter().enumerate() {
            match ask(&view, call, &uses, options) {
                Answer::Allowed => continue,
                Answer::ByRule(rule) => {
                    let (file, line, _) = view.rule_source(rule).unwrap_or_default();
                    let place = format!("{}:{line}", String::from_utf8_lossy(file));
                    refused.push((r, c, place));
                    continue;
                }
                Answer::ByDefault => {}
            }
            let is_made_up = |at: &Addr| {
                matches!(call.op, Op::Listen | Op::Connect)
                    && made_up
                        .get(r)
                        .is_some_and(|all| all.contains(&key(call, at)))
            };
            let is_made_up = call.addr.as_ref().is_some_and(is_made_up);
            let rule = match &call.moved_by {
                Some(text) => moving(text),
                None => rule::rule(call, is_made_up, options),
            };
            let Some(rule) = rule else {
                unsaid.push((r, c));
                continue;
            };
            let next = found.len();
            let at = *by_text.entry(rule.to_string()).or_insert(next);
            match found.get_mut(at) {
                Some(candidate) => candidate.calls.push((r, c)),
                None => found.push(Candidate {
                    rule,
                    calls: [(r, c)].into(),
                }),
            }
        }
    }
    if let Some(least) = options.ranges {
        found = with_ranges(found, least);
    }
    // A rule that moves comes before one that allows the same.
    found.sort_by_key(|c| c.rule.action == Action::Allow);
    let needed = needed(&policy, &found, &runs, options, users)?;
    let added: Vec<_> = found.into_iter().zip(needed).filter(|(_, n)| *n).collect();

    let mut text = there.text.to_string();
    let listens = |rule: &Rule| rule.op == Op::Listen && rule.action == Action::Allow;
    let listened = policy.rules.iter().any(listens) || added.iter().any(|(c, _)| listens(&c.rule));
    let mut lines = defaults.lines(listened);
    for (candidate, _) in &added {
        lines.push(line(candidate, &runs));
    }
    let is_commented = text.contains(&format!("# {}\n", options.heading));
    if !lines.is_empty() {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if !text.is_empty() && !is_commented {
            text.push('\n');
        }
        if !options.heading.is_empty() && !is_commented {
            text += &format!("# {}\n", options.heading);
        }
        for line in &lines {
            text += line;
            text.push('\n');
        }
    }
    Ok(Learned {
        text,
        added: added.len(),
        refused,
        unsaid,
    })
}

/// The defaults that a policy lacks.
struct Lacking(Vec<Op>);

impl Lacking {
    /// As lines. A bare `default deny` of a policy in which nothing may listen would
    /// look like a mistake.
    fn lines(&self, listened: bool) -> Vec<String> {
        let has = |op| self.0.contains(&op);
        let mut lines = Vec::new();
        match (has(Op::Bind), has(Op::Listen)) {
            (true, true) if listened => lines.push("default deny".to_string()),
            (true, true) => lines.push("default deny for bind, listen".to_string()),
            (true, false) => lines.push("default deny for bind".to_string()),
            (false, true) => lines.push("default deny for listen".to_string()),
            (false, false) => {}
        }
        let others = self
            .0
            .iter()
            .filter(|op| !matches!(op, Op::Bind | Op::Listen));
        lines.extend(others.map(|op| format!("default deny for {}", op.name())));
        lines
    }
}

/// Gives a policy the defaults that it lacks. One that says something of bind or of
/// listen is left as it is about both.
fn add_defaults(policy: &mut Policy, ops: &[Op]) -> Lacking {
    let says = |op: Op| policy.defaults.get(op).is_some();
    let is_settled = says(Op::Bind) || says(Op::Listen);
    let lacks = |op: &&Op| match op {
        Op::Bind | Op::Listen => !is_settled,
        op => !says(**op),
    };
    let lacking: Vec<Op> = ops.iter().filter(lacks).copied().collect();
    for op in &lacking {
        let line = DefaultLine {
            deny: Some(EACCES),
            named: true,
            at: Default::default(),
        };
        policy.defaults.set(*op, line);
    }
    Lacking(lacking)
}

/// A socket's address among those that the kernel chose.
fn key(call: &Call, at: &Addr) -> String {
    format!("{:x} {at}", call.socket.kinds().0 & !0x3)
}

/// The addresses of a run whose port or name the kernel chose when the program asked
/// for any.
fn chosen(run: &[Call]) -> BTreeSet<String> {
    let is_auto = |call: &&Call| call.op == Op::Bind && call.addr.is_some_and(|a| a.is_auto());
    let automatic = run.iter().filter(is_auto);
    automatic
        .filter_map(|call| call.got.as_ref().map(|got| key(call, got)))
        .collect()
}

/// The calls of a run, where each listen knows what its socket's bind knew: that of
/// the same cookie or, where the records have none, those at the same address if they
/// agree.
fn linked(run: &[Call]) -> Vec<Call> {
    let mut of_socket: BTreeMap<u64, bool> = BTreeMap::new();
    let mut of_address: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for call in run.iter().filter(|call| call.op == Op::Bind) {
        let Some(v6only) = call.v6only else {
            continue;
        };
        for at in [&call.addr, &call.got].into_iter().flatten() {
            of_address.entry(key(call, at)).or_default().insert(v6only);
        }
    }
    let mut out = run.to_vec();
    for call in &mut out {
        match (call.op, call.cookie, call.v6only) {
            (Op::Bind, Some(cookie), Some(v6only)) => {
                of_socket.insert(cookie, v6only);
            }
            (Op::Listen, cookie, None) => {
                let same = cookie.and_then(|cookie| of_socket.get(&cookie).copied());
                let at = call.addr.as_ref().map(|at| key(call, at));
                let near = at
                    .and_then(|at| of_address.get(&at))
                    .filter(|all| all.len() == 1);
                call.v6only = same.or_else(|| near?.first().copied());
            }
            _ => {}
        }
    }
    out
}

/// The rule that redirected a call, from the record's text.
fn moving(text: &str) -> Option<Rule> {
    let name = "";
    let policy = parse(&[Source { name, text }]).ok()?;
    policy.rules.into_iter().next()
}

/// Puts ranges in the place of rules that differ by their port alone, where there are
/// `least` of them or more.
fn with_ranges(found: Vec<Candidate>, least: usize) -> Vec<Candidate> {
    let port = |rule: &Rule| match &rule.term {
        Term::Ip { ports, .. } | Term::Vsock { ports, .. } => match ports.as_slice() {
            [PortSet::Range(from, _)] => Some(*from),
            _ => None,
        },
        _ => None,
    };
    let with = |rule: &Rule, range: PortSet| {
        let mut rule = rule.clone();
        if let Term::Ip { ports, .. } | Term::Vsock { ports, .. } = &mut rule.term {
            *ports = [range].into();
        }
        rule
    };
    let family = |c: &Candidate| {
        let is_one = c.rule.action == Action::Allow && port(&c.rule).is_some();
        is_one.then(|| with(&c.rule, PortSet::Any).to_string())
    };
    let mut ports: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for c in &found {
        if let (Some(family), Some(port)) = (family(c), port(&c.rule)) {
            ports.entry(family).or_default().insert(port);
        }
    }
    let mut out: Vec<Candidate> = Vec::new();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    for c in found {
        let family = family(&c);
        let many = family
            .as_ref()
            .and_then(|f| ports.get(f))
            .filter(|p| p.len() >= least.max(2));
        let (Some(family), Some(ports)) = (&family, many) else {
            out.push(c);
            continue;
        };
        match at.get(family).and_then(|&i| out.get_mut(i)) {
            Some(range) => range.calls.extend(c.calls),
            None => {
                let (first, last) = (ports.first(), ports.last());
                let range = PortSet::Range(*first.unwrap_or(&1), *last.unwrap_or(&1));
                at.insert(family.clone(), out.len());
                out.push(Candidate {
                    rule: with(&c.rule, range),
                    calls: c.calls,
                });
            }
        }
    }
    out
}

/// How much a rule allows, as far as one of these can allow what another does: the
/// less the later.
fn narrowness(rule: &Rule) -> (bool, u8, u8, bool, bool) {
    let program = match &rule.program {
        None => 0,
        Some(Program::Executable(_)) => 1,
        Some(Program::Script(_)) => 2,
    };
    let ports = match &rule.term {
        Term::Ip { ports, .. } | Term::Vsock { ports, .. } => match ports.as_slice() {
            [PortSet::Range(a, b)] if a == b => 2,
            [PortSet::Range(..)] => 1,
            _ => 0,
        },
        Term::Unix(UnixTerm::Path(glob) | UnixTerm::Abstract(glob)) => {
            u8::from(rule.exactly || glob::is_literal(glob.as_bytes()))
        }
        _ => 0,
    };
    let is_narrow_kind = [KindSet::MPTCP, KindSet::UDPLITE]
        .iter()
        .any(|kind| rule.kinds == super::Kinds::Of(*kind));
    (
        rule.action == Action::Allow,
        program,
        ports,
        is_narrow_kind,
        !rule.exactly,
    )
}

/// Which of them decide something, if the widest come first.
fn needed(
    policy: &Policy,
    found: &[Candidate],
    runs: &[Vec<Call>],
    options: &Options,
    users: &dyn Resolver,
) -> Result<Vec<bool>, Vec<Diagnostic>> {
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|i| found.get(*i).map(|c| narrowness(&c.rule)));
    let mut whole = policy.clone();
    let first = whole.rules.len();
    let ordered = order.iter().filter_map(|i| found.get(*i));
    whole.rules.extend(ordered.map(|c| c.rule.clone()));
    let (compiled, _) = compile(&whole, users)?;
    let view = View::new(&compiled.words).map_err(|_| Vec::new())?;
    let is_sure = |c: &Candidate| c.rule.action != Action::Allow;
    let mut needed: Vec<bool> = found.iter().map(is_sure).collect();
    for candidate in found {
        for (r, c) in &candidate.calls {
            let Some(call) = runs.get(*r).and_then(|run| run.get(*c)) else {
                continue;
            };
            let decided = deciding(&view, call, options);
            let place = decided.and_then(|rule| (rule as usize).checked_sub(first));
            let place = place.and_then(|at| order.get(at));
            if let Some(needed) = place.and_then(|at| needed.get_mut(*at)) {
                *needed = true;
            }
        }
    }
    Ok(needed)
}

/// The rule that decides, where none does that counts its matches.
fn deciding(view: &View<'_>, call: &Call, options: &Options) -> Option<u32> {
    struct UsedUp;
    impl Times for UsedUp {
        fn take(&self, _: u32, _: Uses) -> bool {
            false
        }
    }
    if call.op == Op::Exec {
        return view.exec(&call.exec_query(options), &UsedUp).rule;
    }
    view.decide(&call.query(options), &UsedUp).rule
}

/// A rule with the record that it was made for.
fn line(candidate: &Candidate, runs: &[Vec<Call>]) -> String {
    const COLUMN: usize = 50;
    let call = |(r, c): &(usize, usize)| runs.get(*r)?.get(*c);
    let comments: BTreeSet<_> = candidate
        .calls
        .iter()
        .filter_map(call)
        .map(|c| &c.comment)
        .collect();
    let comment = candidate
        .calls
        .first()
        .and_then(call)
        .map_or("", |c| c.comment.as_str());
    let more = match comments.len() {
        0 | 1 => String::new(),
        n => format!("; {} more", n - 1),
    };
    let text = format!("{:COLUMN$} # {comment}{more}", candidate.rule.to_string());
    text.replace(is_unprintable, "?")
}

#[cfg(test)]
mod tests;
