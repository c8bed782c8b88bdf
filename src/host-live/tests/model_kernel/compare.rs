//! Playing a sequence on both, and making a difference small.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use bindgate_core::addr::{Addr, VMADDR_ANY};
use bindgate_core::model::script::{Call, Line, Outcome, Player, Script};
use bindgate_core::model::{Errno, No, Pick, Sock, SockId, State, Step, Table};

use crate::cover::Cover;
use crate::kernel::{self, Got, Identity, Kernel};
use crate::world::{self, World};
use bindgate_host_live::diag::{Found, Which};
use bindgate_host_live::draw::{self, Plan, Rng};

/// A state of the network that does not come in this time does not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// So often is a call repeated whose answers are drawn: of 18 answers that are
/// as likely, all have come by then but once in 10^16 times.
const MOST_AGAIN: u32 = 700;
/// How many sequences share a dump of everything.
const WHOLE_DUMP: u32 = 32;

pub struct Bench {
    world: World,
    kernel: Kernel,
    player: Option<Player>,
    cover: Cover,
    /// Sequences since the last whole dump.
    since_dump: u32,
    /// The model had connections after the last call.
    connections: bool,
    /// The sequence has made an MPTCP connection: the kernel takes these down
    /// in a worker of its own.
    mptcp: bool,
    /// Lines of the last sequence on which both agreed.
    played: usize,
    /// What the last call gave.
    last: Option<Given>,
}

/// A call's result, and the socket's name afterwards.
type Given = (Result<(), i32>, Option<Vec<u8>>);

/// Where the two disagreed.
struct Difference {
    line: usize,
    model: String,
    kernel: String,
}

fn describe(result: Result<(), i32>, name: Option<&[u8]>) -> String {
    match result {
        Ok(()) => match name {
            Some(name) => {
                let raw = bindgate_core::addr::RawAddr::new(name);
                format!("{:?}", raw.unwrap_or(bindgate_core::addr::RawAddr::EMPTY))
            }
            None => "ok".into(),
        },
        Err(e) => Errno::from_linux(e).map_or(format!("errno {e}"), |e| e.name().into()),
    }
}

fn same(outcome: &Outcome, got: &Got) -> Result<(), (String, String)> {
    let (result, _) = given(outcome);
    let name = outcome.name.map(|n| n.write());
    let mut name = name.as_ref().map(|n| n.bytes());
    let mut got = got.clone();
    // A packet socket also tells its device's hardware address.
    if let Some(got) = got.name.as_mut().filter(|n| n.first() == Some(&17)) {
        got.truncate(8);
        name = name.map(|n| n.get(..8).unwrap_or(n));
    }
    let peer = outcome.peer.map(|n| Addr::Unix(n).write());
    let peer = peer.as_ref().map(|n| n.bytes());
    if result == got.result && name == got.name.as_deref() {
        if peer == got.peer.as_deref() {
            return Ok(());
        }
        return Err((format!("peer {peer:?}"), format!("peer {:?}", got.peer)));
    }
    let mut model = describe(result, name);
    if result == got.result && result.is_err() {
        let _ = write!(model, ", then {}", describe(Ok(()), name));
    }
    let _ = write!(model, "   {:?}", outcome.trail);
    let mut kernel = describe(got.result, got.name.as_deref());
    if result == got.result && result.is_err() {
        let _ = write!(kernel, ", then {}", describe(Ok(()), got.name.as_deref()));
    }
    Err((model, kernel))
}

fn cast() -> Vec<Identity> {
    draw::cast().iter().map(kernel::identity).collect()
}

/// `IPPROTO_MPTCP`
const MPTCP: u16 = 262;
/// `TCP_LISTEN`
const LISTEN: u8 = 10;
/// `TCP_ESTABLISHED`, `TCP_SYN_SENT`, `TCP_SYN_RECV`, `TCP_TIME_WAIT`
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const TIME_WAIT: u8 = 6;
/// `TCP_FIN_WAIT1`, `TCP_LAST_ACK`, `TCP_CLOSING`: the FIN has no answer yet.
const ENDING: [u8; 3] = [4, 9, 11];

/// TCP's number of a connection's state.
fn number(state: State) -> Option<u8> {
    Some(match state {
        State::Established => 1,
        State::SynSent => 2,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::CloseWait => 8,
        _ => return None,
    })
}

/// States and ports, whichever end it is that is in TIME_WAIT. Of an MPTCP
/// connection that both sides have closed that is the end whose worker
/// (`mptcp_worker`) comes first to the subflow's FIN: a race.
fn either_end(sockets: &[(u8, u16, u16)]) -> Vec<(u8, u16, u16)> {
    let one = |&(state, from, to): &(u8, u16, u16)| match state {
        TIME_WAIT => (state, from.min(to), from.max(to)),
        _ => (state, from, to),
    };
    let mut all: Vec<_> = sockets.iter().map(one).collect();
    all.sort_unstable();
    all
}

/// Has a SYN that a full queue had dropped come once more, a second later, and
/// found room? The model has no time; a guest that gets little of it has.
fn came_again(is: &[(u8, u16, u16)], wanted: &[(u8, u16, u16)]) -> bool {
    let pair = |s: &(u8, u16, u16)| (s.1.min(s.2), s.1.max(s.2));
    let dropped = |s: &(u8, u16, u16)| wanted.iter().any(|w| w.0 == SYN_SENT && pair(w) == pair(s));
    let rest = |all: &[(u8, u16, u16)]| {
        all.iter()
            .filter(|s| !dropped(s))
            .copied()
            .collect::<Vec<_>>()
    };
    let served = |s: &(u8, u16, u16)| [ESTABLISHED, SYN_RECV].contains(&s.0) && dropped(s);
    is.iter().any(served) && rest(is) == rest(wanted)
}

fn is_vsock(line: &Line) -> bool {
    matches!(line.call, Call::Socket { domain: 40, .. })
}

impl Bench {
    pub fn new(world: World) -> io::Result<Bench> {
        Ok(Bench {
            world,
            kernel: Kernel::new(&cast())?,
            player: None,
            cover: Cover::default(),
            since_dump: 0,
            connections: false,
            mptcp: false,
            played: 0,
            last: None,
        })
    }

    /// Plays a random sequence on both.
    pub fn sequence(&mut self, rng: &mut Rng) -> Result<(), String> {
        let mut plan = draw::plan(rng, self.world.place());
        self.world
            .set_sysctls(&plan.sysctls)
            .map_err(|e| format!("sysctls: {e}"))?;
        plan.script.host = self.world.host;
        self.cover.plan(&plan);
        let Some(first) = self.play(&plan, true) else {
            return Ok(());
        };
        // Again: what does not come again was not the kernel's rule.
        if (0..3).all(|_| self.play(&plan, false).is_none()) {
            return Err(format!(
                "once only: line {}: model {}, kernel {}\n{}",
                first.line, first.model, first.kernel, plan.script
            ));
        }
        self.shrink(&mut plan);
        let at_first = format!("model {}, kernel {}", first.model, first.kernel);
        let last = self.play(&plan, false).unwrap_or(first);
        let mut text = plan.script.to_string();
        for line in &plan.again {
            let _ = writeln!(text, "# again and again: {line:?}");
        }
        let _ = writeln!(
            text,
            "# the last call: model  {}\n#                kernel {}",
            last.model, last.kernel
        );
        let _ = writeln!(text, "# of the whole sequence: {at_first}");
        Err(text)
    }

    /// Plays a random sequence once: on how many lines did both agree, and was
    /// that because they differed?
    #[cfg(feature = "mutants")]
    pub fn agrees(&mut self, rng: &mut Rng) -> (usize, bool) {
        let mut plan = draw::plan(rng, self.world.place());
        self.world.unsure = true;
        self.world.set_sysctls(&plan.sysctls).expect("sysctls");
        plan.script.host = self.world.host;
        let differs = self.play(&plan, false).is_some();
        (self.played, differs)
    }

    /// Other processes, where these are of no more use.
    pub fn renew(&mut self) -> io::Result<()> {
        self.kernel = Kernel::new(&cast())?;
        self.player = None;
        Ok(())
    }

    fn play(&mut self, plan: &Plan, count: bool) -> Option<Difference> {
        let script = &plan.script;
        self.kernel.restart(script.vars.len(), &plan.players);
        let unix = |l: &Line| matches!(l.call, Call::Socket { domain: 1, .. });
        if script.lines.iter().any(unix) {
            draw::sweep(world::dir()).expect("the directory of Unix paths");
        }
        let vsock = script.lines.iter().any(is_vsock);
        // vsock's ports are the whole machine's: one user at a time.
        let _alone = vsock.then(kernel::vsock_lock);
        let player = match &mut self.player {
            Some(player) => {
                player.restart(script);
                player
            }
            empty => empty.insert(Player::new(script, 256)),
        };
        player.pids = (0..plan.players.len())
            .map(|p| self.kernel.pid(p))
            .collect();
        if vsock && let Some(last) = kernel::vsock_probe() {
            player.net.net().core.vsock_next = last.wrapping_add(1);
        }
        self.connections = false;
        self.mptcp = false;
        self.played = 0;
        let mut found = None;
        for (i, line) in script.lines.iter().enumerate() {
            let difference = self.step(script, line, count);
            match difference {
                Ok(true) => self.played = i + 1,
                Ok(false) => break,
                Err((model, kernel)) => {
                    found = Some(Difference {
                        line: i,
                        model,
                        kernel,
                    });
                    break;
                }
            }
        }
        if found.is_none() && self.played == script.lines.len() && !plan.again.is_empty() {
            found = self.again(plan);
        }
        self.kernel.clear();
        if let Err(left) = self.empty(found.is_some()) {
            found = found.or(Some(Difference {
                line: script.lines.len(),
                model: "nothing is left".into(),
                kernel: left,
            }));
        }
        found
    }

    /// Plays a plan's last part until every answer has come that the model
    /// thinks possible, for all draws that it knows.
    fn again(&mut self, plan: &Plan) -> Option<Difference> {
        let at = plan.script.lines.len();
        let asks = |l: &Line| matches!(l.call, Call::Connect { .. } | Call::Bind { .. });
        let asked = plan.again.iter().rposition(asks)?;
        let (lo, hi) = plan.sysctls.range;
        let draws = (0..2 * u32::from(hi - lo) + 4).map(Pick::Random);
        let ports = (lo..=hi).map(|p| Pick::Observed(Some(u32::from(p))));
        let mut wanted = BTreeSet::new();
        let player = self.player.as_mut().expect("set by play");
        // A child that waits would be accepted in the place of a later one.
        let net = player.net.net();
        if net.ids().any(|id| net.get(id).is_queued()) {
            return None;
        }
        for pick in draws.chain(ports).chain([Pick::Observed(None)]) {
            for (i, line) in plan.again.iter().enumerate() {
                let here = if i == asked { pick } else { Pick::Random(0) };
                let outcome = player.play(&plan.script, line, here);
                if is_unknown(&outcome) {
                    return None;
                }
                if i == asked {
                    wanted.insert(given(&outcome));
                }
            }
        }
        let mut come = BTreeSet::new();
        for _ in 0..MOST_AGAIN {
            for (i, line) in plan.again.iter().enumerate() {
                match self.step(&plan.script, line, false) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err((model, kernel)) => {
                        return Some(Difference {
                            line: at,
                            model,
                            kernel,
                        });
                    }
                }
                if i == asked {
                    come.extend(self.last.take());
                }
            }
            if come.len() >= wanted.len() {
                break;
            }
        }
        // A connect that finds no port does not move the kernel's draw on: the
        // next one finds none either.
        if come.iter().any(|(result, _)| result.is_err()) && come.is_subset(&wanted) {
            return None;
        }
        (come != wanted).then(|| Difference {
            line: at,
            model: answers(&wanted),
            kernel: answers(&come),
        })
    }

    /// One call on both. False if the two know different things from now on.
    fn step(
        &mut self,
        script: &Script,
        line: &Line,
        count: bool,
    ) -> Result<bool, (String, String)> {
        let player = self.player.as_mut().expect("set by play");
        // Nobody on the other side of a real vsock is to hear of this.
        let id = player.id(line.var);
        let vsock = id.is_some_and(|id| player.net.net().get(id).table == Table::Vsock);
        let loopback = self.world.vsock_loopback;
        if vsock && !loopback && matches!(line.call, Call::Connect { .. }) {
            return Ok(false);
        }
        player.path = self.kernel.path_state(line);
        self.kernel.hopeless = hopeless(player, line);
        let got = self.kernel.play(line);
        player.chosen = None;
        if got.result.is_ok() {
            player.chosen = self.kernel.chosen(player, line);
        }
        let mut pick = kernel::pick(&got, line);
        // The counter of vsock ports is known, unless somebody else moved it.
        let auto_vsock = got.result.is_ok() && asks_vsock_port(line);
        if vsock && matches!(line.call, Call::Connect { .. }) {
            // Nobody else moves the counter in a guest.
            pick = Pick::Random(0);
        }
        if auto_vsock && let Pick::Observed(Some(port)) = pick {
            let net = player.net.net();
            let mut next = net.core.vsock_next;
            while next != port
                && net.ids().any(|id| {
                    let s = net.get(id);
                    s.table == Table::Vsock && s.num == next
                })
            {
                next = next.wrapping_add(1);
            }
            if next == port {
                pick = Pick::Random(0);
            } else if count {
                self.cover
                    .event("somebody else moved the counter of vsock ports");
            }
        }
        let outcome = player.play(script, line, pick);
        self.last = Some(given(&outcome));
        if count {
            self.cover.line(script, line, &outcome);
        }
        // What the model does not know is no difference, but from here on
        // the two know different things.
        if is_unknown(&outcome) {
            if count && let Some(why) = outcome.trail.last() {
                self.cover.unknown(why, line);
            }
            return Ok(false);
        }
        same(&outcome, &got)?;
        let mptcp = [Step::MptcpConnected, Step::MptcpFallback];
        self.mptcp |= outcome.trail.steps().iter().any(|s| mptcp.contains(s));
        let settled = self.settle(line)?;
        if !settled && count {
            self.cover
                .event("a race of MPTCP's or a SYN that came again ended it");
        }
        Ok(settled)
    }

    /// Waits until the kernel's connections are in the model's states: those
    /// without a descriptor as well, and as many children wait at listeners. False
    /// if a race of the kernel's, or time, has led to another state than the model's.
    fn settle(&mut self, line: &Line) -> Result<bool, (String, String)> {
        if self.world.vsock_loopback {
            self.settle_vsock()?;
        }
        let player = self.player.as_mut().expect("set by play");
        // A variable that gets another socket closes the one that it had.
        let moves = matches!(
            line.call,
            Call::Connect { .. }
                | Call::Accept { .. }
                | Call::Shutdown(_)
                | Call::Close
                | Call::Socket { .. }
                | Call::Dup { .. }
        );
        if !moves {
            return Ok(true);
        }
        let net = player.net.net();
        let mut wanted = Vec::new();
        let mut queued = 0;
        for id in net.ids() {
            let s = net.get(id);
            if s.table == Table::Tcp {
                queued += u32::from(s.is_queued());
                let half = s.awaits_fin();
                let mut state = number(if half { State::FinWait2 } else { s.state });
                // Subflows are closed when both sides have been.
                let peer = net.get(SockId(s.peer));
                let two = s.kind.protocol == MPTCP && peer.kind.protocol == MPTCP;
                if two && s.peer != id.0 {
                    state = state.map(|_| 1);
                }
                wanted.extend(state.map(|state| (state, s.sport, s.dport)));
            }
        }
        if wanted.is_empty() && !self.connections {
            return Ok(true);
        }
        self.connections = !wanted.is_empty();
        wanted.sort_unstable();
        let which = match line.call {
            Call::Connect { .. } => Which::Listeners,
            _ => Which::Connections,
        };
        let since = Instant::now();
        loop {
            let found = self.world.diag.dump(which);
            let found = found.map_err(|e| (String::new(), format!("sock_diag: {e}")))?;
            let listeners = found.iter().filter(|f| f.state == LISTEN);
            let waiting: u32 = listeners.map(|f| f.waiting).sum();
            let mut is: Vec<_> = found
                .iter()
                .filter(|f| f.state != LISTEN)
                .map(|f| (f.state, f.ports().0, f.ports().1))
                .collect();
            is.sort_unstable();
            if is == wanted && (waiting == queued || which == Which::Connections) {
                break;
            }
            let raced = self.mptcp && either_end(&is) == either_end(&wanted);
            if raced || came_again(&is, &wanted) {
                return Ok(false);
            }
            if since.elapsed() > PATIENCE {
                return Err((
                    format!("TCP states and ports {wanted:?}, {queued} to be accepted"),
                    format!("{is:?}, {waiting} to be accepted"),
                ));
            }
            std::thread::yield_now();
        }
        // What is bound only is listed since 6.8.
        if self.mptcp && self.world.host.generation.since(6, 8) {
            self.settle_bound(since)?;
        }
        Ok(true)
    }

    /// Waits until the worker of vsock_loopback has handed on all packets: the
    /// kernel's sockets are in the model's states.
    fn settle_vsock(&mut self) -> Result<(), (String, String)> {
        let player = self.player.as_mut().expect("set by play");
        let net = player.net.net();
        let all = net.ids().map(|id| *net.get(id));
        let mut wanted = Vec::new();
        for s in all.filter(|s| s.table == Table::Vsock) {
            let state = match s.state {
                State::Listen => LISTEN,
                State::Established => 1,
                // TCP_CLOSING, or TCP_CLOSE
                State::CloseWait | State::FinWait2 => 11,
                _ => 7,
            };
            // A child whose other side has shut down is in no table.
            if s.hashed() || s.num == VMADDR_ANY || s.state != State::CloseWait {
                wanted.push((state, s.num));
            }
        }
        wanted.sort_unstable();
        self.wait_for_vsock(&wanted)
    }

    fn wait_for_vsock(&self, wanted: &[(u8, u32)]) -> Result<(), (String, String)> {
        let since = Instant::now();
        loop {
            let found = self.world.diag.vsock();
            let mut is = found.map_err(|e| (String::new(), format!("sock_diag: {e}")))?;
            is.sort_unstable();
            if is == wanted {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                let model = format!("vsock states and ports {wanted:?}");
                return Err((model, format!("{is:?}")));
            }
            std::thread::yield_now();
        }
    }

    /// Waits until what is bound without a connection is what the model has: a
    /// subflow keeps its port until its outer socket's worker has run.
    fn settle_bound(&mut self, since: Instant) -> Result<(), (String, String)> {
        let player = self.player.as_mut().expect("set by play");
        let net = player.net.net();
        let bound = |s: &Sock| s.table == Table::Tcp && s.state == State::Close && s.hashed();
        let ports = net.ids().map(|id| *net.get(id));
        let mut wanted: Vec<_> = ports.filter(bound).map(|s| s.num as u16).collect();
        wanted.sort_unstable();
        loop {
            let found = self.world.diag.dump(Which::Bound);
            let found = found.map_err(|e| (String::new(), format!("sock_diag: {e}")))?;
            let mut is: Vec<_> = found.iter().map(|f| f.ports().0).collect();
            is.sort_unstable();
            if is == wanted {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                return Err((format!("bound ports {wanted:?}"), format!("{is:?}")));
            }
            std::thread::yield_now();
        }
    }

    /// Proves by a dump that nothing is left of a sequence; ends what is.
    /// Connections are looked for every time. What is bound only cannot
    /// outlive its descriptors, and would still be found by the whole dump
    /// after some more sequences.
    fn empty(&mut self, now: bool) -> Result<(), String> {
        let since = Instant::now();
        if self.world.vsock_loopback {
            self.wait_for_vsock(&[]).map_err(|(_, left)| left)?;
        }
        self.since_dump += 1;
        let whole = now || self.mptcp || self.since_dump >= WHOLE_DUMP;
        let mut which = Which::Connections;
        if whole {
            self.since_dump = 0;
            which = Which::All;
        }
        loop {
            let found = self.world.diag.dump(which);
            let found = found.map_err(|e| format!("sock_diag: {e}"))?;
            let Some(first) = found.first() else {
                return Ok(());
            };
            self.cover
                .event("connections were left after a sequence, and ended");
            let mut refused = false;
            // Until 6.12 `tcp_abort` takes the FIN from one that nobody holds any
            // more, and does not end it: it stays for good. The answer to the FIN
            // ends it, or the reset of the other side.
            let waits = |f: &&Found| ENDING.contains(&f.state);
            let others = found.iter().any(|f| !waits(&f));
            let patient = since.elapsed() <= PATIENCE / 2;
            for socket in found.iter().filter(|f| !waits(f) || !(others || patient)) {
                let end = self.world.diag.destroy(socket);
                refused |= end.is_err_and(|e| e.raw_os_error() == Some(libc::EOPNOTSUPP));
            }
            // Older kernels end no socket in TIME_WAIT, nor one of those above.
            if refused || (!others && since.elapsed() > PATIENCE) {
                let other = self.world.renew().and_then(|()| self.renew());
                return other.map_err(|e| format!("another namespace: {e}"));
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("{} sockets left: {first}", found.len()));
            }
        }
    }

    /// Drops lines as long as a difference remains.
    fn shrink(&mut self, plan: &mut Plan) {
        if let Some(d) = self.play(plan, false) {
            plan.script.lines.truncate(d.line + 1);
        }
        let mut changed = true;
        while changed {
            changed = false;
            let mut i = plan.script.lines.len();
            while i > 0 {
                i -= 1;
                let line = plan.script.lines.remove(i);
                // Three times: a choice of the kernel may hide it.
                if (0..3).any(|_| self.play(plan, false).is_some()) {
                    changed = true;
                } else {
                    plan.script.lines.insert(i, line);
                }
            }
        }
    }

    /// What was not known, in a line.
    pub fn summary(&self) -> String {
        self.cover.summary()
    }

    /// What was drawn and reached.
    pub fn report(&self) {
        self.cover.report();
    }
}

/// Will nobody answer this connect? It would wait in vain.
fn hopeless(player: &mut Player, line: &Line) -> bool {
    let Call::Connect { bytes } = &line.call else {
        return false;
    };
    let id = player.id(line.var);
    let net = player.net.net();
    let connecting = id.is_some_and(|id| net.get(id).state == State::SynSent);
    let full = net.ids().any(|l| {
        let children = || net.ids().filter(|c| net.get(*c).parent == l.0);
        net.get(l).state == State::Listen && children().count() > 16
    });
    connecting || full || !draw::may_answer(bytes)
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome.result, Err(No::Unknown(_)))
}

/// What a call gave; a number that no error has, where nothing is known.
fn given(outcome: &Outcome) -> Given {
    let name = outcome.name.map(|n| n.write().bytes().to_vec());
    let errno = |no: No| no.errno().map_or(-1, |e| i32::from(e.linux()));
    (outcome.result.map_err(errno), name)
}

fn answers(all: &BTreeSet<Given>) -> String {
    let each = all.iter().map(|(r, n)| describe(*r, n.as_deref()));
    format!("one of {}", each.collect::<Vec<_>>().join(" | "))
}

fn asks_vsock_port(line: &Line) -> bool {
    match &line.call {
        Call::Bind { bytes, .. } if bytes.first() == Some(&40) => {
            bytes.get(4..8) == Some(&VMADDR_ANY.to_ne_bytes())
        }
        _ => false,
    }
}
