//! The console transcripts of README.md and of docs/ are what a console shows.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use support::{self, Below, Process, Run, compile, in_net, same, stage, until};

/// What cannot be run, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("./vsock_listener", "says what this machine's vsock answers"),
    (
        "bindgate run -r 'deny bind tcp *:8080 with EADDRINUSE times 1' -- ./retrying-server",
        "a program that is not there",
    ),
    (
        "bindgate run -r 'allow bind udp *:7000' -r 'default deny' --fail-on deny ",
        "a Makefile that is not there",
    ),
];

/// What happens before a command without being shown.
const BEFORE: &[(&str, &str)] = &[(
    "bindgate run --policy web.policy -- nginx",
    "sed -i 's/udp/tpc/' web.policy",
)];

/// A command of a transcript, and what it shows.
struct Step {
    command: String,
    output: Vec<String>,
    line: usize,
}

pub fn trials() -> Vec<Trial> {
    let root = support::sources().join("..");
    let docs = fs::read_dir(root.join("docs")).expect("docs");
    let names = docs.map(|entry| entry.expect("docs").file_name().into_string());
    let mut files: Vec<String> = names
        .map(|name| format!("docs/{}", name.expect("UTF-8")))
        .filter(|name| name.ends_with(".md"))
        .collect();
    files.push("README.md".into());
    files.sort();
    let mut trials = Vec::new();
    for file in files {
        let text = fs::read_to_string(root.join(&file)).expect("a page");
        let steps = steps(&text);
        if !steps.is_empty() {
            let name = format!("transcripts of {file}");
            trials.push(Trial::test(name, move || play(&file, &steps)));
        }
    }
    trials
}

/// The commands of blocks that are fenced as `console`, or indented and begin
/// with a prompt.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut fenced, mut in_block, mut goes_on) = (false, false, false);
    for (n, line) in text.lines().enumerate() {
        let indented = line.strip_prefix("    ");
        let shown = match (line, fenced) {
            ("```console", _) => {
                (fenced, in_block) = (true, true);
                continue;
            }
            ("```", true) => {
                (fenced, in_block) = (false, false);
                continue;
            }
            (line, true) => Some(line),
            // An empty line belongs to the block if it goes on behind it.
            ("", false) if in_block => Some(""),
            (_, false) => indented,
        };
        let Some(shown) = shown else {
            in_block = false;
            continue;
        };
        if let Some(command) = shown.strip_prefix("$ ") {
            in_block = true;
            steps.push(Step {
                command: command.to_owned(),
                output: Vec::new(),
                line: n + 1,
            });
        } else if let (true, Some(step)) = (in_block, steps.last_mut()) {
            if goes_on {
                step.command += shown;
            } else {
                step.output.push(shown.to_owned());
            }
        }
        goes_on = in_block
            && steps
                .last()
                .is_some_and(|step| step.command.ends_with('\\'))
            && shown.ends_with('\\');
        if goes_on && let Some(step) = steps.last_mut() {
            step.command.pop();
        }
    }
    for step in &mut steps {
        while step.output.last().is_some_and(String::is_empty) {
            step.output.pop();
        }
    }
    steps
}

/// Plays a page from its beginning to its end, in one directory of a machine
/// on which one socket listens.
fn play(file: &str, steps: &[Step]) -> Result<(), Failed> {
    in_net(|| {
        let _holder = TcpListener::bind("127.0.0.1:9")?;
        let run = Run::new("sh");
        let dir = run.dir().to_owned();
        furnish(&dir)?;
        let mut behind: Vec<Process> = Vec::new();
        let mut id = String::new();
        let mut is_left_out = false;
        for step in steps {
            // What is not started shows nothing, nor does what asks for its run.
            is_left_out =
                needs_namespace(step) || is_left_out && step.command.split(' ').any(is_id);
            if is_left_out && Below::everywhere() == Some(Below::Docker) {
                continue;
            }
            if NOT_RUN
                .iter()
                .any(|(command, _)| step.command.starts_with(command))
            {
                continue;
            }
            if let Some(name) = step.command.strip_prefix("cat ") {
                fs::write(dir.join(name), step.output.join("\n") + "\n")?;
                continue;
            }
            for (command, before) in BEFORE {
                if *command == step.command {
                    let done = shell(&run, before).spawn().wait();
                    same("exit 0\n", &done.seen(), before)?;
                }
            }
            // What the page puts into /tmp lies in the run's own directory.
            let own = format!("{}/", dir.display());
            let mut command = step.command.replace("/tmp/", &own);
            if let Some(command) = command.strip_suffix(" &") {
                let mut process = shell(&run, command).spawn();
                id = id_of(&mut process)?;
                behind.push(process);
                continue;
            }
            for word in step.command.split(' ').filter(|word| is_id(word)) {
                command = command.replace(word, &id);
            }
            let seen = show(shell(&run, &command).spawn(), step, &own)?;
            let (expected, seen) = (plain(&step.output, step), plain(&seen, step));
            same(
                &expected,
                &seen,
                &format!("{file}:{}: {}", step.line, step.command),
            )?;
        }
        for process in behind {
            process.signal(libc::SIGTERM);
            process.end()?;
        }
        Ok(())
    })
}

/// The run of a launcher that stays, once something is bound in it.
fn id_of(launcher: &mut Process) -> Result<String, String> {
    let parent = |pid: i64| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("PPid:"));
        line.and_then(|pid| pid.trim().parse::<u32>().ok())
    };
    until("the run is listed", || {
        let ls = Run::new(&stage().launcher).args(["ls", "--json"]).user(0);
        let said = ls.spawn().wait().stdout;
        let runs = said
            .lines()
            .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        runs.into_iter().find_map(|run| {
            let is_it = parent(run["pid"].as_i64()?) == Some(launcher.pid());
            let is_bound = run["sockets"].as_array().is_some_and(|all| !all.is_empty());
            (is_it && is_bound).then(|| run["run"].as_str().unwrap_or_default().to_owned())
        })
    })
}

/// Does the command start what a container's filter forbids?
fn needs_namespace(step: &Step) -> bool {
    step.command.contains(" --isolate=sealed ")
}

/// Is the word the id of a run?
fn is_id(word: &str) -> bool {
    word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit())
}

/// A line of `bindgate ls` without ids, times, process numbers and widths.
fn of_list(line: &str) -> String {
    let plain = |word: &str| match word {
        id if is_id(id) => "ID".to_owned(),
        n if n.len() > 2 && n.chars().all(|c| c.is_ascii_digit() || c == ':') => "N".to_owned(),
        other => other.to_owned(),
    };
    let words: Vec<_> = line.split_whitespace().map(plain).collect();
    words.join(" ")
}

/// What the transcripts take for there.
fn furnish(dir: &Path) -> Result<(), Failed> {
    std::os::unix::fs::symlink(support::sources(), dir.join("c-tests"))?;
    fs::copy(
        compile("tcp_echo_server", &[])?,
        dir.join("tcp_echo_server"),
    )?;
    // A server with the sockets of Debian's nginx.
    fs::create_dir(dir.join("bin"))?;
    fs::copy(compile("web_sockets", &[])?, dir.join("bin/nginx"))?;
    Ok(())
}

fn shell(run: &Run, command: &str) -> Run {
    let dirs = [stage().launcher.parent(), Some(&run.dir().join("bin"))]
        .map(|dir| dir.expect("a directory").display().to_string());
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dirs.join(":"));
    run.clone()
        .env("PATH", path)
        .args(["-c", &format!("exec 2>&1; exec {command}")])
}

/// What the command shows until it ends, or until all of it has been seen.
fn show(mut process: Process, step: &Step, own: &str) -> Result<Vec<String>, String> {
    let of = |stdout: String| -> Vec<String> {
        let lines = stdout.lines().map(|line| line.replace(own, "/tmp/"));
        lines.collect()
    };
    // What never shows all of it is told by what it has shown.
    let _ = until("the command ends, or shows all", || {
        let all = plain(&of(process.stdout()), step) == plain(&step.output, step);
        (process.ended() || all && !step.output.is_empty()).then_some(())
    });
    process.signal(libc::SIGTERM);
    Ok(of(process.end()?.stdout))
}

/// Without what differs from run to run: times, process numbers; and, where a
/// log comes between, the order of the lines.
fn plain(lines: &[String], step: &Step) -> String {
    let abridge = |line: String| {
        let mut all = step.output.iter().map(|short| redacted(short));
        all.find(|short| is_short_for(short, &line)).unwrap_or(line)
    };
    let is_list = step.command.starts_with("bindgate ls ");
    let redacted = |line: &String| match is_list {
        true => of_list(line),
        false => redacted(line),
    };
    let lines = lines.iter().map(|line| abridge(redacted(line)));
    let mut lines: Vec<String> = lines.collect();
    if step.command.contains(" run ") {
        let all: BTreeSet<String> = lines.drain(..).collect();
        lines.extend(all);
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// Does the line of a transcript have `…` in place of what this one says?
fn is_short_for(short: &str, line: &str) -> bool {
    short.split_once('…').is_some_and(|(head, tail)| {
        let rest = line.strip_prefix(head);
        rest.is_some_and(|rest| rest.ends_with(tail))
    })
}

/// Whichever block a run has got.
fn without_block(word: &str) -> String {
    let (ip, port) = word.split_once(':').unwrap_or((word, ""));
    match ip.parse::<Ipv4Addr>().map(|ip| ip.octets()) {
        Ok([127, second, _, last]) if second > 1 => format!("BLOCK.{last}:{port}"),
        _ => word.to_owned(),
    }
}

fn redacted(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(without_block).collect();
    if let Some(time) = words.first_mut()
        && time.len() == "00:00:00.000".len()
        && time.chars().all(|c| c.is_ascii_digit() || ":.".contains(c))
    {
        *time = "TIME".into();
        if let Some(program) = words.get_mut(1)
            && let Some((name, _)) = program.split_once('[')
        {
            *program = format!("{name}[PID]");
        }
    }
    words.join(" ")
}
