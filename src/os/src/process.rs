//! fork, exec, wait.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use super::signal::Inherited;
use super::{check, own};

/// Forks. The launcher has one thread whenever it does, so that the child may
/// do anything.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: single-threaded, see above.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// Forks a sibling: a child of this process's parent.
///
/// # Errors
/// As clone(2).
pub fn fork_sibling() -> io::Result<Option<i32>> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: single-threaded, as in `fork`; no memory is shared or handed
    // over. The child does not do what glibc keeps its thread number for.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) } as i32)?;
    Ok((pid != 0).then_some(pid))
}

/// Is an orphan surely reaped here when it ends? Process 1 says so by waiting
/// for SIGCHLD with the signal blocked, as systemd and tini do, or by ignoring
/// it. One that catches it may reap its own children only, and one that blocks
/// every signal is in the middle of a fork.
#[must_use]
pub fn orphans_are_reaped() -> bool {
    let here = std::fs::read_link("/proc/self");
    if here.is_ok_and(|link| link.as_os_str() != OsStr::new(&pid().to_string())) {
        return false;
    }
    let Ok(status) = std::fs::read_to_string("/proc/1/status") else {
        return false;
    };
    let has = |name: &str, signal: i32| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        set.is_some_and(|set| set >> (signal - 1) & 1 == 1)
    };
    let blocks = |signal| has("SigBlk:", signal);
    has("SigIgn:", libc::SIGCHLD) || (blocks(libc::SIGCHLD) && !blocks(libc::SIGSEGV))
}

/// Ends this process at once: no destructors, no buffers of the parent's.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(status) }
}

/// This process.
pub fn pid() -> i32 {
    std::process::id() as i32
}

/// What the kernel wants of an array of strings.
pub struct Strings {
    owned: Vec<CString>,
}

impl Strings {
    /// `None` if one of them holds a NUL.
    pub fn new<S: AsRef<OsStr>>(strings: impl IntoIterator<Item = S>) -> Option<Strings> {
        let owned = strings
            .into_iter()
            .map(|s| CString::new(s.as_ref().as_bytes()).ok())
            .collect::<Option<_>>()?;
        Some(Strings { owned })
    }

    fn pointers(&self) -> Vec<*const libc::c_char> {
        let pointers = self.owned.iter().map(|s| s.as_ptr());
        pointers.chain([std::ptr::null()]).collect()
    }
}

/// Starts the program `arguments[0]` as [`exec`] does, as a child that finds
/// the signals as `inherited` has them; returns when it runs. Like vfork(2):
/// the child has our memory until then, for a copy would be thrown away. It does
/// `before` first, and does not go on if that says no.
///
/// # Errors
/// As clone(2) and execvpe(3); ECANCELED if `before` said no.
pub fn spawn(
    arguments: &Strings,
    environment: &Strings,
    inherited: &Inherited,
    before: impl FnOnce() -> bool,
) -> io::Result<i32> {
    // For execvpe, which holds a path there, and for `/bin/sh` all arguments
    // once more.
    let words = (64 << 10) / size_of::<u128>() + arguments.owned.len();
    let (argv, envp) = (arguments.pointers(), environment.pointers());
    let error = AtomicI32::new(0);
    let pid = clone_child(words, || {
        let e = match before() {
            true => {
                inherited.restore();
                exec_pointers(&argv, &envp)
            }
            false => io::Error::from_raw_os_error(libc::ECANCELED),
        };
        error.store(e.raw_os_error().unwrap_or(libc::EINVAL), Relaxed);
    })?;
    match error.load(Relaxed) {
        0 => Ok(pid),
        error => {
            wait(pid, true)?;
            Err(io::Error::from_raw_os_error(error))
        }
    }
}

/// Does `part` in a child that has our memory and none of the rest: namespaces,
/// descriptors and ids are its own, and gone afterwards.
///
/// # Errors
/// As clone(2), or if `part` panicked.
pub fn in_child<T>(part: impl FnOnce() -> T) -> io::Result<T> {
    const WORDS: usize = (512 << 10) / size_of::<u128>();
    let mut said = None;
    let pid = clone_child(WORDS, || said = Some(part()))?;
    wait(pid, true)?;
    said.ok_or_else(|| io::Error::other("the child failed"))
}

/// Does `part` as this user, in a child as [`in_child`]: without capabilities, unless it
/// is root, and without groups.
///
/// # Errors
/// As clone(2), setresgid(2) and setresuid(2).
pub fn as_user<T>(uid: u32, part: impl FnOnce() -> T) -> io::Result<T> {
    let id = libc::c_long::from(uid);
    in_child(|| {
        let calls = [
            (libc::SYS_setgroups, [0, 0, 0]),
            (libc::SYS_setresgid, [id; 3]),
            (libc::SYS_setresuid, [id; 3]),
        ];
        for (call, [a, b, c]) in calls {
            // glibc's functions would change every thread of the parent.
            // SAFETY: numbers, and an empty list of groups.
            check(unsafe { libc::syscall(call, a, b, c) } as i32)?;
        }
        Ok(part())
    })?
}

/// A child that has our memory, and a stack of so many words, does `part` and
/// ends. Returns when it has ended or become another program.
fn clone_child<F: FnOnce()>(words: usize, part: F) -> io::Result<i32> {
    extern "C" fn begin<F: FnOnce()>(part: *mut libc::c_void) -> libc::c_int {
        // SAFETY: what `clone_child` passed, which waits for us.
        let part = unsafe { &mut *part.cast::<Option<F>>() };
        if let Some(part) = part.take() {
            // A panic must not leave this function.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part));
        }
        0
    }
    let mut stack = vec![0u128; words];
    let mut part = Some(part);
    // SAFETY: the child has a stack of its own, which grows down from the end
    // of the vector and is aligned as any. We go on when it has this memory no
    // more: until then `part`, what it borrows and the stack live, and this
    // thread, whose thread-local memory the child uses, stands still.
    let pid = unsafe {
        libc::clone(
            begin::<F>,
            stack.as_mut_ptr_range().end.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut part).cast(),
        )
    };
    check(pid)
}

/// Becomes the program `arguments[0]`, looked up in PATH as a shell does.
/// Returns only if that failed.
pub fn exec(arguments: &Strings, environment: &Strings) -> io::Error {
    exec_pointers(&arguments.pointers(), &environment.pointers())
}

/// As [`exec`], with what [`Strings::pointers`] gave: nothing is allocated.
fn exec_pointers(argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> io::Error {
    let Some(program) = argv.first().filter(|p| !p.is_null()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    // SAFETY: null-terminated arrays of C strings whose owners the callers
    // hold until the end.
    unsafe { libc::execvpe(*program, argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Starts this program anew, past every library that stands in front of libc.
/// Returns only if that failed, or is not known for this processor.
pub fn exec_self(arguments: &Strings, environment: &Strings) -> io::Error {
    let (argv, envp) = (arguments.pointers(), environment.pointers());
    let path = c"/proc/self/exe".as_ptr();
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: execve with null-terminated arrays of C strings; it changes
    // nothing here unless it does not return.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_execve as isize => result,
            in("rdi") path,
            in("rsi") argv.as_ptr(),
            in("rdx") envp.as_ptr(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") libc::SYS_execve,
            inlateout("x0") path => result,
            in("x1") argv.as_ptr(),
            in("x2") envp.as_ptr(),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = (&argv, &envp, path);
        result = -(libc::ENOSYS as isize);
    }
    io::Error::from_raw_os_error(-result as i32)
}

/// What became of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It ended with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// This signal stopped it.
    Stopped(i32),
}

/// News of the child `pid` (−1: of any), without waiting if `block` is not
/// set. `None` if there are none.
pub fn wait(pid: i32, block: bool) -> io::Result<Option<(i32, Status)>> {
    let flags = libc::WUNTRACED | if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable.
        match check(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) => return Ok(None),
            Ok(child) => {
                let status = if libc::WIFSTOPPED(status) {
                    Status::Stopped(libc::WSTOPSIG(status))
                } else if libc::WIFSIGNALED(status) {
                    Status::Killed(libc::WTERMSIG(status))
                } else {
                    Status::Exited(libc::WEXITSTATUS(status))
                };
                return Ok(Some((child, status)));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// A handle of process `pid` that gets readable when it ends.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32)
}

/// Has the kernel send this process `SIGTERM` when the thread that made it ends.
pub fn end_with_parent() {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0) };
}

/// Sends a signal to process `pid`, by its handle if there is one. Was that possible?
#[must_use]
pub fn signal(pid: u32, held: Option<&OwnedFd>, number: i32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    if let Some(held) = held {
        let (fd, none) = (held.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: no memory is involved: the kernel makes up who sends it.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, none, 0) };
        if sent == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) {
            return sent == 0;
        }
    }
    // SAFETY: no memory is involved.
    pid > 0 && unsafe { libc::kill(pid, number) } == 0
}

/// Is there a process `pid`, dead or alive?
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    // SAFETY: signal 0 is none.
    pid > 0
        && (unsafe { libc::kill(pid, 0) } == 0
            || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH))
}

/// Leaves the process group, so that the terminal's signals do not come here.
///
/// Not the session: the scheduler groups processes by session, and one that
/// was alone in its own was seen to get no turn for many seconds beside a
/// program of 64 threads (Linux 6.18, `sched_autogroup_enabled`).
pub fn new_group() {
    // SAFETY: no memory is involved.
    unsafe { libc::setpgid(0, 0) };
}

/// What `ps` calls this process.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: a C string; the kernel takes 15 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// The open file behind descriptor `fd`, opened anew.
pub fn reopen(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)?;
    super::high(file.into())
}

/// Is its real user or group another one than the effective one?
#[must_use]
pub fn has_two_ids() -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::getuid() != libc::geteuid() || libc::getgid() != libc::getegid() }
}

/// Has this process a capability in effect? If that cannot be read, yes.
#[must_use]
pub fn has_capability(number: u32) -> bool {
    capabilities().is_none_or(|all| all >> number & 1 != 0)
}

/// The effective user id of this process.
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// How many seccomp filters bind a process; `None` if it cannot be seen, or
/// the kernel does not say.
#[must_use]
pub fn filters(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("Seccomp_filters:"))?;
    count.trim().parse().ok()
}

/// Is the network namespace of this process one of its own user namespace, where its
/// capabilities count? `None` if that cannot be told.
#[must_use]
pub fn owns_network() -> Option<bool> {
    use std::os::unix::fs::MetadataExt;
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    let network = std::fs::File::open("/proc/self/ns/net").ok()?;
    let own_users = std::fs::metadata("/proc/self/ns/user").ok()?.ino();
    // SAFETY: takes no memory; what comes back is a new descriptor or -1.
    match own(unsafe { libc::ioctl(network.as_raw_fd(), NS_GET_USERNS) }) {
        Ok(owner) => {
            let owner = std::fs::File::from(owner).metadata().ok()?.ino();
            Some(owner == own_users)
        }
        // It is one further up.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => Some(false),
        Err(_) => None,
    }
}

/// `SO_REUSEADDR` and `SO_REUSEPORT` of another process's socket, by a copy of its
/// descriptor that is closed at once; `None` where none may be had.
#[must_use]
pub fn reuse_options(pid: u32, fd: i32) -> Option<(bool, bool)> {
    let read = |copy: &OwnedFd, option: libc::c_int| {
        let (mut value, mut len) = (0i32, size_of::<i32>() as libc::socklen_t);
        // SAFETY: room for as many bytes as `len` says, which both outlive the call.
        check(unsafe {
            libc::getsockopt(
                copy.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw mut value).cast(),
                &raw mut len,
            )
        })
        .map(|_| value != 0)
    };
    let ask = || {
        let process = pidfd(i32::try_from(pid).map_err(io::Error::other)?)?;
        let (number, none) = (process.as_raw_fd(), 0 as libc::c_long);
        // SAFETY: numbers only; what comes back is a new descriptor or -1.
        let copy = own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, number, fd, none) } as i32)?;
        Ok::<_, io::Error>((
            read(&copy, libc::SO_REUSEADDR)?,
            read(&copy, libc::SO_REUSEPORT)?,
        ))
    };
    // A seccomp filter may kill for the question.
    in_child(ask).ok()?.ok()
}

/// The effective capabilities of this process, as a bit each by their numbers
/// in capabilities(7); `None` without `/proc`.
#[must_use]
pub fn capabilities() -> Option<u64> {
    effective(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The effective capabilities that a `/proc/PID/status` tells.
#[must_use]
pub fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The process at the other end of a Unix socket, by its number here; 0 if it
/// has none.
pub fn peer(fd: &OwnedFd) -> u32 {
    peer_of(fd).map_or(0, |peer| u32::try_from(peer.pid).unwrap_or(0))
}

/// The user at the other end of a Unix socket, by the number that it has here;
/// `None` if that cannot be told: everybody without a number in this user
/// namespace is shown as one of its users.
pub fn peer_user(fd: &OwnedFd) -> Option<u32> {
    // `overflowuid`
    const OVERFLOW: u32 = 65534;
    let libc::ucred { uid: user, pid, .. } = peer_of(fd)?;
    let is_anybody = || {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let users: Vec<_> = map.split_ascii_whitespace().collect();
        !users.is_empty() && users != ["0", "0", "4294967295"]
    };
    // Whom this process may send a signal to is the same user.
    // SAFETY: signal 0 is none.
    let is_own = || pid > 0 && effective_uid() == user && unsafe { libc::kill(pid, 0) } == 0;
    (user != OVERFLOW || !is_anybody() || is_own()).then_some(user)
}

fn peer_of(fd: &OwnedFd) -> Option<libc::ucred> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is as long as said.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    (answer == 0).then_some(peer)
}
