//! close, dup, fcntl, recvmsg, epoll_ctl, prctl: where descriptors come and
//! go. They keep the cache fresh, make no system call of their own and decide
//! nothing.

use core::ffi::{c_int, c_uint, c_void};

use bindgate_core::record::{Call, stage};
use libc::{cmsghdr, mmsghdr, msghdr, ssize_t};

use super::{block, errno, set_errno, vsock};
use crate::out::faults::guard;
use crate::own::filter::{self, Scope};
use crate::own::{fds, process};
use crate::{real, session};

/// close(2). The entry goes first: afterwards the number may already be
/// somebody else's.
///
/// # Safety
/// As close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn close(fd: c_int) -> c_int {
    fds::forget(fd);
    // SAFETY: as the caller's.
    unsafe { real::close()(fd) }
}

/// close_range(2), which can also set close-on-exec instead.
///
/// # Safety
/// As close_range(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 && first <= last {
        fds::forget_range(first, last);
    }
    // SAFETY: as the caller's.
    unsafe { real::close_range()(first, last, flags) }
}

/// closefrom(3).
///
/// # Safety
/// As closefrom(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn closefrom(first: c_int) {
    fds::forget_range(first.max(0) as c_uint, c_uint::MAX);
    // SAFETY: as the caller's.
    unsafe { real::closefrom()(first) }
}

/// A call that makes another descriptor of `old`, and gives it back.
// What is not cached has no entry to copy: after the call nothing is left to be
// known but where it went.
#[inline(always)]
fn duplicating(old: c_int, call: impl Fn() -> c_int) -> c_int {
    #[inline(never)]
    fn of_cached(old: c_int, call: impl Fn() -> c_int) -> c_int {
        let new = call();
        if new >= 0 {
            fds::copied(old, new);
        }
        new
    }
    if fds::is_cached(old) {
        return of_cached(old, call);
    }
    let new = call();
    fds::forget(new);
    new
}

/// dup(2).
///
/// # Safety
/// As dup(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup(old: c_int) -> c_int {
    // SAFETY: as the caller's.
    duplicating(old, move || unsafe { real::dup()(old) })
}

/// dup2(2).
///
/// # Safety
/// As dup2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup2(old: c_int, new: c_int) -> c_int {
    // SAFETY: as the caller's.
    duplicating(old, move || unsafe { real::dup2()(old, new) })
}

/// dup3(2).
///
/// # Safety
/// As dup3(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    // SAFETY: as the caller's.
    duplicating(old, move || unsafe { real::dup3()(old, new, flags) })
}

/// fcntl(2), whose third argument is passed on as it came: on the ABIs that we
/// build for a variadic argument travels as a fixed one would, and only `cmd`
/// says whether there was one.
///
/// # Safety
/// As fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fcntl(fd: c_int, cmd: c_int, arg: *mut c_void) -> c_int {
    let next = real::fcntl();
    if matches!(cmd, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) {
        // SAFETY: as the caller's.
        return unsafe { duplicate(fd, cmd, arg, next) };
    }
    // SAFETY: as the caller's.
    unsafe { next(fd, cmd, arg) }
}

/// fcntl(2) by the name that programs with 64-bit file offsets use.
///
/// # Safety
/// As fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fcntl64(fd: c_int, cmd: c_int, arg: *mut c_void) -> c_int {
    let next = real::fcntl64();
    if matches!(cmd, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) {
        // SAFETY: as the caller's.
        return unsafe { duplicate(fd, cmd, arg, next) };
    }
    // SAFETY: as the caller's.
    unsafe { next(fd, cmd, arg) }
}

/// The next library's fcntl(2).
type Fcntl = unsafe extern "C-unwind" fn(c_int, c_int, *mut c_void) -> c_int;

/// fcntl(2) with a command that makes another descriptor.
///
/// # Safety
/// As fcntl(2), which `next` is.
#[inline(never)]
unsafe fn duplicate(fd: c_int, cmd: c_int, arg: *mut c_void, next: Fcntl) -> c_int {
    if fds::is_cached(fd) {
        // SAFETY: as the caller's.
        return unsafe { duplicate_cached(fd, cmd, arg, next) };
    }
    // SAFETY: as the caller's.
    let new = unsafe { next(fd, cmd, arg) };
    fds::forget(new);
    new
}

/// The same of a descriptor that has an entry.
///
/// # Safety
/// As fcntl(2), which `next` is.
#[inline(never)]
unsafe fn duplicate_cached(fd: c_int, cmd: c_int, arg: *mut c_void, next: Fcntl) -> c_int {
    // SAFETY: as the caller's.
    let new = unsafe { next(fd, cmd, arg) };
    if new >= 0 {
        fds::copied(fd, new);
    }
    new
}

/// recvmsg(2): descriptors that arrive are nobody's we know.
///
/// # Safety
/// As recvmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvmsg(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    if session::is_host() {
        // SAFETY: as the caller's.
        return unsafe { recvmsg_on_host(fd, msg, flags) };
    }
    let next = real::recvmsg();
    // SAFETY: as the caller's.
    let ret = unsafe { next(fd, msg, flags) };
    // SAFETY: the kernel has just filled the message in.
    if ret >= 0 && unsafe { has_control(msg) } {
        // SAFETY: as above.
        return unsafe { received(msg, ret) };
    }
    ret
}

/// recvmsg(2), where vsock sockets are Unix sockets.
///
/// # Safety
/// As recvmsg(2).
#[cold]
#[inline(never)]
unsafe fn recvmsg_on_host(fd: c_int, msg: *mut msghdr, flags: c_int) -> ssize_t {
    let room = block::room(msg.cast_const());
    // SAFETY: as the caller's.
    let ret = unsafe { real::recvmsg()(fd, msg, flags) };
    if ret >= 0 {
        // SAFETY: the kernel has just filled the message in.
        unsafe {
            arrived(msg);
            vsock::arrived(fd, msg);
            block::arrived(fd, msg, room);
        }
    }
    vsock::received(fd, ret)
}

/// recvmsg(2) has come back with control data. Gives its answer back.
///
/// # Safety
/// The kernel has just filled the message in.
#[inline(never)]
unsafe fn received(msg: *const msghdr, ret: ssize_t) -> ssize_t {
    // SAFETY: as the caller's.
    unsafe { arrived(msg) };
    // If the compiler knew that it is the argument, recvmsg would keep it, and
    // not jump here.
    core::hint::black_box(ret)
}

/// recvmmsg(2).
///
/// # Safety
/// As recvmmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn recvmmsg(
    fd: c_int,
    msgs: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    let next = real::recvmmsg();
    if session::has_block() {
        // SAFETY: as the caller's.
        return unsafe { block::recvmmsg(fd, msgs, count, flags, timeout) };
    }
    // SAFETY: as the caller's.
    let ret = unsafe { next(fd, msgs, count, flags, timeout) };
    for n in 0..usize::try_from(ret).unwrap_or(0) {
        // SAFETY: the kernel has just filled in this many messages.
        unsafe { arrived(&raw mut (*msgs.add(n)).msg_hdr) };
        if session::is_vsock_host() {
            // SAFETY: as above.
            unsafe { vsock::arrived(fd, &raw mut (*msgs.add(n)).msg_hdr) };
        }
    }
    ret
}

/// Forgets what was cached under the numbers of descriptors that a message
/// brought. The kernel does not mind where the message and its control data
/// lie; C's own macros want them aligned.
///
/// # Safety
/// The kernel has just filled the message in.
pub unsafe fn arrived(msg: *const msghdr) {
    // SAFETY: as the caller's.
    if unsafe { has_control(msg) } {
        guard(Call::Fault, stage::IDENTIFY, || {
            // SAFETY: as the caller's.
            unsafe { forget_arrived(msg) };
        });
    }
}

/// Did control data come with the message?
///
/// # Safety
/// The kernel has just filled the message in.
#[inline(always)]
unsafe fn has_control(msg: *const msghdr) -> bool {
    // SAFETY: as the caller's; it need not be aligned.
    unsafe { (&raw const (*msg).msg_controllen).read_unaligned() != 0 }
}

/// # Safety
/// The kernel has just filled the message in.
unsafe fn forget_arrived(msg: *const msghdr) {
    // SAFETY: as the caller's.
    unsafe { each_arrived(&msg.read_unaligned(), fds::forget) }
}

/// The descriptors that a message brought.
///
/// # Safety
/// The kernel has just filled the message in.
#[inline(always)]
pub unsafe fn each_arrived(msg: &msghdr, mut visit: impl FnMut(c_int)) {
    let visit_all = |header: &cmsghdr, data: *mut u8| {
        if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            return;
        }
        for n in 0..(header.cmsg_len - HEADER) / size_of::<c_int>() {
            // SAFETY: within the length of this control message.
            visit(unsafe { data.cast::<c_int>().add(n).read_unaligned() });
        }
    };
    // SAFETY: the kernel filled in as many bytes as it says.
    unsafe { each_control(msg.msg_control.cast(), msg.msg_controllen, visit_all) }
}

/// Bytes of the header of a control message.
pub const HEADER: usize = size_of::<cmsghdr>();

/// The control messages in `len` bytes: the header of each, whose length is within
/// them, and where its data is.
///
/// # Safety
/// `len` bytes at `at` can be read, unless it is null.
#[inline(always)]
pub unsafe fn each_control(mut at: *mut u8, len: usize, mut visit: impl FnMut(&cmsghdr, *mut u8)) {
    let mut left = len;
    while left >= HEADER && !at.is_null() {
        // SAFETY: as the caller says; it need not be aligned.
        let header = unsafe { at.cast::<cmsghdr>().read_unaligned() };
        let len = header.cmsg_len;
        if !(HEADER..=left).contains(&len) {
            return;
        }
        visit(&header, at.wrapping_add(HEADER));
        let next = len.next_multiple_of(size_of::<usize>()).min(left);
        at = at.wrapping_add(next);
        left -= next;
    }
}

/// epoll_ctl(2): a socket that nobody watches need not be looked for in epoll
/// instances when it is replaced.
///
/// # Safety
/// As epoll_ctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn epoll_ctl(
    ep: c_int,
    op: c_int,
    fd: c_int,
    event: *mut libc::epoll_event,
) -> c_int {
    let next = real::epoll_ctl();
    if op == libc::EPOLL_CTL_ADD {
        fds::watched(fd);
    }
    // SAFETY: as the caller's.
    unsafe { next(ep, op, fd, event) }
}

/// prctl(2): what the program forbids itself by it, it forbids us.
///
/// # Safety
/// As prctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn prctl(
    option: c_int,
    a: *mut c_void,
    b: *mut c_void,
    c: *mut c_void,
    d: *mut c_void,
) -> c_int {
    if matches!(option, libc::PR_SET_TSC | libc::PR_SET_SECCOMP) {
        // SAFETY: as the caller's.
        return unsafe { restricting_prctl(option, a, b, c, d) };
    }
    // SAFETY: as the caller's.
    unsafe { real::prctl()(option, a, b, c, d) }
}

/// prctl(2) with an option that takes something away from us too.
///
/// # Safety
/// As prctl(2).
#[cold]
#[inline(never)]
unsafe fn restricting_prctl(
    option: c_int,
    a: *mut c_void,
    b: *mut c_void,
    c: *mut c_void,
    d: *mut c_void,
) -> c_int {
    // SAFETY: as the caller's.
    let call = || unsafe { real::prctl()(option, a, b, c, d) };
    if option == libc::PR_SET_SECCOMP {
        return filtering(Scope::Thread, |ret| ret >= 0, || call() as isize) as c_int;
    }
    if a as c_int == libc::PR_TSC_SIGSEGV {
        // From here on reading it is a SIGSEGV, in this thread and in those
        // that it starts.
        crate::own::time::keep();
        process::forbid_counter();
    }
    call()
}

/// seccomp(2), by way of syscall(2): most of its operations only ask.
///
/// # Safety
/// As seccomp(2), which `call` makes.
pub unsafe fn seccomp(operation: c_uint, flags: c_uint, call: impl FnOnce() -> isize) -> isize {
    const SET_MODE_STRICT: c_uint = libc::SECCOMP_SET_MODE_STRICT;
    const SET_MODE_FILTER: c_uint = libc::SECCOMP_SET_MODE_FILTER;
    let has = |flag: libc::c_ulong| u64::from(flags) & flag != 0;
    let all = operation == SET_MODE_FILTER && has(libc::SECCOMP_FILTER_FLAG_TSYNC);
    let scope = match operation {
        SET_MODE_STRICT | SET_MODE_FILTER if all => Scope::Process,
        SET_MODE_STRICT | SET_MODE_FILTER => Scope::Thread,
        _ => return call(),
    };
    // The descriptor of a listener, or, where all threads were to be bound, the
    // id of one that cannot be.
    let listens = has(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    filtering(scope, |ret| ret == 0 || ret > 0 && (!all || listens), call)
}

/// A call that may put the program under a seccomp filter.
fn filtering(
    scope: Scope,
    is_done: impl FnOnce(isize) -> bool,
    call: impl FnOnce() -> isize,
) -> isize {
    let before = errno();
    let state = guard(Call::Fault, stage::HOOK, || filter::begin(scope));
    set_errno(before);
    let ret = call();
    let done = is_done(ret);
    match &state {
        Some(state) => filter::end(state, done),
        // A fault kept us from knowing what was so before: nothing may be
        // asked any more.
        None if done => filter::set(crate::sys::Allowed::NONE),
        None => {}
    }
    ret
}
