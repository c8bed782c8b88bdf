//! The socket at which a run answers as a virtual machine monitor does, and what
//! is done with whoever speaks there: see `bindgate_core::judge::vsock`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use bindgate_core::addr::{Addr, UnixName};
use bindgate_core::judge::vsock::{Delivered, Line};

use super::{check, fabric};

/// The option of a socket that says nothing to a Unix one.
const SO_MAX_PACING_RATE: i32 = 47;

/// A socket that listens at a path, for as long as it lives.
pub struct Monitor {
    fd: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl Monitor {
    /// Listens at a path; `None` if something else is there that is somebody's.
    ///
    /// # Errors
    /// As bind(2).
    pub fn open(path: &Path) -> io::Result<Option<Monitor>> {
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() || !fabric::is_abandoned(path)? {
                return Ok(None);
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let file = identity(path)?;
        let (fd, path) = (super::high(listener.into())?, path.to_owned());
        Ok(Some(Monitor { fd, path, file }))
    }

    /// The socket.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Leaves no file behind, unless it is another's by now.
    pub fn clear(&self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// What has been heard of a line.
#[derive(PartialEq, Eq, Debug)]
pub enum Heard {
    /// There may come more.
    Part,
    /// All of it. What follows it is still there.
    Whole,
    /// It will never be one.
    Nothing,
}

/// Reads what there is of a line, and not a byte more.
pub fn hear(fd: &OwnedFd, line: &mut Line) -> Heard {
    loop {
        let room = line.room();
        if room.is_empty() {
            return Heard::Nothing;
        }
        let there = match receive(fd, room, libc::MSG_PEEK) {
            Ok(0) => return Heard::Nothing,
            Ok(there) => there,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Heard::Part,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Heard::Nothing,
        };
        let (share, is_whole) = line.share(there);
        match receive(fd, line.room().get_mut(..share).unwrap_or_default(), 0) {
            Ok(taken) if taken == share => line.take(share),
            _ => return Heard::Nothing,
        }
        if is_whole {
            return Heard::Whole;
        }
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes to a live slice.
    let n = unsafe {
        libc::recv(
            fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            flags,
        )
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Says something, if whoever hears it is still there. The first words always
/// have room.
pub fn say(fd: &OwnedFd, text: &[u8]) {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the kernel reads a live slice.
    unsafe { libc::send(fd.as_raw_fd(), text.as_ptr().cast(), text.len(), flags) };
}

/// Can a Unix socket be marked? Sockets of a vsock host without a name are known by
/// their mark.
#[must_use]
pub fn can_mark() -> bool {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is involved; the descriptor is a new one of ours.
    let made = unsafe { super::own(libc::socket(libc::AF_UNIX, kind, 0)) };
    let marked = made.and_then(|fd| mark(&fd, Delivered::numbered(0, 0)));
    marked.is_ok()
}

/// Writes on a connection what it is to whoever gets it.
///
/// # Errors
/// As setsockopt(2).
pub fn mark(fd: &OwnedFd, delivered: Delivered) -> io::Result<()> {
    let mark = delivered.mark();
    // SAFETY: the kernel reads a live number.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MAX_PACING_RATE,
            (&raw const mark).cast(),
            size_of_val(&mark) as libc::socklen_t,
        )
    })
    .map(|_| ())
}

/// Connects to a listener, under a name of one's own. Waits for nothing.
///
/// # Errors
/// As bind(2) and connect(2): `WouldBlock` if its queue is full.
pub fn call(own: &UnixName, listener: &UnixName) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is involved; the descriptor is a new one of ours.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_UNIX, kind, 0))?) };
    let [own, listener] = [own, listener].map(|name| Addr::Unix(*name).write());
    let len = |bytes: &[u8]| bytes.len() as libc::socklen_t;
    let (from, to) = (own.bytes(), listener.bytes());
    // SAFETY: both addresses are live slices of these lengths.
    unsafe {
        check(libc::bind(fd.as_raw_fd(), from.as_ptr().cast(), len(from)))?;
        check(libc::connect(fd.as_raw_fd(), to.as_ptr().cast(), len(to)))?;
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_path_is_held_and_left_as_it_was() {
        let path = std::env::temp_dir().join(format!("monitor-{}", std::process::id()));
        let first = Monitor::open(&path).unwrap().expect("nobody is there");
        assert!(Monitor::open(&path).unwrap().is_none(), "it is taken");
        drop(first);
        // A child that another test forks has a copy for a moment.
        let next = loop {
            if let Some(next) = Monitor::open(&path).unwrap() {
                break next;
            }
            std::thread::yield_now();
        };
        next.clear();
        assert!(!path.exists());
        let other = UnixListener::bind(&path).unwrap();
        next.clear();
        assert!(path.exists(), "it is another's");
        drop(other);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "no socket").unwrap();
        assert!(Monitor::open(&path).unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn no_more_than_a_line_is_read() {
        let (mut says, hears) = UnixStream::pair().unwrap();
        let mut rest = hears.try_clone().unwrap();
        let hears = OwnedFd::from(hears);
        let mut line = Line::default();
        assert_eq!(hear(&hears, &mut line), Heard::Part);
        says.write_all(b"CONN").unwrap();
        assert_eq!(hear(&hears, &mut line), Heard::Part);
        says.write_all(b"ECT 52\nearly").unwrap();
        drop(says);
        assert_eq!(hear(&hears, &mut line), Heard::Whole);
        assert_eq!(line.get(), b"CONNECT 52\n");
        let mut text = String::new();
        rest.read_to_string(&mut text).unwrap();
        assert_eq!(text, "early");
        for text in ["CONNECT 5", "CONNECT 00000000000000000000000000000052\n"] {
            let (mut says, hears) = UnixStream::pair().unwrap();
            says.write_all(text.as_bytes()).unwrap();
            drop(says);
            let heard = hear(&hears.into(), &mut Line::default());
            assert_eq!(heard, Heard::Nothing, "{text}");
        }
    }
}
