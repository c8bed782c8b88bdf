//! The namespace that sequences run in, and the same as the model's host.

use std::io;
use std::sync::OnceLock;

use bindgate_core::model::host::{Route, V4, V6, VsockHost};
use bindgate_core::model::script::Change;
use bindgate_core::model::{Generation, Host};

use crate::diag::Diag;
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

/// `fd00::1`, an address of the bridge.
pub const BRIDGE6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// `fe80::1`, a link-local one.
pub const LINK6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

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

    /// Empties the directory of Unix paths: a subdirectory, one that nobody
    /// but root may enter, a loop of links, a link to where a socket may be.
    pub fn sweep(&self) -> io::Result<()> {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = dir();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if std::fs::remove_file(&path).is_err() {
                std::fs::remove_dir_all(&path)?;
            }
        }
        std::fs::create_dir(format!("{dir}/sub"))?;
        std::fs::create_dir(format!("{dir}/ro"))?;
        std::fs::create_dir(format!("{dir}/shut"))?;
        symlink("loop", format!("{dir}/loop"))?;
        symlink("c", format!("{dir}/link"))?;
        let mode = |name: &str, mode: u32| {
            std::fs::set_permissions(format!("{dir}{name}"), PermissionsExt::from_mode(mode))
        };
        mode("", 0o777)?;
        mode("/ro", 0o755)?;
        mode("/shut", 0o700)
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

/// The sysctls that a sequence runs under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sysctls {
    pub range: (u16, u16),
    pub reserved: Option<(u16, u16)>,
    pub nonlocal: bool,
    pub nonlocal6: bool,
    pub autobind_reuse: bool,
    pub bindv6only: bool,
    pub unprivileged: u16,
    pub ping_groups: (u32, u32),
}

impl Sysctls {
    pub const DEFAULT: Sysctls = Sysctls {
        range: (32768, 60999),
        reserved: None,
        nonlocal: false,
        nonlocal6: false,
        autobind_reuse: false,
        bindv6only: false,
        unprivileged: 1024,
        ping_groups: (0, 1001),
    };

    /// As a script writes them, those that differ from the default.
    pub fn lines(&self) -> Vec<Change> {
        let d = Sysctls::DEFAULT;
        let mut lines = Vec::new();
        let mut say = |differs: bool, name: &str, value: String| {
            if differs {
                lines.push(Change::sysctl(name, &value));
            }
        };
        say(
            self.range != d.range,
            "net.ipv4.ip_local_port_range",
            format!("{} {}", self.range.0, self.range.1),
        );
        say(
            self.reserved.is_some(),
            "net.ipv4.ip_local_reserved_ports",
            self.reserved
                .map_or(String::new(), |(a, b)| format!("{a}-{b}")),
        );
        let one = || "1".to_owned();
        say(self.nonlocal, "net.ipv4.ip_nonlocal_bind", one());
        say(self.nonlocal6, "net.ipv6.ip_nonlocal_bind", one());
        say(self.autobind_reuse, "net.ipv4.ip_autobind_reuse", one());
        say(self.bindv6only, "net.ipv6.bindv6only", one());
        say(
            self.unprivileged != d.unprivileged,
            "net.ipv4.ip_unprivileged_port_start",
            self.unprivileged.to_string(),
        );
        // Not the default of a kernel: every script says it.
        let (lo, hi) = self.ping_groups;
        say(true, "net.ipv4.ping_group_range", format!("{lo} {hi}"));
        lines
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(dir());
    }
}
