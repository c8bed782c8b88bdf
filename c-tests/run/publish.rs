//! `--publish`: servers of a run that has ports of its own are reached from outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::NAMESPACES;
use support::{
    Below, Process, Run, Way, compile_as, in_net, outside, same, stage, until, users, which,
};

type Test = fn(&str) -> Result<(), Failed>;

const ENGINES: [&str; 2] = ["--isolate", "--isolate=sealed"];

pub fn trials() -> Vec<Trial> {
    let both: [(&str, Test); 8] = [
        ("publish: a server is reached, and names", reached),
        ("publish: who comes before the server is refused", before),
        ("publish: several processes at one port", several),
        ("publish: the last answer is delivered", last),
        ("publish: real servers", servers),
        ("publish: any port that is free", any),
        ("publish: ls says where everything is", listed),
        ("publish: limits", limits),
    ];
    let mut trials = vec![Trial::test(
        "publish: what is refused at the start",
        refusals,
    )];
    for (name, test) in both {
        for engine in ENGINES {
            let trial = Trial::test(format!("{name}, {engine}"), move || test(engine));
            trials.push(match engine {
                "--isolate" => trial,
                _ => outside(trial, NAMESPACES),
            });
        }
    }
    let statics = Trial::test("publish: static programs", statics);
    trials.push(outside(statics, NAMESPACES));
    trials
}

fn published(run: Run, engine: &str, user: u32, given: &[&str]) -> Run {
    let run = run.user(user).way(Way::Run).launcher_arg(engine);
    let add = |run: Run, one: &&str| run.launcher_arg("--publish").launcher_arg(one);
    given.iter().fold(run, add)
}

fn python(text: &str) -> Run {
    Run::new("python3").arg("-c").arg(text)
}

/// Sends this, and hears all that comes back.
fn ask(to: SocketAddr, what: &[u8]) -> std::io::Result<String> {
    let mut c = TcpStream::connect(to)?;
    c.set_read_timeout(Some(Duration::from_secs(60)))?;
    c.write_all(what)?;
    c.shutdown(std::net::Shutdown::Write)?;
    let mut said = String::new();
    c.read_to_string(&mut said)?;
    Ok(said)
}

/// The same, as soon as somebody is there.
fn ask_until(to: SocketAddr, what: &[u8]) -> Result<String, Failed> {
    let said = until(&format!("an answer of {to}"), || match ask(to, what) {
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => None,
        other => Some(other),
    })?;
    Ok(said?)
}

fn ended(process: Process) -> Result<String, Failed> {
    process.signal(libc::SIGTERM);
    let outcome = process.wait();
    Ok(outcome.seen())
}

/// Says who called it, until it is told to end.
const SERVER: &str = "
import os, signal, socket, sys, threading
family, at = (socket.AF_INET6, sys.argv[1]) if ':' in sys.argv[1] else (socket.AF_INET, sys.argv[1])
s = socket.socket(family)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
u = socket.socket(family, socket.SOCK_DGRAM)
if family == socket.AF_INET6:
    for one in s, u:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, at != '::')
s.bind((at, 80))
u.bind((at, 80))
s.listen(64)
def datagrams():
    while True:
        data, peer = u.recvfrom(99)
        u.sendto(data + peer[0].encode(), peer)
def serve(c, peer):
    data = c.recv(99)
    me = c.getsockname()
    assert c.getpeername() == peer
    c.sendall(data + (' %s %s %d' % (peer[0], me[0], me[1])).encode())
    c.close()
threading.Thread(target=datagrams, daemon=True).start()
print('ready', os.getpid(), flush=True)
while True:
    threading.Thread(target=serve, args=s.accept(), daemon=True).start()
";

/// By both addresses outside, whichever the server has inside.
fn reached(engine: &str) -> Result<(), Failed> {
    for user in users() {
        for (at, peer) in [
            ("0.0.0.0", "127.0.0.1"),
            ("127.0.0.1", "127.0.0.1"),
            ("::", "::ffff:127.0.0.1"),
            ("::1", "::1"),
        ] {
            let said = in_net(|| {
                let run = published(
                    python(SERVER).arg(at),
                    engine,
                    user,
                    &["18080:80", "18080:80/udp", "0.0.0.0:18081:80"],
                );
                let mut run = run.spawn();
                run.says("ready")?;
                let mut said = String::new();
                for to in ["127.0.0.1:18080", "[::1]:18080", "127.0.0.1:18081"] {
                    said += &ask_until(to.parse()?, b"x")?;
                    said += "\n";
                }
                let client = UdpSocket::bind("127.0.0.1:0")?;
                client.set_read_timeout(Some(Duration::from_secs(60)))?;
                client.connect("127.0.0.1:18080")?;
                let mut room = [0; 99];
                for what in ["y", "z"] {
                    until("the datagram's way", || client.send(what.as_bytes()).ok())?;
                    let n = client.recv(&mut room)?;
                    said += &String::from_utf8_lossy(&room[..n]);
                    said += "\n";
                }
                ended(run)?;
                Ok::<_, Failed>(said)
            })?;
            let line = format!("x {peer} {peer} 80\n");
            let expected = format!("{line}{line}{line}y{peer}\nz{peer}\n");
            same(&expected, &said, &format!("{at} as user {user}"))?;
        }
    }
    Ok(())
}

/// And so is who comes after its end; the next server is reached again.
fn before(engine: &str) -> Result<(), Failed> {
    const SHELL: &str = "
echo begun
read go
python3 -c \"$1\" 0.0.0.0 & one=$!
read go
kill $one
wait $one
echo gone
read go
exec python3 -c \"$1\" 127.0.0.1
";
    for user in users() {
        in_net(|| {
            let to: SocketAddr = "127.0.0.1:18080".parse()?;
            let refused = || {
                let answer = ask(to, b"x");
                answer.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
            };
            // A FIFO tells it to go on.
            let run = Run::new("sh").arg("-c").arg(SHELL).arg("sh").arg(SERVER);
            let fifo = run.dir().join("go");
            let made = std::process::Command::new("mkfifo")
                .arg("-m666")
                .arg(&fifo)
                .status()?;
            assert!(made.success());
            let script = format!("exec 0<>{}; {SHELL}", fifo.display());
            let run = Run::new("sh").arg("-c").arg(script).arg("sh").arg(SERVER);
            let mut run = published(run, engine, user, &["18080:80"]).spawn();
            run.says("begun")?;
            assert!(refused(), "nobody is there yet");
            let go = || {
                let fifo = std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&fifo);
                fifo.and_then(|mut fifo| fifo.write_all(b"go\n").map(|()| fifo))
            };
            let _one = go()?;
            let line = "x 127.0.0.1 127.0.0.1 80";
            same(line, &ask_until(to, b"x")?, "the first server")?;
            let _two = go()?;
            run.says("gone")?;
            until("nobody is there any more", || refused().then_some(()))?;
            let _three = go()?;
            same(line, &ask_until(to, b"x")?, "the second server")?;
            ended(run)?;
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

/// With `SO_REUSEPORT`: the kernel spreads the clients, inside and outside.
fn several(engine: &str) -> Result<(), Failed> {
    const SERVERS: &str = "
import os, socket
def server():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('127.0.0.1', 80))
    s.listen(64)
    return s
first, second = server(), server()
if os.fork() == 0:
    first.close()
    s, name = second, b'second'
else:
    second.close()
    s, name = first, b'first'
    for _ in range(40):
        c = socket.create_connection(('127.0.0.1', 80))
        c.close()
    print('ready', flush=True)
while True:
    c = s.accept()[0]
    try:
        c.sendall(name)
    except OSError:
        pass
    c.close()
";
    for user in users() {
        in_net(|| {
            let mut run = published(python(SERVERS), engine, user, &["18080:80"]).spawn();
            run.says("ready")?;
            let (mut first, mut second) = (0, 0);
            for _ in 0..100 {
                match ask_until("127.0.0.1:18080".parse()?, b"")?.as_str() {
                    "first" => first += 1,
                    "second" => second += 1,
                    other => return Err(other.into()),
                }
            }
            run.signal_group(libc::SIGTERM);
            run.wait();
            assert!(first > 0 && second > 0, "{first} and {second} clients");
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

/// The server ends right after it.
fn last(engine: &str) -> Result<(), Failed> {
    const ONCE: &str = "
import socket
s = socket.create_server(('0.0.0.0', 80))
print('ready', flush=True)
c = s.accept()[0]
c.sendall(b'y' * 3000000)
";
    for user in users() {
        in_net(|| {
            let mut run = published(python(ONCE), engine, user, &["18080:80"]).spawn();
            run.says("ready")?;
            let said = ask_until("[::1]:18080".parse()?, b"")?;
            let outcome = run.wait();
            assert_eq!(said.len(), 3_000_000, "{}", outcome.seen());
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

/// nginx and redis, where they are installed.
fn servers(engine: &str) -> Result<(), Failed> {
    let get = b"GET / HTTP/1.0\r\n\r\n";
    for user in users() {
        let mut all = Vec::new();
        if let Some(nginx) = which("nginx") {
            let run = Run::new(nginx);
            let dir = run.dir().to_owned();
            let conf = format!(
                "pid {0}/pid; error_log stderr; daemon off; worker_processes 2;
                 events {{}}
                 http {{
                     access_log off; client_body_temp_path {0}/a; proxy_temp_path {0}/b;
                     fastcgi_temp_path {0}/c; uwsgi_temp_path {0}/d; scgi_temp_path {0}/e;
                     server {{ listen 80; listen [::]:80; return 200 nginx; }}
                 }}",
                dir.display()
            );
            std::fs::write(dir.join("conf"), conf)?;
            let run = run.arg("-c").arg(dir.join("conf")).arg("-e").arg("stderr");
            all.push((run, "18080:80", &get[..], "nginx"));
        }
        if let Some(redis) = which("redis-server") {
            let run = Run::new(redis).args(["--port", "6379", "--save", ""]);
            all.push((run, "18080:6379", b"PING\r\n", "+PONG"));
        }
        for (run, given, what, expected) in all {
            in_net(|| {
                let run = published(run, engine, user, &[given]).spawn();
                let said = ask_until("127.0.0.1:18080".parse()?, what);
                let seen = ended(run)?;
                match said?.contains(expected) {
                    true => Ok(()),
                    false => Err(Failed::from(seen)),
                }
            })?;
        }
    }
    Ok(())
}

/// Two runs at once, each at a port of its own, which the log and `ls` tell.
fn any(engine: &str) -> Result<(), Failed> {
    for user in users() {
        in_net(|| {
            let mut runs = Vec::new();
            for _ in 0..2 {
                let run = published(python(SERVER).arg("0.0.0.0"), engine, user, &["0:80"]);
                let mut run = run.spawn();
                run.says("ready")?;
                let line = until("the log says where", || {
                    let log = run.stderr();
                    let line = log
                        .lines()
                        .find(|l| l.contains("published: tcp port 80 at "));
                    line.map(str::to_owned)
                })?;
                let at = line.split(" at ").nth(1).unwrap_or_default().to_owned();
                let (four, six) = at.split_once(" and ").ok_or(line)?;
                let [four, six] = [four, six].map(str::parse::<SocketAddr>);
                let (four, six) = (four?, six?);
                assert_eq!(four.port(), six.port());
                for to in [four, six] {
                    same("x 127.0.0.1 127.0.0.1 80", &ask_until(to, b"x")?, &at)?;
                }
                runs.push((run, four));
            }
            assert_ne!(runs[0].1, runs[1].1);
            for (run, _) in runs {
                ended(run)?;
            }
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

/// The published address first; of a run with ports of its own also where it really is,
/// and of a sealed one nothing that is not published.
fn listed(engine: &str) -> Result<(), Failed> {
    const SERVERS: &str = "
import os, signal, socket
all = [socket.create_server(('0.0.0.0', port)) for port in (80, 81)]
all.append(socket.create_server(('::1', 82), family=socket.AF_INET6))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('127.0.0.1', 80))
print(os.environ['BINDGATE_RUN'].split('.')[0], 'ready', flush=True)
signal.pause()
";
    for user in users() {
        in_net(|| {
            let given = ["18080:80", "18080:80/udp", "127.0.0.2:18082:82"];
            let mut run = published(python(SERVERS), engine, user, &given).spawn();
            run.says("ready")?;
            let id = run.stdout();
            let id = id.split(' ').next().unwrap_or_default();
            let ls = |options: &[&str]| {
                let ls = Run::new(&stage().launcher).args(["ls", id]).args(options);
                ls.user(user).spawn().wait()
            };
            let listed = ls(&["--url"]);
            let urls: Vec<_> = listed.stdout.lines().collect();
            let json = ls(&["--json"]);
            let told: serde_json::Value = serde_json::from_str(&json.stdout)?;
            let outside = |kind: &str, port: u16| {
                let ends = format!(":{port}");
                let is_it = |s: &&serde_json::Value| {
                    s["kind"] == kind && s["address"].as_str().is_some_and(|at| at.ends_with(&ends))
                };
                let socket = told["sockets"].as_array()?.iter().find(is_it)?;
                let all = socket["outside"].as_array()?.iter();
                Some(
                    all.filter_map(|at| Some(at.as_str()?.to_owned()))
                        .collect::<Vec<_>>(),
                )
            };
            let mut seen = Vec::new();
            for (kind, port) in [("tcp", 80), ("tcp", 81), ("tcp", 82), ("udp", 80)] {
                seen.push(outside(kind, port).ok_or_else(|| json.seen())?);
            }
            let is_sealed = engine == "--isolate=sealed";
            let own = usize::from(!is_sealed);
            let lengths: Vec<_> = seen.iter().map(Vec::len).collect();
            assert_eq!(lengths, [2 + own, own, 1 + own, 2 + own], "{}", json.seen());
            assert_eq!(seen[0][..2], ["127.0.0.1:18080", "[::1]:18080"]);
            assert_eq!(seen[3][..2], seen[0][..2]);
            assert_eq!(seen[2][0], "127.0.0.2:18082");
            for at in seen.iter().flatten().filter(|at| !at.contains(":180")) {
                assert!(TcpStream::connect(at.parse::<SocketAddr>()?).is_ok() || at == &seen[3][2]);
            }
            let places = urls.iter().filter_map(|url| url.split_once("/  "));
            let places: Vec<_> = places.map(|(place, _)| place.to_owned()).collect();
            let expected = seen[..3].iter().filter_map(|all| all.first());
            let expected: Vec<_> = expected.map(|at| format!("http://{at}")).collect();
            assert_eq!(places, expected, "{}", listed.seen());
            assert!(urls.iter().all(|url| url.contains("  python3")));
            let list = ls(&[]);
            let line = "  published: tcp port 80 at 127.0.0.1:18080 and [::1]:18080\n";
            assert!(list.stdout.contains(line), "{}", list.seen());
            ended(run)?;
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

/// A server at another address is not found, and one that a rule moves is found where it
/// is.
fn limits(engine: &str) -> Result<(), Failed> {
    for user in users() {
        in_net(|| {
            let given = ["18080:80", "18081:8080"];
            let run = published(python(SERVER).arg("127.0.0.2"), engine, user, &given);
            let mut run = run.spawn();
            run.says("ready")?;
            let is_refused = |port| {
                let to = SocketAddr::from(([127, 0, 0, 1], port));
                ask(to, b"x").is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
            };
            assert!(is_refused(18080));
            ended(run)?;
            let run = published(python(SERVER).arg("0.0.0.0"), engine, user, &given);
            let mut run = run.rule("move bind tcp *:80 to loopback:8080").spawn();
            run.says("ready")?;
            let said = ask_until("127.0.0.1:18081".parse()?, b"x")?;
            same(
                "x 127.0.0.1 0.0.0.0 80",
                &said.replace("127.0.0.1 80", "0.0.0.0 80"),
                "",
            )?;
            assert!(is_refused(18080));
            ended(run)?;
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

fn statics() -> Result<(), Failed> {
    let program = compile_as("tcp_echo_server", "_static", &["-static"])?;
    for user in users() {
        in_net(|| {
            let run = Run::new(&program).arg("8080");
            let run = published(run, "--isolate=sealed", user, &["18080:8080"]).spawn();
            same(
                "echo",
                &ask_until("127.0.0.1:18080".parse()?, b"echo")?,
                "the echo",
            )?;
            ended(run)?;
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

fn refusals() -> Result<(), Failed> {
    let refused = |run: Run, status: &str, words: &[&str]| {
        let outcome = run.spawn().wait();
        let is_said = words.iter().all(|word| outcome.stderr.contains(word));
        match is_said && outcome.status == status && outcome.stdout.is_empty() {
            true => Ok(()),
            false => Err(Failed::from(outcome.seen())),
        }
    };
    let program = || Run::new("echo").arg("begun");
    for user in users() {
        in_net(|| {
            let _held = TcpListener::bind("0.0.0.0:18080")?;
            // Who may see it is told which process that is.
            let holder = match user == 0 && Below::everywhere().is_none() {
                true => format!("[{}] at 0.0.0.0:18080", std::process::id()),
                false => " at 0.0.0.0:18080".into(),
            };
            let words = [
                "--publish 127.0.0.1:18080: the address is held by ",
                &holder,
            ];
            refused(
                published(program(), "--isolate", user, &["18080:80"]),
                "exit 71",
                &words,
            )?;
            let _six = TcpListener::bind("[::1]:18082")?;
            let words = ["--publish [::1]:18082: the address is held by "];
            refused(
                published(program(), "--isolate", user, &["18082:80"]),
                "exit 71",
                &words,
            )?;
            let words = ["--publish 127.0.0.1:18083: the address is held by "];
            let twice = ["18083:80", "18083:81"];
            refused(
                published(program(), "--isolate", user, &twice),
                "exit 71",
                &words,
            )?;
            if user != 0 {
                let words = [
                    "--publish 127.0.0.1:80: the port is root's",
                    "--publish 10080:80",
                ];
                refused(
                    published(program(), "--isolate", user, &["80"]),
                    "exit 71",
                    &words,
                )?;
            }
            let words = ["--publish 192.0.2.9:80: Cannot assign requested address"];
            let foreign = ["192.0.2.9:80:80"];
            refused(
                published(program(), "--isolate", 0, &foreign),
                "exit 71",
                &words,
            )
        })?;
    }
    in_net(|| {
        let machine = program().way(Way::Run).launcher_arg("--publish=8080");
        let words = ["it takes --isolate or --isolate=sealed"];
        refused(machine, "exit 2", &words)?;
        for wrong in [
            "x",
            "0",
            "8080/sctp",
            "::1:80:80",
            "localhost:80:80",
            "80:70000",
        ] {
            refused(
                published(program(), "--isolate", 0, &[wrong]),
                "exit 2",
                &["--publish"],
            )?;
        }
        let inner = Run::new(&stage().launcher);
        let inner = inner.args([
            "run",
            "--isolate",
            "--publish",
            "8080",
            "--",
            "echo",
            "begun",
        ]);
        let inner = inner.way(Way::Run).rule("deny bind tcp *:9");
        refused(
            inner,
            "exit 78",
            &["the run around this one enforces a policy"],
        )
    })
}
