//! socket(2): `__sys_socket`, `__sock_create` and the families' own checks.

use super::quirks;
use crate::addr::af;
use crate::model::net::{Ctx, Net, Sock, SockId, Table};
use crate::model::step::Step;
use crate::model::{Answer, Cred, Errno, No, Pick};
use crate::socket::{SocketType, proto, ty};

/// `SOCK_NONBLOCK`, `SOCK_CLOEXEC`
const FLAGS: u32 = 0o2_004_000;
/// `AF_MAX`
const AF_MAX: i32 = 46;
/// `SOCK_MAX`
const SOCK_MAX: u16 = 11;
/// `IPPROTO_MAX`
const IPPROTO_MAX: i32 = 263;

impl Net<'_> {
    /// socket(2).
    pub fn socket(
        &mut self,
        domain: i32,
        ty_flags: i32,
        protocol: i32,
        cred: &Cred,
    ) -> Answer<SockId> {
        let mut cx = Ctx::new(Pick::Random(0));
        let ty = ty_flags as u32;
        let result = if self.host.generation.is_freebsd() {
            self.kern_socket(domain, ty, protocol, cred, &mut cx)
        } else {
            self.__sys_socket(domain, ty, protocol, cred, &mut cx)
        };
        Answer::of(result, &cx)
    }

    #[allow(non_snake_case)]
    fn __sys_socket(
        &mut self,
        domain: i32,
        ty_flags: u32,
        protocol: i32,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<SockId, No> {
        if ty_flags & !(ty::MASK | FLAGS) != 0 {
            return cx.fail(Step::SockTypeFlags, Errno::EINVAL);
        }
        let kind = (ty_flags & ty::MASK) as u16;
        let (kind, table) = self.__sock_create(domain, kind, protocol, cred, cx)?;
        let mut sock = Sock::new(kind, table, cred);
        if kind.domain == af::INET6 {
            sock.set_v6only(self.host.sysctl.bindv6only || table == Table::Ping);
        }
        let inet = matches!(kind.domain, af::INET | af::INET6);
        if table == Table::Ping || (inet && kind.ty == ty::RAW) {
            sock.reuse = 1;
        }
        match self.alloc(sock) {
            Some(id) => {
                cx.pass(Step::SockCreated);
                Ok(id)
            }
            None => cx.unknown(Step::NoRoom),
        }
    }

    #[allow(non_snake_case)]
    fn __sock_create(
        &self,
        domain: i32,
        kind: u16,
        protocol: i32,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(SocketType, Table), No> {
        if !(0..AF_MAX).contains(&domain) {
            return cx.fail(Step::SockFamilyRange, Errno::EAFNOSUPPORT);
        }
        if kind >= SOCK_MAX {
            return cx.fail(Step::SockTypeRange, Errno::EINVAL);
        }
        let made = SocketType::created(domain, i32::from(kind), protocol);
        let table = match made.domain {
            af::INET6 if !self.host.has_ipv6 => {
                return cx.fail(Step::SockFamilyUnknown, Errno::EAFNOSUPPORT);
            }
            af::INET | af::INET6 => self.inet_create(made, protocol, cred, cx)?,
            af::UNIX => match (protocol, kind) {
                (0 | 1, ty::STREAM | ty::DGRAM | ty::RAW | ty::SEQPACKET) => Table::Unix,
                (0 | 1, _) => return cx.fail(Step::UnixCreateType, Errno::ESOCKTNOSUPPORT),
                _ => return cx.fail(Step::UnixCreateProtocol, Errno::EPROTONOSUPPORT),
            },
            af::VSOCK => self.vsock_create(kind, protocol, cx)?,
            af::NETLINK => match (protocol, kind) {
                (_, k) if k != ty::RAW && k != ty::DGRAM => {
                    return cx.fail(Step::NetlinkCreateType, Errno::ESOCKTNOSUPPORT);
                }
                // Of a protocol that nobody has registered a module is asked for.
                (0..32, _) if self.host.netlink >> protocol & 1 == 1 => Table::Netlink,
                _ => return cx.fail(Step::NetlinkCreateProtocol, Errno::EPROTONOSUPPORT),
            },
            af::PACKET => {
                if !cred.net_raw {
                    return cx.fail(Step::PacketCreatePerm, Errno::EPERM);
                }
                if !matches!(kind, ty::DGRAM | ty::RAW | ty::PACKET) {
                    return cx.fail(Step::PacketCreateType, Errno::ESOCKTNOSUPPORT);
                }
                Table::Other
            }
            _ => return cx.fail(Step::SockFamilyUnknown, Errno::EAFNOSUPPORT),
        };
        Ok((made, table))
    }

    /// `inet_create`, `inet6_create`
    fn inet_create(
        &self,
        made: SocketType,
        protocol: i32,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<Table, No> {
        if !(0..IPPROTO_MAX).contains(&protocol) {
            return cx.fail(Step::InetCreateProtocolRange, Errno::EINVAL);
        }
        let ping = if made.domain == af::INET {
            proto::ICMP
        } else {
            proto::ICMPV6
        };
        let generation = self.host.generation;
        match (made.ty, made.protocol) {
            (ty::STREAM, proto::TCP) => Ok(Table::Tcp),
            // mutants: generation `quirks::has_mptcp(generation)`: since 5.13
            (ty::STREAM, proto::MPTCP) if quirks::has_mptcp(generation) => Ok(Table::Tcp),
            (ty::DGRAM, proto::UDP) => Ok(Table::Udp),
            // mutants: generation `quirks::has_udplite(generation)`: until 7.1
            (ty::DGRAM, proto::UDPLITE) if quirks::has_udplite(generation) => Ok(Table::UdpLite),
            (ty::DGRAM, p) if p == ping && quirks::has_ping(generation) => {
                let (lo, hi) = self.host.sysctl.ping_groups;
                if !(lo..=hi).contains(&cred.gid) {
                    return cx.fail(Step::PingInitGroups, Errno::EACCES);
                }
                Ok(Table::Ping)
            }
            (ty::RAW, 1..) => {
                if !cred.net_raw {
                    return cx.fail(Step::InetCreateRaw, Errno::EPERM);
                }
                Ok(Table::Other)
            }
            (ty::STREAM | ty::DGRAM | ty::RAW, _) => {
                cx.fail(Step::InetCreateProtocol, Errno::EPROTONOSUPPORT)
            }
            _ => cx.fail(Step::InetCreateType, Errno::ESOCKTNOSUPPORT),
        }
    }

    /// `vsock_create`
    fn vsock_create(&self, kind: u16, protocol: i32, cx: &mut Ctx) -> Result<Table, No> {
        if protocol != 0 && protocol != i32::from(af::VSOCK) {
            return cx.fail(Step::VsockCreateProtocol, Errno::EPROTONOSUPPORT);
        }
        match kind {
            ty::STREAM => Ok(Table::Vsock),
            // mutants: generation `quirks::has_vsock_seqpacket(self.host.generation)`: since 5.14
            ty::SEQPACKET if quirks::has_vsock_seqpacket(self.host.generation) => Ok(Table::Vsock),
            ty::DGRAM if self.host.vsock.datagram => Ok(Table::Vsock),
            ty::DGRAM => cx.fail(Step::VsockCreateDgram, Errno::ENODEV),
            _ => cx.fail(Step::VsockCreateType, Errno::ESOCKTNOSUPPORT),
        }
    }
}
