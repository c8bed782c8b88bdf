//! `run --cid` and `--fabric`: vsock hosts that meet.

use std::path::Path;

use libtest_mimic::{Failed, Trial};

use support::{Below, NOBODY, Run, Way, compile, helper, same, stage};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("vsock hosts: two meet in a fabric", || two_meet(None, None)),
        Trial::test("vsock hosts: without AF_VSOCK", || {
            two_meet(None, Some(Below::NoVsock))
        }),
        Trial::test("vsock hosts: a CID is taken once", taken_once),
        Trial::test("vsock hosts: what was killed is healed", healed),
        Trial::test("vsock hosts: a run inside is on the same host", nested),
        Trial::test("vsock hosts: one of many gets a port", || race("")),
        Trial::test("vsock hosts: one of many gets a port in a fabric", || {
            race("--fabric \"$PWD/fabric\"")
        }),
        Trial::test("vsock hosts: one of 64 gets a port", || {
            races("vsock", 200, &["--cid=3"])
        }),
        Trial::test("vsock hosts: one of 64 gets a port in a fabric", || {
            races("vsock", 200, &["--cid=3", "--fabric=./fabric"])
        }),
        Trial::test("moves: one of 64 gets an address", || {
            races("tcp", 12, &["-r", "move bind tcp *:20500 to loopback:auto"])
        }),
        Trial::test("vsock hosts: killed on the way to a port", || {
            stepped("vsock", 79, &["--cid=3"])
        }),
        Trial::test(
            "vsock hosts: killed on the way to a port in a fabric",
            || stepped("vsock", 499, &["--cid=3", "--fabric=./fabric"]),
        ),
        Trial::test("moves: killed on the way to an address", || {
            stepped(
                "tcp",
                9973,
                &["-r", "move bind tcp *:20600 to loopback:auto"],
            )
        }),
        Trial::test("vsock hosts: killed in a cycle of queues", cycle),
        Trial::test("vsock hosts: a plain preload refuses to be one", preload),
        Trial::test("vsock hosts: where no socket can be marked", unmarked),
        Trial::test("vsock hosts: socat", socat),
        Trial::test("vsock hosts: explain", explain),
    ];
    const KERNEL: &str = "vsock hosts: the kernel's own test";
    match Path::new(KERNEL_SOURCE).exists() {
        true => trials.push(Trial::test(KERNEL, kernels_own)),
        false => trials.push(support::skipped(
            KERNEL,
            "needs the package linux-source-6.12",
        )),
    }
    const PYTHON: &str = "vsock hosts: CPython's own tests";
    match Path::new(PYTHON_TESTS).exists() {
        true => trials.push(Trial::test(PYTHON, pythons_own)),
        false => trials.push(support::skipped(
            PYTHON,
            "needs the package libpython3.11-testsuite",
        )),
    }
    const GO: &str = "vsock hosts: a Go program with cgo";
    match support::which("go") {
        Some(_) => trials.push(Trial::test(GO, go)),
        None => trials.push(support::skipped(GO, "needs the package golang-go")),
    }
    const NCAT: &str = "vsock hosts: ncat";
    match support::which("ncat") {
        Some(_) => trials.push(Trial::test(NCAT, ncat)),
        None => trials.push(support::skipped(NCAT, "needs the package ncat")),
    }
    if support::has_nobody() {
        trials.push(Trial::test("vsock hosts: two meet as nobody", || {
            two_meet(Some(NOBODY), None)
        }));
        trials.push(Trial::test("vsock hosts: two users", users));
    }
    trials
}

/// It is said before the start.
fn unmarked() -> Result<(), Failed> {
    let run = Run::new("true").way(Way::Run).around([helper("unmarked")?]);
    let outcome = run.clone().launcher_arg("--cid=3").finish();
    let expected = "stderr| bindgate: a vsock host cannot be had here: its sockets are marked by \
                    SO_MAX_PACING_RATE, which this kernel or emulator refuses\nexit 71\n";
    same(expected, &outcome.seen(), "a vsock host")?;
    same("exit 0\n", &run.finish().seen(), "any other run")?;
    Ok(())
}

/// A script that knows the launcher as `$B` and `until FILE`, which waits for one.
pub fn script(text: &str) -> Run {
    let text = format!("until_there() {{ while ! [ -e \"$1\" ]; do sleep 0.01; done; }}\n{text}");
    Run::new("sh")
        .env("B", &stage().launcher)
        .arg("-c")
        .arg(text)
}

const SERVER: &str = "\
import socket, sys
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
s.bind((socket.VMADDR_CID_ANY, 5000))
s.listen()
open('ready', 'w').close()
c, (cid, port) = s.accept()
print('from', cid, 'at', c.getsockname(), 'as', c.getpeername() == (cid, port), flush=True)
c.sendall(c.recv(100).upper())
c.close()";

const CLIENT: &str = "\
import socket
c = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
c.connect((3, 5000))
print('to', c.getpeername(), flush=True)
c.sendall(b'hello')
print(c.recv(100).decode(), flush=True)
try:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((3, 5999))
except ConnectionResetError as e:
    print(e.strerror)";

/// Each sees the other's CID, and data goes both ways. A client leaves no file.
fn two_meet(user: Option<u32>, below: Option<Below>) -> Result<(), Failed> {
    let mut run = script(
        "$B run -q --cid 3 --fabric \"$PWD/fabric\" -- python3 -c \"$SERVER\" & until_there ready\n\
         $B run -q --cid 4 --fabric \"$PWD/fabric\" -- python3 -c \"$CLIENT\"; echo $?; wait $!; echo $?\n\
         ls fabric | grep -v -e cid -e lock",
    )
    .env("SERVER", SERVER)
    .env("CLIENT", CLIENT)
    .below(below);
    if let Some(user) = user {
        run = run.user(user);
    }
    let outcome = run.finish();
    let expected = "stdout| to (3, 5000)\n\
                    stdout| from 4 at (3, 5000) as True\n\
                    stdout| HELLO\n\
                    stdout| Connection reset by peer\n\
                    stdout| 0\n\
                    stdout| 0\n\
                    stdout| vsock.3.5000.any\n\
                    exit 0\n";
    // The two write to one file, in either order.
    let in_order = |text: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    Ok(same(
        &in_order(expected),
        &in_order(&outcome.seen()),
        "two vsock hosts",
    )?)
}

fn taken_once() -> Result<(), Failed> {
    let outcome = script(
        "$B run -q --cid 3 --fabric ./f -- sh -c 'touch ready; until [ -e end ]; do sleep 0.01; done' & \
         until_there ready\n\
         $B run -q --cid 3 --fabric ./f -- true 2>&1 | sed \"s:$PWD:DIR:\"\n\
         $B run -q --cid 4 --fabric ./f -- echo another; touch end; wait\n\
         $B run -q --cid 3 --fabric ./f -- echo free again\n\
         $B run --fabric ./f -- true 2>/dev/null; echo $?\n\
         $B run --cid 1 -- true 2>/dev/null; echo $?",
    )
    .finish();
    let expected = "stdout| bindgate: context id 3 is taken: another run in the fabric DIR/f has it\n\
                    stdout| another\n\
                    stdout| free again\n\
                    stdout| 78\n\
                    stdout| 2\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "a CID that is taken")?)
}

/// A program and its run's log process are killed: what they leave behind is in
/// nobody's way.
fn healed() -> Result<(), Failed> {
    const HOLDER: &str = "\
import socket, os, time
held = [socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) for _ in range(3)]
held[0].bind((socket.VMADDR_CID_ANY, 5000)); held[0].listen()
held[1].bind((3, 5001))
held[2].bind((1, 5001))
with open('pid', 'w') as f: f.write(str(os.getpid()))
os.rename('pid', 'ready')
time.sleep(1000)";
    const NEXT: &str = "\
import socket
for cid, port in ((socket.VMADDR_CID_ANY, 5001), (3, 5000)):
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_SEQPACKET)
    s.bind((cid, port))
    print(s.getsockname(), flush=True)";
    let outcome = script(
        "$B run -q --cid 3 --fabric \"$PWD/f\" -- python3 -c \"$HOLDER\" 2>/dev/null & until_there ready\n\
         read ticket <<E\n$(tr '\\0' '\\n' </proc/$(cat ready)/environ | sed -n 's/^BINDGATE_RUN=//p')\nE\n\
         kill -9 $(echo $ticket | cut -d. -f3) $(cat ready); wait $! 2>/dev/null\n\
         ls f | sort; $B run -q --cid 3 --fabric \"$PWD/f\" -- python3 -c \"$NEXT\"",
    )
    .env("HOLDER", HOLDER)
    .env("NEXT", NEXT)
    .finish();
    let expected = "stdout| cid.3\n\
                    stdout| lock\n\
                    stdout| vsock.3.5000.any\n\
                    stdout| vsock.3.5001.local\n\
                    stdout| vsock.3.5001.own\n\
                    stdout| (4294967295, 5001)\n\
                    stdout| (3, 5000)\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "what was killed")?)
}

fn nested() -> Result<(), Failed> {
    const BOTH: &str = "\
import socket, subprocess, sys, os
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
s.bind((3, 5000)); s.listen()
inner = 'import socket; c = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); c.connect((3, 5000)); print(c.getpeername())'
subprocess.run([os.environ['B'], 'run', '-q', '--', sys.executable, '-c', inner])
print(s.accept()[1][0])
sys.stdout.flush()
print(subprocess.run([os.environ['B'], 'run', '-q', '--cid', '4', '--', 'true']).returncode)";
    let outcome = script("$B run -q --cid 3 -- python3 -c \"$BOTH\"")
        .env("BOTH", BOTH)
        .finish();
    let expected = "stdout| (3, 5000)\n\
                    stdout| 1\n\
                    stdout| 78\n\
                    stderr| bindgate: the run around this one is the vsock host with context id 3: \
                    a run inside is on the same host\n\
                    exit 0\n";
    Ok(same(
        expected,
        &outcome.seen(),
        "a run inside a vsock host",
    )?)
}

/// Processes bind one port at once, in all the ways there are. Whoever gets it
/// excludes everybody whom the kernel would refuse, and somebody always does.
fn race(options: &str) -> Result<(), Failed> {
    const RACE: &str = "\
import socket, os, mmap, multiprocessing
ANY, ROUNDS, COUNT = socket.VMADDR_CID_ANY, 200, 16
KINDS = [(socket.SOCK_STREAM, ANY), (socket.SOCK_SEQPACKET, ANY), (socket.SOCK_STREAM, 3), (socket.SOCK_SEQPACKET, 1)]
won = mmap.mmap(-1, ROUNDS * COUNT)
together = multiprocessing.Barrier(COUNT)
for me in range(COUNT):
    if os.fork() == 0:
        kind, cid = KINDS[me % 4]
        for n in range(ROUNDS):
            s = socket.socket(socket.AF_VSOCK, kind)
            together.wait()
            try:
                s.bind((cid, 6000 + n))
                won[n * COUNT + me] = 1
            except OSError as e:
                if e.errno != 98: won[n * COUNT + me] = 2
            together.wait()
            s.close()
        os._exit(0)
for _ in range(COUNT): os.wait()
odd = []
for n in range(ROUNDS):
    here = won[n * COUNT:(n + 1) * COUNT]
    winners = sorted(me % 4 for me in range(COUNT) if here[me] == 1)
    if 2 in here or winners not in ([0], [1], [2], [3], [2, 3]): odd.append((n, winners))
print(odd)";
    let outcome = script(&format!(
        "$B run -q --cid 3 {options} -- python3 -c \"$RACE\""
    ))
    .env("RACE", RACE)
    .finish();
    let expected = "stdout| []\nexit 0\n";
    Ok(same(expected, &outcome.seen(), "a race for a port")?)
}

/// The long form is scripts/race.
fn races(kind: &str, rounds: u32, options: &[&str]) -> Result<(), Failed> {
    let rounds = rounds.to_string();
    let outcome = quiet(&compile("races", &[])?, &[kind, "64", &rounds], options);
    let expected = format!("{rounds} of {rounds} rounds had one winner\n");
    Ok(same(&expected, &outcome.stdout, &outcome.seen())?)
}

/// Kills after each instruction, and not after some, makes `scripts/race --steps`.
fn stepped(kind: &str, stride: u32, options: &[&str]) -> Result<(), Failed> {
    let stride = stride.to_string();
    let program = compile("killed_at_each_step", &[])?;
    let outcome = quiet(&program, &[kind, &stride], options);
    Ok(same("all well\n", &outcome.stdout, &outcome.seen())?)
}

fn quiet(program: &Path, words: &[&str], options: &[&str]) -> support::Outcome {
    let run = Run::new(&stage().launcher).args(["run", "-q", "--log", "/dev/null"]);
    let run = run.args(options).arg("--").arg(program).args(words);
    support::in_net(|| run.spawn().wait())
}

/// A socket that lies in a cycle of queues is nobody's when its process is killed; the
/// kernel needs a moment to see that.
fn cycle() -> Result<(), Failed> {
    const CYCLE: &str = "\
import array, os, socket, sys, time
def bound():
    if sys.argv[1] == 'vsock':
        s, at = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM), (socket.VMADDR_CID_ANY, 20600)
    else:
        s, at = socket.socket(), ('127.0.0.1', 20600)
    s.bind(at)
    s.listen()
    return s
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        s = bound()
        a, b = socket.socketpair()
        for end in a, b:
            fds = array.array('i', [s.fileno(), a.fileno(), b.fileno()])
            end.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    while True:
        try:
            bound().close()
            break
        except OSError as e:
            if e.errno != 98: raise
            time.sleep(0.001)
print('free')";
    let program = support::which("python3").ok_or("no python3")?;
    for (kind, options) in [
        ("vsock", &["--cid=3"][..]),
        ("vsock", &["--cid=3", "--fabric=./fabric"]),
        ("tcp", &["-r", "move bind tcp *:20600 to loopback:auto"]),
    ] {
        let outcome = quiet(Path::new(&program), &["-c", CYCLE, kind], options);
        same("free\n", &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

/// Where Debian's package of the kernel's source puts it.
const KERNEL_SOURCE: &str = "/usr/src/linux-source-6.12.tar.xz";

/// `tools/testing/vsock/vsock_test` between two runs: all of its cases but those
/// about `MSG_ZEROCOPY`, which AF_UNIX does not have.
fn kernels_own() -> Result<(), Failed> {
    let outcome = script(
        "mkdir source && tar -xJf $S -C source --strip-components=1 --wildcards \
             '*/tools/testing/vsock/*' '*/tools/include/*' && \
         make -C source/tools/testing/vsock vsock_test >make.log 2>&1 || { cat make.log; exit 1; }\n\
         skip='--skip=18 --skip=19 --skip=20'; t=source/tools/testing/vsock/vsock_test\n\
         $B run -q --cid 3 --fabric ./f -- $t --mode=server --control-port=1234 --peer-cid=4 $skip \
             >server 2>&1 & \n\
         until grep -q listening server 2>/dev/null; do sleep 0.01; done\n\
         $B run -q --cid 4 --fabric ./f -- $t --mode=client --control-host=127.0.0.1 \
             --control-port=1234 --peer-cid=3 $skip; echo $?; wait $!; echo $?; grep -c 'ok$' server",
    )
    .env("S", KERNEL_SOURCE)
    .user(0)
    .finish();
    let passed = |line: &&str| line.starts_with("stdout| ") && line.ends_with("...ok");
    let seen = outcome.seen();
    // 23 cases, and the last line of all.
    let is_well = seen.lines().filter(passed).count() == 24
        && seen.ends_with("stdout| 0\nstdout| 0\nstdout| 24\nexit 0\n");
    match is_well {
        true => Ok(()),
        false => Err(format!("the kernel's own test of vsock:\n{seen}").into()),
    }
}

const PYTHON_TESTS: &str = "/usr/lib/python3.11/test/test_socket.py";

/// The tests of AF_VSOCK in CPython's `test_socket`, none of them skipped.
fn pythons_own() -> Result<(), Failed> {
    let outcome = script(
        "$B run -q --cid 3 -- /usr/bin/python3.11 -m test -v test_socket -m '*VSOCK*' >tests 2>&1; \
         echo $?; grep -c 'ok$' tests; grep skipped tests",
    )
    .finish();
    let expected = "stdout| 0\nstdout| 5\nexit 1\n";
    Ok(same(expected, &outcome.seen(), "CPython's tests of vsock")?)
}

fn ncat() -> Result<(), Failed> {
    let outcome = script(
        "echo from the server | $B run -q --cid 3 --fabric ./f -- ncat --vsock -l 5000 >server & \n\
         until_there f/vsock.3.5000.any\n\
         until echo from the client | $B run -q --cid 4 --fabric ./f -- ncat --vsock 3 5000 2>client; do \
             grep -q 'reset by peer' client || exit 1; done; wait $!; cat server",
    )
    .finish();
    let expected = "stdout| from the server\nstdout| from the client\nexit 0\n";
    Ok(same(expected, &outcome.seen(), "ncat")?)
}

/// Go makes system calls by itself; what C makes for it is on the host.
fn go() -> Result<(), Failed> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../c-tests/vsock_cgo.go");
    let outcome = script(
        "cp $S main.go && HOME=$PWD GO111MODULE=off CGO_ENABLED=1 go build -o program main.go 2>&1 || exit 1\n\
         $B run -q --cid 3 --fabric ./f -- ./program 2>/dev/null & until_there ready\n\
         $B run -q --cid 16 --fabric ./f -- ./program client 2>/dev/null; wait $!",
    )
    .env("S", source)
    .finish();
    let expected = "stdout| the server says you are 16 and said hello\nexit 0\n";
    Ok(same(expected, &outcome.seen(), "a program in Go")?)
}

/// What a run would say.
fn explain() -> Result<(), Failed> {
    let outcome = script(
        "for call in 'bind vsock any:5000' 'bind vsock vsock:4:5000' 'connect vsock vsock:3:5000'; do \
             $B explain -r 'host cid 3' $call | sed -n 's/^  result *//p'; done",
    )
    .finish();
    let expected = "stdout| ok vsock:any:5000\n\
                    stdout| EADDRNOTAVAIL\n\
                    stdout| ECONNRESET\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "explain on a vsock host")?)
}

fn socat() -> Result<(), Failed> {
    let outcome = script(
        "$B run -q --cid 3 --fabric ./f -- socat VSOCK-LISTEN:5000 EXEC:'tr a-z A-Z' 2>server & \n\
         until [ -e f/vsock.3.5000.any ]; do sleep 0.01; done\n\
         until echo hello | $B run -q --cid 4 --fabric ./f -- socat - VSOCK-CONNECT:3:5000 2>client; do \
             grep -q 'reset by peer' client || exit 1; done; wait $!",
    )
    .finish();
    Ok(same("stdout| HELLO\nexit 0\n", &outcome.seen(), "socat")?)
}

fn preload() -> Result<(), Failed> {
    let outcome = script("BINDGATE_RULES='host cid 3' LD_PRELOAD=$L sh -c 'echo started'; echo $?")
        .env("L", &stage().library)
        .finish();
    let expected = "stdout| 78\n\
                    stderr| bindgate: 'host cid' needs `bindgate run`\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "a plain preload")?)
}

/// A directory that others may look into is a fabric for them, too; one of this
/// user's name that somebody else made is none.
fn users() -> Result<(), Failed> {
    let outcome = script(
        "as() { id=$1; shift; setpriv --reuid=$id --regid=$id --clear-groups \"$@\"; }\n\
         mkdir -m 777 shared; chmod 755 .; umask 077; d=$PWD/shared\n\
         as 1234 $B run -q --cid 3 --fabric $d -- python3 -c \"$SERVER\" & \n\
         until_there shared/ready; as 1235 $B run -q --cid 4 --fabric $d -- python3 -c \"$CLIENT\" | sed -n 1p; wait $!\n\
         mkdir -m 777 .tmp; export XDG_RUNTIME_DIR=$PWD/.tmp\n\
         as 1235 mkdir -m 777 .tmp/bindgate-fabric\n\
         as 1234 $B run -q --cid 3 --fabric demo -- true; echo $?",
    )
    .env("SERVER", SERVER.replace("open('ready', 'w').close()", "open('shared/ready', 'w').close()"))
    .env("CLIENT", CLIENT)
    .user(0);
    let directory = outcome.dir().display().to_string();
    let seen = outcome.finish().seen().replace(&directory, "DIR");
    let expected = "stdout| from 4 at (3, 5000) as True\n\
                    stdout| to (3, 5000)\n\
                    stdout| 71\n\
                    stderr| bindgate: the fabric DIR/.tmp/bindgate-fabric/demo: \
                    DIR/.tmp/bindgate-fabric is not this user's alone\n\
                    exit 0\n";
    let in_order = |text: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    Ok(same(
        &in_order(expected),
        &in_order(&seen),
        "a fabric of two users",
    )?)
}
