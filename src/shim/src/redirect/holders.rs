//! Who else holds a socket or a name: answers from `/proc`.
//!
//! Only the rare moves to a Unix socket ask. Directories are read with
//! getdents64: opendir(3) allocates. What is read lies on pages of its own: a
//! handler's stack is small.

use bindgate_core::addr::{UnixKind, UnixName};

use crate::own::memory::Pages;
use crate::own::text;
use crate::sys::{self, Allowed};

/// Bytes of a line that are looked at.
const LONGEST_LINE: usize = 512;
/// Bytes read at a time.
const READ: usize = 4096;

/// Calls `visit` with each entry name of a directory until it says stop.
/// `false` if the directory cannot be read.
pub fn each_entry(
    allowed: Allowed,
    path: &[u8],
    mut visit: impl FnMut(&[u8], i32) -> Walk,
) -> bool {
    let Some(mut pages) = Pages::new(allowed, READ) else {
        return false;
    };
    let Ok(dir) = sys::open(allowed, path, libc::O_RDONLY | libc::O_DIRECTORY) else {
        return false;
    };
    'read: while let Ok(len @ 1..) = sys::getdents(allowed, dir, pages.bytes_mut()) {
        let mut rest = pages.bytes().get(..len).unwrap_or(&[]);
        // linux_dirent64: ino (8), off (8), reclen (2), type (1), name.
        while let (Some(&[a, b]), Some(tail)) = (rest.get(16..18), rest.get(19..)) {
            let name = tail.split(|c| *c == 0).next().unwrap_or(&[]);
            if !matches!(name, b"." | b"..") && visit(name, dir) == Walk::Stop {
                break 'read;
            }
            let reclen = usize::from(u16::from_ne_bytes([a, b])).max(20);
            rest = rest.get(reclen..).unwrap_or(&[]);
        }
    }
    sys::close(allowed, dir);
    true
}

/// Whether [`each_entry`] goes on.
#[derive(PartialEq, Eq)]
pub enum Walk {
    /// To the next entry.
    On,
    /// No further.
    Stop,
}

/// A decimal number.
pub fn number(text: &[u8]) -> Option<u32> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// `parts` joined and NUL-terminated in `buf`.
pub fn join<'a>(buf: &'a mut [u8], parts: &[&[u8]]) -> Option<&'a [u8]> {
    let len = text::join(buf, parts)?;
    *buf.get_mut(len)? = 0;
    buf.get(..=len)
}

/// `socket:[INODE]` as `/proc/PID/fd` shows it.
pub fn link_text(inode: u64, buf: &mut [u8; 40]) -> &[u8] {
    let text = text::print(buf, b"socket:[", inode, b"]").unwrap_or(&[]);
    text.strip_suffix(b"\0").unwrap_or(text)
}

/// Does another process hold a descriptor of the socket `inode`? Processes
/// whose descriptors we may not see cannot have got one by fork without a
/// change of user; those are not found.
pub fn is_shared(allowed: Allowed, inode: u64) -> bool {
    let me = sys::getpid(allowed);
    let mut text = [0; 40];
    let wanted = link_text(inode, &mut text);
    let mut shared = false;
    each_entry(allowed, b"/proc\0", |name, _| {
        if number(name).is_none_or(|pid| pid == me) {
            return Walk::On;
        }
        let mut path = [0u8; 64];
        let Some(path) = join(&mut path, &[b"/proc/", name, b"/fd"]) else {
            return Walk::On;
        };
        each_entry(allowed, path, |fd, dir| {
            let (mut name, mut link) = ([0u8; 24], [0u8; 40]);
            let Some(fd) = join(&mut name, &[fd]) else {
                return Walk::On;
            };
            if let Ok(n) = sys::readlink_at(allowed, dir, fd, &mut link)
                && link.get(..n) == Some(wanted)
            {
                shared = true;
                return Walk::Stop;
            }
            Walk::On
        });
        if shared { Walk::Stop } else { Walk::On }
    });
    shared
}

/// Calls `visit` with each of this process's descriptors and its link text.
pub fn each_own_fd(allowed: Allowed, mut visit: impl FnMut(i32, &[u8])) -> bool {
    each_entry(allowed, b"/proc/self/fd\0", |name, dir| {
        let (mut text, mut link) = ([0u8; 24], [0u8; 64]);
        let Some(path) = join(&mut text, &[name]) else {
            return Walk::On;
        };
        if let (Some(fd), Ok(n)) = (
            number(name),
            sys::readlink_at(allowed, dir, path, &mut link),
        ) && fd as i32 != dir
        {
            visit(fd as i32, link.get(..n).unwrap_or(&[]));
        }
        Walk::On
    })
}

/// Calls `visit` with each line of a file of `/proc`; of a longer one with its
/// first [`LONGEST_LINE`] bytes. `false` if the file cannot be opened.
pub fn each_line(allowed: Allowed, path: &[u8], mut visit: impl FnMut(&[u8])) -> bool {
    let Some(mut pages) = Pages::new(allowed, READ) else {
        return false;
    };
    let Ok(fd) = sys::open(allowed, path, libc::O_RDONLY) else {
        return false;
    };
    let Some((line, buf)) = pages
        .bytes_mut()
        .split_at_mut_checked(LONGEST_LINE.min(READ))
    else {
        sys::close(allowed, fd);
        return false;
    };
    let mut len = 0;
    while let Ok(n @ 1..) = sys::read(allowed, fd, buf) {
        for &c in buf.get(..n).unwrap_or(&[]) {
            if c == b'\n' {
                visit(line.get(..len).unwrap_or(&[]));
                len = 0;
            } else if let Some(to) = line.get_mut(len) {
                *to = c;
                len += 1;
            }
        }
    }
    sys::close(allowed, fd);
    true
}

/// Does a socket of this network name space have this name? `/proc/net/unix`
/// lists every one, by the name it was bound to; where it cannot be read the
/// answer is yes.
pub fn unix_name_in_use(allowed: Allowed, name: &UnixName) -> bool {
    let mut wanted = [0u8; 110];
    let prefix: &[u8] = match name.kind {
        UnixKind::Abstract => b" @",
        _ => b" ",
    };
    let len = join(&mut wanted, &[prefix, name.bytes()]).map_or(0, |w| w.len() - 1);
    let wanted = wanted.get(..len).unwrap_or(&[]);
    let mut found = false;
    let read = each_line(allowed, b"/proc/net/unix\0", |line| {
        found |= line.ends_with(wanted)
    });
    found || !read
}
