//! A table, for summaries and comments.

use std::fmt::Write as _;

use super::{Outcome, Report, sum};

/// A cell: on one line, and without what would end it.
fn cell(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('|', "\\|");
    text.replace('<', "&lt;").replace(['\n', '\r'], " ")
}

/// A cell of code. A backslash is one there, and a bar ends the cell all the same.
fn code(text: &str) -> String {
    let ticks = if text.contains('`') { "``" } else { "`" };
    format!(
        "{ticks}{}{ticks}",
        text.replace('|', "\\|").replace(['\n', '\r'], " ")
    )
}

// Writing to a string does not fail.
pub fn report(report: &Report) -> String {
    let mut out = format!("### bindgate check: {}\n\n", sum(report));
    let _ = writeln!(out, "{}\n", code(&report.command));
    for (name, holds, did) in &report.table {
        let mark = if *holds { "✅" } else { "❌" };
        let _ = writeln!(out, "* {mark} {}: {}", cell(name), cell(did));
    }
    if !report.table.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "| | expected | seen |\n|---|---|---|");
    for row in &report.rows {
        let mark = match row.outcome {
            Outcome::Held => "✅",
            Outcome::Missing => "❓ never",
            Outcome::Wrong => "❌",
        };
        let record = match (&row.record, row.outcome) {
            (Some((text, _)), Outcome::Missing | Outcome::Wrong) => {
                format!(": {}", code(text))
            }
            _ => String::new(),
        };
        let (expected, seen) = (code(&row.title()), cell(&row.seen));
        let _ = writeln!(out, "| {mark} | {expected} | {seen}{record} |");
    }
    for problem in &report.problems {
        let _ = writeln!(out, "| ❌ | the check itself | {} |", cell(problem));
    }
    let _ = writeln!(
        out,
        "\n{}, after {:.3} s",
        cell(&report.ended),
        report.took.as_secs_f64()
    );
    out
}
