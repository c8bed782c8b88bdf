//! FreeBSD's personality of the model, by its own function names: 14.3, with
//! the order of checks that 9.1 has as well.
//!
//! It shares sockets, tables and trails with [`super::linux`]; what differs is
//! the order of the checks and how the owners of a port are judged.

#[cfg(test)]
mod by_class_tests;
mod class;
mod jail;
mod pcb;
pub mod quirks;
mod socket;

pub(super) use class::class_of;

use super::linux::PathState;
use super::net::{Ctx, Net, Sock, SockId, State, Table};
use super::step::Step;
use super::{Cred, Errno, Fd, No, Opt, Pointer};
use crate::addr::{UnixName, af};
use crate::socket::ty;

/// `IP_PORTRANGE`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum PortRange {
    Default,
    High,
    Low,
}

impl PortRange {
    /// The range that a number in a socket stands for.
    fn of(number: u8) -> PortRange {
        match number {
            0 => PortRange::Default,
            1 => PortRange::High,
            _ => PortRange::Low,
        }
    }
}

/// `SOCK_MAXADDRLEN`
const SOCK_MAXADDRLEN: u32 = 255;

/// `getsockaddr`: length, then memory; all of it before the descriptor.
fn getsockaddr<'a>(addr: Pointer<'a>, cx: &mut Ctx) -> Result<&'a [u8], No> {
    let len = addr.len as u32;
    if len > SOCK_MAXADDRLEN {
        return cx.fail(Step::BsdNameTooLong, Errno::ENAMETOOLONG);
    }
    if len < 2 {
        return cx.fail(Step::BsdNameShort, Errno::EINVAL);
    }
    match addr.bytes.and_then(|b| b.get(..len as usize)) {
        Some(bytes) => Ok(bytes),
        None => cx.fail(Step::BsdFault, Errno::EFAULT),
    }
}

impl Net<'_> {
    /// `sys_bind`: `getsockaddr`, then `kern_bindat`.
    pub(super) fn sys_bind(
        &mut self,
        fd: Fd,
        addr: Pointer<'_>,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let raw = getsockaddr(addr, cx)?;
        self.kern_bindat(fd, raw, cred, cx)
    }

    /// `kern_bindat`, in 9.1 `kern_bind`: capability mode, descriptor; the MAC
    /// framework's check stands here, and so does the policy.
    fn kern_bindat(&mut self, fd: Fd, addr: &[u8], cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        if self.host.capability_mode && quirks::capability_mode_refuses(self.host.generation) {
            return cx.fail(Step::BsdCapabilityMode, Errno::ECAPMODE);
        }
        let id = match fd {
            Fd::Bad => return cx.fail(Step::BsdBadFd, Errno::EBADF),
            Fd::NotSocket => return cx.fail(Step::BsdNotSocket, Errno::ENOTSOCK),
            Fd::Socket(id) => id,
        };
        self.sobind(id, addr, cred, cx)
    }

    /// `sobind`: the protocol's `pr_bind`.
    fn sobind(&mut self, id: SockId, addr: &[u8], cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        match (s.kind.domain, s.kind.ty) {
            (af::INET, ty::STREAM | ty::DGRAM) => self.bsd_inet_bind(id, addr, cred, cx),
            (af::INET6, ty::STREAM | ty::DGRAM) => self.bsd_inet6_bind(id, addr, cred, cx),
            (af::INET, ty::RAW) => self.rip_bind(id, addr, cx),
            (af::UNIX, _) => self.uipc_bind(id, addr, cx),
            _ => cx.unknown(Step::NotModelled),
        }
    }

    /// `rip_bind`
    fn rip_bind(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if addr.len() != 16 {
            return cx.fail(Step::BsdRawLength, Errno::EINVAL);
        }
        let ip = pcb::be32(addr, 4);
        let s = *self.get(id);
        if ip != 0 && !s.bindany() && !self.bsd_is_local4(ip) {
            return cx.fail(Step::BsdRawNotLocal, Errno::EADDRNOTAVAIL);
        }
        self.edit(id, |s| s.set_rcv(super::net::mapped(ip)));
        cx.pass(Step::BsdRawOk);
        Ok(())
    }

    /// `uipc_bindat`: bound before path, path before anything is made.
    fn uipc_bind(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        let family = addr.first().copied().unwrap_or(0);
        if u16::from(family) != af::UNIX {
            return cx.fail(Step::BsdUnixFamily, Errno::EAFNOSUPPORT);
        }
        if addr.len() > 106 || addr.len() <= 2 {
            return cx.fail(Step::BsdUnixLength, Errno::EINVAL);
        }
        if self.get(id).has_name() {
            return cx.fail(Step::BsdUnixBound, Errno::EINVAL);
        }
        let name = addr.get(2..).unwrap_or(&[]);
        let path = name.split(|&b| b == 0).next().unwrap_or(&[]);
        if path.is_empty() {
            return cx.fail(Step::BsdUnixEmpty, Errno::ENOENT);
        }
        match self.path {
            PathState::Exists => return cx.fail(Step::BsdUnixExists, Errno::EADDRINUSE),
            PathState::Refused(e) => return cx.fail(Step::BsdUnixPath, e),
            PathState::Free | PathState::Elsewhere => {}
        }
        let name = UnixName::path(path);
        self.edit(id, |s| {
            s.set_unix_name(name);
        });
        cx.pass(Step::UnixBound);
        Ok(())
    }

    /// `solisten`: no second look at the port.
    pub(super) fn solisten(&mut self, id: SockId, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        if s.dropped() || s.state == State::Established {
            return cx.fail(Step::BsdListenState, Errno::EINVAL);
        }
        match (s.kind.domain, s.kind.ty) {
            (af::INET | af::INET6, ty::STREAM) => {
                if s.num == 0 {
                    // As the socket's creator, not as who calls.
                    let creator = Cred {
                        jail: s.aux,
                        ..Cred::ROOT
                    };
                    let local = self.prison_local_any(&s, &creator, cx)?;
                    self.edit(id, |s| s.set_rcv(local));
                    self.in_pcb_lport(id, &creator, cx)?;
                }
            }
            (af::UNIX, ty::STREAM | ty::SEQPACKET) => {
                if !s.has_name() {
                    return cx.fail(Step::BsdListenUnbound, Errno::EDESTADDRREQ);
                }
            }
            _ => return cx.fail(Step::BsdListenType, Errno::EOPNOTSUPP),
        }
        self.edit(id, |s| s.state = State::Listen);
        cx.pass(Step::BsdListening);
        Ok(())
    }

    /// `sosetopt`, `ip_ctloutput`, `ip6_ctloutput`
    pub(super) fn sosetopt(
        &mut self,
        id: SockId,
        opt: Opt,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        let inet = matches!(s.kind.domain, af::INET | af::INET6);
        let change: fn(&mut Sock, bool) = match opt {
            Opt::ReuseAddr(_) => |s, on| s.reuse = u8::from(on),
            Opt::ReusePort(_) => |s, on| s.set_reuseport(on),
            Opt::ReusePortLb(_) if quirks::has_reuseport_lb(self.host.generation) => {
                |s, on| s.set_reuseport_lb(on)
            }
            Opt::V6Only(_) if s.kind.domain == af::INET6 => {
                if s.num != 0 {
                    return cx.fail(Step::BsdV6onlyBound, Errno::EINVAL);
                }
                |s, on| s.set_v6only(on)
            }
            Opt::BsdBindAny(on) if inet => {
                if on && (cred.uid != 0 || cred.jail != 0) {
                    return cx.fail(Step::BsdBindAnyPerm, Errno::EPERM);
                }
                |s, on| s.set_bindany(on)
            }
            Opt::BsdPortRange(range) if inet => {
                self.edit(id, |s| s.bsd_range = range as u8);
                return Ok(());
            }
            _ => return cx.fail(Step::BsdNoOption, Errno::ENOPROTOOPT),
        };
        let on = match opt {
            Opt::ReuseAddr(on)
            | Opt::ReusePort(on)
            | Opt::ReusePortLb(on)
            | Opt::V6Only(on)
            | Opt::BsdBindAny(on) => on,
            _ => false,
        };
        self.edit(id, |s| change(s, on));
        Ok(())
    }

    /// The table that a protocol's sockets are in.
    pub(super) fn bsd_table(protocol: u16) -> Table {
        match protocol {
            crate::socket::proto::TCP => Table::Tcp,
            crate::socket::proto::UDP => Table::Udp,
            crate::socket::proto::UDPLITE => Table::UdpLite,
            _ => Table::Other,
        }
    }
}
