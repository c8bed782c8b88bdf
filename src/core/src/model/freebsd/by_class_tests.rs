//! What the classes say, against `in_pcblookup_local`'s own walk.

use std::vec::Vec;

use super::class::View;
use super::pcb::{ADDR, LB, PORT, connected, lport, options};
use super::{INP_IPV4, INP_IPV6, INP_REUSEPORT, PortRange};
use crate::addr::af;
use crate::model::dice::Dice;
use crate::model::host::{Jail, V6};
use crate::model::net::{Net, Outside, Sock, mapped, unmapped};
use crate::model::{
    Cred, Errno, Fd, Generation, Host, No, Opt, OwnedNet, Pick, Pointer, SockId, State,
};
use crate::socket::{SocketType, proto, ty};

const PORTS: [u16; 2] = [2000, 2001];
/// 10.0.0.1, 10.0.0.2 and a multicast address.
const FOURS: [u32; 5] = [0, 0, 0x0a00_0001, 0x0a00_0002, 0xe000_0001];

fn sixes() -> [[u8; 16]; 6] {
    let last = |first, last| {
        let mut a = [0; 16];
        (a[0], a[15]) = (first, last);
        a
    };
    [
        [0; 16],
        [0; 16],
        last(0xfd, 1),
        last(0xff, 1),
        mapped(0),
        mapped(0x0a00_0001),
    ]
}

fn has_v4(s: &Sock) -> bool {
    s.bsd & INP_IPV4 != 0
}

fn has_v6(s: &Sock) -> bool {
    s.bsd & INP_IPV6 != 0
}

/// `inp_laddr`, the last word of `in6p_laddr`.
fn laddr(s: &Sock) -> u32 {
    let [.., a, b, c, d] = s.rcv6;
    u32::from_be_bytes([a, b, c, d])
}

fn sees(view: View, s: &Sock) -> bool {
    match view {
        View::Four(_) => has_v4(s),
        View::Six(_) => has_v6(s),
    }
}

fn equals(view: View, s: &Sock) -> bool {
    match view {
        View::Four(a) => laddr(s) == a,
        View::Six(a) => s.rcv6 == a,
    }
}

fn any_of(view: View, s: &Sock) -> bool {
    match view {
        View::Four(_) => laddr(s) == 0,
        View::Six(_) => s.rcv6 == [0; 16],
    }
}

/// The hash chain of a port as `in_pcbinshash` builds it: the newest first, but
/// since 14 `::ffff:0.0.0.0`'s at the end.
fn chain<'a>(net: &'a Net<'_>, id: SockId, port: u16) -> Vec<(SockId, &'a Sock)> {
    let owners = net.owners(net.get(id).table, u32::from(port));
    let (mut last, mut chain): (Vec<_>, Vec<_>) = owners.partition(|(_, s)| {
        net.host.generation == Generation::FreeBsd14_3
            && s.kind.domain == af::INET6
            && !has_v6(s)
            && laddr(s) == 0
    });
    last.reverse();
    chain.append(&mut last);
    chain
}

/// `in_pcblookup_local`: the first of the best owners of those that this jail
/// has made.
fn lookup<'a>(
    net: &'a Net<'_>,
    id: SockId,
    cred: &Cred,
    port: u16,
    view: View,
    wild: bool,
) -> Option<(SockId, &'a Sock)> {
    let mine = |o: SockId, s: &Sock| o != id && s.dev == cred.jail + 1 && sees(view, s);
    if !wild {
        let mut owners = chain(net, id, port).into_iter();
        return owners.find(|(o, s)| mine(*o, s) && !connected(s) && equals(view, s));
    }
    let mut best: Option<(u32, SockId, &Sock)> = None;
    for (o, s) in net.owners(net.get(id).table, u32::from(port)) {
        if !mine(o, s) {
            continue;
        }
        let one_wild = view.is_any() != any_of(view, s);
        if !(equals(view, s) || one_wild) {
            continue;
        }
        let dual = matches!(view, View::Four(_)) && has_v6(s);
        let cost = u32::from(dual) * 3 + u32::from(connected(s)) + u32::from(one_wild);
        if best.is_none_or(|(least, ..)| cost < least) {
            best = Some((cost, o, s));
        }
    }
    best.map(|(_, o, s)| (o, s))
}

/// What an owner shares by, as others see it.
fn owner_options(net: &Net<'_>, s: &Sock) -> u8 {
    if net.host.generation == Generation::FreeBsd9_1 {
        u8::from(s.bsd & INP_REUSEPORT != 0) * PORT
    } else {
        options(s)
    }
}

/// `in_pcbbind_avail` with that: who is in the way?
fn walk(
    net: &Net<'_>,
    id: SockId,
    cred: &Cred,
    port: u16,
    view: View,
    multicast: bool,
) -> Option<SockId> {
    let s = net.get(id);
    let own = options(s);
    let old = net.host.generation == Generation::FreeBsd9_1;
    let mut mask = own & (PORT | LB);
    if multicast {
        if own & if old { ADDR } else { ADDR | PORT } != 0 {
            mask |= ADDR | PORT;
        }
        if own & (ADDR | LB) != 0 && !old {
            mask |= ADDR | LB;
        }
    }
    let six = s.kind.domain == af::INET6;
    let dual = view == View::Six([0; 16]) && !s.v6only();
    let views: Vec<View> = [Some(view), dual.then_some(View::Four(0))]
        .into_iter()
        .flatten()
        .collect();
    if !multicast && !s.root() {
        for (i, &v) in views.iter().enumerate() {
            let Some((t, o)) = lookup(net, id, cred, port, v, true) else {
                continue;
            };
            let counts = s.kind.ty != ty::STREAM || !connected(o);
            let spared =
                old && i == 0 && v.is_any() && any_of(v, o) && owner_options(net, o) & PORT != 0;
            if counts && !spared && o.uid != s.uid {
                return Some(t);
            }
        }
    }
    for (i, &v) in views.iter().enumerate() {
        let Some((t, o)) = lookup(net, id, cred, port, v, own == 0) else {
            continue;
        };
        let o_six = o.kind.domain == af::INET6;
        let spared = match v {
            View::Four(0) if i == 0 => laddr(o) == 0 && six && o_six,
            View::Four(0) => laddr(o) == 0 && !o_six,
            _ => false,
        };
        if mask & owner_options(net, o) == 0 && !spared {
            return Some(t);
        }
    }
    None
}

/// How often each answer was seen.
#[derive(Default)]
struct Seen {
    free: u32,
    in_use: u32,
    automatic: u32,
    /// Of the free ones, with a jail that calls or has made the socket.
    jailed: u32,
}

/// Who calls, in no jail mostly.
fn caller(dice: &mut Dice, uid: u32) -> Cred {
    Cred {
        jail: dice.one(&[0, 0, 0, 1]),
        ..Cred::user(uid)
    }
}

/// A new socket with options and user drawn.
fn socket(net: &mut Net<'_>, dice: &mut Dice) -> Option<SockId> {
    let uid = dice.one(&[0, 1, 1, 2]);
    let cred = caller(dice, uid);
    let domain = dice.one(&[af::INET, af::INET6]);
    let id = net
        .socket(i32::from(domain), dice.one(&[1, 2]), 0, &cred)
        .result
        .ok()?;
    for opt in [
        Opt::ReuseAddr(true),
        Opt::ReusePort(true),
        Opt::ReusePortLb(true),
    ] {
        if dice.below(3) == 0 {
            net.setsockopt(id, opt, &cred);
        }
    }
    net.setsockopt(id, Opt::V6Only(dice.below(2) == 0), &cred);
    Some(id)
}

/// Binds it somewhere, and asks the walk first what must come of it.
fn bind(net: &mut Net<'_>, id: SockId, dice: &mut Dice, seen: &mut Seen) {
    let s = *net.get(id);
    let cred = caller(dice, 0);
    let port = dice.one(&PORTS);
    let mut bytes = [0; 28];
    bytes[..2].copy_from_slice(&s.kind.domain.to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    let (len, view, multicast) = if s.kind.domain == af::INET {
        let ip = dice.one(&FOURS);
        bytes[4..8].copy_from_slice(&ip.to_be_bytes());
        (16, View::Four(ip), ip >> 28 == 0xe)
    } else {
        let ip = dice.one(&sixes());
        bytes[8..24].copy_from_slice(&ip);
        match unmapped(&ip) {
            Some(v4) if !s.v6only() => (28, View::Four(v4), false),
            _ => (28, View::Six(ip), ip[0] == 0xff),
        }
    };
    // One that 9.1 makes both of by the failure is not seen at its IPv4 address.
    let was_four = s.kind.domain == af::INET6 && !has_v6(&s) && laddr(&s) != 0;
    if was_four && view == View::Six([0; 16]) && !s.v6only() {
        return;
    }
    let unbound = lport(&s) == 0 && laddr(&s) == 0;
    let expected = walk(net, id, &cred, port, view, multicast);
    let at = Pointer {
        bytes: Some(&bytes),
        len,
    };
    let answer = net.bind(Fd::Socket(id), at, &cred, Pick::Random(0));
    match answer.result {
        Ok(()) => {
            let brief = |s: &Sock| (s.kind, s.uid, s.dev, s.bsd, s.rcv6, s.num, s.state);
            let owner = expected.map(|o| brief(net.get(o)));
            assert_eq!(owner, None, "{:?} {view:?} port {port}", brief(&s));
            seen.free += 1;
            seen.jailed += u32::from(cred.jail != 0 || s.dev != 1);
        }
        Err(No::Errno(Errno::EADDRINUSE)) => {
            assert!(expected.is_some(), "{s:?} {view:?} port {port}");
            assert_eq!(answer.holder, expected);
            seen.in_use += 1;
        }
        // Refused before the owners are looked at.
        Err(e) => assert!(!unbound || e != Errno::EINVAL.into(), "{e:?}"),
    }
}

/// An automatic port for it, of four: the first open one from the draw on.
fn automatic(net: &mut Net<'_>, id: SockId, dice: &mut Dice, seen: &mut Seen) {
    let s = *net.get(id);
    let odd = s.kind.domain == af::INET6 && !has_v6(&s);
    if lport(&s) != 0 || odd || s.kind.ty != ty::STREAM || s.bsd_range != PortRange::Default as u8 {
        return;
    }
    let view = if s.kind.domain == af::INET6 {
        View::Six([0; 16])
    } else {
        View::Four(0)
    };
    let cred = caller(dice, 0);
    let wild = options(&s) == 0;
    let both = net.host.generation == Generation::FreeBsd14_3 && !s.v6only();
    let open = |port: &u16| {
        lookup(net, id, &cred, *port, view, wild).is_none()
            && !(view == View::Six([0; 16])
                && both
                && lookup(net, id, &cred, *port, View::Four(0), wild).is_some())
    };
    // The first port is never drawn.
    let draw = dice.below(3) as u16;
    let expected = (0..4).map(|i| 2000 + (1 + draw + i) % 4).find(open);
    net.listen(id, &cred, Pick::Random(u32::from(draw)));
    assert_eq!(
        net.get(id).num,
        expected.map_or(0, u32::from),
        "{s:?} from {draw}"
    );
    seen.automatic += 1;
}

fn step(net: &mut Net<'_>, dice: &mut Dice, seen: &mut Seen) {
    let ids: Vec<SockId> = net.ids().filter(|id| net.get(*id).refs > 0).collect();
    let Some(&id) = ids.get(dice.below(ids.len() as u32 + 4) as usize) else {
        if let Some(id) = socket(net, dice) {
            if dice.below(8) == 0 && net.get(id).kind.ty == ty::STREAM {
                automatic(net, id, dice, seen);
            } else {
                bind(net, id, dice, seen);
            }
        }
        return;
    };
    let on = dice.below(2) == 0;
    match dice.below(8) {
        0 => drop(net.setsockopt(id, Opt::ReuseAddr(on), &Cred::ROOT)),
        1 => drop(net.setsockopt(id, Opt::ReusePort(on), &Cred::ROOT)),
        2 => drop(net.setsockopt(id, Opt::ReusePortLb(on), &Cred::ROOT)),
        3 => bind(net, id, dice, seen),
        4 => {
            // Somebody else's, in a state that the model does not come to.
            let six = dice.below(2) == 0;
            net.adopt(&Outside {
                kind: SocketType {
                    domain: if six { af::INET6 } else { af::INET },
                    ty: ty::STREAM,
                    protocol: dice.one(&[proto::TCP, proto::UDP]),
                },
                uid: dice.below(3),
                addr: if six {
                    dice.one(&sixes())
                } else {
                    mapped(dice.one(&FOURS))
                },
                port: dice.one(&PORTS),
                state: dice.one(&[
                    State::Close,
                    State::Listen,
                    State::Established,
                    State::TimeWait,
                ]),
                reuse: on,
                reuseport: dice.below(2) == 0,
                v6only: six && dice.below(2) == 0,
                dev: dice.below(2),
            });
        }
        _ => drop(net.close(id)),
    }
}

#[test]
fn classes_agree_with_a_walk() {
    for generation in [Generation::FreeBsd9_1, Generation::FreeBsd14_3] {
        let mut host = Host::loopback(generation);
        host.sysctl.local_port_range = (2000, 2003);
        // Addresses that make nothing of the wildcards, and any other legal.
        let mut jail = Jail::EMPTY;
        for ip in [0x0a00_0001, 0x0a00_0002, 0xe000_0001] {
            jail.v4.push(ip);
        }
        for ip in [sixes()[2], sixes()[3], sixes()[4], sixes()[5]] {
            jail.v6.push(ip);
        }
        host.jails.push(jail);
        for addr in [0x0a00_0001, 0x0a00_0002] {
            host.v4.push(crate::model::host::V4 {
                addr,
                prefix: 24,
                dev: 1,
            });
        }
        host.v6.push(V6 {
            addr: sixes()[2],
            dev: 1,
            tentative: false,
        });
        let mut owned = OwnedNet::new(host, 30);
        let mut dice = Dice(0x1234_5678_9abc_def1);
        let mut seen = Seen::default();
        for round in 0..4000 {
            let mut net = owned.net();
            net.clear();
            assert_eq!(net.core.used, 0, "round {round}");
            for _ in 0..100 {
                step(&mut net, &mut dice, &mut seen);
            }
        }
        assert!(seen.free > 10_000 && seen.in_use > 10_000, "too few binds");
        assert!(seen.automatic > 1_000, "too few automatic ports");
        assert!(seen.jailed > 1_000, "too few jails");
    }
}
