//! The rule language: parse, print, compile, match.
//!
//! `docs/policy.md` is the language for its users; this is the way through
//! the code:
//!
//! ```text
//!  text ── lex ──► words ── parse ──► Policy ── compile ──► Compiled { words }
//!                                      │  ▲                     │
//!                                      ▼  │                     ▼ (mapped)
//!                                     print                View::decide
//! ```
//!
//! Everything up to [`Compiled`] needs a heap and is part of the feature
//! `alloc`. [`View`] runs inside the host process, in signal handlers too: it
//! never allocates, locks or panics, and it trusts no word that it reads.

#[cfg(feature = "alloc")]
mod ast;
#[cfg(feature = "alloc")]
mod cells;
#[cfg(feature = "alloc")]
mod compile;
mod conditions;
mod decide;
#[cfg(feature = "alloc")]
mod described;
#[cfg(feature = "alloc")]
mod diag;
#[cfg(feature = "alloc")]
pub mod differ;
mod exec;
#[cfg(feature = "alloc")]
mod expect;
mod find;
#[cfg(feature = "alloc")]
mod footprint;
#[cfg(feature = "alloc")]
mod gaps;
mod glob;
// Half of the names are for the side that writes.
#[cfg_attr(not(feature = "alloc"), allow(dead_code))]
mod layout;
#[cfg(feature = "alloc")]
pub mod learn;
#[cfg(feature = "alloc")]
mod lex;
#[cfg(feature = "alloc")]
mod move_to;
#[cfg(feature = "alloc")]
mod parse;
#[cfg(feature = "alloc")]
mod part;
#[cfg(feature = "alloc")]
mod print;
#[cfg(feature = "alloc")]
mod settings;
mod shares;
#[cfg(feature = "alloc")]
mod suggest;
#[cfg_attr(not(feature = "alloc"), allow(dead_code))]
mod target;
#[cfg(feature = "alloc")]
mod terms;
#[cfg(feature = "alloc")]
mod trie;
mod uses;
mod view;
#[cfg(feature = "alloc")]
mod warn;

pub use crate::errno;

/// Longest directory of a fabric, bytes: what a name in it leaves of `sun_path`.
pub const MAX_FABRIC: usize = 72;

/// Longest path of `host vsock-uds` and `host vsock-port`, bytes: `_4294967295` and
/// `./` have room beside it.
pub const MAX_VSOCK_PATH: usize = 94;
/// The most ports that a run leases for each transport protocol.
pub const MAX_LEASES: u32 = crate::shared::LEASES as u32;

#[cfg(feature = "alloc")]
pub use ast::{
    Action, At, CidSet, DefaultLine, Defaults, Exit, Expectation, Expected, HostLine, HostSetting,
    IpSet, Kinds, Personality, Policy, PortSet, Program, Rule, Service, Sockets, SourceText,
    TargetHost, TargetPort, TargetSpec, Term, UnixTerm, User,
};
#[cfg(feature = "alloc")]
pub use compile::{
    Compiled, MAX_COUNTERS, Resolver, compile, set_lease, set_ruled_by_kernel, set_vsock_run,
};
pub use decide::{
    Candidates, Decision, Doubt, Foreseen, Outlook, Paths, Query, Room, Ruling, Times,
};
pub(crate) use decide::{Found, Search};
#[cfg(feature = "alloc")]
pub use diag::{Diagnostic, Severity, utf8 as text};
pub use exec::{ExecQuery, ExecRuling, Says};
#[cfg(feature = "alloc")]
pub use expect::{milliseconds, signal_name, signals};
#[cfg(feature = "alloc")]
pub use gaps::hints;
pub use glob::matches as glob_matches;
pub use layout::{BIND_PORTS, LayoutError, MAX_RULES};
#[cfg(feature = "alloc")]
pub use parse::{Source, parse, place};
pub use uses::Uses;
pub use view::View;

/// The operations that a policy judges, one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Op {
    /// socket(2) and socketpair(2)
    Socket,
    /// bind(2), and the bind that the kernel does on its own
    Bind,
    /// listen(2)
    Listen,
    /// connect(2), and a send to an address
    Connect,
    /// execve(2) and its relatives: the start of another program
    Exec,
}

impl Op {
    /// Every operation, in the order of its number.
    pub const ALL: [Op; 5] = [Op::Socket, Op::Bind, Op::Listen, Op::Connect, Op::Exec];

    /// The word of the language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Op::Socket => "socket",
            Op::Bind => "bind",
            Op::Listen => "listen",
            Op::Connect => "connect",
            Op::Exec => "exec",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Where a bind comes from that the program did not ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Implicit {
    /// The program called bind(2).
    #[default]
    No,
    /// From listen(2) on an unbound socket: every bind rule matches.
    Listen,
    /// From connect(2) or a send on an unbound socket: only rules that say
    /// `implicit` match, and the default does not apply.
    Connect,
}

/// The action that a decision asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Forward as asked.
    Allow,
    /// Refuse with the decision's error number.
    Deny,
    /// Forward with the decision's target instead.
    Move,
    /// Succeed, bound where nobody can reach it.
    Hide,
}

/// Whether decisions are carried out or only recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Carried out.
    Enforce,
    /// Only recorded.
    Observe,
}
