//! Why a bind or connect of the run failed: gathers the facts for
//! [`bindgate_core::why`]. Only failures come here.

use bindgate_core::addr::{Addr, UnixKind, af};
use bindgate_core::errno::Errno;
use bindgate_core::model::table_of;
use bindgate_core::policy::Op;
use bindgate_core::record::{Call, Record, flag};
use bindgate_core::render::{Explained, HolderState, Tenure};
use bindgate_core::socket::{BindOptions, SocketType};
use bindgate_core::uapi::inet_diag;
use bindgate_core::why::{self, Facts, Former, Opener, Question, Seen, Why};
use bindgate_host_live::evidence::{self, Openers};
use bindgate_host_live::lineage::file_name;
use bindgate_host_live::machine;
use bindgate_os::process;

use super::alive::Alive;
use super::callers::Caller;
use super::space::Space;
use super::table::{Held, Owner};

/// The answer, as a line of the log wants it.
#[derive(Debug)]
pub struct Found {
    cause: &'static str,
    text: String,
    clause: String,
    details: String,
    mends: String,
    unseen: String,
    history: Vec<Former>,
}

impl Found {
    fn new(why: Why, history: Vec<Former>) -> Found {
        Found {
            cause: why.cause.name(),
            text: why.text,
            clause: why.clause,
            details: why.details.join("\n"),
            mends: why.mends.join("\n"),
            unseen: why.unseen.join("\n"),
            history,
        }
    }

    /// Who had the port.
    pub fn tenures(&self) -> Vec<Tenure<'_>> {
        let tenure = |f: &'_ Former| Tenure {
            pid: f.pid,
            program: "",
            addr: f.addr.write(),
            bound_ns: f.bound_ns,
            automatic: f.automatic,
            listened: f.listened,
            closed_by_ns: f.closed_by_ns,
        };
        let all = self.history.iter();
        all.map(|f| Tenure {
            program: &f.program,
            ..tenure(f)
        })
        .collect()
    }

    /// The whole of it.
    pub fn explained<'a>(&'a self, history: &'a [Tenure<'a>]) -> Explained<'a> {
        Explained {
            cause: self.cause,
            text: &self.text,
            clause: &self.clause,
            details: &self.details,
            mends: &self.mends,
            unseen: &self.unseen,
            history,
        }
    }
}

/// What may be looked at to explain a record.
pub struct Looking<'a> {
    /// Who called.
    pub caller: Option<Caller>,
    /// In which network.
    pub space: &'a mut Space,
    /// Who is of the run.
    pub alive: &'a Alive,
    /// How times are written.
    pub times: Option<i32>,
    /// Who has which sockets open, when that was last looked at.
    pub openers: &'a Openers,
    /// May sock_diag be asked?
    pub may_ask: bool,
    /// What it has said already.
    pub shown: Option<Vec<inet_diag::Socket>>,
    /// Who holds the address, as far as that is known already.
    pub holder: Option<&'a Held>,
    /// May every process be looked at?
    pub may_look: bool,
    /// Has the run ports of its own on loopback?
    pub has_block: bool,
    /// Where the bind really went, of a run that has such ports.
    pub real: Option<Addr>,
    /// The context id of the vsock host that the run is, if that has refused it.
    pub cid: Option<u32>,
}

/// Lines of a history.
const HISTORY: usize = 16;

impl Looking<'_> {
    /// Why it failed; nothing for an error that nobody has a name for.
    pub fn explain(mut self, r: &Record) -> Option<Found> {
        let q = self.question(r)?;
        if r.flags & flag::IN_BLOCK != 0 {
            self.real = r.used.read();
        }
        let mut facts = Facts {
            host: self
                .space
                .is_known
                .then(|| Box::new(*self.space.table.host())),
            may_bind_low: self.may_bind_low(),
            filters: self.caller.and_then(|c| process::filters(c.pid)),
            modules: modules(),
            utc_offset: self.times,
            has_more_addresses: self.space.left_out.concerns(&q.addr),
            ..Facts::default()
        };
        if q.op == Op::Connect {
            // It may have come in a network that nobody has looked into yet.
            self.space.refresh(
                std::time::Duration::from_secs(1),
                bindgate_os::Instant::now(),
            );
            facts.host = self
                .space
                .is_known
                .then(|| Box::new(*self.space.table.host()));
        }
        if let Some(cid) = self.cid {
            let mut host = *self.space.table.host();
            host.vsock.cid = Some(cid);
            facts.host = Some(Box::new(host));
        }
        let wants_others = matches!(q.errno, Errno::EADDRINUSE | Errno::ECONNREFUSED);
        if wants_others {
            self.others(&q, &mut facts);
        }
        let history = facts.former.clone();
        Some(Found::new(why::explain(&q, &facts), history))
    }

    fn question(&self, r: &Record) -> Option<Question> {
        let addr = match r.used.read() {
            // Where the kernel was asked to bind it.
            Some(used) if r.flags & flag::IN_BLOCK == 0 => used,
            _ => r.asked.read()?,
        };
        let domain = match addr {
            Addr::Unix(_) => af::UNIX,
            _ => r.domain,
        };
        Some(Question {
            op: match r.call {
                Call::Bind => Op::Bind,
                Call::Listen => Op::Listen,
                _ => Op::Connect,
            },
            kind: SocketType {
                domain,
                ty: r.ty,
                protocol: r.protocol,
            },
            addr,
            options: r.options,
            device: r.device,
            uid: self.caller.map(|c| c.uid),
            cookie: r.cookie,
            errno: Errno::from_linux(i32::from(r.errno))?,
            at_ns: r.time_ns,
        })
    }

    /// Would it have helped the caller to be who it is?
    fn may_bind_low(&self) -> Option<bool> {
        match self.caller?.may_bind_low? {
            false => Some(false),
            // Its capabilities count where the network is its user namespace's.
            true if self.space.is_own() => process::owns_network(),
            true => None,
        }
    }

    /// Who has the port, or the name.
    fn others(&mut self, q: &Question, facts: &mut Facts) {
        let openers = self.openers;
        if q.op == Op::Connect {
            facts.sockets = self.believed(q);
            if self.has_block && q.addr.is_loopback() {
                // What the machine has there is not what was called.
                return;
            }
        }
        let port = self.real.as_ref().unwrap_or(&q.addr).port();
        let port = port.and_then(|port| u16::try_from(port).ok());
        if let (Some(_), Some(port)) = (table_of(q.kind), port) {
            if self.shown.is_none() && self.may_ask {
                self.shown = self.space.owners(q.kind, port).ok();
            }
            match self.shown.take() {
                Some(shown) => {
                    if q.op == Op::Connect {
                        self.reconcile(q, port, &shown);
                    }
                    let there = shown.iter().filter(|s| s.port == port);
                    let all = there.map(|s| evidence::seen(q.kind, s, openers));
                    let mut all: Vec<Seen> = all.collect();
                    for seen in &mut all {
                        self.recorded(seen, q.kind, port);
                    }
                    facts.sockets.extend(all);
                }
                None => {
                    facts
                        .sockets
                        .extend(self.holder.filter(|h| !h.gone).map(of_held));
                    facts.unseen.push(
                        "who has the port by sock_diag, because it was not asked (20 questions \
                         a second at most) or did not answer"
                            .to_owned(),
                    );
                }
            }
            if self.real.is_none() {
                facts.former = self.former(q, port);
            }
            if q.op == Op::Connect && q.kind.is_stream() && self.may_look {
                let own = self.caller.map_or("self".into(), |c| c.pid.to_string());
                facts.elsewhere = evidence::elsewhere(port, &own, openers);
            }
        } else if let Addr::Unix(name) = q.addr {
            let all = self.space.within(machine::unix_sockets).unwrap_or_default();
            let is_it = |s: &&machine::UnixSocket| {
                s.is_named(&name) && (name.kind != UnixKind::Abstract || s.ty == q.kind.ty)
            };
            let found = all.iter().filter(is_it);
            facts.sockets = found
                .filter_map(|s| evidence::seen_unix(s, openers))
                .collect();
            for seen in &mut facts.sockets {
                self.of_run(seen);
                if let Some(held) = self.holder.filter(|h| h.owner.in_run && !h.gone) {
                    records(seen, &held.owner);
                }
            }
            facts.has_file = facts.sockets.is_empty() && name.kind == UnixKind::Path;
        } else {
            facts
                .sockets
                .extend(self.holder.filter(|h| !h.gone).map(of_held));
        }
        facts.gone = self.holder.filter(|h| h.gone).map(of_held);
    }

    /// The kernel shows who has the port: so the table agrees.
    fn reconcile(&mut self, q: &Question, port: u16, shown: &[inet_diag::Socket]) {
        let now_ns = bindgate_os::realtime().as_nanos() as u64;
        let lists_bound = self.space.lists_bound();
        let table = &mut self.space.table;
        table.set_now(now_ns);
        table.reconcile(q.kind, port, shown, lists_bound, now_ns);
    }

    /// Adds what the records say of a socket.
    fn recorded(&mut self, seen: &mut Seen, kind: SocketType, port: u16) {
        self.of_run(seen);
        if seen.state == HolderState::TimeWait {
            return self.left_behind(seen, kind, port);
        }
        let owner = self.space.table.at_port(kind, port, seen.cookie);
        if let Some(owner) = owner.filter(|o| o.in_run) {
            records(seen, owner);
            if self.real.is_some() {
                elsewhere(seen, owner);
            }
        }
    }

    /// Sockets of the run whose programs believe that they are at the port that was
    /// called, and that are elsewhere.
    fn believed(&mut self, q: &Question) -> Vec<Seen> {
        /// That are looked for.
        const MOST: usize = 8;
        let mut all = self.space.table.of_run();
        all.retain(|(kind, held)| {
            let at = held.owner.elsewhere.as_ref().and_then(|e| e.read());
            table_of(*kind) == table_of(q.kind) && at.is_some_and(|at| at.port() == q.addr.port())
        });
        let mut found = Vec::new();
        for (kind, held) in all.into_iter().take(MOST) {
            let Some(at) = held.addr.read() else { continue };
            let port = at.port().and_then(|port| u16::try_from(port).ok());
            let shown = port.and_then(|port| self.space.owners(kind, port).ok());
            let cookie = held.owner.cookie;
            let is_it = |s: &inet_diag::Socket| match cookie {
                0 => s.local() == at && s.state != inet_diag::state::TIME_WAIT,
                known => s.cookie == known,
            };
            if let Some(s) = shown.into_iter().flatten().find(is_it) {
                let mut seen = evidence::seen(kind, &s, self.openers);
                records(&mut seen, &held.owner);
                elsewhere(&mut seen, &held.owner);
                found.push(seen);
            }
        }
        found
    }

    /// Of TIME_WAIT: is it of a connection of the one that had the port last?
    fn left_behind(&self, seen: &mut Seen, kind: SocketType, port: u16) {
        // `TCP_TIMEWAIT_LEN`
        const TIME_WAIT_MS: u64 = 60_000;
        let now_ns = bindgate_os::realtime().as_nanos() as u64;
        let left_ms = u64::from(seen.left_ms.unwrap_or(0));
        let began_ns = now_ns.saturating_sub(TIME_WAIT_MS.saturating_sub(left_ms) * 1_000_000);
        let last = self.space.table.past(kind, port);
        let is_his = |held: &Held| held.owner.in_run && held.owner.since_ns <= began_ns;
        if let Some(held) = last.filter(is_his) {
            seen.bound_by = Some(opener(held.owner.pid, &held.owner.program));
        }
    }

    /// Is it open in a process of the run?
    fn of_run(&self, seen: &mut Seen) {
        let is_member = |p: &Opener| self.alive.is_member(p.pid);
        seen.in_run = Some(seen.open_in.iter().any(is_member));
    }

    fn former(&mut self, q: &Question, port: u16) -> Vec<Former> {
        let mut all = self.space.table.history(q.kind, port);
        let surplus = all.len().saturating_sub(HISTORY);
        all.drain(..surplus);
        let former = all.iter().map(|stay| Former {
            pid: stay.pid,
            program: file_name(&stay.program),
            addr: stay.addr(),
            bound_ns: stay.since_ns,
            automatic: stay.automatic,
            listened: stay.listened(),
            closed_by_ns: stay.left_ns,
        });
        former.collect()
    }
}

/// The socket as its program believes that it is.
fn elsewhere(seen: &mut Seen, owner: &Owner) {
    if let Some(at) = owner.elsewhere.as_ref().and_then(|e| e.read()) {
        seen.addr = at;
    }
    if !owner.options.has(BindOptions::UNKNOWN) {
        seen.options = owner.options;
    }
}

/// Adds what is recorded of the socket's owner.
fn records(seen: &mut Seen, owner: &Owner) {
    seen.in_run = Some(true);
    seen.since_ns = owner.since_ns;
    seen.on_the_way = Some(owner.on_the_way);
    seen.uid = owner.uid.or(seen.uid);
    if !owner.options.has(BindOptions::UNKNOWN) {
        let v6only = seen.options.has(BindOptions::V6ONLY);
        seen.options = owner.options;
        seen.options.set(BindOptions::V6ONLY, v6only);
    }
    seen.bound_by = Some(opener(owner.pid, &owner.program));
    // The one that bound it first, whoever inherited it.
    if let Some(at) = seen.open_in.iter().position(|p| p.pid == owner.pid) {
        seen.open_in.swap(0, at);
    }
}

fn opener(pid: u32, program: &[u8]) -> Opener {
    Opener {
        pid,
        program: file_name(program),
        ..Opener::default()
    }
}

/// A holder as the table has it.
fn of_held(held: &Held) -> Seen {
    let owner = &held.owner;
    let by = opener(owner.pid, &owner.program);
    let is_known = owner.pid != 0 || !by.program.is_empty();
    Seen {
        kind: SocketType::default(),
        addr: held.addr.read().unwrap_or(Addr::Inet {
            ip: [0; 4],
            port: 0,
        }),
        peer: None,
        state: held.state,
        phase: None,
        uid: owner.uid,
        inode: owner.inode,
        cookie: owner.cookie,
        device: 0,
        options: owner.options,
        left_ms: None,
        since_ns: owner.since_ns,
        in_run: Some(owner.in_run),
        on_the_way: owner.in_run.then_some(owner.on_the_way),
        open_in: is_known.then_some(by).into_iter().collect(),
        bound_by: None,
        group: None,
        all_seen: false,
    }
}

/// The security modules of the kernel, as it lists them.
fn modules() -> String {
    let list = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    list.trim().replace(',', ", ")
}
