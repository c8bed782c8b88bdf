//! What the model says of a bind that the kernel has answered, what a
//! difference means, and who holds an address that could not be had.
//!
//! Every bind of the run goes into the bind table of its network namespace
//! ([`BindTable`](super::table::BindTable)). `/proc` and sock_diag are asked
//! when the kernel refuses, and not often, because records come as fast as two
//! processors can bind. What cannot be known is said to be unknown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bindgate_core::addr::{Addr, RawAddr, UnixKind, af};
use bindgate_core::errno::{EACCES, EADDRINUSE, EALREADY, EINPROGRESS, EINTR, EISCONN, EPERM};
use bindgate_core::judge::vsock;
use bindgate_core::model::linux::PathState;
use bindgate_core::model::{Cred, Errno, No, Step, table_of};
use bindgate_core::record::{Call, Check, RULE_NONE, Record, Verdict, flag};
use bindgate_core::render::{Answer, HolderState, Predicted};
use bindgate_core::socket::{BindOptions, SocketType};
use bindgate_core::uapi::inet_diag;
use bindgate_host_live::evidence::Openers;
use bindgate_host_live::kernel::path;
use bindgate_host_live::machine::{self, UnixSocket};
use bindgate_host_live::processes;
use bindgate_os::Instant;

use super::alive::Alive;
use super::callers::{Caller, Callers, NOBODY};
use super::claims;
use super::hosted;
use super::space::{Space, Spaces};
use super::table::{Bind, Held, Owner, Said};
use super::why::{Found, Looking};

/// How old may be what is known of the host, and of a process.
const FRESH: Duration = Duration::from_secs(1);
/// Where the kernel contradicts, this much.
const FRESH_IN_DOUBT: Duration = Duration::from_millis(100);
/// Questions to sock_diag in a second.
const QUESTIONS: u32 = 20;
/// Failures that are explained in a second.
const WHYS: u32 = 20;
/// Looks through the open files of all processes in a second.
const LOOKS: u32 = 10;

mod why {
    pub const ELSEWHERE: &str = "not asked of the kernel at a known address";
    pub const NO_KIND: &str = "the socket's kind was not asked";
    pub const FAMILY: &str = "the model does not know sockets of this kind";
    pub const GONE: &str =
        "the process could not be looked at: it had ended, or belongs to somebody else";
    pub const NETWORK: &str = "the process is in a network namespace that cannot be looked into";
    pub const SOCKET: &str = "the socket's own state and options decide";
    pub const NO_PORT: &str = "whether automatic ports are used up is not asked";
    pub const BUSY: &str = "sock_diag was not asked: 20 questions a second at most";
    pub const DIAG: &str = "sock_diag did not answer";
    pub const FREE: &str = "whoever held the port has left it";
    pub const LEFT: &str = "whoever had the name has left it";
    pub const OUTSIDE: &str = "whoever outside the run has such a name cannot be asked for";
    pub const FILES: &str = "the file system says something else by now";
    pub const ALLOWED: &str = "an option of the socket allows the address, or it was there then";
    pub const CAME: &str = "the address was there then";
    pub const REFUSED: &str =
        "something that the model does not know refused: LSM, Landlock, cgroup, a capability";
    pub const ADDRESS: &str = "the address was not there then";
    pub const LEFT_OUT: &str =
        "the model has no room for all of this machine's addresses and devices, and none for this";
}

/// What the program believes of a socket that is elsewhere.
fn elsewhere(r: &Record) -> Option<RawAddr> {
    if r.flags & flag::IN_BLOCK == 0 {
        return (r.verdict != Verdict::Allow).then_some(r.asked);
    }
    let port = r.used.read().and_then(|used| used.port());
    Some(match (r.asked.read(), port) {
        (Some(asked), Some(port)) if asked.is_auto() => asked.with_port(port).write(),
        _ => r.asked,
    })
}

/// What is known of a bind beyond its record.
#[derive(Default)]
pub struct Known {
    /// What the model says.
    pub predicted: Option<Predicted>,
    /// Who holds the address.
    pub holder: Option<Held>,
    /// Why the call failed.
    pub why: Option<Box<Found>>,
}

/// So many of something in a second.
struct Limit {
    since: Instant,
    count: u32,
    most: u32,
}

impl Limit {
    fn of(most: u32) -> Limit {
        Limit {
            since: Instant::now(),
            count: 0,
            most,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        if now.since(self.since) >= Duration::from_secs(1) {
            (self.since, self.count) = (now, 0);
        }
        self.count += 1;
        self.count <= self.most
    }
}

/// See the module.
pub struct Predictor {
    callers: Callers,
    questions: Limit,
    whys: Limit,
    looks: Limit,
    /// Who has sockets open, by inode, when that was last looked at.
    open: HashMap<u32, u32>,
    /// About when the record was read that is looked at.
    now: Instant,
    nobody: Arc<[u8]>,
    /// The same, of all processes.
    openers: Openers,
    /// Who has the port of the record that is looked at, as sock_diag said.
    shown: Option<Vec<inet_diag::Socket>>,
    /// Has the run ports of its own on loopback?
    has_block: bool,
    /// The vsock host that the run is.
    host: Option<vsock::Host<'static>>,
}

impl Predictor {
    /// Knows nothing yet. `has_block`: the run has ports of its own on loopback.
    pub fn new(host: Option<vsock::Host<'static>>, has_block: bool) -> Predictor {
        Predictor {
            has_block,
            callers: Callers::new(),
            questions: Limit::of(QUESTIONS),
            whys: Limit::of(WHYS),
            looks: Limit::of(LOOKS),
            open: HashMap::new(),
            now: Instant::now(),
            nobody: Arc::from([]),
            openers: Openers::unknown(),
            shown: None,
            host,
        }
    }

    /// Looks at the processes that are new: some end soon.
    pub fn meet(&mut self, alive: &Alive) {
        self.callers.meet(alive, FRESH);
    }

    /// Records are read from now on.
    pub fn look_at_the_clock(&mut self) {
        self.now = Instant::now();
    }

    /// Takes a record into the tables. Says what there is to say of it if it is `asked`,
    /// because it is shown: with times as [`bindgate_core::why::clock`] writes them.
    pub fn record(
        &mut self,
        r: &Record,
        program: &Arc<[u8]>,
        spaces: &mut Spaces,
        alive: &Alive,
        asked: Option<Option<i32>>,
    ) -> Known {
        let times = asked.unwrap_or_default();
        let asked = asked.is_some();
        let is_bind = r.call == Call::Bind || r.flags & flag::IMPLICIT != 0;
        let listens = r.call == Call::Listen && r.flags & flag::FORWARDED != 0 && r.kernel == 0;
        let is_forwarded = r.flags & flag::FORWARDED != 0;
        let is_refused = r.call == Call::Connect && is_forwarded && !is_bind && has_failed(r);
        if !(is_bind || listens || is_refused && asked) {
            return Known::default();
        }
        let caller = self.callers.of(r.process, alive, FRESH, self.now);
        let (network, pid) = caller.map_or((0, 0), |c| (c.network, c.pid));
        let space = spaces.get(network, pid);
        let owner = || Owner {
            process: r.process,
            pid: r.pid,
            fd: r.fd,
            uid: caller.map(|c| c.uid),
            program: program.clone(),
            cookie: r.cookie,
            inode: 0,
            since_ns: r.time_ns,
            in_run: true,
            on_the_way: !matches!(r.call, Call::Bind | Call::Listen),
            automatic: r.call == Call::Bind && r.asked.read().is_some_and(|a| a.is_auto()),
            rule: r.rule,
            options: r.options,
            elsewhere: elsewhere(r).map(Box::new),
        };
        let mut known = Known::default();
        space.table.set_now(r.time_ns);
        self.shown = None;
        if is_bind {
            claims::recorded(space, r, owner);
            if r.flags & flag::FORWARDED != 0 {
                let judged = self.judge(r, caller, space, alive, &owner, asked);
                known = match judged {
                    Ok(known) => known,
                    Err(why) => Known {
                        predicted: Some(Predicted::unknown(why)),
                        ..Known::default()
                    },
                };
                if r.call != Call::Bind {
                    known.predicted = None;
                }
            } else if self.host.is_some() && r.domain == af::VSOCK {
                space.hosted.record(r, owner);
                if asked && hosted::is_refused(r) {
                    known.holder = self.has_place(r, space, alive);
                }
            } else if r.holder != 0 {
                let id = space.virt.by_cookie(r.holder);
                known.holder = id.and_then(|id| space.virt.held(id)).or_else(|| {
                    let id = space.table.by_cookie(r.holder)?;
                    space.table.held(id)
                });
            }
        }
        if listens {
            space.table.listens((r.process, r.fd));
        }
        let cid = self.host.filter(|_| r.domain == af::VSOCK && !is_forwarded);
        let is_hosted = cid.is_some() && is_bind && r.check == Check::VsockBind;
        let is_kernels = is_forwarded && has_failed(r) && (is_bind || is_refused);
        if asked && r.errno != 0 && (is_kernels || is_hosted) && self.whys.take(self.now) {
            let may_look = self.looks.take(self.now);
            if may_look {
                self.openers = Openers::look();
            }
            let looking = Looking {
                caller,
                space,
                alive,
                times,
                openers: &self.openers,
                may_look,
                has_block: self.has_block,
                real: None,
                may_ask: self.shown.is_some() || self.questions.take(self.now),
                shown: self.shown.take(),
                holder: known.holder.as_ref(),
                cid: cid.map(|host| host.cid),
            };
            known.why = looking.explain(r).map(Box::new);
        }
        known
    }

    fn judge(
        &mut self,
        r: &Record,
        mut caller: Option<Caller>,
        space: &mut Space,
        alive: &Alive,
        owner: &dyn Fn() -> Owner,
        asked: bool,
    ) -> Result<Known, &'static str> {
        let mut kind = SocketType {
            domain: r.domain,
            ty: r.ty,
            protocol: r.protocol,
        };
        let in_block = r.flags & flag::IN_BLOCK != 0;
        let mut options = r.options;
        if in_block {
            // Off, wherever it is in the block.
            options.set(BindOptions::V6ONLY, false);
        }
        let addr = match r.verdict {
            _ if in_block => &r.used,
            // Where the kernel chose the port, that one.
            Verdict::Allow | Verdict::Passed if r.used.bytes().is_empty() => &r.asked,
            _ => &r.used,
        };
        if kind.ty == 0 {
            return Err(why::NO_KIND);
        }
        let is_redirected = matches!(r.verdict, Verdict::Move | Verdict::Hide);
        if is_redirected && addr.family() == Some(af::UNIX) {
            // A Unix socket has taken its place.
            kind.domain = af::UNIX;
            kind.protocol = 0;
        }
        let bind = |caller: Option<Caller>| {
            let who = caller.unwrap_or(NOBODY);
            // What was not refused for want of it shows that it was there.
            let net_bind_service = who.net_bind_service || r.kernel != EACCES;
            let net_admin = r.kernel != EPERM;
            Bind {
                kind,
                addr,
                options,
                device: r.device,
                cred: Cred {
                    net_bind_service,
                    init_net_bind_service: net_bind_service,
                    init_audit_read: net_admin,
                    net_admin,
                    net_raw: true,
                    tgid: r.pid,
                    ..Cred::user(who.uid)
                },
                by: (r.process, r.fd),
                path: PathState::Free,
            }
        };
        if table_of(kind).is_none() {
            space.refresh(FRESH, self.now);
            return self.judge_name(r, caller, space, alive, bind(caller), owner, asked);
        }
        if addr.bytes().len() < 16 {
            return Err(why::ELSEWHERE);
        }
        let (at, port) = match addr.read() {
            Some(at @ (Addr::Inet { port, .. } | Addr::Inet6 { port, .. })) => (at, port),
            _ => return Err(why::SOCKET),
        };
        let granted = r.kernel == 0;
        space.refresh(FRESH, self.now);
        let mut said = space.table.bind(&bind(caller), r.kernel, owner);
        if !agrees(said.result, r.kernel) && said.result != Err(Errno::EADDRINUSE.into()) {
            // Is what is known still so?
            let refreshed = space.refresh(FRESH_IN_DOUBT, self.now);
            let now = self.callers.of(r.process, alive, FRESH_IN_DOUBT, self.now);
            if refreshed || now != caller {
                caller = now.or(caller);
                said = space.table.bind(&bind(caller), r.kernel, owner);
            }
        }
        if let Err(No::Unknown(why)) = said.result {
            return Err(why.what());
        }
        if said.result.is_err() && space.left_out.concerns(&at) {
            return Err(why::LEFT_OUT);
        }
        if r.kernel == EADDRINUSE && r.asked.read().is_some_and(|a| !a.is_auto()) {
            return self.in_the_way(&bind(caller), port, said, space, alive, r.time_ns);
        }
        if agrees(said.result, r.kernel) {
            return Ok(Known {
                predicted: Some(plain(said)),
                ..Known::default()
            });
        }
        if !space.is_known {
            return Err(why::NETWORK);
        }
        let differs = |meaning| differs(said, caller, meaning);
        match (said.result, r.kernel) {
            (Err(No::Errno(Errno::EADDRNOTAVAIL)), 0) if !r.options.has(BindOptions::UNKNOWN) => {
                differs(why::CAME)
            }
            (Err(_), 0) => differs(why::ALLOWED),
            (Ok(()), EADDRINUSE) => Err(why::NO_PORT),
            (_, n) => match Errno::from_linux(i32::from(n)) {
                Some(Errno::EACCES | Errno::EPERM) => differs(why::REFUSED),
                Some(Errno::EADDRNOTAVAIL) => differs(why::ADDRESS),
                _ if granted => Err(why::ALLOWED),
                _ => Err(why::SOCKET),
            },
        }
    }

    /// The kernel says that somebody has the port: who? `said` is what the
    /// table says without having asked.
    fn in_the_way(
        &mut self,
        bind: &Bind<'_>,
        port: u16,
        said: Said,
        space: &mut Space,
        alive: &Alive,
        now_ns: u64,
    ) -> Result<Known, &'static str> {
        let before = said.holder.and_then(|id| space.table.held(id));
        let shown = match self.questions.take(self.now) {
            true => space.owners(bind.kind, port).map_err(|_| why::DIAG),
            false => Err(why::BUSY),
        };
        let mut now = said;
        if let Ok(shown) = &shown {
            let lists_bound = space.lists_bound();
            space
                .table
                .set_now(bindgate_os::realtime().as_nanos() as u64);
            space
                .table
                .reconcile(bind.kind, port, shown, lists_bound, now_ns);
            now = space.table.ask(bind);
        }
        let unasked = shown.as_ref().err().copied();
        self.shown = shown.ok();
        let there = now.holder.and_then(|id| space.table.held(id));
        let in_use = |said: Said, holder: Held| {
            Ok(Known {
                predicted: Some(plain(Said {
                    result: Err(Errno::EADDRINUSE.into()),
                    ..said
                })),
                holder: Some(holder),
                why: None,
            })
        };
        if let Some(held) = there {
            return in_use(now, self.identified(held, alive));
        }
        let gone = before.or_else(|| space.table.past(bind.kind, port));
        match gone {
            Some(held) if held.owner.in_run => in_use(said, Held { gone: true, ..held }),
            _ => Err(unasked.unwrap_or(why::FREE)),
        }
    }

    /// Who has the socket open, where that is not known, or is not so any more.
    fn identified(&mut self, mut held: Held, alive: &Alive) -> Held {
        let owner = &mut held.owner;
        let known = owner.in_run && !alive.is_dead(owner.process);
        if known || owner.inode == 0 {
            return held;
        }
        if !self.open.contains_key(&owner.inode) && self.looks.take(self.now) {
            self.open = processes::of_sockets();
        }
        let Some(pid) = self.open.get(&owner.inode) else {
            return held;
        };
        let program = processes::program(*pid);
        if !program.is_empty() {
            owner.pid = *pid;
            owner.program = Arc::from(program);
            owner.in_run |= alive.is_member(*pid);
        }
        held
    }

    /// Who has the place of the vsock host that the run is?
    fn has_place(&mut self, r: &Record, space: &mut Space, alive: &Alive) -> Option<Held> {
        let host = self.host?;
        if !self.questions.take(self.now) {
            return None;
        }
        let shown = space.within(machine::unix_sockets).unwrap_or_default();
        let (place, found) = hosted::in_the_way(&host, r, &shown)?;
        let owner = match space.hosted.get(place) {
            Some((_, held)) => Owner {
                inode: found.inode,
                cookie: found.cookie,
                ..held.owner.clone()
            },
            None => self.outside(found),
        };
        let held = Held {
            owner,
            addr: hosted::address(place),
            state: state_of(found),
            gone: false,
        };
        Some(self.identified(held, alive))
    }

    /// A Unix socket that nobody has recorded.
    fn outside(&self, found: &UnixSocket) -> Owner {
        Owner {
            process: 0,
            pid: 0,
            fd: -1,
            uid: found.uid,
            program: self.nobody.clone(),
            cookie: found.cookie,
            inode: found.inode,
            since_ns: 0,
            in_run: false,
            on_the_way: false,
            automatic: false,
            rule: RULE_NONE,
            options: BindOptions(BindOptions::UNKNOWN),
            elsewhere: None,
        }
    }

    /// A bind of a socket that has no port of TCP's or UDP's: of a name, or of
    /// an address that any number can share.
    #[allow(clippy::too_many_arguments)]
    fn judge_name(
        &mut self,
        r: &Record,
        caller: Option<Caller>,
        space: &mut Space,
        alive: &Alive,
        mut bind: Bind<'_>,
        owner: &dyn Fn() -> Owner,
        asked: bool,
    ) -> Result<Known, &'static str> {
        bind.path = match bind.addr.read() {
            // The kernel has made the file.
            Some(Addr::Unix(name)) if name.kind == UnixKind::Path && r.kernel != 0 => {
                let caller = caller.ok_or(why::GONE)?;
                path_state(name.bytes(), caller).ok_or(why::GONE)?
            }
            _ => PathState::Free,
        };
        let said = space.table.bind(&bind, r.kernel, owner);
        if matches!(said.result, Err(No::Unknown(_))) {
            return Err(why::FAMILY);
        }
        let in_use = r.kernel == EADDRINUSE;
        let holder = match in_use && asked {
            true => self.has_name(&bind, said, space, alive),
            false => None,
        };
        let predicted = plain(said);
        if agrees(said.result, r.kernel) {
            return Ok(Known {
                predicted: Some(predicted),
                holder,
                why: None,
            });
        }
        match (&holder, bind.kind.domain) {
            // Somebody outside the run, whom the table does not know.
            (Some(_), _) => {
                return Ok(Known {
                    predicted: Some(Predicted {
                        answer: Answer::Fails(Errno::EADDRINUSE),
                        step: Some(Step::UnixAbstractInUse),
                        ..predicted
                    }),
                    holder,
                    why: None,
                });
            }
            (None, af::UNIX) if in_use => return Err(why::LEFT),
            (None, _) if in_use => return Err(why::OUTSIDE),
            _ => {}
        }
        if !space.is_known {
            return Err(why::NETWORK);
        }
        if said.result.is_err()
            && bind
                .addr
                .read()
                .is_some_and(|a| space.left_out.concerns(&a))
        {
            return Err(why::LEFT_OUT);
        }
        let meaning = match Errno::from_linux(i32::from(r.kernel)) {
            _ if bind.kind.domain == af::UNIX => return Err(why::FILES),
            _ if r.kernel == 0 => why::CAME,
            Some(Errno::EACCES | Errno::EPERM) => why::REFUSED,
            Some(Errno::EADDRNOTAVAIL | Errno::ENODEV) => why::ADDRESS,
            _ => return Err(why::SOCKET),
        };
        differs(said, caller, meaning)
    }

    /// Who has the name: the table's owner, or whoever `/proc` shows.
    fn has_name(
        &mut self,
        bind: &Bind<'_>,
        said: Said,
        space: &mut Space,
        alive: &Alive,
    ) -> Option<Held> {
        let own = said.holder.and_then(|id| space.table.held(id));
        if bind.kind.domain != af::UNIX {
            let held = own?;
            let gone = alive.is_dead(held.owner.process);
            return Some(Held { gone, ..held });
        }
        let Some(Addr::Unix(name)) = bind.addr.read() else {
            return None;
        };
        let is_abstract = name.kind == UnixKind::Abstract;
        let all = space.within(machine::unix_sockets).unwrap_or_default();
        let has = |s: &&UnixSocket| s.is_named(&name) && (!is_abstract || s.ty == bind.kind.ty);
        let Some(found) = all.iter().find(has) else {
            // A file without a socket.
            return own.map(|held| Held { gone: true, ..held });
        };
        let owner = match own {
            Some(held) => Owner {
                inode: found.inode,
                ..held.owner
            },
            None => self.outside(found),
        };
        let held = Held {
            owner,
            addr: *bind.addr,
            state: state_of(found),
            gone: false,
        };
        Some(self.identified(held, alive))
    }
}

/// Has the kernel refused it? A connect that does not wait is under way.
fn has_failed(r: &Record) -> bool {
    const UNDER_WAY: [u16; 4] = [EINPROGRESS, EALREADY, EISCONN, EINTR];
    r.kernel != 0 && !(r.call == Call::Connect && UNDER_WAY.contains(&r.kernel))
}

/// What a Unix socket with a name does.
pub fn state_of(s: &UnixSocket) -> HolderState {
    match s.listens {
        true => HolderState::Listening,
        false => HolderState::Bound,
    }
}

/// What the file system says of a path that the process binds to, by its root
/// and its working directory. `None` if these cannot be looked at.
fn path_state(path: &[u8], caller: Caller) -> Option<PathState> {
    let start = match path.first() {
        Some(b'/') => "root",
        _ => "cwd",
    };
    let start = format!("/proc/{}/{start}/", caller.pid);
    std::fs::metadata(&start).ok()?;
    let mut full = start.into_bytes();
    full.extend(path);
    Some(path::path_state(&full, caller.uid))
}

fn plain(said: Said) -> Predicted {
    Predicted {
        answer: match said.result {
            Ok(()) => Answer::Ok,
            Err(No::Errno(e)) => Answer::Fails(e),
            Err(No::Unknown(_)) => Answer::Unknown,
        },
        step: said.step,
        differs: false,
        why: match said.result {
            Err(No::Unknown(why)) => Some(why.what()),
            _ => None,
        },
    }
}

/// The kernel answered otherwise than the model, which means this; a process
/// that could not be looked at may have been somebody else.
fn differs(
    said: Said,
    caller: Option<Caller>,
    meaning: &'static str,
) -> Result<Known, &'static str> {
    caller.ok_or(why::GONE)?;
    Ok(Known {
        predicted: Some(Predicted {
            differs: true,
            why: Some(meaning),
            ..plain(said)
        }),
        ..Known::default()
    })
}

fn agrees(said: Result<(), No>, kernel: u16) -> bool {
    match said {
        Ok(()) => kernel == 0,
        Err(No::Errno(e)) => e.linux() == kernel,
        Err(No::Unknown(_)) => false,
    }
}
