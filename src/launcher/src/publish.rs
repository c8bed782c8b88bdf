//! `--publish`: ports of a run that has its own are reached from outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bindgate_core::addr::af;
use bindgate_core::render::Readable;
use bindgate_core::shared::PortKind;
use bindgate_core::uapi::inet_diag::{Socket, state};
use bindgate_daemon::relay::{Direction, Service};
use bindgate_host_live::processes;
use bindgate_os::{diag, inet};

use crate::carried::Around;
use crate::{Failure, exit};

/// What the option says: `[ADDRESS:][PORT:]PORT[/tcp|/udp]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish {
    kind: PortKind,
    /// The address outside; loopback of both families unless it is said.
    ip: Option<IpAddr>,
    /// The port outside; 0: any that is free.
    outside: u16,
    /// The port that the run knows.
    inside: u16,
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Publish, String> {
        let (rest, kind) = match text.rsplit_once('/') {
            None => (text, PortKind::Tcp),
            Some((rest, "tcp")) => (rest, PortKind::Tcp),
            Some((rest, "udp")) => (rest, PortKind::Udp),
            Some((_, other)) => return Err(format!("'{other}' is neither tcp nor udp")),
        };
        let (ip, ports) = match rest.strip_prefix('[').map(|rest| rest.split_once("]:")) {
            Some(Some((ip, ports))) => {
                let ip: Ipv6Addr = ip.parse().map_err(|_| not_an_address(ip))?;
                (Some(IpAddr::from(ip)), ports)
            }
            Some(None) => return Err("after an IPv6 address in brackets a ':' is expected".into()),
            None => match rest.split(':').count() {
                1 | 2 => (None, rest),
                3 => {
                    let (ip, ports) = rest.split_once(':').unwrap_or_default();
                    let ip: Ipv4Addr = ip.parse().map_err(|_| not_an_address(ip))?;
                    (Some(ip.into()), ports)
                }
                _ => return Err("an IPv6 address needs brackets, as in [::1]:18080:8080".into()),
            },
        };
        let port = |text: &str| -> Result<u16, String> {
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let number = is_number.then(|| text.parse().ok()).flatten();
            number.ok_or_else(|| format!("'{text}' is not a port"))
        };
        let (outside, inside) = match ports.split_once(':') {
            Some((outside, inside)) => (port(outside)?, port(inside)?),
            None => (port(ports)?, port(ports)?),
        };
        match inside {
            0 => Err("0 is not the port of a server".into()),
            _ => Ok(Publish {
                kind,
                ip: ip.map(|ip| ip.to_canonical()),
                outside,
                inside,
            }),
        }
    }
}

fn not_an_address(text: &str) -> String {
    format!("'{text}' is not an address")
}

/// Refuses the option where there is nothing to publish.
pub fn check(given: &[Publish], around: Around) -> Result<(), Failure> {
    let why = match around {
        _ if given.is_empty() => return Ok(()),
        Around::OwnPorts | Around::Sealed => return Ok(()),
        Around::Machine => {
            "--publish: the run is on the machine's network, where its servers are reached as \
             they are; it takes --isolate or --isolate=sealed"
        }
        Around::Ruled => {
            "--publish: the run is on a host that the model rules, and its servers are on the \
             machine's network or moved"
        }
    };
    Err(Failure::say(exit::USAGE, why))
}

/// The services that are published, with their sockets outside.
pub fn services(given: &[Publish]) -> Result<Vec<Service>, Failure> {
    let mut all = Vec::new();
    for publish in given {
        all.extend(publish.services()?);
    }
    Ok(all)
}

impl Publish {
    fn services(&self) -> Result<Vec<Service>, Failure> {
        /// How often another port is tried, where one is free in one family alone.
        const TRIES: usize = 16;
        if let Some(ip) = self.ip {
            let at = SocketAddr::new(ip, self.outside);
            return Ok(vec![self.service(at).map_err(|e| self.failure(&at, &e))?]);
        }
        let mut last = None;
        for _ in 0..TRIES {
            let four = SocketAddr::from((Ipv4Addr::LOCALHOST, self.outside));
            let four = self.service(four).map_err(|e| self.failure(&four, &e))?;
            let six = SocketAddr::from((Ipv6Addr::LOCALHOST, four.near.port()));
            match self.service(six) {
                Ok(six) => return Ok(vec![four, six]),
                // Without IPv6.
                Err(e)
                    if e.kind() == std::io::ErrorKind::AddrNotAvailable
                        || e.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
                {
                    return Ok(vec![four]);
                }
                Err(e) if self.outside != 0 => return Err(self.failure(&six, &e)),
                Err(e) => last = Some((six, e)),
            }
        }
        let (at, e) = last.unwrap_or_else(|| {
            let none = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
            (none, std::io::ErrorKind::AddrInUse.into())
        });
        Err(self.failure(&at, &e))
    }

    fn service(&self, at: SocketAddr) -> std::io::Result<Service> {
        let socket = inet::bind(self.kind == PortKind::Udp, &at, true)?;
        Ok(Service {
            direction: Direction::Published,
            kind: self.kind,
            near: inet::local(&socket)?,
            far: vec![
                (Ipv4Addr::LOCALHOST, self.inside).into(),
                (Ipv6Addr::LOCALHOST, self.inside).into(),
            ],
            is_seen: true,
            socket: Some(socket),
        })
    }

    /// Why there is no socket at an address.
    fn failure(&self, at: &SocketAddr, e: &std::io::Error) -> Failure {
        let why = match e.kind() {
            std::io::ErrorKind::AddrInUse => match self.holder(at) {
                Some(holder) => format!("the address is held by {holder}"),
                None => "the address is in use".to_owned(),
            },
            std::io::ErrorKind::PermissionDenied => format!(
                "the port is root's; another one outside is for everybody: --publish {}:{}",
                10_000 + u32::from(at.port()),
                self.inside
            ),
            _ => {
                let message = e.to_string();
                let message = message.split(" (os error").next().unwrap_or_default();
                message.to_owned()
            }
        };
        Failure::say(exit::SYSTEM, format!("not started: --publish {at}: {why}"))
    }

    /// Who has the address, in words.
    fn holder(&self, at: &SocketAddr) -> Option<String> {
        let protocol = match self.kind {
            PortKind::Tcp => libc::IPPROTO_TCP,
            PortKind::Udp => libc::IPPROTO_UDP,
        } as u8;
        let [four, six] = [af::INET, af::INET6].map(|f| diag::owners(f as u8, protocol, at.port()));
        let all = four.unwrap_or_default().into_iter();
        let all = all.chain(six.unwrap_or_default());
        let is_bound = |s: &Socket| match self.kind {
            PortKind::Tcp => matches!(
                s.state,
                state::LISTEN | state::CLOSE | state::BOUND_INACTIVE
            ),
            PortKind::Udp => true,
        };
        let wanted = inet::addr(at);
        let is_there = |s: &Socket| {
            let local = s.local();
            let is_any = local.is_wildcard() || wanted.is_wildcard();
            // A dual-stack wildcard has both families.
            is_any || local == wanted || local.ipv4().is_some_and(|ip| wanted.ipv4() == Some(ip))
        };
        let mut all = all.filter(|s| is_bound(s) && is_there(s));
        let socket = all.next()?;
        let place = socket.local();
        let pid = processes::of_sockets().get(&socket.inode).copied();
        Some(match pid {
            Some(pid) => {
                let program = processes::program(pid);
                let name = program.rsplit(|b| *b == b'/').next().unwrap_or(&program);
                format!("{}[{pid}] at {place}", Readable(name))
            }
            None => format!("a process of uid {} at {place}", socket.uid),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let read = |text: &str| {
            let Publish {
                kind,
                ip,
                outside,
                inside,
            } = text.parse()?;
            let ip = ip.map_or("-".to_owned(), |ip| ip.to_string());
            Ok::<_, String>(format!("{kind:?} {ip} {outside} {inside}"))
        };
        for (text, expected) in [
            ("8080", "Tcp - 8080 8080"),
            ("18080:8080", "Tcp - 18080 8080"),
            ("0:8080/tcp", "Tcp - 0 8080"),
            ("127.0.0.1:18080:8080", "Tcp 127.0.0.1 18080 8080"),
            ("0.0.0.0:53:5353/udp", "Udp 0.0.0.0 53 5353"),
            ("[::1]:18080:8080", "Tcp ::1 18080 8080"),
            ("[::]:8080", "Tcp :: 8080 8080"),
            ("[::ffff:127.0.0.1]:1:2", "Tcp 127.0.0.1 1 2"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "0",
            "x",
            "8080/sctp",
            "1:2:3:4",
            "::1:80:80",
            "localhost:80:80",
            "70000",
            "8080:0",
            "+80",
            " 80",
            "[::1]80",
            "[::1:80",
            "1:",
            ":1",
            "/udp",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
