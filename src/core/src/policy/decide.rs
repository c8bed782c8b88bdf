//! Matching: what a compiled policy says about one call.
//!
//! This runs inside the host process, in signal handlers and in the child of
//! a vfork. It reads words that may have been mapped from elsewhere, so each
//! access is checked against its section and each loop ends with it.

use super::find::{Key, Lists};
use super::layout::{CONDITION, condition_flag, entry, rule_flag, section, verb};
use super::view::{View, upper};
use super::{Implicit, Op, Verb, conditions, errno, glob};
use crate::addr::{Addr, UnixName};
use crate::record::Words;
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

/// The program that asks, as `for` globs see it.
#[derive(Clone, Copy, Debug)]
pub struct Paths<'a> {
    /// The executable's path.
    pub program: &'a [u8],
    /// The path of the script behind `#!`, or nothing.
    pub script: &'a [u8],
}

impl<'a> Query<'a> {
    /// The program that asks.
    #[must_use]
    pub fn paths(&self) -> Paths<'a> {
        Paths {
            program: self.program,
            script: self.script,
        }
    }
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

/// What a policy says about one call, but for where a move goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// What is to be done.
    pub verb: Verb,
    /// The error number of a refusal, or 0.
    pub errno: u16,
    /// The rule that decided.
    pub rule: Option<u32>,
    /// The first `note` rule that matched before it.
    pub note: Option<u32>,
    /// No rule decided.
    pub by_default: bool,
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

/// What the rules say before anybody asked the kernel what the socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outlook {
    /// No rule can match, whatever the socket is and whoever the user.
    NoRule(Ruling),
    /// The call is allowed, whatever the socket is and whoever the user. The
    /// rule named is the one for a socket of the query's kinds.
    Allowed(Ruling),
    /// It depends.
    Open(Foreseen),
}

/// The rule that decides if the socket is of the kinds that it was believed to
/// be ([`View::foreseen`]); nothing where more has to be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Foreseen(Option<u32>);

/// The rules whose address, port and program fit a query.
pub struct Candidates<'q> {
    key: Key<'q>,
    lists: Lists,
}

impl Candidates<'_> {
    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }
}

/// Room for [`View::candidates`].
#[derive(Default)]
pub struct Room(Option<UnixName>);

/// No rule: what lists would call a rule that comes behind all of them.
const NONE: u32 = u32::MAX;

fn known(rule: u32) -> Option<u32> {
    (rule != NONE).then_some(rule)
}

impl View<'_> {
    /// The rules whose address, port and program fit. The same query must be
    /// asked with them; only its kinds and its user may change.
    #[must_use]
    pub fn candidates<'q>(&self, q: &Query<'q>, room: &'q mut Room) -> Candidates<'q> {
        let mut found = Candidates {
            key: Key::of(q, &mut room.0),
            lists: Lists::NONE,
        };
        self.lists(q.op, q.paths(), &found.key, &mut found.lists);
        found
    }

    /// As [`View::candidates`], for bind(2) to the IP address with these bytes.
    /// `None` for `::`, of which more has to be known, and for other addresses.
    #[must_use]
    pub fn ip_candidates(
        &self,
        asked: &Words,
        unprivileged_start: u16,
        paths: Paths<'_>,
    ) -> Option<Candidates<'static>> {
        let mut found = Candidates {
            key: Key::of_ip(asked, unprivileged_start)?,
            lists: Lists::NONE,
        };
        self.lists(Op::Bind, paths, &found.key, &mut found.lists);
        Some(found)
    }

    /// What can be said before the kernel was asked about the socket and the
    /// user. The query's kinds are those that the socket is believed to have;
    /// `NONE` where nothing is known.
    #[must_use]
    pub fn outlook(&self, q: &Query<'_>, c: &Candidates<'_>) -> Outlook {
        let kinds = u64::from(q.kinds.0);
        let (mut first, mut certain) = (NONE, NONE);
        let (mut fits, mut open, mut more) = (false, false, false);
        self.each_list(&c.lists, q, &c.key, |list, check_ports| {
            for &e in list {
                let rule = upper(e);
                if rule >= certain || (open && (kinds == 0 || more || rule >= first)) {
                    return;
                }
                if (q.implicit == Implicit::Connect && e & entry::IMPLICIT == 0)
                    || (check_ports && !self.has_port(rule, &c.key))
                    || (e & entry::PLAIN == 0 && !self.may_hold(rule, &c.key, q))
                {
                    continue;
                }
                fits = true;
                let any = e & entry::ANY_KIND != 0;
                open |= e & entry::ALLOWS == 0 || (kinds == 0 && !any);
                // A user, or a note: not for `first` to say.
                more |= e & entry::PLAIN == 0 || e & entry::NOTE != 0;
                if any || e & kinds != 0 {
                    first = first.min(rule);
                }
                if any {
                    certain = rule;
                }
            }
        });
        let default = self.by_default(q);
        if !fits {
            return Outlook::NoRule(default);
        }
        if open || (certain == NONE && default.verb != Verb::Allow) {
            return Outlook::Open(Foreseen((kinds != 0 && !more).then_some(first)));
        }
        Outlook::Allowed(match known(first) {
            None => default,
            rule => Ruling {
                verb: Verb::Allow,
                errno: 0,
                rule,
                note: None,
                by_default: false,
            },
        })
    }

    /// What holds if no rule decides.
    #[must_use]
    pub fn by_default(&self, q: &Query<'_>) -> Ruling {
        // A bind on the way of connect() is nobody's wish: a default that
        // refused it would refuse every client.
        let errno = match q.implicit {
            Implicit::Connect => None,
            _ => self.default_errno(q.op),
        };
        Ruling {
            verb: match errno {
                Some(_) => Verb::Deny,
                None => Verb::Allow,
            },
            errno: errno.unwrap_or(0),
            rule: None,
            note: None,
            by_default: true,
        }
    }

    /// What the policy says.
    #[must_use]
    pub fn decide(&self, q: &Query<'_>, times: &(impl Times + ?Sized)) -> Decision {
        let mut room = Room::default();
        let candidates = self.candidates(q, &mut room);
        self.decision(&self.ruling(q, &candidates, times), q.addr, q.kinds)
    }

    /// What the policy says, but for where a move goes.
    #[must_use]
    pub fn ruling(
        &self,
        q: &Query<'_>,
        c: &Candidates<'_>,
        times: &(impl Times + ?Sized),
    ) -> Ruling {
        // A rule whose uses are used up is passed over. Both loops go
        // forward through the rules, so they end.
        let mut from = 0;
        let (mut rule, mut note) = self.first(q, c, from, 0);
        while rule != NONE && !self.takes(rule, times) {
            from = rule + 1;
            (rule, note) = self.first(q, c, from, 0);
        }
        while note != NONE && !self.takes(note, times) {
            (_, note) = self.first(q, c, from, note + 1);
        }
        self.ruling_of(q, rule, known(note))
    }

    /// [`View::ruling`] without a look at the rules once more. The socket must
    /// be of the kinds for which [`View::outlook`] was asked.
    #[must_use]
    pub fn foreseen(
        &self,
        q: &Query<'_>,
        c: &Candidates<'_>,
        foreseen: Foreseen,
        times: &(impl Times + ?Sized),
    ) -> Ruling {
        match foreseen.0 {
            Some(rule) if rule == NONE || self.takes(rule, times) => self.ruling_of(q, rule, None),
            _ => self.ruling(q, c, times),
        }
    }

    fn ruling_of(&self, q: &Query<'_>, rule: u32, note: Option<u32>) -> Ruling {
        let Some(decided) = known(rule) else {
            return Ruling {
                note,
                ..self.by_default(q)
            };
        };
        let word = self.rule_word(decided, 0);
        let (verb, errno) = match word as u8 {
            verb::DENY => (Verb::Deny, (word >> 16) as u16),
            verb::HIDE => (Verb::Hide, 0),
            verb::MOVE => (Verb::Move, 0),
            _ => (Verb::Allow, 0),
        };
        Ruling {
            verb,
            errno,
            rule: Some(decided),
            note,
            by_default: false,
        }
    }

    /// The same with the place that a move of a socket of these kinds goes to.
    #[must_use]
    pub fn decision(&self, r: &Ruling, addr: Option<&Addr>, kinds: KindSet) -> Decision {
        let mut d = Decision {
            verb: r.verb,
            errno: r.errno,
            rule: r.rule,
            note: r.note,
            target: None,
            by_default: r.by_default,
        };
        if let (Verb::Move, Some(rule)) = (r.verb, r.rule) {
            let target = self.target(rule);
            d.target = addr.and_then(|a| target?.place(a, kinds));
            if d.target.is_none() {
                // Nowhere to go: better refused than placed elsewhere.
                d.verb = Verb::Deny;
                d.errno = errno::EADDRNOTAVAIL;
            }
        }
        d
    }

    pub(super) fn takes(&self, rule: u32, times: &(impl Times + ?Sized)) -> bool {
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        if flags & rule_flag::TIMES == 0 {
            return true;
        }
        let word = self.rule_word(rule, 2);
        times.take(upper(word), word as u32)
    }

    /// The first rule that decides, from `from` on, and the first note
    /// before it, from `notes_from` on.
    fn first(&self, q: &Query<'_>, c: &Candidates<'_>, from: u32, notes_from: u32) -> (u32, u32) {
        let (mut rule, mut note) = (NONE, NONE);
        let kinds = u64::from(q.kinds.0);
        self.each_list(&c.lists, q, &c.key, |list, check_ports| {
            for &e in list {
                let id = upper(e);
                if id >= rule {
                    return;
                }
                let is_note = e & entry::NOTE != 0;
                if id < (if is_note { notes_from } else { from })
                    || (is_note && id >= note)
                    || (e & entry::ANY_KIND == 0 && e & kinds == 0)
                    || (q.implicit == Implicit::Connect && e & entry::IMPLICIT == 0)
                    || (check_ports && !self.has_port(id, &c.key))
                    || (e & entry::PLAIN == 0 && !self.holds(id, &c.key, q))
                {
                    continue;
                }
                if is_note {
                    note = id;
                } else {
                    rule = id;
                    return;
                }
            }
        });
        (rule, if note < rule { note } else { NONE })
    }

    /// Is the Unix name one that the rule means?
    fn has_name(&self, rule: u32, flags: u8, key: &Key<'_>) -> bool {
        if flags & rule_flag::PATTERN == 0 {
            return true;
        }
        let pattern = self.string(self.rule_word(rule, 3));
        if flags & rule_flag::LITERAL != 0 {
            key.name == pattern
        } else {
            glob::matches(pattern, key.name)
        }
    }

    /// Everything that the lists do not say.
    fn holds(&self, rule: u32, key: &Key<'_>, q: &Query<'_>) -> bool {
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        (flags & rule_flag::USER == 0 || q.uid == Some(self.rule_word(rule, 1) as u32))
            && self.may_hold(rule, key, q)
    }

    /// As [`View::holds`], while the user is unknown.
    fn may_hold(&self, rule: u32, key: &Key<'_>, q: &Query<'_>) -> bool {
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        self.has_name(rule, flags, key)
            && match upper(self.rule_word(rule, 1)).checked_sub(1) {
                Some(c) => self.condition(c, q.paths()),
                None => true,
            }
    }

    pub(super) fn condition_count(&self) -> u32 {
        (self.section(section::CONDITIONS).len() / CONDITION) as u32
    }

    /// Does the program match a `for` glob?
    pub(super) fn condition(&self, c: u32, paths: Paths<'_>) -> bool {
        let n = self.condition_count();
        conditions::fill(self.cache(), n, |c| self.evaluate(c, paths));
        match conditions::recall(self.cache(), n, c) {
            Some(known) => known,
            None => self.evaluate(c, paths),
        }
    }

    pub(super) fn evaluate(&self, c: u32, paths: Paths<'_>) -> bool {
        let (all, _) = self.section(section::CONDITIONS).as_chunks::<CONDITION>();
        let &[flags, pattern] = all.get(c as usize).unwrap_or(&[0, 0]);
        let pattern = self.string(pattern);
        let mut path = if flags & condition_flag::SCRIPT != 0 {
            paths.script
        } else {
            paths.program
        };
        if path.is_empty() || pattern.is_empty() {
            return false;
        }
        if flags & condition_flag::NAME_ONLY != 0 {
            path = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        }
        glob::matches(pattern, path)
    }
}
