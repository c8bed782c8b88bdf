//! `in_pcbbind`, `in6_pcbbind` and the look-ups behind them.

use super::class::{ANY_FOUR, ANY_OF_V6_SOCKETS, CONNECTED, Met, Stopping, View, with_options};
use super::{INP_IPV4, INP_IPV6, PortRange, jail, quirks};
use crate::addr::af;
use crate::model::host::mask4;
use crate::model::linux::needs_scope;
use crate::model::net::{Asker, Ctx, Net, Sock, SockId, State, mapped, unmapped};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No, Pick};
use crate::socket::ty;

/// Bits of `so_options`, as far as they decide.
pub(super) const ADDR: u8 = 1;
pub(super) const PORT: u8 = 2;
pub(super) const LB: u8 = 4;

/// Those of the socket that asks.
pub(super) fn options(s: &Sock) -> u8 {
    u8::from(s.reuse != 0) * ADDR + u8::from(s.reuseport()) * PORT + u8::from(s.reuseport_lb()) * LB
}

pub(super) fn be32(b: &[u8], at: usize) -> u32 {
    let bytes = b.get(at..at + 4).and_then(|b| b.try_into().ok());
    u32::from_be_bytes(bytes.unwrap_or([0; 4]))
}

pub(super) fn port_of(b: &[u8]) -> u16 {
    (be32(b, 0) & 0xffff) as u16
}

pub(super) fn family_of(b: &[u8]) -> u16 {
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

/// A `sockaddr_in`, as far as `in_pcbbind_setup` looks at it.
#[derive(Clone, Copy)]
struct Sin {
    ip: u32,
    port: u16,
    /// `AF_INET`
    inet: bool,
    /// The length is its own.
    whole: bool,
}

impl Sin {
    fn of(addr: &[u8]) -> Sin {
        Sin {
            ip: be32(addr, 4),
            port: port_of(addr),
            inet: family_of(addr) == af::INET,
            whole: addr.len() == SIN_LEN,
        }
    }

    /// `in6_sin6_2_sin`
    fn of_mapped(ip: u32, port: u16) -> Sin {
        Sin {
            ip,
            port,
            inet: true,
            whole: true,
        }
    }

    fn is_multicast(&self) -> bool {
        self.ip >> 28 == 0xe
    }
}

/// `sizeof(struct sockaddr_in)`, `sizeof(struct sockaddr_in6)`
pub(super) const SIN_LEN: usize = 16;
pub(super) const SIN6_LEN: usize = 28;

/// What `in_pcbinshash` enters.
struct Bound {
    addr: [u8; 16],
    port: u16,
    vflag: u8,
}

/// `sin6_addr`
pub(super) fn ip6_of(addr: &[u8]) -> [u8; 16] {
    addr.get(8..24)
        .and_then(|b| b.try_into().ok())
        .unwrap_or([0; 16])
}

/// `inp_lport`: a socket whose connection is over, or that was disconnected,
/// has one and no place in the tables.
pub(super) fn lport(s: &Sock) -> u16 {
    s.sport
}

/// `INP_IPV4` for the wildcard of a socket that speaks IPv4 as well.
fn vflag6(s: &Sock, ip: &[u8; 16]) -> u8 {
    if *ip == [0; 16] && !s.v6only() {
        INP_IPV4 | INP_IPV6
    } else {
        INP_IPV6
    }
}

impl Net<'_> {
    /// Is it an interface's address, or its broadcast address
    /// (`ifa_ifwithaddr_check`)?
    pub(super) fn bsd_is_local4(&self, ip: u32) -> bool {
        let host = &self.host;
        host.v4.as_slice().iter().any(|a| {
            let mask = mask4(a.prefix);
            let loopback = a.addr >> 24 == 127;
            ip == a.addr || (!loopback && a.prefix < 31 && ip == a.addr | !mask)
        })
    }

    /// Who asks for this address, and in which jail it is.
    pub(super) fn asker(&self, id: SockId, addr: [u8; 16], vflag: u8, cred: &Cred) -> Asker {
        let s = self.get(id);
        let mut asker = Asker::of(id, s).on_freebsd(
            jail::number(self.host, cred),
            vflag & INP_IPV4 != 0,
            vflag & INP_IPV6 != 0,
        );
        asker.rcv6 = addr;
        asker.rcv4 = unmapped(&addr).unwrap_or(0);
        asker
    }

    /// The test of another user's socket, in `in_pcbbind_avail`; for a dual
    /// wildcard a second time with IPv4's.
    fn other_user(&self, id: SockId, a: &Asker, port: u16, view: View, second: bool) -> Met {
        let s = self.get(id);
        let Some(best) = self.in_pcblookup_local(a, port, view, true) else {
            return Met::Passes;
        };
        let mut spared = 0;
        if s.kind.ty == ty::STREAM {
            spared |= CONNECTED;
        }
        // in6_pcbbind's look at IPv4 has no such exemption.
        if quirks::wildcards_of_users_share(self.host.generation) && view.is_any() && !second {
            spared |= view.wildcards() & with_options(PORT);
        }
        let stopping = Stopping {
            classes: !spared,
            other_user: true,
        };
        self.meet_best(a, port, &best, stopping)
    }

    /// The options by which an owner shares: `reuseport` and `reuseport_lb` of
    /// `in_pcbbind_setup`.
    fn shared_by(&self, own: u8, multicast: bool) -> u8 {
        let g = self.host.generation;
        if !quirks::owners_share_by_any_option(g) {
            let shares = own & PORT != 0 || (multicast && own & ADDR != 0);
            return if shares { PORT } else { 0 };
        }
        let mut mask = own & (PORT | LB);
        if multicast {
            if own & (ADDR | PORT) != 0 {
                mask |= ADDR | PORT;
            }
            if own & (ADDR | LB) != 0 {
                mask |= ADDR | LB;
            }
        }
        mask
    }

    /// `in_pcbbind_avail`: may this socket have address and port?
    fn in_pcbbind_avail(
        &self,
        id: SockId,
        asker: &Asker,
        port: u16,
        multicast: bool,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = self.get(id);
        let own = options(s);
        let mask = self.shared_by(own, multicast);
        let six = s.kind.domain == af::INET6;
        let view = if asker.is_v6() {
            View::Six(asker.rcv6)
        } else {
            View::Four(asker.rcv4)
        };
        let dual = view == View::Six([0; 16]) && !asker.v6only();
        let views = || {
            let second = dual.then_some(View::Four(0));
            core::iter::once(view).chain(second).enumerate()
        };
        if !multicast && !s.root() {
            for (i, v) in views() {
                if let Met::Stops(holder) = self.other_user(id, asker, port, v, i == 1) {
                    cx.holder = holder;
                    return cx.fail(Step::BsdOtherUser, Errno::EADDRINUSE);
                }
            }
        }
        for (i, v) in views() {
            // Wildcards count for a socket without options.
            let Some(best) = self.in_pcblookup_local(asker, port, v, own == 0) else {
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
            if let Met::Stops(holder) = self.meet_best(asker, port, &best, stopping) {
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
        let s = self.get(id);
        let (stream, over) = (s.kind.ty == ty::STREAM, over(s));
        let sin = Sin::of(addr);
        if !quirks::looks_at_family(self.host.generation) {
            // Nothing of that in udp_bind.
            if stream && !sin.whole {
                return cx.fail(Step::BsdLength, Errno::EINVAL);
            }
            if stream && sin.inet && sin.is_multicast() {
                return cx.fail(Step::BsdMulticast, Errno::EAFNOSUPPORT);
            }
            if stream && over {
                return cx.fail(Step::BsdDropped, Errno::EINVAL);
            }
            return self.in_pcbbind(id, sin, cred, cx);
        }
        if over {
            return cx.fail(Step::BsdDropped, Errno::EINVAL);
        }
        let unspec = family_of(addr) == af::UNSPEC && addr.len() >= 8 && sin.ip == 0;
        if !sin.inet && !unspec {
            return cx.fail(Step::BsdFamily, Errno::EAFNOSUPPORT);
        }
        if !sin.whole {
            return cx.fail(Step::BsdLength, Errno::EINVAL);
        }
        if stream && sin.is_multicast() {
            return cx.fail(Step::BsdMulticast, Errno::EAFNOSUPPORT);
        }
        self.in_pcbbind(id, Sin { inet: true, ..sin }, cred, cx)
    }

    /// `in_pcbbind`, `in_pcbbind_setup`
    fn in_pcbbind(&mut self, id: SockId, sin: Sin, cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let s = self.get(id);
        let (taken, bindany) = (lport(s) != 0 || s.rcv4 != 0, s.bindany());
        let g = self.host.generation;
        let multicast = sin.is_multicast();
        if taken {
            return cx.fail(Step::BsdBound, Errno::EINVAL);
        }
        if quirks::needs_an_address(g) && self.host.v4.as_slice().is_empty() {
            return cx.fail(Step::BsdNoAddress, Errno::EADDRNOTAVAIL);
        }
        if !sin.whole {
            return cx.fail(Step::BsdLength, Errno::EINVAL);
        }
        let ip = self.prison_local_ip4(sin.ip, cred, cx)?;
        // ifa_ifwithaddr_check compares addresses of the family alone.
        let local = || sin.inet && self.bsd_is_local4(ip);
        if !multicast && ip != 0 && !bindany && !local() {
            return cx.fail(Step::BsdNotLocal, Errno::EADDRNOTAVAIL);
        }
        self.reserved(sin.port, cred, cx)?;
        let asker = self.asker(id, mapped(ip), INP_IPV4, cred);
        if sin.port != 0 {
            self.in_pcbbind_avail(id, &asker, sin.port, multicast, cx)?;
        }
        let bound = Bound {
            addr: mapped(ip),
            port: sin.port,
            vflag: INP_IPV4,
        };
        self.in_pcbinshash(id, &bound, cred, cx)
    }

    /// `in_pcbbind` and `in6_pcbbind` without an address, for a listen(2) or,
    /// in 9.1, a connect(2): the wildcard, as the caller's jail sees it, and an
    /// automatic port.
    pub(super) fn bsd_bind_any(
        &mut self,
        id: SockId,
        vflag: u8,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let six = vflag & INP_IPV6 != 0;
        if quirks::needs_an_address(self.host.generation) && self.lacks_an_address(six) {
            return cx.fail(Step::BsdNoAddress, Errno::EADDRNOTAVAIL);
        }
        let addr = if six {
            self.prison_local_ip6(s.rcv6, s.v6only(), cred, cx)?
        } else {
            mapped(self.prison_local_ip4(s.rcv4, cred, cx)?)
        };
        let port = 0;
        self.in_pcbinshash(id, &Bound { addr, port, vflag }, cred, cx)
    }

    fn lacks_an_address(&self, six: bool) -> bool {
        if six {
            self.host.v6.as_slice().is_empty()
        } else {
            self.host.v4.as_slice().is_empty()
        }
    }

    /// `net.inet.ip.portrange.reservedlow` to `reservedhigh`
    fn reserved(&self, port: u16, cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let sysctl = &self.host.sysctl;
        let is_reserved = (sysctl.reserved_low..sysctl.unprivileged_start).contains(&port);
        if port != 0 && is_reserved && cred.uid != 0 {
            return cx.fail(Step::BsdReserved, Errno::EACCES);
        }
        Ok(())
    }

    fn in_pcbinshash(
        &mut self,
        id: SockId,
        bound: &Bound,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let port = match bound.port {
            0 => {
                let asker = self.asker(id, bound.addr, bound.vflag, cred);
                self.in_pcb_lport(id, &asker, cred, cx)?
            }
            port => port,
        };
        self.enter_pcb(id, bound.addr, port, bound.vflag);
        cx.pass(Step::BsdOk);
        Ok(())
    }

    /// A socket that is in no list gets address and port.
    pub(super) fn enter_pcb(&mut self, id: SockId, addr: [u8; 16], port: u16, vflag: u8) {
        self.edit(id, |s| {
            s.set_rcv(addr);
            s.set_vflag(vflag);
            s.num = u32::from(port);
        });
        self.inet_bind_hash(id);
    }

    /// What of a `sockaddr_in6` a socket's `inp_vflag` follows from, before
    /// anything is checked; 9.1 does not take that back when the bind fails.
    fn keeps_vflag(&mut self, id: SockId, vflag: u8) {
        if quirks::failed_bind_keeps_vflag(self.host.generation) {
            self.change_vflag(id, vflag);
        }
    }

    /// Another `inp_vflag`, and the same bytes of an address.
    pub(super) fn change_vflag(&mut self, id: SockId, vflag: u8) {
        let s = *self.get(id);
        let addr = match (unmapped(&s.rcv6), vflag & INP_IPV6) {
            // The address of IPv4 is the last word of the other.
            (None, 0) => mapped(last_word(&s.rcv6)),
            (Some(ip), INP_IPV6) if s.bsd & INP_IPV6 == 0 => {
                let mut addr = [0; 16];
                let [.., a, b, c, d] = &mut addr;
                [*a, *b, *c, *d] = ip.to_be_bytes();
                addr
            }
            _ => s.rcv6,
        };
        self.edit(id, |s| s.set_vflag(vflag));
        if addr != s.rcv6 {
            self.update_saddr(id, addr);
        }
    }

    /// `tcp6_usr_bind`, `udp6_bind`
    pub(super) fn bsd_inet6_bind(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let stream = s.kind.ty == ty::STREAM;
        let inet6 = family_of(addr) == af::INET6;
        let whole = addr.len() == SIN6_LEN;
        let ip = ip6_of(addr);
        let port = port_of(addr);
        if quirks::looks_at_family(self.host.generation) {
            if over(&s) {
                return cx.fail(Step::BsdDropped, Errno::EINVAL);
            }
            if !inet6 {
                return cx.fail(Step::Bsd6Family, Errno::EAFNOSUPPORT);
            }
            if !whole {
                return cx.fail(Step::Bsd6Length, Errno::EINVAL);
            }
            if stream && ip[0] == 0xff {
                return cx.fail(Step::BsdMulticast, Errno::EAFNOSUPPORT);
            }
        } else if stream {
            if !whole {
                return cx.fail(Step::Bsd6Length, Errno::EINVAL);
            }
            if inet6 && ip[0] == 0xff {
                return cx.fail(Step::BsdMulticast, Errno::EAFNOSUPPORT);
            }
            if over(&s) {
                return cx.fail(Step::BsdDropped, Errno::EINVAL);
            }
        } else if !s.v6only() && addr.len() < SIN6_LEN - 4 {
            // udp6_bind reads the address behind the end of what it was given.
            return cx.unknown(Step::BsdNotGiven);
        }
        if let Some(v4) = unmapped(&ip).filter(|_| !s.v6only()) {
            let sin = Sin::of_mapped(v4, port);
            // Not looked at in 9.1.
            let looks = quirks::looks_at_family(self.host.generation);
            if stream && looks && sin.is_multicast() {
                return cx.fail(Step::BsdMulticast, Errno::EAFNOSUPPORT);
            }
            self.keeps_vflag(id, INP_IPV4);
            return self.in_pcbbind(id, sin, cred, cx);
        }
        self.keeps_vflag(id, vflag6(&s, &ip));
        self.in6_pcbbind(id, addr, cred, cx)
    }

    /// `in6_pcbbind`
    fn in6_pcbbind(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        if quirks::needs_an_address(self.host.generation) && self.lacks_an_address(true) {
            return cx.fail(Step::Bsd6NoAddress, Errno::EADDRNOTAVAIL);
        }
        if lport(&s) != 0 || (s.bsd & INP_IPV6 != 0 && s.rcv6 != [0; 16]) {
            return cx.fail(Step::BsdBound, Errno::EINVAL);
        }
        if addr.len() != SIN6_LEN {
            return cx.fail(Step::Bsd6Length, Errno::EINVAL);
        }
        if family_of(addr) != af::INET6 {
            return cx.fail(Step::Bsd6Family, Errno::EAFNOSUPPORT);
        }
        let port = port_of(addr);
        let sin6 = self.sa6_embedscope(addr, cx)?;
        let vflag = vflag6(&s, &sin6.ip);
        let ip = self.prison_local_ip6(sin6.ip, s.v6only(), cred, cx)?;
        let multicast = ip[0] == 0xff;
        if ip != [0; 16] && !multicast {
            let found = self.ifa_ifwithaddr6(&Sin6 { ip, ..sin6 });
            if found.is_none() && !s.bindany() {
                return cx.fail(Step::BsdNotLocal, Errno::EADDRNOTAVAIL);
            }
            if found == Some(Tentative(true)) {
                return cx.fail(Step::BsdNotReady, Errno::EADDRNOTAVAIL);
            }
        }
        self.reserved(port, cred, cx)?;
        let asker = self.asker(id, ip, vflag, cred);
        if port != 0 {
            self.in_pcbbind_avail(id, &asker, port, multicast, cx)?;
        }
        let bound = Bound {
            addr: ip,
            port,
            vflag,
        };
        self.in_pcbinshash(id, &bound, cred, cx)
    }

    /// `sa6_embedscope`: the zone of an address of link or interface scope
    /// becomes a part of it.
    pub(super) fn sa6_embedscope(&self, addr: &[u8], cx: &mut Ctx) -> Result<Sin6, No> {
        let word = |at: usize| {
            let bytes = addr.get(at..at + 4).and_then(|b| b.try_into().ok());
            u32::from_ne_bytes(bytes.unwrap_or([0; 4]))
        };
        let mut ip = ip6_of(addr);
        let zone = word(24);
        let narrow = needs_scope(&ip);
        if narrow && zone != 0 {
            if !self.host.has_device(zone) {
                return cx.fail(Step::Bsd6Scope, Errno::ENXIO);
            }
            [ip[2], ip[3]] = (zone as u16).to_be_bytes();
        }
        Ok(Sin6 {
            ip,
            // ifa_ifwithaddr compares all of the structure.
            odd: (zone != 0 && !narrow) || word(4) != 0,
        })
    }

    /// `ifa_ifwithaddr`
    pub(super) fn ifa_ifwithaddr6(&self, sin6: &Sin6) -> Option<Tentative> {
        let mut own = self.host.v6.as_slice().iter();
        let found = own.find(|a| !sin6.odd && embedded(&a.addr, a.dev) == sin6.ip);
        found.map(|a| Tentative(a.tentative))
    }

    /// Does `in_pcb_lport_dest` pass the port by for this asker
    /// ([`Asker::in_general_on_freebsd`])?
    pub(in crate::model) fn in_pcb_lport_closed(&self, a: &Asker, port: u16) -> bool {
        let view = if a.is_v6() {
            View::Six(a.rcv6)
        } else {
            View::Four(a.rcv4)
        };
        let owned = |view| self.in_pcblookup_local(a, port, view, !a.reuse()).is_some();
        let dual =
            a.is_v6() && !a.v6only() && quirks::automatic_ports_of_both(self.host.generation);
        owned(view) || (dual && owned(View::Four(0)))
    }

    /// The range that automatic ports are taken from.
    pub(super) fn port_range(&self, s: &Sock, cred: &Cred, cx: &mut Ctx) -> Result<(u16, u16), No> {
        let sysctl = &self.host.sysctl;
        let (a, b) = match PortRange::of(s.bsd_range) {
            PortRange::Default => sysctl.first_and_last(),
            PortRange::High => sysctl.high_ports,
            PortRange::Low => {
                if cred.uid != 0 {
                    return cx.fail(Step::BsdLowPerm, Errno::EPERM);
                }
                sysctl.low_ports
            }
        };
        // in_pcb_lport_dest: either may be the smaller one.
        let (first, last) = (a.min(b), a.max(b));
        // arc4random() % (last - first)
        if first == last && quirks::one_port_panics(self.host.generation) {
            return cx.unknown(Step::BsdOnePort);
        }
        Ok((first, last))
    }

    /// `in_pcb_lport_dest`: an automatic port for an address.
    pub(super) fn in_pcb_lport(
        &mut self,
        id: SockId,
        asker: &Asker,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<u16, No> {
        let s = self.get(id);
        let (first, last) = self.port_range(s, cred, cx)?;
        let asker = asker.in_general_on_freebsd(options(s) != 0);
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
        let start = start(cx.pick, first, last);
        let found = next(start, last)
            .or_else(|| start.checked_sub(1).and_then(|before| next(first, before)));
        let Some(port) = found else {
            return cx.fail(Step::BsdNoPort, Errno::EADDRNOTAVAIL);
        };
        cx.pass(Step::BsdAuto);
        Ok(port)
    }
}

/// Where the search for an automatic port begins: behind a port drawn from all
/// but the last, so never with the first.
pub(super) fn start(pick: Pick, first: u16, last: u16) -> u16 {
    let draws = u32::from(last.saturating_sub(first)).max(1);
    let drawn = match pick {
        Pick::Random(r) => r % draws,
        // The one before it; the last one of all for the first.
        Pick::Observed(Some(p)) => p
            .checked_sub(u32::from(first) + 1)
            .map_or(draws - 1, |before| before % draws),
        Pick::Observed(None) => 0,
    };
    last.min((u32::from(first) + 1 + drawn) as u16)
}

/// An IPv6 address with its zone in it, and whether anything else in its
/// structure keeps it from being found.
#[derive(Clone, Copy)]
pub(super) struct Sin6 {
    pub ip: [u8; 16],
    odd: bool,
}

/// An address that is an interface's: `IN6_IFF_NOTREADY`?
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Tentative(pub bool);

/// `in6_setscope`
fn embedded(ip: &[u8; 16], dev: u32) -> [u8; 16] {
    let mut ip = *ip;
    if needs_scope(&ip) {
        [ip[2], ip[3]] = (dev as u16).to_be_bytes();
    }
    ip
}

fn last_word(ip: &[u8; 16]) -> u32 {
    let [.., a, b, c, d] = *ip;
    u32::from_be_bytes([a, b, c, d])
}

/// Its connection was dropped, or is in `INP_TIMEWAIT` (9.1).
pub(super) fn over(s: &Sock) -> bool {
    s.dropped() || s.state == State::TimeWait
}
