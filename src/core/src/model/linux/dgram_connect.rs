//! connect(2) of UDP, ping and raw sockets: no packet leaves, so all of it is
//! known, wherever it leads.

use super::connect::routed;
use super::inet::{array, is_multicast, needs_scope};
use super::quirks;
use super::route::{Flow, Way, ip_route_connect, ip6_dst_lookup};
use crate::addr::af;
use crate::model::host::AddrType;
use crate::model::net::{Ctx, Net, SockId, State, Table, unmapped};
use crate::model::step::Step;
use crate::model::{Errno, No};
use crate::socket::ty;

impl Net<'_> {
    /// `inet_dgram_connect`
    pub(super) fn inet_dgram_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cx: &mut Ctx,
    ) -> Result<(), No> {
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
                Err(No::Errno(_)) => return cx.fail(Step::UdpAutobindFull, Errno::EAGAIN),
                Err(No::Unknown(why)) => return Err(No::Unknown(why)),
                Ok(()) => {}
            }
        }
        let Some(flow) = self.datagram_route(id, addr, cx)? else {
            return cx.unknown(Step::UnknownRoute);
        };
        let udp = matches!(self.get(id).table, Table::Udp | Table::UdpLite);
        if !self.get(id).is_specific() {
            self.update_saddr(id, flow.src);
            // udp_lib_rehash
            self.edit(id, |s| s.set_group(s.group() && !udp));
        }
        let leaves = quirks::connected_udp_leaves_group(self.host.generation);
        self.edit(id, |s| {
            s.state = State::Established;
            s.set_mapped_ops(s.mapped_ops() | (s.is_v6() && unmapped(&flow.dst).is_some()));
            s.daddr = flow.dst;
            s.dport = u16::from_be_bytes(array(addr, 2));
            // udp_lib_hash4, which UDP-Lite has not.
            s.set_group(s.group() && !(leaves && s.table == Table::Udp));
        });
        cx.pass(Step::UdpConnected);
        Ok(())
    }

    /// `__ip4_datagram_connect`, `__ip6_datagram_connect` up to the route:
    /// `None` if nobody can know it.
    fn datagram_route(
        &mut self,
        id: SockId,
        addr: &[u8],
        cx: &mut Ctx,
    ) -> Result<Option<Flow>, No> {
        let s = *self.get(id);
        let family = u16::from_ne_bytes(array(addr, 0));
        let udp = matches!(s.table, Table::Udp | Table::UdpLite);
        if family == af::INET && s.is_v6() && (!udp || s.v6only()) {
            // ip6_datagram_connect_v6_only
            return cx.fail(Step::ConnectFamily, Errno::EAFNOSUPPORT);
        }
        if !s.is_v6() || family == af::INET {
            if addr.len() < 16 {
                return cx.fail(Step::ConnectLength, Errno::EINVAL);
            }
            if family != af::INET {
                return cx.fail(Step::ConnectFamily, Errno::EAFNOSUPPORT);
            }
            return self.datagram_route4(id, u32::from_be_bytes(array(addr, 4)), cx);
        }
        if udp && addr.len() < 24 {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        if family != af::INET6 {
            return cx.fail(Step::ConnectFamily, Errno::EAFNOSUPPORT);
        }
        if addr.len() < 24 {
            return cx.fail(Step::ConnectLength, Errno::EINVAL);
        }
        let dst = self.to_self(&s, array(addr, 8));
        if let Some(v4) = unmapped(&dst) {
            if s.v6only() {
                return cx.fail(Step::ConnectV6only, Errno::ENETUNREACH);
            }
            return self.datagram_route4(id, v4, cx);
        }
        if needs_scope(&dst) {
            self.take_scope(id, addr, cx)?;
        }
        // np->saddr, which a group's address is not.
        let from = match is_multicast(&s.rcv6) {
            true if s.state != State::Close => return Ok(None),
            true => [0; 16],
            false => s.rcv6,
        };
        let found = routed(ip6_dst_lookup(self.host, from, dst, self.get(id).dev), cx);
        if found.is_err() && quirks::failed_connect_gives_device_back(self.host.generation) {
            self.edit(id, |now| now.dev = s.dev);
        }
        found
    }

    /// `__ip4_datagram_connect`
    fn datagram_route4(&mut self, id: SockId, dst: u32, cx: &mut Ctx) -> Result<Option<Flow>, No> {
        let s = *self.get(id);
        let raw = s.kind.ty == ty::RAW;
        let from = match unmapped(&s.rcv6) {
            // What connect() has made of a group's or everybody's address.
            Some(v4) if v4 != 0 && s.saddr4(self.host) == 0 && s.state != State::Close => {
                return Ok(None);
            }
            Some(_) => s.saddr4(self.host),
            // After connections to IPv6 and IPv4 in turn.
            None if s.state != State::Close && (raw || s.mapped_ops()) => {
                return Ok(None);
            }
            // rawv6_bind: LOOPBACK4_IPV6
            None if raw => s.rcv4,
            None => 0,
        };
        // IP_HDRINCL, which IPPROTO_RAW has.
        let any_src = s.transparent() || (raw && !s.is_v6() && s.kind.protocol == 255);
        let found = ip_route_connect(self.host, from, dst, s.dev, any_src);
        let flow = routed(found, cx)?;
        if let Some(Flow {
            way: Way::Many(AddrType::Broadcast),
            ..
        }) = flow
        {
            return cx.fail(Step::UdpBroadcast, Errno::EACCES);
        }
        Ok(flow)
    }

    /// `__udp_disconnect`: no new look for conflicts.
    fn udp_disconnect(&mut self, id: SockId) {
        let s = *self.get(id);
        self.edit(id, |s| {
            s.state = State::Close;
            s.set_mapped_ops(false);
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
}
