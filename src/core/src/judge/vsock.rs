//! The vsock host that a run is (`host cid N`): what each call on a vsock socket
//! of the run is answered, with no AF_VSOCK underneath.
//!
//! Each such socket is a Unix socket from its birth, a *carrier*
//! ([`super::socket::carrier`]). An address of the host is a Unix name, so that
//! the kernel's own table of names holds the claim and gives it up when its
//! holder is gone, however that ended. The name says everything about the
//! address, to whoever sees it on the other side of a connection too:
//!
//! ```text
//!   vsock.3.5000.any      CID 3, port 5000, bound to VMADDR_CID_ANY
//!   vsock.3.5000.own                        bound to CID 3
//!   vsock.3.5000.local                      bound to VMADDR_CID_LOCAL
//!   vsock.3.1043.loop     a client without a bind, which called VMADDR_CID_LOCAL
//! ```
//!
//! Without a fabric these are the last part of an abstract name that begins with
//! the run's id; with one they are files in its directory. What a path before the
//! last `/` says does not count: two containers spell it differently.
//!
//! The rules are those of a guest with virtio and vsock_loopback: `vsock_bind`,
//! `__vsock_bind_connectible`, `vsock_connect`, `vsock_assign_transport`,
//! `virtio_transport_recv_pkt` of Linux 6.x.

use crate::addr::{Addr, UnixKind, UnixName, VMADDR_ANY, af};
use crate::errno::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, EINVAL, EISCONN, EMFILE, ENFILE,
    ENODEV, ENOENT, ENOMEM, EPROTONOSUPPORT, ESOCKTNOSUPPORT, ETIMEDOUT,
};
use crate::socket::{SocketType, ty};
use crate::text;

/// `VMADDR_CID_LOCAL`
pub const CID_LOCAL: u32 = 1;
/// `VMADDR_CID_HOST`
pub const CID_HOST: u32 = 2;
/// `LAST_RESERVED_PORT`
pub const LAST_RESERVED_PORT: u32 = 1023;
/// `MAX_PORT_RETRIES`: how many ports in a row an automatic bind tries.
pub const PORT_RETRIES: u32 = 24;

/// The beginning of the last part of a name.
const PREFIX: &[u8] = b"vsock.";
/// The beginning of an abstract name; the run's id follows, in 16 hex digits.
const ABSTRACT: &[u8] = b"bindgate/vsock/";

mod vmm;

pub use vmm::{Call, Delivered, GUEST, Line, Vmm, hello, is_welcome, request, welcome};

/// The vsock host that a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host<'p> {
    /// Its context id.
    pub cid: u32,
    /// The directory where hosts meet; empty: there is this one only.
    pub fabric: &'p [u8],
    /// The run.
    pub run: u64,
    /// What every name begins with; nothing where a name has no room.
    prefix: Text,
    /// What speaks for the other side, if something does.
    pub vmm: Option<Vmm<'p>>,
}

/// How a socket is at its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Bound to `VMADDR_CID_ANY`.
    Any,
    /// Bound to the host's own CID.
    Own,
    /// Bound to `VMADDR_CID_LOCAL`.
    Local,
    /// Got its port by connecting to `VMADDR_CID_LOCAL`, and is bound to
    /// `VMADDR_CID_ANY`.
    Loop,
}

impl At {
    /// All of them; [`At::index`] counts by this.
    pub const ALL: [At; 4] = [At::Any, At::Own, At::Local, At::Loop];

    fn word(self) -> &'static [u8] {
        match self {
            At::Any => b"any",
            At::Own => b"own",
            At::Local => b"local",
            At::Loop => b"loop",
        }
    }

    fn index(self) -> u32 {
        match self {
            At::Any => 0,
            At::Own => 1,
            At::Local => 2,
            At::Loop => 3,
        }
    }
}

/// One place of a vsock host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// The host.
    pub cid: u32,
    /// The port.
    pub port: u32,
    /// How the socket is there.
    pub at: At,
}

impl Name {
    /// The same place, held in another way.
    #[must_use]
    pub fn with(self, at: At) -> Name {
        Name { at, ..self }
    }

    /// The address that the socket was bound to.
    #[must_use]
    pub fn bound_to(self) -> Addr {
        let cid = match self.at {
            At::Any | At::Loop => VMADDR_ANY,
            At::Own => self.cid,
            At::Local => CID_LOCAL,
        };
        vsock(cid, self.port)
    }
}

/// Where a connect leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// To one of these two places, the first that somebody listens at.
    To([Name; 2]),
    /// To the other side, by what speaks for it.
    Out(Call),
    /// To a host that is not there.
    Nowhere,
}

/// The socket that is made where a program of the run asks for a vsock one.
///
/// # Errors
/// As `vsock_create` has them. There is no transport for datagrams: `ENODEV`.
pub fn create(ty: i32, protocol: i32) -> Result<SocketType, u16> {
    const VSOCK: i32 = af::VSOCK as i32;
    let made = SocketType::created(VSOCK, ty, protocol);
    match made.ty {
        _ if !matches!(protocol, 0 | VSOCK) => Err(EPROTONOSUPPORT),
        ty::STREAM | ty::SEQPACKET => Ok(SocketType {
            domain: af::UNIX,
            ty: made.ty,
            protocol: 0,
        }),
        ty::DGRAM => Err(ENODEV),
        _ => Err(ESOCKTNOSUPPORT),
    }
}

/// What a program is told whose carrier the kernel refused to bind. What only a
/// file can be refused for has no name in `__vsock_bind`: a fabric that is gone,
/// full, read-only, or another user's.
#[must_use]
pub fn bind_error(errno: u16) -> u16 {
    match errno {
        EADDRINUSE | EINVAL | ENOMEM | EMFILE | ENFILE => errno,
        _ => EADDRNOTAVAIL,
    }
}

/// What a program is told whose carrier the kernel refused to connect:
/// `virtio_transport_reset_no_sock`, also of a full backlog.
#[must_use]
pub fn connect_error(errno: u16) -> u16 {
    match errno {
        EISCONN | EINVAL | ENOMEM | EMFILE | ENFILE => errno,
        _ => ECONNRESET,
    }
}

/// What a connect to a host that is not there comes to. The hypervisor is always
/// there, and resets what nobody listens for; of any other CID nothing ever comes
/// back, and the error is that of the end of `SO_VM_SOCKETS_CONNECT_TIMEOUT`.
#[must_use]
pub fn no_host(asked: &Addr) -> u16 {
    match asked {
        Addr::Vsock { cid: CID_HOST, .. } => ECONNRESET,
        _ => ETIMEDOUT,
    }
}

/// Is that the error of a peer that never answers, which comes only after the
/// time-out?
#[must_use]
pub fn comes_late(errno: u16) -> bool {
    errno == ETIMEDOUT
}

/// Says a failed connect to one place that somebody may listen at the other?
#[must_use]
pub fn is_nobody(errno: u16) -> bool {
    matches!(errno, ENOENT | ECONNREFUSED)
}

/// What a call on a carrier says that has no peer, where a Unix socket says
/// something else: `vsock_connectible_recvmsg`, `vsock_shutdown`.
pub const NOT_CONNECTED: u16 = crate::errno::ENOTCONN;
/// The error of a bind to a place that another socket of the host has.
pub const IN_USE: u16 = EADDRINUSE;
/// The error of an automatic bind where no port is free.
pub const NO_PORT: u16 = EADDRNOTAVAIL;
/// The error of a bind or connect of a socket that is past that, and of an
/// address that is none.
pub const MALFORMED: u16 = EINVAL;

impl<'p> Host<'p> {
    /// A host, with the directory of its fabric or nothing, and the run.
    #[must_use]
    pub fn new(cid: u32, fabric: &'p [u8], run: u64) -> Host<'p> {
        let prefix = prefix(fabric, run).unwrap_or_default();
        Host {
            cid,
            fabric,
            run,
            prefix,
            vmm: None,
        }
    }

    /// The place that a bind asks for, with [`VMADDR_ANY`] for a port of the
    /// host's choice.
    ///
    /// # Errors
    /// `EINVAL` for an address of another family, `EADDRNOTAVAIL` for the CID of
    /// another host, `EACCES` for a reserved port without `CAP_NET_BIND_SERVICE`
    /// (`privileged`, which only a reserved port asks for).
    pub fn place(&self, asked: &Addr, privileged: impl FnOnce() -> bool) -> Result<Name, u16> {
        let Addr::Vsock { cid, port, .. } = *asked else {
            return Err(MALFORMED);
        };
        let at = match cid {
            VMADDR_ANY => At::Any,
            CID_LOCAL => At::Local,
            cid if cid == self.cid => At::Own,
            _ => return Err(EADDRNOTAVAIL),
        };
        if port <= LAST_RESERVED_PORT && !privileged() {
            return Err(EACCES);
        }
        Ok(Name {
            cid: self.cid,
            port,
            at,
        })
    }

    /// Where a connect to `asked` leads.
    ///
    /// # Errors
    /// `EINVAL` for an address of another family.
    pub fn way(&self, asked: &Addr) -> Result<Way, u16> {
        let Addr::Vsock { cid, port, .. } = *asked else {
            return Err(MALFORMED);
        };
        let to = |cid, at| {
            let name = Name { cid, port, at };
            Way::To([name, name.with(At::Any)])
        };
        if let Some(way) = self.way_out(cid, port) {
            return Ok(way);
        }
        Ok(match cid {
            CID_LOCAL => to(self.cid, At::Local),
            cid if cid == self.cid => to(cid, At::Own),
            _ if self.fabric.is_empty() || cid == VMADDR_ANY || cid == 0 => Way::Nowhere,
            cid => to(cid, At::Own),
        })
    }

    /// Is it this host that a connect leads to, over the loopback transport?
    #[must_use]
    pub fn is_here(&self, name: Name) -> bool {
        name.cid == self.cid
    }

    /// How the port of a client is held that calls `to` without a bind.
    #[must_use]
    pub fn client(&self, to: Name) -> At {
        match to.at {
            At::Local => At::Loop,
            // `VMADDR_CID_ANY` is the other side's way in, and a file.
            _ if self.is_file(to.with(At::Any)) => At::Loop,
            _ => At::Any,
        }
    }

    /// The local address of a socket with this name: bound, connected or
    /// listening.
    #[must_use]
    pub fn local(&self, name: Name) -> Addr {
        name.bound_to()
    }

    /// The local address of a socket that was accepted at `listener` from
    /// `peer`: the one that the peer called.
    #[must_use]
    pub fn local_of_accepted(&self, listener: Name, peer: Option<Name>) -> Addr {
        let cid = match (listener.at, peer.map(|peer| peer.at)) {
            (At::Local, _) | (At::Any, Some(At::Loop)) => CID_LOCAL,
            _ => self.cid,
        };
        vsock(cid, listener.port)
    }

    /// The address of the peer of a socket that was accepted.
    #[must_use]
    pub fn peer_of_accepted(&self, peer: Name) -> Addr {
        match self.is_here(peer) {
            // `virtio_transport_get_local_cid` of vsock_loopback.
            true => vsock(CID_LOCAL, peer.port),
            false => vsock(peer.cid, peer.port),
        }
    }

    /// The address that a client called which is at `local` and reached `peer`.
    #[must_use]
    pub fn called(&self, local: Option<Name>, peer: Name) -> Addr {
        let is_loop = local.is_some_and(|local| local.at == At::Loop);
        match peer.at {
            At::Local => vsock(CID_LOCAL, peer.port),
            At::Any if is_loop => vsock(CID_LOCAL, peer.port),
            _ => vsock(peer.cid, peer.port),
        }
    }

    /// The Unix name of a place.
    #[must_use]
    pub fn unix(&self, name: Name) -> Option<UnixName> {
        if self.is_file(name) {
            return self.file(name);
        }
        let mut text = self.prefix;
        if text.len == 0 {
            return None;
        }
        text::decimal(name.cid, &mut text)?;
        text.bytes(b".")?;
        text::decimal(name.port, &mut text)?;
        text.bytes(b".")?;
        text.bytes(name.at.word())?;
        match self.fabric.is_empty() {
            true => UnixName::abstract_(text.get()),
            false => UnixName::path(text.get()),
        }
    }

    /// The file at which the log process of the host with this CID listens in a
    /// fabric, for as long as the host is there.
    #[must_use]
    pub fn registered(&self, cid: u32) -> Option<UnixName> {
        let mut text = Text::default();
        text.bytes(self.fabric)?;
        text.bytes(b"/cid.")?;
        text::decimal(cid, &mut text)?;
        UnixName::path(text.get())
    }

    /// The place that a Unix name of the host, or of another one of its fabric,
    /// stands for.
    #[must_use]
    pub fn read(&self, unix: &UnixName) -> Option<Name> {
        if let Some(name) = self.read_file(unix) {
            return Some(name);
        }
        let bytes = unix.bytes();
        let is_path = unix.kind == UnixKind::Path;
        if is_path == self.fabric.is_empty() || !is_path && !bytes.starts_with(ABSTRACT) {
            return None;
        }
        let last = bytes.rsplit(|b| *b == b'/').next()?;
        let mut parts = last.strip_prefix(PREFIX)?.split(|b| *b == b'.');
        let cid = number(parts.next()?)?;
        let port = number(parts.next()?)?;
        let word = parts.next()?;
        let at = At::ALL.into_iter().find(|at| at.word() == word)?;
        let name = Name { cid, port, at };
        // An abstract name is another run's unless it is spelt as ours.
        let is_ours = is_path || self.unix(name).is_some_and(|own| own == *unix);
        (parts.next().is_none() && is_ours).then_some(name)
    }
}

/// The bit of a way of holding a port, and of a type of socket, in the run's
/// table of those that there ever were ([`crate::shared::Held`]).
#[must_use]
pub fn bit(at: At, is_seqpacket: bool) -> u8 {
    1 << (at.index() * 2 + u32::from(is_seqpacket))
}

/// The bits of what `at` of this type cannot be beside, and does not exclude by
/// its Unix name alone: `__vsock_find_bound_socket` makes no difference between
/// types, and the wildcard stands in everybody's way.
#[must_use]
pub fn in_the_way(at: At, is_seqpacket: bool) -> u8 {
    const ANY: u8 = 0b1100_0011;
    const OWN: u8 = 0b0000_1100;
    const LOCAL: u8 = 0b0011_0000;
    let all = match at {
        At::Any | At::Loop => u8::MAX,
        At::Own => ANY | OWN,
        At::Local => ANY | LOCAL,
    };
    all & !bit(at, is_seqpacket)
}

/// The bits of the ways that are never a file ([`Host::is_file`]).
pub const NOT_FILES: u8 = 0b1111_0000;

/// What some bits stand for: ways, and whether the socket is a SOCK_SEQPACKET.
pub fn ways(bits: u8) -> impl Iterator<Item = (At, bool)> {
    At::ALL
        .into_iter()
        .flat_map(|at| [(at, false), (at, true)])
        .filter(move |(at, is_seqpacket)| bits & bit(*at, *is_seqpacket) != 0)
}

/// What every name begins with, up to the CID.
fn prefix(fabric: &[u8], run: u64) -> Option<Text> {
    let mut text = Text::default();
    if fabric.is_empty() {
        text.bytes(ABSTRACT)?;
        hex(run, &mut text)?;
    } else {
        text.bytes(fabric)?;
    }
    text.bytes(b"/")?;
    text.bytes(PREFIX)?;
    Some(text)
}

fn vsock(cid: u32, port: u32) -> Addr {
    Addr::Vsock {
        cid,
        port,
        flags: 0,
    }
}

/// A number in 16 hex digits.
fn hex(number: u64, text: &mut Text) -> Option<()> {
    (0..64).step_by(4).rev().try_for_each(|shift| {
        let digit = (number >> shift & 0xf) as u8;
        text.bytes(&[if digit < 10 {
            b'0' + digit
        } else {
            b'a' - 10 + digit
        }])
    })
}

/// Digits alone, and no more than a number of 32 bits has.
fn number(digits: &[u8]) -> Option<u32> {
    let mut n = 0u32;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        n = n.checked_mul(10)?.checked_add(u32::from(digit))?;
    }
    (!digits.is_empty()).then_some(n)
}

/// A Unix name in the making.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Text {
    bytes: [u8; 108],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text {
            bytes: [0; 108],
            len: 0,
        }
    }
}

impl Text {
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        use crate::text::Out;
        bytes.iter().try_for_each(|byte| self.byte(*byte))
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

impl text::Out for Text {
    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = byte;
        self.len += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests;
