//! The processes of the run as `/proc` shows them: user, capabilities, name
//! spaces.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::alive::Alive;
use super::predict::why;

/// How often new processes are looked for.
const MEET: Duration = Duration::from_millis(4);
/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    /// File-system user id.
    pub uid: u32,
    /// `CAP_NET_BIND_SERVICE`
    pub net_bind_service: bool,
}

/// Somebody without any privilege.
pub const NOBODY: Caller = Caller {
    uid: u32::MAX,
    net_bind_service: false,
};

/// What is known of a process, or why nothing is.
pub type Known = Result<Caller, &'static str>;

/// See the module.
pub struct Callers {
    network: Option<PathBuf>,
    users: Option<PathBuf>,
    /// By slot: its number in our `/proc` and when it registered, when it was
    /// looked at.
    known: HashMap<u32, ((u32, u64), Instant, Known)>,
    met: Instant,
    /// How many had come when new ones were last looked for.
    entered: u32,
}

fn namespace(pid: &str, kind: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

impl Callers {
    /// Compares with the name spaces of this process.
    pub fn new() -> Callers {
        Callers {
            network: namespace("self", "net"),
            users: namespace("self", "user"),
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
                let _ = self.of(slot, alive, fresh);
            }
        }
    }

    /// Who calls, from `/proc`; not older than this.
    pub fn of(&mut self, slot: u32, alive: &Alive, fresh: Duration) -> Known {
        let Some(who) = alive.pid(slot) else {
            return Err(why::GONE);
        };
        if let Some((of, at, caller)) = self.known.get(&slot)
            && *of == who
            && at.elapsed() < fresh
        {
            return *caller;
        }
        let mut caller = self.look_at(who.0);
        if let (Err(why::GONE), Some((of, _, before))) = (caller, self.known.get(&slot))
            && *of == who
        {
            // It has ended: what was seen before is the best there is.
            caller = *before;
        }
        self.known.insert(slot, (who, Instant::now(), caller));
        caller
    }

    fn look_at(&self, pid: u32) -> Known {
        let pid = pid.to_string();
        let same = |mine: &Option<PathBuf>, kind| match (namespace(&pid, kind), mine) {
            (Some(theirs), Some(mine)) => Some(theirs == *mine),
            _ => None,
        };
        match same(&self.network, "net") {
            None => return Err(why::GONE),
            Some(false) => return Err(why::NETWORK),
            Some(true) => {}
        }
        if same(&self.users, "user") == Some(false) {
            return Err(why::USERS);
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let status = status.map_err(|_| why::GONE)?;
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.split_whitespace().last()
        };
        // Real, effective, saved, file system.
        let uid = field("Uid:").and_then(|n| n.parse().ok());
        let capabilities = field("CapEff:").and_then(|n| u64::from_str_radix(n, 16).ok());
        match (uid, capabilities) {
            (Some(uid), Some(bits)) => Ok(Caller {
                uid,
                // CAP_NET_BIND_SERVICE
                net_bind_service: bits >> 10 & 1 != 0,
            }),
            _ => Err(why::GONE),
        }
    }
}
