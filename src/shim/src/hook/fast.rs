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

use super::bind::{begin, note_bind, read_late};
use super::driver;
use super::note::{answered, describe};
use super::{errno, set_errno, sockopt};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::fds::{self, Socket};
use crate::own::{filter, memory, name};
use crate::session::Run;
use crate::sys;

/// May socket(2) go the short way?
#[inline]
pub fn is_socket(run: &Run) -> bool {
    !run.judges_sockets && emit::is_brief(run)
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
#[inline]
pub fn socket(run: &Run, fd: c_int, made: SocketType, flags: u16) -> c_int {
    if fd < 0 {
        return failed_socket(run, made, flags);
    }
    fds::made(fd, made);
    if run.has_option(option::SHOWN_ONLY) {
        return fd;
    }
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
    /// The socket, where the rules wanted to know it.
    socket: Option<Socket>,
    uid: u32,
}

impl Passed {
    /// [`glance`] said so.
    #[inline]
    pub fn unasked(run: &Run) -> Passed {
        match run.looked_at {
            LookedAt::None => Passed::UNASKED,
            _ => Passed::BY_DEFAULT,
        }
    }

    /// There are no rules.
    const UNASKED: Passed = Passed {
        stages: stage::HOOK | stage::ADDRESS,
        rule: RULE_NONE,
        socket: None,
        uid: u32::MAX,
    };
    /// No rule is about that port.
    const BY_DEFAULT: Passed = Passed {
        stages: stage::HOOK | stage::ADDRESS | stage::POLICY,
        rule: RULE_DEFAULT,
        ..Passed::UNASKED
    };
}

/// What the first look at a bind(2) says.
pub enum Glance {
    /// It goes the short way, without a question to the rules.
    Pass,
    /// A rule may have a say about the address, which can be read.
    Ask,
    /// It goes the long way.
    Other,
}

/// The first look at a bind(2): at most at its address.
#[inline]
pub fn glance(run: &Run, addr: *const sockaddr, len: socklen_t) -> Glance {
    if !emit::is_brief(run) {
        return Glance::Other;
    }
    if let LookedAt::None = run.looked_at {
        return Glance::Pass;
    }
    let allowed = filter::allowed();
    match memory::family_and_port(allowed, addr, len) {
        Some((family, port)) if run.looked_at.is_without(family, port) => Glance::Pass,
        Some(_) if memory::is_rest_readable(allowed, addr, len) => Glance::Ask,
        _ => Glance::Other,
    }
}

/// What is foreseen of a bind(2) that a rule may have a say about: `None` where
/// it goes the long way.
///
/// # Safety
/// `len` bytes at `addr` can be read.
#[inline]
pub unsafe fn foresee(
    run: &Run,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
) -> Option<Passed> {
    // SAFETY: the caller has asked about these bytes.
    let asked = unsafe { memory::ip_words(addr, len) }?;
    let caller = driver::caller(run);
    let [first, ..] = asked.words;
    let has_raw = raw_ipv4_of(first.to_ne_bytes(), len as usize).is_some();
    let believed = fds::get(fd).socket();
    match judge::fast::foresee(&caller, &asked, has_raw, believed) {
        Foresight::Passes(rule) => Some(Passed {
            rule,
            ..Passed::BY_DEFAULT
        }),
        Foresight::PassesAsBelieved(rule) => {
            let allowed = filter::allowed();
            let socket = match allowed.may(sys::Call::Getsockopt) {
                true => fds::verify(allowed, fd).ok()?,
                false => return None,
            };
            (socket.ty == believed).then_some(Passed {
                stages: Passed::BY_DEFAULT.stages | stage::IDENTIFY,
                rule,
                socket: Some(socket),
                uid: u32::MAX,
            })
        }
        Foresight::Open => None,
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
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    passed: &Passed,
    flags: u16,
) -> c_int {
    if ret == 0 {
        // SAFETY: the kernel has read the address.
        if let Some(asked) = unsafe { memory::ip_words(addr, len) } {
            guard(Call::Bind, stage::RECORD, || {
                note_ip(run, fd, asked, passed, flags);
            });
            return 0;
        }
    }
    note_other(run, ret, (fd, addr, len), passed, flags)
}

/// An IP address was granted.
#[inline]
fn note_ip(run: &Run, fd: c_int, asked: Words, passed: &Passed, flags: u16) {
    let cached = fds::get(fd);
    let [a, b, c, d, ..] = asked.words[0].to_ne_bytes();
    let mut record = granted(Call::Bind, fd, flags, cached.socket());
    (record.stages, record.rule, record.uid) = (passed.stages, passed.rule, passed.uid);
    let family = u16::from_ne_bytes([a, b]);
    record.options = cached.options();
    if cached.is_valid() {
        record.identity = Identity::Cached;
        fds::bound(fd);
    } else {
        record.socket.domain = family;
    }
    if family == af::INET6 || record.options.has(BindOptions::DEVICE) {
        ask_options(&mut record, &asked, family);
    }
    if let Some(s) = &passed.socket {
        (record.socket, record.identity, record.cookie) = (s.ty, s.identity, s.cookie);
    }
    match u16::from_be_bytes([c, d]) {
        0 => {
            let used = name::local_ip(filter::allowed(), fd).unwrap_or_default();
            emit::granted(run, record, &asked, Some(&used));
        }
        _ => emit::granted(run, record, &asked, None),
    }
}

/// As [`sockopt::complete`], for a record of this kind.
#[cold]
#[inline(never)]
fn ask_options(record: &mut Granted, asked: &Words, family: u16) {
    let is_any = family == af::INET6 && asked.words[1] == 0 && asked.words[2] == 0;
    (record.options, record.device) = sockopt::completed(record.fd, record.options, is_any);
}

/// Another address, or a refusal of the kernel's.
#[cold]
#[inline(never)]
fn note_other(
    run: &Run,
    ret: c_int,
    (fd, addr, len): (c_int, *const sockaddr, socklen_t),
    passed: &Passed,
    flags: u16,
) -> c_int {
    let after = errno();
    let kernel = if ret == 0 { 0 } else { after as u16 };
    guard(Call::Bind, stage::RECORD, || {
        let mut b = begin(Call::Bind, fd, flags);
        // SAFETY: this is what the kernel said of that address.
        unsafe { read_late(&mut b.record, addr, len, kernel) };
        b.record.stages |= passed.stages & !stage::ADDRESS;
        (b.record.rule, b.record.uid) = (passed.rule, passed.uid);
        if let Some(s) = &passed.socket {
            describe(&mut b.record, s.ty);
            (b.record.identity, b.record.cookie) = (s.identity, s.cookie);
        }
        note_bind(run, &mut b, kernel);
    });
    set_errno(after);
    ret
}
