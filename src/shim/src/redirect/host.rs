//! The run is on a host that its policy describes: calls on TCP and UDP sockets are
//! made if that host grants them, which the daemon is asked.
//!
//! A socket that has an address there has a real one here: the same where this
//! machine's kernel agrees, else one of its choice, as a redirected socket has.

use bindgate_core::addr::{Addr, RawAddr};
use bindgate_core::judge::host;
use bindgate_core::judge::redirect::{Placement, Refusal};
use bindgate_core::record::{Check, Identity, Record, Verdict, stage};
use bindgate_core::shared::door::{AskHost, Claim, HostCall, HostSays};
use bindgate_core::shared::{move_kind, move_mark};
use bindgate_core::socket::{BindOptions, SocketType};

use super::{Placing, alive, placed, refused_with, reuse_marks};
use crate::hook::{answered, sockopt};
use crate::own::fds::{self, Socket};
use crate::own::{name, process};
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// The errno where the host has no such sockets.
#[inline(never)]
pub fn create(allowed: Allowed, run: &Run, made: SocketType, record: &mut Record) -> Option<Errno> {
    if !host::has_family(made.domain) {
        return None;
    }
    let socket = Socket {
        cookie: 0,
        identity: Identity::None,
        ty: made,
        known: bindgate_core::judge::Known::Exactly,
    };
    let nothing = RawAddr::EMPTY;
    match says(allowed, run, HostCall::Socket, &socket, &nothing, record) {
        Ok(says) => {
            record.options.set(BindOptions::V6ONLY, says.step == 1);
            None
        }
        Err(e) => Some(e),
    }
}

/// Has a new socket be as it is on the host from its birth.
#[inline(never)]
pub fn made(allowed: Allowed, fd: i32, record: &Record) {
    if record.options.has(BindOptions::V6ONLY) {
        let one = 1i32.to_ne_bytes();
        let _ = sys::setsockopt(allowed, fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &one);
    }
}

/// A socket of whose addresses the host is asked, with its cookie.
pub fn socket(allowed: Allowed, fd: i32) -> Option<Socket> {
    let mut socket = fds::identify(allowed, fd).ok()?;
    fds::name(allowed, fd, &mut socket);
    (host::has_ports(socket.ty) && socket.cookie != 0).then_some(socket)
}

/// Asks the host; its refusal goes into the record.
#[inline(never)]
fn says(
    allowed: Allowed,
    run: &Run,
    call: HostCall,
    socket: &Socket,
    addr: &RawAddr,
    record: &mut Record,
) -> Result<HostSays, Errno> {
    let fd = record.fd;
    let (mut options, mut device) = (BindOptions(0), 0);
    if call != HostCall::Socket {
        (options, device) = sockopt::now(allowed, fd);
        (record.options, record.device) = (options, device);
        (record.domain, record.ty) = (socket.ty.domain, socket.ty.ty);
        record.protocol = socket.ty.protocol;
        (record.cookie, record.identity) = (socket.cookie, socket.identity);
    }
    let asks = AskHost {
        call,
        claim: Claim {
            process: process::slot(run),
            pid: process::ids().0,
            fd,
            uid: sys::geteuid(allowed).unwrap_or(u32::MAX),
            socket: socket.ty,
            options,
            device,
            cookie: socket.cookie,
            virt: *addr,
            real: RawAddr::EMPTY,
        },
    };
    let says = sys::without_signals(allowed, || run.ask_host(allowed, &asks));
    record.stages |= stage::MODEL;
    let says = says.unwrap_or(HostSays {
        errno: host::UNANSWERED,
        step: u16::MAX,
        ..HostSays::YES
    });
    if says.errno == 0 {
        return Ok(says);
    }
    record.check = Check::Host;
    (record.errno, record.kernel) = (says.errno, says.step.min(4095));
    record.holder = says.holder;
    Err(Errno(says.errno))
}

/// Binds a socket to the address in the record, as the host has it.
#[inline(never)]
pub fn bind(
    allowed: Allowed,
    run: &Run,
    socket: &Socket,
    record: &mut Record,
) -> Result<(), Errno> {
    let (fd, asked) = (record.fd, record.asked);
    let says = says(allowed, run, HostCall::Bind, socket, &asked, record)?;
    let at = match says.at.bytes() {
        [] => asked,
        _ => says.at,
    };
    let really = sys::bind(allowed, fd, at.bytes());
    if let Err(e) = really
        && host::is_of_machine(e.0)
        && elsewhere(allowed, run, socket, &at, record)?
    {
        return Ok(());
    }
    answered(record, really.err().map_or(0, |e| e.0));
    if really.is_ok() {
        fds::bound(fd);
        record.used = match at.read().is_some_and(|at| at.is_auto()) {
            true => name::local(allowed, fd).unwrap_or(at),
            false => at,
        };
    }
    really
}

/// Binds it to another address than the host has it at; was there one?
#[inline(never)]
fn elsewhere(
    allowed: Allowed,
    run: &Run,
    socket: &Socket,
    at: &RawAddr,
    record: &mut Record,
) -> Result<bool, Errno> {
    let fd = record.fd;
    let Some(virt) = at.read() else {
        return Ok(false);
    };
    let Some(to) = host::instead(socket.ty, &virt) else {
        return Ok(false);
    };
    if !alive::make_room(allowed, run, socket.cookie) {
        return refused_with(record, Refusal::TableFull).map(|()| true);
    }
    let mut marks = reuse_marks(allowed, fd);
    if super::is_v6only(allowed, fd) {
        marks |= move_mark::V6ONLY;
    }
    let placing = Placing {
        real: to.write(),
        virt,
        kind: move_kind::SAME_FAMILY,
        marks,
        device: record.device,
        netns: sys::netns_cookie(allowed, fd).unwrap_or(0),
        socket: *socket,
        placement: Placement::Address(to),
    };
    if sys::bind(allowed, fd, placing.real.bytes()).is_err() {
        return Ok(false);
    }
    answered(record, 0);
    record.verdict = Verdict::Move;
    fds::bound(fd);
    placed(allowed, run, fd, &placing, true, record);
    Ok(true)
}

/// May a socket that has an address listen there?
pub fn listen(
    allowed: Allowed,
    run: &Run,
    socket: &Socket,
    record: &mut Record,
) -> Result<(), Errno> {
    let at = record.asked;
    says(allowed, run, HostCall::Listen, socket, &at, record).map(drop)
}

/// Where a call that names the peer in the record goes; nothing for there.
pub fn connect(
    allowed: Allowed,
    run: &Run,
    socket: &Socket,
    record: &mut Record,
) -> Result<Option<Addr>, Errno> {
    let to = record.asked;
    let says = says(allowed, run, HostCall::Connect, socket, &to, record)?;
    Ok(says.at.read().filter(|_| says.at != to))
}
