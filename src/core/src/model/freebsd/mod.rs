//! FreeBSD's personality of the model, by its own function names: 14.3, with
//! the order of checks that 9.1 has as well.
//!
//! It shares sockets, tables and trails with [`super::linux`]; what differs is
//! the order of the checks and how the owners of a port are judged.

#[cfg(test)]
mod by_class_tests;
mod class;
mod close;
mod connect;
mod get;
mod jail;
mod pcb;
pub mod quirks;
mod socket;

pub(super) use class::class_of;

use super::linux::{PATH, PathState, needs_scope};
use super::net::{Ctx, MAPPED_ANY, Net, Sock, SockId, State, Table, mapped, unmapped};
use super::step::Step;
use super::{Cred, Errno, Fd, No, Opt, Pointer};
use crate::addr::{Addr, UnixName, af};
use crate::socket::ty;

const IN6ADDR_ANY: [u8; 16] = [0; 16];

/// Bits of [`Sock::bsd`]: of `inp_vflag`, which addresses a socket speaks …
const INP_IPV4: u8 = 1;
const INP_IPV6: u8 = 2;
/// … of `inp_flags2`: `SO_REUSEPORT` as others see it …
const INP_REUSEPORT: u8 = 4;
/// … and whether `so_fibnum` is another than 0.
const OTHER_FIB: u8 = 8;

impl Sock {
    fn set_vflag(&mut self, vflag: u8) {
        self.bsd = (self.bsd & !(INP_IPV4 | INP_IPV6)) | vflag;
    }

    /// Has it another routing table than the first?
    fn other_fib(&self) -> bool {
        self.bsd & OTHER_FIB != 0
    }

    fn set_seen_reuseport(&mut self, on: bool) {
        self.bsd = (self.bsd & !INP_REUSEPORT) | (u8::from(on) * INP_REUSEPORT);
    }
}

/// A socket that the model has not seen come.
pub(super) fn adopt(s: &mut Sock) {
    s.set_freebsd(true);
    s.dev = s.dev.saturating_add(1);
    settle(s);
}

/// `inp_vflag` and `inp_flags2` of a socket as its address and options are.
pub(super) fn settle(s: &mut Sock) {
    let six = s.kind.domain == af::INET6;
    s.set_vflag(match unmapped(&s.rcv6) {
        _ if !six => INP_IPV4,
        Some(_) if !s.v6only() => INP_IPV4,
        None if s.rcv6 == [0; 16] && !s.v6only() => INP_IPV4 | INP_IPV6,
        _ => INP_IPV6,
    });
    s.set_seen_reuseport(s.reuseport());
}

/// `in6_mapped_sockaddr`, `sa6_recoverscope`
pub(super) fn in6_sockaddr(s: &Sock) -> Addr {
    let mut ip = s.rcv6;
    let mut scope = 0;
    if s.bsd & INP_IPV6 == 0 {
        ip = mapped(s.rcv4);
    } else if needs_scope(&ip) {
        scope = u32::from(u16::from_be_bytes([ip[2], ip[3]]));
        [ip[2], ip[3]] = [0, 0];
    }
    Addr::Inet6 {
        ip,
        port: s.sport,
        flow: 0,
        scope,
    }
}

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
    /// What a script calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PortRange::Default => "default",
            PortRange::High => "high",
            PortRange::Low => "low",
        }
    }

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
        if self.in_capability_mode(cred) {
            return cx.fail(Step::BsdCapabilityMode, Errno::ECAPMODE);
        }
        let id = match fd {
            Fd::Bad => return cx.fail(Step::BsdBadFd, Errno::EBADF),
            Fd::NotSocket => return cx.fail(Step::BsdNotSocket, Errno::ENOTSOCK),
            Fd::Socket(id) => id,
        };
        self.sobind(id, addr, cred, cx)
    }

    /// `IN_CAPABILITY_MODE`, where the generation has it: bind(2) and connect(2)
    /// are refused then.
    fn in_capability_mode(&self, cred: &Cred) -> bool {
        let is_in_it = self.host.capability_mode || cred.capability_mode;
        is_in_it && quirks::capability_mode_refuses(self.host.generation)
    }

    /// `sobind`: the protocol's `pr_bind`.
    fn sobind(&mut self, id: SockId, addr: &[u8], cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let kind = self.get(id).kind;
        match (kind.domain, kind.ty) {
            (af::INET, ty::STREAM | ty::DGRAM) => self.bsd_inet_bind(id, addr, cred, cx),
            (af::INET6, ty::STREAM | ty::DGRAM) => self.bsd_inet6_bind(id, addr, cred, cx),
            (af::INET, ty::RAW) => self.rip_bind(id, addr, cred, cx),
            (af::INET6, ty::RAW) => self.rip6_bind(id, addr, cred, cx),
            (af::UNIX, _) => self.uipc_bind(id, addr, cx),
            _ => cx.fail(Step::NotModelled, Errno::EOPNOTSUPP),
        }
    }

    /// The family and the length, in the order of the generation; 9.1 calls a
    /// foreign family no address of an interface.
    fn rip_checks(&self, addr: &[u8], family: u16, len: usize, cx: &mut Ctx) -> Result<(), No> {
        let other = pcb::family_of(addr) != family;
        let first = quirks::looks_at_family(self.host.generation);
        if other && first {
            return cx.fail(Step::BsdRawFamily, Errno::EAFNOSUPPORT);
        }
        if addr.len() != len {
            return cx.fail(Step::BsdRawLength, Errno::EINVAL);
        }
        if other {
            return cx.fail(Step::BsdRawNotLocal, Errno::EADDRNOTAVAIL);
        }
        Ok(())
    }

    /// `rip_bind`: as often as one likes.
    fn rip_bind(&mut self, id: SockId, addr: &[u8], cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        self.rip_checks(addr, af::INET, pcb::SIN_LEN, cx)?;
        let ip = pcb::be32(addr, 4);
        self.prison_check_ip4(ip, cred, cx)?;
        if ip != 0 && !self.get(id).bindany() && !self.bsd_is_local4(ip) {
            return cx.fail(Step::BsdRawNotLocal, Errno::EADDRNOTAVAIL);
        }
        self.edit(id, |s| s.set_rcv(mapped(ip)));
        cx.pass(Step::BsdRawOk);
        Ok(())
    }

    /// `rip6_bind`: `IPV6_BINDANY` does not help.
    fn rip6_bind(&mut self, id: SockId, addr: &[u8], cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        self.rip_checks(addr, af::INET6, pcb::SIN6_LEN, cx)?;
        self.prison_check_ip6(pcb::ip6_of(addr), cred, cx)?;
        let sin6 = self.sa6_embedscope(addr, cx)?;
        let any = sin6.ip == [0; 16];
        let found = self.ifa_ifwithaddr6(&sin6);
        if !any && found != Some(pcb::Tentative(false)) {
            return cx.fail(Step::BsdRawNotLocal, Errno::EADDRNOTAVAIL);
        }
        self.edit(id, |s| s.set_rcv(sin6.ip));
        cx.pass(Step::BsdRawOk);
        Ok(())
    }

    /// `uipc_bindat`: bound before path, path before anything is made.
    fn uipc_bind(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        let path = self.unix_path(addr, cx)?;
        if self.get(id).has_name() {
            return cx.fail(Step::BsdUnixBound, Errno::EINVAL);
        }
        if path.is_empty() {
            return cx.fail(Step::BsdUnixEmpty, Errno::ENOENT);
        }
        match self.path {
            PathState::Exists => return cx.fail(Step::BsdUnixExists, Errno::EADDRINUSE),
            PathState::Refused(e) => return cx.fail(Step::BsdUnixPath, e),
            PathState::Free | PathState::Elsewhere => {}
        }
        self.unix_name(id, PATH, UnixName::path(path), path);
        cx.pass(Step::UnixBound);
        Ok(())
    }

    /// The path in a `sockaddr_un`.
    fn unix_path<'a>(&self, addr: &'a [u8], cx: &mut Ctx) -> Result<&'a [u8], No> {
        let looks = quirks::looks_at_family(self.host.generation);
        if looks && pcb::family_of(addr) != af::UNIX {
            return cx.fail(Step::BsdUnixFamily, Errno::EAFNOSUPPORT);
        }
        if addr.len() > 106 || addr.len() <= 2 {
            return cx.fail(Step::BsdUnixLength, Errno::EINVAL);
        }
        let name = addr.get(2..).unwrap_or(&[]);
        Ok(name.split(|&b| b == 0).next().unwrap_or(&[]))
    }

    /// `solisten`: no second look at the port.
    pub(super) fn solisten(&mut self, id: SockId, cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        let connected = connect::is_connected(&s);
        match (s.kind.domain, s.kind.ty) {
            (af::INET | af::INET6, ty::STREAM) => {
                if pcb::over(&s) || connected {
                    return cx.fail(Step::BsdListenState, Errno::EINVAL);
                }
                if pcb::lport(&s) == 0 {
                    let vflag = if s.kind.domain == af::INET {
                        INP_IPV4
                    } else if s.bsd & INP_IPV6 == 0 {
                        // Only a refused bind of 9.1 leaves that: in_pcb_lport
                        // follows a null pointer.
                        return cx.unknown(Step::BsdPanic);
                    } else if s.v6only() {
                        INP_IPV6
                    } else {
                        INP_IPV4 | INP_IPV6
                    };
                    // As who calls, not as the socket's creator.
                    self.bsd_bind_any(id, vflag, cred, cx)?;
                }
            }
            (af::UNIX, ty::STREAM | ty::SEQPACKET) => {
                if !s.has_name() && !connected {
                    return cx.fail(Step::BsdListenUnbound, Errno::EDESTADDRREQ);
                }
                if connected {
                    return cx.fail(Step::BsdListenState, Errno::EINVAL);
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
        let domain = match opt {
            Opt::BsdBindAny(_) | Opt::BsdPortRange(_) => af::INET,
            Opt::V6Only(_) | Opt::BsdBindAny6(_) | Opt::BsdPortRange6(_) => af::INET6,
            _ => return self.sosetopt_socket(id, opt, cx),
        };
        // The level is not that of the family: uipc_ctloutput knows IPPROTO_IP's
        // number, and nothing by the option's.
        if s.kind.domain == af::UNIX && domain == af::INET {
            return cx.fail(Step::BsdNoOption, Errno::ENOPROTOOPT);
        }
        if s.kind.domain != domain {
            return cx.fail(Step::BsdOptionLevel, Errno::EINVAL);
        }
        if s.dropped() && quirks::looks_at_family(self.host.generation) {
            // tcp_ctloutput
            return cx.fail(Step::BsdOptionDropped, Errno::ECONNRESET);
        }
        match opt {
            Opt::V6Only(on) => {
                if pcb::lport(&s) != 0 || !matches!(s.rcv6, MAPPED_ANY | IN6ADDR_ANY) {
                    return cx.fail(Step::BsdV6onlyBound, Errno::EINVAL);
                }
                self.edit(id, |s| {
                    s.set_v6only(on);
                    s.set_vflag(s.bsd & INP_IPV6 | if on { 0 } else { INP_IPV4 });
                });
            }
            Opt::BsdBindAny(on) | Opt::BsdBindAny6(on) => {
                // To be without it as well.
                if cred.uid != 0 || cred.jail != 0 {
                    return cx.fail(Step::BsdBindAnyPerm, Errno::EPERM);
                }
                self.edit(id, |s| s.set_bindany(on));
            }
            Opt::BsdPortRange(range) | Opt::BsdPortRange6(range) => {
                self.edit(id, |s| s.bsd_range = range as u8);
            }
            _ => {}
        }
        Ok(())
    }

    /// `sosetopt` of level `SOL_SOCKET`, which asks the protocol afterwards.
    fn sosetopt_socket(&mut self, id: SockId, opt: Opt, cx: &mut Ctx) -> Result<(), No> {
        let any = quirks::owners_share_by_any_option(self.host.generation);
        match opt {
            Opt::ReuseAddr(on) => {
                let multicast = self.get(id).rcv4 >> 28 == 0xe;
                self.edit(id, |s| {
                    s.reuse = u8::from(on);
                    if multicast && !any {
                        s.set_seen_reuseport(on);
                    }
                });
            }
            Opt::ReusePort(on) => self.edit(id, |s| {
                s.set_reuseport(on);
                s.set_seen_reuseport(on);
            }),
            Opt::ReusePortLb(on) if quirks::has_reuseport_lb(self.host.generation) => {
                self.edit(id, |s| s.set_reuseport_lb(on));
            }
            Opt::LingerZero(on) => self.edit(id, |s| s.set_linger_zero(on)),
            Opt::BsdSetFib(fib) => {
                let known = u32::try_from(fib).is_ok_and(|fib| fib < self.host.sysctl.fibs);
                if !known {
                    return cx.fail(Step::BsdNoFib, Errno::EINVAL);
                }
                // Only routes depend on it, while net.inet.tcp.bind_all_fibs
                // and net.inet.udp.bind_all_fibs (14.3) are 1. Other families
                // have the first.
                let other = fib != 0 && self.get(id).kind.domain != af::UNIX;
                self.edit(id, |s| {
                    s.bsd = (s.bsd & !OTHER_FIB) | (u8::from(other) * OTHER_FIB);
                });
            }
            _ => return cx.fail(Step::BsdNoOption, Errno::ENOPROTOOPT),
        }
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
