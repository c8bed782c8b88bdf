//! "Would receive" against the kernel: a socket is bound, somebody sends to
//! an address, and a deny rule for that address must say what the kernel says.
//!
//! The kernel is the oracle: `deny bind KIND Y:PORT` matches a socket bound to
//! X if and only if what is sent to Y arrives at it.

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use bindgate_core::addr::Addr;
use bindgate_core::policy::*;
use bindgate_core::socket::{KindSet, SocketType, proto, ty};
use common::{Counters, compiled};
use socket2::{Domain, Protocol, Socket, Type};

/// What a socket is bound to: family, `IPV6_V6ONLY`, address.
#[derive(Clone, Copy, Debug)]
struct Bound {
    six: bool,
    v6only: bool,
    ip: IpAddr,
}

fn bound() -> Vec<Bound> {
    let four = [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(127, 0, 0, 2),
    ];
    let mut all: Vec<Bound> = four
        .iter()
        .flat_map(|ip| {
            [
                (false, IpAddr::V4(*ip)),
                (true, IpAddr::V6(ip.to_ipv6_mapped())),
            ]
        })
        .map(|(six, ip)| Bound {
            six,
            v6only: false,
            ip,
        })
        .collect();
    for ip in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
        for v6only in [false, true] {
            all.push(Bound {
                six: true,
                v6only,
                ip: IpAddr::V6(ip),
            });
        }
    }
    all
}

/// Where something is sent to.
const PEERS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9)),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

fn has_v6() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A bound socket and its port. Every run of the tests asks for a port of the
/// kernel's choice, which nobody else has on any address.
fn bind(b: Bound, tcp: bool) -> std::io::Result<(Socket, u16)> {
    let domain = if b.six { Domain::IPV6 } else { Domain::IPV4 };
    let (ty, protocol) = if tcp {
        (Type::STREAM, Protocol::TCP)
    } else {
        (Type::DGRAM, Protocol::UDP)
    };
    let s = Socket::new(domain, ty, Some(protocol))?;
    if b.six {
        s.set_only_v6(b.v6only)?;
    }
    s.bind(&SocketAddr::new(b.ip, 0).into())?;
    if tcp {
        s.listen(8)?;
    }
    let port = s.local_addr()?.as_socket().map_or(0, |a| a.port());
    Ok((s, port))
}

/// Does the socket get what is sent to the address?
fn receives(s: &Socket, tcp: bool, to: SocketAddr) -> bool {
    if tcp {
        s.set_nonblocking(true).unwrap();
        let Ok(peer) = TcpStream::connect_timeout(&to, Duration::from_secs(5)) else {
            return false;
        };
        // On loopback the connection is in the queue when connect returns. It
        // must be ours and not that of a stranger on the same port.
        let mine = peer.local_addr().unwrap();
        let mut found = false;
        while let Ok((_, from)) = s.accept() {
            let from = from.as_socket().unwrap();
            found |= from.port() == mine.port() && from.ip().to_canonical() == mine.ip();
        }
        return found;
    }
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let peer = UdpSocket::bind((any, 0)).unwrap();
    let word = format!("{:?}", peer.local_addr().unwrap());
    peer.send_to(word.as_bytes(), to).unwrap();
    s.set_nonblocking(true).unwrap();
    let got: UdpSocket = s.try_clone().unwrap().into();
    let mut buf = [0; 128];
    loop {
        match got.recv(&mut buf) {
            Ok(n) if buf.get(..n) == Some(word.as_bytes()) => return true,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
            Err(e) => panic!("{e}"),
        }
    }
}

fn text(ip: IpAddr, port: u16) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

fn addr(ip: IpAddr, port: u16) -> Addr {
    match ip {
        IpAddr::V4(ip) => Addr::Inet {
            ip: ip.octets(),
            port,
        },
        IpAddr::V6(ip) => Addr::Inet6 {
            ip: ip.octets(),
            port,
            flow: 0,
            scope: 0,
        },
    }
}

fn kinds(b: Bound, tcp: bool) -> KindSet {
    SocketType {
        domain: if b.six { 10 } else { 2 },
        ty: if tcp { ty::STREAM } else { ty::DGRAM },
        protocol: if tcp { proto::TCP } else { proto::UDP },
    }
    .kinds()
}

fn verb(policy: &str, b: Bound, tcp: bool, port: u16) -> Verb {
    let c = compiled(policy);
    let addr = addr(b.ip, port);
    let q = Query {
        op: Op::Bind,
        kinds: kinds(b, tcp),
        addr: Some(&addr),
        v6only: b.v6only,
        ..Query::default()
    };
    View::new(&c.words)
        .unwrap()
        .decide(&q, &Counters::default())
        .verb
}

#[test]
fn deny_matches_what_the_kernel_delivers() {
    let v6 = has_v6();
    let mut tried = 0;
    for tcp in [true, false] {
        for b in bound() {
            if b.six && !v6 {
                continue;
            }
            // v6only and a mapped address: the kernel refuses that.
            let (s, port) = bind(b, tcp).unwrap_or_else(|e| panic!("{b:?}: {e}"));
            let kind = if tcp { "tcp" } else { "udp" };
            let mut reached = Vec::new();
            for peer in PEERS {
                if peer.is_ipv6() && !v6 {
                    continue;
                }
                let does = receives(&s, tcp, SocketAddr::new(peer, port));
                if does {
                    reached.push(peer);
                }
                // One address, and a prefix around it that is not the rest of
                // loopback.
                let mut terms = vec![
                    text(peer, port),
                    text(peer, port).replace(&port.to_string(), &format!("{{9,{port}}}")),
                ];
                if let IpAddr::V4(ip) = peer {
                    terms.push(format!("{ip}/32:{port}"));
                    terms.push(format!("[::ffff:{ip}]:{port}"));
                }
                for term in terms {
                    for verb_word in ["deny", "hide"] {
                        let policy = format!("{verb_word} bind {kind} {term}");
                        let says = verb(&policy, b, tcp, port) != Verb::Allow;
                        assert_eq!(says, does, "{policy}: socket {b:?} port {port}");
                        tried += 1;
                    }
                }
                // The same port of the other transport is another thing.
                let other = if tcp { "udp" } else { "tcp" };
                let policy = format!("deny bind {other} {}", text(peer, port));
                assert_eq!(verb(&policy, b, tcp, port), Verb::Allow, "{policy}");
            }
            // A set is denied if any of it is reached.
            for (set, holds) in [
                (
                    "127.0.0.0/8",
                    PEERS
                        .iter()
                        .filter(|p| p.is_ipv4())
                        .copied()
                        .collect::<Vec<_>>(),
                ),
                (
                    "[::/0]",
                    PEERS.iter().filter(|p| p.is_ipv6()).copied().collect(),
                ),
                ("loopback", PEERS.to_vec()),
                ("*", PEERS.to_vec()),
            ] {
                let policy = format!("deny bind {kind} {set}:{port}");
                let does = reached.iter().any(|r| holds.contains(r));
                let says = verb(&policy, b, tcp, port) == Verb::Deny;
                assert_eq!(says, does, "{policy}: {b:?}");

                // And granted only if all that is reached lies in it. Other
                // addresses of the machine are reached through a wildcard as
                // well, so only `*` holds those.
                let policy = format!("default deny\nallow bind {kind} {set}:{port}");
                let wild = b.ip.to_canonical().is_unspecified();
                let does = reached.iter().all(|r| holds.contains(r)) && (!wild || set == "*");
                let says = verb(&policy, b, tcp, port) == Verb::Allow;
                assert_eq!(says, does, "{policy}: {b:?}");
                tried += 2;
            }
        }
    }
    assert!(tried > 100, "only {tried} comparisons");
}

#[test]
fn port_zero_is_a_port_of_the_kernels_choice() {
    for tcp in [true, false] {
        let b = Bound {
            six: false,
            v6only: false,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let (_s, port) = bind(b, tcp).unwrap();
        assert_ne!(port, 0);
        let kind = if tcp { "tcp" } else { "udp" };
        for (ports, matches) in [
            ("auto".to_string(), true),
            ("*".to_string(), true),
            (port.to_string(), false),
            ("1-65535".to_string(), false),
            ("reserved".to_string(), false),
        ] {
            let policy = format!("deny bind {kind} 127.0.0.1:{ports}");
            let says = verb(&policy, b, tcp, 0) == Verb::Deny;
            assert_eq!(says, matches, "{policy}");
        }
    }
}

/// A call to the wildcard reaches this machine: `deny connect` must see it.
#[test]
fn calling_the_wildcard_reaches_what_a_deny_names() {
    let four = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let any4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let any6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let one6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mapped = IpAddr::V6(Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped());
    for (listener, source, called) in [
        (four(127, 0, 0, 1), any4, any4),
        // By the address that the caller has.
        (four(127, 0, 0, 2), four(127, 0, 0, 2), any4),
        (one6, any6, any6),
        // A dual-stack caller with an IPv4 address reaches IPv4.
        (four(127, 0, 0, 1), mapped, any6),
    ] {
        if called.is_ipv6() && !has_v6() {
            continue;
        }
        let six = listener.is_ipv6();
        let b = Bound {
            six,
            v6only: six,
            ip: listener,
        };
        let (s, port) = bind(b, true).unwrap();
        let domain = if called.is_ipv6() {
            Domain::IPV6
        } else {
            Domain::IPV4
        };
        let caller = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap();
        caller.bind(&SocketAddr::new(source, 0).into()).unwrap();
        caller
            .connect(&SocketAddr::new(called, port).into())
            .unwrap();
        s.set_nonblocking(true).unwrap();
        s.accept().unwrap();

        let c = compiled(&format!("deny connect tcp {}", text(listener, port)));
        let to = addr(called, port);
        let q = Query {
            op: Op::Connect,
            kinds: kinds(
                Bound {
                    six: called.is_ipv6(),
                    ..b
                },
                true,
            ),
            addr: Some(&to),
            ..Query::default()
        };
        let d = View::new(&c.words)
            .unwrap()
            .decide(&q, &Counters::default());
        assert_eq!(d.verb, Verb::Deny, "{listener} {source} {called}");
    }
}
