//! `bindgate why --log FILE [N]`: from a JSON log alone.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::story::Story;
use crate::{Failure, complain, events, exit, print, shown};

/// Explains all failures of the log, or the one that is asked for.
pub fn explain(file: &Path, what: &[String]) -> Result<i32, Failure> {
    let wrong = |why: String| Failure::new(exit::USAGE, "why --log", why);
    let wanted = match what {
        [] => None,
        [n] => Some(n.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| {
            wrong(format!(
                "'{n}' is not the number of a failure: expected 1 or more"
            ))
        })?),
        _ => return Err(wrong("expected one number at most".into())),
    };
    let failed = |e| Failure::new(exit::LOG, shown(file), e);
    let log: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(BufReader::new(std::io::stdin())),
        false => Box::new(BufReader::new(File::open(file).map_err(failed)?)),
    };
    let mut story = Story::default();
    let mut broken = None;
    for line in events::read(log) {
        match line {
            Ok((number, line)) => drop(story.take(number, &line)),
            Err(e) => {
                broken = Some(failed(e));
                break;
            }
        }
    }
    let all = &story.failed;
    let mut out = String::new();
    match wanted {
        Some(n) => match all.get(n - 1) {
            Some(failed) => failed.show(&mut out, Some(n)),
            None if broken.is_none() => {
                let count = all.len();
                let s = if count == 1 { "" } else { "s" };
                return Err(wrong(format!("the log has {count} failure{s}, not {n}")));
            }
            None => {}
        },
        None => {
            for (n, failed) in (1..).zip(all) {
                failed.show(&mut out, Some(n));
            }
        }
    }
    print(&out)?;
    match broken {
        Some(broken) => Err(broken),
        None => {
            if all.is_empty() {
                complain("no bind, listen or connect of this log failed");
            }
            Ok(0)
        }
    }
}
