//! sock_diag(7) for every family: which sockets there are, by their cookies.
//!
//! What is said of IP sockets beyond that reads [`super::inet_diag`].

use super::inet_diag::{REQUEST, Request};
use crate::addr::af;
use crate::socket::{SocketType, proto, ty};

pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
pub(super) const SOCK_DESTROY: u16 = 21;
pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// `INET_DIAG_REQ_PROTOCOL` of linux/inet_diag.h: a protocol beyond one byte.
const REQ_PROTOCOL: u16 = 3;
/// `IPPROTO_RAW`: what raw sockets of any protocol are asked for by.
const RAW: u16 = 255;

/// One message of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// A socket, in its family's own words.
    Socket(&'a [u8]),
    /// The request is done: there are no more.
    Done,
    /// It failed with this errno.
    Failed(u16),
}

/// The messages of one datagram of an answer. What is cut short or is not
/// understood is left out.
#[must_use]
pub fn answers(datagram: &[u8]) -> Answers<'_> {
    Answers(datagram)
}

/// See [`answers`].
#[derive(Clone, Debug)]
pub struct Answers<'a>(&'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        loop {
            let len = u32_at(self.0, 0)? as usize;
            let kind = u16::from_ne_bytes(bytes_at(self.0, 4)?);
            let body = self.0.get(HEADER..len)?;
            self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or(&[]);
            match kind {
                NLMSG_DONE => return Some(Answer::Done),
                NLMSG_ERROR => {
                    return Some(match u32_at(body, 0)?.wrapping_neg() {
                        // An acknowledgement.
                        0 => Answer::Done,
                        errno => Answer::Failed(errno as u16),
                    });
                }
                SOCK_DIAG_BY_FAMILY => return Some(Answer::Socket(body)),
                _ => {}
            }
        }
    }
}

pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

/// The sockets that one question is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    family: u16,
    protocol: u16,
}

impl Class {
    /// Every class that can be asked about.
    pub const ALL: [Class; 12] = [
        Class::new(af::INET, proto::TCP),
        Class::new(af::INET6, proto::TCP),
        Class::new(af::INET, proto::UDP),
        Class::new(af::INET6, proto::UDP),
        Class::new(af::INET, proto::UDPLITE),
        Class::new(af::INET6, proto::UDPLITE),
        Class::new(af::INET, proto::MPTCP),
        Class::new(af::INET6, proto::MPTCP),
        Class::new(af::INET, RAW),
        Class::new(af::INET6, RAW),
        Class::new(af::UNIX, 0),
        Class::new(af::VSOCK, 0),
    ];

    const fn new(family: u16, protocol: u16) -> Class {
        Class { family, protocol }
    }

    /// The one that a socket is in.
    #[must_use]
    pub fn of(socket: SocketType) -> Class {
        let protocol = match (socket.domain, socket.ty) {
            (af::INET | af::INET6, ty::RAW) => RAW,
            (af::INET | af::INET6, _) => socket.protocol,
            _ => 0,
        };
        Class {
            family: socket.domain,
            protocol,
        }
    }

    /// Its place in [`Self::ALL`]; none if the kernel cannot be asked about it.
    #[must_use]
    pub fn index(self) -> Option<usize> {
        Self::ALL.iter().position(|class| *class == self)
    }

    /// The families whose answers [`super::inet_diag`] reads.
    #[must_use]
    pub fn is_inet(self) -> bool {
        matches!(self.family, af::INET | af::INET6)
    }

    /// Is it TCP, of any kind?
    #[must_use]
    pub fn is_tcp(self) -> bool {
        self.is_inet() && matches!(self.protocol, proto::TCP | proto::MPTCP)
    }

    /// The request for all of its sockets, or for those at `port`: the first
    /// bytes of these, as many as the number says.
    #[must_use]
    pub fn request(self, port: u16) -> ([u8; REQUEST + 8], usize) {
        let mut message = [0; REQUEST + 8];
        let inet = Request::at_port(self.family as u8, self.protocol.min(255) as u8, port);
        let mut put = |at: usize, bytes: &[u8]| {
            for (to, from) in message.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        };
        put(0, &inet.to_bytes());
        let len = match self.protocol {
            // struct unix_diag_req and vsock_diag_req begin alike: family,
            // protocol, states.
            _ if !self.is_inet() => HEADER + 24,
            proto::MPTCP => {
                put(REQUEST, &8u16.to_ne_bytes());
                put(REQUEST + 2, &REQ_PROTOCOL.to_ne_bytes());
                put(REQUEST + 4, &u32::from(self.protocol).to_ne_bytes());
                REQUEST + 8
            }
            _ => REQUEST,
        };
        put(0, &(len as u32).to_ne_bytes());
        if !self.is_inet() {
            put(HEADER + 8, &[0; 16]);
        }
        (message, len)
    }

    /// The cookie of the socket that a message is about.
    #[must_use]
    pub fn cookie(self, message: &[u8]) -> Option<u64> {
        let at = match self.family {
            af::INET | af::INET6 => 44,
            // unix_diag_msg: 4 bytes, the inode.
            af::UNIX => 8,
            // vsock_diag_msg: 4 bytes, two addresses, the inode.
            af::VSOCK => 24,
            _ => return None,
        };
        // Two halves, the lower one first.
        Some(u64::from(u32_at(message, at)?) | u64::from(u32_at(message, at + 4)?) << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_kernels_structures() {
        for (socket, port, len, head) in [
            ((2, 1, 6), 80, 72, [2, 6]),
            ((10, 2, 17), 0, 72, [10, 17]),
            ((10, 3, 58), 0, 72, [10, 255]),
            ((2, 1, 262), 80, 80, [2, 255]),
            ((1, 1, 0), 0, 40, [1, 0]),
            ((40, 1, 0), 0, 40, [40, 0]),
        ] {
            let (domain, ty, protocol) = socket;
            let class = Class::of(SocketType {
                domain,
                ty,
                protocol,
            });
            assert!(class.index().is_some(), "{class:?}");
            let (request, n) = class.request(port);
            assert_eq!(n, len, "{class:?}");
            assert_eq!(request[..4], (len as u32).to_ne_bytes());
            assert_eq!(request[16..18], head);
            assert_eq!(request[20..24], [255; 4]);
            let at = if len == 40 { 0 } else { port };
            assert_eq!(request[24..26], at.to_be_bytes());
        }
    }

    #[test]
    fn cookies_stand_where_the_family_has_them() {
        let mut message = [0; 72];
        for (domain, at) in [(2, 44), (1, 8), (40, 24)] {
            message[at] = domain as u8;
            message[at + 4] = 1;
            let class = Class::new(domain, 0);
            assert_eq!(class.cookie(&message), Some(1 << 32 | u64::from(domain)));
            assert_eq!(class.cookie(&message[..at + 7]), None);
        }
        assert_eq!(Class::new(16, 0).cookie(&message), None);
    }
}
