//! The network namespace that scripts run in, its devices and addresses.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use bindgate_core::model::Host;
use bindgate_core::model::host::mask4;
use bindgate_core::model::script::{Change, Setting};
use bindgate_core::policy::HostSetting;

/// Moves this thread into a new network namespace, in a new user namespace if
/// it has no right to one otherwise, and brings `lo` up there. Is it in a new
/// user namespace?
pub fn enter_namespace() -> io::Result<bool> {
    let in_user = enter_bare_namespace()?;
    device_up("lo").map(|()| in_user)
}

/// The same, where `lo` has never been up.
pub fn enter_bare_namespace() -> io::Result<bool> {
    let mut in_user = false;
    // SAFETY: no memory is passed.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
        // SAFETY: no memory is passed.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        // SAFETY: as above.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) } < 0 {
            return Err(io::Error::last_os_error());
        }
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
        in_user = true;
    }
    Ok(in_user)
}

fn with_ifreq(
    name: &str,
    fill: impl FnOnce(&mut libc::ifreq),
    request: u64,
) -> io::Result<libc::ifreq> {
    // SAFETY: an all-zero ifreq is valid.
    let mut ifr: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in ifr.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    fill(&mut ifr);
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `ifr` lives as long as the call, which reads and writes an ifreq.
    let ret = unsafe { libc::ioctl(fd, request as _, &raw mut ifr) };
    let error = io::Error::last_os_error();
    // SAFETY: `fd` is ours.
    unsafe { libc::close(fd) };
    if ret < 0 { Err(error) } else { Ok(ifr) }
}

/// Brings a device up.
pub fn device_up(name: &str) -> io::Result<()> {
    with_ifreq(
        name,
        |ifr| ifr.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16,
        u64::from(libc::SIOCSIFFLAGS as u32),
    )
    .map(drop)
}

/// Brings a device up that asks nobody for addresses: what is sent there is lost
/// and nobody hears so.
pub fn device_up_without_arp(name: &str) -> io::Result<()> {
    with_ifreq(
        name,
        |ifr| {
            let flags = libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_NOARP;
            ifr.ifr_ifru.ifru_flags = flags as i16;
        },
        u64::from(libc::SIOCSIFFLAGS as u32),
    )
    .map(drop)
}

/// Takes a device down.
fn device_down(name: &str) -> io::Result<()> {
    let down = |ifr: &mut libc::ifreq| ifr.ifr_ifru.ifru_flags = 0;
    with_ifreq(name, down, u64::from(libc::SIOCSIFFLAGS as u32)).map(drop)
}

/// Gives a device an IPv4 address and a mask.
pub fn device_addr(name: &str, addr: [u8; 4], mask: [u8; 4]) -> io::Result<()> {
    set_ipv4(name, addr, libc::SIOCSIFADDR)?;
    set_ipv4(name, mask, libc::SIOCSIFNETMASK)
}

fn set_ipv4(name: &str, value: [u8; 4], request: libc::Ioctl) -> io::Result<()> {
    let fill = |ifr: &mut libc::ifreq| {
        // SAFETY: an all-zero sockaddr is valid.
        let mut sa: libc::sockaddr = unsafe { std::mem::zeroed() };
        sa.sa_family = libc::AF_INET as u16;
        for (to, from) in sa.sa_data.iter_mut().skip(2).zip(value) {
            *to = from as libc::c_char;
        }
        ifr.ifr_ifru.ifru_addr = sa;
    };
    with_ifreq(name, fill, u64::from(request as u32)).map(drop)
}

/// The index of a device.
pub fn device_index(name: &str) -> io::Result<u32> {
    let ifr = with_ifreq(name, |_| {}, u64::from(libc::SIOCGIFINDEX as u32))?;
    // SAFETY: the call filled in the index.
    Ok(unsafe { ifr.ifr_ifru.ifru_ifindex } as u32)
}

/// Makes a bridge without ports: a device that exists everywhere.
pub fn add_bridge(name: &str) -> io::Result<()> {
    let mut c_name = [0u8; 16];
    for (to, from) in c_name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: SIOCBRADDBR reads a name of at most 16 bytes.
    let ret = unsafe { libc::ioctl(fd, 0x89a0, c_name.as_ptr()) };
    let error = io::Error::last_os_error();
    // SAFETY: `fd` is ours.
    unsafe { libc::close(fd) };
    if ret < 0 { Err(error) } else { Ok(()) }
}

/// Gives a device an IPv6 address with a prefix of so many bits.
pub fn device_addr6(index: u32, addr: [u8; 16], prefix: u8) -> io::Result<()> {
    let mut request = [0u8; 24];
    request[..16].copy_from_slice(&addr);
    request[16..20].copy_from_slice(&u32::from(prefix).to_ne_bytes());
    request[20..].copy_from_slice(&index.to_ne_bytes());
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: SIOCSIFADDR on an IPv6 socket reads a struct in6_ifreq of 24 bytes.
    let ret = unsafe { libc::ioctl(fd, libc::SIOCSIFADDR as _, request.as_ptr()) };
    let error = io::Error::last_os_error();
    // SAFETY: `fd` is ours.
    unsafe { libc::close(fd) };
    if ret < 0 { Err(error) } else { Ok(()) }
}

/// A network namespace, to be entered again.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// The one that this thread is in.
    pub fn here() -> io::Result<Namespace> {
        File::open("/proc/thread-self/ns/net").map(Namespace)
    }

    /// A new one, where this thread is from now on, with `lo` up or never up.
    pub fn new(lo: bool) -> io::Result<Namespace> {
        // SAFETY: no memory is passed.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            return Err(io::Error::last_os_error());
        }
        if lo {
            device_up("lo")?;
        }
        Namespace::here()
    }

    /// That of a process.
    pub fn of(pid: u32) -> io::Result<Namespace> {
        File::open(format!("/proc/{pid}/ns/net")).map(Namespace)
    }

    /// Takes this thread there.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: no memory is passed.
        let ret = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
        if ret < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Gives the network namespace that this thread is in what a line of a script
/// says; `host` is what it is afterwards.
pub fn change(change: &Change, host: &Host) -> io::Result<()> {
    let set = |name: &str, value: &str| {
        std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)
    };
    match &change.what {
        Setting::Sysctl(name, value) => set(name, value),
        Setting::Lo(true) => device_up("lo"),
        Setting::Lo(false) => device_down("lo"),
        Setting::Device(name, addresses) => add_addresses(name, addresses, Some(host)),
        Setting::Host(settings) => settings.iter().try_for_each(|setting| match setting {
            HostSetting::Addresses(list) => {
                let first = host.devices.as_slice().iter().find(|d| !d.loopback);
                add_addresses(first.map_or("eth0", |d| d.name()), list, Some(host))
            }
            HostSetting::UnprivilegedStart(n) => {
                set("net.ipv4.ip_unprivileged_port_start", &n.to_string())
            }
            HostSetting::AutomaticPorts(lo, hi) => {
                set("net.ipv4.ip_local_port_range", &format!("{lo} {hi}"))
            }
            HostSetting::Sysctl(name, value) => set(name, value),
            HostSetting::Device(name, addresses) => add_addresses(name, addresses, Some(host)),
            HostSetting::NoIpv6 => Err(io::Error::other(
                "the running kernel cannot be made one without IPv6",
            )),
            HostSetting::Cid(_)
            | HostSetting::Kernel(_)
            | HostSetting::Busy(_)
            | HostSetting::Fabric(_)
            | HostSetting::VsockUds(_)
            | HostSetting::VsockGuest(_)
            | HostSetting::VsockPort(..)
            | HostSetting::Share(_)
            | HostSetting::Lease(_)
            | HostSetting::Personality(_)
            | HostSetting::Privileged(_) => Ok(()),
        }),
        Setting::File(_) => Err(io::Error::other(
            "with --kernel the file system is the machine's own",
        )),
        Setting::Kernel(_) | Setting::LoNeverUp | Setting::Declared => Ok(()),
    }
}

/// Gives the network namespace that this process is in what these lines say of its
/// addresses and settings.
///
/// # Errors
/// With what could not be had.
pub fn furnish<'a>(
    settings: impl IntoIterator<Item = &'a HostSetting>,
) -> Result<(), (String, io::Error)> {
    let set = |name: &str, value: &str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(path, value).map_err(|e| (format!("sysctl {name}"), e))
    };
    let mut first = None;
    for setting in settings {
        match setting {
            HostSetting::Addresses(list) => {
                let name = first.get_or_insert("eth0".to_owned());
                has_addresses(name, list)?;
            }
            HostSetting::Device(name, list) => {
                first.get_or_insert(name.clone());
                has_addresses(name, list)?;
            }
            HostSetting::UnprivilegedStart(n) => {
                set("net.ipv4.ip_unprivileged_port_start", &n.to_string())?;
            }
            HostSetting::AutomaticPorts(lo, hi) => {
                set("net.ipv4.ip_local_port_range", &format!("{lo} {hi}"))?;
            }
            HostSetting::Sysctl(name, value) => set(name, value)?,
            _ => {}
        }
    }
    Ok(())
}

/// The device has these addresses; those of a machine that cannot make devices are
/// added to `lo`, one by one.
fn has_addresses(name: &str, list: &[(IpAddr, u8)]) -> Result<(), (String, io::Error)> {
    let done = match device_index(name).is_ok() || add_device(name, false).is_ok() {
        true => add_addresses(name, list, None),
        false => {
            let alone = list
                .iter()
                .map(|(ip, _)| (*ip, if ip.is_ipv4() { 32 } else { 128 }));
            add_addresses("lo", &alone.collect::<Vec<_>>(), None)
        }
    };
    done.map_err(|e| (format!("the addresses of {name}"), e))
}

/// Makes a device that has no other end, with a link-local address or without.
fn add_device(name: &str, has_link_local: bool) -> io::Result<()> {
    add_bridge(name)?;
    if !has_link_local {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/addr_gen_mode");
        let _ = std::fs::write(path, "1");
    }
    for of in ["all", name] {
        let path = format!("/proc/sys/net/ipv6/conf/{of}/accept_dad");
        // A kernel without IPv6 has none.
        let _ = std::fs::write(path, "0");
    }
    device_up(name)
}

/// A label of the device that has no IPv4 address yet: each has one.
fn free_label(name: &str) -> String {
    let has_address = |label: &String| {
        let asked = with_ifreq(label, |_| {}, u64::from(libc::SIOCGIFADDR as u32));
        asked.is_ok()
    };
    let labels = (0..).map(|n| match n {
        0 => name.to_owned(),
        n => format!("{name}:{n}"),
    });
    let mut labels = labels.skip_while(has_address);
    labels.next().unwrap_or_else(|| name.to_owned())
}

/// Adds addresses to a device, which is a bridge and is made if need be. It has
/// the index that it has on `host`, if there is one to compare with.
fn add_addresses(name: &str, addresses: &[(IpAddr, u8)], host: Option<&Host>) -> io::Result<()> {
    if device_index(name).is_err() {
        add_device(name, true)?;
    }
    let index = device_index(name)?;
    if host.is_some_and(|host| host.device_named(name.as_bytes()) != Some(index)) {
        let here = format!("device {name} has the index {index} here, not the script's");
        return Err(io::Error::other(here));
    }
    for (ip, prefix) in addresses {
        match ip {
            IpAddr::V4(ip) => {
                let label = free_label(name);
                device_addr(&label, ip.octets(), mask4(*prefix).to_be_bytes())?;
                if *prefix >= 31 {
                    // inet_set_ifa gave it that of its class.
                    set_ipv4(&label, [0; 4], libc::SIOCSIFBRDADDR)?;
                }
            }
            IpAddr::V6(ip) => device_addr6(index, ip.octets(), *prefix)?,
        }
    }
    // Until duplicate address detection has ended everywhere.
    while std::fs::read_to_string("/proc/thread-self/net/if_inet6")
        .unwrap_or_default()
        .lines()
        .any(|l| {
            l.split_whitespace()
                .nth(4)
                .is_some_and(|f| f.ends_with("c0") || f == "40")
        })
    {
        std::thread::yield_now();
    }
    Ok(())
}

/// Which vsock transports the kernel has: asked by binding to their addresses.
#[allow(dead_code)]
pub fn vsock_host() -> bindgate_core::model::host::VsockHost {
    let _alone = super::vsock_lock();
    bindgate_core::model::host::VsockHost {
        cid: crate::machine::own_cid(),
        host: vsock_bound(libc::VMADDR_CID_HOST).is_some(),
        local: vsock_bound(libc::VMADDR_CID_LOCAL).is_some(),
        datagram: false,
    }
}

/// Which netlink protocols there are. Modules are loaded for it, as they are for
/// a program that asks for one.
#[allow(dead_code)]
pub fn netlink_protocols() -> u32 {
    let made = |p: &i32| bindgate_os::refused(libc::AF_NETLINK, libc::SOCK_RAW, *p).is_none();
    (0..32).filter(made).fold(0, |set, p| set | 1 << p)
}

/// Does vsock_loopback carry connections here, and nothing else? Then nobody
/// outside can be asked by one.
#[allow(dead_code)]
pub fn vsock_is_loopback_only() -> bool {
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let loaded = |name: &str| modules.lines().any(|l| l.split(' ').next() == Some(name));
    let others = [
        "vmw_vsock_virtio_transport",
        "vmw_vsock_vmci_transport",
        "hv_sock",
        "vhost_vsock",
    ];
    loaded("vsock_loopback")
        && !others.iter().any(|m| loaded(m))
        && crate::machine::own_cid().is_none()
}

/// Keeps this process, and those that it makes, on the processor where it is:
/// they take turns, and a turn costs more between processors.
pub fn stay_on_one_processor() {
    // SAFETY: no memory is passed.
    let cpu = unsafe { libc::sched_getcpu() };
    if let Ok(cpu) = usize::try_from(cpu) {
        // SAFETY: an all-zero cpu_set_t is valid; the call reads it.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
        }
    }
}

/// The automatic vsock port that a bind gets now: the counter, which the whole
/// kernel shares, is one further.
pub fn vsock_probe() -> Option<u32> {
    vsock_bound(libc::VMADDR_CID_ANY)
}

/// The automatic port at an address, where it can be bound.
fn vsock_bound(cid: u32) -> Option<u32> {
    use std::os::fd::{FromRawFd, OwnedFd};
    let ty = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, ty, 0) };
    if fd < 0 {
        return None;
    }
    // SAFETY: just made, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an all-zero sockaddr_vm is valid.
    let mut addr: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    addr.svm_family = libc::AF_VSOCK as u16;
    addr.svm_cid = cid;
    addr.svm_port = libc::VMADDR_PORT_ANY;
    let mut len = size_of_val(&addr) as libc::socklen_t;
    let at = (&raw mut addr).cast::<libc::sockaddr>();
    // SAFETY: `addr` is readable for `len` bytes.
    if unsafe { libc::bind(fd.as_raw_fd(), at, len) } < 0 {
        return None;
    }
    // SAFETY: the kernel writes at most `len` bytes to `addr`.
    let ret = unsafe { libc::getsockname(fd.as_raw_fd(), at, &raw mut len) };
    (ret == 0).then_some(addr.svm_port)
}
