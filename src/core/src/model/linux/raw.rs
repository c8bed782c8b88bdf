//! Raw and ping sockets: `raw_bind`, `rawv6_bind`, `ping_bind`.

use super::inet::{array, is_multicast, needs_scope};
use super::quirks;
use crate::addr::af;
use crate::model::host::AddrType;
use crate::model::net::{Ctx, Net, SockId, Table, mapped, unmapped};
use crate::model::step::Step;
use crate::model::{Errno, No, Pick};

impl Net<'_> {
    /// `raw_bind`: the family is not looked at, and nothing conflicts.
    pub(super) fn raw_bind(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if !self.is_closed(id) || addr.len() < 16 {
            return cx.fail(Step::RawBindLength, Errno::EINVAL);
        }
        let ip = u32::from_be_bytes(array(addr, 4));
        let s = *self.get(id);
        // mutants: generation: until 5.17
        let foreign = ip != 0
            && self.host.addr_type(ip) == AddrType::Unicast
            && !quirks::raw_binds_nonlocal(self.host.generation);
        if foreign || !self.inet_addr_valid_or_nonlocal(&s, ip, cx) {
            return cx.fail(Step::RawBindNotLocal, Errno::EADDRNOTAVAIL);
        }
        self.edit(id, |s| s.set_rcv(mapped(ip)));
        cx.pass(Step::RawBound);
        Ok(())
    }

    /// `rawv6_bind`
    pub(super) fn rawv6_bind(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if addr.len() < 24 || u16::from_ne_bytes(array(addr, 0)) != af::INET6 {
            return cx.fail(Step::RawBindLength, Errno::EINVAL);
        }
        let ip: [u8; 16] = array(addr, 8);
        if unmapped(&ip).is_some() {
            return cx.fail(Step::RawBindNotLocal, Errno::EADDRNOTAVAIL);
        }
        if !self.is_closed(id) {
            return cx.fail(Step::RawBindLength, Errno::EINVAL);
        }
        if ip != [0; 16] {
            self.check_v6(id, addr, &ip, cx)?;
        }
        self.edit(id, |s| s.set_rcv(ip));
        cx.pass(Step::RawBound);
        Ok(())
    }

    /// `ping_bind`
    pub(super) fn ping_bind(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        let (ip, scope) = self.ping_check_bind_addr(id, addr, cx)?;
        let before = self.get(id).dev;
        // The device stays even if the bind fails for the next reason.
        if let Some(scope) = scope {
            self.edit(id, |s| s.dev = scope);
        }
        if self.get(id).num != 0 {
            return cx.fail(Step::PingBound, Errno::EINVAL);
        }
        let port = u16::from_be_bytes(array(addr, 2));
        if let Err(e) = self.ping_get_port(id, port, cx) {
            self.edit(id, |s| s.dev = before);
            return Err(e);
        }
        self.edit(id, |s| {
            s.set_rcv(ip);
            s.set_addr_lock(s.addr_lock() | s.is_specific());
            s.set_port_lock(s.port_lock() | (port != 0));
        });
        cx.pass(Step::PingOk);
        Ok(())
    }

    /// `ping_check_bind_addr`: the address, and the device that it brings.
    fn ping_check_bind_addr(
        &self,
        id: SockId,
        addr: &[u8],
        cx: &mut Ctx,
    ) -> Result<([u8; 16], Option<u32>), No> {
        let s = *self.get(id);
        let family = u16::from_ne_bytes(array(addr, 0));
        if !s.is_v6() {
            if addr.len() < 16 {
                return cx.fail(Step::PingLength, Errno::EINVAL);
            }
            let ip = u32::from_be_bytes(array(addr, 4));
            if family != af::INET && !(family == af::UNSPEC && ip == 0) {
                return cx.fail(Step::PingFamily, Errno::EAFNOSUPPORT);
            }
            let kind = self.host.addr_type(ip);
            let many = ip != 0 && matches!(kind, AddrType::Multicast | AddrType::Broadcast);
            if many || !self.inet_addr_valid_or_nonlocal(&s, ip, cx) {
                return cx.fail(Step::PingNotLocal, Errno::EADDRNOTAVAIL);
            }
            return Ok((mapped(ip), None));
        }
        if addr.len() < 28 {
            return cx.fail(Step::PingLength, Errno::EINVAL);
        }
        if family != af::INET6 {
            return cx.fail(Step::PingFamily, Errno::EAFNOSUPPORT);
        }
        let ip: [u8; 16] = array(addr, 8);
        let scope = u32::from_ne_bytes(array(addr, 24));
        let scoped = needs_scope(&ip);
        if is_multicast(&ip) || unmapped(&ip).is_some() || (scoped && scope == 0) {
            return cx.fail(Step::PingNotUnicast, Errno::EINVAL);
        }
        let host = &self.host;
        let dev = if scope == 0 { s.dev } else { scope };
        if dev != 0 && !host.has_device(dev) {
            return cx.fail(Step::PingNoDevice, Errno::ENODEV);
        }
        let foreign = host.sysctl.nonlocal_bind6 || s.freebind() || s.transparent();
        if !foreign && ip != [0; 16] && !host.has_v6(&ip, dev) {
            return cx.fail(Step::PingNotLocal, Errno::EADDRNOTAVAIL);
        }
        Ok((ip, scoped.then_some(scope)))
    }

    /// `ping_get_port`: identifiers are one space for both families.
    pub(super) fn ping_get_port(&mut self, id: SockId, ident: u16, cx: &mut Ctx) -> Result<(), No> {
        let owner = |net: &Self, n: u32| net.at_addr(Table::Ping, n, [0; 16]).next().is_some();
        let ident = if ident == 0 {
            let observed = match cx.pick {
                Pick::Observed(Some(n)) if n != 0 && !owner(self, n) => Some(n as u16),
                _ => None,
            };
            let mut next = self.core.ping_last;
            let found = observed.or_else(|| {
                (0..=u16::MAX).find_map(|_| {
                    next = next.wrapping_add(1).max(1);
                    (!owner(self, u32::from(next))).then_some(next)
                })
            });
            let Some(found) = found else {
                return cx.fail(Step::PingInUse, Errno::EADDRINUSE);
            };
            self.core.ping_last = found;
            cx.pass(Step::PingAuto);
            found
        } else {
            let reuse = self.get(id).reuse;
            let in_way = self
                .at_addr(Table::Ping, u32::from(ident), [0; 16])
                .find(|(_, o)| o.reuse == 0 || reuse == 0)
                .map(|(o, _)| o);
            if let Some(holder) = in_way {
                cx.holder = Some(holder);
                return cx.fail(Step::PingInUse, Errno::EADDRINUSE);
            }
            ident
        };
        self.edit(id, |s| s.num = u32::from(ident));
        self.inet_bind_hash(id);
        Ok(())
    }
}
