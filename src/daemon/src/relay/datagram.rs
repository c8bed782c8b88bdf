//! Datagrams that are carried: for each client of a UDP service a socket at the far end,
//! whose answers are the client's.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use bindgate_os::{Instant, inet};

use super::work::{Near, Ready, Slot, Work};

/// A client of a UDP service.
pub struct Flow {
    /// The number of the service.
    service: usize,
    client: SocketAddr,
    far: UdpSocket,
    /// When it was last used.
    used: Instant,
}

/// The slots of the clients.
#[derive(Default)]
pub struct Flows {
    slots: HashMap<(usize, SocketAddr), usize>,
    swept: Option<Instant>,
}

impl Flows {
    pub fn remove(&mut self, flow: &Flow) {
        self.slots.remove(&(flow.service, flow.client));
    }
}

/// How long a client may be silent that is not forgotten.
const REMEMBERED: Duration = Duration::from_secs(120);
/// How often those are looked for that are.
const SWEEP: Duration = Duration::from_secs(1);
/// Datagrams of one turn.
const TURNS: usize = 64;

impl Work {
    /// Carries datagrams of clients.
    pub fn receive(&mut self, number: usize) {
        for _ in 0..TURNS {
            let Some(carried) = self.carried.get(number).filter(|c| c.is_open) else {
                return;
            };
            let Some(Near::Udp(near)) = &carried.near else {
                return;
            };
            let (n, client) = match near.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(_) => return,
            };
            let Ok(slot) = self.flow(number, client) else {
                continue;
            };
            let Some(Some(Slot::Datagrams(flow))) = self.slots.get_mut(slot) else {
                continue;
            };
            flow.used = Instant::now();
            let datagram = self.buffer.get(..n).unwrap_or_default();
            // Where there is no room it is lost, as on any way.
            let sent = flow.far.send(datagram);
            if sent.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused) {
                self.has_news = true;
            }
        }
        self.ready.push(Ready::Service(number));
    }

    /// The slot of a client.
    fn flow(&mut self, number: usize, client: SocketAddr) -> io::Result<usize> {
        if let Some(slot) = self.flows.slots.get(&(number, client)) {
            return Ok(*slot);
        }
        if self.is_full() {
            self.drop_oldest();
        }
        let none = || io::Error::from(ErrorKind::NotConnected);
        let carried = self.carried.get(number).ok_or_else(none)?;
        let (service, to) = (carried.service, carried.target.ok_or_else(none)?);
        let far = self.far_socket(service, &to)?;
        inet::connect(&far, &to)?;
        let fd = far.as_raw_fd();
        let slot = self.take(Slot::Datagrams(Flow {
            service: number,
            client,
            far: far.into(),
            used: Instant::now(),
        }));
        self.flows.slots.insert((number, client), slot);
        if let Err(e) = self.watch(fd, self.token(slot, true)) {
            self.give_back(slot);
            return Err(e);
        }
        Ok(slot)
    }

    /// Carries the answers for a client.
    pub fn answer(&mut self, slot: usize) {
        for _ in 0..TURNS {
            let Some(Some(Slot::Datagrams(flow))) = self.slots.get_mut(slot) else {
                return;
            };
            let n = match flow.far.recv(&mut self.buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                    self.has_news = true;
                    continue;
                }
                Err(_) => return,
            };
            flow.used = Instant::now();
            let datagram = self.buffer.get(..n).unwrap_or_default();
            let near = self.carried.get(flow.service);
            if let Some(Near::Udp(near)) = near.and_then(|carried| carried.near.as_ref()) {
                let _ = near.send_to(datagram, flow.client);
            }
        }
        self.ready.push(Ready::Slot(slot));
    }

    /// Forgets clients that have been silent for long, or whose service is gone or
    /// elsewhere.
    pub fn forget(&mut self) {
        let is_due = |since: Instant| since.elapsed() >= SWEEP;
        if !self.flows.swept.is_none_or(is_due) {
            return;
        }
        self.flows.swept = Some(Instant::now());
        let old: Vec<usize> = self
            .flows()
            .filter(|(_, flow)| {
                let carried = self.carried.get(flow.service);
                let target = carried.and_then(|carried| carried.target);
                let is_there = flow.far.peer_addr().ok() == target;
                flow.used.elapsed() > REMEMBERED || !is_there
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in old {
            self.give_back(slot);
        }
    }

    /// Makes room.
    fn drop_oldest(&mut self) {
        let now = Instant::now();
        let oldest = self.flows().max_by_key(|(_, flow)| now.since(flow.used));
        if let Some((slot, _)) = oldest {
            self.give_back(slot);
        }
    }

    fn flows(&self) -> impl Iterator<Item = (usize, &Flow)> {
        let slots = self.flows.slots.values();
        slots.filter_map(|slot| match self.slots.get(*slot) {
            Some(Some(Slot::Datagrams(flow))) => Some((*slot, flow)),
            _ => None,
        })
    }
}
