//! What the test programs share: a place where launcher and library lie as
//! installed, network namespaces, and one way to run a program and to tell
//! how it ended.
//!
//! Nothing here names the library crate: a program that links it is hooked.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::ffi::{CStr, OsStr, OsString};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};

pub mod log;

/// Stands for the library in a list of [`Way::Preload`].
pub const BINDGATE: &str = "$BINDGATE";

/// A program that has not ended by then never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// The unprivileged user of the tests.
pub const NOBODY: u32 = 65534;

/// `$PATH` of every program that the tests start.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The emulator of another architecture, with its options, under which all
/// programs run: `BINDGATE_TEST_EMULATOR`. `CC` is that architecture's then,
/// and `BINDGATE_TEST_LIBRARY` the library. See `scripts/cross`.
pub fn emulator() -> Option<&'static [String]> {
    static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let words = std::env::var("BINDGATE_TEST_EMULATOR").unwrap_or_default();
        words.split_whitespace().map(str::to_owned).collect()
    });
    (!words.is_empty()).then_some(words)
}

/// Is this a run that must leave nothing out?
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|v| v == "true")
}

/// Runs the trials; first makes sure that this process may create network
/// namespaces, if need be as root of a user namespace of its own.
pub fn main(trials: impl FnOnce() -> Vec<Trial>) -> ! {
    // What this process inherited is nothing that the programs should find.
    // SAFETY: only marks descriptors.
    unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    let arguments = Arguments::from_args();
    if !arguments.list && !may_unshare() {
        enter_user_namespace();
    }
    let conclusion = libtest_mimic::run(&arguments, trials());
    if let Some(stage) = STAGE.get() {
        let _ = fs::remove_dir_all(&stage.root);
    }
    conclusion.exit()
}

/// Can this process make a network namespace as it is?
fn may_unshare() -> bool {
    std::thread::spawn(|| new_namespace(libc::CLONE_NEWNET).is_ok())
        .join()
        .unwrap_or(false)
}

/// Starts this test program anew as root of its own user namespace.
fn enter_user_namespace() {
    const ONCE: &str = "BINDGATE_TEST_USERNS";
    if std::env::var_os(ONCE).is_none() {
        let mut again = Command::new("unshare");
        again
            .arg("-Ur")
            .arg("--")
            .args(std::env::args_os())
            .env(ONCE, "1");
        eprintln!("not root: running in a user namespace; {}", again.exec());
    }
    eprintln!(
        "cannot create a network namespace, neither directly nor in a user namespace: \
         run the tests as root, or allow unprivileged user namespaces"
    );
    if is_ci() {
        std::process::exit(1);
    }
    println!("\ntest result: ok. 0 passed; 0 failed; all skipped (no network namespaces)");
    std::process::exit(0);
}

/// May tests run programs as another user? Not as root of a user namespace
/// that knows one user only.
pub fn has_nobody() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let last = map
            .split_whitespace()
            .nth(2)
            .and_then(|n| n.parse::<u64>().ok());
        // SAFETY: no arguments, no memory.
        last.is_some_and(|n| n > u64::from(NOBODY)) && unsafe { libc::geteuid() } == 0
    })
}

/// A test that cannot run here: visible as ignored with its reason, a failure
/// where nothing may be left out.
pub fn skipped(name: &str, reason: &str) -> Trial {
    let reason = reason.to_owned();
    let trial = Trial::test(name, {
        let reason = reason.clone();
        move || Err(reason.into())
    });
    trial
        .with_kind(format!("skipped: {reason}"))
        .with_ignored_flag(!is_ci())
}

// ---------------------------------------------------------------------------
// The stage

/// A directory that everybody can read, laid out as an installation.
pub struct Stage {
    root: PathBuf,
    /// The launcher.
    pub launcher: PathBuf,
    /// The library.
    pub library: PathBuf,
}

static STAGE: OnceLock<Stage> = OnceLock::new();

/// The stage, made on first use.
pub fn stage() -> &'static Stage {
    STAGE.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("bg{}", std::process::id()));
        let open = |path: &Path, mode| {
            fs::create_dir_all(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for dir in ["", "bin", "lib", "c"] {
            open(&root.join(dir), 0o755);
        }
        open(&root.join("w"), 0o1777);
        let exe = std::env::current_exe().unwrap();
        let copy = |from: &Path, to: PathBuf| {
            fs::copy(from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
            to
        };
        let library = std::env::var_os("BINDGATE_TEST_LIBRARY")
            .map_or_else(|| exe.with_file_name("libbindgate.so"), PathBuf::from);
        copy(
            &library.with_file_name("libbindgate_plain.so"),
            root.join("lib/libbindgate_plain.so"),
        );
        Stage {
            launcher: copy(
                Path::new(env!("CARGO_BIN_EXE_bindgate")),
                root.join("bin/bindgate"),
            ),
            library: copy(&library, root.join("lib/libbindgate.so")),
            root,
        }
    })
}

/// A new empty directory that everybody can write to.
pub fn work_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = stage()
        .root
        .join(format!("w/{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// The directory of the C programs.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("c-tests")
}

/// Compiles `c-tests/NAME.c` and returns the program. `flags` come last.
pub fn compile(name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    compile_to(stage().root.join("c").join(name), name, flags)
}

/// Compiles `c-tests/NAME.c` and returns the library, `NAME.so` in the
/// directory of the programs.
pub fn compile_library(name: &str) -> Result<PathBuf, String> {
    let library = stage().root.join("c").join(name).with_extension("so");
    compile_to(library, name, &["-shared", "-fPIC"])
}

/// The same to a program that is called `NAME` and `suffix`.
pub fn compile_as(name: &str, suffix: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let program = stage().root.join("c").join(format!("{name}{suffix}"));
    compile_to(program, name, flags)
}

fn compile_to(program: PathBuf, name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    if program.exists() {
        return Ok(program);
    }
    let unfinished = program.with_extension(format!("{:?}", std::thread::current().id()));
    let output = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args([
            "-std=c11",
            "-D_GNU_SOURCE",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-g",
            "-O1",
        ])
        .arg("-pthread")
        .arg(sources().join(name).with_extension("c"))
        .arg("-o")
        .arg(&unfinished)
        .args(flags)
        .output()
        .map_err(|e| format!("cc: {e}"))?;
    if !output.status.success() {
        return Err(format!("cc:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    fs::rename(&unfinished, &program).map_err(|e| e.to_string())?;
    Ok(program)
}

/// The program's path, if it is installed.
pub fn which(program: &str) -> Option<PathBuf> {
    let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let postgresql = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let all = dirs
        .into_iter()
        .chain(postgresql.map(|version| version.path().join("bin")));
    all.map(|dir| dir.join(program)).find(|path| path.exists())
}

// ---------------------------------------------------------------------------
// Namespaces

fn new_namespace(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is involved; it concerns the calling thread only.
    if unsafe { libc::unshare(flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Runs `f` on a thread in a fresh network namespace with its loopback up.
/// Programs that `f` starts live there too.
pub fn in_net<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    in_namespaces(libc::CLONE_NEWNET, f)
}

/// As [`in_net`], with mounts of its own besides.
pub fn in_net_and_mounts<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    in_namespaces(libc::CLONE_NEWNET | libc::CLONE_NEWNS, || {
        // SAFETY: null and static strings; changes this thread's mounts only.
        let r = unsafe {
            libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            )
        };
        assert_eq!(r, 0, "mount: {}", io::Error::last_os_error());
        f()
    })
}

fn in_namespaces<T: Send>(flags: libc::c_int, f: impl FnOnce() -> T + Send) -> T {
    let body = || {
        new_namespace(flags).expect("unshare");
        loopback_up().expect("lo up");
        f()
    };
    std::thread::scope(|scope| match scope.spawn(body).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// An empty tmpfs on `dir`, for a thread with mounts of its own.
pub fn mount_tmpfs(dir: &str) {
    mount_tmpfs_of(dir, c"mode=755");
}

/// The same with options of its own.
pub fn mount_tmpfs_of(dir: &str, options: &CStr) {
    fs::create_dir_all(dir).unwrap();
    let dir = std::ffi::CString::new(dir).unwrap();
    // SAFETY: valid strings.
    let r = unsafe {
        libc::mount(
            c"tmpfs".as_ptr(),
            dir.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(r, 0, "mount {dir:?}: {}", io::Error::last_os_error());
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: a plain system call.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: ours, and open.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

// ---------------------------------------------------------------------------
// Running programs

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
            uid: 0,
            dir: work_dir(),
            log: None,
            stdin: None,
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

    /// The command line, without redirections.
    pub fn command(&self) -> Command {
        let mut command = match self.way {
            Way::Plain | Way::Preload => {
                let mut c = match emulator() {
                    None => Command::new(&self.program),
                    Some([emulator, options @ ..]) => {
                        let mut c = Command::new(emulator);
                        c.args(options);
                        if self.way == Way::Preload {
                            // For the program, not for the emulator.
                            let mut preload = OsString::from("LD_PRELOAD=");
                            preload.push(&stage().library);
                            c.arg("-E").arg(preload);
                        }
                        c.arg(&self.program);
                        c
                    }
                    Some([]) => unreachable!("no emulator is None"),
                };
                c.args(&self.args);
                c
            }
            Way::Run | Way::Observe | Way::Exec => {
                let mut c = Command::new(&stage().launcher);
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
                c.args(&self.launcher_args)
                    .arg("--")
                    .arg(&self.program)
                    .args(&self.args);
                c
            }
        };
        command
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .env("HOME", &self.dir);
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
        command.current_dir(&self.dir).process_group(0);
        if self.uid != 0 {
            command.uid(self.uid).gid(self.uid);
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
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Process {
            child,
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
    child: Child,
    stdout: fs::File,
    stderr: fs::File,
    log: Option<PathBuf>,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&mut self) -> String {
        all_of(&mut self.stdout)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&mut self) -> String {
        all_of(&mut self.stderr)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: not yet waited for, so the number is its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Has it ended?
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
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

    /// Waits for its end, then ends what is left of its process group.
    pub fn wait(mut self) -> Outcome {
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > end {
                break None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let stdout = self.stdout();
        let stderr = self.stderr();
        Outcome {
            status: how(status),
            stdout,
            stderr,
            log: self.log.clone(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: the group was made for this child; nothing of ours is in it.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

fn all_of(file: &mut fs::File) -> String {
    let file = fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut bytes = Vec::new();
    file.unwrap().read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn how(status: Option<ExitStatus>) -> String {
    match status {
        None => format!("no end after {PATIENCE:?}"),
        Some(s) => match (s.code(), s.signal()) {
            (Some(code), _) => format!("exit {code}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => format!("{s:?}"),
        },
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
    pub fn records(&self) -> Vec<log::Record> {
        log::read(self.log.as_deref().expect("not logged"))
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

/// Fails, showing both, unless the two texts are the same.
pub fn same(expected: &str, seen: &str, what: &str) -> Result<(), String> {
    if expected == seen {
        return Ok(());
    }
    let (a, b): (Vec<_>, Vec<_>) = (expected.lines().collect(), seen.lines().collect());
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push(format!("  {}", a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j < b.len() && !a[i.min(a.len())..].contains(&b[j]) {
            lines.push(format!("+ {}", b[j]));
            j += 1;
        } else if i < a.len() {
            lines.push(format!("- {}", a[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", b[j]));
            j += 1;
        }
    }
    // What differs, with the lines around it, and not too much of it.
    let differs = |i: usize| lines.get(i).is_some_and(|line| !line.starts_with("  "));
    let near = |i: usize| (i.saturating_sub(3)..i + 4).any(differs);
    let shown: Vec<&str> = (0..lines.len())
        .filter(|&i| near(i))
        .map(|i| lines[i].as_str())
        .take(60)
        .collect();
    let text = format!(
        "{what}: not the same (- expected, + seen)\n{}\n",
        shown.join("\n")
    );
    Err(text)
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > end {
            return Err(format!("never happened: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
