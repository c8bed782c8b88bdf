//! The ports of a run that has ports of its own.
//!
//! A port that a program names stands for another one of the run's block
//! ([`crate::judge::block`]): a wildcard listener of the machine has its port on
//! every address of 127/8, and would be in the way of the run's, or be reached by
//! its clients; and ports below 1024 are not everybody's. The real ports are
//! those beyond the usual range of automatic ones ([`AUTOMATIC`]), where hardly
//! anybody is. What stands for what is decided once, by whoever names the port
//! first, and lasts as long as the run: so all who name it go to the same place,
//! and the kernel decides between them.

use core::ops::RangeInclusive;
use core::sync::atomic::{
    AtomicU16,
    Ordering::{Relaxed, SeqCst},
};

/// Where the kernel takes automatic ports from, as it comes. Such a port stands for
/// itself, unless somebody outside has it.
pub const AUTOMATIC: RangeInclusive<u16> = 32768..=60999;
/// The first of the real ports that stand for others.
const FIRST: u16 = *AUTOMATIC.end() + 1;
/// How many there are; where they are used up, others will do.
const COUNT: u16 = u16::MAX - FIRST + 1;
/// The first of those.
const LOWEST: u16 = 1024;

/// Several addresses, in the place of the one that is kept.
pub const MANY: u16 = u16::MAX;

/// TCP and MPTCP, or UDP and UDP-Lite: each has ports of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// The ports of one [`Kind`].
#[repr(C)]
struct Table {
    /// The real port of each that a program named; 0: itself, or not known yet.
    real: [AtomicU16; 65536],
    /// The port that each real one stands for; 0: itself, or none.
    virt: [AtomicU16; 65536],
    /// How the port was ever held: bits of [`crate::judge::block::held`].
    held: [AtomicU16; 65536],
    /// The last address but 127.0.0.1 that it was bound at.
    last: [AtomicU16; 65536],
}

/// See the module.
#[repr(C, align(4096))]
pub struct Ports {
    tcp: Table,
    udp: Table,
}

impl Ports {
    #[cfg(any(test, loom))]
    pub(super) fn new() -> Ports {
        let zero = || [const { AtomicU16::new(0) }; 65536];
        let table = || Table {
            real: zero(),
            virt: zero(),
            held: zero(),
            last: zero(),
        };
        Ports {
            tcp: table(),
            udp: table(),
        }
    }

    /// Knows what another one knows.
    pub fn copy(&self, other: &Ports) {
        for (to, from) in [(&self.tcp, &other.tcp), (&self.udp, &other.udp)] {
            for (to, from) in [
                (&to.real, &from.real),
                (&to.virt, &from.virt),
                (&to.held, &from.held),
                (&to.last, &from.last),
            ] {
                for (to, from) in to.iter().zip(from) {
                    match from.load(Relaxed) {
                        0 => {}
                        known => to.store(known, Relaxed),
                    }
                }
            }
        }
    }

    fn of(&self, kind: Kind) -> &Table {
        match kind {
            Kind::Tcp => &self.tcp,
            Kind::Udp => &self.udp,
        }
    }

    /// The real port that stands for one that a program names, from now on.
    #[must_use]
    pub fn real(&self, kind: Kind, port: u16) -> u16 {
        let table = self.of(kind);
        match get(&table.real, port) {
            0 if port == 0 || AUTOMATIC.contains(&port) => port,
            0 => table.choose(port, 0),
            real => real,
        }
    }

    /// Another real port for `port`, since somebody outside the run has `taken`.
    #[must_use]
    pub fn instead(&self, kind: Kind, port: u16, taken: u16) -> u16 {
        self.of(kind).choose(port, taken)
    }

    /// The port that a real one of the run's stands for.
    #[must_use]
    pub fn virt(&self, kind: Kind, real: u16) -> u16 {
        let table = self.of(kind);
        match get(&table.virt, real) {
            0 if real == 0 => 0,
            0 => table.adopt(real),
            virt => virt,
        }
    }

    /// Says that a port is held, or about to be, in a way, and asks in which ways
    /// it ever was before. `first` are bits that go along if there was none of `group`.
    pub fn hold(&self, kind: Kind, port: u16, bit: u16, group: u16, first: u16) -> u16 {
        let Some(held) = self.of(kind).held.get(usize::from(port)) else {
            return u16::MAX;
        };
        let mut before = held.load(Relaxed);
        while before & bit == 0 {
            let first = if before & group == 0 { first } else { 0 };
            match held.compare_exchange(before, before | bit | first, SeqCst, SeqCst) {
                Ok(_) => break,
                Err(now) => before = now,
            }
        }
        before
    }

    /// In which ways the port was ever held.
    #[must_use]
    pub fn held(&self, kind: Kind, port: u16) -> u16 {
        self.of(kind)
            .held
            .get(usize::from(port))
            .map_or(u16::MAX, |held| held.load(SeqCst))
    }

    /// Takes bits back of what [`Self::held`] says.
    pub fn release(&self, kind: Kind, port: u16, bits: u16) {
        if let Some(held) = self.of(kind).held.get(usize::from(port)) {
            held.fetch_and(!bits, SeqCst);
        }
    }

    /// Keeps an address at which the port is bound; [`MANY`] where there was another.
    pub fn keep_last(&self, kind: Kind, port: u16, last: u16) {
        let Some(kept) = self.of(kind).last.get(usize::from(port)) else {
            return;
        };
        if let Err(before) = kept.compare_exchange(0, last, SeqCst, SeqCst)
            && before != last
        {
            kept.store(MANY, SeqCst);
        }
    }

    /// The address that was kept.
    #[must_use]
    pub fn last(&self, kind: Kind, port: u16) -> u16 {
        get(&self.of(kind).last, port)
    }
}

fn get(table: &[AtomicU16; 65536], at: u16) -> u16 {
    table
        .get(usize::from(at))
        .map_or(0, |port| port.load(SeqCst))
}

/// Makes an entry if it is `from`: did it come to be `to`, by whomever?
fn put(table: &[AtomicU16; 65536], at: u16, from: u16, to: u16) -> Result<(), u16> {
    match table.get(usize::from(at)) {
        Some(entry) => match entry.compare_exchange(from, to, SeqCst, SeqCst) {
            Err(now) if now != to => Err(now),
            _ => Ok(()),
        },
        None => Err(0),
    }
}

impl Table {
    /// Finds a real port for `port`, whose real one was `before`.
    #[cold]
    #[inline(never)]
    fn choose(&self, port: u16, before: u16) -> u16 {
        let from = match before.checked_sub(FIRST) {
            Some(last) => last + 1,
            None => port % COUNT,
        };
        // One that stands for itself is not written down.
        let written = match before == port && AUTOMATIC.contains(&port) {
            true => 0,
            false => before,
        };
        let beyond = (0..COUNT).map(|n| FIRST + (from + n) % COUNT);
        let others = (LOWEST..*AUTOMATIC.start()).rev();
        for real in beyond.chain(others) {
            // One's own, of somebody who was interrupted, will do.
            if real == before || put(&self.virt, real, 0, port).is_err() {
                continue;
            }
            match put(&self.real, port, written, real) {
                Ok(()) => return real,
                Err(now) => {
                    // Somebody else was faster.
                    let _ = put(&self.virt, real, port, 0);
                    return now;
                }
            }
        }
        port
    }

    /// The name of a port that the kernel chose: its own, unless that stands for
    /// another one.
    #[inline]
    fn adopt(&self, real: u16) -> u16 {
        match get(&self.real, real) {
            0 if AUTOMATIC.contains(&real) => real,
            now if now == real => real,
            _ => self.adopt_as(real),
        }
    }

    #[cold]
    #[inline(never)]
    fn adopt_as(&self, real: u16) -> u16 {
        for virt in core::iter::once(real).chain(AUTOMATIC.rev()) {
            if virt != real && get(&self.virt, virt) == virt {
                continue;
            }
            if put(&self.real, virt, 0, real).is_ok() {
                return match put(&self.virt, real, 0, virt) {
                    Ok(()) => virt,
                    // Somebody else has named it.
                    Err(now) => {
                        let _ = put(&self.real, virt, real, 0);
                        now
                    }
                };
            }
        }
        real
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const KIND: Kind = Kind::Tcp;

    #[test]
    fn an_automatic_port_that_somebody_outside_has_becomes_another() {
        with(|ports| {
            assert_eq!(ports.real(KIND, 40_001), 40_001);
            let real = ports.instead(KIND, 40_001, 40_001);
            assert!(real >= FIRST, "{real}");
            assert_eq!(ports.real(KIND, 40_001), real);
            assert_eq!(ports.virt(KIND, real), 40_001);
            let other = ports.instead(KIND, 40_001, real);
            assert!(other >= FIRST && other != real, "{other}");
            assert_eq!(ports.virt(KIND, other), 40_001);
        });
    }

    fn with(f: impl FnOnce(&Ports) + Send + 'static) {
        std::thread::Builder::new()
            .stack_size(16 << 20)
            .spawn(|| f(&Ports::new()))
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn every_port_stands_for_one_and_back() {
        with(|ports| {
            for port in [1, 22, 80, 443, 3000, 5432, 8080, 32767, 61000, 65535] {
                let real = ports.real(KIND, port);
                assert!(real >= FIRST, "{port} {real}");
                assert_eq!(ports.real(KIND, port), real);
                assert_eq!(ports.virt(KIND, real), port);
                assert_ne!(ports.virt(Kind::Udp, real), 0);
            }
            assert_eq!(ports.real(KIND, 0), 0);
            assert_eq!(ports.virt(KIND, 0), 0);
            assert_eq!(
                (ports.real(KIND, 40000), ports.virt(KIND, 40000)),
                (40000, 40000)
            );
        });
    }

    #[test]
    fn all_ports_at_once_have_each_their_own() {
        with(|ports| {
            let mut seen = std::vec![false; 65536];
            // As many as there are real ports.
            for port in 1..=65535 - LOWEST {
                let real = ports.real(KIND, port);
                assert!(real != 0 && !std::mem::replace(&mut seen[usize::from(real)], true));
                assert_eq!(ports.virt(KIND, real), port, "{port} at {real}");
            }
        });
    }

    #[test]
    fn a_port_that_is_taken_outside_gets_another_one() {
        with(|ports| {
            let real = ports.real(KIND, 8080);
            let other = ports.instead(KIND, 8080, real);
            assert_ne!(other, real);
            assert_eq!(ports.real(KIND, 8080), other);
            assert_eq!([real, other].map(|r| ports.virt(KIND, r)), [8080; 2]);
            // Whoever comes late gets the same.
            assert_eq!(ports.instead(KIND, 8080, real), other);
            // One of the automatic range, too.
            let other = ports.instead(KIND, 40000, 0);
            assert_eq!(ports.real(KIND, 40000), other);
            // The kernel gives that port to somebody else: then it has another name.
            let named = ports.virt(KIND, 40000);
            assert_ne!(named, 40000);
            assert_eq!(ports.real(KIND, named), 40000);
        });
    }

    #[test]
    fn an_automatic_port_of_another_range_keeps_its_number() {
        with(|ports| {
            assert_eq!(ports.virt(KIND, 20000), 20000);
            assert_eq!(ports.real(KIND, 20000), 20000);
            // Unless it stands for another one already.
            let real = ports.real(KIND, 20001);
            let named = ports.virt(KIND, 20001);
            assert_ne!(named, 20001);
            assert_eq!(
                (ports.real(KIND, 20001), ports.real(KIND, named)),
                (real, 20001)
            );
        });
    }

    #[test]
    fn threads_agree_on_every_port() {
        with(|ports| {
            let reals = std::thread::scope(|scope| {
                let work = |step: u16| {
                    move || -> std::vec::Vec<u16> {
                        let mut reals = std::vec![0; 3000];
                        for n in 0..3000u16 {
                            let port = 1 + n.wrapping_mul(step) % 3000;
                            reals[usize::from(port) - 1] = ports.real(KIND, port);
                        }
                        reals
                    }
                };
                let all: std::vec::Vec<_> = [1, 7, 11, 13]
                    .map(|step| scope.spawn(work(step)))
                    .into_iter()
                    .collect();
                all.into_iter()
                    .map(|t| t.join().unwrap())
                    .collect::<std::vec::Vec<_>>()
            });
            assert!(reals.iter().all(|r| *r == reals[0]));
            for (n, real) in reals[0].iter().enumerate() {
                assert_eq!(usize::from(ports.virt(KIND, *real)), n + 1);
            }
        });
    }

    #[test]
    fn the_first_way_of_holding_a_port_is_kept() {
        with(|ports| {
            assert_eq!(ports.hold(KIND, 80, 1, 3, 4), 0);
            assert_eq!(ports.hold(KIND, 80, 2, 3, 8), 1 | 4);
            assert_eq!(ports.held(KIND, 80), 7);
            ports.release(KIND, 80, 2);
            assert_eq!(ports.held(KIND, 80), 5);
        });
    }
}
