//! The compiled policy as words: what [`super::compile`] writes and
//! [`super::View`] reads.
//!
//! A header, then sections that name each other by offset, so that the words
//! can be mapped anywhere. Numbers have the byte order of the machine.
//!
//! How an address finds its rules: its *class* (an IPv4 address, the IPv4
//! wildcard, …) and the operation give a few *tuples*, one for each length of
//! prefix in use. The address cut to that length is looked up in a hash table
//! and gives a *cell*, which is cut into *segments* by port. A segment has a
//! *list* of the rules that may match, first rule first; rules that an earlier
//! one always hides are not in it.

/// `bindgate` in ASCII.
pub(super) const MAGIC: u64 = u64::from_be_bytes(*b"bindgate");
/// Changed with every change of the layout.
pub(super) const VERSION: u32 = 2;

/// Rules of a policy, at most.
pub const MAX_RULES: usize = 65_535;

/// Why words are not a compiled policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutError {
    /// Not even a header.
    TooShort,
    /// They do not begin as a policy does.
    Magic,
    /// Another version of this program wrote them.
    Version,
    /// A length that does not fit.
    Length,
}

impl core::fmt::Display for LayoutError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            LayoutError::TooShort => "too short for a policy",
            LayoutError::Magic => "not a compiled policy",
            LayoutError::Version => "a policy compiled by another version",
            LayoutError::Length => "a compiled policy with a length that does not fit",
        })
    }
}

/// Words of the header.
pub(super) mod header {
    pub const MAGIC: usize = 0;
    /// Version in the upper half, words in all in the lower.
    pub const VERSION: usize = 1;
    pub const FLAGS: usize = 2;
    /// Counters in the lower half, conditions in the upper.
    pub const COUNTS: usize = 3;
    /// Two words for each operation: errno | set << 16 | source << 32; line.
    pub const DEFAULTS: usize = 4;
    /// One word for each section: offset << 32 | length.
    pub const SECTIONS: usize = 12;
    pub const WORDS: usize = SECTIONS + super::section::COUNT;
}

pub(super) mod section {
    pub const RULES: usize = 0;
    pub const CONDITIONS: usize = 1;
    /// offset << 32 | length into `TUPLES`, by operation and class.
    pub const DIRECTORY: usize = 2;
    pub const TUPLES: usize = 3;
    pub const SLOTS: usize = 4;
    pub const CELLS: usize = 5;
    pub const SEGMENTS: usize = 6;
    pub const LISTS: usize = 7;
    pub const TARGETS: usize = 8;
    pub const SOURCES: usize = 9;
    pub const STRINGS: usize = 10;
    /// One bit for each IP port that a bind rule may match, port 0 for `auto`.
    pub const BIND_PORTS: usize = 11;
    pub const COUNT: usize = 12;
}

/// Bits of the flags in the header. Those for operations are shifted left by
/// the operation's number.
pub(super) mod flag {
    pub const OBSERVE: u64 = 1;
    pub const IMPLICIT: u64 = 1 << 1;
    pub const HAS_RULES: u64 = 1 << 8;
    pub const NEEDS_USER: u64 = 1 << 12;
    pub const NEEDS_PROGRAM: u64 = 1 << 16;
}

/// Words of [`section::BIND_PORTS`].
pub const BIND_PORTS: usize = 65536 / 64;

/// Words of a rule:
/// verb | flags << 8 | errno << 16 | kinds << 32;
/// uid | condition + 1 << 32; limit | counter << 32; pattern;
/// target | source << 32; line;
/// list of IP port ranges | list of vsock port ranges << 32; text.
pub(super) const RULE: usize = 8;

pub(super) mod verb {
    pub const ALLOW: u8 = 0;
    pub const DENY: u8 = 1;
    pub const MOVE: u8 = 2;
    pub const HIDE: u8 = 3;
    pub const NOTE: u8 = 4;
}

pub(super) mod rule_flag {
    pub const IMPLICIT: u8 = 1;
    pub const USER: u8 = 1 << 1;
    /// There is a pattern, and the Unix name must match it.
    pub const PATTERN: u8 = 1 << 2;
    /// The pattern is a name, not a glob.
    pub const LITERAL: u8 = 1 << 3;
    pub const TIMES: u8 = 1 << 4;
}

/// A rule in a list: number << 32 | flags << 16 | kinds.
pub(super) mod entry {
    pub const ANY_KIND: u64 = 1 << 16;
    pub const NOTE: u64 = 1 << 17;
    /// Nothing but the kind is left to check.
    pub const PLAIN: u64 = 1 << 18;
    pub const IMPLICIT: u64 = 1 << 19;
}

/// Words of a condition: flags; pattern.
pub(super) const CONDITION: usize = 2;
pub(super) mod condition_flag {
    pub const SCRIPT: u64 = 1;
    /// Compare with the last component only.
    pub const NAME_ONLY: u64 = 1 << 1;
}

/// A tuple: first rule << 32 | reserved << 8 | length of the prefix.
pub(super) const RESERVED_TUPLE: u64 = 1 << 8;
/// In place of a prefix length: the whole Unix name.
pub(super) const WHOLE: u8 = 255;

/// Words of a slot of the hash table:
/// tuple << 32 | condition + 1; address, upper half; lower half; cell + 1.
/// A cell of 0 is an empty slot.
pub(super) const SLOT: usize = 4;

/// A cell: first segment << 32 | flags | number of segments.
pub(super) mod cell_flag {
    /// Rules with conditions stand in cells of their own.
    pub const BUCKETS: u64 = 1 << 31;
    /// One segment, and the ports of each rule must be looked at.
    pub const CHECK_PORTS: u64 = 1 << 30;
    pub const COUNT: u64 = CHECK_PORTS - 1;
}

/// In a rule's port ranges: the reserved ports.
pub(super) const RESERVED_PORTS: u64 = u64::MAX;
/// vsock ports below this one need a privilege (`LAST_RESERVED_PORT`).
pub(super) const VSOCK_UNPRIVILEGED: u32 = 1024;

/// What sort of address it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Class {
    /// Nothing that rules can name.
    Other,
    V4,
    V6,
    /// 0.0.0.0
    Wild4,
    /// `::` that receives IPv6 only
    Wild6,
    /// `::` that receives both
    WildDual,
    Vsock,
    VsockWild,
    UnixAuto,
    UnixPath,
    UnixAbstract,
}

impl Class {
    pub const COUNT: usize = 11;
}

/// An IP address or context id cut to the first `len` of `max` bits, where
/// the address stands in the lower `max` bits.
pub(super) fn cut(addr: u128, len: u8, max: u8) -> (u64, u64) {
    let drop = u32::from(max.saturating_sub(len));
    let a = addr.checked_shr(drop).unwrap_or(0);
    let a = a.checked_shl(drop).unwrap_or(0);
    ((a >> 64) as u64, a as u64)
}

const K: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(h: u64, w: u64) -> u64 {
    let h = (h ^ w).wrapping_mul(K);
    h ^ (h >> 29)
}

/// The place of a key in the hash table.
pub(super) fn hash_key(w: u64, hi: u64, lo: u64) -> u64 {
    mix(mix(mix(K, w), hi), lo)
}

/// A hash of bytes.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut h = mix(K, bytes.len() as u64);
    let (chunks, rest) = bytes.as_chunks::<8>();
    for c in chunks {
        h = mix(h, u64::from_le_bytes(*c));
    }
    let mut last = 0u64;
    for &b in rest {
        last = last << 8 | u64::from(b);
    }
    mix(h, last)
}
