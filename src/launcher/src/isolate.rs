//! The network that a run has: the machine's, or one of its own.
//!
//! `--isolate` is ports of its own on the machine's network: the core says how
//! ([`block`]). `--isolate=sealed` is a network namespace in which there is nothing but the
//! run: the kernel alone says what may be bound there. It is made in the child
//! that becomes the program, so that neither launcher nor daemon is in it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use bindgate_core::addr::Addr;
use bindgate_core::judge::block::{self, Block, Share};
use bindgate_core::shared::{PortKind, Ticket};
use bindgate_sys::{Allowed, filter};

use crate::Failure;
use crate::carried::Shared;
use crate::described::Plan;
use crate::exit;
use bindgate_daemon::{Handle, Own};
use bindgate_os::doors::Doors;
use bindgate_os::network::{self, Network, Refused, Step};
use bindgate_os::{process, unix};

/// Moves this process into a network of its own, and tells the daemon.
pub fn seal(
    ticket: &Ticket,
    daemon: &Handle,
    host: Option<&Plan>,
    shares: &[Shared],
) -> Result<(), Refused> {
    network::seal()?;
    if let Some(host) = host {
        host.furnish(daemon)?;
    }
    for share in shares {
        share.furnish(daemon)?;
    }
    let told = || {
        let door = Doors::within(ticket)?;
        daemon.sealed(&door, &Network::of("self")?)
    };
    told().map_err(|error| Refused {
        step: Step::Door,
        error,
    })
}

/// Refuses what a run with ports of its own does not have yet.
pub fn check_others(is_described: bool, has_block: bool) -> Result<(), Failure> {
    if !(has_block && is_described) {
        return Ok(());
    }
    let why = "a host that the policy describes is not had in a run with --isolate yet";
    Err(Failure::say(exit::CONFIG, why))
}

/// A block of 127.0.0.0/8 for the loopback of a run, which nobody else has: its
/// abstract Unix name is, as the addresses are, of this network namespace, and the
/// kernel's to give up.
pub fn own_ports(run: u64) -> Result<Own, Failure> {
    let first = run as u32 % block::BLOCKS;
    for n in 0..block::BLOCKS {
        let Some(block) = Block::numbered(1 + (first + n) % block::BLOCKS) else {
            continue;
        };
        let name = format!("\0bindgate/block/{}", Ipv4Addr::from(block.first()));
        let claimed = unix::claim(name.as_bytes());
        let failed = |e| Failure::new(exit::SYSTEM, "the run's own ports", e);
        if let Some(held) = claimed.map_err(failed)? {
            return Ok(Own {
                block,
                shares: name_servers().chain(proxies()).collect(),
                held: Some(held),
            });
        }
    }
    let why = format!(
        "not started: all {} blocks of 127.0.0.0/8 are taken by other runs with --isolate",
        block::BLOCKS
    );
    Err(Failure::say(exit::SYSTEM, why))
}

/// The name servers on the machine's loopback are the run's, too.
fn name_servers() -> impl Iterator<Item = Share> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    let addresses = addresses.filter_map(|word| word.parse::<IpAddr>().ok());
    let addresses: Vec<IpAddr> = addresses.filter(IpAddr::is_loopback).take(3).collect();
    let share = |ip| [PortKind::Tcp, PortKind::Udp].map(|kind| shared(kind, ip, 53));
    addresses.into_iter().flat_map(share)
}

fn shared(kind: PortKind, ip: IpAddr, port: u16) -> Share {
    let addr = match ip {
        IpAddr::V4(ip) => Addr::Inet {
            ip: ip.octets(),
            port,
        },
        IpAddr::V6(_) => block::LOOPBACK6.with_port(port.into()),
    };
    Share { kind, addr }
}

/// So are the proxies on the machine's loopback that the environment names.
fn proxies() -> impl Iterator<Item = Share> {
    const NAMES: [&str; 6] = [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ];
    let urls = NAMES.iter().filter_map(|name| std::env::var(name).ok());
    let mut found: Vec<_> = urls.filter_map(|url| proxy(&url)).flatten().collect();
    found.sort_by_key(|(ip, port)| (*ip, *port));
    found.dedup();
    found.truncate(8);
    let share = |(ip, port)| shared(PortKind::Tcp, ip, port);
    found.into_iter().map(share)
}

/// The loopback addresses that a proxy's URL names.
fn proxy(url: &str) -> Option<Vec<(IpAddr, u16)>> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.split('/').next()?;
    let place = place.rsplit('@').next()?;
    let (host, port) = place.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let all: Vec<IpAddr> = match host {
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        ip => vec![ip.parse().ok()?],
    };
    let on_loopback = all.into_iter().filter(IpAddr::is_loopback);
    Some(on_loopback.map(|ip| (ip, port)).collect())
}

/// Why the run does not start.
pub fn failure(refused: &Refused) -> Failure {
    let why = Facts::ask().why(refused);
    let what = "not started: --isolate=sealed cannot be had here";
    Failure::say(exit::SYSTEM, format!("{what}: {why}"))
}

/// What becomes of a program that cannot be intercepted where a run has ports of its
/// own, and what would hold it.
pub fn outside() -> String {
    let what = "is outside of --isolate and has the machine's ports";
    match process::in_child(network::seal) {
        Ok(Ok(())) => format!("{what}: --isolate=sealed holds it"),
        Ok(Err(refused)) => format!(
            "{what}, and --isolate=sealed, which would hold it, cannot be had: {}",
            Facts::ask().why(&refused)
        ),
        Err(_) => what.to_owned(),
    }
}

/// What `run` says before the start if something is not as promised.
pub fn warning() -> Option<&'static str> {
    (network::are_settings_fixed() && network::unprivileged_start() != 0).then_some(
        "/proc/sys is read-only here: in the sealed network, too, ports below 1024 are root's alone",
    )
}

/// What `doctor` says of it.
pub fn describe() -> String {
    let mut text = String::from(
        "isolate: can be had: ports of its own for each run of what the library is loaded into\n\
         isolate=sealed: ",
    );
    match process::in_child(network::seal) {
        Ok(Ok(())) => {
            text += "can be had: a network of its own for each run\n";
            if let Some(warning) = warning() {
                let _ = writeln!(text, "  {warning}");
            }
        }
        Ok(Err(refused)) => {
            let _ = writeln!(text, "cannot be had: {}", Facts::ask().why(&refused));
        }
        Err(e) => {
            let _ = writeln!(text, "could not be tried: {e}");
        }
    }
    text
}

/// What this machine says of namespaces.
#[derive(Clone, Copy, Default, Debug)]
struct Facts {
    /// A seccomp filter binds this process.
    is_filtered: bool,
    /// There is a `/proc`.
    has_proc: bool,
    /// `kernel.unprivileged_userns_clone` of Debian and Arch.
    userns_clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns` of Ubuntu.
    apparmor: Option<u64>,
    /// `user.max_user_namespaces` and `user.max_net_namespaces`.
    most: [Option<u64>; 2],
}

impl Facts {
    fn ask() -> Facts {
        let number = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
            text.trim().parse().ok()
        };
        Facts {
            is_filtered: filter::is_there(Allowed::ALL),
            has_proc: Path::new("/proc/self/ns").exists(),
            userns_clone: number("kernel/unprivileged_userns_clone"),
            apparmor: number("kernel/apparmor_restrict_unprivileged_userns"),
            most: ["user", "net"].map(|kind| number(&format!("user/max_{kind}_namespaces"))),
        }
    }

    /// The reason of a refusal, and what to do.
    fn why(&self, refused: &Refused) -> String {
        let Refused { step, error } = refused;
        let what = match step {
            Step::User => "a user namespace is refused",
            Step::Network => "a network namespace is refused",
            Step::Ids | Step::TwoIds | Step::RootsId => {
                "the user's own id in a user namespace is refused"
            }
            Step::Loopback => "lo cannot be brought up",
            Step::Ports => "ports below 1024 cannot be made free",
            Step::Door => "the run cannot be reached from inside",
            Step::Host => "the policy's host cannot be made",
            Step::Share => "a service of the machine cannot be shared",
        };
        let message = error.to_string();
        let message = message.split(" (os error").next().unwrap_or_default();
        match self.advice(*step, error.raw_os_error()) {
            Some(advice) => format!("{what} ({message}): {advice}"),
            None => format!("{what}: {message}"),
        }
    }

    fn advice(&self, step: Step, errno: Option<i32>) -> Option<String> {
        let text = match (errno, step) {
            _ if !self.has_proc => "there is no /proc here: mount it".into(),
            (_, Step::TwoIds) => "the real user or group is not the effective \
                 one, and such a process may not say who it is: start bindgate as one user"
                .into(),
            (Some(libc::EPERM), Step::RootsId) => "root without CAP_SETFCAP may not be in a \
                 user namespace: add that capability (--cap-add SETFCAP), or start bindgate as \
                 another user"
                .into(),
            (Some(libc::ENOSPC), Step::User | Step::Network) => {
                let (name, most) = match (step, self.most) {
                    (Step::User, [most, _]) => ("user.max_user_namespaces", most),
                    (_, [_, most]) => ("user.max_net_namespaces", most),
                };
                match most {
                    // As it is where nobody has set a limit.
                    Some(0) => format!("{name} is 0: `sysctl -w {name}=16384` as root allows it"),
                    Some(most) if most < 1024 => format!(
                        "{name} is {most}, and that many are in use: `sysctl -w {name}=16384` \
                         as root raises it"
                    ),
                    _ => format!(
                        "{name} is used up here or in a namespace around this one: end runs \
                         that are over, or raise it as root"
                    ),
                }
            }
            (Some(libc::EPERM | libc::EACCES), _) => match self {
                Facts {
                    userns_clone: Some(0),
                    ..
                } if step == Step::User => "kernel.unprivileged_userns_clone is 0: \
                     `sysctl -w kernel.unprivileged_userns_clone=1` as root allows it"
                    .into(),
                Facts {
                    apparmor: Some(1..),
                    ..
                } => "kernel.apparmor_restrict_unprivileged_userns is 1: `sysctl -w \
                     kernel.apparmor_restrict_unprivileged_userns=0` as root, or an AppArmor \
                     profile for bindgate with `userns,`, allows it"
                    .into(),
                Facts {
                    is_filtered: true, ..
                } => "a seccomp filter forbids it, as that of Docker does: start the container \
                     with --cap-add SYS_ADMIN or --security-opt seccomp=unconfined"
                    .into(),
                _ => "a security module forbids it, or this is a chroot: try it outside, or as \
                      root"
                    .into(),
            },
            (Some(libc::EINVAL | libc::ENOSYS), Step::User | Step::Network) => {
                "the kernel was built without it".into()
            }
            _ => return None,
        };
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_on_loopback_is_known() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let four = Some(vec![(ip("127.0.0.1"), 3128)]);
        assert_eq!(proxy("http://127.0.0.1:3128"), four);
        assert_eq!(proxy("user:word@127.0.0.1:3128/x"), four);
        let both = Some(vec![(ip("127.0.0.1"), 1080), (ip("::1"), 1080)]);
        assert_eq!(proxy("socks5h://localhost:1080/"), both);
        assert_eq!(proxy("http://[::1]:8"), Some(vec![(ip("::1"), 8)]));
        assert_eq!(proxy("http://192.0.2.1:3128"), Some(Vec::new()));
        assert_eq!(proxy("http://proxy.example:3128"), None);
        assert_eq!(proxy("http://127.0.0.1"), None);
    }

    #[test]
    fn the_reason_is_named_and_what_to_do() {
        let usual = Facts {
            has_proc: true,
            most: [Some(96551); 2],
            ..Facts::default()
        };
        let why = |facts: Facts, step, errno| {
            let error = std::io::Error::from_raw_os_error(errno);
            facts.why(&Refused { step, error })
        };
        let said = |facts, step, errno, words: &[&str]| {
            let text = why(facts, step, errno);
            assert!(words.iter().all(|w| text.contains(w)), "{text}");
            assert!(!text.contains("os error") && !text.contains('\n'), "{text}");
        };
        let full = Facts {
            most: [Some(0), Some(7)],
            ..usual
        };
        said(
            full,
            Step::User,
            libc::ENOSPC,
            &["user.max_user_namespaces is 0"],
        );
        said(
            full,
            Step::Network,
            libc::ENOSPC,
            &["user.max_net_namespaces is 7"],
        );
        said(usual, Step::Network, libc::ENOSPC, &["around this one"]);
        let filtered = Facts {
            is_filtered: true,
            ..usual
        };
        said(filtered, Step::User, libc::EPERM, &["seccomp", "Docker"]);
        let debian = Facts {
            userns_clone: Some(0),
            ..filtered
        };
        said(
            debian,
            Step::User,
            libc::EPERM,
            &["kernel.unprivileged_userns_clone=1"],
        );
        let ubuntu = Facts {
            apparmor: Some(1),
            userns_clone: Some(1),
            ..usual
        };
        for step in [Step::User, Step::Ids, Step::Network, Step::Loopback] {
            said(ubuntu, step, libc::EPERM, &["AppArmor", "userns,"]);
        }
        said(usual, Step::User, libc::EPERM, &["security module"]);
        said(usual, Step::TwoIds, libc::EACCES, &["effective"]);
        said(
            usual,
            Step::RootsId,
            libc::EPERM,
            &["CAP_SETFCAP", "SETFCAP"],
        );
        said(usual, Step::User, libc::EINVAL, &["built without"]);
        said(Facts::default(), Step::Ids, libc::ENOENT, &["no /proc"]);
        assert_eq!(
            why(usual, Step::Network, libc::ENOMEM),
            "a network namespace is refused: Cannot allocate memory"
        );
    }
}
