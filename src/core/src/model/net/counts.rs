//! How many owners of each class: a hash table of plain values.

use bytemuck::{Pod, Zeroable};

use super::class::{Class, Scope};

/// Which owners of a class are counted: those of a device, of a user, of both,
/// or all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Of {
    pub dev: Option<u32>,
    pub uid: Option<u32>,
}

impl Of {
    pub const ALL: Of = Of {
        dev: None,
        uid: None,
    };
}

/// One number of the table, with what it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::model) struct Count {
    scope: u32,
    dev: u32,
    uid: u32,
    /// Class and which of device and user are meant.
    sel: u32,
    /// 0 for a free place.
    n: u32,
    /// The class's list of sockets, one more than the first's number; 0 for
    /// none.
    head: u32,
}

impl Count {
    pub(super) const FREE: Count = Count {
        scope: 0,
        dev: 0,
        uid: 0,
        sel: 0,
        n: 0,
        head: 0,
    };

    fn key(scope: Scope, class: Class, of: Of) -> Count {
        Count {
            scope: scope.key(),
            dev: of.dev.unwrap_or(0),
            uid: of.uid.unwrap_or(0),
            sel: u32::from(class.0)
                | u32::from(of.dev.is_some()) << 8
                | u32::from(of.uid.is_some()) << 9,
            ..Count::FREE
        }
    }

    fn is(&self, key: &Count) -> bool {
        self.scope == key.scope && self.sel == key.sel && self.dev == key.dev && self.uid == key.uid
    }

    fn home(&self, mask: usize) -> usize {
        let mut h = u64::from(self.scope) << 32 | u64::from(self.sel);
        h = h.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= h >> 32 ^ u64::from(self.dev) << 32 ^ u64::from(self.uid);
        h = h.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h ^= h >> 32;
        h as usize & mask
    }
}

/// The table: linear probing, and no gap is left behind a removed number. Its
/// length is a power of two, and more than can be counted at a time.
#[derive(Debug)]
pub(in crate::model) struct Counts<'m>(pub &'m mut [Count]);

impl Counts<'_> {
    fn mask(&self) -> usize {
        self.0.len().wrapping_sub(1)
    }

    /// Where the key is, or the free place where it would go.
    fn find(&self, key: &Count) -> Option<usize> {
        let mask = self.mask();
        let mut at = key.home(mask);
        for _ in 0..self.0.len() {
            let c = self.0.get(at)?;
            if c.n == 0 || c.is(key) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// How many.
    pub fn get(&self, scope: Scope, class: Class, of: Of) -> u32 {
        self.find(&Count::key(scope, class, of))
            .and_then(|at| self.0.get(at))
            .map_or(0, |c| c.n)
    }

    /// `by` more.
    pub fn add(&mut self, scope: Scope, class: Class, of: Of, by: u32) {
        let key = Count::key(scope, class, of);
        if let Some(c) = self.find(&key).and_then(|at| self.0.get_mut(at)) {
            if c.n == 0 {
                *c = key;
            }
            c.n = c.n.saturating_add(by);
        }
    }

    /// One less; says how many are left.
    pub fn sub(&mut self, scope: Scope, class: Class, of: Of) -> u32 {
        let Some(mut hole) = self.find(&Count::key(scope, class, of)) else {
            return 0;
        };
        let Some(c) = self.0.get_mut(hole) else {
            return 0;
        };
        c.n = c.n.saturating_sub(1);
        if c.n > 0 {
            return c.n;
        }
        *c = Count::FREE;
        // What was pushed past the hole moves into it.
        let mask = self.mask();
        let mut at = hole;
        for _ in 0..self.0.len() {
            at = (at + 1) & mask;
            let Some(&next) = self.0.get(at).filter(|c| c.n != 0) else {
                break;
            };
            let home = next.home(mask);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                if let Some(to) = self.0.get_mut(hole) {
                    *to = next;
                }
                if let Some(from) = self.0.get_mut(at) {
                    *from = Count::FREE;
                }
                hole = at;
            }
        }
        0
    }

    /// The first socket of a class's list, one more than its number.
    pub fn head(&self, scope: Scope, class: Class) -> u32 {
        self.find(&Count::key(scope, class, Of::ALL))
            .and_then(|at| self.0.get(at))
            .map_or(0, |c| c.head)
    }

    /// Sets it, for a class that has sockets.
    pub fn set_head(&mut self, scope: Scope, class: Class, head: u32) {
        if let Some(c) = self
            .find(&Count::key(scope, class, Of::ALL))
            .and_then(|at| self.0.get_mut(at))
            .filter(|c| c.n != 0)
        {
            c.head = head;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Against a map, in a small and nearly full table: many wrap round.
    #[test]
    fn a_removed_number_leaves_no_gap() {
        let mut places = [Count::FREE; 32];
        let mut counts = Counts(&mut places);
        let mut map: HashMap<(u32, u8, Option<u32>), u32> = HashMap::new();
        let mut x = 1u64;
        for _ in 0..200_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let r = (x >> 33) as u32;
            let (scope, class, uid) = (
                r % 5,
                (r / 5 % 3) as u8,
                (r / 15).is_multiple_of(2).then_some(r / 30 % 3),
            );
            let of = Of { dev: None, uid };
            let key = (scope, class, uid);
            if r & 1 << 20 == 0 && (map.len() < 30 || map.contains_key(&key)) {
                counts.add(Scope::Port(scope), Class(class), of, 1);
                *map.entry(key).or_default() += 1;
            } else if map.contains_key(&key) {
                counts.sub(Scope::Port(scope), Class(class), of);
                if let Some(n) = map.get_mut(&key) {
                    *n -= 1;
                }
                map.retain(|_, n| *n > 0);
            }
            for ((scope, class, uid), n) in &map {
                let of = Of {
                    dev: None,
                    uid: *uid,
                };
                assert_eq!(counts.get(Scope::Port(*scope), Class(*class), of), *n);
            }
            assert_eq!(counts.0.iter().filter(|c| c.n != 0).count(), map.len());
        }
    }
}
