//! sendto, sendmsg, sendmmsg: a send on an unbound socket binds it.
//!
//! Where the send names no address, or the socket has its port, the price is at
//! most one load of the descriptor cache.

use core::ffi::{c_int, c_uint, c_void};

use bindgate_core::addr::{Addr, af};
use bindgate_core::policy::Implicit;
use bindgate_core::record::{Call, flag, stage};
use bindgate_core::shared::option;
use bindgate_core::socket::{SocketType, ty};
use libc::{mmsghdr, msghdr, sockaddr, socklen_t, ssize_t};

use super::bind::{Binding, Plan, judge, note_bind, settle as settle_bind};
use super::note::describe;
use super::{errno, finish, outcome, set_errno};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::{fds, filter, memory, name};
use crate::real;
use crate::session::{self, Run};
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
        fds::identify(allowed, fd).ok()?.ty
    };
    if !binds_itself(what, connects) || fds::is_bound(allowed, fd) {
        return None;
    }
    Some((what, Addr::any(what.domain)?))
}

/// Does the message name a peer?
fn names_peer(msg: *const msghdr) -> bool {
    // `msg_name` comes first.
    memory::read(filter::allowed(), msg.cast::<usize>()).is_some_and(|name| name != 0)
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
pub fn settle(run: &Run, call: Call, plan: &mut Option<Binding>) -> Result<(), Errno> {
    let Some(b) = plan else { return Ok(()) };
    let answer = guard(call, stage::RECORD, || {
        if let Some(answer) = settle_bind(run, b) {
            return Some(answer);
        }
        if let Plan::Place(placing) = &b.plan {
            let bound = sys::bind(filter::allowed(), b.record.fd, placing.real.bytes());
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
#[inline(never)]
pub fn note(run: &Run, fd: c_int, plan: &mut Option<Binding>, connects: bool, errno: u16) {
    let Some(b) = plan else {
        // The next call need not look that far.
        let cached = fds::get(fd);
        if errno == 0 && cached.is_valid() && binds_itself(cached.socket(), connects) {
            fds::bound(fd);
        }
        return;
    };
    // Other failures leave the socket bound too: what the kernel says of the
    // name is what counts.
    let name = name::local(filter::allowed(), b.record.fd);
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

macro_rules! sending {
    ($(#[$doc:meta])* $name:ident, $binding:ident($fd:ident, $($arg:ident: $ty:ty),*) -> $ret:ty,
     $call:expr, $connects:expr, $plain:expr, $addressed:expr) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name($fd: c_int, $($arg: $ty),*) -> $ret {
            if $plain || fds::get($fd).is_bound() {
                // SAFETY: as the caller's.
                return unsafe { real::$name()($fd, $($arg),*) };
            }
            // SAFETY: as the caller's.
            unsafe { $binding($fd, $($arg),*) }
        }

        /// The same, on a socket that may not have a port.
        ///
        /// # Safety
        /// As the caller's.
        #[inline(never)]
        unsafe fn $binding($fd: c_int, $($arg: $ty),*) -> $ret {
            let next = real::$name();
            let before = errno();
            let Some(run) = session::get() else {
                // SAFETY: as the caller's.
                return unsafe { next($fd, $($arg),*) };
            };
            let mut plan = None;
            let judged = guard($call, stage::POLICY, || {
                if $addressed {
                    implicit(run, $call, $fd, $connects, &mut plan);
                }
            });
            if judged.is_none() {
                plan = None;
            }
            if let Err(e) = settle(run, $call, &mut plan) {
                set_errno(c_int::from(e.0));
                return -1;
            }
            // SAFETY: as the caller's.
            let ret = unsafe { next($fd, $($arg),*) };
            let errno_after = outcome(ret as isize);
            guard($call, stage::RECORD, || note(run, $fd, &mut plan, $connects, errno_after));
            finish(ret, before, c_int::from(errno_after))
        }
    };
}

sending! {
    /// sendto(2).
    ///
    /// # Safety
    /// As sendto(2).
    sendto, binding_sendto(fd, buf: *const c_void, size: usize, flags: c_int, addr: *const sockaddr, len: socklen_t) -> ssize_t,
    Call::Sendto, flags & libc::MSG_FASTOPEN != 0, addr.is_null(), true
}
sending! {
    /// sendmsg(2).
    ///
    /// # Safety
    /// As sendmsg(2).
    sendmsg, binding_sendmsg(fd, msg: *const msghdr, flags: c_int) -> ssize_t,
    Call::Sendmsg, flags & libc::MSG_FASTOPEN != 0, false,
    names_peer(msg)
}
sending! {
    /// sendmmsg(2).
    ///
    /// # Safety
    /// As sendmmsg(2).
    sendmmsg, binding_sendmmsg(fd, msgs: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int,
    Call::Sendmmsg, flags & libc::MSG_FASTOPEN != 0, false,
    names_peer(msgs.cast())
}
