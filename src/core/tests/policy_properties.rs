//! What holds for every policy, tried on many.

mod common;

use std::collections::HashMap;
use std::sync::atomic::AtomicU8;

use bindgate_core::addr::Addr;
use bindgate_core::policy::*;
use bindgate_core::record::Words;
use bindgate_core::socket::KindSet;
use common::generate::{PROGRAMS, Question, host_lines, policy, question};
use common::{Counters, Users, messages, oracle, prefixes};
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
    #![proptest_config(cases(250))]

    #[test]
    fn what_is_printed_parses_to_the_same(mut p in policy(true, 0..6), host in host_lines()) {
        p.host = host;
        let text = p.to_string();
        prop_assert_eq!(&again(&text), &p, "{}", text);
    }

    #[test]
    fn the_index_says_what_a_scan_says(p in policy(false, 0..14), qs in vec(question(), 40)) {
        compare(&p, &qs)?;
        for q in &qs {
            closed(&p, q)?;
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

proptest! {
    #![proptest_config(cases(25))]

    /// Enough rules that conditions get cells of their own.
    #[test]
    fn the_index_of_many_rules_says_what_a_scan_says(
        p in policy(false, 40..120),
        qs in vec(question(), 60),
    ) {
        compare(&p, &qs)?;
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// Prefixes in prefixes, and names of more than one key.
    #[test]
    fn the_index_of_prefixes_says_what_a_scan_says(
        p in prefixes::policy(1..40),
        qs in vec(prefixes::question(), 60),
    ) {
        compare(&p, &qs)?;
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    /// Globs, against the plain way of trying everything.
    #[test]
    fn globs_match_what_trying_everything_finds(
        pattern in "([ab/]|\\*|\\*\\*|/\\*\\*/|\\?|\\[a\\]|\\[!a\\]){0,7}",
        text in "[ab/]{0,9}",
    ) {
        let got = glob_matches(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(got, tries(pattern.as_bytes(), 0, text.as_bytes()), "{} {}", pattern, text);
    }
}

fn tries(p: &[u8], i: usize, t: &[u8]) -> bool {
    let rest = &p[i..];
    let one = |ok: bool, n: usize| ok && tries(p, i + n, &t[1..]);
    let first = t.first().copied();
    match rest {
        [] => t.is_empty(),
        [b'*', b'*', ..] => {
            let n = rest.iter().take_while(|b| **b == b'*').count();
            let begins = i == 0 || p[i - 1] == b'/';
            if begins && rest.get(n) == Some(&b'/') {
                // Nothing, or whole components.
                return (0..=t.len())
                    .filter(|k| *k == 0 || t[k - 1] == b'/')
                    .any(|k| tries(p, i + n + 1, &t[k..]));
            }
            (0..=t.len()).any(|k| tries(p, i + n, &t[k..]))
        }
        [b'*', ..] => (0..=t.len())
            .take_while(|k| !t[..*k].contains(&b'/'))
            .any(|k| tries(p, i + 1, &t[k..])),
        [b'?', ..] => one(first.is_some_and(|c| c != b'/'), 1),
        [b'[', b'a', b']', ..] => one(first == Some(b'a'), 3),
        [b'[', b'!', b'a', b']', ..] => one(first.is_some_and(|c| c != b'a' && c != b'/'), 4),
        [c, ..] => one(first == Some(*c), 1),
    }
}

/// Asks the index and the oracle, in turn, with shared counters.
fn compare(p: &Policy, qs: &[Question]) -> Result<(), TestCaseError> {
    // As it is read back, so that rules have lines.
    let p = &again(&p.to_string());
    let (c, warnings) = compile(p, &Users).unwrap_or_else(|e| panic!("{p}\n{}", messages(&e)));
    let unreached: Vec<u32> = warnings
        .iter()
        .filter(|w| w.message.contains("never reached"))
        .map(|w| w.line)
        .collect();
    let plain = View::new(&c.words).unwrap();
    let (mut used, times, cached_times) =
        (HashMap::new(), Counters::default(), Counters::default());
    for q in qs {
        let cache: Vec<AtomicU8> = (0..plain.conditions()).map(|_| AtomicU8::new(0)).collect();
        let want = oracle::decide(p, &q.query(), &mut used);
        for (view, times) in [(plain, &times), (plain.with_cache(&cache), &cached_times)] {
            let d = view.decide(&q.query(), times);
            let got = (d.rule.map(|r| r as usize), d.note.map(|r| r as usize));
            prop_assert_eq!(got, want, "{}\n{:?}", p, q);
            for believed in [q.kinds, KindSet::NONE, qs[0].kinds] {
                foreseen(view, q, believed, &d, &p.to_string())?;
            }
            for r in d.rule.into_iter().chain(d.note) {
                let rule = &p.rules[r as usize];
                prop_assert!(
                    !unreached.contains(&rule.at.line),
                    "{}\n{}\n{:?}",
                    p,
                    rule,
                    q
                );
                let text = rule.to_string();
                prop_assert_eq!(view.rule_text(r).unwrap(), text.as_bytes());
            }
            let deny = match d.rule {
                None if q.implicit == Implicit::Connect => None,
                None => p.defaults.get(q.op).and_then(|d| d.deny),
                Some(_) => None,
            };
            let want = match d.rule.map(|r| &p.rules[r as usize].action) {
                Some(Action::Deny(e)) => (Verb::Deny, *e),
                // In doubt neither place is known to be right.
                Some(Action::Move(_) | Action::Hide) if d.doubt.is_some() => {
                    (Verb::Deny, errno::EACCES)
                }
                Some(Action::Hide) => (Verb::Hide, 0),
                Some(Action::Move(_)) if d.target.is_some() => (Verb::Move, 0),
                // An address of another family has nowhere to go.
                Some(Action::Move(_)) => (Verb::Deny, errno::EADDRNOTAVAIL),
                Some(Action::Allow | Action::Note) => (Verb::Allow, 0),
                None => deny.map_or((Verb::Allow, 0), |e| (Verb::Deny, e)),
            };
            prop_assert_eq!((d.verb, d.errno), want);
        }
    }
    Ok(())
}

/// The outlook by the address's bytes, where it is one that they are known for.
fn by_bytes(view: View<'_>, q: &Query<'_>) -> Option<Outlook> {
    if q.op != Op::Bind {
        return None;
    }
    let raw = q.addr?.write();
    let mut bytes = [0; 32];
    bytes
        .get_mut(..raw.bytes().len())?
        .copy_from_slice(raw.bytes());
    let (words, _) = bytes.as_chunks();
    let words = Words {
        words: [0, 1, 2, 3].map(|i| u64::from_ne_bytes(words[i])),
        len: raw.bytes().len() as u8,
    };
    let outlook = view.ip_outlook(&words, q);
    let is_known = match q.addr? {
        Addr::Inet { .. } => true,
        Addr::Inet6 { .. } => !q.addr?.is_wildcard() || q.addr?.ipv4().is_some(),
        _ => false,
    };
    assert_eq!(outlook.is_some(), is_known, "{q:?}");
    outlook
}

/// What the rules say before the socket and the user are known, against what
/// they say afterwards.
fn foreseen(
    view: View<'_>,
    q: &Question,
    believed: KindSet,
    d: &Decision,
    policy: &str,
) -> Result<(), TestCaseError> {
    let before = Query {
        kinds: believed,
        uid: None,
        ..q.query()
    };
    let mut room = Room::default();
    let candidates = view.candidates(&before, &mut room);
    if let Some(outlook) = by_bytes(view, &before) {
        let other = view.outlook(&before, &candidates);
        prop_assert_eq!(outlook, other, "{}\n{:?}", policy, q);
    }
    let said = match view.outlook(&before, &candidates) {
        Outlook::Open(rule) => {
            if believed == q.kinds {
                let q = q.query();
                let said = view.foreseen(&q, &candidates, rule, &Counters::default());
                let want = view.ruling(&q, &candidates, &Counters::default());
                prop_assert_eq!(said, want, "{}\n{:?}", policy, q);
            }
            return Ok(());
        }
        Outlook::NoRule(said) => {
            prop_assert_eq!(d.rule, None, "{}\n{:?}", policy, q);
            said
        }
        Outlook::Allowed(said) => {
            prop_assert_eq!(d.verb, Verb::Allow, "{}\n{:?} as {:?}", policy, q, believed);
            said
        }
    };
    prop_assert_eq!(
        (said.verb, said.errno),
        (d.verb, d.errno),
        "{}\n{:?}",
        policy,
        q
    );
    prop_assert_eq!(d.note, None, "{}\n{:?} as {:?}", policy, q, believed);
    if believed == q.kinds {
        prop_assert_eq!(
            (said.rule, said.by_default),
            (d.rule, d.by_default),
            "{}\n{:?}",
            policy,
            q
        );
    }
    Ok(())
}

/// A rule in doubt never fails open: what any socket would be refused is
/// refused where nobody may ask which socket it is; the same for the user and
/// the program.
fn closed(p: &Policy, q: &Question) -> Result<(), TestCaseError> {
    let (c, _) = compile(p, &Users).unwrap();
    let view = View::new(&c.words).unwrap();
    let verb = |q: &Query<'_>| view.decide(q, &Counters::default()).verb;
    let sockets = [
        "tcp", "mptcp", "udp", "udplite", "ping", "raw", "unix", "vsock",
    ];
    let kinds = sockets.map(|name| {
        let family = q.addr.map_or(2, |a| a.family());
        common::kinds(name, family)
    });
    let unknown = Query {
        kinds: KindSet::NONE,
        unknown_socket: true,
        ..q.query()
    };
    let worlds = kinds.map(|kinds| Query { kinds, ..q.query() });
    let users = [0, 1000, 65534].map(|uid| Query {
        uid: Some(uid),
        ..q.query()
    });
    let programs = PROGRAMS.iter().filter(|program| !program.is_empty());
    let programs: Vec<_> = programs
        .map(|program| Query {
            program: program.as_bytes(),
            ..q.query()
        })
        .collect();
    for (doubtful, worlds) in [
        (unknown, &worlds[..]),
        (
            Query {
                uid: None,
                ..q.query()
            },
            &users[..],
        ),
        (
            Query {
                program: &[],
                ..q.query()
            },
            &programs[..],
        ),
    ] {
        if worlds.iter().any(|world| verb(world) != Verb::Allow) {
            prop_assert_ne!(verb(&doubtful), Verb::Allow, "{}\n{:?}", p, doubtful);
        }
    }
    Ok(())
}

/// Overlapping rules that hide nothing of each other, so many that a list for
/// each port would be too much.
#[test]
fn too_many_lists_become_one() {
    let text: String = (0..1500)
        .map(|i| {
            format!(
                "deny bind any *:{}-{} user {}\n",
                1000 + i,
                3000 + i,
                i % 50
            )
        })
        .collect();
    let p = again(&text);
    let c = compile_it(&p);
    assert!(c.words.len() < 200_000, "{} words", c.words.len());
    let view = View::new(&c.words).unwrap();
    for port in (0..5000).step_by(7) {
        for uid in [0, 7, 49, 50] {
            for addr in [
                Addr::Inet {
                    ip: [127, 0, 0, 1],
                    port,
                },
                Addr::Vsock {
                    cid: 3,
                    port: u32::from(port),
                    flags: 0,
                },
            ] {
                let q = Query {
                    addr: Some(&addr),
                    uid: Some(uid),
                    ..Query::default()
                };
                let want = oracle::decide(&p, &q, &mut HashMap::new()).0;
                let got = view.decide(&q, &Counters::default()).rule;
                assert_eq!(got.map(|r| r as usize), want, "{addr} {uid}");
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
    #![proptest_config(cases(150))]

    #[test]
    fn broken_words_are_harmless(
        p in policy(false, 1..12),
        breaks in vec((any::<prop::sample::Index>(), any::<u64>(), 0u32..64, any::<bool>()), 1..30),
        qs in vec(question(), 10),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut c = compile_it(&p);
        let sections = 12..24;
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
                    let mut room = Room::default();
                    let candidates = view.candidates(&q.query(), &mut room);
                    let _ = view.outlook(&q.query(), &candidates);
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
