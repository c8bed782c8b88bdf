//! What the model's answers cost as its tables fill, beside the running kernel.
//!
//! `cargo bench -p bindgate-core --bench model`; `-- --sizes 10,1000` takes
//! other sizes, `-- --model` leaves the kernel out, `-- --no-count` the
//! instructions. The kernel's sockets live in a network namespace of their own
//! (root). Instructions are counted by callgrind, if valgrind is installed.

use std::ffi::c_int;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use bindgate_core::model::host::Host;
use bindgate_core::model::{
    Cred, Errno, Fd, Generation, Net, Opt, OwnedNet, Pick, Pointer, SockId,
};

const SIZES: [u32; 4] = [10, 1_000, 100_000, 1_000_000];
/// Shares of the automatic range that are used, in parts of 10,000.
const SHARES: [u32; 4] = [0, 5_000, 9_900, 9_999];
/// Ports of the default automatic range.
const RANGE: u32 = 60_999 - 32_768 + 1;

#[derive(Clone, Copy)]
struct Sort {
    six: bool,
    udp: bool,
    reuseaddr: bool,
    reuseport: bool,
}

const PLAIN: Sort = Sort {
    six: false,
    udp: false,
    reuseaddr: false,
    reuseport: false,
};
const REUSEADDR: Sort = Sort {
    reuseaddr: true,
    ..PLAIN
};
const REUSEPORT: Sort = Sort {
    reuseport: true,
    ..PLAIN
};

#[derive(Clone, Copy)]
struct At {
    ip: u32,
    port: u16,
}

impl At {
    fn bytes(self, six: bool) -> ([u8; 28], usize) {
        let mut b = [0; 28];
        let family = if six { libc::AF_INET6 } else { libc::AF_INET };
        b[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        b[2..4].copy_from_slice(&self.port.to_be_bytes());
        if !six {
            b[4..8].copy_from_slice(&self.ip.to_be_bytes());
        }
        (b, if six { 28 } else { 16 })
    }
}

/// Sockets, of the model or of the kernel.
trait World {
    type Socket: Copy;
    fn socket(&mut self, sort: Sort) -> Result<Self::Socket, String>;
    fn bind(&mut self, s: Self::Socket, at: At, six: bool) -> Result<(), c_int>;
    fn close(&mut self, s: Self::Socket);

    /// Makes and binds so many sockets, and keeps them.
    fn fill(&mut self, n: u32, which: &dyn Fn(u32) -> (Sort, At)) -> Result<(), String>;
    /// Closes what [`World::fill`] made.
    fn empty(&mut self);
}

fn fill_with<W: World>(
    w: &mut W,
    which: &dyn Fn(u32) -> (Sort, At),
    range: std::ops::Range<u32>,
    all: &mut Vec<W::Socket>,
) -> Result<(), String> {
    for i in range {
        let (sort, at) = which(i);
        let s = w.socket(sort).map_err(|e| format!("stopped at {i}: {e}"))?;
        all.push(s);
        if let Err(e) = w.bind(s, at, sort.six) {
            return Err(format!("stopped at {i}: errno {e}"));
        }
    }
    Ok(())
}

struct Model<'m> {
    net: Net<'m>,
    lots: u32,
    all: Vec<SockId>,
}

impl<'m> Model<'m> {
    fn on(net: Net<'m>) -> Model<'m> {
        Model {
            net,
            lots: 1,
            all: Vec::new(),
        }
    }
}

impl World for Model<'_> {
    type Socket = SockId;

    fn socket(&mut self, sort: Sort) -> Result<SockId, String> {
        let domain = if sort.six {
            libc::AF_INET6
        } else {
            libc::AF_INET
        };
        let ty = 1 + c_int::from(sort.udp);
        let id = self
            .net
            .socket(domain, ty, 0, &Cred::ROOT)
            .result
            .map_err(|e| e.to_string())?;
        for (on, opt) in [
            (sort.reuseaddr, Opt::ReuseAddr(true)),
            (sort.reuseport, Opt::ReusePort(true)),
        ] {
            if on {
                let _ = self.net.setsockopt(id, opt, &Cred::ROOT);
            }
        }
        Ok(id)
    }

    fn bind(&mut self, s: SockId, at: At, six: bool) -> Result<(), c_int> {
        let (bytes, len) = at.bytes(six);
        self.lots = self
            .lots
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        bind_of_the_model(&mut self.net, s, bytes.get(..len).unwrap_or(&[]), self.lots)
            .map_err(|e| c_int::from(e.linux()))
    }

    fn close(&mut self, s: SockId) {
        let _ = self.net.close(s);
    }

    fn fill(&mut self, n: u32, which: &dyn Fn(u32) -> (Sort, At)) -> Result<(), String> {
        let mut all = Vec::new();
        let filled = fill_with(self, which, 0..n, &mut all);
        self.all = all;
        filled
    }

    fn empty(&mut self) {
        for s in std::mem::take(&mut self.all) {
            self.close(s);
        }
    }
}

/// What callgrind counts.
#[inline(never)]
#[unsafe(no_mangle)]
fn bind_of_the_model(net: &mut Net<'_>, s: SockId, addr: &[u8], lots: u32) -> Result<(), Errno> {
    black_box(net.bind(
        Fd::Socket(s),
        Pointer::to(addr),
        &Cred::ROOT,
        Pick::Random(lots >> 4),
    ))
    .result
}

/// Sockets that one process holds: the usual hard limit of descriptors is not
/// ours to raise.
const EACH: u32 = 15_000;

/// The running kernel; what fills it is held by other processes.
#[derive(Default)]
struct Kernel {
    holders: Vec<Holder>,
}

/// A process that holds sockets until its pipe is closed.
struct Holder {
    pid: c_int,
    pipe: c_int,
}

impl Kernel {
    /// Starts a process that binds these, and waits until it has.
    fn holder(
        &mut self,
        which: &dyn Fn(u32) -> (Sort, At),
        range: std::ops::Range<u32>,
    ) -> Result<(), String> {
        let mut pair = [0; 2];
        // SAFETY: room for two descriptors; the child of this program of one
        // thread goes on like the parent, and ends in `_exit`.
        let pid = unsafe {
            if libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, pair.as_mut_ptr()) != 0 {
                return Err(std::io::Error::last_os_error().to_string());
            }
            libc::fork()
        };
        let [ours, theirs] = pair;
        if pid == 0 {
            self.close(ours);
            for h in &self.holders {
                // SAFETY: a descriptor of this process that nobody else uses.
                unsafe { libc::close(h.pipe) };
            }
            let said = match fill_with(self, which, range, &mut Vec::new()) {
                Ok(()) => "ok".to_owned(),
                Err(e) => e,
            };
            let mut end = [0u8; 1];
            // SAFETY: the buffers have the lengths given.
            unsafe {
                libc::write(theirs, said.as_ptr().cast(), said.len());
                libc::read(theirs, end.as_mut_ptr().cast(), 1);
                libc::_exit(0);
            }
        }
        self.close(theirs);
        if pid < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        self.holders.push(Holder { pid, pipe: ours });
        let mut said = [0u8; 200];
        // SAFETY: the buffer has the length given.
        let n = unsafe { libc::read(ours, said.as_mut_ptr().cast(), said.len()) };
        match said.get(..usize::try_from(n).unwrap_or(0)) {
            Some(b"ok") => Ok(()),
            Some(text) => Err(String::from_utf8_lossy(text).into_owned()),
            None => Err("a holder ended".to_owned()),
        }
    }
}

impl World for Kernel {
    type Socket = c_int;

    fn socket(&mut self, sort: Sort) -> Result<c_int, String> {
        let domain = if sort.six {
            libc::AF_INET6
        } else {
            libc::AF_INET
        };
        let ty = 1 + c_int::from(sort.udp);
        // SAFETY: socket(2) takes numbers only.
        let fd = unsafe { libc::socket(domain, ty, 0) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        for (on, opt) in [
            (sort.reuseaddr, libc::SO_REUSEADDR),
            (sort.reuseport, libc::SO_REUSEPORT),
        ] {
            if on {
                let one: c_int = 1;
                // SAFETY: the value is an int that outlives the call, and its
                // size is given.
                unsafe {
                    libc::setsockopt(fd, libc::SOL_SOCKET, opt, (&raw const one).cast(), 4);
                }
            }
        }
        Ok(fd)
    }

    fn bind(&mut self, s: c_int, at: At, six: bool) -> Result<(), c_int> {
        let (bytes, len) = at.bytes(six);
        // SAFETY: `len` bytes are there, and are only read.
        if unsafe { libc::bind(s, bytes.as_ptr().cast(), len as libc::socklen_t) } == 0 {
            return Ok(());
        }
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    fn close(&mut self, s: c_int) {
        // SAFETY: `s` is a socket of ours that nobody else uses.
        unsafe {
            libc::close(s);
        }
    }

    fn fill(&mut self, n: u32, which: &dyn Fn(u32) -> (Sort, At)) -> Result<(), String> {
        let begun = Instant::now();
        for from in (0..n).step_by(EACH as usize) {
            self.holder(which, from..n.min(from + EACH))?;
            if begun.elapsed().as_secs() > 100 {
                return Err(format!("stopped at {from} after 100 s"));
            }
        }
        Ok(())
    }

    fn empty(&mut self) {
        for h in std::mem::take(&mut self.holders) {
            self.close(h.pipe);
            // SAFETY: a child of ours, waited for once.
            unsafe {
                libc::waitpid(h.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// A way to fill the tables, and the bind that is measured then.
struct Scene {
    name: &'static str,
    /// Number `i` of those that are there.
    fill: fn(u32) -> (Sort, At),
    /// Who asks, for what, and what is the answer.
    ask: Sort,
    at: At,
    answer: Result<(), c_int>,
}

const fn any(port: u16) -> At {
    At { ip: 0, port }
}

const IN_USE: Result<(), c_int> = Err(libc::EADDRINUSE);

fn loopback(i: u32) -> u32 {
    0x7f00_0001 + i
}

const SCENES: &[Scene] = &[
    Scene {
        name: "distinct ports (and addresses): one of them again",
        fill: |i| {
            let at = At {
                ip: loopback(i / 50_000),
                port: 10_000 + (i % 50_000) as u16,
            };
            (PLAIN, at)
        },
        ask: PLAIN,
        at: At {
            ip: 0x7f00_0001,
            port: 10_005,
        },
        answer: IN_USE,
    },
    Scene {
        name: "distinct ports (and addresses): a free one",
        fill: |i| {
            let at = At {
                ip: loopback(i / 50_000),
                port: 10_000 + (i % 50_000) as u16,
            };
            (PLAIN, at)
        },
        ask: PLAIN,
        at: any(5_000),
        answer: Ok(()),
    },
    Scene {
        name: "one port, distinct addresses: one of them again",
        fill: |i| {
            (
                PLAIN,
                At {
                    ip: loopback(i),
                    port: 80,
                },
            )
        },
        ask: PLAIN,
        at: At {
            ip: 0x7f00_0003,
            port: 80,
        },
        answer: IN_USE,
    },
    Scene {
        name: "one port, distinct addresses: one more",
        fill: |i| {
            (
                PLAIN,
                At {
                    ip: loopback(i),
                    port: 80,
                },
            )
        },
        ask: PLAIN,
        at: At {
            ip: 0x7fff_0003,
            port: 80,
        },
        answer: Ok(()),
    },
    Scene {
        name: "one port, distinct addresses: the wildcard",
        fill: |i| {
            (
                PLAIN,
                At {
                    ip: loopback(i),
                    port: 80,
                },
            )
        },
        ask: PLAIN,
        at: any(80),
        answer: IN_USE,
    },
    Scene {
        name: "the same, all with SO_REUSEADDR: the wildcard",
        fill: |i| {
            (
                REUSEADDR,
                At {
                    ip: loopback(i),
                    port: 80,
                },
            )
        },
        ask: REUSEADDR,
        at: any(80),
        answer: Ok(()),
    },
    Scene {
        name: "one port, SO_REUSEPORT: one more",
        fill: |_| (REUSEPORT, any(80)),
        ask: REUSEPORT,
        at: any(80),
        answer: Ok(()),
    },
    Scene {
        name: "one port, SO_REUSEPORT: one without",
        fill: |_| (REUSEPORT, any(80)),
        ask: PLAIN,
        at: any(80),
        answer: IN_USE,
    },
    Scene {
        name: "one port, dual-stack [::], SO_REUSEPORT: IPv4 without",
        fill: |_| {
            let sort = Sort {
                six: true,
                ..REUSEPORT
            };
            (sort, any(80))
        },
        ask: PLAIN,
        at: any(80),
        answer: IN_USE,
    },
    Scene {
        name: "dual-stack [::] on distinct ports: IPv4 on one of them",
        fill: |i| {
            let sort = Sort {
                six: true,
                ..REUSEPORT
            };
            (sort, any(10_000 + (i % 50_000) as u16))
        },
        ask: PLAIN,
        at: any(10_005),
        answer: IN_USE,
    },
    Scene {
        name: "UDP, one port, SO_REUSEADDR: one more",
        fill: |_| {
            let sort = Sort {
                udp: true,
                ..REUSEADDR
            };
            (sort, any(80))
        },
        ask: Sort {
            udp: true,
            ..REUSEADDR
        },
        at: any(80),
        answer: Ok(()),
    },
];

/// Nanoseconds of a bind, its socket made and closed outside the time: the
/// median of short rounds.
fn time<W: World>(w: &mut W, sort: Sort, at: At, answer: Result<(), c_int>) -> Result<f64, String> {
    let begun = Instant::now();
    let mut rounds = Vec::new();
    while rounds.len() < 15 || (rounds.len() < 3_001 && begun.elapsed().as_millis() < 300) {
        let mut socks = Vec::new();
        // Automatic ports must not use the range up: one at a time.
        let batch = if at.port == 0 || answer.is_ok() {
            1
        } else {
            20
        };
        for _ in 0..batch {
            socks.push(w.socket(sort)?);
        }
        let start = Instant::now();
        for s in &socks {
            let got = w.bind(*s, at, sort.six);
            if got != answer {
                return Err(format!("answers {got:?}"));
            }
        }
        rounds.push(start.elapsed().as_nanos() as f64 / f64::from(batch));
        for s in socks {
            w.close(s);
        }
        if begun.elapsed().as_secs() > 20 {
            break;
        }
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}

/// Every port once: the tables' memory is there before anything is timed, as
/// that of a run is.
fn touch(w: &mut Model<'_>) {
    for udp in [false, true] {
        for port in 1..=u16::MAX {
            if let Ok(s) = w.socket(Sort { udp, ..PLAIN }) {
                let _ = w.bind(s, any(port), false);
                w.close(s);
            }
        }
    }
}

fn one<W: World>(w: &mut W, scene: &Scene, n: u32) -> Result<f64, String> {
    let ns = w
        .fill(n, &scene.fill)
        .and_then(|()| time(w, scene.ask, scene.at, scene.answer));
    w.empty();
    ns
}

fn one_auto<W: World>(w: &mut W, sort: Sort, ip: u32, n: u32) -> Result<f64, String> {
    let at = At { ip, port: 0 };
    let ns = w
        .fill(n, &|_| (sort, at))
        .and_then(|()| time(w, sort, at, Ok(())));
    w.empty();
    ns
}

const AUTO: [(&str, Sort, u32); 3] = [
    ("TCP 0.0.0.0:0", PLAIN, 0),
    ("TCP 127.0.0.1:0", PLAIN, 0x7f00_0001),
    (
        "UDP 0.0.0.0:0",
        Sort {
            six: false,
            udp: true,
            reuseaddr: false,
            reuseport: false,
        },
        0,
    ),
];

/// A kernel to ask: a network namespace of our own with `lo` up, and the
/// descriptors that a holder needs.
fn own_namespace() -> Result<(), String> {
    let failed = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
    // SAFETY: the structures are whole and outlive the calls; the ioctl takes
    // an ifreq of which it reads name and flags.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(u64::from(EACH) + 1_000);
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            return Err(failed("RLIMIT_NOFILE"));
        }
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return Err(failed("a network namespace"));
        }
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut ifr: libc::ifreq = std::mem::zeroed();
        ifr.ifr_name[0] = b'l' as libc::c_char;
        ifr.ifr_name[1] = b'o' as libc::c_char;
        ifr.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        let up = libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const ifr);
        libc::close(fd);
        if up != 0 {
            return Err(failed("lo up"));
        }
    }
    Ok(())
}

/// Instructions of one bind: callgrind runs this program again.
fn count(args: &[String]) -> Option<f64> {
    let out = std::env::temp_dir().join(format!("bindgate-model-{}", std::process::id()));
    let status = Command::new("valgrind")
        .args([
            "-q",
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=bind_of_the_model",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().ok()?)
        .arg("--counted")
        .args(args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .ok()?;
    let text = std::fs::read_to_string(&out).ok();
    let _ = std::fs::remove_file(&out);
    let total: f64 = text?
        .lines()
        .find_map(|l| {
            l.strip_prefix("totals: ")
                .or_else(|| l.strip_prefix("summary: "))
        })?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    status.success().then_some(total)
}

/// What runs under callgrind: fills, and asks `asks` times.
fn counted(args: &[String]) {
    let number = |i: usize| args[i].parse::<u32>().unwrap();
    let (n, asks) = (number(1), number(2));
    let mut owned = OwnedNet::new(Host::loopback(Generation::Linux6_18), n + 100);
    let mut w = Model::on(owned.net());
    let (sort, at, answer) = match args[0].strip_prefix("auto") {
        Some(i) => {
            let (_, sort, ip) = AUTO[i.parse::<usize>().unwrap()];
            let at = At { ip, port: 0 };
            w.fill(n, &|_| (sort, at)).unwrap();
            (sort, at, Ok(()))
        }
        None => {
            let scene = &SCENES[number(0) as usize];
            w.fill(n, &scene.fill).unwrap();
            (scene.ask, scene.at, scene.answer)
        }
    };
    for _ in 0..asks {
        let s = w.socket(sort).unwrap();
        assert_eq!(w.bind(s, at, sort.six), answer);
        w.close(s);
    }
}

fn cell(r: &Result<f64, String>) -> String {
    match r {
        Ok(ns) if *ns >= 100_000.0 => format!("{:.1} ms", ns / 1e6),
        Ok(ns) => format!("{ns:.0} ns"),
        Err(e) => e.clone(),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "--counted") {
        counted(&args[1..]);
        return;
    }
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let sizes: Vec<u32> = args
        .iter()
        .position(|a| a == "--sizes")
        .and_then(|i| args.get(i + 1))
        .map_or(SIZES.to_vec(), |s| {
            s.split(',').map(|n| n.parse().unwrap()).collect()
        });
    let most = sizes.iter().copied().max().unwrap_or(0).max(RANGE);
    let kernel = if has("--model") {
        Err("not asked".to_owned())
    } else {
        own_namespace()
    };
    let counts = !has("--no-count");
    println!("scene | sockets | instructions | model | kernel");
    let mut owned = OwnedNet::new(Host::loopback(Generation::Linux6_18), most + 100);
    touch(&mut Model::on(owned.net()));
    for (i, scene) in SCENES.iter().enumerate() {
        let mut base = None;
        for &n in &sizes {
            let model = one(&mut Model::on(owned.net()), scene, n);
            let run = |asks: u32| count(&[i.to_string(), n.to_string(), asks.to_string()]);
            let instructions = counts
                .then(|| Some((run(110)? - run(10)?) / 100.0))
                .flatten();
            let there = kernel
                .clone()
                .and_then(|()| one(&mut Kernel::default(), scene, n));
            row(
                scene.name,
                &n.to_string(),
                instructions,
                &mut base,
                &model,
                &there,
            );
        }
    }
    let mut owned = OwnedNet::new(Host::loopback(Generation::Linux6_18), RANGE + 100);
    touch(&mut Model::on(owned.net()));
    for (i, (name, sort, ip)) in AUTO.into_iter().enumerate() {
        let mut base = None;
        for share in SHARES {
            let n = RANGE * share / 10_000;
            let model = one_auto(&mut Model::on(owned.net()), sort, ip, n);
            let run = |asks: u32| count(&[format!("auto{i}"), n.to_string(), asks.to_string()]);
            let instructions = counts
                .then(|| Some((run(110)? - run(10)?) / 100.0))
                .flatten();
            let there = kernel
                .clone()
                .and_then(|()| one_auto(&mut Kernel::default(), sort, ip, n));
            let used = format!("{} % used", f64::from(share) / 100.0);
            row(name, &used, instructions, &mut base, &model, &there);
        }
    }
}

fn row(
    name: &str,
    size: &str,
    instructions: Option<f64>,
    base: &mut Option<f64>,
    model: &Result<f64, String>,
    kernel: &Result<f64, String>,
) {
    let counted = instructions.map_or("-".to_owned(), |n| {
        let base = *base.get_or_insert(n);
        format!("{n:.0} ({:.2} x)", n / base)
    });
    println!(
        "{name} | {size} | {counted} | {} | {}",
        cell(model),
        cell(kernel)
    );
}
