//! Records on their way out of the process.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use bindgate_core::record::{Granted, Record, Verdict, WORDS, Words, flag, stage};
use bindgate_core::shared::{Header, Push, option};

use crate::out::file_log;
use crate::own::{filter, process, text, time};
use crate::session::{Run, Sink};
use crate::sys::{self, Allowed, Call};

/// A drainer that has not looked at the ring for this long may be stopped or
/// gone.
const DRAINER_PATIENCE_MS: u64 = 2000;
/// One that is neither, but gets no turn: schedulers have been seen to leave a
/// runnable process alone for seconds behind a program of many threads.
const STARVED_PATIENCE_MS: u64 = 60_000;
/// How long a process that waits for room sleeps, at first and in the end.
const SHORTEST_WAIT_MS: u64 = 5;
const LONGEST_WAIT_MS: u64 = 200;

/// Fills in who and when, and sends the record on its way.
pub fn emit(run: &Run, record: &mut Record) {
    if record.verdict == Verdict::Deny && record.flags & flag::OBSERVED == 0 {
        run.state.header.denied.fetch_add(1, Relaxed);
    }
    if run.sink == Sink::Nowhere {
        return;
    }
    record.stages |= stage::RECORD;
    record.time_ns = time::clock(libc::CLOCK_REALTIME);
    (record.pid, record.tid) = process::ids();
    let allowed = filter::allowed();
    if filter::is_reduced(allowed) {
        record.flags |= flag::SECCOMP;
    }
    match run.sink {
        Sink::Ring => {
            record.process = process::slot(run);
            push(allowed, run, record);
        }
        _ => file_log::record(allowed, run, record),
    }
}

/// Puts a call that was allowed and granted into the ring: what [`emit`] does
/// for the others, with as little as can be. Only where [`brief`].
// By value all of it: nothing has to be in memory but what goes into the ring.
#[inline(always)]
pub fn granted(run: &Run, mut record: Granted, asked: Words, used: Option<Words>) {
    if process::has_counter() {
        record.time_ns = time::counter();
        record.flags |= flag::COUNTER;
    } else {
        record.time_ns = time::clock(libc::CLOCK_REALTIME);
    }
    (record.pid, record.tid, record.process) = process::numbers(run);
    // Straight into the slot: a copy on the way would be read back before it
    // is settled in the cache.
    if let Some(claim) = run.state.ring.claim(record.process, false) {
        record.each_word(&asked, used.as_ref(), |i, word| claim.put(i, word));
        if let Push::Done(_) = claim.publish() {
            if run.state.ring.is_awaited() {
                ring(run);
            }
            return;
        }
    }
    granted_later(run, record, asked, used);
}

/// Somebody waits for what the record says: the reader sleeps otherwise.
#[cold]
#[inline(never)]
fn ring(run: &Run) {
    wake_drainer(filter::allowed(), &run.state.header);
}

/// There was no room.
#[cold]
#[inline(never)]
fn granted_later(run: &Run, record: Granted, asked: Words, used: Option<Words>) {
    let mut words = [0; WORDS];
    let mut len = 0;
    record.each_word(&asked, used.as_ref(), |i, word| {
        if let Some(to) = words.get_mut(i) {
            *to = word;
            len = i + 1;
        }
    });
    wait_and_push(
        filter::allowed(),
        run,
        record.process,
        words.get(..len).unwrap_or(&words),
        false,
    );
}

/// May [`granted`] be called? There is a ring, nobody waits for each line, and
/// no seccomp filter takes anything from us that it needs: what may be asked is
/// the answer.
#[inline(always)]
pub fn brief(run: &Run) -> Option<Allowed> {
    if run.is_brief { filter::fast() } else { None }
}

/// Brings the place of the next record into this processor's cache, to be
/// written. The drainer read what was there before, perhaps on another one;
/// the call that is about to be forwarded takes longer than that.
#[inline]
pub fn prepare(run: &Run) {
    sys::prefetch_for_write(run.state.ring.next());
}

/// The process is about to exit: what a plain preload could not write is said.
pub fn at_exit(run: &Run) {
    if matches!(run.sink, Sink::Stderr | Sink::File) {
        file_log::end(filter::allowed(), run);
    }
}

/// Puts a record into the ring; waits for room while the drainer lives.
#[inline(always)]
fn push(allowed: Allowed, run: &Run, record: &Record) {
    let important = record.is_important();
    match run.state.ring.push_record(record, important) {
        Push::Done(at) => {
            if run.state.ring.is_awaited() {
                ring(run);
            }
            settle(allowed, run, at);
        }
        Push::Full => push_later(allowed, run, record, important),
    }
}

/// There was no room.
// Apart, so that its buffer is not on the stack before.
#[cold]
#[inline(never)]
fn push_later(allowed: Allowed, run: &Run, record: &Record, important: bool) {
    let (words, len) = record.to_words();
    let words = words.get(..len).unwrap_or(&words);
    wait_and_push(allowed, run, record.process, words, important);
}

#[cold]
#[inline(never)]
fn wait_and_push(allowed: Allowed, run: &Run, owner: u32, words: &[u64], important: bool) {
    let (ring, header) = (&run.state.ring, &run.state.header);
    // Whoever waits is woken when there is room, and looks by itself as well:
    // thousands that look every few milliseconds leave the drainer no turn.
    let mut wait = SHORTEST_WAIT_MS;
    loop {
        if let Push::Done(at) = ring.push(owner, words, important) {
            return settle(allowed, run, at);
        }
        if !is_drained(allowed, run) {
            header.lost.fetch_add(1, Relaxed);
            return;
        }
        if !allowed.may(Call::Futex) {
            sys::yield_now(allowed);
            continue;
        }
        let seen = wake_drainer(allowed, header);
        if let Push::Done(at) = ring.push(owner, words, important) {
            return settle(allowed, run, at);
        }
        sys::futex_wait(allowed, &header.room, seen, wait);
        wait = (wait * 2).min(LONGEST_WAIT_MS + u64::from(owner % 64));
    }
}

/// Rings the drainer's bell; the value of `room` to wait for a change of.
fn wake_drainer(allowed: Allowed, header: &Header) -> u32 {
    let seen = header.room.load(Relaxed);
    header.doorbell.fetch_add(1, Relaxed);
    sys::futex_wake(allowed, &header.doorbell);
    seen
}

/// How many heartbeats this process has seen, and when it saw the last one by
/// its own clock, which need not be the daemon's.
static HEARD: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Is somebody reading the ring?
fn is_drained(allowed: Allowed, run: &Run) -> bool {
    let header = &run.state.header;
    let beats = header.heartbeats.load(Relaxed);
    let is_silent = header.silent_after.load(Relaxed) == beats + 1;
    let now = time::clock(libc::CLOCK_MONOTONIC) / 1_000_000;
    let [heard, heard_at] = &HEARD;
    if heard.swap(beats + 1, Relaxed) != beats + 1 {
        heard_at.store(now, Relaxed);
    }
    let silence = now.saturating_sub(heard_at.load(Relaxed));
    if silence <= DRAINER_PATIENCE_MS && !is_silent {
        return true;
    }
    header.silent_after.store(beats + 1, Relaxed);
    silence <= STARVED_PATIENCE_MS && is_runnable(allowed, run.drainer)
}

/// Is the drainer a process that is neither stopped nor dead? Its pid alone
/// would not prove that it is the drainer; its name is looked at too.
fn is_runnable(allowed: Allowed, drainer: u32) -> bool {
    if drainer == 0 {
        return false;
    }
    let mut path = [0u8; 32];
    let path = text::print(&mut path, b"/proc/", u64::from(drainer), b"/stat");
    let Some(Ok(fd)) = path.map(|path| sys::open(allowed, path, libc::O_RDONLY)) else {
        return false;
    };
    let mut stat = [0u8; 64];
    let len = sys::read(allowed, fd, &mut stat).unwrap_or(0);
    sys::close(allowed, fd);
    // PID (NAME) STATE …
    let text = stat.get(..len).unwrap_or(&[]);
    let Some(end) = text.iter().position(|c| *c == b')') else {
        return false;
    };
    text.get(..end)
        .is_some_and(|head| head.ends_with(b"(bindgate-log"))
        && matches!(text.get(end + 2), Some(b'R' | b'S' | b'D' | b'I'))
}

/// Under [`option::SYNC`] the call does not return before its line is written:
/// the kernel kills the drainer with the first process of its name space.
#[inline(always)]
fn settle(allowed: Allowed, run: &Run, at: u64) {
    if run.has_option(option::SYNC) {
        wait_until_settled(allowed, run, at);
    }
}

#[cold]
#[inline(never)]
fn wait_until_settled(allowed: Allowed, run: &Run, at: u64) {
    if !allowed.may(Call::Futex) {
        return;
    }
    let header = &run.state.header;
    while header.settled.load(Acquire) <= at && is_drained(allowed, run) {
        let seen = wake_drainer(allowed, header);
        if header.settled.load(Acquire) <= at {
            sys::futex_wait(allowed, &header.room, seen, SHORTEST_WAIT_MS);
        }
    }
}
