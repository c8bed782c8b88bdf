//! Being the program's parent, and as little else as possible.
//!
//! Signals from the terminal, or to the whole process group, reach the program
//! by themselves: it is in our group. Those that somebody sends to the launcher
//! alone go on to the program. When it stops, so do we, and the shell sees a stopped job.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use bindgate_daemon::{Handle, Report};
use bindgate_os::process::{self, Status};
use bindgate_os::{self as sys, signal};

use crate::exit;

/// Waits until the program ends, and says how it did.
pub fn wait(pid: i32, drainer: &mut Handle, with_file: bool) -> Status {
    step_aside();
    let is_init = process::pid() == 1;
    loop {
        // Before each wait for a signal: one SIGCHLD may stand for many.
        match news(pid, is_init) {
            Ok(Some(Status::Stopped(number))) => {
                if let Some(witness) = &mut drainer.witness {
                    witness.forget();
                }
                // What continues us comes out of `next` below, and goes on to
                // the program unless it was sent to the group.
                signal::suffer(number);
                continue;
            }
            Ok(Some(end)) => return end,
            Ok(None) => {}
            Err(e) => {
                // Somebody else reaped it: there is nothing to be known.
                log::error!("the program's end is not known: {e}");
                return Status::Exited(0);
            }
        }
        let Some(signal) = signal::next(None) else {
            continue;
        };
        log::debug!("{signal:?}");
        if signal.number == libc::SIGCHLD {
            continue;
        }
        let to_group = drainer.witness.as_mut().is_some_and(|w| w.saw(&signal));
        match signal.number {
            _ if to_group || !signal.sent || signal.from == pid => {}
            libc::SIGHUP if with_file => drainer.reopen(),
            _ => signal.pass_on(pid),
        }
    }
}

/// Ends as a `bindgate run` in a process of its own did, whose end is its program's.
pub fn end_as(status: ExitStatus) -> i32 {
    match status.signal() {
        Some(number) => end_by(number),
        None => status.code().unwrap_or(exit::SYSTEM),
    }
}

/// Ends as the program did that this signal has ended; the status, where it does not end
/// us.
pub fn end_by(number: i32) -> i32 {
    signal::no_core();
    signal::suffer(number);
    // Still here: process 1 of a name space does not die of signals.
    128 + number
}

/// Waits until the last process of the run is gone: `--wait`, when the program
/// is no more. Signals are for us now.
pub fn wait_for_all(drainer: &Handle, with_file: bool) -> Option<Report> {
    const TURN: Duration = Duration::from_millis(20);
    let mut last = None;
    loop {
        while let Some(report) = drainer.try_report() {
            match report {
                Some(report) => last = Some(report),
                None => return last,
            }
        }
        let Some(signal) = signal::next(Some(TURN)) else {
            continue;
        };
        match signal.number {
            libc::SIGHUP if signal.sent && with_file => drainer.reopen(),
            libc::SIGINT | libc::SIGTERM | libc::SIGQUIT | libc::SIGHUP | libc::SIGTSTP
                if !signal::is_ignored(signal.number) =>
            {
                signal::suffer(signal.number);
            }
            _ => {}
        }
    }
}

/// News of the program. As pid 1 of a name space we are the parent of every
/// orphan, too.
fn news(pid: i32, is_init: bool) -> io::Result<Option<Status>> {
    if !is_init {
        return Ok(process::wait(pid, false)?.map(|(_, status)| status));
    }
    loop {
        match process::wait(-1, false)? {
            Some((child, status)) if child == pid => return Ok(Some(status)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Lets go of what the program may close or leave: whoever reads its output
/// waits for the end of it, and a directory may have to be unmounted. Standard
/// error stays: there may be something to say at the end.
fn step_aside() {
    sys::close_standard(0);
    sys::close_standard(1);
    let _ = std::env::set_current_dir("/");
}
