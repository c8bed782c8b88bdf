//! What an exec must hand on: our variables and our place in `LD_PRELOAD`.
//!
//! They are copied at start: programs that write their own title over their
//! environment, or clear it, are ordinary servers.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bindgate_core::shared::{ENV_FORMAT, ENV_LOG, ENV_OPTIONS, ENV_POLICY, ENV_RULES, ENV_RUN};

use crate::own::filter;
use crate::sys;

/// Our variables, in the order of [`Carry::texts`].
pub const NAMES: [&str; 6] = [
    ENV_RUN,
    ENV_RULES,
    ENV_POLICY,
    ENV_LOG,
    ENV_FORMAT,
    ENV_OPTIONS,
];

/// Place of `BINDGATE_RULES` in [`NAMES`].
pub const RULES: usize = 1;
/// Place of `BINDGATE_POLICY`.
pub const POLICY: usize = 2;
/// Place of `BINDGATE_LOG`.
pub const LOG: usize = 3;
/// Place of `BINDGATE_FORMAT`.
pub const FORMAT: usize = 4;
/// Place of `BINDGATE_OPTIONS`.
pub const OPTIONS: usize = 5;

/// Copies of our variables and of the library's path.
pub struct Carry {
    /// `NAME=value\0` for each of [`NAMES`]; empty if it was not set.
    texts: [&'static [u8]; NAMES.len()],
    /// Path of this library, as the loader knows it.
    library: &'static [u8],
}

impl Carry {
    /// Reads the environment, once.
    pub fn take() -> Carry {
        let mut texts: [&'static [u8]; NAMES.len()] = [&[]; NAMES.len()];
        for entry in entries() {
            let Some(n) = NAMES.iter().position(|name| sets(entry, name)) else {
                continue;
            };
            // One without a value says nothing.
            if let Some(text) = texts.get_mut(n)
                && text.is_empty()
                && has_value(entry, NAMES[n])
            {
                // SAFETY: each entry is a NUL-terminated string.
                *text = keep(unsafe { CStr::from_ptr(entry) }.to_bytes_with_nul());
            }
        }
        Carry {
            texts,
            library: own_path().map_or(&[], keep),
        }
    }

    /// The value of `BINDGATE_RUN`; empty if there is no launcher.
    pub fn run(&self) -> &'static [u8] {
        self.value(0)
    }

    /// The value of variable `n` of [`NAMES`], without its NUL; empty if it
    /// was not set.
    pub fn value(&self, n: usize) -> &'static [u8] {
        let text = self.texts.get(n).copied().unwrap_or(&[]);
        let from = NAMES.get(n).map_or(0, |name| name.len() + 1);
        text.get(from..text.len().saturating_sub(1)).unwrap_or(&[])
    }

    /// The value of `BINDGATE_LOG`.
    pub fn log(&self) -> &'static [u8] {
        self.value(LOG)
    }

    /// `NAME=value\0` of each variable that was set.
    pub fn texts(&self) -> impl Iterator<Item = &'static [u8]> {
        self.texts.into_iter().filter(|text| !text.is_empty())
    }

    /// Path of this library and a NUL; empty if it is not known.
    pub fn library_path(&self) -> &'static [u8] {
        self.library
    }

    /// Path of this library, without a NUL.
    pub fn library(&self) -> &'static [u8] {
        self.library.strip_suffix(b"\0").unwrap_or(self.library)
    }
}

/// Is there a run to join, or a policy, or a log to write? If not, nobody
/// wants anything of us.
pub fn is_asked_for() -> bool {
    const WANTED: [&str; 4] = [ENV_RUN, ENV_RULES, ENV_POLICY, ENV_LOG];
    entries().any(|entry| {
        let is_set = |name: &&str| sets(entry, name) && has_value(entry, name);
        WANTED.iter().any(is_set)
    })
}

/// Does more than a NUL follow `NAME=`, with which the entry begins?
fn has_value(entry: *const c_char, name: &str) -> bool {
    // SAFETY: it is as long as that; then at least a NUL comes.
    unsafe { *entry.add(name.len() + 1) != 0 }
}

/// `NAME=value\0` in the environment as it is now.
pub fn find(name: &str) -> Option<&'static [u8]> {
    let entry = entries().find(|entry| sets(*entry, name))?;
    // SAFETY: each entry is a NUL-terminated string.
    Some(unsafe { CStr::from_ptr(entry) }.to_bytes_with_nul())
}

/// Does the entry begin with `NAME=`? Looks no further than it must: most
/// entries are long, and not ours.
fn sets(entry: *const c_char, name: &str) -> bool {
    let name = name.as_bytes().iter().chain(b"=");
    // SAFETY: a NUL-terminated string; no character of the name is a NUL, so
    // nothing is read behind its end.
    name.enumerate()
        .all(|(i, c)| unsafe { *entry.add(i) } as u8 == *c)
}

/// The environment's entries as they are now.
fn entries() -> impl Iterator<Item = *const c_char> {
    // SAFETY: the list that libc keeps; it is read before `main`, when nothing
    // else can be changing it.
    let mut at = unsafe { crate::hook::environ } as *const *const c_char;
    if at.is_null() {
        at = crate::own::process::first_environment();
    }
    core::iter::from_fn(move || {
        if at.is_null() {
            return None;
        }
        // SAFETY: the list ends with a null pointer, and this is not beyond it.
        let entry = unsafe { *at };
        if entry.is_null() {
            return None;
        }
        // SAFETY: not yet at the end.
        at = unsafe { at.add(1) };
        Some(entry)
    })
}

fn own_path() -> Option<&'static [u8]> {
    let mut info = core::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: an address in this library and a structure to fill.
    let found = unsafe { libc::dladdr((own_path as fn() -> _) as *const _, info.as_mut_ptr()) };
    // SAFETY: zeroed pointers are a value of it.
    let info = unsafe { info.assume_init() };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a NUL-terminated string that lives as long as the library.
    Some(unsafe { CStr::from_ptr(info.dli_fname) }.to_bytes_with_nul())
}

/// Room for copies on a page that is written anyway.
#[unsafe(link_section = ".data")]
static ROOM: Room = Room(UnsafeCell::new([0; 512]));
struct Room(UnsafeCell<[u8; 512]>);
// SAFETY: each byte is given out once, by `TAKEN`.
unsafe impl Sync for Room {}
#[unsafe(link_section = ".data")]
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A copy that lives as long as the process.
pub fn keep(text: &[u8]) -> &'static [u8] {
    let at = TAKEN.fetch_add(text.len(), Relaxed);
    let to: *mut u8 = if at + text.len() <= size_of::<Room>() {
        ROOM.0.get().cast::<u8>().wrapping_add(at)
    } else {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        match sys::mmap(filter::allowed(), text.len().max(1), prot, flags, -1) {
            Ok(to) => to.cast(),
            Err(_) => return &[],
        }
    };
    // SAFETY: at least that many bytes which nobody else was given, never
    // unmapped, never written again.
    unsafe {
        core::ptr::copy_nonoverlapping(text.as_ptr(), to, text.len());
        core::slice::from_raw_parts(to, text.len())
    }
}
