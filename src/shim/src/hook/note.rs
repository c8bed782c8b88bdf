//! What goes into a record, and what follows from it.

use bindgate_core::infer;
use bindgate_core::policy::{Decision, Doubt, Verb};
use bindgate_core::record::{
    Check, RULE_DEFAULT, RULE_NONE, Record, Verdict, flag, refusal as reason, stage,
};
use bindgate_core::socket::SocketType;

use crate::sys::Errno;

/// What the policy says goes into the record.
pub fn enter(record: &mut Record, decision: &Decision, observe: bool) {
    record.stages |= stage::POLICY;
    record.rule = match decision.rule {
        Some(rule) => rule,
        None if decision.by_default => RULE_DEFAULT,
        None => RULE_NONE,
    };
    record.note = decision.note.unwrap_or(RULE_NONE);
    record.verdict = match decision.verb {
        Verb::Allow => Verdict::Allow,
        Verb::Deny => Verdict::Deny,
        Verb::Move => Verdict::Move,
        Verb::Hide => Verdict::Hide,
    };
    record.reason = match decision.doubt {
        None => 0,
        Some(Doubt::Socket) => reason::UNKNOWN_SOCKET,
        Some(Doubt::User) => reason::UNKNOWN_USER,
        Some(Doubt::Program) => reason::UNKNOWN_PROGRAM,
    };
    if observe && record.verdict != Verdict::Allow {
        record.flags |= flag::OBSERVED;
    }
}

/// What a socket is goes into the record.
pub fn describe(record: &mut Record, ty: SocketType) {
    record.domain = ty.domain;
    record.ty = ty.ty;
    record.protocol = ty.protocol;
}

/// The refusal of a decision, if it is one that holds.
pub fn refusal(record: &mut Record, decision: &Decision, check: Check) -> Option<Errno> {
    if decision.verb != Verb::Deny || record.flags & flag::OBSERVED != 0 {
        return None;
    }
    record.check = check;
    record.errno = decision.errno;
    Some(Errno(decision.errno))
}

/// The kernel's answer goes into the record.
pub fn answered(record: &mut Record, errno: u16) {
    record.stages |= stage::FORWARD;
    record.flags |= flag::FORWARDED;
    record.kernel = errno;
    record.errno = errno;
    if errno != 0 {
        record.check = infer::check(
            record.call,
            SocketType {
                domain: record.domain,
                ty: record.ty,
                protocol: record.protocol,
            },
            errno,
        );
        record.flags |= flag::INFERRED;
    }
}
