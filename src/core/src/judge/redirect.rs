//! Where a redirected socket goes, what cannot be redirected, and with which
//! error that is refused.
//!
//! Pure: what has to be known of the socket is handed in. The shim carries a
//! [`Placement`] out, `explain` says it.

use core::net::Ipv6Addr;

use crate::addr::{Addr, UnixName, af};
use crate::errno::{EAGAIN, ECONNREFUSED, ECONNRESET, ELOOP, ENOENT, ENOTDIR, EPROTOTYPE};
use crate::model::Claim;
use crate::policy::{Decision, Verb};
use crate::record::{flag, refusal};
use crate::socket::{KindSet, SocketType};
use crate::uapi::inet_diag;

/// Why a redirect cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Refusal {
    /// The socket's family has no such addresses.
    Family = refusal::FAMILY,
    /// The run's table of redirected sockets is full of living ones.
    TableFull = refusal::TABLE_FULL,
    /// Another process holds a duplicate of the socket.
    Shared = refusal::SHARED,
    /// Something stands at the target path that is no socket, or one in use.
    Path = refusal::PATH,
    /// A datagram socket cannot become a Unix socket.
    Datagram = refusal::DATAGRAM,
    /// Too little may be asked of the kernel to set a redirect up.
    Filter = refusal::SECCOMP,
    /// Not all descriptors or epoll registrations of the socket can be carried
    /// over to the one that takes its place.
    Carry = refusal::CARRY,
}

/// The error of a bind that another redirected socket stands in the way of,
/// where the kernel would not see it.
pub const CONFLICT: u16 = 98; // EADDRINUSE

impl Refusal {
    /// The error that the program sees.
    #[must_use]
    pub const fn errno(self) -> u16 {
        const EACCES: u16 = 13;
        const EOPNOTSUPP: u16 = 95;
        const EAFNOSUPPORT: u16 = 97;
        const EADDRINUSE: u16 = 98;
        const EADDRNOTAVAIL: u16 = 99;
        const ENOBUFS: u16 = 105;
        match self {
            Refusal::Family => EAFNOSUPPORT,
            Refusal::TableFull => ENOBUFS,
            Refusal::Shared | Refusal::Carry => EADDRNOTAVAIL,
            Refusal::Path => EADDRINUSE,
            Refusal::Datagram => EOPNOTSUPP,
            Refusal::Filter => EACCES,
        }
    }

    /// Why, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Refusal::Family => "the socket's family has no such addresses",
            Refusal::TableFull => "the run's table of redirected sockets is full",
            Refusal::Shared => "another process holds a duplicate of the socket",
            Refusal::Path => "the target path is taken",
            Refusal::Datagram => "a datagram socket cannot become a Unix socket",
            Refusal::Filter => {
                "the program is under a seccomp filter: nothing can be set up for it"
            }
            Refusal::Carry => "its descriptors or epoll registrations cannot all be carried over",
        }
    }

    /// The refusal that a record names.
    #[must_use]
    pub fn of_reason(reason: u16) -> Option<Refusal> {
        Self::ALL.into_iter().find(|r| r.reason() == reason)
    }

    const ALL: [Refusal; 7] = [
        Refusal::Family,
        Refusal::TableFull,
        Refusal::Shared,
        Refusal::Path,
        Refusal::Datagram,
        Refusal::Filter,
        Refusal::Carry,
    ];

    /// [`crate::record::Record::reason`] of the refusal.
    #[must_use]
    pub const fn reason(self) -> u16 {
        self as u16
    }
}

/// What becomes of a redirected socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// It gets another address of its own family.
    Address(Addr),
    /// It gets the wildcard with this port and is bound to the device `lo`, so
    /// that it serves both families, on loopback alone.
    OnLo(u16),
    /// A Unix socket of this name takes its place.
    Unix(UnixName),
}

impl Placement {
    /// The address that is really bound or called.
    #[must_use]
    pub fn addr(&self) -> Addr {
        match *self {
            Placement::Address(addr) => addr,
            Placement::OnLo(port) => Addr::inet6([0; 16], port),
            Placement::Unix(name) => Addr::Unix(name),
        }
    }

    /// The addresses that can stand in for [`Placement::OnLo`] where somebody
    /// else has its port at another address of this host: the one of each
    /// family. The first is taken if both can be had.
    #[must_use]
    pub fn instead(&self) -> Option<[Addr; 2]> {
        let Placement::OnLo(port) = *self else {
            return None;
        };
        let v4 = core::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        Some([
            Addr::inet6(v4, port),
            Addr::inet6(Ipv6Addr::LOCALHOST.octets(), port),
        ])
    }
}

/// Where a bind goes that a `move` or `hide` decided, of a socket that asked for
/// `asked`; `None` is an address without words.
///
/// # Errors
/// If there is no such place for the socket.
pub fn bind(
    decision: &Decision,
    asked: Option<&Addr>,
    socket: SocketType,
    v6only: bool,
) -> Result<Placement, Refusal> {
    let asked = asked.ok_or(Refusal::Family)?;
    let target = match decision.verb {
        Verb::Hide => hidden(socket).ok_or(Refusal::Family)?,
        _ => decision.target.ok_or(Refusal::Family)?,
    };
    if decision.to_loopback
        && let Some(port) = target.port()
        && is_dual_stack(socket, asked, v6only)
    {
        return Ok(Placement::OnLo(port as u16));
    }
    fit(target, socket, v6only)
}

/// Where a connect or a send goes that a `move` decided.
///
/// # Errors
/// If the socket cannot call that place.
pub fn connect(decision: &Decision, socket: SocketType) -> Result<Placement, Refusal> {
    fit(decision.target.ok_or(Refusal::Family)?, socket, false)
}

/// What the program of a socket is told whose Unix socket could not be
/// connected: the error that its own family would have for that.
#[must_use]
pub fn connect_error(socket: SocketType, errno: u16) -> u16 {
    match (socket.domain, errno) {
        // Nobody listens there, or the queue is full: the peer's transport
        // resets the connection.
        (af::VSOCK, ENOENT | ENOTDIR | ELOOP | EPROTOTYPE | EAGAIN | ECONNREFUSED) => ECONNRESET,
        (_, ENOENT | ENOTDIR | ELOOP | EPROTOTYPE | EAGAIN) => ECONNREFUSED,
        _ => errno,
    }
}

/// Does a connect of such a socket wait while the queue of its peer is full?
#[must_use]
pub fn waits_for_room(socket: SocketType) -> bool {
    socket.domain != af::VSOCK
}

/// Can a socket of this kind be at the target?
fn fit(target: Addr, socket: SocketType, v6only: bool) -> Result<Placement, Refusal> {
    match target {
        Addr::Unix(_) if socket.domain != af::UNIX && !socket.is_stream() => Err(Refusal::Datagram),
        Addr::Unix(name) if socket.domain != af::UNIX => Ok(Placement::Unix(name)),
        _ if target.family() != socket.domain => Err(Refusal::Family),
        Addr::Inet6 { .. } if v6only && target.ipv4().is_some() => Err(Refusal::Family),
        _ => Ok(Placement::Address(target)),
    }
}

/// Does the socket receive for both families at this address?
#[must_use]
pub fn is_dual_stack(socket: SocketType, asked: &Addr, v6only: bool) -> bool {
    !v6only
        && socket.domain == af::INET6
        && socket.kinds().intersects(KindSet::TCP | KindSet::UDP)
        && matches!(asked, Addr::Inet6 { ip, .. } if *ip == [0; 16])
}

/// The clients that a socket loses which asked for `asked` and is at `real`: a
/// bit of [`flag`], or 0.
#[must_use]
pub fn lost(socket: SocketType, asked: &Addr, v6only: bool, real: &Addr) -> u16 {
    if !is_dual_stack(socket, asked, v6only) || real.family() != af::INET6 {
        return 0;
    }
    match real.ipv4() {
        Some(_) => flag::LOST_INET6,
        None if real.is_wildcard() => 0,
        None => flag::LOST_INET,
    }
}

/// Where a hidden socket goes: a port of the kernel's choice on loopback,
/// with a filter that drops everything; a Unix name of the kernel's choice
/// for a family without such a filter.
fn hidden(socket: SocketType) -> Option<Addr> {
    match socket.domain {
        af::INET => Some(Addr::Inet {
            ip: [127, 0, 0, 1],
            port: 0,
        }),
        af::INET6 => Some(Addr::inet6(Ipv6Addr::LOCALHOST.octets(), 0)),
        af::UNIX | af::VSOCK => Some(Addr::Unix(UnixName::AUTO)),
        _ => None,
    }
}

/// A redirected socket: where its program thinks that it is, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redirected {
    /// Where it thinks.
    pub virt: Claim,
    /// Its real address.
    pub real: Addr,
    /// The device that the real socket is bound to.
    pub real_device: u32,
}

impl Redirected {
    fn really(&self) -> Claim {
        Claim {
            addr: self.real,
            device: self.real_device,
            ..self.virt
        }
    }

    /// Would the program see a conflict of the two, or must it, because the
    /// kernel would let two addresses share one place?
    ///
    /// What the program thinks to be the same address at the same real one is
    /// left to the kernel.
    #[must_use]
    pub fn is_refused_by(&self, old: &Redirected) -> bool {
        if !self.real.is_auto() && self.really().overlaps(&old.really()) {
            return old.virt.addr != self.virt.addr;
        }
        !self.virt.addr.is_auto() && self.virt.is_refused_by(&old.virt)
    }
}

/// Is a redirected IP socket still in its place?
///
/// sock_diag lists it by its cookie. Before Linux 6.8 it lists no TCP socket
/// that is bound and neither listens nor is connected: then the place is taken
/// and nobody who is listed has it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    at: Claim,
    cookie: u64,
    is_listed: bool,
    has_others: bool,
}

impl Place {
    /// The real place of the socket with this cookie.
    #[must_use]
    pub fn new(socket: SocketType, addr: Addr, v6only: bool, cookie: u64) -> Place {
        Place {
            at: Claim {
                socket,
                addr,
                v6only,
                reuse: false,
                reuseport: false,
                listens: false,
                uid: 0,
                // As that of the trial bind: it meets those on every device.
                device: 0,
            },
            cookie,
            is_listed: false,
            has_others: false,
        }
    }

    /// sock_diag lists this socket.
    pub fn listed(&mut self, s: &inet_diag::Socket) {
        if s.cookie == self.cookie {
            self.is_listed = true;
        } else if !self.has_others {
            self.has_others = self.at.overlaps(&Claim {
                socket: SocketType {
                    domain: s.family.into(),
                    ..self.at.socket
                },
                addr: s.local(),
                v6only: s.v6only,
                device: s.dev,
                ..self.at
            });
        }
    }

    /// Is it known already whether the socket is there?
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_listed || self.has_others
    }

    /// Is the socket there, once all were [listed](Self::listed) that have its
    /// port? `is_taken`: what a trial bind says of the place, if it must.
    #[must_use]
    pub fn holds(&self, is_taken: impl FnOnce() -> bool) -> bool {
        self.is_listed || !self.has_others && is_taken()
    }
}

#[cfg(test)]
mod tests;
