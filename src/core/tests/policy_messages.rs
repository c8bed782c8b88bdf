//! What is said about policies that are wrong, or probably not meant.

mod common;

use bindgate_core::model::Generation;
use bindgate_core::policy::*;
use common::{Users, compiled, messages};
use expect_test::{expect, expect_file};

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
            Ok((_, warnings)) => match p.described(Generation::Linux6_18) {
                Err(all) => all,
                Ok(_) => warnings,
            },
        },
    }
}

#[test]
fn a_message_shows_the_place_and_the_way_out() {
    let text = "# web\n\ndeny bind tpc *:80\n\tallow bind tcp *:80   wiht EACCES # no\n";
    let all = said(text);
    expect![[r#"
        web.policy:3:11: error: unknown kind 'tpc'
          deny bind tpc *:80
                    ^^^ expected a kind (any inet inet6 tcp tcp-only mptcp udp udp-only udplite sctp ping raw unix vsock netlink packet, or proto NUMBER); did you mean 'tcp'?
        web.policy:4:24: error: unknown word 'wiht'
           allow bind tcp *:80   wiht EACCES # no
                                 ^^^^ expected the end of the line or one of: implicit, times, after, every, for, user
        web.policy:4:29: error: unknown word 'EACCES'
           allow bind tcp *:80   wiht EACCES # no
                                      ^^^^^^ expected the end of the line or one of: implicit, times, after, every, for, user
    "#]].assert_eq(&messages(&all));
}

#[test]
fn what_is_no_text_is_said_with_its_place() {
    let e = text("a.policy", b"# x\n\ndeny bind unix /\xc3\xa9\xff/x\nallow").unwrap_err();
    expect![[r#"
        a.policy:3:18: error: invalid UTF-8 (byte 0xff)
          deny bind unix /é�/x
                           ^ expected text in UTF-8
    "#]]
    .assert_eq(&messages(&e));
    assert!(text("a.policy", b"\xff").is_err_and(|e| (e[0].line, e[0].column) == (1, 1)));
    assert_eq!(text("a.policy", b"deny"), Ok("deny"));
}

#[test]
fn a_message_does_not_repeat_a_word_of_any_length() {
    let all = said(&format!("deny bind tcp *:80 {}", "x".repeat(100_000)));
    assert!(messages(&all).len() < 1000);
}

/// Each policy of the page, marked with `> `, followed by what is said about it.
/// A carriage return is written as `␍`. To add one, write it down and run the
/// test with `UPDATE_EXPECT=1`.
#[test]
fn what_is_said_about_single_lines() {
    let page = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/policy_messages.txt"
    ))
    .unwrap();
    let mut out = String::new();
    let (mut policy, mut policies) = (Vec::new(), 0);
    for line in page.lines().chain([""]) {
        if let Some(text) = line.strip_prefix('>') {
            policy.push(text.strip_prefix(' ').unwrap_or(text).replace('␍', "\r"));
            out += &format!("{line}\n");
        } else if !policy.is_empty() {
            let said = messages(&said(&policy.join("\n")));
            out += if said.is_empty() { "nothing\n" } else { &said };
            out += "\n";
            policies += 1;
            policy.clear();
        } else if line.starts_with("# ") {
            out += &format!("{line}\n\n");
        }
    }
    assert!(policies > 90, "only {policies}");
    out.truncate(out.trim_end().len() + 1);
    expect_file!["policy_messages.txt"].assert_eq(&out);
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
        all[0]
            .message
            .contains("more than 1024 rules with 'times', 'after' or 'every'"),
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
    expect![[r#"
        mode enforce
        default deny EACCES for bind
        default deny EACCES for listen
        allow bind tcp *:80
        deny bind tcp *:80 with EACCES
        allow connect tcp *:1
    "#]]
    .assert_eq(&outer.to_string());
    let mut outer = p("mode enforce\ndeny bind tcp *:80");
    outer.nest(p(
        "mode observe\ndefault deny EPERM for bind\nmove bind tcp *:80 to *:81",
    ));
    expect![[r#"
        mode enforce
        default deny EPERM for bind
        deny bind tcp *:80 with EACCES
        move bind tcp *:80 to *:81
    "#]]
    .assert_eq(&outer.to_string());
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
fn a_policy_is_printed_without_control_characters() {
    let text = "deny bind unix \"/a\x1b[31m\" for /x\u{202e}y\ndeny bind unix \"/\\u{7}\"";
    let p = parse(&[Source { name: "p", text }]).unwrap();
    expect![[r#"
        deny bind unix "/a\u{1b}[31m" with EACCES for "/x\u{202e}y"
        deny bind unix "/\u{7}" with EACCES
    "#]]
    .assert_eq(&p.to_string());
    let text = p.to_string();
    assert_eq!(
        parse(&[Source {
            name: "p",
            text: &text
        }])
        .unwrap(),
        p
    );
    let text = r#"deny bind unix "/\\u{1b}" for "\u{}\u{110000}\u{+1}\u{1b""#;
    let p = parse(&[Source { name: "p", text }]).unwrap();
    expect![[r#"
        deny bind unix /\u{1b} with EACCES for \u{}\u{110000}\u{+1}\u{1b
    "#]]
    .assert_eq(&p.to_string());
}

#[test]
fn a_bare_default_that_refuses_gets_hints() {
    let hints = |text| messages(&hints(&parse(&[Source { name: "p", text }]).unwrap()));
    expect![[r#"
        p:1:1: hint: the default refuses netlink sockets, which ip and ss bind; 'allow bind netlink' would not
          default deny
          ^^^^^^^
        p:1:1: hint: the default refuses port 0, which dig, named and other clients bind; 'allow bind {tcp,udp} *:auto' would not
          default deny
          ^^^^^^^
    "#]].assert_eq(&hints("default deny"));
    expect![[r#"
        p:1:1: hint: the default refuses port 0, which dig, named and other clients bind; 'allow bind {tcp,udp} *:auto' would not
          default deny for bind
          ^^^^^^^
    "#]].assert_eq(&hints("default deny for bind\nallow bind netlink"));
    assert_eq!(hints("default deny for bind\nallow bind any *"), "");
    assert_eq!(hints("allow bind tcp *:80"), "");
}

#[test]
fn a_rule_about_exec_is_printed_as_it_was_read() {
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
