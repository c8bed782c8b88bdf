//! The log of a plain preload: one line per record, appended by the process
//! itself.
//!
//! The file is opened, written and closed for each line. A descriptor that
//! stayed open would be closed and its number reused by programs that close
//! everything; the next line would land in their data. What could not be
//! written (the disk full, the directory gone, no descriptor free) is counted,
//! and said by the next line that can be written; at exit, if none can be, on
//! standard error.

use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};

use bindgate_core::plain::{self, Line};
use bindgate_core::record::Record;
use bindgate_core::render::{self, Detail};

use crate::own::memory::Pages;
use crate::own::{text, time};
use crate::session::{self, Run, Sink};
use crate::sys::{self, Allowed};

/// Room for a line on the stack: of an ordinary decision.
const LINE: usize = 768;
/// Room for a long line: two Unix paths, every byte of them escaped.
const LONG_LINE: usize = 4096;
/// Longer lines than this are lost. What makes a line long is the text of a rule.
const LONGEST_LINE: usize = 4 << 20;
/// In the count of lost lines: the last one was cut short, and what comes next
/// is to begin on a line of its own.
const TORN: u64 = 1 << 63;

/// Where a line is put together, one at a time: a signal handler's alternate
/// stack is 8 KiB, of which the kernel takes up to half. `true` while somebody
/// is at it.
static SCRATCH_IS_TAKEN: AtomicBool = AtomicBool::new(false);
static SCRATCH: Scratch = Scratch(UnsafeCell::new([0; LONG_LINE]));

struct Scratch(UnsafeCell<[u8; LONG_LINE]>);

// SAFETY: only whoever set `SCRATCH_IS_TAKEN` looks at the bytes.
unsafe impl Sync for Scratch {}

/// Appends the record to the log, if it is one that the log shows.
#[inline(never)]
pub fn record(allowed: Allowed, run: &Run, record: &Record) {
    if !render::is_shown(record, Detail::Normal) && !run.json {
        return;
    }
    if run.state.header.lost.load(Relaxed) & !TORN != 0 {
        say_lost(allowed, run);
    }
    let line = Line {
        record,
        ..about(run)
    };
    if !append(allowed, run, &line) {
        run.state.header.lost.fetch_add(1, Relaxed);
    }
}

/// Says how many lines could not be written, if there are any.
#[inline(never)]
pub fn say_lost(allowed: Allowed, run: &Run) {
    let count = take_lost(run);
    if count == 0 {
        return;
    }
    let line = Line {
        lost: count,
        ..about(run)
    };
    if !append(allowed, run, &line) {
        run.state.header.lost.fetch_add(count, Relaxed);
    }
}

/// The process is about to exit: says what is lost, if need be on standard
/// error, if that is still the one of the start.
pub fn end(allowed: Allowed, run: &Run) {
    say_lost(allowed, run);
    if run.stderr.is_none() {
        return;
    }
    let stderr = sys::fstat(allowed, 2).ok().map(|st| (st.st_dev, st.st_ino));
    if stderr != run.stderr {
        return;
    }
    let (count, mut text) = (take_lost(run), [0; 80]);
    let after = match count {
        0 => return,
        1 => &b" line of the log could not be written\n"[..],
        _ => b" lines of the log could not be written\n",
    };
    let text = text::print(&mut text, b"bindgate: ", count, after);
    let text = text.and_then(|text| text.strip_suffix(b"\0"));
    sys::without_write_signals(allowed, || sys::write_all(allowed, 2, text.unwrap_or(b"")));
}

/// How many lines are lost and not said to be; now they are.
fn take_lost(run: &Run) -> u64 {
    run.state.header.lost.fetch_and(TORN, Relaxed) & !TORN
}

/// A line that has yet to be told what it is about.
fn about(run: &Run) -> Line {
    let policy = run.view.words();
    let (program, script) = session::who::for_log();
    Line {
        record: core::ptr::null(),
        lost: 0,
        time_ns: time::clock(libc::CLOCK_REALTIME),
        json: run.json,
        program: program.into(),
        script: script.into(),
        policy: policy.as_ptr(),
        policy_len: policy.len(),
    }
}

/// Writes a line; `false` if it could not be written.
#[inline(never)]
fn append(allowed: Allowed, run: &Run, line: &Line) -> bool {
    match run.sink {
        Sink::Stderr => to_stderr(allowed, run, line),
        // Whoever leaves a handler by siglongjmp, or is cancelled, would leave
        // the scratch memory taken and the file open.
        _ => sys::without_signals(allowed, || to_file(allowed, run, line)),
    }
}

/// A write to standard error may last as long as its reader likes, so signals
/// come through, and nothing is held meanwhile: the line is on the stack by
/// then, or, if it is long, on pages. Putting it together takes more stack than
/// writing it, so that is done before, in the scratch memory. A handler that
/// leaves by siglongjmp meanwhile leaves that taken, and later lines go by way
/// of pages.
fn to_stderr(allowed: Allowed, run: &Run, line: &Line) -> bool {
    let by_pages = || on_pages(allowed, line, |bytes| write(allowed, run, 2, bytes));
    if SCRATCH_IS_TAKEN.swap(true, Acquire) {
        return by_pages();
    }
    match in_scratch(line) {
        Ok(len @ ..=LINE) => copy_to_stderr(allowed, run, len),
        done => {
            SCRATCH_IS_TAKEN.store(false, Release);
            matches!(done, Ok(_) | Err(plain::TOO_LONG)) && by_pages()
        }
    }
}

/// Puts a line together in the scratch memory, which must be taken; its length.
#[inline(never)]
fn in_scratch(line: &Line) -> Result<usize, isize> {
    // SAFETY: nobody else is at it.
    put(line, unsafe { &mut *SCRATCH.0.get() }).map(<[u8]>::len)
}

/// Writes what lies in the scratch memory, which is free from then on.
#[inline(never)]
fn copy_to_stderr(allowed: Allowed, run: &Run, len: usize) -> bool {
    let mut bytes = [0; LINE];
    // SAFETY: nobody else is at it.
    let scratch = unsafe { &*SCRATCH.0.get() };
    for (to, from) in bytes.iter_mut().zip(scratch) {
        *to = *from;
    }
    SCRATCH_IS_TAKEN.store(false, Release);
    write(allowed, run, 2, bytes.get(..len).unwrap_or(&[]))
}

/// Puts a line of any length together, and has it written.
#[inline(never)]
fn on_pages(allowed: Allowed, line: &Line, write: impl Fn(&[u8]) -> bool) -> bool {
    let mut room = LONG_LINE;
    while room <= LONGEST_LINE {
        let Some(mut pages) = Pages::new(allowed, room) else {
            return false;
        };
        match put(line, pages.bytes_mut()) {
            Ok(bytes) => return write(bytes),
            Err(plain::TOO_LONG) => room *= 4,
            Err(_) => return false,
        }
    }
    false
}

/// Signals must be held.
fn to_file(allowed: Allowed, run: &Run, line: &Line) -> bool {
    let write = |bytes: &[u8]| open_and_write(allowed, run, bytes);
    if SCRATCH_IS_TAKEN.swap(true, Acquire) {
        // By another thread; or by one that was there when this process was
        // forked, and is not any more.
        return on_pages(allowed, line, write);
    }
    let written = match in_scratch(line) {
        // SAFETY: as there.
        Ok(len) => Some(write(
            unsafe { (*SCRATCH.0.get()).get(..len) }.unwrap_or(&[]),
        )),
        Err(plain::TOO_LONG) => None,
        Err(_) => Some(false),
    };
    SCRATCH_IS_TAKEN.store(false, Release);
    written.unwrap_or_else(|| on_pages(allowed, line, write))
}

fn open_and_write(allowed: Allowed, run: &Run, bytes: &[u8]) -> bool {
    // A pipe that nobody reads must not hold a program up with its signals
    // held: the line counts as lost.
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOCTTY | libc::O_NONBLOCK;
    let Ok(fd) = sys::open_at(allowed, libc::AT_FDCWD, run.log_path(), flags, 0o644) else {
        return false;
    };
    let written = write(allowed, run, fd, bytes);
    sys::close(allowed, fd);
    written
}

/// The line, with a line feed before it too.
fn put<'a>(line: &Line, bytes: &'a mut [u8]) -> Result<&'a [u8], isize> {
    if let Some(first) = bytes.first_mut() {
        *first = b'\n';
    }
    let len = session::say(line, bytes.get_mut(1..).unwrap_or(&mut []))?;
    Ok(bytes.get(..=len).unwrap_or(&[]))
}

/// Writes a line, which has a line feed at both ends: the first is for one
/// before it that was cut short.
fn write(allowed: Allowed, run: &Run, fd: i32, line: &[u8]) -> bool {
    let lost = &run.state.header.lost;
    let torn = lost.fetch_and(!TORN, Relaxed) & TORN != 0;
    let bytes = line.get(usize::from(!torn)..).unwrap_or(&[]);
    let done = sys::without_write_signals(allowed, || sys::write_all(allowed, fd, bytes));
    let done = done.unwrap_or(0);
    // Of a line feed alone nothing is torn.
    if done < bytes.len() && (done > usize::from(torn) || done == 0 && torn) {
        lost.fetch_or(TORN, Relaxed);
    }
    done == bytes.len()
}
