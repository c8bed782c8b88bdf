//! `bindgate wait`, and `bindgate run --ready`.

use libtest_mimic::{Failed, Trial};

use crate::{NAMESPACES, python};
use support::{
    NOBODY, Outcome, Process, Run, Way, compile_as, has_nobody, in_net, outside, same, stage, users,
};

pub fn trials() -> Vec<Trial> {
    let own =
        |name: &str, test: fn() -> Result<(), Failed>| outside(Trial::test(name, test), NAMESPACES);
    vec![
        Trial::test("wait: until it listens, in a run that is there", || {
            listens(Begins::Before)
        }),
        Trial::test("wait: until it listens, in a run that begins", || {
            listens(Begins::After)
        }),
        Trial::test("wait: where it listens already", || {
            listens(Begins::Listening)
        }),
        Trial::test("wait: of each family and kind", kinds),
        Trial::test("wait: where a rule has put it", moved),
        Trial::test("wait: a bind is not enough", bound_only),
        Trial::test("wait: the time is up, or the use wrong", refused),
        Trial::test("wait: the run ends", run_ends),
        Trial::test("wait: not for another user's run", others),
        own("wait: for a server in a sealed run", sealed),
        Trial::test("wait: for a program that makes no records", statics),
        Trial::test("wait: many at once, and some that go", many),
        Trial::test("wait: a listen is in no log but the whole one", logged),
        Trial::test("run --ready: returns when it listens", ready),
        Trial::test("run --ready: a program that never does", never_ready),
    ]
}

/// When the run begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// Before the wait, and listens after it was begun.
    Before,
    /// After the wait was begun.
    After,
    /// Before it, and listens by then.
    Listening,
}

/// A server in Python: binds, says `bound`, listens when it is told to by a signal, or at
/// once, says `listening` and stays.
fn server(family: &str, kind: &str, address: &str, user: u32) -> Run {
    let script = format!(
        "import os, signal, socket, sys\n\
         signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n\
         s = socket.socket(socket.{family}, socket.{kind})\n\
         print(os.environ['BINDGATE_RUN'][:16])\n\
         s.bind({address})\n\
         print('bound', flush=True)\n\
         if 'later' in sys.argv: signal.sigwait([signal.SIGUSR1])\n\
         if socket.{kind} != socket.SOCK_DGRAM: s.listen()\n\
         print('listening', flush=True)\n\
         signal.pause()\n"
    );
    let run = Run::new("python3").arg("-c").arg(script);
    run.user(user).way(Way::Run).launcher_arg("-q")
}

/// Each test has a port of its own: the runs of all tests are found.
fn tcp(user: u32, port: u16) -> Run {
    server(
        "AF_INET",
        "SOCK_STREAM",
        &format!("('127.0.0.1', {port})"),
        user,
    )
}

fn bindgate(words: &[&str], user: u32) -> Run {
    Run::new(&stage().launcher).args(words).user(user)
}

fn waiting(words: &[&str], user: u32) -> Run {
    let all: Vec<&str> = ["wait", "--timeout", "2m"]
        .iter()
        .chain(words)
        .copied()
        .collect();
    bindgate(&all, user)
}

fn end(process: Process) -> Result<Outcome, String> {
    process.signal(libc::SIGTERM);
    process.end()
}

fn listens(begins: Begins) -> Result<(), Failed> {
    let port = 20210 + begins as u16;
    let place = format!(":{port}");
    for user in users() {
        in_net(|| {
            let run = match begins {
                Begins::Before => tcp(user, port).arg("later"),
                _ => tcp(user, port),
            };
            let says = match begins {
                Begins::Before => "bound",
                _ => "listening",
            };
            let mut server = None;
            if begins != Begins::After {
                let mut process = run.spawn();
                process.says(says)?;
                server = Some(process);
            }
            let waiter = waiting(&["tcp", &place], user).spawn();
            let mut server = match server {
                Some(process) => process,
                None => run.spawn(),
            };
            if begins == Begins::Before {
                // Whether it has asked by then or not: it returns.
                server.signal(libc::SIGUSR1);
            }
            let seen = waiter.wait();
            server.says("listening")?;
            let server = end(server)?;
            let id = server.stdout.lines().next().unwrap_or_default().to_owned();
            let is_told = seen
                .stdout
                .starts_with(&format!("127.0.0.1{place}, python3"))
                && seen.stdout.ends_with(&format!(" in run {id}\n"));
            if !is_told || seen.status != "exit 0" {
                return Err(Failed::from(seen.seen()));
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What is waited for, and whether each server is it.
fn kinds() -> Result<(), Failed> {
    const STREAM: &str = "SOCK_STREAM";
    let servers = [
        ("AF_INET", STREAM, "('127.0.0.1', 20223)"),
        ("AF_INET", STREAM, "('0.0.0.0', 20223)"),
        ("AF_INET6", STREAM, "('::1', 20223)"),
        ("AF_INET6", STREAM, "('::', 20223)"),
        ("AF_INET", "SOCK_DGRAM", "('127.0.0.1', 20223)"),
        ("AF_UNIX", STREAM, "'server.sock'"),
        ("AF_UNIX", STREAM, "chr(0) + 'bindgate-wait'"),
    ];
    let places = [
        ("tcp :20223", [true, true, true, true, false, false, false]),
        (
            "tcp 127.0.0.1:20223",
            [true, true, false, true, false, false, false],
        ),
        (
            "tcp [::1]:20223",
            [false, false, true, true, false, false, false],
        ),
        (
            "tcp [::]:20223",
            [false, false, false, true, false, false, false],
        ),
        (
            "tcp exactly 0.0.0.0:20223",
            [false, true, false, false, false, false, false],
        ),
        (
            "udp :20223",
            [false, false, false, false, true, false, false],
        ),
        (
            "unix:server.sock",
            [false, false, false, false, false, true, false],
        ),
        (
            "unix:@bindgate-wait",
            [false, false, false, false, false, false, true],
        ),
        ("tcp :20224", [false; 7]),
    ];
    in_net(|| {
        for (n, (family, kind, address)) in servers.into_iter().enumerate() {
            let mut process = server(family, kind, address, 0).spawn();
            process.says("listening")?;
            for (place, is_it) in &places {
                let timeout = if is_it[n] { "2m" } else { "300ms" };
                let words = ["wait", "-q", "--timeout", timeout, place];
                let seen = bindgate(&words, 0).spawn().wait();
                let expected = if is_it[n] { "exit 0" } else { "exit 1" };
                same(
                    expected,
                    &seen.status,
                    &format!("{place}: {family} {address}"),
                )?;
            }
            end(process)?;
        }
        Ok(())
    })
}

fn moved() -> Result<(), Failed> {
    in_net(|| {
        for place in ["tcp :20227", "tcp :20225"] {
            let run = server("AF_INET", "SOCK_STREAM", "('0.0.0.0', 20227)", 0);
            let run = run
                .rule("move bind tcp *:20227 to 127.0.0.1:20225")
                .arg("later");
            let mut process = run.spawn();
            process.says("bound")?;
            let waiter = waiting(&[place], 0).spawn();
            process.signal(libc::SIGUSR1);
            let seen = waiter.wait();
            let expected = "0.0.0.0:20227, really at 127.0.0.1:20225, python3";
            if !seen.stdout.starts_with(expected) {
                return Err(format!("{place}\n{}", seen.seen()).into());
            }
            end(process)?;
        }
        // listen(2) alone: the kernel's choice is known when it has come back.
        let script = "import os, signal, socket\n\
                      signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n\
                      print(os.environ['BINDGATE_RUN'][:16], flush=True)\n\
                      signal.sigwait([signal.SIGUSR1])\ns = socket.socket()\ns.listen()\n\
                      print(s.getsockname()[1], flush=True)\nsignal.pause()\n";
        let run = Run::new("python3").arg("-c").arg(script).way(Way::Run);
        let mut process = run.launcher_arg("-q").spawn();
        process.says("\n")?;
        let id = process.stdout().trim().to_owned();
        let waiter = waiting(&["--run", &id, "tcp", "0.0.0.0:*"], 0).spawn();
        process.signal(libc::SIGUSR1);
        let seen = waiter.wait();
        let stdout = end(process)?.stdout;
        let port = stdout.lines().nth(1).unwrap_or_default();
        match seen.stdout.starts_with(&format!("0.0.0.0:{port}, ")) {
            true => Ok(()),
            false => Err(format!("{port}\n{}", seen.seen()).into()),
        }
    })
}

fn bound_only() -> Result<(), Failed> {
    in_net(|| {
        let mut process = tcp(0, 20214).arg("later").spawn();
        process.says("bound")?;
        let seen = bindgate(&["wait", "--timeout", "700ms", "tcp", ":20214"], 0)
            .spawn()
            .wait();
        same("exit 1", &seen.status, &seen.stderr)?;
        process.signal(libc::SIGUSR1);
        process.says("listening")?;
        let seen = waiting(&["tcp", ":20214"], 0).spawn().wait();
        end(process)?;
        Ok(same("exit 0", &seen.status, &seen.stderr)?)
    })
}

fn refused() -> Result<(), Failed> {
    in_net(|| {
        for (words, expected, status) in [
            (
                &["--timeout", "50ms", "tcp", ":1"][..],
                "nothing of any run of this user listens at tcp *:1 after 50ms",
                "exit 1",
            ),
            (&["tpc", ":1"], "unknown kind 'tpc'", "exit 2"),
            (&["tcp", "1"], "did you mean '*:1'?", "exit 2"),
            (
                &["tcp", ":1", "with", "EACCES"],
                "unexpected 'with'",
                "exit 2",
            ),
            (
                &["--timeout", "soon", "tcp", ":1"],
                "expected a time like 5s",
                "exit 2",
            ),
            (
                &["--run", "0123", "tcp", ":1"],
                "no run of this user begins like \"0123\"",
                "exit 2",
            ),
            (&[], "<PLACE>", "exit 2"),
        ] {
            let all: Vec<&str> = ["wait"].iter().chain(words).copied().collect();
            let seen = bindgate(&all, 0).spawn().wait();
            if !seen.stderr.contains(expected) || seen.status != status {
                return Err(format!("{words:?}\n{}", seen.seen()).into());
            }
        }
        Ok(())
    })
}

fn run_ends() -> Result<(), Failed> {
    in_net(|| {
        let mut process = tcp(0, 20216).spawn();
        process.says("listening")?;
        let id = process
            .stdout()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        let waiter = waiting(&["--run", &id, "tcp", ":9"], 0).spawn();
        end(process)?;
        let seen = waiter.wait();
        // It may have come too late to find it.
        let is_late = seen.status == "exit 2" && seen.stderr.contains("no run of this user");
        let is_told = seen.status == "exit 1"
            && seen.stderr == "bindgate: the run has ended, and nothing listened at tcp *:9\n";
        match is_late || is_told {
            true => Ok(()),
            false => Err(seen.seen().into()),
        }
    })
}

fn others() -> Result<(), Failed> {
    if !has_nobody() {
        return Ok(());
    }
    in_net(|| {
        let mut process = tcp(0, 20217).below(None).user(0).spawn();
        process.says("listening")?;
        let words = ["wait", "--timeout", "300ms", "tcp", ":20217"];
        let seen = bindgate(&words, NOBODY).spawn().wait();
        end(process)?;
        Ok(same("exit 1", &seen.status, &seen.stderr)?)
    })
}

fn sealed() -> Result<(), Failed> {
    let mut process = tcp(0, 20218)
        .launcher_arg("--isolate=sealed")
        .arg("later")
        .spawn();
    process.says("bound")?;
    let id = process
        .stdout()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    let waiter = waiting(&["--run", &id, "tcp", ":20218"], 0).spawn();
    process.signal(libc::SIGUSR1);
    let seen = waiter.wait();
    end(process)?;
    Ok(same("exit 0", &seen.status, &seen.stderr)?)
}

fn statics() -> Result<(), Failed> {
    let program = compile_as("tcp_echo_server", "static", &["-static"])?;
    in_net(|| {
        let waiter = waiting(&["tcp", ":20226"], 0).spawn();
        let run = Run::new(&program).arg("20226").way(Way::Run);
        let process = run.launcher_arg("-q").spawn();
        let seen = waiter.wait();
        end(process)?;
        Ok(same("exit 0", &seen.status, &seen.stderr)?)
    })
}

fn many() -> Result<(), Failed> {
    in_net(|| {
        let mut process = tcp(0, 20219).arg("later").spawn();
        process.says("bound")?;
        let waiters: Vec<_> = (0..12)
            .map(|_| waiting(&["tcp", ":20219"], 0).spawn())
            .collect();
        for waiter in waiters.iter().step_by(3) {
            waiter.signal(libc::SIGKILL);
        }
        process.signal(libc::SIGUSR1);
        for (n, waiter) in waiters.into_iter().enumerate() {
            let seen = waiter.wait();
            if n % 3 != 0 && seen.status != "exit 0" {
                return Err(seen.seen().into());
            }
        }
        end(process)?;
        Ok(())
    })
}

/// What the log says of a listen that somebody has waited for.
fn logged() -> Result<(), Failed> {
    in_net(|| {
        for format in ["text", "json"] {
            let run = tcp(0, 20220).arg("later");
            let log = run.dir().join("log");
            let run = run.launcher_arg("--log").launcher_arg(&log);
            let run = run.launcher_arg("--format").launcher_arg(format);
            let mut process = run.spawn();
            process.says("bound")?;
            let waiter = waiting(&["tcp", ":20220"], 0).spawn();
            // Until it has asked: the run says so by nothing but its answer.
            let id = process
                .stdout()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            support::until("it waits", || {
                let socket = format!("@bindgate/{id}");
                let all = std::fs::read_to_string("/proc/thread-self/net/unix").ok()?;
                let ends = all.lines().filter(|line| line.ends_with(&socket)).count();
                (ends > 1).then_some(())
            })?;
            process.signal(libc::SIGUSR1);
            same("exit 0", &waiter.wait().status, "the wait")?;
            end(process)?;
            let text = std::fs::read_to_string(&log)?;
            if text.contains("listen") {
                return Err(text.into());
            }
        }
        Ok(())
    })
}

fn ready() -> Result<(), Failed> {
    for user in users() {
        in_net(|| {
            let run = python(
                "import os, signal, socket\ns = socket.socket()\ns.bind(('127.0.0.1', 20221))\n\
                 open('pid', 'w').write(str(os.getpid()))\ns.listen()\nsignal.pause()\n",
            );
            let run = run.user(user).way(Way::Run).launcher_arg("-q");
            let run = run.launcher_arg("--ready").launcher_arg("tcp :20221");
            let dir = run.dir().to_owned();
            let process = run.spawn();
            support::until("the launcher returns", || {
                let tried = std::net::TcpStream::connect("127.0.0.1:20221");
                tried.is_ok().then_some(())
            })?;
            let pid: i32 = std::fs::read_to_string(dir.join("pid"))?.parse()?;
            // SAFETY: a signal to a program of this test.
            unsafe { libc::kill(pid, libc::SIGTERM) };
            let seen = process.wait();
            same("exit 0\n", &seen.seen(), "the launcher")?;
            Ok::<(), Failed>(())
        })?;
    }
    Ok(())
}

fn never_ready() -> Result<(), Failed> {
    let run = |words: &[&str], program: &str| {
        let run = Run::new("sh").arg("-c").arg(program).way(Way::Run);
        let run = words
            .iter()
            .fold(run.launcher_arg("-q"), |run, word| run.launcher_arg(word));
        run.spawn().wait()
    };
    let seen = run(&["--ready", "tcp :20222"], "exit 3");
    let ended = "bindgate: the program has ended before it listened at tcp *:20222";
    same(
        &format!("stderr| {ended}\nexit 3\n"),
        &seen.seen(),
        "exit 3",
    )?;
    let seen = run(&["--ready", "tcp :20222"], "exit 0");
    same(
        &format!("stderr| {ended}\nexit 1\n"),
        &seen.seen(),
        "exit 0",
    )?;
    let seen = run(
        &["--ready", "tcp :20222", "--ready-timeout", "200ms"],
        "exec sleep 600",
    );
    let late =
        "bindgate: the program did not listen at tcp *:20222 within 200ms: it is told to end";
    same(&format!("stderr| {late}\nexit 1\n"), &seen.seen(), "sleep")?;
    let seen = run(&["--ready", "tpc :20222"], "exit 0");
    same("exit 2", &seen.status, "tpc")?;
    Ok(())
}
