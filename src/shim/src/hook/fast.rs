//! The fast path: a socket that no rule is about, a bind that the rules let
//! pass. They are forwarded and noted with as little work as can be;
//! whatever is out of the ordinary goes the long way through [`super::socket`] and [`super::bind`].

use core::ffi::c_int;

use bindgate_core::addr::af;
use bindgate_core::judge::fast::{Foresight, LookedAt};
use bindgate_core::judge::{self, raw_ipv4_of};
use bindgate_core::record::{
    Call, Granted, Identity, RULE_DEFAULT, RULE_NONE, Record, Words, stage,
};
use bindgate_core::shared::option;
use bindgate_core::socket::{BindOptions, SocketType};
use libc::{sockaddr, socklen_t};

use super::bind::{begin_here, note_bind, read_late};
use super::driver;
use super::note::{answered, describe};
use super::{errno, set_errno, sockopt};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::fds::{self, Socket};
use crate::own::{filter, memory, name};
use crate::session::Run;
use crate::sys::{self, Allowed};

/// May socket(2) go the short way?
#[inline]
pub fn is_socket(run: &Run) -> bool {
    !run.judges_sockets && emit::brief(run).is_some()
}

/// Makes ready for [`socket`], if that will have something to note.
#[inline]
pub fn prepare_socket(run: &Run) {
    if !run.has_option(option::SHOWN_ONLY) {
        emit::prepare(run);
    }
}

/// socket(2) has come back with `fd`: notes it. The answer for the program,
/// with errno as the forward left it.
#[inline(always)]
pub fn socket(run: &Run, fd: c_int, made: SocketType, flags: u16) -> c_int {
    if fd < 0 {
        return failed_socket(run, made, flags);
    }
    fds::made(fd, made);
    if run.has_option(option::SHOWN_ONLY) {
        return fd;
    }
    note_socket(run, fd, made, flags)
}

/// Every socket is recorded.
#[inline(never)]
fn note_socket(run: &Run, fd: c_int, made: SocketType, flags: u16) -> c_int {
    guard(Call::Socket, stage::RECORD, || {
        let record = granted(Call::Socket, fd, flags, made);
        emit::granted(run, record, Words::default(), None);
    });
    fd
}

#[cold]
#[inline(never)]
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
        cookie: 0,
        uid: u32::MAX,
        options: BindOptions(0),
        device: 0,
    }
}

/// A bind that is to be forwarded as it is, and what its record says of that.
#[derive(Clone, Copy)]
pub struct Passed {
    stages: u16,
    rule: u32,
    /// The socket, where more is known of it than the cache says.
    socket: Option<Socket>,
}

impl Passed {
    /// There are no rules.
    const UNASKED: Passed = Passed {
        stages: stage::HOOK | stage::ADDRESS,
        rule: RULE_NONE,
        socket: None,
    };
    /// No rule is about that port.
    const BY_DEFAULT: Passed = Passed {
        stages: stage::HOOK | stage::ADDRESS | stage::POLICY,
        rule: RULE_DEFAULT,
        ..Passed::UNASKED
    };
}

static UNASKED: Passed = Passed::UNASKED;
static BY_DEFAULT: Passed = Passed::BY_DEFAULT;

/// What the first look at a bind(2) says.
pub enum Glance {
    /// It goes the short way, without a question to the rules.
    Pass(&'static Passed),
    /// A rule may have a say about the address, which can be read.
    Ask,
    /// It goes the long way.
    Other,
}

/// The first look at a bind(2): at most at its address.
#[inline(always)]
pub fn glance(run: &Run, addr: *const sockaddr, len: socklen_t) -> Glance {
    let Some(allowed) = emit::brief(run) else {
        return Glance::Other;
    };
    if let LookedAt::None = run.looked_at {
        return Glance::Pass(&UNASKED);
    }
    match memory::family_and_port(allowed, addr, len) {
        Some((family, port)) if run.looked_at.is_without(family, port) => Glance::Pass(&BY_DEFAULT),
        Some(_) if run.looked_at.may_foresee() && memory::is_rest_readable(allowed, addr, len) => {
            Glance::Ask
        }
        _ => Glance::Other,
    }
}

/// What is foreseen of a bind(2) that a rule may have a say about: `None` where
/// it goes the long way.
///
/// # Safety
/// `len` bytes at `addr` can be read.
#[inline(always)]
pub unsafe fn foresee(
    run: &Run,
    fd: c_int,
    addr: *const sockaddr,
    len: socklen_t,
) -> Option<Passed> {
    // SAFETY: the caller has asked about these bytes.
    let asked = unsafe { memory::ip_words(addr, len) }?;
    let caller = driver::caller(run);
    let [first, ..] = asked.words;
    let has_raw = raw_ipv4_of(first.to_ne_bytes(), len as usize).is_some();
    let cached = fds::get(fd);
    match judge::fast::foresee(&caller, &asked, has_raw, cached.socket()) {
        Foresight::Passes(rule) => Some(Passed {
            rule,
            ..Passed::BY_DEFAULT
        }),
        Foresight::PassesAsBelieved(rule) => {
            let passed = Passed {
                stages: Passed::BY_DEFAULT.stages | stage::IDENTIFY,
                rule,
                socket: None,
            };
            let allowed = filter::allowed();
            match fds::is_as_cached(allowed, fd, cached) {
                Some(_) => Some(passed),
                None => named(allowed, fd, cached, passed),
            }
        }
        Foresight::Open => None,
    }
}

/// The same of a socket that somebody asked about before, or of one that is not
/// what it was believed to be.
#[inline(never)]
fn named(allowed: Allowed, fd: c_int, cached: fds::Entry, passed: Passed) -> Option<Passed> {
    if !allowed.may(sys::Call::Getsockopt) {
        return None;
    }
    let socket = fds::verify(allowed, fd).ok()?;
    (socket.ty == cached.socket()).then_some(Passed {
        socket: Some(socket),
        ..passed
    })
}

/// bind(2) has come back with `ret`: notes it. The answer for the program, with
/// errno as the forward left it.
///
/// # Safety
/// `ret` is the kernel's answer for `len` bytes at `addr`.
#[inline(always)]
pub unsafe fn bind(
    run: &Run,
    ret: c_int,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    passed: &Passed,
) -> c_int {
    if ret == 0 {
        // SAFETY: the kernel has read the address.
        unsafe { granted_bind(run, fd, addr, len, passed) }
    } else {
        note_other(run, ret, (fd, addr, len), passed)
    }
}

/// bind(2) was granted.
///
/// # Safety
/// The kernel has read `len` bytes at `addr`.
#[inline(never)]
unsafe fn granted_bind(
    run: &Run,
    fd: c_int,
    addr: *const sockaddr,
    len: socklen_t,
    passed: &Passed,
) -> c_int {
    // SAFETY: as the caller says.
    match unsafe { memory::ip_words(addr, len) } {
        Some(asked) => {
            guard(Call::Bind, stage::RECORD, || {
                note_ip(run, fd, asked, passed);
            });
            0
        }
        None => note_other(run, 0, (fd, addr, len), passed),
    }
}

/// An IP address was granted.
#[inline(always)]
fn note_ip(run: &Run, fd: c_int, asked: Words, passed: &Passed) {
    let cached = fds::get(fd);
    fds::bound_as(fd, cached);
    let plain = asked.len == 16
        && cached.is_valid()
        && !cached.options().has(BindOptions::DEVICE)
        && passed.socket.is_none();
    if !plain {
        return note_more(run, fd, asked, passed);
    }
    if asked.port() == 0 {
        let [first, second, ..] = asked.words;
        return note_auto(run, fd, first, second, passed);
    }
    let asked = Words { len: 16, ..asked };
    emit::granted(run, known(fd, passed), asked, None);
}

/// As [`note_ip`], for an IPv4 address whose port the kernel chose.
#[inline(never)]
fn note_auto(run: &Run, fd: c_int, first: u64, second: u64, passed: &Passed) {
    let asked = Words {
        words: [first, second, 0, 0],
        len: 16,
    };
    match name::local_ip(filter::allowed(), fd) {
        Ok(used) if used.len == 16 => {
            let used = Words { len: 16, ..used };
            emit::granted(run, known(fd, passed), asked, Some(used));
        }
        _ => note_more(run, fd, asked, passed),
    }
}

/// What is granted to a socket that the cache knows.
#[inline(always)]
fn known(fd: c_int, passed: &Passed) -> Granted {
    let cached = fds::get(fd);
    Granted {
        identity: Identity::Cached,
        stages: passed.stages,
        rule: passed.rule,
        options: cached.options(),
        ..granted(Call::Bind, fd, 0, cached.socket())
    }
}

/// As [`note_ip`], where the record says more.
#[inline(never)]
fn note_more(run: &Run, fd: c_int, asked: Words, passed: &Passed) {
    let cached = fds::get(fd);
    let family = asked.family();
    let mut record = granted(Call::Bind, fd, 0, cached.socket());
    (record.stages, record.rule) = (passed.stages, passed.rule);
    record.options = cached.options();
    if cached.is_valid() {
        record.identity = Identity::Cached;
    } else {
        record.socket.domain = family;
    }
    if family == af::INET6 || record.options.has(BindOptions::DEVICE) {
        let is_any6 = family == af::INET6 && asked.words[1] == 0 && asked.words[2] == 0;
        (record.options, record.device) = sockopt::completed(fd, record.options, is_any6);
    }
    if let Some(s) = &passed.socket {
        (record.socket, record.identity, record.cookie) = (s.ty, s.identity, s.cookie);
    }
    let used = match asked.port() {
        0 => Some(name::local_ip(filter::allowed(), fd).unwrap_or_default()),
        _ => None,
    };
    emit::granted(run, record, asked, used);
}

/// Another address, or a refusal of the kernel's.
#[cold]
#[inline(never)]
fn note_other(
    run: &Run,
    ret: c_int,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    passed: &Passed,
) -> c_int {
    let after = errno();
    let kernel = if ret == 0 { 0 } else { after as u16 };
    guard(Call::Bind, stage::RECORD, || {
        let mut b = begin_here(Call::Bind, fd, 0);
        // SAFETY: this is what the kernel said of that address.
        unsafe { read_late(&mut b.record, addr, len, kernel) };
        b.record.stages |= passed.stages & !stage::ADDRESS;
        b.record.rule = passed.rule;
        if let Some(s) = &passed.socket {
            describe(&mut b.record, s.ty);
            (b.record.identity, b.record.cookie) = (s.identity, s.cookie);
        }
        note_bind(run, &mut b, kernel);
    });
    set_errno(after);
    ret
}
