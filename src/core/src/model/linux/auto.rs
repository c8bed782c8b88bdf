//! Automatic TCP ports: `inet_csk_find_open_port`.
//!
//! The kernel draws an offset and takes the first open port from there, odd
//! offsets first, then even ones; with `SO_REUSEADDR` first in the lower half
//! of the range. In a range with an odd number of ports the even stage misses
//! one port, which one depends on the draw. So a choice can be judged without
//! knowing the draw: [`Segment::judge`].

use super::quirks;
use super::tcp::Look;
use crate::model::Pick;
use crate::model::net::{Asker, Ctx, Net, PortMap, SockId, Table};
use crate::model::step::Step;

/// A run of ports that one draw is for: `lo ..= lo + n - 1`.
#[derive(Clone, Copy)]
struct Segment {
    lo: u16,
    n: u32,
}

/// What may come of one draw.
struct Judged {
    /// The port asked about can be the first open one.
    possible: bool,
    /// The draw may find nothing.
    may_fail: bool,
}

impl Segment {
    fn port(self, offset: u32) -> u16 {
        (u32::from(self.lo) + offset) as u16
    }

    fn offset(self, port: u16) -> Option<u32> {
        let offset = u32::from(port).checked_sub(u32::from(self.lo))?;
        (offset < self.n).then_some(offset)
    }

    /// Offsets of the two stages that some draw reaches.
    fn stages(self) -> [(u32, u32); 2] {
        let even = self.n & !1;
        // First offset and end; in steps of two.
        match self.n {
            1 => [(0, 1), (0, 0)],
            3 => [(1, 2), (0, 2)],
            n => [(1, even), (0, n)],
        }
    }

    /// The first open offset of `from`, `from + 2`, … below `end`.
    fn next(self, from: u32, end: u32, open: &Open<'_, '_>) -> Option<u32> {
        let last = end.checked_sub(1).filter(|last| *last >= from)?;
        let port = open.next(self.port(from), self.port(last))?;
        self.offset(port)
    }

    /// Can `port` be the answer, can there be none, over all draws?
    fn judge(self, port: Option<u16>, open: &Open<'_, '_>) -> Judged {
        let offset = port.and_then(|p| self.offset(p));
        let at = |offset| open.at(self.port(offset));
        let [(a, a_end), (b, b_end)] = self.stages();
        if let Some(o) = offset
            && (o & 1 == 1 || self.n == 1)
            && o < a_end
            && at(o)
        {
            return Judged {
                possible: true,
                may_fail: false,
            };
        }
        if self.next(a, a_end, open).is_some() {
            return Judged {
                possible: false,
                may_fail: false,
            };
        }
        if self.n < 5 || self.n & 1 == 0 {
            let asked = offset.is_some_and(|o| o & 1 == b & 1 && (b..b_end).contains(&o));
            return Judged {
                possible: asked && offset.is_some_and(at),
                may_fail: self.next(b, b_end, open).is_none(),
            };
        }
        // Odd n: a draw of 1 misses the last port, every other the first.
        let last = self.n - 1;
        let possible = match offset {
            Some(o) if o == last => at(last) && !at(last - 2),
            Some(o) if o & 1 == 0 => at(o),
            _ => false,
        };
        Judged {
            possible,
            may_fail: self.next(2, last, open).is_none() && !(at(0) && at(last)),
        }
    }

    /// The kernel's own walk for the draw `r`.
    fn walk(self, r: u32, open: &Open<'_, '_>) -> Option<u16> {
        let n = self.n;
        let next = |from, end| self.next(from, end, open);
        if n < 2 {
            return next(0, n).map(|o| self.port(o));
        }
        let even = n & !1;
        let odd = (r % even) | 1;
        let start = odd - 1;
        next(odd, even)
            .or_else(|| next(1, odd))
            .or_else(|| match (n & 1, start) {
                (0, _) => next(start, n).or_else(|| next(0, start)),
                (_, 0) => next(0, n - 2),
                _ => next(start, n).or_else(|| next(2, start)),
            })
            .map(|o| self.port(o))
    }
}

/// Ranges up to this many ports are asked about port by port.
const SHORT: u32 = 32;
/// Ports that are tried one by one before the tables are searched.
const TRIES: usize = 4;

/// Which ports are open to an asker.
struct Open<'n, 'm> {
    net: &'n Net<'m>,
    asker: &'n Asker,
    relax: bool,
    /// Its map of closed ports; without one every port is looked at.
    view: Option<usize>,
}

impl Open<'_, '_> {
    fn at(&self, port: u16) -> bool {
        !self.net.host.sysctl.is_reserved(port)
            && match self.view {
                Some(view) => !self.net.closed(view).has(port),
                None => !self.net.auto_closed(self.asker, port, self.relax),
            }
    }

    /// The first open one of `from`, `from + 2`, … up to `to`.
    fn next(&self, from: u16, to: u16) -> Option<u16> {
        match self.view {
            Some(view) => self.net.free_in(self.net.closed(view), from, to),
            None => (from..=to).step_by(2).find(|p| self.at(*p)),
        }
    }
}

impl Net<'_> {
    /// `inet_sk_get_local_port_range`: the namespace's, narrowed by the socket's.
    pub(super) fn inet_sk_get_local_port_range(&self, id: SockId) -> (u16, u16) {
        let (mut lo, mut hi) = self.host.sysctl.local_port_range;
        let [s_lo, s_hi] = self.get(id).range;
        if (s_lo, s_hi) != (0, 0) {
            if lo <= s_lo && s_lo <= hi {
                lo = s_lo;
            }
            if lo <= s_hi && s_hi <= hi {
                hi = s_hi;
            }
        }
        (lo, hi)
    }

    /// Does an owner keep the asker from getting this port automatically?
    pub(in crate::model) fn auto_closed(&self, asker: &Asker, port: u16, relax: bool) -> bool {
        if self.host.generation.is_freebsd() {
            return self.in_pcb_lport_closed(asker, port);
        }
        if asker.table == Table::Tcp {
            let look = Look {
                relax,
                reuseport_ok: false,
            };
            self.inet_csk_bind_conflict(asker, port, look).is_some()
        } else {
            self.udp_closed(asker, port)
        }
    }

    /// The first port of `from`, `from + 2`, … up to `to` that is not in the
    /// map and not reserved.
    pub(super) fn free_in(&self, map: &PortMap, from: u16, to: u16) -> Option<u16> {
        let mut at = from;
        // One step for each reserved range at most.
        loop {
            let port = map.next_free(at, to, from & 1 == 1)?;
            match self.host.sysctl.reserved_until(port) {
                None => return Some(port),
                Some(last) => at = last.checked_add(1)?,
            }
        }
    }

    /// The first port of `from`, `from + 2`, … up to `to` that nobody has.
    pub(super) fn unowned(&self, table: Table, from: u16, to: u16) -> Option<u16> {
        let map = self.core.taken.get(usize::from(table.0))?;
        self.free_in(map, from, to)
    }

    /// `inet_csk_find_open_port`
    pub(super) fn inet_csk_find_open_port(&mut self, id: SockId, cx: &mut Ctx) -> Option<u16> {
        let (lo, hi) = self.inet_sk_get_local_port_range(id);
        let n = u32::from(hi) - u32::from(lo) + 1;
        let whole = [Segment { lo, n }, Segment { lo, n: 0 }];
        let halves = {
            let half = (n >> 2) << 1;
            [
                Segment { lo, n: half },
                Segment {
                    lo: (u32::from(lo) + half) as u16,
                    n: n - half,
                },
            ]
        };
        if !quirks::automatic_ports_are_shared(self.host.generation) {
            return self.find_unowned_port(lo, hi, cx.pick);
        }
        let s = self.get(id);
        let segments = if s.reuse == 1 && n >= 4 {
            halves
        } else {
            whole
        };
        let me = Asker::of(id, s);
        let scans = 1 + usize::from(self.host.sysctl.autobind_reuse);
        for relax in [false, true].into_iter().take(scans) {
            let asker = me.in_general(relax);
            if relax {
                cx.pass(Step::CskRelaxed);
            }
            // mutants: faster: a map of closed ports, or a look at each
            let mut view = (n > SHORT)
                .then(|| self.cheap_view(&asker, relax))
                .flatten();
            // mutants: faster: a map of closed ports, or a look at each
            if n > SHORT && view.is_none() {
                if !relax
                    && let [first, _] = segments
                    && let Some(port) = self.first_stage(first, &asker, cx.pick)
                {
                    return Some(port);
                }
                view = Some(self.view(&asker, relax));
            }
            let open = Open {
                net: self,
                asker: &asker,
                relax,
                view,
            };
            for seg in segments.into_iter().filter(|s| s.n > 0) {
                let asked = match cx.pick {
                    Pick::Random(r) => {
                        if let Some(port) = seg.walk(r, &open) {
                            return Some(port);
                        }
                        continue;
                    }
                    Pick::Observed(p) => p.and_then(|p| u16::try_from(p).ok()),
                };
                let judged = seg.judge(asked, &open);
                if judged.possible {
                    return asked;
                }
                if !judged.may_fail {
                    // The observed answer cannot be: answer for ourselves.
                    return seg.walk(0, &open);
                }
            }
        }
        None
    }

    /// `inet_csk_get_port` of old: from a random port on, the first that
    /// nobody has.
    // mutants: generation: until 4.6
    fn find_unowned_port(&self, lo: u16, hi: u16, pick: Pick) -> Option<u16> {
        let n = u32::from(hi) - u32::from(lo) + 1;
        let unowned = |from, to| {
            let next = |from| self.unowned(Table::Tcp, from, to);
            // The nearer one of either parity.
            let other = u16::checked_add(from, 1).filter(|f| *f <= to);
            next(from).into_iter().chain(other.and_then(next)).min()
        };
        let from = match pick {
            Pick::Random(r) => (u32::from(lo) + r % n) as u16,
            Pick::Observed(port) => port
                .and_then(|p| u16::try_from(p).ok())
                .filter(|p| (lo..=hi).contains(p))
                .unwrap_or(lo),
        };
        unowned(from, hi).or_else(|| unowned(lo, from))
    }

    /// A port of the first stage, which any draw may reach, found without a
    /// view: as long as there are such ports with few owners or none.
    fn first_stage(&self, seg: Segment, asker: &Asker, pick: Pick) -> Option<u16> {
        let end = seg.n & !1;
        let open = Open {
            net: self,
            asker,
            relax: false,
            view: None,
        };
        let from = match pick {
            Pick::Observed(port) => {
                let asked = port.and_then(|p| u16::try_from(p).ok())?;
                let offset = seg.offset(asked)?;
                return (offset & 1 == 1 && offset < end && open.at(asked)).then_some(asked);
            }
            Pick::Random(r) => (r % end.max(1)) | 1,
        };
        (from..end)
            .step_by(2)
            .take(TRIES)
            .map(|o| seg.port(o))
            .find(|p| open.at(*p))
            .or_else(|| self.unowned(Table::Tcp, seg.port(from), seg.port(end - 1)))
            .or_else(|| self.unowned(Table::Tcp, seg.port(1), seg.port(from)))
    }
}
