//! The index: which rules can match which addresses and ports.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::Op;
use super::compile::Sections;
use super::footprint::{Footprint, Ranges};
use super::layout::{
    BIND_PORTS, Class, RESERVED_TUPLE, RULE, SLOT, cell_flag, entry, hash_key, section,
};
use crate::socket::KindSet;

/// Conditional rules in one cell, from which on each condition gets its own.
const BUCKET: usize = 8;
/// Entries that the lists of one cell may take for each of its rules, before
/// it becomes one list whose ports are looked at.
const BUDGET: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    op: Op,
    class: Class,
    /// Sorted behind the others: only some ports ask it.
    reserved: bool,
    len: u8,
    hi: u64,
    lo: u64,
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
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    ids: Vec<u32>,
    ports: Ports,
    reserved: bool,
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

    /// Puts the next rule where addresses find it.
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
        for (class, len, hi, lo) in at.spots {
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
                    reserved,
                    len,
                    hi,
                    lo,
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
        let mut keys: Vec<(u64, u64, u64, u32)> = Vec::new();
        let mut tuples: BTreeMap<(Op, Class), BTreeMap<(bool, u8), u32>> = BTreeMap::new();
        for (p, ids) in &self.places {
            let first = ids.first().copied().unwrap_or(0);
            let t = tuples.entry((p.op, p.class)).or_default();
            let min = t.entry((p.reserved, p.len)).or_insert(first);
            *min = (*min).min(first);
        }
        let mut numbers: BTreeMap<(Op, Class, bool, u8), u64> = BTreeMap::new();
        for ((op, class), t) in &tuples {
            let mut all: Vec<_> = t.iter().collect();
            all.sort_by_key(|(_, min)| **min);
            let to = w.out.of(section::TUPLES);
            let at = to.len() as u64;
            for ((reserved, len), min) in all {
                numbers.insert((*op, *class, *reserved, *len), to.len() as u64);
                let flag = if *reserved { RESERVED_TUPLE } else { 0 };
                to.push(u64::from(*min) << 32 | flag | u64::from(*len));
            }
            directory[op.index() * Class::COUNT + *class as usize] = at << 32 | t.len() as u64;
        }
        *w.out.of(section::DIRECTORY) = directory;
        for (p, ids) in &self.places {
            let number = numbers[&(p.op, p.class, p.reserved, p.len)] << 32;
            let ports = Ports::of(p.class);
            let unconditional = |id: &&u32| self.rules[**id as usize].condition == 0;
            let always: Vec<u32> = ids.iter().filter(unconditional).copied().collect();
            let buckets = ids.len() - always.len() > BUCKET;
            if buckets {
                let mut by: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
                for &id in ids {
                    let c = self.rules[id as usize].condition;
                    if c != 0 {
                        by.entry(c).or_default().push(id);
                    }
                }
                for (c, ids) in by {
                    let cell = w.cell(Content {
                        ids,
                        ports,
                        reserved: p.reserved,
                        buckets: false,
                    });
                    keys.push((number | u64::from(c), p.hi, p.lo, cell));
                }
            }
            let cell = w.cell(Content {
                ids: if buckets { always } else { ids.clone() },
                ports,
                reserved: p.reserved,
                buckets,
            });
            keys.push((number, p.hi, p.lo, cell));
        }
        let slots = hash_table(&keys);
        *w.out.of(section::SLOTS) = slots;
        w.reached
    }
}

fn hash_table(keys: &[(u64, u64, u64, u32)]) -> Vec<u64> {
    if keys.is_empty() {
        return Vec::new();
    }
    let n = (keys.len() * 2).next_power_of_two();
    let mut slots = vec![0u64; n * SLOT];
    for &(w, hi, lo, cell) in keys {
        let mut i = hash_key(w, hi, lo) as usize & (n - 1);
        while slots[i * SLOT + 3] != 0 {
            i = (i + 1) & (n - 1);
        }
        slots[i * SLOT..][..SLOT].copy_from_slice(&[w, hi, lo, u64::from(cell) + 1]);
    }
    slots
}

struct Writer<'c, 'o> {
    cells: &'c Cells,
    out: &'o mut Sections,
    lists: BTreeMap<Vec<u64>, u64>,
    contents: BTreeMap<Content, u32>,
    reached: Vec<bool>,
}

impl Writer<'_, '_> {
    fn cell(&mut self, content: Content) -> u32 {
        if let Some(&cell) = self.contents.get(&content) {
            return cell;
        }
        let (segments, mut flags) = match self.segments(&content) {
            Some(segments) => (segments, 0),
            None => {
                let all: Vec<u64> = content.ids.iter().map(|&id| self.word(id)).collect();
                for &id in &content.ids {
                    self.write_ports(id, content.ports);
                }
                (vec![(0, all)], cell_flag::CHECK_PORTS)
            }
        };
        if content.buckets {
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
        self.contents.insert(content, cell);
        cell
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
    fn segments(&self, content: &Content) -> Option<Vec<(u32, Vec<u64>)>> {
        let everywhere = |id: &u32| {
            content.reserved
                || content.ports == Ports::None
                || matches!(self.ranges(*id, content), [(0, u32::MAX)])
        };
        let mut active = Active::default();
        if content.ids.iter().all(everywhere) {
            for &id in &content.ids {
                active.insert(self.word(id));
            }
            return Some(vec![(0, active.list())]);
        }
        // Port, whether the rule begins there, rule.
        let mut events: Vec<(u32, bool, u64)> = Vec::new();
        for &id in &content.ids {
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
    let mut set = KindSet(kinds as u16);
    if set.intersects(KindSet::TCP) {
        set = set | KindSet::TCP_ONLY | KindSet::MPTCP;
    }
    if set.intersects(KindSet::UDP) {
        set = set | KindSet::UDP_ONLY | KindSet::UDPLITE;
    }
    u64::from(set.0)
}
