//! The failures of a run, as the lines of its JSON log tell them.

use bindgate_core::render::{Civil, civil};
use bindgate_core::why::{Cause, Why};
use bindgate_os as sys;

use super::print;
use crate::events::{Decision, Event, Line, Rule};

/// A call that failed.
pub struct Failed {
    /// The line of the log.
    pub line: usize,
    /// When, as the log has it.
    time: String,
    /// `nginx[812] bind tcp 0.0.0.0:80`
    call: String,
    errno: String,
    why: Why,
    /// Where a connect was refused.
    refused: Option<String>,
}

/// The lines so far.
#[derive(Default)]
pub struct Story {
    /// The failures, in the order of the log.
    pub failed: Vec<Failed>,
}

impl Story {
    /// Takes a line. Says which failures it tells something new about: itself, or
    /// earlier ones, by their places.
    pub fn take(&mut self, number: usize, line: &Line) -> Vec<usize> {
        let Event::Decision(d) = &line.event else {
            return Vec::new();
        };
        if let Some(failed) = failure(number, &line.time, d) {
            self.failed.push(failed);
            return vec![self.failed.len() - 1];
        }
        self.came(&line.time, d)
    }

    /// Does a server begin to listen where a connect was refused?
    fn came(&mut self, time: &str, d: &Decision) -> Vec<usize> {
        let is_listen = d.call == "listen" && d.errno.is_none();
        let Some(at) = d.asked.as_deref().filter(|_| is_listen) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (of, failed) in self.failed.iter_mut().enumerate() {
            let to = failed.refused.as_deref();
            if !to.is_some_and(|to| answers(at, to)) {
                continue;
            }
            failed.refused = None;
            let text = format!(
                "not yet: {} listens at {at} since {time}, and the connect came {}",
                who(d),
                failed.time
            );
            failed.why.cause = Cause::NotYet;
            failed.why.details.retain(|known| known != &failed.why.text);
            failed.why.text = text;
            failed.why.mends = vec!["wait until the server listens before the connect".into()];
            all.push(of);
        }
        all
    }
}

impl Failed {
    /// How it is shown: with its number, if it has one.
    pub fn show(&self, out: &mut String, number: Option<usize>) {
        let line = match number {
            Some(n) => format!("{n}. (line {}) ", self.line),
            None => String::new(),
        };
        let call = format!("{line}{} {}", self.time, self.call);
        let mut text = String::new();
        print::explained(&mut text, &call, &self.errno, &self.why);
        *out += &local(&text);
    }
}

/// Would a listener take a connection to this address? Only what is sure.
fn answers(at: &str, to: &str) -> bool {
    let split = |text: &str| {
        text.rsplit_once(':')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let (Some((at, port)), Some((to, wanted))) = (split(at), split(to)) else {
        return at == to;
    };
    port == wanted && (at == to || at == "0.0.0.0" && !to.starts_with('[') || at == "[::]")
}

fn failure(line: usize, time: &str, d: &Decision) -> Option<Failed> {
    let errno = d.errno.clone()?;
    let is_call = matches!(
        d.call.as_str(),
        "bind" | "listen" | "connect" | "sendto" | "sendmsg" | "sendmmsg" | "send"
    );
    let goes_on = ["EINPROGRESS", "EALREADY", "EISCONN", "EINTR", "EAGAIN"];
    let is_send = d.call.starts_with("send") && d.verdict != "deny";
    if !is_call || d.call == "connect" && goes_on.contains(&errno.as_str()) || is_send {
        return None;
    }
    let refused = (d.call == "connect" && errno == "ECONNREFUSED").then(|| d.asked.clone());
    Some(Failed {
        line,
        time: time.to_owned(),
        call: format!("{} {}", who(d), call(d)),
        why: cause(d),
        errno,
        refused: refused.flatten(),
    })
}

/// `nginx[812]`
fn who(d: &Decision) -> String {
    let name = |path: &Option<String>| {
        let path = path.as_deref()?;
        path.rsplit('/').next().map(str::to_owned)
    };
    let script = name(&d.script).map_or(String::new(), |name| format!("({name})"));
    let program = name(&d.program).unwrap_or_else(|| "?".into());
    format!("{program}{script}[{}]", d.pid)
}

/// `bind tcp 0.0.0.0:80 reuseaddr`
fn call(d: &Decision) -> String {
    let family = d.family.as_deref().unwrap_or("");
    let kind = match family {
        "unix" | "vsock" => match d.ty.as_deref() {
            Some("stream") | None => String::new(),
            Some(ty) => format!("{family} {ty} "),
        },
        _ => d
            .protocol
            .as_ref()
            .map_or(String::new(), |p| format!("{p} ")),
    };
    let implicit = if d.implicit { "(implicit bind) " } else { "" };
    let mut text = format!(
        "{} {kind}{implicit}{}",
        d.call,
        d.asked.as_deref().unwrap_or("")
    );
    for option in d.options.iter().flatten() {
        text += &format!(" {option}");
    }
    text
}

/// Why, as far as the log shows it.
fn cause(d: &Decision) -> Why {
    let why = |cause, text: String| Why {
        cause,
        clause: String::new(),
        text,
        details: Vec::new(),
        mends: Vec::new(),
        unseen: Vec::new(),
    };
    if d.verdict == "deny" && !d.observed {
        return match &d.rule {
            Some(rule) => why(Cause::Rule, ruled(rule)),
            None => why(Cause::Rule, "the policy refused it".into()),
        };
    }
    if d.check.as_deref() == Some("bindgate_move") {
        let reason = d
            .reason
            .as_deref()
            .unwrap_or("the redirect could not be done");
        let mut why = why(
            Cause::Rule,
            format!("the redirect could not be done: {reason}"),
        );
        why.details.extend(d.rule.as_ref().map(ruled));
        return why;
    }
    if let Some(known) = &d.why {
        let cause = Cause::ALL.iter().find(|c| c.name() == known.cause);
        let mut why = why(cause.copied().unwrap_or(Cause::Unknown), known.text.clone());
        why.details.clone_from(&known.details);
        why.mends.clone_from(&known.mends);
        why.unseen.clone_from(&known.unseen);
        why.details.extend(known.history.iter().map(tenure));
        return why;
    }
    let mut why = match &d.holder {
        Some(h) => {
            let program = h.program.as_deref().and_then(|p| p.rsplit('/').next());
            let who = match (program, h.pid) {
                (Some(name), Some(pid)) => format!("{name}[{pid}]"),
                (Some(name), None) => name.to_owned(),
                (None, Some(pid)) => format!("process {pid}"),
                (None, None) => "a process without a name".into(),
            };
            let place = h
                .address
                .as_ref()
                .map_or(String::new(), |at| format!(" at {at}"));
            let state = h.state.as_ref().map_or(String::new(), |s| format!(", {s}"));
            let since = h
                .since
                .as_ref()
                .map_or(String::new(), |s| format!(" since {s}"));
            let was = if h.gone { "was " } else { "" };
            why(
                Cause::Held,
                format!("{was}held by {who}{place}{state}{since}"),
            )
        }
        None => {
            let check = d.check.as_deref().unwrap_or("the kernel");
            if d.kernel.is_none() {
                // Of a described host, or of two redirects to one address.
                return why(
                    Cause::Check,
                    format!("the host of the run refused it ({check})"),
                );
            }
            why(
                Cause::Unknown,
                format!("{check} refused it, and the log does not say why"),
            )
        }
    };
    if d.kernel.is_none() {
        return why;
    }
    why.unseen
        .push("what else there is to know, because this log has no `why` at this line".into());
    why
}

fn ruled(rule: &Rule) -> String {
    let number = match rule.number {
        0 => "the default".to_owned(),
        n => format!("rule {n}"),
    };
    let place = match (&rule.file, rule.line) {
        (Some(file), Some(line)) => format!(", {file}:{line}"),
        _ => String::new(),
    };
    format!("{number}{place} refused it: {}", rule.text)
}

fn tenure(t: &crate::events::Tenure) -> String {
    let who = match &t.program {
        Some(name) => format!("{name}[{}]", t.pid),
        None => format!("process {}", t.pid),
    };
    let how = match t.automatic {
        true => format!("{who} had it from bind(0)"),
        false => format!("{who} had it"),
    };
    let end = match &t.closed_by {
        Some(by) => format!(", closed by {by}"),
        None => String::new(),
    };
    format!("{how} since {}, at {}{end}", t.bound, t.address)
}

/// The times of a JSON log as times of day here.
fn local(text: &str) -> String {
    const STAMP: usize = "2026-11-22T12:03:01.123456Z".len();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let (mut out, mut done) = (String::new(), 0);
    for (at, _) in text.match_indices('Z') {
        let from = (at + 1).checked_sub(STAMP).filter(|from| *from >= done);
        let Some((from, ns)) = from.and_then(|from| Some((from, parse(part(from, at + 1))?)))
        else {
            continue;
        };
        let c: Civil = civil(ns, sys::utc_offset((ns / 1_000_000_000) as i64));
        out += part(done, from);
        out += &format!(
            "{:02}:{:02}:{:02}.{:03}",
            c.hour,
            c.minute,
            c.second,
            c.micro / 1000
        );
        done = at + 1;
    }
    out + part(done, text.len())
}

/// Nanoseconds since the epoch of a time in UTC, as [`civil`] undoes it.
fn parse(stamp: &str) -> Option<u64> {
    let b = stamp.as_bytes();
    let marks = [
        (4, b'-'),
        (7, b'-'),
        (10, b'T'),
        (13, b':'),
        (16, b':'),
        (19, b'.'),
        (26, b'Z'),
    ];
    if !marks.iter().all(|(at, mark)| b.get(*at) == Some(mark)) {
        return None;
    }
    let n = |from: usize, to: usize| stamp.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (n(0, 4)?, n(5, 7)?, n(8, 10)?);
    // Years that begin in March, as in `civil`.
    let (y, m) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        3..=12 => (year, month - 3),
        _ => return None,
    };
    let days = (365 * y + y / 4 - y / 100 + y / 400) + (153 * m + 2) / 5 + day.checked_sub(1)?;
    let seconds =
        days.checked_sub(719_468)? * 86_400 + n(11, 13)? * 3600 + n(14, 16)? * 60 + n(17, 19)?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(n(20, 26)? * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_were_written() {
        for stamp in [
            "1970-01-01T00:00:00.000000Z",
            "2026-11-30T22:01:02.123456Z",
            "2024-02-29T23:59:59.999999Z",
        ] {
            let ns = parse(stamp).unwrap();
            let c = civil(ns, 0);
            let again = format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
                c.year, c.month, c.day, c.hour, c.minute, c.second, c.micro
            );
            assert_eq!(again, stamp);
        }
        assert_eq!(parse("0000-00-00T00:00:00.000000Z"), None);
        let text = "x Z 2026-11-30T22:01:02.123456Z, Zz and 2026-11-30T22:01:02.999456Z";
        assert!(local(text).ends_with(":02.999"), "{}", local(text));
        assert!(local(text).starts_with("x Z "), "{}", local(text));
    }

    #[test]
    fn a_listener_answers_for_its_address() {
        assert!(answers("0.0.0.0:80", "127.0.0.1:80"));
        assert!(answers("127.0.0.1:80", "127.0.0.1:80"));
        assert!(!answers("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!answers("127.0.0.2:80", "127.0.0.1:80"));
        assert!(!answers("0.0.0.0:80", "[::1]:80"));
    }
}
