//! sock_diag: who has a port.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bindgate_core::addr::af;
use bindgate_core::socket::SocketType;
use bindgate_core::uapi::inet_diag::{self, Message, Request, Socket};

use super::check;

/// Does somebody hold this address, of a socket of this kind? A trial bind, which
/// leaves no trace.
///
/// # Errors
/// Of the socket, or of the bind if it is another one than `EADDRINUSE`.
pub fn is_taken(kind: SocketType, addr: &[u8], v6only: bool) -> io::Result<bool> {
    let [domain, ty, protocol] = [kind.domain, kind.ty, kind.protocol].map(libc::c_int::from);
    // SAFETY: numbers only; what comes back is a new descriptor or -1.
    let fd = unsafe {
        match libc::socket(domain, ty | libc::SOCK_CLOEXEC, protocol) {
            -1 => return Err(io::Error::last_os_error()),
            fd => OwnedFd::from_raw_fd(fd),
        }
    };
    let fd = fd.as_raw_fd();
    if kind.domain == af::INET6 {
        let on = libc::c_int::from(v6only);
        let (level, name) = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
        // SAFETY: a number and its size.
        check(unsafe {
            libc::setsockopt(
                fd,
                level,
                name,
                (&raw const on).cast(),
                size_of_val(&on) as _,
            )
        })?;
    }
    // SAFETY: the buffer has the length given.
    match check(unsafe { libc::bind(fd, addr.as_ptr().cast(), addr.len() as _) }) {
        Ok(_) => Ok(false),
        Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) => Ok(true),
        Err(e) => Err(e),
    }
}

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

#[cfg(test)]
mod tests {
    use bindgate_core::addr::Addr;

    use super::*;

    #[test]
    fn a_bound_socket_takes_its_place_and_a_trial_does_not() {
        let tcp = |domain| SocketType::created(domain, libc::SOCK_STREAM, 0);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("its name").port();
        let four = |ip| Addr::Inet { ip, port }.write();
        let six = Addr::any(af::INET6)
            .expect("[::]")
            .with_port(port.into())
            .write();
        let at = four([127, 0, 0, 1]);
        for _ in 0..2 {
            assert!(is_taken(tcp(2), at.bytes(), false).expect("an answer"));
        }
        assert!(is_taken(tcp(10), six.bytes(), false).expect("an answer"));
        assert!(!is_taken(tcp(10), six.bytes(), true).expect("an answer"));
        assert!(!is_taken(tcp(2), four([127, 0, 0, 2]).bytes(), false).expect("an answer"));
        drop(listener);
        for _ in 0..2 {
            assert!(!is_taken(tcp(2), at.bytes(), false).expect("an answer"));
        }
    }
}
