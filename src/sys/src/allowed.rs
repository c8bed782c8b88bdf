//! Which system calls a thread may make, as a value.

/// A system call that the library makes on its own account.
///
/// It has the kernel's name. Where a filter is likely to tell the arguments
/// apart, as that of a container does with `socket`, each kind has a variant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Call {
    /// getpid(2).
    Getpid,
    /// gettid(2).
    Gettid,
    /// clock_gettime(2): the vDSO falls back on it.
    ClockGettime,
    /// getsockopt(2).
    Getsockopt,
    /// setsockopt(2).
    Setsockopt,
    /// getsockname(2).
    Getsockname,
    /// getpeername(2).
    Getpeername,
    /// geteuid(2).
    Geteuid,
    /// rt_sigprocmask(2).
    RtSigprocmask,
    /// rt_sigpending(2).
    RtSigpending,
    /// rt_sigtimedwait(2).
    RtSigtimedwait,
    /// process_vm_writev(2) on the process itself.
    ProcessVmWritev,
    /// futex(2).
    Futex,
    /// sched_yield(2).
    SchedYield,
    /// mmap(2).
    Mmap,
    /// munmap(2).
    Munmap,
    /// madvise(2).
    Madvise,
    /// openat(2).
    Openat,
    /// read(2).
    Read,
    /// pread64(2).
    Pread64,
    /// write(2).
    Write,
    /// close(2).
    Close,
    /// fstat(2).
    Fstat,
    /// newfstatat(2).
    Newfstatat,
    /// readlinkat(2).
    Readlinkat,
    /// faccessat(2).
    Faccessat,
    /// getxattr(2).
    Getxattr,
    /// getdents64(2).
    Getdents64,
    /// getcwd(2).
    Getcwd,
    /// getresuid(2).
    Getresuid,
    /// getresgid(2).
    Getresgid,
    /// unlinkat(2).
    Unlinkat,
    /// socket(2) with `AF_UNIX`.
    SocketUnix,
    /// socket(2) with `AF_INET` or `AF_INET6`.
    SocketInet,
    /// socket(2) with `AF_NETLINK`, for sock_diag(7).
    SocketNetlink,
    /// socket(2) with any other family.
    SocketOther,
    /// bind(2).
    Bind,
    /// connect(2).
    Connect,
    /// sendto(2).
    Sendto,
    /// sendmsg(2).
    Sendmsg,
    /// recvmsg(2).
    Recvmsg,
    /// dup3(2).
    Dup3,
    /// fcntl(2).
    Fcntl,
    /// epoll_ctl(2).
    EpollCtl,
    /// prctl(2) with `PR_GET_SECCOMP`, `PR_GET_TSC` and `PR_GET_NO_NEW_PRIVS`.
    Prctl,
    /// faccessat2(2).
    Faccessat2,
    /// fgetxattr(2).
    Fgetxattr,
    /// fstatfs(2).
    Fstatfs,
    /// ioctl(2) with `FIONREAD`.
    Ioctl,
    /// fchmodat(2).
    Fchmodat,
}

impl Call {
    /// All of them, in the order of their bits.
    pub const EVERY: [Call; 50] = [
        Call::Getpid,
        Call::Gettid,
        Call::ClockGettime,
        Call::Getsockopt,
        Call::Setsockopt,
        Call::Getsockname,
        Call::Getpeername,
        Call::Geteuid,
        Call::RtSigprocmask,
        Call::RtSigpending,
        Call::RtSigtimedwait,
        Call::ProcessVmWritev,
        Call::Futex,
        Call::SchedYield,
        Call::Mmap,
        Call::Munmap,
        Call::Madvise,
        Call::Openat,
        Call::Read,
        Call::Pread64,
        Call::Write,
        Call::Close,
        Call::Fstat,
        Call::Newfstatat,
        Call::Readlinkat,
        Call::Faccessat,
        Call::Getxattr,
        Call::Getdents64,
        Call::Getcwd,
        Call::Getresuid,
        Call::Getresgid,
        Call::Unlinkat,
        Call::SocketUnix,
        Call::SocketInet,
        Call::SocketNetlink,
        Call::SocketOther,
        Call::Bind,
        Call::Connect,
        Call::Sendto,
        Call::Sendmsg,
        Call::Recvmsg,
        Call::Dup3,
        Call::Fcntl,
        Call::EpollCtl,
        Call::Prctl,
        Call::Faccessat2,
        Call::Fgetxattr,
        Call::Fstatfs,
        Call::Ioctl,
        Call::Fchmodat,
    ];
}

/// A set of system calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Calls(u64);

impl Calls {
    /// No call.
    pub const NONE: Calls = Calls(0);
    /// Every call.
    pub const ALL: Calls = Calls((1 << Call::EVERY.len()) - 1);

    /// The set of these calls.
    #[must_use]
    #[inline]
    pub const fn of(calls: &[Call]) -> Calls {
        let (mut bits, mut rest) = (0, calls);
        while let [call, others @ ..] = rest {
            bits |= 1 << *call as u8;
            rest = others;
        }
        Calls(bits)
    }

    /// The set as a word that another process can read with [`Calls::from_word`].
    #[must_use]
    #[inline]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The set that a word stands for; bits that mean nothing here are dropped.
    #[must_use]
    #[inline]
    pub const fn from_word(word: u64) -> Calls {
        Calls(word & Calls::ALL.0)
    }

    /// The set with one call more.
    #[must_use]
    #[inline]
    pub const fn with(self, call: Call) -> Calls {
        Calls(self.0 | 1 << call as u8)
    }

    /// The set with all calls of another one.
    #[must_use]
    #[inline]
    pub const fn and(self, other: Calls) -> Calls {
        Calls(self.0 | other.0)
    }

    /// Is the call in the set?
    #[must_use]
    #[inline]
    pub const fn has(self, call: Call) -> bool {
        self.0 & 1 << call as u8 != 0
    }

    /// Are all calls of the other set in this one?
    #[must_use]
    #[inline]
    pub const fn has_all(self, other: Calls) -> bool {
        other.0 & !self.0 == 0
    }
}

/// Which system calls of our own this thread may make now.
///
/// It is asked for once by each hook and handed down: a filter that another
/// thread of the program installs for all threads in between is not in it, as
/// it could not be in any answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Bits of the calls that may *not* be made: "all may be made" is then a
    /// comparison with zero, which the fast paths make.
    forbidden: u64,
}

impl Allowed {
    /// Every call: no filter binds the thread.
    pub const ALL: Allowed = Allowed::only(Calls::ALL);
    /// No call beside those of the program.
    pub const NONE: Allowed = Allowed::only(Calls::NONE);

    /// These calls and no others.
    #[must_use]
    #[inline]
    pub const fn only(calls: Calls) -> Allowed {
        Allowed {
            forbidden: Calls::ALL.0 & !calls.0,
        }
    }

    /// May the call be made?
    #[must_use]
    #[inline(always)]
    pub const fn may(self, call: Call) -> bool {
        self.forbidden & 1 << call as u8 == 0
    }

    /// May all of these calls be made?
    #[must_use]
    #[inline(always)]
    pub const fn may_all(self, calls: Calls) -> bool {
        self.forbidden & calls.0 == 0
    }

    /// Is nothing allowed but what the program does itself?
    #[must_use]
    #[inline]
    pub const fn is_none(self) -> bool {
        self.forbidden == Calls::ALL.0
    }

    /// The bits of what may not be made, for an atomic word.
    #[must_use]
    #[inline(always)]
    pub const fn forbidden(self) -> u64 {
        self.forbidden
    }

    /// From the bits of what may not be made.
    #[must_use]
    #[inline(always)]
    pub const fn from_forbidden(bits: u64) -> Allowed {
        Allowed { forbidden: bits }
    }
}

/// What the library needs for which of its works. Where one of these sets is
/// not allowed, the work is left undone, and what depends on it is refused.
pub mod needs {
    use super::{Call, Calls};

    /// To learn what a socket is: its type, its cookie, its name, its options.
    pub const IDENTIFY: Calls = Calls::of(&[Call::Getsockopt, Call::Getsockname]);

    /// To learn who the user is.
    pub const USER: Calls = Calls::of(&[Call::Geteuid]);

    /// To give a socket another address and keep up the one that its program
    /// asked for.
    pub const REDIRECT: Calls = Calls::of(&[
        Call::Getsockopt,
        Call::Setsockopt,
        Call::Getsockname,
        Call::Getpeername,
        Call::Bind,
        Call::RtSigprocmask,
        Call::Geteuid,
        Call::Getpid,
        Call::ProcessVmWritev,
    ]);

    /// To have the run's port broker bind a socket.
    pub const BROKER: Calls = Calls::of(&[
        Call::SocketUnix,
        Call::Setsockopt,
        Call::Connect,
        Call::Sendmsg,
        Call::Read,
        Call::Close,
        Call::RtSigprocmask,
    ]);

    /// To put a Unix socket in the place of one of another family.
    pub const REDIRECT_TO_UNIX: Calls = REDIRECT.and(Calls::of(&[
        Call::SocketUnix,
        Call::SocketInet,
        Call::Connect,
        Call::Dup3,
        Call::Fcntl,
        Call::EpollCtl,
        Call::Mmap,
        Call::Munmap,
        Call::Openat,
        Call::Getdents64,
        Call::Readlinkat,
        Call::Read,
        Call::Close,
        Call::Fstat,
        Call::Newfstatat,
        Call::Unlinkat,
    ]));

    /// To look into a program before it is started. What it needs besides of a
    /// program with privileges counts as granted where it may not be asked.
    pub const LOOK_AT_PROGRAM: Calls = Calls::of(&[
        Call::Openat,
        Call::Pread64,
        Call::Close,
        Call::Newfstatat,
        Call::Faccessat,
    ]);

    /// To write a record into a log file without a launcher.
    pub const LOG_FILE: Calls =
        Calls::of(&[Call::Openat, Call::Write, Call::Close, Call::RtSigprocmask]);

    /// What the start of the library makes under a filter that nobody knows
    /// anything of. The loader has just made most of them for the library.
    pub const START: Calls = Calls::of(&[
        Call::Getpid,
        Call::Gettid,
        Call::ClockGettime,
        Call::SchedYield,
        Call::Mmap,
        Call::Munmap,
        Call::Madvise,
        Call::Openat,
        Call::Read,
        Call::Write,
        Call::Close,
        Call::Fstat,
        Call::Newfstatat,
        Call::Readlinkat,
        Call::Getcwd,
        Call::Prctl,
    ]);
}
