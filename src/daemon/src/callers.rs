//! The processes of the run as `/proc` shows them: user, capabilities, name
//! spaces.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bindgate_os::{Instant, process};

use super::alive::Alive;
use super::space;

/// How often new processes are looked for.
const MEET: Duration = Duration::from_millis(4);
/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// File-system user id.
    pub uid: u32,
    /// `CAP_NET_BIND_SERVICE`, in the user namespace of the daemon.
    pub net_bind_service: bool,
    /// Has it that capability at all? `None`: it has, in a user namespace of its own.
    pub may_bind_low: Option<bool>,
    /// The inode of the network namespace.
    pub network: u64,
    /// The process's number in our `/proc`.
    pub pid: u32,
}

/// Somebody without any privilege.
pub const NOBODY: Caller = Caller {
    uid: u32::MAX,
    net_bind_service: false,
    may_bind_low: None,
    network: 0,
    pid: 0,
};

/// What is known of a process; nothing if it could not be looked at.
pub type Known = Option<Caller>;

/// See the module.
pub struct Callers {
    users: Option<PathBuf>,
    /// By slot: its number in our `/proc` and when it registered, when it was
    /// looked at.
    known: HashMap<u32, ((u32, u64), Instant, Known)>,
    met: Instant,
    /// How many had come when new ones were last looked for.
    entered: u32,
}

/// The user namespace of a process.
pub fn users(pid: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/user")).ok()
}

impl Callers {
    /// Compares with the name spaces of this process.
    pub fn new() -> Callers {
        Callers {
            users: users("self"),
            known: HashMap::new(),
            met: Instant::now(),
            entered: 0,
        }
    }

    /// Looks at the processes that are new: some end soon.
    pub fn meet(&mut self, alive: &Alive, fresh: Duration) {
        let entered = alive.entered();
        if entered == self.entered || self.met.elapsed() < MEET {
            return;
        }
        (self.met, self.entered) = (Instant::now(), entered);
        for (slot, info) in alive.slots() {
            let known = self.known.get(&slot);
            if known.is_none_or(|((_, since), ..)| *since != info.since) {
                let _ = self.of(slot, alive, fresh, self.met);
            }
        }
    }

    /// Who calls, from `/proc`; not older than this at `now`.
    pub fn of(&mut self, slot: u32, alive: &Alive, fresh: Duration, now: Instant) -> Known {
        if let Some(((_, since), at, caller)) = self.known.get(&slot)
            && now.since(*at) < fresh
            && alive.since(slot) == Some(*since)
        {
            return *caller;
        }
        let who = alive.pid(slot)?;
        let mut caller = self.look_at(who.0);
        if let (None, Some((of, _, before))) = (caller, self.known.get(&slot))
            && *of == who
        {
            // It has ended: what was seen before is the best there is.
            caller = *before;
        }
        self.known.insert(slot, (who, now, caller));
        caller
    }

    fn look_at(&self, number: u32) -> Known {
        let pid = number.to_string();
        let network = space::of_process(&pid);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.split_whitespace().last()
        };
        // Real, effective, saved, file system.
        let uid = field("Uid:")?.parse().ok()?;
        let capabilities = process::effective(&status)?;
        // Those of another user namespace count there.
        let here = users(&pid) == self.users;
        let has = capabilities >> 10 & 1 != 0;
        (network != 0).then_some(Caller {
            uid,
            // CAP_NET_BIND_SERVICE
            net_bind_service: here && has,
            may_bind_low: (here || !has).then_some(has),
            network,
            pid: number,
        })
    }
}
