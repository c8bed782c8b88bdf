//! `docs/log.md` is true: what is rendered has the fields of its tables, and
//! its examples are what is rendered.

use std::collections::BTreeMap;

use bindgate_core::addr::{Addr, RawAddr, UnixName, af};
use bindgate_core::model::{Errno, Generation, Step};
use bindgate_core::policy::{Resolver, Source, View, compile, parse};
use bindgate_core::record::{
    Call, Check, Identity, RULE_DEFAULT, RULE_NONE, Record, Verdict, flag, stage,
};
use bindgate_core::render::{
    Answer, Context, Detail, End, Event, Explained, Holder, HolderState, Predicted, RuleRef,
    RuleText, Tenure, is_shown, json, json_event, text, text_event,
};
use bindgate_core::socket::BindOptions;
use bindgate_core::why::Cause;
use proptest::prelude::*;
use serde_json::Value;

const DOC: &str = include_str!("../../../docs/log.md");

/// Field names with their types, in the order of the tables under a heading.
fn table(heading: &str) -> Vec<(String, String)> {
    let start = DOC.find(heading).expect(heading);
    let mut rows = Vec::new();
    for line in DOC[start..].lines().skip(1) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", name, ty, _, ""] if name.starts_with('`') => {
                rows.push((name.trim_matches('`').to_string(), (*ty).to_string()));
            }
            _ if !rows.is_empty() => break,
            _ => {}
        }
    }
    assert!(!rows.is_empty(), "{heading}");
    rows
}

fn schema() -> BTreeMap<&'static str, Vec<(String, String)>> {
    let every = table("Every object has these fields:");
    let with = |heading| [every.clone(), table(heading)].concat();
    let decision = with("### `decision`, `unseen`, `fault`");
    // What `bindgate ls` says is of no one time.
    let lasting = every.iter().filter(|(name, _)| name != "time").cloned();
    let run = lasting.chain(table("### `run`")).collect();
    BTreeMap::from([
        ("run", run),
        ("ended", with("### `ended`")),
        ("started", with("### `started`")),
        ("isolated", with("### `isolated`")),
        ("published", with("### `published`")),
        ("hosted", with("### `hosted`")),
        ("described", with("### `described`")),
        ("decision", decision.clone()),
        ("unseen", decision.clone()),
        ("fault", decision),
        ("lost", with("### `lost`")),
        ("unused", with("### `unused`")),
        ("end", with("### `end`")),
        ("rule", table("A rule is an object:")),
        ("prediction", table("A prediction is an object:")),
        ("holder", table("A holder is an object;")),
        ("cause", table("A cause is an object:")),
        ("tenure", table("Each element of `history`")),
    ])
}

fn is_of(value: &Value, ty: &str, schema: &BTreeMap<&str, Vec<(String, String)>>) -> bool {
    ty.split(" or ").any(|ty| match ty {
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        "cause" => {
            let all = value["history"].as_array();
            let is_tenure = |tenure| has_fields(tenure, "tenure", schema);
            value.is_object()
                && has_fields(value, "cause", schema)
                && all.is_some_and(|all| all.iter().all(is_tenure))
        }
        "holder" => value.is_object() && has_fields(value, "holder", schema),
        "prediction" => value.is_object() && has_fields(value, "prediction", schema),
        "rule" => value.is_object() && has_fields(value, "rule", schema),
        _ => panic!("the table has a type {ty}"),
    })
}

fn has_fields(value: &Value, kind: &str, schema: &BTreeMap<&str, Vec<(String, String)>>) -> bool {
    let fields = &schema[kind];
    let object = value.as_object().expect("an object");
    assert_eq!(object.len(), fields.len(), "{kind}: {value}");
    for (name, ty) in fields {
        let found = object.get(name).unwrap_or_else(|| panic!("no {name}"));
        assert!(is_of(found, ty, schema), "{name} is no {ty}: {found}");
    }
    true
}

/// One line, one object, of the schema.
fn check(line: &str) -> Value {
    let body = line.strip_suffix('\n').expect("a line feed");
    assert!(!body.contains(char::is_control), "{body:?}");
    let value: Value = serde_json::from_str(body).expect(body);
    assert_eq!(value["v"], 2);
    let event = value["event"].as_str().expect("an event");
    has_fields(&value, event, &schema());
    value
}

fn rendered(record: &Record, context: &Context<'_>) -> (String, String) {
    let (mut j, mut t) = (String::new(), String::new());
    json(&mut j, record, context).unwrap();
    text(&mut t, record, context).unwrap();
    (j, t)
}

prop_compose! {
    fn address()(bytes in proptest::collection::vec(any::<u8>(), 0..=128), family in 0usize..8)
        -> RawAddr
    {
        let mut bytes = bytes;
        let families = [af::UNIX, af::INET, af::INET6, af::NETLINK, af::PACKET, af::VSOCK, 0, 77];
        for (to, from) in bytes.iter_mut().zip(families[family].to_ne_bytes()) {
            *to = from;
        }
        RawAddr::new(&bytes).unwrap()
    }
}

prop_compose! {
    fn record()(
        call in 0..Call::ALL.len(), verdict in 0..Verdict::ALL.len(),
        identity in 0..Identity::ALL.len(), check in 0..Check::ALL.len(),
        numbers in any::<[u16; 5]>(), bits in any::<[u16; 2]>(), errno in 0u16..4096,
        kernel in 0u16..4096, long in any::<[u64; 3]>(), ids in any::<[u32; 4]>(),
        asked in address(), used in address(),
    ) -> Record {
        let mut r = Record::new(Call::ALL[call]);
        r.verdict = Verdict::ALL[verdict];
        r.identity = Identity::ALL[identity];
        r.check = Check::ALL[check];
        [r.domain, r.ty, r.protocol, r.reason, _] = numbers.map(|n| n % 50);
        [r.flags, r.stages] = bits;
        (r.errno, r.kernel) = (errno, kernel);
        [r.time_ns, r.cookie, r.holder] = long;
        [r.pid, r.tid, r.uid, r.device] = ids;
        r.options = BindOptions(bits[0] as u8);
        r.fd = ids[3] as i32;
        (r.asked, r.used) = (asked, used);
        r
    }
}

proptest! {
    #[test]
    fn whatever_a_record_holds_it_is_one_line_of_the_schema(
        record in record(),
        program in proptest::collection::vec(any::<u8>(), 0..40),
        rule in proptest::option::of(any::<(u32, u32)>()),
        colour in any::<bool>(),
    ) {
        let rule = rule.map(|(number, line)| RuleRef {
            number,
            place: Some((&program, line)),
            text: if number % 2 == 0 {
                RuleText::Rule(&program)
            } else {
                RuleText::Default(Some(line as u16))
            },
        });
        let holder = Holder {
            pid: record.pid,
            program: &program,
            uid: Some(record.uid),
            inode: record.tid,
            addr: record.asked,
            state: Some(HolderState::ALL[usize::from(record.errno % 4)]),
            since_ns: record.holder,
            in_run: colour,
            gone: !colour,
            ..Holder::of_cookie(record.cookie)
        };
        let words = String::from_utf8_lossy(&program);
        let history = [Tenure {
            pid: record.pid,
            program: &words,
            addr: record.asked,
            bound_ns: record.time_ns,
            automatic: colour,
            listened: !colour,
            closed_by_ns: record.holder,
        }];
        let why = Explained {
            cause: "held",
            text: &words,
            clause: &words,
            details: &words,
            mends: "",
            unseen: &words,
            history: &history,
        };
        let context = Context {
            why: colour.then_some(&why),
            holder: colour.then_some(&holder),
            program: &program,
            script: program.get(20..).unwrap_or(&[]),
            rule,
            note: rule,
            predicted: Some(Predicted::unknown("the socket's kind was not asked")),
            detail: Detail::Verbose,
            colour,
            utc_offset: 7200,
        };
        let (json, text) = rendered(&record, &context);
        check(&json);
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert!(text.ends_with('\n'));
        let visible = text.replace("\x1b[", "");
        prop_assert!(!visible.trim_end().contains(char::is_control), "{visible:?}");
    }
}

fn inet(ip: [u8; 4], port: u16) -> RawAddr {
    Addr::Inet { ip, port }.write()
}

const TIME: u64 = 1_795_348_981_123_456_000;

fn bind(protocol: u16, ip: [u8; 4], port: u16) -> Record {
    let mut r = Record::new(Call::Bind);
    r.time_ns = TIME;
    (r.pid, r.tid, r.fd) = (812, 812, 6);
    r.domain = af::INET;
    r.ty = if protocol == 6 { 1 } else { 2 };
    r.protocol = protocol;
    r.asked = inet(ip, port);
    r.identity = Identity::Cookie;
    r.cookie = 4711;
    r.stages = stage::HOOK | stage::IDENTIFY | stage::ADDRESS | stage::POLICY | stage::RECORD;
    r
}

fn forwarded(mut r: Record, used: RawAddr) -> Record {
    r.flags |= flag::FORWARDED;
    r.stages |= stage::FORWARD;
    r.used = used;
    r
}

fn rule(number: u32, line: u32, text: &str) -> RuleRef<'_> {
    RuleRef {
        number,
        place: Some((b"web.policy", line)),
        text: RuleText::Rule(text.as_bytes()),
    }
}

fn moved() -> Record {
    let mut r = forwarded(bind(6, [0; 4], 80), inet([127, 0, 0, 1], 8080));
    r.verdict = Verdict::Move;
    r.options = BindOptions(BindOptions::REUSEADDR);
    r
}

const NGINX: Context<'_> = Context {
    program: b"/usr/sbin/nginx",
    script: b"",
    rule: None,
    note: None,
    predicted: None,
    holder: None,
    why: None,
    detail: Detail::Normal,
    colour: false,
    utc_offset: 0,
};

/// The fenced block that begins with `start`.
fn block(start: &str) -> &'static str {
    let at = DOC.find(start).expect(start);
    DOC[at..].split("```").next().expect("a fence")
}

#[test]
fn the_lines_for_people_are_as_documented() {
    let local = [127, 0, 0, 1];
    let mut refused = bind(17, [0; 4], 53);
    (refused.verdict, refused.errno) = (Verdict::Deny, 13);
    refused.check = Check::SecuritySocketBind;
    let mut busy = busy(inet(local, 9000));
    busy.options = BindOptions(BindOptions::REUSEADDR);
    let redis = Holder {
        pid: 731,
        program: b"/usr/bin/redis-server",
        addr: inet(local, 9000),
        state: Some(HolderState::Listening),
        since_ns: TIME - 281 * 1_000_000_000,
        ..Holder::of_cookie(0)
    };
    let mut listen = forwarded(bind(6, [0; 4], 0), inet([0; 4], 40003));
    listen.call = Call::Listen;
    listen.flags |= flag::IMPLICIT;
    let any = |port, options| {
        let addr = Addr::any(af::INET6).unwrap().with_port(port).write();
        let mut r = forwarded(bind(6, [0; 4], 0), addr);
        (r.domain, r.asked, r.options) = (af::INET6, addr, BindOptions(options));
        r
    };
    let mut moved = moved();
    moved.options = BindOptions::default();
    let only = BindOptions::V6ONLY | BindOptions::REUSEADDR;
    let mut lines = String::new();
    for (n, (record, rule, holder)) in [
        (moved, Some(rule(1, 3, "")), None),
        (refused, Some(rule(2, 4, "")), None),
        (busy, None, Some(&redis)),
        (forwarded(bind(6, local, 0), inet(local, 40001)), None, None),
        (listen, None, None),
        (any(80, 0), None, None),
        (any(81, only), None, None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut record = record;
        record.time_ns += n as u64 * 1_000_000;
        let context = Context {
            rule,
            holder,
            ..NGINX
        };
        text(&mut lines, &record, &context).unwrap();
    }
    assert_eq!(lines, block("12:03:01.123 nginx[812]"));
}

#[test]
fn causes_are_as_documented() {
    let history = [Tenure {
        pid: 401,
        program: "apache2",
        addr: inet([127, 0, 0, 1], 80),
        bound_ns: TIME,
        automatic: false,
        listened: true,
        closed_by_ns: 0,
    }];
    let why = Explained {
        cause: "time_wait",
        text: "held at 127.0.0.1:80 by TIME_WAIT: a connection with 127.0.0.1:50000 has ended, \
               and the kernel keeps its address for 43 s more",
        mends: "set SO_REUSEADDR on both sockets before the bind\nwait 43 s",
        history: &history,
        ..Explained::default()
    };
    let context = Context {
        why: Some(&why),
        ..NGINX
    };
    let (line, _) = rendered(&busy(inet([127, 0, 0, 1], 80)), &context);
    check(&line);
    assert!(line.contains(block("\"why\":{").trim_end()), "{line}");
    let low = Explained {
        clause: "port 80 is privileged (net.ipv4.ip_unprivileged_port_start is 1024), and \
                 CAP_NET_BIND_SERVICE is missing",
        ..why
    };
    let context = Context {
        why: Some(&low),
        ..NGINX
    };
    let mut r = busy(inet([0; 4], 80));
    (r.errno, r.kernel, r.check) = (13, 13, Check::InetBind);
    r.time_ns += 9_000_000;
    let (_, text) = rendered(&r, &context);
    assert_eq!(text, block("12:03:01.132 nginx[812]"));
}

#[test]
fn each_cause_is_in_the_document() {
    for cause in Cause::ALL.iter().filter(|c| **c != Cause::Rule) {
        let name = format!("`{}`", cause.name());
        assert!(DOC.contains(&name), "docs/log.md: {name}");
        let page = include_str!("../../../docs/why.md");
        assert!(page.contains(&name), "docs/why.md: {name}");
    }
}

/// A bind to an address that somebody has.
fn busy(asked: RawAddr) -> Record {
    let mut r = forwarded(bind(6, [0; 4], 80), RawAddr::EMPTY);
    (r.asked, r.errno, r.kernel) = (asked, 98, 98);
    r.check = Check::InetCskGetPort;
    r.flags |= flag::INFERRED;
    r
}

#[test]
fn holders_are_as_documented() {
    let apache = Holder {
        pid: 401,
        program: b"/usr/sbin/apache2",
        uid: Some(0),
        inode: 48151,
        addr: inet([0; 4], 80),
        state: Some(HolderState::Listening),
        in_run: false,
        ..Holder::of_cookie(99)
    };
    let said = |holder: &Holder<'_>| {
        let context = Context {
            holder: Some(holder),
            ..NGINX
        };
        let mut r = busy(inet([0; 4], 80));
        r.time_ns += 7_000_000;
        let (line, text) = rendered(&r, &context);
        check(&line);
        (line, text)
    };
    let (line, text) = said(&apache);
    assert!(line.contains(block("\"holder\":{").trim_end()), "{line}");
    assert_eq!(text, block("12:03:01.130 nginx[812]"));
    let stranger = Holder {
        pid: 0,
        program: b"",
        uid: Some(33),
        ..apache
    };
    let (line, text) = said(&stranger);
    assert_eq!(check(&line)["holder"]["pid"], Value::Null);
    assert!(
        text.contains(
            "(held by a process of uid 33 at 0.0.0.0:80, listening, inode 48151, outside this run, "
        ),
        "{text}"
    );
    let gone = Holder {
        gone: true,
        in_run: true,
        state: Some(HolderState::Bound),
        since_ns: TIME - 90_000_000_000_000,
        ..apache
    };
    assert!(
        said(&gone).1.contains(
            "(was held by apache2[401] at 0.0.0.0:80, bound since 2026-11-21 11:03:01, in this run, gone since, "
        ),
        "{}",
        said(&gone).1
    );
    for state in HolderState::ALL {
        let name = format!("`{}`", state.name());
        assert!(DOC.contains(&name), "{name}");
    }
    for (name, _) in BindOptions::NAMES {
        assert!(DOC.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn a_connect_that_does_not_wait_is_in_progress() {
    let mut plain = forwarded(bind(6, [10, 0, 0, 1], 80), RawAddr::EMPTY);
    plain.call = Call::Connect;
    (plain.errno, plain.kernel) = (115, 115);
    plain.check = Check::Connect;
    plain.flags |= flag::INFERRED;
    let mut moved = plain;
    moved.verdict = Verdict::Move;
    moved.used = inet([127, 0, 0, 1], 8080);
    for (record, answer) in [
        (plain, "→ in progress\n"),
        (moved, "→ moved to 127.0.0.1:8080, in progress\n"),
    ] {
        let mut line = String::new();
        text(&mut line, &record, &NGINX).unwrap();
        assert!(line.ends_with(answer), "{line}");
    }
}

#[test]
fn what_listen_binds_on_the_way_is_refused_by_the_default_for_bind() {
    struct Nobody;
    impl Resolver for Nobody {
        fn uid(&self, _: &str) -> Option<u32> {
            None
        }
    }
    let source = Source {
        name: "web.policy",
        text: "\ndefault deny EPERM for bind",
    };
    let (compiled, _) = compile(&parse(&[source]).unwrap(), &Nobody).unwrap();
    let view = View::new(&compiled.words).unwrap();
    let mut listen = bind(6, [0; 4], 0);
    listen.call = Call::Listen;
    let named = |r: &Record| {
        let found = RuleRef::find(&view, RULE_DEFAULT, r).unwrap();
        (found.text.to_string(), found.place)
    };
    assert_eq!(named(&listen), ("default allow".to_string(), None));
    listen.flags |= flag::IMPLICIT;
    let place = Some((&b"web.policy"[..], 2));
    assert_eq!(named(&listen), ("default deny EPERM".to_string(), place));
}

#[test]
fn a_programs_name_does_not_turn_its_line_round() {
    let context = Context {
        program: "/a/\u{202e}x\u{2028}\u{2069}\u{e9}".as_bytes(),
        ..NGINX
    };
    let mut line = String::new();
    text(&mut line, &moved(), &context).unwrap();
    assert!(
        line.contains(" \\xe2\\x80\\xaex\\xe2\\x80\\xa8\\xe2\\x81\\xa9\u{e9}[812] "),
        "{line}"
    );
}

#[test]
fn the_json_examples_are_what_is_rendered() {
    let r = rule(1, 3, "move bind tcp *:80 to loopback:8080");
    let context = Context {
        rule: Some(r),
        ..NGINX
    };
    assert_eq!(
        rendered(&moved(), &context).0,
        block("{\"v\":2,\"event\":\"decision\"")
    );

    let bash = Context {
        program: b"/bin/bash",
        ..NGINX
    };
    let mut unseen = Record::new(Call::Exec);
    (unseen.pid, unseen.tid) = (900, 900);
    unseen.time_ns = 1_795_348_982_000_000_000;
    (unseen.verdict, unseen.errno, unseen.reason) = (Verdict::Deny, 13, 1);
    unseen.check = Check::SecurityBprmCheck;
    unseen.flags = flag::UNSEEN;
    unseen.stages = stage::HOOK | stage::RECORD;
    unseen.asked = Addr::Unix(UnixName::path(b"/usr/bin/busybox").unwrap()).write();
    let mut fault = Record::new(Call::Fault);
    (fault.pid, fault.tid, fault.time_ns) = (900, 901, unseen.time_ns);
    (fault.verdict, fault.reason) = (Verdict::Passed, Call::Bind as u16);
    fault.stages = stage::POLICY | stage::RECORD;
    let both = rendered(&unseen, &bash).0 + &rendered(&fault, &bash).0;
    assert_eq!(both, block("{\"v\":2,\"event\":\"unseen\""));

    let event = |event| {
        let mut line = String::new();
        json_event(&mut line, &event).unwrap();
        line
    };
    let lost = event(Event::Lost {
        time_ns: 1_795_348_983_000_000_000,
        count: 1,
        why: "a process was killed while it wrote them",
    });
    assert_eq!(lost, block("{\"v\":2,\"event\":\"lost\""));
    let started = event(Event::Started {
        time_ns: 1_795_348_981_000_000_000,
        run: 0x1a38_0598_ad11_a372,
        pid: 812,
    });
    assert_eq!(started, block("{\"v\":2,\"event\":\"started\""));
    let addresses = [
        Addr::Inet {
            ip: [127, 0, 0, 1],
            port: 18080,
        },
        Addr::inet6(std::net::Ipv6Addr::LOCALHOST.octets(), 18080),
    ];
    let published = event(Event::Published {
        time_ns: 1_796_049_873_858_391_000,
        run: 0xe3c4_f185_e280_7c50,
        kind: "tcp",
        port: 8080,
        addresses: &addresses,
    });
    assert_eq!(published, block("{\"v\":2,\"event\":\"published\""));
    let described = event(Event::Described {
        time_ns: 1_795_348_983_000_000_000,
        run: 0x6de6_3ad2_f3b3_dd67,
        model: Some(Generation::FreeBsd14_3),
        lines: &["host kernel freebsd 14.3", "host busy tcp *:8080"],
    });
    assert_eq!(described, block("{\"v\":2,\"event\":\"described\""));
    let unused = event(Event::Unused {
        time_ns: 1_795_348_983_000_000_000,
        rule: rule(3, 4, "deny bind tcp *:8080 with EACCES for pyhton3"),
    });
    assert_eq!(unused, block("{\"v\":2,\"event\":\"unused\""));
    let end = event(Event::End(End {
        time_ns: 1_795_348_984_000_000_000,
        run: 1234,
        records: 12,
        allowed: 10,
        denied: 1,
        moved: 1,
        ..End::default()
    }));
    assert_eq!(end, block("{\"v\":2,\"event\":\"end\""));
    for line in [lost, started, published, described, end] {
        check(&line);
    }
}

#[test]
fn predictions_are_as_documented() {
    let mut r = forwarded(bind(6, [0; 4], 8080), RawAddr::EMPTY);
    (r.errno, r.kernel) = (13, 13);
    r.check = Check::InetBind;
    r.flags |= flag::INFERRED;
    let context = Context {
        predicted: Some(Predicted {
            answer: Answer::Ok,
            step: Some(Step::InetBindOk),
            differs: true,
            why: Some(
                "something that the model does not know refused: LSM, Landlock, cgroup, a capability",
            ),
        }),
        ..NGINX
    };
    let (line, text) = rendered(&r, &context);
    check(&line);
    assert!(
        line.contains(block("\"predicted\":{\"answer\":\"ok\"").trim_end()),
        "{line}"
    );
    assert!(
        text.contains(block("predicted: ok; the kernel says").trim_end()),
        "{text}"
    );
    // What agrees is not worth a word, unless asked for.
    let agrees = Predicted {
        answer: Answer::Fails(Errno::EADDRINUSE),
        step: Some(Step::CskConflict),
        differs: false,
        why: None,
    };
    let with = |detail| {
        let context = Context {
            predicted: Some(agrees),
            detail,
            ..NGINX
        };
        rendered(&r, &context).1
    };
    assert!(!with(Detail::Normal).contains("predicted"));
    assert!(with(Detail::Verbose).contains("predicted EADDRINUSE by inet_csk_bind_conflict"));
    let unknown = Context {
        predicted: Some(Predicted::unknown("names of Unix sockets are not followed")),
        ..NGINX
    };
    let (line, text) = rendered(&r, &unknown);
    assert_eq!(check(&line)["predicted"]["answer"], "unknown");
    assert!(!text.contains("predicted"));
}

#[test]
fn every_example_is_of_the_schema() {
    let examples: Vec<_> = DOC.lines().filter(|l| l.starts_with('{')).collect();
    assert!(examples.len() >= 5);
    for line in examples {
        check(&format!("{line}\n"));
    }
}

#[test]
fn names_of_values_are_documented() {
    let names = Call::ALL.iter().map(|c| c.name());
    let names = names.chain(Verdict::ALL.iter().map(|v| v.name()));
    let names = names.chain(Identity::ALL.iter().map(|i| i.name()));
    for name in names.chain(stage::NAMES.iter().map(|s| s.1)) {
        assert!(DOC.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn lines_for_people_say_what_happened() {
    let line = |r: &Record, c: &Context<'_>| {
        let text = rendered(r, c).1;
        text.split_once("] ").unwrap().1.trim_end().to_string()
    };
    let mut r = forwarded(bind(6, [0; 4], 80), inet([0; 4], 80));
    r.flags |= flag::OBSERVED;
    r.verdict = Verdict::Deny;
    assert_eq!(
        line(&r, &NGINX),
        "bind tcp 0.0.0.0:80 → ok, would be refused"
    );

    let mut r = moved();
    r.errno = 98;
    r.holder = 17;
    r.check = Check::VirtualConflict;
    assert_eq!(
        line(&r, &NGINX),
        "bind tcp 0.0.0.0:80 reuseaddr → moved to 127.0.0.1:8080, failed: EADDRINUSE \
         (Address already in use)  (held by socket 17, bindgate_virtual_conflict)"
    );

    let mut r = bind(6, [0; 4], 80);
    r.asked = RawAddr::new(&[2, 0, 0, 80]).unwrap();
    r.errno = 22;
    assert_eq!(
        line(&r, &NGINX),
        "bind tcp malformed:02000050 → failed: EINVAL (Invalid argument)"
    );

    let mut r = Record::new(Call::Socket);
    (r.domain, r.ty, r.protocol) = (af::INET6, 2, 17);
    assert_eq!(line(&r, &NGINX), "socket inet6 dgram → ok");
    (r.ty, r.protocol) = (3, 58);
    assert_eq!(line(&r, &NGINX), "socket inet6 raw icmpv6 → ok");

    let mut r = Record::new(Call::Bind);
    (r.domain, r.ty, r.errno) = (0, 0, 9);
    assert_eq!(
        line(&r, &NGINX),
        "bind fd -1 → failed: EBADF (Bad file descriptor)"
    );

    let mut r = bind(6, [0; 4], 80);
    (r.verdict, r.errno, r.rule) = (Verdict::Deny, 13, RULE_DEFAULT);
    let default = Context {
        rule: Some(RuleRef {
            number: 0,
            place: Some((b"a\x1b.policy", 9)),
            text: RuleText::Default(Some(13)),
        }),
        ..NGINX
    };
    assert_eq!(
        line(&r, &default),
        "bind tcp 0.0.0.0:80 → refused: EACCES (Permission denied)  \
         (default deny EACCES, a\\x1b.policy:9)"
    );
    let coloured = rendered(
        &r,
        &Context {
            colour: true,
            ..default
        },
    )
    .1;
    assert!(coloured.contains("\x1b[31mrefused\x1b[0m"), "{coloured:?}");
}

#[test]
fn detail_decides_what_is_shown() {
    let quiet = |r: &Record| is_shown(r, Detail::Quiet);
    let normal = |r: &Record| is_shown(r, Detail::Normal);
    let socket = Record::new(Call::Socket);
    assert!(!normal(&socket) && is_shown(&socket, Detail::Verbose));
    let failed = Record {
        errno: 97,
        ..socket
    };
    assert!(normal(&failed) && !quiet(&failed));
    let noted = Record { note: 0, ..socket };
    assert!(normal(&noted));
    let by_default = Record {
        rule: RULE_DEFAULT,
        note: RULE_NONE,
        ..socket
    };
    assert!(!normal(&by_default));
    assert!(normal(&bind(6, [0; 4], 80)) && !quiet(&bind(6, [0; 4], 80)));
    assert!(quiet(&moved()));
    let connect = Record::new(Call::Connect);
    assert!(!normal(&connect));
    assert!(quiet(&Record {
        verdict: Verdict::Deny,
        ..connect
    }));
}

#[test]
fn sums_are_said_in_words() {
    let mut line = String::new();
    let end = End {
        records: 3,
        allowed: 1,
        denied: 2,
        left: 1,
        unnamed: 0,
        ..End::default()
    };
    text_event(&mut line, &Event::End(end), false, 3600).unwrap();
    assert_eq!(
        line,
        "01:00:00.000 bindgate: 3 decisions: 1 allowed, 2 refused; 1 process of the run goes on\n"
    );
}
