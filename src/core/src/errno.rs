//! Error numbers: of Linux and of FreeBSD, by name and with their texts.
//!
//! The numbers of Linux are those of `<asm-generic/errno.h>`: x86, Arm, RISC-V,
//! PowerPC and s390 have them. MIPS, SPARC, Alpha and PA-RISC number some of them
//! differently and are not supported.

use core::fmt;

macro_rules! errnos {
    (
        linux { $($name:ident = $linux:literal, $freebsd:literal, $text:literal;)* }
        freebsd { $($other:ident = $other_freebsd:literal, $other_text:literal;)* }
    ) => {
        $(#[doc = $text] pub const $name: u16 = $linux;)*

        /// An error that a call can fail with.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        pub enum Errno {
            $(#[doc = $text] $name,)*
            $(#[doc = $other_text] $other,)*
        }

        impl Errno {
            /// The errors that Linux has, by their numbers.
            const LINUX: &'static [Errno] = &[$(Errno::$name,)*];

            /// Every error, those of Linux first.
            pub const ALL: &'static [Errno] = &[$(Errno::$name,)* $(Errno::$other,)*];

            /// `EADDRINUSE`
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Errno::$name => stringify!($name),)*
                    $(Errno::$other => stringify!($other),)*
                }
            }

            /// `Address already in use`
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Errno::$name => $text,)*
                    $(Errno::$other => $other_text,)*
                }
            }

            /// The number of Linux, 0 where it has none.
            #[must_use]
            pub const fn linux(self) -> u16 {
                match self {
                    $(Errno::$name => $linux,)*
                    $(Errno::$other => 0,)*
                }
            }

            /// The number of FreeBSD's `<sys/errno.h>`, 0 where it has none.
            #[must_use]
            pub const fn freebsd(self) -> u16 {
                match self {
                    $(Errno::$name => $freebsd,)*
                    $(Errno::$other => $other_freebsd,)*
                }
            }
        }
    };
}

#[rustfmt::skip]
errnos! {
    linux {
        EPERM = 1, 1, "Operation not permitted";
        ENOENT = 2, 2, "No such file or directory";
        ESRCH = 3, 3, "No such process";
        EINTR = 4, 4, "Interrupted system call";
        EIO = 5, 5, "Input/output error";
        ENXIO = 6, 6, "No such device or address";
        E2BIG = 7, 7, "Argument list too long";
        ENOEXEC = 8, 8, "Exec format error";
        EBADF = 9, 9, "Bad file descriptor";
        ECHILD = 10, 10, "No child processes";
        EAGAIN = 11, 35, "Resource temporarily unavailable";
        ENOMEM = 12, 12, "Cannot allocate memory";
        EACCES = 13, 13, "Permission denied";
        EFAULT = 14, 14, "Bad address";
        ENOTBLK = 15, 15, "Block device required";
        EBUSY = 16, 16, "Device or resource busy";
        EEXIST = 17, 17, "File exists";
        EXDEV = 18, 18, "Invalid cross-device link";
        ENODEV = 19, 19, "No such device";
        ENOTDIR = 20, 20, "Not a directory";
        EISDIR = 21, 21, "Is a directory";
        EINVAL = 22, 22, "Invalid argument";
        ENFILE = 23, 23, "Too many open files in system";
        EMFILE = 24, 24, "Too many open files";
        ENOTTY = 25, 25, "Inappropriate ioctl for device";
        ETXTBSY = 26, 26, "Text file busy";
        EFBIG = 27, 27, "File too large";
        ENOSPC = 28, 28, "No space left on device";
        ESPIPE = 29, 29, "Illegal seek";
        EROFS = 30, 30, "Read-only file system";
        EMLINK = 31, 31, "Too many links";
        EPIPE = 32, 32, "Broken pipe";
        EDOM = 33, 33, "Numerical argument out of domain";
        ERANGE = 34, 34, "Numerical result out of range";
        EDEADLK = 35, 11, "Resource deadlock avoided";
        ENAMETOOLONG = 36, 63, "File name too long";
        ENOLCK = 37, 77, "No locks available";
        ENOSYS = 38, 78, "Function not implemented";
        ENOTEMPTY = 39, 66, "Directory not empty";
        ELOOP = 40, 62, "Too many levels of symbolic links";
        ENOMSG = 42, 83, "No message of desired type";
        EIDRM = 43, 82, "Identifier removed";
        ECHRNG = 44, 0, "Channel number out of range";
        EL2NSYNC = 45, 0, "Level 2 not synchronized";
        EL3HLT = 46, 0, "Level 3 halted";
        EL3RST = 47, 0, "Level 3 reset";
        ELNRNG = 48, 0, "Link number out of range";
        EUNATCH = 49, 0, "Protocol driver not attached";
        ENOCSI = 50, 0, "No CSI structure available";
        EL2HLT = 51, 0, "Level 2 halted";
        EBADE = 52, 0, "Invalid exchange";
        EBADR = 53, 0, "Invalid request descriptor";
        EXFULL = 54, 0, "Exchange full";
        ENOANO = 55, 0, "No anode";
        EBADRQC = 56, 0, "Invalid request code";
        EBADSLT = 57, 0, "Invalid slot";
        EBFONT = 59, 0, "Bad font file format";
        ENOSTR = 60, 0, "Device not a stream";
        ENODATA = 61, 0, "No data available";
        ETIME = 62, 0, "Timer expired";
        ENOSR = 63, 0, "Out of streams resources";
        ENONET = 64, 0, "Machine is not on the network";
        ENOPKG = 65, 0, "Package not installed";
        EREMOTE = 66, 71, "Object is remote";
        ENOLINK = 67, 91, "Link has been severed";
        EADV = 68, 0, "Advertise error";
        ESRMNT = 69, 0, "Srmount error";
        ECOMM = 70, 0, "Communication error on send";
        EPROTO = 71, 92, "Protocol error";
        EMULTIHOP = 72, 90, "Multihop attempted";
        EDOTDOT = 73, 0, "RFS specific error";
        EBADMSG = 74, 89, "Bad message";
        EOVERFLOW = 75, 84, "Value too large for defined data type";
        ENOTUNIQ = 76, 0, "Name not unique on network";
        EBADFD = 77, 0, "File descriptor in bad state";
        EREMCHG = 78, 0, "Remote address changed";
        ELIBACC = 79, 0, "Can not access a needed shared library";
        ELIBBAD = 80, 0, "Accessing a corrupted shared library";
        ELIBSCN = 81, 0, ".lib section in a.out corrupted";
        ELIBMAX = 82, 0, "Attempting to link in too many shared libraries";
        ELIBEXEC = 83, 0, "Cannot exec a shared library directly";
        EILSEQ = 84, 86, "Invalid or incomplete multibyte or wide character";
        ERESTART = 85, 0, "Interrupted system call should be restarted";
        ESTRPIPE = 86, 0, "Streams pipe error";
        EUSERS = 87, 68, "Too many users";
        ENOTSOCK = 88, 38, "Socket operation on non-socket";
        EDESTADDRREQ = 89, 39, "Destination address required";
        EMSGSIZE = 90, 40, "Message too long";
        EPROTOTYPE = 91, 41, "Protocol wrong type for socket";
        ENOPROTOOPT = 92, 42, "Protocol not available";
        EPROTONOSUPPORT = 93, 43, "Protocol not supported";
        ESOCKTNOSUPPORT = 94, 44, "Socket type not supported";
        EOPNOTSUPP = 95, 45, "Operation not supported";
        EPFNOSUPPORT = 96, 46, "Protocol family not supported";
        EAFNOSUPPORT = 97, 47, "Address family not supported by protocol";
        EADDRINUSE = 98, 48, "Address already in use";
        EADDRNOTAVAIL = 99, 49, "Cannot assign requested address";
        ENETDOWN = 100, 50, "Network is down";
        ENETUNREACH = 101, 51, "Network is unreachable";
        ENETRESET = 102, 52, "Network dropped connection on reset";
        ECONNABORTED = 103, 53, "Software caused connection abort";
        ECONNRESET = 104, 54, "Connection reset by peer";
        ENOBUFS = 105, 55, "No buffer space available";
        EISCONN = 106, 56, "Transport endpoint is already connected";
        ENOTCONN = 107, 57, "Transport endpoint is not connected";
        ESHUTDOWN = 108, 58, "Cannot send after transport endpoint shutdown";
        ETOOMANYREFS = 109, 59, "Too many references: cannot splice";
        ETIMEDOUT = 110, 60, "Connection timed out";
        ECONNREFUSED = 111, 61, "Connection refused";
        EHOSTDOWN = 112, 64, "Host is down";
        EHOSTUNREACH = 113, 65, "No route to host";
        EALREADY = 114, 37, "Operation already in progress";
        EINPROGRESS = 115, 36, "Operation now in progress";
        ESTALE = 116, 70, "Stale file handle";
        EUCLEAN = 117, 0, "Structure needs cleaning";
        ENOTNAM = 118, 0, "Not a XENIX named type file";
        ENAVAIL = 119, 0, "No XENIX semaphores available";
        EISNAM = 120, 0, "Is a named type file";
        EREMOTEIO = 121, 0, "Remote I/O error";
        EDQUOT = 122, 69, "Disk quota exceeded";
        ENOMEDIUM = 123, 0, "No medium found";
        EMEDIUMTYPE = 124, 0, "Wrong medium type";
        ECANCELED = 125, 85, "Operation canceled";
        ENOKEY = 126, 0, "Required key not available";
        EKEYEXPIRED = 127, 0, "Key has expired";
        EKEYREVOKED = 128, 0, "Key has been revoked";
        EKEYREJECTED = 129, 0, "Key was rejected by service";
        EOWNERDEAD = 130, 96, "Owner died";
        ENOTRECOVERABLE = 131, 95, "State not recoverable";
        ERFKILL = 132, 0, "Operation not possible due to RF-kill";
    }
    freebsd {
        ENOTCAPABLE = 93, "Capabilities insufficient";
        ECAPMODE = 94, "Not permitted in capability mode";
    }
}

/// Second names of errors of Linux.
const ALIASES: &[(&str, Errno)] = &[
    ("EWOULDBLOCK", Errno::EAGAIN),
    ("EDEADLOCK", Errno::EDEADLK),
    ("ENOTSUP", Errno::EOPNOTSUPP),
];

/// The largest number that a system call can return as an error.
pub const MAX: u16 = 4095;

impl Errno {
    /// The error with this number on Linux.
    #[must_use]
    pub fn from_linux(number: i32) -> Option<Errno> {
        let by_number = |e: &Errno| i32::from(e.linux());
        let at = Self::LINUX.binary_search_by_key(&number, by_number).ok()?;
        Self::LINUX.get(at).copied()
    }

    /// The error with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Errno> {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
        let named = || Self::ALL.iter().copied().find(|e| e.name() == name);
        alias.map(|(_, e)| *e).or_else(named)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The number of Linux for a name.
#[must_use]
pub fn by_name(name: &str) -> Option<u16> {
    Errno::from_name(name).map(Errno::linux).filter(|n| *n != 0)
}

/// The name of a number of Linux.
#[must_use]
pub fn name(errno: u16) -> Option<&'static str> {
    Errno::from_linux(i32::from(errno)).map(Errno::name)
}

/// Every name that [`by_name`] knows, aliases apart.
pub fn names() -> impl Iterator<Item = &'static str> {
    Errno::LINUX.iter().map(|e| e.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_linux_is_found_by_itself() {
        assert!(Errno::LINUX.is_sorted_by_key(|e| e.linux()));
        for &e in Errno::LINUX {
            assert_eq!(Errno::from_linux(i32::from(e.linux())), Some(e));
            assert_eq!(by_name(e.name()), Some(e.linux()));
        }
        assert_eq!(name(13), Some("EACCES"));
        assert_eq!(Errno::EADDRINUSE.text(), "Address already in use");
        assert_eq!(
            (name(0), name(4000), Errno::from_linux(-1)),
            (None, None, None)
        );
    }

    #[test]
    fn freebsd_has_numbers_of_its_own() {
        assert_eq!(Errno::EADDRINUSE.freebsd(), 48);
        assert_eq!((Errno::ECAPMODE.linux(), by_name("ECAPMODE")), (0, None));
        let mut numbers: Vec<_> = Errno::ALL.iter().map(|e| e.freebsd()).collect();
        numbers.retain(|n| *n != 0);
        numbers.sort_unstable();
        let all = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }

    #[test]
    fn second_names_are_known() {
        assert_eq!(by_name("EWOULDBLOCK"), Some(EAGAIN));
        assert_eq!(by_name("ENOTSUP"), Some(EOPNOTSUPP));
    }

    use std::vec::Vec;
}
