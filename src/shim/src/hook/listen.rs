//! listen: `listen` rules, and the bind that the kernel does on its own.

use core::ffi::c_int;
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr};
use bindgate_core::judge::{self, Action, Step};
use bindgate_core::policy::Op;
use bindgate_core::record::{Call, Record, flag, stage};
use bindgate_core::shared::move_mark;

use super::bind::{Binding, Plan, begin_here, follow, note_bind, place, settle};
use super::driver::{self, Driver};
use super::note::{answered, describe};
use super::{errno, finish, outcome, refuse, sockopt};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::{fds, filter, name};
use crate::session::{self, Run};
use crate::sys::Errno;
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
    let cached = fds::get(fd);
    if run.passes_bound_listens && cached.is_valid() && cached.is_bound() {
        return;
    }
    let caller = driver::caller(run);
    let believed = cached.is_valid().then(|| cached.socket());
    let mut judge = judge::listen::Listen::new(&caller, believed, cached.is_bound());
    let mut driver = Driver::with_cookie(run, fd);
    while let Step::Need(need) = judge.step() {
        judge.feed(driver.answer(need));
    }
    if let Some((verdict, asked)) = judge.implicit() {
        let b = begin_implicit(&mut l.implicit, fd);
        describe(&mut b.record, fds::get(fd).socket());
        b.record.asked = asked.write();
        if run.view.has_rules(Op::Bind) {
            follow(run, fd, Some(asked), None, verdict, b);
        }
    }
    if let Some((verdict, at)) = judge.verdict() {
        let record = begin_judged(&mut l.judged, fd);
        record.asked = at.map_or(RawAddr::EMPTY, |at| at.write());
        if let Action::Refuse(errno) = verdict.enter(&caller, Op::Listen, at, record) {
            l.refused = Some(Errno(errno));
        }
    }
    if run.is_ruled && l.refused.is_none() {
        on_described(run, fd, l);
    }
}

/// The host that the policy describes is asked: about the bind that comes with it,
/// and whether the socket may listen.
#[inline(never)]
fn on_described(run: &Run, fd: c_int, l: &mut Listening) {
    let allowed = filter::allowed();
    let Some(socket) = redirect::host::socket(allowed, fd).filter(|s| s.ty.is_stream()) else {
        return;
    };
    let is_decided = |b: &Binding| !matches!(b.plan, Plan::Forward);
    if l.implicit.as_ref().is_some_and(is_decided) {
        return;
    }
    if !fds::is_bound(allowed, fd) {
        let Some(any) = Addr::any(socket.ty.domain) else {
            return;
        };
        let b = begin_implicit(&mut l.implicit, fd);
        b.record.asked = any.write();
        let answer = redirect::host::bind(allowed, run, &socket, &mut b.record);
        b.plan = Plan::Done(answer);
        if answer.is_err() {
            return;
        }
    }
    let is_told = l.judged.is_some();
    let record = match &mut l.judged {
        Some(record) => record,
        None => begin_judged(&mut l.judged, fd),
    };
    if let Some(at) = redirect::local_name(allowed, run, fd) {
        record.asked = at;
    }
    l.refused = redirect::host::listen(allowed, run, &socket, record).err();
    if !is_told && l.refused.is_none() {
        // The kernel's answer needs no words, as on any other host.
        l.judged = None;
    }
}

// These two are not inlined: what a large value is copied from is then not on
// the stack of what follows.

#[inline(never)]
fn begin_implicit(to: &mut Option<Binding>, fd: c_int) -> &mut Binding {
    to.insert(begin_here(Call::Listen, fd, flag::IMPLICIT))
}

#[inline(never)]
fn begin_judged(to: &mut Option<Record>, fd: c_int) -> &mut Record {
    let record = to.insert(Record::new(Call::Listen));
    record.stages = stage::HOOK | stage::ADDRESS;
    record.fd = fd;
    record
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
    let is_met = match session::has_block() {
        true => guard(Call::Listen, stage::MODEL, || {
            redirect::block::may_listen(filter::allowed(), run, fd).err()
        }),
        false => None,
    };
    let ret = match is_met.flatten() {
        Some(e) => refuse(e),
        // SAFETY: no pointers.
        None => unsafe { next(fd, backlog) },
    };
    let errno_after = outcome(ret as isize);
    if session::has_block() && errno_after == 0 {
        guard(Call::Listen, stage::MODEL, || {
            redirect::block::named_itself(filter::allowed(), run, fd);
        });
    }
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
    if matches!(b.plan, Plan::Place(_)) {
        // The kernel would choose the address only now; so must we, before it.
        let bound = place(run, b);
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
    if l.judged.is_none() && l.implicit.is_none() && run.state.ring.is_awaited() {
        note_awaited(run, fd, errno);
    }
    // A vsock host and a block count as one move, of nothing in the table.
    let none = u32::from(run.vsock.is_some() || run.block.is_some());
    if errno == 0 && run.state.header.moves.load(Relaxed) > none {
        redirect::mark(filter::allowed(), run, fd, move_mark::LISTENING, 0);
    }
}

/// Somebody waits for a server, or is to be told of all of them: where it listens now.
#[cold]
#[inline(never)]
fn note_awaited(run: &Run, fd: c_int, errno: u16) {
    let allowed = filter::allowed();
    let mut record = Record::new(Call::Listen);
    record.stages = stage::HOOK | stage::ADDRESS;
    record.flags = flag::AWAITED;
    record.fd = fd;
    let real = name::real_local(allowed, fd).unwrap_or(RawAddr::EMPTY);
    record.asked = redirect::local_name(allowed, run, fd).unwrap_or(real);
    if record.asked != real {
        record.used = real;
    }
    if let Ok(mut socket) = fds::verify(allowed, fd) {
        fds::name(allowed, fd, &mut socket);
        (record.cookie, record.identity) = (socket.cookie, socket.identity);
        describe(
            &mut record,
            redirect::virtual_type(allowed, run, fd, socket.ty),
        );
    }
    let is_any6 = matches!(record.asked.read(), Some(Addr::Inet6 { ip, .. }) if ip == [0; 16]);
    (record.options, record.device) = sockopt::completed(fd, fds::get(fd).options(), is_any6);
    answered(&mut record, errno);
    emit::emit(run, &mut record);
}
