//! The log of a plain preload: one line per record, appended by the process
//! itself.
//!
//! The file is opened, written and closed for each line. A descriptor that
//! stayed open would be closed and its number reused by programs that close
//! everything; the next line would land in their data. What could not be
//! written (the disk full, the directory gone, no descriptor free) is counted,
//! and said by the next line that can be written; at exit, if none can be, on
//! standard error.

use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::plain::{self, Line};
use bindgate_core::record::Record;
use bindgate_core::render::{self, Detail};

use crate::process;
use crate::run::{self, Run, Sink};
use crate::sys;

/// Room for the lines of ordinary decisions. A signal handler's alternate
/// stack is 8 KiB, and the kernel takes up to half of it for itself.
const LINE: usize = 768;
/// Room for any line: two Unix paths, every byte of them escaped.
const LONG_LINE: usize = 4096;
/// In the count of lost lines: the last one was cut short, and what comes next
/// is to begin on a line of its own.
const TORN: u64 = 1 << 63;

/// Appends the record to the log, if it is one that the log shows.
#[inline(never)]
pub fn record(run: &Run, record: &Record) {
    if !render::is_shown(record, Detail::Normal) && !run.json {
        return;
    }
    say_lost(run);
    let (words, _) = record.to_words();
    let line = Line {
        record: &raw const words,
        ..about(run)
    };
    let written = append::<LINE>(run, &line).unwrap_or_else(|| long(run, &line));
    if !written {
        run.state.header.lost.fetch_add(1, Relaxed);
    }
}

/// Says how many lines could not be written, if there are any.
pub fn say_lost(run: &Run) {
    let count = take_lost(run);
    if count == 0 {
        return;
    }
    let line = Line {
        lost: count,
        ..about(run)
    };
    if append::<LINE>(run, &line) != Some(true) {
        run.state.header.lost.fetch_add(count, Relaxed);
    }
}

/// The process is about to exit: says what is lost, if need be on standard
/// error, if that is still the one of the start.
pub fn end(run: &Run) {
    say_lost(run);
    if run.stderr.is_none() || process::is_under_seccomp() {
        return;
    }
    let stderr = sys::fstat(2).ok().map(|st| (st.st_dev, st.st_ino));
    if stderr != run.stderr {
        return;
    }
    let (count, mut text) = (take_lost(run), [0; 80]);
    let after = match count {
        0 => return,
        1 => &b" line of the log could not be written\n"[..],
        _ => b" lines of the log could not be written\n",
    };
    let text = sys::print(&mut text, b"bindgate: ", count, after);
    let text = text.and_then(|text| text.strip_suffix(b"\0"));
    sys::write_all(2, text.unwrap_or(b""));
}

/// How many lines are lost and not said to be; now they are.
fn take_lost(run: &Run) -> u64 {
    run.state.header.lost.fetch_and(TORN, Relaxed) & !TORN
}

/// A line that has yet to be told what it is about.
fn about(run: &Run) -> Line {
    let policy = run.view.words();
    Line {
        record: core::ptr::null(),
        lost: 0,
        time_ns: sys::clock(libc::CLOCK_REALTIME),
        json: run.json,
        program: run::who::program().into(),
        policy: policy.as_ptr(),
        policy_len: policy.len(),
    }
}

#[cold]
#[inline(never)]
fn long(run: &Run, line: &Line) -> bool {
    append::<LONG_LINE>(run, line) == Some(true)
}

/// Writes a line of at most `N` bytes; `None` if it is longer.
#[inline(never)]
fn append<const N: usize>(run: &Run, line: &Line) -> Option<bool> {
    if process::is_under_seccomp() {
        // An open could be this process's last call.
        return Some(false);
    }
    let mut bytes = [b'\n'; N];
    let len = match run::say(line, bytes.get_mut(1..).unwrap_or(&mut [])) {
        Ok(len) => len,
        Err(plain::TOO_LONG) => return None,
        Err(_) => return Some(false),
    };
    let bytes = bytes.get(..=len).unwrap_or(&[]);
    if run.sink == Sink::Stderr {
        return Some(write(run, 2, bytes));
    }
    let _held = sys::NoSignals::hold();
    // A pipe that nobody reads must not hold a program up with its signals
    // held: the line counts as lost.
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOCTTY | libc::O_NONBLOCK;
    let Ok(fd) = sys::open_at(libc::AT_FDCWD, run.log_path(), flags, 0o644) else {
        return Some(false);
    };
    let written = write(run, fd, bytes);
    sys::close(fd);
    Some(written)
}

/// Writes a line, which has a line feed at both ends: the first is for one
/// before it that was cut short.
fn write(run: &Run, fd: i32, line: &[u8]) -> bool {
    let lost = &run.state.header.lost;
    let torn = lost.fetch_and(!TORN, Relaxed) & TORN != 0;
    let bytes = line.get(usize::from(!torn)..).unwrap_or(&[]);
    let done = sys::write_all(fd, bytes);
    // Of a line feed alone nothing is torn.
    if done < bytes.len() && (done > usize::from(torn) || done == 0 && torn) {
        lost.fetch_or(TORN, Relaxed);
    }
    done == bytes.len()
}
