//! What a model cannot know by itself: the host, its kernel, who calls.
//!
//! [`Host`] is filled by the caller from `/proc/sys`, rtnetlink and the
//! policy's `host` lines; the model never asks and never guesses.

use core::fmt;

use super::linux::quirks;
use super::net::mapped;

/// A list of at most `N` plain values.
#[derive(Clone, Copy, Debug)]
pub struct List<T: Copy, const N: usize> {
    len: usize,
    items: [T; N],
}

impl<T: Copy, const N: usize> List<T, N> {
    /// No items; `filler` is never shown.
    #[must_use]
    pub const fn new(filler: T) -> Self {
        List {
            len: 0,
            items: [filler; N],
        }
    }

    /// Adds an item; false if the list is full.
    pub fn push(&mut self, item: T) -> bool {
        match self.items.get_mut(self.len) {
            Some(place) => {
                *place = item;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// Keeps those items that are wanted, in their order.
    pub fn retain(&mut self, is_wanted: impl Fn(&T) -> bool) {
        let all = *self;
        self.clear();
        for item in all.as_slice().iter().filter(|item| is_wanted(item)) {
            self.push(*item);
        }
    }

    /// Forgets all items.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The items.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        self.items.get(..self.len).unwrap_or(&[])
    }
}

/// Which kernel answers: a system and its release. Of two releases of one system
/// the newer one is greater.
///
/// The third number counts where a stable release changed an answer. Whoever
/// leaves it out means the last one of a Linux release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Generation {
    /// [`FREEBSD`], and 16 bits for each number of the release: a rule asks for
    /// it with one comparison.
    packed: u64,
}

/// In [`Generation::packed`].
const FREEBSD: u64 = 1 << 63;

const fn packed(major: u16, minor: u16, patch: u16) -> u64 {
    (major as u64) << 32 | (minor as u64) << 16 | patch as u64
}

/// The third number of a Linux release that has none.
const LAST: u16 = u16::MAX;

// Named as releases are written.
#[allow(non_upper_case_globals)]
impl Generation {
    /// Linux 2.6: what came before 2.6.28.
    pub const Linux2_6: Generation = Generation::linux(2, 6, 27);
    /// Linux 5.10.
    pub const Linux5_10: Generation = Generation::linux(5, 10, LAST);
    /// Linux 6.1.
    pub const Linux6_1: Generation = Generation::linux(6, 1, LAST);
    /// Linux 6.12.
    pub const Linux6_12: Generation = Generation::linux(6, 12, LAST);
    /// Linux 6.16.
    pub const Linux6_16: Generation = Generation::linux(6, 16, LAST);
    /// Linux 6.18.
    pub const Linux6_18: Generation = Generation::linux(6, 18, LAST);
    /// Linux 7.3.
    pub const Linux7_3: Generation = Generation::linux(7, 3, LAST);
    /// FreeBSD 9.1.
    pub const FreeBsd9_1: Generation = Generation::freebsd(9, 1);
    /// FreeBSD 14.3.
    pub const FreeBsd14_3: Generation = Generation::freebsd(14, 3);
}

impl Generation {
    /// The generations that the model was compared with, with the words for them.
    pub const ALL: [(&'static str, Generation); 9] = [
        ("linux 2.6", Generation::Linux2_6),
        ("linux 5.10", Generation::Linux5_10),
        ("linux 6.1", Generation::Linux6_1),
        ("linux 6.12", Generation::Linux6_12),
        ("linux 6.16", Generation::Linux6_16),
        ("linux 6.18", Generation::Linux6_18),
        ("linux 7.3", Generation::Linux7_3),
        ("freebsd 9.1", Generation::FreeBsd9_1),
        ("freebsd 14.3", Generation::FreeBsd14_3),
    ];

    /// A Linux release.
    #[must_use]
    pub const fn linux(major: u16, minor: u16, patch: u16) -> Generation {
        Generation {
            packed: packed(major, minor, patch),
        }
    }

    /// A FreeBSD release.
    #[must_use]
    pub const fn freebsd(major: u16, minor: u16) -> Generation {
        Generation {
            packed: FREEBSD | packed(major, minor, 0),
        }
    }

    // mutants: generation: its name decides nothing
    /// As scripts write it: `linux 6.18` or `linux 6.18.15`, any release since
    /// 2.6; of FreeBSD only what the model knows.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Generation> {
        let known = Self::ALL.iter().find(|(n, _)| *n == name);
        if let Some((_, generation)) = known {
            return Some(*generation);
        }
        let mut numbers = name.strip_prefix("linux ")?.split('.').map(str::parse);
        let mut next = || numbers.next();
        let (major, minor) = (next()?.ok()?, next()?.ok()?);
        let patch = match next() {
            Some(patch) => patch.ok()?,
            None => LAST,
        };
        let is = Generation::linux(major, minor, patch);
        (next().is_none() && (major, minor) >= (2, 6)).then_some(is)
    }

    // mutants: generation: the running kernel is of one
    /// The Linux release that uname(2) and `/proc/sys/kernel/osrelease` tell of
    /// (`6.12.48-amd64`). A distribution that counts its own builds leaves the
    /// third number at 0 (`6.1.0-37-amd64`): that is taken for the last one. What
    /// is not understood counts as 6.1.
    #[must_use]
    pub fn of_release(release: &str) -> Generation {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|n| n.parse().unwrap_or(0u16));
        let mut next = || numbers.next().unwrap_or(0);
        let (major, minor, patch) = (next(), next(), next());
        let counts_builds = || {
            let mut parts = release.splitn(2, '-');
            let (_, build) = (parts.next(), parts.next().unwrap_or(""));
            patch == 0 && !build.is_empty() && !build.starts_with("rc")
        };
        match (major, minor) {
            (0..=1, _) => Generation::Linux6_1,
            _ if counts_builds() => Generation::linux(major, minor, LAST),
            _ => Generation::linux(major, minor, patch),
        }
    }

    /// Is it a FreeBSD?
    #[must_use]
    pub const fn is_freebsd(self) -> bool {
        self.packed & FREEBSD != 0
    }

    /// The three numbers of the release.
    fn release(self) -> [u16; 3] {
        [32, 16, 0].map(|at| (self.packed >> at) as u16)
    }

    /// Has this Linux what came with `major.minor`?
    #[inline]
    #[must_use]
    pub const fn since(self, major: u16, minor: u16) -> bool {
        self.packed & !FREEBSD >= packed(major, minor, 0)
    }

    /// Has it what came with `major.minor`, and what these stable releases, and
    /// those that follow them, took over?
    #[inline]
    #[must_use]
    pub fn taken_over(self, major: u16, minor: u16, stable: &[[u16; 3]]) -> bool {
        self.since(major, minor)
            || stable.iter().any(|&[x, y, first]| {
                let last = packed(x, y, LAST);
                (packed(x, y, first)..=last).contains(&(self.packed & !FREEBSD))
            })
    }
}

impl fmt::Display for Generation {
    // mutants: generation: its name decides nothing
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = Self::ALL.iter().find(|(_, g)| g == self) {
            return f.write_str(name);
        }
        let [major, minor, patch] = self.release();
        let system = if self.is_freebsd() {
            "freebsd"
        } else {
            "linux"
        };
        write!(f, "{system} {major}.{minor}")?;
        match patch {
            LAST => Ok(()),
            _ if self.is_freebsd() => Ok(()),
            patch => write!(f, ".{patch}"),
        }
    }
}

/// An IPv4 address of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct V4 {
    /// The address.
    pub addr: u32,
    /// Its prefix length.
    pub prefix: u8,
    /// The device's index.
    pub dev: u32,
}

impl V4 {
    /// Is this in the network of the address?
    #[must_use]
    pub fn holds(&self, addr: u32) -> bool {
        (addr ^ self.addr) & mask4(self.prefix) == 0
    }
}

/// The mask of a prefix length of IPv4.
#[must_use]
pub fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// An IPv6 address of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct V6 {
    /// The address.
    pub addr: [u8; 16],
    /// The device's index.
    pub dev: u32,
    /// Duplicate address detection has not ended.
    pub tentative: bool,
}

/// A network device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name, zero-padded.
    pub name: [u8; 16],
    /// `IFF_LOOPBACK`
    pub loopback: bool,
}

impl Device {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        of_name(&self.name)
    }
}

fn of_name(name: &[u8; 16]) -> &str {
    let name = name.split(|b| *b == 0).next().unwrap_or(&[]);
    core::str::from_utf8(name).unwrap_or("")
}

/// The name of a device, which need not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceName([u8; 16]);

impl DeviceName {
    /// A name of at most 15 bytes; what is longer is cut, as the kernel does it.
    #[must_use]
    pub fn new(name: &str) -> DeviceName {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        DeviceName(bytes)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        of_name(&self.0)
    }
}

/// A FreeBSD jail that shares the host's network stack (not vnet) and has
/// addresses of its own: jail(8), `ip4.addr`, `ip6.addr`.
#[derive(Clone, Copy, Debug)]
pub struct Jail {
    /// Its IPv4 addresses, at most 4; a jail without any has no IPv4.
    pub v4: List<u32, 4>,
    /// Its IPv6 addresses, at most 4; a jail without any has no IPv6.
    pub v6: List<[u8; 16], 4>,
}

impl Jail {
    /// A jail without addresses.
    pub const EMPTY: Jail = Jail {
        v4: List::new(0),
        v6: List::new([0; 16]),
    };
}

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cred {
    /// File-system user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// `CAP_NET_BIND_SERVICE` in the user namespace that owns the network.
    pub net_bind_service: bool,
    /// `CAP_NET_RAW` there.
    pub net_raw: bool,
    /// `CAP_NET_ADMIN` there.
    pub net_admin: bool,
    /// `CAP_NET_BIND_SERVICE` in the initial user namespace (vsock).
    pub init_net_bind_service: bool,
    /// `CAP_AUDIT_READ` there (netlink).
    pub init_audit_read: bool,
    /// Process id, for netlink.
    pub tgid: u32,
    /// FreeBSD: the jail, as its place among [`Host::jails`] counted from 1; 0
    /// for none. Linux's rules take no notice.
    pub jail: u32,
    /// FreeBSD: it is in capability mode (capsicum(4)).
    pub capability_mode: bool,
}

impl Cred {
    /// Root with every capability.
    pub const ROOT: Cred = Cred {
        uid: 0,
        gid: 0,
        net_bind_service: true,
        net_raw: true,
        net_admin: true,
        init_net_bind_service: true,
        init_audit_read: true,
        tgid: 1,
        jail: 0,
        capability_mode: false,
    };

    /// A user without any capability.
    #[must_use]
    pub const fn user(uid: u32) -> Cred {
        Cred {
            uid,
            gid: uid,
            net_bind_service: false,
            net_raw: false,
            net_admin: false,
            init_net_bind_service: false,
            init_audit_read: false,
            tgid: 1,
            jail: 0,
            capability_mode: false,
        }
    }
}

/// Where packets to other hosts go: an entry of the main table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The network; IPv4 mapped.
    pub net: [u8; 16],
    /// Its length, of 128 bits.
    pub prefix: u8,
    /// The device's index.
    pub dev: u32,
    /// The preferred source; all zero for none.
    pub src: [u8; 16],
}

impl Route {
    /// Of the network that an IPv4 address of a device is in.
    #[must_use]
    pub fn connected(a: &V4) -> Route {
        Route {
            net: mapped(a.addr),
            prefix: a.prefix.min(32) + 96,
            dev: a.dev,
            src: mapped(a.addr),
        }
    }

    /// Of the network that an IPv6 address of a device is in.
    #[must_use]
    pub fn connected6(a: &V6, prefix: u8) -> Route {
        Route {
            net: a.addr,
            prefix,
            dev: a.dev,
            src: [0; 16],
        }
    }

    fn leads_to(&self, addr: &[u8; 16]) -> bool {
        let mask = u128::MAX
            .checked_shl(128 - u32::from(self.prefix))
            .unwrap_or(0);
        let differs = u128::from_be_bytes(*addr) ^ u128::from_be_bytes(self.net);
        differs & mask == 0
    }
}

/// What the local table has for an IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fib {
    /// Local or broadcast.
    pub kind: AddrType,
    /// The device whose address it is; 0 where that is not known.
    pub dev: u32,
    /// The address that makes it so.
    pub src: u32,
}

/// The settings of `/proc/sys/net` that decide binds.
#[derive(Clone, Copy, Debug)]
pub struct Sysctls {
    /// `net.ipv4.ip_local_port_range`
    pub local_port_range: (u16, u16),
    /// `net.ipv4.ip_local_reserved_ports`, as ranges.
    pub reserved_ports: List<(u16, u16), 32>,
    /// `net.ipv4.ip_unprivileged_port_start`
    pub unprivileged_start: u16,
    /// `net.ipv4.ip_nonlocal_bind`
    pub nonlocal_bind: bool,
    /// `net.ipv6.ip_nonlocal_bind`
    pub nonlocal_bind6: bool,
    /// `net.ipv4.ip_autobind_reuse`
    pub autobind_reuse: bool,
    /// `net.ipv6.bindv6only`
    pub bindv6only: bool,
    /// `net.ipv4.ping_group_range`
    pub ping_groups: (u32, u32),
    /// FreeBSD's `net.fibs`: how many routing tables there are.
    pub fibs: u32,
    /// FreeBSD's `net.inet.ip.portrange.hifirst` and `hilast`.
    pub high_ports: (u16, u16),
    /// FreeBSD's `net.inet.ip.portrange.lowfirst` and `lowlast`.
    pub low_ports: (u16, u16),
    /// FreeBSD's `net.inet.ip.portrange.reservedlow`: no port below it is
    /// reserved.
    pub reserved_low: u16,
}

impl Sysctls {
    /// The values of a fresh network namespace.
    pub const DEFAULT: Sysctls = Sysctls {
        local_port_range: (32768, 60999),
        reserved_ports: List::new((0, 0)),
        unprivileged_start: 1024,
        nonlocal_bind: false,
        nonlocal_bind6: false,
        autobind_reuse: false,
        bindv6only: false,
        ping_groups: (1, 0),
        fibs: 1,
        high_ports: (49152, 65535),
        low_ports: (1023, 600),
        reserved_low: 0,
    };

    /// FreeBSD's `net.inet.ip.portrange.first` and `last`: Linux's default range
    /// counts as none given.
    #[must_use]
    pub fn first_and_last(&self) -> (u16, u16) {
        match self.local_port_range {
            given if given == Sysctls::DEFAULT.local_port_range => (10000, 65535),
            given => given,
        }
    }

    /// `inet_is_local_reserved_port`
    #[must_use]
    pub fn is_reserved(&self, port: u16) -> bool {
        self.reserved_ports
            .as_slice()
            .iter()
            .any(|&(lo, hi)| lo <= port && port <= hi)
    }

    /// The last port of the reserved range that this one is in.
    #[must_use]
    pub fn reserved_until(&self, port: u16) -> Option<u16> {
        self.reserved_ports
            .as_slice()
            .iter()
            .find(|&&(lo, hi)| lo <= port && port <= hi)
            .map(|&(_, hi)| hi)
    }
}

/// What vsock has here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VsockHost {
    /// The guest's own CID, if a guest transport is loaded.
    pub cid: Option<u32>,
    /// `vhost_vsock`: `VMADDR_CID_HOST` can be bound.
    pub host: bool,
    /// `vsock_loopback`: `VMADDR_CID_LOCAL` can be bound.
    pub local: bool,
    /// VMCI: datagram sockets exist.
    pub datagram: bool,
}

/// The host: what it is called, what it has, how it is set.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The kernel.
    pub generation: Generation,
    /// IPv4 addresses, at most 32.
    pub v4: List<V4, 32>,
    /// IPv6 addresses, at most 32.
    pub v6: List<V6, 32>,
    /// Devices, at most 16.
    pub devices: List<Device, 16>,
    /// Where packets to other hosts go, at most 16 ways …
    pub routes: List<Route, 16>,
    /// … if that is known at all.
    pub has_routes: bool,
    /// The kernel was built with IPv6, or has loaded it.
    pub has_ipv6: bool,
    /// False for a namespace that has never had an IPv4 address: it has no
    /// local table, and every address counts as broadcast.
    pub has_local_table: bool,
    /// `lo` is down: its addresses can be bound (IPv4's stay), and what a
    /// connection sends there gets lost.
    pub lo_is_down: bool,
    /// FreeBSD: the callers are in capability mode.
    pub capability_mode: bool,
    /// FreeBSD: jails, at most 8.
    pub jails: List<Jail, 8>,
    /// Sysctls.
    pub sysctl: Sysctls,
    /// vsock.
    pub vsock: VsockHost,
    /// Which netlink protocols there are, or can be loaded: bit N for protocol N.
    pub netlink: u32,
}

/// What the IPv4 routing table says an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum AddrType {
    Unicast,
    Local,
    Broadcast,
    Multicast,
}

impl Host {
    /// A host without devices.
    pub const EMPTY: Host = Host {
        generation: Generation::Linux6_18,
        v4: List::new(V4 {
            addr: 0,
            prefix: 0,
            dev: 0,
        }),
        v6: List::new(V6 {
            addr: [0; 16],
            dev: 0,
            tentative: false,
        }),
        devices: List::new(Device {
            index: 0,
            name: [0; 16],
            loopback: false,
        }),
        routes: List::new(Route {
            net: [0; 16],
            prefix: 0,
            dev: 0,
            src: [0; 16],
        }),
        has_routes: false,
        has_ipv6: true,
        has_local_table: false,
        lo_is_down: false,
        capability_mode: false,
        jails: List::new(Jail::EMPTY),
        sysctl: Sysctls::DEFAULT,
        vsock: VsockHost {
            cid: None,
            host: false,
            local: false,
            datagram: false,
        },
        netlink: Host::NETLINK,
    };

    /// The netlink protocols of a usual kernel before it has loaded a module:
    /// ROUTE, USERSOCK, SOCK_DIAG, XFRM, SELINUX, AUDIT, FIB_LOOKUP, CONNECTOR,
    /// NETFILTER, KOBJECT_UEVENT and GENERIC.
    pub const NETLINK: u32 = 0x0001_9ed5;

    /// A host with `lo` up and nothing else: a fresh network namespace.
    #[must_use]
    pub fn loopback(generation: Generation) -> Host {
        let mut host = Host {
            generation,
            has_routes: true,
            has_local_table: true,
            ..Host::EMPTY
        };
        host.add_device(1, b"lo", true);
        host.v4.push(V4 {
            addr: 0x7f00_0001,
            prefix: 8,
            dev: 1,
        });
        let mut one = [0; 16];
        one[15] = 1;
        host.v6.push(V6 {
            addr: one,
            dev: 1,
            tentative: false,
        });
        host
    }

    /// Adds a device; false if there is no room.
    pub fn add_device(&mut self, index: u32, name: &[u8], loopback: bool) -> bool {
        let mut device = Device {
            index,
            name: [0; 16],
            loopback,
        };
        for (to, from) in device.name.iter_mut().zip(name) {
            *to = *from;
        }
        self.devices.push(device)
    }

    /// The index of the device with this name (`dev_get_by_name`).
    #[must_use]
    pub fn device_named(&self, name: &[u8]) -> Option<u32> {
        let mut devices = self.devices.as_slice().iter();
        devices
            .find(|d| d.name().as_bytes() == name)
            .map(|d| d.index)
    }

    /// Is there a device with this index (`dev_get_by_index`)?
    #[must_use]
    pub fn has_device(&self, index: u32) -> bool {
        self.devices.as_slice().iter().any(|d| d.index == index)
    }

    /// `inet_addr_type_table`: devices do not matter to IPv4 addresses.
    #[must_use]
    pub fn addr_type(&self, addr: u32) -> AddrType {
        // mutants: generation: until 5.3
        let zeronet = if quirks::zero_network_is_broadcast(self.generation) {
            addr >> 24 == 0
        } else {
            addr == 0
        };
        if zeronet || addr == u32::MAX {
            return AddrType::Broadcast;
        }
        if addr >> 28 == 0xe {
            return AddrType::Multicast;
        }
        if !self.has_local_table {
            return AddrType::Broadcast;
        }
        self.local_table(addr, 0)
            .map_or(AddrType::Unicast, |found| found.kind)
    }

    /// The local table's entry for an IPv4 address (`fib_table_lookup`): of
    /// `dev` only, if that is not 0.
    #[must_use]
    pub fn local_table(&self, addr: u32, dev: u32) -> Option<Fib> {
        let mut best = (0, None);
        for a in self.v4.as_slice() {
            if !a.holds(addr) {
                continue;
            }
            let mask = mask4(a.prefix);
            // mutants: generation: until 5.14
            let lowest =
                |host: u32| host == 0 && quirks::lowest_address_is_broadcast(self.generation);
            let found = if addr == a.addr {
                Some((32, AddrType::Local))
            } else if a.prefix < 31 && (addr == a.addr | !mask || lowest(addr & !mask)) {
                Some((32, AddrType::Broadcast))
            } else if self.is_loopback(a.dev) {
                Some((a.prefix, AddrType::Local))
            } else {
                None
            };
            if let Some((prefix, kind)) = found
                && prefix > best.0
                && (dev == 0 || dev == a.dev)
            {
                let (dev, src) = (a.dev, a.addr);
                best = (prefix, Some(Fib { kind, dev, src }));
                // mutants: faster: none is longer, and no route of the main table
                if prefix == 32 {
                    return best.1;
                }
            }
        }
        best.1.filter(|_| !self.is_hidden(addr, best.0, dev))
    }

    /// Does a route of the main table lead to an address of a local network, by a
    /// longer prefix? Since 4.1 the two tables are one for the kernel
    /// (0ddcf43d5d4a, "ipv4: FIB Local/MAIN table collapse") until somebody makes
    /// an `ip rule`, which a host of the model does not have.
    fn is_hidden(&self, addr: u32, prefix: u8, dev: u32) -> bool {
        // mutants: generation: since 4.1
        prefix < 32
            // mutants: faster: nothing hides it
            && !self.routes.as_slice().is_empty()
            && !self.generation.is_freebsd()
            && quirks::local_and_main_are_one(self.generation)
            && self.routes.as_slice().iter().any(|r| {
                r.prefix > 96 + prefix && r.leads_to(&mapped(addr)) && (dev == 0 || dev == r.dev)
            })
    }

    /// Is this device a loopback one?
    #[must_use]
    pub fn is_loopback(&self, dev: u32) -> bool {
        let mut devices = self.devices.as_slice().iter();
        devices.any(|d| d.index == dev && d.loopback)
    }

    /// The main table's entry for another host's address, IPv4 mapped: of `dev`
    /// only, if that is not 0.
    #[must_use]
    pub fn main_table(&self, addr: &[u8; 16], dev: u32) -> Option<&Route> {
        let mut best: Option<&Route> = None;
        for r in self.routes.as_slice() {
            // The first of equally good ones stays.
            if r.leads_to(addr)
                && (dev == 0 || dev == r.dev)
                && best.is_none_or(|b| b.prefix < r.prefix)
            {
                best = Some(r);
            }
        }
        best
    }

    /// `ipv6_chk_addr`: is it an address of the host? Of `dev`, if that is not
    /// 0 and the address is of link or host scope.
    #[must_use]
    pub fn has_v6(&self, addr: &[u8; 16], dev: u32) -> bool {
        let local = (addr[0] == 0xfe && addr[1] & 0xc0 == 0x80) || u128::from_be_bytes(*addr) == 1;
        self.v6
            .as_slice()
            .iter()
            .any(|a| a.addr == *addr && !a.tentative && (dev == 0 || !local || a.dev == dev))
    }
}
