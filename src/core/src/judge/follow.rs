//! Where a client goes that calls the address of a server which a rule moved, and
//! says `followed`.
//!
//! A driver has the run's table. It asks [`Follow::rank`] about each entry that its
//! program may mean ([`Follow::key`]), takes a living one of the first [`RANKS`] that
//! has one, and goes where [`Follow::decision`] says.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::Caller;
use super::fast::LookedAt;
use crate::addr::{Addr, RawAddr, af};
use crate::policy::{Decision, Verb};
use crate::shared::{Moved, move_kind, move_mark};
use crate::socket::{KindSet, SocketType};

/// How well a server fits, best first: at that very address, at the wildcard of its
/// family, at `::` for both families.
pub const RANKS: u8 = 3;

/// A call to an IP address, of which a server in the run may think that it is there.
#[derive(Clone, Copy, Debug)]
pub struct Follow<'p> {
    caller: &'p Caller<'p>,
    /// As it was called.
    asked: Addr,
    /// What that means.
    to: Addr,
}

impl<'p> Follow<'p> {
    /// `None` where no server can be meant.
    #[must_use]
    pub fn new(caller: &'p Caller<'p>, asked: Option<&Addr>) -> Option<Follow<'p>> {
        let view = caller.view;
        if !view.has_followed() || caller.observe {
            return None;
        }
        let asked = *asked?;
        let port = match asked {
            Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => port,
            _ => return None,
        };
        // No rule is about a server at that port.
        if port == 0 || LookedAt::of(view).is_without(asked.family(), port) {
            return None;
        }
        let to = match asked.is_wildcard() {
            true => loopback(&asked),
            false => asked,
        };
        Some(Follow { caller, asked, to })
    }

    /// Entries of the run's table with the port of this address may be meant.
    #[must_use]
    pub fn key(&self) -> RawAddr {
        self.to.write()
    }

    /// Has it to be known whether the address is one of this host's?
    #[must_use]
    pub fn is_elsewhere(&self) -> Option<&Addr> {
        (!self.to.is_loopback()).then_some(&self.to)
    }

    /// How well the server of an entry fits a client of this kind, if it is one: below
    /// [`RANKS`]. `is_own`: the address is one of this host's.
    #[must_use]
    pub fn rank(&self, client: SocketType, netns: u64, is_own: bool, server: &Moved) -> Option<u8> {
        let elsewhere = netns != server.netns && netns != 0 && server.netns != 0;
        if server.kind != move_kind::SAME_FAMILY
            || elsewhere
            || !share_a_table(client, server.socket)
            || !self.caller.view.is_followed(server.rule)
        {
            return None;
        }
        let virt = server.virt.read()?;
        if virt.port() != self.to.port() || self.place(client, server).is_none() {
            return None;
        }
        let own = |rank: u8| is_own.then_some(rank);
        match (virt.is_wildcard(), virt.ipv4(), self.to.ipv4()) {
            (false, Some(a), Some(b)) => (a == b).then_some(0),
            (false, None, None) => match (virt, self.to) {
                (Addr::Inet6 { ip: a, .. }, Addr::Inet6 { ip: b, .. }) => (a == b).then_some(0),
                _ => None,
            },
            (true, Some(_), Some(_)) | (true, None, None) => own(1),
            (true, None, Some(_)) if server.marks & move_mark::V6ONLY == 0 => own(2),
            _ => None,
        }
    }

    /// Where such a client really goes.
    fn place(&self, client: SocketType, server: &Moved) -> Option<Addr> {
        let real = server.real.read()?;
        let port = real.port().filter(|port| *port != 0)?;
        let at = match real.is_wildcard() {
            true if server.marks & move_mark::ON_LO != 0 && !self.to.is_loopback() => {
                loopback(&self.to)
            }
            true => self.asked,
            false => real,
        };
        let at = match (client.domain, at) {
            (af::INET, Addr::Inet6 { .. }) => Addr::Inet {
                ip: at.ipv4()?,
                port: 0,
            },
            (af::INET6, Addr::Inet { ip, .. }) => six(Ipv4Addr::from(ip).to_ipv6_mapped()),
            (_, at) => at,
        };
        Some(at.with_port(port))
    }

    /// What is decided, where this server is meant; `note` is the rule that noted the
    /// call.
    #[must_use]
    pub fn decision(&self, client: SocketType, server: &Moved, note: Option<u32>) -> Decision {
        Decision {
            verb: Verb::Move,
            errno: 0,
            rule: Some(server.rule),
            note,
            target: self.place(client, server),
            to_loopback: false,
            by_default: false,
            doubt: None,
        }
    }
}

fn six(ip: Ipv6Addr) -> Addr {
    Addr::inet6(ip.octets(), 0)
}

/// The loopback address of the family that an address is really of.
fn loopback(of: &Addr) -> Addr {
    let port = of.port().unwrap_or(0);
    match (of, of.ipv4()) {
        (Addr::Inet6 { .. }, None) => six(Ipv6Addr::LOCALHOST),
        (Addr::Inet6 { .. }, _) => six(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        _ => Addr::Inet {
            ip: Ipv4Addr::LOCALHOST.octets(),
            port: 0,
        },
    }
    .with_port(port)
}

fn share_a_table(a: SocketType, b: SocketType) -> bool {
    let tables = [KindSet::TCP, KindSet::UDP];
    tables
        .into_iter()
        .any(|table| a.kinds().intersects(table) && b.kinds().intersects(table))
}

#[cfg(all(test, feature = "alloc"))]
mod tests;
