//! Policies as the launcher and the library take them.

use std::fs;

use libtest_mimic::{Failed, Trial};

use support::{Outcome, Run, Way, compile, same, stage};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("broken rules: nothing runs", broken_rules),
        Trial::test("broken policy file: nothing runs", broken_file),
        Trial::test(
            "broken rules in the environment: nothing runs",
            broken_environment,
        ),
        Trial::test("policy files and rules in their order", order),
        Trial::test("policy check: programs that are symbolic links", links),
        Trial::test("policy check: a file that never ends", endless),
        Trial::test("policy show: no control characters", shown_safely),
        Trial::test("--unused lists the rules that never matched", unused),
        Trial::test("a run inside a run only tightens", nested),
        Trial::test("--fail-on deny", fail_on_deny),
        Trial::test("observe tells what would happen", observe),
        Trial::test("the launcher is not hooked", launcher_has_no_hooks),
    ]
}

fn nothing_ran(run: &Run, outcome: &Outcome, words: &[&str]) -> Result<(), Failed> {
    same("exit 78", &outcome.status, &outcome.seen())?;
    if run.dir().join("started").exists() || !outcome.stdout.is_empty() {
        return Err("the program was started".into());
    }
    for word in words {
        if !outcome.stderr.contains(word) {
            return Err(format!("the message does not say {word:?}:\n{}", outcome.seen()).into());
        }
    }
    Ok(())
}

fn broken_rules() -> Result<(), Failed> {
    for way in [Way::Run, Way::Exec, Way::Observe] {
        for (rule, words) in [
            ("dney bind tcp *:80", &["dney", "deny", "^"][..]),
            ("deny bnid tcp *:80", &["bnid", "bind", "^"]),
            ("deny bind tpc *:80", &["tpc", "tcp", "^"]),
            ("deny bind tcp *:80000", &["80000", "^"]),
            ("deny bind tcp *:80 with ENOSUCH", &["ENOSUCH", "^"]),
            ("move bind tcp *:60000 to *:+10000", &["^"]),
            ("move bind tcp *:80", &["^"]),
            ("hide socket tcp", &["^"]),
        ] {
            let run = Run::new("touch").arg("started").way(way).rule(rule);
            nothing_ran(&run, &run.finish(), words)?;
        }
    }
    Ok(())
}

fn broken_file() -> Result<(), Failed> {
    let run = Run::new("touch").arg("started").way(Way::Run);
    fs::write(run.dir().join("good"), "allow bind tcp *:1024-65535\n")?;
    fs::write(
        run.dir().join("bad"),
        "# a comment\nallow bind tcp *:80\n  dney bind tcp *:1\n",
    )?;
    let run = run.launcher_arg("--policy").launcher_arg("good");
    let run = run.launcher_arg("--policy").launcher_arg("bad");
    nothing_ran(&run, &run.finish(), &["bad:3:3", "dney", "deny", "^"])?;

    let run = Run::new("touch").arg("started").way(Way::Run);
    let run = run.launcher_arg("--policy").launcher_arg("missing");
    nothing_ran(&run, &run.finish(), &["missing"])
}

fn broken_environment() -> Result<(), Failed> {
    let run = Run::new("touch")
        .arg("started")
        .way(Way::Preload)
        .rule("dney bind tcp *:80");
    nothing_ran(&run, &run.finish(), &["dney", "deny", "^"])?;

    // Not text, in a file: with and without the launcher.
    let run = Run::new("touch").arg("started").way(Way::Preload);
    fs::write(run.dir().join("bytes"), b"# x\ndeny bind unix /\xff\n")?;
    let run = run.env("BINDGATE_POLICY", "bytes");
    nothing_ran(&run, &run.finish(), &["bytes:2:17: error", "UTF-8"])?;
    let run = Run::new("touch").arg("started").way(Way::Run);
    fs::write(run.dir().join("bytes"), b"# x\ndeny bind unix /\xff\n")?;
    let run = run.launcher_arg("--policy").launcher_arg("bytes");
    nothing_ran(&run, &run.finish(), &["bytes:2:17: error", "UTF-8"])?;

    // Before main, and before what comes before main.
    let run = Run::new(compile("constructor_destructor", &[])?).way(Way::Preload);
    let run = run.rule("deny bnid tcp *:80");
    let outcome = run.finish();
    same("exit 78", &outcome.status, "constructor_destructor")?;
    if outcome.stdout.contains("main") {
        return Err(format!("main was reached:\n{}", outcome.seen()).into());
    }

    let run = Run::new("touch").arg("started").way(Way::Preload);
    let run = run.env("BINDGATE_POLICY", "missing");
    nothing_ran(&run, &run.finish(), &["missing"])
}

fn links() -> Result<(), Failed> {
    let run = Run::new(&stage().launcher);
    let dir = run.dir().canonicalize()?;
    fs::write(dir.join("real-1.2"), "")?;
    std::os::unix::fs::symlink("real-1.2", dir.join("link"))?;
    let at = dir.display();
    let policy = format!(
        "deny bind tcp *:1 for link\ndeny bind tcp *:2 for {at}/link\n\
         deny bind tcp *:3 for real-1.2\ndeny bind tcp *:4 for {at}/real-1.2\n\
         deny bind tcp *:5 for {at}/l*nk\ndeny bind tcp *:6 for no-such\n"
    );
    fs::write(dir.join("policy"), policy)?;
    let run = run.env("PATH", &dir).args(["policy", "check", "policy"]);
    let seen = run.finish();
    same("exit 0", &seen.status, &seen.seen())?;
    let warned: Vec<_> = seen
        .stderr
        .lines()
        .filter(|l| l.contains("warning"))
        .collect();
    let suggested = format!("did you mean 'for {at}/real-1.2'?");
    if warned.len() != 2
        || !warned[0].starts_with("policy:1:1: warning: 'link' is a symbolic link")
        || !warned[1].starts_with("policy:2:1: warning: ")
        || !seen.stderr.contains("did you mean 'for real-1.2'?")
        || !seen.stderr.contains(&suggested)
    {
        return Err(seen.seen().into());
    }
    Ok(())
}

fn endless() -> Result<(), Failed> {
    for arguments in [
        ["policy", "check", "/dev/zero"],
        ["policy", "show", "/dev/zero"],
    ] {
        let seen = Run::new(&stage().launcher).args(arguments).finish();
        same("exit 78", &seen.status, &seen.seen())?;
        let words = "bindgate: /dev/zero: longer than 64 MiB";
        if !seen.stderr.starts_with(words) {
            return Err(seen.seen().into());
        }
    }
    Ok(())
}

fn shown_safely() -> Result<(), Failed> {
    let run = Run::new(&stage().launcher);
    let name = "p\u{1b}[31m";
    fs::write(run.dir().join(name), "deny bind unix /\u{1b}[2J\n")?;
    let seen = run.args(["policy", "show", name]).finish();
    same("exit 0", &seen.status, &seen.seen())?;
    let shown = r#"deny bind unix "/\u{1b}[2J" with EACCES"#;
    let is_safe = !seen.stdout.contains('\u{1b}') && seen.stdout.starts_with(shown);
    if !is_safe || !seen.stdout.contains(r"p\x1b[31m:1") {
        return Err(seen.seen().into());
    }
    let seen = Run::new(&stage().launcher)
        .args(["run", "--", "./no\u{1b}[31m"])
        .finish();
    same("exit 127", &seen.status, &seen.seen())?;
    same(
        "bindgate: ./no\\x1b[31m: No such file or directory\n",
        &seen.stderr,
        "the message",
    )?;
    Ok(())
}

fn unused() -> Result<(), Failed> {
    let program = compile("dup", &[])?;
    for (option, number) in [(None, 3), (Some("-q"), 3), (Some("-v"), 3)] {
        let mut run = Run::new(&program)
            .way(Way::Run)
            .rule("note bind udp *")
            .rule("allow bind tcp *:8080")
            .rule("deny bind tcp *:8080 for pyhton3")
            .launcher_arg("--unused");
        if let Some(option) = option {
            run = run.launcher_arg(option);
        }
        let seen = run.finish();
        let lines = seen.stderr.lines();
        let unused: Vec<_> = lines.filter(|l| l.contains("never matched: ")).collect();
        let said = |words: &str| unused.iter().any(|l| l.contains(words));
        if unused.len() != 2
            || !said("never matched: note bind udp *  (rule 1, -r #1:1)")
            || !said(&format!("(rule {number}, -r #{number}:1)"))
        {
            return Err(seen.seen().into());
        }
    }
    Ok(())
}

fn order() -> Result<(), Failed> {
    let program = compile("dup", &[])?;
    let verdict = |files: &[(&str, &str)], arguments: &[&str], environment: Option<&str>| {
        let mut run = Run::new(&program).way(Way::Run).logged();
        for (name, text) in files {
            fs::write(run.dir().join(name), text).unwrap();
        }
        for argument in arguments {
            run = run.launcher_arg(argument);
        }
        if let Some(rules) = environment {
            run = run.env("BINDGATE_RULES", rules);
        }
        let outcome = run.finish();
        outcome
            .stdout
            .lines()
            .next()
            .unwrap_or(&outcome.stderr)
            .to_owned()
    };
    let (allow, deny) = ("allow bind tcp *:8080", "deny bind tcp *:8080");
    let file = [("allow", allow), ("deny", deny)];
    let cases: [(&[&str], Option<&str>, &str); 7] = [
        (&["-r", allow, "-r", deny], None, "bind: ok"),
        (&["-r", deny, "-r", allow], None, "bind: EACCES"),
        (&["--policy", "allow", "-r", deny], None, "bind: ok"),
        (&["-r", deny, "--policy", "allow"], None, "bind: EACCES"),
        (
            &["--policy", "deny", "--policy", "allow"],
            None,
            "bind: EACCES",
        ),
        (&["-r", allow], Some(deny), "bind: ok"),
        (&[], Some(deny), "bind: EACCES"),
    ];
    for (arguments, environment, expected) in cases {
        let what = format!("{arguments:?} {environment:?}");
        same(expected, &verdict(&file, arguments, environment), &what)?;
    }
    Ok(())
}

fn nested() -> Result<(), Failed> {
    let program = compile("dup", &[])?;
    for (outer, inner, expected) in [
        (
            "deny bind tcp *:8080",
            "allow bind tcp *:8080",
            "bind: EACCES",
        ),
        ("allow bind udp *", "deny bind tcp *:8080", "bind: EACCES"),
    ] {
        let run = Run::new(&stage().launcher)
            .args(["run", "--log", "inner.log", "-r", inner, "--"])
            .arg(&program)
            .way(Way::Run)
            .rule(outer)
            .logged();
        let outcome = run.finish();
        let first = outcome.stdout.lines().next().unwrap_or_default();
        same(
            expected,
            first,
            &format!("{outer}, then {inner}\n{}", outcome.seen()),
        )?;
    }
    Ok(())
}

fn fail_on_deny() -> Result<(), Failed> {
    let run = || Ok::<_, String>(Run::new(compile("dup", &[])?).way(Way::Run).logged());
    let refused = run()?.rule("deny bind tcp *:8080");
    same("exit 0", &refused.finish().status, "without --fail-on")?;
    let outcome = refused
        .launcher_arg("--fail-on")
        .launcher_arg("deny")
        .finish();
    if outcome.status == "exit 0" || !outcome.stdout.contains("bind: EACCES") {
        return Err(format!("a refusal is not the exit status:\n{}", outcome.seen()).into());
    }
    let clean = run()?.rule("deny bind tcp *:8081");
    let outcome = clean
        .launcher_arg("--fail-on")
        .launcher_arg("deny")
        .finish();
    same("exit 0", &outcome.status, "nothing was refused")?;
    Ok(())
}

fn observe() -> Result<(), Failed> {
    let run = Run::new(compile("dup", &[])?)
        .way(Way::Observe)
        .logged()
        .launcher_arg("--wait");
    let outcome = run.rule("deny bind tcp *:8080").finish();
    same("exit 0", &outcome.status, "status")?;
    let records = outcome.records();
    if !outcome.stdout.starts_with("bind: ok\n") {
        return Err(format!("observing changed something:\n{}", outcome.seen()).into());
    }
    if records.iter().filter(|r| r.is("bind", "deny")).count() != 1 {
        return Err(format!("what would happen is not in the log: {records:?}").into());
    }
    Ok(())
}

/// Whoever links the hooks is hooked without a preload: the launcher must not.
fn launcher_has_no_hooks() -> Result<(), Failed> {
    let names = |file: &std::path::Path, dynamic: bool| {
        let mut nm = std::process::Command::new("nm");
        nm.arg("--defined-only")
            .args(dynamic.then_some("-D"))
            .arg(file);
        let output = nm.output().map_err(|e| format!("nm: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok::<Vec<String>, String>(
            text.lines()
                .filter_map(|l| l.split(' ').next_back())
                .map(str::to_owned)
                .collect(),
        )
    };
    let hooks = [
        "bind", "socket", "listen", "connect", "close", "dup", "execve", "syscall",
    ];
    let library = names(&stage().library, true)?;
    for hook in hooks {
        let defined = |names: &[String]| names.iter().any(|n| n == hook);
        if !defined(&library) {
            return Err(format!("the library does not define {hook}").into());
        }
        if defined(&names(&stage().launcher, false)?) || defined(&names(&stage().launcher, true)?) {
            return Err(format!("the launcher defines {hook}").into());
        }
    }
    Ok(())
}
