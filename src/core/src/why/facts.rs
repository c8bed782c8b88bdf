//! What there is to know about a call that failed.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::addr::Addr;
use crate::errno::Errno;
use crate::model::{Host, State};
use crate::policy::Op;
use crate::render::HolderState;
use crate::socket::{BindOptions, SocketType};

/// The call that failed.
#[derive(Clone, Debug)]
pub struct Question {
    /// Bind, listen or connect.
    pub op: Op,
    /// The socket.
    pub kind: SocketType,
    /// The address.
    pub addr: Addr,
    /// The options that it had.
    pub options: BindOptions,
    /// Its device, or 0.
    pub device: u32,
    /// Its user, if that is known.
    pub uid: Option<u32>,
    /// `SO_COOKIE`, or 0.
    pub cookie: u64,
    /// The error.
    pub errno: Errno,
    /// When it failed, in nanoseconds since the epoch; 0 for now.
    pub at_ns: u64,
}

/// What is known beside the call. What is empty is not there, unless `unseen` says
/// that it could not be looked for.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Addresses and settings of the network; `None` if it cannot be looked into.
    pub host: Option<Box<Host>>,
    /// Has the caller `CAP_NET_BIND_SERVICE` where it counts?
    pub may_bind_low: Option<bool>,
    /// The sockets of this network at the port, or at the name.
    pub sockets: Vec<Seen>,
    /// Listeners at the port in other networks.
    pub elsewhere: Vec<Elsewhere>,
    /// Who had the port in this run, the oldest first.
    pub former: Vec<Former>,
    /// It had the address when the call failed, and has left it since.
    pub gone: Option<Seen>,
    /// The rule that refused.
    pub rule: Option<Ruling>,
    /// Does something stand at the Unix path?
    pub has_file: bool,
    /// Seccomp filters of the caller.
    pub filters: Option<u32>,
    /// Security modules of the kernel that may refuse a bind.
    pub modules: String,
    /// The addresses that are not in `host`: the model has no room for them.
    pub has_more_addresses: bool,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
    /// Seconds that local time is ahead of UTC; `None`: times as JSON lines have them.
    pub utc_offset: Option<i32>,
}

/// A rule that refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// `rule 2, web.policy:4`
    pub place: String,
    /// As it was understood.
    pub text: String,
}

/// A socket.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it is.
    pub kind: SocketType,
    /// Its address.
    pub addr: Addr,
    /// The other end, where it has one.
    pub peer: Option<Addr>,
    /// What it does.
    pub state: HolderState,
    /// The kernel's word for that, where it says more.
    pub phase: Option<&'static str>,
    /// Its user.
    pub uid: Option<u32>,
    /// Its inode; 0 if no process has it.
    pub inode: u32,
    /// `SO_COOKIE`, or 0.
    pub cookie: u64,
    /// Its device, or 0.
    pub device: u32,
    /// Its options, as far as they are known.
    pub options: BindOptions,
    /// Of TIME_WAIT: how long it lasts yet.
    pub left_ms: Option<u32>,
    /// When it was bound, or 0.
    pub since_ns: u64,
    /// Is it of the run? `None`: there is no run.
    pub in_run: Option<bool>,
    /// Did a connect() or a send bind it? `None` if that is not known.
    pub on_the_way: Option<bool>,
    /// The processes that have it open, as far as they can be seen.
    pub open_in: Vec<Opener>,
    /// Who bound it, by the records of the run.
    pub bound_by: Option<Opener>,
    /// The control group that made it.
    pub group: Option<String>,
    /// May the processes of everybody be looked at?
    pub all_seen: bool,
}

impl Seen {
    /// Its state, for the model.
    pub(super) fn model_state(&self) -> State {
        match self.state {
            HolderState::Listening => State::Listen,
            HolderState::TimeWait => State::TimeWait,
            HolderState::Bound => State::Close,
            HolderState::Connected => State::Established,
        }
    }
}

/// A process that has a socket open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opener {
    /// Its id; 0 if it is not known.
    pub pid: u32,
    /// Its program's file name; empty if it is not known.
    pub program: String,
    /// Where it comes from, if that was looked up.
    pub lineage: Lineage,
}

/// Where a process comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    /// Parent, grandparent and so on.
    pub parents: Vec<(u32, String)>,
    /// The service or scope of the supervisor: `nginx.service`.
    pub unit: Option<String>,
    /// The container, in words: `the Docker container 3f2a1b…`.
    pub container: Option<String>,
    /// Its terminal: `pts/3`.
    pub terminal: Option<String>,
    /// When it started, in nanoseconds since the epoch; 0 if that is not known.
    pub started_ns: u64,
}

/// A listener in another network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Elsewhere {
    /// Where it listens.
    pub addr: Addr,
    /// A process of that network; the one that listens, if `is_listener`.
    pub process: Opener,
    /// Has this very process the listener open?
    pub is_listener: bool,
}

/// Somebody of the run who had the port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Former {
    /// Process id.
    pub pid: u32,
    /// Its program's file name.
    pub program: String,
    /// The address that it had.
    pub addr: Addr,
    /// When it was bound.
    pub bound_ns: u64,
    /// The kernel had chosen the port.
    pub automatic: bool,
    /// Did it listen?
    pub listened: bool,
    /// It is known to have been closed by then; 0 while it has the port.
    pub closed_by_ns: u64,
}
