//! Every C program once more under a seccomp filter that allows exactly the
//! system calls of its plain run: bindgate makes no other.
//!
//! Some programs cannot: `//: unfiltered REASON` says why. Most of them start a
//! program: behind the filter the library's own start would make calls that
//! the program's does not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use libtest_mimic::Failed;

use support::{Run, Way, compile, same};

/// What a program with threads does or does not, as the turns fall: waits for
/// a lock, makes another arena for malloc.
const BY_CHANCE: [libc::c_long; 6] = [
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
];

/// In the call that marks where the filter would be installed.
const MARK: &str = "0x66696c746572";

/// The library that installs the filter.
fn filter() -> Result<&'static Path, String> {
    static LIBRARY: OnceLock<Result<std::path::PathBuf, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| compile("filter_calls", &["-shared", "-fPIC"]));
    library.as_deref().map_err(Clone::clone)
}

/// Runs the program, which `run` starts plain, behind the filter in every way.
pub fn run(run: &Run, name: &str, refuse_all: &[&str]) -> Result<(), Failed> {
    let run = run.clone().env("FILTER_FOR", name);
    let (plain, calls) = calls_of(&run)?;
    let calls: Vec<String> = calls.iter().map(ToString::to_string).collect();
    let run = run
        .env("LD_PRELOAD", filter()?)
        .env("FILTER_CALLS", calls.join(","));
    // Were it not for bindgate, it would live.
    same(&plain, &run.fresh().finish().seen(), "without bindgate")?;
    for way in [Way::Preload, Way::Run, Way::Observe] {
        let mut run = run.fresh().way(way).logged();
        run = match way {
            Way::Preload | Way::Observe => run.rules(refuse_all),
            _ => run.rules(["note bind any *", "note socket any", "note connect any *"]),
        };
        if way == Way::Preload {
            run = run.rule("mode observe");
        }
        let outcome = run.finish();
        same(&plain, &outcome.seen(), &format!("{way:?}, filtered"))?;
    }
    Ok(())
}

/// The outcome of a plain run, and the numbers of the system calls that it
/// makes from the moment at which the filter would be installed.
fn calls_of(run: &Run) -> Result<(String, BTreeSet<libc::c_long>), String> {
    let mut calls = BTreeSet::new();
    let mut seen = None;
    // Twice: what happens by chance may well happen in one of them.
    for _ in 0..2 {
        let run = run.fresh();
        let trace = run.dir().join("trace");
        let library = format!("LD_PRELOAD={}", filter()?.display());
        // Arguments as they are: who reads what lies behind them says so, on
        // the program's stderr, where there is nothing to be read.
        let raw = "raw=!clone,clone3";
        let options = [
            "-f",
            "-n",
            "-qq",
            "-e",
            "signal=none",
            "-e",
            raw,
            "-E",
            &library,
            "-o",
        ];
        let strace = Run::new("strace").args(options).arg(&trace);
        let outcome = run.under(&strace).finish().seen();
        let text = fs::read(&trace).map_err(|e| format!("strace: {e}\n{outcome}"))?;
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines().skip_while(|l| !l.contains(MARK));
        lines
            .next()
            .ok_or_else(|| format!("no mark in the trace:\n{text}"))?;
        for line in lines {
            // PID [ NR] NAME(…
            let number = line
                .split_once('[')
                .and_then(|(_, rest)| rest.split_once(']'));
            match number.map(|(number, _)| number.trim()) {
                // What is not a number of the kernel's.
                Some("???") => drop(calls.insert(-1)),
                Some(number) => calls.extend(number.parse::<libc::c_long>().ok()),
                None => {}
            }
            if line.contains("CLONE_THREAD") {
                calls.extend(BY_CHANCE);
            }
        }
        seen = Some(outcome);
    }
    Ok((seen.unwrap_or_default(), calls))
}
