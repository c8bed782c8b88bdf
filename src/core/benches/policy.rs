//! What matching costs: 10,000 rules of five sorts against none.
//!
//! `cargo bench -p bindgate-core`

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::atomic::AtomicU8;
use std::time::{Duration, Instant};

use bindgate_core::addr::{Addr, UnixName};
use bindgate_core::policy::*;
use bindgate_core::socket::SocketType;

const RULES: u32 = 10_000;
/// Calls of one round.
const ROUND: u32 = 20_000;

struct Nobody;
impl Resolver for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
}
impl Times for Nobody {
    fn take(&self, _: u32, _: Uses) -> bool {
        true
    }
}

fn v4(n: u32, port: u16) -> Addr {
    Addr::Inet {
        ip: n.to_be_bytes(),
        port,
    }
}

fn path(name: &str) -> Addr {
    Addr::Unix(UnixName::path(name.as_bytes()).unwrap())
}

/// A policy, an address that no rule matches, one that only the last does.
fn set(name: &str) -> (String, Addr, Addr) {
    let mut s = String::new();
    let ten = 0x0a00_0000u32;
    for i in 0..RULES {
        let port = 1000 + i;
        let ip = std::net::Ipv4Addr::from(ten + i);
        let _ = match name {
            "distinct ports" => writeln!(s, "deny bind tcp *:{port}"),
            "one port, distinct addresses" => writeln!(s, "deny bind tcp {ip}:80"),
            "overlapping ranges" => writeln!(s, "deny bind tcp *:{port}-{}", port + 2000),
            "distinct `for` paths" => writeln!(s, "deny bind tcp *:80 for /opt/app-{i}/bin/server"),
            "distinct `for` globs" => writeln!(s, "deny bind tcp *:80 for /opt/app-{i}/**"),
            "Unix globs" => writeln!(s, "deny bind unix /run/app-{i}/**"),
            "Unix paths" => writeln!(s, "deny bind unix /run/app-{i}.sock"),
            "distinct users" => writeln!(s, "deny bind tcp *:80 user {i}"),
            _ => Ok(()),
        };
    }
    let last = RULES - 1;
    match name {
        "overlapping ranges" => (s, v4(ten, 999), v4(ten, (1000 + last + 2000) as u16)),
        "one port, distinct addresses" => (s, v4(ten - 1, 80), v4(ten + last, 80)),
        "Unix globs" => (
            s,
            path("/run/other/x.sock"),
            path(&format!("/run/app-{last}/x.sock")),
        ),
        "Unix paths" => (
            s,
            path("/run/other.sock"),
            path(&format!("/run/app-{last}.sock")),
        ),
        _ => (
            s,
            v4(ten, 999),
            v4(
                ten,
                if name == "distinct ports" {
                    (1000 + last) as u16
                } else {
                    80
                },
            ),
        ),
    }
}

/// The best of some rounds, in nanoseconds for each call.
fn time(n: u32, mut f: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..15 {
        let start = Instant::now();
        for _ in 0..n {
            f();
        }
        best = best.min(start.elapsed());
    }
    best.as_nanos() as f64 / f64::from(n)
}

fn main() {
    println!(
        "{:30} {:>9} {:>9} {:>9} {:>9} {:>11} {:>10} {:>10} {:>9}",
        "set", "none", "last", "+view", "outlook", "no cache", "first", "compile", "words"
    );
    for name in [
        "no rules",
        "distinct ports",
        "one port, distinct addresses",
        "overlapping ranges",
        "distinct `for` paths",
        "distinct `for` globs",
        "Unix globs",
        "Unix paths",
        "distinct users",
    ] {
        let (text, none, last) = set(name);
        let policy = parse(&[Source {
            name: "bench",
            text: &text,
        }])
        .unwrap();
        let start = Instant::now();
        let (compiled, _) = compile(&policy, &Nobody).unwrap();
        let took = start.elapsed();
        let view = View::new(&compiled.words).unwrap();
        let cache: Vec<AtomicU8> = (0..view.conditions()).map(|_| AtomicU8::new(0)).collect();
        let program = format!("/opt/app-{}/bin/server", RULES - 1);
        let kinds = |a: &Addr| SocketType::created(i32::from(a.family()), 1, 0).kinds();
        let ask = |view: View<'_>, addr: &Addr| {
            let q = Query {
                op: Op::Bind,
                kinds: kinds(addr),
                addr: Some(addr),
                program: program.as_bytes(),
                uid: Some(RULES - 1),
                ..Query::default()
            };
            black_box(view.decide(black_box(&q), &Nobody))
        };
        let bare = view;
        let view = view.with_cache(&cache);
        let start = Instant::now();
        ask(view, &last);
        let first = start.elapsed();
        assert!(ask(view, &none).by_default);
        if name != "no rules" {
            assert_eq!(ask(view, &last).rule, Some(RULES - 1), "{name}");
        }
        println!(
            "{name:30} {:7.1}ns {:7.1}ns {:7.1}ns {:7.1}ns {:9.1}ns {:8.1}us {:8.1}ms {:9}",
            time(ROUND, || {
                ask(view, &none);
            }),
            time(ROUND, || {
                ask(view, &last);
            }),
            time(ROUND, || {
                let view = View::new(black_box(&compiled.words)).unwrap();
                ask(view.with_cache(&cache), &last);
            }),
            time(ROUND, || {
                let q = Query {
                    addr: Some(black_box(&none)),
                    program: program.as_bytes(),
                    ..Query::default()
                };
                let mut room = Room::default();
                let candidates = view.candidates(&q, &mut room);
                black_box(view.outlook(&q, &candidates));
            }),
            time(
                if name.contains("for") || name.contains("users") {
                    20
                } else {
                    ROUND
                },
                || {
                    ask(bare, &last);
                }
            ),
            first.as_secs_f64() * 1e6,
            took.as_secs_f64() * 1e3,
            compiled.words.len()
        );
    }
}
