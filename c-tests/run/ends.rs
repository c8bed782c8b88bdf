//! What a run waits for, and what it leaves behind.

use libtest_mimic::{Failed, Trial};

use support::{self, Run, Way, compile, helper, same, stage};

pub fn trials() -> Vec<Trial> {
    let library = format!("/usr/lib/{}-linux-gnu/{FAKETIME}", std::env::consts::ARCH);
    let invented = "nothing is lost under libfaketime";
    vec![
        match std::path::Path::new(&library).exists() {
            true => Trial::test(invented, move || under_faketime(&library)),
            false => support::skipped(invented, "it is not installed"),
        },
        Trial::test("--wait waits for what is not seen yet", waits_for_all),
        Trial::test("nothing of bindgate stays a zombie", no_zombies),
        Trial::test("limit: zombies of what goes on", zombies_of_what_goes_on),
    ]
}

const FAKETIME: &str = "faketime/libfaketime.so.1";

/// Launcher, log process and program all believe in a time that stands still,
/// or runs.
fn under_faketime(library: &str) -> Result<(), Failed> {
    const BINDS: usize = 5000;
    for time in ["2020-01-01 00:00:00", "+1d x1000", "+0 x0.001"] {
        let run = Run::new(compile("binds_in_two_halves", &[])?)
            .arg(BINDS.to_string())
            .env("LD_PRELOAD", library)
            .env("FAKETIME", time)
            .way(Way::Run)
            .launcher_arg("--wait")
            .logged();
        let outcome = run.finish();
        let expected = format!("stdout| binds: {BINDS}\nexit 0\n");
        same(&expected, &outcome.seen(), time)?;
        let records = outcome.records();
        let binds = records.iter().filter(|r| r.text("call") == "bind").count();
        same(&BINDS.to_string(), &binds.to_string(), time)?;
    }
    Ok(())
}

/// A process that has not come to the run yet, or that cannot be intercepted
/// and becomes a program that can: nobody holds the run's memory meanwhile.
fn waits_for_all() -> Result<(), Failed> {
    let script = "\"$0\" $$ \"$1\" & exit 0";
    let run = Run::new("sh")
        .args(["-c", script])
        .arg(helper("exec_later")?)
        .arg(compile("dup", &[])?)
        .way(Way::Run)
        .rule("deny bind tcp *:8080")
        .launcher_arg("--wait")
        .launcher_arg("--allow-unintercepted");
    let ends = |run: Run, status| {
        let run = run.logged();
        let outcome = run.finish();
        same(status, &outcome.status, &outcome.seen())?;
        let records = outcome.records();
        let binds = records.iter().filter(|r| r.text("call") == "bind").count();
        same("1", &binds.to_string(), "binds in the log")?;
        let log = std::fs::read_to_string(run.dir().join("log.jsonl"));
        let ends = log.unwrap_or_default().matches("\"event\":\"end\"").count();
        same("1", &ends.to_string(), "sums in the log")
    };
    ends(run.clone(), "exit 0")?;
    ends(
        run.fresh().launcher_arg("--fail-on").launcher_arg("deny"),
        "exit 77",
    )?;
    Ok(())
}

/// Below a process 1 that reaps its own children only: what `script` in Python
/// says there, with the launcher as `bindgate`.
fn below_lazy_init(script: &str) -> String {
    let common = "import os, subprocess, time\n\
        def zombies():\n    \
            found = []\n    \
            for pid in filter(str.isdigit, os.listdir('/proc')):\n        \
                name, fields = open(f'/proc/{pid}/stat').read().split(' (', 1)[1].rsplit(') ', 1)\n        \
                if fields[0] == 'Z' and name.startswith('bindgate'): found.append(name)\n    \
            return sorted(found)\n\
        def run(*words):\n    \
            words = (os.environ['LAUNCHER'], 'run', '--log', 'log') + words\n    \
            return subprocess.run(words, stderr=subprocess.DEVNULL).returncode\n";
    let run = Run::new("python3").around(["unshare", "-fp", "--mount-proc"]);
    let run = run.arg("-c").arg(format!("{common}{script}"));
    run.env("LAUNCHER", &stage().launcher).finish().seen()
}

fn no_zombies() -> Result<(), Failed> {
    let script = "\
for words in [('true',), ('sh', '-c', 'kill -TERM $$'), ('no-such-program',), ('/etc/passwd',)]:
    for option in [(), ('--wait',), ('-r', 'deny bind tcp *:1'), ('--fail-on', 'deny')]:
        print(words[0], run(*option, '--', *words), zombies())
for n in range(20): run('--', 'true')
print(zombies())
print(run('--wait', '--', 'sh', '-c', 'sleep 0.01 & exit 3'), zombies())
print(run('--', 'sh', '-c', 'kill -KILL $(echo $BINDGATE_RUN | cut -d. -f3)'), zombies())
";
    let mut expected = String::new();
    for (word, status) in [
        ("true", 0),
        ("sh", -15),
        ("no-such-program", 127),
        ("/etc/passwd", 126),
    ] {
        expected += &format!("stdout| {word} {status} []\n").repeat(4);
    }
    expected += "stdout| []\nstdout| 3 []\nstdout| 0 []\nexit 0\n";
    Ok(same(&expected, &below_lazy_init(script), "zombies")?)
}

/// Whoever ends after the launcher is process 1's to reap: what the program
/// leaves behind, and the log process with it.
fn zombies_of_what_goes_on() -> Result<(), Failed> {
    let script = "\
def settled():
    while len(zombies()) < 1: time.sleep(0.01)
    return zombies()
run('--', 'sh', '-c', 'sleep 0.1 &')
print(settled())
while True:
    try: os.waitpid(-1, 0)
    except ChildProcessError: break
run('--exec', '--', 'true')
print(settled())
";
    let expected = "stdout| ['bindgate-log']\n".repeat(2) + "exit 0\n";
    Ok(same(&expected, &below_lazy_init(script), "zombies")?)
}
