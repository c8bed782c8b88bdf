//! Every bind leaves exactly one record, whatever becomes of the program.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use support::{Outcome, Run, Way, compile, emulator, same, until};

/// Bytes of the alternate stack of a handler that binds: `SIGSTKSZ` of the
/// headers, of which the kernel takes 3.4 KB for itself where there is AVX-512.
/// Builds without optimisation need more.
const ALTERNATE_STACK: &str = if cfg!(debug_assertions) {
    "16384"
} else {
    "8192"
};

/// Bytes of a handler's stack that a hooked call may use; and that a bind may
/// that is moved or hidden, and a listen() under rules of its own.
const CALL_USES: [usize; 2] = if cfg!(debug_assertions) {
    [12_800, 12_800]
} else {
    [4_850, 6_600]
};

pub fn trials() -> Vec<Trial> {
    let programs = [
        ("records_children", "pid", "exit 0"),
        ("records_threads", "tid", "exit 0"),
        ("records_killed", "pid", "signal 9"),
        ("records_closes_all", "pid", "exit 0"),
    ];
    let mut trials = Vec::new();
    for (program, who, end) in programs {
        for way in [Way::Run, Way::Preload] {
            let name = format!("{program}::{}", format!("{way:?}").to_lowercase());
            trials.push(Trial::test(name, move || counted(program, who, end, way)));
        }
    }
    let emulated = emulator().is_some();
    for way in [Way::Run, Way::Preload] {
        for stack in ["", ALTERNATE_STACK] {
            let on = if stack.is_empty() {
                ""
            } else {
                ", alternate stack"
            };
            let name = format!("records_signals::{}{on}", format!("{way:?}").to_lowercase());
            trials.push(Trial::test(name, move || signals(way, stack)));
        }
    }
    for way in [Way::Run, Way::Preload] {
        let name = format!("handler_stack::{}", format!("{way:?}").to_lowercase());
        trials.push(Trial::test(name, move || handler_stack(way)));
    }
    trials.push(Trial::test("records_daemon::run", daemon));
    trials.push(Trial::test("granted::records", granted));
    // The kernel cannot start a program of another architecture, and QEMU's
    // vfork(2) is a fork(2).
    if !emulated {
        for way in [Way::Run, Way::Preload] {
            for rules in [&[][..], &["deny bind tcp *:9", "note bind any *"]] {
                let under = if rules.is_empty() { "" } else { ", rules" };
                let name = format!("bind_options::{}{under}", format!("{way:?}").to_lowercase());
                trials.push(Trial::test(name, move || bind_options(way, rules)));
            }
        }
        for way in [Way::Run, Way::Preload] {
            let name = format!("records_vfork::{}", format!("{way:?}").to_lowercase());
            trials.push(Trial::test(name, move || {
                counted("records_vfork", "pid", "exit 0", way)?;
                counted("records_vfork", "tid", "exit 0", way)
            }));
        }
    }
    trials
}

fn counted(program: &str, who: &str, end: &str, way: Way) -> Result<(), Failed> {
    let mut run = logged(program, way)?;
    if way == Way::Preload && program == "records_threads" {
        // Without a launcher, writing comes to the writer's account: all of it
        // would take its time.
        run = run.arg("500");
    }
    let outcome = run.finish();
    if outcome.status != end || !outcome.stderr.is_empty() {
        return Err(outcome.seen().into());
    }
    if program == "records_children" {
        // Each of them has one thread, and its number.
        compare(&run, &outcome, "tid")?;
    }
    compare(&run, &outcome, who)
}

/// A storm of handlers, under rules of which one refuses half of their binds.
fn signals(way: Way, stack: &str) -> Result<(), Failed> {
    let mut run = logged("records_signals", way)?
        .rule("deny bind tcp *:9000")
        .rule("move bind tcp *:9001 to loopback:19001");
    if !stack.is_empty() {
        run = run.arg(stack);
    }
    let outcome = run.finish();
    if outcome.status != "exit 0" || !outcome.stderr.is_empty() {
        return Err(outcome.seen().into());
    }
    // A process that seems to have executed something else is taken for dead:
    // what it had in hand is counted as lost, and comes once more.
    let mut log = BufReader::new(File::open(run.dir().join("log.jsonl"))?).lines();
    let is_lost = |line: &String| line.contains("\"event\":\"lost\"");
    if let Some(lost) = log.by_ref().map_while(Result::ok).find(is_lost) {
        return Err(lost.into());
    }
    compare(&run, &outcome, "pid")
}

/// What the hooked calls use of a handler's stack, each under rules that give
/// it the most to do.
fn handler_stack(way: Way) -> Result<(), Failed> {
    let run = logged("handler_stack", way)?.rules([
        "deny bind tcp *:9000",
        "move bind tcp *:9001 to loopback:19001",
        "hide bind tcp *:9002",
        "move bind tcp *:9003 to unix:$DIR/moved",
        "deny bind inet *:auto implicit for /none",
        "deny connect tcp *:9004",
        "move connect tcp *:9005 to loopback:9007",
        "deny socket netlink",
        "deny listen tcp *:9008",
        "move bind vsock *:9009 to unix:$DIR/vsock",
    ]);
    let outcome = run.finish();
    let (mut lines, mut too_much) = (0, String::new());
    for line in outcome.stdout.lines() {
        let moved = (9001..=9003).any(|port| line.starts_with(&format!("bind {port}:")));
        let large = moved || line.starts_with("listen ") || line.starts_with("vsock ");
        let used = line.rsplit(' ').next().and_then(|n| n.parse().ok());
        if used.is_none_or(|used: usize| used > CALL_USES[usize::from(large)]) {
            too_much += &format!("{line}\n");
        }
        lines += 1;
    }
    if lines != 13 || !too_much.is_empty() || outcome.status != "exit 0" {
        let seen = outcome.seen();
        return Err(format!("too much of a handler's stack:\n{too_much}of\n{seen}").into());
    }
    Ok(())
}

/// A daemon's records come after the launcher's child has ended; `--wait`
/// waits for them. Its parent is who it would be without the launcher.
fn daemon() -> Result<(), Failed> {
    let run = logged("records_daemon", Way::Run)?;
    let (keeper, outcome) = support::in_net(|| {
        let process = run.spawn();
        (process.keeper(), process.wait())
    });
    if !outcome.stdout.ends_with(&format!("\nparent {keeper}\n")) {
        return Err(format!("the daemon's parent:\n{}", outcome.seen()).into());
    }
    same("exit 0", &outcome.status, "--wait ends with the run")?;
    compare(&run, &outcome, "pid")?;

    // Without --wait, the same records come in the end.
    let run = Run::new(compile("records_daemon", &[])?)
        .way(Way::Run)
        .logged();
    support::in_net(|| {
        let mut process = run.spawn();
        until("the launcher ends", || process.ended().then_some(()))?;
        until("the daemon is done", || {
            process.stdout().contains("\nparent ").then_some(())
        })?;
        until("its records", || {
            let found = log_counts(&run, "pid");
            (found == said(&process.stdout())).then_some(())
        })
    })?;
    Ok(())
}

/// What no rule is about goes the short way through the library. Its records
/// are those of the long way, but for the note that sent it there, and what had
/// to be asked for it.
fn granted() -> Result<(), Failed> {
    let short = granted_under(&["deny bind tcp *:9"])?;
    let long = granted_under(&[
        "deny bind tcp *:9",
        "note bind any *",
        "note bind any *:auto",
        "note socket any",
    ])?;
    for (short, long) in short.iter().zip(&long) {
        if short != long {
            return Err(format!("the short way:\n{short}\nthe long way:\n{long}").into());
        }
    }
    if short.len() != long.len() || short.len() < 20 {
        return Err(format!("{} and {} records", short.len(), long.len()).into());
    }
    Ok(())
}

/// What the records say of the options before each bind.
fn bind_options(way: Way, rules: &[&str]) -> Result<(), Failed> {
    let outcome = logged("bind_options", way)?.rules(rules).finish();
    let none = json!(null);
    let expected = [
        ("none", json!([]), &none, false),
        ("reused", json!(["reuseaddr", "reuseport"]), &none, false),
        ("nonlocal", json!(["freebind"]), &none, false),
        ("dual", json!([]), &json!(false), false),
        ("v6only", json!(["v6only"]), &json!(true), false),
        ("device", json!(["device"]), &none, true),
        (
            "from before",
            json!(["v6only", "reuseaddr"]),
            &json!(true),
            false,
        ),
    ];
    let said: String = expected.iter().map(|e| format!("{}: ok\n", e.0)).collect();
    same(&said, &outcome.stdout, &outcome.stderr)?;
    let mut binds = outcome.records();
    binds.retain(|r| r.text("call") == "bind");
    if binds.len() != expected.len() {
        return Err(outcome.seen().into());
    }
    for (record, (what, options, v6only, device)) in binds.iter().zip(&expected) {
        let record = &record.0;
        let as_expected = record["options"] == *options
            && record["v6only"] == **v6only
            && record["device"].is_number() == *device;
        if !as_expected {
            return Err(format!("{what}: {record}").into());
        }
    }
    Ok(())
}

fn granted_under(rules: &[&str]) -> Result<Vec<String>, Failed> {
    let run = logged("granted", Way::Run)?.rules(rules);
    let outcome = run.finish();
    if outcome.status != "exit 0" {
        return Err(outcome.seen().into());
    }
    let mut last = String::new();
    let mut lines = Vec::new();
    for mut record in outcome.records() {
        let Some(fields) = record.0.as_object_mut() else {
            continue;
        };
        if fields.get("event").is_none_or(|event| event != "decision") {
            continue;
        }
        // Times are in order, however they were taken.
        let time = fields
            .remove("time")
            .map(|t| t.to_string())
            .unwrap_or_default();
        if time < last {
            return Err(format!("{time} after {last}").into());
        }
        last = time;
        // A prediction depends on when the log process comes to it.
        for differs in [
            "pid",
            "tid",
            "note",
            "rule",
            "identity",
            "cookie",
            "predicted",
            "why",
            "holder",
        ] {
            fields.remove(differs);
        }
        if let Some(stages) = fields.get_mut("stages").and_then(|s| s.as_array_mut()) {
            stages.retain(|stage| stage != "identify" && stage != "policy" && stage != "address");
        }
        let text = record.0.to_string();
        // The kernel's choice.
        lines.push(match text.split_once("\"used\":\"") {
            Some((head, rest))
                if [":0\"", "unix:auto\""]
                    .iter()
                    .any(|auto| head.contains(auto)) =>
            {
                let end = rest.find('"').unwrap_or(0);
                format!("{head}{}", rest.get(end..).unwrap_or_default())
            }
            _ => text,
        });
    }
    Ok(lines)
}

fn logged(program: &str, way: Way) -> Result<Run, String> {
    let run = Run::new(compile(program, &[])?).way(way).logged();
    Ok(if way == Way::Run {
        run.launcher_arg("--wait")
    } else {
        run
    })
}

fn compare(run: &Run, outcome: &Outcome, who: &str) -> Result<(), Failed> {
    let (said, found) = (said(&outcome.stdout), log_counts(run, who));
    if said.is_empty() {
        return Err(format!("it said nothing:\n{}", outcome.seen()).into());
    }
    let wrong: Vec<_> = said
        .iter()
        .filter(|(who, n)| found.get(who) != Some(n))
        .take(10)
        .collect();
    let strangers: Vec<_> = found
        .keys()
        .filter(|who| !said.contains_key(who))
        .take(10)
        .collect();
    if wrong.is_empty() && strangers.is_empty() {
        return Ok(());
    }
    let sum = |counts: &BTreeMap<u32, u64>| counts.values().sum::<u64>();
    let text = format!(
        "{} binds were made, {} are in the log; wrong: {wrong:?}, unknown: {strangers:?}",
        sum(&said),
        sum(&found),
    );
    Err(text.into())
}

/// Lines such as "1234 binds 100".
fn said(stdout: &str) -> BTreeMap<u32, u64> {
    let line = |line: &str| {
        let (who, count) = line.split_once(" binds ")?;
        Some((who.parse().ok()?, count.parse().ok()?))
    };
    stdout.lines().filter_map(line).collect()
}

/// Bind records by process or thread, read line by line: the log may be large.
fn log_counts(run: &Run, who: &str) -> BTreeMap<u32, u64> {
    let key = format!("\"{who}\":");
    let mut counts = BTreeMap::new();
    let Ok(log) = File::open(run.dir().join("log.jsonl")) else {
        return counts;
    };
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        let line = line.replace(": ", ":");
        if line.contains("\"call\":\"bind\"") {
            let number = line.split_once(&key).map_or("", |(_, rest)| rest);
            let end = number
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(number.len());
            *counts
                .entry(number[..end].parse().unwrap_or(0))
                .or_default() += 1;
        }
    }
    counts
}
