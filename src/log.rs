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

/// A line that is built on the stack; what does not fit makes it fail.
struct Line {
    bytes: [u8; 3072],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + s.len());
        to.ok_or(fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

/// Appends the record to the log, if it is one that the log shows.
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
    let written = append(run, |line| match run.json {
        true => render::json(line, record, &context),
        false => render::text(line, record, &context),
    });
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
    let written = append(run, |line| match run.json {
        true => render::json_event(line, &event),
        false => render::text_event(line, &event, false, 0),
    });
    if !written {
        run.state.header.lost.fetch_add(count, Relaxed);
    }
}

fn append(run: &Run, fill: impl FnOnce(&mut Line) -> fmt::Result) -> bool {
    if process::is_under_seccomp() {
        // An open could be this process's last call.
        return false;
    }
    let mut line = Line {
        bytes: [0; 3072],
        len: 0,
    };
    if fill(&mut line).is_err() {
        return false;
    }
    let bytes = line.bytes.get(..line.len).unwrap_or(&[]);
    if run.sink == Sink::Stderr {
        return sys::write_all(2, bytes).is_ok();
    }
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOCTTY;
    let Ok(fd) = sys::open_at(libc::AT_FDCWD, run.log_path(), flags, 0o644) else {
        return false;
    };
    let written = sys::write_all(fd, bytes);
    sys::close(fd);
    written.is_ok()
}
