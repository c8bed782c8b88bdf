//! Scripts of calls: what `bindgate simulate` reads, and what a difference
//! between the model and a kernel shrinks to.

mod change;
mod described;
mod doubt;
mod files;
mod parse;
mod play;
mod print;

use alloc::string::String;
use alloc::vec::Vec;

pub use change::{Change, MOST_SPACES, Setting, apply};
pub use described::{Busy, Described, check_sysctl};
pub use files::{Directory, FileLine};
pub use parse::{ScriptError, address, parse};
pub use play::{Outcome, Player};
pub use print::{Value, kind_of};

use super::host::{Cred, Host};
use super::{Errno, Generation, GetOpt, Opt};
use crate::addr::af;

/// The capabilities that decide binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Caps {
    pub net_bind_service: bool,
    pub net_admin: bool,
    pub net_raw: bool,
}

impl Caps {
    /// Those that a user has if nobody says otherwise: root all, others none.
    #[must_use]
    pub const fn of_user(uid: u32) -> Caps {
        Caps {
            net_bind_service: uid == 0,
            net_admin: uid == 0,
            net_raw: uid == 0,
        }
    }
}

/// A process of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// What the script calls it.
    pub name: String,
    /// Its user and group.
    pub uid: u32,
    /// Its capabilities.
    pub caps: Caps,
    /// FreeBSD: its jail, as its place in [`Script::jails`] counted from 1; 0
    /// for none.
    pub jail: u32,
    /// FreeBSD: it is in capability mode.
    pub capability_mode: bool,
    /// Its network namespace, as its place in [`Script::spaces`] counted from
    /// 1; 0 for the first.
    pub space: usize,
}

impl Process {
    /// A process of this user with the user's capabilities.
    #[must_use]
    pub fn new(name: &str, uid: u32) -> Process {
        Process {
            name: name.into(),
            uid,
            caps: Caps::of_user(uid),
            jail: 0,
            capability_mode: false,
            space: 0,
        }
    }

    /// What its calls are made as.
    #[must_use]
    pub fn cred(&self) -> Cred {
        Cred {
            net_bind_service: self.caps.net_bind_service,
            init_net_bind_service: self.caps.net_bind_service,
            // `with` has no name for it, and takes none but its own from root.
            init_audit_read: self.uid == 0,
            net_admin: self.caps.net_admin,
            net_raw: self.caps.net_raw,
            jail: self.jail,
            capability_mode: self.capability_mode,
            ..Cred::user(self.uid)
        }
    }
}

/// One call on a socket variable.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Call {
    Socket {
        domain: i32,
        ty: i32,
        protocol: i32,
    },
    /// The variable becomes a descriptor of a file.
    File,
    Set(Opt),
    /// An address that cannot be read.
    BindNowhere {
        len: i32,
    },
    /// The bytes, and the length if it is not theirs.
    Bind {
        bytes: Vec<u8>,
        len: Option<i32>,
    },
    Listen,
    Connect {
        bytes: Vec<u8>,
    },
    /// The next child of a listener becomes this variable.
    Accept {
        from: usize,
    },
    /// `SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`
    Shutdown(u8),
    Get(GetOpt),
    GetSockName,
    GetPeerName,
    /// This variable becomes another descriptor of the socket.
    Dup {
        of: usize,
    },
    Close,
}

/// What a script says a call should give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Success.
    Ok,
    /// Success with this address, as text: the local one, or what
    /// getpeername() gives.
    Name(String),
    /// Success of a getsockopt() with this value.
    Value(GetOpt, u32),
    /// This error.
    Fails(Errno),
}

/// A line of a script that calls something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Index of the process.
    pub process: usize,
    /// Index of the socket variable.
    pub var: usize,
    /// The call.
    pub call: Call,
    /// What it should give.
    pub expect: Option<Expect>,
    /// Line of the file, from 1; 0 if there is none.
    pub at: u32,
    /// How many of [`Script::changes`] stand before it.
    pub after: usize,
    /// `$NAME` in the address: its port is that of this variable's socket.
    pub port_of: Option<usize>,
}

impl Line {
    /// A call, without any more.
    #[must_use]
    pub fn new(process: usize, var: usize, call: Call) -> Line {
        Line {
            process,
            var,
            call,
            expect: None,
            at: 0,
            after: 0,
            port_of: None,
        }
    }

    /// The line with this port in its address.
    #[must_use]
    pub fn with_port(&self, port: u32) -> Line {
        let mut line = self.clone();
        if let Call::Bind { bytes, .. } | Call::Connect { bytes } = &mut line.call {
            let family = bytes.first().copied().map_or(0, u16::from);
            let (at, number) = match family {
                af::VSOCK | af::NETLINK => (4, port.to_ne_bytes()),
                _ => {
                    let [_, _, high, low] = port.to_be_bytes();
                    (2, [high, low, 0, 0])
                }
            };
            let len = if at == 4 { 4 } else { 2 };
            for (to, from) in bytes.iter_mut().skip(at).zip(number.iter().take(len)) {
                *to = *from;
            }
        }
        line
    }
}

/// A script.
#[derive(Clone, Debug)]
pub struct Script {
    /// The host it plays on when the first call is made; the machine's own if it
    /// says nothing.
    pub host: Host,
    /// The other network namespaces, with their names.
    pub spaces: Vec<(String, Host)>,
    /// The lines that are not calls, in their order.
    pub changes: Vec<Change>,
    /// Names of the jails, in the order of [`Host::jails`].
    pub jails: Vec<String>,
    /// Processes; the first is root's. A process that a script describes again
    /// is another one here.
    pub processes: Vec<Process>,
    /// Names of the socket variables.
    pub vars: Vec<String>,
    /// The calls.
    pub lines: Vec<Line>,
}

impl Script {
    /// A script without lines, on this host.
    #[must_use]
    pub fn new(host: Host) -> Script {
        Script {
            host,
            spaces: Vec::new(),
            changes: Vec::new(),
            jails: Vec::new(),
            processes: Vec::new(),
            vars: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// It is played by the rules of this kernel.
    pub fn set_generation(&mut self, generation: Generation) {
        self.host.generation = generation;
        for (_, host) in &mut self.spaces {
            host.generation = generation;
        }
    }

    /// More sockets than it can have at once, those without descriptors too.
    #[must_use]
    pub fn most_sockets(&self) -> u32 {
        let makes = |line: &&Line| {
            matches!(
                line.call,
                Call::Socket { .. } | Call::Connect { .. } | Call::Close | Call::Shutdown(_)
            )
        };
        let made = self.lines.iter().filter(makes).count();
        u32::try_from(made).map_or(MOST_SOCKETS, |n| n.saturating_add(1).min(MOST_SOCKETS))
    }
}

/// Sockets that a script may have at once: those that connections leave in
/// TIME_WAIT, and children that nobody has accepted, count as well.
pub const MOST_SOCKETS: u32 = 1 << 21;
