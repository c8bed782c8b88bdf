//! Files, directories, paths. A path is a byte string that ends with a NUL.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use crate::{Allowed, Call, Errno};

/// fstat(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn fstat(allowed: Allowed, fd: i32) -> Result<libc::stat, Errno> {
    let mut st = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel fills in a live structure; zeroed plain integers are
    // a value of it even where it does not.
    unsafe {
        call!(allowed, Call::Fstat, libc::SYS_fstat, fd, st.as_mut_ptr())?;
        Ok(st.assume_init())
    }
}

/// The inode number behind a descriptor.
///
/// # Errors
/// As fstat(2).
#[inline]
pub fn inode(allowed: Allowed, fd: i32) -> Result<u64, Errno> {
    Ok(fstat(allowed, fd)?.st_ino)
}

/// stat(2) of a path, relative to the working directory.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn stat(allowed: Allowed, path: &[u8]) -> Result<libc::stat, Errno> {
    debug_assert!(path.last() == Some(&0));
    let mut st = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel reads a live string and fills in a live structure, of
    // which zeroed plain integers are a value.
    unsafe {
        call!(
            allowed,
            Call::Newfstatat,
            libc::SYS_newfstatat,
            libc::AT_FDCWD,
            path.as_ptr(),
            st.as_mut_ptr(),
            0
        )?;
        Ok(st.assume_init())
    }
}

/// fchmodat(2) of a path, relative to the working directory.
///
/// # Errors
/// The kernel's.
pub fn chmod(allowed: Allowed, path: &[u8], mode: u32) -> Result<(), Errno> {
    debug_assert!(path.last() == Some(&0));
    // SAFETY: the kernel reads a live string.
    unsafe {
        call!(
            allowed,
            Call::Fchmodat,
            libc::SYS_fchmodat,
            libc::AT_FDCWD,
            path.as_ptr(),
            mode
        )?;
    }
    Ok(())
}

/// openat(2), close-on-exec.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn open_at(
    allowed: Allowed,
    dir: i32,
    path: &[u8],
    flags: i32,
    mode: u32,
) -> Result<i32, Errno> {
    debug_assert!(path.last() == Some(&0));
    // SAFETY: the kernel reads a live string.
    let fd = unsafe {
        call!(
            allowed,
            Call::Openat,
            libc::SYS_openat,
            dir,
            path.as_ptr(),
            flags | libc::O_CLOEXEC,
            mode
        )?
    };
    Ok(fd as i32)
}

/// openat(2) from the working directory.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn open(allowed: Allowed, path: &[u8], flags: i32) -> Result<i32, Errno> {
    open_at(allowed, libc::AT_FDCWD, path, flags, 0)
}

/// read(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn read(allowed: Allowed, fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes to a live slice.
    unsafe {
        call!(
            allowed,
            Call::Read,
            libc::SYS_read,
            fd,
            buf.as_mut_ptr(),
            buf.len()
        )
    }
}

/// pread(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn pread(allowed: Allowed, fd: i32, buf: &mut [u8], at: u64) -> Result<usize, Errno> {
    // SAFETY: the kernel writes to a live slice.
    unsafe {
        call!(
            allowed,
            Call::Pread64,
            libc::SYS_pread64,
            fd,
            buf.as_mut_ptr(),
            buf.len(),
            at
        )
    }
}

/// write(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn write(allowed: Allowed, fd: i32, buf: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads a live slice.
    unsafe {
        call!(
            allowed,
            Call::Write,
            libc::SYS_write,
            fd,
            buf.as_ptr(),
            buf.len()
        )
    }
}

/// write(2), until all of it is written or no more can be; how many bytes are.
#[inline]
pub fn write_all(allowed: Allowed, fd: i32, buf: &[u8]) -> usize {
    let mut done = 0;
    while let Some(rest) = buf.get(done..)
        && !rest.is_empty()
    {
        match write(allowed, fd, rest) {
            Ok(n) if n > 0 => done += n,
            Err(Errno(e)) if i32::from(e) == libc::EINTR => {}
            _ => break,
        }
    }
    done
}

/// getdents64(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn getdents(allowed: Allowed, fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes to a live slice.
    unsafe {
        call!(
            allowed,
            Call::Getdents64,
            libc::SYS_getdents64,
            fd,
            buf.as_mut_ptr(),
            buf.len()
        )
    }
}

/// readlinkat(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn readlink_at(
    allowed: Allowed,
    dir: i32,
    path: &[u8],
    buf: &mut [u8],
) -> Result<usize, Errno> {
    debug_assert!(path.last() == Some(&0));
    // SAFETY: the kernel reads a live string and writes to a live slice.
    unsafe {
        call!(
            allowed,
            Call::Readlinkat,
            libc::SYS_readlinkat,
            dir,
            path.as_ptr(),
            buf.as_mut_ptr(),
            buf.len()
        )
    }
}

/// unlink(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn unlink(allowed: Allowed, path: &[u8]) -> Result<(), Errno> {
    debug_assert!(path.last() == Some(&0));
    // SAFETY: the kernel reads a live string.
    unsafe {
        call!(
            allowed,
            Call::Unlinkat,
            libc::SYS_unlinkat,
            libc::AT_FDCWD,
            path.as_ptr(),
            0
        )?;
    }
    Ok(())
}

/// May the real user read the file?
#[inline]
pub fn may_read(allowed: Allowed, path: &[u8]) -> bool {
    access(allowed, path, libc::R_OK).is_ok()
}

/// faccessat(2).
#[inline]
pub(crate) fn access(allowed: Allowed, path: &[u8], mode: i32) -> Result<usize, Errno> {
    debug_assert!(path.last() == Some(&0));
    // SAFETY: the kernel reads a live string.
    unsafe {
        call!(
            allowed,
            Call::Faccessat,
            libc::SYS_faccessat,
            libc::AT_FDCWD,
            path.as_ptr(),
            mode
        )
    }
}

/// getcwd(2): bytes written, the terminating NUL included.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn getcwd(allowed: Allowed, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes to a live slice.
    unsafe {
        call!(
            allowed,
            Call::Getcwd,
            libc::SYS_getcwd,
            buf.as_mut_ptr(),
            buf.len()
        )
    }
}

/// Has the file an extended attribute of this name?
#[inline]
pub fn has_xattr(allowed: Allowed, path: &[u8], name: &CStr) -> bool {
    xattr_len(allowed, path, name).is_ok()
}

/// getxattr(2) without room for the value: its length.
#[inline]
pub(crate) fn xattr_len(allowed: Allowed, path: &[u8], name: &CStr) -> Result<usize, Errno> {
    debug_assert!(path.last() == Some(&0));
    // SAFETY: the kernel reads two live strings and, with no room given, only
    // says how long the value is.
    unsafe {
        call!(
            allowed,
            Call::Getxattr,
            libc::SYS_getxattr,
            path.as_ptr(),
            name.as_ptr(),
            core::ptr::null::<u8>(),
            0
        )
    }
}
