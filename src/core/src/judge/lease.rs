//! Port leases: a port that a program of the run got from an automatic bind stays
//! the run's, after the socket is closed.
//!
//! Test suites look for a free port by a bind to port 0, close the socket and
//! start a server there. Between the two anybody can get the port. So the run's
//! automatic binds get ports from which no automatic bind of others takes one: they
//! lie outside `ip_local_port_range`, and no other run leases them. Within the
//! run a port is handed out again only after somebody has bound it by its number.

use super::block;
use crate::addr::Addr;
use crate::policy::View;
use crate::shared::PortKind;
use crate::socket::{SocketType, proto};

/// The ports that a run leases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pool {
    first: u16,
    count: u16,
}

/// Whose leases a socket gets; `None` for one that gets no leased port.
#[must_use]
pub fn port_kind(socket: SocketType) -> Option<PortKind> {
    block::port_kind(socket).filter(|_| socket.protocol != proto::UDPLITE)
}

impl Pool {
    /// The pool of the run with this policy.
    #[must_use]
    pub fn of(view: &View<'_>) -> Option<Pool> {
        let (count, first) = view.lease()?;
        (first != 0).then_some(Pool { first, count })
    }

    /// How many ports there are.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.count)
    }

    /// The port with this number.
    #[must_use]
    pub fn port(self, index: u32) -> Option<u16> {
        let index = u16::try_from(index).ok().filter(|i| *i < self.count)?;
        self.first.checked_add(index)
    }

    /// The number of the port that a bind asks for, if the run leases it.
    #[must_use]
    pub fn asked(self, asked: &Addr) -> Option<u32> {
        match *asked {
            Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => self.index(port),
            _ => None,
        }
    }

    /// The number of a port that the run leases.
    #[must_use]
    pub fn index(self, port: u16) -> Option<u32> {
        let index = port.checked_sub(self.first)?;
        (index < self.count).then_some(u32::from(index))
    }

    /// Does a bind to `asked` get a leased port, if the socket has a [`port_kind`]? The
    /// kernel would choose one.
    #[must_use]
    pub fn serves(asked: &Addr) -> bool {
        matches!(
            asked,
            Addr::Inet { port: 0, .. } | Addr::Inet6 { port: 0, .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_numbers() {
        let pool = Pool {
            first: 65_280,
            count: 256,
        };
        assert_eq!(pool.port(255), Some(65_535));
        assert_eq!(pool.port(256), None);
        assert_eq!(pool.index(65_535), Some(255));
        assert_eq!(pool.index(65_279), None);
        let pool = Pool {
            first: 20_000,
            count: 2,
        };
        assert_eq!(pool.index(20_002), None);
        assert_eq!(pool.index(20_001), Some(1));
    }
}
