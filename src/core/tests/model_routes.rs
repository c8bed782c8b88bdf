//! Which source a connect gets on a host with two networks and default routes,
//! which the differential test's host has not. Each row was asked of Linux 6.18
//! in a name space made like this:
//!
//! ```text
//! br0 (2): 10.1.1.1/24, fd00::1/64, fe80::1/64    br1 (3): 10.2.2.1/24, 2001:db8::1/64, fe80::2/64
//! default via 10.1.1.254 dev br0; 192.168.0.0/16 dev br1 src 10.1.1.1; default dev br1 (IPv6)
//! ```

use bindgate_core::model::host::{Route, V4, V6};
use bindgate_core::model::script::{Player, parse};
use bindgate_core::model::{Generation, Host, No, Pick};

fn mapped(v4: u32) -> [u8; 16] {
    std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()
}

fn six(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

fn host() -> Host {
    let mut host = Host::loopback(Generation::Linux6_18);
    host.add_device(2, b"br0", false);
    host.add_device(3, b"br1", false);
    for (addr, dev) in [(0x0a01_0101, 2), (0x0a02_0201, 3)] {
        let prefix = 24;
        let a = V4 { addr, prefix, dev };
        host.v4.push(a);
        host.routes.push(Route::connected(&a));
    }
    for (addr, dev) in [
        ("fd00::1", 2),
        ("fe80::1", 2),
        ("2001:db8::1", 3),
        ("fe80::2", 3),
    ] {
        let a = V6 {
            addr: six(addr),
            dev,
            tentative: false,
        };
        host.v6.push(a);
        host.routes.push(Route::connected6(&a, 64));
    }
    let none = [0; 16];
    for (net, prefix, dev, src) in [
        (mapped(0), 96, 2, none),
        (mapped(0xc0a8_0000), 112, 3, mapped(0x0a01_0101)),
        (none, 0, 3, none),
    ] {
        host.routes.push(Route {
            net,
            prefix,
            dev,
            src,
        });
    }
    host
}

/// To where, by which device, bound to what; the answer, and the address that
/// the socket has then.
type Row = (&'static str, u32, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("8.8.8.8:9", 0, "", "ok", "10.1.1.1"),
    ("10.2.2.9:9", 0, "", "ok", "10.2.2.1"),
    ("8.8.8.8:9", 3, "", "ok", "10.2.2.1"),
    ("8.8.8.8:9", 1, "", "ok", "10.1.1.1"),
    ("224.1.1.1:9", 0, "", "ok", "10.1.1.1"),
    ("224.0.0.1:9", 0, "", "ok", "10.1.1.1"),
    ("255.255.255.255:9", 0, "", "EACCES", "0.0.0.0"),
    ("192.168.1.1:9", 0, "", "ok", "10.1.1.1"),
    ("192.168.1.1:9", 2, "", "ok", "10.1.1.1"),
    ("10.1.1.9:9", 3, "", "ok", "10.2.2.1"),
    ("10.1.1.1:9", 3, "", "ok", "10.2.2.1"),
    ("10.2.2.9:9", 0, "10.1.1.1:7", "ok", "10.1.1.1"),
    ("224.0.0.1:9", 0, "10.2.2.1:7", "ok", "10.2.2.1"),
    ("8.8.8.8:9", 0, "127.0.0.1:7", "EINVAL", "127.0.0.1"),
    ("[2600::1]:9", 0, "", "ok", "[2001:db8::1]"),
    ("[fd11::1]:9", 0, "", "ok", "[2001:db8::1]"),
    ("[fd00::9]:9", 0, "", "ok", "[fd00::1]"),
    ("[2002::1]:9", 0, "", "ok", "[2001:db8::1]"),
    ("[fec0::1]:9", 0, "", "ok", "[2001:db8::1]"),
    ("[2600::1]:9", 2, "", "ENETUNREACH", "[::]"),
    ("[fe80::9]:9", 2, "", "ok", "[fe80::1%2]"),
    ("[fe80::9]:9", 3, "", "ok", "[fe80::2%3]"),
    ("[ff0e::1]:9", 2, "", "ok", "[fd00::1]"),
    ("[ff02::1]:9", 3, "", "ok", "[fe80::2%3]"),
    ("[fd00::9]:9", 3, "", "ok", "[2001:db8::1]"),
    ("[2001:db8::9]:9", 0, "[fd00::1]:7", "ok", "[fd00::1]"),
    ("[2001:db8::9]:9", 2, "", "ENETUNREACH", "[::]"),
    ("[::ffff:8.8.8.8]:9", 0, "", "ok", "[::ffff:10.1.1.1]"),
    // The kernel takes the first device of its table here.
    ("[ff0e::1]:9", 0, "", "unknown", "[::]"),
];

/// The row's answer and address, on this host.
fn ask(host: Host, row: &Row) -> (String, String) {
    let (to, dev, bound, ..) = row;
    let six = if to.starts_with('[') { "6" } else { "" };
    let mut text = format!("s = socket udp{six}\n");
    if *dev != 0 {
        text += &format!("set s SO_BINDTOIFINDEX {dev}\n");
    }
    if !bound.is_empty() {
        text += &format!("bind s {bound}\n");
    }
    text += &format!("connect s {to}\n");
    let script = parse(&text, host).expect("a script");
    let mut player = Player::new(&script, 8);
    let play = |line| player.play(&script, line, Pick::Random(7));
    let last = script.lines.iter().map(play).last().expect("a call");
    let answer = last.result.err().map_or("ok", No::name);
    let name = last.name.map_or(String::new(), |n| n.to_string());
    let name = name.rsplit_once(':').map_or("", |(ip, _)| ip);
    (answer.to_owned(), name.to_owned())
}

#[test]
fn sources_of_a_host_with_two_networks() {
    let mut wrong = Vec::new();
    for row in ROWS {
        let (answer, name) = ask(host(), row);
        if (answer.as_str(), name.as_str()) != (row.3, row.4) {
            wrong.push(format!("{row:?}: {answer} {name}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A host whose routes nobody knows: its own addresses are, others are not.
#[test]
fn without_routes_only_the_host_is_known() {
    let mut host = host();
    host.has_routes = false;
    for (to, answer) in [
        ("10.1.1.1:9", "ok"),
        ("127.0.0.5:9", "ok"),
        ("[::1]:9", "ok"),
        ("[fd00::1]:9", "ok"),
        ("8.8.8.8:9", "unknown"),
        ("[2600::1]:9", "unknown"),
    ] {
        assert_eq!(ask(host, &(to, 0, "", "", "")).0, answer, "{to}");
    }
}

/// IP_TRANSPARENT and IPPROTO_RAW may have sources that nobody has.
#[test]
fn foreign_sources() {
    for (option, answer) in [("IP_FREEBIND", "ENETUNREACH"), ("IP_TRANSPARENT", "ok")] {
        let text =
            format!("s = socket udp\nset s {option} on\nbind s 9.9.9.9:7\nconnect s 8.8.8.8:9\n");
        let script = parse(&text, host()).expect("a script");
        let mut player = Player::new(&script, 8);
        let play = |line| player.play(&script, line, Pick::Random(7));
        let last = script.lines.iter().map(play).last().expect("a call");
        assert_eq!(last.result.err().map_or("ok", No::name), answer);
    }
}
