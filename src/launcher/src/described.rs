//! The host that the `host` lines of a policy describe: who rules it in a run.
//!
//! A run in a network of its own is given what the kernel can be: addresses,
//! devices, settings, sockets that hold addresses. What no kernel here can be
//! (another kernel, one without IPv6, other privileges) the model rules, and
//! everything where the run has the machine's network.

use bindgate_core::policy::{Diagnostic, HostLine, HostSetting, Policy, Severity};
use bindgate_core::socket::BindOptions;
use bindgate_daemon::{Handle, Hosted};
use bindgate_host_live::kernel::setup;
use bindgate_host_live::machine;
use bindgate_os::network::{self, Refused, Step};

use super::commands::policy::broken;
use crate::Failure;

/// The host of a run.
pub struct Plan {
    /// For the daemon.
    pub hosted: Hosted,
    /// What the network of the run is given.
    given: Vec<HostSetting>,
}

/// The host that the policy describes, for a run in a network of its own or not.
///
/// # Errors
/// Where there can be no such host; the reasons are written.
pub fn plan(policy: &Policy, is_sealed: bool) -> Result<Option<Plan>, Failure> {
    let described = policy
        .described(machine::running())
        .map_err(|d| broken(&d))?;
    let Some(mut described) = described else {
        return Ok(None);
    };
    let lines = || {
        policy
            .host
            .iter()
            .filter(|line| line.setting.is_described())
    };
    let is_ruled = !is_sealed || !lines().all(|line| can_be_given(&line.setting));
    let of_privilege = |line: &HostLine| match &line.setting {
        HostSetting::UnprivilegedStart(_) | HostSetting::Privileged(_) => true,
        HostSetting::Sysctl(name, _) => name.ends_with("port_start"),
        _ => false,
    };
    if is_sealed && !lines().any(of_privilege) {
        // As in every sealed network.
        described.host.sysctl.unprivileged_start = 0;
    }
    let mut given = Vec::new();
    if is_sealed {
        let settings = lines().filter(|line| can_be_given(&line.setting));
        // Where the model rules the kernel is not to refuse what the model grants.
        let settings = settings.filter(|line| !is_ruled || !of_privilege(line));
        given.extend(settings.map(|line| line.setting.clone()));
    }
    if is_sealed && !is_ruled {
        let unknown = lines().find(
            |line| matches!(&line.setting, HostSetting::Sysctl(name, _) if !is_of_linux(name)),
        );
        if let Some(line) = unknown {
            let message = "Linux has no such setting: a line 'host kernel freebsd 14.3' beside it";
            let d = Diagnostic::at(policy, line.at, Severity::Error, message.into());
            return Err(broken(&[d]));
        }
    }
    Ok(Some(Plan {
        hosted: Hosted {
            described,
            is_ruled,
            lines: lines().map(ToString::to_string).collect(),
        },
        given,
    }))
}

fn is_of_linux(name: &str) -> bool {
    name.starts_with("net.ipv4.") || name.starts_with("net.ipv6.")
}

/// Can the kernel of a network namespace be this?
fn can_be_given(setting: &HostSetting) -> bool {
    match setting {
        HostSetting::Sysctl(name, _) => is_of_linux(name),
        HostSetting::Addresses(_)
        | HostSetting::Device(..)
        | HostSetting::UnprivilegedStart(_)
        | HostSetting::AutomaticPorts(..)
        | HostSetting::Busy(_) => true,
        _ => false,
    }
}

impl Plan {
    /// Gives the network that this process is in what the host has.
    ///
    /// # Errors
    /// With what it could not be given.
    pub fn furnish(&self, daemon: &Handle) -> Result<(), Refused> {
        let refused = |what: String, e: std::io::Error| Refused {
            step: Step::Host,
            error: std::io::Error::other(format!("{what}: {e}")),
        };
        setup::furnish(&self.given).map_err(|(what, e)| refused(what, e))?;
        for setting in &self.given {
            let HostSetting::Busy(busy) = setting else {
                continue;
            };
            if self.hosted.is_ruled {
                // The model has it; clients come to these.
                let place = self.hosted.described.busy.iter().position(|b| b == busy);
                let place = place.and_then(|n| u8::try_from(n).ok());
                let listeners = match busy.is_udp {
                    true => Vec::new(),
                    false => network::listeners(),
                };
                let held = listeners.iter().try_for_each(|fd| daemon.hold(fd, place));
                held.map_err(|e| refused(format!("busy {busy}"), e))?;
                continue;
            }
            let (kind, addr) = busy.place(self.hosted.described.host.has_ipv6);
            let options: Vec<_> = [
                (BindOptions::REUSEADDR, libc::SOL_SOCKET, libc::SO_REUSEADDR),
                (BindOptions::REUSEPORT, libc::SOL_SOCKET, libc::SO_REUSEPORT),
                (BindOptions::V6ONLY, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
            ]
            .into_iter()
            .filter(|(bit, ..)| busy.options.has(*bit))
            .map(|(_, level, name)| (level, name))
            .collect();
            network::hold(kind, addr.write().bytes(), &options)
                .and_then(|fd| daemon.hold(&fd, None))
                .map_err(|e| refused(format!("busy {busy}"), e))?;
        }
        Ok(())
    }
}
