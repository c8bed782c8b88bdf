//! The network that a run has: the machine's, or one of its own.
//!
//! `--isolate=sealed` is a network namespace in which there is nothing but the
//! run: the kernel alone says what may be bound there. It is made in the child
//! that becomes the program, so that neither launcher nor daemon is in it.

use std::fmt::Write as _;
use std::path::Path;

use bindgate_core::policy::View;
use bindgate_core::shared::Ticket;
use bindgate_sys::{Allowed, filter};

use crate::Failure;
use crate::described::Plan;
use crate::exit;
use bindgate_daemon::Handle;
use bindgate_os::doors::Doors;
use bindgate_os::network::{self, Network, Refused, Step};
use bindgate_os::process;

/// Moves this process into a network of its own, and tells the daemon.
pub fn seal(ticket: &Ticket, daemon: &Handle, host: Option<&Plan>) -> Result<(), Refused> {
    network::seal()?;
    if let Some(host) = host {
        host.furnish(daemon)?;
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

/// Refuses `host share` lines that no one carries out.
pub fn check_shares(view: &View<'_>, is_sealed: bool) -> Result<(), Failure> {
    let why = match (view.has_shares(), is_sealed) {
        (false, _) => return Ok(()),
        (true, false) => {
            "host share: the run is on the machine's network, where every service is reached; \
             it takes --isolate=sealed to have something to share"
        }
        (true, true) => "host share: services are not carried into a sealed run yet",
    };
    Err(Failure::say(exit::CONFIG, why))
}

/// Why the run does not start.
pub fn failure(refused: &Refused) -> Failure {
    let why = Facts::ask().why(refused);
    let what = "not started: --isolate=sealed cannot be had here";
    Failure::say(exit::SYSTEM, format!("{what}: {why}"))
}

/// What `run` says before the start if something is not as promised.
pub fn warning() -> Option<&'static str> {
    (network::are_settings_fixed() && network::unprivileged_start() != 0).then_some(
        "/proc/sys is read-only here: in the sealed network, too, ports below 1024 are root's alone",
    )
}

/// What `doctor` says of it.
pub fn describe() -> String {
    let mut text = String::from("isolate=sealed: ");
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
