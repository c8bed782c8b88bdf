//! What a redirect asks of two sockets ([`Claim`]) is what the tables answer:
//! every pair of a few addresses, with every option that decides.

use bindgate_core::addr::{Addr, af};
use bindgate_core::model::{
    Ask, Claim, Cred, Errno, Fd, Generation, Host, Net, No, OwnedNet, Pick, Pointer, SockId, State,
};
use bindgate_core::socket::{BindOptions, SocketType, proto, ty};

const PORT: u16 = 5000;

fn addresses() -> Vec<Addr> {
    let four = |ip| Addr::Inet { ip, port: PORT };
    let six = |text: &str| Addr::Inet6 {
        ip: text.parse::<std::net::Ipv6Addr>().unwrap().octets(),
        port: PORT,
        flow: 0,
        scope: 0,
    };
    vec![
        four([0; 4]),
        four([127, 0, 0, 1]),
        four([127, 0, 0, 2]),
        six("::"),
        six("::1"),
        six("::ffff:0.0.0.0"),
        six("::ffff:127.0.0.1"),
    ]
}

/// Every socket of a protocol.
fn claims(protocol: u16, type_: u16) -> Vec<Claim> {
    let mut all = Vec::new();
    for addr in addresses() {
        for bits in 0..1 << 7 {
            let has = |n: u32| bits >> n & 1 != 0;
            let device = bits >> 5;
            let is_six = addr.family() == af::INET6;
            let is_mapped = is_six && addr.ipv4().is_some();
            // A name that only the other half of the sockets can have, no device
            // with that number, and UDP, which does not listen.
            if has(2) && (!is_six || is_mapped) || device == 3 || has(4) && type_ != ty::STREAM {
                continue;
            }
            all.push(Claim {
                socket: SocketType {
                    domain: addr.family(),
                    ty: type_,
                    protocol,
                },
                addr,
                reuse: has(0),
                reuseport: has(1),
                v6only: has(2),
                uid: u32::from(has(3)),
                listens: has(4),
                device,
            });
        }
    }
    all
}

/// A socket that is bound to it, and the error with which that fails.
fn bind(net: &mut Net<'_>, claim: &Claim) -> (SockId, Option<No>) {
    let bytes = claim.addr.write();
    let options = [
        (claim.reuse, BindOptions::REUSEADDR),
        (claim.reuseport, BindOptions::REUSEPORT),
        (claim.v6only, BindOptions::V6ONLY),
    ];
    let options = options.iter().filter(|(on, _)| *on);
    let ask = Ask {
        kind: claim.socket,
        addr: bytes.bytes(),
        options: BindOptions(options.fold(0, |all, (_, bit)| all | bit)),
        device: claim.device,
        uid: claim.uid,
    };
    let cred = Cred {
        uid: claim.uid,
        ..Cred::ROOT
    };
    let id = net.open(&ask, &cred).expect("room");
    let to = Pointer::to(bytes.bytes());
    let bound = net.bind(Fd::Socket(id), to, &cred, Pick::Random(0));
    if bound.result.is_ok() && claim.listens {
        net.set_state(id, State::Listen);
    }
    (id, bound.result.err())
}

fn agree(protocol: u16, type_: u16) {
    let mut host = Host::loopback(Generation::Linux6_18);
    assert!(host.add_device(2, b"eth0", false));
    let mut owned = OwnedNet::new(host, 4);
    let mut net = owned.net();
    let mut all = claims(protocol, type_);
    // ::1 is not to be had on another device than its own.
    all.retain(|claim| {
        let (id, error) = bind(&mut net, claim);
        net.forget(id);
        error.is_none()
    });
    let mut refused = 0;
    for old in &all {
        for new in &all {
            // Both anew: the port remembers how its owners shared it.
            let (first, error) = bind(&mut net, old);
            assert_eq!(error, None);
            let said = new.is_refused_by(old);
            let answer = said.then(|| Errno::EADDRINUSE.into());
            let (second, error) = bind(&mut net, new);
            assert_eq!(answer, error, "{new:?} beside {old:?}");
            net.forget(second);
            net.forget(first);
            refused += usize::from(said);
            assert!(!said || new.overlaps(old));
        }
    }
    assert!(refused > all.len());
}

#[test]
fn tcp_as_the_tables() {
    agree(proto::TCP, ty::STREAM);
}

#[test]
fn udp_as_the_tables() {
    agree(proto::UDP, ty::DGRAM);
}
