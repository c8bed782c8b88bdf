//! Scenes of one kind: a few sockets, one or two ports, and of all the calls
//! those that matter to each other.

use bindgate_core::addr::Addr;
use bindgate_core::model::Opt;
use bindgate_core::model::script::Call;

use super::Drawer;
use super::LINK6;
use super::calls::{PACKET, TCP, UDP};

/// Domain, type and protocol.
type Kind = (i32, i32, i32);

/// An address as a socket of either family can name it.
#[derive(Clone, Copy)]
pub(super) enum At {
    Any,
    /// 127.0.0.1 or ::1.
    One,
    /// 127.0.0.2.
    Two,
    /// An IPv6 socket's 127.0.0.1.
    Mapped,
    MappedAny,
    /// fe80::1 of the bridge.
    Link,
    /// An address of family AF_INET even for IPv6 sockets.
    Four,
    FourAny,
}

impl At {
    pub(super) fn write(self, kind: Kind, port: u16, dev: u32) -> Vec<u8> {
        let four = match self {
            At::Any | At::MappedAny | At::FourAny => [0; 4],
            At::One | At::Mapped | At::Link | At::Four => [127, 0, 0, 1],
            At::Two => [127, 0, 0, 2],
        };
        let [a, b, c, d] = four;
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d];
        let ip = match self {
            _ if kind.0 == 2 => None,
            At::Four | At::FourAny => None,
            At::Any => Some([0; 16]),
            At::One => Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            At::Two | At::Mapped | At::MappedAny => Some(mapped),
            At::Link => Some(LINK6),
        };
        let addr = match ip {
            None => Addr::Inet { ip: four, port },
            Some(ip) => Addr::Inet6 {
                ip,
                port,
                flow: 0,
                scope: if ip == LINK6 { dev } else { 0 },
            },
        };
        addr.write().bytes().to_vec()
    }
}

#[derive(Clone, Copy)]
enum Do {
    ReuseAddr,
    ReusePort,
    V6Only,
    Device,
    Attach,
    NoPort,
    Repair,
    Linger,
    Bind,
    Listen,
    /// shutdown(2)
    Shut,
    /// connect(2) to AF_UNSPEC
    Leave,
    Connect,
    Accept,
    /// Another socket in its place.
    Anew,
    /// What other families' binds are drawn from.
    Other,
}

struct Scene {
    kinds: &'static [Kind],
    vars: usize,
    /// Where is bound, and to where is connected.
    at: &'static [At],
    to: &'static [At],
    ports: &'static [u16],
    /// With weights.
    calls: &'static [(Do, usize)],
    /// Begins with a listener on port 5000.
    served: bool,
    /// A range of one to three automatic ports.
    tiny: bool,
}

/// How many there are, with those of `ordered.rs`.
pub(super) const COUNT: usize = SCENES.len() + ORDERED;
const ORDERED: usize = 8;

const SCENES: &[Scene] = &[
    // Which reuseport group a TCP socket is in.
    Scene {
        kinds: &[TCP[0], TCP[1]],
        vars: 4,
        at: &[At::Any, At::Any, At::One, At::Mapped],
        to: &[],
        ports: &[5000],
        calls: &[
            (Do::ReusePort, 5),
            (Do::Bind, 4),
            (Do::Listen, 4),
            (Do::Attach, 3),
            (Do::Shut, 2),
            (Do::Leave, 1),
            (Do::Anew, 2),
            (Do::V6Only, 1),
        ],
        served: false,
        tiny: false,
    },
    // The same of UDP's, which connect() and a device change.
    Scene {
        kinds: &[UDP[0], UDP[1], UDP[1], UDP[2], UDP[3]],
        vars: 4,
        at: &[At::Any, At::Any, At::One, At::Mapped],
        to: &[
            At::One,
            At::Any,
            At::Mapped,
            At::MappedAny,
            At::Four,
            At::FourAny,
        ],
        ports: &[5000, 5000, 5000, 0],
        calls: &[
            (Do::ReusePort, 5),
            (Do::Bind, 4),
            (Do::Attach, 4),
            (Do::Connect, 3),
            (Do::Leave, 3),
            (Do::Device, 1),
            (Do::Anew, 2),
            (Do::V6Only, 1),
        ],
        served: false,
        tiny: false,
    },
    // Devices on one port.
    Scene {
        kinds: &[TCP[0], TCP[1], TCP[3], UDP[0], UDP[1]],
        vars: 6,
        at: &[At::Any, At::Any, At::One, At::Link],
        to: &[],
        ports: &[5000],
        calls: &[
            (Do::Device, 6),
            (Do::Bind, 6),
            (Do::ReuseAddr, 1),
            (Do::ReusePort, 1),
            (Do::Listen, 1),
            (Do::Anew, 3),
        ],
        served: false,
        tiny: false,
    },
    // Some of those in the way share a UDP port and others do not.
    Scene {
        kinds: &[UDP[0], UDP[1], UDP[1], UDP[1]],
        vars: 7,
        at: &[At::Any, At::MappedAny, At::One, At::Mapped, At::Mapped],
        to: &[],
        ports: &[5000],
        calls: &[
            (Do::ReusePort, 6),
            (Do::V6Only, 3),
            (Do::Bind, 6),
            (Do::ReuseAddr, 2),
            (Do::Anew, 4),
        ],
        served: false,
        tiny: false,
    },
    // What a TCP port remembers of the last socket with SO_REUSEPORT.
    Scene {
        kinds: &[TCP[0], TCP[1], TCP[1]],
        vars: 5,
        at: &[At::Any, At::Mapped, At::One],
        to: &[],
        ports: &[5000],
        calls: &[
            (Do::ReusePort, 6),
            (Do::V6Only, 3),
            (Do::Bind, 6),
            (Do::Anew, 3),
        ],
        served: false,
        tiny: false,
    },
    // Several listeners on one port: who serves?
    Scene {
        kinds: &[TCP[0], TCP[1]],
        vars: 7,
        at: &[At::Any, At::Any, At::One, At::Mapped, At::MappedAny],
        to: &[At::One, At::One, At::Mapped, At::Any, At::MappedAny],
        ports: &[5000],
        calls: &[
            (Do::ReusePort, 6),
            (Do::V6Only, 2),
            (Do::Bind, 5),
            (Do::Listen, 5),
            (Do::Connect, 7),
            (Do::Accept, 6),
            (Do::Anew, 3),
        ],
        served: true,
        tiny: false,
    },
    // Hardly any port for connections.
    Scene {
        kinds: &[TCP[0], TCP[0], TCP[1]],
        vars: 6,
        at: &[At::Any, At::One, At::Two],
        to: &[At::One, At::Mapped, At::Mapped],
        ports: &[0, 0, 0, 40000],
        calls: &[
            (Do::ReuseAddr, 4),
            (Do::ReusePort, 1),
            (Do::NoPort, 2),
            (Do::Bind, 6),
            (Do::Connect, 5),
            (Do::Accept, 2),
            (Do::Anew, 3),
            (Do::Leave, 1),
            (Do::Listen, 1),
        ],
        served: true,
        tiny: true,
    },
    // What comes of an accepted socket that listens itself.
    Scene {
        kinds: &[TCP[0], TCP[1]],
        vars: 6,
        at: &[At::Any, At::One],
        to: &[At::One, At::Mapped],
        ports: &[5000, 5001],
        calls: &[
            (Do::Connect, 6),
            (Do::Accept, 5),
            (Do::Shut, 2),
            (Do::Leave, 3),
            (Do::Listen, 3),
            (Do::Bind, 3),
            (Do::Anew, 3),
            (Do::ReuseAddr, 2),
            (Do::Linger, 1),
        ],
        served: true,
        tiny: false,
    },
    // Ends that are in TCP_REPAIR.
    Scene {
        kinds: &[TCP[0], TCP[1]],
        vars: 5,
        at: &[At::Any, At::One],
        to: &[At::One, At::Mapped],
        ports: &[5000, 5001],
        calls: &[
            (Do::Repair, 6),
            (Do::Connect, 6),
            (Do::Accept, 1),
            (Do::Shut, 3),
            (Do::Anew, 4),
            (Do::Bind, 1),
        ],
        served: true,
        tiny: false,
    },
    // Connections to themselves, and beside listeners.
    Scene {
        kinds: &[TCP[0], TCP[0], TCP[1], TCP[2]],
        vars: 4,
        at: &[At::Any, At::One],
        to: &[At::One, At::One, At::Any],
        ports: &[5000, 5000, 5001],
        calls: &[
            (Do::Bind, 6),
            (Do::Connect, 7),
            (Do::Shut, 3),
            (Do::Leave, 2),
            (Do::Linger, 1),
            (Do::Listen, 1),
            (Do::ReuseAddr, 2),
            (Do::Anew, 4),
        ],
        served: false,
        tiny: false,
    },
    // Connections through devices, and to link-local addresses.
    Scene {
        kinds: &[TCP[0], TCP[1], TCP[1], UDP[0], UDP[1]],
        vars: 6,
        at: &[At::Any, At::One, At::Link],
        to: &[At::One, At::Any, At::Link, At::Link, At::Mapped],
        ports: &[5000, 0],
        calls: &[
            (Do::Device, 3),
            (Do::Bind, 2),
            (Do::Connect, 8),
            (Do::Listen, 1),
            (Do::Accept, 3),
            (Do::Shut, 2),
            (Do::Anew, 4),
        ],
        served: true,
        tiny: false,
    },
    // Ping sockets, whose devices stay or not.
    Scene {
        kinds: &[(10, 2, 58), (10, 2, 58), (2, 2, 1)],
        vars: 4,
        at: &[At::Any, At::One, At::Link, At::Link],
        to: &[],
        ports: &[7, 7, 8, 0],
        calls: &[
            (Do::Bind, 8),
            (Do::ReuseAddr, 2),
            (Do::Device, 1),
            (Do::Anew, 3),
        ],
        served: false,
        tiny: false,
    },
    // Other families' listeners.
    Scene {
        kinds: &[(40, 1, 0), (1, 1, 0), (1, 5, 0)],
        vars: 4,
        at: &[],
        to: &[],
        ports: &[],
        calls: &[
            (Do::Other, 3),
            (Do::Listen, 3),
            (Do::Accept, 2),
            (Do::Anew, 1),
        ],
        served: false,
        tiny: false,
    },
    // Netlink's and packet sockets' addresses.
    Scene {
        kinds: &[
            (16, 3, 0),
            (16, 3, 0),
            (16, 2, 4),
            (16, 3, 2),
            (16, 3, 3),
            (16, 3, 9),
            (16, 3, 11),
            (16, 3, 16),
            PACKET,
        ],
        vars: 5,
        at: &[],
        to: &[],
        ports: &[],
        calls: &[(Do::Other, 6), (Do::Anew, 1)],
        served: false,
        tiny: false,
    },
];

/// Does the scene need a range of one to three ports?
pub(super) fn is_tiny(scene: usize) -> bool {
    match SCENES.get(scene) {
        Some(scene) => scene.tiny,
        None => scene == COUNT - 1,
    }
}

impl Drawer<'_> {
    pub(super) fn narrow(&mut self, scene: usize) -> Vec<(usize, Call)> {
        let Some(scene) = SCENES.get(scene) else {
            return match COUNT - scene {
                1 => self.one_port_for_two(),
                2 => self.servers(),
                3 | 4 => self.cached(),
                5 => self.ungrouped(),
                8 => self.crowded(),
                _ => self.late(),
            };
        };
        let mut calls = Vec::new();
        for var in 0..scene.vars {
            let kind = self.rng.of(scene.kinds);
            calls.push(self.make(var, kind));
            if var == 0 && scene.served {
                if self.rng.chance(40) {
                    calls.push((0, Call::Set(Opt::ReusePort(true))));
                }
                let at = self.rng.of(&[At::Any, At::One, At::Mapped]);
                let bytes = at.write(kind, 5000, 0);
                calls.extend([(0, Call::Bind { bytes, len: None }), (0, Call::Listen)]);
            }
        }
        let weights: usize = scene.calls.iter().map(|c| c.1).sum();
        let more = if scene.kinds.contains(&PACKET) {
            12
        } else {
            25
        };
        for _ in 0..more + self.rng.below(20) {
            let var = self.rng.below(scene.vars);
            let mut at = self.rng.below(weights);
            let what = scene.calls.iter().find(|(_, weight)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let Some((what, _)) = what else { continue };
            calls.push(self.act(scene, var, *what));
        }
        calls
    }

    fn act(&mut self, scene: &Scene, var: usize, what: Do) -> (usize, Call) {
        let kind = self.kinds[var].unwrap_or(scene.kinds[0]);
        let on = self.rng.chance(75);
        let call = match what {
            Do::ReuseAddr => Call::Set(Opt::ReuseAddr(on)),
            Do::ReusePort => Call::Set(Opt::ReusePort(on)),
            Do::V6Only => Call::Set(Opt::V6Only(on)),
            Do::Device => {
                let dev = self.world.bridge as i32;
                Call::Set(Opt::BindToIfIndex(self.rng.of(&[0, 1, 1, dev, dev])))
            }
            Do::Attach => Call::Set(Opt::AttachReuseport),
            Do::NoPort => Call::Set(Opt::NoPort(on)),
            Do::Repair => Call::Set(Opt::Repair(on)),
            Do::Linger => Call::Set(Opt::LingerZero(on)),
            Do::Bind => {
                let port = self.rng.of(scene.ports);
                let bytes = self.rng.of(scene.at).write(kind, port, self.world.bridge);
                Call::Bind { bytes, len: None }
            }
            Do::Listen => Call::Listen,
            Do::Shut => Call::Shutdown(self.rng.of(&[0, 1, 2, 2])),
            Do::Leave => Call::Connect { bytes: vec![0; 16] },
            Do::Connect => {
                let port = if scene.tiny || self.rng.chance(85) {
                    5000
                } else {
                    5001
                };
                let scope = self.rng.of(&[0, self.world.bridge, self.world.bridge, 1]);
                let bytes = self.rng.of(scene.to).write(kind, port, scope);
                Call::Connect { bytes }
            }
            Do::Accept => {
                let from = if scene.served && self.rng.chance(60) {
                    0
                } else {
                    self.rng.below(scene.vars)
                };
                if from == var {
                    return (var, Call::Listen);
                }
                Call::Accept { from }
            }
            Do::Anew => {
                let kind = self.rng.of(scene.kinds);
                return self.make(var, kind);
            }
            Do::Other => self.bind(kind),
        };
        (var, call)
    }
}
