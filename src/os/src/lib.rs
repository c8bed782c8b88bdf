//! The only unsafe code of the launcher: what std has no safe name for.
//!
//! | room | what lives there |
//! |---|---|
//! | this file | descriptors, memory, futexes, clocks |
//! | [`diag`] | who has a port |
//! | [`network`] | network namespaces |
//! | [`process`] | fork, exec, wait |
//! | [`inet`] | IP sockets that listen and stop listening |
//! | [`signal`] | signals blocked, waited for, passed on |
//! | [`doors`] | the Unix names of a run |
//! | [`user`] | users, and capabilities given up |
//! | [`unix`] | Unix sockets, descriptors over them |

pub mod diag;
pub mod doors;
pub mod fabric;
pub mod inet;
pub mod limits;
pub mod network;
pub mod process;
pub mod signal;
pub mod unix;
pub mod user;
pub mod vmm;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use bindgate_core::shared::State;

/// The error with which socket(2) fails here, `None` if it does not: a seccomp
/// filter may refuse a family, and a kernel may be without one.
pub fn refused(domain: i32, ty: i32, protocol: i32) -> Option<i32> {
    // SAFETY: no memory is passed, and what is made is owned at once.
    let made = own(unsafe { libc::socket(domain, ty | libc::SOCK_CLOEXEC, protocol) });
    made.err()
        .map(|e| e.raw_os_error().unwrap_or(libc::EPROTONOSUPPORT))
}

/// −1 is an error, the rest a result.
fn check(n: i32) -> io::Result<i32> {
    if n < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(n)
    }
}

/// Takes over a descriptor that a system call just returned, and keeps it
/// clear of 0, 1 and 2: where those were closed at the start, they stay so.
fn own(n: i32) -> io::Result<OwnedFd> {
    let raw = check(n)?;
    // SAFETY: the caller hands over what a system call just made.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    if raw > 2 { Ok(fd) } else { copy_high(&fd) }
}

/// A duplicate above 2, closed on exec.
pub fn copy_high(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved; a result ≥ 0 is a new descriptor.
    unsafe {
        let n = check(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3))?;
        Ok(OwnedFd::from_raw_fd(n))
    }
}

/// A duplicate of standard stream `n`, if it is open.
pub fn copy_standard(n: RawFd) -> io::Result<OwnedFd> {
    copy_high(&n)
}

/// Moves a descriptor that std made out of the way of 0, 1 and 2.
pub fn high(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        Ok(fd)
    } else {
        copy_high(&fd)
    }
}

/// Closes standard stream `n`.
pub fn close_standard(n: RawFd) {
    // SAFETY: std takes a closed standard stream for a sink, nothing else
    // in the launcher holds these numbers.
    unsafe { libc::close(n) };
}

/// Lets all threads to come allocate from one heap. glibc reserves 128 MB of
/// address space for each one's own, which a limit of it (`ulimit -v`) may not have.
pub fn use_one_heap() {
    // SAFETY: numbers only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Closes every descriptor but these.
pub fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().map(|fd| *fd as u32).collect();
    keep.sort_unstable();
    let mut from = 0;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if fd > from {
            // SAFETY: the drainer calls this as it begins, when it owns
            // nothing but what it keeps.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = fd.saturating_add(1);
    }
}

/// A memory file of `size` bytes, whose pages are still to be had: see
/// [`reserve`].
pub fn memory(name: &str, size: usize) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    // SAFETY: `name` is a C string.
    let fd = own(unsafe {
        libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
    })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), size as libc::off_t) })?;
    Ok(fd)
}

/// Has the pages of these bytes of a memory file made: if there is no memory for
/// them, better now than as a SIGBUS in the program.
pub fn reserve(fd: &OwnedFd, bytes: std::ops::Range<usize>) -> io::Result<()> {
    let (from, len) = (bytes.start as libc::off_t, bytes.len() as libc::off_t);
    // SAFETY: no memory is involved.
    check(unsafe { libc::fallocate(fd.as_raw_fd(), 0, from, len) })?;
    Ok(())
}

/// Seals a memory file against change of size, and of content if `content`.
pub fn seal(fd: &OwnedFd, content: bool) -> io::Result<()> {
    let mut seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    if content {
        seals |= libc::F_SEAL_WRITE;
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(())
}

/// Maps a run's state for good.
pub fn map_state(fd: &OwnedFd) -> io::Result<&'static State> {
    let file = std::fs::File::from(fd.try_clone()?);
    if file.metadata()?.len() < State::SIZE as u64 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: a new mapping of a file that is large enough and cannot shrink;
    // `State` is made of atomics, for which every bit pattern is a value and
    // which others may write at any time; it is never unmapped.
    unsafe {
        let p = libc::mmap(
            std::ptr::null_mut(),
            State::SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            0,
        );
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(&*p.cast::<State>())
    }
}

/// Undoes [`map_state`]: nothing of the state may be used afterwards.
pub fn unmap_state(state: &'static State) {
    // SAFETY: the address came from `map_state`; the one caller reads the
    // header and then lets go.
    unsafe { libc::munmap(std::ptr::from_ref(state).cast_mut().cast(), State::SIZE) };
}

/// Waits until `word` is not `seen`, somebody wakes it, or the time is over.
pub fn futex_wait(word: &AtomicU32, seen: u32, time: Duration) {
    let time = libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(time.subsec_nanos()),
    };
    // SAFETY: `word` outlives the call, `time` too.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            seen,
            &raw const time,
        )
    };
}

/// Wakes everybody who waits for `word`.
pub fn futex_wake(word: &AtomicU32) {
    futex_wake_some(word, u64::MAX);
}

/// Wakes at most so many of them.
pub fn futex_wake_some(word: &AtomicU32, most: u64) {
    let most = i32::try_from(most).unwrap_or(i32::MAX);
    // SAFETY: `word` outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, most) };
}

/// Time of `clock`.
fn clock(clock: libc::clockid_t) -> Duration {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is writable.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// `CLOCK_MONOTONIC`, past a library that invents the time (libfaketime).
pub fn monotonic() -> Duration {
    real_clock(libc::CLOCK_MONOTONIC)
}

/// The time of a clock, asked of the kernel itself.
fn real_clock(clock: libc::clockid_t) -> Duration {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is writable.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, &raw mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// A moment of [`monotonic`] time: under libfaketime that of `std` may stand
/// still.
#[derive(Clone, Copy, Debug)]
pub struct Instant(Duration);

impl Instant {
    /// This moment.
    #[must_use]
    pub fn now() -> Instant {
        Instant(monotonic())
    }

    /// How long ago it was.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Instant::now().since(*self)
    }

    /// How long after `earlier` it is.
    #[must_use]
    pub fn since(&self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// `CLOCK_REALTIME`.
pub fn realtime() -> Duration {
    clock(libc::CLOCK_REALTIME)
}

/// The processor's counter, as the shim reads it.
#[cfg(target_arch = "x86_64")]
pub fn counter() -> u64 {
    // SAFETY: an instruction without operands; the launcher never forbids it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The processor's counter, as the shim reads it.
#[cfg(target_arch = "aarch64")]
pub fn counter() -> u64 {
    let count: u64;
    // SAFETY: reads a register that Linux lets everybody read.
    unsafe {
        core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack, preserves_flags));
    }
    count
}

/// `CLOCK_BOOTTIME`, which `/proc/PID/stat` counts in.
pub fn boottime() -> Duration {
    real_clock(libc::CLOCK_BOOTTIME)
}

/// Clock ticks per second in `/proc/PID/stat`.
pub fn ticks() -> u64 {
    // SAFETY: no memory is involved.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

/// Seconds that local time is ahead of UTC at `time` (seconds since the epoch).
pub fn utc_offset(time: i64) -> i32 {
    let time = time as libc::time_t;
    // SAFETY: an all-zero `tm` is a value; both pointers are to locals.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&raw const time, &raw mut tm).is_null() {
            return 0;
        }
        tm.tm_gmtoff as i32
    }
}

/// Random bytes.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the buffer is N bytes long.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    if n == N as isize {
        Ok(bytes)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Is the descriptor a terminal?
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::isatty(fd) == 1 }
}

/// Real and effective user ID, then real and effective group ID.
pub fn ids() -> (u32, u32, u32, u32) {
    // SAFETY: no memory is involved.
    unsafe {
        let users = (libc::getuid(), libc::geteuid());
        (users.0, users.1, libc::getgid(), libc::getegid())
    }
}

/// The id of the user called `name`.
pub fn user_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a C string; the launcher has one thread when it asks,
    // and reads the result before the next call.
    unsafe {
        let entry = libc::getpwnam(name.as_ptr());
        (!entry.is_null()).then(|| (*entry).pw_uid)
    }
}

/// The devices of this network name space: indices and names. `/sys` may show
/// another name space's.
pub fn devices() -> Vec<(u32, String)> {
    let mut all = Vec::new();
    // SAFETY: a list that ends with a null name, each name before that a C
    // string; the names are copied before the list is given back.
    unsafe {
        let list = libc::if_nameindex();
        let mut at = list;
        while !at.is_null() && !(*at).if_name.is_null() {
            let name = CStr::from_ptr((*at).if_name).to_string_lossy();
            all.push(((*at).if_index, name.into_owned()));
            at = at.add(1);
        }
        if !list.is_null() {
            libc::if_freenameindex(list);
        }
    }
    all
}

/// Has the file capabilities?
pub fn has_capabilities(path: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: two C strings; size 0 only asks for the length.
    unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        ) > 0
    }
}

/// May this process execute the file?
pub fn may_execute(path: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: a C string.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// Is `no_new_privs` set?
pub fn no_new_privs() -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}

/// Is the file on a file system that is mounted `nosuid`?
pub fn is_nosuid(path: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: an all-zero `statvfs` is a value and writable; a C string.
    unsafe {
        let mut fs: libc::statvfs = std::mem::zeroed();
        libc::statvfs(path.as_ptr(), &raw mut fs) == 0 && fs.f_flag & libc::ST_NOSUID != 0
    }
}

/// Is nobody else holding the memory file behind `fd`, neither open nor
/// mapped? The kernel grants a write lease only then. `fd` must be an open of
/// its own through `/proc`, as must those of all others be: the first
/// descriptor that `memfd_create` gives is not counted.
///
/// `None` where the kernel cannot say.
pub fn is_alone(fd: &OwnedFd) -> Option<bool> {
    // SAFETY: no memory is involved.
    unsafe {
        if libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0 {
            libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK);
            return Some(true);
        }
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN | libc::EBUSY) => Some(false),
        _ => None,
    }
}

/// Waits until one of these is ready to be read; true for each that is.
/// Negative ones never are.
pub fn poll(fds: &[RawFd], time: Duration) -> Vec<bool> {
    let mut polled: Vec<_> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: *fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let millis = i32::try_from(time.as_millis()).unwrap_or(-1);
    // SAFETY: the array is as long as said.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
    polled.iter().map(|p| p.revents != 0).collect()
}

/// What an ioctl(2) that gives a number says.
pub fn ask_number(file: &impl AsRawFd, request: libc::Ioctl) -> Option<u32> {
    let mut number = 0u32;
    // SAFETY: such a request writes 4 bytes, for which there is room.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut number) }).ok()?;
    Some(number)
}

/// Reads what is there.
pub fn read(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as said.
    let n = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    check(n as i32).map(|n| n as usize)
}

/// Writes what can be written at once.
pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // One write stays well below what fits the result.
    let bytes = bytes.get(..bytes.len().min(1 << 20)).unwrap_or(bytes);
    // SAFETY: the buffer is as long as said.
    let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    check(n as i32).map(|n| n as usize)
}

/// Waits until nobody else has this file locked, and locks it until it is closed.
///
/// # Errors
/// Where the file system has no locks.
pub fn lock(fd: RawFd) -> io::Result<()> {
    loop {
        // SAFETY: no memory is involved.
        match check(unsafe { libc::flock(fd, libc::LOCK_EX) }) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// Closes a descriptor that its owner will not use again.
pub fn close(fd: RawFd) {
    // SAFETY: the drainer's standard error copy: its owner is leaked.
    unsafe { libc::close(fd) };
}

/// Puts what is behind `by` behind the number of `fd`.
pub fn replace(by: &OwnedFd, fd: &mut OwnedFd) -> io::Result<()> {
    // SAFETY: `fd` is borrowed mutably: nobody else uses it now.
    check(unsafe { libc::dup3(by.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) }).map(|_| ())
}

/// Waits until `fd` can be written to again.
pub fn wait_writable(fd: RawFd) {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one entry.
    unsafe { libc::poll(&raw mut polled, 1, 100) };
}
