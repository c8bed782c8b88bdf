//! `bindgate exec`: a command in a run that is there already.

use std::ffi::{OsStr, OsString};

use bindgate_core::shared::{Ticket, option};
use clap::ValueHint;

use super::run::{Around, look, not_started};
use crate::{Failure, exit, library, outer, runs};
use bindgate_os::network::Network;
use bindgate_os::process::{self, Strings};

/// `bindgate exec`, read.
#[derive(clap::Args, Debug)]
#[command(override_usage = "bindgate exec <RUN> [--] <COMMAND> [ARG]...")]
pub struct Exec {
    /// The run: what its id begins like, as `bindgate ls` shows it
    #[arg(value_name = "RUN")]
    run: String,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
}

/// `bindgate exec`: becomes the command.
pub fn exec(exec: &Exec) -> Result<i32, Failure> {
    let found = runs::one(&exec.run)?;
    // What the policy of the run around this one says would not hold any more.
    if let Some(around) = runs::around()
        && String::from_utf8_lossy(&around.id()) != found.id
    {
        return Err(Failure::say(
            exit::CONFIG,
            format!(
                "not started: this is a program of run {:016x}, whose policy would not hold in \
                 run {}: start it outside",
                around.run, found.id
            ),
        ));
    }
    let way = found.way()?;
    let ticket = Ticket::parse(way.ticket.as_bytes());
    let run = ticket.as_ref().and_then(outer::reach).ok_or_else(|| {
        let message = format!("run {}: its policy cannot be read: has it ended?", found.id);
        Failure::say(exit::SYSTEM, message)
    })?;
    let allows = run.has(option::ALLOW_UNINTERCEPTED);
    let enforces = run.enforces();
    let around = match run.own_ports() {
        Some(_) => Around::OwnPorts,
        None => Around::Machine,
    };
    let view = run.view()?;
    look(&exec.command, allows, &view, &way.library, enforces, around)?;
    if let Some(network) = &way.network {
        let here = Network::of("self").map_or(0, |n| n.inode());
        if here != network.inode() {
            network.enter().map_err(|e| {
                let what = format_args!("run {}: its network cannot be entered", found.id);
                Failure::new(exit::SYSTEM, what, e)
            })?;
        }
    }
    let nul = || Failure::say(exit::USAGE, "an argument holds a NUL byte");
    let arguments = Strings::new(&exec.command).ok_or_else(nul)?;
    let environment = library::environment(&way.library, &way.ticket);
    let environment = Strings::new(environment).ok_or_else(nul)?;
    let program = exec.command.first().map_or(OsStr::new(""), |p| p);
    Err(not_started(
        program,
        &process::exec(&arguments, &environment),
    ))
}
