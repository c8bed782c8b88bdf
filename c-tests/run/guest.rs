//! What the log of a preload and the launcher's own memory must not do to the
//! program: raise signals in it, need more stack than there is, lose lines that
//! are long, and die of the limits that are set for it.

use libtest_mimic::{Failed, Trial};

use support::{Run, Way, compile, same, stage};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a preload's log is a broken pipe", broken_pipe),
        Trial::test("a long line on a small stack", small_stack),
        Trial::test("a line of any length", long_line),
        Trial::test("the launcher under RLIMIT_FSIZE", file_size),
        Trial::test("the launcher under a hard RLIMIT_FSIZE", hard_file_size),
        Trial::test("the launcher under RLIMIT_DATA", data),
        Trial::test("the launcher under a hard RLIMIT_DATA", hard_data),
        Trial::test("the launcher under RLIMIT_AS", address_space),
        Trial::test("the launcher under a hard RLIMIT_AS", hard_address_space),
        Trial::test("the log is written under limits of memory", enough_memory),
    ]
}

fn broken_pipe() -> Result<(), Failed> {
    for format in ["text", "json"] {
        let outcome = Run::new(compile("log_to_broken_pipe", &[])?)
            .way(Way::Preload)
            .rule("note bind tcp *:*")
            .env("BINDGATE_LOG", "-")
            .env("BINDGATE_FORMAT", format)
            .finish();
        same("bind: ok\n", &outcome.stdout, &outcome.seen())?;
        same("exit 0", &outcome.status, &outcome.seen())?;
    }
    Ok(())
}

/// A rule whose text is a little longer than this.
fn long_rule(len: usize) -> String {
    let mut rule = String::from("deny bind udp *:{8190");
    let mut port = 20_000;
    while rule.len() < len {
        rule += &format!(",{port}");
        port += 2;
    }
    rule + "}"
}

/// The stack of a signal handler, in bytes; a debug build of the library needs
/// twice as much as docs/limits.md promises.
const STACK: &str = if cfg!(debug_assertions) {
    "16384"
} else {
    "8192"
};

fn small_stack() -> Result<(), Failed> {
    for format in ["text", "json"] {
        let rule = long_rule(1_700);
        let outcome = Run::new(compile("alternate_stack", &[])?)
            .arg(STACK)
            .way(Way::Preload)
            .rule(&rule)
            .env("BINDGATE_LOG", "-")
            .env("BINDGATE_FORMAT", format)
            .finish();
        same("bind: EACCES\n", &outcome.stdout, &outcome.seen())?;
        if format == "json" && !outcome.stderr.contains(&rule) {
            return Err(format!("the line is not there:\n{}", outcome.seen()).into());
        }
    }
    Ok(())
}

fn long_line() -> Result<(), Failed> {
    let rule = long_rule(6_000);
    let run = Run::new(compile("alternate_stack", &[])?)
        .arg(STACK)
        .way(Way::Preload)
        .rule(&rule)
        .logged();
    let outcome = run.finish();
    same("bind: EACCES\n", &outcome.stdout, &outcome.seen())?;
    let log = std::fs::read_to_string(run.dir().join("log.jsonl"))?;
    if !log.lines().any(|line| line.contains(&rule)) {
        return Err(format!("the line is not there:\n{log}").into());
    }
    Ok(())
}

/// `bindgate run -- sh -c 'ulimit -F'`, under a limit in bytes.
fn limited(limit: &str, flag: &str) -> Run {
    Run::new("prlimit").arg(limit).arg(&stage().launcher).args([
        "run",
        "-r",
        "deny bind tcp *:1",
        "--",
        "sh",
        "-c",
        &format!("ulimit {flag}"),
    ])
}

fn file_size() -> Result<(), Failed> {
    // The program's limit is what it was: 8 blocks of 512 bytes.
    works(&limited("--fsize=4096:unlimited", "-f"), "8\n")
}

fn hard_file_size() -> Result<(), Failed> {
    is_refused(&limited("--fsize=4096:4096", "-f"), "ulimit -Hf")
}

fn data() -> Result<(), Failed> {
    // In KiB.
    works(&limited("--data=2048000:unlimited", "-d"), "2000\n")
}

fn hard_data() -> Result<(), Failed> {
    is_refused(&limited("--data=2048000:2048000", "-d"), "ulimit -Hd")
}

fn address_space() -> Result<(), Failed> {
    works(&limited("--as=48000000:unlimited", "-v"), "46875\n")
}

fn hard_address_space() -> Result<(), Failed> {
    is_refused(&limited("--as=64000000:64000000", "-v"), "ulimit -Hv")
}

/// Where nothing is said before the start, the log is written.
fn enough_memory() -> Result<(), Failed> {
    let mib = 1u64 << 20;
    for limits in [
        format!("--as={0}:{0}", 96 * mib),
        format!("--as={0}:{0}", 130 * mib),
        format!("--as={0}:{0}", 160 * mib),
        format!("--data={0}:{0}", 72 * mib),
    ] {
        let binds = compile("tcp_echo_server", &[])?;
        let mut run = Run::new("prlimit").arg(&limits).arg(&stage().launcher);
        run = run.args(["run", "-r", "deny bind tcp *:20001", "--"]);
        let outcome = run.arg(binds).arg("20001").finish();
        if !outcome.stderr.contains("bind tcp 0.0.0.0:20001") || outcome.stderr.contains("killed") {
            return Err(format!("{limits}:\n{}", outcome.seen()).into());
        }
    }
    Ok(())
}

fn works(run: &Run, stdout: &str) -> Result<(), Failed> {
    let outcome = run.finish();
    same(stdout, &outcome.stdout, &outcome.seen())?;
    same("", &outcome.stderr, &outcome.seen())?;
    same("exit 0", &outcome.status, &outcome.seen())?;
    Ok(())
}

/// The program is not started, and the reason is said.
fn is_refused(run: &Run, why: &str) -> Result<(), Failed> {
    let outcome = run.finish();
    same("", &outcome.stdout, &outcome.seen())?;
    if outcome.status.starts_with("signal") || !outcome.stderr.contains(why) {
        return Err(outcome.seen().into());
    }
    Ok(())
}
