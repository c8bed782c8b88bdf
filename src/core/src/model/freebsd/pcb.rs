//! `in_pcbbind`, `in6_pcbbind` and the look-ups behind them.

use super::{PortRange, quirks};
use crate::addr::af;
use crate::model::net::{Ctx, Net, Sock, SockId, State, mapped, unmapped};
use crate::model::step::Step;
use crate::model::{Cred, Errno, Pick};
use crate::socket::ty;

/// Bits of `so_options`, as far as they decide.
const ADDR: u8 = 1;
const PORT: u8 = 2;
const LB: u8 = 4;

fn options(s: &Sock) -> u8 {
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

/// `INP_IPV4`: may the socket have IPv4 peers?
fn has_v4(s: &Sock) -> bool {
    s.kind.domain == af::INET || (!s.v6only() && (s.rcv6 == [0; 16] || unmapped(&s.rcv6).is_some()))
}

/// `INP_IPV6`
fn has_v6(s: &Sock) -> bool {
    s.kind.domain == af::INET6 && unmapped(&s.rcv6).is_none()
}

fn connected(s: &Sock) -> bool {
    matches!(
        s.state,
        State::SynSent | State::Established | State::FinWait2 | State::CloseWait | State::TimeWait
    )
}

/// The view that a look-up has: of IPv4 or of IPv6 sockets.
#[derive(Clone, Copy, PartialEq)]
enum View {
    Four(u32),
    Six([u8; 16]),
}

impl View {
    fn sees(self, s: &Sock) -> bool {
        match self {
            View::Four(_) => has_v4(s),
            View::Six(_) => has_v6(s),
        }
    }

    fn equals(self, s: &Sock) -> bool {
        match self {
            View::Four(a) => s.rcv4 == a,
            View::Six(a) => s.rcv6 == a,
        }
    }

    fn is_any(self) -> bool {
        matches!(self, View::Four(0)) || self == View::Six([0; 16])
    }

    fn any_of(self, s: &Sock) -> bool {
        match self {
            View::Four(_) => s.rcv4 == 0,
            View::Six(_) => s.rcv6 == [0; 16],
        }
    }
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

    /// `in_pcblookup_local` without wildcards: unconnected, this very address.
    fn lookup_exact(&self, id: SockId, port: u16, view: View) -> Option<SockId> {
        let table = self.get(id).table;
        self.owners(table, u32::from(port))
            .find(|(o, s)| *o != id && !connected(s) && view.sees(s) && view.equals(s))
            .map(|(o, _)| o)
    }

    /// `in_pcblookup_local` with wildcards: the best of all that overlap.
    fn lookup_wild(&self, id: SockId, port: u16, view: View) -> Option<SockId> {
        let table = self.get(id).table;
        let mut best: Option<(u32, SockId)> = None;
        for (o, s) in self.owners(table, u32::from(port)) {
            let one_wild = view.is_any() != view.any_of(s);
            if o == id || !view.sees(s) || !(view.equals(s) || one_wild) {
                continue;
            }
            let dual = matches!(view, View::Four(_)) && has_v6(s);
            let cost = u32::from(dual) * 3 + u32::from(connected(s)) + u32::from(one_wild);
            if best.is_none_or(|(c, _)| cost < c) {
                best = Some((cost, o));
            }
        }
        best.map(|(_, o)| o)
    }

    fn lookup(&self, id: SockId, port: u16, view: View) -> Option<SockId> {
        if options(self.get(id)) == 0 {
            self.lookup_wild(id, port, view)
        } else {
            self.lookup_exact(id, port, view)
        }
    }

    /// The test of another user's socket, in `in_pcbbind_avail`.
    fn other_user(&self, id: SockId, port: u16, view: View) -> Option<SockId> {
        let s = self.get(id);
        if s.root() {
            return None;
        }
        let t = self.lookup_wild(id, port, view)?;
        let o = self.get(t);
        let counts = s.kind.ty != ty::STREAM || !connected(o);
        let spared = quirks::wildcards_of_users_share(self.host.generation)
            && view.is_any()
            && view.any_of(o)
            && o.reuseport();
        (counts && !spared && o.uid != s.uid).then_some(t)
    }

    /// `in_pcbbind_avail`: may this socket have address and port?
    fn in_pcbbind_avail(
        &self,
        id: SockId,
        port: u16,
        view: View,
        multicast: bool,
        cx: &mut Ctx,
    ) -> Result<(), Errno> {
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
        let six = s.kind.domain == af::INET6;
        let dual = view == View::Six([0; 16]) && !s.v6only();
        let views = [Some(view), dual.then_some(View::Four(0))];
        if !multicast {
            for v in views.into_iter().flatten() {
                if let Some(t) = self.other_user(id, port, v) {
                    cx.holder = Some(t);
                    return cx.fail(Step::BsdOtherUser, Errno::EADDRINUSE);
                }
            }
        }
        for (i, v) in views.into_iter().enumerate() {
            let Some(v) = v else { continue };
            let Some(t) = self.lookup(id, port, v) else {
                continue;
            };
            let o = self.get(t);
            if mask & options(o) != 0 {
                continue;
            }
            let o_six = o.kind.domain == af::INET6;
            let spared = match v {
                // Two IPv6 sockets at the IPv4 wildcard: the IPv6 test speaks.
                View::Four(0) if i == 0 => o.rcv4 == 0 && six && o_six,
                // :: beside an IPv4 socket at exactly 0.0.0.0.
                View::Four(0) => o.rcv4 == 0 && !o_six,
                _ => false,
            };
            if !spared {
                cx.holder = Some(t);
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
    ) -> Result<(), Errno> {
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
    ) -> Result<(), Errno> {
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
    fn reserved(&self, port: u16, cred: &Cred, cx: &mut Ctx) -> Result<(), Errno> {
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
    ) -> Result<(), Errno> {
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
    ) -> Result<(), Errno> {
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

    /// `in_pcb_lport_dest`: an automatic port for the address that is set.
    pub(super) fn in_pcb_lport(
        &mut self,
        id: SockId,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), Errno> {
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
        let view = if has_v6(&s) {
            View::Six(s.rcv6)
        } else {
            View::Four(s.rcv4)
        };
        let dual = view == View::Six([0; 16]) && !s.v6only();
        let free = |net: &Self, port: u16| {
            net.lookup(id, port, view).is_none()
                && !(dual && net.lookup(id, port, View::Four(0)).is_some())
        };
        let start = match cx.pick {
            Pick::Random(r) => r % n,
            Pick::Observed(Some(p)) => p.saturating_sub(u32::from(first)) % n,
            Pick::Observed(None) => 0,
        };
        let found = (0..n)
            .map(|i| (u32::from(first) + (start + i) % n) as u16)
            .find(|&port| free(self, port));
        let Some(port) = found else {
            return cx.fail(Step::BsdNoPort, Errno::EADDRNOTAVAIL);
        };
        cx.pass(Step::BsdAuto);
        self.edit(id, |s| s.num = u32::from(port));
        self.inet_bind_hash(id);
        Ok(())
    }
}
