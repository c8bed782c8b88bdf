//! The model as a world.

use std::ffi::c_int;
use std::hint::black_box;

use bindgate_core::model::{Cred, Fd, Net, No, Opt, Pick, Pointer, SockId};

use crate::world::{At, PLAIN, Sort, World, any, fill_with};

pub struct Model<'m> {
    net: Net<'m>,
    lots: u32,
    /// Are binds counted?
    pub counted: bool,
    all: Vec<SockId>,
}

impl<'m> Model<'m> {
    pub fn on(net: Net<'m>) -> Model<'m> {
        Model {
            net,
            lots: 1,
            counted: false,
            all: Vec::new(),
        }
    }
}

impl World for Model<'_> {
    type Socket = SockId;

    fn socket(&mut self, sort: Sort) -> Result<SockId, String> {
        let domain = if sort.six {
            libc::AF_INET6
        } else {
            libc::AF_INET
        };
        let ty = 1 + c_int::from(sort.udp);
        let id = self
            .net
            .socket(domain, ty, 0, &cred(sort.user))
            .result
            .map_err(|e| e.to_string())?;
        for (on, opt) in [
            (sort.reuseaddr, Opt::ReuseAddr(true)),
            (sort.reuseport, Opt::ReusePort(true)),
            (sort.bindany, Opt::BsdBindAny(true)),
        ] {
            if on {
                let _ = self.net.setsockopt(id, opt, &Cred::ROOT);
            }
        }
        Ok(id)
    }

    fn bind(&mut self, s: SockId, at: At, six: bool) -> Result<(), c_int> {
        let (bytes, len) = at.bytes(six);
        self.lots = self
            .lots
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let call = if self.counted {
            bind_of_the_model
        } else {
            bind
        };
        call(&mut self.net, s, bytes.get(..len).unwrap_or(&[]), self.lots)
            .map_err(|e| e.errno().map_or(0, |e| c_int::from(e.linux())))
    }

    fn close(&mut self, s: SockId) {
        let _ = self.net.close(s);
    }

    fn fill(&mut self, n: u32, which: &dyn Fn(u32) -> (Sort, At)) -> Result<(), String> {
        let mut all = Vec::new();
        let filled = fill_with(self, which, 0..n, &mut all);
        self.all = all;
        filled
    }

    fn empty(&mut self) {
        for s in std::mem::take(&mut self.all) {
            self.close(s);
        }
    }
}

fn cred(user: u32) -> Cred {
    match user {
        0 => Cred::ROOT,
        uid => Cred::user(uid),
    }
}

/// What callgrind counts.
#[inline(never)]
#[unsafe(no_mangle)]
fn bind_of_the_model(net: &mut Net<'_>, s: SockId, addr: &[u8], lots: u32) -> Result<(), No> {
    // No tail call: callgrind must see the way back.
    black_box(bind(net, s, addr, lots))
}

#[inline(never)]
fn bind(net: &mut Net<'_>, s: SockId, addr: &[u8], lots: u32) -> Result<(), No> {
    black_box(net.bind(
        Fd::Socket(s),
        Pointer::to(addr),
        &Cred::ROOT,
        Pick::Random(lots >> 4),
    ))
    .result
}

/// Every port once: the tables' memory is there before anything is timed, as
/// that of a run is.
pub fn touch(w: &mut Model<'_>) {
    for udp in [false, true] {
        for port in 1..=u16::MAX {
            if let Ok(s) = w.socket(Sort { udp, ..PLAIN }) {
                let _ = w.bind(s, any(port), false);
                w.close(s);
            }
        }
    }
}
