//! The common case: a socket that no rule is about, a bind to a port that no
//! rule is about. They are forwarded and noted with as little work as can be;
//! whatever is out of the ordinary goes the long way through [`super::socket`].

use core::ffi::c_int;

use bindgate_core::addr::af;
use bindgate_core::record::{
    Call, Granted, Identity, RULE_DEFAULT, RULE_NONE, Record, Words, stage,
};
use bindgate_core::socket::SocketType;
use libc::{sockaddr, socklen_t};

use super::socket::{answered, begin, describe, note_bind, read_late};
use super::{errno, set_errno};
use crate::faults::guard;
use crate::run::{LookedAt, Run};
use crate::{emit, fds, memory, sys};

/// May socket(2) go the short way?
#[inline]
pub fn is_socket(run: &Run) -> bool {
    !run.has_socket_rules && emit::is_brief(run)
}

/// socket(2) has come back with `fd`: notes it. The answer for the program,
/// with errno as the forward left it.
#[inline]
pub fn socket(run: &Run, fd: c_int, made: SocketType, flags: u16) -> c_int {
    if fd < 0 {
        return failed_socket(run, made, flags);
    }
    fds::made(fd, made);
    guard(Call::Socket, stage::RECORD, || {
        let record = granted(Call::Socket, fd, flags, made);
        emit::granted(run, record, &Words::default(), None);
    });
    fd
}

#[cold]
fn failed_socket(run: &Run, made: SocketType, flags: u16) -> c_int {
    let after = errno();
    guard(Call::Socket, stage::RECORD, || {
        let mut record = Record::new(Call::Socket);
        record.flags = flags;
        record.stages = stage::HOOK;
        describe(&mut record, made);
        answered(&mut record, after as u16);
        emit::emit(run, &mut record);
    });
    set_errno(after);
    -1
}

/// A granted call; [`emit::granted`] fills in who and when.
#[inline]
fn granted(call: Call, fd: c_int, flags: u16, socket: SocketType) -> Granted {
    Granted {
        time_ns: 0,
        pid: 0,
        tid: 0,
        process: 0,
        fd,
        call,
        identity: Identity::None,
        flags,
        stages: stage::HOOK,
        socket,
        rule: RULE_NONE,
    }
}

/// May bind(2) go the short way? No rule has a say in it, whatever the socket
/// is: only the port is looked at.
#[inline]
pub fn is_bind(run: &Run, addr: *const sockaddr, len: socklen_t) -> bool {
    emit::is_brief(run)
        && match run.looked_at {
            LookedAt::None => true,
            LookedAt::All => false,
            LookedAt::Ports(ports) => match memory::family_and_port(addr, len) {
                Some((af::INET | af::INET6, port)) => {
                    let word = ports.get(usize::from(port / 64));
                    word.is_some_and(|word| word >> (port % 64) & 1 == 0)
                }
                _ => false,
            },
        }
}

/// bind(2) has come back with `ret`: notes it. The answer for the program, with
/// errno as the forward left it.
///
/// # Safety
/// `ret` is the kernel's answer for `len` bytes at `addr`.
#[inline]
pub unsafe fn bind(
    run: &Run,
    ret: c_int,
    fd: c_int,
    addr: *const sockaddr,
    len: socklen_t,
    flags: u16,
) -> c_int {
    if ret == 0 {
        // SAFETY: the kernel has read the address.
        if let Some(asked) = unsafe { memory::ip_words(addr, len) } {
            guard(Call::Bind, stage::RECORD, || note_ip(run, fd, asked, flags));
            return 0;
        }
    }
    note_other(run, ret, fd, addr, len, flags)
}

/// An IP address was granted.
#[inline]
fn note_ip(run: &Run, fd: c_int, asked: Words, flags: u16) {
    let cached = fds::get(fd);
    let [a, b, c, d, ..] = asked.words[0].to_ne_bytes();
    let mut record = granted(Call::Bind, fd, flags, cached.socket());
    if cached.is_valid() {
        record.identity = Identity::Cached;
        fds::bound(fd);
    } else {
        record.socket.domain = u16::from_ne_bytes([a, b]);
    }
    (record.stages, record.rule) = passed(run);
    match u16::from_be_bytes([c, d]) {
        0 => {
            let used = sys::getsockname_ip(fd).unwrap_or_default();
            emit::granted(run, record, &asked, Some(&used));
        }
        _ => emit::granted(run, record, &asked, None),
    }
}

/// The stages that a bind went through before the forward, and the rule that
/// let it pass.
fn passed(run: &Run) -> (u16, u32) {
    match run.looked_at {
        LookedAt::None => (stage::HOOK | stage::ADDRESS, RULE_NONE),
        _ => (stage::HOOK | stage::ADDRESS | stage::POLICY, RULE_DEFAULT),
    }
}

/// Another address, or a refusal of the kernel's.
#[cold]
#[inline(never)]
fn note_other(
    run: &Run,
    ret: c_int,
    fd: c_int,
    addr: *const sockaddr,
    len: socklen_t,
    flags: u16,
) -> c_int {
    let after = errno();
    let kernel = if ret == 0 { 0 } else { after as u16 };
    guard(Call::Bind, stage::RECORD, || {
        let mut b = begin(Call::Bind, fd, flags);
        read_late(&mut b.record, addr, len, kernel);
        let (stages, rule) = passed(run);
        b.record.stages |= stages & !stage::ADDRESS;
        b.record.rule = rule;
        note_bind(run, &mut b, kernel);
    });
    set_errno(after);
    ret
}
