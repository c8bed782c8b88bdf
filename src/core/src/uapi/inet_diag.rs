//! sock_diag(7) for IP sockets: the request as bytes, the answer as sockets.
//!
//! ```text
//!  nlmsghdr (16) + inet_diag_req_v2 (56)   ─►  kernel
//!  nlmsghdr (16) + inet_diag_msg (72) + attributes, …, NLMSG_DONE  ◄─
//! ```

use super::sock_diag::{
    Answer, Answers, HEADER, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, SOCK_DESTROY,
    SOCK_DIAG_BY_FAMILY, answers, bytes_at, u32_at,
};
use crate::addr::{Addr, af};
use crate::socket::proto;

/// `INET_DIAG_SKV6ONLY`
const SKV6ONLY: u16 = 11;
/// `INET_DIAG_CGROUP_ID`, of Linux 5.8.
const CGROUP_ID: u16 = 21;
/// Length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;

/// The protocol of a netlink socket that takes such questions
/// (`NETLINK_SOCK_DIAG`).
pub const NETLINK: i32 = 4;
/// Length of a request.
pub const REQUEST: usize = 72;

/// `struct inet_diag_sockid` as it is: ports, addresses, device, cookie.
pub type SockId = [u8; 48];

/// The states of a socket, by the numbers of `<net/tcp_states.h>`.
pub mod state {
    #![allow(missing_docs)]
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const CLOSING: u8 = 11;
    /// Bound, and neither listening nor connected: listed since Linux 6.8.
    pub const BOUND_INACTIVE: u8 = 13;
}

/// A request to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// `IPPROTO_TCP`, `IPPROTO_UDP` or `IPPROTO_UDPLITE`.
    pub protocol: u8,
    /// Bits of [`state`] numbers.
    pub states: u32,
    /// Which sockets: of a dump, the ports that are not 0.
    pub id: SockId,
    /// What is to be done with them.
    pub verb: Verb,
}

/// What a [`Request`] asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// List all that match.
    Dump,
    /// Show the one that a packet would come to.
    Find,
    /// End this one.
    Destroy,
}

impl Request {
    /// Lists the sockets that have this local port, in any state; all of them
    /// for port 0.
    #[must_use]
    pub fn at_port(family: u8, protocol: u8, port: u16) -> Request {
        let mut id = [0; 48];
        [id[0], id[1]] = port.to_be_bytes();
        Request {
            family,
            protocol,
            states: u32::MAX,
            id,
            verb: Verb::Dump,
        }
    }

    /// Shows the socket to which a packet from nowhere to this address would come: of
    /// TCP, who listens there.
    #[must_use]
    pub fn at(family: u8, protocol: u8, ip: &[u8], port: u16) -> Request {
        /// Where the address and port of the socket itself are, and those of its peer. Of
        /// UDP the kernel has the two the other way round.
        const PLACES: [(usize, usize); 2] = [(0, 4), (2, 20)];
        /// `INET_DIAG_NOCOOKIE`, twice
        const NO_COOKIE: [u8; 8] = [0xff; 8];
        let [own, peer] = PLACES;
        let (at_port, at_ip) = if protocol == proto::TCP as u8 {
            own
        } else {
            peer
        };
        let mut id = [0; 48];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in id.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(at_port, &port.to_be_bytes());
        put(at_ip, ip);
        put(40, &NO_COOKIE);
        Request {
            family,
            protocol,
            states: u32::MAX,
            id,
            verb: Verb::Find,
        }
    }

    /// The message.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; REQUEST] {
        let mut message = [0; REQUEST];
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in message.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        let (kind, flags) = match self.verb {
            Verb::Dump => (SOCK_DIAG_BY_FAMILY, NLM_F_DUMP),
            Verb::Find => (SOCK_DIAG_BY_FAMILY, 0),
            Verb::Destroy => (SOCK_DESTROY, NLM_F_ACK),
        };
        put(0, &(REQUEST as u32).to_ne_bytes());
        put(4, &kind.to_ne_bytes());
        put(6, &(NLM_F_REQUEST | flags).to_ne_bytes());
        put(HEADER, &[self.family, self.protocol]);
        put(HEADER + 4, &self.states.to_ne_bytes());
        put(HEADER + 8, &self.id);
        message
    }
}

/// A socket, as `struct inet_diag_msg` and its attributes describe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    /// Address family.
    pub family: u8,
    /// One of [`state`].
    pub state: u8,
    /// Its local address: 4 bytes of IPv4, or 16.
    pub addr: [u8; 16],
    /// Its local port.
    pub port: u16,
    /// The port of its peer, or 0.
    pub peer_port: u16,
    /// The index of its device, or 0.
    pub dev: u32,
    /// `SO_COOKIE`; of what TIME_WAIT left, a number of its own.
    pub cookie: u64,
    /// Milliseconds until its timer expires: how long TIME_WAIT will last.
    pub expires_ms: u32,
    /// Its user.
    pub uid: u32,
    /// Its inode, or 0 where no descriptor is left.
    pub inode: u32,
    /// Bytes to be read; of a listener, connections to be accepted.
    pub receive_queue: u32,
    /// `IPV6_V6ONLY`, where the kernel says.
    pub v6only: bool,
    /// The control group of whoever made it, as the inode of its directory; 0 where the
    /// kernel does not say.
    pub group: u64,
    /// What names it in a further [`Request`].
    pub id: SockId,
}

impl Socket {
    /// Its local name.
    #[must_use]
    pub fn local(&self) -> Addr {
        self.named(self.addr, self.port)
    }

    /// The name of its peer, if it has one.
    #[must_use]
    pub fn peer(&self) -> Option<Addr> {
        let ip = bytes_at(&self.id, 20)?;
        (self.peer_port != 0).then(|| self.named(ip, self.peer_port))
    }

    fn named(&self, ip: [u8; 16], port: u16) -> Addr {
        match (u16::from(self.family), ip) {
            (af::INET6, ip) => Addr::inet6(ip, port),
            (_, [a, b, c, d, ..]) => Addr::Inet {
                ip: [a, b, c, d],
                port,
            },
        }
    }

    /// The word of ss(8) and netstat(8) for its state.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        match self.state {
            state::ESTABLISHED => "ESTABLISHED",
            state::SYN_SENT => "SYN_SENT",
            state::FIN_WAIT1 => "FIN_WAIT1",
            state::FIN_WAIT2 => "FIN_WAIT2",
            state::TIME_WAIT => "TIME_WAIT",
            state::CLOSE_WAIT => "CLOSE_WAIT",
            state::LAST_ACK => "LAST_ACK",
            state::LISTEN => "LISTEN",
            state::CLOSING => "CLOSING",
            _ => "CLOSE",
        }
    }
}

/// One message of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// A socket.
    Socket(Socket),
    /// The request is done: there are no more.
    Done,
    /// It failed with this errno.
    Failed(u16),
}

/// The messages of one datagram of an answer. What is cut short or is not
/// understood is left out.
#[must_use]
pub fn messages(datagram: &[u8]) -> Messages<'_> {
    Messages(answers(datagram))
}

/// See [`messages`].
#[derive(Clone, Debug)]
pub struct Messages<'a>(Answers<'a>);

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.0.find_map(|answer| match answer {
            Answer::Socket(body) => socket(body).map(Message::Socket),
            Answer::Done => Some(Message::Done),
            Answer::Failed(errno) => Some(Message::Failed(errno)),
        })
    }
}

fn socket(m: &[u8]) -> Option<Socket> {
    Some(Socket {
        family: *m.first()?,
        state: *m.get(1)?,
        port: u16::from_be_bytes(bytes_at(m, 4)?),
        peer_port: u16::from_be_bytes(bytes_at(m, 6)?),
        addr: bytes_at(m, 8)?,
        dev: u32_at(m, 40)?,
        // Two halves, the lower one first.
        cookie: u64::from(u32_at(m, 44)?) | u64::from(u32_at(m, 48)?) << 32,
        expires_ms: u32_at(m, 52)?,
        receive_queue: u32_at(m, 56)?,
        uid: u32_at(m, 64)?,
        inode: u32_at(m, 68)?,
        v6only: attribute(m.get(MESSAGE..)?, SKV6ONLY)
            .and_then(|value| value.first())
            .is_some_and(|on| *on != 0),
        group: attribute(m.get(MESSAGE..)?, CGROUP_ID)
            .and_then(|value| bytes_at(value, 0))
            .map_or(0, u64::from_ne_bytes),
        id: bytes_at(m, 4)?,
    })
}

/// The value of the first attribute of this kind.
pub(super) fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16::from_ne_bytes(bytes_at(rest, 0)?));
        let kind = u16::from_ne_bytes(bytes_at(rest, 2)?);
        let value = rest.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::sock_diag::{NLMSG_DONE, NLMSG_ERROR};
    use super::*;
    use alloc::vec::Vec;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = (HEADER + body.len()) as u32;
        let mut all = len.to_ne_bytes().to_vec();
        all.extend(kind.to_ne_bytes());
        all.resize(HEADER, 0);
        all.extend(body);
        all.resize(all.len().next_multiple_of(4), 0);
        all
    }

    fn listener() -> Vec<u8> {
        let mut body = [0; MESSAGE].to_vec();
        body[..2].copy_from_slice(&[10, state::LISTEN]);
        body[4..6].copy_from_slice(&8080u16.to_be_bytes());
        body[23] = 1;
        body[40..44].copy_from_slice(&7u32.to_ne_bytes());
        body[44..48].copy_from_slice(&5u32.to_ne_bytes());
        body[48..52].copy_from_slice(&1u32.to_ne_bytes());
        body[64..68].copy_from_slice(&33u32.to_ne_bytes());
        body[68..72].copy_from_slice(&4711u32.to_ne_bytes());
        // An attribute of another kind, and the one that is read.
        body.extend([5, 0, 8, 0, 1, 0, 0, 0]);
        body.extend([5, 0, 11, 0, 1, 0, 0, 0]);
        body.extend([12, 0, 21, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        body
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let mut datagram = message(SOCK_DIAG_BY_FAMILY, &listener());
        datagram.extend(message(99, &[1, 2, 3]));
        datagram.extend(message(NLMSG_DONE, &[0; 4]));
        let all: Vec<_> = messages(&datagram).collect();
        let [Message::Socket(s), Message::Done] = all[..] else {
            panic!("{all:?}");
        };
        assert_eq!((s.family, s.state, s.port, s.dev), (10, 10, 8080, 7));
        assert_eq!(s.addr, core::net::Ipv6Addr::LOCALHOST.octets());
        assert_eq!((s.cookie, s.uid, s.inode), (1 << 32 | 5, 33, 4711));
        assert_eq!((s.v6only, s.group, s.phase()), (true, 9, "LISTEN"));
        assert_eq!(s.peer(), None);
    }

    #[test]
    fn a_refusal_is_an_errno() {
        let datagram = message(NLMSG_ERROR, &(-2i32).to_ne_bytes());
        assert_eq!(messages(&datagram).next(), Some(Message::Failed(2)));
    }

    #[test]
    fn what_is_cut_short_is_left_out() {
        let datagram = message(SOCK_DIAG_BY_FAMILY, &listener());
        for len in 0..datagram.len() {
            assert_eq!(messages(&datagram[..len]).next(), None, "{len}");
        }
        // Lengths that lead nowhere.
        for len in [0u32, 1, 15, 16, u32::MAX] {
            let mut bad = datagram.clone();
            bad[..4].copy_from_slice(&len.to_ne_bytes());
            let _ = messages(&bad).count();
        }
    }

    #[test]
    fn a_request_is_the_kernels_structure() {
        let request = Request::at_port(2, 6, 80);
        let ask = request.to_bytes();
        assert_eq!(ask[..4], 72u32.to_ne_bytes());
        assert_eq!(ask[4..8], [20, 0, 1, 3]);
        assert_eq!(ask[16..26], [2, 6, 0, 0, 255, 255, 255, 255, 0, 80]);
        assert!(ask[26..].iter().all(|b| *b == 0));
        let destroy = Request {
            verb: Verb::Destroy,
            ..request
        };
        assert_eq!(destroy.to_bytes()[4..8], [21, 0, 5, 0]);
        let tcp = Request::at(2, 6, &[127, 0, 0, 1], 80).to_bytes();
        assert_eq!(tcp[4..8], [20, 0, 1, 0]);
        assert_eq!(tcp[24..32], [0, 80, 0, 0, 127, 0, 0, 1]);
        assert_eq!(tcp[64..], [0xff; 8]);
        let udp = Request::at(2, 17, &[127, 0, 0, 1], 80).to_bytes();
        assert_eq!(udp[24..28], [0, 0, 0, 80]);
        assert_eq!(udp[44..48], [127, 0, 0, 1]);
    }
}
