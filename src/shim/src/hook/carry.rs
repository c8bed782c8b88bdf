//! The environment of a program that is about to start.
//!
//! It is left untouched if our variables and our place in `LD_PRELOAD` are in
//! it. Otherwise a new list of pointers is built, on the stack or, for a very
//! long one, on pages of its own.

use core::ffi::c_char;
use core::ptr::null;
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::record::{Call, stage};
use bindgate_core::shared::{ENV_RUN, Moved, Ticket, move_kind, option};

use crate::out::faults::guard;
use crate::own::memory::{self, Pages};
use crate::own::{filter, text};
use crate::session::{NAMES, Run, Sink};
use crate::sys::Allowed;

/// A list of strings that ends with a null pointer.
pub type Strings = *const *const c_char;

/// Entries of an environment that is rebuilt on the stack.
const ON_STACK: usize = 160;
/// Longest environment entry that the kernel takes (`MAX_ARG_STRLEN`).
const LONGEST: usize = 128 * 1024;

/// Most moved sockets that a plain preload hands on: as many as fit into one
/// entry of an environment.
const MOVED: usize = 200;
const PRELOAD: &[u8] = b"LD_PRELOAD=";
const MOVED_NAME: &[u8] = b"BINDGATE_MOVED=";

/// What an environment has of ours.
#[derive(Default)]
struct Seen {
    entries: usize,
    /// Where `LD_PRELOAD=` stands.
    preload: Option<usize>,
    /// Is our library named in it?
    named: bool,
    /// Where `BINDGATE_MOVED=` stands.
    moved: Option<usize>,
    /// Bit n: the n-th of our variables is there, with a value that leads
    /// somewhere.
    variables: u32,
    /// Where the n-th stands without one.
    hollow: [Option<usize>; NAMES.len()],
}

/// Is `entry` the variable that `text` sets?
fn is_same_variable(entry: &[u8], text: &[u8]) -> bool {
    let name = text.iter().position(|c| *c == b'=').unwrap_or(0);
    entry.get(..=name) == text.get(..=name)
}

/// Has one of our variables a value, and `BINDGATE_RUN` one that a launcher
/// wrote? A program that empties it takes its children out of the run no more
/// than one that removes it.
fn leads_somewhere(entry: &[u8]) -> Option<bool> {
    let end = entry.iter().position(|c| *c == b'=')?;
    let (name, value) = (entry.get(..end)?, entry.get(end + 1..)?);
    Some(if name == ENV_RUN.as_bytes() {
        Ticket::parse(value).is_some()
    } else {
        !value.is_empty()
    })
}

/// Looks an environment through; `None` if it cannot be read to its end.
fn look(allowed: Allowed, run: &Run, envp: Strings) -> Option<Seen> {
    let mut seen = Seen::default();
    if envp.is_null() {
        return Some(seen);
    }
    loop {
        let entry = memory::read_entry(allowed, envp.wrapping_add(seen.entries))?;
        if entry.is_null() {
            return Some(seen);
        }
        let mut start = [0; 32];
        let (start, _) = memory::copy_str(allowed, entry, &mut start)?;
        if start.starts_with(PRELOAD) {
            seen.preload = Some(seen.entries);
            seen.named = with_string(allowed, entry, |text| {
                let mut parts = text
                    .get(PRELOAD.len()..)?
                    .split(|c| matches!(c, b':' | b' '));
                Some(parts.any(|part| part == run.carry.library()))
            })?;
        } else if start.starts_with(MOVED_NAME) {
            seen.moved = Some(seen.entries);
        } else if start.starts_with(b"BINDGATE_") {
            for (n, text) in run.carry.texts().enumerate() {
                if is_same_variable(start, text) {
                    if with_string(allowed, entry, leads_somewhere)? {
                        seen.variables |= 1 << n;
                    } else if let Some(at) = seen.hollow.get_mut(n) {
                        *at = Some(seen.entries);
                    }
                }
            }
        }
        seen.entries += 1;
    }
}

/// Calls `part` with a copy of a string of an environment, which is on the
/// stack unless it is long; `None` if it cannot be had.
fn with_string<T>(
    allowed: Allowed,
    entry: *const c_char,
    part: impl FnOnce(&[u8]) -> Option<T>,
) -> Option<T> {
    let mut few = [0; 512];
    match memory::copy_str(allowed, entry, &mut few)? {
        (text, true) => part(text),
        _ => Pages::with(allowed, LONGEST, |pages| {
            match memory::copy_str(allowed, entry, pages.bytes_mut())? {
                (text, true) => part(text),
                _ => None,
            }
        })?,
    }
}

/// Calls `go` with an environment that carries us: `envp` itself where that is
/// so already, or where the program dropped us and may (`run --let-go`).
pub fn with_environment<T>(run: &Run, envp: Strings, go: impl FnOnce(Strings) -> T) -> T {
    let mut stack = [null::<c_char>(); ON_STACK];
    let made = guard(Call::Exec, stage::HOOK, || make(run, envp, &mut stack)).flatten();
    go(made.as_ref().map_or(envp, |made| made.list))
}

/// Makes the process's own environment one that carries us, for the functions
/// of libc that start a shell with it and ask nobody. What the program has put
/// there stays; ours is there again.
pub fn repair(run: &Run, envp: Strings) -> Option<()> {
    let allowed = filter::allowed();
    let seen = look(allowed, run, envp)?;
    if !seen.named && run.has_option(option::LET_GO) {
        return None;
    }
    if !seen.named {
        let text = preload_text(allowed, run, envp, &seen)?;
        let value = text.bytes().get(PRELOAD.len()..)?;
        // SAFETY: two NUL-terminated strings, of which setenv makes copies.
        unsafe { libc::setenv(c"LD_PRELOAD".as_ptr(), value.as_ptr().cast(), 1) };
    }
    for (n, text) in run.carry.texts().enumerate() {
        if seen.variables & 1 << n == 0 {
            // SAFETY: a NUL-terminated `NAME=value` that lives as long as the
            // process, as putenv wants it, and that nobody writes to: libc
            // puts the pointer into the environment.
            unsafe { libc::putenv(text.as_ptr().cast_mut().cast()) };
        }
    }
    Some(())
}

/// An environment, and the pages that it lies on.
struct Made {
    list: Strings,
    _pages: [Option<Pages>; 3],
}

/// An environment that carries us; `None` if that is `envp` itself.
fn make(run: &Run, envp: Strings, stack: &mut [*const c_char; ON_STACK]) -> Option<Made> {
    let allowed = filter::allowed();
    let seen = look(allowed, run, envp)?;
    let all = (1 << run.carry.texts().count()) - 1;
    let complete = seen.named && seen.variables == all;
    let moved = moved_text(allowed, run);
    if complete && moved.is_none() || !seen.named && run.has_option(option::LET_GO) {
        return None;
    }
    let preload = match seen.named {
        true => None,
        false => Some(preload_text(allowed, run, envp, &seen)?),
    };
    let ours = Ours {
        preload: preload.as_ref().map(Pages::bytes),
        moved: moved.as_ref().map(Pages::bytes),
    };
    let wanted = seen.entries + run.carry.texts().count() + 3;
    let mut long = None;
    let list = match stack.get_mut(..wanted) {
        Some(list) => list,
        None => long
            .insert(Pages::new(allowed, wanted * size_of::<*const c_char>())?)
            .pointers_mut(),
    };
    build(allowed, run, envp, &seen, &ours, list);
    Some(Made {
        list: list.as_ptr(),
        _pages: [preload, moved, long],
    })
}

/// The entries that take the place of the program's, or join them.
struct Ours<'a> {
    preload: Option<&'a [u8]>,
    moved: Option<&'a [u8]>,
}

/// `BINDGATE_MOVED=…` for a plain preload with moved sockets. A run needs
/// none: its state outlives an exec.
fn moved_text(allowed: Allowed, run: &Run) -> Option<Pages> {
    if run.sink == Sink::Ring || run.state.header.moves.load(Relaxed) == 0 {
        return None;
    }
    let moves = &run.state.moves;
    // Carriers last: many of them may be gone, and nobody has looked.
    let of_kind = |carriers: bool| {
        let is_of_kind = move |m: &Moved| (m.kind == move_kind::CARRIER) == carriers;
        moves.iter().filter(is_of_kind)
    };
    let entries = || {
        of_kind(false)
            .chain(of_kind(true))
            .filter_map(|m| Some(m.to_bytes(moves.tag(m.cookie)?)))
            .take(MOVED)
    };
    let len = MOVED_NAME.len() + entries().count() * Moved::BYTES * 2 + 1;
    let mut pages = Pages::new(allowed, len)?;
    let to = pages.bytes_mut();
    let digit = |n: u8| {
        *b"0123456789abcdef"
            .get(usize::from(n & 0xf))
            .unwrap_or(&b'0')
    };
    let digits = entries().flat_map(|entry| entry.into_iter());
    let digits = digits.flat_map(|byte| [digit(byte >> 4), digit(byte)]);
    let text = MOVED_NAME.iter().copied().chain(digits);
    // The last byte stays the terminating NUL.
    for (to, from) in to.iter_mut().take(len - 1).zip(text) {
        *to = from;
    }
    Some(pages)
}

/// `LD_PRELOAD=ours:theirs`.
fn preload_text(allowed: Allowed, run: &Run, envp: Strings, seen: &Seen) -> Option<Pages> {
    let entry = match seen.preload {
        Some(at) => memory::read_entry(allowed, envp.wrapping_add(at))?,
        None => c"LD_PRELOAD=".as_ptr(),
    };
    with_string(allowed, entry, |text| {
        let theirs = text.get(PRELOAD.len()..)?;
        let colon: &[u8] = if theirs.is_empty() { b"" } else { b":" };
        let parts = [PRELOAD, run.carry.library(), colon, theirs, b"\0"];
        let len = parts.iter().map(|part| part.len()).sum();
        let mut pages = Pages::new(allowed, len)?;
        text::join(pages.bytes_mut(), &parts)?;
        Some(pages)
    })
}

fn build(
    allowed: Allowed,
    run: &Run,
    envp: Strings,
    seen: &Seen,
    ours: &Ours<'_>,
    list: &mut [*const c_char],
) {
    let mut out = list.iter_mut();
    let mut put = |text: *const c_char| {
        if let Some(to) = out.next() {
            *to = text;
        }
    };
    let missing = |n: usize| seen.variables & 1 << n == 0;
    for n in 0..seen.entries {
        let hollow = seen.hollow.iter().position(|at| *at == Some(n));
        if let Some(text) = hollow
            .filter(|of| missing(*of))
            .and_then(|of| run.carry.texts().nth(of))
        {
            put(text.as_ptr().cast());
            continue;
        }
        match (ours.preload, ours.moved) {
            (Some(text), _) if seen.preload == Some(n) => put(text.as_ptr().cast()),
            (_, Some(text)) if seen.moved == Some(n) => put(text.as_ptr().cast()),
            _ => put(memory::read_entry(allowed, envp.wrapping_add(n)).unwrap_or(null())),
        }
    }
    for (text, place) in [(ours.preload, seen.preload), (ours.moved, seen.moved)] {
        if let (Some(text), None) = (text, place) {
            put(text.as_ptr().cast());
        }
    }
    for (n, text) in run.carry.texts().enumerate() {
        if missing(n) && seen.hollow.get(n).is_some_and(Option::is_none) {
            put(text.as_ptr().cast());
        }
    }
    put(null());
}
