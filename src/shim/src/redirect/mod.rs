//! Carrying out moves and hides, and keeping up what they pretend.
//!
//! A socket that a rule moved is elsewhere than its program thinks. Where it
//! is and where the program thinks it is stands in the run's table
//! ([`bindgate_core::shared::Moves`]) under the socket's cookie, so every process
//! that holds the socket finds it there. An accepted child is another socket;
//! it leads back to its listener by what it inherits ([`find`]).

mod conflict;
mod diag;
mod holders;
mod options;
mod unix;

pub use options::{get_option, set_option};

use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr, UnixName, af};
use bindgate_core::policy::{Decision, Verb};
use bindgate_core::record::{Check, Record, refusal};
use bindgate_core::shared::{Moved, Tag, door, move_kind, move_mark};
use bindgate_core::socket::{BindOptions, KindSet, SocketType};

use crate::hook::{Binding, Plan, sockopt};
use crate::own::fds::{self, Socket};
use crate::own::{name, process};
use crate::session::Run;
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed, Errno};

/// Marks the key of an entry that is about the peer of a socket, not about
/// its own name.
pub const PEER_KEY: u64 = 1 << 62;

/// `IP_LOCAL_PORT_RANGE` of ip(7), Linux 6.3: set and read at level
/// `IPPROTO_IP` on both families.
pub const IP_LOCAL_PORT_RANGE: i32 = 51;

/// A bind to another address than the program asked, on its way.
pub struct Placing {
    /// Where it really goes.
    pub real: RawAddr,
    virt: Addr,
    kind: u32,
    marks: u32,
    socket: Socket,
}

impl Placing {
    /// Did the socket receive IPv6 only before it was placed?
    pub fn is_v6only(&self) -> bool {
        self.marks & move_mark::V6ONLY != 0
    }
}

/// Does the socket receive IPv6 only? Asks the kernel.
pub fn is_v6only(allowed: Allowed, fd: i32) -> bool {
    sys::getsockopt_int(allowed, fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) == Ok(1)
}

/// What is to be done so that the program believes to be at `virt`, `None` for
/// an address without words: becomes the plan of the binding.
pub fn plan(
    allowed: Allowed,
    run: &Run,
    socket: &Socket,
    virt: Option<&Addr>,
    decision: &Decision,
    v6only: bool,
    b: &mut Binding,
) {
    let (record, plan) = (&mut b.record, &mut b.plan);
    let is_placed = virt.is_some_and(|virt| is_placed(socket, virt, decision, v6only, plan));
    let instead = if !is_placed {
        refused(record, libc::EAFNOSUPPORT, refusal::FAMILY)
    } else if !may_redirect(allowed, socket, plan) {
        refused(record, libc::EACCES, refusal::SECCOMP)
    } else if let Plan::Place(placing) = plan {
        sys::without_signals(allowed, || prepare(allowed, run, placing, record))
    } else {
        Instead::Nothing
    };
    match instead {
        Instead::Nothing => {}
        Instead::Refuse(e) => *plan = Plan::Refuse(e),
        Instead::Done(answer) => *plan = Plan::Done(answer),
    }
}

/// May everything be done that it takes: the questions, what is set up, and
/// what keeps up the address that the program believes in?
fn may_redirect(allowed: Allowed, socket: &Socket, plan: &Plan) -> bool {
    let to_unix = matches!(plan, Plan::Place(placing)
        if placing.real.family() == Some(af::UNIX) && socket.ty.domain != af::UNIX);
    allowed.may_all(match to_unix {
        true => needs::REDIRECT_TO_UNIX,
        false => needs::REDIRECT,
    })
}

/// What is done instead of placing a socket.
enum Instead {
    Nothing,
    Refuse(Errno),
    Done(Result<(), Errno>),
}

/// Makes it the plan to place the socket, where there is a place for its family.
// Apart from what goes on with the plan: a handler's stack is small.
#[inline(never)]
fn is_placed(
    socket: &Socket,
    virt: &Addr,
    decision: &Decision,
    v6only: bool,
    plan: &mut Plan,
) -> bool {
    let hide = decision.verb == Verb::Hide;
    let target = if hide {
        hidden_place(socket.ty)
    } else {
        decision.target.map(|t| fit(t, socket.ty, v6only))
    };
    let Some(target) = target else { return false };
    *plan = Plan::Place(Placing {
        real: target.write(),
        virt: *virt,
        kind: if hide {
            move_kind::HIDDEN
        } else {
            move_kind::SAME_FAMILY
        },
        marks: if v6only { move_mark::V6ONLY } else { 0 },
        socket: *socket,
    });
    true
}

/// Does what has to be done before the bind.
#[inline(never)]
fn prepare(allowed: Allowed, run: &Run, placing: &mut Placing, record: &mut Record) -> Instead {
    let (fd, socket) = (record.fd, placing.socket);
    if fds::is_bound(allowed, fd) {
        // The kernel says EINVAL, as it would for the address asked for.
        return Instead::Nothing;
    }
    let moves = &run.state.moves;
    if !moves.has_room(socket.cookie) && !conflict::clear_dead(allowed, run, socket.cookie) {
        return refused(record, libc::ENOBUFS, refusal::TABLE_FULL);
    }
    placing.marks |= reuse_marks(allowed, fd);
    if let Some(holder) = holder(allowed, run, fd, placing) {
        record.check = Check::VirtualConflict;
        record.errno = libc::EADDRINUSE as u16;
        record.holder = holder;
        return Instead::Refuse(Errno(libc::EADDRINUSE as u16));
    }
    let family = placing.real.family();
    if family == Some(af::UNIX) && socket.ty.domain != af::UNIX {
        return Instead::Done(unix::replace(allowed, run, fd, placing, record));
    }
    if family != Some(socket.ty.domain) {
        return refused(record, libc::EAFNOSUPPORT, refusal::FAMILY);
    }
    if let Some(Addr::Unix(name)) = placing.real.read() {
        // A program removes the file that it knows of, not this one. Where
        // something is left in the way the kernel says so.
        unix::make_way(allowed, &name);
    }
    if placing.kind == move_kind::HIDDEN {
        drop_everything(allowed, fd);
    }
    Instead::Nothing
}

/// The cookie of the socket of the run that holds one of the two addresses. The
/// daemon is asked, which has the run's bind table; where it cannot answer, the
/// sockets that were redirected are looked through.
#[inline(never)]
fn holder(allowed: Allowed, run: &Run, fd: i32, placing: &Placing) -> Option<u64> {
    let mut options = BindOptions::default();
    for (mark, option) in [
        (move_mark::REUSEADDR, BindOptions::REUSEADDR),
        (move_mark::REUSEPORT, BindOptions::REUSEPORT),
        (move_mark::V6ONLY, BindOptions::V6ONLY),
    ] {
        options.set(option, placing.marks & mark != 0);
    }
    let claim = door::Claim {
        process: process::slot(run),
        pid: process::ids().0,
        fd,
        uid: sys::geteuid(allowed).unwrap_or(u32::MAX),
        socket: placing.socket.ty,
        options,
        device: sockopt::device(allowed, fd),
        cookie: placing.socket.cookie,
        virt: placing.virt.write(),
        real: placing.real,
    };
    match run.claim(allowed, &claim) {
        Some(door::Answer::Held(holder)) => Some(holder.cookie),
        Some(door::Answer::Free) => None,
        None => conflict::holder(allowed, run, placing),
    }
}

fn refused(record: &mut Record, errno: i32, reason: u16) -> Instead {
    record.check = Check::MoveRefused;
    record.errno = errno as u16;
    record.reason = reason;
    Instead::Refuse(Errno(errno as u16))
}

/// An IPv4 target on a dual-stack IPv6 socket is its IPv4-mapped address.
fn fit(target: Addr, ty: SocketType, v6only: bool) -> Addr {
    match target {
        Addr::Inet {
            ip: [a, b, c, d],
            port,
        } if ty.domain == af::INET6 && !v6only => Addr::Inet6 {
            ip: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d],
            port,
            flow: 0,
            scope: 0,
        },
        other => other,
    }
}

/// Where a hidden socket goes: a port of the kernel's choice on loopback,
/// behind a filter that drops everything; a Unix name of the kernel's choice
/// for a family without such a filter.
fn hidden_place(ty: SocketType) -> Option<Addr> {
    match ty.domain {
        af::INET => Some(Addr::Inet {
            ip: [127, 0, 0, 1],
            port: 0,
        }),
        af::INET6 => Some(Addr::Inet6 {
            ip: core::net::Ipv6Addr::LOCALHOST.octets(),
            port: 0,
            flow: 0,
            scope: 0,
        }),
        af::UNIX | af::VSOCK => Some(Addr::Unix(UnixName::AUTO)),
        _ => None,
    }
}

/// A socket filter of one instruction, "keep 0 bytes", and a lock on it:
/// no SYN and no datagram reaches the socket. See socket(7),
/// `SO_ATTACH_FILTER`.
fn drop_everything(allowed: Allowed, fd: i32) {
    let keep_nothing = [libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    if sys::attach_filter(allowed, fd, &keep_nothing).is_ok() {
        let on = 1i32.to_ne_bytes();
        let _ = sys::setsockopt(allowed, fd, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &on);
    }
}

fn reuse_marks(allowed: Allowed, fd: i32) -> u32 {
    let on = |name| sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, name) == Ok(1);
    let mut marks = 0;
    if on(libc::SO_REUSEADDR) {
        marks |= move_mark::REUSEADDR;
    }
    if on(libc::SO_REUSEPORT) {
        marks |= move_mark::REUSEPORT;
    }
    marks
}

/// The kernel has answered the real bind.
pub fn placed(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    placing: &Placing,
    ok: bool,
    record: &mut Record,
) {
    if !ok {
        record.used = placing.real;
        return;
    }
    let real = name::local(allowed, fd).unwrap_or(placing.real);
    record.used = real;
    enter(
        allowed,
        run,
        fd,
        placing,
        placing.socket.cookie,
        real,
        record.rule,
    );
}

/// Puts a moved socket into the run's table.
fn enter(
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
    let taggable = stream && matches!(real.family(), Some(af::INET | af::INET6)) && range == Ok(0);
    if !taggable {
        marks |= move_mark::NO_TAG;
    }
    if marks & (move_mark::REUSEADDR | move_mark::REUSEPORT) == 0 {
        // The kernel let nobody share the place: what was there is gone, and
        // so are its children.
        let ty = placing.socket.ty;
        let gone = run
            .state
            .moves
            .iter()
            .filter(|m| m.real == real && same_table(m.socket, ty));
        for old in gone {
            run.state.moves.remove(old.cookie);
            run.state.socket_options.forget(old.cookie);
        }
    }
    let tag = run.state.moves.insert(&Moved {
        cookie,
        kind: placing.kind,
        marks,
        uid: sys::geteuid(allowed).unwrap_or(u32::MAX),
        rule,
        socket: placing.socket.ty,
        virt: virt.write(),
        real,
    });
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

/// Is `fd` a moved socket, or a child of one? Asks the kernel only if the run
/// has moved sockets at all, and then no more than it must.
#[inline(never)]
pub fn find(allowed: Allowed, run: &Run, fd: i32) -> Option<Found> {
    let header = &run.state.header;
    if header.moves.load(Relaxed) == 0 {
        return None;
    }
    let real = name::local(allowed, fd).ok()?;
    match real.read() {
        Some(Addr::Unix(_)) if header.unix_moves.load(Relaxed) == 0 => return None,
        // No name, or one that is no address: nothing of ours is there.
        None => return None,
        Some(addr) => {
            if let Some(port) = addr.port()
                && !run.state.may_be_moved(port as u16)
            {
                return None;
            }
        }
    }
    let cookie = sys::cookie(allowed, fd).ok()?;
    let found = |moved, is_child| {
        Some(Found {
            moved,
            is_child,
            cookie,
            real,
        })
    };
    let moves = &run.state.moves;
    if let Some(moved) = moves.find(cookie) {
        return found(moved, false);
    }
    if real.family() == Some(af::UNIX) {
        let moved = moves.iter().find(|m| m.real == real)?;
        return found(moved, true);
    }
    let same_place = |m: &Moved| {
        m.real.family() == real.family()
            && m.real.read().and_then(|a| a.port()) == real.read().and_then(|a| a.port())
    };
    let range = sys::getsockopt_int(allowed, fd, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE);
    let tagged = range.ok().and_then(|tag| moves.by_tag(Tag(tag as u32)));
    if let Some(moved) = tagged.filter(same_place) {
        return found(moved, true);
    }
    // No tag: not a child, unless the listener could not carry one, or the
    // kernel has no such option (before Linux 6.3). Then the place decides.
    let untagged = |m: &Moved| range.is_err() || m.marks & move_mark::NO_TAG != 0;
    let moved = moves
        .iter()
        .find(|m| m.socket.is_stream() && same_place(m) && untagged(m))?;
    is_connected(allowed, fd)
        .then(|| found(moved, true))
        .flatten()
}

fn is_connected(allowed: Allowed, fd: i32) -> bool {
    name::peer(allowed, fd).is_ok()
}

/// The local name that the program believes in, if it is not the real one.
pub fn virtual_name(allowed: Allowed, run: &Run, fd: i32) -> Option<Addr> {
    let found = find(allowed, run, fd)?;
    let virt = found.moved.virt.read()?;
    let connected =
        found.is_child || (!found.moved.socket.is_stream() && is_connected(allowed, fd));
    if !connected || !virt.is_wildcard() {
        return Some(virt);
    }
    // The kernel names the address that the peer reached.
    Some(match (virt, found.real.read()) {
        (Addr::Inet { port, .. }, Some(Addr::Inet { ip, .. })) => Addr::Inet { ip, port },
        (
            Addr::Inet6 { port, .. },
            Some(Addr::Inet6 {
                ip, flow, scope, ..
            }),
        ) => Addr::Inet6 {
            ip,
            port,
            flow,
            scope,
        },
        (virt, _) => on_loopback(virt),
    })
}

/// The same address on loopback.
fn on_loopback(addr: Addr) -> Addr {
    match addr {
        Addr::Inet { port, .. } => Addr::Inet {
            ip: [127, 0, 0, 1],
            port,
        },
        Addr::Inet6 { port, .. } => Addr::Inet6 {
            ip: core::net::Ipv6Addr::LOCALHOST.octets(),
            port,
            flow: 0,
            scope: 0,
        },
        Addr::Vsock { port, flags, .. } => Addr::Vsock {
            cid: libc::VMADDR_CID_LOCAL,
            port,
            flags,
        },
        other => other,
    }
}

/// The local name that the program believes in; `None` where nothing may be
/// asked.
pub fn local_name(allowed: Allowed, run: &Run, fd: i32) -> Option<RawAddr> {
    virtual_name(allowed, run, fd)
        .map(|addr| addr.write())
        .or_else(|| name::local(allowed, fd).ok())
}

/// What the program believes `fd` to be.
pub fn virtual_type(allowed: Allowed, run: &Run, fd: i32, real: SocketType) -> SocketType {
    match find(allowed, run, fd) {
        Some(found) => found.moved.socket,
        None => real,
    }
}

/// The peer's name that the program should see, if it is not the real one:
/// the address that it asked to connect to, or a stand-in for the nameless
/// client of a Unix socket that took another family's place.
pub fn virtual_peer(allowed: Allowed, run: &Run, fd: i32) -> Option<Addr> {
    if run.state.header.moves.load(Relaxed) == 0 {
        return None;
    }
    let cookie = sys::cookie(allowed, fd).ok()?;
    if let Some(moved) = run.state.moves.find(cookie | PEER_KEY) {
        return moved.virt.read();
    }
    let found = find(allowed, run, fd)?;
    if !found.is_replaced() || !found.is_child {
        return None;
    }
    let any = Addr::any(found.moved.socket.domain)?;
    // Any port will do, as long as it stays the same for this connection.
    let port = 32768 + (found.cookie % 28232) as u32;
    Some(on_loopback(any.with_port(port)))
}

/// A connect was sent to `real` although the program asked for `virt`.
#[inline(never)]
pub fn connected(run: &Run, socket: &Socket, virt: &RawAddr, real: &RawAddr, rule: u32) {
    let entered = run.state.moves.insert(&Moved {
        cookie: socket.cookie | PEER_KEY,
        kind: move_kind::CONNECT,
        marks: move_mark::NO_TAG,
        uid: 0,
        rule,
        socket: socket.ty,
        virt: *virt,
        real: *real,
    });
    if entered.is_some() {
        run.state.header.moves.fetch_add(1, Relaxed);
    }
}

/// Sets and clears marks of a moved socket.
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
