//! getsockname, getpeername, accept, getsockopt, setsockopt: what the program
//! is told about its sockets. In a run without moved sockets each is the
//! forward and one load.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::record::{Call, stage};
use bindgate_core::run::move_mark;
use libc::{sockaddr, socklen_t};

use super::{absent, errno, finish, outcome, refuse};
use crate::faults::guard;
use crate::run::{self, Run};
use crate::{fds, memory, place, real};

/// The run, if any of its sockets is elsewhere than its program thinks.
fn moved_run() -> Option<&'static Run> {
    run::get().filter(|run| run.state.header.moves.load(Relaxed) > 0)
}

/// A call that tells an address, with another one put in its place afterwards.
macro_rules! telling {
    ($(#[$doc:meta])* $name:ident, $call:expr, $virtual:path) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            fd: c_int,
            addr: *mut sockaddr,
            len: *mut socklen_t,
        ) -> c_int {
            let Some(next) = real::$name() else {
                return absent();
            };
            let Some(run) = moved_run() else {
                // SAFETY: as the caller's.
                return unsafe { next(fd, addr, len) };
            };
            let before = errno();
            let room = guard($call, stage::HOOK, || memory::read(len)).flatten();
            // SAFETY: as the caller's.
            let ret = unsafe { next(fd, addr, len) };
            let after = c_int::from(outcome(ret as isize));
            if let (0, Some(room)) = (ret, room) {
                guard($call, stage::IDENTIFY, || {
                    if let Some(name) = $virtual(run, fd) {
                        memory::hand_over(addr, len, room, &name);
                    }
                });
            }
            finish(ret, before, after)
        }
    };
}

telling! {
    /// getsockname(2): where the program thinks that it is.
    ///
    /// # Safety
    /// As getsockname(2).
    getsockname, Call::Bind, place::virtual_name
}
telling! {
    /// getpeername(2): who the program thinks that it talks to.
    ///
    /// # Safety
    /// As getpeername(2).
    getpeername, Call::Connect, place::virtual_peer
}

/// A new connection: what is known of its listener is known of it.
fn accepted(listener: c_int, fd: c_int) {
    let from = fds::get(listener);
    if fd >= 0 && from.is_valid() {
        fds::made(fd, from.socket());
        fds::bound(fd);
    } else {
        fds::forget(fd);
    }
}

/// The run, if a Unix socket stands in for another one in it.
fn replaced_run() -> Option<&'static Run> {
    run::get().filter(|run| run.state.header.unix_moves.load(Relaxed) > 0)
}

macro_rules! accepting {
    ($(#[$doc:meta])* $name:ident($($flags:ident: $ty:ty)?)) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            listener: c_int,
            addr: *mut sockaddr,
            len: *mut socklen_t,
            $($flags: $ty)?
        ) -> c_int {
            let Some(next) = real::$name() else {
                return absent();
            };
            let Some(run) = replaced_run() else {
                // SAFETY: as the caller's.
                let fd = unsafe { next(listener, addr, len $(, $flags)?) };
                accepted(listener, fd);
                return fd;
            };
            let before = errno();
            let room = guard(Call::Listen, stage::HOOK, || memory::read(len)).flatten();
            // SAFETY: as the caller's.
            let fd = unsafe { next(listener, addr, len $(, $flags)?) };
            let after = c_int::from(outcome(fd as isize));
            accepted(listener, fd);
            if let (0.., Some(room), false) = (fd, room, addr.is_null()) {
                guard(Call::Listen, stage::IDENTIFY, || {
                    if let Some(peer) = place::virtual_peer(run, fd) {
                        memory::hand_over(addr, len, room, &peer);
                    }
                });
            }
            finish(fd, before, after)
        }
    };
}

accepting! {
    /// accept(2).
    ///
    /// # Safety
    /// As accept(2).
    accept()
}
accepting! {
    /// accept4(2).
    ///
    /// # Safety
    /// As accept4(2).
    accept4(flags: c_int)
}

/// setsockopt(2): an option of the family that the program believes in.
///
/// # Safety
/// As setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    let Some(next) = real::setsockopt() else {
        return absent();
    };
    let Some(run) = moved_run() else {
        // SAFETY: as the caller's.
        return unsafe { next(fd, level, name, value, len) };
    };
    let before = errno();
    let found = guard(Call::Bind, stage::IDENTIFY, || place::find(run, fd)).flatten();
    if let Some(found) = &found
        && len as usize <= 256
    {
        let answer = guard(Call::Bind, stage::MODEL, || {
            if !memory::is_readable(value as usize, len as usize) {
                return None;
            }
            let mut copy = [0u8; 256];
            // SAFETY: the bytes were asked about, and fit.
            unsafe {
                core::ptr::copy_nonoverlapping(value.cast(), copy.as_mut_ptr(), len as usize);
            }
            place::set_option(run, found, level, name, copy.get(..len as usize)?)
        })
        .flatten();
        match answer {
            Some(Ok(())) => return finish(0, before, before),
            Some(Err(e)) => return refuse(e),
            None => {}
        }
    }
    // SAFETY: as the caller's.
    let ret = unsafe { next(fd, level, name, value, len) };
    let after = c_int::from(outcome(ret as isize));
    if let (0, Some(found)) = (ret, &found) {
        let mark = match (level, name) {
            (libc::SOL_SOCKET, libc::SO_REUSEADDR) => move_mark::REUSEADDR,
            (libc::SOL_SOCKET, libc::SO_REUSEPORT) => move_mark::REUSEPORT,
            // The program's value has taken the place of our tag.
            (libc::IPPROTO_IP, place::IP_LOCAL_PORT_RANGE) => move_mark::NO_TAG,
            _ => 0,
        };
        if mark != 0 && !found.is_child {
            guard(Call::Bind, stage::MODEL, || {
                let on = mark == move_mark::NO_TAG
                    || memory::read(value.cast::<c_int>()).is_some_and(|v| v != 0);
                let (set, clear) = if on { (mark, 0) } else { (0, mark) };
                run.state.moves.set_marks(found.cookie, set, clear);
            });
        }
    }
    finish(ret, before, after)
}

/// getsockopt(2): an option of the family that the program believes in.
///
/// # Safety
/// As getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let Some(next) = real::getsockopt() else {
        return absent();
    };
    let Some(run) = moved_run() else {
        // SAFETY: as the caller's.
        return unsafe { next(fd, level, name, value, len) };
    };
    let before = errno();
    let room = guard(Call::Bind, stage::HOOK, || memory::read(len)).flatten();
    // SAFETY: as the caller's.
    let ret = unsafe { next(fd, level, name, value, len) };
    let after = c_int::from(outcome(ret as isize));
    let answer = room
        .filter(|_| ret == 0 || matches!(after, libc::EOPNOTSUPP | libc::ENOPROTOOPT))
        .and_then(|_| {
            guard(Call::Bind, stage::IDENTIFY, || {
                let found = place::find(run, fd)?;
                place::get_option(run, &found, level, name)
            })
            .flatten()
        });
    match (answer, room) {
        (Some(Ok((bytes, full))), Some(room)) => {
            let fits = bytes.get(..full.min(room as usize)).unwrap_or(&[]);
            let len_bytes = (fits.len() as socklen_t).to_ne_bytes();
            if memory::write(value, fits) && memory::write(len.cast(), &len_bytes) {
                finish(0, before, before)
            } else {
                refuse(crate::sys::Errno(libc::EFAULT as u16))
            }
        }
        (Some(Err(e)), _) => refuse(e),
        _ => finish(ret, before, after),
    }
}
