//! What `explain` says, in words.

use std::fmt::Write as _;

use bindgate_core::judge::redirect::Refusal;
use bindgate_core::model::Errno;
use bindgate_core::policy::{Decision, Op, Verb, View};
use bindgate_core::record::RULE_DEFAULT;

/// The name of an error number.
pub fn name_of(errno: u16) -> String {
    Errno::from_linux(i32::from(errno)).map_or_else(|| errno.to_string(), |e| e.name().to_owned())
}

/// What a decision is, and by which rule.
fn told(decision: &Decision, view: &View<'_>) -> String {
    let text = |rule| view.rule_text(rule).map(String::from_utf8_lossy);
    let by = match decision.rule.filter(|r| *r != RULE_DEFAULT).and_then(text) {
        Some(text) => format!("by rule: {text}"),
        None => "by default".to_owned(),
    };
    let what = match decision.verb {
        Verb::Allow => "allowed".to_owned(),
        Verb::Deny => format!("refused with {}", name_of(decision.errno)),
        Verb::Move => match decision.target {
            Some(target) => format!("moved to {target}"),
            None => "moved, but there is no such target".to_owned(),
        },
        Verb::Hide => "hidden: bound where nobody can reach it".to_owned(),
    };
    format!("{what}, {by}")
}

/// The place of the kernel's LSM where the rules stand.
fn place(op: Op) -> &'static str {
    match op {
        Op::Socket => "security_socket_create",
        Op::Bind => "security_socket_bind",
        Op::Listen => "security_socket_listen",
        Op::Connect => "security_socket_connect",
        Op::Exec => "security_bprm_check",
    }
}

/// The policy's line, and one for a note.
pub fn policy(out: &mut String, view: &View<'_>, decision: &Decision, observed: bool, op: Op) {
    let observed = if observed && decision.verb != Verb::Allow {
        "only observed, would be "
    } else {
        ""
    };
    let told = told(decision, view);
    let _ = writeln!(out, "  policy    {observed}{told}   [{}]", place(op));
    if let Some(text) = decision.note.and_then(|n| view.rule_text(n)) {
        let text = String::from_utf8_lossy(text);
        let _ = writeln!(out, "            noted, by rule: {text}");
    }
}

/// The line about a listen that would follow.
pub fn listen(out: &mut String, view: &View<'_>, decision: &Decision) {
    let told = told(decision, view);
    let _ = writeln!(out, "  listen    {told}   [{}]", place(Op::Listen));
}

/// A redirect that cannot be carried out.
pub fn refused(out: &mut String, refusal: Refusal) {
    let errno = name_of(refusal.errno());
    let _ = writeln!(
        out,
        "  redirect  {errno}: {}   [bindgate_move]",
        refusal.text()
    );
    result(out, &errno);
}

/// What the program would get.
pub fn result(out: &mut String, what: &str) {
    let _ = writeln!(out, "  result    {what}");
}
