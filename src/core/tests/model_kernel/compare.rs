//! Playing a sequence on both, and making a difference small.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bindgate_core::model::script::{Call, Line, Outcome, Player, Script};
use bindgate_core::model::{Errno, Step};

use crate::draw::{self, Plan, Rng};
use crate::kernel::{self, Got, Kernel};
use crate::world::World;

pub struct Bench {
    world: World,
    kernel: Kernel,
    player: Option<Player>,
    calls: BTreeMap<String, u64>,
    errors: BTreeMap<&'static str, u64>,
    steps: BTreeMap<Step, u64>,
}

/// Where the two disagreed.
struct Difference {
    line: usize,
    model: String,
    kernel: String,
}

fn describe(result: Result<(), i32>, name: Option<&[u8]>) -> String {
    match result {
        Ok(()) => match name {
            Some(name) => {
                let raw = bindgate_core::addr::RawAddr::new(name);
                format!("{:?}", raw.unwrap_or(bindgate_core::addr::RawAddr::EMPTY))
            }
            None => "ok".into(),
        },
        Err(e) => Errno::from_linux(e).map_or(format!("errno {e}"), |e| e.name().into()),
    }
}

fn same(outcome: &Outcome, got: &Got) -> Result<(), (String, String)> {
    let result = outcome.result.map_err(|e| i32::from(e.linux()));
    let name = outcome.name.map(|n| n.write());
    let mut name = name.as_ref().map(|n| n.bytes());
    let mut got = got.clone();
    // A packet socket also tells its device's hardware address.
    if got.name.as_ref().is_some_and(|n| n.first() == Some(&17)) {
        name = None;
        got.name = None;
    }
    if result == got.result && name == got.name.as_deref() {
        return Ok(());
    }
    let mut model = describe(result, name);
    if result == got.result && result.is_err() {
        let _ = write!(model, ", then {}", describe(Ok(()), name));
    }
    let _ = write!(model, "   {:?}", outcome.trail);
    let mut kernel = describe(got.result, got.name.as_deref());
    if result == got.result && result.is_err() {
        let _ = write!(kernel, ", then {}", describe(Ok(()), got.name.as_deref()));
    }
    Err((model, kernel))
}

impl Bench {
    pub fn new(world: World) -> Bench {
        Bench {
            world,
            kernel: Kernel::new(0),
            player: None,
            calls: BTreeMap::new(),
            errors: BTreeMap::new(),
            steps: BTreeMap::new(),
        }
    }

    /// Plays a random sequence on both.
    pub fn sequence(&mut self, rng: &mut Rng) -> Result<(), String> {
        let mut plan = draw::plan(rng, &self.world);
        self.world
            .set_sysctls(&plan.sysctls)
            .map_err(|e| format!("sysctls: {e}"))?;
        plan.script.host = self.world.host;
        let Some(first) = self.play(&plan.script, true) else {
            return Ok(());
        };
        // Once more: what does not come again was not the kernel's rule.
        if self.play(&plan.script, false).is_none() && self.play(&plan.script, false).is_none() {
            return Err(format!(
                "once only: line {}: model {}, kernel {}\n{}",
                first.line, first.model, first.kernel, plan.script
            ));
        }
        self.shrink(&mut plan);
        let last = self.play(&plan.script, false).unwrap_or(first);
        let mut text = plan.script.to_string();
        let _ = writeln!(
            text,
            "# the last call: model  {}\n#                kernel {}",
            last.model, last.kernel
        );
        Err(text)
    }

    fn play(&mut self, script: &Script, count: bool) -> Option<Difference> {
        self.kernel.clear(script.vars.len());
        let unix = |l: &Line| matches!(l.call, Call::Socket { domain: 1, .. });
        if script.lines.iter().any(unix) {
            self.world.sweep().expect("the directory of Unix paths");
        }
        let vsock = |l: &Line| matches!(l.call, Call::Socket { domain: 40, .. });
        // vsock's ports are the whole machine's: one user at a time.
        let _alone = script.lines.iter().any(vsock).then(kernel::vsock_lock);
        let player = match &mut self.player {
            Some(player) => {
                player.restart(script);
                player
            }
            empty => empty.insert(Player::new(script, 256)),
        };
        player.tgid = std::process::id();
        let mut found = None;
        for (i, line) in script.lines.iter().enumerate() {
            let uid = script.processes[line.process].uid;
            player.path = self.kernel.path_state(line, uid);
            let got = self.kernel.play(uid, line);
            let outcome = player.play(script, line, kernel::pick(&got, line));
            if count {
                *self.calls.entry(call_name(line)).or_default() += 1;
                let error = outcome.result.err().map_or("ok", Errno::name);
                *self.errors.entry(error).or_default() += 1;
                for step in outcome.trail.steps() {
                    *self.steps.entry(*step).or_default() += 1;
                }
            }
            // What the model does not know is no difference, but from here on
            // the two know different things.
            let last = outcome.trail.last();
            if matches!(last, Some(Step::ConnectNotModelled | Step::NotModelled)) {
                break;
            }
            if let Err((model, kernel)) = same(&outcome, &got) {
                found = Some(Difference {
                    line: i,
                    model,
                    kernel,
                });
                break;
            }
        }
        self.kernel.clear(0);
        found
    }

    /// Drops lines as long as a difference remains.
    fn shrink(&mut self, plan: &mut Plan) {
        if let Some(d) = self.play(&plan.script, false) {
            plan.script.lines.truncate(d.line + 1);
        }
        let mut changed = true;
        while changed {
            changed = false;
            let mut i = plan.script.lines.len();
            while i > 0 {
                i -= 1;
                let mut fewer = plan.script.clone();
                fewer.lines.remove(i);
                // Three times: a choice of the kernel may hide it.
                if (0..3).any(|_| self.play(&fewer, false).is_some()) {
                    plan.script = fewer;
                    changed = true;
                }
            }
        }
    }

    /// What was drawn and reached.
    pub fn report(&self, sequences: u64) {
        println!("{sequences} sequences, 0 differences");
        println!("\ncalls and options:");
        for (name, n) in &self.calls {
            println!("{n:>12}  {name}");
        }
        println!("\nresults:");
        for (name, n) in &self.errors {
            println!("{n:>12}  {name}");
        }
        println!("\nchecks of the model:");
        for step in Step::ALL {
            let n = self.steps.get(step).copied().unwrap_or(0);
            println!("{n:>12}  {step}");
        }
    }
}

fn call_name(line: &Line) -> String {
    match &line.call {
        Call::Socket {
            domain,
            ty,
            protocol,
        } => format!("socket {domain} {ty} {protocol}"),
        Call::Set(opt) => opt.to_string().split(' ').next().unwrap_or("").to_owned(),
        Call::Bind { .. } => "bind".into(),
        Call::Listen => "listen".into(),
        Call::Connect { .. } => "connect".into(),
        Call::Accept { .. } => "accept".into(),
        Call::Shutdown(_) => "shutdown".into(),
        Call::Dup { .. } => "dup".into(),
        Call::Close => "close".into(),
    }
}
