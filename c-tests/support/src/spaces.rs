//! Name spaces: a network of its own for each test, mounts where one asks.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Can this process make a network namespace as it is?
pub fn may_unshare() -> bool {
    std::thread::spawn(|| new_namespace(libc::CLONE_NEWNET).is_ok())
        .join()
        .unwrap_or(false)
}

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
