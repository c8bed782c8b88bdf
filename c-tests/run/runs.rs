//! `bindgate ls` and `bindgate exec`: what is bound in a run, and a command in
//! it.

use std::fs;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::NAMESPACES;
use support::{
    NOBODY, Outcome, Process, Run, Way, compile, compile_as, has_nobody, in_net, outside, same,
    stage, until, users,
};

pub fn trials() -> Vec<Trial> {
    let own =
        |name: &str, test: fn() -> Result<(), Failed>| outside(Trial::test(name, test), NAMESPACES);
    vec![
        Trial::test("ls: what is bound, and by which rule", || bound(false)),
        own("ls: what is bound in a sealed run", || bound(true)),
        own("ls: static programs in a sealed run", statics),
        Trial::test("ls: as people read it", text),
        Trial::test("ls: only one's own runs", others),
        Trial::test("ls: a killed log process leaves nothing", killed),
        Trial::test("ls: a stopped log process is named", stopped),
        Trial::test("ls: again when something has changed", watched),
        Trial::test("ls: the end of a run, as JSON", ended),
        Trial::test("ls: many ask at once", many),
        Trial::test("ls: names with line feeds", line_feeds),
        own("ls: what a sealed run was given from outside", inherited),
        Trial::test("ls: a vsock host", vsock_host),
        Trial::test("ls: a number is another socket's by now", number_again),
        own("ls: from another network", elsewhere),
        Trial::test(
            "exec: under the policy and in the state of the run",
            commands,
        ),
        own("exec: in the network of a sealed run", sealed_commands),
        Trial::test("exec: what is refused", refused),
    ]
}

/// A run whose program, in Python, says `ready` and stays until it is told to
/// end.
fn staying(script: &str, user: u32) -> Run {
    let script = format!(
        "import os, signal, socket, sys\nprint(os.environ['BINDGATE_RUN'][:16])\n{script}\n\
         print('ready', flush=True)\nsignal.pause()\n"
    );
    let run = Run::new("python3").arg("-c").arg(script);
    run.user(user).way(Way::Run).logged()
}

/// Starts it; its id.
fn started(run: &Run) -> Result<(Process, String), String> {
    let mut process = run.spawn();
    process.says("ready")?;
    let id = process
        .stdout()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    Ok((process, id))
}

fn bindgate(words: &[&str], user: u32) -> Outcome {
    let run = Run::new(&stage().launcher).args(words).user(user);
    run.spawn().wait()
}

/// The run with this id.
fn listed(id: &str, user: u32) -> Result<Value, String> {
    let outcome = bindgate(&["ls", "--json", id], user);
    serde_json::from_str(&outcome.stdout).map_err(|e| format!("{e}:\n{}", outcome.seen()))
}

/// Kind, address, real address, state, number of processes, rule, options,
/// whether recorded.
fn sockets(run: &Value) -> String {
    let mut lines: Vec<String> = Vec::new();
    for s in run["sockets"].as_array().into_iter().flatten() {
        let word = |name: &str| s[name].as_str().unwrap_or("-").to_owned();
        let options = s["options"].as_array().map_or("-".into(), |all| {
            let all: Vec<_> = all.iter().filter_map(Value::as_str).collect();
            all.join("+")
        });
        lines.push(format!(
            "{} {} {} {} {} {} [{options}] {}\n",
            word("kind"),
            word("address"),
            word("real"),
            word("state"),
            s["pids"].as_array().map_or(0, Vec::len),
            s["rule"]["number"],
            s["recorded"],
        ));
    }
    lines.sort();
    lines.concat()
}

const BINDS: &str = "
kept = []
def bind(family, kind, address, *options, listen=True):
    s = socket.socket(family, kind)
    kept.append(s)
    for option in options:
        s.setsockopt(*option, 1)
    s.bind(address)
    if listen and kind != socket.SOCK_DGRAM:
        s.listen()
four, six, unix = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX
tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
port = (socket.SOL_SOCKET, socket.SO_REUSEPORT)
bind(four, tcp, ('0.0.0.0', 20180))
bind(six, tcp, ('::', 20181))
bind(four, tcp, ('127.0.0.1', 20182), port)
bind(four, tcp, ('127.0.0.1', 20182), port)
bind(four, udp, ('127.0.0.1', 20183))
bind(unix, tcp, chr(0) + 'bindgate-ls-' + str(os.getpid()))
bind(unix, tcp, 'socket')
bind(socket.AF_VSOCK, tcp, (socket.VMADDR_CID_ANY, 5000))
# Closed: not there any more.
bind(four, tcp, ('127.0.0.1', 20184))
kept.pop().close()
# Another one has the address by then.
bind(four, udp, ('127.0.0.1', 20185))
kept.pop().close()
# A connection is nothing that is bound, nor is what has been accepted.
client = socket.create_connection(('127.0.0.1', 20182))
if os.fork() == 0:
    for s in kept[1:]:
        s.close()
    signal.pause()
";

fn bound(is_sealed: bool) -> Result<(), Failed> {
    for user in users() {
        let mut run = staying(BINDS, user).rules([
            "move bind tcp *:20180 to loopback:20190",
            "move bind vsock *:5000 to unix:$DIR/vsock",
            "allow bind udp *:20183",
        ]);
        if is_sealed {
            run = run.launcher_arg("--isolate=sealed");
        }
        let dir = run.dir().display().to_string();
        let (process, run) = in_net(|| {
            let (process, id) = started(&run)?;
            let _other = std::net::UdpSocket::bind("127.0.0.1:20185");
            // The child closes what it has inherited.
            let run = until("the child has closed its sockets", || {
                let run = listed(&id, user).ok()?;
                sockets(&run)
                    .contains("20181 [::]:20181 listening 1")
                    .then_some(run)
            });
            Ok::<_, String>((process, run.or_else(|_| listed(&id, user))?))
        })?;
        process.signal_group(libc::SIGTERM);
        let expected = format!(
            "tcp 0.0.0.0:20180 127.0.0.1:20190 listening 2 1 [] true\n\
             tcp 127.0.0.1:20182 127.0.0.1:20182 listening 1 0 [reuseport] true\n\
             tcp 127.0.0.1:20182 127.0.0.1:20182 listening 1 0 [reuseport] true\n\
             tcp [::]:20181 [::]:20181 listening 1 0 [] true\n\
             udp 127.0.0.1:20183 127.0.0.1:20183 bound 1 3 [] true\n\
             unix unix:@bindgate-ls-PID unix:@bindgate-ls-PID listening 1 0 [] true\n\
             unix unix:socket unix:socket listening 1 0 [] true\n\
             vsock vsock:-1:5000 unix:{dir}/vsock listening 1 2 [] true\n"
        );
        let pid = run["pid"].to_string();
        let seen = sockets(&run).replace(&format!("ls-{pid}"), "ls-PID");
        let seen = seen
            .replace("vsock:any:", "vsock:-1:")
            .replace("vsock:*:", "vsock:-1:");
        same(&expected, &seen, &format!("as user {user}: {run}"))?;
        let isolate = if is_sealed { "\"sealed\"" } else { "null" };
        same(isolate, &run["isolate"].to_string(), "the network")?;
        same("2", &run["processes"].to_string(), "the processes")?;
        let uid = run["uid"].to_string();
        same(&user.to_string(), &uid, "the user")?;
        let since = run["sockets"][0]["since"].as_str().unwrap_or_default();
        if since.len() != "2026-11-30T14:44:33.858360Z".len() {
            return Err(format!("since {since}").into());
        }
        let outcome = process.wait();
        same("signal 15", &outcome.status, &outcome.seen())?;
    }
    Ok(())
}

/// No record tells of them.
fn statics() -> Result<(), Failed> {
    let program = compile_as("tcp_echo_server", "_static", &["-static"])?;
    let script = format!("echo $BINDGATE_RUN; exec {} 80", program.display());
    for user in users() {
        let run = Run::new("sh")
            .arg("-c")
            .arg(&script)
            .user(user)
            .way(Way::Run);
        let run = run.launcher_arg("--isolate=sealed").logged();
        let (process, run) = in_net(|| {
            let mut process = run.spawn();
            process.says("listening on")?;
            let id = process.stdout().get(..16).unwrap_or_default().to_owned();
            Ok::<_, String>((process, listed(&id, user)?))
        })?;
        process.signal(libc::SIGTERM);
        let outcome = process.wait();
        let expected = "tcp 0.0.0.0:80 0.0.0.0:80 listening 1 null [-] false\n";
        same(
            expected,
            &sockets(&run),
            &format!("{run}\n{}", outcome.seen()),
        )?;
    }
    Ok(())
}

fn text() -> Result<(), Failed> {
    let script = "s = socket.socket(); s.bind(('127.0.0.1', 20180)); s.listen()";
    let run = staying(script, 0).rule("move bind tcp *:20180 to loopback:20190");
    in_net(|| {
        let (process, id) = started(&run)?;
        let outcome = bindgate(&["ls", &id[..12]], 0);
        let mut seen = String::new();
        for line in outcome.stdout.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            seen += &words.join(" ");
            seen.push('\n');
        }
        let heads = "KIND ADDRESS REALLY AT STATE PIDS PROGRAM SINCE RULE OPTIONS\n";
        let begins = format!("run {id} since ");
        let row = "tcp 127.0.0.1:20180 127.0.0.1:20190 listening ";
        if !seen.starts_with(&begins) || !seen.contains(heads) || !seen.contains(row) {
            return Err(outcome.seen());
        }
        let missing = bindgate(&["ls", "surely-no-run"], 0);
        same("exit 1", &missing.status, &missing.seen())?;
        // What nobody has asked for is not shown.
        let ids = bindgate(&["ls", "--json", &id], 0).stdout;
        same("1", &ids.lines().count().to_string(), "one run")?;
        process.signal(libc::SIGTERM);
        process.wait();
        let after = bindgate(&["ls", &id], 0);
        same("exit 1", &after.status, &after.seen())
    })?;
    Ok(())
}

fn others() -> Result<(), Failed> {
    if !has_nobody() {
        return Ok(());
    }
    in_net(|| {
        let (process, id) = started(&staying("", NOBODY))?;
        let seen: Vec<_> = [0, NOBODY, 1]
            .map(|user| bindgate(&["ls", "--json", &id], user).status)
            .into();
        process.signal(libc::SIGTERM);
        process.wait();
        same(
            "exit 0, exit 0, exit 1",
            &seen.join(", "),
            "root, the same, another",
        )
    })?;
    Ok(())
}

/// The daemon of a run.
fn daemon(id: &str) -> Result<i32, String> {
    let run = listed(id, 0)?;
    let pid = run["daemon"].as_i64().and_then(|pid| pid.try_into().ok());
    pid.ok_or_else(|| format!("no daemon: {run}"))
}

fn killed() -> Result<(), Failed> {
    in_net(|| {
        let (process, id) = started(&staying("", 0))?;
        // SAFETY: the log process of this run, which nobody else ends.
        unsafe { libc::kill(daemon(&id)?, libc::SIGKILL) };
        until("it is not listed any more", || {
            let outcome = bindgate(&["ls", &id], 0);
            (outcome.status == "exit 1").then_some(())
        })?;
        let outcome = bindgate(&["exec", &id, "true"], 0);
        same("exit 1", &outcome.status, &outcome.seen())?;
        process.signal(libc::SIGTERM);
        process.wait();
        Ok::<_, String>(())
    })?;
    Ok(())
}

/// The others are listed all the same.
fn stopped() -> Result<(), Failed> {
    in_net(|| {
        let (first, id) = started(&staying("", 0))?;
        let (second, other) = started(&staying("", 0))?;
        let daemon = daemon(&id)?;
        // SAFETY: the log process of this run, which goes on afterwards.
        unsafe { libc::kill(daemon, libc::SIGSTOP) };
        let outcome = bindgate(&["ls", &id, &other], 0);
        // SAFETY: as above.
        unsafe { libc::kill(daemon, libc::SIGCONT) };
        for process in [first, second] {
            process.signal(libc::SIGTERM);
            process.wait();
        }
        let says = format!("run {id}: its log process does not answer");
        if !outcome.stderr.contains(&says) || !outcome.stdout.contains(&other) {
            return Err(outcome.seen());
        }
        Ok(())
    })?;
    Ok(())
}

fn watched() -> Result<(), Failed> {
    let script = "def more(*_):\n  s = socket.socket(); s.bind(('127.0.0.1', 20181)); kept.append(s)\n\
                  kept = []\nsignal.signal(signal.SIGUSR1, more)";
    // A handler ends the pause, and so the program.
    let script = format!("{script}\nsignal.pause = lambda: [signal.sigwaitinfo([2]) for _ in '1']");
    in_net(|| {
        let (process, id) = started(&staying(&script, 0))?;
        let watch = Run::new(&stage().launcher)
            .args(["ls", "--watch", &id])
            .user(0);
        let mut watch = watch.spawn();
        watch.says("nothing is bound")?;
        process.signal(libc::SIGUSR1);
        let seen = watch.says("127.0.0.1:20181");
        watch.signal(libc::SIGTERM);
        watch.wait();
        process.signal(libc::SIGTERM);
        process.wait();
        seen
    })?;
    Ok(())
}

fn ended() -> Result<(), Failed> {
    in_net(|| {
        let (process, id) = started(&staying("", 0))?;
        let watch = Run::new(&stage().launcher)
            .args(["ls", "--watch", "--json", &id])
            .user(0);
        let mut watch = watch.spawn();
        watch.says("\"event\":\"run\"")?;
        process.signal(libc::SIGTERM);
        process.wait();
        let said = watch.says("\"event\":\"ended\"");
        watch.signal(libc::SIGTERM);
        let outcome = watch.wait();
        said?;
        let last = outcome.stdout.lines().last().unwrap_or_default();
        let last: Value = serde_json::from_str(last).map_err(|e| e.to_string())?;
        Ok(same(
            &id,
            last["run"].as_str().unwrap_or_default(),
            &outcome.seen(),
        )?)
    })
}

fn many() -> Result<(), Failed> {
    const ASKS: &str =
        "for i in $(seq 40); do \"$0\" ls \"$1\" & done 2>&1 | grep -c 127.0.0.1:20188";
    in_net(|| {
        let script = "s = socket.socket(); s.bind(('127.0.0.1', 20188)); s.listen()";
        let (process, id) = started(&staying(script, 0))?;
        let run = Run::new("sh").arg("-c").arg(ASKS).user(0);
        let outcome = run.arg(&stage().launcher).arg(&id).spawn().wait();
        process.signal(libc::SIGTERM);
        process.wait();
        Ok(same("40\n", &outcome.stdout, &outcome.seen())?)
    })
}

/// `/proc/net/unix` writes such names as they are: one of them looks like a row more,
/// of a socket that its program has not bound to that name.
fn line_feeds() -> Result<(), Failed> {
    let script = "
kept = []
def bind(name):
    s = socket.socket(socket.AF_UNIX); kept.append(s); s.bind(name); s.listen()
bind('\\0first')
inode = os.fstat(kept[0].fileno()).st_ino
bind(f'\\0a\\n0000000000000000: 00000002 00000000 00010000 0001 01 {inode} @forged')
bind('\\0b c ')
bind('@d')
bind('e\\nf')
bind('\\0@g')
"
    .replace("\\\\", "\\");
    for user in users() {
        let (seen, inode) = in_net(|| {
            let (process, id) = started(&staying(&script, user))?;
            let listed = listed(&id, user);
            process.signal(libc::SIGTERM);
            process.wait();
            let all = listed?;
            let rows = all["sockets"].as_array().map_or(&[][..], Vec::as_slice);
            let first = rows.iter().find(|s| s["address"] == "unix:@first");
            let inode = first.map_or(0, |s| s["inode"].as_u64().unwrap_or(0));
            Ok::<_, String>((sockets(&all), inode))
        })?;
        let mut expected = String::new();
        let long =
            format!("@a\\x0a0000000000000000: 00000002 00000000 00010000 0001 01 {inode} @forged");
        for name in ["@@g", &long, "@b c ", "@first", "\\x40d", "e\\x0af"] {
            expected += &format!("unix unix:{name} unix:{name} listening 1 null [] true\n");
        }
        same(&expected, &seen, "names")?;
    }
    Ok(())
}

/// A listener of the network outside, as systemd gives one to a service.
fn inherited() -> Result<(), Failed> {
    const GIVES: &str = "import os, socket, sys
s = socket.socket(); s.bind(('127.0.0.1', 20186)); s.listen(); s.set_inheritable(True)
os.execvp(sys.argv[1], sys.argv[1:])";
    for user in users() {
        let run = staying(
            "s = socket.socket(); s.bind(('127.0.0.1', 20186)); s.listen()",
            user,
        );
        let run = run
            .launcher_arg("--isolate=sealed")
            .around(["python3", "-c", GIVES]);
        let seen = in_net(|| {
            let (process, id) = started(&run)?;
            // Outside, and nobody's of the run.
            let other = std::net::TcpListener::bind("127.0.0.1:20187");
            let listed = listed(&id, user);
            drop(other);
            process.signal(libc::SIGTERM);
            process.wait();
            listed.map(|run| sockets(&run))
        })?;
        // The launcher has the one from outside, too.
        let expected = "tcp 127.0.0.1:20186 127.0.0.1:20186 listening 1 null [] true\n\
                        tcp 127.0.0.1:20186 127.0.0.1:20186 listening 2 null [-] false\n";
        same(expected, &seen, &format!("as user {user}"))?;
    }
    Ok(())
}

/// A duplicate lives on where the number that a socket was bound under is another
/// socket's by now, which is bound too.
fn number_again() -> Result<(), Failed> {
    let script = "
first = socket.socket(); first.bind(('127.0.0.1', 20001)); first.listen()
number, kept = first.fileno(), first.dup(); first.close()
second = socket.socket(); second.bind(('127.0.0.1', 20002)); second.listen()
assert second.fileno() == number
";
    in_net(|| {
        let run = staying(script, 0).rule("move bind tcp *:20001 to loopback:20003");
        let (process, id) = started(&run)?;
        let seen = sockets(&listed(&id, 0)?);
        process.signal(libc::SIGTERM);
        process.wait();
        let expected = "tcp 127.0.0.1:20001 127.0.0.1:20003 listening 1 1 [] true\n\
                        tcp 127.0.0.1:20002 127.0.0.1:20002 listening 1 0 [] true\n";
        Ok(same(expected, &seen, "a socket whose number is another's")?)
    })
}

fn vsock_host() -> Result<(), Failed> {
    let script = "s = socket.socket(socket.AF_VSOCK); s.bind((socket.VMADDR_CID_ANY, 5000))\n\
                  s.listen(); c = socket.socket(socket.AF_VSOCK); c.connect((3, 5000))\n\
                  b = socket.socket(socket.AF_VSOCK); b.bind((3, 5001))";
    for user in users() {
        let run = staying(script, user).launcher_arg("--cid=3");
        let run = run.rule("allow bind vsock *:5000");
        in_net(|| {
            let (process, id) = started(&run)?;
            let listed = listed(&id, user);
            process.signal(libc::SIGTERM);
            process.wait();
            let rows = listed
                .as_ref()
                .ok()
                .and_then(|run| run["sockets"].as_array());
            let since = rows
                .into_iter()
                .flatten()
                .filter(|s| s["since"].is_string());
            same("2", &since.count().to_string(), "since when")?;
            let seen = sockets(&listed?).replace(&id, "ID");
            let expected = "vsock vsock:3:5001 unix:@bindgate/vsock/ID/vsock.3.5001.own \
                            bound 1 0 [] true\n\
                            vsock vsock:any:5000 unix:@bindgate/vsock/ID/vsock.3.5000.any \
                            listening 1 1 [] true\n";
            same(expected, &seen, "what is bound")
        })?;
    }
    Ok(())
}

/// From inside the sealed run, and from beside it.
fn elsewhere() -> Result<(), Failed> {
    let launcher = stage().launcher.display();
    for user in users() {
        let script = format!(
            "import subprocess\ns = socket.socket(); s.bind(('127.0.0.1', 80)); s.listen()\n\
             id = os.environ['BINDGATE_RUN'][:16]\n\
             said = subprocess.run(['{launcher}', 'ls', id], capture_output=True, text=True)\n\
             print('inside', '127.0.0.1:80' in said.stdout, said.stderr)"
        );
        let run = staying(&script, user).launcher_arg("--isolate=sealed");
        let (mut process, id) = in_net(|| started(&run))?;
        let beside = in_net(|| listed(&id, user));
        process.signal(libc::SIGTERM);
        let said = process.stdout();
        process.wait();
        let expected = format!("{id}\ninside True \nready\n");
        same(&expected, &said, "from inside")?;
        same(
            "1",
            &beside?["sockets"]
                .as_array()
                .map_or(0, Vec::len)
                .to_string(),
            "beside",
        )?;
    }
    Ok(())
}

fn commands() -> Result<(), Failed> {
    let binds = compile("binds_and_listens", &[])?;
    let binds = binds.display().to_string();
    for user in users() {
        let script = "
for _ in 'ab':
    try:
        s = socket.socket(); s.bind(('127.0.0.1', 20180))
    except OSError:
        pass
";
        let run = staying(script, user);
        let run = run.rule("deny bind tcp *:20180-20181 times 3");
        let log = run.dir().join("log.jsonl");
        in_net(|| {
            let (process, id) = started(&run)?;
            let exec = |command: &[&str]| {
                let words = [&["exec", &id, "--"], command].concat();
                bindgate(&words, user)
            };
            // The third use, and none is left.
            for expected in ["bind: EACCES\n", "bind: ok\n"] {
                let outcome = exec(&[&binds, "20181"]);
                let first = outcome.stdout.split_inclusive('\n').next();
                same(expected, first.unwrap_or_default(), &outcome.seen())?;
            }
            for (script, status) in [("exit 3", "exit 3"), ("kill -9 $$", "signal 9")] {
                let outcome = exec(&["sh", "-c", script]);
                same(status, &outcome.status, &outcome.seen())?;
            }
            let outcome = exec(&["sh", "-c", "echo $BINDGATE_RUN; id -u"]);
            let said = outcome
                .stdout
                .replace(outcome.stdout.get(16..).unwrap_or_default(), "");
            same(&id, &said, &outcome.seen())?;
            let outcome = exec(&["surely-no-such-program"]);
            same("exit 127", &outcome.status, &outcome.seen())?;
            process.signal(libc::SIGTERM);
            process.wait();
            Ok::<_, String>(())
        })?;
        let log = fs::read_to_string(log)?;
        let binds = log
            .lines()
            .filter(|l| l.contains("\"asked\":\"0.0.0.0:20181\""))
            .count();
        same(
            "2",
            &binds.to_string(),
            "binds of commands in the run's log",
        )?;
    }
    Ok(())
}

fn sealed_commands() -> Result<(), Failed> {
    let script = "s = socket.socket(); s.bind(('127.0.0.1', 80)); s.listen()";
    let asks = "import os, socket\n\
                c = socket.create_connection(('127.0.0.1', 80))\n\
                print(c.getpeername(), os.getuid(), os.readlink('/proc/self/ns/user') == \
                os.readlink(f'/proc/{os.environ[\"PROGRAM\"]}/ns/user'))";
    for user in users() {
        let run = staying(script, user).launcher_arg("--isolate=sealed");
        in_net(|| {
            let (process, id) = started(&run)?;
            let pid = listed(&id, user)?["pid"].to_string();
            let ask = |by: u32| {
                let run = Run::new(&stage().launcher).args(["exec", &id, "python3", "-c", asks]);
                run.user(by).env("PROGRAM", &pid).spawn().wait()
            };
            let outcome = ask(user);
            let expected = format!("('127.0.0.1', 80) {user} True\nexit 0\n");
            let seen = format!("{}{}\n", outcome.stdout, outcome.status);
            same(&expected, &seen, &outcome.seen())?;
            // root stays root.
            if user != 0 {
                let outcome = ask(0);
                let expected = "('127.0.0.1', 80) 0 False\n";
                same(expected, &outcome.stdout, &outcome.seen())?;
            }
            process.signal(libc::SIGTERM);
            process.wait();
            Ok::<_, String>(())
        })?;
    }
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let program = compile_as("binds_and_listens", "_static", &["-static"])?;
    let program = program.display().to_string();
    in_net(|| {
        let (enforcing, id) = started(&staying("", 0).rule("deny bind tcp *:9"))?;
        let (watching, other) = started(&staying("", 0))?;
        let says = |words: &[&str], user, status: &str, text: &str| {
            let outcome = bindgate(words, user);
            let is_said = outcome.stderr.contains(text) || outcome.stdout.contains(text);
            match is_said && outcome.status == status {
                true => Ok(()),
                false => Err(format!("{words:?}: {text:?}\n{}", outcome.seen())),
            }
        };
        says(
            &["exec", &id, &program, "0"],
            0,
            "exit 78",
            "is linked statically",
        )?;
        says(&["exec", &other, &program, "0"], 0, "exit 0", "listen: ok")?;
        says(
            &["exec", "0123456789abcdef", "true"],
            0,
            "exit 1",
            "no run of this user",
        )?;
        says(&["exec", &id], 0, "exit 2", "COMMAND")?;
        if has_nobody() {
            says(
                &["exec", &id, "true"],
                NOBODY,
                "exit 1",
                "no run of this user",
            )?;
        }
        // Out of one run into another one: its policy would not hold any more.
        let launcher = stage().launcher.display().to_string();
        let through = ["exec", &id, &launcher, "exec", &other, "true"];
        says(&through, 0, "exit 78", "whose policy would not hold")?;
        let same_run = ["exec", &id, &launcher, "exec", &id, "echo", "inside"];
        says(&same_run, 0, "exit 0", "inside")?;
        for process in [enforcing, watching] {
            process.signal(libc::SIGTERM);
            process.wait();
        }
        Ok::<_, String>(())
    })?;
    Ok(())
}
