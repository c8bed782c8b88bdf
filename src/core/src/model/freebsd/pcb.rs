//! `in_pcbbind`, `in6_pcbbind` and the look-ups behind them.

use super::class::{ANY_FOUR, ANY_OF_V6_SOCKETS, CONNECTED, Met, Stopping, View, with_options};
use super::{PortRange, quirks};
use crate::addr::af;
use crate::model::net::{Asker, Ctx, Net, Sock, SockId, State, mapped, unmapped};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No, Pick};
use crate::socket::ty;

/// Bits of `so_options`, as far as they decide.
pub(super) const ADDR: u8 = 1;
pub(super) const PORT: u8 = 2;
pub(super) const LB: u8 = 4;

pub(super) fn options(s: &Sock) -> u8 {
    u8::from(s.reuse != 0) * ADDR + u8::from(s.reuseport()) * PORT + u8::from(s.reuseport_lb()) * LB
}

pub(super) fn be32(b: &[u8], at: usize) -> u32 {
    let bytes = b.get(at..at + 4).and_then(|b| b.try_into().ok());
    u32::from_be_bytes(bytes.unwrap_or([0; 4]))
}

fn port_of(b: &[u8]) -> u16 {
    (be32(b, 0) & 0xffff) as u16
}

fn family_of(b: &[u8]) -> u16 {
    // The first byte is the length, which the kernel overwrites: what the
    // model is given has Linux's layout.
    let bytes = b.get(..2).and_then(|b| b.try_into().ok());
    u16::from_ne_bytes(bytes.unwrap_or([0; 2]))
}

pub(super) fn connected(s: &Sock) -> bool {
    matches!(
        s.state,
        State::SynSent | State::Established | State::FinWait2 | State::CloseWait | State::TimeWait
    )
}

impl Net<'_> {
    /// Is it an interface's address, or its broadcast address
    /// (`ifa_ifwithaddr_check`)?
    pub(super) fn bsd_is_local4(&self, ip: u32) -> bool {
        let host = &self.host;
        host.v4.as_slice().iter().any(|a| {
            let mask = u32::MAX.checked_shl(32 - u32::from(a.prefix)).unwrap_or(0);
            let loopback = a.addr >> 24 == 127;
            ip == a.addr || (!loopback && a.prefix < 31 && ip == a.addr | !mask)
        })
    }

    /// The test of another user's socket, in `in_pcbbind_avail`.
    fn other_user(&self, id: SockId, a: &Asker, port: u16, view: View) -> Met {
        let s = self.get(id);
        if s.root() {
            return Met::Passes;
        }
        let Some(best) = self.in_pcblookup_local(a, port, view, true) else {
            return Met::Passes;
        };
        let mut spared = 0;
        if s.kind.ty == ty::STREAM {
            spared |= CONNECTED;
        }
        if quirks::wildcards_of_users_share(self.host.generation) && view.is_any() {
            spared |= view.any() & with_options(PORT);
        }
        let stopping = Stopping {
            classes: !spared,
            other_user: true,
        };
        self.meet_best(a, port, &best, stopping)
    }

    /// `in_pcbbind_avail`: may this socket have address and port?
    fn in_pcbbind_avail(
        &self,
        id: SockId,
        port: u16,
        view: View,
        multicast: bool,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = self.get(id);
        let own = options(s);
        let mut mask = own & (PORT | LB);
        if multicast {
            let alike = if quirks::multicast_reuseport_is_reuseaddr(self.host.generation) {
                ADDR | PORT
            } else {
                ADDR
            };
            if own & alike != 0 {
                mask |= ADDR | PORT;
            }
            if own & (ADDR | LB) != 0 {
                mask |= ADDR | LB;
            }
        }
        let asker = Asker::of(id, s);
        let six = s.kind.domain == af::INET6;
        let dual = view == View::Six([0; 16]) && !s.v6only();
        let views = [Some(view), dual.then_some(View::Four(0))];
        if !multicast {
            for v in views.into_iter().flatten() {
                if let Met::Stops(holder) = self.other_user(id, &asker, port, v) {
                    cx.holder = holder;
                    return cx.fail(Step::BsdOtherUser, Errno::EADDRINUSE);
                }
            }
        }
        for (i, v) in views.into_iter().enumerate() {
            let Some(v) = v else { continue };
            // Wildcards count for a socket without options.
            let Some(best) = self.in_pcblookup_local(&asker, port, v, own == 0) else {
                continue;
            };
            let spared = match v {
                // Two IPv6 sockets at the IPv4 wildcard: the IPv6 test speaks.
                View::Four(0) if i == 0 && six => ANY_OF_V6_SOCKETS,
                // :: beside an IPv4 socket at exactly 0.0.0.0.
                View::Four(0) if i == 1 => ANY_FOUR,
                _ => 0,
            };
            let stopping = Stopping {
                classes: !(spared | with_options(mask)),
                other_user: false,
            };
            if let Met::Stops(holder) = self.meet_best(&asker, port, &best, stopping) {
                cx.holder = holder;
                return cx.fail(Step::BsdInUse, Errno::EADDRINUSE);
            }
        }
        cx.pass(Step::BsdAvailable);
        Ok(())
    }

    /// `tcp_usr_bind`, `udp_bind`
    pub(super) fn bsd_inet_bind(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if self.get(id).dropped() {
            return cx.fail(Step::BsdDropped, Errno::EINVAL);
        }
        let ip = be32(addr, 4);
        let unspec = family_of(addr) == af::UNSPEC && addr.len() >= 8 && ip == 0;
        let looks = quirks::looks_at_family(self.host.generation);
        if looks && family_of(addr) != af::INET && !unspec {
            return cx.fail(Step::BsdFamily, Errno::EAFNOSUPPORT);
        }
        if addr.len() != 16 {
            return cx.fail(Step::BsdLength, Errno::EINVAL);
        }
        self.in_pcbbind(id, ip, port_of(addr), cred, cx)
    }

    /// `in_pcbbind`, `in_pcbbind_setup`
    fn in_pcbbind(
        &mut self,
        id: SockId,
        ip: u32,
        port: u16,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let multicast = ip >> 28 == 0xe;
        if multicast && s.kind.ty == ty::STREAM {
            return cx.fail(Step::BsdMulticast, Errno::EAFNOSUPPORT);
        }
        if quirks::needs_an_address(self.host.generation) && self.host.v4.as_slice().is_empty() {
            return cx.fail(Step::BsdNoAddress, Errno::EADDRNOTAVAIL);
        }
        if s.num != 0 || s.rcv4 != 0 {
            return cx.fail(Step::BsdBound, Errno::EINVAL);
        }
        let ip = self.prison_local_ip4(ip, cred, cx)?;
        if !multicast && ip != 0 && !s.bindany() && !self.bsd_is_local4(ip) {
            return cx.fail(Step::BsdNotLocal, Errno::EADDRNOTAVAIL);
        }
        self.reserved(port, cred, cx)?;
        if port != 0 {
            self.in_pcbbind_avail(id, port, View::Four(ip), multicast, cx)?;
        }
        self.edit(id, |s| s.set_rcv(mapped(ip)));
        self.in_pcbinshash(id, port, cred, cx)
    }

    /// `net.inet.ip.portrange.reservedlow` to `reservedhigh`
    fn reserved(&self, port: u16, cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let start = self.host.sysctl.unprivileged_start;
        if port != 0 && port < start && cred.uid != 0 {
            return cx.fail(Step::BsdReserved, Errno::EACCES);
        }
        Ok(())
    }

    fn in_pcbinshash(
        &mut self,
        id: SockId,
        port: u16,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if port == 0 {
            if let Err(e) = self.in_pcb_lport(id, cred, cx) {
                self.edit(id, Sock::reset_saddr);
                return Err(e);
            }
        } else {
            self.edit(id, |s| s.num = u32::from(port));
            self.inet_bind_hash(id);
        }
        cx.pass(Step::BsdOk);
        Ok(())
    }

    /// `in6_pcbbind`
    pub(super) fn bsd_inet6_bind(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        if s.dropped() {
            return cx.fail(Step::BsdDropped, Errno::EINVAL);
        }
        if family_of(addr) != af::INET6 {
            return cx.fail(Step::Bsd6Family, Errno::EAFNOSUPPORT);
        }
        if addr.len() != 28 {
            return cx.fail(Step::Bsd6Length, Errno::EINVAL);
        }
        let ip: [u8; 16] = addr
            .get(8..24)
            .and_then(|b| b.try_into().ok())
            .unwrap_or([0; 16]);
        let port = port_of(addr);
        let multicast = ip[0] == 0xff;
        if multicast && s.kind.ty == ty::STREAM {
            return cx.fail(Step::BsdMulticast, Errno::EAFNOSUPPORT);
        }
        if let Some(v4) = unmapped(&ip) {
            if s.v6only() {
                return cx.fail(Step::Bsd6Mapped, Errno::EADDRNOTAVAIL);
            }
            return self.in_pcbbind(id, v4, port, cred, cx);
        }
        if s.num != 0 || s.rcv6 != [0; 16] {
            return cx.fail(Step::BsdBound, Errno::EINVAL);
        }
        let scope = addr
            .get(24..28)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_ne_bytes);
        let link = crate::model::linux::needs_scope(&ip);
        let host = &self.host;
        if link && scope != 0 && !host.has_device(scope) {
            return cx.fail(Step::Bsd6Scope, Errno::ENXIO);
        }
        let ip = self.prison_local_ip6(ip, s.v6only(), cred, cx)?;
        if ip != [0; 16] && !multicast && !s.bindany() {
            let found = if link && scope == 0 {
                false
            } else {
                host.has_v6(&ip, if link { scope } else { 0 })
            };
            if !found {
                return cx.fail(Step::BsdNotLocal, Errno::EADDRNOTAVAIL);
            }
        }
        self.reserved(port, cred, cx)?;
        if port != 0 {
            self.in_pcbbind_avail(id, port, View::Six(ip), multicast, cx)?;
        }
        self.edit(id, |s| s.set_rcv(ip));
        self.in_pcbinshash(id, port, cred, cx)
    }

    /// Does `in_pcb_lport_dest` pass the port by for this asker
    /// ([`Asker::in_general_on_freebsd`])?
    pub(in crate::model) fn in_pcb_lport_closed(&self, a: &Asker, port: u16) -> bool {
        let four = a.is_four();
        let view = if four {
            View::Four(a.rcv4)
        } else {
            View::Six(a.rcv6)
        };
        let dual = view == View::Six([0; 16]) && !a.v6only();
        let owned = |view| self.in_pcblookup_local(a, port, view, !a.reuse()).is_some();
        owned(view) || (dual && owned(View::Four(0)))
    }

    /// `in_pcb_lport_dest`: an automatic port for the address that is set.
    pub(super) fn in_pcb_lport(&mut self, id: SockId, cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        // Linux's default range counts as none given.
        let given = self.host.sysctl.local_port_range;
        let (first, last) = match PortRange::of(s.bsd_range) {
            PortRange::Default if given == (32768, 60999) => (10000, 65535),
            PortRange::Default => given,
            PortRange::High => (49152, 65535),
            PortRange::Low => {
                if cred.uid != 0 {
                    return cx.fail(Step::BsdLowPerm, Errno::EPERM);
                }
                (600, 1023)
            }
        };
        let n = u32::from(last) - u32::from(first) + 1;
        let asker = Asker::of(id, &s).in_general_on_freebsd(options(&s) != 0);
        let map = match self.cheap_view(&asker, false) {
            Some(map) => map,
            None => self.view(&asker, false),
        };
        let closed = self.closed(map);
        let next = |from: u16, to: u16| {
            let of_parity = |from: u16| closed.next_free(from, to, from & 1 == 1);
            let other = from.checked_add(1).and_then(of_parity);
            of_parity(from).into_iter().chain(other).min()
        };
        let start = match cx.pick {
            Pick::Random(r) => r % n,
            Pick::Observed(Some(p)) => p.saturating_sub(u32::from(first)) % n,
            Pick::Observed(None) => 0,
        };
        let start = (u32::from(first) + start) as u16;
        let found = next(start, last)
            .or_else(|| start.checked_sub(1).and_then(|before| next(first, before)));
        let Some(port) = found else {
            return cx.fail(Step::BsdNoPort, Errno::EADDRNOTAVAIL);
        };
        cx.pass(Step::BsdAuto);
        self.edit(id, |s| s.num = u32::from(port));
        self.inet_bind_hash(id);
        Ok(())
    }
}
