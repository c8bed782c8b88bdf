//! Can this executable be intercepted?
//!
//! `LD_PRELOAD` works through the dynamic loader of one libc, and for programs
//! that make their system calls through that libc. [`Examiner`] says whether a
//! program that is about to be executed is one of them, and whether the policy
//! lets it start. It does no I/O: [`Examiner::step`] says what it needs to
//! know, and [`Examiner::feed`] takes the answer. `doctor`, `run` and the exec
//! hook answer its questions; none of them decides anything.
//!
//! ```
//! use bindgate_core::reach::{Answer, Class, Examiner, Need, Stance, Status, Step};
//! # let file = b"#!/bin/no-such-shell\n";
//! # let status = Status { is_regular: true, mode: 0o755, uid: 0, gid: 0 };
//! let mut it = Examiner::new(Stance::default());
//! let verdict = loop {
//!     match it.step() {
//!         // The file itself is there, and its interpreter is not.
//!         Step::Need(Need::Status(bindgate_core::reach::File::Asked)) => {
//!             it.feed(Answer::Status(Some(status)));
//!         }
//!         Step::Need(Need::Status(_)) => it.feed(Answer::Status(None)),
//!         Step::Need(Need::Read { .. }) => it.feed(Answer::Bytes(Some(file))),
//!         Step::Need(Need::Rule { .. }) => it.feed(Answer::Ruling(Default::default())),
//!         Step::Need(other) => unreachable!("{other:?}"),
//!         Step::Done(verdict) => break verdict,
//!     }
//! };
//! // It cannot start, so there is nothing to intercept.
//! assert!(!verdict.starts && verdict.class == Class::Intercepted);
//! ```

mod class;
mod elf;
mod examine;
mod shebang;

pub use class::Class;
pub use elf::{Classifier, Host, Libc, Want};
pub use examine::{Answer, Examiner, File, Ids, Need, Stance, Status, Step, Verdict};
pub use shebang::{Shebang, shebang};

#[cfg(test)]
mod tests;
