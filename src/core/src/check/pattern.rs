//! Which sockets a line is about, asked the way rules are.

use alloc::vec::Vec;

use crate::addr::Addr;
use crate::policy::{
    Action, At, Diagnostic, ExecQuery, IpSet, Op, Paths, Policy, Program, Query, Resolver, Sockets,
    Term, Times, Uses, View, compile,
};
use crate::policy::{CidSet, Implicit};
use crate::socket::{KindSet, SocketType};

/// A socket at an address, or a file that is executed.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What the socket is.
    pub socket: SocketType,
    /// Where.
    pub addr: Option<&'a Addr>,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// Does the bind come from listen(2)?
    pub by_listen: bool,
    /// The executable, and the script that it runs.
    pub paths: Paths<'a>,
    /// Of an exec: the file.
    pub file: &'a [u8],
}

/// How a line is compared with a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// As `allow` does: all that the socket receives for lies in the line's addresses.
    Within,
    /// As `deny` does: the socket receives for one of them.
    Touching,
}

/// Sockets as a line names them.
#[derive(Clone, Debug)]
pub struct Pattern {
    words: Vec<u64>,
    op: Op,
}

struct Nobody;
impl Resolver for Nobody {
    fn uid(&self, _: &str) -> Option<u32> {
        None
    }
}
impl Times for Nobody {
    fn take(&self, _: u32, _: Uses) -> bool {
        true
    }
}

impl Pattern {
    /// The sockets of a line.
    ///
    /// # Errors
    /// As those of a rule about them.
    pub fn new(
        sockets: &Sockets,
        op: Op,
        way: Way,
        program: Option<Program>,
    ) -> Result<Pattern, Vec<Diagnostic>> {
        let action = match way {
            Way::Within => Action::Allow,
            Way::Touching => Action::Deny(crate::errno::EACCES),
        };
        let policy = Policy {
            rules: alloc::vec![sockets.rule(action, op, program, At::default())],
            ..Policy::default()
        };
        let (compiled, _) = compile(&policy, &Nobody)?;
        Ok(Pattern {
            words: compiled.words,
            op,
        })
    }

    /// Is it about this one?
    #[must_use]
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let Ok(view) = View::new(&self.words) else {
            return false;
        };
        if self.op == Op::Exec {
            let q = ExecQuery {
                file: subject.file,
                caller: subject.paths,
                uid: None,
            };
            return view.exec(&q, &Nobody).rule == Some(0);
        }
        let query = Query {
            op: self.op,
            kinds: subject.socket.kinds(),
            unknown_socket: subject.socket.ty == 0,
            addr: subject.addr,
            v6only: subject.v6only,
            implicit: match subject.by_listen {
                true => Implicit::Listen,
                false => Implicit::No,
            },
            program: subject.paths.program,
            script: subject.paths.script,
            ..Query::default()
        };
        view.decide(&query, &Nobody).rule == Some(0)
    }
}

/// The same ports at any address; nothing where that says no more.
#[must_use]
pub fn at_any_address(sockets: &Sockets) -> Option<Sockets> {
    let term = match &sockets.term {
        Term::Ip { addrs, ports } if addrs.iter().any(|a| *a != IpSet::Any) => Term::Ip {
            addrs: alloc::vec![IpSet::Any],
            ports: ports.clone(),
        },
        Term::Vsock { cids, ports } if cids.iter().any(|c| *c != CidSet::Any) => Term::Vsock {
            cids: alloc::vec![CidSet::Any],
            ports: ports.clone(),
        },
        _ => return None,
    };
    Some(Sockets {
        kinds: sockets.kinds,
        exactly: false,
        term,
    })
}

/// The same kinds anywhere.
#[must_use]
pub fn of_the_kinds(sockets: &Sockets) -> Sockets {
    Sockets {
        kinds: sockets.kinds,
        exactly: false,
        term: Term::Every,
    }
}

/// Sockets of these kinds carry connections: what waits for them waits for listen(2),
/// and not for bind(2).
#[must_use]
pub fn listens(socket: SocketType) -> bool {
    socket.is_stream() && socket.kinds() != KindSet::NONE
}
