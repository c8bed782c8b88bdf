//! `--isolate`: ports of its own for each run, and the network outside.

use std::net::{TcpListener, UdpSocket};

use libtest_mimic::{Failed, Trial};

use crate::NAMESPACES;
use crate::sealed::{BINDS, two_at_once};
use support::{Below, Run, Way, compile, compile_as, in_net, outside, same, stage, users};

type Test = fn() -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let anywhere: [(&str, Test); 15] = [
        ("isolate: the same ports in two runs", twice),
        ("isolate: names are the program's own", names),
        ("isolate: a server for IPv6 alone", six_alone),
        ("isolate: datagrams and their answers", datagrams),
        ("isolate: a source is chosen", sources),
        ("isolate: clients that do not wait", clients),
        ("isolate: services of the machine", machine),
        ("isolate: the machine's own address", own_address),
        ("isolate: a service is shared", shares),
        ("isolate: 64 at once have one winner", race),
        (
            "isolate: a policy decides on the program's addresses",
            policy,
        ),
        ("isolate: a run inside a run", inner),
        ("isolate: other programs and exec", others),
        ("isolate: what cannot be held is named", unheld),
        ("isolate: limits", limits),
    ];
    let mut trials: Vec<Trial> = anywhere
        .into_iter()
        .map(|(name, test)| Trial::test(name, test))
        .collect();
    let pairs = Trial::test(
        "isolate: conflicts are those of a network of its own",
        pairs,
    );
    trials.push(outside(pairs, NAMESPACES));
    trials
}

fn isolated(run: Run, user: u32) -> Run {
    run.user(user).way(Way::Run).launcher_arg("--isolate")
}

/// Runs a script in Python in a run with own ports; what it prints.
fn script(user: u32, text: &str) -> Result<String, String> {
    let run = isolated(Run::new("python3").arg("-c").arg(text), user);
    let outcome = run.launcher_arg("-q").finish();
    match outcome.status.as_str() {
        "exit 0" => Ok(outcome.stdout),
        _ => Err(outcome.seen()),
    }
}

/// Two at once.
fn twice() -> Result<(), Failed> {
    for user in users() {
        let run = isolated(Run::new("python3"), user);
        let line = "bindgate: isolate=address: the run has ports of its own, at 127.";
        // Of 127.0.0.0/8 the run has a part.
        let binds = BINDS.replace("127.9.9.9", "127.0.0.1");
        two_at_once(&run, &binds, line)?;
    }
    Ok(())
}

/// As each address is asked for, so it is told; the line begins with the names of
/// listener, client and child.
fn names() -> Result<(), Failed> {
    const ASKS: &str = "
import socket
four, six = socket.AF_INET, socket.AF_INET6
def pair(bound, family, called, client, only=0):
    s = socket.socket(family)
    if family == six:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    s.bind((bound, 0 if only == 2 else 7000 + len(done)))
    s.listen()
    port = s.getsockname()[1]
    c = socket.socket(client)
    c.connect((called, port))
    child, peer = s.accept()
    assert peer == child.getpeername() and peer == c.getsockname(), (peer, c.getsockname())
    assert c.getpeername()[1] == port and child.getsockname()[1] == port
    c.send(b'x')
    assert child.recv(1) == b'x'
    done.append(s)
    only = s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) if family == six else '-'
    print(*[a[0] for a in (s.getsockname(), c.getsockname(), c.getpeername(), child.getsockname())], only)
done = []
pair('0.0.0.0', four, '127.0.0.1', four)
pair('127.0.0.1', four, '127.0.0.1', four)
pair('127.0.0.1', four, '0.0.0.0', four)
pair('127.0.0.2', four, '127.0.0.2', four)
pair('127.0.0.1', four, '::ffff:127.0.0.1', six)
pair('::', six, '::1', six)
pair('::', six, '127.0.0.1', four)
pair('::', six, '::ffff:127.0.0.1', six)
pair('::', six, '::1', six, 1)
pair('::1', six, '::1', six)
pair('::1', six, '::', six)
pair('::ffff:127.0.0.1', six, '127.0.0.1', four)
s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen()
c = socket.create_connection(('127.0.0.1', s.getsockname()[1]))
print(s.getsockname()[0], c.getpeername() == ('127.0.0.1', s.getsockname()[1]))
";
    const TOLD: &str = "\
        0.0.0.0 127.0.0.1 127.0.0.1 127.0.0.1 -\n\
        127.0.0.1 127.0.0.1 127.0.0.1 127.0.0.1 -\n\
        127.0.0.1 127.0.0.1 127.0.0.1 127.0.0.1 -\n\
        127.0.0.2 127.0.0.1 127.0.0.2 127.0.0.2 -\n\
        127.0.0.1 ::ffff:127.0.0.1 ::ffff:127.0.0.1 127.0.0.1 -\n\
        :: ::1 ::1 ::1 0\n\
        :: 127.0.0.1 127.0.0.1 ::ffff:127.0.0.1 0\n\
        :: ::ffff:127.0.0.1 ::ffff:127.0.0.1 ::ffff:127.0.0.1 0\n\
        :: ::1 ::1 ::1 1\n\
        ::1 ::1 ::1 ::1 1\n\
        ::1 ::1 ::1 ::1 1\n\
        ::ffff:127.0.0.1 127.0.0.1 127.0.0.1 ::ffff:127.0.0.1 0\n\
        0.0.0.0 True\n";
    let asks = ASKS
        .replace(
            "assert peer == child",
            "assert family != client or peer == child",
        )
        .replace(
            "and peer == c.getsockname()",
            "and peer[1] == c.getsockname()[1]",
        );
    for user in users() {
        same(TOLD, &script(user, &asks)?, "the names")?;
    }
    Ok(())
}

/// A server for IPv6 alone that got its port from the kernel, or by a lease, is reached
/// and named at it.
fn six_alone() -> Result<(), Failed> {
    const ASKS: &str = "
import socket
six, level = socket.AF_INET6, socket.IPPROTO_IPV6
for reuses in (0, 1):
    for client in (None, ('::', 0)):
        s = socket.socket(six)
        s.setsockopt(level, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuses)
        s.bind(('::', 0))
        s.listen()
        port = s.getsockname()[1]
        c = socket.socket(six)
        if client:
            c.bind(client)
        c.connect(('::1', port))
        a, source = s.accept()
        assert c.getpeername()[:2] == a.getsockname()[:2] == ('::1', port), c.getpeername()
        assert source[:2] == c.getsockname()[:2] and source[0] == '::1', source
        a.send(b'x')
        assert c.recv(9) == b'x'
print('reached')
";
    for user in users() {
        same("reached\n", &script(user, ASKS)?, "a server for IPv6 alone")?;
    }
    Ok(())
}

/// Every kind of server and client: the server sees whom it can answer, and the
/// answer comes from where it was asked.
fn datagrams() -> Result<(), Failed> {
    const ASKS: &str = "
import itertools, socket
four, six, udp = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM
port = 7100
def ask(family, server, called, fixed, bound, connected):
    global port
    port += 1
    s = socket.socket(family, udp)
    s.settimeout(20)
    s.bind((server, port if fixed else 0))
    at = s.getsockname()[1]
    c = socket.socket(family, udp)
    c.settimeout(20)
    if bound:
        c.bind(bound)
    if connected:
        c.connect((called, at))
        c.send(b'x')
    else:
        c.sendto(b'x', (called, at))
    data, source = s.recvfrom(9)
    assert source[1] == c.getsockname()[1], (source, c.getsockname())
    s.sendto(data + b'y', source)
    data, source = c.recvfrom(9)
    assert (data, source[1]) == (b'xy', at), (data, source)
    if not (family == six and server == '::' and bound):
        assert source[0] == called, source
for fixed, bound, connected in itertools.product((1, 0), (None, 0, 1), (1, 0)):
    for server in ('0.0.0.0', '127.0.0.1'):
        ask(four, server, '127.0.0.1', fixed, bound is not None and ('0.0.0.0', bound and port + 1000), connected)
    for server in ('::', '::1'):
        ask(six, server, '::1', fixed, bound is not None and ('::', bound and port + 1000), connected)
s = socket.socket(six, udp)
s.bind(('::', 7099))
c = socket.socket(four, udp)
c.sendto(b'x', ('127.0.0.1', 7099))
print(s.recvfrom(1)[1][0], flush=True)
";
    for user in users() {
        same("::ffff:127.0.0.1\n", &script(user, ASKS)?, "datagrams")?;
    }
    Ok(())
}

/// `IP_PKTINFO`, as servers use it that answer from where they were asked.
fn sources() -> Result<(), Failed> {
    const ASKS: &str = "
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 8, 1)
s.bind(('0.0.0.0', 7200))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.connect(('127.0.0.1', 7200))
c.send(b'x')
data, control, _, source = s.recvmsg(9, 200)
info = control[0][2]
print(socket.inet_ntoa(info[4:8]), socket.inet_ntoa(info[8:12]), source == c.getsockname())
s.sendmsg([b'y'], [(socket.IPPROTO_IP, 8, struct.pack('i4s4s', 0, info[8:12], bytes(4)))], 0, source)
c.settimeout(20)
print(c.recv(9))
";
    same(
        "127.0.0.1 127.0.0.1 True\nb'y'\n",
        &script(0, ASKS)?,
        "IP_PKTINFO",
    )?;
    Ok(())
}

/// Sockets that are watched by epoll before they are connected.
fn clients() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, select, socket
for family, address in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    s = socket.socket(family)
    s.bind((address, 7300))
    s.listen()
    for port in (7300, 7301):
        c = socket.socket(family)
        c.setblocking(False)
        ep = select.epoll()
        ep.register(c, select.EPOLLOUT)
        try:
            c.connect((address, port))
        except BlockingIOError:
            pass
        while not any(e & (select.EPOLLOUT | select.EPOLLERR) and not (e & select.EPOLLHUP and not e & select.EPOLLERR) for _, e in ep.poll(20)):
            pass
        print(errno.errorcode.get(c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 'ok'))
    s.close()
";
    let told = "ok\nECONNREFUSED\nok\nECONNREFUSED\n";
    same(told, &script(0, ASKS)?, "clients")?;
    Ok(())
}

/// Whoever has a port at the machine's wildcard is in nobody's way, and is not taken
/// for a server of the run's; nor is the run in the way of others.
fn machine() -> Result<(), Failed> {
    for user in users() {
        let tcp = TcpListener::bind("0.0.0.0:0")?;
        let udp = UdpSocket::bind("0.0.0.0:0")?;
        let [tcp_port, udp_port] = [tcp.local_addr()?, udp.local_addr()?].map(|a| a.port());
        let asks = format!(
            "
import socket
def bound(kind, address):
    s = socket.socket(socket.AF_INET, kind)
    s.bind(address)
    return s
def refused(address):
    try:
        socket.create_connection(address)
        return False
    except ConnectionRefusedError:
        return True
s = bound(socket.SOCK_STREAM, ('0.0.0.0', {tcp_port}))
s.listen()
print(s.getsockname()[1] == {tcp_port})
c = socket.create_connection(('127.0.0.1', {tcp_port}))
print(c.getpeername()[1] == {tcp_port}, s.accept()[1] == c.getsockname())
u = bound(socket.SOCK_DGRAM, ('127.0.0.1', {udp_port}))
print(u.getsockname()[1] == {udp_port})
low = bound(socket.SOCK_STREAM, ('0.0.0.0', 22))
print(refused(('127.0.0.1', 22)), refused(('127.0.0.1', 3000)), refused(('127.0.0.1', 18080)))
low.listen()
print(refused(('127.0.0.1', 22)))
"
        );
        let told = "True\nTrue True\nTrue\nTrue True True\nFalse\n";
        same(told, &script(user, &asks)?, "a machine with servers")?;
    }
    // A low port that somebody has at the machine's wildcard; the run's clients do not
    // find him.
    if users().contains(&0) && Below::everywhere().is_none() {
        in_net(|| {
            let _holder = TcpListener::bind("0.0.0.0:3000")?;
            let mut run = isolated(Run::new("python3"), 0)
                .arg("-c")
                .arg(
                    "import signal, socket
try:
    socket.create_connection(('127.0.0.1', 3000))
    print('reached')
except ConnectionRefusedError:
    print('refused')
s = socket.socket(); s.bind(('127.0.0.1', 8000)); s.listen()
print('ready', flush=True)
signal.pause()",
                )
                .spawn();
            run.says("ready")?;
            let there = TcpListener::bind("0.0.0.0:8000");
            run.signal(libc::SIGTERM);
            let outcome = run.wait();
            same("refused\nready\n", &outcome.stdout, &outcome.seen())?;
            there.map(drop)?;
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

/// What is bound to an address of the machine's that is not on loopback is the
/// machine's: two runs can clash there.
fn own_address() -> Result<(), Failed> {
    const ASKS: &str = "
import socket
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    out.connect(('192.0.2.1', 9))
    own = out.getsockname()[0]
except OSError:
    own = None
if own and not own.startswith('127.'):
    s = socket.socket()
    s.bind((own, 0))
    s.listen()
    c = socket.create_connection(s.getsockname())
    assert c.getpeername() == s.getsockname() and c.getsockname()[0] == own
    other = socket.socket()
    other.bind((own, 0))
print('ok')
";
    same("ok\n", &script(0, ASKS)?, "the machine's own address")?;
    Ok(())
}

/// `host share`: that of the machine is called, and the run's own is bound.
fn shares() -> Result<(), Failed> {
    for user in users() {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        udp.set_read_timeout(Some(std::time::Duration::from_secs(60)))?;
        let [tcp_at, udp_at] = [tcp.local_addr()?, udp.local_addr()?];
        let asks = format!(
            "
import socket
tcp, udp = {}, {}
c = socket.create_connection(('127.0.0.1', tcp))
print(c.getpeername() == ('127.0.0.1', tcp))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.sendto(b'x', ('127.0.0.1', udp))
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v.connect(('127.0.0.1', udp))
v.send(b'y')
u.settimeout(60)
print(u.recvfrom(9)[1] == ('127.0.0.1', udp))
s = socket.socket()
s.bind(('127.0.0.1', tcp))
",
            tcp_at.port(),
            udp_at.port()
        );
        let run = isolated(Run::new("python3").arg("-c").arg(asks), user);
        let run = run.launcher_arg("-q").rules([
            format!("host share tcp {tcp_at}"),
            format!("host share udp {udp_at}"),
        ]);
        let running = run.spawn();
        let mut room = [0; 9];
        for _ in 0..2 {
            let (n, from) = udp.recv_from(&mut room)?;
            if room[..n] == *b"x" {
                udp.send_to(b"z", from)?;
            }
        }
        let outcome = running.wait();
        same("True\nTrue\n", &outcome.stdout, &outcome.seen())?;
        same("exit 0", &outcome.status, &outcome.seen())?;
    }
    let run = Run::new("true").way(Way::Run);
    let outcome = run.rule("host share tcp 127.0.0.1:5432").finish();
    match outcome
        .stderr
        .contains("it takes --isolate to have something to share")
    {
        true => Ok(()),
        false => Err(outcome.seen().into()),
    }
}

fn race() -> Result<(), Failed> {
    const ASKS: &str = "
import os, socket
kinds = ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::'), (socket.AF_INET, '127.0.0.1'))
for turn in range(10):
    go, gate = os.pipe()
    said, say = os.pipe()
    stay, end = os.pipe()
    for n in range(64):
        if os.fork() == 0:
            os.close(gate)
            os.close(end)
            family, address = kinds[n % 3]
            s = socket.socket(family)
            os.read(go, 1)
            try:
                s.bind((address, 7400 + turn))
                s.listen()
                os.write(say, b'1')
            except OSError:
                os.write(say, b'0')
            os.read(stay, 1)
            os._exit(0)
    os.close(gate)
    answers = b''
    while len(answers) < 64:
        answers += os.read(said, 64)
    os.close(end)
    print(answers.count(b'1'))
    for n in range(64):
        os.wait()
    for fd in (go, said, say, stay):
        os.close(fd)
";
    let won = "1\n".repeat(10);
    same(&won, &script(0, ASKS)?, "winners")?;
    Ok(())
}

/// Rules are about the addresses that the program names.
fn policy() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, socket
def bind(address):
    s = socket.socket()
    try:
        s.bind(address)
        s.listen()
        return s
    except OSError as e:
        return errno.errorcode[e.errno]
moved = bind(('0.0.0.0', 80))
print(moved.getsockname(), bind(('127.0.0.1', 81)), bind(('127.0.0.1', 8080)), bind(('0.0.0.0', 80)))
c = socket.create_connection(('127.0.0.1', 8080))
child, _ = moved.accept()
print(child.getsockname(), c.getpeername())
c = socket.create_connection(('127.0.0.1', 82))
print(c.getpeername(), moved.accept()[0].getsockname())
";
    for user in users() {
        let run = Run::new("python3").arg("-c").arg(ASKS).rules([
            "deny bind tcp *:81",
            "move bind tcp *:80 to loopback:8080",
            "move connect tcp *:82 to loopback:8080",
        ]);
        let outcome = isolated(run, user).finish();
        let told = "('0.0.0.0', 80) EACCES EADDRINUSE EADDRINUSE\n\
                    ('127.0.0.1', 80) ('127.0.0.1', 8080)\n\
                    ('127.0.0.1', 82) ('127.0.0.1', 80)\n";
        same(told, &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

fn inner() -> Result<(), Failed> {
    let launcher = stage().launcher.display();
    let connect =
        "import socket; print(socket.create_connection((\"127.0.0.1\", 7500)).getpeername())";
    let asks = format!(
        "
import socket, subprocess
s = socket.socket(); s.bind(('0.0.0.0', 7500)); s.listen()
def run(*options):
    word = ['{launcher}', 'run', '-q', *options, '--', 'python3', '-c', '{connect}']
    return subprocess.run(word, capture_output=True, text=True)
print(run().stdout, end='')
print('refused' in run('--isolate').stderr)
"
    );
    same("('127.0.0.1', 7500)\nTrue\n", &script(0, &asks)?, "inside")?;
    Ok(())
}

/// What real programs make of it, beside one another, and `bindgate exec` and `ls`.
fn others() -> Result<(), Failed> {
    for user in users() {
        let text = "import http.server, os, socketserver\n\
                    print(os.environ['BINDGATE_RUN'][:16])\n\
                    socketserver.TCPServer.allow_reuse_address = True\n\
                    s = http.server.HTTPServer(('', 80), http.server.SimpleHTTPRequestHandler)\n\
                    print('ready', flush=True)\n\
                    s.serve_forever()\n";
        let run = isolated(Run::new("python3").arg("-c").arg(text), user);
        let mut server = run.spawn();
        server.says("ready")?;
        let id = server
            .stdout()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        let bindgate = |words: &[&str]| {
            let run = Run::new(&stage().launcher).args(words).user(user);
            run.spawn().wait()
        };
        let get = "import urllib.request as u; print(u.urlopen('http://localhost/').status)";
        let seen = bindgate(&["exec", &id, "--", "python3", "-c", get]);
        let listed = bindgate(&["ls", &id]);
        server.signal(libc::SIGTERM);
        let outcome = server.wait();
        same("200\n", &seen.stdout, &(seen.seen() + &outcome.seen()))?;
        let row = listed.stdout.lines().nth(2).unwrap_or_default();
        let is_told = listed.stdout.contains("isolate=address")
            && row.contains(" 0.0.0.0:80 ")
            && row.contains(" 127.")
            && row.contains("listening");
        if !is_told
            || !outcome
                .stderr
                .contains(" bind tcp 0.0.0.0:80 reuseaddr → ok, at 127.")
        {
            return Err(format!("{}{}", listed.seen(), outcome.seen()).into());
        }
    }
    Ok(())
}

/// A static program has the machine's ports: that is said, with what holds it.
fn unheld() -> Result<(), Failed> {
    let program = compile_as("unseen_static", "isolate", &["-static"])?;
    let outcome = isolated(Run::new(program), 0).finish();
    if !outcome.stderr.contains("is outside of --isolate") {
        return Err(outcome.seen().into());
    }
    Ok(())
}

/// What is not as on a host of one's own: docs/hosts.md.
fn limits() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, socket
def attempt(f):
    try:
        return f()
    except OSError as e:
        return errno.errorcode[e.errno]
# A client of another address of a wildcard server is told the first one.
s = socket.socket(); s.bind(('0.0.0.0', 7600)); s.listen()
c = socket.create_connection(('127.0.0.2', 7600))
print(c.getpeername()[0], s.accept()[0].getsockname()[0])
# Beyond 127.0.7.255 the addresses are the machine's.
s = socket.socket(); s.bind(('127.0.8.1', 0)); s.listen()
print(s.getsockname()[0])
# A datagram socket at the wildcard with a port of its own is on loopback alone.
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('0.0.0.0', 7601))
print(attempt(lambda: u.sendto(b'x', ('192.0.2.1', 9))) in ('EINVAL', 'ENETUNREACH'))
# One without is not.
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('0.0.0.0', 0))
print(attempt(lambda: u.sendto(b'x', ('192.0.2.1', 9))) in (1, 'ENETUNREACH'))
";
    let told = "127.0.0.1 127.0.0.1\n127.0.8.1\nTrue\nTrue\n";
    same(told, &script(0, ASKS)?, "limits")?;
    Ok(())
}

/// The answers of the kernel of a network of its own to 6,272 pairs of binds, and
/// those of a run: at one port after the other, and each at a fresh one.
fn pairs() -> Result<(), Failed> {
    let program = compile("bind_pairs", &[])?;
    for words in [&[][..], &["fresh"]] {
        let alone = Run::new("unshare").args([
            "-n".as_ref(),
            "sh".as_ref(),
            "-c".as_ref(),
            "ip link set lo up && exec \"$@\"".as_ref(),
            "sh".as_ref(),
            program.as_os_str(),
        ]);
        let alone = alone.args(words).finish();
        let run = isolated(Run::new(&program).args(words), 0).launcher_arg("-q");
        let run = run.finish();
        same("exit 0", &alone.status, &alone.seen())?;
        same("exit 0", &run.status, &run.seen())?;
        let different = alone.stdout.lines().zip(run.stdout.lines());
        let different: Vec<_> = different.filter(|(a, b)| a != b).take(9).collect();
        if !different.is_empty() || run.stdout.lines().count() != 6272 {
            return Err(format!("alone, and in a run: {different:#?}").into());
        }
    }
    Ok(())
}
