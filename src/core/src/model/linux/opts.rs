//! The options that decide binds: `sk_setsockopt`, `do_ip_setsockopt`.

use super::quirks;
use crate::addr::af;
use crate::model::net::{Ctx, Net, SockId, State, Table};
use crate::model::step::Step;
use crate::model::{Answer, Cred, Errno, No, Opt, Pick};
use crate::socket::ty;

impl Net<'_> {
    /// setsockopt(2) with a value of the right size.
    pub fn setsockopt(&mut self, id: SockId, opt: Opt, cred: &Cred) -> Answer<()> {
        let mut cx = Ctx::new(Pick::Random(0));
        let result = if self.host.generation.is_freebsd() {
            self.sosetopt(id, opt, cred, &mut cx)
        } else {
            self.do_setsockopt(id, opt, cred, &mut cx)
        };
        if result.is_ok() {
            cx.pass(Step::OptSet);
        }
        Answer::of(result, &cx)
    }

    fn do_setsockopt(&mut self, id: SockId, opt: Opt, cred: &Cred, cx: &mut Ctx) -> Result<(), No> {
        let s = *self.get(id);
        let inet = matches!(s.kind.domain, af::INET | af::INET6);
        let generation = self.host.generation;
        // A raw IPv6 socket does not take those of level IP.
        let ip_level = matches!(
            opt,
            Opt::FreeBind(_) | Opt::Transparent(_) | Opt::NoPort(_) | Opt::PortRange(..)
        );
        let ip_or_tcp = ip_level || matches!(opt, Opt::V6Only(_) | Opt::Repair(_));
        if ip_or_tcp && s.kind.domain == af::UNIX {
            // unix_setsockopt, or nobody.
            return cx.fail(Step::OptUnknown, Errno::EOPNOTSUPP);
        }
        if ip_level && s.kind.domain == af::INET6 && s.kind.ty == ty::RAW {
            return cx.fail(Step::OptUnknown, Errno::ENOPROTOOPT);
        }
        if self.is_mptcp_over(id) {
            return cx.unknown(Step::UnknownMptcp);
        }
        // mutants: generation: until 6.8
        if s.is_mptcp() && !quirks::mptcp_has_port_options(generation) {
            let connected = !matches!(s.state, State::Close | State::Listen);
            match opt {
                // mptcp_supported_sockopt, mptcp_setsockopt_v4
                Opt::PortRange(..) => return cx.fail(Step::OptUnknown, Errno::ENOPROTOOPT),
                Opt::NoPort(_) if !(connected && self.is_mptcp_fallback(id)) => {
                    return cx.fail(Step::OptUnknown, Errno::EOPNOTSUPP);
                }
                _ => {}
            }
        }
        if self.is_mptcp_busy(id) {
            let of_socket = matches!(
                opt,
                Opt::ReuseAddr(_)
                    | Opt::ReusePort(_)
                    | Opt::BindToIfIndex(_)
                    | Opt::BindToDevice(_)
            );
            // mptcp_setsockopt_sol_ip_set: the right to it comes first. What
            // is not the socket level's goes straight to a fallback's subflow.
            let lacks = opt == Opt::Transparent(true) && !cred.net_raw && !cred.net_admin;
            let of_ip = (ip_level || matches!(opt, Opt::V6Only(_))) && !lacks;
            if of_socket || (of_ip && !self.is_mptcp_fallback(id)) {
                return cx.fail(Step::MptcpBusy, Errno::EINVAL);
            }
        }
        let restricted = quirks::pass_is_restricted(generation);
        // sock_setbindtodevice: the device is found before anything else.
        let opt = match opt {
            Opt::BindToDevice(name) if name.as_str().is_empty() => Opt::BindToIfIndex(0),
            Opt::BindToDevice(name) => match self.host.device_named(name.as_str().as_bytes()) {
                Some(index) => Opt::BindToIfIndex(index.cast_signed()),
                None => return cx.fail(Step::OptDeviceName, Errno::ENODEV),
            },
            opt => opt,
        };
        match opt {
            Opt::ReuseAddr(on) => self.edit(id, |s| s.reuse = u8::from(on)),
            Opt::ReusePort(_) if !quirks::has_reuseport(generation) => {
                return cx.fail(Step::OptUnknown, Errno::ENOPROTOOPT);
            }
            Opt::ReusePort(true) if !inet && quirks::reuseport_is_inet_only(generation) => {
                return cx.fail(Step::OptReuseportFamily, Errno::EOPNOTSUPP);
            }
            Opt::ReusePort(on) => self.edit(id, |s| s.set_reuseport(on)),
            Opt::V6Only(on) => {
                if s.kind.domain != af::INET6 {
                    return cx.fail(Step::OptV6onlyFamily, Errno::ENOPROTOOPT);
                }
                if s.num != 0 {
                    return cx.fail(Step::OptV6onlyBound, Errno::EINVAL);
                }
                self.edit(id, |s| s.set_v6only(on));
            }
            Opt::BindToIfIndex(index) => {
                if s.dev != 0 && !cred.net_raw {
                    return cx.fail(Step::OptDevicePerm, Errno::EPERM);
                }
                let Ok(index) = u32::try_from(index) else {
                    return cx.fail(Step::OptDeviceIndex, Errno::EINVAL);
                };
                self.edit(id, |s| {
                    s.dev = index;
                    // udp_lib_rehash takes it out of its reuseport group.
                    s.set_group(s.group() && (s.table == Table::Tcp || !s.hashed()));
                    if s.is_mptcp() {
                        s.aux = index;
                    }
                });
            }
            Opt::LingerZero(on) => self.edit(id, |s| s.set_linger_zero(on)),
            Opt::FreeBind(on) if inet => self.edit(id, |s| s.set_freebind(on)),
            Opt::Transparent(on) if inet => {
                if on && !cred.net_raw && !cred.net_admin {
                    return cx.fail(Step::OptTransparentPerm, Errno::EPERM);
                }
                self.edit(id, |s| s.set_transparent(on));
            }
            Opt::NoPort(on) if inet => self.edit(id, |s| s.set_no_port(on)),
            Opt::PortRange(lo, hi) if inet && quirks::has_port_range(generation) => {
                if lo != 0 && hi != 0 && lo > hi {
                    return cx.fail(Step::OptPortRange, Errno::EINVAL);
                }
                self.edit(id, |s| s.range = [lo, hi]);
            }
            Opt::Repair(on) if s.table == Table::Tcp && !s.is_mptcp() => {
                if !cred.net_admin || s.state == State::Listen {
                    return cx.fail(Step::OptRepairPerm, Errno::EPERM);
                }
                if !on && self.is_unheard(id) {
                    // tcp_send_window_probe asks the other side.
                    return cx.unknown(Step::UnknownCutOff);
                }
                self.edit(id, |s| {
                    s.set_repair(on);
                    s.reuse = if on { 2 } else { 0 };
                });
            }
            Opt::PassPidfd(_) if !quirks::has_pass_pidfd(generation) => {
                return cx.fail(Step::OptUnknown, Errno::ENOPROTOOPT);
            }
            // sk_may_scm_recv
            Opt::PassCred(_) if restricted && !matches!(s.kind.domain, af::UNIX | af::NETLINK) => {
                return cx.fail(Step::OptPassFamily, Errno::EOPNOTSUPP);
            }
            Opt::PassCred(on) => self.edit(id, |s| s.set_pass_cred(on)),
            Opt::PassPidfd(_) if restricted && s.kind.domain != af::UNIX => {
                return cx.fail(Step::OptPassFamily, Errno::EOPNOTSUPP);
            }
            Opt::PassPidfd(on) => self.edit(id, |s| s.set_pass_pidfd(on)),
            Opt::AttachReuseport if s.is_mptcp() => {
                return cx.fail(Step::OptUnknown, Errno::EOPNOTSUPP);
            }
            // reuseport_attach_prog: a vsock socket is never hashed, and could have
            // SO_REUSEPORT until 6.1.124 (not mended in 5.10.262).
            // mutants: generation: 5.10
            Opt::AttachReuseport if s.kind.domain == af::VSOCK && (s.reuseport() || s.group()) => {
                self.edit(id, |s| s.set_group(true));
            }
            // reuseport_attach_prog: no group, and nothing that could be in one.
            Opt::AttachReuseport if !inet || s.kind.ty == ty::RAW => {
                return cx.fail(Step::OptUnknown, Errno::EINVAL);
            }
            Opt::AttachReuseport => {
                let hashed = match s.table {
                    Table::Tcp => s.state != State::Close,
                    _ => s.hashed(),
                };
                // mutants: generation: until 6.1
                let again = s.group() && quirks::group_outlives_reuseport(self.host.generation);
                if (hashed && !s.group()) || (!hashed && !s.reuseport() && !again) {
                    return cx.fail(Step::OptUnknown, Errno::EINVAL);
                }
                self.edit(id, |s| s.set_group(true));
            }
            _ => return cx.fail(Step::OptUnknown, Errno::ENOPROTOOPT),
        }
        Ok(())
    }
}
