//! AF_VSOCK: `vsock_connect`, up to the packet that leaves.
//!
//! What answers beyond it is not the model's to know, whoever carries it: the
//! answer is then [`Step::UnknownVsock`], and the socket has the port
//! that connect() gave it.
//!
//! mutants: machine: nobody is asked by vsock, it leads out of the machine

use super::vsock::{CID_HOST, CID_LOCAL, vsock_addr_cast};
use crate::addr::VMADDR_ANY;
use crate::model::net::{Ctx, Net, SockId, State};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No};
use crate::socket::ty;

/// `VMADDR_FLAG_TO_HOST`
const TO_HOST: u8 = 1;

impl Net<'_> {
    /// `vsock_assign_transport`, of a socket for connections: is there one,
    /// and is it `vsock_loopback`?
    fn vsock_assign_transport(&self, remote: u32, flags: u8) -> Option<bool> {
        let v = &self.host.vsock;
        // vsock_use_local_transport
        let here = remote == CID_LOCAL || remote == v.cid.unwrap_or(CID_HOST);
        if v.local && here {
            return Some(true);
        }
        // transport_g2h or transport_h2g
        let to_host = remote <= CID_HOST || !v.host || flags & TO_HOST != 0;
        let loaded = if to_host { v.cid.is_some() } else { v.host };
        loaded.then_some(false)
    }

    /// `vsock_connect`, `vsock_auto_bind`
    pub(super) fn vsock_connect(
        &mut self,
        id: SockId,
        addr: &[u8],
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let s = *self.get(id);
        if s.kind.ty == ty::DGRAM {
            return cx.unknown(Step::UnknownVsock);
        }
        if s.state == State::Listen {
            return cx.fail(Step::VsockConnectListener, Errno::EINVAL);
        }
        let remote = vsock_addr_cast(addr, cx)?;
        let Some(local) = self.vsock_assign_transport(remote.cid, remote.flags) else {
            return cx.fail(Step::VsockNoTransport, Errno::ENODEV);
        };
        // Whether a device carries SOCK_SEQPACKET is between it and the host.
        let carried = local || s.kind.ty == ty::STREAM;
        if carried && s.num == VMADDR_ANY {
            self.__vsock_bind(id, VMADDR_ANY, VMADDR_ANY, cred, cx)?;
        }
        cx.unknown(Step::UnknownVsock)
    }
}
