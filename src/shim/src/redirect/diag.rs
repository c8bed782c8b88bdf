//! Does a socket still exist, and still have its port? Asked of the kernel by
//! sock_diag(7), which knows sockets by the same cookie as `SO_COOKIE`.

use bindgate_core::addr::af;
use bindgate_core::shared::Moved;
use bindgate_core::socket::proto;
use bindgate_core::uapi::inet_diag::{self, Message, Request};

use crate::own::memory::Pages;
use crate::sys::{self, Allowed};

/// Is the socket of `entry` alive and at its port, wherever its descriptors
/// are? `None` if the kernel cannot say (no sock_diag for the protocol).
pub fn is_bound(allowed: Allowed, entry: &Moved) -> Option<bool> {
    let protocol = match entry.socket.protocol {
        p @ (proto::TCP | proto::UDP | proto::UDPLITE) => p as u8,
        _ => return None,
    };
    let family = match entry.socket.domain {
        f @ (af::INET | af::INET6) => f as u8,
        _ => return None,
    };
    let port = entry.real.read()?.port()? as u16;
    let fd = sys::socket(
        allowed,
        libc::AF_NETLINK,
        libc::SOCK_RAW | libc::SOCK_CLOEXEC,
        inet_diag::NETLINK,
    )
    .ok()?;
    let found = ask(allowed, fd, family, protocol, port, entry.cookie);
    sys::close(allowed, fd);
    found
}

fn ask(
    allowed: Allowed,
    fd: i32,
    family: u8,
    protocol: u8,
    port: u16,
    cookie: u64,
) -> Option<bool> {
    let request = Request::at_port(family, protocol, port);
    sys::send(allowed, fd, &request.to_bytes()).ok()?;
    // No answer is longer (netlink(7): one page). Not on the stack: a handler's
    // is small.
    let mut pages = Pages::new(allowed, 4096)?;
    let mut found = false;
    loop {
        let n = sys::read(allowed, fd, pages.bytes_mut())
            .ok()
            .filter(|n| *n > 0)?;
        for message in inet_diag::messages(pages.bytes().get(..n)?) {
            match message {
                Message::Socket(socket) => found |= socket.cookie == cookie,
                Message::Done => return Some(found),
                Message::Failed(_) => return None,
            }
        }
    }
}
