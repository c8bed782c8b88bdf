//! The vsock host that the run is, carried out: binds and connects of carriers,
//! and what they are called.
//!
//! What each is answered is the core's to say ([`bindgate_core::judge::vsock`]).
//! A carrier needs no entry in the run's table. What it stands for is in its
//! name, and one without a name has a mark that a Unix socket of the program's
//! own does not have. Both are the kernel's to keep, over dup, fork, exec and
//! descriptor passing.

use bindgate_core::addr::{Addr, RawAddr, UnixKind, UnixName, VMADDR_ANY, af};
use bindgate_core::judge::Known;
use bindgate_core::judge::vsock::{self, At, Host, Name, Way};
use bindgate_core::record::{Check, Identity, Record, stage};
use bindgate_core::shared::{Held, Moved, move_kind, move_mark};
use bindgate_core::socket::{SocketType, ty};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::table::Found;
use super::unix::{at_once, is_abandoned, make_way};
use super::{Peer, Placing, holders, table, vmm, vsock_options};
use crate::own::fds::{self, Socket};
use crate::own::name;
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// `SO_MAX_PACING_RATE` of socket(7): a number that every socket keeps and that
/// says nothing to a Unix one.
pub(super) const SO_MAX_PACING_RATE: i32 = 47;
/// The number that marks a carrier.
const MARK: i32 = i32::from_be_bytes(*b"vsoc");
/// Commands of fcntl(2): locks of open file descriptions.
const F_OFD_SETLK: i32 = 37;
/// How long a fabric's lock is waited for: two seconds, in turns of a
/// millisecond. Whoever has it makes a few system calls. Who is about to bind, and makes
/// one, is waited for a quarter of that.
const PATIENCE: u32 = 2000;
/// How often a bind is tried that somebody else's may only have got in the way of.
const TRIES: u32 = 4;

/// Marks a new carrier: `false` if that cannot be kept.
pub fn mark(allowed: Allowed, fd: i32) -> bool {
    let mark = MARK.to_ne_bytes();
    sys::setsockopt(allowed, fd, libc::SOL_SOCKET, SO_MAX_PACING_RATE, &mark).is_ok()
}

/// Was the socket made by socket(2), and not accepted?
pub(super) fn is_marked(allowed: Allowed, fd: i32) -> bool {
    sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, SO_MAX_PACING_RATE) == Ok(MARK)
}

/// The socket that its program believes in, if it is a carrier of the run's host.
/// Two questions say so, and its cookie is nobody's concern.
pub fn carrier(allowed: Allowed, run: &Run, fd: i32) -> Option<Socket> {
    let cached = fds::get(fd);
    let may_be = run.vsock.is_some() && (!cached.is_valid() || cached.socket().domain == af::UNIX);
    if !may_be || !is_marked(allowed, fd) {
        return None;
    }
    let ty = sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, libc::SO_TYPE).ok()?;
    Some(Socket {
        cookie: 0,
        identity: Identity::Cached,
        ty: vsock_of(ty),
        known: Known::AsCarrier,
    })
}

/// The vsock socket that a Unix one of this type stands for.
fn vsock_of(ty: i32) -> SocketType {
    SocketType {
        domain: af::VSOCK,
        ty: ty as u16,
        protocol: 0,
    }
}

/// The place that a Unix name stands for.
pub(super) fn place_of(host: &Host<'_>, raw: &RawAddr) -> Option<Name> {
    match raw.read()? {
        Addr::Unix(name) => host.read(&name),
        _ => None,
    }
}

/// A vsock socket of the run's host, from its real name.
#[inline(never)]
pub fn found(allowed: Allowed, run: &Run, fd: i32, real: &RawAddr) -> Option<Found> {
    let host = run.vsock.as_ref()?;
    let Addr::Unix(unix) = real.read()? else {
        return None;
    };
    let name = host.read(&unix);
    let is_child = !is_marked(allowed, fd);
    let virt = match name {
        Some(name) if is_child => {
            let peer = name::peer(allowed, fd).ok();
            host.local_of_accepted(name, peer.and_then(|peer| place_of(host, &peer)))
        }
        Some(name) => name.bound_to(),
        None if unix.kind == UnixKind::Auto && !is_child => Addr::any(af::VSOCK)?,
        None => {
            let delivered = vmm::delivered(allowed, host, fd, &unix)?;
            host.ends_of(delivered).0
        }
    };
    let cookie = sys::cookie(allowed, fd).ok()?;
    let ty = sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, libc::SO_TYPE).ok()?;
    Some(Found {
        moved: Moved {
            cookie,
            netns: 0,
            kind: move_kind::CARRIER,
            marks: move_mark::NO_TAG,
            uid: 0,
            rule: bindgate_core::record::RULE_NONE,
            device: 0,
            socket: vsock_of(ty),
            virt: virt.write(),
            real: *real,
        },
        is_child,
        cookie,
        real: *real,
    })
}

/// The peer of a vsock socket of the run's host.
#[inline(never)]
pub fn peer(allowed: Allowed, run: &Run, fd: i32) -> Option<Addr> {
    let host = run.vsock.as_ref()?;
    let raw = name::peer(allowed, fd).ok()?;
    if host.vmm.is_some()
        && let Some(peer) = vmm::peer(allowed, run, fd, &raw)
    {
        return Some(peer);
    }
    let peer = place_of(host, &raw)?;
    if !is_marked(allowed, fd) {
        return Some(host.peer_of_accepted(peer));
    }
    let local = name::local(allowed, fd).ok();
    Some(host.called(local.and_then(|local| place_of(host, &local)), peer))
}

/// Is it a vsock socket of the run's host?
pub fn is_one(allowed: Allowed, run: &Run, fd: i32) -> bool {
    let real = name::local(allowed, fd).ok();
    real.is_some_and(|real| found(allowed, run, fd, &real).is_some())
}

/// Is it one that has no peer?
pub fn is_unconnected(allowed: Allowed, run: &Run, fd: i32) -> bool {
    run.vsock.is_some() && is_marked(allowed, fd) && name::peer(allowed, fd).is_err()
}

/// Is there less to read than `SO_RCVLOWAT` asks for?
pub fn is_short(allowed: Allowed, run: &Run, fd: i32) -> bool {
    let wanted = sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT);
    wanted.is_ok_and(|wanted| {
        wanted > 1
            && is_one(allowed, run, fd)
            && sys::unread(allowed, fd).is_some_and(|there| there < wanted)
    })
}

/// Has the socket no name?
fn is_unnamed(allowed: Allowed, fd: i32) -> Result<bool, Errno> {
    let name = name::local(allowed, fd)?.read();
    Ok(matches!(name, Some(Addr::Unix(name)) if name.kind == UnixKind::Auto))
}

/// Binds to another place of the host than the program asked for.
#[inline(never)]
pub fn bind_elsewhere(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    placing: &mut Placing,
    to: Addr,
    record: &mut Record,
) -> Result<(), Errno> {
    record.stages |= stage::MODEL;
    let name = match bind_to(allowed, run, fd, placing.socket.ty, Some(&to)) {
        Ok(name) => name,
        Err(e) => {
            (record.used, record.check) = (to.write(), Check::VsockBind);
            return Err(e);
        }
    };
    record.used = name.bound_to().write();
    if placing.virt.is_auto() {
        placing.virt = placing.virt.with_port(name.port);
    }
    let real = name::local(allowed, fd)?;
    table::enter(
        allowed,
        run,
        fd,
        placing,
        placing.socket.cookie,
        real,
        record.rule,
    );
    Ok(())
}

/// bind(2) to a vsock address.
#[inline(never)]
pub fn bind(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    socket: &Socket,
    asked: Option<&Addr>,
    record: &mut Record,
) -> Result<(), Errno> {
    record.stages |= stage::MODEL;
    let answer = bind_to(allowed, run, fd, socket.ty, asked);
    match answer {
        Ok(name) if asked.is_some_and(Addr::is_auto) => {
            record.used = name.bound_to().write();
        }
        Ok(_) => {}
        Err(_) => record.check = Check::VsockBind,
    }
    answer.map(|_| ())
}

fn bind_to(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    ty: SocketType,
    asked: Option<&Addr>,
) -> Result<Name, Errno> {
    const MALFORMED: Errno = Errno(vsock::MALFORMED);
    let (Some(host), Some(asked)) = (&run.vsock, asked) else {
        return Err(MALFORMED);
    };
    let privileged = || sys::geteuid(allowed) == Some(0);
    let answer = match host.place(asked, privileged).map_err(Errno) {
        Ok(name) if name.port == VMADDR_ANY => {
            automatic(run, name, |name| claim(allowed, run, host, fd, ty, name))
        }
        Ok(name) => claim(allowed, run, host, fd, ty, name).map(|()| name),
        Err(e) => Err(e),
    };
    match answer {
        // What is bound already is refused for that, whatever else is wrong.
        Err(_) if !is_unnamed(allowed, fd)? => Err(MALFORMED),
        answer => answer,
    }
}

/// Tries one automatic port after the other.
fn automatic(
    run: &Run,
    mut name: Name,
    claim: impl Fn(Name) -> Result<(), Errno>,
) -> Result<Name, Errno> {
    const FIRST: u32 = vsock::LAST_RESERVED_PORT + 1;
    for _ in 0..vsock::PORT_RETRIES {
        // Another run of the same CID has another beginning.
        let seed = run.vsock.as_ref().map_or(0, |host| host.run as u32);
        let count = run.state.header.vsock_next.fetch_add(1, Relaxed);
        name.port = FIRST + seed.wrapping_add(count) % (VMADDR_ANY - FIRST);
        match claim(name) {
            Err(Errno(vsock::IN_USE)) => {}
            answer => return answer.map(|()| name),
        }
    }
    Err(Errno(vsock::NO_PORT))
}

/// Makes a place the socket's, or says who else's it is: `EADDRINUSE`.
fn claim(
    allowed: Allowed,
    run: &Run,
    host: &Host<'_>,
    fd: i32,
    ty: SocketType,
    name: Name,
) -> Result<(), Errno> {
    let is_seqpacket = ty.ty == ty::SEQPACKET;
    if host.vmm.is_some()
        && let Some(answer) = vmm::claim(allowed, run, host, fd, ty, name)
    {
        return answer.map_err(|e| Errno(vsock::bind_error(e.0)));
    }
    let answer = match host.fabric.is_empty() {
        true => {
            let held = &run.state.vsock_held;
            let seen = held.enter(name.port, vsock::bit(name.at, is_seqpacket));
            match seen & vsock::in_the_way(name.at, is_seqpacket) {
                0 => {
                    let answer = bind_unix(allowed, fd, host, name);
                    held.leave(name.port);
                    answer
                }
                others => sys::without_signals(allowed, || {
                    let_them_bind(allowed, held, name.port);
                    claim_abstract(allowed, host, fd, name, others)
                }),
            }
        }
        false => sys::without_signals(allowed, || {
            claim_file(allowed, host, run.view.vsock_mode(), fd, name)
        }),
    };
    answer.map_err(|e| Errno(vsock::bind_error(e.0)))
}

pub(super) fn bind_unix(
    allowed: Allowed,
    fd: i32,
    host: &Host<'_>,
    name: Name,
) -> Result<(), Errno> {
    let unix = host.unix(name).ok_or(Errno(vsock::MALFORMED))?;
    sys::bind(allowed, fd, Addr::Unix(unix).write().bytes())
}

/// Waits until those have their names who entered a port before and found that nobody
/// need be asked. Who was killed meanwhile never leaves it, and is forgotten.
pub(super) fn let_them_bind(allowed: Allowed, held: &Held, port: u32) {
    held.leave(port);
    let none = AtomicU32::new(0);
    // So many were there all the time.
    let mut least = u32::MAX;
    for turn in 0..PATIENCE / 4 {
        least = least.min(held.entered(port));
        match turn {
            _ if least == 0 => return,
            ..16 => sys::yield_now(allowed),
            _ => sys::futex_wait(allowed, &none, 0, 1),
        }
    }
    held.forget(port, least);
}

/// Binds the socket to the abstract name of a place while the names that
/// `others` stand for are nobody's: this process holds them meanwhile.
///
/// Two that hold a name of each other both fail, and try again. Somebody who is
/// there to stay is there the last time, too.
#[inline(never)]
fn claim_abstract(
    allowed: Allowed,
    host: &Host<'_>,
    fd: i32,
    name: Name,
    others: u8,
) -> Result<(), Errno> {
    let mut answer = Err(Errno(vsock::IN_USE));
    for turn in 0..TRIES {
        answer = match hold(allowed, host, name, others) {
            (held, Ok(())) => {
                let answer = bind_unix(allowed, fd, host, name);
                release(allowed, held);
                answer
            }
            (held, Err(e)) => {
                release(allowed, held);
                Err(e)
            }
        };
        if answer != Err(Errno(vsock::IN_USE)) {
            break;
        }
        // Not all wait alike.
        for _ in 0..(turn + 1) * u32::from(name.at as u8 + 1) {
            sys::yield_now(allowed);
        }
    }
    answer
}

/// Sockets that hold a place for a moment, by their way and type.
type Holders = [i32; 8];

pub(super) fn hold(
    allowed: Allowed,
    host: &Host<'_>,
    name: Name,
    others: u8,
) -> (Holders, Result<(), Errno>) {
    let mut held = [-1; 8];
    for ((at, is_seqpacket), slot) in vsock::ways(others).zip(&mut held) {
        let kind = if is_seqpacket {
            libc::SOCK_SEQPACKET
        } else {
            libc::SOCK_STREAM
        };
        match sys::socket(allowed, af::UNIX.into(), kind | libc::SOCK_CLOEXEC, 0) {
            Ok(fd) => *slot = fd,
            Err(e) => return (held, Err(e)),
        }
        if let Err(e) = bind_unix(allowed, *slot, host, name.with(at)) {
            return (held, Err(e));
        }
    }
    (held, Ok(()))
}

pub(super) fn release(allowed: Allowed, held: Holders) {
    for fd in held.into_iter().filter(|fd| *fd >= 0) {
        sys::close(allowed, fd);
    }
}

/// Binds the socket to the file of a place, under the fabric's lock: files
/// outlive whoever made them, and what is taken away must be nobody's.
#[inline(never)]
fn claim_file(
    allowed: Allowed,
    host: &Host<'_>,
    mode: u32,
    fd: i32,
    name: Name,
) -> Result<(), Errno> {
    let lock = Lock::take(allowed, host.fabric)?;
    let answer = claim_locked(allowed, host, fd, name);
    if answer.is_ok() && mode & 0o077 != 0 {
        // The program's umask has had its say; the fabric's users may connect.
        with_path(host.unix(name), |path| sys::chmod(allowed, path, mode));
    }
    lock.release(allowed);
    answer
}

fn claim_locked(allowed: Allowed, host: &Host<'_>, fd: i32, name: Name) -> Result<(), Errno> {
    // The types share a file.
    let all = vsock::in_the_way(name.at, false) | vsock::bit(name.at, false);
    for (at, _) in vsock::ways(all).filter(|(_, is_seqpacket)| !is_seqpacket) {
        let other = host.unix(name.with(at)).ok_or(Errno(vsock::MALFORMED))?;
        if !make_way(allowed, &other) {
            return Err(Errno(vsock::IN_USE));
        }
    }
    bind_unix(allowed, fd, host, name)
}

/// The lock of a fabric. It is freed by the death of its holder.
struct Lock {
    fd: i32,
}

impl Lock {
    fn take(allowed: Allowed, fabric: &[u8]) -> Result<Lock, Errno> {
        let mut path = [0u8; 110];
        let path = holders::join(&mut path, &[fabric, b"/lock"]).ok_or(Errno(vsock::MALFORMED))?;
        let fd = sys::open(allowed, path, libc::O_RDWR)?;
        let lock = Lock { fd };
        let none = AtomicU32::new(0);
        for _ in 0..PATIENCE {
            match lock.set(allowed, libc::F_WRLCK) {
                Ok(_) => return Ok(lock),
                Err(Errno(e)) if [libc::EAGAIN, libc::EACCES].contains(&i32::from(e)) => {
                    sys::futex_wait(allowed, &none, 0, 1);
                }
                Err(e) => {
                    sys::close(allowed, fd);
                    return Err(e);
                }
            }
        }
        sys::close(allowed, fd);
        Err(Errno(vsock::IN_USE))
    }

    fn set(&self, allowed: Allowed, kind: i32) -> Result<usize, Errno> {
        // struct flock: of the whole file.
        let mut range = [0u64; 4];
        if let Some(first) = range.first_mut() {
            *first = u64::from(kind as u16);
        }
        sys::fcntl(allowed, self.fd, F_OFD_SETLK, range.as_ptr() as usize)
    }

    fn release(self, allowed: Allowed) {
        // A child that was forked meanwhile has the same open file.
        let _ = self.set(allowed, libc::F_UNLCK);
        sys::close(allowed, self.fd);
    }
}

/// connect(2) to a vsock address, that which the program named or another one.
#[inline(never)]
pub fn connect(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    peer: Peer<'_>,
    record: &mut Record,
) -> Result<(), Errno> {
    record.stages |= stage::MODEL;
    let answer = connect_to(allowed, run, fd, peer.socket, peer.to);
    match answer {
        Ok(()) | Err(Errno(UNDER_WAY)) if peer.to != peer.asked => {
            record.used = *peer.to;
            if let Ok(cookie) = sys::cookie(allowed, fd) {
                table::enter_peer(allowed, run, fd, cookie, peer);
            }
        }
        Ok(()) | Err(Errno(UNDER_WAY)) => {}
        Err(_) => record.check = Check::Connect,
    }
    answer
}

/// What a connect of a socket says that does not wait.
const UNDER_WAY: u16 = libc::EINPROGRESS as u16;

fn connect_to(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    ty: SocketType,
    asked: &RawAddr,
) -> Result<(), Errno> {
    const MALFORMED: Errno = Errno(vsock::MALFORMED);
    let raw = asked;
    let (Some(host), Some(asked)) = (&run.vsock, raw.read()) else {
        return Err(MALFORMED);
    };
    let way = host.way(&asked).map_err(Errno)?;
    if is_unnamed(allowed, fd)? {
        name_client(allowed, run, host, fd, ty, way)?;
    }
    let places = match way {
        Way::To(places) => places,
        Way::Out(call) => {
            return past(allowed, fd)
                .map_or_else(|| vmm::connect(allowed, run, fd, ty, &call, raw), Err);
        }
        Way::Nowhere => {
            return past(allowed, fd).map_or_else(|| unanswered(allowed, run, fd, &asked), Err);
        }
    };
    for place in places {
        let unix = host.unix(place).ok_or(MALFORMED)?;
        let to = Addr::Unix(unix).write();
        let (answer, waits) = connect_unix(allowed, fd, to.bytes());
        match answer {
            Ok(()) => {
                fds::bound(fd);
                if host.is_file(place) {
                    vmm::remember(allowed, run, fd, ty, raw, &to);
                }
                return match waits {
                    true => Ok(()),
                    // A connection takes its time. poll(2) says at once that it is there.
                    false => {
                        wake(allowed, fd);
                        Err(Errno(UNDER_WAY))
                    }
                };
            }
            Err(e) if vsock::is_nobody(e.0) => {}
            Err(e) => return Err(Errno(vsock::connect_error(e.0))),
        }
    }
    if let Some(e) = past(allowed, fd) {
        return Err(e);
    }
    let [place, _] = places;
    if !host.is_here(place) && !is_there(allowed, host, place.cid) {
        return unanswered(allowed, run, fd, &asked);
    }
    Err(Errno(vsock::connect_error(libc::ECONNREFUSED as u16)))
}

/// Wakes whoever waits until the socket can be written to, epoll's edges too: the
/// kernel does so where the size of the buffer is set, be it the same.
pub(super) fn wake(allowed: Allowed, fd: i32) {
    let size = sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, libc::SO_SNDBUF);
    if let Ok(size) = size {
        // The kernel doubles what it is given.
        let size = (size / 2).to_ne_bytes();
        let _ = sys::setsockopt(allowed, fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &size);
    }
}

/// Connects the Unix socket without waiting for room in a queue; would the
/// program's call have waited?
fn connect_unix(allowed: Allowed, fd: i32, to: &[u8]) -> (Result<(), Errno>, bool) {
    let waits = waits(allowed, fd);
    let answer = match waits {
        true => sys::without_signals(allowed, || {
            at_once(allowed, fd, || sys::connect(allowed, fd, to))
        }),
        false => sys::connect(allowed, fd, to),
    };
    (answer, waits)
}

/// The error of a socket that cannot be connected, wherever to: it is, or listens.
/// The kernel looks for the peer first.
fn past(allowed: Allowed, fd: i32) -> Option<Errno> {
    if name::peer(allowed, fd).is_ok() {
        return Some(Errno(libc::EISCONN as u16));
    }
    let listens = sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN);
    (listens == Ok(1)).then_some(Errno(vsock::MALFORMED))
}

/// Is a host of this CID in the fabric?
fn is_there(allowed: Allowed, host: &Host<'_>, cid: u32) -> bool {
    let name = host.registered(cid);
    name.is_some_and(|name| {
        with_path(Some(name), |path| sys::stat(allowed, path).is_ok()) == Some(true)
            && !is_abandoned(allowed, &name)
    })
}

/// Makes a call with the path that a name is.
fn with_path<T>(name: Option<UnixName>, call: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let mut path = [0u8; 110];
    holders::join(&mut path, &[name?.bytes()]).map(call)
}

/// Does a call on the descriptor wait?
pub(super) fn waits(allowed: Allowed, fd: i32) -> bool {
    sys::fcntl(allowed, fd, libc::F_GETFL, 0)
        .is_ok_and(|flags| flags & libc::O_NONBLOCK as usize == 0)
}

/// Gives a client a port, as `vsock_auto_bind` does: the server sees it.
fn name_client(
    allowed: Allowed,
    run: &Run,
    host: &Host<'_>,
    fd: i32,
    ty: SocketType,
    way: Way,
) -> Result<(), Errno> {
    let at = match way {
        Way::To([place, _]) => host.client(place),
        // Only a name that nobody looks for: `VMADDR_CID_ANY` may be a file.
        Way::Out(_) => At::Loop,
        Way::Nowhere => At::Any,
    };
    let name = Name {
        cid: host.cid,
        port: VMADDR_ANY,
        at,
    };
    if host.fabric.is_empty() {
        return automatic(run, name, |name| claim(allowed, run, host, fd, ty, name)).map(|_| ());
    }
    // The name lasts as long as the socket, the file need not.
    let named = automatic(run, name, |name| {
        sys::without_signals(allowed, || {
            bind_unix(allowed, fd, host, name)?;
            with_path(host.unix(name), |path| sys::unlink(allowed, path)).unwrap_or(Ok(()))
        })
    });
    named.map(|_| ()).map_err(|e| Errno(vsock::bind_error(e.0)))
}

/// A connect to a host that is not there.
#[inline(never)]
fn unanswered(allowed: Allowed, run: &Run, fd: i32, asked: &Addr) -> Result<(), Errno> {
    let errno = vsock::no_host(asked);
    if vsock::comes_late(errno) && waits(allowed, fd) {
        let cookie = sys::cookie(allowed, fd).unwrap_or(0);
        let millis = vsock_options::timeout(run, cookie).div_ceil(1_000_000);
        // `sock_intr_errno`: a handler ran, and the time-out has an end.
        if sys::sleep(allowed, millis).is_err() {
            return Err(Errno(libc::EINTR as u16));
        }
    }
    Err(Errno(errno))
}
