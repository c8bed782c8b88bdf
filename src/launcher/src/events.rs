//! The lines of a JSON log, read back: what `docs/log.md` describes, as values.
//!
//! Fields that a reader does not know are passed over, and so are events of a later
//! version, so that a log of a newer bindgate can be read as far as it is understood.

use std::io::{self, BufRead};

use serde::Deserialize;

/// One line.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Line {
    /// When, RFC 3339 in UTC with microseconds: in the order of time as text.
    pub time: String,
    /// What it says.
    #[serde(flatten)]
    pub event: Event,
}

/// What a line says, by its field `event`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A call that was judged.
    Decision(Box<Decision>),
    /// A program that cannot be intercepted was started, or refused.
    Unseen(Box<Decision>),
    /// A failure of bindgate inside a program.
    Fault(Box<Decision>),
    /// Records that will never be written.
    Lost {
        /// How many.
        count: u64,
        /// A sentence.
        why: String,
    },
    /// The totals of the run: of several, the last one counts.
    End(End),
    /// The program has started, in a run that is watched.
    Started {
        /// Its process.
        pid: u32,
    },
    /// The run has a network or ports of its own.
    Isolated {
        /// `sealed` or `address`.
        isolate: String,
        /// The address that stands for 127.0.0.1.
        block: Option<String>,
    },
    /// A line that nothing here asks about.
    #[serde(other)]
    Other,
}

/// A call, and what came of it. `docs/log.md` says what each field means.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[allow(missing_docs, reason = "docs/log.md describes each field")]
pub struct Decision {
    pub pid: u32,
    pub tid: u32,
    pub program: Option<String>,
    pub script: Option<String>,
    pub call: String,
    pub fd: Option<i32>,
    pub identity: String,
    pub cookie: Option<u64>,
    pub family: Option<String>,
    #[serde(rename = "type")]
    pub ty: Option<String>,
    pub protocol: Option<String>,
    pub asked: Option<String>,
    pub v6only: Option<bool>,
    pub options: Option<Vec<String>>,
    pub device: Option<u32>,
    pub verdict: String,
    pub rule: Option<Rule>,
    pub errno: Option<String>,
    pub used: Option<String>,
    pub used_device: Option<String>,
    pub kernel: Option<String>,
    pub check: Option<String>,
    pub inferred: bool,
    pub implicit: bool,
    pub observed: bool,
    pub raw_syscall: bool,
    pub note: Option<Rule>,
    pub holder: Option<Holder>,
    pub uid: Option<u32>,
    pub reason: Option<String>,
    pub predicted: Option<Predicted>,
    #[serde(default)]
    pub why: Option<Why>,
}

/// A rule that had a say.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "docs/log.md describes each field")]
pub struct Rule {
    pub number: u32,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub text: String,
}

/// Who holds an address that was in use.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "docs/log.md describes each field")]
pub struct Holder {
    pub pid: Option<u32>,
    pub program: Option<String>,
    pub uid: Option<u32>,
    pub inode: Option<u64>,
    pub cookie: Option<u64>,
    pub address: Option<String>,
    pub state: Option<String>,
    pub since: Option<String>,
    pub in_run: bool,
    pub gone: bool,
}

/// What the model said.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "docs/log.md describes each field")]
pub struct Predicted {
    pub answer: String,
    pub check: Option<String>,
    pub differs: bool,
    pub why: Option<String>,
}

/// Why a call failed.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "docs/log.md describes each field")]
pub struct Why {
    pub cause: String,
    pub text: String,
    pub details: Vec<String>,
    pub mends: Vec<String>,
    pub unseen: Vec<String>,
    pub history: Vec<Tenure>,
}

/// Somebody of the run who had the port.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "docs/log.md describes each field")]
pub struct Tenure {
    pub pid: u32,
    pub program: Option<String>,
    pub address: String,
    pub bound: String,
    pub automatic: bool,
    pub listened: bool,
    pub closed_by: Option<String>,
}

/// The totals of a run.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[allow(missing_docs, reason = "docs/log.md describes each field")]
pub struct End {
    pub run: String,
    pub records: u64,
    pub denied: u64,
    pub lost: u64,
    pub unwritten: u64,
    pub faults: u64,
    pub unseen: u64,
    pub left: u64,
}

/// The lines of a log, each with its number from 1. Empty lines are passed over.
///
/// # Errors
/// If it cannot be read, or a line is not one of a JSON log: the message names the line
/// and what was expected.
pub fn read(log: impl BufRead) -> impl Iterator<Item = io::Result<(usize, Line)>> {
    let numbered = log.lines().enumerate().map(|(at, line)| (at + 1, line));
    numbered.filter_map(|(number, line)| match line {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(parse(&text, number).map(|line| (number, line))),
        Err(e) => Some(Err(e)),
    })
}

fn parse(text: &str, number: usize) -> io::Result<Line> {
    serde_json::from_str(text).map_err(|e| {
        let message = format!("line {number} is not a line of a JSON log (`--format json`): {e}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each example of docs/log.md.
    #[test]
    fn what_the_document_shows_is_read() {
        let document = include_str!("../../../docs/log.md");
        let examples: Vec<_> = document
            .lines()
            .filter(|line| line.starts_with("{\"v\":2,") && line.contains("\"time\""))
            .collect();
        assert!(examples.len() >= 6, "{examples:#?}");
        let text = examples.join("\n\n");
        let lines: Result<Vec<_>, _> = read(text.as_bytes()).collect();
        let lines = lines.unwrap();
        let count = |what: fn(&Event) -> bool| lines.iter().filter(|(_, l)| what(&l.event)).count();
        assert!(count(|e| matches!(e, Event::Decision(d) if d.call == "bind")) >= 1);
        assert_eq!(count(|e| matches!(e, Event::End(_))), 1);
        assert!(count(|e| matches!(e, Event::Other)) >= 1);
    }

    #[test]
    fn another_text_is_named() {
        let text = "\n12:03:01.123 nginx[812] bind tcp 0.0.0.0:80 → ok\n";
        let error = read(text.as_bytes()).next().unwrap().unwrap_err();
        assert!(error.to_string().starts_with("line 2 is not"), "{error}");
    }
}
