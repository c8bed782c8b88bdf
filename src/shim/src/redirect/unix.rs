//! Putting a Unix socket in the place of one of another family.
//!
//! The new socket takes every descriptor number that the old one has in this
//! process, its flags, its options and its epoll registrations (`carry.rs`).
//! Between the first and the last descriptor another thread could see one of
//! each kind; no program binds and uses a socket at the same time.

use core::sync::atomic::AtomicU32;

use bindgate_core::addr::{Addr, RawAddr, UnixKind, UnixName, af};
use bindgate_core::judge::Known;
use bindgate_core::judge::redirect::{self, Placement, Refusal};
use bindgate_core::record::{Check, Identity, Record, flag, stage};
use bindgate_core::shared::move_kind;
use bindgate_core::socket::SocketType;

use super::carry::{Duplicates, Watches};
use super::{Peer, Placing, device, holders, names, options, refused_with, table};
use crate::own::fds::{self, Socket};
use crate::own::name;
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// fcntl(2) commands of linux/fcntl.h that libc's headers leave out.
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;

/// Everything of a socket that another one has to get, before anything changed.
pub struct Old {
    fd: i32,
    ty: SocketType,
    duplicates: Duplicates,
    watches: Watches,
}

impl Old {
    fn of(allowed: Allowed, fd: i32, ty: SocketType) -> Result<Old, Refusal> {
        let Ok(inode) = sys::inode(allowed, fd) else {
            return Err(Refusal::Carry);
        };
        if holders::is_shared(allowed, inode) {
            return Err(Refusal::Shared);
        }
        let duplicates = Duplicates::of(allowed, inode, fd).ok_or(Refusal::Carry)?;
        let watches = Watches::of(allowed, inode, &duplicates).ok_or(Refusal::Carry)?;
        Ok(Old {
            fd,
            ty,
            duplicates,
            watches,
        })
    }

    /// Runs a part with what [`Old::of`] finds. Like [`sys::without_signals`] it
    /// has no guard in builds that cannot panic, whose clean-up would keep the
    /// compiler from seeing that.
    pub fn with<T>(
        allowed: Allowed,
        fd: i32,
        ty: SocketType,
        part: impl FnOnce(&Old) -> T,
    ) -> Result<T, Refusal> {
        let old = Old::of(allowed, fd, ty)?;
        #[cfg(not(any(debug_assertions, feature = "inject")))]
        let old = core::mem::ManuallyDrop::new(old);
        let done = part(&old);
        #[cfg(not(any(debug_assertions, feature = "inject")))]
        let old = core::mem::ManuallyDrop::into_inner(old);
        drop(old);
        Ok(done)
    }

    /// Puts `new`, which has its options, in its place with its flags.
    pub fn give_way_to(&self, allowed: Allowed, new: i32) -> Result<(), Errno> {
        let ask = |cmd, set| {
            if let Ok(value) = sys::fcntl(allowed, self.fd, cmd, 0) {
                let _ = sys::fcntl(allowed, new, set, value);
            }
        };
        ask(libc::F_GETFL, libc::F_SETFL);
        ask(F_GETSIG, F_SETSIG);
        // struct f_owner_ex: whether it is a thread, a process or a group, and
        // its number.
        let mut owner = [0i32; 2];
        let at = owner.as_mut_ptr() as usize;
        if sys::fcntl(allowed, self.fd, F_GETOWN_EX, at).is_ok() && owner[1] != 0 {
            let _ = sys::fcntl(allowed, new, F_SETOWN_EX, at);
        }
        // The highest number first: if the limit of descriptors has come down
        // since, it is the one that fails, and nothing has changed yet.
        let highest = self.duplicates.numbers().max().unwrap_or(self.fd);
        self.put(allowed, new, highest)?;
        for at in self.duplicates.numbers().filter(|at| *at != highest) {
            self.put(allowed, new, at)?;
        }
        self.watches.restore(allowed);
        Ok(())
    }

    fn put(&self, allowed: Allowed, new: i32, at: i32) -> Result<(), Errno> {
        let close_on_exec =
            sys::fcntl(allowed, at, libc::F_GETFD, 0) == Ok(libc::FD_CLOEXEC as usize);
        let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
        sys::dup3(allowed, new, at, flags)?;
        if at != self.fd {
            fds::copied(self.fd, at);
        }
        Ok(())
    }
}

/// Binds a new Unix socket to the target and puts it at `fd`.
#[inline(never)]
pub fn replace(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    placing: &Placing,
    record: &mut Record,
) -> Result<(), Errno> {
    let was = placing.socket.ty;
    let Placement::Unix(name) = placing.placement else {
        return refused_with(record, Refusal::Family);
    };
    let placing = (placing, &name);
    match Old::with(allowed, fd, was, |old| {
        replace_old(allowed, run, old, placing, record)
    }) {
        Ok(answer) => answer,
        Err(why) => refused_with(record, why),
    }
}

/// Binds a new Unix socket of that name in the place of the old socket.
#[inline(never)]
fn replace_old(
    allowed: Allowed,
    run: &Run,
    old: &Old,
    (placing, name): (&Placing, &UnixName),
    record: &mut Record,
) -> Result<(), Errno> {
    let (fd, was) = (old.fd, old.ty);
    if !make_way(allowed, name) {
        return refused_with(record, Refusal::Path);
    }
    let new = sys::socket(
        allowed,
        af::UNIX.into(),
        i32::from(was.ty) | libc::SOCK_CLOEXEC,
        0,
    )?;
    let bound = move_in(allowed, run, old, new, &placing.real);
    sys::close(allowed, new);
    note_bound(allowed, run, fd, placing, bound, record)?;
    became_unix(fd, was);
    Ok(())
}

/// Notes what became of the bind of a Unix socket: its cookie and where it is,
/// or why the kernel refused.
fn note_bound(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    placing: &Placing,
    bound: Result<(u64, RawAddr), Errno>,
    record: &mut Record,
) -> Result<(), Errno> {
    record.stages |= stage::FORWARD;
    record.flags |= flag::FORWARDED;
    match bound {
        Ok((cookie, real)) => {
            record.used = real;
            table::enter(allowed, run, fd, placing, cookie, real, record.rule);
            Ok(())
        }
        Err(e) => {
            record.used = placing.real;
            record.kernel = e.0;
            record.check = Check::UnixBind;
            Err(e)
        }
    }
}

fn became_unix(fd: i32, was: SocketType) {
    fds::made(
        fd,
        SocketType {
            domain: af::UNIX,
            ty: was.ty,
            protocol: 0,
        },
    );
}

fn move_in(
    allowed: Allowed,
    run: &Run,
    old: &Old,
    new: i32,
    at: &RawAddr,
) -> Result<(u64, RawAddr), Errno> {
    sys::bind(allowed, new, at.bytes())?;
    let real = name::local(allowed, new)?;
    let cookie = sys::cookie(allowed, new)?;
    options::carry_over(allowed, run, old.fd, new, cookie, old.ty);
    old.give_way_to(allowed, new)?;
    Ok((cookie, real))
}

/// Connects a new Unix socket to where the peer is and puts it at `fd`. If it
/// cannot be connected nothing has changed.
#[inline(never)]
pub fn connect(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    cookie: u64,
    peer: Peer<'_>,
    record: &mut Record,
) -> Result<(), Errno> {
    let waits = sys::fcntl(allowed, fd, libc::F_GETFL, 0)
        .is_ok_and(|flags| flags & libc::O_NONBLOCK as usize == 0);
    loop {
        let answer = sys::without_signals(allowed, || {
            connect_once(allowed, run, fd, cookie, peer, record)
        });
        let is_full = answer == Err(Errno(libc::EAGAIN as u16));
        if is_full && waits && redirect::waits_for_room(peer.socket) {
            // The server's queue is full. Nothing is held here.
            sys::futex_wait(allowed, &AtomicU32::new(0), 0, 1);
            continue;
        }
        let answer = answer.map_err(|e| as_believed(peer.socket, e));
        record.kernel = answer.err().map_or(0, |e| e.0);
        return answer;
    }
}

fn connect_once(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    cookie: u64,
    peer: Peer<'_>,
    record: &mut Record,
) -> Result<(), Errno> {
    let was = peer.socket;
    match Old::with(allowed, fd, was, |old| {
        connect_old(allowed, run, old, cookie, peer, record)
    }) {
        Ok(answer) => answer,
        Err(why) => refused_with(record, why),
    }
}

/// Connects a new Unix socket in the place of the old socket.
#[inline(never)]
fn connect_old(
    allowed: Allowed,
    run: &Run,
    old: &Old,
    cookie: u64,
    peer: Peer<'_>,
    record: &mut Record,
) -> Result<(), Errno> {
    let was = old.ty;
    let kind = i32::from(was.ty) | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let new = sys::socket(allowed, af::UNIX.into(), kind, 0)?;
    record.stages |= stage::FORWARD;
    record.flags |= flag::FORWARDED;
    record.used = *peer.to;
    let done = sys::connect(allowed, new, peer.to.bytes())
        .and_then(|()| move_in_connected(allowed, run, old, new, cookie, peer));
    sys::close(allowed, new);
    done
}

/// Puts a connected Unix socket in the place of the old socket, whose cookie
/// was `before`.
fn move_in_connected(
    allowed: Allowed,
    run: &Run,
    old: &Old,
    new: i32,
    before: u64,
    peer: Peer<'_>,
) -> Result<(), Errno> {
    let (fd, was) = (old.fd, old.ty);
    let cookie = sys::cookie(allowed, new)?;
    let local =
        connected_name(allowed, run, fd, was, cookie).ok_or(Errno(libc::EAFNOSUPPORT as u16))?;
    let placing = Placing {
        real: name::local(allowed, new)?,
        virt: names::connected_from(local),
        kind: move_kind::UNIX,
        marks: 0,
        device: device(allowed, fd),
        netns: sys::netns_cookie(allowed, new).unwrap_or(0),
        socket: Socket {
            cookie,
            identity: Identity::Cookie,
            ty: was,
            known: Known::Exactly,
        },
        placement: Placement::Address(local),
    };
    options::carry_over(allowed, run, fd, new, cookie, was);
    old.give_way_to(allowed, new)?;
    run.state.moves.remove(before);
    table::enter(allowed, run, fd, &placing, cookie, placing.real, peer.rule);
    became_unix(fd, was);
    fds::bound(fd);
    table::enter_peer(allowed, run, fd, cookie, peer);
    Ok(())
}

/// What a Unix socket's failure to connect is called for the program.
fn as_believed(socket: SocketType, e: Errno) -> Errno {
    Errno(redirect::connect_error(socket, e.0))
}

/// Binds a carrier to the target.
#[inline(never)]
pub fn bind_in_place(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    placing: &Placing,
    record: &mut Record,
) -> Result<(), Errno> {
    let Placement::Unix(name) = placing.placement else {
        return refused_with(record, Refusal::Family);
    };
    if !make_way(allowed, &name) {
        return refused_with(record, Refusal::Path);
    }
    let bound = sys::bind(allowed, fd, placing.real.bytes())
        .and_then(|()| name::local(allowed, fd))
        .map(|real| (placing.socket.cookie, real));
    note_bound(allowed, run, fd, placing, bound, record)
}

/// Connects a Unix socket that is in the place of a vsock one to where the peer
/// is.
#[inline(never)]
pub fn connect_in_place(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    cookie: u64,
    peer: Peer<'_>,
    record: &mut Record,
) -> Result<(), Errno> {
    record.stages |= stage::FORWARD;
    record.flags |= flag::FORWARDED;
    record.used = *peer.to;
    let answer = sys::without_signals(allowed, || {
        at_once(allowed, fd, || sys::connect(allowed, fd, peer.to.bytes()))
    });
    let answer = answer.and_then(|()| name::local(allowed, fd));
    let answer = answer.map_err(|e| as_believed(peer.socket, e));
    record.kernel = answer.err().map_or(0, |e| e.0);
    let real = answer?;
    if let Some(local) = connected_name(allowed, run, fd, peer.socket, cookie) {
        let placing = Placing {
            real,
            virt: names::connected_from(local),
            kind: move_kind::UNIX,
            marks: 0,
            device: device(allowed, fd),
            netns: sys::netns_cookie(allowed, fd).unwrap_or(0),
            socket: Socket {
                cookie,
                identity: Identity::Cookie,
                ty: peer.socket,
                known: Known::Exactly,
            },
            placement: Placement::Address(local),
        };
        table::enter(allowed, run, fd, &placing, cookie, real, peer.rule);
    }
    fds::bound(fd);
    table::enter_peer(allowed, run, fd, cookie, peer);
    Ok(())
}

/// The name that a socket has which is about to be connected, or is: what the
/// program bound it to, or else one made up for its `cookie`.
fn connected_name(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    socket: SocketType,
    cookie: u64,
) -> Option<Addr> {
    names::local_name(allowed, run, fd)
        .and_then(|raw| raw.read())
        .filter(|addr| !addr.is_auto())
        .or_else(|| names::stand_in(socket.domain, cookie))
}

/// Makes a call on a socket that must not wait in it.
pub fn at_once<T>(allowed: Allowed, fd: i32, call: impl FnOnce() -> T) -> T {
    let flags = sys::fcntl(allowed, fd, libc::F_GETFL, 0).unwrap_or(0);
    let waits = flags & libc::O_NONBLOCK as usize == 0;
    if waits {
        let _ = sys::fcntl(
            allowed,
            fd,
            libc::F_SETFL,
            flags | libc::O_NONBLOCK as usize,
        );
    }
    let answer = call();
    if waits {
        let _ = sys::fcntl(allowed, fd, libc::F_SETFL, flags);
    }
    answer
}

/// Removes a socket file that nobody is bound to any more; `false` if
/// something else is in the way.
pub fn make_way(allowed: Allowed, name: &UnixName) -> bool {
    if name.kind != UnixKind::Path {
        return true;
    }
    let mut path = [0u8; 110];
    let Some(path) = holders::join(&mut path, &[name.bytes()]) else {
        return false;
    };
    match sys::stat(allowed, path) {
        Err(_) => true,
        Ok(st) if st.st_mode & libc::S_IFMT == libc::S_IFSOCK => {
            is_abandoned(allowed, name) && sys::unlink(allowed, path).is_ok()
        }
        Ok(_) => false,
    }
}

/// Is nobody bound to the socket file of this name? The file counts and not how
/// it is spelt, nor the network name space that the socket is in.
///
/// A datagram socket asks: `unix_find_other` refuses it with `ECONNREFUSED` only
/// where there is nobody, and a server of another type hears nothing of it.
pub fn is_abandoned(allowed: Allowed, name: &UnixName) -> bool {
    let Ok(fd) = sys::socket(
        allowed,
        af::UNIX.into(),
        libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
        0,
    ) else {
        return false;
    };
    let answer = sys::connect(allowed, fd, Addr::Unix(*name).write().bytes());
    sys::close(allowed, fd);
    answer == Err(Errno(libc::ECONNREFUSED as u16))
}
