//! A preload without a launcher: the policy comes from the environment.
//!
//! The compiler of policies and the text of records are in a library of their
//! own, which lies beside this one and is loaded here, before `main`, if there
//! is a policy or a log. It allocates with the program's own allocator; what it
//! makes lies on read-only pages.

use bindgate_core::addr::Addr;
use bindgate_core::plain;
use bindgate_core::policy::View;
use bindgate_core::shared::{ENV_FORMAT, ENV_MOVED, ENV_OPTIONS, Moved, State, option};
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

use super::carry::{FORMAT, LOG, OPTIONS, POLICY, RULES, find};
use super::{Carry, Found, Refused, Sink, complain};
use crate::own::{filter, text};
use crate::sys;

/// The policy of `BINDGATE_RULES` and `BINDGATE_POLICY`. `None` if neither
/// these nor a log is asked for: then there is nothing to do.
pub fn policy(carry: &Carry) -> Result<Option<Found>, Refused> {
    let allowed = filter::allowed();
    let (rules, file, log) = (carry.value(RULES), carry.value(POLICY), carry.value(LOG));
    if rules.is_empty() && file.is_empty() && log.is_empty() {
        return Ok(None);
    }
    let json = match carry.value(FORMAT) {
        b"" | b"text" => false,
        b"json" => true,
        _ => {
            complain(&[ENV_FORMAT.as_bytes(), b": expected text or json"]);
            return Err(Refused);
        }
    };
    let options = options(carry.value(OPTIONS))?;
    let words = compile(carry.library(), rules, file)?;
    let view = View::new(words).map_err(|_| {
        complain(&[b"the policy does not fit its own layout"]);
        Refused
    })?;
    // Its processes would not find each other after an exec, and there is nobody to
    // ask.
    let needs_run: [(bool, &[u8]); 4] = [
        (
            view.vsock_cid().is_some(),
            b"'host cid' needs `bindgate run`",
        ),
        (view.lease().is_some(), b"'host lease' needs `bindgate run`"),
        (
            view.has_shares(),
            b"'host share' needs `bindgate run`, and a network of the run's own",
        ),
        (view.is_ruled(), b"'host' lines need `bindgate run`"),
    ];
    if let Some((_, words)) = needs_run.into_iter().find(|(is_there, _)| *is_there) {
        complain(&[words]);
        return Err(Refused);
    }
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let at = sys::mmap(allowed, State::SIZE, rw, flags, -1).map_err(|e| {
        let mut text = [0; 64];
        let text = text::print(
            &mut text,
            b"no memory for the state: errno ",
            e.0.into(),
            b"",
        );
        let text = text.and_then(|text| text.strip_suffix(b"\0"));
        complain(&[text.unwrap_or(b"")]);
        Refused
    })?;
    // SAFETY: fresh zeroed memory of that size, page-aligned, of atomics;
    // never unmapped.
    let state: &'static State = unsafe { &*at.cast::<State>() };
    state.start(0, unprivileged_start());
    take_over(state);
    Ok(Some(Found {
        state,
        options,
        view,
        sink: match log {
            b"" => Sink::Nowhere,
            b"-" => Sink::Stderr,
            _ => Sink::File,
        },
        json,
        drainer: 0,
        filters: None,
    }))
}

fn options(text: &[u8]) -> Result<u32, Refused> {
    let mut bits = 0;
    for word in text.split(|c| *c == b',').filter(|word| !word.is_empty()) {
        let known = option::WORDS
            .iter()
            .find(|(name, _)| name.as_bytes() == word);
        let Some((_, bit)) = known else {
            complain(&[
                ENV_OPTIONS.as_bytes(),
                b": unknown word '",
                word,
                b"': expected let-go, allow-unintercepted or observe, with commas between them",
            ]);
            return Err(Refused);
        };
        bits |= bit;
    }
    Ok(bits)
}

/// Puts back the moved sockets that the program before the exec had.
fn take_over(state: &State) {
    let Some(text) = find(ENV_MOVED) else { return };
    let digits = text.get(ENV_MOVED.len() + 1..).unwrap_or(&[]);
    for entry in digits.chunks_exact(2 * Moved::BYTES) {
        let mut bytes = [0u8; Moved::BYTES];
        for (to, pair) in bytes.iter_mut().zip(entry.chunks_exact(2)) {
            let pair = core::str::from_utf8(pair).unwrap_or("");
            *to = u8::from_str_radix(pair, 16).unwrap_or(0);
        }
        let Some((moved, tag)) = Moved::from_bytes(&bytes) else {
            continue;
        };
        if !state.moves.restore(&moved, tag) {
            continue;
        }
        let header = &state.header;
        header.moves.fetch_add(1, Relaxed);
        match moved.real.read() {
            Some(Addr::Unix(_)) => {
                header.unix_moves.fetch_add(1, Relaxed);
            }
            Some(addr) => state.mark_port(addr.port().unwrap_or(0) as u16),
            None => {}
        }
    }
}

/// The functions of the plain library, in a library that stays loaded.
struct Plain {
    compile: plain::Compile,
    say: plain::Say,
}

static SAY: AtomicPtr<core::ffi::c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Writes a line into `to`; its length. `None` if there is no such line.
pub fn say(line: &plain::Line, to: &mut [u8]) -> Result<usize, isize> {
    let say = SAY.load(Acquire);
    if say.is_null() {
        return Err(plain::FAILED);
    }
    // SAFETY: stored by `load`, of this type.
    let say = unsafe { core::mem::transmute::<*mut core::ffi::c_void, plain::Say>(say) };
    // SAFETY: the line points to things that are borrowed at least as long as
    // it; `to` is as long as it says.
    let len = unsafe { say(line, to.as_mut_ptr(), to.len()) };
    usize::try_from(len).map_err(|_| len)
}

/// Loads the plain library, which lies beside this one.
fn load(own: &[u8]) -> Option<Plain> {
    let dir = own.iter().rposition(|c| *c == b'/').map_or(0, |at| at + 1);
    let mut path = [0u8; 1024];
    let (before, name) = path.split_at_mut_checked(dir)?;
    before.copy_from_slice(own.get(..dir)?);
    name.get_mut(..plain::LIBRARY.len())?
        .copy_from_slice(plain::LIBRARY);
    // SAFETY: a NUL-terminated path and two NUL-terminated names; the symbols
    // have these types where they have these names.
    unsafe {
        let library = libc::dlopen(path.as_ptr().cast(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if library.is_null() {
            return None;
        }
        let compile = libc::dlsym(library, plain::COMPILE.as_ptr());
        let say = libc::dlsym(library, plain::SAY.as_ptr());
        if compile.is_null() || say.is_null() {
            return None;
        }
        Some(Plain {
            compile: core::mem::transmute::<*mut core::ffi::c_void, plain::Compile>(compile),
            say: core::mem::transmute::<*mut core::ffi::c_void, plain::Say>(say),
        })
    }
}

fn compile(library: &[u8], rules: &[u8], file: &[u8]) -> Result<&'static [u64], Refused> {
    let Some(functions) = load(library) else {
        let name = plain::LIBRARY.strip_suffix(b"\0").unwrap_or(b"");
        complain(&[name, b" of this version is not beside ", library]);
        return Err(Refused);
    };
    SAY.store(functions.say as *mut core::ffi::c_void, Release);
    let texts = plain::Texts {
        rules: rules.into(),
        file: file.into(),
    };
    let mut count = 0;
    // SAFETY: both are there; the words stay.
    unsafe {
        let words = (functions.compile)(&raw const texts, &raw mut count);
        if words.is_null() {
            // It has said why.
            return Err(Refused);
        }
        Ok(core::slice::from_raw_parts(words, count))
    }
}

fn unprivileged_start() -> u16 {
    let allowed = filter::allowed();
    let mut buf = [0; 16];
    let len = match sys::open(
        allowed,
        b"/proc/sys/net/ipv4/ip_unprivileged_port_start\0",
        libc::O_RDONLY,
    ) {
        Ok(fd) => {
            let len = sys::read(allowed, fd, &mut buf).unwrap_or(0);
            sys::close(allowed, fd);
            len
        }
        Err(_) => 0,
    };
    let text = buf.get(..len).unwrap_or(&[]).trim_ascii();
    core::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1024)
}
