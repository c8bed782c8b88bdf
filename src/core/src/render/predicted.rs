//! What the model says that the host would answer to a bind.

use core::fmt;

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

/// A prediction, beside what the kernel answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Predicted {
    /// The model's answer.
    pub answer: Answer,
    /// The check of the model that decided.
    pub step: Option<Step>,
    /// The kernel answered otherwise.
    pub differs: bool,
    /// Why the model cannot say, or what the difference means. It needs no
    /// escapes in JSON.
    pub why: Option<&'static str>,
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
        }
    }
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
        let answer = p.answer.name();
        write!(f, "predicted: {answer}; the kernel says {}", self.kernel)?;
        match p.why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}
