//! A record as one line for people.
//!
//! `12:03:01.123 nginx[812] bind tcp 0.0.0.0:80 → moved to 127.0.0.1:8080  (rule 1, web.policy:3)`

use core::fmt::{self, Display, Write};

use super::holder::HeldBy;
use super::names::{Address, exec_path, family, kind, leased, lost, protocol, reason};
use super::predicted::Difference;
use super::{Context, Detail, Holder, Predicted, Readable, RuleRef, civil, errno};
use crate::addr::{Addr, RawAddr, af};
use crate::reach::Class;
use crate::record::{Call, Check, Identity, RULE_DEFAULT, RULE_NONE, Record, Verdict, flag, stage};
use crate::socket::{BindOptions, SocketType, proto, ty};

/// How a piece of a line looks on a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Faint,
    Good,
    Changed,
    Bad,
}

impl Look {
    const fn codes(self) -> &'static str {
        match self {
            Look::Plain => "",
            Look::Faint => "\x1b[2m",
            Look::Good => "\x1b[32m",
            Look::Changed => "\x1b[33m",
            Look::Bad => "\x1b[31m",
        }
    }
}

/// Writes `value` in its look.
pub(super) fn put(w: &mut dyn Write, colour: bool, look: Look, value: impl Display) -> fmt::Result {
    if colour && look != Look::Plain {
        write!(w, "{}{value}\x1b[0m", look.codes())
    } else {
        write!(w, "{value}")
    }
}

/// Time of day to the millisecond.
pub(super) fn clock(w: &mut dyn Write, time_ns: u64, offset: i32, colour: bool) -> fmt::Result {
    let c = civil(time_ns, offset);
    let (h, m, s, ms) = (c.hour, c.minute, c.second, c.micro / 1000);
    put(
        w,
        colour,
        Look::Faint,
        format_args!("{h:02}:{m:02}:{s:02}.{ms:03}"),
    )
}

/// `EACCES (Permission denied)`
struct Errno(u16);

impl Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match errno(self.0) {
            Some((name, meaning)) => write!(f, "{name} ({meaning})"),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// What people call the socket: `tcp`, `unix stream`, `inet6 raw 58`.
struct Socket(SocketType);

impl Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SocketType {
            domain,
            ty,
            protocol: p,
        } = self.0;
        let known = matches!(
            (ty, p),
            (ty::STREAM, proto::TCP | proto::MPTCP)
                | (
                    ty::DGRAM,
                    proto::UDP | proto::UDPLITE | proto::ICMP | proto::ICMPV6
                )
        );
        match domain {
            af::INET | af::INET6 if known => write!(f, "{}", protocol(domain, p)),
            af::UNIX | af::VSOCK => {
                write!(f, "{}", family(domain))?;
                if ty == ty::STREAM {
                    return Ok(());
                }
                write!(f, " {}", kind(ty))
            }
            af::NETLINK => write!(f, "netlink {}", protocol(domain, p)),
            _ => write!(f, "{} {} {}", family(domain), kind(ty), protocol(domain, p)),
        }
    }
}

/// The last component of a path.
fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

/// Writes `record` as one line, line feed included.
///
/// # Errors
/// If `w` fails.
pub fn text(w: &mut dyn Write, record: &Record, context: &Context<'_>) -> fmt::Result {
    let (r, c) = (record, context);
    clock(w, r.time_ns, c.utc_offset, c.colour)?;
    w.write_char(' ')?;
    match file_name(c.program) {
        [] => w.write_char('?')?,
        name => write!(w, "{}", Readable(name))?,
    }
    if !c.script.is_empty() {
        write!(w, "({})", Readable(file_name(c.script)))?;
    }
    write!(w, "[{}] ", r.pid)?;
    match r.call {
        Call::Fault => fault(w, r, c)?,
        Call::Exec => exec(w, r, c)?,
        _ => {
            asked(w, r)?;
            w.write_str("→ ")?;
            answer(w, r, c)?;
            reasons(w, r, c)?;
        }
    }
    if c.detail == Detail::Verbose {
        put(w, c.colour, Look::Faint, Way(r, c.predicted))?;
    }
    w.write_char('\n')
}

/// `bind tcp 0.0.0.0:80`
fn asked(w: &mut dyn Write, r: &Record) -> fmt::Result {
    let socket = SocketType {
        domain: r.domain,
        ty: r.ty,
        protocol: r.protocol,
    };
    let implicit = r.flags & flag::IMPLICIT != 0;
    let has_address = !r.asked.bytes().is_empty();
    let is_inet = |domain| matches!(domain, af::INET | af::INET6);
    write!(w, "{} ", r.call.name())?;
    match r.call {
        // What is asked for here is the kind of socket: say all of it.
        Call::Socket | Call::Socketpair => {
            let (d, t, p) = (r.domain, r.ty, r.protocol);
            write!(w, "{} {} ", family(d), kind(t))?;
            let default = matches!(
                (d, t, p),
                (af::UNIX | af::VSOCK, _, 0)
                    | (af::INET | af::INET6, ty::STREAM, proto::TCP)
                    | (af::INET | af::INET6, ty::DGRAM, proto::UDP)
            );
            if default {
                return Ok(());
            }
            return write!(w, "{} ", protocol(d, p));
        }
        // Addresses of other families begin with the family's name.
        _ if r.ty == ty::STREAM && !is_inet(r.domain) && has_address && !implicit => {}
        _ if r.ty != 0 => write!(w, "{} ", Socket(socket))?,
        _ => write!(w, "fd {} ", r.fd)?,
    }
    if implicit {
        w.write_str("(implicit bind) ")?;
    }
    if has_address {
        write!(w, "{} ", Address(&r.asked))?;
    }
    options(w, r)
}

/// `v6only reuseaddr `: the options that the socket had before a bind. An IPv6
/// socket at `::` that receives IPv4 too is `dual-stack`.
fn options(w: &mut dyn Write, r: &Record) -> fmt::Result {
    let is_bind = r.call == Call::Bind || r.flags & flag::IMPLICIT != 0;
    if !is_bind || r.options.has(BindOptions::UNKNOWN) {
        return Ok(());
    }
    let v6only = r.options.has(BindOptions::V6ONLY);
    if let (af::INET6, false, Some(Addr::Inet6 { ip, .. })) = (r.domain, v6only, r.asked.read())
        && ip == [0; 16]
    {
        w.write_str("dual-stack ")?;
    }
    for (name, _) in BindOptions::NAMES
        .iter()
        .filter(|(_, bit)| r.options.has(*bit))
    {
        write!(w, "{name} ")?;
    }
    Ok(())
}

/// What came of it, for the program.
fn answer(w: &mut dyn Write, r: &Record, c: &Context<'_>) -> fmt::Result {
    if r.flags & flag::OBSERVED != 0 {
        plain_answer(w, r, c)?;
        let would = match r.verdict {
            Verdict::Deny => "would be refused",
            Verdict::Move => "would be moved",
            Verdict::Hide => "would be hidden",
            Verdict::Allow | Verdict::Passed => return Ok(()),
        };
        w.write_str(", ")?;
        return put(w, c.colour, Look::Changed, would);
    }
    let (look, word, to) = match r.verdict {
        Verdict::Allow => return plain_answer(w, r, c),
        Verdict::Deny => {
            put(w, c.colour, Look::Bad, "refused")?;
            return write!(w, ": {}", Errno(r.errno));
        }
        Verdict::Move => (Look::Changed, "moved", " to "),
        Verdict::Hide => (Look::Changed, "hidden", " at "),
        Verdict::Passed => (Look::Bad, "passed on as asked", ", used "),
    };
    put(w, c.colour, look, word)?;
    if !r.used.bytes().is_empty() {
        write!(w, "{to}{}", Address(&r.used))?;
    }
    if r.flags & flag::ON_LO != 0 {
        w.write_str(" on lo")?;
    }
    if is_under_way(r) {
        return put(w, c.colour, Look::Changed, ", in progress");
    }
    if r.errno != 0 {
        w.write_str(", ")?;
        put(w, c.colour, Look::Bad, "failed")?;
        write!(w, ": {}", Errno(r.errno))?;
    }
    Ok(())
}

/// A connect() that does not wait has not failed.
fn is_under_way(r: &Record) -> bool {
    const EINPROGRESS: u16 = 115;
    r.call == Call::Connect && r.errno == EINPROGRESS
}

fn plain_answer(w: &mut dyn Write, r: &Record, c: &Context<'_>) -> fmt::Result {
    match r.errno {
        0 => put(w, c.colour, Look::Good, "ok")?,
        _ if is_under_way(r) => put(w, c.colour, Look::Good, "in progress")?,
        n => {
            put(w, c.colour, Look::Bad, "failed")?;
            return write!(w, ": {}", Errno(n));
        }
    }
    if matches!(r.call, Call::Socket) && !r.used.bytes().is_empty() {
        return w.write_str(", made as a Unix socket");
    }
    let elsewhere = !r.used.bytes().is_empty() && r.used.read() != r.asked.read();
    if elsewhere && r.flags & flag::IN_BLOCK != 0 {
        write!(w, ", at {}", Address(&r.used))?;
    } else if elsewhere {
        write!(w, ", got {}", Address(&r.used))?;
    }
    Ok(())
}

/// `(rule 1, web.policy:3)`, and the check where it explains a failure.
fn reasons(w: &mut dyn Write, r: &Record, c: &Context<'_>) -> fmt::Result {
    let mut list = List {
        w,
        colour: c.colour,
        open: false,
    };
    rules(&mut list, r, c)?;
    let by_cookie = Holder::of_cookie(r.holder);
    if let Some(holder) = c.holder.or((r.holder != 0).then_some(&by_cookie)) {
        list.add(HeldBy {
            holder,
            utc_offset: c.utc_offset,
            now_ns: r.time_ns,
        })?;
    }
    if let Some(why) = c.why.filter(|why| !why.clause.is_empty()) {
        list.add(Readable(why.clause.as_bytes()))?;
    }
    let by_policy = matches!(
        r.check,
        Check::None
            | Check::SecuritySocketCreate
            | Check::SecuritySocketBind
            | Check::SecuritySocketListen
            | Check::SecuritySocketConnect
            | Check::SecuritySocketSendmsg
    );
    if !by_policy && r.errno != 0 && !is_under_way(r) {
        let inferred = if r.flags & flag::INFERRED == 0 {
            ""
        } else {
            ", inferred"
        };
        list.add(format_args!("{}{inferred}", r.check_name()))?;
    }
    if let Some(reason) = reason(r).or_else(|| lost(r)).or_else(|| leased(r)) {
        list.add(reason)?;
    }
    if let Some(predicted) = c.predicted.as_ref().filter(|p| p.differs) {
        let kernel = match (r.kernel, errno(r.kernel)) {
            (0, _) => "ok",
            (_, Some((name, _))) => name,
            (_, None) => "an error",
        };
        list.add(Difference { predicted, kernel })?;
    }
    list.end()
}

/// Has the host that the policy describes decided?
fn is_by_host(r: &Record) -> bool {
    let is_moved = r.verdict == Verdict::Move && matches!(r.rule, RULE_NONE | RULE_DEFAULT);
    r.check == Check::Host || is_moved && r.stages & stage::MODEL != 0
}

/// The rule that decided, and the one that noted it.
fn rules(list: &mut List<'_>, r: &Record, c: &Context<'_>) -> fmt::Result {
    match c.rule {
        _ if is_by_host(r) => list.add("described host")?,
        // That nothing was against it needs no words.
        Some(rule) if rule.number == 0 && r.verdict == Verdict::Allow => {}
        Some(rule) => list.add(Rule("", rule))?,
        None if r.rule == RULE_DEFAULT && r.verdict != Verdict::Allow => list.add("default")?,
        None => {}
    }
    if let Some(note) = c.note {
        list.add(Rule("noted by ", note))?;
    }
    Ok(())
}

/// `  (a, b, c)`, or nothing.
struct List<'w> {
    w: &'w mut dyn Write,
    colour: bool,
    open: bool,
}

impl List<'_> {
    fn add(&mut self, value: impl Display) -> fmt::Result {
        let before = match (self.open, self.colour) {
            (true, _) => ", ",
            (false, true) => "  \x1b[2m(",
            (false, false) => "  (",
        };
        self.open = true;
        write!(self.w, "{before}{value}")
    }

    fn end(self) -> fmt::Result {
        match (self.open, self.colour) {
            (false, _) => Ok(()),
            (true, true) => self.w.write_str(")\x1b[0m"),
            (true, false) => self.w.write_char(')'),
        }
    }
}

/// `rule 1, web.policy:3`, or `default deny EACCES, web.policy:9`.
pub(super) struct Rule<'a>(pub &'static str, pub RuleRef<'a>);

impl Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        match self.1.number {
            0 => write!(f, "{}", self.1.text)?,
            n => write!(f, "rule {n}")?,
        }
        match self.1.place {
            Some((file, line)) => write!(f, ", {}:{line}", Readable(file)),
            None => Ok(()),
        }
    }
}

fn fault(w: &mut dyn Write, r: &Record, c: &Context<'_>) -> fmt::Result {
    put(w, c.colour, Look::Bad, "fault in bindgate")?;
    let call = reason(r).unwrap_or("a call");
    write!(w, ": {call} went on as asked; please report this")
}

fn exec(w: &mut dyn Write, r: &Record, c: &Context<'_>) -> fmt::Result {
    w.write_str("exec ")?;
    if let Some(path) = exec_path(&r.asked) {
        write!(w, "{path} ")?;
    }
    w.write_str("→ ")?;
    let is_unseen = r.flags & flag::UNSEEN != 0;
    if r.verdict == Verdict::Allow && is_unseen {
        put(w, c.colour, Look::Changed, "not intercepted")?;
    } else {
        let used = RawAddr::EMPTY;
        answer(w, &Record { used, ..*r }, c)?;
    }
    let mut list = List {
        w,
        colour: c.colour,
        open: false,
    };
    rules(&mut list, r, c)?;
    let class = Class::from_u16(r.reason).filter(|_| is_unseen);
    match (class, exec_path(&r.used)) {
        (Some(class), Some(file)) => list.add(format_args!("{file} {}", class.why()))?,
        (Some(class), None) => list.add(format_args!("the program {}", class.why()))?,
        (None, Some(file)) => list.add(file)?,
        (None, None) if is_unseen => list.add(format_args!("class {}", r.reason))?,
        (None, None) => {}
    }
    list.end()
}

/// The way through the house, for `-v`.
struct Way<'a>(&'a Record, Option<Predicted>);

impl Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.0;
        f.write_str("  [")?;
        let mut gap = "";
        for (_, name) in stage::NAMES.iter().filter(|(bit, _)| r.stages & bit != 0) {
            write!(f, "{gap}{name}")?;
            gap = " ";
        }
        if r.check != Check::None {
            write!(f, "; check {}", r.check_name())?;
            if r.flags & flag::INFERRED != 0 {
                f.write_str(" inferred")?;
            }
        }
        if r.fd >= 0 {
            write!(f, "; fd {}", r.fd)?;
        }
        match (r.identity, r.cookie) {
            (Identity::None, _) => {}
            (identity, 0) => write!(f, "; identity {}", identity.name())?,
            (identity, cookie) => write!(f, "; {} {cookie}", identity.name())?,
        }
        if r.flags & flag::FORWARDED != 0 {
            match (r.kernel, errno(r.kernel)) {
                (0, _) => f.write_str("; kernel ok")?,
                (_, Some((name, _))) => write!(f, "; kernel {name}")?,
                (n, None) => write!(f, "; kernel {n}")?,
            }
        }
        match self.1 {
            None => {}
            Some(p) => {
                write!(f, "; predicted {}", p.answer.name())?;
                match (p.step, p.why) {
                    (Some(step), None) => write!(f, " by {}", step.function())?,
                    (_, Some(why)) if !p.differs => write!(f, " ({why})")?,
                    _ => {}
                }
            }
        }
        if r.tid != r.pid {
            write!(f, "; thread {}", r.tid)?;
        }
        if r.uid != u32::MAX {
            write!(f, "; uid {}", r.uid)?;
        }
        for (bit, name) in [
            (flag::RAW_SYSCALL, "raw syscall"),
            (flag::SECCOMP, "under seccomp"),
        ] {
            if r.flags & bit != 0 {
                write!(f, "; {name}")?;
            }
        }
        f.write_str("]")
    }
}
