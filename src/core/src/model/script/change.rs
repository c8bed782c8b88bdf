//! What a script says besides calls: of hosts, settings, processes, files.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::FileLine;
use super::parse::{number, on_off};
use crate::model::host::{Route, V4, V6};
use crate::model::{Generation, Host};
use crate::policy::{HostSetting, Personality};

/// Network namespaces that a script may have besides the first.
pub const MOST_SPACES: usize = 4;

/// A line of a script that is not a call. It counts from where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The line as text.
    pub text: String,
    /// What it says.
    pub what: Setting,
    /// Of which network namespace: 0 is the first.
    pub space: usize,
    /// The line of the file, from 1; 0 if there is none.
    pub at: u32,
}

/// What a line says that is not a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Setting {
    /// `host kernel NAME`
    Kernel(Generation),
    /// `host …` as in the policy language.
    Host(Vec<HostSetting>),
    /// `host device NAME ADDRESS/LEN…`
    Device(String, Vec<(IpAddr, u8)>),
    /// `host lo up`, `host lo down`
    Lo(bool),
    /// `host lo never-up`
    LoNeverUp,
    /// `sysctl NAME = VALUE`
    Sysctl(String, String),
    /// `file …`, `directory …`
    File(FileLine),
    /// A jail, a process or a network namespace, which stands in its list.
    Declared,
}

impl Change {
    /// A sysctl of the first network namespace.
    #[must_use]
    pub fn sysctl(name: &str, value: &str) -> Change {
        Change {
            text: format!("sysctl {name} = {value}"),
            what: Setting::Sysctl(name.to_owned(), value.to_owned()),
            space: 0,
            at: 0,
        }
    }

    /// Is there a process for it among those of the script?
    pub(super) fn describes_process(&self) -> bool {
        let privileged = |s: &HostSetting| matches!(s, HostSetting::Privileged(_));
        match &self.what {
            Setting::Host(settings) => settings.iter().any(privileged),
            Setting::Declared => self.text.starts_with("process "),
            _ => false,
        }
    }

    /// Makes the host what the line says.
    ///
    /// # Errors
    /// Says why that cannot be.
    pub fn apply(&self, host: &mut Host) -> Result<(), String> {
        match &self.what {
            Setting::Kernel(generation) => host.generation = *generation,
            Setting::Host(settings) => {
                settings.iter().try_for_each(|s| apply(host, s))?;
            }
            Setting::Device(name, addresses) => device(host, name, addresses)?,
            Setting::Lo(up) => {
                // addrconf_ifdown: IPv6 forgets the address. fib_sync_down_dev
                // leaves local routes as they are: IPv4's can be bound still.
                host.lo_is_down = !*up;
                if *up {
                    let mut others = *host;
                    without_lo(&mut others);
                    let fresh = Host::loopback(host.generation);
                    host.has_local_table = true;
                    host.v4 = fresh.v4;
                    host.v6 = fresh.v6;
                    let fits = others.v4.as_slice().iter().all(|a| host.v4.push(*a));
                    if !fits || !others.v6.as_slice().iter().all(|a| host.v6.push(*a)) {
                        return Err(NO_ROOM.to_owned());
                    }
                } else {
                    host.v6.retain(|a| a.dev != 1);
                }
            }
            Setting::LoNeverUp => {
                without_lo(host);
                host.lo_is_down = true;
                host.has_local_table = !host.v4.as_slice().is_empty();
            }
            Setting::Sysctl(name, value) => sysctl(host, name, value)?,
            Setting::File(_) | Setting::Declared => {}
        }
        Ok(())
    }
}

const NO_ROOM: &str = "a host has at most 32 addresses of each family";

fn without_lo(host: &mut Host) {
    host.v4.retain(|a| a.dev != 1);
    host.v6.retain(|a| a.dev != 1);
}

/// A device, and more addresses of it.
fn device(host: &mut Host, name: &str, addresses: &[(IpAddr, u8)]) -> Result<(), String> {
    let index = match host.device_named(name.as_bytes()) {
        Some(index) => index,
        None => {
            let devices = host.devices.as_slice().iter();
            let index = devices.map(|d| d.index).max().unwrap_or(0).max(1) + 1;
            if !host.add_device(index, name.as_bytes(), false) {
                return Err("a host has at most 16 devices".to_owned());
            }
            index
        }
    };
    for (ip, prefix) in addresses {
        let (fits, route) = match ip {
            IpAddr::V4(v4) => {
                let a = V4 {
                    addr: u32::from(*v4),
                    prefix: *prefix,
                    dev: index,
                };
                host.has_local_table = true;
                (host.v4.push(a), Route::connected(&a))
            }
            IpAddr::V6(v6) => {
                let a = V6 {
                    addr: v6.octets(),
                    dev: index,
                    tentative: false,
                };
                (host.v6.push(a), Route::connected6(&a, *prefix))
            }
        };
        // What has no room is not known.
        host.has_routes &= host.routes.push(route);
        if !fits {
            return Err(NO_ROOM.to_owned());
        }
    }
    Ok(())
}

/// What a `host` line of the policy language says, on a [`Host`].
///
/// # Errors
///
/// The host has no room for so many addresses.
pub fn apply(host: &mut Host, setting: &HostSetting) -> Result<(), String> {
    match setting {
        HostSetting::Cid(cid) => host.vsock.cid = Some(*cid),
        // The model has one host.
        HostSetting::Fabric(_)
        | HostSetting::VsockUds(_)
        | HostSetting::VsockGuest(_)
        | HostSetting::VsockPort(..)
        | HostSetting::Share(_)
        | HostSetting::Lease(_) => {}
        HostSetting::Addresses(list) => {
            // The first device that is not lo.
            let first = host.devices.as_slice().iter().find(|d| !d.loopback);
            let name = first.map_or("eth0".into(), |d| d.name().to_owned());
            device(host, &name, list)?;
        }
        HostSetting::Personality(Personality::Linux) => {
            if host.generation.is_freebsd() {
                host.generation = Generation::Linux6_18;
            }
        }
        HostSetting::Personality(Personality::FreeBsd) => {
            if !host.generation.is_freebsd() {
                host.generation = Generation::FreeBsd14_3;
            }
        }
        HostSetting::Privileged(_) => {}
        HostSetting::UnprivilegedStart(n) => host.sysctl.unprivileged_start = *n,
        HostSetting::AutomaticPorts(lo, hi) => host.sysctl.local_port_range = (*lo, *hi),
        HostSetting::Kernel(generation) => host.generation = *generation,
        HostSetting::Device(name, list) => device(host, name, list)?,
        HostSetting::NoIpv6 => {
            host.has_ipv6 = false;
            host.v6.clear();
        }
        // Sockets are not of the host.
        HostSetting::Busy(_) => {}
        HostSetting::Sysctl(name, value) => sysctl(host, name, value)?,
    }
    Ok(())
}

/// Sets a sysctl by its name.
pub(super) fn sysctl(host: &mut Host, name: &str, value: &str) -> Result<(), String> {
    let s = &mut host.sysctl;
    let flag = || on_off(value);
    let pair = || {
        let (a, b) = value
            .split_once(' ')
            .ok_or_else(|| format!("expected two numbers, not '{value}'"))?;
        Ok::<_, String>((a.to_owned(), b.to_owned()))
    };
    match name {
        "net.ipv4.ip_local_port_range" => {
            let (a, b) = pair()?;
            let range = (number(&a, "port")?, number(&b, "port")?);
            if range.0 == 0 || range.0 > range.1 {
                return Err("the range is upside down".to_owned());
            }
            s.local_port_range = range;
        }
        "net.ipv4.ip_local_reserved_ports" => {
            s.reserved_ports.clear();
            for part in value.split(',').filter(|p| !p.is_empty()) {
                let (a, b) = part.split_once('-').unwrap_or((part, part));
                if !s
                    .reserved_ports
                    .push((number(a, "port")?, number(b, "port")?))
                {
                    return Err("at most 32 ranges are kept".to_owned());
                }
            }
        }
        "net.ipv4.ip_unprivileged_port_start" => s.unprivileged_start = number(value, "port")?,
        "net.ipv4.ip_nonlocal_bind" => s.nonlocal_bind = flag()?,
        "net.ipv6.ip_nonlocal_bind" => s.nonlocal_bind6 = flag()?,
        "net.ipv4.ip_autobind_reuse" => s.autobind_reuse = flag()?,
        "net.ipv6.bindv6only" => s.bindv6only = flag()?,
        "net.ipv4.ping_group_range" => {
            let (a, b) = pair()?;
            s.ping_groups = (number(&a, "group")?, number(&b, "group")?);
        }
        // sysctl_net_ipport_check: what is outside of these is brought inside.
        "net.inet.ip.portrange.first" | "net.inet.ip.portrange.last" => {
            let port = number::<u16>(value, "port")?.max(1024);
            let mut range = s.first_and_last();
            match name.ends_with("first") {
                true => range.0 = port,
                false => range.1 = port,
            }
            s.local_port_range = range;
        }
        "net.inet.ip.portrange.hifirst" => {
            s.high_ports.0 = number::<u16>(value, "port")?.max(1024);
        }
        "net.inet.ip.portrange.hilast" => {
            s.high_ports.1 = number::<u16>(value, "port")?.max(1024);
        }
        "net.inet.ip.portrange.lowfirst" => {
            s.low_ports.0 = number::<u16>(value, "port")?.clamp(1, 1023);
        }
        "net.inet.ip.portrange.lowlast" => {
            s.low_ports.1 = number::<u16>(value, "port")?.clamp(1, 1023);
        }
        "net.inet.ip.portrange.reservedhigh" => {
            s.unprivileged_start = number::<u16>(value, "port")?.saturating_add(1);
        }
        "net.inet.ip.portrange.reservedlow" => s.reserved_low = number(value, "port")?,
        "net.fibs" => s.fibs = number(value, "number of routing tables")?,
        _ => return Err(format!("the model does not know sysctl '{name}'")),
    }
    Ok(())
}
