//! Random sequences of calls: those of the test that compares the model with the
//! kernel, and of the one that compares a run of its own ports with a network of its own.

mod addresses;
mod calls;
mod cast;
mod lots;
mod narrow;
mod ordered;
mod place;
mod rng;
mod scenes;
mod unix;
mod vsock;

pub use addresses::may_answer;
pub use cast::cast;
pub use place::{BRIDGE6, LINK6, Place, Sysctls, sweep};
pub use rng::Rng;

use bindgate_core::model::script::{Call, Line, Script};

/// What a sequence is about: narrow themes meet more often than wide ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Theme {
    /// One transport, few ports and addresses.
    Tcp,
    /// The same.
    Udp,
    /// Automatic ports in a small range.
    Auto,
    /// Connections on loopback.
    Connect,
    /// Unix sockets, vsock, netlink, raw, ping.
    Others,
    /// Connections of Unix sockets.
    Unix,
    /// More of them than a listener's queue holds.
    UnixFull,
    /// More UDP sockets on a port than its list is searched for.
    Crowd,
    /// A connection, and the same once more.
    Again,
    /// One TCP port and its options, changed before and after.
    Cache,
    /// No automatic vsock port in all the tries.
    VsockFull,
    /// Connections by vsock, where they come back.
    Vsock,
    /// A few sockets and few calls that matter to each other.
    Narrow,
    /// One call that leaves the kernel a choice, again and again.
    Lots,
    /// Everything.
    Mixed,
}

/// A sequence.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is about.
    pub theme: Theme,
    /// What it runs under.
    pub sysctls: Sysctls,
    /// Its calls.
    pub script: Script,
    /// What is played after it again and again: see `Bench::again` of the test.
    pub again: Vec<Line>,
    /// Which of the [`cast()`] plays each process.
    pub players: Vec<usize>,
}

struct Drawer<'a> {
    rng: &'a mut Rng,
    world: Place<'a>,
    theme: Theme,
    sysctls: Sysctls,
    ports: Vec<u16>,
    kinds: Vec<Option<(i32, i32, i32)>>,
    /// The address that each variable was bound to last, and whether it was
    /// told to listen.
    bound: Vec<Option<(Vec<u8>, bool)>>,
    /// Calls that are made before those that are drawn, the last one first.
    directed: Vec<(usize, Call)>,
    /// The process that makes all sockets, if one does.
    alone: Option<usize>,
    processes: usize,
    /// The process that made the descriptor of each variable.
    owners: Vec<usize>,
}

fn sysctls(rng: &mut Rng, theme: Theme, scene: usize) -> Sysctls {
    let mut s = Sysctls::DEFAULT;
    if theme == Theme::Narrow && narrow::is_tiny(scene) {
        s.range = (40000, 40000 + rng.of(&[0, 0, 1, 2]));
        s.autobind_reuse = rng.chance(60);
    }
    if theme == Theme::Lots {
        let lo = rng.of(&[40000u16, 40001]);
        // Above 32 the model searches otherwise.
        let n = rng.of(&[1u16, 2, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9, 12, 36]);
        s.range = (lo, lo + n - 1);
        if rng.chance(20) {
            s.reserved = Some((lo + 1, lo + 1 + rng.below(2) as u16));
        }
        s.autobind_reuse = rng.chance(30);
    }
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
pub fn plan(rng: &mut Rng, world: Place<'_>) -> Plan {
    let theme = rng.of(&[
        Theme::Tcp,
        Theme::Tcp,
        Theme::Udp,
        Theme::Auto,
        Theme::Others,
        Theme::Connect,
        Theme::Unix,
        Theme::Mixed,
        Theme::Mixed,
    ]);
    let theme = if rng.chance(5) { Theme::Crowd } else { theme };
    let theme = match rng.below(1000) {
        0..30 => Theme::Again,
        30 => Theme::VsockFull,
        31..110 => Theme::Cache,
        110..114 => Theme::UnixFull,
        114..170 => Theme::Lots,
        170..400 => Theme::Narrow,
        _ => theme,
    };
    let loopback = world.vsock_loopback;
    let theme = match theme {
        _ if loopback && rng.chance(35) => Theme::Vsock,
        theme => theme,
    };
    let scene = rng.below(narrow::COUNT);
    let sysctls = sysctls(rng, theme, scene);
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
    if theme == Theme::Narrow {
        vars = 8;
    }
    if matches!(theme, Theme::VsockFull | Theme::Lots) {
        vars = 25;
    }
    if theme == Theme::UnixFull {
        vars = 20;
    }
    let mut calls = 20 + rng.below(41);
    if matches!(theme, Theme::VsockFull | Theme::UnixFull) {
        calls = 52 + rng.below(9);
    }
    if theme == Theme::Crowd {
        calls = 55 + rng.below(21);
    }
    let (cast, players) = cast::troupe(rng);
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
        alone: None,
        processes,
        owners: vec![0; vars],
    };
    let again = d.direct(scene);
    if matches!(theme, Theme::Narrow | Theme::Lots) {
        calls = d.directed.len();
    }
    let lines = (0..calls).map(|i| d.line(i)).collect();
    let again = d.repeated(again);
    let script = Script {
        changes: sysctls.lines(),
        processes: cast,
        vars: (0..vars).map(|i| format!("s{i}")).collect(),
        lines,
        ..Script::new(*world.host)
    };
    Plan {
        theme,
        sysctls,
        script,
        again,
        players,
    }
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
            () if i < 2 && self.alone.is_none() => i,
            () if matches!(directed, Some(Call::Socket { .. })) && self.alone.is_some() => {
                self.alone.unwrap_or(0)
            }
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
        self.new_line(process, var, call)
    }

    /// How a sequence of this theme begins, and what of it is repeated.
    fn direct(&mut self, scene: usize) -> Vec<(usize, Call)> {
        let mut again = Vec::new();
        if self.theme == Theme::Narrow && self.rng.chance(60) {
            self.alone = Some(self.rng.below(self.processes));
        }
        let mut calls = match self.theme {
            Theme::Connect => self.serve(),
            Theme::Crowd => self.crowd(),
            Theme::Again => self.again(),
            Theme::Unix => self.serve_unix(),
            Theme::UnixFull => self.fill_unix(),
            Theme::Vsock => self.serve_vsock(),
            Theme::VsockFull => scenes::fill_vsock(),
            Theme::Narrow => self.narrow(scene),
            Theme::Lots => {
                let (before, repeated) = self.lots();
                again = repeated;
                before
            }
            _ => Vec::new(),
        };
        calls.reverse();
        self.directed = calls;
        again
    }

    fn new_line(&self, process: usize, var: usize, call: Call) -> Line {
        Line {
            after: self.sysctls.lines().len(),
            ..Line::new(process, var, call)
        }
    }

    /// The lines of what is repeated: one process makes all of its calls.
    fn repeated(&mut self, calls: Vec<(usize, Call)>) -> Vec<Line> {
        let process = self.rng.below(self.processes);
        let line = |(var, call)| self.new_line(process, var, call);
        calls.into_iter().map(line).collect()
    }
}
