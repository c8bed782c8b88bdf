//! The environment of a program that is about to start.
//!
//! It is left untouched if our variables and our place in `LD_PRELOAD` are in
//! it. Otherwise a new list of pointers is built, on the stack or, for a very
//! long one, on pages of its own.

use core::ffi::c_char;
use core::ptr::null;

use bindgate_core::record::{Call, stage};
use bindgate_core::run::option;

use crate::faults::guard;
use crate::run::Run;
use crate::{memory, sys};

/// A list of strings that ends with a null pointer.
pub type Strings = *const *const c_char;

/// Entries of an environment that is rebuilt on the stack.
const ON_STACK: usize = 512;
/// Longest `LD_PRELOAD=…` that is rebuilt.
const PRELOAD: usize = 2048;
/// Longest environment entry that the kernel takes (`MAX_ARG_STRLEN`).
const LONGEST: usize = 128 * 1024;

/// What an environment has of ours.
#[derive(Default)]
struct Seen {
    entries: usize,
    /// Where `LD_PRELOAD=` stands.
    preload: Option<usize>,
    /// Is our library named in it?
    named: bool,
    /// Bit n: the n-th of our variables is there.
    variables: u32,
}

/// Is `entry` the variable that `text` sets?
fn is_same_variable(entry: &[u8], text: &[u8]) -> bool {
    let name = text.iter().position(|c| *c == b'=').unwrap_or(0);
    entry.get(..=name) == text.get(..=name)
}

/// Looks an environment through; `None` if it cannot be read to its end.
fn look(run: &Run, envp: Strings) -> Option<Seen> {
    let mut seen = Seen::default();
    if envp.is_null() {
        return Some(seen);
    }
    loop {
        let entry: *const c_char = memory::read(envp.wrapping_add(seen.entries))?;
        if entry.is_null() {
            return Some(seen);
        }
        let start = memory::prefix(entry, 32)?;
        if start.starts_with(b"LD_PRELOAD=") {
            seen.preload = Some(seen.entries);
            seen.named = memory::c_str(entry, LONGEST)?
                .get(11..)?
                .split(|c| matches!(c, b':' | b' '))
                .any(|part| part == run.carry.library());
        } else if start.starts_with(b"BINDGATE_") {
            for (n, text) in run.carry.texts().enumerate() {
                if is_same_variable(start, text) {
                    seen.variables |= 1 << n;
                }
            }
        }
        seen.entries += 1;
    }
}

/// Calls `go` with an environment that carries us: `envp` itself where that is
/// so already, or where the program dropped us and may (`run --let-go`).
pub fn with_environment<T>(run: &Run, envp: Strings, go: impl FnOnce(Strings) -> T) -> T {
    let Some(Some(seen)) = guard(Call::Exec, stage::HOOK, || look(run, envp)) else {
        return go(envp);
    };
    let all = (1 << run.carry.texts().count()) - 1;
    let complete = seen.named && seen.variables == all;
    if complete || !seen.named && run.has_option(option::LET_GO) {
        return go(envp);
    }
    let mut preload = [0u8; PRELOAD];
    let preload = match seen.named {
        true => None,
        false => match preload_text(run, envp, &seen, &mut preload) {
            Some(text) => Some(text),
            None => return go(envp),
        },
    };
    let wanted = seen.entries + run.carry.texts().count() + 2;
    let mut stack = [null::<c_char>(); ON_STACK];
    if let Some(list) = stack.get_mut(..wanted) {
        build(run, envp, &seen, preload, list);
        return go(list.as_ptr());
    }
    let bytes = wanted * size_of::<*const c_char>();
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let Ok(pages) = sys::mmap(bytes, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1) else {
        return go(envp);
    };
    // SAFETY: fresh zeroed pages of that size: null pointers.
    let list = unsafe { core::slice::from_raw_parts_mut(pages.cast::<*const c_char>(), wanted) };
    build(run, envp, &seen, preload, list);
    let ret = go(list.as_ptr());
    // SAFETY: nothing uses the list any more.
    unsafe { sys::munmap(pages, bytes) };
    ret
}

/// `LD_PRELOAD=ours:theirs` in `buf`; `None` if it does not fit.
fn preload_text<'a>(
    run: &Run,
    envp: Strings,
    seen: &Seen,
    buf: &'a mut [u8; PRELOAD],
) -> Option<&'a [u8]> {
    let theirs = match seen.preload {
        Some(at) => memory::c_str(memory::read(envp.wrapping_add(at))?, PRELOAD)?.get(11..)?,
        None => &[],
    };
    let colon: &[u8] = if theirs.is_empty() { b"" } else { b":" };
    let mut len = 0;
    for part in [b"LD_PRELOAD=", run.carry.library(), colon, theirs, b"\0"] {
        buf.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    buf.get(..len)
}

fn build(
    run: &Run,
    envp: Strings,
    seen: &Seen,
    preload: Option<&[u8]>,
    list: &mut [*const c_char],
) {
    let mut out = list.iter_mut();
    let mut put = |text: *const c_char| {
        if let Some(to) = out.next() {
            *to = text;
        }
    };
    for n in 0..seen.entries {
        match preload {
            Some(ours) if seen.preload == Some(n) => put(ours.as_ptr().cast()),
            _ => put(memory::read(envp.wrapping_add(n)).unwrap_or(null())),
        }
    }
    if let (Some(ours), None) = (preload, seen.preload) {
        put(ours.as_ptr().cast());
    }
    for (n, text) in run.carry.texts().enumerate() {
        if seen.variables & 1 << n == 0 {
            put(text.as_ptr().cast());
        }
    }
    put(null());
}
