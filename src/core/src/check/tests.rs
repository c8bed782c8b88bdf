use super::*;
use crate::addr::af;
use crate::errno::EADDRINUSE;
use crate::policy::{Source, parse};
use alloc::string::ToString;
use alloc::vec;
use core::slice::from_ref;

fn check(lines: &str) -> Check {
    let policy = parse(&[Source {
        name: "t",
        text: lines,
    }]);
    Check::new(&policy.unwrap(), None).unwrap()
}

fn tcp(op: Op, record: usize, ip: [u8; 4], port: u16) -> Call {
    Call {
        record,
        at_ms: record as u64 * 10,
        op,
        socket: SocketType::created(af::INET.into(), 1, 0),
        addr: Some(Addr::Inet { ip, port }),
        v6only: false,
        options: Some(BindOptions(0)),
        errno: 0,
        by_listen: false,
        program: b"/bin/server".to_vec(),
        script: vec![],
        file: vec![],
    }
}

const HOME: [u8; 4] = [127, 0, 0, 1];
const ANY: [u8; 4] = [0; 4];

fn only(check: &Check) -> (State, Why) {
    let outcome = check.results().next().unwrap();
    (outcome.state, outcome.why.clone())
}

/// The line after these calls and the end of the run.
fn after(line: &str, calls: &[Call]) -> (State, Why) {
    let mut check = check(line);
    for call in calls {
        check.call(call);
    }
    check.over(false);
    only(&check)
}

#[test]
fn a_server_is_where_it_should_be_or_somewhere_else() {
    let line = "expect listen tcp 127.0.0.1:8080 within 5s";
    let bind = tcp(Op::Bind, 1, HOME, 8080);
    let listen = tcp(Op::Listen, 2, HOME, 8080);
    assert_eq!(
        after(line, &[bind.clone(), listen]),
        (State::Held, Why::Record(2))
    );
    let wide = tcp(Op::Listen, 2, ANY, 8080);
    assert_eq!(
        after(line, &[wide]),
        (State::Wrong, Why::Instead(Near::Port, 2))
    );
    let other = tcp(Op::Listen, 2, HOME, 8081);
    assert_eq!(
        after(line, &[other]),
        (State::Missing, Why::Instead(Near::Kind, 2))
    );
    assert_eq!(
        after(line, from_ref(&bind)),
        (State::Wrong, Why::Instead(Near::Bound, 1))
    );
    let refused = Call {
        errno: EADDRINUSE,
        ..bind
    };
    assert_eq!(
        after(line, &[refused]),
        (State::Wrong, Why::Instead(Near::Failed, 1))
    );
    assert_eq!(after(line, &[]), (State::Missing, Why::Never));
    let mut late = tcp(Op::Listen, 3, HOME, 8080);
    late.at_ms = 5001;
    assert_eq!(after(line, &[late]), (State::Wrong, Why::Late(3)));
}

#[test]
fn a_forbidden_call_is_forbidden_even_where_it_fails() {
    let line = "forbid bind any 0.0.0.0:*";
    let mut call = tcp(Op::Bind, 1, ANY, 8080);
    call.errno = EADDRINUSE;
    assert_eq!(after(line, &[call]), (State::Wrong, Why::Record(1)));
    let dual = Call {
        socket: SocketType::created(af::INET6.into(), 1, 0),
        addr: Addr::any(af::INET6).map(|a| a.with_port(80)),
        ..tcp(Op::Bind, 2, ANY, 80)
    };
    assert_eq!(after(line, from_ref(&dual)), (State::Wrong, Why::Record(2)));
    let alone = Call {
        v6only: true,
        ..dual
    };
    assert_eq!(after(line, &[alone]), (State::Held, Why::Never));
    let mut raw = tcp(Op::Socket, 1, ANY, 0);
    (raw.socket, raw.addr) = (SocketType::created(af::INET.into(), 3, 1), None);
    assert_eq!(
        after("forbid socket raw", &[raw]),
        (State::Wrong, Why::Record(1))
    );
}

#[test]
fn each_bind_needs_the_option() {
    let line = "expect option reuseaddr on tcp *:8080 before bind";
    let with = Call {
        options: Some(BindOptions(BindOptions::REUSEADDR)),
        ..tcp(Op::Bind, 1, ANY, 8080)
    };
    let without = tcp(Op::Bind, 2, ANY, 8080);
    let unknown = Call {
        options: None,
        ..without.clone()
    };
    assert_eq!(after(line, from_ref(&with)).0, State::Held);
    assert_eq!(
        after(line, &[with.clone(), without]),
        (State::Wrong, Why::WithoutOption(2, true))
    );
    assert_eq!(
        after(line, &[unknown]),
        (State::Wrong, Why::WithoutOption(2, false))
    );
    assert_eq!(after(line, &[]), (State::Missing, Why::Never));
    assert_eq!(
        after("forbid option reuseaddr on tcp *:*", &[with]),
        (State::Wrong, Why::WithOption(1))
    );
}

#[test]
fn a_retry_comes_after_a_failure() {
    let line = "expect retry bind tcp *:8080 after EADDRINUSE";
    let fails = Call {
        errno: EADDRINUSE,
        ..tcp(Op::Bind, 1, HOME, 8080)
    };
    let again = tcp(Op::Bind, 2, HOME, 8080);
    assert_eq!(
        after(line, &[fails.clone(), again.clone()]),
        (State::Held, Why::Record(2))
    );
    assert_eq!(after(line, &[fails]), (State::Wrong, Why::NotAgain(1)));
    assert_eq!(after(line, &[again]), (State::Missing, Why::NothingFailed));
}

#[test]
fn the_end_is_judged_when_it_comes() {
    let end = |how, was_killed| End {
        how,
        at_ms: 7,
        was_told: true,
        was_killed,
    };
    let listener = Listener {
        socket: SocketType::created(af::INET.into(), 1, 0),
        addr: Some(Addr::Inet { ip: ANY, port: 80 }),
        v6only: false,
        program: vec![],
        text: "tcp 0.0.0.0:80 of sleep[7]".to_string(),
    };
    let mut c = check("expect no listener at exit\nexpect exit 0");
    assert!(!c.is_met());
    c.exited(&end(Exit::Status(0), false), &[]);
    assert!(c.holds());
    let mut c = check("expect no listener tcp *:80 at exit");
    c.exited(&end(Exit::Status(0), false), from_ref(&listener));
    assert_eq!(
        only(&c),
        (State::Wrong, Why::Listeners(vec![listener.text.clone()]))
    );
    let mut c = check("expect no listener tcp *:81 at exit");
    c.exited(&end(Exit::Status(0), false), &[listener]);
    assert!(c.holds());
    for (line, how, killed, state) in [
        ("expect exit 0", Exit::Status(1), false, State::Wrong),
        ("expect exit SIGTERM", Exit::Signal(15), false, State::Held),
        ("expect exit 0", Exit::Status(0), true, State::Wrong),
    ] {
        let mut c = check(line);
        c.exited(&end(how, killed), &[]);
        assert_eq!(only(&c).0, state, "{line} {how:?}");
    }
}

#[test]
fn nothing_is_waited_for_where_all_is_settled() {
    let mut c = check("forbid bind any 0.0.0.0:*");
    assert!(!c.is_met());
    c.call(&tcp(Op::Bind, 1, ANY, 80));
    assert!(c.is_met());
    let mut c = check("forbid bind any 0.0.0.0:*\nexpect listen tcp *:80");
    c.call(&tcp(Op::Listen, 1, HOME, 80));
    assert!(c.is_met());
}

#[test]
fn time_runs_out() {
    let mut c = check("expect listen tcp *:80 within 1s\nforbid socket raw within 1s");
    assert_eq!(c.deadline_ms(), Some(1000));
    c.time(1000);
    assert!(!c.is_met());
    c.time(1001);
    assert!(c.is_met() && c.deadline_ms().is_none());
    let first = c.results().next().unwrap();
    assert!(first.timed_out && first.state == State::Missing);
}
