//! Was a signal sent to the launcher alone, or to its whole process group?
//!
//! `kill %1` in a shell, timeout(1) and many supervisors signal the group: the
//! program gets that by itself, and a second copy from us would be one too
//! many (a second SIGINT makes some servers drop their data). The kernel does
//! not tell the receiver. So there is a witness: a process in the group that
//! blocks every signal and does nothing else. What is pending there was sent
//! to the group.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use bindgate_os::signal::Signal;
use bindgate_os::{self as sys, Instant, process, signal, unix};

/// How long the kernel may take from the first member of a group to the last.
const DELIVERY: Duration = Duration::from_millis(1);
/// timeout(1) signals its child and then the group: both are one for us.
const TOGETHER: Duration = Duration::from_millis(20);

/// The launcher's line to the witness.
pub struct Witness {
    line: OwnedFd,
    pid: Option<i32>,
    last: Option<(i32, i32, Instant)>,
}

/// The witness, as the drainer knows it.
pub struct Child {
    pub pid: i32,
    /// Ends when it has let go of all that it inherited.
    pub holds: OwnedFd,
}

/// Forks a witness, a child of the launcher as the drainer itself is.
pub fn fork(line: &OwnedFd) -> Option<Child> {
    let (holds, held) = std::io::pipe().ok()?;
    let holds = sys::high(holds.into()).ok()?;
    match process::fork_sibling() {
        Ok(Some(pid)) => Some(Child { pid, holds }),
        Ok(None) => {
            // `main` closes it.
            std::mem::forget(held);
            main(line);
            process::exit_now(0)
        }
        Err(_) => None,
    }
}

/// The life of the witness, in a process of its own.
fn main(line: &OwnedFd) {
    process::set_name(c"bindgate-group");
    sys::close_all_but(&[line.as_raw_fd()]);
    let _ = std::env::set_current_dir("/");
    let _ = unix::send(line, &process::pid().to_ne_bytes());
    // Until the launcher is gone.
    while matches!(unix::receive(line, &mut [0; 8], true), Ok(1..)) {
        signal::forget_pending();
        let _ = unix::send(line, b"+");
    }
}

impl Witness {
    /// The launcher's side of `line`.
    pub fn new(line: OwnedFd) -> Witness {
        Witness {
            line,
            pid: None,
            last: None,
        }
    }

    /// Did the whole group get this signal?
    pub fn saw(&mut self, signal: &Signal) -> bool {
        if let Some((number, from, at)) = self.last
            && (number, from) == (signal.number, signal.from)
            && at.elapsed() < TOGETHER
        {
            return true;
        }
        std::thread::sleep(DELIVERY);
        let pending = self.pending().unwrap_or(0);
        let has = |number: i32| pending >> (number - 1) & 1 == 1;
        // A stop takes a pending SIGCONT away: one that came before it must
        // not undo it.
        let overtaken = signal.number == libc::SIGCONT
            && [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU]
                .into_iter()
                .any(has);
        let seen = has(signal.number) || overtaken;
        if seen {
            self.last = Some((signal.number, signal.from, Instant::now()));
        }
        // Also what came from the terminal: the next signal may be for us.
        if pending != 0 {
            self.forget();
        }
        seen
    }

    /// Has the witness forget what it saw so far.
    pub fn forget(&mut self) {
        if self.pid().is_some() && unix::send(&self.line, b"+").is_ok() {
            let _ = self.hear(&mut [0; 4]);
        }
    }

    fn pid(&mut self) -> Option<i32> {
        if self.pid.is_none() {
            let mut bytes = [0; 4];
            self.hear(&mut bytes)?;
            self.pid = Some(i32::from_ne_bytes(bytes));
        }
        self.pid
    }

    /// What waits there, as bits.
    fn pending(&mut self) -> Option<u64> {
        let pid = self.pid()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    }

    /// Its next word, if it does not take long.
    fn hear(&self, word: &mut [u8]) -> Option<()> {
        const PATIENCE: Duration = Duration::from_millis(100);
        let ready = sys::poll(&[self.line.as_raw_fd()], PATIENCE) == [true];
        let n = unix::receive(&self.line, word, false)
            .ok()
            .filter(|_| ready)?;
        (n > 0).then_some(())
    }
}
