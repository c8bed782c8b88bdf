//! Can the shim follow into a program that is about to start?
//!
//! Static, setuid and foreign executables cannot be seen. Where the policy
//! enforces they are refused, unless the run allows them; otherwise a record
//! says that they were started.

use core::ffi::c_char;
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr, UnixName};
use bindgate_core::elf::{self, Class, Classifier, Host, Step};
use bindgate_core::record::{Call, Check, Record, Verdict, flag, stage};
use bindgate_core::shared::option;

use crate::out::emit;
use crate::own::memory::{self, Pages};
use crate::own::{filter, process};
use crate::redirect::join;
use crate::session::{Run, Sink};
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed, Errno};

/// Longest path that is looked into.
const PATH: usize = 1024;
/// Interpreters of interpreters that the kernel follows.
const DEPTH: usize = 5;

/// Looks at a program before it is started: `Some` is the refusal.
pub fn examine(run: &Run, path: *const c_char, searched: bool) -> Option<Errno> {
    let allowed = filter::allowed();
    if !allowed.may_all(needs::LOOK_AT_PROGRAM) {
        return None;
    }
    let held = sys::NoSignals::hold(allowed);
    // So that the run knows this process across the exec.
    if run.sink == Sink::Ring {
        let _ = process::slot(run);
    }
    let mut pages = Pages::new(allowed, 3 * PATH + Classifier::CHUNK)?;
    let (name, rest) = pages.bytes_mut().split_at_mut_checked(PATH)?;
    let (name, true) = memory::copy_str(allowed, path, name)? else {
        return None;
    };
    let (found, rest) = rest.split_at_mut_checked(PATH)?;
    let (buf, chunk) = rest.split_at_mut_checked(PATH)?;
    let name = if searched && !name.contains(&b'/') {
        search(allowed, name, found)?
    } else {
        name
    };
    let mut class = classify_through_scripts(allowed, name, buf, chunk);
    if class.is_seen() {
        // The loader says so on standard error and goes on without it.
        let library = run.carry.library_path();
        if library.is_empty() || sys::may_read(allowed, library) {
            return None;
        }
        class = Class::OutOfReach;
    }
    drop(held);
    let refused = !run.observe && !run.has_option(option::ALLOW_UNSEEN);
    let mut record = Record::new(Call::Exec);
    record.stages = stage::HOOK;
    record.flags = flag::UNSEEN;
    record.reason = class as u16;
    record.asked = as_address(name);
    if refused {
        record.verdict = Verdict::Deny;
        record.check = Check::SecurityBprmCheck;
        record.errno = libc::EACCES as u16;
    } else {
        run.state.header.unseen.fetch_add(1, Relaxed);
    }
    emit::emit(run, &mut record);
    refused.then_some(Errno(libc::EACCES as u16))
}

/// The end of a path in the shape of a Unix address: the room that a record
/// has for a name.
fn as_address(path: &[u8]) -> RawAddr {
    let end = path.get(path.len().saturating_sub(107)..).unwrap_or(path);
    UnixName::path(end).map_or(RawAddr::EMPTY, |name| Addr::Unix(name).write())
}

/// The file that a name without a slash means, as `execvp` looks for it.
fn search<'a>(allowed: Allowed, name: &[u8], buf: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: getenv reads the environment, as the execvp that follows does.
    let path = unsafe { libc::getenv(c"PATH".as_ptr()) };
    let path = if path.is_null() {
        b"/bin:/usr/bin"
    } else {
        // SAFETY: a NUL-terminated string, which the execvp reads as we do.
        unsafe { core::ffi::CStr::from_ptr(path) }.to_bytes()
    };
    let mut found = 0;
    for dir in path.split(|c| *c == b':') {
        let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        if let Some(full) = join(buf, &[dir, slash, name])
            && sys::may_execute(allowed, full)
        {
            found = full.len() - 1;
            break;
        }
    }
    (found > 0).then(|| buf.get(..found)).flatten()
}

/// Follows `#!` to the program that really runs.
fn classify_through_scripts(
    allowed: Allowed,
    path: &[u8],
    buf: &mut [u8],
    chunk: &mut [u8],
) -> Class {
    let Some(mut at) = join(buf, &[path]) else {
        return Class::Visible;
    };
    let mut next = [0u8; 300];
    for _ in 0..DEPTH {
        let class = classify(allowed, at, chunk);
        if class != Class::Script {
            return class;
        }
        let mut head = [0u8; 256];
        let len = match sys::open(allowed, at, libc::O_RDONLY) {
            Ok(fd) => {
                let len = sys::read(allowed, fd, &mut head).unwrap_or(0);
                sys::close(allowed, fd);
                len
            }
            Err(_) => return Class::Unreadable,
        };
        let head = head.get(..len).unwrap_or(&[]);
        let Some(interpreter) = elf::shebang(head).and_then(|line| head.get(line.interpreter))
        else {
            return Class::Visible;
        };
        let Some(to) = join(&mut next, &[interpreter]) else {
            return Class::Visible;
        };
        at = to;
    }
    Class::Visible
}

/// Classifies the executable at a NUL-terminated path.
fn classify(allowed: Allowed, path: &[u8], chunk: &mut [u8]) -> Class {
    let Ok(st) = sys::stat(allowed, path) else {
        return Class::Visible;
    };
    if st.st_mode & libc::S_IFMT != libc::S_IFREG || !sys::may_execute(allowed, path) {
        // The exec itself will say what is wrong.
        return Class::Visible;
    }
    let (uid, gid) = (sys::getuid(allowed), sys::getgid(allowed));
    if elf::changes_ids(st.st_mode, st.st_uid, st.st_gid, uid, gid) {
        return Class::Setuid;
    }
    if uid != 0 && sys::has_xattr(allowed, path, c"security.capability") {
        return Class::FileCaps;
    }
    let Ok(fd) = sys::open(allowed, path, libc::O_RDONLY) else {
        return Class::Unreadable;
    };
    let mut classifier = Classifier::new(Host::THIS);
    let class = loop {
        match classifier.step() {
            Step::Done(class) => break class,
            Step::Read { offset, len } => {
                let part = chunk
                    .get_mut(..len.min(Classifier::CHUNK))
                    .unwrap_or(&mut []);
                let n = sys::pread(allowed, fd, part, offset).unwrap_or(0);
                classifier.feed(part.get(..n).unwrap_or(&[]));
            }
        }
    };
    sys::close(allowed, fd);
    class
}
