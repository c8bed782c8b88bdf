//! The way of an address into an IP socket: `inet_bind` and `inet6_bind`.

use super::quirks;
use crate::addr::af;
use crate::model::host::AddrType;
use crate::model::net::{Ctx, Net, Sock, SockId, State, mapped, unmapped};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No};
use crate::socket::ty;

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..at + N)
        .and_then(|b| b.try_into().ok())
        .unwrap_or([0; N])
}

/// `ipv6_addr_type`: multicast?
pub(super) fn is_multicast(a: &[u8; 16]) -> bool {
    a[0] == 0xff
}

/// `__ipv6_addr_needs_scope_id`: link-local, or multicast of interface or link.
pub fn needs_scope(a: &[u8; 16]) -> bool {
    (a[0] == 0xfe && a[1] & 0xc0 == 0x80) || (is_multicast(a) && matches!(a[1] & 0xf, 1 | 2))
}

impl Net<'_> {
    /// `inet_addr_valid_or_nonlocal`
    pub(super) fn inet_addr_valid_or_nonlocal(&self, s: &Sock, addr: u32, cx: &mut Ctx) -> bool {
        let host = &self.host;
        if addr == 0 || host.addr_type(addr) != AddrType::Unicast {
            return true;
        }
        let by_option = host.sysctl.nonlocal_bind
            || s.freebind()
            // mutants: generation: always since 2.6.28
            || (s.transparent() && quirks::transparent_binds(host.generation));
        if by_option {
            cx.pass(Step::InetBindNonlocal);
        }
        by_option
    }

    /// `inet_port_requires_bind_service`, and the caller's lack of it.
    fn is_privileged(&self, port: u16, cred: &Cred) -> bool {
        let host = &self.host;
        let start = if quirks::has_unprivileged_start(host.generation) {
            host.sysctl.unprivileged_start
        } else {
            1024
        };
        port != 0 && port < start && !cred.net_bind_service
    }

    /// `inet_bind`, whose body is `inet_bind_sk` since 6.8.
    pub(super) fn inet_bind_sk(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if addr.len() < 16 {
            return cx.fail(Step::InetBindLength, Errno::EINVAL);
        }
        self.__inet_bind(id, addr, cred, cx)
    }

    #[allow(non_snake_case)]
    fn __inet_bind(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let family = u16::from_ne_bytes(array(addr, 0));
        let port = u16::from_be_bytes(array(addr, 2));
        let ip = u32::from_be_bytes(array(addr, 4));
        if family != af::INET {
            if family != af::UNSPEC || ip != 0 {
                return cx.fail(Step::InetBindFamily, Errno::EAFNOSUPPORT);
            }
            cx.pass(Step::InetBindUnspec);
        }
        let s = self.get(id);
        if !self.inet_addr_valid_or_nonlocal(s, ip, cx) {
            return cx.fail(Step::InetBindNotLocal, Errno::EADDRNOTAVAIL);
        }
        if self.is_privileged(port, cred) {
            return cx.fail(Step::InetBindPrivileged, Errno::EACCES);
        }
        if s.state != State::Close || s.num != 0 {
            return cx.fail(Step::InetBindBound, Errno::EINVAL);
        }
        let no_port = s.no_port();
        self.edit(id, |s| s.set_rcv(mapped(ip)));
        if port != 0 || !no_port {
            if let Err(e) = self.get_port(id, port, cx) {
                self.edit(id, Sock::reset_saddr);
                return Err(e);
            }
            cx.pass(Step::InetBindOk);
        } else {
            cx.pass(Step::InetBindAddressOnly);
        }
        self.note(id, |s| {
            s.set_addr_lock(s.addr_lock() | (ip != 0));
            s.set_port_lock(s.port_lock() | (port != 0));
            s.daddr = [0; 16];
            s.dport = 0;
            s.sport = s.num as u16;
        });
        self.mptcp_copy_inaddrs(id);
        Ok(())
    }

    /// `inet6_bind_sk`
    pub(super) fn inet6_bind_sk(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if addr.len() < 24 {
            return cx.fail(Step::Inet6BindLength, Errno::EINVAL);
        }
        self.__inet6_bind(id, addr, cred, cx)
    }

    #[allow(non_snake_case)]
    fn __inet6_bind(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if u16::from_ne_bytes(array(addr, 0)) != af::INET6 {
            return cx.fail(Step::Inet6BindFamily, Errno::EAFNOSUPPORT);
        }
        let port = u16::from_be_bytes(array(addr, 2));
        let ip: [u8; 16] = array(addr, 8);
        if is_multicast(&ip) && self.get(id).kind.ty == ty::STREAM {
            return cx.fail(Step::Inet6BindMulticastStream, Errno::EINVAL);
        }
        if self.is_privileged(port, cred) {
            return cx.fail(Step::Inet6BindPrivileged, Errno::EACCES);
        }
        if !self.is_closed(id) || self.get(id).num != 0 {
            return cx.fail(Step::Inet6BindBound, Errno::EINVAL);
        }
        let any = ip == [0; 16];
        if let Some(v4) = unmapped(&ip) {
            self.check_mapped(id, v4, cx)?;
        } else if !any {
            self.check_v6(id, addr, &ip, cx)?;
        }
        let s = self.get(id);
        let (v6only, no_port) = (s.v6only(), s.no_port());
        let specific = !any && unmapped(&ip).is_none();
        self.edit(id, |s| {
            s.set_rcv(ip);
            s.set_v6only(v6only | specific);
        });
        if specific && !v6only {
            cx.pass(Step::Inet6BindV6only);
        }
        if port != 0 || !no_port {
            if let Err(e) = self.get_port(id, port, cx) {
                self.edit(id, |n| {
                    n.set_v6only(v6only);
                    n.reset_saddr();
                });
                return Err(e);
            }
            cx.pass(Step::Inet6BindOk);
        } else {
            cx.pass(Step::Inet6BindAddressOnly);
        }
        self.note(id, |s| {
            s.set_addr_lock(s.addr_lock() | !any);
            s.set_port_lock(s.port_lock() | (port != 0));
            s.daddr = [0; 16];
            s.dport = 0;
            s.sport = s.num as u16;
        });
        self.mptcp_copy_inaddrs(id);
        Ok(())
    }

    fn check_mapped(&mut self, id: SockId, v4: u32, cx: &mut Ctx) -> Result<(), No> {
        let s = self.get(id);
        if s.v6only() {
            return cx.fail(Step::Inet6BindMappedV6only, Errno::EINVAL);
        }
        if s.dev != 0 && !self.host.has_device(s.dev) {
            return cx.fail(Step::Inet6BindNoDevice, Errno::ENODEV);
        }
        if !self.inet_addr_valid_or_nonlocal(s, v4, cx) {
            return cx.fail(Step::Inet6BindMappedNotLocal, Errno::EADDRNOTAVAIL);
        }
        Ok(())
    }

    /// The test of a true IPv6 address. A scope id stays as the socket's
    /// device even if the bind fails later.
    pub(super) fn check_v6(
        &mut self,
        id: SockId,
        addr: &[u8],
        ip: &[u8; 16],
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if needs_scope(ip) {
            let scope = u32::from_ne_bytes(array(addr, 24));
            if addr.len() >= 28 && scope != 0 {
                self.edit(id, |s| s.dev = scope);
                cx.pass(Step::Inet6BindScopeSet);
            }
            if self.get(id).dev == 0 {
                return cx.fail(Step::Inet6BindNoScope, Errno::EINVAL);
            }
        }
        let s = self.get(id);
        let host = &self.host;
        if s.dev != 0 && !host.has_device(s.dev) {
            return cx.fail(Step::Inet6BindNoDevice, Errno::ENODEV);
        }
        if is_multicast(ip) || host.has_v6(ip, s.dev) {
            return Ok(());
        }
        if host.sysctl.nonlocal_bind6 || s.freebind() || s.transparent() {
            cx.pass(Step::InetBindNonlocal);
            return Ok(());
        }
        cx.fail(Step::Inet6BindNotLocal, Errno::EADDRNOTAVAIL)
    }
}
