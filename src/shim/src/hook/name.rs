//! getsockname, getpeername, accept, getsockopt, setsockopt: what the program
//! is told about its sockets. In a run without moved sockets each is the
//! forward and one comparison.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::Addr;
use bindgate_core::record::{Call, stage};
use bindgate_core::shared::move_mark;
use libc::{sockaddr, socklen_t};

use super::{errno, finish, outcome, refuse, sockopt};
use crate::out::faults::guard;
use crate::own::{self, fds, filter, memory};
use crate::session::{self, Run};
use crate::sys::{self, Errno};
use crate::{real, redirect};

/// The memory for an answer is not there, or cannot be written.
const NOT_THERE: Errno = Errno(libc::EFAULT as u16);

/// The run, if any of its sockets is elsewhere than its program thinks: where
/// [`session::has_moves`] cannot say no.
fn moved_run() -> Option<&'static Run> {
    session::get().filter(|run| run.state.header.moves.load(Relaxed) > 0)
}

/// getsockname(2): where the program thinks that it is.
///
/// # Safety
/// As getsockname(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn getsockname(
    fd: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    if session::has_moves() {
        // SAFETY: as the caller's.
        return unsafe { virtual_getsockname(fd, addr, len) };
    }
    // SAFETY: as the caller's.
    unsafe { real::getsockname()(fd, addr, len) }
}

/// getsockname(2), of a socket that may be elsewhere.
///
/// # Safety
/// As getsockname(2).
#[cold]
#[inline(never)]
unsafe fn virtual_getsockname(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let before = errno();
    let told = guard(Call::Bind, stage::IDENTIFY, || {
        let name = told_name(moved_run()?, fd)?;
        // The kernel is not asked: where the socket really is may take more
        // room than the program has.
        // SAFETY: the program wants an address there.
        Some(unsafe { tell(addr, len, &name) })
    });
    match told.flatten() {
        Some(Ok(())) => finish(0, before, before),
        Some(Err(e)) => refuse(e),
        // SAFETY: as the caller's.
        None => unsafe { real::getsockname()(fd, addr, len) },
    }
}

/// The local name that the program believes in, if it is not the real one.
#[inline(never)]
fn told_name(run: &Run, fd: c_int) -> Option<Addr> {
    let allowed = filter::allowed();
    if run.block.is_none() {
        return redirect::virtual_name(allowed, run, fd);
    }
    if !redirect::block::may_ask(allowed) {
        return None;
    }
    let moved = match redirect::block::has_moves(run) {
        true => redirect::virtual_name(allowed, run, fd),
        false => None,
    };
    moved.or_else(|| {
        let mut name = own::name::real_local(allowed, fd).ok()?;
        redirect::block::rename_local(allowed, run, fd, &mut name)
            .then(|| name.read())
            .flatten()
    })
}

/// The peer that the program believes in, if it is not the real one.
#[inline(never)]
fn told_peer(run: &Run, fd: c_int) -> Option<Addr> {
    let allowed = filter::allowed();
    if run.block.is_none() {
        return redirect::virtual_peer(allowed, run, fd);
    }
    if !redirect::block::may_ask(allowed) {
        return None;
    }
    let moved = match redirect::block::has_moves(run) {
        true => redirect::virtual_peer(allowed, run, fd),
        false => None,
    };
    moved.or_else(|| {
        let real = own::name::real_peer(allowed, fd).ok()?;
        redirect::block::peer_name(allowed, run, fd, &real.read()?)
    })
}

/// Tells the program an address, as the kernel's `move_addr_to_user` does.
///
/// # Safety
/// `addr` and `len` are what the program gave to be told an address.
unsafe fn tell(addr: *mut sockaddr, len: *mut socklen_t, name: &Addr) -> Result<(), Errno> {
    let allowed = filter::allowed();
    let room = memory::read(allowed, len).ok_or(NOT_THERE)?;
    if room > i32::MAX as socklen_t {
        return Err(Errno(libc::EINVAL as u16));
    }
    // SAFETY: as the caller says.
    match unsafe { memory::hand_over(allowed, addr, len, room, name) } {
        true => Ok(()),
        false => Err(NOT_THERE),
    }
}

/// getpeername(2): who the program thinks that it talks to.
///
/// # Safety
/// As getpeername(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn getpeername(
    fd: c_int,
    addr: *mut sockaddr,
    len: *mut socklen_t,
) -> c_int {
    if session::has_moves() {
        // SAFETY: as the caller's.
        return unsafe { virtual_getpeername(fd, addr, len) };
    }
    // SAFETY: as the caller's.
    unsafe { real::getpeername()(fd, addr, len) }
}

/// getpeername(2), of a socket whose peer may be elsewhere.
///
/// # Safety
/// As getpeername(2).
#[cold]
#[inline(never)]
unsafe fn virtual_getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let next = real::getpeername();
    let Some(run) = moved_run() else {
        // SAFETY: as the caller's.
        return unsafe { next(fd, addr, len) };
    };
    let before = errno();
    let room = guard(Call::Connect, stage::HOOK, || {
        memory::read(filter::allowed(), len)
    })
    .flatten();
    // SAFETY: as the caller's.
    let ret = unsafe { next(fd, addr, len) };
    let after = c_int::from(outcome(ret as isize));
    if let (0, Some(room)) = (ret, room) {
        let told = guard(Call::Connect, stage::IDENTIFY, || {
            let allowed = filter::allowed();
            told_peer(run, fd).is_none_or(|name| {
                // SAFETY: the program wants an address there.
                unsafe { memory::hand_over(allowed, addr, len, room, &name) }
            })
        });
        if told == Some(false) {
            return refuse(NOT_THERE);
        }
    }
    finish(ret, before, after)
}

/// The run, if a Unix socket stands in for another one in it: where
/// [`session::has_unix_moves`] cannot say no.
fn replaced_run() -> Option<&'static Run> {
    session::get().filter(|run| run.state.header.unix_moves.load(Relaxed) > 0)
}

macro_rules! accepting {
    ($(#[$doc:meta])* $name:ident, $virtual:ident($($flags:ident: $ty:ty)?)) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            listener: c_int,
            addr: *mut sockaddr,
            len: *mut socklen_t,
            $($flags: $ty)?
        ) -> c_int {
            if session::has_unix_moves() {
                // SAFETY: as the caller's.
                return unsafe { $virtual(listener, addr, len $(, $flags)?) };
            }
            // SAFETY: as the caller's.
            let fd = unsafe { real::$name()(listener, addr, len $(, $flags)?) };
            fds::accepted(listener, fd);
            fd
        }

        /// The same, where the peer may be elsewhere.
        ///
        /// # Safety
        /// As the caller's.
        #[cold]
        #[inline(never)]
        unsafe fn $virtual(
            listener: c_int,
            addr: *mut sockaddr,
            len: *mut socklen_t,
            $($flags: $ty)?
        ) -> c_int {
            let next = real::$name();
            let Some(run) = replaced_run() else {
                // SAFETY: as the caller's.
                let fd = unsafe { next(listener, addr, len $(, $flags)?) };
                fds::accepted(listener, fd);
                return fd;
            };
            let before = errno();
            let room = guard(Call::Listen, stage::HOOK, || {
                memory::read(filter::allowed(), len)
            }).flatten();
            // SAFETY: as the caller's.
            let fd = unsafe { next(listener, addr, len $(, $flags)?) };
            let after = c_int::from(outcome(fd as isize));
            fds::accepted(listener, fd);
            if fd >= 0 && session::is_vsock_host() {
                let flags: &[c_int] = &[$($flags)?];
                let flags = flags.first().copied().unwrap_or(0);
                let taken = guard(Call::Listen, stage::IDENTIFY, || {
                    redirect::vmm::take_over(filter::allowed(), run, fd, flags)
                });
                if let Some(Err(Errno(e))) = taken {
                    return refuse(Errno(e));
                }
            }
            if let (0.., Some(room), false) = (fd, room, addr.is_null()) {
                let told = guard(Call::Listen, stage::IDENTIFY, || {
                    let allowed = filter::allowed();
                    told_peer(run, fd).is_none_or(|peer| {
                        // SAFETY: the program wants an address there.
                        unsafe { memory::hand_over(allowed, addr, len, room, &peer) }
                    })
                });
                if told == Some(false) {
                    // The kernel, too, drops a connection that it cannot tell of.
                    fds::forget(fd);
                    sys::close(filter::allowed(), fd);
                    return refuse(NOT_THERE);
                }
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
    accept, virtual_accept()
}
accepting! {
    /// accept4(2).
    ///
    /// # Safety
    /// As accept4(2).
    accept4, virtual_accept4(flags: c_int)
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
    if session::has_moves() {
        // SAFETY: as the caller's.
        return unsafe { virtual_setsockopt(fd, level, name, value, len) };
    }
    // SAFETY: as the caller's.
    unsafe { sockopt::forward(fd, level, name, value, len) }
}

/// setsockopt(2), of a socket that may be elsewhere.
///
/// # Safety
/// As setsockopt(2).
#[cold]
#[inline(never)]
unsafe fn virtual_setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    let Some(run) = moved_run() else {
        // SAFETY: as the caller's.
        return unsafe { sockopt::forward(fd, level, name, value, len) };
    };
    if run.block.is_some() && !redirect::block::has_moves(run) {
        // SAFETY: as the caller's.
        return unsafe { sockopt::forward(fd, level, name, value, len) };
    }
    let before = errno();
    let found = guard(Call::Bind, stage::IDENTIFY, || {
        redirect::find(filter::allowed(), run, fd)
    })
    .flatten();
    let answer = guard(Call::Bind, stage::MODEL, || {
        redirect::set_option(
            filter::allowed(),
            run,
            (fd, found.as_ref()?),
            (level, name),
            value,
            len,
        )
    });
    match answer.flatten() {
        Some(Ok(())) => return finish(0, before, before),
        Some(Err(e)) => return refuse(e),
        None => {}
    }
    // SAFETY: as the caller's.
    let ret = unsafe { sockopt::forward(fd, level, name, value, len) };
    let after = c_int::from(outcome(ret as isize));
    if let (0, Some(found)) = (ret, &found) {
        if (level, name) == (libc::SOL_SOCKET, libc::SO_RCVLOWAT) && session::is_vsock_host() {
            session::count_bytes();
        }
        let mark = match (level, name) {
            (libc::SOL_SOCKET, libc::SO_REUSEADDR) => move_mark::REUSEADDR,
            (libc::SOL_SOCKET, libc::SO_REUSEPORT) => move_mark::REUSEPORT,
            // The program's value has taken the place of our tag.
            (libc::IPPROTO_IP, redirect::IP_LOCAL_PORT_RANGE) => move_mark::NO_TAG,
            _ => 0,
        };
        if mark != 0 && !found.is_child {
            guard(Call::Bind, stage::MODEL, || {
                let on = mark == move_mark::NO_TAG
                    || memory::read(filter::allowed(), value.cast::<c_int>())
                        .is_some_and(|v| v != 0);
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
    if session::has_moves() {
        // SAFETY: as the caller's.
        return unsafe { virtual_getsockopt(fd, level, name, value, len) };
    }
    // SAFETY: as the caller's.
    unsafe { real::getsockopt()(fd, level, name, value, len) }
}

/// getsockopt(2), of a socket that may be elsewhere.
///
/// # Safety
/// As getsockopt(2).
#[cold]
#[inline(never)]
unsafe fn virtual_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let next = real::getsockopt();
    let Some(run) = moved_run() else {
        // SAFETY: as the caller's.
        return unsafe { next(fd, level, name, value, len) };
    };
    let is_v6only = (level, name) == (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
    if run.block.is_some() && !is_v6only && !redirect::block::has_moves(run) {
        // SAFETY: as the caller's.
        return unsafe { next(fd, level, name, value, len) };
    }
    let before = errno();
    if is_v6only && run.block.is_some() {
        let told = guard(Call::Bind, stage::IDENTIFY, || {
            let allowed = filter::allowed();
            let known = redirect::block::may_ask(allowed)
                .then(|| redirect::block::v6only(allowed, run, fd))
                .flatten()?;
            // SAFETY: the program wants an answer there.
            Some(unsafe {
                redirect::tell_int(allowed, fd, (level, name), i32::from(known), value, len)
            })
        });
        match told.flatten() {
            Some(Ok(())) => return finish(0, before, before),
            Some(Err(e)) => return refuse(e),
            None => {}
        }
    }
    let answer = guard(Call::Bind, stage::IDENTIFY, || {
        let found = redirect::find(filter::allowed(), run, fd)?;
        // SAFETY: the program wants an answer there.
        unsafe {
            redirect::get_option(
                filter::allowed(),
                run,
                fd,
                &found,
                (level, name),
                value,
                len,
            )
        }
    });
    match answer.flatten() {
        Some(Ok(())) => return finish(0, before, before),
        Some(Err(e)) => return refuse(e),
        None => {}
    }
    // SAFETY: as the caller's.
    let ret = unsafe { next(fd, level, name, value, len) };
    finish(ret, before, c_int::from(outcome(ret as isize)))
}
