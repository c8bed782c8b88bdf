//! What the judge asks, in which order, and what it decides.

mod common;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::judge::fast::{self, Foresight};
use bindgate_core::judge::{
    Action, Answer, Caller, Known, Need, Socket, Step, Verdict, as_raw_ipv4, bind, connect, listen,
    socket,
};
use bindgate_core::policy::*;
use bindgate_core::record::{Call, Identity, Record, Words};
use bindgate_core::socket::{SocketType, proto, ty};
use common::generate::{policy, question};
use common::{Counters, Users, messages};
use proptest::prelude::*;

const fn of(domain: u16, ty: u16, protocol: u16) -> SocketType {
    SocketType {
        domain,
        ty,
        protocol,
    }
}

const TCP: SocketType = of(af::INET, ty::STREAM, proto::TCP);
const TCP6: SocketType = of(af::INET6, ty::STREAM, proto::TCP);
const MPTCP: SocketType = of(af::INET, ty::STREAM, proto::MPTCP);
const UDP: SocketType = of(af::INET, ty::DGRAM, proto::UDP);
const UDP6: SocketType = of(af::INET6, ty::DGRAM, proto::UDP);
const RAW: SocketType = of(af::INET, ty::RAW, proto::TCP);
const UNIX: SocketType = of(af::UNIX, ty::STREAM, 0);
const VSOCK: SocketType = of(af::VSOCK, ty::STREAM, 0);
/// A family without a word in the language, whose sockets take IP addresses.
const SMC: SocketType = of(43, ty::STREAM, 0);

/// A call, and what the kernel would answer to each question about it.
#[derive(Clone)]
struct Scene {
    op: Op,
    implicit: Implicit,
    bytes: Vec<u8>,
    believed: Option<SocketType>,
    is: Option<SocketType>,
    v6only: Option<bool>,
    uid: Option<u32>,
    bound: Option<bool>,
    name: Option<Option<Addr>>,
}

fn scene(op: Op, is: SocketType, addr: &str) -> Scene {
    let bytes = match addr {
        "" => Vec::new(),
        addr => common::address("", addr).unwrap().write().bytes().to_vec(),
    };
    Scene {
        op,
        implicit: Implicit::No,
        bytes,
        believed: Some(is),
        is: Some(is),
        v6only: Some(false),
        uid: Some(1000),
        bound: Some(false),
        name: Some(None),
    }
}

fn bind_of(is: SocketType, addr: &str) -> Scene {
    scene(Op::Bind, is, addr)
}

/// Plays a scene, and tells what was asked and what came of it.
fn play(text: &str, scene: &Scene) -> String {
    let source = Source { name: "test", text };
    let policy = parse(&[source]).unwrap_or_else(|e| panic!("{}", messages(&e)));
    let (compiled, _) = compile(&policy, &Users).unwrap_or_else(|e| panic!("{}", messages(&e)));
    let view = View::new(&compiled.words).unwrap();
    said(&view, scene).join(", ")
}

fn caller<'a>(view: &'a View<'a>) -> Caller<'a> {
    Caller {
        view,
        observe: false,
        unprivileged_start: 1024,
        program: b"/usr/bin/some",
        script: b"",
    }
}

fn said(view: &View<'_>, scene: &Scene) -> Vec<String> {
    let caller = caller(view);
    let times = Counters::default();
    let raw = RawAddr::new(&scene.bytes).unwrap();
    let (addr, as_raw) = (raw.read(), as_raw_ipv4(&raw));
    let mut all = Vec::new();
    let mut answer = |need: Need| {
        let (word, answer) = match need {
            Need::Socket => (
                "socket",
                match scene.is {
                    Some(ty) => Answer::Socket(Socket {
                        cookie: 7,
                        identity: Identity::Cookie,
                        ty,
                        known: Known::Nearly,
                    }),
                    None => Answer::UnknownSocket,
                },
            ),
            Need::Protocol => ("protocol", Answer::Protocol(scene.is.map(|ty| ty.protocol))),
            Need::Bound => ("bound", Answer::Bound(scene.bound)),
            Need::Name => (
                "name",
                Answer::Name(
                    scene
                        .name
                        .as_ref()
                        .map(|name| (scene.is.unwrap(), name.as_ref())),
                ),
            ),
            Need::V6Only => ("v6only", Answer::V6Only(scene.v6only)),
            Need::User => ("user", Answer::User(scene.uid)),
            Need::Privilege { .. } => (
                "privilege",
                Answer::Unprivileged(scene.uid.map(|uid| uid != 0)),
            ),
            Need::Use { counter, uses } => ("use", Answer::Use(times.take(counter, uses))),
        };
        all.push(word.to_owned());
        answer
    };
    let mut verdicts = Vec::new();
    if scene.op == Op::Listen {
        let mut judge = listen::Listen::new(&caller, scene.believed, scene.bound == Some(true));
        while let Step::Need(need) = judge.step() {
            judge.feed(answer(need));
        }
        if let Some((verdict, addr)) = judge.implicit() {
            verdicts.push(format!("bind {}", told(view, &caller, verdict, Some(addr))));
        }
        if let Some((verdict, addr)) = judge.verdict() {
            verdicts.push(format!("listen {}", told(view, &caller, verdict, addr)));
        }
    } else {
        let mut judge = match scene.op {
            Op::Bind => bind::bind(
                &caller,
                addr.as_ref(),
                as_raw.as_ref(),
                scene.implicit,
                scene.believed,
            ),
            Op::Connect => connect::connect(&caller, addr.as_ref(), scene.believed),
            _ => socket::create(&caller, scene.is.unwrap()),
        };
        while let Step::Need(need) = judge.step() {
            judge.feed(answer(need));
        }
        let verdict = judge.verdict();
        let addr = if verdict.by_raw { as_raw } else { addr };
        verdicts.push(told(view, &caller, verdict, addr.as_ref()));
    }
    all.extend(verdicts);
    all
}

fn told(view: &View<'_>, caller: &Caller<'_>, verdict: &Verdict, addr: Option<&Addr>) -> String {
    let Some(d) = verdict.decision(caller, addr) else {
        return "the kernel's".to_owned();
    };
    let by = match d.rule {
        Some(rule) => format!("by {}", view.rule_source(rule).unwrap().2),
        None => "by default".to_owned(),
    };
    let doubt = d
        .doubt
        .map_or(String::new(), |d| format!(" in doubt of {d:?}"));
    match (d.verb, d.target) {
        (Verb::Allow, _) => format!("allow {by}{doubt}"),
        (Verb::Deny, _) => format!("deny {} {by}{doubt}", errno::name(d.errno).unwrap()),
        (Verb::Move, Some(to)) => format!("to {to} {by}"),
        (verb, _) => format!("{verb:?} {by}"),
    }
}

#[test]
fn it_asks_no_more_than_the_verdict_needs() {
    let local = |is| bind_of(is, "127.0.0.1:80");
    for (rules, scene, want) in [
        ("deny bind tcp *:81", local(TCP), "allow by default"),
        ("allow bind tcp *:80", local(TCP), "allow by 1"),
        // It could be another socket than is believed.
        ("deny bind udp *:80", local(TCP), "socket, allow by default"),
        ("deny bind tcp *:80", local(TCP), "socket, deny EACCES by 1"),
        // One question does not tell TCP from MPTCP.
        (
            "deny bind tcp-only *:80",
            local(TCP),
            "socket, protocol, deny EACCES by 1",
        ),
        (
            "deny bind tcp-only *:80",
            local(MPTCP),
            "socket, protocol, allow by default",
        ),
        (
            "deny bind any *:80 user 1000",
            local(TCP),
            "socket, user, deny EACCES by 1",
        ),
        (
            "deny bind any *:80 user 7",
            local(TCP),
            "socket, user, allow by default",
        ),
        (
            "deny bind any *:80 times 1",
            local(TCP),
            "socket, use, deny EACCES by 1",
        ),
        (
            "move bind tcp *:80 to loopback:8080",
            local(TCP),
            "socket, to 127.0.0.1:8080 by 1",
        ),
        (
            "default deny\nallow bind tcp *:80",
            local(TCP),
            "socket, allow by 1",
        ),
    ] {
        assert_eq!(play(rules, &scene), want, "{rules}");
    }
}

#[test]
fn a_stale_belief_lets_nothing_pass() {
    let of_family = |believed, is, addr| Scene {
        believed: Some(believed),
        ..bind_of(is, addr)
    };
    for (rules, scene, want) in [
        // IPV6_ADDRFORM made an IPv4 socket of it; the driver still says IPv6.
        (
            "deny bind any *:80",
            bind_of(TCP6, "127.0.0.1:80"),
            "socket, deny EACCES by 1",
        ),
        (
            "deny bind tcp *:80",
            bind_of(UDP6, "127.0.0.1:80"),
            "socket, allow by default",
        ),
        // Another socket took the number.
        (
            "deny bind tcp *:80",
            of_family(UNIX, TCP, "127.0.0.1:80"),
            "socket, deny EACCES by 1",
        ),
        (
            "deny bind udp *:80",
            of_family(TCP, UDP, "127.0.0.1:80"),
            "socket, deny EACCES by 1",
        ),
        (
            "deny bind vsock *:80",
            of_family(UNIX, VSOCK, "vsock:3:80"),
            "socket, deny EACCES by 1",
        ),
        // A family that rules cannot name, with IP addresses.
        (
            "deny bind any *:80",
            of_family(TCP, SMC, "127.0.0.1:80"),
            "socket, deny EACCES by 1",
        ),
        // The kernel compares the families.
        (
            "deny bind any *:80",
            of_family(TCP, UNIX, "127.0.0.1:80"),
            "socket, the kernel's",
        ),
    ] {
        assert_eq!(play(rules, &scene), want, "{rules}");
    }
}

#[test]
fn a_raw_socket_takes_any_bytes_for_an_ipv4_address() {
    // sa_family 0, port 0, 10.0.0.5
    let forgotten = |is| Scene {
        bytes: vec![0, 0, 0, 0, 10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
        ..bind_of(is, "127.0.0.1:80")
    };
    // sockaddr_in6 whose first 16 bytes are 0.0.0.0:80 to a raw socket
    let six = |is| bind_of(is, "[::1]:80");
    for (rules, scene, want) in [
        (
            "deny bind any *",
            forgotten(RAW),
            "socket, deny EACCES by 1",
        ),
        (
            "deny bind raw 10.0.0.5:*",
            forgotten(RAW),
            "socket, deny EACCES by 1",
        ),
        (
            "deny bind raw 10.0.0.6:*",
            forgotten(RAW),
            "allow by default",
        ),
        (
            "deny bind raw 10.0.0.5:*",
            forgotten(TCP),
            "socket, the kernel's",
        ),
        (
            "deny bind raw 10.0.0.5:80",
            six(RAW),
            "socket, deny EACCES by 1",
        ),
        ("deny bind tcp 0.0.0.0:80", six(TCP6), "allow by default"),
    ] {
        let got = play(rules, &scene);
        // Where no rule says anything the kernel is asked without a ruling.
        let got = got.replace("the kernel's", "allow by default");
        assert_eq!(
            got,
            want.replace("the kernel's", "allow by default"),
            "{rules}"
        );
    }
}

#[test]
fn a_wildcard_is_judged_by_what_it_receives() {
    let six = |v6only| Scene {
        v6only,
        ..bind_of(TCP6, "[::]:80")
    };
    for (rules, v6only, want) in [
        (
            "deny bind tcp 10.0.0.5:80",
            Some(false),
            "socket, v6only, deny EACCES by 1",
        ),
        (
            "deny bind tcp 10.0.0.5:80",
            Some(true),
            "socket, v6only, allow by default",
        ),
        // Nobody may ask: as if it received both.
        (
            "deny bind tcp 10.0.0.5:80",
            None,
            "socket, v6only, deny EACCES by 1",
        ),
        (
            "default deny\nallow bind tcp [::]:80",
            Some(true),
            "socket, v6only, allow by 1",
        ),
    ] {
        assert_eq!(play(rules, &six(v6only)), want, "{rules}");
    }
}

#[test]
fn what_nobody_may_ask_is_judged_in_every_way() {
    let unknown = Scene {
        is: None,
        uid: None,
        ..bind_of(TCP, "127.0.0.1:80")
    };
    for (rules, want) in [
        (
            "deny bind udp *:80",
            "socket, deny EACCES by 1 in doubt of Socket",
        ),
        (
            "allow bind tcp *:80\ndefault deny",
            "socket, deny EACCES by default",
        ),
        (
            "deny bind any *:80 user root",
            "socket, user, deny EACCES by 1 in doubt of User",
        ),
        (
            "move bind tcp *:80 to *:81",
            "socket, deny EACCES by 1 in doubt of Socket",
        ),
        ("deny bind any *:80", "socket, deny EACCES by 1"),
        ("deny bind any *:81", "allow by default"),
    ] {
        assert_eq!(play(rules, &unknown), want, "{rules}");
    }
}

/// What is to be done with a call on a carrier.
fn done_with_carrier(text: &str, op: Op, bytes: &[u8]) -> String {
    let source = Source { name: "test", text };
    let policy = parse(&[source]).unwrap_or_else(|e| panic!("{}", messages(&e)));
    let (compiled, _) = compile(&policy, &Users).unwrap_or_else(|e| panic!("{}", messages(&e)));
    let view = View::new(&compiled.words).unwrap();
    let caller = caller(&view);
    let raw = RawAddr::new(bytes).unwrap();
    let addr = raw.read();
    let mut judge = match op {
        Op::Bind => bind::bind(&caller, addr.as_ref(), None, Implicit::No, Some(UNIX)),
        _ => connect::connect(&caller, addr.as_ref(), Some(UNIX)),
    };
    while let Step::Need(need) = judge.step() {
        judge.feed(match need {
            Need::Socket => Answer::Socket(Socket {
                known: Known::AsCarrier,
                ..Socket::described(VSOCK)
            }),
            Need::Use { .. } => Answer::Use(false),
            need => panic!("{need:?}"),
        });
    }
    let verdict = judge.verdict();
    assert_eq!(verdict.passed(), None, "it does not go the short way");
    let mut record = Record::new(Call::Bind);
    match verdict.enter(&caller, op, addr.as_ref(), &mut record) {
        Action::Forward => "forward".to_owned(),
        Action::Restore => "restore".to_owned(),
        Action::OnHost => "host".to_owned(),
        Action::Refuse(e) => {
            let check = record.check.name();
            format!("{} by {check}", errno::name(e).unwrap())
        }
        Action::Redirect(decision) => format!("to {}", decision.target.unwrap()),
    }
}

#[test]
fn a_carrier_is_moved_or_gives_way() {
    const MOVE: &str = "move bind vsock *:5000 to unix:/run/%p";
    let bytes = |addr| common::address("", addr).unwrap().write().bytes().to_vec();
    let (here, there) = (bytes("vsock:2:5000"), bytes("vsock:2:5001"));
    let path = bytes("unix:/run/x");
    let short = here[..12].to_vec();
    let connects = MOVE.replace("bind", "connect");
    let once = format!("{MOVE} times 1");
    let also = format!("{MOVE}\ndeny bind vsock *:5001 with EPERM\nnote bind vsock *:*");
    for (rules, op, addr, want) in [
        (MOVE, Op::Bind, &here, "to unix:/run/5000"),
        (MOVE, Op::Bind, &there, "restore"),
        ("host cid 3", Op::Bind, &there, "host"),
        ("host cid 3", Op::Connect, &here, "host"),
        (
            "host cid 3\ndeny bind vsock *:*",
            Op::Bind,
            &there,
            "EACCES by security_socket_bind",
        ),
        (&also, Op::Bind, &there, "EPERM by security_socket_bind"),
        (&once, Op::Bind, &here, "restore"),
        // No rule is about the operation at all.
        (MOVE, Op::Connect, &here, "restore"),
        (&connects, Op::Bind, &here, "restore"),
        (&connects, Op::Connect, &here, "to unix:/run/5000"),
        // What vsock sockets refuse a Unix socket might take.
        (MOVE, Op::Bind, &path, "EINVAL by __vsock_bind"),
        (MOVE, Op::Connect, &path, "EINVAL by connect"),
        (MOVE, Op::Bind, &short, "EINVAL by __vsock_bind"),
        (&also, Op::Bind, &short, "EINVAL by __vsock_bind"),
    ] {
        assert_eq!(done_with_carrier(rules, op, addr), want, "{rules}");
    }
    // Neither of the two takes it, and no question is needed.
    assert_eq!(
        play(MOVE, &bind_of(VSOCK, "127.0.0.1:80")),
        "allow by default"
    );
}

#[test]
fn a_socket_is_a_carrier_where_a_rule_can_move_it() {
    let makes = |text: &str, program: &'static [u8], (domain, ty, protocol)| {
        let source = Source { name: "test", text };
        let policy = parse(&[source]).unwrap_or_else(|e| panic!("{}", messages(&e)));
        let (compiled, _) = compile(&policy, &Users).unwrap();
        let view = View::new(&compiled.words).unwrap();
        let caller = Caller {
            program,
            observe: !view.is_enforcing(),
            ..caller(&view)
        };
        socket::carrier(&caller, domain, ty, protocol)
    };
    const ANY: &[u8] = b"/usr/bin/some";
    const STREAM: (i32, i32, i32) = (40, 1, 0);
    for rules in [
        "move bind vsock *:5000 to unix:/run/x",
        "move bind vsock * to unix:@x",
        "move connect vsock host:* to unix:/run/x",
        "move bind any *:80 to unix:/run/x",
        "hide bind vsock *:5000",
        "hide bind any *",
        "deny bind tcp *:*\nmove bind vsock *:5000 to unix:/run/x for some",
        "move bind vsock *:5000 to unix:/run/x user root times 1",
    ] {
        assert_eq!(makes(rules, ANY, STREAM), Ok(Some(UNIX)), "{rules}");
    }
    for rules in [
        "",
        "deny bind vsock *:5000",
        "move bind vsock *:5000 to vsock:local:*",
        "move bind tcp *:80 to unix:/run/x",
        "move bind {tcp,unix} * to unix:/run/x",
        "hide bind tcp *:80",
        "deny connect any *",
        "move bind vsock *:5000 to unix:/run/x for other",
        "move bind vsock *:5000 to unix:/run/x\nmode observe",
    ] {
        assert_eq!(makes(rules, ANY, STREAM), Ok(None), "{rules}");
    }
    let rule = "move bind vsock *:5000 to unix:/run/x for other";
    // Where nobody knows the program, it may be that one.
    assert_eq!(makes(rule, b"", STREAM), Ok(Some(UNIX)));
    let rule = "move bind vsock *:5000 to unix:/run/x";
    let seqpacket = of(af::UNIX, ty::SEQPACKET, 0);
    assert_eq!(
        makes(rule, ANY, (40, 5 | 0o2004000, 40)),
        Ok(Some(seqpacket))
    );
    for other in [
        (40, 2, 0),
        (40, 3, 0),
        (40, 1, 6),
        (1, 1, 0),
        (40 + 65536, 1, 0),
    ] {
        assert_eq!(makes(rule, ANY, other), Ok(None), "{other:?}");
    }
    // On a vsock host each is one, whatever the rules say.
    for rules in [
        "host cid 3",
        "host cid 3\nmode observe",
        "host cid 3\ndeny bind vsock *:*",
    ] {
        assert_eq!(makes(rules, ANY, STREAM), Ok(Some(UNIX)), "{rules}");
        assert_eq!(makes(rules, ANY, (40, 2, 0)), Err(19), "{rules}: ENODEV");
        assert_eq!(makes(rules, ANY, (1, 1, 0)), Ok(None), "{rules}");
    }
}

#[test]
fn listen_is_judged_with_the_bind_that_comes_with_it() {
    let listening = |bound, name: Option<&str>| Scene {
        bound: Some(bound),
        name: Some(name.map(|n| common::address("", n).unwrap())),
        ..scene(Op::Listen, TCP, "")
    };
    let at = Some("127.0.0.1:80");
    for (rules, scene, want) in [
        ("", listening(true, at), ""),
        ("", listening(false, None), "bound, bind allow by default"),
        ("deny bind tcp *:80", listening(true, at), ""),
        ("deny bind tcp *:auto", listening(true, at), "socket, bound"),
        (
            "deny bind tcp *:auto",
            listening(false, None),
            "socket, bound, socket, bind deny EACCES by 1",
        ),
        (
            "deny listen tcp *:80",
            listening(true, at),
            "socket, name, listen deny EACCES by 1",
        ),
        (
            "deny listen tcp *:81",
            listening(true, at),
            "socket, name, listen allow by default",
        ),
    ] {
        let got = play(rules, &scene);
        assert_eq!(got, want, "{rules}");
    }
    // Neither the socket nor its name may be asked for.
    let hidden = Scene {
        is: None,
        name: None,
        bound: None,
        ..scene(Op::Listen, TCP, "")
    };
    assert_eq!(
        play("deny listen tcp *:80", &hidden),
        "bound, socket, name, bind allow by default, \
         listen deny EACCES by default in doubt of Socket"
    );
}

#[test]
fn connect_and_socket() {
    let to = |is, addr| scene(Op::Connect, is, addr);
    for (rules, scene, want) in [
        (
            "deny connect tcp *:5432",
            to(TCP, "10.0.0.1:5432"),
            "socket, deny EACCES by 1",
        ),
        (
            "deny connect tcp *:5432",
            to(TCP, "10.0.0.1:5433"),
            "allow by default",
        ),
        // An IPv6 UDP socket may send to an IPv4 address.
        (
            "deny connect udp *:53",
            to(UDP6, "10.0.0.1:53"),
            "socket, deny EACCES by 1",
        ),
        (
            "deny socket raw",
            scene(Op::Socket, RAW, ""),
            "deny EACCES by 1",
        ),
        (
            "deny socket raw",
            scene(Op::Socket, TCP, ""),
            "allow by default",
        ),
        (
            "deny socket any user 1000",
            scene(Op::Socket, TCP, ""),
            "user, deny EACCES by 1",
        ),
    ] {
        assert_eq!(play(rules, &scene), want, "{rules}");
    }
}

/// An IP address as the hooks read it.
fn words(bytes: &[u8]) -> Option<Words> {
    if bytes.len() != 16 && bytes.len() != 28 {
        return None;
    }
    let mut words = Words {
        len: bytes.len() as u8,
        ..Words::default()
    };
    for (word, chunk) in words.words.iter_mut().zip(bytes.chunks(8)) {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(eight);
    }
    Some(words)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What is foreseen of a bind is what the machine says of it: of any socket
    /// and user, or of a socket that is what it was believed to be.
    #[test]
    fn what_is_foreseen_comes_true(
        p in policy(false, 0..12),
        q in question(),
        is in prop::sample::select(vec![TCP, TCP6, MPTCP, UDP, UDP6, RAW, UNIX, VSOCK]),
        believed in prop::sample::select(vec![TCP, TCP6, UDP, UDP6, MPTCP, UNIX, SocketType::default()]),
    ) {
        let Ok((compiled, _)) = compile(&p, &Users) else { return Ok(()) };
        let view = View::new(&compiled.words).unwrap();
        let Some(addr) = q.addr else { return Ok(()) };
        let caller = Caller {
            view: &view,
            observe: false,
            unprivileged_start: q.start,
            program: q.program.as_bytes(),
            script: q.script.as_bytes(),
        };
        let bytes = addr.write();
        let raw = as_raw_ipv4(&bytes);
        let Some(words) = words(bytes.bytes()) else { return Ok(()) };
        let (rule, is) = match fast::foresee(&caller, &words, raw.is_some(), believed) {
            Foresight::Passes(rule) => (rule, is),
            Foresight::PassesAsBelieved(rule) => (rule, believed),
            Foresight::Open => return Ok(()),
        };
        let mut judge = bind::bind(&caller, Some(&addr), raw.as_ref(), Implicit::No, Some(believed));
        while let Step::Need(need) = judge.step() {
            judge.feed(match need {
                Need::Socket => Answer::Socket(Socket {
                    known: Known::Nearly,
                    ..Socket::described(is)
                }),
                // Of `::ffff:0.0.0.0`, for which it changes nothing.
                Need::V6Only => Answer::V6Only(Some(q.v6only)),
                need => return Err(TestCaseError::fail(format!("{need:?}: {p}\n{q:?} {is:?}"))),
            });
        }
        prop_assert_eq!(judge.verdict().passed(), Some(rule), "{}\n{:?} {:?} {:?}", p, q, is, believed);
    }

    /// Whatever is believed of a socket, the verdict is the one that a look at
    /// all the rules gives, and nothing is asked twice.
    #[test]
    fn the_verdict_is_what_all_the_rules_say(
        p in policy(false, 0..12),
        mut q in question(),
        is in prop::sample::select(vec![TCP, TCP6, MPTCP, UDP, UDP6, UNIX, VSOCK]),
        believed in prop::sample::select(vec![None, Some(TCP), Some(UDP6), Some(MPTCP), Some(UNIX)]),
    ) {
        if q.op != Op::Bind || q.addr.is_none() || q.program.is_empty() || q.uid.is_none() {
            return Ok(());
        }
        let Ok((compiled, _)) = compile(&p, &Users) else { return Ok(()) };
        let view = View::new(&compiled.words).unwrap();
        let addr = q.addr.unwrap();
        let is_ip = |family| family == af::INET || family == af::INET6;
        if addr.family() != is.domain && !(is_ip(addr.family()) && is_ip(is.domain)) {
            return Ok(());
        }
        q.kinds = SocketType { domain: addr.family(), ..is }.kinds();
        q.script = "";
        let caller = Caller {
            view: &view,
            observe: false,
            unprivileged_start: q.start,
            program: q.program.as_bytes(),
            script: b"",
        };
        if addr.family() != af::INET6 {
            q.v6only = false;
        }
        let (one, other) = (Counters::default(), Counters::default());
        let mut judge = bind::bind(&caller, Some(&addr), None, q.implicit, believed);
        let mut asked = Vec::new();
        while let Step::Need(need) = judge.step() {
            prop_assert!(!asked.contains(&need), "{:?} twice", need);
            asked.push(need);
            judge.feed(match need {
                Need::Socket => Answer::Socket(Socket {
                    known: Known::Nearly,
                    ..Socket::described(is)
                }),
                Need::Protocol => Answer::Protocol(Some(is.protocol)),
                Need::V6Only => Answer::V6Only(Some(q.v6only)),
                Need::User => Answer::User(q.uid),
                Need::Privilege { .. } => Answer::Unprivileged(q.query().unprivileged),
                Need::Use { counter, uses } => Answer::Use(one.take(counter, uses)),
                need => panic!("{need:?}"),
            });
        }
        let got = judge.verdict().decision(&caller, Some(&addr)).unwrap();
        let want = view.decide(&q.query(), &other);
        prop_assert_eq!((got.verb, got.errno, got.note), (want.verb, want.errno, want.note), "{}\n{:?} {:?}", p, q, is);
        if asked.contains(&Need::Socket) {
            prop_assert_eq!((got.rule, got.target), (want.rule, want.target), "{}\n{:?} {:?}", p, q, is);
        }
    }
}
