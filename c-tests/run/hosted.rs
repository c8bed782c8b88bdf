//! `host` lines: a run on a host that the policy describes and the model rules.

use std::net::TcpListener;

use libtest_mimic::{Failed, Trial};

use support::{Run, Way, in_net, same, stage, users};

type Test = fn() -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let all: [(&str, Test); 15] = [
        ("host: without IPv6", no_ipv6),
        ("host: busy addresses", busy),
        ("host: addresses that this machine does not have", addresses),
        ("host: privileges", privileges),
        ("host: ports", ports),
        ("host: a port that is busy here", busy_here),
        ("host: another kernel", kernels),
        ("host: what is closed or killed is free", freed),
        ("host: one winner", winners),
        ("host: a killed log process", killed),
        ("host: a run inside is refused", inner),
        ("host: a static program is named", statics),
        ("host: the peer is this machine", peers),
        ("host: the rest is this machine", the_rest),
        ("host: a rule comes first", rules),
    ];
    all.into_iter()
        .map(|(name, test)| Trial::test(name, test))
        .collect()
}

/// What every program here begins with.
const ASKS: &str = "
import errno, os, signal, socket, sys, time
four, six = socket.AF_INET, socket.AF_INET6
tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
kept = []
def said(what, *arguments):
    try:
        return what(*arguments)
    except OSError as e:
        return errno.errorcode[e.errno]
def made(family, kind, *options):
    s = socket.socket(family, kind)
    kept.append(s)
    for option in options:
        s.setsockopt(*option, 1)
    return s
def bind(family, kind, *address, listen=True, options=()):
    def binds():
        s = made(family, kind, *options)
        s.bind(address)
        if kind == tcp and listen:
            s.listen()
        return '%s:%d' % s.getsockname()[:2]
    return said(binds)
def connect(family, kind, *address):
    def connects():
        s = made(family, kind)
        s.connect(address)
        return '%s:%d' % s.getpeername()[:2]
    return said(connects)
REUSE = ((socket.SOL_SOCKET, socket.SO_REUSEADDR),)
";

/// A run on this host, whose program says this, as each user.
fn says(lines: &[&str], program: &str, expected: &str, logged: &[&str]) -> Result<(), Failed> {
    for user in users() {
        let run = on(lines, program).user(user);
        // From this thread, which may be in a network of its own.
        let outcome = run.spawn().wait();
        same(expected, &outcome.stdout, &outcome.seen())?;
        same("exit 0", &outcome.status, &outcome.seen())?;
        for line in logged {
            if !outcome.stderr.contains(line) {
                return Err(format!("not logged: {line}\n{}", outcome.seen()).into());
            }
        }
    }
    Ok(())
}

fn on(lines: &[&str], program: &str) -> Run {
    let run = Run::new("python3").way(Way::Run).rules(lines);
    run.arg("-c").arg(format!("{ASKS}{program}"))
}

fn no_ipv6() -> Result<(), Failed> {
    says(
        &["host no-ipv6"],
        "
print(bind(six, tcp, '::1', 8080), bind(six, udp, '::', 53), bind(four, tcp, '127.0.0.1', 0)[:10])
print(socket.socket(socket.AF_UNIX) and 'unix')
",
        "EAFNOSUPPORT EAFNOSUPPORT 127.0.0.1:\nunix\n",
        &[
            "bindgate: host: ruled by the model of linux",
            ": no-ipv6\n",
            "socket inet6 stream → failed: EAFNOSUPPORT (Address family not supported by \
             protocol)  (described host, __sock_create)",
        ],
    )
}

fn busy() -> Result<(), Failed> {
    says(
        &[
            "host busy tcp *:18080",
            "host busy udp 127.0.0.1:18081",
            "host busy tcp 127.0.0.1:18082 reuseport",
        ],
        "
print(bind(four, tcp, '0.0.0.0', 18080), bind(six, tcp, '::1', 18080, options=REUSE))
print(bind(four, udp, '0.0.0.0', 18080), bind(four, udp, '0.0.0.0', 18081))
print(bind(four, tcp, '127.0.0.2', 18082), bind(four, tcp, '127.0.0.1', 18082))
print(connect(four, tcp, '127.0.0.1', 18080), connect(six, tcp, '::1', 18080))
print(connect(four, tcp, '127.0.0.1', 18083))
",
        "EADDRINUSE EADDRINUSE\n\
         0.0.0.0:18080 EADDRINUSE\n\
         127.0.0.2:18082 EADDRINUSE\n\
         127.0.0.1:18080 ::1:18080\n\
         ECONNREFUSED\n",
        &["bind tcp 0.0.0.0:18080 → failed: EADDRINUSE (Address already in use)  (described host"],
    )
}

fn addresses() -> Result<(), Failed> {
    says(
        &["host address 192.0.2.1/24 [2001:db8::1/64]"],
        "
print(bind(four, tcp, '192.0.2.1', 18080), bind(six, tcp, '2001:db8::1', 18080))
print(bind(four, tcp, '192.0.2.9', 18080), bind(four, tcp, '192.0.2.1', 18080))
print(bind(four, tcp, '0.0.0.0', 18080), bind(four, udp, '192.0.2.1', 18080))
server, server6, datagrams = kept[0], kept[1], kept[-1]
sys.stdout.flush()
if os.fork() == 0:
    # Another process of the run finds them.
    print(connect(four, tcp, '192.0.2.1', 18080), connect(six, tcp, '2001:db8::1', 18080))
    kept[-2].sendall(b'four')
    kept[-1].sendall(b'six')
    made(four, udp).sendto(b'datagram', ('192.0.2.1', 18080))
    print(connect(four, tcp, '192.0.2.1', 18081), connect(four, tcp, '198.51.100.1', 80))
    sys.stdout.flush()
    os._exit(0)
os.wait()
child, _ = server.accept()
print(child.recv(9), '%s:%d' % child.getsockname())
child, _ = server6.accept()
print(child.recv(9), '%s:%d' % child.getsockname()[:2])
print(datagrams.recv(9))
",
        "192.0.2.1:18080 2001:db8::1:18080\n\
         EADDRNOTAVAIL EADDRINUSE\n\
         EADDRINUSE 192.0.2.1:18080\n\
         192.0.2.1:18080 2001:db8::1:18080\n\
         ECONNREFUSED ENETUNREACH\n\
         b'four' 192.0.2.1:18080\n\
         b'six' 2001:db8::1:18080\n\
         b'datagram'\n",
        &[
            "bind tcp 192.0.2.1:18080 → moved to 127.0.0.1:",
            "  (described host)\n",
            "bind tcp 192.0.2.9:18080 → failed: EADDRNOTAVAIL (Cannot assign requested address)  \
             (described host, __inet_bind)",
        ],
    )
}

fn privileges() -> Result<(), Failed> {
    const BINDS: &str = "print(bind(four, tcp, '0.0.0.0', 81), bind(four, tcp, '127.0.0.1', 1500), said(lambda: socket.socket(four, socket.SOCK_RAW, 255) and 'raw'))\n";
    let unprivileged = "EACCES 127.0.0.1:1500 EPERM\n";
    says(&["host unprivileged"], BINDS, unprivileged, &[])?;
    let start = ["host unprivileged", "host unprivileged-start 81"];
    says(&start, BINDS, "0.0.0.0:81 127.0.0.1:1500 EPERM\n", &[])?;
    let sysctl = [
        "host unprivileged",
        "host sysctl net.ipv4.ip_unprivileged_port_start = 2000",
    ];
    says(&sysctl, BINDS, "EACCES EACCES EPERM\n", &[])?;
    const PRIVILEGED: &str =
        "print(bind(four, tcp, '0.0.0.0', 81), connect(four, tcp, '127.0.0.1', 81))\n";
    let bound = "0.0.0.0:81 127.0.0.1:81\n";
    says(&["host privileged"], PRIVILEGED, bound, &[])?;
    // Limit: what is more than an address takes the privilege here.
    let raw = "print(said(lambda: socket.socket(four, socket.SOCK_RAW, 255) and 'raw'))";
    for user in users() {
        let outcome = on(&["host privileged"], raw).user(user).finish();
        let expected = if user == 0 { "raw\n" } else { "EPERM\n" };
        same(expected, &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

fn ports() -> Result<(), Failed> {
    says(
        &[
            "host automatic-ports 40000-40003",
            "host sysctl net.ipv4.ip_local_reserved_ports = 40001",
            "host sysctl net.ipv4.ip_nonlocal_bind = 1",
        ],
        "
print(sorted(bind(four, tcp, '127.0.0.1', 0) for _ in range(3)), bind(four, tcp, '127.0.0.1', 0))
kept.pop().close()
kept.pop().close()
print(bind(four, tcp, '127.0.0.1', 0)[:12], bind(four, tcp, '203.0.113.9', 18080))
print(said(made(four, tcp).listen))
",
        "['127.0.0.1:40000', '127.0.0.1:40002', '127.0.0.1:40003'] EADDRINUSE\n\
         127.0.0.1:40 203.0.113.9:18080\n\
         EADDRINUSE\n",
        &[],
    )
}

fn busy_here() -> Result<(), Failed> {
    in_net(|| {
        let _holder = TcpListener::bind("127.0.0.1:18080")?;
        says(
            &["host device eth7"],
            "
print(bind(four, tcp, '127.0.0.1', 18080), connect(four, tcp, '127.0.0.1', 18080))
child, peer = kept[0].accept()
print('%s:%d' % child.getsockname(), peer == kept[1].getsockname())
",
            "127.0.0.1:18080 127.0.0.1:18080\n127.0.0.1:18080 True\n",
            &["bind tcp 127.0.0.1:18080 → moved to 127.0.0.1:"],
        )
    })
}

fn kernels() -> Result<(), Failed> {
    const BINDS: &str = "
print(bind(four, tcp, '0.0.0.0', 18080, options=REUSE), bind(four, tcp, '127.0.0.1', 18080, options=REUSE))
print(said(lambda: socket.socket(four, tcp, 262) and 'mptcp'))
";
    let linux = "0.0.0.0:18080 EADDRINUSE\nmptcp\n";
    let old = "0.0.0.0:18080 EADDRINUSE\nEPROTONOSUPPORT\n";
    let freebsd = "0.0.0.0:18080 127.0.0.1:18080\nEPROTONOSUPPORT\n";
    let line = "bindgate: host: ruled by the model of freebsd 14.3: kernel freebsd 14.3\n";
    says(&["host kernel freebsd 14.3"], BINDS, freebsd, &[line])?;
    says(&["host kernel linux 5.10"], BINDS, old, &[])?;
    says(&["host kernel linux 6.1"], BINDS, linux, &[])
}

fn freed() -> Result<(), Failed> {
    says(
        &["host address 192.0.2.1/24"],
        "
for turn in range(20):
    assert bind(four, tcp, '192.0.2.1', 18080) == '192.0.2.1:18080', turn
    assert bind(four, tcp, '0.0.0.0', 18080) == 'EADDRINUSE', turn
    while kept:
        kept.pop().close()
for turn in range(10):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, bind(four, tcp, '192.0.2.1', 18080).encode())
        signal.pause()
    assert os.read(read, 99) == b'192.0.2.1:18080', turn
    assert bind(four, tcp, '192.0.2.1', 18080) == 'EADDRINUSE', turn
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert bind(four, tcp, '192.0.2.1', 18080) == '192.0.2.1:18080', turn
    while kept:
        kept.pop().close()
# A duplicate keeps it.
s = made(four, tcp)
s.bind(('192.0.2.1', 18080))
t = s.dup()
s.close()
print(bind(four, tcp, '192.0.2.1', 18080))
t.close()
print(bind(four, tcp, '192.0.2.1', 18080))
",
        "EADDRINUSE\n192.0.2.1:18080\n",
        &[],
    )
}

/// As many at once, as often.
const RACERS: usize = 64;

fn winners() -> Result<(), Failed> {
    let rounds: usize = std::env::var("BINDGATE_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20);
    let program = format!(
        "
import multiprocessing, struct
racers, rounds = {RACERS}, {rounds}
start, done = multiprocessing.Barrier(racers), multiprocessing.Barrier(racers)
won = multiprocessing.Array('i', rounds)
odd = multiprocessing.Value('i', 0)
def race():
    for turn in range(rounds):
        s = socket.socket(four, tcp)
        start.wait()
        try:
            s.bind(('192.0.2.1', 10000 + turn))
            s.listen()
            with won.get_lock():
                won[turn] += 1
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                odd.value = e.errno
        done.wait()
        s.close()
all = [multiprocessing.Process(target=race) for _ in range(racers)]
for one in all: one.start()
for one in all: one.join()
print(sum(n == 1 for n in won) == rounds, odd.value)
"
    );
    let lines = ["host address 192.0.2.1/24"];
    let run = on(&lines, &program).patience(std::time::Duration::from_secs(60));
    let outcome = run.logged().finish();
    eprintln!("{RACERS} processes, {rounds} rounds: exactly one winner each");
    same("True 0\n", &outcome.stdout, &outcome.seen())?;
    Ok(())
}

fn killed() -> Result<(), Failed> {
    let program = "
assert bind(four, tcp, '192.0.2.1', 18080) == '192.0.2.1:18080'
daemon = int(os.environ['BINDGATE_RUN'].split('.')[2])
pids = []
for _ in range(16):
    pid = os.fork()
    if pid == 0:
        while True:
            begun = time.monotonic()
            answer = bind(four, tcp, '192.0.2.1', 18080)
            took = time.monotonic() - begun
            if answer != 'EADDRINUSE' or took > 5:
                os._exit(0 if answer == 'ENETDOWN' and took < 5 else 1)
            kept.clear()
    pids.append(pid)
time.sleep(0.2)
os.kill(daemon, signal.SIGKILL)
print(sum(os.waitpid(pid, 0)[1] for pid in pids))
print(bind(four, tcp, '127.0.0.1', 18081), connect(four, tcp, '192.0.2.1', 18080))
";
    for user in users() {
        let run = on(&["host address 192.0.2.1/24"], program).user(user);
        let outcome = run.logged().finish();
        same("0\nENETDOWN ENETDOWN\n", &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

fn inner() -> Result<(), Failed> {
    let launcher = &stage().launcher;
    let run = Run::new(launcher).way(Way::Run).rule("host no-ipv6");
    let outcome = run.args(["run", "--", "true"]).finish();
    let why = "the run around this one is on a host that its policy describes";
    if outcome.status != "exit 78" || !outcome.stderr.contains(why) {
        return Err(outcome.seen().into());
    }
    Ok(())
}

fn statics() -> Result<(), Failed> {
    let program = support::compile_as("binds_and_listens", "_static", &["-static"])?;
    let run = Run::new(&program).way(Way::Run).rule("host no-ipv6");
    let outcome = run.arg("0").finish();
    if !outcome.stderr.contains("warning: ") || !outcome.stderr.contains("static") {
        return Err(outcome.seen().into());
    }
    Ok(())
}

/// Limit: clients come from this machine's addresses.
fn peers() -> Result<(), Failed> {
    says(
        &["host address 192.0.2.1/24"],
        "
print(bind(four, tcp, '192.0.2.1', 18080), connect(four, tcp, '192.0.2.1', 18080))
child, peer = kept[0].accept()
print(peer[0], child.getpeername()[0], kept[1].getsockname()[0])
# What answers to that address reaches the client.
print(bind(four, udp, '192.0.2.1', 18080), connect(four, udp, '192.0.2.1', 18080))
server, client = kept[-2:]
client.send(b'request')
data, peer = server.recvfrom(9)
server.sendto(b'answer', peer)
print(data, client.recv(9))
",
        "192.0.2.1:18080 192.0.2.1:18080\n127.0.0.1 127.0.0.1 127.0.0.1\n\
         192.0.2.1:18080 192.0.2.1:18080\nb'request' b'answer'\n",
        &[],
    )
}

/// Limit: what is not an address of TCP or UDP.
fn the_rest() -> Result<(), Failed> {
    says(
        &["host kernel freebsd 14.3"],
        "
print([name for _, name in socket.if_nameindex()][:1])
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0))
s = socket.socket(socket.AF_UNIX)
s.bind('\\0bindgate-test-%d' % os.getpid())
s = made(four, tcp)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
print('ok')
",
        "['lo']\nok\n",
        &[],
    )
}

/// What a rule decides the host is not asked about.
fn rules() -> Result<(), Failed> {
    says(
        &[
            "host busy tcp *:18080",
            "move bind tcp *:18080 to loopback:18090",
            "deny bind tcp *:18081 with ENOSPC",
        ],
        "
print(bind(four, tcp, '0.0.0.0', 18080), bind(four, tcp, '0.0.0.0', 18081))
",
        "0.0.0.0:18080 ENOSPC\n",
        &["moved to 127.0.0.1:18090  (rule 1"],
    )
}
