//! `bindgate why`: why a bind or a connect fails.
//!
//! The cause is [`bindgate_core::why`]'s to find. The facts come from this machine
//! ([`machine`]), from a program that is watched ([`watch`]), or from a log ([`log`]).

mod log;
mod machine;
mod print;
mod story;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::args::RuleSource;
use crate::{Failure, exit};

/// `bindgate why`
#[derive(clap::Args, Debug)]
#[command(
    override_usage = "bindgate why [KIND ADDRESS | CALL]...\n       bindgate why [OPTIONS] -- \
                      <PROGRAM> [ARG]...\n       bindgate why --log <FILE> [N]"
)]
pub struct Why {
    /// Explain the failures that this JSON log has, or the N-th of them; - is standard
    /// input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["program", "uid"])]
    log: Option<PathBuf>,
    /// The user who calls [default: you, with your capabilities]
    #[arg(long, value_name = "UID", conflicts_with = "program")]
    uid: Option<u32>,
    /// Of a program: read rules from a file; may be given more than once
    #[arg(long, short, value_name = "FILE", requires = "program")]
    policy: Vec<PathBuf>,
    /// Of a program: one more rule, as a policy file would have it
    #[arg(
        long,
        short,
        value_name = "RULE",
        allow_hyphen_values = true,
        requires = "program"
    )]
    rule: Vec<String>,
    /// `policy` and `rule` by their places on the command line.
    #[arg(skip)]
    pub rules: Vec<RuleSource>,
    /// Of a program: give it ports or a network of its own, as `run` does
    #[arg(
        long,
        value_name = "NETWORK",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "address",
        requires = "program"
    )]
    isolate: Option<String>,
    /// An address, like 'tcp :8080', or a call, like 'bind udp 0.0.0.0:53 reuseaddr' or
    /// 'connect tcp 127.0.0.1:5432'; with --log the number of a failure
    #[arg(value_name = "CALL", conflicts_with = "program")]
    what: Vec<String>,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", last = true)]
    program: Vec<OsString>,
}

/// The command.
pub fn why(args: &Why) -> Result<i32, Failure> {
    match (&args.log, args.program.as_slice(), args.what.as_slice()) {
        (Some(file), _, what) => log::explain(file, what),
        (None, [], []) => Err(Failure::say(
            exit::USAGE,
            "why: expected a call or an address, -- and a program, or --log and a file",
        )),
        (None, [], what) => machine::explain(what, args.uid),
        (None, program, _) => watch::run(&options(args), program),
    }
}

/// What the run of the program is told.
fn options(args: &Why) -> Vec<OsString> {
    let mut all = RuleSource::words(&args.rules);
    if let Some(network) = &args.isolate {
        all.push(format!("--isolate={network}").into());
    }
    all
}
