//! sock_diag: who has a port, or a name.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use bindgate_core::addr::{UnixName, af};
use bindgate_core::socket::SocketType;
use bindgate_core::uapi::inet_diag::{self, Message, Request, Socket};
use bindgate_core::uapi::sock_diag::{self, Answer};
use bindgate_core::uapi::unix_diag;

use super::{check, own};

/// Does somebody hold this address, of a socket of this kind? A trial bind, which
/// leaves no trace.
///
/// # Errors
/// Of the socket, or of the bind if it is another one than `EADDRINUSE`.
pub fn is_taken(kind: SocketType, addr: &[u8], v6only: bool) -> io::Result<bool> {
    let v6only = [(
        libc::IPPROTO_IPV6,
        libc::IPV6_V6ONLY,
        libc::c_int::from(v6only),
    )];
    let on = match kind.domain {
        af::INET6 => &v6only[..],
        _ => &[],
    };
    match try_bind(kind, addr, on) {
        Ok(()) => Ok(false),
        Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) => Ok(true),
        Err(e) => Err(e),
    }
}

/// What the kernel answers to a bind of a new socket that has these options, as level
/// and name: a trial, which leaves no trace.
///
/// # Errors
/// Of the socket, of an option, or of the bind.
pub fn try_bind(kind: SocketType, addr: &[u8], on: &[(i32, i32, i32)]) -> io::Result<()> {
    let [domain, ty, protocol] = [kind.domain, kind.ty, kind.protocol].map(libc::c_int::from);
    // SAFETY: numbers only.
    let fd = own(unsafe { libc::socket(domain, ty | libc::SOCK_CLOEXEC, protocol) })?;
    let fd = fd.as_raw_fd();
    for (level, name, value) in on {
        let len = size_of_val(value) as libc::socklen_t;
        let value: *const i32 = value;
        // SAFETY: a number and its size.
        check(unsafe { libc::setsockopt(fd, *level, *name, value.cast(), len) })?;
    }
    // SAFETY: the buffer has the length given.
    check(unsafe { libc::bind(fd, addr.as_ptr().cast(), addr.len() as _) }).map(drop)
}

/// Every socket in this network namespace that has the local port, in any
/// state, of one protocol and address family; all of them for port 0. Those of
/// TCP that are bound and no more than that are listed since Linux 6.8.
///
/// # Errors
/// Of the netlink socket, or what the kernel answers.
pub fn owners(family: u8, protocol: u8, port: u16) -> io::Result<Vec<Socket>> {
    let ask = Request::at_port(family, protocol, port).to_bytes();
    let mut owners = Vec::new();
    dump(&ask, |datagram| {
        for message in inet_diag::messages(datagram) {
            match message {
                Message::Socket(socket) if port == 0 || socket.port == port => owners.push(socket),
                Message::Socket(_) => {}
                Message::Done => return ControlFlow::Break(0),
                Message::Failed(errno) => return ControlFlow::Break(errno),
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(owners)
}

/// Every Unix socket of this network namespace. What came or went meanwhile may be
/// missing. A kernel without `CONFIG_UNIX_DIAG`, or a filter that forbids netlink,
/// leaves `/proc/net/unix`, where a name with a line feed looks like two.
#[must_use]
pub fn unix_sockets() -> Vec<unix_diag::Socket> {
    unix().unwrap_or_else(|_| {
        let table = std::fs::read("/proc/thread-self/net/unix").unwrap_or_default();
        let lines = table.split(|b| *b == b'\n').skip(1);
        lines.filter_map(unix_socket).collect()
    })
}

/// A line of `/proc/net/unix`: address, references, protocol, flags, type,
/// state, inode, and the name if there is one.
fn unix_socket(line: &[u8]) -> Option<unix_diag::Socket> {
    /// `__SO_ACCEPTCON`
    const ACCEPTS: u32 = 1 << 16;
    /// `SS_CONNECTED`
    const CONNECTED: &str = "03";
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_ascii_start();
        let len = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(len)?;
        rest = after;
        std::str::from_utf8(word)
            .ok()
            .filter(|word| !word.is_empty())
    };
    let [_, _, _, flags, ty, state, inode] = [
        word()?,
        word()?,
        word()?,
        word()?,
        word()?,
        word()?,
        word()?,
    ];
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let name = rest
        .strip_prefix(b" ")
        .and_then(|name| match name.strip_prefix(b"@") {
            Some(name) => UnixName::abstract_(name),
            None => UnixName::path(name),
        });
    Some(unix_diag::Socket {
        ty: u16::from_str_radix(ty, 16).ok()?,
        inode: inode.parse().ok()?,
        cookie: 0,
        name,
        uid: None,
        listens: flags & ACCEPTS != 0,
        is_connected: state == CONNECTED,
    })
}

fn unix() -> io::Result<Vec<unix_diag::Socket>> {
    let mut all = Vec::new();
    dump(&unix_diag::request(), |datagram| {
        for answer in sock_diag::answers(datagram) {
            match answer {
                Answer::Socket(message) => all.extend(unix_diag::socket(message)),
                Answer::Done => return ControlFlow::Break(0),
                Answer::Failed(errno) => return ControlFlow::Break(errno),
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(all)
}

/// Asks whether anybody is at an address, in the network namespace in which it was made.
#[derive(Debug)]
pub struct Asker(OwnedFd);

impl Asker {
    /// One for this network namespace; `None` where the kernel does not answer such
    /// questions truly.
    #[must_use]
    pub fn new() -> Option<Asker> {
        let asker = Asker(netlink().ok()?);
        let listener = TcpListener::bind("127.0.0.1:0").ok()?;
        let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
        // "There is none" is also the answer of a kernel that cannot look.
        let answers = asker.is_there(false, &listener.local_addr().ok()?)
            && asker.is_there(true, &socket.local_addr().ok()?);
        answers.then_some(asker)
    }

    /// From the descriptor of one.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Asker {
        Asker(fd)
    }

    /// Its descriptor.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Would a TCP connection to this address be taken, or a datagram?
    #[must_use]
    pub fn is_there(&self, is_udp: bool, at: &SocketAddr) -> bool {
        let protocol = if is_udp {
            libc::IPPROTO_UDP
        } else {
            libc::IPPROTO_TCP
        } as u8;
        let ask = match at.ip() {
            IpAddr::V4(ip) => Request::at(af::INET as u8, protocol, &ip.octets(), at.port()),
            IpAddr::V6(ip) => Request::at(af::INET6 as u8, protocol, &ip.octets(), at.port()),
        };
        let mut found = false;
        let asked = exchange(&self.0, &ask.to_bytes(), |datagram| {
            found = matches!(
                inet_diag::messages(datagram).next(),
                Some(Message::Socket(_))
            );
            ControlFlow::Break(0)
        });
        asked.is_ok() && found
    }
}

/// Asks, and hands on each datagram of the answer until that ends, with 0 or the
/// errno of a failure.
fn dump(ask: &[u8], take: impl FnMut(&[u8]) -> ControlFlow<u16>) -> io::Result<()> {
    exchange(&netlink()?, ask, take)
}

/// A socket for questions.
fn netlink() -> io::Result<OwnedFd> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: numbers only.
    own(unsafe { libc::socket(libc::AF_NETLINK, flags, inet_diag::NETLINK) })
}

/// The same with a socket that is there.
fn exchange(
    fd: &OwnedFd,
    ask: &[u8],
    mut take: impl FnMut(&[u8]) -> ControlFlow<u16>,
) -> io::Result<()> {
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
        match take(buffer.get(..n as usize).unwrap_or(&[])) {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(0) => return Ok(()),
            ControlFlow::Break(errno) => return Err(io::Error::from_raw_os_error(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use bindgate_core::addr::Addr;

    use super::*;

    #[test]
    fn unix_sockets_have_the_names_that_they_were_bound_to() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let name = format!("bindgate-diag\n{} a", std::process::id());
        let at = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&at).expect("a listener");
        let has = |s: &unix_diag::Socket| s.name == UnixName::abstract_(name.as_bytes());
        let all = match unix() {
            // The kernel may be without.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            all => all.expect("an answer"),
        };
        let found: Vec<_> = all.into_iter().filter(has).collect();
        assert!(matches!(found[..], [s] if s.listens && s.inode != 0 && s.cookie != 0));
        drop(listener);
        assert!(!unix().expect("an answer").iter().any(has));
    }

    #[test]
    fn lines_of_proc_are_read() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01 49034 @a b";
        let s = unix_socket(line).expect("a socket");
        assert_eq!(
            (s.ty, s.inode, s.listens, s.is_connected),
            (1, 49034, true, false)
        );
        assert_eq!(s.name, UnixName::abstract_(b"a b"));
        let line = b"0000000000000000: 00000003 00000000 00000000 0002 03 49035";
        let s = unix_socket(line).expect("a socket");
        assert_eq!(
            (s.ty, s.inode, s.listens, s.is_connected),
            (2, 49035, false, true)
        );
        assert_eq!(s.name, None);
        assert_eq!(
            unix_socket(b"Num       RefCount Protocol Flags    Type St Inode Path"),
            None
        );
        assert_eq!(unix_socket(b""), None);
    }

    #[test]
    fn who_is_at_an_address_is_found() {
        let Some(asker) = Asker::new() else { return };
        let at = |text: &str, port| SocketAddr::new(text.parse().expect("an address"), port);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("its name").port();
        assert!(asker.is_there(false, &at("127.0.0.1", port)));
        assert!(!asker.is_there(false, &at("127.0.0.2", port)));
        let client = std::net::TcpStream::connect(at("127.0.0.1", port)).expect("a client");
        drop(listener);
        assert!(!asker.is_there(false, &at("127.0.0.1", port)));
        drop(client);
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let port = socket.local_addr().expect("its name").port();
        assert!(asker.is_there(true, &at("127.0.0.2", port)));
        socket.connect(at("127.0.0.1", port)).expect("itself");
        assert!(!asker.is_there(true, &at("127.0.0.1", port)));
        let Ok(dual) = TcpListener::bind("[::]:0") else {
            return;
        };
        let port = dual.local_addr().expect("its name").port();
        assert!(asker.is_there(false, &at("::1", port)));
        assert!(asker.is_there(false, &at("127.0.0.1", port)));
    }

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
