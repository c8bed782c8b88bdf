//! What the log says that the model had expected of a bind.

use std::net::{TcpListener, UdpSocket};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::python;
use crate::support::{Outcome, Run, Way, in_net, log::Record, same};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("binds are predicted, and differences marked", predicted),
        Trial::test(
            "binds in another network namespace are predicted",
            elsewhere,
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
bind(tcp, '\\0bindgate-predicted', family=socket.AF_UNIX)
until_logged(8)
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
        let outside = |addr: &str, state: &str| {
            json!({
                "address": addr, "in_run": false, "gone": false, "state": state,
                "pid": std::process::id(), "program": std::env::current_exe().ok(),
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
            (
                "unknown",
                false,
                json!("names of this family are not followed"),
                nobody(),
            ),
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
        let outcome = run.way(Way::Run).logged().spawn().wait();
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
