//! The model's state in memory that two processes map, each at a place of its
//! own, and both bind in.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};

use bindgate_core::addr::{Addr, af};
use bindgate_core::model::host::Cred;
use bindgate_core::model::script::parse;
use bindgate_core::model::{
    Errno, Fd, Generation, Host, Net, No, Opt, Pick, Pointer, SockId, Step,
};

const SOCKETS: u32 = 20_000;

/// A mapping of a memory file: a lock, and the words of a network.
struct Mapped {
    at: *mut u64,
    words: usize,
}

impl Mapped {
    fn new(fd: c_int, words: usize) -> Mapped {
        // SAFETY: a new mapping of a file that is as long.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                (words + 1) * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        Mapped {
            at: at.cast(),
            words,
        }
    }

    /// Works on the network, alone.
    fn with<T>(&self, host: &Host, work: impl FnOnce(&mut Net<'_>) -> T) -> T {
        // SAFETY: the first word is only ever used as this lock.
        let lock = unsafe { &*self.at.cast::<AtomicU32>() };
        while lock.swap(1, Ordering::Acquire) != 0 {
            std::thread::yield_now();
        }
        // SAFETY: the words behind the lock are mapped, aligned, plain numbers,
        // and nobody else touches them while the lock is held.
        let words = unsafe { std::slice::from_raw_parts_mut(self.at.add(1), self.words) };
        let done = work(&mut Net::attach(words, host).expect("a network"));
        lock.store(0, Ordering::Release);
        done
    }
}

fn to(ip: u32, port: u16) -> [u8; 16] {
    let mut addr = [0; 16];
    addr[..2].copy_from_slice(&af::INET.to_ne_bytes());
    addr[2..4].copy_from_slice(&port.to_be_bytes());
    addr[4..8].copy_from_slice(&ip.to_be_bytes());
    addr
}

fn bind(net: &mut Net<'_>, uid: u32, ip: u32, port: u16, lots: u32) -> Result<SockId, No> {
    let cred = Cred::user(uid);
    let s = net.socket(2, 1, 0, &cred).result?;
    let bound = net.bind(
        Fd::Socket(s),
        Pointer::to(&to(ip, port)),
        &cred,
        Pick::Random(lots),
    );
    match bound.result {
        Ok(()) => Ok(s),
        Err(e) => {
            net.close(s);
            Err(e)
        }
    }
}

/// Waits until the other process has bound something, however the turns fall.
fn meet(memory: &Mapped, host: &Host, uid: u32) {
    let mut both = false;
    for _ in 0..1_000_000 {
        memory.with(host, |net| {
            both = net.ids().any(|id| net.get(id).uid != uid)
        });
        if both {
            return;
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    panic!("the other process never came");
}

/// Binds automatic ports, and the other's ports in vain: how many of either.
fn work(memory: &Mapped, host: &Host, uid: u32) -> (u32, u32) {
    let (mut own, mut refused) = (0, 0);
    let mut kept = Vec::new();
    for i in 0..4_000u32 {
        if i == 100 {
            meet(memory, host, uid);
        }
        memory.with(host, |net| {
            if let Ok(s) = bind(net, uid, 0, 0, i.wrapping_mul(0x9e37_79b9) ^ uid) {
                own += 1;
                kept.push(s);
            }
            let others: Vec<SockId> = net.ids().filter(|id| net.get(*id).uid != uid).collect();
            if let Some(id) = others.get(i as usize % others.len().max(1))
                && let Addr::Inet { port, .. } = net.getsockname(*id)
            {
                assert_eq!(
                    bind(net, uid, 0x7f00_0001, port, 0),
                    Err(Errno::EADDRINUSE.into())
                );
                refused += 1;
            }
            if i % 3 == 0
                && let Some(s) = kept.pop()
            {
                net.close(s);
                own -= 1;
            }
        });
    }
    (own, refused)
}

#[test]
fn two_processes_bind_in_one_network() {
    let host = Host::loopback(Generation::Linux6_18);
    let words = Net::words(SOCKETS);
    // SAFETY: a fresh memory file, made as long as it is mapped; the child is
    // a fork of a thread that holds no lock that it needs, and ends in _exit.
    let (fd, child) = unsafe {
        let fd = libc::memfd_create(c"model".as_ptr(), 0);
        assert!(fd >= 0);
        assert_eq!(libc::ftruncate(fd, ((words + 1) * 8) as libc::off_t), 0);
        let here = Mapped::new(fd, words);
        let fresh = std::slice::from_raw_parts_mut(here.at.add(1), words);
        assert!(Net::format(fresh, SOCKETS, &host).is_some());
        (fd, libc::fork())
    };
    // One more mapping in the child: another address than the parent's.
    if child == 0 {
        let _spare = Mapped::new(fd, words);
        let memory = Mapped::new(fd, words);
        let done = std::panic::catch_unwind(|| {
            let (own, refused) = work(&memory, &host, 1001);
            assert!(own > 2_000 && refused > 1_000, "{own} {refused}");
        });
        // SAFETY: ends the child without running what the parent will run.
        unsafe { libc::_exit(c_int::from(done.is_err())) };
    }
    let memory = Mapped::new(fd, words);
    let (own, _) = work(&memory, &host, 1000);
    let mut status = 0;
    // SAFETY: our child, waited for once.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child's binds");
    memory.with(&host, |net| {
        let count = |uid| net.ids().filter(|id| net.get(*id).uid == uid).count() as u32;
        assert_eq!(count(1000), own);
        let theirs = count(1001);
        assert!(theirs > 2_000, "{theirs}");
        assert_eq!(net.core.used, own + theirs);
        // No port twice.
        let mut ports: Vec<u32> = net.ids().map(|id| net.get(id).num).collect();
        ports.sort_unstable();
        let all = ports.len();
        ports.dedup();
        assert_eq!(ports.len(), all);
        net.clear();
        assert_eq!(net.core.used, 0);
        assert_eq!(bind(net, 5, 0, ports[0] as u16, 0).map(|_| ()), Ok(()));
    });
}

/// The bound is what was asked for, and is said.
#[test]
fn a_full_table_says_so() {
    let host = Host::loopback(Generation::Linux6_18);
    let mut words = vec![0; Net::words(3)];
    let mut net = Net::format(&mut words, 3, &host).expect("room");
    let s: Vec<SockId> = (0..3)
        .map(|i| bind(&mut net, 1, 0, 5000 + i, 0).expect("room"))
        .collect();
    let none = net.socket(2, 1, 0, &Cred::ROOT);
    assert_eq!(none.result, Err(No::Unknown(Step::NoRoom)));
    let why = none.trail.last().expect("a check");
    assert_eq!(
        (why.function(), why.what()),
        ("bindgate", "the model's table is full")
    );
    net.close(s[1]);
    assert!(bind(&mut net, 1, 0, 5001, 0).is_ok());
    // Too little memory, and memory that nobody laid out.
    let mut short = vec![0; Net::words(3) - 1];
    assert!(Net::format(&mut short, 3, &host).is_none());
    assert!(Net::attach(&mut short, &host).is_none());
}

/// What TIME_WAIT would have kept is said to be lost.
#[test]
fn without_room_nothing_waits() {
    let host = Host::loopback(Generation::Linux6_18);
    for (room, lost) in [(3, true), (4, false)] {
        let mut words = vec![0; Net::words(room)];
        let mut net = Net::format(&mut words, room, &host).expect("room");
        let listener = bind(&mut net, 1, 0x7f00_0001, 8080, 0).expect("room");
        assert_eq!(
            net.listen(listener, &Cred::ROOT, Pick::Random(0)).result,
            Ok(())
        );
        let cred = Cred::user(1);
        let client = net.socket(2, 1, 0, &cred).result.expect("room");
        let at = to(0x7f00_0001, 8080);
        let done = net.connect(client, &at, &cred, Pick::Random(0));
        assert_eq!(done.result, Ok(()));
        let port = net.get(client).num as u16;
        let closed = net.close(client);
        assert_eq!(closed.trail.steps().contains(&Step::NoRoom), lost);
        let waits = net.ids().any(|id| net.get(id).num == u32::from(port));
        assert_ne!(waits, lost, "port {port}");
    }
}

/// A host with more addresses than are kept is refused.
#[test]
fn addresses_that_do_not_fit_are_refused() {
    let script = |n: u32| -> String {
        (1..=n)
            .map(|i| format!("host address 10.0.0.{i}/24\n"))
            .collect()
    };
    // `lo` has one already.
    let fresh = || Host::loopback(Generation::Linux6_18);
    assert!(parse(&script(31), fresh()).is_ok());
    let why = parse(&script(32), fresh()).expect_err("no room");
    assert!(why.to_string().contains("at most 32 addresses"), "{why}");
}

/// Whatever is scribbled over the words, the model answers something and ends.
#[test]
fn scribbled_memory_ends_every_search() {
    let host = Host::loopback(Generation::Linux6_18);
    let mut x = 88_172_645_463_325_252u64;
    let mut dice = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let sockets = 64;
    let mut words = vec![0; Net::words(sockets)];
    for _ in 0..40 {
        words.fill(0);
        let mut net = Net::format(&mut words, sockets, &host).expect("room");
        for i in 0..40u16 {
            let s = bind(
                &mut net,
                u32::from(i % 3),
                0x7f00_0001 + u32::from(i % 5),
                5000 + i % 7,
                0,
            );
            if let Ok(s) = s {
                net.setsockopt(s, Opt::ReusePort(i % 2 == 0), &Cred::ROOT);
            }
        }
        // Not the first word: what is no network is refused.
        for _ in 0..2_000 {
            let at = 1 + (dice() as usize) % (words.len() - 1);
            words[at] = dice() % 70;
        }
        let mut net = Net::attach(&mut words, &host).expect("a network");
        for i in 0..200u16 {
            let id = SockId((dice() % 64) as u32);
            let _ = bind(&mut net, 1, 0x7f00_0001, 5000 + i % 9, i.into());
            let _ = net.listen(id, &Cred::ROOT, Pick::Random(u32::from(i)));
            let _ = net.setsockopt(id, Opt::ReuseAddr(i % 2 == 0), &Cred::ROOT);
            let _ = net.close(id);
            let _ = net.getsockname(id);
        }
    }
}
