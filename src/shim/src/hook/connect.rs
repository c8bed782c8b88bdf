//! connect: `connect` rules, and the bind that the kernel does on its own.

use core::ffi::c_int;

use bindgate_core::addr::{RawAddr, af};
use bindgate_core::policy::{Op, Outlook, Query, Room, Verb};
use bindgate_core::record::{Call, Check, Record, Verdict, flag, refusal, stage};
use libc::{sockaddr, socklen_t};

use super::note::{answered, describe, enter};
use super::{errno, finish, outcome, query, refuse, send, uid};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::fds::Socket;
use crate::own::memory::Made;
use crate::own::{fds, filter, memory};
use crate::session::{self, Run};
use crate::sys::Errno;
use crate::{real, redirect};

/// A connect on its way.
struct Connecting {
    record: Record,
    /// Did a `connect` rule have a say, so that there is something to record?
    judged: bool,
    refused: Option<Errno>,
    /// Where it goes instead.
    moved: Option<Moving>,
}

struct Moving {
    socket: Socket,
    to: RawAddr,
}

/// Puts what is to be done into `plan`, if `connect` rules have a say: it is
/// large, and a handler's stack small.
#[inline(never)]
fn decide(
    run: &Run,
    fd: c_int,
    addr: *const sockaddr,
    len: socklen_t,
    plan: &mut Option<Connecting>,
) {
    if !run.view.has_rules(Op::Connect) {
        return;
    }
    let Ok(raw) = memory::copy_addr(filter::allowed(), addr, len, Made::Connect(fd)) else {
        return;
    };
    // AF_UNSPEC dissolves an association; it goes nowhere.
    if raw.family() == Some(af::UNSPEC) {
        return;
    }
    let to = raw.read();
    let mut q = Query {
        kinds: fds::get(fd).socket().kinds(),
        addr: to.as_ref(),
        ..query(run, Op::Connect)
    };
    let mut room = Room::default();
    let candidates = run.view.candidates(&q, &mut room);
    let mut socket = None;
    if to.is_none() || !matches!(run.view.outlook(&q, &candidates), Outlook::NoRule(_)) {
        let Ok(s) = fds::identify(filter::allowed(), fd) else {
            return;
        };
        if to.is_none() && !s.is_unread() {
            // Malformed: its family will say so.
            return;
        }
        q.kinds = s.ty.kinds();
        q.uid = uid(run, Op::Connect);
        socket = Some(s);
    }
    let c = plan.insert(Connecting {
        record: Record::new(Call::Connect),
        judged: true,
        refused: None,
        moved: None,
    });
    let record = &mut c.record;
    record.stages = stage::HOOK | stage::ADDRESS;
    record.fd = fd;
    record.asked = raw;
    if let Some(s) = &socket {
        record.stages |= stage::IDENTIFY;
        record.cookie = s.cookie;
        record.identity = s.identity;
        describe(record, s.ty);
    }
    let ruling = run.view.ruling(&q, &candidates, run);
    let decision = run.view.decision(&ruling, q.addr, q.kinds);
    enter(record, &decision, run.observe);
    c.refused = super::note::refusal(record, &decision, Check::SecuritySocketConnect);
    c.judged =
        decision.rule.is_some() || decision.note.is_some() || record.verdict != Verdict::Allow;
    if decision.verb != Verb::Move || record.flags & flag::OBSERVED != 0 {
        return;
    }
    let (Some(target), Some(socket)) = (&decision.target, socket) else {
        return;
    };
    if target.family() == socket.ty.domain {
        let to = target.write();
        c.moved = Some(Moving { socket, to });
    } else {
        record.check = Check::MoveRefused;
        record.reason = refusal::FAMILY;
        record.errno = libc::EAFNOSUPPORT as u16;
        c.judged = true;
        c.refused = Some(Errno(libc::EAFNOSUPPORT as u16));
    }
}

/// connect(2).
///
/// # Safety
/// As connect(2), but the address may be anything.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    let next = real::connect();
    let before = errno();
    let Some(run) = session::get() else {
        // SAFETY: as the caller's.
        return unsafe { next(fd, addr, len) };
    };
    let mut plan = None;
    let decided = guard(Call::Connect, stage::POLICY, || {
        decide(run, fd, addr, len, &mut plan);
    });
    if decided.is_none() {
        plan = None;
    }
    if let Some(c) = &mut plan
        && let Some(e) = c.refused
    {
        guard(Call::Connect, stage::RECORD, || {
            emit::emit(run, &mut c.record);
        });
        return refuse(e);
    }
    let mut implicit = None;
    let judged = guard(Call::Connect, stage::POLICY, || {
        send::implicit(run, Call::Connect, fd, true, &mut implicit);
    });
    if judged.is_none() {
        implicit = None;
    }
    if let Err(e) = send::settle(run, Call::Connect, &mut implicit) {
        return refuse(e);
    }
    let ret = match plan.as_ref().and_then(|c| c.moved.as_ref()) {
        Some(Moving { to, .. }) => {
            let bytes = to.bytes();
            // SAFETY: our own copy of an address.
            unsafe { next(fd, bytes.as_ptr().cast(), bytes.len() as socklen_t) }
        }
        // SAFETY: as the caller's.
        None => unsafe { next(fd, addr, len) },
    };
    let errno_after = outcome(ret as isize);
    guard(Call::Connect, stage::RECORD, || {
        if let Some(c) = &mut plan {
            note(run, c, errno_after);
        }
        send::note(run, fd, &mut implicit, true, errno_after);
        // A refused TCP connect gives an automatic port back, and so does
        // dissolving the association of a datagram socket.
        let under_way = [
            0,
            libc::EINPROGRESS,
            libc::EALREADY,
            libc::EISCONN,
            libc::EINTR,
        ];
        if !under_way.contains(&c_int::from(errno_after))
            // SAFETY: connect(2) succeeded with this address.
            || errno_after == 0 && unsafe { is_dissolving(addr, len) }
        {
            fds::unbound(fd);
        }
    });
    finish(ret, before, c_int::from(errno_after))
}

/// Was the address of family `AF_UNSPEC`?
///
/// # Safety
/// connect(2) has just succeeded with these `len` bytes at `addr`.
unsafe fn is_dissolving(addr: *const sockaddr, len: socklen_t) -> bool {
    // SAFETY: the kernel has read them.
    let raw = unsafe { memory::copy_addr_of_granted(addr, len) };
    raw.is_some_and(|raw| raw.family() == Some(af::UNSPEC))
}

#[inline(never)]
fn note(run: &Run, c: &mut Connecting, errno: u16) {
    answered(&mut c.record, errno);
    if let Some(moving) = &c.moved {
        c.record.used = moving.to;
        let under_way = [0, libc::EINPROGRESS, libc::EINTR].contains(&c_int::from(errno));
        if under_way && moving.socket.cookie != 0 {
            let asked = c.record.asked;
            redirect::connected(run, &moving.socket, &asked, &moving.to, c.record.rule);
        }
    }
    if c.judged {
        emit::emit(run, &mut c.record);
    }
}
