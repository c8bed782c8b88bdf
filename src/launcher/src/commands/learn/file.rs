//! The policy file that is written: whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use bindgate_core::policy;
use bindgate_os::lock;

use crate::commands::policy::{broken, read_bytes};
use crate::{Failure, exit, shown};

/// Where the policy goes.
pub struct Target(Option<PathBuf>);

/// Nobody else adds to a file of this directory meanwhile.
pub struct Held(#[allow(dead_code, reason = "it is let go when this ends")] Option<File>);

impl Target {
    /// A file, which need not be there, or standard output.
    ///
    /// # Errors
    /// If no file can be written there: better now than when the program has run.
    pub fn new(path: Option<&Path>) -> Result<Target, Failure> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            return Ok(Target(None));
        };
        // A link stays one: its file is written.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let target = Target(Some(path.clone()));
        if target.is_plain(&path) {
            let (temporary, _) = target.temporary(&path).map_err(|e| failed(&path, e))?;
            let _ = fs::remove_file(temporary);
        }
        Ok(target)
    }

    /// Is it standard output?
    pub fn is_standard(&self) -> bool {
        self.0.is_none()
    }

    /// Is there such a file?
    pub fn is_there(&self) -> bool {
        self.0.as_ref().is_some_and(|path| path.exists())
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        let path = self.0.as_deref();
        path.map_or_else(String::new, |path| shown(path).to_string())
    }

    /// Can it be put in the place of what is there? Not a device, nor a pipe.
    fn is_plain(&self, path: &Path) -> bool {
        fs::metadata(path).map_or(true, |m| m.is_file())
    }

    /// What is in it; nothing where there is none yet.
    ///
    /// # Errors
    /// If it cannot be read, or is no text.
    pub fn read(&self) -> Result<String, Failure> {
        let path = match &self.0 {
            Some(path) if self.is_plain(path) && path.exists() => path,
            _ => return Ok(String::new()),
        };
        let bytes = read_bytes(path)?;
        let text = policy::text(&self.name(), &bytes).map_err(|d| broken(&d))?;
        Ok(text.to_owned())
    }

    /// Waits until nobody else adds to it.
    ///
    /// # Errors
    /// If its directory cannot be opened.
    pub fn hold(&self) -> Result<Held, Failure> {
        let path = match &self.0 {
            Some(path) if self.is_plain(path) => path,
            _ => return Ok(Held(None)),
        };
        let directory = directory(path);
        let opened = File::open(directory).and_then(|d| lock(d.as_raw_fd()).map(|()| d));
        match opened {
            Ok(held) => Ok(Held(Some(held))),
            // One that may be written but not read, or a file system without locks.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(failed(path, e)),
            Err(_) => Ok(Held(None)),
        }
    }

    /// Puts a file with this text in its place, with its mode.
    ///
    /// # Errors
    /// If it cannot be written; what was there is untouched then.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        let Some(path) = &self.0 else {
            return Ok(());
        };
        if !self.is_plain(path) {
            return fs::write(path, text).map_err(|e| failed(path, e));
        }
        let (temporary, mut file) = self.temporary(path).map_err(|e| failed(path, e))?;
        let mut put = || {
            file.write_all(text.as_bytes())?;
            if let Ok(there) = fs::metadata(path) {
                // Not everybody can give it away; then it is the writer's.
                let _ = chown(&temporary, Some(there.uid()), Some(there.gid()));
                file.set_permissions(fs::Permissions::from_mode(there.mode() & 0o7777))?;
            }
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        put().map_err(|e| {
            let _ = fs::remove_file(&temporary);
            failed(path, e)
        })
    }

    /// A new file beside it.
    fn temporary(&self, path: &Path) -> io::Result<(PathBuf, File)> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.new", std::process::id()));
        let temporary = directory(path).join(name);
        let _ = fs::remove_file(&temporary);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o666);
        Ok((temporary.clone(), options.open(&temporary)?))
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn failed(path: &Path, e: io::Error) -> Failure {
    Failure::new(exit::LOG, shown(path), e)
}
