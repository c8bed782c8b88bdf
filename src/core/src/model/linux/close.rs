//! close(2), shutdown(2), and how a TCP connection ends: by a reset, or by a
//! FIN of each side.
//!
//! Packets between two sockets of one host arrive at once, so that the states
//! in which a side only waits for an acknowledgement are passed through within
//! the call: FIN_WAIT1, CLOSING, LAST_ACK. What is left in TIME_WAIT is an
//! owner of the port without descriptors, until its minute is over
//! ([`Net::forget`]).

use super::quirks;
use crate::addr::af;
use crate::model::net::{Ctx, NONE, Net, SockId, State, Table, mapped};
use crate::model::step::Step;
use crate::model::{Answer, Errno, No, Pick};

impl Net<'_> {
    /// close(2) of one descriptor: the last one ends the socket
    /// (`inet_release`, `udp_lib_unhash`, `inet_put_port`).
    pub fn close(&mut self, id: SockId) -> Answer<()> {
        let mut cx = Ctx::new(Pick::Random(0));
        self.edit(id, |s| s.refs = s.refs.saturating_sub(1));
        let result = if self.get(id).refs > 0 {
            cx.pass(Step::CloseShared);
            Ok(())
        } else if self.host.generation.is_freebsd() {
            self.soclose(id, &mut cx);
            Ok(())
        } else if self.get(id).table == Table::Unix {
            self.unix_release_sock(id, &mut cx);
            Ok(())
        } else if self.get(id).table == Table::Vsock {
            self.vsock_release(id, &mut cx);
            Ok(())
        } else if let Some(why) = self.unknown_close(id) {
            cx.unknown(why)
        } else {
            self.tcp_close(id, &mut cx);
            Ok(())
        };
        Answer::of(result, &cx)
    }

    /// `__tcp_close`, and what closing is for the other families.
    fn tcp_close(&mut self, id: SockId, cx: &mut Ctx) {
        let s = *self.get(id);
        if self.resets(id) {
            self.abort(id, cx);
        } else {
            self.tcp_send_fin(id, cx);
            if self.get(id).state == State::FinWait2 {
                if s.is_mptcp() {
                    // mutants: generation: until 6.17
                    if quirks::without_socket_is_roots(self.host.generation) {
                        self.edit(id, |s| s.uid = 0);
                    }
                    cx.pass(Step::MptcpLingers);
                    return;
                }
                // An orphan waits as a small socket of its own.
                cx.pass(Step::CloseLingers);
                self.tcp_time_wait(id, SockId(self.get(id).peer), cx);
            }
        }
        if self.get(id).hashed() {
            cx.pass(Step::ClosePutPort);
            self.inet_put_port(id);
        }
        cx.pass(Step::CloseDone);
        self.release(id);
    }

    /// Why nobody can know what becomes of this when it is closed.
    fn unknown_close(&self, id: SockId) -> Option<Step> {
        match () {
            () if self.is_cut_off(id) => Some(Step::UnknownCutOff),
            () if self.resets(id) && self.reset_meets_mptcp(id) => Some(Step::UnknownMptcp),
            () => None,
        }
    }

    /// The same of connect() to `AF_UNSPEC`.
    pub(super) fn unknown_reset(&self, id: SockId) -> Option<Step> {
        match () {
            () if self.is_cut_off(id) => Some(Step::UnknownCutOff),
            () if self.reset_meets_mptcp(id) || self.is_mptcp_over(id) => Some(Step::UnknownMptcp),
            () => None,
        }
    }

    /// Does closing send a reset, if anything?
    fn resets(&self, id: SockId) -> bool {
        self.get(id).linger_zero() || self.is_unheard(id) || !self.is_connected(id)
    }

    /// Connected in TCP_REPAIR: the other side has not heard of it, and does not
    /// hear of its end (`tcp_disconnect`).
    pub(super) fn is_unheard(&self, id: SockId) -> bool {
        self.get(id).repair() && self.get(id).peer == NONE && self.is_connected(id)
    }

    /// shutdown(2): `inet_shutdown`.
    pub fn shutdown(&mut self, id: SockId, how: u8) -> Answer<()> {
        let mut cx = Ctx::new(Pick::Random(0));
        let result = if self.host.generation.is_freebsd() {
            self.soshutdown(id, how, &mut cx)
        } else {
            self.inet_shutdown(id, how, &mut cx)
        };
        Answer::of(result, &cx)
    }

    fn inet_shutdown(&mut self, id: SockId, how: u8, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        match s.kind.domain {
            af::INET | af::INET6 => {}
            // unix_shutdown: no state counts. What it does to the other side
            // no connect and no bind can see.
            af::UNIX => {
                self.edit(id, |s| s.set_recv_shutdown(s.recv_shutdown() || how != 1));
                cx.pass(Step::ShutdownOk);
                return Ok(());
            }
            af::VSOCK => return self.vsock_shutdown(id, how, cx),
            _ => return cx.fail(Step::ShutdownUnsupported, Errno::EOPNOTSUPP),
        }
        let write = how != 0;
        match s.state {
            _ if self.is_cut_off(id) || self.is_unheard(id) => {
                return cx.unknown(Step::UnknownCutOff);
            }
            _ if self.is_mptcp_over(id) => return cx.unknown(Step::UnknownMptcp),
            State::Listen if self.reset_meets_mptcp(id) => return cx.unknown(Step::UnknownMptcp),
            State::Close => {
                // Remembered for the children of a later listen().
                self.edit(id, |s| s.set_send_shutdown(s.send_shutdown() | write));
                return cx.fail(Step::ShutdownNotConnected, Errno::ENOTCONN);
            }
            State::Listen if how != 1 => {
                self.abort(id, cx);
                self.tcp_disconnect(id);
            }
            State::SynSent => self.tcp_disconnect(id),
            // Connected to itself: when its one subflow gives its port back varies.
            State::Established if s.is_mptcp() && s.peer == id.0 => {
                return cx.unknown(Step::UnknownMptcp);
            }
            State::Established | State::CloseWait if s.table == Table::Tcp && write => {
                cx.pass(Step::ShutdownFin);
                self.tcp_send_fin(id, cx);
            }
            _ => {}
        }
        cx.pass(Step::ShutdownOk);
        Ok(())
    }

    /// In a connection (`tcp_need_reset`)?
    pub(super) fn is_connected(&self, id: SockId) -> bool {
        let s = self.get(id);
        let states = [State::Established, State::FinWait2, State::CloseWait];
        s.table == Table::Tcp && states.contains(&s.state)
    }

    /// Has the connection lost its way: an end that is in TCP_REPAIR, or that
    /// takes packets of one device only?
    pub(super) fn is_cut_off(&self, id: SockId) -> bool {
        let away = |id: SockId| {
            let s = self.get(id);
            let by = |addr| self.device_of(addr) == Some(s.dev);
            s.repair() || (s.dev != 0 && !(by(&s.rcv6) && by(&s.daddr)))
        };
        let peer = SockId(self.get(id).peer);
        let waiting = || {
            let mut at = self.get(id).queue.first;
            core::iter::from_fn(move || {
                let child = SockId(at);
                at = self.get(child).queue_next;
                (child.0 != NONE).then_some(child)
            })
            .any(|c| away(c) || away(SockId(self.get(c).peer)))
        };
        match self.get(id).state {
            State::Listen => waiting(),
            _ => peer.0 != NONE && (away(id) || away(peer)),
        }
    }

    /// `tcp_send_fin`, its arrival and the acknowledgement.
    pub(super) fn tcp_send_fin(&mut self, id: SockId, cx: &mut Ctx) {
        let s = *self.get(id);
        let peer = SockId(s.peer);
        match s.state {
            State::Established | State::CloseWait if peer.0 == NONE => {
                // Nobody has heard of this connection: a reset comes back.
                // mutants: machine: only a table without room loses TIME_WAIT
                self.tcp_done(id);
                cx.pass(Step::TcpReset);
            }
            // To itself: both sides close at once.
            State::Established if peer == id => {
                self.edit(id, |s| s.peer = NONE);
                self.tcp_time_wait(id, SockId(NONE), cx);
                cx.pass(Step::TcpTimeWait);
                self.tcp_done(id);
            }
            State::Established => {
                self.edit(id, |s| s.state = State::FinWait2);
                self.edit(peer, |p| p.state = State::CloseWait);
            }
            State::CloseWait => {
                // The other side is in FIN_WAIT2, or waits already.
                if self.get(peer).state == State::TimeWait {
                    self.edit(peer, |p| p.peer = NONE);
                } else {
                    self.tcp_time_wait(peer, SockId(NONE), cx);
                    self.tcp_done(peer);
                    self.mptcp_destroy(peer);
                }
                cx.pass(Step::TcpTimeWait);
                self.tcp_done(id);
            }
            _ => {}
        }
    }

    /// `tcp_time_wait`: a new owner of the port takes the place of the socket
    /// in the connection. `peer` is there as long as it has not closed
    /// (`tw_substate` FIN_WAIT2).
    fn tcp_time_wait(&mut self, id: SockId, peer: SockId, cx: &mut Ctx) {
        let mut tw = *self.get(id);
        tw.refs = 0;
        tw.state = State::TimeWait;
        tw.peer = peer.0;
        tw.parent = NONE;
        tw.set_hashed(false);
        tw.set_group(false);
        let tw = self.alloc(tw);
        match tw {
            Some(tw) => self.inet_bind_hash(tw),
            // The port is free at once.
            None => cx.pass(Step::NoRoom),
        }
        self.edit(peer, |p| p.peer = tw.map_or(NONE, |tw| tw.0));
    }

    /// A connection ends by a reset, or a listener with all that waits at it:
    /// `tcp_reset`, `inet_csk_listen_stop`.
    pub(super) fn abort(&mut self, id: SockId, cx: &mut Ctx) {
        let s = *self.get(id);
        if s.table == Table::Tcp && s.state == State::Listen {
            self.edit(id, |s| s.set_group(false));
            while let Some(child) = self.reqsk_queue_remove(id) {
                self.abort(child, cx);
                self.inet_put_port(child);
                self.release(child);
            }
        } else if self.is_connected(id) && s.peer != NONE {
            let peer = SockId(s.peer);
            if self.get(peer).state == State::TimeWait {
                cx.pass(Step::TimeWaitReset);
                self.forget(peer);
            } else {
                cx.pass(Step::TcpReset);
                self.tcp_done(peer);
            }
        }
    }

    /// `tcp_done`: closed, and the port is given back unless bind() had asked
    /// for it.
    pub(super) fn tcp_done(&mut self, id: SockId) {
        let s = *self.get(id);
        self.edit(id, |s| {
            s.peer = NONE;
            s.state = State::Close;
            s.set_send_shutdown(true);
        });
        if !s.port_lock() {
            self.inet_put_port(id);
        }
    }

    /// `tcp_disconnect`: a socket that is closed already keeps its port.
    pub(super) fn tcp_disconnect(&mut self, id: SockId) {
        let s = *self.get(id);
        // mutants: generation: the subflow ends by a reset from now on
        let lingers = s.is_mptcp() && quirks::mptcp_disconnect_lingers(self.host.generation);
        self.edit(id, |s| {
            s.state = State::Close;
            s.peer = NONE;
            s.set_connected(false);
            s.set_send_shutdown(lingers);
            s.set_ahead(false);
            s.daddr = [0; 16];
            s.dport = 0;
        });
        if !s.addr_lock() {
            self.inet_reset_saddr(id);
        }
        if !s.port_lock() && s.state != State::Close {
            self.inet_put_port(id);
        }
    }

    /// `inet_reset_saddr`, in the tables too.
    pub(super) fn inet_reset_saddr(&mut self, id: SockId) {
        let any = if self.get(id).is_v6() {
            [0; 16]
        } else {
            mapped(0)
        };
        self.update_saddr(id, any);
    }
}
