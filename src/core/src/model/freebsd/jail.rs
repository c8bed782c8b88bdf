//! Jails that share the host's network stack: `prison_check_af` and
//! `prison_local_ip4` of kern_jail.c, netinet/in_jail.c and netinet6/in6_jail.c.
//!
//! In outline: a jail has addresses of its own or none, and the default
//! permissions (`allow.reserved_ports`, no `allow.raw_sockets`). Who calls
//! bind(2) looks with the eyes of its own jail (`td_ucred`); what it sees are
//! the sockets that this jail has made (`inp_cred`, `prison_equal_ip4`,
//! `prison_equal_ip6`), whoever holds them by now. Which jail made a socket is
//! in its `dev`.

use crate::addr::af;
use crate::model::host::{Host, Jail};
use crate::model::net::{Ctx, LOOPBACK6, Net, unmapped};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No};

/// `127.0.0.1`
const INADDR_LOOPBACK: u32 = 0x7f00_0001;
fn jail(host: &Host, number: u32) -> Option<&Jail> {
    host.jails.as_slice().get(number.checked_sub(1)? as usize)
}

/// What the tables call the caller's jail.
pub(super) fn number(host: &Host, cred: &Cred) -> u32 {
    match jail(host, cred.jail) {
        Some(_) => cred.jail.saturating_add(1),
        None => 1,
    }
}

/// The address that a jail turns `asked` into: its only one for the wildcard,
/// its first one for the loopback address that it does not have.
///
/// # Errors
/// Whether the jail has no address at all, or this one is foreign.
fn local<A: Copy + PartialEq>(
    own: &[A],
    asked: A,
    any: A,
    loopback: A,
    lone: bool,
) -> Result<A, (Step, Errno)> {
    match own {
        [] => Err((Step::BsdJailFamily, Errno::EAFNOSUPPORT)),
        [only] if lone && asked == any => Ok(*only),
        _ if asked == any || own.contains(&asked) => Ok(asked),
        [first, ..] if asked == loopback => Ok(*first),
        _ => Err((Step::BsdJailForeign, Errno::EADDRNOTAVAIL)),
    }
}

impl Net<'_> {
    /// `prison_check_af`: has the caller's jail an address of this family?
    pub(super) fn prison_check_af(&self, domain: u16, cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let none = jail(self.host, cred.jail).is_some_and(|j| match domain {
            af::INET => j.v4.as_slice().is_empty(),
            af::INET6 => j.v6.as_slice().is_empty(),
            _ => false,
        });
        if none {
            return cx.fail(Step::BsdJailSocket, Errno::EPROTONOSUPPORT);
        }
        Ok(())
    }

    /// `prison_local_ip4`
    pub(super) fn prison_local_ip4(&self, ip: u32, cred: &Cred, cx: &mut Ctx) -> Result<u32, No> {
        let Some(j) = jail(self.host, cred.jail) else {
            return Ok(ip);
        };
        local(j.v4.as_slice(), ip, 0, INADDR_LOOPBACK, true)
            .or_else(|(step, errno)| cx.fail(step, errno))
    }

    /// `prison_local_ip6`: a dual-stack wildcard stays one.
    pub(super) fn prison_local_ip6(
        &self,
        ip: [u8; 16],
        v6only: bool,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<[u8; 16], No> {
        let Some(j) = jail(self.host, cred.jail) else {
            return Ok(ip);
        };
        local(j.v6.as_slice(), ip, [0; 16], LOOPBACK6, v6only)
            .or_else(|(step, errno)| cx.fail(step, errno))
    }

    /// `prison_check_ip4`: has the caller's jail exactly this address?
    pub(super) fn prison_check_ip4(&self, ip: u32, cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        match jail(self.host, cred.jail) {
            None => Ok(()),
            Some(j) => check(j.v4.as_slice(), ip, cx),
        }
    }

    /// `prison_check_ip6`
    pub(super) fn prison_check_ip6(
        &self,
        ip: [u8; 16],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        match jail(self.host, cred.jail) {
            None => Ok(()),
            Some(j) => check(j.v6.as_slice(), ip, cx),
        }
    }
}

impl Net<'_> {
    /// `prison_remote_ip4`: a jail's own address for the loopback one.
    pub(super) fn prison_remote_ip4(&self, ip: u32, cred: &Cred, cx: &mut Ctx) -> Result<u32, No> {
        match jail(self.host, cred.jail).map(|j| j.v4.as_slice()) {
            Some([]) => cx.fail(Step::BsdJailFamily, Errno::EAFNOSUPPORT),
            Some([first, ..]) if ip == INADDR_LOOPBACK => Ok(*first),
            _ => Ok(ip),
        }
    }

    /// `prison_remote_ip6`
    pub(super) fn prison_remote_ip6(
        &self,
        ip: [u8; 16],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<[u8; 16], No> {
        match jail(self.host, cred.jail).map(|j| j.v6.as_slice()) {
            Some([]) => cx.fail(Step::BsdJailFamily, Errno::EAFNOSUPPORT),
            Some([first, ..]) if ip == LOOPBACK6 => Ok(*first),
            _ => Ok(ip),
        }
    }

    /// `prison_get_ip4`, `prison_saddrsel_ip4`: the jail's first address.
    pub(super) fn prison_first_ip4(&self, without: u32, cred: &Cred) -> u32 {
        let first = jail(self.host, cred.jail).and_then(|j| j.v4.as_slice().first());
        first.copied().unwrap_or(without)
    }

    /// `prison_saddrsel_ip6`
    pub(super) fn prison_first_ip6(&self, without: [u8; 16], cred: &Cred) -> [u8; 16] {
        let first = jail(self.host, cred.jail).and_then(|j| j.v6.as_slice().first());
        first.copied().unwrap_or(without)
    }

    /// Is the address one of the jail that the tables call so?
    pub(super) fn jail_has(&self, number: u32, addr: &[u8; 16]) -> bool {
        let j = number.checked_sub(1).and_then(|n| jail(self.host, n));
        j.is_some_and(|j| match unmapped(addr) {
            Some(ip) => j.v4.as_slice().contains(&ip),
            None => j.v6.as_slice().contains(addr),
        })
    }
}

fn check<A: PartialEq>(own: &[A], asked: A, cx: &mut Ctx) -> Result<(), No> {
    if own.is_empty() {
        return cx.fail(Step::BsdJailFamily, Errno::EAFNOSUPPORT);
    }
    if !own.contains(&asked) {
        return cx.fail(Step::BsdJailForeign, Errno::EADDRNOTAVAIL);
    }
    Ok(())
}
