//! AF_UNIX: `unix_bind` and its three ways.
//!
//! What the file system says of a path is the caller's to ask:
//! [`PathState`], set in [`Net::path`](crate::model::Net) before the call.

use super::quirks;
use crate::addr::{UnixName, af};
use crate::model::net::{Ctx, Net, SockId, State, Table};
use crate::model::step::Step;
use crate::model::{Errno, No, Pick};
use crate::socket::ty;

/// What the file system says of a path that a socket is to be bound or
/// connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathState {
    /// Nothing has the name; for a bind, its parent is there and writable.
    Free,
    /// Something has the name: `EEXIST` of `start_creating_path`. For a
    /// connect, it may be written (`path_permission`).
    Exists,
    /// The look-up or the permission check fails so.
    Refused(Errno),
    /// A socket that goes by another path as well: the model compares paths by
    /// their bytes, and cannot say which it is.
    Elsewhere,
}

/// In the place of a type: a path, which all types share.
pub(in crate::model) const PATH: u16 = 0;

/// A name that the hash chains know: 16 bytes of type and length, and a hash.
fn key(kind: u16, name: &[u8]) -> (u32, [u8; 16]) {
    let mut hash = 0x811c_9dc5u32;
    for b in name {
        hash = (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193);
    }
    let mut addr = [0; 16];
    addr[0] = kind as u8;
    addr[1] = name.len() as u8;
    (hash, addr)
}

/// The name that `unix_autobind` makes of a number: five digits.
fn auto_name(n: u32) -> [u8; 5] {
    let mut name = [0; 5];
    for (i, digit) in name.iter_mut().rev().enumerate() {
        let d = (n >> (4 * i)) & 0xf;
        *digit = b"0123456789abcdef".get(d as usize).copied().unwrap_or(b'0');
    }
    name
}

pub(super) fn family_of(addr: &[u8]) -> u16 {
    match addr {
        [a, b, ..] => u16::from_ne_bytes([*a, *b]),
        _ => af::UNSPEC,
    }
}

/// `unix_validate_addr`: what comes after the family, at least a byte.
pub(super) fn unix_validate_addr<'a>(addr: &'a [u8], cx: &mut Ctx) -> Result<&'a [u8], No> {
    if addr.len() <= 2 || addr.len() > 110 || family_of(addr) != af::UNIX {
        return cx.fail(Step::UnixBindMalformed, Errno::EINVAL);
    }
    Ok(addr.get(2..).unwrap_or(&[]))
}

impl Net<'_> {
    /// `unix_bind`
    pub(super) fn unix_bind(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        let family = family_of(addr);
        if addr.len() == 2 && family == af::UNIX {
            return self.unix_autobind(id, cx);
        }
        let name = unix_validate_addr(addr, cx)?;
        match name.split_first() {
            Some((0, rest)) => self.unix_bind_abstract(id, rest, cx),
            _ => self.unix_bind_bsd(id, name, cx),
        }
    }

    /// `unix_autobind`
    pub(super) fn unix_autobind(&mut self, id: SockId, cx: &mut Ctx) -> Result<(), No> {
        if self.get(id).has_name() {
            cx.pass(Step::UnixAutobindNamed);
            return Ok(());
        }
        let kind = self.get(id).kind.ty;
        let start = match cx.pick {
            Pick::Random(r) => r,
            Pick::Observed(n) => n.unwrap_or(0),
        };
        // The kernel tries all 2^20 names from a random one on.
        for i in 0..1 << 20 {
            let name = auto_name(start.wrapping_add(i) & 0xf_ffff);
            if self.unix_find(kind, &name).is_none() {
                self.unix_name(id, kind, UnixName::abstract_(&name), &name);
                cx.pass(Step::UnixAutobind);
                return Ok(());
            }
        }
        cx.fail(Step::UnixAutobindFull, Errno::ENOSPC)
    }

    /// `unix_bind_abstract`
    fn unix_bind_abstract(&mut self, id: SockId, name: &[u8], cx: &mut Ctx) -> Result<(), No> {
        let s = self.get(id);
        let kind = s.kind.ty;
        if s.has_name() {
            return cx.fail(Step::UnixAbstractBound, Errno::EINVAL);
        }
        if let Some(holder) = self.unix_find(kind, name) {
            cx.holder = Some(holder);
            return cx.fail(Step::UnixAbstractInUse, Errno::EADDRINUSE);
        }
        self.unix_name(id, kind, UnixName::abstract_(name), name);
        cx.pass(Step::UnixBound);
        Ok(())
    }

    /// `unix_bind_bsd`: the path is made before anybody looks whether the
    /// socket has a name.
    fn unix_bind_bsd(&mut self, id: SockId, name: &[u8], cx: &mut Ctx) -> Result<(), No> {
        let path = name.split(|&b| b == 0).next().unwrap_or(&[]);
        match self.path {
            PathState::Exists => {
                // Whose file it is, if it is a socket's that is known.
                cx.holder = self.unix_find_path(path);
                return cx.fail(Step::UnixPathExists, Errno::EADDRINUSE);
            }
            PathState::Refused(e) => return cx.fail(Step::UnixPathRefused, e),
            PathState::Free | PathState::Elsewhere => {}
        }
        if self.get(id).has_name() {
            return cx.fail(Step::UnixPathBound, Errno::EINVAL);
        }
        self.unix_name(id, PATH, UnixName::path(path), path);
        cx.pass(Step::UnixBound);
        Ok(())
    }

    /// `unix_find_socket_byname`
    pub(super) fn unix_find(&self, kind: u16, name: &[u8]) -> Option<SockId> {
        let (hash, addr) = key(kind, name);
        self.at_addr(Table::Unix, hash, addr)
            .find(|(_, s)| s.is_abstract(name))
            .map(|(id, _)| id)
    }

    /// `unix_find_socket_byinode`, by the path that leads there.
    pub(in crate::model) fn unix_find_path(&self, path: &[u8]) -> Option<SockId> {
        let (hash, addr) = key(PATH, path);
        self.at_addr(Table::Unix, hash, addr)
            .find(|(_, s)| s.is_path(path))
            .map(|(id, _)| id)
    }

    pub(in crate::model) fn unix_name(
        &mut self,
        id: SockId,
        kind: u16,
        name: Option<UnixName>,
        bytes: &[u8],
    ) {
        let (hash, addr) = key(kind, bytes);
        self.edit(id, |s| {
            s.set_unix_name(name);
            s.num = hash;
            s.rcv6 = addr;
        });
        self.inet_bind_hash(id);
    }

    /// `unix_listen`
    pub(super) fn unix_listen(&mut self, id: SockId, cx: &mut Ctx) -> Result<(), No> {
        let s = self.get(id);
        if s.kind.ty == ty::DGRAM {
            return cx.fail(Step::ListenUnsupported, Errno::EOPNOTSUPP);
        }
        if !s.has_name() {
            return cx.fail(Step::UnixListenUnbound, Errno::EINVAL);
        }
        if s.state == State::Established {
            // mutants: generation: from 6.16 on, for some releases
            if quirks::connected_unix_listens(self.host.generation) {
                cx.pass(Step::UnixListenState);
                return Ok(());
            }
            return cx.fail(Step::UnixListenState, Errno::EINVAL);
        }
        self.edit(id, |s| s.state = State::Listen);
        cx.pass(Step::ListenOk);
        Ok(())
    }
}
