//! fork, exec, wait.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use super::{check, own};

/// Forks. The launcher has one thread whenever it does, so that the child may
/// do anything.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: single-threaded, see above.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
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

/// Becomes the program `arguments[0]`, looked up in PATH as a shell does.
/// Returns only if that failed.
pub fn exec(arguments: &Strings, environment: &Strings) -> io::Error {
    let (argv, envp) = (arguments.pointers(), environment.pointers());
    let Some(Some(program)) = argv.first().map(|p| (!p.is_null()).then_some(*p)) else {
        return io::ErrorKind::InvalidInput.into();
    };
    // SAFETY: null-terminated arrays of C strings that live until the end.
    unsafe { libc::execvpe(program, argv.as_ptr(), envp.as_ptr()) };
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

/// A pipe: reading end, writing end.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: room for two.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // Both are taken over before either is moved, so that a failure leaks none.
    // SAFETY: both were just made.
    let [read, write] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((super::high(read)?, super::high(write)?))
}

/// A handle of process `pid` that gets readable when it ends.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32)
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
