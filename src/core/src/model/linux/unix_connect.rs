//! AF_UNIX: connect(2) and what closing does to a connection.
//!
//! A socket whose peer is closed keeps it as its peer, with its name, until it
//! gets another one or is closed itself: so a closed socket stays in the table
//! as long as somebody refers to it (`sock_hold`, counted in `aux`).

use super::connect::BACKLOG;
use super::unix::{PathState, family_of, unix_validate_addr};
use crate::addr::af;
use crate::model::net::{Ctx, NONE, Net, SockId, State, Table};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No};
use crate::socket::ty;

impl Net<'_> {
    /// `unix_stream_connect`, `unix_dgram_connect`
    pub(super) fn unix_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if self.get(id).kind.ty == ty::DGRAM {
            self.unix_dgram_connect(id, addr, cx)
        } else {
            self.unix_stream_connect(id, addr, cred, cx)
        }
    }

    /// The socket that an address leads to, after the one that asks has got a
    /// name if its messages are to carry credentials (`unix_may_passcred`).
    fn unix_lookup(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<SockId, No> {
        let name = unix_validate_addr(addr, cx)?;
        let s = self.get(id);
        if !s.has_name() && (s.pass_cred() || s.pass_pidfd()) {
            self.unix_autobind(id, cx)?;
        }
        self.unix_find_other(self.get(id).kind.ty, name, cx)
    }

    /// `unix_find_other`: `unix_find_abstract`, `unix_find_bsd`
    fn unix_find_other(&self, kind: u16, name: &[u8], cx: &mut Ctx) -> Result<SockId, No> {
        if let Some((0, name)) = name.split_first() {
            return match self.unix_find(kind, name) {
                Some(other) => Ok(other),
                None => cx.fail(Step::UnixConnectName, Errno::ECONNREFUSED),
            };
        }
        match self.path {
            PathState::Free => return cx.fail(Step::UnixConnectPath, Errno::ENOENT),
            PathState::Refused(e) => return cx.fail(Step::UnixConnectPath, e),
            PathState::Elsewhere => return cx.unknown(Step::UnknownPath),
            PathState::Exists => {}
        }
        let path = name.split(|&b| b == 0).next().unwrap_or(&[]);
        let Some(other) = self.unix_find_path(path) else {
            return cx.fail(Step::UnixConnectFile, Errno::ECONNREFUSED);
        };
        if self.get(other).kind.ty != kind {
            return cx.fail(Step::UnixConnectType, Errno::EPROTOTYPE);
        }
        Ok(other)
    }

    /// `unix_stream_connect`: what the other is comes before what this is.
    fn unix_stream_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let other = self.unix_lookup(id, addr, cx)?;
        let o = *self.get(other);
        if o.state != State::Listen || o.recv_shutdown() {
            return cx.fail(Step::UnixConnectListens, Errno::ECONNREFUSED);
        }
        if o.queue.len > BACKLOG {
            return cx.fail(Step::UnixConnectFull, Errno::EAGAIN);
        }
        match self.get(id).state {
            State::Established => {
                return cx.fail(Step::UnixConnectConnected, Errno::EISCONN);
            }
            State::Listen => return cx.fail(Step::UnixConnectListener, Errno::EINVAL),
            _ => {}
        }
        // It has the listener's name, and nobody finds it by that.
        let Some(child) = self.alloc(o.unix_child(other, cred)) else {
            return cx.unknown(Step::NoRoom);
        };
        self.reqsk_queue_add(other, child);
        self.unix_set_peer(child, id.0);
        self.unix_set_peer(id, child.0);
        self.edit(id, |s| s.state = State::Established);
        cx.pass(Step::UnixConnected);
        Ok(())
    }

    /// `unix_dgram_connect`: as often as one likes.
    fn unix_dgram_connect(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if addr.len() < 2 {
            return cx.fail(Step::UnixDgramLength, Errno::EINVAL);
        }
        if family_of(addr) == af::UNSPEC {
            self.unix_set_peer(id, NONE);
            cx.pass(Step::UnixDgramDisconnected);
            return Ok(());
        }
        let other = self.unix_lookup(id, addr, cx)?;
        // unix_may_send: a peer that is closed counts as well.
        let third = self.get(other).peer;
        if third != NONE && third != id.0 {
            return cx.fail(Step::UnixDgramPeer, Errno::EPERM);
        }
        self.unix_set_peer(id, other.0);
        cx.pass(Step::UnixDgramConnected);
        Ok(())
    }

    /// `unix_peer(sk) = other`, with the references that this takes and gives
    /// back.
    fn unix_set_peer(&mut self, id: SockId, other: u32) {
        let old = self.get(id).peer;
        self.sock_hold(SockId(other));
        self.edit(id, |s| s.peer = other);
        self.sock_put(SockId(old));
    }

    fn sock_hold(&mut self, id: SockId) {
        self.edit(id, |s| s.aux = s.aux.saturating_add(1));
    }

    /// The last reference to a socket without descriptors, not waiting in a
    /// queue, frees its place.
    fn sock_put(&mut self, id: SockId) {
        self.edit(id, |s| s.aux = s.aux.saturating_sub(1));
        let s = self.get(id);
        if s.table == Table::Unix && s.aux == 0 && s.refs == 0 && s.parent == NONE {
            self.release(id);
        }
    }

    /// `unix_release_sock`: of a listener, with all that waits at it.
    pub(super) fn unix_release_sock(&mut self, id: SockId, cx: &mut Ctx) {
        self.sock_hold(id);
        if self.get(id).hashed() {
            cx.pass(Step::ClosePutPort);
            self.inet_put_port(id);
        }
        self.unix_set_peer(id, NONE);
        while let Some(child) = self.reqsk_queue_remove(id) {
            self.sock_hold(child);
            self.unix_set_peer(child, NONE);
            self.edit(child, |c| c.parent = NONE);
            self.sock_put(child);
        }
        cx.pass(Step::CloseDone);
        self.sock_put(id);
    }
}
