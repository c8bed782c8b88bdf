//! sock_diag: who has a port.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A socket that owns a port, as `inet_diag_msg` describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Address family.
    pub family: u8,
    /// The kernel's number of its state.
    pub state: u8,
    /// Its address: 4 bytes of IPv4, or 16.
    pub addr: [u8; 16],
    /// Its device, 0 for none.
    pub dev: u32,
    /// Its user.
    pub uid: u32,
    /// Its inode, 0 where it has none left.
    pub inode: u32,
    /// `SO_COOKIE`
    pub cookie: u64,
    /// `IPV6_V6ONLY`, where the kernel says.
    pub v6only: bool,
}

/// `NETLINK_SOCK_DIAG`, `SOCK_DIAG_BY_FAMILY`
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `INET_DIAG_SKV6ONLY`
const SKV6ONLY: u16 = 11;
/// Length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_ne_bytes)
}

/// Everybody in this network name space who has the local port, in any state,
/// of one protocol and address family.
///
/// # Errors
/// Of the netlink socket, or what the kernel answers.
pub fn owners(family: u8, protocol: u8, port: u16) -> io::Result<Vec<Owner>> {
    // SAFETY: numbers only; what comes back is a new descriptor or -1.
    let fd = unsafe {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        match libc::socket(libc::AF_NETLINK, flags, NETLINK_SOCK_DIAG) {
            -1 => return Err(io::Error::last_os_error()),
            fd => OwnedFd::from_raw_fd(fd),
        }
    };
    // nlmsghdr, then inet_diag_req_v2: family, protocol, extensions, states,
    // and the identity, of which the kernel looks at the source port.
    let mut ask = [0u8; 72];
    ask[0..4].copy_from_slice(&72u32.to_ne_bytes());
    ask[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    ask[6..8].copy_from_slice(&flags.to_ne_bytes());
    ask[16] = family;
    ask[17] = protocol;
    ask[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    ask[24..26].copy_from_slice(&port.to_be_bytes());
    let mut owners = Vec::new();
    let mut buffer = vec![0u8; 32 << 10];
    // SAFETY: the buffers have the lengths given.
    if unsafe { libc::send(fd.as_raw_fd(), ask.as_ptr().cast(), ask.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    loop {
        // SAFETY: likewise.
        let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if n <= 0 {
            return Err(io::Error::last_os_error());
        }
        let mut rest = buffer.get(..n as usize).unwrap_or(&[]);
        while let (Some(len), Some(kind)) = (u32_at(rest, 0), number(rest, 4)) {
            let len = len as usize;
            let Some(message) = rest.get(16..len) else {
                return Ok(owners);
            };
            match i32::from(u16::from_ne_bytes(kind)) {
                libc::NLMSG_DONE => return Ok(owners),
                libc::NLMSG_ERROR => {
                    let errno = u32_at(message, 0).unwrap_or(0) as i32;
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                _ => owners.extend(owner(message, port)),
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

fn owner(m: &[u8], port: u16) -> Option<Owner> {
    if m.len() < MESSAGE || number(m, 4).map(u16::from_be_bytes) != Some(port) {
        return None;
    }
    let cookie = u64::from(u32_at(m, 44)?) | u64::from(u32_at(m, 48)?) << 32;
    let mut v6only = false;
    let mut at = MESSAGE;
    while let (Some(len), Some(kind)) = (
        number(m, at).map(u16::from_ne_bytes),
        number(m, at + 2).map(u16::from_ne_bytes),
    ) {
        if len < 4 {
            break;
        }
        if kind == SKV6ONLY {
            v6only = m.get(at + 4).is_some_and(|b| *b != 0);
        }
        at += usize::from(len).next_multiple_of(4);
    }
    Some(Owner {
        family: *m.first()?,
        state: *m.get(1)?,
        addr: number(m, 8)?,
        dev: u32_at(m, 40)?,
        uid: u32_at(m, 64)?,
        inode: u32_at(m, 68)?,
        cookie,
        v6only,
    })
}
