//! What a C file says about itself, in the comment at its top:
//!
//! ```text
//! //: args A B              arguments of the program
//! //: user root             run it as root only (or: nobody); both if not said
//! //: link -static          further arguments for cc
//! //: unemulated REASON     not under an emulator, see scripts/cross
//! //: unfiltered REASON     not under a seccomp filter, see filtered.rs
//! //: unlearned REASON      its policy is not learned, see learned.rs
//! //: outside REASON        not in a container, see support/below.c
//! //: library NAME [linked]  NAME.c is made NAME.so beside the program
//! //: ruled REASON          not without the rules of its cases
//! //: driven                run by tests in demo.rs or records.rs only
//! //: case NAME             what follows is about one run under rules
//! //: rule RULE             one line of its policy; $DIR is its directory
//! //: same                  it ends as the plain run ends …
//! //: stdout LINE           … or it says this (all lines are given) …
//! //: exit N                … with this status, 0 if not said
//! //: log 2 deny bind       the log has two such records (or: log some …)
//! //: record {"errno":"EACCES"}   the log has a record with these fields; $DIR
//!                           as in rules (or: record 2 {…}, so many of them)
//! //: args A B              further arguments in this case, $DIR as in rules
//! //: unwritten N           a plain preload says that so many lines of its log
//!                           could not be written
//! //: warns TEXT            the launcher warns of the rules, in these words;
//!                           a line for each warning
//! //: only preload          not under the launcher as well (or: only run)
//! //: below docker          below such a filter, see support/below.c
//! //: needs vsock           where the kernel makes AF_VSOCK sockets
//! //: needs tags            where it has IP_LOCAL_PORT_RANGE, which listeners
//!                           are tagged by
//! ```

use std::fs;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{filtered, learned};
use support::{self, Below, NOBODY, Run, Way, compile, compile_library, same, sources};

/// Rules that would refuse everything, for runs that only observe.
const REFUSE_ALL: [&str; 4] = [
    "deny socket any",
    "deny bind any *",
    "deny listen any *",
    "deny connect any *",
];

#[derive(Clone, Default)]
struct File {
    name: String,
    args: Vec<String>,
    user: Option<u32>,
    link: Vec<String>,
    library: Option<(String, bool)>,
    driven: bool,
    ruled: bool,
    unfiltered: bool,
    unlearned: bool,
    outside: bool,
    unemulated: bool,
    cases: Vec<Case>,
}

#[derive(Clone, Default)]
struct Case {
    name: String,
    args: Vec<String>,
    rules: Vec<String>,
    same: bool,
    stdout: Vec<String>,
    exit: u8,
    log: Vec<Count>,
    records: Vec<(Option<usize>, String)>,
    unwritten: Option<u32>,
    warns: Vec<String>,
    only: Option<Way>,
    below: Option<Below>,
    needs_vsock: bool,
    needs_tags: bool,
}

/// So many records with this verdict and call; `None` is at least one.
#[derive(Clone)]
struct Count {
    number: Option<usize>,
    verdict: String,
    call: String,
}

pub fn trials() -> Vec<Trial> {
    let mut names: Vec<String> = fs::read_dir(sources())
        .expect("c-tests")
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".c").map(str::to_owned))
        .collect();
    names.sort();
    let mut trials = Vec::new();
    let emulated = support::emulator().is_some();
    for name in names {
        let file = parse(&name);
        let left_out = emulated && file.unemulated || file.outside && Below::everywhere().is_some();
        if file.driven || left_out {
            continue;
        }
        if file.user == Some(NOBODY) && !support::has_nobody() {
            trials.push(support::skipped(
                &name,
                "needs root, to become another user",
            ));
            continue;
        }
        let every = file.clone();
        if !file.ruled {
            trials.push(Trial::test(format!("{name}::same"), move || {
                run_same(&every)
            }));
        }
        // What a policy says hangs neither on the build nor on a filter: asked once.
        let learns = cfg!(debug_assertions) && Below::everywhere().is_none();
        if learns && !emulated && !file.ruled && !file.unlearned {
            let every = file.clone();
            trials.push(Trial::test(format!("{name}::learned"), move || {
                let user = every.users().last().copied().unwrap_or(0);
                learned::run(&every.run()?.user(user))
            }));
        }
        // What it does behind a filter of its own is asked once.
        let is_filtered = file.unfiltered || file.ruled || emulated;
        if !is_filtered && Below::everywhere().is_none() {
            trials.push(filtered_trial(&file));
        }
        for case in file.cases.clone() {
            if emulated && !case.can_be_emulated() {
                continue;
            }
            let file = file.clone();
            let no_vsock = case.needs_vsock && !support::has_vsock();
            let no_tags = case.needs_tags && !support::has_tags();
            let name = format!("{name}::{}", case.name);
            let trial = Trial::test(name, move || run_case(&file, &case));
            let reason = match no_vsock {
                true => "the kernel makes no vsock sockets",
                false => "the kernel has no IP_LOCAL_PORT_RANGE",
            };
            trials.push(support::left_out(trial, reason, no_vsock || no_tags));
        }
    }
    trials
}

fn filtered_trial(file: &File) -> Trial {
    let name = format!("{}::filtered", file.name);
    if support::which("strace").is_none() {
        return support::skipped(&name, "strace is not installed");
    }
    let file = file.clone();
    let user = file.user.unwrap_or(0);
    Trial::test(name, move || {
        filtered::run(&file.run()?.user(user), &file.name, &REFUSE_ALL)
    })
}

fn parse(name: &str) -> File {
    let text = fs::read_to_string(sources().join(name).with_extension("c")).unwrap();
    let mut file = File {
        name: name.to_owned(),
        ..File::default()
    };
    for (number, line) in text.lines().enumerate() {
        if !line.starts_with("//") {
            break;
        }
        let Some(line) = line.strip_prefix("//: ") else {
            continue;
        };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words = || {
            rest.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        match (word, file.cases.last_mut()) {
            ("args", None) => file.args = words(),
            ("link", None) => file.link = words(),
            ("library", None) => {
                let linked = rest.strip_suffix(" linked");
                file.library = Some((linked.unwrap_or(rest).to_owned(), linked.is_some()));
            }
            ("driven", None) => file.driven = true,
            ("ruled", None) if !rest.is_empty() => file.ruled = true,
            ("unlearned", None) if !rest.is_empty() => file.unlearned = true,
            ("unemulated", None) if !rest.is_empty() => file.unemulated = true,
            ("outside", None) if !rest.is_empty() => file.outside = true,
            ("unfiltered", None) if !rest.is_empty() => {
                file.unfiltered = true;
                // The kernel would have to know the emulator.
                file.unemulated |= ["starts a program", "starts a shell"]
                    .iter()
                    .any(|start| rest.starts_with(start));
            }
            ("user", None) if rest == "root" => file.user = Some(0),
            ("user", None) if rest == "nobody" => file.user = Some(NOBODY),
            ("case", _) => {
                file.cases.push(Case {
                    name: rest.to_owned(),
                    ..Case::default()
                });
            }
            ("rule", Some(case)) => case.rules.push(rest.to_owned()),
            ("args", Some(case)) => case.args = words(),
            ("same", Some(case)) => case.same = true,
            ("stdout", Some(case)) => case.stdout.push(rest.to_owned()),
            ("exit", Some(case)) => case.exit = rest.parse().expect("exit N"),
            ("unwritten", Some(case)) => case.unwritten = Some(rest.parse().expect("unwritten N")),
            ("warns", Some(case)) => case.warns.push(rest.to_owned()),
            ("needs", Some(case)) if rest == "vsock" => case.needs_vsock = true,
            ("needs", Some(case)) if rest == "tags" => case.needs_tags = true,
            ("below", Some(case)) => case.below = Some(Below::named(rest).expect("below FILTER")),
            ("only", Some(case)) if rest == "run" => case.only = Some(Way::Run),
            ("only", Some(case)) if rest == "preload" => case.only = Some(Way::Preload),
            ("record", Some(case)) => {
                let (number, fields) = match rest.split_once(' ') {
                    Some((number, fields)) if !rest.starts_with('{') => {
                        (Some(number.parse().expect("record N {…}")), fields)
                    }
                    _ => (None, rest),
                };
                case.records.push((number, fields.to_owned()));
            }
            ("log", Some(case)) => {
                let [number, verdict, call] = &words()[..] else {
                    panic!("{name}.c:{}: log NUMBER VERDICT CALL", number + 1)
                };
                case.log.push(Count {
                    number: number.parse().ok(),
                    verdict: verdict.clone(),
                    call: call.clone(),
                });
            }
            _ => panic!("{name}.c:{}: what is this? {line}", number + 1),
        }
    }
    file
}

impl Case {
    /// QEMU has none of what a moved socket is found by: `SO_COOKIE`,
    /// `NETLINK_SOCK_DIAG`, `process_vm_writev`.
    fn can_be_emulated(&self) -> bool {
        let moves = |rule: &String| rule.starts_with("move ") || rule.starts_with("hide ");
        // QEMU passes no options of vsock sockets on.
        let can = !self.needs_vsock && !self.rules.iter().any(moves);
        can || std::env::var_os("EMULATE_ALL").is_some()
    }
}

impl File {
    fn users(&self) -> Vec<u32> {
        match self.user {
            Some(user) => vec![user],
            None if support::has_nobody() => match Below::everywhere() {
                Some(_) => vec![NOBODY],
                None => vec![0, NOBODY],
            },
            None => vec![0],
        }
    }

    fn run(&self) -> Result<Run, String> {
        let mut link: Vec<&str> = self.link.iter().map(String::as_str).collect();
        let (directory, file);
        if let Some((name, linked)) = &self.library {
            let library = compile_library(name)?;
            if *linked {
                // Found beside the program, wherever the two are copied to.
                directory = format!("-L{}/", library.parent().ok_or("no directory")?.display());
                file = format!("-l:{name}.so");
                link.extend([&*directory, &file, "-Wl,-rpath,$ORIGIN"]);
            }
        }
        Ok(Run::new(compile(&self.name, &link)?).args(&self.args))
    }
}

/// With nothing to do, nobody can tell that bindgate is there.
fn run_same(file: &File) -> Result<(), Failed> {
    for user in file.users() {
        let plain = file.run()?.user(user).finish();
        if plain.status == "exit 99" {
            return Err(format!("the plain run itself fails:\n{}", plain.seen()).into());
        }
        // Observing asks the kernel no other way.
        let all = [Way::Preload, Way::Run, Way::Observe];
        let ways = if Below::everywhere().is_some() {
            &all[..2]
        } else {
            &all
        };
        for &way in ways {
            let mut run = file.run()?.user(user).way(way);
            if way != Way::Preload {
                run = run.logged();
            }
            if way == Way::Observe {
                run = run.rules(REFUSE_ALL);
            }
            same(
                &plain.seen(),
                &run.finish().seen(),
                &format!("{way:?} as user {user}"),
            )?;
        }
    }
    Ok(())
}

/// What it does under rules.
fn run_case(file: &File, case: &Case) -> Result<(), Failed> {
    for user in file.users() {
        let expected = if case.same {
            file.run()?.user(user).finish().seen()
        } else {
            let lines = case.stdout.iter().map(|l| format!("stdout| {l}\n"));
            lines.collect::<String>() + &format!("exit {}\n", case.exit)
        };
        for way in [Way::Preload, Way::Run] {
            if case.only.is_some_and(|only| only != way) {
                continue;
            }
            let mut run = file.run()?.user(user).way(way).rules(&case.rules);
            if case.below.is_some() {
                run = run.below(case.below);
            }
            let args: Vec<String> = case.args.iter().map(|arg| run.in_place(arg)).collect();
            let mut run = run.args(args).logged();
            if way == Way::Run {
                run = run.launcher_arg("--wait");
            }
            let mut outcome = run.finish();
            if way == Way::Run {
                let (warnings, rest) = warnings_in(&outcome.stderr);
                let expected = |warning: &String| case.warns.iter().any(|w| warning.contains(w));
                let is_said = |words: &&String| !warnings.iter().any(|w| w.contains(*words));
                if let Some(words) = case.warns.iter().find(is_said) {
                    let seen = outcome.seen();
                    return Err(format!("it does not warn that {words:?}:\n{seen}").into());
                }
                if warnings.iter().all(expected) {
                    outcome.stderr = rest;
                }
            }
            if let (Some(n), Way::Preload) = (case.unwritten, way) {
                let words = format!("bindgate: {n} lines of the log could not be written\n");
                same(&words, &outcome.stderr, "what is said of the log")?;
                outcome.stderr.clear();
            }
            same(
                &expected,
                &outcome.seen(),
                &format!("{way:?} as user {user}"),
            )?;
            check_log(case, &outcome)?;
            for (number, fields) in &case.records {
                check_record(*number, &run.in_place(fields), &outcome)?;
            }
        }
    }
    Ok(())
}

/// The launcher's warnings, each with the lines that show the rule; and what
/// else is there.
fn warnings_in(stderr: &str) -> (Vec<String>, String) {
    let (mut warnings, mut rest) = (Vec::<String>::new(), String::new());
    let mut in_warning = false;
    for line in stderr.split_inclusive('\n') {
        let begins = line.contains(": warning: ");
        in_warning = begins || in_warning && line.starts_with("  ");
        match warnings.last_mut() {
            _ if begins => warnings.push(line.to_owned()),
            Some(warning) if in_warning => *warning += line,
            _ => rest += line,
        }
    }
    (warnings, rest)
}

/// Are there records with these fields, and so many?
fn check_record(
    number: Option<usize>,
    fields: &str,
    outcome: &support::Outcome,
) -> Result<(), String> {
    let mut wanted: Value = serde_json::from_str(fields).map_err(|e| format!("{e}: {fields}"))?;
    // QEMU's user emulation knows no SO_COOKIE.
    if support::emulator().is_some() && wanted["identity"] == "cookie" {
        wanted["identity"] = "inode".into();
    }
    let records = outcome.records();
    let found = records.iter().filter(|r| has(&r.0, &wanted)).count();
    if number.map_or(found > 0, |n| n == found) {
        return Ok(());
    }
    let all: String = records.iter().map(|r| format!("{}\n", r.0)).collect();
    Err(format!("{found} records with {wanted} in the log:\n{all}"))
}

/// Objects may have further fields; everything else is as it is wanted.
fn has(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Object(value), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| value.get(name).is_some_and(|value| has(value, wanted))),
        _ => value == wanted,
    }
}

fn check_log(case: &Case, outcome: &support::Outcome) -> Result<(), String> {
    for Count {
        number,
        verdict,
        call,
    } in &case.log
    {
        let records = outcome.records();
        let found = records.iter().filter(|r| r.is(call, verdict)).count();
        if number.map_or(found == 0, |n| n != found) {
            let all: String = records.iter().map(|r| format!("{}\n", r.0)).collect();
            return Err(format!(
                "{found} records '{verdict} {call}' in the log:\n{all}"
            ));
        }
    }
    Ok(())
}
