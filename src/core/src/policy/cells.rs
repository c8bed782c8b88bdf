//! The index: which rules can match which addresses and ports.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::Op;
use super::compile::Sections;
use super::footprint::{Footprint, Ranges};
use super::layout::{BIND_PORTS, Class, RULE, cell_flag, entry, section};
use super::trie::{Prefix, Tries};
use crate::socket::KindSet;

/// Conditional rules in one cell, from which on each condition gets its own.
const BUCKET: usize = 8;
/// Entries that the lists of one cell may take for each of its rules, before
/// it becomes one list whose ports are looked at.
const BUDGET: usize = 64;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    op: Op,
    class: Class,
    prefix: Prefix,
    /// Only reserved ports ask it.
    reserved: bool,
}

struct Entry {
    /// The word in lists.
    word: u64,
    condition: u32,
    ip: usize,
    vsock: usize,
}

#[derive(Default)]
pub(super) struct Cells {
    ranges: Vec<Ranges>,
    known: BTreeMap<Ranges, usize>,
    rules: Vec<Entry>,
    places: BTreeMap<Place, Vec<u32>>,
    count: usize,
    /// [`section::BIND_PORTS`]
    bind_ports: Vec<u64>,
}

/// Whose ports a cell is cut by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ports {
    Ip,
    Vsock,
    None,
}

impl Ports {
    fn of(class: Class) -> Ports {
        match class {
            Class::V4 | Class::V6 | Class::Wild4 | Class::Wild6 | Class::WildDual => Ports::Ip,
            Class::Vsock | Class::VsockWild => Ports::Vsock,
            Class::Other | Class::UnixAuto | Class::UnixPath | Class::UnixAbstract => Ports::None,
        }
    }
}

/// A cell before it is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    ids: Vec<u32>,
    ports: Ports,
    reserved: bool,
    /// Rules with conditions stand in cells of their own.
    buckets: bool,
}

impl Cells {
    pub fn places(&self) -> usize {
        self.count
    }

    /// Keeps ranges once.
    fn ranges(&mut self, r: Ranges) -> usize {
        if let Some(&i) = self.known.get(&r) {
            return i;
        }
        self.ranges.push(r.clone());
        let i = self.ranges.len() - 1;
        self.known.insert(r, i);
        i
    }

    /// Adds the next rule at every place where addresses find it.
    pub fn put(&mut self, op: Op, at: Footprint, condition: u32) {
        let id = self.rules.len() as u32;
        let ip = self.ranges(at.ip);
        let vsock = self.ranges(at.vsock);
        self.rules.push(Entry {
            word: u64::from(id) << 32 | at.entry,
            condition,
            ip,
            vsock,
        });
        let is_ip = |class| Ports::of(class) == Ports::Ip;
        if op == Op::Bind && at.spots.iter().any(|spot| is_ip(spot.0)) {
            self.mark_ports(id);
        }
        for (class, prefix) in at.spots {
            let (plain, reserved, n) = match self.of(id, Ports::of(class)) {
                Some(r) => (!r.list.is_empty(), r.reserved, r.list.len()),
                None => (true, false, 0),
            };
            self.count += n + 1;
            for reserved in [(plain, false), (reserved, true)]
                .into_iter()
                .filter_map(|(on, r)| on.then_some(r))
            {
                let place = Place {
                    op,
                    class,
                    prefix: prefix.clone(),
                    reserved,
                };
                self.places.entry(place).or_default().push(id);
            }
        }
    }

    /// Notes which ports a bind rule may match. Where the reserved ones end is
    /// not known here.
    fn mark_ports(&mut self, id: u32) {
        self.bind_ports.resize(BIND_PORTS, 0);
        let ranges = &self.ranges[self.rules[id as usize].ip];
        let reserved = ranges.reserved.then_some((1, u32::from(u16::MAX)));
        for (from, to) in ranges.list.iter().copied().chain(reserved) {
            let (from, to) = (from as usize, to.min(u32::from(u16::MAX)) as usize);
            for (i, word) in self
                .bind_ports
                .iter_mut()
                .enumerate()
                .take(to / 64 + 1)
                .skip(from / 64)
            {
                let low = from.saturating_sub(i * 64);
                let high = (to - i * 64).min(63);
                *word |= u64::MAX << low & u64::MAX >> (63 - high);
            }
        }
    }

    /// The ports of a rule; `None` where there are none to ask for.
    fn of(&self, id: u32, ports: Ports) -> Option<&Ranges> {
        let e = &self.rules[id as usize];
        match ports {
            Ports::Ip => Some(&self.ranges[e.ip]),
            Ports::Vsock => Some(&self.ranges[e.vsock]),
            Ports::None => None,
        }
    }

    /// Writes the index. Says which rules are in it: those that are not are
    /// always behind others.
    pub fn write(&self, out: &mut Sections) -> Vec<bool> {
        let mut w = Writer {
            cells: self,
            out,
            lists: BTreeMap::new(),
            contents: BTreeMap::new(),
            reached: vec![false; self.rules.len()],
        };
        w.out
            .of(section::BIND_PORTS)
            .extend_from_slice(&self.bind_ports);
        // Offset 0 is the empty list.
        w.out.of(section::LISTS).push(0);
        let mut directory = vec![0u64; Op::ALL.len() * Class::COUNT];
        let mut tries = Tries::default();
        for (p, ids) in &self.places {
            let conditional = ids.iter().filter(|id| w.condition(**id) != 0).count();
            let cell = w.cell(&Content {
                ids: ids.clone(),
                ports: Ports::of(p.class),
                reserved: p.reserved,
                buckets: conditional > BUCKET,
            });
            let root = &mut directory[p.op.index() * Class::COUNT + p.class as usize];
            *root = u64::from(tries.put(*root as u32, &p.prefix, cell, p.reserved));
        }
        *w.out.of(section::DIRECTORY) = directory;
        *w.out.of(section::NODES) = tries.words();
        w.reached
    }
}

struct Writer<'c, 'o> {
    cells: &'c Cells,
    out: &'o mut Sections,
    lists: BTreeMap<Vec<u64>, u64>,
    contents: BTreeMap<Content, u32>,
    reached: Vec<bool>,
}

impl Writer<'_, '_> {
    fn cell(&mut self, content: &Content) -> u32 {
        if let Some(&cell) = self.contents.get(content) {
            return cell;
        }
        let buckets = content.buckets.then(|| self.buckets(content));
        let always: Vec<u32>;
        let ids = match content.buckets {
            false => &content.ids,
            true => {
                let ids = content.ids.iter().copied();
                always = ids.filter(|&id| self.condition(id) == 0).collect();
                &always
            }
        };
        let (segments, mut flags) = match self.segments(ids, content) {
            Some(segments) => (segments, 0),
            None => {
                let all: Vec<u64> = ids.iter().map(|&id| self.word(id)).collect();
                for &id in ids {
                    self.write_ports(id, content.ports);
                }
                (vec![(0, all)], cell_flag::CHECK_PORTS)
            }
        };
        if buckets.is_some() {
            flags |= cell_flag::BUCKETS;
        }
        let mut words: Vec<u64> = Vec::new();
        for (start, list) in segments {
            for &e in &list {
                self.reached[(e >> 32) as usize] = true;
            }
            let list = self.list(list);
            // Neighbours with the same list are one.
            if words.last().is_some_and(|w| *w as u32 as u64 == list) {
                continue;
            }
            words.push(u64::from(start) << 32 | list);
        }
        let to = self.out.of(section::SEGMENTS);
        let word = (to.len() as u64) << 32 | flags | words.len() as u64;
        to.extend(words);
        let cells = self.out.of(section::CELLS);
        let cell = cells.len() as u32;
        cells.push(word);
        cells.extend(buckets);
        self.contents.insert(content.clone(), cell);
        cell
    }

    /// A cell for each condition in `content`; the place of their list.
    fn buckets(&mut self, content: &Content) -> u64 {
        let mut by: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for &id in &content.ids {
            if let Some(condition) = self.condition(id).checked_sub(1) {
                by.entry(condition).or_default().push(id);
            }
        }
        let cells: Vec<u64> = by
            .into_iter()
            .map(|(condition, ids)| {
                let cell = self.cell(&Content {
                    ids,
                    ports: content.ports,
                    reserved: content.reserved,
                    buckets: false,
                });
                u64::from(condition) << 32 | u64::from(cell)
            })
            .collect();
        let to = self.out.of(section::BUCKETS);
        let place = (to.len() as u64) << 32 | cells.len() as u64;
        to.extend(cells);
        place
    }

    /// A rule's condition + 1, or 0.
    fn condition(&self, id: u32) -> u32 {
        self.cells.rules[id as usize].condition
    }

    fn word(&self, id: u32) -> u64 {
        self.cells.rules[id as usize].word
    }

    fn ranges(&self, id: u32, content: &Content) -> &[(u32, u32)] {
        self.cells.of(id, content.ports).map_or(&[], |r| &r.list)
    }

    /// A list's offset.
    fn list(&mut self, list: Vec<u64>) -> u64 {
        if list.is_empty() {
            return 0;
        }
        if let Some(&at) = self.lists.get(&list) {
            return at;
        }
        let to = self.out.of(section::LISTS);
        let at = to.len() as u64;
        to.push(list.len() as u64);
        to.extend_from_slice(&list);
        self.lists.insert(list, at);
        at
    }

    /// Notes the ports of a rule for a cell that has to look at them.
    fn write_ports(&mut self, id: u32, ports: Ports) {
        let Some(words) = self.cells.of(id, ports).map(Ranges::words) else {
            return;
        };
        let at = self.list(words);
        let word = &mut self.out.of(section::RULES)[id as usize * RULE + 6];
        *word |= if ports == Ports::Vsock { at << 32 } else { at };
    }

    /// The lists by port. `None` if they would take too much room.
    fn segments(&self, ids: &[u32], content: &Content) -> Option<Vec<(u32, Vec<u64>)>> {
        let everywhere = |id: &u32| {
            content.reserved
                || content.ports == Ports::None
                || matches!(self.ranges(*id, content), [(0, u32::MAX)])
        };
        let mut active = Active::default();
        if ids.iter().all(everywhere) {
            for &id in ids {
                active.insert(self.word(id));
            }
            return Some(vec![(0, active.list())]);
        }
        // Port, whether the rule begins there, rule.
        let mut events: Vec<(u32, bool, u64)> = Vec::new();
        for &id in ids {
            for &(from, to) in self.ranges(id, content) {
                events.push((from, true, self.word(id)));
                if let Some(behind) = to.checked_add(1) {
                    events.push((behind, false, self.word(id)));
                }
            }
        }
        events.sort_unstable();
        let mut room = events.len() * BUDGET + 4096;
        let mut out = vec![(0, Vec::new())];
        let mut events = events.into_iter().peekable();
        while let Some((port, begins, word)) = events.next() {
            if begins {
                active.insert(word);
            } else {
                active.remove(word);
            }
            if events.peek().is_some_and(|(p, _, _)| *p == port) {
                continue;
            }
            let list = active.list();
            room = room.checked_sub(list.len() + 1)?;
            if port == 0 {
                out.clear();
            }
            out.push((port, list));
        }
        Some(out)
    }
}

/// The rules that hold at one port, by what they can hide of each other.
#[derive(Default)]
struct Active {
    /// By the lower half of the word: kinds and flags.
    groups: BTreeMap<u32, BTreeSet<u64>>,
}

impl Active {
    fn insert(&mut self, word: u64) {
        self.groups.entry(word as u32).or_default().insert(word);
    }

    fn remove(&mut self, word: u64) {
        if let Some(g) = self.groups.get_mut(&(word as u32)) {
            g.remove(&word);
            if g.is_empty() {
                self.groups.remove(&(word as u32));
            }
        }
    }

    /// The rules that can be the first to match, in order.
    fn list(&self) -> Vec<u64> {
        let mut all: Vec<u64> = Vec::new();
        for (bits, g) in &self.groups {
            // Of rules that always match the same, the first is enough.
            let plain = u64::from(*bits) & entry::PLAIN != 0;
            all.extend(g.iter().take(if plain { 1 } else { usize::MAX }));
        }
        all.sort_unstable();
        let mut covered = Covered::default();
        let mut noted = Covered::default();
        all.retain(|&e| {
            let note = e & entry::NOTE != 0;
            if covered.holds(e) || (note && noted.holds(e)) {
                return false;
            }
            if e & entry::PLAIN != 0 {
                if note { &mut noted } else { &mut covered }.add(e);
            }
            true
        });
        all
    }
}

/// Kinds of sockets for which an earlier rule always matches.
#[derive(Default)]
struct Covered {
    /// For what the program asks, and for what connect(2) brings along.
    asked: (u64, bool),
    implicit: (u64, bool),
}

impl Covered {
    fn add(&mut self, e: u64) {
        let any = e & entry::ANY_KIND != 0;
        let add = |to: &mut (u64, bool)| {
            to.0 |= widen(e & 0xffff);
            to.1 |= any;
        };
        add(&mut self.asked);
        if e & entry::IMPLICIT != 0 {
            add(&mut self.implicit);
        }
    }

    fn holds(&self, e: u64) -> bool {
        let holds = |c: (u64, bool)| c.1 || (e & entry::ANY_KIND == 0 && (e & 0xffff) & !c.0 == 0);
        holds(self.asked) && (e & entry::IMPLICIT == 0 || holds(self.implicit))
    }
}

/// The kinds that answer to these names and to narrower ones.
pub(super) fn widen(kinds: u64) -> u64 {
    let mut set = KindSet(u32::from(kinds as u16));
    if set.intersects(KindSet::TCP) {
        set = set | KindSet::TCP_ONLY | KindSet::MPTCP;
    }
    if set.intersects(KindSet::UDP) {
        set = set | KindSet::UDP_ONLY | KindSet::UDPLITE;
    }
    u64::from(set.names())
}
