//! The run that this process belongs to: found once, mapped, never let go.
//!
//! With a launcher ([`attach`]) policy and state are memfds of the run. With a
//! plain preload ([`plain`]) the policy is compiled here, before `main`, and
//! the state is memory that fork children share. Either way the result is one
//! [`Run`], written once and then only read.

mod attach;
mod carry;
mod plain;
pub mod who;

pub use carry::{Carry, NAMES};
pub use plain::say;

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use bindgate_core::addr::Addr;
use bindgate_core::judge::block::{Block, Shares};
use bindgate_core::judge::fast::{self, LookedAt};
use bindgate_core::judge::lease;
use bindgate_core::judge::vsock;
use bindgate_core::policy::{Op, Times, Uses, View};
use bindgate_core::record::{Call, stage};
use bindgate_core::shared::{EXIT_CONFIG, State, door, option};

use crate::out::faults;
use crate::out::faults::guard;
use crate::own::{filter, process};
use crate::sys::{Allowed, Errno};
use crate::{real, sys};

/// Where the records of a plain preload go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sink {
    /// The ring, to the launcher's drainer.
    Ring,
    /// Nowhere: nobody asked for a log.
    Nowhere,
    /// Standard error.
    Stderr,
    /// The file named in [`Carry`].
    File,
}

/// Everything that a hook needs to know.
pub struct Run {
    /// The state that the processes of the run share.
    pub state: &'static State,
    /// Bits of [`option`], by the run's memory that nobody can write to.
    options: u32,
    /// The policy.
    pub view: View<'static>,
    /// Are verdicts only recorded?
    pub observe: bool,
    /// Where records go.
    pub sink: Sink,
    /// Into the ring, and nobody waits for each line ([`option::SYNC`]).
    pub is_brief: bool,
    /// Which binds need a look at the rules.
    pub looked_at: LookedAt<'static>,
    /// Is socket(2) judged: is there a rule about it, or are some sockets
    /// another one from their birth?
    pub judges_sockets: bool,
    /// Is connect(2) judged?
    pub judges_connects: bool,
    /// Does a broker bind ports that take a privilege ([`option::BROKER`])?
    pub has_broker: bool,
    /// Does a listen on a socket that has a port or name pass?
    pub passes_bound_listens: bool,
    /// May there be carriers in this run ([`Caller::has_carriers`])?
    ///
    /// [`Caller::has_carriers`]: bindgate_core::judge::Caller::has_carriers
    pub has_carriers: bool,
    /// The vsock host that the run is, if it is one.
    pub vsock: Option<vsock::Host<'static>>,
    /// The ports that the run leases.
    pub lease: Option<lease::Pool>,
    /// Is the run on a host that its policy describes and the model rules?
    pub is_ruled: bool,
    /// The block that is the run's loopback, if it has ports of its own.
    pub block: Option<Block>,
    /// What of the machine's loopback such a run shares.
    pub shares: Shares,
    /// JSON lines instead of text (plain preload).
    pub json: bool,
    /// Pid of the drainer, where `/proc` shows it; 0 where it does not.
    pub drainer: u32,
    /// What an exec must hand on.
    pub carry: Carry,
    /// The log of a plain preload: absolute and NUL-terminated.
    log: &'static [u8],
    /// Which file standard error was at the start, where there is a log file:
    /// its number may be another file's by the time of the exit.
    pub stderr: Option<(u64, u64)>,
}

impl Run {
    /// Absolute path of the log of a plain preload, NUL-terminated.
    pub fn log_path(&self) -> &[u8] {
        self.log
    }

    /// Does anybody of the run hold one of these two addresses? If nobody does,
    /// the virtual one is this socket's from now on, until a record with its
    /// cookie says that the bind failed, or the kernel that it is gone. `None`
    /// if nobody can answer: in a standalone preload, or when the daemon is
    /// gone. See [`attach::claim`] for when it may be asked.
    pub fn claim(&self, allowed: Allowed, claim: &door::Claim) -> Option<door::Answer> {
        (self.sink == Sink::Ring)
            .then(|| attach::claim(allowed, self.carry.run(), claim))
            .flatten()
    }

    /// Asks the host that the policy describes. `None` if nobody answers, when the
    /// daemon is gone. For when it may be asked see [`attach::claim`].
    pub fn ask_host(&self, allowed: Allowed, asks: &door::AskHost) -> Option<door::HostSays> {
        (self.sink == Sink::Ring)
            .then(|| attach::ask_host(allowed, self.carry.run(), asks))
            .flatten()
    }

    /// Has the run's port broker bind a socket; the answer for the program.
    pub fn bind_by_broker(&self, allowed: Allowed, fd: i32, addr: &Addr) -> Result<(), Errno> {
        attach::bind_by_broker(allowed, self.carry.run(), fd, addr)
    }

    /// Is a bit of [`option`] set?
    pub fn has_option(&self, bit: u32) -> bool {
        self.options & bit != 0
    }
}

impl Times for Run {
    fn take(&self, counter: u32, uses: Uses) -> bool {
        self.state.take(counter, uses)
    }
}

struct Cell(UnsafeCell<MaybeUninit<Run>>);
// SAFETY: written by the one thread that moved PHASE from UNTRIED to TRYING,
// read only after it stored READY.
unsafe impl Sync for Cell {}
#[unsafe(link_section = ".data")]
static RUN: Cell = Cell(UnsafeCell::new(MaybeUninit::uninit()));

const UNTRIED: u32 = 0;
const READY: u32 = 1;
const WITHOUT: u32 = 2;
/// Plus the id of the thread that is setting the run up: one word, so that a
/// signal handler on that thread can never find it without its owner.
const TRYING: u32 = 16;
#[unsafe(link_section = ".data")]
static PHASE: AtomicU32 = AtomicU32::new(UNTRIED);

/// Turns that a thread waits for another one's set-up: seconds, on a busy
/// machine. A fork child whose set-up was begun by a thread that it does not
/// have would wait for ever.
const PATIENCE: u32 = 100_000;

/// The run. `None` while it is being set up by this very thread, or if there
/// is none: then a hook only forwards.
#[inline]
pub fn get() -> Option<&'static Run> {
    match PHASE.load(Acquire) {
        READY => {
            // SAFETY: READY was stored after the value was written, and it is
            // never written again.
            Some(unsafe { (*RUN.0.get()).assume_init_ref() })
        }
        WITHOUT => None,
        _ => start(),
    }
}

/// What stands for [`bindgate_core::shared::Header::moves`] and its like until
/// there is a run, or if there is none.
static NOT_YET: AtomicU32 = AtomicU32::new(1);
#[unsafe(link_section = ".data")]
static NONE: AtomicU32 = AtomicU32::new(0);
/// Where to see whether the run has moved sockets, and such as were moved to a
/// Unix socket: for the hooks that have nothing to do without.
static MOVES: AtomicPtr<AtomicU32> = AtomicPtr::new((&raw const NOT_YET).cast_mut());
static UNIX_MOVES: AtomicPtr<AtomicU32> = AtomicPtr::new((&raw const NOT_YET).cast_mut());

/// May a socket be elsewhere than its program thinks?
#[inline(always)]
pub fn has_moves() -> bool {
    count(&MOVES) != 0
}

/// Which sends there is something to ask about, as bits of [`look_at`]: until
/// there is a run, all of them.
#[unsafe(link_section = ".data")]
static SENDS: AtomicU32 = AtomicU32::new(u32::MAX);

/// Bits of what [`looks_at`] is asked.
pub mod look_at {
    /// Sends that name a peer, of sockets that have their port.
    pub const NAMED: u32 = 1;
    /// Sends that name none, of sockets that may get a port by them.
    pub const UNNAMED: u32 = 1 << 1;
    /// All, for the end of a record: of vsock sockets that are Unix ones.
    pub const RECORDS: u32 = 1 << 2;
}

/// Is there something to ask about sends of this kind?
#[inline(always)]
pub fn looks_at(sends: u32) -> bool {
    SENDS.load(Relaxed) & sends != 0
}

/// The sends that the rules or the log of this run are about.
fn sends_of(run: &Run) -> u32 {
    let is_told = run.view.has_implicit_rules() || !run.has_option(option::SHOWN_ONLY);
    let bit = |is_looked_at: bool, bit: u32| if is_looked_at { bit } else { 0 };
    let is_named = run.judges_connects || run.block.is_some();
    bit(is_named, look_at::NAMED)
        | bit(is_told, look_at::UNNAMED)
        | bit(run.vsock.is_some(), look_at::RECORDS)
}

/// Is the run a vsock host?
#[unsafe(link_section = ".data")]
static VSOCK_HOST: AtomicBool = AtomicBool::new(false);

/// Has the run a block of its own for a loopback?
#[unsafe(link_section = ".data")]
static HAS_BLOCK: AtomicBool = AtomicBool::new(false);

/// Either of the two.
#[unsafe(link_section = ".data")]
static HOST: AtomicBool = AtomicBool::new(false);

/// Is the run a vsock host, or has it a block for a loopback?
#[inline(always)]
pub fn is_host() -> bool {
    HOST.load(Relaxed)
}

/// Has it? No, until there is a run.
#[inline(always)]
pub fn has_block() -> bool {
    HAS_BLOCK.load(Relaxed)
}

/// Has the program set `SO_RCVLOWAT` of a socket of the run's vsock host?
static COUNTS_BYTES: AtomicBool = AtomicBool::new(false);

/// Has the program, or the one that it is a fork of, set `SO_RCVLOWAT`?
pub fn counts_bytes() -> bool {
    COUNTS_BYTES.load(Relaxed)
}

/// It has.
pub fn count_bytes() {
    COUNTS_BYTES.store(true, Relaxed);
}

/// Is the run a vsock host? No, until there is a run.
#[inline(always)]
pub fn is_vsock_host() -> bool {
    VSOCK_HOST.load(Relaxed)
}

/// May a Unix socket stand in for another one?
#[inline(always)]
pub fn has_unix_moves() -> bool {
    count(&UNIX_MOVES) != 0
}

#[inline(always)]
fn count(of: &AtomicPtr<AtomicU32>) -> u32 {
    // SAFETY: it only ever points to a static, or into the state, which is
    // never unmapped.
    unsafe { (*of.load(Acquire)).load(Relaxed) }
}

fn count_in(moves: &'static AtomicU32, unix_moves: &'static AtomicU32) {
    MOVES.store((&raw const *moves).cast_mut(), Release);
    UNIX_MOVES.store((&raw const *unix_moves).cast_mut(), Release);
}

/// Sets the run up: from the constructor, or from the first hooked call if
/// that comes earlier.
#[cold]
fn start() -> Option<&'static Run> {
    let me = TRYING + sys::gettid(AT_START);
    if let Err(mut phase) = PHASE.compare_exchange(UNTRIED, me, AcqRel, Acquire) {
        for _ in 0..PATIENCE {
            // Our own set-up called a hook: that one forwards.
            if phase < TRYING || phase == me {
                break;
            }
            sys::yield_now(AT_START);
            phase = PHASE.load(Acquire);
        }
        return if phase == READY { get() } else { None };
    }
    faults::silence_panics();
    #[cfg(feature = "inject")]
    crate::inject::start();
    let found = guard(Call::Fault, stage::HOOK, || {
        real::warm();
        process::find_stack();
        if !carry::is_asked_for() {
            return Ok(None);
        }
        set_up()
    });
    let found = found.unwrap_or_else(|| {
        complain(&[b"a fault at start-up: not started"]);
        Err(Refused)
    });
    match found {
        Ok(Some(run)) => {
            // SAFETY: only this thread is here, and nobody reads before READY.
            unsafe { (*RUN.0.get()).write(run) };
            PHASE.store(READY, Release);
            let run = get();
            if let Some(run) = run {
                SENDS.store(sends_of(run), Relaxed);
                VSOCK_HOST.store(run.vsock.is_some(), Relaxed);
                HAS_BLOCK.store(run.block.is_some(), Relaxed);
                HOST.store(run.vsock.is_some() || run.block.is_some(), Relaxed);
                let header = &run.state.header;
                count_in(&header.moves, &header.unix_moves);
            }
            if !sys::may_read_counter(AT_START) {
                process::forbid_counter();
            } else if run.is_some_and(|run| run.has_option(option::COUNTER)) {
                process::use_counter();
            }
            if let Some(run) = run
                && run.sink == Sink::Ring
                && !filter::is_reduced(filter::allowed())
            {
                guard(Call::Fault, stage::RECORD, || process::slot(run));
            }
            run
        }
        Ok(None) => {
            PHASE.store(WITHOUT, Release);
            SENDS.store(0, Relaxed);
            count_in(&NONE, &NONE);
            None
        }
        Err(Refused) => sys::exit(EXIT_CONFIG),
    }
}

/// The program must not run; the reason is on standard error.
struct Refused;

/// Every set-up begins with these: a seccomp filter that forbids one of them
/// would have ended the loader before.
const AT_START: Allowed = Allowed::only(sys::allowed::needs::START);

fn set_up() -> Result<Option<Run>, Refused> {
    let is_filtered = sys::filter::is_there(AT_START);
    filter::set(if is_filtered { AT_START } else { Allowed::ALL });
    process::start(filter::allowed());
    let carry = Carry::take();
    let ticket = match carry.run() {
        b"" => None,
        text => Some(attach::ticket(text)?),
    };
    // What a filter lets through that was there before the run.
    let mut inherited = match &ticket {
        _ if !is_filtered => None,
        Some(ticket) => attach::inherited(ticket, sys::filter::count(AT_START)),
        None => of_container(AT_START),
    };
    if let Some(inherited) = inherited {
        filter::set(inherited);
    }
    let is_unknown = is_filtered && inherited.is_none();
    let found = match &ticket {
        None => plain::policy(&carry)?,
        Some(ticket) => attach::policy(ticket, is_unknown)?,
    };
    // Without /proc the daemon has counted them.
    if let (true, Some(ticket), Some(found)) = (is_unknown, &ticket, &found) {
        inherited = attach::inherited(ticket, found.filters);
        if let Some(inherited) = inherited {
            filter::set(inherited);
        }
    }
    let run = match found {
        Some(found) => join(carry, found).map(Some),
        None => Ok(None),
    };
    // Asked while it may be.
    let _ = process::ids();
    if is_filtered && inherited.is_none() {
        filter::set(Allowed::NONE);
    }
    run
}

/// Without a launcher: what the filters of a container let through. They are
/// those of its first process, which has started others, so that the calls can
/// be tried in children. What may be made under other filters nobody can tell:
/// the child alone could end the program.
fn of_container(allowed: Allowed) -> Option<Allowed> {
    let own = sys::filter::count(allowed)?;
    let first = sys::filter::count_in(allowed, b"/proc/1/status\0")?;
    (own == first).then(|| Allowed::only(sys::filter::trial()))
}

fn join(carry: Carry, found: Found) -> Result<Run, Refused> {
    let allowed = filter::allowed();
    let mut run = Run {
        observe: !found.view.is_enforcing() || found.options & option::OBSERVE != 0,
        state: found.state,
        options: found.options,
        is_brief: found.sink == Sink::Ring && found.options & option::SYNC == 0,
        looked_at: LookedAt::of(&found.view),
        judges_sockets: found.view.has_rules(Op::Socket),
        judges_connects: found.view.has_rules(Op::Connect) || found.view.has_followed(),
        has_broker: found.sink == Sink::Ring && found.options & option::BROKER != 0,
        passes_bound_listens: fast::passes_bound_listens(&found.view),
        has_carriers: false,
        vsock: vsock::Host::of(&found.view),
        lease: lease::Pool::of(&found.view),
        is_ruled: found.view.is_ruled(),
        block: block_of(&found),
        shares: found.state.shares(),
        view: remember_conditions(found.view),
        sink: found.sink,
        json: found.json,
        drainer: found.drainer,
        carry,
        log: &[0],
        stderr: None,
    };
    who::learn();
    run.has_carriers = crate::hook::caller(&run).has_carriers();
    if run.vsock.is_some() || run.block.is_some() {
        // Some sockets are elsewhere than their program thinks, from the start.
        let header = &run.state.header;
        header.moves.fetch_max(1, Relaxed);
        header.unix_moves.fetch_max(1, Relaxed);
    }
    if run.is_ruled {
        // Every call is asked about, and none goes a short way.
        (run.judges_sockets, run.judges_connects) = (true, true);
        (run.is_brief, run.passes_bound_listens) = (false, false);
        run.looked_at = LookedAt::All;
    }
    if run.has_carriers {
        (run.judges_sockets, run.judges_connects) = (true, true);
        // Each bind of one has to be looked at, whatever the rules say.
        if let LookedAt::None = run.looked_at {
            run.looked_at = LookedAt::All;
        }
    }
    if run.lease.is_some() || run.block.is_some() {
        run.looked_at = LookedAt::AllTheWay;
    }
    if run.sink == Sink::File {
        let mut path = [0; 1024];
        let Some(len) = absolute(run.carry.log(), &mut path) else {
            complain(&[b"BINDGATE_LOG: the path is too long"]);
            return Err(Refused);
        };
        run.log = carry::keep(path.get(..=len).unwrap_or(&[0]));
        run.stderr = sys::fstat(allowed, 2).ok().map(|st| (st.st_dev, st.st_ino));
    }
    Ok(run)
}

/// The block that is the run's loopback.
fn block_of(found: &Found) -> Option<Block> {
    Block::numbered(found.state.header.block.load(Relaxed))
}

struct Found {
    state: &'static State,
    options: u32,
    view: View<'static>,
    sink: Sink,
    json: bool,
    drainer: u32,
    /// How many filters bind this process, if the daemon was asked and knows.
    filters: Option<u32>,
}

/// Gives the view room to remember which `for` conditions hold: the program
/// and its script stay the same until the next exec.
fn remember_conditions(view: View<'static>) -> View<'static> {
    let count = view.conditions() as usize;
    if count == 0 {
        return view;
    }
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    match sys::mmap(filter::allowed(), count, prot, flags, -1) {
        Ok(at) => {
            // SAFETY: fresh zeroed memory of that size, never unmapped, of
            // atomics that any byte is a value of.
            let cache = unsafe { core::slice::from_raw_parts(at.cast::<AtomicU8>(), count) };
            view.with_cache(cache)
        }
        Err(_) => view,
    }
}

/// Makes a path absolute, in a buffer of zeros; its length. `None` if it does
/// not fit with its NUL.
fn absolute(name: &[u8], path: &mut [u8; 1024]) -> Option<usize> {
    let mut len = 0;
    if name.first() != Some(&b'/') {
        len = sys::getcwd(filter::allowed(), path).ok()?.saturating_sub(1);
        *path.get_mut(len)? = b'/';
        len += 1;
    }
    let name = name.strip_prefix(b"./").unwrap_or(name);
    path.get_mut(len..len + name.len())?.copy_from_slice(name);
    len += name.len();
    (len < path.len()).then_some(len)
}

/// Says on standard error why the program does not run. Control characters, of
/// C1 too, are `\xNN`; a message may have several lines.
fn complain(what: &[&[u8]]) {
    sys::write_all(AT_START, 2, b"bindgate: ");
    for part in what {
        let mut rest = *part;
        while let Some((first, after)) = rest.split_first() {
            let is_c1 = *first == 0xc2 && matches!(after.first(), Some(0x80..=0x9f));
            if is_c1 || (first.is_ascii_control() && *first != b'\n') {
                let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' - 10 + n };
                let escaped = [b'\\', b'x', digit(first >> 4), digit(first & 15)];
                sys::write_all(AT_START, 2, &escaped);
                rest = after;
                continue;
            }
            // As far as nothing has to be looked at.
            let plain = rest
                .iter()
                .skip(1)
                .position(|b| *b == 0xc2 || (b.is_ascii_control() && *b != b'\n'))
                .map_or(rest.len(), |n| n + 1);
            let (now, later) = rest.split_at_checked(plain).unwrap_or((rest, b""));
            sys::write_all(AT_START, 2, now);
            rest = later;
        }
    }
    sys::write_all(AT_START, 2, b"\n");
}
