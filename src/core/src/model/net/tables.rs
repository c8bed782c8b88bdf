//! Owners come to a port and leave it: lists, address groups, counts.

use bytemuck::{Pod, Zeroable};

use super::class::{Classes, Scope, Summary, each};
use super::tally::standing;
use super::{Bucket, NONE, Net, PORTS, Sock, SockId, Table};
use crate::model::linux::quirks;

/// The owners of one address on a port: `inet_bind2_bucket`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::model) struct Group {
    pub(super) addr: [u8; 16],
    num: u32,
    table: Table,
    /// Has an IPv6 socket made it? `inet_bind2_bucket`'s family, until 6.6.
    six: u8,
    pad: [u8; 2],
    /// The next group in the hash chain, or of the free ones.
    next: u32,
    prev: u32,
    head: u32,
    tail: u32,
    pub(super) sum: Summary,
}

/// Has the table buckets, one for each port?
fn has_buckets(table: Table) -> bool {
    table.0 < 3
}

impl Net<'_> {
    pub(super) fn bucket_index(table: Table, port: u32) -> Option<u32> {
        has_buckets(table).then(|| u32::from(table.0) * PORTS as u32 + port % PORTS as u32)
    }

    /// The owners of a port, as far as the table has ports.
    pub(in crate::model) fn bucket(&self, table: Table, port: u32) -> &Bucket {
        const EMPTY: Bucket = Bucket::EMPTY;
        Self::bucket_index(table, port)
            .and_then(|i| self.buckets.get(i as usize))
            .unwrap_or(&EMPTY)
    }

    pub(in crate::model) fn edit_bucket(
        &mut self,
        table: Table,
        port: u32,
        f: impl FnOnce(&mut Bucket),
    ) {
        if let Some(b) =
            Self::bucket_index(table, port).and_then(|i| self.buckets.get_mut(i as usize))
        {
            f(b);
        }
    }

    /// Changes a socket; if it has a port, and counts otherwise afterwards,
    /// the counts follow. The port and the address are not changed so.
    pub(in crate::model) fn edit(&mut self, id: SockId, change: impl FnOnce(&mut Sock)) {
        let Some(s) = self.socks.get_mut(id.0 as usize) else {
            return;
        };
        if !s.hashed() || !has_buckets(s.table) {
            change(s);
            return;
        }
        let before = standing(s);
        change(s);
        let after = standing(s);
        if before != after {
            let (table, port) = (s.table, s.num as u16);
            self.leave(id, before);
            self.refresh_views(table, port, false);
            self.enter(id, after);
            self.refresh_views(table, port, true);
        }
    }

    /// Changes what no count depends on: neither address, options, state, device
    /// nor user.
    pub(in crate::model) fn note(&mut self, id: SockId, change: impl FnOnce(&mut Sock)) {
        self.raw(id.0, change);
    }

    /// The same.
    pub(super) fn raw(&mut self, id: u32, change: impl FnOnce(&mut Sock)) {
        if let Some(s) = self.socks.get_mut(id as usize) {
            change(s);
        }
    }

    fn chain(&self, table: Table, port: u32, addr: &[u8; 16]) -> usize {
        let [hi, lo] = bytemuck::cast::<[u8; 16], [u64; 2]>(*addr);
        let mut h = hi ^ (u64::from(port) << 8 | u64::from(table.0));
        h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= lo;
        h ^= h >> 29;
        h = h.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h ^= h >> 32;
        (h as usize) & (self.heads.len().max(1) - 1)
    }

    /// The group of an address on a port.
    pub(in crate::model) fn group(&self, table: Table, port: u32, addr: &[u8; 16]) -> Option<u32> {
        let mut at = *self.heads.get(self.chain(table, port, addr))?;
        for _ in 0..self.groups.len() {
            let i = at.checked_sub(1)?;
            let g = self.groups.get(i as usize)?;
            if g.num == port && g.table == table && g.addr == *addr {
                return Some(i);
            }
            at = g.next;
        }
        None
    }

    /// Has an IPv6 socket made this group?
    pub(in crate::model) fn group_is_six(&self, group: u32) -> bool {
        self.groups.get(group as usize).is_some_and(|g| g.six != 0)
    }

    /// The group of an address on a port, made if there is none.
    fn group_for(&mut self, table: Table, port: u32, addr: &[u8; 16], six: bool) -> u32 {
        if let Some(i) = self.group(table, port, addr) {
            return i;
        }
        // As many groups as sockets: there is one for each.
        let i = match self.core.group_free.checked_sub(1) {
            Some(i) => {
                self.core.group_free = self.groups.get(i as usize).map_or(0, |g| g.next);
                i
            }
            None => {
                let fresh = self.core.group_fresh;
                self.core.group_fresh = fresh.wrapping_add(1);
                fresh
            }
        };
        let chain = self.chain(table, port, addr);
        let head = self.heads.get(chain).copied().unwrap_or(0);
        if let Some(g) = self.groups.get_mut(i as usize) {
            *g = Group {
                addr: *addr,
                num: port,
                table,
                six: u8::from(six),
                pad: [0; 2],
                next: head,
                prev: 0,
                head: NONE,
                tail: NONE,
                sum: Summary::EMPTY,
            };
        }
        if let Some(n) = head
            .checked_sub(1)
            .and_then(|n| self.groups.get_mut(n as usize))
        {
            n.prev = i + 1;
        }
        if let Some(h) = self.heads.get_mut(chain) {
            *h = i + 1;
        }
        i
    }

    fn drop_group(&mut self, i: u32) {
        let Some(&g) = self.groups.get(i as usize) else {
            return;
        };
        if let Some(n) = g
            .next
            .checked_sub(1)
            .and_then(|n| self.groups.get_mut(n as usize))
        {
            n.prev = g.prev;
        }
        match g.prev.checked_sub(1) {
            Some(p) => {
                if let Some(p) = self.groups.get_mut(p as usize) {
                    p.next = g.next;
                }
            }
            None => {
                let chain = self.chain(g.table, g.num, &g.addr);
                if let Some(h) = self.heads.get_mut(chain) {
                    *h = g.next;
                }
            }
        }
        let free = self.core.group_free;
        if let Some(g) = self.groups.get_mut(i as usize) {
            g.next = free;
            // It is nobody's.
            g.table = Table::Other;
            g.head = NONE;
        }
        self.core.group_free = i + 1;
    }

    /// `inet_bind_hash`: enters the port's list and the address's; at the end
    /// for Linux's IPv6 UDP sockets with `SO_REUSEPORT`.
    pub(in crate::model) fn inet_bind_hash(&mut self, id: SockId) {
        let s = self.get(id);
        let (table, num, bound) = (s.table, s.num, u32::from(!s.connect_bind()));
        let stands = standing(s);
        let at_end = s.is_v6()
            && s.reuseport()
            && matches!(s.table, Table::Udp | Table::UdpLite)
            && !s.freebsd();
        if has_buckets(table) {
            let b = self.bucket(table, num);
            let (prev, next) = if at_end {
                (b.tail.wrapping_sub(1), NONE)
            } else {
                (NONE, b.head.wrapping_sub(1))
            };
            self.raw(id.0, |s| {
                s.port_prev = prev;
                s.port_next = next;
            });
            self.raw(prev, |p| p.port_next = id.0);
            self.raw(next, |n| n.port_prev = id.0);
            self.edit_bucket(table, num, |b| {
                if prev == NONE {
                    b.head = id.0 + 1;
                }
                if next == NONE {
                    b.tail = id.0 + 1;
                }
                b.count = b.count.saturating_add(1);
                b.bind_owners = b.bind_owners.saturating_add(bound);
            });
        }
        self.set_taken(table, num, true);
        self.link_addr(id, at_end);
        self.raw(id.0, |s| {
            s.set_hashed(true);
            s.sport = s.num as u16;
        });
        if has_buckets(table) {
            self.enter(id, stands);
            self.refresh_views(table, num as u16, true);
        }
    }

    fn set_taken(&mut self, table: Table, port: u32, on: bool) {
        let t = usize::from(table.0);
        if let (Some(map), Some(n)) = (self.core.taken.get_mut(t), self.core.owned.get_mut(t))
            && map.has(port as u16) != on
        {
            map.set(port as u16, on);
            *n = if on {
                n.saturating_add(1)
            } else {
                n.saturating_sub(1)
            };
        }
    }

    fn link_addr(&mut self, id: SockId, at_end: bool) {
        let s = self.get(id);
        let (table, num, key, six) = (s.table, s.num, s.key(), s.is_v6());
        let group = self.group_for(table, num, &key, six);
        let (head, tail) = self
            .groups
            .get(group as usize)
            .map_or((NONE, NONE), |g| (g.head, g.tail));
        let (prev, next) = if at_end { (tail, NONE) } else { (NONE, head) };
        self.raw(id.0, |s| {
            s.bind2 = group;
            s.addr_prev = prev;
            s.addr_next = next;
        });
        self.raw(prev, |p| p.addr_next = id.0);
        self.raw(next, |n| n.addr_prev = id.0);
        if let Some(g) = self.groups.get_mut(group as usize) {
            if prev == NONE {
                g.head = id.0;
            }
            if next == NONE {
                g.tail = id.0;
            }
        }
    }

    fn unlink_addr(&mut self, id: SockId) {
        let s = *self.get(id);
        self.raw(s.addr_prev, |p| p.addr_next = s.addr_next);
        self.raw(s.addr_next, |n| n.addr_prev = s.addr_prev);
        let mut empty = false;
        if let Some(g) = self.groups.get_mut(s.bind2 as usize) {
            if s.addr_prev == NONE {
                g.head = s.addr_next;
            }
            if s.addr_next == NONE {
                g.tail = s.addr_prev;
            }
            empty = g.head == NONE;
        }
        if empty {
            self.drop_group(s.bind2);
        }
    }

    /// `inet_put_port`: leaves the lists. A bucket whose last bind owner
    /// leaves is again one that connect() may use (6.18).
    pub(in crate::model) fn inet_put_port(&mut self, id: SockId) {
        let s = *self.get(id);
        if !s.hashed() {
            return;
        }
        let mut empty = true;
        if has_buckets(s.table) {
            self.leave(id, standing(&s));
            self.raw(s.port_prev, |p| p.port_next = s.port_next);
            self.raw(s.port_next, |n| n.port_prev = s.port_prev);
            let again = quirks::port_becomes_connectable(self.host.generation);
            self.edit_bucket(s.table, s.num, |b| {
                if s.port_prev == NONE {
                    b.head = s.port_next.wrapping_add(1);
                }
                if s.port_next == NONE {
                    b.tail = s.port_prev.wrapping_add(1);
                }
                b.count = b.count.saturating_sub(1);
                b.bind_owners = b.bind_owners.saturating_sub(u32::from(!s.connect_bind()));
                empty = b.count == 0;
                if empty {
                    *b = Bucket::EMPTY;
                } else if again && b.bind_owners == 0 {
                    b.fastreuse = -1;
                    b.fastreuseport = -1;
                }
            });
        }
        self.unlink_addr(id);
        if s.table == Table::Ping {
            empty = self.group(s.table, s.num, &s.key()).is_none();
        }
        if empty {
            self.set_taken(s.table, s.num, false);
        }
        self.raw(id.0, |s| {
            s.set_hashed(false);
            s.set_connect_bind(false);
            s.num = 0;
        });
        if has_buckets(s.table) {
            self.refresh_views(s.table, s.num as u16, false);
        }
    }

    /// `inet_bhash2_update_saddr`: the socket's address changes, its port stays.
    pub(in crate::model) fn update_saddr(&mut self, id: SockId, v6: [u8; 16]) {
        let s = *self.get(id);
        if !s.hashed() || !has_buckets(s.table) {
            self.raw(id.0, |s| s.set_rcv(v6));
            return;
        }
        self.leave(id, standing(&s));
        self.unlink_addr(id);
        self.refresh_views(s.table, s.num as u16, false);
        self.raw(id.0, |s| s.set_rcv(v6));
        self.link_addr(id, false);
        let now = standing(self.get(id));
        self.enter(id, now);
        self.refresh_views(s.table, s.num as u16, true);
    }

    /// The scope of a port.
    pub(in crate::model) fn port_scope(table: Table, port: u32) -> Scope {
        Scope::Port(Self::bucket_index(table, port).unwrap_or(u32::MAX >> 1))
    }

    /// The owners of a port, in the kernel's order.
    pub(in crate::model) fn owners(
        &self,
        table: Table,
        port: u32,
    ) -> impl Iterator<Item = (SockId, &Sock)> {
        let head = self.bucket(table, port).head.wrapping_sub(1);
        self.list(head, |s| s.port_next)
    }

    /// The owners of a port, the oldest first.
    pub(in crate::model) fn owners_back(
        &self,
        table: Table,
        port: u32,
    ) -> impl Iterator<Item = (SockId, &Sock)> {
        let tail = self.bucket(table, port).tail.wrapping_sub(1);
        self.list(tail, |s| s.port_prev)
    }

    /// The owners of a port with exactly this address, in the kernel's order.
    pub(in crate::model) fn at_addr(
        &self,
        table: Table,
        port: u32,
        addr: [u8; 16],
    ) -> impl Iterator<Item = (SockId, &Sock)> {
        self.of_group(self.group(table, port, &addr).unwrap_or(NONE))
    }

    /// The owners of a group, in the kernel's order.
    pub(in crate::model) fn of_group(&self, group: u32) -> impl Iterator<Item = (SockId, &Sock)> {
        let head = self.groups.get(group as usize).map_or(NONE, |g| g.head);
        self.list(head, |s| s.addr_next)
    }

    /// The owners of a port that are of these classes, in no order.
    pub(in crate::model) fn of_classes(
        &self,
        table: Table,
        port: u32,
        classes: Classes,
    ) -> impl Iterator<Item = (SockId, &Sock)> {
        let scope = Self::port_scope(table, port);
        each(self.summary(scope).present() & classes).flat_map(move |class| {
            let head = self.class_head(scope, class).wrapping_sub(1);
            self.list(head, |s| s.class_next)
        })
    }

    /// A list of sockets; no longer than there are sockets, whatever the
    /// memory says.
    fn list(
        &self,
        head: u32,
        next: impl Fn(&Sock) -> u32,
    ) -> impl Iterator<Item = (SockId, &Sock)> {
        let mut at = head;
        let mut left = self.socks.len();
        core::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let s = self.socks.get(at as usize)?;
            let id = SockId(at);
            at = next(s);
            Some((id, s))
        })
    }
}
