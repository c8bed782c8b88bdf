//! A program in a run whose log is read while it is written: what `check`, `learn`
//! and `why` stand on.
//!
//! The run is `bindgate run` in a process of its own, so that all of its options,
//! messages and signals are the same. Its log is a pipe of ours, which the run opens by
//! its path: the program inherits nothing of it.

use std::ffi::OsString;
use std::io::{self, BufReader, PipeReader};
use std::os::fd::AsRawFd;
use std::process::{Command, ExitStatus};
use std::thread::{self, JoinHandle};

use bindgate_os::signal;

use crate::events::{self, Line};
use crate::{Failure, exit};

/// A run, and its log.
pub struct Watched {
    /// `bindgate run`, until [`Watched::status`] is there.
    pub pid: u32,
    log: BufReader<PipeReader>,
    end: JoinHandle<io::Result<ExitStatus>>,
}

impl Watched {
    /// Starts `bindgate run OPTIONS -- COMMAND`.
    ///
    /// # Errors
    /// If the launcher cannot be started. What it complains of itself is on standard
    /// error, and its status says which kind of failure it was.
    pub fn start(options: &[OsString], command: &[OsString]) -> Result<Watched, Failure> {
        Watched::begin(options, command, |_| {})
    }

    fn begin(
        options: &[OsString],
        command: &[OsString],
        relay_to: fn(i32),
    ) -> Result<Watched, Failure> {
        let failed = |e: io::Error| Failure::new(exit::SYSTEM, "bindgate run", e);
        let (log, line) = io::pipe().map_err(failed)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), line.as_raw_fd());
        let mut launcher = Command::new("/proc/self/exe")
            .arg("run")
            .args(["--format", "json", "--log", &path])
            .args(options)
            .arg("--")
            .args(command)
            .spawn()
            .map_err(failed)?;
        let pid = launcher.id();
        relay_to(pid.cast_signed());
        let end = thread::spawn(move || {
            let status = launcher.wait();
            // Its number may be another process's by now.
            relay_to(0);
            // Whoever writes the log has it open by now: without this end of ours it
            // ends with the run.
            drop(line);
            status
        });
        let log = BufReader::new(log);
        Ok(Watched { pid, log, end })
    }

    /// The same in our place: the signals that we get are the run's.
    ///
    /// # Errors
    /// As [`Watched::start`].
    pub fn start_for_us(options: &[OsString], command: &[OsString]) -> Result<Watched, Failure> {
        // Before it is there they end nobody.
        signal::relay_to(0);
        Watched::begin(options, command, signal::relay_to)
    }

    /// The lines of the log, as they come, until the last process of the run has ended.
    pub fn lines(&mut self) -> impl Iterator<Item = io::Result<(usize, Line)>> {
        events::read(&mut self.log)
    }

    /// The log, to be read by [`events::read`], and what waits for `bindgate run`.
    pub fn halves(self) -> (BufReader<PipeReader>, JoinHandle<io::Result<ExitStatus>>) {
        (self.log, self.end)
    }

    /// The status of `bindgate run`: the program's own, or why there was no program.
    /// Waits for it.
    ///
    /// # Errors
    /// If somebody else has waited for it.
    pub fn status(self) -> io::Result<ExitStatus> {
        let gone = |_| {
            Err(io::Error::other(
                "the thread that waits for the run has ended",
            ))
        };
        self.end.join().unwrap_or_else(gone)
    }
}
