//! The relay: carries services between the run's own network, or the ports of its own,
//! and the machine's network.
//!
//! ```text
//!   a client ──► near: a socket at the service's address ─┐ relay ┌─► far: the service
//! ```
//!
//! | a service is | near is | far is |
//! |---|---|---|
//! | shared (`host share`) | in the run's own network | on the machine |
//! | published (`--publish`) | on the machine | in the run's own network, or in its block |
//!
//! The address at the near end is held all the time, and is open to clients only while
//! somebody is at the far end. So who calls while nobody is there is refused, as
//! without a relay.

mod datagram;
mod inside;
mod stream;
mod work;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bindgate_core::shared::PortKind;
use bindgate_os::diag::Asker;
use mio::{Poll, Token, Waker};

use super::space::Way;
use super::{Setup, Shared};
use work::Work;

/// Which way a service is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// One of the machine's, for the programs of the run.
    Shared,
    /// One of the run's, for the machine.
    Published,
}

/// A service that is carried.
#[derive(Debug)]
pub struct Service {
    /// Which way.
    pub direction: Direction,
    /// TCP or UDP.
    pub kind: PortKind,
    /// Where its clients call it.
    pub near: SocketAddr,
    /// The addresses at which it may be, as the run knows them if it is the run's.
    pub far: Vec<SocketAddr>,
    /// Can it be seen from here whether somebody is there? Not of another machine's.
    pub is_seen: bool,
    /// The socket at the near end, if that is on the machine.
    pub socket: Option<OwnedFd>,
}

impl Service {
    /// Is it one of UDP?
    #[must_use]
    pub fn is_udp(&self) -> bool {
        self.kind == PortKind::Udp
    }

    /// The protocol's name.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            PortKind::Tcp => "tcp",
            PortKind::Udp => "udp",
        }
    }

    /// The port at the far end.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.far.first().map_or(0, SocketAddr::port)
    }

    /// The address in `far` where somebody is, as the asker sees it. Where nobody can
    /// ask, somebody is taken to be there.
    #[must_use]
    pub fn find(&self, far: &[SocketAddr], asker: Option<&Asker>) -> Option<SocketAddr> {
        match asker.filter(|_| self.is_seen) {
            Some(asker) => {
                let is_there = |at: &&SocketAddr| asker.is_there(self.is_udp(), at);
                far.iter().find(is_there).copied()
            }
            None => far.first().copied(),
        }
    }
}

/// The services that are published: those that are the same but for their addresses
/// together.
pub fn published(services: &[Service]) -> impl Iterator<Item = &[Service]> {
    let place = |s: &Service| (s.direction, s.kind, s.port(), s.near.port());
    let all = services.chunk_by(move |a, b| place(a) == place(b));
    all.filter(|all| all.iter().any(|s| s.direction == Direction::Published))
}

/// What the other threads bring.
#[derive(Default)]
struct Inbox {
    /// Sockets of the run's own network, by the number of their service, and whether
    /// they are open.
    sockets: Vec<(usize, OwnedFd, bool)>,
    /// The run's own network.
    network: Option<Way>,
    is_over: bool,
}

/// The relay, as the other threads have it.
pub struct Relay {
    inbox: Mutex<Inbox>,
    waker: Waker,
    poll: Mutex<Option<Poll>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

const WAKE: Token = Token(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// One that does nothing yet.
    ///
    /// # Errors
    /// As epoll_create(2) and eventfd(2).
    pub fn new() -> io::Result<Relay> {
        let poll = Poll::new()?;
        Ok(Relay {
            inbox: Mutex::default(),
            waker: Waker::new(poll.registry(), WAKE)?,
            poll: Mutex::new(Some(poll)),
            thread: Mutex::new(None),
        })
    }

    /// Begins.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(super) fn start(
        &'static self,
        shared: &'static Shared,
        setup: &'static Setup,
    ) -> io::Result<()> {
        let Some(poll) = lock(&self.poll).take() else {
            return Ok(());
        };
        let thread = std::thread::Builder::new().name("bindgate-relay".into());
        let begin = move || Work::new(self, shared, setup, poll).run();
        *lock(&self.thread) = Some(thread.stack_size(256 << 10).spawn(begin)?);
        Ok(())
    }

    /// The socket of a service in the run's own network; is it open to clients?
    pub fn bring(&self, number: usize, socket: OwnedFd, is_open: bool) {
        lock(&self.inbox).sockets.push((number, socket, is_open));
        let _ = self.waker.wake();
    }

    /// The run has a network of its own.
    pub fn seal(&self, network: Option<Way>) {
        lock(&self.inbox).network = network;
        let _ = self.waker.wake();
    }

    /// The run is over: returns when what its programs have sent is delivered.
    pub fn finish(&self) {
        lock(&self.inbox).is_over = true;
        let _ = self.waker.wake();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}
