//! `--matrix FILE`: one program on several hosts and days, a row each.
//!
//! ```text
//! [no IPv6]
//! host no-ipv6
//!
//! [few descriptors]
//! limit nofile 16
//! expect exit 1
//! ```
//!
//! A section is lines of a policy, which are added to the policy of the check, and two more:
//! `with OPTION`, of `bindgate run`, and `limit nofile N`.

use std::ffi::OsString;

use crate::{Failure, exit};

/// A host, or a day.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Section {
    /// What it is called.
    pub name: String,
    /// Its lines of a policy, on the lines of the file.
    pub policy: String,
    /// Options of `bindgate run`.
    pub with: Vec<OsString>,
    /// How many descriptors a process may have.
    pub nofile: Option<u32>,
}

impl Section {
    /// The program and its arguments, with what limits them.
    pub fn command(&self, command: &[OsString]) -> Vec<OsString> {
        let Some(most) = self.nofile else {
            return command.to_vec();
        };
        let script = format!("ulimit -n {most} && exec \"$@\"");
        let mut words: Vec<OsString> = vec!["sh".into(), "-c".into(), script.into(), "sh".into()];
        words.extend_from_slice(command);
        words
    }
}

/// Reads a matrix.
///
/// # Errors
/// What is wrong with it, with its line; what is wrong with lines of a policy is said by
/// those who read them.
pub fn read(name: &str, text: &str) -> Result<Vec<Section>, Failure> {
    let mut sections: Vec<Section> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let wrong =
            |what: &str| Failure::say(exit::USAGE, format!("{name}:{}: {what}\n  {line}", n + 1));
        let content = line.trim();
        if let Some(head) = content.strip_prefix('[') {
            let head = head
                .strip_suffix(']')
                .map(str::trim)
                .filter(|head| !head.is_empty())
                .ok_or_else(|| wrong("expected a name in brackets: [no IPv6]"))?;
            if sections.iter().any(|section| section.name == head) {
                return Err(wrong("there is a section of that name already"));
            }
            sections.push(Section {
                name: head.to_owned(),
                policy: "\n".repeat(n),
                ..Section::default()
            });
        }
        let Some(section) = sections.last_mut() else {
            match content.is_empty() || content.starts_with('#') {
                true => continue,
                false => return Err(wrong("expected a section first: [no IPv6]")),
            }
        };
        let words: Vec<&str> = content.split_whitespace().collect();
        match words.as_slice() {
            [head, ..] if head.starts_with('[') => {}
            ["with", options @ ..] if !options.is_empty() => {
                section.with.extend(options.iter().map(OsString::from));
            }
            ["limit", "nofile", most] => {
                let most = most.parse().ok().filter(|n| *n > 0);
                section.nofile =
                    Some(most.ok_or_else(|| wrong("expected a number of descriptors"))?);
            }
            ["with" | "limit", ..] => {
                return Err(wrong("expected 'with OPTION' or 'limit nofile N'"));
            }
            _ => section.policy += line,
        }
        section.policy.push('\n');
    }
    match sections.is_empty() {
        true => Err(Failure::say(
            exit::USAGE,
            format!("{name}: no section: [no IPv6]"),
        )),
        false => Ok(sections),
    }
}

/// The rows as a table: the name, whether all holds, and what the program did.
pub fn table(rows: &[(String, bool, String)]) -> String {
    let width = rows.iter().map(|(name, ..)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut out = String::new();
    for (name, holds, did) in rows {
        let word = if *holds { "ok  " } else { "FAIL" };
        out += &format!("{word} {name:width$}  {did}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keep_the_lines_of_the_file() {
        let text =
            "# a\n[no IPv6]\nhost no-ipv6\n\n[few]\nlimit nofile 16\nwith --cid 3\nexpect exit 1\n";
        let sections = read("m", text).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!(sections[0].policy, "\n\nhost no-ipv6\n\n");
        assert_eq!(sections[1].policy.lines().nth(7), Some("expect exit 1"));
        assert_eq!(sections[1].with, ["--cid", "3"]);
        assert_eq!(sections[1].nofile, Some(16));
        for (text, message) in [
            ("expect exit 0\n", "m:1: expected a section first"),
            ("[]\n", "m:1: expected a name"),
            ("[a]\n[a]\n", "m:2: there is a section"),
            ("[a]\nlimit cpu 3\n", "m:2: expected 'with OPTION'"),
            ("[a]\nlimit nofile 0\n", "m:2: expected a number"),
            ("\n", "m: no section"),
        ] {
            let failure = read("m", text).unwrap_err();
            assert!(failure.message.starts_with(message), "{}", failure.message);
        }
    }
}
