//! Facts in, a cause out: a table of stages that no machine is needed for.
//!
//! `why.txt` is the expected text; `UPDATE_EXPECT=1` writes it anew.

use std::fmt::Write as _;

use bindgate_core::addr::{Addr, UnixName};
use bindgate_core::model::{Errno, Generation, Host};
use bindgate_core::policy::Op;
use bindgate_core::render::HolderState;
use bindgate_core::socket::{BindOptions, SocketType};
use bindgate_core::why::{
    Cause, Elsewhere, Facts, Former, Lineage, Opener, Question, Ruling, Seen, explain,
};

const NONE: BindOptions = BindOptions(0);
const UNKNOWN: BindOptions = BindOptions(BindOptions::UNKNOWN);
const SECOND: u64 = 1_000_000_000;

fn at(text: &str) -> Addr {
    let bytes = bindgate_core::model::script::address(text).expect(text);
    Addr::read(&bytes).expect(text)
}

fn kind(protocol: &str, addr: &Addr) -> SocketType {
    let domain = i32::from(addr.family());
    SocketType::created(domain, if protocol == "udp" { 2 } else { 1 }, 0)
}

fn question(op: Op, protocol: &str, addr: &str, errno: Errno) -> Question {
    let addr = at(addr);
    Question {
        op,
        kind: kind(protocol, &addr),
        addr,
        options: NONE,
        device: 0,
        uid: Some(1000),
        cookie: 0,
        errno,
        at_ns: 100 * SECOND,
    }
}

fn bind(addr: &str) -> Question {
    question(Op::Bind, "tcp", addr, Errno::EADDRINUSE)
}

fn refused(addr: &str) -> Question {
    question(Op::Connect, "tcp", addr, Errno::ECONNREFUSED)
}

fn process(pid: u32, program: &str) -> Opener {
    Opener {
        pid,
        program: program.into(),
        lineage: Lineage::default(),
    }
}

fn seen(addr: &str, state: HolderState) -> Seen {
    let addr = at(addr);
    Seen {
        kind: kind("tcp", &addr),
        addr,
        peer: None,
        state,
        phase: None,
        uid: Some(1000),
        inode: 7,
        cookie: 9,
        device: 0,
        options: NONE,
        left_ms: None,
        since_ns: 0,
        in_run: None,
        on_the_way: None,
        open_in: vec![process(401, "nginx")],
        bound_by: None,
        group: None,
        all_seen: true,
    }
}

fn facts(sockets: Vec<Seen>) -> Facts {
    Facts {
        host: Some(Box::new(host())),
        may_bind_low: Some(false),
        sockets,
        utc_offset: Some(0),
        ..Facts::default()
    }
}

fn host() -> Host {
    let mut host = Host::loopback(Generation::Linux6_18);
    host.add_device(2, b"eth0", false);
    host.v4.push(bindgate_core::model::host::V4 {
        addr: 0x0a00_0005,
        prefix: 32,
        dev: 2,
    });
    host
}

fn former(addr: &str, from: u64, to: u64) -> Former {
    Former {
        pid: 300,
        program: "finder".into(),
        addr: at(addr),
        bound_ns: from * SECOND,
        automatic: true,
        listened: false,
        closed_by_ns: to * SECOND,
    }
}

const LISTENING: HolderState = HolderState::Listening;
const BOUND: HolderState = HolderState::Bound;
const CONNECTED: HolderState = HolderState::Connected;

/// Everything about a port that is taken.
fn taken(all: &mut Vec<(&'static str, Question, Facts)>) {
    let mut add = |name, q, f| all.push((name, q, f));
    add(
        "a listener at the same address",
        bind("127.0.0.1:80"),
        facts(vec![seen("127.0.0.1:80", LISTENING)]),
    );
    add(
        "a listener at the wildcard",
        bind("127.0.0.1:80"),
        facts(vec![seen("0.0.0.0:80", LISTENING)]),
    );
    add(
        "a dual-stack listener",
        bind("127.0.0.1:80"),
        facts(vec![seen("[::]:80", LISTENING)]),
    );
    let mut only = seen("[::]:80", LISTENING);
    only.options.set(BindOptions::V6ONLY, true);
    add(
        "an IPv6 listener is not in the way of IPv4",
        bind("0.0.0.0:80"),
        facts(vec![only.clone()]),
    );
    add(
        "an IPv6 listener is in the way of IPv6",
        bind("[::1]:80"),
        facts(vec![only]),
    );
    let mut reuse = bind("0.0.0.0:80");
    reuse.options = BindOptions(BindOptions::REUSEADDR);
    let mut holder = seen("0.0.0.0:80", BOUND);
    holder.options = BindOptions(BindOptions::REUSEPORT);
    add(
        "SO_REUSEADDR meets SO_REUSEPORT",
        reuse.clone(),
        facts(vec![holder.clone()]),
    );
    holder.uid = Some(0);
    let mut port = bind("0.0.0.0:80");
    port.options = BindOptions(BindOptions::REUSEPORT);
    add("SO_REUSEPORT of another user", port, facts(vec![holder]));
    let mut unknown = seen("0.0.0.0:80", LISTENING);
    (unknown.options, unknown.open_in, unknown.all_seen) = (UNKNOWN, vec![], false);
    unknown.uid = Some(0);
    unknown.group = Some("/system.slice/nginx.service".into());
    add(
        "another user's, without the right to see it",
        bind("0.0.0.0:80"),
        facts(vec![unknown.clone()]),
    );
    (unknown.all_seen, unknown.group) = (true, None);
    add(
        "in another pid namespace",
        bind("0.0.0.0:80"),
        facts(vec![unknown]),
    );
    let mut service = seen("0.0.0.0:80", LISTENING);
    service.open_in = vec![
        Opener {
            lineage: Lineage {
                parents: vec![(1, "systemd".into())],
                unit: Some("nginx.service".into()),
                ..Lineage::default()
            },
            ..process(401, "nginx")
        },
        Opener {
            lineage: Lineage {
                parents: vec![(401, "nginx".into())],
                ..Lineage::default()
            },
            ..process(402, "nginx")
        },
    ];
    add(
        "a service with a worker",
        bind("0.0.0.0:80"),
        facts(vec![service]),
    );
    let mut container = seen("0.0.0.0:80", LISTENING);
    container.open_in[0].lineage = Lineage {
        container: Some("the Docker container 3f2a1b003f2a".into()),
        terminal: Some("pts/3".into()),
        ..Lineage::default()
    };
    add("a container", bind("0.0.0.0:80"), facts(vec![container]));
    let mut heir = seen("0.0.0.0:80", LISTENING);
    (heir.bound_by, heir.in_run, heir.since_ns) =
        (Some(process(400, "server")), Some(true), 90 * SECOND);
    add("an heir", bind("0.0.0.0:80"), facts(vec![heir]));
    let both = vec![seen("127.0.0.1:80", BOUND), seen("[::1]:80", LISTENING)];
    add(
        "two in the way: the listener first",
        bind("[::]:80"),
        facts(both),
    );
    let mut waits = seen("127.0.0.1:80", HolderState::TimeWait);
    (waits.inode, waits.uid, waits.open_in, waits.options) = (0, None, vec![], UNKNOWN);
    (waits.left_ms, waits.peer) = (Some(42_500), Some(at("127.0.0.1:50000")));
    add("TIME_WAIT", bind("0.0.0.0:80"), facts(vec![waits.clone()]));
    add(
        "TIME_WAIT and SO_REUSEADDR",
        reuse,
        facts(vec![waits.clone()]),
    );
    add(
        "a listener before TIME_WAIT",
        bind("0.0.0.0:80"),
        facts(vec![waits, seen("127.0.0.1:80", LISTENING)]),
    );
    let mut client = seen("127.0.0.1:40000", CONNECTED);
    client.peer = Some(at("10.0.0.9:443"));
    add(
        "one end of a connection",
        bind("127.0.0.1:40000"),
        facts(vec![client.clone()]),
    );
    client.on_the_way = Some(true);
    add(
        "a client of the run",
        bind("127.0.0.1:40000"),
        facts(vec![client.clone()]),
    );
    (client.inode, client.open_in, client.phase) = (0, vec![], Some("FIN_WAIT2"));
    add(
        "a connection that closes",
        bind("127.0.0.1:40000"),
        facts(vec![client]),
    );
    add("nobody any more", bind("127.0.0.1:80"), facts(vec![]));
    let mut gone = facts(vec![]);
    gone.gone = Some(seen("127.0.0.1:80", BOUND));
    add("one who has left", bind("127.0.0.1:80"), gone);
    let mut old = facts(vec![]);
    if let Some(host) = &mut old.host {
        host.generation = Generation::Linux6_1;
    }
    add(
        "a kernel that lists no bound sockets",
        bind("127.0.0.1:80"),
        old,
    );
    add("no automatic port", bind("127.0.0.1:0"), facts(vec![]));
    let mut own = bind("127.0.0.1:80");
    (own.op, own.cookie) = (Op::Listen, 9);
    let mut other = seen("127.0.0.1:80", LISTENING);
    other.cookie = 10;
    add(
        "a listen beside its own socket",
        own,
        facts(vec![seen("127.0.0.1:80", BOUND), other]),
    );
    add(
        "a vsock port",
        question(Op::Bind, "vsock", "vsock:any:5000", Errno::EADDRINUSE),
        facts(vec![]),
    );
    let mut file = facts(vec![]);
    file.has_file = true;
    add(
        "a file that is left",
        question(Op::Bind, "unix", "unix:/run/s", Errno::EADDRINUSE),
        file,
    );
    let name = Addr::Unix(UnixName::abstract_(b"name").expect("a name"));
    let mut holder = seen("127.0.0.1:80", LISTENING);
    holder.addr = name;
    add(
        "an abstract name",
        Question {
            addr: name,
            kind: kind("unix", &name),
            ..bind("127.0.0.1:80")
        },
        facts(vec![holder]),
    );
}

/// The thief, and what is no theft.
fn thieves(all: &mut Vec<(&'static str, Question, Facts)>) {
    let mut add = |name, q, f| all.push((name, q, f));
    let thief = |since: u64| {
        let mut s = seen("127.0.0.1:39589", LISTENING);
        (s.in_run, s.since_ns) = (Some(since != 0), since * SECOND);
        s
    };
    let with = |s: Seen, f: Former| Facts {
        former: vec![f],
        ..facts(vec![s])
    };
    let q = || bind("127.0.0.1:39589");
    add(
        "a thief in the run",
        q(),
        with(thief(97), former("127.0.0.1:39589", 95, 97)),
    );
    add(
        "a thief in the run, at the wildcard",
        q(),
        with(thief(97), former("0.0.0.0:39589", 95, 96)),
    );
    add(
        "a thief outside, closed before for sure",
        q(),
        with(thief(0), former("127.0.0.1:39589", 95, 99)),
    );
    let mut late = thief(0);
    late.open_in[0].lineage.started_ns = 98 * SECOND;
    add(
        "a thief outside that started since",
        q(),
        with(late, former("127.0.0.1:39589", 95, 99)),
    );
    add(
        "closed later than the failure: no theft is claimed",
        q(),
        with(thief(0), former("127.0.0.1:39589", 95, 101)),
    );
    add(
        "not closed: no theft",
        q(),
        with(thief(97), former("127.0.0.1:39589", 95, 0)),
    );
    add(
        "another address: no theft",
        q(),
        with(thief(97), former("127.0.0.2:39589", 95, 96)),
    );
    add(
        "a later one: no theft",
        q(),
        with(thief(94), former("127.0.0.1:39589", 95, 96)),
    );
    let mut chosen = former("127.0.0.1:39589", 95, 96);
    chosen.automatic = false;
    add(
        "a port that was asked for: no theft",
        q(),
        with(thief(97), chosen),
    );
}

/// What is refused, and what is not there.
fn forbidden(all: &mut Vec<(&'static str, Question, Facts)>) {
    let mut add = |name, q, f| all.push((name, q, f));
    let eacces = |addr| question(Op::Bind, "tcp", addr, Errno::EACCES);
    add("a privileged port", eacces("0.0.0.0:80"), facts(vec![]));
    add(
        "a privileged port of IPv6",
        eacces("[::]:80"),
        facts(vec![]),
    );
    let mut may = facts(vec![]);
    (may.may_bind_low, may.filters, may.modules) =
        (Some(true), Some(0), "capability, apparmor".into());
    add(
        "a privileged port with the privilege",
        eacces("0.0.0.0:80"),
        may,
    );
    let mut unseen = facts(vec![]);
    unseen.may_bind_low = None;
    add(
        "a privileged port of somebody unseen",
        eacces("0.0.0.0:80"),
        unseen,
    );
    let mut filters = facts(vec![]);
    filters.filters = Some(1);
    add(
        "a port that takes no privilege",
        eacces("0.0.0.0:8080"),
        filters,
    );
    add(
        "EPERM",
        question(Op::Bind, "tcp", "0.0.0.0:80", Errno::EPERM),
        facts(vec![]),
    );
    add(
        "a vsock port below 1024",
        question(Op::Bind, "vsock", "vsock:any:80", Errno::EACCES),
        facts(vec![]),
    );
    let mut lower = facts(vec![]);
    if let Some(host) = &mut lower.host {
        host.sysctl.unprivileged_start = 80;
    }
    add("the sysctl lowered", eacces("0.0.0.0:79"), lower.clone());
    add(
        "the sysctl lowered, and the port free",
        eacces("0.0.0.0:80"),
        lower,
    );
    let mut blind = facts(vec![]);
    (blind.host, blind.may_bind_low) = (None, None);
    add(
        "a network that cannot be looked into",
        eacces("0.0.0.0:80"),
        blind.clone(),
    );
    let absent = |addr| question(Op::Bind, "tcp", addr, Errno::EADDRNOTAVAIL);
    add(
        "an address that is not there",
        absent("10.0.0.6:80"),
        facts(vec![]),
    );
    add(
        "an IPv6 address that is not there",
        absent("[2001:db8::1]:80"),
        facts(vec![]),
    );
    add(
        "a mapped address that is not there",
        absent("[::ffff:10.0.0.6]:80"),
        facts(vec![]),
    );
    add(
        "an address that is there by now",
        absent("10.0.0.5:80"),
        facts(vec![]),
    );
    add(
        "an address of an unknown network",
        absent("10.0.0.6:80"),
        blind,
    );
    let mut many = facts(vec![]);
    many.has_more_addresses = true;
    add("an address among too many", absent("10.0.0.6:80"), many);
    let mut tentative = facts(vec![]);
    if let Some(host) = &mut tentative.host {
        let addr = std::net::Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]).octets();
        host.v6.push(bindgate_core::model::host::V6 {
            addr,
            dev: 2,
            tentative: true,
        });
    }
    add("a tentative address", absent("[2001:db8::1]:80"), tentative);
    let mut six = facts(vec![]);
    if let Some(host) = &mut six.host {
        host.v6.clear();
    }
    add("no IPv6 at all", absent("[::1]:80"), six);
    add(
        "a CID",
        question(Op::Bind, "vsock", "vsock:5:5000", Errno::EADDRNOTAVAIL),
        facts(vec![]),
    );
    add(
        "the host's CID",
        question(Op::Bind, "vsock", "vsock:2:5000", Errno::EADDRNOTAVAIL),
        facts(vec![]),
    );
    let mut guest = facts(vec![]);
    if let Some(host) = &mut guest.host {
        host.vsock.cid = Some(3);
    }
    add(
        "the CID of another guest",
        question(Op::Bind, "vsock", "vsock:4:5000", Errno::EADDRNOTAVAIL),
        guest,
    );
    let mut ruled = facts(vec![]);
    ruled.rule = Some(Ruling {
        place: "rule 2, web.policy:4".into(),
        text: "deny bind tcp *:80".into(),
    });
    add("a rule", eacces("0.0.0.0:80"), ruled);
    add(
        "a link-local address without a device",
        question(Op::Bind, "tcp", "[fe80::1]:8080", Errno::EINVAL),
        facts(vec![]),
    );
    add(
        "an error that nothing explains",
        question(Op::Bind, "tcp", "0.0.0.0:80", Errno::ENOMEM),
        facts(vec![]),
    );
}

/// Whom a connect does not reach.
fn unreached(all: &mut Vec<(&'static str, Question, Facts)>) {
    let mut add = |name, q, f| all.push((name, q, f));
    let one = |addr, state| facts(vec![seen(addr, state)]);
    add(
        "the other family: IPv6",
        refused("127.0.0.1:80"),
        one("[::1]:80", LISTENING),
    );
    add(
        "the other family: IPv4",
        refused("[::1]:80"),
        one("0.0.0.0:80", LISTENING),
    );
    let mut only = seen("[::]:80", LISTENING);
    only.options.set(BindOptions::V6ONLY, true);
    add(
        "the other family: [::] for IPv6 alone",
        refused("127.0.0.1:80"),
        facts(vec![only]),
    );
    add(
        "another address",
        refused("127.0.0.1:80"),
        one("127.0.0.2:80", LISTENING),
    );
    add(
        "another address of the host",
        refused("10.0.0.5:80"),
        one("127.0.0.1:80", LISTENING),
    );
    add(
        "bound, not listening",
        refused("127.0.0.1:80"),
        one("127.0.0.1:80", BOUND),
    );
    add(
        "listening by now",
        refused("127.0.0.1:80"),
        one("0.0.0.0:80", LISTENING),
    );
    let mut later = seen("[::]:80", LISTENING);
    later.since_ns = 101 * SECOND;
    add(
        "listening since later",
        refused("127.0.0.1:80"),
        facts(vec![later]),
    );
    let mut left = facts(vec![]);
    left.former = vec![Former {
        listened: true,
        automatic: false,
        ..former("127.0.0.1:80", 90, 95)
    }];
    add("not any more", refused("127.0.0.1:80"), left.clone());
    left.former[0].closed_by_ns = 105 * SECOND;
    add(
        "not any more, seen late",
        refused("127.0.0.1:80"),
        left.clone(),
    );
    left.former[0].listened = false;
    add(
        "bound before, and maybe never listening",
        refused("127.0.0.1:80"),
        left.clone(),
    );
    left.former[0].bound_ns = 101 * SECOND;
    add(
        "bound and left after the connect",
        refused("127.0.0.1:80"),
        left,
    );
    let far = |is_listener| Facts {
        elsewhere: vec![Elsewhere {
            addr: at("127.0.0.1:80"),
            process: process(77, "far"),
            is_listener,
        }],
        ..facts(vec![])
    };
    add("another network", refused("127.0.0.1:80"), far(true));
    add(
        "another network, somebody in it",
        refused("127.0.0.1:80"),
        far(false),
    );
    add("nobody", refused("127.0.0.1:80"), facts(vec![]));
    add(
        "the wildcard is loopback",
        refused("0.0.0.0:80"),
        one("[::1]:80", LISTENING),
    );
    add(
        "another machine",
        refused("192.0.2.1:80"),
        one("0.0.0.0:80", LISTENING),
    );
    let mut other = seen("[::1]:80", LISTENING);
    (other.open_in, other.all_seen, other.uid) = (vec![], false, Some(0));
    add(
        "another user's listener",
        refused("127.0.0.1:80"),
        facts(vec![other]),
    );
    let path = question(Op::Connect, "unix", "unix:/run/s", Errno::ECONNREFUSED);
    add("a Unix path that is left", path, facts(vec![]));
}

#[test]
fn each_stage_has_its_cause() {
    let mut all = Vec::new();
    taken(&mut all);
    thieves(&mut all);
    forbidden(&mut all);
    unreached(&mut all);
    let mut out = String::new();
    for (name, q, f) in &all {
        let why = explain(q, f);
        let _ = writeln!(out, "# {name}\n{}: {}", why.cause.name(), why.text);
        if why.clause != why.text {
            let _ = writeln!(out, "  line     {}", why.clause);
        }
        for (word, lines) in [
            ("known", &why.details),
            ("mend", &why.mends),
            ("unseen", &why.unseen),
        ] {
            for line in lines {
                let _ = writeln!(out, "  {word:<8} {line}");
            }
        }
        // A line of the log is a line.
        assert!(!why.text.contains('\n') && !why.clause.contains('\n'));
    }
    expect_test::expect_file!["why.txt"].assert_eq(&out);
    // No cause is left out.
    let found = |cause: &Cause| all.iter().any(|(_, q, f)| explain(q, f).cause == *cause);
    for cause in Cause::ALL {
        assert!(found(&cause), "{cause:?}");
    }
}
