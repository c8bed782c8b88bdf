//! This machine as the model sees it: from `/proc`, without privilege.

use bindgate_core::model::host::{V4, V6};
use bindgate_core::model::{Generation, Host, Outside, State};
use bindgate_core::socket::SocketType;

/// The machine.
pub struct Machine {
    /// Addresses and settings.
    pub host: Host,
    /// Everybody's sockets, as far as `/proc/net` lists them: TCP sockets that
    /// are bound but neither listening nor connected are not there.
    pub sockets: Vec<Outside>,
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The running kernel's generation.
pub fn running() -> Generation {
    Generation::of_release(&text("/proc/sys/kernel/osrelease"))
}

/// Addresses and settings.
pub fn host() -> Host {
    let mut host = Host {
        has_local_table: true,
        ..Host::EMPTY
    };
    host.generation = running();
    for (i, line) in (1u32..).zip(text("/proc/net/dev").lines().skip(2)) {
        let name = line.split(':').next().unwrap_or("").trim();
        let index = text(&format!("/sys/class/net/{name}/ifindex"));
        let index = index.trim().parse().unwrap_or(i);
        host.add_device(index, name.as_bytes(), name == "lo");
    }
    let lo = host.devices.as_slice().iter().find(|d| d.loopback);
    let lo = lo.map_or(0, |d| d.index);
    addresses(&mut host, lo);
    settings(&mut host);
    host
}

/// Reads it.
pub fn read() -> Machine {
    let host = host();
    let mut sockets = Vec::new();
    for (file, domain, ty) in [
        ("tcp", 2, 1),
        ("tcp6", 10, 1),
        ("udp", 2, 2),
        ("udp6", 10, 2),
    ] {
        let kind = SocketType::created(domain, ty, 0);
        let table = text(&format!("/proc/net/{file}"));
        sockets.extend(table.lines().skip(1).filter_map(|line| outside(line, kind)));
    }
    Machine { host, sockets }
}

/// Local addresses: `/proc/net/fib_trie` lists each with its kind behind it.
fn addresses(host: &mut Host, lo: u32) {
    let mut last = None;
    for line in text("/proc/net/fib_trie").lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("|-- ") {
            last = rest.parse::<std::net::Ipv4Addr>().ok();
        } else if let (Some(addr), Some(rest)) = (last, line.strip_prefix('/'))
            && rest.contains("LOCAL")
        {
            let prefix = rest.split(' ').next().and_then(|p| p.parse().ok());
            let v4 = V4 {
                addr: addr.into(),
                prefix: prefix.unwrap_or(32),
                dev: if addr.is_loopback() { lo } else { 0 },
            };
            if !host.v4.as_slice().contains(&v4) {
                host.v4.push(v4);
            }
        }
    }
    for line in text("/proc/net/if_inet6").lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [addr, dev, _, _, flags, ..] = words.as_slice() else {
            continue;
        };
        let hex = |w: &str| u32::from_str_radix(w, 16).unwrap_or(0);
        host.v6.push(V6 {
            addr: u128::from_str_radix(addr, 16).unwrap_or(0).to_be_bytes(),
            dev: hex(dev),
            tentative: hex(flags) & 0x40 != 0,
        });
    }
}

fn settings(host: &mut Host) {
    let sysctl = |name: &str| text(&format!("/proc/sys/net/{name}"));
    let pair = |text: String| {
        let mut words = text.split_whitespace().map(|w| w.parse::<u32>().ok());
        Some((words.next()??, words.next()??))
    };
    let flag = |name: &str| sysctl(name).trim() == "1";
    let s = &mut host.sysctl;
    if let Some((lo, hi)) = pair(sysctl("ipv4/ip_local_port_range")) {
        s.local_port_range = (lo as u16, hi as u16);
    }
    for part in sysctl("ipv4/ip_local_reserved_ports").trim().split(',') {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(a), Ok(b)) = (a.parse(), b.parse()) {
            s.reserved_ports.push((a, b));
        }
    }
    if let Ok(start) = sysctl("ipv4/ip_unprivileged_port_start").trim().parse() {
        s.unprivileged_start = start;
    }
    s.nonlocal_bind = flag("ipv4/ip_nonlocal_bind");
    s.nonlocal_bind6 = flag("ipv6/ip_nonlocal_bind");
    s.autobind_reuse = flag("ipv4/ip_autobind_reuse");
    s.bindv6only = flag("ipv6/bindv6only");
    if let Some(range) = pair(sysctl("ipv4/ping_group_range")) {
        s.ping_groups = range;
    }
}

/// A line of `/proc/net/tcp` and its like.
fn outside(line: &str, kind: SocketType) -> Option<Outside> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (addr, port) = words.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Groups of four bytes, each as a number of this machine's byte order.
    let mut bytes = Vec::new();
    for i in 0..addr.len() / 8 {
        let word = u32::from_str_radix(addr.get(8 * i..8 * i + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let addr = match bytes.as_slice() {
        [a, b, c, d] => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, *a, *b, *c, *d],
        whole => whole.try_into().ok()?,
    };
    let state = match *words.get(3)? {
        "0A" => State::Listen,
        "07" => State::Close,
        "06" => State::TimeWait,
        _ => State::Established,
    };
    let specific = kind.domain == 10 && addr != [0; 16] && !addr.starts_with(&[0; 10]);
    Some(Outside {
        kind,
        uid: words.get(7)?.parse().ok()?,
        addr,
        port,
        state,
        reuse: false,
        reuseport: false,
        v6only: specific,
        dev: 0,
    })
}
