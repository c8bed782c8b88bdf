//! Calls that are drawn one by one.

use bindgate_core::addr::{Addr, RawAddr};
use bindgate_core::model::script::Call;
use bindgate_core::model::{DeviceName, Opt};

use super::unix::UNIX;
use super::vsock::VSOCK;
use super::{BRIDGE6, LINK6};
use super::{Drawer, Theme};

pub(super) const TCP: [(i32, i32, i32); 4] = [(2, 1, 0), (10, 1, 0), (2, 1, 262), (10, 1, 262)];
pub(super) const UDP: [(i32, i32, i32); 4] = [(2, 2, 0), (10, 2, 0), (2, 2, 136), (10, 2, 136)];
pub(super) const OTHERS: [(i32, i32, i32); 13] = [
    (1, 1, 0),
    (1, 2, 0),
    (1, 5, 0),
    (1, 3, 0),
    (40, 1, 0),
    (40, 1, 0),
    (40, 5, 0),
    (16, 3, 0),
    (16, 2, 0),
    (2, 2, 1),
    (10, 2, 58),
    (2, 3, 255),
    (10, 3, 255),
];
/// Binding and closing one waits for a grace period: milliseconds.
pub(super) const PACKET: (i32, i32, i32) = (17, 3, 0);
pub(super) const ODD: [(i32, i32, i32); 18] = [
    (2, 5, 0),
    (2, 1, 17),
    (2, 3, 0),
    (10, 2, 6),
    (1, 1, 7),
    (1, 10, 0),
    (40, 3, 0),
    (40, 1, 3),
    (40, 2, 0),
    (46, 1, 0),
    (16, 1, 0),
    (2, 1, 300),
    (16, 3, 40),
    (17, 1, 0),
    (2, 11, 0),
    (9, 1, 0),
    (10, 5, 0),
    (10, 3, 0),
];

impl Drawer<'_> {
    pub(super) fn socket(&mut self, var: usize) -> Call {
        if self.rng.below(400) == 0 {
            self.kinds[var] = Some((0, 0, 0));
            return Call::File;
        }
        let other = self.theme != Theme::Crowd && self.rng.chance(12);
        let (domain, ty, protocol) = match self.theme {
            _ if self.rng.below(1000) == 0 => PACKET,
            // A little of everything everywhere.
            _ if other => match self.rng.below(4) {
                0 => self.rng.of(&TCP),
                1 => self.rng.of(&UDP),
                _ => self.rng.of(&OTHERS),
            },
            Theme::Crowd => self.rng.of(&UDP[..2]),
            Theme::Cache => self.rng.of(&[TCP[0], TCP[0], TCP[1]]),
            Theme::Tcp => self.rng.of(&TCP),
            Theme::Udp => self.rng.of(&UDP),
            Theme::Connect | Theme::Again => self
                .rng
                .of(&[TCP[0], TCP[0], TCP[1], TCP[2], TCP[3], UDP[0], UDP[1]]),
            Theme::Others => self.rng.of(&OTHERS),
            Theme::Unix | Theme::UnixFull => self.rng.of(&UNIX),
            Theme::Vsock => self.rng.of(&VSOCK),
            _ if self.rng.chance(20) => self.rng.of(&OTHERS),
            _ if self.rng.chance(3) => self.rng.of(&ODD),
            _ if self.rng.chance(60) => self.rng.of(&TCP),
            _ => self.rng.of(&UDP),
        };
        self.bound[var] = None;
        if !ODD.contains(&(domain, ty, protocol)) {
            self.kinds[var] = Some((domain, ty, protocol));
        }
        let mut ty = ty;
        if self.rng.chance(1) {
            ty |= 0x40;
        }
        Call::Socket {
            domain,
            ty,
            protocol,
        }
    }

    /// What this theme does more often than others: connections.
    pub(super) fn connection(&mut self, var: usize, kind: (i32, i32, i32)) -> Option<Call> {
        let connects = matches!(kind.0, 2 | 10);
        let everywhere = connects && self.rng.chance(if kind.1 == 1 { 2 } else { 6 });
        if everywhere {
            return self.anywhere(kind);
        }
        if !matches!(self.theme, Theme::Connect | Theme::Again) || !connects {
            return None;
        }
        Some(match self.rng.below(100) {
            0..26 => Call::Connect {
                bytes: match self.rng.below(100) {
                    0..12 => vec![0; 16],
                    12..75 => self.where_one_listens(kind)?,
                    _ => return self.anywhere(kind),
                },
            },
            26..46 => {
                let from = self.listener().unwrap_or(self.rng.below(self.kinds.len()));
                if from == var || self.kinds[from].is_none() {
                    return None;
                }
                self.kinds[var] = self.kinds[from];
                self.bound[var] = None;
                Call::Accept { from }
            }
            46..56 => Call::Shutdown(self.rng.below(3) as u8),
            56..61 => Call::Listen,
            61..65 => Call::Set(Opt::LingerZero(self.rng.chance(70))),
            65..70 => Call::Close,
            _ => return None,
        })
    }

    /// A connect to any address at all.
    fn anywhere(&mut self, kind: (i32, i32, i32)) -> Option<Call> {
        match self.bind(kind) {
            Call::Bind { mut bytes, .. } => {
                // Another host.
                if self.rng.chance(10) {
                    match &mut bytes[..] {
                        [2, 0, _, _, ip @ ..] if ip.len() >= 4 => {
                            let [a, b] = self.rng.of(&[[10, 9], [10, 9], [10, 0], [9, 9]]);
                            ip[..4].copy_from_slice(&[a, 1, 1, b]);
                        }
                        [10, 0, _, _, _, _, _, _, ip @ ..] if ip.len() >= 16 => {
                            let six = self.rng.of(&[BRIDGE6, LINK6]);
                            ip[..16].copy_from_slice(&six);
                            ip[15] = 9;
                        }
                        _ => {}
                    }
                }
                Some(Call::Connect { bytes })
            }
            _ => None,
        }
    }

    /// A variable that was told to listen.
    pub(super) fn listener(&mut self) -> Option<usize> {
        let listens = |v: &usize| matches!(self.bound[*v], Some((_, true)));
        let all: Vec<_> = (0..self.bound.len()).filter(listens).collect();
        (!all.is_empty()).then(|| self.rng.of(&all))
    }

    /// An address where a listener should answer.
    pub(super) fn where_one_listens(&mut self, kind: (i32, i32, i32)) -> Option<Vec<u8>> {
        let to = self.listener()?;
        let (bytes, _) = self.bound[to].as_ref()?;
        let (port, mut ip) = match RawAddr::new(bytes)?.read()? {
            Addr::Inet {
                ip: [a, b, c, d],
                port,
            } => (port, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d]),
            Addr::Inet6 { ip, port, .. } => (port, ip),
            _ => return None,
        };
        if ip[12..] == [0; 4] {
            // A wildcard: of a dual-stack socket perhaps.
            let four = ip[10] == 255 || kind.0 == 2 || self.rng.chance(30);
            ip = [0; 16];
            ip[15] = 1;
            if four {
                ip[10..].copy_from_slice(&[255, 255, 127, 0, 0, 1]);
            }
        }
        let four = (ip[10] == 255).then(|| [ip[12], ip[13], ip[14], ip[15]]);
        let addr = match (kind.0, four) {
            (2, Some(ip)) => Addr::Inet { ip, port },
            (2, None) => return None,
            // UDP's IPv6 sockets take it.
            (_, Some(ip)) if kind.1 == 2 && self.rng.chance(40) => Addr::Inet { ip, port },
            _ => Addr::Inet6 {
                ip,
                port,
                flow: 0,
                scope: 0,
            },
        };
        let bytes = addr.write().bytes().to_vec();
        Some(bytes)
    }

    pub(super) fn call(&mut self, var: usize, kind: (i32, i32, i32)) -> Call {
        let special = self.connection(var, kind);
        let special = special.or_else(|| self.unix_connection(var, kind));
        if let Some(call) = special.or_else(|| self.vsock_connection(var, kind)) {
            return call;
        }
        match self.rng.below(100) {
            0 if self.rng.chance(20) => Call::BindNowhere {
                len: self.rng.of(&[0, 2, 16, 28, 128, 129, -1]),
            },
            0..35 => Call::Set(self.option(kind)),
            35..73 => self.bind(kind),
            73..83 => Call::Listen,
            83..88 => {
                let of = self.rng.below(self.kinds.len());
                if self.kinds[of].is_none() || of == var {
                    return Call::Listen;
                }
                self.kinds[var] = self.kinds[of];
                Call::Dup { of }
            }
            88 => Call::Shutdown(self.rng.below(3) as u8),
            89 if self.rng.chance(50) => Call::Accept {
                from: self.rng.below(self.kinds.len()),
            },
            _ => Call::Close,
        }
    }

    pub(super) fn option(&mut self, kind: (i32, i32, i32)) -> Opt {
        let on = self.rng.chance(65);
        if self.theme == Theme::Cache && self.rng.chance(90) {
            return match self.rng.below(10) {
                0..3 => Opt::ReuseAddr(on),
                _ => Opt::ReusePort(on),
            };
        }
        if !matches!(kind.0, 2 | 10) || kind.1 == 3 || matches!(kind.2, 1 | 58) {
            return match self.rng.below(10) {
                0..6 => Opt::ReuseAddr(on),
                6..8 if kind.0 != 17 => Opt::ReusePort(on),
                8..9 if matches!(kind.0, 2 | 10) => Opt::FreeBind(on),
                8..9 if kind.0 != 17 => self.rng.of(&[Opt::PassCred(on), Opt::PassPidfd(on)]),
                // Another level's, or another family's.
                _ if !matches!(kind.0, 2 | 10) => self.rng.of(&[
                    Opt::V6Only(on),
                    Opt::FreeBind(on),
                    Opt::Transparent(on),
                    Opt::NoPort(on),
                    Opt::PortRange(0, 0),
                    Opt::Repair(on),
                    Opt::AttachReuseport,
                ]),
                _ => Opt::ReuseAddr(!on),
            };
        }
        match self.rng.below(100) {
            0..30 => Opt::ReuseAddr(on),
            30..62 => Opt::ReusePort(on),
            62..74 => Opt::V6Only(self.rng.chance(50)),
            // Seldom on what may be connected: packets would lose their way.
            74..79 if kind.1 == 1 && matches!(self.theme, Theme::Connect | Theme::Again) => {
                Opt::ReuseAddr(on)
            }
            74..80 => {
                let dev = self.world.bridge as i32;
                Opt::BindToIfIndex(self.rng.of(&[0, 1, dev, dev, 77, -1]))
            }
            80..81 => Opt::BindToDevice(DeviceName::new("no-such-device")),
            81..84 => Opt::FreeBind(on),
            84..86 => Opt::Transparent(on),
            86..92 => Opt::NoPort(on),
            92..96 => {
                let (lo, hi) = self.sysctls.range;
                let near = [0, lo, lo + 1, hi, hi.wrapping_sub(1), 5, 65535];
                Opt::PortRange(self.rng.of(&near), self.rng.of(&near))
            }
            96..98 if kind.2 == 0 && kind.1 == 1 => Opt::Repair(on),
            _ if kind.2 != 262 => Opt::AttachReuseport,
            _ => Opt::ReusePort(on),
        }
    }
}
