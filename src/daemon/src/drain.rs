//! Takes records from the ring and makes decisions of them.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use bindgate_core::judge::vsock;
use bindgate_core::policy::View;
use bindgate_core::record::{Record, flag};
use bindgate_core::render::{self, End, Event, Holder, RuleRef, RuleText};
use bindgate_core::shared::{Drain, Popped, option};

use super::alive::Alive;
use super::counter::Counter;
use super::predict::Predictor;
use super::sink::{Decision, Log, Sink, Totals};
use super::{Report, Setup, Shared, relay};
use crate::Format;
use bindgate_os::{self as sys, Instant, inet};

/// Records taken before the heart beats again.
const BATCH: usize = 1024;
/// Bytes of lines gathered before they go to the writer.
const LINES: usize = 64 << 10;
/// Longest sleep: the heart has to beat.
const SLEEP: Duration = Duration::from_millis(16);
const WAKEFUL: Duration = Duration::from_millis(1);
/// How long a writer may take over a record before the others go first.
const CLAIM: Duration = Duration::from_millis(4);
/// How long thousands of writers at once may take over a record each before
/// it is clear that there are none.
const BELIEF: Duration = Duration::from_millis(250);
/// How often the process table is looked through.
const SWEEP: Duration = Duration::from_millis(250);
/// How long a run must look over before it is, where not every process of
/// the machine can be looked at.
const GRACE: Duration = Duration::from_millis(300);
/// The same where all can.
const SURE: Duration = Duration::from_millis(10);
/// How long nobody must hold the state before the machine is looked through:
/// the launcher, who hears of the program's end in the same moment, asks for
/// the log to be brought up to date, and should not have to wait for that.
const SETTLED: Duration = Duration::from_millis(3);

/// How far a turn of draining got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Got {
    /// There is more.
    More,
    /// The ring is empty.
    All,
    /// The record at the head is still being written.
    Waits,
}

/// The main thread.
pub struct Drainer {
    shared: &'static Shared,
    setup: &'static Setup,
    view: View<'static>,
    alive: Alive,
    drain: Drain,
    /// More writers than can be are in the middle of a record: somebody
    /// scribbled, and no claim is believed until the ring is empty.
    scribbled: bool,
    /// Nobody holds the state: whoever owns a claim is dead.
    nobody: bool,
    head: (u64, Instant),
    log: Log,
    totals: Totals,
    /// Lost records that were reported: of killed processes, for want of room.
    told: (u64, u64),
    /// The sums as they were last written.
    ended: Option<End>,
    /// Slot and start of the process, its program and its script.
    program: (u32, u64, Arc<[u8]>, Vec<u8>),
    counter: Counter,
    predictor: Predictor,
    /// Which rules have matched, if anybody wants to know.
    matched: Vec<bool>,
    /// Has the log said which network the run has?
    announced: bool,
    /// Has it said that the program has started, where that is wanted?
    started: bool,
    /// The log is over: what comes is counted, not written.
    closed: bool,
    /// The launcher, which waits for our end, believes that it is near.
    awaited: bool,
}

impl Drainer {
    pub fn new(
        shared: &'static Shared,
        setup: &'static Setup,
        view: View<'static>,
        alive: Alive,
    ) -> Drainer {
        Drainer {
            shared,
            setup,
            view,
            alive,
            drain: Drain::default(),
            scribbled: false,
            nobody: false,
            head: (u64::MAX, Instant::now()),
            log: Log::new(setup.format, setup.detail, setup.colour),
            totals: Totals(End {
                run: setup.run_id,
                ..End::default()
            }),
            told: (0, 0),
            ended: None,
            program: (0, 0, Arc::from([]), Vec::new()),
            counter: Counter::start(),
            predictor: Predictor::new(vsock::Host::of(&view), setup.block.is_some()),
            matched: vec![
                false;
                if setup.unused {
                    view.rules() as usize
                } else {
                    0
                }
            ],
            announced: false,
            started: !setup.watched,
            closed: false,
            awaited: false,
        }
    }

    /// Drains until the run is over.
    pub fn run(mut self) {
        let header = &self.shared.state.header;
        let mut sleep = WAKEFUL;
        let mut swept = Instant::now();
        let mut over = Over::default();
        let mut flush = false;
        self.say_described();
        self.say_host();
        loop {
            beat(self.shared);
            let bell = header.doorbell.load(Acquire);
            let before = self.totals.0.records;
            self.counter.look();
            self.predictor.meet(&self.alive);
            // Before the turn: what was in the ring when it was asked for has
            // to be written.
            flush |= self.shared.flush.swap(false, Acquire);
            if self.shared.sealed.load(Acquire) != 0 {
                self.announce();
            }
            self.say_started();
            let got = self.turn();
            self.shared.emptied.store(self.drain.emptied(), Release);
            if self.totals.0.records != before {
                self.settle();
                header.room.fetch_add(1, Release);
                // As many as there is room for: the others would run in vain.
                // Under SYNC they wait for their lines, and not for room.
                let freed = self.totals.0.records - before;
                let all = self.setup.options & option::SYNC != 0;
                sys::futex_wake_some(&header.room, if all { u64::MAX } else { freed });
                sleep = WAKEFUL;
            }
            if got == Got::More {
                continue;
            }
            self.hand_over();
            if swept.elapsed() >= SWEEP {
                self.alive.sweep(&self.drain);
                swept = Instant::now();
            }
            if got == Got::All {
                if std::mem::take(&mut flush) {
                    self.flush();
                    sleep = WAKEFUL;
                }
                if self.shared.program_gone.load(Acquire) {
                    if over.is(&self.alive, self.shared, self.awaited) {
                        break;
                    }
                    if self.awaited && over.found > 0 {
                        self.awaited = false;
                        let unwritten = self.shared.writer.flush(|| {});
                        self.shared.send(self.report(unwritten, over.found));
                    }
                    if self.awaited {
                        sleep = WAKEFUL;
                    }
                }
            } else {
                sleep = WAKEFUL;
            }
            sys::futex_wait(&header.doorbell, bell, sleep);
            sleep = (sleep * 2).min(SLEEP);
        }
        self.nobody = true;
        while self.turn() != Got::All {}
        self.end(0);
        let unwritten = self.shared.writer.flush(|| {});
        self.shared.send(self.report(unwritten, 0));
    }

    /// Under [`option::SYNC`] programs wait for their lines to be written.
    fn settle(&mut self) {
        if self.setup.options & option::SYNC == 0 {
            return;
        }
        self.hand_over();
        let shared = self.shared;
        shared.writer.flush(|| beat(shared));
        let head = self.drain.at();
        shared.state.header.settled.store(head, Release);
    }

    /// One batch.
    fn turn(&mut self) -> Got {
        let ring = &self.shared.state.ring;
        self.predictor.look_at_the_clock();
        for _ in 0..BATCH {
            let alive = &self.alive;
            let given_up = self.nobody || self.scribbled;
            match self.drain.pop(ring, |slot| given_up || alive.is_dead(slot)) {
                Popped::Record(slot, words) => match Record::from_words(&words) {
                    Some(record) => self.record(slot, record),
                    None => self.totals.0.lost += 1,
                },
                // How many a scribble cost nobody can tell: at least one.
                Popped::Lost(_) | Popped::Repaired => self.totals.0.lost += 1,
                Popped::Claimed(_) => {
                    let head = self.drain.at();
                    if self.head.0 != head {
                        self.head = (head, Instant::now());
                    }
                    let waited = self.head.1.elapsed();
                    if waited < CLAIM {
                        return Got::Waits;
                    }
                    if !self.drain.pass(ring) {
                        self.scribbled = waited >= BELIEF;
                        if !self.scribbled {
                            return Got::Waits;
                        }
                    }
                }
                Popped::Empty => {
                    self.scribbled = false;
                    return Got::All;
                }
            }
        }
        Got::More
    }

    fn record(&mut self, slot: u32, mut record: Record) {
        let record = &mut record;
        if record.flags & flag::COUNTER != 0 {
            record.flags &= !flag::COUNTER;
            record.time_ns = self.counter.time(record.time_ns);
        }
        for rule in [record.rule, record.note] {
            if let Some(matched) = self.matched.get_mut(rule as usize) {
                *matched = true;
            }
        }
        self.totals.record(record);
        self.announce();
        let shown = !self.closed && self.log.record(record);
        self.name(slot, record.pid);
        if let Some(hosting) = &self.shared.hosting {
            hosting.recorded(record);
        }
        let program = &self.program.2;
        if self.shared.waiting.is_any() {
            self.shared.waiting.record(record, program);
        }
        let mut spaces = self.shared.spaces.feed();
        let asked = match shown && record.errno != 0 {
            true => Some(self.log.times(record.time_ns)),
            false => shown.then_some(None),
        };
        let known = self
            .predictor
            .record(record, program, &mut spaces, &self.alive, asked);
        drop(spaces);
        if !shown {
            return;
        }
        let holder = known.holder.as_ref().map(|held| Holder {
            pid: held.owner.pid,
            program: &held.owner.program,
            uid: held.owner.uid,
            inode: held.owner.inode,
            cookie: held.owner.cookie,
            addr: held.addr,
            state: Some(held.state),
            since_ns: held.owner.since_ns,
            in_run: held.owner.in_run,
            gone: held.gone,
        });
        let tenures = known.why.as_ref().map(|found| found.tenures());
        let tenures = tenures.unwrap_or_default();
        let why = known.why.as_ref().map(|found| found.explained(&tenures));
        self.log.decision(&Decision {
            record,
            program,
            script: &self.program.3,
            rule: RuleRef::find(&self.view, record.rule, record),
            note: RuleRef::find(&self.view, record.note, record),
            predicted: known.predicted,
            holder: holder.as_ref(),
            why: why.as_ref(),
        });
        if self.log.lines.len() > LINES {
            self.hand_over();
        }
    }

    /// Says something about the run, unless nothing but refusals is to be shown.
    fn say(&mut self, event: &Event<'_>) {
        if self.setup.detail != render::Detail::Quiet {
            self.log.event(event);
        }
    }

    /// The first line of a run on a host that its policy describes.
    fn say_described(&mut self) {
        let Some(host) = &self.setup.host else {
            return;
        };
        let kernel = host.described.host.generation;
        let lines: Vec<&str> = host.lines.iter().map(String::as_str).collect();
        self.say(&Event::Described {
            time_ns: sys::realtime().as_nanos() as u64,
            run: self.setup.run_id,
            model: host.is_ruled.then_some(kernel),
            lines: &lines,
        });
    }

    /// The program has started, of a run that is watched.
    fn say_started(&mut self) {
        let pid = self.shared.program.load(Relaxed);
        if self.started || pid == 0 {
            return;
        }
        self.started = true;
        self.log.event(&Event::Started {
            time_ns: sys::realtime().as_nanos() as u64,
            run: self.setup.run_id,
            pid,
        });
    }

    /// The first lines of a run that has ports of its own, or is a vsock host.
    fn say_host(&mut self) {
        if let Some(own) = &self.setup.block {
            self.say(&Event::Isolated {
                time_ns: sys::realtime().as_nanos() as u64,
                run: self.setup.run_id,
                network: 0,
                block: Some(own.block.first()),
            });
            self.say_published();
        }
        let Some(cid) = self.view.vsock_cid() else {
            return;
        };
        let fabric = String::from_utf8_lossy(self.view.vsock_fabric()).into_owned();
        let uds = String::from_utf8_lossy(self.view.vsock_uds()).into_owned();
        self.say(&Event::Hosted {
            time_ns: sys::realtime().as_nanos() as u64,
            run: self.setup.run_id,
            cid,
            fabric: &fabric,
            uds: &uds,
        });
    }

    /// The lines of a run whose ports are published: one for each port.
    fn say_published(&mut self) {
        for all in relay::published(&self.setup.services) {
            let Some(first) = all.first() else { continue };
            let addresses: Vec<_> = all.iter().map(|s| inet::addr(&s.near)).collect();
            self.say(&Event::Published {
                time_ns: sys::realtime().as_nanos() as u64,
                run: self.setup.run_id,
                kind: first.kind_name(),
                port: first.port(),
                addresses: &addresses,
            });
        }
    }

    /// The first line of a run in a network of its own: it is there as soon as
    /// anything is recorded.
    fn announce(&mut self) {
        if !self.setup.is_sealed || self.announced {
            return;
        }
        self.announced = true;
        let inode = self.network();
        if self.closed {
            return;
        }
        self.say(&Event::Isolated {
            time_ns: sys::realtime().as_nanos() as u64,
            run: self.setup.run_id,
            network: inode,
            block: None,
        });
        self.say_published();
    }

    /// The network that the run is sealed in. What is recorded was recorded there,
    /// and the other thread is about to hear of it: the launcher sends it before it
    /// starts the program.
    fn network(&self) -> u64 {
        const PATIENCE: Duration = Duration::from_secs(2);
        let start = Instant::now();
        loop {
            match self.shared.sealed.load(Acquire) {
                0 if start.elapsed() < PATIENCE => {
                    beat(self.shared);
                    std::thread::sleep(Duration::from_micros(50));
                }
                inode => return inode,
            }
        }
    }

    /// Keeps the name of the program in `slot` at hand; of process `pid`, if
    /// that has found no slot.
    fn name(&mut self, slot: u32, pid: u32) {
        let processes = &self.shared.state.processes;
        if slot != 0 && slot == self.program.0 && processes.since(slot) == Some(self.program.1) {
            return;
        }
        match processes.get(slot) {
            Some(info) => {
                let (name, script) = (Arc::from(info.name()), info.script().to_vec());
                self.program = (slot, info.since, name, script);
            }
            None => {
                let name = self.alive.program_of(slot, pid);
                self.totals.0.unnamed += u64::from(slot == 0 && name.is_empty());
                self.program = (0, 0, name, Vec::new());
            }
        }
    }

    fn hand_over(&mut self) {
        let shared = self.shared;
        if self.closed {
            self.log.lines.clear();
        } else {
            shared.writer.put(&mut self.log.lines, || beat(shared));
        }
    }

    /// The program is gone: everything so far is written, the launcher told.
    fn flush(&mut self) {
        self.shared.settle_witness();
        let left = if self.alive.is_alone() {
            0
        } else {
            self.alive.living().max(1)
        };
        // The last of them may have ended since the last turn.
        while left == 0 && self.turn() == Got::More {}
        // Where the log goes on, the line of sums waits until the run is over.
        // It is written once where the launcher waits for that.
        let goes_on = self.setup.target.is_file() || self.setup.wait;
        if !self.setup.wait && (left == 0 || !goes_on) {
            self.end(left);
        }
        self.hand_over();
        let shared = self.shared;
        let unwritten = shared.writer.flush(|| beat(shared));
        if !goes_on && !self.closed {
            // Standard error belongs to whoever started the launcher.
            self.closed = true;
            shared.writer.close();
        }
        shared.send(self.report(unwritten, left));
        self.awaited = self.setup.reaps && left == 0;
    }

    fn report(&self, unwritten: u64, left: u64) -> Report {
        let counted = self.shared.state.header.denied.load(Relaxed);
        Report {
            denied: self.totals.0.denied.max(counted),
            unwritten,
            left,
        }
    }

    /// Says what was lost, and the sums.
    fn end(&mut self, left: u64) {
        if self.closed {
            return;
        }
        // What cannot be written is known when all else has been tried.
        self.hand_over();
        let shared = self.shared;
        let unwritten = shared.writer.flush(|| beat(shared));
        let mut lost = Vec::new();
        let header = &shared.state.header;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos() as u64;
        let mut end = self.totals.0;
        end.time_ns = now;
        end.left = left;
        // Bounded: a program can write anything there.
        end.lost += header.lost.load(Relaxed).min(1 << 40);
        end.faults = end.faults.max(header.faults.load(Relaxed).min(1 << 40));
        end.unseen = end.unseen.max(u64::from(header.unseen.load(Relaxed)));
        end.unwritten = unwritten;
        let same = |last: &End| {
            End {
                time_ns: 0,
                ..*last
            } == End { time_ns: 0, ..end }
        };
        if self.ended.as_ref().is_some_and(same) {
            return;
        }
        self.ended = Some(end);
        let no_room = end.lost - self.totals.0.lost;
        for (count, told, why) in [
            (
                self.totals.0.lost,
                &mut self.told.0,
                "a process was killed while it wrote them",
            ),
            (
                no_room,
                &mut self.told.1,
                "there was no room while the log process was stopped",
            ),
        ] {
            if count > *told {
                let count = count - std::mem::replace(told, count);
                lost.push(Event::Lost {
                    time_ns: now,
                    count,
                    why,
                });
            }
        }
        for event in &lost {
            self.log.event(event);
        }
        let matched = std::mem::take(&mut self.matched);
        for (index, _) in (0u32..).zip(&matched).filter(|(_, matched)| !**matched) {
            let place = self.view.rule_source(index);
            let text = self.view.rule_text(index);
            if let (Some((file, line, number)), Some(text)) = (place, text) {
                let rule = RuleRef {
                    number,
                    place: Some((file, line)),
                    text: RuleText::Rule(text),
                };
                self.log.event(&Event::Unused { time_ns: now, rule });
            }
        }
        let wanted = self.setup.format == Format::Json
            || self.setup.detail == render::Detail::Verbose
            || end.unwritten > 0;
        if wanted {
            self.log.event(&Event::End(end));
        }
        self.hand_over();
    }
}

/// Says that the ring is looked after.
fn beat(shared: &Shared) {
    shared.state.header.heartbeats.fetch_add(1, Relaxed);
}

/// Finds out that a run is over, and does not believe it at once.
#[derive(Default)]
struct Over {
    since: Option<Instant>,
    joined: u64,
    scanned: Option<Instant>,
    patience: Duration,
    /// Processes of the run that the last look through the machine found.
    found: u64,
}

impl Over {
    /// `awaited`: somebody waits for the answer.
    fn is(&mut self, alive: &Alive, shared: &Shared, awaited: bool) -> bool {
        let joined = shared.joined.load(Relaxed);
        if !alive.is_alone() || joined != self.joined {
            *self = Over {
                joined,
                ..Over::default()
            };
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let due = match self.scanned {
            Some(at) => at.elapsed() >= self.patience,
            None => awaited || since.elapsed() >= SETTLED,
        };
        if !due {
            return false;
        }
        let first = self.scanned.is_none();
        let scan = alive.scan(awaited);
        self.scanned = Some(Instant::now());
        self.found = scan.found;
        if scan.found > 0 {
            // Something that cannot be seen goes on, maybe for days.
            self.patience = (self.patience * 2).clamp(SWEEP, Duration::from_secs(5));
            self.since = None;
            return false;
        }
        let grace = match scan.unknown {
            0 if awaited => Duration::ZERO,
            0 => SURE,
            _ => GRACE,
        };
        self.patience = grace;
        !first && since.elapsed() >= grace
    }
}
