//! Before another program is started: can the shim follow into it, and may it
//! start?
//!
//! The core decides ([`Examiner`]); this answers its questions about the files
//! and the process, with the calls that the kernel itself would be led by.

use core::ffi::c_char;
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr, UnixName};
use bindgate_core::policy::{ExecQuery, ExecRuling, Op, Paths, Says};
use bindgate_core::reach::{
    Answer, Classifier, Examiner, File, Ids, Need, Stance, Status, Step, Verdict,
};
use bindgate_core::record::{
    Call, Check, RULE_DEFAULT, RULE_NONE, Record, Verdict as Decided, flag, stage,
};
use bindgate_core::shared::option;

use super::carry::Strings;
use super::file_actions;
use crate::out::emit;
use crate::own::memory::{self, Pages};
use crate::own::text::{self, print};
use crate::own::{filter, process};
use crate::session::{Run, Sink, who};
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed, Errno, Name};

/// Longest path that the kernel takes, and its NUL (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// Longest file name (`NAME_MAX`), and its NUL.
const NAME: usize = 256;
/// Longest path of an interpreter, and its NUL: a `#!` line has no more bytes.
const INTERPRETER: usize = 257;

/// An exec, as the program asked for it.
#[derive(Clone, Copy)]
pub struct Asked {
    /// The file.
    pub name: Name,
    /// The arguments.
    pub argv: Strings,
    /// Is a name without a slash looked for, as by execvp(3)?
    pub searched: bool,
    /// What is done before it.
    pub before: Before,
}

/// Looks at a program before it is started: `Some` is the refusal.
pub fn examine(run: &Run, asked: Asked) -> Option<Errno> {
    let allowed = filter::allowed();
    if !allowed.may_all(needs::LOOK_AT_PROGRAM) {
        return None;
    }
    let found = sys::without_signals(allowed, || {
        // So that the run knows this process across the exec.
        if run.sink == Sink::Ring {
            let _ = process::slot(run);
        }
        verdict(allowed, run, &asked)
    });
    let Found { verdict, file } = found?;
    let is_refused = verdict.refused.is_some();
    if !is_refused && verdict.is_intercepted() && verdict.ruling.note.is_none() {
        return None;
    }
    let mut record = Record::new(Call::Exec);
    record.stages = stage::HOOK | stage::POLICY;
    record.reason = verdict.class as u16;
    record.rule = match (verdict.ruling.rule, verdict.ruling.says) {
        (Some(rule), _) => rule,
        (None, Says::Nothing) => RULE_NONE,
        (None, _) => RULE_DEFAULT,
    };
    record.note = verdict.ruling.note.unwrap_or(RULE_NONE);
    record.asked = as_address(allowed, asked.name);
    record.used = file;
    if !verdict.is_intercepted() {
        record.flags |= flag::UNSEEN;
    }
    if let Some(errno) = verdict.refused {
        record.verdict = Decided::Deny;
        record.check = Check::SecurityBprmCheck;
        record.errno = errno;
        if run.observe {
            record.flags |= flag::OBSERVED;
        }
    }
    let refused = verdict.refused.filter(|_| !run.observe);
    if refused.is_none() && !verdict.is_intercepted() {
        run.state.header.unseen.fetch_add(1, Relaxed);
    }
    emit::emit(run, &mut record);
    refused.map(Errno)
}

/// The end of a path in the shape of a Unix address: the room that a record
/// has for a name.
fn as_address(allowed: Allowed, name: Name) -> RawAddr {
    let Some(mut room) = Pages::new(allowed, PATH_MAX) else {
        return RawAddr::EMPTY;
    };
    let path = match memory::copy_str(allowed, name.path, room.bytes_mut()) {
        Some((path, _)) => path,
        None => return RawAddr::EMPTY,
    };
    let end = path.get(path.len().saturating_sub(107)..).unwrap_or(path);
    UnixName::path(end).map_or(RawAddr::EMPTY, |name| Addr::Unix(name).write())
}

/// What comes of an exec.
struct Found {
    verdict: Verdict,
    /// The file that decided, if it is another than the one asked for.
    file: RawAddr,
}

/// `None` where nothing will start.
fn verdict(allowed: Allowed, run: &Run, asked: &Asked) -> Option<Found> {
    let stance = Stance {
        enforces: !run.observe,
        allows: run.has_option(option::ALLOW_UNINTERCEPTED),
        searched: asked.searched,
        looks_ahead: false,
    };
    // It is open until the program was looked at.
    let directory = file_actions::directory(allowed, asked.before.actions);
    let mut cwd = libc::AT_FDCWD;
    let mut name = asked.name;
    if let Some(directory) = &directory {
        cwd = directory.fd();
        name.dir = cwd;
    }
    let mut driver = Driver {
        allowed,
        run,
        asked,
        cwd,
        name,
        open: None,
        interpreter: [0; INTERPRETER],
    };
    let mut room = [0; NAME];
    let found = match asked.searched {
        true => match memory::copy_str(allowed, asked.name.path, &mut room) {
            Some((name, true)) if !name.contains(&b'/') => search(&mut driver, stance, name),
            _ => driver.drive(stance),
        },
        false => driver.drive(stance),
    };
    driver.close();
    if let Some(directory) = directory {
        directory.close(allowed);
    }
    found
}

/// The first file of that name that would start, as execvp(3) looks for it.
fn search(driver: &mut Driver<'_>, stance: Stance, name: &[u8]) -> Option<Found> {
    Pages::with(driver.allowed, PATH_MAX + NAME + 1, |room| {
        search_in(driver, stance, name, room.bytes_mut())
    })?
}

/// [`search`], with room for the paths that it tries.
fn search_in(
    driver: &mut Driver<'_>,
    stance: Stance,
    name: &[u8],
    room: &mut [u8],
) -> Option<Found> {
    // SAFETY: getenv reads the environment, as the execvp that follows does.
    let mut at = unsafe { libc::getenv(c"PATH".as_ptr()) }.cast_const();
    if at.is_null() {
        at = c"/bin:/usr/bin".as_ptr();
    }
    loop {
        // SAFETY: execvp reads the same string up to its NUL, at which the
        // loop ends.
        let mut next = || unsafe {
            let byte = *at as u8;
            if byte != 0 {
                at = at.add(1);
            }
            byte
        };
        let mut len = 0;
        let end = loop {
            match next() {
                end @ (0 | b':') => break end,
                byte => {
                    // What is too long is passed over.
                    if let Some(to) = room.get_mut(..PATH_MAX).and_then(|r| r.get_mut(len)) {
                        *to = byte;
                    }
                    len += 1;
                }
            }
        };
        let parts = [if len == 0 { &b""[..] } else { b"/" }, name, b"\0"];
        let rest = room.get_mut(len..).filter(|_| len < PATH_MAX);
        if rest.and_then(|to| text::join(to, &parts)).is_some() {
            driver.close();
            driver.name = Name {
                dir: driver.cwd,
                path: room.as_ptr().cast(),
                flags: 0,
            };
            let found = driver.drive(stance);
            if found.is_some() {
                return found;
            }
        }
        if end == 0 {
            return None;
        }
    }
}

/// A file that is open.
struct Open {
    fd: i32,
    /// Or can only be asked about (`O_PATH`).
    is_readable: bool,
    /// Or the program's own descriptor.
    is_ours: bool,
}

/// Answers an [`Examiner`].
struct Driver<'a> {
    allowed: Allowed,
    run: &'a Run,
    asked: &'a Asked,
    /// Where the names of interpreters and of arguments start from: the working
    /// directory that the program will have.
    cwd: i32,
    name: Name,
    open: Option<Open>,
    interpreter: [u8; INTERPRETER],
}

impl Driver<'_> {
    fn drive(&mut self, stance: Stance) -> Option<Found> {
        let allowed = self.allowed;
        let mut examiner = Examiner::new(stance);
        let mut chunk = [0; Classifier::CHUNK];
        loop {
            let need = match examiner.step() {
                Step::Done(verdict) => {
                    let file = match verdict.file {
                        File::Asked => RawAddr::EMPTY,
                        _ => as_address(allowed, self.name),
                    };
                    return verdict.starts.then_some(Found { verdict, file });
                }
                Step::Need(need) => need,
            };
            let answer = match need {
                Need::Status(file) => {
                    self.turn_to(file, &examiner);
                    Answer::Status(self.status())
                }
                Need::Executable(_) => Answer::Bool(self.name.may_execute(allowed)),
                Need::Read { offset, len, .. } => {
                    let part = chunk.get_mut(..len).unwrap_or(&mut []);
                    Answer::Bytes(self.read(part, offset))
                }
                Need::Ids => Answer::Ids(self.ids()),
                Need::NoNewPrivs => Answer::Bool(sys::no_new_privs(allowed)),
                Need::Nosuid(_) => {
                    let open = self.open();
                    Answer::Bool(open.is_some_and(|open| sys::is_nosuid(allowed, open.fd)))
                }
                Need::Capabilities(_) => Answer::Bool(self.has_capabilities()),
                Need::Argument(n) => Answer::Argument(self.argument(n, &mut chunk)),
                Need::Rule { .. } => Answer::Ruling(self.ruling()),
                // The loader says so on standard error and goes on without it.
                Need::Library => {
                    let library = self.run.carry.library_path();
                    Answer::Bool(library.is_empty() || sys::may_read(allowed, library))
                }
            };
            examiner.feed(answer);
        }
    }

    fn turn_to(&mut self, file: File, examiner: &Examiner) {
        let path = match file {
            File::Asked => return,
            File::Interpreter => {
                self.interpreter = [0; INTERPRETER];
                let path = examiner.interpreter();
                // The last byte stays the NUL.
                let _ = text::join(&mut self.interpreter, &[path]);
                self.interpreter.as_ptr().cast()
            }
            File::Argument(n) => self.pointer(n),
        };
        self.close();
        self.name = Name {
            dir: self.cwd,
            path,
            flags: 0,
        };
    }

    fn status(&self) -> Option<Status> {
        let st = self.name.stat(self.allowed).ok()?;
        Some(Status {
            is_regular: st.st_mode & libc::S_IFMT == libc::S_IFREG,
            mode: st.st_mode,
            uid: st.st_uid,
            gid: st.st_gid,
        })
    }

    /// The file, to be read if that is possible.
    fn open(&mut self) -> Option<&Open> {
        if self.open.is_none() {
            self.open = self.open_now();
        }
        self.open.as_ref()
    }

    fn open_now(&self) -> Option<Open> {
        let mut by_fd = [0; 32];
        let mut name = self.name;
        let is_empty = || {
            matches!(
                memory::copy_str(self.allowed, name.path, &mut []),
                Some((_, true))
            )
        };
        let is_fd = name.flags & libc::AT_EMPTY_PATH != 0 && is_empty();
        if is_fd {
            let path = print(&mut by_fd, b"/proc/self/fd/", name.dir as u64, b"")?;
            name = Name::here(path.as_ptr().cast());
        }
        let ours = |fd, is_readable| Open {
            fd,
            is_readable,
            is_ours: true,
        };
        if let Ok(fd) = name.open(self.allowed, libc::O_RDONLY) {
            Some(ours(fd, true))
        } else if is_fd {
            Some(Open {
                fd: self.name.dir,
                is_readable: true,
                is_ours: false,
            })
        } else {
            let fd = name.open(self.allowed, libc::O_PATH).ok()?;
            Some(ours(fd, false))
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take().filter(|open| open.is_ours) {
            sys::close(self.allowed, open.fd);
        }
    }

    fn read<'b>(&mut self, to: &'b mut [u8], offset: u64) -> Option<&'b [u8]> {
        let allowed = self.allowed;
        let open = self.open().filter(|open| open.is_readable)?;
        let n = sys::pread(allowed, open.fd, to, offset).ok()?;
        to.get(..n)
    }

    fn ids(&self) -> Ids {
        // What may not be asked is taken for somebody without privileges whose
        // IDs are the same: a set-user-ID bit counts then.
        let nobody = (u32::MAX, u32::MAX);
        let (uid, euid) = sys::user_ids(self.allowed).unwrap_or(nobody);
        let (gid, egid) = sys::group_ids(self.allowed).unwrap_or(nobody);
        match self.asked.before.resets_ids(self.allowed) {
            true => Ids {
                uid,
                euid: uid,
                gid,
                egid: gid,
            },
            false => Ids {
                uid,
                euid,
                gid,
                egid,
            },
        }
    }

    fn has_capabilities(&mut self) -> bool {
        const NAME: &core::ffi::CStr = c"security.capability";
        let allowed = self.allowed;
        let Some(open) = self.open() else {
            return false;
        };
        if open.is_readable {
            return sys::has_xattr_of(allowed, open.fd, NAME);
        }
        let mut path = [0; 32];
        let path = print(&mut path, b"/proc/self/fd/", open.fd as u64, b"");
        path.is_some_and(|path| sys::has_xattr(allowed, path, NAME))
    }

    /// Argument `n` of the call.
    fn pointer(&self, n: u32) -> *const c_char {
        let at = self.asked.argv.wrapping_add(n as usize);
        memory::read_entry(self.allowed, at).unwrap_or(core::ptr::null())
    }

    /// Of one that is longer than there is room for, the beginning tells all:
    /// the loader's options are short, and a path has a slash.
    fn argument<'b>(&self, n: u32, room: &'b mut [u8]) -> Option<&'b [u8]> {
        if self.asked.argv.is_null() {
            return None;
        }
        let argument = self.pointer(n);
        if argument.is_null() {
            return None;
        }
        memory::copy_str(self.allowed, argument, room).map(|(text, _)| text)
    }

    /// What the policy says about the file itself.
    fn ruling(&mut self) -> ExecRuling {
        let view = &self.run.view;
        if !view.has_rules(Op::Exec) && view.default_source(Op::Exec).is_none() {
            return ExecRuling::default();
        }
        let (program, script) = who::for_rules();
        let mut query = ExecQuery {
            file: &[],
            caller: Paths { program, script },
            uid: match view.needs_user(Op::Exec) {
                true => sys::geteuid(self.allowed),
                false => None,
            },
        };
        let Some(mut room) = Pages::new(self.allowed, PATH_MAX) else {
            return view.exec(&query, self.run);
        };
        let mut link = [0; 32];
        let fd = self.open().map(|open| open.fd);
        let link = fd.and_then(|fd| print(&mut link, b"/proc/self/fd/", fd as u64, b""));
        let len = link.map_or(0, |link| {
            sys::readlink_at(self.allowed, libc::AT_FDCWD, link, room.bytes_mut()).unwrap_or(0)
        });
        // One that was cut off is none.
        let path = room.bytes().get(..len).filter(|_| len < PATH_MAX);
        query.file = path.unwrap_or(&[]);
        self.run.view.exec(&query, self.run)
    }
}

/// What posix_spawn(3) is to do in the child before its exec: null, or what
/// `posix_spawn_file_actions_init` and `posix_spawnattr_init` set up.
#[derive(Clone, Copy)]
pub struct Before {
    /// The file actions.
    pub actions: *const libc::posix_spawn_file_actions_t,
    /// The attributes.
    pub attributes: *const libc::posix_spawnattr_t,
}

impl Before {
    /// Nothing.
    pub const NOTHING: Before = Before {
        actions: core::ptr::null(),
        attributes: core::ptr::null(),
    };

    /// Will the effective IDs be made the real ones?
    fn resets_ids(&self, allowed: Allowed) -> bool {
        // The flags are what comes first. libc reads them in the child: a bad
        // address kills that, and not the program.
        let flags: Option<i16> = memory::read_argument(allowed, self.attributes.cast());
        flags.is_some_and(|flags| i32::from(flags) & libc::POSIX_SPAWN_RESETIDS != 0)
    }
}
