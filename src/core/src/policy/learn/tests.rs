use super::*;
use crate::addr::UnixName;

struct Nobody;
impl Resolver for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
}

const TCP: SocketType = SocketType {
    domain: 2,
    ty: 1,
    protocol: 6,
};

fn four(ip: [u8; 4], port: u16) -> Addr {
    Addr::Inet { ip, port }
}

fn call(op: Op, addr: Addr) -> Call {
    Call {
        op,
        socket: match &addr {
            Addr::Unix(_) => SocketType::created(1, 1, 0),
            addr => SocketType {
                domain: addr.family(),
                ..TCP
            },
        },
        addr: Some(addr),
        program: "/usr/sbin/web".into(),
        pid: 812,
        comment: "web[812]".into(),
        ..Call::default()
    }
}

fn learned(there: &str, calls: &[Call], options: &Options) -> Learned {
    let source = Source {
        name: "p",
        text: there,
    };
    learn(&source, &[calls.to_vec()], options, &Nobody).unwrap()
}

/// The lines of a policy without its comments.
fn lines(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|l| l.split(" #").next().unwrap().trim());
    lines
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect()
}

#[test]
fn each_call_has_the_narrowest_rule() {
    let six = |v6only, port| Call {
        v6only: Some(v6only),
        ..call(Op::Bind, Addr::inet6([0; 16], port))
    };
    let name = |name: &[u8]| Addr::Unix(UnixName::path(name).unwrap());
    let of = |domain, ty, protocol, addr| Call {
        socket: SocketType::created(domain, ty, protocol),
        ..call(Op::Bind, addr)
    };
    for (call, rule) in [
        (
            call(Op::Bind, four([127, 0, 0, 1], 80)),
            "bind tcp 127.0.0.1:80",
        ),
        (call(Op::Bind, four([0; 4], 0)), "bind tcp 0.0.0.0:auto"),
        (six(true, 80), "bind tcp [::]:80"),
        (six(false, 80), "bind tcp exactly [::]:80"),
        (
            call(Op::Listen, Addr::inet6([0; 16], 80)),
            "listen tcp exactly [::]:80",
        ),
        (of(2, 2, 0, four([10, 0, 0, 5], 53)), "bind udp 10.0.0.5:53"),
        (
            of(2, 1, 262, four([10, 0, 0, 5], 53)),
            "bind mptcp 10.0.0.5:53",
        ),
        (of(2, 3, 1, four([0; 4], 0)), "bind raw 0.0.0.0:*"),
        (of(2, 6, 33, four([0; 4], 7)), "bind proto 33 0.0.0.0:7"),
        (
            of(16, 3, 0, Addr::Netlink { pid: 7, groups: 1 }),
            "bind netlink *",
        ),
        (
            of(40, 1, 0, Addr::any(40).unwrap()),
            "bind vsock cid-any:auto",
        ),
        (call(Op::Bind, name(b"/run//a/./b")), "bind unix /run/a/b"),
        (
            call(Op::Bind, name(b"/run/[x]")),
            "bind unix exactly /run/[x]",
        ),
        (call(Op::Bind, name(b"/run/\xff*")), "bind unix /run/?\\*"),
        (
            call(Op::Bind, name(b"/run/x-812.s")),
            "bind unix /run/x-812.s",
        ),
    ] {
        let expected = [
            "default deny for bind, listen".to_string(),
            format!("allow {rule} for /usr/sbin/web"),
        ];
        let text = learned("", &[call], &Options::default()).text;
        let found = lines(&text).join("\n");
        assert_eq!(
            found.replace("default deny\n", "default deny for bind, listen\n"),
            expected.join("\n")
        );
    }
}

#[test]
fn what_the_kernel_chose_is_chosen_anew() {
    let at = four([127, 0, 0, 1], 40001);
    let bind = Call {
        got: Some(at),
        ..call(Op::Bind, four([127, 0, 0, 1], 0))
    };
    let name = Addr::Unix(UnixName::abstract_(b"2ce68").unwrap());
    let unix = Call {
        got: Some(name),
        ..call(Op::Bind, Addr::Unix(UnixName::AUTO))
    };
    let calls = [bind, call(Op::Listen, at), unix, call(Op::Listen, name)];
    let text = learned("", &calls, &Options::default()).text;
    assert_eq!(
        lines(&text),
        [
            "default deny",
            "allow bind tcp 127.0.0.1:auto for /usr/sbin/web",
            "allow listen tcp 127.0.0.1:* for /usr/sbin/web",
            "allow bind unix auto for /usr/sbin/web",
            "allow listen unix @[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f] for /usr/sbin/web",
        ]
    );
}

#[test]
fn a_listen_knows_what_its_socket_was_bound_as() {
    let at = Addr::inet6([0; 16], 80);
    let bind = Call {
        v6only: Some(true),
        cookie: Some(7),
        ..call(Op::Bind, at)
    };
    let listen = Call {
        cookie: Some(7),
        ..call(Op::Listen, at)
    };
    let text = learned("", &[bind, listen], &Options::default()).text;
    assert!(text.contains("allow listen tcp [::]:80 for"), "{text}");
}

#[test]
fn what_is_there_stays_and_what_it_says_is_not_said_again() {
    let there = "# mine\ndeny bind tcp *:81\nmove bind tcp *:80 to loopback:8080   # so\n\
                 default deny for bind";
    let calls = [80, 81, 82, 82].map(|port| call(Op::Bind, four([0; 4], port)));
    let options = Options {
        heading: "Learned from: web".into(),
        ..Options::default()
    };
    let first = learned(there, &calls, &options);
    assert_eq!(
        first.text,
        format!(
            "{there}\n\n# Learned from: web\n{:50} # web[812]\n",
            "allow bind tcp 0.0.0.0:82 for /usr/sbin/web"
        )
    );
    assert_eq!(first.refused, [(0, 1, "p:2".to_string())]);
    assert_eq!(learned(&first.text, &calls, &options).text, first.text);
}

#[test]
fn a_rule_that_another_makes_needless_is_not_written() {
    let at = Addr::inet6([0; 16], 80);
    let bind = |v6only| Call {
        v6only: Some(v6only),
        ..call(Op::Bind, at)
    };
    let text = learned("", &[bind(true), bind(false)], &Options::default()).text;
    assert_eq!(
        lines(&text)[1..],
        ["allow bind tcp exactly [::]:80 for /usr/sbin/web"]
    );
}

#[test]
fn ranges_and_all_programs_are_there_where_asked_for() {
    let calls = [8000, 8003, 8001].map(|port| call(Op::Bind, four([0; 4], port)));
    let ask = |ranges| Options {
        ranges: Some(ranges),
        any_program: true,
        ..Options::default()
    };
    let text = learned("", &calls, &ask(3)).text;
    assert_eq!(lines(&text)[1..], ["allow bind tcp 0.0.0.0:8000-8003"]);
    assert_eq!(lines(&learned("", &calls, &ask(4)).text).len(), 4);
}

#[test]
fn a_process_number_in_a_name_becomes_a_glob_where_asked_for() {
    let at = Addr::Unix(UnixName::path(b"/run/x-812.s").unwrap());
    assert!(call(Op::Bind, at).has_pid_in_name());
    let options = Options {
        pid_globs: true,
        ..Options::default()
    };
    let text = learned("", &[call(Op::Bind, at)], &options).text;
    assert!(
        text.contains("allow bind unix /run/x-[0-9]*.s for"),
        "{text}"
    );
    let at = Addr::Unix(UnixName::path(b"/run/x-000812").unwrap());
    let text = learned("", &[call(Op::Bind, at)], &options).text;
    assert!(text.contains("allow bind unix /run/x-[0-9]* for"), "{text}");
    let at = Addr::Unix(UnixName::path(b"/run/x-18123").unwrap());
    assert!(!call(Op::Bind, at).has_pid_in_name());
}

#[test]
fn an_address_that_no_rule_names_is_said() {
    let unread = Call {
        addr: None,
        ..call(Op::Bind, four([0; 4], 1))
    };
    let alg = Call {
        socket: SocketType::created(38, 5, 0),
        ..unread.clone()
    };
    let other = Call {
        socket: SocketType::created(40, 1, 0),
        ..call(Op::Bind, four([0; 4], 1))
    };
    let learned = learned("", &[unread, alg, other], &Options::default());
    assert_eq!(learned.unsaid, [(0, 0), (0, 1), (0, 2)]);
}

#[test]
fn programs_that_cannot_be_intercepted_may_start_as_they_did() {
    let exec = |is_unseen| Call {
        op: Op::Exec,
        file: "/usr/bin/static".into(),
        is_unseen,
        ..call(Op::Bind, four([0; 4], 1))
    };
    let text = learned("", &[exec(false), exec(true)], &Options::default()).text;
    assert_eq!(
        lines(&text)[1..],
        ["allow exec /usr/bin/static for /usr/sbin/web"]
    );
    let options = Options {
        ops: [Op::Exec].into(),
        ..Options::default()
    };
    let text = learned("", &[exec(false)], &options).text;
    assert_eq!(
        lines(&text),
        [
            "default deny for exec",
            "allow exec /usr/bin/static for /usr/sbin/web"
        ]
    );
}

#[test]
fn a_rule_that_moved_is_taken_over() {
    let moved = Call {
        moved_by: Some("move bind tcp *:80 to loopback:8080".into()),
        ..call(Op::Bind, four([0; 4], 80))
    };
    let text = learned("", &[moved], &Options::default()).text;
    assert_eq!(lines(&text)[1..], ["move bind tcp *:80 to loopback:8080"]);
}
