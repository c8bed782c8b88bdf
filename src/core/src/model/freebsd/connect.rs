//! connect(2) and accept(2) of TCP and UDP sockets, as far as both ends are on
//! this host; how a connection ends stands in [`close`](super::close).
//!
//! A peer elsewhere is not ours to know, and neither are routes beyond the
//! networks of the host's own addresses: the answer is unknown there, and
//! nothing has changed.

use super::pcb::{Sin6, family_of, ip6_of, lport, over, port_of, start};
use super::{INP_IPV4, INP_IPV6, getsockaddr, pcb, quirks};
use crate::addr::af;
use crate::model::host::{V4, mask4};
use crate::model::linux::{PathState, needs_scope};
use crate::model::net::{Ctx, LOOPBACK6, NONE, Net, Sock, SockId, State, Table, mapped, unmapped};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No, Pointer};
use crate::socket::ty;

/// With a backlog of 16, as scripts have it, `solisten_clone` refuses beyond
/// one and a half times that.
const MOST_WAITING: u32 = 24;

/// Where a connection leads, and from where, in the notation of a socket's
/// `rcv6`.
#[derive(Clone, Copy)]
struct Route {
    src: [u8; 16],
    dst: [u8; 16],
    port: u16,
    /// `INP_IPV4` or `INP_IPV6`
    vflag: u8,
}

/// `so_state`: is it in a connection?
pub(super) fn is_connected(s: &Sock) -> bool {
    match s.state {
        State::Established | State::CloseWait => true,
        // soisdisconnected, once neither direction is open.
        State::FinWait2 => !s.send_shutdown(),
        _ => false,
    }
}

impl Net<'_> {
    /// `kern_connectat`, `soconnectat`
    pub(in crate::model) fn kern_connectat(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let addr = getsockaddr(Pointer::to(addr), cx)?;
        if self.in_capability_mode(cred) {
            return cx.fail(Step::BsdConnectCapability, Errno::ECAPMODE);
        }
        let s = *self.get(id);
        if s.state == State::Listen && !quirks::protocols_refuse_listeners(self.host.generation) {
            return cx.fail(Step::BsdConnectListener, Errno::EOPNOTSUPP);
        }
        let stream = s.kind.ty != ty::DGRAM && s.kind.ty != ty::RAW;
        if is_connected(&s) {
            if stream {
                return cx.fail(Step::BsdConnectConnected, Errno::EISCONN);
            }
            // Another peer, or none: sodisconnect comes first, whatever follows.
            self.sodisconnect(id, cx);
        }
        if s.other_fib() && s.table != Table::Other {
            // Whatever the routes of that table are.
            return cx.unknown(Step::BsdOtherFib);
        }
        match (s.kind.domain, s.table) {
            (af::INET, Table::Tcp) => self.tcp_usr_connect(id, addr, cred, cx),
            (af::INET6, Table::Tcp) => self.tcp6_usr_connect(id, addr, cred, cx),
            (af::INET, Table::Udp | Table::UdpLite) => self.udp_connect(id, addr, cred, cx),
            (af::INET6, Table::Udp | Table::UdpLite) => self.udp6_connect(id, addr, cred, cx),
            (af::INET, _) => self.rip_connect(id, addr, cx),
            (af::INET6, _) => self.rip6_connect(id, addr, cred, cx),
            _ => self.uipc_connect(id, addr, cred, cx),
        }
    }

    /// `udp_disconnect`, `rip_disconnect`, `uipc_disconnect`
    fn sodisconnect(&mut self, id: SockId, cx: &mut Ctx) {
        let s = *self.get(id);
        cx.pass(Step::BsdDisconnected);
        if s.table == Table::Unix {
            self.edit(id, |s| {
                s.state = State::Close;
                s.peer = NONE;
            });
            return;
        }
        let port = lport(&s);
        self.inet_put_port(id);
        self.edit(id, |s| {
            s.state = State::Close;
            s.daddr = [0; 16];
            s.dport = 0;
            if s.kind.ty == ty::DGRAM {
                let any = if s.bsd & INP_IPV6 == 0 {
                    mapped(0)
                } else {
                    [0; 16]
                };
                s.set_rcv(any);
            }
        });
        // Since 14 it is in no list until it is connected again, and keeps its
        // port's number for that.
        if s.kind.ty == ty::DGRAM && quirks::disconnected_stay(self.host.generation) {
            let s = *self.get(id);
            self.enter_pcb(id, s.rcv6, port, s.bsd & (INP_IPV4 | INP_IPV6));
        }
    }

    /// `tcp_usr_connect`
    fn tcp_usr_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let ip = pcb::be32(addr, 4);
        let inet = family_of(addr) == af::INET;
        let whole = addr.len() == pcb::SIN_LEN;
        let multicast = ip >> 28 == 0xe;
        if !quirks::looks_at_family(self.host.generation) {
            if !whole {
                return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
            }
            if inet && multicast {
                return cx.fail(Step::BsdConnectMulticast, Errno::EAFNOSUPPORT);
            }
            let ip = self.prison_remote_ip4(ip, cred, cx)?;
            if over(&s) {
                return cx.fail(Step::BsdConnectOver, Errno::EINVAL);
            }
            return self.tcp_connect4(id, ip, port_of(addr), inet, cred, cx);
        }
        if s.dropped() {
            return cx.fail(Step::BsdConnectOver, Errno::ECONNREFUSED);
        }
        if !inet {
            return cx.fail(Step::BsdConnectFamily, Errno::EAFNOSUPPORT);
        }
        if !whole {
            return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
        }
        let ip = self.tcp_may_reach(ip, cred, cx)?;
        if s.state == State::Listen {
            return cx.fail(Step::BsdConnectListener, Errno::EOPNOTSUPP);
        }
        self.tcp_connect4(id, ip, port_of(addr), true, cred, cx)
    }

    /// What of IPv4 TCP never connects to, and what a jail makes of the rest.
    fn tcp_may_reach(&self, ip: u32, cred: &Cred, cx: &mut Ctx) -> Result<u32, No> {
        if ip >> 28 == 0xe {
            return cx.fail(Step::BsdConnectMulticast, Errno::EAFNOSUPPORT);
        }
        if ip == u32::MAX {
            return cx.fail(Step::BsdConnectBroadcast, Errno::EACCES);
        }
        self.prison_remote_ip4(ip, cred, cx)
    }

    /// `tcp_connect`: in 9.1 the port is there before anything else.
    fn tcp_connect4(
        &mut self,
        id: SockId,
        ip: u32,
        port: u16,
        inet: bool,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let old = !quirks::looks_at_family(self.host.generation);
        if s.state != State::Close {
            // Half closed. 9.1 goes on as if it were not.
            return if old {
                cx.unknown(Step::BsdConnectHalf)
            } else {
                cx.fail(Step::BsdConnectConnected, Errno::EISCONN)
            };
        }
        if old && lport(&s) == 0 {
            let quiet = &mut Ctx::new(cx.pick);
            let found = self.in_pcbconnect_setup(id, ip, port, inet, cred, quiet);
            self.bind_before(id, INP_IPV4, found, cred, cx)?;
        }
        let route = self.in_pcbconnect_setup(id, ip, port, inet, cred, cx)?;
        self.tcp_connect(id, &route, cred, cx)
    }

    /// 9.1 gives the socket a port before it looks where the connect leads, which
    /// was `found`: nothing has changed where that is not known.
    fn bind_before(
        &mut self,
        id: SockId,
        vflag: u8,
        found: Result<Route, No>,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        match found {
            Err(No::Unknown(why)) => cx.unknown(why),
            Ok(route) if !self.is_here(&route) => cx.unknown(Step::BsdNoRoute),
            _ => self.bsd_bind_any(id, vflag, cred, cx),
        }
    }

    /// `in_pcbconnect_setup`, without the port: the checks and the addresses.
    fn in_pcbconnect_setup(
        &self,
        id: SockId,
        ip: u32,
        port: u16,
        inet: bool,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<Route, No> {
        if !inet {
            return cx.fail(Step::BsdConnectFamily, Errno::EAFNOSUPPORT);
        }
        if port == 0 {
            return cx.fail(Step::BsdConnectPortZero, Errno::EADDRNOTAVAIL);
        }
        let s = self.get(id);
        let own = self.host.v4.as_slice();
        let dst = match (ip, own) {
            // The first address of the host, or of the jail.
            (0, [first, ..]) => self.prison_first_ip4(first.addr, cred),
            _ => ip,
        };
        let bound = unmapped(&s.rcv6).filter(|a| *a != 0);
        let src = match bound {
            Some(src) => src,
            None => match self.in_pcbladdr(dst, cred) {
                Some(src) => src,
                None => return cx.unknown(Step::BsdNoRoute),
            },
        };
        Ok(Route {
            src: mapped(src),
            dst: mapped(dst),
            port,
            vflag: INP_IPV4,
        })
    }

    /// `in_pcbladdr`: the address of the interface whose network it is in
    /// (`ifa_ifwithnet`); the first of a jail.
    fn in_pcbladdr(&self, dst: u32, cred: &Cred) -> Option<u32> {
        if cred.jail != 0 {
            return Some(self.prison_first_ip4(0, cred)).filter(|a| *a != 0);
        }
        let own = self.host.v4.as_slice().iter();
        // Of lo0 only the address itself has a route.
        let on_link = |a: &&V4| {
            let net = a.holds(dst) && dst != a.addr & mask4(a.prefix);
            (net && a.addr >> 24 != 127) || dst == a.addr
        };
        let mut best: Option<(u8, u32)> = None;
        for a in own.filter(on_link) {
            if best.is_none_or(|(prefix, _)| a.prefix > prefix) {
                best = Some((a.prefix, a.addr));
            }
        }
        best.map(|(_, addr)| addr)
    }

    fn is_own4(&self, ip: u32) -> bool {
        self.host.v4.as_slice().iter().any(|a| a.addr == ip)
    }

    /// Does a packet between the two stay on this host, and get there?
    fn is_here(&self, route: &Route) -> bool {
        match (unmapped(&route.src), unmapped(&route.dst)) {
            _ if route.vflag == INP_IPV6 => {
                let own = |a| self.host.has_v6(a, 0);
                let same = (route.src == LOOPBACK6) == (route.dst == LOOPBACK6);
                own(&route.src) && own(&route.dst) && same
            }
            (Some(src), Some(dst)) => self.is_own4(src) && self.is_own4(dst),
            _ => false,
        }
    }

    /// `tcp6_usr_connect`
    fn tcp6_usr_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let old = !quirks::looks_at_family(self.host.generation);
        let inet6 = family_of(addr) == af::INET6;
        let whole = addr.len() == pcb::SIN6_LEN;
        let ip = ip6_of(addr);
        if !old && s.dropped() {
            return cx.fail(Step::BsdConnectOver, Errno::ECONNREFUSED);
        }
        if !old && !inet6 {
            return cx.fail(Step::BsdConnectFamily, Errno::EAFNOSUPPORT);
        }
        if !whole {
            return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
        }
        if inet6 && ip[0] == 0xff {
            return cx.fail(Step::BsdConnectMulticast, Errno::EAFNOSUPPORT);
        }
        if old && over(&s) {
            return cx.fail(Step::BsdConnectOver, Errno::EINVAL);
        }
        if s.state == State::Listen {
            // tcp_usr_connect says EOPNOTSUPP.
            return cx.fail(Step::BsdConnectListener6, Errno::EINVAL);
        }
        if let Some(v4) = unmapped(&ip) {
            self.may_speak(&s, INP_IPV4, cx)?;
            let v4 = if old {
                self.prison_remote_ip4(v4, cred, cx)?
            } else {
                self.tcp_may_reach(v4, cred, cx)?
            };
            return self.with_vflag(id, INP_IPV4, |net| {
                net.tcp_connect4(id, v4, port_of(addr), true, cred, cx)
            });
        }
        self.may_speak(&s, INP_IPV6, cx)?;
        self.with_vflag(id, INP_IPV6, |net| net.tcp6_connect(id, addr, cred, cx))
    }

    /// May an IPv6 socket connect by this family?
    fn may_speak(&self, s: &Sock, vflag: u8, cx: &mut Ctx) -> Result<(), No> {
        if vflag == INP_IPV4 && s.v6only() {
            return cx.fail(Step::BsdConnectV6only, Errno::EINVAL);
        }
        if s.bsd & vflag == 0 && quirks::looks_at_family(self.host.generation) {
            return cx.fail(Step::BsdConnectVflag, Errno::EAFNOSUPPORT);
        }
        Ok(())
    }

    /// Connects with `inp_vflag` as the peer's address has it. What was bound
    /// keeps that even if nothing comes of it; in 9.1 the others do too.
    fn with_vflag(
        &mut self,
        id: SockId,
        vflag: u8,
        connect: impl FnOnce(&mut Self) -> Result<(), No>,
    ) -> Result<(), No> {
        let before = *self.get(id);
        self.change_vflag(id, vflag);
        let result = connect(self);
        let kept = lport(&before) != 0 || quirks::failed_bind_keeps_vflag(self.host.generation);
        let undone = match result {
            Ok(()) => false,
            Err(No::Errno(_)) => lport(self.get(id)) == 0 && !kept,
            // Nothing was asked.
            Err(No::Unknown(_)) => true,
        };
        if undone {
            self.change_vflag(id, before.bsd & (INP_IPV4 | INP_IPV6));
        }
        result
    }

    /// `tcp6_connect`
    fn tcp6_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let old = !quirks::looks_at_family(self.host.generation);
        if s.state != State::Close {
            return if old || s.state == State::FinWait2 {
                // in6_pcbconnect asserts that it is in no connection.
                cx.unknown(Step::BsdConnectHalf)
            } else {
                cx.fail(Step::BsdConnectConnected, Errno::EISCONN)
            };
        }
        if old && lport(&s) == 0 {
            let quiet = &mut Ctx::new(cx.pick);
            let found = self.in6_pcbladdr(id, addr, cred, quiet);
            self.bind_before(id, INP_IPV6, found, cred, cx)?;
        }
        let route = self.in6_pcbladdr(id, addr, cred, cx)?;
        self.tcp_connect(id, &route, cred, cx)
    }

    /// `in6_pcbladdr`
    fn in6_pcbladdr(
        &self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<Route, No> {
        let s = self.get(id);
        if addr.len() != pcb::SIN6_LEN {
            return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
        }
        if family_of(addr) != af::INET6 {
            return cx.fail(Step::BsdConnectFamily, Errno::EAFNOSUPPORT);
        }
        let port = port_of(addr);
        if port == 0 {
            return cx.fail(Step::BsdConnectPortZero, Errno::EADDRNOTAVAIL);
        }
        let Sin6 { ip, .. } = self.sa6_embedscope(addr, cx)?;
        let own = self.host.v6.as_slice();
        let any = ip == [0; 16] && !own.is_empty();
        let ip = if any { LOOPBACK6 } else { ip };
        let dst = self.prison_remote_ip6(ip, cred, cx)?;
        let bound = s.rcv6 != [0; 16];
        // in6_selectsrc: to an address of the host from the same; other routes
        // are not known.
        if !self.host.has_v6(&dst, 0) || needs_scope(&dst) {
            return cx.unknown(Step::BsdNoRoute);
        }
        let src = if bound {
            s.rcv6
        } else {
            self.prison_first_ip6(dst, cred)
        };
        Ok(Route {
            src,
            dst,
            port,
            vflag: INP_IPV6,
        })
    }

    /// `in_pcblookup_hash_locked` without wildcards: the connection that is
    /// there already.
    fn exact(&self, id: SockId, port: u16, route: &Route) -> Option<SockId> {
        let table = self.get(id).table;
        let same = |(o, s): &(SockId, &Sock)| {
            *o != id
                && pcb::connected(s)
                && s.bsd & route.vflag != 0
                && s.daddr == route.dst
                && s.dport == route.port
        };
        let mut at = self.at_addr(table, u32::from(port), route.src);
        at.find(same).map(|(o, _)| o)
    }

    /// The port that `in_pcb_lport_dest` takes for a connection: one that has
    /// neither this connection nor a socket without any that would get its
    /// packets.
    fn port_for(&self, id: SockId, route: &Route, cred: &Cred, cx: &mut Ctx) -> Result<u16, No> {
        let s = self.get(id);
        let (first, last) = self.port_range(s, cred, cx)?;
        let open = |port: u16| {
            self.bucket(s.table, u32::from(port)).count == 0
                || (self.exact(id, port, route).is_none()
                    && self
                        .in_pcblookup_wild(s.table, port, &route.src, route.vflag)
                        .is_none())
        };
        let start = start(cx.pick, first, last);
        let mut ports = (start..=last).chain(first..start);
        match ports.find(|p| open(*p)) {
            Some(port) => {
                cx.pass(Step::BsdAuto);
                Ok(port)
            }
            None => cx.fail(Step::BsdNoPort, Errno::EADDRNOTAVAIL),
        }
    }

    /// `in_pcbconnect`, `in6_pcbconnect`: the port, then both ends.
    fn in_pcbconnect(
        &mut self,
        id: SockId,
        route: &Route,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let port = lport(&s);
        if port != 0
            && let Some(there) = self.exact(id, port, route)
        {
            cx.holder = Some(there);
            return cx.fail(Step::BsdConnectTuple, Errno::EADDRINUSE);
        }
        if port == 0 {
            let port = if quirks::automatic_ports_by_peer(self.host.generation) {
                self.port_for(id, route, cred, cx)?
            } else {
                self.port_of_bind(id, route, cred, cx)?
            };
            self.enter_pcb(id, route.src, port, route.vflag);
        } else if s.hashed() {
            self.update_saddr(id, route.src);
        } else {
            // Disconnected before.
            self.enter_pcb(id, route.src, port, route.vflag);
        }
        self.edit(id, |s| {
            s.set_vflag(route.vflag);
            s.daddr = route.dst;
            s.dport = route.port;
            s.state = State::Established;
        });
        Ok(())
    }

    /// An automatic port of 9.1, where connect(2) asks as bind(2) does.
    fn port_of_bind(
        &mut self,
        id: SockId,
        route: &Route,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<u16, No> {
        // in_pcbbind_setup looks at the address that was selected, in6_pcbbind
        // at the one that the socket has.
        let addr = match route.vflag {
            INP_IPV4 => route.src,
            _ => self.get(id).rcv6,
        };
        let asker = self.asker(id, addr, route.vflag, cred);
        self.in_pcb_lport(id, &asker, cred, cx)
    }

    /// Both ends of a TCP connection: nothing has changed where the other is
    /// not known.
    fn tcp_connect(
        &mut self,
        id: SockId,
        route: &Route,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if !self.is_here(route) {
            return cx.unknown(Step::BsdNoRoute);
        }
        let listener = self.listener(id, route, cx)?;
        let l = *self.get(listener);
        let full = l.state == State::Listen && l.queue.len > MOST_WAITING;
        if full || self.meets_itself(id, route) {
            return cx.unknown(Step::BsdConnectElse);
        }
        let port = lport(self.get(id));
        self.in_pcbconnect(id, route, cred, cx)?;
        if self.meets_itself(id, route) {
            // A port was drawn that is the one asked for: with another it would
            // have been refused, or served.
            self.leave_connection(id, port);
            return cx.unknown(Step::BsdConnectElse);
        }
        if listener.0 == NONE || l.state != State::Listen {
            // tcp_drop: what answers is a reset.
            self.tcp_drop(id);
            return cx.fail(Step::BsdConnectRefused, Errno::ECONNREFUSED);
        }
        self.syncache_socket(id, listener, route, cx)?;
        cx.pass(Step::BsdConnected);
        Ok(())
    }

    fn meets_itself(&self, id: SockId, route: &Route) -> bool {
        route.src == route.dst && lport(self.get(id)) == route.port
    }

    /// Takes back what `in_pcbconnect` has done.
    fn leave_connection(&mut self, id: SockId, port: u16) {
        self.edit(id, |s| {
            s.state = State::Close;
            s.daddr = [0; 16];
            s.dport = 0;
        });
        if port == 0 {
            self.inet_put_port(id);
            self.edit(id, |s| {
                s.sport = 0;
                s.reset_saddr();
            });
        }
    }

    /// `in_pcblookup`: who gets a SYN; [`NONE`] for nobody. Unknown where lots
    /// decide, or an old connection answers.
    fn listener(&self, id: SockId, route: &Route, cx: &mut Ctx) -> Result<SockId, No> {
        let port = lport(self.get(id));
        let back = Route {
            src: route.dst,
            dst: route.src,
            port,
            vflag: route.vflag,
        };
        if port != 0 && self.exact(SockId(NONE), route.port, &back).is_some() {
            return cx.unknown(Step::BsdConnectElse);
        }
        let found = self.in_pcblookup_wild(Table::Tcp, route.port, &route.dst, route.vflag);
        match found {
            None => Ok(SockId(NONE)),
            Some((listener, 1)) => Ok(listener),
            Some((listener, _)) => {
                let any_group = self.reached(Table::Tcp, route.port, &route.dst, route.vflag);
                if any_group.into_iter().any(|(_, s, _)| s.reuseport_lb()) {
                    return cx.unknown(Step::BsdConnectGroup);
                }
                Ok(listener)
            }
        }
    }

    /// The sockets without a connection that packets to an address reach, each
    /// with its rank, the newest first.
    fn reached<'a>(
        &'a self,
        table: Table,
        port: u16,
        addr: &'a [u8; 16],
        vflag: u8,
    ) -> impl Iterator<Item = (SockId, &'a Sock, u8)> + use<'a> {
        let last_wins = quirks::last_wildcard_wins(self.host.generation);
        self.owners(table, u32::from(port))
            .filter_map(move |(o, s)| {
                if pcb::connected(s) || s.bsd & vflag == 0 {
                    return None;
                }
                let exact = s.rcv6 == *addr && s.bsd & (INP_IPV4 | INP_IPV6) == vflag;
                let wild = if vflag == INP_IPV4 {
                    s.rcv4 == 0
                } else {
                    s.rcv6 == [0; 16]
                };
                if !exact && !wild {
                    return None;
                }
                let jailed = s.dev > 1;
                if jailed && !self.jail_has(s.dev, addr) {
                    return None;
                }
                // By the order of the hash chain since 14, by the family before.
                let by_six = vflag == INP_IPV4
                    && s.kind.domain == af::INET6
                    && (last_wins || s.bsd & INP_IPV6 == 0);
                let rank = match (jailed, exact) {
                    (true, true) => 0,
                    (true, false) if !by_six => 1,
                    (false, true) => 2,
                    _ if !by_six => 3,
                    _ => 4,
                };
                Some((o, s, rank))
            })
    }

    /// `in_pcblookup_hash_wild_locked` and its like: the best of those that
    /// packets to an address reach, and how many there are.
    fn in_pcblookup_wild(
        &self,
        table: Table,
        port: u16,
        addr: &[u8; 16],
        vflag: u8,
    ) -> Option<(SockId, usize)> {
        let mut best: Option<(u8, SockId)> = None;
        let mut n = 0;
        let last_wins = quirks::last_wildcard_wins(self.host.generation);
        for (o, _, rank) in self.reached(table, port, addr, vflag) {
            n += 1;
            // Of equal ones the first of the hash chain.
            let back = rank == 4 || (last_wins && matches!(rank, 1 | 3));
            if best.is_none_or(|(least, _)| rank < least || (rank == least && back)) {
                best = Some((rank, o));
            }
        }
        best.map(|(_, o)| (o, n))
    }

    /// `syncache_socket`: the child, in the listener's queue.
    fn syncache_socket(
        &mut self,
        id: SockId,
        listener: SockId,
        route: &Route,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let l = *self.get(listener);
        let client = *self.get(id);
        let mut child = l.child(listener, id);
        child.set_accepted(true);
        child.set_recv_shutdown(false);
        child.daddr = route.src;
        child.dport = lport(&client);
        child.set_rcv(route.dst);
        child.num = u32::from(route.port);
        child.set_vflag(route.vflag);
        // inp_flags2 is a new one's.
        child.set_seen_reuseport(false);
        if quirks::children_are_plain(self.host.generation) {
            child.reuse = 0;
            child.set_reuseport(false);
            child.set_reuseport_lb(false);
        }
        let Some(child) = self.alloc(child) else {
            self.tcp_drop(id);
            return cx.unknown(Step::NoRoom);
        };
        self.inet_bind_hash(child);
        self.reqsk_queue_add(listener, child);
        self.edit(id, |s| s.peer = child.0);
        Ok(())
    }

    /// `kern_accept4`, `solisten_dequeue`, without waiting.
    pub(in crate::model) fn kern_accept(
        &mut self,
        listener: SockId,
        cx: &mut Ctx,
    ) -> Result<SockId, No> {
        let l = *self.get(listener);
        if l.state != State::Listen {
            return cx.fail(Step::BsdAcceptState, Errno::EINVAL);
        }
        if l.recv_shutdown() {
            // so_error, once.
            self.edit(listener, |l| l.set_recv_shutdown(false));
            return cx.fail(Step::BsdAcceptAborted, Errno::ECONNABORTED);
        }
        let Some(child) = self.reqsk_queue_remove(listener) else {
            return cx.fail(Step::BsdAcceptEmpty, Errno::EAGAIN);
        };
        self.edit(child, |c| {
            c.parent = NONE;
            c.refs = 1;
        });
        if self.get(child).dropped() {
            self.release(child);
            return cx.fail(Step::BsdAcceptReset, Errno::ECONNABORTED);
        }
        cx.pass(Step::BsdAccepted);
        Ok(child)
    }

    /// `udp_connect`
    fn udp_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let inet = family_of(addr) == af::INET;
        let whole = addr.len() == pcb::SIN_LEN;
        let old = !quirks::looks_at_family(self.host.generation);
        if !old && !inet {
            return cx.fail(Step::BsdConnectFamily, Errno::EAFNOSUPPORT);
        }
        if !old && !whole {
            return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
        }
        let ip = self.prison_remote_ip4(pcb::be32(addr, 4), cred, cx)?;
        if !whole {
            return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
        }
        self.udp_connect4(id, ip, port_of(addr), inet, cred, cx)
    }

    fn udp_connect4(
        &mut self,
        id: SockId,
        ip: u32,
        port: u16,
        inet: bool,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        // The primary interface's broadcast address, a group's interface.
        if ip == u32::MAX || ip >> 28 == 0xe {
            return cx.unknown(Step::BsdNoRoute);
        }
        let route = self.in_pcbconnect_setup(id, ip, port, inet, cred, cx)?;
        self.in_pcbconnect(id, &route, cred, cx)?;
        cx.pass(Step::BsdUdpConnected);
        Ok(())
    }

    /// `udp6_connect`
    fn udp6_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let old = !quirks::looks_at_family(self.host.generation);
        let inet6 = family_of(addr) == af::INET6;
        let whole = addr.len() == pcb::SIN6_LEN;
        if !old && !inet6 {
            return cx.fail(Step::BsdConnectFamily, Errno::EAFNOSUPPORT);
        }
        if !old && !whole {
            return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
        }
        if addr.len() < pcb::SIN6_LEN - 4 {
            return cx.unknown(Step::BsdNotGiven);
        }
        if let Some(v4) = unmapped(&ip6_of(addr)) {
            self.may_speak(&s, INP_IPV4, cx)?;
            let v4 = self.prison_remote_ip4(v4, cred, cx)?;
            return self.with_vflag(id, INP_IPV4, |net| {
                net.udp_connect4(id, v4, port_of(addr), true, cred, cx)
            });
        }
        self.may_speak(&s, INP_IPV6, cx)?;
        self.with_vflag(id, INP_IPV6, |net| {
            let route = net.in6_pcbladdr(id, addr, cred, cx)?;
            net.in_pcbconnect(id, &route, cred, cx)?;
            cx.pass(Step::BsdUdpConnected);
            Ok(())
        })
    }

    /// `rip_connect`
    fn rip_connect(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if addr.len() != pcb::SIN_LEN {
            return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
        }
        if family_of(addr) != af::INET {
            return cx.fail(Step::BsdConnectFamily, Errno::EAFNOSUPPORT);
        }
        self.edit(id, |s| {
            s.state = State::Established;
            s.daddr = mapped(pcb::be32(addr, 4));
        });
        cx.pass(Step::BsdRawConnected);
        Ok(())
    }

    /// `rip6_connect`: it has an address by that as well.
    fn rip6_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if addr.len() != pcb::SIN6_LEN {
            return cx.fail(Step::BsdConnectLength, Errno::EINVAL);
        }
        if family_of(addr) != af::INET6 {
            return cx.fail(Step::BsdConnectFamily, Errno::EAFNOSUPPORT);
        }
        let Sin6 { ip, .. } = self.sa6_embedscope(addr, cx)?;
        let bound = self.get(id).rcv6 != [0; 16];
        if !self.host.has_v6(&ip, 0) || needs_scope(&ip) {
            return cx.unknown(Step::BsdNoRoute);
        }
        let src = if bound {
            self.get(id).rcv6
        } else {
            self.prison_first_ip6(ip, cred)
        };
        self.edit(id, |s| {
            s.state = State::Established;
            s.daddr = ip;
            s.set_rcv(src);
        });
        cx.pass(Step::BsdRawConnected);
        Ok(())
    }

    /// `uipc_connect`, `unp_connectat`
    fn uipc_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let path = self.unix_path(addr, cx)?;
        if s.state == State::Listen || s.dropped() {
            return cx.unknown(Step::BsdConnectElse);
        }
        match self.path {
            PathState::Free => return cx.fail(Step::BsdUnixNoFile, Errno::ENOENT),
            PathState::Refused(e) => return cx.fail(Step::BsdUnixPath, e),
            PathState::Elsewhere => return cx.unknown(Step::ConnectNotModelled),
            PathState::Exists => {}
        }
        let Some(other) = self.unix_find_path(path) else {
            return cx.fail(Step::BsdUnixNobody, Errno::ECONNREFUSED);
        };
        let o = *self.get(other);
        if o.kind.ty != s.kind.ty {
            return cx.fail(Step::BsdUnixType, Errno::EPROTOTYPE);
        }
        let mut peer = other;
        if s.kind.ty != ty::DGRAM {
            // sonewconn refuses as well.
            if o.state != State::Listen || o.queue.len > MOST_WAITING {
                return cx.fail(Step::BsdUnixListens, Errno::ECONNREFUSED);
            }
            let mut child = o.unix_child(other, cred);
            child.uid = o.uid;
            child.dev = o.dev;
            child.set_freebsd(true);
            child.peer = id.0;
            let Some(child) = self.alloc(child) else {
                return cx.unknown(Step::NoRoom);
            };
            self.reqsk_queue_add(other, child);
            peer = child;
        }
        self.edit(id, |s| {
            s.peer = peer.0;
            s.state = State::Established;
        });
        cx.pass(Step::BsdUnixConnected);
        Ok(())
    }
}
