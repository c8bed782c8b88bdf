//! One decision as plain words.
//!
//! A [`Record`] travels through mapped memory that the program can scribble
//! on, so it is plain integers and bytes: [`Record::to_words`] always
//! succeeds, [`Record::from_words`] checks every range and returns `None` for
//! what no shim wrote.

mod words;

pub use words::{Granted, HEAD, WORDS, Words, len_of};

use crate::addr::RawAddr;
use crate::model::Step;
use crate::socket::BindOptions;

macro_rules! names {
    ($(#[$meta:meta])* $enum:ident { $(#[$d0:meta])* $v0:ident = $n0:literal, $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[repr(u8)]
        pub enum $enum { #[default] $(#[$d0])* $v0, $($(#[$doc])* $variant,)* }

        impl $enum {
            /// Every value, in the order of its number.
            pub const ALL: &'static [$enum] = &[$enum::$v0, $($enum::$variant,)*];

            /// The name in the log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $enum::$v0 => $n0, $($enum::$variant => $name,)* }
            }

            fn from_u8(n: u8) -> Option<$enum> {
                Self::ALL.get(usize::from(n)).copied()
            }
        }
    };
}

names! {
    /// The libc function that the program called.
    Call {
        /// socket(2)
        Socket = "socket",
        /// socketpair(2)
        Socketpair = "socketpair",
        /// bind(2)
        Bind = "bind",
        /// listen(2)
        Listen = "listen",
        /// connect(2)
        Connect = "connect",
        /// sendto(2)
        Sendto = "sendto",
        /// sendmsg(2)
        Sendmsg = "sendmsg",
        /// sendmmsg(2)
        Sendmmsg = "sendmmsg",
        /// execve(2), fexecve(3), posix_spawn(3) and their relatives
        Exec = "exec",
        /// A fault inside the shim, reported instead of a decision.
        Fault = "fault",
        /// send(2)
        Send = "send",
    }
}

names! {
    /// What was decided.
    Verdict {
        /// Forwarded as asked.
        Allow = "allow",
        /// Refused without asking the kernel.
        Deny = "deny",
        /// Placed elsewhere.
        Move = "move",
        /// Placed where nobody can reach it.
        Hide = "hide",
        /// The shim failed and the call was forwarded as asked.
        Passed = "passed",
    }
}

names! {
    /// How sure the socket's identity is.
    Identity {
        /// No identity was needed or there is no socket.
        None = "none",
        /// From the descriptor cache, not checked with the kernel.
        Cached = "cached",
        /// `SO_COOKIE`, asked for this decision.
        Cookie = "cookie",
        /// The inode number, where `SO_COOKIE` is refused.
        Inode = "inode",
    }
}

names! {
    /// The check that decided, in the kernel's own words.
    Check {
        /// Nothing refused.
        None = "-",
        /// The policy, where the kernel asks the LSM for socket().
        SecuritySocketCreate = "security_socket_create",
        /// The policy, where the kernel asks the LSM for bind().
        SecuritySocketBind = "security_socket_bind",
        /// The policy, where the kernel asks the LSM for listen().
        SecuritySocketListen = "security_socket_listen",
        /// The policy, where the kernel asks the LSM for connect().
        SecuritySocketConnect = "security_socket_connect",
        /// The policy, where the kernel asks the LSM for execve().
        SecurityBprmCheck = "security_bprm_check",
        /// Two virtual addresses on one real one, or one virtual address twice.
        VirtualConflict = "bindgate_virtual_conflict",
        /// A move that cannot be carried out.
        MoveRefused = "bindgate_move",
        /// `sockfd_lookup_light`: not a descriptor, or not a socket.
        SockfdLookup = "sockfd_lookup_light",
        /// `move_addr_to_kernel`: length or memory of the address.
        MoveAddrToKernel = "move_addr_to_kernel",
        /// `__sock_create`: family, type, protocol.
        SockCreate = "__sock_create",
        /// `inet_create` or `inet6_create`.
        InetCreate = "inet_create",
        /// `inet_bind` / `__inet_bind`.
        InetBind = "__inet_bind",
        /// `inet6_bind` / `__inet6_bind`.
        Inet6Bind = "__inet6_bind",
        /// `inet_csk_get_port`: the TCP bind table.
        InetCskGetPort = "inet_csk_get_port",
        /// `udp_lib_get_port`: the UDP bind table.
        UdpLibGetPort = "udp_lib_get_port",
        /// `inet_listen`.
        InetListen = "inet_listen",
        /// `unix_bind`.
        UnixBind = "unix_bind",
        /// `vsock_bind` and `__vsock_bind`.
        VsockBind = "__vsock_bind",
        /// `netlink_bind`.
        NetlinkBind = "netlink_bind",
        /// `packet_bind`.
        PacketBind = "packet_bind",
        /// The protocol's connect.
        Connect = "connect",
        /// Something else in the kernel.
        Kernel = "kernel",
        /// The policy, where the kernel asks the LSM for a send.
        SecuritySocketSendmsg = "security_socket_sendmsg",
        /// The host that the policy describes: see [`Record::check_name`].
        Host = "host",
    }
}

/// Stages of the way through the house, as bits of [`Record::stages`].
pub mod stage {
    #![allow(missing_docs)]
    pub const HOOK: u16 = 1;
    pub const IDENTIFY: u16 = 1 << 1;
    pub const ADDRESS: u16 = 1 << 2;
    pub const POLICY: u16 = 1 << 3;
    pub const MODEL: u16 = 1 << 4;
    pub const FORWARD: u16 = 1 << 5;
    pub const RECORD: u16 = 1 << 6;

    /// Bits with their names, in the order of the way.
    pub const NAMES: [(u16, &str); 7] = [
        (HOOK, "hook"),
        (IDENTIFY, "identify"),
        (ADDRESS, "address"),
        (POLICY, "policy"),
        (MODEL, "model"),
        (FORWARD, "forward"),
        (RECORD, "record"),
    ];
}

/// Marks of a record, as bits of [`Record::flags`].
pub mod flag {
    #![allow(missing_docs)]
    /// The bind was not asked for by bind(2).
    pub const IMPLICIT: u16 = 1;
    /// `mode observe`: the verdict is what would have happened.
    pub const OBSERVED: u16 = 1 << 1;
    /// The check named is inferred from the errno.
    pub const INFERRED: u16 = 1 << 2;
    /// The call came through syscall(2).
    pub const RAW_SYSCALL: u16 = 1 << 3;
    /// `kernel` and `used` hold what the kernel answered.
    pub const FORWARDED: u16 = 1 << 4;
    /// The program was under a seccomp filter: nothing was asked.
    pub const SECCOMP: u16 = 1 << 5;
    /// A granted listen(2), recorded because somebody waited for one. No log shows it
    /// that does not show everything.
    pub const AWAITED: u16 = 1 << 6;
    /// The executable cannot be intercepted ([`crate::reach`]); `reason` says
    /// why.
    pub const UNSEEN: u16 = 1 << 7;
    /// `time_ns` is what the processor's counter said. Only in the ring: the
    /// reader makes a time of it.
    pub const COUNTER: u16 = 1 << 8;
    /// The redirect bound the socket to the device `lo`.
    pub const ON_LO: u16 = 1 << 9;
    /// A redirected dual-stack socket that IPv4 clients do not reach.
    pub const LOST_INET: u16 = 1 << 10;
    /// One that IPv6 clients do not reach.
    pub const LOST_INET6: u16 = 1 << 11;
    /// The automatic port is one that the run leases.
    pub const LEASED: u16 = 1 << 12;
    /// It is the kernel's choice: all ports that the run leases are taken.
    pub const NOT_LEASED: u16 = 1 << 13;
    /// `used` is the address of the run's block where the socket is, or that was
    /// called: see [`crate::judge::block`].
    pub const IN_BLOCK: u16 = 1 << 14;
}

/// Why a move was refused, or which condition of the rule that decided could
/// not be evaluated: [`Record::reason`] of a bind, listen, connect or send.
pub mod refusal {
    #![allow(missing_docs)]
    /// The socket's family cannot bind the target.
    pub const FAMILY: u16 = 1;
    /// The run's table of moved sockets is full.
    pub const TABLE_FULL: u16 = 2;
    /// Another process holds a duplicate of the socket.
    pub const SHARED: u16 = 3;
    /// Something stands at the target path that is no socket, or one in use.
    pub const PATH: u16 = 4;
    /// A datagram socket cannot be moved to a Unix socket.
    pub const DATAGRAM: u16 = 5;
    /// The program is under a seccomp filter: nothing can be set up for it.
    pub const SECCOMP: u16 = 6;
    /// The rule is about some sockets, and nobody may ask what this one is.
    pub const UNKNOWN_SOCKET: u16 = 7;
    /// The rule says `user`, and nobody may ask who the user is.
    pub const UNKNOWN_USER: u16 = 8;
    /// The rule says `for`, and the program is unknown.
    pub const UNKNOWN_PROGRAM: u16 = 9;
    /// Not every descriptor or epoll registration can be carried over.
    pub const CARRY: u16 = 10;
}

/// [`Record::rule`] where the policy's default decided.
pub const RULE_DEFAULT: u32 = u32::MAX - 1;
/// [`Record::rule`] where no rule had a say.
pub const RULE_NONE: u32 = u32::MAX;

/// One decision. Field by field the log schema of `docs/log.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
// Two libraries look at it: see [`crate::plain`].
#[repr(C)]
pub struct Record {
    /// Nanoseconds since the epoch (`CLOCK_REALTIME`).
    pub time_ns: u64,
    /// Process id as the process sees itself.
    pub pid: u32,
    /// Thread id as the thread sees itself.
    pub tid: u32,
    /// Slot of the process table ([`crate::shared`]), 0 for none.
    pub process: u32,
    /// Descriptor, −1 for none.
    pub fd: i32,
    /// The function called.
    pub call: Call,
    /// What was decided.
    pub verdict: Verdict,
    /// How sure `cookie` is.
    pub identity: Identity,
    /// The check that refused, if one did.
    pub check: Check,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Bits of [`stage`].
    pub stages: u16,
    /// `SO_DOMAIN`.
    pub domain: u16,
    /// `SO_TYPE`.
    pub ty: u16,
    /// `SO_PROTOCOL`.
    pub protocol: u16,
    /// errno that the program saw, 0 for success.
    pub errno: u16,
    /// errno that the kernel gave, 0 for success, meaningful with
    /// [`flag::FORWARDED`]. With [`Check::Host`] the model's check that decided, as its
    /// place in [`Step::ALL`].
    pub kernel: u16,
    /// Reason number: for [`Call::Exec`] and [`flag::UNSEEN`] the
    /// [`crate::reach`] class, for [`Call::Fault`] the stage bit, otherwise one of
    /// [`refusal`] or 0.
    pub reason: u16,
    /// Index of the rule that decided, [`RULE_DEFAULT`] or [`RULE_NONE`].
    pub rule: u32,
    /// Index of the first `note` rule that matched, or [`RULE_NONE`].
    pub note: u32,
    /// `SO_COOKIE`, or the inode number.
    pub cookie: u64,
    /// Cookie of the socket that holds the address, for
    /// [`Check::VirtualConflict`]; 0 for none.
    pub holder: u64,
    /// Effective user id, where a rule asked for it; `u32::MAX` otherwise.
    pub uid: u32,
    /// The options that the socket had before a bind.
    pub options: BindOptions,
    /// The index of its device, where it is bound to one; 0 otherwise.
    pub device: u32,
    /// Address asked for.
    pub asked: RawAddr,
    /// Address really used (with the port that was got); empty if none.
    pub used: RawAddr,
}

impl Record {
    /// An empty record of `call`.
    #[must_use]
    pub const fn new(call: Call) -> Record {
        Record {
            time_ns: 0,
            pid: 0,
            tid: 0,
            process: 0,
            fd: -1,
            call,
            verdict: Verdict::Allow,
            identity: Identity::None,
            check: Check::None,
            flags: 0,
            stages: 0,
            domain: 0,
            ty: 0,
            protocol: 0,
            errno: 0,
            kernel: 0,
            reason: 0,
            rule: RULE_NONE,
            note: RULE_NONE,
            cookie: 0,
            holder: 0,
            uid: u32::MAX,
            options: BindOptions(0),
            device: 0,
            asked: RawAddr::EMPTY,
            used: RawAddr::EMPTY,
        }
    }

    /// The check that decided, as the log names it: of a described host that of the
    /// kernel whose model rules.
    #[must_use]
    pub fn check_name(&self) -> &'static str {
        match self.check {
            Check::Host => Step::ALL
                .get(usize::from(self.kernel))
                .map_or(self.check.name(), |step| step.function()),
            check => check.name(),
        }
    }

    /// Was something refused or changed? Such records have reserved room.
    #[must_use]
    pub fn is_important(&self) -> bool {
        self.verdict != Verdict::Allow || matches!(self.call, Call::Exec | Call::Fault)
    }
}
