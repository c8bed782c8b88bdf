//! What a check has found, for people and for machines.

mod github;
mod json;
mod junit;
mod markdown;
mod sarif;
mod tap;
mod text;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Failure, exit, print, shown};

/// How a report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people.
    Text,
    /// What CI servers read as results of tests.
    Junit,
    /// One JSON object, described in docs/check.md.
    Json,
    /// SARIF 2.1.0, for services that show findings beside the code.
    Sarif,
    /// The Test Anything Protocol, version 14.
    Tap,
    /// Annotations of GitHub's workflows.
    Github,
    /// A table.
    Markdown,
}

const FORMATS: [(&str, Format); 7] = [
    ("text", Format::Text),
    ("junit", Format::Junit),
    ("json", Format::Json),
    ("sarif", Format::Sarif),
    ("tap", Format::Tap),
    ("github", Format::Github),
    ("markdown", Format::Markdown),
];

/// A report that is wanted, and where: `None` is standard output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// How it is written.
    pub format: Format,
    /// The file.
    pub file: Option<PathBuf>,
}

impl Wanted {
    /// Reads `text`, or `junit=FILE`.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str) -> Result<Wanted, String> {
        let (name, file) = match text.split_once('=') {
            Some((name, file)) => (name, Some(file)),
            None => (text, None),
        };
        let format = FORMATS.iter().find(|(known, _)| *known == name);
        let Some((_, format)) = format else {
            let names = FORMATS.map(|(name, _)| name).join(", ");
            return Err(format!("expected one of {names}, with =FILE or without"));
        };
        if file == Some("") {
            return Err(format!("expected a file: {name}=FILE"));
        }
        Ok(Wanted {
            format: *format,
            file: file.filter(|file| *file != "-").map(PathBuf::from),
        })
    }
}

/// What became of one expectation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It holds.
    Held,
    /// The program never got there.
    Missing,
    /// The program did something else.
    Wrong,
}

impl Outcome {
    /// The word of the JSON report.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Held => "held",
            Outcome::Missing => "missing",
            Outcome::Wrong => "wrong",
        }
    }
}

/// One expectation, and what was seen of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which it is, from 1.
    pub number: usize,
    /// Of a matrix: on which host.
    pub host: Option<String>,
    /// The line, as it was understood.
    pub expected: String,
    /// File, line and column where it stands.
    pub place: (String, u32, u32),
    /// What became of it.
    pub outcome: Outcome,
    /// What was seen instead, or by what it holds.
    pub seen: String,
    /// The record that this rests on, and its line in the log.
    pub record: Option<(String, usize)>,
    /// How long after the program's start that was settled.
    pub at: Duration,
}

impl Row {
    /// The line, with its host before it.
    pub fn title(&self) -> String {
        match &self.host {
            Some(host) => format!("[{host}] {}", self.expected),
            None => self.expected.clone(),
        }
    }
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Report {
    /// The program and its arguments, as a shell takes them.
    pub command: String,
    /// The command that checks it again: before the expectation, and after it.
    pub again: [String; 2],
    /// Of a matrix: the name of each host, whether all holds there, and what the program
    /// did.
    pub table: Vec<(String, bool, String)>,
    /// One for each expectation.
    pub rows: Vec<Row>,
    /// Why nothing can be said for sure, whatever the rows say.
    pub problems: Vec<String>,
    /// How the program ended.
    pub ended: String,
    /// How long it ran.
    pub took: Duration,
    /// The JSON log, if there is one.
    pub log: Option<PathBuf>,
}

impl Report {
    /// Does everything hold, and is that sure?
    pub fn holds(&self) -> bool {
        self.problems.is_empty() && self.rows.iter().all(|row| row.outcome == Outcome::Held)
    }

    /// The command that checks one expectation again.
    pub fn reproduce(&self, row: &Row) -> String {
        let [head, tail] = &self.again;
        let (source, ..) = &row.place;
        let mut words: Vec<OsString> = Vec::new();
        if let Some(host) = &row.host {
            words.extend(["--host".into(), host.into()]);
        }
        match source.starts_with('-') {
            true => words.extend(["-e".into(), OsString::from(&row.expected)]),
            false => words.extend(["--only".into(), row.number.to_string().into()]),
        }
        format!("{head} {} {tail}", super::shell(&words))
    }

    /// `record 3` or `line 3 of binds.json`, where a row's record stands.
    pub fn source(&self, row: &Row) -> Option<String> {
        let (_, number) = row.record.as_ref()?;
        Some(match &self.log {
            Some(log) => format!("line {number} of {}", log.display()),
            None => format!("record {number}"),
        })
    }

    /// In one format.
    pub fn written(&self, format: Format) -> String {
        match format {
            Format::Text => text::report(self),
            Format::Junit => junit::report(self),
            Format::Json => json::report(self),
            Format::Sarif => sarif::report(self),
            Format::Tap => tap::report(self),
            Format::Github => github::report(self),
            Format::Markdown => markdown::report(self),
        }
    }

    /// Writes those that are wanted. GitHub's summary is a table.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn write(&self, wanted: &[Wanted]) -> Result<(), Failure> {
        for one in wanted {
            let text = self.written(one.format);
            match &one.file {
                None => print(&text)?,
                Some(file) => {
                    fs::write(file, text).map_err(|e| Failure::new(exit::USAGE, shown(file), e))?
                }
            }
            let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
            if let (Format::Github, Some(summary)) = (one.format, summary) {
                let mut options = fs::OpenOptions::new();
                let file = options.append(true).create(true).open(&summary);
                let text = self.written(Format::Markdown);
                file.and_then(|mut file| file.write_all(text.as_bytes()))
                    .map_err(|e| Failure::new(exit::USAGE, shown(&summary), e))?;
            }
        }
        Ok(())
    }
}

/// How many hold, in words.
pub(super) fn sum(report: &Report) -> String {
    let all = report.rows.len();
    let held = report
        .rows
        .iter()
        .filter(|row| row.outcome == Outcome::Held);
    let held = held.count();
    let s = if all == 1 { "" } else { "s" };
    match held == all {
        true => format!("{all} expectation{s}, all met"),
        false => format!("{all} expectation{s}, {} not met", all - held),
    }
}
