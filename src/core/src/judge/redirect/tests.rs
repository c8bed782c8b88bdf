use super::*;
use crate::addr::VMADDR_ANY;
use crate::socket::{proto, ty};

const TCP4: (u16, u16, u16) = (af::INET, ty::STREAM, proto::TCP);
const TCP6: (u16, u16, u16) = (af::INET6, ty::STREAM, proto::TCP);
const UDP4: (u16, u16, u16) = (af::INET, ty::DGRAM, proto::UDP);
const UDP6: (u16, u16, u16) = (af::INET6, ty::DGRAM, proto::UDP);
const UDPLITE: (u16, u16, u16) = (af::INET, ty::DGRAM, proto::UDPLITE);
const MPTCP: (u16, u16, u16) = (af::INET, ty::STREAM, proto::MPTCP);
const RAW6: (u16, u16, u16) = (af::INET6, ty::RAW, 58);
const UNIX: (u16, u16, u16) = (af::UNIX, ty::STREAM, 0);
const VSOCK: (u16, u16, u16) = (af::VSOCK, ty::STREAM, 0);
const VSOCK_DGRAM: (u16, u16, u16) = (af::VSOCK, ty::DGRAM, 0);
const NETLINK: (u16, u16, u16) = (af::NETLINK, ty::RAW, 0);

fn socket((domain, ty, protocol): (u16, u16, u16)) -> SocketType {
    SocketType {
        domain,
        ty,
        protocol,
    }
}

fn v4(ip: [u8; 4], port: u16) -> Addr {
    Addr::Inet { ip, port }
}

fn v6(text: &str, port: u16) -> Addr {
    Addr::inet6(text.parse::<Ipv6Addr>().unwrap().octets(), port)
}

fn path(text: &str) -> Addr {
    Addr::Unix(UnixName::path(text.as_bytes()).unwrap())
}

fn vsock(cid: u32, port: u32) -> Addr {
    Addr::Vsock {
        cid,
        port,
        flags: 0,
    }
}

/// A move to this address.
fn to(target: Addr, to_loopback: bool) -> Decision {
    Decision {
        verb: Verb::Move,
        errno: 0,
        rule: Some(0),
        note: None,
        target: Some(target),
        to_loopback,
        doubt: None,
        by_default: false,
    }
}

#[test]
fn a_target_fits_or_is_refused() {
    let any4 = v4([0; 4], 80);
    let any6 = v6("::", 80);
    let local4 = v4([127, 0, 0, 1], 8080);
    let local6 = v6("::1", 8080);
    let mapped = v6("::ffff:127.0.0.1", 8080);
    let name = UnixName::path(b"/x").unwrap();
    let address = |a| Ok(Placement::Address(a));
    for (kind, asked, v6only, decision, answer) in [
        (TCP4, any4, false, to(local4, false), address(local4)),
        (TCP4, any4, false, to(local4, true), address(local4)),
        (TCP4, any4, false, to(local6, false), Err(Refusal::Family)),
        (TCP6, any6, true, to(local6, true), address(local6)),
        (
            TCP6,
            any6,
            false,
            to(local6, true),
            Ok(Placement::OnLo(8080)),
        ),
        (
            UDP6,
            any6,
            false,
            to(local6, true),
            Ok(Placement::OnLo(8080)),
        ),
        (RAW6, any6, false, to(local6, true), address(local6)),
        (
            TCP6,
            v6("::2", 80),
            false,
            to(local6, true),
            address(local6),
        ),
        (TCP6, any6, false, to(local6, false), address(local6)),
        (TCP6, any6, false, to(mapped, false), address(mapped)),
        (TCP6, any6, true, to(mapped, false), Err(Refusal::Family)),
        (
            TCP6,
            v6("::ffff:0.0.0.0", 80),
            false,
            to(mapped, true),
            address(mapped),
        ),
        (
            TCP4,
            any4,
            false,
            to(path("/x"), false),
            Ok(Placement::Unix(name)),
        ),
        (
            UDP4,
            any4,
            false,
            to(path("/x"), false),
            Err(Refusal::Datagram),
        ),
        (
            UNIX,
            path("/y"),
            false,
            to(path("/x"), false),
            address(path("/x")),
        ),
        (
            UNIX,
            path("/y"),
            false,
            to(local4, false),
            Err(Refusal::Family),
        ),
        (
            VSOCK,
            vsock(2, 5),
            false,
            to(path("/x"), false),
            Ok(Placement::Unix(name)),
        ),
        (
            VSOCK,
            vsock(2, 5),
            false,
            to(vsock(1, 5), true),
            address(vsock(1, 5)),
        ),
        (
            VSOCK_DGRAM,
            vsock(2, 5),
            false,
            to(path("/x"), false),
            Err(Refusal::Datagram),
        ),
    ] {
        let got = bind(&decision, Some(&asked), socket(kind), v6only);
        assert_eq!(got, answer, "{kind:?} {asked} v6only {v6only} {decision:?}");
    }
    let unread = bind(&to(local4, false), None, socket(TCP4), false);
    assert_eq!(unread, Err(Refusal::Family));
    assert_eq!(
        connect(&to(path("/x"), false), socket(TCP4)),
        Ok(Placement::Unix(name))
    );
    assert_eq!(
        connect(&to(path("/x"), false), socket(UDP4)),
        Err(Refusal::Datagram)
    );
}

#[test]
fn a_hidden_socket_is_where_its_family_can_be() {
    let hide = Decision {
        verb: Verb::Hide,
        target: None,
        ..to(v4([0; 4], 0), false)
    };
    let auto = UnixName::AUTO;
    for (kind, asked, answer) in [
        (
            TCP4,
            v4([0; 4], 80),
            Ok(Placement::Address(v4([127, 0, 0, 1], 0))),
        ),
        (UDP6, v6("::", 80), Ok(Placement::Address(v6("::1", 0)))),
        (UNIX, path("/x"), Ok(Placement::Address(Addr::Unix(auto)))),
        (VSOCK, vsock(2, 5), Ok(Placement::Unix(auto))),
        (VSOCK_DGRAM, vsock(2, 5), Err(Refusal::Datagram)),
        (
            NETLINK,
            Addr::Netlink { pid: 0, groups: 0 },
            Err(Refusal::Family),
        ),
    ] {
        let got = bind(&hide, Some(&asked), socket(kind), false);
        assert_eq!(got, answer, "{kind:?}");
    }
}

#[test]
fn refusals_have_the_errors_of_the_page() {
    let names = |r: Refusal| crate::policy::errno::name(r.errno());
    for (refusal, name) in [
        (Refusal::Family, "EAFNOSUPPORT"),
        (Refusal::TableFull, "ENOBUFS"),
        (Refusal::Shared, "EADDRNOTAVAIL"),
        (Refusal::Path, "EADDRINUSE"),
        (Refusal::Datagram, "EOPNOTSUPP"),
        (Refusal::Filter, "EACCES"),
        (Refusal::Carry, "EADDRNOTAVAIL"),
    ] {
        assert_eq!(names(refusal), Some(name));
        assert_eq!(Refusal::of_reason(refusal.reason()), Some(refusal));
    }
}

#[test]
fn what_clients_are_lost() {
    let any = v6("::", 80);
    for (asked, v6only, real, bit) in [
        (any, false, v6("::1", 8080), flag::LOST_INET),
        (any, false, v6("::ffff:127.0.0.1", 8080), flag::LOST_INET6),
        (any, false, v6("::", 8080), 0),
        (any, true, v6("::1", 8080), 0),
        (v6("::2", 80), false, v6("::1", 8080), 0),
        (any, false, path("/x"), 0),
    ] {
        assert_eq!(lost(socket(TCP6), &asked, v6only, &real), bit, "{real}");
    }
}

/// What a socket thinks, and where it is.
fn redirected(kind: (u16, u16, u16), virt: Addr, real: Addr) -> Redirected {
    Redirected {
        virt: Claim {
            socket: socket(kind),
            addr: virt,
            v6only: false,
            reuse: false,
            reuseport: false,
            listens: false,
            uid: 0,
            device: 0,
        },
        real,
        real_device: 0,
    }
}

#[test]
fn two_redirected_sockets_collide_where_their_program_sees_them() {
    let local = |last, port| v4([127, 0, 0, last], port);
    let auto = local(1, 0);
    let two = |a: (u16, u16, u16), va, ra, b: (u16, u16, u16), vb, rb| {
        (redirected(a, va, ra), redirected(b, vb, rb))
    };
    for (what, (new, old), refused) in [
        (
            "one address, two places",
            two(TCP4, local(1, 80), auto, TCP4, local(1, 80), auto),
            true,
        ),
        (
            "two ports",
            two(TCP4, local(1, 80), auto, TCP4, local(1, 81), auto),
            false,
        ),
        (
            "two addresses",
            two(TCP4, local(1, 80), auto, TCP4, local(2, 80), auto),
            false,
        ),
        (
            "TCP and UDP",
            two(TCP4, local(1, 80), auto, UDP4, local(1, 80), auto),
            false,
        ),
        (
            "UDP and UDP-Lite",
            two(UDP4, local(1, 80), auto, UDPLITE, local(1, 80), auto),
            false,
        ),
        (
            "TCP and MPTCP",
            two(TCP4, local(1, 80), auto, MPTCP, local(1, 80), auto),
            true,
        ),
        (
            "the wildcard",
            two(TCP4, v4([0; 4], 80), auto, TCP4, local(1, 80), auto),
            true,
        ),
        (
            "both families",
            two(TCP4, local(1, 80), auto, TCP6, v6("::", 80), v6("::1", 0)),
            true,
        ),
        (
            "::1",
            two(TCP4, local(1, 80), auto, TCP6, v6("::1", 80), v6("::1", 0)),
            false,
        ),
        (
            "one place, one address",
            two(
                TCP4,
                local(2, 80),
                local(1, 90),
                TCP4,
                local(2, 80),
                local(1, 90),
            ),
            false,
        ),
        (
            "one place, two addresses",
            two(
                TCP4,
                local(2, 80),
                local(1, 90),
                TCP4,
                local(3, 80),
                local(1, 90),
            ),
            true,
        ),
        (
            "vsock's wildcard",
            two(
                VSOCK,
                vsock(VMADDR_ANY, 5),
                path("/a"),
                VSOCK,
                vsock(2, 5),
                path("/b"),
            ),
            true,
        ),
        (
            "two vsock ids",
            two(
                VSOCK,
                vsock(3, 5),
                path("/a"),
                VSOCK,
                vsock(2, 5),
                path("/b"),
            ),
            false,
        ),
        (
            "automatic ports",
            two(TCP4, local(1, 0), auto, TCP4, local(1, 0), auto),
            false,
        ),
    ] {
        assert_eq!(new.is_refused_by(&old), refused, "{what}");
    }
}

#[test]
fn options_and_devices_decide_as_in_the_kernel() {
    let at = |kind| redirected(kind, v4([127, 0, 0, 1], 80), v4([127, 0, 0, 1], 0));
    for kind in [TCP4, UDP4] {
        let set = |f: fn(&mut Claim)| {
            let mut r = at(kind);
            f(&mut r.virt);
            r
        };
        let reuse = set(|c| c.reuse = true);
        let listening = set(|c| (c.reuse, c.listens) = (true, true));
        let port = set(|c| c.reuseport = true);
        let other_user = set(|c| (c.reuseport, c.uid) = (true, 7));
        let (lo, veth) = (set(|c| c.device = 1), set(|c| c.device = 2));
        for (new, old, refused) in [
            (reuse, reuse, false),
            (reuse, at(kind), true),
            (reuse, listening, kind == TCP4),
            (port, port, false),
            (port, other_user, true),
            (port, at(kind), true),
            (lo, veth, false),
            (lo, lo, true),
            (lo, at(kind), true),
        ] {
            assert_eq!(new.is_refused_by(&old), refused, "{kind:?} {new:?} {old:?}");
        }
    }
}

/// What sock_diag says of a socket at port 80.
fn listed(ip: &str, state: u8, cookie: u64) -> inet_diag::Socket {
    let ip: std::net::IpAddr = ip.parse().unwrap();
    let mut addr = [0; 16];
    let family = match ip {
        std::net::IpAddr::V4(ip) => {
            addr[..4].copy_from_slice(&ip.octets());
            af::INET
        }
        std::net::IpAddr::V6(ip) => {
            addr = ip.octets();
            af::INET6
        }
    };
    inet_diag::Socket {
        family: family as u8,
        state,
        addr,
        port: 80,
        peer_port: 0,
        dev: 0,
        cookie,
        expires_ms: 0,
        uid: 0,
        inode: 0,
        receive_queue: 0,
        group: 0,
        v6only: false,
        id: [0; 48],
    }
}

#[test]
fn an_idle_socket_that_is_not_listed_holds_its_place() {
    use inet_diag::state::{BOUND_INACTIVE, ESTABLISHED, LISTEN, TIME_WAIT};
    let at = v4([127, 0, 0, 1], 80);
    let holds = |listed: &[inet_diag::Socket], is_taken: bool| {
        let mut place = Place::new(socket(TCP4), at, false, 7);
        listed.iter().for_each(|s| place.listed(s));
        place.holds(|| is_taken)
    };
    // Linux 6.8 and later, and a listener everywhere.
    assert!(holds(&[listed("127.0.0.1", BOUND_INACTIVE, 7)], true));
    assert!(holds(&[listed("127.0.0.1", LISTEN, 7)], true));
    // Before: nobody is listed, and only the trial tells.
    assert!(holds(&[], true));
    assert!(!holds(&[], false));
    // Somebody who explains why the place is taken.
    for ip in ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
        for state in [ESTABLISHED, TIME_WAIT, LISTEN] {
            assert!(!holds(&[listed(ip, state, 8)], true), "{ip} {state}");
        }
    }
    // Somebody who does not, because the two do not meet.
    for ip in ["127.0.0.2", "::1"] {
        assert!(holds(&[listed(ip, LISTEN, 8)], true), "{ip}");
    }
    let only6 = inet_diag::Socket {
        v6only: true,
        ..listed("::", LISTEN, 8)
    };
    assert!(holds(&[only6], true));
}
