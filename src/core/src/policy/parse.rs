//! Words into a policy. Every line is read, whatever is wrong with those
//! before it, so that all errors come at once.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::ast::{
    Action, At, Kinds, Policy, PortSet, Program, Rule, Sockets, SourceText, Term, User,
};
use super::diag::{Diagnostic, Severity, nearest};
use super::errno;
use super::lex::{Word, words};
use super::move_to;
use super::part::Fault;
use super::suggest;
use super::terms;
use super::{Op, Uses};

/// A text to parse, with the name that messages call it by: a file name,
/// `-r #1`, `BINDGATE_RULES`.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The name.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

/// Messages, at most; a file that is no policy at all need not be listed.
const MAX_DIAGNOSTICS: usize = 100;

/// Words that begin what follows the address of a rule.
pub(super) const MODIFIERS: &[&str] = &[
    "implicit",
    "with",
    "to",
    "unprivileged",
    "followed",
    "times",
    "after",
    "every",
    "for",
    "user",
];

/// What is expected where a program is to be named.
pub(super) const A_PROGRAM: &str = "a path like /usr/sbin/nginx, /opt/** or nginx";

const HEADS: &[&str] = &[
    "allow", "deny", "move", "hide", "note", "default", "mode", "host", "expect", "forbid",
];

pub(super) fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Parses sources in order, as one policy.
///
/// # Errors
/// Everything that is wrong with them, not only the first thing.
pub fn parse(sources: &[Source<'_>]) -> Result<Policy, Vec<Diagnostic>> {
    read(sources, true)
}

/// Parses what stands between the verb and the modifiers of a rule: `tcp *:8080`.
///
/// # Errors
/// What is wrong with it.
pub fn place(source: &Source<'_>) -> Result<Sockets, Vec<Diagnostic>> {
    let mut p = Parser::new(true);
    p.policy.sources.push(SourceText {
        name: source.name.to_string(),
        text: source.text.to_string(),
    });
    (p.line, p.text) = (1, source.text);
    let (words, broken) = words(source.text);
    if let Some(e) = broken {
        p.error((e.column, 1), e.message.to_string(), e.expected, None);
        return Err(p.diags);
    }
    let mut line = Line::new(&words, &mut p);
    let found = line.kinds_and_address(Some(Op::Listen));
    line.nothing_more();
    match found {
        Some((Some(kinds), exactly, Some(term))) if p.diags.is_empty() => Ok(Sockets {
            kinds,
            exactly: exactly && term != Term::Every,
            term,
        }),
        _ => Err(p.diags),
    }
}

/// Returns whether this is a line of a policy.
pub(super) fn is_line(text: &str) -> bool {
    read(&[Source { name: "", text }], false).is_ok()
}

fn read(sources: &[Source<'_>], suggests: bool) -> Result<Policy, Vec<Diagnostic>> {
    let mut p = Parser::new(suggests);
    for (i, source) in sources.iter().enumerate() {
        p.policy.sources.push(SourceText {
            name: source.name.to_string(),
            text: source.text.to_string(),
        });
        p.source = i as u32;
        for (n, text) in (1u32..).zip(source.text.split('\n')) {
            p.line = n;
            // A byte order mark is no word of ours.
            p.text = match n {
                1 => text.strip_prefix('\u{feff}').unwrap_or(text),
                _ => text,
            };
            p.one_line();
        }
    }
    if p.diags.is_empty() {
        Ok(p.policy)
    } else {
        Err(p.diags)
    }
}

pub(super) struct Parser<'a> {
    pub policy: Policy,
    pub mode_at: Option<At>,
    diags: Vec<Diagnostic>,
    /// Whole rules are suggested for what is not one.
    suggests: bool,
    source: u32,
    line: u32,
    text: &'a str,
}

impl Parser<'_> {
    fn new(suggests: bool) -> Self {
        Parser {
            policy: Policy::default(),
            mode_at: None,
            diags: Vec::new(),
            suggests,
            source: 0,
            line: 0,
            text: "",
        }
    }

    fn one_line(&mut self) {
        let line = self.text.strip_suffix('\r').unwrap_or(self.text);
        if let Some((before, _)) = line.split_once('\r') {
            // What follows would be part of a comment, unnoticed.
            let column = before.chars().count() as u32 + 1;
            let message = "a carriage return in the middle of a line".to_string();
            return self.error((column, 1), message, "lines that end with a newline", None);
        }
        let (words, broken) = words(self.text);
        if let Some(e) = broken {
            self.error((e.column, 1), e.message.to_string(), e.expected, None);
            return;
        }
        let before = self.diags.len();
        let mut line = Line::new(&words, self);
        line.read();
        self.suggest(before, &words);
    }

    /// Gives the first error of a line the rule that was probably meant, where
    /// no single word is to blame.
    fn suggest(&mut self, before: usize, words: &[Word]) {
        let suggests = self.suggests;
        if let Some(first) = self.diags.get_mut(before)
            && suggests
            && first.suggestion.is_none()
        {
            first.suggestion = suggest::line(words);
        }
    }

    pub fn error(
        &mut self,
        (column, width): (u32, u32),
        message: String,
        expected: &str,
        suggestion: Option<String>,
    ) {
        if self.diags.len() >= MAX_DIAGNOSTICS {
            return;
        }
        let last = self.diags.len() + 1 == MAX_DIAGNOSTICS;
        self.diags.push(Diagnostic {
            source_name: match self.policy.sources.get(self.source as usize) {
                Some(s) => s.name.clone(),
                None => String::new(),
            },
            line: self.line,
            column,
            width,
            snippet: self.text.trim_end().to_string(),
            message: if last {
                format!("{message} (and more errors, not listed)")
            } else {
                message
            },
            expected: (!expected.is_empty()).then(|| expected.to_string()),
            suggestion,
            severity: Severity::Error,
        });
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.diags.len()
    }

    pub fn at(&self, (column, width): (u32, u32)) -> At {
        At {
            source: self.source,
            line: self.line,
            column,
            width,
        }
    }

    pub fn place(&self, at: At) -> String {
        let name = match self.policy.sources.get(at.source as usize) {
            Some(s) => s.name.as_str(),
            None => "",
        };
        format!("{name}:{}", at.line)
    }
}

/// One line on its way.
pub(super) struct Line<'p, 'a, 't> {
    words: &'p [Word],
    pub pos: usize,
    pub p: &'a mut Parser<'t>,
    /// Words that may follow the address, besides the modifiers of rules.
    pub ends: &'static [&'static str],
}

/// What follows the address of a rule.
#[derive(Default)]
struct Tail {
    implicit: bool,
    with: Option<u16>,
    to: Option<(super::TargetSpec, At)>,
    uses: Option<Uses>,
    program: Option<Program>,
    user: Option<(User, At)>,
    unprivileged: bool,
    followed: bool,
}

impl<'p, 'a, 't> Line<'p, 'a, 't> {
    fn new(words: &'p [Word], p: &'a mut Parser<'t>) -> Self {
        Line {
            words,
            pos: 0,
            p,
            ends: &[],
        }
    }

    pub fn peek(&self) -> Option<&'p Word> {
        self.words.get(self.pos)
    }

    pub fn next(&mut self) -> Option<&'p Word> {
        let w = self.words.get(self.pos)?;
        self.pos += 1;
        Some(w)
    }

    pub fn span(w: &Word) -> (u32, u32) {
        w.span(0, w.text.len())
    }

    /// The place just after the last word.
    pub fn end(&self) -> (u32, u32) {
        match self.words.last() {
            Some(w) => {
                let (c, n) = Self::span(w);
                (c + n + 1, 1)
            }
            None => (1, 1),
        }
    }

    pub fn missing(&mut self, expected: &str) {
        let end = self.end();
        let last = self.words.last().map_or("", |w| w.text.as_str());
        let message = format!("the line ends after '{last}'");
        self.p.error(end, message, expected, None);
    }

    pub fn wrong<'v>(
        &mut self,
        w: &Word,
        what: &str,
        expected: &str,
        valid: impl IntoIterator<Item = &'v str>,
    ) {
        let message = format!("unknown {what} '{}'", w.text);
        let suggestion = nearest(&w.text, valid);
        self.p.error(Self::span(w), message, expected, suggestion);
    }

    pub fn fault(&mut self, w: &Word, f: Fault) {
        let span = w.span(f.start, f.end);
        let expected = f.expected.unwrap_or_default();
        self.p.error(span, f.message, &expected, f.suggestion);
    }

    pub fn nothing_more(&mut self) {
        if let Some(w) = self.next() {
            let message = format!("unexpected '{}'", w.text);
            self.p
                .error(Self::span(w), message, "the end of the line", None);
        }
    }

    fn read(&mut self) {
        let Some(head) = self.next() else {
            return;
        };
        match head.keyword() {
            Some("default") => self.default(head),
            Some("mode") => self.mode(head),
            Some("host") => self.host(head),
            Some(verb @ ("allow" | "deny" | "move" | "hide" | "note")) => self.rule(head, verb),
            Some("expect") => self.expectation(head, false),
            Some("forbid") => self.expectation(head, true),
            _ => {
                let expected =
                    "allow, deny, move, hide, note, default, mode, host, expect or forbid";
                self.wrong(head, "word", expected, HEADS.iter().copied());
            }
        }
    }

    pub fn errno(&mut self, w: &Word) -> Option<u16> {
        let found = match terms::number(&w.text) {
            Some(n) if (1..=u32::from(errno::MAX)).contains(&n) => Some(n as u16),
            Some(_) => None,
            None => errno::by_name(&w.text),
        };
        if found.is_none() {
            let expected = "a name like EACCES or a number from 1 to 4095";
            let names = errno::names();
            self.wrong(w, "error number", expected, names);
        }
        found
    }

    fn rule(&mut self, head: &Word, verb: &str) {
        let ops: &[&str] = match verb {
            "move" => &["bind", "connect"],
            "hide" => &["bind"],
            _ => &["socket", "bind", "listen", "connect", "exec"],
        };
        let expected_ops = format!("one of: {}", ops.join(", "));
        let Some(w) = self.next() else {
            return self.missing(&expected_ops);
        };
        let op = match Op::ALL.iter().find(|o| Some(o.name()) == w.keyword()) {
            Some(op) if ops.contains(&op.name()) => Some(*op),
            Some(op) => {
                let message = format!("'{verb}' cannot be used with '{}'", op.name());
                return self.p.error(Self::span(w), message, &expected_ops, None);
            }
            None if suggest::is_everything(&w.text) && self.peek().is_none() => {
                let message = format!("'{verb} {}' is not a rule", w.text);
                return self.p.error(Self::span(w), message, &expected_ops, None);
            }
            None if terms::kinds(w).is_ok() || suggest::is_like_address(&w.text) => {
                let message = format!("the operation is missing before '{}'", w.text);
                return self.p.error(Self::span(w), message, &expected_ops, None);
            }
            None => {
                self.wrong(w, "operation", &expected_ops, ops.iter().copied());
                if self.peek().is_none() {
                    return;
                }
                None
            }
        };
        let (kinds, exactly, term) = if op == Some(Op::Exec) {
            let Some(w) = self.next() else {
                return self.missing(A_PROGRAM);
            };
            let term = self.glob(w, &w.text).map(Term::File);
            (Some(Kinds::Any), false, term)
        } else {
            match self.kinds_and_address(op) {
                Some(found) => found,
                None => return,
            }
        };
        let tail = self.tail(verb, op, kinds);
        let (Some(op), Some(kinds), Some(term), Some(tail)) = (op, kinds, term, tail) else {
            return;
        };
        if self.p.policy.rules.len() >= super::MAX_RULES {
            // Said once; more of the same helps nobody.
            if self.p.policy.rules.len() == super::MAX_RULES && self.p.diags.is_empty() {
                let message = format!("more than {} rules", super::MAX_RULES);
                self.p.error(Self::span(head), message, "", None);
            }
            return;
        }
        let mut target_at = At::default();
        let action = match verb {
            "allow" => Action::Allow,
            "deny" => Action::Deny(tail.with.unwrap_or(errno::EACCES)),
            "hide" => Action::Hide,
            "note" => Action::Note,
            _ => match tail.to {
                Some((spec, at)) => {
                    target_at = at;
                    Action::Move(spec)
                }
                None => {
                    let end = self.end();
                    let message = "this move has no target".to_string();
                    return self.p.error(end, message, "'to' and a target", None);
                }
            },
        };
        let (user, user_at) = match tail.user {
            Some((user, at)) => (Some(user), at),
            None => (None, At::default()),
        };
        let (column, _) = Self::span(head);
        let (end, _) = self.end();
        let at = self.p.at((column, end.saturating_sub(column + 1).max(1)));
        self.p.policy.rules.push(Rule {
            action,
            op,
            kinds,
            exactly: exactly && term != Term::Every,
            term,
            implicit: tail.implicit,
            uses: tail.uses,
            program: tail.program,
            user,
            at,
            unprivileged: tail.unprivileged,
            followed: tail.followed,
            user_at,
            target_at,
        });
    }

    /// Kinds, `exactly` and the address, each `None` after an error in it;
    /// nothing where the line is not worth reading on.
    pub fn kinds_and_address(
        &mut self,
        op: Option<Op>,
    ) -> Option<(Option<Kinds>, bool, Option<Term>)> {
        let Some(w) = self.next() else {
            self.missing(&terms::kind_list());
            return None;
        };
        let number = match w.keyword() {
            Some("proto") => match self.next() {
                Some(n) => Some(n),
                None => {
                    self.missing(terms::PROTOCOL);
                    return None;
                }
            },
            _ => None,
        };
        let (w, read) = match number {
            Some(n) => (n, terms::protocol(n)),
            None => (w, terms::kinds(w)),
        };
        if read.is_err() && suggest::is_like_address(&w.text) {
            let message = format!("the kind of socket is missing before '{}'", w.text);
            let expected = terms::kind_list();
            self.p.error(Self::span(w), message, &expected, None);
            return None;
        }
        let kinds = match read {
            Ok(kinds) => Some(kinds),
            Err(f) => {
                self.fault(w, f);
                None
            }
        };
        let (exactly, term) = self.address(op, kinds);
        Some((kinds, exactly, term))
    }

    /// `exactly` and the address. `None` after an error in it.
    fn address(&mut self, op: Option<Op>, kinds: Option<Kinds>) -> (bool, Option<Term>) {
        let mut exactly = false;
        if let Some(w) = self.peek()
            && w.keyword() == Some("exactly")
        {
            self.pos += 1;
            exactly = true;
            if op == Some(Op::Socket) {
                let message = "'exactly' compares addresses, and socket() has none".to_string();
                self.p.error(Self::span(w), message, "", None);
            }
        }
        let Some(w) = self.peek() else {
            if exactly {
                self.missing("an address");
            }
            return (exactly, Some(Term::Every));
        };
        let ends = |k: &str| MODIFIERS.contains(&k) || self.ends.contains(&k);
        if w.keyword().is_some_and(ends) {
            return (exactly, Some(Term::Every));
        }
        self.pos += 1;
        if op == Some(Op::Socket) {
            let message = format!("unexpected '{}': socket() has no address", w.text);
            let s = nearest(&w.text, MODIFIERS.iter().copied());
            self.p.error(
                Self::span(w),
                message,
                "with, times, after, every, for or user",
                s,
            );
            return (exactly, None);
        }
        let Some(kinds) = kinds else {
            // Without its kind nobody knows how to read it.
            return (exactly, None);
        };
        match terms::term(w, kinds) {
            Ok(term) => (exactly, Some(term)),
            Err(f) => {
                self.fault(w, f);
                (exactly, None)
            }
        }
    }

    /// Reads the modifiers. `None` after an error.
    fn tail(&mut self, verb: &str, op: Option<Op>, kinds: Option<Kinds>) -> Option<Tail> {
        let before = self.p.diags.len();
        let mut tail = Tail::default();
        let mut seen: Vec<&str> = Vec::new();
        while let Some(w) = self.next() {
            let fits = |k: &str| match k {
                "with" => verb == "deny",
                "to" => verb == "move",
                "implicit" => op.is_none_or(|o| o == Op::Bind),
                "unprivileged" | "followed" => verb == "move" && op.is_none_or(|o| o == Op::Bind),
                _ => true,
            };
            let valid = MODIFIERS.iter().copied().filter(|k| fits(k));
            let valid: Vec<&str> = valid.filter(|k| !seen.contains(k)).collect();
            let expected = format!("the end of the line or one of: {}", valid.join(", "));
            let key = match w.keyword() {
                Some(k) if MODIFIERS.contains(&k) => k,
                _ => {
                    self.wrong(w, "word", &expected, valid);
                    continue;
                }
            };
            const COUNTS: [&str; 3] = ["times", "after", "every"];
            let counts = |k: &&str| COUNTS.contains(k);
            if seen.contains(&key) {
                let message = format!("'{key}' is given twice");
                self.p.error(Self::span(w), message, "", None);
            } else if let (true, Some(other)) = (counts(&key), seen.iter().copied().find(counts)) {
                let message = format!("'{key}' cannot be used with '{other}'");
                self.p.error(Self::span(w), message, "", None);
            } else if !fits(key) {
                let message = match key {
                    "implicit" => "'implicit' works in bind rules only".to_string(),
                    "unprivileged" | "followed" => {
                        format!("'{key}' works in 'move bind' rules only")
                    }
                    _ => format!("'{key}' cannot be used with '{verb}'"),
                };
                self.p.error(Self::span(w), message, &expected, None);
            }
            seen.push(key);
            let switch = match key {
                "implicit" => Some(&mut tail.implicit),
                "unprivileged" => Some(&mut tail.unprivileged),
                "followed" => Some(&mut tail.followed),
                _ => None,
            };
            if let Some(switch) = switch {
                *switch = true;
                continue;
            }
            let Some(v) = self.next() else {
                self.missing(match key {
                    "with" => "an error number",
                    "to" => "a target",
                    "times" | "after" | "every" => "a number",
                    "for" => "a glob",
                    _ => "a user",
                });
                break;
            };
            match key {
                "with" => tail.with = self.errno(v),
                "to" => match move_to::target(v, kinds.unwrap_or(Kinds::Any)) {
                    Ok(spec) => tail.to = Some((spec, self.p.at(Self::span(v)))),
                    Err(f) => self.fault(v, f),
                },
                "times" | "after" | "every" => match terms::number(&v.text) {
                    Some(n) if n > 0 => {
                        tail.uses = Some(match key {
                            "times" => Uses::Times(n),
                            "after" => Uses::After(n),
                            _ => Uses::Every(n),
                        });
                    }
                    _ => self.wrong(v, "count", "a number from 1 to 4294967295", []),
                },
                "for" => tail.program = self.program(v),
                _ => tail.user = Some((Self::user(v), self.p.at(Self::span(v)))),
            }
        }
        (self.p.diags.len() == before).then_some(tail)
    }

    pub fn program(&mut self, v: &Word) -> Option<Program> {
        let program = match v.text.strip_prefix("script:") {
            Some(glob) if v.bare >= 7 => Program::Script(glob.to_string()),
            _ => Program::Executable(v.text.clone()),
        };
        let (Program::Executable(glob) | Program::Script(glob)) = &program;
        self.glob(v, glob).map(|_| program.clone())
    }

    /// A glob over files that can be executed.
    pub fn glob(&mut self, v: &Word, glob: &str) -> Option<String> {
        if glob.is_empty() || glob.contains('\0') {
            let message = "an empty glob".to_string();
            self.p.error(Self::span(v), message, A_PROGRAM, None);
            return None;
        }
        Some(glob.to_string())
    }

    fn user(v: &Word) -> User {
        match terms::number(&v.text) {
            Some(n) => User::Id(n),
            None => User::Name(v.text.clone()),
        }
    }
}

/// Returns whether the ports include automatic ones.
pub(super) fn has_auto(ports: &[PortSet]) -> bool {
    ports
        .iter()
        .any(|p| matches!(p, PortSet::Any | PortSet::Auto))
}
