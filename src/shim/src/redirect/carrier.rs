//! Unix sockets that are made in the place of vsock ones, before anything refers
//! to them, and the way back to the kernel's own.
//!
//! Which sockets are made so, and what is the kernel's to answer, is the core's
//! to say ([`bindgate_core::judge::socket::carrier`]).

use bindgate_core::addr::{Addr, UnixName};
use bindgate_core::judge::Known;
use bindgate_core::record::{Check, Identity, RULE_NONE, Record, flag, stage};
use bindgate_core::shared::{Moved, move_kind, move_mark};
use bindgate_core::socket::SocketType;

use super::{options, refused_with, table, unix, vsock};
use crate::own::fds::{self, Socket};
use crate::session::Run;
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed, Errno};
use crate::{hook, real};

/// May everything be done that a carrier will need?
pub fn may_be_made(allowed: Allowed) -> bool {
    allowed.may_all(needs::REDIRECT_TO_UNIX)
}

/// The new Unix socket `fd` stands for one of type `socket` from now on. `false`
/// if nobody can keep that.
pub fn made(allowed: Allowed, run: &Run, fd: i32, socket: SocketType, record: &mut Record) -> bool {
    if run.vsock.is_some() {
        return vsock::mark(allowed, fd);
    }
    let (Ok(cookie), Some(virt)) = (sys::cookie(allowed, fd), Addr::any(socket.domain)) else {
        return false;
    };
    let entry = Moved {
        cookie,
        netns: sys::netns_cookie(allowed, fd).unwrap_or(0),
        kind: move_kind::CARRIER,
        marks: move_mark::NO_TAG,
        uid: 0,
        rule: RULE_NONE,
        device: 0,
        socket,
        virt: virt.write(),
        real: Addr::Unix(UnixName::AUTO).write(),
    };
    (record.cookie, record.identity) = (cookie, Identity::Cookie);
    record.used = entry.real;
    table::enter_carrier(allowed, run, &entry)
}

/// Puts the kernel's own socket in the place of a carrier, with its options, its
/// flags and all its descriptors. `socket` is that one then. Where it cannot be
/// had the carrier stays.
#[inline(never)]
pub fn restore(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    socket: &mut Socket,
    record: &mut Record,
) -> Result<(), Errno> {
    let new = match own(socket.ty) {
        Ok(new) => new,
        Err(e) => {
            record.stages |= stage::FORWARD;
            record.flags |= flag::FORWARDED;
            (record.check, record.kernel, record.errno) = (Check::SockCreate, e.0, e.0);
            return Err(e);
        }
    };
    let answer = sys::without_signals(allowed, || give_way(allowed, run, fd, new, socket, record));
    sys::close(allowed, new);
    answer
}

/// The program's own socket(2), which was put off.
fn own(ty: SocketType) -> Result<i32, Errno> {
    let kind = i32::from(ty.ty) | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let new = unsafe { real::socket()(i32::from(ty.domain), kind, i32::from(ty.protocol)) };
    match new {
        0.. => Ok(new),
        _ => Err(Errno(hook::errno() as u16)),
    }
}

fn give_way(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    new: i32,
    socket: &mut Socket,
    record: &mut Record,
) -> Result<(), Errno> {
    let (carrier, ty) = (socket.cookie, socket.ty);
    let cookie = sys::cookie(allowed, new)?;
    match unix::Old::with(allowed, fd, ty, |old| {
        options::give_back(allowed, run, fd, new, carrier);
        old.give_way_to(allowed, new)
    }) {
        Ok(answer) => answer?,
        Err(why) => return refused_with(record, why),
    }
    run.state.moves.remove(carrier);
    run.state.socket_options.forget(carrier);
    fds::made(fd, ty);
    (socket.cookie, socket.known) = (cookie, Known::Exactly);
    (record.cookie, record.identity) = (cookie, Identity::Cookie);
    Ok(())
}
