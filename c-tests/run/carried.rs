//! `host share` in a sealed run: services of the machine that are carried into it.

use libtest_mimic::{Failed, Trial};

use crate::NAMESPACES;
use support::{Process, Run, Way, compile_as, in_net, outside, same, users};

type Test = fn() -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let inside: [(&str, Test); 9] = [
        ("carried: a service of the machine is reached", reached),
        ("carried: static programs", statics),
        ("carried: who calls nobody is refused", refused),
        ("carried: both halves of a connection, and resets", halves),
        ("carried: what a program has sent is delivered", delivered),
        ("carried: many at once, and much", many),
        ("carried: the address is taken inside", taken),
        ("carried: a killed log process", killed),
        ("carried: what cannot be shared", limits),
    ];
    inside
        .into_iter()
        .map(|(name, test)| outside(Trial::test(name, test), NAMESPACES))
        .collect()
}

fn sealed(run: Run, user: u32, shares: &[&str]) -> Run {
    let run = run.user(user).way(Way::Run).launcher_arg("-q");
    let lines = shares.iter().map(|share| format!("host share {share}"));
    run.launcher_arg("--isolate=sealed").rules(lines)
}

/// A program in Python.
fn python(text: &str) -> Run {
    Run::new("python3").arg("-c").arg(text)
}

/// What it prints, if it ends well.
fn said(process: Process) -> Result<String, String> {
    let outcome = process.wait();
    match outcome.status.as_str() {
        "exit 0" => Ok(outcome.stdout),
        _ => Err(outcome.seen()),
    }
}

/// A service at port 5432: the first byte of a connection says what it does.
pub const SERVICE: &str = "
import os, socket, struct, sys, threading
def serve(c):
    what = c.recv(1)
    if what == b'e':
        while data := c.recv(1 << 16):
            c.sendall(data)
        c.sendall(b'.')
    elif what == b'r':
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    elif what == b'w':
        try:
            while c.recv(1 << 16):
                pass
            print('end', flush=True)
        except ConnectionResetError:
            print('reset', flush=True)
    elif what == b'c':
        all = 0
        while data := c.recv(1 << 16):
            all += len(data)
        print('got', all, flush=True)
    elif what == b'h':
        c.sendall(b'mine')
        c.shutdown(socket.SHUT_WR)
        print(c.recv(9), flush=True)
    c.close()
def accept(s):
    while True:
        threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
def answer(u):
    while True:
        data, whom = u.recvfrom(65536)
        u.sendto(b'to ' + data, whom)
for family, at in (socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'):
    s = socket.create_server((at, 5432), family=family, backlog=1024)
    u = socket.socket(family, socket.SOCK_DGRAM)
    u.bind((at, 5432))
    threading.Thread(target=accept, args=(s,), daemon=True).start()
    threading.Thread(target=answer, args=(u,), daemon=True).start()
print('ready', flush=True)
threading.Event().wait()
";

/// Runs this beside the service; the service is ended afterwards.
fn beside<T>(part: impl FnOnce(&mut Process) -> Result<T, Failed>) -> Result<T, Failed> {
    let mut service = python(SERVICE).spawn();
    service.says("ready")?;
    let done = part(&mut service);
    service.signal(libc::SIGKILL);
    service.wait();
    done
}

/// By TCP and UDP, IPv4 and IPv6, by each way to connect; names are those of the service.
fn reached() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, select, socket
def heard(c):
    c.sendall(b'ehello')
    c.shutdown(socket.SHUT_WR)
    all = b''
    while data := c.recv(99):
        all += data
    return all
for family, at in (socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'):
    c = socket.socket(family)
    e = select.epoll()
    e.register(c, select.EPOLLOUT | select.EPOLLIN)
    c.connect((at, 5432))
    print(c.getpeername()[:2], e.poll()[0][1] == select.EPOLLOUT, heard(c))
    c = socket.socket(family)
    c.setblocking(False)
    e = select.epoll()
    e.register(c, select.EPOLLOUT)
    print(errno.errorcode[c.connect_ex((at, 5432))], len(e.poll()), c.getsockopt(1, 4))
    c.setblocking(True)
    print(heard(c))
    u, v = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
    for n in b'1', b'2':
        u.sendto(n, (at, 5432))
        print(u.recv(9), end=' ')
    v.connect((at, 5432))
    v.send(b'3')
    print(v.recv(9), v.getpeername()[1])
c = socket.create_connection(('0.0.0.0', 5432))
print(heard(c))
u.sendto(b'x' * 60000, ('::1', 5432))
print(len(u.recv(65536)))
";
    const TOLD: &str = "\
        ('127.0.0.1', 5432) True b'hello.'\n\
        EINPROGRESS 1 0\n\
        b'hello.'\n\
        b'to 1' b'to 2' b'to 3' 5432\n\
        ('::1', 5432) True b'hello.'\n\
        EINPROGRESS 1 0\n\
        b'hello.'\n\
        b'to 1' b'to 2' b'to 3' 5432\n\
        b'hello.'\n\
        60003\n";
    let shares = [
        "tcp 127.0.0.1:5432",
        "udp 127.0.0.1:5432",
        "tcp [::1]:5432",
        "udp [::1]:5432",
    ];
    for user in users() {
        for way in [Way::Run, Way::Exec] {
            let told = in_net(|| {
                beside(|_| {
                    let run = sealed(python(ASKS), user, &shares).way(way);
                    Ok(said(run.spawn())?)
                })
            })?;
            same(TOLD, &told, &format!("as user {user}, {way:?}"))?;
        }
    }
    Ok(())
}

fn statics() -> Result<(), Failed> {
    let program = compile_as("calls_tcp", "_static", &["-static"])?;
    for user in users() {
        let told = in_net(|| {
            beside(|_| {
                let run = sealed(
                    Run::new(&program).arg("5432"),
                    user,
                    &["tcp 127.0.0.1:5432"],
                );
                Ok(said(run.spawn())?)
            })
        })?;
        same(
            "connect: ok\nback: cho.\n",
            &told,
            &format!("as user {user}"),
        )?;
    }
    Ok(())
}

/// Nobody is there, somebody comes, and goes.
fn refused() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, os, socket, sys, time
def connect():
    try:
        c = socket.create_connection(('127.0.0.1', 5432))
        c.sendall(b'e')
        c.shutdown(socket.SHUT_WR)
        return c.recv(9)
    except ConnectionResetError:
        # Who was just leaving.
        return None
    except OSError as e:
        return errno.errorcode[e.errno]
def send():
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.settimeout(1)
    u.connect(('127.0.0.1', 5432))
    try:
        u.send(b'x')
        return u.recv(9)
    except TimeoutError:
        return None
    except OSError as e:
        return errno.errorcode[e.errno]
def wait_for(call, answer):
    while call() != answer:
        time.sleep(0.01)
print(connect(), send(), flush=True)
wait_for(connect, b'.')
wait_for(send, b'to x')
print('there', flush=True)
wait_for(connect, 'ECONNREFUSED')
wait_for(send, 'ECONNREFUSED')
print('gone', flush=True)
wait_for(connect, b'.')
wait_for(send, b'to x')
print('again', flush=True)
";
    for user in users() {
        let told = in_net(|| {
            let shares = ["tcp 127.0.0.1:5432", "udp 127.0.0.1:5432"];
            let mut client = sealed(python(ASKS), user, &shares).spawn();
            client.says("ECONNREFUSED ECONNREFUSED\n")?;
            beside(|_| Ok(client.says("there")?))?;
            client.says("gone")?;
            beside(|_| Ok(client.says("again")?))?;
            Ok::<_, Failed>(said(client)?)
        })?;
        let expected = "ECONNREFUSED ECONNREFUSED\nthere\ngone\nagain\n";
        same(expected, &told, &format!("as user {user}"))?;
    }
    Ok(())
}

fn halves() -> Result<(), Failed> {
    const ASKS: &str = "
import socket, struct
def call(what):
    c = socket.create_connection(('127.0.0.1', 5432))
    c.sendall(what)
    return c
c = call(b'r')
try:
    print(c.recv(9))
except ConnectionResetError:
    print('reset')
c = call(b'h')
print(c.recv(9), c.recv(9))
c.sendall(b'yours')
c = call(b'w')
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
c.close()
c = call(b'e')
c.send(b'!', socket.MSG_OOB)
print(c.recv(9))
";
    for user in users() {
        let (told, service) = in_net(|| {
            beside(|service| {
                let run = sealed(python(ASKS), user, &["tcp 127.0.0.1:5432"]);
                let told = said(run.spawn())?;
                service.says("b'yours'")?;
                service.says("reset")?;
                Ok((told, service.stdout()))
            })
        })?;
        let what = format!("as user {user}: {service}");
        same("reset\nb'mine' b''\nb'!'\n", &told, &what)?;
    }
    Ok(())
}

/// The run is over before the service has read it.
fn delivered() -> Result<(), Failed> {
    const SENDS: &str = "
import socket
c = socket.create_connection(('127.0.0.1', 5432))
c.sendall(b'c' + b'x' * 3000000)
";
    for user in users() {
        in_net(|| {
            beside(|service| {
                let run = sealed(python(SENDS), user, &["tcp 127.0.0.1:5432"]);
                said(run.spawn())?;
                Ok(service.says("got 3000000\n")?)
            })
        })?;
    }
    Ok(())
}

fn many() -> Result<(), Failed> {
    const ASKS: &str = "
import hashlib, os, socket, threading
def call():
    c = socket.create_connection(('127.0.0.1', 5432))
    c.sendall(b'e')
    return c
all = [call() for _ in range(400)]
for n, c in enumerate(all):
    c.sendall(b'%d' % n)
print(all[399].recv(9), sum(c.recv(9) == b'%d' % n for n, c in enumerate(all[:399])))
data = os.urandom(1 << 20) * 8
c = call()
sent = threading.Thread(target=lambda: (c.sendall(data), c.shutdown(socket.SHUT_WR)))
sent.start()
back = bytearray()
while some := c.recv(1 << 16):
    back += some
print(back == data + b'.')
";
    for user in users() {
        let told = in_net(|| {
            beside(|_| {
                let run = sealed(python(ASKS), user, &["tcp 127.0.0.1:5432"]);
                Ok(said(run.spawn())?)
            })
        })?;
        same("b'399' 399\nTrue\n", &told, &format!("as user {user}"))?;
    }
    Ok(())
}

/// Whether somebody is there or not; and nothing of the relay is in the list.
fn taken() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, socket
def bind(kind, at, port):
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((at, port))
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]
for port in 5432, 5433:
    print(*[bind(kind, at, port) for kind in (1, 2) for at in ('127.0.0.1', '0.0.0.0', '127.0.0.2')])
print('ready', flush=True)
import sys
sys.stdin.read()
import signal
signal.pause()
";
    for user in users() {
        in_net(|| {
            beside(|_| {
                let shares = [
                    "tcp 127.0.0.1:5432",
                    "udp 127.0.0.1:5432",
                    "tcp 127.0.0.1:5433",
                    "udp 127.0.0.1:5433",
                ];
                let mut run = sealed(python(ASKS), user, &shares).spawn();
                run.says("ready")?;
                let list = Run::new(&support::stage().launcher).arg("ls").user(user);
                let list = list.spawn().wait();
                run.signal(libc::SIGTERM);
                let line = "EADDRINUSE EADDRINUSE ok EADDRINUSE EADDRINUSE ok\n";
                let outcome = run.wait();
                same(
                    &format!("{line}{line}ready\n"),
                    &outcome.stdout,
                    &outcome.seen(),
                )?;
                match list.stdout.contains("543") {
                    true => Err(list.seen().into()),
                    false => Ok(()),
                }
            })
        })?;
    }
    Ok(())
}

/// A client gets an error, and so does the next one.
fn killed() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, os, socket, time
c = socket.create_connection(('127.0.0.1', 5432))
c.sendall(b'ehello')
assert c.recv(9) == b'hello'
print(os.environ['BINDGATE_RUN'].split('.')[2], 'up', flush=True)
try:
    print('end' if c.recv(9) == b'' else 'data')
except OSError as e:
    print(errno.errorcode[e.errno])
while True:
    # The kernel closes the sockets of the killed process one after the other.
    try:
        assert socket.create_connection(('127.0.0.1', 5432)).recv(9) == b''
    except ConnectionResetError:
        pass
    except ConnectionRefusedError:
        break
print('refused')
";
    for user in users() {
        let outcome = in_net(|| {
            beside(|_| {
                let mut run = sealed(python(ASKS), user, &["tcp 127.0.0.1:5432"]).spawn();
                run.says("up")?;
                let said = run.stdout();
                let daemon = said.split(' ').next().and_then(|pid| pid.parse().ok());
                // SAFETY: the log process of this run, which nobody else ends.
                unsafe { libc::kill(daemon.ok_or("no log process")?, libc::SIGKILL) };
                Ok(run.wait())
            })
        })?;
        let told = outcome.stdout.split_once('\n').map_or("", |(_, rest)| rest);
        let told = told.replace("ECONNRESET", "end");
        same("end\nrefused\n", &told, &outcome.seen())?;
    }
    Ok(())
}

/// On the machine's network, or where a model rules, there is nothing to share; an
/// address of the machine that is not on loopback is.
fn limits() -> Result<(), Failed> {
    let refused = |run: Run, words: &str| {
        let outcome = run.finish();
        let is_said = outcome.stderr.contains(words) && outcome.status == "exit 78";
        if is_said { Ok(()) } else { Err(outcome.seen()) }
    };
    let share = "host share tcp 127.0.0.1:5432";
    let machine = Run::new("true").way(Way::Run).rule(share);
    refused(machine, "it takes --isolate to have something to share")?;
    let ruled = sealed(Run::new("true"), 0, &["tcp 127.0.0.1:5432"]).rule("host no-ipv6");
    refused(ruled, "the run is on a host that the model rules")?;
    let busy = sealed(Run::new("true"), 0, &["tcp 127.0.0.1:5432"]);
    let outcome = busy.rule("host busy tcp *:5432").finish();
    let words = "a service of the machine cannot be shared: tcp 127.0.0.1:5432: Address already";
    if outcome.status != "exit 71" || !outcome.stderr.contains(words) {
        return Err(outcome.seen().into());
    }
    let inner = Run::new(&support::stage().launcher);
    let inner = inner.args(["run", "--isolate=sealed", "-r", share, "--", "true"]);
    let inner = inner.way(Way::Run).rule("deny bind tcp *:9");
    refused(inner, "the run around this one enforces a policy")?;
    const SERVICE: &str = "
import socket
s = socket.create_server(('192.0.2.7', 80))
print('ready', flush=True)
s.accept()[0].sendall(b'far')
";
    const ASKS: &str = "
import socket
print(socket.create_connection(('192.0.2.7', 80)).recv(9))
";
    for user in users() {
        let told = in_net(|| {
            let add = ["ip", "address", "add", "192.0.2.7/32", "dev", "lo"];
            std::process::Command::new(add[0])
                .args(&add[1..])
                .status()?;
            let mut service = python(SERVICE).spawn();
            service.says("ready")?;
            let told = said(sealed(python(ASKS), user, &["tcp 192.0.2.7:80"]).spawn())?;
            service.wait();
            Ok::<_, Failed>(told)
        })?;
        same("b'far'\n", &told, &format!("as user {user}"))?;
    }
    Ok(())
}
