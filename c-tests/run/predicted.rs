//! What the log says that the model had expected of a bind.

use std::net::{TcpListener, UdpSocket};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::python;
use crate::support::{Outcome, Run, Way, in_net, log::Record, same};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("binds are predicted, and differences marked", predicted),
        Trial::test("another network name space is not ours to know", elsewhere),
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
        let outside = "somebody outside this run holds the port";
        // Answer, whether it differs, why, whether somebody is in the way.
        let expected = [
            ("ok", false, Value::Null, false),
            ("EADDRINUSE", false, Value::Null, true),
            ("ok", true, json!(outside), true),
            ("ok", true, json!(outside), true),
            ("EADDRNOTAVAIL", false, Value::Null, false),
            (
                "EADDRNOTAVAIL",
                true,
                json!("an option of the socket allows the address, or it was there then"),
                false,
            ),
            (
                "unknown",
                false,
                json!("the socket's own state and options decide"),
                false,
            ),
            (
                "unknown",
                false,
                json!("names of this family are not followed"),
                false,
            ),
        ];
        let binds = binds(&outcome);
        same(
            &expected.len().to_string(),
            &binds.len().to_string(),
            &outcome.seen(),
        )?;
        for (record, (answer, differs, why, held)) in binds.iter().zip(expected) {
            let p = &record.0["predicted"];
            let seen = (&p["answer"], &p["differs"], &p["why"]);
            let wanted = (&json!(answer), &json!(differs), &why);
            if seen != wanted || record.0["holder"]["inode"].is_number() != held {
                return Err(format!("{wanted:?}, held: {held}, not\n{}", record.0).into());
            }
        }
        // Whose it is: the first bind's process, and nobody of this run.
        let own = &binds[1].0["holder"]["pid"];
        if *own != binds[0].0["pid"] || binds[2].0["holder"]["in_run"] != false {
            return Err(format!("{} {}", binds[1].0, binds[2].0).into());
        }
        Ok(())
    })
}

fn elsewhere() -> Result<(), Failed> {
    in_net(|| {
        let run = python(BINDS).under(&Run::new("unshare").arg("-n"));
        let outcome = run.way(Way::Run).logged().spawn().wait();
        let binds = binds(&outcome);
        if binds.is_empty() {
            return Err(outcome.seen().into());
        }
        for record in binds.iter().filter(|r| r.text("family") == "inet") {
            let p = &record.0["predicted"];
            if p["differs"] != false {
                return Err(format!("a difference to another network: {}", record.0).into());
            }
            if p["why"] != "the process is in another network name space" {
                return Err(record.0.to_string().into());
            }
        }
        Ok(())
    })
}
