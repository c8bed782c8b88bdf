//! What is filled and asked: sockets of some sort, bound at some place.

use std::ffi::c_int;

#[derive(Clone, Copy)]
pub struct Sort {
    pub six: bool,
    pub udp: bool,
    pub reuseaddr: bool,
    pub reuseport: bool,
    /// FreeBSD's `IP_BINDANY`: any address is as good as the host's.
    pub bindany: bool,
    pub user: u32,
}

pub const PLAIN: Sort = Sort {
    six: false,
    udp: false,
    reuseaddr: false,
    reuseport: false,
    bindany: false,
    user: 0,
};
pub const REUSEADDR: Sort = Sort {
    reuseaddr: true,
    ..PLAIN
};
pub const REUSEPORT: Sort = Sort {
    reuseport: true,
    ..PLAIN
};

#[derive(Clone, Copy)]
pub struct At {
    pub ip: u32,
    pub port: u16,
}

impl At {
    pub fn bytes(self, six: bool) -> ([u8; 28], usize) {
        let mut b = [0; 28];
        let family = if six { libc::AF_INET6 } else { libc::AF_INET };
        b[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        b[2..4].copy_from_slice(&self.port.to_be_bytes());
        if !six {
            b[4..8].copy_from_slice(&self.ip.to_be_bytes());
        }
        (b, if six { 28 } else { 16 })
    }
}

/// Sockets, of the model or of the kernel.
pub trait World {
    type Socket: Copy;
    fn socket(&mut self, sort: Sort) -> Result<Self::Socket, String>;
    fn bind(&mut self, s: Self::Socket, at: At, six: bool) -> Result<(), c_int>;
    fn close(&mut self, s: Self::Socket);

    /// Makes and binds so many sockets, and keeps them.
    fn fill(&mut self, n: u32, which: &dyn Fn(u32) -> (Sort, At)) -> Result<(), String>;
    /// Closes what [`World::fill`] made.
    fn empty(&mut self);
}

pub fn fill_with<W: World>(
    w: &mut W,
    which: &dyn Fn(u32) -> (Sort, At),
    range: std::ops::Range<u32>,
    all: &mut Vec<W::Socket>,
) -> Result<(), String> {
    for i in range {
        let (sort, at) = which(i);
        let s = w.socket(sort).map_err(|e| format!("stopped at {i}: {e}"))?;
        all.push(s);
        if let Err(e) = w.bind(s, at, sort.six) {
            return Err(format!("stopped at {i}: errno {e}"));
        }
    }
    Ok(())
}

pub const fn any(port: u16) -> At {
    At { ip: 0, port }
}
