//! A network namespace of the run: its host, its bind table, and its sockets as
//! the kernel lists them.

use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bindgate_core::addr::{Addr, RawAddr, UnixKind, af};
use bindgate_core::judge::redirect::Place;
use bindgate_core::model::{Host, table_of};
use bindgate_core::socket::SocketType;
use bindgate_core::uapi::inet_diag::Socket;
use bindgate_host_live::machine::{self, LeftOut};
use bindgate_os::network::Network;
use bindgate_os::{Instant, diag};

use super::hosted::Hosted;
use super::table::BindTable;

/// Network namespaces that tables are kept for.
const SPACES: usize = 64;

/// The namespaces, for two threads: that which reads records, millions of them,
/// and that which answers at the door, where somebody waits.
pub struct Shared {
    spaces: Mutex<Spaces>,
    /// How many wait at the door.
    asking: AtomicU32,
}

impl Shared {
    /// No namespaces yet.
    pub fn new() -> Shared {
        Shared {
            spaces: Mutex::new(Spaces::new()),
            asking: AtomicU32::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spaces> {
        let locked = self.spaces.lock();
        locked.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// For the door.
    pub fn ask(&self) -> MutexGuard<'_, Spaces> {
        self.asking.fetch_add(1, Relaxed);
        let spaces = self.lock();
        self.asking.fetch_sub(1, Relaxed);
        spaces
    }

    /// For the records. A lock goes to whoever is there first, which would be
    /// this thread time and again: whoever asks goes first.
    pub fn feed(&self) -> MutexGuard<'_, Spaces> {
        const TURNS: u32 = 50;
        for _ in 0..TURNS {
            if self.asking.load(Relaxed) == 0 {
                break;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        self.lock()
    }
}

/// The inode of the network namespace of a process; 0 if it cannot be asked.
pub fn of_process(pid: &str) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |m| m.ino())
}

/// All of them.
pub struct Spaces {
    own: u64,
    /// That of the run's first process: the daemon's own, or a sealed one.
    home: u64,
    all: Vec<Space>,
}

impl Spaces {
    /// None yet.
    pub fn new() -> Spaces {
        let own = of_process("self");
        Spaces {
            own,
            home: own,
            all: Vec::new(),
        }
    }

    /// The run is sealed in this network.
    pub fn seal(&mut self, network: Network) {
        let inode = network.inode();
        self.home = inode;
        self.all.retain(|space| space.inode != inode);
        self.all
            .push(Space::new(inode, Some(Way::Network(Arc::new(network)))));
    }

    /// Descriptors of the namespaces of the network that the run is sealed in.
    pub fn sealed(&self) -> Option<[RawFd; 2]> {
        self.all.iter().find_map(|space| match &space.way {
            Way::Network(network) => Some(network.fds()),
            _ => None,
        })
    }

    /// The way to the network that the run is sealed in.
    pub fn sealed_way(&self) -> Option<Way> {
        let sealed = self.all.iter().find(|space| space.way.is_sealed());
        sealed.map(|space| space.way.clone())
    }

    /// Is this the run's own network? 0 is for one that cannot be asked for.
    pub fn is_home(&self, inode: u64) -> bool {
        inode == 0 || inode == self.home
    }

    /// The networks where sockets of the run may be, and the ways there: those that
    /// are known, and that of the daemon, from which a program may have brought some
    /// with it.
    pub fn ways(&mut self) -> Vec<(u64, Way)> {
        self.get(self.own, 0);
        // Of a run without a record there is none yet.
        self.get(0, 0);
        let all = self.all.iter();
        all.map(|space| (space.inode, space.way.clone())).collect()
    }

    /// The namespace with this inode, if it is known.
    pub fn known(&mut self, inode: u64) -> Option<&mut Space> {
        self.all.iter_mut().find(|space| space.inode == inode)
    }

    /// The inode of the run's home.
    pub fn home(&self) -> u64 {
        self.home
    }

    /// The namespace with this inode, in which a process `pid` is; the run's
    /// home for inode 0.
    pub fn get(&mut self, inode: u64, pid: u32) -> &mut Space {
        let inode = if inode == 0 { self.home } else { inode };
        let at = match self.all.iter().position(|s| s.inode == inode) {
            Some(at) => at,
            None => {
                if self.all.len() >= SPACES {
                    // Not the one that most of the run lives in.
                    let oldest = self.all.iter().position(|s| s.inode != self.home);
                    self.all.remove(oldest.unwrap_or(0));
                }
                let way = (inode == self.own).then_some(Way::Own);
                self.all.push(Space::new(inode, way));
                self.all.len() - 1
            }
        };
        let space = &mut self.all[at];
        if let Way::Process(last) = &mut space.way
            && pid != 0
        {
            *last = pid;
        }
        space
    }
}

/// How to get into a namespace.
#[derive(Clone)]
pub enum Way {
    /// The daemon is there.
    Own,
    /// The run was sealed in it.
    Network(Arc<Network>),
    /// As this process, which is in it, or 0.
    Process(u32),
}

impl Way {
    /// Is nobody in it but the run?
    pub fn is_sealed(&self) -> bool {
        matches!(self, Way::Network(_))
    }

    /// Runs this in the namespace.
    pub fn within<T: Send>(&self, part: impl FnOnce() -> T + Send) -> io::Result<T> {
        match self {
            Way::Own => Ok(part()),
            Way::Network(network) => network.within(part),
            Way::Process(pid) => Network::of(&pid.to_string())?.within(part),
        }
    }
}

/// See the module.
pub struct Space {
    /// Its name.
    pub inode: u64,
    way: Way,
    /// By real addresses.
    pub table: BindTable,
    /// Redirected sockets by the addresses that their programs believe in.
    pub virt: BindTable,
    /// The places of the vsock host that the run is.
    pub hosted: Hosted,
    /// What of the host is not in the table.
    pub left_out: LeftOut,
    /// Could the host be read?
    pub is_known: bool,
    host_at: Option<Instant>,
}

impl Space {
    fn new(inode: u64, way: Option<Way>) -> Space {
        let anywhere = anywhere();
        Space {
            inode,
            way: way.unwrap_or(Way::Process(0)),
            table: BindTable::new(anywhere),
            virt: BindTable::new(anywhere),
            hosted: Hosted::default(),
            left_out: LeftOut::default(),
            is_known: false,
            host_at: None,
        }
    }

    /// Is it the one that the daemon is in?
    pub fn is_own(&self) -> bool {
        matches!(self.way, Way::Own)
    }

    /// Runs this in the namespace.
    pub fn within<T: Send>(&self, part: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.way.within(part)
    }

    /// Reads the host if that was longer ago than `fresh` before `now`; was it?
    pub fn refresh(&mut self, fresh: Duration, now: Instant) -> bool {
        if self.host_at.is_some_and(|at| now.since(at) <= fresh) {
            return false;
        }
        self.host_at = Some(now);
        match self.within(machine::host) {
            Ok((host, left_out)) => {
                self.table.set_host(host);
                self.left_out = left_out;
                self.is_known = true;
            }
            Err(_) => {
                self.table.set_host(anywhere());
                self.is_known = false;
            }
        }
        true
    }

    /// Everybody who has a port, of both address families.
    pub fn owners(&self, kind: SocketType, port: u16) -> io::Result<Vec<Socket>> {
        let Ok(protocol) = u8::try_from(match kind.protocol {
            bindgate_core::socket::proto::MPTCP => bindgate_core::socket::proto::TCP,
            protocol => protocol,
        }) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.within(|| {
            let mut all = diag::owners(af::INET as u8, protocol, port)?;
            all.extend(diag::owners(af::INET6 as u8, protocol, port)?);
            Ok(all)
        })?
    }

    /// Does sock_diag list TCP sockets that are bound and no more than that?
    pub fn lists_bound(&self) -> bool {
        lists_bound()
    }

    /// Is the socket with this cookie still where it was redirected to?
    pub fn is_alive(&self, kind: SocketType, v6only: bool, cookie: u64, real: &RawAddr) -> bool {
        // One that has begun to listen while the kernel made its list, first of those
        // that listen and then of those that do not, is in neither part of it.
        self.is_listed(kind, v6only, cookie, real)
            || kind.is_stream() && self.is_listed(kind, v6only, cookie, real)
    }

    fn is_listed(&self, kind: SocketType, v6only: bool, cookie: u64, real: &RawAddr) -> bool {
        match real.read() {
            Some(Addr::Unix(name)) if name.kind != UnixKind::Auto => {
                let bound = self.within(machine::unix_sockets);
                bound.map_or(true, |all| all.iter().any(|s| s.is_named(&name)))
            }
            Some(addr) => {
                let Some(port) = addr.port().and_then(|p| u16::try_from(p).ok()) else {
                    return false;
                };
                if table_of(kind).is_none() {
                    return false;
                }
                let Ok(all) = self.owners(kind, port) else {
                    return true;
                };
                let mut place = Place::new(kind, addr, v6only, cookie);
                for socket in &all {
                    place.listed(socket);
                }
                let is_taken = || {
                    let trial = || diag::is_taken(kind, real.bytes(), v6only);
                    !matches!(self.within(trial), Ok(Ok(false)))
                };
                place.holds(|| kind.is_stream() && !self.lists_bound() && is_taken())
            }
            None => false,
        }
    }
}

/// Does sock_diag list TCP sockets that are bound and no more than that?
pub fn lists_bound() -> bool {
    machine::running().since(6, 8)
}

/// A host at which every address is there and no port is privileged: what is
/// taken for one that cannot be looked at.
fn anywhere() -> Host {
    let mut host = Host::loopback(machine::running());
    host.sysctl.nonlocal_bind = true;
    host.sysctl.nonlocal_bind6 = true;
    host.sysctl.unprivileged_start = 0;
    host
}
