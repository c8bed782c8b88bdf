//! Random sequences of calls.

use bindgate_core::addr::{Addr, RawAddr, UnixName};
use bindgate_core::model::Opt;
use bindgate_core::model::script::{Call, Caps, Line, Process, Script};

use crate::kernel;
use crate::world::{BRIDGE6, LINK6, Sysctls, World};

/// xorshift: small, fast, the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d);
        rng.0 |= 1;
        for _ in 0..4 {
            rng.next();
        }
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// What a sequence is about: narrow themes meet more often than wide ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Theme {
    /// One transport, few ports and addresses.
    Tcp,
    Udp,
    /// Automatic ports in a small range.
    Auto,
    /// Connections on loopback.
    Connect,
    /// Unix sockets, vsock, netlink, raw, ping.
    Others,
    /// More UDP sockets on a port than its list is searched for.
    Crowd,
    /// A connection, and the same once more.
    Again,
    /// One TCP port and its options, changed before and after.
    Cache,
    /// No automatic vsock port in all the tries.
    VsockFull,
    /// Everything.
    Mixed,
}

const TCP: [(i32, i32, i32); 4] = [(2, 1, 0), (10, 1, 0), (2, 1, 262), (10, 1, 262)];
const UDP: [(i32, i32, i32); 4] = [(2, 2, 0), (10, 2, 0), (2, 2, 136), (10, 2, 136)];
const OTHERS: [(i32, i32, i32); 13] = [
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
const PACKET: (i32, i32, i32) = (17, 3, 0);
const ODD: [(i32, i32, i32); 18] = [
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

/// The processes that play: users, and capabilities where they are not the
/// user's own.
pub fn cast() -> Vec<Process> {
    let with = |name, uid, caps| Process {
        caps,
        ..Process::new(name, uid)
    };
    let none = Caps::default();
    vec![
        Process::new("root", 0),
        Process::new("root2", 0),
        Process::new("alice", 1000),
        Process::new("bob", 1001),
        with(
            "carol",
            1000,
            Caps {
                net_bind_service: true,
                ..none
            },
        ),
        with("dave", 0, none),
        with(
            "erin",
            1001,
            Caps {
                net_raw: true,
                ..none
            },
        ),
        with(
            "frank",
            1000,
            Caps {
                net_admin: true,
                ..none
            },
        ),
    ]
}

pub struct Plan {
    pub theme: Theme,
    pub sysctls: Sysctls,
    pub script: Script,
    /// Which of the [`cast`] plays each process.
    pub players: Vec<usize>,
}

pub struct Drawer<'a> {
    rng: &'a mut Rng,
    world: &'a World,
    theme: Theme,
    sysctls: Sysctls,
    ports: Vec<u16>,
    kinds: Vec<Option<(i32, i32, i32)>>,
    /// The address that each variable was bound to last, and whether it was
    /// told to listen.
    bound: Vec<Option<(Vec<u8>, bool)>>,
    /// Calls that are made before those that are drawn, the last one first.
    directed: Vec<(usize, Call)>,
    processes: usize,
    /// The process that made the descriptor of each variable.
    owners: Vec<usize>,
}

fn sysctls(rng: &mut Rng, theme: Theme) -> Sysctls {
    let mut s = Sysctls::DEFAULT;
    if theme == Theme::Auto {
        let lo = rng.of(&[40000u16, 40001]);
        let n = rng.of(&[1u16, 2, 3, 4, 5, 6, 7, 8, 9, 12]);
        s.range = (lo, lo + n - 1);
        if rng.chance(20) {
            s.reserved = Some((lo + 1, lo + 1 + rng.below(2) as u16));
        }
        s.autobind_reuse = rng.chance(25);
    }
    if theme == Theme::Connect && rng.chance(40) {
        let n = rng.of(&[1u16, 2, 3, 4, 5, 8]);
        s.range = (40000, 40000 + n - 1);
    }
    if rng.chance(10) {
        s.nonlocal = rng.chance(50);
        s.nonlocal6 = rng.chance(50);
        s.bindv6only = rng.chance(50);
        s.unprivileged = rng.of(&[0, 80, 81, 1024]);
        s.ping_groups = rng.of(&[(0, 1001), (1, 0), (1000, 1000)]);
    }
    s
}

/// A sequence of 20 to 60 calls.
pub fn plan(rng: &mut Rng, world: &World) -> Plan {
    let theme = rng.of(&[
        Theme::Tcp,
        Theme::Tcp,
        Theme::Udp,
        Theme::Auto,
        Theme::Others,
        Theme::Connect,
        Theme::Mixed,
        Theme::Mixed,
    ]);
    let theme = if rng.chance(5) { Theme::Crowd } else { theme };
    let theme = match rng.below(1000) {
        0..30 => Theme::Again,
        30 => Theme::VsockFull,
        31..110 => Theme::Cache,
        _ => theme,
    };
    let sysctls = sysctls(rng, theme);
    let most = if rng.chance(15) { 20 } else { 5 };
    let mut vars = 6 + rng.below(most);
    if theme == Theme::Crowd {
        vars = 14 + rng.below(5);
    }
    let mut ports = vec![5000 + rng.below(3) as u16];
    if rng.chance(40) {
        ports.push(ports[0] + 16384);
    }
    if rng.chance(30) {
        ports.push(80);
    }
    if theme == Theme::Auto {
        ports = vec![sysctls.range.0, sysctls.range.1];
    }
    if theme == Theme::Crowd {
        ports = vec![5000, 5000 + 16384];
    }
    if theme == Theme::Cache {
        ports = vec![5000];
    }
    if theme == Theme::VsockFull {
        vars = 25;
    }
    let mut calls = 20 + rng.below(41);
    if theme == Theme::VsockFull {
        calls = 52 + rng.below(9);
    }
    if theme == Theme::Crowd {
        calls = 40 + rng.below(21);
    }
    let (cast, players) = troupe(rng);
    let processes = cast.len();
    let mut d = Drawer {
        rng,
        world,
        theme,
        sysctls,
        ports,
        kinds: vec![None; vars],
        bound: vec![None; vars],
        directed: Vec::new(),
        processes,
        owners: vec![0; vars],
    };
    d.direct();
    let lines = (0..calls).map(|i| d.line(i)).collect();
    let script = Script {
        host: world.host,
        sysctls: sysctls.lines(),
        processes: cast,
        vars: (0..vars).map(|i| format!("s{i}")).collect(),
        lines,
    };
    Plan {
        theme,
        sysctls,
        script,
        players,
    }
}

/// Two to four processes of the cast, and their places there.
fn troupe(rng: &mut Rng) -> (Vec<Process>, Vec<usize>) {
    let all = cast();
    let mut players = Vec::new();
    let wanted = 2 + rng.below(3);
    while players.len() < wanted {
        // The common three more often than the others.
        let p = if rng.chance(60) {
            rng.of(&[0, 2, 3])
        } else {
            rng.below(all.len())
        };
        if !players.contains(&p) {
            players.push(p);
        }
    }
    let cast = players.iter().map(|p| all[*p].clone()).collect();
    (cast, players)
}

impl Drawer<'_> {
    fn line(&mut self, i: usize) -> Line {
        let vars = self.kinds.len();
        let (var, directed) = match self.directed.pop() {
            Some((var, call)) => (var, Some(call)),
            // Six sockets in at least two processes, then as it comes.
            None if i < 6 => (i, None),
            None => (self.rng.below(vars), None),
        };
        let process = match () {
            () if i < 2 => i,
            () if matches!(directed, Some(Call::Socket { .. })) => self.rng.below(self.processes),
            // Mostly its own process, sometimes one that has it passed.
            () if self.kinds[var].is_some() && (directed.is_some() || self.rng.chance(80)) => {
                self.owners[var]
            }
            () => self.rng.below(self.processes),
        };
        let call = match (directed, self.kinds[var]) {
            (Some(call), _) => call,
            (None, None) => self.socket(var),
            (None, Some(kind)) => self.call(var, kind),
        };
        match &call {
            Call::Bind { bytes, len: None } => self.bound[var] = Some((bytes.clone(), false)),
            Call::Listen => {
                if let Some((_, listens)) = &mut self.bound[var] {
                    *listens = true;
                }
            }
            Call::Close => {
                self.kinds[var] = None;
                self.bound[var] = None;
            }
            Call::Dup { of } => self.bound[var] = self.bound[*of].clone(),
            _ => {}
        }
        if matches!(
            call,
            Call::Socket { .. } | Call::File | Call::Dup { .. } | Call::Accept { .. }
        ) {
            self.owners[var] = process;
        }
        Line {
            process,
            var,
            call,
            expect: None,
            at: 0,
        }
    }

    /// How a sequence of this theme begins.
    fn direct(&mut self) {
        let mut calls = match self.theme {
            Theme::Connect => self.serve(),
            Theme::Crowd => self.crowd(),
            Theme::Again => self.again(),
            Theme::VsockFull => fill_vsock(),
            _ => Vec::new(),
        };
        calls.reverse();
        self.directed = calls;
    }

    fn make(&mut self, var: usize, kind: (i32, i32, i32)) -> (usize, Call) {
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
    fn serve(&mut self) -> Vec<(usize, Call)> {
        let kind = self.rng.of(&TCP[..2]);
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

    /// Twelve UDP sockets on two ports of one slot of the kernel's table.
    fn crowd(&mut self) -> Vec<(usize, Call)> {
        let mut calls = Vec::new();
        for var in 0..12 {
            let kind = self.rng.of(&UDP[..2]);
            calls.push(self.make(var, kind));
            calls.push((var, Call::Set(Opt::ReuseAddr(true))));
            calls.push((var, self.bind(kind)));
        }
        calls
    }

    /// A connection from a fixed port; it ends in one way or another; the same
    /// connection again.
    fn again(&mut self) -> Vec<(usize, Call)> {
        let kind = self.rng.of(&TCP[..2]);
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

    fn socket(&mut self, var: usize) -> Call {
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
            Theme::Connect | Theme::Again => {
                self.rng
                    .of(&[(2, 1, 0), (2, 1, 0), (10, 1, 0), (2, 2, 0), (10, 2, 0)])
            }
            Theme::Others => self.rng.of(&OTHERS),
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
    fn connection(&mut self, var: usize, kind: (i32, i32, i32)) -> Option<Call> {
        let connects = matches!(kind, (2 | 10, 1, 0) | (2 | 10, 2, 0 | 136));
        if !matches!(self.theme, Theme::Connect | Theme::Again) || !connects {
            return None;
        }
        Some(match self.rng.below(100) {
            0..26 => Call::Connect {
                bytes: match self.rng.below(100) {
                    0..12 => vec![0; 16],
                    12..75 => self.where_one_listens(kind)?,
                    _ => {
                        let Call::Bind { bytes, .. } = self.bind(kind) else {
                            return None;
                        };
                        may_answer(&bytes).then_some(bytes)?
                    }
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

    /// A variable that was told to listen.
    fn listener(&mut self) -> Option<usize> {
        let listens = |v: &usize| matches!(self.bound[*v], Some((_, true)));
        let all: Vec<_> = (0..self.bound.len()).filter(listens).collect();
        (!all.is_empty()).then(|| self.rng.of(&all))
    }

    /// An address where a listener should answer.
    fn where_one_listens(&mut self, kind: (i32, i32, i32)) -> Option<Vec<u8>> {
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
            _ => Addr::Inet6 {
                ip,
                port,
                flow: 0,
                scope: 0,
            },
        };
        let bytes = addr.write().bytes().to_vec();
        may_answer(&bytes).then_some(bytes)
    }

    fn call(&mut self, var: usize, kind: (i32, i32, i32)) -> Call {
        if let Some(call) = self.connection(var, kind) {
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

    fn option(&mut self, kind: (i32, i32, i32)) -> Opt {
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
                _ => Opt::ReuseAddr(!on),
            };
        }
        match self.rng.below(100) {
            0..30 => Opt::ReuseAddr(on),
            30..62 => Opt::ReusePort(on),
            62..74 => Opt::V6Only(self.rng.chance(50)),
            // Not on what may be connected: packets would lose their way.
            74..80 if kind.1 == 1 && matches!(self.theme, Theme::Connect | Theme::Again) => {
                Opt::ReuseAddr(on)
            }
            74..80 => {
                let dev = self.world.bridge as i32;
                Opt::BindToIfIndex(self.rng.of(&[0, 1, dev, dev, 77, -1]))
            }
            80..81 => Opt::BindToNoDevice,
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

    fn port(&mut self) -> u16 {
        let auto = if self.theme == Theme::Auto { 75 } else { 6 };
        if self.rng.chance(auto) {
            0
        } else {
            let ports = self.ports.clone();
            self.rng.of(&ports)
        }
    }

    fn v4(&mut self) -> [u8; 4] {
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

    fn v6(&mut self) -> ([u8; 16], u32) {
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

    fn other_address(&mut self, kind: (i32, i32, i32)) -> Option<Addr> {
        Some(match kind.0 {
            1 => {
                let n = self.rng.below(4);
                let name = match self.rng.below(10) {
                    0 | 1 => Some(UnixName::AUTO),
                    2..6 => UnixName::abstract_(&b"abcdef"[..n]),
                    _ => {
                        let names = [
                            "a", "b", "c", "no/x", "a/x", ".", "sub/", "loop/x", "ro/x", "shut/x",
                        ];
                        let path = format!("{}/{}", crate::world::dir(), self.rng.of(&names));
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
                groups: self.rng.of(&[0, 0, 0, 1]),
            },
            17 => Addr::Packet {
                protocol: self.rng.of(&[0, 3]),
                ifindex: self.rng.of(&[0, 1, self.world.bridge, 77]),
            },
            _ => return None,
        })
    }

    fn bind(&mut self, kind: (i32, i32, i32)) -> Call {
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
fn may_answer(bytes: &[u8]) -> bool {
    match bytes {
        [2, 0, _, _, ip @ ..] if ip.len() >= 4 => matches!(ip[..4], [127, ..] | [10, 1, 1, 1]),
        [10, 0, _, _, _, _, _, _, ip @ ..] if ip.len() >= 16 => match ip[..16] {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d] => {
                matches!([a, b, c, d], [127, ..] | [10, 1, 1, 1])
            }
            _ => {
                let mut one = [0; 16];
                one[15] = 1;
                ip[..16] == one || ip[..16] == BRIDGE6
            }
        },
        _ => true,
    }
}

/// Takes the vsock ports that the kernel would try next, all of its tries.
fn fill_vsock() -> Vec<(usize, Call)> {
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
