//! What the kernel still has in a namespace: a dump by sock_diag.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bindgate_core::addr::af;
use bindgate_core::socket::SocketType;
use bindgate_core::uapi::inet_diag::{self, Message, Request, SockId, Socket, Verb};
use bindgate_core::uapi::sock_diag::{self, Answer, Class};

/// `TCPF_BOUND_INACTIVE`, `TCPF_LISTEN`: the kernel looks through other tables
/// for them, which are large.
const BOUND_INACTIVE: u32 = 1 << inet_diag::state::BOUND_INACTIVE;
const LISTEN: u32 = 1 << inet_diag::state::LISTEN;

/// A question of the older kind: its type, and its length with `struct nlmsghdr`.
const TCPDIAG_GETSOCK: u16 = 18;
/// The type of the newer kind's.
const SOCK_DIAG_BY_FAMILY: u8 = 20;
const OLDER: usize = 16 + 60;

/// What a dump is to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// TCP connections in every state, waiting and half open ones too.
    Connections,
    /// TCP listeners as well.
    Listeners,
    /// TCP sockets that are bound only, and no others.
    Bound,
    /// TCP sockets that are bound only as well, and UDP's and UDP-Lite's.
    All,
}

/// A socket of the dump.
#[derive(Clone, Debug)]
pub struct Found {
    family: u8,
    protocol: u8,
    /// `TCP_ESTABLISHED`, …
    pub state: u8,
    ports: (u16, u16),
    id: SockId,
    /// A listener's children that wait to be accepted.
    pub waiting: u32,
}

impl Found {
    /// Its ports, local and remote.
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (protocol, family) = (self.protocol, self.family);
        let (state, (from, to)) = (self.state, self.ports());
        write!(
            f,
            "protocol {protocol} family {family} state {state} ports {from} {to}"
        )
    }
}

/// Gives the answers to a question of the older kind the newer one's type: they
/// differ in nothing else.
fn as_newer(mut datagram: &mut [u8]) {
    while let [a, b, c, d, kind, zero, ..] = datagram {
        if (*kind, *zero) == (TCPDIAG_GETSOCK as u8, 0) {
            *kind = SOCK_DIAG_BY_FAMILY;
        }
        let len = u32::from_ne_bytes([*a, *b, *c, *d]).next_multiple_of(4);
        let Some(rest) = datagram.get_mut(len.max(4) as usize..) else {
            return;
        };
        datagram = rest;
    }
}

/// A netlink socket of the namespace that it was made in.
#[derive(Debug)]
pub struct Diag(OwnedFd);

impl Diag {
    /// One for the namespace that this thread is in.
    pub fn new() -> io::Result<Diag> {
        // SAFETY: no memory is passed.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                inet_diag::NETLINK,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Diag(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn ask(&self, request: &Request) -> io::Result<()> {
        self.send(&request.to_bytes())
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        // SAFETY: `message` is readable for its length.
        let ret = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        if ret < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn receive(&self, memory: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the kernel writes at most the length of `memory`.
        let n = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                memory.as_mut_ptr().cast(),
                memory.len(),
                0,
            )
        };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(n as usize)
    }

    /// Reads answers until the last one.
    fn answers(&self, mut each: impl FnMut(&Socket)) -> io::Result<()> {
        let mut memory = vec![0u8; 32768];
        loop {
            let n = self.receive(&mut memory)?;
            as_newer(&mut memory[..n]);
            for message in inet_diag::messages(&memory[..n]) {
                match message {
                    Message::Socket(socket) => each(&socket),
                    Message::Done => return Ok(()),
                    Message::Failed(errno) => {
                        return Err(io::Error::from_raw_os_error(errno.into()));
                    }
                }
            }
        }
    }

    /// TCP's sockets of both families in these states: one question of the older
    /// kind, `struct inet_diag_req`, where the other kind takes two.
    fn dump_tcp(&self, states: u32, each: impl FnMut(&Socket)) -> io::Result<()> {
        let (message, states) = (TCPDIAG_GETSOCK.to_ne_bytes(), states.to_ne_bytes());
        let mut ask = [0; OLDER];
        ask[0] = OLDER as u8;
        ask[4..6].copy_from_slice(&message);
        // NLM_F_REQUEST | NLM_F_DUMP
        ask[6..8].copy_from_slice(&0x301u16.to_ne_bytes());
        ask[68..72].copy_from_slice(&states);
        self.send(&ask)?;
        self.answers(each)
    }

    /// The sockets of both families.
    pub fn dump(&self, which: Which) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let states = match which {
            Which::Connections => !(BOUND_INACTIVE | LISTEN),
            Which::Listeners => !BOUND_INACTIVE,
            Which::Bound => BOUND_INACTIVE,
            Which::All => u32::MAX,
        };
        let mut add = |protocol, s: &Socket| {
            found.push(Found {
                family: s.family,
                protocol,
                state: s.state,
                ports: (s.port, s.peer_port),
                id: s.id,
                waiting: s.receive_queue,
            });
        };
        self.dump_tcp(states, |s| add(libc::IPPROTO_TCP as u8, s))?;
        if which == Which::All {
            for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_UDPLITE] {
                for family in [libc::AF_INET, libc::AF_INET6] {
                    let (family, protocol) = (family as u8, protocol as u8);
                    self.ask(&Request::at_port(family, protocol, 0))?;
                    self.answers(|s| add(protocol, s))?;
                }
            }
        }
        Ok(found)
    }

    /// The state and local port of all vsock sockets, in no order: of this kernel's,
    /// for AF_VSOCK has no namespaces.
    pub fn vsock(&self) -> io::Result<Vec<(u8, u32)>> {
        let class = Class::of(SocketType {
            domain: af::VSOCK,
            ty: 1,
            protocol: 0,
        });
        let (message, len) = class.request(0);
        self.send(&message[..len])?;
        let mut found = Vec::new();
        let mut memory = vec![0u8; 32768];
        loop {
            let n = self.receive(&mut memory)?;
            for answer in sock_diag::answers(&memory[..n]) {
                match answer {
                    Answer::Socket([_, _, state, _, _, _, _, _, port @ ..]) => {
                        let port = port.first_chunk().map_or(0, |p| u32::from_ne_bytes(*p));
                        found.push((*state, port));
                    }
                    Answer::Socket(_) => {}
                    Answer::Done => return Ok(found),
                    Answer::Failed(errno) => {
                        return Err(io::Error::from_raw_os_error(errno.into()));
                    }
                }
            }
        }
    }

    /// Ends a connection, or the rest of one, at once.
    pub fn destroy(&self, found: &Found) -> io::Result<()> {
        self.ask(&Request {
            family: found.family,
            protocol: found.protocol,
            states: 0,
            id: found.id,
            verb: Verb::Destroy,
        })?;
        self.answers(|_| {})
    }
}
