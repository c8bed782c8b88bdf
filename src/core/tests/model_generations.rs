//! Where generations of a kernel differ: `scripts/facts` has a script for each
//! side of each difference.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bindgate_core::addr::{Addr, af};
use bindgate_core::model::host::{Cred, VsockHost};
use bindgate_core::model::script::{Expect, Player, Script, parse};
use bindgate_core::model::{Errno, Fd, Generation, Host, No, OwnedNet, Pick, Pointer};

fn facts() -> BTreeMap<String, String> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/facts");
    std::fs::read_dir(dir)
        .expect("scripts/facts")
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn script(name: &str, text: &str) -> Script {
    parse(text, Host::loopback(Generation::Linux6_18)).unwrap_or_else(|e| panic!("{name}: {e:?}"))
}

/// The expectations that a script does not meet.
fn unmet(script: &Script) -> Vec<String> {
    let mut player = Player::new(script, 64);
    let mut unmet = Vec::new();
    for line in &script.lines {
        let outcome = player.play(script, line, Pick::Random(7));
        let met = match &line.expect {
            None | Some(Expect::Ok) => outcome.result.is_ok(),
            Some(Expect::Value(_, value)) => outcome.value.is_some_and(|v| v.1 == *value),
            Some(Expect::Fails(e)) => outcome.result == Err((*e).into()),
            Some(Expect::Name(name)) => {
                outcome.result.is_ok() && outcome.name.is_some_and(|n| n.to_string() == *name)
            }
        };
        if !met {
            unmet.push(format!(
                "line {}: {:?} {:?}, by {:?}",
                line.at, outcome.result, outcome.name, outcome.trail
            ));
        }
    }
    unmet
}

#[test]
fn each_difference_has_a_script_for_either_side() {
    let facts = facts();
    let mut pairs = 0;
    for (name, text) in &facts {
        let Some(stem) = name.strip_suffix(".old.sim") else {
            assert!(name.ends_with(".new.sim"), "{name}");
            continue;
        };
        let old = script(name, text);
        let newer = format!("{stem}.new.sim");
        let new = script(
            &newer,
            facts.get(&newer).unwrap_or_else(|| panic!("no {newer}")),
        );
        assert!(old.host.generation < new.host.generation, "{stem}");
        let calls = |s: &Script| s.lines.iter().map(|l| l.call.clone()).collect::<Vec<_>>();
        assert_eq!(calls(&old), calls(&new), "{stem}: one script, two kernels");
        for (script, other) in [(&old, &new), (&new, &old)] {
            let here = script.host.generation;
            assert_eq!(unmet(script), Vec::<String>::new(), "{stem} on {here:?}");
            let mut there = script.clone();
            there.host.generation = other.host.generation;
            assert_ne!(
                unmet(&there),
                Vec::<String>::new(),
                "{stem}: what {here:?} answers, {:?} does not",
                other.host.generation
            );
        }
        pairs += 1;
    }
    assert_eq!(pairs * 2, facts.len());
}

/// Every generation has a side of some difference.
#[test]
fn every_generation_differs_somewhere() {
    let seen: Vec<Generation> = facts()
        .iter()
        .map(|(name, text)| script(name, text).host.generation)
        .collect();
    for (name, generation) in Generation::ALL {
        assert!(seen.contains(&generation), "{name}");
    }
}

fn bind(generation: Generation, capability_mode: bool) -> Result<(), No> {
    let mut host = Host::loopback(generation);
    host.capability_mode = capability_mode;
    let mut net = OwnedNet::new(host, 4);
    let mut net = net.net();
    let s = net.socket(2, 1, 0, &Cred::ROOT).result.unwrap();
    let mut addr = [0; 16];
    addr[..2].copy_from_slice(&af::INET.to_ne_bytes());
    addr[2..4].copy_from_slice(&8080u16.to_be_bytes());
    net.bind(
        Fd::Socket(s),
        Pointer::to(&addr),
        &Cred::ROOT,
        Pick::Random(0),
    )
    .result
}

/// No line of a script sets capability mode: FreeBSD 10.0, `kern_bindat`.
#[test]
fn capability_mode_refuses_bind_since_bindat() {
    assert_eq!(bind(Generation::FreeBsd9_1, true), Ok(()));
    assert_eq!(
        bind(Generation::FreeBsd14_3, true),
        Err(Errno::ECAPMODE.into())
    );
    assert_eq!(bind(Generation::FreeBsd14_3, false), Ok(()));
}

/// Nor does one take the addresses of a host away: until FreeBSD 13
/// `in_pcbbind_setup` refused everything there.
#[test]
fn a_host_without_addresses() {
    let on = |generation| {
        let host = Host {
            generation,
            ..Host::EMPTY
        };
        let mut net = OwnedNet::new(host, 4);
        let mut net = net.net();
        let s = net.socket(2, 1, 0, &Cred::ROOT).result.unwrap();
        let mut addr = [0; 16];
        addr[..2].copy_from_slice(&af::INET.to_ne_bytes());
        addr[2..4].copy_from_slice(&8080u16.to_be_bytes());
        net.bind(
            Fd::Socket(s),
            Pointer::to(&addr),
            &Cred::ROOT,
            Pick::Random(0),
        )
        .result
    };
    assert_eq!(on(Generation::FreeBsd9_1), Err(Errno::EADDRNOTAVAIL.into()));
    assert_eq!(on(Generation::FreeBsd14_3), Ok(()));
}

/// Nor is there a script of four thousand million binds: the counter of
/// automatic vsock ports at its end.
#[test]
fn the_last_automatic_vsock_port() {
    let after = |generation, last| {
        let mut host = Host::loopback(generation);
        host.vsock = VsockHost {
            cid: Some(3),
            ..Host::EMPTY.vsock
        };
        let mut net = OwnedNet::new(host, 4);
        let mut net = net.net();
        net.core.vsock_next = last;
        let s = net.socket(40, 1, 0, &Cred::ROOT).result.unwrap();
        let mut addr = [0xff; 16];
        addr[..4].copy_from_slice(&u32::from(af::VSOCK).to_ne_bytes());
        addr[12..].copy_from_slice(&[0; 4]);
        let bound = net.bind(
            Fd::Socket(s),
            Pointer::to(&addr),
            &Cred::ROOT,
            Pick::Random(9),
        );
        assert_eq!(bound.result, Ok(()));
        match net.getsockname(s) {
            Addr::Vsock { port, .. } => port,
            other => panic!("{other}"),
        }
    };
    assert_eq!(after(Generation::Linux2_6, u32::MAX), u32::MAX);
    assert_eq!(after(Generation::Linux6_18, u32::MAX), 1024);
    // And its start: fixed then, random since.
    assert_eq!(after(Generation::Linux2_6, 0), 1024);
    assert_eq!(after(Generation::Linux6_18, u32::MAX - 1), u32::MAX - 1);
}

#[test]
fn a_release_is_the_kernel_that_it_names() {
    for (release, name) in [
        ("2.6.27.62", "linux 2.6"),
        ("2.6.32-754.el6.x86_64", "linux 2.6.32"),
        ("5.15.0-91-generic", "linux 5.15"),
        ("5.15.131", "linux 5.15.131"),
        ("6.1.0-37-amd64", "linux 6.1"),
        ("6.1.192-3", "linux 6.1.192"),
        ("6.12.48+deb13-amd64", "linux 6.12.48"),
        ("6.17.9", "linux 6.17.9"),
        ("6.18.0", "linux 6.18.0"),
        ("6.18.0-rc1", "linux 6.18.0"),
        ("7.0", "linux 7.0.0"),
        ("", "linux 6.1"),
    ] {
        let is = Generation::of_release(release);
        assert_eq!(is.to_string(), name, "{release}");
        assert_eq!(Generation::of_name(name), Some(is), "{name}");
    }
}

/// What no other release has is no release.
#[test]
fn names_of_kernels() {
    for name in [
        "linux",
        "linux 6",
        "linux 2.4",
        "linux 1.7",
        "linux 6.x",
        "linux 6.18.1.2",
        "linux 6.18-rc1",
        "linux 6.18.",
        "linux 70000.1",
        "linux  6.18",
        "freebsd 14.2",
        "6.18",
    ] {
        assert_eq!(Generation::of_name(name), None, "{name}");
    }
    let of = |name| Generation::of_name(name).expect(name);
    assert!(of("linux 6.18.15") < of("linux 6.18"));
    assert!(of("linux 6.17.13") < of("linux 6.18.0"));
}
