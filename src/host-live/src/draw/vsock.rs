//! Connections by vsock, in a guest where they come back.

use bindgate_core::addr::{Addr, RawAddr};
use bindgate_core::model::script::Call;

use super::{Drawer, Theme};

pub(super) const VSOCK: [(i32, i32, i32); 4] = [(40, 1, 0), (40, 1, 0), (40, 1, 0), (40, 5, 0)];

impl Drawer<'_> {
    /// Something that listens, sometimes with more who come than may wait.
    pub(super) fn serve_vsock(&mut self) -> Vec<(usize, Call)> {
        let kind = self.rng.of(&VSOCK);
        let mut calls = vec![self.make(0, kind)];
        let others = self
            .kinds
            .len()
            .min(if self.rng.chance(10) { 20 } else { 6 });
        for var in 1..others {
            let kind = match self.rng.chance(80) {
                true => kind,
                false => self.rng.of(&VSOCK),
            };
            calls.push(self.make(var, kind));
        }
        let at = self.rng.of(&[u32::MAX, u32::MAX, 1]);
        let addr = |cid, port| {
            let addr = Addr::Vsock {
                cid,
                port,
                flags: 0,
            };
            addr.write().bytes().to_vec()
        };
        let bytes = addr(at, 20000);
        calls.extend([(0, Call::Bind { bytes, len: None }), (0, Call::Listen)]);
        if others > 6 {
            let bytes = addr(1, 20000);
            let connect = Call::Connect { bytes };
            calls.extend((1..others).map(|var| (var, connect.clone())));
        }
        calls
    }

    /// What vsock sockets do besides binding.
    pub(super) fn vsock_connection(&mut self, var: usize, kind: (i32, i32, i32)) -> Option<Call> {
        let connects = self.world.vsock_loopback && kind.0 == 40;
        let percent = if self.theme == Theme::Vsock { 75 } else { 30 };
        if !connects || !self.rng.chance(percent) {
            return None;
        }
        Some(match self.rng.below(100) {
            0..45 => Call::Connect {
                bytes: self.vsock_target(kind)?,
            },
            45..65 => {
                let from = self.listener().unwrap_or(0);
                if from == var {
                    return None;
                }
                self.kinds[var] = self.kinds[from];
                self.bound[var] = None;
                Call::Accept { from }
            }
            65..72 => Call::Listen,
            72..84 => Call::Shutdown(self.rng.below(3) as u8),
            _ => Call::Close,
        })
    }

    fn vsock_target(&mut self, kind: (i32, i32, i32)) -> Option<Vec<u8>> {
        if self.rng.chance(20) {
            return match self.bind(kind) {
                Call::Bind { bytes, .. } => Some(bytes),
                _ => None,
            };
        }
        let all: Vec<_> = self
            .bound
            .iter()
            .flatten()
            .map(|(bytes, _)| bytes.clone())
            .collect();
        let at = all.get(self.rng.below(all.len()))?;
        let Addr::Vsock { port, .. } = RawAddr::new(at)?.read()? else {
            return None;
        };
        let cid = self.rng.of(&[1, 1, 1, 1, 2, 3]);
        let addr = Addr::Vsock {
            cid,
            port,
            flags: 0,
        };
        Some(addr.write().bytes().to_vec())
    }
}
