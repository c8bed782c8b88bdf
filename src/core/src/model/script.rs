//! Scripts of calls: what `bindgate simulate` reads, and what a difference
//! between the model and a kernel shrinks to.

mod parse;
mod play;
mod print;

use alloc::string::String;
use alloc::vec::Vec;

pub use parse::{ScriptError, address, apply, parse};
pub use play::{Outcome, Player};
pub use print::kind_of;

use super::host::{Cred, Host};
use super::{Errno, Opt};

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
        }
    }

    /// What its calls are made as.
    #[must_use]
    pub fn cred(&self) -> Cred {
        Cred {
            net_bind_service: self.caps.net_bind_service,
            init_net_bind_service: self.caps.net_bind_service,
            net_admin: self.caps.net_admin,
            net_raw: self.caps.net_raw,
            jail: self.jail,
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
    /// Success with this local address, as text.
    Name(String),
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
}

/// A script.
#[derive(Clone, Debug)]
pub struct Script {
    /// The host it plays on; the machine's own if it says nothing.
    pub host: Host,
    /// Sysctls that it sets, by name, for a real kernel.
    pub sysctls: Vec<(String, String)>,
    /// Names of the jails, in the order of [`Host::jails`].
    pub jails: Vec<String>,
    /// Processes; the first is root's.
    pub processes: Vec<Process>,
    /// Names of the socket variables.
    pub vars: Vec<String>,
    /// The calls.
    pub lines: Vec<Line>,
}
