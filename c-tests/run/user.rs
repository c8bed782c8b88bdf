//! `run --user`: a server that has port 80 and never was root.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use libtest_mimic::{Failed, Trial};

use support::{NOBODY, Process, Run, Way, has_nobody, in_net, outside, same, stage, until, which};

pub fn trials() -> Vec<Trial> {
    type Test = fn() -> Result<(), Failed>;
    let mut trials = vec![Trial::test("user: only root can", only_root)];
    let as_root: [(&str, Test); 9] = [
        ("user: who the program is", who),
        ("user: a port that a rule names", named),
        ("user: what is not granted", not_granted),
        ("user: IPv6, UDP and MPTCP", kinds),
        ("user: a message of the program's own", own_message),
        ("user: a socket that lingers holds nobody up", lingering),
        ("user: without the capability's bounding set", bounding_set),
        ("user: the broker is killed, or stopped", killed),
        ("user: a thousand programs at once", thousand),
    ];
    trials.extend(
        as_root
            .into_iter()
            .map(|(name, test)| outside(Trial::test(name, test), "it is started by root")),
    );
    const NGINX: &str = "user: nginx on port 80";
    trials.push(match (which("nginx"), which("curl")) {
        (Some(_), Some(_)) => outside(Trial::test(NGINX, nginx), "it is started by root"),
        _ => support::skipped(NGINX, "needs the packages nginx and curl"),
    });
    trials
}

const EIGHTY: &str = "allow bind any *:{53,80}";

fn python(text: &str) -> Run {
    let start = "
import errno, os, socket, sys
def bind(port, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0, address=''):
    s = socket.socket(family, kind, protocol)
    try:
        s.bind((address, port))
        return s.getsockname()[1]
    except OSError as e:
        return errno.errorcode[e.errno]
";
    Run::new("python3")
        .arg("-c")
        .arg(start.to_owned() + text)
        .way(Way::Run)
        .launcher_arg("--user=65534:65534")
}

fn says(run: &Run, expected: &str) -> Result<(), Failed> {
    in_net(|| {
        let outcome = run.spawn().wait();
        same(expected, &outcome.stdout, &outcome.seen())?;
        Ok(())
    })
}

fn only_root() -> Result<(), Failed> {
    if !has_nobody() {
        return Ok(());
    }
    let outcome = python("").user(NOBODY).spawn().wait();
    let said = outcome
        .stderr
        .contains("only root can start a program as another user");
    match said && outcome.status == "exit 2" {
        true => Ok(()),
        false => Err(outcome.seen().into()),
    }
}

fn who() -> Result<(), Failed> {
    let text = "
print(os.getresuid(), os.getresgid(), os.getgroups())
print([l.split()[1] for l in open('/proc/self/status') if l.startswith('Cap')][:3])
";
    says(
        &python(text),
        "(65534, 65534, 65534) (65534, 65534, 65534) [65534]\n\
         ['0000000000000000', '0000000000000000', '0000000000000000']\n",
    )
}

fn named() -> Result<(), Failed> {
    let text = "
sys.stdout.flush()
s = socket.socket()
s.bind(('0.0.0.0', 80))
s.listen()
c = socket.create_connection(('127.0.0.1', 80))
print(s.getsockname(), c.getpeername(), bind(80), bind(443), bind(8080))
";
    let run = python(text).rule(EIGHTY).logged();
    in_net(|| {
        let outcome = run.spawn().wait();
        let expected = "('0.0.0.0', 80) ('127.0.0.1', 80) EADDRINUSE EACCES 8080\n";
        same(expected, &outcome.stdout, &outcome.seen())?;
        let log = outcome.log()?;
        let binds = log.iter().filter(|r| r.text("call") == "bind");
        let errnos: Vec<_> = binds.map(|r| r.text("errno").to_owned()).collect();
        same(" EADDRINUSE EACCES ", &errnos.join(" "), &outcome.seen())?;
        Ok(())
    })
}

fn not_granted() -> Result<(), Failed> {
    for (rules, expected) in [
        (&[][..], "EACCES"),
        (&["allow bind any *"][..], "EACCES"),
        (&["allow bind tcp *:*"], "EACCES"),
        (&["allow bind tcp *:80 for python3*"], "EACCES"),
        (&["deny bind tcp *:80 with EPERM", EIGHTY], "EPERM"),
        (&["allow bind tcp *:80 user 65534"], "80"),
        (&["allow bind tcp *:reserved"], "80"),
    ] {
        let run = python("print(bind(80))").rules(rules.iter().copied());
        says(&run, &format!("{expected}\n"))?;
    }
    // The program can make it one of both families until it is bound.
    let text = "
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
try:
    s.bind(('::', 80))
    print('ok')
except OSError as e:
    print(errno.errorcode[e.errno])
";
    says(&python(text).rule("allow bind tcp {[::]}:80"), "EACCES\n")?;
    says(&python(text).rule(EIGHTY), "ok\n")
}

/// To close one takes as long as its sender likes, and the last who has it is the
/// broker.
fn lingering() -> Result<(), Failed> {
    let text = "
import array, signal, struct
run = os.environ['BINDGATE_RUN'].split('.')[0]
listener = socket.create_server(('127.0.0.1', 0))
children = []
for turn in range(3):
    told, tells = os.pipe()
    children.append(os.fork())
    if children[-1] == 0:
        client = socket.create_connection(listener.getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 3600))
        client.setblocking(False)
        try:
            while client.send(bytes(65536)):
                pass
        except BlockingIOError:
            pass
        broker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        broker.connect('\\0bindgate-ports/' + run)
        fds = array.array('i', [client.fileno()])
        broker.sendmsg([b'x' * 48], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        os.write(tells, b'.')
        # This waits where the broker was faster.
        client.close()
        signal.pause()
    os.read(told, 1)
    print(bind(80 + turn))
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
";
    let rule = "allow bind tcp *:{80,81,82}";
    says(&python(text).rule(rule), "80\n81\n82\n")
}

fn kinds() -> Result<(), Failed> {
    let text = "
print(bind(80, socket.AF_INET6), bind(53, socket.AF_INET, socket.SOCK_DGRAM))
print(bind(53, socket.AF_INET6, socket.SOCK_DGRAM, 0, '::1'))
print(bind(80, protocol=262) if os.path.exists('/proc/sys/net/mptcp/enabled') else 80)
print(bind(80, address='192.0.2.1'))
";
    says(&python(text).rule(EIGHTY), "80 53\n53\n80\nEADDRNOTAVAIL\n")
}

/// The program knows all that the library knows, and asks for another port.
fn own_message() -> Result<(), Failed> {
    let text = "
import array, struct
run, secret = os.environ['BINDGATE_RUN'].split('.')[:2]
def ask(port, fd, word=secret, family=socket.AF_INET):
    broker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broker.connect('\\0bindgate-ports/' + run)
    address = struct.pack('=HH', family, socket.htons(port)) + bytes(12)
    message = word.encode() + address
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fd))]
    broker.sendmsg([message], rights if fd else [])
    answer = struct.unpack('H', broker.recv(2))[0]
    return errno.errorcode.get(answer, 'ok')
kept = []
def new(*kind):
    kept.append(socket.socket(*kind))
    return kept[-1].fileno()
s = socket.socket()
print(ask(443, [s.fileno()]), ask(80, [s.fileno()], 'x' * 32), ask(80, []))
print(ask(80, [0]), ask(80, [s.fileno(), s.fileno()]), ask(8080, [s.fileno()]))
print(ask(80, [new(socket.AF_UNIX)]))
print(ask(80, [new(socket.AF_INET6)]), ask(80, [s.fileno()], family=10))
listener = socket.create_server(('127.0.0.1', 0))
print(ask(80, [listener.fileno()]), ask(80, [s.fileno()]), s.getsockname()[1])
# One that says nothing stays nobody's trouble.
silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
silent.connect('\\0bindgate-ports/' + run)
print(ask(80, [new(socket.AF_INET, socket.SOCK_DGRAM)]))
";
    says(
        &python(text).rule(EIGHTY),
        "EACCES EACCES EACCES\n\
         EACCES EACCES EACCES\n\
         EACCES\n\
         EACCES EACCES\n\
         EINVAL ok 80\n\
         ok\n",
    )
}

fn bounding_set() -> Result<(), Failed> {
    if which("setpriv").is_none() {
        return Ok(());
    }
    let text = "
import subprocess
code = 'import socket; s = socket.socket(); s.bind((\"\", 80)); print(s.getsockname()[1])'
words = ['setpriv', '--no-new-privs', sys.executable, '-c', code]
print(subprocess.run(words, capture_output=True).stdout)
";
    says(&python(text).rule(EIGHTY), "b'80\\n'\n")
}

/// The broker of a run that has said its id.
fn broker_of(process: &mut Process) -> Result<i32, String> {
    let id = process
        .stdout()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    let name = format!("bindgate-ports/{id}");
    until("the broker", || {
        let table = std::fs::read_to_string("/proc/thread-self/net/unix").ok()?;
        let line = table.lines().find(|line| line.ends_with(&name))?;
        let inode = format!("socket:[{}]", line.split_whitespace().nth(6)?);
        let mut all = std::fs::read_dir("/proc").ok()?;
        all.find_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let mut fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            let is_it = |fd: std::fs::DirEntry| {
                std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == inode.as_str())
            };
            fds.any(|fd| fd.is_ok_and(is_it)).then_some(pid)
        })
    })
}

fn killed() -> Result<(), Failed> {
    const TEXT: &str = "
import threading, time
print(os.environ['BINDGATE_RUN'][:16])
print('before', bind(80), flush=True)
def asks():
    start = time.monotonic()
    said = bind(80)
    return said, time.monotonic() - start
sys.stdin.readline()
answers, held = [], len(os.listdir('/proc/self/fd'))
threads = [threading.Thread(target=lambda: answers.append(asks())) for _ in range(64)]
[t.start() for t in threads]
print('asking', flush=True)
[t.join() for t in threads]
print(set(a for a, _ in answers), len(answers), max(t for _, t in answers) < TIME, flush=True)
print('left', len(os.listdir('/proc/self/fd')) == held)
print('after', bind(80))
";
    // Stopped: nobody answers before the time is over, and a slow machine adds to it.
    for (signal, expected) in [
        (libc::SIGKILL, "{'EACCES'} 64 True"),
        (libc::SIGSTOP, "{'EACCES'} 64 True"),
    ] {
        in_net(|| {
            let text = TEXT.replace("TIME", "2.0 + 8 * (os.getloadavg()[0] > 2)");
            let text = text.replace("sys.stdin.readline()", "time.sleep(0); wait()");
            let text = format!(
                "def wait():\n    while not os.path.exists('go'): time.sleep(0.01)\n{text}"
            )
            .replacen("def wait", "import time\ndef wait", 1);
            let run = python(&text).rule(EIGHTY);
            let go = run.dir().join("go");
            std::fs::set_permissions(run.dir(), PermissionsExt::from_mode(0o755))?;
            let mut process = run.spawn();
            process.says("before 80")?;
            let broker = broker_of(&mut process)?;
            // SAFETY: only signals.
            unsafe { libc::kill(broker, signal) };
            std::fs::write(&go, "")?;
            let outcome = process.wait();
            if signal == libc::SIGSTOP {
                // SAFETY: only signals.
                unsafe { libc::kill(broker, libc::SIGKILL) };
            }
            let is_right = [expected, "left True", "after EACCES"]
                .iter()
                .all(|line| outcome.stdout.contains(line));
            match is_right {
                true => Ok(()),
                false => Err(Failed::from(outcome.seen())),
            }
        })?;
    }
    Ok(())
}

/// Each tries for the one port until it has had it.
fn thousand() -> Result<(), Failed> {
    const TEXT: &str = "
children = []
for n in range(1000):
    pid = os.fork()
    if pid == 0:
        while True:
            answer = bind(80, address='127.0.%d.%d' % (n // 250, n % 250 + 1))
            if answer == 80:
                os._exit(0)
            if answer != 'EADDRINUSE':
                os._exit(1)
    children.append(pid)
print(sum(os.waitpid(pid, 0)[1] for pid in children))
";
    says(&python(TEXT).rule(EIGHTY), "0\n")
}

/// Debian's nginx as www-data, master and workers.
fn nginx() -> Result<(), Failed> {
    in_net(|| {
        let run = Run::new("nginx").way(Way::Run).rule("allow bind tcp *:80");
        let dir = run.dir().to_owned();
        let config = "pid nginx.pid; error_log stderr; worker_processes 2; daemon off;
events {}
http { access_log off; client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t;
  uwsgi_temp_path t; scgi_temp_path t;
  server { listen 80; listen [::]:80; location / { return 200 \"served as www-data\\n\"; } } }\n";
        std::fs::write(dir.join("nginx.conf"), config)?;
        let own = std::process::Command::new("chown")
            .arg("www-data")
            .arg(&dir)
            .status()?;
        if !own.success() {
            return Err("chown".into());
        }
        let run = run
            .args([
                "-p",
                &dir.display().to_string(),
                "-c",
                "nginx.conf",
                "-e",
                "stderr",
            ])
            .launcher_arg("--user=www-data");
        let mut server = run.spawn();
        until("port 80", || {
            (server.ended() || TcpStream::connect("127.0.0.1:80").is_ok()).then_some(())
        })?;
        let get = |url: &str| {
            Run::new("curl")
                .args(["-sg", url])
                .user(0)
                .spawn()
                .wait()
                .stdout
        };
        let (four, six) = (get("http://127.0.0.1/"), get("http://[::1]/"));
        server.signal(libc::SIGQUIT);
        let outcome = server.wait();
        same("served as www-data\n", &four, &outcome.seen())?;
        same("served as www-data\n", &six, &outcome.seen())?;
        let _ = stage();
        Ok(())
    })
}
