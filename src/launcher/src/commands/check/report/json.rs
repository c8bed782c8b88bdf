//! One JSON object; docs/check.md describes it.

use serde_json::{Value, json};

use super::{Report, Row};

fn row(report: &Report, row: &Row) -> Value {
    let (file, line, column) = &row.place;
    json!({
        "number": row.number,
        "host": row.host,
        "expected": row.expected,
        "file": file,
        "line": line,
        "column": column,
        "outcome": row.outcome.name(),
        "seen": row.seen,
        "record": row.record.as_ref().map(|(text, number)| json!({"text": text, "line": number})),
        "at_ms": row.at.as_millis() as u64,
        "reproduce": report.reproduce(row),
    })
}

pub fn report(report: &Report) -> String {
    let rows: Vec<_> = report.rows.iter().map(|one| row(report, one)).collect();
    let hosts: Vec<_> = report
        .table
        .iter()
        .map(|(name, holds, did)| json!({"name": name, "holds": holds, "did": did}))
        .collect();
    let all = json!({
        "v": 1,
        "hosts": hosts,
        "holds": report.holds(),
        "command": report.command,
        "expectations": rows,
        "problems": report.problems,
        "ended": report.ended,
        "took_ms": report.took.as_millis() as u64,
        "log": report.log.as_ref().map(|path| path.display().to_string()),
    });
    format!("{all:#}\n")
}
