//! The thread of the relay.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use bindgate_core::addr::{Addr, af};
use bindgate_core::judge::block;
use bindgate_core::shared::PortKind;
use bindgate_os::diag::Asker;
use bindgate_os::{Instant, inet, limits};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::datagram::{self, Flow};
use super::inside::Inside;
use super::stream::{Connection, Turn};
use super::{Direction, Relay, Service, WAKE, lock};
use crate::{Setup, Shared};

/// The socket at the near end.
pub enum Near {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// A service, and how it stands with it.
pub struct Carried {
    pub service: &'static Service,
    pub near: Option<Near>,
    pub is_open: bool,
    /// Where it is.
    pub target: Option<SocketAddr>,
}

/// A client.
pub enum Slot {
    Stream(Box<Connection>),
    Datagrams(Flow),
}

/// What is ready: a service, or a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    Service(usize),
    Slot(usize),
}

/// The thread.
pub struct Work {
    relay: &'static Relay,
    shared: &'static Shared,
    setup: &'static Setup,
    poll: Poll,
    pub carried: Vec<Carried>,
    pub slots: Vec<Option<Slot>>,
    /// Slots that are free.
    free: Vec<usize>,
    /// As many may be taken.
    most: usize,
    pub flows: datagram::Flows,
    machine: Option<Asker>,
    inside: Option<Inside>,
    /// Who has more to do than one turn.
    pub ready: Vec<Ready>,
    pub buffer: Vec<u8>,
    /// Is somebody gone from the far end?
    pub has_news: bool,
    /// Since when the run is over, and nothing has moved.
    over: Option<Instant>,
}

/// How often it is asked whether somebody is at the far end.
const TICK: Duration = Duration::from_millis(100);
/// How long one who does not take what the run has left for them is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that are carried at once, and the longest datagram.
const BUFFER: usize = 64 << 10;

impl Work {
    pub fn new(
        relay: &'static Relay,
        shared: &'static Shared,
        setup: &'static Setup,
        poll: Poll,
    ) -> Work {
        /// Descriptors of the rest of the daemon, and of those who come to its door.
        const RESERVED: usize = 256;
        const MOST: usize = 16 << 10;
        let files = limits::raise_files();
        let carried = setup.services.iter().map(|service| Carried {
            service,
            near: None,
            is_open: false,
            target: None,
        });
        Work {
            relay,
            shared,
            setup,
            poll,
            carried: carried.collect(),
            slots: Vec::new(),
            free: Vec::new(),
            most: (files.saturating_sub(RESERVED) / 2).clamp(8, MOST),
            flows: datagram::Flows::default(),
            machine: Asker::new(),
            inside: None,
            ready: Vec::new(),
            buffer: vec![0; BUFFER],
            has_news: false,
            over: None,
        }
    }

    pub fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        for (number, service) in self.setup.services.iter().enumerate() {
            let copy = service.socket.as_ref().map(OwnedFd::try_clone);
            if let Some(Ok(socket)) = copy {
                self.have(number, socket, false);
            }
        }
        self.hear();
        self.tick();
        let mut ticked = Instant::now();
        loop {
            let time = match self.ready.is_empty() {
                true => TICK.saturating_sub(ticked.elapsed()),
                false => Duration::ZERO,
            };
            // Interrupted at worst.
            let _ = self.poll.poll(&mut events, Some(time));
            let mut ready = std::mem::take(&mut self.ready);
            let is_told = events.iter().any(|event| event.token() == WAKE);
            let came = events
                .iter()
                .filter_map(|event| self.ready_of(event.token()));
            ready.extend(came);
            for ready in ready {
                self.turn(ready);
            }
            if is_told {
                self.hear();
            }
            if self.has_news || is_told || ticked.elapsed() >= TICK {
                self.has_news = false;
                self.tick();
                ticked = Instant::now();
            }
            if self.over.is_some_and(|since| self.is_done(since)) {
                return;
            }
        }
    }

    /// Tokens are of the services first, and then two for each slot.
    fn ready_of(&self, token: Token) -> Option<Ready> {
        let n = token.0.checked_sub(1)?;
        Some(match n.checked_sub(self.carried.len()) {
            Some(n) => Ready::Slot(n / 2),
            None => Ready::Service(n),
        })
    }

    pub fn token(&self, slot: usize, is_far: bool) -> Token {
        Token(1 + self.carried.len() + 2 * slot + usize::from(is_far))
    }

    pub fn watch(&self, fd: RawFd, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd), token, interest)
    }

    /// Takes what other threads have brought.
    fn hear(&mut self) {
        let (sockets, network) = {
            let mut inbox = lock(&self.relay.inbox);
            if inbox.is_over && self.over.is_none() {
                self.over = Some(Instant::now());
            }
            (std::mem::take(&mut inbox.sockets), inbox.network.take())
        };
        if let Some(way) = network {
            self.inside = Inside::of(way).ok();
        }
        for (number, socket, is_open) in sockets {
            self.have(number, socket, is_open);
        }
        if self.over.is_some() {
            self.end();
        }
    }

    /// A service has its socket at the near end.
    fn have(&mut self, number: usize, socket: OwnedFd, is_open: bool) {
        if self.watch(socket.as_raw_fd(), Token(1 + number)).is_err() {
            return;
        }
        let Some(carried) = self.carried.get_mut(number) else {
            return;
        };
        carried.is_open = is_open;
        carried.near = Some(match carried.service.kind {
            PortKind::Tcp => Near::Tcp(socket.into()),
            PortKind::Udp => Near::Udp(socket.into()),
        });
    }

    /// Looks who is at the far ends, and opens and shuts the near ones.
    fn tick(&mut self) {
        for number in 0..self.carried.len() {
            let target = self.target(number);
            let Some(carried) = self.carried.get_mut(number) else {
                continue;
            };
            carried.target = target;
            let (Some(near), true) = (&carried.near, target.is_some() != carried.is_open) else {
                continue;
            };
            let is_udp = carried.service.is_udp();
            let changed = near.fd().and_then(|fd| match carried.is_open {
                true => inet::shut(&fd, is_udp),
                false => inet::open(&fd, is_udp),
            });
            match changed {
                Ok(()) => carried.is_open = !carried.is_open,
                Err(e) => log::debug!("{}: {e}", carried.service.near),
            }
        }
        // Some may have found no room.
        for number in 0..self.carried.len() {
            self.turn(Ready::Service(number));
        }
        self.forget();
    }

    /// Where a service is, if somebody is there.
    fn target(&self, number: usize) -> Option<SocketAddr> {
        let service = self.carried.get(number)?.service;
        let is_inside = service.direction == Direction::Published && self.setup.block.is_none();
        match (&self.inside, is_inside) {
            (Some(inside), true) => service.find(&service.far, inside.asker.as_ref()),
            (None, true) => None,
            (_, false) => {
                let far = service.far.iter().filter_map(|at| self.real(service, at));
                let far: Vec<SocketAddr> = far.collect();
                service.find(&far, self.machine.as_ref())
            }
        }
    }

    /// Where an address of the run's really is.
    fn real(&self, service: &Service, at: &SocketAddr) -> Option<SocketAddr> {
        let own = match (&self.setup.block, service.direction) {
            (Some(own), Direction::Published) => own,
            _ => return Some(*at),
        };
        let spot = block::spot(&inet::addr(at), false)?;
        let port = self.shared.state.block_ports.real(service.kind, at.port());
        match own.block.real(spot, af::INET, port) {
            Addr::Inet { ip, port } => Some((ip, port).into()),
            _ => None,
        }
    }

    /// A socket for the far end of a service, which will call this address.
    pub fn far_socket(&mut self, service: &Service, to: &SocketAddr) -> io::Result<OwnedFd> {
        let (is_udp, is_six) = (service.is_udp(), to.is_ipv6());
        match (service.direction, &self.setup.block, &mut self.inside) {
            (Direction::Shared, ..) => inet::socket(is_udp, is_six),
            (Direction::Published, Some(_), _) => {
                // From the block, so that answers find their way.
                let fd = inet::socket(is_udp, is_six)?;
                inet::call_from(&fd, is_udp, to.ip())?;
                Ok(fd)
            }
            (Direction::Published, None, Some(inside)) => inside.socket(is_udp, is_six),
            (Direction::Published, None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn turn(&mut self, ready: Ready) {
        match ready {
            Ready::Service(number) => {
                match self.carried.get(number).and_then(|c| c.near.as_ref()) {
                    Some(Near::Tcp(_)) => self.admit(number),
                    Some(Near::Udp(_)) => self.receive(number),
                    None => {}
                }
            }
            Ready::Slot(slot) => match self.slots.get_mut(slot) {
                Some(Some(Slot::Stream(connection))) => {
                    let turn = connection.turn(&mut self.buffer);
                    self.after(slot, turn);
                }
                Some(Some(Slot::Datagrams(_))) => self.answer(slot),
                _ => {}
            },
        }
    }

    fn after(&mut self, slot: usize, turn: Turn) {
        match turn {
            Turn::More => self.ready.push(Ready::Slot(slot)),
            Turn::Waits => {}
            Turn::Ended => self.give_back(slot),
            Turn::Refused => {
                self.has_news = true;
                self.give_back(slot);
            }
        }
    }

    /// Lets clients of a TCP service in.
    fn admit(&mut self, number: usize) {
        loop {
            if self.is_full() {
                return;
            }
            let Some(carried) = self.carried.get(number) else {
                return;
            };
            let Some(Near::Tcp(listener)) = &carried.near else {
                return;
            };
            let (service, target) = (carried.service, carried.target);
            let client = match listener.accept() {
                Ok((client, _)) => client,
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                // Nobody; or no descriptor is free, and the next tick tries again.
                Err(_) => return,
            };
            let called = target.ok_or(io::ErrorKind::ConnectionRefused.into());
            let far = called.and_then(|to| {
                let far = self.far_socket(service, &to)?;
                inet::connect(&far, &to).map(|is_there| (far, is_there))
            });
            let (far, is_there) = match far {
                Ok(far) => far,
                Err(_) => {
                    self.has_news = true;
                    let _ = inet::reset_on_close(&client.into());
                    continue;
                }
            };
            let Ok(connection) = Connection::new(client, far, is_there, service.direction) else {
                continue;
            };
            let fds = connection.fds();
            let slot = self.take(Slot::Stream(Box::new(connection)));
            let watched = [false, true]
                .into_iter()
                .zip(fds)
                .try_for_each(|(is_far, fd)| self.watch(fd, self.token(slot, is_far)));
            match watched {
                Ok(()) => self.turn(Ready::Slot(slot)),
                Err(_) => self.give_back(slot),
            }
        }
    }

    pub fn is_full(&self) -> bool {
        self.slots.len() - self.free.len() >= self.most
    }

    pub fn take(&mut self, slot: Slot) -> usize {
        match self.free.pop() {
            Some(n) => {
                if let Some(place) = self.slots.get_mut(n) {
                    *place = Some(slot);
                }
                n
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() - 1
            }
        }
    }

    pub fn give_back(&mut self, slot: usize) {
        let taken = self.slots.get_mut(slot).and_then(Option::take);
        if let Some(taken) = taken {
            if let Slot::Datagrams(flow) = taken {
                self.flows.remove(&flow);
            }
            self.free.push(slot);
        }
    }

    /// The run is over: nobody new is let in.
    fn end(&mut self) {
        for number in 0..self.carried.len() {
            // A last time.
            self.turn(Ready::Service(number));
        }
        for slot in 0..self.slots.len() {
            match self.slots.get_mut(slot) {
                Some(Some(Slot::Stream(connection))) => {
                    connection.is_over = true;
                    self.ready.push(Ready::Slot(slot));
                }
                Some(Some(Slot::Datagrams(_))) => {
                    self.answer(slot);
                    self.give_back(slot);
                }
                _ => {}
            }
        }
        for carried in &mut self.carried {
            let near = carried.near.take();
            // Others may have a copy.
            if let Some(Ok(fd)) = near.as_ref().filter(|_| carried.is_open).map(Near::fd) {
                let _ = inet::shut(&fd, carried.service.is_udp());
            }
        }
    }

    /// Is there nothing left that somebody may still take?
    fn is_done(&self, since: Instant) -> bool {
        let moved = self.slots.iter().flatten().filter_map(|slot| match slot {
            Slot::Stream(connection) => Some(connection.moved),
            Slot::Datagrams(_) => None,
        });
        let is_waited_for =
            |moved: Instant| moved.elapsed() < PATIENCE || since.elapsed() < PATIENCE;
        !moved.into_iter().any(is_waited_for)
    }
}

impl Near {
    /// A copy of its descriptor.
    fn fd(&self) -> io::Result<OwnedFd> {
        match self {
            Near::Tcp(listener) => Ok(listener.try_clone()?.into()),
            Near::Udp(socket) => Ok(socket.try_clone()?.into()),
        }
    }
}
