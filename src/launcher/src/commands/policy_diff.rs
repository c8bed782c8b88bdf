//! `bindgate policy diff`: what one policy allows and the other does not.
//!
//! The comparison is the core's ([`bindgate_core::policy::differ`]); here it is shown.

use std::fmt::Write as _;
use std::path::PathBuf;

use bindgate_core::policy::differ::{self, Difference};
use bindgate_core::policy::{Mode, Policy};
use clap::ValueHint;
use serde_json::{Value, json};

use super::policy::{Users, broken, files, parse};
use crate::{Failure, complain, low_ports, print, shown};

/// `bindgate policy diff`, read.
///
/// The exit status is 0 if they allow the same, 1 if not, and 2 if they cannot be
/// compared.
#[derive(clap::Args, Debug)]
pub struct Diff {
    /// A policy file; - is standard input
    #[arg(value_name = "A", value_hint = ValueHint::FilePath)]
    first: PathBuf,
    /// Another one
    #[arg(value_name = "B", value_hint = ValueHint::FilePath)]
    second: PathBuf,
    /// Write one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const SAME: i32 = 0;
const DIFFERENT: i32 = 1;
const TROUBLE: i32 = 2;

/// `bindgate policy diff`; the exit status is that of diff(1).
pub fn diff(args: &Diff) -> i32 {
    compare(args).unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            complain(&failure.message);
        }
        TROUBLE
    })
}

fn compare(args: &Diff) -> Result<i32, Failure> {
    let read = |path: &PathBuf| parse(&files(std::slice::from_ref(path))?);
    let (first, second) = (read(&args.first)?, read(&args.second)?);
    let start = low_ports::start(false);
    let found = differ::differ([&first, &second], &Users, start);
    let found = found.map_err(|failure| match failure {
        differ::Failure::Broken(diagnostics) => broken(&diagnostics),
        differ::Failure::TooMany => Failure::say(
            TROUBLE,
            "the two policies tell too much apart to be compared: addresses times ports times \
             programs, or globs",
        ),
    })?;
    let names = [&args.first, &args.second].map(|path| shown(path).to_string());
    let lines = host_lines(&first, &second);
    let modes = [&first, &second].map(observes);
    let text = match args.json {
        true => as_json(&names, &found, &lines, modes),
        false => as_text(&names, &found, &lines, modes),
    };
    print(&text)?;
    let is_same = found.is_empty() && lines.iter().all(Vec::is_empty) && modes[0] == modes[1];
    Ok(if is_same { SAME } else { DIFFERENT })
}

fn observes(policy: &Policy) -> bool {
    policy.mode == Some(Mode::Observe)
}

/// The `host` lines that only one of them has.
fn host_lines(first: &Policy, second: &Policy) -> [Vec<String>; 2] {
    let of = |policy: &Policy| {
        policy
            .host
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let (a, b) = (of(first), of(second));
    let without = |all: &[String], other: &[String]| {
        let only = all.iter().filter(|line| !other.contains(line));
        only.cloned().collect::<Vec<_>>()
    };
    [without(&a, &b), without(&b, &a)]
}

/// `bind tcp 127.0.0.1:8080 for nginx`
fn line(d: &Difference, what: &str) -> String {
    let kinds = match d.kinds.as_slice() {
        [one] => one.clone(),
        many => format!("{{{}}}", many.join(",")),
    };
    let words = [d.op.name(), &kinds, what, &d.who];
    let words = words.into_iter().filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

fn as_text(
    names: &[String; 2],
    found: &[Difference],
    lines: &[Vec<String>; 2],
    modes: [bool; 2],
) -> String {
    let mut text = String::new();
    let [a, b] = names;
    let why = |d: &Difference| {
        let place = |place: &Option<String>, name: &str| match place {
            Some(place) => place.clone(),
            None => format!("the default of {name}"),
        };
        format!("{}; {}", place(&d.places[0], a), place(&d.places[1], b))
    };
    type IsOf = fn(&Difference) -> bool;
    let sections: [(String, IsOf); 3] = [
        (format!("{a} allows, and {b} refuses:"), |d| {
            d.outcomes[0].is_allowed() && !d.outcomes[1].is_allowed()
        }),
        (format!("{b} allows, and {a} refuses:"), |d| {
            !d.outcomes[0].is_allowed() && d.outcomes[1].is_allowed()
        }),
        (
            "Both allow or both refuse, but not in the same way:".to_string(),
            |d| d.outcomes[0].is_allowed() == d.outcomes[1].is_allowed(),
        ),
    ];
    for (title, is_of) in sections {
        let these: Vec<_> = found.iter().filter(|d| is_of(d)).collect();
        if these.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{title}");
        for d in these {
            for what in &d.what {
                let [x, y] = &d.outcomes;
                let _ = match (x.is_allowed() != y.is_allowed(), d) {
                    (true, _) => writeln!(text, "  {}", line(d, what)),
                    (false, _) => writeln!(text, "  {}: {x}, {y}", line(d, what)),
                };
            }
            let _ = writeln!(text, "    such as {} ({})", d.example, why(d));
        }
    }
    for (name, lines) in names.iter().zip(lines) {
        for line in lines {
            let _ = writeln!(text, "Only {name} has: {line}");
        }
    }
    for (name, _) in names.iter().zip(modes).filter(|(_, observes)| *observes) {
        if modes[0] != modes[1] {
            let _ = writeln!(
                text,
                "Only {name} observes, and refuses nothing: mode observe"
            );
        }
    }
    text
}

fn as_json(
    names: &[String; 2],
    found: &[Difference],
    lines: &[Vec<String>; 2],
    modes: [bool; 2],
) -> String {
    let all: Vec<Value> = found
        .iter()
        .map(|d| {
            json!({
                "operation": d.op.name(),
                "kinds": d.kinds,
                "what": d.what,
                "who": d.who,
                "outcomes": d.outcomes.each_ref().map(ToString::to_string),
                "example": d.example,
                "rules": d.places,
            })
        })
        .collect();
    let whole = json!({
        "policies": names,
        "differences": all,
        "host": lines,
        "observes": modes,
    });
    format!("{whole}\n")
}
