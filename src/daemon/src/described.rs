//! The host that the policy describes: what it answers to the run's programs.
//!
//! The model decides ([`Ruler`]); who of its sockets is still there the kernel
//! says, when one is in somebody's way. This thread alone asks it; records say that
//! a bind that was granted was made, or was not.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bindgate_core::addr::{Addr, RawAddr};
use bindgate_core::judge::host;
use bindgate_core::model::script::Described;
use bindgate_core::model::{Ask, Cred, Refused, Ruler, SockId, Way, table_of};
use bindgate_core::record::{Call, Record, flag};
use bindgate_core::shared::door::{AskHost, HostCall, HostSays};
use bindgate_core::socket::{BindOptions, SocketType};
use bindgate_os::{network, process};

use super::callers;

/// Sockets that the host has room for.
const SOCKETS: u32 = 16 << 10;
/// Of those that are in the way of an automatic port, as many are looked at.
const LOOKED_AT: usize = 2000;

/// See the module.
pub struct Hosting(Mutex<Inner>);

struct Inner {
    ruler: Ruler,
    entries: HashMap<SockId, Entry>,
    cookies: HashMap<u64, SockId>,
    /// Where clients of busy addresses come to, and what keeps that open.
    busy: HashMap<SockId, (Vec<Addr>, Vec<OwnedFd>)>,
    seed: u32,
}

/// A socket that the host has granted an address.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The socket in the host's tables.
    id: SockId,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// Slot of the process that bound it.
    pub process: u32,
    fd: i32,
    /// What it is.
    pub kind: SocketType,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// Where its program believes it to be.
    pub virt: RawAddr,
    /// No record has said yet that it was bound.
    pub is_claimed: bool,
}

/// What there is to say.
pub enum Said {
    /// This.
    Says(HostSays),
    /// This, if these sockets are still there.
    IfThere(HostSays, Vec<Entry>),
    /// Where this socket is, if it is still there.
    At(Entry),
}

impl Hosting {
    /// The host, before anything is bound. `is_here`: are its programs in the
    /// network of this process?
    pub fn new(described: &Described, is_here: bool) -> Option<Hosting> {
        let ruler = Ruler::new(described.clone(), SOCKETS).ok()?;
        let mut busy = HashMap::new();
        if is_here {
            for (id, one) in ruler.busy() {
                let held = if one.is_udp { Vec::new() } else { hold() };
                busy.insert(id, held.into_iter().unzip());
            }
        }
        Some(Hosting(Mutex::new(Inner {
            ruler,
            entries: HashMap::new(),
            cookies: HashMap::new(),
            busy,
            seed: std::process::id(),
        })))
    }

    /// Clients of the busy address with this place come to this socket.
    pub fn hold(&self, place: usize, fd: &OwnedFd) {
        let mut inner = self.lock();
        let id = inner.ruler.busy().nth(place).map(|(id, _)| id);
        if let (Some(id), Ok(addr)) = (id, network::name(fd)) {
            let (places, _) = inner.busy.entry(id).or_default();
            places.extend(Addr::read(&addr));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the answer depend on what the caller may do?
    pub fn asks_privilege(&self, asks: &AskHost) -> bool {
        let addr = asks.claim.virt.read();
        let is_bind = matches!(asks.call, HostCall::Bind | HostCall::Socket);
        is_bind
            && self
                .lock()
                .ruler
                .asks_privilege(asks.claim.socket, addr.as_ref())
    }

    /// Answers.
    pub fn answer(&self, asks: &AskHost, cred: Cred) -> Said {
        self.lock().answer(asks, cred)
    }

    /// The socket is gone.
    pub fn forget(&self, entry: &Entry) {
        self.lock().forget(entry.cookie);
    }

    /// What was granted to this socket and is not known to have been bound is not held.
    pub fn take_back(&self, cookie: u64) {
        let mut inner = self.lock();
        let id = inner.cookies.get(&cookie);
        let entry = id.and_then(|id| inner.entries.get(id));
        if entry.is_some_and(|entry| entry.is_claimed) {
            inner.forget(cookie);
        }
    }

    /// A record tells what became of a bind.
    pub fn recorded(&self, r: &Record) {
        let is_bind = r.call == Call::Bind || r.flags & flag::IMPLICIT != 0;
        if !is_bind || r.cookie == 0 {
            return;
        }
        let mut inner = self.lock();
        let Some(id) = inner.cookies.get(&r.cookie).copied() else {
            return;
        };
        match inner.entries.get_mut(&id) {
            Some(entry) if r.errno == 0 => entry.is_claimed = false,
            Some(entry) if entry.is_claimed => inner.forget(r.cookie),
            _ => {}
        }
    }
}

/// Listeners on loopback that nobody accepts from.
fn hold() -> Vec<(Addr, OwnedFd)> {
    let held = network::listeners().into_iter().filter_map(|fd| {
        let addr = Addr::read(&network::name(&fd).ok()?)?;
        Some((addr, fd))
    });
    held.collect()
}

fn step(refused: &Refused) -> u16 {
    refused.step.map_or(u16::MAX, |step| step as u16)
}

impl Inner {
    fn answer(&mut self, asks: &AskHost, cred: Cred) -> Said {
        let claim = &asks.claim;
        let addr = claim.virt.bytes();
        let ask = Ask {
            kind: claim.socket,
            addr,
            options: claim.options,
            device: 0,
            uid: claim.uid,
        };
        let known = self.cookies.get(&claim.cookie).copied();
        match asks.call {
            HostCall::Socket => match self.ruler.create(claim.socket, cred) {
                Ok(v6only) => Said::Says(HostSays {
                    step: u16::from(v6only),
                    ..HostSays::YES
                }),
                Err(refused) => Said::Says(self.refusal(&refused)),
            },
            HostCall::Bind => {
                self.seed = self.seed.wrapping_mul(0x9e37_79b1).rotate_left(7) ^ 0x5bd1;
                match self.ruler.bind(&ask, cred, known, self.seed) {
                    Ok(None) => Said::Says(HostSays::YES),
                    Ok(Some(granted)) => {
                        let is_auto = claim.virt.read().is_some_and(|at| at.is_auto());
                        let at = granted.at.write();
                        self.enter(Entry {
                            id: granted.id,
                            cookie: claim.cookie,
                            process: claim.process,
                            fd: claim.fd,
                            kind: claim.socket,
                            v6only: claim.options.has(BindOptions::V6ONLY),
                            virt: at,
                            is_claimed: known.is_none(),
                        });
                        Said::Says(HostSays {
                            at: if is_auto { at } else { RawAddr::EMPTY },
                            ..HostSays::YES
                        })
                    }
                    Err(refused) => self.in_the_way(asks, &refused),
                }
            }
            HostCall::Listen => match known {
                None => Said::Says(HostSays::YES),
                Some(id) => match self.ruler.listen(id, cred) {
                    Ok(()) => Said::Says(HostSays::YES),
                    Err(refused) => self.in_the_way(asks, &refused),
                },
            },
            HostCall::Connect => match self.ruler.connect(&ask, cred) {
                Err(refused) => Said::Says(self.refusal(&refused)),
                Ok(Way::Out) => Said::Says(HostSays::YES),
                Ok(Way::Nowhere) => Said::Says(at(claim.virt.read().map(|to| host::nowhere(&to)))),
                Ok(Way::To(id)) => match self.entries.get(&id) {
                    Some(entry) => Said::At(*entry),
                    None => Said::Says(self.busy_at(id, claim.virt.read())),
                },
            },
        }
    }

    /// Where a client of a busy address comes to.
    fn busy_at(&self, id: SockId, to: Option<Addr>) -> HostSays {
        let Some(to) = to else { return HostSays::YES };
        let real = self.busy.get(&id).map_or(&[][..], |(real, _)| real);
        let there = real.iter().find_map(|real| host::reached(&to, real));
        at(Some(there.unwrap_or_else(|| host::nowhere(&to))))
    }

    fn refusal(&self, refused: &Refused) -> HostSays {
        let holder = refused.holder.and_then(|id| self.entries.get(&id));
        HostSays {
            errno: refused.errno_here(),
            step: step(refused),
            holder: holder.map_or(0, |entry| entry.cookie),
            at: RawAddr::EMPTY,
        }
    }

    /// Somebody is in the way, or all of them together.
    fn in_the_way(&self, asks: &AskHost, refused: &Refused) -> Said {
        let says = self.refusal(refused);
        if !refused.is_conflict() {
            return Said::Says(says);
        }
        if let Some(id) = refused.holder {
            return match self.entries.get(&id) {
                Some(entry) => Said::IfThere(says, vec![*entry]),
                None => Said::Says(says),
            };
        }
        let table = table_of(asks.claim.socket);
        let port = asks.claim.virt.read().and_then(|at| at.port());
        let is_it = |entry: &&Entry| {
            let own = entry.virt.read().and_then(|at| at.port());
            table_of(entry.kind) == table
                && entry.cookie != asks.claim.cookie
                && (own == port || port == Some(0))
        };
        let all = self.entries.values().filter(is_it).take(LOOKED_AT);
        Said::IfThere(says, all.copied().collect())
    }

    fn enter(&mut self, entry: Entry) {
        self.cookies.insert(entry.cookie, entry.id);
        self.entries.insert(entry.id, entry);
    }

    fn forget(&mut self, cookie: u64) {
        if let Some(id) = self.cookies.remove(&cookie) {
            self.entries.remove(&id);
            self.ruler.forget(id);
        }
    }
}

impl Entry {
    /// Is it the same descriptor that asks now for another socket? Then what was
    /// granted to it before was made, or not.
    pub fn is_of_asker(&self, asks: &AskHost) -> bool {
        (self.process, self.fd) == (asks.claim.process, asks.claim.fd)
    }
}

/// To go there.
pub fn at(addr: Option<Addr>) -> HostSays {
    HostSays {
        at: addr.map_or(RawAddr::EMPTY, |addr| addr.write()),
        ..HostSays::YES
    }
}

/// What process `pid` may do in the network of this one.
pub fn cred(pid: u32, uid: u32) -> Cred {
    let pid = pid.to_string();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let all = process::effective(&status);
    // Those of another user namespace do not count here.
    let is_here = callers::users("self") == callers::users(&pid);
    let has = |n: u32| is_here && all.is_some_and(|all| all >> n & 1 != 0);
    Cred {
        net_bind_service: has(10),
        net_admin: has(12),
        net_raw: has(13),
        ..Cred::user(uid)
    }
}
