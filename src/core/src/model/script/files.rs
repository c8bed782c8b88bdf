//! The file system of a script: what it says of directories and files, and the
//! paths that its sockets have been bound to.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::model::Errno;
use crate::model::linux::PathState;

/// A line about the file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileLine {
    /// `file PATH`: root has a file there that is not a socket.
    File(Vec<u8>),
    /// `file PATH removed`
    Removed(Vec<u8>),
    /// `directory PATH …`
    Directory(Vec<u8>, Directory),
}

/// A directory that a script describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Directory {
    /// It is not there.
    pub absent: bool,
    /// Its file system is mounted read-only.
    pub read_only: bool,
    /// Its user and group.
    pub uid: u32,
    /// Who may do what with it.
    pub mode: u16,
}

impl Directory {
    /// One that everybody may write.
    pub const OPEN: Directory = Directory {
        absent: false,
        read_only: false,
        uid: 0,
        mode: 0o777,
    };

    /// May this user do this here? `bits` are those of others.
    fn lets(&self, uid: u32, bits: u16) -> bool {
        let shift = if uid == self.uid { 6 } else { 0 };
        uid == 0 || self.mode >> shift & bits == bits
    }
}

/// What has a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct File {
    uid: u32,
    /// The network of the socket that was bound to it; none for other files.
    home: Option<u32>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<Vec<u8>, File>,
    directories: BTreeMap<Vec<u8>, Directory>,
}

impl Files {
    pub fn clear(&mut self) {
        self.files.clear();
        self.directories.clear();
    }

    pub fn apply(&mut self, line: &FileLine) {
        match line {
            FileLine::File(path) => {
                let file = File { uid: 0, home: None };
                self.files.insert(path.clone(), file);
            }
            FileLine::Removed(path) => {
                self.files.remove(path);
            }
            FileLine::Directory(path, is) => {
                self.directories.insert(path.clone(), *is);
            }
        }
    }

    /// A socket of this network and user has been bound to the path.
    pub fn bound(&mut self, path: &[u8], uid: u32, home: u32) {
        let home = Some(home);
        self.files.insert(path.to_vec(), File { uid, home });
    }

    /// `link_path_walk`: the directory that the path is in, for this user.
    fn parent(&self, path: &[u8], uid: u32) -> Result<Directory, Errno> {
        let mut parent = Directory::OPEN;
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let name = path.get(..at.max(1)).unwrap_or(path);
            let Some(found) = self.directories.get(name) else {
                // Nobody has said anything: everybody may, on the same file system.
                parent = Directory {
                    read_only: parent.read_only,
                    ..Directory::OPEN
                };
                continue;
            };
            if found.absent {
                return Err(Errno::ENOENT);
            }
            if !found.lets(uid, 1) {
                return Err(Errno::EACCES);
            }
            parent = Directory {
                read_only: found.read_only || parent.read_only,
                ..*found
            };
        }
        Ok(parent)
    }

    /// For a bind: `filename_create`, then `may_create`.
    pub fn to_bind(&self, path: &[u8], uid: u32) -> PathState {
        match self.parent(path, uid) {
            Err(e) => PathState::Refused(e),
            Ok(_) if self.files.contains_key(path) => PathState::Exists,
            Ok(parent) if parent.read_only => PathState::Refused(Errno::EROFS),
            Ok(parent) if !parent.lets(uid, 3) => PathState::Refused(Errno::EACCES),
            Ok(_) => PathState::Free,
        }
    }

    /// For a connect from this network: `kern_path`, then `path_permission`.
    pub fn to_connect(&self, path: &[u8], uid: u32, home: u32) -> PathState {
        let parent = match self.parent(path, uid) {
            Err(e) => return PathState::Refused(e),
            Ok(parent) => parent,
        };
        match self.files.get(path) {
            None => PathState::Free,
            // sb_permission: sockets may be written on a read-only file system.
            Some(file) if file.home.is_none() && parent.read_only => {
                PathState::Refused(Errno::EROFS)
            }
            // Mode 0755 or 0644, as most umasks make it.
            Some(file) if uid != 0 && uid != file.uid => PathState::Refused(Errno::EACCES),
            Some(file) if file.home.is_some_and(|of| of != home) => PathState::Elsewhere,
            Some(_) => PathState::Exists,
        }
    }
}
