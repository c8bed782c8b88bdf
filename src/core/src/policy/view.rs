//! A compiled policy: its header and its sections, and what they say of rules.
//!
//! This runs inside the host process, in signal handlers and in the child of
//! a vfork. It reads words that may have been mapped from elsewhere, so each
//! access is checked against its section.

use core::sync::atomic::AtomicU8;

use super::layout::{
    BIND_PORTS, LayoutError, MAGIC, MAX_RULES, RULE, VERSION, flag, header, rule_flag, section,
};
use super::target::{FOLLOWED, TARGET, Target};
use super::{Mode, Op, Paths, conditions};

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

    /// Returns whether any rule for this operation says `unprivileged`.
    #[must_use]
    pub fn needs_privilege(&self, op: Op) -> bool {
        self.has(flag::NEEDS_PRIVILEGE, op)
    }

    /// Returns whether any rule says `followed`: clients in the run go where a
    /// server was moved.
    #[must_use]
    pub fn has_followed(&self) -> bool {
        self.header(header::FLAGS) & flag::FOLLOWED != 0
    }

    /// Returns whether clients follow what this rule moves.
    #[must_use]
    pub fn is_followed(&self, rule: u32) -> bool {
        self.target(rule).is_some_and(|target| target.followed)
    }

    pub(super) fn cache(&self) -> &'a [AtomicU8] {
        self.cache
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

    /// Returns whether the policy is carried out. Without a `mode` line it is if any rule or
    /// default can refuse or change something.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.header(header::FLAGS) & flag::OBSERVE != 0 {
            Mode::Observe
        } else {
            Mode::Enforce
        }
    }

    /// Returns whether the mode is `enforce`.
    #[must_use]
    pub fn is_enforcing(&self) -> bool {
        self.mode() == Mode::Enforce
    }

    /// Returns whether there is a rule for this operation or a default that refuses it.
    #[must_use]
    pub fn has_rules(&self, op: Op) -> bool {
        self.has(flag::HAS_RULES, op)
    }

    /// Does a rule for this operation, or its default, refuse or change
    /// something?
    #[must_use]
    pub fn restricts(&self, op: Op) -> bool {
        self.has(flag::RESTRICTS, op)
    }

    /// Returns whether any rule for this operation tells TCP from MPTCP or UDP
    /// from UDP-Lite, or names a protocol.
    #[must_use]
    pub fn tells_siblings(&self, op: Op) -> bool {
        self.has(flag::TELLS_SIBLINGS, op)
    }

    /// Returns whether any rule for this operation may match a raw IPv4 socket.
    #[must_use]
    pub fn names_raw(&self, op: Op) -> bool {
        self.has(flag::NAMES_RAW, op)
    }

    /// Returns the CID of the vsock host that the run is (`host cid`), if it is one.
    #[must_use]
    #[inline]
    pub fn vsock_cid(&self) -> Option<u32> {
        match self.header(header::VSOCK_CID) as u32 {
            0 => None,
            cid => Some(cid),
        }
    }

    /// Returns whether the run's host is one that `host` lines describe and the
    /// model rules.
    #[must_use]
    #[inline]
    pub fn is_ruled(&self) -> bool {
        self.header(header::FLAGS) & flag::RULED != 0
    }

    /// Returns the mode of that host's files in its fabric.
    #[must_use]
    pub fn vsock_mode(&self) -> u32 {
        upper(self.header(header::VSOCK_CID))
    }

    /// Returns the id of the run whose host it is.
    #[must_use]
    pub fn vsock_run(&self) -> u64 {
        self.header(header::VSOCK_RUN)
    }

    /// Returns the directory of that host's fabric (`host fabric`), or nothing.
    #[must_use]
    pub fn vsock_fabric(&self) -> &'a [u8] {
        part(self.strings, self.header(header::FABRIC))
    }

    /// Returns the path at which a virtual machine monitor speaks for the other
    /// side (`host vsock-uds`), or nothing.
    #[must_use]
    pub fn vsock_uds(&self) -> &'a [u8] {
        part(self.strings, self.header(header::VSOCK_UDS))
    }

    /// Returns the ports with a path of their own (`host vsock-port`): `PORT=PATH`
    /// and a NUL for each.
    #[must_use]
    pub fn vsock_ports(&self) -> &'a [u8] {
        part(self.strings, self.header(header::VSOCK_PORTS))
    }

    /// Returns the CID that the monitor's guest is told to have (`host vsock-guest`).
    #[must_use]
    pub fn vsock_guest(&self) -> u32 {
        self.header(header::VSOCK_GUEST) as u32
    }

    /// Returns how many ports the run leases (`host lease`), if it does, and the
    /// first of them, 0 before that is decided.
    #[must_use]
    pub fn lease(&self) -> Option<(u16, u16)> {
        let word = self.header(header::LEASE);
        match word as u16 {
            0 => None,
            count => Some((count, (word >> 16) as u16)),
        }
    }

    /// Returns whether any bind rule says `implicit`.
    #[must_use]
    pub fn has_implicit_rules(&self) -> bool {
        self.header(header::FLAGS) & flag::IMPLICIT != 0
    }

    /// Returns whether any rule can put a Unix socket in the place of a vsock
    /// one, in whatever program.
    #[must_use]
    pub fn moves_vsock(&self) -> bool {
        self.header(header::FLAGS) & flag::MOVES_VSOCK != 0
    }

    /// Returns whether any rule can, in this program. Looks all rules through
    /// where [`View::moves_vsock`] says yes.
    #[must_use]
    pub fn moves_vsock_of(&self, paths: Paths<'_>) -> bool {
        let moves = |rule: u32| {
            let flags = (self.rule_word(rule, 0) >> 8) as u8;
            let condition = upper(self.rule_word(rule, 1)).checked_sub(1);
            flags & rule_flag::MOVES_VSOCK != 0
                && condition.is_none_or(|c| self.condition(c, paths))
        };
        self.moves_vsock() && (0..self.rules()).any(moves)
    }

    /// Returns whether any rule for this operation says `user`.
    #[must_use]
    pub fn needs_user(&self, op: Op) -> bool {
        self.has(flag::NEEDS_USER, op)
    }

    /// Returns whether any rule for this operation says `for`.
    #[must_use]
    pub fn needs_program(&self, op: Op) -> bool {
        self.has(flag::NEEDS_PROGRAM, op)
    }

    /// The number of `times` counters that the rules use.
    #[must_use]
    pub fn counters(&self) -> u32 {
        self.header(header::COUNTS) as u32
    }

    /// The number of rules.
    #[must_use]
    pub fn rules(&self) -> u32 {
        (self.section(section::RULES).len() / RULE) as u32
    }

    pub(super) fn rule_word(&self, rule: u32, i: usize) -> u64 {
        let (rules, _) = self.section(section::RULES).as_chunks::<RULE>();
        let words = rules.get(rule as usize);
        words.and_then(|w| w.get(i)).copied().unwrap_or(0)
    }

    pub(super) fn string(&self, place: u64) -> &'a [u8] {
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

    /// One bit for each IP port that a bind rule might match, whatever the
    /// address, bit 0 for a port of the kernel's choice: a quick "no" before
    /// [`View::candidates`]. `None` if every bind has to be looked at, or if
    /// there are no bind rules.
    #[must_use]
    pub fn bind_ports(&self) -> Option<&'a [u64; BIND_PORTS]> {
        match self.default_errno(Op::Bind) {
            Some(_) => None,
            None => self.section(section::BIND_PORTS).try_into().ok(),
        }
    }

    /// Where a move rule moves.
    pub(super) fn target(&self, rule: u32) -> Option<Target<'a>> {
        let i = self.rule_word(rule, 4) as u32 as usize;
        let words = self.section(section::TARGETS).get(i..)?.get(..TARGET)?;
        let &[how, number, hi, lo] = words else {
            return None;
        };
        Some(Target {
            host: how & 0xff,
            port: how >> 8 & 0xff,
            followed: how & FOLLOWED != 0,
            number: number as i64,
            hi,
            lo,
            template: self.string(hi),
        })
    }
}
