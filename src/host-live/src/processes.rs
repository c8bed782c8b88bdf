//! Which process has a socket open, as far as this user may see.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

/// The processes that have sockets open, by the sockets' inodes: of several
/// that have the same, the one with the lowest number, which is mostly the
/// parent of the others.
#[must_use]
pub fn of_sockets() -> HashMap<u32, u32> {
    let first = |(inode, pids): (u32, Vec<u32>)| Some((inode, *pids.first()?));
    holders().into_iter().filter_map(first).collect()
}

/// All the processes that have sockets open, in order, by the sockets' inodes.
#[must_use]
pub fn holders() -> HashMap<u32, Vec<u32>> {
    let mut all: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for fd in fds.flatten() {
            let Ok(link) = std::fs::read_link(fd.path()) else {
                continue;
            };
            let inode = link.as_os_str().as_bytes();
            let inode = inode.strip_prefix(b"socket:[");
            let inode = inode.and_then(|rest| rest.strip_suffix(b"]"));
            let inode = inode.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            if let Some(inode) = inode {
                all.entry(inode).or_default().push(pid);
            }
        }
    }
    for pids in all.values_mut() {
        pids.sort_unstable();
        pids.dedup();
    }
    all
}

/// May this user look at the open files of every process?
#[must_use]
pub fn all_can_be_seen() -> bool {
    use std::io::ErrorKind::PermissionDenied;
    let is_refused = |pid| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
        files.is_err_and(|e| e.kind() == PermissionDenied)
    };
    !pids().any(is_refused)
}

/// The number under which a process has the socket with this inode open.
#[must_use]
pub fn descriptor(pid: u32, inode: u32) -> Option<i32> {
    let wanted = format!("socket:[{inode}]");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    files.flatten().find_map(|entry| {
        let link = std::fs::read_link(entry.path()).ok()?;
        let is_it = link.as_os_str().as_bytes() == wanted.as_bytes();
        is_it.then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

/// The executable of a process, or what it calls itself where that may not be
/// seen; empty if it is gone.
#[must_use]
pub fn program(pid: u32) -> Vec<u8> {
    if let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) {
        let path = path.as_os_str().as_bytes();
        return path.strip_suffix(b" (deleted)").unwrap_or(path).to_vec();
    }
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_ascii_end().to_vec()
}

pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn this_process_has_its_sockets_open() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let inode = std::fs::metadata(format!("/proc/self/fd/{fd}")).expect("its inode");
        let owners = of_sockets();
        let pid = owners.get(&(inode.ino() as u32));
        assert_eq!(pid, Some(&std::process::id()));
        let me = std::env::current_exe().expect("a path");
        assert_eq!(program(std::process::id()), me.as_os_str().as_bytes());
        drop(socket);
    }
}
