//! The way through the rules: from an address to a verdict.

use super::{Answer, Caller, Known, Need, Socket, Step, sibling};
use crate::addr::{Addr, af};
use crate::policy::{
    Candidates, Decision, Doubt, Foreseen, Found, Implicit, Op, Outlook, Query, Room, Ruling,
    Search, Uses, Verb, errno,
};
use crate::record::{self, Check, RULE_DEFAULT, RULE_NONE, Record, flag, refusal, stage};
use crate::socket::{KindSet, SocketType, ty};

/// What is decided about one call, and everything that its record says of that.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The stages passed, beyond those of the driver.
    pub stages: u16,
    /// The socket, where it had to be known.
    pub socket: Option<Socket>,
    /// Is the socket known to receive IPv6 only?
    pub v6only: bool,
    /// The effective user, where a rule asks for it.
    pub uid: Option<u32>,
    /// Has the caller no privilege for the port, where a rule asks for it?
    pub unprivileged: Option<bool>,
    /// What the rules say; `None` where the kernel is left to say what is wrong.
    pub ruling: Option<Ruling>,
    /// The call is judged by the address that a raw IPv4 socket reads.
    pub by_raw: bool,
    /// What the socket is called, as far as it is known.
    pub kinds: KindSet,
}

impl Verdict {
    const NOTHING: Verdict = Verdict {
        stages: 0,
        socket: None,
        v6only: false,
        uid: None,
        unprivileged: None,
        ruling: None,
        by_raw: false,
        kinds: KindSet::NONE,
    };

    /// The rule that lets the call pass, unless there is more to do than that.
    #[must_use]
    #[inline]
    pub fn passed(&self) -> Option<u32> {
        match self.socket {
            // A carrier gives way first.
            Some(socket) if socket.is_carrier() => None,
            _ => self.ruling.as_ref().and_then(passing),
        }
    }

    /// What the rules say, with the place that a move goes to, for a call with
    /// this address. `None` where the kernel is left to answer.
    #[must_use]
    pub fn decision(&self, caller: &Caller<'_>, addr: Option<&Addr>) -> Option<Decision> {
        let ruling = self.ruling.as_ref()?;
        Some(caller.view.decision(ruling, addr, self.kinds))
    }
}

/// The rule that lets a call pass, unless there is more to do than that.
#[inline]
pub(super) fn passing(ruling: &Ruling) -> Option<u32> {
    let passes = ruling.verb == Verb::Allow && ruling.note.is_none();
    passes.then(|| ruling.rule.unwrap_or(RULE_DEFAULT))
}

/// Writes a decision into a record. The errno of a refusal that holds, for
/// `check` to have refused.
pub fn enter(
    caller: &Caller<'_>,
    decision: &Decision,
    check: Check,
    record: &mut Record,
) -> Option<u16> {
    record.stages |= stage::POLICY;
    record.rule = match decision.rule {
        Some(rule) => rule,
        None if decision.by_default => RULE_DEFAULT,
        None => RULE_NONE,
    };
    record.note = decision.note.unwrap_or(RULE_NONE);
    record.verdict = match decision.verb {
        Verb::Allow => record::Verdict::Allow,
        Verb::Deny => record::Verdict::Deny,
        Verb::Move => record::Verdict::Move,
        Verb::Hide => record::Verdict::Hide,
    };
    record.reason = match decision.doubt {
        None => 0,
        Some(Doubt::Socket) => refusal::UNKNOWN_SOCKET,
        Some(Doubt::User) => refusal::UNKNOWN_USER,
        Some(Doubt::Program) => refusal::UNKNOWN_PROGRAM,
    };
    if decision.verb == Verb::Allow {
        return None;
    }
    if caller.observe {
        record.flags |= flag::OBSERVED;
        return None;
    }
    if decision.verb != Verb::Deny {
        return None;
    }
    record.check = check;
    record.errno = decision.errno;
    Some(decision.errno)
}

/// The kinds of a socket that is asked for this address. Of the two IP families
/// it has the one of the address: the kernel compares them, and `IPV6_ADDRFORM`
/// changes the socket's.
fn kinds_at(ty: SocketType, addr: &Addr) -> KindSet {
    SocketType {
        domain: addr.family(),
        ..ty
    }
    .kinds()
}

fn is_ip(family: u16) -> bool {
    matches!(family, af::INET | af::INET6)
}

/// Where the machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing has been looked at.
    Start,
    /// The socket has to be known.
    Socket,
    /// Its protocol, exactly.
    Protocol,
    /// Whether `::` receives IPv4 as well.
    V6Only,
    /// The user.
    User,
    /// The privilege for this port.
    Privilege(u16),
    /// The rules are asked.
    Search,
    /// A use of a counter is to be taken.
    Use { counter: u32, uses: Uses },
    /// There is a verdict.
    Done,
}

/// What a call asks of the rules.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Who asks, under which policy.
    pub caller: &'a Caller<'a>,
    /// The operation.
    pub op: Op,
    /// The address, if it can be read.
    pub addr: Option<&'a Addr>,
    /// The same bytes as a raw IPv4 socket reads them, where that is another
    /// address: `raw_bind` does not look at the family.
    pub raw: Option<&'a Addr>,
    /// Where the bind comes from.
    pub implicit: Implicit,
}

impl<'a> Question<'a> {
    fn query(&self) -> Query<'a> {
        Query {
            addr: self.addr,
            implicit: self.implicit,
            ..self.caller.query(self.op)
        }
    }

    /// Does what is to be done depend on whether the socket is a carrier? What a
    /// carrier is not to be asked for itself has one of these two families, or
    /// cannot be read.
    #[inline]
    fn may_be_of_carrier(&self) -> bool {
        self.addr
            .is_none_or(|addr| matches!(addr, Addr::Vsock { .. } | Addr::Unix(_)))
            && matches!(self.op, Op::Bind | Op::Connect)
            && self.implicit == Implicit::No
            && self.caller.has_carriers()
    }

    /// Does `f` with the rules that fit the query.
    fn with<T>(&self, q: &Query<'_>, f: impl FnOnce(&Candidates<'_>) -> T) -> T {
        let mut room = Room::default();
        f(&self.caller.view.candidates(q, &mut room))
    }
}

/// The way of one question through the rules.
#[derive(Clone, Copy)]
pub struct Rules {
    state: State,
    search: Search,
    believed: SocketType,
    unknown_socket: bool,
    /// The rules about every address are asked.
    every: bool,
    kinds: KindSet,
    verdict: Verdict,
}

impl Rules {
    /// The beginning, where the socket is believed to be of that type.
    #[inline]
    pub fn believing(believed: Option<SocketType>) -> Rules {
        Rules {
            state: State::Start,
            search: Search::new(Foreseen::default()),
            believed: believed.unwrap_or_default(),
            unknown_socket: false,
            every: false,
            kinds: KindSet::NONE,
            verdict: Verdict::NOTHING,
        }
    }

    /// The beginning, where it is known.
    pub fn knowing(socket: Socket, question: &Question<'_>) -> Rules {
        let mut rules = Rules::believing(Some(socket.ty));
        rules.socket(socket, question);
        rules
    }

    /// The end, where nobody may ask for the name that the rules are about:
    /// refused, unless nothing that they say can refuse.
    pub fn unnamed(question: &Question<'_>) -> Rules {
        let mut rules = Rules::believing(None);
        rules.state = State::Done;
        rules.verdict.stages = stage::POLICY;
        rules.verdict.ruling = Some(match question.caller.view.restricts(question.op) {
            false => question.caller.view.by_default(&question.query()),
            true => Ruling {
                verb: Verb::Deny,
                errno: errno::EACCES,
                rule: None,
                note: None,
                by_default: true,
                doubt: Some(Doubt::Socket),
            },
        });
        rules
    }

    /// What was decided; complete after [`Step::Done`].
    #[inline]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The address that counts for this socket.
    fn addr<'a>(&self, question: &Question<'a>) -> Option<&'a Addr> {
        match self.verdict.by_raw {
            _ if self.every => None,
            true => question.raw,
            false => question.addr,
        }
    }

    fn query<'a>(&self, question: &Question<'a>) -> Query<'a> {
        Query {
            kinds: self.kinds,
            unknown_socket: self.unknown_socket,
            addr: self.addr(question),
            v6only: self.verdict.v6only,
            uid: self.verdict.uid,
            unprivileged: self.verdict.unprivileged,
            ..question.query()
        }
    }

    /// Is it `::`, of which it matters whether it receives IPv4 as well?
    fn may_be_dual(&self, question: &Question<'_>) -> bool {
        question.op != Op::Connect
            && self
                .addr(question)
                .is_some_and(|addr| addr.family() == af::INET6 && addr.is_wildcard())
    }

    /// Goes on. The question is the same each time.
    #[inline]
    pub fn step(&mut self, question: &Question<'_>) -> Step {
        loop {
            let need = match self.state {
                State::Start => {
                    self.look(question);
                    continue;
                }
                State::Search => {
                    self.ask(question);
                    continue;
                }
                State::Socket => Need::Socket,
                State::Protocol => Need::Protocol,
                State::V6Only => Need::V6Only,
                State::User => Need::User,
                State::Privilege(port) => Need::Privilege { port },
                State::Use { counter, uses } => Need::Use { counter, uses },
                State::Done => return Step::Done,
            };
            return Step::Need(need);
        }
    }

    /// Takes the answer to what [`Rules::step`] asked for last.
    #[inline]
    pub fn feed(&mut self, question: &Question<'_>, answer: Answer<'_>) {
        match answer {
            Answer::Socket(socket) => self.socket(socket, question),
            Answer::NoSocket => self.state = State::Done,
            Answer::UnknownSocket => self.unknown(question),
            Answer::Protocol(protocol) => {
                self.protocol(protocol, question);
                self.then_v6only(question);
            }
            Answer::V6Only(v6only) => {
                self.verdict.v6only = v6only == Some(true);
                self.then_user(question);
            }
            Answer::User(uid) => {
                self.verdict.uid = uid;
                self.then_privilege(question);
            }
            Answer::Unprivileged(unprivileged) => {
                self.verdict.unprivileged = unprivileged;
                self.state = State::Search;
            }
            Answer::Use(taken) => {
                self.search.used(taken);
                self.state = State::Search;
            }
            // Of another machine.
            Answer::Bound(_) | Answer::Name(_) => {}
        }
    }

    /// What can be said before anybody is asked.
    fn look(&mut self, question: &Question<'_>) {
        self.state = State::Socket;
        if question.may_be_of_carrier() {
            return;
        }
        let mut q = self.query(question);
        let ruling = match question.addr {
            // Rules about every address, and what a raw socket may read there.
            None => {
                let view = question.caller.view;
                let none = question.with(&q, |candidates| candidates.is_empty());
                if none && view.by_default(&q).verb == Verb::Allow {
                    Some(None)
                } else {
                    None
                }
            }
            Some(addr) => {
                let mut room = Room::default();
                let candidates = question.caller.view.candidates(&q, &mut room);
                self.outlook(question, addr, &candidates, &mut q).map(Some)
            }
        };
        let Some(ruling) = ruling else { return };
        if is_settled_for_raw(question) {
            if ruling.is_some() {
                self.verdict.stages = stage::POLICY;
            }
            self.verdict.ruling = ruling;
            self.state = State::Done;
        }
    }

    /// The ruling, where it is the same whatever the socket is. The query's
    /// kinds are set to those that the socket is believed to have.
    #[inline]
    fn outlook(
        &mut self,
        question: &Question<'_>,
        addr: &Addr,
        candidates: &Candidates<'_>,
        q: &mut Query<'_>,
    ) -> Option<Ruling> {
        let view = question.caller.view;
        let mut outlook = if candidates.is_empty() {
            Outlook::NoRule(view.by_default(q))
        } else {
            // Of another family it is not what was believed.
            if self.believed.domain == addr.family() {
                q.kinds = self.believed.kinds();
            }
            view.outlook(q, candidates)
        };
        if self.may_be_dual(question) && outlook != outlook_of_v6only(question, q) {
            outlook = Outlook::Open(Foreseen::default());
        }
        match outlook {
            Outlook::NoRule(ruling) | Outlook::Allowed(ruling) => Some(ruling),
            Outlook::Open(foreseen) => {
                self.kinds = q.kinds;
                self.search = Search::new(foreseen);
                None
            }
        }
    }

    /// The socket is known.
    fn socket(&mut self, socket: Socket, question: &Question<'_>) {
        // What will be created is no socket yet.
        if question.op != Op::Socket {
            self.verdict.socket = Some(socket);
            self.verdict.stages |= stage::IDENTIFY;
        }
        let ty = socket.ty;
        if (ty.domain, ty.ty) == (af::INET, ty::RAW) && question.raw.is_some() {
            self.verdict.by_raw = true;
        }
        let kinds = match self.addr(question) {
            // As it was believed, and looked for.
            Some(addr)
                if ty == self.believed
                    && addr.family() == ty.domain
                    && self.kinds != KindSet::NONE =>
            {
                self.kinds
            }
            Some(addr) if addr.family() == ty.domain => ty.kinds(),
            // An IPv6 socket may call an IPv4 address.
            Some(addr)
                if question.op == Op::Connect && is_ip(addr.family()) && is_ip(ty.domain) =>
            {
                ty.kinds()
            }
            // An IP address is judged as one, whatever the socket may be.
            Some(addr)
                if is_ip(addr.family()) && (is_ip(ty.domain) || ty.kinds() == KindSet::NONE) =>
            {
                kinds_at(ty, addr)
            }
            // A family without words for its addresses: the rules about every
            // address hold.
            _ if socket.is_unread() || question.op == Op::Socket => {
                self.every = true;
                ty.kinds()
            }
            // Malformed, or of another family: the family's own check refuses.
            _ => {
                self.state = State::Done;
                return;
            }
        };
        if kinds != self.kinds || self.every || self.verdict.by_raw {
            self.search = Search::new(Foreseen::default());
        }
        self.kinds = kinds;
        if socket.is_exact() || !question.caller.view.tells_siblings(question.op) {
            return self.then_v6only(question);
        }
        let twin = sibling(ty);
        match (twin, self.addr(question)) {
            (Some(twin), Some(addr)) if self.tells_apart(question, kinds_at(twin, addr)) => {
                self.state = State::Protocol;
            }
            _ => self.then_v6only(question),
        }
    }

    /// Would the rules that fit say something else of a socket of these kinds?
    fn tells_apart(&self, question: &Question<'_>, other: KindSet) -> bool {
        let view = question.caller.view;
        let q = self.query(question);
        question.with(&q, |candidates| view.tells_apart(&q, candidates, other))
    }

    fn protocol(&mut self, protocol: Option<u16>, question: &Question<'_>) {
        let addr = self.addr(question);
        match (&mut self.verdict.socket, protocol) {
            (Some(socket), Some(protocol)) => {
                socket.ty.protocol = protocol;
                socket.known = Known::Exactly;
                self.kinds = match addr {
                    Some(addr) => kinds_at(socket.ty, addr),
                    None => socket.ty.kinds(),
                };
            }
            _ => (self.unknown_socket, self.kinds) = (true, KindSet::NONE),
        }
        self.search = Search::new(Foreseen::default());
    }

    /// Nobody may ask what the socket is.
    fn unknown(&mut self, question: &Question<'_>) {
        self.unknown_socket = true;
        self.kinds = KindSet::NONE;
        self.search = Search::new(Foreseen::default());
        self.then_v6only(question);
    }

    fn then_v6only(&mut self, question: &Question<'_>) {
        if self.may_be_dual(question) {
            self.search = Search::new(Foreseen::default());
            self.state = State::V6Only;
        } else {
            self.then_user(question);
        }
    }

    fn then_user(&mut self, question: &Question<'_>) {
        match question.caller.view.needs_user(question.op) {
            true => self.state = State::User,
            false => self.then_privilege(question),
        }
    }

    /// Only a port that is reserved takes a privilege.
    fn then_privilege(&mut self, question: &Question<'_>) {
        let caller = question.caller;
        self.state = match self.addr(question) {
            Some(Addr::Inet { port, .. } | Addr::Inet6 { port, .. })
                if (1..caller.unprivileged_start).contains(port)
                    && caller.view.needs_privilege(question.op) =>
            {
                State::Privilege(*port)
            }
            _ => State::Search,
        };
    }

    /// Asks the rules.
    fn ask(&mut self, question: &Question<'_>) {
        let view = question.caller.view;
        if !self.unknown_socket
            && let Some(ruling) = view.settled(question.op, question.implicit, &self.search)
        {
            self.verdict.stages |= stage::POLICY;
            self.verdict.kinds = self.kinds;
            self.verdict.ruling = Some(ruling);
            self.state = State::Done;
            return;
        }
        let q = self.query(question);
        let found = question.with(&q, |candidates| {
            view.search(&q, candidates, &mut self.search)
        });
        match found {
            Found::Use { counter, uses } => self.state = State::Use { counter, uses },
            Found::Ruling(ruling) => {
                self.verdict.stages |= stage::POLICY;
                self.verdict.kinds = self.kinds;
                let worse = self.unknown_socket && ruling.verb == Verb::Allow;
                self.verdict.ruling = Some(match worse.then(|| raw_ruling(question)).flatten() {
                    // It may be a raw socket, of which the rules say this.
                    Some(worse) if worse.verb != Verb::Allow => worse,
                    _ => ruling,
                });
                self.state = State::Done;
            }
        }
    }
}

/// Does the call pass without a question if the socket is a raw one that takes
/// the bytes for an IPv4 address?
#[inline]
fn is_settled_for_raw(question: &Question<'_>) -> bool {
    question.raw.is_none()
        || matches!(raw_ruling(question), Some(r) if r.verb == Verb::Allow && r.note.is_none())
}

/// What the rules say of a raw IPv4 socket that is asked for these bytes;
/// `None` where that needs more.
#[inline(never)]
fn raw_ruling(question: &Question<'_>) -> Option<Ruling> {
    let raw = question.raw?;
    let (view, op) = (question.caller.view, question.op);
    if !view.names_raw(op) {
        return Some(view.default_of(op, question.implicit));
    }
    let q = Query {
        addr: Some(raw),
        kinds: KindSet::INET | KindSet::RAW,
        // Its protocol.
        unknown_socket: true,
        ..question.query()
    };
    let mut search = Search::new(Foreseen::default());
    match question.with(&q, |candidates| view.search(&q, candidates, &mut search)) {
        Found::Ruling(ruling) => Some(ruling),
        Found::Use { .. } => None,
    }
}

/// What the rules would say of `::` if the socket were for IPv6 only.
#[inline(never)]
fn outlook_of_v6only(question: &Question<'_>, q: &Query<'_>) -> Outlook {
    let q = Query { v6only: true, ..*q };
    question.with(&q, |candidates| {
        question.caller.view.outlook(&q, candidates)
    })
}
