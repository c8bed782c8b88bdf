//! The machine of an operation that names one address, or none.

use super::rules::{Question, Rules, Verdict, enter};
use super::{Answer, Caller, Socket, Step};
use crate::addr::{Addr, RawAddr, af};
use crate::errno::EINVAL;
use crate::policy::{Decision, Implicit, Op, Verb};
use crate::record::{Check, Record, flag};
use crate::socket::SocketType;

/// Decides one call: made by [`super::bind`], [`super::connect`] or
/// [`super::socket`].
pub struct Call<'a> {
    pub(super) ask: Ask<'a>,
    pub(super) rules: Rules,
}

/// What a call asks.
pub(super) struct Ask<'a> {
    pub caller: &'a Caller<'a>,
    pub op: Op,
    pub addr: Option<&'a Addr>,
    pub raw: Option<&'a Addr>,
    pub implicit: Implicit,
}

impl Ask<'_> {
    fn question(&self) -> Question<'_> {
        Question {
            caller: self.caller,
            op: self.op,
            addr: self.addr,
            raw: self.raw,
            implicit: self.implicit,
        }
    }
}

/// What is to be done with a call.
#[derive(Clone, Copy, Debug)]
// There is no heap to put the larger one on.
#[allow(clippy::large_enum_variant)]
pub enum Action {
    /// The kernel is asked as the program asked.
    Forward,
    /// The program gets this errno, and the kernel is not asked.
    Refuse(u16),
    /// The call is for another address, or the socket is hidden.
    Redirect(Decision),
    /// The kernel is asked as the program asked, and not about a carrier: a
    /// socket of the family that the program believes in takes its place first.
    /// Where that cannot be had, the program gets the error of its socket(2).
    Restore,
    /// The run's own vsock host answers: [`super::vsock`].
    OnHost,
}

impl<'a> Call<'a> {
    pub(super) fn new(ask: Ask<'a>, believed: Option<SocketType>) -> Call<'a> {
        Call {
            ask,
            rules: Rules::believing(believed),
        }
    }

    pub(super) fn knowing(ask: Ask<'a>, socket: Socket) -> Call<'a> {
        let rules = Rules::knowing(socket, &ask.question());
        Call { ask, rules }
    }

    /// Goes on until something has to be known, or to the end.
    #[inline]
    pub fn step(&mut self) -> Step {
        self.rules.step(&self.ask.question())
    }

    /// Takes the answer to what [`Call::step`] asked for last.
    #[inline]
    pub fn feed(&mut self, answer: Answer<'_>) {
        self.rules.feed(&self.ask.question(), answer);
    }

    /// What was decided; complete after [`Step::Done`].
    #[must_use]
    #[inline]
    pub fn verdict(&self) -> &Verdict {
        self.rules.verdict()
    }
}

impl Verdict {
    /// Writes into a record what was decided about a call of `caller` for
    /// `addr`, and says what is to be done. `addr` is what the call was judged
    /// by: see [`Verdict::by_raw`].
    pub fn enter(
        &self,
        caller: &Caller<'_>,
        op: Op,
        addr: Option<&Addr>,
        record: &mut Record,
    ) -> Action {
        self.enter_by(caller, check(op), addr, record)
    }

    /// [`Verdict::enter`], where another check of the kernel's stands for the
    /// rules: that of a send which names a peer.
    pub fn enter_by(
        &self,
        caller: &Caller<'_>,
        check: Check,
        addr: Option<&Addr>,
        record: &mut Record,
    ) -> Action {
        record.stages |= self.stages;
        if let Some(uid) = self.uid {
            record.uid = uid;
        }
        if let Some(socket) = &self.socket {
            record.cookie = socket.cookie;
            record.identity = socket.identity;
            record.domain = socket.ty.domain;
            record.ty = socket.ty.ty;
            record.protocol = socket.ty.protocol;
        }
        // A send with an address is refused by either socket.
        let is_carrier = check != Check::SecuritySocketSendmsg
            && self.socket.is_some_and(|socket| socket.is_carrier());
        let Some(decision) = self.decision(caller, addr) else {
            return match is_carrier {
                true => malformed(check, record),
                false => Action::Forward,
            };
        };
        if let Some(errno) = enter(caller, &decision, check, record) {
            return Action::Refuse(errno);
        }
        match decision.verb {
            Verb::Move | Verb::Hide if record.flags & flag::OBSERVED == 0 => {
                Action::Redirect(decision)
            }
            _ if is_carrier && caller.is_vsock_host() => Action::OnHost,
            _ if is_carrier => Action::Restore,
            _ => Action::Forward,
        }
    }
}

/// A carrier is asked for what is no address of the family that its program
/// believes in. The Unix socket might take it for one of its own.
fn malformed(check: Check, record: &mut Record) -> Action {
    record.check = match check {
        Check::SecuritySocketConnect => Check::Connect,
        _ => Check::VsockBind,
    };
    record.errno = EINVAL;
    Action::Refuse(EINVAL)
}

/// The place of the kernel's LSM where the rules stand for an operation.
fn check(op: Op) -> Check {
    match op {
        Op::Socket => Check::SecuritySocketCreate,
        Op::Bind => Check::SecuritySocketBind,
        Op::Listen => Check::SecuritySocketListen,
        Op::Connect => Check::SecuritySocketConnect,
        Op::Exec => Check::SecurityBprmCheck,
    }
}

/// What a raw IPv4 socket makes of a socket address of another family:
/// `raw_bind` takes the bytes for a `sockaddr_in` without a look at the family.
/// `None` where the family is IPv4, or where there are too few bytes.
#[must_use]
pub fn as_raw_ipv4(raw: &RawAddr) -> Option<Addr> {
    let bytes = raw.bytes();
    let (first, _) = bytes.split_first_chunk()?;
    raw_ipv4_of(*first, bytes.len())
}

/// [`as_raw_ipv4`] of an address of `len` bytes, by the first eight of them.
#[must_use]
#[inline]
pub fn raw_ipv4_of(first: [u8; 8], len: usize) -> Option<Addr> {
    let [a, b, c, d, e, f, g, h] = first;
    if len < 16 || u16::from_ne_bytes([a, b]) == af::INET {
        return None;
    }
    Some(Addr::Inet {
        ip: [e, f, g, h],
        port: u16::from_be_bytes([c, d]),
    })
}
