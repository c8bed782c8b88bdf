//! AF_NETLINK and AF_PACKET, in outline: `netlink_bind`, `packet_bind`.

use super::inet::array;
use super::quirks;
use crate::addr::af;
use crate::model::net::{Ctx, Net, SockId, Table};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No, Pick};

fn key(protocol: u16) -> [u8; 16] {
    let mut addr = [0; 16];
    addr[0] = protocol as u8;
    addr
}

/// The protocols (`NETLINK_…`).
mod protocol {
    pub const ROUTE: u16 = 0;
    pub const SOCK_DIAG: u16 = 4;
    pub const SELINUX: u16 = 7;
    pub const AUDIT: u16 = 9;
    pub const CONNECTOR: u16 = 11;
    pub const KOBJECT_UEVENT: u16 = 15;
    pub const GENERIC: u16 = 16;
    pub const RDMA: u16 = 20;
}

impl Net<'_> {
    /// `netlink_allowed`: may everybody join groups of this protocol? Its kernel
    /// socket has `NL_CFG_F_NONROOT_RECV`.
    fn netlink_lets_join(&self, protocol: u16) -> bool {
        use protocol::{
            AUDIT, CONNECTOR, GENERIC, KOBJECT_UEVENT, RDMA, ROUTE, SELINUX, SOCK_DIAG,
        };
        let generation = self.host.generation;
        match protocol {
            ROUTE | SELINUX | KOBJECT_UEVENT | GENERIC => true,
            // mutants: generation: since 3.16, 4.2, 4.12
            AUDIT | SOCK_DIAG | RDMA => quirks::netlink_lets_more_join(generation),
            CONNECTOR => quirks::connector_lets_join(generation),
            _ => false,
        }
    }

    /// The protocol's own look at the groups (`netlink_kernel_cfg.bind`).
    fn netlink_join(
        &self,
        protocol: u16,
        groups: u32,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let generation = self.host.generation;
        match protocol {
            // RTNLGRP_IPV4_MROUTE_R and RTNLGRP_IPV6_MROUTE_R
            // mutants: generation: since 4.18
            protocol::ROUTE
                if !cred.net_admin
                    && groups & 3 << 29 != 0
                    && quirks::netlink_lets_more_join(generation) =>
            {
                return cx.fail(Step::NetlinkMroute, Errno::EPERM);
            }
            protocol::AUDIT if !cred.init_audit_read => {
                return cx.fail(Step::NetlinkAudit, Errno::EPERM);
            }
            // It takes the number of the group for a set of groups, and looks
            // whether CN_IDX_PROC, the first one, is in it.
            protocol::CONNECTOR if !cred.net_admin && groups & 0xaaaa_aaaa != 0 => {
                return cx.fail(Step::NetlinkConnector, Errno::EPERM);
            }
            // All but the first, which nobody has, and that of `nlctrl`.
            protocol::GENERIC if !cred.net_admin && groups & !0x8001 != 0 => {
                return cx.unknown(Step::UnknownGroup);
            }
            _ => {}
        }
        Ok(())
    }

    /// `netlink_bind`
    pub(super) fn netlink_bind(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if addr.len() < 12 || u16::from_ne_bytes(array(addr, 0)) != af::NETLINK {
            return cx.fail(Step::NetlinkMalformed, Errno::EINVAL);
        }
        let pid = u32::from_ne_bytes(array(addr, 4));
        let groups = u32::from_ne_bytes(array(addr, 8));
        let s = *self.get(id);
        let protocol = s.kind.protocol;
        if groups != 0 && !cred.net_admin && !self.netlink_lets_join(protocol) {
            return cx.fail(Step::NetlinkAllowed, Errno::EPERM);
        }
        if s.hashed() && pid != s.num {
            return cx.fail(Step::NetlinkBound, Errno::EINVAL);
        }
        if groups != 0 {
            self.netlink_join(protocol, groups, cred, cx)?;
        }
        if !s.hashed() {
            let taken = |n: u32| {
                self.at_addr(Table::Netlink, n, key(protocol))
                    .next()
                    .map(|(id, _)| id)
            };
            let pid = match (pid, cx.pick) {
                // netlink_autobind: the process's own id, or a negative one.
                (0, _) if taken(cred.tgid).is_none() => cred.tgid,
                (0, Pick::Observed(Some(n))) if n >> 31 == 1 && taken(n).is_none() => n,
                // mutants: drawn: the kernel was not watched
                (0, _) => (0x8000_0000..0xffff_f000)
                    .find(|n| taken(*n).is_none())
                    .unwrap_or(u32::MAX),
                (pid, _) => {
                    if let Some(holder) = taken(pid) {
                        // The id stays in the socket, which is not bound.
                        self.edit(id, |s| s.num = pid);
                        cx.holder = Some(holder);
                        return cx.fail(Step::NetlinkInUse, Errno::EADDRINUSE);
                    }
                    pid
                }
            };
            self.edit(id, |s| {
                s.num = pid;
                s.rcv6 = key(protocol);
            });
            self.inet_bind_hash(id);
        }
        self.edit(id, |s| s.aux = groups);
        cx.pass(Step::NetlinkOk);
        Ok(())
    }

    /// `packet_bind`
    pub(super) fn packet_bind(&mut self, id: SockId, addr: &[u8], cx: &mut Ctx) -> Result<(), No> {
        if addr.len() < 20 || u16::from_ne_bytes(array(addr, 0)) != af::PACKET {
            return cx.fail(Step::PacketMalformed, Errno::EINVAL);
        }
        let ifindex = u32::from_ne_bytes(array(addr, 4));
        if ifindex != 0 && !self.host.has_device(ifindex) {
            return cx.fail(Step::PacketNoDevice, Errno::ENODEV);
        }
        let protocol = u16::from_be_bytes(array(addr, 2));
        self.edit(id, |s| {
            s.num = ifindex;
            if protocol != 0 {
                s.aux = u32::from(protocol);
            }
        });
        cx.pass(Step::PacketOk);
        Ok(())
    }
}
