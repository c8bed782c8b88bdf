//! What can be asked of a socket: `sk_getsockopt` and the levels below it,
//! `inet_getname`, `unix_getname`.

use super::connect::not_modelled;
use super::quirks;
use crate::addr::{Addr, af};
use crate::model::net::{Ctx, Net, SockId, State, Table, unmapped};
use crate::model::step::Step;
use crate::model::{Answer, Errno, GetOpt, No, Pick};
use crate::socket::ty;

impl Net<'_> {
    /// getsockopt(2).
    pub fn getsockopt(&self, id: SockId, opt: GetOpt) -> Answer<u32> {
        let mut cx = Ctx::new(Pick::Random(0));
        let result = if self.host.generation.is_freebsd() {
            self.sogetopt(id, opt, &mut cx)
        } else {
            self.sk_getsockopt(id, opt, &mut cx)
        };
        Answer::of(result, &cx)
    }

    fn sk_getsockopt(&self, id: SockId, opt: GetOpt, cx: &mut Ctx) -> Result<u32, No> {
        let s = self.get(id);
        let of_ip = matches!(
            opt,
            GetOpt::FreeBind | GetOpt::Transparent | GetOpt::NoPort | GetOpt::PortRange
        );
        let inet = matches!(s.kind.domain, af::INET | af::INET6);
        let of_family = of_ip || matches!(opt, GetOpt::V6Only | GetOpt::Repair);
        if of_family && s.is_mptcp() && s.state != State::Close {
            return not_modelled(cx);
        }
        if of_family && s.kind.domain == af::UNIX {
            // do_sock_getsockopt: there is no such level.
            return cx.fail(Step::GetUnknown, Errno::EOPNOTSUPP);
        }
        // do_ip_getsockopt: of another level than IP.
        let other_level = s.kind.domain == af::INET
            && (opt == GetOpt::V6Only || (opt == GetOpt::Repair && s.table != Table::Tcp));
        if other_level && !s.is_mptcp() {
            return cx.fail(Step::GetUnknown, Errno::EOPNOTSUPP);
        }
        let unknown = |cx: &mut Ctx| cx.fail(Step::GetUnknown, Errno::ENOPROTOOPT);
        // ipv6_getsockopt: level IP is not a raw socket's.
        if of_ip && (!inet || s.kind.domain == af::INET6 && s.kind.ty == ty::RAW) {
            return unknown(cx);
        }
        let generation = self.host.generation;
        let restricted = quirks::pass_is_restricted(generation);
        if s.is_mptcp()
            && !quirks::mptcp_has_port_options(generation)
            && matches!(opt, GetOpt::NoPort | GetOpt::PortRange)
        {
            // mptcp_getsockopt_v4
            return cx.fail(Step::GetUnknown, Errno::EOPNOTSUPP);
        }
        let value = match opt {
            GetOpt::ReuseAddr => u32::from(s.reuse),
            GetOpt::ReusePort if !quirks::has_reuseport(generation) => {
                return unknown(cx);
            }
            GetOpt::ReusePort => s.reuseport().into(),
            GetOpt::Type => s.kind.ty.into(),
            GetOpt::Domain => s.kind.domain.into(),
            GetOpt::Protocol => s.kind.protocol.into(),
            GetOpt::AcceptConn => (s.state == State::Listen).into(),
            GetOpt::BindToIfIndex if s.is_mptcp() => s.aux,
            GetOpt::BindToIfIndex => s.dev,
            // sk_may_scm_recv
            GetOpt::PassCred if restricted && !matches!(s.kind.domain, af::UNIX | af::NETLINK) => {
                return cx.fail(Step::OptPassFamily, Errno::EOPNOTSUPP);
            }
            GetOpt::PassCred => s.pass_cred().into(),
            GetOpt::PassPidfd if !quirks::has_pass_pidfd(generation) => return unknown(cx),
            GetOpt::PassPidfd if restricted && s.kind.domain != af::UNIX => {
                return cx.fail(Step::OptPassFamily, Errno::EOPNOTSUPP);
            }
            GetOpt::PassPidfd => s.pass_pidfd().into(),
            GetOpt::V6Only if s.kind.domain == af::INET6 => s.v6only().into(),
            // mptcp_getsockopt_v6 does not look at the family.
            GetOpt::V6Only if s.is_mptcp() => 0,
            GetOpt::FreeBind => s.freebind().into(),
            GetOpt::Transparent => s.transparent().into(),
            GetOpt::NoPort => s.no_port().into(),
            GetOpt::PortRange if quirks::has_port_range(generation) => {
                let [low, high] = s.range;
                u32::from(low) | u32::from(high) << 16
            }
            GetOpt::Repair if s.is_mptcp() => {
                return cx.fail(Step::GetUnknown, Errno::EOPNOTSUPP);
            }
            GetOpt::Repair if s.table == Table::Tcp => s.repair().into(),
            _ => return unknown(cx),
        };
        cx.pass(Step::GetOk);
        Ok(value)
    }

    /// getpeername(2): `inet_getname`, `unix_getname` and the others'.
    pub fn getpeername(&self, id: SockId) -> Answer<Addr> {
        let mut cx = Ctx::new(Pick::Random(0));
        let result = self.peer_name(id, &mut cx);
        Answer::of(result, &cx)
    }

    fn peer_name(&self, id: SockId, cx: &mut Ctx) -> Result<Addr, No> {
        let s = self.get(id);
        let name = match s.kind.domain {
            af::UNIX => match self.unix_peer_name(id) {
                Some(name) => Addr::Unix(name),
                None => return cx.fail(Step::PeerNone, Errno::ENOTCONN),
            },
            af::INET | af::INET6 => {
                let away = matches!(s.state, State::Close | State::SynSent);
                if s.dport == 0 || away {
                    return cx.fail(Step::PeerNone, Errno::ENOTCONN);
                }
                match s.kind.domain {
                    af::INET6 => Addr::Inet6 {
                        ip: s.daddr,
                        port: s.dport,
                        flow: 0,
                        scope: 0,
                    },
                    _ => Addr::Inet {
                        ip: unmapped(&s.daddr).unwrap_or(0).to_be_bytes(),
                        port: s.dport,
                    },
                }
            }
            // netlink_getname: nobody has been connected to.
            af::NETLINK if !self.host.generation.is_freebsd() => {
                Addr::Netlink { pid: 0, groups: 0 }
            }
            af::PACKET => return cx.fail(Step::PeerNone, Errno::EOPNOTSUPP),
            af::VSOCK if s.state != State::Established => {
                return cx.fail(Step::PeerNone, Errno::ENOTCONN);
            }
            _ => return not_modelled(cx),
        };
        cx.pass(Step::PeerOk);
        Ok(name)
    }
}
