//! What is carried into a run that has a network of its own: the services that `host
//! share` lines name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use bindgate_core::policy::{HostSetting, Policy};
use bindgate_core::shared::PortKind;
use bindgate_daemon::Handle;
use bindgate_daemon::relay::{Direction, Service};
use bindgate_host_live::kernel::setup;
use bindgate_os::diag::Asker;
use bindgate_os::inet;
use bindgate_os::network::{Refused, Step};

use crate::outer::Outer;
use crate::{Failure, exit};

/// The network of a run, for what is carried into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Around {
    /// The machine's.
    Machine,
    /// The machine's, with ports of its own.
    OwnPorts,
    /// A network namespace.
    Sealed,
    /// The same, whose host the model rules.
    Ruled,
}

/// A service of the machine that is there in the run's own network.
#[derive(Debug)]
pub struct Shared {
    /// Its number among what is carried.
    number: u16,
    is_udp: bool,
    at: SocketAddr,
    /// Was it there when the run began?
    is_open: bool,
}

/// Refuses `host share` lines that no one carries out.
pub fn check_shares(policy: &Policy, around: Around) -> Result<(), Failure> {
    let why = match around {
        _ if !policy.host.iter().any(|line| is_share(&line.setting)) => return Ok(()),
        Around::OwnPorts | Around::Sealed => return Ok(()),
        Around::Machine => {
            "host share: the run is on the machine's network, where every service is reached; \
             it takes --isolate to have something to share"
        }
        Around::Ruled => {
            "host share: the run is on a host that the model rules, and the machine's services \
             are not there"
        }
    };
    Err(Failure::say(exit::CONFIG, why))
}

/// Refuses what would go past the policy of the run around this one.
pub fn check_outer(services: &[Service], outer: Option<&Outer>) -> Result<(), Failure> {
    match outer.is_some_and(Outer::enforces) && !services.is_empty() {
        false => Ok(()),
        true => {
            let why = "the run around this one enforces a policy, which services that are \
                       carried would go past";
            Err(Failure::say(exit::CONFIG, why))
        }
    }
}

fn is_share(setting: &HostSetting) -> bool {
    matches!(setting, HostSetting::Share(_))
}

/// The services that a policy shares.
pub fn shared(policy: &Policy) -> Vec<Service> {
    let settings = policy.host.iter().map(|line| &line.setting);
    let services = settings.filter_map(|setting| match setting {
        HostSetting::Share(service) => Some(service),
        _ => None,
    });
    let mut all: Vec<Service> = Vec::new();
    for service in services {
        let at = SocketAddr::new(service.ip.to_canonical(), service.port);
        let kind = match service.is_udp {
            true => PortKind::Udp,
            false => PortKind::Tcp,
        };
        // The same, once as an IPv4-mapped address.
        if all
            .iter()
            .any(|other| (other.kind, other.near) == (kind, at))
        {
            continue;
        }
        all.push(Service {
            direction: Direction::Shared,
            kind,
            near: at,
            far: vec![at],
            is_seen: is_of_machine(at.ip()),
            socket: None,
        });
    }
    all
}

/// Is the address one of this machine's, so that its sockets are seen?
fn is_of_machine(ip: IpAddr) -> bool {
    let any = match ip {
        _ if ip.is_loopback() => return true,
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Who calls an address of the machine calls from there. Nothing is sent.
    const DISCARD: u16 = 9;
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, DISCARD))?;
        socket.local_addr()
    };
    source().is_ok_and(|from| from.ip() == ip)
}

/// Those of the services that are shared, as they are now.
pub fn as_they_are(services: &[Service]) -> Vec<Shared> {
    let mut asker = None;
    let shared = services.iter().enumerate();
    let shared = shared.filter(|(_, service)| service.direction == Direction::Shared);
    shared
        .map(|(number, service)| {
            let asker = asker.get_or_insert_with(Asker::new);
            Shared {
                number: u16::try_from(number).unwrap_or(u16::MAX),
                is_udp: service.is_udp(),
                at: service.near,
                is_open: service.find(&service.far, asker.as_ref()).is_some(),
            }
        })
        .collect()
}

impl Shared {
    /// Has the service reached in the network that this process is in.
    ///
    /// # Errors
    /// With what could not be had.
    pub fn furnish(&self, daemon: &Handle) -> Result<(), Refused> {
        let furnished = || {
            let socket = self.bind()?;
            if self.is_open {
                inet::open(&socket, self.is_udp)?;
            }
            daemon.share(self.number, &socket, self.is_open)
        };
        furnished().map_err(|e| {
            let kind = if self.is_udp { "udp" } else { "tcp" };
            Refused {
                step: Step::Share,
                error: io::Error::other(format!("{kind} {}: {e}", self.at)),
            }
        })
    }

    /// A socket at its address, which `lo` gets if it has to.
    fn bind(&self) -> io::Result<OwnedFd> {
        let bind = || inet::bind(self.is_udp, &self.at, false);
        match bind() {
            Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => {}
            bound => return bound,
        }
        match self.at.ip() {
            IpAddr::V4(ip) => {
                let alias = format!("lo:{}", self.number);
                setup::device_addr(&alias, ip.octets(), Ipv4Addr::BROADCAST.octets())?;
            }
            IpAddr::V6(ip) => {
                setup::device_addr6(setup::device_index("lo")?, ip.octets(), 128)?;
            }
        }
        bind()
    }
}
