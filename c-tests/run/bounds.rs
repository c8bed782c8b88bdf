//! A machine that has more than the model holds: that is said, and nothing is
//! told of what has no room.

use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::python;
use support::{Run, Way, compile, in_net, same, stage, until};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("explain: a machine beyond the model's bounds", explained),
        Trial::test("explain: a machine within the model's bounds", within),
        Trial::test("explain: local routes of this machine", routes),
        Trial::test("no prediction of an address without room", predicted),
        Trial::test("more processes than the table holds", processes),
        Trial::test("thousands that are woken at once lose no record", woken),
    ]
}

/// 4,096 have a slot each; the others are looked up, and are there.
fn processes() -> Result<(), Failed> {
    let program = compile("many_processes", &[])?;
    let run = Run::new(&program).arg("4120").way(Way::Run).logged();
    let run = run.launcher_arg("--wait");
    let log = run.dir().join("log.jsonl");
    let outcome = in_net(|| {
        let mut process = run.spawn();
        process.says("4120 processes")?;
        until("all is written", || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            (log.matches("\"call\":\"bind\"").count() == 4120).then_some(())
        })?;
        process.signal(libc::SIGTERM);
        Ok::<_, String>(process.wait())
    })?;
    same("stdout| 4120 processes\nexit 0\n", &outcome.seen(), "run")?;
    let records = outcome.records();
    let binds = records.iter().filter(|r| r.text("call") == "bind");
    let path = program.to_str().unwrap_or_default();
    let named = binds.filter(|r| r.text("program") == path).count();
    Ok(same(
        "4120",
        &named.to_string(),
        "binds with their program",
    )?)
}

/// More records at once than the ring holds. Whoever waits for room must leave
/// the log process a turn: it had none for a minute, and records were lost.
fn woken() -> Result<(), Failed> {
    let program = compile("many_processes", &[])?;
    let run = Run::new(&program).args(["4400", "at-once"]).way(Way::Run);
    let run = run.logged().launcher_arg("--wait");
    let outcome = in_net(|| run.spawn().wait());
    same("stdout| 4400 processes\nexit 0\n", &outcome.seen(), "run")?;
    let records = outcome.records();
    let binds = records.iter().filter(|r| r.text("call") == "bind").count();
    Ok(same("8800", &binds.to_string(), "binds")?)
}

/// 40 addresses of each family beside lo's own, 20 devices beside lo, 40 ranges
/// of reserved ports. No address is tentative for a moment, and the devices'
/// indices are not those that counting them would give.
const MUCH: &str = "
set -e
for i in $(seq 1 40); do
    echo addr add 10.9.0.$i/32 dev lo
    echo addr add fd09::$i/128 dev lo nodad
done >batch
echo link add name gone1 type veth peer name gone2 >>batch
echo link del gone1 >>batch
for i in $(seq 1 10); do
    echo link add name left$i type veth peer name right$i
done >>batch
ip -batch batch
echo $(seq -s, 20001 2 20079) >/proc/sys/net/ipv4/ip_local_reserved_ports
";

fn fill(run: &Run) -> Result<(), Failed> {
    let mut shell = Command::new("sh");
    let made = shell.args(["-c", MUCH]).current_dir(run.dir()).output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned().into());
    }
    Ok(())
}

fn explained() -> Result<(), Failed> {
    in_net(|| {
        let run = Run::new(&stage().launcher);
        fill(&run)?;
        let last = Command::new("ip").args(["-o", "link"]).output()?.stdout;
        let last = String::from_utf8(last)?;
        let index = last.lines().filter_map(|line| line.split(':').next());
        let index = index.filter_map(|n| n.parse::<u32>().ok()).max();
        let of_device = format!("bind tcp [fe80::1%{}]:8000", index.unwrap_or(0));
        // Whether the model has an answer for it.
        let calls = [
            ("bind tcp 127.0.0.1:8000", Some("ok 127.0.0.1:8000")),
            ("bind tcp 127.9.9.9:8000", Some("ok 127.9.9.9:8000")),
            ("bind tcp 10.9.0.31:8000", Some("ok 10.9.0.31:8000")),
            ("bind tcp 10.9.0.32:8000", None),
            ("bind tcp6 [::ffff:10.9.0.40]:8000", None),
            ("bind tcp 10.9.0.41:8000", Some("EADDRNOTAVAIL")),
            ("bind tcp [::1]:8000", Some("ok [::1]:8000")),
            ("bind tcp [fd09::31]:8000", Some("ok [fd09::31]:8000")),
            ("bind tcp [fd09::40]:8000", None),
            ("bind tcp [fd09::41]:8000", Some("EADDRNOTAVAIL")),
            (&of_device, None),
        ];
        let run = run.arg("explain").args(calls.map(|(call, _)| call));
        let seen = run.spawn().wait();
        same("exit 0", &seen.status, &seen.seen())?;
        let models = models_of(&seen.stdout);
        let models = models.map(|m| (!m.starts_with("unknown: ")).then_some(m));
        let wanted = calls.map(|(_, model)| model);
        same(
            &format!("{wanted:?}"),
            &format!("{:?}", models.collect::<Vec<_>>()),
            &seen.seen(),
        )?;
        for said in [
            "warning: this machine has 41 IPv4 addresses, the model holds 32: 9 left out, \
             10.9.0.32, 10.9.0.33, 10.9.0.34, 10.9.0.35, 10.9.0.36, 10.9.0.37, 10.9.0.38, \
             10.9.0.39, and 1 more\n",
            "warning: this machine has 41 IPv6 addresses, the model holds 32: 9 left out, ",
            "warning: this machine has 21 devices, the model holds 16: 5 left out, ",
            "warning: this machine has 40 ranges of reserved ports, the model holds 32: \
             8 left out, 20065, ",
        ] {
            if !seen.stderr.contains(said) {
                return Err(format!("not said: {said}\n{}", seen.seen()).into());
            }
        }
        Ok(())
    })
}

fn within() -> Result<(), Failed> {
    in_net(|| {
        let run = Run::new(&stage().launcher);
        let seen = run
            .args(["explain", "bind tcp 127.0.0.1:80"])
            .spawn()
            .wait();
        same("", &seen.stderr, &seen.seen())?;
        Ok(())
    })
}

/// Networks of lo are local as a whole, also where they are not 127.0.0.0/8;
/// what other tables say is nothing to bind(2). Compared with the kernel.
fn routes() -> Result<(), Failed> {
    let binds = "import socket, sys
for a in sys.argv[1:]:
    try:
        socket.socket().bind((a, 8000)); print(f'ok {a}:8000')
    except OSError:
        print('EADDRNOTAVAIL')
";
    let addresses = ["10.9.0.1", "10.9.0.77", "10.8.0.1", "127.9.9.9"];
    for (route, unknown) in [
        ("addr add 10.9.0.1/24 dev lo", false),
        ("route add local 0.0.0.0/0 dev lo table 100", false),
        ("route add 127.9.0.0/16 via 127.0.0.1", false),
        ("route add local 0.0.0.0/0 dev lo", true),
    ] {
        in_net(|| {
            let run = Run::new("ip").args(route.split(' '));
            let run = run.user(0).below(None);
            same("exit 0", &run.spawn().wait().status, route)?;
            let kernel = Run::new("python3").args(["-c", binds]).args(addresses);
            let kernel = kernel.spawn().wait();
            let run = Run::new(&stage().launcher).arg("explain");
            let run = run.args(addresses.map(|a| format!("bind tcp {a}:8000")));
            let seen = run.spawn().wait();
            let mut models = String::new();
            for (line, real) in models_of(&seen.stdout).zip(kernel.stdout.lines()) {
                let known = !line.starts_with("unknown: ") || !unknown;
                models += if known { line } else { real };
                models.push('\n');
            }
            let what = format!("{route}\n{}", seen.seen());
            same(&kernel.stdout, &models, &what)?;
            same(
                &unknown.to_string(),
                &seen.stderr.contains("left out, 0.0.0.0/0\n").to_string(),
                &what,
            )
        })?;
    }
    Ok(())
}

/// What `explain` says of each call.
fn models_of(stdout: &str) -> impl Iterator<Item = &str> {
    stdout
        .lines()
        .filter_map(|l| l.strip_prefix("  model     "))
}

/// Binds to every address, then to one that is not there; stays until all of it
/// is in the log.
const BINDS: &str = "
import socket
kept = []
for i in range(1, 42):
    for family, address in (socket.AF_INET, f'10.9.0.{i}'), (socket.AF_INET6, f'fd09::{i}'):
        s = socket.socket(family, socket.SOCK_DGRAM)
        try:
            s.bind((address, 20100))
        except OSError:
            pass
        kept.append(s)
until_logged(len(kept))
";

fn predicted() -> Result<(), Failed> {
    in_net(|| {
        let run = python(BINDS);
        fill(&run)?;
        let outcome = run.way(Way::Run).logged().spawn().wait();
        let mut answers = [("ok", 0), ("unknown", 0), ("EADDRNOTAVAIL", 0)];
        for record in outcome.records() {
            if record.text("call") != "bind" {
                continue;
            }
            let p = &record.0["predicted"];
            if p["differs"] != false {
                return Err(format!("a difference: {}", record.0).into());
            }
            let answer = answers.iter_mut().find(|(name, _)| p["answer"] == *name);
            let Some((name, count)) = answer else {
                return Err(record.0.to_string().into());
            };
            *count += 1;
            let room = p["why"].as_str().is_some_and(|why| why.contains("no room"));
            if room != (*name == "unknown") {
                return Err(record.0.to_string().into());
            }
        }
        same(
            "[(\"ok\", 62), (\"unknown\", 18), (\"EADDRNOTAVAIL\", 2)]",
            &format!("{answers:?}"),
            &outcome.seen(),
        )?;
        Ok(())
    })
}
