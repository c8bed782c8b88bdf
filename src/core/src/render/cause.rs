//! Why a call failed, in a line of the log.

use core::fmt::{self, Write};

use super::Readable;
use super::json::{Object, Stamp, quoted};
use super::names::Address;
use crate::addr::RawAddr;

/// The cause that [`crate::why`] has found, in words. Of several sentences each is a
/// line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Explained<'a> {
    /// The word for it.
    pub cause: &'a str,
    /// The cause in one sentence.
    pub text: &'a str,
    /// What a line of text says beside the holder; it may be empty.
    pub clause: &'a str,
    /// What is known beside it.
    pub details: &'a str,
    /// What would mend it.
    pub mends: &'a str,
    /// What could not be seen, and why.
    pub unseen: &'a str,
    /// Who had the port in this run, the oldest first.
    pub history: &'a [Tenure<'a>],
}

/// Somebody of the run who had the port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tenure<'a> {
    /// Process id.
    pub pid: u32,
    /// The file name of its program; empty if it is not known.
    pub program: &'a str,
    /// The address.
    pub addr: RawAddr,
    /// When it was bound, in nanoseconds since the epoch.
    pub bound_ns: u64,
    /// The kernel had chosen the port.
    pub automatic: bool,
    /// It listened.
    pub listened: bool,
    /// It is known to have been closed by then; 0 while it has the port.
    pub closed_by_ns: u64,
}

/// The value of `why` in a JSON line.
pub(super) fn json(w: &mut dyn Write, e: &Explained<'_>) -> fmt::Result {
    let mut o = Object::open(w)?;
    o.word("cause", e.cause)?;
    o.string("text", Readable(e.text.as_bytes()))?;
    for (name, lines) in [
        ("details", e.details),
        ("mends", e.mends),
        ("unseen", e.unseen),
    ] {
        o.list(name, lines.lines(), |w, line| {
            quoted(w, Readable(line.as_bytes()))
        })?;
    }
    o.list("history", e.history, |w, t| {
        let mut o = Object::open(w)?;
        o.bare("pid", t.pid)?;
        let program = (!t.program.is_empty()).then_some(Readable(t.program.as_bytes()));
        o.maybe_string("program", program)?;
        o.string("address", Address(&t.addr))?;
        o.string("bound", Stamp(t.bound_ns))?;
        o.truth("automatic", t.automatic)?;
        o.truth("listened", t.listened)?;
        let closed = (t.closed_by_ns != 0).then_some(Stamp(t.closed_by_ns));
        o.maybe_string("closed_by", closed)?;
        o.close()
    })?;
    o.close()
}
