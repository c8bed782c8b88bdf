//! From a program's name to a verdict: which files count, and what counts of
//! each.

use super::{Class, Classifier, Host, Want, shebang};
use crate::policy::{ExecRuling, Says, errno};

/// Interpreters of interpreters that the kernel follows
/// (`BINPRM_MAX_RECURSION` and the program itself).
const DEPTH: u8 = 5;
/// Longest path in a `#!` line.
const PATH: usize = 256;
/// What execvp(3) gives a file to that the kernel does not know.
const SHELL: &[u8] = b"/bin/sh";

const NOTHING: ExecRuling = ExecRuling {
    says: Says::Nothing,
    rule: None,
    note: None,
};

/// How to judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stance {
    /// Does the policy enforce? Then what cannot be intercepted is refused
    /// where no rule and no default about `exec` says otherwise.
    pub enforces: bool,
    /// May what cannot be intercepted start all the same
    /// (`run --allow-unintercepted`)?
    pub allows: bool,
    /// Is the name looked for as execvp(3) does it? Then a file that may not
    /// be executed is passed over, and one of an unknown format is a shell's.
    pub searched: bool,
    /// Is it to be said what another user would meet? See [`Verdict::latent`].
    pub looks_ahead: bool,
}

/// One of the files that an exec is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// The one that was asked for.
    Asked,
    /// The interpreter of the file before it: [`Examiner::interpreter`].
    Interpreter,
    /// What an argument of the call names, counted from 0.
    Argument(u32),
}

/// What there is to know about a file by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// Is it a regular file?
    pub is_regular: bool,
    /// Its mode bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// The IDs that the program is started with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids {
    /// Real user ID.
    pub uid: u32,
    /// Effective user ID.
    pub euid: u32,
    /// Real group ID.
    pub gid: u32,
    /// Effective group ID.
    pub egid: u32,
}

/// What an [`Examiner`] needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// The file's [`Answer::Status`].
    Status(File),
    /// May this process execute it? [`Answer::Bool`].
    Executable(File),
    /// What the file holds here, at most `len` bytes: [`Answer::Bytes`].
    Read {
        /// Which file.
        file: File,
        /// Where.
        offset: u64,
        /// How much, at most [`Classifier::CHUNK`].
        len: usize,
    },
    /// With which IDs the program starts: [`Answer::Ids`].
    Ids,
    /// Is `no_new_privs` set for this process? [`Answer::Bool`].
    NoNewPrivs,
    /// Is the file on a file system that is mounted `nosuid`? [`Answer::Bool`].
    Nosuid(File),
    /// Has the file capabilities? [`Answer::Bool`].
    Capabilities(File),
    /// Argument `n` of the call, counted from 0: [`Answer::Argument`].
    Argument(u32),
    /// What the policy says about the execution of a file of this class:
    /// [`Answer::Ruling`]. Every file that is executed comes here once.
    Rule {
        /// Which file.
        file: File,
        /// What it is.
        class: Class,
    },
    /// Can this process read the library? [`Answer::Bool`].
    Library,
}

/// What a driver found out.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// `None` if there is no such file.
    Status(Option<Status>),
    /// Yes or no.
    Bool(bool),
    /// `None` if the file cannot be read.
    Bytes(Option<&'a [u8]>),
    /// The IDs.
    Ids(Ids),
    /// `None` behind the last one.
    Argument(Option<&'a [u8]>),
    /// What the policy says.
    Ruling(ExecRuling),
}

/// What comes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Will the kernel find a file to execute? If not, it says itself what is
    /// wrong, and nothing else here counts.
    pub starts: bool,
    /// The class of the first file that keeps the program from being
    /// intercepted; [`Class::Intercepted`] if there is none.
    pub class: Class,
    /// What would keep a program that can be intercepted from it if another
    /// user started it, as its own children may: [`Class::Setuid`] or
    /// [`Class::FileCaps`]. Only where the [`Stance`] asks for it.
    pub latent: Option<Class>,
    /// That file, or the one that a rule refuses.
    pub file: File,
    /// The error number of a refusal.
    pub refused: Option<u16>,
    /// What the policy said about that file.
    pub ruling: ExecRuling,
}

impl Verdict {
    /// Will the program be one of the run's?
    #[must_use]
    pub const fn is_intercepted(&self) -> bool {
        self.class.is_intercepted()
    }
}

/// What an [`Examiner`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It needs an answer to this.
    Need(Need),
    /// It is done.
    Done(Verdict),
}

/// What an answer is awaited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Status,
    /// Before anything else, where a search passes over what may not be
    /// executed.
    FirstExecutable,
    Read,
    Ids,
    NoNewPrivs,
    Nosuid,
    Capabilities,
    /// Before a refusal: what may not be executed is the kernel's to refuse.
    LastExecutable,
    Rule,
    Argument(u32),
    Library,
    Done,
}

/// Examines one exec, step by step.
#[derive(Clone, Debug)]
pub struct Examiner {
    stance: Stance,
    state: State,
    file: File,
    status: Option<Status>,
    classifier: Classifier,
    class: Class,
    depth: u8,
    ids: Option<Ids>,
    no_new_privs: Option<bool>,
    nosuid: Option<bool>,
    interpreter: [u8; PATH],
    interpreter_len: usize,
    /// What the policy said about the file before.
    last: ExecRuling,
    verdict: Verdict,
}

impl Examiner {
    /// Starts with the file that was asked for.
    #[must_use]
    pub const fn new(stance: Stance) -> Examiner {
        Examiner {
            stance,
            state: State::Status,
            file: File::Asked,
            status: None,
            classifier: Classifier::new(Host::THIS),
            class: Class::Intercepted,
            depth: 0,
            ids: None,
            no_new_privs: None,
            nosuid: None,
            interpreter: [0; PATH],
            interpreter_len: 0,
            last: NOTHING,
            verdict: Verdict {
                starts: true,
                class: Class::Intercepted,
                latent: None,
                file: File::Asked,
                refused: None,
                ruling: NOTHING,
            },
        }
    }

    /// Path of the [`File::Interpreter`] that the last need was about; relative
    /// to the working directory if it does not begin with `/`.
    #[must_use]
    pub fn interpreter(&self) -> &[u8] {
        self.interpreter.get(..self.interpreter_len).unwrap_or(&[])
    }

    /// What it says.
    #[must_use]
    pub const fn step(&self) -> Step {
        let file = self.file;
        Step::Need(match self.state {
            State::Status => Need::Status(file),
            State::FirstExecutable | State::LastExecutable => Need::Executable(file),
            State::Read => match self.classifier.want() {
                Want::Bytes { offset, len } => Need::Read { file, offset, len },
                // `feed` goes on before it comes to that.
                Want::Nothing(_) => return Step::Done(self.verdict),
            },
            State::Ids => Need::Ids,
            State::NoNewPrivs => Need::NoNewPrivs,
            State::Nosuid => Need::Nosuid(file),
            State::Capabilities => Need::Capabilities(file),
            State::Rule => Need::Rule {
                file,
                class: self.class,
            },
            State::Argument(n) => Need::Argument(n),
            State::Library => Need::Library,
            State::Done => return Step::Done(self.verdict),
        })
    }

    /// Takes the answer to the need that [`Examiner::step`] named. Another
    /// kind of answer than that need has ends the examination: nothing starts.
    pub fn feed(&mut self, answer: Answer<'_>) {
        match (self.state, answer) {
            (State::Status, Answer::Status(status)) => self.status(status),
            (State::FirstExecutable, Answer::Bool(true)) => self.state = State::Read,
            (State::LastExecutable, Answer::Bool(true)) => self.state = State::Rule,
            (State::Read, Answer::Bytes(Some(bytes))) => self.bytes(bytes),
            // The kernel executes it all the same.
            (State::Read, Answer::Bytes(None)) => self.is(Class::Unreadable),
            (State::Ids, Answer::Ids(ids)) => {
                self.ids = Some(ids);
                self.privileges();
            }
            (State::NoNewPrivs, Answer::Bool(is)) => {
                self.no_new_privs = Some(is);
                self.privileges();
            }
            (State::Nosuid, Answer::Bool(is)) => {
                self.nosuid = Some(is);
                self.privileges();
            }
            (State::Capabilities, Answer::Bool(has)) => {
                if has && self.nosuid.is_none() {
                    // Rare enough to come by here twice.
                    self.state = State::Nosuid;
                } else {
                    let counts = has && self.nosuid == Some(false);
                    let is_root = self.ids.is_some_and(|ids| ids.uid == 0);
                    if counts && is_root {
                        self.verdict.latent = Some(Class::FileCaps);
                    }
                    self.judge(if counts && !is_root {
                        Class::FileCaps
                    } else {
                        self.class
                    });
                }
            }
            (State::Rule, Answer::Ruling(ruling)) => self.ruling(ruling),
            (State::Argument(n), Answer::Argument(argument)) => self.argument(n, argument),
            (State::Library, Answer::Bool(true)) => self.state = State::Done,
            (State::Library, Answer::Bool(false)) => {
                self.class = Class::OutOfReach;
                self.ruling(self.last);
            }
            _ => self.nothing_starts(),
        }
    }

    fn nothing_starts(&mut self) {
        self.verdict.starts = false;
        self.state = State::Done;
    }

    fn status(&mut self, status: Option<Status>) {
        match status.filter(|s| s.is_regular) {
            None => self.nothing_starts(),
            Some(status) => {
                self.status = Some(status);
                self.nosuid = None;
                self.classifier = Classifier::new(Host::THIS);
                let first = self.stance.searched && self.file == File::Asked;
                self.state = if first {
                    State::FirstExecutable
                } else {
                    State::Read
                };
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let first = matches!(self.classifier.want(), Want::Bytes { offset: 0, .. });
        self.classifier.feed(bytes);
        if let Want::Nothing(class) = self.classifier.want() {
            if first && class == Class::Script {
                let line = shebang(bytes).and_then(|line| bytes.get(line.interpreter));
                self.interpreter_is(line.unwrap_or(&[]));
            }
            self.is(class);
        }
    }

    fn interpreter_is(&mut self, path: &[u8]) {
        self.interpreter_len = 0;
        if let Some(to) = self.interpreter.get_mut(..path.len()) {
            to.copy_from_slice(path);
            self.interpreter_len = path.len();
        }
    }

    /// The file is of this class, by its bytes.
    fn is(&mut self, class: Class) {
        self.class = class;
        match class {
            // The loader is told to load it: nobody asks for its bits then.
            Class::Intercepted | Class::Unreadable if !matches!(self.file, File::Argument(_)) => {
                self.privileges();
            }
            _ => self.judge(class),
        }
    }

    /// Does the loader run in secure-execution mode (`AT_SECURE`), in which it
    /// drops `LD_PRELOAD`? As cap_bprm_creds_from_file() decides it.
    fn privileges(&mut self) {
        const SETUID: u32 = 0o4000;
        const SETGID: u32 = 0o2010;
        let (Some(status), Some(ids)) = (self.status, self.ids) else {
            self.state = State::Ids;
            return;
        };
        let setuid = status.mode & SETUID != 0 && status.uid != ids.euid;
        let setgid = status.mode & SETGID == SETGID && status.gid != ids.egid;
        let mut counts = false;
        let has_bit = status.mode & SETUID != 0 || status.mode & SETGID == SETGID;
        let ahead = self.stance.looks_ahead && has_bit;
        if setuid || setgid || ahead {
            // mnt_may_suid() and task_no_new_privs(), in bprm_fill_uid().
            match (self.no_new_privs, self.nosuid) {
                (None, _) => return self.state = State::NoNewPrivs,
                (Some(true), _) => {}
                (_, None) => return self.state = State::Nosuid,
                (_, Some(nosuid)) => counts = !nosuid,
            }
        }
        if ahead && counts {
            self.verdict.latent = Some(Class::Setuid);
        }
        let euid = if setuid && counts {
            status.uid
        } else {
            ids.euid
        };
        let egid = if setgid && counts {
            status.gid
        } else {
            ids.egid
        };
        if euid != ids.uid || egid != ids.gid {
            let changes = counts && (setuid || setgid);
            self.judge(if changes {
                Class::Setuid
            } else {
                Class::Privileged
            });
        } else if (ids.uid != 0 || self.stance.looks_ahead) && self.nosuid != Some(true) {
            // `no_new_privs` takes the capabilities away, and leaves the mode.
            self.state = State::Capabilities;
        } else {
            self.judge(self.class);
        }
    }

    /// The class is known: now for the policy.
    fn judge(&mut self, class: Class) {
        self.class = class;
        let known = matches!(self.file, File::Argument(_))
            || self.stance.searched && self.file == File::Asked;
        self.state = if class.is_intercepted() || known {
            State::Rule
        } else {
            State::LastExecutable
        };
    }

    fn ruling(&mut self, ruling: ExecRuling) {
        self.last = ruling;
        let obstacle = !self.class.is_intercepted();
        let refused = match ruling.says {
            Says::Deny(errno) => Some(errno),
            Says::Allow => None,
            Says::Nothing => {
                (obstacle && self.stance.enforces && !self.stance.allows).then_some(errno::EACCES)
            }
        };
        let decides = obstacle || refused.is_some();
        if decides || ruling.note.is_some() && self.verdict.ruling.note.is_none() {
            self.verdict.file = self.file;
            self.verdict.ruling = ruling;
        }
        if decides {
            self.verdict.refused = refused;
            if obstacle {
                self.verdict.class = self.class;
            }
            self.state = State::Done;
            return;
        }
        let is_argument = matches!(self.file, File::Argument(_));
        match self.class {
            Class::Script if is_argument => self.state = State::Done,
            Class::Script if self.interpreter_len > 0 => self.next_interpreter(),
            Class::Script => self.nothing_starts(),
            Class::NotElf if self.stance.searched && self.file == File::Asked => {
                self.interpreter_is(SHELL);
                self.next_interpreter();
            }
            Class::Loader if !is_argument => {
                self.state = State::Argument(1);
            }
            Class::Intercepted => self.state = State::Library,
            // Another format, for which the kernel may know an interpreter
            // (binfmt_misc), or nothing that the loader can load.
            _ => self.state = State::Done,
        }
    }

    fn next_interpreter(&mut self) {
        self.depth += 1;
        if self.depth > DEPTH {
            // ELOOP
            return self.nothing_starts();
        }
        self.file = File::Interpreter;
        self.state = State::Status;
    }

    /// The loader's command line, up to the program that it is to run.
    fn argument(&mut self, n: u32, argument: Option<&[u8]>) {
        const WITH_VALUE: [&[u8]; 7] = [
            b"--library-path",
            b"--inhibit-rpath",
            b"--audit",
            b"--preload",
            b"--argv0",
            b"--glibc-hwcaps-prepend",
            b"--glibc-hwcaps-mask",
        ];
        const RUNS_NOTHING: [&[u8]; 6] = [
            b"--list",
            b"--verify",
            b"--list-tunables",
            b"--list-diagnostics",
            b"--help",
            b"--version",
        ];
        let next = match argument {
            None => return self.state = State::Library,
            Some(a) if RUNS_NOTHING.contains(&a) => return self.state = State::Library,
            Some(a) if WITH_VALUE.contains(&a) => 2,
            Some(b"--inhibit-cache") => 1,
            Some(name) => {
                self.file = File::Argument(n);
                if name.contains(&b'/') {
                    self.state = State::Status;
                } else {
                    // It is looked for as a library.
                    self.judge(Class::Unreadable);
                }
                return;
            }
        };
        self.state = State::Argument(n.saturating_add(next));
    }
}
