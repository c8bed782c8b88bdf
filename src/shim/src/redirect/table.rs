//! The run's table of redirected sockets: putting one in, and finding it again
//! from a descriptor.

use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::shared::{Moved, PEER_KEY, Tag, move_kind, move_mark};
use bindgate_core::socket::{KindSet, SocketType};

use super::{IP_LOCAL_PORT_RANGE, Placing, alive, vsock};
use crate::own::name;
use crate::session::Run;
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed};

/// Puts a redirected socket into the run's table.
pub fn enter(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    placing: &Placing,
    cookie: u64,
    real: RawAddr,
    rule: u32,
) {
    let mut virt = placing.virt;
    let real_port = real.read().and_then(|a| a.port());
    if let (true, Some(port)) = (virt.is_auto(), real_port) {
        virt = virt.with_port(port);
    }
    let stream = placing.socket.ty.is_stream();
    let mut marks = placing.marks;
    let range = sys::getsockopt_int(allowed, fd, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE);
    // On a socket that gets its port only when it connects
    // (`IP_BIND_ADDRESS_NO_PORT`) the range would be one.
    let has_port = real_port.is_some_and(|port| port != 0);
    let taggable =
        stream && has_port && matches!(real.family(), Some(af::INET | af::INET6)) && range == Ok(0);
    if !taggable {
        marks |= move_mark::NO_TAG;
    }
    if marks & (move_mark::REUSEADDR | move_mark::REUSEPORT) == 0 {
        forget_earlier(run, placing, &real);
    }
    let entry = Moved {
        cookie,
        netns: placing.netns,
        kind: placing.kind,
        marks,
        uid: sys::geteuid(allowed).unwrap_or(u32::MAX),
        rule,
        device: placing.device,
        socket: placing.socket.ty,
        virt: virt.write(),
        real,
    };
    let tag = insert(allowed, run, &entry);
    if let (true, Some(Tag(tag))) = (taggable, tag) {
        let _ = sys::setsockopt(
            allowed,
            fd,
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            &tag.to_ne_bytes(),
        );
    }
    if let Some(port) = real_port {
        run.state.mark_port(port as u16);
    }
    let header = &run.state.header;
    if real.family() == Some(af::UNIX) {
        header.unix_moves.fetch_add(1, Relaxed);
    }
    header.moves.fetch_add(1, Relaxed);
}

/// The kernel let nobody share the place: what was there is gone, and so are its
/// children.
#[inline(never)]
fn forget_earlier(run: &Run, placing: &Placing, real: &RawAddr) {
    let ty = placing.socket.ty;
    let is_gone = |m: &Moved| {
        m.real == *real
            && m.netns == placing.netns
            && m.kind != move_kind::CONNECT
            && same_table(m.socket, ty)
    };
    while let Some(cookie) = run.state.moves.first_at(None, Some(real), is_gone) {
        run.state.moves.remove(cookie);
        run.state.socket_options.forget(cookie);
    }
}

/// A socket that was bound without a port (`IP_BIND_ADDRESS_NO_PORT`) may have
/// got one by connecting: its entry says so from then on.
pub fn got_port(allowed: Allowed, run: &Run, fd: i32, cookie: u64) {
    let Some(before) = run.state.moves.find(cookie) else {
        return;
    };
    if before.real.read().and_then(|a| a.port()) == Some(0)
        && let Ok(real) = name::local(allowed, fd)
    {
        insert(allowed, run, &Moved { real, ..before });
    }
}

/// Puts a carrier into the run's table: `false` if there is no room.
pub fn enter_carrier(allowed: Allowed, run: &Run, entry: &Moved) -> bool {
    let is_entered = insert(allowed, run, entry).is_some();
    if is_entered {
        let header = &run.state.header;
        header.unix_moves.fetch_add(1, Relaxed);
        header.moves.fetch_add(1, Relaxed);
    }
    is_entered
}

/// Keeps as what a socket of a block is known.
pub fn enter_name(allowed: Allowed, run: &Run, entry: &Moved) {
    if insert(allowed, run, entry).is_some() {
        run.state.header.moves.fetch_add(1, Relaxed);
    }
}

/// Whoever looked for room before may have lost it to another process.
fn insert(allowed: Allowed, run: &Run, entry: &Moved) -> Option<Tag> {
    run.state.moves.insert(entry).or_else(|| {
        alive::make_room(allowed, run, entry.cookie);
        run.state.moves.insert(entry)
    })
}

/// A call to one address that a rule sent to another one.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    /// The socket, as its program believes it to be.
    pub socket: SocketType,
    /// The address that the program called.
    pub asked: &'a RawAddr,
    /// Where it goes.
    pub to: &'a RawAddr,
    /// The rule that sent it there.
    pub rule: u32,
}

/// Keeps the peer's name that the program should see.
pub fn enter_peer(allowed: Allowed, run: &Run, fd: i32, cookie: u64, peer: Peer<'_>) {
    let entered = insert(
        allowed,
        run,
        &Moved {
            cookie: cookie | PEER_KEY,
            netns: sys::netns_cookie(allowed, fd).unwrap_or(0),
            kind: move_kind::CONNECT,
            marks: move_mark::NO_TAG,
            uid: 0,
            rule: peer.rule,
            device: 0,
            socket: peer.socket,
            virt: *peer.asked,
            real: *peer.to,
        },
    );
    if entered.is_some() {
        run.state.header.moves.fetch_add(1, Relaxed);
    }
}

/// A socket of the table, found from a descriptor.
pub struct Found {
    /// The entry: of the socket itself, or of the listener that it came from.
    pub moved: Moved,
    /// Was it accepted from the socket of the entry?
    pub is_child: bool,
    /// `SO_COOKIE` of the descriptor's own socket.
    pub cookie: u64,
    /// Its real local name.
    pub real: RawAddr,
}

impl Found {
    /// Is it a Unix socket in place of one of another family?
    pub fn is_replaced(&self) -> bool {
        self.moved.socket.domain != af::UNIX && self.real.family() == Some(af::UNIX)
    }
}

/// Is `fd` a redirected socket, or a child of one? Asks the kernel only if the
/// run has such sockets at all, and then no more than it must.
#[inline(never)]
pub fn find(allowed: Allowed, run: &Run, fd: i32) -> Option<Found> {
    let header = &run.state.header;
    if header.moves.load(Relaxed) == 0 || !allowed.may_all(needs::IDENTIFY) {
        return None;
    }
    let real = name::local(allowed, fd).ok()?;
    if run.vsock.is_some() && real.family() == Some(af::UNIX) {
        return on_host(allowed, run, fd, &real);
    }
    if may_be_entered(run, &real) {
        return in_table(allowed, run, fd, &real);
    }
    None
}

// What follows is in pieces because a handler's stack is small: an entry and
// what is made of it lie in one place at a time.

/// Of a run that is a vsock host.
#[inline(never)]
fn on_host(allowed: Allowed, run: &Run, fd: i32, real: &RawAddr) -> Option<Found> {
    // A rule may have put it elsewhere on the host, or its listener.
    if run.state.header.moves.load(Relaxed) > 1 && is_entered(allowed, run, fd, real) {
        return in_table(allowed, run, fd, real);
    }
    vsock::found(allowed, run, fd, real)
}

/// Can a socket with this name, or its listener, have an entry?
#[inline(never)]
fn may_be_entered(run: &Run, real: &RawAddr) -> bool {
    match real.read() {
        Some(Addr::Unix(_)) => run.state.header.unix_moves.load(Relaxed) != 0,
        Some(addr) => addr
            .port()
            .is_none_or(|port| run.state.may_be_moved(port as u16)),
        // No name, or one that is no address: nothing of ours is there.
        None => false,
    }
}

/// Has a socket an entry, or its listener?
#[inline(never)]
fn is_entered(allowed: Allowed, run: &Run, fd: i32, real: &RawAddr) -> bool {
    sys::cookie(allowed, fd).is_ok_and(|cookie| run.state.moves.has(cookie))
        || listener(allowed, run, fd, real).is_some()
}

/// A socket whose entry, or whose listener's, is in the table.
#[inline(never)]
fn in_table(allowed: Allowed, run: &Run, fd: i32, real: &RawAddr) -> Option<Found> {
    let cookie = sys::cookie(allowed, fd).ok()?;
    let moves = &run.state.moves;
    let is_child = !moves.has(cookie);
    let entry = match is_child {
        true => listener(allowed, run, fd, real)?,
        false => cookie,
    };
    Some(Found {
        moved: moves.find(entry)?,
        is_child,
        cookie,
        real: *real,
    })
}

/// The cookie of the listener that a socket at `real` was accepted from.
#[inline(never)]
fn listener(allowed: Allowed, run: &Run, fd: i32, real: &RawAddr) -> Option<u64> {
    if real.family() == Some(af::UNIX) {
        return listener_by_name(run, real);
    }
    let range = sys::getsockopt_int(allowed, fd, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE);
    if let Ok(tag) = range
        && let Some(cookie) = listener_by_tag(run, real, Tag(tag as u32))
    {
        return Some(cookie);
    }
    let cookie = listener_by_place(run, real, range == Ok(0))?;
    name::peer(allowed, fd).is_ok().then_some(cookie)
}

#[inline(never)]
fn listener_by_name(run: &Run, real: &RawAddr) -> Option<u64> {
    // Without a name it was accepted from nobody who has one.
    if real.read().is_none_or(|name| name.is_auto()) {
        return None;
    }
    // A closure and not a function pointer: of a call through one of those the
    // compiler does not know that it cannot panic.
    run.state
        .moves
        .first_at(None, Some(real), |m| m.real == *real)
}

/// Are two addresses at the same port, of one family?
fn is_same_port(a: &RawAddr, b: &RawAddr) -> bool {
    a.family() == b.family() && a.read().and_then(|a| a.port()) == b.read().and_then(|b| b.port())
}

#[inline(never)]
fn listener_by_tag(run: &Run, real: &RawAddr, tag: Tag) -> Option<u64> {
    let moved = run.state.moves.by_tag(tag)?;
    is_same_port(&moved.real, real).then_some(moved.cookie)
}

/// No tag: not a child, unless the listener could not carry one, or the kernel has
/// no such option (before Linux 6.3). The tag of an entry that is gone: another
/// listener took that one's place. Then the place decides.
#[inline(never)]
fn listener_by_place(run: &Run, real: &RawAddr, has_no_tag: bool) -> Option<u64> {
    let untagged = |m: &Moved| !has_no_tag || m.marks & move_mark::NO_TAG != 0;
    // One at its own address, or else at the port; of several the highest cookie,
    // which is the last one's where all were made on one processor.
    let (mut there, mut near) = (0, 0);
    let _ = run.state.moves.first_at(None, Some(real), |m| {
        if m.socket.is_stream() && is_same_port(&m.real, real) && untagged(m) {
            let last = if m.real == *real {
                &mut there
            } else {
                &mut near
            };
            *last = m.cookie.max(*last);
        }
        false
    });
    Some(if there != 0 { there } else { near }).filter(|cookie| *cookie != 0)
}

/// Sets and clears marks of a redirected socket.
pub fn mark(allowed: Allowed, run: &Run, fd: i32, on: u32, off: u32) {
    if let Ok(cookie) = sys::cookie(allowed, fd) {
        run.state.moves.set_marks(cookie, on, off);
    }
}

/// Do two sockets of these kinds share a bind table?
fn same_table(a: SocketType, b: SocketType) -> bool {
    let tables = [KindSet::TCP, KindSet::UDP, KindSet::VSOCK];
    tables
        .into_iter()
        .any(|t| a.kinds().intersects(t) && b.kinds().intersects(t))
}
