//! `bindgate wait`: returns when something of a run listens.
//!
//! Each run is asked at its door, and answers when it knows. Runs that begin meanwhile
//! are told by the sockets that they make in `/tmp`.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use bindgate_core::policy::{Source, milliseconds, place};
use bindgate_core::shared::door;
use bindgate_os::doors::Arrivals;
use bindgate_os::{self as sys, Instant, unix};

use super::policy;
use crate::runs::{self, Found};
use crate::{Failure, complain, exit, print};

/// `bindgate wait`, read.
#[derive(clap::Args, Debug)]
#[command(after_long_help = crate::args::WAIT_HELP.0)]
pub struct Wait {
    /// How long, as 30s, 500ms or 2m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Duration,
    /// Only in the run whose id begins like this
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Say nothing where it is reached
    #[arg(long, short)]
    quiet: bool,
    /// A kind of socket and an address, as in a rule; `:8080` is `*:8080`
    #[arg(value_name = "PLACE", required = true, num_args = 1..)]
    place: Vec<String>,
}

/// A time as `within` has it.
pub fn time(text: &str) -> Result<Duration, String> {
    let ms = milliseconds(text).ok_or("expected a time like 5s, 500ms or 2m")?;
    Ok(Duration::from_millis(ms.into()))
}

/// What is waited for, as a rule has it: `tcp *:8080`. Any port alone is one at any
/// address, and `unix:/run/x` names its kind.
///
/// # Errors
/// What is wrong with it, as of a policy.
pub fn sockets(words: &[String]) -> Result<String, Failure> {
    let mut text = words.join(" ");
    for family in ["unix", "vsock"] {
        if text.starts_with(&format!("{family}:")) {
            text = format!("{family} {text}");
        }
    }
    if let Some((kind, port)) = text.split_once(' ')
        && port.starts_with(':')
    {
        text = format!("{kind} *{port}");
    }
    /// What the door of a run reads in one message.
    const MOST: usize = 300;
    if text.len() > MOST {
        let message = format!("PLACE: expected at most {MOST} bytes");
        return Err(Failure::say(exit::USAGE, message));
    }
    let source = Source {
        name: "PLACE",
        text: &text,
    };
    match place(&source) {
        Ok(_) => Ok(text),
        Err(errors) => Err(Failure {
            status: exit::USAGE,
            ..policy::broken(&errors)
        }),
    }
}

/// What a run has said of a server.
#[derive(Debug)]
pub struct Server {
    /// The run's id.
    pub run: String,
    /// Its process, 0 if that is not known.
    pub pid: u32,
    /// Where its program believes that it is.
    pub address: String,
    /// Where it is.
    pub real: String,
    /// Its executable.
    pub program: String,
}

impl Server {
    fn read(run: &str, said: &[u8]) -> Option<Server> {
        let text = String::from_utf8_lossy(said);
        let mut fields = text.splitn(4, '\0').map(str::to_owned);
        Some(Server {
            run: run.to_owned(),
            pid: fields.next()?.parse().ok()?,
            address: fields.next()?,
            real: fields.next()?,
            program: fields.next()?,
        })
    }

    /// `nginx[812] 0.0.0.0:80, really at 127.0.0.1:8080, in run 00…`
    fn described(&self) -> String {
        let name = self.program.rsplit('/').next().unwrap_or_default();
        let name = if name.is_empty() { "?" } else { name };
        let really = match self.real.is_empty() || self.real == self.address {
            true => String::new(),
            false => format!(", really at {}", self.real),
        };
        let pid = match self.pid {
            0 => String::new(),
            pid => format!("[{pid}]"),
        };
        format!(
            "{}{really}, {name}{pid} in run {}\n",
            self.address, self.run
        )
    }
}

/// How a wait has ended.
#[derive(Debug)]
pub enum Waited {
    /// Something serves there.
    Reached(Server),
    /// The time is up.
    TimedOut,
    /// The one run that was to be waited for is over.
    Ended,
}

/// Everybody who is asked.
pub struct Waiter {
    message: Vec<u8>,
    asked: Vec<(Found, OwnedFd)>,
    /// Tells of new runs.
    arrivals: Option<Arrivals>,
    /// They are looked for instead.
    looks: bool,
    /// No other run is asked.
    only: Option<String>,
    /// Readable when the one run is over, or will never be there.
    end: Option<OwnedFd>,
    started: Instant,
}

impl Waiter {
    /// For sockets as [`sockets`] has them, in all runs, or in one alone.
    pub fn new(sockets: &str, run: Option<Found>) -> Waiter {
        let mut waiter = Waiter::silent(sockets);
        match run {
            Some(run) => drop(waiter.ask(run)),
            None => waiter.expect_others(),
        }
        waiter
    }

    /// In the run that is about to begin with this id, until `end` can be read.
    pub fn of_new(sockets: &str, id: String, end: OwnedFd) -> Waiter {
        let mut waiter = Waiter::silent(sockets);
        (waiter.only, waiter.end) = (Some(id), Some(end));
        waiter.expect_others();
        waiter
    }

    fn silent(sockets: &str) -> Waiter {
        let mut message = door::WAIT.to_vec();
        message.extend(sockets.bytes());
        Waiter {
            message,
            asked: Vec::new(),
            looks: false,
            arrivals: None,
            only: None,
            end: None,
            started: Instant::now(),
        }
    }

    /// Asks the runs that there are, and those that come.
    fn expect_others(&mut self) {
        // Before the first look, so that no run comes in between.
        let arrivals = Arrivals::watch();
        self.arrivals = arrivals
            .map_err(|e| log::debug!("new runs are looked for: {e}"))
            .ok();
        self.looks = self.arrivals.is_none();
        self.look();
    }

    fn look(&mut self) {
        match self.only.clone() {
            Some(id) => drop(self.ask(Found { id })),
            None => {
                for found in runs::find(&[]) {
                    self.ask(found);
                }
            }
        }
    }

    /// Asks a run, if it is one of this user's and has not been asked yet.
    fn ask(&mut self, run: Found) -> bool {
        let is_other = self.only.as_ref().is_some_and(|only| *only != run.id);
        if is_other || self.asked.iter().any(|(other, _)| other.id == run.id) {
            return !is_other;
        }
        let Some(fd) = run.tell(&self.message) else {
            return false;
        };
        self.asked.push((run, fd));
        true
    }

    /// Waits for the first answer.
    pub fn wait(&mut self, timeout: Duration) -> Waited {
        /// Where new runs do not make themselves known.
        const TURN: Duration = Duration::from_millis(5);
        loop {
            let Some(mut left) = timeout.checked_sub(self.started.elapsed()) else {
                return Waited::TimedOut;
            };
            if self.looks {
                left = left.min(TURN);
            }
            let mut fds: Vec<RawFd> = vec![
                self.arrivals.as_ref().map_or(-1, Arrivals::fd),
                self.end.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            ];
            fds.extend(self.asked.iter().map(|(_, fd)| fd.as_raw_fd()));
            let ready = sys::poll(&fds, left);
            let is = |n: usize| ready.get(n).copied().unwrap_or(false);
            let mut gone = Vec::new();
            for (n, (run, fd)) in self.asked.iter().enumerate().filter(|(n, _)| is(n + 2)) {
                let mut said = [0; 4096];
                match unix::receive(fd, &mut said, false) {
                    Ok(len @ 1..) => {
                        let said = said.get(..len).unwrap_or_default();
                        if let Some(server) = Server::read(&run.id, said) {
                            return Waited::Reached(server);
                        }
                        gone.push(n);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    _ => gone.push(n),
                }
            }
            for n in gone.into_iter().rev() {
                self.asked.swap_remove(n);
            }
            if is(1) {
                return Waited::Ended;
            }
            if is(0) {
                for id in self.arrivals.as_ref().map_or_else(Vec::new, Arrivals::all) {
                    self.ask(Found { id });
                }
            } else if self.looks {
                self.look();
            } else if self.arrivals.is_none() && self.asked.is_empty() {
                return Waited::Ended;
            }
        }
    }
}

/// `bindgate wait`
pub fn wait(wait: &Wait) -> Result<i32, Failure> {
    let wanted = sockets(&wait.place)?;
    let run = wait.run.as_deref().map(runs::one).transpose();
    let run = run.map_err(|failure| Failure {
        status: exit::USAGE,
        ..failure
    })?;
    let is_one = run.is_some();
    match Waiter::new(&wanted, run).wait(wait.timeout) {
        Waited::Reached(server) => {
            if !wait.quiet {
                print(&server.described())?;
            }
            return Ok(0);
        }
        Waited::TimedOut => {
            let where_ = if is_one {
                "the run"
            } else {
                "any run of this user"
            };
            complain(format_args!(
                "nothing of {where_} listens at {wanted} after {:?}",
                wait.timeout
            ));
        }
        Waited::Ended => complain(format_args!(
            "the run has ended, and nothing listened at {wanted}"
        )),
    }
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_people_write() {
        let read = |text: &str| {
            let words: Vec<String> = text.split('|').map(str::to_owned).collect();
            sockets(&words).map_err(|f| f.status)
        };
        assert_eq!(read("tcp|:8080"), Ok("tcp *:8080".into()));
        assert_eq!(read("tcp :8080"), Ok("tcp *:8080".into()));
        assert_eq!(read("tcp|[::]:8080"), Ok("tcp [::]:8080".into()));
        assert_eq!(read("unix:/run/x"), Ok("unix unix:/run/x".into()));
        assert_eq!(read("vsock|*:5000"), Ok("vsock *:5000".into()));
        assert_eq!(read("tpc|:8080"), Err(exit::USAGE));
        assert_eq!(read("tcp|:8080|now"), Err(exit::USAGE));
    }
}
