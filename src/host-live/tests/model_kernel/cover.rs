//! What was drawn and what was reached, counted.

use std::collections::BTreeMap;

use bindgate_core::addr::{Addr, RawAddr, UnixKind, VMADDR_ANY};
use bindgate_core::model::host::AddrType;
use bindgate_core::model::script::{Call, Line, Outcome, Script, Setting};
use bindgate_core::model::{Host, No, Step};

use bindgate_host_live::draw::Plan;

/// Why a check cannot be reached on the machine's kernel, and where it has a
/// script of its own.
fn elsewhere(step: Step) -> Option<&'static str> {
    Some(match step {
        Step::CskFastReuse => "until 6.1: scripts/facts/fastreuse.old.sim",
        Step::UnixAutobindFull => "needs a million sockets",
        Step::VsockConnectListener | Step::VsockNoTransport => {
            "nobody is asked by vsock: model_elsewhere.rs"
        }
        Step::LeftOut | Step::NoRoom | Step::NotModelled => {
            "none of a kernel's: model_elsewhere.rs"
        }
        step if format!("{step:?}").starts_with("Vsock") => {
            "by vsock_loopback, in a guest: --vsock-loopback, model_elsewhere.rs"
        }
        step if format!("{step:?}").starts_with("Bsd") => "FreeBSD's: model_freebsd.rs",
        _ => return None,
    })
}

/// Counters by table and row.
#[derive(Default)]
pub struct Cover {
    rows: BTreeMap<(&'static str, String), u64>,
    steps: Vec<u64>,
    sequences: u64,
    calls: u64,
    unknown: u64,
}

/// An IPv4 address as the generator means it.
fn class4(host: &Host, ip: [u8; 4]) -> &'static str {
    let addr = u32::from_be_bytes(ip);
    match host.addr_type(addr) {
        _ if addr == 0 => "wildcard",
        _ if ip[0] == 127 => "loopback",
        _ if ip[0] == 0 => "zero network",
        AddrType::Local => "of the bridge",
        AddrType::Broadcast => "broadcast",
        AddrType::Multicast => "multicast",
        AddrType::Unicast => "foreign",
    }
}

fn class(host: &Host, bytes: &[u8]) -> String {
    let Some(addr) = RawAddr::new(bytes).and_then(|raw| raw.read()) else {
        return "other bytes".into();
    };
    match addr {
        Addr::Inet { ip, .. } => format!("IPv4 {}", class4(host, ip)),
        Addr::Inet6 { ip, scope, .. } => {
            let scoped = if scope == 0 { "" } else { ", scope id" };
            match ip {
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d] => {
                    format!("IPv4-mapped {}", class4(host, [a, b, c, d]))
                }
                ip if ip == [0; 16] => "IPv6 wildcard".into(),
                [0xff, kind, ..] => format!("IPv6 multicast of scope {}{scoped}", kind & 15),
                [0xfe, 0x80, ..] => format!("IPv6 link-local{scoped}"),
                ip if u128::from_be_bytes(ip) == 1 => "IPv6 loopback".into(),
                ip if host.has_v6(&ip, 0) => format!("IPv6 of the bridge{scoped}"),
                _ => format!("IPv6 foreign{scoped}"),
            }
        }
        Addr::Unix(name) => match name.kind {
            UnixKind::Auto => "Unix automatic".into(),
            UnixKind::Abstract => "Unix abstract".into(),
            UnixKind::Path => "Unix path".into(),
        },
        Addr::Vsock { cid, .. } => match cid {
            VMADDR_ANY => "vsock any".into(),
            c if Some(c) == host.vsock.cid => "vsock own CID".into(),
            c => format!("vsock CID {c}"),
        },
        Addr::Netlink { .. } => "netlink".into(),
        Addr::Packet { .. } => "packet".into(),
    }
}

fn port_class(bytes: &[u8]) -> Option<&'static str> {
    let raw = RawAddr::new(bytes)?;
    let port = match raw.read()? {
        Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => port,
        _ => return None,
    };
    Some(match port {
        0 => "automatic",
        1..1024 => "below 1024",
        _ => "1024 and above",
    })
}

impl Cover {
    fn add(&mut self, table: &'static str, row: impl Into<String>) {
        *self.rows.entry((table, row.into())).or_default() += 1;
    }

    /// A sequence begins.
    pub fn plan(&mut self, plan: &Plan) {
        self.sequences += 1;
        self.add("themes", format!("{:?}", plan.theme));
        for change in &plan.script.changes {
            let Setting::Sysctl(name, value) = &change.what else {
                continue;
            };
            let value = match name.as_str() {
                "net.ipv4.ip_local_port_range" => "other ranges",
                "net.ipv4.ip_local_reserved_ports" => "set",
                _ => value,
            };
            self.add("settings", format!("{name} = {value}"));
        }
        let n = plan.script.processes.len();
        self.add("processes of a sequence", format!("{n}"));
    }

    /// A line of it, with what the model says.
    pub fn line(&mut self, script: &Script, line: &Line, outcome: &Outcome) {
        self.calls += 1;
        if let Some(p) = script.processes.get(line.process) {
            let mut who = format!("{} uid {}", p.name, p.uid);
            let caps = [
                (p.caps.net_bind_service, "CAP_NET_BIND_SERVICE"),
                (p.caps.net_admin, "CAP_NET_ADMIN"),
                (p.caps.net_raw, "CAP_NET_RAW"),
            ];
            for (_, name) in caps.iter().filter(|(has, _)| *has) {
                who.push(' ');
                who.push_str(name);
            }
            self.add("calls of processes", who);
        }
        let call = match &line.call {
            Call::Socket {
                domain,
                ty,
                protocol,
            } => {
                self.add(
                    "sockets",
                    format!("{domain:>3} {:>2} {protocol:>3}", ty & 0xf),
                );
                "socket"
            }
            Call::File => "open",
            Call::Set(opt) => {
                let text = opt.to_string();
                let text = match text.split_once(' ') {
                    Some(("IP_LOCAL_PORT_RANGE", _)) => "IP_LOCAL_PORT_RANGE",
                    _ => &text,
                };
                self.add("options", text);
                "setsockopt"
            }
            Call::BindNowhere { .. } => "bind, nothing to read",
            Call::Bind { bytes, len } => {
                self.add("addresses of bind", class(&script.host, bytes));
                if let Some(port) = port_class(bytes) {
                    self.add("ports of bind", port);
                }
                if len.is_some() {
                    self.add("ports of bind", "(another length than the address has)");
                }
                "bind"
            }
            Call::Get(_) | Call::GetSockName | Call::GetPeerName => "get",
            Call::Listen => "listen",
            Call::Connect { bytes } => {
                self.add("addresses of connect", class(&script.host, bytes));
                "connect"
            }
            Call::Accept { .. } => "accept",
            Call::Shutdown(how) => match how {
                0 => "shutdown read",
                1 => "shutdown write",
                _ => "shutdown both",
            },
            Call::Dup { .. } => "dup",
            Call::Close => "close",
        };
        self.add("calls", call);
        let result = outcome.result.err().map_or("ok", No::name);
        self.add("results", result);
        self.steps.resize(Step::ALL.len(), 0);
        for step in outcome.trail.steps() {
            if let Some(n) = self.steps.get_mut(*step as usize) {
                *n += 1;
            }
        }
    }

    /// The model does not know what a call gives: the sequence ends before it.
    pub fn unknown(&mut self, why: Step, line: &Line) {
        self.unknown += 1;
        let call = match &line.call {
            Call::Connect { bytes } if bytes.first() == Some(&0) => "connect to AF_UNSPEC",
            Call::Connect { .. } => "connect",
            Call::Set(_) => "setsockopt",
            Call::Shutdown(_) => "shutdown",
            Call::Bind { .. } => "bind",
            Call::Close => "close",
            _ => "what its variable held is closed",
        };
        self.add("unknown", format!("{call}: {}", why.what()));
    }

    /// How many calls of how many sequences the model did not know.
    pub fn summary(&self) -> String {
        let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
        format!(
            "unknown: {} calls, {:.3} % of {}, which cut {:.2} % of {} sequences short",
            self.unknown,
            percent(self.unknown, self.calls),
            self.calls,
            percent(self.unknown, self.sequences),
            self.sequences
        )
    }

    /// Anything else worth counting.
    pub fn event(&mut self, what: &str) {
        self.add("events", what);
    }

    /// Prints the tables.
    pub fn report(&self) {
        println!("{} sequences, {} calls", self.sequences, self.calls);
        let mut last = "";
        for ((table, row), n) in &self.rows {
            if *table != last {
                println!("\n{table}:");
                last = table;
            }
            println!("{n:>12}  {row}");
        }
        println!("\nchecks of the model:");
        for (step, n) in Step::ALL.iter().zip(&self.steps) {
            let why = match (n, elsewhere(*step)) {
                (0, Some(why)) => why,
                (0, None) => "NOT REACHED",
                _ => "",
            };
            println!("{n:>12}  {step:?}  {step}  {why}");
        }
    }
}
