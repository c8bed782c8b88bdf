//! `--lease`: a port that a program got from an automatic bind stays the run's.

use std::fs;
use std::net::TcpListener;

use libtest_mimic::{Failed, Trial};

use support::{Outcome, Run, Way, in_net, same, users};

type Test = fn() -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let all: [(&str, Test); 9] = [
        ("lease: a neighbour does not get the port", neighbour),
        ("lease: no other program of the run gets the port", within),
        (
            "lease: a port is handed out again once it was asked for",
            again,
        ),
        ("lease: all ports are taken", used_up),
        ("lease: nobody is joined", not_shared),
        ("lease: a socket with wishes of its own", own_wishes),
        ("lease: two runs lease different ports", two_runs),
        ("lease: a run inside a run leases as well", inner),
        (
            "lease: a run with ports of its own leases by itself",
            own_ports,
        ),
    ];
    let mut trials: Vec<Trial> = all
        .into_iter()
        .map(|(name, test)| Trial::test(name, test))
        .collect();
    trials.push(Trial::test("lease: where no port is left", nothing_left));
    trials
}

/// What the programs begin with.
const HEAD: &str = "
import errno, signal, socket, struct, subprocess, sys
four, six = socket.AF_INET, socket.AF_INET6
tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
def made(family=four, kind=tcp, *options):
    s = socket.socket(family, kind)
    for option in options:
        s.setsockopt(*option, 1)
    return s
def port(s):
    return s.getsockname()[1]
def ask(family=four, kind=tcp, host='127.0.0.1'):
    with made(family, kind) as s:
        s.bind((host, 0))
        return port(s)
def bind(number, kind=tcp):
    s = made(four, kind)
    try:
        s.bind(('127.0.0.1', number))
    except OSError as e:
        return errno.errorcode[e.errno]
    return 'ok'
";

fn program(text: &str) -> Run {
    Run::new("python3").args(["-c", &format!("{HEAD}{text}")])
}

fn leasing(run: Run, option: &str) -> Run {
    run.way(Way::Run).launcher_arg(option)
}

/// A network with few automatic ports.
fn in_small_net(test: impl FnOnce() -> Result<(), Failed> + Send) -> Result<(), Failed> {
    in_net(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40199")?;
        test()
    })
}

fn says(expected: &str, outcome: &Outcome) -> Result<(), Failed> {
    same(expected, &outcome.stdout, &outcome.seen())?;
    same("exit 0", &outcome.status, &outcome.seen())?;
    Ok(())
}

/// The program asks for a port of each kind and closes it. Then somebody outside
/// takes all automatic ports that there are.
fn neighbour() -> Result<(), Failed> {
    const ASKS: &str = "
kinds = [(four, tcp, '127.0.0.1'), (four, udp, '127.0.0.1'), (six, tcp, '::'), (six, udp, '::1'),
         (four, tcp, '')]
ports = [ask(*kind) for kind in kinds]
print('asked', flush=True)
sys.stdin.readline()
for (family, kind, host), number in zip(kinds, ports):
    s = made(family, kind)
    try:
        s.bind((host, number))
    except OSError as e:
        print(errno.errorcode[e.errno])
        continue
    if kind == tcp:
        s.listen()
    print('ok', port(s) == number)
";
    const TAKES: &str = "
kept = []
for kind in (tcp, udp):
    try:
        while True:
            kept.append(made(six, kind))
            kept[-1].bind(('::', 0))
    except OSError as e:
        print(errno.errorcode[e.errno], len(kept) - 1)
";
    const WAITS: &str = "
p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(p.stdout.readline(), end='')
exec(TAKES)
p.stdin.write('go on\\n')
p.stdin.close()
print(p.stdout.read(), end='')
p.wait()
";
    for user in users() {
        for (option, kept) in [(Some("--lease"), true), (None, false)] {
            in_small_net(|| {
                let asks = program(ASKS).user(user).logged();
                let asks = match option {
                    Some(option) => leasing(asks, option),
                    None => asks.way(Way::Run),
                };
                let command = asks.command();
                let words = std::iter::once(command.get_program()).chain(command.get_args());
                let waits = WAITS.replace("exec(TAKES)", TAKES);
                // What it starts is below one by itself.
                let outcome = program(&waits).user(user).below(None).args(words);
                let outcome = command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?)))
                    .fold(outcome, |run, (name, value)| run.env(name, value))
                    .spawn()
                    .wait();
                let taken = "asked\nEADDRINUSE 200\nEADDRINUSE 401\n";
                let end = match kept {
                    true => "ok True\n".repeat(5),
                    // What `--lease` is for.
                    false => "EADDRINUSE\n".repeat(5),
                };
                says(&format!("{taken}{end}"), &outcome)
            })?;
        }
    }
    Ok(())
}

fn within() -> Result<(), Failed> {
    const ASKS: &str = "
own = ask()
other = subprocess.run([sys.executable, '-c', sys.argv[1] + 'print(*[ask() for _ in range(300)])'],
                       capture_output=True, text=True).stdout.split()
print(len(other), len(set(other)), str(own) in other, bind(own))
";
    for option in ["--lease", "--lease=301"] {
        let run = leasing(program(ASKS).arg(HEAD), option);
        says("300 300 False ok\n", &run.finish())?;
    }
    Ok(())
}

fn again() -> Result<(), Failed> {
    const ASKS: &str = "
one, two = ask(), ask()
print(bind(one), ask() == one)
u = ask(kind=udp)
print(bind(u, udp), ask(kind=udp) not in (u,), ask(kind=udp) == u)
";
    let run = leasing(program(ASKS), "--lease=2");
    says("ok True\nok True True\n", &run.finish())
}

fn used_up() -> Result<(), Failed> {
    in_small_net(|| {
        const ASKS: &str = "
own = [ask() for _ in range(3)]
print([40000 <= p <= 40199 for p in own], [bind(p) for p in own])
";
        let outcome = leasing(program(ASKS), "--lease=2").logged().spawn().wait();
        says("[False, False, True] ['ok', 'ok', 'ok']\n", &outcome)?;
        let records = outcome.records();
        let automatic = records
            .iter()
            .filter(|r| r.is("bind", "allow") && r.text("asked").ends_with(":0"));
        let reasons: Vec<_> = automatic.map(|r| r.text("reason")).collect();
        let used_up = "not leased: the run's leases are used up";
        same(
            &format!("{:?}", ["leased", "leased", used_up]),
            &format!("{reasons:?}"),
            &outcome.seen(),
        )?;
        Ok(())
    })
}

/// An automatic port is nobody else's, also where the options would let it be.
fn not_shared() -> Result<(), Failed> {
    const ASKS: &str = "
REUSEADDR, REUSEPORT = (socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_REUSEPORT)
for kind in (tcp, udp):
    for option in (REUSEADDR, REUSEPORT):
        held = made(four, kind, option)
        held.bind(('127.0.0.1', ask(kind=kind)))
        others = [made(four, kind, option) for _ in range(3)]
        for s in others:
            s.bind(('127.0.0.1', 0))
        print(len({port(s) for s in others + [held]}))
        for s in others + [held]:
            number = port(s)
            s.close()
            bind(number, kind)
";
    says(
        "4\n4\n4\n4\n",
        &leasing(program(ASKS), "--lease=4").finish(),
    )
}

fn own_wishes() -> Result<(), Failed> {
    in_small_net(|| {
        const ASKS: &str = "
s = made()
s.setsockopt(socket.IPPROTO_IP, 24, 1)
s.bind(('127.0.0.1', 0))
print(port(s))
s = made()
try:
    s.setsockopt(socket.IPPROTO_IP, 51, struct.pack('I', 40007 << 16 | 40007))
    s.bind(('127.0.0.1', 0))
    print(port(s))
except OSError:
    print(40007)
s = made()
s.bind(('127.0.0.1', 0))
try:
    s.bind(('127.0.0.1', 0))
except OSError as e:
    print(errno.errorcode[e.errno])
try:
    made().bind(('192.0.2.1', 0))
except OSError as e:
    print(errno.errorcode[e.errno])
s = socket.socket(socket.AF_UNIX)
s.bind('')
print(len(s.getsockname()))
";
        let outcome = leasing(program(ASKS), "--lease").spawn().wait();
        says("0\n40007\nEINVAL\nEADDRNOTAVAIL\n6\n", &outcome)
    })
}

fn two_runs() -> Result<(), Failed> {
    const ASKS: &str = "
print(*sorted([ask() for _ in range(200)]), flush=True)
while sys.argv[1:]:
    signal.pause()
";
    let run = leasing(program(ASKS), "--lease=200");
    in_net(|| {
        let mut first = run.clone().arg("stay").spawn();
        let ports = |text: &str| -> Vec<u16> {
            let words = text.split_whitespace();
            words.filter_map(|word| word.parse().ok()).collect()
        };
        first.says("\n")?;
        let second = run.clone();
        let (one, two) = (ports(&first.stdout()), ports(&second.spawn().wait().stdout));
        let both = one.iter().filter(|port| two.contains(port)).count();
        same(
            "200 200 0",
            &format!("{} {} {both}", one.len(), two.len()),
            "ports",
        )?;
        first.signal(libc::SIGTERM);
        first.end()?;
        // The ports of a run that has ended are the next one's.
        let third = ports(&second.spawn().wait().stdout);
        same(
            &format!("{one:?}"),
            &format!("{third:?}"),
            "the ports of the third run",
        )?;
        Ok(())
    })
}

fn inner() -> Result<(), Failed> {
    const ASKS: &str = "
own = [ask() for _ in range(3)]
inner = subprocess.run(sys.argv[1:], capture_output=True, text=True).stdout.split()
print(len(inner), [str(p) in inner for p in own], [abs(int(p) - own[0]) > 100 for p in inner])
";
    let inner = Run::new("python3").args(["-c", &format!("{HEAD}print(ask(), ask(), ask())")]);
    let inner = inner.way(Way::Run).command();
    let words = std::iter::once(inner.get_program()).chain(inner.get_args());
    let run = leasing(program(ASKS).args(words), "--lease");
    says(
        "3 [False, False, False] [True, True, True]\n",
        &run.finish(),
    )
}

/// The socket of a client keeps the wildcard, and reaches outside.
fn own_ports() -> Result<(), Failed> {
    const ASKS: &str = "
kinds = [(four, tcp, '127.0.0.1'), (four, udp, '127.0.0.1'), (six, tcp, '::'), (six, udp, '::1'),
         (four, tcp, ''), (four, udp, '')]
ports = [ask(*kind) for kind in kinds]
others = [ask(*kind) for kind in kinds for _ in range(30)]
print(len(set(others) & set(ports)))
print([40000 <= p <= 40199 for p in ports])
for (family, kind, host), number in zip(kinds, ports):
    s = made(family, kind)
    s.bind((host, number))
    if kind == tcp:
        s.listen()
        socket.create_connection(('::1' if family == six else '127.0.0.1', number))
    print(s.getsockname()[:2] == (host or '0.0.0.0', number))
outside = socket.create_server(('127.0.0.1', 0))
client = made(four, udp)
client.bind(('', 0))
client.sendto(b'x', ('192.0.2.1', 9))
print('sent')
";
    for user in users() {
        for (option, leased) in [("--verbose", true), ("--lease=0", false)] {
            in_small_net(|| {
                let add = |words: &[&str]| std::process::Command::new("ip").args(words).status();
                add(&["addr", "add", "192.0.2.2/24", "dev", "lo"])?;
                let run = leasing(program(ASKS).user(user), "--isolate");
                let outcome = run.launcher_arg(option).spawn().wait();
                let words = match leased {
                    true => "[False, False, False, False, False, False]",
                    false => "[True, True, True, True, True, True]",
                };
                let all = format!("{words}\n{}sent\n", "True\n".repeat(6));
                let seen = outcome.stdout.split_once('\n').map_or("", |(_, rest)| rest);
                same(&all, seen, &outcome.seen())?;
                match leased {
                    true => says(&format!("0\n{all}"), &outcome),
                    false => Ok(()),
                }
            })?;
        }
    }
    Ok(())
}

fn nothing_left() -> Result<(), Failed> {
    in_net(|| {
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        fs::write(range, "10000 65535")?;
        let outcome = leasing(Run::new("true"), "--lease=200").spawn().wait();
        let expected = "bindgate: --lease=200: there are not so many ports in a row that are \
                        outside net.ipv4.ip_local_port_range and that no other run leases; a \
                        smaller number may do\n";
        same(expected, &outcome.stderr, &outcome.seen())?;
        fs::write(range, "10000 20000")?;
        // So long a list has to be read at once.
        let singles = (25_000..30_000).step_by(2).map(|port| format!("{port},"));
        let reserved = format!("20200,{}30000-65535", singles.collect::<String>());
        fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", reserved)?;
        let _outside = TcpListener::bind("127.0.0.1:0")?;
        let run = program("print(20201 < ask() < 25000)");
        says("True\n", &leasing(run, "--lease=200").spawn().wait())
    })
}
