//! A record as one JSON object on one line.
//!
//! A daemon that keeps up with two processors writes a million of these in a
//! second: what nearly every record has is written in few and long pieces.

use core::fmt::{self, Display, Write};

use super::names::{Address, Named, exec_path, family, kind, leased, lost, protocol, reason};
use super::{Context, Holder, Readable, RuleRef, RuleText, SCHEMA, cause, civil, errno, holder};
use crate::addr::{Addr, RawAddr, af};
use crate::record::{Call, Check, Identity, Record, flag, stage};
use crate::socket::BindOptions;

/// Writes the fields of one object.
pub(super) struct Object<'w> {
    w: &'w mut dyn Write,
    first: bool,
}

/// Puts `\"` and `\\` where JSON wants them; the values written through it
/// have no control characters.
struct Quoted<'w, W>(&'w mut W);

impl<W: Write> Write for Quoted<'_, W> {
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

    pub(super) fn rule(&mut self, name: &str, rule: &RuleRef<'_>) -> fmt::Result {
        self.name(name)?;
        let mut o = Object::open(self.w)?;
        o.bare("number", rule.number)?;
        match rule.place {
            Some((file, line)) => {
                o.string("file", Readable(file))?;
                o.bare("line", line)?;
            }
            None => {
                o.null("file")?;
                o.null("line")?;
            }
        }
        o.string("text", rule.text)?;
        o.close()
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
        write!(Quoted(&mut self.w), "{value}")?;
        self.w.write_char('"')
    }

    pub(super) fn null(&mut self, name: &str) -> fmt::Result {
        self.name(name)?;
        self.w.write_str("null")
    }

    /// An array, each element of which `put` writes.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        all: impl IntoIterator<Item = T>,
        put: impl Fn(&mut dyn Write, T) -> fmt::Result,
    ) -> fmt::Result {
        self.name(name)?;
        self.w.write_char('[')?;
        for (n, one) in all.into_iter().enumerate() {
            self.w.write_str(if n > 0 { "," } else { "" })?;
            put(self.w, one)?;
        }
        self.w.write_char(']')
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

    pub(super) fn close(self) -> fmt::Result {
        self.w.write_char('}')
    }
}

/// A string as it stands in an array.
pub(super) fn quoted(mut w: &mut dyn Write, value: impl Display) -> fmt::Result {
    w.write_char('"')?;
    write!(Quoted(&mut w), "{value}")?;
    w.write_char('"')
}

/// RFC 3339, UTC, microseconds.
pub struct Stamp(pub u64);

impl Stamp {
    fn text(&self) -> [u8; 27] {
        let c = civil(self.0, 0);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |at: usize, width: usize, mut n: u64| {
            for digit in text.iter_mut().skip(at).take(width).rev() {
                *digit = b'0' + (n % 10) as u8;
                n /= 10;
            }
        };
        put(0, 4, c.year);
        put(5, 2, c.month);
        put(8, 2, c.day);
        put(11, 2, c.hour);
        put(14, 2, c.minute);
        put(17, 2, c.second);
        put(20, 6, c.micro);
        text
    }
}

impl Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ascii(&self.text()))
    }
}

fn ascii(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("")
}

/// Pieces of a line. Their `before` ends with the field's name and colon.
struct Line<'w, W>(&'w mut W);

impl<W: Write> Line<'_, W> {
    #[inline]
    fn raw(&mut self, s: &str) -> fmt::Result {
        self.0.write_str(s)
    }

    #[inline]
    fn number(&mut self, before: &str, mut n: u64) -> fmt::Result {
        self.raw(before)?;
        let mut digits = [0; 20];
        let mut from = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (n % 10) as u8;
            n /= 10;
            from -= 1;
            if n == 0 {
                break;
            }
        }
        self.raw(ascii(digits.get(from..).unwrap_or(&[])))
    }

    #[inline]
    fn maybe_number(&mut self, before: &str, n: Option<u64>) -> fmt::Result {
        match n {
            Some(n) => self.number(before, n),
            None => self.null(before),
        }
    }

    /// One of our own names, which needs no escapes.
    #[inline]
    fn word(&mut self, before: &str, word: &str) -> fmt::Result {
        self.raw(before)?;
        self.raw("\"")?;
        self.raw(word)?;
        self.raw("\"")
    }

    #[inline]
    fn maybe_word(&mut self, before: &str, word: Option<&str>) -> fmt::Result {
        match word {
            Some(word) => self.word(before, word),
            None => self.null(before),
        }
    }

    fn named(&mut self, before: &str, name: Option<Named>) -> fmt::Result {
        match name {
            Some(Named(Some(name), _)) => self.word(before, name),
            Some(name) => self.string(before, name),
            None => self.null(before),
        }
    }

    fn null(&mut self, before: &str) -> fmt::Result {
        self.raw(before)?;
        self.raw("null")
    }

    fn string(&mut self, before: &str, value: impl Display) -> fmt::Result {
        self.raw(before)?;
        self.raw("\"")?;
        write!(Quoted(self.0), "{value}")?;
        self.raw("\"")
    }

    /// Bytes that are mostly text, and mostly ASCII without quotes.
    fn bytes(&mut self, before: &str, bytes: &[u8]) -> fmt::Result {
        let plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\');
        if bytes.iter().all(plain) {
            self.word(before, ascii(bytes))
        } else {
            self.string(before, Readable(bytes))
        }
    }

    fn address(&mut self, before: &str, addr: &RawAddr) -> fmt::Result {
        if addr.bytes().is_empty() {
            return self.null(before);
        }
        let Some(Addr::Inet {
            ip: [a, b, c, d],
            port,
        }) = addr.read()
        else {
            return self.string(before, Address(addr));
        };
        self.raw(before)?;
        self.number("\"", a.into())?;
        self.number(".", b.into())?;
        self.number(".", c.into())?;
        self.number(".", d.into())?;
        self.number(":", port.into())?;
        self.raw("\"")
    }

    fn errno(&mut self, before: &str, n: u16) -> fmt::Result {
        match (n, errno(n)) {
            (0, _) => self.null(before),
            (_, Some((symbol, _))) => self.word(before, symbol),
            // A kernel newer than this list: the number is all there is.
            (_, None) => self.string(before, format_args!("E{n}")),
        }
    }

    fn rule(&mut self, before: &str, rule: Option<RuleRef<'_>>) -> fmt::Result {
        let Some(rule) = rule else {
            return self.null(before);
        };
        self.raw(before)?;
        self.number("{\"number\":", rule.number.into())?;
        match rule.place {
            Some((file, line)) => {
                self.bytes(",\"file\":", file)?;
                self.number(",\"line\":", line.into())?;
            }
            None => self.raw(",\"file\":null,\"line\":null")?,
        }
        match rule.text {
            RuleText::Rule(text) => self.bytes(",\"text\":", text)?,
            text => self.string(",\"text\":", text)?,
        }
        self.raw("}")
    }

    /// An array of our own names.
    fn words<'n>(&mut self, before: &str, words: impl Iterator<Item = &'n str>) -> fmt::Result {
        self.raw(before)?;
        let mut gap = "[\"";
        for word in words {
            self.raw(gap)?;
            self.raw(word)?;
            gap = "\",\"";
        }
        self.raw(if gap == "[\"" { "[]" } else { "\"]" })
    }

    /// What the socket was told before a bind.
    fn options(&mut self, r: &Record) -> fmt::Result {
        let is_bind = r.call == Call::Bind || r.flags & (flag::IMPLICIT | flag::AWAITED) != 0;
        if !is_bind || r.options.has(BindOptions::UNKNOWN) {
            return self.raw(",\"v6only\":null,\"options\":null,\"device\":null");
        }
        let v6only = match (r.domain, r.options.has(BindOptions::V6ONLY)) {
            (af::INET6, true) => ",\"v6only\":true,\"options\":",
            (af::INET6, false) => ",\"v6only\":false,\"options\":",
            _ => ",\"v6only\":null,\"options\":",
        };
        let set = |bit: u8| r.options.has(bit);
        let names = BindOptions::NAMES.iter().filter(|(_, bit)| set(*bit));
        self.words(v6only, names.map(|(name, _)| *name))?;
        let device = (r.device != 0).then_some(r.device.into());
        self.maybe_number(",\"device\":", device)
    }

    fn truth(&mut self, before: &str, value: bool) -> fmt::Result {
        self.raw(before)?;
        self.raw(if value { "true" } else { "false" })
    }

    /// A path in a record about exec, an address in others.
    fn file_or_address(&mut self, key: &str, r: &Record, at: &RawAddr) -> fmt::Result {
        match (r.call, exec_path(at)) {
            (Call::Exec, Some(path)) => self.string(key, path),
            (Call::Exec, None) => self.null(key),
            _ => self.address(key, at),
        }
    }
}

/// Writes `record` as one JSON object and a line feed.
///
/// # Errors
/// If `w` fails.
pub fn json<W: Write>(w: &mut W, record: &Record, context: &Context<'_>) -> fmt::Result {
    const _: () = assert!(SCHEMA == 2);
    let r = record;
    let has = |bit: u16| r.flags & bit != 0;
    let mut l = Line(w);
    l.raw(match r.call {
        Call::Fault => "{\"v\":2,\"event\":\"fault\",\"time\":",
        Call::Exec if has(flag::UNSEEN) => "{\"v\":2,\"event\":\"unseen\",\"time\":",
        _ => "{\"v\":2,\"event\":\"decision\",\"time\":",
    })?;
    l.word("", ascii(&Stamp(r.time_ns).text()))?;
    l.number(",\"pid\":", r.pid.into())?;
    l.number(",\"tid\":", r.tid.into())?;
    match context.program {
        [] => l.null(",\"program\":")?,
        program => l.bytes(",\"program\":", program)?,
    }
    match context.script {
        [] => l.null(",\"script\":")?,
        script => l.bytes(",\"script\":", script)?,
    }
    l.word(",\"call\":", r.call.name())?;
    l.maybe_number(",\"fd\":", u64::try_from(r.fd).ok())?;
    l.word(",\"identity\":", r.identity.name())?;
    let known = r.identity != Identity::None && r.cookie != 0;
    l.maybe_number(",\"cookie\":", known.then_some(r.cookie))?;
    let has_socket = !matches!(r.call, Call::Fault | Call::Exec);
    l.named(",\"family\":", has_socket.then(|| family(r.domain)))?;
    l.named(",\"type\":", has_socket.then(|| kind(r.ty)))?;
    let named = has_socket.then(|| protocol(r.domain, r.protocol));
    l.named(",\"protocol\":", named)?;
    l.file_or_address(",\"asked\":", r, &r.asked)?;
    l.options(r)?;
    l.word(",\"verdict\":", r.verdict.name())?;
    l.rule(",\"rule\":", context.rule)?;
    l.errno(",\"errno\":", r.errno)?;
    l.file_or_address(",\"used\":", r, &r.used)?;
    l.maybe_word(",\"used_device\":", has(flag::ON_LO).then_some("lo"))?;
    match (has(flag::FORWARDED), r.kernel) {
        (false, _) => l.null(",\"kernel\":")?,
        (true, 0) => l.raw(",\"kernel\":\"ok\"")?,
        (true, n) => l.errno(",\"kernel\":", n)?,
    }
    let stages = stage::NAMES.iter().filter(|(bit, _)| r.stages & bit != 0);
    l.words(",\"stages\":", stages.map(|(_, name)| *name))?;
    l.maybe_word(
        ",\"check\":",
        (r.check != Check::None).then(|| r.check_name()),
    )?;
    let marks =
        flag::INFERRED | flag::IMPLICIT | flag::OBSERVED | flag::RAW_SYSCALL | flag::SECCOMP;
    if has(marks) {
        l.truth(",\"inferred\":", has(flag::INFERRED))?;
        l.truth(",\"implicit\":", has(flag::IMPLICIT))?;
        l.truth(",\"observed\":", has(flag::OBSERVED))?;
        l.truth(",\"raw_syscall\":", has(flag::RAW_SYSCALL))?;
        l.truth(",\"seccomp\":", has(flag::SECCOMP))?;
    } else {
        l.raw(concat!(
            ",\"inferred\":false,\"implicit\":false,\"observed\":false",
            ",\"raw_syscall\":false,\"seccomp\":false"
        ))?;
    }
    l.rule(",\"note\":", context.note)?;
    l.raw(",\"holder\":")?;
    match context.holder {
        Some(held) => holder::json(l.0, held)?,
        None if r.holder != 0 => holder::json(l.0, &Holder::of_cookie(r.holder))?,
        None => l.raw("null")?,
    }
    let uid = (r.uid != u32::MAX).then_some(r.uid.into());
    l.maybe_number(",\"uid\":", uid)?;
    l.maybe_word(
        ",\"reason\":",
        reason(r).or_else(|| lost(r)).or_else(|| leased(r)),
    )?;
    match &context.predicted {
        Some(p) => {
            l.word(",\"predicted\":{\"answer\":", p.answer.name())?;
            l.maybe_word(",\"check\":", p.step.map(crate::model::Step::function))?;
            l.truth(",\"differs\":", p.differs)?;
            l.maybe_word(",\"why\":", p.why)?;
            l.raw("}")?;
        }
        None => l.raw(",\"predicted\":null")?,
    }
    match context.why {
        Some(why) => {
            l.raw(",\"why\":")?;
            cause::json(l.0, why)?;
            l.raw("}\n")
        }
        None => l.raw(",\"why\":null}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    #[test]
    fn what_is_written_in_pieces_is_what_display_says() {
        for n in [0, 9, 10, 12_345, u64::MAX] {
            let mut s = String::new();
            Line(&mut s).number("", n).unwrap();
            assert_eq!(s, n.to_string());
        }
        let long = u64::MAX;
        assert_eq!(Stamp(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(Stamp(long).to_string(), "2554-07-21T23:34:33.709551Z");
        for (ip, port) in [([0; 4], 0), ([127, 0, 0, 1], 80), ([255; 4], 65535)] {
            let raw = Addr::Inet { ip, port }.write();
            let mut s = String::new();
            Line(&mut s).address("", &raw).unwrap();
            assert_eq!(s, alloc::format!("\"{}\"", Address(&raw)));
        }
        let mut s = String::new();
        Line(&mut s).bytes("", b"a\"b\\c\x01").unwrap();
        assert_eq!(s, r#""a\"b\\c\\x01""#);
    }
}
