//! `bindgate learn` and `bindgate policy diff`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use support::{Outcome, Run, Way, helper, in_net, same, stage, users, work_dir};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("learn: what was not learned is refused", deviations),
        Trial::test("learn: servers of both families", both_families),
        Trial::test("learn: what is there stays", merged),
        Trial::test("learn: a rule that moves stays", moved),
        Trial::test("learn: several logs", logs),
        Trial::test("learn: a program that cannot be intercepted", unseen),
        Trial::test(
            "learn: a signal ends the program, and the policy is there",
            signalled,
        ),
        Trial::test("learn: where nothing ran nothing is written", nothing),
        Trial::test("learn: two at once", two),
        Trial::test("learn: to standard output", standard),
        Trial::test("policy diff: the status of diff(1)", diff),
    ]
}

/// A program in Python: the text after `import`s, and `bind`.
fn python(text: &str) -> Run {
    let start = "
import errno, os, socket, subprocess, sys
def bind(address, port, family=socket.AF_INET, kind=socket.SOCK_STREAM, v6only=None):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if v6only is not None:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    try:
        s.bind((address, port))
        if kind == socket.SOCK_STREAM:
            s.listen()
        print('ok')
    except OSError as e:
        print(errno.errorcode[e.errno])
    sys.stdout.flush()
    return s
";
    Run::new("python3").arg("-c").arg(start.to_owned() + text)
}

/// The program under a policy file.
fn under(program: &Run, policy: &Path) -> Outcome {
    let run = program.clone().way(Way::Run).launcher_arg("--policy");
    run.launcher_arg(policy).launcher_arg("-q").finish()
}

fn learned(program: &Run) -> Result<(std::path::PathBuf, String), Failed> {
    let outcome = program.learning("learned").finish();
    let path = program.dir().join("learned");
    let text = fs::read_to_string(&path);
    let text = text.map_err(|e| format!("{e}\n{}", outcome.seen()))?;
    Ok((path, text))
}

fn deviations() -> Result<(), Failed> {
    for user in users() {
        let learn = python("bind('127.0.0.1', 8080)").user(user);
        let (policy, text) = learned(&learn)?;
        for (what, program, expected) in [
            ("the same", "bind('127.0.0.1', 8080)", "ok\n"),
            ("another port", "bind('127.0.0.1', 8081)", "EACCES\n"),
            ("the wildcard", "bind('0.0.0.0', 8080)", "EACCES\n"),
            (
                "UDP",
                "bind('127.0.0.1', 8080, kind=socket.SOCK_DGRAM)",
                "EACCES\n",
            ),
            (
                "a child that is another program",
                "subprocess.run(['perl', '-MSocket', '-MErrno', '-e', '''
                    socket(S, PF_INET, SOCK_STREAM, 0);
                    print(bind(S, sockaddr_in(8080, inet_aton(\"127.0.0.1\"))) ? \"ok\\n\"
                        : $!{EACCES} ? \"EACCES\\n\" : \"$!\\n\")'''])",
                "EACCES\n",
            ),
            (
                "a bind later on",
                "bind('127.0.0.1', 8080).close(); bind('127.0.0.1', 8082)",
                "ok\nEACCES\n",
            ),
            (
                "the other family",
                "bind('::1', 8080, socket.AF_INET6)",
                "EACCES\n",
            ),
        ] {
            let outcome = under(&python(program).user(user), &policy);
            same(
                expected,
                &outcome.stdout,
                &format!("{what}\n{text}\n{}", outcome.seen()),
            )?;
        }
    }
    Ok(())
}

fn both_families() -> Result<(), Failed> {
    let six = "socket.AF_INET6";
    let dual = format!("a = bind('::', 8080, {six}, v6only=0)");
    let two = format!("a = bind('::', 8080, {six}, v6only=1); b = bind('0.0.0.0', 8080)");
    let one = format!("a = bind('::', 8080, {six}, v6only=1)");
    for (program, others) in [
        (&dual, vec![("bind('0.0.0.0', 8080)", "EACCES\n")]),
        (&two, vec![(dual.as_str(), "EACCES\n")]),
        (
            &one,
            vec![
                (dual.as_str(), "EACCES\n"),
                ("bind('0.0.0.0', 8080)", "EACCES\n"),
            ],
        ),
    ] {
        let run = python(program);
        let (policy, text) = learned(&run)?;
        let outcome = under(&run, &policy);
        same(
            if program == &two { "ok\nok\n" } else { "ok\n" },
            &outcome.stdout,
            &format!("{text}\n{}", outcome.seen()),
        )?;
        for (other, expected) in others {
            same(expected, &under(&python(other), &policy).stdout, &text)?;
        }
    }
    Ok(())
}

fn merged() -> Result<(), Failed> {
    let run = python("bind('127.0.0.1', 8080); bind('127.0.0.1', 8081); bind('127.0.0.1', 8082)");
    let dir = run.dir().to_owned();
    let mine = "# mine\nallow bind tcp 127.0.0.1:8081   # so\ndeny bind tcp *:8082 with EPERM\n\
                default deny for bind";
    fs::write(dir.join("mine"), mine)?;
    fs::set_permissions(dir.join("mine"), fs::Permissions::from_mode(0o640))?;
    std::os::unix::fs::symlink("mine", dir.join("link"))?;
    let run = run.user(0);
    let outcome = run.learning("link").finish();
    same("ok\nok\nEPERM\n", &outcome.stdout, &outcome.seen())?;
    let first = fs::read_to_string(dir.join("mine"))?;
    let added = first.strip_prefix(mine).ok_or(first.clone())?;
    let rules: Vec<_> = added
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect();
    if rules.len() != 1 || !rules[0].starts_with("allow bind tcp 127.0.0.1:8080 for /") {
        return Err(first.into());
    }
    if !outcome
        .stderr
        .contains("not learned, because the run refused it: deny bind tcp *:8082")
    {
        return Err(outcome.seen().into());
    }
    run.learning("link").finish();
    same(
        &first,
        &fs::read_to_string(dir.join("mine"))?,
        "learned twice",
    )?;
    let mode = fs::metadata(dir.join("mine"))?.permissions().mode() & 0o777;
    same("640", &format!("{mode:o}"), "its mode")?;
    let is_link = fs::symlink_metadata(dir.join("link"))?.is_symlink();
    let left: Vec<_> = fs::read_dir(&dir)?
        .map(|e| e.map(|e| e.file_name()))
        .collect::<Result<_, _>>()?;
    Ok(same(
        "true 2",
        &format!("{is_link} {}", left.len()),
        &format!("{left:?}"),
    )?)
}

fn moved() -> Result<(), Failed> {
    let run = python("s = bind('0.0.0.0', 80); print(s.getsockname()[1])");
    let rule = "move bind tcp *:80 to loopback:8080";
    let run = run.launcher_arg("-r").launcher_arg(rule);
    let (policy, text) = learned(&run)?;
    if text.lines().filter(|line| line.starts_with(rule)).count() != 1 {
        return Err(text.into());
    }
    let again = python("s = bind('0.0.0.0', 80); print(s.getsockname()[1])");
    Ok(same("ok\n80\n", &under(&again, &policy).stdout, &text)?)
}

fn logs() -> Result<(), Failed> {
    let dir = work_dir();
    for port in [8080, 8081] {
        let run = python(&format!("bind('127.0.0.1', {port})")).way(Way::Run);
        let run = run.rule("note listen any").logged();
        run.finish().log()?;
        fs::copy(run.dir().join("log.jsonl"), dir.join(port.to_string()))?;
    }
    let learn = Run::new(&stage().launcher).in_dir(&dir);
    let learn = learn.args(["learn", "--from", "8080", "8081", "-o", "both"]);
    let outcome = learn.finish();
    same("exit 0", &outcome.status, &outcome.seen())?;
    let text = fs::read_to_string(dir.join("both"))?;
    let program =
        python("bind('127.0.0.1', 8080); bind('127.0.0.1', 8081); bind('127.0.0.1', 8082)");
    let under = under(&program, &dir.join("both"));
    same("ok\nok\nEACCES\n", &under.stdout, &text)?;
    learn.finish();
    same(
        &text,
        &fs::read_to_string(dir.join("both"))?,
        "learned twice",
    )?;
    let broken = Run::new(&stage().launcher)
        .args(["learn", "--from", "/etc/passwd"])
        .finish();
    if broken.status != "exit 73" || !broken.stderr.contains("/etc/passwd: line 1 is not a line") {
        return Err(broken.seen().into());
    }
    Ok(())
}

fn unseen() -> Result<(), Failed> {
    // It is linked statically, and says how it is used.
    let below = helper("below")?;
    let run = Run::new("sh").args(["-c", &format!("{} 2>&1; true", below.display())]);
    let outcome = run.learning("learned").finish();
    let policy = run.dir().join("learned");
    let text = fs::read_to_string(&policy)?;
    let file = below.canonicalize()?;
    let said = format!("Not seen: what {} did", file.display());
    if !text.contains(&format!("# {said}")) || !outcome.stderr.contains(&said) {
        return Err(format!("{text}\n{}", outcome.seen()).into());
    }
    let plain = run.finish().stdout;
    Ok(same(&plain, &under(&run, &policy).stdout, &text)?)
}

fn signalled() -> Result<(), Failed> {
    in_net(|| {
        let run = python("bind('127.0.0.1', 8080); import time\nwhile True: time.sleep(1)");
        let mut process = run.learning("learned").spawn();
        process.says("ok")?;
        process.signal(libc::SIGTERM);
        let outcome = process.wait();
        same("signal 15", &outcome.status, &outcome.seen())?;
        let text = fs::read_to_string(run.dir().join("learned")).map_err(|e| e.to_string())?;
        match text.contains("allow bind tcp 127.0.0.1:8080") {
            true => Ok(()),
            false => Err(text),
        }
    })
    .map_err(Into::into)
}

fn nothing() -> Result<(), Failed> {
    let run = Run::new("/no/such/program");
    let outcome = run.learning("learned").finish();
    let is_there = run.dir().join("learned").exists();
    same(
        "exit 127 false",
        &format!("{} {is_there}", outcome.status),
        &outcome.seen(),
    )?;
    let run = Run::new("touch").arg("started");
    fs::write(run.dir().join("broken"), "alow bind tcp *:80\n")?;
    let outcome = run.learning("broken").finish();
    let is_there = run.dir().join("started").exists();
    same(
        "exit 78 false",
        &format!("{} {is_there}", outcome.status),
        &outcome.seen(),
    )?;
    let run = Run::new("touch").arg("started");
    let outcome = run.learning("no/such/directory").finish();
    let is_there = run.dir().join("started").exists();
    Ok(same(
        "exit 73 false",
        &format!("{} {is_there}", outcome.status),
        &outcome.seen(),
    )?)
}

fn two() -> Result<(), Failed> {
    let dir = work_dir();
    let runs = [8080, 8081, 8082].map(|port| {
        python(&format!("bind('127.0.0.1', {port})"))
            .in_dir(&dir)
            .learning("all")
    });
    in_net(|| {
        let all: Vec<_> = runs.iter().map(Run::spawn).collect();
        all.into_iter().for_each(|process| drop(process.wait()));
    });
    let text = fs::read_to_string(dir.join("all"))?;
    for port in [8080, 8081, 8082] {
        if !text.contains(&format!("allow bind tcp 127.0.0.1:{port} for")) {
            return Err(text.into());
        }
    }
    Ok(same(
        "1",
        &text.matches("default deny").count().to_string(),
        &text,
    )?)
}

fn standard() -> Result<(), Failed> {
    let run = Run::new(&stage().launcher).args(["learn", "--", "sh", "-c", "exit 7"]);
    let outcome = run.finish();
    let expected = "# Learned by bindgate from: sh -c 'exit 7'\ndefault deny for bind, listen\n";
    same(expected, &outcome.stdout, &outcome.seen())?;
    Ok(same("exit 7", &outcome.status, &outcome.seen())?)
}

fn diff() -> Result<(), Failed> {
    let dir = work_dir();
    fs::write(
        dir.join("a"),
        "allow bind tcp *:80-81\ndefault deny for bind\n",
    )?;
    fs::write(
        dir.join("b"),
        "allow bind tcp *:81\nallow bind tcp *:80\ndefault deny for bind\n",
    )?;
    fs::write(
        dir.join("c"),
        "allow bind tcp *:81\ndefault deny for bind\n",
    )?;
    let ask = |a: &str, b: &str| {
        let run = Run::new(&stage().launcher).in_dir(&dir);
        run.args(["policy", "diff", a, b]).finish()
    };
    same("exit 0\n", &ask("a", "b").seen(), "the same said otherwise")?;
    let expected = "a allows, and c refuses:\n  bind tcp *:80\n    \
                    such as bind tcp-only 0.0.0.0:80 (rule 1, a:1; the default of c)\n";
    let outcome = ask("a", "c");
    same(expected, &outcome.stdout, &outcome.seen())?;
    same("exit 1", &outcome.status, &outcome.seen())?;
    let outcome = ask("a", "none");
    Ok(same("exit 2", &outcome.status, &outcome.seen())?)
}
