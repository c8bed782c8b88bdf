//! `bindgate explain`: what would happen to a call, stage by stage.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::model::script::{
    Call, Caps, Line, Player, Process, Script, address, apply, kind_of,
};
use bindgate_core::model::{Host, Pick, Step};
use bindgate_core::policy::{Decision, HostSetting, Implicit, Op, Query, Times, Verb};
use bindgate_core::record::RULE_DEFAULT;
use bindgate_core::socket::SocketType;

use super::cli::RuleSource;
use super::simulate_machine::{self, LeftOut};
use super::{Failure, complain, exit, policy};

/// `bindgate explain`
#[derive(clap::Args, Debug)]
pub struct Explain {
    /// Read rules from a file; may be given more than once
    #[arg(long, short, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// One more rule, as a policy file would have it
    #[arg(long, short, value_name = "RULE", allow_hyphen_values = true)]
    rule: Vec<String>,
    /// The user who calls
    #[arg(long, value_name = "UID", default_value_t = 1000)]
    uid: u32,
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

fn read(call: &str) -> Result<Asked, Failure> {
    let words: Vec<_> = call.split_whitespace().collect();
    let ["bind", kind, addr] = words.as_slice() else {
        return Err(wrong(call, "expected: bind KIND ADDRESS"));
    };
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
    let mut sources: Vec<_> = args.policy.iter().cloned().map(RuleSource::File).collect();
    sources.extend(args.rule.iter().cloned().map(RuleSource::Text));
    let mut parsed = policy::parse(&policy::gather(&sources)?)?;
    // A run would refuse these; here they only say whose answers are wanted.
    let lines = std::mem::take(&mut parsed.host);
    let compiled = policy::compile(&parsed)?;
    let view = compiled.view()?;
    let described = !lines.is_empty();
    // A described host has no sockets; this machine's are not looked for then.
    let (mut host, left_out, sockets) = if described {
        let host = Host::loopback(simulate_machine::running());
        (host, LeftOut::default(), Vec::new())
    } else {
        let machine = simulate_machine::read();
        (machine.host, machine.left_out, machine.sockets)
    };
    for sentence in left_out.sentences(&host) {
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
        let (domain, ty, protocol) = asked.kind;
        let kinds = SocketType::created(domain, ty, protocol).kinds();
        let _ = writeln!(out, "{call}   (uid {})", args.uid);
        let decision = view.decide(
            &Query {
                op: Op::Bind,
                kinds,
                addr: Some(&asked.addr),
                implicit: Implicit::No,
                unprivileged_start: host.sysctl.unprivileged_start,
                uid: Some(args.uid),
                ..Query::default()
            },
            &Always,
        );
        let text = decision
            .rule
            .filter(|r| *r != RULE_DEFAULT)
            .and_then(|r| view.rule_text(r))
            .map(|t| String::from_utf8_lossy(t).into_owned());
        say_policy(&mut out, &decision, text);
        let bytes = match (decision.verb, decision.target) {
            (Verb::Deny, _) => continue,
            (Verb::Move, Some(target)) => target.write().bytes().to_vec(),
            _ => asked.bytes.clone(),
        };
        let moved = RawAddr::new(&bytes).and_then(|r| r.read());
        if moved.is_some_and(|a| a.family() != asked.addr.family()) {
            let _ = writeln!(
                out,
                "  model     the socket is replaced by one of the target's family"
            );
            continue;
        }
        let script = Script {
            host,
            sysctls: Vec::new(),
            jails: Vec::new(),
            processes: vec![caller.clone()],
            vars: vec!["s".into()],
            lines: Vec::new(),
        };
        // Room for all of them, and for the one that asks.
        let mut player = Player::new(&script, sockets.len() + 1);
        let mut others = 0;
        for o in &sockets {
            others += u32::from(player.net.net().adopt(o).is_some());
        }
        if !say_model(&mut out, &script, &mut player, &asked, bytes, |at| {
            left_out.concerns(at)
        }) {
            continue;
        }
        if described {
            let _ = writeln!(out, "            on the host that the policy describes");
        } else {
            let _ = writeln!(
                out,
                "            beside {others} sockets of this machine, whose reuse options are not to be seen: taken as off"
            );
        }
    }
    std::io::stdout()
        .write_all(out.as_bytes())
        .map_err(|e| Failure::new(exit::SYSTEM, "standard output", e))?;
    Ok(0)
}

fn say_policy(out: &mut String, decision: &Decision, rule: Option<String>) {
    let by = match rule {
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
    let _ = writeln!(out, "  policy    {what}, {by}   [security_socket_bind]");
}

/// The model's answer; false if it has none, since its no may come from what
/// it has no room for.
fn say_model(
    out: &mut String,
    script: &Script,
    player: &mut Player,
    asked: &Asked,
    bytes: Vec<u8>,
    is_left_out: impl Fn(&Addr) -> bool,
) -> bool {
    let at = Addr::read(&bytes);
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
    let bound = match made.result {
        Ok(()) => player.play(
            script,
            &line(Call::Bind { bytes, len: None }),
            Pick::Random(1),
        ),
        Err(_) => made,
    };
    if bound.result.is_err() && at.is_some_and(|at| is_left_out(&at)) {
        let _ = writeln!(
            out,
            "  model     not known: the address is one that the model has no room for"
        );
        return false;
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
    true
}
