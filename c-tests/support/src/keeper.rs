//! The keeper of a run: a process between the test and the program, to which
//! everything comes home that the program starts and leaves.
//!
//! It tells how the program ended, and lives until nothing of the run is left.
//! When the test gives the run up, or is itself killed, the keeper kills what
//! is left: nothing of a test survives it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::time::Duration;

use super::Patience;

/// What the test has of it.
pub struct Keeper {
    /// The keeper itself.
    child: Child,
    /// Open until the run is given up.
    control: Option<OwnedFd>,
    /// The keeper's words: the program's number, then its status.
    report: File,
    program: i32,
    status: Option<ExitStatus>,
    /// The command line, for messages.
    name: String,
}

/// The keepers of runs whose program has ended, and which may have something
/// left that ends by itself, as the log's process does.
static ENDING: Mutex<Vec<Keeper>> = Mutex::new(Vec::new());

impl Keeper {
    /// Starts the command as user `uid` in a process group of its own.
    pub fn spawn(mut command: Command, uid: u32) -> io::Result<Keeper> {
        let words = [command.get_program()]
            .into_iter()
            .chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let name = words.join(" ");
        let (control, in_control) = pipe()?;
        let (report, out_report) = pipe()?;
        let words = [control.as_raw_fd(), out_report.as_raw_fd()];
        // SAFETY: makes system calls only, on values that it owns.
        unsafe { command.pre_exec(move || split(words, uid)) };
        let child = command.spawn()?;
        drop((control, out_report));
        let mut keeper = Keeper {
            child,
            control: Some(in_control),
            report: report.into(),
            program: 0,
            status: None,
            name,
        };
        keeper.program = keeper.word()?;
        Ok(keeper)
    }

    /// The number of the program.
    pub fn program(&self) -> i32 {
        self.program
    }

    /// The number of the keeper: the parent of whatever the run leaves behind.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The program's status, if it ends within this time.
    pub fn status(&mut self, within: Duration) -> Option<ExitStatus> {
        if self.status.is_none() && self.has_word(within) {
            let status = self.word().expect("the keeper of a run died");
            self.status = Some(ExitStatus::from_raw(status));
        }
        self.status
    }

    /// Sends the program a signal, unless it has ended.
    pub fn signal(&self, signal: i32) {
        if self.status.is_none() && !self.has_word(Duration::ZERO) {
            // SAFETY: no memory is involved.
            unsafe { libc::kill(self.program, signal) };
        }
    }

    fn has_word(&self, within: Duration) -> bool {
        let mut report = libc::pollfd {
            fd: self.report.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let milliseconds = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one entry, which it may write to.
        unsafe { libc::poll(&mut report, 1, milliseconds) == 1 }
    }

    fn word(&mut self) -> io::Result<i32> {
        let mut word = [0; 4];
        self.report.read_exact(&mut word)?;
        Ok(i32::from_ne_bytes(word))
    }

    /// Whatever the run has left has to end by itself; [`all_ended`] sees to it.
    pub fn leave(self) {
        let mut ending = ENDING.lock().unwrap_or_else(|e| e.into_inner());
        ending.retain_mut(|other| !other.has_ended());
        ending.push(self);
    }

    /// Kills everything, and waits until it is gone.
    pub fn kill(&mut self) {
        self.control = None;
        let _ = self.child.wait();
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What the processes of the run wait for.
    pub fn state(&self) -> String {
        let mut all = String::new();
        describe(self.pid(), &mut all);
        all
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until nothing is left of any run; what does not end is killed, and
/// named.
pub fn all_ended() -> Result<(), String> {
    let mut left = String::new();
    let mut patience = Patience::new();
    for mut keeper in ENDING.lock().unwrap_or_else(|e| e.into_inner()).drain(..) {
        while !keeper.has_ended() {
            if patience.is_over() {
                left += &format!("{}:\n{}", keeper.name, keeper.state());
                keeper.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("left behind by a run, and killed:\n{left}"))
    }
}

/// The processes below this one, a line each.
fn describe(pid: u32, all: &mut String) {
    for child in children_of(pid) {
        let of = |file: &str| {
            let bytes = std::fs::read(format!("/proc/{child}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let stat = of("stat");
        let state = stat.rsplit(") ").next().and_then(|s| s.chars().next());
        *all += &format!(
            "  {child} {} in {}: {}\n",
            state.unwrap_or('?'),
            of("wchan"),
            of("cmdline")
        );
        describe(child, all);
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        all.extend(
            text.split_whitespace()
                .filter_map(|n| n.parse::<u32>().ok()),
        );
    }
    all
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two numbers.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: ours, and open.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

// --- in the child: system calls only ------------------------------------------

/// Becomes the keeper, and returns in a child of it that becomes the program.
fn split([control, report]: [RawFd; 2], uid: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        match libc::fork() {
            -1 => return Err(io::Error::last_os_error()),
            0 => {}
            program => keep(control, report, program),
        }
        libc::setpgid(0, 0);
        if uid != 0
            && (libc::setgroups(0, std::ptr::null()) < 0
                || libc::setgid(uid) < 0
                || libc::setuid(uid) < 0)
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn keep(control: RawFd, report: RawFd, program: libc::pid_t) -> ! {
    // SAFETY: arguments are valid, and the memory is this function's own.
    unsafe {
        // Nobody else's signal; nothing of the test's own is held open.
        libc::setpgid(0, 0);
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        let (low, high) = (control.min(report) as u32, control.max(report) as u32);
        libc::close_range(0, low - 1, 0);
        libc::close_range(low + 1, high - 1, 0);
        libc::close_range(high + 1, u32::MAX, 0);
        let mut child: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut child);
        libc::sigaddset(&mut child, libc::SIGCHLD);
        let ended = libc::signalfd(-1, &child, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        tell(report, program);
        let mut given_up = false;
        loop {
            // Those that have ended, until there is nobody.
            let mut status = 0;
            match libc::waitpid(-1, &mut status, libc::WNOHANG) {
                -1 => libc::_exit(0),
                0 => {}
                pid => {
                    if pid == program {
                        tell(report, status);
                    }
                    continue;
                }
            }
            if given_up {
                kill_children();
            }
            let on = |fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            };
            let mut events = [on(ended), on(if given_up { -1 } else { control })];
            libc::poll(events.as_mut_ptr(), 2, if given_up { 2 } else { -1 });
            let mut bytes = [0u8; 128];
            if events[0].revents != 0 {
                libc::read(ended, bytes.as_mut_ptr().cast(), bytes.len());
            }
            given_up |= events[1].revents != 0;
        }
    }
}

/// # Safety
///
/// None but that it is called in a process of its own.
unsafe fn tell(report: RawFd, word: i32) {
    // SAFETY: four bytes of this function's own.
    unsafe { libc::write(report, (&raw const word).cast(), 4) };
}

/// Kills every child; those that they leave become children too.
fn kill_children() {
    // SAFETY: a valid string, and a buffer of the size that is given.
    unsafe {
        let list = libc::open(
            c"/proc/thread-self/children".as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        );
        let mut bytes = [0u8; 4096];
        let length = libc::read(list, bytes.as_mut_ptr().cast(), bytes.len());
        libc::close(list);
        let mut number = 0;
        for &byte in bytes.iter().take(usize::try_from(length).unwrap_or(0)) {
            if byte.is_ascii_digit() {
                number = number * 10 + i32::from(byte - b'0');
            } else if number > 0 {
                libc::kill(number, libc::SIGKILL);
                number = 0;
            }
        }
    }
}
