//! One line of a check, and what has become of it.

use alloc::string::String;
use alloc::vec::Vec;

use super::pattern::{at_any_address, of_the_kinds};
use super::{Call, End, Listener, Pattern, Subject, Way};
use crate::policy::{Diagnostic, Exit, Expectation, Expected, Op, Paths, Policy, Sockets};
use crate::socket::BindOptions;

/// How far a line has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing is settled.
    Open,
    /// It holds.
    Held,
    /// The program never got there.
    Missing,
    /// The program did something else.
    Wrong,
}

/// What was nearest to an expectation that has not come about, the nearest last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Near {
    /// The same kind of socket, elsewhere.
    Kind,
    /// The same port, at another address.
    Port,
    /// The address was bound, and nobody listened.
    Bound,
    /// The very call, which failed.
    Failed,
}

/// Why a line holds, or does not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// Nothing has happened yet.
    Nothing,
    /// By this record.
    Record(usize),
    /// Something like it has happened, and nothing nearer.
    Instead(Near, usize),
    /// It came too late.
    Late(usize),
    /// The socket did not have the option; or it is not known which it had.
    WithoutOption(usize, bool),
    /// It had the option that is forbidden.
    WithOption(usize),
    /// It failed, and was not tried again.
    NotAgain(usize),
    /// No bind failed with that error.
    NothingFailed,
    /// Nothing of the kind has happened.
    Never,
    /// These listened when the program had ended.
    Listeners(Vec<String>),
    /// It ended so.
    Ended(End),
    /// It has not ended.
    RunsOn,
}

impl Why {
    /// The record that it rests on.
    #[must_use]
    pub fn record(&self) -> Option<usize> {
        match self {
            Why::Record(n)
            | Why::Instead(_, n)
            | Why::Late(n)
            | Why::WithoutOption(n, _)
            | Why::WithOption(n)
            | Why::NotAgain(n) => Some(*n),
            _ => None,
        }
    }
}

/// What has become of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Which line it is, from 1.
    pub number: usize,
    /// How far it has come.
    pub state: State,
    /// Why.
    pub why: Why,
    /// When that was settled, in milliseconds since the program's start.
    pub at_ms: u64,
    /// The time was up.
    pub timed_out: bool,
}

/// A line at work.
pub(super) struct Item {
    line: Expectation,
    exact: Option<Pattern>,
    /// Of `expect listen`: the bind before it.
    bind: Option<Pattern>,
    port: Option<Pattern>,
    kind: Option<Pattern>,
    nearest: Option<(Near, usize)>,
    /// Of `retry`: the bind that failed.
    failed: Option<usize>,
    outcome: Outcome,
}

impl Item {
    pub fn new(
        number: usize,
        line: &Expectation,
        policy: &Policy,
    ) -> Result<Item, Vec<Diagnostic>> {
        let way = match line.forbids {
            true => Way::Touching,
            false => Way::Within,
        };
        let mut item = Item {
            line: line.clone(),
            exact: None,
            bind: None,
            port: None,
            kind: None,
            nearest: None,
            failed: None,
            outcome: Outcome {
                number,
                state: State::Open,
                why: Why::Nothing,
                at_ms: 0,
                timed_out: false,
            },
        };
        let located = |errors: Vec<Diagnostic>| -> Vec<Diagnostic> {
            let here = |d: Diagnostic| Diagnostic {
                expected: d.expected.clone(),
                suggestion: d.suggestion.clone(),
                ..Diagnostic::at(policy, line.at, d.severity, d.message)
            };
            errors.into_iter().map(here).collect()
        };
        let pattern = |sockets: &Sockets, op, way| {
            Pattern::new(sockets, op, way, line.program.clone()).map_err(located)
        };
        match &line.what {
            Expected::Call(op, sockets) => {
                item.exact = Some(pattern(sockets, *op, way)?);
                if !line.forbids && *op != Op::Exec {
                    if *op == Op::Listen {
                        item.bind = Some(pattern(sockets, Op::Bind, Way::Within)?);
                    }
                    item.port = at_any_address(sockets)
                        .map(|s| pattern(&s, *op, Way::Within))
                        .transpose()?;
                    let kinds = of_the_kinds(sockets);
                    item.kind = Some(pattern(&kinds, *op, Way::Within)?);
                }
            }
            Expected::Option(_, sockets) | Expected::Retry(sockets, _) => {
                item.exact = Some(pattern(sockets, Op::Bind, way)?);
                if !line.forbids {
                    item.port = at_any_address(sockets)
                        .map(|s| pattern(&s, Op::Bind, Way::Within))
                        .transpose()?;
                    let kinds = of_the_kinds(sockets);
                    item.kind = Some(pattern(&kinds, Op::Bind, Way::Within)?);
                }
            }
            Expected::NoListener(sockets) => {
                item.exact = Some(pattern(sockets, Op::Listen, Way::Touching)?);
            }
            Expected::Exit(_) => {}
        }
        Ok(item)
    }

    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Can it come about while the program runs?
    pub fn is_live(&self) -> bool {
        let at_the_end = matches!(self.line.what, Expected::NoListener(_) | Expected::Exit(_));
        !self.line.forbids && !at_the_end
    }

    pub fn deadline_ms(&self) -> Option<u64> {
        let within = self.line.within_ms.map(u64::from);
        within.filter(|_| self.outcome.state == State::Open && !self.line.forbids)
    }

    pub fn refers_to(&self, record: usize) -> bool {
        let is_near = self.nearest.is_some_and(|(_, near)| near == record);
        is_near || self.failed == Some(record) || self.outcome.why.record() == Some(record)
    }

    fn settle(&mut self, state: State, why: Why, at_ms: u64) {
        (self.outcome.state, self.outcome.why, self.outcome.at_ms) = (state, why, at_ms);
    }

    fn is(pattern: Option<&Pattern>, subject: &Subject<'_>) -> bool {
        pattern.is_some_and(|pattern| pattern.matches(subject))
    }

    fn near(&mut self, near: Near, record: usize) {
        if self.nearest.is_none_or(|(before, _)| near >= before) {
            self.nearest = Some((near, record));
        }
    }

    pub fn call(&mut self, call: &Call) {
        match self.line.what {
            Expected::Call(op, _) if self.line.forbids => self.forbidden(op, call),
            Expected::Call(op, _) => self.expected(op, call),
            Expected::Option(option, _) if call.op == Op::Bind => self.option(option, call),
            Expected::Retry(_, errno) if call.op == Op::Bind => self.retry(errno, call),
            _ => {}
        }
    }

    fn forbidden(&mut self, op: Op, call: &Call) {
        let is_open = self.outcome.state == State::Open;
        let is_in_time = self
            .line
            .within_ms
            .is_none_or(|ms| call.at_ms <= u64::from(ms));
        if is_open && is_in_time && call.op == op && Self::is(self.exact.as_ref(), &call.subject())
        {
            self.settle(State::Wrong, Why::Record(call.record), call.at_ms);
        }
    }

    fn expected(&mut self, op: Op, call: &Call) {
        if self.outcome.state != State::Open {
            return;
        }
        let subject = call.subject();
        if op == Op::Listen && call.op == Op::Bind && Self::is(self.bind.as_ref(), &subject) {
            let near = match call.errno {
                0 => Near::Bound,
                _ => Near::Failed,
            };
            return self.near(near, call.record);
        }
        if call.op != op {
            return;
        }
        if Self::is(self.exact.as_ref(), &subject) {
            if call.errno != 0 {
                return self.near(Near::Failed, call.record);
            }
            match self.line.within_ms {
                Some(ms) if call.at_ms > u64::from(ms) => {
                    self.settle(State::Wrong, Why::Late(call.record), call.at_ms);
                }
                _ => self.settle(State::Held, Why::Record(call.record), call.at_ms),
            }
        } else {
            self.elsewhere(call, &subject);
        }
    }

    fn elsewhere(&mut self, call: &Call, subject: &Subject<'_>) {
        if Self::is(self.port.as_ref(), subject) {
            self.near(Near::Port, call.record);
        } else if Self::is(self.kind.as_ref(), subject) {
            self.near(Near::Kind, call.record);
        }
    }

    fn option(&mut self, option: u8, call: &Call) {
        if self.outcome.state == State::Wrong {
            return;
        }
        let subject = call.subject();
        if !Self::is(self.exact.as_ref(), &subject) {
            return self.elsewhere(call, &subject);
        }
        let known = call.options.filter(|o| !o.has(BindOptions::UNKNOWN));
        let (state, why) = match (known.map(|o| o.has(option)), self.line.forbids) {
            (Some(true), true) => (State::Wrong, Why::WithOption(call.record)),
            (_, true) => return,
            (Some(true), false) if self.outcome.state == State::Held => return,
            (Some(true), false) => (State::Held, Why::Record(call.record)),
            (has, false) => (State::Wrong, Why::WithoutOption(call.record, has.is_some())),
        };
        self.settle(state, why, call.at_ms);
    }

    fn retry(&mut self, errno: u16, call: &Call) {
        if self.outcome.state != State::Open {
            return;
        }
        let subject = call.subject();
        if !Self::is(self.exact.as_ref(), &subject) {
            return self.elsewhere(call, &subject);
        }
        match (self.failed, self.line.within_ms) {
            (Some(_), Some(ms)) if call.at_ms > u64::from(ms) => {
                self.settle(State::Wrong, Why::Late(call.record), call.at_ms);
            }
            (Some(_), _) => self.settle(State::Held, Why::Record(call.record), call.at_ms),
            (None, _) if call.errno == errno => self.failed = Some(call.record),
            (None, _) => self.near(Near::Failed, call.record),
        }
    }

    pub fn time(&mut self, now_ms: u64) {
        if self.deadline_ms().is_some_and(|deadline| now_ms > deadline) {
            match self.line.what {
                Expected::Exit(_) => self.settle(State::Wrong, Why::RunsOn, now_ms),
                _ => self.unmet(now_ms),
            }
            self.outcome.timed_out = true;
        }
    }

    /// It has not come about, and will not.
    fn unmet(&mut self, now_ms: u64) {
        let (state, why) = match (&self.line.what, self.failed, self.nearest) {
            (Expected::Retry(..), Some(record), _) => (State::Wrong, Why::NotAgain(record)),
            (Expected::Retry(..), None, None | Some((Near::Failed, _))) => {
                (State::Missing, Why::NothingFailed)
            }
            (Expected::Exit(_), ..) => (State::Wrong, Why::RunsOn),
            (_, _, Some((near, record))) => {
                let state = match near {
                    Near::Kind => State::Missing,
                    _ => State::Wrong,
                };
                (state, Why::Instead(near, record))
            }
            (_, _, None) => (State::Missing, Why::Never),
        };
        self.settle(state, why, now_ms);
    }

    pub fn exited(&mut self, end: &End, listeners: &[Listener]) {
        if self.outcome.state != State::Open {
            return;
        }
        match &self.line.what {
            Expected::NoListener(_) => {
                let is_it = |l: &&Listener| {
                    let subject = Subject {
                        socket: l.socket,
                        addr: l.addr.as_ref(),
                        v6only: l.v6only,
                        by_listen: false,
                        paths: Paths {
                            program: &l.program,
                            script: &[],
                        },
                        file: &[],
                    };
                    Self::is(self.exact.as_ref(), &subject)
                };
                let left = listeners.iter().filter(is_it);
                let left: Vec<String> = left.map(|l| l.text.clone()).collect();
                match left.is_empty() {
                    true => self.settle(State::Held, Why::Ended(*end), end.at_ms),
                    false => self.settle(State::Wrong, Why::Listeners(left), end.at_ms),
                }
            }
            Expected::Exit(expected) => {
                let in_time = self
                    .line
                    .within_ms
                    .is_none_or(|ms| end.at_ms <= u64::from(ms));
                let is_it = end.how == *expected && in_time && !end.was_killed;
                // A program without a handler ends by the signal that it was sent, which
                // `expect exit SIGTERM` says.
                let state = if is_it || end.was_killed && *expected == Exit::Signal(9) {
                    State::Held
                } else {
                    State::Wrong
                };
                self.settle(state, Why::Ended(*end), end.at_ms);
            }
            _ => {}
        }
    }

    pub fn over(&mut self, timed_out: bool) {
        if self.outcome.state != State::Open {
            return;
        }
        if self.line.forbids {
            return self.settle(State::Held, Why::Never, self.outcome.at_ms);
        }
        self.unmet(self.outcome.at_ms);
        self.outcome.timed_out = timed_out;
    }
}
