//! Which sockets live? Asked of the kernel by sock_diag(7), which knows them by
//! the same cookie as `SO_COOKIE`, and only those of this network namespace.

use bindgate_core::addr::af;
use bindgate_core::judge::redirect::Place;
use bindgate_core::socket::{SocketType, proto, ty};
use bindgate_core::uapi::inet_diag::{self, Message, Socket};
use bindgate_core::uapi::sock_diag::{self, Answer, Class};

use crate::own::memory::Pages;
use crate::sys::{self, Allowed};

/// Bytes of answers that are taken at a time.
const ROOM: usize = 32 * 1024;

/// A socket that the kernel told of.
pub struct Alive<'a> {
    /// `SO_COOKIE`
    pub cookie: u64,
    /// Its port, if it is one with a port.
    pub port: u16,
    /// Is it a TCP socket with a peer?
    pub is_connected: bool,
    /// What it said of an IP socket.
    pub inet: Option<&'a Socket>,
}

/// Those of sockets that options may be kept for.
pub fn with_options() -> impl Iterator<Item = Class> {
    let kinds = [
        (af::UNIX, ty::STREAM, 0),
        (af::INET, ty::STREAM, proto::TCP),
        (af::INET6, ty::STREAM, proto::TCP),
        (af::INET, ty::DGRAM, proto::UDP),
        (af::INET6, ty::DGRAM, proto::UDP),
    ];
    kinds.into_iter().map(|(domain, ty, protocol)| {
        Class::of(SocketType {
            domain,
            ty,
            protocol,
        })
    })
}

/// Calls `visit` with each socket of a class, or with those at `port`. `false`
/// if the kernel cannot say: then some may be left out.
pub fn each(allowed: Allowed, class: Class, port: u16, mut visit: impl FnMut(&Alive<'_>)) -> bool {
    let Ok(fd) = sys::socket(
        allowed,
        libc::AF_NETLINK,
        libc::SOCK_RAW | libc::SOCK_CLOEXEC,
        inet_diag::NETLINK,
    ) else {
        return false;
    };
    let all = ask(allowed, fd, class, port).and_then(|()| read_all(allowed, fd, class, &mut visit));
    sys::close(allowed, fd);
    all.is_some()
}

/// Does a socket without a port live that has this cookie? `None` if the kernel
/// cannot say.
pub fn is_alive(allowed: Allowed, socket: SocketType, cookie: u64) -> Option<bool> {
    let mut found = false;
    each(allowed, Class::of(socket), 0, |alive| {
        found |= alive.cookie == cookie
    })
    .then_some(found)
}

/// Tells a place of the sockets that have its port, of both address families
/// if it must. `None` if the kernel cannot say.
pub fn list_at(allowed: Allowed, socket: SocketType, port: u16, place: &mut Place) -> Option<()> {
    let other = match socket.domain {
        af::INET6 => af::INET,
        _ => af::INET6,
    };
    for domain in [socket.domain, other] {
        let class = Class::of(SocketType { domain, ..socket });
        let all = place.is_settled()
            || each(allowed, class, port, |alive| {
                if let Some(s) = alive.inet {
                    place.listed(s);
                }
            });
        all.then_some(())?;
    }
    Some(())
}

fn ask(allowed: Allowed, fd: i32, class: Class, port: u16) -> Option<()> {
    class.index()?;
    let (request, len) = class.request(port);
    sys::send(allowed, fd, request.get(..len)?).ok().map(|_| ())
}

fn read_all(
    allowed: Allowed,
    fd: i32,
    class: Class,
    visit: &mut impl FnMut(&Alive<'_>),
) -> Option<()> {
    // Not on the stack: a handler's is small.
    let mut pages = Pages::new(allowed, ROOM)?;
    loop {
        let n = sys::read(allowed, fd, pages.bytes_mut())
            .ok()
            .filter(|n| *n > 0)?;
        let datagram = pages.bytes().get(..n)?;
        if class.is_inet() {
            for message in inet_diag::messages(datagram) {
                match message {
                    Message::Done => return Some(()),
                    Message::Failed(_) => return None,
                    Message::Socket(s) => visit(&Alive {
                        cookie: s.cookie,
                        port: s.port,
                        is_connected: class.is_tcp() && is_connected(s.state),
                        inet: Some(&s),
                    }),
                }
            }
            continue;
        }
        for answer in sock_diag::answers(datagram) {
            match answer {
                Answer::Done => return Some(()),
                Answer::Failed(_) => return None,
                Answer::Socket(message) => {
                    if let Some(cookie) = class.cookie(message) {
                        visit(&Alive {
                            cookie,
                            port: 0,
                            is_connected: false,
                            inet: None,
                        });
                    }
                }
            }
        }
    }
}

/// Has a TCP socket in this state a peer, and perhaps a descriptor?
fn is_connected(state: u8) -> bool {
    // TCP_ESTABLISHED, TCP_FIN_WAIT1 and 2, TCP_CLOSE_WAIT, TCP_LAST_ACK and
    // TCP_CLOSING of tcp_states.h.
    matches!(state, 1 | 4 | 5 | 8 | 9 | 11)
}
