//! Connections of Unix sockets.

use bindgate_core::addr::{Addr, UnixName};
use bindgate_core::model::Opt;
use bindgate_core::model::script::Call;

use super::{Drawer, Theme};

/// Its streams more often than the rest, of which the last is a datagram one.
pub(super) const UNIX: [(i32, i32, i32); 6] = [
    (1, 1, 0),
    (1, 1, 0),
    (1, 5, 0),
    (1, 2, 0),
    (1, 2, 0),
    (1, 3, 0),
];

impl Drawer<'_> {
    /// Something that is bound to get a connection, and others.
    pub(super) fn serve_unix(&mut self) -> Vec<(usize, Call)> {
        let kind = self.rng.of(&UNIX);
        let mut calls = vec![self.make(0, kind)];
        for var in 1..6 {
            let kind = if self.rng.chance(60) {
                kind
            } else {
                self.rng.of(&UNIX)
            };
            calls.push(self.make(var, kind));
        }
        calls.push((0, self.bind(kind)));
        calls.push((0, Call::Listen));
        calls
    }

    /// More connections than a listener's queue holds.
    pub(super) fn fill_unix(&mut self) -> Vec<(usize, Call)> {
        let kind = self.rng.of(&UNIX[..3]);
        let bytes = Addr::Unix(UnixName::abstract_(b"full").unwrap_or(UnixName::AUTO));
        let bytes = bytes.write().bytes().to_vec();
        let bind = Call::Bind {
            bytes: bytes.clone(),
            len: None,
        };
        let mut calls = vec![self.make(0, kind), (0, bind), (0, Call::Listen)];
        for var in 1..19 {
            calls.push(self.make(var, kind));
            calls.push((
                var,
                Call::Connect {
                    bytes: bytes.clone(),
                },
            ));
        }
        calls
    }

    /// What Unix sockets do besides binding.
    pub(super) fn unix_connection(&mut self, var: usize, kind: (i32, i32, i32)) -> Option<Call> {
        let percent = if self.theme == Theme::Unix { 70 } else { 30 };
        if kind.0 != 1 || !self.rng.chance(percent) {
            return None;
        }
        Some(match self.rng.below(100) {
            0..50 => Call::Connect {
                bytes: self.unix_target(kind),
            },
            50..66 => {
                let from = self.unix_bound(true)?;
                if from == var {
                    return None;
                }
                self.kinds[var] = self.kinds[from];
                self.bound[var] = None;
                Call::Accept { from }
            }
            66..74 => Call::Listen,
            74..80 => Call::Shutdown(self.rng.below(3) as u8),
            80..92 => {
                let on = self.rng.chance(80);
                Call::Set(self.rng.of(&[Opt::PassCred(on), Opt::PassPidfd(on)]))
            }
            _ => Call::Close,
        })
    }

    fn unix_target(&mut self, kind: (i32, i32, i32)) -> Vec<u8> {
        let known = self.unix_bound(false).and_then(|v| self.bound[v].clone());
        match (self.rng.below(100), known) {
            (0..65, Some((bytes, _))) => bytes,
            (65..73, _) => vec![0; self.rng.of(&[2, 2, 3, 16])],
            (73..78, _) => {
                let mut bytes = vec![0; self.rng.of(&[0, 1, 2, 3, 110, 111, 128])];
                for (to, from) in bytes.iter_mut().zip([1, 0, 0, b'x']) {
                    *to = from;
                }
                bytes
            }
            _ => match self.bind(kind) {
                Call::Bind { bytes, .. } => bytes,
                _ => Vec::new(),
            },
        }
    }

    /// A variable whose Unix socket was bound, and perhaps listens.
    fn unix_bound(&mut self, listens: bool) -> Option<usize> {
        let fits = |v: &usize| match &self.bound[*v] {
            Some((bytes, told)) => bytes.first() == Some(&1) && (*told || !listens),
            None => false,
        };
        let all: Vec<_> = (0..self.bound.len()).filter(fits).collect();
        (!all.is_empty()).then(|| self.rng.of(&all))
    }
}
