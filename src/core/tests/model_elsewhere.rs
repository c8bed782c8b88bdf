//! Branches of the model that the kernel of most machines cannot reach: vsock's
//! other transports, tables that are full; and connections by vsock, which no
//! test makes, as somebody outside would be asked. One script for each, with why.
//! Other generations have theirs in `scripts/facts`, FreeBSD has its own in
//! `model_freebsd.rs`.

use bindgate_core::model::host::VsockHost;
use bindgate_core::model::script::{Player, parse};
use bindgate_core::model::{Errno, Generation, Host, Pick, Step};

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
    ("connects to the outside", NONE, 8, "s = socket vsock; connect s vsock:2:80; bind s vsock:any:5000", "EINVAL", Step::VsockBound),
    ("connects to the outside", NONE, 8, "s = socket vsock; bind s vsock:any:5000; connect s vsock:2:80; t = socket vsock; bind t vsock:any:5000", "EADDRINUSE", Step::VsockInUse),
    ("a device decides whether it carries it", NONE, 8, "s = socket vsock-seqpacket; connect s vsock:2:80; bind s vsock:any:5000", "ok", Step::VsockBoundNow),
    ("vsock_loopback carries it", LOOPBACK, 8, "s = socket vsock-seqpacket; connect s vsock:1:80; bind s vsock:any:5000", "EINVAL", Step::VsockBound),
    ("vsock_loopback carries it", LOOPBACK, 8, "s = socket vsock-seqpacket; connect s vsock:3:80; bind s vsock:any:5000", "EINVAL", Step::VsockBound),
    ("no transport at all", NOTHING, 8, "s = socket vsock; connect s vsock:2:80", "ENODEV", Step::VsockNoTransport),
    ("no transport at all", NOTHING, 8, "s = socket vsock; connect s vsock:2:80; bind s vsock:any:5000", "ok", Step::VsockBoundNow),
    ("vsock_loopback only: the host is here", LOOPBACK_ONLY, 8, "s = socket vsock; connect s vsock:2:80", "unknown", Step::UnknownVsock),
    ("vsock_loopback only", LOOPBACK_ONLY, 8, "s = socket vsock; connect s vsock:4:80", "ENODEV", Step::VsockNoTransport),
    ("vhost_vsock only: it leads to guests", HYPERVISOR_ONLY, 8, "s = socket vsock; connect s vsock:4:80", "unknown", Step::UnknownVsock),
    ("vhost_vsock only: not to a host", HYPERVISOR_ONLY, 8, "s = socket vsock; connect s vsock:2:80", "ENODEV", Step::VsockNoTransport),
    ("vhost_vsock only: VMADDR_FLAG_TO_HOST", HYPERVISOR_ONLY, 8, "s = socket vsock; connect s hex:28000000500000000400000001000000", "ENODEV", Step::VsockNoTransport),
    ("the hypervisor's table", VMCI, 8, "s = socket vsock-dgram; connect s vsock:2:80", "unknown", Step::UnknownVsock),
    ("a kernel draws the id", NONE, 8, "s = socket netlink; bind s netlink:0:0x0; t = socket netlink; bind t netlink:0:0x0; u = socket netlink; bind u netlink:0:0x0; v = socket netlink; bind v netlink:2147483649:0x0", "EADDRINUSE", Step::NetlinkInUse),
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

#[test]
fn what_no_kernel_shows_here() {
    let mut wrong = Vec::new();
    for (why, vsock, room, calls, answer, step) in FACTS {
        let text = calls.replace("; ", "\n");
        let mut script = parse(&text, Host::loopback(Generation::Linux6_18)).expect(calls);
        script.host.vsock = *vsock;
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
