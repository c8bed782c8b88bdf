//! Matching: what a compiled policy says about one call.
//!
//! This runs inside the host process, in signal handlers and in the child of
//! a vfork. It reads words that may have been mapped from elsewhere, so each
//! access is checked against its section and each loop ends with it.

use core::cell::Cell;
use core::sync::atomic::AtomicU8;

use super::find::{Key, Next};
use super::layout::{
    BIND_PORTS, CONDITION, LayoutError, MAGIC, MAX_RULES, RULE, VERSION, condition_flag, entry,
    flag, header, rule_flag, section, verb,
};
use super::target::{TARGET, Target};
use super::{Implicit, Mode, Op, Verb, conditions, errno, glob};
use crate::addr::Addr;
use crate::socket::KindSet;

/// What a program asks.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The operation.
    pub op: Op,
    /// What the socket is called.
    pub kinds: KindSet,
    /// The address: asked for (bind), bound (listen) or called (connect).
    pub addr: Option<&'a Addr>,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// Whether the kernel, and not the program, asks for the bind.
    pub implicit: Implicit,
    /// `net.ipv4.ip_unprivileged_port_start`
    pub unprivileged_start: u16,
    /// The executable's path.
    pub program: &'a [u8],
    /// The path of the script behind `#!`, or nothing.
    pub script: &'a [u8],
    /// The user; a rule for a user does not match where it is unknown.
    pub uid: Option<u32>,
}

impl Default for Query<'_> {
    fn default() -> Self {
        Query {
            op: Op::Bind,
            kinds: KindSet::NONE,
            addr: None,
            v6only: false,
            implicit: Implicit::No,
            unprivileged_start: 1024,
            program: &[],
            script: &[],
            uid: None,
        }
    }
}

/// The counters of `times`, which a run's processes share.
pub trait Times {
    /// Takes one of `limit` uses of `counter`; false if they are used up.
    fn take(&self, counter: u32, limit: u32) -> bool;
}

/// What a policy says about one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// What is to be done.
    pub verb: Verb,
    /// The error number of a refusal, or 0.
    pub errno: u16,
    /// The rule that decided.
    pub rule: Option<u32>,
    /// The first `note` rule that matched before it.
    pub note: Option<u32>,
    /// The real address of a move.
    pub target: Option<Addr>,
    /// No rule decided.
    pub by_default: bool,
}

impl Decision {
    /// No rule had a say, and the default lets it pass.
    pub const BY_DEFAULT: Decision = Decision {
        verb: Verb::Allow,
        errno: 0,
        rule: None,
        note: None,
        target: None,
        by_default: true,
    };
}

/// A compiled policy, ready to be asked.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    words: &'a [u64],
    sections: [&'a [u64]; section::COUNT],
    strings: &'a [u8],
    cache: &'a [AtomicU8],
}

pub(super) fn upper(w: u64) -> u32 {
    (w >> 32) as u32
}

pub(super) fn at(words: &[u64], i: usize) -> u64 {
    words.get(i).copied().unwrap_or(0)
}

/// A part of a slice, by a word that holds offset << 32 | length.
pub(super) fn part<T>(of: &[T], place: u64) -> &[T] {
    let from = upper(place) as usize;
    let len = place as u32 as usize;
    of.get(from..)
        .and_then(|rest| rest.get(..len))
        .unwrap_or(&[])
}

impl<'a> View<'a> {
    /// Bytes that [`View::conditions`] never exceeds, for whoever has no heap
    /// to ask for some: nine kilobytes of zeros that a process without `for`
    /// rules never touches.
    pub const MAX_CONDITIONS: usize = conditions::bytes(MAX_RULES as u32) as usize;

    /// The words that it reads.
    #[must_use]
    pub fn words(&self) -> &'a [u64] {
        self.words
    }

    /// Checks the header and the bounds of the sections.
    ///
    /// # Errors
    /// If the words are not a policy that this version compiled.
    pub fn new(words: &'a [u64]) -> Result<View<'a>, LayoutError> {
        if words.len() < header::WORDS {
            return Err(LayoutError::TooShort);
        }
        if at(words, header::MAGIC) != MAGIC {
            return Err(LayoutError::Magic);
        }
        let version = at(words, header::VERSION);
        if upper(version) != VERSION {
            return Err(LayoutError::Version);
        }
        let len = version as u32 as usize;
        let words = words.get(..len).ok_or(LayoutError::Length)?;
        let mut sections: [&[u64]; section::COUNT] = [&[]; section::COUNT];
        for (i, s) in sections.iter_mut().enumerate() {
            let place = at(words, header::SECTIONS + i);
            *s = part(words, place);
            if s.len() != place as u32 as usize {
                return Err(LayoutError::Length);
            }
        }
        let strings = sections[section::STRINGS];
        Ok(View {
            words,
            sections,
            strings: bytemuck::try_cast_slice(strings).unwrap_or(&[]),
            cache: &[],
        })
    }

    /// The same policy with a memory of which `for` globs the program
    /// matches: [`View::conditions`] bytes, all zero at first. It belongs to
    /// one program and one script; a process that executes another program
    /// needs a new one. A shorter one is not used. Without one each call tries
    /// the globs again, which for ten thousand takes 100 to 200 µs.
    #[must_use]
    pub fn with_cache(mut self, cache: &'a [AtomicU8]) -> View<'a> {
        if cache.len() >= self.conditions() as usize {
            self.cache = cache;
        }
        self
    }

    /// Bytes of the memory for [`View::with_cache`]; 0 if there is no `for`.
    #[must_use]
    pub fn conditions(&self) -> u32 {
        conditions::bytes(self.condition_count())
    }

    pub(super) fn section(&self, which: usize) -> &'a [u64] {
        self.sections.get(which).copied().unwrap_or(&[])
    }

    fn header(&self, i: usize) -> u64 {
        at(self.words, i)
    }

    fn has(&self, flag: u64, op: Op) -> bool {
        self.header(header::FLAGS) & (flag << op.index()) != 0
    }

    /// Is the policy carried out? Without a `mode` line it is, if any rule or
    /// default can refuse or change something.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.header(header::FLAGS) & flag::OBSERVE != 0 {
            Mode::Observe
        } else {
            Mode::Enforce
        }
    }

    /// Is the mode `enforce`?
    #[must_use]
    pub fn is_enforcing(&self) -> bool {
        self.mode() == Mode::Enforce
    }

    /// Is there a rule for this operation, or a default that refuses it?
    #[must_use]
    pub fn has_rules(&self, op: Op) -> bool {
        self.has(flag::HAS_RULES, op)
    }

    /// Does any bind rule say `implicit`?
    #[must_use]
    pub fn has_implicit_rules(&self) -> bool {
        self.header(header::FLAGS) & flag::IMPLICIT != 0
    }

    /// Does any rule for this operation say `user`?
    #[must_use]
    pub fn needs_user(&self, op: Op) -> bool {
        self.has(flag::NEEDS_USER, op)
    }

    /// Does any rule for this operation say `for`?
    #[must_use]
    pub fn needs_program(&self, op: Op) -> bool {
        self.has(flag::NEEDS_PROGRAM, op)
    }

    /// How many `times` counters the rules use.
    #[must_use]
    pub fn counters(&self) -> u32 {
        self.header(header::COUNTS) as u32
    }

    /// How many rules there are.
    #[must_use]
    pub fn rules(&self) -> u32 {
        (self.section(section::RULES).len() / RULE) as u32
    }

    pub(super) fn rule_word(&self, rule: u32, i: usize) -> u64 {
        let (rules, _) = self.section(section::RULES).as_chunks::<RULE>();
        let words = rules.get(rule as usize);
        words.and_then(|w| w.get(i)).copied().unwrap_or(0)
    }

    fn string(&self, place: u64) -> &'a [u8] {
        part(self.strings, place)
    }

    /// The source of a rule: its name, the line in it, and which rule of the
    /// whole policy it is, counted from 1.
    #[must_use]
    pub fn rule_source(&self, rule: u32) -> Option<(&'a [u8], u32, u32)> {
        if rule >= self.rules() {
            return None;
        }
        let source = upper(self.rule_word(rule, 4));
        let name = *self.section(section::SOURCES).get(source as usize)?;
        let line = self.rule_word(rule, 5) as u32;
        Some((self.string(name), line, rule + 1))
    }

    /// A rule as text.
    #[must_use]
    pub fn rule_text(&self, rule: u32) -> Option<&'a [u8]> {
        (rule < self.rules()).then(|| self.string(self.rule_word(rule, 7)))
    }

    /// Where the `default` line for an operation stands: source and line.
    #[must_use]
    pub fn default_source(&self, op: Op) -> Option<(&'a [u8], u32)> {
        let word = self.header(header::DEFAULTS + 2 * op.index());
        if word & 1 << 16 == 0 {
            return None;
        }
        let name = *self.section(section::SOURCES).get(upper(word) as usize)?;
        let line = self.header(header::DEFAULTS + 2 * op.index() + 1) as u32;
        Some((self.string(name), line))
    }

    /// The error number that the default refuses an operation with.
    #[must_use]
    pub fn default_errno(&self, op: Op) -> Option<u16> {
        match self.header(header::DEFAULTS + 2 * op.index()) as u16 {
            0 => None,
            e => Some(e),
        }
    }

    /// Could any rule decide or note this address, whatever the socket, the
    /// user and the options are? If not, the default applies without asking
    /// the kernel who the socket is.
    #[must_use]
    pub fn may_match(&self, op: Op, addr: &Addr) -> bool {
        if !self.has_rules(op) {
            return false;
        }
        let maybe = |v6only| {
            // Where the unprivileged ports start is not known here.
            let key = Key::of(Some(addr), v6only, u16::MAX);
            let limit = Cell::new(u32::MAX);
            self.candidates(op, &key, None, &limit, &mut |e, check_ports| {
                let rule = upper(e);
                if (check_ports && !self.has_port(rule, &key))
                    || (e & entry::PLAIN == 0 && !self.may_be(rule, &key))
                {
                    return Next::More;
                }
                limit.set(0);
                Next::Enough
            });
            limit.get() == 0
        };
        maybe(false) || (addr.is_wildcard() && maybe(true))
    }

    /// One bit for each IP port that a bind rule might match, whatever the
    /// address, bit 0 for a port of the kernel's choice: a quick "no" before
    /// [`View::may_match`]. `None` if every bind has to be looked at, or if
    /// there are no bind rules.
    #[must_use]
    pub fn bind_ports(&self) -> Option<&'a [u64; BIND_PORTS]> {
        match self.default_errno(Op::Bind) {
            Some(_) => None,
            None => self.section(section::BIND_PORTS).try_into().ok(),
        }
    }

    /// What the policy says.
    #[must_use]
    pub fn decide(&self, q: &Query<'_>, times: &(impl Times + ?Sized)) -> Decision {
        let key = Key::of(
            if q.op == Op::Socket { None } else { q.addr },
            q.v6only,
            q.unprivileged_start,
        );
        let (mut rule, mut note) = (None, None);
        if self.has_rules(q.op) {
            // A rule whose uses are used up is passed over. Both loops go
            // forward through the rules, so they end.
            let mut from = 0;
            let mut found = self.first(q, &key, from, 0);
            while let Some(r) = found.0 {
                if self.takes(r, times) {
                    rule = Some(r);
                    break;
                }
                from = r.saturating_add(1);
                found = self.first(q, &key, from, 0);
            }
            note = found.1;
            while let Some(n) = note {
                if self.takes(n, times) {
                    break;
                }
                note = self.first(q, &key, from, n.saturating_add(1)).1;
            }
        }
        let mut d = Decision {
            verb: Verb::Allow,
            errno: 0,
            rule,
            note,
            target: None,
            by_default: rule.is_none(),
        };
        let Some(rule) = rule else {
            // A bind on the way of connect() is nobody's wish: a default
            // that refused it would refuse every client.
            if q.implicit != Implicit::Connect
                && let Some(e) = self.default_errno(q.op)
            {
                d.verb = Verb::Deny;
                d.errno = e;
            }
            return d;
        };
        let word = self.rule_word(rule, 0);
        match word as u8 {
            verb::DENY => {
                d.verb = Verb::Deny;
                d.errno = (word >> 16) as u16;
            }
            verb::HIDE => d.verb = Verb::Hide,
            verb::MOVE => {
                let target = self.target(rule);
                d.target = q.addr.and_then(|a| target?.place(a, q.kinds));
                if d.target.is_some() {
                    d.verb = Verb::Move;
                } else {
                    // Nowhere to go: better refused than placed elsewhere.
                    d.verb = Verb::Deny;
                    d.errno = errno::EADDRNOTAVAIL;
                }
            }
            _ => {}
        }
        d
    }

    fn takes(&self, rule: u32, times: &(impl Times + ?Sized)) -> bool {
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        if flags & rule_flag::TIMES == 0 {
            return true;
        }
        let word = self.rule_word(rule, 2);
        times.take(upper(word), word as u32)
    }

    /// The first rule that decides, from `from` on, and the first note
    /// before it, from `notes_from` on.
    fn first(
        &self,
        q: &Query<'_>,
        key: &Key,
        from: u32,
        notes_from: u32,
    ) -> (Option<u32>, Option<u32>) {
        let rule = Cell::new(u32::MAX);
        let mut note = u32::MAX;
        let kinds = u64::from(q.kinds.0);
        self.candidates(q.op, key, Some(q), &rule, &mut |e, check_ports| {
            let id = upper(e);
            if id >= rule.get() {
                return Next::Enough;
            }
            let is_note = e & entry::NOTE != 0;
            if id < (if is_note { notes_from } else { from })
                || (is_note && id >= note)
                || (e & entry::ANY_KIND == 0 && e & kinds == 0)
                || (q.implicit == Implicit::Connect && e & entry::IMPLICIT == 0)
                || (check_ports && !self.has_port(id, key))
                || (e & entry::PLAIN == 0 && !self.holds(id, key, q))
            {
                return Next::More;
            }
            if is_note {
                note = id;
                return Next::More;
            }
            rule.set(id);
            Next::Enough
        });
        let some = |id: u32| (id != u32::MAX).then_some(id);
        (some(rule.get()), some(note).filter(|&n| n < rule.get()))
    }

    /// Is the Unix name one that the rule means?
    fn has_name(&self, rule: u32, flags: u8, key: &Key) -> bool {
        if flags & rule_flag::PATTERN == 0 {
            return true;
        }
        let pattern = self.string(self.rule_word(rule, 3));
        let name = key.name.as_ref().map_or(&[][..], |name| name.bytes());
        if flags & rule_flag::LITERAL != 0 {
            name == pattern
        } else {
            glob::matches(pattern, name)
        }
    }

    /// Everything that the lists do not say.
    fn holds(&self, rule: u32, key: &Key, q: &Query<'_>) -> bool {
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        let word = self.rule_word(rule, 1);
        (flags & rule_flag::USER == 0 || q.uid == Some(word as u32))
            && self.has_name(rule, flags, key)
            && match upper(word).checked_sub(1) {
                Some(c) => self.condition(c, q),
                None => true,
            }
    }

    /// As [`View::holds`], while the socket and its program are unknown.
    fn may_be(&self, rule: u32, key: &Key) -> bool {
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        self.has_name(rule, flags, key)
            && match upper(self.rule_word(rule, 1)).checked_sub(1) {
                Some(c) => conditions::recall(self.cache, self.condition_count(), c) != Some(false),
                None => true,
            }
    }

    fn condition_count(&self) -> u32 {
        (self.section(section::CONDITIONS).len() / CONDITION) as u32
    }

    /// Does the program match a `for` glob?
    fn condition(&self, c: u32, q: &Query<'_>) -> bool {
        let n = self.condition_count();
        conditions::fill(self.cache, n, |c| self.evaluate(c, q));
        match conditions::recall(self.cache, n, c) {
            Some(known) => known,
            None => self.evaluate(c, q),
        }
    }

    /// Calls `f` with each condition that the program meets.
    pub(super) fn each_condition(&self, q: &Query<'_>, f: &mut impl FnMut(u32)) {
        let n = self.condition_count();
        conditions::fill(self.cache, n, |c| self.evaluate(c, q));
        if !conditions::each(self.cache, n, f) {
            (0..n).filter(|&c| self.evaluate(c, q)).for_each(f);
        }
    }

    /// As [`View::each_condition`], as far as the process remembers. False if
    /// it remembers nothing.
    pub(super) fn each_known_condition(&self, f: &mut impl FnMut(u32)) -> bool {
        conditions::each(self.cache, self.condition_count(), f)
    }

    fn evaluate(&self, c: u32, q: &Query<'_>) -> bool {
        let (all, _) = self.section(section::CONDITIONS).as_chunks::<CONDITION>();
        let &[flags, pattern] = all.get(c as usize).unwrap_or(&[0, 0]);
        let pattern = self.string(pattern);
        let mut path = if flags & condition_flag::SCRIPT != 0 {
            q.script
        } else {
            q.program
        };
        if path.is_empty() || pattern.is_empty() {
            return false;
        }
        if flags & condition_flag::NAME_ONLY != 0 {
            path = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        }
        glob::matches(pattern, path)
    }

    fn target(&self, rule: u32) -> Option<Target<'a>> {
        let i = self.rule_word(rule, 4) as u32 as usize;
        let words = self.section(section::TARGETS).get(i..)?.get(..TARGET)?;
        let &[how, number, hi, lo] = words else {
            return None;
        };
        Some(Target {
            host: how & 0xff,
            port: how >> 8 & 0xff,
            number: number as i64,
            hi,
            lo,
            template: self.string(hi),
        })
    }
}
