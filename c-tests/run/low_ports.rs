//! `run --low-ports`: a server without privilege on "port 80".

use std::net::TcpListener;

use libtest_mimic::{Failed, Trial};

use crate::NAMESPACES;
use support::{NOBODY, Run, Way, has_nobody, in_net, outside, same, stage};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    if has_nobody() {
        trials.push(Trial::test("low ports: a server and its clients", served));
        trials.push(Trial::test(
            "low ports: what the run does not hold",
            not_held,
        ));
        trials.push(Trial::test("low ports: a killed server", killed));
        trials.push(outside(
            Trial::test("low ports: nothing to do", nothing_to_do),
            NAMESPACES,
        ));
    }
    trials.push(outside(
        Trial::test("low ports: whoever may have the port has it", privileged),
        "it runs as root",
    ));
    trials.push(Trial::test("low ports: explain", explain));
    trials
}

fn python(text: &str) -> Run {
    Run::new("python3")
        .arg("-c")
        .arg(text)
        .user(NOBODY)
        .way(Way::Run)
}

/// Server and client are two programs of one run; `ls` says where the server is.
fn served() -> Result<(), Failed> {
    const TEXT: &str = "
import json, os, socket, subprocess, sys
s = socket.socket()
s.bind(('0.0.0.0', 80))
s.listen()
print('name', s.getsockname(), flush=True)
client = '''
import socket
c = socket.create_connection(('localhost', 80))
print('peer', c.getpeername(), flush=True)
c.sendall(b'x')
'''
child = subprocess.Popen([sys.executable, '-c', client])
c, peer = s.accept()
print('served', c.getsockname(), c.recv(1), flush=True)
child.wait()
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
u.bind(('::', 53))
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v.sendto(b'datagram', ('127.0.0.1', 53))
print(u.recv(10))
v.close()
run = os.environ['BINDGATE_RUN'][:16]
listed = json.loads(subprocess.check_output([os.environ['B'], 'ls', '--json', run]))
for socket in listed['sockets']:
    print(socket['address'], 'really at', socket['real'])
";
    in_net(|| {
        let run = python(TEXT).env("B", &stage().launcher);
        let outcome = run.launcher_arg("--low-ports=20000").spawn().wait();
        let expected = "name ('0.0.0.0', 80)\n\
                        peer ('127.0.0.1', 80)\n\
                        served ('127.0.0.1', 80) b'x'\n\
                        b'datagram'\n\
                        0.0.0.0:80 really at 0.0.0.0:20080\n\
                        [::]:53 really at [::]:20053\n";
        same(expected, &outcome.stdout, &outcome.seen())?;
        let told = "bind tcp 0.0.0.0:80 → moved to 0.0.0.0:20080  (rule 1, --low-ports:1)";
        match outcome.stderr.contains(told) {
            true => Ok(()),
            false => Err(outcome.seen().into()),
        }
    })
}

/// Clients of what somebody else on the machine serves, and of nobody.
fn not_held() -> Result<(), Failed> {
    const TEXT: &str = "
import errno, socket
def call(port):
    try:
        return socket.create_connection(('127.0.0.1', port)).recv(10)
    except OSError as e:
        return errno.errorcode[e.errno]
s = socket.socket()
s.bind(('0.0.0.0', 81))
s.listen()
print(call(80), call(82), call(10080))
";
    in_net(|| {
        let holder = TcpListener::bind("0.0.0.0:80")?;
        let serves = std::thread::spawn(move || {
            use std::io::Write;
            holder
                .accept()
                .and_then(|(mut c, _)| c.write_all(b"outside"))
        });
        let outcome = python(TEXT).launcher_arg("--low-ports").spawn().wait();
        same(
            "b'outside' ECONNREFUSED ECONNREFUSED\n",
            &outcome.stdout,
            &outcome.seen(),
        )?;
        let _ = serves.join();
        Ok(())
    })
}

/// What a killed server held is nobody's: the call goes where it says.
fn killed() -> Result<(), Failed> {
    const TEXT: &str = "
import os, signal, socket, sys
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    s = socket.socket()
    s.bind(('0.0.0.0', 80))
    s.listen()
    os.write(write, b'x')
    signal.pause()
os.read(read, 1)
socket.create_connection(('127.0.0.1', 80))
os.kill(pid, 9)
os.waitpid(pid, 0)
try:
    socket.create_connection(('127.0.0.1', 80))
except ConnectionRefusedError:
    print('refused')
";
    in_net(|| {
        let run = python(TEXT).logged().launcher_arg("--low-ports");
        let outcome = run.spawn().wait();
        same("refused\n", &outcome.stdout, &outcome.seen())?;
        let moved = |r: &support::log::Record| r.is("connect", "move");
        let moved = outcome.log()?.iter().filter(|r| moved(r)).count();
        same("1", &moved.to_string(), &outcome.seen())?;
        Ok(())
    })
}

fn privileged() -> Result<(), Failed> {
    const TEXT: &str = "
import os, socket
s = socket.socket()
s.bind(('0.0.0.0', 80))
os.setresuid(65534, 65534, 65534)
t = socket.socket()
t.bind(('0.0.0.0', 81))
";
    in_net(|| {
        let run = python(TEXT).user(0).logged().launcher_arg("--low-ports");
        let outcome = run.spawn().wait();
        let log = outcome.log()?;
        let binds = log.iter().filter(|r| r.text("call") == "bind");
        let verdicts: Vec<_> = binds.map(|r| r.text("verdict")).collect();
        same("allow move", &verdicts.join(" "), &outcome.seen())?;
        Ok(())
    })
}

fn nothing_to_do() -> Result<(), Failed> {
    const TEXT: &str = "
import socket
s = socket.socket()
s.bind(('0.0.0.0', 80))
print(s.getsockname())
";
    in_net(|| {
        let run = python(TEXT).launcher_arg("--isolate=sealed");
        let outcome = run.launcher_arg("--low-ports").spawn().wait();
        same("('0.0.0.0', 80)\n", &outcome.stdout, &outcome.seen())?;
        let said = "bindgate: --low-ports: there is nothing to do: in the run's own network every port is free\n";
        match outcome.stderr.contains(said) && !outcome.stderr.contains("moved") {
            true => Ok(()),
            false => Err(outcome.seen().into()),
        }
    })
}

fn explain() -> Result<(), Failed> {
    for (uid, expected) in [
        (
            "1000",
            "moved to 0.0.0.0:10080, by rule: move bind {tcp,udp} *:reserved to *:+10000 unprivileged followed",
        ),
        ("0", "allowed, by default"),
    ] {
        let run = Run::new(&stage().launcher).args(["explain", "--low-ports", "--uid", uid]);
        let outcome = run.arg("bind tcp 0.0.0.0:80").spawn().wait();
        if !outcome.stdout.contains(expected) {
            return Err(outcome.seen().into());
        }
    }
    Ok(())
}
