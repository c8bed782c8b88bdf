//! connect(2), accept(2). How a connection ends stands in [`close`](super::close).
//!
//! Only what stays on this host is modelled: a peer elsewhere is not ours to
//! know. [`Step::ConnectNotModelled`] says so, and changes nothing.

use super::inet::{array, is_multicast};
use crate::addr::af;
use crate::model::host::AddrType;
use crate::model::net::{Ctx, LISTEN, NONE, Net, Queue, SockId, State, Table, mapped, unmapped};
use crate::model::step::Step;
use crate::model::{Answer, Cred, Errno, No, Pick};
use crate::socket::{proto, ty};

/// Where a connect goes: addresses in IPv6 notation.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub port: u16,
}

const LOOPBACK4: u32 = 0x7f00_0001;
const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

impl Net<'_> {
    /// connect(2), waiting for the outcome.
    pub fn connect(&mut self, id: SockId, addr: &[u8], cred: &Cred, pick: Pick) -> Answer<()> {
        let mut cx = Ctx::new(pick);
        let s = self.get(id);
        let result = match (s.kind.domain, s.table) {
            _ if self.host.generation.is_freebsd() => not_modelled(&mut cx),
            (af::INET | af::INET6, Table::Tcp) => self.inet_stream_connect(id, addr, &mut cx),
            (af::INET | af::INET6, Table::Udp | Table::UdpLite) => {
                self.inet_dgram_connect(id, addr, &mut cx)
            }
            // mutants: machine: nobody is asked by vsock
            (af::VSOCK, _) => self.vsock_connect(id, addr, cred, &mut cx),
            (af::UNIX, _) => self.unix_connect(id, addr, cred, &mut cx),
            _ => not_modelled(&mut cx),
        };
        Answer::of(result, &cx)
    }

    /// The route to a local address: `None` if the model cannot say.
    fn route(&self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<Option<Route>, No> {
        let s = *self.get(id);
        let family = u16::from_ne_bytes(array(addr, 0));
        let port = u16::from_be_bytes(array(addr, 2));
        // A UDP socket of IPv6 takes IPv4's addresses, TCP's does not.
        let as_v4 = family == af::INET && (!s.is_v6() || s.table != Table::Tcp);
        let least = if s.is_v6() && !as_v4 { 24 } else { 16 };
        if addr.len() < least {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        if family != s.kind.domain && !as_v4 {
            return cx.fail(Step::ConnectFamily, Errno::EAFNOSUPPORT);
        }
        if as_v4 && s.is_v6() && s.v6only() {
            return cx.fail(Step::ConnectFamily, Errno::EAFNOSUPPORT);
        }
        let mut dst = if as_v4 {
            mapped(u32::from_be_bytes(array(addr, 4)))
        } else {
            array(addr, 8)
        };
        if dst == [0; 16] {
            // Nowhere is this host.
            let four = unmapped(&s.rcv6).is_some();
            dst = if four { mapped(LOOPBACK4) } else { LOOPBACK6 };
        }
        if s.dev != 0 || is_multicast(&dst) || super::needs_scope(&dst) {
            return Ok(None);
        }
        let host = &self.host;
        let bound = s.is_specific();
        if let Some(v4) = unmapped(&dst) {
            if s.is_v6() && !as_v4 && s.v6only() {
                return cx.fail(Step::ConnectV6only, Errno::ENETUNREACH);
            }
            let from = unmapped(&s.rcv6).filter(|_| bound);
            if bound && from.is_none() {
                return Ok(None);
            }
            // ip_route_output_key_hash_rcu: 0.0.0.0 is where it comes from.
            let v4 = match (v4, from) {
                (0, from) => from.unwrap_or(LOOPBACK4),
                (v4, _) => v4,
            };
            let local = |a| host.addr_type(a) == AddrType::Local;
            let src = match from {
                Some(src) => src,
                None if v4 >> 24 == 127 => LOOPBACK4,
                None => v4,
            };
            return Ok((local(v4) && local(src)).then_some(Route {
                src: mapped(src),
                dst: mapped(v4),
                port,
            }));
        }
        // Once it has spoken IPv4, a TCP socket does not find back.
        if s.mapped_ops() || !host.has_v6(&dst, 0) || unmapped(&s.rcv6).is_some() {
            return Ok(None);
        }
        if bound && !host.has_v6(&s.rcv6, 0) {
            return Ok(None);
        }
        let src = if bound { s.rcv6 } else { dst };
        // Between ::1 and another address packets are dropped.
        let same = (src == LOOPBACK6) == (dst == LOOPBACK6);
        Ok(same.then_some(Route { src, dst, port }))
    }

    /// `inet_dgram_connect`, `__ip4_datagram_connect`, `__udp_disconnect`
    fn inet_dgram_connect(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if addr.len() < 2 {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        if u16::from_ne_bytes(array(addr, 0)) == af::UNSPEC {
            self.udp_disconnect(id);
            cx.pass(Step::UdpDisconnected);
            return Ok(());
        }
        if self.get(id).num == 0 {
            // inet_autobind comes before the address is looked at.
            match self.get_port(id, 0, cx) {
                Err(No::Errno(Errno::EADDRINUSE)) => {
                    return cx.fail(Step::UdpAutobindFull, Errno::EAGAIN);
                }
                Err(No::Unknown(why)) => return Err(No::Unknown(why)),
                _ => {}
            }
        }
        let Some(route) = self.route(id, addr, cx)? else {
            return not_modelled(cx);
        };
        if self.get(id).state != State::Close {
            // Another peer: the source stays.
            let same = self.get(id).rcv6 == route.src;
            if !same {
                return not_modelled(cx);
            }
        }
        if !self.get(id).is_specific() {
            self.update_saddr(id, route.src);
            // udp_lib_rehash
            self.edit(id, |s| s.set_group(false));
        }
        self.edit(id, |s| {
            s.state = State::Established;
            s.daddr = route.dst;
            s.dport = route.port;
            // udp_lib_hash4, which UDP-Lite has not.
            s.set_group(s.group() && s.table != Table::Udp);
        });
        cx.pass(Step::UdpConnected);
        Ok(())
    }

    /// `__udp_disconnect`: no new look for conflicts.
    fn udp_disconnect(&mut self, id: SockId) {
        let s = *self.get(id);
        self.edit(id, |s| {
            s.state = State::Close;
            s.daddr = [0; 16];
            s.dport = 0;
            s.dev = 0;
        });
        if !s.addr_lock() {
            self.inet_reset_saddr(id);
            if s.port_lock() {
                self.edit(id, |s| s.set_group(false));
            }
        }
        if !s.port_lock() {
            self.udp_lib_unhash(id);
            self.edit(id, |s| s.sport = 0);
        }
    }

    /// `__inet_stream_connect`
    fn inet_stream_connect(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if addr.len() < 2 {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        if u16::from_ne_bytes(array(addr, 0)) == af::UNSPEC {
            if self.is_cut_off(id) || self.reset_meets_mptcp(id) || self.is_mptcp_over(id) {
                return not_modelled(cx);
            }
            self.abort(id, cx);
            self.tcp_disconnect(id);
            cx.pass(Step::TcpDisconnected);
            return Ok(());
        }
        let s = *self.get(id);
        if s.connected() {
            return cx.fail(Step::ConnectConnected, Errno::EISCONN);
        }
        if s.state != State::Close {
            return cx.fail(Step::ConnectListening, Errno::EISCONN);
        }
        let Some(route) = self.route(id, addr, cx)? else {
            return not_modelled(cx);
        };
        let four = unmapped(&route.dst).is_some();
        let Some(listener) = self.inet_lookup_listener(&route, four) else {
            return not_modelled(cx);
        };
        // What an outer socket's child inherits of its shutdown.
        if self.get(listener).is_mptcp() && self.get(listener).send_shutdown() {
            return not_modelled(cx);
        }
        // Its own port, TCP_REPAIR, one that came from accept(), a full queue.
        let itself = s.num != 0 && s.num == u32::from(route.port);
        if itself || s.repair() || s.accepted() || self.get(listener).queue.len > 12 {
            return not_modelled(cx);
        }
        if s.num != 0 {
            // TIME_WAIT with a peer that has not closed yet would answer; one
            // on the other side with nobody listening as well.
            let half = self.met(id, s.num, &route).is_some_and(|old| {
                let old = self.get(old);
                old.awaits_fin()
            });
            if half || (listener.0 == NONE && self.far_time_wait(s.num, &route).is_some()) {
                return not_modelled(cx);
            }
        }
        self.edit(id, |s| {
            s.set_mapped_ops(s.mapped_ops() | (s.is_v6() && four))
        });
        if let Err(e) = self.inet_hash_connect(id, &route, cx) {
            // tcp_v4_connect: from SYN_SENT back, with the address that it
            // would have had if bind() has ever fixed one.
            if !s.is_specific() {
                self.update_saddr(id, route.src);
            }
            self.edit(id, |s| s.state = State::SynSent);
            self.tcp_disconnect(id);
            self.edit(id, |n| n.set_send_shutdown(s.send_shutdown()));
            return Err(e);
        }
        self.edit(id, |s| {
            s.daddr = route.dst;
            s.dport = route.port;
            s.sport = s.num as u16;
        });
        self.mptcp_copy_inaddrs(id);
        // tcp_timewait_state_process: the SYN takes the place of what waits at
        // the other end.
        if let Some(old) = self.far_time_wait(self.get(id).num, &route) {
            if listener.0 == NONE || self.get(old).ahead() {
                return not_modelled(cx);
            }
            self.forget(old);
            cx.pass(Step::ConnectTwSyn);
        }
        if listener.0 == NONE {
            // tcp_reset, then tcp_disconnect.
            self.edit(id, |s| s.state = State::SynSent);
            self.tcp_disconnect(id);
            return cx.fail(Step::ConnectRefused, Errno::ECONNREFUSED);
        }
        let child = self.tcp_v4_syn_recv_sock(id, listener, &route, cx)?;
        self.edit(id, |s| {
            s.state = State::Established;
            s.set_connected(true);
        });
        if self.get(listener).send_shutdown() {
            // tcp_rcv_state_process: what the child has inherited.
            self.tcp_send_fin(child, cx);
        }
        cx.pass(Step::ConnectOk);
        Ok(())
    }

    /// `inet_lookup_listener`: who serves this address; [`NONE`] for nobody,
    /// `None` if lots decide or a device plays a part.
    fn inet_lookup_listener(&self, route: &Route, four: bool) -> Option<SockId> {
        let mut best = (0, SockId(NONE), 0);
        for (id, s) in self.of_classes(Table::Tcp, u32::from(route.port), LISTEN) {
            let exact = s.rcv6 == route.dst;
            let wild = if four {
                s.rcv4 == 0 && !s.v6only()
            } else {
                s.is_v6() && s.rcv6 == [0; 16]
            };
            if !exact && !wild {
                continue;
            }
            if s.dev != 0 || s.mapped_ops() || s.repair() {
                return None;
            }
            let score = 1 + u32::from(exact) * 4 + u32::from(four && !s.is_v6());
            if score > best.0 {
                best = (score, id, 1);
            } else if score == best.0 {
                best.2 += 1;
            }
        }
        (best.2 <= 1).then_some(best.1)
    }

    /// `tcp_v4_syn_recv_sock`, `__inet_inherit_port`: the listener's child.
    fn tcp_v4_syn_recv_sock(
        &mut self,
        id: SockId,
        listener: SockId,
        route: &Route,
        cx: &mut Ctx,
    ) -> Result<SockId, No> {
        let l = *self.get(listener);
        let client = *self.get(id);
        let peer = client.num as u16;
        let mut child = l;
        child.set_ahead(client.ahead());
        child.state = State::Established;
        child.refs = 0;
        child.daddr = route.src;
        child.dport = peer;
        child.parent = listener.0;
        child.peer = id.0;
        child.sport = route.port;
        child.queue = Queue::EMPTY;
        child.num = u32::from(route.port);
        child.set_connected(true);
        child.set_accepted(true);
        child.set_group(false);
        child.set_hashed(false);
        child.set_port_lock(false);
        child.set_mapped_ops(l.is_v6() && unmapped(&route.dst).is_some());
        child.set_rcv(route.dst);
        if l.is_mptcp() {
            if client.is_mptcp() {
                child.msk_addr = child.rcv6;
                child.msk_port = route.port;
                cx.pass(Step::MptcpConnected);
            } else {
                // mptcp_stream_accept: a plain TCP socket comes out.
                child.kind.protocol = proto::TCP;
                cx.pass(Step::MptcpFallback);
            }
        } else if client.is_mptcp() {
            cx.pass(Step::MptcpFallback);
        }
        let Some(child) = self.alloc(child) else {
            return cx.unknown(Step::NoRoom);
        };
        self.inet_bind_hash(child);
        self.reqsk_queue_add(listener, child);
        self.edit(id, |s| s.peer = child.0);
        Ok(child)
    }

    /// `inet_csk_reqsk_queue_add`
    pub(super) fn reqsk_queue_add(&mut self, listener: SockId, child: SockId) {
        let last = SockId(self.get(listener).queue.last);
        self.edit(last, |c| c.queue_next = child.0);
        self.edit(listener, |l| {
            if l.queue.first == NONE {
                l.queue.first = child.0;
            }
            l.queue.last = child.0;
            l.queue.len = l.queue.len.saturating_add(1);
        });
    }

    /// `reqsk_queue_remove`
    pub(super) fn reqsk_queue_remove(&mut self, listener: SockId) -> Option<SockId> {
        let first = self.get(listener).queue.first;
        if first == NONE {
            return None;
        }
        let next = self.get(SockId(first)).queue_next;
        // What waits does not listen, and is in one queue only, whatever is
        // scribbled over it: so emptying a queue ends.
        // mutants: scribbled: a sound table has neither here
        self.edit(SockId(first), |c| {
            c.queue_next = NONE;
            if c.state == State::Listen {
                c.state = State::Close;
            }
        });
        self.edit(listener, |l| {
            l.queue.first = next;
            l.queue.len = l.queue.len.saturating_sub(1);
            if next == NONE {
                l.queue.last = NONE;
            }
        });
        Some(SockId(first))
    }

    /// accept(2) without waiting: `inet_csk_accept`. The child becomes the
    /// caller's.
    pub fn accept(&mut self, listener: SockId, cred: &Cred) -> Answer<SockId> {
        let mut cx = Ctx::new(Pick::Random(0));
        let result = self.inet_csk_accept(listener, cred, &mut cx);
        Answer::of(result, &cx)
    }

    fn inet_csk_accept(
        &mut self,
        listener: SockId,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<SockId, No> {
        let l = self.get(listener);
        let accepts = match l.kind.domain {
            af::INET | af::INET6 => l.table == Table::Tcp,
            af::UNIX | af::VSOCK => matches!(l.kind.ty, ty::STREAM | ty::SEQPACKET),
            _ => false,
        };
        if !accepts {
            return cx.fail(Step::AcceptUnsupported, Errno::EOPNOTSUPP);
        }
        if l.state != State::Listen {
            return cx.fail(Step::AcceptState, Errno::EINVAL);
        }
        let Some(child) = self.reqsk_queue_remove(listener) else {
            return cx.fail(Step::AcceptEmpty, Errno::EAGAIN);
        };
        self.edit(child, |c| {
            c.parent = NONE;
            c.refs = 1;
            c.uid = cred.uid;
        });
        cx.pass(Step::AcceptOk);
        Ok(child)
    }
}

pub(super) fn not_modelled<T>(cx: &mut Ctx) -> Result<T, No> {
    cx.unknown(Step::ConnectNotModelled)
}
