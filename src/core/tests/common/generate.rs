//! Policies and questions out of a small world, so that they often meet.

use bindgate_core::addr::{Addr, UnixName, VMADDR_ANY};
use bindgate_core::model::Generation;
use bindgate_core::model::script::Busy;
use bindgate_core::policy::*;
use bindgate_core::socket::BindOptions;
use bindgate_core::socket::KindSet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const V4: &[[u8; 4]] = &[
    [0, 0, 0, 0],
    [127, 0, 0, 1],
    [127, 0, 0, 2],
    [10, 0, 0, 5],
    [10, 0, 0, 6],
    [10, 1, 0, 1],
    [0, 0, 0, 5],
];
pub const PROGRAMS: &[&str] = &["/usr/sbin/nginx", "/usr/bin/python3", "/opt/a/b", ""];
const UNIX: &[&str] = &[
    "/run/a",
    "//run/./a",
    "/run/b/c",
    "/run/app/x.sock",
    "relative",
    "/run/",
    "/",
];

fn v6(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

fn v6s() -> Vec<[u8; 16]> {
    ["::", "::1", "2001:db8::1", "2001:db9::1", "fe80::1"]
        .map(v6)
        .to_vec()
}

fn ip_set() -> impl Strategy<Value = IpSet> {
    let prefix4 = (select(V4), select(vec![0u8, 1, 8, 16, 31, 32]));
    let prefix6 = (
        select(v6s()),
        select(vec![0u8, 1, 16, 32, 64, 96, 127, 128]),
    );
    prop_oneof![
        3 => Just(IpSet::Any),
        1 => Just(IpSet::Loopback),
        1 => Just(IpSet::Wild4),
        1 => Just(IpSet::Wild6),
        4 => prefix4.prop_map(|(ip, n)| {
            let bits = u32::from_be_bytes(ip) & u32::MAX.checked_shl(32 - u32::from(n)).unwrap_or(0);
            if bits == 0 && n == 32 { IpSet::Wild4 } else { IpSet::V4(bits.to_be_bytes(), n) }
        }),
        3 => prefix6.prop_map(|(ip, n)| {
            let bits = u128::from_be_bytes(ip) & u128::MAX.checked_shl(128 - u32::from(n)).unwrap_or(0);
            if bits == 0 && n == 128 { IpSet::Wild6 } else { IpSet::V6(bits.to_be_bytes(), n) }
        }),
    ]
}

const PORTS: &[u32] = &[1, 79, 80, 81, 443, 1023, 1024, 1025, 8080, 65535];

fn port_set(vsock: bool) -> impl Strategy<Value = PortSet> {
    let mut some = PORTS.to_vec();
    if vsock {
        some.extend([0, 70000, VMADDR_ANY - 1]);
    }
    let range =
        (select(some.clone()), select(some)).prop_map(|(a, b)| PortSet::Range(a.min(b), a.max(b)));
    prop_oneof![
        2 => Just(PortSet::Any),
        1 => Just(PortSet::Auto),
        1 => Just(PortSet::Reserved),
        6 => range,
    ]
}

fn kinds() -> impl Strategy<Value = Kinds> {
    let one = select(KindSet::NAMES.to_vec()).prop_map(|(_, k)| k);
    prop_oneof![
        2 => Just(Kinds::Any),
        3 => Just(Kinds::Of(KindSet::TCP)),
        2 => Just(Kinds::Of(KindSet::UDP)),
        2 => Just(Kinds::Of(KindSet::UNIX)),
        2 => Just(Kinds::Of(KindSet::VSOCK)),
        1 => select(vec![6u16, 17, 132])
            .prop_map(|n| Kinds::Of((KindSet::INET | KindSet::INET6).with_protocol(n))),
        4 => vec(one, 1..3).prop_map(|all| {
            Kinds::Of(all.into_iter().fold(KindSet::NONE, |a, b| a | b))
        }),
    ]
}

/// Any text that a line of a policy can hold in quotes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-c/*?]{1,6}",
        1 => "[ a#\"\\\\@{}:,/*?\\[\\]!-]{1,8}",
        1 => select(vec!["auto", "*", "exactly", "with", "unix:x", "@a", "script:b", "{a", "\u{a0}", "é"])
            .prop_map(str::to_string),
    ]
}

fn unix_term() -> impl Strategy<Value = UnixTerm> {
    let path = prop_oneof![
        4 => select(vec!["/run/**", "/run/*", "/run/a", "**", "/run/app/x.sock", "/**/c", "relative", "/run/?", "//run/a"])
            .prop_map(str::to_string),
        1 => text(),
    ];
    let name = prop_oneof![
        select(vec!["", "a", "a*", "**", "ab"]).prop_map(str::to_string),
        text()
    ];
    prop_oneof![
        1 => Just(UnixTerm::Auto),
        4 => path.prop_map(UnixTerm::Path),
        2 => name.prop_map(UnixTerm::Abstract),
    ]
}

fn has(kinds: Kinds, names: &[KindSet]) -> bool {
    match kinds {
        Kinds::Any => true,
        Kinds::Of(set) => names.iter().any(|k| set.intersects(*k)),
    }
}

fn is_ip(kinds: Kinds) -> bool {
    let not = [
        KindSet::UNIX,
        KindSet::VSOCK,
        KindSet::NETLINK,
        KindSet::PACKET,
    ];
    let ip = KindSet::NAMES
        .iter()
        .map(|(_, k)| *k)
        .filter(|k| !not.contains(k));
    has(kinds, &ip.collect::<Vec<_>>())
}

fn term(kinds: Kinds) -> BoxedStrategy<Term> {
    let mut all = vec![(1, Just(Term::Every).boxed())];
    if is_ip(kinds) {
        let ip = (vec(ip_set(), 1..3), vec(port_set(false), 1..3));
        all.push((
            6,
            ip.prop_map(|(addrs, ports)| Term::Ip { addrs, ports })
                .boxed(),
        ));
    }
    if has(kinds, &[KindSet::VSOCK]) {
        let cid = prop_oneof![
            Just(CidSet::Any),
            Just(CidSet::Wild),
            (0u32..4).prop_map(CidSet::Id)
        ];
        let v = (vec(cid, 1..3), vec(port_set(true), 1..3));
        all.push((
            3,
            v.prop_map(|(cids, ports)| Term::Vsock { cids, ports })
                .boxed(),
        ));
    }
    if has(kinds, &[KindSet::UNIX]) {
        all.push((4, unix_term().prop_map(Term::Unix).boxed()));
    }
    proptest::strategy::Union::new_weighted(all).boxed()
}

/// Targets; `safe` ones compile whatever the rule is.
fn target(kinds: Kinds, safe: bool) -> BoxedStrategy<TargetSpec> {
    if safe {
        return prop_oneof![
            Just(TargetSpec::Port {
                host: TargetHost::Loopback,
                port: TargetPort::Number(8080)
            }),
            Just(TargetSpec::Path("/run/%t.sock".into())),
        ]
        .boxed();
    }
    let vsock_only = has(kinds, &[KindSet::VSOCK]) && !is_ip(kinds);
    let host = prop_oneof![
        Just(TargetHost::Keep),
        Just(TargetHost::Loopback),
        select(V4).prop_map(TargetHost::V4),
        select(v6s()).prop_map(TargetHost::V6),
    ];
    let port = |vsock: bool| {
        let max = if vsock { VMADDR_ANY - 1 } else { 65535 };
        prop_oneof![
            Just(TargetPort::Keep),
            Just(TargetPort::Auto),
            (u32::from(!vsock)..=max).prop_map(TargetPort::Number),
            (-70000i64..70000).prop_map(TargetPort::Offset),
        ]
    };
    let cid = prop_oneof![any::<u32>(), 0u32..4, Just(VMADDR_ANY)].prop_map(TargetHost::Cid);
    let template = || {
        vec(
            prop_oneof![
                text().prop_map(|t| t.replace('%', "")),
                select(vec!["%p", "%a", "%t", "%%"]).prop_map(str::to_string)
            ],
            1..4,
        )
        .prop_map(|v| v.concat())
    };
    prop_oneof![
        (host, port(vsock_only)).prop_map(|(host, port)| TargetSpec::Port { host, port }),
        (cid, port(true)).prop_map(|(host, port)| TargetSpec::Port { host, port }),
        template().prop_map(TargetSpec::Path),
        template().prop_map(TargetSpec::Abstract),
    ]
    .boxed()
}

fn program(free: bool) -> BoxedStrategy<Program> {
    let glob = select(vec![
        "/usr/**",
        "nginx",
        "python*",
        "/opt/a/b",
        "/usr/*/nginx",
        "**",
    ])
    .prop_map(str::to_string);
    let glob = if free {
        prop_oneof![glob, text()].boxed()
    } else {
        glob.boxed()
    };
    (glob, any::<bool>())
        .prop_map(|(g, s)| {
            if s {
                Program::Script(g)
            } else {
                Program::Executable(g)
            }
        })
        .boxed()
}

fn user(free: bool) -> BoxedStrategy<User> {
    let known = prop_oneof![
        Just(User::Id(0)),
        Just(User::Id(1000)),
        Just(User::Name("nobody".into()))
    ];
    if !free {
        return known.boxed();
    }
    let name = prop_oneof![text(), Just(String::new())].prop_filter("a number", |s| {
        s.is_empty() || !s.bytes().all(|b| b.is_ascii_digit())
    });
    prop_oneof![
        known,
        any::<u32>().prop_map(User::Id),
        name.prop_map(User::Name)
    ]
    .boxed()
}

/// Rules. `free` ones need not compile.
pub fn rule(free: bool) -> impl Strategy<Value = Rule> {
    let op = prop_oneof![
        1 => Just(Op::Socket), 6 => Just(Op::Bind), 1 => Just(Op::Listen), 2 => Just(Op::Connect)
    ];
    (op, kinds()).prop_flat_map(move |(op, kinds)| {
        let errno = if free {
            (1u16..=4095).boxed()
        } else {
            (1u16..130).boxed()
        };
        let mut actions = vec![
            (3, Just(Action::Allow).boxed()),
            (3, errno.prop_map(Action::Deny).boxed()),
            (2, Just(Action::Note).boxed()),
        ];
        if matches!(op, Op::Bind | Op::Connect) {
            actions.push((2, target(kinds, !free).prop_map(Action::Move).boxed()));
        }
        if op == Op::Bind {
            actions.push((1, Just(Action::Hide).boxed()));
        }
        let term = if op == Op::Socket {
            Just(Term::Every).boxed()
        } else {
            term(kinds)
        };
        (
            proptest::strategy::Union::new_weighted(actions),
            term,
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.2),
            option::weighted(0.2, uses()),
            option::weighted(0.3, program(free)),
            option::weighted(0.2, user(free)),
            prop::bool::weighted(0.2),
        )
            .prop_map(
                move |(action, term, exactly, implicit, times, program, user, unprivileged)| Rule {
                    unprivileged: unprivileged
                        && op == Op::Bind
                        && matches!(action, Action::Move(_)),
                    action,
                    op,
                    kinds,
                    exactly: exactly && term != Term::Every,
                    term,
                    implicit: implicit && op == Op::Bind,
                    uses: times,
                    program,
                    user,
                    followed: false,
                    at: At::default(),
                    user_at: At::default(),
                    target_at: At::default(),
                },
            )
    })
}

pub fn policy(free: bool, rules: std::ops::Range<usize>) -> impl Strategy<Value = Policy> {
    let deny = option::of(option::of(1u16..130));
    (
        vec(rule(free), rules),
        vec(deny, Op::ALL.len()),
        option::of(select(vec![Mode::Enforce, Mode::Observe])),
    )
        .prop_map(|(rules, defaults, mode)| {
            let mut p = Policy {
                rules,
                mode,
                ..Policy::default()
            };
            for (op, d) in Op::ALL.into_iter().zip(defaults) {
                if let Some(deny) = d {
                    p.defaults.set(
                        op,
                        DefaultLine {
                            deny,
                            // As it is printed.
                            named: true,
                            at: At::default(),
                        },
                    );
                }
            }
            p
        })
}

/// Host lines, which do not compile.
pub fn host_lines() -> impl Strategy<Value = Vec<HostLine>> {
    let address = prop_oneof![
        select(&V4[1..]).prop_map(|a| (std::net::IpAddr::from(a), 24)),
        select(v6s().split_off(1)).prop_map(|a| (std::net::IpAddr::from(a), 64)),
    ];
    let all = (
        3u32..9,
        vec(address, 1..3),
        any::<bool>(),
        any::<bool>(),
        any::<u16>(),
        (1u16..100, 100u16..),
    );
    (all, vec(any::<bool>(), 16)).prop_map(|((cid, a, p, u, start, (from, to)), on)| {
        let personality = if p {
            Personality::Linux
        } else {
            Personality::FreeBsd
        };
        [
            HostSetting::Cid(cid),
            HostSetting::Fabric(format!("/run/fabric {cid}")),
            HostSetting::VsockUds(format!("/run/vm {cid}.sock")),
            HostSetting::VsockGuest(cid),
            HostSetting::VsockPort(cid, format!("/run/port {cid}")),
            HostSetting::Share(Service {
                is_udp: u,
                ip: a[0].0,
                port: to,
            }),
            HostSetting::Device("eth1".into(), a.clone()),
            HostSetting::Busy(Busy {
                is_udp: p,
                ip: p.then_some(a[0].0),
                port: to,
                options: BindOptions(u8::from(u)),
                uid: cid,
            }),
            HostSetting::Kernel(Generation::linux(cid as u16, 1, 7)),
            HostSetting::NoIpv6,
            HostSetting::Sysctl(
                "net.ipv4.ip_local_port_range".into(),
                format!("{from} {to}"),
            ),
            HostSetting::Addresses(a),
            HostSetting::Personality(personality),
            HostSetting::Privileged(u),
            HostSetting::UnprivilegedStart(start),
            HostSetting::AutomaticPorts(from, to),
        ]
        .into_iter()
        .zip(on)
        .filter(|(_, on)| *on)
        .map(|(setting, _)| HostLine {
            setting,
            at: At::default(),
        })
        .collect()
    })
}

/// A question that owns its address.
#[derive(Clone, Debug)]
pub struct Question {
    pub op: Op,
    pub kinds: KindSet,
    pub addr: Option<Addr>,
    pub v6only: bool,
    pub implicit: Implicit,
    pub start: u16,
    pub program: &'static str,
    pub script: &'static str,
    pub uid: Option<u32>,
}

impl Question {
    pub fn query(&self) -> Query<'_> {
        Query {
            op: self.op,
            kinds: self.kinds,
            unknown_socket: false,
            addr: self.addr.as_ref(),
            v6only: self.v6only,
            implicit: self.implicit,
            unprivileged_start: self.start,
            program: self.program.as_bytes(),
            script: self.script.as_bytes(),
            uid: self.uid,
            unprivileged: {
                let port = self.addr.and_then(|addr| match addr {
                    Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => Some(port),
                    _ => None,
                });
                let is_reserved = port.is_some_and(|port| (1..self.start).contains(&port));
                self.uid.map(|uid| uid != 0 && is_reserved)
            },
        }
    }
}

fn addr() -> impl Strategy<Value = Option<Addr>> {
    let mut ports = vec![0u16];
    ports.extend(PORTS.iter().map(|p| *p as u16));
    let vports = vec![VMADDR_ANY, VMADDR_ANY - 1, 0, 80, 1023, 1024, 70000];
    let six = |ip, port| Addr::Inet6 {
        ip,
        port,
        flow: 0,
        scope: 0,
    };
    let mapped = |ip: [u8; 4]| std::net::Ipv4Addr::from(ip).to_ipv6_mapped().octets();
    prop_oneof![
        5 => (select(V4), select(ports.clone())).prop_map(|(ip, port)| Some(Addr::Inet { ip, port })),
        4 => (select(v6s()), select(ports.clone())).prop_map(move |(ip, port)| Some(six(ip, port))),
        2 => (select(V4), select(ports)).prop_map(move |(ip, port)| Some(six(mapped(ip), port))),
        2 => (select(vec![VMADDR_ANY, 0, 1, 2, 3]), select(vports))
            .prop_map(|(cid, port)| Some(Addr::Vsock { cid, port, flags: 0 })),
        2 => select(UNIX).prop_map(|p| UnixName::path(p.as_bytes()).map(Addr::Unix)),
        1 => select(vec!["", "a", "ab", "a/b"]).prop_map(|p| UnixName::abstract_(p.as_bytes()).map(Addr::Unix)),
        1 => Just(Some(Addr::Unix(UnixName::AUTO))),
        1 => Just(Some(Addr::Netlink { pid: 0, groups: 0 })),
        1 => Just(None),
    ]
}

pub fn question() -> impl Strategy<Value = Question> {
    let implicit = prop_oneof![
        4 => Just(Implicit::No), 1 => Just(Implicit::Listen), 1 => Just(Implicit::Connect)
    ];
    let socket = select(vec![
        "tcp", "udp", "mptcp", "udplite", "sctp", "ping", "raw", "tcp", "udp", "other",
    ]);
    (
        select(vec![
            Op::Bind,
            Op::Bind,
            Op::Bind,
            Op::Socket,
            Op::Listen,
            Op::Connect,
        ]),
        socket,
        any::<bool>(),
        addr(),
        any::<bool>(),
        implicit,
        select(vec![1024u16, 0, 80, 65535]),
        (select(PROGRAMS), select(PROGRAMS)),
        select(vec![None, Some(0), Some(1000), Some(65534)]),
    )
        .prop_map(
            |(op, socket, fitting, addr, v6only, implicit, start, (program, script), uid)| {
                // Mostly a socket that the address is for, sometimes any.
                let socket = match addr {
                    Some(Addr::Unix(_)) if fitting => "unix",
                    Some(Addr::Vsock { .. }) if fitting => "vsock",
                    Some(Addr::Netlink { .. }) if fitting => "netlink",
                    _ => socket,
                };
                let family = addr.map_or(2, |a| a.family());
                Question {
                    op,
                    kinds: super::kinds(socket, family),
                    addr,
                    v6only,
                    implicit: if op == Op::Bind {
                        implicit
                    } else {
                        Implicit::No
                    },
                    start,
                    program,
                    script,
                    uid,
                }
            },
        )
}

/// `times`, `after` and `every`, with numbers that a few calls reach.
fn uses() -> impl Strategy<Value = Uses> {
    (0..3, 1u32..4).prop_map(|(which, n)| match which {
        0 => Uses::Times(n),
        1 => Uses::After(n),
        _ => Uses::Every(n),
    })
}
