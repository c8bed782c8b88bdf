//! `bindgate simulate`: a script of calls on the bind model.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bindgate_core::addr::RawAddr;
use bindgate_core::model::script::{
    self, Call, Expect, Line, Outcome, Player, Script, Setting, Value,
};
use bindgate_core::model::{Errno, Generation, Host, No, Pick, Step};
use bindgate_core::socket::{SocketType, proto};
use bindgate_core::uapi::inet_diag;
use clap::ValueEnum;
use serde::Serialize;

use crate::args::Format;
use bindgate_host_live::kernel::{self as kernel, Got, Kernel, Namespace};
use bindgate_host_live::machine;

use crate::{Failure, exit, print, shown};

/// Output is written when there is so much of it.
const CHUNK: usize = 1 << 16;
/// So long may the kernel take to close what is closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// `bindgate simulate`
#[derive(clap::Args, Debug)]
pub struct Simulate {
    /// Whose rules, whatever the script says
    #[arg(long, value_name = "SYSTEM", conflicts_with = "both")]
    personality: Option<System>,
    /// Linux and FreeBSD side by side; * marks the lines where they differ
    #[arg(long, conflicts_with = "kernel")]
    both: bool,
    /// Make the calls on the real kernel too, in a fresh network namespace,
    /// and show where it answers differently
    #[arg(long)]
    kernel: bool,
    /// How the results are written; docs/simulate.md describes the JSON
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The script, see docs/simulate.md; - is standard input
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum System {
    Linux,
    Freebsd,
}

impl System {
    fn generation(self) -> Generation {
        match self {
            System::Linux => machine::running(),
            System::Freebsd => Generation::FreeBsd14_3,
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = super::policy::read_bytes(path)?;
    let not_text = |_| Failure::new(exit::CONFIG, shown(&path), "not valid UTF-8");
    String::from_utf8(bytes).map_err(not_text)
}

/// What one line gave.
struct Row {
    outcome: Outcome,
    /// The same on another system, or on the kernel.
    other: Option<Told>,
    met: Option<bool>,
}

/// A result as text.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Told {
    result: String,
    name: Option<String>,
    /// What getsockopt() gave.
    value: Option<Value>,
    /// Why nothing is known.
    reason: Option<&'static str>,
}

impl Told {
    fn of(outcome: &Outcome) -> Told {
        Told {
            result: outcome.result.err().map_or("ok", No::name).to_owned(),
            name: outcome.name.map(|n| n.to_string()),
            value: outcome.value,
            reason: match outcome.result {
                Err(No::Unknown(why)) => Some(why.what()),
                _ => None,
            },
        }
    }

    fn of_kernel(got: &Got, line: &Line) -> Told {
        let result = match got.result {
            Ok(()) => "ok".to_owned(),
            Err(n) => {
                Errno::from_linux(n).map_or_else(|| format!("errno {n}"), |e| e.name().to_owned())
            }
        };
        // unix_mkname_bsd: a path that fills sun_path gets a NUL behind it.
        let name = got.name.as_deref().map(|name| match name {
            [1, 0, path @ .., 0] if path.len() == 108 => name.get(..110).unwrap_or(name),
            name => name,
        });
        let name = name.and_then(RawAddr::of_name);
        Told {
            result,
            name: name.map(|raw| format!("{raw:?}")),
            value: match line.call {
                Call::Get(option) => got.value.map(|value| Value(option, value)),
                _ => None,
            },
            reason: None,
        }
    }

    /// The call could not be made, as its address wants a port that is not there.
    fn without_port() -> Told {
        let why = Step::NoPortOf;
        Told {
            result: No::Unknown(why).name().to_owned(),
            name: None,
            value: None,
            reason: Some(why.what()),
        }
    }

    fn text(&self, line: &Line) -> String {
        if let Some(why) = self.reason {
            return format!("unknown: {why}");
        }
        self.brief(line)
    }

    /// Without a reason.
    fn brief(&self, line: &Line) -> String {
        let names = matches!(
            line.call,
            Call::Bind { .. }
                | Call::Listen
                | Call::Connect { .. }
                | Call::GetSockName
                | Call::GetPeerName
        );
        match (&self.name, self.value) {
            (_, Some(value)) if self.result == "ok" => format!("ok {value}"),
            (Some(name), None) if self.result == "ok" && names => format!("ok {name}"),
            _ => self.result.clone(),
        }
    }
}

fn meets(expect: &Expect, told: &Told) -> bool {
    match expect {
        Expect::Ok => told.result == "ok",
        Expect::Name(name) => told.result == "ok" && told.name.as_ref() == Some(name),
        Expect::Value(option, value) => told.value == Some(Value(*option, *value)),
        Expect::Fails(e) => told.result == e.name(),
    }
}

/// Reproducible: automatic ports are the same each time.
fn random(n: usize) -> Pick {
    Pick::Random((n as u32 + 1).wrapping_mul(0x9e37_79b9))
}

/// Plays a script on the model, line by line.
struct Model<'s> {
    script: &'s Script,
    player: Player,
}

impl<'s> Model<'s> {
    fn new(script: &'s Script) -> Model<'s> {
        Model {
            script,
            player: Player::new(script, script.most_sockets() as usize),
        }
    }

    fn play(&mut self, line: &Line, pick: Pick) -> Result<Outcome, Failure> {
        let outcome = self.player.play(self.script, line, pick);
        if outcome.trail.steps().contains(&Step::NoRoom) {
            return Err(Failure::say(
                exit::CONFIG,
                format!(
                    "line {}: more than {} sockets at once, with those that connections leave \
                     behind",
                    line.at,
                    self.script.most_sockets()
                ),
            ));
        }
        Ok(outcome)
    }
}

/// What answers beside the model.
enum Beside<'s> {
    Nobody,
    Freebsd(Box<Model<'s>>),
    Kernel(Box<Machine>),
}

/// The machine's kernel, in namespaces of its own.
struct Machine {
    real: Kernel,
    spaces: Vec<Namespace>,
    /// The hosts by now, which changes are made to.
    hosts: Vec<Host>,
    applied: usize,
    /// MPTCP's sockets close in their own time.
    mptcp: bool,
    /// What the model does not know has happened.
    lost: bool,
}

fn failed(what: &str, e: std::io::Error) -> Failure {
    Failure::new(exit::SYSTEM, what, e)
}

impl Machine {
    /// Namespaces and processes as the script has them when it begins; the
    /// model learns what it needs of them.
    fn new(script: &Script, model: &mut Model<'_>) -> Result<Machine, Failure> {
        if let Some(jail) = script.jails.first() {
            let no_jails = "jails are FreeBSD's, the kernel of this machine has none";
            return Err(Failure::new(exit::CONFIG, format!("jail {jail}"), no_jails));
        }
        for change in &script.changes {
            if let Setting::File(_) = change.what {
                let why = "with --kernel the file system is the machine's own";
                let what = format!("line {}", change.at);
                return Err(Failure::new(exit::CONFIG, what, why));
            }
        }
        let namespace = "--kernel needs a network namespace of its own, which containers forbid";
        let bare = |space| {
            let mut changes = script.changes.iter().filter(|c| c.space == space);
            changes.any(|c| c.what == Setting::LoNeverUp)
        };
        let in_user = match bare(0) {
            true => kernel::enter_bare_namespace(),
            false => kernel::enter_namespace(),
        }
        .map_err(|e| failed(namespace, e))?;
        let mut spaces = vec![Namespace::here().map_err(|e| failed(namespace, e))?];
        for space in 1..=script.spaces.len() {
            let new = Namespace::new(!bare(space));
            spaces.push(new.map_err(|e| failed(namespace, e))?);
        }
        let first = script.lines.first();
        let applied = first.map_or(script.changes.len(), |line| line.after);
        let fresh = Host::loopback(machine::running());
        let mut machine = Machine {
            real: Kernel::default(),
            hosts: vec![fresh; spaces.len()],
            spaces,
            applied: 0,
            mptcp: script.lines.iter().any(|line| {
                let mptcp = i32::from(proto::MPTCP.cast_signed());
                matches!(line.call, Call::Socket { protocol, .. } if protocol == mptcp)
            }),
            lost: false,
        };
        machine.apply(script, applied)?;
        let identities: Vec<_> = script.processes.iter().map(kernel::identity).collect();
        let enter = |process: usize| {
            let space = script.processes.get(process).map_or(0, |p| p.space);
            machine.spaces.get(space).map_or(Ok(()), Namespace::enter)
        };
        let real = Kernel::in_spaces(&identities, enter).map_err(|e| failed("the processes", e))?;
        machine.real = real;
        machine.enter(0)?;
        let players: Vec<_> = (0..identities.len()).collect();
        machine.real.restart(script.vars.len(), &players);
        let unplayed = |line: &&Line| machine.real.pid(line.process) == 0;
        if let Some(line) = script.lines.iter().find(unplayed) {
            let name = script.processes.get(line.process).map_or("", |p| &p.name);
            return Err(Failure::say(
                exit::SYSTEM,
                format!("process {name}: nobody but root can play it with --kernel"),
            ));
        }
        let player = &mut model.player;
        player.pids = players.iter().map(|p| machine.real.pid(*p)).collect();
        player.in_user_namespace = in_user;
        let (vsock, netlink) = (kernel::vsock_host(), kernel::netlink_protocols());
        for net in player.networks() {
            (net.host.vsock, net.host.netlink) = (vsock, netlink);
        }
        Ok(machine)
    }

    fn enter(&self, space: usize) -> Result<(), Failure> {
        let space = self.spaces.get(space);
        let entered = space.map_or(Ok(()), Namespace::enter);
        entered.map_err(|e| failed("the network namespace", e))
    }

    /// Makes the changes of the script before this one.
    fn apply(&mut self, script: &Script, until: usize) -> Result<(), Failure> {
        while self.applied < until {
            let Some(change) = script.changes.get(self.applied) else {
                break;
            };
            self.applied += 1;
            let Some(host) = self.hosts.get_mut(change.space) else {
                continue;
            };
            // Whoever read the script has seen that it can be made.
            let _ = change.apply(host);
            let host = *host;
            self.enter(change.space)?;
            kernel::change(change, &host)
                .map_err(|e| failed(&format!("line {}: {}", change.at, change.text), e))?;
            self.enter(0)?;
        }
        Ok(())
    }

    fn play(&mut self, model: &mut Model<'_>, line: &Line) -> Result<(Outcome, Told), Failure> {
        self.apply(model.script, line.after)?;
        model.player.path = self.real.path_state(line);
        let (told, pick) = match self.real.resolved(line) {
            None => (Told::without_port(), Pick::Observed(None)),
            Some(resolved) => {
                let got = self.real.play(&resolved);
                model.player.chosen = self.real.chosen(&mut model.player, &resolved);
                (Told::of_kernel(&got, line), kernel::pick(&got, line))
            }
        };
        let outcome = model.play(line, pick)?;
        self.lost |= matches!(outcome.result, Err(No::Unknown(_)));
        if self.mptcp && !self.lost && matches!(line.call, Call::Close | Call::Shutdown(_)) {
            wait_for_closes(&mut model.player);
        }
        Ok((outcome, told))
    }
}

/// Waits until no TCP port has owners that has none in the model: a subflow of
/// MPTCP keeps its port until its outer socket's worker has run.
fn wait_for_closes(player: &mut Player) {
    let net = player.net.net();
    let ports: BTreeSet<_> = net.ids().map(|id| net.get(id)).map(|s| s.sport).collect();
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        let found = machine::inet_sockets(SocketType::created(2, 1, 0));
        let all_known = |found: Vec<_>| {
            let mut found = found.iter();
            found.all(|s: &inet_diag::Socket| ports.contains(&s.port))
        };
        if found.map_or(true, all_known) {
            return;
        }
        std::thread::yield_now();
    }
}

/// Does the other answer differ? `None` if one of them is unknown. With
/// `--both` automatic ports may.
fn differs(told: &Told, other: &Told, args: &Simulate) -> Option<bool> {
    if told.reason.is_some() || other.reason.is_some() {
        return None;
    }
    Some(if args.kernel {
        told != other
    } else {
        differ(told, other)
    })
}

/// The command.
pub fn simulate(args: &Simulate) -> Result<i32, Failure> {
    let text = read(&args.script)?;
    // A byte order mark is no part of a name.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut script = script::parse(text, Host::loopback(machine::running()))
        .map_err(|e| Failure::new(exit::CONFIG, shown(&args.script), e))?;
    if let Some(system) = args.personality {
        script.set_generation(system.generation());
    }
    let mut bsd = None;
    if args.both {
        let mut other = script.clone();
        if script.host.generation.is_freebsd() {
            script.set_generation(machine::running());
        } else {
            other.set_generation(Generation::FreeBsd14_3);
        }
        bsd = Some(other);
    }
    let mut model = Model::new(&script);
    let mut beside = match &bsd {
        Some(bsd) => Beside::Freebsd(Box::new(Model::new(bsd))),
        None if args.kernel => Beside::Kernel(Box::new(Machine::new(&script, &mut model)?)),
        None => Beside::Nobody,
    };
    let mut out = String::new();
    if args.both && args.format == Format::Text {
        let _ = writeln!(out, "  {:<48} {:<28} freebsd", "", "linux");
    }
    let mut failed = false;
    for (n, line) in script.lines.iter().enumerate() {
        let (outcome, other) = match &mut beside {
            Beside::Nobody => (model.play(line, random(n))?, None),
            Beside::Freebsd(bsd) => {
                let other = bsd.play(line, random(n))?;
                (model.play(line, random(n))?, Some(Told::of(&other)))
            }
            Beside::Kernel(machine) => {
                let (outcome, other) = machine.play(&mut model, line)?;
                (outcome, Some(other))
            }
        };
        let told = Told::of(&outcome);
        let met = line.expect.as_ref().map(|e| meets(e, &told));
        let row = Row {
            outcome,
            other,
            met,
        };
        let differs = row.other.as_ref().map(|other| differs(&told, other, args));
        failed |= met == Some(false) || (args.kernel && differs == Some(Some(true)));
        match args.format {
            Format::Text => as_text(&mut out, &script, line, &row, args),
            Format::Json => as_json(&mut out, &script, line, &row, args),
        }
        if out.len() > CHUNK {
            print(&out)?;
            out.clear();
        }
    }
    print(&out)?;
    Ok(i32::from(failed))
}

fn as_text(out: &mut String, script: &Script, line: &Line, row: &Row, args: &Simulate) {
    let told = Told::of(&row.outcome);
    let call = script.line_text(line);
    match &row.other {
        Some(other) if args.both => {
            let mark = match differs(&told, other, args) {
                None => '?',
                Some(true) => '*',
                Some(false) => ' ',
            };
            let (text, other) = (told.brief(line), other.brief(line));
            let _ = writeln!(out, "{mark} {call:<48} {text:<28} {other}");
        }
        _ => {
            let _ = writeln!(out, "{call:<50} {}", told.text(line));
        }
    }
    if !args.both {
        for step in row.outcome.passed() {
            let _ = writeln!(out, "    {step}");
        }
        if let Some(holder) = row.outcome.holder.and_then(|h| script.vars.get(h)) {
            let _ = writeln!(out, "    held by {holder}");
        }
    }
    if let (true, Some(other)) = (args.kernel, &row.other) {
        let answer = other.text(line);
        let _ = match differs(&told, other, args) {
            None => writeln!(out, "  ? kernel: {answer}"),
            Some(true) => writeln!(out, "  ! kernel: {answer}"),
            Some(false) => Ok(()),
        };
    }
    if let (Some(false), Some(expect)) = (row.met, &line.expect) {
        let _ = writeln!(out, "  ! line {}: expected {expect}", line.at);
    }
}

/// Do two systems differ? Automatic ports may.
fn differ(a: &Told, b: &Told) -> bool {
    fn address(told: &Told) -> Option<&str> {
        let name = told.name.as_deref()?;
        Some(name.rsplit_once(':').map_or(name, |(address, _)| address))
    }
    a.result != b.result || (a.result == "ok" && address(a) != address(b))
}

/// A result in JSON.
#[derive(Serialize)]
struct ToldJson<'a> {
    result: &'a str,
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl<'a> From<&'a Told> for ToldJson<'a> {
    fn from(told: &'a Told) -> Self {
        ToldJson {
            result: &told.result,
            name: told.name.as_deref(),
            value: told.value.map(|v| v.to_string()),
            reason: told.reason,
        }
    }
}

/// A call in JSON; docs/simulate.md describes it.
#[derive(Serialize)]
struct RowJson<'a> {
    line: u32,
    call: String,
    model: ToldJson<'a>,
    trail: Vec<String>,
    holder: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<ToldJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freebsd: Option<ToldJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<Option<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

fn as_json(out: &mut String, script: &Script, line: &Line, row: &Row, args: &Simulate) {
    let told = Told::of(&row.outcome);
    let other = row.other.as_ref();
    let (kernel, freebsd) = if args.kernel {
        (other, None)
    } else {
        (None, other)
    };
    let holder = row.outcome.holder.and_then(|h| script.vars.get(h));
    let expected = line.expect.as_ref().filter(|_| row.met.is_some());
    let steps = row.outcome.passed().iter();
    let json = RowJson {
        line: line.at,
        call: script.line_text(line),
        model: ToldJson::from(&told),
        trail: steps.map(ToString::to_string).collect(),
        holder: holder.map(String::as_str),
        kernel: kernel.map(ToldJson::from),
        freebsd: freebsd.map(ToldJson::from),
        differs: other.map(|other| differs(&told, other, args)),
        expected: expected.map(ToString::to_string),
        met: row.met,
    };
    // A struct of strings, numbers and flags always has a JSON form.
    let _ = writeln!(out, "{}", serde_json::to_string(&json).unwrap_or_default());
}
