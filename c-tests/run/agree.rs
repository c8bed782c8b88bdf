//! `explain` says what `run` does: policies and calls drawn at random are asked
//! of one and made under the other, as root and as a plain user.

use std::fmt::Write as _;

use libtest_mimic::{Failed, Trial};

use support::{NOBODY, Run, has_nobody, in_net_and_mounts, mount_tmpfs_of, same, stage};

/// Calls as `explain` takes them. What the kernel says of them depends on
/// nothing but the machine, which has no sockets but these, one after another.
const CALLS: &[&str] = &[
    "bind tcp 127.0.0.1:8080",
    "bind tcp 0.0.0.0:8080",
    "bind tcp [::1]:8080",
    "bind tcp [::]:8080",
    "bind tcp [::]:8080 v6only",
    "bind tcp [::ffff:127.0.0.1]:8080",
    "bind tcp 127.0.0.1:0",
    "bind tcp 0.0.0.0:80",
    "bind tcp 127.0.0.2:8081 reuseaddr",
    "bind tcp 10.9.9.9:8080",
    "bind tcp 10.9.9.9:8080 freebind",
    "bind udp 127.0.0.1:8080",
    "bind udp 0.0.0.0:53",
    "bind udp [::]:8081",
    "bind udp 127.0.0.1:0",
    "listen tcp",
    "listen tcp 127.0.0.1:8081",
    "listen tcp [::1]:8080",
    "connect tcp 127.0.0.1:8080",
    "connect tcp [::1]:8081",
    "connect udp 127.0.0.1:8080",
    "socket raw",
    "socket tcp",
    "socket udp6",
];

/// How many policies are drawn; each is asked about every call.
const POLICIES: usize = 16;

/// Makes the calls of its arguments, and says what came of each as `explain`
/// does.
const PROGRAM: &str = r#"
import errno, socket, sys
# Protocol 255, as raw sockets need one.
KINDS = {
    'tcp': (2, 1, 0), 'udp': (2, 2, 0), 'raw': (2, 3, 255), 'tcp6': (10, 1, 0),
    'udp6': (10, 2, 0), 'udplite': (2, 2, 136), 'mptcp': (2, 1, 262),
    'unix': (1, 1, 0), 'vsock': (40, 1, 0), 'netlink': (16, 3, 0),
    'packet': (17, 3, 0),
}
OPTIONS = {'v6only': (41, 26), 'reuseaddr': (1, 2), 'freebind': (0, 15)}
NUMBERS = {'any': 0xffffffff, 'auto': 0xffffffff, 'hypervisor': 0, 'local': 1, 'host': 2}
def number(word):
    return NUMBERS[word] if word in NUMBERS else int(word)
def word(n):
    return 'any' if n == 0xffffffff else n
def address(family, at):
    if family == 1:
        return '' if at == 'auto' else at.replace('@', chr(0), 1)
    host, port = at.rsplit(':', 1)
    if family == 40:
        return number(host), number(port)
    if family == 16:
        return 0, 0
    return host.strip('[]'), int(port)
def name(s):
    at = s.getsockname()
    if s.family == 1:
        return 'unix:' + (at if isinstance(at, str) else at.decode().replace(chr(0), '@', 1))
    if s.family == 40:
        return f'vsock:{word(at[0])}:{at[1]}'
    if s.family == 16:
        return 'netlink:the process'
    host, port = at[:2]
    return f'[{host}]:{port}' if s.family == 10 else f'{host}:{port}'
def call(text):
    op, kind, *rest = text.split()
    at = rest.pop(0) if rest else None
    family, ty, protocol = KINDS[kind]
    if at and at[0] == '[':
        family = 10
    try:
        s = socket.socket(family, ty, protocol)
    except OSError as e:
        return errno.errorcode[e.errno] if op == 'socket' else 'unbound'
    with s:
        for option in rest:
            s.setsockopt(*OPTIONS[option], 1)
        try:
            if op == 'socket':
                return 'ok'
            if op == 'connect':
                s.connect(address(family, at))
                return 'ok'
            if op == 'bind' or at:
                try:
                    s.bind(address(family, at))
                except OSError:
                    if op == 'listen':
                        return 'unbound'
                    raise
            if op == 'listen':
                s.listen()
            return 'ok ' + name(s)
        except OSError as e:
            return errno.errorcode[e.errno]
for text in sys.argv[1:]:
    print(call(text), flush=True)
"#;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

/// A policy of one to four rules.
fn policy(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..=dice.below(4) {
        let kind = dice.of(&["tcp", "udp", "any", "inet6", "inet"]);
        let at = dice.of(&[
            "*:8080",
            "*:8081",
            "*:auto",
            "loopback:*",
            "0.0.0.0:8080",
            "[::]:*",
            "127.0.0.0/8:8080-8081",
            "10.0.0.0/8:*",
            "exactly 127.0.0.1:8080",
        ]);
        let user = dice.of(&["", "", " user root", " user nobody"]);
        let _ = match dice.below(8) {
            0 | 1 => writeln!(text, "deny bind {kind} {at}{user}"),
            2 => writeln!(text, "deny bind {kind} {at} with ENODEV{user}"),
            3 => writeln!(text, "allow bind {kind} {at}{user}"),
            4 => writeln!(text, "deny listen {kind} {at}{user}"),
            5 => writeln!(text, "deny connect {kind} {at} with ENETUNREACH{user}"),
            6 => writeln!(text, "deny socket {kind} with EMFILE{user}"),
            _ => writeln!(text, "move bind tcp *:8080 to *:+1000{user}"),
        };
    }
    if dice.below(3) == 0 {
        text.push_str("default deny for bind\n");
    }
    text
}

/// The lines `result` of explain, one a call; `-` where it does not know.
fn explained(text: &str) -> Vec<String> {
    let mut results = Vec::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            results.push("-".to_owned());
        } else if let Some(result) = line.strip_prefix("  result    ") {
            *results.last_mut().unwrap() = result.to_owned();
        }
    }
    results
}

/// Without the port that the kernel chose, and without the address where
/// connect(2) chose that too, or where it is a process id.
fn comparable(call: &str, result: &str) -> String {
    let is_auto = [":0", ":auto", " auto"]
        .iter()
        .any(|end| call.ends_with(end));
    let is_auto = is_auto || call == "listen tcp";
    match result.rsplit_once(':') {
        _ if call.starts_with("connect") || call.starts_with("bind netlink") => {
            result.split(' ').next().unwrap_or("").to_owned()
        }
        Some((head, _)) if is_auto => head.to_owned(),
        _ => result.to_owned(),
    }
}

/// Asks `explain` of these calls, makes them under `run`, and compares. How many
/// answers there were to compare.
fn compare(policy: &str, calls: &[&str], user: u32) -> Result<usize, Failed> {
    let run = Run::new(&stage().launcher).user(user);
    std::fs::write(run.dir().join("policy"), policy)?;
    let asked = run
        .clone()
        .args(["explain", "--policy", "policy"])
        .args(calls)
        .finish();
    same("exit 0", &asked.status, &asked.seen())?;
    let made = run
        .args(["run", "--policy", "policy", "--log", "/dev/null", "--"])
        .args(["python3", "-c", PROGRAM])
        .args(calls)
        .finish();
    same("exit 0", &made.status, &format!("{policy}{}", made.seen()))?;
    let said = explained(&asked.stdout);
    let done: Vec<&str> = made.stdout.lines().collect();
    let wanted = calls.len().to_string();
    same(&wanted, &said.len().to_string(), &asked.seen())?;
    same(&wanted, &done.len().to_string(), &made.seen())?;
    let mut compared = 0;
    for ((call, said), done) in calls.iter().zip(&said).zip(done) {
        if said.starts_with(['-', '?']) || said.starts_with("unknown") || done == "unbound" {
            continue;
        }
        compared += 1;
        let (said, done) = (comparable(call, said), comparable(call, done));
        let at = format!("{call} of user {user} under\n{policy}{}", asked.seen());
        same(&said, &done, &at)?;
    }
    Ok(compared)
}

fn agree(user: u32) -> Result<(), Failed> {
    let mut dice = Dice(0x5eed_0001);
    let mut compared = 0;
    for _ in 0..POLICIES {
        compared += compare(&policy(&mut dice), CALLS, user)?;
    }
    if compared < 300 {
        return Err(format!("only {compared} answers were compared").into());
    }
    Ok(())
}

/// Hosts that a policy describes, each asked about every call.
const HOSTS: &[&str] = &[
    "host no-ipv6\n",
    "host busy tcp *:8080\n",
    "host busy tcp 127.0.0.1:8081 reuseaddr\nhost busy udp [::]:8080\n",
    "host address 10.9.9.9/24\n",
    "host address 10.9.9.1/24 [fd00::1/64]\nhost unprivileged\n",
    "host privileged\nhost automatic-ports 40000-40100\n",
    "host unprivileged\nhost unprivileged-start 80\n",
    "host sysctl net.ipv4.ip_nonlocal_bind = 1\n",
    "host kernel freebsd 14.3\n",
    "host kernel linux 5.10\nhost busy tcp 127.0.0.1:8080\n",
    "host kernel freebsd 9.1\nhost busy tcp *:8080\nhost address 10.9.9.9/24\n",
];

fn described(user: u32) -> Result<(), Failed> {
    let mut compared = 0;
    for policy in HOSTS {
        // A privilege that the kernel asks for, too, is not to be had here, and options
        // are the kernel's.
        let is_possible = |call: &&str| {
            let raw = *call == "socket raw" && policy.contains("privileged");
            let foreign = call.ends_with("freebind") && policy.contains("freebsd");
            !raw && !foreign
        };
        let calls: Vec<&str> = CALLS.iter().copied().filter(is_possible).collect();
        compared += compare(policy, &calls, user)?;
    }
    if compared < 200 {
        return Err(format!("only {compared} answers were compared").into());
    }
    Ok(())
}

/// What an example says to the test of the policy language alone, and what
/// `explain` has no word for. A call of another machine is not made at all.
const NOT_ASKED: &[&str] = &[
    " for ",
    " user ",
    " implicit",
    " unprivileged-start ",
    "exec ",
    "connect vsock",
    "sctp",
];

/// The examples of docs/policy.md: a policy, and the calls below it.
fn examples() -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(support::sources().join("../docs/policy.md"));
    let text = text.expect("docs/policy.md");
    let blocks = text.split("```policy\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let examples = blocks.map(|block| {
        let (asked, policy): (Vec<&str>, Vec<&str>) =
            block.lines().partition(|line| line.starts_with("#?"));
        let calls = asked.iter().filter_map(|line| {
            let call = line.trim_start_matches("#?").split(" => ").next()?.trim();
            let is_asked = NOT_ASKED.iter().all(|word| !call.contains(word));
            // Whoever runs the test has a privilege or not.
            let call = call.trim_end_matches(" unprivileged");
            let call = call.trim_end_matches(" privileged");
            is_asked.then(|| call.replace("netlink ?", "netlink netlink:0:0x0"))
        });
        (policy.join("\n") + "\n", calls.collect())
    });
    // How often a rule has matched is something that `explain` does not know.
    let counts = |policy: &str| {
        let words = [" times ", " after ", " every "];
        let is_rule = |line: &&str| line.starts_with("deny ");
        let mut rules = policy.lines().filter(is_rule);
        rules.any(|rule| words.iter().any(|word| rule.contains(word)))
    };
    examples
        .filter(|(policy, calls): &(String, Vec<_>)| !counts(policy) && !calls.is_empty())
        .collect()
}

/// Every example, where `/run` is empty and 10.0.0.5 an address of this machine.
fn documented(user: u32) -> Result<(), Failed> {
    in_net_and_mounts(|| {
        mount_tmpfs_of("/run", c"mode=1777");
        let address = ["address", "add", "10.0.0.5/24", "dev", "lo"];
        std::process::Command::new("ip").args(address).status()?;
        let mut compared = 0;
        for (policy, calls) in examples() {
            let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
            compared += compare(&policy, &calls, user)?;
        }
        if compared < 80 {
            return Err(format!("only {compared} answers were compared").into());
        }
        Ok(())
    })
}

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("explain says what run does: root", || agree(0)),
        Trial::test("explain says what run does: examples, root", || {
            documented(0)
        }),
        Trial::test("explain says what run does: hosts, root", || described(0)),
    ];
    if has_nobody() {
        trials.push(Trial::test("explain says what run does: nobody", || {
            agree(NOBODY)
        }));
        trials.push(Trial::test(
            "explain says what run does: examples, nobody",
            || documented(NOBODY),
        ));
        trials.push(Trial::test(
            "explain says what run does: hosts, nobody",
            || described(NOBODY),
        ));
    }
    trials
}
