//! A script on the model.

use alloc::vec;
use alloc::vec::Vec;

use super::{Call, Line, Script};
use crate::addr::{Addr, UnixName, af};
use crate::model::linux::PathState;
use crate::model::{Answer, Errno, Fd, No, OwnedNet, Pick, Pointer, SockId, Step, Trail};

/// As much as FreeBSD reads of an address; Linux reads less.
const MEMORY: usize = 255;

/// What a call gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Success or error.
    pub result: Result<(), No>,
    /// The local address afterwards, of a call that succeeded on an open socket.
    pub name: Option<Addr>,
    /// The name of a Unix socket's peer, if it has one.
    pub peer: Option<UnixName>,
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
    /// The process ids, for netlink; 1 where there is none.
    pub pids: Vec<u32>,
    /// The initial user namespace grants root nothing.
    pub in_user_namespace: bool,
    /// What the file system says of the next path; asked of the paths that
    /// the script has bound itself if nobody does.
    pub path: Option<PathState>,
    /// The listener that the next connect has come to, if somebody has seen it.
    pub chosen: Option<SockId>,
    /// What was bound to, and by which user.
    paths: Vec<(Vec<u8>, u32)>,
    vars: Vec<Option<SockId>>,
    /// Variables that hold a descriptor of something else than a socket.
    files: Vec<bool>,
    /// The model lost track in this call.
    lost: bool,
}

impl Player {
    /// An empty network on the script's host.
    #[must_use]
    pub fn new(script: &Script, sockets: usize) -> Player {
        Player {
            net: OwnedNet::new(script.host, sockets as u32),
            pids: Vec::new(),
            in_user_namespace: false,
            path: None,
            chosen: None,
            paths: Vec::new(),
            vars: vec![None; script.vars.len()],
            files: vec![false; script.vars.len()],
            lost: false,
        }
    }

    /// Another script on the same network, whose sockets are all closed.
    pub fn restart(&mut self, script: &Script) {
        for i in 0..self.vars.len() {
            self.close(i);
        }
        self.vars.clear();
        self.files.clear();
        self.paths.clear();
        // What lingers after its last descriptor.
        self.net.net().clear();
        self.vars.resize(script.vars.len(), None);
        self.files.resize(script.vars.len(), false);
        self.net.host = script.host;
    }

    /// Closes whatever the variable holds. False if the model does not know
    /// what becomes of it.
    pub fn close(&mut self, var: usize) -> bool {
        if let Some(file) = self.files.get_mut(var) {
            *file = false;
        }
        match self.vars.get_mut(var).and_then(Option::take) {
            Some(id) => !matches!(self.net.net().close(id).result, Err(No::Unknown(_))),
            None => true,
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

    fn done<T>(&self, answer: Answer<T>) -> Outcome {
        Outcome {
            result: answer.result.map(|_| ()),
            name: None,
            peer: None,
            trail: answer.trail,
            holder: answer
                .holder
                .and_then(|h| self.vars.iter().position(|v| *v == Some(h))),
        }
    }

    /// Makes the call of a line.
    pub fn play(&mut self, script: &Script, line: &Line, pick: Pick) -> Outcome {
        self.lost = false;
        let mut outcome = self.call(script, line, pick);
        if self.lost {
            // What the variable held before.
            outcome.result = Err(No::Unknown(Step::ConnectNotModelled));
            outcome.trail = Trail::one(Step::ConnectNotModelled);
        }
        outcome
    }

    /// The variable is about to hold something else.
    fn replace(&mut self, var: usize) {
        self.lost |= !self.close(var);
    }

    fn call(&mut self, script: &Script, line: &Line, pick: Pick) -> Outcome {
        let mut cred = script
            .processes
            .get(line.process)
            .map_or(crate::model::Cred::ROOT, super::Process::cred);
        cred.tgid = self.pids.get(line.process).copied().unwrap_or(1);
        cred.init_net_bind_service &= !self.in_user_namespace;
        let id = self.id(line.var);
        let is_file = |var: usize| self.files.get(var) == Some(&true);
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
        let fails = |errno, step| Outcome {
            result: Err(No::Errno(errno)),
            name: None,
            peer: None,
            trail: Trail::one(step),
            holder: None,
        };
        let done = Outcome {
            result: Ok(()),
            name: None,
            peer: None,
            trail: Trail::new(),
            holder: None,
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
        let mut net = self.net.net();
        let outcome = match &line.call {
            Call::Socket {
                domain,
                ty,
                protocol,
            } => {
                let answer = net.socket(*domain, *ty, *protocol, &cred);
                self.replace(line.var);
                if let Some(v) = self.vars.get_mut(line.var) {
                    *v = answer.result.ok();
                }
                self.done(answer)
            }
            Call::File => {
                self.replace(line.var);
                if let Some(file) = self.files.get_mut(line.var) {
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
                let known = path.is_some_and(|path| self.paths.iter().any(|(p, _)| p == path));
                net.path = self.path.unwrap_or(if known {
                    PathState::Exists
                } else {
                    PathState::Free
                });
                let answer = net.bind(fd, addr, &cred, pick);
                if let Some(path) = path
                    && answer.trail.last() == Some(Step::UnixBound)
                {
                    self.paths.push((path.to_vec(), cred.uid));
                }
                self.done(answer)
            }
            Call::Listen => {
                let answer = net.listen(known, &cred, pick);
                self.done(answer)
            }
            Call::Connect { bytes } => {
                let owner = path_of(bytes).and_then(|path| {
                    let known = self.paths.iter().find(|(p, _)| p == path);
                    known.map(|(_, owner)| *owner)
                });
                net.path = self.path.unwrap_or(match owner {
                    None => PathState::Free,
                    // Mode 0755, as most umasks make it.
                    Some(owner) if cred.uid != 0 && cred.uid != owner => {
                        PathState::Refused(Errno::EACCES)
                    }
                    Some(_) => PathState::Exists,
                });
                net.chosen = self.chosen;
                let answer = net.connect(known, bytes, &cred, pick);
                self.done(answer)
            }
            Call::Accept { from } => {
                let from = self.vars.get(*from).copied().flatten();
                let answer = net.accept(from.unwrap_or(SockId(u32::MAX)), &cred);
                self.replace(line.var);
                if let Some(v) = self.vars.get_mut(line.var) {
                    *v = answer.result.ok();
                }
                self.done(answer)
            }
            Call::Shutdown(how) => {
                let answer = net.shutdown(known, *how);
                self.done(answer)
            }
            Call::Dup { of } => {
                let from = self.vars.get(*of).copied().flatten();
                let file = self.files.get(*of) == Some(&true);
                if let Some(from) = from {
                    net.dup(from);
                }
                self.replace(line.var);
                if let Some(v) = self.vars.get_mut(line.var) {
                    *v = from;
                }
                if let Some(f) = self.files.get_mut(line.var) {
                    *f = file;
                }
                if from.is_none() && !file { bad } else { done }
            }
            Call::Close => {
                let answer = net.close(known);
                if let Some(v) = self.vars.get_mut(line.var) {
                    *v = None;
                }
                self.done(answer)
            }
        };
        let net = self.net.net();
        let id = self.vars.get(line.var).copied().flatten();
        Outcome {
            name: id.map(|id| net.getsockname(id)),
            peer: id.and_then(|id| net.unix_peer_name(id)),
            ..outcome
        }
    }
}

/// The path in the bytes of an address, if it holds one.
fn path_of(bytes: &[u8]) -> Option<&[u8]> {
    let (family, name) = bytes.split_first_chunk()?;
    let path = name.split(|b| *b == 0).next()?;
    (u16::from_ne_bytes(*family) == af::UNIX && !path.is_empty()).then_some(path)
}
