//! Which working directory the child of a posix_spawn(3) will have.
//!
//! The file actions are libc's own, and it has no function that reads them: the
//! layout is the one that glibc has had since its `chdir` actions came (2.29).
//! `c-tests/exec_unintercepted.c` notices if that changes.

use core::ffi::{c_char, c_int, c_void};

use bytemuck::AnyBitPattern;

use crate::own::memory;
use crate::sys::{self, Allowed, Name};

/// `posix_spawn_file_actions_t`
#[repr(C)]
#[derive(Clone, Copy, AnyBitPattern)]
struct Actions {
    allocated: c_int,
    used: c_int,
    actions: usize,
}

impl Actions {
    /// Where action `n` stands.
    fn at(&self, n: usize) -> *const Action {
        (self.actions as *const Action).wrapping_add(n)
    }
}

/// `struct __spawn_action`
#[repr(C)]
#[derive(Clone, Copy, AnyBitPattern)]
struct Action {
    tag: c_int,
    of: [usize; 3],
}

/// `spawn_do_dup2`: the old descriptor and the new one.
const DUP2: c_int = 1;
/// `spawn_do_open`: the descriptor, then the path.
const OPEN: c_int = 2;
/// `spawn_do_chdir`: the path.
const CHDIR: c_int = 3;
/// `spawn_do_fchdir`: the descriptor.
const FCHDIR: c_int = 4;
/// The last tag that is known, `spawn_do_tcsetpgrp`.
const LAST: c_int = 6;

/// A directory that is held open until the program was looked at. It is closed
/// by [`Directory::close`]: the clean-up of a guard would keep the compiler from
/// seeing that nothing here panics.
pub struct Directory {
    fd: c_int,
    is_ours: bool,
}

impl Directory {
    /// Its descriptor.
    pub fn fd(&self) -> c_int {
        self.fd
    }

    /// Closes it, unless the descriptor is the program's own.
    pub fn close(self, allowed: Allowed) {
        if self.is_ours {
            sys::close(allowed, self.fd);
        }
    }
}

/// The directory that a descriptor will be after the first `n` actions.
fn behind(
    allowed: Allowed,
    list: &Actions,
    n: usize,
    mut fd: c_int,
    here: c_int,
) -> Option<Directory> {
    for n in (0..n).rev() {
        let action: Action = memory::read(allowed, list.at(n))?;
        let [first, second, _] = action.of;
        match action.tag {
            // The old number and the new one.
            DUP2 if (first >> 32) as c_int == fd => fd = first as c_int,
            OPEN if first as c_int == fd => {
                let name = Name {
                    dir: here,
                    path: second as *const c_void as *const c_char,
                    flags: 0,
                };
                let fd = name.open(allowed, libc::O_PATH | libc::O_DIRECTORY).ok()?;
                return Some(Directory { fd, is_ours: true });
            }
            _ => {}
        }
    }
    Some(Directory { fd, is_ours: false })
}

/// Where the actions lead; `None` where they do not leave this process's
/// working directory.
pub fn directory(
    allowed: Allowed,
    actions: *const libc::posix_spawn_file_actions_t,
) -> Option<Directory> {
    if !cfg!(target_env = "gnu") {
        return None;
    }
    let list: Actions = memory::read(allowed, actions.cast())?;
    let mut at = None;
    if follow(allowed, &list, &mut at).is_none()
        && let Some(directory) = at.take()
    {
        directory.close(allowed);
    }
    at
}

/// Puts the directory that the actions lead to into `at`; `None` where they
/// lead nowhere.
fn follow(allowed: Allowed, list: &Actions, at: &mut Option<Directory>) -> Option<()> {
    for n in 0..usize::try_from(list.used).ok()? {
        let action: Action = memory::read(allowed, list.at(n))?;
        let [first, ..] = action.of;
        let here = at.as_ref().map_or(libc::AT_FDCWD, Directory::fd);
        let next = match action.tag {
            CHDIR => {
                let name = Name {
                    dir: here,
                    path: first as *const c_void as *const c_char,
                    flags: 0,
                };
                // Where it fails the child fails, and executes nothing.
                let fd = name.open(allowed, libc::O_PATH | libc::O_DIRECTORY).ok()?;
                Directory { fd, is_ours: true }
            }
            FCHDIR => behind(allowed, list, n, first as c_int, here)?,
            0..=LAST => continue,
            _ => return None,
        };
        if let Some(before) = at.replace(next) {
            before.close(allowed);
        }
    }
    Some(())
}
