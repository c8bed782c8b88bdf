//! `EACCES` and `EPERM`: who may not; `EADDRNOTAVAIL`: what is not there.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::facts::{Facts, Question};
use super::words::{kind_name, wide};
use super::{Cause, Why, by_check};
use crate::addr::{Addr, af};
use crate::errno::Errno;
use crate::model::Host;
use crate::socket::BindOptions;

/// The lowest vsock port that anybody may bind.
const VSOCK_FREE: u32 = 1024;

pub(super) fn explain(q: &Question, f: &Facts) -> Why {
    let (port, kind) = (q.addr.port().unwrap_or(0), kind_name(q.kind));
    let start = match (q.kind.domain, &f.host) {
        (af::VSOCK, _) => Some(VSOCK_FREE),
        (af::INET | af::INET6, Some(host)) => Some(u32::from(host.sysctl.unprivileged_start)),
        _ => None,
    };
    let is_low = port != 0 && start.is_some_and(|start| port < start);
    if !(is_low && q.errno == Errno::EACCES) {
        return forbidden(q, f, start.filter(|_| port != 0));
    }
    let start = start.unwrap_or(0);
    let by = match q.kind.domain {
        af::VSOCK => String::from("vsock ports below 1024 are"),
        _ => format!("net.ipv4.ip_unprivileged_port_start is {start}"),
    };
    match f.may_bind_low {
        Some(false) => {
            let text =
                format!("port {port} is privileged ({by}), and CAP_NET_BIND_SERVICE is missing");
            let mut why = Why::of(Cause::Privilege, text);
            if q.kind.domain != af::VSOCK {
                let high = port + 10_000;
                why.mends = Vec::from([
                    format!("bindgate run -r 'move bind {kind} *:{port} to *:{high}' -- PROGRAM"),
                    "bindgate run --low-ports -- PROGRAM".to_string(),
                    format!(
                        "as root: bindgate run --user USER -r 'allow bind {kind} *:{port}' -- PROGRAM"
                    ),
                    format!("as root: sysctl net.ipv4.ip_unprivileged_port_start={port}"),
                ]);
            }
            why
        }
        Some(true) => forbidden(q, f, Some(start)),
        None => {
            let text = format!(
                "port {port} is privileged ({by}), and whether CAP_NET_BIND_SERVICE was there \
                 cannot be seen"
            );
            let mut why = Why::of(Cause::Unknown, text);
            why.unseen.push(
                "the capabilities of the process, because it has ended or is somebody else's"
                    .to_string(),
            );
            why
        }
    }
}

/// Neither a rule nor a privilege.
fn forbidden(q: &Question, f: &Facts, start: Option<u32>) -> Why {
    if f.host.is_none() && q.kind.domain != af::VSOCK && f.may_bind_low != Some(true) {
        let mut why = by_check(q, f);
        why.unseen
            .push("the settings of the network, because it may not be looked into".to_string());
        return why;
    }
    if q.kind.domain == af::UNIX {
        let text = "the file system refuses the path: the directory may not be written to";
        return Why::of(Cause::Check, text.to_string());
    }
    let mut why = Why::of(
        Cause::Forbidden,
        "refused by something that cannot be seen from outside: a security module, Landlock, a \
         control group's program or a seccomp filter"
            .to_string(),
    );
    if let Some(start) = start {
        let port = q.addr.port().unwrap_or(0);
        match (port < start, f.may_bind_low) {
            (true, Some(true)) => {
                why.details
                    .push(format!("no privilege is missing for port {port}"));
            }
            (true, _) => {}
            (false, _) => why.details.push(format!(
                "port {port} takes no privilege: those from {start} on are free"
            )),
        }
    }
    match f.filters {
        Some(0) => why
            .details
            .push("the process is under no seccomp filter".to_string()),
        Some(n) => {
            let s = if n == 1 { "" } else { "s" };
            why.details
                .push(format!("the process is under {n} seccomp filter{s}"));
        }
        None => {}
    }
    if !f.modules.is_empty() {
        why.details
            .push(format!("security modules of this kernel: {}", f.modules));
    }
    why.unseen
        .push("which of them refused, because the kernel does not tell".to_string());
    why
}

/// The address is not there.
pub(super) fn not_here(q: &Question, f: &Facts) -> Why {
    if let Addr::Vsock { cid, .. } = q.addr {
        return no_cid(q, f, cid);
    }
    let (Some(host), Some(ip)) = (f.host.as_deref(), wide(&q.addr)) else {
        let mut why = by_check(q, f);
        why.unseen.push(
            "the addresses of the host, because its network may not be looked into".to_string(),
        );
        return why;
    };
    if has(host, &q.addr, q.device) {
        let tentative = host
            .v6
            .as_slice()
            .iter()
            .any(|a| a.addr == ip && a.tentative);
        let text = match tentative {
            true => format!(
                "{} is tentative: its duplicate address detection is not over",
                shown(ip)
            ),
            false => format!("{} is here by now, and was not then", shown(ip)),
        };
        return Why::of(
            if tentative {
                Cause::NotHere
            } else {
                Cause::NotYet
            },
            text,
        );
    }
    if let Some((_, device)) = elsewhere(host, &q.addr, q.device) {
        let text = format!(
            "{} is an address of another device ({device}) than the socket's",
            shown(ip)
        );
        return Why::of(Cause::NotHere, text);
    }
    let mut why = if f.has_more_addresses {
        let mut why = Why::of(
            Cause::Unknown,
            format!("{} is none of the addresses that were looked at", shown(ip)),
        );
        why.unseen
            .push("all addresses, because this host has more than are looked at".to_string());
        why
    } else {
        Why::of(Cause::NotHere, not_there(host, &q.addr, ip))
    };
    why.details.push(addresses(host));
    let port = q.addr.port().unwrap_or(0);
    let kind = kind_name(q.kind);
    if let Some(near) = nearest(host, &q.addr) {
        why.mends.push(format!("bind {near}"));
        let from = q.addr.with_port(0);
        let (from, to) = (from.to_string(), near.with_port(0).to_string());
        let from = from.trim_end_matches('0');
        let to = to.trim_end_matches('0');
        why.mends.push(format!(
            "bindgate run -r 'move bind {kind} {from}{port} to {to}{port}' -- PROGRAM"
        ));
    }
    if !q.options.has(BindOptions::FREEBIND) || q.options.has(BindOptions::UNKNOWN) {
        why.mends.push(
            "set IP_FREEBIND here before the bind: it succeeds, and nobody reaches the socket \
             until the address is there"
                .to_string(),
        );
    }
    why
}

fn not_there(host: &Host, addr: &Addr, ip: [u8; 16]) -> String {
    let six = matches!(addr, Addr::Inet6 { .. }) && addr.ipv4().is_none();
    if six && host.v6.as_slice().is_empty() {
        return format!(
            "no device of this host has {}: it has no IPv6 address",
            shown(ip)
        );
    }
    format!("no device of this host has {}", shown(ip))
}

/// An address as people write it, without a port.
fn shown(ip: [u8; 16]) -> String {
    Ipv6Addr::from(ip).to_canonical().to_string()
}

fn has(host: &Host, addr: &Addr, device: u32) -> bool {
    match (addr.ipv4(), addr) {
        (Some(four), _) => {
            let four = u32::from_be_bytes(four);
            host.v4.as_slice().iter().any(|a| a.holds(four))
        }
        (None, Addr::Inet6 { ip, .. }) => {
            let mut all = host.v6.as_slice().iter();
            all.any(|a| a.addr == *ip && (device == 0 || a.dev == device))
        }
        _ => false,
    }
}

/// The device that has the address, where the socket's own has not.
fn elsewhere<'h>(host: &'h Host, addr: &Addr, device: u32) -> Option<(u32, &'h str)> {
    let Addr::Inet6 { ip, scope, .. } = addr else {
        return None;
    };
    let own = if device != 0 { device } else { *scope };
    let found = host.v6.as_slice().iter().find(|a| a.addr == *ip)?;
    let mut devices = host.devices.as_slice().iter();
    let device = devices.find(|d| d.index == found.dev && d.index != own)?;
    Some((device.index, device.name()))
}

/// The addresses that there are.
fn addresses(host: &Host) -> String {
    const NAMED: usize = 8;
    let four = host.v4.as_slice().iter().map(|a| match a.prefix {
        32 => Ipv4Addr::from(a.addr).to_string(),
        prefix => format!("{}/{prefix}", Ipv4Addr::from(a.addr)),
    });
    let six = host.v6.as_slice().iter();
    let six = six.map(|a| Ipv6Addr::from(a.addr).to_string());
    let all: Vec<_> = four.chain(six).collect();
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let named: Vec<_> = all.into_iter().take(NAMED).collect();
    match named.as_slice() {
        [] => "this host has no address".to_string(),
        named => format!("this host has {}{more}", named.join(", ")),
    }
}

/// The address of the host that has most leading bits in common with this one; the
/// loopback only if there is no other.
fn nearest(host: &Host, addr: &Addr) -> Option<Addr> {
    let port = u16::try_from(addr.port()?).ok()?;
    if let Some(four) = addr.ipv4() {
        let wanted = u32::from_be_bytes(four);
        let all = host.v4.as_slice().iter();
        let near = all.max_by_key(|a| {
            let is_own = a.addr >> 24 != 127;
            (is_own, (a.addr ^ wanted).leading_zeros())
        })?;
        // A whole network of lo's: its first address.
        let ip = match near.addr {
            0x7f00_0000 => 0x7f00_0001,
            ip => ip,
        };
        return Some(Addr::Inet {
            ip: ip.to_be_bytes(),
            port,
        });
    }
    let wanted = u128::from_be_bytes(wide(addr)?);
    let near = host.v6.as_slice().iter().max_by_key(|a| {
        let ip = u128::from_be_bytes(a.addr);
        (ip != 1, (ip ^ wanted).leading_zeros())
    })?;
    // What is of one link only takes more than an address.
    let is_link = near.addr.starts_with(&[0xfe, 0x80]);
    (!is_link).then(|| Addr::inet6(near.addr, port))
}

fn no_cid(q: &Question, f: &Facts, cid: u32) -> Why {
    let Some(host) = f.host.as_deref() else {
        return by_check(q, f);
    };
    let own = match host.vsock.cid {
        Some(own) => format!("this machine's is {own}"),
        None => "it has none, being no guest of a hypervisor that gives one".to_string(),
    };
    let text = match cid {
        2 => format!(
            "CID 2 is the host's, which is there to bind only with vhost_vsock loaded; {own}"
        ),
        1 => format!("CID 1 is there to bind only with vsock_loopback loaded; {own}"),
        cid => format!("no CID of this machine is {cid}: {own}"),
    };
    let mut why = Why::of(Cause::Cid, text);
    let port = q.addr.port().unwrap_or(0);
    why.mends = Vec::from([
        "bind VMADDR_CID_ANY".to_string(),
        format!("bindgate run --cid {} -- PROGRAM", cid.max(2)),
        format!("bindgate run -r 'move bind vsock *:{port} to unix:PATH' -- PROGRAM"),
    ]);
    why
}
