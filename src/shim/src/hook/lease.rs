//! Automatic ports that stay the run's: see [`bindgate_core::judge::lease`].

use core::ffi::c_int;

use bindgate_core::addr::RawAddr;
use bindgate_core::judge::lease::{Pool, Table};
use bindgate_core::record::{Record, flag};
use bindgate_core::socket::SocketType;
use libc::socklen_t;

use super::bind::Next;
use super::errno;
use crate::own::{fds, filter};
use crate::redirect;
use crate::session::Run;
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed};

/// How many ports are tried before the kernel chooses one.
const TRIES: u32 = 64;
/// `IP_BIND_ADDRESS_NO_PORT` of ip(7), set and read at level `IPPROTO_IP` on both
/// families.
const IP_BIND_ADDRESS_NO_PORT: c_int = 24;

/// A bind that may be given a leased port.
struct Leasing {
    table: Table,
    socket: SocketType,
    /// May the kernel let it have an address that somebody else is at?
    reuses: bool,
}

/// Binds a socket to a port that the run leases, if an automatic one is asked for.
/// The kernel's answer; `None` where the call is to be forwarded as it is.
#[inline(never)]
pub fn bind(run: &Run, next: Next, record: &mut Record) -> Option<c_int> {
    let pool = run.lease?;
    if !record
        .asked
        .read()
        .is_some_and(|asked| Pool::serves(&asked))
    {
        return None;
    }
    let leasing = leasing(filter::allowed(), record.fd)?;
    let leases = run.state.leases.get(leasing.table.index())?;
    for _ in 0..TRIES {
        let Some(taken) = leases.take(pool.count()) else {
            break;
        };
        let to = with_port(&record.asked, pool.port(taken.index)?);
        let answer = match is_shared(&leasing, &to, record.fd) {
            true => None,
            // SAFETY: our own copy of an address.
            false => Some(unsafe {
                next(
                    record.fd,
                    to.bytes().as_ptr().cast(),
                    to.bytes().len() as socklen_t,
                )
            }),
        };
        if answer == Some(0) {
            record.flags |= flag::LEASED;
            return answer;
        }
        // Somebody is there, or the address is not this host's.
        leases.asked(taken.index);
        if answer.is_some() && errno() != libc::EADDRINUSE {
            return answer;
        }
    }
    record.flags |= flag::NOT_LEASED;
    None
}

/// What has to be known of the socket. `None` for one whose port the kernel
/// chooses, or that has one already.
#[inline(never)]
fn leasing(allowed: Allowed, fd: c_int) -> Option<Leasing> {
    if !allowed.may_all(needs::REDIRECT) {
        return None;
    }
    let socket = fds::verify(allowed, fd).ok()?.ty;
    let table = Table::of(socket)?;
    let is_set = |level, name| sys::getsockopt_int(allowed, fd, level, name).is_ok_and(|n| n != 0);
    // It wants no port, or one of its own range.
    let has_own = is_set(libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT)
        || is_set(libc::IPPROTO_IP, redirect::IP_LOCAL_PORT_RANGE);
    if has_own || fds::is_bound_now(allowed, fd) {
        return None;
    }
    Some(Leasing {
        table,
        socket,
        reuses: is_set(libc::SOL_SOCKET, libc::SO_REUSEADDR)
            || is_set(libc::SOL_SOCKET, libc::SO_REUSEPORT),
    })
}

#[inline(never)]
fn with_port(asked: &RawAddr, port: u16) -> RawAddr {
    match asked.read() {
        Some(addr) => addr.with_port(port.into()).write(),
        None => *asked,
    }
}

/// Would the socket have the address together with somebody else, whom its options
/// let it join? An automatic port is nobody else's.
#[inline(never)]
fn is_shared(leasing: &Leasing, to: &RawAddr, fd: c_int) -> bool {
    let allowed = filter::allowed();
    leasing.reuses && {
        let v6only = redirect::is_v6only(allowed, fd);
        let tried = redirect::try_bind(allowed, leasing.socket, to.bytes(), v6only, |_| Ok(()));
        tried.is_some_and(|answer| answer.is_err())
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
    match Table::of(socket).and_then(|table| run.state.leases.get(table.index())) {
        Some(leases) => leases.asked(index),
        // Nobody knows what it is.
        None => run
            .state
            .leases
            .iter()
            .for_each(|leases| leases.asked(index)),
    }
}
