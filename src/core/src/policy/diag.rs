//! Messages about a policy, with the place they are about.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::ast::{At, Policy};
use crate::text;

/// How serious a message about a policy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The policy is rejected.
    Error,
    /// The policy is accepted but looks wrong.
    Warning,
    /// The policy is accepted and may be right; the hint names a consequence.
    Hint,
}

/// One message about a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Name of the source.
    pub source_name: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// How many characters it is about.
    pub width: u32,
    /// The line itself.
    pub snippet: String,
    /// What is wrong.
    pub message: String,
    /// What was expected instead.
    pub expected: Option<String>,
    /// What was probably meant, to be written instead.
    pub suggestion: Option<String>,
    /// Error or warning.
    pub severity: Severity,
}

impl Diagnostic {
    /// A message about a place in a parsed policy.
    #[must_use]
    pub fn at(policy: &Policy, at: At, severity: Severity, message: String) -> Diagnostic {
        let source = policy.sources.get(at.source as usize);
        let line = source.and_then(|s| s.text.split('\n').nth(at.line.saturating_sub(1) as usize));
        Diagnostic {
            source_name: source.map_or("policy", |s| s.name.as_str()).to_string(),
            line: at.line,
            column: at.column,
            width: at.width,
            snippet: line.unwrap_or("").trim_end().to_string(),
            message,
            expected: None,
            suggestion: None,
            severity,
        }
    }

    /// `expected …; did you mean '…'?`, as far as there is something to say.
    pub(crate) fn hints(&self) -> Option<String> {
        let expected = self.expected.as_ref().map(|e| format!("expected {e}"));
        let meant = self.suggestion.as_ref();
        let meant = meant.map(|s| format!("did you mean '{s}'?"));
        match (expected, meant) {
            (Some(expected), Some(meant)) => Some(format!("{expected}; {meant}")),
            (expected, meant) => expected.or(meant),
        }
    }
}

/// Returns the text of a source, which must be UTF-8.
///
/// # Errors
/// A message that names the first invalid byte.
pub fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Vec<Diagnostic>> {
    core::str::from_utf8(bytes).map_err(|e| {
        let (good, bad) = bytes.split_at_checked(e.valid_up_to()).unwrap_or_default();
        let start = good.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let column = String::from_utf8_lossy(good.get(start..).unwrap_or_default());
        let rest = bytes.get(start..).unwrap_or_default();
        let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
        vec![Diagnostic {
            source_name: name.to_string(),
            line: good.iter().filter(|b| **b == b'\n').count() as u32 + 1,
            column: column.chars().count() as u32 + 1,
            width: 1,
            snippet: String::from_utf8_lossy(line).trim_end().to_string(),
            message: format!("invalid UTF-8 (byte 0x{:02x})", bad.first().unwrap_or(&0)),
            expected: Some("text in UTF-8".to_string()),
            suggestion: None,
            severity: Severity::Error,
        }]
    })
}

/// ```text
/// web.policy:3:11: error: unknown kind 'tpc'
///   deny bind tpc *:80
///             ^^^ expected a kind (any inet …); did you mean 'tcp'?
/// ```
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        };
        write!(
            f,
            "{}:{}:{}: {severity}: {}",
            Printable(&self.source_name),
            self.line,
            self.column,
            Printable(cut(&self.message))
        )?;
        // Long lines are cut, so that the caret stays near its word.
        let first = (self.column as usize).saturating_sub(60);
        let shown: String = self.snippet.chars().skip(first).take(160).collect();
        let at = (self.column as usize).saturating_sub(1 + first);
        let room = (shown.chars().count().saturating_sub(at)).max(1);
        write!(f, "\n  {}\n  ", Printable(&shown))?;
        let columns = |from: usize, count: usize| -> usize {
            let these = shown.chars().skip(from).take(count);
            these.map(|c| text::width(printable(c))).sum()
        };
        let carets = columns(at, (self.width as usize).clamp(1, room)).max(1);
        // The place may be just after the line.
        let after = at.saturating_sub(shown.chars().count());
        for _ in 0..columns(0, at) + after {
            f.write_str(" ")?;
        }
        for _ in 0..carets {
            f.write_str("^")?;
        }
        match self.hints() {
            Some(hints) => write!(f, " {}", Printable(&hints)),
            None => Ok(()),
        }
    }
}

/// The beginning of a message that repeats a very long word.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(300).map_or(text.len(), |(i, _)| i);
    text.get(..end).unwrap_or(text)
}

/// Text that may come from anywhere, without what moves a terminal's cursor.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.0.chars().map(printable);
        all.try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if text::is_unprintable(c) => '\u{fffd}',
        c => c,
    }
}

/// Words that people write for one of ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("permit", "allow"),
    ("accept", "allow"),
    ("pass", "allow"),
    ("reject", "deny"),
    ("refuse", "deny"),
    ("block", "deny"),
    ("drop", "deny"),
    ("redirect", "move"),
    ("map", "move"),
    ("blackhole", "hide"),
    ("log", "note"),
    ("audit", "note"),
    ("ipv4", "inet"),
    ("ip4", "inet"),
    ("ipv6", "inet6"),
    ("ip6", "inet6"),
    ("ip", "any"),
    ("all", "any"),
    ("stream", "tcp"),
    ("dgram", "udp"),
    ("icmp", "ping"),
    ("local", "unix"),
    ("af_unix", "unix"),
    ("localhost", "loopback"),
    ("lo", "loopback"),
    ("any", "*"),
    ("ephemeral", "auto"),
    ("privileged", "reserved"),
    ("count", "times"),
    ("uid", "user"),
    ("program", "for"),
    ("exec", "for"),
    ("audit", "observe"),
    ("permissive", "observe"),
    ("enforcing", "enforce"),
];

/// The nearest of the words that are valid at a place.
pub(super) fn nearest<'a>(word: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if word.is_empty() || word.len() > 40 {
        return None;
    }
    let lower = word.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    let valid: Vec<&str> = valid.into_iter().collect();
    for (from, to) in SYNONYMS {
        if *from == lower && valid.contains(to) {
            return Some((*to).to_string());
        }
    }
    for v in valid {
        let d = distance(&lower, &v.to_lowercase());
        let limit = match v.len().max(lower.chars().count()) {
            0..=2 => 1,
            3..=5 => 2,
            _ => 3,
        };
        // Something of the word must be left.
        if d <= limit && d < v.len() && best.is_none_or(|(b, _)| d < b) {
            best = Some((d, v));
        }
    }
    best.map(|(_, v)| v.to_string())
}

/// Insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let width = b.len() + 1;
    let mut rows: Vec<usize> = vec![0; (a.len() + 1) * width];
    let get = |rows: &[usize], i: usize, j: usize| rows.get(i * width + j).copied().unwrap_or(0);
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let d = if i == 0 || j == 0 {
                i + j
            } else {
                let same = a.get(i - 1) == b.get(j - 1);
                let mut d = (get(&rows, i - 1, j) + 1)
                    .min(get(&rows, i, j - 1) + 1)
                    .min(get(&rows, i - 1, j - 1) + usize::from(!same));
                if i > 1 && j > 1 && a.get(i - 1) == b.get(j - 2) && a.get(i - 2) == b.get(j - 1) {
                    d = d.min(get(&rows, i - 2, j - 2) + 1);
                }
                d
            };
            if let Some(cell) = rows.get_mut(i * width + j) {
                *cell = d;
            }
        }
    }
    get(&rows, a.len(), b.len())
}
