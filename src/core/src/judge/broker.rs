//! Binds to ports that take a privilege, done for programs without it by the run's
//! port broker (`run --user`).
//!
//! A program asks once the kernel has refused it ([`may_ask`]). Its word is worth
//! nothing: the broker judges the call anew, by the descriptor and the address that
//! it has got itself ([`grant`]).

use crate::addr::{Addr, RawAddr, af};
use crate::errno::EACCES;
use crate::policy::{Op, Query, Times, Uses, Verb, View};
use crate::socket::SocketType;

/// What a program gets that the broker does not bind for, or that gets no answer:
/// what the kernel has said before.
pub const REFUSED: u16 = EACCES;

/// Bytes of the word that opens a run.
const SECRET: usize = 32;

/// Longest message to the broker: the run's secret, and the bytes of an address.
pub const MESSAGE: usize = SECRET + 28;

/// Is a bind that failed with this errno one for the broker?
#[must_use]
pub fn may_ask(errno: u16, addr: &Addr) -> bool {
    errno == EACCES
        && matches!(addr, Addr::Inet { port, .. } | Addr::Inet6 { port, .. } if *port != 0)
}

/// The message to the broker, which comes with the socket; nothing for an address
/// that is none of IP.
#[must_use]
pub fn message(secret: &[u8; SECRET], addr: &Addr) -> ([u8; MESSAGE], usize) {
    let mut message = [0; MESSAGE];
    let addr = addr.write();
    let mut len = 0;
    for (to, from) in message.iter_mut().zip(secret.iter().chain(addr.bytes())) {
        *to = *from;
        len += 1;
    }
    (message, len)
}

/// The address of a message that knows the secret.
#[must_use]
pub fn asked(message: &[u8], secret: &[u8; SECRET]) -> Option<RawAddr> {
    let (word, addr) = message.split_first_chunk()?;
    (word == secret).then(|| RawAddr::new(addr)).flatten()
}

/// What the broker knows of a socket that it was handed, by the kernel's word.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    /// Family, type and protocol.
    pub socket: SocketType,
    /// `IPV6_V6ONLY`
    pub v6only: bool,
    /// `SO_NETNS_COOKIE`
    pub netns: u64,
    /// The user who asks, `SO_PEERCRED`.
    pub uid: u32,
}

/// The run, as far as its broker knows it.
#[derive(Clone, Copy, Debug)]
pub struct Granting<'p> {
    /// The policy.
    pub view: &'p View<'p>,
    /// Which rules name a privileged port, by their numbers.
    pub names_port: &'p [bool],
    /// The port below which binds take a privilege.
    pub unprivileged_start: u16,
    /// The user that the run's program is.
    pub uid: u32,
    /// The network namespace that the ports are in.
    pub netns: u64,
}

/// No rule with `times` has a use left: who has taken one was the program.
struct NoUses;

impl Times for NoUses {
    fn take(&self, _: u32, _: Uses) -> bool {
        false
    }
}

/// Is the socket to be bound to this address? The rule that says so, which is an
/// `allow` for a port that it names.
///
/// # Errors
/// What the program is told: what the rules refuse with, or `EACCES`.
pub fn grant(run: &Granting<'_>, handed: &Handed, addr: &Addr) -> Result<u32, u16> {
    let port = match addr {
        Addr::Inet { port, .. } | Addr::Inet6 { port, .. } => *port,
        _ => return Err(REFUSED),
    };
    let is_asker = handed.uid == run.uid && handed.netns == run.netns;
    let is_ip = matches!(handed.socket.domain, af::INET | af::INET6);
    let is_privileged = (1..run.unprivileged_start).contains(&port);
    if !is_asker || !is_ip || !is_privileged || handed.socket.domain != addr.family() {
        return Err(REFUSED);
    }
    let query = Query {
        op: Op::Bind,
        kinds: handed.socket.kinds(),
        addr: Some(addr),
        v6only: handed.v6only,
        unprivileged_start: run.unprivileged_start,
        // Nobody here may look who that is: a rule that says `for` is in doubt.
        program: b"",
        uid: Some(handed.uid),
        ..Query::default()
    };
    let decision = run.view.decide(&query, &NoUses);
    match (decision.verb, decision.rule) {
        (Verb::Allow, Some(rule))
            if run.names_port.get(rule as usize) == Some(&true) && decision.doubt.is_none() =>
        {
            Ok(rule)
        }
        (Verb::Deny, _) => Err(decision.errno),
        _ => Err(REFUSED),
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::policy::{Resolver, Source, compile, parse};

    struct Nobody;
    impl Resolver for Nobody {
        fn uid(&self, _: &str) -> Option<u32> {
            None
        }
    }

    const TCP: SocketType = SocketType {
        domain: af::INET,
        ty: 1,
        protocol: 6,
    };

    fn said(rules: &str, handed: Handed, addr: Addr) -> Result<u32, u16> {
        let source = Source {
            name: "p",
            text: rules,
        };
        let policy = parse(&[source]).unwrap();
        let (compiled, _) = compile(&policy, &Nobody).unwrap();
        let view = View::new(&compiled.words).unwrap();
        let names_port: alloc::vec::Vec<bool> =
            policy.rules.iter().map(|rule| rule.names_ports()).collect();
        let run = Granting {
            view: &view,
            names_port: &names_port,
            unprivileged_start: 1024,
            uid: 33,
            netns: 1,
        };
        grant(&run, &handed, &addr)
    }

    #[test]
    fn what_a_rule_names_is_granted_and_nothing_else() {
        let handed = Handed {
            socket: TCP,
            v6only: false,
            netns: 1,
            uid: 33,
        };
        let at = |port| Addr::Inet { ip: [0; 4], port };
        let eighty = "allow bind tcp *:80";
        assert_eq!(said(eighty, handed, at(80)), Ok(0));
        for (rules, port, errno) in [
            ("", 80, EACCES),
            (eighty, 443, EACCES),
            (eighty, 8080, EACCES),
            ("allow bind tcp *", 80, EACCES),
            ("allow bind tcp *:*", 80, EACCES),
            ("allow bind tcp 127.0.0.1:80", 80, EACCES),
            ("allow bind udp *:80", 80, EACCES),
            ("allow bind tcp *:80 for nginx", 80, EACCES),
            ("allow bind tcp *:80 user 34", 80, EACCES),
            ("allow bind tcp *:80 times 1", 80, EACCES),
            ("deny bind tcp *:80 with EPERM\nallow bind tcp *:80", 80, 1),
            (
                "move bind tcp *:80 to *:81\nallow bind tcp *:80",
                80,
                EACCES,
            ),
            ("default allow for bind", 80, EACCES),
        ] {
            assert_eq!(said(rules, handed, at(port)), Err(errno), "{rules}");
        }
        assert_eq!(said("allow bind tcp *:reserved", handed, at(1)), Ok(0));
        assert_eq!(said("allow bind any *:{53,80}", handed, at(53)), Ok(0));
        for other in [
            Handed { uid: 34, ..handed },
            Handed { netns: 2, ..handed },
            Handed {
                socket: SocketType { domain: 1, ..TCP },
                ..handed
            },
            Handed {
                socket: SocketType {
                    domain: af::INET6,
                    ..TCP
                },
                ..handed
            },
        ] {
            assert_eq!(said(eighty, other, at(80)), Err(EACCES));
        }
    }

    #[test]
    fn a_message_without_the_secret_asks_for_nothing() {
        let (secret, at) = (
            [b'a'; SECRET],
            Addr::Inet {
                ip: [0; 4],
                port: 80,
            },
        );
        let (bytes, len) = message(&secret, &at);
        let read = |secret| asked(bytes.get(..len).unwrap(), secret).and_then(|raw| raw.read());
        assert_eq!(read(&secret), Some(at));
        assert_eq!(read(&[b'b'; SECRET]), None);
        assert_eq!(asked(b"", &secret), None);
    }
}
