//! AF_VSOCK: `vsock_connect`, and how a connection ends.
//!
//! What `vsock_loopback` carries is known to its end: the kernel's worker hands
//! each packet on in its turn, and the model is where it comes to rest
//! (`virtio_transport_common.c`). What another transport carries is somebody
//! else's to answer: [`Step::UnknownVsock`], and the socket has the port that
//! connect() gave it.
//!
//! A socket's `state` is its `sk_state`. `TCP_CLOSING`, a connection that is over,
//! is [`State::FinWait2`] of the side that has shut down, which stays in the
//! kernel's table of connections, and [`State::CloseWait`] of the other; until
//! 6.1.63 the other stays there, too.
//! `connected` is `SS_CONNECTED`, any of the shutdown bits `SS_DISCONNECTING`;
//! `dport` is `sk_err` as Linux's number.
//!
//! mutants: machine: nobody is asked by vsock, it leads out of the machine

use super::connect::BACKLOG;
use super::quirks;
use super::vsock::{CID_HOST, CID_LOCAL, is_disconnecting, vsock_addr_cast};
use crate::addr::VMADDR_ANY;
use crate::model::net::{Ctx, NONE, Net, SockId, State, Table};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No};
use crate::socket::ty;

/// `VMADDR_FLAG_TO_HOST`
const TO_HOST: u8 = 1;

impl Net<'_> {
    /// `vsock_assign_transport`, of a socket for connections: is there one,
    /// and is it `vsock_loopback`?
    fn vsock_assign_transport(&self, remote: u32, flags: u8) -> Option<bool> {
        let v = &self.host.vsock;
        // vsock_use_local_transport
        let here = remote == CID_LOCAL || remote == v.cid.unwrap_or(CID_HOST);
        if v.local && here {
            return Some(true);
        }
        // transport_g2h or transport_h2g
        let to_host = remote <= CID_HOST || !v.host || flags & TO_HOST != 0;
        let loaded = if to_host { v.cid.is_some() } else { v.host };
        loaded.then_some(false)
    }

    /// `vsock_connect`, `vsock_auto_bind`
    pub(super) fn vsock_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        if s.kind.ty == ty::DGRAM {
            return cx.unknown(Step::UnknownVsock);
        }
        if s.connected() {
            return cx.fail(Step::VsockConnectConnected, Errno::EISCONN);
        }
        if is_disconnecting(&s) {
            return cx.fail(Step::VsockConnectOver, Errno::EINVAL);
        }
        if s.state == State::Listen {
            return cx.fail(Step::VsockConnectListener, Errno::EINVAL);
        }
        let remote = vsock_addr_cast(addr, self.host, cx)?;
        let Some(local) = self.vsock_assign_transport(remote.cid, remote.flags) else {
            return cx.fail(Step::VsockNoTransport, Errno::ENODEV);
        };
        // Whether a device carries SOCK_SEQPACKET is between it and the host.
        let carried = local || s.kind.ty == ty::STREAM;
        if carried && s.num == VMADDR_ANY {
            self.__vsock_bind(id, VMADDR_ANY, VMADDR_ANY, cred, cx)?;
        }
        if !local {
            return cx.unknown(Step::UnknownVsock);
        }
        let result = self.virtio_transport_recv_pkt(id, remote.cid, remote.port, cx);
        self.edit(id, |s| {
            s.dport = match result {
                Err(No::Errno(e)) => e.linux(),
                _ => 0,
            };
        });
        result
    }

    /// `virtio_transport_recv_pkt` of the request, on the other side.
    fn virtio_transport_recv_pkt(
        &mut self,
        id: SockId,
        cid: u32,
        port: u32,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let client = *self.get(id);
        // A connection of the same ends comes first, even one that only one
        // side has left.
        let same = |c: &SockId| {
            let s = self.get(*c);
            s.table == Table::Vsock
                && matches!(s.state, State::Established | State::FinWait2)
                && s.num == port
                && s.vsock_peer() == (CID_LOCAL, client.num)
        };
        if self.ids().any(|c| same(&c)) {
            return cx.unknown(Step::UnknownVsockMet);
        }
        let found = match port {
            VMADDR_ANY => None,
            port => self.vsock_find_bound_socket(cid, port),
        };
        let Some(listener) = found else {
            return cx.fail(Step::VsockRefused, Errno::ECONNRESET);
        };
        let l = *self.get(listener);
        if l.kind.ty != client.kind.ty {
            return cx.fail(Step::VsockConnectType, Errno::ECONNRESET);
        }
        if listener == id {
            return cx.fail(Step::VsockConnectSelf, Errno::EPROTO);
        }
        match l.state {
            State::Listen if l.queue.len > BACKLOG => {
                return cx.fail(Step::VsockConnectFull, Errno::ECONNRESET);
            }
            State::Listen => {}
            State::Close => return cx.fail(Step::VsockRefused, Errno::ECONNRESET),
            // Until 6.12 a reset, since 6.18 nothing at all.
            _ => return cx.unknown(Step::UnknownVsockMet),
        }
        // virtio_transport_recv_listen
        let mut child = l.child(listener, id);
        child.num = port;
        child.aux = cid;
        child.set_connected(true);
        child.set_vsock_peer(CID_LOCAL, client.num);
        let Some(child) = self.alloc(child) else {
            return cx.unknown(Step::NoRoom);
        };
        self.reqsk_queue_add(listener, child);
        // virtio_transport_recv_connecting
        self.edit(id, |s| {
            s.state = State::Established;
            s.peer = child.0;
            s.set_connected(true);
            s.set_vsock_peer(cid, port);
        });
        cx.pass(Step::VsockConnected);
        Ok(())
    }

    /// `vsock_shutdown`: the connection is over once one side has shut down
    /// both ways.
    pub(super) fn vsock_shutdown(&mut self, id: SockId, how: u8, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        if !s.connected() && !is_disconnecting(&s) {
            return cx.fail(Step::ShutdownNotConnected, Errno::ENOTCONN);
        }
        self.edit(id, |s| {
            s.set_connected(false);
            s.set_recv_shutdown(s.recv_shutdown() || how != 1);
            s.set_send_shutdown(s.send_shutdown() || how != 0);
        });
        let s = self.get(id);
        if s.recv_shutdown() && s.send_shutdown() {
            self.vsock_do_close(id, cx);
        }
        cx.pass(Step::ShutdownOk);
        Ok(())
    }

    /// `virtio_transport_do_close` on both sides: one has shut down, the other
    /// has answered by a reset.
    fn vsock_do_close(&mut self, id: SockId, cx: &mut Ctx) {
        let peer = SockId(self.get(id).peer);
        if self.get(id).state != State::Established {
            return;
        }
        // mutants: generation: until 6.1.63
        let other = if quirks::vsock_shutdown_removes(self.host.generation) {
            State::CloseWait
        } else {
            State::FinWait2
        };
        for (end, state) in [(id, State::FinWait2), (peer, other)] {
            self.edit(end, |s| {
                s.state = state;
                s.peer = NONE;
            });
        }
        cx.pass(Step::VsockClosed);
    }

    /// `__vsock_release`: what waits at a listener goes first.
    pub(super) fn vsock_release(&mut self, id: SockId, cx: &mut Ctx) {
        while let Some(child) = self.reqsk_queue_remove(id) {
            self.vsock_do_close(child, cx);
            self.release(child);
        }
        self.vsock_do_close(id, cx);
        if self.get(id).hashed() {
            cx.pass(Step::ClosePutPort);
            self.inet_put_port(id);
        }
        cx.pass(Step::CloseDone);
        self.release(id);
    }
}
