//! The port of a connection: `__inet_hash_connect`.
//!
//! The kernel draws an even offset into the range and takes the first port
//! that nobody has bound, even offsets first, then odd ones: the opposite of
//! `inet_csk_find_open_port`. In a range with an odd number of ports the even
//! stage misses one port, which one depends on the draw. A range of the
//! socket's own is walked port by port since 6.8.

use super::connect::Route;
use super::quirks;
use crate::model::net::{Ctx, NONE, Net, Sock, SockId, State, Table};
use crate::model::step::Step;
use crate::model::{Errno, No, Pick};

impl Net<'_> {
    /// The connection that is there already (`__inet_check_established`).
    pub(super) fn met(&self, id: SockId, port: u32, route: &Route) -> Option<SockId> {
        // inet_match: one with a device is met by its packets only.
        let dev = self.get(id).dev;
        let same = |(o, s): &(SockId, &Sock)| {
            *o != id
                && (s.dev == 0 || id.0 == NONE || s.dev == dev)
                && !matches!(s.state, State::Close | State::Listen)
                && s.daddr == route.dst
                && s.dport == route.port
        };
        let mut at = self.at_addr(Table::Tcp, port, route.src);
        at.find(same).map(|(o, _)| o)
    }

    /// What is at the other end of this connection already, and gets its SYN.
    pub(super) fn met_far(&self, port: u32, route: &Route) -> Option<SockId> {
        let back = Route {
            src: route.dst,
            dst: route.src,
            port: port as u16,
            way: route.way,
        };
        self.met(SockId(NONE), u32::from(route.port), &back)
    }

    /// `__inet_hash_connect`
    pub(super) fn inet_hash_connect(
        &mut self,
        id: SockId,
        route: &Route,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        if s.num != 0 {
            match self.met(id, s.num, route) {
                // tcp_twsk_unique: a port that bind() chose may go on at once,
                // by the timestamps.
                Some(old) if self.get(old).state == State::TimeWait => {
                    self.forget(old);
                    self.edit(id, |s| s.set_ahead(true));
                    cx.pass(Step::ConnectTimeWait);
                }
                Some(_) => return cx.fail(Step::ConnectTuple, Errno::EADDRNOTAVAIL),
                None => {}
            }
            self.update_saddr(id, route.src);
            return Ok(());
        }
        let Some(port) = self.connect_port(id, route, cx.pick) else {
            return cx.fail(Step::ConnectNoPort, Errno::EADDRNOTAVAIL);
        };
        let new = self.bucket(Table::Tcp, u32::from(port)).count == 0;
        self.edit(id, |s| {
            s.set_rcv(route.src);
            s.num = u32::from(port);
            s.set_connect_bind(true);
        });
        self.inet_bind_hash(id);
        if new {
            self.edit_bucket(Table::Tcp, u32::from(port), |b| {
                b.fastreuse = -1;
                b.fastreuseport = -1;
            });
        }
        cx.pass(Step::ConnectPort);
        Ok(())
    }

    /// The port that was observed, if some draw gives it; one of the model's
    /// choice otherwise. `None` if there can be none.
    fn connect_port(&self, id: SockId, route: &Route, pick: Pick) -> Option<u16> {
        let (lo, hi) = self.inet_sk_get_local_port_range(id);
        let n = u32::from(hi) - u32::from(lo) + 1;
        let port = |offset: u32| (u32::from(lo) + offset) as u16;
        let open = |offset: u32| {
            let p = port(offset);
            let b = self.bucket(Table::Tcp, u32::from(p));
            !self.host.sysctl.is_reserved(p)
                && (b.count == 0
                    || (b.fastreuse < 0
                        && b.fastreuseport < 0
                        && self.met(id, u32::from(p), route).is_none()))
        };
        // Somewhere nobody is at all: found without a walk.
        let free = |from: u32| match port(from) {
            first if from < n => self.unowned(Table::Tcp, first, hi),
            _ => None,
        };
        let asked = match pick {
            Pick::Observed(p) => Some(
                p.and_then(|p| p.checked_sub(u32::from(lo)))
                    .filter(|offset| *offset < n),
            ),
            Pick::Random(_) => None,
        };
        // mutants: generation `quirks::own_range_is_walked(self.host.generation)`: since 6.8
        if self.get(id).range != [0, 0] && quirks::own_range_is_walked(self.host.generation) {
            if let Some(offset) = asked.flatten().filter(|o| open(*o)) {
                return Some(port(offset));
            }
            return free(0)
                .or_else(|| free(1))
                .or_else(|| (0..n).find(|o| open(*o)).map(port));
        }
        // Which even offsets every draw visits, and which only some do.
        let (always, some) = match n {
            1 | 3 => (0..1, None),
            n if n & 1 == 0 => (0..n, None),
            n => (2..n - 1, Some((0, n - 1))),
        };
        let evens_fail = || {
            (some.is_some() || free(0).is_none())
                && !always.clone().step_by(2).any(open)
                && some.is_none_or(|(first, last)| !open(first) || !open(last))
        };
        let even = |o: u32| match some {
            Some((_, last)) if o == last => open(o) && !open(last - 2),
            Some((first, _)) if o == first => open(o),
            _ => always.contains(&o) && open(o),
        };
        // The second stage begins behind where the first one did: at 1, if only
        // the draw of 0 has failed; at 3 or above, if all others have, and comes
        // to 1 behind the last one.
        let odd_comes = |o: u32| match some {
            Some((first, _)) if open(first) => o > 1 || !open(n - 2),
            Some((_, last)) if open(last) => !(1..o).step_by(2).any(open),
            _ => true,
        };
        let odd = || free(1).or_else(|| (1..n).step_by(2).find(|o| open(*o)).map(port));
        match asked {
            Some(Some(o)) if o & 1 == 0 && even(o) => return Some(port(o)),
            Some(Some(o)) if o & 1 == 1 && open(o) && evens_fail() && odd_comes(o) => {
                return Some(port(o));
            }
            Some(None) if evens_fail() && odd().is_none() => return None,
            _ => {}
        }
        let first = match some {
            None => free(0).filter(|_| n != 3),
            Some(_) => None,
        };
        first
            .or_else(|| (0..n).step_by(2).find(|o| even(*o)).map(port))
            .or_else(odd)
    }
}
