//! The Unix names of a run, at which its memory is handed out.
//!
//! The abstract one is there for every process that shares the network name
//! space; the socket in `/tmp` is for those that have left it. A sandbox's
//! children begin their lives in name spaces of their own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bindgate_core::addr::UnixKind;
use bindgate_core::shared::{DOOR, DOOR_FILE, Ticket};

use super::{diag, unix};

/// Both names, listening.
pub struct Doors {
    name: OwnedFd,
    file: Option<(OwnedFd, PathBuf)>,
}

impl Doors {
    /// Listens at the names of the run with this id. A file system that takes
    /// no socket leaves it the abstract name.
    pub fn open(id: &str) -> io::Result<Doors> {
        let [name, file] = names(id);
        let name = unix::listen(&name)?;
        let path: PathBuf = String::from_utf8_lossy(&file).trim_end_matches('\0').into();
        let listen = || {
            let fd = unix::listen(&file)?;
            // Whoever may know the secret may come, whichever user that is.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
            Ok(fd)
        };
        let file = listen().map_err(|e: io::Error| log::debug!("{}: {e}", path.display()));
        Ok(Doors {
            name,
            file: file.ok().map(|fd| (fd, path)),
        })
    }

    /// Connects to the run with this id, of which no ticket is known.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn knock_at(id: &str) -> io::Result<OwnedFd> {
        let [name, file] = names(id);
        unix::connect(&name).or_else(|_| unix::connect(&file))
    }

    /// Connects to the run that a ticket is for.
    pub fn knock(ticket: &Ticket) -> io::Result<OwnedFd> {
        let [name, file] = names(&String::from_utf8_lossy(&ticket.id()));
        match unix::connect(&name) {
            Err(_) if ticket.has_file => unix::connect(&file),
            other => other,
        }
    }

    /// Listens at the run's abstract name in the network namespace of the
    /// caller, where the other one is not to be seen.
    ///
    /// # Errors
    /// As bind(2).
    pub fn within(ticket: &Ticket) -> io::Result<OwnedFd> {
        let [name, _] = names(&String::from_utf8_lossy(&ticket.id()));
        unix::listen(&name)
    }

    /// The file, if there is one: else one of that name is a stranger's.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(_, path)| path.as_path())
    }

    /// The descriptors: -1 in place of the second if there is none.
    pub fn fds(&self) -> [RawFd; 2] {
        let file = self.file.as_ref().map_or(-1, |(fd, _)| fd.as_raw_fd());
        [self.name.as_raw_fd(), file]
    }

    /// The next that knocks at either.
    pub fn accept(&self) -> Option<OwnedFd> {
        let file = self.file.iter().map(|(fd, _)| fd);
        std::iter::once(&self.name)
            .chain(file)
            .find_map(|fd| unix::accept(fd).ok().flatten())
    }

    /// Leaves no file behind.
    pub fn clear(&self) {
        if let Some(path) = self.path() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The ids of the runs whose names can be seen from here: in this network
/// namespace, and in `/tmp`. One may have ended, and a name be a stranger's.
#[must_use]
pub fn all() -> Vec<String> {
    let mut ids = Vec::new();
    for socket in diag::unix_sockets() {
        let name = socket.name.filter(|name| name.kind == UnixKind::Abstract);
        ids.extend(name.and_then(|name| as_id(name.bytes().strip_prefix(DOOR)?)));
    }
    ids.extend(of_files());
    ids
}

/// The ids of the runs that have a socket in `/tmp`.
fn of_files() -> Vec<String> {
    let file = Path::new(std::ffi::OsStr::from_bytes(DOOR_FILE));
    let (Some(directory), Some(start)) = (file.parent(), file.file_name()) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let id = |name: std::ffi::OsString| as_id(name.as_bytes().strip_prefix(start.as_bytes())?);
    names.filter_map(id).collect()
}

/// The id that a name ends with.
fn as_id(id: &[u8]) -> Option<String> {
    let is_id = id.len() == 16 && id.iter().all(u8::is_ascii_hexdigit);
    is_id.then(|| String::from_utf8_lossy(id).into_owned())
}

/// Removes the sockets in `/tmp` of runs whose daemon was killed: nobody listens
/// there any more. Those of other users stay where the directory is sticky.
pub fn clear_dead() {
    /// Younger ones may be between bind(2) and listen(2).
    const YOUNG: std::time::Duration = std::time::Duration::from_secs(60);
    let file = Path::new(std::ffi::OsStr::from_bytes(DOOR_FILE));
    let (Some(directory), Some(start)) = (file.parent(), file.file_name()) else {
        return;
    };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.as_bytes().strip_prefix(start.as_bytes());
        let is_door = id.and_then(as_id).is_some();
        let is_old = || {
            let made = entry.metadata().and_then(|m| m.modified()).ok()?;
            made.elapsed().ok().filter(|age| *age > YOUNG)
        };
        if !is_door || is_old().is_none() {
            continue;
        }
        let path = [entry.path().as_os_str().as_bytes(), b"\0"].concat();
        let refused = unix::connect(&path).is_err_and(|e| {
            // Not a full queue, and not a socket that this user may not use.
            e.kind() == io::ErrorKind::ConnectionRefused
        });
        if refused {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The abstract name, which begins with a NUL, and the path, which ends with
/// one.
fn names(id: &str) -> [Vec<u8>; 2] {
    let id = id.as_bytes();
    [
        [b"\0", &DOOR[..], id].concat(),
        [&DOOR_FILE[..], id, b"\0"].concat(),
    ]
}

/// Tells of runs that begin, by the sockets that they make in `/tmp`.
///
/// By a signal, as `F_NOTIFY` of fcntl(2) has it: a process that has an inotify descriptor
/// takes more than ten milliseconds to end.
pub struct Arrivals {
    signals: OwnedFd,
    _directory: OwnedFd,
}

impl Arrivals {
    /// From now on. `SIGIO` is blocked.
    ///
    /// # Errors
    /// If the directory cannot be watched, or takes no socket: a run that begins has
    /// nothing but its abstract name then.
    pub fn watch() -> io::Result<Arrivals> {
        let file = Path::new(std::ffi::OsStr::from_bytes(DOOR_FILE));
        let path = file.parent().ok_or(io::ErrorKind::NotFound)?;
        let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: a C string.
        super::check(unsafe { libc::access(name.as_ptr(), libc::W_OK) })?;
        super::signal::block(libc::SIGIO)?;
        let signals = super::signal::watch(libc::SIGIO)?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: a C string.
        let directory = super::own(unsafe { libc::open(name.as_ptr(), flags) })?;
        // `<linux/fcntl.h>`
        const DN_CREATE: i32 = 4;
        const DN_RENAME: i32 = 16;
        const DN_MULTISHOT: i32 = i32::MIN;
        let what = DN_CREATE | DN_RENAME | DN_MULTISHOT;
        // SAFETY: no memory is involved.
        super::check(unsafe { libc::fcntl(directory.as_raw_fd(), libc::F_NOTIFY, what) })?;
        Ok(Arrivals {
            signals,
            _directory: directory,
        })
    }

    /// Readable when there may be some.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.signals.as_raw_fd()
    }

    /// The ids of all runs that have a socket there.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let mut drop = [0; 1024];
        while super::read(&self.signals, &mut drop).is_ok_and(|n| n > 0) {}
        of_files()
    }
}
