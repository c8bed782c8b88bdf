//! What the file system says of the path that a bind names.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use bindgate_core::model::Errno;
use bindgate_core::model::linux::PathState;
use bindgate_core::model::script::{Call, Line};

/// What the file system says of a path that `uid` binds to: asked before.
pub fn path_state(path: &[u8], uid: u32) -> PathState {
    let refused = |e: &io::Error| {
        let e = e.raw_os_error().and_then(Errno::from_linux);
        PathState::Refused(e.unwrap_or(Errno::EACCES))
    };
    let cut = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    let (parent, last) = path.split_at(cut);
    let parent = if parent.is_empty() { b"." } else { parent };
    let parent = match std::fs::metadata(OsStr::from_bytes(parent)) {
        Err(e) => return refused(&e),
        Ok(m) if !m.is_dir() => return PathState::Refused(Errno::ENOTDIR),
        Ok(m) => m,
    };
    let shift = if parent.uid() == uid { 6 } else { 0 };
    let may = |bits: u32| uid == 0 || parent.mode() >> shift & bits == bits;
    if !may(1) {
        return PathState::Refused(Errno::EACCES);
    }
    if last.is_empty() || last == b"." || last == b".." {
        return PathState::Exists;
    }
    match std::fs::symlink_metadata(OsStr::from_bytes(path)) {
        Ok(_) => PathState::Exists,
        Err(_) if !may(3) => PathState::Refused(Errno::EACCES),
        Err(_) => PathState::Free,
    }
}

/// The path that a bind names, if it names one.
pub fn path_of(line: &Line) -> Option<Vec<u8>> {
    match &line.call {
        Call::Bind { bytes, len } if bytes.first() == Some(&1) => {
            let end = len.map_or(bytes.len(), |l| usize::try_from(l).unwrap_or(0));
            let path = bytes.get(2..end.min(bytes.len())).unwrap_or(&[]);
            Some(path.split(|b| *b == 0).next().unwrap_or(&[]).to_vec())
        }
        _ => None,
    }
}
