//! From an address to the rules that may match it; see `layout.rs`.

use super::Op;
use super::layout::{
    Class, NODE, RESERVED_PORTS, VSOCK_UNPRIVILEGED, cell_flag, key_of, node, section,
};
use super::target::tidy;
use super::view::{View, at, part, upper};
use super::{Paths, Query, conditions};
use crate::addr::{Addr, UnixKind, UnixName, af};
use crate::record::Words;

/// In the place of a list: the ports of its rules must be looked at.
const CHECK_PORTS: u32 = 1 << 31;

/// The lists of rules that may match an address, in no order: as many as there
/// is room for.
pub(super) struct Lists {
    at: [u32; Lists::ROOM],
    /// How many there are in all.
    len: usize,
    /// How many of them come before those that are held.
    before: usize,
}

impl Lists {
    const ROOM: usize = 6;

    pub const NONE: Lists = Lists {
        at: [0; Lists::ROOM],
        len: 0,
        before: 0,
    };

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn add(&mut self, list: u32) {
        let at = self.len.wrapping_sub(self.before);
        if let Some(to) = self.at.get_mut(at) {
            *to = list;
        }
        self.len += 1;
    }

    /// The lists, if there is room for all of them.
    #[inline(always)]
    pub fn all(&self) -> Option<&[u32]> {
        self.at.get(..self.len)
    }

    fn held(&self) -> &[u32] {
        let count = self.len.saturating_sub(self.before);
        self.at.get(..count).unwrap_or(&self.at)
    }
}

impl<'a> View<'a> {
    /// Can a rule of this operation fit addresses of the class?
    fn concerns(&self, op: Op, class: Class) -> bool {
        self.has_rules(op) && self.root(op, class) != 0
    }

    /// The root of the trie for a class; 0 where no rule fits any of it.
    fn root(&self, op: Op, class: Class) -> u32 {
        let place = op.index() * Class::COUNT + class as usize;
        at(self.section(section::DIRECTORY), place) as u32
    }

    /// Can no rule fit the address of the query, whatever it is? Said of Unix
    /// addresses alone, of which a key is long.
    #[inline]
    pub(super) fn is_unconcerned(&self, q: &Query<'_>) -> bool {
        match q.addr {
            Some(Addr::Unix(name)) if q.op != Op::Socket => {
                !self.concerns(q.op, unix_class(name.kind))
            }
            _ => false,
        }
    }

    /// Adds the lists of the rules whose address, port and program fit.
    pub(super) fn lists(&self, op: Op, paths: Paths<'_>, key: &Key<'_>, lists: &mut Lists) {
        if self.has_rules(op) {
            self.walk(op, paths, key, lists);
        }
    }

    /// Shows each list, and whether the ports of its rules must be looked at.
    #[inline]
    pub(super) fn each_list(
        &self,
        lists: &Lists,
        q: &Query<'_>,
        key: &Key<'_>,
        mut f: impl FnMut(&'a [u64], bool),
    ) {
        let mut turn;
        let mut now = lists;
        loop {
            for list in now.held() {
                f(self.list(list & !CHECK_PORTS), list & CHECK_PORTS != 0);
            }
            let before = now.before + Lists::ROOM;
            if before >= lists.len {
                return;
            }
            // More than there is room for: they are looked for again, in turns.
            turn = Lists {
                before,
                ..Lists::NONE
            };
            self.walk(q.op, q.paths(), key, &mut turn);
            now = &turn;
        }
    }

    /// Goes down the trie of the prefixes that hold the key.
    fn walk(&self, op: Op, paths: Paths<'_>, key: &Key<'_>, lists: &mut Lists) {
        let mut link = self.root(op, key.class);
        let (nodes, _) = self.section(section::NODES).as_chunks::<NODE>();
        let (mut bits, mut from) = (key.bits, 0);
        // Each step takes a bit or a key at least, so it ends, whatever is
        // written there.
        let mut least = 0;
        while let Some(&[hi, lo, links, word]) = nodes.get(link.wrapping_sub(1) as usize) {
            let len = node::len(word);
            let other = bits ^ (u128::from(hi) << 64 | u128::from(lo));
            if len < least || other.leading_zeros() < len {
                return;
            }
            self.cell(node::cell(word), paths, key, lists);
            if key.reserved {
                self.cell(node::reserved(word), paths, key, lists);
            }
            if let Some(behind) = bits.checked_shl(len) {
                let right = behind >> 127 != 0;
                link = if right { upper(links) } else { links as u32 };
                least = len + 1;
            } else {
                from += 16;
                if from >= key.name.len() {
                    return;
                }
                bits = key_of(key.name, from);
                link = links as u32;
                least = 0;
            }
        }
    }

    /// Adds what a cell has: its list for the port, and those of the conditions
    /// that the program meets.
    #[inline(always)]
    fn cell(&self, cell: u32, paths: Paths<'_>, key: &Key<'_>, lists: &mut Lists) {
        let Some(i) = cell.checked_sub(1) else {
            return;
        };
        let cells = self.section(section::CELLS);
        let word = at(cells, i as usize);
        self.segment(word, key, lists);
        if word & cell_flag::BUCKETS != 0 {
            self.buckets(at(cells, i as usize + 1), paths, key, lists);
        }
    }

    /// Adds the lists of the conditions that the program meets.
    #[inline(never)]
    fn buckets(&self, place: u64, paths: Paths<'_>, key: &Key<'_>, lists: &mut Lists) {
        let cells = self.section(section::CELLS);
        let buckets = part(self.section(section::BUCKETS), place);
        self.each_condition(paths, &mut |c| {
            let i = buckets.partition_point(|&b| upper(b) < c);
            if let Some(&b) = buckets.get(i)
                && upper(b) == c
            {
                self.segment(at(cells, b as u32 as usize), key, lists);
            }
        });
    }

    /// Adds the list of one cell for the port.
    #[inline]
    fn segment(&self, cell: u64, key: &Key<'_>, lists: &mut Lists) {
        let place = u64::from(upper(cell)) << 32 | cell & cell_flag::COUNT;
        let segments = part(self.section(section::SEGMENTS), place);
        let i = segments.partition_point(|&s| upper(s) <= key.port);
        if let Some(&segment) = i.checked_sub(1).and_then(|i| segments.get(i))
            && segment as u32 != 0
        {
            let check = match cell & cell_flag::CHECK_PORTS {
                0 => 0,
                _ => CHECK_PORTS,
            };
            lists.add(segment as u32 | check);
        }
    }

    /// Returns whether the rule's ports contain the key's port.
    pub(super) fn has_port(&self, rule: u32, key: &Key<'_>) -> bool {
        let lists = self.rule_word(rule, 6);
        let list = match key.class {
            Class::Vsock | Class::VsockWild => upper(lists),
            _ => lists as u32,
        };
        self.list(list).iter().any(|&r| {
            if r == RESERVED_PORTS {
                key.reserved
            } else {
                (upper(r)..=r as u32).contains(&key.port)
            }
        })
    }

    /// A list of [`Lists`], if the ports of its rules need no look.
    #[inline(always)]
    pub(super) fn checked_list(&self, list: u32) -> Option<&'a [u64]> {
        (list & CHECK_PORTS == 0).then(|| self.list(list))
    }

    /// A list by its offset: its length, then its members.
    #[inline]
    fn list(&self, from: u32) -> &'a [u64] {
        let lists = self.section(section::LISTS);
        let len = at(lists, from as usize) as u32;
        part(lists, (u64::from(from) + 1) << 32 | u64::from(len))
    }

    /// Calls `f` with each condition that the program meets.
    fn each_condition(&self, paths: Paths<'_>, f: &mut impl FnMut(u32)) {
        let n = self.condition_count();
        let cache = self.cache();
        conditions::fill(cache, n, |c| self.evaluate(c, paths));
        if !conditions::each(cache, n, f) {
            (0..n).filter(|&c| self.evaluate(c, paths)).for_each(f);
        }
    }
}

fn unix_class(kind: UnixKind) -> Class {
    match kind {
        UnixKind::Auto => Class::UnixAuto,
        UnixKind::Path => Class::UnixPath,
        UnixKind::Abstract => Class::UnixAbstract,
    }
}

/// An address as the index sees it.
pub(super) struct Key<'q> {
    class: Class,
    /// The address, or the first 16 bytes of a Unix name: the first bit first.
    bits: u128,
    port: u32,
    reserved: bool,
    /// Of a Unix address.
    pub name: &'q [u8],
}

impl<'q> Key<'q> {
    /// What `q` asks about. `room` is for a Unix path that has to be written
    /// in another way.
    pub fn of(q: &Query<'q>, room: &'q mut Option<UnixName>) -> Key<'q> {
        let mut key = Key::OTHER;
        let Some(addr) = q.addr.filter(|_| q.op != Op::Socket) else {
            return key;
        };
        match addr {
            Addr::Inet { ip, port } => {
                key.ip_port(*port, q.unprivileged_start);
                key.four(*ip);
            }
            Addr::Inet6 { ip, port, .. } => {
                key.ip_port(*port, q.unprivileged_start);
                if let Some(ip) = addr.ipv4() {
                    key.four(ip);
                } else {
                    key.bits = u128::from_be_bytes(*ip);
                    key.class = match (key.bits, q.v6only) {
                        (0, true) => Class::Wild6,
                        (0, false) => Class::WildDual,
                        _ => Class::V6,
                    };
                }
            }
            Addr::Vsock { cid, port, .. } => {
                key.port = *port;
                key.reserved = *port < VSOCK_UNPRIVILEGED;
                key.bits = u128::from(*cid) << 96;
                key.class = if addr.is_wildcard() {
                    Class::VsockWild
                } else {
                    Class::Vsock
                };
            }
            Addr::Unix(name) => {
                key.class = unix_class(name.kind);
                if name.kind == UnixKind::Auto {
                    return key;
                }
                *room = tidy(name);
                key.name = room.as_ref().unwrap_or(name).bytes();
                key.bits = key_of(key.name, 0);
            }
            Addr::Netlink { .. } | Addr::Packet { .. } => {}
        }
        key
    }

    /// What a bind to an IP address asks about, from the bytes of the address.
    /// `None` for `::`, of which more has to be known, and for no IP address.
    pub fn of_ip(asked: &Words, unprivileged_start: u16) -> Option<Key<'static>> {
        let [first, second, third, _] = asked.words;
        let [family, family_too, port, port_too, a, b, c, d] = first.to_ne_bytes();
        let mut key = Key::OTHER;
        match (u16::from_ne_bytes([family, family_too]), asked.len) {
            (af::INET, 16..) => key.four([a, b, c, d]),
            (af::INET6, 28..) => {
                let bits = u128::from(u64::from_be(second)) << 64 | u128::from(u64::from_be(third));
                match bits >> 32 {
                    0xffff => key.four((bits as u32).to_be_bytes()),
                    0 if bits == 0 => return None,
                    _ => (key.bits, key.class) = (bits, Class::V6),
                }
            }
            _ => return None,
        }
        key.ip_port(u16::from_be_bytes([port, port_too]), unprivileged_start);
        Some(key)
    }

    pub const OTHER: Key<'static> = Key {
        class: Class::Other,
        bits: 0,
        port: 0,
        reserved: false,
        name: &[],
    };

    fn ip_port(&mut self, port: u16, unprivileged_start: u16) {
        self.port = u32::from(port);
        self.reserved = port != 0 && port < unprivileged_start;
    }

    fn four(&mut self, ip: [u8; 4]) {
        let bits = u32::from_be_bytes(ip);
        self.bits = u128::from(bits) << 96;
        self.class = if bits == 0 { Class::Wild4 } else { Class::V4 };
    }
}
