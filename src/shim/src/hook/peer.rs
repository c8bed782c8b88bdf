//! What `connect` rules say of a call that names a peer: connect, and each send
//! with an address.

use core::ffi::c_int;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::judge::follow::Follow;
use bindgate_core::judge::redirect::{self as place, Placement, Refusal};
use bindgate_core::judge::{self, Action, Answer, Need, enter};
use bindgate_core::policy::{Decision, Verb};
use bindgate_core::record::{Call, Check, Record, stage};
use libc::{sockaddr, socklen_t};

use super::bind::name_carrier;
use super::driver::{self, Driver};
use super::note::{answered, describe};
use crate::out::emit;
use crate::own::fds::{self, Socket};
use crate::own::filter;
use crate::own::memory::{self, Made};
use crate::redirect;
use crate::session::Run;
use crate::sys::Errno;
use crate::sys::allowed::needs;

/// A call that names a peer, on its way.
pub struct Peer {
    /// What is known so far.
    pub record: Record,
    /// Did a `connect` rule have a say, so that there is something to record?
    judged: bool,
    refused: Option<Errno>,
    /// Where it goes instead.
    moved: Option<Moving>,
}

struct Moving {
    socket: Socket,
    to: RawAddr,
    way: Way,
}

/// How a call goes elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it is, with another address.
    Forward,
    /// A Unix socket takes the socket's place.
    Replace,
    /// The socket is one from its birth, in the place of a vsock one.
    InPlace,
    /// The run's vsock host says where.
    OnHost,
}

/// Puts what is to be done into `plan`, if `connect` rules have a say: it is
/// large, and a handler's stack small.
#[inline(never)]
pub fn decide(
    run: &Run,
    call: Call,
    fd: c_int,
    (addr, len): (*const sockaddr, socklen_t),
    plan: &mut Option<Peer>,
) {
    if !run.judges_connects {
        return;
    }
    let made = match call {
        Call::Connect => Made::Connect(fd),
        _ => Made::Send,
    };
    let Ok(raw) = memory::copy_addr(filter::allowed(), addr, len, made) else {
        return;
    };
    // AF_UNSPEC dissolves an association; it goes nowhere.
    if call == Call::Connect && raw.family() == Some(af::UNSPEC) {
        return;
    }
    let to = raw.read();
    let caller = driver::caller(run);
    let believed = Some(fds::get(fd).socket());
    let mut judge = judge::connect::connect(&caller, to.as_ref(), believed);
    Driver::as_believed(run, fd).drive(&mut judge);
    let verdict = judge.verdict();
    let has_say = verdict.ruling.is_some_and(|ruling| {
        ruling.rule.is_some() || ruling.note.is_some() || ruling.verb != Verb::Allow
    });
    let p = begin(plan, call, fd, &raw, has_say);
    let record = &mut p.record;
    let check = match call {
        Call::Connect => Check::SecuritySocketConnect,
        _ => Check::SecuritySocketSendmsg,
    };
    let decision = match verdict.enter_by(&caller, check, to.as_ref(), record) {
        Action::Forward if run.is_ruled => return on_described(run, fd, p),
        Action::Forward => {
            let note = verdict.ruling.and_then(|ruling| ruling.note);
            let socket = verdict.socket;
            return follow(run, call, to.as_ref(), socket, note, p);
        }
        Action::Refuse(errno) => {
            p.refused = Some(Errno(errno));
            return;
        }
        Action::Redirect(decision) => decision,
        Action::OnHost => {
            p.moved = verdict.socket.map(|socket| Moving {
                socket,
                to: raw,
                way: Way::OnHost,
            });
            return;
        }
        Action::Restore => {
            p.refused = verdict.socket.and_then(|s| restore(run, s, record).err());
            return;
        }
    };
    if let Some(s) = verdict.socket {
        elsewhere(run, call, s, &decision, p);
    }
}

/// The call may be for a server of the run that a rule moved.
// Apart from what judged it: a handler's stack is small.
#[inline(never)]
fn follow(
    run: &Run,
    call: Call,
    to: Option<&Addr>,
    socket: Option<Socket>,
    note: Option<u32>,
    p: &mut Peer,
) {
    let caller = driver::caller(run);
    let Some(follow) = Follow::new(&caller, to) else {
        return;
    };
    let fd = p.record.fd;
    let socket = match socket {
        Some(socket) => socket,
        None => match Driver::as_believed(run, fd).answer(Need::Socket) {
            Answer::Socket(socket) => socket,
            _ => return,
        },
    };
    let allowed = filter::allowed();
    let Some(decision) = redirect::followed(allowed, run, fd, &socket, &follow, note) else {
        return;
    };
    let check = Check::SecuritySocketConnect;
    enter(&caller, &decision, check, &mut p.record);
    describe(&mut p.record, socket.ty);
    (p.record.cookie, p.record.identity) = (socket.cookie, socket.identity);
    p.judged = true;
    elsewhere(run, call, socket, &decision, p);
}

/// The host that the policy describes is asked where the peer is.
#[inline(never)]
fn on_described(run: &Run, fd: c_int, p: &mut Peer) {
    let allowed = filter::allowed();
    let Some(socket) = redirect::host::socket(allowed, fd) else {
        return;
    };
    match redirect::host::connect(allowed, run, &socket, &mut p.record) {
        Ok(None) => {}
        Ok(Some(to)) => {
            p.record.verdict = bindgate_core::record::Verdict::Move;
            p.judged = true;
            p.moved = Some(Moving {
                socket,
                to: to.write(),
                way: Way::Forward,
            });
        }
        Err(e) => {
            p.judged = true;
            p.refused = Some(e);
        }
    }
}

/// The call is to go elsewhere.
// Apart from what judged it: a handler's stack is small.
#[inline(never)]
fn elsewhere(run: &Run, call: Call, mut s: Socket, decision: &Decision, p: &mut Peer) {
    let record = &mut p.record;
    let fd = record.fd;
    name_carrier(&mut s, record);
    let believed = s.ty;
    let is_unix_already = fds::get(fd).socket().domain == af::UNIX;
    let placement = place::connect(decision, believed).and_then(|placement| {
        // A datagram goes as it is; a connection has a name that lasts.
        if !may_redirect(&placement) {
            Err(Refusal::Filter)
        } else if call == Call::Connect && !redirect::has_room(filter::allowed(), run, s.cookie) {
            Err(Refusal::TableFull)
        } else {
            Ok(placement)
        }
    });
    match placement {
        Ok(placement) => {
            let way = match placement {
                Placement::Unix(_) if !is_unix_already => Way::Replace,
                Placement::Unix(_) if believed.domain == af::VSOCK && call == Call::Connect => {
                    Way::InPlace
                }
                _ if s.is_carrier() && call == Call::Connect && run.vsock.is_some() => Way::OnHost,
                _ => Way::Forward,
            };
            let is_unix = matches!(placement, Placement::Unix(_));
            if s.is_carrier() && call == Call::Connect && !is_unix && way != Way::OnHost {
                match restore(run, s, record) {
                    Ok(own) => s = own,
                    Err(e) => {
                        p.refused = Some(e);
                        return;
                    }
                }
            }
            p.moved = Some(Moving {
                socket: s,
                to: placement.addr().write(),
                way,
            });
        }
        Err(why) => {
            record.check = Check::MoveRefused;
            record.reason = why.reason();
            record.errno = why.errno();
            p.judged = true;
            p.refused = Some(Errno(why.errno()));
        }
    }
}

/// A call of which nothing is known yet but whom it names.
// Not inlined: what it is copied from is not on the stack of what follows.
#[inline(never)]
fn begin<'p>(
    plan: &'p mut Option<Peer>,
    call: Call,
    fd: c_int,
    asked: &RawAddr,
    judged: bool,
) -> &'p mut Peer {
    let p = plan.insert(Peer {
        record: Record::new(call),
        judged,
        refused: None,
        moved: None,
    });
    p.record.stages = stage::HOOK | stage::ADDRESS;
    p.record.fd = fd;
    p.record.asked = *asked;
    p
}

/// Puts the kernel's own socket in the place of a carrier.
fn restore(run: &Run, mut carrier: Socket, record: &mut Record) -> Result<Socket, Errno> {
    let fd = record.fd;
    redirect::restore(filter::allowed(), run, fd, &mut carrier, record)?;
    Ok(carrier)
}

/// May everything be done that it takes to go there?
fn may_redirect(placement: &Placement) -> bool {
    filter::allowed().may_all(match placement {
        Placement::Unix(_) => needs::REDIRECT_TO_UNIX,
        _ => needs::REDIRECT,
    })
}

impl Peer {
    /// Is the call refused? Then that is recorded.
    pub fn refuse(&mut self, run: &Run) -> Option<Errno> {
        let e = self.refused?;
        self.record.errno = e.0;
        if self.judged {
            emit::emit(run, &mut self.record);
        }
        Some(e)
    }

    /// The address to call in place of the one that the program named.
    pub fn instead(&self) -> Option<&[u8]> {
        match &self.moved {
            Some(moving) if moving.way == Way::Forward => Some(moving.to.bytes()),
            _ => None,
        }
    }

    /// Connects a Unix socket, which takes the socket's place or has it already,
    /// if that is what is to be done; the answer for the program.
    #[inline(never)]
    pub fn replace(&mut self, run: &Run) -> Option<Result<(), Errno>> {
        let moving = self.moved.as_ref().filter(|m| m.way != Way::Forward)?;
        let (fd, asked) = (self.record.fd, self.record.asked);
        let peer = redirect::Peer {
            socket: moving.socket.ty,
            asked: &asked,
            to: &moving.to,
            rule: self.record.rule,
        };
        let (allowed, cookie) = (filter::allowed(), moving.socket.cookie);
        let record = &mut self.record;
        let answer = match moving.way {
            Way::OnHost => redirect::vsock::connect(allowed, run, fd, peer, record),
            Way::InPlace => redirect::connect_carrier(allowed, run, fd, cookie, peer, record),
            _ => redirect::connect_unix(allowed, run, fd, cookie, peer, record),
        };
        self.record.errno = answer.err().map_or(0, |e| e.0);
        if answer.is_err() && self.record.check == Check::None {
            self.record.check = Check::Connect;
        }
        if self.judged || moving.way != Way::OnHost {
            emit::emit(run, &mut self.record);
        }
        Some(answer)
    }

    /// The call has come back.
    #[inline(never)]
    pub fn note(&mut self, run: &Run, errno: u16) {
        answered(&mut self.record, errno);
        if let Some(moving) = &self.moved {
            self.record.used = moving.to;
            let under_way = [0, libc::EINPROGRESS, libc::EINTR].contains(&c_int::from(errno));
            if self.record.call == Call::Connect && under_way {
                let peer = redirect::Peer {
                    socket: moving.socket.ty,
                    asked: &self.record.asked,
                    to: &moving.to,
                    rule: self.record.rule,
                };
                let (fd, cookie) = (self.record.fd, moving.socket.cookie);
                redirect::connected(filter::allowed(), run, fd, cookie, peer);
            }
        }
        if self.judged {
            emit::emit(run, &mut self.record);
        }
    }

    /// Has another peer than the one that the program named?
    pub fn is_moved(&self) -> bool {
        self.moved.is_some()
    }
}
