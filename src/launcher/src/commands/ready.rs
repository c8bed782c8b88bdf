//! `bindgate run --ready`: the run goes on in a process of its own, and this one returns
//! when the program listens.

use std::io;
use std::os::fd::OwnedFd;

use bindgate_os as sys;
use bindgate_os::process::{self, Status};

use super::wait::{Waited, Waiter, sockets};
use crate::args::Run;
use crate::{Failure, complain, exit};

/// The program did not listen in time, or has ended before.
const NOT_READY: i32 = 1;

/// Runs the program; 0 when it listens.
pub fn run(mut run: Run) -> Result<i32, Failure> {
    let Some((place, timeout)) = run.ready.take() else {
        return super::run::run(run);
    };
    let wanted = sockets(&[place])?;
    let failed = |e: io::Error| Failure::new(exit::SYSTEM, "the run", e);
    let id = u64::from_ne_bytes(sys::random::<8>().map_err(failed)?).max(1);
    run.id = Some(id);
    // Open for as long as the other process has not ended: nothing of the run keeps it.
    let (end, open) = io::pipe().map_err(failed)?;
    let Some(child) = process::fork().map_err(failed)? else {
        drop(end);
        let status = super::run::run(run);
        drop(open);
        return status;
    };
    drop(open);
    let mut waiter = Waiter::of_new(&wanted, format!("{id:016x}"), OwnedFd::from(end));
    let waited = waiter.wait(timeout);
    match waited {
        Waited::Reached(_) => return Ok(0),
        Waited::TimedOut => {
            complain(format_args!(
                "the program did not listen at {wanted} within {timeout:?}: it is told to end"
            ));
            let _ = process::signal(child.cast_unsigned(), None, libc::SIGTERM);
            return Ok(NOT_READY);
        }
        Waited::Ended => {}
    }
    let end = process::wait(child, true).map_err(failed)?;
    // First: what ended it by a signal ends us.
    complain(format_args!(
        "the program has ended before it listened at {wanted}"
    ));
    Ok(match end {
        Some((_, Status::Exited(0))) | None => NOT_READY,
        Some((_, Status::Exited(status))) => status,
        Some((_, Status::Killed(number) | Status::Stopped(number))) => crate::wait::end_by(number),
    })
}
