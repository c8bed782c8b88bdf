//! One way to run a program, and to tell how it ended.

use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::keeper::Keeper;
use super::stage::helper;
use super::{
    BINDGATE, NOBODY, PATH, Patience, emulator, has_nobody, in_net, log, stage, until, work_dir,
};

/// How a program is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// As it is.
    Plain,
    /// `LD_PRELOAD` and the rules in the environment.
    Preload,
    /// `bindgate run`.
    Run,
    /// `bindgate run --observe`.
    Observe,
    /// `bindgate run --exec`.
    Exec,
}

/// The filter that a run finds where it starts, see `below.c`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Below {
    /// Allows everything.
    Open,
    /// Docker's default profile.
    Docker,
    /// Makes no vsock sockets, as a kernel without the family.
    NoVsock,
}

impl Below {
    pub fn name(self) -> &'static str {
        match self {
            Below::Open => "open",
            Below::Docker => "docker",
            Below::NoVsock => "novsock",
        }
    }

    /// The filter of that name.
    pub fn named(name: &str) -> Option<Below> {
        let all = [Below::Open, Below::Docker, Below::NoVsock];
        all.into_iter().find(|below| below.name() == name)
    }

    /// Below what all runs are that do not say otherwise:
    /// `BINDGATE_TEST_BELOW`.
    pub fn everywhere() -> Option<Below> {
        let name = std::env::var("BINDGATE_TEST_BELOW").ok()?;
        let below = Below::named(&name);
        Some(below.unwrap_or_else(|| panic!("BINDGATE_TEST_BELOW: no filter {name}")))
    }
}

/// One run of one program.
#[derive(Clone)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    way: Way,
    rules: Vec<String>,
    launcher_args: Vec<OsString>,
    uid: u32,
    dir: PathBuf,
    log: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    patience: Duration,
    below: Option<Below>,
    around: Vec<OsString>,
    inherited: Vec<RawFd>,
}

impl Run {
    /// `program` is a path or a name to look up.
    pub fn new(program: impl AsRef<OsStr>) -> Run {
        Run {
            program: program.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            way: Way::Plain,
            rules: Vec::new(),
            launcher_args: Vec::new(),
            uid: match Below::everywhere() {
                Some(_) if has_nobody() => NOBODY,
                _ => 0,
            },
            dir: work_dir(),
            log: None,
            stdin: None,
            patience: Patience::usual(),
            below: Below::everywhere(),
            around: Vec::new(),
            inherited: Vec::new(),
        }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.args.push(arg.as_ref().into());
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Run {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Run {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    pub fn way(mut self, way: Way) -> Run {
        self.way = way;
        self
    }

    /// Adds a rule; `$DIR` is the run's working directory.
    pub fn rule(mut self, rule: &str) -> Run {
        self.rules.push(self.in_place(rule));
        self
    }

    /// The text with `$DIR` replaced by the run's working directory.
    pub fn in_place(&self, text: &str) -> String {
        text.replace("$DIR", self.dir.to_str().unwrap())
    }

    pub fn rules<S: AsRef<str>>(self, rules: impl IntoIterator<Item = S>) -> Run {
        rules
            .into_iter()
            .fold(self, |run, rule| run.rule(rule.as_ref()))
    }

    /// An argument of `bindgate run` itself.
    pub fn launcher_arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.launcher_args.push(arg.as_ref().into());
        self
    }

    /// `bindgate learn` of the program, into this file of its directory.
    pub fn learning(&self, file: &str) -> Run {
        let words = self.program_words();
        let mut run = self.clone();
        run.way = Way::Plain;
        run.program = stage().launcher.clone().into();
        run.args = ["learn".into(), "-o".into(), run.dir.join(file).into()].into();
        run.args.extend(run.launcher_args.clone());
        run.args.push("--".into());
        run.args.extend(words);
        run
    }

    /// How long the program may take on a quiet machine.
    pub fn patience(mut self, patience: Duration) -> Run {
        self.patience = patience;
        self
    }

    /// Below such a filter, the launcher included.
    pub fn below(mut self, below: Option<Below>) -> Run {
        self.below = below;
        self
    }

    /// Started by these words, the launcher and its filter included: what
    /// makes a container.
    pub fn around<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Run {
        self.around
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    pub fn user(mut self, uid: u32) -> Run {
        self.uid = uid;
        self
    }

    /// The directory in which it starts: a fresh one unless told.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn in_dir(mut self, dir: &Path) -> Run {
        self.dir = dir.to_owned();
        self
    }

    /// Keeps the decisions as JSON lines.
    pub fn logged(mut self) -> Run {
        let dir = if self.dir.starts_with(&stage().root) {
            self.dir.clone()
        } else {
            work_dir()
        };
        self.log = Some(dir.join("log.jsonl"));
        self
    }

    /// The same in a fresh directory.
    pub fn fresh(&self) -> Run {
        Run {
            dir: work_dir(),
            ..self.clone()
        }
    }

    /// The same, started by another program that takes it as its arguments.
    pub fn under(mut self, other: &Run) -> Run {
        let own = std::mem::replace(&mut self.program, other.program.clone());
        let args = std::mem::take(&mut self.args);
        self.args = other
            .args
            .iter()
            .cloned()
            .chain([own])
            .chain(args)
            .collect();
        self
    }

    /// Bytes for the program's stdin, which is empty otherwise.
    pub fn stdin(mut self, bytes: &[u8]) -> Run {
        self.stdin = Some(bytes.to_vec());
        self
    }

    /// Descriptors that it inherits under their numbers; they are open until it has
    /// started.
    pub fn inherits(mut self, fds: impl IntoIterator<Item = RawFd>) -> Run {
        self.inherited.extend(fds);
        self
    }

    /// The program and its arguments, behind its emulator.
    fn program_words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(emulator) = emulator() {
            words.extend(emulator.iter().map(OsString::from));
            if self.way != Way::Plain {
                // For the program, not for the emulator.
                let mut preload = OsString::from("LD_PRELOAD=");
                preload.push(&stage().library);
                words.extend(["-E".into(), preload]);
            }
        }
        words.push(self.program.clone());
        words.extend(self.args.iter().cloned());
        words
    }

    /// The program, below its filter.
    fn start(&self, program: &OsStr) -> Command {
        let mut words = self.around.clone();
        if let Some(below) = self.below {
            let helper = helper("below").unwrap_or_else(|e| panic!("{e}"));
            words.extend([helper.into(), below.name().into()]);
            words.push(self.uid.to_string().into());
        }
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// The command line, without redirections.
    pub fn command(&self) -> Command {
        let mut command = match self.way {
            Way::Plain | Way::Preload => {
                let mut words = self.program_words().into_iter();
                let mut c = self.start(&words.next().unwrap());
                c.args(words);
                c
            }
            Way::Run | Way::Observe | Way::Exec => {
                let mut c = self.start(stage().launcher.as_os_str());
                c.arg("run");
                match self.way {
                    Way::Observe => drop(c.arg("--observe")),
                    Way::Exec => drop(c.arg("--exec")),
                    _ => {}
                }
                for rule in &self.rules {
                    c.arg("-r").arg(rule);
                }
                if let Some(log) = &self.log {
                    c.arg("--format").arg("json").arg("--log").arg(log);
                }
                c.args(&self.launcher_args);
                if emulator().is_some() {
                    // The emulator itself is not to be hooked.
                    c.args(["--let-go", "--", "env", "-u", "LD_PRELOAD"]);
                } else {
                    c.arg("--");
                }
                c.args(self.program_words());
                c
            }
        };
        command
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("HOME", &self.dir);
        if emulator().is_some() {
            command.env("BINDGATE_LIBRARY", &stage().native);
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        if self.way == Way::Preload {
            let theirs = self.env.iter().rfind(|(name, _)| name == "LD_PRELOAD");
            let theirs = theirs.map_or(BINDGATE, |(_, list)| list.to_str().unwrap());
            let list = match theirs.contains(BINDGATE) {
                true => theirs.to_owned(),
                false => format!("{BINDGATE}:{theirs}"),
            };
            let ours = stage().library.to_str().unwrap();
            if emulator().is_none() {
                command.env("LD_PRELOAD", list.replace(BINDGATE, ours));
            }
            if !self.rules.is_empty() {
                command.env("BINDGATE_RULES", self.rules.join("\n"));
            }
            if let Some(log) = &self.log {
                command
                    .env("BINDGATE_LOG", log)
                    .env("BINDGATE_FORMAT", "json");
            }
        }
        command.current_dir(&self.dir);
        if !self.inherited.is_empty() {
            let fds = self.inherited.clone();
            let keep = move || {
                for fd in &fds {
                    // SAFETY: no memory is passed.
                    unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) };
                }
                Ok(())
            };
            // SAFETY: makes system calls only, on numbers that it owns.
            unsafe { command.pre_exec(keep) };
        }
        command
    }

    /// Starts it, in the network namespace of this thread.
    pub fn spawn(&self) -> Process {
        let mut command = self.command();
        let stdout = memory_file(c"stdout");
        let stderr = memory_file(c"stderr");
        command.stdout(stdout.try_clone().unwrap());
        command.stderr(stderr.try_clone().unwrap());
        match &self.stdin {
            None => drop(command.stdin(Stdio::null())),
            Some(bytes) => {
                let mut file = memory_file(c"stdin");
                io::Write::write_all(&mut file, bytes).unwrap();
                file.seek(SeekFrom::Start(0)).unwrap();
                command.stdin(file);
            }
        }
        let name = format!("{command:?}");
        // Only root can set up what is around it.
        let uid = match self.below {
            Some(_) => 0,
            None => self.uid,
        };
        let keeper = Keeper::spawn(command, uid);
        Process {
            keeper: keeper.unwrap_or_else(|e| panic!("{name}: {e}")),
            patience: self.patience,
            stdout,
            stderr,
            log: self.log.clone(),
        }
    }

    /// Runs it to its end in a network namespace of its own.
    pub fn finish(&self) -> Outcome {
        in_net(|| self.spawn().wait())
    }
}

fn memory_file(name: &CStr) -> fs::File {
    // SAFETY: a valid string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create: {}", io::Error::last_os_error());
    // Servers that reopen /dev/stderr do so as another user.
    // SAFETY: ours, and open.
    let file = unsafe { fs::File::from_raw_fd(fd) };
    file.set_permissions(fs::Permissions::from_mode(0o666))
        .unwrap();
    file
}

/// A program that runs.
pub struct Process {
    keeper: Keeper,
    patience: Duration,
    stdout: fs::File,
    stderr: fs::File,
    log: Option<PathBuf>,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.keeper.program() as u32
    }

    /// To whom the orphans of the run belong.
    pub fn keeper(&self) -> u32 {
        self.keeper.pid()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&mut self) -> String {
        all_of(&mut self.stdout)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&mut self) -> String {
        all_of(&mut self.stderr)
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: i32) {
        self.keeper.signal(signal);
    }

    /// Sends its process group a signal.
    pub fn signal_group(&self, signal: i32) {
        // SAFETY: the group was made for this program; nothing of ours is in it.
        unsafe { libc::kill(-self.keeper.program(), signal) };
    }

    /// Has it ended?
    pub fn ended(&mut self) -> bool {
        self.keeper.status(Duration::ZERO).is_some()
    }

    /// Waits until it has written `text` to stdout; an early end is an error.
    pub fn says(&mut self, text: &str) -> Result<(), String> {
        let said = until(&format!("stdout says {text:?}"), || {
            let ended = self.ended();
            let said = self.stdout().contains(text);
            (said || ended).then_some(said)
        })?;
        let end = |p: &mut Process| format!("it ended:\n{}{}", p.stdout(), p.stderr());
        if said { Ok(()) } else { Err(end(self)) }
    }

    /// Waits for its end. What it leaves has to end by itself.
    ///
    /// # Panics
    ///
    /// If it does not end: that is no outcome, and nothing to compare with.
    pub fn wait(self) -> Outcome {
        self.end().unwrap_or_else(|never| panic!("{never}"))
    }

    /// The same; an error if it does not end.
    pub fn end(mut self) -> Result<Outcome, String> {
        let mut patience = Patience::of(self.patience);
        let status = loop {
            if let Some(status) = self.keeper.status(Duration::from_secs(1)) {
                break status;
            }
            if patience.is_over() {
                let state = self.keeper.state();
                self.keeper.kill();
                return Err(format!(
                    "it did not end:\n{state}stdout so far:\n{}\nstderr so far:\n{}",
                    self.stdout(),
                    self.stderr()
                ));
            }
        };
        let outcome = Outcome {
            status: how(status),
            stdout: self.stdout(),
            stderr: self.stderr(),
            log: self.log.clone(),
        };
        self.keeper.leave();
        Ok(outcome)
    }
}

fn all_of(file: &mut fs::File) -> String {
    let file = fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut bytes = Vec::new();
    file.unwrap().read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => format!("{status:?}"),
    }
}

/// How a program ended, and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `exit 0`, `signal 9`, …
    pub status: String,
    pub stdout: String,
    pub stderr: String,
    log: Option<PathBuf>,
}

impl Outcome {
    /// The decisions; the run must have been `logged`.
    ///
    /// # Panics
    ///
    /// If there is no log.
    pub fn records(&self) -> Vec<log::Record> {
        self.log().unwrap_or_else(|e| panic!("{e}"))
    }

    /// The same; an error if there is no log.
    pub fn log(&self) -> Result<Vec<log::Record>, String> {
        log::read(self.log.as_deref().ok_or("not logged")?)
    }

    /// Everything that a user sees, for messages and comparisons.
    pub fn seen(&self) -> String {
        let mut all = String::new();
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            for line in text.lines() {
                all += &format!("{name}| {line}\n");
            }
            if !text.is_empty() && !text.ends_with('\n') {
                all += &format!("{name}| (no newline)\n");
            }
        }
        all + &self.status + "\n"
    }
}
