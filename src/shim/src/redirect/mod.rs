//! Carrying out moves and hides, and keeping up what they pretend.
//!
//! A socket that a rule redirected is elsewhere than its program thinks. Where it
//! is and where the program thinks it is stands in the run's table
//! ([`bindgate_core::shared::Moves`]) under the socket's cookie, so every process
//! that holds the socket finds it there. An accepted child is another socket;
//! it leads back to its listener by what it inherits ([`find`]).
//!
//! Which place a socket gets, and which socket cannot be redirected, is the
//! core's to say ([`bindgate_core::judge::redirect`]).

mod alive;
pub mod block;
mod carrier;
mod carry;
mod diag;
mod follow;
mod holders;
pub mod host;
mod names;
mod options;
mod table;
mod unix;
pub mod vmm;
pub mod vsock;
mod vsock_options;

pub use alive::{try_bind, try_plain_bind};
pub use carrier::{made as carrier_made, may_be_made as may_make_carrier, restore};
pub use follow::{followed, is_unprivileged};
pub use names::{believe, local_name, virtual_name, virtual_peer, virtual_type};
pub use options::{get_option, set_option, tell_int};
pub use table::{Peer, find, mark};
pub use unix::{connect as connect_unix, connect_in_place as connect_carrier};

use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr};
use bindgate_core::judge::redirect::{self, CONFLICT, Placement, Refusal};
use bindgate_core::policy::{Decision, Verb};
use bindgate_core::record::{Check, Record, flag};
use bindgate_core::shared::{PEER_KEY, door, move_kind, move_mark};
use bindgate_core::socket::BindOptions;

use crate::hook::{Binding, Plan};
use crate::own::fds::{self, Socket};
use crate::own::{name, process};
use crate::session::Run;
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed, Errno};

/// `IP_LOCAL_PORT_RANGE` of ip(7), Linux 6.3: set and read at level
/// `IPPROTO_IP` on both families.
pub const IP_LOCAL_PORT_RANGE: i32 = 51;
/// `SO_BINDTOIFINDEX` of socket(7), Linux 5.1.
const SO_BINDTOIFINDEX: i32 = 62;
/// The index of the device `lo`, in every network namespace.
const LO: u32 = 1;

/// A bind to another address than the program asked, on its way.
pub struct Placing {
    /// Where it really goes.
    pub real: RawAddr,
    virt: Addr,
    kind: u32,
    marks: u32,
    /// The device that the program bound the socket to, and its network
    /// namespace.
    device: u32,
    netns: u64,
    socket: Socket,
    placement: Placement,
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
    let instead = match planned(socket, virt, decision, v6only, plan) {
        Err(why) => refused(record, why),
        Ok(()) if !may_redirect(allowed, plan) => refused(record, Refusal::Filter),
        Ok(()) => match plan {
            Plan::Place(placing) => {
                sys::without_signals(allowed, || prepare(allowed, run, placing, record))
            }
            _ => Instead::Nothing,
        },
    };
    match instead {
        Instead::Nothing => {}
        Instead::Refuse(e) => *plan = Plan::Refuse(e),
        Instead::Done(answer) => *plan = Plan::Done(answer),
    }
}

/// May everything be done that it takes: the questions, what is set up, and
/// what keeps up the address that the program believes in?
fn may_redirect(allowed: Allowed, plan: &Plan) -> bool {
    let to_unix = matches!(plan, Plan::Place(placing)
        if matches!(placing.placement, Placement::Unix(_)));
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

/// Makes it the plan to place the socket, where the core has a place for it.
// Apart from what goes on with the plan: a handler's stack is small.
#[inline(never)]
fn planned(
    socket: &Socket,
    virt: Option<&Addr>,
    decision: &Decision,
    v6only: bool,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let placement = redirect::bind(decision, virt, socket.ty, v6only)?;
    let Some(virt) = virt else {
        return Err(Refusal::Family);
    };
    *plan = Plan::Place(Placing {
        real: placement.addr().write(),
        virt: *virt,
        kind: if decision.verb == Verb::Hide {
            move_kind::HIDDEN
        } else {
            move_kind::SAME_FAMILY
        },
        marks: if v6only { move_mark::V6ONLY } else { 0 },
        device: 0,
        netns: 0,
        socket: *socket,
        placement,
    });
    Ok(())
}

/// Does what has to be done before the bind.
#[inline(never)]
fn prepare(allowed: Allowed, run: &Run, placing: &mut Placing, record: &mut Record) -> Instead {
    let (fd, socket) = (record.fd, placing.socket);
    if fds::is_bound(allowed, fd) {
        // The kernel says EINVAL, as it would for the address asked for.
        return Instead::Nothing;
    }
    if !alive::make_room(allowed, run, socket.cookie) {
        return refused(record, Refusal::TableFull);
    }
    let is_carrier = placing.socket.is_carrier();
    if is_carrier
        && run.vsock.is_none()
        && !matches!(placing.placement, Placement::Unix(_))
        && let Err(e) = carrier::restore(allowed, run, fd, &mut placing.socket, record)
    {
        return Instead::Refuse(e);
    }
    placing.marks |= reuse_marks(allowed, fd);
    placing.device = device(allowed, fd);
    placing.netns = sys::netns_cookie(allowed, fd).unwrap_or(0);
    if let Some(holder) = holder(allowed, run, fd, placing) {
        record.check = Check::VirtualConflict;
        record.errno = CONFLICT;
        record.holder = holder;
        return Instead::Refuse(Errno(CONFLICT));
    }
    match placing.placement {
        Placement::Unix(_) if is_carrier => {
            return Instead::Done(unix::bind_in_place(allowed, run, fd, placing, record));
        }
        Placement::Unix(_) => {
            return Instead::Done(unix::replace(allowed, run, fd, placing, record));
        }
        Placement::Address(to) if is_carrier && run.vsock.is_some() => {
            return Instead::Done(vsock::bind_elsewhere(allowed, run, fd, placing, to, record));
        }
        Placement::OnLo(_) => on_lo(allowed, fd, placing),
        Placement::Address(Addr::Unix(name)) => {
            // A program removes the file that it knows of, not this one. Where
            // something is left in the way the kernel says so.
            unix::make_way(allowed, &name);
        }
        Placement::Address(_) => {}
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
    // On the device `lo` it does not meet what is at this host's other
    // addresses: there the kernel decides, and the redirected sockets.
    let is_on_lo = matches!(placing.placement, Placement::OnLo(_));
    if is_on_lo {
        match alive::holder(allowed, run, placing) {
            None => {}
            holder => return holder,
        }
    }
    match claimed(allowed, run, fd, placing, is_on_lo) {
        Some(door::Answer::Held(holder)) => Some(holder.cookie),
        Some(door::Answer::Free) => None,
        None => alive::holder(allowed, run, placing),
    }
}

// Apart from the search where nobody answers: a handler's stack is small.
#[inline(never)]
fn claimed(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    placing: &Placing,
    is_on_lo: bool,
) -> Option<door::Answer> {
    let mut options = BindOptions::default();
    for (mark, option) in [
        (move_mark::REUSEADDR, BindOptions::REUSEADDR),
        (move_mark::REUSEPORT, BindOptions::REUSEPORT),
        (move_mark::V6ONLY, BindOptions::V6ONLY),
    ] {
        options.set(option, placing.marks & mark != 0);
    }
    let mut claim = door::Claim {
        process: process::slot(run),
        pid: process::ids().0,
        fd,
        uid: sys::geteuid(allowed).unwrap_or(u32::MAX),
        socket: placing.socket.ty,
        options,
        device: placing.device,
        cookie: placing.socket.cookie,
        virt: placing.virt.write(),
        real: match is_on_lo {
            true => placing.placement.addr().with_port(0).write(),
            false => placing.real,
        },
    };
    if run.block.is_some() {
        in_kernels_words(run, placing, &mut claim);
    }
    run.claim(allowed, &claim)
}

/// The daemon's tables hold what the kernel has.
#[cold]
#[inline(never)]
fn in_kernels_words(run: &Run, placing: &Placing, claim: &mut door::Claim) {
    let real = claim
        .real
        .read()
        .and_then(|addr| block::real_of(run, placing.socket.ty, placing.is_v6only(), &addr));
    if let Some(real) = real {
        claim.real = real.write();
    }
}

fn refused(record: &mut Record, why: Refusal) -> Instead {
    record.check = Check::MoveRefused;
    record.errno = why.errno();
    record.reason = why.reason();
    Instead::Refuse(Errno(why.errno()))
}

fn refused_with(record: &mut Record, why: Refusal) -> Result<(), Errno> {
    let _ = refused(record, why);
    Err(Errno(why.errno()))
}

/// The device that the program bound a socket to.
fn device(allowed: Allowed, fd: i32) -> u32 {
    sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, SO_BINDTOIFINDEX)
        .map_or(0, |index| index as u32)
}

/// Puts a socket that is to have the wildcard on the device `lo`. A socket that
/// has a device cannot get another one without a privilege, and not even lose
/// it: so another socket tries first whether the wildcard can be had there.
///
/// Where it cannot, because somebody has the port at another address of this
/// host, the loopback address of one family is taken.
#[inline(never)]
fn on_lo(allowed: Allowed, fd: i32, placing: &mut Placing) {
    let ty = placing.socket.ty;
    let marks = placing.marks;
    let reuse = |scratch: i32| set_reuse(allowed, scratch, marks);
    let to_lo = |fd: i32| {
        sys::setsockopt(
            allowed,
            fd,
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            b"lo\0",
        )
    };
    let can_be_had = || {
        alive::try_bind(allowed, ty, placing.real.bytes(), false, |scratch| {
            reuse(scratch);
            to_lo(scratch)
        }) == Some(Ok(()))
    };
    let is_there = match placing.device {
        0 => can_be_had() && to_lo(fd).is_ok(),
        // Where the program put it.
        LO => return,
        _ => false,
    };
    if is_there {
        placing.marks |= move_mark::ON_LO;
        return;
    }
    let Some(both) = placing.placement.instead() else {
        return;
    };
    // If one of them is taken, that one: the kernel says so to the program,
    // which would not have got both.
    let taken = both.iter().find(|addr| {
        alive::try_bind(allowed, ty, addr.write().bytes(), false, |scratch| {
            reuse(scratch);
            Ok(())
        }) != Some(Ok(()))
    });
    placing.real = taken.unwrap_or(&both[0]).write();
}

/// A socket filter of one instruction, "keep 0 bytes", and a lock on it:
/// no SYN and no datagram reaches the socket. See socket(7),
/// `SO_ATTACH_FILTER`.
fn drop_everything(allowed: Allowed, fd: i32) {
    let program = [libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    if sys::attach_filter(allowed, fd, &program).is_ok() {
        let one = 1i32.to_ne_bytes();
        let _ = sys::setsockopt(allowed, fd, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &one);
    }
}

/// Has a socket of our own reuse addresses as the one with these marks does.
fn set_reuse(allowed: Allowed, fd: i32, marks: u32) {
    let one = 1i32.to_ne_bytes();
    for (mark, option) in [
        (move_mark::REUSEADDR, libc::SO_REUSEADDR),
        (move_mark::REUSEPORT, libc::SO_REUSEPORT),
    ] {
        if marks & mark != 0 {
            let _ = sys::setsockopt(allowed, fd, libc::SOL_SOCKET, option, &one);
        }
    }
}

/// How a socket reuses addresses, as marks.
pub fn reuse_marks(allowed: Allowed, fd: i32) -> u32 {
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
    let real = match ok {
        true => name::local(allowed, fd).unwrap_or(placing.real),
        false => placing.real,
    };
    record.used = real;
    let is_on_lo = placing.marks & move_mark::ON_LO != 0;
    if !ok {
        if is_on_lo {
            // Somebody was faster than us. The program may go on to another
            // port, which no rule is about.
            let _ = sys::setsockopt(allowed, fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"\0");
        }
        return;
    }
    if is_on_lo {
        record.flags |= flag::ON_LO;
    }
    if placing.kind == move_kind::SAME_FAMILY
        && let Some(real) = real.read()
    {
        let v6only = placing.marks & move_mark::V6ONLY != 0;
        record.flags |= redirect::lost(placing.socket.ty, &placing.virt, v6only, &real);
    }
    table::enter(
        allowed,
        run,
        fd,
        placing,
        placing.socket.cookie,
        real,
        record.rule,
    );
}

/// A connect of the socket with this cookie was sent elsewhere.
#[inline(never)]
pub fn connected(allowed: Allowed, run: &Run, fd: i32, cookie: u64, peer: Peer<'_>) {
    // 0 where nobody may ask for it.
    if cookie != 0 {
        table::enter_peer(allowed, run, fd, cookie, peer);
    }
}

/// Is there room to keep the name of a peer?
pub fn has_room(allowed: Allowed, run: &Run, cookie: u64) -> bool {
    alive::make_room(allowed, run, cookie | PEER_KEY)
}

/// The socket has another peer than before, or none; `is_moved`, one that a rule
/// sent it to.
#[inline(never)]
pub fn has_connected(allowed: Allowed, run: &Run, fd: i32, is_moved: bool) {
    if run.state.header.moves.load(Relaxed) == 0 {
        return;
    }
    let Ok(cookie) = sys::cookie(allowed, fd) else {
        return;
    };
    if !is_moved {
        run.state.moves.remove(cookie | PEER_KEY);
    }
    table::got_port(allowed, run, fd, cookie);
}
