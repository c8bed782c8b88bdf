//! The options that decide binds: seen when they are set, and asked of the
//! kernel for a record where that is not enough.

use core::ffi::{c_int, c_void};

use bindgate_core::addr::{Addr, af};
use bindgate_core::record::Record;
use bindgate_core::socket::BindOptions;
use libc::socklen_t;

use crate::own::{fds, filter};
use crate::real;
use crate::sys::{self, Allowed, Call};

/// `IPV6_TRANSPARENT`, `IPV6_FREEBIND`, `SO_BINDTOIFINDEX` of the kernel.
const IPV6_TRANSPARENT: c_int = 75;
const IPV6_FREEBIND: c_int = 78;
const SO_BINDTOIFINDEX: c_int = 62;

/// setsockopt(2), and a note of what it set.
///
/// # Safety
/// As setsockopt(2).
#[inline(always)]
pub unsafe fn forward(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    match bit_of(level, name) {
        // SAFETY: as the caller's.
        0 => unsafe { real::setsockopt()(fd, level, name, value, len) },
        // SAFETY: as the caller's.
        bit => unsafe { noted(fd, level, name, value, len, bit) },
    }
}

/// setsockopt(2) of an option that decides binds, which has this bit.
///
/// # Safety
/// As setsockopt(2).
#[inline(never)]
unsafe fn noted(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
    bit: u8,
) -> c_int {
    // SAFETY: as the caller's.
    let ret = unsafe { real::setsockopt()(fd, level, name, value, len) };
    if ret == 0 {
        // SAFETY: the kernel has just read `len` bytes there.
        let on = unsafe { is_on(name, value, len) };
        fds::set_option(fd, bit, on);
    }
    ret
}

/// Rows of [`BITS`] are as long as this.
const ROW: usize = 128;

/// The bits of the options that decide binds, by level ([`row_of`]) and name.
static BITS: [u8; 3 * ROW] = {
    let ip = row_of(libc::IPPROTO_IP).unwrap();
    let socket = row_of(libc::SOL_SOCKET).unwrap();
    let ipv6 = row_of(libc::IPPROTO_IPV6).unwrap();
    let options = [
        (ip, libc::IP_FREEBIND, BindOptions::FREEBIND),
        (ip, libc::IP_TRANSPARENT, BindOptions::TRANSPARENT),
        (
            ip,
            libc::IP_BIND_ADDRESS_NO_PORT,
            BindOptions::BIND_ADDRESS_NO_PORT,
        ),
        (socket, libc::SO_REUSEADDR, BindOptions::REUSEADDR),
        (socket, libc::SO_REUSEPORT, BindOptions::REUSEPORT),
        (socket, libc::SO_BINDTODEVICE, BindOptions::DEVICE),
        (socket, SO_BINDTOIFINDEX, BindOptions::DEVICE),
        (ipv6, IPV6_FREEBIND, BindOptions::FREEBIND),
        (ipv6, IPV6_TRANSPARENT, BindOptions::TRANSPARENT),
        (ipv6, libc::IPV6_V6ONLY, BindOptions::V6ONLY),
    ];
    let mut bits = [0; 3 * ROW];
    let mut i = 0;
    while i < options.len() {
        let (row, name, bit) = options[i];
        bits[row + name as usize] = bit;
        i += 1;
    }
    bits
};

/// Where the row of a level begins.
#[inline(always)]
const fn row_of(level: c_int) -> Option<usize> {
    match level {
        libc::SOL_SOCKET => Some(0),
        libc::IPPROTO_IP => Some(ROW),
        libc::IPPROTO_IPV6 => Some(2 * ROW),
        _ => None,
    }
}

/// The bit of an option that decides binds; 0 for any other.
#[inline(always)]
fn bit_of(level: c_int, name: c_int) -> u8 {
    let name = name.cast_unsigned() as usize;
    match row_of(level) {
        Some(row) if name < ROW => BITS.get(row | name).copied().unwrap_or(0),
        _ => 0,
    }
}

/// Does this value turn the option on? The kernel takes an integer, of level
/// `IPPROTO_IP` a single byte too, and of `SO_BINDTODEVICE` a name.
///
/// # Safety
/// `len` bytes at `value` can be read.
unsafe fn is_on(name: c_int, value: *const c_void, len: socklen_t) -> bool {
    if len >= 4 && name != libc::SO_BINDTODEVICE {
        // SAFETY: four bytes can be read, aligned or not.
        return unsafe { value.cast::<c_int>().read_unaligned() } != 0;
    }
    // SAFETY: there is a byte to be read.
    len > 0 && unsafe { value.cast::<u8>().read() } != 0
}

/// Completes what a record says of the options of a socket that is as its
/// program made it.
#[inline(never)]
pub fn complete(record: &mut Record) {
    let is_any = is_any6(record);
    if is_any || record.options.has(BindOptions::DEVICE) {
        (record.options, record.device) = completed(record.fd, record.options, is_any);
    }
}

/// The options of a socket, of which some are known, and its device. Asks the
/// kernel only where a record would leave open what the address means: whether
/// `[::]` receives IPv4 too, and which device the socket is bound to.
#[cold]
#[inline(never)]
pub fn completed(fd: c_int, mut options: BindOptions, is_any6: bool) -> (BindOptions, u32) {
    let allowed = filter::allowed();
    if !allowed.may(Call::Getsockopt) {
        return (options, 0);
    }
    if is_any6 && options.has(BindOptions::UNKNOWN) {
        options = ask(allowed, fd);
    } else if is_any6 {
        let v6only = sys::getsockopt_int(allowed, fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
        options.set(BindOptions::V6ONLY, v6only == Ok(1));
    }
    let device = if options.has(BindOptions::DEVICE) {
        device(allowed, fd)
    } else {
        0
    };
    (options, device)
}

/// The index of the device that the socket is bound to, or 0. Asks the kernel.
pub fn device(allowed: Allowed, fd: c_int) -> u32 {
    let index = sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, SO_BINDTOIFINDEX);
    index.map_or(0, c_int::cast_unsigned)
}

/// Is it a bind of an IPv6 socket to `::`?
fn is_any6(record: &Record) -> bool {
    record.domain == af::INET6
        && matches!(record.asked.read(), Some(Addr::Inet6 { ip, .. }) if ip == [0; 16])
}

/// The options that decide a bind, and the device, by the kernel's word.
pub fn now(allowed: Allowed, fd: c_int) -> (BindOptions, u32) {
    let options = ask(allowed, fd);
    let device = match options.has(BindOptions::DEVICE) {
        true => device(allowed, fd),
        false => 0,
    };
    (options, device)
}

/// All of them, from the kernel: of a socket that nobody saw being made.
#[cold]
#[inline(never)]
fn ask(allowed: Allowed, fd: c_int) -> BindOptions {
    let mut options = BindOptions::default();
    for (level, name) in [
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT),
        (libc::SOL_SOCKET, SO_BINDTOIFINDEX),
        (libc::IPPROTO_IP, libc::IP_FREEBIND),
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    ] {
        let on = sys::getsockopt_int(allowed, fd, level, name).is_ok_and(|value| value != 0);
        options.set(bit_of(level, name), on);
    }
    options
}
