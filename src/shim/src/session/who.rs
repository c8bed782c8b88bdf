//! Who this process is: its program, the script behind it, its pid name space.
//!
//! The kernel tells under `/proc/self`. It is asked at the start, once: later
//! the program may be in a chroot, and no call of ours would have a reason that
//! rule 10 names. Of a process that has just started the kernel first has to
//! make those entries, so as few are asked for as can be.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::own::{filter, process};
use crate::sys;

struct Who {
    program: [u8; 1024],
    program_len: usize,
    script: [u8; 1024],
    script_len: usize,
    /// Has the kernel named the program? Without `/proc` it is only known how
    /// its caller called it.
    is_named: bool,
    pid_ns: u64,
}

impl Who {
    /// The program's path, and the script's or nothing.
    fn paths(&self) -> (&[u8], &[u8]) {
        (
            self.program.get(..self.program_len).unwrap_or(&[]),
            self.script.get(..self.script_len).unwrap_or(&[]),
        )
    }
}

struct Cell(UnsafeCell<Who>);
// SAFETY: written by the one thread that moved STATE from UNKNOWN to ASKING,
// read only after it stored KNOWN.
unsafe impl Sync for Cell {}

static WHO: Cell = Cell(UnsafeCell::new(Who {
    program: [0; 1024],
    program_len: 0,
    script: [0; 1024],
    script_len: 0,
    is_named: false,
    pid_ns: 0,
}));

const UNKNOWN: u32 = 0;
const ASKING: u32 = 1;
const KNOWN: u32 = 2;
static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Asks, unless that was done.
pub fn learn() {
    if STATE
        .compare_exchange(UNKNOWN, ASKING, Acquire, Relaxed)
        .is_err()
    {
        return;
    }
    let allowed = filter::allowed();
    // SAFETY: no other thread is here, and nobody reads before KNOWN.
    let who = unsafe { &mut *WHO.0.get() };
    let exe = b"/proc/self/exe\0";
    who.program_len = sys::readlink_at(allowed, libc::AT_FDCWD, exe, &mut who.program).unwrap_or(0);
    who.is_named = who.program_len > 0;
    if who.is_named {
        who.program_len = without_mark(&who.program, who.program_len);
    } else {
        let name = started_as();
        let name = name.get(..who.program.len()).unwrap_or(name);
        if let Some(to) = who.program.get_mut(..name.len()) {
            to.copy_from_slice(name);
            who.program_len = name.len();
        }
    }
    if may_be_script() {
        find_script(who);
    }
    // `pid:[4026531836]`: to follow the link would make one entry more.
    let mut link = [0u8; 32];
    let path = b"/proc/self/ns/pid\0";
    let len = sys::readlink_at(allowed, libc::AT_FDCWD, path, &mut link).unwrap_or(0);
    let digits = link.iter().take(len).filter(|c| c.is_ascii_digit());
    who.pid_ns = digits.fold(0u64, |n, c| {
        n.wrapping_mul(10)
            .wrapping_add(u64::from(c.wrapping_sub(b'0')))
    });
    STATE.store(KNOWN, Release);
}

fn known() -> Option<&'static Who> {
    // SAFETY: KNOWN was stored after the last write.
    (STATE.load(Acquire) == KNOWN).then(|| unsafe { &*WHO.0.get() })
}

/// Path of the executable and of the script that `#!` made it run, if there is
/// one.
pub fn for_log() -> (&'static [u8], &'static [u8]) {
    match known() {
        Some(who) => who.paths(),
        None => (started_as(), &[]),
    }
}

/// The same for rules. They compare the kernel's own name of the executable:
/// where there is none, it is unknown.
pub fn for_rules() -> (&'static [u8], &'static [u8]) {
    match known() {
        Some(who) if who.is_named => who.paths(),
        _ => (&[], &[]),
    }
}

/// The length of the executable's path without the mark that the kernel puts
/// after it if the file was removed or replaced since. A file that is really
/// called so keeps its name.
fn without_mark(path: &[u8; 1024], len: usize) -> usize {
    const MARK: &[u8] = b" (deleted)";
    let Some(before) = path.get(..len).and_then(|path| path.strip_suffix(MARK)) else {
        return len;
    };
    // The NUL is the buffer's own.
    let literal = path.get(..=len).unwrap_or(&[0]);
    let allowed = filter::allowed();
    let is_same = |file: libc::stat| {
        sys::stat(allowed, b"/proc/self/exe\0")
            .is_ok_and(|exe| (exe.st_dev, exe.st_ino) == (file.st_dev, file.st_ino))
    };
    match sys::stat(allowed, literal) {
        Ok(file) if is_same(file) => len,
        _ => before.len(),
    }
}

/// Inode of the pid name space; 0 if nobody knows.
pub fn pid_ns() -> u64 {
    known().map_or(0, |who| who.pid_ns)
}

/// The file that the kernel was told to execute, in the caller's words.
fn started_as() -> &'static [u8] {
    let name = execfn();
    if name.is_null() {
        return &[];
    }
    // SAFETY: the kernel put a NUL-terminated string there, at the far end of
    // the main thread's stack, and one more NUL behind all that it put there.
    unsafe { CStr::from_ptr(name) }.to_bytes()
}

fn execfn() -> *const c_char {
    // SAFETY: reads the vector that the kernel put on the stack.
    unsafe { libc::getauxval(libc::AT_EXECFN) as *const c_char }
}

/// May the kernel have run another file than it was told to? Of a script it
/// gives the interpreter the name as an argument, after at most two arguments
/// for each of the five levels of interpreters that it follows; a loader that
/// was called by its own name says that it was told its first argument.
///
/// The program cannot have changed its arguments yet.
fn may_be_script() -> bool {
    const ARGUMENTS: usize = 16;
    let start = process::stack_end() as *const usize;
    let name = execfn();
    if start.is_null() || name.is_null() {
        return true;
    }
    // SAFETY: there lie the number of arguments and then the arguments, each a
    // NUL-terminated string: see `process::first_environment`.
    unsafe {
        let count = (*start).min(ARGUMENTS);
        let arguments = start.add(1).cast::<*const c_char>();
        (0..count).any(|n| {
            let argument = *arguments.add(n);
            argument == name
                || n > 0 && !argument.is_null() && CStr::from_ptr(argument) == CStr::from_ptr(name)
        })
    }
}

/// The script, if the file that the kernel was told to execute is not the
/// executable.
fn find_script(who: &mut Who) {
    let Some(len) = super::absolute(started_as(), &mut who.script) else {
        return;
    };
    let Some(path) = who.script.get(..=len) else {
        return;
    };
    let allowed = filter::allowed();
    let Ok(exe) = sys::stat(allowed, b"/proc/self/exe\0") else {
        return;
    };
    // A script may be gone by now, as its interpreter would find, too.
    let is_exe = sys::stat(allowed, path)
        .is_ok_and(|file| (file.st_dev, file.st_ino) == (exe.st_dev, exe.st_ino));
    if !is_exe {
        who.script_len = len;
    }
}
