//! `expect` and `forbid` lines: what a check wants to see of a run.

use alloc::format;
use alloc::string::ToString;
use core::fmt;

use super::Op;
use super::ast::{Exit, Expectation, Expected, Program, Sockets, Term};
use super::lex::Word;
use super::parse::{A_PROGRAM, Line};
use super::print::{self, Errno, Quoted};
use super::terms;
use crate::socket::BindOptions;

/// Words that follow what an expectation is about.
const TAILS: &[&str] = &["within", "for", "before", "after", "at"];

/// What a line can be about.
const SUBJECTS: [&str; 9] = [
    "listen", "bind", "socket", "connect", "exec", "option", "retry", "no", "exit",
];
/// Of `forbid`.
const FORBIDDEN: [&str; 6] = ["listen", "bind", "socket", "connect", "exec", "option"];

/// Signals that end a program, by their names and numbers.
const SIGNALS: [(&str, u8); 12] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGPIPE", 13),
    ("SIGTERM", 15),
];

/// The names of signals that end a program, with their numbers.
pub fn signals() -> impl Iterator<Item = (&'static str, u8)> {
    SIGNALS.into_iter()
}

/// The name of a signal that ends a program.
#[must_use]
pub fn signal_name(number: u8) -> Option<&'static str> {
    let mut all = SIGNALS.iter();
    all.find(|(_, n)| *n == number).map(|(name, _)| *name)
}

/// Milliseconds of `5s`, `500ms`, `2m`; of a bare number, that many seconds.
#[must_use]
pub fn milliseconds(text: &str) -> Option<u32> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let scale = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(scale)
}

/// What follows what a line is about.
#[derive(Default)]
struct Tail {
    within_ms: Option<u32>,
    program: Option<Program>,
    after: Option<u16>,
    at_exit: bool,
}

impl Line<'_, '_, '_> {
    /// Reads an `expect` line, or a `forbid` one.
    pub fn expectation(&mut self, head: &Word, forbids: bool) {
        self.ends = TAILS;
        let verb = if forbids { "forbid" } else { "expect" };
        let subjects: &[&str] = if forbids { &FORBIDDEN } else { &SUBJECTS };
        let expected = format!("one of: {}", subjects.join(", "));
        let Some(w) = self.next() else {
            return self.missing(&expected);
        };
        let subject = match w.keyword() {
            Some(word) if subjects.contains(&word) => word,
            Some(word) if SUBJECTS.contains(&word) => {
                let message = format!("'{verb}' cannot be used with '{word}'");
                return self.p.error(Self::span(w), message, &expected, None);
            }
            _ => return self.wrong(w, "expectation", &expected, subjects.iter().copied()),
        };
        let before = self.p.errors();
        let Some((what, tail)) = self.subject(subject) else {
            return;
        };
        if self.p.errors() > before {
            return;
        }
        let (column, _) = Self::span(head);
        let (end, _) = self.end();
        let at = self.p.at((column, end.saturating_sub(column + 1).max(1)));
        self.p.policy.expectations.push(Expectation {
            forbids,
            what,
            within_ms: tail.within_ms,
            program: tail.program,
            at,
        });
    }

    fn subject(&mut self, subject: &str) -> Option<(Expected, Tail)> {
        match subject {
            "exec" => {
                let Some(w) = self.next() else {
                    self.missing(A_PROGRAM);
                    return None;
                };
                let sockets = Sockets {
                    kinds: super::Kinds::Any,
                    exactly: false,
                    term: Term::File(self.glob(w, &w.text)?),
                };
                let tail = self.ends_with(&["within", "for"])?;
                Some((Expected::Call(Op::Exec, sockets), tail))
            }
            "option" => {
                let option = self.option()?;
                self.word("on", "'on' and the sockets: on tcp *:8080")?;
                let sockets = self.sockets(Op::Bind)?;
                if self.peek().and_then(|w| w.keyword()) == Some("before") {
                    self.next();
                    self.word("bind", "'bind'")?;
                }
                let tail = self.ends_with(&["within", "for"])?;
                Some((Expected::Option(option, sockets), tail))
            }
            "retry" => {
                self.word("bind", "'bind': retry bind tcp *:8080 after EADDRINUSE")?;
                let sockets = self.sockets(Op::Bind)?;
                let tail = self.ends_with(&["after", "within", "for"])?;
                let Some(errno) = tail.after else {
                    self.missing("'after' and an error number: after EADDRINUSE");
                    return None;
                };
                Some((Expected::Retry(sockets, errno), tail))
            }
            "no" => {
                self.word("listener", "'listener'")?;
                let sockets = match self.peek().and_then(|w| w.keyword()) {
                    None | Some("at" | "for") => Sockets {
                        kinds: super::Kinds::Any,
                        exactly: false,
                        term: Term::Every,
                    },
                    Some(_) => self.sockets(Op::Listen)?,
                };
                let tail = self.ends_with(&["at", "for"])?;
                if !tail.at_exit {
                    self.missing("'at exit'");
                    return None;
                }
                Some((Expected::NoListener(sockets), tail))
            }
            "exit" => {
                let exit = self.exit()?;
                let tail = self.ends_with(&["within"])?;
                Some((Expected::Exit(exit), tail))
            }
            name => {
                let op = Op::ALL.into_iter().find(|op| op.name() == name)?;
                let sockets = self.sockets(op)?;
                let tail = self.ends_with(&["within", "for"])?;
                Some((Expected::Call(op, sockets), tail))
            }
        }
    }

    fn sockets(&mut self, op: Op) -> Option<Sockets> {
        let (kinds, exactly, term) = self.kinds_and_address(Some(op))?;
        let (kinds, term) = (kinds?, term?);
        Some(Sockets {
            kinds,
            exactly: exactly && term != Term::Every,
            term,
        })
    }

    /// One word that has to stand here.
    fn word(&mut self, word: &str, expected: &str) -> Option<()> {
        match self.next() {
            None => self.missing(expected),
            Some(w) if w.keyword() == Some(word) => return Some(()),
            Some(w) => self.wrong(w, "word", expected, [word]),
        }
        None
    }

    fn option(&mut self) -> Option<u8> {
        let names = || BindOptions::NAMES.iter().map(|(name, _)| *name);
        let mut expected = "an option:".to_string();
        for name in names() {
            expected = expected + " " + name;
        }
        let Some(w) = self.next() else {
            self.missing(&expected);
            return None;
        };
        let found = BindOptions::NAMES
            .iter()
            .find(|(name, _)| w.keyword() == Some(name));
        if found.is_none() {
            self.wrong(w, "option", &expected, names());
        }
        found.map(|(_, bit)| *bit)
    }

    fn exit(&mut self) -> Option<Exit> {
        const EXPECTED: &str = "a status from 0 to 255, or a signal like SIGTERM";
        let Some(w) = self.next() else {
            self.missing(EXPECTED);
            return None;
        };
        let status = terms::number(&w.text).and_then(|n| u8::try_from(n).ok());
        let signal = SIGNALS.iter().find(|(name, _)| w.keyword() == Some(name));
        match (status, signal) {
            (Some(status), _) => Some(Exit::Status(status)),
            (None, Some((_, number))) => Some(Exit::Signal(*number)),
            (None, None) => {
                let names = SIGNALS.iter().map(|(name, _)| *name);
                self.wrong(w, "end", EXPECTED, names);
                None
            }
        }
    }

    /// Reads the rest of the line. `None` after an error.
    fn ends_with(&mut self, valid: &[&str]) -> Option<Tail> {
        let before = self.p.errors();
        let mut tail = Tail::default();
        let mut seen = alloc::vec::Vec::new();
        while let Some(w) = self.next() {
            let left = valid.iter().copied().filter(|k| !seen.contains(k));
            let left: alloc::vec::Vec<&str> = left.collect();
            let expected = match left.as_slice() {
                [] => "the end of the line".to_string(),
                left => format!("the end of the line or one of: {}", left.join(", ")),
            };
            let key = match w.keyword() {
                Some(k) if left.contains(&k) => k,
                Some(k) if seen.contains(&k) => {
                    let message = format!("'{k}' is given twice");
                    self.p.error(Self::span(w), message, "", None);
                    return None;
                }
                _ => {
                    self.wrong(w, "word", &expected, left);
                    return None;
                }
            };
            seen.push(key);
            const TIME: &str = "a time like 5s, 500ms or 2m";
            let Some(v) = self.next() else {
                self.missing(match key {
                    "within" => TIME,
                    "after" => "an error number",
                    "at" => "'exit'",
                    _ => "a glob",
                });
                return None;
            };
            match key {
                "within" => match milliseconds(&v.text) {
                    Some(ms) => tail.within_ms = Some(ms),
                    None => self.wrong(v, "time", TIME, []),
                },
                "after" => tail.after = self.errno(v),
                "at" if v.keyword() == Some("exit") => tail.at_exit = true,
                "at" => self.wrong(v, "moment", "'exit'", ["exit"]),
                _ => tail.program = self.program(v),
            }
        }
        (self.p.errors() == before).then_some(tail)
    }
}

/// A time as it is written: in the largest unit that leaves nothing over.
struct Time(u32);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms % 60_000 == 0 && ms > 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Status(status) => write!(f, "{status}"),
            Exit::Signal(number) => match signal_name(number) {
                Some(name) => f.write_str(name),
                None => write!(f, "signal {number}"),
            },
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.forbids { "forbid" } else { "expect" })?;
        let sockets = |f: &mut fmt::Formatter<'_>, op, s: &Sockets| {
            print::sockets(f, op, s.kinds, s.exactly, &s.term)
        };
        match &self.what {
            Expected::Call(op, s) => {
                write!(f, " {}", op.name())?;
                sockets(f, *op, s)?;
            }
            Expected::Option(option, s) => {
                let named = BindOptions::NAMES.iter().find(|(_, bit)| bit == option);
                write!(f, " option {} on", named.map_or("?", |(name, _)| *name))?;
                sockets(f, Op::Bind, s)?;
                f.write_str(" before bind")?;
            }
            Expected::Retry(s, errno) => {
                f.write_str(" retry bind")?;
                sockets(f, Op::Bind, s)?;
                write!(f, " after {}", Errno(*errno))?;
            }
            Expected::NoListener(s) => {
                f.write_str(" no listener")?;
                if (s.kinds, &s.term) != (super::Kinds::Any, &Term::Every) {
                    sockets(f, Op::Listen, s)?;
                }
                f.write_str(" at exit")?;
            }
            Expected::Exit(exit) => write!(f, " exit {exit}")?,
        }
        if let Some(ms) = self.within_ms {
            write!(f, " within {}", Time(ms))?;
        }
        match &self.program {
            Some(Program::Executable(glob)) => write!(f, " for {}", Quoted(glob)),
            Some(Program::Script(glob)) => write!(f, " for script:{}", Quoted(glob)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Source, parse};

    fn printed(text: &str) -> alloc::string::String {
        let parsed = parse(&[Source { name: "t", text }]);
        parsed.unwrap().to_string()
    }

    #[test]
    fn what_is_printed_says_the_same() {
        for line in [
            "expect listen tcp 127.0.0.1:8080 within 5s",
            "expect option reuseaddr on tcp *:8080 before bind",
            "forbid bind any 0.0.0.0:*",
            "forbid socket raw",
            "expect retry bind tcp *:8080 after EADDRINUSE within 500ms",
            "expect no listener at exit",
            "expect no listener tcp *:80 at exit",
            "expect exit 0",
            "expect exit SIGTERM within 2m",
            "expect exec /usr/bin/true for script:/opt/**",
            "forbid option v6only on tcp exactly [::]:* before bind",
            "expect bind unix /run/within for nginx",
            "expect connect vsock 2:5000",
            "expect listen unix @x",
        ] {
            assert_eq!(printed(line).trim_end(), line);
        }
        assert_eq!(milliseconds("1m"), Some(60_000));
        assert_eq!(milliseconds("3"), Some(3000));
        assert_eq!(milliseconds("5h"), None);
        assert_eq!(milliseconds(""), None);
        assert_eq!(milliseconds("9999999999s"), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, message) in [
            ("expect", "the line ends after 'expect'"),
            ("expect lisen tcp *:80", "unknown expectation 'lisen'"),
            ("forbid exit 0", "'forbid' cannot be used with 'exit'"),
            ("expect listen tcp *:80 within soon", "unknown time 'soon'"),
            (
                "expect option reusaddr on tcp *:80",
                "unknown option 'reusaddr'",
            ),
            ("expect no listener", "the line ends after 'listener'"),
            ("expect retry bind tcp *:80", "the line ends after '*:80'"),
            ("expect exit 256", "unknown end '256'"),
            ("expect listen tcp *:80 at exit", "unknown word 'at'"),
            (
                "expect bind tcp *:80 within 1s within 2s",
                "'within' is given twice",
            ),
            ("expect listen tcp", ""),
        ] {
            let parsed = parse(&[Source {
                name: "t",
                text: line,
            }]);
            match parsed {
                Ok(_) => assert_eq!(message, "", "{line}"),
                Err(errors) => {
                    assert_eq!(errors.first().unwrap().message, message, "{line}");
                }
            }
        }
    }
}
