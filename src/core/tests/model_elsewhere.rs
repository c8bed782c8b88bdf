//! Branches of the model that the kernel of most machines cannot reach: vsock's
//! other transports, tables that are full. One script for each, with why.
//! Other generations have theirs in `scripts/facts`, FreeBSD has its own in
//! `model_freebsd.rs`.

use bindgate_core::model::host::VsockHost;
use bindgate_core::model::script::{Player, parse};
use bindgate_core::model::{Generation, Host, Pick, Step};

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
    ("needs VMCI, and its table is the hypervisor's", VMCI, 8, "s = socket vsock-dgram; bind s vsock:3:5000", "EOPNOTSUPP", Step::NotModelled),
    ("a kernel has room", NONE, 1, "s = socket tcp; t = socket tcp", "ENOBUFS", Step::NoRoom),
];

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
