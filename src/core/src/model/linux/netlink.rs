//! AF_NETLINK and AF_PACKET, in outline: `netlink_bind`, `packet_bind`.

use super::inet::array;
use crate::addr::af;
use crate::model::net::{Ctx, Net, SockId, Table};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No, Pick};

fn key(protocol: u16) -> [u8; 16] {
    let mut addr = [0; 16];
    addr[0] = protocol as u8;
    addr
}

impl Net<'_> {
    /// `netlink_bind`, for protocols that let everybody join groups.
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
        if s.hashed() {
            if pid != s.num {
                return cx.fail(Step::NetlinkBound, Errno::EINVAL);
            }
        } else {
            let protocol = s.kind.protocol;
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
