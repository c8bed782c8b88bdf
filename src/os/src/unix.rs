//! Unix sockets that keep messages apart, and descriptors over them.

use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{check, own};

const KIND: i32 = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;

/// The address of an abstract name, which begins with a NUL, or of a path,
/// which ends with one.
fn address_of(name: &[u8]) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: all-zero is a value.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let room = address.sun_path.get_mut(..name.len());
    let room = room.ok_or(io::ErrorKind::InvalidInput)?;
    for (to, from) in room.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + name.len();
    Ok((address, len as libc::socklen_t))
}

/// Listens on a name, without blocking in [`accept`].
pub fn listen(name: &[u8]) -> io::Result<OwnedFd> {
    let (address, len) = address_of(name)?;
    // SAFETY: `address` is `len` bytes long at least.
    unsafe {
        let fd = own(libc::socket(libc::AF_UNIX, KIND | libc::SOCK_NONBLOCK, 0))?;
        check(libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len))?;
        check(libc::listen(fd.as_raw_fd(), 4096))?;
        Ok(fd)
    }
}

/// Takes a name, unless somebody has it. It is free again when the descriptor is
/// closed, however that comes about.
pub fn claim(name: &[u8]) -> io::Result<Option<OwnedFd>> {
    match listen(name) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Ok(None),
        taken => taken.map(Some),
    }
}

/// Connects to a name.
pub fn connect(name: &[u8]) -> io::Result<OwnedFd> {
    let (address, len) = address_of(name)?;
    // SAFETY: `address` is `len` bytes long at least.
    unsafe {
        let fd = own(libc::socket(libc::AF_UNIX, KIND, 0))?;
        check(libc::connect(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            len,
        ))?;
        Ok(fd)
    }
}

/// The next connection, `None` if there is none.
pub fn accept(fd: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    // SAFETY: no address is asked for.
    let n = unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        )
    };
    match own(n) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

/// Two connected ends that keep messages apart.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: room for two.
    check(unsafe { libc::socketpair(libc::AF_UNIX, KIND, 0, fds.as_mut_ptr()) })?;
    // SAFETY: both were just made.
    let [a, b] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((super::high(a)?, super::high(b)?))
}

/// Lets no message take longer than this to come or go.
///
/// # Errors
/// As setsockopt(2).
pub fn set_patience(fd: &OwnedFd, time: std::time::Duration) -> io::Result<()> {
    let time = libc::timeval {
        tv_sec: time.as_secs() as libc::time_t,
        tv_usec: time.subsec_micros().into(),
    };
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        // SAFETY: the value is as long as said.
        check(unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const time).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        })?;
    }
    Ok(())
}

/// Sends one message.
pub fn send(fd: &OwnedFd, message: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is as long as said.
    let n = unsafe {
        libc::send(
            fd.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            libc::MSG_NOSIGNAL,
        )
    };
    check(n as i32).map(|_| ())
}

/// Receives one message into `buffer`: its length, 0 at the end. Does not
/// wait if `wait` is not set.
pub fn receive(fd: &OwnedFd, buffer: &mut [u8], wait: bool) -> io::Result<usize> {
    loop {
        // SAFETY: the buffer is as long as said.
        let n = unsafe {
            libc::recv(
                fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                if wait { 0 } else { libc::MSG_DONTWAIT },
            )
        };
        match check(n as i32) {
            Ok(n) => return Ok(n as usize),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Most descriptors that one message brings.
const FDS: usize = 3;

/// Room for them, aligned as a `cmsghdr` must be.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    bytes: [u8; 64],
}

/// Sends one message with descriptors, three at most.
pub fn send_with(fd: &OwnedFd, message: &[u8], fds: &[RawFd]) -> io::Result<()> {
    if fds.len() > FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all-zero is a value of these structures; the control buffer has
    // room for one header and three descriptors; everything outlives the call.
    unsafe {
        let mut control: Control = zeroed();
        let mut part = libc::iovec {
            iov_base: message.as_ptr().cast_mut().cast(),
            iov_len: message.len(),
        };
        let mut header: libc::msghdr = zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        let bytes = size_of_val(fds) as u32;
        header.msg_controllen = libc::CMSG_SPACE(bytes) as _;
        let c = libc::CMSG_FIRSTHDR(&raw const header);
        (*c).cmsg_level = libc::SOL_SOCKET;
        (*c).cmsg_type = libc::SCM_RIGHTS;
        (*c).cmsg_len = libc::CMSG_LEN(bytes) as _;
        let to = libc::CMSG_DATA(c).cast::<RawFd>();
        for (n, fd) in fds.iter().enumerate() {
            to.add(n).write_unaligned(*fd);
        }
        let n = libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL);
        check(n as i32).map(|_| ())
    }
}

/// Receives one message with `N` descriptors.
pub fn receive_with<const N: usize>(
    fd: &OwnedFd,
    buffer: &mut [u8],
) -> io::Result<(usize, [OwnedFd; N])> {
    let (n, fds) = receive_any(fd, buffer, true)?;
    let fds = fds.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok((n, fds))
}

/// Receives one message with whatever descriptors come with it. Does not wait if
/// `wait` is not set.
pub fn receive_any(
    fd: &OwnedFd,
    buffer: &mut [u8],
    wait: bool,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: as above; the descriptors received are new ones of ours, as many
    // as the header's length says.
    unsafe {
        let mut control: Control = zeroed();
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut header: libc::msghdr = zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of::<Control>() as _;
        let n = loop {
            match check(libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) as i32) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other? as usize,
            }
        };
        let mut fds = Vec::new();
        let c = libc::CMSG_FIRSTHDR(&raw const header);
        if !c.is_null() && (*c).cmsg_level == libc::SOL_SOCKET && (*c).cmsg_type == libc::SCM_RIGHTS
        {
            let bytes = ((*c).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            let from = libc::CMSG_DATA(c).cast::<RawFd>();
            for at in 0..bytes / size_of::<RawFd>() {
                fds.push(OwnedFd::from_raw_fd(from.add(at).read_unaligned()));
            }
        }
        let fds: io::Result<Vec<OwnedFd>> = fds.into_iter().map(super::high).collect();
        Ok((n, fds?))
    }
}
