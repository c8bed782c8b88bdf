//! A difference between two policies is found if there is one, and only then.

mod common;

use bindgate_core::addr::Addr;
use bindgate_core::policy::differ::{Failure, Outcome, differ};
use bindgate_core::policy::*;
use bindgate_core::socket::KindSet;
use common::Users;
use common::generate::{Question, policy, question};
use proptest::collection::vec;
use proptest::prelude::*;

struct All(bool);

impl Times for All {
    fn take(&self, _: u32, uses: Uses) -> bool {
        uses.takes(if self.0 { 0 } else { u32::MAX })
    }
}

fn again(p: &Policy) -> Policy {
    let text = p.to_string();
    let source = Source {
        name: "p",
        text: &text,
    };
    parse(&[source]).unwrap()
}

fn outcome(p: &Policy, view: &View<'_>, q: &Query<'_>, fresh: bool) -> Outcome {
    if !view.is_enforcing() {
        return Outcome::Allow;
    }
    let d = view.decide(q, &All(fresh));
    match d.verb {
        Verb::Allow => Outcome::Allow,
        Verb::Hide => Outcome::Hide,
        Verb::Deny => Outcome::Deny(match errno::name(d.errno) {
            Some(name) => name.to_string(),
            None => d.errno.to_string(),
        }),
        Verb::Move => match &p.rules[d.rule.unwrap() as usize].action {
            Action::Move(to) => Outcome::Move(to.to_string()),
            other => panic!("{other:?}"),
        },
    }
}

fn questions() -> impl Strategy<Value = Vec<Question>> {
    // What is not known, or no address of the socket, is in no cell.
    let known = |q: &Question| {
        let has = |kinds| q.kinds.intersects(kinds);
        let fits = match q.addr {
            _ if q.op == Op::Socket => true,
            Some(Addr::Inet { .. } | Addr::Inet6 { .. }) => has(KindSet::INET | KindSet::INET6),
            Some(Addr::Unix(_)) => has(KindSet::UNIX),
            Some(Addr::Vsock { .. }) => has(KindSet::VSOCK),
            Some(Addr::Netlink { .. }) => has(KindSet::NETLINK),
            _ => false,
        };
        let is_any = |addr: Addr| Some(addr) == Addr::any(addr.family());
        let is_real = q.implicit != Implicit::Connect || q.addr.is_some_and(is_any);
        fits && is_real && !q.program.is_empty() && q.uid.is_some()
    };
    vec(question().prop_filter("all is known", known), 60)
}

fn check(a: &Policy, b: &Policy, questions: &[Question]) -> Result<(), TestCaseError> {
    let (a, b) = (again(a), again(b));
    let all = match differ([&a, &b], &Users, 1024) {
        Ok(all) => all,
        Err(Failure::TooMany) => return Ok(()),
        Err(e) => panic!("{e:?}"),
    };
    let (ca, cb) = (
        compile(&a, &Users).unwrap().0,
        compile(&b, &Users).unwrap().0,
    );
    let (va, vb) = (View::new(&ca.words).unwrap(), View::new(&cb.words).unwrap());
    for q in questions {
        let start = 1024;
        let q = Question { start, ..q.clone() };
        let q = q.query();
        for fresh in [true, false] {
            let both = [outcome(&a, &va, &q, fresh), outcome(&b, &vb, &q, fresh)];
            let is_found = all.iter().any(|d| d.op == q.op && d.outcomes == both);
            prop_assert!(
                both[0] == both[1] || is_found,
                "{a}--\n{b}--\n{q:?}\n{both:?}\n{all:#?}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_question_shows_is_among_the_differences(
        a in policy(false, 0..3),
        b in policy(false, 0..3),
        questions in questions(),
    ) {
        check(&a, &b, &questions)?;
    }

    #[test]
    fn one_rule_less_is_found_where_it_matters(
        a in policy(false, 1..4),
        which in any::<prop::sample::Index>(),
        questions in questions(),
    ) {
        let mut b = a.clone();
        b.rules.remove(which.index(a.rules.len()));
        check(&a, &b, &questions)?;
    }

    #[test]
    fn a_policy_does_not_differ_from_itself(a in policy(false, 0..3)) {
        let a = again(&a);
        match differ([&a, &a.clone()], &Users, 1024) {
            Ok(all) => prop_assert!(all.is_empty(), "{a}{all:#?}"),
            Err(e) => prop_assert_eq!(e, Failure::TooMany),
        }
    }
}
