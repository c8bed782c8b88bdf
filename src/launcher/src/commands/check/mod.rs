//! `bindgate check`: runs a program, and says whether it did what is expected of it.
//!
//! What is met by what is decided in [`bindgate_core::check`]. This starts the run, feeds
//! the lines of its log, ends it when all is met, and writes the reports.

mod drive;
mod feed;
mod matrix;
mod report;
mod said;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bindgate_core::check::{Check, of_the_kinds};
use bindgate_core::policy::{Action, Expectation, Expected, Op, Policy};
use bindgate_core::reach::Stance;
use clap::{ValueEnum, ValueHint};

use super::{policy, wait};
use crate::args::RuleSource;
use crate::{Failure, exit, library, reach};
use matrix::Section;
use report::{Format, Report, Row, Wanted};

/// `bindgate check`, read.
#[derive(clap::Args, Debug)]
#[command(
    after_long_help = crate::args::CHECK_HELP.0,
    override_usage = "bindgate check [OPTIONS] [--] <PROGRAM> [ARG]..."
)]
pub struct Args {
    /// Read rules and expectations from a file; may be given more than once
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: Vec<PathBuf>,
    /// Add one rule, written as in a policy file
    #[arg(long, short, value_name = "RULE", allow_hyphen_values = true)]
    rule: Vec<String>,
    /// Add one expectation, written as in a policy file; `expect` may be left out
    #[arg(long = "expect", short = 'e', value_name = "EXPECTATION")]
    expectations: Vec<String>,
    /// Expect that something listens there; PLACE is as in `bindgate wait`
    #[arg(long, value_name = "PLACE")]
    ready: Vec<String>,
    /// Check only the expectation with this number
    #[arg(long, value_name = "N")]
    only: Option<usize>,
    /// End the program when all is met, or wait until it ends by itself
    #[arg(long, value_name = "WHEN", default_value = "met")]
    until: Until,
    /// How long the program may run, as 30s, 500ms or 2m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = wait::time)]
    timeout: Duration,
    /// How long it may take to end after SIGTERM; then SIGKILL ends it
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = wait::time)]
    grace: Duration,
    /// Write a report: text, junit, json, sarif, tap, github or markdown, to standard
    /// output or =FILE; may be given more than once [default: text]
    #[arg(long, value_name = "FORMAT[=FILE]", value_parser = Wanted::parse)]
    report: Vec<Wanted>,
    /// Check the program on each host and day of a file, one after the other
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    matrix: Option<PathBuf>,
    /// Check only on this one of them
    #[arg(long, value_name = "NAME", requires = "matrix")]
    host: Option<String>,
    /// Keep the log of the run, as JSON lines
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with = "matrix"
    )]
    log: Option<PathBuf>,
    /// Give an option to `bindgate run`, as --with=--isolate; may be given more than once
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    with: Vec<OsString>,
    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
    /// `--policy` and `-r` in the order in which they were given.
    #[arg(skip)]
    pub rules: Vec<RuleSource>,
}

/// Until when the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Until {
    /// Until all is met that can be met before the end; where nothing can, until it ends
    /// by itself
    Met,
    /// Until it ends by itself
    Exit,
}

/// What every failure of a check's own ends with.
fn own(failure: Failure) -> Failure {
    Failure {
        status: exit::USAGE,
        ..failure
    }
}

/// `bindgate check`
pub fn check(args: &Args) -> Result<i32, Failure> {
    checked(args).map_err(own)
}

fn checked(args: &Args) -> Result<i32, Failure> {
    let report = match &args.matrix {
        None => one(args, None)?.1,
        Some(file) => many(args, file)?,
    };
    let text = [Wanted {
        format: Format::Text,
        file: None,
    }];
    let wanted = match args.report.is_empty() {
        true => &text[..],
        false => &args.report,
    };
    report.write(wanted)?;
    Ok(i32::from(!report.holds()))
}

/// One run: what the program did, and what there is to say of it.
fn one(args: &Args, section: Option<&Section>) -> Result<(String, Report), Failure> {
    let parsed = gathered(args, section)?;
    let compiled = policy::compile(&parsed)?;
    let count = parsed.expectations.len();
    if count == 0 && section.is_none() {
        let hint = "nothing is expected of the program: write `-e 'expect listen tcp *:8080'`, \
                    or `expect` and `forbid` lines into the policy";
        return Err(Failure::say(exit::USAGE, hint));
    }
    if let Some(only) = args.only.filter(|n| *n == 0 || *n > count) {
        let message = format!("--only {only}: there are {count} expectations");
        return Err(Failure::say(exit::USAGE, message));
    }
    let check = Check::new(&parsed, args.only).map_err(|d| policy::broken(&d))?;
    let command = match section {
        Some(section) => section.command(&args.command),
        None => args.command.clone(),
    };
    let found = match obstacle(args, &compiled)? {
        Some(problem) => drive::Found::not_started(check, problem),
        None => drive::run(
            check,
            &drive::Plan {
                options: options(args, section, &parsed),
                command: &command,
                until_met: args.until == Until::Met,
                timeout: args.timeout,
                grace: args.grace,
                log: args.log.as_deref(),
            },
        )?,
    };
    let did = found.did();
    Ok((did, reported(args, &parsed, found)))
}

/// One run after the other, as one report.
fn many(args: &Args, file: &Path) -> Result<Report, Failure> {
    let source = policy::read(file)?;
    let mut sections = matrix::read(&source.name, &source.text)?;
    if let Some(host) = &args.host {
        sections.retain(|section| section.name == *host);
        if sections.is_empty() {
            let message = format!("{}: there is no section [{host}]", source.name);
            return Err(Failure::say(exit::USAGE, message));
        }
    }
    let mut rows = Vec::new();
    let mut all: Option<Report> = None;
    for section in &sections {
        let named = Section {
            name: source.name.clone(),
            ..section.clone()
        };
        let (did, mut report) = one(args, Some(&named))?;
        let did = format!("{did}{}", report.ended);
        rows.push((section.name.clone(), report.holds(), did));
        for row in &mut report.rows {
            row.host = Some(section.name.clone());
        }
        for problem in &mut report.problems {
            *problem = format!("[{}] {problem}", section.name);
        }
        all = Some(match all {
            None => report,
            Some(mut before) => {
                before.rows.extend(report.rows);
                before.problems.extend(report.problems);
                before.took += report.took;
                before
            }
        });
    }
    let mut all = all.ok_or_else(|| Failure::say(exit::USAGE, "no section"))?;
    all.ended = match sections.len() {
        1 => "1 host".into(),
        n => format!("{n} hosts"),
    };
    all.table = rows;
    Ok(all)
}

/// The policy with all expectations.
fn gathered(args: &Args, section: Option<&Section>) -> Result<Policy, Failure> {
    let mut sources = policy::gather(&args.rules)?;
    sources.extend(section.map(|section| policy::Source {
        name: section.name.clone(),
        text: section.policy.clone(),
    }));
    let many = args.expectations.len() > 1;
    for (n, text) in args.expectations.iter().enumerate() {
        let has_verb = ["expect ", "forbid "]
            .iter()
            .any(|v| text.trim_start().starts_with(v));
        let verb = if has_verb { "" } else { "expect " };
        sources.push(policy::Source {
            name: match many {
                true => format!("-e #{}", n + 1),
                false => "-e".into(),
            },
            text: format!("{verb}{text}"),
        });
    }
    for place in &args.ready {
        let sockets = wait::sockets(std::slice::from_ref(place))?;
        sources.push(policy::Source {
            name: "--ready".into(),
            text: format!("expect listen {sockets}"),
        });
    }
    policy::parse(&sources)
}

/// Why the program, or what it consists of, cannot be intercepted, unless the policy lets
/// it start as it is.
fn obstacle(args: &Args, compiled: &policy::Compiled) -> Result<Option<String>, Failure> {
    let view = compiled.view()?;
    let library = library::find()?;
    let looker = reach::Looker {
        stance: Stance {
            enforces: true,
            allows: false,
            searched: true,
            looks_ahead: true,
        },
        view: Some(&view),
        library: &library,
    };
    let Some(found) = looker.look(&args.command) else {
        // exec says what is wrong.
        return Ok(None);
    };
    let obstacle = found.obstacle();
    let is_refused = |verdict: &bindgate_core::reach::Verdict| {
        verdict.refused.is_some() && !verdict.is_intercepted()
    };
    Ok(obstacle
        .filter(|(_, verdict)| is_refused(verdict))
        .map(|(link, _)| format!("{}: what it binds is not seen", reach::warning(link))))
}

/// The options of the run.
fn options(args: &Args, section: Option<&Section>, parsed: &Policy) -> Vec<OsString> {
    let mut options = Vec::new();
    // These stand in the log where a rule is about them.
    for e in &parsed.expectations {
        let noted = match &e.what {
            Expected::Call(Op::Exec, files) => files.rule(Action::Note, Op::Exec, None, e.at),
            Expected::Call(Op::Connect, sockets) => {
                let all = of_the_kinds(sockets);
                all.rule(Action::Note, Op::Connect, None, e.at)
            }
            _ => continue,
        };
        options.extend(["-r".into(), noted.to_string().into()]);
    }
    options.extend(RuleSource::words(&args.rules));
    options.extend_from_slice(&args.with);
    if let Some(section) = section {
        options.extend(["-r".into(), OsString::from(&section.policy)]);
        options.extend_from_slice(&section.with);
    }
    options
}

/// What a command that checks again has before its expectation, and after it.
fn again(args: &Args) -> [String; 2] {
    let mut before = RuleSource::words(&args.rules);
    for option in &args.with {
        let mut word = OsString::from("--with=");
        word.push(option);
        before.push(word);
    }
    if let Some(matrix) = &args.matrix {
        before.extend(["--matrix".into(), matrix.into()]);
    }
    let mut head = String::from("bindgate check");
    if !before.is_empty() {
        head = head + " " + &shell(&before);
    }
    [head, format!("-- {}", shell(&args.command))]
}

/// Words as a shell takes them, on one line.
pub fn shell(words: &[OsString]) -> String {
    let words = words.iter().map(|word| {
        let word = word.to_string_lossy();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) {
            return word.into_owned();
        }
        if !word.contains(char::is_control) {
            return format!("'{}'", word.replace('\'', r"'\''"));
        }
        let mut quoted = String::from("$'");
        for c in word.chars() {
            match c {
                '\'' | '\\' => quoted.extend(['\\', c]),
                '\n' => quoted += r"\n",
                c if c.is_control() => quoted += &format!(r"\u{:04x}", u32::from(c)),
                c => quoted.push(c),
            }
        }
        quoted + "'"
    });
    words.collect::<Vec<_>>().join(" ")
}

fn reported(args: &Args, parsed: &Policy, found: drive::Found) -> Report {
    let timeout = format!("{:?}", args.timeout);
    let scene = said::Scene {
        end: found.end.as_ref(),
        timeout: &timeout,
    };
    let row = |outcome: &bindgate_core::check::Outcome| {
        let line: &Expectation = parsed.expectations.get(outcome.number - 1)?;
        let source = parsed.sources.get(line.at.source as usize);
        let record = outcome.why.record();
        Some(Row {
            number: outcome.number,
            host: None,
            expected: line.to_string(),
            place: (
                source.map_or("policy", |s| &s.name).to_owned(),
                line.at.line,
                line.at.column,
            ),
            outcome: said::outcome(outcome.state),
            seen: scene.seen(line, outcome),
            record: record.and_then(|n| Some((found.records.get(&n)?.clone(), n))),
            at: Duration::from_millis(outcome.at_ms),
        })
    };
    Report {
        command: shell(&args.command),
        again: again(args),
        table: Vec::new(),
        rows: found.check.results().filter_map(row).collect(),
        ended: match found.is_started {
            true => said::ended(found.end.as_ref()),
            false => "the program was not started".into(),
        },
        problems: found.problems,
        took: found.took,
        log: args.log.clone(),
    }
}
