//! What is fed with bytes that anybody may have written, as functions of bytes.
//!
//! The targets in `fuzz/` call them with what libFuzzer makes up, the tests
//! below with random bytes. None of them may panic, whatever the bytes are.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::addr::{Addr, RawAddr};
use crate::judge::{self, Answer, Caller, Known, Need, Socket, Step};
use crate::model::{Cred, Fd, Generation, Host, Net, Pick, Pointer};
use crate::policy::{
    self, Compiled, Implicit, Op, Query, Resolver, Room, Source, Times, Uses, Verb, View,
};
use crate::reach;
use crate::record::{Record, WORDS};
use crate::render::{self, Context, Detail};
use crate::socket::SocketType;
use crate::uapi::inet_diag;

/// Takes numbers off a run of bytes; zeros after its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn socket(&mut self) -> SocketType {
        let [domain, ty] = [self.byte(), self.byte()].map(u16::from);
        let protocol = u16::from(self.byte());
        SocketType {
            domain,
            ty,
            protocol,
        }
    }

    fn addr(&mut self) -> Option<Addr> {
        let len = usize::from(self.byte() % 129);
        let bytes: Vec<u8> = (0..len).map(|_| self.byte()).collect();
        Addr::read(RawAddr::new(&bytes)?.bytes())
    }
}

struct Users;

impl Resolver for Users {
    fn uid(&self, name: &str) -> Option<u32> {
        (name != "nobody").then_some(1000)
    }
}

/// Counters that run out at once.
struct NoUses;

impl Times for NoUses {
    fn take(&self, counter: u32, _: Uses) -> bool {
        counter.is_multiple_of(2)
    }
}

fn words_of(data: &[u8]) -> Vec<u64> {
    let chunks = data.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        u64::from_le_bytes(word)
    });
    chunks.collect()
}

/// Parses a policy, and prints and compiles what could be parsed.
pub fn policy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let source = |text| Source { name: "fuzz", text };
    let parsed = match policy::parse(&[source(&text)]) {
        Ok(parsed) => parsed,
        Err(errors) => return errors.iter().for_each(|e| drop(e.to_string())),
    };
    let printed = parsed.to_string();
    let again = policy::parse(&[source(&printed)]);
    assert_eq!(again.as_ref(), Ok(&parsed), "{printed}");
    for hint in policy::hints(&parsed) {
        drop(hint.to_string());
    }
    match policy::compile(&parsed, &Users) {
        Ok((compiled, warnings)) => {
            warnings.iter().for_each(|w| drop(w.to_string()));
            let mut bytes = Bytes(data);
            ask(&compiled.words, &mut bytes);
        }
        Err(errors) => errors.iter().for_each(|e| drop(e.to_string())),
    }
}

fn ask(words: &[u64], bytes: &mut Bytes<'_>) {
    let Ok(view) = View::new(words) else { return };
    for op in Op::ALL {
        let addr = bytes.addr();
        let query = Query {
            op,
            kinds: bytes.socket().kinds(),
            addr: addr.as_ref(),
            v6only: bytes.byte() & 1 != 0,
            program: b"/usr/sbin/nginx",
            uid: Some(bytes.number()),
            ..Query::default()
        };
        let decision = view.decide(&query, &NoUses);
        assert!(decision.target.is_some() || decision.verb != Verb::Move);
        for rule in decision.rule.into_iter().chain(decision.note) {
            let _ = (view.rule_source(rule), view.rule_text(rule));
        }
        let mut room = Room::default();
        let candidates = view.candidates(&query, &mut room);
        let _ = view.outlook(&query, &candidates);
        let _ = (view.default_source(op), view.default_errno(op));
    }
}

/// A compiled policy to scribble on.
fn a_policy() -> Compiled {
    let text = "default deny for bind\nallow bind tcp {10.0.0.0/8,[2001:db8::/32]}:1-99 for nginx\n\
                move bind tcp *:80 to unix:/run/%p times 2\nhide bind unix /run/**/x user 5\n\
                deny bind proto 132 *:reserved\nnote connect any *:53\nmove bind tcp *:81 to *:+1";
    let source = Source { name: "fuzz", text };
    let parsed = policy::parse(&[source]).unwrap_or_default();
    let compiled = policy::compile(&parsed, &Users);
    compiled.map_or(Compiled { words: Vec::new() }, |(compiled, _)| compiled)
}

/// Asks a compiled policy in whose words a program has scribbled.
pub fn view(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut words = a_policy().words;
    for _ in 0..bytes.byte() {
        let at = bytes.number() as usize % words.len().max(1);
        let value = u64::from(bytes.number()) << 32 | u64::from(bytes.number());
        if let Some(word) = words.get_mut(at) {
            *word = value;
        }
    }
    ask(&words, &mut bytes);
    ask(&words_of(bytes.0), &mut Bytes(data));
}

/// Reads a record out of the ring, and renders it in every way.
pub fn record(data: &[u8]) {
    let mut words = [0; WORDS];
    for (to, from) in words.iter_mut().zip(words_of(data)) {
        *to = from;
    }
    let Some(record) = Record::from_words(&words) else {
        return;
    };
    for detail in [Detail::Quiet, Detail::Normal, Detail::Verbose] {
        let context = Context {
            program: b"/bin/x",
            detail,
            ..Context::default()
        };
        let (mut text, mut json) = (String::new(), String::new());
        assert!(render::text(&mut text, &record, &context).is_ok());
        assert!(render::json(&mut json, &record, &context).is_ok());
        assert!(text.ends_with('\n') && json.ends_with("}\n"));
        let _ = render::is_shown(&record, detail);
    }
}

/// Attaches the model to words that are not a network's, and makes calls on one
/// that is.
pub fn model(data: &[u8]) {
    let host = Host::loopback(Generation::Linux6_12);
    let mut words = words_of(data);
    if let Some(first) = words.first_mut() {
        *first &= 0xff;
    }
    let _ = Net::attach(&mut words, &host);
    let mut words = alloc::vec![0; Net::words(16)];
    let Some(mut net) = Net::format(&mut words, 16, &host) else {
        return;
    };
    let mut bytes = Bytes(data);
    let mut made = Vec::new();
    while !bytes.0.is_empty() {
        let cred = Cred::user(u32::from(bytes.byte() & 1));
        let which = usize::from(bytes.byte());
        let id = made.get(which % made.len().max(1)).copied();
        match (bytes.byte() % 4, id) {
            (0, _) | (_, None) => {
                let ty = bytes.socket();
                let [domain, kind, protocol] = [ty.domain, ty.ty, ty.protocol].map(i32::from);
                made.extend(net.socket(domain, kind, protocol, &cred).result);
            }
            (1, Some(id)) => {
                net.close(id);
                made.retain(|other| *other != id);
            }
            (_, Some(id)) => {
                let len = usize::from(bytes.byte() % 32);
                let addr: Vec<u8> = (0..len).map(|_| bytes.byte()).collect();
                let pick = Pick::Random(bytes.number());
                let _ = net.bind(Fd::Socket(id), Pointer::to(&addr), &cred, pick);
                let _ = net.getsockname(id);
            }
        }
    }
}

/// Classifies an executable, and examines one whose file system answers at
/// random.
pub fn elf(data: &[u8]) {
    let part = |offset: u64, len: usize| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = data.get(from.min(data.len())..).unwrap_or_default();
        rest.get(..len).unwrap_or(rest)
    };
    let mut classifier = reach::Classifier::new(reach::Host::THIS);
    for step in 0.. {
        match classifier.want() {
            reach::Want::Nothing(class) => {
                let _ = (class.why(), class.advice());
                break;
            }
            reach::Want::Bytes { offset, len } => classifier.feed(part(offset, len)),
        }
        assert!(step < 1000, "the classifier never ends");
    }
    let mut bytes = Bytes(data);
    let mut examiner = reach::Examiner::new(reach::Stance {
        enforces: bytes.byte() & 1 != 0,
        allows: bytes.byte() & 1 != 0,
        searched: bytes.byte() & 1 != 0,
        looks_ahead: bytes.byte() & 1 != 0,
    });
    for step in 0.. {
        let reach::Step::Need(need) = examiner.step() else {
            break;
        };
        let known = bytes.byte() & 1 != 0;
        examiner.feed(match need {
            reach::Need::Status(_) => reach::Answer::Status(known.then(|| reach::Status {
                is_regular: bytes.byte() & 1 != 0,
                mode: bytes.number(),
                uid: u32::from(bytes.byte()),
                gid: u32::from(bytes.byte()),
            })),
            reach::Need::Read { offset, len, .. } => {
                reach::Answer::Bytes(known.then(|| part(offset, len)))
            }
            reach::Need::Ids => {
                let [uid, euid, gid, egid] = [0; 4].map(|_: u8| u32::from(bytes.byte() & 1));
                reach::Answer::Ids(reach::Ids {
                    uid,
                    euid,
                    gid,
                    egid,
                })
            }
            reach::Need::Argument(_) => reach::Answer::Argument(known.then_some(b"x")),
            reach::Need::Rule { .. } => reach::Answer::Ruling(Default::default()),
            _ => reach::Answer::Bool(known),
        });
        assert!(step < 1000, "the examiner never ends");
    }
}

/// Reads an answer of sock_diag.
pub fn inet_diag(data: &[u8]) {
    let count = inet_diag::messages(data).count();
    assert!(count <= data.len() / 16);
}

/// Decides calls whose facts contradict each other.
pub fn judge(data: &[u8]) {
    let mut bytes = Bytes(data);
    let words = a_policy().words;
    let Ok(view) = View::new(&words) else { return };
    let caller = Caller {
        view: &view,
        observe: bytes.byte() & 1 != 0,
        unprivileged_start: 1024,
        program: if bytes.byte() & 1 != 0 {
            b"/bin/nginx"
        } else {
            b""
        },
        script: b"",
    };
    let believed = (bytes.byte() & 1 != 0).then(|| bytes.socket());
    let addr = bytes.addr();
    let (mut bind, mut connect, mut create, mut listen) = (
        judge::bind::bind(&caller, addr.as_ref(), None, Implicit::No, believed),
        judge::connect::connect(&caller, addr.as_ref(), believed),
        judge::socket::create(&caller, bytes.socket()),
        judge::listen::Listen::new(&caller, believed, bytes.byte() & 1 != 0),
    );
    drive(&mut bytes, &mut bind, judge::Call::step, |m, a| m.feed(a));
    drive(&mut bytes, &mut connect, judge::Call::step, |m, a| {
        m.feed(a)
    });
    drive(&mut bytes, &mut create, judge::Call::step, |m, a| m.feed(a));
    drive(
        &mut bytes,
        &mut listen,
        judge::listen::Listen::step,
        |m, a| m.feed(a),
    );
    let _ = (bind.verdict(), connect.verdict(), create.verdict());
    let _ = (listen.implicit(), listen.verdict());
}

/// Answers a machine's needs at random, until it is done.
fn drive<M>(
    bytes: &mut Bytes<'_>,
    machine: &mut M,
    step: fn(&mut M) -> Step,
    feed: impl Fn(&mut M, Answer<'_>),
) {
    // A counter that is used up sends it through the rules once more.
    for _ in 0..100 {
        let Step::Need(need) = step(machine) else {
            return;
        };
        let known = bytes.byte() & 1 != 0;
        let name = bytes.addr();
        let answer = match need {
            Need::Socket if known => Answer::Socket(Socket {
                known: match bytes.byte() % 3 {
                    0 => Known::Nearly,
                    1 => Known::Exactly,
                    _ => Known::AsCarrier,
                },
                ..Socket::described(bytes.socket())
            }),
            Need::Socket if bytes.byte() & 1 != 0 => Answer::NoSocket,
            Need::Socket => Answer::UnknownSocket,
            Need::Protocol => Answer::Protocol(known.then(|| u16::from(bytes.byte()))),
            Need::Bound => Answer::Bound(known.then(|| bytes.byte() & 1 != 0)),
            Need::Name => Answer::Name(known.then(|| (bytes.socket(), name.as_ref()))),
            Need::V6Only => Answer::V6Only(known.then(|| bytes.byte() & 1 != 0)),
            Need::User => Answer::User(known.then(|| bytes.number())),
            Need::Privilege { .. } => Answer::Unprivileged(known.then(|| bytes.byte() & 1 != 0)),
            Need::Use { .. } => Answer::Use(known),
        };
        feed(machine, answer);
    }
    panic!("the machine never ends");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn config() -> ProptestConfig {
        ProptestConfig {
            cases: 300,
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn a_policy_of_any_bytes(data in vec(any::<u8>(), 0..300)) {
            policy(&data);
        }

        #[test]
        fn a_policy_of_its_own_words(
            words in vec(prop::sample::select(WORDS_OF_THE_LANGUAGE), 0..40),
        ) {
            policy(words.join(" ").replace(" \n ", "\n").as_bytes());
        }

        #[test]
        fn a_view_of_scribbled_words(data in vec(any::<u8>(), 0..600)) {
            view(&data);
        }

        #[test]
        fn a_record_of_any_words(data in vec(any::<u8>(), 0..(8 * WORDS))) {
            record(&data);
        }

        #[test]
        fn a_model_of_any_words(data in vec(any::<u8>(), 0..600)) {
            model(&data);
        }

        #[test]
        fn an_executable_of_any_bytes(data in vec(any::<u8>(), 0..600), is_elf: bool) {
            let mut data = data;
            if is_elf {
                data.splice(0..data.len().min(7), *b"\x7fELF\x02\x01\x01");
            }
            elf(&data);
        }

        #[test]
        fn an_answer_of_sock_diag_of_any_bytes(data in vec(any::<u8>(), 0..600), len in 0u32..600) {
            let mut data = data;
            inet_diag(&data);
            data.splice(0..data.len().min(4), len.to_ne_bytes());
            inet_diag(&data);
        }

        #[test]
        fn a_judge_of_any_answers(data in vec(any::<u8>(), 0..600)) {
            judge(&data);
        }
    }

    const WORDS_OF_THE_LANGUAGE: &[&str] = &[
        "allow",
        "deny",
        "move",
        "hide",
        "note",
        "default",
        "mode",
        "host",
        "bind",
        "listen",
        "connect",
        "socket",
        "exec",
        "tcp",
        "udp",
        "any",
        "unix",
        "vsock",
        "proto",
        "132",
        "*",
        "*:80",
        "*:auto",
        "{1.2.3.4,[::1]}:{80,81-90}",
        "[2001:db8::/32]:*",
        "loopback:1-99",
        "/x/**",
        "@a",
        "exactly",
        "to",
        "loopback:8080",
        "*:+1",
        "unix:/run/%p-%a-%t",
        "with",
        "EPERM",
        "times",
        "after",
        "every",
        "3",
        "for",
        "nginx",
        "script:/x",
        "user",
        "root",
        "implicit",
        "all",
        ":80",
        ">80",
        "\n",
        "\n",
        "\n",
        "#",
        "\"",
        "\"a b\"",
        "enforce",
        "cid",
        "0.0.0.0:80",
        "3:5000",
    ];
}
