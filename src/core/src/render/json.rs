//! A record as one JSON object on one line.

use core::fmt::{self, Display, Write};

use super::names::{Address, exec_path, family, kind, protocol, reason};
use super::{Context, Readable, RuleRef, SCHEMA, civil, errno};
use crate::record::{Call, Check, Identity, Record, flag, stage};

/// Writes the fields of one object.
pub(super) struct Object<'w> {
    w: &'w mut dyn Write,
    first: bool,
}

/// Puts `\"` and `\\` where JSON wants them; the values written through it
/// have no control characters.
struct Quoted<'w>(&'w mut dyn Write);

impl Write for Quoted<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if !s.bytes().any(|b| matches!(b, b'"' | b'\\')) {
            return self.0.write_str(s);
        }
        for part in s.split_inclusive(['"', '\\']) {
            match part.as_bytes().last() {
                Some(b @ (b'"' | b'\\')) => {
                    self.0.write_str(part.get(..part.len() - 1).unwrap_or(""))?;
                    self.0.write_char('\\')?;
                    self.0.write_char(char::from(*b))?;
                }
                _ => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

impl<'w> Object<'w> {
    pub(super) fn open(w: &'w mut dyn Write) -> Result<Object<'w>, fmt::Error> {
        w.write_char('{')?;
        Ok(Object { w, first: true })
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        if !self.first {
            self.w.write_char(',')?;
        }
        self.first = false;
        self.w.write_char('"')?;
        self.w.write_str(name)?;
        self.w.write_str("\":")
    }

    /// One of our own names, which needs no escapes.
    pub(super) fn word(&mut self, name: &str, value: &str) -> fmt::Result {
        self.name(name)?;
        self.w.write_char('"')?;
        self.w.write_str(value)?;
        self.w.write_char('"')
    }

    pub(super) fn maybe_word(&mut self, name: &str, value: Option<&str>) -> fmt::Result {
        match value {
            Some(value) => self.word(name, value),
            None => self.null(name),
        }
    }

    pub(super) fn truth(&mut self, name: &str, value: bool) -> fmt::Result {
        self.name(name)?;
        self.w.write_str(if value { "true" } else { "false" })
    }

    /// A number, `true`, `false`, or anything else that needs no quotes.
    pub(super) fn bare(&mut self, name: &str, value: impl Display) -> fmt::Result {
        self.name(name)?;
        write!(self.w, "{value}")
    }

    pub(super) fn string(&mut self, name: &str, value: impl Display) -> fmt::Result {
        self.name(name)?;
        self.w.write_char('"')?;
        write!(Quoted(self.w), "{value}")?;
        self.w.write_char('"')
    }

    pub(super) fn null(&mut self, name: &str) -> fmt::Result {
        self.name(name)?;
        self.w.write_str("null")
    }

    pub(super) fn maybe_string(&mut self, name: &str, value: Option<impl Display>) -> fmt::Result {
        match value {
            Some(value) => self.string(name, value),
            None => self.null(name),
        }
    }

    pub(super) fn maybe_bare(&mut self, name: &str, value: Option<impl Display>) -> fmt::Result {
        match value {
            Some(value) => self.bare(name, value),
            None => self.null(name),
        }
    }

    fn rule(&mut self, name: &str, rule: Option<RuleRef<'_>>) -> fmt::Result {
        let Some(rule) = rule else {
            return self.null(name);
        };
        self.name(name)?;
        let mut o = Object::open(self.w)?;
        o.bare("number", rule.number)?;
        o.maybe_string("file", rule.place.map(|(file, _)| Readable(file)))?;
        o.maybe_bare("line", rule.place.map(|(_, line)| line))?;
        o.string("text", rule.text)?;
        o.close()
    }

    fn errno(&mut self, name: &str, n: u16) -> fmt::Result {
        match (n, errno(n)) {
            (0, _) => self.null(name),
            (_, Some((symbol, _))) => self.word(name, symbol),
            // A kernel newer than this list: the number is all there is.
            (_, None) => self.string(name, format_args!("E{n}")),
        }
    }

    pub(super) fn close(self) -> fmt::Result {
        self.w.write_char('}')
    }
}

/// RFC 3339, UTC, microseconds.
pub(super) struct Stamp(pub u64);

impl Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = civil(self.0, 0);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            c.year, c.month, c.day, c.hour, c.minute, c.second, c.micro
        )
    }
}

/// Writes `record` as one JSON object and a line feed.
///
/// # Errors
/// If `w` fails.
pub fn json(w: &mut dyn Write, record: &Record, context: &Context<'_>) -> fmt::Result {
    let r = record;
    let has = |bit: u16| r.flags & bit != 0;
    let event = match r.call {
        Call::Fault => "fault",
        Call::Exec => "unseen",
        _ => "decision",
    };
    let has_socket = !matches!(r.call, Call::Fault | Call::Exec);
    let mut o = Object::open(w)?;
    o.bare("v", SCHEMA)?;
    o.word("event", event)?;
    o.string("time", Stamp(r.time_ns))?;
    o.bare("pid", r.pid)?;
    o.bare("tid", r.tid)?;
    let program = (!context.program.is_empty()).then_some(Readable(context.program));
    o.maybe_string("program", program)?;
    o.word("call", r.call.name())?;
    o.maybe_bare("fd", (r.fd >= 0).then_some(r.fd))?;
    o.word("identity", r.identity.name())?;
    let known = r.identity != Identity::None && r.cookie != 0;
    o.maybe_bare("cookie", known.then_some(r.cookie))?;
    o.maybe_string("family", has_socket.then(|| family(r.domain)))?;
    o.maybe_string("type", has_socket.then(|| kind(r.ty)))?;
    o.maybe_string(
        "protocol",
        has_socket.then(|| protocol(r.domain, r.protocol)),
    )?;
    let address = |a| (!crate::addr::RawAddr::bytes(a).is_empty()).then_some(Address(a));
    if r.call == Call::Exec {
        o.maybe_string("asked", exec_path(r))?;
    } else {
        o.maybe_string("asked", address(&r.asked))?;
    }
    o.word("verdict", r.verdict.name())?;
    o.rule("rule", context.rule)?;
    o.errno("errno", r.errno)?;
    o.maybe_string("used", address(&r.used))?;
    match (has(flag::FORWARDED), r.kernel) {
        (false, _) => o.null("kernel")?,
        (true, 0) => o.word("kernel", "ok")?,
        (true, n) => o.errno("kernel", n)?,
    }
    o.name("stages")?;
    stages(o.w, r.stages)?;
    o.maybe_word("check", (r.check != Check::None).then(|| r.check.name()))?;
    o.truth("inferred", has(flag::INFERRED))?;
    o.truth("implicit", has(flag::IMPLICIT))?;
    o.truth("observed", has(flag::OBSERVED))?;
    o.truth("raw_syscall", has(flag::RAW_SYSCALL))?;
    o.truth("seccomp", has(flag::SECCOMP))?;
    o.rule("note", context.note)?;
    o.maybe_bare("holder", (r.holder != 0).then_some(r.holder))?;
    o.maybe_bare("uid", (r.uid != u32::MAX).then_some(r.uid))?;
    o.maybe_word("reason", reason(r))?;
    match &context.predicted {
        Some(p) => {
            o.name("predicted")?;
            super::predicted::json(o.w, p)?;
        }
        None => o.null("predicted")?,
    }
    o.close()?;
    w.write_char('\n')
}

fn stages(w: &mut dyn Write, bits: u16) -> fmt::Result {
    w.write_char('[')?;
    let mut first = true;
    for (_, name) in stage::NAMES.iter().filter(|(bit, _)| bits & bit != 0) {
        w.write_str(if first { "\"" } else { ",\"" })?;
        w.write_str(name)?;
        w.write_char('"')?;
        first = false;
    }
    w.write_char(']')
}
