//! The target of a `move`: what follows `to`.

use alloc::format;
use alloc::string::ToString;
use core::net::IpAddr;

use super::ast::{CidSet, Kinds, PortSet, TargetHost, TargetPort, TargetSpec};
use super::diag::nearest;
use super::lex::Word;
use super::part::{Parsed, Part};
use super::terms::{cid, host_port, ip_prefix, number, port_set};
use crate::addr::VMADDR_ANY;

pub(super) fn target(word: &Word, kinds: Kinds) -> Parsed<TargetSpec> {
    let whole = Part {
        text: &word.text,
        at: 0,
    };
    let strip = |prefix: &str| {
        let rest = word.text.strip_prefix(prefix)?;
        (word.bare >= prefix.len()).then_some(Part {
            text: rest,
            at: prefix.len(),
        })
    };
    if let Some(rest) = strip("unix:") {
        return unix_target(rest, word.bare);
    }
    let (part, vsock) = match strip("vsock:") {
        Some(rest) => (rest, true),
        None => (whole, false),
    };
    let Some((host, port)) = host_port(part) else {
        let s = if part.text.starts_with(['/', '@']) {
            Some(format!("unix:{}", part.text))
        } else if number(part.text).is_some() {
            Some(format!("*:{}", part.text))
        } else {
            None
        };
        return whole.fault(
            format!("'{}' is not a target", whole.text),
            "ADDRESS:PORT, vsock:CID:PORT, unix:/PATH or unix:@NAME",
            s,
        );
    };
    if host.text.is_empty() {
        let message = format!("the address is missing before '{}'", part.text);
        let expected = "'*' to keep the address, or another one";
        return whole.fault(message, expected, Some(format!("*{}", part.text)));
    }
    let fam = kinds.families();
    let host = match host.text {
        "*" => TargetHost::Keep,
        "loopback" if !vsock => TargetHost::Loopback,
        _ if vsock => match cid(host)? {
            CidSet::Id(n) => TargetHost::Cid(n),
            CidSet::Wild => TargetHost::Cid(VMADDR_ANY),
            CidSet::Any => TargetHost::Keep,
        },
        _ => match ip_prefix(host)? {
            (IpAddr::V4(a), 32) => TargetHost::V4(a.octets()),
            (IpAddr::V6(a), 128) => TargetHost::V6(a.octets()),
            _ => {
                return host.fault(
                    format!("'{}' is more than one address", host.text),
                    "one address",
                    None,
                );
            }
        },
    };
    let (max, min) = if matches!(host, TargetHost::Cid(_)) || (fam.vsock && !fam.ip) {
        (VMADDR_ANY - 1, 0)
    } else {
        (u32::from(u16::MAX), 1)
    };
    let offset = |sign: i64, text: &str| match number(text) {
        Some(n) => Ok(TargetPort::Offset(sign * i64::from(n))),
        None => port.fault(
            format!("'{}' is not an offset", port.text),
            "a number after the sign",
            None,
        ),
    };
    let port = match port.text {
        "*" => TargetPort::Keep,
        "auto" => TargetPort::Auto,
        text => match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(n), _) => offset(1, n)?,
            (_, Some(n)) => offset(-1, n)?,
            _ => match port_set(port, max, min) {
                Ok(PortSet::Range(a, b)) if a == b => TargetPort::Number(a),
                Err(f) if number(text) == Some(0) => return Err(f),
                _ => {
                    return port.fault(
                        format!("'{text}' is not a port for a target"),
                        "a number, '+N' or '-N', 'auto', or '*' to keep the port",
                        nearest(text, ["auto", "*"]),
                    );
                }
            },
        },
    };
    Ok(TargetSpec::Port { host, port })
}

fn unix_target(part: Part<'_>, bare: usize) -> Parsed<TargetSpec> {
    let (name, spec) = match part.text.strip_prefix('@') {
        Some(name) if bare > part.at => (name, TargetSpec::Abstract(name.to_string())),
        _ => (part.text, TargetSpec::Path(part.text.to_string())),
    };
    if name.is_empty() || name.contains('\0') {
        return part.fault(
            "a Unix target without a name".to_string(),
            "unix:/PATH or unix:@NAME",
            None,
        );
    }
    let mut chars = name.char_indices();
    while let Some((i, c)) = chars.next() {
        if c != '%' {
            continue;
        }
        let next = chars.next();
        if !matches!(next, Some((_, 'p' | 'a' | 't' | '%'))) {
            let at = part.at + (part.text.len() - name.len()) + i;
            let end = next.map_or(1, |(_, c)| 1 + c.len_utf8());
            let text = name.get(i..i + end).unwrap_or("%");
            return Part { text, at }.fault(
                format!("unknown placeholder '{text}'"),
                "%p (port), %a (address), %t (kind) or %% (a percent sign)",
                None,
            );
        }
    }
    Ok(spec)
}
