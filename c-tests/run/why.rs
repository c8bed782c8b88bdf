//! `bindgate why`: the cause of each staged failure, and never a wrong one.
//!
//! A stage is a piece of Python that fails, and what is said of it: on the machine,
//! while the program runs, and from its log in another network, as another user.

use std::collections::HashMap;

use libtest_mimic::{Failed, Trial};

use crate::NAMESPACES;
use support::{
    Below, NOBODY, Outcome, Run, Way, has_nobody, in_net, left_out, outside, same, stage,
};

/// A stage: its name, what is done, and the sentences that it gives.
struct Stage {
    name: &'static str,
    script: &'static str,
    /// `because`, without pids and times, and `mend` with `+` where that is looked at.
    expected: &'static str,
}

/// Calls on the machine as it is.
const MACHINE: &[Stage] = &[
    Stage {
        name: "who has a port, by either family and by reuse",
        script: "
listens(('127.0.0.1', 4000)); bound(('0.0.0.0', 4001), UDP); listens(('::1', 4002))
listens(('::', 4003)); listens(('0.0.0.0', 4004), on=[REUSEADDR]); bound(('127.0.0.1', 4005), on=[REUSEPORT])
why('tcp :4000'); why('bind tcp 127.0.0.1:4000'); why('bind tcp 127.0.0.2:4000')
why('udp 4001'); why('bind udp [::]:4001'); why('tcp :4002'); why('bind tcp [::1]:4002')
why('bind tcp 127.0.0.1:4003'); why('bind tcp [::]:4004'); why('bind tcp [::]:4004 v6only')
why('bind tcp 127.0.0.1:4005 reuseport'); why('bind tcp 127.0.0.1:4005')
why('bind tcp 0.0.0.0:4004 reuseaddr'); why('tcp :4009')
",
        expected: "\
held by ME at 127.0.0.1:4000, listening
held by ME at 127.0.0.1:4000, listening
ok bind tcp 127.0.0.2:4000
held by ME at 0.0.0.0:4001, bound
held by ME at 0.0.0.0:4001, bound
held by ME at [::1]:4002, listening
held by ME at [::1]:4002, listening
held by ME at [::]:4003, listening
held by ME at 0.0.0.0:4004, listening
ok bind tcp [::]:4004 v6only
ok bind tcp 127.0.0.1:4005 reuseport
held by ME at 127.0.0.1:4005, bound
held by ME at 0.0.0.0:4004, listening
ok bind tcp [::]:4009
",
    },
    Stage {
        name: "what is not here",
        script: "
why('bind tcp 192.0.2.1:4020'); why('bind udp 192.0.2.1:4020'); why('bind tcp [2001:db8::1]:4020')
why('bind tcp [::ffff:192.0.2.1]:4020'); why('bind tcp 192.0.2.1:4020 freebind')
why('bind tcp [2001:db8::1]:4020 freebind'); why('bind tcp [ff02::1]:4020')
",
        expected: "\
no device of this host has 192.0.2.1
no device of this host has 192.0.2.1
no device of this host has 2001:db8::1
no device of this host has 192.0.2.1
ok bind tcp 192.0.2.1:4020 freebind
ok bind tcp [2001:db8::1]:4020 freebind
multicast on a stream socket (__inet6_bind)
",
    },
    Stage {
        name: "who listens instead",
        script: "
listens(('::1', 4030)); listens(('127.0.0.1', 4031)); listens(('::', 4032), on=[V6ONLY]); listens(('0.0.0.0', 4033))
listens(('127.0.0.2', 4034)); bound(('127.0.0.1', 4035)); listens(('::', 4036)); bound(('127.0.0.1', 4037), UDP)
why('connect tcp 127.0.0.1:4030'); why('connect tcp [::1]:4031'); why('connect tcp 127.0.0.1:4032')
why('connect tcp [::1]:4033'); why('connect tcp 127.0.0.1:4034'); why('connect tcp 127.0.0.1:4035')
why('connect tcp 127.0.0.1:4036'); why('connect tcp 127.0.0.1:4037'); why('connect tcp [::1]:4038')
why('connect tcp 192.0.2.1:4030'); why('connect tcp 0.0.0.0:4030')
",
        expected: "\
ME listens at [::1]:4030, for IPv6 alone
ME listens at 127.0.0.1:4031, for IPv4 alone
ME listens at [::]:4032, for IPv6 alone
ME listens at 0.0.0.0:4033, for IPv4 alone
ME listens at 127.0.0.2:4034, and not at 127.0.0.1:4034
ME is bound to 127.0.0.1:4035, and does not listen
ok connect tcp 127.0.0.1:4036
nobody listens on tcp port 4037 here
nobody listens on tcp port 4038 here
192.0.2.1:4030 is not an address of this host: whoever has it refused
ME listens at [::1]:4030, for IPv6 alone
",
    },
    Stage {
        name: "what is left of connections",
        script: "
server = listens(('127.0.0.1', 4040), on=[REUSEADDR])
client = socket.create_connection(('127.0.0.1', 4040)); peer, _ = server.accept()
let_go(server)
why('tcp :4040')
peer.close(); client.recv(1); client.close()
why('tcp :4040'); why('bind tcp 127.0.0.1:4040 reuseaddr')
server = listens(('::1', 4041)); client = socket.create_connection(('::1', 4041))
why(f'bind tcp [::1]:{client.getsockname()[1]}')
peer, _ = server.accept(); let_go(server); peer.close()
acknowledged(4041)
why('bind tcp [::1]:4041')
",
        expected: "\
held by ME at 127.0.0.1:4040, one end of a connection with 127.0.0.1:PORT
held at 127.0.0.1:4040 by TIME_WAIT: a connection with 127.0.0.1:PORT has ended, and the kernel keeps its address for N s more
ok bind tcp 127.0.0.1:4040 reuseaddr
held by ME at [::1]:PORT, one end of a connection with [::1]:4041
held at [::1]:4041 by a closed connection with [::1]:PORT that is not over yet, FIN_WAIT2
",
    },
    Stage {
        name: "names of Unix sockets",
        script: r"
listens('\0why'); bound('socket'); open('file', 'w').close(); gone = bound('gone'); let_go(gone)
why('bind unix unix:@why'); why('bind unix unix:' + os.getcwd() + '/file'); why('bind unix unix:socket')
why('bind unix unix:gone'); why('connect unix unix:gone')
",
        expected: "\
held by ME at unix:@why, listening
something stands at unix:HERE/file that no socket here is bound to, as a server leaves it behind
held by ME at unix:socket, bound
something stands at unix:gone that no socket here is bound to, as a server leaves it behind
nobody listens at unix:gone: no socket here is bound to the path any more
",
    },
];

/// The same as root with another user about, and the sysctl of the network.
const USERS: &[Stage] = &[
    Stage {
        name: "another user's port",
        script: "
listens(('0.0.0.0', 4100), on=[REUSEPORT]); listens(('::1', 4101)); bound(('0.0.0.0', 4102), UDP)
why('tcp :4100', uid=65534); why('bind tcp 0.0.0.0:4100 reuseport', uid=65534)
why('tcp :4101', uid=65534); why('udp :4102', uid=65534)
why('connect tcp 127.0.0.1:4101', uid=65534)
why('--uid 65534 bind tcp 0.0.0.0:4100 reuseport')
",
        expected: "\
held by a process of uid 0 at 0.0.0.0:4100, listening
held by a process of uid 0 at 0.0.0.0:4100, listening
held by a process of uid 0 at [::1]:4101, listening
held by a process of uid 0 at 0.0.0.0:4102, bound
a process of uid 0 listens at [::1]:4101, for IPv6 alone
held by ME at 0.0.0.0:4100, listening
",
    },
    Stage {
        name: "privileged ports, with and without the sysctl",
        script: "
why('tcp :80', uid=65534); why('udp 53', uid=65534); why('bind tcp [::]:80', uid=65534); why('--uid 65534 tcp :80')
why('tcp :80')
open('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'w').write('80')
why('tcp :80', uid=65534); why('tcp :79', uid=65534)
open('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'w').write('2000')
why('tcp :1999', uid=65534)
",
        expected: "\
port 80 is privileged (net.ipv4.ip_unprivileged_port_start is 1024), and CAP_NET_BIND_SERVICE is missing
port 53 is privileged (net.ipv4.ip_unprivileged_port_start is 1024), and CAP_NET_BIND_SERVICE is missing
port 80 is privileged (net.ipv4.ip_unprivileged_port_start is 1024), and CAP_NET_BIND_SERVICE is missing
port 80 is privileged (net.ipv4.ip_unprivileged_port_start is 1024), and CAP_NET_BIND_SERVICE is missing
ok bind tcp [::]:80
ok bind tcp [::]:80
port 79 is privileged (net.ipv4.ip_unprivileged_port_start is 80), and CAP_NET_BIND_SERVICE is missing
port 1999 is privileged (net.ipv4.ip_unprivileged_port_start is 2000), and CAP_NET_BIND_SERVICE is missing
",
    },
];

/// Programs, watched and read back from their logs.
const PROGRAMS: &[Stage] = &[
    Stage {
        name: "a port of the run",
        script: "
listens(('127.0.0.1', 4200)); fails(('0.0.0.0', 4200)); fails(('::', 4200)); fails(('127.0.0.1', 4200), on=[REUSEADDR])
child('CHILD', lambda: bound(('::1', 4201))); fails(('::', 4201))
bound(('0.0.0.0', 4202), UDP); fails(('127.0.0.1', 4202), UDP, on=[REUSEADDR])
bound(('::', 4203), UDP, on=[V6ONLY]); fails(('::1', 4203), UDP)
",
        expected: "\
held by ME at 127.0.0.1:4200, listening since TIME, in this run
held by ME at 127.0.0.1:4200, listening since TIME, in this run
held by ME at 127.0.0.1:4200, listening since TIME, in this run
held by CHILD at [::1]:4201, bound since TIME, in this run
held by ME at 0.0.0.0:4202, bound since TIME, in this run
held by ME at [::]:4203, bound since TIME, in this run
",
    },
    Stage {
        name: "a child that inherited the listener",
        script: "
def binder(at):
    s = listens(at)
    child('HEIR', lambda: None)
    let_go(s)
child('BINDER', lambda: binder(('127.0.0.1', 4210))); fails(('127.0.0.1', 4210))
child('SECOND', lambda: binder(('::', 4211))); fails(('0.0.0.0', 4211))
",
        expected: "\
held by HEIR at 127.0.0.1:4210, listening since TIME, in this run: HEIR inherited it from BINDER, which bound it at TIME and has it open no more
held by HEIR at [::]:4211, listening since TIME, in this run: HEIR inherited it from SECOND, which bound it at TIME and has it open no more
",
    },
    Stage {
        name: "the thief",
        script: "
def free(at, kind=TCP):
    s = bound((at, 0), kind); n = s.getsockname()[1]; let_go(s); return n
n = free('127.0.0.1'); child('THIEF', lambda: listens(('127.0.0.1', n))); fails(('127.0.0.1', n))
n = free('::1'); child('THIEF', lambda: bound(('::', n))); fails(('::1', n))
n = free('127.0.0.1', UDP); child('THIEF', lambda: bound(('0.0.0.0', n), UDP)); fails(('127.0.0.1', n), UDP)
n = free('127.0.0.1'); bound(('127.0.0.2', n)); fails(('0.0.0.0', n))
",
        expected: "\
held by THIEF at 127.0.0.1:PORT, listening since TIME, in this run; PORT: bind(0) by ME TIME, closed by TIME, taken by THIEF TIME, this bind failed TIME
held by THIEF at [::]:PORT, bound since TIME, in this run; PORT: bind(0) by ME TIME, closed by TIME, taken by THIEF TIME, this bind failed TIME
held by THIEF at 0.0.0.0:PORT, bound since TIME, in this run; PORT: bind(0) by ME TIME, closed by TIME, taken by THIEF TIME, this bind failed TIME
held by ME at 127.0.0.2:PORT, bound since TIME, in this run
",
    },
    Stage {
        name: "connections in the way",
        script: "
server = listens(('127.0.0.1', 4220)); client = socket.create_connection(('127.0.0.1', 4220)); fails(client.getsockname())
peer, _ = server.accept(); let_go(server); peer.close(); client.recv(1); client.close(); fails(('127.0.0.1', 4220))
server = listens(('::1', 4221)); client = socket.create_connection(('::1', 4221)); fails(client.getsockname()[:2])
peer, _ = server.accept(); let_go(server); peer.close(); client.recv(1); client.close(); fails(('::1', 4221))
",
        expected: "\
held by ME at 127.0.0.1:PORT, one end of a connection with 127.0.0.1:4220, for which the kernel chose the port, in this run
held at 127.0.0.1:4220 by TIME_WAIT: a connection of ME with 127.0.0.1:PORT has ended, and the kernel keeps its address for N s more
held by ME at [::1]:PORT, one end of a connection with [::1]:4221, for which the kernel chose the port, in this run
held at [::1]:4221 by TIME_WAIT: a connection of ME with [::1]:PORT has ended, and the kernel keeps its address for N s more
",
    },
    Stage {
        name: "refused connects of a run",
        script: "
listens(('::1', 4230)); refused(('127.0.0.1', 4230))
listens(('127.0.0.1', 4231)); refused(('::1', 4231))
listens(('127.0.0.2', 4232)); refused(('127.0.0.1', 4232))
bound(('127.0.0.1', 4233)); refused(('127.0.0.1', 4233))
let_go(listens(('127.0.0.1', 4234))); refused(('127.0.0.1', 4234))
let_go(listens(('::1', 4235))); refused(('::1', 4235))
refused(('127.0.0.1', 4236))
",
        expected: "\
ME listens at [::1]:4230, for IPv6 alone
ME listens at 127.0.0.1:4231, for IPv4 alone
ME listens at 127.0.0.2:4232, and not at 127.0.0.1:4232
ME is bound to 127.0.0.1:4233, and does not listen
ME listened at 127.0.0.1:4234 since TIME, and had closed it by TIME
ME listened at [::1]:4235 since TIME, and had closed it by TIME
nobody listens on tcp port 4236 here
",
    },
    Stage {
        name: "addresses and privilege in a run",
        script: "
fails(('192.0.2.1', 4240)); fails(('2001:db8::1', 4240)); fails(('192.0.2.1', 4240), UDP)
fails(('fe80::1', 4241))
",
        expected: "\
no device of this host has 192.0.2.1
no device of this host has 2001:db8::1
no device of this host has 192.0.2.1
link-local address without a device (__inet6_bind)
",
    },
    Stage {
        name: "names of Unix sockets in a run",
        script: r"
listens('\0why-run'); fails('\0why-run'); bound('path'); fails('path'); let_go(bound('left')); fails('left')
",
        expected: "\
held by ME at unix:@why-run, listening since TIME, in this run
held by ME at unix:path, bound since TIME, in this run
something stands at unix:left that no socket here is bound to, as a server leaves it behind
",
    },
];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for stage in MACHINE {
        let name = format!("why: {}", stage.name);
        trials.push(Trial::test(name, move || on_machine(stage, None)));
        let name = format!("why: {}, as nobody", stage.name);
        let trial = Trial::test(name, move || on_machine(stage, Some(NOBODY)));
        trials.push(left_out(trial, "there is no other user", !has_nobody()));
    }
    for stage in USERS {
        let trial = Trial::test(format!("why: {}", stage.name), move || {
            on_machine(stage, Some(0))
        });
        let reason = "the stage is root's";
        trials.push(outside(left_out(trial, reason, !has_nobody()), reason));
    }
    for stage in PROGRAMS {
        let name = format!("why: {}, watched and from the log", stage.name);
        trials.push(Trial::test(name, move || in_program(stage)));
    }
    trials.extend([
        outside(
            Trial::test("why: another network", other_network),
            NAMESPACES,
        ),
        Trial::test("why: a holder outside the run", holder_outside),
        Trial::test("why: rules, and the program's own output and status", rules),
        Trial::test("why: a server that comes later", comes_later),
        Trial::test("why: a server of each kind of CID", cids),
        Trial::test("why: a seccomp filter is not named as a cause", filtered),
        Trial::test("why: what the command line may say", command_line),
    ]);
    trials
}

fn script(text: &str) -> Run {
    let text = include_str!("why.py").to_owned() + text;
    let run = Run::new("python3").arg("-c").arg(text);
    run.env("LAUNCHER", &stage().launcher)
}

fn on_machine(stage: &Stage, user: Option<u32>) -> Result<(), Failed> {
    let mut run = script(stage.script);
    if let Some(user) = user {
        run = run.user(user);
        if user == 0 {
            run = run.below(None);
        }
    }
    let dir = run.dir().display().to_string();
    let outcome = run.finish();
    same("exit 0", &outcome.status, &outcome.seen())?;
    let pids = Pids::of(&outcome.stdout);
    let seen = pids.causes(&outcome.stdout, &dir);
    Ok(same(stage.expected, &seen, stage.name)?)
}

/// While it runs, and from its log.
fn in_program(stage: &Stage) -> Result<(), Failed> {
    let run = script(stage.script);
    let outcome = in_net(|| watched(&run, &[]).spawn().wait());
    same("exit 0", &outcome.status, &outcome.seen())?;
    let pids = Pids::of(&outcome.stdout);
    let seen = pids.causes(&outcome.stderr, "");
    same(
        stage.expected,
        &seen,
        &format!("{}, watched\n{}", stage.name, outcome.seen()),
    )?;
    // Nothing but the log is there.
    let notes = ["note connect any *", "note listen any *"];
    let run = script(stage.script).rules(notes).way(Way::Run);
    let run = run.launcher_arg("--sync").launcher_arg("--wait").logged();
    let outcome = in_net(|| run.spawn().wait());
    same("exit 0", &outcome.status, &outcome.seen())?;
    let read = from_log(&run);
    same("exit 0", &read.status, &read.seen())?;
    let pids = Pids::of(&outcome.stdout);
    let seen = pids.causes(&read.stdout, "");
    Ok(same(
        stage.expected,
        &seen,
        &format!("{}, from the log", stage.name),
    )?)
}

/// `bindgate why OPTIONS -- PROGRAM`
fn watched(run: &Run, options: &[&str]) -> Run {
    let launcher = Run::new(&stage().launcher)
        .arg("why")
        .args(options)
        .arg("--");
    run.clone().under(&launcher)
}

fn from_log(run: &Run) -> Outcome {
    let log = run.dir().join("log.jsonl");
    let why = Run::new(&stage().launcher).args(["why", "--log"]).arg(log);
    let why = if has_nobody() { why.user(NOBODY) } else { why };
    why.finish()
}

/// The processes of a stage by their names.
struct Pids(HashMap<String, String>);

impl Pids {
    fn of(stdout: &str) -> Pids {
        let named = stdout.lines().filter_map(|line| line.strip_prefix("pid "));
        let named = named.filter_map(|line| line.split_once(' '));
        Pids(
            named
                .map(|(name, pid)| (pid.to_owned(), name.to_owned()))
                .collect(),
        )
    }

    /// The causes of what `why` has said, a line each, without what differs from run to
    /// run; and calls that would succeed.
    fn causes(&self, said: &str, dir: &str) -> String {
        let mut all = String::new();
        for line in said.lines() {
            let line = match dir {
                "" => line.to_owned(),
                dir => line.replace(dir, "HERE"),
            };
            if let Some(cause) = line.strip_prefix("  because   ") {
                all += &format!("{}\n", self.plain(cause));
            } else if let Some((call, ok)) = line.split_once(" → ")
                && (ok.starts_with("ok now") || ok.starts_with("nothing is seen"))
            {
                all += &format!("ok {call}\n");
            } else if line.starts_with("bound") || line.starts_with("connected") {
                all += &format!("{line}\n");
            }
        }
        all
    }

    fn plain(&self, text: &str) -> String {
        let words = text.split(' ').map(|word| self.word(word));
        let text = words.collect::<Vec<_>>().join(" ");
        match text.split_once(" keeps its address for ") {
            Some((before, _)) => format!("{before} keeps its address for N s more"),
            None => text,
        }
    }

    fn word(&self, word: &str) -> String {
        let core = word.trim_end_matches([',', ':', ';']);
        let tail = &word[core.len()..];
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if let Some((_, pid)) = core.split_once('[')
            && let Some(pid) = pid.strip_suffix(']')
            && digits(pid)
        {
            let name = self.0.get(pid).map_or("SOMEBODY", String::as_str);
            return format!("{name}{tail}");
        }
        if core.len() == "12:03:01.123".len()
            && core.as_bytes()[8] == b'.'
            && core.as_bytes()[2] == b':'
        {
            return format!("TIME{tail}");
        }
        match core.rsplit_once(':') {
            // Not one of the stage's own.
            Some((at, port)) if digits(port) && is_chosen(port) => format!("{at}:PORT{tail}"),
            None if digits(core) && tail == ":" && is_chosen(core) => format!("PORT{tail}"),
            _ => word.to_owned(),
        }
    }
}

/// Is it a port that the kernel has chosen?
fn is_chosen(port: &str) -> bool {
    port.parse::<u32>().is_ok_and(|port| port >= 10_000)
}

/// Listeners in a network of their own, at ports that no other copy of this test has.
const FAR: &str = r#"
four = 20000 + 2 * (os.getpid() % 20000)
six = four + 1
serves = """
import socket, sys
four = socket.create_server(('127.0.0.1', int(sys.argv[1])))
six = socket.create_server(('::1', int(sys.argv[2])), family=socket.AF_INET6)
print(1, flush=True)
input()
"""
sets_up = 'ip link set lo up && exec python3 -c "$0" "$@"'
words = ['unshare', '-n', 'sh', '-c', sets_up, serves, str(four), str(six)]
far = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
far.stdout.readline()
named('FAR', far.pid)
print('ports', four, six, flush=True)
"#;

fn other_network() -> Result<(), Failed> {
    let asks = "
why(f'connect tcp 127.0.0.1:{four}'); why(f'connect tcp [::1]:{six}')
why(f'connect tcp 127.0.0.1:{four}', uid=65534)
far.communicate(b'\\n')
why(f'connect tcp 127.0.0.1:{four}')
";
    let causes = |outcome: &Outcome, said: &str| {
        let ports = outcome
            .stdout
            .lines()
            .find_map(|l| l.strip_prefix("ports "));
        let (four, six) = ports
            .and_then(|ports| ports.split_once(' '))
            .unwrap_or_default();
        let said = said.replace(four, "4300").replace(six, "4301");
        Pids::of(&outcome.stdout).causes(&said, "")
    };
    let outcome = script(&format!("{FAR}{asks}")).user(0).finish();
    same("exit 0", &outcome.status, &outcome.seen())?;
    let expected = "\
FAR listens at 127.0.0.1:4300, in another network namespace
FAR listens at [::1]:4301, in another network namespace
somebody listens at 127.0.0.1:4300 in another network namespace, that of FAR
nobody listens on tcp port 4300 here
";
    let seen = causes(&outcome, &outcome.stdout);
    same(expected, &seen, &outcome.seen())?;
    let calls = "refused(('127.0.0.1', four)); refused(('::1', six))\n";
    let run = script(&format!("{FAR}{calls}far.communicate(b'\\n')")).user(0);
    let outcome = in_net(|| watched(&run, &[]).spawn().wait());
    let expected: String = expected.lines().take(2).map(|l| format!("{l}\n")).collect();
    let seen = causes(&outcome, &outcome.stderr);
    Ok(same(&expected, &seen, &outcome.seen())?)
}

/// What is outside the run is named where it may be seen.
fn holder_outside() -> Result<(), Failed> {
    in_net(|| {
        let _four = std::net::TcpListener::bind("127.0.0.1:4310")?;
        let _six = std::net::UdpSocket::bind("[::1]:4311")?;
        let calls = "fails(('0.0.0.0', 4310)); fails(('::', 4311), UDP)\n";
        let outcome = watched(&script(calls), &[]).spawn().wait();
        let mut pids = Pids::of(&outcome.stdout);
        pids.0.insert(std::process::id().to_string(), "TEST".into());
        let who = match Below::everywhere() {
            None => "TEST",
            // Nobody may look at the process.
            Some(_) => "a process of uid 0",
        };
        let expected = format!(
            "held by {who} at 127.0.0.1:4310, listening, outside this run\n\
             held by {who} at [::1]:4311, bound, outside this run\n"
        );
        let seen = pids.causes(&outcome.stderr, "");
        Ok(same(&expected, &seen, &outcome.seen())?)
    })
}

fn rules() -> Result<(), Failed> {
    let calls = "
fails(('127.0.0.1', 4320)); refused(('127.0.0.1', 4321)); fails(('::1', 4322))
print('own output'); sys.stdout.flush(); os.write(2, b'own error\\n'); sys.exit(7)
";
    let run = script(calls);
    let options = [
        "-r",
        "deny bind tcp *:4320",
        "-r",
        "deny connect tcp *:4321",
        "-r",
        "deny bind tcp *:4322 with EADDRINUSE",
    ];
    let outcome = in_net(|| watched(&run, &options).spawn().wait());
    same("exit 7", &outcome.status, &outcome.seen())?;
    let expected = "\
rule 1, -r #1:1 refused it: deny bind tcp *:4320 with EACCES
rule 2, -r #2:1 refused it: deny connect tcp *:4321 with EACCES
rule 3, -r #3:1 refused it: deny bind tcp *:4322 with EADDRINUSE
";
    let pids = Pids::of(&outcome.stdout);
    let seen = pids.causes(&outcome.stderr, "");
    same(expected, &seen, &outcome.seen())?;
    let own = outcome
        .stdout
        .lines()
        .filter(|l| !l.starts_with("pid "))
        .collect::<Vec<_>>();
    same("own output", &own.join("\n"), &outcome.seen())?;
    let errors = outcome.stderr.lines().filter(|l| *l == "own error").count();
    same("1", &errors.to_string(), &outcome.seen())?;
    let killed = script("os.kill(os.getpid(), 9)");
    let outcome = in_net(|| watched(&killed, &[]).spawn().wait());
    Ok(same("signal 9", &outcome.status, &outcome.seen())?)
}

fn comes_later() -> Result<(), Failed> {
    let calls = "
refused(('127.0.0.1', 4330)); listens(('0.0.0.0', 4330)); refused(('::1', 4331)); listens(('::1', 4331))
";
    let run = script(calls);
    let outcome = in_net(|| watched(&run, &[]).spawn().wait());
    let pids = Pids::of(&outcome.stdout);
    let expected = "\
nobody listens on tcp port 4330 here
not yet: ME listens at 0.0.0.0:4330 since TIME, and the connect came TIME
nobody listens on tcp port 4331 here
not yet: ME listens at [::1]:4331 since TIME, and the connect came TIME
";
    let seen = pids.causes(&outcome.stderr, "");
    same(expected, &seen, &outcome.seen())?;
    let run = run
        .rules(["note connect any *", "note listen any *"])
        .way(Way::Run);
    let run = run.launcher_arg("--sync").launcher_arg("--wait").logged();
    let outcome = in_net(|| run.spawn().wait());
    let pids = Pids::of(&outcome.stdout);
    let expected: String = expected
        .lines()
        .filter(|l| l.starts_with("not"))
        .map(|l| format!("{l}\n"))
        .collect();
    let read = from_log(&run);
    Ok(same(
        &expected,
        &pids.causes(&read.stdout, ""),
        &read.seen(),
    )?)
}

/// Binds of vsock: where the kernel has it, on the machine; and in a run that is a host.
fn cids() -> Result<(), Failed> {
    let calls = "
for cid in (5, 3):
    s = socket.socket(40, TCP)
    try:
        s.bind((cid, 4340)); kept.append(s)
    except OSError:
        pass
s = socket.socket(40, TCP)
try:
    s.bind((3, 4340))
except OSError:
    pass
";
    let run = script(calls).rules(["note connect any *"]).way(Way::Run);
    let run = run
        .launcher_arg("--sync")
        .launcher_arg("--cid")
        .launcher_arg("3")
        .logged();
    let outcome = in_net(|| run.spawn().wait());
    same("exit 0", &outcome.status, &outcome.seen())?;
    let pids = Pids::of(&outcome.stdout);
    let read = from_log(&run);
    let seen = pids.causes(&read.stdout, "");
    let is_right = seen.lines().count() == 2
        && seen.lines().next().is_some_and(|l| l.contains("CID"))
        && seen
            .lines()
            .nth(1)
            .is_some_and(|l| l.contains("held by ME at vsock:3:4340"));
    if !is_right {
        return Err(format!("{seen}{}", read.seen()).into());
    }
    if support::has_vsock() {
        let outcome = script("why('bind vsock 77:4341'); why('bind vsock 0:4341')").finish();
        let seen = Pids::of(&outcome.stdout).causes(&outcome.stdout, "");
        let all = seen
            .lines()
            .all(|l| l.starts_with("no CID of this machine is "));
        if !all || seen.lines().count() != 2 {
            return Err(outcome.seen().into());
        }
    }
    Ok(())
}

/// A filter of the program's own refuses: no privilege is missing, and nobody holds it.
fn filtered() -> Result<(), Failed> {
    let calls = "
import ctypes
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
# bind(2) answers EACCES, everything else goes on.
number = {'x86_64': 49, 'aarch64': 200}[os.uname().machine]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | 13), (0x06, 0, 0, 0x7fff0000)]
program = b''.join(struct.pack('HBBI', *line) for line in code)
text = ctypes.create_string_buffer(program)
fprog = struct.pack('HxxxxxxP', len(code), ctypes.addressof(text))
libc.prctl(22, 2, ctypes.create_string_buffer(fprog), 0, 0)
fails(('127.0.0.1', 4350)); fails(('::1', 4350))
";
    let outcome = in_net(|| watched(&script(calls), &[]).spawn().wait());
    same("exit 0", &outcome.status, &outcome.seen())?;
    let seen = Pids::of(&outcome.stdout).causes(&outcome.stderr, "");
    let expected = "refused by something that cannot be seen from outside: a security module, \
                    Landlock, a control group's program or a seccomp filter\n";
    Ok(same(&expected.repeat(2), &seen, &outcome.seen())?)
}

fn command_line() -> Result<(), Failed> {
    let launcher = |words: &[&str]| {
        let run = Run::new(&stage().launcher).arg("why").args(words);
        run.finish()
    };
    for (words, says) in [
        (&[][..], "expected a call or an address"),
        (&["tcp"], "expected: bind KIND ADDRESS"),
        (&["tcp", ":99999"], "99999"),
        (
            &["listen", "tcp"],
            "why answers bind KIND ADDRESS and connect KIND ADDRESS",
        ),
        (
            &["connect", "udp", "127.0.0.1:4360"],
            "only a connect of a stream socket",
        ),
        (&["--log", "/nowhere/at-all"], "No such file"),
        (
            &["--log", "/dev/null", "0"],
            "is not the number of a failure",
        ),
        (
            &["--log", "/dev/null", "1"],
            "the log has 0 failures, not 1",
        ),
        (&["-r", "deny bind tcp *:1"], "--"),
    ] {
        let outcome = launcher(words);
        let is_refused = outcome.status != "exit 0" && outcome.stderr.contains(says);
        if !is_refused {
            return Err(format!("{words:?}: {says}\n{}", outcome.seen()).into());
        }
    }
    let empty = launcher(&["--log", "/dev/null"]);
    same("exit 0", &empty.status, &empty.seen())?;
    let missing = launcher(&["--", "/nowhere/at-all"]);
    Ok(same("exit 127", &missing.status, &missing.seen())?)
}
