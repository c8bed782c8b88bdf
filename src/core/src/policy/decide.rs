//! Matching: what a compiled policy says about one call.
//!
//! This runs inside the host process, in signal handlers and in the child of
//! a vfork. It reads words that may have been mapped from elsewhere, so each
//! access is checked against its section and each loop ends with it.

use super::find::{Key, Lists};
use super::layout::{CONDITION, condition_flag, entry, rule_flag, section, verb};
use super::view::{View, upper};
use super::{Implicit, Op, Uses, Verb, conditions, errno, glob};
use crate::addr::{Addr, UnixName};
use crate::record::Words;
use crate::socket::KindSet;

/// A question to the policy: one call of a program.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The operation.
    pub op: Op,
    /// The kinds that the socket belongs to.
    pub kinds: KindSet,
    /// Nobody may ask what the socket is. Without kinds, any rule about some
    /// kinds is in doubt; with them, any rule about an IP protocol.
    pub unknown_socket: bool,
    /// The address: asked for (bind), bound (listen) or called (connect).
    pub addr: Option<&'a Addr>,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// Whether the kernel, and not the program, asks for the bind.
    pub implicit: Implicit,
    /// `net.ipv4.ip_unprivileged_port_start`
    pub unprivileged_start: u16,
    /// The executable's path; empty where it is unknown, and then a rule that
    /// says `for` is in doubt.
    pub program: &'a [u8],
    /// The path of the script that `#!` started, or nothing.
    pub script: &'a [u8],
    /// The effective user; where it is unknown, a rule that says `user` is in
    /// doubt.
    pub uid: Option<u32>,
    /// Has the caller no privilege for the bind? Where that is unknown, a rule that
    /// says `unprivileged` does not match, and the kernel answers.
    pub unprivileged: Option<bool>,
}

/// A condition of the rule that decided which could not be evaluated. Such a
/// rule never fails open: a rule that restricts matches, one that allows does
/// not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// What the socket is.
    Socket,
    /// Who the user is.
    User,
    /// Which program it is.
    Program,
}

/// The program that asks, as `for` globs see it.
#[derive(Clone, Copy, Debug)]
pub struct Paths<'a> {
    /// The executable's path.
    pub program: &'a [u8],
    /// The path of the script that `#!` started, or nothing.
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
            unknown_socket: false,
            addr: None,
            v6only: false,
            implicit: Implicit::No,
            unprivileged_start: 1024,
            program: &[],
            script: &[],
            uid: None,
            unprivileged: None,
        }
    }
}

/// The counters of `times`, `after` and `every`, which a run's processes share.
pub trait Times {
    /// Counts a match of the rule with this counter. Is it the rule's?
    fn take(&self, counter: u32, uses: Uses) -> bool;
}

/// The decision of a policy about one call, without the target of a redirect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// The action to take.
    pub verb: Verb,
    /// The error number of a refusal, or 0.
    pub errno: u16,
    /// The rule that decided.
    pub rule: Option<u32>,
    /// The first `note` rule that matched before it.
    pub note: Option<u32>,
    /// No rule decided.
    pub by_default: bool,
    /// What of the deciding rule could not be evaluated.
    pub doubt: Option<Doubt>,
}

/// The decision of a policy about one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The action to take.
    pub verb: Verb,
    /// The error number of a refusal, or 0.
    pub errno: u16,
    /// The rule that decided.
    pub rule: Option<u32>,
    /// The first `note` rule that matched before it.
    pub note: Option<u32>,
    /// The real address of a move.
    pub target: Option<Addr>,
    /// The target of the move is called `loopback`.
    pub to_loopback: bool,
    /// No rule decided.
    pub by_default: bool,
    /// What of the deciding rule could not be evaluated.
    pub doubt: Option<Doubt>,
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
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }
}

/// Room for [`View::candidates`].
#[derive(Default)]
pub struct Room(Option<UnixName>);

/// No rule: it would come after all of them.
const NONE: u32 = u32::MAX;

/// The first rule and the first note that match.
struct First {
    rule: u32,
    note: u32,
    doubt: Option<Doubt>,
}

/// What the entries of rules that fit say, before anybody was asked.
struct Seen {
    /// The first rule for a socket of the query's kinds.
    first: u32,
    /// The first rule for any socket: no later one decides.
    certain: u32,
    /// Does any rule fit?
    fits: bool,
    /// Does the answer depend on what the socket is, or who the user?
    open: bool,
    /// Is there more to ask than the socket's kinds before a rule is known to
    /// decide?
    more: bool,
}

impl Seen {
    const NOTHING: Seen = Seen {
        first: NONE,
        certain: NONE,
        fits: false,
        open: false,
        more: false,
    };

    /// Do this rule and those after it change nothing?
    #[inline(always)]
    fn is_settled(&self, rule: u32, kinds: u64) -> bool {
        rule >= self.certain || (self.open && (kinds == 0 || self.more || rule >= self.first))
    }

    /// A rule may fit; nobody can say yet.
    fn unforeseeable(&mut self) {
        (self.fits, self.open, self.more) = (true, true, true);
    }

    /// The rule of this entry fits.
    #[inline(always)]
    fn take(&mut self, e: u64, kinds: u64, has_user: bool, has_protocol: impl FnOnce() -> bool) {
        let (rule, any) = (upper(e), e & entry::ANY_KIND != 0);
        self.fits = true;
        self.open |= e & entry::ALLOWS == 0 || (kinds == 0 && !any);
        self.more |= e & entry::NOTE != 0 || has_user;
        if any || (e & kinds != 0 && has_protocol()) {
            self.first = self.first.min(rule);
        }
        if any {
            self.certain = rule;
        }
    }

    #[inline(always)]
    fn outlook(&self, kinds: KindSet, default: Ruling) -> Outlook {
        if !self.fits {
            return Outlook::NoRule(default);
        }
        if self.open || (self.certain == NONE && default.verb != Verb::Allow) {
            let is_known = kinds.names() != 0 && !self.more;
            return Outlook::Open(Foreseen(is_known.then_some(self.first)));
        }
        Outlook::Allowed(match known(self.first) {
            None => default,
            rule => Ruling {
                verb: Verb::Allow,
                errno: 0,
                rule,
                note: None,
                by_default: false,
                doubt: None,
            },
        })
    }
}

/// Whether a rule's condition holds.
enum Holds {
    Yes,
    No,
    Unknown(Doubt),
}

/// A search for the ruling, between one use of a `times` rule and the next.
#[derive(Clone, Copy)]
pub(crate) struct Search {
    /// Rules and notes before these have no use left.
    from: u32,
    notes_from: u32,
    rule: u32,
    note: u32,
    doubt: Option<Doubt>,
    /// The lists have to be looked at.
    is_fresh: bool,
    /// The deciding rule is settled; a note may still need a use.
    has_rule: bool,
    has_answer: bool,
    is_taken: bool,
}

impl Search {
    /// A search that starts at what was foreseen, or at the beginning.
    pub(crate) fn new(foreseen: Foreseen) -> Search {
        Search {
            from: 0,
            notes_from: 0,
            rule: foreseen.0.unwrap_or(NONE),
            note: NONE,
            doubt: None,
            is_fresh: foreseen.0.is_none(),
            has_rule: false,
            has_answer: false,
            is_taken: false,
        }
    }

    /// The use that was asked for was taken, or there is none left.
    pub(crate) fn used(&mut self, taken: bool) {
        self.has_answer = true;
        self.is_taken = taken;
    }
}

/// How far a search has come.
pub(crate) enum Found {
    /// To its end.
    Ruling(Ruling),
    /// A match of the rule with `counter` has to be counted.
    Use { counter: u32, uses: Uses },
}

fn known(rule: u32) -> Option<u32> {
    (rule != NONE).then_some(rule)
}

impl View<'_> {
    /// The rules whose address, port and program fit. The same query must be
    /// asked with them; only its kinds and its user may change.
    #[must_use]
    pub fn candidates<'q>(&self, q: &Query<'q>, room: &'q mut Room) -> Candidates<'q> {
        if self.is_unconcerned(q) {
            return Candidates {
                key: Key::OTHER,
                lists: Lists::NONE,
            };
        }
        let mut found = Candidates {
            key: Key::of(q, &mut room.0),
            lists: Lists::NONE,
        };
        self.lists(q.op, q.paths(), &found.key, &mut found.lists);
        found
    }

    /// As [`View::outlook`], for the IP address with these bytes in place of the
    /// query's. `None` for `::`, of which more has to be known, and for other
    /// addresses.
    #[must_use]
    #[inline(always)]
    pub fn ip_outlook(&self, asked: &Words, q: &Query<'_>) -> Option<Outlook> {
        let mut candidates = Candidates {
            key: Key::of_ip(asked, q.unprivileged_start)?,
            lists: Lists::NONE,
        };
        self.lists(q.op, q.paths(), &candidates.key, &mut candidates.lists);
        Some(match self.plainly_seen(q, &candidates.lists) {
            Some(seen) => seen.outlook(q.kinds, self.by_default(q)),
            None => {
                // Only here does it have to be in memory.
                let q = *q;
                self.outlook(&q, &candidates)
            }
        })
    }

    /// What can be said before the kernel was asked about the socket and the
    /// user. The query's kinds are those that the socket is believed to have;
    /// `NONE` where nothing is known.
    #[must_use]
    #[inline(never)]
    pub fn outlook(&self, q: &Query<'_>, c: &Candidates<'_>) -> Outlook {
        let kinds = u64::from(q.kinds.names());
        let mut seen = Seen::NOTHING;
        self.each_list(&c.lists, q, &c.key, |list, check_ports| {
            for &e in list {
                let rule = upper(e);
                if seen.is_settled(rule, kinds) {
                    return;
                }
                if (q.implicit == Implicit::Connect && e & entry::IMPLICIT == 0)
                    || (check_ports && !self.has_port(rule, &c.key))
                    || (e & entry::PLAIN == 0 && !self.may_hold(rule, &c.key, q))
                {
                    continue;
                }
                if q.program.is_empty() && self.has_condition(rule) {
                    seen.unforeseeable();
                    continue;
                }
                // A user is not for `first` to say. What else a rule says that
                // is not plain was asked just now.
                let has_user = e & entry::PLAIN == 0 && self.has_user(rule);
                seen.take(e, kinds, has_user, || self.has_protocol(rule, e, q.kinds));
            }
        });
        seen.outlook(q.kinds, self.by_default(q))
    }

    /// What the entries of these lists say, where no more than the entries has
    /// to be looked at: most policies are like that. `None` where they do not
    /// say all.
    #[inline(always)]
    fn plainly_seen(&self, q: &Query<'_>, lists: &Lists) -> Option<Seen> {
        if q.implicit != Implicit::No || q.program.is_empty() {
            return None;
        }
        let kinds = u64::from(q.kinds.names());
        let mut seen = Seen::NOTHING;
        for &list in lists.all()? {
            for &e in self.checked_list(list)? {
                if seen.is_settled(upper(e), kinds) {
                    break;
                }
                if e & entry::PLAIN == 0 {
                    return None;
                }
                seen.take(e, kinds, false, || true);
            }
        }
        Some(seen)
    }

    /// Returns the decision that holds if no rule decides.
    #[must_use]
    pub fn by_default(&self, q: &Query<'_>) -> Ruling {
        self.default_of(q.op, q.implicit)
    }

    /// As [`View::by_default`].
    #[inline]
    pub(crate) fn default_of(&self, op: Op, implicit: Implicit) -> Ruling {
        // A bind on the way of connect() is nobody's wish: a default that
        // refused it would refuse every client.
        let errno = match implicit {
            Implicit::Connect => None,
            _ => self.default_errno(op),
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
            doubt: None,
        }
    }

    /// Decides a call.
    #[must_use]
    pub fn decide(&self, q: &Query<'_>, times: &(impl Times + ?Sized)) -> Decision {
        let mut room = Room::default();
        let candidates = self.candidates(q, &mut room);
        self.decision(&self.ruling(q, &candidates, times), q.addr, q.kinds)
    }

    /// Decides a call, without computing the target of a redirect.
    #[must_use]
    pub fn ruling(
        &self,
        q: &Query<'_>,
        c: &Candidates<'_>,
        times: &(impl Times + ?Sized),
    ) -> Ruling {
        self.foreseen(q, c, Foreseen::default(), times)
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
        let mut search = Search::new(foreseen);
        loop {
            match self.search(q, c, &mut search) {
                Found::Ruling(ruling) => return ruling,
                Found::Use { counter, uses } => search.used(times.take(counter, uses)),
            }
        }
    }

    /// The ruling of a search that was foreseen to end at a rule without
    /// `times`, or at none; `None` where the rules have to be looked at.
    #[inline]
    pub(crate) fn settled(&self, op: Op, implicit: Implicit, s: &Search) -> Option<Ruling> {
        if s.is_fresh || s.has_rule || s.has_answer {
            return None;
        }
        match known(s.rule) {
            None => Some(self.default_of(op, implicit)),
            Some(rule) if self.uses(rule).is_none() => {
                Some(self.ruling_of(op, implicit, s.rule, None, s.doubt))
            }
            Some(_) => None,
        }
    }

    /// Goes on with a search until it knows the ruling, or until a rule that
    /// says `times` has to take one of its uses.
    pub(crate) fn search(&self, q: &Query<'_>, c: &Candidates<'_>, s: &mut Search) -> Found {
        // Every turn goes forward through the rules, so this ends.
        loop {
            if s.is_fresh {
                let first = self.first(q, c, s.from, s.notes_from);
                s.is_fresh = false;
                if !s.has_rule {
                    (s.rule, s.doubt) = (first.rule, first.doubt);
                }
                s.note = first.note;
            }
            let asks = if s.has_rule { s.note } else { s.rule };
            if asks != NONE
                && let Some((counter, uses)) = self.uses(asks)
            {
                if !s.has_answer {
                    return Found::Use { counter, uses };
                }
                s.has_answer = false;
                if !s.is_taken {
                    // The rule has no use left: as if it were not there.
                    s.is_fresh = true;
                    if s.has_rule {
                        s.notes_from = asks.saturating_add(1);
                    } else {
                        s.from = asks.saturating_add(1);
                    }
                    continue;
                }
            }
            if s.has_rule {
                return Found::Ruling(self.ruling_of(
                    q.op,
                    q.implicit,
                    s.rule,
                    known(s.note),
                    s.doubt,
                ));
            }
            s.has_rule = true;
        }
    }

    fn ruling_of(
        &self,
        op: Op,
        implicit: Implicit,
        rule: u32,
        note: Option<u32>,
        doubt: Option<Doubt>,
    ) -> Ruling {
        let Some(decided) = known(rule) else {
            return Ruling {
                note,
                ..self.default_of(op, implicit)
            };
        };
        let word = self.rule_word(decided, 0);
        let (verb, errno) = match word as u8 {
            verb::DENY => (Verb::Deny, (word >> 16) as u16),
            // Neither where the program asked nor elsewhere is known to be right.
            verb::HIDE | verb::MOVE if doubt.is_some() => (Verb::Deny, errno::EACCES),
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
            doubt,
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
            to_loopback: false,
            by_default: r.by_default,
            doubt: r.doubt,
        };
        if let (Verb::Move, Some(rule)) = (r.verb, r.rule) {
            let target = self.target(rule);
            d.target = addr.and_then(|a| target?.place(a, kinds));
            d.to_loopback = target.is_some_and(|t| t.is_loopback());
            if d.target.is_none() {
                // Nowhere to go: better refused than placed elsewhere.
                d.verb = Verb::Deny;
                d.errno = errno::EADDRNOTAVAIL;
            }
        }
        d
    }

    pub(super) fn takes(&self, rule: u32, times: &(impl Times + ?Sized)) -> bool {
        self.uses(rule)
            .is_none_or(|(counter, uses)| times.take(counter, uses))
    }

    /// Do the rules that fit tell a socket of the query's kinds from one of
    /// these?
    pub(crate) fn tells_apart(&self, q: &Query<'_>, c: &Candidates<'_>, other: KindSet) -> bool {
        let mut differs = false;
        self.each_list(&c.lists, q, &c.key, |list, _| {
            let is_of = |e: u64, kinds: KindSet| {
                (e & entry::ANY_KIND != 0 || e & u64::from(kinds.names()) != 0)
                    && self.has_protocol(upper(e), e, kinds)
            };
            differs |= list.iter().any(|e| is_of(*e, q.kinds) != is_of(*e, other));
        });
        differs
    }

    /// The counter of a rule that says `times`, `after` or `every`, and which.
    fn uses(&self, rule: u32) -> Option<(u32, Uses)> {
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        (flags & rule_flag::TIMES != 0).then(|| Uses::of_word(self.rule_word(rule, 2)))
    }

    /// The first rule that decides, from `from` on, and the first note
    /// before it, from `notes_from` on.
    fn first(&self, q: &Query<'_>, c: &Candidates<'_>, from: u32, notes_from: u32) -> First {
        let mut found = First {
            rule: NONE,
            note: NONE,
            doubt: None,
        };
        let kinds = u64::from(q.kinds.names());
        self.each_list(&c.lists, q, &c.key, |list, check_ports| {
            for &e in list {
                let id = upper(e);
                if id >= found.rule {
                    return;
                }
                let is_note = e & entry::NOTE != 0;
                if id < (if is_note { notes_from } else { from })
                    || (is_note && id >= found.note)
                    || (q.implicit == Implicit::Connect && e & entry::IMPLICIT == 0)
                    || (check_ports && !self.has_port(id, &c.key))
                {
                    continue;
                }
                let mut doubt = None;
                if e & entry::ANY_KIND == 0 && e & kinds == 0 {
                    if !q.unknown_socket || kinds != 0 {
                        continue;
                    }
                    doubt = Some(Doubt::Socket);
                }
                if e & entry::PLAIN == 0 {
                    match self.holds(id, &c.key, q) {
                        Holds::Yes => {}
                        Holds::No => continue,
                        Holds::Unknown(what) => doubt = doubt.or(Some(what)),
                    }
                }
                if is_note {
                    found.note = id;
                } else if doubt.is_none() || self.rule_word(id, 0) as u8 != verb::ALLOW {
                    (found.rule, found.doubt) = (id, doubt);
                    return;
                }
            }
        });
        if found.note > found.rule {
            found.note = NONE;
        }
        found
    }

    /// Returns whether the rule's pattern matches the Unix name.
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

    /// Checks the conditions that are not part of the lists.
    fn holds(&self, rule: u32, key: &Key<'_>, q: &Query<'_>) -> Holds {
        if !self.may_hold(rule, key, q) {
            return Holds::No;
        }
        if !self.has_protocol(rule, 0, q.kinds) {
            return match q.unknown_socket {
                true => Holds::Unknown(Doubt::Socket),
                false => Holds::No,
            };
        }
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        if flags & rule_flag::UNPRIVILEGED != 0 && q.unprivileged != Some(true) {
            return Holds::No;
        }
        if flags & rule_flag::USER != 0 {
            match q.uid {
                Some(uid) if uid != self.rule_word(rule, 1) as u32 => return Holds::No,
                Some(_) => {}
                None => return Holds::Unknown(Doubt::User),
            }
        }
        match q.program.is_empty() && self.has_condition(rule) {
            true => Holds::Unknown(Doubt::Program),
            false => Holds::Yes,
        }
    }

    /// Returns whether the socket has the IP protocol that the rule wants, if
    /// it wants one. A rule whose list entry is plain wants none.
    fn has_protocol(&self, rule: u32, entry: u64, socket: KindSet) -> bool {
        let wanted = match entry & entry::PLAIN {
            0 => (self.rule_word(rule, 0) >> 48) as u16,
            _ => 0,
        };
        wanted == 0 || wanted == socket.protocol()
    }

    /// As [`View::holds`], while the user and the socket are unknown.
    fn may_hold(&self, rule: u32, key: &Key<'_>, q: &Query<'_>) -> bool {
        let flags = (self.rule_word(rule, 0) >> 8) as u8;
        self.has_name(rule, flags, key)
            && match upper(self.rule_word(rule, 1)).checked_sub(1) {
                Some(c) => self.condition(c, q.paths()),
                None => true,
            }
    }

    /// Returns whether the rule says `user` or `unprivileged`.
    fn has_user(&self, rule: u32) -> bool {
        (self.rule_word(rule, 0) >> 8) as u8 & (rule_flag::USER | rule_flag::UNPRIVILEGED) != 0
    }

    /// Returns whether the rule says `for`.
    fn has_condition(&self, rule: u32) -> bool {
        upper(self.rule_word(rule, 1)) != 0
    }

    pub(super) fn condition_count(&self) -> u32 {
        (self.section(section::CONDITIONS).len() / CONDITION) as u32
    }

    /// Returns whether the program matches a `for` glob.
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
        if paths.program.is_empty() {
            // Nobody can say, and [`View::holds`] says so.
            return true;
        }
        if path.is_empty() || pattern.is_empty() {
            return false;
        }
        if flags & condition_flag::NAME_ONLY != 0 {
            path = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        }
        glob::matches(pattern, path)
    }
}
