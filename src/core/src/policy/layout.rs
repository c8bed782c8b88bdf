//! The compiled policy as words: what [`compile`](fn@super::compile) writes and
//! [`super::View`] reads.
//!
//! A header, then sections that name each other by offset, so that the words
//! can be mapped anywhere. Numbers have the byte order of the machine.
//!
//! How an address finds its rules: the operation and the *class* of the address
//! (an IPv4 address, the IPv4 wildcard, …) give the root of a *trie* of
//! prefixes. The way down it passes the prefixes that hold the address, and ends
//! at the first that does not. A prefix that rules name has a *cell*, which is
//! cut into *segments* by port. A segment has a *list* of the rules that may
//! match, first rule first; rules that an earlier one always hides are not in it.

/// `bindgate` in ASCII.
pub(super) const MAGIC: u64 = u64::from_be_bytes(*b"bindgate");
/// Changed with every change of the layout.
pub(super) const VERSION: u32 = 11;

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
    /// The CID of the vsock host that the run is, or 0, in the lower half; the mode
    /// of its files in the fabric in the upper.
    pub const VSOCK_CID: usize = DEFAULTS + 2 * crate::policy::Op::ALL.len();
    /// The directory of its fabric: a string, or 0.
    pub const FABRIC: usize = VSOCK_CID + 1;
    /// The run whose host it is.
    pub const VSOCK_RUN: usize = FABRIC + 1;
    /// The path at which a virtual machine monitor speaks: a string, or 0.
    pub const VSOCK_UDS: usize = VSOCK_RUN + 1;
    /// Ports with a path of their own: a string of `PORT=PATH` and a NUL each, or 0.
    pub const VSOCK_PORTS: usize = VSOCK_UDS + 1;
    /// The CID of the monitor's guest.
    pub const VSOCK_GUEST: usize = VSOCK_PORTS + 1;
    /// One word for each section: offset << 32 | length.
    /// How many ports the run leases, or 0, and from which on in the upper half.
    pub const LEASE: usize = VSOCK_GUEST + 1;
    pub const SECTIONS: usize = LEASE + 1;
    pub const WORDS: usize = SECTIONS + super::section::COUNT;
}

pub(super) mod section {
    pub const RULES: usize = 0;
    pub const CONDITIONS: usize = 1;
    /// The root's number + 1, or 0, by operation and class.
    pub const DIRECTORY: usize = 2;
    pub const NODES: usize = 3;
    /// For cells with [`super::cell_flag::BUCKETS`]: condition << 32 | cell, in
    /// order.
    pub const BUCKETS: usize = 4;
    pub const CELLS: usize = 5;
    pub const SEGMENTS: usize = 6;
    pub const LISTS: usize = 7;
    pub const TARGETS: usize = 8;
    pub const SOURCES: usize = 9;
    pub const STRINGS: usize = 10;
    /// One bit for each IP port that a bind rule may match, port 0 for `auto`.
    pub const BIND_PORTS: usize = 11;
    /// The numbers of the rules about exec, in order.
    pub const EXEC: usize = 12;
    /// What `host share` lines name, [`super::SHARE`] words each.
    pub const SHARES: usize = 13;
    pub const COUNT: usize = 14;
}

/// Bits of the flags in the header. Those for operations are shifted left by
/// the operation's number.
pub(super) mod flag {
    pub const OBSERVE: u64 = 1;
    pub const IMPLICIT: u64 = 1 << 1;
    /// There is a rule with [`super::rule_flag::MOVES_VSOCK`].
    pub const MOVES_VSOCK: u64 = 1 << 2;
    /// The run's host is ruled by the model, which its daemon asks.
    pub const RULED: u64 = 1 << 3;
    /// There is a rule that says `followed`.
    pub const FOLLOWED: u64 = 1 << 4;
    pub const HAS_RULES: u64 = 1 << 8;
    pub const NEEDS_USER: u64 = 1 << 16;
    pub const NEEDS_PROGRAM: u64 = 1 << 24;
    /// A rule or the default refuses or changes something.
    pub const RESTRICTS: u64 = 1 << 32;
    /// A rule tells TCP from MPTCP, UDP from UDP-Lite, or names a protocol.
    pub const TELLS_SIBLINGS: u64 = 1 << 40;
    /// A rule may match a raw IPv4 socket.
    pub const NAMES_RAW: u64 = 1 << 48;
    /// A rule says `unprivileged`.
    pub const NEEDS_PRIVILEGE: u64 = 1 << 56;
}

/// Words of the section with a bit for each IP port.
pub const BIND_PORTS: usize = 65536 / 64;

/// Words of a rule:
/// verb | flags << 8 | errno << 16 | kinds << 32 | IP protocol or 0 << 48;
/// uid | condition + 1 << 32; [`super::Uses`] and its counter; pattern;
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
    /// The pattern is compared with the last component only.
    pub const NAME_ONLY: u8 = 1 << 5;
    /// It can put a Unix socket in the place of a vsock one.
    pub const MOVES_VSOCK: u8 = 1 << 6;
    /// Only without the privilege for it.
    pub const UNPRIVILEGED: u8 = 1 << 7;
}

/// A rule in a list: number << 32 | flags << 16 | kinds.
pub(super) mod entry {
    pub const ANY_KIND: u64 = 1 << 16;
    pub const NOTE: u64 = 1 << 17;
    /// Nothing but the kind is left to check.
    pub const PLAIN: u64 = 1 << 18;
    pub const IMPLICIT: u64 = 1 << 19;
    /// It allows, whoever the user is and however often.
    pub const ALLOWS: u64 = 1 << 20;
}

/// Words of a shared service: port | is it UDP << 16; its IPv6 or IPv4-mapped
/// address, upper and lower half.
pub(super) const SHARE: usize = 3;

/// Words of a condition: flags; pattern.
pub(super) const CONDITION: usize = 2;
pub(super) mod condition_flag {
    pub const SCRIPT: u64 = 1;
    /// Compare with the last component only.
    pub const NAME_ONLY: u64 = 1 << 1;
}

/// Words of a node: the prefix, upper and lower half; links; what is at it.
///
/// Keys have 128 bits, first bit first, and zeros after the address. A Unix
/// name has one for each 16 bytes: a node with all 128 bits has no children,
/// and where others have the left one is the root for the next 16.
pub(super) const NODE: usize = 4;
pub(super) mod node {
    /// Bits of a key.
    pub const KEY: u32 = 128;
    const CELL: u64 = (1 << 28) - 1;

    /// left + 1 | right + 1 << 32
    pub const fn links(left: u32, right: u32) -> u64 {
        left as u64 | (right as u64) << 32
    }

    /// Bits of the prefix; cell + 1, and cell + 1 for the reserved ports.
    pub const fn word(len: u32, cell: u32, reserved: u32) -> u64 {
        len as u64 | (cell as u64) << 8 | (reserved as u64) << 36
    }

    pub const fn len(word: u64) -> u32 {
        word as u8 as u32
    }

    pub const fn cell(word: u64) -> u32 {
        (word >> 8 & CELL) as u32
    }

    pub const fn reserved(word: u64) -> u32 {
        (word >> 36 & CELL) as u32
    }
}

/// A cell: first segment << 32 | flags | number of segments.
pub(super) mod cell_flag {
    /// Rules with conditions stand in cells of their own; the next word says
    /// where: offset << 32 | length in the section of that name.
    pub const BUCKETS: u64 = 1 << 31;
    /// One segment, and the ports of each rule must be looked at.
    pub const CHECK_PORTS: u64 = 1 << 30;
    pub const COUNT: u64 = CHECK_PORTS - 1;
}

/// In a rule's port ranges: the reserved ports.
pub(super) const RESERVED_PORTS: u64 = u64::MAX;
/// vsock ports below this one need a privilege (`LAST_RESERVED_PORT`).
pub(super) const VSOCK_UNPRIVILEGED: u32 = 1024;

/// The class of an address, which selects a trie.
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

/// Up to 16 bytes of a name as a key, from `at` on.
pub(super) fn key_of(name: &[u8], at: usize) -> u128 {
    let rest = name.get(at..).unwrap_or(&[]);
    if let Some(all) = rest.first_chunk() {
        return u128::from_be_bytes(*all);
    }
    let key = rest.iter().fold(0, |key, &b| key << 8 | u128::from(b));
    let behind = 128 - 8 * rest.len() as u32;
    key.checked_shl(behind).unwrap_or(0)
}
