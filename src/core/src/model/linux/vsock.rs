//! AF_VSOCK: `vsock_bind`, `__vsock_bind`, `__vsock_bind_connectible`.

use super::inet::array;
use super::quirks::{self, VsockFlags};
use crate::addr::{VMADDR_ANY, af};
use crate::model::net::{Ctx, Net, Sock, SockId, State, Table};
use crate::model::step::Step;
use crate::model::{Cred, Errno, Host, No, Pick};
use crate::socket::ty;

/// `LAST_RESERVED_PORT`
const LAST_RESERVED_PORT: u32 = 1023;
/// `MAX_PORT_RETRIES`
const MAX_PORT_RETRIES: u32 = 24;
/// `VMADDR_CID_LOCAL`, `VMADDR_CID_HOST`
pub(super) const CID_LOCAL: u32 = 1;
pub(super) const CID_HOST: u32 = 2;

/// `struct sockaddr_vm`
pub(super) struct SockaddrVm {
    pub cid: u32,
    pub port: u32,
    pub flags: u8,
}

/// `vsock_addr_cast`, `vsock_addr_validate`
pub(super) fn vsock_addr_cast(addr: &[u8], host: &Host, cx: &mut Ctx) -> Result<SockaddrVm, No> {
    let word = |at: usize| u32::from_ne_bytes(array(addr, at));
    let family = u16::from_ne_bytes(array(addr, 0));
    let byte = |at: usize| addr.get(at).copied().unwrap_or(0);
    let (flags, wrong) = match quirks::vsock_flags(host.generation) {
        VsockFlags::Checked => (byte(12), byte(12) & !1),
        // mutants: generation: until 5.11
        VsockFlags::Ignored => (0, byte(13)),
        // mutants: generation: until 5.11
        VsockFlags::Zero => (0, byte(12)),
    };
    if addr.len() < 16 || family != af::VSOCK || wrong != 0 {
        return cx.fail(Step::VsockMalformed, Errno::EINVAL);
    }
    Ok(SockaddrVm {
        cid: word(8),
        port: word(4),
        flags,
    })
}

/// `SS_DISCONNECTING`
pub(super) fn is_disconnecting(s: &Sock) -> bool {
    s.recv_shutdown() || s.send_shutdown()
}

fn key(cid: u32) -> [u8; 16] {
    let mut addr = [0; 16];
    for (to, from) in addr.iter_mut().zip(cid.to_ne_bytes()) {
        *to = from;
    }
    addr
}

impl Net<'_> {
    /// `vsock_bind`: `vsock_addr_cast`, then `__vsock_bind`.
    pub(super) fn vsock_bind(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let addr = vsock_addr_cast(addr, self.host, cx)?;
        self.__vsock_bind(id, addr.cid, addr.port, cred, cx)
    }

    #[allow(non_snake_case)]
    pub(super) fn __vsock_bind(
        &mut self,
        id: SockId,
        cid: u32,
        port: u32,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if self.get(id).num != VMADDR_ANY {
            return cx.fail(Step::VsockBound, Errno::EINVAL);
        }
        if cid != VMADDR_ANY && !self.vsock_find_cid(cid) {
            return cx.fail(Step::VsockCid, Errno::EADDRNOTAVAIL);
        }
        match self.get(id).kind.ty {
            // mutants: machine: needs VMCI
            ty::DGRAM => {
                // The hypervisor's table is not ours to know.
                cx.unknown(Step::NotModelled)
            }
            _ => self.__vsock_bind_connectible(id, cid, port, cred, cx),
        }
    }

    /// `vsock_find_cid`, `virtio_transport_get_local_cid`: is it this machine?
    fn vsock_find_cid(&self, cid: u32) -> bool {
        let vsock = &self.host.vsock;
        vsock.cid == Some(cid)
            // mutants: machine: needs vhost_vsock
            || (cid == CID_HOST && vsock.host)
            // mutants: machine: needs vsock_loopback
            || (cid == CID_LOCAL && vsock.local)
    }

    /// `__vsock_find_bound_socket`: the port with this CID, or either any.
    pub(super) fn vsock_find_bound_socket(&self, cid: u32, port: u32) -> Option<SockId> {
        let at = |cid| {
            self.at_addr(Table::Vsock, port, key(cid))
                .next()
                .map(|(id, _)| id)
        };
        if cid != VMADDR_ANY {
            return at(cid).or_else(|| at(VMADDR_ANY));
        }
        let own = self.host.vsock.cid.unwrap_or(VMADDR_ANY);
        [VMADDR_ANY, own, CID_HOST, CID_LOCAL]
            .into_iter()
            .find_map(at)
    }

    /// `__vsock_bind_connectible`, before 5.12 `__vsock_bind_stream`.
    #[allow(non_snake_case)]
    fn __vsock_bind_connectible(
        &mut self,
        id: SockId,
        cid: u32,
        mut port: u32,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        if port == VMADDR_ANY {
            match self.vsock_auto(cid, cx) {
                Some(found) => port = found,
                None => return cx.fail(Step::VsockNoPort, Errno::EADDRNOTAVAIL),
            }
            cx.pass(Step::VsockAuto);
        } else {
            if port <= LAST_RESERVED_PORT && !cred.init_net_bind_service {
                return cx.fail(Step::VsockPrivileged, Errno::EACCES);
            }
            if let Some(holder) = self.vsock_find_bound_socket(cid, port) {
                cx.holder = Some(holder);
                return cx.fail(Step::VsockInUse, Errno::EADDRINUSE);
            }
        }
        self.edit(id, |s| {
            s.aux = cid;
            s.num = port;
            s.rcv6 = key(cid);
        });
        self.inet_bind_hash(id);
        cx.pass(Step::VsockBoundNow);
        Ok(())
    }

    /// The counter that all of the kernel shares. Others move it on, so an
    /// observed port is possible if it is free.
    fn vsock_auto(&mut self, cid: u32, cx: &Ctx) -> Option<u32> {
        let old = quirks::vsock_may_draw_any(self.host.generation);
        match cx.pick {
            // mutants: machine: somebody else has moved the counter
            Pick::Observed(Some(port))
                if port > LAST_RESERVED_PORT
                    && (port != VMADDR_ANY || old)
                    && self.vsock_find_bound_socket(cid, port).is_none() =>
            {
                self.core.vsock_next = port.wrapping_add(1);
                return Some(port);
            }
            // mutants: generation: where the counter begins
            Pick::Random(r) if self.core.vsock_next == 0 => {
                self.core.vsock_next = if quirks::vsock_starts_at_1024(self.host.generation) {
                    LAST_RESERVED_PORT + 1
                } else {
                    r.max(LAST_RESERVED_PORT + 1)
                };
            }
            _ => {}
        }
        for _ in 0..MAX_PORT_RETRIES {
            let mut port = self.core.vsock_next;
            // mutants: generation `!old`: four thousand million binds to get there
            if (port == VMADDR_ANY && !old) || port <= LAST_RESERVED_PORT {
                port = LAST_RESERVED_PORT + 1;
            }
            self.core.vsock_next = port.wrapping_add(1);
            if self.vsock_find_bound_socket(cid, port).is_none() {
                return Some(port);
            }
        }
        None
    }

    /// `vsock_listen`
    pub(super) fn vsock_listen(&mut self, id: SockId, cx: &mut Ctx) -> Result<(), No> {
        let s = self.get(id);
        if s.kind.ty == ty::DGRAM {
            return cx.fail(Step::ListenUnsupported, Errno::EOPNOTSUPP);
        }
        if s.connected() || is_disconnecting(s) {
            return cx.fail(Step::ListenState, Errno::EINVAL);
        }
        if s.num == VMADDR_ANY {
            return cx.fail(Step::VsockListenUnbound, Errno::EINVAL);
        }
        self.edit(id, |s| s.state = State::Listen);
        cx.pass(Step::ListenOk);
        Ok(())
    }
}
