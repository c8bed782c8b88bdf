//! Ports that take a privilege, and programs without it: `--low-ports`.

use bindgate_os::network;

use crate::commands::policy::Source;
use crate::complain;

/// The port below which binds take a privilege, in the network that a run has.
pub fn start(is_sealed: bool) -> u16 {
    match is_sealed && !network::are_settings_fixed() {
        true => 0,
        false => network::unprivileged_start(),
    }
}

/// The rule that `--low-ports` stands for: the last one of a policy.
pub fn rule(above: Option<u16>, is_sealed: bool, has_own_ports: bool) -> Option<Source> {
    let above = above?;
    if has_own_ports {
        complain("--low-ports: there is nothing to do: with --isolate every port is free");
        return None;
    }
    if start(is_sealed) <= 1 {
        complain(match is_sealed {
            true => {
                "--low-ports: there is nothing to do: in the run's own network every port is free"
            }
            false => {
                "--low-ports: there is nothing to do: ip_unprivileged_port_start gives every port \
                 to everybody here"
            }
        });
        return None;
    }
    Some(written(above))
}

/// The rule as a policy has it.
pub fn written(above: u16) -> Source {
    Source {
        name: "--low-ports".into(),
        text: format!("move bind {{tcp,udp}} *:reserved to *:+{above} unprivileged followed"),
    }
}
