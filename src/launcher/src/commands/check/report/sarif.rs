//! SARIF 2.1.0: a result for each expectation that does not hold.

use serde_json::{Value, json};

use super::{Outcome, Report, Row};

/// Rules, by what became of an expectation.
const RULES: [(&str, &str); 3] = [
    ("missing", "An expected call was never made"),
    ("wrong", "The program did something else than was expected"),
    ("unsure", "The check cannot tell"),
];

fn result(report: &Report, row: &Row) -> Value {
    let (file, line, column) = &row.place;
    let record = row.record.as_ref().map_or("", |(text, _)| text);
    let text = format!("{}: {}\n{record}", row.title(), row.seen);
    let mut result = json!({
        "ruleId": row.outcome.name(),
        "level": "error",
        "message": {"text": text.trim_end()},
        "properties": {"reproduce": report.reproduce(row)},
    });
    // What stands on the command line is in no file.
    if std::path::Path::new(file).is_file() {
        result["locations"] = json!([{"physicalLocation": {
            "artifactLocation": {"uri": uri(file)},
            "region": {"startLine": line, "startColumn": column},
        }}]);
    }
    result
}

/// A path as a relative reference of RFC 3986.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            byte => out += &format!("%{byte:02X}"),
        }
    }
    out
}

pub fn report(report: &Report) -> String {
    let failed = report
        .rows
        .iter()
        .filter(|row| row.outcome != Outcome::Held);
    let mut results: Vec<Value> = failed.map(|row| result(report, row)).collect();
    results.extend(report.problems.iter().map(
        |problem| json!({"ruleId": "unsure", "level": "error", "message": {"text": problem}}),
    ));
    let rules: Vec<Value> = RULES
        .iter()
        .map(|(id, text)| json!({"id": id, "shortDescription": {"text": text}}))
        .collect();
    let all = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "bindgate",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "invocations": [{
                "commandLine": report.command,
                "executionSuccessful": report.problems.is_empty(),
            }],
            "results": results,
        }],
    });
    format!("{all:#}\n")
}
