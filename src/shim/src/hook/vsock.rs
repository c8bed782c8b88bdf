//! What a Unix socket answers otherwise than the vsock one that it stands for,
//! and `/dev/vsock`, where the run is a vsock host. In any other run each of
//! these is one comparison and the forward.

use core::ffi::{CStr, c_char, c_int, c_ulong, c_void};

use bindgate_core::judge::vsock::NOT_CONNECTED;
use bindgate_core::record::{Call, stage};
use libc::{cmsghdr, msghdr, pollfd, sockaddr, socklen_t, ssize_t};

use super::{block, descriptor, errno, finish, set_errno};
use crate::out::faults::guard;
use crate::own::{filter, memory};
use crate::real::rare as real;
use crate::redirect::vsock as host;
use crate::session::{self, Run};
use crate::sys;

/// `IOCTL_VM_SOCKETS_GET_LOCAL_CID` of linux/vm_sockets.h.
const GET_LOCAL_CID: c_ulong = 0x7b9;
const DEVICE: &CStr = c"/dev/vsock";
/// Milliseconds after which sockets that cannot be waited for are looked at
/// again: another thread may have bound or connected them.
const TURN: c_int = 20;

/// The run, if it is a vsock host.
fn hosting() -> Option<&'static Run> {
    match session::is_vsock_host() {
        true => session::get().filter(|run| run.vsock.is_some()),
        false => None,
    }
}

/// Is it a vsock socket of the run's?
fn is_vsock(run: &Run, fd: c_int) -> bool {
    guard(Call::Connect, stage::IDENTIFY, || {
        host::is_one(filter::allowed(), run, fd)
    })
    .unwrap_or(false)
}

/// Is it one without a peer?
fn is_unconnected(run: &Run, fd: c_int) -> bool {
    guard(Call::Connect, stage::IDENTIFY, || {
        host::is_unconnected(filter::allowed(), run, fd)
    })
    .unwrap_or(false)
}

/// `vsock_connectible_recvmsg` has another error than `unix_stream_read_generic`
/// for a socket that has no peer.
pub fn received(fd: c_int, ret: ssize_t) -> ssize_t {
    if ret == -1
        && session::is_vsock_host()
        && errno() == libc::EINVAL
        && let Some(run) = hosting()
    {
        let e = match is_unconnected(run, fd) {
            true => c_int::from(NOT_CONNECTED),
            false => libc::EINVAL,
        };
        set_errno(e);
    }
    ret
}

/// Is a message on `fd` one without a source? A vsock socket names none.
pub fn has_no_source(fd: c_int) -> bool {
    session::is_vsock_host() && hosting().is_some_and(|run| is_vsock(run, fd))
}

/// Room for a control message with one descriptor.
const CONTROL: usize = size_of::<cmsghdr>() + size_of::<u64>();

/// A send with `MSG_EOR` on a SOCK_SEQPACKET of the run's host: `None` on any
/// other socket. AF_UNIX does not keep the mark, so a descriptor goes along with
/// the message; the receiver's side makes the mark of it again ([`arrived`]).
///
/// # Safety
/// As sendmsg(2), with the message's parts.
pub unsafe fn send_record(
    fd: c_int,
    parts: *mut libc::iovec,
    count: usize,
    flags: c_int,
) -> Option<ssize_t> {
    let before = errno();
    let run = hosting()?;
    let is_record = guard(Call::Sendmsg, stage::IDENTIFY, || {
        host::is_one(filter::allowed(), run, fd) && is_seqpacket(fd)
    });
    set_errno(before);
    if is_record != Some(true) {
        return None;
    }
    let mut control = [0u64; CONTROL / 8];
    let [len, kind, number] = &mut control;
    // struct cmsghdr, and the socket itself for a descriptor that is there.
    *len = (size_of::<cmsghdr>() + size_of::<c_int>()) as u64;
    *kind = (libc::SOL_SOCKET as u32 as u64) | (libc::SCM_RIGHTS as u32 as u64) << 32;
    *number = u64::from(fd.cast_unsigned());
    // SAFETY: all-zero is a value.
    let mut message: msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = parts;
    message.msg_iovlen = count as _;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    // SAFETY: the caller's parts, and a live control message.
    Some(unsafe { crate::real::sendmsg()(fd, &raw const message, flags) })
}

/// A message has arrived by recvmsg(2): what AF_UNIX says of it becomes what a
/// vsock socket says. That has no source, and no control data but its own.
///
/// # Safety
/// The kernel has just filled the message in.
pub unsafe fn arrived(fd: c_int, msg: *mut msghdr) {
    // SAFETY: as the caller's; it need not be aligned.
    let mut now = unsafe { msg.read_unaligned() };
    let is_plain =
        now.msg_namelen == 0 && now.msg_controllen == 0 && now.msg_flags & libc::MSG_CTRUNC == 0;
    if is_plain || !has_no_source(fd) {
        return;
    }
    let brought = guard(Call::Fault, stage::IDENTIFY, || {
        // SAFETY: as the caller's.
        unsafe { drop_descriptors(&now) }
    });
    let had_no_room = now.msg_flags & libc::MSG_CTRUNC != 0;
    if brought == Some(true) || had_no_room {
        now.msg_controllen = 0;
        now.msg_flags &= !libc::MSG_CTRUNC;
        // Of a stream they are what its program tried to pass on: no vsock does.
        if is_seqpacket(fd) {
            now.msg_flags |= libc::MSG_EOR;
        }
    }
    now.msg_namelen = 0;
    // SAFETY: as above.
    unsafe { msg.write_unaligned(now) };
}

/// Does a socket keep messages apart?
fn is_seqpacket(fd: c_int) -> bool {
    sys::getsockopt_int(filter::allowed(), fd, libc::SOL_SOCKET, libc::SO_TYPE)
        == Ok(libc::SOCK_SEQPACKET)
}

/// Closes the descriptors that a message brought: were there any?
///
/// # Safety
/// The kernel has just filled the message in.
unsafe fn drop_descriptors(msg: &msghdr) -> bool {
    let mut any = false;
    // SAFETY: as the caller's.
    unsafe {
        descriptor::each_arrived(msg, |brought| {
            sys::close(filter::allowed(), brought);
            any = true;
        });
    }
    any
}

/// recv(2).
///
/// # Safety
/// As recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recv(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's arguments, unchanged.
    let ret = unsafe { real::recv()(fd, buffer, len, flags) };
    received(fd, ret)
}

/// recv(2) of a program that libc checks the buffer's size for.
///
/// # Safety
/// As recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __recv_chk(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    room: usize,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's arguments, unchanged.
    let ret = unsafe { real::__recv_chk()(fd, buffer, len, room, flags) };
    received(fd, ret)
}

/// recvfrom(2) of a program that libc checks the buffer's size for.
///
/// # Safety
/// As recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __recvfrom_chk(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    room: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> ssize_t {
    if len > room || !session::is_host() {
        let next = real::__recvfrom_chk();
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { next(fd, buffer, len, room, flags, from, from_len) };
    }
    // SAFETY: as the caller's; the buffer is as large as is said.
    unsafe { recvfrom(fd, buffer, len, flags, from, from_len) }
}

/// recvfrom(2).
///
/// # Safety
/// As recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> ssize_t {
    let next = real::recvfrom();
    if session::has_block() && !from.is_null() {
        // SAFETY: as the caller's.
        return unsafe { block::recvfrom(fd, buffer, len, flags, from, from_len) };
    }
    if from.is_null() || !has_no_source(fd) {
        // SAFETY: the caller's arguments, unchanged.
        let ret = unsafe { next(fd, buffer, len, flags, from, from_len) };
        return received(fd, ret);
    }
    // SAFETY: the caller's arguments.
    unsafe { recvfrom_nobody(fd, buffer, len, flags, from_len) }
}

/// recvfrom(2) on a vsock socket, which names no source.
///
/// # Safety
/// As recvfrom(2).
#[inline(never)]
pub unsafe fn recvfrom_nobody(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    flags: c_int,
    from_len: *mut socklen_t,
) -> ssize_t {
    let next = real::recvfrom();
    let nobody = core::ptr::null_mut();
    // SAFETY: the caller's buffer; no address is asked for.
    let ret = unsafe { next(fd, buffer, len, flags, nobody, nobody.cast()) };
    if ret >= 0 {
        let before = errno();
        let told = guard(Call::Connect, stage::IDENTIFY, || {
            // SAFETY: the program wants a length there.
            unsafe { memory::write(filter::allowed(), from_len.cast(), &[0; 4]) }
        });
        if told == Some(false) {
            set_errno(libc::EFAULT);
            return -1;
        }
        set_errno(before);
    }
    received(fd, ret)
}

/// shutdown(2): of a vsock socket without a peer it fails.
///
/// # Safety
/// As shutdown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn shutdown(fd: c_int, how: c_int) -> c_int {
    // A `how` that is none is the kernel's to refuse.
    if session::is_vsock_host()
        && (libc::SHUT_RD..=libc::SHUT_RDWR).contains(&how)
        && let Some(run) = hosting()
    {
        let before = errno();
        if is_unconnected(run, fd) {
            set_errno(c_int::from(NOT_CONNECTED));
            return -1;
        }
        set_errno(before);
    }
    // SAFETY: no pointers.
    unsafe { real::shutdown()(fd, how) }
}

/// poll(2). It says `POLLHUP` of a Unix socket that has no peer and does not
/// listen, and does not heed `SO_RCVLOWAT`; of vsock sockets it is otherwise.
///
/// # Safety
/// As poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn poll(fds: *mut pollfd, count: libc::nfds_t, time: c_int) -> c_int {
    let next = real::poll();
    if !session::is_vsock_host() {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { next(fds, count, time) };
    }
    // SAFETY: the caller's arguments, but for the time.
    unsafe { polled(fds, count, time, |time| next(fds, count, time)) }
}

/// poll(2) of a program that libc checks the size of the list for.
///
/// # Safety
/// As poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __poll_chk(
    fds: *mut pollfd,
    count: libc::nfds_t,
    time: c_int,
    room: usize,
) -> c_int {
    let next = real::__poll_chk();
    if !session::is_vsock_host() {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { next(fds, count, time, room) };
    }
    // SAFETY: the caller's arguments, but for the time.
    unsafe { polled(fds, count, time, |time| next(fds, count, time, room)) }
}

/// ppoll(2), as [`poll`].
///
/// # Safety
/// As ppoll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ppoll(
    fds: *mut pollfd,
    count: libc::nfds_t,
    time: *const libc::timespec,
    mask: *const libc::sigset_t,
) -> c_int {
    let next = real::ppoll();
    let Some(millis) = millis(time) else {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { next(fds, count, time, mask) };
    };
    // SAFETY: the caller's arguments, but for the time.
    unsafe {
        polled(fds, count, millis, |time| {
            with_time(time, |at| next(fds, count, at, mask))
        })
    }
}

/// ppoll(2) of a program that libc checks the size of the list for.
///
/// # Safety
/// As ppoll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn __ppoll_chk(
    fds: *mut pollfd,
    count: libc::nfds_t,
    time: *const libc::timespec,
    mask: *const libc::sigset_t,
    room: usize,
) -> c_int {
    let next = real::__ppoll_chk();
    let Some(millis) = millis(time) else {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { next(fds, count, time, mask, room) };
    };
    // SAFETY: the caller's arguments, but for the time.
    unsafe {
        polled(fds, count, millis, |time| {
            with_time(time, |at| next(fds, count, at, mask, room))
        })
    }
}

/// A time in milliseconds, rounded up, and −1 for one without an end. `None` where
/// the kernel is to be asked as it is: the run is no vsock host, or it is no time.
fn millis(time: *const libc::timespec) -> Option<c_int> {
    if !session::is_vsock_host() {
        return None;
    }
    if time.is_null() {
        return Some(-1);
    }
    let [seconds, nanos] = guard(Call::Connect, stage::HOOK, || {
        memory::read(filter::allowed(), time.cast::<[i64; 2]>())
    })
    .flatten()?;
    if seconds < 0 || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    let millis = seconds
        .saturating_mul(1000)
        .saturating_add((nanos + 999_999) / 1_000_000);
    Some(c_int::try_from(millis).unwrap_or(c_int::MAX))
}

/// Makes a call with such a time.
fn with_time(millis: c_int, call: impl FnOnce(*const libc::timespec) -> c_int) -> c_int {
    let time = libc::timespec {
        tv_sec: libc::time_t::from(millis / 1000),
        tv_nsec: libc::c_long::from(millis % 1000) * 1_000_000,
    };
    call(if millis < 0 {
        core::ptr::null()
    } else {
        &raw const time
    })
}

/// A poll(2) in a run that is a vsock host, which `next` makes.
///
/// # Safety
/// As poll(2).
unsafe fn polled(
    fds: *mut pollfd,
    count: libc::nfds_t,
    time: c_int,
    next: impl Fn(c_int) -> c_int,
) -> c_int {
    let before = errno();
    let mut left = time;
    loop {
        let ret = next(left);
        if ret <= 0 {
            return ret;
        }
        let mut silent = Silent([0; MOST.div_ceil(64)]);
        // SAFETY: poll(2) has just read and written this many.
        let ready = unsafe { silent.find(fds, count) };
        if ready > 0 || silent.is_empty() || left == 0 {
            set_errno(before);
            return ready;
        }
        // Only what a vsock socket would not have woken anybody for.
        let turn = if left < 0 { TURN } else { TURN.min(left) };
        // SAFETY: as above; those entries are put out of the way meanwhile.
        let others = unsafe {
            silent.turn_round(fds);
            let others = next(turn);
            let after = errno();
            silent.turn_round(fds);
            set_errno(after);
            others
        };
        if others != 0 {
            return others;
        }
        if left > 0 {
            left -= turn;
        }
    }
}

/// How many entries of a poll(2) are looked at. Any further ones stay as the
/// kernel says.
const MOST: usize = 1024;

/// The entries of a poll(2) that say something which a vsock socket would not.
struct Silent([u64; MOST.div_ceil(64)]);

impl Silent {
    fn is_empty(&self) -> bool {
        self.0 == [0; MOST.div_ceil(64)]
    }

    /// Takes from the answers what is none, and remembers the entries that say no
    /// more; how many say something.
    ///
    /// # Safety
    /// poll(2) has just filled in `count` entries.
    unsafe fn find(&mut self, fds: *mut pollfd, count: libc::nfds_t) -> c_int {
        let Some(run) = hosting() else { return 0 };
        let mut ready = 0;
        for n in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: one of `count` entries, which need not be aligned.
            let (at, mut entry) = unsafe {
                let at = fds.add(n);
                (at, at.read_unaligned())
            };
            let said = entry.revents;
            entry.revents &= !not_said(run, &entry);
            if entry.revents != said
                && let Some(word) = self.0.get_mut(n / 64)
            {
                // SAFETY: as above.
                unsafe { at.write_unaligned(entry) };
                if entry.revents == 0 {
                    *word |= 1 << (n % 64);
                }
            }
            // SAFETY: as above.
            ready += c_int::from(unsafe { at.read_unaligned() }.revents != 0);
        }
        ready
    }

    /// Turns the numbers of the silent entries round, so that poll(2) passes over
    /// them; done twice they are as they were.
    ///
    /// # Safety
    /// [`Silent::find`] was called with these entries.
    unsafe fn turn_round(&self, fds: *mut pollfd) {
        for (at, word) in self.0.iter().enumerate() {
            for bit in (0..64).filter(|bit| word >> bit & 1 != 0) {
                // SAFETY: an entry that was read, and need not be aligned.
                unsafe {
                    let at = fds.add(at * 64 + bit);
                    let mut entry = at.read_unaligned();
                    entry.fd = !entry.fd;
                    at.write_unaligned(entry);
                }
            }
        }
    }
}

/// The bits of an answer that a vsock socket would not give.
fn not_said(run: &Run, entry: &pollfd) -> i16 {
    const READABLE: i16 = libc::POLLIN | libc::POLLRDNORM;
    let end = entry.revents & (libc::POLLHUP | libc::POLLRDHUP);
    if entry.revents & libc::POLLHUP != 0 && is_unconnected(run, entry.fd) {
        return READABLE | libc::POLLHUP | libc::POLLRDHUP;
    }
    let is_short = entry.revents & READABLE != 0
        && end == 0
        && session::counts_bytes()
        && guard(Call::Connect, stage::IDENTIFY, || {
            host::is_short(filter::allowed(), run, entry.fd)
        })
        .unwrap_or(false);
    if is_short { READABLE } else { 0 }
}

/// ioctl(2): the CID of the run's host, for any character device. There is no
/// other that knows the question.
///
/// # Safety
/// As ioctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn ioctl(fd: c_int, request: c_ulong, value: *mut c_void) -> c_int {
    if request == GET_LOCAL_CID
        && session::is_vsock_host()
        && let Some(run) = hosting()
    {
        let before = errno();
        let told = guard(Call::Socket, stage::IDENTIFY, || {
            let allowed = filter::allowed();
            let st = sys::fstat(allowed, fd).ok()?;
            let cid = run.vsock.as_ref()?.cid;
            (st.st_mode & libc::S_IFMT == libc::S_IFCHR).then(|| {
                // SAFETY: the program wants a number there.
                unsafe { memory::write(allowed, value, &cid.to_ne_bytes()) }
            })
        });
        match told.flatten() {
            Some(true) => return finish(0, before, before),
            Some(false) => return finish(-1, before, libc::EFAULT),
            None => set_errno(before),
        }
    }
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real::ioctl()(fd, request, value) }
}

/// Has an open failed of the device that a vsock host has?
///
/// Where there is none of the machine's, or this user may not open it, another
/// character device stands for it.
fn is_device(path: *const c_char) -> bool {
    let is_missing = [
        libc::ENOENT,
        libc::EACCES,
        libc::EPERM,
        libc::ENODEV,
        libc::ENXIO,
    ]
    .contains(&errno());
    let wanted = DEVICE.to_bytes_with_nul();
    is_missing
        && hosting().is_some()
        && guard(Call::Socket, stage::ADDRESS, || {
            let allowed = filter::allowed();
            let mut at = path.cast::<u8>();
            wanted.iter().all(|byte| {
                let is_same = memory::read(allowed, at) == Some(*byte);
                at = at.wrapping_add(1);
                is_same
            })
        })
        .unwrap_or(false)
}

macro_rules! opening {
    ($(#[$doc:meta])* $name:ident($($before:ident: $ty:ty)?)) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            $($before: $ty,)?
            path: *const c_char,
            flags: c_int,
            mode: libc::mode_t,
        ) -> c_int {
            let next = real::$name();
            let before = errno();
            // SAFETY: the caller's arguments, unchanged.
            let fd = unsafe { next($($before,)? path, flags, mode) };
            if fd == -1 && session::is_vsock_host() {
                let after = errno();
                if is_device(path) {
                    set_errno(before);
                    // SAFETY: a string, in place of the caller's.
                    return unsafe { next($($before,)? c"/dev/null".as_ptr(), flags, mode) };
                }
                set_errno(after);
            }
            fd
        }
    };
}

opening! {
    /// open(2).
    ///
    /// # Safety
    /// As open(2).
    open()
}
opening! {
    /// open64, as open(2).
    ///
    /// # Safety
    /// As open(2).
    open64()
}
opening! {
    /// openat(2).
    ///
    /// # Safety
    /// As openat(2).
    openat(directory: c_int)
}
opening! {
    /// openat64, as openat(2).
    ///
    /// # Safety
    /// As openat(2).
    openat64(directory: c_int)
}
