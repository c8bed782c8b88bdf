//! What the test programs share: a place where launcher and library lie as
//! installed, network namespaces, and one way to run a program and to tell
//! how it ended.
//!
//! Nothing here names the library crate: a program that links it is hooked.

use std::os::fd::IntoRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Trial};

mod keeper;
pub mod log;
mod patience;
mod run;
mod spaces;
mod stage;

pub use patience::{Patience, until};
pub use run::{Below, Outcome, Process, Run, Way};
pub use spaces::{in_net, in_net_and_mounts, mount_tmpfs, mount_tmpfs_of};
pub use stage::{compile, compile_as, compile_library, helper, sources, stage, which, work_dir};

/// Stands for the library in a list of [`Way::Preload`].
pub const BINDGATE: &str = "$BINDGATE";

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
    let can_run = arguments.list || spaces::may_unshare() || enter_user_namespace();
    if let Some(below) = Below::everywhere()
        && can_run
        && !arguments.list
    {
        enter_container(below);
    }
    let mut trials = trials();
    if !can_run {
        let reason = "skipped: needs network namespaces, directly or in a user namespace";
        eprintln!("{reason}: run the tests as root, or allow unprivileged user namespaces");
        let skip = |trial: Trial| trial.with_kind(reason).with_ignored_flag(!is_ci());
        trials = trials.into_iter().map(skip).collect();
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = keeper::all_ended();
    stage::clear();
    if let Err(left) = left {
        eprintln!("{left}");
        std::process::exit(101);
    }
    conclusion.exit()
}

/// Starts this test program anew as root of its own user namespace; false where
/// that is not allowed.
fn enter_user_namespace() -> bool {
    let unshare = |program: &[std::ffi::OsString]| {
        let mut command = Command::new("unshare");
        command.args(["-Ur", "--"]).args(program);
        command
    };
    let mut probe = unshare(&["unshare".into(), "-n".into(), "true".into()]);
    let probe = probe.stdin(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return false;
    }
    let words: Vec<_> = std::env::args_os().collect();
    eprintln!("not root: running in a user namespace");
    eprintln!("unshare: {}", unshare(&words).exec());
    false
}

/// Starts this test program anew where the first process is under the filter,
/// as that of a container is.
fn enter_container(below: Below) {
    const INSIDE: &str = "BINDGATE_TEST_CONTAINED";
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let helper = helper("below").unwrap_or_else(|e| panic!("{e}"));
    // By its descriptor: nothing of this stage is left.
    let helper = std::fs::File::open(helper).unwrap().into_raw_fd();
    // SAFETY: ours, and open.
    unsafe { libc::fcntl(helper, libc::F_SETFD, 0) };
    stage::clear();
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(format!("/proc/self/fd/{helper}"))
        .args(["contain", below.name()])
        .args(std::env::args_os())
        .env(INSIDE, "1");
    panic!("unshare: {}", command.exec());
}

/// May tests run programs as another user? Not as root of a user namespace
/// that knows one user only.
pub fn has_nobody() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let last = map
            .split_whitespace()
            .nth(2)
            .and_then(|n| n.parse::<u64>().ok());
        // SAFETY: no arguments, no memory.
        last.is_some_and(|n| n > u64::from(NOBODY)) && unsafe { libc::geteuid() } == 0
    })
}

/// Root, or who runs the tests, and nobody, where programs can be started as that.
pub fn users() -> Vec<u32> {
    [0, NOBODY]
        .into_iter()
        .filter(|user| *user == 0 || has_nobody())
        .collect()
}

/// A test of what is otherwise in a container, for this reason: visible as
/// ignored there.
pub fn outside(trial: Trial, reason: &str) -> Trial {
    left_out(trial, reason, Below::everywhere().is_some())
}

/// A test that is visible as ignored, for this reason.
pub fn left_out(trial: Trial, reason: &str, is_left_out: bool) -> Trial {
    match is_left_out {
        true => trial.with_kind(reason).with_ignored_flag(true),
        false => trial,
    }
}

/// Does the kernel make vsock sockets for the programs of the tests?
pub fn has_vsock() -> bool {
    let is_filtered = matches!(Below::everywhere(), Some(Below::Docker | Below::NoVsock));
    // SAFETY: no memory is involved; the descriptor is closed at once.
    !is_filtered
        && unsafe {
            let fd = libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
            fd >= 0 && libc::close(fd) == 0
        }
}

/// Has the kernel `IP_LOCAL_PORT_RANGE`? Since 6.3, and 6.1.32.
pub fn has_tags() -> bool {
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let (mut range, mut len) = (0u32, 4u32);
    // SAFETY: the kernel writes at most `len` bytes to `range`; the descriptor is
    // closed at once.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let (level, to) = (libc::IPPROTO_IP, (&raw mut range).cast());
        let has = libc::getsockopt(fd, level, IP_LOCAL_PORT_RANGE, to, &raw mut len) == 0;
        libc::close(fd);
        has
    }
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
