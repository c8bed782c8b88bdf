//! The Test Anything Protocol, version 14.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Outcome, Report};

/// A description: `#` begins a directive.
fn described(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('#', "\\#");
    text.replace(['\n', '\r'], " ")
}

// Writing to a string does not fail.
pub fn report(report: &Report) -> String {
    let count = report.rows.len() + report.problems.len();
    let mut out = format!("TAP version 14\n1..{count}\n");
    for (n, row) in report.rows.iter().enumerate() {
        let ok = match row.outcome {
            Outcome::Held => "ok",
            _ => "not ok",
        };
        let _ = writeln!(out, "{ok} {} - {}", n + 1, described(&row.title()));
        if row.outcome == Outcome::Held {
            continue;
        }
        // Strings of JSON are strings of YAML.
        let quoted = |text: &str| Value::from(text).to_string();
        let (file, line, _) = &row.place;
        let _ = writeln!(out, "  ---");
        let _ = writeln!(out, "  outcome: {}", row.outcome.name());
        let _ = writeln!(out, "  seen: {}", quoted(&row.seen));
        if let Some((record, _)) = &row.record {
            let _ = writeln!(out, "  record: {}", quoted(record));
        }
        let _ = writeln!(out, "  at: {}", quoted(&format!("{file}:{line}")));
        let _ = writeln!(out, "  again: {}", quoted(&report.reproduce(row)));
        let _ = writeln!(out, "  ...");
    }
    for (n, problem) in report.problems.iter().enumerate() {
        let number = report.rows.len() + n + 1;
        let _ = writeln!(out, "not ok {number} - {}", described(problem));
    }
    out
}
