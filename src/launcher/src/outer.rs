//! A run inside a run: it can only tighten.
//!
//! The launcher of the inner run was started by a program of the outer run, so
//! it has the outer run's library in it. It first leaves that ([`step_out`]):
//! its own sockets are no program's, and the program that it starts belongs to
//! the inner run. Then it fetches the outer policy, and puts its own behind
//! that.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use std::sync::atomic::Ordering::Relaxed;

use bindgate_core::judge::block::Block;
use bindgate_core::judge::vsock;
use bindgate_core::policy::{
    Action, At, DefaultLine, HostLine, HostSetting, Mode, Op, Policy, View,
};
use bindgate_core::render::errno;
use bindgate_core::shared::{ENV_RUN, EXIT_CONFIG, State, Ticket, option};
use bindgate_daemon::Own;

use crate::args::Run;

use crate::commands::policy::{self, Source};
use crate::{Failure, complain};
use bindgate_os::doors::Doors;
use bindgate_os::process::{self, Strings};
use bindgate_os::{self as sys, unix};

const PRELOAD: &str = "LD_PRELOAD";
const LIBRARY: &[u8] = b"libbindgate.so";

/// The run that this process is in.
pub struct Outer {
    words: Vec<u64>,
    options: u32,
    /// Its state, if it has ports of its own.
    state: Option<&'static State>,
}

/// The vsock host that an outer run is.
pub struct VsockHost {
    /// Its context id.
    pub cid: u32,
    /// What the lines of its policy say of it.
    settings: Vec<HostSetting>,
    /// The run whose host it is.
    pub run: u64,
    /// The mode of its files in the fabric.
    pub mode: u32,
}

impl VsockHost {
    /// The lines of a policy that say so.
    fn lines(self) -> impl Iterator<Item = HostLine> {
        let at = At::default();
        self.settings
            .into_iter()
            .map(move |setting| HostLine { setting, at })
    }
}

/// Starts this launcher anew without the library of the outer run, if it has
/// it. Where that is not possible it goes on with it.
pub fn step_out(arguments: &[OsString]) {
    if env::var_os(ENV_RUN).is_none() {
        return;
    }
    let Some(preload) = env::var_os(PRELOAD) else {
        return;
    };
    let is_ours = |entry: &&[u8]| entry.rsplit(|b| *b == b'/').next() == Some(LIBRARY);
    let entries = || preload.as_bytes().split(|b| matches!(b, b':' | b' '));
    if !entries().any(|e| is_ours(&e)) {
        return;
    }
    let others: Vec<_> = entries().filter(|e| !e.is_empty() && !is_ours(e)).collect();
    let others = others.join(&b':');
    let environment = env::vars_os().filter_map(|(name, value)| {
        let value = if name != PRELOAD {
            value
        } else if others.is_empty() {
            return None;
        } else {
            OsStr::from_bytes(&others).to_owned()
        };
        let mut line = name;
        line.push("=");
        line.push(value);
        Some(line)
    });
    if let (Some(arguments), Some(environment)) =
        (Strings::new(arguments), Strings::new(environment))
    {
        let e = process::exec_self(&arguments, &environment);
        log::debug!("still in the outer run: {e}");
    }
}

/// The run that the environment names, if there is one.
pub fn find() -> Result<Option<Outer>, Failure> {
    let Some(ticket) = env::var_os(ENV_RUN) else {
        return Ok(None);
    };
    let Some(ticket) = Ticket::parse(ticket.as_bytes()) else {
        // Not what a launcher wrote: a program would not join by it either.
        return Ok(None);
    };
    let found = reach(&ticket);
    if found.is_some() {
        return Ok(found);
    }
    if !ticket.enforces {
        complain("warning: cannot reach the run around this one, which only observed");
        return Ok(None);
    }
    Err(Failure::say(
        EXIT_CONFIG,
        "cannot reach the run around this one, and its policy enforces",
    ))
}

/// The run of a ticket, if it can be reached.
pub fn reach(ticket: &Ticket) -> Option<Outer> {
    by_proc(ticket).or_else(|| by_name(ticket))
}

fn by_proc(ticket: &Ticket) -> Option<Outer> {
    let open = |fd: u32, write| {
        let path = format!("/proc/{}/fd/{fd}", ticket.daemon);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(write)
            .open(path);
        sys::high(file.ok()?.into()).ok()
    };
    Outer::read(
        ticket,
        &open(ticket.policy, false)?,
        &open(ticket.state, true)?,
    )
}

fn by_name(ticket: &Ticket) -> Option<Outer> {
    let door = Doors::knock(ticket).ok()?;
    let pid = process::pid().cast_unsigned();
    unix::send(&door, &ticket.hello(pid, pid)).ok()?;
    let (_, [policy, state]) = unix::receive_with(&door, &mut [0; 8]).ok()?;
    Outer::read(ticket, &policy, &state)
}

impl Outer {
    fn read(ticket: &Ticket, policy: &OwnedFd, state: &OwnedFd) -> Option<Outer> {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::from(policy.try_clone().ok()?);
        let mut bytes = vec![0; usize::try_from(file.metadata().ok()?.len()).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|w| w.try_into().ok().map(u64::from_ne_bytes))
            .collect();
        let (options, words) = words.split_first()?;
        let (options, words) = (*options as u32, words.to_vec());
        let state = sys::map_state(state).ok()?;
        let is_run = state.is_run(ticket.run);
        let has_block = state.header.block.load(Relaxed) != 0;
        if !has_block {
            sys::unmap_state(state);
        }
        (is_run && View::new(&words).is_ok()).then_some(Outer {
            words,
            options,
            state: has_block.then_some(state),
        })
    }

    /// Was it started with this one of [`option`]?
    pub fn has(&self, option: u32) -> bool {
        self.options & option != 0
    }

    /// Does it refuse to start what cannot be intercepted?
    pub fn enforces(&self) -> bool {
        let enforces = View::new(&self.words).is_ok_and(|view| view.is_enforcing());
        enforces && !self.has(option::OBSERVE)
    }

    /// The ports of its own that it has.
    pub fn own_ports(&self) -> Option<Own> {
        let state = self.state?;
        Some(Own {
            block: Block::numbered(state.header.block.load(Relaxed))?,
            shares: state.shares().into_iter().flatten().collect(),
            held: None,
        })
    }

    /// Has an inner run know which ports stand for which, and how they are held.
    ///
    /// # Errors
    /// If the state of the inner run cannot be mapped.
    pub fn hand_ports_on(&self, to: &OwnedFd) -> Result<(), Failure> {
        if let Some(state) = self.state {
            let to = sys::map_state(to)
                .map_err(|e| Failure::new(crate::exit::SYSTEM, "the run's own ports", e))?;
            to.block_ports.copy(&state.block_ports);
            sys::unmap_state(to);
        }
        Ok(())
    }

    /// The vsock host that it is.
    pub fn vsock(&self) -> Option<VsockHost> {
        let view = View::new(&self.words).ok()?;
        let host = vsock::Host::of(&view)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let mut settings = vec![HostSetting::Cid(host.cid)];
        if !host.fabric.is_empty() {
            settings.push(HostSetting::Fabric(text(host.fabric)));
        }
        if let Some(vmm) = &host.vmm {
            if !vmm.uds.is_empty() {
                settings.push(HostSetting::VsockUds(text(vmm.uds)));
            }
            let ports = vmm.listed();
            settings.extend(ports.map(|(port, path)| HostSetting::VsockPort(port, text(path))));
            if host.cid == vsock::CID_HOST {
                settings.push(HostSetting::VsockGuest(vmm.guest));
            }
        }
        Some(VsockHost {
            cid: host.cid,
            settings,
            run: host.run,
            mode: view.vsock_mode(),
        })
    }

    /// Its policy, compiled.
    ///
    /// # Errors
    /// None: it was read before.
    pub fn view(&self) -> Result<View<'_>, Failure> {
        View::new(&self.words).map_err(|e| Failure::say(EXIT_CONFIG, format!("{e:?}")))
    }

    /// The outer policy, from its compiled form.
    fn policy(&self) -> Result<Policy, Failure> {
        let Ok(view) = View::new(&self.words) else {
            return policy::parse(&[]);
        };
        policy::parse(&sources(&view))
    }
}

/// The rules of a compiled policy as text, each in the file and line where it
/// stood, so that the log goes on to name these.
fn sources(view: &View<'_>) -> Vec<Source> {
    let mut sources: Vec<(Source, u32)> = Vec::new();
    let mut put = |name: &[u8], line: u32, text: &str| {
        let name = String::from_utf8_lossy(name);
        match sources.last_mut() {
            Some((source, next)) if source.name == name && *next <= line => {
                for _ in *next..line {
                    source.text.push('\n');
                }
                let _ = writeln!(source.text, "{text}");
                *next = line + 1;
            }
            _ => {
                // A line number that no file has is one that was scribbled.
                let line = line.min(1 << 20);
                let mut text = text.to_string() + "\n";
                text.insert_str(0, &"\n".repeat(line.saturating_sub(1) as usize));
                let name = name.into_owned();
                sources.push((Source { name, text }, line + 1));
            }
        }
    };
    for rule in 0..view.rules() {
        if let (Some((name, line, _)), Some(text)) = (view.rule_source(rule), view.rule_text(rule))
        {
            put(name, line, &String::from_utf8_lossy(text));
        }
    }
    for op in Op::ALL {
        let Some((name, line)) = view.default_source(op) else {
            continue;
        };
        let what = match view.default_errno(op).map(errno) {
            None => "allow".to_string(),
            Some(Some((name, _))) => format!("deny {name}"),
            Some(None) => "deny".to_string(),
        };
        put(name, line, &format!("default {what} for {}", op.name()));
    }
    sources.into_iter().map(|(source, _)| source).collect()
}

/// What a run is to do.
pub struct Plan {
    /// The policy of both runs.
    pub policy: Policy,
    /// Nothing is changed, whatever the policy's mode.
    pub observe: bool,
}

/// Appends the inner policy to the outer one.
pub fn nest(outer: Option<&Outer>, mut inner: Policy, observe: bool) -> Result<Plan, Failure> {
    let Some(outer) = outer else {
        let policy = inner;
        return Ok(Plan { policy, observe });
    };
    if View::new(&outer.words).is_ok_and(|view| view.is_ruled()) {
        let why = "the run around this one is on a host that its policy describes: a run inside \
                   would not be on it";
        return Err(Failure::say(EXIT_CONFIG, why));
    }
    let mut policy = outer.policy()?;
    let acts = |p: &Policy| policy::compile(p).map(|c| c.is_enforcing());
    let view = View::new(&outer.words);
    // Rules that act, under a mode that does not.
    let observes =
        outer.has(option::OBSERVE) || acts(&policy)? && view.is_ok_and(|v| !v.is_enforcing());
    let enforces = outer.enforces();
    if enforces {
        policy.mode = Some(Mode::Enforce);
    }
    if enforces && (observe || inner.mode == Some(Mode::Observe)) {
        // The outer rules hold; the inner ones only say what they would do.
        for rule in &mut inner.rules {
            rule.action = Action::Note;
        }
        inner.defaults = Policy::default().defaults;
        inner.mode = None;
    }
    // What the outer launcher was told for all programs, the inner rules may
    // say of one; it stays the outer run's own.
    let allows = outer.has(option::ALLOW_UNINTERCEPTED) && policy.defaults.get(Op::Exec).is_none();
    let is_set = inner.defaults.get(Op::Exec).is_some();
    if allows {
        let line = DefaultLine {
            deny: None,
            named: true,
            at: At::default(),
        };
        policy.defaults.set(Op::Exec, line);
    }
    if let Some(host) = outer.vsock() {
        let other = |h: &HostLine| h.setting.is_vsock() && !host.settings.contains(&h.setting);
        if inner.host.iter().any(other) {
            let why = format!(
                "the run around this one is the vsock host with context id {}: a run inside is on \
                 the same host",
                host.cid
            );
            return Err(Failure::say(EXIT_CONFIG, why));
        }
        inner.host.retain(|h| !h.setting.is_vsock());
        policy.host.extend(host.lines());
    }
    policy.nest(inner);
    if allows && !is_set {
        policy.defaults.clear(Op::Exec);
    }
    if enforces {
        policy.mode = Some(Mode::Enforce);
    }
    let observe = !enforces && (observe || observes);
    Ok(Plan { policy, observe })
}

/// The options of the inner run, without those that would let programs out of
/// the outer one.
pub fn tighten(outer: Option<&Outer>, mut run: Run) -> Run {
    let Some(outer) = outer else { return run };
    let withhold = |given: &mut bool, held: bool, name: &str| {
        if *given && held {
            complain(format_args!(
                "warning: {name} has no effect: the run that this one is in was started without it"
            ));
            *given = false;
        }
    };
    withhold(&mut run.let_go, !outer.has(option::LET_GO), "--let-go");
    withhold(
        &mut run.allow_unintercepted,
        outer.enforces() && !outer.has(option::ALLOW_UNINTERCEPTED),
        "--allow-unintercepted",
    );
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Policy {
        let (name, text) = ("a.policy".to_string(), text.to_string());
        policy::parse(&[Source { name, text }]).unwrap()
    }

    fn outer(text: &str, observes: bool) -> Outer {
        let words = policy::compile(&parsed(text)).unwrap().words;
        let options = if observes { option::OBSERVE } else { 0 };
        Outer {
            words,
            options,
            state: None,
        }
    }

    #[test]
    fn a_policy_survives_being_compiled() {
        let text = "\n# x\nallow bind tcp *:1024-65535\n\ndeny bind udp *:53 with EADDRINUSE\n\
                    default deny EPERM for bind\ndefault allow for socket\n";
        let outer = outer(text, false);
        let again = outer.policy().unwrap();
        let view = View::new(&outer.words).unwrap();
        let words = policy::compile(&again).unwrap().words;
        let view_again = View::new(&words).unwrap();
        assert_eq!(again.rules, parsed(text).rules);
        for rule in 0..view.rules() {
            assert_eq!(view.rule_source(rule), view_again.rule_source(rule));
        }
        for op in Op::ALL {
            assert_eq!(view.default_errno(op), view_again.default_errno(op));
            assert_eq!(view.default_source(op), view_again.default_source(op));
        }
    }

    #[test]
    fn an_inner_run_can_only_tighten() {
        let text = |p: &Policy| p.to_string();
        let enforcing = outer("deny bind tcp *:80\n", false);
        let plan = nest(Some(&enforcing), parsed("allow bind tcp *:80\n"), true).unwrap();
        assert!(!plan.observe);
        assert_eq!(plan.policy.mode, Some(Mode::Enforce));
        let (deny, note) = (plan.policy.rules.first(), plan.policy.rules.get(1));
        assert!(matches!(deny.unwrap().action, Action::Deny(_)));
        assert!(matches!(note.unwrap().action, Action::Note));
        assert_eq!(plan.policy.rules.len(), 2, "{}", text(&plan.policy));

        let inner = parsed("mode observe\ndeny bind tcp *:81\n");
        let plan = nest(Some(&enforcing), inner, false).unwrap();
        assert_eq!(plan.policy.mode, Some(Mode::Enforce));
        assert!(matches!(plan.policy.rules[1].action, Action::Note));
    }

    #[test]
    fn what_cannot_be_intercepted_starts_only_if_the_outer_run_lets_it() {
        let nested = |options, inner| {
            let words = policy::compile(&parsed("deny bind tcp *:80"))
                .unwrap()
                .words;
            let outer = Outer {
                words,
                options,
                state: None,
            };
            let plan = nest(Some(&outer), parsed(inner), false).unwrap();
            plan.policy.to_string()
        };
        let deny = "mode enforce\ndeny bind tcp *:80 with EACCES\n";
        assert_eq!(nested(0, "allow exec /x"), deny);
        assert_eq!(nested(0, "default allow for exec"), deny);
        let allows = option::ALLOW_UNINTERCEPTED;
        let rule = format!("{deny}allow exec /x\n");
        assert_eq!(nested(allows, "allow exec /x"), rule);
        assert!(nested(allows, "default allow for exec").contains("default allow for exec"));
    }

    #[test]
    fn a_run_inside_a_vsock_host_is_on_the_same_host() {
        let host = "host cid 3\nhost fabric /run/fabric\n";
        let outer = outer(host, false);
        for inner in ["", host, "host cid 3\n", "host cid 3\ndeny bind tcp *:80\n"] {
            let plan = nest(Some(&outer), parsed(inner), false).unwrap();
            assert!(plan.policy.to_string().contains(host), "{inner}");
        }
        for inner in ["host cid 4\n", "host cid 3\nhost fabric /run/other\n"] {
            let failed = nest(Some(&outer), parsed(inner), false).err();
            assert!(failed.is_some(), "{inner}");
        }
    }

    #[test]
    fn options_of_an_inner_run_only_tighten() {
        let inner = || {
            let line = "bindgate run --let-go --allow-unintercepted prog";
            match crate::args::parse(line.split(' ').map(OsString::from).collect()) {
                Ok(crate::args::Command::Run(run)) => *run,
                other => panic!("{other:?}"),
            }
        };
        let given = |text: &str, options| {
            let words = policy::compile(&parsed(text)).unwrap().words;
            let outer = Outer {
                words,
                options,
                state: None,
            };
            let run = tighten(Some(&outer), inner());
            (run.let_go, run.allow_unintercepted)
        };
        let enforcing = "deny bind tcp *:80";
        assert_eq!(given(enforcing, 0), (false, false));
        assert_eq!(given(enforcing, option::LET_GO), (true, false));
        assert_eq!(given(enforcing, option::ALLOW_UNINTERCEPTED), (false, true));
        assert_eq!(given(enforcing, option::OBSERVE), (false, true));
        assert_eq!(given("", 0), (false, true));
    }

    #[test]
    fn an_outer_run_that_watches_lets_the_inner_one_enforce_unless_it_said_observe() {
        let watching = outer("", false);
        let plan = nest(Some(&watching), parsed("deny bind tcp *:80\n"), false).unwrap();
        assert!(!plan.observe && plan.policy.mode.is_none());
        for observing in [
            outer("", true),
            outer("deny bind tcp *:80\n", true),
            outer("mode observe\ndeny bind tcp *:80\n", false),
        ] {
            let plan = nest(Some(&observing), parsed("deny bind tcp *:81\n"), false).unwrap();
            assert!(plan.observe);
        }
        let plan = nest(None, parsed("deny bind tcp *:81\n"), false).unwrap();
        assert!(!plan.observe);
    }
}
