//! `bindgate explain`: what would happen to a call, stage by stage.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bindgate_core::addr::{Addr, RawAddr, UnixKind, af};
use bindgate_core::model::script::{
    Call, Caps, Line, Player, Process, Script, address, apply, kind_of,
};
use bindgate_core::model::{Host, Pick, Step};
use bindgate_core::policy::{Decision, HostSetting, Implicit, Op, Query, Times, Verb, View};
use bindgate_core::record::RULE_DEFAULT;
use bindgate_core::socket::SocketType;

use super::cli::RuleSource;
use super::{Failure, complain, exit, policy};
use bindgate_host_live::kernel::path::{path_of, path_state};
use bindgate_host_live::machine::{self, Machine};

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
    /// The user who calls
    #[arg(long, value_name = "UID", default_value_t = 1000)]
    uid: u32,
    /// The executable that calls, for rules that say `for`
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Calls, like 'bind tcp 0.0.0.0:80'
    #[arg(value_name = "CALL", required = true)]
    calls: Vec<String>,
}

struct Always;

impl Times for Always {
    fn take(&self, _: u32, _: u32) -> bool {
        true
    }
}

fn wrong(call: &str, why: &str) -> Failure {
    Failure::new(exit::USAGE, format!("'{call}'"), why)
}

struct Asked {
    kind: (i32, i32, i32),
    bytes: Vec<u8>,
    addr: Addr,
}

impl Asked {
    fn socket(&self) -> SocketType {
        let (domain, ty, protocol) = self.kind;
        SocketType::created(domain, ty, protocol)
    }
}

fn read(call: &str) -> Result<Asked, Failure> {
    let words: Vec<_> = call.split_whitespace().collect();
    let ["bind", kind, addr] = words.as_slice() else {
        return Err(wrong(call, "expected: bind KIND ADDRESS"));
    };
    // A Unix name as rules have it, or as the log has it.
    let unix = format!("unix:{addr}");
    let bare = kind.starts_with("unix") && !addr.starts_with("unix:") && !addr.starts_with("hex:");
    let addr = if bare { &unix } else { *addr };
    let bytes = address(addr).map_err(|e| wrong(call, &e))?;
    let addr = RawAddr::new(&bytes)
        .and_then(|raw| raw.read())
        .ok_or_else(|| wrong(call, "the address cannot be read"))?;
    // `tcp [::]:80` means an IPv6 socket.
    let six = format!("{kind}6");
    let kind = match addr.family() {
        af::INET6 => kind_of(&six).or_else(|| kind_of(kind)),
        _ => kind_of(kind),
    };
    let kind = kind.ok_or_else(|| wrong(call, "no such kind of socket"))?;
    Ok(Asked { kind, bytes, addr })
}

/// The command.
pub fn explain(args: &Explain) -> Result<i32, Failure> {
    let mut parsed = policy::parse(&policy::gather(&args.rules)?)?;
    // A run would refuse these; here they only say whose answers are wanted.
    let lines = std::mem::take(&mut parsed.host);
    let compiled = policy::compile(&parsed)?;
    let view = compiled.view()?;
    let described = !lines.is_empty();
    // A described host has no sockets; this machine's are not looked for then.
    let machine = (!described).then(machine::read);
    let machine = machine.as_ref();
    let mut host = match machine {
        Some(machine) => machine.host,
        None => Host::loopback(machine::running()),
    };
    for sentence in machine.map_or_else(Vec::new, |m| m.left_out.sentences(&host)) {
        complain(format_args!("warning: {sentence}"));
    }
    let mut caller = Process::new("caller", args.uid);
    for line in &lines {
        apply(&mut host, &line.setting).map_err(|why| Failure::new(exit::USAGE, "host", why))?;
        if let HostSetting::Privileged(yes) = line.setting {
            caller.caps = Caps::of_user(u32::from(!yes));
        }
    }
    let mut out = String::new();
    for call in &args.calls {
        let asked = read(call)?;
        let socket = asked.socket();
        let _ = writeln!(out, "{call}   (uid {})", args.uid);
        let program = args
            .program
            .as_deref()
            .map_or(&[][..], |p| p.as_os_str().as_bytes());
        let query = Query {
            op: Op::Bind,
            kinds: socket.kinds(),
            addr: Some(&asked.addr),
            implicit: Implicit::No,
            unprivileged_start: host.sysctl.unprivileged_start,
            program,
            uid: Some(args.uid),
            ..Query::default()
        };
        let decision = view.decide(&query, &Always);
        let observed = !view.is_enforcing();
        say_policy(&mut out, &decision, observed, &view);
        if program.is_empty() && view.needs_program(Op::Bind) {
            let _ = writeln!(
                out,
                "            --program was not given: rules with 'for' were left out"
            );
        }
        let verb = if observed { Verb::Allow } else { decision.verb };
        let bytes = match (verb, decision.target) {
            (Verb::Deny, _) => continue,
            (Verb::Hide, _) => {
                let _ = writeln!(out, "  model     ok, where nobody can reach it");
                None
            }
            (Verb::Move, Some(target)) => match placed(&asked, &target) {
                Ok(bytes) => bytes,
                Err(why) => {
                    let _ = writeln!(out, "  model     {why}");
                    continue;
                }
            },
            _ => Some(asked.bytes.clone()),
        };
        match bytes {
            Some(bytes) => {
                say_model(&mut out, host, &caller, &asked, bytes, machine);
            }
            None if verb == Verb::Move => {
                let _ = writeln!(out, "  model     a Unix socket takes the socket's place");
            }
            None => {}
        }
        if !observed && socket.is_stream() {
            say_listen(&mut out, query, &view);
        }
    }
    std::io::stdout()
        .write_all(out.as_bytes())
        .map_err(|e| Failure::new(exit::SYSTEM, "standard output", e))?;
    Ok(0)
}

/// What a decision is, and by which rule.
fn told(decision: &Decision, view: &View<'_>) -> String {
    let text = |rule| view.rule_text(rule).map(String::from_utf8_lossy);
    let by = match decision.rule.filter(|r| *r != RULE_DEFAULT).and_then(text) {
        Some(text) => format!("by rule: {text}"),
        None => "by default".to_owned(),
    };
    let what = match decision.verb {
        Verb::Allow => "allowed".to_owned(),
        Verb::Deny => {
            let e = bindgate_core::model::Errno::from_linux(i32::from(decision.errno));
            let name = e.map_or_else(|| decision.errno.to_string(), |e| e.name().to_owned());
            format!("refused with {name}")
        }
        Verb::Move => match decision.target {
            Some(target) => format!("moved to {target}"),
            None => "moved, but there is no such target".to_owned(),
        },
        Verb::Hide => "hidden: bound where nobody can reach it".to_owned(),
    };
    format!("{what}, {by}")
}

fn say_policy(out: &mut String, decision: &Decision, observed: bool, view: &View<'_>) {
    let observed = if observed && decision.verb != Verb::Allow {
        "only observed, would be "
    } else {
        ""
    };
    let told = told(decision, view);
    let _ = writeln!(out, "  policy    {observed}{told}   [security_socket_bind]");
    if let Some(text) = decision.note.and_then(|n| view.rule_text(n)) {
        let text = String::from_utf8_lossy(text);
        let _ = writeln!(out, "            noted, by rule: {text}");
    }
}

/// Whether a server that is bound so far may not listen. Where the kernel
/// chooses the name, no rule can be asked about it yet.
fn say_listen(out: &mut String, bind: Query<'_>, view: &View<'_>) {
    let op = Op::Listen;
    let decision = view.decide(&Query { op, ..bind }, &Always);
    if decision.verb == Verb::Deny && bind.addr.is_some_and(|a| !a.is_auto()) {
        let told = told(&decision, view);
        let _ = writeln!(out, "  listen    {told}   [security_socket_listen]");
    }
}

/// The address that a moved socket is bound to, or nothing where it becomes a
/// Unix socket; or why it cannot be moved.
fn placed(asked: &Asked, target: &Addr) -> Result<Option<Vec<u8>>, &'static str> {
    let socket = asked.socket();
    match target.family() {
        family if family == socket.domain => Ok(Some(target.write().bytes().to_vec())),
        af::UNIX if socket.is_stream() => Ok(None),
        af::UNIX => Err("EOPNOTSUPP: a datagram socket cannot be moved to a Unix socket"),
        _ => Err("EAFNOSUPPORT: the socket's family cannot bind the target"),
    }
}

/// What the kernel would answer, beside this machine's sockets, if it is that.
fn say_model(
    out: &mut String,
    host: Host,
    caller: &Process,
    asked: &Asked,
    bytes: Vec<u8>,
    machine: Option<&Machine>,
) {
    let script = &Script {
        host,
        sysctls: Vec::new(),
        jails: Vec::new(),
        processes: vec![caller.clone()],
        vars: vec!["s".into()],
        lines: Vec::new(),
    };
    // Room for all of them, and for the one that asks.
    let others = machine.map_or(0, |m| m.sockets.len());
    let mut player = Player::new(script, others + 1);
    let at = Addr::read(&bytes);
    let names_file = matches!(&at, Some(Addr::Unix(name)) if name.kind == UnixKind::Path);
    let beside = match (machine, asked.socket().domain) {
        (None, _) => "on the host that the policy describes".to_owned(),
        (Some(machine), af::INET | af::INET6) => {
            let mut net = player.net.net();
            let n = machine.sockets.iter().filter_map(|o| net.adopt(o)).count();
            format!(
                "beside {n} sockets of this machine, whose reuse options are not to be seen: \
                 taken as off"
            )
        }
        (Some(_), af::UNIX) if names_file => "with the path as it is on this machine".to_owned(),
        (Some(_), _) => "other sockets of this family are not looked for".to_owned(),
    };
    let (domain, ty, protocol) = asked.kind;
    let line = |call| Line {
        process: 0,
        var: 0,
        call,
        expect: None,
        at: 0,
    };
    let socket = line(Call::Socket {
        domain,
        ty,
        protocol,
    });
    let made = player.play(script, &socket, Pick::Random(0));
    let bind = line(Call::Bind { bytes, len: None });
    if machine.is_some() {
        player.path = path_of(&bind).map(|path| path_state(&path, caller.uid));
    }
    let bound = match made.result {
        Ok(()) => player.play(script, &bind, Pick::Random(1)),
        Err(_) => made,
    };
    let left_out = |at| machine.is_some_and(|m| m.left_out.concerns(&at));
    if bound.result.is_err() && at.is_some_and(left_out) {
        let _ = writeln!(
            out,
            "  model     not known: the address is one that the model has no room for"
        );
        return;
    }
    let result = match (bound.result, bound.name) {
        (Ok(()), Some(name)) => format!("ok {name}"),
        (Ok(()), None) => "ok".to_owned(),
        (Err(e), _) => e.name().to_owned(),
    };
    let _ = writeln!(out, "  model     {result}");
    for step in bound.trail.steps() {
        if *step != Step::CskUpdateClear {
            let _ = writeln!(out, "            {step}");
        }
    }
    let _ = writeln!(out, "            {beside}");
}
