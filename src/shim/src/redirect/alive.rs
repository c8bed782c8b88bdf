//! Conflicts that the kernel cannot see, because the sockets really are
//! elsewhere, and room in the table for new entries.
//!
//! Two sockets that a rule redirects may lie side by side where their program
//! thinks that they collide, or collide where it thinks that they do not. What
//! follows is the core's to say ([`Redirected::is_refused_by`]); here it is
//! asked about the entries of the table, and the kernel is asked which of them
//! are of living sockets.

use bindgate_core::addr::{Addr, UnixKind, UnixName, af};
use bindgate_core::judge::redirect::{Place, Redirected};
use bindgate_core::model::Claim;
use bindgate_core::shared::{Moved, move_kind, move_mark};
use bindgate_core::socket::{KindSet, SocketType, proto};
use bindgate_core::uapi::sock_diag::Class;

use super::{LO, Placing, block, diag, holders, unix};
use crate::own::memory::Pages;
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// The cookie of a living socket of the run that stands in the way.
#[inline(never)]
pub fn holder(allowed: Allowed, run: &Run, placing: &Placing) -> Option<u64> {
    let (virt, real) = (placing.virt.write(), placing.real);
    let is_open = |addr: &Addr| !addr.is_auto();
    let virt = Some(&virt).filter(|_| is_open(&placing.virt));
    let real = Some(&real).filter(|r| r.read().as_ref().is_some_and(is_open));
    run.state.moves.first_at(virt, real, |other| {
        is_in_the_way(allowed, placing, other) && is_alive(allowed, run, other)
    })
}

/// Do the two collide, if the other one is still there?
#[inline(never)]
fn is_in_the_way(allowed: Allowed, placing: &Placing, other: &Moved) -> bool {
    let elsewhere = placing.netns != other.netns && placing.netns != 0 && other.netns != 0;
    let is_nowhere = matches!(
        other.kind,
        move_kind::CONNECT | move_kind::CARRIER | move_kind::NAMED
    );
    if other.cookie == placing.socket.cookie || is_nowhere || elsewhere {
        return false;
    }
    let new = redirected(
        placing.socket.ty,
        Some(placing.virt),
        placing.real.read(),
        (
            placing.marks,
            sys::geteuid(allowed).unwrap_or(u32::MAX),
            placing.device,
        ),
    );
    let old = redirected(
        other.socket,
        other.virt.read(),
        other.real.read(),
        (other.marks, other.uid, other.device),
    );
    matches!((new, old), (Some(new), Some(old)) if new.is_refused_by(&old))
}

fn redirected(
    socket: SocketType,
    virt: Option<Addr>,
    real: Option<Addr>,
    (marks, uid, device): (u32, u32, u32),
) -> Option<Redirected> {
    let has = |mark| marks & mark != 0;
    Some(Redirected {
        virt: Claim {
            socket,
            addr: virt?,
            v6only: has(move_mark::V6ONLY),
            reuse: has(move_mark::REUSEADDR),
            reuseport: has(move_mark::REUSEPORT),
            listens: has(move_mark::LISTENING),
            uid,
            device,
        },
        real: real?,
        real_device: if has(move_mark::ON_LO) { LO } else { device },
    })
}

/// Is the socket of an entry still in its place? An entry whose place nobody
/// holds any more is removed; one whose socket is gone but left connections
/// behind stays, for those, and is in nobody's way.
#[inline(never)]
pub fn is_alive(allowed: Allowed, run: &Run, entry: &Moved) -> bool {
    if !is_taken(allowed, entry) {
        forget(run, entry);
        return false;
    }
    // Where the kernel cannot say, whoever is there is taken for it.
    match entry.real.read() {
        None => false,
        Some(Addr::Unix(_)) => {
            diag::is_alive(allowed, unix_type(entry), entry.cookie).unwrap_or(true)
        }
        Some(real) => match block::run() {
            Some(run) => is_listed_in_block(allowed, run, entry, &real),
            None => is_listed(allowed, entry, real, entry.marks & move_mark::V6ONLY != 0),
        },
    }
}

/// Is a socket at its place, which somebody holds?
#[inline(never)]
fn is_listed(allowed: Allowed, entry: &Moved, real: Addr, v6only: bool) -> bool {
    let mut place = Place::new(entry.socket, real, v6only, entry.cookie);
    let port = real.port().unwrap_or(0) as u16;
    let asked = diag::list_at(allowed, entry.socket, port, &mut place);
    // The trial was made above.
    asked.is_none() || place.holds(|| true)
}

/// The same in a run that has a block for its loopback.
#[cold]
#[inline(never)]
fn is_listed_in_block(allowed: Allowed, run: &Run, entry: &Moved, real: &Addr) -> bool {
    let v6only = entry.marks & move_mark::V6ONLY != 0;
    match block::real_of(run, entry.socket, v6only, real) {
        Some(real) => is_listed(allowed, entry, real, false),
        None => is_listed(allowed, entry, *real, v6only),
    }
}

fn forget(run: &Run, entry: &Moved) {
    run.state.moves.remove(entry.cookie);
    if has_options(entry) {
        run.state.socket_options.forget(entry.cookie);
    }
}

/// May values of options be kept for the socket of an entry?
fn has_options(entry: &Moved) -> bool {
    matches!(entry.kind, move_kind::UNIX | move_kind::HIDDEN)
        || entry.marks & move_mark::ON_LO != 0
        || entry.real.family() == Some(af::UNIX)
}

/// What a socket is that became a Unix socket.
fn unix_type(entry: &Moved) -> SocketType {
    SocketType {
        domain: af::UNIX,
        ty: entry.socket.ty,
        protocol: 0,
    }
}

/// Is the real place of an entry held by anybody? A trial bind, which leaves no
/// trace; where it cannot be made the answer is yes.
fn is_taken(allowed: Allowed, entry: &Moved) -> bool {
    match entry.real.read() {
        None => false,
        Some(Addr::Unix(name)) => is_name_taken(allowed, &name, entry),
        Some(_) => {
            let v6only = entry.marks & move_mark::V6ONLY != 0;
            let trial = try_bind(
                allowed,
                entry.socket,
                entry.real.bytes(),
                v6only,
                |_| Ok(()),
            );
            // A privilege that made the first bind may be gone by now.
            trial.is_none_or(|answer| {
                [libc::EADDRINUSE, libc::EACCES]
                    .map(|e| Err(Errno(e as u16)))
                    .contains(&answer)
            })
        }
    }
}

fn is_name_taken(allowed: Allowed, name: &UnixName, entry: &Moved) -> bool {
    match name.kind {
        // A connected one, or one that is not bound yet.
        UnixKind::Auto => true,
        UnixKind::Abstract => {
            try_bind(allowed, unix_type(entry), entry.real.bytes(), false, |_| {
                Ok(())
            })
            .is_none_or(|answer| answer.is_err())
        }
        // Its file may be gone while it lives.
        UnixKind::Path => {
            !unix::is_abandoned(allowed, name) || holders::unix_name_in_use(allowed, name)
        }
    }
}

/// Binds a socket of this kind for a moment, once `set` has set it up; `None` if
/// there can be none.
pub fn try_bind(
    allowed: Allowed,
    ty: SocketType,
    at: &[u8],
    v6only: bool,
    set: impl FnOnce(i32) -> Result<(), Errno>,
) -> Option<Result<(), Errno>> {
    if let Some(run) = block::run() {
        return try_bind_in_block(allowed, run, ty, at, v6only, set);
    }
    try_plain_bind(allowed, ty, at, v6only, set)
}

/// The same in a run that has a block for its loopback.
#[cold]
#[inline(never)]
fn try_bind_in_block(
    allowed: Allowed,
    run: &Run,
    ty: SocketType,
    at: &[u8],
    v6only: bool,
    set: impl FnOnce(i32) -> Result<(), Errno>,
) -> Option<Result<(), Errno>> {
    let real = Addr::read(at).and_then(|addr| block::real_of(run, ty, v6only, &addr));
    match real {
        Some(real) => try_plain_bind(allowed, ty, real.write().bytes(), false, set),
        None => try_plain_bind(allowed, ty, at, v6only, set),
    }
}

/// The same at an address of the kernel's.
pub fn try_plain_bind(
    allowed: Allowed,
    ty: SocketType,
    at: &[u8],
    v6only: bool,
    set: impl FnOnce(i32) -> Result<(), Errno>,
) -> Option<Result<(), Errno>> {
    let fd = sys::socket(
        allowed,
        i32::from(ty.domain),
        i32::from(ty.ty) | libc::SOCK_CLOEXEC,
        i32::from(ty.protocol),
    )
    .ok()?;
    if ty.domain == af::INET6 {
        let value = i32::from(v6only).to_ne_bytes();
        let _ = sys::setsockopt(allowed, fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &value);
    }
    let answer = set(fd).and_then(|()| sys::bind(allowed, fd, at));
    sys::close(allowed, fd);
    Some(answer)
}

/// Keeps the value of an option, and makes room for it if it must.
pub fn keep_option(
    allowed: Allowed,
    run: &Run,
    cookie: u64,
    netns: u64,
    (level, name): (i32, i32),
    value: &[u8],
) {
    let options = &run.state.socket_options;
    if !options.set(cookie, netns, level, name, value) && value.len() <= 16 {
        sweep_options(allowed, run, netns);
        options.set(cookie, netns, level, name, value);
    }
}

/// Asks the kernel for every socket that an option may be kept for, and forgets
/// those of the others.
#[inline(never)]
fn sweep_options(allowed: Allowed, run: &Run, netns: u64) {
    let sweep = run.state.socket_options.sweep();
    let mut all = true;
    for class in diag::with_options() {
        all &= diag::each(allowed, class, 0, |alive| sweep.met(alive.cookie));
    }
    if all {
        sweep.end(netns);
    }
}

/// Makes sure that there is room for an entry of `cookie`: where there is none,
/// the entries of all sockets go that the kernel does not know any more.
#[inline(never)]
pub fn make_room(allowed: Allowed, run: &Run, cookie: u64) -> bool {
    let moves = &run.state.moves;
    moves.has_room(cookie) || {
        sweep(allowed, run);
        moves.has_room(cookie)
    }
}

/// Sweeps after which a socket that was bound without a port
/// (`IP_BIND_ADDRESS_NO_PORT`) and not seen to connect is taken for gone.
const NEVER_CONNECTED: u32 = 4;

/// Bytes of a bit for each port.
const PORTS: usize = 65536 / 8;

/// Asks the kernel for every socket of the kinds that the table holds, and
/// removes the entries of the others. Entries of other network namespaces stay:
/// nobody here can ask about them.
#[inline(never)]
fn sweep(allowed: Allowed, run: &Run) {
    // One TCP socket that is bound and does not listen, to see whether this
    // kernel tells of such (Linux 6.8).
    let Ok(witness) = sys::socket(
        allowed,
        libc::AF_INET,
        libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
        libc::IPPROTO_TCP,
    ) else {
        return;
    };
    let netns = sys::netns_cookie(allowed, witness).unwrap_or(0);
    let loopback = Addr::Inet {
        ip: [127, 0, 0, 1],
        port: 0,
    };
    let known = match sys::bind(allowed, witness, loopback.write().bytes()) {
        Ok(()) => sys::cookie(allowed, witness).ok(),
        Err(_) => None,
    };
    Pages::with(allowed, PORTS, |connected| {
        sweep_with(allowed, run, netns, known, connected.bytes_mut());
    });
    sys::close(allowed, witness);
}

fn sweep_with(allowed: Allowed, run: &Run, netns: u64, witness: Option<u64>, connected: &mut [u8]) {
    let moves = &run.state.moves;
    let mut present = [false; Class::ALL.len()];
    let as_found = |socket: SocketType, is_unix: bool| match is_unix {
        true => Class::of(SocketType {
            domain: af::UNIX,
            protocol: 0,
            ..socket
        }),
        false => Class::of(socket),
    };
    for (socket, is_unix) in moves.kinds() {
        if let Some(at) = as_found(socket, is_unix)
            .index()
            .and_then(|i| present.get_mut(i))
        {
            *at = true;
        }
    }
    let sweep = moves.sweep();
    let mut tells_of_idle = false;
    for (class, asked) in Class::ALL.iter().zip(&mut present) {
        *asked = *asked
            && diag::each(allowed, *class, 0, |alive| {
                sweep.met(alive.cookie);
                tells_of_idle |= Some(alive.cookie) == witness;
                let (at, bit) = (usize::from(alive.port) / 8, alive.port % 8);
                if let (true, Some(byte)) = (alive.is_connected, connected.get_mut(at)) {
                    *byte |= 1 << bit;
                }
            });
    }
    let has_children = |port: u16| {
        connected
            .get(usize::from(port) / 8)
            .is_some_and(|byte| byte >> (port % 8) & 1 != 0)
    };
    sweep.end(|entry, age| {
        if entry.netns != netns && entry.netns != 0 && netns != 0 {
            return false;
        }
        let port = entry.real.read().and_then(|a| a.port());
        if port == Some(0) && age < NEVER_CONNECTED {
            // Bound without a port: no table of the kernel's has it yet.
            return false;
        }
        let is_unix = entry.real.family() == Some(af::UNIX);
        let was_asked = as_found(entry.socket, is_unix)
            .index()
            .and_then(|i| present.get(i))
            .is_some_and(|asked| *asked);
        let is_tcp = !is_unix && entry.socket.kinds().intersects(KindSet::TCP);
        let is_certain = was_asked
            && (!is_tcp
                || entry.kind == move_kind::CONNECT
                || tells_of_idle && entry.socket.protocol == proto::TCP);
        if !is_certain && is_taken(allowed, entry) {
            return false;
        }
        let port = port.unwrap_or(0) as u16;
        // Accepted connections find their name there, if no later listener at
        // that place had the same one.
        let is_needed = is_tcp
            && entry.kind != move_kind::CONNECT
            && has_children(port)
            && moves
                .first_at(None, Some(&entry.real), |later| {
                    later.cookie > entry.cookie
                        && (later.real, later.virt) == (entry.real, entry.virt)
                })
                .is_none();
        if is_needed {
            return false;
        }
        if has_options(entry) {
            run.state.socket_options.forget(entry.cookie);
        }
        true
    });
}
