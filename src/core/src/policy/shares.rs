//! `host share` lines: services of the machine that an isolated run reaches.

#[cfg(feature = "alloc")]
use core::net::IpAddr;

use super::View;
#[cfg(feature = "alloc")]
use super::ast::Service;
use super::layout::{SHARE, section};
use super::view::at;
use crate::addr::Addr;

/// `::1`
const LOOPBACK6: u128 = 1;
/// `::ffff:0.0.0.0`
const MAPPED: u128 = 0xffff << 32;

const fn mapped(ip: [u8; 4]) -> u128 {
    MAPPED | u32::from_be_bytes(ip) as u128
}

/// The service that a client of `to` means: the wildcard is this machine for it.
fn place(to: &Addr) -> Option<(u128, u16)> {
    let ip = match (to, to.ipv4()) {
        (_, Some(ip)) if to.is_wildcard() || ip == [127, 0, 0, 1] => mapped([127, 0, 0, 1]),
        (_, Some(ip)) => mapped(ip),
        (Addr::Inet6 { .. }, None) if to.is_wildcard() => LOOPBACK6,
        (Addr::Inet6 { ip, .. }, None) => u128::from_be_bytes(*ip),
        _ => return None,
    };
    Some((ip, to.port()? as u16))
}

fn key(port: u16, is_udp: bool) -> u64 {
    u64::from(port) | u64::from(is_udp) << 16
}

#[cfg(feature = "alloc")]
pub(super) fn words(service: &Service) -> [u64; SHARE] {
    let ip = match service.ip {
        IpAddr::V4(ip) => mapped(ip.octets()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    [
        key(service.port, service.is_udp),
        (ip >> 64) as u64,
        ip as u64,
    ]
}

impl View<'_> {
    /// Returns whether there is a `host share` line.
    #[must_use]
    #[inline]
    pub fn has_shares(&self) -> bool {
        !self.section(section::SHARES).is_empty()
    }

    /// Returns whether a `host share` line names the service that a client of this
    /// address means. The wildcard is 127.0.0.1 or `::1` to a client, and an IPv4-mapped
    /// address is the IPv4 one.
    #[must_use]
    pub fn is_shared(&self, is_udp: bool, to: &Addr) -> bool {
        let Some((ip, port)) = place(to) else {
            return false;
        };
        let shares = self.section(section::SHARES).chunks(SHARE);
        let wanted = [key(port, is_udp), (ip >> 64) as u64, ip as u64];
        shares
            .into_iter()
            .any(|share| (0..SHARE).all(|i| at(share, i) == at(&wanted, i)))
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use crate::addr::Addr;
    use crate::policy::{Resolver, Source, View, compile, parse};

    struct Nobody;
    impl Resolver for Nobody {
        fn uid(&self, _: &str) -> Option<u32> {
            None
        }
    }

    #[test]
    fn a_shared_service_is_known_however_its_client_writes_the_address() {
        let text = "host share tcp 127.0.0.1:5432\nhost share udp [::ffff:127.0.0.53]:53\n\
                    host share tcp [::1]:6379\nhost share tcp 10.0.0.5:80\n";
        let source = Source { name: "p", text };
        let policy = parse(&[source]).unwrap();
        let (compiled, _) = compile(&policy, &Nobody).unwrap();
        let view = View::new(&compiled.words).unwrap();
        let v4 = |ip, port| Addr::Inet { ip, port };
        let v6 = |ip: &str, port| Addr::Inet6 {
            ip: ip.parse::<core::net::Ipv6Addr>().unwrap().octets(),
            port,
            flow: 0,
            scope: 0,
        };
        assert!(view.has_shares());
        for (is_udp, to) in [
            (false, v4([127, 0, 0, 1], 5432)),
            (false, v4([0; 4], 5432)),
            (false, v6("::ffff:127.0.0.1", 5432)),
            (true, v4([127, 0, 0, 53], 53)),
            (true, v6("::ffff:127.0.0.53", 53)),
            (false, v6("::1", 6379)),
            (false, v6("::", 6379)),
            (false, v4([10, 0, 0, 5], 80)),
        ] {
            assert!(view.is_shared(is_udp, &to), "{to:?}");
            assert!(!view.is_shared(!is_udp, &to), "{to:?}");
        }
        for to in [
            v4([127, 0, 0, 2], 5432),
            v4([127, 0, 0, 1], 5433),
            v6("::1", 5432),
            v6("::", 5432),
            v4([127, 0, 0, 1], 6379),
            Addr::Unix(crate::addr::UnixName::AUTO),
        ] {
            assert!(!view.is_shared(false, &to), "{to:?}");
        }
    }
}
