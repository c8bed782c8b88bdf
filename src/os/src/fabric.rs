//! The directory where vsock hosts meet: see `bindgate_core::judge::vsock`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{check, unix};

/// The file that everybody locks who makes or removes a name.
const LOCK: &str = "lock";
/// `struct flock`'s command for a lock that belongs to an open file, and that
/// the library takes too.
const F_OFD_SETLKW: i32 = 38;

/// Makes the directory, for this user alone, unless it is there.
///
/// # Errors
/// As mkdir(2) and open(2); `PermissionDenied` for a directory that is another
/// user's and that this one cannot write to.
pub fn make(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    lock_file(directory).map(|_| ())
}

fn lock_file(directory: &Path) -> io::Result<File> {
    // As open to others as the directory itself.
    let mode = std::fs::metadata(directory)?.mode() & 0o666;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(directory.join(LOCK))
}

/// Holds a CID for as long as the descriptor is open; `None` if somebody has it.
/// What earlier hosts of that CID left behind is removed.
///
/// # Errors
/// As open(2), fcntl(2) and bind(2).
pub fn register(directory: &Path, cid: u32) -> io::Result<Option<OwnedFd>> {
    let lock = lock_file(directory)?;
    // SAFETY: all-zero is a value: from the beginning to the end of the file.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as libc::c_short;
    // SAFETY: the kernel reads a live structure.
    check(unsafe { libc::fcntl(lock.as_raw_fd(), F_OFD_SETLKW, &raw const range) })?;
    let name = directory.join(format!("cid.{cid}"));
    if name.exists() {
        if !is_abandoned(&name)? {
            return Ok(None);
        }
        std::fs::remove_file(&name)?;
    }
    let start = format!("vsock.{cid}.");
    for entry in std::fs::read_dir(directory)?.flatten() {
        let is_old = entry.file_name().as_bytes().starts_with(start.as_bytes())
            && entry.file_type().is_ok_and(|kind| kind.is_socket());
        // A process may have outlived its run's daemon.
        if is_old && is_abandoned(&entry.path()).unwrap_or(false) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let mut path = name.as_os_str().as_bytes().to_vec();
    path.push(0);
    unix::listen(&path).map(Some)
}

/// Is nobody bound to a socket file? A datagram socket asks, of which a server
/// hears nothing: the kernel refuses it in one way where there is a server of
/// another type, and in another where there is none.
fn is_abandoned(path: &Path) -> io::Result<bool> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let refused = socket.connect(path).err();
    Ok(refused.is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cid_is_held_as_long_as_its_descriptor() {
        let directory = std::env::temp_dir().join(format!("fabric-{}", std::process::id()));
        make(&directory).unwrap();
        make(&directory).unwrap();
        let mode = std::fs::metadata(&directory).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let first = register(&directory, 3).unwrap();
        assert!(first.is_some());
        assert!(register(&directory, 3).unwrap().is_none(), "it is taken");
        assert!(register(&directory, 4).unwrap().is_some(), "another one");
        let left = directory.join("vsock.3.5000.any");
        drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
        let held = directory.join("vsock.3.5001.any");
        let listener = std::os::unix::net::UnixListener::bind(&held).unwrap();
        drop(first);
        assert!(
            register(&directory, 3).unwrap().is_some(),
            "it is free again"
        );
        assert!(!left.exists() && held.exists());
        drop(listener);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
