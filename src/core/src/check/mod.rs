//! What a check expects of a run, and whether it has come about.
//!
//! `expect` and `forbid` lines of a policy ([`crate::policy::Expectation`]) are fed with
//! what happens: [`Check::call`] with each call, [`Check::time`] with the time that has
//! passed, [`Check::exited`] with the program's end. [`Check::results`] says of each line
//! whether it holds, and by which call. The driver starts the program and ends it.

mod line;
mod pattern;

pub use line::{Near, Outcome, State, Why};
pub use pattern::{Pattern, Subject, Way, listens, of_the_kinds};

use alloc::string::String;
use alloc::vec::Vec;

use crate::addr::Addr;
use crate::policy::{Diagnostic, Exit, Op, Paths, Policy};
use crate::socket::{BindOptions, SocketType};

use line::Item;

/// One call of the run, as a check sees it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which record it is, in the words of the driver.
    pub record: usize,
    /// Milliseconds since the program's start.
    pub at_ms: u64,
    /// What was called.
    pub op: Op,
    /// What the socket is.
    pub socket: SocketType,
    /// The address that the program asked for; of a listen, that it has.
    pub addr: Option<Addr>,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// Of a bind: the options before it; `None` if they are not known.
    pub options: Option<BindOptions>,
    /// The error by its number, 0 for success.
    pub errno: u16,
    /// A bind that listen(2) has done.
    pub by_listen: bool,
    /// The executable.
    pub program: Vec<u8>,
    /// The script that it runs.
    pub script: Vec<u8>,
    /// Of an exec: the file.
    pub file: Vec<u8>,
}

impl Call {
    fn subject(&self) -> Subject<'_> {
        Subject {
            socket: self.socket,
            addr: self.addr.as_ref(),
            v6only: self.v6only,
            by_listen: self.by_listen,
            paths: Paths {
                program: &self.program,
                script: &self.script,
            },
            file: &self.file,
        }
    }
}

/// Something that listens when the program has ended.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What it is.
    pub socket: SocketType,
    /// Where.
    pub addr: Option<Addr>,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// The executable that bound it.
    pub program: Vec<u8>,
    /// In the words of the driver: who has it.
    pub text: String,
}

/// How the program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// With which status, or by which signal.
    pub how: Exit,
    /// Milliseconds since its start.
    pub at_ms: u64,
    /// The check had asked it to end.
    pub was_told: bool,
    /// It had to be killed.
    pub was_killed: bool,
}

/// The lines of a policy, and what has become of them.
pub struct Check {
    items: Vec<Item>,
}

impl Check {
    /// The lines of a policy, none of which has come about yet; `only` one of them, by
    /// its number from 1.
    ///
    /// # Errors
    /// What no socket can be.
    pub fn new(policy: &Policy, only: Option<usize>) -> Result<Check, Vec<Diagnostic>> {
        let all = policy.expectations.iter().enumerate();
        let wanted = all.filter(|(n, _)| only.is_none_or(|only| only == n + 1));
        let items = wanted.map(|(n, e)| Item::new(n + 1, e, policy));
        Ok(Check {
            items: items.collect::<Result<_, _>>()?,
        })
    }

    /// A call was made.
    pub fn call(&mut self, call: &Call) {
        for item in &mut self.items {
            item.call(call);
        }
    }

    /// So much time has passed since the program's start.
    pub fn time(&mut self, now_ms: u64) {
        for item in &mut self.items {
            item.time(now_ms);
        }
    }

    /// When [`Check::time`] has something to do next, in milliseconds since the program's
    /// start.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        self.items.iter().filter_map(Item::deadline_ms).min()
    }

    /// The program has ended, and this is what listens in the run.
    pub fn exited(&mut self, end: &End, listeners: &[Listener]) {
        for item in &mut self.items {
            item.exited(end, listeners);
        }
    }

    /// Nothing more will come. `timed_out`: because the time was up.
    pub fn over(&mut self, timed_out: bool) {
        for item in &mut self.items {
            item.over(timed_out);
        }
    }

    /// Has everything that can come about while the program runs come about, or become
    /// impossible? Where nothing is of that kind: is every line settled?
    #[must_use]
    pub fn is_met(&self) -> bool {
        let is_settled = |item: &Item| item.outcome().state != State::Open;
        let mut live = self.items.iter().filter(|item| item.is_live()).peekable();
        match live.peek() {
            Some(_) => live.all(is_settled),
            None => self.items.iter().all(is_settled),
        }
    }

    /// What has become of each line, in their order.
    pub fn results(&self) -> impl ExactSizeIterator<Item = &Outcome> {
        self.items.iter().map(Item::outcome)
    }

    /// Does what is known of some line so far rest on this record?
    #[must_use]
    pub fn refers_to(&self, record: usize) -> bool {
        self.items.iter().any(|item| item.refers_to(record))
    }

    /// Do all lines hold?
    #[must_use]
    pub fn holds(&self) -> bool {
        self.results().all(|outcome| outcome.state == State::Held)
    }
}

#[cfg(test)]
mod tests;
