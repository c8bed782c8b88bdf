//! On a terminal: a person's keys do what they did.

use libtest_mimic::{Failed, Trial};
use serde_json::json;

use support::{Run, compile, same, sources, stage};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("Ctrl-C is counted once", interrupt_once),
        Trial::test("Ctrl-C ends a loop of the shell", interrupt_loop),
        Trial::test("| less", pipe_to_less),
        Trial::test("a pager under the launcher", pager),
        Trial::test("Ctrl-Z and fg", stop_and_continue),
        Trial::test("Ctrl-\\ and end of input", quit_and_end),
    ]
}

/// What the person saw and how it ended; an error if a step failed.
fn session(command: &[&str], steps: &[[&str; 2]]) -> Result<String, Failed> {
    let outcome = Run::new("python3")
        .arg(sources().join("run/terminal.py"))
        .arg(json!(command).to_string())
        .arg(json!(steps).to_string())
        .env("TERM", "xterm")
        .env("PS1", "$ ")
        .finish();
    if outcome.status == "exit 0" {
        Ok(outcome.stdout)
    } else {
        Err(format!("{command:?}\n{}", outcome.seen()).into())
    }
}

fn launcher() -> &'static str {
    stage().launcher.to_str().unwrap()
}

fn interrupt_once() -> Result<(), Failed> {
    let program = compile("counts_interrupts", &[])?;
    let program = program.to_str().unwrap();
    let steps = [
        ["see", "ready"],
        ["type", "\x03"],
        ["see", "interrupts: "],
        ["end", ""],
    ];
    let plain = session(&[program], &steps)?;
    let run = session(&[launcher(), "run", "--log", "log", "--", program], &steps)?;
    same("ready\n^Cinterrupts: 1\n\nexit 0\n", &plain, "plain")?;
    same(&plain, &run, "run")?;
    Ok(())
}

fn interrupt_loop() -> Result<(), Failed> {
    let script = format!(
        "while :; do {} run --log log -- sh -c 'echo turn; exec sleep 1000'; done; echo behind",
        launcher()
    );
    let steps = [["see", "turn"], ["type", "\x03"], ["end", ""]];
    let seen = session(&["bash", "-c", &script], &steps)?;
    same("turn\n^C\nsignal 2\n", &seen, "the loop")?;
    Ok(())
}

fn pipe_to_less() -> Result<(), Failed> {
    for program in ["seq 1 100000", "seq 1 3"] {
        let script = format!(
            "{} run --log log -- {program} | less; echo done",
            launcher()
        );
        let steps = [["see", "3"], ["type", "q"], ["see", "done"], ["end", ""]];
        let seen = session(&["bash", "-c", &script], &steps)?;
        if !seen.ends_with("exit 0\n") {
            return Err(seen.into());
        }
    }
    Ok(())
}

fn pager() -> Result<(), Failed> {
    let steps = [["see", "root"], ["type", "q"], ["end", ""]];
    let seen = session(
        &[
            launcher(),
            "run",
            "--log",
            "log",
            "--",
            "less",
            "/etc/passwd",
        ],
        &steps,
    )?;
    if seen.ends_with("exit 0\n") {
        Ok(())
    } else {
        Err(seen.into())
    }
}

fn stop_and_continue() -> Result<(), Failed> {
    let command = format!(
        "{} run --log log -- sh -c 'echo here; exec cat'\n",
        launcher()
    );
    let steps = [
        ["see", "$ "],
        ["type", &command],
        ["see", "here\r\n"],
        ["type", "\x1a"],
        ["see", "Stopped"],
        ["see", "$ "],
        ["type", "echo shell is $((1 + 1))\n"],
        ["see", "shell is 2"],
        ["see", "$ "],
        ["type", "fg\n"],
        ["see", "cat'"],
        ["type", "hello\n"],
        ["see", "hello\r\nhello\r\n"],
        ["type", "\x1a"],
        ["see", "Stopped"],
        ["see", "$ "],
        ["type", "fg\n"],
        ["see", "cat'"],
        ["type", "again\n"],
        ["see", "again\r\nagain\r\n"],
        ["type", "\x04"],
        ["see", "$ "],
        ["type", "echo status $?\n"],
        ["see", "status 0"],
        ["type", "jobs; exit 4\n"],
        ["end", ""],
    ];
    let seen = session(&["bash", "--norc", "--noprofile", "-i"], &steps)?;
    if seen.ends_with("exit 4\n") {
        Ok(())
    } else {
        Err(seen.into())
    }
}

fn quit_and_end() -> Result<(), Failed> {
    let program = "ulimit -c 0; echo here; exec cat";
    let steps = [["see", "here"], ["type", "\x1c"], ["end", ""]];
    let plain = session(&["sh", "-c", program], &steps)?;
    let run = session(
        &[launcher(), "run", "--log", "log", "--", "sh", "-c", program],
        &steps,
    )?;
    same(&plain, &run, "Ctrl-\\")?;
    let steps = [["see", "here"], ["type", "\x04"], ["end", ""]];
    let plain = session(&["sh", "-c", program], &steps)?;
    let run = session(
        &[launcher(), "run", "--log", "log", "--", "sh", "-c", program],
        &steps,
    )?;
    same(&plain, &run, "Ctrl-D")?;
    Ok(())
}
