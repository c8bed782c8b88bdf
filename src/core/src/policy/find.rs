//! From an address to the rules that may match it; see `layout.rs`.

use core::cell::Cell;

use super::Op;
use super::layout::{
    Class, RESERVED_PORTS, RESERVED_TUPLE, SLOT, VSOCK_UNPRIVILEGED, WHOLE, cell_flag, cut, entry,
    hash_bytes, hash_key, section,
};
use super::target::tidy;
use super::view::{Query, View, at, part, upper};
use crate::addr::{Addr, UnixKind, UnixName};

/// Does a visitor want the rest of a list?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    More,
    Enough,
}

impl<'a> View<'a> {
    /// Shows `visit` the rules whose address and port fit, list by list, each
    /// in order, until it has enough of one. Lists that begin behind rule
    /// `limit` are left out. Without a query, `for` conditions that are not
    /// known to fail count as held.
    pub(super) fn candidates(
        &self,
        op: Op,
        key: &Key,
        q: Option<&Query<'_>>,
        limit: &Cell<u32>,
        visit: &mut impl FnMut(u64, bool) -> Next,
    ) {
        let place = op.index() * Class::COUNT + key.class as usize;
        let place = at(self.section(section::DIRECTORY), place);
        let tuples = part(self.section(section::TUPLES), place);
        for (number, &tuple) in (u64::from(upper(place))..).zip(tuples) {
            // They come with the one that begins first in front.
            if upper(tuple) >= limit.get() {
                return;
            }
            if tuple & RESERVED_TUPLE != 0 && !key.reserved {
                continue;
            }
            let Some((hi, lo)) = key.cut(tuple as u8) else {
                continue;
            };
            let Some(cell) = self.cell(number << 32, hi, lo) else {
                continue;
            };
            self.segment(cell, key, visit);
            if cell & cell_flag::BUCKETS != 0 {
                let mut bucket = |c: u32| {
                    let w = number << 32 | u64::from(c.saturating_add(1));
                    if let Some(cell) = self.cell(w, hi, lo) {
                        self.segment(cell, key, visit);
                    }
                };
                match q {
                    Some(q) => self.each_condition(q, &mut bucket),
                    None if self.each_known_condition(&mut bucket) => {}
                    // An entry that fits anything stands for them all.
                    None => {
                        visit(entry::PLAIN, false);
                    }
                }
            }
        }
    }

    /// Shows one cell's list for the port.
    fn segment(&self, cell: u64, key: &Key, visit: &mut impl FnMut(u64, bool) -> Next) {
        let place = u64::from(upper(cell)) << 32 | cell & cell_flag::COUNT;
        let segments = part(self.section(section::SEGMENTS), place);
        let check_ports = cell & cell_flag::CHECK_PORTS != 0;
        let i = segments.partition_point(|&s| upper(s) <= key.port);
        let Some(&segment) = i.checked_sub(1).and_then(|i| segments.get(i)) else {
            return;
        };
        for &e in self.list(segment as u32) {
            if visit(e, check_ports) == Next::Enough {
                return;
            }
        }
    }

    /// Looks a key up in the hash table.
    fn cell(&self, w: u64, hi: u64, lo: u64) -> Option<u64> {
        let slots = self.section(section::SLOTS);
        let (slots, _) = slots.as_chunks::<SLOT>();
        let mask = slots.len().wrapping_sub(1);
        let mut i = hash_key(w, hi, lo) as usize;
        for _ in 0..slots.len() {
            let &[sw, shi, slo, cell] = slots.get(i & mask)?;
            if cell == 0 {
                return None;
            }
            if (sw, shi, slo) == (w, hi, lo) {
                let cell = usize::try_from(cell - 1).ok()?;
                return self.section(section::CELLS).get(cell).copied();
            }
            i = i.wrapping_add(1);
        }
        None
    }

    /// Do the ports of the rule hold the key's?
    pub(super) fn has_port(&self, rule: u32, key: &Key) -> bool {
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

    /// A list by its offset: its length, then its members.
    fn list(&self, from: u32) -> &'a [u64] {
        let lists = self.section(section::LISTS);
        let len = at(lists, from as usize) as u32;
        part(lists, (u64::from(from) + 1) << 32 | u64::from(len))
    }
}

/// An address as the index sees it.
pub(super) struct Key {
    class: Class,
    /// The address in the lower 32 or 128 bits.
    addr: u128,
    port: u32,
    reserved: bool,
    /// Of a Unix address; `None` elsewhere, and for a name of the kernel's choice.
    pub name: Option<UnixName>,
}

impl Key {
    pub fn of(addr: Option<&Addr>, v6only: bool, unprivileged_start: u16) -> Key {
        let mut key = Key {
            class: Class::Other,
            addr: 0,
            port: 0,
            reserved: false,
            name: None,
        };
        let Some(addr) = addr else {
            return key;
        };
        let ip_port = |key: &mut Key, port: u16| {
            key.port = u32::from(port);
            key.reserved = port != 0 && port < unprivileged_start;
        };
        match addr {
            Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => {
                ip_port(&mut key, *port);
                if let Some(ip) = addr.ipv4() {
                    key.addr = u128::from(u32::from_be_bytes(ip));
                    key.class = if key.addr == 0 {
                        Class::Wild4
                    } else {
                        Class::V4
                    };
                } else if let Addr::Inet6 { ip, .. } = addr {
                    key.addr = u128::from_be_bytes(*ip);
                    key.class = match (key.addr, v6only) {
                        (0, true) => Class::Wild6,
                        (0, false) => Class::WildDual,
                        _ => Class::V6,
                    };
                }
            }
            Addr::Vsock { cid, port, .. } => {
                key.port = *port;
                key.reserved = *port < VSOCK_UNPRIVILEGED;
                key.addr = u128::from(*cid);
                key.class = if addr.is_wildcard() {
                    Class::VsockWild
                } else {
                    Class::Vsock
                };
            }
            Addr::Unix(name) => match name.kind {
                UnixKind::Auto => key.class = Class::UnixAuto,
                UnixKind::Path => {
                    key.class = Class::UnixPath;
                    key.name = Some(tidy(name));
                }
                UnixKind::Abstract => {
                    key.class = Class::UnixAbstract;
                    key.name = Some(*name);
                }
            },
            Addr::Netlink { .. } | Addr::Packet { .. } => {}
        }
        key
    }

    /// The key's address cut to the length of a tuple's prefixes. `None` if
    /// it is shorter than that.
    fn cut(&self, len: u8) -> Option<(u64, u64)> {
        match self.class {
            Class::V4 | Class::Vsock => Some(cut(self.addr, len, 32)),
            Class::V6 => Some(cut(self.addr, len, 128)),
            Class::UnixPath | Class::UnixAbstract => {
                let name = self.name.as_ref().map_or(&[][..], UnixName::bytes);
                let n = match len {
                    WHOLE => name.len(),
                    n => usize::from(n),
                };
                Some((hash_bytes(name.get(..n)?), n as u64))
            }
            _ => Some((0, 0)),
        }
    }
}
