//! The decision log as the tests read it: JSON lines.

use std::path::Path;

use serde_json::Value;

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Record(pub Value);

impl Record {
    /// A field as text; empty if it is not there.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// A field as a number.
    pub fn number(&self, field: &str) -> Option<i64> {
        self.0[field].as_i64()
    }

    pub fn is(&self, call: &str, verdict: &str) -> bool {
        self.text("call") == call && self.text("verdict") == verdict
    }
}

/// Every record in the file; lines about the run itself are left out.
pub fn read(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines()
        .map(parse)
        .map(Record)
        .filter(|r| r.0.get("call").is_some())
        .collect()
}
