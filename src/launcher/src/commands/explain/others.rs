//! The sockets of this machine beside the one of a call, and whose they are.

use bindgate_core::addr::{Addr, UnixKind, af};
use bindgate_core::model::{Ask, Host, Outside, OwnedNet, State, conflict};
use bindgate_core::render::Readable;
use bindgate_core::socket::{BindOptions, SocketType};
use bindgate_core::uapi::inet_diag;
use bindgate_host_live::machine::{self, Machine, UnixSocket};
use bindgate_host_live::processes;

use super::call::Call;

/// See the module.
#[derive(Default)]
pub struct Others {
    kind: SocketType,
    /// Of the call's protocol, as sock_diag lists them.
    shown: Vec<inet_diag::Socket>,
    /// Of other protocols; of all, where sock_diag does not answer.
    listed: Vec<Outside>,
    unix: Vec<UnixSocket>,
}

impl Others {
    /// Those that may matter to this call.
    pub fn of(machine: &Machine, call: &Call) -> Others {
        let kind = call.socket();
        let mut others = Others {
            kind,
            ..Others::default()
        };
        match kind.domain {
            af::INET | af::INET6 => {
                let shown = machine::inet_sockets(kind).ok();
                let is_shown = |o: &&Outside| shown.is_some() && o.kind.protocol == kind.protocol;
                let listed = machine.sockets.iter().filter(|o| !is_shown(o));
                others.listed = listed.copied().collect();
                others.shown = shown.unwrap_or_default();
                // As /proc lists them: what has no port is not there.
                others.shown.retain(|s| s.port != 0);
            }
            af::UNIX => others.unix = machine::unix_sockets(),
            _ => {}
        }
        others
    }

    /// How many of TCP and UDP there are.
    pub fn count(&self) -> usize {
        self.shown.len() + self.listed.len()
    }

    /// Those of TCP and UDP.
    pub fn sockets(&self) -> impl Iterator<Item = Outside> {
        let shown = self.shown.iter();
        let shown = shown.map(|s| machine::outside_of(self.kind, s));
        self.listed.iter().copied().chain(shown)
    }

    /// The Unix socket that has this name; of an abstract one, of this type.
    pub fn unix(&self, at: &Addr, ty: i32) -> Option<&UnixSocket> {
        let Addr::Unix(name) = at else { return None };
        let is_abstract = name.kind == UnixKind::Abstract;
        let has =
            |s: &&UnixSocket| s.is_named(name) && (!is_abstract || i32::from(s.ty) == ty & 0xf);
        self.unix.iter().find(has)
    }

    /// Who has the address, in words.
    pub fn holder(&self, call: &Call, at: &Addr, host: &Host) -> Option<String> {
        let (inode, uid, place, state) = match at {
            Addr::Unix(_) => {
                let socket = self.unix(at, call.kind.1)?;
                let state = if socket.listens { "listening" } else { "bound" };
                (socket.inode, None, at.to_string(), state)
            }
            _ => {
                let s = self.in_the_way(call, at, host)?;
                let outside = machine::outside_of(self.kind, s);
                let ip = std::net::Ipv6Addr::from(outside.addr);
                let place = match outside.kind.domain {
                    af::INET6 => format!("[{ip}]:{}", s.port),
                    _ => format!("{}:{}", ip.to_canonical(), s.port),
                };
                let state = match outside.state {
                    State::Listen => "listening",
                    State::TimeWait => "in TIME_WAIT",
                    State::Close => "bound",
                    _ => "connected",
                };
                (s.inode, Some(s.uid), place, state)
            }
        };
        let pid = processes::of_sockets().get(&inode).copied();
        let who = match (pid, uid) {
            (Some(pid), _) => {
                let program = processes::program(pid);
                let name = program.rsplit(|b| *b == b'/').next().unwrap_or(&program);
                format!("{}[{pid}]", Readable(name))
            }
            (None, _) if inode == 0 => "nobody any more".to_owned(),
            (None, Some(uid)) => format!("a process of uid {uid} (socket {inode})"),
            (None, None) => format!("a process that cannot be looked at (socket {inode})"),
        };
        Some(format!("held by {who} at {place}, {state}"))
    }

    /// The socket of TCP or UDP that is in the way of the bind.
    fn in_the_way(&self, call: &Call, at: &Addr, host: &Host) -> Option<&inet_diag::Socket> {
        let port = at.port().and_then(|port| u16::try_from(port).ok())?;
        let at_port: Vec<_> = self.shown.iter().filter(|s| s.port == port).collect();
        let mut net = OwnedNet::new(*host, at_port.len() as u32 + 1);
        let mut net = net.net();
        let mut options = BindOptions::default();
        for (name, option) in [
            ("SO_REUSEADDR", BindOptions::REUSEADDR),
            ("SO_REUSEPORT", BindOptions::REUSEPORT),
            ("IPV6_V6ONLY", BindOptions::V6ONLY),
        ] {
            options.set(option, call.has(name));
        }
        let ids: Vec<_> = at_port
            .iter()
            .map(|s| net.adopt(&machine::outside_of(self.kind, s)))
            .collect();
        let written = at.write();
        let ask = Ask {
            kind: self.kind,
            addr: written.bytes(),
            options,
            device: 0,
            uid: u32::MAX,
        };
        let found = conflict(&mut net, &ask)?;
        let place = ids.iter().position(|id| *id == Some(found))?;
        at_port.get(place).copied()
    }
}
