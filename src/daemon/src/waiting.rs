//! Those who wait for a server: `bindgate wait`.
//!
//! Each has said which sockets it waits for. While anybody waits, the programs of the run
//! ring the bell with each record, and record each listen(2) ([`Ring::set_awaited`]); so
//! an answer is on its way when the call comes back. Who waits for what is there already
//! is answered by what the kernel lists ([`super::listing`]).
//!
//! [`Ring::set_awaited`]: bindgate_core::shared::Ring::set_awaited

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindgate_core::addr::RawAddr;
use bindgate_core::check::{Pattern, Subject, Way, listens};
use bindgate_core::policy::{Op, Paths, Source, place};
use bindgate_core::record::{Call, Record, Verdict, flag};
use bindgate_core::render::HolderState;
use bindgate_core::shared::State;
use bindgate_core::socket::{BindOptions, SocketType};
use bindgate_os::unix;

/// As many may wait.
const MOST: usize = 1024;

/// Somebody who waits.
struct Waiter {
    /// Where it waits.
    fd: Arc<OwnedFd>,
    /// For what.
    pattern: Pattern,
}

/// All of them.
pub struct Waiting {
    state: &'static State,
    /// Somebody wants to know of every listen(2) for as long as the run lasts.
    is_watched: bool,
    all: Mutex<Vec<Waiter>>,
}

/// Something that serves, or may.
pub struct Server<'a> {
    /// What it is.
    pub socket: SocketType,
    /// Where its program believes that it is.
    pub address: &'a RawAddr,
    /// Where it is; empty for the same.
    pub real: &'a RawAddr,
    /// The options that it had, as far as they are known.
    pub options: BindOptions,
    /// Its process.
    pub pid: u32,
    /// Its executable.
    pub program: &'a [u8],
}

impl Server<'_> {
    fn is(&self, pattern: &Pattern) -> bool {
        let is_at = |raw: &RawAddr| {
            let addr = raw.read();
            addr.is_some()
                && pattern.matches(&Subject {
                    socket: self.socket,
                    addr: addr.as_ref(),
                    v6only: self.options.has(BindOptions::V6ONLY),
                    by_listen: false,
                    paths: Paths {
                        program: self.program,
                        script: &[],
                    },
                    file: &[],
                })
        };
        is_at(self.address) || is_at(self.real)
    }

    /// What is said of it: process id, addresses and program, with NULs between.
    fn told(&self) -> Vec<u8> {
        let text = |raw: &RawAddr| raw.read().map_or_else(String::new, |addr| addr.to_string());
        let mut said = format!(
            "{}\0{}\0{}\0",
            self.pid,
            text(self.address),
            text(self.real)
        );
        said += &String::from_utf8_lossy(self.program);
        said.into_bytes()
    }
}

impl Waiting {
    /// Nobody yet. `is_watched`: every listen(2) is to be recorded.
    pub fn new(state: &'static State, is_watched: bool) -> Waiting {
        state.ring.set_awaited(u64::from(is_watched));
        Waiting {
            state,
            is_watched,
            all: Mutex::new(Vec::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiter>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, all: &[Waiter]) {
        let count = all.len() as u64 + u64::from(self.is_watched);
        self.state.ring.set_awaited(count);
    }

    /// One more, who has said for what. False if that cannot be understood, or if too
    /// many wait.
    pub fn add(&self, fd: OwnedFd, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        let source = Source {
            name: "wait",
            text: &text,
        };
        let Ok(sockets) = place(&source) else {
            return false;
        };
        let Ok(pattern) = Pattern::new(&sockets, Op::Listen, Way::Touching, None) else {
            return false;
        };
        let mut all = self.lock();
        if all.len() >= MOST {
            return false;
        }
        all.push(Waiter {
            fd: Arc::new(fd),
            pattern,
        });
        self.count(&all);
        true
    }

    /// Where they wait.
    pub fn fds(&self) -> Vec<Arc<OwnedFd>> {
        self.lock().iter().map(|one| one.fd.clone()).collect()
    }

    /// This one does not wait any more.
    pub fn gone(&self, fd: RawFd) {
        let mut all = self.lock();
        all.retain(|one| one.fd.as_raw_fd() != fd);
        self.count(&all);
    }

    /// A record has been read.
    pub fn record(&self, r: &Record, program: &[u8]) {
        if r.errno != 0 || !matches!(r.call, Call::Listen | Call::Bind) {
            return;
        }
        let socket = SocketType {
            domain: r.domain,
            ty: r.ty,
            protocol: r.protocol,
        };
        let is_implicit = r.flags & flag::IMPLICIT != 0;
        let serves = match r.call {
            // What a rule has put elsewhere was bound before it listens.
            Call::Listen => !is_implicit || r.verdict == Verdict::Allow,
            _ => !listens(socket),
        };
        if !serves {
            return;
        }
        // A port of the kernel's choice stands with the address that was got.
        let is_chosen = r.asked.read().is_some_and(|a| a.is_auto()) && r.used.read().is_some();
        let address = match is_chosen && r.verdict == Verdict::Allow {
            true => &r.used,
            false => &r.asked,
        };
        self.found(std::iter::once(Server {
            socket,
            address,
            real: &r.used,
            options: r.options,
            pid: r.pid,
            program,
        }));
    }

    /// Does what is bound serve?
    pub fn is_served(socket: SocketType, state: HolderState) -> bool {
        match listens(socket) {
            true => state == HolderState::Listening,
            false => matches!(state, HolderState::Bound | HolderState::Connected),
        }
    }

    /// These serve: whoever waits for one of them is told.
    pub fn found<'a>(&self, servers: impl Iterator<Item = Server<'a>>) {
        let mut all = self.lock();
        if all.is_empty() {
            return;
        }
        for server in servers {
            all.retain(|one| {
                let is_it = server.is(&one.pattern);
                if is_it && let Err(e) = unix::send(&one.fd, &server.told()) {
                    log::debug!("somebody waits no more: {e}");
                }
                !is_it
            });
        }
        self.count(&all);
    }

    /// Does anybody wait?
    pub fn is_any(&self) -> bool {
        self.state.ring.is_awaited()
    }
}
