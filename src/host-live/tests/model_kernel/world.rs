//! The namespace that sequences run in, and the same as the model's host.

use std::io;
use std::sync::OnceLock;

use bindgate_core::model::host::{Route, V4, V6, VsockHost};
use bindgate_core::model::{Generation, Host};

use bindgate_host_live::diag::Diag;
use bindgate_host_live::draw::{BRIDGE6, LINK6, Place, Sysctls};

use crate::kernel;

/// A namespace with `lo`, and a bridge `br0` with addresses of its own.
pub struct World {
    /// As the model sees it; sysctls as they were set last.
    pub host: Host,
    /// The index of `br0`.
    pub bridge: u32,
    /// What the kernel has here.
    pub diag: Diag,
    /// Connections by AF_VSOCK come back to this kernel: a guest that has no
    /// other transport than vsock_loopback.
    pub vsock_loopback: bool,
    /// Somebody else may have changed the sysctls.
    pub unsure: bool,
}

/// Where sequences bind Unix paths: a directory of this process.
pub fn dir() -> &'static str {
    static DIR: OnceLock<String> = OnceLock::new();
    DIR.get_or_init(|| format!("/tmp/bindgate-model-{}", std::process::id()))
}

fn sysctl(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)
}

/// Sets one that older kernels do not have.
fn newer_sysctl(name: &str, value: &str) -> io::Result<()> {
    match sysctl(name, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl World {
    /// Makes one and moves this thread into it. The model's rules are those of
    /// `generation`.
    pub fn new(generation: Generation) -> io::Result<World> {
        World::with(generation, kernel::vsock_host())
    }

    fn with(generation: Generation, vsock: VsockHost) -> io::Result<World> {
        kernel::enter_namespace()?;
        // A small table of connections of its own is dumped faster. What it
        // is set to counts for the namespaces made below this one. Since 6.1.
        newer_sysctl("net.ipv4.tcp_child_ehash_entries", "64")?;
        // The UDP table is shared with other namespaces otherwise: how many
        // sockets a slot has, which decides how conflicts are looked for, would
        // be theirs, too. As large as the model takes it to be. Since 6.2; an older
        // kernel has to be started with uhash_entries=16384.
        newer_sysctl("net.ipv4.udp_child_hash_entries", "16384")?;
        kernel::enter_namespace()?;
        kernel::add_bridge("br0")?;
        let bridge = kernel::device_index("br0")?;
        for name in ["all", "default", "br0"] {
            sysctl(&format!("net.ipv6.conf.{name}.accept_dad"), "0")?;
        }
        // No link-local address of the kernel's choice.
        sysctl("net.ipv6.conf.br0.addr_gen_mode", "1")?;
        kernel::device_addr("br0", [10, 1, 1, 1], [255, 255, 255, 0])?;
        kernel::device_up_without_arp("br0")?;
        kernel::device_addr6(bridge, BRIDGE6, 64)?;
        kernel::device_addr6(bridge, LINK6, 64)?;
        // A port in TIME_WAIT is not used again for connections, not after a
        // second either.
        sysctl("net.ipv4.tcp_tw_reuse", "0")?;
        // Nobody but the tests may hold a privileged port or a ping socket.
        sysctl("net.ipv4.ping_group_range", "0 1001")?;
        let mut host = Host::loopback(generation);
        host.sysctl.ping_groups = Sysctls::DEFAULT.ping_groups;
        host.add_device(bridge, b"br0", false);
        let four = V4 {
            addr: 0x0a01_0101,
            prefix: 24,
            dev: bridge,
        };
        host.v4.push(four);
        host.routes.push(Route::connected(&four));
        host.v6.clear();
        // Addresses become usable a little later: wait for that.
        let table = loop {
            let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
            let tentative = table.lines().any(|line| {
                let flags = line.split_whitespace().nth(4).unwrap_or("0");
                u32::from_str_radix(flags, 16).unwrap_or(0) & 0x40 != 0
            });
            if !tentative && table.lines().count() >= 3 {
                break table;
            }
            std::thread::yield_now();
        };
        for line in table.lines() {
            let mut words = line.split_whitespace();
            let hex = words.next().unwrap_or("");
            let dev = words.next().unwrap_or("0");
            let flags = words.nth(2).unwrap_or("0");
            let n = u128::from_str_radix(hex, 16).unwrap_or(0);
            let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
            let six = V6 {
                addr: n.to_be_bytes(),
                dev: u32::from_str_radix(dev, 16).unwrap_or(0),
                tentative: flags & 0x40 != 0,
            };
            host.v6.push(six);
            if six.addr == BRIDGE6 {
                host.routes.push(Route::connected6(&six, 64));
            }
        }
        host.vsock = vsock;
        host.netlink = kernel::netlink_protocols();
        std::fs::create_dir_all(dir())?;
        let diag = Diag::new()?;
        Ok(World {
            host,
            bridge,
            diag,
            vsock_loopback: false,
            unsure: false,
        })
    }

    /// Moves to another one like it: what is in TIME_WAIT here stays for its
    /// minute.
    pub fn renew(&mut self) -> io::Result<()> {
        let other = World::with(self.host.generation, self.host.vsock)?;
        // The old one takes the directory with it.
        drop(std::mem::replace(self, other));
        std::fs::create_dir_all(dir())
    }

    /// What sequences are drawn for.
    pub fn place(&self) -> Place<'_> {
        Place {
            host: &self.host,
            bridge: self.bridge,
            vsock_loopback: self.vsock_loopback,
            dir: dir(),
        }
    }

    /// Sets the sysctls that sequences vary, in the kernel and in the host.
    pub fn set_sysctls(&mut self, wanted: &Sysctls) -> io::Result<()> {
        let unsure = std::mem::take(&mut self.unsure);
        let s = &mut self.host.sysctl;
        if unsure || s.local_port_range != wanted.range {
            sysctl(
                "net.ipv4.ip_local_port_range",
                &format!("{} {}", wanted.range.0, wanted.range.1),
            )?;
            s.local_port_range = wanted.range;
        }
        let reserved: Vec<_> = wanted.reserved.into_iter().collect();
        if unsure || s.reserved_ports.as_slice() != reserved {
            let text = wanted
                .reserved
                .map_or(String::from("\n"), |(a, b)| format!("{a}-{b}"));
            sysctl("net.ipv4.ip_local_reserved_ports", &text)?;
            s.reserved_ports.clear();
            for r in reserved {
                s.reserved_ports.push(r);
            }
        }
        let flags = [
            (
                &mut s.nonlocal_bind,
                wanted.nonlocal,
                "net.ipv4.ip_nonlocal_bind",
            ),
            (
                &mut s.nonlocal_bind6,
                wanted.nonlocal6,
                "net.ipv6.ip_nonlocal_bind",
            ),
            (
                &mut s.autobind_reuse,
                wanted.autobind_reuse,
                "net.ipv4.ip_autobind_reuse",
            ),
            (&mut s.bindv6only, wanted.bindv6only, "net.ipv6.bindv6only"),
        ];
        for (now, wanted, name) in flags {
            if unsure || *now != wanted {
                sysctl(name, if wanted { "1" } else { "0" })?;
                *now = wanted;
            }
        }
        if unsure || s.ping_groups != wanted.ping_groups {
            let (lo, hi) = wanted.ping_groups;
            sysctl("net.ipv4.ping_group_range", &format!("{lo} {hi}"))?;
            s.ping_groups = wanted.ping_groups;
        }
        if unsure || s.unprivileged_start != wanted.unprivileged {
            sysctl(
                "net.ipv4.ip_unprivileged_port_start",
                &wanted.unprivileged.to_string(),
            )?;
            s.unprivileged_start = wanted.unprivileged;
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(dir());
    }
}
