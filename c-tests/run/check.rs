//! `bindgate check`: what a program is expected to do, and whether it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use support::{Outcome, Run, Way, compile_as, in_net, is_ci, same, sources, stage, until, users};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("check: a server with four bugs, and one without", example),
        Trial::test("check: what is seen of each line", lines),
        Trial::test("check: failures of its own", own_failures),
        Trial::test("check: what cannot be intercepted", unseen),
        Trial::test("check: a log that is lost", lost),
        Trial::test("check: until it ends, or the time is up", ends),
        Trial::test("check: nothing of the run is left", nothing_left),
        Trial::test("check: told to end", told),
        Trial::test("check: killed, and its program ends", killed),
        Trial::test("check: programs that are executed", executed),
        Trial::test("check: several hosts and days", hosts),
        Trial::test("run: failures that come later, or again and again", later),
        Trial::test("check: reports, read by others", reports),
        Trial::test("check: annotations and a summary for GitHub", github),
        Trial::test("check: the program finds signals as they were", signals),
        Trial::test(
            "run: expectations are said to be none of its business",
            hint,
        ),
    ]
}

fn examples() -> PathBuf {
    sources().join("../examples/check")
}

/// The server of the examples, with its bugs or without.
fn server(dir: &Path, is_fixed: bool) -> Result<PathBuf, Failed> {
    let to = dir.join(if is_fixed { "fixed" } else { "server" });
    let mut cc = Command::new("cc");
    cc.arg("-o").arg(&to).arg(examples().join("server.c"));
    if is_fixed {
        cc.arg("-DFIXED");
    }
    let built = cc.output()?;
    match built.status.success() {
        true => Ok(to),
        false => Err(String::from_utf8_lossy(&built.stderr).into_owned().into()),
    }
}

/// `bindgate check` with a report in JSON, in a directory of its own.
struct Check {
    run: Run,
    report: PathBuf,
}

impl Check {
    fn new(user: u32) -> Check {
        let run = Run::new(&stage().launcher).user(user).arg("check");
        let report = run.dir().join("report.json");
        let mut wanted = std::ffi::OsString::from("--report=json=");
        wanted.push(&report);
        Check {
            run: run.args(["--report", "text"]).arg(wanted),
            report,
        }
    }

    fn args(mut self, args: &[&str]) -> Check {
        self.run = self.run.args(args);
        self
    }

    fn python(self, script: &str) -> Check {
        self.args(&["--", "python3", "-c", script])
    }

    fn end(self) -> Result<(Outcome, Value), Failed> {
        let seen = self.run.spawn().wait();
        let text = fs::read_to_string(&self.report).map_err(|e| format!("{e}\n{}", seen.seen()))?;
        Ok((seen, serde_json::from_str(&text)?))
    }
}

/// `held`, `missing` or `wrong`, of each line.
fn outcomes(report: &Value) -> String {
    let rows = report["expectations"].as_array().into_iter().flatten();
    let words: Vec<_> = rows.filter_map(|row| row["outcome"].as_str()).collect();
    words.join(" ")
}

fn example() -> Result<(), Failed> {
    for user in users() {
        in_net(|| {
            for (is_fixed, policy, expected, status) in [
                (
                    false,
                    "server.policy",
                    "held wrong wrong wrong held",
                    "exit 1",
                ),
                (true, "server.policy", "held held held held held", "exit 0"),
                (false, "busy.policy", "wrong wrong", "exit 1"),
                (true, "busy.policy", "held held", "exit 0"),
            ] {
                let check = Check::new(user);
                let program = server(check.run.dir(), is_fixed)?;
                let policy = examples().join(policy);
                let check = check.args(&["--policy", policy.to_str().unwrap(), "--timeout", "60s"]);
                let check = check.args(&["--", program.to_str().unwrap(), "8080"]);
                let (seen, report) = check.end()?;
                same(expected, &outcomes(&report), &seen.seen())?;
                same(status, &seen.status, &seen.seen())?;
            }
            Ok::<(), Failed>(())
        })?;
    }
    Ok(())
}

const SERVER: &str = "import signal, socket, sys, time\n\
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n\
    s = socket.socket()\n";

/// Each line beside what the report says of it.
fn lines() -> Result<(), Failed> {
    let listens = "s.bind(('127.0.0.1', 8080)); s.listen()\nsignal.sigwait([signal.SIGTERM])";
    let here = "s.bind(('127.0.0.1', 8080)); s.listen()";
    let rows: &[(&str, &str, &str, &str)] = &[
        ("listen tcp 127.0.0.1:8080", listens, "held", "after "),
        (
            "listen tcp loopback:8080 within 60s",
            listens,
            "held",
            "after ",
        ),
        (
            "listen tcp [::1]:8080",
            here,
            "wrong",
            "a listen at another address instead",
        ),
        (
            "listen tcp *:8081",
            here,
            "missing",
            "never got there: no such listen before it ended with 0; the nearest one is",
        ),
        (
            "listen tcp *:8080",
            "sys.exit(3)",
            "missing",
            "never got there: no such listen before it ended with 3",
        ),
        (
            "listen tcp *:8080",
            "s.bind(('127.0.0.1', 8080))",
            "wrong",
            "bound there, but no listen before it ended with 0",
        ),
        (
            "forbid bind any 127.0.0.0/8:*",
            here,
            "wrong",
            "a forbidden bind",
        ),
        ("forbid socket udp", here, "held", "nothing of the kind"),
        ("forbid socket tcp", here, "wrong", "a forbidden socket"),
        (
            "option reuseaddr on tcp *:8080 before bind",
            listens,
            "wrong",
            "bound without the option",
        ),
        (
            "forbid option reuseaddr on tcp *:*",
            here,
            "held",
            "nothing of the kind",
        ),
        (
            "retry bind tcp *:8080 after EADDRINUSE",
            "s.bind(('127.0.0.1', 8080))",
            "missing",
            "never got there: no bind failed so",
        ),
        ("exit 7", "sys.exit(7)", "held", "the program ended with 7"),
        ("exit 0", "sys.exit(7)", "wrong", "the program ended with 7"),
        (
            "exit SIGKILL",
            "import os; os.kill(os.getpid(), 9)",
            "held",
            "SIGKILL ended the program",
        ),
        (
            "no listener at exit",
            "s.bind(('', 8080)); s.listen()",
            "held",
            "none; ",
        ),
        (
            "connect tcp 127.0.0.1:9",
            "s.connect_ex(('127.0.0.1', 9))",
            "wrong",
            "it failed, and did not succeed before it ended with 0",
        ),
        (
            "listen tcp *:* within 10ms",
            "time.sleep(0.3); s.listen(); time.sleep(60)",
            "missing",
            "never got there: no such listen within",
        ),
    ];
    in_net(|| {
        for (line, script, outcome, text) in rows {
            let check = Check::new(0).args(&["-e", line, "--timeout", "60s"]);
            let (seen, report) = check.python(&format!("{SERVER}{script}")).end()?;
            let row = &report["expectations"][0];
            let told = row["seen"].as_str().unwrap_or_default();
            if row["outcome"] != *outcome || !told.starts_with(text) {
                return Err(format!("{line}: {outcome}, {text}\n{}", seen.seen()).into());
            }
            let status = if *outcome == "held" {
                "exit 0"
            } else {
                "exit 1"
            };
            same(status, &seen.status, &seen.seen())?;
        }
        Ok(())
    })
}

fn own_failures() -> Result<(), Failed> {
    let policy = support::work_dir().join("broken.policy");
    fs::write(&policy, "expect lisen tcp *:80\n")?;
    let policy = policy.to_str().unwrap();
    for (args, expected) in [
        (
            &["--policy", policy, "--", "true"][..],
            "broken.policy:1:8: error: unknown expectation 'lisen'",
        ),
        (
            &["-e", "listen tpc *:80", "--", "true"],
            "did you mean 'tcp'?",
        ),
        (
            &["-e", "exit 0", "--", "./not-there"],
            "not-there: No such file",
        ),
        (&["-e", "exit 0", "--", "/etc/passwd"], "Permission denied"),
        (&["--", "true"], "nothing is expected of the program"),
        (
            &["-e", "exit 0", "--only", "2", "--", "true"],
            "there are 1 expectations",
        ),
        (
            &["-e", "exit 0", "--with=--isolat", "--", "true"],
            "unexpected argument",
        ),
        (
            &["-e", "exit 0", "--report", "xml", "--", "true"],
            "expected one of text, junit",
        ),
        (
            &["-e", "exit 0", "--report", "tap=", "--", "true"],
            "expected a file",
        ),
        (&["-e", "exit 0"], "<PROGRAM>"),
        (
            &["-e", "exit 0", "--report", "tap=/not/there", "--", "true"],
            "/not/there: No such file",
        ),
    ] {
        let run = Run::new(&stage().launcher).arg("check").args(args);
        let seen = run.spawn().wait();
        if !seen.stderr.contains(expected) || seen.status != "exit 2" {
            return Err(format!("{args:?}: {expected}\n{}", seen.seen()).into());
        }
    }
    Ok(())
}

fn unseen() -> Result<(), Failed> {
    let program = compile_as("unseen_static", "static", &["-static"])?;
    let program = program.to_str().unwrap();
    let (seen, report) = Check::new(0).args(&["-e", "exit 0", "--", program]).end()?;
    same("exit 1", &seen.status, &seen.seen())?;
    same(
        "the program was not started",
        report["ended"].as_str().unwrap_or_default(),
        "the program itself",
    )?;
    let script = format!("{program}; exit 0");
    let check = Check::new(0).args(&["-e", "exit 0", "--", "sh", "-c", &script]);
    let (seen, report) = check.end()?;
    same("exit 1", &seen.status, &seen.seen())?;
    let problem = report["problems"][0].as_str().unwrap_or_default();
    if !problem.ends_with("cannot be intercepted (static): what it binds is not seen") {
        return Err(seen.seen().into());
    }
    // The policy knows of it.
    let rule = format!("allow exec {program}");
    let check = Check::new(0).args(&["-r", &rule, "-e", "exit 0", "--", "sh", "-c", &script]);
    Ok(same("exit 0", &check.end()?.0.status, "allowed")?)
}

fn lost() -> Result<(), Failed> {
    let script = "import os\nos.kill(int(os.environ['BINDGATE_RUN'].split('.')[2]), 9)\n";
    let (seen, report) = Check::new(0).args(&["-e", "exit 0"]).python(script).end()?;
    same("exit 1", &seen.status, &seen.seen())?;
    Ok(same(
        "the log ended before the run did: its process was killed",
        report["problems"][0].as_str().unwrap_or_default(),
        &seen.seen(),
    )?)
}

fn ends() -> Result<(), Failed> {
    let ended = |args: &[&str], script: &str| -> Result<(String, String), Failed> {
        let (seen, report) = Check::new(0).args(args).python(script).end()?;
        let ended = report["ended"].as_str().unwrap_or_default().to_owned();
        Ok((ended, seen.status))
    };
    let check = |args: &[&str], script: &str, text: &str, status: &str| -> Result<(), Failed> {
        let script = format!("{SERVER}{script}");
        let (how, with) = ended(args, &script)?;
        Ok(same(
            &format!("{text} {status}"),
            &format!("{how} {with}"),
            &script,
        )?)
    };
    in_net(|| {
        let listen = ["-e", "listen tcp *:*"];
        let waits = "s.listen()\nsignal.sigwait([signal.SIGTERM])";
        let told = "the program ended with 0, told to end";
        check(&listen, waits, told, "exit 0")?;
        check(
            &[&listen[..], &["--until", "exit"]].concat(),
            "s.listen()",
            "the program ended with 0",
            "exit 0",
        )?;
        check(
            &["-e", "exit 0", "--timeout", "300ms"],
            "signal.sigwait([signal.SIGTERM])",
            told,
            "exit 0",
        )?;
        check(
            &[&listen[..], &["--grace", "200ms"]].concat(),
            "s.listen()\nsignal.sigwait([signal.SIGUSR1])",
            "SIGKILL ended the program: it went on after SIGTERM",
            "exit 0",
        )?;
        check(
            &[&listen[..], &["--timeout", "300ms"]].concat(),
            "signal.sigwait([signal.SIGTERM])",
            told,
            "exit 1",
        )
    })
}

/// A program's children that have left its session, too.
fn nothing_left() -> Result<(), Failed> {
    for user in users() {
        in_net(|| {
            let script = format!(
                "{SERVER}import os\n\
                 if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        \
                 os.closerange(0, 3)\n        open('pid', 'w').write(str(os.getpid()))\n        \
                 os.environ.clear()\n        signal.sigwait([signal.SIGUSR1])\n    os._exit(0)\n\
                 while not os.path.exists('pid') or not open('pid').read(): time.sleep(0.01)\n\
                 s.listen()\nsignal.sigwait([signal.SIGTERM])\n"
            );
            let check = Check::new(user).args(&["-e", "listen tcp *:*", "--grace", "300ms"]);
            let dir = check.run.dir().to_owned();
            let (seen, _) = check.python(&script).end()?;
            same("exit 0", &seen.status, &seen.seen())?;
            let pid = fs::read_to_string(dir.join("pid"))?;
            until("the daemonised child has ended", || {
                let status = fs::read_to_string(format!("/proc/{pid}/status"));
                let lives = status.is_ok_and(|s| !s.contains("State:\tZ"));
                (!lives).then_some(())
            })?;
            Ok::<(), Failed>(())
        })?;
    }
    Ok(())
}

fn told() -> Result<(), Failed> {
    let script = format!("{SERVER}open('here', 'w')\nsignal.sigwait([signal.SIGTERM])\n");
    // In the background of a shell SIGINT is ignored, and stays so.
    let status = fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let is_heard = |number: &i32| ignored.unwrap_or(0) >> (number - 1) & 1 == 0;
    for number in [libc::SIGTERM, libc::SIGINT].into_iter().filter(is_heard) {
        let check = Check::new(0).args(&["-e", "exit 0"]).python(&script);
        let here = check.run.dir().join("here");
        let process = check.run.spawn();
        until("the program runs", || here.exists().then_some(()))?;
        process.signal(number);
        let seen = process.wait();
        if seen.status != "exit 1" || !seen.stdout.contains("FAIL the check was told to end") {
            return Err(seen.seen().into());
        }
    }
    Ok(())
}

/// The check itself is killed.
fn killed() -> Result<(), Failed> {
    let script = format!(
        "{SERVER}import os\nopen('here', 'w').write(str(os.getpid()))\n\
         signal.sigwait([signal.SIGTERM])\n"
    );
    let check = Check::new(0).args(&["-e", "exit 0"]).python(&script);
    let here = check.run.dir().join("here");
    let process = check.run.spawn();
    let pid = until("the program runs", || {
        fs::read_to_string(&here).ok().filter(|pid| !pid.is_empty())
    })?;
    process.signal(libc::SIGKILL);
    process.wait();
    until("the program has ended, too", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        let lives = status.is_ok_and(|s| !s.contains("State:\tZ"));
        (!lives).then_some(())
    })?;
    Ok(())
}

fn executed() -> Result<(), Failed> {
    for (line, outcome) in [
        ("forbid exec true", "wrong"),
        ("forbid exec false", "held"),
        ("expect exec true for *sh", "held"),
        ("expect exec false", "missing"),
    ] {
        let check = Check::new(0).args(&["-e", line, "--", "sh", "-c", "/bin/true; :"]);
        let (seen, report) = check.end()?;
        same(
            outcome,
            &outcomes(&report),
            &format!("{line}\n{}", seen.seen()),
        )?;
    }
    Ok(())
}

/// A check with one line of each outcome, and a problem.
fn mixed(formats: &[String]) -> Result<(Outcome, PathBuf), Failed> {
    let program = compile_as("unseen_static", "static", &["-static"])?;
    let run = Run::new(&stage().launcher).arg("check");
    let dir = run.dir().to_owned();
    let policy = dir.join("a b.policy");
    fs::write(
        &policy,
        "# <&> | # %\nexpect exit 0\nexpect listen unix \"/run/<&>|#%`\"\n  forbid socket tcp\n",
    )?;
    let run = run.arg("--policy").arg(policy).args(formats);
    let script = format!(
        "import os, socket\nsocket.socket()\nos.system('{} >&2')\n",
        program.display()
    );
    let run = run.args(["--", "python3", "-c", &script]);
    let seen = run
        .env("GITHUB_STEP_SUMMARY", dir.join("summary"))
        .spawn()
        .wait();
    same("exit 1", &seen.status, &seen.seen())?;
    Ok((seen, dir))
}

fn reports() -> Result<(), Failed> {
    let formats = [
        "junit=j.xml",
        "sarif=s.json",
        "tap=t.tap",
        "json=c.json",
        "markdown=m.md",
    ];
    let formats: Vec<_> = formats.iter().map(|f| format!("--report={f}")).collect();
    let (seen, dir) = mixed(&formats)?;
    same("", &seen.stdout, "standard output")?;
    let report: Value = serde_json::from_str(&fs::read_to_string(dir.join("c.json"))?)?;
    same("held missing wrong", &outcomes(&report), "json")?;
    same("false", &report["holds"].to_string(), "json")?;
    same("3", &report["expectations"][1]["line"].to_string(), "json")?;
    same(
        "3",
        &report["expectations"][2]["column"].to_string(),
        "json",
    )?;
    let markdown = fs::read_to_string(dir.join("m.md"))?;
    // A bar that is not escaped is one more cell.
    let cells = |line: &str| line.replace("\\|", "").matches('|').count();
    if markdown
        .lines()
        .any(|line| line.starts_with('|') && cells(line) != 4)
    {
        return Err(markdown.into());
    }
    let python = sources().join("../target/reports/bin/python");
    let python = if python.exists() {
        python
    } else {
        "python3".into()
    };
    for (kind, file, modules, expected) in [
        ("junit", "j.xml", "junitparser", "3 2 1\n"),
        ("tap", "t.tap", "tap.parser, yaml", "4 3\n"),
        ("sarif", "s.json", "sarif.loader", "3 2\n"),
    ] {
        let has = Command::new(&python)
            .args(["-c", &format!("import {modules}")])
            .output()?;
        if !has.status.success() {
            if is_ci() {
                return Err(format!("{modules} is not installed: .ci/run does it").into());
            }
            eprintln!("{modules} is not installed: {kind} is not read");
            continue;
        }
        let script = sources().join("run/reports.py");
        let read = Command::new(&python)
            .arg(script)
            .arg(kind)
            .arg(dir.join(file))
            .output()?;
        let said = String::from_utf8_lossy(&read.stdout).into_owned();
        let why = String::from_utf8_lossy(&read.stderr).into_owned();
        same(
            expected,
            &said,
            &format!("{kind}\n{why}\n{}", fs::read_to_string(dir.join(file))?),
        )?;
    }
    Ok(())
}

/// The lines that GitHub's runner reads, taken apart as its `ActionCommand` does.
fn github() -> Result<(), Failed> {
    let (seen, dir) = mixed(&["--report=github".into()])?;
    let mut titles = Vec::new();
    for line in seen.stdout.lines() {
        let (head, _) = line
            .strip_prefix("::error ")
            .and_then(|rest| rest.split_once("::"))
            .ok_or_else(|| seen.seen())?;
        let decoded = |text: &str| {
            let text = text.replace("%3A", ":").replace("%2C", ",");
            text.replace("%0A", "\n").replace("%25", "%")
        };
        let properties: Vec<_> = head.split(',').map(|p| p.split_once('=')).collect();
        for property in properties {
            let (name, value) = property.ok_or_else(|| seen.seen())?;
            if name == "title" {
                titles.push(decoded(value));
            }
        }
    }
    same(
        "expect listen unix \"/run/<&>|#%`\"; forbid socket tcp; bindgate check",
        &titles.join("; "),
        &seen.seen(),
    )
    .or_else(|_| {
        same(
            "expect listen unix /run/<&>|#%`; forbid socket tcp; bindgate check",
            &titles.join("; "),
            &seen.seen(),
        )
    })?;
    let summary = fs::read_to_string(dir.join("summary"))?;
    match summary.starts_with("### bindgate check: 3 expectations, 2 not met\n") {
        true => Ok(()),
        false => Err(summary.into()),
    }
}

fn hosts() -> Result<(), Failed> {
    for user in users() {
        in_net(|| {
            let check = Check::new(user);
            let program = server(check.run.dir(), true)?;
            let file = examples().join("hosts.matrix");
            let check = check.args(&["--matrix", file.to_str().unwrap(), "--timeout", "60s"]);
            let check = check.args(&["-e", "listen tcp *:8080 within 30s"]);
            let (seen, report) = check
                .args(&["--", program.to_str().unwrap(), "8080"])
                .end()?;
            let hosts = report["hosts"].as_array().into_iter().flatten();
            let told = hosts.map(|host| {
                let word = |name: &str| host[name].as_str().unwrap_or_default().to_owned();
                format!("{}: {} {}\n", word("name"), host["holds"], word("did"))
            });
            let told: String = told.collect();
            let expected = include_str!("../../examples/check/hosts.expected");
            same(expected, &told, &seen.seen())?;
            Ok::<(), Failed>(())
        })?;
    }
    let (seen, dir) = {
        let run = Run::new(&stage().launcher).args(["check", "--matrix", "m", "--", "true"]);
        let dir = run.dir().to_owned();
        fs::write(dir.join("m"), "[a]\nhost no-ipv6\n[b]\nhost no-ipv5\n")?;
        (run.spawn().wait(), dir)
    };
    drop(dir);
    match seen.stderr.contains("m:4:6: error: unknown") && seen.status == "exit 2" {
        true => Ok(()),
        false => Err(seen.seen().into()),
    }
}

/// `times`, `after` and `every` count the binds of all processes of a run.
fn later() -> Result<(), Failed> {
    let script = "import os, socket\n\
        for n in range(6):\n    \
        if os.fork() == 0:\n        \
        s = socket.socket()\n        \
        try: s.bind(('127.0.0.1', 0)); print('ok', end=' ', flush=True)\n        \
        except OSError as e: print(e.errno, end=' ', flush=True)\n        \
        os._exit(0)\n    \
        os.wait()\n";
    for user in users() {
        for (rule, expected) in [
            ("times 2", "98 98 ok ok ok ok "),
            ("after 2", "ok ok 98 98 98 98 "),
            ("every 3", "ok ok 98 ok ok 98 "),
            ("every 1", "98 98 98 98 98 98 "),
        ] {
            let run = Run::new("python3")
                .arg("-c")
                .arg(script)
                .way(Way::Run)
                .user(user);
            let run = run.launcher_arg("-q");
            let run = run.rule(&format!("deny bind tcp *:* with EADDRINUSE {rule}"));
            same(expected, &run.spawn().wait().stdout, rule)?;
        }
    }
    // What `explain` says is the first call of a run.
    for (rule, expected) in [("after 1", "allow"), ("every 1", "deny")] {
        let rule = format!("deny bind tcp *:8077 {rule}");
        let words = ["explain", "-r", &rule, "bind", "tcp", "127.0.0.1:8077"];
        let seen = Run::new(&stage().launcher).args(words).spawn().wait();
        if seen.stdout.contains("EACCES") != (expected == "deny") {
            return Err(format!("{rule}\n{}", seen.seen()).into());
        }
    }
    Ok(())
}

fn signals() -> Result<(), Failed> {
    let script = "import signal\n\
        print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))\n\
        print([signal.getsignal(n) for n in (1, 15, 29)])\n";
    let plain = Run::new("python3").args(["-c", script]).spawn().wait();
    let run = Run::new(&stage().launcher).args(["check", "-e", "exit 0", "--report", "tap=tap"]);
    let checked = run.args(["--", "python3", "-c", script]).spawn().wait();
    Ok(same(&plain.seen(), &checked.seen(), "signals")?)
}

fn hint() -> Result<(), Failed> {
    let run = Run::new("true").way(Way::Run).rule("expect exit 1");
    let seen = run.rule("forbid socket raw").spawn().wait();
    Ok(same(
        "stderr| bindgate: hint: 2 `expect` and `forbid` lines are for `bindgate check`, and \
         change nothing here\nexit 0\n",
        &seen.seen(),
        "the hint",
    )?)
}
