//! connect(2) of streams, accept(2). How a connection ends stands in
//! [`close`](super::close), what datagrams do in
//! [`dgram_connect`](super::dgram_connect).
//!
//! Between two sockets of this host packets arrive at once. What leaves it is
//! never answered: that is for the other host to say.

use super::inet::{array, is_multicast, needs_scope};
use super::quirks;
use super::route::{Flow, LOOPBACK4, Unrouted, Way, ip_route_connect, ip6_dst_lookup};
use crate::addr::af;
use crate::model::host::AddrType;
use crate::model::net::{
    Ctx, LISTEN, LOOPBACK6, NONE, Net, Sock, SockId, State, Table, mapped, unmapped,
};
use crate::model::step::Step;
use crate::model::{Answer, Cred, Errno, No, Pick};
use crate::socket::{proto, ty};

/// Where a connect goes: addresses in IPv6 notation.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub port: u16,
    pub way: Way,
}

/// With what scripts call listen(2). One more than that can wait at a listener
/// (`sk_acceptq_is_full`, `unix_recvq_full`).
pub(super) const BACKLOG: u32 = 16;

/// Who serves an address.
enum Server {
    Nobody,
    One(SockId),
    /// So many that are like this one.
    OneOf(SockId, u32),
    /// Their order decides.
    Unknown,
}

impl Net<'_> {
    /// connect(2), waiting for the outcome: `EINPROGRESS` where none comes.
    pub fn connect(&mut self, id: SockId, addr: &[u8], cred: &Cred, pick: Pick) -> Answer<()> {
        let mut cx = Ctx::new(pick);
        let s = self.get(id);
        let result = match (s.kind.domain, s.table) {
            _ if self.host.generation.is_freebsd() => self.kern_connectat(id, addr, cred, &mut cx),
            (af::INET | af::INET6, Table::Tcp) => self.inet_stream_connect(id, addr, &mut cx),
            (af::INET | af::INET6, _) => self.inet_dgram_connect(id, addr, &mut cx),
            // mutants: machine: nobody is asked by vsock
            (af::VSOCK, _) => self.vsock_connect(id, addr, cred, &mut cx),
            (af::UNIX, _) => self.unix_connect(id, addr, cred, &mut cx),
            _ => not_modelled(&mut cx),
        };
        Answer::of(result, &cx)
    }

    /// `tcp_v4_connect`, `tcp_v6_connect` up to the route: `None` if nobody can
    /// know it.
    fn tcp_route(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<Option<Route>, No> {
        let s = *self.get(id);
        let family = u16::from_ne_bytes(array(addr, 0));
        let port = u16::from_be_bytes(array(addr, 2));
        if addr.len() < if s.is_v6() { 24 } else { 16 } {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        if family != s.kind.domain {
            return cx.fail(Step::ConnectFamily, Errno::EAFNOSUPPORT);
        }
        let dst = match s.is_v6() {
            true => self.to_self(&s, array(addr, 8)),
            false => mapped(u32::from_be_bytes(array(addr, 4))),
        };
        if is_multicast(&dst) {
            return cx.fail(Step::ConnectMany, Errno::ENETUNREACH);
        }
        if self.host.lo_is_down {
            return Ok(None);
        }
        if needs_scope(&dst) {
            self.take_scope(id, addr, cx)?;
        }
        let found = match unmapped(&dst) {
            Some(_) if s.is_v6() && s.v6only() => {
                return cx.fail(Step::ConnectV6only, Errno::ENETUNREACH);
            }
            // An address that an earlier connection had.
            Some(_) if s.is_specific() && unmapped(&s.rcv6).is_none() => Err(None),
            Some(v4) => {
                let from = s.saddr4(self.host);
                ip_route_connect(self.host, from, v4, s.dev, s.transparent())
            }
            None => {
                let flow = ip6_dst_lookup(self.host, s.rcv6, dst, self.get(id).dev);
                // Once it has spoken IPv4, a TCP socket does not find back: its
                // packets are IPv4's (ipv6_mapped), whatever the address.
                flow.map(|flow| match s.mapped_ops() {
                    true => Flow {
                        way: Way::Away,
                        ..flow
                    },
                    false => flow,
                })
            }
        };
        let found = routed(found, cx).and_then(|flow| match flow {
            Some(Flow {
                way: Way::Many(_), ..
            }) => cx.fail(Step::ConnectMany, Errno::ENETUNREACH),
            flow => Ok(flow),
        });
        if found.is_err() && unmapped(&dst).is_some() {
            // tcp_v6_connect, where tcp_v4_connect fails: IPv6's packets again.
            self.edit(id, |s| s.set_mapped_ops(false));
        }
        let Some(flow) = found? else {
            return Ok(None);
        };
        Ok(Some(Route {
            src: flow.src,
            dst: flow.dst,
            port,
            way: flow.way,
        }))
    }

    /// The wildcard as a destination is this host.
    pub(super) fn to_self(&self, s: &Sock, dst: [u8; 16]) -> [u8; 16] {
        match unmapped(&s.rcv6) {
            _ if dst != [0; 16] => dst,
            Some(_) => mapped(LOOPBACK4),
            None => LOOPBACK6,
        }
    }

    /// A scope id becomes the socket's device, and stays it even if nothing
    /// comes of the connect.
    pub(super) fn take_scope(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        let scope = u32::from_ne_bytes(array(addr, 24));
        let dev = self.get(id).dev;
        if addr.len() >= 28 && scope != 0 {
            // sk_dev_equal_l3scope
            if dev != 0 && dev != scope {
                return cx.fail(Step::ConnectScope, Errno::EINVAL);
            }
            self.edit(id, |s| s.dev = scope);
        } else if dev == 0 {
            return cx.fail(Step::ConnectScope, Errno::EINVAL);
        }
        Ok(())
    }

    /// `__inet_stream_connect`
    fn inet_stream_connect(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if addr.len() < 2 {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        if u16::from_ne_bytes(array(addr, 0)) == af::UNSPEC {
            if let Some(why) = self.unknown_reset(id) {
                return cx.unknown(why);
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
        if s.state == State::SynSent {
            return cx.fail(Step::ConnectAlready, Errno::EALREADY);
        }
        if s.state != State::Close {
            return cx.fail(Step::ConnectListening, Errno::EISCONN);
        }
        let Some(route) = self.tcp_route(id, addr, cx)? else {
            return cx.unknown(Step::UnknownRoute);
        };
        let s = *self.get(id);
        let four = unmapped(&route.dst).is_some();
        let itself = |num: u32| num == u32::from(route.port) && route.src == route.dst;
        // Nobody, where nothing comes back either.
        let mut listener = SockId(NONE);
        if let Way::Here(dif) = route.way
            && !itself(s.num)
            && !s.repair()
        {
            match self.inet_lookup_listener(&route, dif, four) {
                Server::Nobody => {}
                Server::One(one) => listener = one,
                Server::OneOf(first, n) => {
                    listener = self.reuseport_select_sock(first, n, cx);
                }
                Server::Unknown => return cx.unknown(Step::UnknownServer),
            }
        }
        let back = self.device_of(&route.src);
        let l = *self.get(listener);
        // tcp_v6_syn_recv_sock: the child has the listener's ipv6_mapped, and sends nothing
        // that arrives.
        if l.mapped_ops() && !four {
            return cx.unknown(Step::UnknownMapped);
        }
        // What a child inherits of an outer socket that was shut down.
        if l.is_mptcp() && l.send_shutdown() {
            return cx.unknown(Step::UnknownMptcp);
        }
        // mutants: generation: how this connection ends
        if s.is_mptcp()
            && s.send_shutdown()
            && quirks::mptcp_disconnect_lingers(self.host.generation)
        {
            return cx.unknown(Step::UnknownMptcp);
        }
        let returns = back.is_some_and(|back| s.dev == 0 || s.dev == back);
        if listener.0 != NONE && (!returns || back.is_some_and(|b| l.dev != 0 && l.dev != b)) {
            return cx.unknown(Step::UnknownReturn);
        }
        // TIME_WAIT whose other side has not closed yet: that one resets itself
        // after the answer to the SYN, and the SYN comes once more
        // (tcp_challenge_ack, tcp_rcv_synsent_state_process).
        let half = match s.num {
            0 => None,
            num => self
                .met(id, num, &route)
                .filter(|o| self.get(*o).awaits_fin()),
        };
        let half = half.map(|old| SockId(self.get(old).peer));
        if half.is_some_and(|peer| self.get(peer).is_mptcp()) {
            return cx.unknown(Step::UnknownMptcp);
        }
        if let Err(e) = self.inet_hash_connect(id, &route, cx) {
            // tcp_v4_connect: from SYN_SENT back, with the address that it
            // would have had if bind() has ever fixed one.
            if !s.is_specific() {
                self.update_saddr(id, route.src);
            }
            self.edit(id, |s| s.state = State::SynSent);
            self.tcp_disconnect(id);
            self.edit(id, |n| {
                n.set_send_shutdown(s.send_shutdown());
                n.set_mapped_ops(n.mapped_ops() && !four);
            });
            return Err(e);
        }
        self.edit(id, |s| {
            s.set_mapped_ops(s.mapped_ops() | (s.is_v6() && four));
            s.daddr = route.dst;
            s.dport = route.port;
            s.sport = s.num as u16;
            s.state = State::SynSent;
        });
        self.mptcp_copy_inaddrs(id);
        if s.repair() {
            // tcp_finish_connect: no packet at all.
            self.edit(id, |s| {
                s.state = State::Established;
                s.set_connected(true);
            });
            cx.pass(Step::ConnectRepair);
            return Ok(());
        }
        if let Some(peer) = half {
            self.tcp_done(peer);
            cx.pass(Step::ConnectChallenge);
        }
        // tcp_v6_send_response: to ::1 and to link-local addresses by the device
        // that the SYN came by.
        let strict = route.src == LOOPBACK6 || needs_scope(&route.src);
        let lost = !returns || (strict && back.map(Way::Here) != Some(route.way));
        let alone = listener.0 == NONE && !itself(self.get(id).num);
        // The answer to a link-local address leaves by the device that the SYN came by.
        if listener.0 != NONE
            && needs_scope(&route.src)
            && self.get(id).dev == 0
            && back.map(Way::Here) != Some(route.way)
        {
            return cx.fail(Step::ConnectWaits, Errno::EINPROGRESS);
        }
        if back.is_none()
            && unmapped(&route.src).is_some_and(|v4| self.host.addr_type(v4) == AddrType::Broadcast)
        {
            return cx.unknown(Step::UnknownReturn);
        }
        if route.way == Way::Away || (alone && lost) {
            return cx.fail(Step::ConnectWaits, Errno::EINPROGRESS);
        }
        if itself(self.get(id).num) && (itself(s.num) || listener.0 == NONE) {
            if s.is_mptcp() {
                cx.pass(Step::MptcpFallback);
            }
            self.edit(id, |s| {
                s.state = State::Established;
                s.peer = id.0;
                s.set_connected(true);
            });
            cx.pass(Step::ConnectSelf);
            // Of MPTCP the outer socket is shut down, not the subflow.
            if s.send_shutdown() && !s.is_mptcp() {
                self.tcp_send_fin(id, cx);
                self.tcp_disconnect(id);
                return cx.fail(Step::ConnectAborted, Errno::ECONNABORTED);
            }
            return Ok(());
        }
        let far = self.met_far(self.get(id).num, &route);
        // The other end of a connection by another device: it answers with an ACK of its
        // own, is reset, and the SYN comes once more.
        if far.is_some_and(|old| self.get(old).state != State::TimeWait) {
            return cx.unknown(Step::UnknownMet);
        }
        if l.queue.len > BACKLOG && listener.0 != NONE {
            if far.is_some() {
                return cx.unknown(Step::UnknownFull);
            }
            return cx.fail(Step::ConnectFull, Errno::EINPROGRESS);
        }
        // tcp_timewait_state_process: the SYN takes the place of what waits at
        // the other end; where nobody listens, the answer to it is reset, and
        // the SYN comes once more.
        if let Some(old) = far {
            if self.get(old).ahead() {
                return cx.unknown(Step::UnknownSequence);
            }
            self.forget(old);
            cx.pass(match listener.0 {
                NONE => Step::TimeWaitReset,
                _ => Step::ConnectTwSyn,
            });
        }
        if listener.0 == NONE {
            // tcp_reset, then tcp_disconnect.
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

    /// The device that has this address of the host; 0 where nobody knows
    /// which, `None` if it is not the host's.
    pub(super) fn device_of(&self, addr: &[u8; 16]) -> Option<u32> {
        match unmapped(addr) {
            Some(v4) => {
                let found = self.host.local_table(v4, 0);
                found.filter(|f| f.kind == AddrType::Local).map(|f| f.dev)
            }
            None => {
                let mut all = self.host.v6.as_slice().iter();
                all.find(|a| a.addr == *addr && !a.tentative).map(|a| a.dev)
            }
        }
    }

    /// `inet_lookup_listener` of a packet that comes by the device `dif`: those
    /// at the address itself, else those at the wildcard.
    fn inet_lookup_listener(&self, route: &Route, dif: u32, four: bool) -> Server {
        let mut best = (0, SockId(NONE), 0);
        let mut uneven = false;
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
            if s.repair() || (s.dev != 0 && dif == 0) {
                return Server::Unknown;
            }
            if s.dev != 0 && s.dev != dif {
                continue;
            }
            // compute_score
            let score =
                1 + u32::from(exact) * 8 + u32::from(s.dev != 0) + u32::from(four && !s.is_v6());
            if score > best.0 {
                best = (score, id, 1);
            } else if score == best.0 {
                best.2 += 1;
                uneven |= !alike(self.get(best.1), s);
            }
        }
        match best {
            (0, ..) => Server::Nobody,
            (_, one, 1) => Server::One(one),
            (_, first, n) if !uneven => Server::OneOf(first, n),
            _ => Server::Unknown,
        }
    }

    /// `reuseport_select_sock`: by a hash whose key is the kernel's secret, so
    /// any of them; the one that was seen, if somebody looked.
    fn reuseport_select_sock(&self, first: SockId, n: u32, cx: &mut Ctx) -> SockId {
        cx.pass(Step::ConnectOneOf);
        let like = *self.get(first);
        let all = || {
            self.of_classes(Table::Tcp, like.num, LISTEN)
                .filter(|(_, s)| alike(&like, s))
                .map(|(id, _)| id)
        };
        if let Some(seen) = self.chosen.filter(|seen| all().any(|id| id == *seen)) {
            return seen;
        }
        let draw = match cx.pick {
            Pick::Random(r) => r,
            Pick::Observed(port) => port.unwrap_or(0),
        };
        all().nth((draw % n) as usize).unwrap_or(first)
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
        let mut child = l.child(listener, id);
        child.set_ahead(client.ahead());
        child.daddr = route.src;
        child.dport = peer;
        child.sport = route.port;
        child.num = u32::from(route.port);
        child.set_connected(true);
        child.set_accepted(true);
        // mutants: generation: until 6.17
        if quirks::without_socket_is_roots(self.host.generation) {
            child.uid = 0;
        }
        child.set_group(false);
        child.set_port_lock(false);
        child.set_mapped_ops(l.is_v6() && unmapped(&route.dst).is_some());
        child.set_rcv(route.dst);
        // Where the other side is link-local, so is the child: ir_iif.
        if let Way::Here(dif) = route.way
            && child.dev == 0
            && needs_scope(&route.src)
        {
            child.dev = dif;
        }
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
    pub(in crate::model) fn reqsk_queue_add(&mut self, listener: SockId, child: SockId) {
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
    pub(in crate::model) fn reqsk_queue_remove(&mut self, listener: SockId) -> Option<SockId> {
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
        let result = if self.host.generation.is_freebsd() {
            self.kern_accept(listener, &mut cx)
        } else {
            self.inet_csk_accept(listener, cred, &mut cx)
        };
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
        // vsock_accept: what became of a connect() before it listened. A child
        // would be lost by it.
        if l.table == Table::Vsock && l.dport != 0 {
            let error = Errno::from_linux(i32::from(l.dport));
            return match error.filter(|_| l.queue.len == 0) {
                Some(e) => cx.fail(Step::VsockAcceptError, e),
                None => cx.unknown(Step::UnknownVsockError),
            };
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

/// A route, `None` if nobody can know it; its error, with the check.
pub(super) fn routed(found: Result<Flow, Unrouted>, cx: &mut Ctx) -> Result<Option<Flow>, No> {
    match found {
        Ok(flow) => Ok(Some(flow)),
        Err(None) => Ok(None),
        Err(Some(e)) => {
            let step = match e {
                Errno::ENETUNREACH => Step::ConnectNoRoute,
                Errno::ENODEV => Step::ConnectNoDevice,
                _ => Step::ConnectNoSource,
            };
            cx.fail(step, e)
        }
    }
}

/// Are two listeners in one reuseport group (`inet_reuseport_add_sock`)?
fn alike(a: &Sock, b: &Sock) -> bool {
    a.reuseport()
        && b.reuseport()
        && a.uid == b.uid
        && a.dev == b.dev
        && a.is_v6() == b.is_v6()
        && a.v6only() == b.v6only()
        && a.rcv6 == b.rcv6
}
