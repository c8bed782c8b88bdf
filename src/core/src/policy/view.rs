//! Matching: what a compiled policy says about one call.
//!
//! This runs inside the host process, in signal handlers and in the child of
//! a vfork. It reads words that may have been mapped from elsewhere, so each
//! access is checked against its section and each loop ends with it.

use core::sync::atomic::AtomicU8;

use super::layout::{
    CONDITION, Class, LayoutError, MAGIC, RESERVED_PORTS, RESERVED_TUPLE, RULE, SLOT, VERSION,
    VSOCK_UNPRIVILEGED, WHOLE, cell_flag, condition_flag, cut, entry, flag, hash_bytes, hash_key,
    header, rule_flag, section, verb,
};
use super::target::{TARGET, Target, tidy};
use super::{Implicit, Mode, Op, Verb, conditions, errno, glob};
use crate::addr::{Addr, UnixKind, UnixName};
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

/// A compiled policy, ready to be asked.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    words: &'a [u64],
    sections: [&'a [u64]; section::COUNT],
    strings: &'a [u8],
    cache: &'a [AtomicU8],
}

fn upper(w: u64) -> u32 {
    (w >> 32) as u32
}

fn at(words: &[u64], i: usize) -> u64 {
    words.get(i).copied().unwrap_or(0)
}

/// A part of a slice, by a word that holds offset << 32 | length.
fn part<T>(of: &[T], place: u64) -> &[T] {
    let from = upper(place) as usize;
    let len = place as u32 as usize;
    of.get(from..)
        .and_then(|rest| rest.get(..len))
        .unwrap_or(&[])
}

impl<'a> View<'a> {
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
        let [.., strings] = sections;
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
    /// needs a new one. A shorter one is not used.
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

    fn section(&self, which: usize) -> &'a [u64] {
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

    fn rule_word(&self, rule: u32, i: usize) -> u64 {
        at(self.section(section::RULES), rule as usize * RULE + i)
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
            let mut found = false;
            let key = Key::of(Some(addr), v6only, 1024);
            self.lists(op, &key, None, u32::MAX, &mut |e, check_ports| {
                let rule = upper(e);
                found |= (!check_ports || self.has_port(rule, &key))
                    && (e & entry::PLAIN != 0 || self.may_be(rule, &key));
                found
            });
            found
        };
        maybe(false) || (addr.is_wildcard() && maybe(true))
    }

    /// What the policy says.
    #[must_use]
    pub fn decide(&self, q: &Query<'_>, times: &dyn Times) -> Decision {
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

    fn takes(&self, rule: u32, times: &dyn Times) -> bool {
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
        let (mut rule, mut note) = (u32::MAX, u32::MAX);
        let kinds = u64::from(q.kinds.0);
        let mut visit = |e: u64, check_ports: bool| {
            let id = upper(e);
            if id >= rule {
                return true;
            }
            let is_note = e & entry::NOTE != 0;
            if id < if is_note { notes_from } else { from } || (is_note && id >= note) {
                return false;
            }
            let ok = (e & entry::ANY_KIND != 0 || e & kinds != 0)
                && (q.implicit != Implicit::Connect || e & entry::IMPLICIT != 0)
                && (!check_ports || self.has_port(id, key))
                && (e & entry::PLAIN != 0 || self.holds(id, key, q));
            if ok && is_note {
                note = id;
            } else if ok {
                rule = id;
            }
            ok && !is_note
        };
        let last = self.rules();
        self.lists(q.op, key, Some(q), last, &mut visit);
        let some = |id: u32| (id != u32::MAX).then_some(id);
        (some(rule), some(note).filter(|&n| n < rule))
    }

    /// Shows `visit` the lists of rules whose address and port fit, each in
    /// order, until it says that it has enough of one.
    fn lists(
        &self,
        op: Op,
        key: &Key,
        q: Option<&Query<'_>>,
        _last: u32,
        visit: &mut dyn FnMut(u64, bool) -> bool,
    ) {
        let place = op.index() * Class::COUNT + key.class as usize;
        let place = at(self.section(section::DIRECTORY), place);
        let tuples = part(self.section(section::TUPLES), place);
        let mut done = false;
        for (number, &tuple) in (u64::from(upper(place))..).zip(tuples) {
            if tuple & RESERVED_TUPLE != 0 && !key.reserved {
                continue;
            }
            let Some((hi, lo)) = key.cut(tuple as u8) else {
                continue;
            };
            let Some(cell) = self.cell(number << 32, hi, lo) else {
                continue;
            };
            done |= self.segment(cell, key, visit);
            if cell & cell_flag::BUCKETS != 0 {
                match q {
                    Some(q) => self.each_condition(q, &mut |c| {
                        let w = number << 32 | u64::from(c.saturating_add(1));
                        if let Some(cell) = self.cell(w, hi, lo) {
                            self.segment(cell, key, visit);
                        }
                    }),
                    // Whether one of them holds is not known here; an entry
                    // that fits anything says so.
                    None => done |= visit(entry::PLAIN, false),
                }
            }
        }
        let _ = done;
    }

    /// Shows one cell's list for the port. True if `visit` had enough.
    fn segment(&self, cell: u64, key: &Key, visit: &mut dyn FnMut(u64, bool) -> bool) -> bool {
        let place = u64::from(upper(cell)) << 32 | cell & cell_flag::COUNT;
        let segments = part(self.section(section::SEGMENTS), place);
        let check_ports = cell & cell_flag::CHECK_PORTS != 0;
        let i = if segments.len() > 1 {
            segments.partition_point(|&s| upper(s) <= key.port)
        } else {
            segments.len()
        };
        let Some(&segment) = i.checked_sub(1).and_then(|i| segments.get(i)) else {
            return false;
        };
        self.list(segment as u32)
            .iter()
            .any(|&e| visit(e, check_ports))
    }

    /// Looks a key up in the hash table.
    fn cell(&self, w: u64, hi: u64, lo: u64) -> Option<u64> {
        let slots = self.section(section::SLOTS);
        let (slots, _) = slots.as_chunks::<SLOT>();
        let mask = slots.len().wrapping_sub(1);
        let mut i = hash_key(w, hi, lo) as usize;
        for _ in 0..slots.len() {
            let &[sw, shi, slo, cell] = slots.get(i & mask)?;
            if cell == 0 {
                return None;
            }
            if (sw, shi, slo) == (w, hi, lo) {
                let cell = usize::try_from(cell - 1).ok()?;
                return self.section(section::CELLS).get(cell).copied();
            }
            i = i.wrapping_add(1);
        }
        None
    }

    /// Do the ports of the rule hold the key's?
    fn has_port(&self, rule: u32, key: &Key) -> bool {
        let lists = self.rule_word(rule, 6);
        let list = match key.class {
            Class::Vsock | Class::VsockWild => upper(lists),
            _ => lists as u32,
        };
        self.list(list).iter().any(|&r| {
            if r == RESERVED_PORTS {
                key.reserved
            } else {
                (upper(r)..=r as u32).contains(&key.port)
            }
        })
    }

    /// A list by its offset: its length, then its members.
    fn list(&self, from: u32) -> &'a [u64] {
        let lists = self.section(section::LISTS);
        let len = at(lists, from as usize) as u32;
        part(lists, (u64::from(from) + 1) << 32 | u64::from(len))
    }

    /// Is the Unix name one that the rule means?
    fn has_name(&self, rule: u32, flags: u8, key: &Key) -> bool {
        if flags & rule_flag::PATTERN == 0 {
            return true;
        }
        let pattern = self.string(self.rule_word(rule, 3));
        let name = key.name.bytes();
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

    fn each_condition(&self, q: &Query<'_>, f: &mut dyn FnMut(u32)) {
        let n = self.condition_count();
        conditions::fill(self.cache, n, |c| self.evaluate(c, q));
        if !conditions::each(self.cache, n, f) {
            (0..n).filter(|&c| self.evaluate(c, q)).for_each(f);
        }
    }

    fn evaluate(&self, c: u32, q: &Query<'_>) -> bool {
        let i = c as usize * CONDITION;
        let words = self.section(section::CONDITIONS);
        let flags = at(words, i);
        let pattern = self.string(at(words, i + 1));
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

/// An address as the index sees it.
struct Key {
    class: Class,
    /// The address in the lower 32 or 128 bits.
    addr: u128,
    port: u32,
    reserved: bool,
    name: UnixName,
}

impl Key {
    fn of(addr: Option<&Addr>, v6only: bool, unprivileged_start: u16) -> Key {
        let mut key = Key {
            class: Class::Other,
            addr: 0,
            port: 0,
            reserved: false,
            name: UnixName::AUTO,
        };
        let Some(addr) = addr else {
            return key;
        };
        let ip_port = |key: &mut Key, port: u16| {
            key.port = u32::from(port);
            key.reserved = port != 0 && port < unprivileged_start;
        };
        match addr {
            Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => {
                ip_port(&mut key, *port);
                if let Some(ip) = addr.ipv4() {
                    key.addr = u128::from(u32::from_be_bytes(ip));
                    key.class = if key.addr == 0 {
                        Class::Wild4
                    } else {
                        Class::V4
                    };
                } else if let Addr::Inet6 { ip, .. } = addr {
                    key.addr = u128::from_be_bytes(*ip);
                    key.class = match (key.addr, v6only) {
                        (0, true) => Class::Wild6,
                        (0, false) => Class::WildDual,
                        _ => Class::V6,
                    };
                }
            }
            Addr::Vsock { cid, port, .. } => {
                key.port = *port;
                key.reserved = *port < VSOCK_UNPRIVILEGED;
                key.addr = u128::from(*cid);
                key.class = if addr.is_wildcard() {
                    Class::VsockWild
                } else {
                    Class::Vsock
                };
            }
            Addr::Unix(name) => match name.kind {
                UnixKind::Auto => key.class = Class::UnixAuto,
                UnixKind::Path => {
                    key.class = Class::UnixPath;
                    key.name = tidy(name);
                }
                UnixKind::Abstract => {
                    key.class = Class::UnixAbstract;
                    key.name = *name;
                }
            },
            Addr::Netlink { .. } | Addr::Packet { .. } => {}
        }
        key
    }

    /// The key's address cut to the length of a tuple's prefixes. `None` if
    /// it is shorter than that.
    fn cut(&self, len: u8) -> Option<(u64, u64)> {
        match self.class {
            Class::V4 | Class::Vsock => Some(cut(self.addr, len, 32)),
            Class::V6 => Some(cut(self.addr, len, 128)),
            Class::UnixPath | Class::UnixAbstract => {
                let name = self.name.bytes();
                let n = match len {
                    WHOLE => name.len(),
                    n => usize::from(n),
                };
                Some((hash_bytes(name.get(..n)?), n as u64))
            }
            _ => Some((0, 0)),
        }
    }
}
