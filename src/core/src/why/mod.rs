//! Why a bind or a connect fails: facts in, the cause and what mends it out.
//!
//! ```text
//!  Question (the call, its socket, its error) ─┐
//!                                              ├─► explain ─► Why { cause, text, details, mends, unseen }
//!  Facts (who has the port, the host, …) ──────┘
//! ```
//!
//! Whoever gathers the facts decides nothing: `bindgate why` looks at the machine, the
//! log process looks when a record comes, a log on another machine has what it has. A
//! cause rests on facts alone. What they do not tell is said to be unseen, with the
//! reason; a cause is never guessed.
//!
//! | file | what |
//! |---|---|
//! | `facts` | what there is to know |
//! | `in_use` | `EADDRINUSE` |
//! | `forbidden` | `EACCES` and `EPERM`, `EADDRNOTAVAIL` |
//! | `nobody` | `ECONNREFUSED` |
//! | `would` | which option on which side would have made the bind succeed: the model is asked |
//! | `words` | phrases that they share |

mod facts;
mod forbidden;
mod in_use;
mod nobody;
mod words;
mod would;

use alloc::string::String;
use alloc::vec::Vec;

pub use facts::{Elsewhere, Facts, Former, Lineage, Opener, Question, Ruling, Seen};
pub use words::{clock, kind_name};

use crate::errno::Errno;
use crate::model::{Fd, No, OwnedNet, Pick, Pointer};
use crate::policy::Op;

/// What kind of cause it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A rule of the policy refused.
    Rule,
    /// Somebody's socket has the address.
    Held,
    /// A process has it that did not bind it: it inherited the socket.
    Inherited,
    /// Somebody took a port that an automatic bind had found free.
    Taken,
    /// One end of a connection has it.
    Connection,
    /// A closed connection has it that is not over yet.
    Closing,
    /// A connection is over, and the kernel keeps its address for a minute.
    TimeWait,
    /// Whoever had it has left it since.
    Left,
    /// A Unix path at which something stands that no socket is bound to.
    File,
    /// No automatic port is free.
    NoPort,
    /// The port takes a privilege.
    Privilege,
    /// Something refused that cannot be seen from outside the kernel.
    Forbidden,
    /// The host has no such address.
    NotHere,
    /// The machine has no such context id.
    Cid,
    /// The server listens by the other address family.
    OtherFamily,
    /// It listens at another address.
    OtherAddress,
    /// It listens in another network namespace.
    OtherNetwork,
    /// It did not listen yet.
    NotYet,
    /// It listens no more.
    NotAnyMore,
    /// Nobody listens there.
    Nobody,
    /// The model of the kernel says which check refuses it.
    Check,
    /// The facts do not tell.
    Unknown,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 22] = [
        Cause::Rule,
        Cause::Held,
        Cause::Inherited,
        Cause::Taken,
        Cause::Connection,
        Cause::Closing,
        Cause::TimeWait,
        Cause::Left,
        Cause::File,
        Cause::NoPort,
        Cause::Privilege,
        Cause::Forbidden,
        Cause::NotHere,
        Cause::Cid,
        Cause::OtherFamily,
        Cause::OtherAddress,
        Cause::OtherNetwork,
        Cause::NotYet,
        Cause::NotAnyMore,
        Cause::Nobody,
        Cause::Check,
        Cause::Unknown,
    ];

    /// The word for it in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Rule => "rule",
            Cause::Held => "held",
            Cause::Inherited => "inherited",
            Cause::Taken => "taken",
            Cause::Connection => "connection",
            Cause::Closing => "closing",
            Cause::TimeWait => "time_wait",
            Cause::Left => "left",
            Cause::File => "file",
            Cause::NoPort => "no_port",
            Cause::Privilege => "privilege",
            Cause::Forbidden => "forbidden",
            Cause::NotHere => "not_here",
            Cause::Cid => "cid",
            Cause::OtherFamily => "other_family",
            Cause::OtherAddress => "other_address",
            Cause::OtherNetwork => "other_network",
            Cause::NotYet => "not_yet",
            Cause::NotAnyMore => "not_any_more",
            Cause::Nobody => "nobody",
            Cause::Check => "check",
            Cause::Unknown => "unknown",
        }
    }
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Why {
    /// What kind of cause.
    pub cause: Cause,
    /// The cause in one sentence, without a full stop.
    pub text: String,
    /// What a log line does not say by naming the holder: `text`, or the part of it
    /// that is about more than who holds the address. It may be empty.
    pub clause: String,
    /// What the sentence rests on, and what else is known: a sentence each.
    pub details: Vec<String>,
    /// The smallest changes that would mend it, the smallest first.
    pub mends: Vec<String>,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
}

impl Why {
    /// A cause whose log line says all of it.
    fn of(cause: Cause, text: String) -> Why {
        Why {
            cause,
            clause: text.clone(),
            text,
            details: Vec::new(),
            mends: Vec::new(),
            unseen: Vec::new(),
        }
    }
}

/// Why the call failed.
#[must_use]
pub fn explain(q: &Question, f: &Facts) -> Why {
    let mut why = match (&f.rule, q.op, q.errno) {
        (Some(rule), ..) => by_rule(rule),
        (None, Op::Bind | Op::Listen, Errno::EADDRINUSE) => in_use::explain(q, f),
        (None, Op::Bind, Errno::EACCES | Errno::EPERM) => forbidden::explain(q, f),
        (None, Op::Bind, Errno::EADDRNOTAVAIL) => forbidden::not_here(q, f),
        (None, Op::Connect, Errno::ECONNREFUSED) => nobody::explain(q, f),
        _ => by_check(q, f),
    };
    for unseen in &f.unseen {
        if !why.unseen.contains(unseen) {
            why.unseen.push(unseen.clone());
        }
    }
    why
}

fn by_rule(rule: &Ruling) -> Why {
    let text = alloc::format!("{} refused it: {}", rule.place, rule.text);
    let mut why = Why::of(Cause::Rule, text);
    // The log line names the rule.
    why.clause.clear();
    why
}

/// The model's word, where it agrees with the kernel.
fn by_check(q: &Question, f: &Facts) -> Why {
    let said = f.host.as_deref().and_then(|host| {
        let mut owned = OwnedNet::new(*host, 2);
        let mut net = owned.net();
        let cred = would::cred(q, f);
        let (at, ask) = (q.addr.write(), would::ask(q));
        let id = net.open(&ask(at.bytes()), &cred)?;
        let to = Pointer::to(at.bytes());
        let answer = match q.op {
            Op::Connect => {
                let answer = net.connect(id, at.bytes(), &cred, Pick::Random(0));
                (answer.result, answer.trail)
            }
            _ => {
                let answer = net.bind(Fd::Socket(id), to, &cred, Pick::Random(0));
                (answer.result.map(|_| ()), answer.trail)
            }
        };
        match answer {
            (Err(No::Errno(e)), trail) if e == q.errno => trail.last(),
            _ => None,
        }
    });
    match said {
        Some(step) => {
            let text = alloc::format!("{} ({})", step.what(), step.function());
            let mut why = Why::of(Cause::Check, text);
            why.clause.clear();
            why
        }
        None => {
            let text = alloc::format!("{} has no cause that shows from outside", q.errno.name());
            let mut why = Why::of(Cause::Unknown, text);
            why.clause.clear();
            why
        }
    }
}
