//! How long the model takes, by how much is in its tables. Not a check:
//! `cargo test --release --test model_speed -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use bindgate_core::addr::Addr;
use bindgate_core::model::{Cred, Fd, Generation, Host, OwnedNet, Pick, Pointer, SockId};

fn bind(owned: &mut OwnedNet, id: SockId, ip: [u8; 4], port: u16, r: u32) -> bool {
    let raw = Addr::Inet { ip, port }.write();
    let addr = Pointer::to(raw.bytes());
    owned
        .net()
        .bind(Fd::Socket(id), addr, &Cred::ROOT, Pick::Random(r))
        .result
        .is_ok()
}

fn socket(owned: &mut OwnedNet) -> SockId {
    let made = owned.net().socket(2, 1, 0, &Cred::ROOT);
    made.result.expect("room")
}

/// 127.x.y.z, one for each 30,000 sockets.
fn place(n: u32) -> ([u8; 4], u16) {
    let [_, a, b, c] = (n / 30_000 + 1).to_be_bytes();
    ([127, a, b, c], (n % 30_000) as u16 + 2000)
}

#[test]
#[ignore = "a measurement"]
fn conflict_check() {
    println!("sockets bound   bind to a taken address   bind to a free one, and close");
    for n in [10u32, 1_000, 100_000, 1_000_000] {
        let mut owned = OwnedNet::new(Host::loopback(Generation::Linux6_18), n as usize + 8);
        for i in 0..n {
            let id = socket(&mut owned);
            let (ip, port) = place(i);
            assert!(bind(&mut owned, id, ip, port, 0));
        }
        let rounds = 300_000u32;
        let id = socket(&mut owned);
        let mut best = (f64::MAX, f64::MAX);
        for _ in 0..5 {
            let start = Instant::now();
            for i in 0..rounds {
                let (ip, port) = place(i.wrapping_mul(2_654_435_761) % n);
                assert!(!black_box(bind(&mut owned, id, ip, port, 0)));
            }
            let taken = start.elapsed().as_nanos() as f64 / f64::from(rounds);
            let start = Instant::now();
            for i in 0..rounds {
                let free = socket(&mut owned);
                let (ip, port) = place(i.wrapping_mul(2_654_435_761) % n);
                let ip = [127, 200, ip[2], ip[3]];
                assert!(black_box(bind(&mut owned, free, ip, port, 0)));
                owned.net().close(free);
            }
            let free = start.elapsed().as_nanos() as f64 / f64::from(rounds);
            best = (best.0.min(taken), best.1.min(free));
        }
        println!("{n:>13}   {:>20.0} ns   {:>24.0} ns", best.0, best.1);
    }
}

#[test]
#[ignore = "a measurement"]
fn automatic_port() {
    println!("range used   socket, bind to port 0, close");
    let range = 28_232u32;
    for percent in [0.0, 50.0, 99.0, 99.99] {
        let taken = (f64::from(range) * percent / 100.0) as u32;
        let mut owned = OwnedNet::new(Host::loopback(Generation::Linux6_18), 65_536);
        // Odd halves fill first, as they do in the kernel.
        for i in 0..taken {
            let offset = if i < range / 2 {
                2 * i + 1
            } else {
                2 * (i - range / 2)
            };
            let id = socket(&mut owned);
            assert!(bind(&mut owned, id, [0; 4], 32_768 + offset as u16, 0));
        }
        let rounds = 100_000u32;
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            for i in 0..rounds {
                let id = socket(&mut owned);
                let r = i.wrapping_mul(2_654_435_761);
                assert!(black_box(bind(&mut owned, id, [127, 0, 0, 1], 0, r)));
                owned.net().close(id);
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
        }
        println!("{percent:>9} %   {best:>10.0} ns");
    }
}
