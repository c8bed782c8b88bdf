//! What holds for every policy that is learned, tried on many.

mod common;

use bindgate_core::addr::{Addr, af};
use bindgate_core::policy::learn::{Call, Learned, Options, learn};
use bindgate_core::policy::*;
use bindgate_core::socket::SocketType;
use common::generate::{Question, policy, question};
use common::{Counters, Users, messages};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn socket() -> impl Strategy<Value = SocketType> {
    let t = |domain, ty, protocol| SocketType {
        domain,
        ty,
        protocol,
    };
    select(vec![
        t(af::INET, 1, 6),
        t(af::INET, 2, 17),
        t(af::INET, 1, 262),
        t(af::INET, 2, 136),
        t(af::INET, 5, 132),
        t(af::INET, 6, 33),
        t(af::INET, 2, 1),
        t(af::INET, 3, 1),
    ])
}

/// A call of some socket at the address of a question.
fn of_question(q: &Question, socket: SocketType) -> Call {
    let domain = q.addr.map_or(af::INET, |a| a.family());
    let socket = match domain {
        af::INET | af::INET6 => SocketType { domain, ..socket },
        af::NETLINK => SocketType::created(domain.into(), 3, 0),
        domain => SocketType::created(domain.into(), 1, 0),
    };
    Call {
        op: q.op,
        socket,
        addr: q.addr,
        v6only: Some(q.v6only),
        implicit: q.implicit,
        program: q.program.into(),
        script: if q.program.is_empty() { "" } else { q.script }.into(),
        uid: q.uid,
        comment: "a record".into(),
        ..Call::default()
    }
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = (question(), socket()).prop_map(|(q, socket)| of_question(&q, socket));
    vec(call, 0..8)
}

fn again(there: &str, runs: &[Vec<Call>], options: &Options) -> Learned {
    let source = Source {
        name: "there",
        text: there,
    };
    learn(&source, runs, options, &Users).unwrap_or_else(|e| panic!("{there}\n{}", messages(&e)))
}

fn compiled(text: &str) -> (Compiled, Vec<Diagnostic>) {
    let source = Source {
        name: "learned",
        text,
    };
    let parsed = parse(&[source]).unwrap_or_else(|e| panic!("{text}\n{}", messages(&e)));
    compile(&parsed, &Users).unwrap_or_else(|e| panic!("{text}\n{}", messages(&e)))
}

/// Does the policy refuse one of the calls that it was made for?
fn refuses<'c>(text: &str, runs: &'c [Vec<Call>], learned: &Learned) -> Option<&'c Call> {
    let (compiled, _) = compiled(text);
    let view = View::new(&compiled.words).unwrap();
    for (r, run) in runs.iter().enumerate() {
        let times = Counters::default();
        for (c, call) in run.iter().enumerate() {
            let socket = SocketType {
                domain: call.addr.map_or(call.socket.domain, |a: Addr| a.family()),
                ..call.socket
            };
            let query = Query {
                op: call.op,
                kinds: socket.kinds(),
                addr: call.addr.as_ref(),
                v6only: call.v6only == Some(true),
                implicit: call.implicit,
                program: call.program.as_bytes(),
                script: call.script.as_bytes(),
                uid: call.uid,
                unprivileged: Some(false),
                ..Query::default()
            };
            let is_denied = view.decide(&query, &times).verb == Verb::Deny;
            let is_said = learned.unsaid.contains(&(r, c))
                || learned.refused.iter().any(|(a, b, _)| (*a, *b) == (r, c));
            if is_denied && !is_said {
                return Some(call);
            }
        }
    }
    None
}

fn options() -> impl Strategy<Value = Options> {
    let ops = select(vec![
        vec![Op::Bind, Op::Listen],
        vec![Op::Bind],
        vec![Op::Bind, Op::Listen, Op::Socket, Op::Connect],
    ]);
    let ranges = select(vec![None, Some(2), Some(3)]);
    (ops, ranges, any::<bool>()).prop_map(|(ops, ranges, any_program)| Options {
        ops,
        ranges,
        any_program,
        ..Options::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_is_allowed_and_learning_again_adds_nothing(
        there in policy(false, 0..5),
        runs in vec(calls(), 1..3),
        options in options(),
    ) {
        let there = there.to_string();
        let learned = again(&there, &runs, &options);
        prop_assert!(learned.text.starts_with(&there));
        if let Some(call) = refuses(&learned.text, &runs, &learned) {
            return Err(TestCaseError::fail(format!("{}\nrefuses {call:?}", learned.text)));
        }
        let twice = again(&learned.text, &runs, &options);
        prop_assert_eq!(&twice.text, &learned.text);
        prop_assert_eq!(twice.added, 0);
    }

    #[test]
    fn each_rule_is_needed_and_reached(runs in vec(calls(), 1..3), options in options()) {
        let learned = again("", &runs, &options);
        let (_, warnings) = compiled(&learned.text);
        let unreached = warnings.iter().find(|w| w.message.contains("reached"));
        prop_assert!(unreached.is_none(), "{}\n{:?}", learned.text, unreached);
        let lines: Vec<&str> = learned.text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if !line.starts_with("allow") {
                continue;
            }
            let without: String = lines.iter().enumerate()
                .filter(|(j, _)| *j != i)
                .map(|(_, l)| format!("{l}\n"))
                .collect();
            let refused = refuses(&without, &runs, &learned);
            prop_assert!(refused.is_some(), "{}\ndoes not need {}", learned.text, line);
        }
    }
}
