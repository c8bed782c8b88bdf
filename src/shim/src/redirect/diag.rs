//! Does a socket still exist, and still have its port? Asked of the kernel by
//! sock_diag(7), which knows sockets by the same cookie as `SO_COOKIE`.

use bindgate_core::addr::af;
use bindgate_core::shared::Moved;
use bindgate_core::socket::proto;

use crate::own::memory::Pages;
use crate::sys;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Is the socket of `entry` alive and at its port, wherever its descriptors
/// are? `None` if the kernel cannot say (no sock_diag for the protocol).
pub fn is_bound(entry: &Moved) -> Option<bool> {
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
        libc::AF_NETLINK,
        libc::SOCK_RAW | libc::SOCK_CLOEXEC,
        libc::NETLINK_SOCK_DIAG,
    )
    .ok()?;
    let found = ask(fd, family, protocol, port, entry.cookie);
    sys::close(fd);
    found
}

fn ask(fd: i32, family: u8, protocol: u8, port: u16, cookie: u64) -> Option<bool> {
    // nlmsghdr (16), inet_diag_req_v2 (56).
    let mut request = [0u8; 72];
    request[..4].copy_from_slice(&72u32.to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[16] = family;
    request[17] = protocol;
    // Every state, that of bound and idle TCP sockets too (bit 13, Linux 6.8).
    request[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    request[24..26].copy_from_slice(&port.to_be_bytes());
    sys::send(fd, &request).ok()?;
    // No answer is longer (netlink(7): one page). Not on the stack: a handler's
    // is small.
    let mut pages = Pages::new(4096)?;
    let mut found = false;
    loop {
        let n = sys::read(fd, pages.bytes_mut()).ok()?;
        let mut rest = pages.bytes().get(..n)?;
        while rest.len() >= 16 {
            let len = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
            match u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?) {
                NLMSG_DONE => return Some(found),
                NLMSG_ERROR => return None,
                _ => {}
            }
            // inet_diag_msg: 4 bytes, then inet_diag_sockid, whose last 8 of
            // 48 bytes are the cookie, low half first.
            if let Some(at) = rest.get(16 + 44..16 + 52) {
                found |= u64::from_ne_bytes(at.try_into().ok()?) == cookie;
            }
            rest = rest.get(len.next_multiple_of(4).max(16)..).unwrap_or(&[]);
        }
    }
}
