//! Where a process comes from: its ancestors, its service or container, its terminal.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use bindgate_core::render::Readable;
use bindgate_core::why::{Lineage, Opener};
use bindgate_os as sys;

/// Ancestors that are named.
const ANCESTORS: usize = 8;

/// A process with its program, and where it comes from.
#[must_use]
pub fn opener(pid: u32) -> Opener {
    Opener {
        lineage: of(pid),
        ..named(pid)
    }
}

/// A process with its program, and its parent alone.
#[must_use]
pub fn briefly(pid: u32) -> Opener {
    let parent = Stat::of(pid).and_then(|stat| Some((stat.parent, Stat::of(stat.parent)?.name)));
    Opener {
        lineage: Lineage {
            parents: parent.into_iter().collect(),
            ..Lineage::default()
        },
        ..named(pid)
    }
}

fn named(pid: u32) -> Opener {
    Opener {
        pid,
        program: file_name(&super::processes::program(pid)),
        lineage: Lineage::default(),
    }
}

/// The last part of a path, without what would move a cursor.
#[must_use]
pub fn file_name(path: &[u8]) -> String {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    Readable(name).to_string()
}

/// Where a process comes from, as far as `/proc` shows it.
#[must_use]
pub fn of(pid: u32) -> Lineage {
    let Some(stat) = Stat::of(pid) else {
        return Lineage::default();
    };
    let mut parents = Vec::new();
    let mut next = stat.parent;
    while next != 0 && parents.len() < ANCESTORS {
        let Some(parent) = Stat::of(next) else { break };
        parents.push((next, parent.name));
        next = parent.parent;
    }
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = of_groups(&groups);
    Lineage {
        parents,
        unit: path.and_then(unit),
        container: path.and_then(container).or_else(|| other_spaces(pid)),
        terminal: terminal(stat.terminal),
        started_ns: started(stat.started),
    }
}

/// What of `/proc/PID/stat` is read.
struct Stat {
    name: String,
    parent: u32,
    terminal: u32,
    /// In ticks since boot.
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Stat> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let from = text.iter().position(|b| *b == b'(')?;
        let to = text.iter().rposition(|b| *b == b')')?;
        let name = Readable(text.get(from + 1..to)?).to_string();
        let rest = std::str::from_utf8(text.get(to + 2..)?).ok()?;
        let words: Vec<_> = rest.split(' ').collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some(Stat {
            name,
            parent: u32::try_from(number(1)?).ok()?,
            terminal: words.get(4)?.parse::<i32>().ok()?.cast_unsigned(),
            started: number(19)?,
        })
    }
}

/// Nanoseconds since the epoch, to the tick.
fn started(ticks: u64) -> u64 {
    let since_boot = Duration::from_millis(ticks.saturating_mul(1000) / sys::ticks().max(1));
    let boot = sys::realtime().saturating_sub(sys::boottime());
    (boot + since_boot).as_nanos() as u64
}

fn terminal(device: u32) -> Option<String> {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match major {
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
        136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        0 => None,
        _ => Some(format!("{major}:{minor}")),
    }
}

/// The path of the control group: of version 2, or systemd's own.
fn of_groups(text: &str) -> Option<&str> {
    let path = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
    let systemd = text
        .lines()
        .find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path));
    path("0::")
        .filter(|p| *p != "/")
        .or(systemd)
        .or(path("0::"))
}

/// The service or scope that the supervisor knows the process by.
fn unit(path: &str) -> Option<String> {
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    let of_container = |part: &str| id_of(part).is_some();
    path.split('/')
        .rev()
        .find(is_unit)
        .filter(|part| !of_container(part))
        .map(|part| Readable(part.as_bytes()).to_string())
}

/// The container that a control group belongs to, in words.
fn container(path: &str) -> Option<String> {
    if let Some((_, rest)) = path.split_once("lxc.payload.") {
        let name = rest.split('/').next().unwrap_or(rest);
        return Some(format!("the LXC container {}", Readable(name.as_bytes())));
    }
    let id = path.split('/').rev().find_map(id_of)?;
    let what = match path {
        p if p.contains("docker") => "Docker ",
        p if p.contains("libpod") => "Podman ",
        p if p.contains("kubepods") => "Kubernetes ",
        _ => "",
    };
    Some(format!(
        "the {what}container {}",
        id.get(..12).unwrap_or(id)
    ))
}

/// The id of a container in a part of a path: 64 digits, hexadecimal.
fn id_of(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// Name spaces of a process that are not this one's.
fn other_spaces(pid: u32) -> Option<String> {
    let inode = |pid: &str, kind: &str| {
        let space = std::fs::metadata(format!("/proc/{pid}/ns/{kind}"));
        space.ok().map(|m| m.ino())
    };
    let pid = pid.to_string();
    let is_other = |kind: &&(&str, &str)| match (inode(&pid, kind.0), inode("self", kind.0)) {
        (Some(theirs), Some(own)) => theirs != own,
        _ => false,
    };
    let kinds = [("pid", "pid"), ("mnt", "mount"), ("net", "network")];
    let others: Vec<_> = kinds
        .iter()
        .filter(is_other)
        .map(|(_, name)| *name)
        .collect();
    match others.as_slice() {
        [] => None,
        [one] => Some(format!("another {one} namespace")),
        [first @ .., last] => Some(format!("other {} and {last} namespaces", first.join(", "))),
    }
}

/// The path of the control group whose directory has this inode, for a socket whose
/// process cannot be seen.
#[must_use]
pub fn group(inode: u64) -> Option<String> {
    /// Directories that are looked at.
    const MOST: usize = 4096;
    const ROOT: &str = "/sys/fs/cgroup";
    let root = ["/sys/fs/cgroup/unified", ROOT];
    let root = root.into_iter().find(|dir| {
        std::path::Path::new(dir)
            .join("cgroup.controllers")
            .exists()
    })?;
    let mut left = MOST;
    let mut dirs = vec![std::path::PathBuf::from(root)];
    while let Some(dir) = dirs.pop() {
        left = left.checked_sub(1)?;
        let is_it = std::fs::metadata(&dir).is_ok_and(|m| m.ino() == inode);
        if is_it {
            let path = dir.strip_prefix(root).ok()?;
            let path = path.to_str().filter(|path| !path.is_empty())?;
            return Some(Readable(format!("/{path}").as_bytes()).to_string());
        }
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let is_dir = |e: &std::fs::DirEntry| e.file_type().is_ok_and(|t| t.is_dir());
        dirs.extend(entries.filter(is_dir).map(|e| e.path()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_parent_and_a_start() {
        let me = opener(std::process::id());
        assert_eq!(me.pid, std::process::id());
        let parent = me.lineage.parents.first().map(|(pid, _)| *pid);
        assert_eq!(parent, Some(std::os::unix::process::parent_id()));
        let now = sys::realtime().as_nanos() as u64;
        assert!(me.lineage.started_ns <= now && me.lineage.started_ns > now - 86_400_000_000_000);
        assert_eq!(of(u32::MAX), Lineage::default());
    }

    #[test]
    fn groups_name_services_and_containers() {
        let id = "3f2a1b00".repeat(8);
        let scope = format!("0::/system.slice/docker-{id}.scope\n");
        let path = of_groups(&scope).expect("a path");
        assert_eq!(
            container(path).as_deref(),
            Some("the Docker container 3f2a1b003f2a")
        );
        assert_eq!(unit(path), None);
        let pod = format!("0::/kubepods/besteffort/podab/{id}\n");
        let path = of_groups(&pod).expect("a path");
        assert_eq!(
            container(path).as_deref(),
            Some("the Kubernetes container 3f2a1b003f2a")
        );
        let mixed = "12:pids:/a\n1:name=systemd:/system.slice/nginx.service\n0::/\n";
        let path = of_groups(mixed).expect("a path");
        assert_eq!(unit(path).as_deref(), Some("nginx.service"));
        assert_eq!(container(path), None);
        assert_eq!(
            container("/lxc.payload.web/x"),
            Some("the LXC container web".into())
        );
    }

    #[test]
    fn terminals_have_their_names() {
        assert_eq!(terminal(0), None);
        assert_eq!(terminal(136 << 8 | 3).as_deref(), Some("pts/3"));
        assert_eq!(terminal(4 << 8 | 1).as_deref(), Some("tty1"));
    }
}
