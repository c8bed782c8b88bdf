//! The harness itself: a program that does not end is an error of the test, and
//! nothing of a run outlives it, however it ends.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use support::{self, Below, Run, Way, until};

/// Says which trial an inner harness is to run.
const INNER: &str = "BINDGATE_TEST_INNER";
/// A variable in the environment of all processes of a run.
const MARK: &str = "HARNESS_MARK";

/// Runs that leave something, or do not end.
const SCRIPTS: [(&str, &str); 5] = [
    ("sleeps", "sleep 1000"),
    ("is stopped", "kill -STOP $$"),
    (
        "leaves sessions behind",
        "trap '' TERM HUP; setsid sh -c 'sleep 1001 & exec sleep 1002' & setsid -f sleep 1003; wait",
    ),
    (
        "is traced",
        "exec strace -f -o trace sh -c 'setsid sleep 1000 & sleep 1001'",
    ),
    (
        "is the init of a namespace",
        "exec unshare -fp sh -c 'setsid sleep 1000 & sleep 1001'",
    ),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    // It is the same harness below a filter.
    if Below::everywhere().is_some() {
        return trials;
    }
    for (what, script) in SCRIPTS {
        let name = format!("harness: a run that {what} is an error and leaves nothing");
        if script.contains("strace") && support::which("strace").is_none() {
            trials.push(support::skipped(&name, "strace is not installed"));
            continue;
        }
        for way in [Way::Plain, Way::Run] {
            let name = format!("{name}, {way:?}");
            trials.push(Trial::test(name, move || endless(script, way)));
        }
    }
    trials.push(Trial::test("harness: killed, it leaves nothing", killed));
    trials.push(Trial::test(
        "harness: what a run leaves behind is an error, and killed",
        left_behind,
    ));
    trials.push(Trial::test(
        "harness: a log that is not there is an error",
        no_log,
    ));
    trials
}

/// The trial of an inner harness, if this is one.
pub fn inner() -> Option<Vec<Trial>> {
    let script = match std::env::var(INNER).ok()?.as_str() {
        "endless" => SCRIPTS[2].1,
        "left behind" => {
            "setsid sh -c 'echo >there; exec sleep 1000' & until [ -e there ]; do sleep 0.01; done"
        }
        other => panic!("{other}"),
    };
    let mark = std::env::var(MARK).ok()?;
    let run = Run::new("sh").args(["-c", script]).env(MARK, mark);
    Some(vec![Trial::test("inner", move || {
        run.finish();
        Ok(())
    })])
}

fn inner_harness(which: &str, mark: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our own program"));
    command
        .env(INNER, which)
        .env(MARK, mark)
        .env("BINDGATE_TEST_PATIENCE", "1")
        .stdin(Stdio::null());
    command
}

fn new_mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}.{number}.", std::process::id())
}

/// The processes with this mark, but for one.
fn marked(mark: &str, but: u32) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}\0");
    let is_marked = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut windows = environ.windows(wanted.len());
        *pid != but && windows.any(|bytes| bytes == wanted.as_bytes())
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_marked)
        .collect()
}

fn nothing_is_left(mark: &str) -> Result<(), Failed> {
    let left = marked(mark, 0);
    if left.is_empty() {
        return Ok(());
    }
    let of = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let all: String = left
        .iter()
        .map(|pid| format!("{pid} {}\n", of(pid)))
        .collect();
    Err(format!("left behind:\n{}", all.replace('\0', " ")).into())
}

fn endless(script: &str, way: Way) -> Result<(), Failed> {
    let mark = new_mark();
    let run = Run::new("sh")
        .args(["-c", script])
        .way(way)
        .env(MARK, &mark);
    let run = run.patience(Duration::from_millis(300));
    match support::in_net(|| run.spawn().end()) {
        Err(said) if said.starts_with("it did not end:") => {}
        other => return Err(format!("{other:?}").into()),
    }
    nothing_is_left(&mark)
}

fn killed() -> Result<(), Failed> {
    let mark = new_mark();
    let mut inner = inner_harness("endless", &mark);
    let mut inner = inner
        .env("BINDGATE_TEST_PATIENCE", "1000")
        .stdout(Stdio::null())
        .spawn()?;
    // The shell, the inner one, and three that sleep.
    until("the inner run is there", || {
        (marked(&mark, inner.id()).len() >= 5).then_some(())
    })?;
    inner.kill()?;
    inner.wait()?;
    until("nothing is left of the inner run", || {
        marked(&mark, 0).is_empty().then_some(())
    })?;
    Ok(())
}

fn left_behind() -> Result<(), Failed> {
    let mark = new_mark();
    let output = inner_harness("left behind", &mark).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(101) || !said.contains("left behind by a run, and killed:\n") {
        return Err(format!("{}: {said}", output.status).into());
    }
    nothing_is_left(&mark)
}

fn no_log() -> Result<(), Failed> {
    match Run::new("true").logged().finish().log() {
        Err(_) => Ok(()),
        Ok(_) => Err("no log was read as an empty one".into()),
    }
}
