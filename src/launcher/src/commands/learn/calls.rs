//! Records of a run as the calls that a policy is learned from, and what was not seen.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use bindgate_core::addr::{Addr, RawAddr};
use bindgate_core::model::script;
use bindgate_core::policy::learn::Call;
use bindgate_core::policy::{Implicit, Op};
use bindgate_core::reach::Stance;
use bindgate_core::render::socket_type;

use crate::events::{Decision, Event, Line};
use crate::reach::Looker;
use crate::{exit, library, shown};

/// Calls that differ in nothing that a rule could tell are kept that many times: some
/// rules count.
const MOST_ALIKE: u32 = 64;

/// What was seen of one run.
pub struct Seen {
    /// The log's name, of one that was there before.
    log: Option<String>,
    calls: Vec<Call>,
    alike: HashMap<String, u32>,
    notes: BTreeSet<String>,
    refusals: BTreeSet<String>,
    has_end: bool,
    records: u64,
    is_left: bool,
    has_listeners: bool,
    has_listen: bool,
    /// The interpreters of scripts count, too.
    execs: bool,
}

impl Seen {
    /// Nothing yet.
    pub fn new(log: Option<String>, execs: bool) -> Seen {
        Seen {
            log,
            calls: Vec::new(),
            alike: HashMap::new(),
            notes: BTreeSet::new(),
            refusals: BTreeSet::new(),
            has_end: false,
            records: 0,
            is_left: false,
            has_listeners: false,
            has_listen: false,
            execs,
        }
    }

    /// The program that the run is started with, which is in no record.
    pub fn start(&mut self, command: &[OsString]) {
        let Some((links, obstacle)) = look(command) else {
            return;
        };
        for path in links {
            let is_unseen = obstacle.as_ref().is_some_and(|(at, _)| *at == path);
            if is_unseen {
                let why = obstacle.as_ref().map_or("", |(_, why)| why);
                self.not_intercepted(&shown(&path).to_string(), why, "bindgate");
            }
            self.add(Call {
                op: Op::Exec,
                file: shown(&path).to_string(),
                is_unseen,
                comment: match is_unseen {
                    true => "the run starts it; it cannot be intercepted".into(),
                    false => "the run starts it".into(),
                },
                ..Call::default()
            });
        }
    }

    fn not_intercepted(&mut self, file: &str, why: &str, by: &str) {
        self.notes.insert(format!(
            "Not seen: what {file} did, which {by} started and which cannot be intercepted \
             ({why}); nor is it held to this policy"
        ));
    }

    /// One line of the log.
    pub fn take(&mut self, number: usize, line: &Line) {
        match &line.event {
            Event::Decision(d) => self.decision(number, &line.time, d, false),
            Event::Unseen(d) => self.decision(number, &line.time, d, true),
            Event::Fault(d) => {
                let program = d.program.as_deref().unwrap_or("an unknown program");
                self.notes.insert(format!(
                    "Not seen: calls of {program} in which bindgate itself failed and which went on"
                ));
            }
            Event::Lost { why, .. } => {
                self.notes
                    .insert(format!("Not seen: records were lost: {why}"));
            }
            Event::End(end) => {
                self.has_end = true;
                self.records = end.records;
                self.is_left = end.left > 0;
            }
            _ => {}
        }
    }

    /// The log has no more lines.
    pub fn finish(&mut self) {
        let Some(log) = &self.log else {
            return;
        };
        if !self.has_end {
            let note = format!("Not seen: what happened after the log {log}, which has no end");
            self.notes.insert(note);
        } else if self.is_left {
            let note = format!("Not seen: what processes did after the log {log} ended");
            self.notes.insert(note);
        }
        if self.is_deaf() {
            self.notes.insert(format!(
                "Not seen: listen(2), which the log {log} has only where a rule is about it: \
                 -r 'note listen any'"
            ));
        }
    }

    /// Did the run take place, which ended with this status? One whose program could
    /// not be started has an end, too, and nothing before it.
    pub fn was_run(&self, status: ExitStatus) -> bool {
        let not_started = [exit::NOT_FOUND, exit::NOT_EXECUTABLE];
        let is_not_started = status
            .code()
            .is_some_and(|code| not_started.contains(&code));
        self.has_end && !(is_not_started && self.records == 0)
    }

    /// Was listen(2) not recorded?
    pub fn is_deaf(&self) -> bool {
        self.has_listeners && !self.has_listen
    }

    /// The calls of these operations, and the programs that cannot be intercepted.
    pub fn calls(&self, ops: &[Op]) -> Vec<Call> {
        let is_meant = |call: &&Call| ops.contains(&call.op) || call.is_unseen;
        self.calls.iter().filter(is_meant).cloned().collect()
    }

    /// What was not seen.
    pub fn unseen(&self) -> Vec<String> {
        self.notes.iter().cloned().collect()
    }

    /// What was refused in the run.
    pub fn refusals(&self) -> Vec<String> {
        self.refusals.iter().cloned().collect()
    }

    fn add(&mut self, call: Call) {
        let alike = format!(
            "{:?}",
            Call {
                cookie: None,
                got: call.got.filter(|_| call.addr.is_some_and(|a| a.is_auto())),
                pid: if call.has_pid_in_name() { call.pid } else { 0 },
                comment: String::new(),
                ..call.clone()
            }
        );
        let count = self.alike.entry(alike).or_default();
        *count += 1;
        if *count <= MOST_ALIKE {
            self.calls.push(call);
        }
    }

    fn decision(&mut self, number: usize, time: &str, d: &Decision, is_unseen: bool) {
        let Some(mut call) = call(d) else {
            return;
        };
        let by = d.program.as_deref().unwrap_or("an unknown program");
        if d.verdict == "deny" && !d.observed {
            let rule = d.rule.as_ref().map(|rule| format!(": {}", rule.text));
            self.refusals.insert(format!(
                "not learned, because the run refused it{}: {} by {by}",
                rule.unwrap_or_default(),
                described(&call)
            ));
            return;
        }
        if call.op == Op::Exec {
            let asked = call.file.clone();
            call.is_unseen = is_unseen;
            if let Some(real) = d.used.as_deref().or(Some(&asked)).and_then(real) {
                call.file = real;
            }
            if is_unseen {
                let file = call.file.clone();
                self.not_intercepted(&file, d.reason.as_deref().unwrap_or("unknown"), by);
            }
        }
        let listens = matches!(d.ty.as_deref(), Some("stream" | "seqpacket"));
        self.has_listeners |= call.op == Op::Bind && listens && d.kernel.as_deref() == Some("ok");
        self.has_listen |= call.op == Op::Listen;
        call.comment = self.comment(number, time, d, &call);
        if call.op == Op::Exec && self.execs && !is_unseen {
            // The interpreters of a script are asked about, too.
            let (links, _) = look(&[call.file.clone().into()]).unwrap_or_default();
            for path in links.iter().skip(1) {
                self.add(Call {
                    file: shown(path).to_string(),
                    ..call.clone()
                });
            }
        }
        self.add(call);
    }

    /// The record, by what finds it.
    fn comment(&self, number: usize, time: &str, d: &Decision, call: &Call) -> String {
        let name = d.program.as_deref().map_or("?", base);
        let name = match d.script.as_deref() {
            Some(script) => format!("{name}({})", base(script)),
            None => name.to_owned(),
        };
        let seconds = time.split('.').next().unwrap_or(time);
        let mut text = format!("{name}[{}], {seconds}Z", d.pid);
        if let Some(log) = &self.log {
            text += &format!(", {log}:{number}");
        }
        if let Some(errno) = &d.errno {
            text += &format!("; failed: {errno}");
        }
        if call.is_unseen {
            text += "; it cannot be intercepted";
        }
        if call.has_pid_in_name() {
            text += "; the process id is in the name";
        }
        text
    }
}

/// The last part of a path.
fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The files that a command starts with, and which of them cannot be intercepted, and
/// why.
#[allow(clippy::type_complexity)]
fn look(command: &[OsString]) -> Option<(Vec<PathBuf>, Option<(PathBuf, String)>)> {
    let library = library::find().ok()?;
    let looker = Looker {
        stance: Stance {
            searched: true,
            ..Stance::default()
        },
        view: None,
        library: &library,
    };
    let found = looker.look(command)?;
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let obstacle = found.obstacle();
    let obstacle = obstacle.map(|(link, _)| (real(&link.path), link.class.name().to_owned()));
    Some((
        found.links.iter().map(|link| real(&link.path)).collect(),
        obstacle,
    ))
}

/// The file itself, if its path is known here.
fn real(path: &str) -> Option<String> {
    let real = Path::new(path)
        .canonicalize()
        .ok()
        .filter(|_| path.contains('/'))?;
    Some(String::from_utf8_lossy(real.as_os_str().as_bytes()).into_owned())
}

/// The address that a log writes.
fn address(text: &str) -> Option<Addr> {
    let bytes = script::address(text).ok()?;
    RawAddr::new(&bytes)?.read()
}

/// What a record says was called; nothing where that is nothing to a policy.
fn call(d: &Decision) -> Option<Call> {
    let (op, implicit) = match (d.call.as_str(), d.implicit) {
        ("listen", true) => (Op::Bind, Implicit::Listen),
        (_, true) => (Op::Bind, Implicit::Connect),
        ("socket" | "socketpair", _) => (Op::Socket, Implicit::No),
        ("bind", _) => (Op::Bind, Implicit::No),
        ("listen", _) => (Op::Listen, Implicit::No),
        ("connect" | "sendto" | "sendmsg" | "sendmmsg", _) => (Op::Connect, Implicit::No),
        ("exec", _) => (Op::Exec, Implicit::No),
        _ => return None,
    };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let socket = socket_type(&text(&d.family), &text(&d.ty), &text(&d.protocol));
    let is_moved = matches!(d.verdict.as_str(), "move" | "hide") && !d.observed;
    let is_exec = op == Op::Exec;
    Some(Call {
        op,
        socket: socket.unwrap_or_default(),
        addr: d.asked.as_deref().filter(|_| !is_exec).and_then(address),
        got: d.used.as_deref().filter(|_| !is_exec).and_then(address),
        v6only: d.v6only,
        implicit,
        cookie: d.cookie,
        program: text(&d.program),
        script: text(&d.script),
        pid: d.pid,
        uid: d.uid,
        file: if is_exec {
            text(&d.asked)
        } else {
            String::new()
        },
        moved_by: d
            .rule
            .as_ref()
            .filter(|_| is_moved)
            .map(|rule| rule.text.clone()),
        ..Call::default()
    })
}

/// A call in words.
fn described(call: &Call) -> String {
    let op = call.op.name();
    match (&call.addr, call.op) {
        (_, Op::Exec) => format!("{op} {}", call.file),
        (Some(addr), _) => format!("{op} {addr}"),
        (None, _) => op.to_owned(),
    }
}

fn by(call: &Call) -> &str {
    match call.program.as_str() {
        "" => "an unknown program",
        program => program,
    }
}

/// A call that no rule can name.
pub fn unsaid(call: &Call) -> String {
    format!(
        "Not allowed: {} by {}, a socket and an address that no rule but one for all can name \
         (family {}, type {}, protocol {})",
        described(call),
        by(call),
        call.socket.domain,
        call.socket.ty,
        call.socket.protocol
    )
}

/// A call that a rule of the file refuses.
pub fn refused(call: &Call, rule: &str) -> String {
    format!(
        "not learned, because {rule} refuses it: {} by {}",
        described(call),
        by(call)
    )
}

/// A name that will be another one in the next run.
pub fn fragile(call: &Call) -> String {
    format!(
        "warning: {} has the process id in it, which is another in the next run: --pid-globs \
         writes [0-9]* for it",
        described(call)
    )
}
