//! What this machine shows of a bind or connect that failed: the facts of
//! [`bindgate_core::why`].

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::os::unix::fs::MetadataExt;

use bindgate_core::addr::{Addr, af};
use bindgate_core::model::State;
use bindgate_core::render::HolderState;
use bindgate_core::socket::{BindOptions, SocketType};
use bindgate_core::uapi::inet_diag;
use bindgate_core::why::{Elsewhere, Opener, Seen};

use crate::machine::{self, UnixSocket};
use crate::{lineage, processes};

/// Processes of one socket that are named.
const NAMED: usize = 8;

/// Who has which sockets open, looked up once.
pub struct Openers {
    by_inode: HashMap<u32, Vec<u32>>,
    all_seen: bool,
}

impl Openers {
    /// Nobody has been looked at.
    #[must_use]
    pub fn unknown() -> Openers {
        Openers {
            by_inode: HashMap::new(),
            all_seen: false,
        }
    }

    /// Looks at all processes.
    #[must_use]
    pub fn look() -> Openers {
        Openers {
            by_inode: processes::holders(),
            all_seen: processes::all_can_be_seen(),
        }
    }

    /// The processes that have a socket open.
    #[must_use]
    pub fn of(&self, inode: u32) -> Vec<Opener> {
        let pids = self.by_inode.get(&inode).map_or(&[][..], Vec::as_slice);
        let mut all: Vec<_> = pids
            .iter()
            .take(NAMED)
            .copied()
            .map(lineage::briefly)
            .collect();
        if let Some(first) = all.first_mut() {
            first.lineage = lineage::of(first.pid);
        }
        all
    }
}

/// A socket as sock_diag shows it.
#[must_use]
pub fn seen(kind: SocketType, s: &inet_diag::Socket, openers: &Openers) -> Seen {
    let outside = machine::outside_of(kind, s);
    let state = match outside.state {
        State::Listen => HolderState::Listening,
        State::TimeWait => HolderState::TimeWait,
        State::Close => HolderState::Bound,
        _ => HolderState::Connected,
    };
    // Those that are set cannot be told, but for one.
    let mut options = BindOptions(BindOptions::UNKNOWN);
    options.set(BindOptions::V6ONLY, s.v6only);
    let waits = state == HolderState::TimeWait;
    let open_in = openers.of(s.inode);
    Seen {
        kind: outside.kind,
        addr: s.local(),
        peer: s.peer(),
        state,
        phase: Some(s.phase()),
        uid: (!waits && s.inode != 0).then_some(s.uid),
        inode: s.inode,
        cookie: s.cookie,
        device: s.dev,
        options,
        left_ms: waits.then_some(s.expires_ms),
        since_ns: 0,
        in_run: None,
        on_the_way: None,
        group: match open_in.is_empty() && s.group > 1 {
            true => lineage::group(s.group),
            false => None,
        },
        open_in,
        bound_by: None,
        all_seen: openers.all_seen,
    }
}

/// A Unix socket.
#[must_use]
pub fn seen_unix(s: &UnixSocket, openers: &Openers) -> Option<Seen> {
    Some(Seen {
        kind: SocketType {
            domain: af::UNIX,
            ty: s.ty,
            protocol: 0,
        },
        addr: Addr::Unix(s.name?),
        peer: None,
        state: match (s.listens, s.is_connected) {
            (true, _) => HolderState::Listening,
            (_, true) => HolderState::Connected,
            _ => HolderState::Bound,
        },
        phase: None,
        uid: s.uid,
        inode: s.inode,
        cookie: s.cookie,
        device: 0,
        options: BindOptions(BindOptions::UNKNOWN),
        left_ms: None,
        since_ns: 0,
        in_run: None,
        on_the_way: None,
        open_in: openers.of(s.inode),
        bound_by: None,
        group: None,
        all_seen: openers.all_seen,
    })
}

/// Asks the holders' own descriptors for the options that sock_diag does not tell,
/// where this user may.
pub fn ask_options(s: &mut Seen) {
    let Some(first) = s.open_in.first() else {
        return;
    };
    let asked = processes::descriptor(first.pid, s.inode)
        .and_then(|fd| bindgate_os::process::reuse_options(first.pid, fd));
    if let Some((addr, port)) = asked {
        s.options.set(BindOptions::UNKNOWN, false);
        s.options.set(BindOptions::REUSEADDR, addr);
        s.options.set(BindOptions::REUSEPORT, port);
    }
}

/// Listeners of TCP at the port in other network namespaces. `own` is a process in the
/// one that is not looked for.
#[must_use]
pub fn elsewhere(port: u16, own: &str, openers: &Openers) -> Vec<Elsewhere> {
    // The file of another namespace is another file.
    let network = |pid: &str| {
        let table = std::fs::metadata(format!("/proc/{pid}/net/tcp"));
        table.map_or(0, |m| m.ino())
    };
    let mut met = HashSet::from([0, network(own)]);
    let mut found = Vec::new();
    for pid in processes::pids() {
        if !met.insert(network(&pid.to_string())) {
            continue;
        }
        for (file, domain) in [("tcp", 2), ("tcp6", 10)] {
            let path = format!("/proc/{pid}/net/{file}");
            let table = std::fs::read_to_string(path).unwrap_or_default();
            let kind = SocketType::created(domain, 1, 0);
            for line in table.lines().skip(1) {
                let Some(o) = machine::outside(line, kind) else {
                    continue;
                };
                if o.port != port || o.state != State::Listen {
                    continue;
                }
                let ip = Ipv6Addr::from(o.addr);
                let addr = match (domain, ip.to_ipv4_mapped()) {
                    (2, Some(ip)) => Addr::Inet {
                        ip: ip.octets(),
                        port,
                    },
                    _ => Addr::inet6(o.addr, port),
                };
                let inode = line.split_whitespace().nth(9);
                let inode = inode.and_then(|n| n.parse().ok()).unwrap_or(0);
                let listener = openers.of(inode).into_iter().next();
                found.push(Elsewhere {
                    addr,
                    is_listener: listener.is_some(),
                    process: listener.unwrap_or_else(|| lineage::opener(pid)),
                });
            }
        }
    }
    found
}
