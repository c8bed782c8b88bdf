//! A table that follows a real network: what a [`Net`] needs besides the calls
//! of programs, when records and sock_diag tell it what has happened.

use super::host::Cred;
use super::linux::inet_rcv_saddr_equal;
use super::net::{Asker, Net, SockId, State, Table, mapped, meet};
use super::{Fd, Opt, Pick, Pointer};
use crate::addr::{Addr, UnixKind, af};
use crate::socket::{BindOptions, SocketType, proto};

/// A bind that somebody wants to make, as far as a conflict depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The socket.
    pub kind: SocketType,
    /// The bytes of the address.
    pub addr: &'a [u8],
    /// The options that it has.
    pub options: BindOptions,
    /// The index of the device that it is bound to, or 0.
    pub device: u32,
    /// Its user.
    pub uid: u32,
}

/// Who stands in the way of this bind: considering both sockets' options,
/// devices, users and states. `None` if nobody does, or if something other
/// than an owner of the address would refuse the bind.
///
/// The table is as before afterwards.
pub fn conflict(net: &mut Net<'_>, ask: &Ask<'_>) -> Option<SockId> {
    // Whether the caller may have the port is not the question.
    let cred = Cred {
        uid: ask.uid,
        ..Cred::ROOT
    };
    let id = net.open(ask, &cred)?;
    let bound = net.bind(
        Fd::Socket(id),
        Pointer::to(ask.addr),
        &cred,
        Pick::Random(0),
    );
    net.forget(id);
    bound.holder.filter(|_| bound.result.is_err())
}

/// Is anybody of these at an address that this bind would share, whatever the
/// options say? A packet might reach both.
pub fn overlapping(
    net: &mut Net<'_>,
    ask: &Ask<'_>,
    is: impl Fn(SockId) -> bool,
) -> Option<SockId> {
    let (ip, port) = match Addr::read(ask.addr)? {
        Addr::Inet { ip, port } => (mapped(u32::from_be_bytes(ip)), port),
        Addr::Inet6 { ip, port, .. } => (ip, port),
        _ => return None,
    };
    let id = net.open(ask, &Cred::ROOT)?;
    net.edit(id, |s| s.set_rcv(ip));
    let asker = Asker::of(id, net.get(id));
    let overlaps = |other: &SockId| {
        let o = net.get(*other);
        meet(asker.dev, o.dev) && inet_rcv_saddr_equal(&asker, o) && is(*other)
    };
    let found = table_of(ask.kind).and_then(|table| net.owners_of(table, port).find(overlaps));
    net.forget(id);
    found
}

/// The bind table that sockets of this kind have ports in.
#[must_use]
pub fn table_of(kind: SocketType) -> Option<Table> {
    match (kind.domain, kind.protocol) {
        (af::INET | af::INET6, proto::TCP | proto::MPTCP) => Some(Table::Tcp),
        (af::INET | af::INET6, proto::UDP) => Some(Table::Udp),
        (af::INET | af::INET6, proto::UDPLITE) => Some(Table::UdpLite),
        _ => None,
    }
}

impl Net<'_> {
    /// A new socket that has these options and this device. `None` if the
    /// table is full or the host has no such sockets.
    pub fn open(&mut self, ask: &Ask<'_>, cred: &Cred) -> Option<SockId> {
        let SocketType {
            domain,
            ty,
            protocol,
        } = ask.kind;
        let made = self.socket(domain.into(), ty.into(), protocol.into(), cred);
        let id = made.result.ok()?;
        let has = |options| ask.options.has(options);
        self.edit(id, |s| {
            s.reuse = u8::from(has(BindOptions::REUSEADDR));
            s.set_reuseport(has(BindOptions::REUSEPORT));
            // A default of the host's may have set it.
            if s.kind.domain == af::INET6 && !ask.options.has(BindOptions::UNKNOWN) {
                s.set_v6only(has(BindOptions::V6ONLY));
            }
            s.set_freebind(has(BindOptions::FREEBIND));
            s.set_transparent(has(BindOptions::TRANSPARENT));
            s.set_no_port(has(BindOptions::BIND_ADDRESS_NO_PORT));
            if s.freebsd() {
                super::freebsd::settle(s);
            }
        });
        if ask.device != 0 {
            let device = Opt::BindToIfIndex(ask.device.cast_signed());
            let _ = self.setsockopt(id, device, cred);
        }
        Some(id)
    }

    /// The socket that was bound to the Unix path of this address last.
    #[must_use]
    pub fn owner_of_path(&self, addr: &[u8]) -> Option<SockId> {
        match Addr::read(addr)? {
            Addr::Unix(name) if name.kind == UnixKind::Path => self.unix_find_path(name.bytes()),
            _ => None,
        }
    }

    /// The owners of a port.
    pub fn owners_of(&self, table: Table, port: u16) -> impl Iterator<Item = SockId> + '_ {
        self.owners(table, u32::from(port)).map(|(id, _)| id)
    }

    /// The socket is in this state by now, whatever it was.
    pub fn set_state(&mut self, id: SockId, state: State) {
        self.edit(id, |s| s.state = state);
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::model::{Generation, Host, OwnedNet};
    use alloc::vec::Vec;

    const TCP: SocketType = SocketType {
        domain: af::INET,
        ty: 1,
        protocol: proto::TCP,
    };
    const TCP6: SocketType = SocketType {
        domain: af::INET6,
        ..TCP
    };

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        Addr::Inet { ip, port }.write().bytes().to_vec()
    }

    fn any6(port: u16) -> Vec<u8> {
        let any = Addr::any(af::INET6).unwrap();
        any.with_port(port.into()).write().bytes().to_vec()
    }

    fn ask<'a>(kind: SocketType, addr: &'a [u8], options: u8, device: u32) -> Ask<'a> {
        Ask {
            kind,
            addr,
            options: BindOptions(options),
            device,
            uid: 7,
        }
    }

    /// Is the second in the way of the first?
    fn meet(first: Ask<'_>, second: Ask<'_>) -> bool {
        let mut owned = OwnedNet::new(Host::loopback(Generation::Linux6_18), 8);
        let mut net = owned.net();
        let id = net.open(&first, &Cred::ROOT).unwrap();
        let bound = net.bind(
            Fd::Socket(id),
            Pointer::to(first.addr),
            &Cred::ROOT,
            Pick::Random(0),
        );
        bound.result.unwrap();
        let used = net.core.used;
        let found = conflict(&mut net, &second);
        assert_eq!(net.core.used, used);
        assert!(found.is_none_or(|found| found == id));
        found.is_some()
    }

    #[test]
    fn options_decide_who_is_in_the_way() {
        let (local, other) = (v4([127, 0, 0, 1], 80), v4([127, 0, 0, 1], 81));
        let any = v4([0; 4], 80);
        let plain = ask(TCP, &local, 0, 0);
        assert!(meet(plain, plain));
        assert!(meet(plain, ask(TCP, &any, 0, 0)));
        assert!(!meet(plain, ask(TCP, &other, 0, 0)));
        let reuse = ask(TCP, &local, BindOptions::REUSEADDR, 0);
        assert!(!meet(reuse, reuse));
        assert!(meet(plain, reuse));
    }

    #[test]
    fn v6only_and_devices_decide_too() {
        let (four, six) = (v4([0; 4], 80), any6(80));
        assert!(meet(ask(TCP, &four, 0, 0), ask(TCP6, &six, 0, 0)));
        let only = ask(TCP6, &six, BindOptions::V6ONLY, 0);
        assert!(!meet(ask(TCP, &four, 0, 0), only));
        let on = |device| ask(TCP, &four, BindOptions::DEVICE, device);
        assert!(!meet(on(1), on(2)));
        assert!(meet(on(1), on(1)));
        assert!(meet(on(1), ask(TCP, &four, 0, 0)));
    }

    #[test]
    fn addresses_overlap_whatever_the_options_say() {
        let mut owned = OwnedNet::new(Host::loopback(Generation::Linux6_18), 8);
        let mut net = owned.net();
        let (local, second) = (v4([127, 0, 0, 1], 80), v4([127, 0, 0, 2], 80));
        let first = ask(TCP, &local, BindOptions::REUSEADDR, 0);
        let id = net.open(&first, &Cred::ROOT).unwrap();
        let bound = net.bind(
            Fd::Socket(id),
            Pointer::to(&local),
            &Cred::ROOT,
            Pick::Random(0),
        );
        bound.result.unwrap();
        let any = any6(80);
        assert_eq!(conflict(&mut net, &first), None);
        assert_eq!(overlapping(&mut net, &first, |_| true), Some(id));
        assert_eq!(overlapping(&mut net, &first, |_| false), None);
        let second = ask(TCP, &second, 0, 0);
        assert_eq!(overlapping(&mut net, &second, |_| true), None);
        let any = ask(TCP6, &any, 0, 0);
        assert_eq!(overlapping(&mut net, &any, |_| true), Some(id));
    }
}
