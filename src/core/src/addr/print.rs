//! Addresses as text.

use core::fmt;

use super::{Addr, UnixKind, VMADDR_ANY};

/// `0.0.0.0:80`, `[::1%2]:80`, `unix:/run/x`, `unix:@name`, `vsock:any:9999`.
impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Inet { ip, port } => {
                write!(f, "{}:{port}", core::net::Ipv4Addr::from(*ip))
            }
            Addr::Inet6 {
                ip, port, scope, ..
            } => {
                let ip = core::net::Ipv6Addr::from(*ip);
                if *scope == 0 {
                    write!(f, "[{ip}]:{port}")
                } else {
                    write!(f, "[{ip}%{scope}]:{port}")
                }
            }
            Addr::Unix(name) => {
                let bytes = match (name.kind, name.bytes()) {
                    (UnixKind::Auto, _) => return f.write_str("unix:auto"),
                    (UnixKind::Abstract, bytes) => {
                        f.write_str("unix:@")?;
                        bytes
                    }
                    // A path that would read as one of the others.
                    (UnixKind::Path, [first, rest @ ..])
                        if *first == b'@' || name.bytes() == b"auto" =>
                    {
                        write!(f, "unix:\\x{first:02x}")?;
                        rest
                    }
                    (UnixKind::Path, bytes) => {
                        f.write_str("unix:")?;
                        bytes
                    }
                };
                write_bytes(f, bytes)
            }
            Addr::Vsock { cid, port, .. } => {
                match *cid {
                    VMADDR_ANY => f.write_str("vsock:any:")?,
                    cid => write!(f, "vsock:{cid}:")?,
                }
                match *port {
                    VMADDR_ANY => f.write_str("auto"),
                    port => write!(f, "{port}"),
                }
            }
            Addr::Netlink { pid, groups } => write!(f, "netlink:{pid}:{groups:#x}"),
            Addr::Packet { protocol, ifindex } => write!(f, "packet:{ifindex}:{protocol:#06x}"),
        }
    }
}

/// Writes bytes that are mostly text; what is not printable ASCII becomes `\xNN`.
///
/// # Errors
/// Those of the writer.
pub fn write_bytes(f: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    for &b in bytes {
        match b {
            b'\\' => f.write_str("\\\\")?,
            0x20..=0x7e => f.write_char(char::from(b))?,
            _ => write!(f, "\\x{b:02x}")?,
        }
    }
    Ok(())
}
