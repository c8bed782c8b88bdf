//! What the kernel still has in a namespace: a dump by sock_diag.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// `TCPF_BOUND_INACTIVE`, `TCPF_LISTEN`: the kernel looks through other tables
/// for them, which are large.
const BOUND_INACTIVE: u32 = 1 << 13;
const LISTEN: u32 = 1 << 10;

/// What a dump is to show.
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// `struct inet_diag_sockid`: ports, addresses, device, cookie.
const SOCKID: usize = 48;

/// A socket of the dump.
#[derive(Clone)]
pub struct Found {
    family: u8,
    protocol: u8,
    pub state: u8,
    id: [u8; SOCKID],
    /// A listener's children that wait to be accepted.
    pub waiting: u32,
}

impl Found {
    /// Its ports, local and remote.
    pub fn ports(&self) -> (u16, u16) {
        let [a, b, c, d, ..] = self.id;
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
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

/// A netlink socket of the namespace that it was made in.
pub struct Diag(OwnedFd);

impl Diag {
    pub fn new() -> io::Result<Diag> {
        // SAFETY: no memory is passed.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_SOCK_DIAG,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Diag(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn ask(
        &self,
        (kind, flags): (u16, u16),
        (family, protocol): (u8, u8),
        states: u32,
        id: &[u8],
    ) -> io::Result<()> {
        let mut message = Vec::with_capacity(72);
        message.extend(72u32.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend([0; 8]);
        // struct inet_diag_req_v2
        message.extend([family, protocol, 0, 0]);
        message.extend(states.to_ne_bytes());
        message.extend(id);
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

    /// Reads answers until the last one.
    fn answers(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut memory = vec![0u8; 32768];
        loop {
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
            let mut rest = &memory[..n as usize];
            while rest.len() >= 16 {
                let len = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let body = &rest[16..len.clamp(16, rest.len())];
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let error = i32::from_ne_bytes([body[0], body[1], body[2], body[3]]);
                        return match error {
                            0 => Ok(()),
                            e => Err(io::Error::from_raw_os_error(-e)),
                        };
                    }
                    _ => each(body),
                }
                rest = &rest[len.next_multiple_of(4).min(rest.len())..];
            }
        }
    }

    /// The sockets of both families.
    pub fn dump(&self, which: Which) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        let all = [libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_UDPLITE];
        let (protocols, states) = match which {
            Which::Connections => (&all[..1], !(BOUND_INACTIVE | LISTEN)),
            Which::Listeners => (&all[..1], !BOUND_INACTIVE),
            Which::Bound => (&all[..1], BOUND_INACTIVE),
            Which::All => (&all[..], u32::MAX),
        };
        for &protocol in protocols {
            for family in [libc::AF_INET, libc::AF_INET6] {
                let (family, protocol) = (family as u8, protocol as u8);
                self.ask(
                    (SOCK_DIAG_BY_FAMILY, NLM_F_DUMP),
                    (family, protocol),
                    states,
                    &[0; SOCKID],
                )?;
                self.answers(|body| {
                    let mut id = [0; SOCKID];
                    id.copy_from_slice(&body[4..4 + SOCKID]);
                    found.push(Found {
                        family: body[0],
                        protocol,
                        state: body[1],
                        id,
                        waiting: u32::from_ne_bytes([body[56], body[57], body[58], body[59]]),
                    });
                })?;
            }
        }
        Ok(found)
    }

    /// Ends a connection, or the rest of one, at once.
    pub fn destroy(&self, found: &Found) -> io::Result<()> {
        let Found {
            family,
            protocol,
            id,
            ..
        } = found;
        self.ask((SOCK_DESTROY, NLM_F_ACK), (*family, *protocol), 0, id)?;
        self.answers(|_| {})
    }
}
