//! Addresses and ports.

use bindgate_core::addr::{Addr, UnixName};
use bindgate_core::model::script::Call;

use super::{BRIDGE6, LINK6};
use super::{Drawer, Theme};

impl Drawer<'_> {
    pub(super) fn port(&mut self) -> u16 {
        let auto = if self.theme == Theme::Auto { 75 } else { 6 };
        if self.rng.chance(auto) {
            0
        } else {
            let ports = self.ports.clone();
            self.rng.of(&ports)
        }
    }

    pub(super) fn v4(&mut self) -> [u8; 4] {
        let common = [[0, 0, 0, 0], [127, 0, 0, 1], [127, 0, 0, 2], [10, 1, 1, 1]];
        let rare = [
            [255, 255, 255, 255],
            [224, 0, 0, 1],
            [127, 255, 255, 255],
            [10, 1, 1, 255],
            [10, 1, 1, 0],
            [0, 0, 0, 5],
            [240, 0, 0, 1],
            [8, 8, 8, 8],
            [127, 0, 0, 6],
        ];
        if self.theme == Theme::Cache {
            self.rng.of(&common[..2])
        } else if self.rng.chance(92) {
            self.rng.of(&common)
        } else {
            self.rng.of(&rare)
        }
    }

    pub(super) fn v6(&mut self) -> ([u8; 16], u32) {
        let mut one = [0; 16];
        one[15] = 1;
        let mut multicast = [0; 16];
        multicast[0] = 0xff;
        multicast[1] = self.rng.of(&[1, 2, 5, 0xe]);
        multicast[15] = 1;
        let mut foreign = BRIDGE6;
        foreign[15] = 9;
        let scope = self.rng.of(&[0, 0, 1, self.world.bridge, 77]);
        match self.rng.below(100) {
            0..30 => ([0; 16], 0),
            30..50 => (one, 0),
            50..80 => {
                let [a, b, c, d] = self.v4();
                ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d], scope)
            }
            80..88 => (BRIDGE6, scope),
            88..94 => (LINK6, scope),
            94..97 => (multicast, scope),
            _ => (foreign, 0),
        }
    }

    pub(super) fn other_address(&mut self, kind: (i32, i32, i32)) -> Option<Addr> {
        Some(match kind.0 {
            1 => {
                let n = self.rng.below(4);
                let name = match self.rng.below(10) {
                    0 | 1 => Some(UnixName::AUTO),
                    2..6 => UnixName::abstract_(&b"abcdef"[..n]),
                    _ => {
                        let names = [
                            "a", "b", "c", "no/x", "a/x", ".", "sub/", "loop/x", "ro/x", "shut/x",
                            "link",
                        ];
                        let path = format!("{}/{}", self.world.dir, self.rng.of(&names));
                        UnixName::path(path.as_bytes())
                    }
                };
                Addr::Unix(name?)
            }
            40 => {
                let own = self.world.host.vsock.cid.unwrap_or(3);
                Addr::Vsock {
                    cid: self.rng.of(&[u32::MAX, u32::MAX, own, own, 2, 1, 0, 77]),
                    port: self
                        .rng
                        .of(&[20000, 20000, 20001, 29999, u32::MAX, 80, 1023]),
                    flags: self.rng.of(&[0, 0, 0, 0, 0, 0, 1, 2]),
                }
            }
            16 => Addr::Netlink {
                pid: self.rng.of(&[0, 0, 7, 7, 8, u32::MAX - 5]),
                groups: self.rng.of(&[0, 0, 0, 1, 2, 1 << 29]),
            },
            17 => Addr::Packet {
                protocol: self.rng.of(&[0, 3]),
                ifindex: self.rng.of(&[0, 1, self.world.bridge, 77]),
            },
            _ => return None,
        })
    }

    pub(super) fn bind(&mut self, kind: (i32, i32, i32)) -> Call {
        if let Some(addr) = self.other_address(kind) {
            let bytes = addr.write().bytes().to_vec();
            let lens = [-1, 0, 1, 2, 3, 11, 12, 15, 16, 17, 20, 110, 111, 128, 129];
            let len = self.rng.chance(4).then(|| self.rng.of(&lens));
            return Call::Bind { bytes, len };
        }
        let port = self.port();
        let six = (kind.0 == 10) != self.rng.chance(2);
        let addr = if six {
            let (ip, scope) = self.v6();
            Addr::Inet6 {
                ip,
                port,
                flow: 0,
                scope,
            }
        } else {
            Addr::Inet {
                ip: self.v4(),
                port,
            }
        };
        let mut bytes = addr.write().bytes().to_vec();
        if self.rng.chance(1) {
            bytes[0] = self.rng.of(&[0, 1, 2, 10, 40]);
        }
        let len = self.rng.chance(2).then(|| {
            self.rng
                .of(&[-1, 0, 1, 2, 15, 16, 17, 23, 24, 27, 28, 29, 110, 128, 129])
        });
        Call::Bind { bytes, len }
    }
}

/// Would somebody answer at once? Foreign addresses answer never.
pub fn may_answer(bytes: &[u8]) -> bool {
    match bytes {
        [2, 0, _, _, ip @ ..] if ip.len() >= 4 => {
            matches!(ip[..4], [127, ..] | [10, 1, 1, 1] | [0, 0, 0, 0])
        }
        [10, 0, _, _, _, _, _, _, ip @ ..] if ip.len() >= 16 => match ip[..16] {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d] => {
                matches!([a, b, c, d], [127, ..] | [10, 1, 1, 1] | [0, 0, 0, 0])
            }
            _ => {
                let mut one = [0; 16];
                one[15] = 1;
                ip[..16] == one || ip[..16] == BRIDGE6 || ip[..16] == [0; 16]
            }
        },
        _ => true,
    }
}
