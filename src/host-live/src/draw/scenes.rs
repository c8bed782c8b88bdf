//! Sequences of calls that chance alone makes too seldom.

use bindgate_core::addr::Addr;
use bindgate_core::model::Opt;
use bindgate_core::model::script::Call;

use super::Drawer;
use super::calls::{TCP, UDP};
use crate::kernel;

impl Drawer<'_> {
    pub(super) fn make(&mut self, var: usize, kind: (i32, i32, i32)) -> (usize, Call) {
        self.kinds[var] = Some(kind);
        let (domain, ty, protocol) = kind;
        let call = Call::Socket {
            domain,
            ty,
            protocol,
        };
        (var, call)
    }

    /// A listener, and five others.
    pub(super) fn serve(&mut self) -> Vec<(usize, Call)> {
        let kind = self.rng.of(&TCP);
        let mut calls = vec![self.make(0, kind)];
        for var in 1..6 {
            calls.push((var, self.socket(var)));
        }
        calls.push((0, self.bind(kind)));
        if self.rng.chance(8) {
            // What its children inherit.
            calls.push((0, Call::Shutdown(self.rng.of(&[1, 2]))));
        }
        calls.push((0, Call::Listen));
        calls
    }

    /// Twelve UDP sockets on two ports of one slot of the kernel's table; then
    /// their options change.
    pub(super) fn crowd(&mut self) -> Vec<(usize, Call)> {
        let mut calls = Vec::new();
        for var in 0..12 {
            let kind = self.rng.of(&UDP[..2]);
            calls.push(self.make(var, kind));
            calls.push((var, Call::Set(Opt::ReuseAddr(true))));
            calls.push((var, self.bind(kind)));
        }
        if self.rng.chance(50) {
            return calls;
        }
        for var in 0..12 {
            if self.rng.chance(50) {
                calls.push((var, Call::Set(Opt::ReuseAddr(false))));
            }
            if self.rng.chance(50) {
                calls.push((var, Call::Set(Opt::ReusePort(true))));
            }
        }
        // Others ask.
        for _ in 0..6 {
            let kind = self.rng.of(&UDP[..2]);
            calls.push(self.make(12, kind));
            if self.rng.chance(70) {
                calls.push((12, Call::Set(Opt::ReusePort(true))));
            }
            calls.push((12, self.bind(kind)));
        }
        calls
    }

    /// A connection from a fixed port; it ends in one way or another; the same
    /// connection again.
    pub(super) fn again(&mut self) -> Vec<(usize, Call)> {
        let kind = self.rng.of(&TCP);
        let mut one = [0; 16];
        one[15] = 1;
        let at = |port| {
            let addr = match kind.0 {
                2 => Addr::Inet {
                    ip: [127, 0, 0, 1],
                    port,
                },
                _ => Addr::Inet6 {
                    ip: one,
                    port,
                    flow: 0,
                    scope: 0,
                },
            };
            addr.write().bytes().to_vec()
        };
        let bind = |port| Call::Bind {
            bytes: at(port),
            len: None,
        };
        let mut calls: Vec<_> = (0..6).map(|var| self.make(var, kind)).collect();
        let on = Call::Set(Opt::ReuseAddr(true));
        let connect = Call::Connect { bytes: at(5000) };
        calls.extend([(0, bind(5000)), (0, Call::Listen), (1, on.clone())]);
        calls.extend([(1, bind(5001)), (1, connect.clone())]);
        calls.push((2, Call::Accept { from: 0 }));
        let (first, second) = self.rng.of(&[(1, 2), (2, 1)]);
        let how = |d: &mut Self| match d.rng.below(4) {
            0 => Call::Shutdown(d.rng.of(&[1, 2])),
            _ => Call::Close,
        };
        for (var, percent) in [(first, 80), (second, 75)] {
            if self.rng.chance(percent) {
                calls.push((var, how(self)));
            }
        }
        if self.rng.chance(20) {
            calls.push((0, Call::Close));
        }
        calls.extend([(3, on), (3, bind(5001)), (3, connect)]);
        calls.push((4, Call::Accept { from: 0 }));
        calls
    }
}

/// Takes the vsock ports that the kernel would try next, all of its tries.
pub(super) fn fill_vsock() -> Vec<(usize, Call)> {
    // Not while somebody else counts on the counter. The comparison asks for a
    // port, too, before it begins.
    let _alone = kernel::vsock_lock();
    let next = kernel::vsock_probe().unwrap_or(20000).wrapping_add(2);
    let mut calls = Vec::new();
    for var in 0..25 {
        let socket = Call::Socket {
            domain: 40,
            ty: 1,
            protocol: 0,
        };
        let port = if var < 24 {
            next.wrapping_add(var as u32)
        } else {
            u32::MAX
        };
        let addr = Addr::Vsock {
            cid: u32::MAX,
            port,
            flags: 0,
        };
        // The machine's own services.
        if matches!(port, 0..1024 | 2024 | 5001 | 5002) {
            continue;
        }
        let bytes = addr.write().bytes().to_vec();
        calls.extend([(var, socket), (var, Call::Bind { bytes, len: None })]);
    }
    calls
}
