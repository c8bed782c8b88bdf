//! Where sequences run: what there is besides their sockets.

use std::io;

use bindgate_core::model::Host;
use bindgate_core::model::script::Change;

/// `fd00::1`, an address of the bridge.
pub const BRIDGE6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// `fe80::1`, a link-local one.
pub const LINK6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What sequences are drawn for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// As the model sees it.
    pub host: &'a Host,
    /// The index of a device with addresses of its own.
    pub bridge: u32,
    /// Connections by AF_VSOCK come back to this kernel.
    pub vsock_loopback: bool,
    /// Where Unix paths are bound.
    pub dir: &'a str,
}

/// Empties the directory of Unix paths: a subdirectory, one that nobody
/// but root may enter, a loop of links, a link to where a socket may be.
pub fn sweep(dir: &str) -> io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
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

/// The sysctls that a sequence runs under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sysctls {
    /// `net.ipv4.ip_local_port_range`
    pub range: (u16, u16),
    /// `net.ipv4.ip_local_reserved_ports`
    pub reserved: Option<(u16, u16)>,
    /// `net.ipv4.ip_nonlocal_bind`
    pub nonlocal: bool,
    /// `net.ipv6.ip_nonlocal_bind`
    pub nonlocal6: bool,
    /// `net.ipv4.ip_autobind_reuse`
    pub autobind_reuse: bool,
    /// `net.ipv6.bindv6only`
    pub bindv6only: bool,
    /// `net.ipv4.ip_unprivileged_port_start`
    pub unprivileged: u16,
    /// `net.ipv4.ping_group_range`
    pub ping_groups: (u32, u32),
}

impl Sysctls {
    /// Those of a sequence that has no others.
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
