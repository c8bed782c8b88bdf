//! The layout of the state that the processes of a run share.
//!
//! [`State`] is mapped read-write into every process of a run and into the
//! drainer. It holds plain atomics only: no pointers, no lengths that are
//! trusted, nothing that a scribbling program can turn into more than a wrong
//! line in a log. All zero bytes are a valid, empty state.
//!
//! What may be touched: a field is added at the end of its structure's spare
//! words; anything else raises [`VERSION`].

pub mod door;
mod held;
mod lease;
mod moves;
mod options;
mod ports;
mod process;
mod ring;
mod ticket;

pub use held::Held;
pub use lease::{LEASES, Leases, Taken};
pub use moves::{
    MOVES, Moved, Moves, NAME_KEY, PEER_KEY, Sweep, Tag, kind as move_kind, mark as move_mark,
};
pub use options::{OPTIONS, Options, OptionsSweep};
pub use ports::{AUTOMATIC, Kind as PortKind, MANY as MANY_ADDRESSES, Ports};
pub use process::{PROCESSES, Process, ProcessInfo, Processes};
pub use ring::{Claim, Drain, Popped, Push, RESERVED, Ring, SLOTS};
pub use ticket::Ticket;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::judge::block;
use crate::policy::Uses;

/// First word of a state: `bindgate` in ASCII.
pub const MAGIC: u64 = u64::from_be_bytes(*b"bindgate");
/// Raised whenever the layout of [`State`] or of a record changes.
pub const VERSION: u32 = 7;
/// Most counters of a policy: of `times`, `after` and `every`.
pub const COUNTERS: usize = 1024;

/// Name of the environment variable that tells a process which run it is in.
pub const ENV_RUN: &str = "BINDGATE_RUN";
/// What a run's id (16 hex digits) follows in the abstract Unix name at which
/// its log process hands out its memory.
pub const DOOR: &[u8; 9] = b"bindgate/";
/// What the id follows in the name of the run's port broker.
pub const PORTS: &[u8; 15] = b"bindgate-ports/";
/// The same in the path of a Unix socket, which other network name spaces
/// reach too.
pub const DOOR_FILE: &[u8; 15] = b"/tmp/.bindgate-";
/// Rules for a plain preload, as the policy language writes them.
pub const ENV_RULES: &str = "BINDGATE_RULES";
/// Policy file for a plain preload.
pub const ENV_POLICY: &str = "BINDGATE_POLICY";
/// Log file for a plain preload; `-` is standard error.
pub const ENV_LOG: &str = "BINDGATE_LOG";
/// `text` (default) or `json`, for a plain preload.
pub const ENV_FORMAT: &str = "BINDGATE_FORMAT";

/// The moved sockets of a plain preload, from one program to the next over an
/// exec: each [`Moved::to_bytes`] in hex digits.
pub const ENV_MOVED: &str = "BINDGATE_MOVED";
/// Words of [`option::WORDS`] with commas between them, for a plain preload.
pub const ENV_OPTIONS: &str = "BINDGATE_OPTIONS";

/// Exit status of a run that must not start, and of a preloaded program whose
/// policy is broken (`EX_CONFIG` of sysexits).
pub const EXIT_CONFIG: i32 = 78;

/// Bits of a run's options. They are the first word of the policy's memory file,
/// which no program can write to; the compiled policy follows.
pub mod option {
    /// `run --let-go`: a program that drops the preload on purpose may.
    pub const LET_GO: u32 = 1;
    /// `run --allow-unintercepted`: children that cannot be intercepted may
    /// start.
    pub const ALLOW_UNINTERCEPTED: u32 = 1 << 1;
    /// `run --observe`: whatever the policy's mode says.
    pub const OBSERVE: u32 = 1 << 2;
    /// A record has to be written before the call returns: with the program
    /// as pid 1 of a name space the drainer dies when it ends, at once. See
    /// [`super::Header::settled`].
    pub const SYNC: u32 = 1 << 3;

    /// The time of a record may be the processor's counter
    /// ([`crate::record::flag::COUNTER`]): the kernel's clock is, too. Of a
    /// launcher on the same kind of processor: a program in an emulator has
    /// another counter.
    pub const COUNTER: u32 = if cfg!(target_arch = "aarch64") {
        1 << 6
    } else {
        1 << 4
    };

    /// The log shows no granted socket() and no implicit bind on the way of
    /// connect() or a send, where no rule has a say in them: they need no
    /// record. See [`crate::render::is_shown`].
    pub const SHOWN_ONLY: u32 = 1 << 5;

    /// The run has a port broker ([`super::PORTS`]).
    pub const BROKER: u32 = 1 << 7;

    /// The words of `BINDGATE_OPTIONS`, named as the launcher's flags; the
    /// third is an older name of the second.
    pub const WORDS: [(&str, u32); 4] = [
        ("let-go", LET_GO),
        ("allow-unintercepted", ALLOW_UNINTERCEPTED),
        ("allow-unseen", ALLOW_UNINTERCEPTED),
        ("observe", OBSERVE),
    ];
}

/// What there is one of.
#[repr(C, align(64))]
pub struct Header {
    /// [`MAGIC`], written last by the launcher.
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// `size_of::<State>()`.
    pub size: AtomicU64,
    /// Random id of the run.
    pub run_id: AtomicU64,
    /// How often the daemon has looked at the ring. A count and not a time:
    /// the clock of a process in another time namespace says something else.
    pub heartbeats: AtomicU64,
    /// One more than the number of heartbeats after which a process waited in
    /// vain for the next one: the others need not wait as well.
    pub silent_after: AtomicU64,
    /// `ip_unprivileged_port_start` where the run was started.
    pub unprivileged_start: AtomicU32,
    /// How many entries the moves table ever got: 0 means that no socket of
    /// the run needs a second look.
    pub moves: AtomicU32,
    /// How many of them were moved to a Unix socket.
    pub unix_moves: AtomicU32,
    /// Executables that could not be seen and were started.
    pub unseen: AtomicU32,
    /// Records that found no room, with the drainer stopped or gone.
    pub lost: AtomicU64,
    /// Faults inside the shim.
    pub faults: AtomicU64,
    /// Futex word: the drainer sleeps on it.
    pub doorbell: AtomicU32,
    /// Futex word: writers who found the ring full sleep on it.
    pub room: AtomicU32,
    /// Refused operations, for `--fail-on deny`.
    pub denied: AtomicU64,
    /// Under [`option::SYNC`]: ring position up to which all is written. A
    /// writer rings the doorbell and waits on `room` until it is beyond its
    /// own record, for as long as the heart beats.
    pub settled: AtomicU64,
    /// Slots of the process table that were ever taken: a process that came
    /// since one last looked makes it another number.
    pub entered: AtomicU32,
    /// The next automatic port of the vsock host that the run is.
    pub vsock_next: AtomicU32,
    /// The number of the block that is the run's loopback
    /// ([`crate::judge::block`]), or 0.
    pub block: AtomicU32,
    /// The services of the machine's loopback that a run with a block shares, each
    /// as [`State::share`] writes it.
    pub shares: [AtomicU64; 16],
}

/// Everything that the processes of a run share.
#[repr(C, align(4096))]
pub struct State {
    /// What there is one of.
    pub header: Header,
    /// What was counted of each `times N`, `after N`, `every N`.
    pub times: [AtomicU32; COUNTERS],
    /// One bit for each port that a moved socket really has: a cheap "no".
    ports: [AtomicU64; 1024],
    /// Processes that made a record.
    pub processes: Processes,
    /// Sockets that are elsewhere than their program thinks.
    pub moves: Moves,
    /// Options of sockets that were moved to another family.
    pub socket_options: Options,
    /// How the ports of the run's vsock host are held.
    pub vsock_held: Held,
    /// The ports that the run leases: of TCP, of UDP.
    pub leases: [Leases; 2],
    /// The ports of a run that has a block.
    pub block_ports: Ports,
    /// Decisions on their way to the log.
    pub ring: Ring,
}

impl State {
    /// Bytes of the mapping.
    pub const SIZE: usize = size_of::<State>();

    /// The part that only a policy which moves or hides sockets makes use of.
    pub const FOR_MOVES: core::ops::Range<usize> =
        core::mem::offset_of!(State, moves)..core::mem::offset_of!(State, block_ports);

    /// The part that only a run with a block makes use of, little of it.
    pub const FOR_PORTS: core::ops::Range<usize> =
        core::mem::offset_of!(State, block_ports)..core::mem::offset_of!(State, ring);

    /// Makes an all-zero state a run's state.
    pub fn start(&self, run_id: u64, unprivileged_start: u16) {
        let h = &self.header;
        h.version.store(VERSION, Relaxed);
        h.size.store(Self::SIZE as u64, Relaxed);
        h.run_id.store(run_id, Relaxed);
        h.unprivileged_start
            .store(u32::from(unprivileged_start), Relaxed);
        h.magic.store(MAGIC, core::sync::atomic::Ordering::Release);
    }

    /// Is this the state of run `run_id`, with the layout known here?
    #[must_use]
    pub fn is_run(&self, run_id: u64) -> bool {
        use core::sync::atomic::Ordering::Acquire;
        let h = &self.header;
        // Written, though with what is there: to read from a page first that
        // this process does not have yet makes the kernel bring its
        // neighbours, too.
        h.magic.compare_exchange(MAGIC, MAGIC, Acquire, Acquire) == Ok(MAGIC)
            && h.version.load(Relaxed) == VERSION
            && h.size.load(Relaxed) == Self::SIZE as u64
            && h.run_id.load(Relaxed) == run_id
    }

    /// Makes a run with a block share a service of the machine's loopback: false if
    /// there is no room for one more, or if it is none.
    pub fn share(&self, share: &block::Share) -> bool {
        let Some(word) = share.word() else {
            return false;
        };
        let free = |slot: &&AtomicU64| slot.load(Relaxed) == 0;
        match self.header.shares.iter().find(free) {
            Some(slot) => slot.store(word, Relaxed),
            None => return false,
        }
        true
    }

    /// What of the machine's loopback a run with a block shares.
    #[must_use]
    pub fn shares(&self) -> block::Shares {
        let mut shares = [None; 16];
        for (to, word) in shares.iter_mut().zip(&self.header.shares) {
            *to = block::Share::of_word(word.load(Relaxed));
        }
        shares
    }

    /// Counts a match of a rule that says `times`, `after` or `every`. Is it the rule's?
    #[must_use]
    pub fn take(&self, counter: u32, uses: Uses) -> bool {
        let Some(used) = self.times.get(counter as usize) else {
            return false;
        };
        let next = |n| Some(uses.next(n)).filter(|next| *next != n);
        let (Ok(before) | Err(before)) = used.fetch_update(Relaxed, Relaxed, next);
        uses.takes(before)
    }

    /// The leases of sockets of this kind.
    #[must_use]
    pub fn leases_of(&self, kind: PortKind) -> &Leases {
        let [tcp, udp] = &self.leases;
        match kind {
            PortKind::Tcp => tcp,
            PortKind::Udp => udp,
        }
    }

    /// Marks `port` as one that a moved socket really has.
    pub fn mark_port(&self, port: u16) {
        if let Some(word) = self.ports.get(usize::from(port) / 64) {
            word.fetch_or(1 << (port % 64), Relaxed);
        }
    }

    /// May a socket at `port` be a moved one? Any, once port 0 was marked: of a
    /// socket that gets its port by connecting.
    #[must_use]
    pub fn may_be_moved(&self, port: u16) -> bool {
        let is_marked = |port: u16| {
            self.ports
                .get(usize::from(port) / 64)
                .is_some_and(|word| word.load(Relaxed) & 1 << (port % 64) != 0)
        };
        is_marked(port) || is_marked(0)
    }
}

/// A fresh all-zero state on the heap, for tests.
#[cfg(all(test, not(loom)))]
pub(crate) fn zeroed() -> std::boxed::Box<State> {
    use std::boxed::Box;
    // Built field by field: the core has no unsafe to zero memory with.
    Box::new(State {
        header: Header {
            magic: AtomicU64::new(0),
            version: AtomicU32::new(0),
            size: AtomicU64::new(0),
            run_id: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            silent_after: AtomicU64::new(0),
            unprivileged_start: AtomicU32::new(0),
            moves: AtomicU32::new(0),
            unix_moves: AtomicU32::new(0),
            unseen: AtomicU32::new(0),
            lost: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            doorbell: AtomicU32::new(0),
            room: AtomicU32::new(0),
            denied: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            entered: AtomicU32::new(0),
            vsock_next: AtomicU32::new(0),
            block: AtomicU32::new(0),
            shares: [const { AtomicU64::new(0) }; 16],
        },
        times: [const { AtomicU32::new(0) }; COUNTERS],
        ports: [const { AtomicU64::new(0) }; 1024],
        processes: Processes::new(),
        moves: Moves::new(),
        socket_options: Options::new(),
        vsock_held: Held::new(),
        leases: [Leases::new(), Leases::new()],
        block_ports: Ports::new(),
        ring: Ring::new(),
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_until_they_are_used_up() {
        std::thread::Builder::new()
            .stack_size(64 << 20)
            .spawn(|| {
                let state = zeroed();
                assert!(state.take(3, Uses::Times(2)));
                assert!(state.take(3, Uses::Times(2)));
                assert!(!state.take(3, Uses::Times(2)));
                assert!(!state.take(4, Uses::Every(2)));
                assert!(state.take(4, Uses::Every(2)));
                assert!(!state.take(COUNTERS as u32, Uses::Times(2)));
                state.start(7, 1024);
                assert!(state.is_run(7) && !state.is_run(8));
                state.mark_port(8080);
                assert!(state.may_be_moved(8080) && !state.may_be_moved(8081));
            })
            .unwrap()
            .join()
            .unwrap();
    }
}
