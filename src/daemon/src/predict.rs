//! What the model says of a bind that the kernel has answered, and what a
//! difference means.
//!
//! It must cost little, because records come as fast as two processors can
//! bind: what the model says of an address is kept, by kind of socket, address
//! and caller. `/proc` and sock_diag are asked when the kernel contradicts, and
//! not often. What cannot be known is said to be unknown.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::errno::EADDRINUSE;
use bindgate_core::model::{
    Cred, Errno, Fd, Host, Outside, OwnedNet, Pick, Pointer, SockId, State, Step,
};
use bindgate_core::record::{Call, Record, Verdict, flag};
use bindgate_core::render::{Answer, Holder, HolderState, Predicted};
use bindgate_core::socket::{SocketType, proto, ty};

use super::alive::Alive;
use super::callers::{Caller, Callers, NOBODY};
use bindgate_core::uapi::inet_diag::{self, Socket as Owner};
use bindgate_host_live::machine::{self, LeftOut};
use bindgate_os::diag;

/// How old may be what is known of the host, and of a process.
const FRESH: Duration = Duration::from_secs(1);
/// Where the kernel contradicts, this much.
const FRESH_IN_DOUBT: Duration = Duration::from_millis(100);
/// Questions to sock_diag in a second; an answer serves for a second.
const QUESTIONS: u32 = 20;
/// Answers that are kept.
const KEPT: usize = 4096;
/// Owners of a port that are looked at.
const OWNERS: usize = 256;

pub(super) mod why {
    pub const ELSEWHERE: &str = "not asked of the kernel at a known address";
    pub const NO_KIND: &str = "the socket's kind was not asked";
    pub const FAMILY: &str = "names of this family are not followed";
    pub const GONE: &str =
        "the process could not be looked at: it had ended, or belongs to somebody else";
    pub const NETWORK: &str = "the process is in another network name space";
    pub const USERS: &str = "the process is in another user name space";
    pub const SOCKET: &str = "the socket's own state and options decide";
    pub const NO_PORT: &str = "whether automatic ports are used up is not asked";
    pub const BUSY: &str = "sock_diag was not asked: 20 questions a second at most";
    pub const DIAG: &str = "sock_diag did not answer";
    pub const FREE: &str = "whoever held the port has left it";
    pub const OUTSIDE: &str = "somebody outside this run holds the port";
    pub const PERHAPS_OUTSIDE: &str = "somebody outside this run holds the port, if the process, which could not be looked at, was in this network name space";
    pub const ALLOWED: &str = "an option of the socket allows the address, or it was there then";
    pub const CAPABLE: &str = "the process had a capability then";
    pub const REFUSED: &str =
        "something that the model does not know refused: LSM, Landlock, cgroup, a capability";
    pub const ADDRESS: &str = "the address was not there then";
    pub const LEFT_OUT: &str =
        "the model has no room for all of this machine's addresses and devices, and none for this";
}

/// What the model's answer depends on, besides the host.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    kind: (u16, u16, u16),
    caller: Caller,
    /// Family, address, scope; and the port as far as it matters.
    addr: [u8; 28],
    len: usize,
}

/// Who of the run bound a port last.
#[derive(Clone, Copy)]
struct Own {
    pid: u32,
    cookie: u64,
    /// `None` if the process could not be looked at.
    uid: Option<u32>,
}

/// An answer of sock_diag, and when it came.
struct Asked {
    at: Instant,
    owners: Option<Vec<Owner>>,
}

/// See the module.
pub struct Predictor {
    net: OwnedNet,
    /// What of the host is not in `net`.
    left_out: LeftOut,
    /// When the host was read; it is read first when somebody asks.
    host_at: Option<Instant>,
    answers: HashMap<Question, (Result<(), Errno>, Option<Step>)>,
    callers: Callers,
    own: HashMap<(bool, u16), Own>,
    asked: HashMap<(bool, u16), Asked>,
    /// Questions in the running second.
    questions: (Instant, u32),
    /// Who was in the way of the last bind.
    holder: Option<Holder<'static>>,
}

impl Predictor {
    /// Knows nothing of the host yet.
    pub fn new() -> Predictor {
        Predictor {
            net: OwnedNet::new(Host::EMPTY, OWNERS as u32 + 1),
            left_out: LeftOut::default(),
            host_at: None,
            answers: HashMap::new(),
            callers: Callers::new(),
            own: HashMap::new(),
            asked: HashMap::new(),
            questions: (Instant::now(), 0),
            holder: None,
        }
    }

    /// Looks at the processes that are new: some end soon.
    pub fn meet(&mut self, alive: &Alive) {
        self.callers.meet(alive, FRESH);
    }

    /// What the model says of a record; nothing of what is no bind(2) that the
    /// kernel was asked about.
    pub fn predict(&mut self, record: &Record, alive: &Alive) -> Option<Predicted> {
        self.holder = None;
        let asked = record.call == Call::Bind && record.flags & flag::FORWARDED != 0;
        asked.then(|| match self.judge(record, alive) {
            Ok(predicted) => predicted,
            Err(why) => Predicted::unknown(why),
        })
    }

    /// Who was in the way of the last bind.
    pub fn holder(&self) -> Option<&Holder<'static>> {
        self.holder.as_ref()
    }

    fn judge(&mut self, r: &Record, alive: &Alive) -> Result<Predicted, &'static str> {
        let kind = SocketType {
            domain: r.domain,
            ty: r.ty,
            protocol: r.protocol,
        };
        let addr = match r.verdict {
            Verdict::Allow | Verdict::Passed => &r.asked,
            // Where it was really bound.
            _ => &r.used,
        };
        if kind.ty == 0 {
            return Err(why::NO_KIND);
        }
        let tcp = matches!(kind.protocol, proto::TCP | proto::MPTCP);
        let known = matches!(kind.domain, af::INET | af::INET6)
            && matches!(kind.ty, ty::STREAM | ty::DGRAM)
            && (tcp || kind.protocol == proto::UDP);
        if !known {
            return Err(why::FAMILY);
        }
        if addr.bytes().len() < 16 {
            return Err(why::ELSEWHERE);
        }
        let (at, port) = match addr.read() {
            Some(at @ (Addr::Inet { port, .. } | Addr::Inet6 { port, .. })) => (at, port),
            _ => return Err(why::SOCKET),
        };
        self.host_not_older_than(FRESH);
        // Of a process that is gone already only the user is missing, where
        // the port is not privileged; that its network was ours is taken for
        // granted as long as nothing contradicts.
        let privileged = port != 0 && port < self.net.host.sysctl.unprivileged_start;
        let known = |caller| match caller {
            Ok(caller) => Ok(Some(caller)),
            Err(why) if why == why::GONE && !privileged => Ok(None),
            Err(why) => Err(why),
        };
        let caller = known(self.callers.of(r.process, alive, FRESH))?;
        let mut said = self.of_address(kind, addr, caller.unwrap_or(NOBODY));
        self.has_room_for(&at, said.0)?;
        if agrees(said.0, r.kernel) {
            if r.kernel == 0 {
                self.bound(tcp, r, caller);
            }
            return Ok(plain(said));
        }
        // The kernel contradicts: is what is known still so?
        self.host_not_older_than(FRESH_IN_DOUBT);
        let caller = known(self.callers.of(r.process, alive, FRESH_IN_DOUBT))?.or(caller);
        said = self.of_address(kind, addr, caller.unwrap_or(NOBODY));
        self.has_room_for(&at, said.0)?;
        if agrees(said.0, r.kernel) {
            if r.kernel == 0 {
                self.bound(tcp, r, caller);
            }
            return Ok(plain(said));
        }
        let differs = |meaning| {
            caller.ok_or(why::GONE)?;
            Ok(Predicted {
                differs: true,
                why: Some(meaning),
                ..plain(said)
            })
        };
        match (said.0, r.kernel) {
            (Err(Errno::EACCES), 0) => {
                self.bound(tcp, r, caller);
                differs(why::CAPABLE)
            }
            (Err(_), 0) => {
                self.bound(tcp, r, caller);
                differs(why::ALLOWED)
            }
            (Ok(()), EADDRINUSE) if port == 0 => Err(why::NO_PORT),
            (Ok(()), EADDRINUSE) => self.in_the_way(kind, addr, port, caller, said.1),
            (_, n) => match Errno::from_linux(i32::from(n)) {
                Some(Errno::EACCES | Errno::EPERM) => differs(why::REFUSED),
                Some(Errno::EADDRNOTAVAIL) => differs(why::ADDRESS),
                _ => Err(why::SOCKET),
            },
        }
    }

    fn host_not_older_than(&mut self, fresh: Duration) {
        if self.host_at.is_none_or(|at| at.elapsed() > fresh) {
            (self.net.host, self.left_out) = machine::host();
            self.host_at = Some(Instant::now());
            self.answers.clear();
        }
    }

    /// Where the model said no: not because the address had no room in it?
    fn has_room_for(&self, at: &Addr, said: Result<(), Errno>) -> Result<(), &'static str> {
        match said {
            Err(_) if self.left_out.concerns(at) => Err(why::LEFT_OUT),
            _ => Ok(()),
        }
    }

    /// What the model says while nobody has the port.
    fn of_address(
        &mut self,
        kind: SocketType,
        addr: &RawAddr,
        caller: Caller,
    ) -> (Result<(), Errno>, Option<Step>) {
        let bytes = addr.bytes();
        let mut key = Question {
            kind: (kind.domain, kind.ty, kind.protocol),
            caller,
            addr: [0; 28],
            len: bytes.len(),
        };
        for (to, from) in key.addr.iter_mut().zip(bytes) {
            *to = *from;
        }
        // All unprivileged ports are alike, as long as nobody has them.
        let port = u16::from_be_bytes([key.addr[2], key.addr[3]]);
        if port >= self.net.host.sysctl.unprivileged_start.max(1) {
            [key.addr[2], key.addr[3]] = [0xff, 0xff];
        }
        if kind.domain == af::INET6 {
            // The flow label decides nothing.
            key.addr[4..8].fill(0);
        }
        if let Some(said) = self.answers.get(&key) {
            return *said;
        }
        let said = self.ask_model(kind, addr, caller, &[]).0;
        if self.answers.len() >= KEPT {
            self.answers.clear();
        }
        self.answers.insert(key, said);
        said
    }

    /// The model's answer beside these owners, and which of them is in the way.
    #[allow(clippy::type_complexity)]
    fn ask_model(
        &mut self,
        kind: SocketType,
        addr: &RawAddr,
        caller: Caller,
        owners: &[Owner],
    ) -> ((Result<(), Errno>, Option<Step>), Option<usize>) {
        let cred = Cred {
            net_bind_service: caller.net_bind_service,
            ..Cred::user(caller.uid)
        };
        let mut net = self.net.net();
        net.clear();
        let places: Vec<Option<SockId>> = owners
            .iter()
            .take(OWNERS)
            .map(|o| net.adopt(&outside(o, kind, addr)))
            .collect();
        let (domain, ty) = (i32::from(kind.domain), i32::from(kind.ty));
        let made = net.socket(domain, ty, i32::from(kind.protocol), &cred);
        let Ok(s) = made.result else {
            return ((made.result.map(|_| ()), made.trail.last()), None);
        };
        let answer = net.bind(
            Fd::Socket(s),
            Pointer::to(addr.bytes()),
            &cred,
            Pick::Random(1),
        );
        let holder = places
            .iter()
            .position(|place| place.is_some() && *place == answer.holder);
        ((answer.result, answer.trail.last()), holder)
    }

    /// The kernel says that somebody has the port: who? `free` is where the
    /// model would have let the bind pass.
    fn in_the_way(
        &mut self,
        kind: SocketType,
        addr: &RawAddr,
        port: u16,
        caller: Option<Caller>,
        free: Option<Step>,
    ) -> Result<Predicted, &'static str> {
        let tcp = kind.protocol != proto::UDP;
        let owners = self.owners(tcp, port)?;
        let (said, holder) = self.ask_model(kind, addr, caller.unwrap_or(NOBODY), &owners);
        let Some(holder) = holder.and_then(|i| owners.get(i)) else {
            return Err(why::FREE);
        };
        let own = self.own.get(&(tcp, port)).copied();
        // Where the identity was not asked, port and user have to tell.
        let is_own = own.filter(|own| {
            if own.cookie == 0 {
                own.uid.is_none_or(|uid| uid == holder.uid)
            } else {
                own.cookie == holder.cookie
            }
        });
        self.holder = Some(Holder {
            pid: is_own.map_or(0, |own| own.pid),
            uid: Some(holder.uid),
            inode: holder.inode,
            addr: address(holder).write(),
            state: Some(match holder.state {
                inet_diag::state::LISTEN => HolderState::Listening,
                inet_diag::state::TIME_WAIT => HolderState::TimeWait,
                inet_diag::state::CLOSE | inet_diag::state::BOUND_INACTIVE => HolderState::Bound,
                _ => HolderState::Connected,
            }),
            in_run: is_own.is_some(),
            ..Holder::of_cookie(holder.cookie)
        });
        if is_own.is_some() {
            return Ok(plain(said));
        }
        Ok(Predicted {
            answer: Answer::Ok,
            step: free,
            differs: true,
            why: Some(match caller {
                Some(_) => why::OUTSIDE,
                None => why::PERHAPS_OUTSIDE,
            }),
        })
    }

    /// Everybody who has the port, of both address families.
    fn owners(&mut self, tcp: bool, port: u16) -> Result<Vec<Owner>, &'static str> {
        if let Some(asked) = self.asked.get(&(tcp, port))
            && asked.at.elapsed() < FRESH
        {
            return asked.owners.clone().ok_or(why::DIAG);
        }
        if self.questions.0.elapsed() >= Duration::from_secs(1) {
            self.questions = (Instant::now(), 0);
            self.asked.retain(|_, asked| asked.at.elapsed() < FRESH);
        }
        if self.questions.1 >= QUESTIONS {
            return Err(why::BUSY);
        }
        self.questions.1 += 1;
        let protocol = if tcp { proto::TCP } else { proto::UDP } as u8;
        let mut owners = Ok(Vec::new());
        for family in [af::INET, af::INET6] {
            match (diag::owners(family as u8, protocol, port), &mut owners) {
                (Ok(more), Ok(all)) => all.extend(more),
                (Err(e), _) => owners = Err(e),
                _ => {}
            }
        }
        let owners = owners.ok();
        let asked = Asked {
            at: Instant::now(),
            owners: owners.clone(),
        };
        self.asked.insert((tcp, port), asked);
        owners.ok_or(why::DIAG)
    }

    /// A bind of the run succeeded: the port is its own.
    fn bound(&mut self, tcp: bool, r: &Record, caller: Option<Caller>) {
        if let Some(Addr::Inet { port, .. } | Addr::Inet6 { port, .. }) = r.used.read() {
            let own = Own {
                pid: r.pid,
                cookie: r.cookie,
                uid: caller.map(|c| c.uid),
            };
            self.own.insert((tcp, port), own);
        }
    }
}

fn plain((result, step): (Result<(), Errno>, Option<Step>)) -> Predicted {
    Predicted {
        answer: match result {
            Ok(()) => Answer::Ok,
            Err(e) => Answer::Fails(e),
        },
        step,
        differs: false,
        why: None,
    }
}

fn address(o: &Owner) -> Addr {
    let port = o.port;
    match (u16::from(o.family), o.addr) {
        (af::INET6, ip) => Addr::Inet6 {
            ip,
            port,
            flow: 0,
            scope: 0,
        },
        (_, [a, b, c, d, ..]) => Addr::Inet {
            ip: [a, b, c, d],
            port,
        },
    }
}

fn agrees(said: Result<(), Errno>, kernel: u16) -> bool {
    match said {
        Ok(()) => kernel == 0,
        Err(e) => e.linux() == kernel,
    }
}

/// An owner as the model takes it. Its reuse options are not to be seen: had
/// they and the asker's agreed, the kernel would not have refused.
fn outside(o: &Owner, asker: SocketType, addr: &RawAddr) -> Outside {
    let six = u16::from(o.family) == af::INET6;
    let mut mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    if let (Some(to), Some(from)) = (mapped.get_mut(12..), o.addr.get(..4)) {
        to.copy_from_slice(from);
    }
    let port = match addr.read() {
        Some(Addr::Inet { port, .. } | Addr::Inet6 { port, .. }) => port,
        _ => 0,
    };
    Outside {
        kind: SocketType {
            domain: if six { af::INET6 } else { af::INET },
            ..asker
        },
        uid: o.uid,
        addr: if six { o.addr } else { mapped },
        port,
        // The numbers of <net/tcp_states.h>.
        state: match o.state {
            10 => State::Listen,
            6 => State::TimeWait,
            1 => State::Established,
            _ => State::Close,
        },
        reuse: false,
        reuseport: false,
        v6only: o.v6only,
        dev: o.dev,
    }
}
