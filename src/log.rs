//! The log of a plain preload: one line per record, appended by the process
//! itself.
//!
//! The file is opened, written and closed for each line. A descriptor that
//! stayed open would be closed and its number reused by programs that close
//! everything; the next line would land in their data. What could not be
//! written (the disk full, the directory gone, no descriptor free) is counted,
//! and said by the next line that can be written, or at exit.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::record::Record;
use bindgate_core::render::{self, Context, Detail, Event, RuleRef};

use crate::process;
use crate::run::{Run, Sink};
use crate::sys;

/// Room for the lines of ordinary decisions. A signal handler's alternate
/// stack is 8 KiB, and the kernel takes up to half of it for itself.
const LINE: usize = 768;
/// Room for any line: two Unix paths, every byte of them escaped.
const LONG_LINE: usize = 4096;

/// A line that is built on the stack; what does not fit makes it fail.
struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Write for Line<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + s.len());
        to.ok_or(fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

/// Appends the record to the log, if it is one that the log shows.
#[inline(never)]
pub fn record(run: &Run, record: &Record) {
    if !render::is_shown(record, Detail::Normal) && !run.json {
        return;
    }
    say_lost(run);
    let context = Context {
        program: run.program(),
        rule: RuleRef::find(&run.view, record.rule, record.call),
        note: RuleRef::find(&run.view, record.note, record.call),
        ..Context::default()
    };
    let fill = |line: &mut dyn Write| match run.json {
        true => render::json(line, record, &context),
        false => render::text(line, record, &context),
    };
    let written = append::<LINE>(run, &fill).unwrap_or_else(|| long(run, &fill));
    if !written {
        run.state.header.lost.fetch_add(1, Relaxed);
    }
}

/// Says how many lines could not be written, if there are any.
pub fn say_lost(run: &Run) {
    let count = run.state.header.lost.swap(0, Relaxed);
    if count == 0 {
        return;
    }
    let event = Event::Lost {
        time_ns: sys::clock(libc::CLOCK_REALTIME),
        count,
        why: "the log could not be written",
    };
    let fill = |line: &mut dyn Write| match run.json {
        true => render::json_event(line, &event),
        false => render::text_event(line, &event, false, 0),
    };
    if append::<LINE>(run, &fill) != Some(true) {
        run.state.header.lost.fetch_add(count, Relaxed);
    }
}

type Fill<'a> = &'a dyn Fn(&mut dyn Write) -> fmt::Result;

#[cold]
#[inline(never)]
fn long(run: &Run, fill: Fill<'_>) -> bool {
    append::<LONG_LINE>(run, fill) == Some(true)
}

/// Writes a line of at most `N` bytes; `None` if it is longer.
#[inline(never)]
fn append<const N: usize>(run: &Run, fill: Fill<'_>) -> Option<bool> {
    if process::is_under_seccomp() {
        // An open could be this process's last call.
        return Some(false);
    }
    let mut line = Line::<N> {
        bytes: [0; N],
        len: 0,
    };
    fill(&mut line).ok()?;
    let bytes = line.bytes.get(..line.len).unwrap_or(&[]);
    if run.sink == Sink::Stderr {
        return Some(sys::write_all(2, bytes).is_ok());
    }
    let _held = sys::NoSignals::hold();
    // A pipe that nobody reads must not hold a program up with its signals
    // held: the line counts as lost.
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOCTTY | libc::O_NONBLOCK;
    let Ok(fd) = sys::open_at(libc::AT_FDCWD, run.log_path(), flags, 0o644) else {
        return Some(false);
    };
    let written = sys::write_all(fd, bytes);
    sys::close(fd);
    Some(written.is_ok())
}
