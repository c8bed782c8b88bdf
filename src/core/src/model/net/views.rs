//! Which automatic ports are open to a socket, without asking port by port.
//!
//! An automatic port need not be free: it may have owners at other addresses.
//! So which ports are open depends on who asks. A [`View`] is one asker's map
//! of the ports that are closed to it, kept up to date as owners come and go;
//! a [`Core`](super::Core) has [`VIEWS`] of them, for those who asked last. A
//! new one costs a look at every port that has owners.

use bytemuck::{Pod, Zeroable};

use super::class::Asker;
use super::{Net, PortMap, Table};

/// How many views are kept.
pub const VIEWS: usize = 8;

/// Owned ports up to which a view is made at the first question, because it
/// costs next to nothing: it will be there when ports get short.
const FEW: u32 = 64;

/// One asker. Its map of closed ports lies elsewhere: all the askers, which
/// every bind looks at, lie close together.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::model) struct View {
    asker: Asker,
    /// The second scan of `inet_csk_find_open_port`.
    relax: u32,
    live: u32,
    /// When it was asked last, on the clock of all views.
    stamp: u32,
}

impl View {
    pub(super) const NONE: View = View {
        asker: Asker::NOBODY,
        relax: 0,
        live: 0,
        stamp: 0,
    };
}

impl Net<'_> {
    /// The view of an asker ([`Asker::in_general`]), if there is one or one
    /// costs little.
    pub(in crate::model) fn cheap_view(&mut self, asker: &Asker, relax: bool) -> Option<usize> {
        let views = &mut self.core.views;
        for i in each_of(self.core.viewed, asker.table) {
            if let Some(v) = views.get_mut(i)
                && v.asker == *asker
                && (v.relax != 0) == relax
            {
                self.core.clock = self.core.clock.wrapping_add(1);
                v.stamp = self.core.clock;
                return Some(i);
            }
        }
        let owned = self.core.owned.get(usize::from(asker.table.0)).copied();
        let room = views.iter().any(|v| v.live == 0);
        (room && owned.is_some_and(|n| n <= FEW)).then(|| self.view(asker, relax))
    }

    /// The view of an asker that has none yet; the one that was not asked for
    /// longest makes room.
    pub(in crate::model) fn view(&mut self, asker: &Asker, relax: bool) -> usize {
        self.core.clock = self.core.clock.wrapping_add(1);
        let clock = self.core.clock;
        let age = |v: &View| {
            if v.live == 0 {
                u64::MAX
            } else {
                u64::from(clock.wrapping_sub(v.stamp))
            }
        };
        let i = (0..VIEWS)
            .max_by_key(|&i| self.core.views.get(i).map_or(0, age))
            .unwrap_or(0);
        if let Some(v) = self.core.views.get_mut(i) {
            v.asker = *asker;
            v.relax = u32::from(relax);
            v.live = 1;
            v.stamp = clock;
        }
        if let Some(closed) = self.core.closed.get_mut(i) {
            *closed = PortMap::EMPTY;
        }
        let table = usize::from(asker.table.0);
        for (t, of) in self.core.viewed.iter_mut().enumerate() {
            *of = *of & !(1 << i) | u8::from(t == table) << i;
        }
        for w in 0..1024u32 {
            let mut bits = self
                .core
                .taken
                .get(table)
                .map_or(0, |map| map.word(w as usize));
            while bits != 0 {
                let port = (w << 6 | bits.trailing_zeros()) as u16;
                bits &= bits - 1;
                if self.auto_closed(asker, port, relax)
                    && let Some(closed) = self.core.closed.get_mut(i)
                {
                    closed.set(port, true);
                }
            }
        }
        i
    }

    /// The closed ports of a view.
    pub(in crate::model) fn closed(&self, view: usize) -> &PortMap {
        const EMPTY: PortMap = PortMap::EMPTY;
        self.core.closed.get(view).unwrap_or(&EMPTY)
    }

    /// An owner of the port came, or went: what do the views say now?
    pub(super) fn refresh_views(&mut self, table: Table, port: u16, came: bool) {
        for i in each_of(self.core.viewed, table) {
            let Some(v) = self.core.views.get(i) else {
                return;
            };
            // A closed port is not opened by one more owner, nor the reverse.
            if self.closed(i).has(port) == came {
                continue;
            }
            let (asker, relax) = (v.asker, v.relax != 0);
            if self.auto_closed(&asker, port, relax) == came
                && let Some(closed) = self.core.closed.get_mut(i)
            {
                closed.set(port, came);
            }
        }
    }
}

/// The views of a table's askers.
fn each_of(viewed: [u8; 4], table: Table) -> impl Iterator<Item = usize> {
    let mut left = viewed.get(usize::from(table.0)).copied().unwrap_or(0);
    core::iter::from_fn(move || {
        let i = left.trailing_zeros() as usize;
        (left != 0).then(|| {
            left &= left - 1;
            i
        })
    })
}
