//! The shim's own system calls.
//!
//! They go straight to the kernel: a call through libc would come back to our
//! own hooks, touch `errno`, and be a cancellation point. Everything here is
//! async-signal-safe. Rule 10 of the crate root says who may call what when.

use bindgate_core::record::Words;

/// An errno value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub u16);

#[cfg(target_arch = "x86_64")]
unsafe fn syscall6(n: libc::c_long, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel's calling convention: rcx and r11 are clobbered, all
    // else is kept. What the call does to memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") n as isize => ret,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    ret
}

#[cfg(target_arch = "aarch64")]
unsafe fn syscall6(n: libc::c_long, a: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel's calling convention: only x0 changes. What the call
    // does to memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") n,
            inlateout("x0") a[0] as isize => ret,
            in("x1") a[1], in("x2") a[2], in("x3") a[3],
            in("x4") a[4], in("x5") a[5],
            options(nostack)
        );
    }
    ret
}

fn check(ret: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&ret) {
        Err(Errno(-ret as u16))
    } else {
        Ok(ret as usize)
    }
}

/// `call!(number, args…)`: a raw call whose pointers, if any, the caller has
/// made sure of.
macro_rules! call {
    ($n:expr $(, $a:expr)*) => {{
        let given: &[usize] = &[$($a as usize),*];
        let mut args = [0usize; 6];
        args[..given.len()].copy_from_slice(given);
        // SAFETY: every pointer handed over below is to a live local of the
        // stated size, or to memory that the kernel itself checks.
        $crate::sys::check(unsafe { $crate::sys::syscall6($n, args) })
    }};
}

mod memory;
mod process;
mod time;

pub use memory::*;
pub use process::*;
pub use time::*;

/// One integer option. Errors are the kernel's.
pub fn getsockopt_int(fd: i32, level: i32, name: i32) -> Result<i32, Errno> {
    let mut value = 0i32;
    let mut len = 4u32;
    call!(
        libc::SYS_getsockopt,
        fd,
        level,
        name,
        &raw mut value,
        &raw mut len
    )?;
    Ok(value)
}

/// Any option, into `value`; how many bytes there were.
pub fn getsockopt(fd: i32, level: i32, name: i32, value: &mut [u8]) -> Result<usize, Errno> {
    let mut len = value.len() as u32;
    call!(
        libc::SYS_getsockopt,
        fd,
        level,
        name,
        value.as_mut_ptr(),
        &raw mut len
    )?;
    Ok(len as usize)
}

/// getsockopt(2) into memory of the program's: the kernel says if it is not
/// there.
pub fn getsockopt_into(
    fd: i32,
    level: i32,
    name: i32,
    value: *mut libc::c_void,
    len: *mut u32,
) -> Result<(), Errno> {
    call!(libc::SYS_getsockopt, fd, level, name, value, len)?;
    Ok(())
}

/// setsockopt(2) from memory of the program's: the kernel says if it is not
/// there.
pub fn setsockopt_from(
    fd: i32,
    level: i32,
    name: i32,
    value: *const libc::c_void,
    len: u32,
) -> Result<(), Errno> {
    call!(libc::SYS_setsockopt, fd, level, name, value, len)?;
    Ok(())
}

/// Sets any option.
pub fn setsockopt(fd: i32, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    call!(
        libc::SYS_setsockopt,
        fd,
        level,
        name,
        value.as_ptr(),
        value.len()
    )?;
    Ok(())
}

/// `SO_COOKIE`: the socket's identity.
pub fn cookie(fd: i32) -> Result<u64, Errno> {
    let mut value = 0u64;
    let mut len = 8u32;
    call!(
        libc::SYS_getsockopt,
        fd,
        libc::SOL_SOCKET,
        libc::SO_COOKIE,
        &raw mut value,
        &raw mut len
    )?;
    Ok(value)
}

/// The inode number behind a descriptor.
pub fn inode(fd: i32) -> Result<u64, Errno> {
    Ok(fstat(fd)?.st_ino)
}

/// fstat(2).
pub fn fstat(fd: i32) -> Result<libc::stat, Errno> {
    let mut st = core::mem::MaybeUninit::<libc::stat>::zeroed();
    call!(libc::SYS_fstat, fd, st.as_mut_ptr())?;
    // SAFETY: zeroed plain integers, then filled by the kernel.
    Ok(unsafe { st.assume_init() })
}

/// stat(2) of a NUL-terminated path, relative to the working directory.
pub fn stat(path: &[u8]) -> Result<libc::stat, Errno> {
    debug_assert!(path.last() == Some(&0));
    let mut st = core::mem::MaybeUninit::<libc::stat>::zeroed();
    call!(
        libc::SYS_newfstatat,
        libc::AT_FDCWD,
        path.as_ptr(),
        st.as_mut_ptr(),
        0
    )?;
    // SAFETY: zeroed plain integers, then filled by the kernel.
    Ok(unsafe { st.assume_init() })
}

/// getsockname(2) or getpeername(2) into `buf`; the address's full length.
fn name(n: libc::c_long, fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut len = buf.len() as u32;
    call!(n, fd, buf.as_mut_ptr(), &raw mut len)?;
    Ok(len as usize)
}

/// getsockname(2).
pub fn getsockname(fd: i32) -> Result<bindgate_core::addr::RawAddr, Errno> {
    let mut buf = [0; 128];
    let len = name(libc::SYS_getsockname, fd, &mut buf)?;
    buf.get(..len)
        .and_then(bindgate_core::addr::RawAddr::of_name)
        .ok_or(Errno(libc::EINVAL as u16))
}

/// getsockname(2), for an IP address.
pub fn getsockname_ip(fd: i32) -> Result<Words, Errno> {
    let mut words = [0; 4];
    let room = size_of_val(&words) as u32;
    let mut len = room;
    call!(libc::SYS_getsockname, fd, &raw mut words, &raw mut len)?;
    let len = len.min(room) as u8;
    Ok(Words { words, len })
}

/// getpeername(2).
pub fn getpeername(fd: i32) -> Result<bindgate_core::addr::RawAddr, Errno> {
    let mut buf = [0; 128];
    let len = name(libc::SYS_getpeername, fd, &mut buf)?;
    buf.get(..len)
        .and_then(bindgate_core::addr::RawAddr::new)
        .ok_or(Errno(libc::EINVAL as u16))
}

/// bind(2).
pub fn bind(fd: i32, addr: &[u8]) -> Result<(), Errno> {
    call!(libc::SYS_bind, fd, addr.as_ptr(), addr.len())?;
    Ok(())
}

/// bind(2) with one byte at `at` for an address, which every family refuses
/// once the kernel has read it.
pub fn bind_one_byte(fd: i32, at: usize) -> Result<(), Errno> {
    call!(libc::SYS_bind, fd, at, 1)?;
    Ok(())
}

/// connect(2) with one byte at `at` for an address, likewise.
pub fn connect_one_byte(fd: i32, at: usize) -> Result<(), Errno> {
    call!(libc::SYS_connect, fd, at, 1)?;
    Ok(())
}

/// connect(2).
pub fn connect(fd: i32, addr: &[u8]) -> Result<(), Errno> {
    call!(libc::SYS_connect, fd, addr.as_ptr(), addr.len())?;
    Ok(())
}

/// socket(2).
pub fn socket(domain: i32, ty: i32, protocol: i32) -> Result<i32, Errno> {
    Ok(call!(libc::SYS_socket, domain, ty, protocol)? as i32)
}

/// close(2).
pub fn close(fd: i32) {
    let _ = call!(libc::SYS_close, fd);
}

/// dup3(2).
pub fn dup3(old: i32, new: i32, flags: i32) -> Result<(), Errno> {
    call!(libc::SYS_dup3, old, new, flags)?;
    Ok(())
}

/// fcntl(2) with an integer argument.
pub fn fcntl(fd: i32, cmd: i32, arg: usize) -> Result<usize, Errno> {
    call!(libc::SYS_fcntl, fd, cmd, arg)
}

/// epoll_ctl(2) with `EPOLL_CTL_ADD`.
pub fn epoll_add(ep: i32, fd: i32, events: u32, data: u64) -> Result<(), Errno> {
    let mut event = libc::epoll_event { events, u64: data };
    call!(
        libc::SYS_epoll_ctl,
        ep,
        libc::EPOLL_CTL_ADD,
        fd,
        &raw mut event
    )?;
    Ok(())
}

/// `before`, a number and `after` in `buf`, with a NUL behind them; `None` if
/// that does not fit.
pub fn print<'a>(
    buf: &'a mut [u8],
    before: &[u8],
    mut number: u64,
    after: &[u8],
) -> Option<&'a [u8]> {
    let mut digits = [0u8; 20];
    let mut from = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        from = from.saturating_sub(1);
        if number == 0 {
            break;
        }
    }
    let digits = digits.get(from..)?;
    let mut len = 0;
    for byte in before.iter().chain(digits).chain(after).chain(b"\0") {
        *buf.get_mut(len)? = *byte;
        len += 1;
    }
    buf.get(..len)
}

/// openat(2) of a NUL-terminated path, close-on-exec.
pub fn open_at(dir: i32, path: &[u8], flags: i32, mode: u32) -> Result<i32, Errno> {
    debug_assert!(path.last() == Some(&0));
    Ok(call!(
        libc::SYS_openat,
        dir,
        path.as_ptr(),
        flags | libc::O_CLOEXEC,
        mode
    )? as i32)
}

/// openat(2) from the working directory.
pub fn open(path: &[u8], flags: i32) -> Result<i32, Errno> {
    open_at(libc::AT_FDCWD, path, flags, 0)
}

/// read(2).
pub fn read(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    call!(libc::SYS_read, fd, buf.as_mut_ptr(), buf.len())
}

/// pread(2).
pub fn pread(fd: i32, buf: &mut [u8], at: u64) -> Result<usize, Errno> {
    call!(libc::SYS_pread64, fd, buf.as_mut_ptr(), buf.len(), at)
}

/// write(2), until all of it is written or no more can be; how many bytes are.
pub fn write_all(fd: i32, buf: &[u8]) -> usize {
    let mut done = 0;
    while let Some(rest) = buf.get(done..)
        && !rest.is_empty()
    {
        match call!(libc::SYS_write, fd, rest.as_ptr(), rest.len()) {
            Ok(n) if n > 0 => done += n,
            Err(Errno(e)) if i32::from(e) == libc::EINTR => {}
            _ => break,
        }
    }
    done
}

/// getdents64(2).
pub fn getdents(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    call!(libc::SYS_getdents64, fd, buf.as_mut_ptr(), buf.len())
}

/// readlinkat(2).
pub fn readlink_at(dir: i32, path: &[u8], buf: &mut [u8]) -> Result<usize, Errno> {
    debug_assert!(path.last() == Some(&0));
    call!(
        libc::SYS_readlinkat,
        dir,
        path.as_ptr(),
        buf.as_mut_ptr(),
        buf.len()
    )
}

/// unlink(2) of a NUL-terminated path.
pub fn unlink(path: &[u8]) -> Result<(), Errno> {
    debug_assert!(path.last() == Some(&0));
    call!(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0)?;
    Ok(())
}

/// faccessat(2) for execution, of a NUL-terminated path.
pub fn may_execute(path: &[u8]) -> bool {
    may(path, libc::X_OK)
}

/// faccessat(2) for reading, of a NUL-terminated path.
pub fn may_read(path: &[u8]) -> bool {
    may(path, libc::R_OK)
}

fn may(path: &[u8], mode: i32) -> bool {
    debug_assert!(path.last() == Some(&0));
    call!(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), mode).is_ok()
}

/// getcwd(2): bytes written, the terminating NUL included.
pub fn getcwd(buf: &mut [u8]) -> Result<usize, Errno> {
    call!(libc::SYS_getcwd, buf.as_mut_ptr(), buf.len())
}

/// Length of an extended attribute of a NUL-terminated path.
pub fn has_xattr(path: &[u8], name: &core::ffi::CStr) -> bool {
    debug_assert!(path.last() == Some(&0));
    call!(
        libc::SYS_getxattr,
        path.as_ptr(),
        name.as_ptr(),
        core::ptr::null::<u8>(),
        0
    )
    .is_ok()
}

/// Wakes all sleepers on a futex word shared between processes.
pub fn futex_wake(word: &core::sync::atomic::AtomicU32) {
    let _ = call!(
        libc::SYS_futex,
        word.as_ptr(),
        libc::FUTEX_WAKE,
        i32::MAX,
        0,
        0,
        0
    );
}

/// Sleeps while `word` is `seen`, at most `millis`.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, seen: u32, millis: u64) {
    let timeout = libc::timespec {
        tv_sec: (millis / 1000) as libc::time_t,
        tv_nsec: (millis % 1000 * 1_000_000) as libc::c_long,
    };
    let _ = call!(
        libc::SYS_futex,
        word.as_ptr(),
        libc::FUTEX_WAIT,
        seen,
        &raw const timeout,
        0,
        0
    );
}

/// No signal reaches this thread while this lives: a handler that left by
/// siglongjmp would leave behind what is held meanwhile, a descriptor above
/// all. Not under a seccomp filter.
#[must_use]
pub struct NoSignals(u64);

impl NoSignals {
    /// From now on. What the program had blocked comes back in the end.
    pub fn hold() -> NoSignals {
        let (all, mut before) = (!0u64, 0u64);
        let how = libc::SIG_SETMASK;
        // It fails for bad pointers only.
        let _ = call!(
            libc::SYS_rt_sigprocmask,
            how,
            &raw const all,
            &raw mut before,
            8
        );
        NoSignals(before)
    }
}

/// Runs `part` while no signal reaches this thread; see [`NoSignals`].
///
/// A guard that is dropped costs more than it looks: its clean-up for a panic
/// keeps the compiler from seeing, a few calls further up, that there is none.
/// So only builds that can panic have it.
pub fn without_signals<T>(part: impl FnOnce() -> T) -> T {
    let held = NoSignals::hold();
    #[cfg(not(any(debug_assertions, feature = "inject")))]
    let held = core::mem::ManuallyDrop::new(held);
    let done = part();
    #[cfg(not(any(debug_assertions, feature = "inject")))]
    let held = core::mem::ManuallyDrop::into_inner(held);
    drop(held);
    done
}

impl Drop for NoSignals {
    fn drop(&mut self) {
        let how = libc::SIG_SETMASK;
        let _ = call!(libc::SYS_rt_sigprocmask, how, &raw const self.0, 0, 8);
    }
}

/// sendto(2) on a connected socket, without `SIGPIPE`.
pub fn send(fd: i32, buf: &[u8]) -> Result<usize, Errno> {
    call!(
        libc::SYS_sendto,
        fd,
        buf.as_ptr(),
        buf.len(),
        libc::MSG_NOSIGNAL,
        0,
        0
    )
}

/// recvmsg(2), with close-on-exec on what arrives.
///
/// # Safety
/// `msg` and all that it points to must be live and of the stated sizes.
pub unsafe fn recvmsg(fd: i32, msg: &mut libc::msghdr) -> Result<usize, Errno> {
    call!(libc::SYS_recvmsg, fd, &raw mut *msg, libc::MSG_CMSG_CLOEXEC)
}
