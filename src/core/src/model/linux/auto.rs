//! Automatic TCP ports: `inet_csk_find_open_port`.
//!
//! The kernel draws an offset and takes the first open port from there, odd
//! offsets first, then even ones; with `SO_REUSEADDR` first in the lower half
//! of the range. In a range with an odd number of ports the even stage misses
//! one port, which one depends on the draw. So a choice can be judged without
//! knowing the draw: [`Segment::judge`].

use super::tcp::Look;
use crate::model::Pick;
use crate::model::net::{Ctx, Net, SockId, Table};
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

    /// Can `port` be the answer, can there be none, over all draws?
    fn judge(self, port: Option<u16>, mut open: impl FnMut(u16) -> bool) -> Judged {
        let offset = port.and_then(|p| self.offset(p));
        let [(a, a_end), (b, b_end)] = self.stages();
        if let Some(o) = offset
            && (o & 1 == 1 || self.n == 1)
            && o < a_end
        {
            let possible = open(self.port(o));
            // Some other port may be open as well; success is certain enough.
            return Judged {
                possible,
                may_fail: !possible,
            };
        }
        if (a..a_end).step_by(2).any(|o| open(self.port(o))) {
            return Judged {
                possible: false,
                may_fail: false,
            };
        }
        if self.n < 5 || self.n & 1 == 0 {
            let any = (b..b_end).step_by(2).any(|o| open(self.port(o)));
            let asked = offset.is_some_and(|o| (b..b_end).step_by(2).any(|x| x == o));
            return Judged {
                possible: asked && port.is_some_and(open),
                may_fail: !any,
            };
        }
        // Odd n: a draw of 1 misses the last port, every other the first.
        let last = self.n - 1;
        let first_open = open(self.port(0));
        let last_open = open(self.port(last));
        let middle_open = (2..last).step_by(2).any(|o| open(self.port(o)));
        let possible = match offset {
            Some(0) => first_open,
            Some(o) if o == last => last_open && !open(self.port(last - 2)),
            Some(o) if o & 1 == 0 => open(self.port(o)),
            _ => false,
        };
        Judged {
            possible,
            may_fail: !middle_open && (!first_open || !last_open),
        }
    }

    /// The kernel's own walk for the draw `r`.
    fn walk(self, r: u32, mut open: impl FnMut(u16) -> bool) -> Option<u16> {
        let remaining = if self.n > 1 { self.n & !1 } else { self.n };
        let odd = (r % remaining.max(1)) | 1;
        for start in [odd, odd - 1] {
            let mut offset = start;
            let mut i = 0;
            while i < remaining {
                if offset >= self.n {
                    offset -= remaining;
                }
                if open(self.port(offset)) {
                    return Some(self.port(offset));
                }
                offset += 2;
                i += 2;
            }
        }
        None
    }
}

impl Net<'_> {
    /// `inet_sk_get_local_port_range`: the namespace's, narrowed by the socket's.
    pub(super) fn inet_sk_get_local_port_range(&self, id: SockId) -> (u16, u16) {
        let (mut lo, mut hi) = self.core.host.sysctl.local_port_range;
        let (s_lo, s_hi) = self.get(id).range;
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

    fn is_open(&self, id: SockId, port: u16, relax: bool) -> bool {
        let look = Look {
            relax,
            reuseport_ok: false,
        };
        !self.core.host.sysctl.is_reserved(port)
            && self.inet_csk_bind_conflict(id, port, look).is_none()
    }

    /// `inet_csk_find_open_port`
    pub(super) fn inet_csk_find_open_port(&self, id: SockId, cx: &mut Ctx) -> Option<u16> {
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
        let reuse = self.get(id).reuse == 1;
        let segments = if reuse && n >= 4 { halves } else { whole };
        if let Pick::Random(r) = cx.pick
            && let Some(port) = self.find_fast(&segments, r)
        {
            return Some(port);
        }
        let scans = 1 + usize::from(self.core.host.sysctl.autobind_reuse);
        for relax in [false, true].into_iter().take(scans) {
            if relax {
                cx.pass(Step::CskRelaxed);
            }
            for seg in segments.into_iter().filter(|s| s.n > 0) {
                let open = |p| self.is_open(id, p, relax);
                let (asked, r) = match cx.pick {
                    Pick::Random(r) => (None, r),
                    Pick::Observed(p) => (Some(p.and_then(|p| u16::try_from(p).ok())), 0),
                };
                let Some(asked) = asked else {
                    if let Some(port) = seg.walk(r, open) {
                        return Some(port);
                    }
                    continue;
                };
                let judged = seg.judge(asked, open);
                if judged.possible {
                    return asked;
                }
                if !judged.may_fail {
                    // The observed answer cannot be: answer for ourselves.
                    return seg.walk(0, open);
                }
            }
        }
        None
    }

    /// A port that nobody has, without looking at owners: one that some draw
    /// of the kernel would reach first. `None` is no answer.
    fn find_fast(&self, segments: &[Segment; 2], r: u32) -> Option<u16> {
        let seg = segments.first().filter(|s| s.n >= 2)?;
        let map = self.core.taken.get(Table::Tcp as usize)?;
        let [(a, end), _] = seg.stages();
        let (first, last) = (seg.port(a), seg.port(end.checked_sub(1)?));
        let start = seg.port(r % seg.n.max(1));
        let odd = first & 1 == 1;
        let reserved = &self.core.host.sysctl;
        let mut tries = 0;
        let mut from = start.max(first);
        loop {
            let found = map
                .next_free(from, last, odd)
                .or_else(|| map.next_free(first, last, odd))?;
            if !reserved.is_reserved(found) {
                return Some(found);
            }
            tries += 1;
            if tries > 8 {
                return None;
            }
            from = found.checked_add(1)?;
        }
    }
}
