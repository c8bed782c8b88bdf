//! sock_diag: who has a port.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bindgate_core::uapi::inet_diag::{self, Message, Request, Socket};

/// Every socket in this network namespace that has the local port, in any
/// state, of one protocol and address family; all of them for port 0. Those of
/// TCP that are bound and no more than that are listed since Linux 6.8.
///
/// # Errors
/// Of the netlink socket, or what the kernel answers.
pub fn owners(family: u8, protocol: u8, port: u16) -> io::Result<Vec<Socket>> {
    // SAFETY: numbers only; what comes back is a new descriptor or -1.
    let fd = unsafe {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        match libc::socket(libc::AF_NETLINK, flags, inet_diag::NETLINK) {
            -1 => return Err(io::Error::last_os_error()),
            fd => OwnedFd::from_raw_fd(fd),
        }
    };
    let ask = Request::at_port(family, protocol, port).to_bytes();
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
        for message in inet_diag::messages(buffer.get(..n as usize).unwrap_or(&[])) {
            match message {
                Message::Socket(socket) if port == 0 || socket.port == port => owners.push(socket),
                Message::Socket(_) => {}
                Message::Done => return Ok(owners),
                Message::Failed(errno) => {
                    return Err(io::Error::from_raw_os_error(errno.into()));
                }
            }
        }
    }
}
