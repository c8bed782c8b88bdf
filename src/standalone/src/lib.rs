//! `libbindgate_plain.so`: what only a preload without a launcher needs.
//!
//! The shim loads it, before `main`, if there is a policy to compile or a log
//! to write. It is apart so that the shim stays small, and so that nothing in
//! the shim can panic: compiling allocates, and `core::fmt` calls through
//! pointers. Panics stop at the two functions here.
//!
//! [`compile`] runs once, before `main`, and may do what it likes. [`say`]
//! runs wherever the program binds: in signal handlers and in forked children.
//! It does not allocate, and takes no lock.

mod compile;

use core::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bindgate_core::plain::{Bytes, FAILED, Line, TOO_LONG, Texts};
use bindgate_core::policy::View;
use bindgate_core::render::{self, Context, Event, RuleRef};

/// See [`bindgate_core::plain::Compile`].
///
/// # Safety
/// The texts and the count must be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bindgate_plain_compile_4(
    texts: *const Texts,
    count: *mut usize,
) -> *const u64 {
    // The standard message takes a lock and goes to the program's standard
    // error.
    std::panic::set_hook(Box::new(|_| {}));
    // SAFETY: the caller's.
    let (rules, file) = unsafe { (bytes((*texts).rules), bytes((*texts).file)) };
    match catch_unwind(|| compile::compile(rules, file)) {
        Ok(Some(words)) => {
            // SAFETY: the caller's.
            unsafe { count.write(words.len()) };
            words.as_ptr()
        }
        Ok(None) => core::ptr::null(),
        Err(payload) => {
            core::mem::forget(payload);
            compile::complain(format_args!("a fault in the policy compiler"));
            core::ptr::null()
        }
    }
}

/// See [`bindgate_core::plain::Say`].
///
/// # Safety
/// All that the line points to must be there, and `room` bytes at `to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bindgate_plain_say_4(
    line: *const Line,
    to: *mut u8,
    room: usize,
) -> isize {
    // SAFETY: the caller's.
    let (line, bytes) = unsafe { (&*line, core::slice::from_raw_parts_mut(to, room)) };
    let mut out = Out { bytes, len: 0 };
    match catch_unwind(AssertUnwindSafe(|| say(line, &mut out))) {
        Ok(Some(Ok(()))) => out.len as isize,
        Ok(Some(Err(fmt::Error))) => TOO_LONG,
        Ok(None) => FAILED,
        Err(payload) => {
            // Dropping it would free memory.
            core::mem::forget(payload);
            FAILED
        }
    }
}

/// A line in the caller's memory; what does not fit makes it fail.
struct Out<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Write for Out<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + s.len());
        for (to, &from) in to.ok_or(fmt::Error)?.iter_mut().zip(s.as_bytes()) {
            // Not by memcpy: a host that is built with ThreadSanitizer puts its
            // own in that place, which cannot know that one thread at a time
            // writes there and reports a race.
            // SAFETY: a byte of our own.
            unsafe { core::ptr::write_volatile(to, from) };
        }
        self.len += s.len();
        Ok(())
    }
}

fn say(line: &Line, out: &mut Out<'_>) -> Option<fmt::Result> {
    // SAFETY: null, or the caller of `bindgate_plain_say_4` says that it is
    // there.
    let Some(record) = (unsafe { line.record.as_ref() }) else {
        return Some(say_lost(line, out));
    };
    // SAFETY: as above.
    let words = unsafe { core::slice::from_raw_parts(line.policy, line.policy_len) };
    let view = View::new(words).ok()?;
    let context = Context {
        // SAFETY: as above.
        program: unsafe { bytes(line.program) },
        // SAFETY: as above.
        script: unsafe { bytes(line.script) },
        rule: RuleRef::find(&view, record.rule, record),
        note: RuleRef::find(&view, record.note, record),
        ..Context::default()
    };
    Some(match line.json {
        true => render::json(out, record, &context),
        false => render::text(out, record, &context),
    })
}

// Apart, so that its event is not on the stack while a record is put into words.
#[inline(never)]
fn say_lost(line: &Line, out: &mut Out<'_>) -> fmt::Result {
    let event = Event::Lost {
        time_ns: line.time_ns,
        count: line.lost,
        why: "the log could not be written",
    };
    match line.json {
        true => render::json_event(out, &event),
        false => render::text_event(out, &event, false, 0),
    }
}

/// # Safety
/// They must be there for as long as the result is used.
unsafe fn bytes<'a>(bytes: Bytes) -> &'a [u8] {
    // SAFETY: the caller's.
    unsafe { core::slice::from_raw_parts(bytes.at, bytes.len) }
}
