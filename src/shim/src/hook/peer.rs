//! What `connect` rules say of a call that names a peer: connect, and each send
//! with an address.

use core::ffi::c_int;

use bindgate_core::addr::{RawAddr, af};
use bindgate_core::judge::redirect::{self as place, Placement, Refusal};
use bindgate_core::policy::{Op, Outlook, Query, Room, Verb};
use bindgate_core::record::{Call, Check, Record, Verdict, flag, stage};
use libc::{sockaddr, socklen_t};

use super::note::{answered, describe, enter};
use super::{query, uid};
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
    /// Does a Unix socket take the socket's place first?
    replaces: bool,
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
    if !run.view.has_rules(Op::Connect) {
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
    let mut q = Query {
        kinds: fds::get(fd).socket().kinds(),
        addr: to.as_ref(),
        ..query(run, Op::Connect)
    };
    let mut room = Room::default();
    let candidates = run.view.candidates(&q, &mut room);
    let mut socket = None;
    if to.is_none() || !matches!(run.view.outlook(&q, &candidates), Outlook::NoRule(_)) {
        let Ok(s) = fds::identify(filter::allowed(), fd) else {
            return;
        };
        if to.is_none() && !s.is_unread() {
            // Malformed: its family will say so.
            return;
        }
        let believed = redirect::virtual_type(filter::allowed(), run, fd, s.ty);
        q.kinds = believed.kinds();
        q.uid = uid(run, Op::Connect);
        socket = Some((s, believed));
    }
    let ruling = run.view.ruling(&q, &candidates, run);
    let decision = run.view.decision(&ruling, q.addr, q.kinds);
    let p = plan.insert(Peer {
        record: Record::new(call),
        judged: true,
        refused: None,
        moved: None,
    });
    let record = &mut p.record;
    record.stages = stage::HOOK | stage::ADDRESS;
    record.fd = fd;
    record.asked = raw;
    if let Some((s, believed)) = &socket {
        record.stages |= stage::IDENTIFY;
        record.cookie = s.cookie;
        record.identity = s.identity;
        describe(record, *believed);
    }
    enter(record, &decision, run.observe);
    let check = match call {
        Call::Connect => Check::SecuritySocketConnect,
        _ => Check::SecuritySocketSendmsg,
    };
    p.refused = super::note::refusal(record, &decision, check);
    p.judged =
        decision.rule.is_some() || decision.note.is_some() || record.verdict != Verdict::Allow;
    if decision.verb != Verb::Move || record.flags & flag::OBSERVED != 0 {
        return;
    }
    let Some((s, believed)) = socket else { return };
    let placement = place::connect(&decision, believed).and_then(|placement| {
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
            let is_unix = matches!(placement, Placement::Unix(_));
            p.moved = Some(Moving {
                socket: Socket { ty: believed, ..s },
                to: placement.addr().write(),
                replaces: is_unix && s.ty.domain != af::UNIX,
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
        emit::emit(run, &mut self.record);
        Some(e)
    }

    /// The address to call in place of the one that the program named.
    pub fn instead(&self) -> Option<&[u8]> {
        match &self.moved {
            Some(moving) if !moving.replaces => Some(moving.to.bytes()),
            _ => None,
        }
    }

    /// Connects a Unix socket and puts it in the socket's place, if that is
    /// what is to be done; the answer for the program.
    #[inline(never)]
    pub fn replace(&mut self, run: &Run) -> Option<Result<(), Errno>> {
        let moving = self.moved.as_ref().filter(|moving| moving.replaces)?;
        let (fd, asked) = (self.record.fd, self.record.asked);
        let peer = redirect::Peer {
            socket: moving.socket.ty,
            asked: &asked,
            to: &moving.to,
            rule: self.record.rule,
        };
        let (allowed, cookie) = (filter::allowed(), moving.socket.cookie);
        let answer = redirect::connect_unix(allowed, run, fd, cookie, peer, &mut self.record);
        self.record.errno = answer.err().map_or(0, |e| e.0);
        if answer.is_err() && self.record.check == Check::None {
            self.record.check = Check::Connect;
        }
        emit::emit(run, &mut self.record);
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
