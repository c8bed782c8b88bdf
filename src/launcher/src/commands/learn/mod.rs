//! `bindgate learn`: the tightest policy that allows what runs did.
//!
//! Which rules that takes the core decides ([`bindgate_core::policy::learn`]); here a
//! run is watched, logs are read and the file is written.

mod calls;
mod file;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use bindgate_core::policy::learn::{self, Learned, Options};
use bindgate_core::policy::{self, Op, Policy};
use bindgate_os as sys;
use bindgate_os::process::effective_uid;
use clap::{ValueEnum, ValueHint};

use self::calls::Seen;
use self::file::Target;
use super::policy::{Users, broken, given as policy_given};
use crate::args::{Isolate, Place, RuleSource};
use crate::watched::Watched;
use crate::{Failure, complain, events, exit, low_ports, print, shown, wait};

/// Run a program and write the tightest policy that allows what it did.
///
/// The policy refuses by default, and has one rule for each address that the program
/// bound or listened at, for the executable that did. What is in the file already
/// stays; only what it does not allow yet is added. The rules of the file hold while
/// the program runs, its defaults do not.
#[derive(clap::Args, Debug)]
#[command(
    override_usage = "bindgate learn [OPTIONS] [--] <PROGRAM> [ARG]...\n       \
                            bindgate learn [OPTIONS] --from <LOG>..."
)]
pub struct Learn {
    /// The policy file to write, or to add to [default: standard output]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Learn from the JSON logs of runs, too; - is standard input
    #[arg(long, value_name = "LOG", num_args = 1.., value_hint = ValueHint::FilePath)]
    from: Vec<PathBuf>,
    /// Also allow only the sockets made, the addresses called, or the programs started
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    also: Vec<Also>,
    /// Write a range where there are N ports or more at one address
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..))]
    ranges: Option<u16>,
    /// Write rules for every program, without `for`
    #[arg(long)]
    any_program: bool,
    /// Write [0-9]* for the process id in the name of a Unix socket
    #[arg(long)]
    pid_globs: bool,
    /// Rules that hold while the program runs; may be given more than once
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: Vec<PathBuf>,
    /// Add one rule to them, written as in a policy file
    #[arg(long, short, value_name = "RULE", allow_hyphen_values = true)]
    rule: Vec<String>,
    /// `policy` and `rule` by their places on the command line.
    #[arg(skip)]
    pub rules: Vec<RuleSource>,
    #[command(
        flatten,
        next_help_heading = "Options of the run, as for `bindgate run`"
    )]
    run: Place,
    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required_unless_present = "from",
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
}

/// What else a policy can be about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Also {
    /// socket(2)
    Socket,
    /// connect(2), and sends to an address
    Connect,
    /// The programs that are started
    Exec,
}

/// `bindgate learn`
pub fn learn(args: &Learn) -> Result<i32, Failure> {
    let target = Target::new(args.output.as_deref())?;
    // What is wrong with it is better said before the program runs.
    let there = target.read()?;
    options(args, &there)?;
    let mut seen = Vec::new();
    for path in &args.from {
        seen.push(from_log(path, args)?);
    }
    let mut status = None;
    if !args.command.is_empty() {
        match from_run(args, &there)? {
            (Some(run), end) => {
                seen.push(run);
                status = Some(end);
            }
            // It has said why, and nothing was learned.
            (None, end) => return Ok(wait::end_as(end)),
        }
    }
    let written = write(args, &target, &seen)?;
    match &args.output {
        Some(path) if path != Path::new("-") => {
            let (n, s) = (written.added, if written.added == 1 { "" } else { "s" });
            complain(format_args!("{n} rule{s} added to {}", shown(path)));
        }
        _ => {}
    }
    Ok(status.map_or(0, wait::end_as))
}

/// What is wanted of the rules, checked against the policy that there is.
fn options(args: &Learn, there: &str) -> Result<Options, Failure> {
    let name = args.output.as_deref().map(|p| shown(p).to_string());
    let name = name.unwrap_or_default();
    let source = policy::Source {
        name: &name,
        text: there,
    };
    policy::parse(&[source]).map_err(|d| broken(&d))?;
    let also = |what| args.also.contains(&what);
    let ops = [
        (true, Op::Bind),
        (true, Op::Listen),
        (also(Also::Socket), Op::Socket),
        (also(Also::Connect), Op::Connect),
        (also(Also::Exec), Op::Exec),
    ];
    let sealed = args.run.isolate == Some(Isolate::Sealed);
    Ok(Options {
        ops: ops
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, op)| *op)
            .collect(),
        ranges: args.ranges.map(usize::from),
        any_program: args.any_program,
        pid_globs: args.pid_globs,
        uid: Some(effective_uid()).filter(|_| args.run.user.is_none() && args.from.is_empty()),
        unprivileged_start: low_ports::start(sealed),
        heading: heading(args),
    })
}

/// Where the rules come from.
fn heading(args: &Learn) -> String {
    let logs = args.from.iter().map(|path| shown(path).to_string());
    let words = args.command.iter().map(|word| {
        let word = shown(word).to_string();
        match word.contains([' ', '\'', '"']) || word.is_empty() {
            true => format!("'{}'", word.replace('\'', "'\\''")),
            false => word,
        }
    });
    let words: Vec<_> = words.collect();
    let run = (!words.is_empty()).then(|| words.join(" "));
    let all: Vec<_> = logs.chain(run).collect();
    format!("Learned by bindgate from: {}", all.join(", "))
}

/// A log that was written before.
fn from_log(path: &Path, args: &Learn) -> Result<Seen, Failure> {
    let failed = |e| Failure::new(exit::LOG, shown(path), e);
    let log: Box<dyn BufRead> = match path == Path::new("-") {
        true => Box::new(BufReader::new(std::io::stdin())),
        false => Box::new(BufReader::new(File::open(path).map_err(failed)?)),
    };
    let mut seen = Seen::new(
        Some(shown(path).to_string()),
        args.also.contains(&Also::Exec),
    );
    for line in events::read(log) {
        let (number, line) = line.map_err(failed)?;
        seen.take(number, &line);
    }
    seen.finish();
    Ok(seen)
}

/// A run of the program; nothing where there was none. And how it ended.
fn from_run(args: &Learn, there: &str) -> Result<(Option<Seen>, ExitStatus), Failure> {
    let rules = rules(args, there)?;
    let mut options: Vec<OsString> = vec!["--policy".into(), rules.path().into()];
    options.push("--allow-unintercepted".into());
    options.extend(args.run.words());
    let mut seen = Seen::new(None, args.also.contains(&Also::Exec));
    seen.start(&args.command);
    let mut watched = Watched::start_for_us(&options, &args.command)?;
    let mut broken = None;
    for line in watched.lines() {
        match line {
            Ok((number, line)) => seen.take(number, &line),
            Err(e) => broken = broken.or(Some(e)),
        }
    }
    seen.finish();
    let status = watched.status();
    let failed = |e| Failure::new(exit::SYSTEM, "the run's log", e);
    let status = status.map_err(failed)?;
    if let Some(e) = broken {
        return Err(failed(e));
    }
    Ok((seen.was_run(status).then_some(seen), status))
}

/// A policy in memory, with a path by which `bindgate run` reads it.
struct Rules(OwnedFd);

impl Rules {
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// The rules that hold while the program runs: those given and those that there are,
/// without the defaults, whose refusals are what is to be learned. Notes have what no
/// rule is about recorded.
fn rules(args: &Learn, there: &str) -> Result<Rules, Failure> {
    let same = |path: &Path| match (path.canonicalize(), args.output.as_deref()) {
        (Ok(path), Some(output)) => output.canonicalize().is_ok_and(|o| o == path),
        _ => false,
    };
    let given = args.rules.iter().filter(|rule| match rule {
        RuleSource::File(path) => !same(path),
        _ => true,
    });
    let mut all = Policy::default();
    let mut add = |name: &str, text: &str| -> Result<(), Failure> {
        let parsed = policy::parse(&[policy::Source { name, text }]).map_err(|d| broken(&d))?;
        all.rules.extend(parsed.rules);
        all.host.extend(parsed.host);
        all.mode = all.mode.or(parsed.mode);
        Ok(())
    };
    for source in policy_given(&given.cloned().collect::<Vec<_>>())? {
        add(&source.name, &source.text)?;
    }
    let name = args.output.as_deref().map(|path| shown(path).to_string());
    add(&name.unwrap_or_default(), there)?;
    if !all.acts() {
        // What allows shields from what refuses or redirects, and there is nothing such.
        all.rules.clear();
    }
    // Before the others: only the first that matches is recorded.
    let mut text = String::from("note bind any\nnote listen any\n");
    for (what, note) in [
        (Also::Socket, "note socket any\n"),
        (Also::Connect, "note connect any\n"),
        (Also::Exec, "note exec **\n"),
    ] {
        text += if args.also.contains(&what) { note } else { "" };
    }
    text += &all.to_string();
    let failed = |e| Failure::new(exit::SYSTEM, "the rules of the run", e);
    let memory = sys::memory("bindgate-learn", 0).map_err(failed)?;
    let mut file = File::from(memory);
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(Rules(file.into()))
}

/// Merges with what is there now, and writes it.
fn write(args: &Learn, target: &Target, seen: &[Seen]) -> Result<Learned, Failure> {
    let held = target.hold()?;
    let there = target.read()?;
    let mut options = options(args, &there)?;
    let is_deaf = seen.iter().any(Seen::is_deaf);
    if is_deaf {
        options.ops.retain(|op| *op != Op::Listen);
    }
    let runs: Vec<_> = seen.iter().map(|seen| seen.calls(&options.ops)).collect();
    let name = target.name();
    let source = policy::Source {
        name: &name,
        text: &there,
    };
    let mut learned = learn::learn(&source, &runs, &options, &Users).map_err(|d| broken(&d))?;
    let mut notes: Vec<String> = seen.iter().flat_map(Seen::unseen).collect();
    let call = |(r, c): (usize, usize)| runs.get(r).and_then(|run| run.get(c));
    for (r, c) in &learned.unsaid {
        notes.extend(call((*r, *c)).map(calls::unsaid));
    }
    let mut once = std::collections::BTreeSet::new();
    notes.retain(|note| once.insert(note.clone()));
    let mut said = notes.clone();
    for (r, c, rule) in &learned.refused {
        said.extend(call((*r, *c)).map(|call| calls::refused(call, rule)));
    }
    said.extend(seen.iter().flat_map(Seen::refusals));
    let fragile = runs.iter().flatten().filter(|call| call.has_pid_in_name());
    said.extend(fragile.filter(|_| !args.pid_globs).map(calls::fragile));
    said.retain({
        let mut once = std::collections::BTreeSet::new();
        move |line| once.insert(line.clone())
    });
    for note in &notes {
        let line = format!("# {note}\n");
        if !learned.text.contains(&line) {
            if !learned.text.is_empty() && !learned.text.ends_with('\n') {
                learned.text.push('\n');
            }
            learned.text += &line;
        }
    }
    for line in said {
        complain(line);
    }
    match target.is_standard() {
        true => print(&learned.text)?,
        false if learned.text == there && target.is_there() => {}
        false => target.write(&learned.text)?,
    }
    drop(held);
    Ok(learned)
}
