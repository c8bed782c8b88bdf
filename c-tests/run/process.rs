//! How it starts and how it ends.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};

use crate::NAMESPACES;
use support::{Outcome, Run, Way, compile, in_net, outside, same, stage, until};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("ends as the program ends", ends_as_the_program),
        Trial::test("a program that is not there", not_there),
        Trial::test("a script that the shell has to read", no_interpreter_line),
        Trial::test("stdin is left to the program", stdin_untouched),
        Trial::test("stdout and stderr are the program's", output_untouched),
        Trial::test("no descriptor is left over", descriptors),
        Trial::test("closed standard streams stay closed", closed_streams),
        Trial::test(
            "same process group, session and parent's signals",
            process_group,
        ),
        Trial::test(
            "a signal to the launcher alone reaches the program",
            forwarded_signal,
        ),
        Trial::test("a signal to the group comes once", group_signal),
        Trial::test("the log process ends with the run", log_process_ends),
        Trial::test("a program outlives its log process", without_log_process),
        Trial::test("doors of dead runs are removed", dead_doors),
        Trial::test("run --exec keeps the process id", listen_pid),
        Trial::test("run --exec as process 1 of a container", process_one),
        Trial::test("run as process 1 of a container", launcher_as_process_one),
        outside(Trial::test("name spaces of its own", far_away), NAMESPACES),
        outside(
            Trial::test("a process that cannot reach its run", unreachable),
            NAMESPACES,
        ),
        Trial::test("the log is reopened on SIGHUP and loses nothing", rotation),
    ]
}

/// A socket in `/tmp` that a killed run left is removed by the next; one that
/// somebody listens at stays, and so does a young one.
fn dead_doors() -> Result<(), Failed> {
    use std::os::unix::net::UnixListener;
    let id = |n: u32| format!("/tmp/.bindgate-{:08x}{n:08x}", std::process::id());
    let old = |path: &str| {
        let touched = std::process::Command::new("touch")
            .args(["-h", "-d", "2 hours ago", path])
            .status();
        touched.is_ok_and(|status| status.success())
    };
    let [dead, young, living] = [1, 2, 3].map(id);
    let listener = UnixListener::bind(&living)?;
    for path in [&dead, &young] {
        drop(UnixListener::bind(path)?);
    }
    if !old(&dead) || !old(&living) {
        return Err("touch".into());
    }
    // It goes on until that has happened.
    let wait = format!("while [ -e {dead} ]; do sleep 0.01; done");
    let outcome = shell(&wait, Way::Run);
    let kept = [&young, &living].map(|path| fs::symlink_metadata(path).is_ok());
    drop(listener);
    for path in [&dead, &young, &living] {
        let _ = fs::remove_file(path);
    }
    if outcome.status != "exit 0" || kept != [true, true] {
        return Err(format!("{kept:?}\n{}", outcome.seen()).into());
    }
    Ok(())
}

/// The script of `sh -c`, plain and under the launcher.
fn shell(script: &str, way: Way) -> Outcome {
    shell_in(script, way).finish()
}

fn shell_in(script: &str, way: Way) -> Run {
    let run = Run::new("sh").arg("-c").arg(script).way(way);
    if way == Way::Plain { run } else { run.logged() }
}

fn same_by_shell(script: &str) -> Result<(), Failed> {
    let plain = shell(script, Way::Plain).seen();
    for way in [Way::Run, Way::Exec] {
        same(
            &plain,
            &shell(script, way).seen(),
            &format!("{way:?}: {script}"),
        )?;
    }
    Ok(())
}

fn ends_as_the_program() -> Result<(), Failed> {
    for status in [0, 1, 7, 77, 78, 126, 127, 128, 130, 255] {
        same_by_shell(&format!("exit {status}"))?;
    }
    for signal in [
        "HUP", "INT", "QUIT", "KILL", "TERM", "USR1", "SEGV", "ABRT", "PIPE", "ALRM",
    ] {
        same_by_shell(&format!("ulimit -c 0; kill -{signal} $$"))?;
    }
    Ok(())
}

fn not_there() -> Result<(), Failed> {
    for way in [Way::Run, Way::Exec] {
        let outcome = Run::new("surely-no-such-program").way(way).finish();
        same("exit 127", &outcome.status, "no such program")?;
        if !outcome.stderr.contains("surely-no-such-program") {
            return Err(format!("it does not name it:\n{}", outcome.seen()).into());
        }
        let outcome = Run::new("/etc/passwd").way(way).finish();
        same("exit 126", &outcome.status, "not executable")?;
    }
    Ok(())
}

fn no_interpreter_line() -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt;
    // Without `#!`, as execvp(3) finds it; many arguments, which are copied for
    // the shell.
    const MANY: usize = 20_000;
    for way in [Way::Run, Way::Exec] {
        let words = std::iter::repeat_n("word", MANY);
        let run = Run::new("./script").args(words).way(way).logged();
        let script = run.dir().join("script");
        fs::write(&script, "echo $# $1\n")?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        same(
            &format!("stdout| {MANY} word\nexit 0\n"),
            &run.finish().seen(),
            &format!("{way:?}"),
        )?;
    }
    Ok(())
}

fn stdin_untouched() -> Result<(), Failed> {
    // What the program does not read is there for whoever comes next.
    let launcher = stage().launcher.display();
    let script = format!(
        "{launcher} run --log log -- sh -c 'read line; echo program: $line'; \
         read line; echo next: $line"
    );
    let outcome = Run::new("sh")
        .arg("-c")
        .arg(script)
        .stdin(b"one\ntwo\nthree\n")
        .finish();
    same(
        "stdout| program: one\nstdout| next: two\nexit 0\n",
        &outcome.seen(),
        "stdin",
    )?;
    same_by_shell("cat; readlink /proc/self/fd/0")
}

fn output_untouched() -> Result<(), Failed> {
    same_by_shell("echo out; echo err >&2; printf 'no newline'")?;
    same_by_shell("exec >&- 2>&-; echo lost")?;
    same_by_shell("yes | head -n 1000; echo ${PIPESTATUS}")
}

fn descriptors() -> Result<(), Failed> {
    same_by_shell("ls /proc/self/fd")?;
    // Those that the caller hands down arrive, whatever their numbers.
    let launcher = stage().launcher.display();
    let lists: Vec<String> = ["", "bindgate run", "bindgate run --exec"]
        .map(|way| {
            let way = way.replace("bindgate run", &format!("{launcher} run --log log"));
            let separator = if way.is_empty() { "" } else { "--" };
            let script = format!(
                "exec 3</dev/null 5</dev/zero 9>/dev/null; exec {way} {separator} \
                 sh -c 'ls -l /proc/self/fd | sed \"s/.* \\([0-9]* ->\\)/\\1/; /proc.*fd/d; /total/d\"'"
            );
            Run::new("bash").arg("-c").arg(script).finish().seen()
        })
        .into();
    let steady = |list: &str| {
        let lines = list
            .lines()
            .filter(|l| !l.contains("pipe:") && !l.contains("memfd:"));
        lines.collect::<Vec<_>>().join("\n")
    };
    same(&steady(&lists[0]), &steady(&lists[1]), "run")?;
    same(&steady(&lists[0]), &steady(&lists[2]), "run --exec")?;
    Ok(())
}

/// The launcher takes their numbers for nothing of its own.
fn closed_streams() -> Result<(), Failed> {
    let program = compile("dup", &[])?;
    let report = "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && echo $n is open; done";
    for streams in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let seen = |launcher: String| -> Result<_, Failed> {
            let script = format!(
                "exec {streams}; exec {launcher} sh -c '({report}) >seen; exec {}'",
                program.display()
            );
            let outcome = Run::new("sh").arg("-c").arg(script);
            let log = outcome.dir().join("log");
            let (dir, outcome) = (outcome.dir().to_owned(), outcome.finish());
            let report = fs::read_to_string(dir.join("seen"))?;
            let refused = fs::read_to_string(log).unwrap_or_default();
            let refused = refused.matches("refused: EACCES").count();
            Ok((format!("{report}{}", outcome.status), refused))
        };
        let launcher = stage().launcher.display();
        let (plain, _) = seen(String::new())?;
        let rule = "-r 'deny bind tcp *:8080'";
        let (run, refused) = seen(format!("{launcher} run --wait --log log {rule} --"))?;
        same(&plain, &run, streams)?;
        same("1", &refused.to_string(), &format!("{streams}: in the log"))?;
    }
    Ok(())
}

fn process_group() -> Result<(), Failed> {
    // Group and session as the caller's; nothing blocked or ignored besides.
    let report = "ps -o pgid=,sid=,tpgid= -p $$ | tr -s ' '; umask; ulimit -a; nice";
    // A shell clears the mask of signals for itself.
    let status = "grep -E '^Sig(Blk|Ign)|NoNewPrivs|Seccomp:' /proc/self/status";
    let seen = |launcher: &str| {
        let script =
            format!("{launcher} {status}; {launcher} sh -c \"$1\" | sed \"s/\\b$$\\b/GROUP/g\"");
        let outcome = Run::new("sh").args(["-c", &script, "sh", report]).finish();
        outcome.seen()
    };
    let plain = seen("");
    let run = seen(&format!("{} run --log log --", stage().launcher.display()));
    if !plain.contains("GROUP") || !plain.contains("SigBlk:") {
        return Err(format!("the plain report:\n{plain}").into());
    }
    same(&plain, &run, "run")?;
    Ok(())
}

fn forwarded_signal() -> Result<(), Failed> {
    for (name, number) in [
        ("TERM", libc::SIGTERM),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
    ] {
        let script = format!(
            "trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.02; done"
        );
        let run = shell_in(&script, Way::Run);
        let seen = in_net(|| {
            let mut process = run.spawn();
            process.says("ready")?;
            process.signal(number);
            Ok::<_, String>(process.wait().seen())
        })?;
        same(
            &format!("stdout| ready\nstdout| got {name}\nexit 3\n"),
            &seen,
            name,
        )?;
    }
    // One that kills the program kills the launcher.
    let run = shell_in("echo ready; exec sleep 1000", Way::Run);
    let seen = in_net(|| {
        let mut process = run.spawn();
        process.says("ready")?;
        process.signal(libc::SIGTERM);
        Ok::<_, String>(process.wait().seen())
    })?;
    same(
        "stdout| ready\nsignal 15\n",
        &seen,
        "TERM to a program that dies of it",
    )?;
    Ok(())
}

/// As timeout(1) and a shell's `kill %1` send it: the program has it from them.
fn group_signal() -> Result<(), Failed> {
    let program = compile("counts_interrupts", &[])?;
    let run = Run::new(program).way(Way::Run).logged();
    let seen = in_net(|| {
        let mut process = run.spawn();
        process.says("ready")?;
        process.signal_group(libc::SIGRTMIN());
        Ok::<_, String>(process.wait().seen())
    })?;
    let expected = "stdout| ready\nstdout| interrupts: 1\nexit 0\n";
    Ok(same(expected, &seen, "SIGRTMIN to the group")?)
}

/// Nobody waits for it; it goes all the same.
fn log_process_ends() -> Result<(), Failed> {
    for way in [Way::Run, Way::Exec] {
        let outcome = shell("echo $BINDGATE_RUN", way);
        let drainer = outcome.stdout.split('.').nth(2).unwrap_or_default();
        // Of one that nobody has waited for yet there is this no more.
        let program = format!("/proc/{drainer}/exe");
        same("exit 0", &outcome.status, &outcome.seen())?;
        until("the log process is gone", || {
            fs::read_link(&program).is_err().then_some(())
        })?;
    }
    Ok(())
}

/// It waits for room while somebody may make it, and not for ever.
fn without_log_process() -> Result<(), Failed> {
    let program = compile("binds_until_told", &[])?;
    let script = format!("echo $BINDGATE_RUN; exec {}", program.display());
    let run = shell_in(&script, Way::Run).rule("deny bind tcp *:9");
    let outcome = in_net(|| {
        let mut process = run.spawn();
        process.says("ready")?;
        let run = process.stdout();
        let drainer = run.split('.').nth(2).and_then(|pid| pid.parse().ok());
        let drainer = drainer.ok_or("no log process")?;
        // SAFETY: the log process of this run, which nobody else ends.
        unsafe { libc::kill(drainer, libc::SIGKILL) };
        process.signal(libc::SIGUSR1);
        process.says("many")?;
        process.signal(libc::SIGTERM);
        Ok::<_, String>(process.wait())
    })?;
    same("exit 0", &outcome.status, &outcome.seen())?;
    if !outcome.stderr.contains("the log process was killed") {
        return Err(format!("it does not say so:\n{}", outcome.seen()).into());
    }
    Ok(())
}

fn listen_pid() -> Result<(), Failed> {
    let launcher = stage().launcher.display();
    let script = format!(
        "export LISTEN_PID=$$ LISTEN_FDS=1; exec 3</dev/null; \
         exec {launcher} run --log log --exec -- \
         sh -c '[ $LISTEN_PID = $$ ] && [ -e /proc/self/fd/3 ] && echo mine'"
    );
    let outcome = Run::new("sh").arg("-c").arg(script).finish();
    same("stdout| mine\nexit 0\n", &outcome.seen(), "LISTEN_PID")?;
    Ok(())
}

fn process_one() -> Result<(), Failed> {
    let program = compile("dup", &[])?;
    let script = format!("echo I am $$; exec {}", program.display());
    let outcome = Run::new(&stage().launcher)
        .around(["unshare", "-fp", "--mount-proc"])
        .args([
            "run",
            "--log",
            "log",
            "-r",
            "deny bind tcp *:8080",
            "--exec",
            "--",
        ])
        .args(["sh", "-c", &script])
        .finish();
    let expected = "stdout| I am 1\n\
                    stdout| bind: EACCES\n\
                    stdout| the duplicate's name: 0.0.0.0:0 (16 bytes)\n\
                    stdout| listen on the original: ok\n\
                    exit 0\n";
    same(expected, &outcome.seen(), "as process 1")?;
    Ok(())
}

fn launcher_as_process_one() -> Result<(), Failed> {
    let outcome = Run::new(&stage().launcher)
        .around(["unshare", "-fp", "--mount-proc"])
        .args(["run", "--log", "log", "-r", "deny bind tcp *:8080", "--"])
        .args(["sh", "-c", "echo ${BINDGATE_RUN%%.*}; sleep 0.1 & exit 5"])
        .finish();
    let id = outcome.stdout.trim();
    let expected = format!("stdout| {id}\nexit 5\n");
    same(&expected, &outcome.seen(), "the launcher as process 1")?;
    let file = socket_of(id);
    same(
        "false",
        &file.exists().to_string(),
        "the run's socket is left",
    )?;
    Ok(())
}

/// The socket of a run in the file system.
fn socket_of(id: &str) -> PathBuf {
    format!("/tmp/.bindgate-{id}").into()
}

/// In user, network and process name spaces of their own, as a browser's
/// sandbox has them, processes see neither the run's abstract name nor the
/// launcher's `/proc`: they come in by the socket in `/tmp`, which the run does
/// not leave behind.
fn far_away() -> Result<(), Failed> {
    let script = "echo ${BINDGATE_RUN%%.*}; exec unshare -Urnfp --mount-proc \"$@\"";
    let outcome = Run::new("sh")
        .args(["-c", script, "sh"])
        .arg(compile("tcp_echo_server", &[])?)
        .arg("8080")
        .way(Way::Run)
        .logged()
        .launcher_arg("--wait")
        .rule("deny bind tcp *:8080 with EACCES")
        .finish();
    let id = outcome.stdout.trim().to_owned();
    let expected = format!("stdout| {id}\nstderr| bind: Permission denied\nexit 1\n");
    same(&expected, &outcome.seen(), "a rule reaches it")?;
    let records = outcome.records();
    let binds = records.iter().filter(|r| r.text("call") == "bind");
    same("1", &binds.count().to_string(), "recorded")?;
    let file = socket_of(&id);
    until("the run's socket is gone", || {
        (!file.exists()).then_some(())
    })?;
    Ok(())
}

/// Without that socket either.
fn unreachable() -> Result<(), Failed> {
    let script = "rm /tmp/.bindgate-${BINDGATE_RUN%%.*}; exec unshare -nfp --mount-proc echo here";
    let run = |rule| {
        let run = Run::new("sh").args(["-c", script]).way(Way::Run).logged();
        run.user(0).rule(rule).finish().seen()
    };
    let observed = run("mode observe");
    same("stdout| here\nexit 0\n", &observed, "observing")?;
    let expected = "stderr| bindgate: cannot attach to the run: its log process was killed or \
                    cannot be reached; refusing to start because the policy enforces\nexit 78\n";
    same(expected, &run("deny bind tcp *:1"), "enforcing")?;
    Ok(())
}

fn rotation() -> Result<(), Failed> {
    let run = Run::new(compile("binds_until_told", &[])?).way(Way::Run);
    let run = run.logged().launcher_arg("--wait");
    let log = run.dir().join("log.jsonl");
    let outcome = in_net(|| {
        let mut process = run.spawn();
        process.says("ready")?;
        for n in 0..5 {
            until("something is logged", || {
                fs::metadata(&log)
                    .is_ok_and(|m| m.len() > 1000)
                    .then_some(())
            })?;
            fs::rename(&log, log.with_extension(format!("{n}"))).map_err(|e| e.to_string())?;
            process.signal(libc::SIGHUP);
            until("a new log", || log.exists().then_some(()))?;
        }
        process.signal(libc::SIGTERM);
        Ok::<_, String>(process.wait())
    })?;
    let mut logged = 0;
    for entry in fs::read_dir(run.dir())? {
        let path = entry?.path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("log.")
        {
            let records = support::log::read(&path)?;
            logged += records.iter().filter(|r| r.text("call") == "bind").count();
        }
    }
    let made = outcome
        .stdout
        .trim()
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    same(
        &made,
        &logged.to_string(),
        &format!("binds made and logged\n{}", outcome.seen()),
    )?;
    Ok(())
}
