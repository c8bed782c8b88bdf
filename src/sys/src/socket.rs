//! Sockets: their names, their options, their descriptors.

use core::ffi::c_void;

use crate::{Allowed, Call, Errno};

/// One integer option.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn getsockopt_int(allowed: Allowed, fd: i32, level: i32, name: i32) -> Result<i32, Errno> {
    let mut value = 0i32;
    let mut len = 4u32;
    // SAFETY: the kernel writes to two live locals, as much as `len` says.
    unsafe {
        call!(
            allowed,
            Call::Getsockopt,
            libc::SYS_getsockopt,
            fd,
            level,
            name,
            &raw mut value,
            &raw mut len
        )?;
    }
    Ok(value)
}

/// Any option, into `value`; how many bytes there were.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn getsockopt(
    allowed: Allowed,
    fd: i32,
    level: i32,
    name: i32,
    value: &mut [u8],
) -> Result<usize, Errno> {
    let mut len = value.len() as u32;
    // SAFETY: the kernel writes to a live buffer, as much as `len` says.
    unsafe {
        call!(
            allowed,
            Call::Getsockopt,
            libc::SYS_getsockopt,
            fd,
            level,
            name,
            value.as_mut_ptr(),
            &raw mut len
        )?;
    }
    Ok(len as usize)
}

/// getsockopt(2) into memory of the program's: the kernel says if it is not
/// there.
///
/// # Safety
/// `value` and `len` are what the program gave for an answer to be written to.
///
/// # Errors
/// The kernel's.
#[inline]
pub unsafe fn getsockopt_into(
    allowed: Allowed,
    fd: i32,
    level: i32,
    name: i32,
    value: *mut c_void,
    len: *mut u32,
) -> Result<(), Errno> {
    // SAFETY: the kernel writes where the program wants it, and nowhere else.
    unsafe {
        call!(
            allowed,
            Call::Getsockopt,
            libc::SYS_getsockopt,
            fd,
            level,
            name,
            value,
            len
        )?;
    }
    Ok(())
}

/// setsockopt(2) from memory of the program's: the kernel says if it is not
/// there.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn setsockopt_from(
    allowed: Allowed,
    fd: i32,
    level: i32,
    name: i32,
    value: *const c_void,
    len: u32,
) -> Result<(), Errno> {
    // SAFETY: the kernel only reads, and checks what it reads.
    unsafe {
        call!(
            allowed,
            Call::Setsockopt,
            libc::SYS_setsockopt,
            fd,
            level,
            name,
            value,
            len
        )?;
    }
    Ok(())
}

/// Sets any option.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn setsockopt(
    allowed: Allowed,
    fd: i32,
    level: i32,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    setsockopt_from(
        allowed,
        fd,
        level,
        name,
        value.as_ptr().cast(),
        value.len() as u32,
    )
}

/// `SO_ATTACH_FILTER`: a classic BPF program that sees each packet.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn attach_filter(
    allowed: Allowed,
    fd: i32,
    program: &[libc::sock_filter],
) -> Result<(), Errno> {
    let fprog = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    setsockopt_from(
        allowed,
        fd,
        libc::SOL_SOCKET,
        libc::SO_ATTACH_FILTER,
        (&raw const fprog).cast(),
        size_of_val(&fprog) as u32,
    )
}

/// An option of the socket itself that is a number of 64 bits.
#[inline]
fn number(allowed: Allowed, fd: i32, name: i32) -> Result<u64, Errno> {
    let mut value = [0; 8];
    getsockopt(allowed, fd, libc::SOL_SOCKET, name, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}

/// `SO_NETNS_COOKIE` of socket(7), Linux 5.14: which network namespace the
/// socket is in.
///
/// # Errors
/// The kernel's.
pub fn netns_cookie(allowed: Allowed, fd: i32) -> Result<u64, Errno> {
    const SO_NETNS_COOKIE: i32 = 71;
    number(allowed, fd, SO_NETNS_COOKIE)
}

/// `SO_COOKIE`: the socket's identity.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn cookie(allowed: Allowed, fd: i32) -> Result<u64, Errno> {
    number(allowed, fd, libc::SO_COOKIE)
}

/// getsockname(2) into `name`; the name's full length, which may be more than
/// there was room for.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn getsockname<T: Bytes>(allowed: Allowed, fd: i32, name: &mut T) -> Result<usize, Errno> {
    let (at, mut len) = (name.at(), size_of::<T>() as u32);
    // SAFETY: the kernel writes to a live value of plain bytes, as much as
    // `len` says.
    unsafe {
        call!(
            allowed,
            Call::Getsockname,
            libc::SYS_getsockname,
            fd,
            at,
            &raw mut len
        )?;
    }
    Ok(len as usize)
}

/// getpeername(2), as [`getsockname`].
///
/// # Errors
/// The kernel's.
#[inline]
pub fn getpeername<T: Bytes>(allowed: Allowed, fd: i32, name: &mut T) -> Result<usize, Errno> {
    let (at, mut len) = (name.at(), size_of::<T>() as u32);
    // SAFETY: as in `getsockname`.
    unsafe {
        call!(
            allowed,
            Call::Getpeername,
            libc::SYS_getpeername,
            fd,
            at,
            &raw mut len
        )?;
    }
    Ok(len as usize)
}

/// Room for a name: bytes or words, any of which are a value.
pub trait Bytes {
    /// Where it lies.
    fn at(&mut self) -> *mut u8;
}

impl<const N: usize> Bytes for [u8; N] {
    fn at(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
}

impl<const N: usize> Bytes for [u64; N] {
    fn at(&mut self) -> *mut u8 {
        self.as_mut_ptr().cast()
    }
}

/// bind(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn bind(allowed: Allowed, fd: i32, addr: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads a live slice.
    unsafe {
        call!(
            allowed,
            Call::Bind,
            libc::SYS_bind,
            fd,
            addr.as_ptr(),
            addr.len()
        )?;
    }
    Ok(())
}

/// listen(2) on a socket of our own: where that may be bound.
///
/// # Errors
/// The kernel's.
pub fn listen(allowed: Allowed, fd: i32, backlog: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call!(allowed, Call::Bind, libc::SYS_listen, fd, backlog)? };
    Ok(())
}

/// connect(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn connect(allowed: Allowed, fd: i32, addr: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads a live slice.
    unsafe {
        call!(
            allowed,
            Call::Connect,
            libc::SYS_connect,
            fd,
            addr.as_ptr(),
            addr.len()
        )?;
    }
    Ok(())
}

/// bind(2) with one byte at `at` for an address, which every family refuses
/// once the kernel has read it. For a program that is about to make that call
/// on that descriptor: it is made whatever else may be.
///
/// # Errors
/// The kernel's: `EFAULT` if there is nothing to be read at `at`.
#[inline]
pub fn bind_one_byte(fd: i32, at: usize) -> Result<(), Errno> {
    // SAFETY: the kernel only reads, and checks what it reads.
    unsafe { call!(Allowed::ALL, Call::Bind, libc::SYS_bind, fd, at, 1)? };
    Ok(())
}

/// connect(2) with one byte at `at` for an address, as [`bind_one_byte`].
///
/// # Errors
/// As there.
#[inline]
pub fn connect_one_byte(fd: i32, at: usize) -> Result<(), Errno> {
    // SAFETY: the kernel only reads, and checks what it reads.
    unsafe { call!(Allowed::ALL, Call::Connect, libc::SYS_connect, fd, at, 1)? };
    Ok(())
}

/// socket(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn socket(allowed: Allowed, domain: i32, ty: i32, protocol: i32) -> Result<i32, Errno> {
    let call = match domain {
        libc::AF_UNIX => Call::SocketUnix,
        libc::AF_INET | libc::AF_INET6 => Call::SocketInet,
        libc::AF_NETLINK => Call::SocketNetlink,
        _ => Call::SocketOther,
    };
    // SAFETY: no memory is involved.
    let fd = unsafe { call!(allowed, call, libc::SYS_socket, domain, ty, protocol)? };
    Ok(fd as i32)
}

/// close(2).
#[inline]
pub fn close(allowed: Allowed, fd: i32) {
    // SAFETY: no memory is involved.
    let _ = unsafe { call!(allowed, Call::Close, libc::SYS_close, fd) };
}

/// dup3(2).
///
/// # Errors
/// The kernel's.
#[inline]
pub fn dup3(allowed: Allowed, old: i32, new: i32, flags: i32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    unsafe { call!(allowed, Call::Dup3, libc::SYS_dup3, old, new, flags)? };
    Ok(())
}

/// fcntl(2) with an integer argument.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn fcntl(allowed: Allowed, fd: i32, cmd: i32, arg: usize) -> Result<usize, Errno> {
    // SAFETY: the commands that take a pointer fail for what is none; those of
    // our callers take a number.
    unsafe { call!(allowed, Call::Fcntl, libc::SYS_fcntl, fd, cmd, arg) }
}

/// How many bytes there are to read, `FIONREAD` of ioctl(2). `None` if that
/// cannot be asked.
#[inline]
pub fn unread(allowed: Allowed, fd: i32) -> Option<i32> {
    let mut count = 0i32;
    // SAFETY: the kernel writes a number to a live local.
    let asked = unsafe {
        call!(
            allowed,
            Call::Ioctl,
            libc::SYS_ioctl,
            fd,
            libc::FIONREAD,
            &raw mut count
        )
    };
    asked.is_ok().then_some(count)
}

/// epoll_ctl(2) with `EPOLL_CTL_ADD`.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn epoll_add(allowed: Allowed, ep: i32, fd: i32, events: u32, data: u64) -> Result<(), Errno> {
    let event = libc::epoll_event { events, u64: data };
    // SAFETY: the kernel reads a live local.
    unsafe {
        call!(
            allowed,
            Call::EpollCtl,
            libc::SYS_epoll_ctl,
            ep,
            libc::EPOLL_CTL_ADD,
            fd,
            &raw const event
        )?;
    }
    Ok(())
}

/// sendto(2) on a connected socket, without `SIGPIPE`.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn send(allowed: Allowed, fd: i32, buf: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads a live slice.
    unsafe {
        call!(
            allowed,
            Call::Sendto,
            libc::SYS_sendto,
            fd,
            buf.as_ptr(),
            buf.len(),
            libc::MSG_NOSIGNAL,
            0,
            0
        )
    }
}

/// Sends a message with one descriptor on a connected socket, without `SIGPIPE`.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn send_descriptor(allowed: Allowed, fd: i32, buf: &[u8], passed: i32) -> Result<usize, Errno> {
    let two = |first: i32, second: i32| {
        let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    };
    // struct cmsghdr: length (8), level (4), type (4), then the descriptor.
    let mut control = [20, two(libc::SOL_SOCKET, libc::SCM_RIGHTS), two(passed, 0)];
    let mut part = libc::iovec {
        iov_base: buf.as_ptr().cast_mut().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: all-zero is a value.
    let mut msg: libc::msghdr = unsafe { core::mem::zeroed() };
    msg.msg_iov = &raw mut part;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    msg.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the kernel reads live locals and a live slice.
    unsafe {
        call!(
            allowed,
            Call::Sendmsg,
            libc::SYS_sendmsg,
            fd,
            &raw const msg,
            libc::MSG_NOSIGNAL
        )
    }
}

/// recv(2), of a recvmsg(2) without control data.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn receive(allowed: Allowed, fd: i32, buf: &mut [u8], flags: i32) -> Result<usize, Errno> {
    let mut part = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: all-zero is a value.
    let mut msg: libc::msghdr = unsafe { core::mem::zeroed() };
    msg.msg_iov = &raw mut part;
    msg.msg_iovlen = 1;
    // SAFETY: the kernel writes to a live slice, through live locals.
    unsafe {
        call!(
            allowed,
            Call::Recvmsg,
            libc::SYS_recvmsg,
            fd,
            &raw mut msg,
            flags
        )
    }
}

/// The descriptor that the next message brings, with close-on-exec; `EBADMSG` if
/// it brings none.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn receive_descriptor(allowed: Allowed, fd: i32) -> Result<i32, Errno> {
    let mut data = [0u8; 1];
    // struct cmsghdr: length (8), level (4), type (4), then the descriptor.
    let mut control = [0u64; 4];
    let mut part = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all-zero is a value.
    let mut msg: libc::msghdr = unsafe { core::mem::zeroed() };
    msg.msg_iov = &raw mut part;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    msg.msg_controllen = size_of_val(&control) as _;
    // SAFETY: all that the message points to is live, with these sizes.
    unsafe { recvmsg(allowed, fd, &mut msg)? };
    let [len, kind, first, _] = control.map(u64::to_ne_bytes);
    let int = |bytes: [u8; 8], high: bool| {
        let [a, b, c, d, e, f, g, h] = bytes;
        i32::from_ne_bytes(if high { [e, f, g, h] } else { [a, b, c, d] })
    };
    let is_one = u64::from_ne_bytes(len) == 20
        && int(kind, false) == libc::SOL_SOCKET
        && int(kind, true) == libc::SCM_RIGHTS;
    match is_one {
        true => Ok(int(first, false)),
        false => Err(Errno(libc::EBADMSG as u16)),
    }
}

/// recvmsg(2), with close-on-exec on what arrives.
///
/// # Safety
/// `msg` and all that it points to must be live and of the stated sizes.
///
/// # Errors
/// The kernel's.
#[inline]
pub unsafe fn recvmsg(allowed: Allowed, fd: i32, msg: &mut libc::msghdr) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    unsafe {
        call!(
            allowed,
            Call::Recvmsg,
            libc::SYS_recvmsg,
            fd,
            &raw mut *msg,
            libc::MSG_CMSG_CLOEXEC
        )
    }
}
