//! socket, socketpair, bind: how a socket comes to be, and to have a name.

use core::ffi::c_int;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::infer;
use bindgate_core::policy::{Decision, Implicit, Op, Query, Verb};
use bindgate_core::record::{
    Call, Check, Identity, RULE_DEFAULT, RULE_NONE, Record, Verdict, flag, stage,
};
use bindgate_core::socket::SocketType;
use libc::{sockaddr, socklen_t};

use super::{absent, brief, errno, finish, outcome, query, refuse, uid};
use crate::faults::guard;
use crate::place::{self, Placing};
use crate::run::{self, Run};
use crate::sys::{self, Errno};
use crate::{emit, fds, memory, real};

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

// --- socket, socketpair ----------------------------------------------------

fn decide_create(run: &Run, ty: SocketType, record: &mut Record) -> Option<Errno> {
    record.stages = stage::HOOK;
    describe(record, ty);
    if !run.view.has_rules(Op::Socket) {
        return None;
    }
    let decision = run.view.decide(
        &Query {
            kinds: ty.kinds(),
            uid: uid(run, Op::Socket),
            ..query(run, Op::Socket)
        },
        run,
    );
    enter(record, &decision, run.observe);
    refusal(record, &decision, Check::SecuritySocketCreate)
}

/// socket(2), for libc's name and for `syscall(SYS_socket, …)`.
///
/// # Safety
/// As socket(2).
pub unsafe fn socket_as(domain: c_int, ty: c_int, protocol: c_int, flags: u16) -> c_int {
    let Some(next) = real::socket() else {
        return absent();
    };
    let Some(run) = run::get() else {
        // SAFETY: as the caller's.
        return unsafe { next(domain, ty, protocol) };
    };
    let made = SocketType::created(domain, ty, protocol);
    if brief::is_socket(run) {
        emit::prepare(run);
        // SAFETY: as the caller's.
        let fd = unsafe { next(domain, ty, protocol) };
        return brief::socket(run, fd, made, flags);
    }
    // SAFETY: as the caller's.
    unsafe { judged_socket(run, next, (domain, ty, protocol), made, flags) }
}

/// socket(2), with rules to be asked.
///
/// # Safety
/// `next` is the next library's socket(2).
#[inline(never)]
unsafe fn judged_socket(
    run: &Run,
    next: unsafe extern "C-unwind" fn(c_int, c_int, c_int) -> c_int,
    (domain, ty, protocol): (c_int, c_int, c_int),
    made: SocketType,
    flags: u16,
) -> c_int {
    let before = errno();
    let mut record = Record::new(Call::Socket);
    record.flags = flags;
    let plan = guard(Call::Socket, stage::POLICY, || {
        decide_create(run, made, &mut record)
    });
    if let Some(Some(e)) = plan {
        guard(Call::Socket, stage::RECORD, || emit::emit(run, &mut record));
        return refuse(e);
    }
    // SAFETY: as the caller's.
    let fd = unsafe { next(domain, ty, protocol) };
    let after = errno();
    if fd >= 0 {
        fds::made(fd, made);
    }
    if plan.is_some() {
        guard(Call::Socket, stage::RECORD, || {
            record.fd = fd;
            answered(&mut record, if fd < 0 { after as u16 } else { 0 });
            emit::emit(run, &mut record);
        });
    }
    finish(fd, before, after)
}

/// socketpair(2).
///
/// # Safety
/// As socketpair(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn socketpair(
    domain: c_int,
    ty: c_int,
    protocol: c_int,
    pair: *mut c_int,
) -> c_int {
    let Some(next) = real::socketpair() else {
        return absent();
    };
    let before = errno();
    let Some(run) = run::get() else {
        // SAFETY: as the caller's.
        return unsafe { next(domain, ty, protocol, pair) };
    };
    let made = SocketType::created(domain, ty, protocol);
    let mut record = Record::new(Call::Socketpair);
    let plan = guard(Call::Socketpair, stage::POLICY, || {
        decide_create(run, made, &mut record)
    });
    if let Some(Some(e)) = plan {
        guard(Call::Socketpair, stage::RECORD, || {
            emit::emit(run, &mut record);
        });
        return refuse(e);
    }
    // SAFETY: as the caller's.
    let ret = unsafe { next(domain, ty, protocol, pair) };
    let after = errno();
    if ret == 0 {
        // SAFETY: the kernel has just written two descriptors there.
        let (a, b) = unsafe { (pair.read_unaligned(), pair.add(1).read_unaligned()) };
        for fd in [a, b] {
            fds::made(fd, made);
            // A connected pair needs no name: nothing will be bound for it.
            fds::bound(fd);
        }
    }
    if plan.is_some() {
        guard(Call::Socketpair, stage::RECORD, || {
            answered(&mut record, if ret < 0 { after as u16 } else { 0 });
            emit::emit(run, &mut record);
        });
    }
    finish(ret, before, after)
}

// --- bind ------------------------------------------------------------------

/// A bind on its way: what is decided and what is to be done.
pub struct Binding {
    /// What is known so far.
    pub record: Record,
    /// What is to be done.
    pub plan: Plan,
    /// Was the address read before the kernel read it?
    addr_read: bool,
}

impl Binding {
    /// A bind that another call brings about.
    pub fn implicit(record: Record) -> Binding {
        Binding {
            record,
            plan: Plan::Forward,
            addr_read: true,
        }
    }
}

/// What is to be done with a bind.
// There is no heap to put the larger one on.
#[allow(clippy::large_enum_variant)]
pub enum Plan {
    /// Let the kernel do what the program asked.
    Forward,
    /// Refuse.
    Refuse(Errno),
    /// Bind to another address than the program asked.
    Place(Placing),
    /// It is done already; the answer for the program.
    Done(Result<(), Errno>),
}

/// A bind that nothing is known of but its descriptor.
pub fn begin(call: Call, fd: c_int, flags: u16) -> Binding {
    let mut record = Record::new(call);
    record.stages = stage::HOOK;
    record.flags = flags;
    record.fd = fd;
    let cached = fds::get(fd);
    if cached.is_valid() {
        record.identity = Identity::Cached;
        describe(&mut record, cached.socket());
    }
    Binding {
        record,
        plan: Plan::Forward,
        addr_read: false,
    }
}

fn decide_bind(run: &Run, addr: *const sockaddr, len: socklen_t, b: &mut Binding) {
    if !run.view.has_rules(Op::Bind) {
        return;
    }
    let Ok(raw) = memory::copy_addr(addr, len) else {
        return;
    };
    b.record.stages |= stage::ADDRESS;
    b.record.asked = raw;
    b.addr_read = true;
    name_family(&mut b.record);
    if let Some(asked) = b.record.asked.read() {
        judge(run, b.record.fd, &asked, Implicit::No, b);
    }
}

/// Identify, policy, and what follows from it: the middle of the house, for
/// explicit and implicit binds alike.
#[inline(never)]
pub fn judge(run: &Run, fd: c_int, asked: &Addr, implicit: Implicit, b: &mut Binding) {
    let record = &mut b.record;
    let may_match = run.view.may_match(Op::Bind, asked);
    if !may_match && run.view.default_errno(Op::Bind).is_none() {
        record.stages |= stage::POLICY;
        record.rule = RULE_DEFAULT;
        return;
    }
    let mut question = Query {
        kinds: fds::get(fd).socket().kinds(),
        addr: Some(asked),
        implicit,
        ..query(run, Op::Bind)
    };
    let mut socket = None;
    if may_match {
        let Ok(s) = fds::identify(fd) else {
            // The kernel will say what is wrong with the descriptor.
            return;
        };
        record.stages |= stage::IDENTIFY;
        record.cookie = s.cookie;
        record.identity = s.identity;
        describe(record, s.ty);
        if s.ty.domain != asked.family() {
            // The family's own check comes, and refuses.
            return;
        }
        question.kinds = s.ty.kinds();
        question.uid = uid(run, Op::Bind);
        if let Some(uid) = question.uid {
            record.uid = uid;
        }
        if asked.family() == af::INET6 && asked.is_wildcard() {
            question.v6only = place::is_v6only(fd);
        }
        socket = Some(s);
    }
    let decision = run.view.decide(&question, run);
    enter(record, &decision, run.observe);
    if let Some(e) = refusal(record, &decision, Check::SecuritySocketBind) {
        b.plan = Plan::Refuse(e);
        return;
    }
    if record.flags & flag::OBSERVED != 0 {
        return;
    }
    if let (Verb::Move | Verb::Hide, Some(s)) = (decision.verb, socket) {
        b.plan = place::plan(run, fd, &s, asked, &decision, question.v6only, record);
    }
}

/// Carries the plan out where that is not the plain forward. `Some` is the
/// answer for the program.
#[inline(never)]
pub fn settle(run: &Run, b: &mut Binding) -> Option<Result<(), Errno>> {
    let answer = match &b.plan {
        Plan::Forward | Plan::Place(_) => return None,
        Plan::Refuse(e) => Err(*e),
        Plan::Done(answer) => *answer,
    };
    b.record.errno = answer.err().map_or(0, |e| e.0);
    if answer.is_ok() {
        fds::bound(b.record.fd);
    }
    emit::emit(run, &mut b.record);
    Some(answer)
}

/// The forward has come back.
#[inline(never)]
pub fn note_bind(run: &Run, b: &mut Binding, errno: u16) {
    let fd = b.record.fd;
    let ok = errno == 0;
    answered(&mut b.record, errno);
    if ok {
        fds::bound(fd);
    }
    match &b.plan {
        Plan::Place(placing) => place::placed(run, fd, placing, ok, &mut b.record),
        _ if ok => {
            let auto = b.record.asked.read().is_some_and(|a| a.is_auto());
            b.record.used = match auto && !crate::process::is_under_seccomp() {
                true => sys::getsockname(fd).unwrap_or(RawAddr::EMPTY),
                false => b.record.asked,
            };
        }
        _ => {}
    }
    emit::emit(run, &mut b.record);
}

/// bind(2), for libc's name and for `syscall(SYS_bind, …)`.
///
/// # Safety
/// As bind(2), but the address may be anything.
pub unsafe fn bind_as(fd: c_int, addr: *const sockaddr, len: socklen_t, flags: u16) -> c_int {
    let Some(next) = real::bind() else {
        return absent();
    };
    let Some(run) = run::get() else {
        // SAFETY: as the caller's.
        return unsafe { next(fd, addr, len) };
    };
    if guard(Call::Bind, stage::POLICY, || brief::is_bind(run, addr, len)) == Some(true) {
        emit::prepare(run);
        // SAFETY: as the caller's.
        let ret = unsafe { next(fd, addr, len) };
        // SAFETY: this is what the kernel said of that address.
        return unsafe { brief::bind(run, ret, fd, addr, len, flags) };
    }
    // SAFETY: as the caller's.
    unsafe { judged_bind(run, next, (fd, addr, len), flags) }
}

/// bind(2), with rules to be asked.
///
/// # Safety
/// As bind(2), which `next` is, but the address may be anything.
#[inline(never)]
unsafe fn judged_bind(
    run: &Run,
    next: unsafe extern "C-unwind" fn(c_int, *const sockaddr, socklen_t) -> c_int,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    flags: u16,
) -> c_int {
    let before = errno();
    let mut b = begin(Call::Bind, fd, flags);
    let judged = guard(Call::Bind, stage::POLICY, || {
        decide_bind(run, addr, len, &mut b);
    });
    let settled =
        judged.and_then(|()| guard(Call::Bind, stage::RECORD, || settle(run, &mut b)).flatten());
    match settled {
        Some(Ok(())) => return finish(0, before, before),
        Some(Err(e)) => return refuse(e),
        None => {}
    }
    let ret = match &b.plan {
        Plan::Place(placing) if judged.is_some() => {
            let to = placing.real.bytes();
            // SAFETY: our own copy of an address.
            unsafe { next(fd, to.as_ptr().cast(), to.len() as socklen_t) }
        }
        // SAFETY: as the caller's.
        _ => unsafe { next(fd, addr, len) },
    };
    let errno_after = outcome(ret as isize);
    if judged.is_some() {
        guard(Call::Bind, stage::RECORD, || {
            if !b.addr_read {
                read_late(&mut b.record, addr, len, errno_after);
            }
            note_bind(run, &mut b, errno_after);
        });
    }
    finish(ret, before, c_int::from(errno_after))
}

/// The address, for the record: after the kernel has read it there is nothing
/// to ask.
pub fn read_late(record: &mut Record, addr: *const sockaddr, len: socklen_t, errno: u16) {
    let unread = [libc::EFAULT, libc::EBADF, libc::ENOTSOCK, libc::EINVAL];
    let raw = if unread.contains(&c_int::from(errno)) {
        memory::copy_addr(addr, len).ok()
    } else {
        memory::copy_addr_read_by_kernel(addr, len)
    };
    if let Some(raw) = raw {
        record.stages |= stage::ADDRESS;
        record.asked = raw;
    }
    name_family(record);
}

/// Of a descriptor that nobody knows, the address says what it should be.
fn name_family(record: &mut Record) {
    if !fds::get(record.fd).is_valid()
        && let Some(family) = record.asked.family()
    {
        record.domain = family;
    }
}
