//! Manual pages: one for each command, and bindgate-policy(5) out of the
//! description of the language.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::args;
use crate::{Failure, exit};

/// What bindgate-policy(5) says.
const POLICY: &str = include_str!("../../../../docs/policy.md");

/// Writes the manual pages into a directory, or the first to standard output.
pub fn man(directory: Option<&Path>) -> Result<i32, Failure> {
    let failed = |e: std::io::Error| Failure::new(exit::SYSTEM, "manual pages", e);
    let mut command = args::command().disable_help_subcommand(true);
    command.build();
    match directory {
        Some(directory) => {
            pages(&command, directory).map_err(failed)?;
            std::fs::write(directory.join("bindgate-policy.5"), policy_page()).map_err(failed)?;
        }
        None => std::io::stdout()
            .write_all(&page(&command).map_err(failed)?)
            .map_err(failed)?,
    }
    Ok(0)
}

fn pages(command: &clap::Command, directory: &Path) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    std::fs::write(directory.join(format!("{name}.1")), page(command)?)?;
    command
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .try_for_each(|c| pages(c, directory))
}

/// One page. What follows the options in `--help` is laid out already: it
/// stays as it is, under headings of its own.
fn page(command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let after = command.get_after_long_help().map(ToString::to_string);
    let after = args::laid_out(&after.unwrap_or_default());
    let command = command.clone().after_long_help("");
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend_from_slice(synopsis(&command).as_bytes());
    man.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|c| !c.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let mut open = false;
    for line in after.lines() {
        match line.strip_suffix(':').filter(|l| !l.starts_with(' ')) {
            Some(heading) => {
                let end = if open { ".fi\n" } else { "" };
                writeln!(page, "{end}.SH {}\n.nf", heading.to_uppercase())?;
                open = true;
            }
            None => writeln!(page, "{}", verbatim(line))?,
        }
    }
    page.extend_from_slice(if open { b".fi\n" } else { b"" });
    page.extend_from_slice(
        b".SH SEE ALSO\n\\fBbindgate\\-policy\\fR(5), \\fBld.so\\fR(8), \\fBbind\\fR(2), \\fBsocket\\fR(2)\n",
    );
    Ok(page)
}

/// The command with each option and the names of its values.
fn synopsis(command: &clap::Command) -> String {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut out = format!(".SH SYNOPSIS\n\\fB{}\\fR", escaped(&name.replace('-', " ")));
    let bold = |text: &str| format!("\\fB{}\\fR", escaped(text));
    let value = |arg: &clap::Arg| {
        let names = arg.get_value_names().unwrap_or_default();
        let name = names.first().map_or("VALUE", |n| n.as_str());
        format!("\\fI{}\\fR", escaped(name))
    };
    let shown = || command.get_arguments().filter(|a| !a.is_hide_set());
    let options = shown().filter(|a| !a.is_positional());
    for arg in options.chain(command.get_positionals()) {
        let repeated = matches!(arg.get_action(), clap::ArgAction::Append);
        let dots = if repeated { "..." } else { "" };
        if arg.is_positional() {
            let ranged = arg.get_num_args().is_some_and(|n| n.max_values() > 1);
            let dots = if ranged || repeated { " ..." } else { "" };
            let _ = match arg.is_required_set() {
                true => write!(out, " {}{dots}", value(arg)),
                false => write!(out, " [{}{dots}]", value(arg)),
            };
            continue;
        }
        let mut names = Vec::new();
        names.extend(arg.get_short().map(|c| bold(&format!("-{c}"))));
        names.extend(arg.get_long().map(|l| bold(&format!("--{l}"))));
        let names = names.join("|");
        let _ = match arg.get_action().takes_values() {
            true if arg.is_require_equals_set() => write!(out, " [{names}={}]{dots}", value(arg)),
            true => write!(out, " [{names} {}]{dots}", value(arg)),
            false => write!(out, " [{names}]"),
        };
    }
    if command.get_subcommands().any(|c| !c.is_hide_set()) {
        out.push_str(" \\fICOMMAND\\fR");
    }
    out + "\n"
}

/// Text without what troff takes for a request of its own.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('`', "\\(ga")
}

/// A line that is printed as it stands. `\&` keeps a leading dot or quote from
/// being a request.
fn verbatim(line: &str) -> String {
    format!("\\&{}", escaped(line))
}

fn policy_page() -> String {
    let mut page = String::from(
        "'\\\" t\n.TH bindgate\\-policy 5\n.SH NAME\n\
         bindgate\\-policy \\- the language of bindgate's rules\n.SH DESCRIPTION\n",
    );
    markdown(POLICY, &mut page);
    page.push_str(".SH SEE ALSO\n\\fBbindgate\\fR(1), \\fBbindgate\\-run\\fR(1), ");
    page.push_str("\\fBbindgate\\-policy\\-check\\fR(1)\n");
    page
}

/// The little of Markdown that the page has, for man(7) and tbl(1).
fn markdown(text: &str, out: &mut String) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# ") || line.is_empty() {
            continue;
        }
        if let Some(heading) = line.strip_prefix("## ") {
            let _ = writeln!(out, ".SH {}", escaped(&heading.to_uppercase()));
        } else if let Some(heading) = line.strip_prefix("### ") {
            let _ = writeln!(out, ".SS {}", escaped(heading));
        } else if line.starts_with("```") {
            let block = lines.by_ref().take_while(|l| !l.starts_with("```"));
            // Questions are for the test that runs the examples.
            let block: Vec<_> = block.filter(|l| !l.starts_with("#?")).collect();
            out.push_str(".PP\n.RS 4\n.nf\n");
            for line in block.join("\n").trim_end().lines() {
                let _ = writeln!(out, "{}", verbatim(line));
            }
            out.push_str(".fi\n.RE\n");
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|l| l.starts_with('|')) {
                rows.push(cells(row));
            }
            table(&rows, out);
        } else {
            let (request, first) = match line.strip_prefix("* ") {
                Some(rest) => (".IP \\(bu 2", rest),
                None => (".PP", line),
            };
            let mut paragraph = first.trim().to_string();
            let goes_on = |l: &&str| {
                !l.is_empty() && !["|", "#", "* ", "```"].iter().any(|s| l.starts_with(s))
            };
            while let Some(more) = lines.next_if(goes_on) {
                paragraph.push(' ');
                paragraph.push_str(more.trim());
            }
            let _ = writeln!(out, "{request}\n\\&{}", inline(&paragraph));
        }
    }
}

fn cells(row: &str) -> Vec<&str> {
    let row = row.trim().trim_start_matches('|');
    row.strip_suffix('|')
        .unwrap_or(row)
        .split('|')
        .map(str::trim)
        .collect()
}

fn is_rule(row: &[&str]) -> bool {
    row.iter()
        .all(|c| !c.is_empty() && c.bytes().all(|b| b == b'-'))
}

fn table(rows: &[Vec<&str>], out: &mut String) {
    let rows = || {
        rows.iter()
            .filter(|r| !is_rule(r) && r.iter().any(|c| !c.is_empty()))
    };
    let columns = rows().map(Vec::len).max().unwrap_or(0);
    if columns == 2 {
        for row in rows() {
            let (term, text) = (row.first().unwrap_or(&""), row.last().unwrap_or(&""));
            let _ = writeln!(out, ".TP\n\\&{}\n\\&{}", inline(term), inline(text));
        }
        return;
    }
    out.push_str(".PP\n.TS\ntab(\u{7f});\n");
    let _ = writeln!(out, "{}.", vec!["l"; columns].join(" "));
    for row in rows() {
        let cell = |c: &&str| match c.len() {
            0..=24 => inline(c),
            _ => format!("T{{\n\\&{}\nT}}", inline(c)),
        };
        let row: Vec<_> = row.iter().map(cell).collect();
        let _ = writeln!(out, "{}", row.join("\u{7f}"));
    }
    out.push_str(".TE\n");
}

/// `code`, **bold** and [links](to) in a paragraph.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 1 {
            let _ = write!(out, "\\fB{}\\fR", escaped(part));
            continue;
        }
        for (i, part) in part.split("**").enumerate() {
            let text = escaped(&without_links(part));
            let _ = match i % 2 {
                1 => write!(out, "\\fB{text}\\fR"),
                _ => write!(out, "{text}"),
            };
        }
    }
    out
}

fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let (name, after) = link.split_once("](").unwrap_or((link, ""));
        out.push_str(before);
        out.push_str(name);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_page_has_all_of_the_description() {
        let page = policy_page();
        for heading in POLICY.lines().filter_map(|l| l.strip_prefix("## ")) {
            let heading = format!(".SH {}\n", escaped(&heading.to_uppercase()));
            assert!(page.contains(&heading), "{heading}");
        }
        assert!(page.contains("\\&move bind tcp *:80 to loopback:8080"));
        assert!(!page.contains("\\&#?"), "questions are for the test");
        for line in page.lines().filter(|l| l.starts_with('.')) {
            let word = line.split(' ').next().unwrap_or_default();
            let known = [
                ".TH", ".SH", ".SS", ".PP", ".TP", ".IP", ".RS", ".RE", ".nf", ".fi", ".TS", ".TE",
            ];
            assert!(known.contains(&word), "{line}");
        }
    }

    #[test]
    fn markdown_becomes_a_manual_page() {
        let mut out = String::new();
        markdown(
            "## A-b\n\nSee `--x` in [the\npage](y.md).\n\n* one\n  more\n\n| a | b |\n|---|---|\n| `c` | .d |\n",
            &mut out,
        );
        assert_eq!(
            out,
            ".SH A\\-B\n.PP\n\\&See \\fB\\-\\-x\\fR in the page.\n.IP \\(bu 2\n\\&one more\n\
             .TP\n\\&a\n\\&b\n.TP\n\\&\\fBc\\fR\n\\&.d\n"
        );
    }

    #[test]
    fn a_synopsis_names_the_values() {
        let mut command = args::command();
        command.build();
        let run = command.find_subcommand("run").unwrap();
        let text = synopsis(run);
        assert!(
            text.contains("[\\fB\\-p\\fR|\\fB\\-\\-policy\\fR \\fIFILE\\fR]..."),
            "{text}"
        );
        assert!(text.ends_with("\\fIPROGRAM\\fR ...\n"), "{text}");
    }
}
