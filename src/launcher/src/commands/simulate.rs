//! `bindgate simulate`: a script of calls on the bind model.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bindgate_core::addr::RawAddr;
use bindgate_core::model::script::{self, Call, Expect, Line, Outcome, Player, Script};
use bindgate_core::model::{Errno, Generation, Host, No, Pick};
use clap::ValueEnum;
use serde::Serialize;

use crate::args::Format;
use bindgate_host_live::kernel::{self as kernel, Got, Kernel};
use bindgate_host_live::machine;

use crate::{Failure, exit, print, shown};

/// Sockets that a script may have open at once.
const SOCKETS: usize = 4096;

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
    /// Why nothing is known.
    reason: Option<&'static str>,
}

impl Told {
    fn of(outcome: &Outcome) -> Told {
        Told {
            result: outcome.result.err().map_or("ok", No::name).to_owned(),
            name: outcome.name.map(|n| n.to_string()),
            reason: match outcome.result {
                Err(No::Unknown(why)) => Some(why.what()),
                _ => None,
            },
        }
    }

    fn of_kernel(got: &Got) -> Told {
        let result = match got.result {
            Ok(()) => "ok".to_owned(),
            Err(n) => {
                Errno::from_linux(n).map_or_else(|| format!("errno {n}"), |e| e.name().to_owned())
            }
        };
        let name = got.name.as_deref().and_then(RawAddr::of_name);
        Told {
            result,
            name: name.map(|raw| format!("{raw:?}")),
            reason: None,
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
        match (&self.name, &line.call) {
            (Some(name), Call::Bind { .. } | Call::Listen | Call::Connect { .. })
                if self.result == "ok" =>
            {
                format!("ok {name}")
            }
            _ => self.result.clone(),
        }
    }
}

fn meets(expect: &Expect, told: &Told) -> bool {
    match expect {
        Expect::Ok => told.result == "ok",
        Expect::Name(name) => told.result == "ok" && told.name.as_ref() == Some(name),
        Expect::Fails(e) => told.result == e.name(),
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

/// Reproducible: automatic ports are the same each time.
fn random(n: usize) -> Pick {
    Pick::Random((n as u32 + 1).wrapping_mul(0x9e37_79b9))
}

fn play(script: &Script) -> Vec<Outcome> {
    let mut player = Player::new(script, SOCKETS);
    let lines = script.lines.iter().enumerate();
    lines
        .map(|(i, line)| player.play(script, line, random(i)))
        .collect()
}

/// Plays on the model and on the kernel, step by step.
fn play_both(script: &Script) -> Result<Vec<(Outcome, Told)>, Failure> {
    let failed = |what: &str, e: std::io::Error| Failure::new(exit::SYSTEM, what, e);
    let namespace = "--kernel needs a network namespace of its own, which containers forbid";
    let in_user = kernel::enter_namespace().map_err(|e| failed(namespace, e))?;
    kernel::describe(&script.host).map_err(|e| failed("the host of the script", e))?;
    for (name, value) in &script.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(path, value).map_err(|e| failed(name, e))?;
    }
    let identities: Vec<_> = script.processes.iter().map(kernel::identity).collect();
    let mut real = Kernel::new(&identities).map_err(|e| failed("the processes", e))?;
    let players: Vec<_> = (0..identities.len()).collect();
    real.restart(script.vars.len(), &players);
    let unplayed = |line: &&Line| real.pid(line.process) == 0;
    if let Some(line) = script.lines.iter().find(unplayed) {
        let name = script.processes.get(line.process).map_or("", |p| &p.name);
        return Err(Failure::say(
            exit::SYSTEM,
            format!("process {name}: nobody but root can play it with --kernel"),
        ));
    }
    let mut player = Player::new(script, SOCKETS);
    player.pids = players.iter().map(|p| real.pid(*p)).collect();
    player.in_user_namespace = in_user;
    player.net.host.vsock = kernel::vsock_host();
    let mut rows = Vec::new();
    for line in &script.lines {
        player.path = real.path_state(line);
        let got = real.play(line);
        let pick = kernel::pick(&got, line);
        player.chosen = real.chosen(&mut player, line);
        rows.push((player.play(script, line, pick), Told::of_kernel(&got)));
    }
    Ok(rows)
}

/// The command.
pub fn simulate(args: &Simulate) -> Result<i32, Failure> {
    let text = read(&args.script)?;
    // A byte order mark is no part of a name.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut script = script::parse(text, Host::loopback(machine::running()))
        .map_err(|e| Failure::new(exit::CONFIG, shown(&args.script), e))?;
    if let Some(system) = args.personality {
        script.host.generation = system.generation();
    }
    let mut rows = Vec::new();
    if args.kernel {
        if let Some(jail) = script.jails.first() {
            let no_jails = "jails are FreeBSD's, the kernel of this machine has none";
            return Err(Failure::new(exit::CONFIG, format!("jail {jail}"), no_jails));
        }
        for (outcome, other) in play_both(&script)? {
            rows.push(Row {
                outcome,
                other: Some(other),
                met: None,
            });
        }
    } else if args.both {
        let mut bsd = script.clone();
        if !script.host.generation.is_freebsd() {
            bsd.host.generation = Generation::FreeBsd14_3;
        } else {
            script.host.generation = machine::running();
        }
        for (outcome, other) in play(&script).into_iter().zip(play(&bsd)) {
            rows.push(Row {
                outcome,
                other: Some(Told::of(&other)),
                met: None,
            });
        }
    } else {
        let plain = |outcome| Row {
            outcome,
            other: None,
            met: None,
        };
        rows.extend(play(&script).into_iter().map(plain));
    }
    for (row, line) in rows.iter_mut().zip(&script.lines) {
        row.met = line
            .expect
            .as_ref()
            .map(|e| meets(e, &Told::of(&row.outcome)));
    }
    let out = match args.format {
        Format::Text => as_text(&script, &rows, args),
        Format::Json => as_json(&script, &rows, args),
    };
    print(&out)?;
    let unmet = rows.iter().any(|r| r.met == Some(false));
    let differs = args.kernel
        && rows
            .iter()
            .filter_map(|r| Some((Told::of(&r.outcome), r.other.as_ref()?)))
            .any(|(told, other)| differs(&told, other, args) == Some(true));
    Ok(i32::from(unmet || differs))
}

fn as_text(script: &Script, rows: &[Row], args: &Simulate) -> String {
    let mut out = String::new();
    let second = if args.kernel { "kernel" } else { "freebsd" };
    if args.both {
        let _ = writeln!(out, "  {:<48} {:<28} freebsd", "", "linux");
    }
    for (row, line) in rows.iter().zip(&script.lines) {
        let told = Told::of(&row.outcome);
        let call = script.line_text(line);
        let text = told.text(line);
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
                let _ = writeln!(out, "{call:<50} {text}");
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
                None => writeln!(out, "  ? {second}: {answer}"),
                Some(true) => writeln!(out, "  ! {second}: {answer}"),
                Some(false) => Ok(()),
            };
        }
        if let (Some(false), Some(expect)) = (row.met, &line.expect) {
            let _ = writeln!(out, "  ! line {}: expected {expect}", line.at);
        }
    }
    out
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
    reason: Option<&'static str>,
}

impl<'a> From<&'a Told> for ToldJson<'a> {
    fn from(told: &'a Told) -> Self {
        ToldJson {
            result: &told.result,
            name: told.name.as_deref(),
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

fn as_json(script: &Script, rows: &[Row], args: &Simulate) -> String {
    let mut out = String::new();
    for (row, line) in rows.iter().zip(&script.lines) {
        let told = Told::of(&row.outcome);
        let other = row.other.as_ref();
        let (kernel, freebsd) = if args.kernel {
            (other, None)
        } else {
            (None, other)
        };
        let holder = row.outcome.holder.and_then(|h| script.vars.get(h));
        let expected = line.expect.as_ref().filter(|_| row.met.is_some());
        let json = RowJson {
            line: line.at,
            call: script.line_text(line),
            model: ToldJson::from(&told),
            trail: row
                .outcome
                .passed()
                .iter()
                .map(ToString::to_string)
                .collect(),
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
    out
}
