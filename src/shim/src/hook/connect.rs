//! connect: `connect` rules, and the bind that the kernel does on its own.

use core::ffi::c_int;

use bindgate_core::addr::af;
use bindgate_core::record::{Call, stage};
use libc::{sockaddr, socklen_t};

use super::{errno, finish, outcome, peer, refuse, send, set_errno};
use crate::out::faults::guard;
use crate::own::memory::{self, Made};
use crate::own::{fds, filter};
use crate::redirect::block::Called;
use crate::session::{self, Run};
use crate::{real, redirect};

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
        peer::decide(run, Call::Connect, fd, (addr, len), &mut plan);
    });
    if decided.is_none() {
        plan = None;
    }
    let settled = plan.as_mut().and_then(|p| {
        guard(Call::Connect, stage::RECORD, || match p.refuse(run) {
            Some(e) => Some(Err(e)),
            None => p.replace(run),
        })
        .flatten()
    });
    match settled {
        Some(Ok(())) => return finish(0, before, before),
        Some(Err(e)) => return refuse(e),
        None => {}
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
    let moved = plan.as_ref().and_then(|p| p.instead());
    let (ret, called) = match (session::has_block(), moved) {
        // SAFETY: as the caller's.
        (true, moved) => unsafe { in_block(run, (fd, addr, len), moved) },
        (false, Some(to)) => {
            // SAFETY: our own copy of an address.
            let ret = unsafe { next(fd, to.as_ptr().cast(), to.len() as socklen_t) };
            (ret, None)
        }
        // SAFETY: as the caller's.
        (false, None) => (unsafe { next(fd, addr, len) }, None),
    };
    let errno_after = outcome(ret as isize);
    let is_moved = plan.as_ref().is_some_and(|p| p.is_moved());
    guard(Call::Connect, stage::RECORD, || {
        if let Some(p) = &mut plan {
            p.note(run, errno_after);
        }
        after_connect(run, fd, is_moved, errno_after);
        let was_v6only = matches!(
            called,
            Some(Called::At {
                was_v6only: true,
                ..
            })
        );
        if called.is_some() && errno_after == 0 {
            redirect::block::connected(filter::allowed(), run, fd);
            if was_v6only {
                redirect::block::stays_v6only(filter::allowed(), run, fd);
            }
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
        let is_left = match called {
            Some(_) => !under_way.contains(&c_int::from(errno_after)),
            None if errno_after != 0 || !session::has_block() => false,
            // SAFETY: connect(2) succeeded with this address.
            None => unsafe { is_dissolving(addr, len) },
        };
        if is_left {
            redirect::block::left(filter::allowed(), run, fd, was_v6only);
        }
        if !under_way.contains(&c_int::from(errno_after))
            // SAFETY: connect(2) succeeded with this address.
            || errno_after == 0 && !is_moved && unsafe { is_dissolving(addr, len) }
        {
            fds::unbound(fd);
        }
    });
    finish(ret, before, c_int::from(errno_after))
}

/// connect(2) in a run that has a block for its loopback; was it called there?
///
/// # Safety
/// As connect(2), but the address may be anything.
#[cold]
#[inline(never)]
unsafe fn in_block(
    run: &Run,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    moved: Option<&[u8]>,
) -> (c_int, Option<Called>) {
    let next = real::connect();
    let called = guard(Call::Connect, stage::MODEL, || {
        called_in_block(run, (fd, addr, len), moved)
    })
    .flatten();
    let ret = match (called, moved) {
        (Some(Called::At { real, .. }), _) => {
            let to = real.addr().write();
            let to = to.bytes();
            // SAFETY: our own copy of an address.
            unsafe { next(fd, to.as_ptr().cast(), to.len() as socklen_t) }
        }
        (Some(Called::Refused(e)), _) => {
            set_errno(c_int::from(e.0));
            -1
        }
        (_, Some(to)) => {
            // SAFETY: our own copy of an address.
            unsafe { next(fd, to.as_ptr().cast(), to.len() as socklen_t) }
        }
        // SAFETY: as the caller's.
        _ => unsafe { next(fd, addr, len) },
    };
    (ret, called)
}

/// Where a connect to the run's own loopback goes.
#[inline(never)]
fn called_in_block(
    run: &Run,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    moved: Option<&[u8]>,
) -> Option<Called> {
    let allowed = filter::allowed();
    if let Some(to) = moved {
        return redirect::block::connect(allowed, run, fd, to);
    }
    let raw = memory::copy_addr(allowed, addr, len, Made::Connect(fd)).ok()?;
    if raw.family() == Some(af::UNSPEC) {
        return None;
    }
    redirect::block::connect(allowed, run, fd, raw.bytes())
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

/// What is kept of a redirected socket is made to fit its new peer.
fn after_connect(run: &Run, fd: c_int, is_moved: bool, errno: u16) {
    let under_way = [0, libc::EINPROGRESS, libc::EINTR].contains(&c_int::from(errno));
    if under_way && session::has_moves() {
        redirect::has_connected(filter::allowed(), run, fd, is_moved);
    }
}
