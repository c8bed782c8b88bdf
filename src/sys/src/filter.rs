//! Seccomp filters: is there one, how many, and what do they let through?
//!
//! What a filter lets through is found out by trying. A filter may answer a
//! call with an error or end the process for it, so the calls are tried in
//! children. Each is made so that nothing comes of it, as with a descriptor
//! that is none, and works if the answer is the one that only the kernel
//! behind the filter would give.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::{Allowed, Call, Calls, Errno};

/// Is this thread under a seccomp filter? A filter that forbids the question
/// is one.
#[must_use]
#[inline]
pub fn is_there(allowed: Allowed) -> bool {
    // SAFETY: no memory is involved.
    let mode = unsafe {
        call!(
            allowed,
            Call::Prctl,
            libc::SYS_prctl,
            libc::PR_GET_SECCOMP,
            0,
            0,
            0,
            0
        )
    };
    match mode {
        Ok(mode) => mode != 0,
        // A kernel that has no such thing.
        Err(Errno(e)) => i32::from(e) != libc::EINVAL,
    }
}

/// How many filters bind the process: its main thread, which before `main` is
/// the only one. `None` where the kernel does not say (before Linux 5.9), or
/// there is no `/proc`.
#[must_use]
#[inline]
pub fn count(allowed: Allowed) -> Option<u32> {
    count_in(allowed, b"/proc/self/status\0")
}

/// How many filters bind the process whose `/proc/PID/status` this is.
#[must_use]
#[inline]
pub fn count_in(allowed: Allowed, path: &[u8]) -> Option<u32> {
    let fd = crate::open(allowed, path, libc::O_RDONLY).ok()?;
    let mut search = Search::new();
    let mut buf = [0; 256];
    let found = loop {
        match crate::read(allowed, fd, &mut buf) {
            Ok(len @ 1..) => {
                let part = buf.get(..len).unwrap_or(&[]);
                if let Some(count) = part.iter().find_map(|byte| search.next(*byte)) {
                    break Some(count);
                }
            }
            _ => break None,
        }
    };
    crate::close(allowed, fd);
    found
}

/// Looks for `Seccomp_filters:` in a text that comes byte by byte.
struct Search {
    matched: usize,
    count: Option<u32>,
}

impl Search {
    const NAME: &[u8] = b"\nSeccomp_filters:";

    fn new() -> Search {
        Search {
            matched: 0,
            count: None,
        }
    }

    /// The number, once its line has ended.
    fn next(&mut self, byte: u8) -> Option<u32> {
        if self.matched < Search::NAME.len() {
            if Search::NAME.get(self.matched) == Some(&byte) {
                self.matched += 1;
            } else {
                self.matched = usize::from(byte == b'\n');
            }
            return None;
        }
        match byte {
            b'0'..=b'9' => {
                let digit = u32::from(byte - b'0');
                let count = self.count.unwrap_or(0);
                self.count = Some(count.saturating_mul(10).saturating_add(digit));
                None
            }
            b'\n' => self.count,
            _ => None,
        }
    }
}

/// What parent and child of the trial share.
struct Shared {
    /// The call that is being tried.
    at: AtomicU32,
    /// Those that worked.
    works: AtomicU64,
}

/// Tries every call, and says which ones work.
///
/// Needs `mmap`, `clone` and `wait4`, which it makes untried; where these fail
/// nothing is known to work. The process gets no `SIGCHLD`.
#[must_use]
pub fn trial() -> Calls {
    let all = Allowed::ALL;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let Ok(page) = crate::mmap(all, size_of::<Shared>(), prot, flags, -1) else {
        return Calls::NONE;
    };
    // SAFETY: fresh zeroed memory of at least that size, of atomics that any
    // bytes are a value of, unmapped only after the last use.
    let shared: &Shared = unsafe { &*page.cast() };
    let mut from = 0;
    while Call::EVERY.len() > from {
        shared.at.store(from as u32, Relaxed);
        // SAFETY: a child with a copy of the memory; it makes system calls of
        // its own and ends, without touching a lock that another thread of
        // the parent may have held.
        match unsafe { crate::check(raw!(libc::SYS_clone, 0, 0, 0, 0, 0)) } {
            Ok(0) => try_from(shared, from),
            Ok(child) if has_ended_well(child) => break,
            // It died of the call that it was at.
            Ok(_) => from = shared.at.load(Relaxed) as usize + 1,
            Err(_) => break,
        }
    }
    let works = Calls::from_word(shared.works.load(Relaxed));
    // SAFETY: `shared` is not used again.
    unsafe { crate::munmap(all, page, size_of::<Shared>()) };
    works
}

/// Waits for the child; has it come to its end?
fn has_ended_well(child: usize) -> bool {
    let mut status = 0i32;
    loop {
        // SAFETY: the kernel writes to a live local.
        let waited = unsafe {
            crate::check(raw!(
                libc::SYS_wait4,
                child,
                &raw mut status,
                libc::__WALL,
                0
            ))
        };
        match waited {
            Err(Errno(e)) if i32::from(e) == libc::EINTR => {}
            Ok(_) => return status == 0,
            Err(_) => return true,
        }
    }
}

/// The child: tries the calls from number `from` on, and ends.
fn try_from(shared: &Shared, from: usize) -> ! {
    // A child that a filter ends leaves no core file behind.
    // SAFETY: no memory is involved.
    let _ = unsafe {
        call!(
            Allowed::ALL,
            Call::Prctl,
            libc::SYS_prctl,
            libc::PR_SET_DUMPABLE,
            0,
            0,
            0,
            0
        )
    };
    for (i, call) in Call::EVERY.iter().enumerate().skip(from) {
        shared.at.store(i as u32, Relaxed);
        if works(*call) {
            let works = Calls::from_word(shared.works.load(Relaxed));
            shared.works.store(works.with(*call).word(), Relaxed);
        }
    }
    crate::exit(0)
}

/// Makes the call; did the kernel answer it?
fn works(call: Call) -> bool {
    let all = Allowed::ALL;
    let fails = |answer: Result<usize, Errno>, with: i32| answer == Err(Errno(with as u16));
    let mut byte = [0u8; 1];
    let mut word = 0u64;
    let socket = |family: i32| crate::socket(all, family, 0xf, 0).map(|fd| fd as usize);
    match call {
        Call::Getpid => crate::getpid(all) != 0,
        Call::Gettid => crate::gettid(all) != 0,
        Call::ClockGettime => crate::clock_gettime(all, libc::CLOCK_MONOTONIC).is_ok(),
        Call::Getsockopt => fails(
            crate::getsockopt(all, -1, libc::SOL_SOCKET, libc::SO_TYPE, &mut byte),
            libc::EBADF,
        ),
        Call::Setsockopt => fails(
            crate::setsockopt(all, -1, libc::SOL_SOCKET, libc::SO_DEBUG, &[0; 4]).map(|()| 0),
            libc::EBADF,
        ),
        Call::Getsockname => fails(crate::getsockname(all, -1, &mut byte), libc::EBADF),
        Call::Getpeername => fails(crate::getpeername(all, -1, &mut byte), libc::EBADF),
        Call::Geteuid => crate::geteuid(all).is_some(),
        Call::RtSigprocmask => {
            // Both answers to the question that is asked of memory.
            crate::is_readable(all, (&raw const word) as usize) == Some(true)
                && crate::is_readable(all, 8) == Some(false)
                && !crate::NoSignals::hold(all).is_idle()
        }
        Call::RtSigpending => crate::pending(all).is_ok(),
        Call::RtSigtimedwait => fails(crate::take_one(all, 0), libc::EAGAIN),
        Call::ProcessVmWritev => {
            let to = (&raw mut word).cast();
            // SAFETY: a live local of that size.
            unsafe { crate::write_own_memory(all, to, &1u64.to_ne_bytes()) }.is_ok()
        }
        Call::Futex => {
            // The word is another one already: nobody sleeps.
            // SAFETY: the kernel reads a live local.
            let waited = unsafe {
                call!(
                    all,
                    Call::Futex,
                    libc::SYS_futex,
                    &raw const word,
                    libc::FUTEX_WAIT,
                    1,
                    0
                )
            };
            fails(waited, libc::EAGAIN)
        }
        // SAFETY: no memory is involved.
        Call::SchedYield => unsafe { call!(all, call, libc::SYS_sched_yield) }.is_ok(),
        Call::Mmap | Call::Munmap | Call::Madvise => maps(call),
        Call::Openat => fails(open_nothing(), libc::ENOENT),
        Call::Read => fails(crate::read(all, -1, &mut byte), libc::EBADF),
        Call::Pread64 => fails(crate::pread(all, -1, &mut byte, 0), libc::EBADF),
        Call::Write => fails(crate::write(all, -1, &byte), libc::EBADF),
        // SAFETY: no memory is involved.
        Call::Close => fails(
            unsafe { call!(all, call, libc::SYS_close, -1i32) },
            libc::EBADF,
        ),
        Call::Fstat => fails(crate::fstat(all, -1).map(|_| 0), libc::EBADF),
        Call::Newfstatat => fails(crate::stat(all, b"\0").map(|_| 0), libc::ENOENT),
        Call::Readlinkat => fails(
            crate::readlink_at(all, libc::AT_FDCWD, b"\0", &mut byte),
            libc::ENOENT,
        ),
        Call::Faccessat => fails(crate::access(all, b"\0", libc::R_OK), libc::ENOENT),
        Call::Getxattr => fails(crate::xattr_len(all, b"\0", c"user.x"), libc::ENOENT),
        Call::Getdents64 => fails(crate::getdents(all, -1, &mut byte), libc::EBADF),
        Call::Getcwd => {
            // ENOENT: of a directory that is not there any more.
            let answer = crate::getcwd(all, &mut byte);
            fails(answer, libc::ERANGE) || fails(answer, libc::ENOENT)
        }
        Call::Getresuid => crate::user_ids(all).is_some(),
        Call::Getresgid => crate::group_ids(all).is_some(),
        Call::Unlinkat => fails(crate::unlink(all, b"\0").map(|()| 0), libc::ENOENT),
        // Of a type that there is not, so that no socket comes of it.
        Call::SocketUnix => fails(socket(libc::AF_UNIX), libc::EINVAL),
        Call::SocketInet => fails(socket(libc::AF_INET), libc::EINVAL),
        Call::SocketNetlink => fails(socket(libc::AF_NETLINK), libc::EINVAL),
        Call::SocketOther => fails(socket(libc::AF_VSOCK), libc::EINVAL),
        Call::Bind => fails(crate::bind(all, -1, &[0; 16]).map(|()| 0), libc::EBADF),
        Call::Connect => fails(crate::connect(all, -1, &[0; 16]).map(|()| 0), libc::EBADF),
        Call::Sendto => fails(crate::send(all, -1, &byte), libc::EBADF),
        // SAFETY: no descriptor: the kernel does not come to the message.
        Call::Sendmsg => fails(
            unsafe { call!(all, call, libc::SYS_sendmsg, -1i32, 0, 0) },
            libc::EBADF,
        ),
        // SAFETY: no descriptor: the kernel does not come to the message.
        Call::Recvmsg => fails(
            unsafe { call!(all, call, libc::SYS_recvmsg, -1i32, 0, 0) },
            libc::EBADF,
        ),
        Call::Dup3 => fails(crate::dup3(all, -1, 0, 0).map(|()| 0), libc::EBADF),
        Call::Fcntl => fails(crate::fcntl(all, -1, libc::F_GETFD, 0), libc::EBADF),
        Call::EpollCtl => fails(crate::epoll_add(all, -1, 0, 0, 0).map(|()| 0), libc::EBADF),
        Call::Prctl => {
            // SAFETY: no memory is involved.
            unsafe { call!(all, call, libc::SYS_prctl, libc::PR_GET_SECCOMP, 0, 0, 0, 0) }.is_ok()
        }
        Call::Faccessat2 => {
            let nothing = crate::Name::here(c"".as_ptr());
            fails(nothing.access(all, libc::R_OK, 0), libc::ENOENT)
        }
        Call::Fgetxattr => fails(crate::fd_xattr_len(all, -1, c"user.x"), libc::EBADF),
        Call::Fchmodat => fails(crate::chmod(all, b"\0", 0).map(|()| 0), libc::ENOENT),
        // SAFETY: no descriptor: the kernel does not come to the number.
        Call::Ioctl => fails(
            unsafe { call!(all, call, libc::SYS_ioctl, -1i32, libc::FIONREAD, 0) },
            libc::EBADF,
        ),
        Call::Fstatfs => fails(crate::fstatfs(all, -1, &mut [0; 16]), libc::EBADF),
    }
}

/// openat(2) of a path that names nothing.
fn open_nothing() -> Result<usize, Errno> {
    crate::open(Allowed::ALL, b"\0", libc::O_RDONLY).map(|fd| fd as usize)
}

/// Maps a page, gives advice about it and unmaps it; did `call` work?
fn maps(call: Call) -> bool {
    let all = Allowed::ALL;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let Ok(page) = crate::mmap(all, 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1) else {
        return false;
    };
    match call {
        Call::Madvise => crate::madvise(all, page, 4096, libc::MADV_WIPEONFORK).is_ok(),
        // SAFETY: nobody uses the page.
        Call::Munmap => unsafe { call!(all, call, libc::SYS_munmap, page, 4096) }.is_ok(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn found(text: &str) -> Option<u32> {
        let mut search = Search::new();
        text.bytes().find_map(|byte| search.next(byte))
    }

    #[test]
    fn the_number_of_filters_is_found_in_the_status() {
        assert_eq!(
            found("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t13\nSpec"),
            Some(13)
        );
        assert_eq!(found("Seccomp:\t0\nSeccomp_filters:\t0\n"), Some(0));
        // A name can hold no line feed, so a line is a line.
        assert_eq!(found("Name:\tSeccomp_filters:\t1\nSeccomp:\t2\n"), None);
        assert_eq!(found("\n\nSeccomp_filters:\t7\n"), Some(7));
        assert_eq!(found("Seccomp:\t2\nSeccomp_filters:\t\n"), None);
        assert_eq!(found("Seccomp:\t2\nSeccomp_filters:\t5"), None);
    }

    #[test]
    fn without_a_filter_every_call_works() {
        let works = trial();
        for call in Call::EVERY {
            assert!(works.has(call) || is_there(Allowed::ALL), "{call:?}");
        }
    }

    #[test]
    fn every_call_has_a_bit_of_its_own() {
        let mut seen = Calls::NONE;
        for (i, call) in Call::EVERY.iter().enumerate() {
            assert_eq!(*call as usize, i);
            assert!(!seen.has(*call));
            seen = seen.with(*call);
        }
        assert_eq!(seen, Calls::ALL);
        let allowed = Allowed::only(Calls::of(&[Call::Read, Call::Close]));
        assert!(allowed.may(Call::Read) && !allowed.may(Call::Write));
        assert!(allowed.may_all(Calls::of(&[Call::Close])));
        assert!(!allowed.may_all(Calls::of(&[Call::Close, Call::Write])));
        assert_eq!(Allowed::from_forbidden(allowed.forbidden()), allowed);
        assert!(Allowed::NONE.is_none() && !allowed.is_none());
    }
}
