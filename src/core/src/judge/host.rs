//! A host that the policy describes and the model rules: which calls its daemon is
//! asked about, and where a socket really lives that this machine has no room for
//! where its program believes it to be.
//!
//! What the host answers is the model's to say
//! ([`Ruler`](crate::model::Ruler)).

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::{Addr, af};
use crate::errno::{EACCES, EADDRINUSE, EADDRNOTAVAIL, ENETDOWN};
use crate::socket::{SocketType, proto};

/// The answer where the daemon gives none: the host is not there any more.
pub const UNANSWERED: u16 = ENETDOWN;

/// Is the host asked whether there are sockets of this family?
#[must_use]
pub const fn has_family(domain: u16) -> bool {
    matches!(domain, af::INET | af::INET6)
}

/// Is it asked about the addresses of such a socket?
#[must_use]
pub const fn has_ports(socket: SocketType) -> bool {
    has_family(socket.domain)
        && matches!(
            socket.protocol,
            proto::TCP | proto::MPTCP | proto::UDP | proto::UDPLITE
        )
}

/// May the socket be bound elsewhere after the kernel has refused the address that
/// the model grants? It has not, or somebody has it, or it takes a privilege.
#[must_use]
pub const fn is_of_machine(errno: u16) -> bool {
    matches!(errno, EADDRINUSE | EADDRNOTAVAIL | EACCES)
}

/// Where a socket goes then: a wildcard to a port of the kernel's choice, an
/// address to such a port of loopback.
#[must_use]
pub fn instead(socket: SocketType, virt: &Addr) -> Option<Addr> {
    let is_any = virt.is_wildcard();
    match socket.domain {
        af::INET => Some(Addr::Inet {
            ip: match is_any {
                true => [0; 4],
                false => [127, 0, 0, 1],
            },
            port: 0,
        }),
        af::INET6 => Some(six(
            match virt.ipv4() {
                Some([0, 0, 0, 0]) => Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(),
                Some(_) => Ipv4Addr::LOCALHOST.to_ipv6_mapped(),
                None if is_any => Ipv6Addr::UNSPECIFIED,
                None => Ipv6Addr::LOCALHOST,
            },
            0,
        )),
        _ => None,
    }
}

/// Where a client of `to` reaches a socket that is really at `real`.
#[must_use]
pub fn reached(to: &Addr, real: &Addr) -> Option<Addr> {
    let port = u16::try_from(real.port()?).ok()?;
    let wants = to.ipv4();
    let is_any = real.is_wildcard() || real.ipv4() == Some([0; 4]);
    let four = match (wants, real.ipv4()) {
        (Some(ip), _) if is_any && to.is_loopback() => Some(ip),
        (Some(_), _) if is_any => Some([127, 0, 0, 1]),
        (Some(_), real) => Some(real?),
        (None, _) => None,
    };
    match (to, four) {
        (Addr::Inet { .. }, Some(ip)) => Some(Addr::Inet { ip, port }),
        (Addr::Inet6 { .. }, Some(ip)) => Some(six(Ipv4Addr::from(ip).to_ipv6_mapped(), port)),
        (Addr::Inet6 { .. }, None) if is_any => Some(six(Ipv6Addr::LOCALHOST, port)),
        (Addr::Inet6 { .. }, None) if real.ipv4().is_none() => Some(real.with_port(port.into())),
        _ => None,
    }
}

/// Where a datagram to an address of the host goes that nobody has: to an address
/// of loopback that nobody has either.
#[must_use]
pub fn nowhere(to: &Addr) -> Addr {
    const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);
    match (to, to.ipv4()) {
        (Addr::Inet { .. }, _) => Addr::Inet {
            ip: NOBODY.octets(),
            port: 1,
        },
        (_, Some(_)) => six(NOBODY.to_ipv6_mapped(), 1),
        _ => six(Ipv6Addr::LOCALHOST, 1),
    }
}

fn six(ip: Ipv6Addr, port: u16) -> Addr {
    Addr::inet6(ip.octets(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four(ip: [u8; 4], port: u16) -> Addr {
        Addr::Inet { ip, port }
    }

    const TCP: SocketType = SocketType {
        domain: af::INET,
        ty: 1,
        protocol: proto::TCP,
    };
    const TCP6: SocketType = SocketType {
        domain: af::INET6,
        ..TCP
    };

    #[test]
    fn a_socket_stays_as_reachable_as_it_was() {
        let any = four([0; 4], 80);
        let one = four([192, 0, 2, 1], 80);
        assert_eq!(instead(TCP, &any), Some(four([0; 4], 0)));
        assert_eq!(instead(TCP, &one), Some(four([127, 0, 0, 1], 0)));
        let any6 = six(Ipv6Addr::UNSPECIFIED, 80);
        assert_eq!(instead(TCP6, &any6), Some(any6.with_port(0)));
        let mapped = |ip: [u8; 4], port| six(Ipv4Addr::from(ip).to_ipv6_mapped(), port);
        let at = mapped([192, 0, 2, 1], 80);
        assert_eq!(instead(TCP6, &at), Some(mapped([127, 0, 0, 1], 0)));
    }

    #[test]
    fn a_client_comes_to_where_the_socket_is() {
        let to = four([192, 0, 2, 1], 80);
        let at = |real: &Addr| reached(&to, real);
        assert_eq!(
            at(&four([127, 0, 0, 1], 99)),
            Some(four([127, 0, 0, 1], 99))
        );
        assert_eq!(at(&four([0; 4], 80)), Some(four([127, 0, 0, 1], 80)));
        let dual = six(Ipv6Addr::UNSPECIFIED, 80);
        assert_eq!(at(&dual), Some(four([127, 0, 0, 1], 80)));
        let near = four([127, 0, 0, 9], 80);
        assert_eq!(
            reached(&near, &four([0; 4], 99)),
            Some(four([127, 0, 0, 9], 99))
        );
        let to6 = six("2001:db8::1".parse().unwrap(), 80);
        let one = six(Ipv6Addr::LOCALHOST, 99);
        assert_eq!(reached(&to6, &one), Some(one));
        assert_eq!(reached(&to6, &dual), Some(one.with_port(80)));
        assert_eq!(reached(&to6, &four([127, 0, 0, 1], 99)), None);
        let mapped = six(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 80);
        let expected = six(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 99);
        assert_eq!(reached(&mapped, &four([127, 0, 0, 1], 99)), Some(expected));
    }
}
