//! connect(2), accept(2), shutdown(2), and how a connection ends.
//!
//! Only what stays on this host is modelled: a peer elsewhere is not ours to
//! know. [`Step::ConnectNotModelled`] says so, and changes nothing.

use super::inet::{array, is_multicast};
use crate::addr::af;
use crate::model::host::AddrType;
use crate::model::net::{Ctx, LISTEN, NONE, Net, Queue, SockId, State, Table, mapped, unmapped};
use crate::model::step::Step;
use crate::model::{Answer, Cred, Errno, Pick};
use crate::socket::ty;

/// Where a connect goes: addresses in IPv6 notation.
#[derive(Clone, Copy)]
struct Route {
    src: [u8; 16],
    dst: [u8; 16],
    port: u16,
}

impl Net<'_> {
    /// connect(2), waiting for the outcome.
    pub fn connect(&mut self, id: SockId, addr: &[u8], _cred: &Cred, pick: Pick) -> Answer<()> {
        let mut cx = Ctx::new(pick);
        let s = self.get(id);
        let result = match (s.kind.domain, s.table) {
            _ if self.host.generation.is_freebsd() || s.is_mptcp() => not_modelled(&mut cx),
            (af::INET | af::INET6, Table::Tcp) => self.inet_stream_connect(id, addr, &mut cx),
            (af::INET | af::INET6, Table::Udp | Table::UdpLite) => {
                self.inet_dgram_connect(id, addr, &mut cx)
            }
            _ => not_modelled(&mut cx),
        };
        Answer::of(result, &cx)
    }

    /// The route to a local address: `None` if the model cannot say.
    fn route(&self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<Option<Route>, Errno> {
        let s = *self.get(id);
        let family = u16::from_ne_bytes(array(addr, 0));
        let port = u16::from_be_bytes(array(addr, 2));
        if s.is_v6() && family == af::INET && s.table != Table::Tcp {
            return Ok(None);
        }
        let least = if s.is_v6() { 24 } else { 16 };
        if addr.len() < least {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        if family != s.kind.domain {
            return cx.fail(Step::ConnectFamily, Errno::EAFNOSUPPORT);
        }
        let dst = if s.is_v6() {
            array(addr, 8)
        } else {
            mapped(u32::from_be_bytes(array(addr, 4)))
        };
        if s.dev != 0 || port == 0 || is_multicast(&dst) || super::needs_scope(&dst) {
            return Ok(None);
        }
        let host = &self.host;
        let bound = s.is_specific();
        if let Some(v4) = unmapped(&dst) {
            if s.is_v6() && s.v6only() {
                return cx.fail(Step::ConnectV6only, Errno::ENETUNREACH);
            }
            let local = v4 != 0 && host.addr_type(v4) == AddrType::Local;
            let from = unmapped(&s.rcv6);
            if !local || (bound && from.is_none()) {
                return Ok(None);
            }
            let src = match from.filter(|_| bound) {
                Some(src) if host.addr_type(src) == AddrType::Local => src,
                Some(_) => return Ok(None),
                None if v4 >> 24 == 127 => 0x7f00_0001,
                None => v4,
            };
            return Ok(Some(Route {
                src: mapped(src),
                dst,
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
        Ok((src == dst).then_some(Route { src, dst, port }))
    }

    /// `inet_dgram_connect`, `__ip4_datagram_connect`, `__udp_disconnect`
    fn inet_dgram_connect(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), Errno> {
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
            if let Err(Errno::EADDRINUSE) = self.get_port(id, 0, cx) {
                return cx.fail(Step::UdpAutobindFull, Errno::EAGAIN);
            }
            self.edit(id, |s| s.sport = s.num as u16);
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
            self.reset(id);
            if s.port_lock() && s.hashed() {
                self.edit(id, |s| s.set_group(false));
            }
        }
        if !s.port_lock() {
            self.udp_lib_unhash(id);
            self.edit(id, |s| s.sport = 0);
        }
    }

    /// `inet_reset_saddr`, in the tables too.
    fn reset(&mut self, id: SockId) {
        let any = if self.get(id).is_v6() {
            [0; 16]
        } else {
            mapped(0)
        };
        self.update_saddr(id, any);
    }

    /// `__inet_stream_connect`
    fn inet_stream_connect(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), Errno> {
        if addr.len() < 2 {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        if u16::from_ne_bytes(array(addr, 0)) == af::UNSPEC {
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
        // Its own port, TCP_REPAIR, a full queue.
        if s.num == u32::from(route.port) || s.reuse == 2 || self.get(listener).queue.len > 12 {
            return not_modelled(cx);
        }
        self.edit(id, |s| {
            s.set_mapped_ops(s.mapped_ops() | (s.is_v6() && four))
        });
        self.inet_hash_connect(id, &route, cx)?;
        self.edit(id, |s| {
            s.daddr = route.dst;
            s.dport = route.port;
            s.sport = s.num as u16;
        });
        if listener.0 == NONE {
            // tcp_reset, then tcp_disconnect.
            self.tcp_disconnect(id);
            return cx.fail(Step::ConnectRefused, Errno::ECONNREFUSED);
        }
        self.tcp_v4_syn_recv_sock(id, listener, &route, cx)?;
        self.edit(id, |s| {
            s.state = State::Established;
            s.set_connected(true);
        });
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
            if s.dev != 0 || s.is_mptcp() || s.mapped_ops() {
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

    /// Is the connection there already (`__inet_check_established`)?
    fn established(&self, id: SockId, port: u32, route: &Route) -> bool {
        self.at_addr(Table::Tcp, port, route.src)
            .any(|(o, s)| o != id && s.daddr == route.dst && s.dport == route.port)
    }

    /// `__inet_hash_connect`: a port that nobody has bound.
    fn inet_hash_connect(&mut self, id: SockId, route: &Route, cx: &mut Ctx) -> Result<(), Errno> {
        let s = *self.get(id);
        if s.num != 0 {
            if self.established(id, s.num, route) {
                return cx.fail(Step::ConnectTuple, Errno::EADDRNOTAVAIL);
            }
            self.update_saddr(id, route.src);
            return Ok(());
        }
        let (lo, hi) = self.inet_sk_get_local_port_range(id);
        let open = |net: &Self, port: u16| {
            let b = net.bucket(Table::Tcp, u32::from(port));
            !net.host.sysctl.is_reserved(port)
                && (b.count == 0
                    || (b.fastreuse < 0
                        && b.fastreuseport < 0
                        && !net.established(id, u32::from(port), route)))
        };
        let observed = match cx.pick {
            Pick::Observed(Some(p)) => u16::try_from(p).ok(),
            _ => None,
        };
        let found = observed
            .filter(|p| (lo..=hi).contains(p) && open(self, *p))
            .or_else(|| self.unowned(Table::Tcp, lo, hi))
            .or_else(|| (lo..=hi).step_by(2).find(|p| open(self, *p)))
            .or_else(|| (lo..=hi).find(|p| open(self, *p)));
        let Some(port) = found else {
            return cx.fail(Step::ConnectNoPort, Errno::EADDRNOTAVAIL);
        };
        let new = self.bucket(Table::Tcp, u32::from(port)).count == 0;
        self.edit(id, |s| {
            s.set_rcv(route.src);
            s.num = u32::from(port);
            s.set_connect_bind(true);
        });
        self.inet_bind_hash(id);
        if new {
            self.edit_bucket(Table::Tcp, u32::from(port), |b| {
                b.fastreuse = -1;
                b.fastreuseport = -1;
            });
        }
        cx.pass(Step::ConnectPort);
        Ok(())
    }

    /// `tcp_v4_syn_recv_sock`, `__inet_inherit_port`: the listener's child.
    fn tcp_v4_syn_recv_sock(
        &mut self,
        id: SockId,
        listener: SockId,
        route: &Route,
        cx: &mut Ctx,
    ) -> Result<(), Errno> {
        let l = *self.get(listener);
        let peer = self.get(id).num as u16;
        let mut child = l;
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
        child.set_group(false);
        child.set_hashed(false);
        child.set_port_lock(false);
        child.set_mapped_ops(l.is_v6() && unmapped(&route.dst).is_some());
        child.set_rcv(route.dst);
        let Some(child) = self.alloc(child) else {
            return cx.fail(Step::NoRoom, Errno::ENOBUFS);
        };
        self.inet_bind_hash(child);
        self.edit(SockId(l.queue.last), |c| c.queue_next = child.0);
        self.edit(listener, |l| {
            if l.queue.first == NONE {
                l.queue.first = child.0;
            }
            l.queue.last = child.0;
            l.queue.len += 1;
        });
        self.edit(id, |s| s.peer = child.0);
        Ok(())
    }

    /// `reqsk_queue_remove`
    fn reqsk_queue_remove(&mut self, listener: SockId) -> Option<SockId> {
        let first = self.get(listener).queue.first;
        if first == NONE {
            return None;
        }
        let next = self.get(SockId(first)).queue_next;
        // What waits does not listen, and is in one queue only, whatever is
        // scribbled over it: so emptying a queue ends.
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
    ) -> Result<SockId, Errno> {
        let l = self.get(listener);
        if l.table != Table::Tcp || l.is_mptcp() {
            return not_modelled(cx);
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

    /// shutdown(2): `inet_shutdown`.
    pub fn shutdown(&mut self, id: SockId, how: u8) -> Answer<()> {
        let mut cx = Ctx::new(Pick::Random(0));
        let result = self.inet_shutdown(id, how, &mut cx);
        Answer::of(result, &cx)
    }

    fn inet_shutdown(&mut self, id: SockId, how: u8, cx: &mut Ctx) -> Result<(), Errno> {
        let s = *self.get(id);
        let known = matches!(s.kind.domain, af::INET | af::INET6)
            && s.kind.ty != ty::RAW
            && s.table != Table::Ping
            && !s.is_mptcp();
        match s.state {
            _ if !known => return not_modelled(cx),
            State::Close if s.connected() => return not_modelled(cx),
            State::Close => return cx.fail(Step::ShutdownNotConnected, Errno::ENOTCONN),
            State::Listen if how != 1 => {
                self.abort(id, cx);
                self.tcp_disconnect(id);
            }
            State::Listen => {}
            _ if s.table == Table::Tcp => return not_modelled(cx),
            _ => {}
        }
        cx.pass(Step::ShutdownOk);
        Ok(())
    }

    /// A connection ends by a reset, or a listener with all that waits at it:
    /// `tcp_reset`, `inet_csk_listen_stop`.
    pub(super) fn abort(&mut self, id: SockId, cx: &mut Ctx) {
        let s = *self.get(id);
        if s.table != Table::Tcp {
            return;
        }
        if s.state == State::Listen {
            self.edit(id, |s| s.set_group(false));
            while let Some(child) = self.reqsk_queue_remove(id) {
                self.abort(child, cx);
                self.inet_put_port(child);
                self.release(child);
            }
        } else if s.state == State::Established && s.peer != NONE {
            let peer = SockId(s.peer);
            self.edit(id, |s| s.peer = NONE);
            self.tcp_done(peer);
            cx.pass(Step::TcpReset);
        }
    }

    /// `tcp_done` of the side that is told: closed, and the port is given back
    /// unless bind() had asked for it.
    fn tcp_done(&mut self, id: SockId) {
        let s = *self.get(id);
        self.edit(id, |s| {
            s.peer = NONE;
            s.state = State::Close;
        });
        if !s.port_lock() {
            self.inet_put_port(id);
        }
    }

    /// `tcp_disconnect`
    fn tcp_disconnect(&mut self, id: SockId) {
        let s = *self.get(id);
        self.edit(id, |s| {
            s.state = State::Close;
            s.set_connected(false);
            s.daddr = [0; 16];
            s.dport = 0;
        });
        if !s.addr_lock() {
            self.reset(id);
        }
        if !s.port_lock() {
            self.inet_put_port(id);
        }
    }
}

fn not_modelled<T>(cx: &mut Ctx) -> Result<T, Errno> {
    cx.fail(Step::ConnectNotModelled, Errno::EOPNOTSUPP)
}
