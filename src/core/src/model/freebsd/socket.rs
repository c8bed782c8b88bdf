//! `sys_socket`, `socreate`.

use super::{jail, quirks, settle};
use crate::addr::af;
use crate::model::net::{Ctx, Net, Sock, SockId, Table};
use crate::model::step::Step;
use crate::model::{Cred, Errno, No};
use crate::socket::{SocketType, ty};

impl Net<'_> {
    /// `kern_socket`, `socreate`, `pffindproto`
    pub(in crate::model) fn kern_socket(
        &mut self,
        domain: i32,
        ty_flags: u32,
        protocol: i32,
        cred: &Cred,
        cx: &mut Ctx,
    ) -> Result<SockId, No> {
        // SOCK_CLOEXEC and SOCK_NONBLOCK as Linux numbers them; others stay
        // and make the type unknown.
        let kind = ty_flags & !0o2_004_000;
        let known = matches!(u16::try_from(domain), Ok(af::INET | af::INET6 | af::UNIX));
        let is_built = domain != i32::from(af::INET6) || self.host.has_ipv6;
        if !known || !is_built {
            return cx.fail(Step::BsdNoDomain, Errno::EAFNOSUPPORT);
        }
        let unix = domain == i32::from(af::UNIX);
        let fits = match kind as u16 {
            _ if kind > 16 => false,
            ty::STREAM if unix => true,
            ty::DGRAM if unix => true,
            ty::SEQPACKET => unix,
            ty::STREAM => matches!(protocol, 0 | 6),
            ty::DGRAM if protocol == 136 => quirks::has_udplite(self.host.generation),
            ty::DGRAM => matches!(protocol, 0 | 17),
            // The entry without a protocol takes every one.
            ty::RAW => !unix,
            _ => false,
        };
        if !fits {
            return if protocol == 0 && kind != 0 {
                cx.fail(Step::BsdNoType, Errno::EPROTOTYPE)
            } else {
                cx.fail(Step::BsdNoProtocol, Errno::EPROTONOSUPPORT)
            };
        }
        self.prison_check_af(domain as u16, cred, cx)?;
        // Jails have no `allow.raw_sockets` unless they are given it.
        if kind == u32::from(ty::RAW) && (cred.uid != 0 || cred.jail != 0) {
            return cx.fail(Step::BsdRawPerm, Errno::EPERM);
        }
        if kind == u32::from(ty::RAW) && !(0..256).contains(&protocol) {
            return cx.fail(Step::BsdRawProtocol, Errno::EPROTONOSUPPORT);
        }
        let made = SocketType::created(domain, kind as i32, protocol);
        let table = if unix {
            Table::Unix
        } else {
            Self::bsd_table(made.protocol)
        };
        let mut sock = Sock::new(made, table, cred);
        // net.inet6.ip6.v6only is 1.
        sock.set_v6only(domain == i32::from(af::INET6));
        sock.set_root(cred.uid == 0);
        sock.dev = jail::number(self.host, cred);
        sock.set_freebsd(true);
        // A raw socket's port is none.
        sock.sport = 0;
        settle(&mut sock);
        match self.alloc(sock) {
            Some(id) => {
                cx.pass(Step::BsdSocket);
                Ok(id)
            }
            None => cx.unknown(Step::NoRoom),
        }
    }
}
