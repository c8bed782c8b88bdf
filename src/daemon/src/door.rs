//! The door of a run: processes that join it are handed its memory here, and
//! the launcher's messages arrive.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bindgate_core::addr::RawAddr;
use bindgate_core::judge::host;
use bindgate_core::model::Cred;
use bindgate_core::shared::Ticket;
use bindgate_core::shared::door::{
    Answer, AskHost, Claim, ENTER, HELLO, HostCall, HostSays, LIST, SECRET, SIGNAL, WAIT,
    handed_out,
};

use super::alive::Alive;
use super::claims::{self, Found};
use super::described::{self, Said};
use super::{Setup, Shared, listing, space, tell};
use bindgate_os::network::Network;
use bindgate_os::{self as sys, Instant, process, signal, unix};

/// How long records that are on their way may take.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// A question to the host that waits for records.
struct Deferred {
    fd: OwnedFd,
    asks: AskHost,
    pid: u32,
    cred: Cred,
    since: Instant,
    /// How often the ring will have been found empty then.
    until: u64,
}

/// How often somebody who waits has the kernel asked as well: a program that cannot be
/// intercepted makes no records.
const UNRECORDED: Duration = Duration::from_millis(500);

/// How long a stranger may keep a connection without a word.
const PATIENCE: Duration = Duration::from_secs(2);

struct Door {
    shared: &'static Shared,
    setup: &'static Setup,
    /// Connected, and not yet heard.
    waiting: Vec<(OwnedFd, Instant)>,
    /// Heard, and not yet answered.
    deferred: Vec<Deferred>,
    launcher: bool,
    program: Option<OwnedFd>,
    /// The run's name in its own network.
    inner: Option<OwnedFd>,
    /// Sockets that hold addresses for as long as the run lasts.
    held: Vec<OwnedFd>,
}

/// Those who want to look, and have no answer yet.
struct Lookers {
    waiting: Vec<OwnedFd>,
    /// Does somebody wait for a server that may be there already?
    is_awaited: bool,
    /// Is there a thread that answers them?
    is_answered: bool,
}

static LOOKERS: Mutex<Lookers> = Mutex::new(Lookers {
    waiting: Vec::new(),
    is_awaited: false,
    is_answered: false,
});

impl Lookers {
    /// All that wait; the thread that answers ends where there are none.
    fn next() -> Option<Vec<OwnedFd>> {
        let mut lookers = LOOKERS.lock().unwrap_or_else(PoisonError::into_inner);
        lookers.is_answered = !lookers.waiting.is_empty() || lookers.is_awaited;
        lookers.is_awaited = false;
        lookers
            .is_answered
            .then(|| std::mem::take(&mut lookers.waiting))
    }
}

/// Serves until the process ends.
pub fn run(shared: &'static Shared, setup: &'static Setup) {
    let hup = signal::watch(libc::SIGHUP).ok();
    let tidying = std::thread::Builder::new()
        .name("bindgate-tidy".into())
        .stack_size(128 << 10);
    let _ = tidying.spawn(bindgate_os::doors::clear_dead);
    let mut door = Door {
        shared,
        setup,
        waiting: Vec::new(),
        deferred: Vec::new(),
        launcher: true,
        program: None,
        inner: None,
        held: Vec::new(),
    };
    let or_none = |fd: Option<&OwnedFd>| fd.map_or(-1, AsRawFd::as_raw_fd);
    let mut looked = Instant::now();
    loop {
        let [name, file] = setup.doors.fds();
        let mut fds: Vec<RawFd> = vec![
            name,
            if door.launcher {
                shared.control.as_raw_fd()
            } else {
                -1
            },
            or_none(hup.as_ref()),
            or_none(door.program.as_ref()),
            file,
            or_none(door.inner.as_ref()),
        ];
        fds.extend(door.waiting.iter().map(|(fd, _)| fd.as_raw_fd()));
        // Who waits for a server says nothing more, and goes.
        let there = shared.waiting.fds();
        let first = fds.len();
        fds.extend(there.iter().map(|fd| fd.as_raw_fd()));
        let patience = match (door.deferred.is_empty(), door.waiting.is_empty()) {
            (false, _) => Duration::from_millis(1),
            _ if !there.is_empty() => UNRECORDED,
            (true, false) => PATIENCE,
            (true, true) => Duration::MAX,
        };
        let ready = sys::poll(&fds, patience);
        if !there.is_empty() && looked.elapsed() >= UNRECORDED {
            looked = Instant::now();
            door.look(|lookers| lookers.is_awaited = true);
        }
        let is = |n: usize| ready.get(n).copied().unwrap_or(false);
        door.hear(|n| is(6 + n));
        for (n, fd) in there.iter().enumerate().filter(|(n, _)| is(first + n)) {
            log::debug!("waiter {n} has gone");
            shared.waiting.gone(fd.as_raw_fd());
        }
        if is(0) || is(4) || is(5) {
            door.open();
        }
        door.answer_deferred();
        if is(1) {
            door.order();
        }
        if is(2) {
            let mut drop = [0; 128];
            if let Some(hup) = &hup {
                let _ = sys::read(hup, &mut drop);
            }
            shared.writer.reopen();
        }
        if is(3) {
            door.program = None;
            door.program_gone();
        }
    }
}

impl Door {
    /// Lets in whoever knocks.
    fn open(&mut self) {
        let next = |inner: Option<&OwnedFd>| {
            let within = || unix::accept(inner?).ok().flatten();
            self.setup.doors.accept().or_else(within)
        };
        while let Some(fd) = next(self.inner.as_ref()) {
            if let Some(fd) = self.answer(fd) {
                self.waiting.push((fd, Instant::now()));
            }
        }
    }

    /// Answers those who have spoken, and shows the silent out.
    fn hear(&mut self, ready: impl Fn(usize) -> bool) {
        let before = std::mem::take(&mut self.waiting);
        for (n, (fd, since)) in before.into_iter().enumerate() {
            let fd = if ready(n) { self.answer(fd) } else { Some(fd) };
            match fd {
                Some(fd) if since.elapsed() < PATIENCE => self.waiting.push((fd, since)),
                Some(fd) => {
                    let _unheld = signal::Unheld::new();
                    drop(fd);
                }
                None => {}
            }
        }
    }

    /// Answers what is said, if the secret is right. Gives the connection back
    /// if nothing was said yet.
    fn answer(&mut self, fd: OwnedFd) -> Option<OwnedFd> {
        let mut said = [0; AskHost::LEN];
        let unheld = signal::Unheld::new();
        let n = match unix::receive(&fd, &mut said, false) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Some(fd),
            Err(_) => {
                drop(fd);
                return None;
            }
        };
        match said.get(..n) {
            Some(said) if said == LIST => {
                self.asked(fd);
                return None;
            }
            Some(said) if said.starts_with(WAIT) => {
                if Self::is_owner(&fd)
                    && self
                        .shared
                        .waiting
                        .add(fd, said.get(WAIT.len()..).unwrap_or_default())
                {
                    self.look(|lookers| lookers.is_awaited = true);
                }
                return None;
            }
            Some(said) if said.starts_with(SIGNAL) => {
                if let (Some(number), true) = (said.get(SIGNAL.len()), Self::is_owner(&fd)) {
                    let alive = Alive::new(self.shared.state, None, self.setup.run_id);
                    let count = alive.signal(i32::from(*number));
                    let _ = unix::send(&fd, &count.to_ne_bytes());
                }
                drop(fd);
                return None;
            }
            Some(said) if said == ENTER => {
                self.asked_to_enter(&fd);
                drop(fd);
                return None;
            }
            _ => {}
        }
        if said.get(..SECRET) != Some(&self.setup.secret[..]) {
            drop(fd);
            return None;
        }
        drop(unheld);
        match n {
            HELLO => self.hand_out(&fd),
            Claim::LEN => {
                let claim = Claim::from_bytes(said.first_chunk()?)?;
                let answer = self.claim(&claim, process::peer(&fd));
                let _ = unix::send(&fd, &answer.to_bytes());
            }
            AskHost::LEN => {
                let asks = AskHost::from_bytes(&said)?;
                self.asked_of_host(fd, asks);
            }
            _ => {}
        }
        None
    }

    /// May whoever is at the other end know everything of the run? It knows no
    /// secret, but it could read it where the run's programs have it.
    fn is_owner(fd: &OwnedFd) -> bool {
        let user = process::peer_user(fd);
        user.is_some_and(|user| user == 0 || user == process::effective_uid())
    }

    /// Answers one who wants to look, on a thread of its own: others wait here. All
    /// that have come until it begins get the same answer.
    fn asked(&self, fd: OwnedFd) {
        /// As many may wait.
        const MOST: usize = 1024;
        if !Self::is_owner(&fd) {
            return;
        }
        self.look(|lookers| {
            if lookers.waiting.len() < MOST {
                lookers.waiting.push(fd);
            }
        });
    }

    /// Has a thread look that answers those who are added.
    fn look(&self, add: impl FnOnce(&mut Lookers)) {
        let mut lookers = LOOKERS.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut lookers);
        if lookers.is_answered {
            return;
        }
        let (shared, setup) = (self.shared, self.setup);
        let thread = std::thread::Builder::new().name("bindgate-list".into());
        let spawned = thread.stack_size(512 << 10).spawn(move || {
            while let Some(all) = Lookers::next() {
                let text = listing::json(shared, setup);
                // Whoever waits has been told by then.
                for fd in all {
                    // Each has a place of its own in what it reads.
                    let sent = sys::memory("bindgate-list", 0).and_then(|file| {
                        let mut file = std::fs::File::from(file);
                        file.write_all(text.as_bytes())?;
                        unix::send_with(&fd, b"ok", &[file.as_raw_fd()])
                    });
                    if let Err(e) = sent {
                        log::warn!("the run could not be listed: {e}");
                    }
                }
            }
        });
        match spawned {
            Ok(_) => lookers.is_answered = true,
            Err(_) => {
                lookers.waiting.clear();
                lookers.is_awaited = false;
            }
        }
    }

    /// Answers one who wants to run a command in the run.
    fn asked_to_enter(&self, fd: &OwnedFd) {
        use std::os::unix::ffi::OsStrExt;
        if !Self::is_owner(fd) {
            return;
        }
        // Somebody will come.
        self.shared.joined.fetch_add(1, Relaxed);
        let setup = self.setup;
        let ticket = Ticket {
            run: setup.run_id,
            secret: setup.secret,
            daemon: process::pid().cast_unsigned(),
            policy: setup.policy.1.as_raw_fd().cast_unsigned(),
            state: setup.state.as_raw_fd().cast_unsigned(),
            enforces: setup.enforces || setup.block.is_some(),
            has_file: setup.doors.path().is_some(),
            filters: setup.filters,
        };
        let mut message = ticket.to_string().into_bytes();
        message.push(0);
        message.extend(setup.library.as_os_str().as_bytes());
        let sent = match self.shared.spaces.ask().sealed() {
            Some(fds) => unix::send_with(fd, &message, &fds),
            // Between its start and the making of its network there is none.
            None if setup.is_sealed => Ok(()),
            None => unix::send(fd, &message),
        };
        if let Err(e) = sent {
            log::warn!("nobody could be let in: {e}");
        }
    }

    /// Does anybody hold the address that process `pid` wants to redirect a
    /// socket from?
    fn claim(&self, claim: &Claim, pid: u32) -> Answer {
        let network = space::of_process(&pid.to_string());
        let start = Instant::now();
        let mut until = None;
        loop {
            // Before the answer: what was read by then is in it.
            let emptied = self.shared.emptied.load(Acquire);
            let mut spaces = self.shared.spaces.ask();
            let space = spaces.get(network, pid);
            match claims::answer(space, claim) {
                Found::Answer(answer) => return answer,
                Found::Pending(pending) => {
                    drop(spaces);
                    // What became of that bind may be in the ring, also of one who has
                    // died since: its record, read after somebody else had got the
                    // address, would show that one to have left it.
                    // Twice: the first may have been under way before.
                    let enough = *until.get_or_insert(emptied + 2);
                    if emptied >= enough || start.elapsed() > ON_THE_WAY {
                        if self.lives(pending.process) {
                            return Answer::Held(pending.holder);
                        }
                        let mut spaces = self.shared.spaces.ask();
                        claims::drop_claim(spaces.get(network, pid), pending.holder.cookie);
                        until = None;
                        continue;
                    }
                    self.shared.ring();
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        }
    }

    /// Somebody asks the host that the policy describes.
    fn asked_of_host(&mut self, fd: OwnedFd, asks: AskHost) {
        let pid = process::peer(&fd);
        let Some(hosting) = &self.shared.hosting else {
            let _ = unix::send(&fd, &HostSays::YES.to_bytes());
            return;
        };
        let question = Deferred {
            fd,
            asks,
            pid,
            cred: match hosting.asks_privilege(&asks) {
                true => described::cred(pid, asks.claim.uid),
                false => Cred::user(asks.claim.uid),
            },
            since: Instant::now(),
            // Twice: the first may have been under way before.
            until: self.shared.emptied.load(Acquire) + 2,
        };
        self.deferred.push(question);
    }

    /// Answers all who have asked, as far as that can be done now. What the kernel has
    /// said to one of them counts for the others: they had asked before.
    fn answer_deferred(&mut self) {
        let Some(hosting) = &self.shared.hosting else {
            return;
        };
        let mut there = HashMap::new();
        for question in std::mem::take(&mut self.deferred) {
            let Some(says) = self.host_says(hosting, &question, &mut there) else {
                self.deferred.push(question);
                continue;
            };
            let is_answered = unix::send(&question.fd, &says.to_bytes()).is_ok();
            if !is_answered && says.errno == 0 && question.asks.call == HostCall::Bind {
                // Who does not wait any more does not bind either.
                hosting.take_back(question.asks.claim.cookie);
            }
        }
    }

    /// What the host says; `None` while a record may be on its way that decides.
    fn host_says(
        &self,
        hosting: &described::Hosting,
        question: &Deferred,
        there: &mut HashMap<u64, RawAddr>,
    ) -> Option<HostSays> {
        let Deferred {
            asks, pid, cred, ..
        } = question;
        let network = space::of_process(&pid.to_string());
        if !self.shared.spaces.ask().is_home(network) {
            // A program that has made a network of its own is on that one.
            return Some(HostSays::YES);
        }
        loop {
            // Before the answer: what was read by then is in it.
            let emptied = self.shared.emptied.load(Acquire);
            let (says, others) = match hosting.answer(asks, *cred) {
                Said::Says(says) => return Some(says),
                Said::IfThere(says, others) => (says, others),
                Said::At(entry) => match self.where_is(&entry, network, *pid, there) {
                    Some(real) => {
                        let to = asks.claim.virt.read();
                        let there = real.read().and_then(|real| host::reached(&to?, &real));
                        return Some(described::at(there));
                    }
                    None => {
                        hosting.forget(&entry);
                        continue;
                    }
                },
            };
            let (mut is_gone, mut is_pending) = (false, false);
            for entry in others {
                if self.where_is(&entry, network, *pid, there).is_some() {
                    continue;
                }
                if !entry.is_claimed || entry.is_of_asker(asks) || !self.lives(entry.process) {
                    hosting.forget(&entry);
                    is_gone = true;
                } else {
                    is_pending = true;
                }
            }
            if is_gone {
                continue;
            }
            /// Nobody else waits meanwhile, and the asker for 2 seconds.
            const PATIENCE: Duration = Duration::from_millis(1500);
            let is_over = emptied >= question.until || question.since.elapsed() > PATIENCE;
            if !is_pending || is_over {
                return Some(says);
            }
            self.shared.ring();
            return None;
        }
    }

    /// Where a socket really is; `None` if it is not there any more. `there` are those
    /// of which that is known.
    fn where_is(
        &self,
        entry: &described::Entry,
        network: u64,
        pid: u32,
        there: &mut HashMap<u64, RawAddr>,
    ) -> Option<RawAddr> {
        if let Some(real) = there.get(&entry.cookie) {
            return Some(*real);
        }
        let moved = self.shared.state.moves.find(entry.cookie);
        let real = moved.map_or(entry.virt, |moved| moved.real);
        let mut spaces = self.shared.spaces.ask();
        let space = spaces.get(network, pid);
        let is_there = space.is_alive(entry.kind, entry.v6only, entry.cookie, &real);
        if is_there {
            there.insert(entry.cookie, real);
        }
        is_there.then_some(real)
    }

    /// Is there a process in this slot of the table, as far as can be told?
    fn lives(&self, slot: u32) -> bool {
        let info = self.shared.state.processes.get(slot);
        info.is_some_and(|info| {
            let here = std::fs::metadata("/proc/self/ns/pid").is_ok_and(|m| {
                use std::os::unix::fs::MetadataExt;
                m.ino() == info.pid_ns
            });
            !here || process::exists(info.pid)
        })
    }

    /// Hands the run's memory out.
    fn hand_out(&self, fd: &OwnedFd) {
        let policy = &self.setup.policy;
        // One in a new root cannot count them itself.
        let message = handed_out(process::filters(process::peer(fd)));
        // Each gets an open of its own, which the kernel counts for as long
        // as it is mapped anywhere: see `sys::is_alone`.
        let own = process::reopen(&self.setup.state);
        let state = own.as_ref().unwrap_or(&self.setup.state);
        self.shared.joined.fetch_add(1, Relaxed);
        let fds = [policy.1.as_raw_fd(), state.as_raw_fd()];
        if let Err(e) = unix::send_with(fd, &message, &fds) {
            log::warn!("a process could not be handed the run: {e}");
        }
    }

    /// A message of the launcher, or its end.
    fn order(&mut self) {
        let mut message = [0; 16];
        let received = unix::receive_any(&self.shared.control, &mut message, false);
        let (n, fds) = received.unwrap_or_default();
        match message.get(..n) {
            Some([tell::PROGRAM, pid @ ..]) => {
                let pid = pid.try_into().map_or(0, i32::from_ne_bytes);
                self.shared.program.store(pid.cast_unsigned(), Relaxed);
                self.program = process::pidfd(pid).ok();
                if self.program.is_none() {
                    self.program_gone();
                }
            }
            Some([tell::FLUSH, ..]) => {
                self.shared.program_gone.store(true, Release);
                self.shared.flush.store(true, Release);
                self.shared.ring();
            }
            Some([tell::HELD, of_busy, ..]) => {
                if let (Some(hosting), Some(fd)) = (&self.shared.hosting, fds.first()) {
                    hosting.hold(usize::from(*of_busy), fd);
                }
                self.held.extend(fds);
            }
            Some([tell::SHARED, low, high, is_open, ..]) => {
                let number = u16::from_le_bytes([*low, *high]);
                if let (Some(relay), Some(fd)) = (&self.shared.relay, fds.into_iter().next()) {
                    relay.bring(number.into(), fd, *is_open != 0);
                }
            }
            Some([tell::REOPEN, ..]) => self.shared.writer.reopen(),
            Some([tell::SEALED, ..]) => {
                if let Ok([door, net, user]) = <[OwnedFd; 3]>::try_from(fds) {
                    let network = Network::from_fds(net, user);
                    let inode = network.inode();
                    self.inner = Some(door);
                    let mut spaces = self.shared.spaces.ask();
                    spaces.seal(network);
                    if let Some(relay) = &self.shared.relay {
                        relay.seal(spaces.sealed_way());
                    }
                    drop(spaces);
                    self.shared.sealed.store(inode, Release);
                    self.shared.ring();
                }
            }
            _ => {
                // It ended, or became the program.
                self.launcher = false;
                if self.program.is_none() {
                    self.program_gone();
                }
            }
        }
    }

    fn program_gone(&self) {
        self.shared.program_gone.store(true, Release);
        // Without a launcher nobody else asks for it.
        if !self.launcher {
            self.shared.flush.store(true, Release);
        }
        self.shared.ring();
    }
}
