//! The examples of `docs/policy.md` do what it says they do.

mod common;

use std::panic::catch_unwind;

use bindgate_core::model::Generation;
use bindgate_core::policy::*;
use common::{Users, messages, run};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md");
    std::fs::read_to_string(path).unwrap()
}

/// The fenced blocks of a language, with the line where each begins.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<(usize, Vec<&'a str>)> {
    let mut out: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut inside = None;
    for (n, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), inside) {
            (Some(l), None) => {
                inside = Some(l == language);
                if l == language {
                    out.push((n + 1, Vec::new()));
                }
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => out.last_mut().unwrap().1.push(line),
            _ => {}
        }
    }
    out
}

/// The rows of the table under a heading that contains `title`.
fn table<'a>(page: &'a str, title: &str) -> Vec<Vec<&'a str>> {
    let from = page
        .lines()
        .skip_while(|l| !l.starts_with('|') || !l.contains(title));
    from.take_while(|l| l.starts_with('|'))
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn examples_do_what_they_say() {
    let page = page();
    let all = blocks(&page, "policy");
    assert!(all.len() > 20, "only {} examples", all.len());
    for (line, block) in all {
        let asked = block.iter().filter(|l| l.starts_with("#?")).count();
        assert!(asked > 0, "line {line}: an example without a question");
        if let Err(e) = catch_unwind(|| run(&block.join("\n"))) {
            eprintln!("in the example at line {line}");
            std::panic::resume_unwind(e);
        }
    }
}

#[test]
fn the_truth_table_is_true() {
    let page = page();
    let rows = table(&page, "socket bound to");
    let (head, rows) = rows.split_first().unwrap();
    let mut cells = 0;
    for row in rows.iter().filter(|r| !r[0].starts_with('-')) {
        let (addr, v6only) = match row[0].strip_suffix(" v6only") {
            Some(a) => (a, " v6only"),
            None => (row[0], ""),
        };
        let addr = addr.trim_matches('`');
        for (term, cell) in head.iter().zip(row).skip(1) {
            let term = term.trim_matches('`');
            for (letter, rules) in [
                ("D", vec!["deny bind tcp TERM", "hide bind tcp TERM"]),
                (
                    "A",
                    vec!["allow bind tcp TERM", "move bind tcp TERM to loopback:1"],
                ),
                (
                    "E",
                    vec![
                        "deny bind tcp exactly TERM",
                        "allow bind tcp exactly TERM",
                        "move bind tcp exactly TERM to loopback:1",
                    ],
                ),
            ] {
                for rule in rules {
                    let rule = rule.replace("TERM", &format!("{term}:80"));
                    let word = rule.split(' ').next().unwrap();
                    let matches = cell.split(' ').any(|l| l == letter);
                    let c = common::compiled(&rule);
                    let addr = common::address("tcp", &format!("{addr}:80")).unwrap();
                    let d = View::new(&c.words).unwrap().decide(
                        &Query {
                            kinds: common::kinds("tcp", addr.family()),
                            addr: Some(&addr),
                            v6only: !v6only.is_empty(),
                            ..Query::default()
                        },
                        &common::Counters::default(),
                    );
                    assert_eq!(
                        d.rule.is_some(),
                        matches,
                        "{rule}, socket on {addr}{v6only} ({word})"
                    );
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 500, "only {cells}");
}

#[test]
fn verbs_and_operations_are_those_of_the_table() {
    let page = page();
    let rows = table(&page, "`socket` | `bind`");
    for row in &rows[2..] {
        let verb = row[0].trim_matches('`');
        for (op, cell) in rows[0].iter().zip(row).skip(1).take(Op::ALL.len()) {
            let op = op.trim_matches('`');
            let to = if verb == "move" {
                " to loopback:80"
            } else {
                ""
            };
            let about = if op == "exec" { "/x" } else { "tcp" };
            let text = format!("{verb} {op} {about}{to}");
            let ok = parse(&[Source {
                name: "x",
                text: &text,
            }])
            .is_ok();
            assert_eq!(ok, *cell == "yes", "{text}");
        }
    }
}

#[test]
fn what_is_called_an_error_is_one_and_warnings_are_given() {
    let page = page();
    for (title, errors) in [("## Errors", true), ("## Warnings", false)] {
        let section = page.split(title).nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let mut tried = 0;
        for line in section.lines().filter(|l| l.starts_with('|')) {
            let cell = line.trim_matches('|').rsplit('|').next().unwrap().trim();
            let mut text = cell
                .split('`')
                .skip(1)
                .step_by(2)
                .collect::<Vec<_>>()
                .join("\n");
            if text.is_empty() {
                continue;
            }
            if cell.ends_with("twice") {
                text = format!("{text}\n{text}");
            }
            tried += 1;
            let p = parse(&[Source {
                name: "x",
                text: &text,
            }]);
            let compiled = p.as_ref().ok().map(|p| compile(p, &Users));
            let described = p.as_ref().ok().map(|p| p.described(Generation::Linux6_18));
            match compiled {
                Some(Ok(_)) if matches!(described, Some(Err(_))) => assert!(errors, "{text}"),
                Some(Ok((_, warnings))) => {
                    assert!(!errors, "no error: {text}");
                    assert!(!warnings.is_empty(), "no warning: {text}");
                }
                Some(Err(e)) => assert!(errors, "{}", messages(&e)),
                None => assert!(errors, "{}", messages(&p.unwrap_err())),
            }
        }
        assert!(tried >= 7, "only {tried}");
    }
}

#[test]
fn host_lines_of_the_page_parse() {
    let page = page();
    let (_, lines) = blocks(&page, "text")
        .into_iter()
        .find(|(_, b)| b[0].starts_with("host cid"))
        .unwrap();
    let p = common::policy(&lines.join("\n"));
    assert_eq!(p.host.len(), lines.len());
    assert_eq!(common::policy(&p.to_string()), p);
}
