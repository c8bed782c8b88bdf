//! send, sendto, sendmsg, sendmmsg: a send on an unbound socket binds it, one
//! that names a peer is one to `connect` rules.
//!
//! Where no rule is about that, the price is a load of a word that says so, and
//! at most one of the descriptor cache.

use core::ffi::{c_int, c_uint, c_void};

use bindgate_core::addr::{Addr, af};
use bindgate_core::policy::Implicit;
use bindgate_core::record::{Call, flag, stage};
use bindgate_core::shared::option;
use bindgate_core::socket::{SocketType, ty};
use libc::{mmsghdr, msghdr, sockaddr, socklen_t, ssize_t};

use super::bind::{Binding, Plan, judge, note_bind, place, settle as settle_bind};
use super::note::describe;
use super::{block, errno, finish, outcome, peer, set_errno, vsock};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::{fds, filter, memory, name as names};
use crate::real;
use crate::redirect::{self, block::Called};
use crate::session::{self, Run, look_at};
use crate::sys::{self, Call as SystemCall, Errno};

/// Puts the bind that a call on `fd` would bring about, judged, into `plan`;
/// `None` there if the socket has its port or will not get one this way.
///
/// A plan is large, and a handler's stack small: it stays where it is from
/// first to last.
#[inline(never)]
pub fn implicit(run: &Run, call: Call, fd: c_int, connects: bool, plan: &mut Option<Binding>) {
    if let Some((what, asked)) = implicit_place(run, fd, connects) {
        let b = plan.insert(Binding::implicit(call, fd));
        b.record.asked = asked.write();
        describe(&mut b.record, what);
        if run.view.has_implicit_rules() {
            judge(run, fd, &asked, Implicit::Connect, b);
        }
    }
}

/// What `fd` is and an implicit bind of it would ask for, if there is to be one.
fn implicit_place(run: &Run, fd: c_int, connects: bool) -> Option<(SocketType, Addr)> {
    let cached = fds::get(fd);
    if cached.is_bound() {
        return None;
    }
    let allowed = filter::allowed();
    if !allowed.may(SystemCall::Getsockname) || is_nobodys(run) {
        return None;
    }
    let what = if cached.is_valid() {
        cached.socket()
    } else {
        fds::identify(filter::allowed(), fd).ok()?.ty
    };
    if !binds_itself(what, connects) && !binds_by_rule(run, fd, what, connects)
        || fds::is_bound(allowed, fd)
    {
        return None;
    }
    let asked = match what.domain {
        af::NETLINK => Addr::Netlink { pid: 0, groups: 0 },
        domain => Addr::any(domain)?,
    };
    Some((what, asked))
}

/// Does the kernel name such a socket on its own, and is there a rule that wants
/// to decide it? Of these nobody is told otherwise: netlink sockets, and Unix
/// sockets that want credentials (`unix_autobind`).
fn binds_by_rule(run: &Run, fd: c_int, what: SocketType, connects: bool) -> bool {
    const SO_PASSPIDFD: i32 = 76;
    if !run.view.has_implicit_rules() {
        return false;
    }
    let wants = |option| {
        sys::getsockopt_int(filter::allowed(), fd, libc::SOL_SOCKET, option).is_ok_and(|on| on != 0)
    };
    match what.domain {
        af::NETLINK => true,
        af::UNIX => {
            (connects || what.ty == ty::DGRAM) && (wants(libc::SO_PASSCRED) || wants(SO_PASSPIDFD))
        }
        _ => false,
    }
}

/// Would nobody hear of it, and does no rule want to decide it?
fn is_nobodys(run: &Run) -> bool {
    run.has_option(option::SHOWN_ONLY) && !run.view.has_implicit_rules()
}

/// Does the kernel give such a socket a port on connect, or on a send?
fn binds_itself(what: SocketType, connects: bool) -> bool {
    match what.domain {
        af::INET | af::INET6 => match what.ty {
            ty::DGRAM => true,
            ty::STREAM => connects,
            _ => false,
        },
        af::VSOCK => connects,
        _ => false,
    }
}

/// Refuses an implicit bind, or places the socket before the kernel would
/// choose for it.
#[inline(always)]
pub fn settle(run: &Run, call: Call, plan: &mut Option<Binding>) -> Result<(), Errno> {
    match plan {
        None => Ok(()),
        Some(_) => settle_planned(run, call, plan),
    }
}

#[inline(never)]
fn settle_planned(run: &Run, call: Call, plan: &mut Option<Binding>) -> Result<(), Errno> {
    let Some(b) = plan else { return Ok(()) };
    let answer = guard(call, stage::RECORD, || {
        if let Some(answer) = settle_bind(run, b) {
            return Some(answer);
        }
        if matches!(b.plan, Plan::Place(_)) {
            let bound = place(run, b);
            note_bind(run, b, bound.err().map_or(0, |e| e.0));
            return Some(bound);
        }
        None
    });
    match answer.flatten() {
        Some(answer) => {
            *plan = None;
            answer
        }
        None => Ok(()),
    }
}

/// The call has come back; if it bound the socket there is something to record.
#[inline(always)]
pub fn note(run: &Run, fd: c_int, plan: &mut Option<Binding>, connects: bool, errno: u16) {
    if session::has_block() {
        redirect::block::named_itself(filter::allowed(), run, fd);
    }
    if let Some(b) = plan {
        return note_planned(run, b, errno);
    }
    // The next call need not look that far.
    let cached = fds::get(fd);
    if errno == 0
        && !cached.is_bound()
        && cached.is_valid()
        && binds_itself(cached.socket(), connects)
    {
        fds::bound(fd);
    }
}

#[inline(never)]
fn note_planned(run: &Run, b: &mut Binding, errno: u16) {
    // Other failures leave the socket bound too: what the kernel says of the
    // name is what counts.
    let name = names::local(filter::allowed(), b.record.fd);
    let bound = name
        .ok()
        .filter(|raw| raw.read().is_some_and(|addr| !addr.is_auto()));
    match bound {
        Some(used) => {
            fds::bound(b.record.fd);
            b.record.stages |= stage::FORWARD;
            b.record.flags |= flag::FORWARDED;
            b.record.used = used;
            emit::emit(run, &mut b.record);
        }
        None if errno == libc::EAGAIN as u16 || errno == libc::EADDRNOTAVAIL as u16 => {
            note_bind(run, b, errno);
        }
        None => {}
    }
}

/// A send, judged: `name` is where the peer's address is, if it names one; `go`
/// forwards it, to another address if it is given one.
// Not inlined: a handler's stack is small.
#[inline(never)]
fn sending<T: Copy + From<i8> + PartialEq>(
    call: Call,
    fd: c_int,
    connects: bool,
    name: Option<(*const sockaddr, socklen_t)>,
    go: impl FnOnce(Option<&[u8]>) -> T,
) -> T {
    let before = errno();
    let Some(run) = session::get() else {
        return go(None);
    };
    let mut peer = None;
    if let Some(name) = name.filter(|_| session::looks_at(look_at::NAMED)) {
        let decided = guard(call, stage::POLICY, || {
            if is_heard(fd, connects) {
                peer::decide(run, call, fd, name, &mut peer);
            }
        });
        if decided.is_none() {
            peer = None;
        }
    }
    let settled = peer.as_mut().and_then(|p| {
        guard(call, stage::RECORD, || match p.refuse(run) {
            Some(e) => Some(Err(e)),
            None => p.replace(run),
        })
        .flatten()
    });
    match settled {
        // It is connected now: no name is needed any more.
        Some(Ok(())) => {
            let ret = go(Some(&[]));
            let after = c_int::from(outcome_of(ret));
            return finish(ret, before, after);
        }
        Some(Err(e)) => {
            set_errno(c_int::from(e.0));
            return T::from(-1);
        }
        None => {}
    }
    let mut plan = None;
    let judged = guard(call, stage::POLICY, || {
        implicit(run, call, fd, connects, &mut plan);
    });
    if judged.is_none() {
        plan = None;
    }
    if let Err(e) = settle(run, call, &mut plan) {
        set_errno(c_int::from(e.0));
        return T::from(-1);
    }
    let moved = peer.as_ref().and_then(|p| p.instead());
    let ret = match name.filter(|_| session::has_block()) {
        Some(name) => go_in_block(run, call, (fd, connects), name, moved, go),
        None => go(moved),
    };
    let errno_after = outcome_of(ret);
    guard(call, stage::RECORD, || {
        if let Some(p) = &mut peer {
            p.note(run, errno_after);
        }
        note(run, fd, &mut plan, connects, errno_after);
    });
    finish(ret, before, c_int::from(errno_after))
}

/// A send that names a peer, in a run that has a block for its loopback.
#[cold]
#[inline(never)]
fn go_in_block<T: From<i8>>(
    run: &Run,
    call: Call,
    (fd, connects): (c_int, bool),
    name: (*const sockaddr, socklen_t),
    moved: Option<&[u8]>,
    go: impl FnOnce(Option<&[u8]>) -> T,
) -> T {
    let real = guard(call, stage::MODEL, || {
        in_block(run, fd, connects, name, moved)
    });
    match real.flatten() {
        Some(Called::At { real, .. }) => go(Some(real.addr().write().bytes())),
        Some(Called::Refused(e)) => {
            set_errno(c_int::from(e.0));
            T::from(-1)
        }
        Some(Called::AsAsked) | None => go(moved),
    }
}

/// Where a send goes that names a peer of the run's own loopback.
#[inline(never)]
fn in_block(
    run: &Run,
    fd: c_int,
    connects: bool,
    (addr, len): (*const sockaddr, socklen_t),
    moved: Option<&[u8]>,
) -> Option<Called> {
    let allowed = filter::allowed();
    if !is_heard(fd, connects) {
        return None;
    }
    if let Some(to) = moved {
        return redirect::block::send(allowed, run, fd, to);
    }
    let raw = memory::copy_addr(allowed, addr, len, memory::Made::Send).ok()?;
    redirect::block::send(allowed, run, fd, raw.bytes())
}

fn outcome_of<T: From<i8> + PartialEq>(ret: T) -> u16 {
    outcome(if ret == T::from(-1) { -1 } else { 0 })
}

/// Does the kernel look at the address of a send? TCP's does only where the send
/// connects (`MSG_FASTOPEN`).
fn is_heard(fd: c_int, connects: bool) -> bool {
    let cached = fds::get(fd);
    let what = match cached.is_valid() {
        true => cached.socket(),
        false => match fds::identify(filter::allowed(), fd) {
            Ok(s) => s.ty,
            Err(_) => return false,
        },
    };
    connects || !(matches!(what.domain, af::INET | af::INET6) && what.ty == ty::STREAM)
}

/// May a send be forwarded without a look at anything else?
#[inline(always)]
fn is_quiet(fd: c_int, is_named: bool) -> bool {
    use look_at::{NAMED, RECORDS, UNNAMED};
    match is_named {
        true => fds::get(fd).is_bound() && !session::looks_at(NAMED | RECORDS),
        false => {
            fds::get(fd).is_bound() && !session::looks_at(RECORDS)
                || !session::looks_at(UNNAMED | RECORDS)
        }
    }
}

/// [`is_quiet`], where the ends of records were looked at already.
#[inline(always)]
fn is_quiet_host(fd: c_int, is_named: bool) -> bool {
    match is_named {
        true => fds::get(fd).is_bound() && !session::looks_at(look_at::NAMED),
        false => fds::get(fd).is_bound() || !session::looks_at(look_at::UNNAMED),
    }
}

/// A send of `parts` in a run that is a vsock host: `Some` where all is done.
///
/// # Safety
/// As sendmsg(2), which has these parts.
#[cold]
#[inline(never)]
unsafe fn on_host(
    fd: c_int,
    parts: *mut libc::iovec,
    count: usize,
    flags: c_int,
) -> Option<ssize_t> {
    if flags & libc::MSG_EOR == 0 {
        return None;
    }
    // SAFETY: as the caller's.
    unsafe { vsock::send_record(fd, parts, count, flags) }
}

fn is_fast_open(flags: c_int) -> bool {
    flags & libc::MSG_FASTOPEN != 0
}

/// send(2).
///
/// # Safety
/// As send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn send(
    fd: c_int,
    buf: *const c_void,
    size: usize,
    flags: c_int,
) -> ssize_t {
    let next = real::send();
    if is_quiet(fd, false) {
        // SAFETY: as the caller's.
        return unsafe { next(fd, buf, size, flags) };
    }
    // SAFETY: as the caller's.
    unsafe { looked_at_send(fd, buf, size, flags) }
}

/// send(2), which may bind the socket.
///
/// # Safety
/// As send(2).
#[inline(never)]
unsafe fn looked_at_send(fd: c_int, buf: *const c_void, size: usize, flags: c_int) -> ssize_t {
    let next = real::send();
    if session::is_vsock_host() {
        let mut part = part(buf, size);
        // SAFETY: the caller's buffer as the one part.
        if let Some(sent) = unsafe { on_host(fd, &raw mut part, 1, flags) } {
            return sent;
        }
        if is_quiet_host(fd, false) {
            // SAFETY: as the caller's.
            return unsafe { next(fd, buf, size, flags) };
        }
    }
    // SAFETY: as the caller's.
    sending(Call::Send, fd, false, None, |_| unsafe {
        next(fd, buf, size, flags)
    })
}

/// sendto(2).
///
/// # Safety
/// As sendto(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendto(
    fd: c_int,
    buf: *const c_void,
    size: usize,
    flags: c_int,
    addr: *const sockaddr,
    len: socklen_t,
) -> ssize_t {
    let next = real::sendto();
    if is_quiet(fd, !addr.is_null()) {
        // SAFETY: as the caller's.
        return unsafe { next(fd, buf, size, flags, addr, len) };
    }
    // SAFETY: as the caller's.
    unsafe { looked_at_sendto(fd, buf, size, flags, addr, len) }
}

/// sendto(2), which may name a peer or bind the socket.
///
/// # Safety
/// As sendto(2).
#[inline(never)]
unsafe fn looked_at_sendto(
    fd: c_int,
    buf: *const c_void,
    size: usize,
    flags: c_int,
    addr: *const sockaddr,
    len: socklen_t,
) -> ssize_t {
    let next = real::sendto();
    if session::is_vsock_host() && addr.is_null() {
        let mut part = part(buf, size);
        // SAFETY: the caller's buffer as the one part.
        if let Some(sent) = unsafe { on_host(fd, &raw mut part, 1, flags) } {
            return sent;
        }
        if is_quiet_host(fd, false) {
            // SAFETY: as the caller's.
            return unsafe { next(fd, buf, size, flags, addr, len) };
        }
    }
    let name = (!addr.is_null()).then_some((addr, len));
    let connects = is_fast_open(flags) && name.is_some();
    sending(Call::Sendto, fd, connects, name, |to| {
        let (addr, len) = match to {
            None => (addr, len),
            Some(to) => named(to),
        };
        // SAFETY: as the caller's, or our own copy of an address.
        unsafe { next(fd, buf, size, flags, addr, len) }
    })
}

/// A buffer as the one part of a message.
fn part(buf: *const c_void, size: usize) -> libc::iovec {
    libc::iovec {
        iov_base: buf.cast_mut(),
        iov_len: size,
    }
}

/// An address of ours as the arguments of a call; none if it is empty.
fn named(to: &[u8]) -> (*const sockaddr, socklen_t) {
    match to.is_empty() {
        true => (core::ptr::null(), 0),
        false => (to.as_ptr().cast(), to.len() as socklen_t),
    }
}

/// A `struct msghdr` of the program's, copied: its words.
type Header = [u64; size_of::<msghdr>() / 8];
/// A `struct mmsghdr`: the same, and how much of it was sent.
type Sent = [u64; size_of::<mmsghdr>() / 8];

const _: () = {
    use core::mem::offset_of;
    assert!(
        size_of::<Header>() == size_of::<msghdr>() && size_of::<Sent>() == size_of::<mmsghdr>()
    );
    assert!(offset_of!(msghdr, msg_name) == 0 && offset_of!(msghdr, msg_namelen) == 8);
};

/// The peer that a message names.
fn name_of(header: &[u64]) -> Option<(*const sockaddr, socklen_t)> {
    let [name, len, ..] = *header else {
        return None;
    };
    let name: *const sockaddr = core::ptr::with_exposed_provenance(name as usize);
    // The length is the lower half: of both machines that this runs on.
    (!name.is_null()).then_some((name, len as socklen_t))
}

/// Makes a message name this peer; none, if it is empty.
fn rename(header: &mut [u64], to: &[u8]) {
    if let [name, len, ..] = header {
        let (at, n) = named(to);
        *name = at.expose_provenance() as u64;
        *len = u64::from(n);
    }
}

/// sendmsg(2).
///
/// # Safety
/// As sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendmsg(fd: c_int, msg: *const msghdr, flags: c_int) -> ssize_t {
    let next = real::sendmsg();
    if is_quiet(fd, true) {
        // SAFETY: as the caller's.
        return unsafe { next(fd, msg, flags) };
    }
    // SAFETY: as the caller's.
    unsafe { looked_at_sendmsg(next, fd, msg, flags) }
}

/// sendmsg(2), which may name a peer or bind the socket.
///
/// # Safety
/// As sendmsg(2), which `next` is.
#[inline(never)]
unsafe fn looked_at_sendmsg(
    next: unsafe extern "C-unwind" fn(c_int, *const msghdr, c_int) -> ssize_t,
    fd: c_int,
    msg: *const msghdr,
    flags: c_int,
) -> ssize_t {
    let read = guard(Call::Sendmsg, stage::HOOK, || {
        memory::read::<Header>(filter::allowed(), msg.cast())
    })
    .flatten();
    let name = read.as_ref().and_then(|m| name_of(m));
    if let Some([_, _, parts, count, _, control_len, ..]) = read
        && session::is_vsock_host()
        && control_len == 0
        // SAFETY: the parts of the caller's message.
        && let Some(sent) = unsafe {
            let parts = core::ptr::with_exposed_provenance_mut(parts as usize);
            on_host(fd, parts, count as usize, flags)
        }
    {
        return sent;
    }
    if read.is_none() || is_quiet_host(fd, name.is_some()) {
        // SAFETY: as the caller's.
        return unsafe { next(fd, msg, flags) };
    }
    let connects = is_fast_open(flags) && name.is_some();
    sending(Call::Sendmsg, fd, connects, name, |to| match (to, read) {
        (to, Some(mut m)) if to.is_some() || session::has_block() => {
            with_header(Call::Sendmsg, &mut m, to, |m| {
                // SAFETY: a copy of the program's header, which the kernel only
                // reads.
                unsafe { next(fd, m.cast(), flags) }
            })
        }
        // SAFETY: as the caller's.
        _ => unsafe { next(fd, msg, flags) },
    })
}

/// Makes a call with a copy of the program's header that names this peer, if there is
/// one.
#[inline(always)]
fn with_header<T>(
    call: Call,
    header: &mut [u64],
    to: Option<&[u8]>,
    go: impl FnOnce(*mut u64) -> T,
) -> T {
    if session::has_block() {
        return with_sourced(call, header, to, go);
    }
    if let Some(to) = to {
        rename(header, to);
    }
    go(header.as_mut_ptr())
}

/// The same in a run that has a block for its loopback.
#[cold]
#[inline(never)]
fn with_sourced<T>(
    call: Call,
    header: &mut [u64],
    to: Option<&[u8]>,
    go: impl FnOnce(*mut u64) -> T,
) -> T {
    let mut control = [0; 32];
    guard(call, stage::MODEL, || block::sourced(header, &mut control));
    if let Some(to) = to {
        rename(header, to);
    }
    go(header.as_mut_ptr())
}

/// sendmmsg(2) with `MSG_EOR`, one message after the other.
///
/// # Safety
/// As sendmmsg(2).
unsafe fn send_records(fd: c_int, msgs: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    // `UIO_MAXIOV`
    for n in 0..count.min(1024) {
        // SAFETY: one of the caller's messages, which sendmsg() checks.
        let sent = unsafe {
            let at = msgs.wrapping_add(n as usize);
            let sent = sendmsg(fd, at.cast::<msghdr>(), flags);
            let told = at.wrapping_byte_add(core::mem::offset_of!(mmsghdr, msg_len));
            (sent >= 0).then(|| answer(told.cast(), sent as c_uint))
        };
        match sent {
            Some(true) => {}
            // What was sent is told, and the error next time.
            _ if n > 0 => return n as c_int,
            Some(false) => {
                set_errno(libc::EFAULT);
                return -1;
            }
            None => return -1,
        }
    }
    count.min(1024) as c_int
}

/// Tells the program how much of a message was sent.
fn answer(told: *mut c_void, sent: c_uint) -> bool {
    // SAFETY: the field of the program's message that the kernel writes to.
    unsafe { memory::write(filter::allowed(), told, &sent.to_ne_bytes()) }
}

/// sendmmsg(2).
///
/// # Safety
/// As sendmmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sendmmsg(
    fd: c_int,
    msgs: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    let next = real::sendmmsg();
    if is_quiet(fd, true) {
        // SAFETY: as the caller's.
        return unsafe { next(fd, msgs, count, flags) };
    }
    if session::is_vsock_host() && flags & libc::MSG_EOR != 0 {
        // SAFETY: as the caller's.
        return unsafe { send_records(fd, msgs, count, flags) };
    }
    // SAFETY: as the caller's.
    unsafe { looked_at_sendmmsg(next, fd, msgs, count, flags) }
}

/// sendmmsg(2), whose messages may name peers or bind the socket.
///
/// # Safety
/// As sendmmsg(2), which `next` is.
#[inline(never)]
unsafe fn looked_at_sendmmsg(
    next: unsafe extern "C-unwind" fn(c_int, *mut mmsghdr, c_uint, c_int) -> c_int,
    fd: c_int,
    msgs: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    // Where a message of several may be refused, each goes by itself; else the
    // first one is the one that binds.
    let at_a_time = match session::looks_at(look_at::NAMED) {
        true => 1,
        false => count,
    };
    let before = errno();
    let mut sent = 0;
    while sent < count {
        let here = msgs.wrapping_add(sent as usize);
        let read = guard(Call::Sendmmsg, stage::HOOK, || {
            memory::read::<Sent>(filter::allowed(), here.cast())
        })
        .flatten();
        let name = read.as_ref().and_then(|m| name_of(m));
        let connects = is_fast_open(flags) && name.is_some();
        let go = |to: Option<&[u8]>| match (to, read) {
            (to, Some(mut m)) if to.is_some() || session::has_block() => {
                let ret = with_header(Call::Sendmmsg, &mut m, to, |m| {
                    // SAFETY: a copy of the program's header.
                    unsafe { next(fd, m.cast(), 1, flags) }
                });
                let told = here.wrapping_byte_add(core::mem::offset_of!(mmsghdr, msg_len));
                if ret == 1 && !answer(told.cast(), m.last().map_or(0, |sent| *sent as c_uint)) {
                    set_errno(libc::EFAULT);
                    return -1;
                }
                ret
            }
            // SAFETY: as the caller's.
            _ => unsafe { next(fd, here, at_a_time, flags) },
        };
        let ret = match read.is_none() || is_quiet(fd, name.is_some()) {
            true => go(None),
            false => sending(Call::Sendmmsg, fd, connects, name, go),
        };
        match ret {
            1.. => sent += ret as c_uint,
            // What was sent before counts; the error comes with the next call.
            _ if sent > 0 => break,
            _ => return ret,
        }
        if ret as c_uint != at_a_time {
            break;
        }
    }
    set_errno(before);
    sent as c_int
}
