//! IP sockets that do not block: bound ones that are opened to clients and shut to them
//! again, and clients.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use bindgate_core::addr::Addr;

use super::{check, own};

/// The same address as the core has it.
#[must_use]
pub fn addr(at: &SocketAddr) -> Addr {
    let port = at.port();
    match at.ip() {
        IpAddr::V4(ip) => Addr::Inet {
            ip: ip.octets(),
            port,
        },
        IpAddr::V6(ip) => Addr::inet6(ip.octets(), port),
    }
}

fn set(fd: &OwnedFd, level: i32, name: i32, value: &[i32]) -> io::Result<()> {
    let len = size_of_val(value) as libc::socklen_t;
    // SAFETY: the value outlives the call, and that is its size.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) })
        .map(drop)
}

/// A new socket.
///
/// # Errors
/// As socket(2).
pub fn socket(is_udp: bool, is_six: bool) -> io::Result<OwnedFd> {
    let domain = if is_six {
        libc::AF_INET6
    } else {
        libc::AF_INET
    };
    let ty = if is_udp {
        libc::SOCK_DGRAM
    } else {
        libc::SOCK_STREAM
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: numbers only.
    own(unsafe { libc::socket(domain, ty | flags, 0) })
}

/// A socket at an address, which nobody reaches there before it is [opened](open).
/// `is_again`: what earlier connections to the address left is not in the way.
///
/// # Errors
/// As socket(2) and bind(2).
pub fn bind(is_udp: bool, at: &SocketAddr, is_again: bool) -> io::Result<OwnedFd> {
    if at.port() == 0 {
        // The kernel takes a port back that it has chosen as soon as nobody listens there,
        // and not one that was named: this one holds it until it is.
        let chosen = bind_once(is_udp, at, true)?;
        let named = bind_once(is_udp, &local(&chosen)?, true)?;
        if is_udp {
            shut(&named, true)?;
        }
        return share(&named, false).map(|()| named);
    }
    let fd = bind_once(is_udp, at, is_again && !is_udp)?;
    share(&fd, false)?;
    if is_udp {
        shut(&fd, true)?;
    }
    Ok(fd)
}

fn bind_once(is_udp: bool, at: &SocketAddr, is_again: bool) -> io::Result<OwnedFd> {
    let fd = socket(is_udp, at.is_ipv6())?;
    if is_again {
        share(&fd, true)?;
    }
    bind_at(&fd, at)?;
    Ok(fd)
}

fn bind_at(fd: &OwnedFd, at: &SocketAddr) -> io::Result<()> {
    let bytes = addr(at).write();
    let (at, len) = (
        bytes.bytes().as_ptr(),
        bytes.bytes().len() as libc::socklen_t,
    );
    // SAFETY: the bytes outlive the call, and that is their number.
    check(unsafe { libc::bind(fd.as_raw_fd(), at.cast(), len) }).map(drop)
}

/// Can others have the address who say so, too? Not while it is listened at.
fn share(fd: &OwnedFd, is_shared: bool) -> io::Result<()> {
    let value = [i32::from(is_shared)];
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &value)
}

/// The address of a socket.
///
/// # Errors
/// As getsockname(2).
pub fn local(fd: &OwnedFd) -> io::Result<SocketAddr> {
    // std asks the same of every IP socket.
    UdpSocket::from(fd.try_clone()?).local_addr()
}

/// Lets clients in: a TCP socket listens, a UDP socket receives from everybody.
///
/// # Errors
/// As listen(2) and connect(2).
pub fn open(fd: &OwnedFd, is_udp: bool) -> io::Result<()> {
    const BACKLOG: i32 = 4096;
    if !is_udp {
        // What earlier connections left is not in the way, nor will those be that come.
        share(fd, true)?;
        // SAFETY: numbers only.
        let opened = check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) }).map(drop);
        return opened.or_else(|e| share(fd, false).and(Err(e)));
    }
    // SAFETY: an all-zero address is one of `AF_UNSPEC`, which ends the association.
    check(unsafe {
        let none: libc::sockaddr = std::mem::zeroed();
        let len = size_of_val(&none) as libc::socklen_t;
        libc::connect(fd.as_raw_fd(), &raw const none, len)
    })
    .map(drop)
}

/// Keeps the address and lets nobody in: a TCP client is refused, and so is a UDP
/// client, as where nobody is bound.
///
/// # Errors
/// As shutdown(2), connect(2) and dup(2).
pub fn shut(fd: &OwnedFd, is_udp: bool) -> io::Result<()> {
    if !is_udp {
        share(fd, false)?;
        // The kernel ends a listener, and what waits in its queue, and leaves it bound.
        // SAFETY: numbers only.
        return check(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RD) }).map(drop);
    }
    // Who is connected receives from its peer alone: from itself.
    let socket = UdpSocket::from(fd.try_clone()?);
    let mut own = local(fd)?;
    if own.ip().is_unspecified() {
        own.set_ip(match own.ip() {
            IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    socket.connect(own)
}

/// Has a client call from this address.
///
/// # Errors
/// As setsockopt(2) and bind(2).
pub fn call_from(fd: &OwnedFd, is_udp: bool, ip: IpAddr) -> io::Result<()> {
    if !is_udp {
        // The port is chosen when it is known whom it calls.
        set(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &[1])?;
    }
    bind_at(fd, &SocketAddr::new(ip, 0))
}

/// Begins a connection: is it there at once?
///
/// # Errors
/// As connect(2).
pub fn connect(fd: &OwnedFd, to: &SocketAddr) -> io::Result<bool> {
    let bytes = addr(to).write();
    let (at, len) = (
        bytes.bytes().as_ptr(),
        bytes.bytes().len() as libc::socklen_t,
    );
    // SAFETY: the bytes outlive the call, and that is their number.
    match check(unsafe { libc::connect(fd.as_raw_fd(), at.cast(), len) }) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Has a stream carry urgent data among the rest.
///
/// # Errors
/// As setsockopt(2).
pub fn keep_urgent(fd: &OwnedFd) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, &[1])
}

/// Has the connection end by a reset when it is closed.
///
/// # Errors
/// As setsockopt(2).
pub fn reset_on_close(fd: &OwnedFd) -> io::Result<()> {
    // `struct linger`
    set(fd, libc::SOL_SOCKET, libc::SO_LINGER, &[1, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn an_address_is_held_and_opened_and_shut() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let tcp = bind(false, &any, true).expect("a socket");
        let at = local(&tcp).expect("its address");
        for _ in 0..2 {
            assert!(TcpStream::connect(at).is_err());
            assert!(TcpListener::bind(at).is_err());
            open(&tcp, false).expect("to listen");
            assert!(TcpStream::connect(at).is_ok());
            shut(&tcp, false).expect("to stop");
        }
        open(&tcp, false).expect("to listen");
        let client = TcpStream::connect(at).expect("a client");
        let listener = TcpListener::from(tcp);
        listener.set_nonblocking(false).expect("to wait");
        let served = OwnedFd::from(listener.accept().expect("the client").0);
        // Who ends first is in TIME_WAIT.
        drop((served, listener));
        drop(client);
        let again = bind(false, &at, true).expect("the same address");
        open(&again, false).expect("to listen");
        let udp = bind(true, &any, true).expect("a socket");
        let socket = UdpSocket::from(udp.try_clone().expect("a copy"));
        let at = socket.local_addr().expect("its address");
        let client = UdpSocket::bind(any).expect("a client");
        client.connect(at).expect("an address");
        for n in 0..2 {
            client.send(b"lost").expect("to send");
            assert!(client.send(b"refused").is_err());
            open(&udp, true).expect("to receive");
            assert_eq!(socket.local_addr().expect("its address"), at);
            client.send(&[n]).expect("to send");
            let mut buffer = [0; 8];
            assert_eq!(socket.recv(&mut buffer).expect("a datagram"), 1);
            shut(&udp, true).expect("to stop");
        }
    }
}
