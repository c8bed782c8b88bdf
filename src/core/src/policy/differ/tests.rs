use super::*;
use crate::policy::{Source, parse};

struct Nobody;
impl Resolver for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
}

fn policy(name: &str, text: &str) -> Policy {
    parse(&[Source { name, text }]).unwrap()
}

/// Each difference in a line.
fn lines(a: &str, b: &str) -> Vec<String> {
    let (a, b) = (policy("a", a), policy("b", b));
    let all = differ([&a, &b], &Nobody, 1024).unwrap();
    all.iter()
        .map(|d| {
            let [x, y] = &d.outcomes;
            let kinds = d.kinds.join(",");
            let who = if d.who.is_empty() {
                String::new()
            } else {
                format!(" ({})", d.who)
            };
            format!(
                "{} {kinds} {}{who}: {x} / {y}",
                d.op.name(),
                d.what.join(" ")
            )
        })
        .collect()
}

#[test]
fn the_same_said_otherwise_is_no_difference() {
    let same = [
        (
            "allow bind tcp *:80-81",
            "allow bind tcp *:81\nallow bind {tcp-only,mptcp} *:80",
        ),
        (
            "deny bind tcp loopback:80",
            "deny bind tcp {127.0.0.0/8,[::1]}:80",
        ),
        (
            "allow bind tcp 10.0.0.0/8:1",
            "allow bind tcp {10.0.0.0/9,10.128.0.0/9}:1",
        ),
        (
            "allow bind unix /run/a\nallow bind unix /run/**",
            "allow bind unix /run/**",
        ),
        (
            "allow bind tcp *:80 for nginx",
            "allow bind tcp *:80 for /**/nginx",
        ),
    ];
    for (a, b) in same {
        let with = |text: &str| format!("{text}\ndefault deny\n");
        let (a, b) = (with(a), with(b));
        assert_eq!(lines(&a, &b), [""; 0], "{a}{b}");
    }
}

#[test]
fn what_differs_is_said_in_terms() {
    let deny = "default deny for bind\n";
    for (a, b, expected) in [
        (
            "allow bind tcp *:80",
            "",
            "bind tcp *:80: allow / deny with EACCES",
        ),
        (
            "allow bind tcp 127.0.0.1:8000-8009",
            "allow bind tcp 127.0.0.1:8005",
            "bind tcp 127.0.0.1:{8000-8004,8006-8009}: allow / deny with EACCES",
        ),
        (
            "allow bind tcp exactly [::]:80",
            "allow bind tcp [::]:80",
            "bind inet6 tcp [::]:80 dual-stack: allow / deny with EACCES",
        ),
        (
            "allow bind udp 10.0.0.0/8:*",
            "allow bind udp 10.1.0.0/16:*",
            "bind udp 10.0.0.0/16:* 10.2.0.0-10.255.255.255:*: allow / deny with EACCES",
        ),
        (
            "allow bind unix /run/**",
            "allow bind unix /run/*",
            "bind unix unix:/run/**: allow / deny with EACCES",
        ),
        (
            "allow bind tcp *:80 for nginx",
            "allow bind tcp *:80 for /usr/sbin/nginx",
            "bind tcp *:80 (for nginx): allow / deny with EACCES",
        ),
        (
            "allow bind vsock *:5",
            "",
            "bind vsock *:5: allow / deny with EACCES",
        ),
        (
            "allow bind tcp *:80",
            "move bind tcp *:80 to *:81",
            "bind tcp *:80: allow / move to *:81",
        ),
        (
            "allow bind any *:auto",
            "allow bind tcp *:auto",
            "bind udp,sctp,ping,raw,inet other,inet6 other,vsock *:auto: allow / deny with EACCES",
        ),
    ] {
        let all = lines(&format!("{a}\n{deny}"), &format!("{b}\n{deny}"));
        assert!(
            all.iter().any(|line| line == expected),
            "{a} / {b}\n{all:#?}"
        );
    }
    let exec = lines("deny exec nc for sh\n", "");
    let expected = "exec  nc (for sh): deny with EACCES / allow".to_string();
    assert!(exec.contains(&expected), "{exec:#?}");
    let sockets = lines("deny socket raw", "");
    assert_eq!(sockets[0], "socket raw *: deny with EACCES / allow");
    let users = lines("deny bind tcp *:1 user 33", "");
    assert_eq!(users[0], "bind tcp *:1 (user 33): deny with EACCES / allow");
}

#[test]
fn an_example_and_the_rules_are_named() {
    let a = policy(
        "a",
        "default deny\nallow listen tcp 10.0.0.5:80 for /usr/bin/web\n",
    );
    let b = policy("b", "default deny\n");
    let all = differ([&a, &b], &Nobody, 1024).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        all[0].example,
        "listen tcp-only 10.0.0.5:80 by /usr/bin/web"
    );
    assert_eq!(all[0].places, [Some("rule 1, a:2".to_string()), None]);
}
