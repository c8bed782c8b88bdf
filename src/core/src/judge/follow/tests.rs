use super::*;
use crate::policy::{Resolver, Source, View, compile, parse};

struct Nobody;
impl Resolver for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
}

const TCP4: SocketType = SocketType {
    domain: af::INET,
    ty: 1,
    protocol: 6,
};
const TCP6: SocketType = SocketType {
    domain: af::INET6,
    ..TCP4
};
const UDP4: SocketType = SocketType {
    domain: af::INET,
    ty: 2,
    protocol: 17,
};

fn at(text: &str) -> Addr {
    match text.parse::<core::net::SocketAddr>().unwrap() {
        core::net::SocketAddr::V4(a) => Addr::Inet {
            ip: a.ip().octets(),
            port: a.port(),
        },
        core::net::SocketAddr::V6(a) => six(*a.ip()).with_port(a.port().into()),
    }
}

fn server(socket: SocketType, virt: &str, real: &str, marks: u32) -> Moved {
    Moved {
        cookie: 1,
        netns: 7,
        kind: move_kind::SAME_FAMILY,
        marks,
        uid: 0,
        rule: 1,
        device: 0,
        socket,
        virt: at(virt).write(),
        real: at(real).write(),
    }
}

/// Rank and place of a client's call, under rules of which the second is followed.
fn follows(client: SocketType, to: &str, server: &Moved, is_own: bool) -> Option<(u8, String)> {
    let text = "move bind tcp *:8080 to *:8081\n\
                move bind {tcp,udp} *:reserved to *:+10000 unprivileged followed\n";
    let policy = parse(&[Source { name: "p", text }]).unwrap();
    let (compiled, _) = compile(&policy, &Nobody).unwrap();
    let view = View::new(&compiled.words).unwrap();
    let caller = Caller {
        view: &view,
        observe: false,
        unprivileged_start: 1024,
        program: b"/bin/x",
        script: b"",
    };
    let to = at(to);
    let follow = Follow::new(&caller, Some(&to))?;
    let rank = follow.rank(client, 7, is_own, server)?;
    let decision = follow.decision(client, server, None);
    Some((rank, alloc::format!("{}", decision.target.unwrap())))
}

use alloc::string::String;

#[test]
fn a_client_goes_where_the_server_is() {
    let said = |client, to, server: &Moved, own| {
        follows(client, to, server, own).map(|(rank, at)| alloc::format!("{rank} {at}"))
    };
    let wild = server(TCP4, "0.0.0.0:80", "0.0.0.0:10080", 0);
    let dual = server(TCP6, "[::]:80", "[::]:10080", 0);
    let only = server(TCP6, "[::]:80", "[::]:10080", move_mark::V6ONLY);
    let one = server(TCP4, "127.0.0.1:80", "127.0.0.1:10080", 0);
    let lo = server(TCP6, "[::]:80", "[::]:10080", move_mark::ON_LO);
    let lost = server(TCP6, "[::]:80", "[::1]:10080", 0);
    for (client, to, server, own, expected) in [
        (TCP4, "127.0.0.1:80", &wild, true, Some("1 127.0.0.1:10080")),
        (TCP4, "127.0.0.2:80", &wild, true, Some("1 127.0.0.2:10080")),
        (TCP4, "0.0.0.0:80", &wild, true, Some("1 0.0.0.0:10080")),
        (TCP4, "10.0.0.5:80", &wild, true, Some("1 10.0.0.5:10080")),
        // Somebody else's.
        (TCP4, "10.0.0.5:80", &wild, false, None),
        (TCP4, "127.0.0.1:443", &wild, true, None),
        (TCP4, "127.0.0.1:8080", &wild, true, None),
        (UDP4, "127.0.0.1:80", &wild, true, None),
        (TCP6, "[::1]:80", &wild, true, None),
        (
            TCP6,
            "[::ffff:127.0.0.1]:80",
            &wild,
            true,
            Some("1 [::ffff:127.0.0.1]:10080"),
        ),
        (TCP4, "127.0.0.1:80", &dual, true, Some("2 127.0.0.1:10080")),
        (TCP6, "[::1]:80", &dual, true, Some("1 [::1]:10080")),
        (TCP6, "[::]:80", &dual, true, Some("1 [::]:10080")),
        (TCP4, "127.0.0.1:80", &only, true, None),
        (TCP4, "127.0.0.1:80", &one, true, Some("0 127.0.0.1:10080")),
        (TCP4, "0.0.0.0:80", &one, true, Some("0 127.0.0.1:10080")),
        (TCP4, "127.0.0.2:80", &one, true, None),
        (TCP4, "10.0.0.5:80", &lo, true, Some("2 127.0.0.1:10080")),
        (TCP6, "[2001:db8::1]:80", &lo, true, Some("1 [::1]:10080")),
        // A client of IPv4 cannot call where it is.
        (TCP4, "127.0.0.1:80", &lost, true, None),
        (TCP6, "[::1]:80", &lost, true, Some("1 [::1]:10080")),
    ] {
        let got = said(client, to, server, own);
        assert_eq!(got.as_deref(), expected, "{to} {server:?}");
    }
}

#[test]
fn nobody_follows_what_is_not_followed_or_in_another_network() {
    let other = Moved {
        rule: 0,
        ..server(TCP4, "0.0.0.0:80", "0.0.0.0:10080", 0)
    };
    assert_eq!(follows(TCP4, "127.0.0.1:80", &other, true), None);
    let away = Moved {
        netns: 8,
        ..server(TCP4, "0.0.0.0:80", "0.0.0.0:10080", 0)
    };
    assert_eq!(follows(TCP4, "127.0.0.1:80", &away, true), None);
    let peer = Moved {
        kind: move_kind::CONNECT,
        ..server(TCP4, "0.0.0.0:80", "0.0.0.0:10080", 0)
    };
    assert_eq!(follows(TCP4, "127.0.0.1:80", &peer, true), None);
}
