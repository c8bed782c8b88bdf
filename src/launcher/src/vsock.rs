//! The vsock host that a run is: `--cid`, `--fabric`, and the lines `host cid`
//! and `host fabric` of its policy.

use std::ffi::OsStr;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bindgate_core::judge::vsock::Host;
use bindgate_core::policy::{MAX_FABRIC, MAX_VSOCK_PATH, View};
use bindgate_os::vmm::{self, Monitor};
use bindgate_os::{fabric, process};

use crate::args::{RuleSource, Vsock};
use crate::{Failure, exit, shown};

/// The options as lines of the policy language.
///
/// # Errors
/// If a path is not text, or leaves no room for the name of a socket.
pub fn rules(options: &Vsock) -> Result<Vec<RuleSource>, Failure> {
    let mut rules = Vec::new();
    rules.extend(options.cid.map(|cid| line("--cid", "cid", cid)));
    if let Some(fabric) = &options.fabric {
        let directory = directory(fabric)?;
        let text = text("--fabric", &directory, MAX_FABRIC)?;
        rules.push(line("--fabric", "fabric", quoted(&text)));
    }
    if let Some(path) = &options.uds {
        rules.push(line(
            "--vsock-uds",
            "vsock-uds",
            quoted(&whole("--vsock-uds", path)?),
        ));
    }
    for given in &options.ports {
        let mut parts = given.as_bytes().splitn(2, |b| *b == b'=');
        let port = parts.next().unwrap_or_default();
        let port = str::from_utf8(port)
            .ok()
            .and_then(|port| port.parse::<u32>().ok());
        let (Some(port), Some(path)) = (port, parts.next()) else {
            let why = format!("--vsock-port {}: expected PORT=PATH", shown(given));
            return Err(Failure::say(exit::USAGE, why));
        };
        let path = whole("--vsock-port", OsStr::from_bytes(path))?;
        rules.push(line(
            "--vsock-port",
            "vsock-port",
            quoted(&format!("{port}={path}")),
        ));
    }
    rules.extend(
        options
            .guest
            .map(|cid| line("--vsock-guest", "vsock-guest", cid)),
    );
    Ok(rules)
}

fn line(option: &'static str, setting: &str, value: impl Display) -> RuleSource {
    RuleSource::Option(option, format!("host {setting} {value}"))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A path as text, if a name that is made from it has room.
fn text(option: &str, path: &Path, longest: usize) -> Result<String, Failure> {
    match path.to_str().filter(|text| text.len() <= longest) {
        Some(text) => Ok(text.into()),
        None => Err(Failure::say(
            exit::USAGE,
            format!(
                "{option}: {} is longer than {longest} bytes or is not text; a shorter path \
                 leaves room for the names of sockets",
                shown(&path)
            ),
        )),
    }
}

/// The path of a Unix socket, from the root and without detours: programs may be
/// in another directory.
fn whole(option: &str, path: &OsStr) -> Result<String, Failure> {
    let failed = |e| Failure::new(exit::USAGE, format!("{option} {}", shown(&path)), e);
    let path = std::path::absolute(path).map_err(failed)?;
    let is_plain = |part| !matches!(part, Component::ParentDir);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let why = format!("{option} {}: expected the path of a socket", shown(&path));
        return Err(Failure::say(exit::USAGE, why));
    };
    let parent = match path.components().all(is_plain) {
        true => parent.to_owned(),
        false => parent.canonicalize().map_err(failed)?,
    };
    text(option, &parent.join(name), MAX_VSOCK_PATH)
}

/// A path as it is, absolute; a name in this user's directory for that.
fn directory(fabric: &OsStr) -> Result<PathBuf, Failure> {
    if fabric.as_bytes().contains(&b'/') {
        return std::path::absolute(fabric)
            .map_err(|e| Failure::new(exit::USAGE, format!("--fabric {}", shown(&fabric)), e));
    }
    if fabric.is_empty() || [OsStr::new("."), OsStr::new("..")].contains(&fabric) {
        let why = "--fabric: expected a name, or a path with a `/`";
        return Err(Failure::say(exit::USAGE, why));
    }
    Ok(own_directory().join(fabric))
}

/// Where this user's fabrics are.
fn own_directory() -> PathBuf {
    // The base directory specification has paths that are not absolute ignored.
    let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match base.filter(|base| base.is_absolute()) {
        Some(base) => base.join("bindgate-fabric"),
        None => PathBuf::from(format!(
            "/tmp/.bindgate-fabric-{}",
            process::effective_uid()
        )),
    }
}

/// Can the run be the vsock host that its policy describes?
///
/// # Errors
/// If the kernel cannot tell the host's sockets from others.
pub fn check(view: &View<'_>) -> Result<(), Failure> {
    if view.vsock_cid().is_none() || vmm::can_mark() {
        return Ok(());
    }
    let why = "a vsock host cannot be had here: its sockets are marked by SO_MAX_PACING_RATE, \
               which this kernel or emulator refuses";
    Err(Failure::say(exit::SYSTEM, why))
}

/// The CID of the run, held in its fabric for as long as the descriptor is open, and
/// the mode of the fabric's files. `None` without a fabric.
///
/// # Errors
/// If the fabric cannot be used, or another run has the CID.
pub fn register(view: &View<'_>) -> Result<Option<(OwnedFd, u32)>, Failure> {
    let Some(cid) = view.vsock_cid().filter(|_| !view.vsock_fabric().is_empty()) else {
        return Ok(None);
    };
    let directory = Path::new(OsStr::from_bytes(view.vsock_fabric()));
    let failed = |e| {
        let what = format!("the fabric {}", shown(&directory));
        Failure::new(exit::SYSTEM, what, e)
    };
    let own = own_directory();
    match directory.parent() == Some(&own) {
        true => fabric::make_in_own(&own, directory),
        false => fabric::make(directory),
    }
    .map_err(failed)?;
    match fabric::register(directory, cid).map_err(failed)? {
        Some(held) => Ok(Some((held, fabric::mode(directory).map_err(failed)?))),
        None => Err(Failure::say(
            exit::SYSTEM,
            format!(
                "context id {cid} is taken: another run in the fabric {} has it",
                shown(&directory)
            ),
        )),
    }
}

/// The socket at which a run that is a guest answers as its monitor would.
///
/// # Errors
/// If somebody else is there, or the run's listeners would not be.
pub fn monitor(view: &View<'_>, is_sealed: bool) -> Result<Option<Monitor>, Failure> {
    let Some(path) = Host::of(view).and_then(|host| host.answers_at()) else {
        return Ok(None);
    };
    if is_sealed {
        let why = "--isolate=sealed: a guest's listeners would be in the run's own network, where \
                   nobody outside can call them; name their ports with --vsock-port";
        return Err(Failure::say(exit::USAGE, why));
    }
    let path = Path::new(OsStr::from_bytes(path));
    let what = || format!("the socket {}", shown(&path));
    // The log process of a run that has just ended may still be there.
    const TURNS: u32 = 30;
    for turn in 0..TURNS {
        if turn > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let opened = Monitor::open(path);
        if let Some(monitor) = opened.map_err(|e| Failure::new(exit::SYSTEM, what(), e))? {
            return Ok(Some(monitor));
        }
    }
    let why = format!("{} is taken: somebody else is there", what());
    Err(Failure::say(exit::SYSTEM, why))
}
