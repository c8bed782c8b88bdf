//! A record as a line of text or JSON.
//!
//! The drainer writes logs with this, and the shim in a plain preload: so
//! nothing here allocates, and all goes into any [`core::fmt::Write`].
//! `docs/log.md` is the description for those who read the lines.

mod cause;
mod event;
mod holder;
mod json;
mod listing;
mod names;
mod predicted;
mod text;
mod time;

pub use cause::{Explained, Tenure};
pub use event::{End, Event, json_event, text_event};
pub use holder::{Holder, HolderState};
pub use json::{Stamp, json};
#[cfg(feature = "alloc")]
pub use listing::outside;
pub use listing::{Bound, Listed, Published, json_ended, json_listing};
pub use names::socket_type;
pub use predicted::{Answer, Predicted};
pub use text::text;
pub use time::{Civil, civil};

use core::fmt::{self, Write};

use crate::policy::{Op, View};
use crate::record::{Call, RULE_DEFAULT, RULE_NONE, Record, Verdict, flag};

/// Version of the JSON lines: raised when a field changes its meaning or goes
/// away, not when one is added.
///
/// 2: `holder` is an object, and stands no longer in `predicted`.
pub const SCHEMA: u32 = 2;

/// How much the log holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Detail {
    /// Only what was refused, changed, or went wrong.
    Quiet,
    /// What people want to read: binds, and whatever a rule had a say in.
    #[default]
    Normal,
    /// Everything, with the stages passed and the check that decided.
    Verbose,
}

/// A rule that had a say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleRef<'a> {
    /// Which rule of the whole policy, from 1; 0 is the default.
    pub number: u32,
    /// File and line, if it has them.
    pub place: Option<(&'a [u8], u32)>,
    /// The rule as it is understood.
    pub text: RuleText<'a>,
}

/// The text of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleText<'a> {
    /// As the policy prints it.
    Rule(&'a [u8]),
    /// `default allow`, or `default deny` with this error number.
    Default(Option<u16>),
}

/// What a line says beyond its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Context<'a> {
    /// Path of the executable; empty if it is not known.
    pub program: &'a [u8],
    /// Path of the script that it runs; empty if it runs none.
    pub script: &'a [u8],
    /// The rule that decided.
    pub rule: Option<RuleRef<'a>>,
    /// The first `note` rule that matched.
    pub note: Option<RuleRef<'a>>,
    /// What the model says of a bind.
    pub predicted: Option<Predicted>,
    /// Who holds the address.
    pub holder: Option<&'a Holder<'a>>,
    /// Why the call failed.
    pub why: Option<&'a Explained<'a>>,
    /// How much a line of text says.
    pub detail: Detail,
    /// Colours, for a terminal.
    pub colour: bool,
    /// Seconds that the times of text lines are ahead of UTC.
    pub utc_offset: i32,
}

/// Is the record one that a log of this much detail holds?
#[must_use]
pub fn is_shown(record: &Record, detail: Detail) -> bool {
    let changed = record.verdict != Verdict::Allow
        || record.call == Call::Fault
        || record.flags & flag::UNSEEN != 0;
    let by_rule = record.note != RULE_NONE || record.rule < RULE_DEFAULT;
    match detail {
        Detail::Verbose => true,
        _ if record.flags & flag::AWAITED != 0 => false,
        Detail::Quiet => changed,
        Detail::Normal => {
            changed
                || by_rule
                || match record.call {
                    Call::Bind | Call::Listen => true,
                    Call::Socket | Call::Socketpair => record.errno != 0,
                    _ => false,
                }
        }
    }
}

/// Name and text of an error number of Linux.
#[must_use]
pub fn errno(number: u16) -> Option<(&'static str, &'static str)> {
    let known = crate::errno::Errno::from_linux(i32::from(number))?;
    Some((known.name(), known.text()))
}

/// Bytes that are mostly text. Control characters, those that turn the direction
/// of writing or end a line, and what is not UTF-8 become `\xNN`, so that a line
/// stays a line and a terminal stays sane.
#[derive(Clone, Copy, Debug)]
pub struct Readable<'a>(pub &'a [u8]);

impl fmt::Display for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if crate::text::is_unprintable(c) {
                    let mut utf8 = [0; 4];
                    for b in c.encode_utf8(&mut utf8).bytes() {
                        write!(f, "\\x{b:02x}")?;
                    }
                } else {
                    f.write_char(c)?;
                }
            }
            for b in chunk.invalid() {
                write!(f, "\\x{b:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RuleText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleText::Rule(text) => write!(f, "{}", Readable(text)),
            RuleText::Default(None) => f.write_str("default allow"),
            RuleText::Default(Some(n)) => match errno(*n) {
                Some((name, _)) => write!(f, "default deny {name}"),
                None => write!(f, "default deny {n}"),
            },
        }
    }
}

impl<'a> RuleRef<'a> {
    /// Rule `index` of a policy, as a record names it; `None` where it is
    /// [`RULE_NONE`] or the policy has no such rule.
    #[must_use]
    pub fn find(view: &View<'a>, index: u32, record: &Record) -> Option<RuleRef<'a>> {
        if index == RULE_NONE {
            return None;
        }
        if index == RULE_DEFAULT {
            let op = match record.call {
                Call::Socket | Call::Socketpair => Op::Socket,
                // What binds on the way is judged as a bind.
                Call::Listen if record.flags & flag::IMPLICIT != 0 => Op::Bind,
                Call::Listen => Op::Listen,
                Call::Bind => Op::Bind,
                Call::Exec => Op::Exec,
                _ => Op::Connect,
            };
            return Some(RuleRef {
                number: 0,
                place: view.default_source(op),
                text: RuleText::Default(view.default_errno(op)),
            });
        }
        let (file, line, number) = view.rule_source(index)?;
        Some(RuleRef {
            number,
            place: Some((file, line)),
            text: RuleText::Rule(view.rule_text(index)?),
        })
    }
}
