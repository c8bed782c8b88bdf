//! `bindgate simulate` and `bindgate explain` from the command line.

use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use support::{NOBODY, Outcome, Run, has_nobody, outside, same, stage};

/// Why it does not run in a container: `container.rs` has what it says there.
const ITS_OWN: &str = "makes a network namespace";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("simulate: the examples of its page", || page("simulate.md")),
        Trial::test("simulate --both marks what differs", both),
        Trial::test("simulate --personality", personality),
        outside(
            Trial::test("simulate --kernel agrees", || kernel(0)),
            ITS_OWN,
        ),
        outside(
            Trial::test(
                "simulate --kernel: the model of another kernel differs",
                differs,
            ),
            ITS_OWN,
        ),
        outside(
            Trial::test("simulate --kernel: the longest path", longest_path),
            ITS_OWN,
        ),
        Trial::test("simulate --kernel refuses jails", jailed),
        Trial::test("simulate: an expectation that is not met", unmet),
        Trial::test("simulate: what the model does not know", unknown),
        Trial::test("simulate: what cannot be read", broken),
        Trial::test("simulate: comments and blanks", words),
        Trial::test("simulate: a script with a byte order mark", marked),
        Trial::test("simulate: every fact that is told of generations", facts),
        Trial::test("explain: this machine", explain_here),
        Trial::test(
            "explain: a host that the policy describes",
            explain_described,
        ),
        Trial::test("explain: as run would do it", explain_as_run),
        Trial::test("explain: what cannot be read", explain_broken),
        Trial::test("explain: every operation", explain_every_operation),
    ];
    if has_nobody() {
        let name = "simulate --kernel agrees: in a user namespace";
        trials.push(outside(Trial::test(name, || kernel(NOBODY)), ITS_OWN));
        let name = "simulate --kernel plays no other users without root";
        trials.push(outside(Trial::test(name, other_user), ITS_OWN));
    }
    trials
}

const CONFLICT: &str = "\
host automatic-ports 40000-40099
a = socket tcp
b = socket tcp
set a SO_REUSEADDR on
set b SO_REUSEADDR on
bind a 127.0.0.1:8000
bind b 127.0.0.1:8000
listen a
listen b
c = socket udp
bind c 0.0.0.0:0
d = socket vsock
";

/// Runs the launcher with these arguments on a script.
fn simulate(args: &[&str], script: &str, uid: u32) -> Outcome {
    let run = Run::new(&stage().launcher).user(uid);
    fs::write(run.dir().join("a.sim"), script).unwrap();
    run.arg("simulate").args(args).arg("a.sim").finish()
}

fn json(outcome: &Outcome) -> Result<Vec<Value>, Failed> {
    let parse = |line| serde_json::from_str(line).map_err(|e| format!("{e}: {line}").into());
    outcome.stdout.lines().map(parse).collect()
}

/// Plays the console examples of a page of `docs` and compares what they print.
fn page(name: &str) -> Result<(), Failed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    let text = fs::read_to_string(path)?;
    let run = Run::new(&stage().launcher);
    let mut played = 0;
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap_or("");
        for part in block.split("$ ").skip(1) {
            let (command, output) = part.split_once('\n').unwrap_or((part, ""));
            if let Some(file) = command.strip_prefix("cat ") {
                fs::write(run.dir().join(file), output)?;
            } else if let Some(rest) = command.strip_prefix("bindgate simulate ") {
                let seen = run.fresh().in_dir(run.dir()).arg("simulate");
                let seen = seen.args(rest.split_whitespace()).finish();
                same(output.trim_end(), seen.stdout.trim_end(), &seen.seen())?;
                played += 1;
            }
        }
    }
    if played == 0 {
        return Err(format!("{name} has no example").into());
    }
    Ok(())
}

fn both() -> Result<(), Failed> {
    let seen = simulate(&["--both"], CONFLICT, 0);
    let marked = |call: &str| {
        let line = seen.stdout.lines().find(|l| l.contains(call));
        line.map(|l| l.starts_with('*'))
    };
    for (call, wanted) in [
        ("bind a 127.0.0.1:8000", false),
        ("bind b 127.0.0.1:8000", true),
        // Both draw a port; which one is no difference.
        ("bind c 0.0.0.0:0", false),
        ("d = socket vsock", true),
    ] {
        same(
            &format!("{:?}", Some(wanted)),
            &format!("{:?}", marked(call)),
            &seen.seen(),
        )?;
    }
    let jail = "jail j 10.0.0.1\nhost address 10.0.0.1/24\nprocess p uid 0 jail j\n\
                p: s = socket tcp\np: bind s 0.0.0.0:80\n";
    let rows = json(&simulate(&["--both", "--format", "json"], jail, 0))?;
    let differs: Vec<_> = rows.iter().map(|r| r["differs"].as_bool()).collect();
    same(
        "[Some(false), Some(true)]",
        &format!("{differs:?}"),
        "the address differs",
    )?;
    Ok(())
}

fn personality() -> Result<(), Failed> {
    let on = |system| -> Result<String, Failed> {
        let rows = json(&simulate(
            &["--personality", system, "--format", "json"],
            CONFLICT,
            0,
        ))?;
        let second = rows.get(5).ok_or("six calls")?;
        Ok(second["model"]["result"].to_string())
    };
    same("\"ok\"", &on("linux")?, "Linux shares by SO_REUSEADDR")?;
    same("\"EADDRINUSE\"", &on("freebsd")?, "FreeBSD does not")?;
    Ok(())
}

fn kernel(uid: u32) -> Result<(), Failed> {
    let seen = simulate(&["--kernel", "--format", "json"], CONFLICT, uid);
    same("exit 0", &seen.status, &seen.seen())?;
    let rows = json(&seen)?;
    same("11", &rows.len().to_string(), &seen.seen())?;
    for row in rows {
        same("false", &row["differs"].to_string(), &seen.seen())?;
        same(
            &row["model"].to_string(),
            &row["kernel"].to_string(),
            &seen.seen(),
        )?;
    }
    Ok(())
}

fn other_user() -> Result<(), Failed> {
    let script = "process web uid 33\nweb: s = socket tcp\n";
    let seen = simulate(&["--kernel"], script, NOBODY);
    same("exit 71", &seen.status, &seen.seen())?;
    if !seen.stdout.is_empty() || !seen.stderr.contains("process web: nobody but root") {
        return Err(seen.seen().into());
    }
    Ok(())
}

fn marked() -> Result<(), Failed> {
    let seen = simulate(&[], "\u{feff}host cid 7\ns = socket tcp\r\n", 0);
    same("exit 0", &seen.status, &seen.seen())?;
    Ok(())
}

/// The kernel tells one byte more of a path than sun_path has room for.
fn longest_path() -> Result<(), Failed> {
    let script = format!("u = socket unix\nbind u hex:0100{}\n", "78".repeat(108));
    let seen = simulate(&["--kernel"], &script, 0);
    same("exit 0", &seen.status, &seen.seen())?;
    Ok(())
}

fn differs() -> Result<(), Failed> {
    let script = "host kernel linux 2.6\ns = socket tcp\nset s SO_REUSEPORT on\n";
    let seen = simulate(&["--kernel"], script, 0);
    same("exit 1", &seen.status, &seen.seen())?;
    if !seen.stdout.contains("  ! kernel: ok") {
        return Err(seen.seen().into());
    }
    Ok(())
}

fn jailed() -> Result<(), Failed> {
    let seen = simulate(&["--kernel"], "jail j 10.0.0.1\ns = socket tcp\n", 0);
    same("exit 78", &seen.status, &seen.seen())?;
    if !seen.stderr.contains("jail j") || !seen.stdout.is_empty() {
        return Err(seen.seen().into());
    }
    Ok(())
}

fn unmet() -> Result<(), Failed> {
    let script = "s = socket tcp\nbind s 0.0.0.0:80   expect EACCES\n";
    let seen = simulate(&[], script, 0);
    same("exit 1", &seen.status, &seen.seen())?;
    if !seen.stdout.contains("  ! line 2: expected EACCES") {
        return Err(seen.seen().into());
    }
    Ok(())
}

/// Unknown is no error, meets no expectation and is no difference.
fn unknown() -> Result<(), Failed> {
    let script = "host kernel linux 6.18\nhost cid 3\ns = socket vsock\n\
                  connect s vsock:2:80   expect EOPNOTSUPP\n";
    let seen = simulate(&[], script, 0);
    same("exit 1", &seen.status, &seen.seen())?;
    let parts = [
        " unknown: what answers by vsock outside this host\n",
        "\n  ! line 4: expected",
    ];
    if !parts.iter().all(|part| seen.stdout.contains(part)) {
        return Err(seen.seen().into());
    }
    let seen = simulate(&["--both"], script, 0);
    let marked = |l: &str| l.starts_with("? ") && l.contains("unknown");
    if !seen.stdout.lines().any(marked) {
        return Err(seen.seen().into());
    }
    let rows = json(&simulate(&["--both", "--format", "json"], script, 0))?;
    let row = rows.last().ok_or("no rows")?;
    same("\"unknown\"", &row["model"]["result"].to_string(), "result")?;
    let reason = row["model"]["reason"].to_string();
    same(
        "\"what answers by vsock outside this host\"",
        &reason,
        "reason",
    )?;
    same("null", &row["differs"].to_string(), "differs")?;
    same("false", &row["met"].to_string(), "met")?;
    Ok(())
}

fn broken() -> Result<(), Failed> {
    for (script, words) in [
        (
            "s = socket tcp\nbnid s 0.0.0.0:80\n",
            &["line 2", "expected a call"][..],
        ),
        ("s = socket tpc\n", &["line 1", "tpc"]),
        ("bind s 0.0.0.0:80\n", &["line 1", "there is no socket 's'"]),
        ("p: s = socket tcp\n", &["line 1", "process p uid N"]),
        (
            "s = socket tcp\nbind s 10.0.0:80\n",
            &["line 2", "10.0.0:80"],
        ),
        (
            "s = socket tcp\nset s SO_REUSEADR on\n",
            &["line 2", "SO_REUSEADR"],
        ),
        (
            "sysctl net.ipv4.tcp_fin = 1\n",
            &["line 1", "net.ipv4.tcp_fin"],
        ),
        (
            "# x\nhost adress 10.0.0.1/24\n",
            &["line 2: unknown host setting 'adress'; expected"],
        ),
        (
            "host kernel lunix 9.9\n",
            &["line 1: unknown kernel 'lunix 9.9'", "linux 6.18"],
        ),
        (
            "s = socket tcp\nbind s 0.0.0.0:80 expect EADRINUSE\n",
            &["line 2", "'EADRINUSE' is neither ok"],
        ),
        (
            "process p uid 7 expect ok\n",
            &["line 1", "'expect' must follow a call"],
        ),
        (
            "process p uid 0 jail j\n",
            &["line 1", "there is no jail 'j'"],
        ),
        ("process p uid 0 with CAP_CHOWN\n", &["line 1", "CAP_CHOWN"]),
        ("jail j 10.0.0.1\njail j 10.0.0.2\n", &["line 2", "already"]),
        ("jail j 10.0.0\n", &["line 1", "10.0.0"]),
    ] {
        let seen = simulate(&[], script, 0);
        same("exit 78", &seen.status, &seen.seen())?;
        for word in words {
            if !seen.stderr.contains(word) || !seen.stdout.is_empty() {
                return Err(format!("{script}does not say {word:?}:\n{}", seen.seen()).into());
            }
        }
    }
    let missing = Run::new(&stage().launcher)
        .args(["simulate", "nowhere.sim"])
        .finish();
    same("exit 78", &missing.status, &missing.seen())?;
    Ok(())
}

/// A `#` within a word is none of a comment, and words may be far apart.
fn words() -> Result<(), Failed> {
    let script = "s = socket tcp\t# a comment\nbind s 127.0.0.1:80\t expect\tok #x\n\
                  t = socket unix\nbind t unix:@a#b expect unix:@a#b\n";
    let seen = simulate(&[], script, 0);
    same("exit 0", &seen.status, &seen.seen())?;
    if !seen.stdout.contains("unix:@a#b") {
        return Err(seen.seen().into());
    }
    Ok(())
}

/// Each script of `scripts/facts` says itself which kernel answers what.
fn facts() -> Result<(), Failed> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/facts");
    let mut played = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let seen = Run::new(&stage().launcher)
            .arg("simulate")
            .arg(&path)
            .finish();
        same(
            "exit 0",
            &seen.status,
            &format!("{}\n{}", path.display(), seen.seen()),
        )?;
        played += 1;
    }
    if played < 20 {
        return Err(format!("only {played} scripts").into());
    }
    Ok(())
}

/// What `bindgate explain` says to each call: its policy and its model line.
fn explain(run: Run, calls: &[(&str, &str, &str)]) -> Result<(), Failed> {
    let seen = run.args(calls.iter().map(|(call, ..)| call)).finish();
    same("exit 0", &seen.status, &seen.seen())?;
    let said = |call: &str, what: &str| {
        let mut lines = seen.stdout.lines();
        let at = lines.find(|l| l.starts_with(&format!("{call}   (uid ")));
        let block = at.map(|_| lines.take_while(|l| l.starts_with(' ')))?;
        let line = block
            .filter_map(|l| l.trim_start().strip_prefix(what))
            .next()?;
        Some(line.trim_start().to_owned())
    };
    for (call, policy, model) in calls {
        let of_policy = said(call, "policy").unwrap_or_default();
        let of_model = said(call, "model").unwrap_or_default();
        if !of_policy.starts_with(policy) || of_model != *model {
            return Err(format!("{call}: not {policy:?}, {model:?}\n{}", seen.seen()).into());
        }
    }
    Ok(())
}

fn explain_here() -> Result<(), Failed> {
    let run = Run::new(&stage().launcher).args(["explain", "--uid", "1000"]);
    let run = run.args(["-r", "move bind tcp *:82 to loopback:8082"]);
    explain(
        run,
        &[
            ("bind tcp 0.0.0.0:80", "allowed, by default", "EACCES"),
            (
                "bind tcp 0.0.0.0:82",
                "moved to 127.0.0.1:8082, by rule",
                "ok 127.0.0.1:8082",
            ),
            ("bind tcp 10.9.9.9:8000", "allowed", "EADDRNOTAVAIL"),
            ("bind unix unix:@name", "allowed", "ok unix:@name"),
        ],
    )
}

fn explain_described() -> Result<(), Failed> {
    let run = Run::new(&stage().launcher).args(["explain", "--uid", "1000"]);
    fs::write(
        run.dir().join("policy"),
        "host unprivileged-start 80\nhost address 10.9.9.9/24\nhost cid 7\n\
         deny bind tcp *:81\nmove bind tcp *:82 to loopback:8082\n",
    )?;
    explain(
        run.clone().args(["--policy", "policy"]),
        &[
            (
                "bind tcp 0.0.0.0:80",
                "allowed, by default",
                "ok 0.0.0.0:80",
            ),
            ("bind tcp 0.0.0.0:79", "allowed, by default", "EACCES"),
            (
                "bind tcp 0.0.0.0:81",
                "refused with EACCES, by rule: deny bind tcp *:81",
                "",
            ),
            (
                "bind tcp 0.0.0.0:82",
                "moved to 127.0.0.1:8082",
                "ok 127.0.0.1:8082",
            ),
            ("bind tcp 10.9.9.9:8000", "allowed", "ok 10.9.9.9:8000"),
            ("bind tcp 10.9.9.8:8000", "allowed", "EADDRNOTAVAIL"),
            ("bind vsock vsock:7:5000", "allowed", "ok vsock:7:5000"),
            ("bind vsock vsock:8:5000", "allowed", "EADDRNOTAVAIL"),
        ],
    )?;
    let privileged = run
        .clone()
        .args(["--policy", "policy", "-r", "host privileged"]);
    explain(
        privileged,
        &[("bind tcp 0.0.0.0:79", "allowed", "ok 0.0.0.0:79")],
    )?;
    let bsd = run.args(["--policy", "policy", "-r", "host personality freebsd"]);
    explain(
        bsd,
        &[("bind tcp 127.0.0.2:8000", "allowed", "EADDRNOTAVAIL")],
    )
}

/// What `run` would do, told beforehand: the rules, a call, words of the answer.
const AS_RUN: &[(&[&str], &str, &[&str])] = &[
    // The order of the command line is that of the rules.
    (
        &["-r", "deny bind tcp *:80", "-p", "policy"],
        "bind tcp 0.0.0.0:80",
        &["refused with EACCES, by rule: deny bind tcp *:80"],
    ),
    (
        &["-p", "policy", "-r", "deny bind tcp *:80"],
        "bind tcp 0.0.0.0:80",
        &["moved to 0.0.0.0:8080, by rule", "ok 0.0.0.0:8080"],
    ),
    (
        &["-r", "deny bind tcp *:8080", "-r", "mode observe"],
        "bind tcp 0.0.0.0:8080",
        &["only observed, would be refused", "ok 0.0.0.0:8080"],
    ),
    (
        &["-r", "note bind tcp *:8080"],
        "bind tcp 0.0.0.0:8080",
        &["allowed", "noted, by rule: note bind tcp *:8080"],
    ),
    (
        &["-r", "hide bind tcp *:80"],
        "bind tcp 0.0.0.0:80",
        &["hidden", "model     ok, where nobody can reach it"],
    ),
    (
        &["-r", "move bind tcp *:80 to [::1]:8080"],
        "bind tcp 0.0.0.0:80",
        &["moved to [::1]:8080", "result    EAFNOSUPPORT"],
    ),
    (
        &["-r", "move bind udp *:80 to unix:@%t"],
        "bind udp 0.0.0.0:80",
        &["moved to unix:@udp", "result    EOPNOTSUPP"],
    ),
    (
        &["-r", "move bind tcp *:80 to unix:@%t"],
        "bind tcp 0.0.0.0:80",
        &["moved to unix:@tcp", "a Unix socket takes"],
    ),
    (
        &["-r", "deny bind tcp *:8080 for nginx"],
        "bind tcp 0.0.0.0:8080",
        &["allowed, by default", "rules with 'for' were left out"],
    ),
    (
        &[
            "-r",
            "deny bind tcp *:8080 for nginx",
            "--program",
            "/usr/sbin/nginx",
        ],
        "bind tcp 0.0.0.0:8080",
        &["refused with EACCES"],
    ),
    (
        &["-r", "allow bind tcp *:*", "-r", "default deny"],
        "bind tcp 0.0.0.0:8080",
        &[
            "ok 0.0.0.0:8080",
            "listen    refused with EACCES, by default",
        ],
    ),
    // The file system is asked, and a name may be written as in a rule.
    (
        &["--uid", "0"],
        "bind unix policy",
        &["model     EADDRINUSE"],
    ),
    (
        &["--uid", "0"],
        "bind unix unix:no/x",
        &["model     ENOENT"],
    ),
    (&[], "bind unix @name", &["model     ok unix:@name"]),
    // What a run cannot carry out, with the words of its record.
    (
        &["-r", "hide bind netlink *"],
        "bind netlink netlink:0:0x0",
        &["result    EAFNOSUPPORT"],
    ),
    (
        &["-r", "move bind tcp *:80 to unix:policy"],
        "bind tcp 0.0.0.0:80",
        &[
            "EADDRINUSE: the target path is taken",
            "result    EADDRINUSE",
        ],
    ),
];

fn explain_as_run() -> Result<(), Failed> {
    let run = Run::new(&stage().launcher).arg("explain");
    fs::write(run.dir().join("policy"), "move bind tcp *:80 to *:8080\n")?;
    for (args, call, words) in AS_RUN {
        let seen = run.clone().args(*args).arg(call).finish();
        same("exit 0", &seen.status, &seen.seen())?;
        for word in *words {
            if !seen.stdout.contains(word) {
                return Err(format!("{args:?} {call}: no {word:?}\n{}", seen.seen()).into());
            }
        }
    }
    Ok(())
}

/// Every operation, for the caller and its capabilities; a call that cannot be
/// read keeps no other one from its answer.
fn explain_every_operation() -> Result<(), Failed> {
    let rules = [
        "deny socket raw with EPERM",
        "deny connect tcp *:9 with ENETUNREACH",
        "deny bind tcp *:81 user nobody",
        "deny listen tcp *:82",
    ];
    let run = Run::new(&stage().launcher)
        .arg("explain")
        .args(rules.iter().flat_map(|rule| ["-r", rule]));
    for (uid, call, result) in [
        (0, "socket raw", "EPERM"),
        (0, "socket tcp", "ok"),
        (0, "connect tcp 127.0.0.1:9", "ENETUNREACH"),
        (0, "connect tcp 127.0.0.1:10", "ECONNREFUSED"),
        (0, "bind tcp 127.0.0.1:81", "ok 127.0.0.1:81"),
        (NOBODY, "bind tcp 127.0.0.1:81", "EACCES"),
        (NOBODY, "bind tcp 127.0.0.1:83", "EACCES"),
        (0, "bind tcp 127.0.0.1:83", "ok 127.0.0.1:83"),
        (0, "bind tcp 10.9.9.9:83", "EADDRNOTAVAIL"),
        (0, "bind tcp 10.9.9.9:83 freebind", "ok 10.9.9.9:83"),
        (0, "bind tcp [::]:84 v6only", "ok [::]:84"),
        (0, "listen tcp 127.0.0.1:82", "EACCES"),
        (0, "listen tcp 127.0.0.1:83", "ok 127.0.0.1:83"),
        (0, "listen tcp", "ok 0.0.0.0:"),
    ] {
        let seen = run.clone().user(uid).arg(call).finish();
        same("exit 0", &seen.status, &seen.seen())?;
        let wanted = format!("  result    {result}");
        let is_met = |line: &str| match result.ends_with(':') {
            true => line.starts_with(&wanted),
            false => line == wanted,
        };
        if !seen.stdout.lines().any(is_met) {
            return Err(format!("{call} of {uid}: no '{wanted}'\n{}", seen.seen()).into());
        }
    }
    // Nobody has to quote a single call.
    let unquoted = run.clone().args(["bind", "tcp", "127.0.0.1:83"]);
    let seen = unquoted.user(0).finish();
    if !seen.stdout.contains("result    ok 127.0.0.1:83") {
        return Err(seen.seen().into());
    }
    let seen = run.args(["bind tcp nonsense", "socket raw"]).finish();
    if seen.status == "exit 0" || !seen.stdout.contains("result    EPERM") {
        return Err(seen.seen().into());
    }
    Ok(())
}

fn explain_broken() -> Result<(), Failed> {
    for (args, word) in [
        (&["bind tpc 0.0.0.0:80"][..], "tpc"),
        (&["bind tcp 0.0.0:80"], "0.0.0:80"),
        (&["-r", "dney bind tcp *:80", "bind tcp 0.0.0.0:80"], "dney"),
    ] {
        let seen = Run::new(&stage().launcher)
            .arg("explain")
            .args(args)
            .finish();
        if seen.status == "exit 0" || !seen.stderr.contains(word) {
            return Err(format!("{args:?}: {}", seen.seen()).into());
        }
    }
    Ok(())
}
