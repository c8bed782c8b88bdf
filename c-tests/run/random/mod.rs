//! Random sequences of calls, inside `--isolate` and in a network namespace without
//! anything: every answer must be the same.
//!
//! The sequences are those of the test that compares the model with the kernel
//! (`bindgate_host_live::draw`), with data between the calls. They are played by
//! `plays_calls.c`, by libc's functions. `scripts/soak-isolate` plays many.

mod acts;
mod compare;
mod site;

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::time::Instant;

use bindgate_core::model::Host;
use bindgate_host_live::draw::{self, BRIDGE6, LINK6, Place, Plan, Rng, Theme};
use bindgate_host_live::kernel::{self, Namespace};
use bindgate_host_live::machine;
use libtest_mimic::{Failed, Trial};
use support::{NOBODY, Run, Way, compile, has_nobody, outside, work_dir};

use crate::NAMESPACES;
use acts::Act;
use site::{Answer, Site};

/// How many sequences a test plays, unless `BINDGATE_TEST_RANDOM` says another number
/// and a seed.
const SEQUENCES: u64 = 300;
/// A run is started anew after so many plays: each names some ports, of which a run
/// has 65535.
const PLAYS: u32 = 300;
const SEED: u64 = 7;

/// What a run has its network from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    Address,
    Sealed,
}

pub fn trials() -> Vec<Trial> {
    let all = [
        ("isolate: random calls as root", Engine::Address, 0),
        ("isolate: random calls as nobody", Engine::Address, NOBODY),
        ("sealed: random calls as root", Engine::Sealed, 0),
        ("sealed: random calls as nobody", Engine::Sealed, NOBODY),
    ];
    let all = all.into_iter().filter(|all| all.2 == 0 || has_nobody());
    let trial = |(name, engine, user)| {
        let test = move || {
            // On a thread of its own: it goes from one network to another.
            let done = std::thread::spawn(move || soak(engine, user)).join();
            match done {
                Ok(done) => done.map_err(Failed::from),
                Err(_) => Err("the comparison ended".into()),
            }
        };
        outside(Trial::test(name, test), NAMESPACES)
    };
    all.map(trial).collect()
}

/// How many sequences, and from which seed on.
fn wanted() -> (u64, u64) {
    let said = std::env::var("BINDGATE_TEST_RANDOM").unwrap_or_default();
    let mut words = said.split_whitespace().map(str::parse);
    let mut next = |or| words.next().and_then(Result::ok).unwrap_or(or);
    (next(SEQUENCES), next(SEED))
}

fn soak(engine: Engine, user: u32) -> Result<(), String> {
    let (sequences, seed) = wanted();
    let long = sequences > SEQUENCES;
    let mut pair = Pair::new(engine, user).map_err(|e| format!("no place to play: {e}"))?;
    let since = Instant::now();
    let (mut calls, mut excepted, mut cut) = (0, 0, 0);
    let mut found = String::new();
    let mut differences = 0;
    for n in 0..sequences {
        match pair.sequence(seed + n) {
            Ok(done) => {
                calls += done.calls;
                excepted += done.excepted;
                cut += done.cut;
            }
            Err(report) => {
                differences += 1;
                let _ = writeln!(found, "seed {}: {report}", seed + n);
                if long {
                    eprintln!("{engine:?} as {user}: seed {}: {report}", seed + n);
                }
                if differences == if long { 30 } else { 10 } {
                    break;
                }
            }
        }
        if long && (n + 1) % 1000 == 0 {
            let seconds = since.elapsed().as_secs();
            eprintln!(
                "{engine:?} as {user}: {} sequences from seed {seed} on, {calls} calls, \
                 {excepted} excepted, {cut} cut, {differences} differences, {seconds} s",
                n + 1
            );
        }
    }
    match differences {
        0 => Ok(()),
        _ => Err(found),
    }
}

/// What came of a sequence in which nothing differed.
#[derive(Default)]
struct Played {
    calls: usize,
    excepted: usize,
    /// Did it end early, because the kernel drew lots?
    cut: usize,
}

/// The two places.
struct Pair {
    engine: Engine,
    user: u32,
    /// Where nothing is between the program and the kernel.
    bare: Site,
    /// In a run.
    run: Site,
    plays: u32,
    /// Counts the sequences: each has ports of its own.
    turn: u32,
    dir: String,
    /// The network where runs are started.
    machine: Namespace,
}

impl Pair {
    fn new(engine: Engine, user: u32) -> io::Result<Pair> {
        kernel::stay_on_one_processor();
        let home = Namespace::here()?;
        let made = Namespace::new(true).and_then(|bare| Ok((bare, Namespace::new(true)?)));
        home.enter()?;
        let (bare, machine) = made?;
        Ok(Pair {
            engine,
            user,
            bare: start(engine, user, None, &bare)?,
            run: start(engine, user, Some(engine), &machine)?,
            plays: 0,
            turn: 0,
            dir: format!("{}/p", work_dir().display()),
            machine,
        })
    }

    /// Plays a random sequence at both; a report of what differs.
    fn sequence(&mut self, seed: u64) -> Result<Played, String> {
        let mut rng = Rng::new(seed);
        let host = Host::loopback(machine::running());
        let place = Place {
            host: &host,
            bridge: self.bare.bridge.max(2),
            vsock_loopback: false,
            dir: &self.dir,
        };
        let plan = draw::plan(&mut rng, place);
        // Counts on the machine's vsock counter.
        if plan.theme == Theme::VsockFull {
            return Ok(Played::default());
        }
        let mut acts = acts::acts(&plan, self.engine, &mut rng);
        let first = match self.both(&plan, &acts, seed)? {
            Ok(played) => return Ok(played),
            Err(first) => first,
        };
        // What does not come again was not a rule's.
        let mut again = |acts: &[Act]| -> Result<Option<compare::Difference>, String> {
            for _ in 0..3 {
                if let Err(found) = self.both(&plan, acts, seed)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        };
        if again(&acts)?.is_none() {
            // A port that the kernel drew was that of another socket.
            return Ok(Played::default());
        }
        acts.truncate(first.at + 1);
        let mut changed = true;
        while changed {
            changed = false;
            for at in (0..acts.len()).rev() {
                let act = acts.remove(at);
                match again(&acts)? {
                    Some(_) => changed = true,
                    None => acts.insert(at, act),
                }
            }
        }
        let last = again(&acts)?.unwrap_or(first);
        let mut text = format!("{:?}, user {}\n", plan.theme, self.user);
        acts::fresh_ports_for(self.engine, &mut acts, seed, self.turn);
        for act in &acts {
            let _ = writeln!(text, "  {}", acts::say(act, &plan.script));
        }
        let _ = write!(text, "  # the last one: {}", last.text);
        Err(text)
    }

    /// Plays acts at both. The outer error is of what has nothing to do with them.
    fn both(
        &mut self,
        plan: &Plan,
        acts: &[Act],
        seed: u64,
    ) -> Result<Result<Played, compare::Difference>, String> {
        let lost = |e: io::Error| format!("{e}");
        self.plays += 1;
        if self.plays > PLAYS {
            self.plays = 0;
            self.run =
                start(self.engine, self.user, Some(self.engine), &self.machine).map_err(lost)?;
        }
        self.turn += 1;
        let mut acts = acts.to_vec();
        acts::fresh_ports_for(self.engine, &mut acts, seed, self.turn);
        let busy = match self.engine == Engine::Address && seed.is_multiple_of(8) {
            true => self.crowd(&acts),
            false => Vec::new(),
        };
        let is_vsock = |a: &Act| acts::makes(a, libc::AF_VSOCK);
        // The machine's, wherever one is.
        let _alone = acts.iter().any(is_vsock).then(kernel::vsock_lock);
        let mut answers: [Vec<Answer>; 2] = Default::default();
        for (site, answers) in [&mut self.bare, &mut self.run]
            .into_iter()
            .zip(&mut answers)
        {
            if acts.iter().any(|a| acts::makes(a, libc::AF_UNIX)) {
                std::fs::create_dir_all(&self.dir)
                    .and_then(|()| draw::sweep(&self.dir))
                    .map_err(lost)?;
            }
            if self.engine == Engine::Sealed {
                site.set_sysctls(&acts::sysctls(plan)).map_err(lost)?;
            }
            site.restart(plan.script.vars.len(), &plan.players);
            for act in &acts {
                answers.push(site.play(act).map_err(lost)?);
            }
            site.clear().map_err(lost)?;
        }
        drop(busy);
        let [bare, run] = &answers;
        Ok(compare::compare(self.engine, &acts, bare, run))
    }

    /// Other programs of the machine have these ports at its wildcards: nothing of it
    /// is to be seen in a run.
    fn crowd(&self, acts: &[Act]) -> Vec<(Option<TcpListener>, Option<UdpSocket>)> {
        let home = Namespace::here();
        let _ = self.machine.enter();
        let ports = acts.iter().filter_map(Act::port).filter(|port| *port != 0);
        let any = Ipv6Addr::UNSPECIFIED;
        let held = ports.map(|port| {
            let tcp = TcpListener::bind((any, port));
            (tcp.ok(), UdpSocket::bind((any, port)).ok())
        });
        let held = held.collect();
        if let Ok(home) = home {
            let _ = home.enter();
        }
        held
    }
}

/// The program that plays, in a run or not.
fn start(engine: Engine, user: u32, run: Option<Engine>, outer: &Namespace) -> io::Result<Site> {
    let program = compile("plays_calls", &[]).map_err(io::Error::other)?;
    let mut words = Run::new(program).user(user);
    if let Some(engine) = run {
        words = words
            .way(Way::Run)
            .launcher_arg("-q")
            .launcher_arg(match engine {
                Engine::Address => "--isolate",
                Engine::Sealed => "--isolate=sealed",
            });
    }
    let furnish = || {
        match (engine, run) {
            (Engine::Sealed, _) => return bridge(),
            // As the run has it.
            (_, None) => std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?,
            _ => {}
        }
        Ok(0)
    };
    Site::start(&words, user, &draw::cast(), outer, furnish)
}

/// Makes the device that sequences know of, with its addresses.
fn bridge() -> io::Result<u32> {
    let set = |name: &str, value| std::fs::write(format!("/proc/sys/net/{name}"), value);
    kernel::add_bridge("br0")?;
    let index = kernel::device_index("br0")?;
    for name in ["all", "default", "br0"] {
        set(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
    }
    // No link-local address of the kernel's choice.
    set("ipv6/conf/br0/addr_gen_mode", "1")?;
    kernel::device_addr("br0", [10, 1, 1, 1], [255, 255, 255, 0])?;
    kernel::device_up_without_arp("br0")?;
    kernel::device_addr6(index, BRIDGE6, 64)?;
    kernel::device_addr6(index, LINK6, 64)?;
    set("ipv4/tcp_tw_reuse", "0")?;
    Ok(index)
}
