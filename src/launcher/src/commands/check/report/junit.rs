//! JUnit's XML, as CI servers read it: a test suite for the program, a test case for each
//! expectation.

use quick_xml::escape::partial_escape;
use serde::Serialize;

use super::{Outcome, Report, sum};

#[derive(Serialize)]
#[serde(rename = "testsuites")]
struct Suites {
    #[serde(rename = "@name")]
    name: &'static str,
    #[serde(rename = "@tests")]
    tests: usize,
    #[serde(rename = "@failures")]
    failures: usize,
    #[serde(rename = "@errors")]
    errors: usize,
    #[serde(rename = "@time")]
    time: String,
    testsuite: Suite,
}

#[derive(Serialize)]
struct Suite {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@tests")]
    tests: usize,
    #[serde(rename = "@failures")]
    failures: usize,
    #[serde(rename = "@errors")]
    errors: usize,
    #[serde(rename = "@skipped")]
    skipped: usize,
    #[serde(rename = "@time")]
    time: String,
    testcase: Vec<Case>,
    #[serde(rename = "system-out")]
    system_out: String,
}

#[derive(Serialize)]
struct Case {
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@classname")]
    classname: String,
    #[serde(rename = "@time")]
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Said>,
}

#[derive(Serialize)]
struct Said {
    #[serde(rename = "@message")]
    message: String,
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "$text")]
    text: String,
}

/// Without what no XML document can hold.
fn plain(text: &str) -> String {
    let is_valid = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars()
        .map(|c| if is_valid(c) { c } else { '\u{fffd}' })
        .collect()
}

pub fn report(report: &Report) -> String {
    let seconds = |time: std::time::Duration| format!("{:.3}", time.as_secs_f64());
    let program = report.command.split(' ').next().unwrap_or_default();
    let program = plain(program.rsplit('/').next().unwrap_or_default());
    let mut cases: Vec<Case> = report
        .rows
        .iter()
        .map(|row| {
            let (file, line, _) = &row.place;
            let record = row.record.as_ref().map_or("", |(text, _)| text);
            let source = report.source(row).unwrap_or_default();
            let text = format!(
                "expected: {} ({file}:{line})\nseen: {}\n{record} {source}\nagain: {}\n",
                row.title(),
                row.seen,
                report.reproduce(row)
            );
            Case {
                name: plain(&row.title()),
                classname: format!("bindgate.{program}"),
                time: seconds(row.at),
                failure: (row.outcome != Outcome::Held).then(|| Said {
                    message: plain(&row.seen),
                    kind: row.outcome.name(),
                    text: plain(&text),
                }),
                error: None,
            }
        })
        .collect();
    cases.extend(report.problems.iter().map(|problem| Case {
        name: "the check itself".into(),
        classname: format!("bindgate.{program}"),
        time: seconds(report.took),
        failure: None,
        error: Some(Said {
            message: plain(problem),
            kind: "unsure",
            text: plain(problem),
        }),
    }));
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let suites = Suites {
        name: "bindgate check",
        tests: cases.len(),
        failures,
        errors: report.problems.len(),
        time: seconds(report.took),
        testsuite: Suite {
            name: plain(&report.command),
            tests: cases.len(),
            failures,
            errors: report.problems.len(),
            skipped: 0,
            time: seconds(report.took),
            testcase: cases,
            system_out: plain(&format!("{}; {}", sum(report), report.ended)),
        },
    };
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    match quick_xml::se::to_string(&suites) {
        Ok(body) => format!("{head}{body}\n"),
        // None of the fields can be refused; a reader is to see it all the same.
        Err(e) => format!("{head}<!-- {} -->\n", partial_escape(e.to_string())),
    }
}
