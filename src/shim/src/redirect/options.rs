//! Socket options that a redirected socket cannot hold.
//!
//! Of a Unix socket that stands in for another family: what a Unix socket has
//! of its own (buffer sizes, timeouts, …) goes to it, everything else not. Of
//! one that the redirect itself bound to a device, or gave a filter, the options
//! about that. These are tried on a scratch socket of the family that the program
//! believes in, so the kernel itself says whether the option succeeds; the
//! value is kept in the run's table.

use core::ffi::c_void;

use bindgate_core::addr::af;
use bindgate_core::shared::{move_kind, move_mark};
use bindgate_core::socket::SocketType;
use bindgate_core::uapi::vsock;

use super::table::Found;
use super::{IP_LOCAL_PORT_RANGE, SO_BINDTOIFINDEX, alive, vsock_options};
use crate::own::memory;
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// Longest value that is kept.
const VALUE: usize = 16;

/// Options read from the old socket at the move, if they are not the default.
const CARRIED: [(i32, i32); 29] = [
    (vsock::LEVEL, vsock::option::BUFFER_MAX_SIZE),
    (vsock::LEVEL, vsock::option::BUFFER_MIN_SIZE),
    (vsock::LEVEL, vsock::option::BUFFER_SIZE),
    (vsock::LEVEL, vsock::option::CONNECT_TIMEOUT),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
];

/// Options of `SOL_SOCKET` that a Unix socket has too and that are set on it.
const OWN: [i32; 12] = [
    libc::SO_DEBUG,
    libc::SO_REUSEADDR,
    libc::SO_DONTROUTE,
    libc::SO_BROADCAST,
    libc::SO_KEEPALIVE,
    libc::SO_OOBINLINE,
    libc::SO_PRIORITY,
    libc::SO_LINGER,
    libc::SO_RCVLOWAT,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_TIMESTAMP,
];

/// A socket of the type that the program believes in, for one question.
struct Scratch {
    fd: i32,
    allowed: Allowed,
    _held: sys::NoSignals,
}

impl Scratch {
    fn new(allowed: Allowed, ty: SocketType) -> Option<Scratch> {
        let held = sys::NoSignals::hold(allowed);
        sys::socket(
            allowed,
            i32::from(ty.domain),
            i32::from(ty.ty) | libc::SOCK_CLOEXEC,
            i32::from(ty.protocol),
        )
        .ok()
        .map(|fd| Scratch {
            fd,
            allowed,
            _held: held,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        sys::close(self.allowed, self.fd);
    }
}

/// Gives the new socket what the program did to the old one.
pub fn carry_over(allowed: Allowed, run: &Run, old: i32, new: i32, cookie: u64, ty: SocketType) {
    let mut value = [0u8; VALUE];
    let netns = sys::netns_cookie(allowed, new).unwrap_or(0);
    carry_own(allowed, old, new);
    let Some(scratch) = Scratch::new(allowed, ty) else {
        return;
    };
    // No guard in builds that cannot panic: its clean-up would keep the compiler
    // from seeing that.
    #[cfg(not(any(debug_assertions, feature = "inject")))]
    let scratch = core::mem::ManuallyDrop::new(scratch);
    carry_buffers(allowed, old, new, scratch.fd);
    let mut default = [0u8; VALUE];
    for (level, name) in CARRIED {
        let Ok(len) = sys::getsockopt(allowed, old, level, name, &mut value) else {
            continue;
        };
        let default_len = sys::getsockopt(allowed, scratch.fd, level, name, &mut default);
        if default_len != Ok(len) || default.get(..len) != value.get(..len) {
            let kept = value.get(..len).unwrap_or(&[]);
            alive::keep_option(allowed, run, cookie, netns, (level, name), kept);
        }
    }
    #[cfg(not(any(debug_assertions, feature = "inject")))]
    let scratch = core::mem::ManuallyDrop::into_inner(scratch);
    drop(scratch);
}

/// The options of a socket itself.
pub fn carry_own(allowed: Allowed, old: i32, new: i32) {
    let mut value = [0u8; VALUE];
    for name in OWN {
        if let Ok(len) = sys::getsockopt(allowed, old, libc::SOL_SOCKET, name, &mut value) {
            let set = value.get(..len).unwrap_or(&[]);
            let _ = sys::setsockopt(allowed, new, libc::SOL_SOCKET, name, set);
        }
    }
}

/// The sizes of its buffers, where they are not those of a `fresh` socket.
fn carry_buffers(allowed: Allowed, old: i32, new: i32, fresh: i32) {
    for name in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        let ask = |fd| sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, name);
        if let (Ok(now), Ok(default)) = (ask(old), ask(fresh))
            && now != default
        {
            // The kernel doubles what it is given, for its own bookkeeping.
            let _ = sys::setsockopt(
                allowed,
                new,
                libc::SOL_SOCKET,
                name,
                &(now / 2).to_ne_bytes(),
            );
        }
    }
}

/// Gives the kernel's own socket what the program did to its carrier.
pub fn give_back(allowed: Allowed, run: &Run, old: i32, new: i32, carrier: u64) {
    carry_own(allowed, old, new);
    carry_buffers(allowed, old, new, new);
    vsock_options::give_back(allowed, run, new, carrier);
}

/// Is the option one that the Unix socket itself answers?
fn is_own(level: i32, name: i32) -> bool {
    level == libc::SOL_SOCKET
        && !matches!(
            name,
            libc::SO_REUSEPORT
                | libc::SO_DOMAIN
                | libc::SO_PROTOCOL
                | libc::SO_BINDTODEVICE
                | libc::SO_INCOMING_CPU
                | libc::SO_ATTACH_REUSEPORT_CBPF
                | libc::SO_ATTACH_REUSEPORT_EBPF
        )
}

/// `SO_ATTACH_BPF` of socket(7), Linux 3.19.
const SO_ATTACH_BPF: i32 = 50;

/// Is the option about something that the redirect did to the socket, so that
/// what the program says of it cannot be done?
fn is_taken(found: &Found, level: i32, name: i32) -> bool {
    if found.is_replaced() {
        return !is_own(level, name);
    }
    let is_device = matches!(name, libc::SO_BINDTODEVICE | SO_BINDTOIFINDEX);
    let is_filter = matches!(
        name,
        libc::SO_ATTACH_FILTER | SO_ATTACH_BPF | libc::SO_DETACH_FILTER | libc::SO_LOCK_FILTER
    );
    level == libc::SOL_SOCKET
        && (is_device && found.moved.marks & move_mark::ON_LO != 0
            || is_filter && found.moved.kind == move_kind::HIDDEN)
}

/// setsockopt(2) on a redirected socket; the value may be anything. `None`: the
/// kernel is to be asked as the program asked.
pub fn set_option(
    allowed: Allowed,
    run: &Run,
    (fd, found): (i32, &Found),
    (level, name): (i32, i32),
    value: *const c_void,
    len: u32,
) -> Option<Result<(), Errno>> {
    if vsock_options::is_of(found) {
        return vsock_options::set(allowed, run, (fd, found), (level, name), value, len);
    }
    if !is_taken(found, level, name) {
        return None;
    }
    let Some(scratch) = Scratch::new(allowed, found.moved.socket) else {
        return Some(Ok(()));
    };
    let set = sys::setsockopt_from(allowed, scratch.fd, level, name, value, len);
    if (level, name) == (libc::SOL_SOCKET, libc::SO_DETACH_FILTER) {
        // The scratch socket never has one.
        let detached = has_filter(run, found);
        keep_filter(allowed, run, found, false);
        return Some(detached.then_some(()).ok_or(Errno(libc::ENOENT as u16)));
    }
    if let Err(e) = set {
        return Some(Err(e));
    }
    if level == libc::SOL_SOCKET && matches!(name, libc::SO_ATTACH_FILTER | SO_ATTACH_BPF) {
        keep_filter(allowed, run, found, true);
        return Some(Ok(()));
    }
    let mut kept = [0u8; VALUE];
    if let Ok(len) = sys::getsockopt(allowed, scratch.fd, level, name, &mut kept) {
        let kept = kept.get(..len).unwrap_or(&[]);
        alive::keep_option(
            allowed,
            run,
            found.cookie,
            found.moved.netns,
            (level, name),
            kept,
        );
    }
    Some(Ok(()))
}

/// Where it is kept that the program attached a filter: at a level that no
/// option has.
const FILTER: (i32, i32) = (-1, libc::SO_ATTACH_FILTER);

fn keep_filter(allowed: Allowed, run: &Run, found: &Found, on: bool) {
    let value = [u8::from(on)];
    alive::keep_option(
        allowed,
        run,
        found.cookie,
        found.moved.netns,
        FILTER,
        &value,
    );
}

fn has_filter(run: &Run, found: &Found) -> bool {
    let kept = run
        .state
        .socket_options
        .get(found.cookie, FILTER.0, FILTER.1);
    kept.is_some_and(|(value, len)| value.get(..len) == Some(&[1]))
}

/// What getsockopt(2) on a redirected socket is to say.
enum Told {
    /// What a new socket of this type says, or what was kept.
    AsNew(SocketType),
    /// This number, in place of what the socket itself says.
    Number(i32),
}

/// Where the socket itself would give the redirect away.
fn told(found: &Found, level: i32, name: i32) -> Option<Told> {
    let SocketType {
        domain, protocol, ..
    } = found.moved.socket;
    if vsock_options::is_of(found) {
        return match name {
            libc::SO_DOMAIN => Some(Told::Number(i32::from(domain))),
            libc::SO_PROTOCOL => Some(Told::Number(i32::from(protocol))),
            _ => None,
        };
    }
    if is_taken(found, level, name) {
        return Some(Told::AsNew(found.moved.socket));
    }
    let moved = &found.moved;
    match (level, name) {
        // The tag is ours; the program never set a range.
        (libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE)
            if moved.kind != move_kind::CONNECT && moved.marks & move_mark::NO_TAG == 0 =>
        {
            Some(Told::Number(0))
        }
        // The kernel sets it on a socket with an address of IPv6's own.
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)
            if moved.socket.domain == af::INET6
                && moved.virt.read().is_some_and(|a| a.is_wildcard()) =>
        {
            let v6only = moved.marks & move_mark::V6ONLY != 0;
            Some(Told::Number(i32::from(v6only)))
        }
        _ => None,
    }
}

/// Tells the program a number in place of the one that the kernel has for this
/// option: the kernel checks length and memory first.
///
/// # Safety
/// `value` and `len` are what the program gave to be told an option.
pub unsafe fn tell_int(
    allowed: Allowed,
    fd: i32,
    (level, name): (i32, i32),
    n: i32,
    value: *mut c_void,
    len: *mut u32,
) -> Result<(), Errno> {
    // SAFETY: as the caller says.
    unsafe { sys::getsockopt_into(allowed, fd, level, name, value, len) }?;
    let told = memory::read(allowed, len).unwrap_or(0);
    let bytes = n.to_ne_bytes();
    // SAFETY: as the caller says.
    match unsafe { memory::write(allowed, value, bytes.get(..told as usize).unwrap_or(&bytes)) } {
        true => Ok(()),
        false => Err(Errno(libc::EFAULT as u16)),
    }
}

/// getsockopt(2) on a redirected socket, into memory that may be anything.
/// `None`: the kernel is to be asked as the program asked.
///
/// # Safety
/// `value` and `len` are what the program gave for an answer to be written to.
pub unsafe fn get_option(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    found: &Found,
    (level, name): (i32, i32),
    value: *mut c_void,
    len: *mut u32,
) -> Option<Result<(), Errno>> {
    if vsock_options::is_of(found) && level != libc::SOL_SOCKET {
        // SAFETY: as the caller says.
        return Some(unsafe { vsock_options::get(allowed, run, found, (level, name), value, len) });
    }
    let (scratch, kept) = match told(found, level, name)? {
        Told::AsNew(socket) => {
            let table = &run.state.socket_options;
            // A child inherits what its listener had.
            let kept = table
                .get(found.cookie, level, name)
                .or_else(|| table.get(found.moved.cookie, level, name));
            (Some(Scratch::new(allowed, socket)?), kept)
        }
        Told::Number(n) => {
            let mut kept = [0; VALUE];
            if let Some(to) = kept.first_chunk_mut() {
                *to = n.to_ne_bytes();
            }
            (None, Some((kept, 4)))
        }
    };
    // The kernel checks length and memory; what was set is put in afterwards.
    let asked = scratch.as_ref().map_or(fd, |scratch| scratch.fd);
    if let (Some(scratch), Some((kept, len))) = (&scratch, &kept) {
        // How long the answer is may depend on the value.
        let kept = kept.get(..*len).unwrap_or(&[]);
        let _ = sys::setsockopt(allowed, scratch.fd, level, name, kept);
    }
    // SAFETY: as the caller says.
    if let Err(e) = unsafe { sys::getsockopt_into(allowed, asked, level, name, value, len) } {
        return Some(Err(e));
    }
    if let Some((kept, kept_len)) = kept
        && let Some(told) = memory::read(allowed, len)
        // SAFETY: as the caller says.
        && !unsafe {
            memory::write(
                allowed,
                value,
                kept.get(..kept_len.min(told as usize)).unwrap_or(&[]),
            )
        }
    {
        return Some(Err(Errno(libc::EFAULT as u16)));
    }
    Some(Ok(()))
}
