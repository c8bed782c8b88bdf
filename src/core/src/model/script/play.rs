//! A script on the model.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::doubt::{self, Doubts};
use super::files::Files;
use super::{Call, Line, Script, Setting, Value};
use crate::addr::{Addr, UnixName, VMADDR_ANY, af};
use crate::model::linux::PathState;
use crate::model::{Answer, Errno, Fd, Net, No, OwnedNet, Pick, Pointer, SockId, Step, Trail};

/// What a call gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Success or error.
    pub result: Result<(), No>,
    /// The local address afterwards, of a call that succeeded on an open socket.
    pub name: Option<Addr>,
    /// The name of a Unix socket's peer, if it has one.
    pub peer: Option<UnixName>,
    /// What getsockopt() gave.
    pub value: Option<Value>,
    /// The checks passed.
    pub trail: Trail,
    /// The variable of the socket that was in the way.
    pub holder: Option<usize>,
}

impl Outcome {
    /// The kernel's checks that the call passed; the last one decided, unless
    /// the result is unknown.
    #[must_use]
    pub fn passed(&self) -> &[Step] {
        match (self.result, self.trail.steps()) {
            (Err(No::Unknown(why)), [passed @ .., last]) if *last == why => passed,
            (_, steps) => steps,
        }
    }
}

/// A script's sockets on the model.
#[derive(Debug)]
pub struct Player {
    /// The network.
    pub net: OwnedNet,
    /// Those of the other network namespaces.
    others: Vec<OwnedNet>,
    /// In which of them the variables' sockets are; 0 for the first.
    homes: Vec<u32>,
    /// The one that the call at hand is made in.
    home: u32,
    /// How many sockets a network has room for.
    sockets: u32,
    /// The process ids, for netlink; 1 where there is none.
    pub pids: Vec<u32>,
    /// The initial user namespace grants root nothing.
    pub in_user_namespace: bool,
    /// What the file system says of the next path; asked of the paths that
    /// the script has bound itself if nobody does.
    pub path: Option<PathState>,
    /// The listener that the next connect has come to, if somebody has seen it.
    pub chosen: Option<SockId>,
    files: Files,
    /// How many changes of the script have been made.
    applied: usize,
    vars: Vec<Option<SockId>>,
    /// The first variables that hold the sockets, by network and socket.
    holders: BTreeMap<(u32, SockId), usize>,
    /// Variables that hold a descriptor of something else than a socket.
    is_file: Vec<bool>,
    /// The model lost track in this call.
    lost: bool,
    doubts: Doubts,
}

impl Player {
    /// An empty network on the script's host.
    #[must_use]
    pub fn new(script: &Script, sockets: usize) -> Player {
        let mut player = Player {
            net: OwnedNet::new(script.host, sockets as u32),
            others: Vec::new(),
            homes: Vec::new(),
            home: 0,
            sockets: sockets as u32,
            pids: Vec::new(),
            in_user_namespace: false,
            path: None,
            chosen: None,
            files: Files::default(),
            applied: 0,
            vars: Vec::new(),
            holders: BTreeMap::new(),
            is_file: Vec::new(),
            lost: false,
            doubts: Doubts::default(),
        };
        player.begin(script);
        player
    }

    /// Another script on the same network, whose sockets are all closed.
    pub fn restart(&mut self, script: &Script) {
        for i in 0..self.vars.len() {
            self.close(i);
        }
        self.vars.clear();
        self.is_file.clear();
        self.homes.clear();
        self.holders.clear();
        self.others.clear();
        self.files.clear();
        self.doubts.clear();
        // What lingers after its last descriptor.
        self.net.net().clear();
        self.net.host = script.host;
        self.begin(script);
    }

    fn begin(&mut self, script: &Script) {
        self.vars.resize(script.vars.len(), None);
        self.is_file.resize(script.vars.len(), false);
        self.homes.resize(script.vars.len(), 0);
        for (_, host) in &script.spaces {
            self.others.push(OwnedNet::new(*host, self.sockets));
        }
        // What stands before the first call is in the hosts.
        let first = script.lines.first();
        self.applied = first.map_or(script.changes.len(), |line| line.after);
        for change in script.changes.iter().take(self.applied) {
            if let Setting::File(line) = &change.what {
                self.files.apply(line);
            }
        }
    }

    /// The network of each network namespace.
    pub fn networks(&mut self) -> impl Iterator<Item = &mut OwnedNet> {
        core::iter::once(&mut self.net).chain(&mut self.others)
    }

    /// Makes the changes that stand before a line.
    fn apply(&mut self, script: &Script, line: &Line) {
        while self.applied < line.after {
            let Some(change) = script.changes.get(self.applied) else {
                return;
            };
            self.applied += 1;
            if let Setting::File(line) = &change.what {
                self.files.apply(line);
            }
            let net = match change.space.checked_sub(1) {
                None => Some(&mut self.net),
                Some(other) => self.others.get_mut(other),
            };
            // Whoever read the script has seen that it can be made.
            let _ = net.map(|net| change.apply(&mut net.host));
        }
    }

    /// Closes whatever the variable holds. False if the model does not know
    /// what becomes of it.
    pub fn close(&mut self, var: usize) -> bool {
        let Some(id) = self.let_go(var) else {
            return true;
        };
        let home = self.home_of(var);
        let before = *self.net_of(home).get(id);
        let closed = self.net_of(home).close(id);
        let is_known = !matches!(closed.result, Err(No::Unknown(_)));
        if !is_known {
            self.doubts.linger(home, &before);
        }
        is_known
    }

    /// The variable holds nothing from now on. Gives the socket that it held.
    fn let_go(&mut self, var: usize) -> Option<SockId> {
        if let Some(file) = self.is_file.get_mut(var) {
            *file = false;
        }
        let id = self.vars.get_mut(var).and_then(Option::take)?;
        let home = self.home_of(var);
        if self.doubts.any() && self.net_of(home).get(id).refs == 1 {
            self.doubts.close((home, id));
        }
        if self.holders.get(&(home, id)) == Some(&var) {
            self.holders.remove(&(home, id));
            if self.net_of(home).get(id).refs > 1 {
                // Another descriptor of it: the first variable that has one.
                let mut vars = self.vars.iter().zip(&self.homes);
                let other = vars.position(|(v, of)| *v == Some(id) && *of == home);
                other.map(|other| self.holders.insert((home, id), other));
            }
        }
        Some(id)
    }

    /// The variable holds this from now on.
    fn take(&mut self, var: usize, id: Option<SockId>) {
        let (Some(v), Some(home)) = (self.vars.get_mut(var), self.homes.get_mut(var)) else {
            return;
        };
        *v = id;
        *home = self.home;
        if let Some(id) = id {
            let first = self.holders.entry((self.home, id)).or_insert(var);
            *first = var.min(*first);
        }
    }

    /// How many variables there are.
    #[must_use]
    pub fn vars(&self) -> usize {
        self.vars.len()
    }

    /// The socket that a variable holds.
    #[must_use]
    pub fn id(&self, var: usize) -> Option<SockId> {
        self.vars.get(var).copied().flatten()
    }

    /// The port of a variable's socket, if it has one.
    fn port(&mut self, var: usize) -> Option<u32> {
        let id = self.id(var)?;
        let home = self.home_of(var);
        let port = match self.net_of(home).getsockname(id) {
            Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => port.into(),
            Addr::Vsock { port, .. } if port != VMADDR_ANY => port,
            Addr::Netlink { pid, .. } => pid,
            _ => 0,
        };
        (port != 0).then_some(port)
    }

    fn done<T>(&self, answer: Answer<T>) -> Outcome {
        Outcome {
            result: answer.result.map(|_| ()),
            name: None,
            peer: None,
            value: None,
            trail: answer.trail,
            holder: answer
                .holder
                .and_then(|h| self.holders.get(&(self.home, h)).copied()),
        }
    }

    fn home_of(&self, var: usize) -> u32 {
        self.homes.get(var).copied().unwrap_or(0)
    }

    /// Which network's sockets a call is about.
    fn find_home(&self, line: &Line, space: usize) -> u32 {
        match line.call {
            // AF_VSOCK's ports are the machine's.
            Call::Socket { domain, .. } if domain == i32::from(af::VSOCK) => 0,
            Call::Socket { .. } => space as u32,
            Call::Accept { from } => self.home_of(from),
            Call::Dup { of } => self.home_of(of),
            _ => self.home_of(line.var),
        }
    }

    /// Makes the call of a line, after the changes that stand before it.
    pub fn play(&mut self, script: &Script, line: &Line, pick: Pick) -> Outcome {
        self.apply(script, line);
        self.lost = false;
        let mut outcome = match self.resolved(line) {
            Some(line) => self.answer(script, &line, pick),
            None => unknown(Step::NoPortOf),
        };
        if self.lost {
            // What the variable held before.
            self.doubts.vars.insert(line.var);
            outcome.result = Err(No::Unknown(Step::ConnectNotModelled));
            outcome.trail = Trail::one(Step::ConnectNotModelled);
        }
        outcome
    }

    /// The line with the port that its address takes from a variable; `None` if
    /// that has none.
    fn resolved<'l>(&mut self, line: &'l Line) -> Option<Cow<'l, Line>> {
        match line.port_of {
            None => Some(Cow::Borrowed(line)),
            Some(var) => Some(Cow::Owned(line.with_port(self.port(var)?))),
        }
    }

    /// The variable is about to hold something else.
    fn replace(&mut self, var: usize) {
        self.lost |= !self.close(var);
    }

    /// The call's answer, unless it hangs on an earlier one that was unknown.
    fn answer(&mut self, script: &Script, line: &Line, pick: Pick) -> Outcome {
        let about = match line.call {
            Call::Socket { .. } | Call::File => None,
            Call::Accept { from } | Call::Dup { of: from } => Some(from),
            _ => Some(line.var),
        };
        let Some(about) = about else {
            self.doubts.vars.remove(&line.var);
            return self.call(script, line, pick);
        };
        let home = self.home_of(about);
        let at = self.id(about).map(|id| (home, id));
        let was = at.map(|(_, id)| *self.net_of(home).get(id));
        let before = was.map_or(0, |s| doubt::port(&s));
        if self.doubts.any() {
            let is_maybe = self.doubts.vars.contains(&about);
            let is_known = match line.call {
                Call::Close | Call::Dup { .. } => !is_maybe,
                _ => !is_maybe && !at.is_some_and(|at| self.doubts.about(at)),
            };
            if !is_known {
                match line.call {
                    Call::Close => _ = self.doubts.vars.remove(&about),
                    Call::Accept { .. } | Call::Dup { .. } => {
                        self.replace(line.var);
                        self.doubts.vars.insert(line.var);
                    }
                    _ => {}
                }
                if let Some(at) = at {
                    self.doubt(at, line, before);
                }
                return unknown(doubt::WHY);
            }
        }
        let outcome = self.call(script, line, pick);
        let is_unknown = matches!(outcome.result, Err(No::Unknown(_)));
        let Some(at) = at.filter(|_| is_unknown || self.doubts.any()) else {
            return outcome;
        };
        if !is_unknown {
            let net = net_in(&mut self.net, &mut self.others, home);
            if !self.doubts.concern(&net, at, &line.call, outcome.result) {
                if let Call::Accept { .. } | Call::Dup { .. } = line.call {
                    self.doubts.vars.remove(&line.var);
                }
                return outcome;
            }
        }
        match line.call {
            Call::Accept { .. } => {
                self.let_go(line.var);
                self.doubts.vars.insert(line.var);
            }
            Call::Close => {
                if let Some(was) = &was {
                    self.doubts.linger(home, was);
                }
                return outcome;
            }
            Call::Get(_) => return outcome,
            _ => {}
        }
        self.doubt(at, line, before);
        if is_unknown {
            outcome
        } else {
            unknown(doubt::WHY)
        }
    }

    fn doubt(&mut self, at: (u32, SockId), line: &Line, before: u32) {
        let net = net_in(&mut self.net, &mut self.others, at.0);
        self.doubts.add(&net, at, &line.call, before);
    }

    fn net_of(&mut self, home: u32) -> Net<'_> {
        net_in(&mut self.net, &mut self.others, home)
    }

    fn call(&mut self, script: &Script, line: &Line, pick: Pick) -> Outcome {
        let process = script.processes.get(line.process);
        let mut cred = process.map_or(crate::model::Cred::ROOT, super::Process::cred);
        cred.tgid = self.pids.get(line.process).copied().unwrap_or(1);
        cred.init_net_bind_service &= !self.in_user_namespace;
        cred.init_audit_read &= !self.in_user_namespace;
        let id = self.id(line.var);
        let is_file = |var: usize| self.is_file.get(var) == Some(&true);
        let fd = match id {
            Some(id) => Fd::Socket(id),
            None if is_file(line.var) => Fd::NotSocket,
            None => Fd::Bad,
        };
        let known = id.unwrap_or(SockId(u32::MAX));
        let needs_socket = !matches!(
            line.call,
            Call::Socket { .. }
                | Call::File
                | Call::Bind { .. }
                | Call::BindNowhere { .. }
                | Call::Dup { .. }
                | Call::Accept { .. }
        );
        let done = Outcome {
            result: Ok(()),
            name: None,
            peer: None,
            value: None,
            trail: Trail::new(),
            holder: None,
        };
        let fails = |errno, step| Outcome {
            result: Err(No::Errno(errno)),
            trail: Trail::one(step),
            ..done
        };
        let bad = fails(Errno::EBADF, Step::SysBindBadFd);
        let not_socket = fails(Errno::ENOTSOCK, Step::SysBindNotSocket);
        match (&line.call, fd) {
            (Call::Close, Fd::NotSocket) => {
                self.replace(line.var);
                return done;
            }
            (_, Fd::Bad) if needs_socket => return bad,
            (_, Fd::NotSocket) if needs_socket => return not_socket,
            (Call::Accept { from }, _) if self.id(*from).is_none() => {
                let answer = if is_file(*from) { not_socket } else { bad };
                self.replace(line.var);
                return answer;
            }
            _ => {}
        }
        let home = self.find_home(line, process.map_or(0, |p| p.space));
        self.home = home;
        let mut net = net_in(&mut self.net, &mut self.others, home);
        let outcome = match &line.call {
            Call::Socket {
                domain,
                ty,
                protocol,
            } => {
                let answer = net.socket(*domain, *ty, *protocol, &cred);
                self.replace(line.var);
                self.take(line.var, answer.result.ok());
                self.done(answer)
            }
            Call::File => {
                self.replace(line.var);
                if let Some(file) = self.is_file.get_mut(line.var) {
                    *file = true;
                }
                done
            }
            Call::BindNowhere { len } => {
                let addr = Pointer {
                    bytes: None,
                    len: *len,
                };
                let answer = net.bind(fd, addr, &cred, pick);
                self.done(answer)
            }
            Call::Set(opt) => {
                let answer = net.setsockopt(known, *opt, &cred);
                self.done(answer)
            }
            Call::Get(option) => {
                let answer = net.getsockopt(known, *option);
                Outcome {
                    value: answer.result.ok().map(|value| Value(*option, value)),
                    ..self.done(answer)
                }
            }
            Call::GetSockName => done,
            Call::GetPeerName => {
                let answer = net.getpeername(known);
                return Outcome {
                    name: answer.result.ok(),
                    ..self.done(answer)
                };
            }
            Call::Bind { bytes, len } => {
                // What a caller would have there: zeroes behind the address.
                let mut memory = [0u8; MEMORY];
                for (to, from) in memory.iter_mut().zip(bytes) {
                    *to = *from;
                }
                let addr = Pointer {
                    bytes: Some(&memory),
                    len: len.unwrap_or(bytes.len() as i32),
                };
                let path = path_of(bytes);
                let to_bind = |path| self.files.to_bind(path, cred.uid);
                net.path = self.path.or(path.map(to_bind)).unwrap_or(PathState::Free);
                let answer = net.bind(fd, addr, &cred, pick);
                if let Some(path) = path
                    && answer.trail.last() == Some(Step::UnixBound)
                {
                    self.files.bound(path, cred.uid, home);
                }
                self.done(answer)
            }
            Call::Listen => {
                let answer = net.listen(known, &cred, pick);
                self.done(answer)
            }
            Call::Connect { bytes } => {
                let to_connect = |path| self.files.to_connect(path, cred.uid, home);
                let path = path_of(bytes).map(to_connect);
                net.path = self.path.or(path).unwrap_or(PathState::Free);
                net.chosen = self.chosen;
                let answer = net.connect(known, bytes, &cred, pick);
                self.done(answer)
            }
            Call::Accept { from } => {
                let from = self.vars.get(*from).copied().flatten();
                let answer = net.accept(from.unwrap_or(SockId(u32::MAX)), &cred);
                self.replace(line.var);
                self.take(line.var, answer.result.ok());
                self.done(answer)
            }
            Call::Shutdown(how) => {
                let answer = net.shutdown(known, *how);
                self.done(answer)
            }
            Call::Dup { of } => {
                let from = self.vars.get(*of).copied().flatten();
                let file = self.is_file.get(*of) == Some(&true);
                if let Some(from) = from {
                    net.dup(from);
                }
                self.replace(line.var);
                self.take(line.var, from);
                if let Some(f) = self.is_file.get_mut(line.var) {
                    *f = file;
                }
                if from.is_none() && !file { bad } else { done }
            }
            Call::Close => {
                self.let_go(line.var);
                let answer = net_in(&mut self.net, &mut self.others, home).close(known);
                self.done(answer)
            }
        };
        let id = self.id(line.var);
        let net = net_in(&mut self.net, &mut self.others, home);
        Outcome {
            name: id.map(|id| net.getsockname(id)),
            peer: id.and_then(|id| net.unix_peer_name(id)),
            ..outcome
        }
    }
}

/// The model does not know, for this reason.
fn unknown(why: Step) -> Outcome {
    Outcome {
        result: Err(No::Unknown(why)),
        name: None,
        peer: None,
        value: None,
        trail: Trail::one(why),
        holder: None,
    }
}

/// As much as FreeBSD reads of an address; Linux reads less.
const MEMORY: usize = 255;

/// Another network than the first; 0 is that one.
fn net_in<'a>(first: &'a mut OwnedNet, others: &'a mut [OwnedNet], home: u32) -> Net<'a> {
    let other = home.checked_sub(1).and_then(|j| others.get_mut(j as usize));
    other.unwrap_or(first).net()
}

/// The path in the bytes of an address, if it holds one.
fn path_of(bytes: &[u8]) -> Option<&[u8]> {
    let (family, name) = bytes.split_first_chunk()?;
    let path = name.split(|b| *b == 0).next()?;
    (u16::from_ne_bytes(*family) == af::UNIX && !path.is_empty()).then_some(path)
}
