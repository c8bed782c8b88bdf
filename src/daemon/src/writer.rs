//! Writes the log, in a thread of its own: what it writes to may block for as
//! long as somebody reads a page in a pager.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use bindgate_os as sys;

/// Bytes that may wait to be written; beyond, the programs have to wait too.
const ROOM: usize = 64 << 20;

/// Where the log goes.
pub enum Target {
    /// A copy of the launcher's standard error; `None` if that is closed.
    Stderr(Option<OwnedFd>),
    /// A file, by its absolute path.
    File(PathBuf, OwnedFd),
}

impl Target {
    /// Opens a log file to append to.
    pub fn file(path: &Path) -> io::Result<Target> {
        let path = std::path::absolute(path)?;
        let fd = sys::high(open(&path)?.into())?;
        Ok(Target::File(path, fd))
    }

    /// Standard error.
    pub fn stderr() -> Target {
        Target::Stderr(sys::copy_standard(2).ok())
    }

    /// The descriptor.
    pub fn fd(&self) -> Option<RawFd> {
        match self {
            Target::Stderr(fd) => fd.as_ref().map(AsRawFd::as_raw_fd),
            Target::File(_, fd) => Some(fd.as_raw_fd()),
        }
    }

    /// Is it a file of its own?
    pub fn is_file(&self) -> bool {
        matches!(self, Target::File(..))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// The thread is writing what it took.
    busy: bool,
    reopen: bool,
    /// Nothing is written any more.
    closed: bool,
    unwritten: u64,
}

/// The queue in front of the log.
pub struct Writer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Writer {
    pub fn new() -> Writer {
        Writer {
            queue: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Queues whole lines and leaves `lines` empty. While there is no room
    /// it waits and calls `beat` now and then.
    pub fn put(&self, lines: &mut String, mut beat: impl FnMut()) {
        if lines.is_empty() {
            return;
        }
        let mut queue = self.lock();
        while queue.bytes.len() > ROOM && !queue.closed {
            queue = self.wait(queue, Duration::from_millis(20));
            beat();
        }
        if !queue.closed {
            queue.bytes.extend_from_slice(lines.as_bytes());
            self.changed.notify_all();
        }
        lines.clear();
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, time: Duration) -> MutexGuard<'a, Queue> {
        let waited = self.changed.wait_timeout(queue, time);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// Waits until all is written; lines that could not be, so far.
    pub fn flush(&self, mut beat: impl FnMut()) -> u64 {
        let mut queue = self.lock();
        while queue.busy || !queue.bytes.is_empty() {
            queue = self.wait(queue, Duration::from_millis(20));
            beat();
        }
        queue.unwritten
    }

    /// Has the file opened anew before anything else is written.
    pub fn reopen(&self) {
        self.lock().reopen = true;
        self.changed.notify_all();
    }

    /// Ends the log and closes what it was written to, so that a pipe's
    /// reader sees the end. All must have been flushed.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The thread. In a log of text it may put in a line of its own.
    pub fn run(&self, target: &Target, is_text: bool) {
        let mut out = Out {
            fd: target.fd().unwrap_or(-1),
            owned: None,
            torn: false,
        };
        let mut bytes = Vec::new();
        loop {
            let mut queue = self.lock();
            while queue.bytes.is_empty() && !queue.reopen && !queue.closed {
                queue = self
                    .changed
                    .wait(queue)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if queue.closed && queue.bytes.is_empty() {
                drop(queue);
                out.close();
                return;
            }
            let reopen = std::mem::take(&mut queue.reopen);
            std::mem::swap(&mut bytes, &mut queue.bytes);
            queue.busy = true;
            drop(queue);
            let mut unwritten = 0;
            if let (true, Target::File(path, _)) = (reopen, target) {
                unwritten += out.reopen(path, is_text);
            }
            if !bytes.is_empty() {
                unwritten += out.write(&bytes);
                bytes.clear();
            }
            let mut queue = self.lock();
            queue.busy = false;
            queue.unwritten += unwritten;
            drop(queue);
            self.changed.notify_all();
        }
    }
}

struct Out {
    fd: RawFd,
    /// Set once the file was opened anew.
    owned: Option<OwnedFd>,
    /// The last line was cut short.
    torn: bool,
}

impl Out {
    /// Opens the file anew; how many lines of ours could not be written.
    fn reopen(&mut self, path: &Path, is_text: bool) -> u64 {
        // If that fails the old file is better than none.
        match open(path) {
            Ok(file) => {
                let fd = OwnedFd::from(file);
                self.fd = fd.as_raw_fd();
                self.owned = Some(fd);
                self.torn = false;
                0
            }
            Err(e) => {
                let line = format!("bindgate: {}: {e}; the log goes on here\n", path.display());
                log::warn!("{}", line.trim_end());
                if is_text {
                    self.write(line.as_bytes())
                } else {
                    0
                }
            }
        }
    }

    fn close(&mut self) {
        match self.owned.take() {
            Some(fd) => drop(fd),
            None => sys::close(self.fd),
        }
        self.fd = -1;
    }

    /// Writes whole lines; how many of them were not written.
    fn write(&mut self, mut bytes: &[u8]) -> u64 {
        if self.torn && self.put(b"\n").is_ok() {
            self.torn = false;
        }
        while !bytes.is_empty() {
            match self.put(bytes) {
                Ok(n) => {
                    let (done, rest) = bytes.split_at(n.min(bytes.len()));
                    self.torn = done.last().is_some_and(|b| *b != b'\n');
                    bytes = rest;
                }
                Err(e) => {
                    log::warn!("the log cannot be written: {e}");
                    return bytes.iter().filter(|b| **b == b'\n').count() as u64;
                }
            }
        }
        0
    }

    fn put(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match sys::write(self.fd, bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Somebody made the description non-blocking; it is shared
                // with the program, so it stays as it is.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => sys::wait_writable(self.fd),
                other => return other,
            }
        }
    }
}
