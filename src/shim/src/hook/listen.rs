//! listen: `listen` rules, and the bind that the kernel does on its own.

use core::ffi::c_int;
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::policy::{Implicit, Op, Query};
use bindgate_core::record::{Call, Check, Record, flag, stage};
use bindgate_core::shared::move_mark;
use bindgate_core::socket::ty;

use super::bind::{Binding, Plan, begin, judge, note_bind, settle};
use super::note::{answered, describe, enter, refusal};
use super::{brief, errno, finish, outcome, query, refuse, uid};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::{fds, filter};
use crate::session::{self, Run};
use crate::sys::{self, Call as SystemCall, Errno};
use crate::{real, redirect};

/// What listen(2) is about to do.
struct Listening {
    /// The bind that comes with it, on a socket that has no port yet.
    implicit: Option<Binding>,
    /// The judgement of `listen` rules, where there are any.
    judged: Option<Record>,
    refused: Option<Errno>,
}

#[inline(never)]
fn decide_listen(run: &Run, fd: c_int, l: &mut Listening) {
    let allowed = filter::allowed();
    // Where a rule may refuse the bind, what was there before has no say.
    let in_doubt = brief::is_auto_looked_at(run);
    let Some(family) = family_with_ports(fd, in_doubt) else {
        decide_listen_rules(run, fd, l);
        return;
    };
    let is_bound = || match in_doubt {
        true => fds::is_bound_now(allowed, fd),
        false => fds::is_bound(allowed, fd),
    };
    if allowed.may(SystemCall::Getsockname) && !is_bound() {
        let b = l.implicit.insert(begin(Call::Listen, fd, flag::IMPLICIT));
        describe(&mut b.record, fds::get(fd).socket());
        if let Some(asked) = Addr::any(family) {
            b.record.asked = asked.write();
            if run.view.has_rules(Op::Bind) {
                judge(run, fd, &asked, Implicit::Listen, b);
            }
        }
    }
    decide_listen_rules(run, fd, l);
}

/// The family of a stream socket that listen(2) would give a port by itself;
/// `in_doubt`, by the kernel's word.
fn family_with_ports(fd: c_int, in_doubt: bool) -> Option<u16> {
    let cached = fds::get(fd);
    let ty = if cached.is_valid() && !in_doubt {
        cached.socket()
    } else {
        fds::identify(filter::allowed(), fd).ok()?.ty
    };
    (matches!(ty.domain, af::INET | af::INET6) && ty.ty == ty::STREAM).then_some(ty.domain)
}

fn decide_listen_rules(run: &Run, fd: c_int, l: &mut Listening) {
    if !run.view.has_rules(Op::Listen) {
        return;
    }
    let Ok(s) = fds::identify(filter::allowed(), fd) else {
        return;
    };
    // The type and address that the program believes in.
    let ty = redirect::virtual_type(filter::allowed(), run, fd, s.ty);
    let at = match s.is_unread() {
        true => None,
        false => redirect::local_name(filter::allowed(), run, fd).and_then(|raw| raw.read()),
    };
    let at = at.or_else(|| Addr::any(ty.domain));
    if at.is_none() && !s.is_unread() {
        return;
    }
    let record = l.judged.insert(Record::new(Call::Listen));
    record.stages = stage::HOOK | stage::IDENTIFY | stage::ADDRESS;
    record.fd = fd;
    record.cookie = s.cookie;
    record.identity = s.identity;
    describe(record, ty);
    record.asked = at.map_or(RawAddr::EMPTY, |at| at.write());
    let decision = run.view.decide(
        &Query {
            kinds: ty.kinds(),
            addr: at.as_ref(),
            v6only: at.is_some_and(|at| at.family() == af::INET6 && at.is_wildcard())
                && redirect::is_v6only(filter::allowed(), fd),
            uid: uid(run, Op::Listen),
            ..query(run, Op::Listen)
        },
        run,
    );
    enter(record, &decision, run.observe);
    l.refused = refusal(record, &decision, Check::SecuritySocketListen);
}

/// listen(2).
///
/// # Safety
/// As listen(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn listen(fd: c_int, backlog: c_int) -> c_int {
    let next = real::listen();
    let before = errno();
    let Some(run) = session::get() else {
        // SAFETY: no pointers.
        return unsafe { next(fd, backlog) };
    };
    // In one place from first to last: it is large, and a handler's stack small.
    let mut l = Listening {
        implicit: None,
        judged: None,
        refused: None,
    };
    let decided = guard(Call::Listen, stage::POLICY, || {
        decide_listen(run, fd, &mut l);
    });
    let refused = decided
        .and_then(|()| guard(Call::Listen, stage::RECORD, || refuse_listen(run, &mut l)).flatten());
    if let Some(e) = refused {
        return refuse(e);
    }
    // SAFETY: no pointers.
    let ret = unsafe { next(fd, backlog) };
    let errno_after = outcome(ret as isize);
    if decided.is_some() {
        guard(Call::Listen, stage::RECORD, || {
            note_listen(run, fd, &mut l, errno_after);
        });
    }
    finish(ret, before, c_int::from(errno_after))
}

/// Refuses, or places the socket before it listens.
fn refuse_listen(run: &Run, l: &mut Listening) -> Option<Errno> {
    if let (Some(e), Some(record)) = (l.refused, &mut l.judged) {
        emit::emit(run, record);
        return Some(e);
    }
    let b = l.implicit.as_mut()?;
    if let Some(answer) = settle(run, b) {
        l.implicit = None;
        return answer.err();
    }
    if let Plan::Place(placing) = &b.plan {
        // The kernel would choose the address only now; so must we, before it.
        let bound = sys::bind(filter::allowed(), b.record.fd, placing.real.bytes());
        note_bind(run, b, bound.err().map_or(0, |e| e.0));
        l.implicit = None;
        return bound.err();
    }
    None
}

fn note_listen(run: &Run, fd: c_int, l: &mut Listening, errno: u16) {
    if let Some(record) = &mut l.judged {
        answered(record, errno);
        emit::emit(run, record);
    }
    if let Some(b) = &mut l.implicit {
        note_bind(run, b, errno);
    }
    if errno == 0 && run.state.header.moves.load(Relaxed) > 0 {
        redirect::mark(filter::allowed(), run, fd, move_mark::LISTENING, 0);
    }
}
