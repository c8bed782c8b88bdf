//! connect: `connect` rules, and the bind that the kernel does on its own.

use core::ffi::c_int;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::policy::{Op, Outlook, Query, Room, Verb};
use bindgate_core::record::{Call, Check, Record, Verdict, flag, refusal, stage};
use libc::{sockaddr, socklen_t};

use super::note::{answered, describe, enter};
use super::{errno, finish, outcome, query, refuse, send, uid};
use crate::faults::guard;
use crate::fds::Socket;
use crate::run::{self, Run};
use crate::sys::Errno;
use crate::{emit, fds, memory, place, process, real};

/// A connect on its way.
struct Connecting {
    record: Record,
    /// Did a `connect` rule have a say, so that there is something to record?
    judged: bool,
    refused: Option<Errno>,
    /// Where it goes instead, and what the program asked for.
    moved: Option<(Socket, Addr, Addr)>,
}

fn decide(run: &Run, fd: c_int, addr: *const sockaddr, len: socklen_t) -> Option<Connecting> {
    if !run.view.has_rules(Op::Connect) {
        return None;
    }
    let raw = memory::copy_addr(addr, len).ok()?;
    // AF_UNSPEC dissolves an association; it goes nowhere.
    if raw.family() == Some(af::UNSPEC) {
        return None;
    }
    let to = raw.read()?;
    let mut record = Record::new(Call::Connect);
    record.stages = stage::HOOK | stage::ADDRESS;
    record.fd = fd;
    record.asked = raw;
    let mut socket = None;
    let mut q = Query {
        kinds: fds::get(fd).socket().kinds(),
        addr: Some(&to),
        ..query(run, Op::Connect)
    };
    let mut room = Room::default();
    let candidates = run.view.candidates(&q, &mut room);
    if !matches!(run.view.outlook(&q, &candidates), Outlook::NoRule(_)) {
        let s = fds::identify(fd).ok()?;
        record.stages |= stage::IDENTIFY;
        record.cookie = s.cookie;
        record.identity = s.identity;
        describe(&mut record, s.ty);
        q.kinds = s.ty.kinds();
        q.uid = uid(run, Op::Connect);
        socket = Some(s);
    }
    let ruling = run.view.ruling(&q, &candidates, run);
    let decision = run.view.decision(&ruling, q.addr, q.kinds);
    enter(&mut record, &decision, run.observe);
    let refused = super::note::refusal(&mut record, &decision, Check::SecuritySocketConnect);
    let mut moved = None;
    if decision.verb == Verb::Move
        && record.flags & flag::OBSERVED == 0
        && let (Some(target), Some(s)) = (decision.target, socket)
    {
        if target.family() == s.ty.domain {
            moved = Some((s, to, target));
        } else {
            record.check = Check::MoveRefused;
            record.reason = refusal::FAMILY;
            record.errno = libc::EAFNOSUPPORT as u16;
            return Some(Connecting {
                record,
                judged: true,
                refused: Some(Errno(libc::EAFNOSUPPORT as u16)),
                moved: None,
            });
        }
    }
    Some(Connecting {
        judged: decision.rule.is_some()
            || decision.note.is_some()
            || record.verdict != Verdict::Allow,
        record,
        refused,
        moved,
    })
}

/// connect(2).
///
/// # Safety
/// As connect(2), but the address may be anything.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    let next = real::connect();
    let before = errno();
    let Some(run) = run::get() else {
        // SAFETY: as the caller's.
        return unsafe { next(fd, addr, len) };
    };
    let mut plan = guard(Call::Connect, stage::POLICY, || decide(run, fd, addr, len)).flatten();
    if let Some(c) = &mut plan
        && let Some(e) = c.refused
    {
        guard(Call::Connect, stage::RECORD, || {
            emit::emit(run, &mut c.record);
        });
        return refuse(e);
    }
    let implicit = guard(Call::Connect, stage::POLICY, || {
        send::implicit(run, Call::Connect, fd, true)
    })
    .flatten();
    let implicit = match send::settle(run, implicit) {
        Ok(implicit) => implicit,
        Err(e) => return refuse(e),
    };
    let target = plan.as_ref().and_then(|c| c.moved).map(|m| m.2.write());
    let ret = match &target {
        Some(to) => {
            let bytes = to.bytes();
            // SAFETY: our own copy of an address.
            unsafe { next(fd, bytes.as_ptr().cast(), bytes.len() as socklen_t) }
        }
        // SAFETY: as the caller's.
        None => unsafe { next(fd, addr, len) },
    };
    let errno_after = outcome(ret as isize);
    guard(Call::Connect, stage::RECORD, || {
        note(run, plan, target, errno_after);
        send::note(run, fd, implicit, true, errno_after);
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
            || errno_after == 0 && is_dissolving(addr, len)
        {
            fds::unbound(fd);
        }
    });
    finish(ret, before, c_int::from(errno_after))
}

/// Was the address, which the kernel has read, of family `AF_UNSPEC`?
fn is_dissolving(addr: *const sockaddr, len: socklen_t) -> bool {
    memory::copy_addr_read_by_kernel(addr, len).is_some_and(|raw| raw.family() == Some(af::UNSPEC))
}

fn note(run: &Run, plan: Option<Connecting>, target: Option<RawAddr>, errno: u16) {
    let Some(mut c) = plan else { return };
    answered(&mut c.record, errno);
    if let (Some((socket, virt, to)), Some(raw)) = (c.moved, target) {
        c.record.used = raw;
        let under_way = [0, libc::EINPROGRESS, libc::EINTR].contains(&c_int::from(errno));
        if under_way && !process::is_under_seccomp() {
            place::connected(run, &socket, &virt, &to, c.record.rule);
        }
    }
    if c.judged {
        emit::emit(run, &mut c.record);
    }
}
