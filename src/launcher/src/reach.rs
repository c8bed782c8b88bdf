//! Can a program be intercepted, and does the policy let it start?
//!
//! The core decides ([`Examiner`]); this answers its questions for `doctor` and
//! `run`, as the exec hook answers them in a program of the run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bindgate_core::policy::{ExecQuery, ExecRuling, Paths, Times, Uses, View};
use bindgate_core::reach::{
    Answer, Class, Classifier, Examiner, File as Which, Ids, Need, Stance, Status, Step, Verdict,
    shebang,
};

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
pub struct Found {
    /// The program, then its interpreter, and so on.
    pub links: Vec<Link>,
    /// What comes of it.
    pub verdict: Verdict,
    /// The program that `#!/usr/bin/env` would start, if there is one.
    pub through_env: Option<Box<Found>>,
}

impl Found {
    /// The file that keeps the program from being intercepted, or that a rule
    /// refuses, and the verdict that says so.
    pub fn obstacle(&self) -> Option<(&Link, &Verdict)> {
        let last = self.links.last()?;
        if self.verdict.is_intercepted() && self.verdict.refused.is_none() {
            return self.through_env.as_ref().and_then(|next| next.obstacle());
        }
        Some((last, &self.verdict))
    }
}

/// How to look.
#[derive(Clone, Copy)]
pub struct Looker<'a> {
    /// How the core is to judge.
    pub stance: Stance,
    /// The policy, if there is one.
    pub view: Option<&'a View<'a>>,
    /// The library that is to be preloaded.
    pub library: &'a Path,
}

/// Nothing was counted before the run.
struct Unused;

impl Times for Unused {
    fn take(&self, _: u32, uses: Uses) -> bool {
        uses.takes(0)
    }
}

impl Looker<'_> {
    /// Looks at a program, its name and its arguments; `None` if there is no
    /// such file.
    pub fn look(&self, command: &[OsString]) -> Option<Found> {
        self.look_deeper(command, 2)
    }

    fn look_deeper(&self, command: &[OsString], more: usize) -> Option<Found> {
        let mut found = candidates(command.first()?)
            .map(|path| self.examine(&path, command))
            .find(|found| found.verdict.starts)?;
        found.through_env = (more > 0)
            .then(|| env_target(&found.links))
            .flatten()
            .and_then(|target| self.look_deeper(&[target], more - 1))
            .map(Box::new);
        Some(found)
    }

    fn examine(&self, path: &Path, command: &[OsString]) -> Found {
        let mut examiner = Examiner::new(Stance {
            searched: true,
            ..self.stance
        });
        let mut at = At::new(path.to_owned());
        let mut links = Vec::new();
        let verdict = loop {
            let need = match examiner.step() {
                Step::Done(verdict) => break verdict,
                Step::Need(need) => need,
            };
            let mut buffer = [0; Classifier::CHUNK];
            let answer = match need {
                Need::Status(file) => {
                    if let Some(path) = match file {
                        Which::Asked => None,
                        Which::Interpreter => Some(OsStr::from_bytes(examiner.interpreter())),
                        Which::Argument(n) => command.get(n as usize).map(OsString::as_os_str),
                    } {
                        at = At::new(path.into());
                    }
                    Answer::Status(at.status())
                }
                Need::Executable(_) => Answer::Bool(bindgate_os::may_execute(&at.path)),
                Need::Read { offset, len, .. } => {
                    let room = buffer.get_mut(..len).unwrap_or_default();
                    Answer::Bytes(at.read(room, offset))
                }
                Need::Ids => {
                    let (uid, euid, gid, egid) = bindgate_os::ids();
                    Answer::Ids(Ids {
                        uid,
                        euid,
                        gid,
                        egid,
                    })
                }
                Need::NoNewPrivs => Answer::Bool(bindgate_os::no_new_privs()),
                Need::Nosuid(_) => Answer::Bool(bindgate_os::is_nosuid(&at.path)),
                Need::Capabilities(_) => Answer::Bool(bindgate_os::has_capabilities(&at.path)),
                Need::Argument(n) => {
                    Answer::Argument(command.get(n as usize).map(|a| a.as_bytes()))
                }
                Need::Rule { class, .. } => {
                    links.push(at.link(class));
                    Answer::Ruling(self.ruling(&at.path))
                }
                Need::Library => Answer::Bool(File::open(self.library).is_ok()),
            };
            examiner.feed(answer);
        };
        if verdict.class == Class::OutOfReach
            && let Some(last) = links.last_mut()
        {
            last.class = verdict.class;
        }
        Found {
            links,
            verdict,
            through_env: None,
        }
    }

    fn ruling(&self, path: &Path) -> ExecRuling {
        let Some(view) = self.view else {
            return ExecRuling::default();
        };
        let file = path.canonicalize().unwrap_or_default();
        let caller = env::current_exe().unwrap_or_default();
        let (_, euid, ..) = bindgate_os::ids();
        let query = ExecQuery {
            file: file.as_os_str().as_bytes(),
            caller: Paths {
                program: caller.as_os_str().as_bytes(),
                script: &[],
            },
            uid: Some(euid),
        };
        view.exec(&query, &Unused)
    }
}

/// Where `execvp` looks for a program.
fn candidates(program: &OsStr) -> impl Iterator<Item = PathBuf> {
    let is_path = program.as_bytes().contains(&b'/');
    let dirs = match env::var_os("PATH") {
        _ if is_path => "".into(),
        Some(path) => path,
        None => DEFAULT_PATH.into(),
    };
    let program = program.to_owned();
    env::split_paths(&dirs)
        .filter(|_| !program.is_empty())
        .map(|dir| dir.join(&program))
        .collect::<Vec<_>>()
        .into_iter()
}

/// The file that is looked at.
struct At {
    path: PathBuf,
    file: Option<Option<File>>,
    head: Vec<u8>,
}

impl At {
    fn new(path: PathBuf) -> At {
        At {
            path,
            file: None,
            head: Vec::new(),
        }
    }

    fn status(&self) -> Option<Status> {
        let meta = self.path.metadata().ok()?;
        Some(Status {
            is_regular: meta.is_file(),
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
        })
    }

    fn read<'b>(&mut self, room: &'b mut [u8], offset: u64) -> Option<&'b [u8]> {
        let path = &self.path;
        let file = self.file.get_or_insert_with(|| File::open(path).ok());
        let mut n = 0;
        while let Some(rest) = room.get_mut(n..).filter(|r| !r.is_empty()) {
            match file.as_ref()?.read_at(rest, offset + n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        let bytes = room.get(..n)?;
        if offset == 0 {
            self.head = bytes.to_vec();
        }
        Some(bytes)
    }

    fn link(&self, class: Class) -> Link {
        let line = shebang(&self.head).filter(|_| class == Class::Script);
        let argument = line.and_then(|line| self.head.get(line.argument?));
        Link {
            path: self.path.clone(),
            class,
            argument: argument.map(|a| OsStr::from_bytes(a).to_owned()),
        }
    }
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

/// What there is to say about a file that keeps a program from being
/// intercepted.
pub fn warning(link: &Link) -> String {
    let path = crate::shown(&link.path);
    let (why, advice) = (link.class.why(), link.class.advice());
    format!("{path} {why}; {advice}")
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

    fn look(path: &Path) -> Option<Found> {
        let looker = Looker {
            stance: Stance::default(),
            view: None,
            library: Path::new("/dev/null"),
        };
        looker.look(&[path.as_os_str().to_owned()])
    }

    fn classes(path: &Path) -> Vec<Class> {
        let found = look(path).unwrap();
        found.links.iter().map(|l| l.class).collect()
    }

    #[test]
    fn scripts_are_followed_to_what_the_loader_loads() {
        let sh = Temporary::new("sh", b"#!/bin/sh\n");
        assert_eq!(classes(&sh.0), [Class::Script, Class::Intercepted]);
        let second = format!("#!{} -x\n", sh.0.display());
        let second = Temporary::new("second", second.as_bytes());
        assert_eq!(
            classes(&second.0),
            [Class::Script, Class::Script, Class::Intercepted]
        );
        let plain = Temporary::new("plain", b"echo\n");
        assert_eq!(classes(&plain.0), [Class::NotElf, Class::Intercepted]);
    }

    #[test]
    fn what_env_looks_up_is_looked_at_too() {
        let script = Temporary::new("env", b"#!/usr/bin/env -S A=1 sh -e\n");
        let found = look(&script.0).unwrap();
        let through = found.through_env.as_ref().unwrap();
        assert_eq!(through.links[0].class, Class::Intercepted);
        assert!(found.obstacle().is_none());
    }

    #[test]
    fn an_obstacle_after_a_script_is_found() {
        // The header of a static executable: no program interpreter.
        let mut elf = std::fs::read(env::current_exe().unwrap()).unwrap();
        elf.truncate(64);
        elf[56..58].copy_from_slice(&1u16.to_le_bytes());
        elf.extend([0; 56]);
        let elf = Temporary::new("static", &elf);
        let script = format!("#!{}\n", elf.0.display());
        let script = Temporary::new("script", script.as_bytes());
        let found = look(&script.0).unwrap();
        assert_eq!(found.obstacle().unwrap().0.class, Class::Static);
        assert!(look(Path::new("no-such-program-anywhere")).is_none());
    }
}
