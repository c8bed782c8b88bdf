//! Branches of the model that the kernel of most machines cannot reach: vsock's
//! other transports, tables that are full; and connections by vsock, which no
//! test makes, as somebody outside would be asked. One script for each, with why.
//! Other generations have theirs in `scripts/facts`, FreeBSD has its own in
//! `model_freebsd.rs`.

use bindgate_core::model::host::VsockHost;
use bindgate_core::model::script::{Player, parse};
use bindgate_core::model::{Errno, Generation, Host, No, Pick, Step};

const NONE: VsockHost = VsockHost {
    cid: Some(3),
    host: false,
    local: false,
    datagram: false,
};
const LOOPBACK: VsockHost = VsockHost {
    local: true,
    ..NONE
};
const HYPERVISOR: VsockHost = VsockHost { host: true, ..NONE };
const NOTHING: VsockHost = VsockHost { cid: None, ..NONE };
const LOOPBACK_ONLY: VsockHost = VsockHost {
    cid: None,
    ..LOOPBACK
};
const HYPERVISOR_ONLY: VsockHost = VsockHost {
    cid: None,
    ..HYPERVISOR
};
const VMCI: VsockHost = VsockHost {
    datagram: true,
    ..NONE
};

/// Why no kernel shows it here, what vsock has, sockets that there is room
/// for, calls, the last one's answer, and the check that gave it.
type Fact = (
    &'static str,
    VsockHost,
    usize,
    &'static str,
    &'static str,
    Step,
);

#[rustfmt::skip]
const FACTS: &[Fact] = &[
    ("without vsock_loopback", NONE, 8, "s = socket vsock; bind s vsock:1:5000", "EADDRNOTAVAIL", Step::VsockCid),
    ("needs vsock_loopback", LOOPBACK, 8, "s = socket vsock; bind s vsock:1:5000", "ok", Step::VsockBoundNow),
    ("needs vsock_loopback", LOOPBACK, 8, "s = socket vsock; bind s vsock:1:5000; t = socket vsock; bind t vsock:any:5000", "EADDRINUSE", Step::VsockInUse),
    ("needs vsock_loopback", LOOPBACK, 8, "s = socket vsock; bind s vsock:1:5000; t = socket vsock; bind t vsock:3:5000", "ok", Step::VsockBoundNow),
    ("without vhost_vsock", NONE, 8, "s = socket vsock; bind s vsock:2:5000", "EADDRNOTAVAIL", Step::VsockCid),
    ("needs vhost_vsock", HYPERVISOR, 8, "s = socket vsock; bind s vsock:2:5000", "ok", Step::VsockBoundNow),
    ("needs vhost_vsock", HYPERVISOR, 8, "s = socket vsock; bind s vsock:any:5000; t = socket vsock; bind t vsock:2:5000", "EADDRINUSE", Step::VsockInUse),
    ("without VMCI", NONE, 8, "s = socket vsock-dgram", "ENODEV", Step::VsockCreateDgram),
    ("needs VMCI", VMCI, 8, "s = socket vsock-dgram", "ok", Step::SockCreated),
    ("needs VMCI", VMCI, 8, "s = socket vsock-dgram; listen s", "EOPNOTSUPP", Step::ListenUnsupported),
    ("needs VMCI, and its table is the hypervisor's", VMCI, 8, "s = socket vsock-dgram; bind s vsock:3:5000", "unknown", Step::NotModelled),
    ("connects to the outside", NONE, 8, "s = socket vsock; bind s vsock:any:5000; listen s; connect s vsock:2:80", "EINVAL", Step::VsockConnectListener),
    ("connects to the outside", NONE, 8, "s = socket vsock; connect s vsock:2:80", "unknown", Step::UnknownVsock),
    ("connects to the outside", NONE, 8, "s = socket vsock; connect s hex:28000000", "EINVAL", Step::VsockMalformed),
    ("connects to the outside", NONE, 8, "s = socket vsock; connect s hex:00000000000000000000000000000000", "EINVAL", Step::VsockMalformed),
    ("connects to the outside", NONE, 8, "s = socket vsock; connect s hex:28000000500000000200000002000000", "EINVAL", Step::VsockMalformed),
    ("connects to the outside", NONE, 8, "s = socket vsock; connect s vsock:2:80; bind s vsock:any:5000", "unknown", Step::UnknownBefore),
    ("connects to the outside", NONE, 8, "s = socket vsock; bind s vsock:any:5000; connect s vsock:2:80; t = socket vsock; bind t vsock:any:5000", "unknown", Step::UnknownBefore),
    ("a device decides whether it carries it", NONE, 8, "s = socket vsock-seqpacket; connect s vsock:2:80; bind s vsock:any:5000", "unknown", Step::UnknownBefore),
    ("vsock_loopback carries it", LOOPBACK, 8, "s = socket vsock-seqpacket; connect s vsock:1:80; bind s vsock:any:5000", "EINVAL", Step::VsockBound),
    ("vsock_loopback carries it", LOOPBACK, 8, "s = socket vsock-seqpacket; connect s vsock:3:80; bind s vsock:any:5000", "EINVAL", Step::VsockBound),
    ("no transport at all", NOTHING, 8, "s = socket vsock; connect s vsock:2:80", "ENODEV", Step::VsockNoTransport),
    ("no transport at all", NOTHING, 8, "s = socket vsock; connect s vsock:2:80; bind s vsock:any:5000", "ok", Step::VsockBoundNow),
    ("vsock_loopback only: nobody listens on the host's CID either", LOOPBACK_ONLY, 8, "s = socket vsock; connect s vsock:2:80", "ECONNRESET", Step::VsockRefused),
    ("loopback: connected", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000", "ok", Step::VsockConnected),
    ("loopback: the host's CID is here", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:2:5000", "ok", Step::VsockConnected),
    ("loopback: another CID", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:1:5000; listen l; s = socket vsock; connect s vsock:2:5000", "ECONNRESET", Step::VsockRefused),
    ("loopback: bound, not listening", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; s = socket vsock; connect s vsock:1:5000", "ECONNRESET", Step::VsockRefused),
    ("loopback: another type", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock-seqpacket; connect s vsock:1:5000", "ECONNRESET", Step::VsockConnectType),
    ("loopback: to itself", LOOPBACK_ONLY, 8, "s = socket vsock; bind s vsock:any:5000; connect s vsock:1:5000", "EPROTO", Step::VsockConnectSelf),
    ("loopback: again", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000; connect s vsock:1:5000", "EISCONN", Step::VsockConnectConnected),
    ("loopback: AF_UNSPEC", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000; connect s hex:00000000000000000000000000000000", "EISCONN", Step::VsockConnectConnected),
    ("loopback: after a refusal", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; s = socket vsock; connect s vsock:1:5000; listen l; connect s vsock:1:5000", "ok", Step::VsockConnected),
    ("loopback: after a shutdown", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000; shutdown s read; connect s vsock:1:5000", "EINVAL", Step::VsockConnectOver),
    ("loopback: a connected one cannot listen", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000; listen s", "EINVAL", Step::ListenState),
    ("loopback: one that was shut down cannot listen", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000; shutdown s write; listen s", "EINVAL", Step::ListenState),
    ("loopback: a child", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000; c = accept l; connect c vsock:1:5000", "EISCONN", Step::VsockConnectConnected),
    ("loopback: a child has no port of its own", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000; c = accept l; close l; t = socket vsock; bind t vsock:any:5000", "ok", Step::VsockBoundNow),
    ("loopback: the client keeps its port", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; bind s vsock:any:6000; connect s vsock:1:5000; close l; t = socket vsock; bind t vsock:any:6000", "EADDRINUSE", Step::VsockInUse),
    ("loopback: and gives it back", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; bind s vsock:any:6000; connect s vsock:1:5000; close s; t = socket vsock; bind t vsock:any:6000", "ok", Step::VsockBoundNow),
    ("loopback: over, but a connection", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; connect s vsock:1:5000; close l; shutdown s both", "ok", Step::ShutdownOk),
    ("loopback: the same ends once more", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; bind s vsock:any:6000; connect s vsock:1:5000; c = accept l; shutdown c both; close s; t = socket vsock; bind t vsock:any:6000; connect t vsock:1:5000", "unknown", Step::UnknownVsockMet),
    ("loopback: a third", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:5000; listen l; s = socket vsock; bind s vsock:any:6000; connect s vsock:1:5000; t = socket vsock; connect t vsock:1:6000", "unknown", Step::UnknownVsockMet),
    ("loopback: the error of a connect", LOOPBACK_ONLY, 8, "s = socket vsock; connect s vsock:1:5000; listen s; c = accept s", "ECONNRESET", Step::VsockAcceptError),
    ("loopback: a child that an error loses", LOOPBACK_ONLY, 8, "s = socket vsock; bind s vsock:any:5000; connect s vsock:1:80; listen s; t = socket vsock; connect t vsock:1:5000; c = accept s", "unknown", Step::UnknownVsockError),
    ("loopback: not connected", LOOPBACK_ONLY, 8, "s = socket vsock; shutdown s both", "ENOTCONN", Step::ShutdownNotConnected),
    ("vsock_loopback only", LOOPBACK_ONLY, 8, "s = socket vsock; connect s vsock:4:80", "ENODEV", Step::VsockNoTransport),
    ("vhost_vsock only: it leads to guests", HYPERVISOR_ONLY, 8, "s = socket vsock; connect s vsock:4:80", "unknown", Step::UnknownVsock),
    ("vhost_vsock only: not to a host", HYPERVISOR_ONLY, 8, "s = socket vsock; connect s vsock:2:80", "ENODEV", Step::VsockNoTransport),
    ("vhost_vsock only: VMADDR_FLAG_TO_HOST", HYPERVISOR_ONLY, 8, "s = socket vsock; connect s hex:28000000500000000400000001000000", "ENODEV", Step::VsockNoTransport),
    ("the hypervisor's table", VMCI, 8, "s = socket vsock-dgram; connect s vsock:2:80", "unknown", Step::UnknownVsock),
    ("a kernel draws the id", NONE, 8, "s = socket netlink; bind s netlink:0:0x0; t = socket netlink; bind t netlink:0:0x0; u = socket netlink; bind u netlink:0:0x0; v = socket netlink; bind v netlink:2147483649:0x0", "EADDRINUSE", Step::NetlinkInUse),
    ("the socket of an unknown call", NONE, 8, "s = socket vsock; connect s vsock:2:80; getsockname s", "unknown", Step::UnknownBefore),
    ("the socket of an unknown call", NONE, 8, "s = socket vsock; connect s vsock:2:80; d = dup s; listen d", "unknown", Step::UnknownBefore),
    ("the socket of an unknown call", NONE, 8, "s = socket vsock; connect s vsock:2:80; s = socket vsock; bind s vsock:any:5000", "ok", Step::VsockBoundNow),
    ("the port that it may have", NONE, 8, "s = socket vsock; connect s vsock:2:80; t = socket vsock; bind t vsock:any:5000", "unknown", Step::UnknownBefore),
    ("the port that it may have", NONE, 8, "s = socket vsock; connect s vsock:2:80; t = socket vsock; bind t vsock:any:5000; listen t", "unknown", Step::UnknownBefore),
    ("no port that connect() takes", NONE, 8, "s = socket vsock; connect s vsock:2:80; t = socket vsock; bind t vsock:any:1000", "ok", Step::VsockBoundNow),
    ("another protocol's port", NONE, 8, "s = socket vsock; connect s vsock:2:80; t = socket tcp; bind t 127.0.0.1:5000", "ok", Step::InetBindOk),
    ("refused before anybody looks", NONE, 8, "s = socket vsock; connect s vsock:2:80; t = socket vsock; bind t vsock:7:5000", "EADDRNOTAVAIL", Step::VsockCid),
    ("closed: the port is free", NONE, 8, "s = socket vsock; connect s vsock:2:80; close s; t = socket vsock; bind t vsock:any:5000", "ok", Step::VsockBoundNow),
    ("closed: the socket is gone", NONE, 8, "s = socket vsock; connect s vsock:2:80; close s; bind s vsock:any:5000", "EBADF", Step::SysBindBadFd),
    ("one descriptor is left", NONE, 8, "s = socket vsock; connect s vsock:2:80; d = dup s; close s; t = socket vsock; bind t vsock:any:5000", "unknown", Step::UnknownBefore),
    ("who was asked", LOOPBACK_ONLY, 8, "l = socket vsock; bind l vsock:any:6000; listen l; v = socket vsock; bind v vsock:any:5000; listen v; s = socket vsock; bind s vsock:any:7000; connect s vsock:1:5000; t = socket vsock; connect t vsock:1:7000; c = accept l", "EAGAIN", Step::AcceptEmpty),
    ("a child that may be there", LOOPBACK_ONLY, 8, "s = socket vsock; bind s vsock:any:5000; connect s vsock:1:80; listen s; t = socket vsock; connect t vsock:1:5000; c = accept s; listen c", "unknown", Step::UnknownBefore),
    ("a child that may be there", LOOPBACK_ONLY, 8, "s = socket vsock; bind s vsock:any:5000; connect s vsock:1:80; listen s; t = socket vsock; connect t vsock:1:5000; c = accept s; c = socket tcp; bind c 127.0.0.1:80", "ok", Step::InetBindOk),
    ("nobody has said where it leads", NONE, 8, "s = socket tcp; bind s 0.0.0.0:5000; connect s 8.8.8.8:80; t = socket tcp; bind t 127.0.0.2:5000", "unknown", Step::UnknownBefore),
    ("nobody has said where it leads", NONE, 8, "s = socket tcp; bind s 0.0.0.0:5000; connect s 8.8.8.8:80; close s; t = socket tcp; bind t 0.0.0.0:5000", "unknown", Step::UnknownBefore),
    ("nobody has said where it leads", NONE, 8, "s = socket tcp; bind s 0.0.0.0:5000; connect s 8.8.8.8:80; l = socket tcp; bind l 127.0.0.1:80; listen l; t = socket tcp; connect t 127.0.0.1:5000", "unknown", Step::UnknownBefore),
    ("nobody has said where it leads: it has come here, perhaps", NONE, 8, "l = socket tcp; bind l 0.0.0.0:80; listen l; s = socket tcp; connect s 8.8.8.8:80; c = accept l", "unknown", Step::UnknownBefore),
    ("others have its module", NONE, 8, "s = socket 16 3 3", "EPROTONOSUPPORT", Step::NetlinkCreateProtocol),
    ("others have its module", NONE, 8, "s = socket 16 3 20", "EPROTONOSUPPORT", Step::NetlinkCreateProtocol),
    ("a kernel may lack SELinux", NONE, 8, "process u uid 7; u: s = socket 16 3 7; u: bind s netlink:5:0xffffffff", "ok", Step::NetlinkOk),
    ("a kernel may lack XFRM", NONE, 8, "process u uid 7; u: s = socket 16 3 6; u: bind s netlink:5:0x1", "EPERM", Step::NetlinkAllowed),
    ("a kernel may lack XFRM", NONE, 8, "process u uid 7 with CAP_NET_ADMIN; u: s = socket 16 3 6; u: bind s netlink:5:0x1", "ok", Step::NetlinkOk),
    ("a kernel may lack audit", NONE, 8, "process u uid 7 with CAP_NET_ADMIN; u: s = socket 16 3 9; u: bind s netlink:5:0x1", "EPERM", Step::NetlinkAudit),
    ("a kernel may lack audit", NONE, 8, "s = socket 16 3 9; bind s netlink:5:0x1", "ok", Step::NetlinkOk),
    ("a kernel may lack audit", NONE, 8, "process u uid 7; u: s = socket 16 3 9; u: bind s netlink:5:0x0; u: bind s netlink:6:0x1", "EINVAL", Step::NetlinkBound),
    ("a kernel may lack a connector", NONE, 8, "process u uid 7; u: s = socket 16 3 11; u: bind s netlink:5:0x5", "ok", Step::NetlinkOk),
    ("a kernel may lack a connector", NONE, 8, "process u uid 7; u: s = socket 16 3 11; u: bind s netlink:5:0x2", "EPERM", Step::NetlinkConnector),
    ("a kernel may lack a connector", NONE, 8, "s = socket 16 3 11; bind s netlink:5:0x2", "ok", Step::NetlinkOk),
    ("groups of multicast routes", NONE, 8, "process u uid 7; u: s = socket netlink; u: bind s netlink:5:0x20000000", "EPERM", Step::NetlinkMroute),
    ("groups of multicast routes", NONE, 8, "process u uid 7; u: s = socket netlink; u: bind s netlink:5:0x9fffffff", "ok", Step::NetlinkOk),
    ("which families are loaded", NONE, 8, "process u uid 7; u: s = socket 16 3 16; u: bind s netlink:5:0x8001", "ok", Step::NetlinkOk),
    ("which families are loaded", NONE, 8, "process u uid 7; u: s = socket 16 3 16; u: bind s netlink:5:0x2", "unknown", Step::UnknownGroup),
    ("a kernel has room", NONE, 1, "s = socket tcp; t = socket tcp", "unknown", Step::NoRoom),
    ("a kernel has room for TIME_WAIT", NONE, 3, "s = socket tcp; bind s 127.0.0.1:5000; listen s; t = socket tcp; connect t 127.0.0.1:5000; u = accept s; close t; shutdown u write; shutdown u write", "ENOTCONN", Step::ShutdownNotConnected),
];

/// `vsock_auto_bind` when the ports that it tries are all taken.
#[test]
fn no_port_for_a_vsock_connect() {
    let mut text = String::new();
    for i in 0..24 {
        text += &format!("s{i} = socket vsock\nbind s{i} vsock:any:{}\n", 5000 + i);
    }
    text += "t = socket vsock\nconnect t vsock:2:80\n";
    let mut script = parse(&text, Host::loopback(Generation::Linux6_18)).expect("a script");
    script.host.vsock = NONE;
    let mut player = Player::new(&script, 32);
    player.net.net().core.vsock_next = 5000;
    let play = |line| player.play(&script, line, Pick::Random(7));
    let last = script.lines.iter().map(play).last().expect("lines");
    assert_eq!(last.result, Err(Errno::EADDRNOTAVAIL.into()));
    assert_eq!(last.trail.last(), Some(Step::VsockNoPort));
}

/// Who may join groups of which protocol, by generation.
#[test]
fn groups_of_netlink() {
    let joined = |generation, protocol: i32| {
        let text =
            format!("process u uid 7\nu: s = socket 16 3 {protocol}\nu: bind s netlink:5:0x1\n");
        let mut script = parse(&text, Host::loopback(generation)).expect("a script");
        script.host.netlink = u32::MAX;
        let mut player = Player::new(&script, 8);
        let play = |line| player.play(&script, line, Pick::Random(7));
        let last = script.lines.iter().map(play).last().expect("lines");
        last.result.is_ok()
    };
    let open_to_all =
        |generation| -> Vec<i32> { (0..32).filter(|p| joined(generation, *p)).collect() };
    assert_eq!(open_to_all(Generation::Linux2_6), [0, 7, 15, 16]);
    assert_eq!(open_to_all(Generation::Linux6_1), [0, 4, 7, 15, 16, 20]);
    assert_eq!(
        open_to_all(Generation::Linux6_18),
        [0, 4, 7, 11, 15, 16, 20]
    );
}

/// Seventeen children wait at a listener; the next one is refused.
#[test]
fn a_vsock_listener_is_full() {
    let mut text = String::from("l = socket vsock\nbind l vsock:any:5000\nlisten l\n");
    for i in 0..18 {
        text += &format!("s{i} = socket vsock\nconnect s{i} vsock:1:5000\n");
    }
    let mut script = parse(&text, Host::loopback(Generation::Linux6_18)).expect("a script");
    script.host.vsock = LOOPBACK_ONLY;
    let mut player = Player::new(&script, 64);
    let play = |line| player.play(&script, line, Pick::Random(7));
    let last: Vec<_> = script.lines.iter().map(play).collect();
    let [.., before, _, full] = last.as_slice() else {
        panic!("lines");
    };
    assert_eq!(before.trail.last(), Some(Step::VsockConnected));
    assert_eq!(full.result, Err(No::Errno(Errno::ECONNRESET)));
    assert_eq!(full.trail.last(), Some(Step::VsockConnectFull));
}

#[test]
fn what_no_kernel_shows_here() {
    let mut wrong = Vec::new();
    for (why, vsock, room, calls, answer, step) in FACTS {
        let text = calls.replace("; ", "\n");
        let mut script = parse(&text, Host::loopback(Generation::Linux6_18)).expect(calls);
        script.host.vsock = *vsock;
        script.host.has_routes = !why.starts_with("nobody has said");
        let mut player = Player::new(&script, *room);
        let mut last = (String::new(), None);
        for line in &script.lines {
            let outcome = player.play(&script, line, Pick::Random(7));
            let answer = outcome.result.err().map_or("ok", |e| e.name());
            last = (answer.to_owned(), outcome.trail.last());
        }
        if last != ((*answer).to_owned(), Some(*step)) {
            wrong.push(format!(
                "{why}: {calls}: {last:?}, not {answer} by {step:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
