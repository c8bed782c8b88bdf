//! The runs of this user, or of all users for root: found by the Unix names of
//! their daemons, asked at their doors.
//!
//! A name is there for as long as its daemon lives: a run whose daemon was killed
//! is not found any more.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use bindgate_core::shared::{ENV_RUN, Ticket, door};

use crate::{Failure, complain, exit};
use bindgate_os::doors::{self, Doors};
use bindgate_os::network::Network;
use bindgate_os::{process, unix};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A run that can be asked.
pub struct Found {
    /// Its id, 16 hex digits.
    pub id: String,
}

/// What it takes to get into a run.
pub struct Way {
    /// What its processes have in their environment.
    pub ticket: String,
    /// Its library.
    pub library: PathBuf,
    /// Its network, if it has one of its own.
    pub network: Option<Network>,
}

/// The runs whose ids begin like one of `wanted`, or all, in the order of their
/// ids; those of other users are not this one's.
pub fn find(wanted: &[String]) -> Vec<Found> {
    let mut ids = doors::all();
    ids.sort();
    ids.dedup();
    ids.retain(|id| wanted.is_empty() || wanted.iter().any(|start| id.starts_with(start)));
    ids.into_iter().map(|id| Found { id }).collect()
}

/// The run that this process is in.
pub fn around() -> Option<Ticket> {
    Ticket::parse(std::env::var_os(ENV_RUN)?.as_bytes())
}

/// The one run whose id begins like that.
///
/// # Errors
/// If there is none, or more than one.
pub fn one(start: &str) -> Result<Found, Failure> {
    let mut found = find(&[start.to_owned()]);
    found.retain(|run| run.knock().is_ok());
    match (found.pop(), found.len()) {
        (None, _) => Err(none(start)),
        (Some(run), 0) => Ok(run),
        (Some(run), n) => Err(Failure::say(
            exit::USAGE,
            format!(
                "{} runs begin like {start:?}, {} and {} among them: write more of it",
                n + 1,
                run.id,
                found.first().map_or("", |r| &r.id)
            ),
        )),
    }
}

/// There is no such run.
pub fn none(start: &str) -> Failure {
    let message = format!("no run of this user begins like {start:?}: `bindgate ls` lists them");
    Failure::say(exit::NO_RUN, message)
}

/// Is nobody there any more who would answer for the run with this id?
pub fn has_ended(id: &str) -> bool {
    Doors::knock_at(id).is_err()
}

impl Found {
    /// Connects to it, if it is one of this user's. Is that sure? In a user
    /// namespace one user can look like another.
    fn knock(&self) -> io::Result<(OwnedFd, bool)> {
        let fd = Doors::knock_at(&self.id)?;
        let own = process::effective_uid();
        let user = process::peer_user(&fd);
        if user.is_some_and(|user| own != 0 && user != own) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        unix::set_patience(&fd, PATIENCE)?;
        Ok((fd, user.is_some()))
    }

    /// What is bound in it, as a line of JSON; nothing if it has ended, or is
    /// not this user's.
    pub fn list(&self) -> Option<String> {
        let (door, _) = self.knock().ok()?;
        let ask = || {
            unix::send(&door, door::LIST)?;
            let (_, [file]) = unix::receive_with(&door, &mut [0; 8])?;
            let mut text = String::new();
            let mut file = File::from(file);
            file.seek(SeekFrom::Start(0))?;
            file.read_to_string(&mut text)?;
            Ok(text)
        };
        let said = ask().map_err(|e: io::Error| self.is_silent(&e));
        said.ok().filter(|text| !text.is_empty())
    }

    /// Says something at its door: where the answer will come, if it is one of this
    /// user's.
    pub fn tell(&self, message: &[u8]) -> Option<OwnedFd> {
        let (door, _) = self.knock().ok()?;
        unix::send(&door, message).ok()?;
        Some(door)
    }

    /// How to get in.
    ///
    /// # Errors
    /// If it has ended meanwhile, or does not answer.
    pub fn way(&self) -> Result<Way, Failure> {
        let failed = |e: io::Error| match self.has_ended() {
            true => Failure::say(exit::NO_RUN, format!("run {} has ended", self.id)),
            false => Failure::new(exit::SYSTEM, format_args!("run {}", self.id), e),
        };
        let (door, is_sure) = self.knock().map_err(failed)?;
        let mut answer = [0; 8192];
        unix::send(&door, door::ENTER).map_err(failed)?;
        let received = unix::receive_any(&door, &mut answer, true).map_err(failed)?;
        let (len, fds) = received;
        let nothing = || Failure::say(exit::SYSTEM, format!("run {}: no answer", self.id));
        let answer = answer.get(..len).unwrap_or_default();
        let at = answer.iter().position(|b| *b == 0).ok_or_else(nothing)?;
        let (ticket, library) = answer.split_at(at);
        let text = String::from_utf8_lossy(ticket).into_owned();
        let ticket = Ticket::parse(ticket).ok_or_else(nothing)?;
        // Whoever has taken the name must not be believed: a program of the run
        // knows its secret.
        if !is_sure && around().is_none_or(|own| own.secret != ticket.secret) {
            return Err(failed(io::ErrorKind::PermissionDenied.into()));
        }
        let library = library.get(1..).unwrap_or_default();
        let network = match <[OwnedFd; 2]>::try_from(fds) {
            Ok([net, user]) => Some(Network::from_fds(net, user)),
            Err(_) => None,
        };
        Ok(Way {
            ticket: text,
            library: PathBuf::from(OsStr::from_bytes(library)),
            network,
        })
    }

    /// Is nobody there any more who would answer?
    fn has_ended(&self) -> bool {
        has_ended(&self.id)
    }

    fn is_silent(&self, e: &io::Error) {
        let why = match e.kind() {
            // It was on its way out.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return,
            io::ErrorKind::InvalidData if self.has_ended() => return,
            io::ErrorKind::WouldBlock => "its log process does not answer: is it stopped?".into(),
            io::ErrorKind::InvalidData => {
                "its log process gives no answer: it may be of another version".into()
            }
            _ => e.to_string(),
        };
        complain(format_args!("run {}: {why}", self.id));
    }
}
