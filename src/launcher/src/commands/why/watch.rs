//! `bindgate why -- PROGRAM`: a run, and why its binds and connects fail, as they do.

use std::ffi::OsString;
use std::io::Write;

use bindgate_core::render::Readable;

use super::story::Story;
use crate::watched::Watched;
use crate::{Failure, complain, exit, wait};

/// Has connects and listens recorded as well, which decides nothing.
const NOTES: [&str; 2] = ["note connect any *", "note listen any *"];

/// Runs the program; its status is ours.
pub fn run(options: &[OsString], program: &[OsString]) -> Result<i32, Failure> {
    let mut options = options.to_vec();
    options.push("--sync".into());
    for note in NOTES {
        options.extend(["-r".into(), note.into()]);
    }
    let mut run = Watched::start_for_us(&options, program)?;
    let mut story = Story::default();
    for line in run.lines() {
        match line {
            Ok((number, line)) => {
                let mut out = String::new();
                for place in story.take(number, &line) {
                    if let Some(failed) = story.failed.get(place) {
                        failed.show(&mut out, None);
                    }
                }
                say(&out);
            }
            // Whoever stops reading holds up the program.
            Err(e) => complain(format_args!("why: the log of the run: {e}")),
        }
    }
    let status = run
        .status()
        .map_err(|e| Failure::new(exit::SYSTEM, "bindgate run", e))?;
    Ok(wait::end_as(status))
}

/// Standard error is the log's place; the program's own output stays as it is.
fn say(text: &str) {
    let mut out = String::new();
    for line in text.lines() {
        out += &format!("{}\n", Readable(line.as_bytes()));
    }
    let _ = std::io::stderr().write_all(out.as_bytes());
}
