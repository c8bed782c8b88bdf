//! Who of the run is still there.
//!
//! The kernel itself says whether any process holds the run's state
//! ([`sys::is_alone`]): over forks, name spaces and changes of user. It cannot
//! see a process between exec and the library's start, nor one that cannot be
//! seen at all and may start another that can: those have the run's name in
//! their environment.
//!
//! The process table says which process a record belongs to. It is the
//! programs' to write, so it is believed for names only.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use bindgate_core::shared::{Drain, ENV_RUN, PROCESSES, ProcessInfo, SLOTS, State};

use bindgate_host_live::processes;
use bindgate_os::{self as sys, Instant, process};

/// How old an answer about one process may be.
const FRESH: Duration = Duration::from_millis(10);

/// How long the program of a process without a slot is believed to be the same.
const SAME: Duration = Duration::from_millis(50);
/// Processes without a slot whose programs are remembered.
const REMEMBERED: usize = 1 << 14;

/// How long a list of the processes in other pid name spaces is believed when
/// one is not in it. A scribbled table names thousands that are not: looking
/// through the machine for each of them would take minutes.
const LISTED: Duration = Duration::from_millis(50);

/// What a look through the processes of the machine found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// Processes of the run.
    pub found: u64,
    /// Processes of which it cannot be told.
    pub unknown: u64,
}

/// Where the reader of the ring was.
#[derive(Clone, Copy)]
struct Seen {
    at: u64,
    emptied: u64,
}

/// A program, and when it was looked up.
type Looked = (Arc<[u8]>, Instant);

/// See the module.
pub struct Alive {
    state: &'static State,
    /// The state's memory file, if its holders are counted.
    counted: Option<&'static OwnedFd>,
    pid_ns: u64,
    time_ns: u64,
    /// Are the numbers in `/proc` those of our pid name space?
    proc_is_ours: bool,
    marker: Vec<u8>,
    /// When the drainer started, in ticks since boot.
    started: u64,
    /// How many processes had been made by then.
    made: Option<u64>,
    ticks: u64,
    /// Slots whose process has executed something else since.
    superseded: Vec<bool>,
    asked: RefCell<HashMap<u32, (u64, bool, Instant)>>,
    /// Dead slots, with the reader's place when that was found.
    dead: HashMap<u32, (u64, Seen)>,
    foreign: RefCell<Foreign>,
    /// Programs of processes without a slot, and when they were looked up.
    unlisted: RefCell<HashMap<u32, Looked>>,
}

/// Pids here of processes in other pid name spaces, by name space and pid
/// there, and when they were looked for.
#[derive(Default)]
struct Foreign {
    at: Option<Instant>,
    pids: HashMap<(u64, u32), i32>,
}

impl Alive {
    pub fn new(state: &'static State, counted: Option<&'static OwnedFd>, run_id: u64) -> Alive {
        Alive {
            state,
            counted,
            pid_ns: pid_namespace("self"),
            time_ns: time_namespace("self"),
            proc_is_ours: std::fs::read_link("/proc/self")
                .is_ok_and(|link| link == std::path::Path::new(&process::pid().to_string())),
            marker: format!("{ENV_RUN}={run_id:016x}.").into_bytes(),
            started: Stat::of("self").map_or(0, |stat| stat.started),
            made: processes_made(),
            ticks: sys::ticks().max(1),
            superseded: vec![false; PROCESSES + 1],
            asked: RefCell::default(),
            dead: HashMap::new(),
            foreign: RefCell::default(),
            unlisted: RefCell::default(),
        }
    }

    /// Does no process hold the state? Where the kernel cannot say, the
    /// process table has to.
    pub fn is_alone(&self) -> bool {
        match self.counted.and_then(sys::is_alone) {
            Some(alone) => alone,
            None => self.living() == 0,
        }
    }

    /// Processes in the table that are there.
    pub fn living(&self) -> u64 {
        let mut pids: Vec<_> = self
            .slots()
            .filter(|(slot, _)| !self.is_dead(*slot))
            .map(|(_, info)| (self.space(&info), info.pid))
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids.len() as u64
    }

    /// The program of process `pid`, which found no slot (`slot` is 0): what
    /// `/proc` says of a process of this run. Empty if that is not known.
    pub fn program_of(&self, slot: u32, pid: u32) -> Arc<[u8]> {
        if slot != 0 || pid == 0 || !self.proc_is_ours {
            return Arc::from([]);
        }
        let mut unlisted = self.unlisted.borrow_mut();
        if let Some((name, at)) = unlisted.get(&pid)
            && at.elapsed() < SAME
        {
            return name.clone();
        }
        let mut environment = Vec::new();
        let read = read_all(&format!("/proc/{pid}/environ"), &mut environment);
        let name: Arc<[u8]> = match read {
            Ok(()) if has_entry(&environment, &self.marker) => processes::program(pid).into(),
            _ => Arc::from([]),
        };
        if unlisted.len() >= REMEMBERED {
            unlisted.clear();
        }
        unlisted.insert(pid, (name.clone(), Instant::now()));
        name
    }

    /// How many processes ever came to the run.
    pub fn entered(&self) -> u32 {
        self.state.header.entered.load(Acquire)
    }

    /// Is the process with this number in our `/proc` one of the run?
    pub fn is_member(&self, pid: u32) -> bool {
        self.slots()
            .any(|(slot, info)| info.pid == pid || self.pid(slot).is_some_and(|(n, _)| n == pid))
    }

    /// Has the process with this number in our `/proc` the run's name in its
    /// environment?
    pub fn has_marker(&self, pid: u32) -> bool {
        let mut environment = Vec::new();
        read_all(&format!("/proc/{pid}/environ"), &mut environment).is_ok()
            && has_entry(&environment, &self.marker)
    }

    /// Slots that are taken, with who is there.
    pub fn slots(&self) -> impl Iterator<Item = (u32, ProcessInfo)> {
        let table = &self.state.processes;
        (1..=PROCESSES as u32).filter_map(|n| table.get(n).map(|info| (n, info)))
    }

    /// Is the owner of process-table slot `slot` gone for good? Never said of
    /// slot 0: nobody knows who that is.
    pub fn is_dead(&self, slot: u32) -> bool {
        let table = &self.state.processes;
        let (info, since) = match table.get(slot) {
            _ if slot == 0 => return false,
            Some(info) => (Some(info), info.since),
            None => (None, 0),
        };
        if self.superseded.get(slot as usize) == Some(&true) {
            return true;
        }
        if let Some((of, dead, at)) = self.asked.borrow().get(&slot)
            && *of == since
            && at.elapsed() < FRESH
        {
            return *dead;
        }
        let dead = match (info, table.filling(slot)) {
            (Some(info), _) => !self.lives(&info),
            (None, Some(pid)) => !process::exists(pid),
            // Given back: the drainer itself did that.
            (None, None) => true,
        };
        let answer = (since, dead, Instant::now());
        self.asked.borrow_mut().insert(slot, answer);
        dead
    }

    /// The pid name space of a process, 0 if it is ours. One that has not said
    /// it yet is taken for ours.
    fn space(&self, info: &ProcessInfo) -> u64 {
        if info.pid_ns == self.pid_ns {
            0
        } else {
            info.pid_ns
        }
    }

    fn lives(&self, info: &ProcessInfo) -> bool {
        let pid = if self.space(info) == 0 {
            info.pid
        } else {
            match self.pid_here(info) {
                // Out of sight: only the count of holders can tell.
                0 => return true,
                pid => pid as u32,
            }
        };
        process::exists(pid) && !self.is_other(pid, info.since)
    }

    /// When the process of a slot registered.
    pub fn since(&self, slot: u32) -> Option<u64> {
        self.state.processes.since(slot)
    }

    /// The process of a slot by its number in our `/proc`, and when it
    /// registered.
    pub fn pid(&self, slot: u32) -> Option<(u32, u64)> {
        let info = self.state.processes.get(slot)?;
        let pid = if self.space(&info) == 0 {
            info.pid
        } else {
            u32::try_from(self.pid_here(&info)).ok()?
        };
        (self.proc_is_ours && pid != 0).then_some((pid, info.since))
    }

    /// Is `pid` by now another process than registered at `since`, or one
    /// that is only waiting to be reaped?
    fn is_other(&self, pid: u32, since: u64) -> bool {
        if !self.proc_is_ours {
            return false;
        }
        let Some(stat) = Stat::of(&pid.to_string()) else {
            return !process::exists(pid);
        };
        if stat.is_dead() {
            return true;
        }
        // In another time namespace it was another time when it registered.
        if time_namespace(&pid.to_string()) != self.time_ns {
            return false;
        }
        let suspended = sys::boottime().saturating_sub(sys::monotonic());
        let since = Duration::from_nanos(since) + suspended;
        let started = Duration::from_millis(stat.started.saturating_mul(1000) / self.ticks);
        started > since + Duration::from_millis(50)
    }

    /// The pid here of a process that registered in another pid name space, 0
    /// if it is not to be seen.
    fn pid_here(&self, info: &ProcessInfo) -> i32 {
        let key = (info.pid_ns, info.pid);
        let mut foreign = self.foreign.borrow_mut();
        if let Some(pid) = foreign.pids.get(&key)
            && process::exists(*pid as u32)
        {
            return *pid;
        }
        if foreign.at.is_none_or(|at| at.elapsed() > LISTED) {
            foreign.pids = self.foreigners().collect();
            foreign.at = Some(Instant::now());
        }
        foreign.pids.get(&key).copied().unwrap_or(0)
    }

    /// Every process in another pid name space, by name space and pid there.
    fn foreigners(&self) -> impl Iterator<Item = ((u64, u32), i32)> {
        pids().filter_map(|pid| {
            let pid_ns = pid_namespace(&pid);
            if pid_ns == self.pid_ns || pid_ns == 0 {
                return None;
            }
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            Some(((pid_ns, innermost_pid(&status)?), pid.parse().ok()?))
        })
    }

    /// Looks through the table: notes who is dead or superseded, and gives
    /// slots back whose records have all been read.
    pub fn sweep(&mut self, drain: &Drain) {
        let mut newest: HashMap<(u64, u32), (u64, u32)> = HashMap::new();
        let slots: Vec<_> = self.slots().collect();
        // Who has not said yet in which name space its number counts takes no
        // other one's place.
        let group = |info: &ProcessInfo| match info.pid_ns {
            0 => u64::MAX,
            pid_ns => pid_ns,
        };
        for (slot, info) in &slots {
            let entry = newest.entry((group(info), info.pid)).or_default();
            *entry = (*entry).max((info.since, *slot));
        }
        self.superseded.fill(false);
        for (slot, info) in &slots {
            let is_newest = newest.get(&(group(info), info.pid)) == Some(&(info.since, *slot));
            if let Some(old) = self.superseded.get_mut(*slot as usize) {
                *old = !is_newest;
            }
        }
        let dead = std::mem::take(&mut self.dead);
        for (slot, info) in slots {
            if !self.is_dead(slot) {
                continue;
            }
            match dead.get(&slot) {
                Some((since, then)) if *since == info.since => {
                    // Nobody claims a slot further ahead of the reader, and
                    // an empty ring has none of it.
                    if drain.emptied() > then.emptied || drain.at() - then.at > SLOTS {
                        self.state.processes.free(slot);
                    } else {
                        self.dead.insert(slot, (*since, *then));
                    }
                }
                _ => {
                    let now = Seen {
                        at: drain.at(),
                        emptied: drain.emptied(),
                    };
                    self.dead.insert(slot, (info.since, now));
                }
            }
        }
        self.asked
            .borrow_mut()
            .retain(|_, (_, _, at)| at.elapsed() < FRESH);
    }

    /// Looks for processes that have the run in their environment. `quick`:
    /// the program is a child of a launcher that waits for the answer.
    pub fn scan(&self, quick: bool) -> Scan {
        let mut scan = Scan::default();
        let mut environment = Vec::new();
        let younger = self.younger().filter(|_| quick);
        let pids: &mut dyn Iterator<Item = String> = match younger {
            Some(range) => &mut range.map(|pid| pid.to_string()),
            None => &mut pids(),
        };
        for pid in pids {
            match read_all(&format!("/proc/{pid}/environ"), &mut environment) {
                // So it is in the middle of an exec, too.
                Ok(()) if environment.is_empty() => {
                    scan.unknown += u64::from(self.may_be_of_the_run(&pid));
                }
                Ok(()) => scan.found += u64::from(has_entry(&environment, &self.marker)),
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                    scan.unknown += u64::from(self.may_be_of_the_run(&pid));
                }
                Err(_) => {}
            }
        }
        scan
    }

    /// Sends a signal to each process of the run: to how many.
    pub fn signal(&self, number: i32) -> u64 {
        let mut all: Vec<u32> = self
            .slots()
            .filter(|(slot, _)| !self.is_dead(*slot))
            .filter_map(|(slot, _)| Some(self.pid(slot)?.0))
            .collect();
        let others = pids().filter_map(|pid| pid.parse().ok());
        all.extend(others.filter(|pid| self.has_marker(*pid)));
        all.sort_unstable();
        all.dedup();
        let own = process::pid().cast_unsigned();
        let sent = |pid: &u32| {
            // Looked at once more while its number is held: it may be another process's.
            let held = process::pidfd(pid.cast_signed()).ok();
            let is_still = self.is_member(*pid) || self.has_marker(*pid);
            *pid != own && is_still && process::signal(*pid, held.as_ref(), number)
        };
        all.iter().filter(|pid| sent(pid)).count() as u64
    }

    /// The numbers that were given to processes after the drainer's, if they
    /// are few.
    fn younger(&self) -> Option<std::ops::RangeInclusive<u32>> {
        const FEW: u64 = 256;
        let few = processes_made()?.checked_sub(self.made?)? < FEW;
        let loads = std::fs::read_to_string("/proc/loadavg").ok()?;
        let last = loads.split_ascii_whitespace().next_back()?.parse().ok()?;
        let own = process::pid().cast_unsigned();
        let is_near = last >= own && u64::from(last - own) < FEW;
        (self.proc_is_ours && few && is_near).then_some(own + 1..=last)
    }

    /// Can a process be one of the run whose environment does not tell? Those
    /// are younger than the drainer, and no threads of the kernel.
    fn may_be_of_the_run(&self, pid: &str) -> bool {
        Stat::of(pid)
            .is_some_and(|stat| !stat.is_dead() && !stat.is_kernel && stat.started >= self.started)
    }
}

/// How many processes and threads this machine has made since it started.
fn processes_made() -> Option<u64> {
    let mut bytes = Vec::new();
    read_all("/proc/stat", &mut bytes).ok()?;
    let stat = String::from_utf8_lossy(&bytes);
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("processes "));
    line?.trim().parse().ok()
}

/// What `/proc/PID/stat` says.
struct Stat {
    /// Waiting to be reaped: the main thread at least.
    ended: bool,
    /// A thread of the kernel.
    is_kernel: bool,
    threads: u64,
    /// In ticks since boot.
    started: u64,
}

impl Stat {
    fn of(pid: &str) -> Option<Stat> {
        // `include/linux/sched.h`
        const PF_KTHREAD: u64 = 0x0020_0000;
        let mut bytes = Vec::new();
        read_all(&format!("/proc/{pid}/stat"), &mut bytes).ok()?;
        let stat = String::from_utf8_lossy(&bytes);
        // The name in parentheses may hold anything, parentheses too.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n).and_then(|s| s.parse().ok()).unwrap_or(0);
        Some(Stat {
            ended: matches!(fields.first(), Some(&"Z" | &"X")),
            is_kernel: number(6) & PF_KTHREAD != 0,
            threads: number(17),
            started: number(19),
        })
    }

    /// A dead leader with living threads is not a dead process.
    fn is_dead(&self) -> bool {
        self.ended && self.threads <= 1
    }
}

/// Reads a file of `/proc` into `to`, which grows to what it takes and keeps
/// it: most are read with one call, where `std::fs::read`, which is told that
/// they are empty, makes ten.
fn read_all(path: &str, to: &mut Vec<u8>) -> std::io::Result<()> {
    const ROOM: usize = 16 << 10;
    let mut file = std::fs::File::open(path)?;
    to.clear();
    loop {
        let len = to.len();
        to.resize(len + ROOM, 0);
        let n = file.read(to.get_mut(len..).unwrap_or_default())?;
        to.truncate(len + n);
        if n < ROOM {
            return Ok(());
        }
    }
}

/// Does one of the NUL-terminated entries begin like that?
fn has_entry(mut environment: &[u8], start: &[u8]) -> bool {
    loop {
        if environment.starts_with(start) {
            return true;
        }
        let Ok(entry) = CStr::from_bytes_until_nul(environment) else {
            return false;
        };
        let next = entry.to_bytes_with_nul().len();
        environment = environment.get(next..).unwrap_or_default();
    }
}

/// The names of the directories of processes.
fn pids() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| {
        let name = e.file_name();
        let is_pid = name.as_bytes().iter().all(u8::is_ascii_digit);
        is_pid.then(|| name.into_string().ok()).flatten()
    })
}

/// Inode of a process's pid name space, 0 if it cannot be asked.
fn pid_namespace(pid: &str) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/pid")).map_or(0, |m| m.ino())
}

/// Inode of a process's time namespace, 0 if it cannot be asked or there is
/// none.
fn time_namespace(pid: &str) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/time")).map_or(0, |m| m.ino())
}

/// The last number of the `NSpid:` line.
fn innermost_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}
