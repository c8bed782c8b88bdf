//! What a script says: each kind of line, what it means, and what its misuse is
//! answered with.

use bindgate_core::model::script::{Expect, Player, Script, parse};
use bindgate_core::model::{Generation, Host, No, Pick};

fn host() -> Host {
    Host::loopback(Generation::Linux6_18)
}

/// Plays a script, whose expectations must be met.
fn play(text: &str) {
    let script = parse(text, host()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut player = Player::new(&script, script.most_sockets() as usize);
    for (n, line) in script.lines.iter().enumerate() {
        let outcome = player.play(&script, line, Pick::Random(n as u32));
        let name = outcome.name.map(|n| n.to_string());
        let met = match &line.expect {
            None => true,
            Some(Expect::Ok) => outcome.result.is_ok(),
            Some(Expect::Fails(e)) => outcome.result == Err((*e).into()),
            Some(Expect::Name(wanted)) => outcome.result.is_ok() && name.as_ref() == Some(wanted),
            Some(Expect::Value(_, wanted)) => outcome.value.is_some_and(|v| v.1 == *wanted),
        };
        assert!(met, "line {}: {outcome:?}\n{text}", line.at);
    }
}

/// What the last line gives: `ok`, an error's name, `unknown`.
fn last(text: &str) -> &'static str {
    let script = parse(text, host()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut player = Player::new(&script, script.most_sockets() as usize);
    let mut last = Ok(());
    for line in &script.lines {
        last = player.play(&script, line, Pick::Random(7)).result;
    }
    last.err().map_or("ok", No::name)
}

#[test]
fn lines_count_from_where_they_stand() {
    play(
        "process u uid 1000
        u: s = socket tcp
        u: bind s 0.0.0.0:80                              expect EACCES
        sysctl net.ipv4.ip_unprivileged_port_start = 80
        u: bind s 0.0.0.0:80                              expect ok
        u: t = socket tcp
        u: bind t 10.0.0.1:81                             expect EADDRNOTAVAIL
        host address 10.0.0.1/24
        u: bind t 10.0.0.1:81                             expect ok
        u: v = socket tcp
        u: bind v 127.0.0.1:79                            expect EACCES
        process u uid 1000 with CAP_NET_BIND_SERVICE
        u: bind v 127.0.0.1:79                            expect ok
        process u uid 1000
        u: w = socket tcp
        u: bind w 127.0.0.2:79                            expect EACCES
        host unprivileged-start 79
        u: bind w 127.0.0.2:79                            expect ok",
    );
    // The first lines are the host that it begins with.
    let script = parse(
        "host address 10.0.0.1/24\ns = socket tcp\nhost cid 9",
        host(),
    );
    let script = script.expect("a script");
    assert_eq!(script.host.v4.as_slice().len(), 2);
    assert_eq!(script.host.vsock.cid, None);
}

#[test]
fn a_port_is_that_of_another_socket() {
    play(
        "sysctl net.ipv4.ip_local_port_range = 40000 40000
        s = socket tcp
        bind s 127.0.0.1:auto              expect 127.0.0.1:40000
        t = socket tcp
        bind t 127.0.0.1:$s                expect EADDRINUSE
        bind t 127.0.0.2:$s                expect 127.0.0.2:40000
        u = socket tcp6
        bind u [::1]:$s                    expect [::1]:40000
        listen s
        c = socket tcp
        bind c 127.0.0.1:5000
        connect c 127.0.0.1:$s             expect 127.0.0.1:5000
        v = socket vsock
        bind v vsock:any:5000
        w = socket vsock
        bind w vsock:any:$v                expect EADDRINUSE
        n = socket netlink
        bind n netlink:7:0x0
        m = socket netlink
        bind m netlink:$n:0x0              expect EADDRINUSE",
    );
    // Without a port nothing can be asked.
    let none = "s = socket tcp\nt = socket tcp\nbind t 0.0.0.0:$s";
    assert_eq!(last(none), "unknown");
}

#[test]
fn a_device_has_a_name() {
    play(
        "host address 10.0.0.1/24
        host device eth1 10.1.0.1/24 [fd01::1/64]
        s = socket tcp
        set s SO_BINDTODEVICE eth1
        getsockopt s SO_BINDTOIFINDEX      expect 3
        bind s 0.0.0.0:8000                expect ok
        t = socket tcp
        set t SO_BINDTODEVICE eth0
        bind t 0.0.0.0:8000                expect ok
        u = socket tcp
        set u SO_BINDTODEVICE nosuch       expect ENODEV
        bind u 10.1.0.1:8000               expect EADDRINUSE
        host device nosuch
        set u SO_BINDTODEVICE nosuch       expect ok
        bind u 10.1.0.1:8000               expect ok
        v = socket tcp6
        bind v [fd01::1]:80                expect ok",
    );
}

#[test]
fn a_socket_can_be_asked() {
    play(
        "s = socket tcp6
        getsockopt s IPV6_V6ONLY           expect off
        set s IPV6_V6ONLY on
        getsockopt s IPV6_V6ONLY           expect on
        set s IP_LOCAL_PORT_RANGE 40000-40009
        getsockopt s IP_LOCAL_PORT_RANGE   expect 40000-40009
        getsockopt s SO_ACCEPTCONN         expect 0
        getpeername s                      expect ENOTCONN
        bind s [::1]:5000
        getsockname s                      expect [::1]:5000
        listen s
        getsockopt s SO_ACCEPTCONN         expect 1
        c = socket tcp6
        bind c [::1]:6000
        connect c [::1]:5000
        a = accept s
        getpeername c                      expect [::1]:5000
        getpeername a                      expect [::1]:6000
        u = socket udp
        getsockopt u IPV6_V6ONLY           expect EOPNOTSUPP
        n = socket netlink
        getsockopt n IP_FREEBIND           expect ENOPROTOOPT
        x = socket unix
        bind x unix:/run/x
        listen x
        y = socket unix
        connect y unix:/run/x
        getpeername y                      expect unix:/run/x
        f = file
        getsockname f                      expect ENOTSOCK",
    );
    play(
        "host kernel freebsd 14.3
        s = socket tcp
        getsockopt s SO_REUSEADDR          expect 0
        set s SO_REUSEADDR on
        getsockopt s SO_REUSEADDR          expect 4
        getsockopt s IP_FREEBIND           expect ENOPROTOOPT",
    );
}

#[test]
fn the_file_system_is_described() {
    play(
        "process u uid 1000
        process v uid 1001
        file /run/taken
        directory /nowhere absent
        directory /srv uid 1000 mode 0755
        directory /srv/deep mode 0700
        directory /usr read-only
        s = socket unix
        bind s unix:/run/taken             expect EADDRINUSE
        connect s unix:/run/taken          expect ECONNREFUSED
        u: s = socket unix
        u: connect s unix:/run/taken       expect EACCES
        bind s unix:/nowhere/s             expect ENOENT
        connect s unix:/nowhere/s          expect ENOENT
        bind s unix:/usr/lib/s             expect EROFS
        v: w = socket unix
        v: bind w unix:/srv/w              expect EACCES
        v: bind w unix:/srv/deep/w         expect EACCES
        u: bind s unix:/srv/deep/s         expect EACCES
        u: bind s unix:/srv/s              expect ok
        u: listen s
        v: connect w unix:/srv/s           expect EACCES
        c = socket unix
        connect c unix:/srv/s              expect ok
        close s
        t = socket unix
        bind t unix:/srv/s                 expect EADDRINUSE
        file /srv/s removed
        bind t unix:/srv/s                 expect ok",
    );
}

#[test]
fn network_namespaces_are_apart() {
    play(
        "netns b
        netns b host address 10.9.0.1/24
        process p uid 1000
        process q uid 1000 netns b
        p: s = socket tcp
        p: bind s 0.0.0.0:8080             expect ok
        q: t = socket tcp
        q: bind t 10.9.0.1:8080            expect ok
        p: u = socket tcp
        p: bind u 10.9.0.1:8081            expect EADDRNOTAVAIL
        q: v = socket tcp
        q: bind v 0.0.0.0:80               expect EACCES
        netns b sysctl net.ipv4.ip_unprivileged_port_start = 80
        q: bind v 0.0.0.0:80               expect ok
        p: w = socket tcp
        p: bind w 0.0.0.0:80               expect EACCES
        p: a = socket unix
        p: bind a unix:@x                  expect ok
        q: b = socket unix
        q: bind b unix:@x                  expect ok
        p: l = socket vsock
        p: bind l vsock:any:5000           expect ok
        q: m = socket vsock
        q: bind m vsock:any:5000           expect EADDRINUSE",
    );
    // A path leads to the sockets of another one.
    let path = "netns b\nprocess q uid 0 netns b\ns = socket unix\nbind s unix:/a\nlisten s\n\
                q: c = socket unix\nq: connect c unix:/a";
    assert_eq!(last(path), "unknown");
}

/// Compared with Linux 6.18: `tcp_v6_connect` takes back what it chose for a mapped
/// address only where `tcp_v4_connect` fails at once.
#[test]
fn a_socket_speaks_ipv4_from_its_first_packet_of_ipv4_on() {
    play(
        "s = socket tcp6
        connect s [::ffff:127.0.0.1]:5000        expect ECONNREFUSED
        connect s [::1]:5000                     expect EINPROGRESS
        t = socket tcp6
        connect t [::ffff:127.0.0.1]:5000        expect ECONNREFUSED
        connect t [::ffff:10.1.1.255]:5000       expect ENETUNREACH
        connect t [::1]:5000                     expect ECONNREFUSED
        u = socket tcp6
        bind u [::]:5001
        connect u [::ffff:127.0.0.1]:5000        expect ECONNREFUSED
        connect u [::ffff:224.0.0.1]:5000       expect ENETUNREACH
        connect u [::1]:5000                     expect ECONNREFUSED",
    );
}

#[test]
fn lo_may_be_down() {
    play(
        "host lo never-up
        s = socket tcp
        bind s 127.0.0.1:5000              expect ok
        bind s 127.0.0.1:5000              expect EINVAL
        t = socket tcp
        bind t 10.9.9.9:5000               expect ok
        u = socket tcp6
        bind u [::1]:5000                  expect EADDRNOTAVAIL
        host lo up
        bind u [::1]:5000                  expect ok
        v = socket tcp
        bind v 10.9.9.9:5001               expect EADDRNOTAVAIL
        host lo down
        bind v 127.0.0.1:5001              expect ok
        w = socket tcp6
        bind w [::1]:5001                  expect EADDRNOTAVAIL",
    );
    let lost = "s = socket tcp\nhost lo down\nconnect s 127.0.0.1:80";
    assert_eq!(last(lost), "unknown");
}

#[test]
fn capability_mode_is_a_process_s() {
    play(
        "host kernel freebsd 14.3
        process p uid 0 capability-mode
        s = socket tcp
        p: bind s 127.0.0.1:5000           expect ECAPMODE
        p: connect s 127.0.0.1:5000        expect ECAPMODE
        bind s 127.0.0.1:5000              expect ok",
    );
}

#[test]
fn a_process_may_stand_before_a_variable() {
    play("process p uid 1000\np:s = socket tcp\np: bind s 0.0.0.0:80 expect EACCES");
}

#[test]
fn long_addresses_are_refused_as_the_kernel_does() {
    let long = format!(
        "s = socket tcp\nbind s hex:02001f90{} expect EINVAL",
        "00".repeat(600)
    );
    play(&long);
    play(&format!(
        "s = socket unix\nbind s hex:01002f{} expect ok",
        "78".repeat(107)
    ));
}

#[test]
fn what_is_no_line_is_told() {
    for (text, line, words) in [
        (
            "q: s = socket tcp",
            1,
            "there is no process 'q'; declare it: process q uid N",
        ),
        ("q:s = socket tcp", 1, "there is no process 'q'"),
        (
            "s = socket tcp\nbind q:s 0.0.0.0:80",
            2,
            "a process stands before its call: q: bind s",
        ),
        (
            "a$b = socket tcp",
            1,
            "'a$b' is not a name: names have letters",
        ),
        (
            "s = socket tcp\nbind s 0.0.0.0:$t",
            2,
            "there is no socket 't'; make it: t = socket tcp",
        ),
        (
            "s = socket tcp\nbind s 0.0.0:$s",
            2,
            "'0.0.0:0' is not an address",
        ),
        (
            "process p uid 7 with nothing netns b",
            1,
            "there is no network namespace 'b'; declare it: netns b",
        ),
        (
            "process p uid 7 in b",
            1,
            "after the user id come: with CAPABILITIES, jail NAME, netns NAME",
        ),
        ("process p", 1, "expected: process NAME uid N"),
        ("netns b\nnetns b", 2, "a network namespace 'b' already"),
        (
            "netns b\nnetns b bind s",
            2,
            "after netns NAME comes host or sysctl",
        ),
        (
            "netns b\nnetns b host kernel linux 6.18",
            2,
            "the same kernel",
        ),
        (
            "netns a\nnetns b\nnetns c\nnetns d\nnetns e",
            5,
            "at most 4 network namespaces",
        ),
        (
            "s = socket tcp\nhost kernel linux 6.18",
            2,
            "the kernel is named before the first call",
        ),
        (
            "s = socket tcp\nhost personality freebsd",
            2,
            "before the first call",
        ),
        (
            "s = socket tcp\nhost lo never-up",
            2,
            "later it is 'host lo down'",
        ),
        ("host lo sideways", 1, "host lo is up, down or never-up"),
        (
            "host device eth1 10.0.0.1",
            1,
            "'10.0.0.1' is not ADDRESS/LENGTH",
        ),
        (
            "host device eth1 10.0.0.1/33",
            1,
            "'10.0.0.1/33' is not ADDRESS/LENGTH",
        ),
        ("host device a-name-that-is-too-long", 1, "at most 15 bytes"),
        (
            "s = socket tcp\nset s SO_BINDTODEVICE a-name-that-is-too-long",
            2,
            "too long",
        ),
        (
            "s = socket tcp\ngetsockopt s SO_SNDBUF",
            2,
            "getsockopt has no option 'SO_SNDBUF'; it has: SO_REUSEADDR",
        ),
        (
            "s = socket tcp\ngetsockopt s SO_TYPE expect many",
            2,
            "'many' is neither ok",
        ),
        ("file @a", 1, "'@a' is not a path"),
        ("file", 1, "expected: file PATH"),
        ("directory /a mode 9", 1, "'9' is not a mode, as 0755"),
        (
            "directory /a gone",
            1,
            "after the path come: absent, read-only, uid N, mode MODE",
        ),
        (
            "sysctl net.ipv4.ip_local_port_range = 1",
            1,
            "expected two numbers",
        ),
        ("sysctl", 1, "expected: sysctl NAME = VALUE"),
        ("file /a expect ok", 1, "'expect' must follow a call"),
        ("expect ok", 1, "'expect' must follow a call"),
    ] {
        let error = parse(text, host()).expect_err(text);
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
}

/// A quadratic parser or player would not end here.
#[test]
fn many_variables_are_read_and_played() {
    const MANY: usize = 200_000;
    let mut text = String::new();
    for n in 0..MANY {
        let (port, host) = (1 + n % 65_000, n / 65_000);
        text += &format!(
            "s{n} = socket udp\nbind s{n} 127.0.0.{}:{port} expect ok\n",
            host + 1
        );
        // Each has a holder to be named.
        if n == MANY - 1 {
            text += &format!(
                "t = socket udp\nbind t 127.0.0.1:{} expect EADDRINUSE\n",
                65_000
            );
        }
    }
    play(&text);
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

const BEFORE: &[&str] = &[
    "host kernel linux 6.12",
    "host   kernel freebsd 14.3",
    "host lo never-up",
    "host unprivileged",
    "host privileged",
    "host personality linux",
];
const DECLARED: &[&str] = &[
    "host address 10.0.0.1/24 [fd00::1/64]",
    "host device eth7 10.7.0.1/16",
    "host device eth8",
    "host lo down",
    "host lo up",
    "host cid 9",
    "host automatic-ports 40000-40009",
    "sysctl net.ipv4.ip_local_port_range = 40000   40009",
    "sysctl net.ipv4.ip_local_reserved_ports = 5,7-9",
    "sysctl net.ipv4.ip_nonlocal_bind 1",
    "netns b host address 10.8.0.1/24",
    "netns b sysctl net.ipv6.bindv6only = 1",
    "process q uid 7",
    "process q uid 7 with CAP_NET_RAW,CAP_NET_ADMIN",
    "process q uid 0 with nothing jail j",
    "process q uid 7 netns b capability-mode",
    "file /run/a",
    "file unix:/run/a removed",
    "directory /srv absent",
    "directory /srv read-only uid 7 mode 0750",
];
const CALLS: &[&str] = &[
    "s = socket tcp",
    "q: t = socket 2 1 262",
    "q:t = socket unix",
    "u = file",
    "u = dup s",
    "t = accept s",
    "set s SO_REUSEADDR on",
    "set s SO_BINDTODEVICE eth8",
    "set s SO_BINDTODEVICE nosuch",
    "set s SO_BINDTOIFINDEX -1",
    "set t IP_LOCAL_PORT_RANGE 5-6",
    "set t SO_LINGER zero",
    "set t IP_PORTRANGE low",
    "set t SO_ATTACH_REUSEPORT_CBPF on",
    "getsockopt s IP_LOCAL_PORT_RANGE expect 1-2",
    "getsockopt s SO_TYPE  expect 1",
    "getsockopt s SO_TYPE  expect ENOPROTOOPT",
    "getsockname s expect 127.0.0.1:80",
    "getpeername t expect unix:@a",
    "bind s 127.0.0.1:80",
    "bind s 127.0.0.1:$t",
    "bind s [fe80::1%2]:$u   expect EADDRINUSE",
    "bind s vsock:any:$t",
    "bind s vsock:3:auto",
    "bind s netlink:$t:0x1",
    "bind s netlink:5:0xf",
    "bind s unix:/run/a\\x20b",
    "bind s unix:@\\x00\\\\a",
    "bind s unix:/run/a:$t",
    "bind s unix:auto",
    "bind s hex:0200",
    "bind s 127.0.0.1:80 len 7",
    "bind s 127.0.0.1:$t len 16",
    "bind s nowhere len -1",
    "listen s expect ok",
    "connect s [::1]:$u",
    "connect s unix:/run/a # why",
    "shutdown s both",
    "close s",
];

/// A script's text says all of it.
#[test]
fn a_printed_script_is_the_same_script() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3_000 {
        let mut text = String::new();
        let mut say = |line: &str| text += &format!("{line}\n");
        for _ in 0..dice.below(3) {
            say(dice.of(BEFORE));
        }
        for line in ["netns b", "jail j 10.0.0.7 [fd00::7]", "process q uid 1000"] {
            say(line);
        }
        for _ in 0..dice.below(3) {
            say(dice.of(DECLARED));
        }
        for line in ["s = socket tcp", "t = socket tcp6", "u = socket vsock"] {
            say(line);
        }
        for _ in 0..dice.below(12) {
            let line = if dice.below(3) == 0 {
                dice.of(DECLARED)
            } else {
                dice.of(CALLS)
            };
            say(line);
        }
        let Ok(script) = parse(&text, host()) else {
            // Lines that do not go together.
            continue;
        };
        let printed = script.to_string();
        let again = parse(&printed, host()).unwrap_or_else(|e| panic!("{e}\n{text}\n{printed}"));
        let content = |mut script: Script| {
            script.lines.iter_mut().for_each(|line| line.at = 0);
            script.changes.iter_mut().for_each(|change| change.at = 0);
            format!("{script:?}")
        };
        assert_eq!(content(script), content(again), "{text}\n{printed}");
    }
}
