//! The lines that are not rules: `default`, `mode`, `host`.

use alloc::format;
use alloc::vec::Vec;

use super::ast::{DefaultLine, HostLine, HostSetting, Personality, Service};
use super::diag::nearest;
use super::lex::Word;
use super::parse::Line;
use super::{MAX_FABRIC, MAX_LEASES, MAX_VSOCK_PATH, Mode, Op, errno, terms};
use crate::model::Generation;
use crate::model::script::{Busy, check_sysctl};

const HOST_WORDS: &[&str] = &[
    "cid",
    "fabric",
    "vsock-uds",
    "vsock-guest",
    "vsock-port",
    "share",
    "lease",
    "address",
    "personality",
    "unprivileged",
    "privileged",
    "unprivileged-start",
    "automatic-ports",
    "kernel",
    "device",
    "no-ipv6",
    "busy",
    "sysctl",
];

/// The same as a sentence.
const HOST_SETTINGS: &str = "cid, fabric, vsock-uds, vsock-guest, vsock-port, share, lease, address, device, no-ipv6, busy, kernel, personality, unprivileged, privileged, unprivileged-start, automatic-ports or sysctl";

const PATH: &str = "an absolute path of at most 94 bytes, without '.' and '..'";
const PORT_AND_PATH: &str = "a port and an absolute path: 5000=/run/port.sock";

/// A path that is spelt in one way only: a name with a `.` in it says something else.
fn is_path(path: &str) -> bool {
    let mut parts = path.split('/');
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    path.len() <= MAX_VSOCK_PATH
        && !path.contains('\0')
        && parts.next() == Some("")
        && parts.clone().next().is_some()
        && parts.all(is_part)
}

/// `dev_valid_name`
fn is_device(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    (1..=15).contains(&name.len()) && name.chars().all(is_plain) && !matches!(name, "." | "..")
}

impl HostSetting {
    /// Is it about the vsock host that the run is?
    #[must_use]
    pub fn is_vsock(&self) -> bool {
        matches!(
            self,
            HostSetting::Cid(_)
                | HostSetting::Fabric(_)
                | HostSetting::VsockUds(_)
                | HostSetting::VsockGuest(_)
                | HostSetting::VsockPort(..)
        )
    }

    /// Is it about a host of the model's: addresses, a kernel, privileges?
    #[must_use]
    pub fn is_described(&self) -> bool {
        !self.is_vsock() && !matches!(self, HostSetting::Share(_) | HostSetting::Lease(_))
    }

    /// May it stand beside another one of its kind?
    fn is_beside(&self, other: &HostSetting) -> bool {
        match (self, other) {
            (HostSetting::Addresses(_) | HostSetting::Device(..), _) => true,
            (HostSetting::Share(a), HostSetting::Share(b)) => a != b,
            (HostSetting::Busy(a), HostSetting::Busy(b)) => a != b,
            (HostSetting::Sysctl(a, _), HostSetting::Sysctl(b, _)) => a != b,
            (HostSetting::VsockPort(a, p), HostSetting::VsockPort(b, q)) => a != b && p != q,
            _ => false,
        }
    }
}

impl<'p> Line<'p, '_, '_> {
    pub(super) fn default(&mut self, head: &Word) {
        let Some(w) = self.next() else {
            return self.missing("allow or deny");
        };
        let mut deny = None;
        match w.keyword() {
            Some("allow") => {}
            Some("deny") => {
                deny = Some(errno::EACCES);
                if let Some(e) = self.peek()
                    && e.keyword() != Some("for")
                {
                    self.pos += 1;
                    if e.keyword() == Some("with") {
                        match self.next() {
                            Some(e) => deny = self.errno(e).or(deny),
                            None => return self.missing("an error number"),
                        }
                    } else {
                        deny = self.errno(e).or(deny);
                    }
                }
            }
            _ => return self.wrong(w, "default", "allow or deny", ["allow", "deny"]),
        }
        let mut ops = Vec::new();
        let named = self.peek().is_some();
        match self.next() {
            None => ops.extend([Op::Bind, Op::Listen]),
            Some(w) if w.keyword() == Some("for") => {
                if self.peek().is_none() {
                    return self.missing("operations: bind, listen, connect, socket, exec");
                }
                while let Some(w) = self.next() {
                    let mut at = 0;
                    for name in w.text.split(',') {
                        let here = at;
                        at += name.len() + 1;
                        if name.is_empty() {
                            continue;
                        }
                        match Op::ALL.iter().find(|o| o.name() == name) {
                            Some(op) => ops.push(*op),
                            None => {
                                let span = w.span(here, here + name.len());
                                let message = format!("unknown operation '{name}'");
                                let s = nearest(name, Op::ALL.iter().map(|o| o.name()));
                                let expected = "socket, bind, listen, connect or exec";
                                self.p.error(span, message, expected, s);
                            }
                        }
                    }
                }
            }
            Some(w) => return self.wrong(w, "word", "'for' or the end of the line", ["for"]),
        }
        let at = self.p.at(Self::span(head));
        for op in ops {
            if let Some(old) = self.p.policy.defaults.get(op) {
                let message = format!(
                    "the default for {} is already set at {}",
                    op.name(),
                    self.p.place(old.at)
                );
                self.p.error(Self::span(head), message, "", None);
            } else {
                let line = DefaultLine { deny, named, at };
                self.p.policy.defaults.set(op, line);
            }
        }
    }

    pub(super) fn mode(&mut self, head: &Word) {
        let expected = "enforce or observe";
        let Some(w) = self.next() else {
            return self.missing(expected);
        };
        let mode = match w.keyword() {
            Some("enforce") => Mode::Enforce,
            Some("observe") => Mode::Observe,
            _ => return self.wrong(w, "mode", expected, ["enforce", "observe"]),
        };
        if let Some(old) = self.p.mode_at {
            let message = format!("the mode is already set at {}", self.p.place(old));
            self.p.error(Self::span(head), message, "", None);
        } else {
            self.p.policy.mode = Some(mode);
            self.p.mode_at = Some(self.p.at(Self::span(head)));
        }
        self.nothing_more();
    }

    pub(super) fn host(&mut self, head: &Word) {
        let expected = HOST_SETTINGS;
        let Some(w) = self.next() else {
            return self.missing(expected);
        };
        let Some(setting) = self.host_setting(w, expected) else {
            return;
        };
        let kind = |s: &HostSetting| core::mem::discriminant(s);
        let twice = self
            .p
            .policy
            .host
            .iter()
            .find(|h| kind(&h.setting) == kind(&setting) && !setting.is_beside(&h.setting));
        if let Some(old) = twice {
            let message = format!(
                "'host {}' is already set at {}",
                w.text,
                self.p.place(old.at)
            );
            self.p.error(Self::span(w), message, "", None);
            return;
        }
        let at = self.p.at(Self::span(head));
        self.p.policy.host.push(HostLine { setting, at });
    }

    fn host_setting(&mut self, w: &'p Word, expected: &str) -> Option<HostSetting> {
        let setting = match w.keyword() {
            Some("unprivileged") => HostSetting::Privileged(false),
            Some("privileged") => HostSetting::Privileged(true),
            Some("no-ipv6") => HostSetting::NoIpv6,
            Some(word @ ("kernel" | "busy" | "sysctl")) => {
                return self.words_of_host(word);
            }
            Some(word) if HOST_WORDS.contains(&word) => {
                let Some(v) = self.next() else {
                    self.missing("a value");
                    return None;
                };
                match word {
                    "cid" => match terms::number(&v.text) {
                        Some(n) if (2..u32::MAX).contains(&n) => HostSetting::Cid(n),
                        _ => {
                            self.wrong(v, "context id", "a number from 2 to 4294967294", []);
                            return None;
                        }
                    },
                    "vsock-uds" if is_path(&v.text) => HostSetting::VsockUds(v.text.clone()),
                    "vsock-uds" => {
                        self.wrong(v, "path", PATH, []);
                        return None;
                    }
                    "vsock-guest" => match terms::number(&v.text) {
                        Some(n) if n > 2 && n < u32::MAX => HostSetting::VsockGuest(n),
                        _ => {
                            self.wrong(v, "context id", "a number from 3 to 4294967294", []);
                            return None;
                        }
                    },
                    "vsock-port" => {
                        let (port, path) = v.text.split_once('=').unwrap_or(("", ""));
                        match terms::number(port).filter(|port| *port < u32::MAX) {
                            Some(port) if is_path(path) => {
                                HostSetting::VsockPort(port, path.into())
                            }
                            _ => {
                                self.wrong(v, "port and path", PORT_AND_PATH, []);
                                return None;
                            }
                        }
                    }
                    "lease" => match terms::number(&v.text) {
                        Some(n) if (1..=MAX_LEASES).contains(&n) => HostSetting::Lease(n as u16),
                        _ => {
                            self.wrong(v, "number of ports", "a number from 1 to 4096", []);
                            return None;
                        }
                    },
                    "fabric" => match v.text.as_bytes() {
                        path if path.first() == Some(&b'/')
                            && path.len() <= MAX_FABRIC
                            && !path.contains(&0) =>
                        {
                            HostSetting::Fabric(v.text.clone())
                        }
                        _ => {
                            let expected = "an absolute path of at most 72 bytes";
                            self.wrong(v, "directory", expected, []);
                            return None;
                        }
                    },
                    "share" => HostSetting::Share(self.service(v)?),
                    "personality" => match v.keyword() {
                        Some("linux") => HostSetting::Personality(Personality::Linux),
                        Some("freebsd") => HostSetting::Personality(Personality::FreeBsd),
                        _ => {
                            let names = ["linux", "freebsd"];
                            self.wrong(v, "personality", "linux or freebsd", names);
                            return None;
                        }
                    },
                    "unprivileged-start" => match terms::number(&v.text) {
                        Some(n) if n <= 65535 => HostSetting::UnprivilegedStart(n as u16),
                        _ => {
                            self.wrong(v, "port", "a number from 0 to 65535", []);
                            return None;
                        }
                    },
                    "automatic-ports" => {
                        let (a, b) = v.text.split_once('-').unwrap_or(("", ""));
                        match (terms::number(a), terms::number(b)) {
                            (Some(a), Some(b)) if a >= 1 && a <= b && b <= 65535 => {
                                HostSetting::AutomaticPorts(a as u16, b as u16)
                            }
                            _ => {
                                self.wrong(v, "range", "a range like 32768-60999", []);
                                return None;
                            }
                        }
                    }
                    _ => {
                        let mut all = Vec::new();
                        let (mut word, device) = match word {
                            "device" if is_device(&v.text) => (self.next(), Some(&v.text)),
                            "device" => {
                                self.wrong(v, "device", "a name like eth0", []);
                                return None;
                            }
                            _ => (Some(v), None),
                        };
                        while let Some(v) = word {
                            match terms::host_address(v) {
                                Ok(list) => all.extend(list),
                                Err(f) => {
                                    self.fault(v, f);
                                    return None;
                                }
                            }
                            word = self.next();
                        }
                        match device {
                            Some(name) => HostSetting::Device(name.clone(), all),
                            None => HostSetting::Addresses(all),
                        }
                    }
                }
            }
            _ => {
                self.wrong(w, "host setting", expected, HOST_WORDS.iter().copied());
                return None;
            }
        };
        self.nothing_more();
        Some(setting)
    }

    /// `tcp 127.0.0.1:5432`
    fn service(&mut self, kind: &'p Word) -> Option<Service> {
        let is_udp = match kind.keyword() {
            Some("tcp") => false,
            Some("udp") => true,
            _ => {
                self.wrong(kind, "kind of service", "tcp or udp", ["tcp", "udp"]);
                return None;
            }
        };
        let Some(address) = self.next() else {
            self.missing("the address and port of a service: 127.0.0.1:5432 or [::1]:5432");
            return None;
        };
        match terms::service(address) {
            Ok((ip, port)) => Some(Service { is_udp, ip, port }),
            Err(fault) => {
                self.fault(address, fault);
                None
            }
        }
    }

    /// `host kernel`, `host busy` and `host sysctl`, whose values are several words.
    fn words_of_host(&mut self, word: &str) -> Option<HostSetting> {
        let mut values = Vec::new();
        while let Some(v) = self.next() {
            values.push(v);
        }
        let (Some(first), Some(last)) = (values.first(), values.last()) else {
            self.missing(match word {
                "kernel" => "a kernel, like linux 6.1 or freebsd 14.3",
                "busy" => "a kind and an address, like tcp *:8080",
                _ => "NAME = VALUE",
            });
            return None;
        };
        let words: Vec<&str> = values.iter().map(|v| v.text.as_str()).collect();
        let setting = match word {
            "kernel" => {
                let name = words.join(" ");
                Generation::of_name(&name).map(HostSetting::Kernel).ok_or_else(|| {
                    let all = Generation::ALL.map(|(name, _)| name).join(", ");
                    format!("unknown kernel '{name}'; known are: {all}, and any other release of Linux")
                })
            }
            "busy" => Busy::parse(&words).map(HostSetting::Busy),
            _ => match words.as_slice() {
                [name, "=", value @ ..] if !value.is_empty() => {
                    let value = value.join(" ");
                    check_sysctl(name, &value).map(|()| HostSetting::Sysctl((*name).into(), value))
                }
                _ => Err("expected: host sysctl NAME = VALUE".into()),
            },
        };
        match setting {
            Ok(setting) => Some(setting),
            Err(message) => {
                let ((from, _), (at, width)) = (Self::span(first), Self::span(last));
                self.p
                    .error((from, (at + width).saturating_sub(from)), message, "", None);
                None
            }
        }
    }
}
