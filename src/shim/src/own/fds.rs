//! fd → socket: a lock-free cache of what the kernel knows.
//!
//! Hooks that make, copy and close descriptors keep it fresh; what they cannot
//! see (`fclose`, `posix_spawn`, raw system calls, …) makes it stale. So an
//! entry is believed only where a wrong one does no harm; a decision that
//! needs the truth calls [`identify`], which asks the kernel.

use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use bindgate_core::addr::{Addr, af};
pub use bindgate_core::judge::{Known, Socket};
use bindgate_core::record::Identity;
use bindgate_core::socket::{BindOptions, SocketType, proto, ty};

use crate::own::{filter, name};
use crate::sys::{self, Allowed, Call, Errno};

/// Descriptors above this are asked about each time.
const CACHED: usize = 65536;

// Zero pages: nothing is paid for descriptors that are not used.
static CACHE: [AtomicU64; CACHED] = [const { AtomicU64::new(0) }; CACHED];

/// One more than the highest descriptor that ever had an entry: nobody need
/// look beyond it, and after a fork no untouched page of the cache is touched.
static END: AtomicI32 = AtomicI32::new(0);

const VALID: u64 = 1;
const BOUND: u64 = 1 << 1;
const WATCHED: u64 = 1 << 2;
const TYPE_SHIFT: u32 = 3;
const PROTOCOL_SHIFT: u32 = 7;
const DOMAIN_SHIFT: u32 = 17;
const OPTIONS_SHIFT: u32 = 23;
/// Of a datagram socket: whoever answers it on the run's own loopback finds it.
const HOME: u64 = 1 << 31;
const COOKIE_SHIFT: u32 = 32;
/// What an entry says of the socket's kind.
const KIND: u64 = ((1 << OPTIONS_SHIFT) - (1 << TYPE_SHIFT)) | VALID;
/// The options that were set at the descriptor since its socket was made.
const OPTIONS: u64 = 0xff << OPTIONS_SHIFT;
/// Nobody saw the socket being made.
const OPTIONS_UNKNOWN: u64 = (BindOptions::UNKNOWN as u64) << OPTIONS_SHIFT;
/// Low bits of a cookie that an entry keeps. Cookies count up from 1, so two
/// that agree in 32 bits are four thousand million sockets apart.
const COOKIE_MASK: u64 = (1 << 32) - 1;

/// What is cached of one descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry(u64);

impl Entry {
    fn of(socket: SocketType, cookie: u64) -> Entry {
        Entry(
            VALID
                | u64::from(socket.ty & 0xf) << TYPE_SHIFT
                | u64::from(socket.protocol & 0x3ff) << PROTOCOL_SHIFT
                | u64::from(socket.domain & 0x3f) << DOMAIN_SHIFT
                | (cookie & COOKIE_MASK) << COOKIE_SHIFT,
        )
    }

    /// Is it known what this descriptor is?
    pub fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// Has it a local port or name, as far as the hooks saw?
    pub fn is_bound(self) -> bool {
        self.0 & BOUND != 0
    }

    /// Do answers find it ([`at_home`])?
    pub fn is_at_home(self) -> bool {
        self.0 & (VALID | HOME) == VALID | HOME
    }

    /// May an epoll instance watch it?
    pub fn is_watched(self) -> bool {
        self.0 & (VALID | WATCHED) != VALID
    }

    /// Family, type and protocol.
    pub fn socket(self) -> SocketType {
        SocketType {
            domain: (self.0 >> DOMAIN_SHIFT & 0x3f) as u16,
            ty: (self.0 >> TYPE_SHIFT & 0xf) as u16,
            protocol: (self.0 >> PROTOCOL_SHIFT & 0x3ff) as u16,
        }
    }

    /// The options that decide binds, as far as they were set at this
    /// descriptor.
    #[inline]
    pub fn options(self) -> BindOptions {
        if self.is_valid() {
            BindOptions((self.0 >> OPTIONS_SHIFT) as u8)
        } else {
            BindOptions(BindOptions::UNKNOWN)
        }
    }

    fn cookie(self) -> u64 {
        self.0 >> COOKIE_SHIFT
    }
}

#[inline]
fn slot(fd: i32) -> Option<&'static AtomicU64> {
    // A negative one is larger than any that is cached.
    CACHE.get(fd.cast_unsigned() as usize)
}

/// What is cached of `fd`; possibly nothing, possibly stale.
#[inline]
pub fn get(fd: i32) -> Entry {
    Entry(slot(fd).map_or(0, |s| s.load(Relaxed)))
}

#[inline]
fn put(fd: i32, entry: Entry) {
    if let Some(s) = slot(fd) {
        s.store(entry.0, Relaxed);
        if fd >= END.load(Relaxed) {
            END.fetch_max(fd + 1, Relaxed);
        }
    }
}

/// A new socket at `fd`.
#[inline]
pub fn made(fd: i32, socket: SocketType) {
    put(fd, Entry::of(socket, 0));
}

/// `fd` is a new connection: what is known of its listener is known of it. It
/// never becomes another socket, so nobody will ask who watches it; saying now
/// that somebody may spares epoll_ctl(2) to say it.
#[inline]
pub fn accepted(listener: i32, fd: i32) {
    let from = get(listener);
    if from.is_valid() {
        put(fd, Entry(from.0 & KIND | BOUND | WATCHED | OPTIONS_UNKNOWN));
    } else {
        forget(fd);
    }
}

/// `fd` is gone, or is something that the hooks have not seen.
#[inline]
pub fn forget(fd: i32) {
    if let Some(s) = slot(fd)
        && s.load(Relaxed) != 0
    {
        s.store(0, Relaxed);
    }
}

/// All descriptors from `first` to `last`, both included, are gone.
pub fn forget_range(first: u32, last: u32) {
    let end = END.load(Relaxed) as u32;
    for fd in first..end.min(last.saturating_add(1)) {
        forget(fd as i32);
    }
}

/// One more than the highest number that the hooks have seen.
pub fn end() -> i32 {
    END.load(Relaxed)
}

/// Is there an entry of `fd`?
#[inline(always)]
pub fn is_cached(fd: i32) -> bool {
    get(fd).0 != 0
}

/// `new` is another descriptor of what `old` is. In a vfork child, whose
/// descriptors are its own and whose memory is its parent's, the parent may have
/// another socket there: what took the place of one is asked about anew.
pub fn copied(old: i32, new: i32) {
    if old == new {
        return;
    }
    if get(new).is_valid() && filter::allowed().may(Call::Getsockopt) {
        forget(new);
    } else {
        put(new, get(old));
    }
}

/// `fd` has a local port or name now.
#[inline]
pub fn bound(fd: i32) {
    set(fd, BOUND);
}

/// The same of a descriptor that had this entry just now.
#[inline(always)]
pub fn bound_as(fd: i32, cached: Entry) {
    if cached.0 & (VALID | BOUND) == VALID
        && let Some(s) = slot(fd)
    {
        s.fetch_or(BOUND, Relaxed);
    }
}

/// `fd` may have lost its port: whether it has one is the kernel's to say.
pub fn unbound(fd: i32) {
    if let Some(s) = slot(fd) {
        s.fetch_and(!(BOUND | HOME), Relaxed);
    }
}

/// Answers on the run's own loopback find the socket at `fd`.
pub fn at_home(fd: i32) {
    set(fd, HOME);
}

/// An epoll instance watches `fd`.
pub fn watched(fd: i32) {
    set(fd, WATCHED);
}

/// An option of `fd` was set, or taken off.
pub fn set_option(fd: i32, bit: u8, on: bool) {
    let bit = u64::from(bit) << OPTIONS_SHIFT;
    if on {
        set(fd, bit);
    } else if let Some(s) = slot(fd) {
        s.fetch_and(!bit, Relaxed);
    }
}

#[inline]
fn set(fd: i32, bit: u64) {
    if let Some(s) = slot(fd)
        && s.load(Relaxed) & (VALID | bit) == VALID
    {
        s.fetch_or(bit, Relaxed);
    }
}

/// What `fd` is, by the least that makes sure of its type: one call where the
/// cache agrees with the kernel. The cookie is known only if somebody asked for
/// it before, and 0 otherwise; see [`name()`].
///
/// # Errors
/// As [`identify`].
pub fn verify(allowed: Allowed, fd: i32) -> Result<Socket, Errno> {
    let cached = get(fd);
    match is_as_cached(allowed, fd, cached) {
        Some(known) => Ok(Socket {
            cookie: 0,
            identity: Identity::Cached,
            ty: cached.socket(),
            known,
        }),
        None => identify(allowed, fd),
    }
}

/// Is `fd` what this entry of it says, by the kernel's word, and has nobody
/// asked for its cookie? Then [`verify`] says no more than the entry does.
#[inline]
pub fn is_as_cached(allowed: Allowed, fd: i32, cached: Entry) -> Option<Known> {
    if cached.is_valid() && cached.cookie() == 0 && allowed.may(Call::Getsockopt) {
        is_of(allowed, fd, cached.socket())
    } else {
        None
    }
}

/// Asks for the cookie of a socket that [`verify`] left without one, or for its
/// inode number where the kernel gives no cookie.
pub fn name(allowed: Allowed, fd: i32, socket: &mut Socket) {
    if socket.cookie != 0 {
        return;
    }
    if let Ok(cookie) = sys::cookie(allowed, fd) {
        (socket.cookie, socket.identity) = (cookie, Identity::Cookie);
    } else if let Ok(inode) = sys::inode(allowed, fd) {
        (socket.cookie, socket.identity) = (inode, Identity::Inode);
    } else {
        return;
    }
    if socket.is_exact() {
        let kept = get(fd).0 & (BOUND | WATCHED | HOME | OPTIONS);
        put(fd, Entry(Entry::of(socket.ty, socket.cookie).0 | kept));
    }
}

/// Is a socket that nobody asked about before what the cache says? `None` if
/// not; how well that is known if so.
///
/// A number that was closed unseen and used again by a call that is not seen
/// may be any other socket's. An option of TCP is answered by TCP and MPTCP
/// alone, one of UDP by UDP and UDP-Lite, in both families; which of the two
/// families it is, the address decides.
fn is_of(allowed: Allowed, fd: i32, ty: SocketType) -> Option<Known> {
    let has = |level, name| sys::getsockopt_int(allowed, fd, level, name).is_ok();
    let is_ip = matches!(ty.domain, af::INET | af::INET6);
    match (ty.ty, ty.protocol) {
        (ty::STREAM, proto::TCP | proto::MPTCP) if is_ip => {
            has(libc::IPPROTO_TCP, libc::TCP_MAXSEG).then_some(Known::Nearly)
        }
        (ty::DGRAM, proto::UDP | proto::UDPLITE) if is_ip => {
            has(libc::IPPROTO_UDP, libc::UDP_CORK).then_some(Known::Nearly)
        }
        _ => (ask(allowed, fd) == Ok(ty)).then_some(Known::Exactly),
    }
}

/// Family, type and protocol, by the kernel's word.
fn ask(allowed: Allowed, fd: i32) -> Result<SocketType, Errno> {
    let ask = |name| sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, name);
    Ok(SocketType {
        domain: ask(libc::SO_DOMAIN)? as u16,
        ty: ask(libc::SO_TYPE)? as u16,
        protocol: ask(libc::SO_PROTOCOL)? as u16,
    })
}

/// `SO_PROTOCOL`, where it may be asked.
pub fn protocol(allowed: Allowed, fd: i32) -> Option<u16> {
    let protocol = sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, libc::SO_PROTOCOL);
    protocol.ok().map(|protocol| protocol as u16)
}

/// Asks the kernel what `fd` is. One call where the cache agrees with the
/// kernel, four for a socket that nobody asked about before, or where the cache
/// is wrong.
///
/// # Errors
/// `EBADF` and `ENOTSOCK`, as any call on the descriptor would.
pub fn identify(allowed: Allowed, fd: i32) -> Result<Socket, Errno> {
    let cached = get(fd);
    if !allowed.may(Call::Getsockopt) {
        return Ok(Socket {
            cookie: cached.cookie(),
            identity: if cached.is_valid() {
                Identity::Cached
            } else {
                Identity::None
            },
            ty: cached.socket(),
            known: match cached.is_valid() {
                true => Known::Exactly,
                false => Known::Nearly,
            },
        });
    }
    let (cookie, identity) = match sys::cookie(allowed, fd) {
        Ok(cookie) => (cookie, Identity::Cookie),
        Err(Errno(e)) if matches!(i32::from(e), libc::EBADF | libc::ENOTSOCK) => {
            forget(fd);
            return Err(Errno(e));
        }
        Err(_) => (sys::inode(allowed, fd)?, Identity::Inode),
    };
    let socket = |ty| Socket {
        cookie,
        identity,
        ty,
        known: Known::Exactly,
    };
    if cached.is_valid() && cached.cookie() == cookie & COOKIE_MASK {
        return Ok(socket(cached.socket()));
    }
    let ty = ask(allowed, fd)?;
    if cached.is_valid() && cached.cookie() == 0 && cached.socket() == ty {
        let kept = cached.0 & (BOUND | WATCHED | HOME | OPTIONS);
        put(fd, Entry(Entry::of(ty, cookie).0 | kept));
        return Ok(socket(ty));
    }
    // Perhaps watched, perhaps with options: nobody saw.
    put(
        fd,
        Entry(Entry::of(ty, cookie).0 | WATCHED | OPTIONS_UNKNOWN),
    );
    Ok(socket(ty))
}

/// Has the socket a local port or name? Asks the kernel where the hooks have
/// not seen it get one.
pub fn is_bound(allowed: Allowed, fd: i32) -> bool {
    get(fd).is_bound() || is_bound_now(allowed, fd)
}

/// The same by the kernel's word alone: for a decision that the socket which was
/// there before must not make. `false` where it may not be asked.
pub fn is_bound_now(allowed: Allowed, fd: i32) -> bool {
    let bound = name::real_local(allowed, fd)
        .ok()
        .and_then(|raw| raw.read())
        .is_some_and(|addr| !addr.is_auto() && !matches!(addr, Addr::Netlink { pid: 0, .. }));
    if bound {
        self::bound(fd);
    }
    bound
}
