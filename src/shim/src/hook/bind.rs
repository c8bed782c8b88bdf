//! bind: how a socket comes to have a name.

use core::ffi::c_int;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::judge::block::Real;
use bindgate_core::judge::{Action, Verdict, as_raw_ipv4, bind, broker};
use bindgate_core::policy::{Implicit, Op};
use bindgate_core::record::{Call, Identity, Record, flag, stage};
use bindgate_core::socket::BindOptions;
use libc::{sockaddr, socklen_t};

use super::driver::{self, Driver};
use super::fast::{self, Glance, Passed};
use super::note::{answered, describe};
use super::{errno, finish, lease, outcome, refuse, sockopt};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::fds::Socket;
use crate::own::memory::{self, Made};
use crate::own::{fds, filter, name};
use crate::real;
use crate::redirect::{self, Placing};
use crate::session::{self, Run};
use crate::sys::allowed::needs;
use crate::sys::{self, Errno};

/// A bind on its way: what is decided and what is to be done.
pub struct Binding {
    /// What is known so far.
    pub record: Record,
    /// What is to be done.
    pub plan: Plan,
    /// Was the address read before the kernel read it?
    addr_read: bool,
    /// Where it is in the run's block, and `IPV6_V6ONLY` as the program set it.
    real: Option<Real>,
    v6only: bool,
}

impl Binding {
    /// A bind that `call` on `fd` brings about.
    pub fn implicit(call: Call, fd: c_int) -> Binding {
        let mut b = Binding {
            record: Record::new(call),
            plan: Plan::Forward,
            addr_read: true,
            real: None,
            v6only: false,
        };
        b.record.stages = stage::HOOK;
        b.record.flags = flag::IMPLICIT;
        b.record.fd = fd;
        b.record.identity = Identity::Cached;
        b.record.options = fds::get(fd).options();
        b
    }

    /// The address was read before the kernel read it.
    fn addressed(&mut self, asked: RawAddr) {
        self.record.stages |= stage::ADDRESS;
        self.record.asked = asked;
        self.addr_read = true;
        name_family(&mut self.record);
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
// Not inlined: whoever has it then has room for one, not for a second one that
// it is copied from.
#[inline(never)]
pub fn begin(call: Call, fd: c_int, flags: u16) -> Binding {
    begin_here(call, fd, flags)
}

/// [`begin`], where nothing follows that needs much of the stack.
#[inline(always)]
pub fn begin_here(call: Call, fd: c_int, flags: u16) -> Binding {
    let mut b = Binding {
        record: Record::new(call),
        plan: Plan::Forward,
        addr_read: false,
        real: None,
        v6only: false,
    };
    b.record.stages = stage::HOOK;
    b.record.flags = flags;
    b.record.fd = fd;
    let cached = fds::get(fd);
    b.record.options = cached.options();
    if cached.is_valid() {
        b.record.identity = Identity::Cached;
        describe(&mut b.record, cached.socket());
    }
    b
}

fn decide_bind(run: &Run, addr: *const sockaddr, len: socklen_t, b: &mut Binding) {
    let is_judged = run.view.has_rules(Op::Bind) || run.has_carriers || run.is_ruled;
    if !is_judged && run.lease.is_none() {
        return;
    }
    let fd = b.record.fd;
    let Ok(raw) = memory::copy_addr(filter::allowed(), addr, len, Made::Bind(fd)) else {
        return;
    };
    b.addressed(raw);
    if !is_judged {
        return;
    }
    let asked = raw.read();
    let raw = as_raw_ipv4(&raw);
    judge_addressed(run, fd, asked.as_ref(), raw.as_ref(), Implicit::No, b);
}

/// Has a bind decided that another call brings about, and plans what follows.
pub fn judge(run: &Run, fd: c_int, asked: &Addr, implicit: Implicit, b: &mut Binding) {
    judge_addressed(run, fd, Some(asked), None, implicit, b);
}

#[inline(never)]
fn judge_addressed(
    run: &Run,
    fd: c_int,
    asked: Option<&Addr>,
    raw: Option<&Addr>,
    implicit: Implicit,
    b: &mut Binding,
) {
    let verdict = decide(run, fd, asked, raw, implicit);
    follow(run, fd, asked, raw, &verdict, b);
}

// Apart: a handler's stack is small.
#[inline(never)]
fn decide(
    run: &Run,
    fd: c_int,
    asked: Option<&Addr>,
    raw: Option<&Addr>,
    implicit: Implicit,
) -> Verdict {
    let caller = driver::caller(run);
    let believed = Some(fds::get(fd).socket());
    let mut call = bind::bind(&caller, asked, raw, implicit, believed);
    Driver::new(run, fd).drive(&mut call);
    *call.verdict()
}

/// Plans what follows from a verdict about `asked`, which is `None` where it
/// cannot be read; `raw` is what a raw socket reads there.
pub fn follow(
    run: &Run,
    fd: c_int,
    asked: Option<&Addr>,
    raw: Option<&Addr>,
    verdict: &Verdict,
    b: &mut Binding,
) {
    let mut verdict = *verdict;
    if verdict.passed().is_none()
        && let Some(socket) = &mut verdict.socket
        && !(socket.is_carrier() && run.vsock.is_some())
    {
        fds::name(filter::allowed(), fd, socket);
    }
    let addr = if verdict.by_raw { raw } else { asked };
    let caller = driver::caller(run);
    match verdict.enter(&caller, Op::Bind, addr, &mut b.record) {
        Action::Forward if run.is_ruled && b.record.call == Call::Bind => on_described(run, b),
        Action::Forward => {}
        Action::Refuse(errno) => b.plan = Plan::Refuse(Errno(errno)),
        Action::Restore => {
            if let Some(s) = &mut verdict.socket
                && let Err(e) = redirect::restore(filter::allowed(), run, fd, s, &mut b.record)
            {
                b.plan = Plan::Refuse(e);
            }
        }
        Action::OnHost => {
            if let Some(s) = &verdict.socket {
                let record = &mut b.record;
                let answer = redirect::vsock::bind(filter::allowed(), run, fd, s, addr, record);
                b.plan = Plan::Done(answer);
            }
        }
        Action::Redirect(decision) => {
            if let Some(s) = &mut verdict.socket {
                name_carrier(s, &mut b.record);
                let addr = addr.filter(|_| !s.is_unread());
                let allowed = filter::allowed();
                redirect::plan(allowed, run, s, addr, &decision, verdict.v6only, b);
            }
        }
    }
}

/// The host that the policy describes is asked, and answers.
#[inline(never)]
pub fn on_described(run: &Run, b: &mut Binding) {
    let allowed = filter::allowed();
    if let Some(socket) = redirect::host::socket(allowed, b.record.fd) {
        let answer = redirect::host::bind(allowed, run, &socket, &mut b.record);
        b.plan = Plan::Done(answer);
    }
}

/// A carrier of a vsock host has no entry in the run's table before it is
/// redirected, and nobody has asked for its cookie.
#[inline(never)]
pub fn name_carrier(socket: &mut Socket, record: &mut Record) {
    if socket.cookie == 0
        && socket.is_carrier()
        && let Ok(cookie) = sys::cookie(filter::allowed(), record.fd)
    {
        (socket.cookie, socket.identity) = (cookie, Identity::Cookie);
        (record.cookie, record.identity) = (cookie, Identity::Cookie);
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
    if answer.is_err() {
        sockopt::complete(&mut b.record);
    }
    if answer.is_ok() {
        fds::bound(b.record.fd);
    }
    emit::emit(run, &mut b.record);
    Some(answer)
}

/// Binds the socket as was planned, for a call that would bind it by itself.
#[inline(never)]
pub fn place(run: &Run, b: &mut Binding) -> Result<(), Errno> {
    let Plan::Place(placing) = &b.plan else {
        return Ok(());
    };
    let (fd, to) = (b.record.fd, placing.real);
    if session::has_block()
        && let Some(answer) = bind_in_block(run, fd, to.bytes(), b)
    {
        return answer;
    }
    sys::bind(filter::allowed(), fd, to.bytes())
}

/// The forward has come back.
pub fn note_bind(run: &Run, b: &mut Binding, errno: u16) {
    note_answer(run, b, errno);
    emit::emit(run, &mut b.record);
}

// Apart from what writes the record: a handler's stack is small.
#[inline(never)]
fn note_answer(run: &Run, b: &mut Binding, errno: u16) {
    let fd = b.record.fd;
    let ok = errno == 0;
    answered(&mut b.record, errno);
    if ok {
        fds::bound(fd);
    }
    match &b.plan {
        Plan::Place(placing) => {
            b.record
                .options
                .set(BindOptions::V6ONLY, placing.is_v6only());
            redirect::placed(filter::allowed(), run, fd, placing, ok, &mut b.record);
        }
        _ if ok => {
            lease::bound(run, &b.record);
            let auto = b.record.asked.read().is_some_and(|a| a.is_auto());
            b.record.used = match auto {
                true => name::local(filter::allowed(), fd).unwrap_or(RawAddr::EMPTY),
                false => b.record.asked,
            };
        }
        _ => {}
    }
    if matches!(b.plan, Plan::Forward) {
        sockopt::complete(&mut b.record);
    }
    if let Some(real) = &b.real {
        b.record.used = real.addr().write();
        b.record.flags |= flag::IN_BLOCK;
        b.record.options.set(BindOptions::V6ONLY, b.v6only);
    }
}

/// bind(2) as `syscall(SYS_bind, …)`: the long way, so that there is one place only
/// for the short way to be part of.
///
/// # Safety
/// As bind(2), but the address may be anything.
#[inline(never)]
pub unsafe fn bind_by_number(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    match session::get() {
        // SAFETY: as the caller's.
        Some(run) => unsafe { judged_bind(run, fd, addr, len, flag::RAW_SYSCALL) },
        // SAFETY: as the caller's.
        None => unsafe { real::bind()(fd, addr, len) },
    }
}

/// bind(2), for libc's name.
///
/// # Safety
/// As bind(2), but the address may be anything.
#[inline(always)]
pub unsafe fn bind_as(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    let next = real::bind();
    let Some(run) = session::get() else {
        // SAFETY: as the caller's.
        return unsafe { next(fd, addr, len) };
    };
    let glance = guard(Call::Bind, stage::POLICY, || fast::glance(run, addr, len));
    match glance {
        // SAFETY: as the caller's.
        Some(Glance::Pass(passed)) => unsafe { passed_bind(run, next, (fd, addr, len), passed) },
        // SAFETY: as the caller's; the address was asked about.
        Some(Glance::Ask) => unsafe { asked_bind(run, fd, addr, len) },
        // SAFETY: as the caller's.
        Some(Glance::Other) => unsafe { judged_bind(run, fd, addr, len, 0) },
        // A fault: as if the shim were not there.
        // SAFETY: as the caller's.
        None => unsafe { next(fd, addr, len) },
    }
}

/// The next library's bind(2).
pub type Next = unsafe extern "C" fn(c_int, *const sockaddr, socklen_t) -> c_int;

/// The forward of a bind, and where the kernel refuses that for lack of a privilege,
/// the one that the run's port broker does. `before` is the errno of before.
///
/// # Safety
/// As bind(2), which `next` is, but the address may be anything.
#[inline(always)]
unsafe fn forward(
    run: &Run,
    next: Next,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    before: c_int,
) -> c_int {
    // SAFETY: as the caller's.
    let ret = unsafe { next(fd, addr, len) };
    if run.has_broker && ret < 0 {
        // SAFETY: as the caller's.
        return unsafe { brokered(run, (fd, addr, len), before) };
    }
    ret
}

/// A bind that the kernel has refused, with the errno that is set.
///
/// # Safety
/// As bind(2), but the address may be anything.
#[cold]
#[inline(never)]
unsafe fn brokered(
    run: &Run,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    before: c_int,
) -> c_int {
    let after = errno();
    let answer = guard(Call::Bind, stage::FORWARD, || {
        let allowed = filter::allowed();
        let raw = memory::copy_addr_of_failed(allowed, addr, len, after as u16)?;
        let asked = raw
            .read()
            .filter(|asked| broker::may_ask(after as u16, asked))?;
        if !allowed.may_all(needs::BROKER) {
            return None;
        }
        Some(sys::without_signals(allowed, || {
            run.bind_by_broker(allowed, fd, &asked)
        }))
    });
    match answer.flatten() {
        Some(Ok(())) => finish(0, before, before),
        Some(Err(e)) => refuse(e),
        None => finish(-1, before, after),
    }
}

/// bind(2), which is forwarded as it is.
///
/// # Safety
/// As bind(2), which `next` is, but the address may be anything.
#[inline(always)]
unsafe fn passed_bind(
    run: &Run,
    next: Next,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    passed: &Passed,
) -> c_int {
    emit::prepare(run);
    let before = if run.has_broker { errno() } else { 0 };
    // SAFETY: as the caller's.
    let ret = unsafe { forward(run, next, (fd, addr, len), before) };
    // SAFETY: this is what the kernel said of that address.
    unsafe { fast::bind(run, ret, (fd, addr, len), passed) }
}

/// bind(2), where a rule may have a say.
///
/// # Safety
/// As bind(2). The address can be read.
#[inline(never)]
unsafe fn asked_bind(run: &Run, fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    let next = real::bind();
    let foreseen = guard(Call::Bind, stage::POLICY, || {
        // SAFETY: as the caller's.
        unsafe { fast::foresee(run, fd, addr, len) }
    });
    match foreseen {
        // SAFETY: as the caller's.
        Some(Some(passed)) => unsafe { passed_bind(run, next, (fd, addr, len), &passed) },
        // SAFETY: as the caller's.
        Some(None) => unsafe { judged_bind(run, fd, addr, len, 0) },
        // A fault: as if the shim were not there.
        // SAFETY: as the caller's.
        None => unsafe { next(fd, addr, len) },
    }
}

/// bind(2), with rules to be asked.
///
/// # Safety
/// As bind(2), but the address may be anything.
#[inline(never)]
unsafe fn judged_bind(
    run: &Run,
    fd: c_int,
    addr: *const sockaddr,
    len: socklen_t,
    flags: u16,
) -> c_int {
    let next = real::bind();
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
    if session::has_block() {
        // SAFETY: as the caller's.
        return unsafe { block_bind(run, (fd, addr, len), &mut b, judged.is_some(), before) };
    }
    let ret = match &b.plan {
        Plan::Place(placing) if judged.is_some() => {
            let to = placing.real.bytes();
            // SAFETY: our own copy of an address.
            unsafe { next(fd, to.as_ptr().cast(), to.len() as socklen_t) }
        }
        Plan::Forward if run.lease.is_some() && judged.is_some() => {
            let leased = lease::lease(run, fd, &b.record.asked, |to| {
                let to = to.bytes();
                // SAFETY: our own copy of an address.
                match unsafe { next(fd, to.as_ptr().cast(), to.len() as socklen_t) } {
                    0 => Ok(()),
                    _ => Err(Errno(errno() as u16)),
                }
            });
            match leased.enter(&mut b.record) {
                Some(Ok(())) => 0,
                Some(Err(_)) => -1,
                // SAFETY: as the caller's.
                None => unsafe { forward(run, next, (fd, addr, len), before) },
            }
        }
        // SAFETY: as the caller's.
        _ => unsafe { forward(run, next, (fd, addr, len), before) },
    };
    let errno_after = outcome(ret as isize);
    if judged.is_some() {
        guard(Call::Bind, stage::RECORD, || {
            if !b.addr_read {
                // SAFETY: this is what the kernel said of that address.
                unsafe { read_late(&mut b.record, addr, len, errno_after) };
            }
            note_bind(run, &mut b, errno_after);
        });
    }
    finish(ret, before, c_int::from(errno_after))
}

/// bind(2) in a run that has a block for its loopback.
///
/// # Safety
/// As bind(2), but the address may be anything.
#[cold]
#[inline(never)]
unsafe fn block_bind(
    run: &Run,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    b: &mut Binding,
    judged: bool,
    before: c_int,
) -> c_int {
    let next = real::bind();
    let done = guard(Call::Bind, stage::MODEL, || {
        in_block(run, (fd, addr, len), b, judged)
    });
    let ret = match done.flatten() {
        Some(Ok(())) => 0,
        Some(Err(e)) => refuse(e),
        None => match (&b.plan, &b.real) {
            (_, Some(real)) => {
                let to = real.addr().write();
                let to = to.bytes();
                // SAFETY: our own copy of an address.
                unsafe { next(fd, to.as_ptr().cast(), to.len() as socklen_t) }
            }
            (Plan::Place(placing), None) if judged => {
                let to = placing.real.bytes();
                // SAFETY: our own copy of an address.
                unsafe { next(fd, to.as_ptr().cast(), to.len() as socklen_t) }
            }
            // SAFETY: as the caller's.
            _ => unsafe { next(fd, addr, len) },
        },
    };
    let errno_after = outcome(ret as isize);
    if judged {
        guard(Call::Bind, stage::RECORD, || {
            if !b.addr_read {
                // SAFETY: this is what the kernel said of that address.
                unsafe { read_late(&mut b.record, addr, len, errno_after) };
            }
            note_bind(run, b, errno_after);
        });
    }
    finish(ret, before, c_int::from(errno_after))
}

/// Binds the socket in the run's block, or says where there: then the kernel is
/// still to be asked, and nothing else may be.
#[inline(never)]
fn in_block(
    run: &Run,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    b: &mut Binding,
    judged: bool,
) -> Option<Result<(), Errno>> {
    let allowed = filter::allowed();
    if let (true, Plan::Place(placing)) = (judged, &b.plan) {
        let placing = placing.real;
        return bind_in_block(run, fd, placing.bytes(), b);
    }
    if !b.addr_read
        && let Ok(raw) = memory::copy_addr(allowed, addr, len, Made::Bind(fd))
    {
        b.addressed(raw);
    }
    if !b.addr_read {
        return None;
    }
    let asked = b.record.asked;
    // Of another family the kernel refuses it, by its length too.
    let is_ip = matches!(asked.family(), Some(af::INET | af::INET6));
    if is_ip && run.lease.is_some() && redirect::block::may(allowed) {
        let mut bound = None;
        let leased = lease::lease(run, fd, &asked, |to| {
            bound = redirect::block::bind(allowed, run, fd, to.bytes(), true);
            match &bound {
                Some(bound) => bound.answer,
                None => sys::bind(allowed, fd, to.bytes()),
            }
        });
        if let Some(answer) = leased.enter(&mut b.record) {
            if let Some(bound) = bound {
                (b.real, b.v6only) = (bound.real, bound.v6only);
            }
            return Some(answer);
        }
    }
    bind_in_block(run, fd, asked.bytes(), b)
}

/// The same of an address that was read.
#[inline(never)]
pub fn bind_in_block(
    run: &Run,
    fd: c_int,
    asked: &[u8],
    b: &mut Binding,
) -> Option<Result<(), Errno>> {
    let allowed = filter::allowed();
    if !redirect::block::may(allowed) {
        b.real = redirect::block::bare(run, fd, asked);
        return None;
    }
    let bound = redirect::block::bind(allowed, run, fd, asked, false)?;
    b.real = bound.real;
    b.v6only = bound.v6only;
    Some(bound.answer)
}

/// The address, for the record, after the call has come back.
///
/// # Safety
/// `errno` is the answer to bind(2) with `len` bytes at `addr`, 0 if it
/// succeeded.
pub unsafe fn read_late(record: &mut Record, addr: *const sockaddr, len: socklen_t, errno: u16) {
    let raw = match errno {
        // SAFETY: it succeeded with that address.
        0 => unsafe { memory::copy_addr_of_granted(addr, len) },
        _ => memory::copy_addr_of_failed(filter::allowed(), addr, len, errno),
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
