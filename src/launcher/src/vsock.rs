//! The vsock host that a run is: `--cid`, `--fabric`, and the lines `host cid`
//! and `host fabric` of its policy.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bindgate_core::policy::{MAX_FABRIC, View};
use bindgate_os::{fabric, process};

use crate::args::RuleSource;
use crate::{Failure, exit, shown};

/// The options as lines of the policy language.
///
/// # Errors
/// If the fabric has no directory that a socket's name has room for.
pub fn rules(cid: Option<u32>, fabric: Option<&OsStr>) -> Result<Vec<RuleSource>, Failure> {
    let mut rules = Vec::new();
    rules.extend(cid.map(|cid| RuleSource::Option("--cid", format!("host cid {cid}"))));
    if let Some(fabric) = fabric {
        let directory = directory(fabric)?;
        let Some(text) = directory.to_str().filter(|text| text.len() <= MAX_FABRIC) else {
            return Err(Failure::say(
                exit::USAGE,
                format!(
                    "--fabric {}: its directory, {}, is longer than {MAX_FABRIC} bytes or is not \
                     text; a shorter path leaves room for the names of sockets",
                    shown(&fabric),
                    shown(&directory)
                ),
            ));
        };
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        rules.push(RuleSource::Option(
            "--fabric",
            format!("host fabric \"{quoted}\""),
        ));
    }
    Ok(rules)
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
