extern crate std;

use std::string::String;
use std::vec::Vec;

use super::*;

fn alone() -> Host<'static> {
    Host::new(3, b"", 0x0123_4567_89ab_cdef)
}

fn met() -> Host<'static> {
    Host::new(3, b"/run/fabric", 7)
}

fn name(cid: u32, port: u32, at: At) -> Name {
    Name { cid, port, at }
}

fn text(host: &Host<'_>, name: Name) -> String {
    String::from_utf8_lossy(host.unix(name).expect("it fits").bytes()).into_owned()
}

#[test]
fn a_name_is_read_as_it_was_written() {
    for host in [alone(), met()] {
        for at in At::ALL {
            for port in [0, 5000, u32::MAX] {
                let name = name(3, port, at);
                let unix = host.unix(name).expect("it fits");
                assert_eq!(host.read(&unix), Some(name));
            }
        }
    }
    assert_eq!(
        text(&alone(), name(3, 5000, At::Any)),
        "bindgate/vsock/0123456789abcdef/vsock.3.5000.any"
    );
    assert_eq!(
        text(&met(), name(4, 80, At::Loop)),
        "/run/fabric/vsock.4.80.loop"
    );
}

#[test]
fn what_is_nobodys_name_is_not_read() {
    let path = |text: &str| UnixName::path(text.as_bytes()).expect("a path");
    let abs = |text: &str| UnixName::abstract_(text.as_bytes()).expect("a name");
    // The other containers spell the directory in their own way.
    let elsewhere = met().read(&path("/elsewhere/vsock.7.1.own"));
    assert_eq!(elsewhere, Some(name(7, 1, At::Own)));
    for wrong in [
        "/run/fabric/vsock.7.1",
        "/run/fabric/vsock.7.1.own.x",
        "/run/fabric/vsock.7..own",
        "/run/fabric/vsock.7.4294967296.own",
        "/run/fabric/vsock.7.+1.own",
        "/run/fabric/cid.7",
        "/run/vsock.7.1.own/x",
    ] {
        assert_eq!(met().read(&path(wrong)), None, "{wrong}");
    }
    assert_eq!(met().read(&abs("run/vsock.7.1.own")), None);
    assert_eq!(alone().read(&path("/run/vsock.3.1.own")), None);
    // Another run's, and one with a leading zero.
    for wrong in [
        "bindgate/vsock/0123456789abcdee/vsock.3.5000.any",
        "bindgate/vsock/0123456789abcdef/vsock.3.05000.any",
        "x/vsock.3.5000.any",
    ] {
        assert_eq!(alone().read(&abs(wrong)), None, "{wrong}");
    }
    let long = [b'x'; crate::policy::MAX_FABRIC];
    let longest = Host::new(3, &long, 7);
    let far = name(u32::MAX, u32::MAX, At::Local);
    assert!(longest.unix(far).is_some(), "the longest name fits");
}

#[test]
fn a_bind_is_answered_as_by_the_kernel() {
    let at = |cid, port| vsock(cid, port);
    let place = |asked: Addr, privileged| alone().place(&asked, || privileged);
    assert_eq!(
        place(at(VMADDR_ANY, 5000), false),
        Ok(name(3, 5000, At::Any))
    );
    assert_eq!(place(at(3, 5000), false), Ok(name(3, 5000, At::Own)));
    assert_eq!(
        place(at(CID_LOCAL, 5000), false),
        Ok(name(3, 5000, At::Local))
    );
    assert_eq!(place(at(CID_HOST, 5000), true), Err(EADDRNOTAVAIL));
    assert_eq!(place(at(4, 1023), false), Err(EADDRNOTAVAIL));
    assert_eq!(place(at(3, 1023), false), Err(EACCES));
    assert_eq!(place(at(3, 1023), true), Ok(name(3, 1023, At::Own)));
    assert_eq!(place(at(3, 1024), false), Ok(name(3, 1024, At::Own)));
    assert_eq!(
        place(Addr::any(af::INET).expect("a family"), true),
        Err(EINVAL)
    );
}

#[test]
fn sockets_are_made_as_by_the_kernel() {
    let carrier = |ty| SocketType {
        domain: af::UNIX,
        ty,
        protocol: 0,
    };
    assert_eq!(create(1 | 0o2_000_000, 0), Ok(carrier(ty::STREAM)));
    assert_eq!(create(5, 40), Ok(carrier(ty::SEQPACKET)));
    assert_eq!(create(2, 0), Err(ENODEV));
    assert_eq!(create(3, 0), Err(ESOCKTNOSUPPORT));
    assert_eq!(create(3, 7), Err(EPROTONOSUPPORT));
}

#[test]
fn a_connect_leads_where_its_cid_says() {
    let to = |cid, port, at| Way::To([name(cid, port, at), name(cid, port, At::Any)]);
    assert_eq!(alone().way(&vsock(1, 7)), Ok(to(3, 7, At::Local)));
    assert_eq!(alone().way(&vsock(3, 7)), Ok(to(3, 7, At::Own)));
    assert_eq!(alone().way(&vsock(4, 7)), Ok(Way::Nowhere));
    assert_eq!(met().way(&vsock(4, 7)), Ok(to(4, 7, At::Own)));
    assert_eq!(met().way(&vsock(VMADDR_ANY, 7)), Ok(Way::Nowhere));
    assert_eq!(no_host(&vsock(2, 7)), ECONNRESET);
    assert_eq!(no_host(&vsock(9, 7)), ETIMEDOUT);
}

#[test]
fn both_ends_are_told_what_the_kernel_tells_them() {
    let listener = name(3, 5000, At::Any);
    let here = name(3, 1043, At::Any);
    let by_loop = name(3, 1043, At::Loop);
    let there = name(4, 1043, At::Any);
    let accepted = |peer| met().local_of_accepted(listener, Some(peer));
    assert_eq!(accepted(here), vsock(3, 5000));
    assert_eq!(accepted(by_loop), vsock(1, 5000));
    assert_eq!(accepted(there), vsock(3, 5000));
    assert_eq!(met().peer_of_accepted(here), vsock(1, 1043));
    assert_eq!(met().peer_of_accepted(there), vsock(4, 1043));
    assert_eq!(met().called(Some(by_loop), listener), vsock(1, 5000));
    assert_eq!(met().called(Some(here), listener), vsock(3, 5000));
    assert_eq!(by_loop.bound_to(), vsock(VMADDR_ANY, 1043));
}

/// Two sockets of one port are both there only where `__vsock_find_bound_socket`
/// finds neither for the other.
#[test]
fn what_excludes_each_other_is_seen_from_both_sides() {
    let all: Vec<(At, bool)> = ways(u8::MAX).collect();
    assert_eq!(all.len(), 8);
    for &(a, a_type) in &all {
        for &(b, b_type) in &all {
            let is_wildcard = |at| matches!(at, At::Any | At::Loop);
            let collide = is_wildcard(a) || is_wildcard(b) || a == b;
            let same_name = (a, a_type) == (b, b_type);
            let seen = in_the_way(a, a_type) & bit(b, b_type) != 0;
            assert_eq!(seen, collide && !same_name, "{a:?} {b:?}");
        }
    }
}
