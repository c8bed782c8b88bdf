//! Network namespaces: to make one and seal it, to enter one that is there, and
//! to look into one.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use bindgate_core::addr::Addr;
use bindgate_core::socket::SocketType;

use super::{check, high, own, process};

/// The port below which binds need a privilege, of the network namespace of
/// whoever opens it.
const PORT_START: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// What of a sealed network could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The user namespace, without which there is no right to the rest.
    User,
    /// The network namespace.
    Network,
    /// The user's own ids in the user namespace.
    Ids,
    /// The same of a process whose real ids are not its effective ones.
    TwoIds,
    /// The same of root without `CAP_SETFCAP`.
    RootsId,
    /// Its loopback device, brought up.
    Loopback,
    /// Ports below 1024 for everybody.
    Ports,
    /// The run's name in it.
    Door,
    /// What the policy says of the host in it.
    Host,
    /// The address of a service of the machine in it.
    Share,
}

/// Why there is none.
#[derive(Debug)]
pub struct Refused {
    /// At which step.
    pub step: Step,
    /// What the kernel answered.
    pub error: io::Error,
}

impl Refused {
    fn at(step: Step) -> impl FnOnce(io::Error) -> Refused {
        move |error| Refused { step, error }
    }
}

/// `CAP_SETFCAP`
const SETFCAP: u32 = 31;

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

fn setns(namespace: &impl AsRawFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }).map(drop)
}

/// Moves this process into a new network namespace in which only `lo` is there,
/// and up, and in which every port is anybody's (unless `/proc/sys` is
/// [read-only](are_settings_fixed)). Where it has no right to one it is in a new
/// user namespace too, as the user who it was.
///
/// # Errors
/// With what could not be made. The process is of no use then.
pub fn seal() -> Result<(), Refused> {
    let mut in_user = false;
    if let Err(error) = unshare(libc::CLONE_NEWNET) {
        if error.raw_os_error() != Some(libc::EPERM) {
            return Err(Refused::at(Step::Network)(error));
        }
        enter_user()?;
        in_user = true;
        unshare(libc::CLONE_NEWNET).map_err(Refused::at(Step::Network))?;
    }
    if let Err(error) = loopback_up() {
        if in_user || error.raw_os_error() != Some(libc::EPERM) {
            return Err(Refused::at(Step::Loopback)(error));
        }
        // With CAP_SYS_ADMIN, but without CAP_NET_ADMIN.
        enter_user()?;
        unshare(libc::CLONE_NEWNET).map_err(Refused::at(Step::Network))?;
        loopback_up().map_err(Refused::at(Step::Loopback))?;
    }
    match std::fs::write(PORT_START, "0") {
        Err(_) if are_settings_fixed() => Ok(()),
        other => other.map_err(Refused::at(Step::Ports)),
    }
}

/// Is `/proc/sys` read-only, as in most containers?
#[must_use]
pub fn are_settings_fixed() -> bool {
    // SAFETY: an all-zero `statvfs` is a value and writable; a C string.
    unsafe {
        let mut fs: libc::statvfs = std::mem::zeroed();
        libc::statvfs(c"/proc/sys/net".as_ptr(), &raw mut fs) == 0
            && fs.f_flag & libc::ST_RDONLY != 0
    }
}

/// The port below which binds need a privilege here.
#[must_use]
pub fn unprivileged_start() -> u16 {
    const DEFAULT: u16 = 1024;
    let text = std::fs::read_to_string(PORT_START).ok();
    text.and_then(|s| s.trim().parse().ok()).unwrap_or(DEFAULT)
}

/// A user namespace that knows this process's user and group, by the numbers
/// that they have here.
fn enter_user() -> Result<(), Refused> {
    // SAFETY: no memory is passed.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // In there it has every capability, and both ids are nobody's.
    let step = match uid {
        _ if process::has_two_ids() => Step::TwoIds,
        0 if !process::has_capability(SETFCAP) => Step::RootsId,
        _ => Step::Ids,
    };
    unshare(libc::CLONE_NEWUSER).map_err(Refused::at(Step::User))?;
    let maps = || {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
    };
    maps().map_err(Refused::at(step))
}

/// A socket of this type at this address, which listens if it can. `on` are the
/// options that it has before, as level and name.
///
/// # Errors
/// As socket(2), setsockopt(2), bind(2) and listen(2).
pub fn hold(kind: SocketType, addr: &[u8], on: &[(i32, i32)]) -> io::Result<OwnedFd> {
    let ty = i32::from(kind.ty) | libc::SOCK_CLOEXEC;
    // SAFETY: numbers only.
    let fd = own(unsafe { libc::socket(kind.domain.into(), ty, kind.protocol.into()) })?;
    let one = 1i32;
    for (level, name) in on {
        let len = size_of_val(&one) as u32;
        // SAFETY: an int that outlives the call, and its size.
        check(unsafe {
            libc::setsockopt(fd.as_raw_fd(), *level, *name, (&raw const one).cast(), len)
        })?;
    }
    // SAFETY: the bytes outlive the call, and that is their number.
    check(unsafe { libc::bind(fd.as_raw_fd(), addr.as_ptr().cast(), addr.len() as u32) })?;
    if kind.is_stream() {
        // SAFETY: numbers only.
        check(unsafe { libc::listen(fd.as_raw_fd(), 128) })?;
    }
    Ok(fd)
}

/// Listeners on loopback, of each family that there is, at ports of the kernel's
/// choice.
#[must_use]
pub fn listeners() -> Vec<OwnedFd> {
    let kind = |domain| SocketType::created(domain, libc::SOCK_STREAM, 0);
    let places = [
        (
            libc::AF_INET,
            Addr::Inet {
                ip: [127, 0, 0, 1],
                port: 0,
            },
        ),
        (
            libc::AF_INET6,
            Addr::inet6(std::net::Ipv6Addr::LOCALHOST.octets(), 0),
        ),
    ];
    let held = places
        .into_iter()
        .map(|(domain, at)| hold(kind(domain), at.write().bytes(), &[]));
    held.flatten().collect()
}

/// The bytes of a socket's address.
///
/// # Errors
/// As getsockname(2).
pub fn name(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 128];
    let mut len = bytes.len() as libc::socklen_t;
    // SAFETY: room for as many bytes as `len` says, which both outlive the call.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut len) })?;
    bytes.truncate(len as usize);
    Ok(bytes)
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: numbers only.
    let fd = own(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request reads an ifreq, which lives as long as the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).map(drop)
}

/// A network namespace, and the user namespace whose it is.
#[derive(Debug)]
pub struct Network {
    net: OwnedFd,
    user: OwnedFd,
}

impl Network {
    /// That of process `pid`, a number or `self`.
    ///
    /// # Errors
    /// If there is no such process, or it may not be looked at.
    pub fn of(pid: &str) -> io::Result<Network> {
        let open = |kind: &str| high(File::open(format!("/proc/{pid}/ns/{kind}"))?.into());
        Ok(Network {
            net: open("net")?,
            user: open("user")?,
        })
    }

    /// From descriptors of both.
    #[must_use]
    pub fn from_fds(net: OwnedFd, user: OwnedFd) -> Network {
        Network { net, user }
    }

    /// Descriptors of both.
    #[must_use]
    pub fn fds(&self) -> [RawFd; 2] {
        [self.net.as_raw_fd(), self.user.as_raw_fd()]
    }

    /// The inode of the network namespace, which is its name.
    #[must_use]
    pub fn inode(&self) -> u64 {
        inode(&self.net)
    }

    /// Moves this process, which must have one thread, into it.
    ///
    /// # Errors
    /// As setns(2).
    pub fn enter(&self) -> io::Result<()> {
        match setns(&self.net, libc::CLONE_NEWNET) {
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                // The right to it is in the user namespace whose it is, and whose
                // owner is this user.
                setns(&self.user, libc::CLONE_NEWUSER)?;
                setns(&self.net, libc::CLONE_NEWNET)
            }
            other => other,
        }
    }

    /// Runs `part` in it.
    ///
    /// # Errors
    /// If this process may not enter it.
    pub fn within<T: Send>(&self, part: impl FnOnce() -> T + Send) -> io::Result<T> {
        process::in_child(|| self.enter().map(|()| part()))?
    }
}

fn inode(fd: &OwnedFd) -> u64 {
    // SAFETY: borrowed for the call, and given back.
    let file = unsafe { File::from_raw_fd(fd.as_raw_fd()) };
    let inode = file.metadata().map_or(0, |m| m.ino());
    let _ = file.into_raw_fd();
    inode
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the machine lets no one make namespaces there is nothing to test.
    #[test]
    fn a_sealed_network_has_lo_and_all_ports_and_can_be_looked_into() {
        // SAFETY: no memory is passed.
        let ids = || unsafe { (libc::getuid(), libc::getgid()) };
        let before = ids();
        let sealed = process::in_child(|| {
            seal()?;
            let bound = std::net::TcpListener::bind("127.0.0.1:80").is_ok();
            let bound6 = std::net::UdpSocket::bind("[::1]:53").is_ok();
            let foreign = std::net::TcpListener::bind("192.0.2.1:80").is_ok();
            let inside = Network::of("self").map_or(0, |n| n.inode());
            Ok::<_, Refused>((ids() == before, bound, bound6, foreign, inside))
        });
        let (same, bound, bound6, foreign, inside) = match sealed.unwrap() {
            Ok(seen) => seen,
            Err(refused) => return eprintln!("skipped: {refused:?}"),
        };
        assert!(same && bound && !foreign);
        assert!(bound6 || !std::path::Path::new("/proc/net/if_inet6").exists());
        let here = Network::of("self").unwrap();
        assert!(inside != 0 && inside != here.inode());
        assert_eq!(here.within(|| 7).ok(), Some(7));
    }
}
