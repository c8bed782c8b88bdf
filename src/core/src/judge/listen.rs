//! listen(2): the bind that comes with it on a socket without a port, and the
//! `listen` rules.

use super::rules::{Question, Rules, Verdict};
use super::{Answer, Caller, Known, Need, Socket, Step, fast};
use crate::addr::{Addr, af};
use crate::policy::{Implicit, Op};
use crate::socket::{SocketType, ty};

/// Decides one listen.
pub struct Listen<'a> {
    caller: &'a Caller<'a>,
    state: State,
    /// What is known of the socket, in its program's eyes.
    socket: Option<Socket>,
    is_unknown: bool,
    believed_bound: bool,
    /// The address of the rules at work.
    addr: Option<Addr>,
    rules: Rules,
    /// The bind that the kernel does on the way, and its address.
    implicit: Option<(Verdict, Addr)>,
    has_verdict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The socket is to be known before its bind is thought of.
    Socket,
    /// Whether it has a port.
    Bound,
    /// The rules are asked about the bind.
    Implicit,
    /// The bind is settled; are there `listen` rules?
    Rules,
    /// The socket is to be known for them.
    Listener,
    /// Its name, and what its program takes it for.
    Name,
    /// They are asked.
    Listen,
    Done,
}

impl<'a> Listen<'a> {
    /// A listen on a socket believed to be of that type, and to have a port or
    /// name if `believed_bound` says so. Beliefs serve only where no rule can
    /// refuse the bind.
    #[must_use]
    pub fn new(
        caller: &'a Caller<'a>,
        believed: Option<SocketType>,
        believed_bound: bool,
    ) -> Listen<'a> {
        let mut listen = Listen {
            caller,
            state: State::Socket,
            socket: None,
            is_unknown: false,
            believed_bound,
            addr: None,
            rules: Rules::believing(None),
            implicit: None,
            has_verdict: false,
        };
        if let Some(ty) = believed
            && !fast::may_concern_auto(caller.view)
        {
            listen.socket_for_bind(Socket {
                known: Known::Nearly,
                ..Socket::described(ty)
            });
            if listen.state == State::Bound && believed_bound {
                listen.state = State::Rules;
            }
        }
        listen
    }

    /// The bind that the kernel does on the way, where the socket has no port:
    /// what the rules say of it, and the address that the kernel is asked for.
    #[must_use]
    pub fn implicit(&self) -> Option<(&Verdict, &Addr)> {
        self.implicit
            .as_ref()
            .map(|(verdict, addr)| (verdict, addr))
    }

    /// What the `listen` rules say; `None` where there are none, or where the
    /// kernel is left to say what is wrong. The address is the socket's name.
    #[must_use]
    pub fn verdict(&self) -> Option<(&Verdict, Option<&Addr>)> {
        self.has_verdict
            .then(|| (self.rules.verdict(), self.addr.as_ref()))
    }

    /// Goes on until something has to be known, or to the end.
    pub fn step(&mut self) -> Step {
        loop {
            match self.state {
                State::Socket | State::Listener => return Step::Need(Need::Socket),
                State::Bound => return Step::Need(Need::Bound),
                State::Name => return Step::Need(Need::Name),
                State::Implicit => {
                    match self
                        .rules
                        .step(&question(self.caller, self.state, self.addr.as_ref()))
                    {
                        Step::Done => {
                            if let Some(addr) = self.addr {
                                self.implicit = Some((*self.rules.verdict(), addr));
                            }
                            self.state = State::Rules;
                        }
                        need => return need,
                    }
                }
                State::Rules => {
                    self.state = match self.caller.view.has_rules(Op::Listen) {
                        false => State::Done,
                        true if self.is_unknown => State::Name,
                        true if self.socket.is_some_and(|s| s.is_exact()) => State::Name,
                        true => State::Listener,
                    };
                }
                State::Listen => {
                    match self
                        .rules
                        .step(&question(self.caller, self.state, self.addr.as_ref()))
                    {
                        Step::Done => {
                            self.has_verdict = self.rules.verdict().ruling.is_some();
                            self.state = State::Done;
                        }
                        need => return need,
                    }
                }
                State::Done => return Step::Done,
            }
        }
    }

    /// Takes the answer to what [`Listen::step`] asked for last.
    pub fn feed(&mut self, answer: Answer<'_>) {
        match (self.state, answer) {
            (State::Implicit | State::Listen, answer) => {
                let question = question(self.caller, self.state, self.addr.as_ref());
                self.rules.feed(&question, answer);
            }
            (_, Answer::NoSocket) => self.state = State::Done,
            (State::Socket, Answer::Socket(socket)) => self.socket_for_bind(socket),
            (State::Socket, Answer::UnknownSocket) => {
                self.is_unknown = true;
                self.state = State::Bound;
            }
            (State::Listener, Answer::Socket(socket)) => {
                self.socket = Some(socket);
                self.state = State::Name;
            }
            (State::Listener, Answer::UnknownSocket) => {
                self.is_unknown = true;
                self.state = State::Name;
            }
            (State::Bound, Answer::Bound(bound)) => {
                self.state = match bound.unwrap_or(self.believed_bound) {
                    true => State::Rules,
                    false => self.bind_implicitly(),
                };
            }
            (State::Name, Answer::Name(Some((ty, name)))) => self.name(ty, name),
            (State::Name, Answer::Name(None)) => {
                self.state = State::Listen;
                self.rules = Rules::unnamed(&question(self.caller, self.state, None));
            }
            _ => {}
        }
    }

    /// Only a stream socket of an IP family gets a port from listen(2).
    fn socket_for_bind(&mut self, socket: Socket) {
        self.socket = Some(socket);
        let gets_port =
            matches!(socket.ty.domain, af::INET | af::INET6) && socket.ty.ty == ty::STREAM;
        self.state = match gets_port {
            true => State::Bound,
            false => State::Rules,
        };
    }

    fn bind_implicitly(&mut self) -> State {
        // An unknown socket may be for IPv6 too; what is refused IPv4 counts.
        let domain = self.socket.map_or(af::INET, |s| s.ty.domain);
        self.addr = Addr::any(domain);
        self.rules = match self.socket {
            Some(socket) if socket.is_exact() => Rules::knowing(
                socket,
                &question(self.caller, State::Implicit, self.addr.as_ref()),
            ),
            socket => Rules::believing(socket.map(|s| s.ty)),
        };
        State::Implicit
    }

    /// What its program takes the socket for, and where it believes it to be.
    fn name(&mut self, ty: SocketType, name: Option<&Addr>) {
        let socket = Socket {
            ty,
            known: Known::Exactly,
            ..self.socket.unwrap_or(Socket::described(ty))
        };
        self.addr = match socket.is_unread() {
            true => None,
            false => name.copied().or_else(|| Addr::any(ty.domain)),
        };
        self.state = State::Listen;
        let question = question(self.caller, State::Listen, self.addr.as_ref());
        self.rules = Rules::knowing(socket, &question);
    }
}

fn question<'q>(caller: &'q Caller<'q>, state: State, addr: Option<&'q Addr>) -> Question<'q> {
    let (op, implicit) = match state {
        State::Implicit => (Op::Bind, Implicit::Listen),
        _ => (Op::Listen, Implicit::No),
    };
    Question {
        caller,
        op,
        addr,
        raw: None,
        implicit,
    }
}
