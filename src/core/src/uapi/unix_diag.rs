//! sock_diag(7) for Unix sockets: the request as bytes, an answer as a socket.
//!
//! `/proc/net/unix` writes names as they are, line feeds too: there a socket with
//! such a name reads as two, or as another one. Here each name has a length.

use super::inet_diag::attribute;
use super::sock_diag::{Class, u32_at};
use crate::addr::{UnixName, af};
use crate::socket::SocketType;

/// Length of a request: `struct nlmsghdr` and `struct unix_diag_req`.
pub const REQUEST: usize = 40;
/// Where `udiag_show` stands in it.
const SHOW: usize = 28;
/// `UDIAG_SHOW_NAME` and `UDIAG_SHOW_UID`.
const NAME_AND_UID: u32 = 0x01 | 0x40;
/// Length of `struct unix_diag_msg`.
const MESSAGE: usize = 16;
/// `UNIX_DIAG_NAME`
const NAME: u16 = 0;
/// `UNIX_DIAG_UID`, of Linux 5.3.
const UID: u16 = 7;
/// The kernel's own words for a listener and for a socket with a peer, which are
/// TCP's.
const LISTEN: u8 = 10;
const ESTABLISHED: u8 = 1;

/// A Unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    /// `SOCK_STREAM` and so on.
    pub ty: u16,
    /// Its inode, or 0 where no descriptor is left, or none is there yet.
    pub inode: u32,
    /// `SO_COOKIE`
    pub cookie: u64,
    /// Its name, if it has one.
    pub name: Option<UnixName>,
    /// Its user, where the kernel says.
    pub uid: Option<u32>,
    /// Does it listen?
    pub listens: bool,
    /// Has it a peer?
    pub is_connected: bool,
}

impl Socket {
    /// Is it bound to this name? A socket of another type may have the same
    /// abstract name.
    #[must_use]
    pub fn is_named(&self, name: &UnixName) -> bool {
        self.name.as_ref() == Some(name)
    }
}

/// The request for all of them, with their names and users.
#[must_use]
pub fn request() -> [u8; REQUEST] {
    let class = Class::of(SocketType {
        domain: af::UNIX,
        ty: 0,
        protocol: 0,
    });
    let (message, _) = class.request(0);
    let mut request = [0; REQUEST];
    for (to, from) in request.iter_mut().zip(message) {
        *to = from;
    }
    for (to, from) in request
        .iter_mut()
        .skip(SHOW)
        .zip(NAME_AND_UID.to_ne_bytes())
    {
        *to = from;
    }
    request
}

/// The socket that a message is about.
#[must_use]
pub fn socket(m: &[u8]) -> Option<Socket> {
    let rest = m.get(MESSAGE..)?;
    let state = *m.get(2)?;
    Some(Socket {
        ty: u16::from(*m.get(1)?),
        inode: u32_at(m, 4)?,
        cookie: u64::from(u32_at(m, 8)?) | u64::from(u32_at(m, 12)?) << 32,
        name: attribute(rest, NAME).and_then(name),
        uid: attribute(rest, UID).and_then(|value| u32_at(value, 0)),
        listens: state == LISTEN,
        is_connected: state == ESTABLISHED,
    })
}

/// `sun_path` as it stands in the kernel: a path with the NUL after it.
fn name(value: &[u8]) -> Option<UnixName> {
    match value.split_first()? {
        (0, name) => UnixName::abstract_(name),
        _ => UnixName::path(value.split(|b| *b == 0).next()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn message(ty: u8, state: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut m = [1, ty, state, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0].to_vec();
        for (kind, value) in attributes {
            m.extend((value.len() as u16 + 4).to_ne_bytes());
            m.extend(kind.to_ne_bytes());
            m.extend(*value);
            m.resize(m.len().next_multiple_of(4), 0);
        }
        m
    }

    #[test]
    fn a_request_is_the_kernels_structure() {
        let request = request();
        assert_eq!(request[..4], 40u32.to_ne_bytes());
        assert_eq!(request[16..18], [1, 0]);
        assert_eq!(request[20..24], [255; 4]);
        assert_eq!(request[28..32], 0x41u32.to_ne_bytes());
        assert!(request[32..].iter().all(|b| *b == 0));
    }

    #[test]
    fn names_are_taken_by_their_length() {
        let of = |value: &[u8]| socket(&message(1, 10, &[(0, value)])).unwrap().name;
        assert_eq!(of(b"\0a\nb c"), UnixName::abstract_(b"a\nb c"));
        assert_eq!(of(b"\0"), UnixName::abstract_(b""));
        assert_eq!(of(b"/a\nb\0"), UnixName::path(b"/a\nb"));
        assert_eq!(of(b"@x\0"), UnixName::path(b"@x"));
        assert_eq!(of(b""), None);
        assert_eq!(of(&[b'x'; 109]), None);
    }

    #[test]
    fn a_message_is_read() {
        let uid = 65534u32.to_ne_bytes();
        let m = message(5, 1, &[(4, &[0; 8]), (0, b"/x\0"), (7, &uid)]);
        let s = socket(&m).unwrap();
        assert_eq!((s.ty, s.inode, s.cookie), (5, 7, 1 << 32 | 9));
        assert_eq!(
            (s.uid, s.listens, s.is_connected),
            (Some(65534), false, true)
        );
        for len in 0..MESSAGE {
            assert_eq!(socket(&m[..len]), None, "{len}");
        }
        for len in MESSAGE..m.len() {
            let _ = socket(&m[..len]);
        }
        assert!(socket(&message(1, 10, &[])).is_some_and(|s| s.listens && s.name.is_none()));
    }
}
