//! UDP's bind table: `udp_lib_get_port`.

use super::tcp::{devices_meet, inet_rcv_saddr_equal};
use crate::model::net::{Ctx, MAPPED_ANY, Net, Sock, SockId, Table};
use crate::model::step::Step;
use crate::model::{Errno, Pick};

/// Sockets on a hash slot above which a specific address looks only at its
/// own and the wildcard's chain.
const MANY: u32 = 10;
/// Slots of the kernel's table: ports that share one are this far apart.
const SLOTS: u32 = 16384;

enum Met {
    Nothing,
    Shares,
    Conflict(SockId),
}

/// Does the owner stand in the way of `s`, if their options do not agree?
fn meets(s: &Sock, o: &Sock) -> bool {
    (s.reuse == 0 || o.reuse == 0) && devices_meet(s, o) && inet_rcv_saddr_equal(s, o)
}

fn shares(s: &Sock, o: &Sock) -> bool {
    s.reuseport && o.reuseport && !s.group && s.uid == o.uid
}

fn first_met<'a>(
    id: SockId,
    s: &Sock,
    mut owners: impl Iterator<Item = (SockId, &'a Sock)>,
) -> Met {
    match owners.find(|(o, sock)| *o != id && meets(s, sock)) {
        None => Met::Nothing,
        Some((_, o)) if shares(s, o) => Met::Shares,
        Some((o, _)) => Met::Conflict(o),
    }
}

impl Net<'_> {
    /// `udp_lib_get_port`
    pub(super) fn udp_lib_get_port(
        &mut self,
        id: SockId,
        snum: u16,
        cx: &mut Ctx,
    ) -> Result<(), Errno> {
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
        self.edit(id, |s| {
            s.num = u32::from(port);
            s.group |= s.reuseport;
        });
        self.inet_bind_hash(id);
        Ok(())
    }

    fn udp_check(&self, id: SockId, port: u16, cx: &mut Ctx) -> Result<(), Errno> {
        let s = self.get(id);
        let port = u32::from(port);
        if self.bucket(s.table, port).count == 0 {
            cx.pass(Step::UdpNobody);
            return Ok(());
        }
        let on_slot: u32 = (0..4)
            .map(|k| self.bucket(s.table, (port + k * SLOTS) & 0xffff).count)
            .sum();
        let (met, busy, shared) = if on_slot > MANY && s.is_specific() {
            (
                self.udp_lib_lport_inuse2(id, s, port),
                Step::UdpInuse2,
                Step::UdpShared2,
            )
        } else {
            (
                first_met(id, s, self.owners(s.table, port)),
                Step::UdpInuse,
                Step::UdpShared,
            )
        };
        match met {
            Met::Conflict(holder) => {
                cx.holder = Some(holder);
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

    /// `udp_lib_lport_inuse2` for the own address, then for the wildcards.
    /// IPv4's and IPv6's wildcard share a chain.
    fn udp_lib_lport_inuse2(&self, id: SockId, s: &Sock, port: u32) -> Met {
        let own = first_met(id, s, self.at_addr(s.table, port, s.rcv6));
        if let Met::Conflict(_) = own {
            return own;
        }
        let wild = first_met(
            id,
            s,
            self.owners(s.table, port)
                .filter(|(_, o)| o.rcv6 == [0; 16] || o.rcv6 == MAPPED_ANY),
        );
        match (wild, own) {
            (Met::Nothing, own) => own,
            (wild, _) => wild,
        }
    }

    /// May the kernel choose this port? Every owner counts, not the first.
    fn udp_open(&self, id: SockId, port: u16) -> bool {
        let s = self.get(id);
        !self.core.host.sysctl.is_reserved(port)
            && !self
                .owners(s.table, u32::from(port))
                .any(|(o, sock)| o != id && meets(s, sock) && !shares(s, sock))
    }

    fn udp_auto(&self, id: SockId, cx: &Ctx) -> Option<u16> {
        let (lo, hi) = self.inet_sk_get_local_port_range(id);
        let n = u32::from(hi) - u32::from(lo) + 1;
        let start = match cx.pick {
            Pick::Random(r) => (u32::from(lo) + r % n) as u16,
            Pick::Observed(port) => {
                if let Some(port) = port.and_then(|p| u16::try_from(p).ok())
                    && lo <= port
                    && port <= hi
                    && self.udp_open(id, port)
                {
                    return Some(port);
                }
                lo
            }
        };
        let table = if self.get(id).table == Table::Udp {
            1
        } else {
            2
        };
        if let Some(map) = self.core.taken.get(table) {
            let odd = start & 1 == 1;
            for (parity, from) in [(odd, start), (!odd, start), (odd, lo), (!odd, lo)] {
                if let Some(port) = map.next_free(from, hi, parity)
                    && !self.core.host.sysctl.is_reserved(port)
                {
                    return Some(port);
                }
            }
        }
        (0..n)
            .map(|i| (u32::from(lo) + (u32::from(start - lo) + i) % n) as u16)
            .find(|&port| self.udp_open(id, port))
    }

    /// `udp_lib_unhash`: leaves the table and the reuseport group.
    pub(super) fn udp_lib_unhash(&mut self, id: SockId) {
        self.inet_put_port(id);
        self.edit(id, |s| s.group = false);
    }
}
