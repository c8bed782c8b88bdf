//! Below a filter that was there before, as in a container: the rules hold, and
//! what is lost is said.

use libtest_mimic::{Failed, Trial};

use support::{Below, NOBODY, Run, Way, compile, has_nobody, helper, same, stage};

const REDIRECT: &str = "move bind tcp *:8080 to loopback:18080";
const REDIRECTED: &str = "bind: ok\n\
                          name: 0.0.0.0:8080 (16 bytes)\n\
                          real name: 127.0.0.1:18080\n\
                          listen: ok\n";
const REFUSED: &str = "bind: EACCES\n";
/// Nobody can reach it, and it does not know.
const HIDDEN: &str = "bind: ok\n\
                      name: 0.0.0.0:8080 (16 bytes)\n\
                      real name: 127.0.0.1:PORT\n\
                      listen: ok\n";
const ALLOWED: &str = "bind: ok\n\
                       name: 0.0.0.0:8080 (16 bytes)\n\
                       real name: 0.0.0.0:8080\n\
                       listen: ok\n";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("below a filter: doctor", doctor),
        Trial::test("below a filter: run says what is lost", run_says),
        Trial::test("below a filter: no other kernel to ask", no_kernel),
        Trial::test("below a filter: a new root without /proc", new_root),
        Trial::test("below a filter: without a launcher", standalone),
        Trial::test("below a filter that forbids a call", forbidden),
    ];
    for below in [Below::Open, Below::Docker] {
        let name = format!("below a filter: {below:?}");
        trials.push(Trial::test(name, move || rules_hold(below)));
    }
    trials
}

fn binds(port: &str) -> Result<Run, String> {
    Ok(Run::new(compile("binds_and_listens", &[])?).arg(port))
}

fn rules_hold(below: Below) -> Result<(), Failed> {
    let statics = compile("unseen_static", &["-static"])?;
    for user in [0, NOBODY] {
        if user != 0 && !has_nobody() {
            continue;
        }
        let under = |run: Run| run.user(user).way(Way::Run).below(Some(below));
        let of_user = format!("deny bind tcp *:8080 user {user}");
        let listens = [
            "allow bind tcp *:8080",
            "allow listen tcp 0.0.0.0:8080",
            "default deny",
        ];
        let other = [listens[0], "allow listen tcp 127.0.0.1:8080", listens[2]];
        let refused = ALLOWED.replace("listen: ok", "listen: EACCES");
        let cases = [
            ("8080", &[REDIRECT][..], REDIRECTED),
            ("8080", &["hide bind tcp *:8080"], HIDDEN),
            ("8080", &[&of_user], REFUSED),
            ("8080", &listens, ALLOWED),
            ("8080", &other, &refused),
            ("0", &["default deny for bind"], "listen: EACCES\n"),
        ];
        for (port, rules, expected) in cases {
            let outcome = under(binds(port)?).rules(rules).finish();
            let seen = format!("{rules:?}, as user {user}:\n{}", outcome.seen());
            same(expected, &without_port(&outcome.stdout), &seen)?;
        }
        let static_child = Run::new("sh")
            .args(["-c", r#""$0"; echo $?"#])
            .arg(&statics);
        let outcome = under(static_child).rule("deny bind any *:*").logged();
        let outcome = outcome.finish();
        same("126\n", &outcome.stdout, &outcome.seen())?;
        let records = outcome.records();
        let execs = records.iter().filter(|r| r.is("exec", "deny"));
        let reasons: Vec<_> = execs.map(|r| r.text("reason")).collect();
        same("static", &reasons.join(" "), "why the child is refused")?;
    }
    Ok(())
}

/// A real port that the kernel has chosen is any.
fn without_port(said: &str) -> String {
    let mut text = String::new();
    for line in said.split_inclusive('\n') {
        match line.strip_prefix("real name: 127.0.0.1:") {
            Some(port) if !REDIRECTED.contains(line) && port.trim().parse::<u16>().is_ok() => {
                text += "real name: 127.0.0.1:PORT\n";
            }
            _ => text += line,
        }
    }
    text
}

fn doctor() -> Result<(), Failed> {
    let run = Run::new(&stage().launcher).args(["doctor", "--", "sh"]);
    for (below, words) in [
        (Below::Open, "nothing is lost"),
        (Below::Docker, "AF_VSOCK sockets cannot be made;"),
    ] {
        let outcome = run.clone().below(Some(below)).finish();
        for words in ["as in a container", words] {
            if !outcome.stdout.contains(words) {
                return Err(format!("{below:?}: not {words:?}:\n{}", outcome.seen()).into());
            }
        }
    }
    // Also where the kernel makes none.
    let rule = "move bind vsock *:9 to unix:@x";
    let run = Run::new(&stage().launcher).args(["explain", "-r", rule, "socket vsock"]);
    let outcome = run.user(0).below(Some(Below::NoVsock)).finish();
    let expected = "socket vsock   (uid 0)\n  \
                    policy    allowed, by default   [security_socket_create]\n  \
                    model     a Unix socket is made in its place\n  \
                    result    ok\n";
    same(expected, &outcome.stdout, &outcome.seen())?;
    Ok(())
}

/// Where one wants to know everything; else only what the policy needs.
fn run_says() -> Result<(), Failed> {
    let run = Run::new("true").way(Way::Run).rule(REDIRECT);
    for (below, words) in [
        (Below::Open, "1 filter is there, as in a container; it lets"),
        (
            Below::Docker,
            "1 filter is there, as in a container; this is",
        ),
    ] {
        let run = run.clone().below(Some(below));
        same("exit 0\n", &run.finish().seen(), "nothing that is needed")?;
        let outcome = run.launcher_arg("--verbose").finish();
        let begins = format!("bindgate: seccomp: {words}");
        if !outcome.stderr.starts_with(&begins) {
            return Err(format!("not {begins:?}:\n{}", outcome.seen()).into());
        }
    }
    let outcome = run.below(None).launcher_arg("--verbose").finish();
    if outcome.stderr.contains("seccomp") {
        return Err(outcome.seen().into());
    }
    Ok(())
}

/// `simulate --kernel` makes a network namespace.
fn no_kernel() -> Result<(), Failed> {
    let run = Run::new(&stage().launcher).args(["simulate", "--kernel", "a.sim"]);
    std::fs::write(run.dir().join("a.sim"), "s = socket tcp\n")?;
    let outcome = run.below(Some(Below::Docker)).finish();
    let expected = "stderr| bindgate: --kernel needs a network namespace of its own, which \
                    containers forbid: Operation not permitted\nexit 71\n";
    same(expected, &outcome.seen(), "below Docker's filter")?;
    Ok(())
}

/// What is started there cannot count its filters: the daemon does. Limit: it
/// is asked only where the policy enforces.
fn new_root() -> Result<(), Failed> {
    let run = Run::new(compile("new_root", &[])?).arg("chroot").user(0);
    let run = run.below(Some(Below::Docker)).logged();
    let run = run.rule("deny bind tcp *:8080");
    let run = run.rule("move bind tcp *:8081 to loopback:18081");
    let outcome = run.clone().way(Way::Run).finish();
    let expected = "stdout| bind: EACCES\n\
                    stdout| moved: ok\n\
                    stdout| after exec: EACCES\n\
                    stdout| name after exec: 127.0.0.1:8081 (16 bytes)\n\
                    exit 0\n";
    same(expected, &outcome.seen(), "where the policy enforces")?;
    // Nothing is asked below one of the program's own.
    let outcome = run.fresh().logged().way(Way::Run).arg("filtered").finish();
    let expected = expected.replace("exec: 127.0.0.1:8081", "exec: 127.0.0.1:18081");
    same(
        &expected,
        &outcome.seen(),
        "with a filter of its own besides",
    )?;
    let outcome = run.fresh().logged().way(Way::Observe).finish();
    same("exit 0", &outcome.status, &outcome.seen())?;
    let records = outcome.records();
    let binds = records.iter().filter(|r| r.text("call") == "bind").count();
    same("2", &binds.to_string(), "binds before the exec alone")?;
    Ok(())
}

/// The first process of a pid name space is under the filter, as that of a
/// container is.
fn standalone() -> Result<(), Failed> {
    let program = compile("binds_and_listens", &[])?;
    let library = stage().library.display();
    let script = format!("LD_PRELOAD={library} \"$0\" 8080");
    for (rule, expected) in [
        (REDIRECT, REDIRECTED),
        ("deny bind tcp *:8080 user 0", REFUSED),
    ] {
        let outcome = Run::new("unshare")
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(helper("below")?)
            .args(["open", "0", "sh", "-c", &script])
            .arg(&program)
            .user(0)
            .below(None)
            .env("BINDGATE_RULES", rule)
            .finish();
        same(expected, &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

/// What needs the call is refused, the program lives, and the launcher says
/// what is lost if the policy needs it.
fn forbidden() -> Result<(), Failed> {
    let forbid = |how: &str, number: libc::c_long, rule: &str| {
        let run = Run::new(helper("forbid")?)
            .arg(how)
            .arg(number.to_string())
            .arg(&stage().launcher)
            .args(["run", "-r", rule, "--"])
            .arg(compile("binds_and_listens", &[])?)
            .arg("8080");
        Ok::<_, String>(run.finish())
    };
    for (how, number) in [
        ("kill", libc::SYS_getsockopt),
        ("refuse", libc::SYS_getsockopt),
        ("refuse", libc::SYS_setsockopt),
        ("refuse", libc::SYS_process_vm_writev),
    ] {
        let outcome = forbid(how, number, REDIRECT)?;
        same(REFUSED, &outcome.stdout, &outcome.seen())?;
        if !outcome.stderr.contains("cannot be redirected") {
            return Err(outcome.seen().into());
        }
    }
    // Not needed, so nothing is said.
    let outcome = forbid("refuse", libc::SYS_unlinkat, "note bind udp *:1")?;
    if outcome.stderr.contains("warning") {
        return Err(outcome.seen().into());
    }
    same("exit 0", &outcome.status, &outcome.seen())?;
    Ok(())
}
