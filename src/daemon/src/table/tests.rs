use std::net::Ipv4Addr;

use bindgate_core::model::{Errno, Generation};
use bindgate_core::record::{Call, Record, Verdict};
use bindgate_core::shared::door::{Answer, Claim};
use bindgate_core::socket::{proto, ty};

use super::*;
use crate::claims::{self, Found};
use crate::space::Spaces;

const TCP: SocketType = SocketType {
    domain: af::INET,
    ty: ty::STREAM,
    protocol: proto::TCP,
};
const EADDRINUSE: u16 = 98;

fn at(port: u16) -> RawAddr {
    let ip = Ipv4Addr::LOCALHOST.octets();
    Addr::Inet { ip, port }.write()
}

fn bind(addr: &RawAddr, by: (u32, i32)) -> Bind<'_> {
    Bind {
        kind: TCP,
        addr,
        options: BindOptions::default(),
        device: 0,
        cred: Cred::ROOT,
        by,
        path: PathState::Free,
    }
}

/// The owner `by`, whose process id is ten times its slot.
fn owner(by: (u32, i32), cookie: u64) -> Owner {
    Owner {
        process: by.0,
        pid: by.0 * 10,
        fd: by.1,
        uid: Some(0),
        program: Arc::from(*b"/bin/server"),
        cookie,
        inode: 0,
        since_ns: 1,
        in_run: true,
        on_the_way: false,
        automatic: false,
        rule: 0,
        options: BindOptions(0),
        elsewhere: None,
    }
}

fn table() -> BindTable {
    BindTable::new(Host::loopback(Generation::Linux6_12))
}

/// A socket as sock_diag shows it, at port 80 of 127.0.0.1.
fn shown(state: u8, cookie: u64) -> inet_diag::Socket {
    let mut addr = [0; 16];
    for (to, from) in addr.iter_mut().zip(Ipv4Addr::LOCALHOST.octets()) {
        *to = from;
    }
    inet_diag::Socket {
        family: af::INET as u8,
        state,
        addr,
        port: 80,
        peer_port: 0,
        dev: 0,
        cookie,
        expires_ms: 0,
        uid: 0,
        inode: 0,
        receive_queue: 0,
        group: 0,
        v6only: false,
        id: [0; 48],
    }
}

fn holder(table: &mut BindTable, b: &Bind<'_>) -> Option<Held> {
    let said = table.ask(b);
    assert_eq!(said.result, Err(Errno::EADDRINUSE.into()));
    said.holder.and_then(|id| table.held(id))
}

#[test]
fn a_socket_of_the_run_is_named() {
    let (mut table, port) = (table(), at(80));
    let said = table.bind(&bind(&port, (1, 3)), 0, || owner((1, 3), 7));
    assert_eq!(said.result, Ok(()));
    table.listens((1, 3));
    let said = table.bind(&bind(&port, (2, 3)), EADDRINUSE, || owner((2, 3), 8));
    assert_eq!(said.result, Err(Errno::EADDRINUSE.into()));
    let held = said.holder.and_then(|id| table.held(id)).expect("a holder");
    assert_eq!(
        (held.owner.pid, held.owner.in_run, held.gone),
        (10, true, false)
    );
    assert_eq!((held.addr, held.state), (port, HolderState::Listening));
    // A refused bind left nothing behind.
    assert!(table.by_cookie(8).is_none());
    // The same socket a second time: not in its own way.
    let said = table.bind(&bind(&at(81), (1, 3)), Errno::EINVAL.linux(), || {
        owner((1, 3), 7)
    });
    assert_eq!(said.result, Err(Errno::EINVAL.into()));
}

#[test]
fn whoever_stood_in_the_way_of_a_granted_bind_has_gone() {
    let (mut table, port) = (table(), at(80));
    table.bind(&bind(&port, (1, 3)), 0, || owner((1, 3), 7));
    let said = table.bind(&bind(&port, (2, 3)), 0, || owner((2, 3), 8));
    assert_eq!(said.result, Ok(()));
    assert!(table.by_cookie(7).is_none());
    let past = table.past(TCP, 80).expect("the one before");
    assert_eq!((past.owner.pid, past.gone), (10, true));
    let held = holder(&mut table, &bind(&port, (3, 3))).expect("a holder");
    assert_eq!(held.owner.pid, 20);
}

#[test]
fn a_holder_that_the_kernel_does_not_show_has_gone() {
    for lists_bound in [true, false] {
        let (mut table, port) = (table(), at(80));
        table.bind(&bind(&port, (1, 3)), 0, || owner((1, 3), 7));
        table.reconcile(TCP, 80, &[], lists_bound, 0);
        // Older kernels do not list what is bound and no more than that.
        assert_eq!(table.by_cookie(7).is_none(), lists_bound);
        assert_eq!(table.past(TCP, 80).is_some(), lists_bound);
    }
}

#[test]
fn time_wait_is_what_the_last_owner_left() {
    const NOW: u64 = 100_000_000_000;
    let (mut table, port) = (table(), at(80));
    table.bind(&bind(&port, (1, 3)), 0, || owner((1, 3), 7));
    let waiting = inet_diag::Socket {
        expires_ms: 40_000,
        ..shown(inet_diag::state::TIME_WAIT, 9)
    };
    table.reconcile(TCP, 80, &[waiting], true, NOW);
    let held = holder(&mut table, &bind(&port, (2, 3))).expect("a holder");
    assert_eq!(held.state, HolderState::TimeWait);
    assert_eq!((held.owner.pid, held.owner.in_run), (10, true));
    // TIME_WAIT lasts for 60 seconds, of which 40 are left.
    assert_eq!(held.owner.since_ns, NOW - 20_000_000_000);
}

#[test]
fn a_socket_outside_the_run_is_shown_by_the_kernel() {
    let (mut table, port) = (table(), at(80));
    table.reconcile(TCP, 80, &[shown(inet_diag::state::LISTEN, 9)], true, 0);
    let held = holder(&mut table, &bind(&port, (1, 3))).expect("a holder");
    assert_eq!((held.owner.cookie, held.owner.in_run), (9, false));
    // Shown again it is the same one; shown no more it has gone.
    table.reconcile(TCP, 80, &[shown(inet_diag::state::LISTEN, 9)], true, 0);
    assert_eq!(table.owners(Table::Tcp, 80).len(), 1);
    table.reconcile(TCP, 80, &[], true, 0);
    assert_eq!(table.ask(&bind(&port, (1, 3))).result, Ok(()));
}

fn claim(process: u32, cookie: u64) -> Claim {
    Claim {
        process,
        pid: process * 10,
        fd: 3,
        uid: 0,
        socket: TCP,
        options: BindOptions::default(),
        device: 0,
        cookie,
        virt: at(80),
        real: at(8000 + process as u16),
    }
}

fn recorded(claim: &Claim, errno: u16) -> Record {
    Record {
        verdict: Verdict::Move,
        process: claim.process,
        pid: claim.pid,
        fd: claim.fd,
        domain: TCP.domain,
        ty: TCP.ty,
        protocol: TCP.protocol,
        cookie: claim.cookie,
        asked: claim.virt,
        used: claim.real,
        errno,
        ..Record::new(Call::Bind)
    }
}

#[test]
fn a_claim_is_held_until_its_record_says_that_it_failed() {
    let mut spaces = Spaces::new();
    let space = spaces.get(0, 0);
    let [first, second] = [claim(1, 7), claim(2, 8)];
    assert!(matches!(
        claims::answer(space, &first),
        Found::Answer(Answer::Free)
    ));
    // Nobody knows yet what became of it.
    let Found::Pending(pending) = claims::answer(space, &second) else {
        panic!("somebody else's claim was not seen");
    };
    assert_eq!((pending.process, pending.holder.pid), (1, 10));
    claims::recorded(space, &recorded(&first, EADDRINUSE), || owner((1, 3), 7));
    assert!(matches!(
        claims::answer(space, &second),
        Found::Answer(Answer::Free)
    ));
    // The other way round: granted, it is a claim no more.
    claims::recorded(space, &recorded(&second, 0), || owner((2, 3), 8));
    let id = space.virt.by_cookie(8).expect("it is held");
    assert!(!space.virt.is_claimed(id));
    assert_eq!(space.virt.owner(id).map(|o| o.pid), Some(20));
}

#[test]
fn the_claim_of_a_dead_process_goes_with_it() {
    let mut spaces = Spaces::new();
    let space = spaces.get(0, 0);
    let [first, second] = [claim(1, 7), claim(2, 8)];
    assert!(matches!(
        claims::answer(space, &first),
        Found::Answer(Answer::Free)
    ));
    claims::drop_claim(space, 7);
    assert!(matches!(
        claims::answer(space, &second),
        Found::Answer(Answer::Free)
    ));
    // What is recorded as held is not dropped with a claim.
    claims::recorded(space, &recorded(&second, 0), || owner((2, 3), 8));
    claims::drop_claim(space, 8);
    assert!(space.virt.by_cookie(8).is_some());
}

#[test]
fn network_namespaces_know_nothing_of_each_other() {
    let (mut spaces, port) = (Spaces::new(), at(80));
    for inode in [1, 2] {
        let table = &mut spaces.get(inode, 0).table;
        let said = table.bind(&bind(&port, (inode as u32, 3)), 0, || {
            owner((inode as u32, 3), inode)
        });
        assert_eq!(said.result, Ok(()));
        assert_eq!(said.holder, None);
    }
    for inode in [1, 2] {
        let table = &mut spaces.get(inode, 0).table;
        let held = holder(table, &bind(&port, (9, 9))).expect("a holder");
        assert_eq!(held.owner.cookie, inode);
    }
}
