//! `--isolate=sealed`: a network of its own for each run.

use std::net::TcpListener;

use libtest_mimic::{Failed, Trial};

use crate::{NAMESPACES, python};
use support::{
    Below, Run, Way, compile, compile_as, has_nobody, in_net, outside, same, stage, users,
};

type Test = fn() -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![Trial::test(
        "sealed: the reason of a refusal is named",
        refusals,
    )];
    let inside: [(&str, Test); 14] = [
        ("sealed: the same ports in two runs", twice),
        ("sealed: nothing outside is reached", nothing_outside),
        ("sealed: nothing else is changed", nothing_else),
        ("sealed: static programs are held", statics),
        ("sealed: a policy decides as anywhere", policy),
        ("sealed: it ends as the program ends", ends),
        ("sealed: a run inside a run", inner),
        ("sealed: without the run's file", no_file),
        ("sealed: a killed log process", killed),
        ("sealed: Unix sockets", unix_sockets),
        ("sealed: other users", other_users),
        ("sealed: groups and packets", groups_and_packets),
        ("sealed: /proc/sys is read-only", fixed_settings),
        ("sealed: the host of the policy", described),
    ];
    trials.extend(
        inside
            .into_iter()
            .map(|(name, test)| outside(Trial::test(name, test), NAMESPACES)),
    );
    trials
}

fn sealed(run: Run, user: u32) -> Run {
    run.user(user)
        .way(Way::Run)
        .launcher_arg("--isolate=sealed")
}

/// Binds ports of every kind, says what came of it, and stays.
pub const BINDS: &str = "
import errno, socket, sys
kept = []
def bind(family, kind, address):
    s = socket.socket(family, kind)
    kept.append(s)
    try:
        s.bind(address)
        if kind == socket.SOCK_STREAM:
            s.listen()
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]
four, six = socket.AF_INET, socket.AF_INET6
tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
print('tcp', bind(four, tcp, ('0.0.0.0', 80)), kept[-1].getsockname())
print('twice', bind(four, tcp, ('127.0.0.1', 80)))
print('tcp6', bind(six, tcp, ('::1', 443)))
print('udp', bind(four, udp, ('127.9.9.9', 53)))
print('foreign', bind(four, tcp, ('192.0.2.1', 81)))
client = socket.create_connection(('127.0.0.1', 80))
served, peer = kept[0].accept()
print('names', client.getpeername(), served.getsockname(), peer == client.getsockname())
print('ready', flush=True)
sys.stdin.read()
";

/// Until something is written to it, somebody else has the other end.
const BOUND: &str = "tcp ok ('0.0.0.0', 80)\n\
                     twice EADDRINUSE\n\
                     tcp6 ok\n\
                     udp ok\n\
                     foreign EADDRNOTAVAIL\n\
                     names ('127.0.0.1', 80) ('127.0.0.1', 80) True\n\
                     ready\n";

/// Two runs at once bind as [`BINDS`] does, and both get all of it; the log has this
/// line.
pub fn two_at_once(run: &Run, binds: &str, line: &str) -> Result<(), Failed> {
    // The first stays until it is told to end.
    let stays = binds.replace("sys.stdin.read()", "import signal; signal.pause()");
    let mut first = run.clone().arg("-c").arg(stays).spawn();
    first.says("ready")?;
    let second = run.clone().arg("-c").arg(binds).spawn().wait();
    first.signal(libc::SIGTERM);
    let first = first.wait();
    same(BOUND, &first.stdout, &first.seen())?;
    same(BOUND, &second.stdout, &second.seen())?;
    same("exit 0", &second.status, &second.seen())?;
    match second.stderr.contains(line) {
        true => Ok(()),
        false => Err(second.seen().into()),
    }
}

/// Beside somebody on the machine who has the port already.
fn twice() -> Result<(), Failed> {
    for user in users() {
        in_net(|| {
            let _holder = TcpListener::bind("0.0.0.0:80")?;
            let run = sealed(Run::new("python3"), user);
            let line = "bindgate: isolate=sealed: the run has a network of its own\n";
            two_at_once(&run, BINDS, line)
        })?;
    }
    Ok(())
}

fn nothing_outside() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, socket
def connect(kind, address):
    try:
        socket.socket(socket.AF_INET, kind).connect(address)
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]
print(connect(socket.SOCK_STREAM, ('127.0.0.1', 9)), connect(socket.SOCK_DGRAM, ('192.0.2.1', 9)))
";
    for user in users() {
        in_net(|| {
            let _holder = TcpListener::bind("127.0.0.1:9")?;
            let plain = Run::new("python3").arg("-c").arg(ASKS).user(user);
            let outcome = plain.spawn().wait();
            same("ok ENETUNREACH\n", &outcome.stdout, &outcome.seen())?;
            let outcome = sealed(plain, user).spawn().wait();
            same(
                "ECONNREFUSED ENETUNREACH\n",
                &outcome.stdout,
                &outcome.seen(),
            )?;
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}

/// User, groups, directory, umask, descriptors, namespaces but for two.
fn nothing_else() -> Result<(), Failed> {
    const SAYS: &str = "id; pwd; umask; ls /proc/self/fd; ulimit -a; ps -o sid=,pgid= $$ | wc -l; \
                        grep -E 'SigBlk|SigIgn|SigCgt|CapEff|NoNew|Seccomp' /proc/self/status; \
                        cd /proc/self/ns; for n in cgroup ipc mnt pid uts time; do \
                        readlink $n; done";
    for user in users() {
        let plain = Run::new("sh").arg("-c").arg(SAYS).user(user);
        let expected = plain.finish().seen();
        let run = plain
            .way(Way::Run)
            .launcher_arg("--isolate=sealed")
            .logged();
        same(&expected, &run.finish().seen(), &format!("as user {user}"))?;
        let run = run.way(Way::Exec);
        same(
            &expected,
            &run.finish().seen(),
            &format!("--exec, as {user}"),
        )?;
    }
    Ok(())
}

/// No shim, no judge: the kernel alone.
fn statics() -> Result<(), Failed> {
    let program = compile_as("binds_and_listens", "_static", &["-static"])?;
    let expected = "bind: ok\n\
                    name: 0.0.0.0:80 (16 bytes)\n\
                    real name: 0.0.0.0:80\n\
                    listen: ok\n";
    for user in users() {
        let outcome = in_net(|| {
            let _holder = TcpListener::bind("0.0.0.0:80").expect("port 80");
            sealed(Run::new(&program).arg("80"), user).spawn().wait()
        });
        same(expected, &outcome.stdout, &outcome.seen())?;
        same("exit 0", &outcome.status, &outcome.seen())?;
    }
    Ok(())
}

/// Rules, records, predictions and holders are those of that network.
fn policy() -> Result<(), Failed> {
    const BINDS: &str = "
import errno, socket
def bind(port):
    s = socket.socket()
    kept.append(s)
    try:
        s.bind(('0.0.0.0', port))
        return s.getsockname()[1]
    except OSError as e:
        return errno.errorcode[e.errno]
kept = []
print(bind(80), bind(80), bind(81), bind(82))
until_logged(4)
";
    for user in users() {
        let run = sealed(python(BINDS), user).logged();
        let run = run.rule("deny bind tcp *:81 with EPERM");
        let run = run.rule("move bind tcp *:82 to loopback:8082");
        let outcome = run.finish();
        same("80 EADDRINUSE EPERM 82\n", &outcome.stdout, &outcome.seen())?;
        let mut seen = String::new();
        for r in outcome
            .records()
            .iter()
            .filter(|r| r.text("call") == "bind")
        {
            let predicted = &r.0["predicted"];
            let answer = predicted["answer"].as_str().unwrap_or("-");
            let differs = predicted["differs"].as_bool().unwrap_or_default();
            let holder = r.0["holder"]["address"].as_str().unwrap_or("-");
            seen += &format!("{} {answer} {differs} {holder}\n", r.text("used"));
        }
        let expected = "0.0.0.0:80 ok false -\n \
                        EADDRINUSE false 0.0.0.0:80\n - false -\n127.0.0.1:8082 ok false -\n";
        same(
            expected,
            &seen,
            &format!("as user {user}:\n{}", outcome.seen()),
        )?;
    }
    Ok(())
}

fn ends() -> Result<(), Failed> {
    for user in users() {
        for script in [
            "exit 3",
            "kill -TERM $$",
            "kill -KILL $$",
            "surely-not-there",
        ] {
            let plain = Run::new("sh").arg("-c").arg(script).user(user);
            for way in [Way::Run, Way::Exec] {
                let run = plain.clone().way(way).launcher_arg("--isolate=sealed");
                let outcome = run.logged().finish();
                same(&plain.finish().status, &outcome.status, script)?;
            }
        }
        let outcome = sealed(Run::new("surely-no-such-program"), user).finish();
        same("exit 127", &outcome.status, &outcome.seen())?;
    }
    Ok(())
}

/// In the same network, or sealed once more.
fn inner() -> Result<(), Failed> {
    let binds = compile("binds_and_listens", &[])?;
    let script = "
import socket, subprocess, sys
s = socket.socket(); s.bind(('0.0.0.0', 80)); s.listen()
for isolate in [], ['--isolate=sealed']:
    words = [sys.argv[1], 'run', *isolate, '--', sys.argv[2]]
    for port in '80', '81':
        said = subprocess.run(words + [port], capture_output=True, text=True)
        print(port, said.stdout.split(chr(10))[0])
";
    for user in users() {
        let run = Run::new("python3").arg("-c").arg(script);
        let run = run.arg(&stage().launcher).arg(&binds);
        let outcome = sealed(run, user).rule("deny bind tcp *:81").finish();
        let expected = "80 bind: EADDRINUSE\n81 bind: EACCES\n80 bind: ok\n81 bind: EACCES\n";
        same(expected, &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

/// Where the run has no socket in `/tmp`, its name inside is the way to it.
fn no_file() -> Result<(), Failed> {
    let binds = compile("binds_and_listens", &[])?;
    for user in users() {
        let script = "mount --bind /tmp /tmp && mount -o remount,ro,bind /tmp && exec \"$@\"";
        let around = ["unshare", "-m", "sh", "-c", script, "sh"];
        let run = Run::new(&binds).arg("80").around(around);
        let run = run.user(user).below(Some(Below::Open));
        let run = run.way(Way::Run).launcher_arg("--isolate=sealed");
        let outcome = run.rule("deny bind tcp *:80 with EMFILE").finish();
        same("bind: EMFILE\n", &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

/// Programs that run keep their network and their rules.
fn killed() -> Result<(), Failed> {
    let program = compile("binds_until_told", &[])?;
    let script = format!("echo $BINDGATE_RUN; exec {}", program.display());
    for user in users() {
        let run = sealed(Run::new("sh").arg("-c").arg(&script), user);
        let outcome = in_net(|| {
            let mut process = run.logged().rule("deny bind tcp *:9").spawn();
            process.says("ready")?;
            let daemon = process.stdout();
            let daemon = daemon.split('.').nth(2).and_then(|pid| pid.parse().ok());
            // SAFETY: the log process of this run, which nobody else ends.
            unsafe { libc::kill(daemon.ok_or("no log process")?, libc::SIGKILL) };
            process.signal(libc::SIGUSR1);
            process.says("many")?;
            process.signal(libc::SIGTERM);
            Ok::<_, String>(process.wait())
        })?;
        same("exit 0", &outcome.status, &outcome.seen())?;
    }
    Ok(())
}

/// Limits: abstract names are of the network, files and `/sys` are not.
fn unix_sockets() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, os, socket, sys
def connect(name):
    try:
        socket.socket(socket.AF_UNIX).connect(name)
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]
print(connect(chr(0) + sys.argv[1]), connect(sys.argv[2]))
print([name for _, name in socket.if_nameindex()])
print(os.listdir('/sys/class/net') == sys.argv[3].split())
";
    let name = format!("bindgate-test-{}", std::process::id());
    let seen = |way: &str, run: Run| {
        in_net(|| {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::net::{SocketAddr, UnixListener};
            let abstract_name = SocketAddr::from_abstract_name(&name)?;
            let _abstract = UnixListener::bind_addr(&abstract_name)?;
            let file = run.dir().join(format!("socket-{way}"));
            let _file = UnixListener::bind(&file)?;
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
            let devices = std::fs::read_dir("/sys/class/net")?.flatten();
            let devices = devices.map(|d| d.file_name().into_string().unwrap_or_default());
            let devices = devices.collect::<Vec<_>>().join(" ");
            let run = run.arg("-c").arg(ASKS).arg(&name).arg(&file).arg(devices);
            Ok::<_, std::io::Error>(run.spawn().wait())
        })
    };
    for user in users() {
        let run = Run::new("python3").user(user);
        let plain = seen("plain", run.clone())?;
        same("ok ok\n", &plain.stdout[..6], &plain.seen())?;
        let outcome = seen("sealed", sealed(run.fresh(), user))?;
        let expected = "ECONNREFUSED ok\n['lo']\nTrue\n";
        same(expected, &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

/// Limit: without root there are none.
fn other_users() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, os
def says(what, *arguments):
    try:
        what(*arguments)
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]
print(says(os.setgroups, [1]), os.stat('/').st_uid, says(os.setuid, 1))
";
    for user in users() {
        let outcome = sealed(Run::new("python3").arg("-c").arg(ASKS), user).finish();
        let expected = match user {
            // Where root is that of a user namespace with one user.
            0 if !has_nobody() => continue,
            0 => "ok 0 ok\n",
            _ => "EPERM 65534 EINVAL\n",
        };
        same(expected, &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

/// Limits: further groups have no name, a multicast group needs an interface, and
/// pings are raw sockets.
fn groups_and_packets() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, os, socket as s
def says(what, *arguments):
    try:
        what(*arguments)
        return 'ok'
    except OSError as e:
        return errno.errorcode[e.errno]
print(sorted(os.getgroups()), says(open, 'kept'))
for at in '0.0.0.0', '127.0.0.1':
    u = s.socket(s.AF_INET, s.SOCK_DGRAM)
    print(says(u.setsockopt, 0, s.IP_ADD_MEMBERSHIP, s.inet_aton('239.1.1.1') + s.inet_aton(at)))
print(says(s.socket, s.AF_INET, s.SOCK_DGRAM, s.IPPROTO_ICMP))
";
    if Below::everywhere().is_some() || !has_nobody() {
        return Ok(());
    }
    let run = Run::new("python3").arg("-c").arg(ASKS);
    let run = run.around([
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--groups=54321",
        "--bounding-set=-all",
    ]);
    let dir = run.dir().to_owned();
    let kept = dir.join("kept");
    std::fs::write(&kept, "")?;
    std::os::unix::fs::chown(&kept, Some(0), Some(54321))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&kept, mode)?;
    let outcome = sealed(run, 0).finish();
    // The group's right to the file is still there.
    let expected = "[65534] ok\nENODEV\nok\nEACCES\n";
    Ok(same(expected, &outcome.stdout, &outcome.seen())?)
}

/// Limit: ports below 1024 stay root's, and it is said.
fn fixed_settings() -> Result<(), Failed> {
    let binds = compile("binds_and_listens", &[])?;
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && \
                  exec \"$@\"";
    for user in users().into_iter().filter(|user| *user != 0) {
        let run = Run::new(&binds).around(["unshare", "-m", "sh", "-c", script, "sh"]);
        let run = sealed(run, user).below(Some(Below::Open));
        for (port, expected) in [("80", "bind: EACCES\n"), ("1024", "bind: ok\n")] {
            let outcome = run.clone().arg(port).finish();
            let first = outcome.stdout.split_inclusive('\n').next();
            same(expected, first.unwrap_or_default(), &outcome.seen())?;
            if !outcome
                .stderr
                .contains("bindgate: warning: /proc/sys is read-only here")
            {
                return Err(outcome.seen().into());
            }
        }
    }
    Ok(())
}

/// The kernel of the run's own network is given what the policy describes.
fn described() -> Result<(), Failed> {
    const ASKS: &str = "
import errno, socket, sys
kept = []
def bind(family, address):
    s = socket.socket(family, socket.SOCK_STREAM)
    kept.append(s)
    try:
        s.bind(address)
        return s.getsockname()[1]
    except OSError as e:
        return errno.errorcode[e.errno]
four, six = socket.AF_INET, socket.AF_INET6
print(bind(four, ('192.0.2.1', 80)), bind(six, ('2001:db8::1', 80)), bind(four, ('192.0.2.9', 80)))
print(bind(four, ('0.0.0.0', 9000)), bind(six, ('::', 9000)), bind(four, ('192.0.2.1', 9001)))
print(bind(four, ('127.0.0.1', 0)), bind(four, ('127.0.0.1', 0)))
try:
    for source, to in (5555, '192.0.2.1'), (5556, '198.51.100.1'):
        socket.create_connection((to, 9000), source_address=('0.0.0.0', source)).close()
except OSError as e:
    print(errno.errorcode[e.errno])
";
    const POLICY: [&str; 6] = [
        "host address 192.0.2.1/24 [2001:db8::1/64]",
        "host device eth1 10.1.0.1/24",
        "host busy tcp *:9000",
        "host busy tcp 127.0.0.1:9001 reuseport",
        "host automatic-ports 40000-40001",
        "host sysctl net.ipv4.ip_local_reserved_ports = 40000",
    ];
    for user in users() {
        let run = sealed(Run::new("python3").rules(POLICY).arg("-c").arg(ASKS), user);
        let outcome = run.finish();
        let expected = "80 80 EADDRNOTAVAIL\n\
                        EADDRINUSE EADDRINUSE 9001\n\
                        40001 EADDRINUSE\n\
                        ENETUNREACH\n";
        same(expected, &outcome.stdout, &outcome.seen())?;
        let line = "bindgate: host: ruled by the kernel of the run's own network: \
                    address 192.0.2.1/24 [2001:db8::1/64], device eth1 10.1.0.1/24, busy tcp *:9000";
        if !outcome.stderr.contains(line) {
            return Err(outcome.seen().into());
        }
    }
    Ok(())
}

fn refusals() -> Result<(), Failed> {
    let refused = |around: &[&str], below, words: &[&str]| {
        let run = Run::new("true").way(Way::Run).around(around).below(below);
        for user in users() {
            // Root of the namespaces around it, where it has made one.
            let user = if around.is_empty() { user } else { 0 };
            for way in [Way::Run, Way::Exec] {
                let run = run.clone().user(user).way(way);
                let outcome = run.launcher_arg("--isolate=sealed").finish();
                // Of two ids there is a warning, too: the loader then drops the library.
                let lines = outcome.stderr.split_inclusive('\n');
                let said: String = lines.filter(|l| !l.contains(": warning: ")).collect();
                let begins = "bindgate: not started: --isolate=sealed cannot be had here: ";
                if outcome.status != "exit 71"
                    || !said.starts_with(begins)
                    || said.lines().count() != 1
                    || !words.iter().all(|w| said.contains(w))
                {
                    return Err(Failed::from(format!("not {words:?}:\n{}", outcome.seen())));
                }
            }
        }
        let doctor = Run::new(&stage().launcher).args(["doctor", "--", "true"]);
        let outcome = doctor.user(0).around(around).below(below).finish();
        let line = outcome
            .stdout
            .lines()
            .find(|l| l.starts_with("isolate=sealed: cannot be had"));
        if !words.iter().all(|w| line.is_some_and(|l| l.contains(w))) {
            return Err(outcome.seen().into());
        }
        Ok(())
    };
    refused(
        &[],
        Some(Below::Docker),
        &["seccomp filter", "--cap-add SYS_ADMIN"],
    )?;
    if Below::everywhere().is_some() {
        return Ok(());
    }
    for (kind, words) in [
        ("net", "user.max_net_namespaces is 0"),
        ("user", "user.max_user_namespaces is 0"),
    ] {
        let limit = format!("echo 0 >/proc/sys/user/max_{kind}_namespaces && exec \"$@\"");
        let drop = "--bounding-set=-sys_admin";
        let inner = if kind == "user" {
            vec!["setpriv", drop]
        } else {
            vec![]
        };
        let mut around = vec!["unshare", "-Ur", "sh", "-c", &limit, "sh"];
        around.extend(inner);
        refused(&around, None, &[words, "sysctl -w"])?;
    }
    // Root that may not make a network namespace, and may not map itself either.
    let bare = "--bounding-set=-sys_admin,-setfcap";
    let words = ["root without CAP_SETFCAP", "--cap-add SETFCAP"];
    refused(&["setpriv", bare], None, &words)?;
    let two = "import os, sys; os.setresuid(65534, 1, 1); os.execvp(sys.argv[1], sys.argv[1:])";
    refused(&["python3", "-c", two], None, &["is not the effective one"])?;
    let outcome = Run::new(&stage().launcher)
        .args(["doctor", "--", "true"])
        .finish();
    let line = "isolate=sealed: can be had: a network of its own for each run\n";
    if !outcome.stdout.ends_with(line) {
        return Err(outcome.seen().into());
    }
    Ok(())
}
