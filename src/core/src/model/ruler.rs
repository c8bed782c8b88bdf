//! A described host that rules a run: each call is asked here before it is made.
//!
//! The sockets of the run's programs stand in a [`Net`] from the moment at which
//! the host grants them an address. Nobody says when one is closed: whoever asks
//! looks whether the one in the way is still there, and has it
//! [forgotten](Ruler::forget) if not.
//!
//! Connections do not stand there. Where one goes is looked up among those that
//! are bound; what the host says of an address that nobody serves is the model's
//! answer to a new socket.

use alloc::vec::Vec;

use super::net::{Table, mapped};
use super::script::{Busy, Described};
use super::{AddrType, table_of};
use super::{Ask, Cred, Errno, Fd, Host, Net, No, OwnedNet, Pick, Pointer, SockId, State, Step};
use crate::addr::{Addr, af};
use crate::socket::SocketType;

/// See the module.
#[derive(Debug)]
pub struct Ruler {
    net: OwnedNet,
    described: Described,
    /// Those that hold addresses from the start.
    busy: Vec<SockId>,
}

/// The host refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Its error.
    pub errno: Errno,
    /// The check that decided.
    pub step: Option<Step>,
    /// Who is in the way.
    pub holder: Option<SockId>,
}

impl Refused {
    /// The error as a program of this machine sees it. Those that Linux does not have
    /// are FreeBSD's of capability mode.
    #[must_use]
    pub fn errno_here(&self) -> u16 {
        match self.errno.linux() {
            0 => Errno::EPERM.linux(),
            errno => errno,
        }
    }

    /// Has somebody what was asked for, or have all together?
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.holder.is_some() || matches!(self.errno, Errno::EADDRINUSE | Errno::EAGAIN)
    }
}

/// A bind that the host grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The socket in the host's tables.
    pub id: SockId,
    /// Its address.
    pub at: Addr,
}

/// Where a call that names a peer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// To this socket of the host.
    To(SockId),
    /// Nowhere: a datagram to an address of the host that nobody has.
    Nowhere,
    /// Out of the host, or where the model cannot say: as asked.
    Out,
}

impl Ruler {
    /// The host with room for so many sockets, before anything is bound.
    ///
    /// # Errors
    /// With an address that cannot be busy.
    pub fn new(described: Described, sockets: u32) -> Result<Ruler, Busy> {
        let mut net = OwnedNet::new(described.host, sockets);
        let busy = described
            .enter_busy(&mut net.net())
            .map_err(|(busy, _)| busy)?;
        Ok(Ruler {
            net,
            described,
            busy,
        })
    }

    /// What is known of the host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.net.host
    }

    /// Who held addresses from the start: their sockets, as the policy has them.
    pub fn busy(&self) -> impl Iterator<Item = (SockId, &Busy)> {
        self.busy.iter().copied().zip(&self.described.busy)
    }

    /// Does the answer depend on what the caller may do, so that somebody has to
    /// look? A bind to this address, or a socket of this type.
    #[must_use]
    pub fn asks_privilege(&self, kind: SocketType, addr: Option<&Addr>) -> bool {
        const RAW: u16 = crate::socket::ty::RAW;
        let is_reserved = addr.and_then(Addr::port).is_some_and(|port| {
            port != 0 && port < u32::from(self.net.host.sysctl.unprivileged_start)
        });
        self.described.privileged.is_none() && (is_reserved || kind.ty == RAW)
    }

    /// May there be such a socket, and has it `IPV6_V6ONLY` from its birth?
    ///
    /// # Errors
    /// As socket(2).
    pub fn create(&mut self, kind: SocketType, cred: Cred) -> Result<bool, Refused> {
        let cred = self.described.cred(cred);
        let mut net = self.net.net();
        let made = net.socket(
            kind.domain.into(),
            kind.ty.into(),
            kind.protocol.into(),
            &cred,
        );
        match made.result {
            Ok(id) => {
                let sock = net.get(id);
                let v6only = sock.kind.domain == af::INET6 && sock.v6only();
                net.forget(id);
                Ok(v6only)
            }
            Err(No::Errno(errno)) => Err(Refused {
                errno,
                step: made.trail.last(),
                holder: None,
            }),
            Err(No::Unknown(_)) => Ok(false),
        }
    }

    /// A bind; `known` is the socket in the host's tables, if it is there. `None`
    /// where the model cannot say.
    ///
    /// # Errors
    /// As bind(2).
    pub fn bind(
        &mut self,
        ask: &Ask<'_>,
        cred: Cred,
        known: Option<SockId>,
        seed: u32,
    ) -> Result<Option<Granted>, Refused> {
        let cred = self.described.cred(cred);
        let mut net = self.net.net();
        let id = match known {
            Some(id) => id,
            None => match net.open(ask, &cred) {
                Some(id) => id,
                None => return Ok(None),
            },
        };
        let to = Pointer::to(ask.addr);
        let answer = net.bind(Fd::Socket(id), to, &cred, Pick::Random(seed));
        let refused = match answer.result {
            Ok(()) => {
                let at = net.getsockname(id);
                return Ok(Some(Granted { id, at }));
            }
            Err(No::Errno(errno)) => Err(Refused {
                errno,
                step: answer.trail.last(),
                holder: answer.holder,
            }),
            Err(No::Unknown(_)) => Ok(None),
        };
        if known.is_none() {
            net.forget(id);
        }
        refused
    }

    /// A listen of a socket in the host's tables.
    ///
    /// # Errors
    /// As listen(2).
    pub fn listen(&mut self, id: SockId, cred: Cred) -> Result<(), Refused> {
        let cred = self.described.cred(cred);
        let answer = self.net.net().listen(id, &cred, Pick::Random(0));
        match answer.result {
            Err(No::Errno(errno)) => Err(Refused {
                errno,
                step: answer.trail.last(),
                holder: answer.holder,
            }),
            _ => Ok(()),
        }
    }

    /// A connect, or a datagram, to an address.
    ///
    /// # Errors
    /// As connect(2).
    pub fn connect(&mut self, ask: &Ask<'_>, cred: Cred) -> Result<Way, Refused> {
        let cred = self.described.cred(cred);
        let to = Addr::read(ask.addr);
        if let Some(to) = &to
            && self.is_own(to)
        {
            if let Some(id) = self.served(ask.kind, to) {
                return Ok(Way::To(id));
            }
            if !ask.kind.is_stream() {
                // Of a client whose port the kernel chose nobody has told: its peer
                // has its address on loopback from the kernel, and answers there.
                return Ok(match to.is_loopback() {
                    true => Way::Out,
                    false => Way::Nowhere,
                });
            }
        }
        let mut net = self.net.net();
        let Some(id) = net.open(ask, &cred) else {
            return Ok(Way::Out);
        };
        let answer = net.connect(id, ask.addr, &cred, Pick::Random(0));
        net.forget(id);
        match answer.result {
            Err(No::Errno(errno)) if errno != Errno::EINPROGRESS => Err(Refused {
                errno,
                step: answer.trail.last(),
                holder: None,
            }),
            _ => Ok(Way::Out),
        }
    }

    /// Is it an address of this host? The wildcard is for whoever calls it.
    fn is_own(&self, to: &Addr) -> bool {
        let host = &self.net.host;
        if to.is_wildcard() {
            return true;
        }
        match (to.ipv4(), to) {
            (Some(ip), _) => host.addr_type(u32::from_be_bytes(ip)) == AddrType::Local,
            (None, Addr::Inet6 { ip, .. }) => host.v6.as_slice().iter().any(|a| a.addr == *ip),
            _ => false,
        }
    }

    /// Who serves an address of this host: who is bound to it before who is bound to
    /// the wildcard.
    fn served(&mut self, kind: SocketType, to: &Addr) -> Option<SockId> {
        let table = table_of(kind)?;
        let port = u16::try_from(to.port()?).ok()?;
        let net = self.net.net();
        let wanted = match (to.ipv4(), to) {
            (Some([0, 0, 0, 0]), _) => mapped(0x7f00_0001),
            (Some(ip), _) => mapped(u32::from_be_bytes(ip)),
            (None, Addr::Inet6 { ip, .. }) if *ip == [0; 16] => super::net::LOOPBACK6,
            (None, Addr::Inet6 { ip, .. }) => *ip,
            _ => return None,
        };
        let is_four = to.ipv4().is_some();
        let owners = || {
            let serves = |id: &SockId| match table {
                Table::Tcp => net.get(*id).state == State::Listen,
                _ => true,
            };
            net.owners_of(table, port).filter(serves)
        };
        let at = |id: &SockId| net.get(*id).rcv6 == wanted;
        let is_any = |id: &SockId| {
            let sock = net.get(*id);
            let is_six = sock.kind.domain == af::INET6;
            match sock.rcv6 == [0; 16] && is_six {
                true => !is_four || !sock.v6only(),
                false => is_four && sock.rcv6 == mapped(0),
            }
        };
        owners().find(at).or_else(|| owners().find(is_any))
    }

    /// The socket is not there any more.
    pub fn forget(&mut self, id: SockId) {
        self.net.net().forget(id);
    }

    /// A socket's address.
    pub fn name(&mut self, id: SockId) -> Addr {
        let net: Net<'_> = self.net.net();
        net.getsockname(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;
    use crate::policy::{Policy, Source, parse};
    use crate::socket::{BindOptions, proto};

    const TCP: SocketType = SocketType {
        domain: af::INET,
        ty: 1,
        protocol: proto::TCP,
    };
    const TCP6: SocketType = SocketType {
        domain: af::INET6,
        ..TCP
    };

    fn ruler(text: &str) -> Ruler {
        let source = Source { name: "t", text };
        let policy: Policy = parse(&[source]).unwrap();
        let described = policy.described(Generation::Linux6_18).unwrap().unwrap();
        Ruler::new(described, 64).unwrap()
    }

    fn four(ip: [u8; 4], port: u16) -> Addr {
        Addr::Inet { ip, port }
    }

    fn bind(ruler: &mut Ruler, kind: SocketType, at: Addr) -> Result<Granted, Errno> {
        let raw = at.write();
        let ask = ask(kind, raw.bytes());
        let bound = ruler.bind(&ask, Cred::user(7), None, 1);
        bound.map(Option::unwrap).map_err(|refused| refused.errno)
    }

    fn ask(kind: SocketType, addr: &[u8]) -> Ask<'_> {
        Ask {
            kind,
            addr,
            options: BindOptions(0),
            device: 0,
            uid: 7,
        }
    }

    fn connect(ruler: &mut Ruler, kind: SocketType, at: Addr) -> Result<Way, Errno> {
        let raw = at.write();
        let way = ruler.connect(&ask(kind, raw.bytes()), Cred::user(7));
        way.map_err(|refused| refused.errno)
    }

    #[test]
    fn addresses_and_privileges_are_those_described() {
        let mut host = ruler("host address 192.0.2.1/24\nhost unprivileged\n");
        let at = |ip, port| four(ip, port);
        let mut bound = |at| bind(&mut host, TCP, at).map(|granted| granted.at);
        assert_eq!(
            bound(at([192, 0, 2, 1], 8080)),
            Ok(at([192, 0, 2, 1], 8080))
        );
        assert_eq!(bound(at([192, 0, 2, 2], 8080)), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(bound(at([0; 4], 8080)), Err(Errno::EADDRINUSE));
        assert_eq!(bound(at([127, 0, 0, 1], 80)), Err(Errno::EACCES));
        let mut host = ruler("host privileged\n");
        assert!(bind(&mut host, TCP, at([0; 4], 80)).is_ok());
    }

    #[test]
    fn whoever_holds_an_address_is_called_there() {
        let mut host = ruler("host address 192.0.2.1/24\nhost busy tcp *:9000\n");
        let at = four([192, 0, 2, 1], 8080);
        let refused = Err(Errno::ECONNREFUSED);
        assert_eq!(connect(&mut host, TCP, at), refused);
        let granted = bind(&mut host, TCP, at).unwrap();
        assert_eq!(connect(&mut host, TCP, at), refused);
        host.listen(granted.id, Cred::user(7)).unwrap();
        assert_eq!(connect(&mut host, TCP, at), Ok(Way::To(granted.id)));
        assert_eq!(connect(&mut host, TCP, four([127, 0, 0, 1], 8080)), refused);
        let (busy, _) = host.busy().next().unwrap();
        for ip in [[127, 0, 0, 1], [192, 0, 2, 1], [0; 4]] {
            assert_eq!(connect(&mut host, TCP, four(ip, 9000)), Ok(Way::To(busy)));
        }
        let out = connect(&mut host, TCP, four([192, 0, 2, 7], 80));
        assert_eq!(out, Ok(Way::Out));
        let away = connect(&mut host, TCP, four([198, 51, 100, 1], 80));
        assert_eq!(away, Err(Errno::ENETUNREACH));
        host.forget(granted.id);
        assert_eq!(connect(&mut host, TCP, at), refused);
    }

    #[test]
    fn a_host_without_ipv6_has_no_such_sockets() {
        let mut host = ruler("host no-ipv6\n");
        let made = host.create(TCP6, Cred::ROOT).map_err(|r| r.errno);
        assert_eq!(made, Err(Errno::EAFNOSUPPORT));
        assert_eq!(host.create(TCP, Cred::ROOT), Ok(false));
        let mut freebsd = ruler("host kernel freebsd 14.3\n");
        assert_eq!(freebsd.create(TCP6, Cred::ROOT), Ok(true));
    }

    #[test]
    fn freebsd_rules_where_it_is_named() {
        // SO_REUSEADDR alone lets a wildcard and an address share a port there,
        // while one listens.
        let reuse = |raw| Ask {
            options: BindOptions(BindOptions::REUSEADDR),
            ..ask(TCP, raw)
        };
        let (any, one) = (four([0; 4], 80).write(), four([127, 0, 0, 1], 80).write());
        let second = |text| {
            let mut host = ruler(text);
            let first = host.bind(&reuse(any.bytes()), Cred::ROOT, None, 1);
            host.listen(first.unwrap().unwrap().id, Cred::ROOT).unwrap();
            let second = host.bind(&reuse(one.bytes()), Cred::ROOT, None, 1);
            second.map(|granted| granted.is_some()).map_err(|r| r.errno)
        };
        assert_eq!(second("host kernel linux 6.1\n"), Err(Errno::EADDRINUSE));
        assert_eq!(second("host kernel freebsd 14.3\n"), Ok(true));
    }
}
