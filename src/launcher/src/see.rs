//! Can a program be seen? `bindgate doctor`, and what `run` says about it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bindgate_core::elf::{self, Class, Classifier, Host, Step};

use super::cli::Doctor;
use bindgate_os as sys;

use super::{Failure, exit, library};

/// Interpreters of interpreters that the kernel follows (`BINPRM_MAX_RECURSION`).
const DEPTH: usize = 5;
/// What `execvp` looks through without PATH (`_CS_PATH`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// One file on the way from the name to what is executed.
#[derive(Debug)]
pub struct Link {
    /// The file, as it is looked up.
    pub path: PathBuf,
    /// What it is.
    pub class: Class,
    /// For a script: the argument of its interpreter.
    pub argument: Option<OsString>,
}

/// What there is to know about a program before it runs.
#[derive(Debug)]
pub struct Sight {
    /// The program, then the interpreter of it, and so on.
    pub links: Vec<Link>,
    /// The program that `#!/usr/bin/env` would start, if there is one.
    pub through_env: Option<Box<Sight>>,
}

impl Sight {
    /// The last link: what the loader will load.
    fn last(&self) -> Option<&Link> {
        self.links.last()
    }

    /// The first thing on the way that keeps the program from being seen.
    pub fn obstacle(&self) -> Option<&Link> {
        let last = self.last()?;
        if last.class.is_seen() {
            self.through_env.as_ref().and_then(|s| s.obstacle())
        } else {
            Some(last)
        }
    }
}

/// Looks a program up as `execvp` does.
pub fn look_up(program: &OsStr) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.into());
    }
    if program.is_empty() {
        return None;
    }
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file() && sys::may_execute(file))
}

/// Looks at a program; `None` if it is not found.
pub fn look(program: &OsStr) -> Option<Sight> {
    look_deeper(program, 2)
}

fn look_deeper(program: &OsStr, more: usize) -> Option<Sight> {
    let mut path = look_up(program)?;
    let mut links: Vec<Link> = Vec::new();
    while links.len() < DEPTH {
        let (class, head) = classify(&path)?;
        let script = elf::shebang(&head).filter(|_| class == Class::Script);
        let text = |r| OsStr::from_bytes(head.get::<std::ops::Range<usize>>(r).unwrap_or(&[]));
        let argument = script.as_ref().and_then(|s| s.argument.clone());
        let next = match (&script, class) {
            (Some(script), _) => Some(PathBuf::from(text(script.interpreter.clone()))),
            // What the kernel does not know, execvp hands to the shell.
            (None, Class::NotElf) => Some(PathBuf::from("/bin/sh")),
            _ => None,
        };
        links.push(Link {
            path,
            class,
            argument: argument.map(|a| text(a).to_owned()),
        });
        match next {
            Some(next) => path = next,
            None => break,
        }
    }
    let through_env = (more > 0)
        .then(|| env_target(&links))
        .flatten()
        .and_then(|target| look_deeper(&target, more - 1))
        .map(Box::new);
    Some(Sight { links, through_env })
}

/// What `#!/usr/bin/env NAME` will start.
fn env_target(links: &[Link]) -> Option<OsString> {
    let [.., script, interpreter] = links else {
        return None;
    };
    if interpreter.path.file_name()? != "env" {
        return None;
    }
    let words = script.argument.as_ref()?.as_bytes();
    let word = words
        .split(|b| matches!(b, b' ' | b'\t'))
        .find(|w| !w.is_empty() && !w.starts_with(b"-") && !w.contains(&b'='))?;
    Some(OsStr::from_bytes(word).to_owned())
}

/// The class of one file and its first bytes; `None` if there is no file.
fn classify(path: &Path) -> Option<(Class, Vec<u8>)> {
    let meta = path.metadata().ok()?;
    let (uid, gid) = sys::real_ids();
    let privileged = if elf::changes_ids(meta.mode(), meta.uid(), meta.gid(), uid, gid) {
        Some(Class::Setuid)
    } else if uid != 0 && sys::has_capabilities(path) {
        Some(Class::FileCaps)
    } else {
        None
    };
    let Ok(file) = File::open(path) else {
        let class = privileged.unwrap_or(Class::Unreadable);
        return Some((class, Vec::new()));
    };
    let mut head = vec![0; Classifier::CHUNK];
    let n = read_at(&file, &mut head, 0);
    head.truncate(n);
    let class = if is_loader(path) {
        Class::Visible
    } else {
        classify_file(&file)
    };
    // The bits of a script count for nothing.
    let class = match (class, privileged) {
        (Class::Visible | Class::Go, Some(privileged)) if !sys::privileges_ignored(path) => {
            privileged
        }
        _ => class,
    };
    Some((class, head))
}

/// The loader itself, run as a program, loads what is preloaded.
fn is_loader(path: &Path) -> bool {
    let real = path.canonicalize().unwrap_or_default();
    let name = real.file_name().unwrap_or_default().as_bytes();
    name.starts_with(b"ld-linux") || name.starts_with(b"ld-2.")
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    let mut n = 0;
    while let Some(rest) = buffer.get_mut(n..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, offset + n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    n
}

fn classify_file(file: &File) -> Class {
    let mut buffer = vec![0; Classifier::CHUNK];
    let mut it = Classifier::new(Host::THIS);
    loop {
        match it.step() {
            Step::Done(class) => return class,
            Step::Read { offset, len } => {
                let room = buffer.get_mut(..len).unwrap_or_default();
                let n = read_at(file, room, offset);
                it.feed(room.get(..n).unwrap_or_default());
            }
        }
    }
}

/// One line about a program that will not be seen.
pub fn warning(link: &Link) -> String {
    format!(
        "{} {}; {}",
        link.path.display(),
        link.class.why(),
        link.class.advice()
    )
}

/// `bindgate doctor`
pub fn doctor(doctor: &Doctor) -> Result<i32, Failure> {
    let library = match &doctor.library {
        Some(path) => path
            .canonicalize()
            .map_err(|e| Failure::new(exit::SYSTEM, path.display(), e))?,
        None => library::find()?,
    };
    let shown = doctor.program.display();
    let Some(sight) = look(&doctor.program) else {
        return Err(Failure::say(
            exit::NOT_FOUND,
            format!("{shown}: not found in PATH"),
        ));
    };
    let mut text = String::new();
    describe(&mut text, &sight, "");
    let _ = writeln!(text, "library: {}", library.display());
    let mut seen = sight.obstacle().is_none();
    match library_note(&library) {
        Some((note, fatal)) => {
            seen &= !fatal;
            let _ = writeln!(text, "  {note}");
        }
        None => {
            text.push_str("  every user can read it; in a chroot it must be at the same path\n")
        }
    }
    match sight.obstacle() {
        Some(link) => {
            let is_itself = sight.links.first().is_some_and(|l| l.path == link.path);
            let what = if is_itself {
                "it".into()
            } else {
                link.path.display().to_string()
            };
            let _ = writeln!(text, "{shown} cannot be seen: {what} {}", link.class.why());
            let _ = writeln!(text, "  what to do: {}", link.class.advice());
        }
        None if seen => {
            let _ = writeln!(text, "{shown} can be seen");
        }
        None => {
            let _ = writeln!(
                text,
                "{shown} cannot be seen: it {}",
                Class::OutOfReach.why()
            );
        }
    }
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| Failure::new(exit::SYSTEM, "standard output", e))?;
    Ok(if seen { 0 } else { 1 })
}

fn describe(text: &mut String, sight: &Sight, indent: &str) {
    for link in &sight.links {
        let _ = write!(
            text,
            "{indent}{}: {}",
            link.path.display(),
            link.class.why()
        );
        let _ = match (&link.argument, link.class) {
            (_, Class::NotElf) => writeln!(text, ": execvp(3) hands it to /bin/sh"),
            (Some(argument), Class::Script) => writeln!(text, " (given {})", argument.display()),
            _ => writeln!(text),
        };
    }
    if let Some(next) = &sight.through_env {
        let _ = writeln!(text, "{indent}env looks up, with the PATH of now:");
        describe(text, next, "  ");
    }
}

/// What there is to say about the library's place, and whether it is fatal.
fn library_note(library: &Path) -> Option<(String, bool)> {
    if File::open(library).is_err() {
        return Some(("it cannot be read".into(), true));
    }
    let is_open = |path: &Path, bits: u32| path.metadata().is_ok_and(|m| m.mode() & bits == bits);
    if !is_open(library, 0o004) {
        return Some((
            "other users cannot read it: a server that changes its user and then \
             starts another program loses sight of that one"
                .into(),
            false,
        ));
    }
    let closed = library.ancestors().skip(1).find(|d| !is_open(d, 0o001))?;
    Some((
        format!(
            "other users cannot enter {}: a server that changes its user and then \
             starts another program loses sight of that one; scripts/install puts the \
             library where all can read it",
            closed.display()
        ),
        false,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// An executable file with these bytes, gone at the end of the test.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, bytes: &[u8]) -> Temporary {
            let path = env::temp_dir().join(format!("bindgate-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Temporary(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn classes(path: &Path) -> Vec<Class> {
        let sight = look(path.as_os_str()).unwrap();
        sight.links.iter().map(|l| l.class).collect()
    }

    #[test]
    fn scripts_are_followed_to_what_the_loader_loads() {
        let sh = Temporary::new("sh", b"#!/bin/sh\n");
        assert_eq!(classes(&sh.0), [Class::Script, Class::Visible]);
        let second = format!("#!{} -x\n", sh.0.display());
        let second = Temporary::new("second", second.as_bytes());
        assert_eq!(
            classes(&second.0),
            [Class::Script, Class::Script, Class::Visible]
        );
        let plain = Temporary::new("plain", b"echo\n");
        assert_eq!(classes(&plain.0), [Class::NotElf, Class::Visible]);
    }

    #[test]
    fn what_env_looks_up_is_looked_at_too() {
        let script = Temporary::new("env", b"#!/usr/bin/env -S A=1 sh -e\n");
        let sight = look(script.0.as_os_str()).unwrap();
        let through = sight.through_env.as_ref().unwrap();
        assert_eq!(through.links[0].class, Class::Visible);
        assert!(sight.obstacle().is_none());
    }

    #[test]
    fn an_obstacle_behind_a_script_is_found() {
        // The header of a static executable: no program interpreter.
        let mut elf = std::fs::read(env::current_exe().unwrap()).unwrap();
        elf.truncate(64);
        elf[56..58].copy_from_slice(&1u16.to_le_bytes());
        elf.extend([0; 56]);
        let elf = Temporary::new("static", &elf);
        let script = format!("#!{}\n", elf.0.display());
        let script = Temporary::new("script", script.as_bytes());
        let sight = look(script.0.as_os_str()).unwrap();
        assert_eq!(sight.obstacle().unwrap().class, Class::Static);
        assert!(look(OsStr::new("no-such-program-anywhere")).is_none());
    }
}
