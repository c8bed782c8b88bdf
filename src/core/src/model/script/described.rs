//! The host that the `host` lines of a policy describe: what `explain` answers
//! for, and what a run is on.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::change::{apply, sysctl};
use crate::addr::{Addr, af};
use crate::model::{Ask, Cred, Fd, Generation, Host, Net, Pick, Pointer, SockId};
use crate::policy::{HostLine, HostSetting};
use crate::socket::{BindOptions, SocketType, proto, ty};

/// What a policy's lines say of the host.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its kernel, addresses and settings.
    pub host: Host,
    /// May its programs bind reserved ports? `None`: as their users may.
    pub privileged: Option<bool>,
    /// Who else holds addresses there.
    pub busy: Vec<Busy>,
}

impl Described {
    /// The host of these lines: `lo`, and what they name. Without a line about its
    /// kernel it has this one.
    ///
    /// # Errors
    /// With the place of the line that cannot be.
    pub fn of(lines: &[HostLine], running: Generation) -> Result<Described, (usize, String)> {
        let mut all = Described {
            host: Host::loopback(running),
            privileged: None,
            busy: Vec::new(),
        };
        for (n, line) in lines.iter().enumerate() {
            apply(&mut all.host, &line.setting).map_err(|why| (n, why))?;
            match &line.setting {
                HostSetting::Privileged(yes) => all.privileged = Some(*yes),
                HostSetting::Busy(busy) => all.busy.push(*busy),
                _ => {}
            }
        }
        if !all.host.has_ipv6 {
            all.host.v6.clear();
        }
        Ok(all)
    }

    /// What a caller with these capabilities may do there.
    #[must_use]
    pub fn cred(&self, cred: Cred) -> Cred {
        match self.privileged {
            None => cred,
            Some(yes) => Cred {
                net_bind_service: yes,
                net_admin: yes,
                net_raw: yes,
                ..cred
            },
        }
    }

    /// Binds those who hold addresses already.
    ///
    /// # Errors
    /// With the one that cannot, and why.
    pub fn enter_busy(&self, net: &mut Net<'_>) -> Result<Vec<SockId>, (Busy, String)> {
        let enter = |busy: &Busy| busy.enter(net).map_err(|why| (*busy, why));
        self.busy.iter().map(enter).collect()
    }
}

/// `host busy tcp *:8080`: a socket of somebody else, which listens if it can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy {
    /// UDP, not TCP.
    pub is_udp: bool,
    /// Its address; `None` is every one, of both families where there are both.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// `reuseaddr`, `reuseport` and `v6only`.
    pub options: BindOptions,
    /// Its user.
    pub uid: u32,
}

const OPTIONS: [(&str, u8); 3] = [
    ("reuseaddr", BindOptions::REUSEADDR),
    ("reuseport", BindOptions::REUSEPORT),
    ("v6only", BindOptions::V6ONLY),
];

impl Busy {
    /// Reads `tcp *:8080 reuseport uid 1000`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(words: &[&str]) -> Result<Busy, String> {
        let [kind, at, rest @ ..] = words else {
            return Err("expected a kind and an address: host busy tcp *:8080".to_owned());
        };
        let is_udp = match *kind {
            "tcp" => false,
            "udp" => true,
            _ => {
                return Err(format!(
                    "unknown kind '{kind}': a busy address is of tcp or udp"
                ));
            }
        };
        let wrong = || {
            format!(
                "'{at}' is not an address with a port, like *:8080, 127.0.0.1:8080 or [::1]:8080"
            )
        };
        let (ip, port) = at.rsplit_once(':').ok_or_else(wrong)?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(wrong)?;
        let ip = match ip {
            "*" => None,
            _ => {
                let six = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
                let ip = match six {
                    Some(ip) => ip.parse().ok().map(IpAddr::V6),
                    None => ip.parse().ok().map(IpAddr::V4),
                };
                Some(ip.ok_or_else(wrong)?)
            }
        };
        let mut busy = Busy {
            is_udp,
            ip,
            port,
            options: BindOptions::default(),
            uid: 0,
        };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match OPTIONS.iter().find(|(name, _)| name == word) {
                Some((_, bit)) => busy.options.set(*bit, true),
                None if *word == "uid" => {
                    let uid = rest.next().and_then(|uid| uid.parse().ok());
                    busy.uid = uid.ok_or("after uid comes a number")?;
                }
                None => {
                    return Err(format!(
                        "unexpected '{word}': after the address come reuseaddr, reuseport, \
                         v6only and uid N"
                    ));
                }
            }
        }
        Ok(busy)
    }

    /// Its socket and its address, on a host with or without IPv6.
    #[must_use]
    pub fn place(&self, has_ipv6: bool) -> (SocketType, Addr) {
        let ip = self.ip.unwrap_or(match has_ipv6 {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        });
        let (ty, protocol) = match self.is_udp {
            true => (ty::DGRAM, proto::UDP),
            false => (ty::STREAM, proto::TCP),
        };
        let (domain, addr) = match ip {
            IpAddr::V4(ip) => (
                af::INET,
                Addr::Inet {
                    ip: ip.octets(),
                    port: self.port,
                },
            ),
            IpAddr::V6(ip) => (
                af::INET6,
                Addr::Inet6 {
                    ip: ip.octets(),
                    port: self.port,
                    flow: 0,
                    scope: 0,
                },
            ),
        };
        let kind = SocketType {
            domain,
            ty,
            protocol,
        };
        (kind, addr)
    }

    fn enter(&self, net: &mut Net<'_>) -> Result<SockId, String> {
        let (kind, addr) = self.place(net.host.has_ipv6);
        let cred = Cred {
            uid: self.uid,
            ..Cred::ROOT
        };
        let raw = addr.write();
        let ask = Ask {
            kind,
            addr: raw.bytes(),
            options: self.options,
            device: 0,
            uid: self.uid,
        };
        let id = net.open(&ask, &cred).ok_or("the host has no such socket")?;
        let bound = net.bind(
            Fd::Socket(id),
            Pointer::to(raw.bytes()),
            &cred,
            Pick::Random(0),
        );
        let done = match bound.result {
            Ok(()) if !self.is_udp => net.listen(id, &cred, Pick::Random(0)).result,
            other => other,
        };
        done.map(|()| id).map_err(|no| no.to_string())
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_udp { "udp " } else { "tcp " })?;
        match self.ip {
            None => write!(f, "*:{}", self.port)?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port)?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port)?,
        }
        for (name, bit) in OPTIONS {
            if self.options.has(bit) {
                write!(f, " {name}")?;
            }
        }
        match self.uid {
            0 => Ok(()),
            uid => write!(f, " uid {uid}"),
        }
    }
}

/// Is it a setting that the model knows, with a value that it can have?
///
/// # Errors
/// Says what is wrong.
pub fn check_sysctl(name: &str, value: &str) -> Result<(), String> {
    sysctl(&mut Host::EMPTY.clone(), name, value)
}
