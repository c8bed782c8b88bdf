//! Error numbers by name: Linux and FreeBSD number some of them differently.

use core::fmt;

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $linux:literal, $freebsd:literal;)*) => {
        /// An error that a call can end with.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Errno { $($(#[$doc])* $name,)* }

        impl Errno {
            /// Every error that the model knows.
            pub const ALL: &'static [Errno] = &[$(Errno::$name,)*];

            /// `EADDRINUSE`
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$name => stringify!($name),)* }
            }

            /// The number of `<asm-generic/errno.h>`, 0 where Linux has none.
            #[must_use]
            pub const fn linux(self) -> u16 {
                match self { $(Errno::$name => $linux,)* }
            }

            /// The number of FreeBSD's `<sys/errno.h>`, 0 where it has none.
            #[must_use]
            pub const fn freebsd(self) -> u16 {
                match self { $(Errno::$name => $freebsd,)* }
            }
        }
    };
}

errnos! {
    EPERM = 1, 1;
    ENOENT = 2, 2;
    ENXIO = 6, 6;
    EBADF = 9, 9;
    EAGAIN = 11, 35;
    ENOMEM = 12, 12;
    EACCES = 13, 13;
    EFAULT = 14, 14;
    EEXIST = 17, 17;
    ENODEV = 19, 19;
    ENOTDIR = 20, 20;
    EINVAL = 22, 22;
    ENFILE = 23, 23;
    EMFILE = 24, 24;
    ENOSPC = 28, 28;
    EROFS = 30, 30;
    ENAMETOOLONG = 36, 63;
    ELOOP = 40, 62;
    ENOTSOCK = 88, 38;
    EDESTADDRREQ = 89, 39;
    EPROTOTYPE = 91, 41;
    ENOPROTOOPT = 92, 42;
    EPROTONOSUPPORT = 93, 43;
    ESOCKTNOSUPPORT = 94, 44;
    EOPNOTSUPP = 95, 45;
    EAFNOSUPPORT = 97, 47;
    EADDRINUSE = 98, 48;
    EADDRNOTAVAIL = 99, 49;
    ENETUNREACH = 101, 51;
    ECONNABORTED = 103, 53;
    ECONNRESET = 104, 54;
    ENOBUFS = 105, 55;
    EISCONN = 106, 56;
    ENOTCONN = 107, 57;
    ECONNREFUSED = 111, 61;
    EALREADY = 114, 37;
    EINPROGRESS = 115, 36;
    /// A descriptor without the right that the call needs.
    ENOTCAPABLE = 0, 93;
    /// Not permitted in capability mode.
    ECAPMODE = 0, 94;
}

impl Errno {
    /// The error of a number of Linux.
    #[must_use]
    pub fn from_linux(number: i32) -> Option<Errno> {
        Self::ALL
            .iter()
            .copied()
            .find(|e| i32::from(e.linux()) == number && number != 0)
    }

    /// The error with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Errno> {
        Self::ALL.iter().copied().find(|e| e.name() == name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
