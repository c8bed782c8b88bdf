//! For people.

use std::fmt::Write as _;

use super::{Outcome, Report, sum};

// Writing to a string does not fail.
pub fn report(report: &Report) -> String {
    let mut out = super::super::matrix::table(&report.table);
    let is_table = !report.table.is_empty();
    for row in &report.rows {
        if is_table && row.outcome == Outcome::Held {
            continue;
        }
        let (file, line, _) = &row.place;
        let word = match row.outcome {
            Outcome::Held => "ok  ",
            Outcome::Missing => "MISS",
            Outcome::Wrong => "FAIL",
        };
        let _ = writeln!(out, "{word} {}  ({file}:{line})", row.title());
        if row.outcome == Outcome::Held {
            continue;
        }
        let _ = writeln!(out, "       seen: {}", row.seen);
        if let (Some((text, _)), Some(source)) = (&row.record, report.source(row)) {
            let _ = writeln!(out, "       {text}  ({source})");
        }
        let _ = writeln!(out, "       again: {}", report.reproduce(row));
    }
    for problem in &report.problems {
        let _ = writeln!(out, "FAIL {problem}");
    }
    let _ = writeln!(
        out,
        "{}; {} after {:.3} s",
        sum(report),
        report.ended,
        report.took.as_secs_f64()
    );
    out
}
