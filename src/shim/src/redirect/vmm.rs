//! The other side of a virtual machine monitor's sockets, carried out: listeners
//! at files where the monitor looks for them, and connects with the words that it
//! wants to hear. Who is where, and what is said, is the core's to say
//! (`bindgate_core::judge::vsock`).

use core::sync::atomic::AtomicU32;

use bindgate_core::addr::{Addr, RawAddr, UnixKind, UnixName, VMADDR_ANY, af};
use bindgate_core::judge::vsock::{self, At, Call, Delivered, Host, Line, Name};
use bindgate_core::record::RULE_NONE;
use bindgate_core::shared::PEER_KEY;
use bindgate_core::socket::{SocketType, ty};

use super::unix::{Old, at_once, make_way};
use super::vsock::{
    SO_MAX_PACING_RATE, bind_unix, hold, is_marked, let_them_bind, mark, place_of, release, waits,
    wake,
};
use super::{Peer, options, table, vsock_options};
use crate::own::fds;
use crate::own::name;
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// How long the lock of a file is waited for: two seconds, in turns of a
/// millisecond. Whoever has it makes a few system calls.
const PATIENCE: u32 = 2000;
/// Nanoseconds in which what is handed over has to come: two seconds.
const DELIVERY: u64 = 2_000_000_000;
/// The first port that stands for one of the guest's, which nobody tells.
const FIRST: u64 = 1024;

/// Makes a place the socket's, if the host has files for the other side; `None`
/// if it has not.
///
/// Such a host keeps one socket at a port, whatever context id it is bound to.
#[inline(never)]
pub fn claim(
    allowed: Allowed,
    run: &Run,
    host: &Host<'_>,
    fd: i32,
    ty: SocketType,
    name: Name,
) -> Option<Result<(), Errno>> {
    if !host.is_file(name.with(At::Any)) {
        return None;
    }
    Some(sys::without_signals(allowed, || {
        let lock = lock(allowed, host, name.port)?;
        let answer = claim_locked(allowed, run, host, fd, ty, name);
        sys::close(allowed, lock);
        answer
    }))
}

fn claim_locked(
    allowed: Allowed,
    run: &Run,
    host: &Host<'_>,
    fd: i32,
    ty: SocketType,
    name: Name,
) -> Result<(), Errno> {
    let file = host.unix(name.with(At::Any));
    let file = file.ok_or(Errno(vsock::MALFORMED))?;
    // Nobody is bound to it, and nothing else is there.
    if !make_way(allowed, &file) {
        return Err(Errno(vsock::IN_USE));
    }
    let own = match host.is_file(name) {
        true => 0,
        false => vsock::bit(name.at, ty.ty == ty::SEQPACKET),
    };
    let entered = &run.state.vsock_held;
    let others = entered.enter(name.port, own) & !own & vsock::NOT_FILES;
    let_them_bind(allowed, entered, name.port);
    let (held, free) = hold(allowed, host, name, others);
    let answer = free.and_then(|()| bind_unix(allowed, fd, host, name));
    release(allowed, held);
    answer
}

/// A socket that has the name of the lock. The kernel frees it, whatever happens.
fn lock(allowed: Allowed, host: &Host<'_>, port: u32) -> Result<i32, Errno> {
    let name = host.lock(port).ok_or(Errno(vsock::MALFORMED))?;
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    let fd = sys::socket(allowed, af::UNIX.into(), kind, 0)?;
    let none = AtomicU32::new(0);
    for _ in 0..PATIENCE {
        match sys::bind(allowed, fd, Addr::Unix(name).write().bytes()) {
            Err(Errno(vsock::IN_USE)) => sys::futex_wait(allowed, &none, 0, 1),
            Ok(()) => return Ok(fd),
            Err(e) => {
                sys::close(allowed, fd);
                return Err(e);
            }
        }
    }
    sys::close(allowed, fd);
    Err(Errno(vsock::IN_USE))
}

/// Connects a carrier to the other side.
#[inline(never)]
pub fn connect(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    socket: SocketType,
    call: &Call,
    asked: &RawAddr,
) -> Result<(), Errno> {
    let cookie = sys::cookie(allowed, fd)?;
    let until = now(allowed).saturating_add(vsock_options::timeout(run, cookie));
    let to = Addr::Unix(call.to).write();
    let answer = sys::without_signals(allowed, || {
        at_once(allowed, fd, || sys::connect(allowed, fd, to.bytes()))
    });
    answer.map_err(|e| Errno(call.error(e.0)))?;
    if let Some(port) = call.asks
        && let Err(e) = shake_hands(allowed, fd, port, until)
    {
        start_anew(allowed, run, fd, socket);
        return Err(e);
    }
    fds::bound(fd);
    remember(allowed, run, fd, socket, asked, &to);
    match waits(allowed, fd) {
        true => Ok(()),
        // As of any other connect of a vsock socket.
        false => {
            wake(allowed, fd);
            Err(Errno(libc::EINPROGRESS as u16))
        }
    }
}

/// Keeps the address that a client called: a file does not say it.
pub fn remember(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    socket: SocketType,
    asked: &RawAddr,
    to: &RawAddr,
) {
    let Ok(cookie) = sys::cookie(allowed, fd) else {
        return;
    };
    let peer = Peer {
        socket,
        asked,
        to,
        rule: RULE_NONE,
    };
    table::enter_peer(allowed, run, fd, cookie, peer);
}

fn now(allowed: Allowed) -> u64 {
    sys::clock_gettime(allowed, libc::CLOCK_MONOTONIC).unwrap_or(u64::MAX)
}

/// Asks for a port and waits for the answer: all of that before the program has
/// the connection, for the line would be data to it. The socket waits meanwhile,
/// also one that does not otherwise.
fn shake_hands(allowed: Allowed, fd: i32, port: u32, until: u64) -> Result<(), Errno> {
    let flags = sys::fcntl(allowed, fd, libc::F_GETFL, 0)?;
    let waiting = flags & !(libc::O_NONBLOCK as usize);
    let mut time = [0u8; 16];
    let name = libc::SO_RCVTIMEO;
    let len = sys::getsockopt(allowed, fd, libc::SOL_SOCKET, name, &mut time)?;
    if waiting != flags {
        sys::fcntl(allowed, fd, libc::F_SETFL, waiting)?;
    }
    let answer = talk(allowed, fd, port, until);
    let time = time.get(..len).unwrap_or(&[]);
    let _ = sys::setsockopt(allowed, fd, libc::SOL_SOCKET, name, time);
    if waiting != flags {
        let _ = sys::fcntl(allowed, fd, libc::F_SETFL, flags);
    }
    answer
}

fn talk(allowed: Allowed, fd: i32, port: u32, until: u64) -> Result<(), Errno> {
    const RESET: Errno = Errno(libc::ECONNRESET as u16);
    let hello = vsock::hello(port);
    if sys::send(allowed, fd, hello.get()) != Ok(hello.get().len()) {
        return Err(RESET);
    }
    let mut line = Line::default();
    loop {
        // The whole line has this long, and not each piece.
        let left = until.saturating_sub(now(allowed));
        if left == 0 {
            return Err(Errno(libc::ETIMEDOUT as u16));
        }
        wait_at_most(allowed, fd, left)?;
        let room = line.room();
        if room.is_empty() {
            return Err(RESET);
        }
        // What follows the line is the program's.
        let there = match sys::receive(allowed, fd, room, libc::MSG_PEEK) {
            Ok(0) => return Err(RESET),
            Ok(there) => there,
            Err(Errno(e)) if i32::from(e) == libc::EAGAIN => continue,
            Err(Errno(e)) if i32::from(e) == libc::EINTR => return Err(Errno(e)),
            Err(_) => return Err(RESET),
        };
        let (share, is_whole) = line.share(there);
        let part = line.room().get_mut(..share).unwrap_or(&mut []);
        let taken = sys::receive(allowed, fd, part, libc::MSG_DONTWAIT);
        if taken != Ok(share) {
            return Err(RESET);
        }
        line.take(share);
        if is_whole {
            return match vsock::is_welcome(line.get()) {
                true => Ok(()),
                false => Err(RESET),
            };
        }
    }
}

/// `SO_RCVTIMEO`, where no time at all is for ever.
fn wait_at_most(allowed: Allowed, fd: i32, nanos: u64) -> Result<(), Errno> {
    let time = libc::timeval {
        tv_sec: (nanos / 1_000_000_000) as libc::time_t,
        tv_usec: (nanos % 1_000_000_000 / 1000 + 1).min(999_999) as libc::suseconds_t,
    };
    let (at, len) = ((&raw const time).cast(), size_of_val(&time) as u32);
    sys::setsockopt_from(allowed, fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, at, len)
}

/// Puts a new carrier in the place of one that was connected in vain: a Unix
/// socket cannot be connected again, and a vsock one can. If another process has
/// it too it stays as it is.
#[inline(never)]
fn start_anew(allowed: Allowed, run: &Run, fd: i32, socket: SocketType) {
    let Some(host) = &run.vsock else { return };
    let place = name::local(allowed, fd).ok();
    let place = place.and_then(|raw| place_of(host, &raw));
    let done = sys::without_signals(allowed, || {
        Old::with(allowed, fd, socket, |old| {
            let kind = i32::from(socket.ty) | libc::SOCK_CLOEXEC;
            let new = sys::socket(allowed, af::UNIX.into(), kind, 0)?;
            let done = move_in(allowed, run, old, new, fd);
            sys::close(allowed, new);
            done
        })
    });
    if !matches!(done, Ok(Ok(()))) {
        return;
    }
    fds::unbound(fd);
    // A client that has not bound gets another port when it next connects.
    if let Some(place) = place.filter(|place| place.at != At::Loop)
        && let Some(Ok(())) = claim(allowed, run, host, fd, socket, place)
    {
        fds::bound(fd);
    }
}

fn move_in(allowed: Allowed, run: &Run, old: &Old, new: i32, fd: i32) -> Result<(), Errno> {
    let before = sys::cookie(allowed, fd)?;
    let cookie = sys::cookie(allowed, new)?;
    if !mark(allowed, new) {
        return Err(Errno(vsock::MALFORMED));
    }
    options::carry_own(allowed, fd, new);
    vsock_options::hand_on(allowed, run, new, [before, cookie]);
    old.give_way_to(allowed, new)
}

/// What a connection is that came by the path where the run answers, from the
/// number that is kept with it.
pub fn delivered(
    allowed: Allowed,
    host: &Host<'_>,
    fd: i32,
    local: &UnixName,
) -> Option<Delivered> {
    let path = host.answers_at()?;
    if local.kind != UnixKind::Path || local.bytes() != path {
        return None;
    }
    let mut mark = [0u8; 8];
    let level = libc::SOL_SOCKET;
    match sys::getsockopt(allowed, fd, level, SO_MAX_PACING_RATE, &mut mark) {
        Ok(8) => Delivered::of_mark(u64::from_ne_bytes(mark)),
        _ => None,
    }
}

/// A program has accepted a connection: if that only hands over another one, the
/// other one takes its place.
///
/// # Errors
/// `ECONNABORTED` if nothing came; the descriptor is closed then.
#[inline(never)]
pub fn take_over(allowed: Allowed, run: &Run, fd: i32, flags: i32) -> Result<(), Errno> {
    let Some(host) = run
        .vsock
        .as_ref()
        .filter(|host| host.answers_at().is_some())
    else {
        return Ok(());
    };
    let peer = name::peer(allowed, fd).ok().and_then(|peer| peer.read());
    match peer {
        Some(Addr::Unix(name)) if host.is_delivery(&name) => {}
        _ => return Ok(()),
    }
    sys::without_signals(allowed, || {
        let taken = take(allowed, fd, flags);
        if taken.is_err() {
            fds::forget(fd);
            sys::close(allowed, fd);
        }
        taken.map_err(|_| Errno(libc::ECONNABORTED as u16))
    })
}

fn take(allowed: Allowed, fd: i32, flags: i32) -> Result<(), Errno> {
    // It is on its way: the daemon connects, and sends at once.
    sys::fcntl(allowed, fd, libc::F_SETFL, 0)?;
    wait_at_most(allowed, fd, DELIVERY)?;
    let brought = sys::receive_descriptor(allowed, fd)?;
    let close = match flags & libc::SOCK_CLOEXEC {
        0 => 0,
        _ => libc::O_CLOEXEC,
    };
    let waits = match flags & libc::SOCK_NONBLOCK {
        0 => 0,
        _ => libc::O_NONBLOCK as usize,
    };
    let taken = sys::fcntl(allowed, brought, libc::F_SETFL, waits)
        .and_then(|_| sys::dup3(allowed, brought, fd, close));
    sys::close(allowed, brought);
    taken
}

/// The peer of a vsock socket whose name `peer` does not say it: that of a client
/// which called a file, or one that came from the other side to such a file.
pub fn peer(allowed: Allowed, run: &Run, fd: i32, peer: &RawAddr) -> Option<Addr> {
    let host = run.vsock.as_ref()?;
    let cid = host.other_side()?;
    if is_marked(allowed, fd) {
        let cookie = sys::cookie(allowed, fd).ok()?;
        return run.state.moves.find(cookie | PEER_KEY)?.virt.read();
    }
    if place_of(host, peer).is_some() {
        return None;
    }
    let local = name::local(allowed, fd).ok()?;
    if let Some(Addr::Unix(unix)) = local.read()
        && let Some(delivered) = delivered(allowed, host, fd, &unix)
    {
        return Some(host.ends_of(delivered).1);
    }
    let place = place_of(host, &local)?;
    host.is_file(place).then_some(())?;
    // One port for each connection, and the same each time.
    let count = u64::from(VMADDR_ANY) - FIRST;
    let port = FIRST + sys::cookie(allowed, fd).ok()? % count;
    Some(Addr::Vsock {
        cid,
        port: port as u32,
        flags: 0,
    })
}
