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

/// The host's side of a virtual machine.
fn outside() -> Host<'static> {
    let vmm = Vmm {
        uds: b"/run/vm.sock",
        ports: b"7=/run/seven\0",
        guest: GUEST,
    };
    Host {
        vmm: Some(vmm),
        ..Host::new(CID_HOST, b"", 5)
    }
}

/// A guest.
fn inside() -> Host<'static> {
    Host {
        cid: 3,
        ..outside()
    }
}

#[test]
fn the_other_side_finds_a_listener_at_its_file() {
    let place = |port, at| name(CID_HOST, port, at);
    for (port, at, file) in [
        (52, At::Any, "/run/vm.sock_52"),
        (52, At::Own, "/run/./vm.sock_52"),
        (u32::MAX - 1, At::Any, "/run/vm.sock_4294967294"),
        (7, At::Any, "/run/seven"),
        (7, At::Own, "/run/./seven"),
    ] {
        assert!(outside().is_file(place(port, at)));
        assert_eq!(text(&outside(), place(port, at)), file);
        let unix = UnixName::path(file.as_bytes()).unwrap();
        assert_eq!(outside().read(&unix), Some(place(port, at)), "{file}");
    }
    for at in [At::Local, At::Loop] {
        let unix = outside().unix(place(52, at)).unwrap();
        assert_eq!(unix.kind, UnixKind::Abstract);
        assert_eq!(outside().read(&unix), Some(place(52, at)));
    }
    for other in [
        "/run/vm.sock",
        "/run/vm.sock_",
        "/run/vm.sock_x",
        "/run/vm.sock_1_2",
        "/tmp/vm.sock_52",
        "/run/../run/vm.sock_52",
    ] {
        let unix = UnixName::path(other.as_bytes()).unwrap();
        assert_eq!(outside().read(&unix), None, "{other}");
    }
    // A guest's listeners are no files, but for the ports that have one.
    let place = name(3, 52, At::Any);
    assert_eq!(inside().unix(place).unwrap().kind, UnixKind::Abstract);
    assert_eq!(text(&inside(), name(3, 7, At::Any)), "/run/seven");
    // Whoever shares a file shares its lock.
    assert_eq!(outside().lock(52), inside().lock(53));
    assert_ne!(outside().lock(52), outside().lock(7));
}

#[test]
fn a_call_goes_out_where_the_other_side_is() {
    let way = |host: &Host<'_>, cid, port| match host.way(&vsock(cid, port)) {
        Ok(Way::Out(call)) => {
            let to = String::from_utf8_lossy(call.to.bytes()).into_owned();
            Some((to, call.asks))
        }
        _ => None,
    };
    let out = |path: &str, asks| Some((String::from(path), asks));
    for cid in [3, 4, u32::MAX - 1] {
        assert_eq!(way(&outside(), cid, 52), out("/run/vm.sock", Some(52)));
        assert_eq!(way(&outside(), cid, 7), out("/run/seven", None));
    }
    for cid in [0, CID_LOCAL, CID_HOST, VMADDR_ANY] {
        assert_eq!(way(&outside(), cid, 52), None);
    }
    assert_eq!(way(&inside(), CID_HOST, 52), out("/run/vm.sock_52", None));
    assert_eq!(way(&inside(), CID_HOST, 7), out("/run/seven", None));
    for cid in [CID_LOCAL, 3, 4] {
        assert_eq!(way(&inside(), cid, 52), None);
    }
    let Ok(Way::Out(call)) = outside().way(&vsock(3, 52)) else {
        panic!("it goes out");
    };
    assert_eq!(call.error(ENOENT), ENODEV, "there is no guest");
    assert_eq!(call.error(crate::errno::EAGAIN), ECONNRESET);
    assert_eq!(call.error(EACCES), EACCES);
    assert_eq!(
        (outside().answers_at(), outside().other_side()),
        (None, Some(GUEST))
    );
    assert_eq!(inside().answers_at(), Some(&b"/run/vm.sock"[..]));
    assert_eq!(inside().other_side(), Some(CID_HOST));
}

#[test]
fn the_lines_of_a_monitor() {
    assert_eq!(hello(52).get(), b"CONNECT 52\n");
    assert_eq!(hello(u32::MAX).get(), b"CONNECT 4294967295\n");
    assert_eq!(welcome(1 << 30).get(), b"OK 1073741824\n");
    for (line, port) in [
        (&b"CONNECT 52\n"[..], Some(52)),
        (b"connect 52\r\n", Some(52)),
        (b"  CONNECT  52 x\n", Some(52)),
        (b"CONNECT 4294967295\n", None),
        (b"CONNECT -1\n", None),
        (b"CONNECT\n", None),
        (b"OK 52\n", None),
        (b"\n", None),
    ] {
        assert_eq!(request(line), port, "{line:?}");
    }
    for (line, is) in [
        (&b"OK 1\n"[..], true),
        (b"OK 4294967295\n", true),
        (b"OK 4294967296\n", false),
        (b"OK \n", false),
        (b"OK 1 \n", false),
        (b"OK 1", false),
        (b"ok 1\n", false),
        (b"NO 1\n", false),
    ] {
        assert_eq!(is_welcome(line), is, "{line:?}");
    }
    // A line in pieces, and what follows it.
    let mut line = Line::default();
    for (piece, share, ends) in [(&b"OK 1"[..], 4, false), (b"2\nrest", 2, true)] {
        text::fill(line.room(), piece);
        assert_eq!(line.share(piece.len()), (share, ends));
        line.take(share);
    }
    assert_eq!(line.get(), b"OK 12\n");
    let mut line = Line::default();
    line.room().fill(b'x');
    assert_eq!(line.share(32), (32, false));
    line.take(32);
    assert!(line.room().is_empty(), "it is too long");
}

#[test]
fn a_delivery_is_known_on_both_sides() {
    let first = Delivered::numbered(52, 0);
    assert_eq!((first.port, first.from), (52, 1 << 30));
    for port in [0, 52, u32::MAX - 1] {
        for count in [0, 1, u32::MAX] {
            let one = Delivered::numbered(port, count);
            assert_eq!(Delivered::of_mark(one.mark()), Some(one));
        }
    }
    // What other sockets have there.
    let carrier = u32::from_be_bytes(*b"vsoc");
    for other in [u64::MAX, u64::from(u32::MAX), u64::from(carrier), 0] {
        assert_eq!(Delivered::of_mark(other), None, "{other:x}");
    }
    let own = inside().delivery(first.from).unwrap();
    assert!(inside().is_delivery(&own));
    assert_eq!(inside().read(&own), None, "it is no place");
    assert!(!Host { run: 1, ..inside() }.is_delivery(&own));
    assert!(!inside().is_delivery(&inside().unix(name(3, 52, At::Any)).unwrap()));
    assert_eq!(
        inside().ends_of(first),
        (vsock(3, 52), vsock(CID_HOST, 1 << 30))
    );
}
