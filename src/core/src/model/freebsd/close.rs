//! close(2), shutdown(2), and how a connection ends: by a reset, or by a FIN of
//! each side. As on Linux's side of the model, packets arrive within the call.
//!
//! What a program has closed stays in the tables as long as its connection
//! lives. TIME_WAIT is 9.1's alone: since 14 `net.inet.tcp.nolocaltimewait` is
//! on, and a connection within the host ends without it.

use super::connect::is_connected;
use super::{pcb, quirks};
use crate::addr::af;
use crate::model::net::{Ctx, NONE, Net, SockId, State, Table};
use crate::model::step::Step;
use crate::model::{Errno, No};
use crate::socket::ty;

impl Net<'_> {
    /// `soclose`, after the last descriptor.
    pub(in crate::model) fn soclose(&mut self, id: SockId, cx: &mut Ctx) {
        let s = *self.get(id);
        match s.table {
            Table::Unix => self.uipc_close(id),
            Table::Tcp => self.tcp_usr_close(id, cx),
            _ => {}
        }
        let s = self.get(id);
        if s.table == Table::Tcp && s.hashed() {
            // Its connection goes on without it.
            if s.state != State::Close && s.state != State::Listen {
                cx.pass(Step::BsdCloseLingers);
                return;
            }
        }
        if self.get(id).hashed() {
            cx.pass(Step::BsdClosePort);
            self.inet_put_port(id);
        }
        cx.pass(Step::BsdClosed);
        // A connection that has ended by this is gone already.
        if self.get(id).kind.domain != 0 {
            self.release(id);
        }
    }

    /// `tcp_usr_close`, `tcp_disconnect`; of a listener with all that waits.
    fn tcp_usr_close(&mut self, id: SockId, cx: &mut Ctx) {
        let s = *self.get(id);
        while let Some(child) = self.reqsk_queue_remove(id) {
            // soabort
            self.edit(child, |c| {
                c.parent = NONE;
                c.refs = 1;
            });
            self.tcp_reset(child, cx);
            self.release(child);
        }
        match s.state {
            State::Established | State::CloseWait | State::FinWait2 if s.linger_zero() => {
                self.edit(id, |s| s.refs = 1);
                self.tcp_reset(id, cx);
            }
            State::Established | State::CloseWait => {
                self.edit(id, |s| {
                    s.refs = 1;
                    s.set_recv_shutdown(true);
                });
                self.tcp_send_fin_bsd(id, cx);
            }
            _ => return,
        }
        self.edit(id, |s| s.refs = 0);
    }

    /// A FIN, its arrival and the acknowledgement.
    pub(super) fn tcp_send_fin_bsd(&mut self, id: SockId, cx: &mut Ctx) {
        let s = *self.get(id);
        let peer = SockId(s.peer);
        match s.state {
            State::Established => {
                self.edit(id, |s| {
                    s.state = State::FinWait2;
                    s.set_send_shutdown(s.recv_shutdown());
                });
                self.edit(peer, |p| p.state = State::CloseWait);
                cx.pass(Step::BsdFin);
            }
            State::CloseWait => {
                self.tcp_close_pcb(id);
                if quirks::local_time_wait(self.host.generation) {
                    self.edit(peer, |p| {
                        p.state = State::TimeWait;
                        p.peer = NONE;
                        // tw_so_options
                        p.set_seen_reuseport(p.reuseport());
                    });
                    cx.pass(Step::BsdTimeWait);
                } else {
                    self.tcp_close_pcb(peer);
                    cx.pass(Step::BsdNoTimeWait);
                }
            }
            // tcp_usrclosed in FIN_WAIT_2: soisdisconnected.
            State::FinWait2 => self.edit(id, |s| s.set_send_shutdown(true)),
            _ => {}
        }
    }

    /// A reset to the other side, `tcp_drop` on this one.
    fn tcp_reset(&mut self, id: SockId, cx: &mut Ctx) {
        let peer = SockId(self.get(id).peer);
        if peer.0 != NONE {
            cx.pass(Step::BsdReset);
            self.tcp_close_pcb(peer);
        }
        self.tcp_close_pcb(id);
    }

    /// `tcp_drop` of a connection that nobody has answered.
    pub(super) fn tcp_drop(&mut self, id: SockId) {
        self.tcp_close_pcb(id);
    }

    /// `tcp_close`, `in_pcbdrop`: no more of the tables, and for good. What has
    /// no descriptor and waits in no queue goes.
    fn tcp_close_pcb(&mut self, id: SockId) {
        self.inet_put_port(id);
        self.edit(id, |s| {
            s.state = State::Close;
            s.peer = NONE;
            s.set_dropped(true);
        });
        let s = self.get(id);
        if s.kind.domain != 0 && s.refs == 0 && s.parent == NONE {
            self.release(id);
        }
    }

    /// `soshutdown`
    pub(in crate::model) fn soshutdown(
        &mut self,
        id: SockId,
        how: u8,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let (read, write) = (how != 1, how != 0);
        if !quirks::shutdown_wants_a_connection(self.host.generation) {
            if s.state != State::Listen {
                self.edit(id, |s| s.set_recv_shutdown(s.recv_shutdown() || read));
            }
            if write && s.table == Table::Tcp {
                return self.tcp_usr_shutdown(id, cx);
            }
            cx.pass(Step::BsdShutdown);
            return Ok(());
        }
        if s.state == State::Listen {
            // The next accept(2) hears of it.
            self.edit(id, |s| s.set_recv_shutdown(s.recv_shutdown() || read));
            return cx.fail(Step::BsdShutdownListener, Errno::ENOTCONN);
        }
        if !is_connected(&s) {
            return cx.fail(Step::BsdShutdownUnconnected, Errno::ENOTCONN);
        }
        self.edit(id, |s| s.set_recv_shutdown(s.recv_shutdown() || read));
        if write && s.table == Table::Tcp {
            self.tcp_send_fin_bsd(id, cx);
        }
        cx.pass(Step::BsdShutdown);
        Ok(())
    }

    /// `tcp_usr_shutdown`, `tcp_usrclosed` of 9.1, without a connection too.
    fn tcp_usr_shutdown(&mut self, id: SockId, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        if pcb::over(&s) {
            return cx.fail(Step::BsdShutdownOver, Errno::ECONNRESET);
        }
        match s.state {
            // tcp_close; accept(2) goes on with what waits.
            State::Close | State::Listen => {
                self.inet_put_port(id);
                self.edit(id, |s| s.set_dropped(true));
            }
            _ => self.tcp_send_fin_bsd(id, cx),
        }
        cx.pass(Step::BsdShutdown);
        Ok(())
    }

    /// `uipc_close`, `unp_disconnect`
    fn uipc_close(&mut self, id: SockId) {
        while let Some(child) = self.reqsk_queue_remove(id) {
            let peer = SockId(self.get(child).peer);
            self.unp_gone(peer);
            self.release(child);
        }
        let peers = self.ids().filter(|o| self.get(*o).peer == id.0);
        // One at a time: a list has no place here.
        let mut next = peers.map(|o| o.0).min();
        while let Some(peer) = next {
            self.unp_gone(SockId(peer));
            next = self
                .ids()
                .filter(|o| o.0 > peer && self.get(*o).peer == id.0)
                .map(|o| o.0)
                .min();
        }
    }

    /// Its other end is gone. What a stream that has lost it makes of another
    /// connect is not known.
    fn unp_gone(&mut self, id: SockId) {
        if self.get(id).kind.domain != af::UNIX {
            return;
        }
        self.edit(id, |s| {
            s.peer = NONE;
            s.state = State::Close;
            s.set_dropped(s.kind.ty != ty::DGRAM);
        });
    }
}
