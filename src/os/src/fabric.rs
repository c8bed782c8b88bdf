//! The directory where vsock hosts meet: see `bindgate_core::judge::vsock`.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::{check, process, unix};

/// The file that everybody locks who makes or removes a name.
const LOCK: &str = "lock";
/// `struct flock`'s command for a lock that belongs to an open file, and that
/// the library takes too.
const F_OFD_SETLKW: i32 = 38;

/// Makes the directory, for this user alone, unless it is there.
///
/// # Errors
/// As mkdir(2) and open(2).
pub fn make(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    make_own(directory)?;
    lock_file(directory).map(|_| ())
}

/// The same in a directory of this user's own, which is made as well. That lies
/// where others may have made one of this name: it must be nobody else's.
///
/// # Errors
/// As [`make`], and `PermissionDenied` for a directory that is another user's,
/// that others can write to, or that is none.
pub fn make_in_own(parent: &Path, directory: &Path) -> io::Result<()> {
    for place in [parent, directory] {
        make_own(place)?;
        let is = std::fs::symlink_metadata(place)?;
        if !is.is_dir() || is.uid() != process::effective_uid() || is.mode() & 0o022 != 0 {
            let why = format!("{} is not this user's alone", place.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
    }
    lock_file(directory).map(|_| ())
}

/// Makes a directory that is not there, whatever the umask.
fn make_own(directory: &Path) -> io::Result<()> {
    match std::fs::create_dir(directory) {
        Ok(()) => std::fs::set_permissions(directory, Permissions::from_mode(0o700)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// What others may do with the files of a fabric: who may look into the directory
/// may lock it and connect.
///
/// # Errors
/// As stat(2).
pub fn mode(directory: &Path) -> io::Result<u32> {
    let open = std::fs::metadata(directory)?.mode();
    let of = |who: u32| if open & who != 0 { who * 6 } else { 0 };
    Ok(0o600 | of(0o010) | of(0o001))
}

fn lock_file(directory: &Path) -> io::Result<File> {
    let path = directory.join(LOCK);
    match OpenOptions::new().read(true).write(true).open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)?;
    // Somebody else may have been first.
    let _ = file.set_permissions(Permissions::from_mode(mode(directory)?));
    Ok(file)
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
    let held = unix::listen(&path)?;
    std::fs::set_permissions(&name, Permissions::from_mode(mode(directory)?))?;
    Ok(Some(held))
}

/// Is nobody bound to a socket file? A datagram socket asks, of which a server
/// hears nothing: the kernel refuses it in one way where there is a server of
/// another type, and in another where there is none.
pub(super) fn is_abandoned(path: &Path) -> io::Result<bool> {
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
        // It is free again, once no child that another test forks has a copy.
        while register(&directory, 3).unwrap().is_none() || left.exists() {
            std::thread::yield_now();
        }
        assert!(held.exists());
        drop(listener);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
