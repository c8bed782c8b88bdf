//! A script's calls on the real kernel: one thread in a network namespace of
//! its own, changing its user for each process of the script.
//!
//! Used by `bindgate simulate --kernel`, and by the test that compares the
//! model with the kernel. This file is all of it that is unsafe.

use std::io;

use bindgate_core::model::linux::PathState;
use bindgate_core::model::script::{Call, Line};
use bindgate_core::model::{Opt, Pick};
use libc::{c_int, c_void, socklen_t};

const IP_LOCAL_PORT_RANGE: c_int = 51;
const SO_BINDTOIFINDEX: c_int = 62;

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(ret: c_int) -> Result<c_int, i32> {
    if ret < 0 { Err(last_errno()) } else { Ok(ret) }
}

/// Moves this thread into a new network namespace, in a new user namespace if
/// it has no right to one otherwise, and brings `lo` up there. Is it in a new
/// user namespace?
pub fn enter_namespace() -> io::Result<bool> {
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
    device_up("lo").map(|()| in_user)
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

/// Gives a device an IPv4 address and a mask.
#[allow(dead_code)]
pub fn device_addr(name: &str, addr: [u8; 4], mask: [u8; 4]) -> io::Result<()> {
    for (value, request) in [(addr, libc::SIOCSIFADDR), (mask, libc::SIOCSIFNETMASK)] {
        with_ifreq(
            name,
            |ifr| {
                // SAFETY: an all-zero sockaddr is valid.
                let mut sa: libc::sockaddr = unsafe { std::mem::zeroed() };
                sa.sa_family = libc::AF_INET as u16;
                for (to, from) in sa.sa_data.iter_mut().skip(2).zip(value) {
                    *to = from as libc::c_char;
                }
                ifr.ifr_ifru.ifru_addr = sa;
            },
            u64::from(request as u32),
        )?;
    }
    Ok(())
}

/// The index of a device.
#[allow(dead_code)]
pub fn device_index(name: &str) -> io::Result<u32> {
    let ifr = with_ifreq(name, |_| {}, u64::from(libc::SIOCGIFINDEX as u32))?;
    // SAFETY: the call filled in the index.
    Ok(unsafe { ifr.ifr_ifru.ifru_ifindex } as u32)
}

/// Makes a bridge without ports: a device that exists everywhere.
#[allow(dead_code)]
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

/// Gives a device an IPv6 address with a prefix of 64 bits.
#[allow(dead_code)]
pub fn device_addr6(index: u32, addr: [u8; 16]) -> io::Result<()> {
    let mut request = [0u8; 24];
    request[..16].copy_from_slice(&addr);
    request[16..20].copy_from_slice(&64u32.to_ne_bytes());
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

/// Gives this namespace what a script says of its host: settings, and
/// addresses on a bridge.
#[allow(dead_code)]
pub fn describe(host: &bindgate_core::model::Host) -> io::Result<()> {
    let set = |name: &str, value: String| std::fs::write(format!("/proc/sys/net/{name}"), value);
    let s = &host.sysctl;
    let (lo, hi) = s.local_port_range;
    set("ipv4/ip_local_port_range", format!("{lo} {hi}"))?;
    set(
        "ipv4/ip_unprivileged_port_start",
        s.unprivileged_start.to_string(),
    )?;
    let away = |dev: &u32| *dev != 1;
    let four: Vec<_> = host.v4.as_slice().iter().filter(|a| away(&a.dev)).collect();
    let six: Vec<_> = host.v6.as_slice().iter().filter(|a| away(&a.dev)).collect();
    if four.is_empty() && six.is_empty() {
        return Ok(());
    }
    add_bridge("eth0")?;
    for name in ["all", "eth0"] {
        set(&format!("ipv6/conf/{name}/accept_dad"), "0".into())?;
    }
    for (i, a) in four.iter().enumerate() {
        let mask = u32::MAX.checked_shl(32 - u32::from(a.prefix)).unwrap_or(0);
        let name = if i == 0 {
            "eth0".into()
        } else {
            format!("eth0:{i}")
        };
        device_addr(&name, a.addr.to_be_bytes(), mask.to_be_bytes())?;
    }
    device_up("eth0")?;
    let index = device_index("eth0")?;
    for a in &six {
        device_addr6(index, a.addr)?;
    }
    while std::fs::read_to_string("/proc/thread-self/net/if_inet6")?
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

/// The machine's own vsock context id, if it is a guest.
#[allow(dead_code)]
pub fn vsock_cid() -> Option<u32> {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open("/dev/vsock").ok()?;
    let mut cid = 0u32;
    // SAFETY: IOCTL_VM_SOCKETS_GET_LOCAL_CID writes a u32.
    let ret = unsafe { libc::ioctl(file.as_raw_fd(), 0x7b9, &raw mut cid) };
    (ret == 0).then_some(cid)
}

/// What the file system says of a path that `uid` binds to: asked before.
fn path_state(path: &[u8], uid: u32) -> PathState {
    use bindgate_core::model::Errno;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let refused = |e: &io::Error| {
        let e = e.raw_os_error().and_then(Errno::from_linux);
        PathState::Refused(e.unwrap_or(Errno::EACCES))
    };
    let cut = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    let (parent, last) = path.split_at(cut);
    let parent = if parent.is_empty() { b"." } else { parent };
    let parent = match std::fs::metadata(OsStr::from_bytes(parent)) {
        Err(e) => return refused(&e),
        Ok(m) if !m.is_dir() => return PathState::Refused(Errno::ENOTDIR),
        Ok(m) => m,
    };
    let shift = if parent.uid() == uid { 6 } else { 0 };
    let may = |bits: u32| uid == 0 || parent.mode() >> shift & bits == bits;
    if !may(1) {
        return PathState::Refused(Errno::EACCES);
    }
    if last.is_empty() || last == b"." || last == b".." {
        return PathState::Exists;
    }
    match std::fs::symlink_metadata(OsStr::from_bytes(path)) {
        Ok(_) => PathState::Exists,
        Err(_) if !may(3) => PathState::Refused(Errno::EACCES),
        Err(_) => PathState::Free,
    }
}

/// What the kernel gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    /// Success, or the error number.
    pub result: Result<(), i32>,
    /// getsockname(2) afterwards, if the variable holds a socket.
    pub name: Option<Vec<u8>>,
}

/// The kernel's choice, as far as a call leaves one to it.
pub fn pick(got: &Got, line: &Line) -> Pick {
    let name = got.name.as_deref().unwrap_or(&[]);
    let word = |at: usize| {
        let bytes = name.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map(u32::from_ne_bytes)
    };
    let chosen = match (got.result, &line.call) {
        // A refused connect has chosen a port, too.
        (Ok(()), Call::Bind { .. } | Call::Listen) | (_, Call::Connect { .. }) => {
            match name.first() {
                Some(1) => name
                    .get(3..)
                    .and_then(|n| u32::from_str_radix(std::str::from_utf8(n).ok()?, 16).ok()),
                Some(16 | 40) => word(4),
                _ => name
                    .get(2..4)
                    .and_then(|b| b.try_into().ok())
                    .map(|b| u32::from(u16::from_be_bytes(b))),
            }
        }
        _ => None,
    };
    Pick::Observed(chosen)
}

/// The path that a bind names, if it names one.
fn path_of(line: &Line) -> Option<Vec<u8>> {
    match &line.call {
        Call::Bind { bytes, len } if bytes.first() == Some(&1) => {
            let end = len.map_or(bytes.len(), |l| usize::try_from(l).unwrap_or(0));
            let path = bytes.get(2..end.min(bytes.len())).unwrap_or(&[]);
            Some(path.split(|b| *b == 0).next().unwrap_or(&[]).to_vec())
        }
        _ => None,
    }
}

/// Holds the machine's vsock ports until it is dropped.
#[allow(dead_code)]
pub fn vsock_lock() -> Option<std::fs::File> {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::create("/tmp/bindgate-vsock.lock").ok()?;
    // SAFETY: no memory is passed.
    let ret = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    (ret == 0).then_some(file)
}

/// A script's sockets on the real kernel.
#[derive(Debug, Default)]
pub struct Kernel {
    fds: Vec<Option<c_int>>,
    uid: u32,
}

impl Kernel {
    /// No sockets.
    pub fn new(vars: usize) -> Kernel {
        Kernel {
            fds: vec![None; vars],
            uid: 0,
        }
    }

    /// Becomes a user for this thread only, keeping the way back to root.
    fn become_user(&mut self, uid: u32) -> Result<(), i32> {
        if self.uid == uid {
            return Ok(());
        }
        let keep: libc::uid_t = 0;
        for (call, id) in [(libc::SYS_setresgid, uid), (libc::SYS_setresuid, uid)] {
            // SAFETY: raw calls, which change this thread only; no memory.
            let back = unsafe { libc::syscall(libc::SYS_setresuid, -1, 0, -1) };
            // SAFETY: as above.
            if back < 0 || unsafe { libc::syscall(call, -1, id, keep) } < 0 {
                return Err(last_errno());
            }
        }
        self.uid = uid;
        Ok(())
    }

    /// The descriptor of a variable.
    pub fn fd(&self, var: usize) -> Option<c_int> {
        self.fds.get(var).copied().flatten()
    }

    fn put(&mut self, var: usize, fd: Result<c_int, i32>) -> Result<(), i32> {
        self.drop_var(var);
        let fd = fd?;
        if let Some(place) = self.fds.get_mut(var) {
            *place = Some(fd);
        }
        Ok(())
    }

    fn drop_var(&mut self, var: usize) -> bool {
        match self.fds.get_mut(var).and_then(Option::take) {
            // SAFETY: the descriptor is ours.
            Some(fd) => unsafe { libc::close(fd) == 0 },
            None => false,
        }
    }

    /// Closes everything, as root.
    pub fn clear(&mut self, vars: usize) {
        for var in 0..self.fds.len() {
            if let Some(fd) = self.fd(var) {
                // What is connected ends by a reset: nothing is to linger.
                let _ = set(fd, Opt::LingerZero(true));
            }
            self.drop_var(var);
        }
        self.fds.clear();
        self.fds.resize(vars, None);
        let _ = self.become_user(0);
    }

    /// What the file system says of the path of a bind that `uid` makes.
    pub fn path_state(&mut self, line: &Line, uid: u32) -> Option<PathState> {
        let path = path_of(line)?;
        self.become_user(0).ok()?;
        Some(path_state(&path, uid))
    }

    /// Makes the call of a line as `uid`.
    pub fn play(&mut self, uid: u32, line: &Line) -> Got {
        let result = self.become_user(uid).and_then(|()| self.call(line));
        Got {
            result,
            name: self.fd(line.var).and_then(getsockname),
        }
    }

    fn call(&mut self, line: &Line) -> Result<(), i32> {
        let fd = self.fd(line.var).unwrap_or(-1);
        match &line.call {
            Call::Socket {
                domain,
                ty,
                protocol,
            } => {
                // SAFETY: no memory is passed.
                let fd =
                    check(unsafe { libc::socket(*domain, ty | libc::SOCK_CLOEXEC, *protocol) });
                self.put(line.var, fd)
            }
            Call::Set(opt) => set(fd, *opt),
            Call::Bind { bytes, len } => {
                let mut memory = [0u8; 256];
                memory[..bytes.len()].copy_from_slice(bytes);
                let len = len.unwrap_or(bytes.len() as i32);
                // SAFETY: the kernel reads at most 128 bytes of the 256.
                check(unsafe { libc::bind(fd, memory.as_ptr().cast(), len as socklen_t) }).map(drop)
            }
            // SAFETY: no memory is passed.
            Call::Listen => check(unsafe { libc::listen(fd, 16) }).map(drop),
            Call::Connect { bytes } => {
                // A peer that never answers: EINPROGRESS after a while.
                let wait = [0i64.to_ne_bytes(), 300_000i64.to_ne_bytes()].concat();
                let _ = set_bytes(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &wait);
                // SAFETY: `bytes` is readable for its length.
                check(unsafe { libc::connect(fd, bytes.as_ptr().cast(), bytes.len() as socklen_t) })
                    .map(drop)
            }
            Call::Accept { from } => {
                let from = self.fd(*from).unwrap_or(-1);
                // What is there is there at once on loopback: no waiting.
                // SAFETY: no memory is passed.
                let flags = unsafe { libc::fcntl(from, libc::F_GETFL) };
                // SAFETY: no memory is passed.
                unsafe { libc::fcntl(from, libc::F_SETFL, flags | libc::O_NONBLOCK) };
                // SAFETY: null pointers are allowed.
                let fd = check(unsafe {
                    libc::accept4(
                        from,
                        std::ptr::null_mut(),
                        std::ptr::null_mut(),
                        libc::SOCK_CLOEXEC,
                    )
                });
                // SAFETY: no memory is passed.
                unsafe { libc::fcntl(from, libc::F_SETFL, flags) };
                self.put(line.var, fd)
            }
            Call::Shutdown(how) => {
                // SAFETY: no memory is passed.
                check(unsafe { libc::shutdown(fd, c_int::from(*how)) }).map(drop)
            }
            Call::Dup { of } => {
                let of = self.fd(*of).unwrap_or(-1);
                // SAFETY: no memory is passed.
                let fd = check(unsafe { libc::fcntl(of, libc::F_DUPFD_CLOEXEC, 0) });
                self.put(line.var, fd)
            }
            Call::Close => {
                if self.drop_var(line.var) {
                    Ok(())
                } else {
                    Err(libc::EBADF)
                }
            }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.clear(0);
    }
}

fn getsockname(fd: c_int) -> Option<Vec<u8>> {
    let mut memory = [0u8; 128];
    let mut len: socklen_t = 128;
    // SAFETY: the kernel writes at most `len` bytes.
    let ret = unsafe { libc::getsockname(fd, memory.as_mut_ptr().cast(), &raw mut len) };
    (ret == 0).then(|| memory.get(..len as usize).unwrap_or(&memory).to_vec())
}

fn set_bytes(fd: c_int, level: c_int, name: c_int, value: &[u8]) -> Result<(), i32> {
    let at = value.as_ptr().cast::<c_void>();
    // SAFETY: `value` is readable for its length.
    check(unsafe { libc::setsockopt(fd, level, name, at, value.len() as socklen_t) }).map(drop)
}

fn set(fd: c_int, opt: Opt) -> Result<(), i32> {
    let number = |level, name, value: i32| set_bytes(fd, level, name, &value.to_ne_bytes());
    let on = i32::from;
    match opt {
        Opt::ReuseAddr(b) => number(libc::SOL_SOCKET, libc::SO_REUSEADDR, on(b)),
        Opt::ReusePort(b) => number(libc::SOL_SOCKET, libc::SO_REUSEPORT, on(b)),
        Opt::V6Only(b) => number(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, on(b)),
        Opt::BindToIfIndex(i) => number(libc::SOL_SOCKET, SO_BINDTOIFINDEX, i),
        Opt::BindToNoDevice => set_bytes(
            fd,
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            b"no-such-device\0",
        ),
        Opt::FreeBind(b) => number(libc::IPPROTO_IP, libc::IP_FREEBIND, on(b)),
        Opt::Transparent(b) => number(libc::IPPROTO_IP, libc::IP_TRANSPARENT, on(b)),
        Opt::NoPort(b) => number(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, on(b)),
        Opt::PortRange(lo, hi) => number(
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            (u32::from(lo) | u32::from(hi) << 16) as i32,
        ),
        Opt::LingerZero(b) => {
            let value = [on(b).to_ne_bytes(), [0; 4]].concat();
            set_bytes(fd, libc::SOL_SOCKET, libc::SO_LINGER, &value)
        }
        Opt::Repair(b) => number(libc::IPPROTO_TCP, libc::TCP_REPAIR, on(b)),
        Opt::AttachReuseport => {
            // A filter of one instruction: return 0.
            let code = [6u16, 0, 0, 0].map(u16::to_ne_bytes).concat();
            let mut program = Vec::from(1u16.to_ne_bytes());
            program.resize(size_of::<usize>(), 0);
            program.extend((code.as_ptr() as usize).to_ne_bytes());
            // SO_ATTACH_REUSEPORT_CBPF
            set_bytes(fd, libc::SOL_SOCKET, 51, &program)
        }
        // Linux has none of these.
        Opt::ReusePortLb(_) | Opt::BsdPortRange(_) | Opt::BsdBindAny(_) => Err(libc::ENOPROTOOPT),
    }
}
