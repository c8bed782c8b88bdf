//! What holds for every policy, tried on many.

mod common;

use std::collections::HashMap;
use std::sync::atomic::AtomicU8;

use bindgate_core::policy::*;
use common::generate::{host_lines, policy, question};
use common::{Counters, Users, messages, oracle};
use proptest::collection::vec;
use proptest::prelude::*;

fn cases(n: u32) -> ProptestConfig {
    let n = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(n);
    ProptestConfig {
        cases: n,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn again(text: &str) -> Policy {
    let source = Source {
        name: "printed",
        text,
    };
    parse(&[source]).unwrap_or_else(|e| panic!("{text}\n{}", messages(&e)))
}

fn compile_it(p: &Policy) -> Compiled {
    compile(p, &Users)
        .unwrap_or_else(|e| panic!("{p}\n{}", messages(&e)))
        .0
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn what_is_printed_parses_to_the_same(mut p in policy(true, 0..6), host in host_lines()) {
        p.host = host;
        let text = p.to_string();
        prop_assert_eq!(&again(&text), &p, "{}", text);
    }

    #[test]
    fn the_index_says_what_a_scan_says(p in policy(false, 0..14), qs in vec(question(), 40)) {
        let c = compile_it(&p);
        let plain = View::new(&c.words).unwrap();
        let caches: Vec<Vec<AtomicU8>> =
            qs.iter().map(|_| (0..plain.conditions()).map(|_| AtomicU8::new(0)).collect()).collect();
        let (mut used, times, cached_times) = (HashMap::new(), Counters::default(), Counters::default());
        for (q, cache) in qs.iter().zip(&caches) {
            let want = oracle::decide(&p, &q.query(), &mut used);
            for (view, times) in [(plain, &times), (plain.with_cache(cache), &cached_times)] {
                let d = view.decide(&q.query(), times);
                let got = (d.rule.map(|r| r as usize), d.note.map(|r| r as usize));
                prop_assert_eq!(got, want, "{}\n{:?}", p, q);
                if let Some(addr) = &q.addr && q.op != Op::Socket && (d.rule.is_some() || d.note.is_some()) {
                    prop_assert!(view.may_match(q.op, addr), "{}\n{:?}", p, q);
                }
                if let Some(rule) = d.rule {
                    let source = view.rule_text(rule).unwrap();
                    prop_assert_eq!(std::str::from_utf8(source).unwrap(), p.rules[rule as usize].to_string());
                    let action = &p.rules[rule as usize].action;
                    let same = match (action, d.verb) {
                        (Action::Deny(e), Verb::Deny) => *e == d.errno,
                        // An address of another family has nowhere to go.
                        (Action::Move(_), Verb::Move | Verb::Deny) => true,
                        (a, v) => matches!((a, v), (Action::Allow, Verb::Allow) | (Action::Hide, Verb::Hide)),
                    };
                    prop_assert!(same, "{action:?} {d:?}");
                }
            }
        }
    }

    #[test]
    fn any_text_parses_or_is_refused(text in "\\PC*", bytes in vec(any::<u8>(), 0..200)) {
        let bytes = String::from_utf8_lossy(&bytes);
        for text in [text.as_str(), &bytes] {
            let _ = parse(&[Source { name: "x", text }]);
        }
    }

    #[test]
    fn almost_policies_parse_or_are_refused(
        p in policy(true, 1..4),
        edits in vec((any::<prop::sample::Index>(), select_edit()), 1..6),
    ) {
        let mut text: Vec<char> = p.to_string().chars().collect();
        for (at, edit) in edits {
            let at = at.index(text.len() + 1);
            match edit {
                Some(c) => text.insert(at, c),
                None if at < text.len() => { text.remove(at); }
                None => {}
            }
        }
        let text: String = text.into_iter().collect();
        match parse(&[Source { name: "x", text: &text }]) {
            Ok(p) => {
                // Whatever was understood is printed so that it is understood.
                prop_assert_eq!(&again(&p.to_string()), &p);
                let _ = compile(&p, &Users);
            }
            Err(all) => {
                prop_assert!(!all.is_empty());
                for d in all {
                    let _ = d.to_string();
                }
            }
        }
    }
}

fn select_edit() -> impl Strategy<Value = Option<char>> {
    prop_oneof![
        1 => Just(None),
        2 => prop::sample::select("{}[]:,*-+%\"\\#/ \t\n0123456789auto@.\u{2028}".chars().collect::<Vec<_>>()).prop_map(Some),
        1 => any::<char>().prop_map(Some),
    ]
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn broken_words_are_harmless(
        p in policy(false, 1..12),
        breaks in vec((any::<prop::sample::Index>(), any::<u64>(), 0u32..64, any::<bool>()), 1..30),
        qs in vec(question(), 10),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut c = compile_it(&p);
        let sections = 12..23;
        for (at, word, shift, whole) in breaks {
            // Half of them in the header and the sections' places.
            let i = if shift % 2 == 0 { at.index(c.words.len()) } else { at.index(sections.end) };
            c.words[i] = if whole { word } else { c.words[i] ^ 1 << shift };
        }
        for words in [&c.words[..], &c.words[..cut.index(c.words.len())]] {
            let Ok(view) = View::new(words) else { continue };
            let n = view.conditions();
            let cache: Vec<AtomicU8> = (0..n.min(100_000)).map(|i| AtomicU8::new((i * 7) as u8)).collect();
            for view in [view, view.with_cache(&cache)] {
                for q in &qs {
                    let d = view.decide(&q.query(), &Counters::default());
                    for rule in d.rule.into_iter().chain(d.note).chain([0, 1, u32::MAX]) {
                        let _ = (view.rule_source(rule), view.rule_text(rule));
                    }
                    let _ = q.addr.map(|a| view.may_match(q.op, &a));
                    let _ = (view.default_source(q.op), view.default_errno(q.op), view.mode());
                }
            }
        }
    }

    #[test]
    fn random_words_are_no_policy(words in vec(any::<u64>(), 0..100)) {
        prop_assert!(View::new(&words).is_err());
    }
}
