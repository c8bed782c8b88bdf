//! Where clients of the run find a server that was moved, and whether this process
//! may have the port that it asks for.

use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, af};
use bindgate_core::judge::Socket;
use bindgate_core::judge::follow::{Follow, RANKS};
use bindgate_core::policy::Decision;

use super::alive;
use crate::own::name;
use crate::session::Run;
use crate::sys::allowed::{Call, Calls};
use crate::sys::{self, Allowed, Errno};

/// The calls that it takes to see whether a port or an address can be had.
const TRIAL: Calls = Calls::of(&[
    Call::SocketInet,
    Call::Bind,
    Call::Connect,
    Call::Getsockname,
    Call::Close,
]);

/// What is decided about a call of `fd`, if a server of the run is meant that a rule
/// moved.
#[inline(never)]
pub fn followed(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    client: &Socket,
    follow: &Follow<'_>,
    note: Option<u32>,
) -> Option<Decision> {
    if run.state.header.moves.load(Relaxed) == 0 {
        return None;
    }
    let netns = sys::netns_cookie(allowed, fd).unwrap_or(0);
    let key = follow.key();
    let mut is_own = None;
    let moves = &run.state.moves;
    for rank in 0..RANKS {
        let found = moves.first_at(Some(&key), None, |server| {
            // Asked once, and only where there is such a server.
            let own = |is_own: &mut Option<bool>| {
                *is_own.get_or_insert_with(|| match follow.is_elsewhere() {
                    None => true,
                    Some(addr) => is_address_of_host(allowed, addr),
                })
            };
            follow.rank(client.ty, netns, true, server) == Some(rank)
                && (rank == 0 || own(&mut is_own))
                && alive::is_alive(allowed, run, server)
        });
        if let Some(server) = found.and_then(|cookie| moves.find(cookie)) {
            return Some(follow.decision(client.ty, &server, note));
        }
    }
    None
}

/// Is this one of the host's own addresses? A datagram socket that is connected to
/// such a one, which sends nothing, has the same address itself.
#[inline(never)]
fn is_address_of_host(allowed: Allowed, addr: &Addr) -> bool {
    let Some(fd) = datagram(allowed, addr.family()) else {
        return false;
    };
    let connected = sys::connect(allowed, fd, addr.write().bytes());
    let local = connected.and_then(|()| name::local(allowed, fd));
    sys::close(allowed, fd);
    let ip = |addr: &Addr| match *addr {
        Addr::Inet { ip, .. } => core::net::Ipv4Addr::from(ip).to_ipv6_mapped().octets(),
        Addr::Inet6 { ip, .. } => ip,
        _ => [0; 16],
    };
    local
        .ok()
        .and_then(|local| local.read())
        .is_some_and(|local| ip(&local) == ip(addr))
}

/// Has this thread no privilege for a port in its network namespace? A socket that
/// has a port is asked to take that one, which is refused in either case: for lack
/// of the privilege first.
#[inline(never)]
pub fn is_unprivileged(allowed: Allowed, port: u16) -> Option<bool> {
    let fd = datagram(allowed, af::INET)?;
    let any = |port: u16| Addr::Inet { ip: [0; 4], port }.write();
    let answer = sys::bind(allowed, fd, any(0).bytes())
        .ok()
        .map(|()| sys::bind(allowed, fd, any(port).bytes()));
    sys::close(allowed, fd);
    answer.map(|answer| answer == Err(Errno(libc::EACCES as u16)))
}

fn datagram(allowed: Allowed, family: u16) -> Option<i32> {
    if !allowed.may_all(TRIAL) {
        return None;
    }
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    sys::socket(allowed, i32::from(family), kind, 0).ok()
}
