//! The lines about the host that a run is on: can there be one?

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::ast::{At, HostLine, HostSetting, Policy};
use super::diag::{Diagnostic, Severity};
use crate::model::script::Described;
use crate::model::{Generation, OwnedNet};

impl Policy {
    /// The host that its lines describe, on a machine with this kernel; `None`
    /// where they say nothing of addresses, the kernel or privileges.
    ///
    /// # Errors
    /// Where there can be no such host.
    pub fn described(&self, running: Generation) -> Result<Option<Described>, Vec<Diagnostic>> {
        let lines = &self.host;
        if !lines.iter().any(|h| h.setting.is_described()) {
            return Ok(None);
        }
        let wrong = |at: At, why: String| vec![Diagnostic::at(self, at, Severity::Error, why)];
        let at = |n: usize| lines.get(n).map_or(At::default(), |h| h.at);
        let described = Described::of(lines, running).map_err(|(n, why)| wrong(at(n), why))?;
        if !described.host.has_ipv6 {
            let has_six = |h: &&HostLine| match &h.setting {
                HostSetting::Addresses(all) | HostSetting::Device(_, all) => {
                    all.iter().any(|(ip, _)| ip.is_ipv6())
                }
                HostSetting::Busy(busy) => busy.ip.is_some_and(|ip| ip.is_ipv6()),
                _ => false,
            };
            if let Some(h) = lines.iter().find(has_six) {
                let why = "there is no IPv6 on a host with the line 'host no-ipv6'";
                return Err(wrong(h.at, why.into()));
            }
        }
        let mut net = OwnedNet::new(described.host, lines.len() as u32 + 1);
        if let Err((busy, why)) = described.enter_busy(&mut net.net()) {
            let is_it = |h: &HostLine| h.setting == HostSetting::Busy(busy);
            let line = lines.iter().position(is_it).unwrap_or(0);
            return Err(wrong(at(line), format!("nobody can be bound there: {why}")));
        }
        Ok(Some(described))
    }
}
