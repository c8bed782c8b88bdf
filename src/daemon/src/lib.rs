//! The drainer: a process of its own that serves a run and writes its log.
//!
//! It is outside the program's ancestry and process group, so that neither a
//! Ctrl-C nor the launcher's end stops it, and it goes on until the last
//! process of the run is gone.
//!
//! | room | what lives there | thread |
//! |---|---|---|
//! | [`door`] | hands the run's memory out, hears the launcher | door |
//! | [`drain`] | takes records from the ring | main |
//! | [`sink`] | what is made of a decision: lines of text or JSON, sums | main |
//! | [`writer`] | writes them, to something that may block | writer |
//! | [`listing`] | what is bound right now, for `bindgate ls` | of its own |
//! | [`waiting`] | who waits for a server | both |
//! | [`predict`] | what the model says of a bind, who holds an address | main |
//! | [`space`], [`table`] | the bind tables of the run, one for each network namespace | both |
//! | [`relay`] | carries services into the run and out of it | relay |
//! | [`described`] | what a host that the policy describes answers | door |
//! | [`hosted`] | who bound the places of a vsock host | both |
//! | [`claims`] | whether an address is held that a hook asks for | door |
//! | [`callers`] | who the processes are | main |
//! | [`counter`] | what time it was | main |
//! | [`witness`] | was a signal for the whole group? | a process of its own |
//! | [`alive`] | who of the run is still there | main |

mod alive;
pub mod broker;
mod callers;
mod claims;
mod counter;
mod described;
mod door;
mod drain;
mod hosted;
mod listing;
mod predict;
pub mod relay;
mod sink;
mod space;
mod table;
mod vmm;
mod waiting;
mod why;
mod witness;
mod writer;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bindgate_core::judge::block::{Block, Share};
use bindgate_core::model::script::Described;
use bindgate_core::policy::View;
use bindgate_core::render::Detail;
use bindgate_core::shared::State;

use bindgate_os::doors::Doors;
use bindgate_os::network::Network;
use bindgate_os::vmm::Monitor;
use bindgate_os::{self as sys, Instant, process, unix};
use witness::Witness;

pub use counter::Counter;
pub use writer::Target;

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One line each, for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the launcher makes ready before the drainer starts.
pub struct Setup {
    /// The run.
    pub run_id: u64,
    /// What a process must know to join it: 32 hex digits.
    pub secret: [u8; 32],
    /// The compiled policy, and the memory file that holds it.
    pub policy: (Vec<u64>, OwnedFd),
    /// The memory file of the state.
    pub state: OwnedFd,
    /// Bits of [`bindgate_core::shared::option`].
    pub options: u32,
    /// Names that are the run's for as long as it lasts: the CID of the vsock host
    /// that it is, the ports that it leases.
    pub held: Vec<OwnedFd>,
    /// Where the run answers as a virtual machine monitor does.
    pub monitor: Option<Monitor>,
    /// The run's names, listening.
    pub doors: Doors,
    /// Where the log goes.
    pub target: Target,
    /// How it is written.
    pub format: Format,
    /// How much of it.
    pub detail: Detail,
    /// Does the launcher wait for the whole run?
    pub wait: bool,
    /// Does it wait for the drainer's end, if nothing of the run is left?
    pub reaps: bool,
    /// Are the rules listed that never matched?
    pub unused: bool,
    /// Is every listen(2) recorded, and the program's start?
    pub watched: bool,
    /// For a terminal?
    pub colour: bool,
    /// The program and its arguments.
    pub command: Vec<Vec<u8>>,
    /// When the run began, in nanoseconds since the epoch.
    pub since_ns: u64,
    /// Does its policy enforce?
    pub enforces: bool,
    /// The seccomp filters that the launcher was under, as in a ticket.
    pub filters: Option<(u32, u64)>,
    /// The library.
    pub library: PathBuf,
    /// Is the program to be in a network of its own?
    pub is_sealed: bool,
    /// The host that the policy describes, if it does.
    pub host: Option<Hosted>,
    /// The block that is its loopback, with what holds that; and what it shares.
    pub block: Option<Own>,
    /// What is carried into the run and out of it.
    pub services: Vec<relay::Service>,
    /// The port below which binds need a privilege where it will be.
    pub unprivileged_start: u16,
}

/// The host that a run is on, as its policy describes it.
#[derive(Clone, Debug)]
pub struct Hosted {
    /// What it is like.
    pub described: Described,
    /// Does the model rule? Else the kernel does, of the run's own network.
    pub is_ruled: bool,
    /// The lines of the policy that say so.
    pub lines: Vec<String>,
}

/// The block of a run that has ports of its own.
#[derive(Debug)]
pub struct Own {
    /// Which.
    pub block: Block,
    /// What of the machine's loopback is shared.
    pub shares: Vec<Share>,
    /// Holds the block, unless it is that of the run around this one.
    pub held: Option<OwnedFd>,
}

/// What the launcher tells the drainer, first byte of a message.
pub mod tell {
    /// The program is the process with this id.
    pub const PROGRAM: u8 = b'P';
    /// The program is gone: write what there is, and answer.
    pub const FLUSH: u8 = b'F';
    /// Open the log anew.
    pub const REOPEN: u8 = b'H';
    /// The run has a network of its own: its door in there, and the namespaces
    /// of the network and the user come with the message.
    pub const SEALED: u8 = b'N';
    /// A socket comes with the message that is held for as long as the run lasts. A
    /// second byte is the place, among the host's busy addresses, of the one whose
    /// clients are to come to it.
    pub const HELD: u8 = b'B';
    /// A socket in the run's own network comes with the message, at which a service of the
    /// machine is reached: its number in two bytes, and whether it is open to clients.
    pub const SHARED: u8 = b'S';
}

/// The drainer's answer to [`tell::FLUSH`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Refused operations.
    pub denied: u64,
    /// Lines that could not be written.
    pub unwritten: u64,
    /// Processes that go on.
    pub left: u64,
}

impl Report {
    const LEN: usize = 24;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let words = [self.denied, self.unwritten, self.left];
        for (to, word) in bytes.chunks_mut(8).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Report> {
        let word = |n: usize| {
            let bytes = bytes.get(n * 8..n * 8 + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        Some(Report {
            denied: word(0)?,
            unwritten: word(1)?,
            left: word(2)?,
        })
    }
}

/// The launcher's line to the drainer.
pub struct Handle {
    control: OwnedFd,
    /// The run's socket in the file system.
    file: Option<PathBuf>,
    /// The drainer's process id.
    pub pid: i32,
    /// Is it a child of the launcher?
    is_child: bool,
    /// The witness's process id, 0 if there is none.
    witness_pid: i32,
    /// Who tells signals to the group from signals to the launcher, if asked
    /// for.
    pub witness: Option<Witness>,
}

/// A drainer that is about to start.
pub struct Starting {
    control: OwnedFd,
    line: Option<OwnedFd>,
}

impl Starting {
    /// Forks a drainer for `setup`, and a witness if one is asked for.
    ///
    /// # Errors
    /// As fork(2) and socketpair(2).
    pub fn fork(setup: Setup, witness: bool) -> std::io::Result<(Starting, Setup)> {
        let (ours, theirs) = unix::pair()?;
        let (line, line_of_witness) = match witness {
            true => unix::pair().map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
            false => (None, None),
        };
        let Some(child) = process::fork()? else {
            drop((ours, line));
            let witness = match line_of_witness {
                Some(line) => witness::fork(&line),
                // Once more: the drainer is no child of the launcher, which
                // becomes the program.
                None => match process::fork() {
                    Ok(None) => None,
                    _ => process::exit_now(0),
                },
            };
            process::new_group();
            main(setup, theirs, witness);
            process::exit_now(0)
        };
        if !witness {
            process::wait(child, true)?;
        }
        let control = ours;
        Ok((Starting { control, line }, setup))
    }

    /// Waits until it serves the run.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait(self, file: Option<PathBuf>) -> std::io::Result<Handle> {
        let mut bytes = [0; 8];
        if unix::receive(&self.control, &mut bytes, true)? != 8 {
            return Err(std::io::Error::other("the log process did not start"));
        }
        let numbers = u64::from_ne_bytes(bytes);
        Ok(Handle {
            control: self.control,
            file,
            pid: numbers as i32,
            is_child: self.line.is_some(),
            witness_pid: (numbers >> 32) as i32,
            witness: self.line.map(Witness::new),
        })
    }
}

impl Handle {
    /// Says which process the program is.
    pub fn program(&self, pid: i32) {
        let mut message = vec![tell::PROGRAM];
        message.extend(pid.to_ne_bytes());
        let _ = unix::send(&self.control, &message);
    }

    /// Says that the run is in a network of its own, at whose name in there
    /// `door` listens.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn sealed(&self, door: &OwnedFd, network: &Network) -> std::io::Result<()> {
        let [net, user] = network.fds();
        let fds = [door.as_raw_fd(), net, user];
        unix::send_with(&self.control, &[tell::SEALED], &fds)
    }

    /// Has a socket held for as long as the run lasts.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn hold(&self, socket: &OwnedFd, of_busy: Option<u8>) -> std::io::Result<()> {
        let message = [tell::HELD, of_busy.unwrap_or(u8::MAX)];
        unix::send_with(&self.control, &message, &[socket.as_raw_fd()])
    }

    /// Has clients of a socket in the run's own network reach the service with this
    /// number; is it open to them?
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn share(&self, number: u16, socket: &OwnedFd, is_open: bool) -> std::io::Result<()> {
        let [low, high] = number.to_le_bytes();
        let message = [tell::SHARED, low, high, u8::from(is_open)];
        unix::send_with(&self.control, &message, &[socket.as_raw_fd()])
    }

    /// Has the log opened anew.
    pub fn reopen(&self) {
        let _ = unix::send(&self.control, &[tell::REOPEN]);
    }

    /// Has all written that the run did so far. An error if the drainer is
    /// gone, `None` if it is busy for longer than a user would wait.
    pub fn flush(&self) -> std::io::Result<Option<Report>> {
        const PATIENCE: u32 = 50;
        if let Err(e) = unix::send(&self.control, &[tell::FLUSH]) {
            // It ended before we came to ask, with a last word or without.
            return self.last_report().map(Some).ok_or(e);
        }
        for _ in 0..PATIENCE {
            let ready = sys::poll(&[self.control.as_raw_fd()], Duration::from_millis(100));
            if ready == [true] {
                let gone = || std::io::ErrorKind::UnexpectedEof.into();
                return self.report().map(Some).ok_or_else(gone);
            }
            // Ctrl-C while a pager holds up the log.
            if sys::signal::is_ending_pending() {
                break;
            }
        }
        Ok(None)
    }

    /// A report if one is there, `Some(None)` if the drainer is gone.
    pub fn try_report(&self) -> Option<Option<Report>> {
        let ready = sys::poll(&[self.control.as_raw_fd()], Duration::ZERO);
        (ready == [true]).then(|| self.report())
    }

    /// Removes the run's socket where nobody else does: the drainer was
    /// killed, or will be, as process 1 of a container ends.
    pub fn tidy(&self) {
        if let Some(file) = &self.file
            && (self.is_gone() || process::pid() == 1)
        {
            let _ = std::fs::remove_file(file);
        }
    }

    /// Sends the witness home: no signal is asked about any more.
    pub fn dismiss_witness(&mut self) {
        self.witness = None;
    }

    /// Sees to it that neither witness nor drainer stays a zombie, wherever
    /// that may be. Waits for the drainer if `with_drainer` and it has nothing
    /// left to do.
    pub fn reap(&mut self, with_drainer: bool) {
        self.dismiss_witness();
        if self.witness_pid != 0 {
            let _ = process::wait(self.witness_pid, true);
            self.witness_pid = 0;
        }
        if !self.is_child {
            return;
        }
        if (with_drainer && self.ends_soon()) || self.is_gone() {
            let _ = process::wait(self.pid, true);
            self.is_child = false;
        }
    }

    /// Waits for the drainer's end. Is that near? A report of processes that
    /// are left says no.
    fn ends_soon(&self) -> bool {
        const PATIENCE: Duration = Duration::from_secs(2);
        let start = Instant::now();
        while let Some(time) = PATIENCE.checked_sub(start.elapsed()) {
            if sys::poll(&[self.control.as_raw_fd()], time) != [true] {
                break;
            }
            match self.report() {
                None => return true,
                Some(report) if report.left > 0 => return false,
                Some(_) => {}
            }
        }
        false
    }

    fn is_gone(&self) -> bool {
        let mut bytes = [0; Report::LEN];
        loop {
            match unix::receive(&self.control, &mut bytes, false) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }

    /// The last report of a drainer that is gone.
    fn last_report(&self) -> Option<Report> {
        let mut last = None;
        while let Some(report) = self.report() {
            last = Some(report);
        }
        last
    }

    fn report(&self) -> Option<Report> {
        let mut bytes = [0; Report::LEN];
        let n = unix::receive(&self.control, &mut bytes, true).ok()?;
        Report::from_bytes(bytes.get(..n)?)
    }
}

/// What the threads share.
struct Shared {
    state: &'static State,
    /// The program is no more.
    program_gone: AtomicBool,
    /// The log is to be brought up to date, and the launcher told.
    flush: AtomicBool,
    /// Processes that asked for the run's memory.
    joined: AtomicU64,
    /// The bind tables.
    spaces: space::Shared,
    /// The host that the policy describes, if the model rules one.
    hosting: Option<described::Hosting>,
    /// The process of the program, once it is known.
    program: AtomicU32,
    /// The inode of the run's own network, once it has one.
    sealed: AtomicU64,
    /// How many times the ring was found empty.
    emptied: AtomicU64,
    /// What carries services into the run and out of it.
    relay: Option<relay::Relay>,
    /// Who waits for a server.
    waiting: waiting::Waiting,
    writer: writer::Writer,
    control: OwnedFd,
    /// Ends when the witness has let go of the state.
    witness: Option<OwnedFd>,
}

impl Shared {
    /// Wakes the main thread.
    fn ring(&self) {
        use std::sync::atomic::Ordering::Release;
        let bell = &self.state.header.doorbell;
        bell.fetch_add(1, Release);
        sys::futex_wake(bell);
    }

    /// Waits until the witness has let go of the state: it is not of the run.
    fn settle_witness(&self) {
        const PATIENCE: Duration = Duration::from_millis(500);
        if let Some(held) = &self.witness {
            sys::poll(&[held.as_raw_fd()], PATIENCE);
        }
    }

    fn send(&self, report: Report) {
        let _ = unix::send(&self.control, &report.to_bytes());
    }
}

/// The life of the drainer.
fn main(mut setup: Setup, control: OwnedFd, witness: Option<witness::Child>) {
    process::set_name(c"bindgate-log");
    // The address space may be limited: one heap serves all threads.
    sys::use_one_heap();
    let mut keep = vec![
        setup.policy.1.as_raw_fd(),
        setup.state.as_raw_fd(),
        control.as_raw_fd(),
    ];
    keep.extend(setup.doors.fds().into_iter().filter(|fd| *fd >= 0));
    keep.extend(setup.target.fd());
    keep.extend(setup.held.iter().map(AsRawFd::as_raw_fd));
    let held = setup.block.as_ref().and_then(|own| own.held.as_ref());
    keep.extend(held.map(AsRawFd::as_raw_fd));
    let sockets = setup.services.iter().filter_map(|s| s.socket.as_ref());
    keep.extend(sockets.map(AsRawFd::as_raw_fd));
    keep.extend(
        setup
            .monitor
            .as_ref()
            .map(|monitor| monitor.fd().as_raw_fd()),
    );
    keep.extend(witness.as_ref().map(|child| child.holds.as_raw_fd()));
    let debugging = log::log_enabled!(log::Level::Warn);
    if debugging {
        keep.push(2);
    }
    sys::close_all_but(&keep);
    // So that nothing else gets these numbers.
    for _ in 0..if debugging { 2 } else { 3 } {
        if let Ok(null) = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
        {
            let _ = std::os::fd::IntoRawFd::into_raw_fd(null);
        }
    }
    // Nobody's directory is kept busy.
    let _ = std::env::set_current_dir("/");

    // An open of its own, so that the kernel can tell when it is the last.
    let counted = match process::reopen(&setup.state) {
        Ok(fd) => sys::replace(&fd, &mut setup.state).is_ok(),
        Err(_) => false,
    };
    let setup: &'static Setup = Box::leak(Box::new(setup));
    serve(setup, control, counted, witness);
    setup.doors.clear();
    if let Some(monitor) = &setup.monitor {
        monitor.clear();
    }
}

/// Serves the run to its end. `counted`: does the kernel tell when the
/// drainer's open of the state is the last?
fn serve(setup: &'static Setup, control: OwnedFd, counted: bool, witness: Option<witness::Child>) {
    let pid_of_witness = witness.as_ref().map_or(0, |child| child.pid);
    let Ok(state) = sys::map_state(&setup.state) else {
        return;
    };
    // The program may fill the ring before the drainer gets its first turn.
    if let Some(own) = &setup.block {
        state.header.block.store(own.block.number(), Relaxed);
        for share in &own.shares {
            state.share(share);
        }
    }
    state.start(setup.run_id, setup.unprivileged_start);
    let relay = match setup.services.is_empty() {
        true => None,
        false => match relay::Relay::new() {
            Ok(relay) => Some(relay),
            Err(_) => return,
        },
    };
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        state,
        program_gone: AtomicBool::new(false),
        flush: AtomicBool::new(false),
        joined: AtomicU64::new(0),
        spaces: space::Shared::new(),
        hosting: setup
            .host
            .as_ref()
            .filter(|host| host.is_ruled)
            .and_then(|host| described::Hosting::new(&host.described, !setup.is_sealed)),
        program: AtomicU32::new(0),
        sealed: AtomicU64::new(0),
        emptied: AtomicU64::new(0),
        relay,
        waiting: waiting::Waiting::new(state, setup.watched),
        writer: writer::Writer::new(),
        control,
        witness: witness.map(|child| child.holds),
    }));
    let Ok(view) = View::new(&setup.policy.0) else {
        return;
    };
    let spawn = |name: &str, f: fn(&'static Shared, &'static Setup)| {
        thread::Builder::new()
            .name(name.into())
            .stack_size(128 << 10)
            .spawn(move || f(shared, setup))
    };
    if setup.monitor.is_some() && spawn("bindgate-vmm", vmm::run).is_err() {
        return;
    }
    if spawn("bindgate-door", door::run).is_err()
        || spawn("bindgate-write", |shared, setup| {
            let is_text = setup.format == Format::Text;
            shared.writer.run(&setup.target, is_text);
        })
        .is_err()
    {
        return;
    }
    if let Some(relay) = &shared.relay
        && relay.start(shared, setup).is_err()
    {
        return;
    }
    // The run is served from here on: whatever it took was there.
    let [own, other] = [process::pid(), pid_of_witness].map(|n| u64::from(n.cast_unsigned()));
    let _ = unix::send(&shared.control, &(own | other << 32).to_ne_bytes());
    let alive = alive::Alive::new(state, counted.then_some(&setup.state), setup.run_id);
    drain::Drainer::new(shared, setup, view, alive).run();
    if let Some(relay) = &shared.relay {
        relay.finish();
    }
}
