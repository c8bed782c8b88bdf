//! Who holds an address that a program could not have.

use core::fmt::{self, Write};

use super::json::{Object, Stamp};
use super::names::Address;
use super::{Readable, civil};
use crate::addr::RawAddr;

/// What the holder does with the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HolderState {
    /// It is bound to it.
    Bound,
    /// It listens there.
    Listening,
    /// It is one end of a connection.
    Connected,
    /// A connection has ended, and the address is not free yet.
    TimeWait,
}

impl HolderState {
    /// Every state.
    pub const ALL: [HolderState; 4] = [
        HolderState::Bound,
        HolderState::Listening,
        HolderState::Connected,
        HolderState::TimeWait,
    ];

    /// The name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HolderState::Bound => "bound",
            HolderState::Listening => "listening",
            HolderState::Connected => "connected",
            HolderState::TimeWait => "time_wait",
        }
    }
}

/// Who holds an address. What is not known is 0, empty or `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder<'a> {
    /// The process that bound it or, outside the run, has it open.
    pub pid: u32,
    /// Its executable.
    pub program: &'a [u8],
    /// The socket's user.
    pub uid: Option<u32>,
    /// The socket's inode.
    pub inode: u32,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// The address that it holds.
    pub addr: RawAddr,
    /// What it does there.
    pub state: Option<HolderState>,
    /// Since when, in nanoseconds since the epoch.
    pub since_ns: u64,
    /// Is it a socket of this run?
    pub in_run: bool,
    /// It held the address when the bind failed, and has gone since.
    pub gone: bool,
}

impl Holder<'_> {
    /// A socket of which only the cookie is known.
    #[must_use]
    pub const fn of_cookie(cookie: u64) -> Self {
        Holder {
            pid: 0,
            program: &[],
            uid: None,
            inode: 0,
            cookie,
            addr: RawAddr::EMPTY,
            state: None,
            since_ns: 0,
            in_run: true,
            gone: false,
        }
    }
}

/// The value of `holder` in a JSON line.
pub(super) fn json(w: &mut dyn Write, h: &Holder<'_>) -> fmt::Result {
    let mut o = Object::open(w)?;
    o.maybe_bare("pid", (h.pid != 0).then_some(h.pid))?;
    let program = (!h.program.is_empty()).then_some(Readable(h.program));
    o.maybe_string("program", program)?;
    o.maybe_bare("uid", h.uid)?;
    o.maybe_bare("inode", (h.inode != 0).then_some(h.inode))?;
    o.maybe_bare("cookie", (h.cookie != 0).then_some(h.cookie))?;
    let addr = (!h.addr.bytes().is_empty()).then_some(Address(&h.addr));
    o.maybe_string("address", addr)?;
    o.maybe_word("state", h.state.map(HolderState::name))?;
    o.maybe_string("since", (h.since_ns != 0).then_some(Stamp(h.since_ns)))?;
    o.truth("in_run", h.in_run)?;
    o.truth("gone", h.gone)?;
    o.close()
}

/// A holder in words, for a line of text.
pub(super) struct HeldBy<'a> {
    pub holder: &'a Holder<'a>,
    /// Seconds that local time is ahead of UTC.
    pub utc_offset: i32,
    /// When the line was written.
    pub now_ns: u64,
}

impl fmt::Display for HeldBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 86_400_000_000_000;
        let h = self.holder;
        f.write_str(if h.gone { "was held by " } else { "held by " })?;
        let name = h.program.rsplit(|b| *b == b'/').next().unwrap_or(&[]);
        match (name, h.pid, h.uid) {
            ([_, ..], 1.., _) => write!(f, "{}[{}]", Readable(name), h.pid)?,
            ([_, ..], 0, _) => write!(f, "{}", Readable(name))?,
            ([], 1.., _) => write!(f, "process {}", h.pid)?,
            ([], 0, Some(uid)) => write!(f, "a process of uid {uid}")?,
            ([], 0, None) if h.cookie != 0 && h.state.is_none() => {
                return write!(f, "socket {}", h.cookie);
            }
            ([], 0, None) => f.write_str("nobody any more")?,
        }
        if !h.addr.bytes().is_empty() {
            write!(f, " at {}", Address(&h.addr))?;
        }
        match h.state {
            None => {}
            Some(HolderState::TimeWait) => f.write_str(", in TIME_WAIT")?,
            Some(state) => write!(f, ", {}", state.name())?,
        }
        if h.since_ns != 0 {
            let c = civil(h.since_ns, self.utc_offset);
            f.write_str(" since ")?;
            if self.now_ns.abs_diff(h.since_ns) > DAY {
                write!(f, "{:04}-{:02}-{:02} ", c.year, c.month, c.day)?;
            }
            write!(f, "{:02}:{:02}:{:02}", c.hour, c.minute, c.second)?;
        }
        if (h.pid, name) == (0, &[]) && h.inode != 0 {
            write!(f, ", inode {}", h.inode)?;
        }
        f.write_str(if h.in_run {
            ", in this run"
        } else {
            ", outside this run"
        })?;
        f.write_str(if h.gone { ", gone since" } else { "" })
    }
}
