//! What the file system says of the path that a bind or a connect names.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use bindgate_core::model::Errno;
use bindgate_core::model::linux::PathState;
use bindgate_core::model::script::{Call, Line};

fn refused(e: &io::Error) -> PathState {
    let e = e.raw_os_error().and_then(Errno::from_linux);
    PathState::Refused(e.unwrap_or(Errno::EACCES))
}

/// The directory of a path, which `uid` may search, and the last name.
fn parent(path: &[u8], uid: u32) -> Result<(Metadata, &[u8]), PathState> {
    let cut = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    let (parent, last) = path.split_at(cut);
    let parent = if parent.is_empty() { b"." } else { parent };
    let parent = std::fs::metadata(OsStr::from_bytes(parent)).map_err(|e| refused(&e))?;
    if !parent.is_dir() {
        return Err(PathState::Refused(Errno::ENOTDIR));
    }
    if !may(&parent, uid, 1) {
        return Err(PathState::Refused(Errno::EACCES));
    }
    Ok((parent, last))
}

/// May `uid`, whose group has the same number, do this with a file?
fn may(file: &Metadata, uid: u32, bits: u32) -> bool {
    let shift = match () {
        () if file.uid() == uid => 6,
        () if file.gid() == uid => 3,
        () => 0,
    };
    uid == 0 || file.mode() >> shift & bits == bits
}

/// What the file system says of a path that `uid` binds to: asked before.
pub fn path_state(path: &[u8], uid: u32) -> PathState {
    let (parent, last) = match parent(path, uid) {
        Ok(found) => found,
        Err(why) => return why,
    };
    if last.is_empty() || last == b"." || last == b".." {
        return PathState::Exists;
    }
    match std::fs::symlink_metadata(OsStr::from_bytes(path)) {
        Ok(_) => PathState::Exists,
        Err(_) if !may(&parent, uid, 3) => PathState::Refused(Errno::EACCES),
        Err(_) => PathState::Free,
    }
}

/// What it says of a path that `uid` connects to: asked before.
pub fn connect_state(path: &[u8], uid: u32) -> PathState {
    if let Err(why) = parent(path, uid) {
        return why;
    }
    let name = OsStr::from_bytes(path);
    let file = match std::fs::metadata(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return PathState::Free,
        Err(e) => return refused(&e),
        Ok(file) => file,
    };
    if !may(&file, uid, 2) {
        return PathState::Refused(Errno::EACCES);
    }
    let real = std::fs::canonicalize(name).unwrap_or_default();
    if file.file_type().is_socket() && real.as_os_str() != name {
        return PathState::Elsewhere;
    }
    PathState::Exists
}

/// The path that a bind or a connect names, if it names one.
pub fn path_of(line: &Line) -> Option<Vec<u8>> {
    match &line.call {
        Call::Bind { bytes, .. } | Call::Connect { bytes } if bytes.first() == Some(&1) => {
            let len = match line.call {
                Call::Bind { len, .. } => len,
                _ => None,
            };
            let end = len.map_or(bytes.len(), |l| usize::try_from(l).unwrap_or(0));
            let path = bytes.get(2..end.min(bytes.len())).unwrap_or(&[]);
            Some(path.split(|b| *b == 0).next().unwrap_or(&[]).to_vec())
        }
        _ => None,
    }
}
