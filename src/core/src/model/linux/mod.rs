//! Linux's personality of the model, by its own function names.
//!
//! Modelled from the behaviour of 6.18; where another [`Generation`](super::Generation) answers
//! differently, the difference stands in [`quirks`].

mod auto;
#[cfg(test)]
mod by_class_tests;
mod close;
mod connect;
mod dgram_connect;
mod get;
mod hash_connect;
mod inet;
mod listen;
mod mptcp;
mod netlink;
mod opts;
mod pair;
pub mod quirks;
mod raw;
mod route;
mod socket;
mod tcp;
mod udp;
mod unix;
mod unix_connect;
mod vsock;
mod vsock_connect;

pub(super) use inet::needs_scope;
pub use pair::Claim;
pub(super) use tcp::inet_rcv_saddr_equal;
pub(super) use unix::PATH;
pub use unix::PathState;

use super::net::{Ctx, Net, SockId, State, Table};
use super::step::Step;
use super::{Answer, Cred, Errno, Fd, No, Pick, Pointer};
use crate::addr::{STORAGE, af};
use crate::socket::ty;

impl Net<'_> {
    /// bind(2): `__sys_bind`. `cred` is who calls now, not who made the socket.
    pub fn bind(&mut self, fd: Fd, addr: Pointer<'_>, cred: &Cred, pick: Pick) -> Answer<()> {
        let mut cx = Ctx::new(pick);
        let result = if self.host.generation.is_freebsd() {
            self.sys_bind(fd, addr, cred, &mut cx)
        } else {
            self.__sys_bind(fd, addr, cred, &mut cx)
        };
        Answer::of(result, &cx)
    }

    /// `__sys_bind`. Between the address and the protocol's own bind the kernel
    /// asks `security_socket_bind`: there bindgate's policy stands, which decides
    /// before the model is asked.
    #[allow(non_snake_case)]
    fn __sys_bind(
        &mut self,
        fd: Fd,
        addr: Pointer<'_>,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let id = match fd {
            Fd::Bad => return cx.fail(Step::SysBindBadFd, Errno::EBADF),
            Fd::NotSocket => return cx.fail(Step::SysBindNotSocket, Errno::ENOTSOCK),
            Fd::Socket(id) => id,
        };
        let raw = move_addr_to_kernel(addr, cx)?;
        let s = self.get(id);
        if self.is_mptcp_busy(id) {
            return cx.fail(Step::MptcpBusy, Errno::EINVAL);
        }
        if self.is_mptcp_over(id) {
            return cx.unknown(Step::UnknownMptcp);
        }
        match (s.kind.domain, s.kind.ty) {
            (af::INET, ty::STREAM | ty::DGRAM) if s.table != Table::Ping => {
                self.inet_bind_sk(id, raw, cred, cx)
            }
            (af::INET6, ty::STREAM | ty::DGRAM) if s.table != Table::Ping => {
                self.inet6_bind_sk(id, raw, cred, cx)
            }
            (af::INET, ty::RAW) => self.raw_bind(id, raw, cx),
            (af::INET6, ty::RAW) => self.rawv6_bind(id, raw, cx),
            (af::INET | af::INET6, _) => self.ping_bind(id, raw, cx),
            (af::UNIX, _) => self.unix_bind(id, raw, cx),
            (af::VSOCK, _) => self.vsock_bind(id, raw, cred, cx),
            (af::NETLINK, _) => self.netlink_bind(id, raw, cred, cx),
            (af::PACKET, ty::DGRAM | ty::RAW) => self.packet_bind(id, raw, cx),
            _ => cx.unknown(Step::NotModelled),
        }
    }

    /// dup(2), fork(2), a descriptor received: one more reference.
    pub fn dup(&mut self, id: SockId) {
        self.edit(id, |s| s.refs = s.refs.saturating_add(1));
    }

    /// Takes a socket out of the tables, whatever it is: what is left of a
    /// connection when nobody watches it any more.
    pub fn forget(&mut self, id: SockId) {
        self.inet_put_port(id);
        self.release(id);
    }

    /// `sk_prot->get_port`
    pub(super) fn get_port(&mut self, id: SockId, snum: u16, cx: &mut Ctx) -> Result<(), No> {
        match self.get(id).table {
            Table::Tcp => self.inet_csk_get_port(id, snum, cx),
            Table::Ping => self.ping_get_port(id, snum, cx),
            _ => self.udp_lib_get_port(id, snum, cx),
        }
    }

    pub(super) fn is_closed(&self, id: SockId) -> bool {
        self.get(id).state == State::Close
    }
}

/// `move_addr_to_kernel`: length before memory, and no memory for length 0.
fn move_addr_to_kernel<'a>(addr: Pointer<'a>, cx: &mut Ctx) -> Result<&'a [u8], No> {
    let Ok(len) = usize::try_from(addr.len) else {
        return cx.fail(Step::SysBindLength, Errno::EINVAL);
    };
    if len > STORAGE {
        return cx.fail(Step::SysBindLength, Errno::EINVAL);
    }
    if len == 0 {
        return Ok(&[]);
    }
    match addr.bytes.and_then(|b| b.get(..len)) {
        Some(bytes) => Ok(bytes),
        None => cx.fail(Step::SysBindFault, Errno::EFAULT),
    }
}
