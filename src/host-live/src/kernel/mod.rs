//! A script's calls on the real kernel, in a network namespace of its own:
//! each process of the script is one, with its user and capabilities.
//!
//! Used by `bindgate simulate --kernel`, and by the test that compares the
//! model with the kernel.

mod hands;
pub mod path;
pub mod setup;

use std::borrow::Cow;
use std::io;

use bindgate_core::model::linux::PathState;
use bindgate_core::model::script::{Call, Line, Player, Process};
use bindgate_core::model::{GetOpt, Opt, Pick, SockId, State, Table};
use libc::c_int;

pub use hands::{Hand, Identity};
pub use setup::*;

const IP_LOCAL_PORT_RANGE: c_int = 51;
const SO_BINDTOIFINDEX: c_int = 62;
const SO_PASSPIDFD: c_int = 76;
const SO_ATTACH_REUSEPORT_CBPF: c_int = 51;

/// What the kernel gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    /// Success, or the error number.
    pub result: Result<(), i32>,
    /// getsockname(2) afterwards, if the variable holds a socket.
    pub name: Option<Vec<u8>>,
    /// getpeername(2) likewise, if that is a connected Unix socket.
    pub peer: Option<Vec<u8>>,
    /// What getsockopt(2) gave.
    pub value: Option<u32>,
}

impl Got {
    fn fails(errno: i32) -> Got {
        Got {
            result: Err(errno),
            name: None,
            peer: None,
            value: None,
        }
    }
}

/// The kernel's choice, as far as a call leaves one to it.
pub fn pick(got: &Got, line: &Line) -> Pick {
    let name = got.name.as_deref().unwrap_or(&[]);
    let chosen = match (got.result, &line.call) {
        // No port for a connection.
        (Err(libc::EADDRNOTAVAIL), Call::Connect { .. }) => None,
        // A refused connect has chosen a port, too.
        (Ok(()), Call::Bind { .. } | Call::Listen) | (_, Call::Connect { .. }) => port_of(name),
        _ => None,
    };
    Pick::Observed(chosen)
}

/// The port of an address; for an abstract Unix name that the kernel chose, its
/// number.
fn port_of(name: &[u8]) -> Option<u32> {
    match name.first() {
        Some(1) => name
            .get(3..)
            .and_then(|n| u32::from_str_radix(std::str::from_utf8(n).ok()?, 16).ok()),
        Some(16 | 40) => name
            .get(4..8)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_ne_bytes),
        _ => name
            .get(2..4)
            .and_then(|b| b.try_into().ok())
            .map(|b| u32::from(u16::from_be_bytes(b))),
    }
}

/// The rights of a script's process.
pub fn identity(process: &Process) -> Identity {
    let caps = process.caps;
    Identity {
        uid: process.uid,
        capabilities: [caps.net_bind_service, caps.net_admin, caps.net_raw],
    }
}

/// Holds the machine's vsock ports until it is dropped.
#[derive(Debug)]
pub struct VsockLock(std::fs::File);

/// Takes the machine's vsock ports for oneself.
#[allow(dead_code)]
pub fn vsock_lock() -> Option<VsockLock> {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::create("/tmp/bindgate-vsock.lock").ok()?;
    // SAFETY: no memory is passed.
    let ret = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    (ret == 0).then_some(VsockLock(file))
}

impl Drop for VsockLock {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd;
        // Closing is not enough: a hand that was forked meanwhile has a copy.
        // SAFETY: no memory is passed.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// Where a variable's descriptor is.
#[derive(Clone, Copy, Debug)]
struct Place {
    hand: usize,
    fd: c_int,
}

/// A script's processes and sockets on the real kernel.
#[derive(Debug, Default)]
pub struct Kernel {
    /// The error of a process that could not be made: a user without root has
    /// no other users.
    hands: Vec<Result<Hand, i32>>,
    /// Which hand plays which process of the script.
    players: Vec<usize>,
    uids: Vec<u32>,
    vars: Vec<Option<Place>>,
    /// Nobody will answer the next connect: it does not wait.
    pub hopeless: bool,
}

impl Kernel {
    /// Makes a process for each of these. The caller has no threads.
    pub fn new(identities: &[Identity]) -> io::Result<Kernel> {
        Kernel::in_spaces(identities, |_| Ok(()))
    }

    /// The same, after `enter` for each of them.
    pub fn in_spaces(
        identities: &[Identity],
        enter: impl Fn(usize) -> io::Result<()>,
    ) -> io::Result<Kernel> {
        let door = hands::door()?;
        let mut hands = Vec::new();
        for (i, identity) in identities.iter().enumerate() {
            enter(i)?;
            let hand = Hand::new(identity, door);
            hands.push(hand.map_err(|e| e.raw_os_error().unwrap_or(libc::EPERM)));
        }
        // Only the hands pass descriptors.
        for fd in door {
            // SAFETY: ours, and not used any more here.
            unsafe { libc::close(fd) };
        }
        Ok(Kernel {
            hands,
            players: (0..identities.len()).collect(),
            uids: identities.iter().map(|i| i.uid).collect(),
            vars: Vec::new(),
            hopeless: false,
        })
    }

    /// Another script: its variables, and which process plays which of its.
    pub fn restart(&mut self, vars: usize, players: &[usize]) {
        self.clear();
        self.vars.resize(vars, None);
        self.players.clear();
        self.players.extend(players);
    }

    /// The process id of a script's process; 0 if there is none.
    pub fn pid(&self, process: usize) -> u32 {
        let hand = self.players.get(process).and_then(|p| self.hands.get(*p));
        hand.and_then(|h| h.as_ref().ok()).map_or(0, Hand::pid)
    }

    /// Closes everything.
    pub fn clear(&mut self) {
        for place in std::mem::take(&mut self.vars).into_iter().flatten() {
            if let Some(Ok(hand)) = self.hands.get_mut(place.hand) {
                // What is connected ends by a reset: nothing is to linger.
                set(hand, place.fd as u64, Opt::LingerZero(true));
                hand.call(libc::SYS_close, &[place.fd as u64]);
                if hand.room() < 4 {
                    hand.go();
                }
            }
        }
        self.hands.iter_mut().flatten().for_each(Hand::go);
    }

    /// What the file system says of the path of a bind or a connect.
    pub fn path_state(&self, line: &Line) -> Option<PathState> {
        let hand = self.players.get(line.process).copied().unwrap_or(0);
        let uid = self.uids.get(hand).copied().unwrap_or(0);
        let path = path::path_of(line)?;
        Some(match line.call {
            Call::Connect { .. } => path::connect_state(&path, uid),
            _ => path::path_state(&path, uid),
        })
    }

    /// How many children wait at the listener of a variable: `tcpi_unacked`.
    pub fn waiting(&mut self, var: usize) -> Option<u32> {
        let place = self.vars.get(var).copied().flatten()?;
        let hand = self.hands.get_mut(place.hand)?.as_mut().ok()?;
        let (at, len) = (hand.memory(&[0; 28]), hand.memory(&28u32.to_ne_bytes()));
        let (level, name) = (libc::IPPROTO_TCP as u64, libc::TCP_INFO as u64);
        let args = [place.fd as u64, level, name, at, len];
        hand.one(libc::SYS_getsockopt, &args).ok()?;
        let bytes = hand.read(at, 28);
        bytes.last_chunk().map(|b| u32::from_ne_bytes(*b))
    }

    /// The listener that a connect has come to, if several were equal: the one
    /// at which more wait than the model knows of.
    pub fn chosen(&mut self, player: &mut Player, line: &Line) -> Option<SockId> {
        let Call::Connect { bytes } = &line.call else {
            return None;
        };
        let port = bytes.get(2..4)?;
        let port = u32::from(u16::from_be_bytes([*port.first()?, *port.last()?]));
        let mut listeners = Vec::new();
        for var in 0..player.vars() {
            let Some(id) = player.id(var) else { continue };
            let net = player.net.net();
            let s = net.get(id);
            let listens = s.table == Table::Tcp && s.state == State::Listen && s.num == port;
            if listens && !listeners.iter().any(|(_, known, _)| *known == id) {
                let queued = net.ids().filter(|c| net.get(*c).parent == id.0).count();
                listeners.push((var, id, queued as u32));
            }
        }
        if listeners.len() < 2 {
            return None;
        }
        let more = |(var, _, queued): &(usize, SockId, u32)| self.waiting(*var) > Some(*queued);
        listeners.into_iter().find(more).map(|(_, id, _)| id)
    }

    /// The line with the port that its address takes from a variable; `None` if
    /// that has none.
    pub fn resolved<'l>(&mut self, line: &'l Line) -> Option<Cow<'l, Line>> {
        let Some(var) = line.port_of else {
            return Some(Cow::Borrowed(line));
        };
        let place = self.vars.get(var).copied().flatten()?;
        let hand = self.hands.get_mut(place.hand)?.as_mut().ok()?;
        let name = Name::of(hand, place.fd as u64, libc::SYS_getsockname);
        hand.go();
        let port = port_of(&name.read(hand)?).filter(|port| *port != 0)?;
        Some(Cow::Owned(line.with_port(port)))
    }

    /// Makes the call of a line.
    pub fn play(&mut self, line: &Line) -> Got {
        let player = self.players.get(line.process).copied().unwrap_or(0);
        match self.hands.get(player) {
            Some(Ok(_)) => self.call(player, line),
            Some(Err(e)) => Got::fails(*e),
            None => Got::fails(libc::ESRCH),
        }
    }

    /// A descriptor of the variable's socket in process `player`, and whether
    /// it is only lent.
    fn lend(&mut self, player: usize, var: usize) -> Result<(c_int, bool), i32> {
        let Some(place) = self.vars.get(var).copied().flatten() else {
            return Ok((-1, false));
        };
        if place.hand == player {
            return Ok((place.fd, false));
        }
        let got = self.hands.get_disjoint_mut([place.hand, player]);
        let Ok([Ok(from), Ok(to)]) = got else {
            return Err(libc::ESRCH);
        };
        from.give(place.fd, to).map(|fd| (fd, true))
    }

    fn close(&mut self, var: usize) -> Result<(), i32> {
        let place = self.vars.get_mut(var).and_then(Option::take);
        let Some(place) = place else {
            return Err(libc::EBADF);
        };
        match self.hands.get_mut(place.hand) {
            Some(Ok(hand)) => hand.one(libc::SYS_close, &[place.fd as u64]).map(drop),
            _ => Err(libc::ESRCH),
        }
    }

    fn call(&mut self, player: usize, line: &Line) -> Got {
        if line.call == Call::Close {
            return Got {
                result: self.close(line.var),
                name: None,
                peer: None,
                value: None,
            };
        }
        let (Call::Dup { of: subject } | Call::Accept { from: subject }) = line.call else {
            let creates = matches!(line.call, Call::Socket { .. } | Call::File);
            if creates {
                let hand = self.hands.get_mut(player).and_then(|h| h.as_mut().ok());
                let Some(hand) = hand else {
                    return Got::fails(libc::ESRCH);
                };
                let made = match &line.call {
                    Call::Socket {
                        domain,
                        ty,
                        protocol,
                    } => {
                        let ty = ty | libc::SOCK_CLOEXEC;
                        let args = [*domain, ty, *protocol].map(|n| n as u64);
                        hand.call(libc::SYS_socket, &args)
                    }
                    _ => {
                        let path = hand.memory(b"/dev/null\0");
                        let at = libc::AT_FDCWD as u64;
                        hand.call(libc::SYS_openat, &[at, path, libc::O_CLOEXEC as u64])
                    }
                };
                return self.keep(player, line.var, made);
            }
            let (fd, lent) = match self.lend(player, line.var) {
                Ok(lent) => lent,
                Err(e) => return Got::fails(e),
            };
            let Some(Ok(hand)) = self.hands.get_mut(player) else {
                return Got::fails(libc::ESRCH);
            };
            let wait = if self.hopeless { 1000 } else { 300_000 };
            let asks = Asked::of(hand, fd as u64, &line.call);
            let made = match &asks {
                Some(asked) => asked.call,
                None => on_socket(hand, fd as u64, &line.call, wait),
            };
            let names = Names::of(hand, fd as u64);
            if lent {
                hand.call(libc::SYS_close, &[fd as u64]);
            }
            hand.go();
            let (mut name, mut peer) = names.read(hand);
            let mut value = None;
            if let Some(asked) = asks {
                let memory = hand.read(asked.at, 4).try_into().ok();
                let given = memory.map(u32::from_ne_bytes);
                value = given.filter(|_| asked.is_option && hand.result(made).is_ok());
                if line.call == Call::GetPeerName {
                    let of = Name {
                        call: asked.call,
                        at: asked.at,
                        len: asked.len,
                    };
                    (name, peer) = (of.read(hand), None);
                }
            }
            return Got {
                result: hand.result(made).map(drop),
                name,
                peer,
                value,
            };
        };
        let (fd, lent) = match self.lend(player, subject) {
            Ok(lent) => lent,
            Err(e) => return Got::fails(e),
        };
        let Some(Ok(hand)) = self.hands.get_mut(player) else {
            return Got::fails(libc::ESRCH);
        };
        let subject = fd as u64;
        let made = if matches!(line.call, Call::Dup { .. }) {
            hand.call(libc::SYS_fcntl, &[subject, libc::F_DUPFD_CLOEXEC as u64, 0])
        } else {
            accept(hand, subject)
        };
        if lent {
            hand.call(libc::SYS_close, &[subject]);
        }
        self.keep(player, line.var, made)
    }

    /// The variable becomes what a call of the running request returns.
    fn keep(&mut self, player: usize, var: usize, made: u64) -> Got {
        let Some(Ok(hand)) = self.hands.get_mut(player) else {
            return Got::fails(libc::ESRCH);
        };
        let names = Names::of(hand, made);
        hand.go();
        let fd = hand.result(made);
        let (name, peer) = names.read(hand);
        let _ = self.close(var);
        if let (Ok(fd), Some(place)) = (fd, self.vars.get_mut(var)) {
            *place = Some(Place {
                hand: player,
                fd: fd as c_int,
            });
        }
        Got {
            result: fd.map(drop),
            name,
            peer,
            value: None,
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.clear();
    }
}

/// getsockname(2) and getpeername(2) as part of a request.
struct Names {
    own: Name,
    peer: Name,
}

impl Names {
    fn of(hand: &mut Hand, fd: u64) -> Names {
        Names {
            own: Name::of(hand, fd, libc::SYS_getsockname),
            peer: Name::of(hand, fd, libc::SYS_getpeername),
        }
    }

    /// The peer's only of a Unix socket.
    fn read(&self, hand: &mut Hand) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let own = self.own.read(hand);
        let unix = own.as_ref().is_some_and(|n| n.first() == Some(&1));
        let peer = self.peer.read(hand).filter(|_| unix);
        (own, peer)
    }
}

/// A question about a socket, as part of a request.
struct Asked {
    call: u64,
    at: u64,
    len: u64,
    is_option: bool,
}

impl Asked {
    fn of(hand: &mut Hand, fd: u64, call: &Call) -> Option<Asked> {
        let (number, option) = match call {
            Call::Get(option) => (libc::SYS_getsockopt, Some(number_of(*option))),
            Call::GetSockName => (libc::SYS_getsockname, None),
            Call::GetPeerName => (libc::SYS_getpeername, None),
            _ => return None,
        };
        let at = hand.memory(&[0; 128]);
        let size = if option.is_some() { 4u32 } else { 128 };
        let len = hand.memory(&size.to_ne_bytes());
        let call = match option {
            Some((level, name)) => hand.call(number, &[fd, level as u64, name as u64, at, len]),
            None => hand.call(number, &[fd, at, len]),
        };
        Some(Asked {
            call,
            at,
            len,
            is_option: option.is_some(),
        })
    }
}

struct Name {
    call: u64,
    at: u64,
    len: u64,
}

impl Name {
    fn of(hand: &mut Hand, fd: u64, number: libc::c_long) -> Name {
        let at = hand.memory(&[0; 128]);
        let len = hand.memory(&128u32.to_ne_bytes());
        let call = hand.call(number, &[fd, at, len]);
        Name { call, at, len }
    }

    fn read(&self, hand: &mut Hand) -> Option<Vec<u8>> {
        hand.result(self.call).ok()?;
        let len = hand
            .read(self.len, 4)
            .try_into()
            .map_or(0, u32::from_ne_bytes);
        Some(hand.read(self.at, (len as usize).min(128)))
    }
}

/// accept(2), of a child that is there by now or never.
fn accept(hand: &mut Hand, from: u64) -> u64 {
    let flags = libc::SOCK_CLOEXEC as u64;
    let nonblock = libc::O_NONBLOCK as u64;
    hand.call(libc::SYS_fcntl, &[from, libc::F_SETFL as u64, nonblock]);
    let made = hand.call(libc::SYS_accept4, &[from, 0, 0, flags]);
    hand.call(libc::SYS_fcntl, &[from, libc::F_SETFL as u64, 0]);
    made
}

/// A call on a descriptor, as part of a request; a connect waits so many
/// microseconds.
fn on_socket(hand: &mut Hand, fd: u64, call: &Call, wait: i64) -> u64 {
    match call {
        Call::Set(opt) => set(hand, fd, *opt),
        Call::Bind { bytes, len } => {
            let mut memory = [0u8; 256];
            for (to, from) in memory.iter_mut().zip(bytes) {
                *to = *from;
            }
            let at = hand.memory(&memory);
            let len = len.unwrap_or(bytes.len() as i32);
            hand.call(libc::SYS_bind, &[fd, at, len as u64])
        }
        // Page 0 is nobody's.
        Call::BindNowhere { len } => hand.call(libc::SYS_bind, &[fd, 8, *len as u64]),
        Call::Listen => hand.call(libc::SYS_listen, &[fd, 16]),
        Call::Connect { bytes } => {
            // A peer that never answers: EINPROGRESS after a while.
            let wait = [0i64.to_ne_bytes(), wait.to_ne_bytes()].concat();
            set_bytes(hand, fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &wait);
            // More than any length that the kernel takes.
            let at = hand.memory(bytes.get(..256).unwrap_or(bytes));
            // A Unix listener whose queue is full: EAGAIN at once.
            let unix = bytes.first() == Some(&1);
            let how = libc::F_SETFL as u64;
            if unix {
                hand.call(libc::SYS_fcntl, &[fd, how, libc::O_NONBLOCK as u64]);
            }
            let made = hand.call(libc::SYS_connect, &[fd, at, bytes.len() as u64]);
            if unix {
                hand.call(libc::SYS_fcntl, &[fd, how, 0]);
            }
            made
        }
        Call::Shutdown(how) => hand.call(libc::SYS_shutdown, &[fd, u64::from(*how)]),
        // Made elsewhere.
        Call::Get(_)
        | Call::GetSockName
        | Call::GetPeerName
        | Call::Socket { .. }
        | Call::File
        | Call::Accept { .. }
        | Call::Dup { .. }
        | Call::Close => hand.call(libc::SYS_close, &[u64::MAX]),
    }
}

/// Level and number of an option that can be read.
pub fn number_of(option: GetOpt) -> (c_int, c_int) {
    let socket = |name| (libc::SOL_SOCKET, name);
    let ip = |name| (libc::IPPROTO_IP, name);
    match option {
        GetOpt::ReuseAddr => socket(libc::SO_REUSEADDR),
        GetOpt::ReusePort => socket(libc::SO_REUSEPORT),
        // FreeBSD's; no option of the socket level has this number.
        GetOpt::ReusePortLb => socket(-1),
        GetOpt::V6Only => (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        GetOpt::BindToIfIndex => socket(SO_BINDTOIFINDEX),
        GetOpt::FreeBind => ip(libc::IP_FREEBIND),
        GetOpt::Transparent => ip(libc::IP_TRANSPARENT),
        GetOpt::NoPort => ip(libc::IP_BIND_ADDRESS_NO_PORT),
        GetOpt::PortRange => ip(IP_LOCAL_PORT_RANGE),
        GetOpt::Repair => (libc::IPPROTO_TCP, libc::TCP_REPAIR),
        GetOpt::PassCred => socket(libc::SO_PASSCRED),
        GetOpt::PassPidfd => socket(SO_PASSPIDFD),
        GetOpt::Type => socket(libc::SO_TYPE),
        GetOpt::Domain => socket(libc::SO_DOMAIN),
        GetOpt::Protocol => socket(libc::SO_PROTOCOL),
        GetOpt::AcceptConn => socket(libc::SO_ACCEPTCONN),
    }
}

fn set_bytes(hand: &mut Hand, fd: u64, level: c_int, name: c_int, value: &[u8]) -> u64 {
    let at = hand.memory(value);
    let args = [fd, level as u64, name as u64, at, value.len() as u64];
    hand.call(libc::SYS_setsockopt, &args)
}

fn set(hand: &mut Hand, fd: u64, opt: Opt) -> u64 {
    if opt == Opt::AttachReuseport {
        // A filter of one instruction: return 0.
        let code = [6u16, 0, 0, 0].map(u16::to_ne_bytes).concat();
        let code = hand.memory(&code);
        let mut program = Vec::from(1u16.to_ne_bytes());
        program.resize(size_of::<usize>(), 0);
        program.extend(code.to_ne_bytes());
        let level = libc::SOL_SOCKET;
        return set_bytes(hand, fd, level, SO_ATTACH_REUSEPORT_CBPF, &program);
    }
    let (level, name, value) = option_value(opt);
    set_bytes(hand, fd, level, name, &value)
}

/// Level, number and value of an option that is set; no value of
/// `SO_ATTACH_REUSEPORT_CBPF`, which takes a program.
pub fn option_value(opt: Opt) -> (c_int, c_int, Vec<u8>) {
    let on = i32::from;
    let (level, name, value) = match opt {
        Opt::ReuseAddr(b) => (libc::SOL_SOCKET, libc::SO_REUSEADDR, on(b)),
        Opt::ReusePort(b) => (libc::SOL_SOCKET, libc::SO_REUSEPORT, on(b)),
        Opt::V6Only(b) => (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, on(b)),
        Opt::BindToIfIndex(i) => (libc::SOL_SOCKET, SO_BINDTOIFINDEX, i),
        Opt::FreeBind(b) => (libc::IPPROTO_IP, libc::IP_FREEBIND, on(b)),
        Opt::Transparent(b) => (libc::IPPROTO_IP, libc::IP_TRANSPARENT, on(b)),
        Opt::NoPort(b) => (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, on(b)),
        Opt::PortRange(lo, hi) => (
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            (u32::from(lo) | u32::from(hi) << 16) as i32,
        ),
        Opt::PassCred(b) => (libc::SOL_SOCKET, libc::SO_PASSCRED, on(b)),
        Opt::PassPidfd(b) => (libc::SOL_SOCKET, SO_PASSPIDFD, on(b)),
        Opt::Repair(b) => (libc::IPPROTO_TCP, libc::TCP_REPAIR, on(b)),
        Opt::BindToDevice(name) => {
            let name = [name.as_str().as_bytes(), b"\0"].concat();
            return (libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name);
        }
        Opt::LingerZero(b) => {
            let value = [on(b).to_ne_bytes(), [0; 4]].concat();
            return (libc::SOL_SOCKET, libc::SO_LINGER, value);
        }
        Opt::AttachReuseport => {
            return (libc::SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, Vec::new());
        }
        // Linux has none of these: an option that it does not know either.
        Opt::ReusePortLb(_)
        | Opt::BsdPortRange(_)
        | Opt::BsdPortRange6(_)
        | Opt::BsdBindAny(_)
        | Opt::BsdBindAny6(_)
        | Opt::BsdSetFib(_) => (libc::SOL_SOCKET, 0x7fff, 0),
    };
    (level, name, Vec::from(value.to_ne_bytes()))
}
