//! `bindgate explain`: what would happen to a call, stage by stage.
//!
//! The policy's part is the judge's ([`bindgate_core::judge`]), which a run asks
//! too; what the kernel would answer is the model's.

pub mod call;
mod model;
mod others;
mod text;

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bindgate_core::addr::{Addr, RawAddr, UnixKind, UnixName, af};
use bindgate_core::errno::{ECONNREFUSED, ENOENT};
use bindgate_core::judge::redirect::{self, Placement, Refusal};
use bindgate_core::judge::{
    Action, Answer, Caller, Need, Socket, Step as JudgeStep, Verdict, as_raw_ipv4, bind, connect,
    listen, socket,
};
use bindgate_core::model::Host;
use bindgate_core::model::linux::PathState;
use bindgate_core::model::script::{Caps, Described, Process};
use bindgate_core::policy::{Decision, HostSetting, Implicit, Op, Verb, View};
use bindgate_core::record::{Call as RecordCall, Record};
use bindgate_host_live::kernel::path::connect_state;
use bindgate_host_live::machine::{self, Machine};

use self::call::Call;
use super::policy;
use crate::args::RuleSource;
use crate::{Failure, complain, exit, low_ports, print};

/// `bindgate explain`
#[derive(clap::Args, Debug)]
pub struct Explain {
    /// Read rules from a file; may be given more than once
    #[arg(long, short, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// One more rule, as a policy file would have it
    #[arg(long, short, value_name = "RULE", allow_hyphen_values = true)]
    rule: Vec<String>,
    /// `policy` and `rule` by their places on the command line.
    #[arg(skip)]
    pub rules: Vec<RuleSource>,
    /// Explain a run with this option
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10000",
        value_parser = clap::value_parser!(u16).range(1..=64512)
    )]
    low_ports: Option<u16>,
    /// The user who calls [default: you, with your capabilities]
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
    /// The executable that calls, for rules that say `for`
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Calls, like 'bind tcp 0.0.0.0:80 reuseaddr', 'listen tcp', 'connect udp
    /// 10.0.0.1:53' or 'socket raw'
    #[arg(value_name = "CALL", required = true)]
    calls: Vec<String>,
}

/// Everything that the answers depend on.
struct Scene<'a> {
    view: &'a View<'a>,
    host: Host,
    caller: Process,
    program: &'a [u8],
    machine: Option<&'a Machine>,
    described: &'a Described,
}

/// The command.
pub fn explain(args: &Explain) -> Result<i32, Failure> {
    let mut sources = policy::gather(&args.rules)?;
    sources.extend(args.low_ports.map(low_ports::written));
    let mut parsed = policy::parse(&sources)?;
    // A run would refuse these; here they only say whose answers are wanted.
    policy::check_host(&parsed)?;
    let mut lines = std::mem::take(&mut parsed.host);
    // That describes no other host.
    lines.retain(|line| !matches!(line.setting, HostSetting::Lease(_)));
    let compiled = policy::compile(&parsed)?;
    let view = compiled.view()?;
    // A described host has no sockets but its own; this machine's are not looked for then.
    let machine = lines.is_empty().then(machine::read);
    let machine = machine.as_ref();
    let described = Described::of(&lines, machine::running());
    let described = described.map_err(|(_, why)| Failure::new(exit::USAGE, "host", why))?;
    let mut host = match machine {
        Some(machine) => machine.host,
        None => described.host,
    };
    for sentence in machine.map_or_else(Vec::new, |m| m.left_out.sentences(&host)) {
        complain(format_args!("warning: {sentence}"));
    }
    let mut caller = caller(args.uid);
    if let Some(yes) = described.privileged {
        caller.caps = Caps::of_user(u32::from(!yes));
    }
    // The vsock host that a run is reaches itself.
    host.vsock.local |= lines
        .iter()
        .any(|line| matches!(line.setting, HostSetting::Cid(_)));
    let scene = Scene {
        view: &view,
        host,
        caller,
        program: args
            .program
            .as_deref()
            .map_or(&[][..], |p| p.as_os_str().as_bytes()),
        machine,
        described: &described,
    };
    let mut out = String::new();
    let mut status = 0;
    for text in call::calls(&args.calls) {
        match Call::parse(&text) {
            Ok(call) => scene.explain(&mut out, &call),
            Err(failure) => {
                complain(&failure.message);
                status = failure.status;
            }
        }
    }
    print(&out)?;
    Ok(status)
}

/// Who calls: this very process's user, or another one as the kernel makes it.
fn caller(uid: Option<u32>) -> Process {
    let own = bindgate_os::process::effective_uid();
    let mut caller = Process::new("caller", uid.unwrap_or(own));
    if caller.uid == own
        && let Some(capabilities) = bindgate_os::process::capabilities()
    {
        let has = |n: u32| capabilities >> n & 1 != 0;
        caller.caps = Caps {
            net_bind_service: has(10),
            net_admin: has(12),
            net_raw: has(13),
        };
    }
    caller
}

impl Scene<'_> {
    fn caller(&self) -> Caller<'_> {
        Caller {
            view: self.view,
            observe: !self.view.is_enforcing(),
            unprivileged_start: self.host.sysctl.unprivileged_start,
            program: if self.program.is_empty() {
                // Rules with `for` are left out, and it is said.
                b"?"
            } else {
                self.program
            },
            script: b"",
        }
    }

    fn explain(&self, out: &mut String, call: &Call) {
        let _ = writeln!(out, "{}   (uid {})", call.text, self.caller.uid);
        if self.program.is_empty() && self.view.needs_program(call.op) {
            let _ = writeln!(
                out,
                "            --program was not given: rules with 'for' were left out"
            );
        }
        match call.op {
            Op::Listen => self.listen(out, call),
            _ => self.one(out, call),
        }
    }

    /// Answers what a machine of the judge asks, for the socket of the call.
    fn answer<'c>(&self, call: &'c Call, need: Need) -> Answer<'c> {
        match need {
            Need::Socket => Answer::Socket(Socket::described(call.socket())),
            Need::Protocol => Answer::Protocol(Some(call.socket().protocol)),
            Need::Bound => Answer::Bound(Some(call.addr.is_some())),
            Need::Name => Answer::Name(Some((call.socket(), call.at()))),
            Need::V6Only => {
                Answer::V6Only(Some(call.has("IPV6_V6ONLY") || self.host.sysctl.bindv6only))
            }
            Need::User => Answer::User(Some(self.caller.uid)),
            Need::Privilege { .. } => {
                Answer::Unprivileged(Some(!self.caller.caps.net_bind_service))
            }
            // The first match of the run.
            Need::Use { uses, .. } => Answer::Use(uses.takes(0)),
        }
    }

    /// What the policy says of an operation with the call's address, and of which
    /// address.
    fn judged(&self, call: &Call, op: Op) -> (Verdict, Option<Addr>) {
        let caller = self.caller();
        let believed = Some(call.socket());
        let raw = call
            .addr
            .as_ref()
            .and_then(|(bytes, _)| RawAddr::new(bytes))
            .and_then(|raw| as_raw_ipv4(&raw));
        let mut judge = match op {
            Op::Socket => socket::create(&caller, call.socket()),
            Op::Connect => connect::connect(&caller, call.at(), believed),
            _ => bind::bind(&caller, call.at(), raw.as_ref(), Implicit::No, believed),
        };
        while let JudgeStep::Need(need) = judge.step() {
            judge.feed(self.answer(call, need));
        }
        let verdict = *judge.verdict();
        let addr = match verdict.by_raw {
            true => raw,
            false => call.at().copied(),
        };
        (verdict, addr)
    }

    /// A call that is judged once.
    fn one(&self, out: &mut String, call: &Call) {
        let caller = self.caller();
        let (verdict, addr) = self.judged(call, call.op);
        match self.policy(out, call.op, &verdict, addr.as_ref()) {
            Action::Refuse(errno) => text::result(out, &text::name_of(errno)),
            Action::Redirect(decision) => self.redirected(out, call, &verdict, &decision),
            Action::Forward | Action::Restore | Action::OnHost => {
                let (domain, ty, protocol) = call.kind;
                if call.op == Op::Socket
                    && matches!(socket::carrier(&caller, domain, ty, protocol), Ok(Some(_)))
                {
                    let _ = writeln!(out, "  model     a Unix socket is made in its place");
                    return text::result(out, "ok");
                }
                let bytes = call.addr.as_ref().map(|(bytes, _)| bytes.clone());
                let outcome = self.model(out, call, bytes);
                match outcome {
                    Some(outcome) if call.op == Op::Socket && outcome.result.is_ok() => {
                        text::result(out, "ok");
                    }
                    Some(outcome) => text::result(out, &model::told(&outcome)),
                    None => {}
                }
                self.may_listen(out, call);
            }
        }
    }

    /// listen(2), with the bind that comes with it.
    fn listen(&self, out: &mut String, call: &Call) {
        let caller = self.caller();
        let mut judge = listen::Listen::new(&caller, Some(call.socket()), call.addr.is_some());
        while let JudgeStep::Need(need) = judge.step() {
            judge.feed(self.answer(call, need));
        }
        if let Some((verdict, addr)) = judge.implicit() {
            match self.policy(out, Op::Bind, verdict, Some(addr)) {
                Action::Refuse(errno) => return text::result(out, &text::name_of(errno)),
                Action::Redirect(decision) => {
                    return self.redirected(out, call, verdict, &decision);
                }
                Action::Forward | Action::Restore | Action::OnHost => {}
            }
        }
        if let Some((verdict, addr)) = judge.verdict()
            && let Action::Refuse(errno) = self.policy(out, Op::Listen, verdict, addr)
        {
            return text::result(out, &text::name_of(errno));
        }
        // Where the bind before it has put the socket. A bind that is refused is
        // not this socket's: it was bound outside the run.
        let (verdict, addr) = self.judged(call, Op::Bind);
        if call.addr.is_some()
            && let Some(decision) = verdict.decision(&caller, addr.as_ref())
            && matches!(decision.verb, Verb::Move | Verb::Hide)
            && let Action::Redirect(decision) = self.policy(out, Op::Bind, &verdict, addr.as_ref())
        {
            return self.redirected(out, call, &verdict, &decision);
        }
        let bytes = call.addr.as_ref().map(|(bytes, _)| bytes.clone());
        if let Some(outcome) = self.model(out, call, bytes) {
            text::result(out, &model::told(&outcome));
        }
    }

    /// Says what the policy says, and gives what is to be done.
    fn policy(&self, out: &mut String, op: Op, verdict: &Verdict, addr: Option<&Addr>) -> Action {
        let caller = self.caller();
        // Its words are the record's.
        let mut record = Record::new(RecordCall::Bind);
        let action = verdict.enter(&caller, op, addr, &mut record);
        if let Some(decision) = verdict.decision(&caller, addr) {
            text::policy(out, self.view, &decision, caller.observe, op);
        }
        action
    }

    /// A redirect that holds: to where, and what the kernel says of that.
    fn redirected(&self, out: &mut String, call: &Call, verdict: &Verdict, decision: &Decision) {
        let socket = call.socket();
        let placement = match call.op {
            Op::Connect => redirect::connect(decision, socket),
            _ => redirect::bind(decision, call.at(), socket, verdict.v6only),
        };
        let virt = call.at().map_or("ok".to_owned(), |at| format!("ok {at}"));
        let placement = match placement {
            Ok(placement) => placement,
            Err(refusal) => return text::refused(out, refusal),
        };
        let is_replaced = matches!(&placement, Placement::Unix(_)) && socket.domain != af::UNIX;
        if let Placement::Unix(name) = &placement
            && self.machine.is_some()
            && call.op != Op::Connect
            && is_taken(name)
        {
            return text::refused(out, Refusal::Path);
        }
        if decision.verb == Verb::Hide {
            let _ = writeln!(out, "  model     ok, where nobody can reach it");
            text::result(out, &virt);
        } else if is_replaced {
            let _ = writeln!(out, "  model     a Unix socket takes the socket's place");
            match (&placement, call.op) {
                (Placement::Unix(name), Op::Connect) if self.machine.is_some() => {
                    text::result(out, &self.reached(call, name).unwrap_or(virt));
                }
                _ => text::result(out, &virt),
            }
        } else {
            if matches!(placement, Placement::OnLo(_)) {
                let _ = writeln!(out, "            bound to the device lo, for both families");
            }
            let bytes = placement.addr().write().bytes().to_vec();
            if let Some(outcome) = self.model(out, call, Some(bytes)) {
                let told = match outcome.result {
                    Ok(()) => virt,
                    Err(_) => model::told(&outcome),
                };
                text::result(out, &told);
            }
        }
        self.may_listen(out, call);
    }

    /// Why nobody is reached at a Unix name, as the program is told.
    fn reached(&self, call: &Call, name: &UnixName) -> Option<String> {
        let state = match name.kind {
            UnixKind::Path => connect_state(name.bytes(), self.caller.uid),
            _ => PathState::Exists,
        };
        let errno = match state {
            PathState::Free => ENOENT,
            PathState::Refused(errno) => errno.linux(),
            PathState::Exists | PathState::Elsewhere if listens_unix(name) => return None,
            PathState::Exists | PathState::Elsewhere => ECONNREFUSED,
        };
        let errno = redirect::connect_error(call.socket(), errno);
        Some(text::name_of(errno))
    }

    /// Says where a server that is bound so may not listen. Where the kernel
    /// chooses the name, no rule can be asked about it yet.
    fn may_listen(&self, out: &mut String, call: &Call) {
        let is_named = call.at().is_some_and(|at| !at.is_auto());
        if call.op != Op::Bind || !is_named || !call.socket().is_stream() || self.caller().observe {
            return;
        }
        let caller = self.caller();
        let mut judge = listen::Listen::new(&caller, Some(call.socket()), true);
        while let JudgeStep::Need(need) = judge.step() {
            let answer = match need {
                Need::Bound => Answer::Bound(Some(true)),
                need => self.answer(call, need),
            };
            judge.feed(answer);
        }
        if let Some((verdict, addr)) = judge.verdict()
            && let Some(decision) = verdict.decision(&caller, addr)
            && decision.verb == Verb::Deny
        {
            text::listen(out, self.view, &decision);
        }
    }
}

/// Does a socket with this Unix name listen on this machine?
fn listens_unix(name: &UnixName) -> bool {
    let all = machine::unix_sockets();
    all.iter().any(|s| s.listens && s.is_named(name))
}

/// Is something at the path of a Unix name that is not a socket? A socket file
/// may have been abandoned, and a run would look.
fn is_taken(name: &UnixName) -> bool {
    use std::os::unix::fs::FileTypeExt;
    if name.kind != UnixKind::Path {
        return false;
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(name.bytes()));
    path.symlink_metadata()
        .is_ok_and(|found| !found.file_type().is_socket())
}
