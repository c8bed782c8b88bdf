//! Socket addresses as the kernel reads them.
//!
//! [`RawAddr`] is what a program handed over, byte for byte; [`Addr`] is its
//! meaning. Reading follows `inet_bind_sk`, `__inet6_bind`, `unix_bind`,
//! `vsock_addr_cast`, `netlink_bind` and `packet_bind` of Linux: an address
//! that the family would refuse as malformed reads as `None`, so that the
//! kernel, and not the policy, answers it.

use core::fmt;

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

/// An address as the program wrote it: at most [`STORAGE`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawAddr {
    len: u8,
    bytes: [u8; STORAGE],
}

impl RawAddr {
    /// No address at all (length 0).
    pub const EMPTY: RawAddr = RawAddr {
        len: 0,
        bytes: [0; STORAGE],
    };

    /// Copies `bytes`; `None` if there are more than the kernel would take.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<RawAddr> {
        let mut raw = RawAddr::EMPTY;
        raw.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        raw.len = bytes.len() as u8;
        Some(raw)
    }

    /// An address of `len` bytes that `fill` writes; `None` if that is more
    /// than the kernel would take.
    #[must_use]
    pub fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Option<RawAddr> {
        let mut raw = RawAddr::EMPTY;
        fill(raw.bytes.get_mut(..len)?);
        raw.len = len as u8;
        Some(raw)
    }

    /// The bytes of the address.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The family field, if there are bytes for it.
    #[must_use]
    pub fn family(&self) -> Option<u16> {
        family(self.bytes())
    }

    /// The meaning of the bytes, or `None` where the family's own checks
    /// would call them malformed.
    #[must_use]
    pub fn read(&self) -> Option<Addr> {
        Addr::read(self.bytes())
    }
}

impl Addr {
    /// The meaning of the bytes of a socket address; see [`RawAddr::read`].
    #[must_use]
    pub fn read(b: &[u8]) -> Option<Addr> {
        match family(b)? {
            // `AF_UNSPEC` with 0.0.0.0 passes for AF_INET (inet_bind_sk).
            af::UNSPEC if b.len() >= 16 && b.get(4..8)? == [0; 4] => Some(Addr::Inet {
                ip: [0; 4],
                port: be16(b, 2)?,
            }),
            af::INET if b.len() >= 16 => Some(Addr::Inet {
                ip: b.get(4..8)?.try_into().ok()?,
                port: be16(b, 2)?,
            }),
            af::INET6 if b.len() >= 24 => Some(Addr::Inet6 {
                ip: b.get(8..24)?.try_into().ok()?,
                port: be16(b, 2)?,
                flow: u32::from_be_bytes(b.get(4..8)?.try_into().ok()?),
                scope: if b.len() >= 28 { ne32(b, 24)? } else { 0 },
            }),
            af::UNIX if b.len() == 2 => Some(Addr::Unix(UnixName::AUTO)),
            af::UNIX if b.len() <= 110 => {
                let name = b.get(2..)?;
                if name.first() == Some(&0) {
                    UnixName::abstract_(name.get(1..)?).map(Addr::Unix)
                } else {
                    let end = name.iter().position(|&c| c == 0).unwrap_or(name.len());
                    UnixName::path(name.get(..end)?).map(Addr::Unix)
                }
            }
            af::VSOCK if b.len() >= 16 && *b.get(12)? & !1 == 0 => Some(Addr::Vsock {
                port: ne32(b, 4)?,
                cid: ne32(b, 8)?,
                flags: *b.get(12)?,
            }),
            af::NETLINK if b.len() >= 12 => Some(Addr::Netlink {
                pid: ne32(b, 4)?,
                groups: ne32(b, 8)?,
            }),
            af::PACKET if b.len() >= 20 => Some(Addr::Packet {
                protocol: be16(b, 2)?,
                ifindex: ne32(b, 4)?,
            }),
            _ => None,
        }
    }
}

impl fmt::Debug for RawAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read() {
            Some(addr) => write!(f, "{addr}"),
            None => write!(f, "{:02x?}", self.bytes()),
        }
    }
}

fn family(b: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes([*b.first()?, *b.get(1)?]))
}

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*b.get(at)?, *b.get(at + 1)?]))
}

fn ne32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

/// How a Unix socket is named; see unix(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnixKind {
    /// Address length 2: the kernel picks five hex digits in the abstract space.
    Auto,
    /// A file system path.
    Path,
    /// The bytes after a leading NUL.
    Abstract,
}

/// The name of a Unix socket, without the leading NUL of an abstract one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnixName {
    /// Which name space it is in.
    pub kind: UnixKind,
    len: u8,
    bytes: [u8; 108],
}

impl UnixName {
    /// The request for a name of the kernel's choice.
    pub const AUTO: UnixName = UnixName {
        kind: UnixKind::Auto,
        len: 0,
        bytes: [0; 108],
    };

    /// A path of 1 to 108 bytes (108: without a terminating NUL).
    #[must_use]
    pub fn path(path: &[u8]) -> Option<UnixName> {
        if path.is_empty() || path.contains(&0) {
            return None;
        }
        Self::of(UnixKind::Path, path)
    }

    /// An abstract name of 0 to 107 bytes, without its leading NUL.
    #[must_use]
    pub fn abstract_(name: &[u8]) -> Option<UnixName> {
        if name.len() > 107 {
            return None;
        }
        Self::of(UnixKind::Abstract, name)
    }

    fn of(kind: UnixKind, name: &[u8]) -> Option<UnixName> {
        let mut bytes = [0; 108];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(UnixName {
            kind,
            len: name.len() as u8,
            bytes,
        })
    }

    /// The bytes of the path or of the abstract name.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl fmt::Debug for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Addr::Unix(*self))
    }
}

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

    /// The address as the kernel's structure. Lengths are those that
    /// getsockname(2) would give.
    #[must_use]
    pub fn write(&self) -> RawAddr {
        let mut b = [0u8; STORAGE];
        let mut put = |at: usize, from: &[u8]| {
            if let Some(to) = b.get_mut(at..at + from.len()) {
                to.copy_from_slice(from);
            }
        };
        put(0, &self.family().to_ne_bytes());
        let len = match self {
            Addr::Inet { ip, port } => {
                put(2, &port.to_be_bytes());
                put(4, ip);
                16
            }
            Addr::Inet6 {
                ip,
                port,
                flow,
                scope,
            } => {
                put(2, &port.to_be_bytes());
                put(4, &flow.to_be_bytes());
                put(8, ip);
                put(24, &scope.to_ne_bytes());
                28
            }
            Addr::Unix(name) => {
                let bytes = name.bytes();
                match name.kind {
                    UnixKind::Auto => 2,
                    UnixKind::Path => {
                        put(2, bytes);
                        // The terminating NUL counts, even beyond 108 bytes.
                        bytes.len() + 3
                    }
                    UnixKind::Abstract => {
                        put(3, bytes);
                        bytes.len() + 3
                    }
                }
            }
            Addr::Vsock { cid, port, flags } => {
                put(4, &port.to_ne_bytes());
                put(8, &cid.to_ne_bytes());
                put(12, &[*flags]);
                16
            }
            Addr::Netlink { pid, groups } => {
                put(4, &pid.to_ne_bytes());
                put(8, &groups.to_ne_bytes());
                12
            }
            Addr::Packet { protocol, ifindex } => {
                put(2, &protocol.to_be_bytes());
                put(4, &ifindex.to_ne_bytes());
                20
            }
        };
        RawAddr {
            len: len as u8,
            bytes: b,
        }
    }
}

/// `0.0.0.0:80`, `[::1%2]:80`, `unix:/run/x`, `unix:@name`, `vsock:any:9999`.
impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Inet { ip, port } => {
                write!(f, "{}:{port}", core::net::Ipv4Addr::from(*ip))
            }
            Addr::Inet6 {
                ip, port, scope, ..
            } => {
                let ip = core::net::Ipv6Addr::from(*ip);
                if *scope == 0 {
                    write!(f, "[{ip}]:{port}")
                } else {
                    write!(f, "[{ip}%{scope}]:{port}")
                }
            }
            Addr::Unix(name) => {
                match name.kind {
                    UnixKind::Auto => return f.write_str("unix:auto"),
                    UnixKind::Path => f.write_str("unix:")?,
                    UnixKind::Abstract => f.write_str("unix:@")?,
                }
                write_bytes(f, name.bytes())
            }
            Addr::Vsock { cid, port, .. } => {
                match *cid {
                    VMADDR_ANY => f.write_str("vsock:any:")?,
                    cid => write!(f, "vsock:{cid}:")?,
                }
                match *port {
                    VMADDR_ANY => f.write_str("auto"),
                    port => write!(f, "{port}"),
                }
            }
            Addr::Netlink { pid, groups } => write!(f, "netlink:{pid}:{groups:#x}"),
            Addr::Packet { protocol, ifindex } => write!(f, "packet:{ifindex}:{protocol:#06x}"),
        }
    }
}

/// Writes bytes that are mostly text; what is not printable ASCII becomes `\xNN`.
///
/// # Errors
/// Those of the writer.
pub fn write_bytes(f: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    for &b in bytes {
        match b {
            b'\\' => f.write_str("\\\\")?,
            0x20..=0x7e => f.write_char(char::from(b))?,
            _ => write!(f, "\\x{b:02x}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn what_is_written_reads_back() {
        let all = [
            Addr::Inet {
                ip: [10, 0, 0, 5],
                port: 80,
            },
            Addr::Inet6 {
                ip: [1; 16],
                port: 443,
                flow: 7,
                scope: 3,
            },
            Addr::Unix(UnixName::AUTO),
            Addr::Unix(UnixName::path(b"/run/app.sock").unwrap()),
            Addr::Unix(UnixName::abstract_(b"na\0me").unwrap()),
            Addr::Vsock {
                cid: 2,
                port: 9999,
                flags: 0,
            },
            Addr::Netlink { pid: 1, groups: 2 },
            Addr::Packet {
                protocol: 3,
                ifindex: 1,
            },
        ];
        for addr in all {
            assert_eq!(addr.write().read(), Some(addr), "{addr}");
        }
    }

    #[test]
    fn malformed_addresses_have_no_meaning() {
        for (bytes, why) in [
            (&[][..], "no family"),
            (&[2, 0, 0, 80, 127, 0, 0, 1], "short sockaddr_in"),
            (&[1, 0, b'x'], ""),
            (&[40, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0], "flags"),
        ] {
            let read = RawAddr::new(bytes).unwrap().read();
            assert_eq!(read.is_none(), !why.is_empty(), "{why} {read:?}");
        }
        assert!(RawAddr::new(&[0; 129]).is_none());
    }

    #[test]
    fn unspec_counts_as_inet_only_with_the_zero_address() {
        let mut b = [0u8; 16];
        assert_eq!(RawAddr::new(&b).unwrap().read(), Addr::any(af::INET));
        b[7] = 1;
        assert_eq!(RawAddr::new(&b).unwrap().read(), None);
    }

    #[test]
    fn display_is_what_people_write() {
        let mapped = Addr::Inet6 {
            ip: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1],
            port: 1,
            flow: 0,
            scope: 0,
        };
        assert_eq!(mapped.ipv4(), Some([127, 0, 0, 1]));
        assert_eq!(mapped.to_string(), "[::ffff:127.0.0.1]:1");
        let name = Addr::Unix(UnixName::abstract_(b"a\x01").unwrap());
        assert_eq!(format!("{name}"), "unix:@a\\x01");
    }
}
