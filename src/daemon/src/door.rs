//! The door of a run: processes that join it are handed its memory here, and
//! the launcher's messages arrive.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};

use super::{Setup, Shared, tell};
use bindgate_os::{self as sys, process, signal, unix};

/// Secret, pid, tid.
const HELLO: usize = 32 + 4 + 4;
/// How long a stranger may keep a connection without a word.
const PATIENCE: Duration = Duration::from_secs(2);

struct Door {
    shared: &'static Shared,
    setup: &'static Setup,
    /// Connected, and not yet heard.
    waiting: Vec<(OwnedFd, Instant)>,
    launcher: bool,
    program: Option<OwnedFd>,
}

/// Serves until the process ends.
pub fn run(shared: &'static Shared, setup: &'static Setup) {
    let hup = signal::watch(libc::SIGHUP).ok();
    let mut door = Door {
        shared,
        setup,
        waiting: Vec::new(),
        launcher: true,
        program: None,
    };
    let or_none = |fd: Option<&OwnedFd>| fd.map_or(-1, AsRawFd::as_raw_fd);
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
        ];
        fds.extend(door.waiting.iter().map(|(fd, _)| fd.as_raw_fd()));
        let patience = if door.waiting.is_empty() {
            Duration::MAX
        } else {
            PATIENCE
        };
        let ready = sys::poll(&fds, patience);
        let is = |n: usize| ready.get(n).copied().unwrap_or(false);
        door.hear(|n| is(5 + n));
        if is(0) || is(4) {
            door.open();
        }
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
        while let Some(fd) = self.setup.doors.accept() {
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
            if let Some(fd) = fd.filter(|_| since.elapsed() < PATIENCE) {
                self.waiting.push((fd, since));
            }
        }
    }

    /// Hands the run's memory out if the secret is right. Gives the
    /// connection back if nothing was said yet.
    fn answer(&self, fd: OwnedFd) -> Option<OwnedFd> {
        let mut hello = [0; HELLO + 1];
        match unix::receive(&fd, &mut hello, false) {
            Ok(HELLO) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Some(fd),
            _ => return None,
        }
        if hello.get(..32) != Some(&self.setup.secret[..]) {
            return None;
        }
        let policy = &self.setup.policy;
        let mut message = [0; 8];
        let (first, second) = message.split_at_mut(4);
        first.copy_from_slice(&(bindgate_core::shared::State::SIZE as u32).to_ne_bytes());
        second.copy_from_slice(&(policy.0.len() as u32 * 8).to_ne_bytes());
        // Each gets an open of its own, which the kernel counts for as long
        // as it is mapped anywhere: see `sys::is_alone`.
        let own = process::reopen(&self.setup.state);
        let state = own.as_ref().unwrap_or(&self.setup.state);
        self.shared.joined.fetch_add(1, Relaxed);
        let fds = [policy.1.as_raw_fd(), state.as_raw_fd()];
        if let Err(e) = unix::send_with(&fd, &message, fds) {
            log::warn!("a process could not be handed the run: {e}");
        }
        None
    }

    /// A message of the launcher, or its end.
    fn order(&mut self) {
        let mut message = [0; 16];
        let n = unix::receive(&self.shared.control, &mut message, false).unwrap_or(0);
        match message.get(..n) {
            Some([tell::PROGRAM, pid @ ..]) => {
                let pid = pid.try_into().map_or(0, i32::from_ne_bytes);
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
            Some([tell::REOPEN, ..]) => self.shared.writer.reopen(),
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
