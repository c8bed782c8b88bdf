//! The bind model: what a kernel answers to socket, setsockopt, bind, listen,
//! connect and close, and which check of it decides.
//!
//! ```text
//!  Host (addresses, sysctls, generation) ─┐
//!  Cred (uid, capabilities) ──────────────┼─► Net::bind(…) ─► Answer
//!  Pick (a number, or what was observed) ─┘        │           { result, trail, holder }
//!                                          tables of sockets
//! ```
//!
//! A reader who knows the kernels finds their functions by name: [`linux`]
//! for `__sys_bind`, `inet_bind`, `inet_csk_get_port` and so on, [`freebsd`]
//! for `kern_bindat`, `in_pcbbind`. Where a kernel draws lots (automatic
//! ports), the model checks that what was drawn is one of those that could
//! have been, or draws itself: see [`Pick`].
//!
//! Nothing allocates except [`OwnedNet`].

#[cfg(test)]
mod dice;
mod follow;
pub mod freebsd;
pub mod host;
pub mod linux;
#[cfg(feature = "mutants")]
pub mod mutant;
mod net;
#[cfg(feature = "alloc")]
mod ruler;
#[cfg(feature = "alloc")]
pub mod script;
mod step;

pub use crate::errno::Errno;
pub use follow::{Ask, conflict, overlapping, table_of};
pub use host::{AddrType, Cred, DeviceName, Generation, Host, Jail};
pub use linux::Claim;
#[cfg(feature = "alloc")]
pub use net::OwnedNet;
pub use net::{Core, MOST_SOCKETS, Net, Outside, Sock, SockId, State, Table, VIEWS};
#[cfg(feature = "alloc")]
pub use ruler::{Granted, Refused, Ruler, Way};
pub use step::{Step, Trail};

/// Where a kernel's random choice comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pick {
    /// The model chooses, by this random number.
    Random(u32),
    /// A kernel has chosen: `Some` port, or `None` where it found none. The
    /// model agrees if the kernel could have chosen so, and otherwise chooses
    /// by itself, so that the two addresses differ.
    Observed(Option<u32>),
}

/// The descriptor that a call names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fd {
    /// None, or one opened with `O_PATH`.
    Bad,
    /// Something that is not a socket.
    NotSocket,
    /// A socket.
    Socket(SockId),
}

/// The address that a call points at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pointer<'a> {
    /// What can be read there; `None` if nothing can.
    pub bytes: Option<&'a [u8]>,
    /// The length argument.
    pub len: i32,
}

impl<'a> Pointer<'a> {
    /// A good address of its own length.
    #[must_use]
    pub fn to(bytes: &'a [u8]) -> Pointer<'a> {
        Pointer {
            bytes: Some(bytes),
            len: bytes.len() as i32,
        }
    }
}

/// Why a call gives no success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum No {
    /// The kernel refuses.
    Errno(Errno),
    /// The model cannot say what the kernel answers, for this reason.
    Unknown(Step),
}

impl No {
    /// The kernel's refusal, if it is one.
    #[must_use]
    pub const fn errno(self) -> Option<Errno> {
        match self {
            No::Errno(e) => Some(e),
            No::Unknown(_) => None,
        }
    }

    /// The error's name, or `unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            No::Errno(e) => e.name(),
            No::Unknown(_) => "unknown",
        }
    }
}

impl core::fmt::Display for No {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            No::Errno(e) => f.write_str(e.name()),
            No::Unknown(why) => write!(f, "unknown: {}", why.what()),
        }
    }
}

impl From<Errno> for No {
    fn from(e: Errno) -> No {
        No::Errno(e)
    }
}

/// How a call went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<T> {
    /// What it returns.
    pub result: Result<T, No>,
    /// The checks that it passed; the last one decided, or is the reason why
    /// nothing is known.
    pub trail: Trail,
    /// The socket that was in the way.
    pub holder: Option<SockId>,
}

impl<T> Answer<T> {
    fn of(result: Result<T, No>, cx: &net::Ctx) -> Answer<T> {
        Answer {
            result,
            trail: cx.trail,
            holder: cx.holder,
        }
    }
}

macro_rules! get_options {
    ($($name:ident = $word:literal;)*) => {
        /// An option that getsockopt(2) reads.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)]
        pub enum GetOpt { $($name),* }

        impl GetOpt {
            /// All of them, with their names.
            pub const ALL: [(&'static str, GetOpt); [$($word),*].len()] =
                [$(($word, GetOpt::$name)),*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(GetOpt::$name => $word),* }
            }

            /// The option of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<GetOpt> {
                Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, o)| *o)
            }
        }
    };
}

get_options! {
    ReuseAddr = "SO_REUSEADDR";
    ReusePort = "SO_REUSEPORT";
    ReusePortLb = "SO_REUSEPORT_LB";
    V6Only = "IPV6_V6ONLY";
    BindToIfIndex = "SO_BINDTOIFINDEX";
    FreeBind = "IP_FREEBIND";
    Transparent = "IP_TRANSPARENT";
    NoPort = "IP_BIND_ADDRESS_NO_PORT";
    PortRange = "IP_LOCAL_PORT_RANGE";
    Repair = "TCP_REPAIR";
    PassCred = "SO_PASSCRED";
    PassPidfd = "SO_PASSPIDFD";
    Type = "SO_TYPE";
    Domain = "SO_DOMAIN";
    Protocol = "SO_PROTOCOL";
    AcceptConn = "SO_ACCEPTCONN";
}

/// An option with its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Opt {
    ReuseAddr(bool),
    ReusePort(bool),
    /// FreeBSD's `SO_REUSEPORT_LB`
    ReusePortLb(bool),
    V6Only(bool),
    /// `SO_BINDTOIFINDEX`: index, 0 for none.
    BindToIfIndex(i32),
    /// `SO_BINDTODEVICE`
    BindToDevice(DeviceName),
    FreeBind(bool),
    Transparent(bool),
    /// `IP_BIND_ADDRESS_NO_PORT`
    NoPort(bool),
    /// `IP_LOCAL_PORT_RANGE`: low, high.
    PortRange(u16, u16),
    /// `SO_LINGER` with time 0, or off.
    LingerZero(bool),
    /// `TCP_REPAIR`
    Repair(bool),
    /// `SO_ATTACH_REUSEPORT_CBPF`
    AttachReuseport,
    /// `SO_PASSCRED`
    PassCred(bool),
    /// `SO_PASSPIDFD`
    PassPidfd(bool),
    /// FreeBSD's `IP_PORTRANGE`
    BsdPortRange(freebsd::PortRange),
    /// FreeBSD's `IPV6_PORTRANGE`
    BsdPortRange6(freebsd::PortRange),
    /// FreeBSD's `IP_BINDANY`
    BsdBindAny(bool),
    /// FreeBSD's `IPV6_BINDANY`
    BsdBindAny6(bool),
    /// FreeBSD's `SO_SETFIB`
    BsdSetFib(i32),
}
