//! What the log says that the model had expected of a bind.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::{NAMESPACES, python};
use support::{Below, Outcome, Run, Way, in_net, log::Record, outside, same};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("binds are predicted, and differences marked", predicted),
        Trial::test("binds of names are predicted", names),
        Trial::test("binds that were moved to one name are predicted", moved),
        Trial::test("ports of a vsock host have holders", hosted),
        Trial::test("bind table: the run's own socket is its own", own),
        Trial::test("bind table: root dropped right after the bind", dropped),
        Trial::test("bind table: two devices do not collide", devices),
        outside(
            Trial::test("bind table: another time namespace", other_time),
            NAMESPACES,
        ),
        outside(
            Trial::test(
                "binds in another network namespace are predicted",
                elsewhere,
            ),
            NAMESPACES,
        ),
    ]
}

/// Binds, one after the other, and stays until all of it is in the log.
const BINDS: &str = "
import socket
kept = []
def bind(kind, address, *option, family=socket.AF_INET):
    s = socket.socket(family, kind)
    if option:
        s.setsockopt(*option, 1)
    try:
        s.bind(address)
    except OSError:
        pass
    kept.append(s)
tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
bind(tcp, ('127.0.0.1', 20100))
bind(tcp, ('127.0.0.1', 20100))
bind(tcp, ('0.0.0.0', 20101))
bind(udp, ('127.0.0.1', 20102))
bind(tcp, ('192.0.2.1', 20103))
IP_FREEBIND = 15
bind(tcp, ('192.0.2.1', 20103), socket.IPPROTO_IP, IP_FREEBIND)
try:
    kept[0].bind(('127.0.0.1', 20104))
except OSError:
    pass
until_logged(7)
";

fn binds(outcome: &Outcome) -> Vec<Record> {
    let mut all = outcome.records();
    all.retain(|r| r.text("call") == "bind");
    all
}

fn predicted() -> Result<(), Failed> {
    in_net(|| {
        let _tcp = TcpListener::bind("127.0.0.1:20101")?;
        let _udp = UdpSocket::bind("0.0.0.0:20102")?;
        let run = python(BINDS);
        let outcome = run.way(Way::Run).logged().spawn().wait();
        // Answer, whether it differs, why, who is in the way.
        let nobody = || Value::Null;
        let ours =
            |addr: &str| json!({"address": addr, "in_run": true, "gone": false, "state": "bound"});
        // From within a container nobody may look at this process.
        let is_told = Below::everywhere().is_none();
        let outside = |addr: &str, state: &str| {
            json!({
                "address": addr, "in_run": false, "gone": false, "state": state,
                "pid": is_told.then(std::process::id),
                "program": is_told.then(|| std::env::current_exe().ok()).flatten(),
            })
        };
        let expected = [
            ("ok", false, Value::Null, nobody()),
            ("EADDRINUSE", false, Value::Null, ours("127.0.0.1:20100")),
            (
                "EADDRINUSE",
                false,
                Value::Null,
                outside("127.0.0.1:20101", "listening"),
            ),
            (
                "EADDRINUSE",
                false,
                Value::Null,
                outside("0.0.0.0:20102", "bound"),
            ),
            ("EADDRNOTAVAIL", false, Value::Null, nobody()),
            // The option was seen.
            ("ok", false, Value::Null, nobody()),
            // So was the first bind.
            ("EINVAL", false, Value::Null, nobody()),
        ];
        let binds = binds(&outcome);
        same(
            &expected.len().to_string(),
            &binds.len().to_string(),
            &outcome.seen(),
        )?;
        for (record, (answer, differs, why, holder)) in binds.iter().zip(expected) {
            let p = &record.0["predicted"];
            let seen = (&p["answer"], &p["differs"], &p["why"]);
            let wanted = (&json!(answer), &json!(differs), &why);
            if seen != wanted || !holds(&record.0["holder"], &holder) {
                return Err(format!("{wanted:?}, {holder}, not\n{}", record.0).into());
            }
        }
        let (first, second) = (&binds[0].0, &binds[1].0["holder"]);
        if second["pid"] != first["pid"] || second["since"] != first["time"] {
            return Err(format!("{first}\n{second}").into());
        }
        Ok(())
    })
}

/// Binds names of Unix, netlink and vsock, and an address of a raw socket.
const NAMES: &str = r"
import os, socket
kept = []
def bind(family, kind, address, protocol=0, again=None):
    s = again
    if s is None:
        s = socket.socket(family, kind, protocol)
    try:
        s.bind(address)
    except OSError:
        pass
    kept.append(s)
    return s
unix, stream = socket.AF_UNIX, socket.SOCK_STREAM
first = bind(unix, stream, '\0bindgate-predicted')
bind(unix, stream, '\0bindgate-predicted')
bind(unix, socket.SOCK_DGRAM, '\0bindgate-predicted')
bind(unix, stream, '\0bindgate-elsewhere', again=first)
bind(unix, stream, '\0bindgate-outside')
bind(unix, stream, 'name')
bind(unix, stream, 'name')
os.unlink('name')
bind(unix, stream, 'name')
open('file', 'w').close()
bind(unix, stream, 'file')
bind(unix, stream, 'absent/name')
bind(unix, stream, '')
netlink, raw = socket.AF_NETLINK, socket.SOCK_RAW
bind(netlink, raw, (77777, 0))
bind(netlink, raw, (77777, 0))
bind(netlink, raw, (0, 0))
until_logged(14)
";

/// Answer, and who has the name.
fn names() -> Result<(), Failed> {
    in_net(|| {
        let outside = SocketAddr::from_abstract_name("bindgate-outside")?;
        let _outside = UnixListener::bind_addr(&outside)?;
        let run = python(NAMES);
        let outcome = run.way(Way::Run).logged().spawn().wait();
        let binds = binds(&outcome);
        let ours = |at: usize| {
            let pid = binds.get(at).map(|r| r.0["pid"].clone());
            let since = binds.get(at).map(|r| r.0["time"].clone());
            json!({"in_run": true, "gone": false, "state": "bound", "pid": pid, "since": since})
        };
        let is_told = Below::everywhere().is_none();
        let expected = [
            ("ok", Value::Null),
            ("EADDRINUSE", ours(0)),
            ("ok", Value::Null),
            ("EINVAL", Value::Null),
            (
                "EADDRINUSE",
                json!({
                    "in_run": false, "gone": false, "state": "listening",
                    "pid": is_told.then(std::process::id),
                }),
            ),
            ("ok", Value::Null),
            ("EADDRINUSE", ours(5)),
            ("ok", Value::Null),
            ("EADDRINUSE", Value::Null),
            ("ENOENT", Value::Null),
            ("ok", Value::Null),
            ("ok", Value::Null),
            ("EADDRINUSE", ours(11)),
            ("ok", Value::Null),
        ];
        same(
            &expected.len().to_string(),
            &binds.len().to_string(),
            &outcome.seen(),
        )?;
        for (record, (answer, holder)) in binds.iter().zip(expected) {
            let p = &record.0["predicted"];
            let is_so = p["answer"] == answer && p["differs"] == false && p["why"].is_null();
            if !is_so || record.0["errno"] != p["answer"] && answer != "ok" {
                return Err(format!("{answer}, not\n{}", record.0).into());
            }
            if !holds(&record.0["holder"], &holder) {
                return Err(format!("{holder}, not\n{}", record.0).into());
            }
        }
        Ok(())
    })
}

/// Sockets of two families at one Unix name: the second meets the first.
fn moved() -> Result<(), Failed> {
    let run = python(
        "
import socket
kept = []
for port in (5000, 5001):
    s = socket.socket()
    kept.append(s)
    try:
        s.bind(('127.0.0.1', port))
    except OSError:
        pass
until_logged(2)
",
    );
    let run = run.rules(["move bind tcp *:5000-5001 to unix:@bindgate-moved"]);
    let outcome = in_net(|| run.way(Way::Run).logged().spawn().wait());
    let binds = binds(&outcome);
    let [first, second] = &binds[..] else {
        return Err(outcome.seen().into());
    };
    let answer = |r: &Record| r.0["predicted"]["answer"].clone();
    same("ok", answer(first).as_str().unwrap_or("-"), &outcome.seen())?;
    same(
        "EADDRINUSE",
        answer(second).as_str().unwrap_or("-"),
        &outcome.seen(),
    )?;
    let wanted = json!({"in_run": true, "pid": first.0["pid"], "since": first.0["time"]});
    match holds(&second.0["holder"], &wanted) {
        true => Ok(()),
        false => Err(format!("{wanted}, not\n{}", second.0).into()),
    }
}

/// Who holds a port of the vsock host that the run is, which the kernel knows as a
/// Unix name.
fn hosted() -> Result<(), Failed> {
    for fabric in ["", "--fabric=./fabric"] {
        let mut run = python(
            "
import socket
kept = []
for kind, cid in ((1, -1 % 2 ** 32), (5, 3), (1, 1)):
    s = socket.socket(socket.AF_VSOCK, kind)
    kept.append(s)
    try:
        s.bind((cid, 5000))
        s.listen()
    except OSError as e:
        print(e.errno)
until_logged(3)
",
        )
        .launcher_arg("--cid=3");
        if !fabric.is_empty() {
            run = run.launcher_arg(fabric);
        }
        let outcome = in_net(|| run.way(Way::Run).logged().spawn().wait());
        let binds = binds(&outcome);
        let [first, second, third] = &binds[..] else {
            return Err(outcome.seen().into());
        };
        let wanted = json!({
            "in_run": true, "gone": false, "state": "listening",
            "pid": first.0["pid"], "since": first.0["time"],
            "address": "vsock:any:5000", "program": first.0["program"],
        });
        for refused in [second, third] {
            if !holds(&refused.0["holder"], &wanted) || refused.0["errno"] != "EADDRINUSE" {
                return Err(format!("{wanted}, not\n{}", refused.0).into());
            }
        }
    }
    Ok(())
}

/// Has it these fields, among others? Is it null, if that is wanted?
fn holds(seen: &Value, wanted: &Value) -> bool {
    match wanted.as_object() {
        Some(fields) => fields.iter().all(|(name, value)| seen[name] == *value),
        None => seen == wanted,
    }
}

/// A namespace of its own has a table of its own, and a host.
fn elsewhere() -> Result<(), Failed> {
    in_net(|| {
        let _outside = TcpListener::bind("127.0.0.1:20101")?;
        let script = format!("import os\nos.system('ip link set lo up')\n{BINDS}");
        let run = python(&script).under(&Run::new("unshare").arg("-n"));
        let outcome = run.user(0).way(Way::Run).logged().spawn().wait();
        let mut binds = binds(&outcome);
        binds.retain(|r| r.text("family") == "inet");
        let expected = [
            "ok",
            "EADDRINUSE",
            "ok",
            "ok",
            "EADDRNOTAVAIL",
            "ok",
            "EINVAL",
        ];
        if binds.len() != expected.len() {
            return Err(outcome.seen().into());
        }
        for (record, answer) in binds.iter().zip(expected) {
            let p = &record.0["predicted"];
            if p["answer"] != answer || p["differs"] != false {
                return Err(format!("{answer}: {}", record.0).into());
            }
        }
        Ok(())
    })
}

/// Three binds under a redirect: the third fails because of the first, and not
/// because of the second.
const OWN: &str = "
import socket
kept = []
for ip in ('127.0.0.1', '127.0.0.2', '127.0.0.1'):
    s = socket.socket()
    try:
        s.bind((ip, 3000))
    except OSError:
        pass
    kept.append(s)
";

fn own() -> Result<(), Failed> {
    in_net(|| {
        let run = python(OWN).rules(["move bind tcp *:3000 to *:4000"]);
        let outcome = run.way(Way::Run).logged().spawn().wait();
        let binds = binds(&outcome);
        let [first, _, third] = &binds[..] else {
            return Err(outcome.seen().into());
        };
        let wanted = json!({
            // It may have ended by the time it is looked for.
            "in_run": true, "pid": first.0["pid"],
            "address": "127.0.0.1:4000", "since": first.0["time"],
        });
        if third.0["errno"] != "EADDRINUSE" || !holds(&third.0["holder"], &wanted) {
            return Err(format!("{wanted}, not\n{}", third.0).into());
        }
        Ok(())
    })
}

/// Whoever could bind a privileged port had the right to, whatever it has when
/// the log process looks at it.
fn dropped() -> Result<(), Failed> {
    const DROPS: &str = "
import os, socket
s = socket.socket()
s.bind(('127.0.0.1', 80))
os.setgroups([])
os.setresuid(65534, 65534, 65534)
t = socket.socket()
t.bind(('127.0.0.1', 20106))
";
    in_net(|| {
        let outcome = python(DROPS).user(0).way(Way::Run).logged().spawn().wait();
        let binds = binds(&outcome);
        if binds.len() != 2 {
            return Err(outcome.seen().into());
        }
        for record in &binds {
            let p = &record.0["predicted"];
            if (&p["answer"], &p["differs"]) != (&json!("ok"), &json!(false)) {
                return Err(record.0.to_string().into());
            }
        }
        Ok(())
    })
}

fn devices() -> Result<(), Failed> {
    const TWO: &str = "
import socket
kept = []
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    for device in (b'lo\\0', b've0\\0', b'lo\\0'):
        s = socket.socket(socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, 25, device)
        try:
            s.bind(('0.0.0.0', 3000))
            print('ok')
        except OSError as e:
            print(e.errno)
        kept.append(s)
";
    in_net(|| {
        let link = "ip link add ve0 type veth peer name ve1 && ip link set ve0 up";
        let link = Run::new("sh").args(["-c", link]).user(0).below(None);
        let made = link.spawn().wait();
        same("exit 0", &made.status, &made.seen())?;
        let plain = python(TWO).way(Way::Plain).spawn().wait();
        let run = python(TWO).rules(["move bind any *:3000 to loopback:auto"]);
        let moved = run.way(Way::Run).logged().spawn().wait();
        same("ok\nok\n98\nok\nok\n98\n", &plain.stdout, &plain.seen())?;
        same(&plain.stdout, &moved.stdout, &moved.seen())?;
        Ok(())
    })
}

fn other_time() -> Result<(), Failed> {
    const BINDS: usize = 40_000;
    const STORM: &str = "
import os, socket
for _ in range(4):
    if not os.fork():
        for _ in range(10000):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(('127.0.0.1', 20107))
            s.close()
        os._exit(0)
for _ in range(4):
    os.wait()
";
    in_net(|| {
        let script = STORM.replace("s.bind", "s.setsockopt(1, 2, 1); s.bind");
        let run = python(&script).under(&Run::new("unshare").args([
            "--time",
            "--fork",
            "--monotonic",
            "100000",
        ]));
        let run = run.user(0).way(Way::Run).launcher_arg("--wait");
        let run = run.logged();
        let outcome = run.spawn().wait();
        let binds = binds(&outcome);
        same(
            &BINDS.to_string(),
            &binds.len().to_string(),
            &outcome.stderr,
        )?;
        Ok(())
    })
}
