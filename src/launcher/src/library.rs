//! Where the shim is.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{Failure, exit, shown};

const NAME: &str = "libbindgate.so";
const OVERRIDE: &str = "BINDGATE_LIBRARY";
const PRELOAD: &str = "LD_PRELOAD";

/// Finds the library: where `BINDGATE_LIBRARY` says, or near the launcher, as
/// cargo and scripts/install put it.
pub fn find() -> Result<PathBuf, Failure> {
    let failed = |path: &Path, e: std::io::Error| {
        Failure::new(exit::SYSTEM, format_args!("{}", shown(&path)), e)
    };
    if let Some(path) = env::var_os(OVERRIDE).filter(|p| !p.is_empty()) {
        let path = PathBuf::from(path);
        return check(path.canonicalize().map_err(|e| failed(&path, e))?);
    }
    let here = env::current_exe().map_err(|e| failed(Path::new("/proc/self/exe"), e))?;
    let near = here.parent().unwrap_or(Path::new("/"));
    // `deps` first: `cargo run` renews the library there, and only there.
    let places = ["deps", "", "../lib/bindgate", "../lib"];
    for place in places {
        if let Ok(found) = near.join(place).join(NAME).canonicalize() {
            return check(found);
        }
    }
    Err(Failure::say(
        exit::SYSTEM,
        format!(
            "{NAME} is neither beside {} nor in ../lib/bindgate or ../lib: \
             install both with scripts/install, or say where it is with {OVERRIDE}",
            shown(&here)
        ),
    ))
}

/// The loader splits `LD_PRELOAD` at blanks and colons and knows no quoting.
fn check(path: PathBuf) -> Result<PathBuf, Failure> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().any(|b| matches!(b, b' ' | b':')) {
        return Err(Failure::say(
            exit::SYSTEM,
            format!(
                "{}: the dynamic loader splits LD_PRELOAD at blanks and colons, \
                 so the library cannot be in a directory whose name has one",
                shown(&path)
            ),
        ));
    }
    Ok(path)
}

/// The value of `LD_PRELOAD`: the library in front of what is there already.
pub fn preload(library: &Path, before: Option<&OsStr>) -> OsString {
    let mut value = library.as_os_str().to_owned();
    let others = before.map_or(&b""[..], OsStr::as_bytes);
    for entry in others.split(|b| matches!(b, b' ' | b':')) {
        if !entry.is_empty() && entry != library.as_os_str().as_bytes() {
            value.push(":");
            value.push(OsStr::from_bytes(entry));
        }
    }
    value
}

/// The environment of the program.
pub fn environment(library: &Path, run: &str) -> Vec<OsString> {
    let own = [PRELOAD, bindgate_core::shared::ENV_RUN];
    let join = |name: &OsStr, value: &OsStr| {
        let mut line = name.to_owned();
        line.push("=");
        line.push(value);
        line
    };
    let before = env::var_os(PRELOAD);
    env::vars_os()
        .filter(|(name, _)| !own.iter().any(|o| name == o))
        .map(|(name, value)| join(&name, &value))
        .chain([
            join(OsStr::new(PRELOAD), &preload(library, before.as_deref())),
            join(OsStr::new(own[1]), OsStr::new(run)),
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_comes_first_and_only_once() {
        let with = |before: Option<&str>| {
            let value = preload(Path::new("/x/libbindgate.so"), before.map(OsStr::new));
            value.into_string().unwrap()
        };
        assert_eq!(with(None), "/x/libbindgate.so");
        assert_eq!(with(Some("")), "/x/libbindgate.so");
        assert_eq!(
            with(Some("/a.so /b.so:/x/libbindgate.so")),
            "/x/libbindgate.so:/a.so:/b.so"
        );
    }

    #[test]
    fn places_that_the_loader_would_split_are_refused() {
        assert!(check("/a b/libbindgate.so".into()).is_err());
        assert!(check("/a:b/libbindgate.so".into()).is_err());
        assert!(check("/a/libbindgate.so".into()).is_ok());
    }
}
