//! Where a packet to an address goes, and from which address: what connect(2)
//! asks before it looks at ports.

use super::inet::{is_multicast, needs_scope};
use crate::model::Errno;
use crate::model::host::{AddrType, Host};
use crate::model::net::{LOOPBACK6, Sock, mapped, unmapped};

/// `INADDR_LOOPBACK`
pub(super) const LOOPBACK4: u32 = 0x7f00_0001;

/// How far the packet comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Back to this host, by the device that has the address; 0 where nobody
    /// knows which.
    Here(u32),
    /// Out of it, or nowhere.
    Away,
    /// To everybody, or to a group.
    Many(AddrType),
}

/// What a look for a route gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flow {
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub way: Way,
}

/// Why there is none: an error, or nobody can know.
pub(super) type Unrouted = Option<Errno>;

fn is_lbcast(a: u32) -> bool {
    a == u32::MAX
}

fn is_multicast4(a: u32) -> bool {
    a >> 28 == 0xe
}

/// `inet_select_addr`: the first address of the device, else of another one;
/// those of 127.0.0.0/8 are the host's own (`RT_SCOPE_HOST`).
fn inet_select_addr(host: &Host, dev: u32, of_host: bool) -> u32 {
    let wide = |a: u32| of_host || a >> 24 != 127;
    let all = || host.v4.as_slice().iter().filter(|a| wide(a.addr));
    let own = all().find(|a| a.dev == dev);
    own.or_else(|| all().next()).map_or(0, |a| a.addr)
}

/// `ip_route_connect`: once more with the addresses that the first look gave.
pub(super) fn ip_route_connect(
    host: &Host,
    saddr: u32,
    daddr: u32,
    oif: u32,
    any_src: bool,
) -> Result<Flow, Unrouted> {
    let flow = ip_route_output(host, saddr, daddr, oif, any_src)?;
    if saddr != 0 && daddr != 0 {
        return Ok(flow);
    }
    let four = |a: &[u8; 16]| unmapped(a).unwrap_or(0);
    ip_route_output(host, four(&flow.src), four(&flow.dst), oif, any_src)
}

/// `ip_route_output_key_hash_rcu`: `saddr` is 0 if the route is to choose it;
/// `any_src` is `FLOWI_FLAG_ANYSRC`.
fn ip_route_output(
    host: &Host,
    saddr: u32,
    daddr: u32,
    oif: u32,
    any_src: bool,
) -> Result<Flow, Unrouted> {
    let (mut saddr, mut daddr, mut oif) = (saddr, daddr, oif);
    let flow = |saddr, daddr, dev, way| mkroute_output(host, saddr, daddr, dev, way);
    let lbcast = is_lbcast(daddr);
    let kind = if lbcast {
        AddrType::Broadcast
    } else {
        AddrType::Multicast
    };
    if saddr != 0 {
        if is_multicast4(saddr) || is_lbcast(saddr) {
            return Err(Some(Errno::EINVAL));
        }
        let own = host.local_table(saddr, 0);
        let own = own.filter(|f| f.kind == AddrType::Local);
        if oif == 0 && (is_multicast4(daddr) || lbcast) {
            // The device that has the address: ip_dev_find.
            let Some(own) = own else {
                return Err(Some(Errno::ENETUNREACH));
            };
            return flow(saddr, daddr, own.dev, Way::Many(kind));
        }
        if !any_src && own.is_none() {
            return Err(Some(Errno::ENETUNREACH));
        }
    }
    if oif != 0 {
        if !host.has_device(oif) {
            return Err(Some(Errno::ENODEV));
        }
        if daddr >> 8 == 0x00e0_0000 || lbcast {
            if saddr == 0 {
                saddr = inet_select_addr(host, oif, false);
            }
            return flow(saddr, daddr, oif, Way::Many(kind));
        }
        if saddr == 0 && (daddr == 0 || is_multicast4(daddr)) {
            saddr = inet_select_addr(host, oif, daddr == 0);
        }
    }
    if daddr == 0 {
        // 0.0.0.0 is where it comes from.
        daddr = if saddr == 0 { LOOPBACK4 } else { saddr };
        let lo = host.devices.as_slice().iter().find(|d| d.loopback);
        oif = lo.map_or(0, |d| d.index);
        saddr = daddr;
        let dev = host.local_table(daddr, 0).map_or(oif, |f| f.dev);
        return flow(saddr, daddr, oif, Way::Here(dev));
    }
    let listed = if is_multicast4(daddr) || lbcast {
        None
    } else {
        host.local_table(daddr, oif)
    };
    if let Some(found) = listed {
        if saddr == 0 {
            saddr = match found.kind {
                AddrType::Local if daddr >> 24 == 127 => LOOPBACK4,
                AddrType::Local if !host.is_loopback(found.dev) => daddr,
                _ => found.src,
            };
        }
        let (dev, way) = match found.kind {
            // By the loopback device.
            AddrType::Local => (0, Way::Here(found.dev)),
            kind => (found.dev, Way::Many(kind)),
        };
        return flow(saddr, daddr, dev, way);
    }
    if !host.has_routes && oif == 0 {
        return Err(None);
    }
    let dev = match host.main_table(&mapped(daddr), oif) {
        Some(route) => {
            if saddr == 0 {
                let src = unmapped(&route.src).unwrap_or(0);
                saddr = match src {
                    0 => inet_select_addr(host, route.dev, false),
                    src => src,
                };
            }
            route.dev
        }
        // "Apparently, routing tables are wrong. Assume, that the destination
        // is on link."
        None if oif != 0 => {
            if saddr == 0 {
                saddr = inet_select_addr(host, oif, false);
            }
            oif
        }
        None => return Err(Some(Errno::ENETUNREACH)),
    };
    let way = match () {
        () if is_multicast4(daddr) || lbcast => Way::Many(kind),
        // On the loopback device such a packet comes back, perhaps to somebody.
        () if host.is_loopback(dev) && host.addr_type(daddr) == AddrType::Local => {
            return Err(None);
        }
        () => Way::Away,
    };
    flow(saddr, daddr, dev, way)
}

/// `__mkroute_output`: nothing of 127.0.0.0/8 leaves by another device than
/// the loopback one; `dev` is 0 for that.
fn mkroute_output(
    host: &Host,
    saddr: u32,
    daddr: u32,
    dev: u32,
    way: Way,
) -> Result<Flow, Unrouted> {
    if saddr >> 24 == 127 && dev != 0 && !host.is_loopback(dev) {
        return Err(Some(Errno::EINVAL));
    }
    Ok(Flow {
        src: mapped(saddr),
        dst: mapped(daddr),
        way,
    })
}

/// `ip6_route_output` with `ip6_dst_lookup_tail`: `saddr` is all zero if the
/// route is to choose it.
pub(super) fn ip6_dst_lookup(
    host: &Host,
    saddr: [u8; 16],
    daddr: [u8; 16],
    oif: u32,
) -> Result<Flow, Unrouted> {
    let unreachable = Err(Some(Errno::ENETUNREACH));
    let none = saddr == [0; 16];
    let own = host
        .v6
        .as_slice()
        .iter()
        .find(|a| a.addr == daddr && !a.tentative && (oif == 0 || oif == a.dev));
    let (dev, way) = if let Some(own) = own {
        (own.dev, Way::Here(own.dev))
    } else if is_multicast(&daddr) {
        let mut able = host.devices.as_slice().iter().filter(|d| {
            let speaks = host.v6.as_slice().iter().any(|a| a.dev == d.index);
            !d.loopback && speaks && (oif == 0 || oif == d.index)
        });
        match (able.next(), able.next()) {
            (Some(d), None) => (d.index, Way::Many(AddrType::Multicast)),
            // Of several devices the kernel takes the one of its choice.
            (Some(_), Some(_)) => return Err(None),
            (None, _) if !host.has_routes => return Err(None),
            (None, _) => return unreachable,
        }
    } else if needs_scope(&daddr) {
        let mut all = host.v6.as_slice().iter();
        let speaks = all.any(|a| a.dev == oif && needs_scope(&a.addr));
        if !speaks {
            return unreachable;
        }
        (oif, Way::Away)
    } else if daddr == LOOPBACK6 {
        return unreachable;
    } else {
        if !host.has_routes {
            return Err(None);
        }
        match host.main_table(&daddr, oif) {
            Some(route) => (route.dev, Way::Away),
            None => return unreachable,
        }
    };
    let src = match host.main_table(&daddr, dev) {
        _ if !none => saddr,
        Some(route) if way == Way::Away && route.src != [0; 16] => route.src,
        _ => ipv6_dev_get_saddr(host, dev, &daddr)?,
    };
    if unmapped(&src).is_some() {
        return Err(Some(Errno::EAFNOSUPPORT));
    }
    Ok(Flow {
        src,
        dst: daddr,
        way,
    })
}

/// `__ipv6_addr_src_scope`
fn scope(a: &[u8; 16]) -> i32 {
    match a {
        [0xff, flags, ..] => i32::from(flags & 0xf),
        [0xfe, second, ..] if second & 0xc0 == 0x80 => 2,
        [0xfe, second, ..] if second & 0xc0 == 0xc0 => 5,
        a if *a == LOOPBACK6 => 2,
        _ => 14,
    }
}

/// `ip6addrlbl_init_table`
fn label(a: &[u8; 16]) -> u32 {
    match a {
        a if *a == LOOPBACK6 => 0,
        [0xfc | 0xfd, ..] => 5,
        [0xfe, second, ..] if second & 0xc0 == 0xc0 => 11,
        [0x20, 0x02, ..] => 2,
        [0x3f, 0xfe, ..] => 12,
        [0x20, 0x01, 0, 0, ..] => 6,
        [0x20, 0x01, 0, third, ..] if third & 0xf0 == 0x10 => 7,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ..] => 3,
        _ => 1,
    }
}

/// `ipv6_dev_get_saddr`: the rules that addresses alone decide (1, 2, 5, 6 and
/// 8).
fn ipv6_dev_get_saddr(host: &Host, dev: u32, daddr: &[u8; 16]) -> Result<[u8; 16], Unrouted> {
    let wanted = scope(daddr);
    let only_dev = is_multicast(daddr) || wanted <= 2;
    let score = |addr: &[u8; 16], of: u32| {
        let has = scope(addr);
        let fits = if has >= wanted { -has } else { has - 128 };
        let differ = u128::from_be_bytes(*addr) ^ u128::from_be_bytes(*daddr);
        // No longer than the address's own network, which is of 64 bits.
        let common = differ.leading_zeros().min(64);
        (
            addr == daddr,
            fits,
            of == dev,
            label(addr) == label(daddr),
            common,
        )
    };
    let mut best = None;
    let mut tie = false;
    for a in host.v6.as_slice() {
        if a.tentative || (only_dev && a.dev != dev) {
            continue;
        }
        let this = score(&a.addr, a.dev);
        match best {
            Some((b, _)) if b > this => {}
            Some((b, _)) if b == this => tie = true,
            _ => (best, tie) = (Some((this, a.addr)), false),
        }
    }
    match best {
        // The one that was added last.
        Some(_) if tie => Err(None),
        Some((_, addr)) => Ok(addr),
        None => Err(Some(Errno::EADDRNOTAVAIL)),
    }
}

impl Sock {
    /// `inet_saddr`: the source that bind() or connect() has fixed. A group's
    /// or everybody's address is none (`__inet_bind`; `__inet6_bind` keeps it).
    pub(super) fn saddr4(&self, host: &Host) -> u32 {
        match host.addr_type(self.rcv4) {
            AddrType::Broadcast | AddrType::Multicast if !self.is_v6() => 0,
            _ => self.rcv4,
        }
    }
}
