//! What is said to a person: nothing in it moves a terminal's cursor, and it says
//! what became of the programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use libtest_mimic::{Failed, Trial};

use crate::python;
use support::{Run, Way, same, stage, work_dir};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "no message holds a control character",
            no_control_characters,
        ),
        Trial::test("a killed log process is told of", killed_log_process),
    ]
}

/// Names of files, programs and arguments with control characters in them, also
/// of C1, in everything that prints one.
fn no_control_characters() -> Result<(), Failed> {
    let dir = work_dir().join("a\u{1b}[2J\u{9b}b\nc\r");
    fs::create_dir(&dir)?;
    let script = dir.join("script\u{7}\n");
    fs::write(&script, "#!/bin/sh\nexit 0\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let plain = dir.join("plain\u{8}");
    fs::write(&plain, "deny nonsense\n")?;
    let (script, plain) = (script.to_str().unwrap(), plain.to_str().unwrap());
    let odd = "no\u{1b}such\n";
    let lines: &[&[&str]] = &[
        &["doctor", "--", script],
        &["doctor", "--", plain],
        &["doctor", "--", odd],
        &["doctor", "--library", plain, "--", "true"],
        &["doctor", "--library", odd, "--", "true"],
        &["run", "-v", "--", script],
        &["run", "--", plain],
        &["run", "--", odd],
        &["run", "--log", odd, "--", "true"],
        &["run", "--log", "no\u{1b}such/log", "--", "true"],
        &["run", "-p", plain, "--", "true"],
        &["run", "-p", odd, "--", "true"],
        &["run", "-r", odd, "--", "true"],
        &["run", "--format", odd, "--", "true"],
        &["run", "-r", "default deny for exec", "--", script],
        &["policy", "check", plain],
        &["policy", "check", odd],
        &["policy", "show", plain],
        &["explain", "bind", "tcp", odd],
        &["explain", odd],
        &["explain", "bind unix:/a\u{1b}[2Jb"],
        &["simulate", plain],
        &["simulate", odd],
        &["simulate", "--no\u{1b}such"],
        &[odd],
    ];
    for words in lines {
        let run = Run::new(&stage().launcher).args(*words);
        // Not the test's own name of the directory: relative names stay odd.
        let outcome = run.finish();
        let said = outcome.stdout.clone() + &outcome.stderr;
        let is_control = |c: &char| c.is_control() && *c != '\n' && *c != '\t';
        if said.chars().any(|c| is_control(&c)) {
            return Err(format!("{words:?} says {said:?}").into());
        }
        // A name has not begun a line of its own.
        if said
            .lines()
            .any(|line| line.starts_with("c\\") || line == "c")
        {
            return Err(format!("{words:?} breaks a line: {said:?}").into());
        }
    }
    Ok(())
}

/// Programs that run keep their rules; what is started then does not start
/// where the policy enforces, and is without bindgate where it observes.
fn killed_log_process() -> Result<(), Failed> {
    let script = "
import os, signal, socket, subprocess, time
log = int(os.environ['BINDGATE_RUN'].split('.')[2])
os.kill(log, signal.SIGKILL)
while True:
    try: os.readlink(f'/proc/{log}/exe')
    except OSError: break
    time.sleep(0.005)
try: print(socket.socket().bind(('127.0.0.1', 8080)))
except OSError as e: print(e.strerror)
print(subprocess.run(['true']).returncode)
";
    let start = "bindgate: the log process was killed: the log is incomplete; programs that ran \
                 kept their rules, those that were started afterwards";
    let run = || python(script).way(Way::Run).logged();
    let enforcing = run().rule("deny bind tcp *:8080 with EACCES").finish();
    let expected = format!(
        "stdout| Permission denied\nstdout| 78\nstderr| bindgate: cannot attach to the run: its \
         log process was killed or cannot be reached; refusing to start because the policy \
         enforces\nstderr| {start} have ended with 78\nexit 0\n"
    );
    same(&expected, &enforcing.seen(), "enforcing")?;
    let observing = run().finish();
    let expected =
        format!("stdout| None\nstdout| 0\nstderr| {start} ran without bindgate\nexit 0\n");
    Ok(same(&expected, &observing.seen(), "observing")?)
}
