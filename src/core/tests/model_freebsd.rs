//! Facts of FreeBSD 14.3 beside those of Linux 6.18: one script each, what its
//! last call gives on either, and the FreeBSD function that says so.
//!
//! There is no FreeBSD here to ask; the answers are from its source, and those
//! marked in the notes were run from that source outside a kernel.

use bindgate_core::model::script::{Player, parse};
use bindgate_core::model::{Generation, Host, Pick};

const HEAD: &str = "\
host address 10.0.0.1/24 [fd00::1/64]
process alice uid 1000
process bob uid 1001
";

#[rustfmt::skip]
/// FreeBSD function, calls, Linux's answer, FreeBSD's answer.
const FACTS: &[(&str, &str, &str, &str)] = &[
    // getsockaddr: lengths, before the descriptor.
    ("getsockaddr", "s = socket tcp; bind s 127.0.0.1:80 len -1", "EINVAL", "ENAMETOOLONG"),
    ("getsockaddr", "s = socket tcp; bind s 127.0.0.1:80 len 256", "EINVAL", "ENAMETOOLONG"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:80 len 128", "ok", "EINVAL"),
    ("getsockaddr", "s = socket tcp; bind s 127.0.0.1:80 len 1", "EINVAL", "EINVAL"),
    ("getsockaddr", "s = socket tcp; bind s 127.0.0.1:80 len 0", "EINVAL", "EINVAL"),
    ("getsockaddr", "s = socket tcp; close s; bind s 127.0.0.1:80 len 300", "EBADF", "ENAMETOOLONG"),
    ("getsock_cap", "s = socket tcp; close s; bind s 127.0.0.1:80", "EBADF", "EBADF"),
    // in_pcbbind_setup: family, length, address.
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:80 len 17", "ok", "EINVAL"),
    ("in_pcbbind_setup", "s = socket udp; bind s 127.0.0.1:80 len 28", "ok", "EINVAL"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:80 len 8", "EINVAL", "EINVAL"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:8000 len 16", "ok", "ok"),
    ("in_pcbbind_setup", "s = socket tcp; bind s hex:00001f900000000000000000000000 len 16", "ok", "ok"),
    ("in_pcbbind_setup", "s = socket tcp; bind s hex:00001f907f0000010000000000000000", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("in_pcbbind_setup", "s = socket tcp; bind s [::1]:80", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s [::1]:80 len 24", "ok", "EINVAL"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s [::1]:80 len 29", "ok", "EINVAL"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s hex:0000005000000000000000000000000000000000000000000000000000000000 len 28", "EAFNOSUPPORT", "EAFNOSUPPORT"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s 127.0.0.1:80", "EINVAL", "EAFNOSUPPORT"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.2:80", "ok", "EADDRNOTAVAIL"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 255.255.255.255:80", "ok", "EADDRNOTAVAIL"),
    ("in_pcbbind_setup", "s = socket udp; bind s 10.0.0.255:80", "ok", "ok"),
    ("in_pcbbind_setup", "s = socket udp; bind s 10.0.0.2:80", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("in_pcbbind_setup", "s = socket udp; bind s 127.255.255.255:80", "ok", "EADDRNOTAVAIL"),
    ("tcp_usr_bind", "s = socket tcp; bind s 224.0.0.1:80", "ok", "EAFNOSUPPORT"),
    ("in_pcbbind_setup", "s = socket udp; bind s 224.0.0.1:5353", "ok", "ok"),
    ("tcp6_usr_bind", "s = socket tcp6; bind s [ff0e::1]:80", "EINVAL", "EAFNOSUPPORT"),
    ("in6_pcbbind", "s = socket udp6; bind s [fd00::9]:80", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("in6_pcbbind", "s = socket tcp6; bind s [fe80::9]:80", "EINVAL", "EADDRNOTAVAIL"),
    ("sa6_embedscope", "s = socket tcp6; bind s [fe80::9%77]:80", "ENODEV", "ENXIO"),
    ("in6_pcbbind", "s = socket tcp6; set s IPV6_V6ONLY on; bind s [::ffff:127.0.0.1]:80", "EINVAL", "EADDRNOTAVAIL"),
    ("in6_pcbbind", "s = socket tcp6; bind s [::ffff:127.0.0.1]:80", "ok", "EADDRNOTAVAIL"),
    ("in_pcbbind", "s = socket tcp6; set s IPV6_V6ONLY off; bind s [::ffff:127.0.0.1]:80", "ok", "ok"),
    // Order of the checks.
    ("in_pcbbind", "s = socket tcp; bind s 127.0.0.1:80; bind s 10.0.0.2:81", "EADDRNOTAVAIL", "EINVAL"),
    ("in_pcbbind", "alice: s = socket tcp; alice: bind s 127.0.0.1:8000; alice: bind s 127.0.0.1:80", "EACCES", "EINVAL"),
    ("in_pcbbind", "s = socket tcp; bind s 127.0.0.1:80; bind s 127.0.0.1:81", "EINVAL", "EINVAL"),
    ("in_pcbbind_setup", "alice: s = socket tcp; alice: bind s 127.0.0.1:80", "EACCES", "EACCES"),
    ("in_pcbbind_setup", "alice: s = socket tcp; alice: bind s 10.0.0.2:80", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
    ("in_pcbbind_setup", "s = socket tcp; bind s 127.0.0.1:80", "ok", "ok"),
    // in_pcbbind_avail: the reuse matrix.
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; bind s 127.0.0.1:80; bind t 10.0.0.1:80", "ok", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; bind s 0.0.0.0:80; bind t 10.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; bind s 10.0.0.1:80; bind t 0.0.0.0:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "ok", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket udp; t = socket udp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "ok", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set t SO_REUSEADDR on; bind s 0.0.0.0:80; listen s; bind t 10.0.0.1:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set t SO_REUSEADDR on; bind s 10.0.0.1:80; bind t 0.0.0.0:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set t SO_REUSEPORT on; bind s 0.0.0.0:80; bind t 10.0.0.1:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket udp; t = socket udp; set t SO_REUSEPORT on; bind s 0.0.0.0:80; bind t 10.0.0.1:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set t SO_REUSEPORT on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "ok", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEADDR on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; bind s 0.0.0.0:80; bind t 127.0.0.1:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp; set s SO_REUSEADDR on; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:80; bind t 127.0.0.1:80", "ok", "ok"),
    ("in_pcbbind_avail", "s = socket udp; t = socket udp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 224.0.0.1:53; bind t 224.0.0.1:53", "ok", "ok"),
    ("in_pcbbind_avail", "s = socket udp; t = socket udp; set t SO_REUSEADDR on; bind s 224.0.0.1:53; bind t 224.0.0.1:53", "EADDRINUSE", "EADDRINUSE"),
    // Other users.
    ("in_pcbbind_avail", "alice: s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; alice: bind s 127.0.0.1:8000; bind t 127.0.0.1:8000", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "alice: s = socket tcp; bob: t = socket tcp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 0.0.0.0:8000; bob: bind t 127.0.0.1:8000", "ok", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; bob: t = socket tcp; set t SO_REUSEADDR on; bind s 0.0.0.0:8000; bob: bind t 127.0.0.1:8000", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "alice: s = socket udp; bob: t = socket udp; set s SO_REUSEADDR on; set t SO_REUSEADDR on; bind s 224.0.0.1:8000; bob: bind t 224.0.0.1:8000", "ok", "ok"),
    ("in_pcbbind_avail", "alice: s = socket udp; bob: t = socket udp; bind s 127.0.0.1:8000; bob: bind t 10.0.0.1:8000", "ok", "ok"),
    // Dual stack.
    ("socreate", "s = socket tcp; t = socket tcp6; bind s 0.0.0.0:80; bind t [::]:80", "EADDRINUSE", "ok"),
    ("in6_pcbbind", "s = socket tcp; t = socket tcp6; set t IPV6_V6ONLY off; bind s 0.0.0.0:80; bind t [::]:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp6; set t IPV6_V6ONLY off; bind t [::]:80; bind s 0.0.0.0:80", "EADDRINUSE", "EADDRINUSE"),
    ("in_pcbbind_avail", "s = socket tcp; t = socket tcp6; bind t [::]:80; bind s 0.0.0.0:80", "EADDRINUSE", "ok"),
    ("in_pcbbind_avail", "s = socket tcp6; t = socket tcp6; set s IPV6_V6ONLY off; set t IPV6_V6ONLY off; bind s [::]:80; bind t [::ffff:10.0.0.1]:80", "EADDRINUSE", "EADDRINUSE"),
    ("in6_pcbbind", "s = socket tcp6; t = socket tcp6; bind s [::]:80; bind t [::1]:80", "EADDRINUSE", "EADDRINUSE"),
    ("ip6_ctloutput", "s = socket tcp6; bind s [::]:80; set s IPV6_V6ONLY off", "EINVAL", "EINVAL"),
    // Listening.
    ("solisten", "s = socket tcp; t = socket tcp; set s SO_REUSEPORT on; set t SO_REUSEPORT on; bind s 127.0.0.1:80; bind t 127.0.0.1:80; set s SO_REUSEPORT off; set t SO_REUSEPORT off; listen s; listen t", "EADDRINUSE", "ok"),
    ("solisten", "s = socket udp; bind s 127.0.0.1:80; listen s", "EOPNOTSUPP", "EOPNOTSUPP"),
    ("solisten", "s = socket tcp; listen s", "ok", "ok"),
    ("uipc_listen", "s = socket unix; listen s", "EINVAL", "EDESTADDRREQ"),
    ("uipc_listen", "s = socket unix-dgram; listen s", "EOPNOTSUPP", "EOPNOTSUPP"),
    // Automatic ports.
    ("in_pcb_lport_dest", "host automatic-ports 40000-40000; s = socket tcp; t = socket tcp; bind s 0.0.0.0:40000; bind t 0.0.0.0:0", "EADDRINUSE", "EADDRNOTAVAIL"),
    ("in_pcb_lport_dest", "host automatic-ports 40000-40000; s = socket tcp; t = socket tcp; set t SO_REUSEADDR on; bind s 0.0.0.0:40000; bind t 10.0.0.1:0", "EADDRINUSE", "ok"),
    ("in_pcb_lport_dest", "host automatic-ports 40000-40000; s = socket tcp; t = socket tcp; bind s 127.0.0.1:40000; bind t 10.0.0.1:0", "ok", "ok"),
    ("in_pcb_lport_dest", "alice: s = socket tcp; alice: set s IP_PORTRANGE low; alice: bind s 127.0.0.1:0", "ok", "EPERM"),
    // Options.
    ("sosetopt", "s = socket tcp; set s SO_REUSEPORT_LB on", "ENOPROTOOPT", "ok"),
    ("ip_ctloutput", "alice: s = socket tcp; alice: set s IP_BINDANY on", "ENOPROTOOPT", "EPERM"),
    ("in_pcbbind_setup", "s = socket tcp; set s IP_BINDANY on; bind s 10.0.0.2:80", "EADDRNOTAVAIL", "ok"),
    ("sosetopt", "s = socket tcp; set s IP_FREEBIND on", "ok", "ENOPROTOOPT"),
    // socket().
    ("socreate", "s = socket 2 4 0", "ESOCKTNOSUPPORT", "EPROTOTYPE"),
    ("socreate", "s = socket 1 1 99", "EPROTONOSUPPORT", "ok"),
    ("socreate", "s = socket 40 1 0", "ok", "EAFNOSUPPORT"),
    ("socreate", "s = socket 2 1 17", "EPROTONOSUPPORT", "EPROTONOSUPPORT"),
    ("rip_attach", "alice: s = socket 2 3 6", "EPERM", "EPERM"),
    ("socreate", "s = socket 2 2 1", "EACCES", "EPROTONOSUPPORT"),
    // UNIX.
    ("uipc_bindat", "s = socket unix; bind s 127.0.0.1:80", "EINVAL", "EAFNOSUPPORT"),
    ("uipc_bindat", "s = socket unix; bind s unix:auto", "ok", "EINVAL"),
    ("uipc_bindat", "s = socket unix; bind s unix:@name", "ok", "ENOENT"),
    ("uipc_bindat", "s = socket unix; t = socket unix; bind s unix:/a; bind t unix:/b; bind t unix:/a", "EADDRINUSE", "EINVAL"),
    ("uipc_bindat", "s = socket unix; t = socket unix; bind s unix:/a; bind t unix:/a", "EADDRINUSE", "EADDRINUSE"),
    ("uipc_bindat", "s = socket unix; bind s unix:/a len 107", "ok", "EINVAL"),
    ("rip_bind", "s = socket raw; bind s 127.0.0.1:0 len 17", "ok", "EINVAL"),
    ("rip_bind", "s = socket raw; bind s 10.0.0.2:0", "EADDRNOTAVAIL", "EADDRNOTAVAIL"),
];

fn last_of(calls: &str, generation: Generation) -> (String, Vec<String>) {
    let text = format!("{HEAD}{}", calls.replace("; ", "\n"));
    let mut script = parse(&text, Host::loopback(generation)).expect(calls);
    script.host.generation = generation;
    let mut player = Player::new(&script, 64);
    player.net.host.vsock.cid = Some(3);
    let mut last = String::new();
    let mut functions = Vec::new();
    for line in &script.lines {
        let outcome = player.play(&script, line, Pick::Random(7));
        last = outcome.result.err().map_or("ok", |e| e.name()).to_owned();
        functions = outcome
            .trail
            .steps()
            .iter()
            .map(|s| s.function().to_owned())
            .collect();
    }
    (last, functions)
}

#[test]
fn freebsd_and_linux_answer_as_their_sources_say() {
    let mut wrong = Vec::new();
    let mut differ = 0;
    for (function, calls, linux, freebsd) in FACTS {
        let on_linux = last_of(calls, Generation::Linux6_18).0;
        let (on_freebsd, trail) = last_of(calls, Generation::FreeBsd14_3);
        if (on_linux.as_str(), on_freebsd.as_str()) != (*linux, *freebsd) {
            wrong.push(format!(
                "{function}: {calls}\n  linux {on_linux}, not {linux}; freebsd {on_freebsd}, not {freebsd}; {trail:?}"
            ));
        }
        differ += usize::from(linux != freebsd);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(FACTS.len() >= 60, "{} facts", FACTS.len());
    assert!(differ >= 25, "{differ} where the two differ");
}

/// A jail with one address of each family, one with two IPv4 addresses only.
const JAILS: &str = "\
host address 10.0.0.2/24 10.0.0.3/24
jail one 10.0.0.1 [fd00::1]
jail two 10.0.0.2 10.0.0.3
process in-one uid 0 jail one
process also-one uid 0 jail one
process in-two uid 0 jail two
process low uid 1000 jail one
";

#[rustfmt::skip]
/// The function of kern_jail.c, in_jail.c or in6_jail.c or who calls it; calls;
/// what the last of them gives: an error or the local address.
const JAILED: &[(&str, &str, &str)] = &[
    ("prison_check_af", "in-two: s = socket tcp6", "EPROTONOSUPPORT"),
    ("prison_check_af", "in-two: s = socket tcp", "0.0.0.0:0"),
    ("prison_check_af", "in-two: s = socket unix", "unix:auto"),
    ("prison_priv_check", "in-one: s = socket raw", "EPERM"),
    ("prison_priv_check", "in-one: s = socket tcp; in-one: set s IP_BINDANY on", "EPERM"),
    ("prison_priv_check", "in-one: s = socket tcp; in-one: bind s 10.0.0.1:80", "10.0.0.1:80"),
    ("prison_priv_check", "low: s = socket tcp; low: bind s 10.0.0.1:80", "EACCES"),
    ("prison_local_ip4", "in-one: s = socket tcp; in-one: bind s 0.0.0.0:80", "10.0.0.1:80"),
    ("prison_local_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:80", "0.0.0.0:80"),
    ("prison_local_ip4", "in-one: s = socket tcp; in-one: bind s 127.0.0.1:80", "10.0.0.1:80"),
    ("prison_local_ip4", "in-two: s = socket tcp; in-two: bind s 127.0.0.1:80", "10.0.0.2:80"),
    ("prison_local_ip4", "in-two: s = socket tcp; in-two: bind s 10.0.0.3:80", "10.0.0.3:80"),
    ("prison_check_ip4", "in-two: s = socket tcp; in-two: bind s 10.0.0.1:80", "EADDRNOTAVAIL"),
    ("prison_check_ip4", "in-one: s = socket udp; in-one: bind s 224.0.0.1:5353", "EADDRNOTAVAIL"),
    ("prison_local_ip4", "s = socket tcp; in-two: bind s 10.0.0.1:80", "EADDRNOTAVAIL"),
    ("prison_local_ip6", "s = socket tcp6; in-two: bind s [::1]:80", "EAFNOSUPPORT"),
    ("prison_local_ip6", "in-one: s = socket tcp6; in-one: bind s [::]:80", "[fd00::1]:80"),
    ("prison_local_ip6", "in-one: s = socket tcp6; in-one: set s IPV6_V6ONLY off; in-one: bind s [::]:80", "[::]:80"),
    ("prison_local_ip6", "in-one: s = socket tcp6; in-one: bind s [::1]:80", "[fd00::1]:80"),
    ("prison_local_ip4", "in-one: s = socket tcp6; in-one: set s IPV6_V6ONLY off; in-one: bind s [::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80"),
    ("in_pcbbind", "in-one: s = socket tcp; in-one: bind s 0.0.0.0:80; in-one: bind s 10.0.0.2:81", "EINVAL"),
    ("prison_local_ip4", "host automatic-ports 40000-40000; in-one: s = socket tcp; in-one: listen s", "10.0.0.1:40000"),
    // Who sees whom.
    ("prison_equal_ip4", "s = socket tcp; bind s 0.0.0.0:80; in-one: t = socket tcp; in-one: bind t 0.0.0.0:80", "10.0.0.1:80"),
    ("prison_equal_ip4", "in-two: s = socket tcp; in-two: bind s 0.0.0.0:80; in-one: t = socket tcp; in-one: bind t 0.0.0.0:80", "10.0.0.1:80"),
    ("prison_equal_ip4", "in-one: s = socket tcp; in-one: bind s 0.0.0.0:80; also-one: t = socket tcp; also-one: bind t 0.0.0.0:80", "EADDRINUSE"),
    ("prison_equal_ip4", "s = socket tcp; bind s 10.0.0.1:80; in-one: t = socket tcp; in-one: bind t 10.0.0.1:80", "10.0.0.1:80"),
    ("prison_equal_ip4", "s = socket tcp; bind s 0.0.0.0:8000; low: t = socket tcp; low: set t SO_REUSEADDR on; low: bind t 10.0.0.1:8000", "10.0.0.1:8000"),
    ("prison_equal_ip4", "host automatic-ports 40000-40000; s = socket tcp; bind s 0.0.0.0:40000; in-two: t = socket tcp; in-two: bind t 0.0.0.0:0", "0.0.0.0:40000"),
    ("prison_equal_ip4", "host automatic-ports 40000-40000; in-two: s = socket tcp; in-two: bind s 0.0.0.0:0; in-two: t = socket tcp; in-two: bind t 0.0.0.0:0", "EADDRNOTAVAIL"),
];

#[test]
fn jails_answer_as_their_source_says() {
    let mut wrong = Vec::new();
    for generation in [Generation::FreeBsd9_1, Generation::FreeBsd14_3] {
        for (function, calls, wanted) in JAILED {
            let text = format!("{HEAD}{JAILS}{}", calls.replace("; ", "\n"));
            let script = parse(&text, Host::loopback(generation)).expect(calls);
            let again = parse(&format!("{script}"), Host::loopback(generation)).expect("printed");
            assert_eq!(
                (&script.jails, &script.processes),
                (&again.jails, &again.processes)
            );
            let mut player = Player::new(&script, 64);
            let mut last = None;
            for line in &script.lines {
                last = Some(player.play(&script, line, Pick::Random(7)));
            }
            let last = last.expect("a call");
            let got = match (last.result, last.name) {
                (Ok(()), Some(name)) => format!("{name}"),
                (Ok(()), None) => "ok".to_owned(),
                (Err(e), _) => e.name().to_owned(),
            };
            if got != *wanted {
                let steps = last.trail.steps();
                wrong.push(format!(
                    "{}: {function}: {calls}\n  {got}, not {wanted}; {steps:?}",
                    generation.name()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
