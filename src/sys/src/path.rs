//! Files by names that may be the program's own: the kernel reads them, and
//! says if they are not there.

use core::ffi::{CStr, c_char};

use crate::{Allowed, Call, Errno};

/// A file: a NUL-terminated path, the directory that it starts from if it does
/// not begin with `/`, and `AT_EMPTY_PATH` where an empty one is that directory
/// itself.
#[derive(Clone, Copy)]
pub struct Name {
    /// A descriptor, or `AT_FDCWD`.
    pub dir: i32,
    /// The path.
    pub path: *const c_char,
    /// 0 or `AT_EMPTY_PATH`.
    pub flags: i32,
}

impl Name {
    /// From the working directory.
    #[must_use]
    pub const fn here(path: *const c_char) -> Name {
        Name {
            dir: libc::AT_FDCWD,
            path,
            flags: 0,
        }
    }

    /// newfstatat(2).
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat(self, allowed: Allowed) -> Result<libc::stat, Errno> {
        let mut st = core::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: the kernel reads a path, of which it checks whether it is
        // there, and writes to a live structure of that size.
        unsafe {
            call!(
                allowed,
                Call::Newfstatat,
                libc::SYS_newfstatat,
                self.dir,
                self.path,
                st.as_mut_ptr(),
                self.flags
            )?;
            Ok(st.assume_init())
        }
    }

    /// openat(2), close-on-exec. It knows no `AT_EMPTY_PATH`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(self, allowed: Allowed, flags: i32) -> Result<i32, Errno> {
        let flags = flags | libc::O_CLOEXEC;
        // SAFETY: the kernel reads a path, of which it checks whether it is
        // there.
        let fd = unsafe {
            call!(
                allowed,
                Call::Openat,
                libc::SYS_openat,
                self.dir,
                self.path,
                flags,
                0
            )
        };
        fd.map(|fd| fd as i32)
    }

    /// May it be executed with the effective IDs? faccessat2(2), or where there
    /// is none, with the real ones: faccessat(2).
    #[must_use]
    pub fn may_execute(self, allowed: Allowed) -> bool {
        let mode = libc::X_OK;
        match self.access(allowed, mode, self.flags | libc::AT_EACCESS) {
            // SAFETY: the kernel reads a path, of which it checks whether it
            // is there.
            Err(Errno(e)) if i32::from(e) == libc::ENOSYS => unsafe {
                call!(
                    allowed,
                    Call::Faccessat,
                    libc::SYS_faccessat,
                    self.dir,
                    self.path,
                    mode
                )
                .is_ok()
            },
            answer => answer.is_ok(),
        }
    }

    /// faccessat2(2).
    pub(crate) fn access(self, allowed: Allowed, mode: i32, flags: i32) -> Result<usize, Errno> {
        // SAFETY: the kernel reads a path, of which it checks whether it is
        // there.
        unsafe {
            call!(
                allowed,
                Call::Faccessat2,
                libc::SYS_faccessat2,
                self.dir,
                self.path,
                mode,
                flags
            )
        }
    }
}

/// Has the file behind `fd` an extended attribute of this name?
#[must_use]
pub fn has_xattr_of(allowed: Allowed, fd: i32, name: &CStr) -> bool {
    fd_xattr_len(allowed, fd, name).is_ok()
}

/// fgetxattr(2) without room for the value: its length.
pub(crate) fn fd_xattr_len(allowed: Allowed, fd: i32, name: &CStr) -> Result<usize, Errno> {
    // SAFETY: the kernel reads a live string and, with no room given, only says
    // how long the value is.
    unsafe {
        call!(
            allowed,
            Call::Fgetxattr,
            libc::SYS_fgetxattr,
            fd,
            name.as_ptr(),
            core::ptr::null::<u8>(),
            0
        )
    }
}

/// Is the file behind `fd` on a file system that is mounted `nosuid`?
#[must_use]
pub fn is_nosuid(allowed: Allowed, fd: i32) -> bool {
    // `struct statfs` is words on a 64-bit kernel; its flags are the eleventh.
    let mut fs = [0u64; 16];
    fstatfs(allowed, fd, &mut fs).is_ok() && fs[10] & libc::ST_NOSUID != 0
}

/// fstatfs(2): 15 words.
pub(crate) fn fstatfs(allowed: Allowed, fd: i32, to: &mut [u64; 16]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes to a live array that is larger than what it
    // writes.
    unsafe {
        call!(
            allowed,
            Call::Fstatfs,
            libc::SYS_fstatfs,
            fd,
            to.as_mut_ptr()
        )
    }
}
