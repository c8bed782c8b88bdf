//! A preload without a launcher: the policy comes from the environment.
//!
//! This is the one place of the shim that allocates: before `main`, with the
//! program's own allocator. What it makes is copied to pages of its own that
//! are then read-only.

use bindgate_core::addr::Addr;
use bindgate_core::policy::{self, Resolver, Source, View};
use bindgate_core::run::{ENV_FORMAT, ENV_MOVED, ENV_OPTIONS, ENV_RULES, Moved, State, option};
use core::sync::atomic::Ordering::Relaxed;

use super::carry::{FORMAT, LOG, OPTIONS, POLICY, RULES, find};
use super::{Carry, Found, Refused, Sink, complain};
use crate::sys;

/// The policy of `BINDGATE_RULES` and `BINDGATE_POLICY`. `None` if neither
/// these nor a log is asked for: then there is nothing to do.
pub fn policy(carry: &Carry) -> Result<Option<Found>, Refused> {
    let (rules, file, log) = (carry.value(RULES), carry.value(POLICY), carry.value(LOG));
    if rules.is_empty() && file.is_empty() && log.is_empty() {
        return Ok(None);
    }
    let json = match carry.value(FORMAT) {
        b"" | b"text" => false,
        b"json" => true,
        _ => {
            complain(format_args!("{ENV_FORMAT}: expected text or json"));
            return Err(Refused);
        }
    };
    let options = options(carry.value(OPTIONS))?;
    let words = compile(rules, file)?;
    let words = lock(&words)?;
    let view = View::new(words).map_err(|e| {
        complain(format_args!(
            "the policy does not fit its own layout: {e:?}"
        ));
        Refused
    })?;
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let at = sys::mmap(State::SIZE, rw, flags, -1).map_err(|e| {
        complain(format_args!("no memory for the state: errno {}", e.0));
        Refused
    })?;
    // SAFETY: fresh zeroed memory of that size, page-aligned, of atomics;
    // never unmapped.
    let state: &'static State = unsafe { &*at.cast::<State>() };
    state.start(0, unprivileged_start(), 0);
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
    }))
}

fn options(text: &[u8]) -> Result<u32, Refused> {
    let mut bits = 0;
    for word in text.split(|c| *c == b',').filter(|word| !word.is_empty()) {
        let known = option::WORDS
            .iter()
            .find(|(name, _)| name.as_bytes() == word);
        let Some((_, bit)) = known else {
            complain(format_args!(
                "{ENV_OPTIONS}: unknown word '{}': expected let-go, allow-unseen or observe, with commas between them",
                std::string::String::from_utf8_lossy(word)
            ));
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

struct Users;

impl Resolver for Users {
    fn uid(&self, name: &str) -> Option<u32> {
        // Not getpwnam: it may load name service modules and connect to
        // daemons, in a process that has not reached its own main.
        let text =
            std::string::String::from_utf8_lossy(&slurp(b"/etc/passwd\0").ok()?).into_owned();
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name))
                .then(|| fields.nth(1)?.parse().ok())
                .flatten()
        })
    }
}

fn compile(rules: &[u8], file: &[u8]) -> Result<std::vec::Vec<u64>, Refused> {
    let mut path = file.to_vec();
    path.push(0);
    let text = if file.is_empty() {
        std::vec::Vec::new()
    } else {
        slurp(&path).map_err(|e| {
            complain(format_args!(
                "{}: cannot read the policy: errno {}",
                std::string::String::from_utf8_lossy(file),
                e.0
            ));
            Refused
        })?
    };
    let utf8 = |name: &str, bytes: &[u8]| {
        std::string::String::from_utf8(bytes.to_vec()).map_err(|_| {
            complain(format_args!("{name}: expected UTF-8 text"));
            Refused
        })
    };
    let name = utf8("BINDGATE_POLICY", file)?;
    let (rules, text) = (utf8(ENV_RULES, rules)?, utf8(&name, &text)?);
    let mut sources = std::vec::Vec::new();
    if !rules.is_empty() {
        sources.push(Source {
            name: ENV_RULES,
            text: &rules,
        });
    }
    if !file.is_empty() {
        sources.push(Source {
            name: &name,
            text: &text,
        });
    }
    let parsed = policy::parse(&sources).map_err(|e| refuse(&e))?;
    let (compiled, _warnings) = policy::compile(&parsed, &Users).map_err(|e| refuse(&e))?;
    Ok(compiled.words)
}

fn refuse(diagnostics: &[policy::Diagnostic]) -> Refused {
    for diagnostic in diagnostics {
        complain(format_args!("{diagnostic}"));
    }
    Refused
}

/// Copies the words to pages of their own and makes those read-only.
fn lock(words: &[u64]) -> Result<&'static [u64], Refused> {
    let len = words.len() * 8;
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let at = sys::mmap(len.max(1), rw, flags, -1).map_err(|e| {
        complain(format_args!("no memory for the policy: errno {}", e.0));
        Refused
    })?;
    // SAFETY: fresh memory of that size, page-aligned, never unmapped and
    // after mprotect never written.
    unsafe {
        core::ptr::copy_nonoverlapping(words.as_ptr(), at.cast(), words.len());
        libc::mprotect(at, len, libc::PROT_READ);
        Ok(core::slice::from_raw_parts(at.cast(), words.len()))
    }
}

fn slurp(path: &[u8]) -> Result<std::vec::Vec<u8>, sys::Errno> {
    let fd = sys::open(path, libc::O_RDONLY)?;
    let mut all = std::vec::Vec::new();
    let mut buf = [0; 4096];
    let read = loop {
        match sys::read(fd, &mut buf) {
            Ok(0) => break Ok(all),
            Ok(n) => all.extend_from_slice(buf.get(..n).unwrap_or(&[])),
            Err(e) => break Err(e),
        }
    };
    sys::close(fd);
    read
}

fn unprivileged_start() -> u16 {
    slurp(b"/proc/sys/net/ipv4/ip_unprivileged_port_start\0")
        .ok()
        .and_then(|text| core::str::from_utf8(&text).ok()?.trim().parse().ok())
        .unwrap_or(1024)
}
