//! Annotations of GitHub's workflows: lines that its runner reads on standard output.

use std::fmt::Write as _;

use super::{Outcome, Report, sum};

/// As the runner takes the message.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// As it takes a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

// Writing to a string does not fail.
pub fn report(report: &Report) -> String {
    let mut out = String::new();
    for row in report
        .rows
        .iter()
        .filter(|row| row.outcome != Outcome::Held)
    {
        let (file, line, column) = &row.place;
        let record = row.record.as_ref();
        let record = record.map_or_else(String::new, |(text, _)| format!("{text}\n"));
        let text = format!("{}\n{record}again: {}", row.seen, report.reproduce(row));
        let title = property(&row.title());
        // What stands on the command line is in no file.
        match std::path::Path::new(file).is_file() {
            true => {
                let file = property(file);
                let place = format!("file={file},line={line},col={column}");
                let _ = writeln!(out, "::error {place},title={title}::{}", data(&text));
            }
            false => {
                let _ = writeln!(out, "::error title={title}::{}", data(&text));
            }
        }
    }
    for problem in &report.problems {
        let _ = writeln!(out, "::error title=bindgate check::{}", data(problem));
    }
    if report.holds() {
        let _ = writeln!(out, "::notice title=bindgate check::{}", data(&sum(report)));
    }
    out
}
