//! UDP's bind table: `udp_lib_get_port`.

use super::quirks;
use super::tcp::inet_rcv_saddr_equal;
use crate::model::net::{
    ALL, Asker, Classes, Ctx, MAPPED_ANY, NAMED, Net, REUSE, REUSEPORT, Scope, Sock, SockId,
    V6ONLY, each, meet,
};
use crate::model::step::Step;
use crate::model::{Errno, No, Pick};

/// Sockets on a hash slot above which a specific address looks only at its
/// own and the wildcard's chain (until 7.0 the wildcard at its own as well).
const MANY: u32 = 10;
/// Slots of the kernel's table: ports that share one are this far apart.
const SLOTS: u32 = 16384;

/// What the first owner in the way says.
enum Met {
    Nothing,
    Shares,
    Conflict(Option<SockId>),
}

/// Does the owner stand in the way of `s`, if their options do not agree?
pub(super) fn meets(s: &Asker, o: &Sock) -> bool {
    (!s.reuse() || o.reuse == 0) && meet(s.dev, o.dev) && inet_rcv_saddr_equal(s, o)
}

pub(super) fn shares(s: &Asker, o: &Sock) -> bool {
    s.may_reuseport() && o.reuseport() && s.uid == o.uid
}

fn first_met<'a>(s: &Asker, mut owners: impl Iterator<Item = (SockId, &'a Sock)>) -> Met {
    match owners.find(|(o, sock)| !s.is(*o) && meets(s, sock)) {
        None => Met::Nothing,
        Some((_, o)) if shares(s, o) => Met::Shares,
        Some((o, _)) => Met::Conflict(Some(o)),
    }
}

/// How many owners of some scopes stand in the way if options do not agree,
/// and how many of these share by `SO_REUSEPORT`.
#[derive(Default, Clone, Copy)]
struct Weight {
    met: u32,
    sharing: u32,
}

impl Net<'_> {
    /// `udp_lib_get_port`
    pub(super) fn udp_lib_get_port(
        &mut self,
        id: SockId,
        snum: u16,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let port = if snum == 0 {
            let Some(port) = self.udp_auto(id, cx) else {
                return cx.fail(Step::UdpExhausted, Errno::EADDRINUSE);
            };
            cx.pass(Step::UdpAuto);
            port
        } else {
            self.udp_check(id, snum, cx)?;
            snum
        };
        self.edit(id, |s| s.num = u32::from(port));
        self.reuseport_add_sock(id, |_| true);
        self.inet_bind_hash(id);
        Ok(())
    }

    /// The owners of a scope that meet the asker, by their classes.
    fn udp_weigh(&self, scope: Scope, within: Classes, s: &Asker, port: u32) -> Weight {
        let sum = self.summary(scope);
        let agreed = if s.reuse() { REUSE } else { 0 };
        let mut weight = Weight::default();
        for class in each(sum.present() & within & !agreed) {
            let (n, same) = self.tally(scope, &sum, class, s, port);
            weight.met = weight.met.saturating_add(n);
            if s.may_reuseport() && class.bit() & REUSEPORT != 0 {
                weight.sharing = weight.sharing.saturating_add(same);
            }
        }
        weight
    }

    /// The first owner in the way, in the kernel's order. That order decides
    /// only where some of those in the way share and others do not.
    fn udp_first_met<'a, I: Iterator<Item = (SockId, &'a Sock)>>(
        &'a self,
        s: &Asker,
        weight: Weight,
        owners: impl Fn() -> I,
    ) -> Met {
        if weight.met == 0 {
            Met::Nothing
        } else if weight.met == weight.sharing {
            Met::Shares
        // mutants: faster: nobody shares, so whoever is first stands in the way
        } else if weight.sharing == 0 {
            // mutants: holder: no more is asked
            match first_met(s, owners().take(NAMED)) {
                Met::Conflict(holder) => Met::Conflict(holder),
                _ => Met::Conflict(None),
            }
        } else {
            first_met(s, owners())
        }
    }

    fn udp_check(&self, id: SockId, port: u16, cx: &mut Ctx) -> Result<(), No> {
        let s = self.get(id);
        let table = s.table;
        let port = u32::from(port);
        if self.bucket(table, port).count == 0 {
            cx.pass(Step::UdpNobody);
            return Ok(());
        }
        let asker = Asker::of(id, s);
        let on_slot: u32 = (0..4)
            .map(|k| self.bucket(table, (port + k * SLOTS) & 0xffff).count)
            .fold(0, u32::saturating_add);
        let specific = asker.is_specific();
        let by_address = specific || quirks::udp_wildcard_by_address(self.host.generation);
        let (met, busy, shared) = if on_slot > MANY && by_address {
            (
                self.udp_lib_lport_inuse2(&asker, port),
                Step::UdpInuse2,
                Step::UdpShared2,
            )
        } else {
            let owners = || self.owners(table, port);
            let met = if specific {
                first_met(&asker, owners())
            } else {
                let scope = Self::port_scope(table, port);
                let weight = self.udp_weigh(scope, asker.overlapped(), &asker, port);
                self.udp_first_met(&asker, weight, owners)
            };
            (met, Step::UdpInuse, Step::UdpShared)
        };
        match met {
            Met::Conflict(holder) => {
                cx.holder = holder;
                cx.fail(busy, Errno::EADDRINUSE)
            }
            Met::Shares => {
                cx.pass(Step::UdpReuseport);
                Ok(())
            }
            Met::Nothing => {
                cx.pass(shared);
                Ok(())
            }
        }
    }

    /// The owners at one address that meet an asker.
    fn udp_weigh_at(&self, s: &Asker, port: u32, addr: &[u8; 16]) -> Weight {
        let within = match () {
            () if !s.is_specific() => s.overlapped(),
            () if s.is_four() => ALL & !V6ONLY,
            () => ALL,
        };
        // IPv4's wildcard is nothing to a true IPv6 address.
        if s.is_specific() && !s.is_four() && *addr == MAPPED_ANY {
            return Weight::default();
        }
        self.group(s.table, port, addr)
            .map_or(Weight::default(), |g| {
                self.udp_weigh(Scope::Group(g), within, s, port)
            })
    }

    /// `udp_lib_lport_inuse2` for the own address, then for the wildcards.
    /// IPv4's and IPv6's wildcard share a chain.
    fn udp_lib_lport_inuse2(&self, s: &Asker, port: u32) -> Met {
        // mutants: generation: a wildcard asks this until 7.0
        let own = if s.is_specific() {
            self.udp_first_met(s, self.udp_weigh_at(s, port, &s.rcv6), || {
                self.at_addr(s.table, port, s.rcv6)
            })
        } else {
            Met::Nothing
        };
        if let Met::Conflict(_) = own {
            return own;
        }
        let wild = [[0; 16], MAPPED_ANY]
            .map(|any| self.udp_weigh_at(s, port, &any))
            .into_iter()
            .fold(Weight::default(), |a, b| Weight {
                met: a.met.saturating_add(b.met),
                sharing: a.sharing.saturating_add(b.sharing),
            });
        let wild = self.udp_first_met(s, wild, || {
            self.owners(s.table, port)
                .filter(|(_, o)| o.rcv6 == [0; 16] || o.rcv6 == MAPPED_ANY)
        });
        match (wild, own) {
            (Met::Nothing, own) => own,
            (wild, _) => wild,
        }
    }

    /// May the kernel not choose this port? Every owner counts, not the first.
    pub(super) fn udp_closed(&self, s: &Asker, port: u16) -> bool {
        let port = u32::from(port);
        if self.bucket(s.table, port).count == 0 {
            return false;
        }
        let refuses = |w: Weight| w.met > w.sharing;
        if s.is_specific() {
            [s.rcv6, [0; 16], MAPPED_ANY]
                .iter()
                .any(|addr| refuses(self.udp_weigh_at(s, port, addr)))
        } else {
            let scope = Self::port_scope(s.table, port);
            refuses(self.udp_weigh(scope, s.overlapped(), s, port))
        }
    }

    /// A port of the range that is open to the socket: any may be drawn.
    fn udp_auto(&mut self, id: SockId, cx: &Ctx) -> Option<u16> {
        let (lo, hi) = self.inet_sk_get_local_port_range(id);
        let n = u32::from(hi) - u32::from(lo) + 1;
        let asker = Asker::of(id, self.get(id)).in_general(true);
        let open = |net: &Self, port: u16| {
            !net.host.sysctl.is_reserved(port) && !net.udp_closed(&asker, port)
        };
        let start = match cx.pick {
            Pick::Random(r) => (u32::from(lo) + r % n) as u16,
            Pick::Observed(port) => {
                if let Some(port) = port.and_then(|p| u16::try_from(p).ok())
                    && lo <= port
                    && port <= hi
                    && open(self, port)
                {
                    return Some(port);
                }
                lo
            }
        };
        // From the start on, one parity, then the other, then below it.
        let runs = |find: &dyn Fn(u16) -> Option<u16>| {
            [
                Some(start),
                start.checked_add(1),
                Some(lo),
                lo.checked_add(1),
            ]
            .into_iter()
            .flatten()
            .filter(|from| *from <= hi)
            .find_map(find)
        };
        let view = self.cheap_view(&asker, false);
        // mutants: faster: a port that nobody has, or a map of closed ones
        if view.is_none()
            && let Some(port) = runs(&|from| self.unowned(asker.table, from, hi))
        {
            return Some(port);
        }
        let view = view.unwrap_or_else(|| self.view(&asker, false));
        runs(&|from| self.free_in(self.closed(view), from, hi))
    }

    /// `udp_lib_unhash`: leaves the table and the reuseport group.
    pub(super) fn udp_lib_unhash(&mut self, id: SockId) {
        if self.get(id).hashed() {
            self.inet_put_port(id);
            self.edit(id, |s| s.set_group(false));
        }
    }
}
