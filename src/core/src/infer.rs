//! Which check of the kernel an errno came from.
//!
//! The kernel gives a number, not a reason. Where it can have come from one
//! function only, or nearly so, that function is named; a record marks the
//! name as inferred.

use crate::addr::af;
use crate::errno::{EADDRINUSE, EBADF, EFAULT, ENOTSOCK, EPERM, EPROTONOSUPPORT, ESOCKTNOSUPPORT};
use crate::record::{Call, Check};
use crate::socket::{KindSet, SocketType};

/// The check that gave `errno` to `call` on a socket of type `ty`.
#[must_use]
pub fn check(call: Call, ty: SocketType, errno: u16) -> Check {
    match (call, errno) {
        (_, 0) => Check::None,
        (Call::Socket | Call::Socketpair, _) => create(ty, errno),
        (_, EBADF | ENOTSOCK) => Check::SockfdLookup,
        (Call::Bind, EFAULT) => Check::MoveAddrToKernel,
        (Call::Bind, EPERM) => Check::SecuritySocketBind,
        (Call::Bind, EADDRINUSE) => get_port(ty),
        (Call::Bind, _) => match ty.domain {
            af::INET => Check::InetBind,
            af::INET6 => Check::Inet6Bind,
            af::UNIX => Check::UnixBind,
            af::VSOCK => Check::VsockBind,
            af::NETLINK => Check::NetlinkBind,
            af::PACKET => Check::PacketBind,
            _ => Check::Kernel,
        },
        (Call::Listen, EADDRINUSE) => get_port(ty),
        (Call::Listen, _) if matches!(ty.domain, af::INET | af::INET6) => Check::InetListen,
        (Call::Connect, _) => Check::Connect,
        _ => Check::Kernel,
    }
}

fn create(ty: SocketType, errno: u16) -> Check {
    match errno {
        ESOCKTNOSUPPORT | EPROTONOSUPPORT | EPERM if matches!(ty.domain, af::INET | af::INET6) => {
            Check::InetCreate
        }
        _ => Check::SockCreate,
    }
}

fn get_port(ty: SocketType) -> Check {
    let kinds = ty.kinds();
    if kinds.intersects(KindSet::TCP) {
        Check::InetCskGetPort
    } else if kinds.intersects(KindSet::UDP) {
        Check::UdpLibGetPort
    } else {
        match ty.domain {
            af::UNIX => Check::UnixBind,
            af::VSOCK => Check::VsockBind,
            af::NETLINK => Check::NetlinkBind,
            _ => Check::Kernel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_the_bind_tables_word() {
        let tcp = SocketType::created(2, 1, 0);
        let udp6 = SocketType::created(10, 2, 0);
        assert_eq!(check(Call::Bind, tcp, EADDRINUSE), Check::InetCskGetPort);
        assert_eq!(check(Call::Bind, udp6, EADDRINUSE), Check::UdpLibGetPort);
        assert_eq!(check(Call::Bind, tcp, 99), Check::InetBind);
        assert_eq!(check(Call::Bind, tcp, EBADF), Check::SockfdLookup);
        assert_eq!(check(Call::Bind, tcp, 0), Check::None);
    }
}
