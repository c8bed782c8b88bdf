//! One call, decided.
//!
//! Each operation has a state machine that does no I/O. A driver makes it from
//! what the program asked, and calls `step` until there is a verdict:
//!
//! ```text
//!   step() ─► Need  ─► the driver asks the kernel, `feed` takes the answer ─► step()
//!          └► Done  ─► verdict()
//! ```
//!
//! A machine asks for no more than its verdict depends on, in the order of
//! `__sys_bind`. The hooks of the shim are a driver, so are `explain` and the
//! tests. A driver decides nothing: which rule holds, which errno a refusal
//! has and where a redirect goes is said here.
//!
//! | module | what it decides |
//! |---|---|
//! | [`bind`] | bind(2), and the bind that another call brings about |
//! | [`connect`] | connect(2), and a send that names a peer |
//! | [`listen`] | listen(2): the `listen` rules, and the bind that comes with it |
//! | [`socket`] | socket(2), and which sockets are another one from their birth |
//! | [`vsock`] | every call on a vsock socket, where the run is a vsock host |
//! | [`host`] | what of a host that the model rules is to be carried out here |
//! | [`lease`] | which automatic binds get a port that stays the run's |
//! | [`block`] | nothing: where the loopback of a run really is that has ports of its own |
//! | [`broker`] | which binds the port broker does for programs without privilege |
//! | [`redirect`] | where a redirected socket goes, and what cannot be redirected |
//! | [`fast`] | nothing by itself: it says at once what of most binds the others would say |
//! | [`follow`] | where a client goes that calls a server which a rule moved |
//! | `call`, `rules` | what all of them share: the way through the rules |

pub mod bind;
pub mod block;
pub mod broker;
mod call;
pub mod connect;
pub mod fast;
pub mod follow;
pub mod host;
pub mod lease;
pub mod listen;
pub mod redirect;
mod rules;
pub mod socket;
pub mod vsock;

pub use call::{Action, Call, as_raw_ipv4, raw_ipv4_of};
pub use rules::{Verdict, enter};

use crate::addr::Addr;
use crate::policy::{Op, Query, Uses, View};
use crate::record::Identity;
use crate::socket::{SocketType, proto};

/// Who calls, and under which policy.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'p> {
    /// The policy.
    pub view: &'p View<'p>,
    /// Are verdicts only recorded?
    pub observe: bool,
    /// `net.ipv4.ip_unprivileged_port_start` of the caller's network namespace.
    pub unprivileged_start: u16,
    /// The executable's path; empty where it is unknown.
    pub program: &'p [u8],
    /// The path of the script that `#!` started, or nothing.
    pub script: &'p [u8],
}

impl<'p> Caller<'p> {
    /// May a vsock socket be a Unix socket from its birth, a *carrier*? See
    /// [`socket::carrier`].
    #[must_use]
    pub fn has_carriers(&self) -> bool {
        self.is_vsock_host() || self.view.moves_vsock() && !self.observe
    }

    /// Is the run a vsock host, so that every vsock socket of it is a carrier?
    /// See [`vsock`].
    #[must_use]
    pub fn is_vsock_host(&self) -> bool {
        self.view.vsock_cid().is_some()
    }

    /// The question to the rules about `op`, as far as the caller answers it.
    #[must_use]
    pub fn query(&self, op: Op) -> Query<'p> {
        Query {
            op,
            unprivileged_start: self.unprivileged_start,
            program: self.program,
            script: self.script,
            ..Query::default()
        }
    }
}

/// A socket, as far as a driver made sure of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Socket {
    /// `SO_COOKIE`, or the inode number, or 0 where nobody asked for it.
    pub cookie: u64,
    /// Which of these it is.
    pub identity: Identity,
    /// Family, type and protocol. The family may be the one before
    /// `IPV6_ADDRFORM`; where the two IP families differ, the address decides.
    pub ty: SocketType,
    /// How well that is known.
    pub known: Known,
}

/// How well a socket's type is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Its protocol may be the [sibling] one.
    Nearly,
    /// Exactly.
    Exactly,
    /// Exactly, as its program knows it. It is a carrier: a Unix socket that was
    /// made in the place of one of that type. It has neither a name nor a peer
    /// yet, unless the run is a vsock host.
    AsCarrier,
}

impl Socket {
    /// A socket by its type alone, as a script or `explain` describes it.
    #[must_use]
    pub fn described(ty: SocketType) -> Socket {
        Socket {
            cookie: 0,
            identity: Identity::None,
            ty,
            known: Known::Exactly,
        }
    }

    /// Is its protocol known?
    #[must_use]
    #[inline]
    pub fn is_exact(&self) -> bool {
        self.known != Known::Nearly
    }

    /// Is it a carrier?
    #[must_use]
    #[inline]
    pub fn is_carrier(&self) -> bool {
        self.known == Known::AsCarrier
    }

    /// Are its addresses such as no rule can name?
    #[must_use]
    pub fn is_unread(&self) -> bool {
        !self.ty.is_read()
    }
}

/// The type that answers to the same socket options: MPTCP for TCP, UDP-Lite
/// for UDP. One question tells such a pair from everything else, but not the
/// two from each other.
#[must_use]
pub fn sibling(ty: SocketType) -> Option<SocketType> {
    let protocol = match ty.protocol {
        proto::TCP => proto::MPTCP,
        proto::MPTCP => proto::TCP,
        proto::UDP => proto::UDPLITE,
        proto::UDPLITE => proto::UDP,
        _ => return None,
    };
    Some(SocketType { protocol, ..ty })
}

/// What a machine has to know before it can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// What the socket is, by the kernel's word: [`Answer::Socket`].
    Socket,
    /// `SO_PROTOCOL`, where that answer was not exact: [`Answer::Protocol`].
    Protocol,
    /// Has the socket a local port or name? [`Answer::Bound`].
    Bound,
    /// The local name of the socket as its program believes it, and what its
    /// program believes it to be: [`Answer::Name`].
    Name,
    /// `IPV6_V6ONLY`: [`Answer::V6Only`].
    V6Only,
    /// The effective user id: [`Answer::User`].
    User,
    /// Has the caller the privilege for the port that it asks for
    /// (`CAP_NET_BIND_SERVICE` in the user namespace of the network namespace)?
    /// [`Answer::Unprivileged`].
    Privilege {
        /// That port.
        port: u16,
    },
    /// Is this match of a rule the rule's, by a counter that the run's processes share?
    /// [`Answer::Use`].
    Use {
        /// Which counter.
        counter: u32,
        /// Which matches are the rule's.
        uses: Uses,
    },
}

/// An answer to a [`Need`]. Where the driver may not ask the kernel, it says
/// so, and the machine judges so that every possibility is covered.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// What the socket is.
    Socket(Socket),
    /// The descriptor is none, or not a socket's: the kernel will say so.
    NoSocket,
    /// Nobody may ask what the socket is.
    UnknownSocket,
    /// `SO_PROTOCOL`; `None` where it could not be had.
    Protocol(Option<u16>),
    /// Whether the socket has a local port or name; `None` where nobody may ask.
    Bound(Option<bool>),
    /// What the program believes the socket to be, and its local name, if that
    /// can be read. `None` where nobody may ask.
    Name(Option<(SocketType, Option<&'a Addr>)>),
    /// `IPV6_V6ONLY`; `None` where nobody may ask: then the socket is judged as
    /// one that receives both families.
    V6Only(Option<bool>),
    /// The effective user id; `None` where nobody may ask.
    User(Option<u32>),
    /// Has the caller no such privilege? `None` where nobody may ask.
    Unprivileged(Option<bool>),
    /// The use was taken; false if there is none left.
    Use(bool),
}

/// How far a machine has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It has to know something.
    Need(Need),
    /// There is a verdict.
    Done,
}
