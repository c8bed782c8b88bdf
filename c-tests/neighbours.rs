//! Beside other libraries that stand between a program and libc, and in
//! programs that check themselves.

use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use support::{self, BINDGATE, Run, Way, compile, outside, same, stage};

const RULE: &str = "deny bind tcp *:8080";

/// What the program says under the rule.
const EXPECTED: &str = "main\nforbidden: EACCES\nallowed: ok\nclose: ok\n\
                        child\nforbidden: EACCES\nallowed: ok\nclose: ok\n\
                        bind: ok\nlisten: ok\nconnect: ok\naccept: ok\n";

const LIBRARIES: [(&str, &str); 3] = [
    ("jemalloc", "libjemalloc.so.2"),
    ("faketime", "faketime/libfaketime.so.1"),
    ("socket_wrapper", "libsocket_wrapper.so"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for order in ["behind", "before"] {
        for (name, file) in LIBRARIES {
            let title = format!("neighbours: {name} {order} bindgate");
            let dir = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            let path = Path::new(&dir).join(file);
            trials.push(match path.exists() {
                true => Trial::test(title, move || beside(&path, order)),
                false => support::skipped(&title, &format!("{file} is not installed")),
            });
        }
        let title = format!("neighbours: a copy {order} bindgate");
        trials.push(Trial::test(title, move || {
            let copy = stage().library.with_file_name(format!("copy-{order}.so"));
            fs::copy(&stage().library, &copy)?;
            beside(&copy, order)
        }));
    }
    for sanitizer in ["address", "thread", "undefined"] {
        let title = format!("neighbours: a program with -fsanitize={sanitizer}");
        trials.push(Trial::test(title, move || sanitized(sanitizer)));
    }
    let title = "neighbours: valgrind";
    trials.push(match support::which("valgrind") {
        Some(_) => outside(
            Trial::test(title, valgrind),
            "valgrind remarks on the trial of the calls",
        ),
        None => support::skipped(title, "valgrind is not installed"),
    });
    let title = "neighbours: a kernel without process_vm_writev";
    trials.push(match support::which("strace") {
        Some(_) => outside(
            Trial::test(title, no_writev),
            "the trial of the calls finds it out: `below a filter that forbids a call`",
        ),
        None => support::skipped(title, "strace is not installed"),
    });
    trials
}

/// Where the name of a moved socket is to be written cannot be tried then: it
/// is not written.
fn no_writev() -> Result<(), Failed> {
    let rule = "move bind tcp *:8080 to loopback:18080";
    let preload = format!("LD_PRELOAD={}", support::stage().library.display());
    let refuse = "inject=process_vm_writev:error=ENOSYS";
    let strace = Run::new("strace").args(["-f", "-qq", "-o", "trace", "-e", refuse]);
    let strace = strace
        .args(["-E", &preload, "-E"])
        .arg(format!("BINDGATE_RULES={rule}"));
    let run = Run::new(compile("limit_filtered_name", &[])?).arg("18080");
    let outcome = run.under(&strace).finish();
    let expected = "stdout| bind: ok\n\
                    stdout| name: EFAULT\n\
                    stdout| name behind the filter: 127.0.0.1:18080 (16 bytes)\n\
                    stdout| name of what it accepted: 127.0.0.1:18080 (16 bytes)\n\
                    stdout| the client's peer: 127.0.0.1:18080 (16 bytes)\n\
                    exit 0\n";
    Ok(same(
        expected,
        &outcome.seen(),
        "without process_vm_writev",
    )?)
}

fn check(run: &Run) -> Result<(), Failed> {
    let outcome = run.finish();
    same("exit 0", &outcome.status, &outcome.seen())?;
    same(EXPECTED, &outcome.stdout, &outcome.seen())?;
    // valgrind remarks on the question whether an address can be read.
    let is_remark = |line: &&str| line.ends_with("sigprocmask: unknown 'how' field -1");
    let errors: String = outcome.stderr.lines().filter(|l| !is_remark(l)).collect();
    same("", &errors, "stderr")?;
    let denied = outcome
        .records()
        .iter()
        .filter(|r| r.is("bind", "deny"))
        .count();
    if denied < 2 {
        return Err(format!("{denied} refusals in the log").into());
    }
    Ok(())
}

fn beside(library: &Path, order: &str) -> Result<(), Failed> {
    let library = library.to_str().unwrap();
    let list = match order {
        "before" => format!("{library}:{BINDGATE}"),
        _ => format!("{BINDGATE}:{library}"),
    };
    let run = Run::new(compile("neighbours", &[])?);
    let run = run.way(Way::Preload).env("LD_PRELOAD", list).logged();
    if library.contains("socket_wrapper") {
        // Its sockets are Unix sockets: rules about TCP are not about them,
        // and the program sees what it sees without us.
        let plain = Run::new(compile("neighbours", &[])?).env("LD_PRELOAD", library);
        let plain = plain
            .clone()
            .env("SOCKET_WRAPPER_DIR", plain.dir())
            .finish();
        let run = run.rule(RULE);
        let ours = run.clone().env("SOCKET_WRAPPER_DIR", run.dir()).finish();
        return Ok(same(&plain.seen(), &ours.seen(), "beside socket_wrapper")?);
    }
    check(&run.rule(RULE))
}

fn sanitized(sanitizer: &str) -> Result<(), Failed> {
    let flag = format!("-fsanitize={sanitizer}");
    let program = support::compile_as("neighbours", &flag, &[&flag])?;
    // ASan wants to be the first library; what it loses by not being it is to
    // see through our functions.
    let options = "verify_asan_link_order=0";
    for way in [Way::Preload, Way::Run] {
        let run = Run::new(&program).way(way).rule(RULE).logged();
        check(&run.env("ASAN_OPTIONS", options))?;
    }
    Ok(())
}

fn valgrind() -> Result<(), Failed> {
    let program = compile("neighbours", &[])?;
    let run = Run::new("valgrind")
        .args(["-q", "--error-exitcode=9"])
        .arg(program);
    // Its own tool is a static program.
    let run = run.env("BINDGATE_OPTIONS", "allow-unintercepted");
    check(&run.way(Way::Preload).rule(RULE).logged())
}
