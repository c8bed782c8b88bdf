//! Error numbers by name, as `<asm-generic/errno.h>` has them.
//!
//! These are the numbers of x86, Arm, RISC-V, PowerPC and s390. MIPS, SPARC,
//! Alpha and PA-RISC number some of them differently and are not supported.

#![allow(missing_docs)]

macro_rules! errnos {
    ($($name:ident = $n:literal,)*) => {
        $(pub const $name: u16 = $n;)*
        /// Every name that the policy language knows, with its number.
        pub const NAMES: &[(&str, u16)] = &[$((stringify!($name), $n),)*];
    };
}

errnos! {
    EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, ENXIO = 6, EBADF = 9, EAGAIN = 11, ENOMEM = 12,
    EACCES = 13, EFAULT = 14, EBUSY = 16, EEXIST = 17, ENODEV = 19, ENOTDIR = 20, EISDIR = 21,
    EINVAL = 22, ENFILE = 23, EMFILE = 24, ENOSPC = 28, EROFS = 30, EPIPE = 32,
    ENAMETOOLONG = 36, ENOSYS = 38, ELOOP = 40, EOVERFLOW = 75, ENOTSOCK = 88,
    EDESTADDRREQ = 89, EMSGSIZE = 90, EPROTOTYPE = 91, ENOPROTOOPT = 92, EPROTONOSUPPORT = 93,
    ESOCKTNOSUPPORT = 94, EOPNOTSUPP = 95, EPFNOSUPPORT = 96, EAFNOSUPPORT = 97,
    EADDRINUSE = 98, EADDRNOTAVAIL = 99, ENETDOWN = 100, ENETUNREACH = 101, ENETRESET = 102,
    ECONNABORTED = 103, ECONNRESET = 104, ENOBUFS = 105, EISCONN = 106, ENOTCONN = 107,
    ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTDOWN = 112, EHOSTUNREACH = 113, EALREADY = 114,
    EINPROGRESS = 115, EDQUOT = 122, ECANCELED = 125,
}

/// The largest number that a system call can return as an error.
pub const MAX: u16 = 4095;

/// The number behind a name.
#[must_use]
pub fn by_name(name: &str) -> Option<u16> {
    NAMES.iter().find(|(n, _)| *n == name).map(|(_, e)| *e)
}

/// The name of a number, if the language knows one.
#[must_use]
pub fn name(errno: u16) -> Option<&'static str> {
    NAMES.iter().find(|(_, e)| *e == errno).map(|(n, _)| *n)
}
