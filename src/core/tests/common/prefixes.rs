//! Policies of prefixes that lie in each other, and addresses beside and below
//! them: addresses one bit away from a few others, names that begin alike for
//! 15, 16, 17, … bytes.

use bindgate_core::addr::{Addr, UnixName};
use bindgate_core::policy::{Op, Policy, Source, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::generate::Question;

const V4: &[u32] = &[
    0x0a00_0000,
    0x0aff_ffff,
    0x0a80_0001,
    0x7f00_0001,
    0xffff_ffff,
    1,
];
const V6: &[u128] = &[
    1,
    0x2001_0db8 << 96,
    0x2001_0db8_0000_0000_8000_0000_0000_0001,
    0x2001_0db8_0000_0000_7fff_ffff_ffff_ffff,
    0xffff_0a00_0001,
    u128::MAX,
];
/// Before a glob, or all of a name; of 15, 16, 17, 31, 32, 33 and 48 bytes.
const NAMES: &[&str] = &[
    "/",
    "/run",
    "/run/",
    "/run/5678901234",
    "/run/56789012345",
    "/run/567890123456",
    "/run/567890123456789012345678901",
    "/run/5678901234567890123456789012",
    "/run/56789012345678901234567890123",
    "/run/56789012345x",
    "/run/56789012345678901234567890123456789012345678",
];

fn v4() -> impl Strategy<Value = u32> {
    (select(V4), 0..32u32, any::<bool>()).prop_map(|(ip, bit, flip)| ip ^ u32::from(flip) << bit)
}

fn v6() -> impl Strategy<Value = u128> {
    (select(V6), 0..128u32, any::<bool>()).prop_map(|(ip, bit, flip)| ip ^ u128::from(flip) << bit)
}

/// An address as a rule names it.
fn term() -> impl Strategy<Value = String> {
    let four = (v4(), 0..=32u32).prop_map(|(ip, len)| {
        let ip = ip & u32::MAX.checked_shl(32 - len).unwrap_or(0);
        format!("{}/{len}", std::net::Ipv4Addr::from(ip))
    });
    let six = (v6(), 0..=128u32).prop_map(|(ip, len)| {
        let ip = ip & u128::MAX.checked_shl(128 - len).unwrap_or(0);
        format!("[{}/{len}]", std::net::Ipv6Addr::from(ip))
    });
    let ports = select(vec![
        "80", "79-81", "80-65535", "reserved", "*", "auto", "{80,443}",
    ]);
    let name = (select(NAMES), select(vec!["", "*", "**", "?", "x*", "/*"]));
    prop_oneof![
        4 => (four, ports.clone()).prop_map(|(ip, ports)| format!("tcp {ip}:{ports}")),
        4 => (six, ports.clone()).prop_map(|(ip, ports)| format!("udp {ip}:{ports}")),
        2 => select(vec!["any *:80", "tcp *:80", "any *", "udp loopback:*", "tcp 0.0.0.0:80", "any [::]:80"])
            .prop_map(String::from),
        1 => (0u32..9).prop_map(|cid| format!("vsock {cid}:80")),
        4 => name.clone().prop_map(|(head, tail)| format!("unix {head}{tail}")),
        1 => name.prop_map(|(head, tail)| format!("unix @{head}{tail}")),
    ]
}

/// Rules over such prefixes.
pub fn policy(rules: std::ops::Range<usize>) -> impl Strategy<Value = Policy> {
    let rule = (
        select(vec!["allow", "allow", "deny", "note"]),
        term(),
        select(vec![
            "",
            "",
            "",
            "",
            " user 0",
            " times 1",
            " for /usr/**",
            " for /opt/*",
        ]),
    )
        .prop_map(|(verb, term, rest)| format!("{verb} bind {term}{rest}\n"));
    (select(vec!["", "default deny\n"]), vec(rule, rules)).prop_map(|(default, rules)| {
        let text = format!("{default}{}", rules.concat());
        let source = Source {
            name: "prefixes",
            text: &text,
        };
        parse(&[source]).unwrap_or_else(|e| panic!("{text}\n{}", super::messages(&e)))
    })
}

fn addr() -> impl Strategy<Value = Addr> {
    let port = || select(vec![80u16, 0, 79, 443, 8080]);
    let six = |ip: u128, port| Addr::Inet6 {
        ip: ip.to_be_bytes(),
        port,
        flow: 0,
        scope: 0,
    };
    let name = (select(NAMES), select(vec!["", "x", "/", "/x", "xx/x"]));
    prop_oneof![
        3 => (v4(), port()).prop_map(|(ip, port)| Addr::Inet { ip: ip.to_be_bytes(), port }),
        1 => (v4(), port()).prop_map(move |(ip, port)| six(0xffff << 32 | u128::from(ip), port)),
        3 => (v6(), port()).prop_map(move |(ip, port)| six(ip, port)),
        1 => select(vec![0u16, 80]).prop_map(move |port| six(0, port)),
        1 => select(vec![0u16, 80]).prop_map(|port| Addr::Inet { ip: [0; 4], port }),
        1 => (0u32..9).prop_map(|cid| Addr::Vsock { cid, port: 80, flags: 0 }),
        3 => (name, any::<bool>()).prop_map(|((head, tail), path)| {
            let name = format!("{head}{tail}");
            Addr::Unix(if path {
                UnixName::path(name.as_bytes()).unwrap()
            } else {
                UnixName::abstract_(name.as_bytes()).unwrap()
            })
        }),
    ]
}

/// A bind to an address near them.
pub fn question() -> impl Strategy<Value = Question> {
    let socket = select(vec!["tcp", "udp"]);
    let program = select(vec!["/usr/bin/x", "/opt/x", ""]);
    let uid = select(vec![None, Some(0), Some(1)]);
    (addr(), socket, any::<bool>(), program, uid).prop_map(
        |(addr, socket, v6only, program, uid)| {
            let socket = match addr {
                Addr::Unix(_) => "unix",
                Addr::Vsock { .. } => "vsock",
                _ => socket,
            };
            Question {
                op: Op::Bind,
                kinds: super::kinds(socket, addr.family()),
                addr: Some(addr),
                v6only,
                implicit: bindgate_core::policy::Implicit::No,
                start: 1024,
                program,
                script: "",
                uid,
            }
        },
    )
}
