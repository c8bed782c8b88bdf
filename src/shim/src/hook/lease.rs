//! Automatic ports that stay the run's: see [`bindgate_core::judge::lease`].

use core::ffi::c_int;

use bindgate_core::addr::RawAddr;
use bindgate_core::errno::EADDRINUSE;
use bindgate_core::judge::lease::{Pool, port_kind};
use bindgate_core::record::{Record, flag};
use bindgate_core::shared::PortKind;
use bindgate_core::socket::SocketType;

use crate::own::{fds, filter};
use crate::redirect;
use crate::session::Run;
use crate::sys::allowed::needs;
use crate::sys::{self, Errno};

/// How many ports are tried before the kernel chooses one.
const TRIES: u32 = 64;

/// A bind that may be given a leased port.
struct Leasing {
    kind: PortKind,
    socket: SocketType,
    /// May the kernel let it have an address that somebody else is at?
    reuses: bool,
}

/// What came of a bind that may be given a leased port.
pub enum Leased {
    /// The call is to be forwarded as it is.
    No,
    /// The same, for all ports that the run leases are taken.
    UsedUp,
    /// The kernel's answer.
    Answer(Result<(), Errno>),
}

impl Leased {
    /// The kernel's answer, if there is one; the record is told about the port.
    pub fn enter(self, record: &mut Record) -> Option<Result<(), Errno>> {
        match self {
            Leased::No => None,
            Leased::UsedUp => {
                record.flags |= flag::NOT_LEASED;
                None
            }
            Leased::Answer(answer) => {
                record.flags |= if answer.is_ok() { flag::LEASED } else { 0 };
                Some(answer)
            }
        }
    }
}

/// Has `bind` bind a socket to a port that the run leases, if an automatic one was
/// asked for. Each port is tried at most once.
#[inline(always)]
pub fn lease(
    run: &Run,
    fd: c_int,
    asked: &RawAddr,
    mut bind: impl FnMut(&RawAddr) -> Result<(), Errno>,
) -> Leased {
    let Some((pool, leasing)) = leasing(run, fd, asked) else {
        return Leased::No;
    };
    for _ in 0..TRIES {
        let Some((index, to)) = next(run, pool, &leasing, asked) else {
            break;
        };
        let answer = match is_shared(&leasing, &to, fd) {
            true => Err(Errno(EADDRINUSE)),
            false => bind(&to),
        };
        if answer.is_ok() {
            return Leased::Answer(answer);
        }
        // Somebody is there, or the address is not this host's.
        run.state.leases_of(leasing.kind).asked(index);
        if answer != Err(Errno(EADDRINUSE)) {
            return Leased::Answer(answer);
        }
    }
    Leased::UsedUp
}

/// Takes a port of the pool: its number, and the address to be bound.
#[inline(never)]
fn next(run: &Run, pool: Pool, leasing: &Leasing, asked: &RawAddr) -> Option<(u32, RawAddr)> {
    let taken = run.state.leases_of(leasing.kind).take(pool.count())?;
    let port = pool.port(taken.index)?;
    let addr = asked.read()?.with_port(port.into());
    Some((taken.index, addr.write()))
}

/// What has to be known of the socket. `None` for one whose port the kernel
/// chooses, or that has one already.
#[inline(never)]
fn leasing(run: &Run, fd: c_int, asked: &RawAddr) -> Option<(Pool, Leasing)> {
    let pool = run.lease?;
    let allowed = filter::allowed();
    if !asked.read().is_some_and(|asked| Pool::serves(&asked)) || !allowed.may_all(needs::REDIRECT)
    {
        return None;
    }
    let socket = fds::verify(allowed, fd).ok()?.ty;
    let kind = port_kind(socket)?;
    // Both are read at this level on both families.
    let is_set =
        |name| sys::getsockopt_int(allowed, fd, libc::IPPROTO_IP, name).is_ok_and(|n| n != 0);
    // It wants no port, or one of its own range.
    let has_own = is_set(libc::IP_BIND_ADDRESS_NO_PORT) || is_set(redirect::IP_LOCAL_PORT_RANGE);
    if has_own || fds::is_bound_now(allowed, fd) {
        return None;
    }
    let leasing = Leasing {
        kind,
        socket,
        reuses: redirect::reuse_marks(allowed, fd) != 0,
    };
    Some((pool, leasing))
}

/// Would the socket have the address together with somebody else, whom its options
/// let it join? An automatic port is nobody else's.
#[inline(never)]
fn is_shared(leasing: &Leasing, to: &RawAddr, fd: c_int) -> bool {
    let allowed = filter::allowed();
    leasing.reuses && {
        let v6only = redirect::is_v6only(allowed, fd);
        let none = |_| Ok(());
        let at = to.bytes();
        let answer = match to.read().is_some_and(|addr| addr.is_wildcard()) {
            // It is the machine's own, in a run that has ports of its own too.
            true => redirect::try_plain_bind(allowed, leasing.socket, at, v6only, none),
            false => redirect::try_bind(allowed, leasing.socket, at, v6only, none),
        };
        answer.is_some_and(|answer| answer.is_err())
    }
}

/// A bind to a port by its number was granted: where the run leases it, it has
/// been asked for.
pub fn bound(run: &Run, record: &Record) {
    let Some(pool) = run.lease else { return };
    let Some(index) = record.asked.read().and_then(|asked| pool.asked(&asked)) else {
        return;
    };
    let socket = SocketType {
        domain: record.domain,
        ty: record.ty,
        protocol: record.protocol,
    };
    match port_kind(socket) {
        Some(kind) => run.state.leases_of(kind).asked(index),
        // Nobody knows what it is.
        None => run
            .state
            .leases
            .iter()
            .for_each(|leases| leases.asked(index)),
    }
}
