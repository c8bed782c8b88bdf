//! What the program is told: the names, and the kind of socket, that it
//! believes in.

use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::judge::Known;
use bindgate_core::record::Identity;
use bindgate_core::shared::{PEER_KEY, move_kind};
use bindgate_core::socket::SocketType;

use super::{find, vsock};
use crate::own::fds::Socket;
use crate::own::name;
use crate::session::Run;
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed};

/// The local name that the program believes in, if it is not the real one.
pub fn virtual_name(allowed: Allowed, run: &Run, fd: i32) -> Option<Addr> {
    let found = find(allowed, run, fd)?;
    let mut virt = found.moved.virt.read()?;
    if run.vsock.is_some() && found.moved.kind == move_kind::CARRIER {
        return Some(virt);
    }
    // Bound without a port, and since then it has got one by connecting.
    if virt.port() == Some(0)
        && let Some(port) = found.real.read().and_then(|a| a.port())
    {
        virt = virt.with_port(port);
    }
    let connected =
        found.is_child || (!found.moved.socket.is_stream() && name::peer(allowed, fd).is_ok());
    if !connected || !virt.is_wildcard() {
        return Some(virt);
    }
    // The kernel names the address that the peer reached.
    Some(match (virt, found.real.read()) {
        (Addr::Inet { port, .. }, Some(Addr::Inet { ip, .. })) => Addr::Inet { ip, port },
        (
            Addr::Inet6 { port, .. },
            Some(Addr::Inet6 {
                ip, flow, scope, ..
            }),
        ) => Addr::Inet6 {
            ip,
            port,
            flow,
            scope,
        },
        (virt, _) => on_loopback(virt),
    })
}

/// The same address on loopback.
pub fn on_loopback(addr: Addr) -> Addr {
    match addr {
        Addr::Inet { port, .. } => Addr::Inet {
            ip: [127, 0, 0, 1],
            port,
        },
        Addr::Inet6 { port, .. } => Addr::Inet6 {
            ip: core::net::Ipv6Addr::LOCALHOST.octets(),
            port,
            flow: 0,
            scope: 0,
        },
        Addr::Vsock { port, flags, .. } => Addr::Vsock {
            cid: libc::VMADDR_CID_LOCAL,
            port,
            flags,
        },
        other => other,
    }
}

/// Where a socket that was bound to `addr` is once it is connected on this host.
pub fn connected_from(addr: Addr) -> Addr {
    match addr.is_wildcard() {
        true => on_loopback(addr),
        false => addr,
    }
}

/// An address on loopback for a socket that has none: any port will do, as long
/// as it stays the same.
pub fn stand_in(family: u16, cookie: u64) -> Option<Addr> {
    let port = 32768 + (cookie % 28232) as u32;
    Some(on_loopback(Addr::any(family)?.with_port(port)))
}

/// The local name that the program believes in; `None` where nothing may be
/// asked.
pub fn local_name(allowed: Allowed, run: &Run, fd: i32) -> Option<RawAddr> {
    if !allowed.may_all(needs::IDENTIFY) {
        return None;
    }
    virtual_name(allowed, run, fd)
        .map(|addr| addr.write())
        .or_else(|| name::local(allowed, fd).ok())
}

/// What the program believes `fd` to be.
pub fn virtual_type(allowed: Allowed, run: &Run, fd: i32, real: SocketType) -> SocketType {
    match find(allowed, run, fd) {
        Some(found) => found.moved.socket,
        None => real,
    }
}

/// Makes of what `fd` is what its program believes it to be: of every redirected
/// socket, or of a carrier alone.
pub fn believe(allowed: Allowed, run: &Run, fd: i32, always: bool, socket: &mut Socket) {
    let Some(found) = find(allowed, run, fd) else {
        return;
    };
    let is_carrier = found.moved.kind == move_kind::CARRIER && !found.is_child;
    if always || is_carrier {
        socket.ty = found.moved.socket;
    }
    if is_carrier {
        socket.known = Known::AsCarrier;
        (socket.cookie, socket.identity) = (found.cookie, Identity::Cookie);
    }
}

/// The peer's name that the program should see, if it is not the real one:
/// the address that it asked to connect to, or a stand-in for the nameless
/// client of a Unix socket that took another family's place.
pub fn virtual_peer(allowed: Allowed, run: &Run, fd: i32) -> Option<Addr> {
    if run.state.header.moves.load(Relaxed) == 0 {
        return None;
    }
    let cookie = sys::cookie(allowed, fd).ok()?;
    if let Some(peer) = run.state.moves.find(cookie | PEER_KEY)
        && let Some(virt) = peer.virt.read()
    {
        // Whoever calls the wildcard of IP calls this host.
        let virt = match virt {
            Addr::Inet { .. } | Addr::Inet6 { .. } => connected_from(virt),
            other => other,
        };
        return Some(of_family(virt, peer.socket.domain));
    }
    if let Some(peer) = vsock::peer(allowed, run, fd) {
        return Some(peer);
    }
    let found = find(allowed, run, fd)?;
    if !found.is_replaced() || !found.is_child {
        return None;
    }
    stand_in(found.moved.socket.domain, found.cookie)
}

/// An IPv4 address that an IPv6 socket was connected to, as that one names it.
fn of_family(addr: Addr, family: u16) -> Addr {
    match addr {
        Addr::Inet { ip, port } if family == af::INET6 => Addr::Inet6 {
            ip: core::net::Ipv4Addr::from(ip).to_ipv6_mapped().octets(),
            port,
            flow: 0,
            scope: 0,
        },
        other => other,
    }
}
