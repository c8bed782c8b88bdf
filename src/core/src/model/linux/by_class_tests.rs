//! What the classes, counts and views say, against a walk over all owners.

use std::vec::Vec;

use super::tcp::{Look, inet_bind_conflict, inet_rcv_saddr_equal};
use super::udp::{meets, shares};
use crate::addr::af;
use crate::model::dice::Dice;
use crate::model::host::Host;
use crate::model::net::{ALL, Asker, MAPPED_ANY, Net, Sock, mapped};
use crate::model::{Cred, Fd, Generation, No, Opt, OwnedNet, Pick, Pointer, SockId, State, Table};

const PORTS: [u16; 3] = [2000, 2001, 40001];

/// `inet_csk_bind_conflict` as a walk.
fn walk(net: &Net<'_>, a: &Asker, port: u16, look: Look) -> bool {
    net.owners(a.table, u32::from(port)).any(|(o, s)| {
        let overlap = if a.is_specific() {
            let any = s.rcv6 == [0; 16] || (a.is_four() && s.rcv6 == MAPPED_ANY);
            (any || s.rcv6 == a.rcv6) && !(a.is_four() && s.v6only())
        } else {
            inet_rcv_saddr_equal(a, s)
        };
        !a.is(o) && overlap && inet_bind_conflict(a, s, look)
    })
}

/// `udp_lib_lport_inuse` with a bitmap, as a walk.
fn udp_walk(net: &Net<'_>, a: &Asker, port: u16) -> bool {
    net.owners(a.table, u32::from(port))
        .any(|(o, s)| !a.is(o) && meets(a, s) && !shares(a, s))
}

fn sockaddr(dice: &mut Dice, domain: u16) -> ([u8; 28], i32) {
    let mut bytes = [0; 28];
    bytes[..2].copy_from_slice(&domain.to_ne_bytes());
    let port = if dice.below(5) == 0 {
        0
    } else {
        dice.one(&PORTS)
    };
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    if domain == af::INET {
        let ip = dice.one(&[[0, 0, 0, 0], [127, 0, 0, 1], [127, 0, 0, 2]]);
        bytes[4..8].copy_from_slice(&ip);
        return (bytes, 16);
    }
    let mut one = [0; 16];
    one[15] = 1;
    let ip = dice.one(&[[0; 16], one, mapped(0), mapped(0x7f00_0001)]);
    bytes[8..24].copy_from_slice(&ip);
    (bytes, 28)
}

fn check(net: &mut Net<'_>, dice: &mut Dice) {
    let table = dice.one(&[Table::Tcp, Table::Udp]);
    let cred = Cred::user(dice.one(&[1, 2]));
    let mut s = Sock::new(
        crate::socket::SocketType {
            domain: dice.one(&[af::INET, af::INET6]),
            ty: 1,
            protocol: 6,
        },
        table,
        &cred,
    );
    let one = {
        let mut one = [0; 16];
        one[15] = 1;
        one
    };
    s.set_rcv(if s.is_v6() {
        dice.one(&[[0; 16], one, mapped(0), mapped(0x7f00_0001)])
    } else {
        mapped(dice.one(&[0, 0x7f00_0001, 0x7f00_0002]))
    });
    s.set_v6only(s.is_v6() && crate::model::net::unmapped(&s.rcv6).is_none() && dice.below(2) == 0);
    s.reuse = dice.below(2) as u8;
    s.set_reuseport(dice.below(2) == 0);
    s.set_group(dice.below(6) == 0);
    s.dev = dice.one(&[0, 0, 1, 2]);
    let ids: Vec<SockId> = net.ids().collect();
    // A new socket's question, or one that has a port (listen).
    let mine = ids
        .iter()
        .copied()
        .find(|id| net.get(*id).table == table && net.get(*id).hashed() && dice.below(4) == 0);
    let asker = match mine {
        Some(id) => Asker::of(id, net.get(id)),
        None => Asker::of(SockId(u32::MAX), &s),
    };
    for port in PORTS {
        // The classes' lists hold each owner once.
        let at = |id: &SockId| id.0;
        let mut listed: Vec<SockId> = net
            .of_classes(table, u32::from(port), ALL)
            .map(|(o, _)| o)
            .collect();
        let mut owners: Vec<SockId> = net.owners(table, u32::from(port)).map(|(o, _)| o).collect();
        listed.sort_by_key(at);
        owners.sort_by_key(at);
        assert_eq!(listed, owners, "port {port}");
        if table == Table::Tcp {
            for (relax, reuseport_ok) in [(true, true), (true, false), (false, false)] {
                let look = Look {
                    relax,
                    reuseport_ok,
                };
                let found = net.inet_csk_bind_conflict(&asker, port, look);
                assert_eq!(
                    found.is_some(),
                    walk(net, &asker, port, look),
                    "{asker:?} port {port} relax {relax} reuseport {reuseport_ok}"
                );
                if let Some(found) = found {
                    assert!(net.holder(&asker, port, look, &found).is_some());
                }
            }
        } else {
            // 127.0.0.6 is what ::1 looks like to IPv4: not drawn here.
            assert_eq!(
                net.udp_closed(&asker, port),
                udp_walk(net, &asker, port),
                "{asker:?} port {port}"
            );
        }
    }
    if mine.is_none() {
        let options = table == Table::Udp || dice.below(2) == 0;
        let relax = options && table == Table::Tcp;
        let general = asker.in_general(options);
        let view = match net.cheap_view(&general, relax) {
            Some(view) => view,
            None => net.view(&general, relax),
        };
        for port in PORTS {
            assert_eq!(
                net.closed(view).has(port),
                net.auto_closed(&general, port, relax),
                "{general:?} port {port}"
            );
        }
    }
}

#[test]
fn classes_and_views_agree_with_a_walk() {
    let mut host = Host::loopback(Generation::Linux6_18);
    host.add_device(2, b"two", false);
    let mut owned = OwnedNet::new(host, 40);
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for round in 0..4000 {
        let mut net = owned.net();
        net.clear();
        assert_eq!(net.core.used, 0, "round {round}");
        for _ in 0..120 {
            step(&mut net, &mut dice);
            check(&mut net, &mut dice);
        }
    }
}

fn step(net: &mut Net<'_>, dice: &mut Dice) {
    let cred = Cred {
        net_raw: true,
        ..Cred::user(dice.one(&[1, 1, 2]))
    };
    let ids: Vec<SockId> = net.ids().filter(|id| net.get(*id).refs > 0).collect();
    let Some(&id) = ids.get(dice.below(ids.len() as u32 + 1) as usize) else {
        let domain = dice.one(&[af::INET, af::INET6]);
        let answer = net.socket(i32::from(domain), dice.one(&[1, 2]), 0, &cred);
        assert!(matches!(answer.result, Ok(_) | Err(No::Unknown(_))));
        return;
    };
    let domain = net.get(id).kind.domain;
    let on = dice.below(2) == 0;
    match dice.below(12) {
        0 | 1 => {
            net.setsockopt(id, Opt::ReuseAddr(on), &cred);
        }
        2 | 3 => {
            net.setsockopt(id, Opt::ReusePort(on), &cred);
        }
        4 => {
            net.setsockopt(id, Opt::V6Only(on), &cred);
        }
        5 => {
            net.setsockopt(id, Opt::BindToIfIndex(dice.one(&[0, 1, 2])), &cred);
        }
        6 => {
            net.listen(id, &Cred::ROOT, Pick::Random(dice.below(u32::MAX)));
        }
        7 => {
            let (mut addr, len) = sockaddr(dice, domain);
            if domain == af::INET {
                addr[4..8].copy_from_slice(&[127, 0, 0, 1]);
            }
            net.connect(
                id,
                &addr[..len as usize],
                &cred,
                Pick::Random(dice.below(u32::MAX)),
            );
        }
        8 => {
            net.close(id);
        }
        9 if net.get(id).state == State::FinWait2 || dice.below(4) == 0 => {
            net.edit(id, |s| {
                if s.table == Table::Tcp && s.hashed() {
                    s.state = State::TimeWait;
                }
            });
        }
        _ => {
            let (addr, len) = sockaddr(dice, domain);
            let at = Pointer {
                bytes: Some(&addr),
                len,
            };
            net.bind(
                Fd::Socket(id),
                at,
                &cred,
                Pick::Random(dice.below(u32::MAX)),
            );
        }
    }
}
