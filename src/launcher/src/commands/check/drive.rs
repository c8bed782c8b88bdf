//! The run of a check, from its start to its end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use bindgate_core::check::{Check, End};
use bindgate_core::policy::Exit;
use bindgate_core::shared::door;
use bindgate_os::{self as sys, Instant, process, signal, unix};

use super::feed;
use crate::events::{self, Event, Line};
use crate::runs::Found as Run;
use crate::watched::Watched;
use crate::{Failure, exit, shown};

/// What is to be run, and how.
pub struct Plan<'a> {
    /// Options of `bindgate run`.
    pub options: Vec<OsString>,
    /// The program and its arguments.
    pub command: &'a [OsString],
    /// Is it ended when all is met?
    pub until_met: bool,
    /// How long it may run.
    pub timeout: Duration,
    /// How long it may take to end.
    pub grace: Duration,
    /// Where the log goes.
    pub log: Option<&'a Path>,
}

/// What came of it.
pub struct Found {
    /// What became of each line.
    pub check: Check,
    /// The records that this rests on, in words.
    pub records: HashMap<usize, String>,
    /// What it did, each thing once, the first few of them.
    pub deeds: Vec<String>,
    /// Why nothing is sure.
    pub problems: Vec<String>,
    /// Was there a program?
    pub is_started: bool,
    /// How it ended.
    pub end: Option<End>,
    /// How long it ran.
    pub took: Duration,
}

impl Found {
    /// What the program did, up to its end.
    pub fn did(&self) -> String {
        self.deeds.iter().map(|deed| format!("{deed}; ")).collect()
    }

    /// The program cannot be checked.
    pub fn not_started(mut check: Check, problem: String) -> Found {
        check.over(false);
        Found {
            check,
            records: HashMap::new(),
            deeds: Vec::new(),
            problems: vec![problem],
            is_started: false,
            end: None,
            took: Duration::ZERO,
        }
    }
}

/// How long it may take to start the program.
const START: Duration = Duration::from_secs(10);

/// What the loop hears.
enum News {
    /// A line of the log, by its number.
    Line(usize, Box<Line>),
    /// The log cannot be read.
    Broken(String),
    /// The log is over, and so is the run.
    Over,
    /// `bindgate run` has ended.
    Ended(Option<ExitStatus>),
    /// Somebody wants the check to end.
    Interrupted,
}

/// How far the end of the run has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    /// The program runs.
    Running,
    /// It was told to end.
    Told,
    /// It is being killed.
    Killed,
    /// It has ended; others of the run were told to.
    Others,
    /// They are being killed.
    OthersKilled,
}

struct Driver<'a> {
    plan: &'a Plan<'a>,
    check: Check,
    run: Run,
    launcher: u32,
    begun: Instant,
    /// When the program started, by the clock of the log.
    started: Option<u64>,
    /// Its process.
    program: Option<(u32, OwnedFd)>,
    records: HashMap<usize, String>,
    deeds: Vec<String>,
    problems: Vec<String>,
    phase: Phase,
    since: Instant,
    timed_out: bool,
    /// The last line of the log was there.
    has_sums: bool,
    end: Option<End>,
    took: Duration,
}

/// Runs the program until its end.
pub fn run(check: Check, plan: &Plan<'_>) -> Result<Found, Failure> {
    let failed = |e: std::io::Error| Failure::new(exit::USAGE, "bindgate check", e);
    let log = match plan.log {
        Some(path) => {
            Some(File::create(path).map_err(|e| Failure::new(exit::USAGE, shown(path), e))?)
        }
        None => None,
    };
    let id = u64::from_ne_bytes(sys::random::<8>().map_err(failed)?).max(1);
    let id = format!("{id:016x}");
    let signals = signal::caught(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]).map_err(failed)?;
    let mut options: Vec<OsString> = vec!["--watched".into(), id.clone().into()];
    options.extend_from_slice(&plan.options);
    let begun = Instant::now();
    let watched = Watched::start(&options, plan.command)?;
    let launcher = watched.pid;
    let (lines, status) = watched.halves();
    let (tell, news) = channel();
    listen(tell.clone(), lines, log);
    let ended = tell.clone();
    thread::spawn(move || {
        let status = status.join().ok().and_then(Result::ok);
        let _ = ended.send(News::Ended(status));
    });
    thread::spawn(move || {
        let mut bytes = [0; 8];
        loop {
            sys::poll(&[signals.as_raw_fd()], Duration::MAX);
            let came = sys::read(&signals, &mut bytes);
            if came.is_ok_and(|n| n > 0) && tell.send(News::Interrupted).is_err() {
                return;
            }
        }
    });
    let driver = Driver {
        plan,
        check,
        run: Run { id },
        launcher,
        begun,
        started: None,
        program: None,
        records: HashMap::new(),
        deeds: Vec::new(),
        problems: Vec::new(),
        phase: Phase::Running,
        since: begun,
        timed_out: false,
        has_sums: false,
        end: None,
        took: Duration::ZERO,
    };
    driver.drive(&news)
}

/// Reads the log, and keeps a copy of it.
fn listen(tell: Sender<News>, lines: BufReader<PipeReader>, mut copy: Option<File>) {
    thread::spawn(move || {
        let mut lines = lines.lines();
        let mut number = 0;
        loop {
            let text = match lines.next() {
                None => break,
                Some(Err(e)) => {
                    let _ = tell.send(News::Broken(e.to_string()));
                    break;
                }
                Some(Ok(text)) => text,
            };
            number += 1;
            if let Some(file) = &mut copy
                && let Err(e) = writeln!(file, "{text}")
            {
                let _ = tell.send(News::Broken(format!("the log cannot be kept: {e}")));
                copy = None;
            }
            let news = match events::read(text.as_bytes()).next() {
                Some(Ok((_, line))) => News::Line(number, Box::new(line)),
                Some(Err(e)) => News::Broken(e.to_string()),
                None => continue,
            };
            if tell.send(news).is_err() {
                return;
            }
        }
        let _ = tell.send(News::Over);
    });
}

impl Driver<'_> {
    fn drive(mut self, news: &Receiver<News>) -> Result<Found, Failure> {
        let mut is_over = false;
        let mut has_ended = false;
        while !(is_over && has_ended) {
            let said = news.recv_timeout(self.patience());
            match said {
                Ok(News::Line(number, line)) => self.line(number, *line),
                Ok(News::Broken(why)) => self.problems.push(format!("the log: {why}")),
                Ok(News::Over) => is_over = true,
                Ok(News::Ended(status)) => {
                    has_ended = true;
                    self.ended(status, is_over)?;
                }
                Ok(News::Interrupted) => {
                    self.problems.push("the check was told to end".into());
                    self.advance(true);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_at_the_clock();
        }
        if !self.has_sums {
            let why = "the log ended before the run did: its process was killed";
            self.problems.push(why.into());
        }
        self.check.over(self.timed_out);
        Ok(Found {
            check: self.check,
            records: self.records,
            deeds: self.deeds,
            problems: self.problems,
            is_started: self.started.is_some() || self.end.is_some(),
            end: self.end,
            took: self.took,
        })
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// How long nothing has to be done.
    fn patience(&self) -> Duration {
        let at = match self.phase {
            Phase::Running => {
                let deadline = self.check.deadline_ms();
                let deadline = deadline.map_or(Duration::MAX, |ms| Duration::from_millis(ms + 1));
                self.plan
                    .timeout
                    .min(deadline)
                    .saturating_sub(self.begun.elapsed())
            }
            // Whoever comes after the last signal gets one, too.
            Phase::Killed | Phase::OthersKilled => Duration::from_millis(20),
            Phase::Told | Phase::Others => self.plan.grace.saturating_sub(self.since.elapsed()),
        };
        at.clamp(Duration::from_millis(1), Duration::from_secs(3600))
    }

    fn line(&mut self, number: usize, line: Line) {
        let micros = feed::micros(&line.time).unwrap_or(0);
        match line.event {
            Event::Decision(d) => self.call(number, &d, micros),
            Event::Unseen(d) => {
                self.call(number, &d, micros);
                let is_allowed =
                    d.rule.as_ref().is_some_and(|r| r.number > 0) && d.verdict == "allow";
                if !is_allowed {
                    let file = d.asked.as_deref().unwrap_or("a program");
                    let why = d.reason.as_deref().unwrap_or("?");
                    self.problems.push(format!(
                        "{file} cannot be intercepted ({why}): what it binds is not seen"
                    ));
                }
            }
            Event::Fault(d) => {
                let call = d.reason.as_deref().unwrap_or("?");
                self.problems
                    .push(format!("bindgate failed in a call of {call}"));
            }
            Event::Lost { count, why } => {
                self.problems.push(format!("{count} records lost: {why}"))
            }
            Event::End(end) => {
                self.has_sums = true;
                if end.unwritten > 0 {
                    self.problems
                        .push(format!("{} lines of the log were lost", end.unwritten));
                }
            }
            Event::Started { pid } => {
                self.started = Some(micros);
                let held = process::pidfd(pid.cast_signed()).ok();
                self.program = held.map(|held| (pid, held));
            }
            _ => {}
        }
    }

    fn call(&mut self, number: usize, d: &events::Decision, micros: u64) {
        let at_ms = match self.started {
            Some(started) => micros.saturating_sub(started) / 1000,
            None => 0,
        };
        for call in feed::calls(d, number, at_ms) {
            self.check.call(&call);
        }
        /// As many fit on a line.
        const MOST: usize = 4;
        if let Some(deed) = feed::deed(d)
            && self.deeds.len() < MOST
            && !self.deeds.contains(&deed)
        {
            self.deeds.push(deed);
        }
        if self.check.refers_to(number) {
            self.records.insert(number, feed::described(d, at_ms));
        }
    }

    fn ended(&mut self, status: Option<ExitStatus>, is_over: bool) -> Result<(), Failure> {
        let how = match status.map(|s| (s.code(), s.signal())) {
            Some((Some(code), _)) => Exit::Status(code as u8),
            Some((None, Some(signal))) => Exit::Signal(signal as u8),
            _ => {
                return Err(Failure::say(
                    exit::USAGE,
                    "bindgate run has ended, nobody knows how",
                ));
            }
        };
        if self.started.is_none() && matches!(how, Exit::Status(2 | 71 | 73 | 78 | 126 | 127)) {
            // It has said why.
            return Err(Failure::say(exit::USAGE, ""));
        }
        self.took = self.begun.elapsed();
        let end = End {
            how,
            at_ms: self.now_ms(),
            was_told: self.phase >= Phase::Told,
            was_killed: self.phase == Phase::Killed,
        };
        let listed = match is_over {
            true => None,
            false => self.run.list(),
        };
        let listed = listed.and_then(|text| serde_json::from_str(&text).ok());
        let listeners = listed.as_ref().map_or_else(Vec::new, feed::listeners);
        self.check.exited(&end, &listeners);
        self.end = Some(end);
        if !is_over {
            (self.phase, self.since) = (Phase::Others, Instant::now());
            self.signal_all(libc::SIGTERM);
        }
        Ok(())
    }

    fn look_at_the_clock(&mut self) {
        self.check.time(self.now_ms());
        match self.phase {
            // Before there is a program there is nothing to be told to end.
            Phase::Running if self.started.is_none() && self.begun.elapsed() < START => {}
            Phase::Running if self.begun.elapsed() >= self.plan.timeout => {
                self.timed_out = true;
                self.advance(false);
            }
            Phase::Running if self.plan.until_met && self.check.is_met() => self.advance(false),
            Phase::Told | Phase::Others if self.since.elapsed() >= self.plan.grace => {
                self.advance(false);
            }
            Phase::OthersKilled => self.signal_all(libc::SIGKILL),
            _ => {}
        }
    }

    /// The next step towards the end.
    fn advance(&mut self, at_once: bool) {
        self.since = Instant::now();
        self.phase = match self.phase {
            Phase::Running => {
                // The launcher passes it on.
                let _ = process::signal(self.launcher, None, libc::SIGTERM);
                Phase::Told
            }
            Phase::Told | Phase::Killed => {
                // It alone: what others of the run hold is to be seen when it has ended.
                match &self.program {
                    Some((pid, held)) => drop(process::signal(*pid, Some(held), libc::SIGKILL)),
                    None => self.signal_all(libc::SIGKILL),
                }
                Phase::Killed
            }
            Phase::Others if !at_once => {
                self.signal_all(libc::SIGKILL);
                Phase::OthersKilled
            }
            phase => phase,
        };
    }

    /// Sends a signal to each process of the run.
    fn signal_all(&self, number: i32) {
        let mut message = door::SIGNAL.to_vec();
        message.push(number as u8);
        if let Some(answer) = self.run.tell(&message) {
            let mut count = [0; 8];
            let _ = unix::receive(&answer, &mut count, true);
        }
    }
}
