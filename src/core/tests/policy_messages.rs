//! What is said about policies that are wrong, or probably not meant.

mod common;

use bindgate_core::policy::*;
use common::{Users, compiled, messages};

/// All messages about a text: errors of parsing, or of compiling, or warnings.
fn said(text: &str) -> Vec<Diagnostic> {
    let source = Source {
        name: "web.policy",
        text,
    };
    match parse(&[source]) {
        Err(all) => all,
        Ok(p) => match compile(&p, &Users) {
            Err(all) => all,
            Ok((_, warnings)) => warnings,
        },
    }
}

#[test]
fn a_message_shows_the_place_and_the_way_out() {
    let text = "# web\n\ndeny bind tpc *:80\n\tallow bind tcp *:80   wiht EACCES # no\n";
    let all = said(text);
    assert_eq!(
        messages(&all),
        "web.policy:3:11: error: unknown kind 'tpc'\n\
        \x20 deny bind tpc *:80\n\
        \x20           ^^^ expected a kind (any inet inet6 tcp tcp-only mptcp udp udp-only udplite \
         ping raw unix vsock netlink packet); did you mean 'tcp'?\n\
         web.policy:4:24: error: unknown word 'wiht'\n\
        \x20  allow bind tcp *:80   wiht EACCES # no\n\
        \x20                        ^^^^ expected the end of the line or one of: implicit, times, \
         for, user\n\
         web.policy:4:29: error: unknown word 'EACCES'\n\
        \x20  allow bind tcp *:80   wiht EACCES # no\n\
        \x20                             ^^^^^^ expected the end of the line or one of: implicit, \
         times, for, user\n"
    );
}

#[test]
fn what_is_no_text_is_said_with_its_place() {
    let e = text("a.policy", b"# x\n\ndeny bind unix /\xc3\xa9\xff/x\nallow").unwrap_err();
    assert_eq!(
        messages(&e),
        "a.policy:3:18: error: the byte 0xff is no UTF-8\n\
        \x20 deny bind unix /é\u{fffd}/x\n\
        \x20                  ^ expected text in UTF-8\n"
    );
    assert!(text("a.policy", b"\xff").is_err_and(|e| (e[0].line, e[0].column) == (1, 1)));
    assert_eq!(text("a.policy", b"deny"), Ok("deny"));
}

#[test]
fn a_message_does_not_repeat_a_word_of_any_length() {
    let all = said(&format!("deny bind tcp *:80 {}", "x".repeat(100_000)));
    assert!(messages(&all).len() < 1000);
}

/// Text, then a part of each message and its suggestion.
const TABLE: &[(&str, &[(&str, &str)])] = &[
    // Lines and words.
    ("dney bind tcp *:80", &[("unknown word 'dney'", "deny")]),
    ("reject bind tcp *:80", &[("unknown word 'reject'", "deny")]),
    ("deny", &[("something is missing behind 'deny'", "")]),
    ("# windows\r\ndeny bind tcp *:80\r\n", &[]),
    (
        "# not unix\rdeny bind tcp *:80\rdefault deny\r",
        &[("a carriage return within a line", "")],
    ),
    (
        "deny bnid tcp *:80",
        &[("unknown operation 'bnid'", "bind")],
    ),
    (
        "hide listen tcp *:80",
        &[("'hide' cannot be used with 'listen'", "")],
    ),
    (
        "move socket tcp to *:80",
        &[("'move' cannot be used with 'socket'", "")],
    ),
    ("deny bind", &[("something is missing behind 'bind'", "")]),
    ("deny bind ipv6 *:80", &[("unknown kind 'ipv6'", "inet6")]),
    ("deny bind {tcp,ucp} *:80", &[("unknown kind 'ucp'", "tcp")]),
    (
        "deny bind {tcp,} *:80",
        &[("an empty member in a list", "")],
    ),
    ("deny bind {tcp *:80", &[("the list is not closed", "")]),
    ("deny bind unix \"/a b", &[("the quote is not closed", "")]),
    ("deny socket tcp *:80", &[("socket() has no address", "")]),
    (
        "deny socket exactly tcp",
        &[
            ("unknown kind 'exactly'", ""),
            ("socket() has no address", ""),
        ],
    ),
    // Addresses and ports.
    ("deny bind tcp 80", &[("'80' has no port", "*:80")]),
    (
        "deny bind tcp 10.0.0.1",
        &[("'10.0.0.1' has no port", "10.0.0.1:*")],
    ),
    (
        "deny bind tcp localhost:80",
        &[("'localhost' is not an address", "loopback")],
    ),
    (
        "deny bind tcp 10.0.0:80",
        &[("'10.0.0' is not an address", "")],
    ),
    (
        "deny bind tcp 10.0.0.1/8:80",
        &[("bits set behind its prefix", "10.0.0.0/8")],
    ),
    (
        "deny bind tcp [2001:db8::1/32]:80",
        &[("bits set behind its prefix", "[2001:db8::/32]")],
    ),
    (
        "deny bind tcp 10.0.0.0/33:80",
        &[("'/33' is not the length of a prefix", "")],
    ),
    ("deny bind tcp ::1:80", &[("has no brackets", "[::1]:80")]),
    ("deny bind tcp ::1", &[("has no brackets", "[::1]:*")]),
    (
        "deny bind tcp [fe80::1%2]:80",
        &[("rules do not compare scopes", "")],
    ),
    ("deny bind tcp *:0", &[("port 0 is no port", "auto")]),
    (
        "deny bind tcp *:0-80",
        &[("port 0 is no port", "{auto,1-80}")],
    ),
    ("deny bind tcp *:65536", &[("beyond the last port", "")]),
    ("deny bind tcp *:90-80", &[("the wrong way round", "80-90")]),
    ("deny bind tcp *:any", &[("'any' is not a port", "*")]),
    (
        "deny bind tcp *:resrved",
        &[("'resrved' is not a port", "reserved")],
    ),
    ("deny bind tcp *:http", &[("'http' is not a port", "")]),
    ("deny bind tcp unix:/x", &[("have no Unix address", "")]),
    (
        "deny bind netlink 5",
        &[("no addresses that rules can name", "")],
    ),
    (
        "deny bind vsock hots:80",
        &[("'hots' is not a context id", "host")],
    ),
    ("deny bind vsock 80", &[("'80' has no port", "*:80")]),
    // Modifiers.
    (
        "deny bind tcp *:80 with EADRINUSE",
        &[("unknown error number 'EADRINUSE'", "EADDRINUSE")],
    ),
    (
        "deny bind tcp *:80 with 0",
        &[("unknown error number '0'", "")],
    ),
    (
        "allow bind tcp *:80 with EACCES",
        &[("'with' does not go with 'allow'", "")],
    ),
    (
        "deny bind tcp *:80 with",
        &[("something is missing behind 'with'", "")],
    ),
    ("deny bind tcp *:80 times 0", &[("unknown count '0'", "")]),
    (
        "deny bind tcp *:80 times 1 times 2",
        &[("'times' stands here twice", "")],
    ),
    (
        "deny listen tcp *:80 implicit",
        &[("'implicit' is for bind rules", "")],
    ),
    (
        "deny bind tcp *:80 usr nobody",
        &[
            ("unknown word 'usr'", "user"),
            ("unknown word 'nobody'", ""),
        ],
    ),
    (
        "deny bind tcp *:80 user nobdy",
        &[("there is no user 'nobdy'", "")],
    ),
    // Targets.
    ("move bind tcp *:80", &[("a move without a target", "")]),
    (
        "move bind tcp *:80 to 8080",
        &[("'8080' is not a target", "*:8080")],
    ),
    (
        "move bind tcp *:80 to /run/x",
        &[("'/run/x' is not a target", "unix:/run/x")],
    ),
    (
        "move bind tcp *:80 to loopback:http",
        &[("'http' is not a port to move to", "")],
    ),
    (
        "move bind tcp *:80 to 10.0.0.0/8:80",
        &[("is more than one address", "")],
    ),
    (
        "move bind tcp *:80 to unix:/run/%x",
        &[("unknown placeholder '%x'", "")],
    ),
    (
        "move bind tcp *:60000-65535 to *:+10000",
        &[("which leaves 1-65535", "")],
    ),
    (
        "move bind tcp *:80 to *:-80",
        &[("which leaves 1-65535", "")],
    ),
    ("move bind tcp *:* to *:+1", &[("which leaves 1-65535", "")]),
    (
        "move connect tcp *:80 to loopback:auto",
        &[("connect() needs a port", "")],
    ),
    (
        "move bind unix /x to loopback:*",
        &[("has no port to keep", "")],
    ),
    (
        "move bind unix /x to unix:/y-%p",
        &[("no port and no address to put in", "")],
    ),
    // Settings.
    ("mode enforcing", &[("unknown mode 'enforcing'", "enforce")]),
    (
        "mode observe\nmode observe",
        &[("the mode is set already, at web.policy:1", "")],
    ),
    ("default denny", &[("unknown default 'denny'", "deny")]),
    (
        "default deny for bnid",
        &[("unknown operation 'bnid'", "bind")],
    ),
    (
        "default deny\ndefault allow for listen",
        &[("the default for listen is set already, at web.policy:1", "")],
    ),
    ("host cid 3", &[("virtual hosts are not supported yet", "")]),
    ("host cid 2", &[("unknown context id '2'", "")]),
    ("host cd 3", &[("unknown host setting 'cd'", "cid")]),
    ("host personality bsd", &[("unknown personality 'bsd'", "")]),
    (
        "host address 0.0.0.0",
        &[("cannot be the address of a host", "")],
    ),
    // Warnings.
    (
        "move bind tcp *:80 to [::1]:8080",
        &[("an IPv4 socket cannot be bound to an IPv6 address", "")],
    ),
    ("move bind tcp [::1]:80 to [::1]:8080", &[]),
    ("move bind inet6 *:80 to [::1]:8080", &[]),
    (
        "move bind tcp [::1]:80 to 127.0.0.1:8080",
        &[("IPV6_V6ONLY cannot be bound", "")],
    ),
    (
        "move bind vsock *:80 to 127.0.0.1:8080",
        &[("cannot be bound to an IP address", "")],
    ),
    (
        "move bind tcp *:80 to vsock:2:80",
        &[("only a vsock socket", "")],
    ),
    (
        "move bind raw *:* to unix:/x",
        &[
            ("cannot be replaced by a Unix socket", ""),
            ("move to one Unix name", ""),
        ],
    ),
    (
        "move bind tcp *:{80,81} to loopback:8080",
        &[("move to port 8080", "")],
    ),
    (
        "move bind tcp *:{80,81} to unix:/run/x",
        &[("move to one Unix name", "")],
    ),
    (
        "move bind tcp *:{80,auto} to unix:/run/x-%p",
        &[("%p is 'auto'", "")],
    ),
    (
        "move bind tcp *:80 to loopback:8080\nmove bind tcp *:81 to loopback:8080",
        &[("rule 1 (web.policy:1) moves another address", "")],
    ),
    (
        "move bind tcp *:80 to loopback:8080\nmove bind udp *:81 to loopback:8080",
        &[],
    ),
    (
        "move bind tcp 10.0.0.1:80 to *:8080\nmove bind tcp 10.0.0.2:80 to *:8080",
        &[],
    ),
    (
        "deny bind tcp *:*\ndeny bind tcp 10.0.0.1:80 for /x user root",
        &[("never reached: rule 1 (web.policy:1) comes first", "")],
    ),
    (
        "deny bind tcp *:1-100\ndeny bind tcp *:101-200\nnote bind tcp *:50-150",
        &[("earlier ones always match first", "")],
    ),
    (
        "deny bind tcp 10.0.0.0/8:*\nallow bind tcp 10.1.0.0/16:80",
        &[("never reached: rule 1", "")],
    ),
    (
        "deny bind tcp 10.0.0.0/8:*\ndeny bind udp 10.1.0.0/16:80",
        &[],
    ),
    ("note bind tcp *:*\ndeny bind tcp *:80", &[]),
    (
        "move bind tcp *:reserved to *:+10000\nmove bind tcp *:443 to *:8443 for nginx",
        &[("where ports below 1024 are reserved", "")],
    ),
    ("deny bind tcp *:reserved\ndeny bind tcp *:1023-1024", &[]),
    (
        "default deny for bind\nallow bind tcp [::]:80",
        &[("receives IPv4 as well", "allow bind tcp exactly [::]:80")],
    ),
    (
        "default deny for bind\nallow bind tcp {0.0.0.0,[::]}:80",
        &[],
    ),
    // A server that may bind and not listen.
    (
        "allow bind tcp *:80\ndefault deny",
        &[("refuses every listen()", "default deny for bind")],
    ),
    (
        "default deny EPERM\nmove bind unix /a to unix:/b",
        &[("refuses every listen()", "default deny EPERM for bind")],
    ),
    ("allow bind tcp *:80\ndefault deny for bind, listen", &[]),
    (
        "allow bind tcp *:80\nallow listen tcp *:80\ndefault deny",
        &[],
    ),
    ("allow bind udp *:80\ndefault deny", &[]),
    ("deny bind tcp *:80\ndefault deny", &[]),
    (
        "allow bind tcp *:80",
        &[("this changes nothing", "default deny for bind")],
    ),
    (
        "deny bind inet [::1]:80",
        &[("an IPv4 socket has no IPv6 address", "")],
    ),
    (
        "deny bind tcp *:80 for usr/bin/x",
        &[("a program's path begins with '/'", "")],
    ),
];

#[test]
fn what_is_said_about_single_lines() {
    let mut wrong = String::new();
    for (text, wanted) in TABLE {
        let all = said(text);
        let fits = all.len() == wanted.len()
            && all.iter().zip(*wanted).all(|(d, (message, suggestion))| {
                d.message.contains(message)
                    && d.suggestion.as_deref().unwrap_or("") == *suggestion
                    && (1..=text.lines().count()).contains(&(d.line as usize))
            });
        if !fits {
            wrong += &format!("{text}\n  wanted: {wanted:?}\n{}\n", messages(&all));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn errors_of_all_sources_come_at_once() {
    let all = parse(&[
        Source {
            name: "a",
            text: "x\n",
        },
        Source {
            name: "-r #1",
            text: "deny bind tcp *:99999",
        },
    ])
    .unwrap_err();
    let places: Vec<_> = all
        .iter()
        .map(|d| (d.source_name.as_str(), d.line, d.column))
        .collect();
    assert_eq!(places, [("a", 1, 1), ("-r #1", 1, 17)]);
}

#[test]
fn a_file_that_is_no_policy_gives_a_bounded_list() {
    let all = said(&"what is this\n".repeat(5000));
    assert_eq!(all.len(), 100);
    assert!(all[99].message.contains("and more errors"));
}

#[test]
fn limits_are_said() {
    let all = said(&"deny bind tcp *:80 times 1\n".repeat(1025));
    assert!(
        all[0].message.contains("more than 1024 rules with 'times'"),
        "{}",
        messages(&all)
    );
    let all = said(&"deny bind tcp *:80\n".repeat(65_536));
    assert!(
        all[0].message.contains("more than 65535 rules"),
        "{}",
        all[0]
    );
    let long = format!("deny bind unix /{}*", "?".repeat(600));
    assert!(said(&long)[0].message.contains("at most 511"));
    let many: String = (0..MAX_RULES)
        .map(|i| format!("note socket tcp for /{i}\n"))
        .collect();
    let c = compiled(&many);
    let need = View::new(&c.words).unwrap().conditions() as usize;
    assert_eq!(need, View::MAX_CONDITIONS);
    let wide = format!("deny bind tcp {{{}}}:80", vec!["10.0.0.1"; 1025].join(","));
    assert!(said(&wide)[0].message.contains("a list of 1025 members"));
}

#[test]
fn sources_and_rules_can_be_named_again() {
    let p = parse(&[
        Source {
            name: "web.policy",
            text: "# first\ndefault deny\nallow  bind tcp   *:80 # x",
        },
        Source {
            name: "-r #1",
            text: "deny bind udp *:53 for \"/a b/**\"",
        },
    ])
    .unwrap();
    let (c, _) = compile(&p, &Users).unwrap();
    let v = View::new(&c.words).unwrap();
    assert_eq!(v.rule_source(0), Some((&b"web.policy"[..], 3, 1)));
    assert_eq!(v.rule_source(1), Some((&b"-r #1"[..], 1, 2)));
    assert_eq!(v.rule_source(2), None);
    assert_eq!(v.rule_text(0), Some(&b"allow bind tcp *:80"[..]));
    let text = "deny bind udp *:53 with EACCES for \"/a b/**\"";
    assert_eq!(v.rule_text(1), Some(text.as_bytes()));
    assert_eq!(v.default_source(Op::Bind), Some((&b"web.policy"[..], 2)));
    assert_eq!(v.default_source(Op::Connect), None);
    assert_eq!(v.default_errno(Op::Listen), Some(errno::EACCES));
}

#[test]
fn what_the_view_knows_beforehand() {
    let c = compiled("allow bind tcp *:80 for /x implicit\nnote connect any * user root");
    let v = View::new(&c.words).unwrap();
    assert_eq!(v.mode(), Mode::Observe);
    assert!(v.has_implicit_rules());
    let on = |f: &dyn Fn(Op) -> bool| Op::ALL.map(f);
    assert_eq!(on(&|o| v.has_rules(o)), [false, true, false, true, false]);
    assert_eq!(
        on(&|o| v.needs_program(o)),
        [false, true, false, false, false]
    );
    assert_eq!(on(&|o| v.needs_user(o)), [false, false, false, true, false]);
    for (text, mode) in [
        ("", Mode::Observe),
        ("note bind any *", Mode::Observe),
        ("deny bind any *", Mode::Enforce),
        ("default deny for connect", Mode::Enforce),
        ("mode observe\ndeny bind any *", Mode::Observe),
        ("mode enforce", Mode::Enforce),
    ] {
        let c = compiled(text);
        assert_eq!(View::new(&c.words).unwrap().mode(), mode, "{text}");
    }
}

#[test]
fn a_run_inside_a_run_can_only_tighten() {
    let p = |text| parse(&[Source { name: "p", text }]).unwrap();
    let mut outer = p("default deny\nallow bind tcp *:80");
    outer.nest(p("mode observe\ndefault allow\nallow bind tcp *:81\ndeny bind tcp *:80\nallow connect tcp *:1"));
    assert_eq!(
        outer.to_string(),
        "mode enforce\ndefault deny EACCES for bind\ndefault deny EACCES for listen\n\
         allow bind tcp *:80\ndeny bind tcp *:80 with EACCES\nallow connect tcp *:1\n"
    );
    let mut outer = p("mode enforce\ndeny bind tcp *:80");
    outer.nest(p(
        "mode observe\ndefault deny EPERM for bind\nmove bind tcp *:80 to *:81",
    ));
    assert_eq!(
        outer.to_string(),
        "mode enforce\ndefault deny EPERM for bind\ndeny bind tcp *:80 with EACCES\n\
         move bind tcp *:80 to *:81\n"
    );
}

#[test]
fn a_run_inside_a_run_starts_no_more_programs() {
    let p = |text| parse(&[Source { name: "p", text }]).unwrap();
    let inner = || p("allow exec /x\ndeny exec /y\ndefault allow for exec");
    let nested = |outer| {
        let mut outer = p(outer);
        outer.nest(inner());
        outer.to_string()
    };
    assert_eq!(
        nested("deny bind tcp *:80"),
        "mode enforce\ndeny bind tcp *:80 with EACCES\ndeny exec /y with EACCES\n"
    );
    assert_eq!(
        nested("mode enforce"),
        "mode enforce\ndeny exec /y with EACCES\n"
    );
    let all = "allow exec /x\ndeny exec /y with EACCES\n";
    assert_eq!(
        nested("deny bind tcp *:80\ndefault allow for exec"),
        format!("mode enforce\ndefault allow for exec\ndeny bind tcp *:80 with EACCES\n{all}")
    );
    assert_eq!(nested(""), format!("default allow for exec\n{all}"));
}

#[test]
fn a_rule_about_exec_names_files() {
    let said = |text| messages(&said(text));
    assert_eq!(
        said("allow exec"),
        "web.policy:1:12: error: something is missing behind 'exec'\n\
        \x20 allow exec\n\
        \x20            ^ expected a path like /usr/sbin/nginx, /opt/** or nginx\n"
    );
    assert!(said("allow exec \"\"").contains("an empty glob"));
    assert!(said("move exec /x to /y").contains("'move' cannot be used with 'exec'"));
    assert!(said("hide exec /x").contains("'hide' cannot be used with 'exec'"));
    assert!(said("deny exec /x implicit").contains("'implicit' is for bind rules"));
    assert!(said("deny exec tcp *:80").contains("unknown word '*:80'"));
    assert!(said("deny exec usr/x").contains("a program's path begins with '/'"));
    assert!(said("allow exec /x").contains("no rule refuses an exec"));
    assert_eq!(said("allow exec /x\ndeny bind tcp *:80"), "");
    let text = "deny exec \"/a b\" with ENOENT times 2 for sh user 5\nnote exec with\n";
    let p = parse(&[Source { name: "p", text }]).unwrap();
    assert_eq!(p.to_string(), text.replace("exec with", "exec \"with\""));
    assert_eq!(
        parse(&[Source {
            name: "p",
            text: &p.to_string()
        }])
        .unwrap(),
        p
    );
}

#[test]
fn what_is_not_known_of_an_exec_counts_against_it() {
    let c =
        compiled("allow exec /x\ndeny exec /y for z\ndeny exec /v user 7\nallow exec /w user 7");
    let v = View::new(&c.words).unwrap();
    let caller = Paths {
        program: b"/bin/sh",
        script: &[],
    };
    let none = common::Counters::default();
    let ask =
        |file: &'static [u8], caller, uid| v.exec(&ExecQuery { file, caller, uid }, &none).says;
    let (sh, nobody) = (
        caller,
        Paths {
            program: &[],
            script: &[],
        },
    );
    assert_eq!(ask(b"/x", sh, Some(0)), Says::Allow);
    assert_eq!(ask(b"/y", sh, Some(0)), Says::Nothing);
    assert_eq!(ask(b"/y", nobody, Some(0)), Says::Deny(13));
    assert_eq!(ask(b"/v", sh, None), Says::Deny(13));
    assert_eq!(ask(b"/w", sh, None), Says::Nothing);
    assert_eq!(ask(b"", sh, Some(7)), Says::Deny(13));
}
