//! Addresses as the kernel's structures.
//!
//! Reading follows `inet_bind_sk`, `__inet6_bind`, `unix_bind`,
//! `vsock_addr_cast`, `netlink_bind` and `packet_bind` of Linux: an address
//! that the family would refuse as malformed reads as `None`, so that the
//! kernel, and not the policy, answers it.

use core::fmt;

use super::{Addr, STORAGE, UnixKind, UnixName, af};

/// `sizeof(struct sockaddr_ll)`
const SOCKADDR_LL: u8 = 20;

/// An address as the program wrote it: at most [`STORAGE`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
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

    /// A name that getsockname(2) gave. One of a packet socket ends behind the
    /// hardware address, which has no bytes on no device and six on most
    /// (`packet_getname`); it is filled up to what bind(2) takes for whole.
    #[must_use]
    pub fn of_name(bytes: &[u8]) -> Option<RawAddr> {
        let mut raw = RawAddr::new(bytes)?;
        if raw.family() == Some(af::PACKET) {
            raw.len = raw.len.max(SOCKADDR_LL);
        }
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

    /// The bytes as words, zeros behind the last one.
    #[inline]
    pub fn words(&self) -> impl Iterator<Item = u64> {
        let (words, _) = self.bytes.as_chunks();
        let words = words.iter().map(|word| u64::from_ne_bytes(*word));
        words.take(usize::from(self.len).div_ceil(8))
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
                    let end = nul_at(name);
                    UnixName::path_before_nul(name.get(..end)?).map(Addr::Unix)
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
            af::PACKET if b.len() >= usize::from(SOCKADDR_LL) => Some(Addr::Packet {
                protocol: be16(b, 2)?,
                ifindex: ne32(b, 4)?,
            }),
            _ => None,
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
                usize::from(SOCKADDR_LL)
            }
        };
        RawAddr {
            len: len as u8,
            bytes: b,
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

/// Where the first NUL is; behind the last byte if there is none.
fn nul_at(b: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    let (words, rest) = b.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest of these bits is that of the first NUL.
        let nuls = word.wrapping_sub(ONES) & !word & ONES << 7;
        if nuls != 0 {
            return i * 8 + nuls.trailing_zeros() as usize / 8;
        }
    }
    let at = rest.iter().position(|&c| c == 0).unwrap_or(rest.len());
    words.len() * 8 + at
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

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::nul_at;
    use std::format;
    use std::string::ToString;

    #[test]
    fn the_first_nul_ends_a_path() {
        for len in 0..40 {
            for second in len..40 {
                let mut bytes = [0x80u8; 40];
                bytes[len] = 0;
                bytes[second] = 0;
                assert_eq!(nul_at(&bytes), len);
                bytes[len] = 1;
                bytes[second] = 1;
                assert_eq!(nul_at(&bytes), 40);
                assert_eq!(nul_at(&bytes[..second]), second);
            }
        }
    }

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
    fn a_packet_sockets_name_is_shorter_than_its_address() {
        let addr = Addr::Packet {
            protocol: 3,
            ifindex: 7,
        };
        let whole = addr.write();
        for len in [12, 18, 20] {
            let name = &whole.bytes()[..len];
            assert_eq!(RawAddr::of_name(name).unwrap().read(), Some(addr));
        }
        // bind(2) refuses a short one, and so does the reader.
        assert_eq!(RawAddr::new(&whole.bytes()[..18]).unwrap().read(), None);
        let name = Addr::Netlink { pid: 1, groups: 2 }.write();
        assert_eq!(RawAddr::of_name(name.bytes()), Some(name));
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

    #[test]
    fn a_path_does_not_read_as_another_kind_of_unix_name() {
        let path = |path| Addr::Unix(UnixName::path(path).unwrap()).to_string();
        assert_eq!(path(b"@a"), "unix:\\x40a");
        assert_eq!(path(b"auto"), "unix:\\x61uto");
        assert_eq!(path(b"auto1"), "unix:auto1");
        assert_eq!(path(b"a@"), "unix:a@");
        assert_eq!(Addr::Unix(UnixName::AUTO).to_string(), "unix:auto");
        for path in [&b"@a"[..], b"auto", b"\\x40a"] {
            let addr = Addr::Unix(UnixName::path(path).unwrap());
            let bytes = crate::model::script::address(&addr.to_string()).unwrap();
            assert_eq!(bytes, addr.write().bytes());
        }
    }
}
