//! What the kernel would answer, beside this machine's sockets.

use std::fmt::Write as _;

use bindgate_core::addr::{Addr, UnixKind, af};
use bindgate_core::model::script::{Call as ModelCall, Line, Outcome, Player, Script};
use bindgate_core::model::{Errno, No, Opt, Pick, Step, Trail};
use bindgate_core::policy::Op;
use bindgate_host_live::kernel::path::{path_of, path_state};

use super::Scene;
use super::call::Call;
use super::others::Others;
use super::text;

impl Scene<'_> {
    /// Plays the call, and says what came of it; `bytes` is the address that
    /// the kernel would be asked for. `None` where the model does not know, or where
    /// the result has been said.
    pub fn model(&self, out: &mut String, call: &Call, bytes: Option<Vec<u8>>) -> Option<Outcome> {
        let (domain, ty, protocol) = call.kind;
        // The model's kernel has the family; this one may be without it.
        if self.machine.is_some()
            && domain == i32::from(af::VSOCK)
            && let Some(errno) = bindgate_os::refused(domain, ty, protocol)
        {
            let name = Errno::from_linux(errno).map_or("an error", Errno::name);
            let _ = writeln!(
                out,
                "  model     not asked: socket(2) fails here with {name}"
            );
            text::result(out, name);
            return None;
        }
        let script = &Script {
            processes: vec![self.caller.clone()],
            vars: vec!["s".into(), "holder".into()],
            ..Script::new(self.host)
        };
        let others = self.machine.map(|machine| Others::of(machine, call));
        let others = others.unwrap_or_default();
        // Room for all of them, and for the one that asks.
        let mut player = Player::new(script, others.count() + self.described.busy.len() + 2);
        let at = bytes.as_deref().and_then(Addr::read);
        let beside = self.beside(&mut player, call, &others, at.as_ref());
        let line_of = |var, call| Line::new(0, var, call);
        let line = |call| line_of(0, call);
        let mut lines = Vec::new();
        let taken = at.as_ref().and_then(|at| others.unix(at, ty));
        if let (Some(socket), Some(Addr::Unix(name)), Some(bytes)) = (taken, &at, &bytes)
            && name.kind == UnixKind::Abstract
        {
            lines.push(line_of(
                1,
                ModelCall::Socket {
                    domain,
                    ty: socket.ty.into(),
                    protocol: 0,
                },
            ));
            let bytes = bytes.clone();
            lines.push(line_of(1, ModelCall::Bind { bytes, len: None }));
        }
        lines.push(line(ModelCall::Socket {
            domain,
            ty,
            protocol,
        }));
        lines.extend(
            call.options
                .iter()
                .filter_map(|name| option(name))
                .map(line),
        );
        match (call.op, bytes) {
            (Op::Connect, Some(bytes)) => lines.push(line(ModelCall::Connect { bytes })),
            (Op::Bind, Some(bytes)) => lines.push(line(ModelCall::Bind { bytes, len: None })),
            (Op::Listen, bytes) => {
                lines.extend(bytes.map(|bytes| line(ModelCall::Bind { bytes, len: None })));
                lines.push(line(ModelCall::Listen));
            }
            _ => {}
        }
        let mut last = None;
        for (n, line) in lines.iter().enumerate() {
            if self.machine.is_some() {
                player.path = path_of(line).map(|path| path_state(&path, self.caller.uid));
            }
            let outcome = player.play(script, line, Pick::Random(n as u32));
            let failed = outcome.result.is_err();
            last = Some(outcome);
            if failed && line.var == 0 {
                break;
            }
        }
        let mut last = last?;
        let left_out = |at| self.machine.is_some_and(|m| m.left_out.concerns(&at));
        if last.result.is_err() && at.is_some_and(left_out) {
            last.result = Err(No::Unknown(Step::LeftOut));
            last.trail = Trail::one(Step::LeftOut);
        }
        let _ = writeln!(out, "  model     {}", told(&last));
        for step in last.passed() {
            if *step != Step::CskUpdateClear {
                let _ = writeln!(out, "            {step}");
            }
        }
        let _ = writeln!(out, "            {beside}");
        if last.result == Err(Errno::EADDRINUSE.into())
            && let Some(at) = &at
            && let Some(holder) = others.holder(call, at, &self.host)
        {
            let _ = writeln!(out, "            {holder}");
        }
        Some(last)
    }

    /// Puts the machine's sockets beside the one that asks, and says so.
    fn beside(
        &self,
        player: &mut Player,
        call: &Call,
        others: &Others,
        at: Option<&Addr>,
    ) -> String {
        let names_file = matches!(at, Some(Addr::Unix(name)) if name.kind == UnixKind::Path);
        match (self.machine, call.socket().domain) {
            (None, _) => {
                // The policy was checked: they can be bound.
                let _ = self.described.enter_busy(&mut player.net.net());
                "on the host that the policy describes".to_owned()
            }
            (Some(_), af::INET | af::INET6) => {
                let mut net = player.net.net();
                let n = others.sockets().filter_map(|o| net.adopt(&o)).count();
                let sockets = if n == 1 { "socket" } else { "sockets" };
                format!(
                    "considering {n} existing {sockets} (their reuse options are unknown; \
                     assumed off)"
                )
            }
            (Some(_), af::UNIX) if names_file => {
                "with the path as it is on this machine".to_owned()
            }
            (Some(_), af::UNIX) => "beside the abstract names in use".to_owned(),
            (Some(_), _) => "other sockets of this family are not looked for".to_owned(),
        }
    }
}

/// An option by its name in a script.
fn option(name: &str) -> Option<ModelCall> {
    Some(ModelCall::Set(match name {
        "SO_REUSEADDR" => Opt::ReuseAddr(true),
        "SO_REUSEPORT" => Opt::ReusePort(true),
        "IPV6_V6ONLY" => Opt::V6Only(true),
        "IP_FREEBIND" => Opt::FreeBind(true),
        "IP_TRANSPARENT" => Opt::Transparent(true),
        "IP_BIND_ADDRESS_NO_PORT" => Opt::NoPort(true),
        _ => return None,
    }))
}

/// A result as text: `ok`, `ok ADDRESS`, the name of an error, or `unknown: WHY`.
pub fn told(outcome: &Outcome) -> String {
    match (outcome.result, outcome.name) {
        (Ok(()), Some(name)) => format!("ok {name}"),
        (Ok(()), None) => "ok".to_owned(),
        (Err(no), _) => no.to_string(),
    }
}
