//! A trie of prefixes, as it is built; `layout.rs` says what it becomes.

use alloc::vec::Vec;

use super::layout::{key_of, node};

/// The addresses or names that begin with these bits: 128 in each key, but
/// for the last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Prefix {
    keys: Vec<u128>,
    /// Bits of the last key; the others are zero.
    len: u32,
}

/// The first `len` bits.
fn cut(key: u128, len: u32) -> u128 {
    key & !u128::MAX.checked_shr(len).unwrap_or(0)
}

impl Prefix {
    /// That of everything.
    pub const ALL: Prefix = Prefix {
        keys: Vec::new(),
        len: 0,
    };

    /// The first `len` bits of 128.
    pub fn of_128(bits: u128, len: u8) -> Prefix {
        let len = u32::from(len);
        if len == 0 {
            return Prefix::ALL;
        }
        Prefix {
            keys: alloc::vec![cut(bits, len)],
            len,
        }
    }

    /// The first `len` bits of 32.
    pub fn of_32(bits: u32, len: u8) -> Prefix {
        Prefix::of_128(u128::from(bits) << 96, len)
    }

    /// Does what begins with `other` begin with these bits?
    pub fn covers(&self, other: &Prefix) -> bool {
        let Some((last, before)) = self.keys.split_last() else {
            return true;
        };
        let (all, last2) = (before.len(), other.keys.get(before.len()));
        other.keys.get(..all) == Some(before)
            && last2.is_some_and(|last2| cut(*last2, self.len) == *last)
            && (other.keys.len() > self.keys.len() || self.len <= other.len)
    }

    /// The bytes of a name.
    pub fn of_bytes(bytes: &[u8]) -> Prefix {
        let keys: Vec<u128> = (0..bytes.len())
            .step_by(16)
            .map(|at| key_of(bytes, at))
            .collect();
        let before = keys.len().saturating_sub(1) * 16;
        Prefix {
            keys,
            len: 8 * (bytes.len() - before) as u32,
        }
    }
}

/// A prefix, and the cells of the rules that name it (+ 1, 0 for none).
struct Node {
    key: u128,
    len: u32,
    /// By the bit after the prefix. For 128 bits: the next key's root.
    links: [u32; 2],
    cell: u32,
    reserved: u32,
}

impl Node {
    fn new(key: u128, len: u32) -> Node {
        Node {
            key: cut(key, len),
            len,
            links: [0; 2],
            cell: 0,
            reserved: 0,
        }
    }

    /// Which of the links leads to `key`?
    fn side(&self, key: u128) -> usize {
        let bit = key.checked_shl(self.len).unwrap_or(0) >> 127;
        bit as usize
    }
}

/// All the tries of a policy.
#[derive(Default)]
pub(super) struct Tries {
    nodes: Vec<Node>,
}

impl Tries {
    /// Gives a prefix its cell; the root of its trie, which is 0 before the
    /// first.
    pub fn put(&mut self, root: u32, at: &Prefix, cell: u32, reserved: bool) -> u32 {
        let (last, before) = match at.keys.split_last() {
            Some((last, before)) => (*last, before),
            None => (0, &[][..]),
        };
        let mut first = root;
        let mut up = None;
        let mut link = root;
        for (key, len) in before
            .iter()
            .map(|key| (*key, node::KEY))
            .chain([(last, at.len)])
        {
            let (root, found) = self.find(link, key, len);
            match up {
                None => first = root,
                Some(up) => self.node(up).links[0] = root,
            }
            up = Some(found);
            link = self.node(found).links[0];
        }
        if let Some(found) = up {
            let node = self.node(found);
            *(if reserved {
                &mut node.reserved
            } else {
                &mut node.cell
            }) = cell + 1;
        }
        first
    }

    /// By its number + 1.
    fn node(&mut self, link: u32) -> &mut Node {
        &mut self.nodes[link as usize - 1]
    }

    fn add(&mut self, key: u128, len: u32) -> u32 {
        self.nodes.push(Node::new(key, len));
        self.nodes.len() as u32
    }

    /// The node of a prefix, made if there is none, and the root.
    fn find(&mut self, root: u32, key: u128, len: u32) -> (u32, u32) {
        let mut first = root;
        let mut up: Option<(u32, usize)> = None;
        let mut link = root;
        let found = loop {
            if link == 0 {
                break self.add(key, len);
            }
            let here = self.node(link);
            let common = (here.key ^ key).leading_zeros().min(here.len).min(len);
            if common < here.len {
                // One between this and what leads to it.
                let old = here.key;
                let between = self.add(key, common);
                let side = self.node(between).side(old);
                self.node(between).links[side] = link;
                match up {
                    None => first = between,
                    Some((up, side)) => self.node(up).links[side] = between,
                }
                if common == len {
                    return (first, between);
                }
                link = between;
            } else if here.len == len {
                return (first, link);
            } else {
                let side = here.side(key);
                up = Some((link, side));
                link = here.links[side];
            }
        };
        match up {
            None => first = found,
            Some((up, side)) => self.node(up).links[side] = found,
        }
        (first, found)
    }

    /// As words.
    pub fn words(&self) -> Vec<u64> {
        let nodes = self.nodes.iter();
        nodes
            .flat_map(|n| {
                [
                    (n.key >> 64) as u64,
                    n.key as u64,
                    node::links(n.links[0], n.links[1]),
                    node::word(n.len, n.cell, n.reserved),
                ]
            })
            .collect()
    }
}
