//! What a policy says about the execution of a file.
//!
//! These rules have no addresses, so the index has nothing of them. They are
//! tried one by one, where an exec costs a thousand times as much.

use super::decide::Times;
use super::layout::{rule_flag, section, verb};
use super::view::{View, upper};
use super::{Op, Paths, glob};

/// A file that is about to be executed.
#[derive(Clone, Copy, Debug)]
pub struct ExecQuery<'a> {
    /// The file's own path, symbolic links resolved; empty if nobody knows it.
    pub file: &'a [u8],
    /// The program that executes it.
    pub caller: Paths<'a>,
    /// Its user, if that is known.
    pub uid: Option<u32>,
}

/// What the rules and the default say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Says {
    /// Neither a rule nor a default is about it.
    #[default]
    Nothing,
    /// It may be executed.
    Allow,
    /// It may not, with this error number.
    Deny(u16),
}

/// What a policy says about the execution of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExecRuling {
    /// The answer.
    pub says: Says,
    /// The rule that decided; `None` where the default did, or nothing.
    pub rule: Option<u32>,
    /// The first `note` rule that matched before it.
    pub note: Option<u32>,
}

impl View<'_> {
    /// What the policy says. What it does not know counts against the program:
    /// a `deny` for another file, program or user than can be told matches, an
    /// `allow` does not.
    #[must_use]
    pub fn exec(&self, q: &ExecQuery<'_>, times: &(impl Times + ?Sized)) -> ExecRuling {
        let mut ruling = ExecRuling::default();
        for &rule in self.section(section::EXEC) {
            let rule = rule as u32;
            let word = self.rule_word(rule, 0);
            let is_note = word as u8 == verb::NOTE;
            if is_note && ruling.note.is_some()
                || !self.is_about(rule, q)
                || !self.takes(rule, times)
            {
                continue;
            }
            match word as u8 {
                verb::NOTE => {
                    ruling.note = Some(rule);
                    continue;
                }
                verb::ALLOW => ruling.says = Says::Allow,
                _ => ruling.says = Says::Deny((word >> 16) as u16),
            }
            ruling.rule = Some(rule);
            return ruling;
        }
        ruling.says = match (self.default_errno(Op::Exec), self.default_source(Op::Exec)) {
            (Some(errno), _) => Says::Deny(errno),
            (None, Some(_)) => Says::Allow,
            (None, None) => Says::Nothing,
        };
        ruling
    }

    fn is_about(&self, rule: u32, q: &ExecQuery<'_>) -> bool {
        let word = self.rule_word(rule, 0);
        let flags = (word >> 8) as u8;
        let unknown = word as u8 != verb::ALLOW;
        let pattern = self.string(self.rule_word(rule, 3));
        let file = match flags & rule_flag::NAME_ONLY {
            0 => q.file,
            _ => q.file.rsplit(|&b| b == b'/').next().unwrap_or(q.file),
        };
        let is_file = if q.file.is_empty() {
            unknown
        } else {
            glob::matches(pattern, file)
        };
        let who = self.rule_word(rule, 1);
        let is_user = flags & rule_flag::USER == 0 || q.uid.map_or(unknown, |u| u == who as u32);
        is_file
            && is_user
            && match upper(who).checked_sub(1) {
                Some(_) if q.caller.program.is_empty() => unknown,
                Some(c) => self.condition(c, q.caller),
                None => true,
            }
    }
}
