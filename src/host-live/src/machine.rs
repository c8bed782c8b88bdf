//! This machine as the model sees it: from `/proc` and rtnetlink, without
//! privilege.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use bindgate_core::addr::{Addr, af};
use bindgate_core::model::host::{List, Route, Sysctls, V4, V6};
use bindgate_core::model::{Generation, Host, Outside, State};
use bindgate_core::socket::{SocketType, proto};
use bindgate_core::uapi::inet_diag;
pub use bindgate_core::uapi::unix_diag::Socket as UnixSocket;
use bindgate_os::{self as sys, diag};

/// The machine.
pub struct Machine {
    /// Addresses and settings.
    pub host: Host,
    /// What of them the model has no room for.
    pub left_out: LeftOut,
    /// Everybody's sockets, as far as `/proc/net` lists them: TCP sockets that
    /// are bound but neither listening nor connected are not there.
    pub sockets: Vec<Outside>,
}

/// What this machine has beyond the model's bounds.
#[derive(Default)]
pub struct LeftOut {
    v4: Vec<V4>,
    v6: Vec<V6>,
    /// Indices and names.
    devices: Vec<(u32, String)>,
    reserved_ports: Vec<(u16, u16)>,
}

impl LeftOut {
    /// A sentence for each thing that there is too much of.
    pub fn sentences(&self, host: &Host) -> Vec<String> {
        let v4 = self.v4.iter().map(|a| match a.prefix {
            32 => Ipv4Addr::from(a.addr).to_string(),
            prefix => format!("{}/{prefix}", Ipv4Addr::from(a.addr)),
        });
        let v6 = self.v6.iter().map(|a| Ipv6Addr::from(a.addr));
        let ports = self.reserved_ports.iter().map(|(lo, hi)| match lo == hi {
            true => lo.to_string(),
            false => format!("{lo}-{hi}"),
        });
        [
            sentence("IPv4 addresses", &host.v4, v4),
            sentence("IPv6 addresses", &host.v6, v6),
            sentence(
                "devices",
                &host.devices,
                self.devices.iter().map(|(_, name)| name),
            ),
            sentence(
                "ranges of reserved ports",
                &host.sysctl.reserved_ports,
                ports,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Is the address, or the device that it names, among what was left out?
    /// The model then says what it would say of a foreign one.
    pub fn concerns(&self, addr: &Addr) -> bool {
        if let Some(ip) = addr.ipv4() {
            let ip = u32::from_be_bytes(ip);
            return self.v4.iter().any(|a| a.holds(ip));
        }
        let device = match addr {
            Addr::Inet6 { ip, .. } if self.v6.iter().any(|a| a.addr == *ip) => return true,
            Addr::Inet6 { scope, .. } => scope,
            Addr::Packet { ifindex, .. } => ifindex,
            _ => return false,
        };
        self.devices.iter().any(|(index, _)| index == device)
    }
}

/// What is left out of a list that is full; nothing if nothing is.
fn sentence<T: Copy, const N: usize>(
    what: &str,
    held: &List<T, N>,
    left: impl ExactSizeIterator<Item = impl Display>,
) -> Option<String> {
    /// So many are named.
    const NAMED: usize = 8;
    let (count, room) = (left.len(), held.as_slice().len());
    if count == 0 {
        return None;
    }
    let mut names: Vec<_> = left.take(NAMED).map(|name| name.to_string()).collect();
    if count > NAMED {
        names.push(format!("and {} more", count - NAMED));
    }
    Some(format!(
        "this machine has {} {what}, the model holds {room}: {count} left out, {}",
        count + room,
        names.join(", "),
    ))
}

/// Puts into the list what there is room for; gives back the others.
fn fill<T: Copy, const N: usize>(list: &mut List<T, N>, all: Vec<T>) -> Vec<T> {
    all.into_iter().filter(|item| !list.push(*item)).collect()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A file that has all it has to say in the first read(2), and nothing in the
/// next: a list of ports under `/proc/sys`.
fn at_once(path: &str) -> String {
    // Every second port takes 200 KB.
    let mut buffer = vec![0; 1 << 18];
    let read = File::open(path).and_then(|mut file| file.read(&mut buffer));
    buffer.truncate(read.unwrap_or(0));
    String::from_utf8(buffer).unwrap_or_default()
}

/// The running kernel, asked once. Distributions that leave the third number of
/// the release at 0 tell it elsewhere.
pub fn running() -> Generation {
    static RUNNING: OnceLock<Generation> = OnceLock::new();
    *RUNNING.get_or_init(ask_release)
}

fn ask_release() -> Generation {
    let ubuntu = text("/proc/version_signature");
    let version = text("/proc/sys/kernel/version");
    let release = text("/proc/sys/kernel/osrelease");
    Generation::of_release(told_release(&ubuntu, &version).unwrap_or(&release))
}

/// Ubuntu: `Ubuntu 5.15.0-91.101-generic 5.15.131`; Debian, among other words:
/// `Debian 6.1.192-3`.
fn told_release<'a>(ubuntu: &'a str, version: &'a str) -> Option<&'a str> {
    let mut words = version.split_whitespace();
    let debian = words.find(|word| *word == "Debian").and(words.next());
    ubuntu.split_whitespace().nth(2).or(debian)
}

/// Addresses and settings, and what of them the model has no room for.
pub fn host() -> (Host, LeftOut) {
    let mut host = Host::EMPTY;
    let mut left_out = LeftOut::default();
    host.generation = running();
    let lo = devices(&mut host, &mut left_out);
    addresses(&mut host, &mut left_out, lo);
    settings(&mut host, &mut left_out);
    host.vsock.cid = own_cid();
    // Whoever asks about a protocol has a socket of it. To find out which there
    // are would load modules.
    host.netlink = u32::MAX;
    (host, left_out)
}

/// Reads it.
pub fn read() -> Machine {
    let (host, left_out) = host();
    let mut sockets = Vec::new();
    for (file, domain, ty) in [
        ("tcp", 2, 1),
        ("tcp6", 10, 1),
        ("udp", 2, 2),
        ("udp6", 10, 2),
    ] {
        let kind = SocketType::created(domain, ty, 0);
        let table = text(&format!("/proc/thread-self/net/{file}"));
        sockets.extend(table.lines().skip(1).filter_map(|line| outside(line, kind)));
    }
    Machine {
        host,
        left_out,
        sockets,
    }
}

/// Every socket of TCP or UDP that sock_diag lists in this network namespace, of
/// both address families: also those of TCP that are bound and no more than
/// that, where the kernel lists them (6.8).
///
/// # Errors
/// As [`diag::owners`].
pub fn inet_sockets(kind: SocketType) -> std::io::Result<Vec<inet_diag::Socket>> {
    let protocol = match kind.protocol {
        proto::MPTCP => proto::TCP,
        protocol => protocol,
    };
    let protocol = u8::try_from(protocol).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let mut all = diag::owners(af::INET as u8, protocol, 0)?;
    all.extend(diag::owners(af::INET6 as u8, protocol, 0)?);
    Ok(all)
}

/// A socket that sock_diag shows, for the model.
#[must_use]
pub fn outside_of(kind: SocketType, s: &inet_diag::Socket) -> Outside {
    use inet_diag::state;
    Outside {
        kind: SocketType {
            domain: s.family.into(),
            ..kind
        },
        uid: s.uid,
        addr: match (u16::from(s.family), s.addr) {
            (af::INET6, addr) => addr,
            (_, [a, b, c, d, ..]) => Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets(),
        },
        port: s.port,
        state: match s.state {
            state::LISTEN => State::Listen,
            state::TIME_WAIT => State::TimeWait,
            state::CLOSE | state::BOUND_INACTIVE => State::Close,
            _ => State::Established,
        },
        // Not to be seen from outside.
        reuse: false,
        reuseport: false,
        v6only: s.v6only,
        dev: s.dev,
    }
}

/// The CID of this machine, where it is the guest of another one. A kernel
/// without a transport to a hypervisor answers with `VMADDR_CID_ANY`, or with
/// `VMADDR_CID_LOCAL` where vsock_loopback is loaded.
pub fn own_cid() -> Option<u32> {
    // `IOCTL_VM_SOCKETS_GET_LOCAL_CID`
    const GET_LOCAL_CID: libc::Ioctl = 0x7b9;
    let device = File::open("/dev/vsock").ok()?;
    let cid = sys::ask_number(&device, GET_LOCAL_CID)?;
    // Not `VMADDR_CID_ANY`, nor the hypervisor's, the loopback's or the host's.
    (cid > 2 && cid != u32::MAX).then_some(cid)
}

/// Every Unix socket of this network namespace that has a name.
pub fn unix_sockets() -> Vec<UnixSocket> {
    let mut all = diag::unix_sockets();
    all.retain(|s| s.name.is_some());
    all
}

/// Devices; the index of `lo`.
fn devices(host: &mut Host, left_out: &mut LeftOut) -> u32 {
    let mut all = sys::devices();
    // The one that addresses ask for is never left out.
    all.sort_by_key(|(_, name)| name != "lo");
    let lo = all.first().filter(|(_, name)| name == "lo");
    let lo = lo.map_or(0, |(index, _)| *index);
    all.retain(|(index, name)| !host.add_device(*index, name.as_bytes(), name == "lo"));
    left_out.devices = all;
    lo
}

/// Local addresses: `/proc/net/fib_trie` lists each with its kind behind it.
fn addresses(host: &mut Host, left_out: &mut LeftOut, lo: u32) {
    let mut all: Vec<V4> = Vec::new();
    let mut unicast: Vec<V4> = Vec::new();
    let (mut table, mut last) = ("", None);
    for line in text("/proc/thread-self/net/fib_trie").lines() {
        if !line.starts_with(' ') {
            table = line;
            // Before `lo` is up for the first time there is none, and the
            // kernel takes any address for a local one.
            host.has_local_table |= table == "Local:";
        }
        // No other table makes an address local: not that of a proxy, either.
        if table != "Local:" {
            continue;
        }
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("|-- ") {
            last = rest.parse::<Ipv4Addr>().ok();
        } else if let (Some(addr), Some(rest)) = (last, line.strip_prefix('/'))
            && (rest.contains("LOCAL") || rest.contains("UNICAST"))
        {
            let prefix = rest.split(' ').next().and_then(|p| p.parse().ok());
            let prefix = prefix.unwrap_or(32);
            if rest.contains("UNICAST") {
                // Only where the kernel has not parted the two tables.
                unicast.push(V4 {
                    addr: addr.into(),
                    prefix,
                    dev: 0,
                });
                continue;
            }
            all.push(V4 {
                addr: addr.into(),
                prefix,
                // A whole network is local where it is lo's.
                dev: if prefix < 32 { lo } else { 0 },
            });
        }
    }
    all.sort_by_key(|a| (a.prefix, a.addr));
    all.dedup();
    // That every address is local the model does not know at all.
    let (mut left, all): (Vec<_>, Vec<_>) = all.into_iter().partition(|a| a.prefix == 0);
    // An address in a local network says nothing more: 127.0.0.1.
    let (networks, mut v4): (Vec<_>, Vec<_>) = all.into_iter().partition(|a| a.prefix < 32);
    v4.retain(|a| !networks.iter().any(|n| n.holds(a.addr)));
    // Where other packets go is not asked: routes that hide a local network.
    unicast.retain(|r| {
        let hides = |n: &V4| n.prefix < r.prefix && n.holds(r.addr);
        networks.iter().any(hides)
    });
    // Of what there is no room for nothing is known.
    unicast.retain(|hiding| !host.routes.push(Route::connected(hiding)));
    left.extend(unicast);
    let v4 = networks.into_iter().chain(v4).collect();
    left.extend(fill(&mut host.v4, v4));
    left_out.v4 = left;

    let mut all = Vec::new();
    for line in text("/proc/thread-self/net/if_inet6").lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [addr, dev, _, _, flags, ..] = words.as_slice() else {
            continue;
        };
        let hex = |w: &str| u32::from_str_radix(w, 16).unwrap_or(0);
        all.push(V6 {
            addr: u128::from_str_radix(addr, 16).unwrap_or(0).to_be_bytes(),
            dev: hex(dev),
            tentative: hex(flags) & 0x40 != 0,
        });
    }
    // The kernel lists them by a hash: ::1 first, and then always the same.
    all.sort_by_key(|a| (a.addr != Ipv6Addr::LOCALHOST.octets(), a.addr, a.dev));
    left_out.v6 = fill(&mut host.v6, all);
}

/// Two numbers with space between them.
fn pair(text: &str) -> Option<(u32, u32)> {
    let mut words = text.split_whitespace().map(|w| w.parse::<u32>().ok());
    Some((words.next()??, words.next()??))
}

/// Ports from the first to the last.
pub type Ports = (u16, u16);

/// The ports of this network that automatic binds get, if the kernel says so, and those
/// that they are kept from.
fn port_ranges() -> (Option<Ports>, Vec<Ports>) {
    let range = pair(&text("/proc/sys/net/ipv4/ip_local_port_range"));
    let mut reserved = Vec::new();
    let list = at_once("/proc/sys/net/ipv4/ip_local_reserved_ports");
    for part in list.trim().split(',') {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(a), Ok(b)) = (a.parse(), b.parse()) {
            reserved.push((a, b));
        }
    }
    (range.map(|(lo, hi)| (lo as u16, hi as u16)), reserved)
}

/// The ports of this network that are automatic binds' own, or that they are kept from.
pub fn automatic_ports() -> Vec<Ports> {
    let (range, mut all) = port_ranges();
    all.push(range.unwrap_or(Sysctls::DEFAULT.local_port_range));
    all
}

fn settings(host: &mut Host, left_out: &mut LeftOut) {
    let sysctl = |name: &str| text(&format!("/proc/sys/net/{name}"));
    let flag = |name: &str| sysctl(name).trim() == "1";
    let s = &mut host.sysctl;
    let (range, reserved) = port_ranges();
    s.local_port_range = range.unwrap_or(s.local_port_range);
    left_out.reserved_ports = fill(&mut s.reserved_ports, reserved);
    if let Ok(start) = sysctl("ipv4/ip_unprivileged_port_start").trim().parse() {
        s.unprivileged_start = start;
    }
    s.nonlocal_bind = flag("ipv4/ip_nonlocal_bind");
    s.nonlocal_bind6 = flag("ipv6/ip_nonlocal_bind");
    s.autobind_reuse = flag("ipv4/ip_autobind_reuse");
    s.bindv6only = flag("ipv6/bindv6only");
    if let Some(range) = pair(&sysctl("ipv4/ping_group_range")) {
        s.ping_groups = range;
    }
}

/// A line of `/proc/net/tcp` and its like.
pub(crate) fn outside(line: &str, kind: SocketType) -> Option<Outside> {
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
