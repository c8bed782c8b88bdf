//! What a sequence does: the calls of the differential test's generator, and datagrams,
//! data and questions between them.

use std::collections::{BTreeMap, BTreeSet};

use bindgate_core::model::Opt;
use bindgate_core::model::script::{Call, Script};
use bindgate_host_live::draw::{Plan, Rng, Sysctls};

use super::Engine;

/// What one process does with one variable.
#[derive(Clone, Debug)]
pub struct Act {
    pub process: usize,
    pub var: usize,
    pub what: What,
    /// The port of the address is that of this variable's socket.
    pub port_of: Option<usize>,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A call of the generator's.
    Call(Call),
    /// A byte, to an address or to the peer, by one of libc's functions.
    Send {
        to: Option<Vec<u8>>,
        by: i32,
        byte: u8,
    },
    /// A byte and where it comes from.
    Receive { by: i32 },
    /// `SO_ERROR`
    Error,
}

impl Act {
    /// The address that it names.
    pub fn address(&self) -> Option<&Vec<u8>> {
        match &self.what {
            What::Call(Call::Bind { bytes, .. } | Call::Connect { bytes }) => Some(bytes),
            What::Send { to, .. } => to.as_ref(),
            _ => None,
        }
    }

    fn address_mut(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.what {
            What::Call(Call::Bind { bytes, .. } | Call::Connect { bytes }) => Some(bytes),
            What::Send { to, .. } => to.as_mut(),
            _ => None,
        }
    }

    /// The port that it names, of an IP address.
    pub fn port(&self) -> Option<u16> {
        self.address().and_then(|bytes| port(bytes))
    }

    pub fn set_port(&mut self, port: u16) {
        if let Some(to) = self.address_mut().and_then(|bytes| bytes.get_mut(2..4)) {
            to.copy_from_slice(&port.to_be_bytes());
        }
    }
}

/// The port of an IP address.
pub fn port(name: &[u8]) -> Option<u16> {
    match name {
        [2 | 10, 0, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// Domain, type and protocol of what each variable holds, if it holds anything.
type Kinds = Vec<(i32, i32, i32)>;

fn follow(kinds: &mut Kinds, var: usize, call: &Call) {
    kinds[var] = match call {
        Call::Socket {
            domain,
            ty,
            protocol,
        } => (*domain, *ty, *protocol),
        Call::Dup { of } | Call::Accept { from: of } => kinds[*of],
        Call::File | Call::Close => (0, 0, 0),
        _ => return,
    };
}

const MPTCP: i32 = 262;
const VSOCK: i32 = 40;

/// The sysctls of a plan. Of a few automatic ports the kernel chooses as it likes, and
/// the two places would go on differently: there is one, or the usual number.
pub fn sysctls(plan: &Plan) -> Sysctls {
    let mut sysctls = plan.sysctls;
    if sysctls.range.0 != sysctls.range.1 {
        sysctls.range = Sysctls::DEFAULT.range;
        sysctls.reserved = None;
    }
    sysctls
}

/// The acts of a plan. The address engine's are about the addresses that are the
/// run's own; `docs/hosts.md` says which are the machine's.
pub fn acts(plan: &Plan, engine: Engine, rng: &mut Rng) -> Vec<Act> {
    let script: &Script = &plan.script;
    let connects = |call: &Call| matches!(call, Call::Connect { .. });
    let any_connects = script.lines.iter().any(|line| connects(&line.call));
    let mut kinds: Kinds = vec![(0, 0, 0); script.vars.len()];
    let mut acts: Vec<Act> = Vec::new();
    let mut called = vec![false; script.vars.len()];
    for line in &script.lines {
        let mut call = line.call.clone();
        if let Call::Socket { protocol, .. } = &mut call
            && *protocol == MPTCP
            && (any_connects || engine == Engine::Address)
        {
            // Its connections end in a worker of the kernel's: a race.
            *protocol = 0;
        }
        if let Call::Set(Opt::PortRange(low, high)) = &mut call
            && *low < *high
            && *high - *low < 100
        {
            // Of two ports the kernel chooses one.
            *high = *low;
        }
        if let (Engine::Address, Call::Set(option)) = (engine, &mut call) {
            own_only(option);
        }
        follow(&mut kinds, line.var, &call);
        // Nobody on the other side of a real vsock is to hear of this.
        if kinds[line.var].0 == VSOCK && connects(&call) {
            break;
        }
        match &call {
            Call::Connect { bytes } => called[line.var] = bytes.first() != Some(&0),
            Call::Dup { of } => called[line.var] = called[*of],
            Call::Socket { .. } => called[line.var] = false,
            _ => {}
        }
        let mut act = Act {
            process: line.process,
            var: line.var,
            what: What::Call(call),
            port_of: None,
        };
        let other = rng.below(script.vars.len());
        let is_ip = matches!(kinds[line.var].0, 2 | 10);
        if is_ip && act.port() == Some(0) {
            match act.what {
                What::Call(Call::Bind { .. }) if rng.chance(70) => {}
                What::Call(Call::Bind { .. }) => act.port_of = Some(other),
                // To somebody.
                _ => {
                    act.set_port(5000);
                    act.port_of = Some(other);
                }
            }
        }
        acts.push(act);
        if rng.chance(40)
            && let Some(act) = between(&kinds, &called, line.process, rng)
        {
            acts.push(act);
        }
    }
    if engine == Engine::Address {
        acts.iter_mut()
            .filter_map(Act::address_mut)
            .for_each(|bytes| cover(bytes));
    }
    acts
}

/// Devices, and addresses of others, are the machine's: `docs/hosts.md`. The
/// kernel refuses a device without a number.
fn own_only(option: &mut Opt) {
    match option {
        Opt::BindToIfIndex(index) if *index != 0 => *index = -1,
        Opt::FreeBind(on) | Opt::Transparent(on) => *on = false,
        _ => {}
    }
}

/// Data and questions. A datagram has somewhere to go.
fn between(kinds: &Kinds, called: &[bool], process: usize, rng: &mut Rng) -> Option<Act> {
    let var = rng.below(kinds.len());
    let (domain, ty, _) = kinds[var];
    if !matches!((domain, ty), (2 | 10, 1 | 2)) {
        return None;
    }
    let what = match rng.below(10) {
        0 => What::Error,
        1..5 => What::Receive {
            by: rng.below(4) as i32,
        },
        _ => What::Send {
            to: match ty == 2 && (rng.chance(65) || !called[var]) {
                true => Some(target(domain, rng)),
                false => None,
            },
            by: rng.below(3) as i32,
            byte: 1 + rng.below(200) as u8,
        },
    };
    let names = matches!(what, What::Send { to: Some(_), .. });
    Some(Act {
        process,
        var,
        what,
        // Mostly to somebody.
        port_of: (names && rng.chance(70)).then(|| rng.below(kinds.len())),
    })
}

/// Where a datagram goes.
fn target(domain: i32, rng: &mut Rng) -> Vec<u8> {
    let port = 5000u16.to_be_bytes();
    let four = rng.of(&[[127, 0, 0, 1], [127, 0, 0, 1], [127, 0, 0, 2], [0, 0, 0, 0]]);
    if domain == 2 {
        return [&[2, 0, port[0], port[1]], &four[..], &[0; 8]].concat();
    }
    let mut ip = [0; 16];
    match rng.below(10) {
        0..5 => ip[15] = 1,
        5 => {}
        _ => ip[10..].copy_from_slice(&[255, 255, four[0], four[1], four[2], four[3]]),
    }
    [&[10, 0, port[0], port[1], 0, 0, 0, 0], &ip[..], &[0; 4]].concat()
}

/// The address of the run's own in the place of one that is the machine's.
fn cover(bytes: &mut [u8]) {
    if let [10, 0, _, _, _, _, _, _, 0xfe | 0xff, rest @ ..] = bytes
        && let Some(device) = rest.get_mut(15..19)
    {
        // A socket is bound to the device of its address, even if it cannot have that.
        device.fill(0);
    }
    if let [10, 0, _, _, _, _, _, _, ip @ ..] = bytes
        && ip.len() >= 16
        && ip[0] == 0xff
    {
        ip[..15].fill(0);
    }
    let ip = match bytes {
        [2, 0, _, _, ip @ ..] if ip.len() >= 4 => &mut ip[..4],
        [10, 0, _, _, _, _, _, _, ip @ ..] if ip.len() >= 16 && ip[..12] == MAPPED => {
            &mut ip[12..16]
        }
        _ => return,
    };
    match ip {
        [127, b, c, d] if *b != 0 || *c > 7 => (*b, *c, *d) = (0, 7, 254),
        [224, ..] | [255, 255, 255, 255] => ip.copy_from_slice(&[127, 0, 0, 3]),
        _ => {}
    }
}

/// Is the address one of the run's own loopback?
fn is_own(bytes: &[u8]) -> bool {
    match bytes {
        [2, 0, _, _, ip @ ..] if ip.len() >= 4 => {
            matches!(ip[..4], [0, 0, 0, 0] | [127, 0, 0..8, _])
        }
        [10, 0, _, _, _, _, _, _, ip @ ..] if ip.len() >= 16 => match ip[..16].split_at(12) {
            (prefix, ip) if prefix == MAPPED => matches!(ip, [0, 0, 0, 0] | [127, 0, 0..8, _]),
            (ip, [0, 0, 0, 0 | 1]) => ip == [0; 12],
            _ => false,
        },
        _ => false,
    }
}

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];

/// Other ports in the place of those that the acts name: of each kind that the engine
/// tells apart, and fresh ones for each `turn`.
fn fresh_ports(acts: &mut [Act], seed: u64, turn: u32) {
    let mut named = BTreeMap::new();
    // Ports below 1024 are anybody's at the run's own addresses, and the machine's at
    // others.
    let mut elsewhere = BTreeSet::new();
    for act in acts.iter() {
        if let Some(port @ 1..) = act.port() {
            named.insert(port, 0);
            if act.address().is_some_and(|bytes| !is_own(bytes)) {
                elsewhere.insert(port);
            }
        }
    }
    let mut rng = Rng::new(seed);
    let ranges = [
        (1u32, 1023u32),
        (1024, 32767),
        (32768, 60999),
        (61000, 65535),
    ];
    for (n, (port, to)) in named.iter_mut().enumerate() {
        let kind = rng
            .of(&[0, 1, 1, 1, 2, 3])
            .max(usize::from(elsewhere.contains(port)));
        let (low, high) = ranges[kind];
        let at = turn.wrapping_mul(7) + n as u32;
        *to = (low + at % (high - low + 1)) as u16;
    }
    for act in acts.iter_mut() {
        if let Some(port @ 1..) = act.port() {
            act.set_port(named[&port]);
        }
    }
}

/// The same for an engine that translates ports; others have the generator's.
pub fn fresh_ports_for(engine: Engine, acts: &mut [Act], seed: u64, turn: u32) {
    if engine == Engine::Address {
        fresh_ports(acts, seed, turn);
    }
}

/// Does it make a socket of this family?
pub fn makes(act: &Act, family: i32) -> bool {
    matches!(act.what, What::Call(Call::Socket { domain, .. }) if domain == family)
}

/// An act as text.
pub fn say(act: &Act, script: &Script) -> String {
    let var = &script.vars[act.var];
    let by = &script.processes[act.process].name;
    let port = match act.port_of {
        Some(of) => format!(" with the port of {}", script.vars[of]),
        None => String::new(),
    };
    let address = act.address().map_or(String::new(), |bytes| name(bytes));
    match &act.what {
        What::Call(Call::Bind { len, .. }) => {
            let len = len.map_or(String::new(), |len| format!(" len {len}"));
            format!("{by}: bind {var} {address}{len}{port}")
        }
        What::Call(Call::Connect { .. }) => format!("{by}: connect {var} {address}{port}"),
        What::Call(call) => format!("{by}: {var} {call:?}"),
        What::Send { by: how, byte, .. } => {
            format!("{by}: send {var} {address}{port} byte {byte} by {how}")
        }
        What::Receive { by: how } => format!("{by}: receive {var} by {how}"),
        What::Error => format!("{by}: SO_ERROR of {var}"),
    }
}

/// An address as text.
pub fn name(bytes: &[u8]) -> String {
    match bindgate_core::addr::RawAddr::new(bytes) {
        Some(raw) => format!("{raw:?}"),
        None => format!("{bytes:?}"),
    }
}
