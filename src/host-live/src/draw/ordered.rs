//! Scenes whose calls come in an order.

use bindgate_core::model::Opt;
use bindgate_core::model::script::Call;

use super::Drawer;
use super::calls::{TCP, UDP};
use super::narrow::At;

/// Domain, type and protocol.
type Kind = (i32, i32, i32);
type Calls = Vec<(usize, Call)>;

const REUSEADDR: Opt = Opt::ReuseAddr(true);
const REUSEPORT: Opt = Opt::ReusePort(true);
const V6ONLY: Opt = Opt::V6Only(true);
const ON_LO: Opt = Opt::BindToIfIndex(1);

impl Drawer<'_> {
    fn sometimes(&mut self, calls: &mut Calls, var: usize, options: &[(Opt, u64)]) {
        for (opt, percent) in options {
            if self.rng.chance(*percent) {
                calls.push((var, Call::Set(*opt)));
            }
        }
    }

    fn bind_at(&mut self, at: &[At], kind: Kind, port: u16) -> Call {
        Call::Bind {
            bytes: self.rng.of(at).write(kind, port, 0),
            len: None,
        }
    }

    /// SO_REUSEPORT after bind() or listen(): the next one like it brings the
    /// socket into its group. A program on the group says who is in one.
    pub(super) fn late(&mut self) -> Calls {
        let kinds = self.rng.of(&[&TCP[..2], &UDP[..2], &UDP[2..]]);
        let at = [At::Any, At::Any, At::Any, At::One, At::Mapped];
        let mut calls = Vec::new();
        for var in 0..6 {
            let kind = self.rng.of(kinds);
            calls.push(self.make(var, kind));
            let before = if var < 3 { 30 } else { 95 };
            let options = [(V6ONLY, 25), (ON_LO, 12), (REUSEPORT, before)];
            self.sometimes(&mut calls, var, &options);
            calls.push((var, self.bind_at(&at, kind, 5000)));
            if kind.1 == 1 && self.rng.chance(85) {
                calls.push((var, Call::Listen));
            }
            self.sometimes(&mut calls, var, &[(REUSEPORT, 85)]);
        }
        calls.extend((0..6).map(|var| (var, Call::Set(Opt::AttachReuseport))));
        calls
    }

    /// What takes a UDP socket out of its group.
    pub(super) fn ungrouped(&mut self) -> Calls {
        let kinds = self.rng.of(&[&UDP[..2], &UDP[2..]]);
        let at = [At::Any, At::Any, At::One, At::Mapped];
        let attach = Call::Set(Opt::AttachReuseport);
        let kind = self.rng.of(kinds);
        let mut calls = vec![self.make(0, kind), (0, Call::Set(REUSEPORT))];
        calls.push((0, self.bind_at(&[At::Any], kind, 5000)));
        for var in 1..5 {
            let kind = self.rng.of(kinds);
            calls.push(self.make(var, kind));
            let options = [(REUSEPORT, 95), (Opt::AttachReuseport, 12)];
            self.sometimes(&mut calls, var, &options);
            if self.rng.chance(75) {
                let port = self.rng.of(&[5000, 5000, 0]);
                calls.push((var, self.bind_at(&at, kind, port)));
            }
            for _ in 0..1 + self.rng.below(2) {
                let call = match self.rng.below(5) {
                    0 | 1 => Call::Connect {
                        bytes: At::Four.write(kind, 5001, 0),
                    },
                    2 | 3 => Call::Connect { bytes: vec![0; 16] },
                    _ => Call::Set(ON_LO),
                };
                calls.push((var, call));
                calls.push((var, attach.clone()));
            }
            calls.push((var, self.bind_at(&[At::Any], kind, 5000)));
            calls.push((var, attach.clone()));
        }
        calls
    }

    /// Whom a TCP port remembers, when those before it share no more.
    pub(super) fn cached(&mut self) -> Calls {
        self.alone = Some(0);
        let at = [At::Any, At::Any, At::Mapped, At::One];
        let mut calls = Vec::new();
        for var in 0..7 {
            if var == 3 {
                for _ in 0..2 {
                    calls.push((self.rng.below(3), Call::Set(Opt::ReusePort(false))));
                }
            }
            let kind = self.rng.of(&TCP[..2]);
            calls.push(self.make(var, kind));
            self.sometimes(&mut calls, var, &[(V6ONLY, 40), (REUSEPORT, 95)]);
            calls.push((var, self.bind_at(&at, kind, 5000)));
        }
        calls
    }

    /// Several listeners that share a port: who serves?
    pub(super) fn servers(&mut self) -> Calls {
        self.alone = Some(0);
        let at = [At::Any, At::Any, At::One, At::Mapped, At::MappedAny];
        let mut calls = Vec::new();
        for var in 0..3 {
            let kind = self.rng.of(&TCP[..2]);
            calls.push(self.make(var, kind));
            self.sometimes(&mut calls, var, &[(REUSEPORT, 95), (V6ONLY, 15)]);
            calls.push((var, self.bind_at(&at, kind, 5000)));
            calls.push((var, Call::Listen));
        }
        for _ in 0..4 {
            let kind = self.rng.of(&TCP[..2]);
            calls.push(self.make(3, kind));
            let at = self.rng.of(&[At::One, At::Mapped]);
            let bytes = at.write(kind, 5000, 0);
            calls.push((3, Call::Connect { bytes }));
            calls.extend((0..3).map(|from| (4, Call::Accept { from })));
        }
        calls
    }

    /// More clients than a listener's queue holds; then some are accepted.
    pub(super) fn crowded(&mut self) -> Calls {
        let kind = self.rng.of(&TCP);
        let at = [At::Any, At::One];
        let mut calls = vec![self.make(0, kind), (0, self.bind_at(&at, kind, 5000))];
        calls.push((0, Call::Listen));
        let connect = Call::Connect {
            bytes: At::One.write(kind, 5000, 0),
        };
        // One variable for all: what it held waits on, closed by its client.
        for i in 0..20 {
            let var = 1 + i % 5;
            calls.push(self.make(var, kind));
            calls.push((var, connect.clone()));
        }
        for var in 1..6 {
            let call = match self.rng.below(5) {
                0 => Call::Listen,
                1 => connect.clone(),
                2 => Call::Shutdown(2),
                3 => Call::Connect { bytes: vec![0; 16] },
                _ => Call::Accept { from: 0 },
            };
            calls.push((var, call));
        }
        calls
    }

    /// Sockets that got the same port and want the same connection.
    pub(super) fn one_port_for_two(&mut self) -> Calls {
        let kind = self.rng.of(&TCP[..2]);
        let mut calls = vec![self.make(0, kind)];
        calls.push((0, self.bind_at(&[At::One], kind, 5000)));
        calls.push((0, Call::Listen));
        let connect = Call::Connect {
            bytes: At::One.write(kind, 5000, 0),
        };
        for var in 1..5 {
            calls.push(self.make(var, kind));
            self.sometimes(&mut calls, var, &[(REUSEADDR, 90), (Opt::NoPort(true), 10)]);
            if self.rng.chance(85) {
                let at = [At::One, At::One, At::Any, At::Two];
                calls.push((var, self.bind_at(&at, kind, 0)));
            }
            calls.extend([(var, connect.clone()), (6, Call::Accept { from: 0 })]);
        }
        calls
    }
}
