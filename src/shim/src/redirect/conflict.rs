//! Conflicts that the kernel cannot see, because the sockets really are
//! elsewhere.
//!
//! Two sockets that a rule moves may lie side by side where their program
//! thinks that they collide, or collide where it thinks that they do not. The
//! first must fail as it would have without the move (the pair test of
//! `inet_csk_bind_conflict` and `udp_lib_lport_inuse`); the second fails with
//! `EADDRINUSE`, and the record names the holder.

use bindgate_core::addr::{Addr, af};
use bindgate_core::shared::{Moved, move_kind, move_mark};
use bindgate_core::socket::KindSet;

use super::{Placing, diag, holders, same_table};
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// The cookie of a living socket of the run that stands in the way.
#[inline(never)]
pub fn holder(allowed: Allowed, run: &Run, placing: &Placing) -> Option<u64> {
    if run
        .state
        .header
        .moves
        .load(core::sync::atomic::Ordering::Relaxed)
        == 0
    {
        return None;
    }
    let moves = &run.state.moves;
    moves.first(|other| is_in_the_way(allowed, placing, other) && is_alive(allowed, run, other))
}

/// Do the two collide, if the other one is still there?
#[inline(never)]
fn is_in_the_way(allowed: Allowed, placing: &Placing, other: &Moved) -> bool {
    if other.cookie == placing.socket.cookie
        || other.kind == move_kind::CONNECT
        || !same_table(other.socket, placing.socket.ty)
    {
        return false;
    }
    let (Some(real), Some(virt), Some(other_real)) =
        (placing.real.read(), other.virt.read(), other.real.read())
    else {
        return false;
    };
    let me = Side {
        addr: placing.virt,
        v6only: placing.marks & move_mark::V6ONLY != 0,
    };
    let it = Side {
        addr: virt,
        v6only: other.marks & move_mark::V6ONLY != 0,
    };
    let same_real = !real.is_auto()
        && Side { addr: real, ..me }.overlaps(&Side {
            addr: other_real,
            ..it
        });
    if same_real {
        // One virtual address on one real one is the kernel's to judge.
        return virt != placing.virt;
    }
    !placing.virt.is_auto() && me.overlaps(&it) && collide(allowed, placing, other)
}

/// The pair test: may the two not share what they overlap in?
fn collide(allowed: Allowed, new: &Placing, old: &Moved) -> bool {
    let both = |mark: u32| new.marks & old.marks & mark != 0;
    let tcp = new.socket.ty.kinds().intersects(KindSet::TCP);
    if new.socket.ty.domain == af::VSOCK {
        return true;
    }
    if both(move_mark::REUSEADDR) && !(tcp && old.marks & move_mark::LISTENING != 0) {
        return false;
    }
    !(both(move_mark::REUSEPORT) && Some(old.uid) == sys::geteuid(allowed))
}

/// An address as one side of a comparison.
#[derive(Clone, Copy)]
struct Side {
    addr: Addr,
    v6only: bool,
}

impl Side {
    /// Would a packet reach both? (`ipv6_rcv_saddr_equal`, with ports.)
    fn overlaps(&self, other: &Side) -> bool {
        if self.addr.port() != other.addr.port() {
            return false;
        }
        if let (Addr::Vsock { .. }, Addr::Vsock { .. }) = (self.addr, other.addr) {
            return self.addr.is_wildcard() || other.addr.is_wildcard() || self.addr == other.addr;
        }
        match (self.addr.ipv4(), other.addr.ipv4()) {
            (Some(a), Some(b)) => a == b || a == [0; 4] || b == [0; 4],
            (Some(_), None) => other.takes_ipv4(),
            (None, Some(_)) => self.takes_ipv4(),
            (None, None) => match (self.addr, other.addr) {
                (Addr::Inet6 { ip: a, .. }, Addr::Inet6 { ip: b, .. }) => {
                    a == b || a == [0; 16] || b == [0; 16]
                }
                _ => false,
            },
        }
    }

    /// Is it `::` of a socket that also receives IPv4?
    fn takes_ipv4(&self) -> bool {
        matches!(self.addr, Addr::Inet6 { ip, .. } if ip == [0; 16]) && !self.v6only
    }
}

/// Does the socket of an entry still stand in its place? An entry whose place
/// nobody holds any more is removed; one whose socket is gone but left
/// connections behind stays, for those, and is in nobody's way.
#[inline(never)]
fn is_alive(allowed: Allowed, run: &Run, entry: &Moved) -> bool {
    let (alive, held) = match entry.real.read() {
        Some(Addr::Unix(name)) => {
            let used = holders::unix_name_in_use(allowed, &name);
            (used, used)
        }
        Some(_) => match diag::is_bound(allowed, entry) {
            Some(true) => (true, true),
            Some(false) => (false, is_taken(allowed, entry)),
            None => {
                let taken = is_taken(allowed, entry);
                (taken, taken)
            }
        },
        None => (false, false),
    };
    if !held {
        run.state.moves.remove(entry.cookie);
        run.state.socket_options.forget(entry.cookie);
    }
    alive
}

/// Is the real place of an entry held by anybody? A trial bind, which leaves no
/// trace; where it cannot be made the answer is yes.
fn is_taken(allowed: Allowed, entry: &Moved) -> bool {
    let ty = entry.socket;
    let Ok(fd) = sys::socket(
        allowed,
        i32::from(ty.domain),
        i32::from(ty.ty) | libc::SOCK_CLOEXEC,
        i32::from(ty.protocol),
    ) else {
        return true;
    };
    if entry.marks & move_mark::V6ONLY != 0 {
        let one = 1i32.to_ne_bytes();
        let _ = sys::setsockopt(allowed, fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &one);
    }
    let trial = sys::bind(allowed, fd, entry.real.bytes());
    sys::close(allowed, fd);
    match trial {
        Ok(()) => false,
        Err(Errno(e)) => i32::from(e) == libc::EADDRINUSE,
    }
}

/// Removes dead entries around the place of `cookie`; did any room come free?
pub fn clear_dead(allowed: Allowed, run: &Run, cookie: u64) -> bool {
    for entry in run.state.moves.victims(cookie) {
        let _ = is_alive(allowed, run, &entry);
    }
    run.state.moves.has_room(cookie)
}
