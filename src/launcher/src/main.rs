//! The launcher: `bindgate`.
//!
//! It never names the shim's crate: a program that links it is hooked itself.
//!
//! ```text
//!  args ─► commands ─► run ─┬─► the program, in our process group
//!                           ├─► wait: supervises it, passes its status on
//!                           └─► the daemon: outside its ancestry, ring ─► log
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`args`] | the command line |
//! | [`commands`] | a file for each command |
//! | [`low_ports`] | ports that take a privilege |
//! | [`carried`] | what is carried into a run and out of it |
//! | [`isolate`] | the network that a run has |
//! | [`level`] | what may be done under the seccomp filters that were there before |
//! | [`library`] | where the shim is |
//! | [`publish`] | ports of a run that are reached from outside |
//! | [`reach`] | can a program be intercepted, and may it start |
//! | [`runs`] | the runs of this user |
//! | [`events`] | a JSON log, read back |
//! | [`watched`] | a run whose log is read while it is written |
//! | [`wait`] | supervises the program and passes its exit status on |
//! | [`outer`] | a run inside a run |
//!
//! System calls are in `bindgate-os`, the daemon in `bindgate-daemon`.

// Rust's own start-up would ignore SIGPIPE, open /dev/null on closed standard
// streams and install handlers for SIGSEGV: all of that would be inherited by
// the program that we start, which must find what its parent left.
#![cfg_attr(not(test), no_main)]
// The tests call functions, not the program.
#![cfg_attr(test, allow(dead_code))]

mod args;
mod carried;
mod commands;
mod described;
#[allow(dead_code, reason = "the commands that read logs use it")]
mod events;
mod isolate;
mod lease;
mod level;
mod library;
mod low_ports;
mod outer;
mod publish;
mod reach;
mod runs;
mod user;
mod vsock;
mod wait;
mod watched;

use std::ffi::OsString;
#[cfg(not(test))]
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fmt::Display;
use std::io::Write;

use bindgate_core::render::Readable;
#[cfg(not(test))]
use std::os::unix::ffi::OsStrExt;

bindgate_unwind::functions!();

/// Where C starts.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let arguments: Vec<OsString> = (0..usize::try_from(argc).unwrap_or(0))
        .map(|n| {
            // SAFETY: argv holds argc C strings.
            let bytes = unsafe { CStr::from_ptr(*argv.add(n)) }.to_bytes();
            OsStr::from_bytes(bytes).to_owned()
        })
        .collect();
    launch(arguments)
}

/// Exit statuses of the launcher's own.
pub mod exit {
    /// Wrong use of the command line.
    pub const USAGE: i32 = 2;
    /// `--fail-on deny`: something was refused, and the program ended with 0.
    pub const DENIED: i32 = 77;
    /// There is no such run.
    pub const NO_RUN: i32 = 1;
    /// The policy is broken, or the program could not be held to it.
    pub const CONFIG: i32 = bindgate_core::shared::EXIT_CONFIG;
    /// The run could not be set up.
    pub const SYSTEM: i32 = 71;
    /// The log cannot be opened.
    pub const LOG: i32 = 73;
    /// The program was found but could not be started.
    pub const NOT_EXECUTABLE: i32 = 126;
    /// The program was not found.
    pub const NOT_FOUND: i32 = 127;
}

/// Why the launcher ends before there is a program.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: i32,
    /// What to say; empty if it has been said.
    pub message: String,
}

impl Failure {
    /// `what: why`, without the error number that std appends to a message.
    pub fn new(status: i32, what: impl Display, why: impl Display) -> Failure {
        let message = format!("{what}: {why}");
        let end = message.find(" (os error").unwrap_or(message.len());
        Failure::say(status, message.get(..end).unwrap_or(&message))
    }

    /// A message of one piece.
    pub fn say(status: i32, message: impl Into<String>) -> Failure {
        Failure {
            status,
            message: message.into(),
        }
    }
}

/// A path, a name or an argument as it is shown: on one line, without what would
/// move a terminal's cursor.
pub fn shown<S: AsRef<std::ffi::OsStr> + ?Sized>(name: &S) -> Readable<'_> {
    Readable(std::os::unix::ffi::OsStrExt::as_bytes(name.as_ref()))
}

/// Writes lines to standard output, without what would move a terminal's cursor:
/// names of files and words of the user are in them.
///
/// # Errors
/// If they cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let content = line.strip_suffix('\n').unwrap_or(line);
        let end = line.get(content.len()..).unwrap_or_default();
        out += &format!("{}{end}", Readable(content.as_bytes()));
    }
    std::io::stdout()
        .write_all(out.as_bytes())
        .map_err(|e| Failure::new(exit::SYSTEM, "standard output", e))
}

/// Writes one line to standard error, without what would move a terminal's
/// cursor: names of files are in it. If standard error is closed, nobody wants
/// to know.
pub fn complain(message: impl Display) {
    let message = message.to_string();
    let line = format!("bindgate: {}\n", Readable(message.as_bytes()));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Everything: arguments in, exit status out.
pub fn launch(arguments: Vec<OsString>) -> i32 {
    if std::env::var_os("BINDGATE_DEBUG").is_some() {
        env_logger::Builder::from_env(env_logger::Env::new().filter("BINDGATE_DEBUG")).init();
    }
    match dispatch(arguments) {
        Ok(status) => status,
        Err(failure) => {
            if !failure.message.is_empty() {
                complain(&failure.message);
            }
            failure.status
        }
    }
}

fn dispatch(arguments: Vec<OsString>) -> Result<i32, Failure> {
    match args::parse(arguments.clone())? {
        args::Command::Run(run) => {
            outer::step_out(&arguments);
            match &run.ready {
                Some(_) => commands::ready::run(*run),
                None => commands::run::run(*run),
            }
        }
        args::Command::PolicyCheck(files) => commands::policy::check(&files),
        args::Command::Show(files) => commands::policy::show(&files),
        args::Command::Diff(args) => Ok(commands::policy_diff::diff(&args)),
        args::Command::Doctor(doctor) => {
            let status = commands::doctor::doctor(&doctor)?;
            print!("{}{}", level::describe(), isolate::describe());
            Ok(status)
        }
        args::Command::Exec(args) => commands::exec::exec(&args),
        args::Command::Ls(args) => commands::ls::ls(&args),
        args::Command::Check(args) => commands::check::check(&args),
        args::Command::Wait(args) => commands::wait::wait(&args),
        args::Command::Simulate(args) => commands::simulate::simulate(&args),
        args::Command::Learn(args) => commands::learn::learn(&args),
        args::Command::Explain(args) => commands::explain::explain(&args),
        args::Command::Why(args) => commands::why::why(&args),
        args::Command::Man(dir) => commands::manual::man(dir.as_deref()),
        args::Command::Completions(shell) => commands::completions::completions(shell),
    }
}
