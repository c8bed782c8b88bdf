//! The policy of the environment, compiled.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bindgate_core::policy::{self, Diagnostic, Resolver, Source};
use bindgate_core::shared::ENV_RULES;

struct Users;

impl Resolver for Users {
    fn uid(&self, name: &str) -> Option<u32> {
        // Not getpwnam: it may load name service modules and connect to
        // daemons, in a process that has not reached its own main.
        let text = fs::read("/etc/passwd").ok()?;
        String::from_utf8_lossy(&text).lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name))
                .then(|| fields.nth(1)?.parse().ok())
                .flatten()
        })
    }
}

/// The words of the policy, on read-only pages of their own; `None` if it is
/// broken, which has been said then.
pub fn compile(rules: &[u8], file: &[u8]) -> Option<&'static [u64]> {
    let text = if file.is_empty() {
        Vec::new()
    } else {
        fs::read(Path::new(std::ffi::OsStr::from_bytes(file)))
            .map_err(|e| {
                complain(format_args!(
                    "{}: cannot read the policy: errno {}",
                    String::from_utf8_lossy(file),
                    e.raw_os_error().unwrap_or(0)
                ));
            })
            .ok()?
    };
    let name = String::from_utf8_lossy(file);
    let mut sources = Vec::new();
    for (name, bytes) in [(ENV_RULES, rules), (&name, &text)] {
        let text = policy::text(name, bytes).map_err(say_all).ok()?;
        if !bytes.is_empty() {
            sources.push(Source { name, text });
        }
    }
    let compiled = policy::parse(&sources).and_then(|parsed| policy::compile(&parsed, &Users));
    match compiled {
        Ok((compiled, _warnings)) => lock(&compiled.words),
        Err(diagnostics) => {
            say_all(diagnostics);
            None
        }
    }
}

fn say_all(diagnostics: Vec<Diagnostic>) {
    for diagnostic in diagnostics {
        complain(format_args!("{diagnostic}"));
    }
}

/// Copies the words to pages of their own and makes those read-only.
fn lock(words: &[u64]) -> Option<&'static [u64]> {
    let len = words.len() * 8;
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever the kernel likes.
    let at = unsafe { libc::mmap(core::ptr::null_mut(), len.max(1), rw, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        complain(format_args!("no memory for the policy"));
        return None;
    }
    // SAFETY: fresh memory of that size, page-aligned, never unmapped and
    // after mprotect never written.
    unsafe {
        core::ptr::copy_nonoverlapping(words.as_ptr(), at.cast(), words.len());
        libc::mprotect(at, len, libc::PROT_READ);
        Some(core::slice::from_raw_parts(at.cast(), words.len()))
    }
}

/// Says on standard error why the program does not run.
pub fn complain(what: core::fmt::Arguments<'_>) {
    let _ = std::io::stderr().write_all(format!("bindgate: {what}\n").as_bytes());
}
