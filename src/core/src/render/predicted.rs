//! What the model says that the host would answer to a bind.

use core::fmt::{self, Write};

use super::json::Object;
use crate::model::{Errno, Step};

/// What the model says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Bound.
    Ok,
    /// Refused so.
    Fails(Errno),
    /// It cannot say; [`Predicted::why`] tells the reason.
    Unknown,
}

impl Answer {
    /// `ok`, `EADDRINUSE`, `unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Answer::Ok => "ok",
            Answer::Fails(e) => e.name(),
            Answer::Unknown => "unknown",
        }
    }
}

/// The socket in the way, as sock_diag shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its user.
    pub uid: u32,
    /// Its inode; 0 for what TIME_WAIT left.
    pub inode: u32,
    /// The process of this run that bound it, 0 if none did.
    pub pid: u32,
}

/// A prediction, beside what the kernel answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Predicted {
    /// The model's answer.
    pub answer: Answer,
    /// The check of the model that decided.
    pub step: Option<Step>,
    /// The kernel answered otherwise.
    pub differs: bool,
    /// Why the model cannot say, or what the difference means.
    pub why: Option<&'static str>,
    /// Who is in the way.
    pub holder: Option<Holder>,
}

impl Predicted {
    /// It cannot be said, for this reason.
    #[must_use]
    pub const fn unknown(why: &'static str) -> Predicted {
        Predicted {
            answer: Answer::Unknown,
            step: None,
            differs: false,
            why: Some(why),
            holder: None,
        }
    }
}

/// The value of `predicted` in a JSON line.
pub(super) fn json(w: &mut dyn Write, p: &Predicted) -> fmt::Result {
    let mut o = Object::open(w)?;
    o.word("answer", p.answer.name())?;
    o.maybe_word("check", p.step.map(Step::function))?;
    o.truth("differs", p.differs)?;
    o.maybe_string("why", p.why)?;
    let holder = p.holder;
    o.maybe_bare("holder_uid", holder.map(|h| h.uid))?;
    o.maybe_bare("holder_inode", holder.map(|h| h.inode).filter(|i| *i != 0))?;
    o.maybe_bare("holder_pid", holder.map(|h| h.pid).filter(|p| *p != 0))?;
    o.close()
}

/// A difference in words, for a line of text.
pub(super) struct Difference<'a> {
    pub predicted: &'a Predicted,
    /// What the kernel said: `ok` or an error's name.
    pub kernel: &'a str,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = self.predicted;
        write!(
            f,
            "predicted: {}; the kernel says {}",
            p.answer.name(),
            self.kernel
        )?;
        if let Some(why) = p.why {
            write!(f, ": {why}")?;
        }
        match p.holder {
            Some(Holder { uid, inode: 0, .. }) => write!(f, ": uid {uid}"),
            Some(Holder { uid, inode, .. }) => write!(f, ": uid {uid}, inode {inode}"),
            None => Ok(()),
        }
    }
}
