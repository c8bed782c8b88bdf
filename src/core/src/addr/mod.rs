//! Socket addresses as the kernel reads them.
//!
//! [`RawAddr`] is what a program handed over, byte for byte; [`Addr`] is its
//! meaning, [`UnixName`] that of a Unix socket's.

mod name;
mod print;
mod raw;

pub use name::{UnixKind, UnixName};
pub use print::write_bytes;
pub use raw::RawAddr;

/// `sizeof(struct sockaddr_storage)`: more is `EINVAL` in `move_addr_to_kernel`.
pub const STORAGE: usize = 128;

/// Address families by the numbers of `<linux/socket.h>`.
pub mod af {
    #![allow(missing_docs)]
    pub const UNSPEC: u16 = 0;
    pub const UNIX: u16 = 1;
    pub const INET: u16 = 2;
    pub const INET6: u16 = 10;
    pub const NETLINK: u16 = 16;
    pub const PACKET: u16 = 17;
    pub const VSOCK: u16 = 40;
}

/// `VMADDR_CID_ANY` and `VMADDR_PORT_ANY` of vsock(7).
pub const VMADDR_ANY: u32 = u32::MAX;

/// What an address means. Ports and numbers are in host byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Addr {
    /// `struct sockaddr_in`
    Inet { ip: [u8; 4], port: u16 },
    /// `struct sockaddr_in6`
    Inet6 {
        ip: [u8; 16],
        port: u16,
        flow: u32,
        scope: u32,
    },
    /// `struct sockaddr_un`
    Unix(UnixName),
    /// `struct sockaddr_vm`
    Vsock { cid: u32, port: u32, flags: u8 },
    /// `struct sockaddr_nl`
    Netlink { pid: u32, groups: u32 },
    /// `struct sockaddr_ll`
    Packet { protocol: u16, ifindex: u32 },
}

impl Addr {
    /// The wildcard address with port 0 of `family`: what an implicit bind asks.
    #[must_use]
    pub fn any(family: u16) -> Option<Addr> {
        match family {
            af::INET => Some(Addr::Inet {
                ip: [0; 4],
                port: 0,
            }),
            af::INET6 => Some(Addr::Inet6 {
                ip: [0; 16],
                port: 0,
                flow: 0,
                scope: 0,
            }),
            af::UNIX => Some(Addr::Unix(UnixName::AUTO)),
            af::VSOCK => Some(Addr::Vsock {
                cid: VMADDR_ANY,
                port: VMADDR_ANY,
                flags: 0,
            }),
            _ => None,
        }
    }

    /// The address family.
    #[must_use]
    pub fn family(&self) -> u16 {
        match self {
            Addr::Inet { .. } => af::INET,
            Addr::Inet6 { .. } => af::INET6,
            Addr::Unix(_) => af::UNIX,
            Addr::Vsock { .. } => af::VSOCK,
            Addr::Netlink { .. } => af::NETLINK,
            Addr::Packet { .. } => af::PACKET,
        }
    }

    /// The port: of the transport, or of vsock. `None` where there is none.
    #[must_use]
    pub fn port(&self) -> Option<u32> {
        match *self {
            Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => Some(u32::from(port)),
            Addr::Vsock { port, .. } => Some(port),
            _ => None,
        }
    }

    /// The same address with another port; unchanged where there is none.
    /// IP ports are taken modulo 65536: the caller has checked the range.
    #[must_use]
    pub fn with_port(mut self, to: u32) -> Addr {
        match &mut self {
            Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => *port = to as u16,
            Addr::Vsock { port, .. } => *port = to,
            _ => {}
        }
        self
    }

    /// Is the port left to the kernel (port 0, `VMADDR_PORT_ANY`, autobind)?
    #[must_use]
    pub fn is_auto(&self) -> bool {
        match self {
            Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => *port == 0,
            Addr::Vsock { port, .. } => *port == VMADDR_ANY,
            Addr::Unix(name) => name.kind == UnixKind::Auto,
            _ => false,
        }
    }

    /// The IPv4 address in an IPv4 or IPv4-mapped address.
    #[must_use]
    pub fn ipv4(&self) -> Option<[u8; 4]> {
        match self {
            Addr::Inet { ip, .. } => Some(*ip),
            Addr::Inet6 {
                ip: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4 @ ..],
                ..
            } => Some(*v4),
            _ => None,
        }
    }

    /// An IPv6 address without flow and scope.
    #[must_use]
    pub const fn inet6(ip: [u8; 16], port: u16) -> Addr {
        Addr::Inet6 {
            ip,
            port,
            flow: 0,
            scope: 0,
        }
    }

    /// Is it on the loopback of IP: in 127.0.0.0/8, as an IPv6 address too, or `::1`?
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match (self, self.ipv4()) {
            (_, Some([first, ..])) => first == 127,
            (Addr::Inet6 { ip, .. }, None) => *ip == core::net::Ipv6Addr::LOCALHOST.octets(),
            _ => false,
        }
    }

    /// Is it the wildcard of its family: 0.0.0.0, `::`, `::ffff:0.0.0.0` or
    /// `VMADDR_CID_ANY`?
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        match self {
            Addr::Inet { ip, .. } => *ip == [0; 4],
            Addr::Inet6 { ip, .. } => *ip == [0; 16] || self.ipv4() == Some([0; 4]),
            Addr::Vsock { cid, .. } => *cid == VMADDR_ANY,
            _ => false,
        }
    }
}
