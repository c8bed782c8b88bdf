//! Where a moved socket goes: the real address from the virtual one.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::{Addr, UnixKind, UnixName, VMADDR_ANY, af};
use crate::socket::KindSet;
use crate::text::{self, Out};

/// Words of a target: host | port << 8 | [`FOLLOWED`]; number or offset; two words with an
/// address or a template.
pub(super) const TARGET: usize = 4;

/// Clients in the run follow.
pub(super) const FOLLOWED: u64 = 1 << 16;

pub(super) mod host {
    pub const KEEP: u64 = 0;
    pub const LOOPBACK: u64 = 1;
    pub const V4: u64 = 2;
    pub const V6: u64 = 3;
    pub const CID: u64 = 4;
    pub const PATH: u64 = 5;
    pub const ABSTRACT: u64 = 6;
}

pub(super) mod port {
    pub const KEEP: u64 = 0;
    pub const AUTO: u64 = 1;
    pub const NUMBER: u64 = 2;
    pub const OFFSET: u64 = 3;
}

/// The words of a target.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub host: u64,
    pub port: u64,
    pub followed: bool,
    pub number: i64,
    pub hi: u64,
    pub lo: u64,
    pub template: &'a [u8],
}

impl Target<'_> {
    /// Is it called `loopback`?
    pub fn is_loopback(&self) -> bool {
        self.host == host::LOOPBACK
    }

    /// The real address. `None` where there is none: an offset that leaves
    /// the ports, a Unix name that is too long.
    pub fn place(&self, addr: &Addr, kinds: KindSet) -> Option<Addr> {
        match self.host {
            host::PATH => UnixName::path(self.expand(addr, kinds)?.bytes()).map(Addr::Unix),
            host::ABSTRACT => {
                UnixName::abstract_(self.expand(addr, kinds)?.bytes()).map(Addr::Unix)
            }
            _ => {
                let to = self.at(addr, kinds)?;
                let port = self.port(addr, &to)?;
                Some(to.with_port(port))
            }
        }
    }

    /// The address, still without its port.
    fn at(&self, addr: &Addr, kinds: KindSet) -> Option<Addr> {
        let six = if kinds.intersects(KindSet::INET6) {
            true
        } else if kinds.intersects(KindSet::INET) {
            false
        } else {
            addr.family() == af::INET6
        };
        let v6 = |ip: [u8; 16]| Addr::Inet6 {
            ip,
            port: 0,
            flow: 0,
            scope: 0,
        };
        let v4 = |ip: [u8; 4]| {
            if six {
                v6(Ipv4Addr::from(ip).to_ipv6_mapped().octets())
            } else {
                Addr::Inet { ip, port: 0 }
            }
        };
        let cid = |cid| Addr::Vsock {
            cid,
            port: 0,
            flags: 0,
        };
        Some(match self.host {
            host::KEEP => *addr,
            host::LOOPBACK => match addr {
                Addr::Vsock { .. } => cid(1),
                _ if six && addr.ipv4().is_none() => v6(Ipv6Addr::LOCALHOST.octets()),
                _ => v4([127, 0, 0, 1]),
            },
            host::V4 => v4((self.lo as u32).to_be_bytes()),
            host::V6 => v6((u128::from(self.hi) << 64 | u128::from(self.lo)).to_be_bytes()),
            host::CID => cid(self.lo as u32),
            _ => return None,
        })
    }

    fn port(&self, addr: &Addr, to: &Addr) -> Option<u32> {
        let (auto, max) = match to {
            Addr::Vsock { .. } => (VMADDR_ANY, i64::from(VMADDR_ANY) - 1),
            _ => (0, 65535),
        };
        let keep = if addr.is_auto() { auto } else { addr.port()? };
        Some(match self.port {
            port::KEEP => keep,
            port::AUTO => auto,
            port::OFFSET if addr.is_auto() => auto,
            port::OFFSET => {
                let n = i64::from(keep).checked_add(self.number)?;
                if !(1..=max).contains(&n) {
                    return None;
                }
                n as u32
            }
            _ => self.number as u32,
        })
    }

    fn expand(&self, addr: &Addr, kinds: KindSet) -> Option<Name> {
        let mut out = Name {
            len: 0,
            bytes: [0; 108],
        };
        let mut rest = self.template.iter();
        while let Some(&b) = rest.next() {
            if b != b'%' {
                out.push(b)?;
                continue;
            }
            match rest.next()? {
                b'p' if addr.is_auto() => out.write("auto")?,
                b'p' => text::decimal(addr.port()?, &mut out)?,
                b'a' => match *addr {
                    Addr::Inet { ip, .. } => text::v4(ip, &mut out)?,
                    Addr::Inet6 { ip, .. } => text::v6(ip, &mut out)?,
                    Addr::Vsock {
                        cid: VMADDR_ANY, ..
                    } => out.write("any")?,
                    Addr::Vsock { cid, .. } => text::decimal(cid, &mut out)?,
                    _ => return None,
                },
                b't' => out.write(kind_name(kinds, addr))?,
                b'%' => out.push(b'%')?,
                _ => return None,
            }
        }
        Some(out)
    }
}

/// What `%t` says.
fn kind_name(kinds: KindSet, addr: &Addr) -> &'static str {
    for (name, kind) in [
        ("tcp", KindSet::TCP),
        ("udp", KindSet::UDP),
        ("vsock", KindSet::VSOCK),
        ("unix", KindSet::UNIX),
        ("raw", KindSet::RAW),
        ("ping", KindSet::PING),
    ] {
        if kinds.intersects(kind) {
            return name;
        }
    }
    match addr {
        Addr::Inet { .. } | Addr::Inet6 { .. } => "ip",
        _ => "other",
    }
}

struct Name {
    len: usize,
    bytes: [u8; 108],
}

impl Name {
    fn push(&mut self, b: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = b;
        self.len += 1;
        Some(())
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

impl Out for Name {
    fn byte(&mut self, b: u8) -> Option<()> {
        self.push(b)
    }
}

/// A path without doubled slashes and `/./`: the same file by a shorter name.
/// `..` stays, for what it means depends on links. `None` if there are none, or
/// if it is no path.
pub(super) fn tidy(name: &UnixName) -> Option<UnixName> {
    let b = name.bytes();
    let mut before = 0;
    let untidy = b.iter().any(|&c| {
        let found = before == b'/' && (c == b'/' || c == b'.');
        before = c;
        found
    });
    if name.kind != UnixKind::Path || !untidy {
        return None;
    }
    tidied(b)
}

/// Apart, so that its room is not on everybody's stack.
#[cold]
#[inline(never)]
fn tidied(b: &[u8]) -> Option<UnixName> {
    let mut out = Name {
        len: 0,
        bytes: [0; 108],
    };
    let mut i = 0;
    while let Some(&c) = b.get(i) {
        let slash = c == b'/';
        let next = b.get(i + 1);
        if slash && next == Some(&b'/') {
            i += 1;
        } else if slash && next == Some(&b'.') && matches!(b.get(i + 2), Some(b'/')) {
            i += 2;
        } else {
            let _ = out.push(c);
            i += 1;
        }
    }
    UnixName::path(out.bytes())
}
