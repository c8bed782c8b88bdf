//! The same call again and again in the same state: of the answers that the
//! model thinks possible each must come, and no other.

use bindgate_core::model::Opt;
use bindgate_core::model::script::Call;

use super::Drawer;
use super::calls::{TCP, UDP};
use super::narrow::At;

/// What the sequence begins with, and what is repeated.
type Parts = (Vec<(usize, Call)>, Vec<(usize, Call)>);

/// The socket that asks, the one that listens, the one that accepts.
const ASKER: usize = 0;
const SERVER: usize = 1;
const CHILD: usize = 2;
/// The first of those that have ports already.
const OTHERS: usize = 3;

impl Drawer<'_> {
    pub(super) fn lots(&mut self) -> Parts {
        if self.rng.chance(50) {
            self.lots_of_bind()
        } else {
            self.lots_of_connect()
        }
    }

    fn a_port(&mut self) -> u16 {
        let (lo, hi) = self.sysctls.range;
        lo + self.rng.below(usize::from(hi - lo) + 1) as u16
    }

    /// A range of the socket's own, in the namespace's.
    fn a_range(&mut self) -> Call {
        let (a, b) = (self.a_port(), self.a_port());
        let half = self.rng.chance(20);
        Call::Set(Opt::PortRange(a.min(b), if half { 0 } else { a.max(b) }))
    }

    fn lots_of_bind(&mut self) -> Parts {
        let kinds = self.rng.of(&[&TCP[..2], &TCP[..2], &UDP[..2]]);
        let at = [At::Any, At::Any, At::One, At::Two, At::Mapped];
        let mut before = Vec::new();
        let others = self.rng.below(12);
        let odd_first = self.rng.chance(40);
        for var in OTHERS..OTHERS + others {
            let kind = self.rng.of(kinds);
            before.push(self.make(var, kind));
            for (opt, percent) in [
                (Opt::ReuseAddr(true), 50),
                (Opt::ReusePort(true), 40),
                (Opt::V6Only(true), 15),
                (Opt::BindToIfIndex(1), 8),
            ] {
                if self.rng.chance(percent) {
                    before.push((var, Call::Set(opt)));
                }
            }
            let (lo, hi) = self.sysctls.range;
            let odd = lo + 1 + 2 * (var - OTHERS) as u16;
            let port = match odd_first && odd <= hi {
                true => odd,
                false => self.a_port(),
            };
            let bytes = self.rng.of(&at).write(kind, port, 0);
            before.push((var, Call::Bind { bytes, len: None }));
            if kind.1 == 1 && self.rng.chance(25) {
                before.push((var, Call::Listen));
            }
        }
        let kind = self.rng.of(kinds);
        let mut again = vec![self.make(ASKER, kind)];
        for (opt, percent) in [
            (Opt::ReuseAddr(true), 45),
            (Opt::ReusePort(true), 40),
            (Opt::V6Only(true), 15),
            (Opt::BindToIfIndex(1), 8),
        ] {
            if self.rng.chance(percent) {
                again.push((ASKER, Call::Set(opt)));
            }
        }
        if self.rng.chance(25) {
            again.push((ASKER, self.a_range()));
        }
        let bytes = self.rng.of(&at).write(kind, 0, 0);
        again.push((ASKER, Call::Bind { bytes, len: None }));
        again.push((ASKER, Call::Close));
        (before, again)
    }

    fn lots_of_connect(&mut self) -> Parts {
        let kind = self.rng.of(&TCP[..2]);
        let bind = |at: At, port| Call::Bind {
            bytes: at.write(kind, port, 0),
            len: None,
        };
        let connect = Call::Connect {
            bytes: At::One.write(kind, 5000, 0),
        };
        let mut before = vec![self.make(SERVER, kind)];
        before.extend([(SERVER, bind(At::One, 5000)), (SERVER, Call::Listen)]);
        let mut var = OTHERS;
        let even_first = self.rng.chance(40);
        for i in 0..self.rng.below(8) as u16 {
            before.push(self.make(var, kind));
            if even_first || self.rng.chance(60) {
                let (lo, hi) = self.sysctls.range;
                let port = match even_first && lo + 2 * i <= hi {
                    true => lo + 2 * i,
                    false => self.a_port(),
                };
                before.push((var, bind(At::One, port)));
            } else {
                before.extend([(var, connect.clone())]);
                before.push((var + 1, Call::Accept { from: SERVER }));
            }
            var += 2;
        }
        let mut again = vec![self.make(ASKER, kind)];
        again.push((ASKER, Call::Set(Opt::LingerZero(true))));
        if self.rng.chance(35) {
            again.push((ASKER, self.a_range()));
        }
        again.push((ASKER, connect));
        again.push((CHILD, Call::Accept { from: SERVER }));
        again.extend([(ASKER, Call::Close), (CHILD, Call::Close)]);
        (before, again)
    }
}
