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

/// Every record in the file; lines about the run itself are left out. That
/// there is no file is an error, and no empty log.
pub fn read(path: &Path) -> Result<Vec<Record>, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|e| format!("no log, {}: {e}", path.display()))?;
    let mut records = Vec::new();
    for line in text.lines() {
        let line = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        records.push(Record(line));
    }
    records.retain(|r| r.0.get("call").is_some());
    Ok(records)
}
