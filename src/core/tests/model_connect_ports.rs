//! Which ports connect() may draw, beside the loop of `__inet_hash_connect`
//! itself, for every range of up to nine ports and every choice of taken ones.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bindgate_core::addr::Addr;
use bindgate_core::model::script::{Player, parse};
use bindgate_core::model::{Errno, Generation, Host, No, Pick};

const LOW: u16 = 40001;

/// Offsets that the kernel's two passes end at, for every first draw; none where
/// they end without a port.
fn drawn(n: u16, open: impl Fn(u16) -> bool) -> BTreeSet<Option<u16>> {
    let remaining = if n > 1 { n & !1 } else { n };
    let pass = |offset: u16| {
        let mut port = offset;
        for _ in (0..remaining).step_by(2) {
            if port >= n {
                port -= remaining;
            }
            if open(port) {
                return Some(port);
            }
            port += 2;
        }
        None
    };
    let draw = |offset: u16| {
        let first = pass(offset & !1);
        first.or_else(|| (remaining > 1).then(|| pass((offset & !1) + 1)).flatten())
    };
    (0..remaining).map(draw).collect()
}

/// A host with this range, its ports of the mask bound, and a connect().
fn script(n: u16, mask: u16) -> String {
    let mut text = format!(
        "sysctl net.ipv4.ip_local_port_range = {LOW} {}\n\
         l = socket tcp\nbind l 127.0.0.1:5000\nlisten l\n",
        LOW + n - 1
    );
    for i in (0..n).filter(|i| mask & 1 << i != 0) {
        let port = LOW + i;
        writeln!(text, "b{i} = socket tcp\nbind b{i} 127.0.0.1:{port}").expect("text");
    }
    text += "c = socket tcp\nconnect c 127.0.0.1:5000\n";
    text
}

#[test]
fn as_the_kernel_walks() {
    let host = Host::loopback(Generation::Linux6_18);
    let mut player = Player::new(&parse("", host).expect("nothing"), 32);
    let mut wrong = Vec::new();
    for n in 1..=9u16 {
        for mask in 0..1 << n {
            let wanted = drawn(n, |o| mask & 1 << o == 0);
            let script = parse(&script(n, mask), host).expect("a script");
            for seen in (0..n).map(Some).chain([None]) {
                player.restart(&script);
                let pick = Pick::Observed(seen.map(|o| LOW + o).map(u32::from));
                let play = |line| player.play(&script, line, pick);
                let last = script.lines.iter().map(play).last().expect("a call");
                let got = match (last.result, last.name) {
                    (Ok(()), Some(Addr::Inet { port, .. })) => Some(port - LOW),
                    (Err(No::Errno(Errno::EADDRNOTAVAIL)), _) => None,
                    other => panic!("{other:?}"),
                };
                // What can be drawn is believed; instead of anything else the
                // model names one that can.
                let right = if wanted.contains(&seen) {
                    got == seen
                } else {
                    wanted.contains(&got)
                };
                if !right {
                    wrong.push(format!(
                        "{n} {mask:09b}: {seen:?} -> {got:?}, not of {wanted:?}"
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} times\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}
