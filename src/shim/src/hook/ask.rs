//! What the rules say of a bind: identify, and policy.

use core::ffi::c_int;

use bindgate_core::addr::{Addr, af};
use bindgate_core::policy::{
    Candidates, Foreseen, Implicit, Op, Outlook, Query, Room, Ruling, Verb,
};
use bindgate_core::record::{RULE_DEFAULT, Words, stage};
use bindgate_core::socket::SocketType;

use super::{query, uid};
use crate::own::fds::{self, Socket};
use crate::own::filter;
use crate::redirect;
use crate::session::Run;

/// What the rules say of a bind.
pub struct Asked {
    /// The stages passed, beyond those before.
    pub stages: u16,
    /// The socket, where it had to be known.
    pub socket: Option<Socket>,
    /// Is it known to be for IPv6 only?
    pub v6only: bool,
    /// The user, where a rule asks for it.
    pub uid: Option<u32>,
    /// The verdict; `None` where the kernel is left to say what is wrong.
    pub ruling: Option<Ruling>,
}

impl Asked {
    /// Before anything is known.
    const NOTHING: Asked = Asked {
        stages: 0,
        socket: None,
        v6only: false,
        uid: None,
        ruling: None,
    };

    /// The rule that let the bind pass, unless there is more to do than that.
    pub fn passed(&self) -> Option<u32> {
        match self.ruling {
            Some(Ruling {
                verb: Verb::Allow,
                note: None,
                rule,
                ..
            }) => Some(rule.unwrap_or(RULE_DEFAULT)),
            _ => None,
        }
    }
}

/// An IP address that a program wants to bind, and what the rules say of it.
pub struct Question {
    /// The address.
    pub asked: Words,
    /// What they say.
    pub answer: Asked,
}

/// Identify, and policy: asks no more of the kernel than the verdict needs.
pub fn ask(run: &Run, fd: c_int, asked: &Addr, implicit: Implicit) -> Asked {
    let q = Query {
        addr: Some(asked),
        implicit,
        ..query(run, Op::Bind)
    };
    let mut room = Room::default();
    let candidates = run.view.candidates(&q, &mut room);
    ask_of(run, fd, asked, q, &candidates)
}

/// As [`ask`], of the rules that fit the address.
#[inline(never)]
pub fn ask_of(
    run: &Run,
    fd: c_int,
    asked: &Addr,
    mut q: Query<'_>,
    candidates: &Candidates<'_>,
) -> Asked {
    let mut answer = Asked::NOTHING;
    let may_be_dual = asked.family() == af::INET6 && asked.is_wildcard();
    let believed = fds::get(fd).socket();
    let mut outlook = if candidates.is_empty() {
        Outlook::NoRule(run.view.by_default(&q))
    } else {
        if believed.domain == asked.family() {
            q.kinds = believed.kinds();
        }
        run.view.outlook(&q, candidates)
    };
    if may_be_dual && outlook != outlook_of_v6only(run, &q) {
        outlook = Outlook::Open(Foreseen::default());
    }
    let foreseen = match outlook {
        Outlook::NoRule(ruling) | Outlook::Allowed(ruling) => {
            answer.stages = stage::POLICY;
            answer.ruling = Some(ruling);
            return answer;
        }
        Outlook::Open(foreseen) => foreseen,
    };
    let Ok(s) = fds::verify(filter::allowed(), fd) else {
        // The kernel will say what is wrong with the descriptor.
        return answer;
    };
    answer.stages = stage::IDENTIFY;
    answer.socket = Some(s);
    if s.ty.domain != asked.family() {
        // The family's own check comes, and refuses; not every family has one.
        if s.is_unread() {
            rule_unread(run, s.ty, &mut answer);
        }
        return answer;
    }
    answer.stages |= stage::POLICY;
    q.uid = uid(run, Op::Bind);
    answer.uid = q.uid;
    answer.ruling = Some(if may_be_dual {
        q.kinds = s.ty.kinds();
        q.v6only = redirect::is_v6only(filter::allowed(), fd);
        answer.v6only = q.v6only;
        // Not the rules of before: which ones fit depends on it.
        let mut room = Room::default();
        let candidates = run.view.candidates(&q, &mut room);
        run.view.ruling(&q, &candidates, run)
    } else if s.ty == believed {
        run.view.foreseen(&q, candidates, foreseen, run)
    } else {
        q.kinds = s.ty.kinds();
        run.view.ruling(&q, candidates, run)
    });
    answer
}

/// The same as [`ask`] of an address that cannot be read. If it is malformed,
/// its family will say so. If its family has no words for addresses here, the
/// rules are asked that are about every address.
#[inline(never)]
pub fn ask_unread(run: &Run, fd: c_int) -> Asked {
    let mut answer = Asked::NOTHING;
    let q = query(run, Op::Bind);
    let mut room = Room::default();
    if run.view.candidates(&q, &mut room).is_empty() && run.view.by_default(&q).verb == Verb::Allow
    {
        return answer;
    }
    let Ok(s) = fds::verify(filter::allowed(), fd) else {
        return answer;
    };
    answer.stages = stage::IDENTIFY;
    answer.socket = Some(s);
    if s.is_unread() {
        rule_unread(run, s.ty, &mut answer);
    }
    answer
}

/// What the rules say of an address without words.
#[inline(never)]
fn rule_unread(run: &Run, ty: SocketType, answer: &mut Asked) {
    let q = Query {
        kinds: ty.kinds(),
        uid: uid(run, Op::Bind),
        ..query(run, Op::Bind)
    };
    let mut room = Room::default();
    let candidates = run.view.candidates(&q, &mut room);
    answer.uid = q.uid;
    answer.stages |= stage::POLICY;
    answer.ruling = Some(run.view.ruling(&q, &candidates, run));
}

/// What the rules would say of `::` if the socket were for IPv6 only.
#[inline(never)]
fn outlook_of_v6only(run: &Run, q: &Query<'_>) -> Outlook {
    let q = Query { v6only: true, ..*q };
    let mut room = Room::default();
    let candidates = run.view.candidates(&q, &mut room);
    run.view.outlook(&q, &candidates)
}
