use super::held::{ANY4, ANY6, DUAL, LOOP4, LOOP6, MAPPED, MAPPED_ANY, OTHER};
use super::*;
use crate::shared::PortKind;
use proptest::prelude::*;
use std::vec::Vec;

fn v4(ip: [u8; 4]) -> Addr {
    Addr::Inet { ip, port: 80 }
}

fn v6(text: &str) -> Addr {
    Addr::inet6(text.parse::<Ipv6Addr>().unwrap().octets(), 80)
}

fn block() -> Block {
    Block::numbered(1217).unwrap()
}

#[test]
fn blocks_are_numbered() {
    assert_eq!(block().first(), [127, 78, 0, 1]);
    for n in 1..=BLOCKS {
        let block = Block::numbered(n).unwrap();
        assert_eq!(block.number(), n);
        assert!(block.first()[1] > 1 && block.first()[1] < 255);
    }
    assert_eq!(Block::numbered(0), None);
    assert_eq!(Block::numbered(BLOCKS + 1), None);
}

#[test]
fn what_a_program_says_has_a_place() {
    let at = |addr: &Addr, v6only| {
        spot(addr, v6only).map(|spot| (spot.bit, block().real(spot, addr.family(), 9)))
    };
    let inet = |ip| Addr::Inet { ip, port: 9 };
    let in6 = |text: &str| v6(text).with_port(9);
    assert_eq!(at(&v4([0; 4]), false), Some((ANY4, inet([127, 78, 0, 1]))));
    assert_eq!(
        at(&v4([127, 0, 0, 1]), false),
        Some((LOOP4, inet([127, 78, 0, 1])))
    );
    assert_eq!(
        at(&v4([127, 0, 7, 9]), false),
        Some((OTHER, inet([127, 78, 7, 9])))
    );
    assert_eq!(at(&v4([127, 0, 8, 9]), false), None);
    assert_eq!(at(&v4([127, 1, 0, 1]), false), None);
    assert_eq!(at(&v4([192, 0, 2, 1]), false), None);
    assert_eq!(at(&v6("::"), false), Some((DUAL, in6("::ffff:127.78.0.1"))));
    assert_eq!(at(&v6("::"), true), Some((ANY6, in6("::ffff:127.78.8.1"))));
    assert_eq!(
        at(&v6("::1"), true),
        Some((LOOP6, in6("::ffff:127.78.8.1")))
    );
    assert_eq!(
        at(&v6("::ffff:127.0.0.1"), false),
        Some((MAPPED, in6("::ffff:127.78.0.1")))
    );
    assert_eq!(
        at(&v6("::ffff:0.0.0.0"), false),
        Some((MAPPED_ANY, in6("::ffff:127.78.0.1")))
    );
    assert_eq!(at(&v6("::ffff:127.0.0.1"), true), None);
    assert_eq!(at(&v6("2001:db8::1"), false), None);
}

#[test]
fn a_client_of_a_wildcard_means_loopback() {
    assert_eq!(called(&v4([0; 4]), false, None), v4([127, 0, 0, 1]));
    assert_eq!(called(&v6("::"), false, None), v6("::1"));
    assert_eq!(
        called(&v6("::ffff:0.0.0.0"), false, None),
        v6("::ffff:127.0.0.1")
    );
    assert_eq!(called(&v6("2001:db8::1"), false, None), v6("2001:db8::1"));
    // A socket that is bound to IPv4 calls that, and from 127.0.0.2 the wildcard is that.
    assert_eq!(called(&v6("::"), true, None), v6("::ffff:127.0.0.1"));
    let two = Some([127, 0, 0, 2]);
    assert_eq!(called(&v4([0; 4]), false, two), v4([127, 0, 0, 2]));
}

#[test]
fn a_socket_is_known_as_the_program_bound_it() {
    for (addr, v6only) in [
        (v4([0; 4]), false),
        (v4([127, 0, 0, 1]), false),
        (v4([127, 0, 3, 4]), false),
        (v6("::"), false),
        (v6("::"), true),
        (v6("::1"), false),
        (v6("::ffff:127.0.0.1"), false),
        (v6("::ffff:0.0.0.0"), false),
        (v6("::ffff:127.0.0.9"), false),
    ] {
        let spot = spot(&addr, v6only).unwrap();
        let (group, first) = group(spot.bit);
        let real = block().real(spot, addr.family(), 4000);
        assert_eq!(
            block().known(&real, 80, spot.bit | first),
            Some(Known::As(addr))
        );
        if group != 0 {
            // As the first of several.
            let several = Some(Known::Unless(addr));
            assert_eq!(block().known(&real, 80, group | first), several, "{addr:?}");
        }
    }
    assert_eq!(block().known(&v4([127, 79, 0, 1]), 80, 0), None);
}

#[test]
fn a_peer_is_told_in_the_words_of_its_family() {
    let told = |addr: &Addr, as_six| block().told(addr, as_six, 80);
    assert_eq!(told(&v4([127, 78, 0, 1]), false), Some(v4([127, 0, 0, 1])));
    assert_eq!(told(&v4([127, 78, 8, 1]), false), Some(v4([127, 0, 0, 1])));
    assert_eq!(told(&v6("::ffff:127.78.8.1"), false), Some(v6("::1")));
    assert_eq!(
        told(&v6("::ffff:127.78.0.1"), false),
        Some(v6("::ffff:127.0.0.1"))
    );
    assert_eq!(told(&v6("::ffff:127.78.0.1"), true), Some(v6("::1")));
    assert_eq!(told(&v6("::ffff:127.0.0.1"), true), Some(v6("::1")));
    assert_eq!(told(&v6("::ffff:127.0.0.1"), false), None);
    assert_eq!(told(&v4([127, 0, 0, 1]), false), None);
}

#[test]
fn what_overlaps_unseen_is_asked_for() {
    let all = u16::MAX;
    let bits = |addr: &Addr, v6only, ever, last| -> Vec<(u8, u8)> {
        unseen(spot(addr, v6only).unwrap(), ever, last)
            .map(|spot| (spot.row, spot.last))
            .collect()
    };
    assert_eq!(bits(&v6("::"), false, all, 2), [(8, 1), (0, 2)]);
    assert_eq!(bits(&v6("::"), true, all, 2), [(0, 1)]);
    assert_eq!(bits(&v6("::1"), false, all, 2), [(0, 1)]);
    assert_eq!(bits(&v4([0; 4]), false, all, 0x102), [(1, 2)]);
    assert_eq!(bits(&v4([0; 4]), false, all, 0), []);
    assert_eq!(bits(&v4([127, 0, 0, 2]), false, all, 2), [(0, 1)]);
    assert_eq!(bits(&v4([127, 0, 0, 1]), false, all, 2), []);
    // What never was needs no question.
    assert_eq!(bits(&v6("::"), false, ANY4 | LOOP4 | DUAL, 2), []);
}

#[test]
fn other_kinds_of_sockets_have_no_such_ports() {
    let kind = |domain, ty, protocol| {
        port_kind(SocketType {
            domain,
            ty,
            protocol,
        })
    };
    assert_eq!(kind(af::INET, 1, 6), Some(PortKind::Tcp));
    assert_eq!(kind(af::INET6, 1, 262), Some(PortKind::Tcp));
    assert_eq!(kind(af::INET6, 2, 17), Some(PortKind::Udp));
    assert_eq!(kind(af::INET, 3, 1), None);
    assert_eq!(kind(af::UNIX, 1, 0), None);
}

proptest! {
    #[test]
    fn both_ways_are_each_others_inverse(
        n in 1..=BLOCKS,
        row in 0..ROWS,
        last in any::<u8>(),
        port in any::<u16>(),
        is_mapped in any::<bool>(),
    ) {
        let block = Block::numbered(n).unwrap();
        let ip = [127, 0, row, last];
        let virt = match is_mapped {
            true => Addr::inet6(mapped(ip), port),
            false => Addr::Inet { ip, port },
        };
        let real = block.real(spot(&virt, false).unwrap(), virt.family(), port);
        prop_assert!(block.has(&real) && !block.is_six(&real));
        prop_assert_eq!(block.told(&real, false, port), Some(virt));
        // No other block takes it for its own.
        let other = Block::numbered(n % BLOCKS + 1).unwrap();
        prop_assert!(!other.has(&real));
        prop_assert!(!block.has(&virt));
    }

    #[test]
    fn an_address_of_nobodys_is_nobodys(n in 1..=BLOCKS, row in 0..ROWS, last in any::<u8>()) {
        let block = Block::numbered(n).unwrap();
        let spot = spot(&Addr::Inet { ip: [127, 0, row, last], port: 0 }, false).unwrap();
        prop_assert_ne!(block.real(spot, af::INET, 7), block.nobodys(1, 7));
        prop_assert!(block.has(&block.nobodys(1, 7)));
    }
}
