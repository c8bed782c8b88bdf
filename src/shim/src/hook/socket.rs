//! socket, socketpair: how a socket comes to be.

use core::ffi::c_int;

use bindgate_core::addr::RawAddr;
use bindgate_core::judge::{self, Action};
use bindgate_core::policy::Op;
use bindgate_core::record::{Call, Check, Record, stage};
use bindgate_core::socket::SocketType;

use super::driver::{self, Driver};
use super::note::{answered, describe};
use super::{errno, fast, finish, refuse};
use crate::out::emit;
use crate::out::faults::guard;
use crate::own::{fds, filter};
use crate::session::{self, Run};
use crate::sys::{self, Errno};
use crate::{real, redirect};

/// The errno of a refusal, where a rule refuses the socket.
fn decide_create(run: &Run, ty: SocketType, record: &mut Record) -> Option<Errno> {
    record.stages = stage::HOOK;
    describe(record, ty);
    if run.view.has_rules(Op::Socket)
        && let Some(refused) = decide_by_rules(run, ty, record)
    {
        return Some(refused);
    }
    match run.is_ruled {
        true => redirect::host::create(filter::allowed(), run, ty, record),
        false => None,
    }
}

fn decide_by_rules(run: &Run, ty: SocketType, record: &mut Record) -> Option<Errno> {
    let caller = driver::caller(run);
    let mut call = judge::socket::create(&caller, ty);
    // There is no descriptor yet, and none is asked about.
    Driver::new(run, -1).drive(&mut call);
    match call.verdict().enter(&caller, Op::Socket, None, record) {
        Action::Refuse(errno) => Some(Errno(errno)),
        Action::Forward | Action::Redirect(_) | Action::Restore | Action::OnHost => None,
    }
}

/// socket(2), for libc's name and for `syscall(SYS_socket, …)`.
///
/// # Safety
/// As socket(2).
#[inline(always)]
pub unsafe fn socket_as(domain: c_int, ty: c_int, protocol: c_int, flags: u16) -> c_int {
    let next = real::socket();
    let Some(run) = session::get() else {
        // SAFETY: as the caller's.
        return unsafe { next(domain, ty, protocol) };
    };
    if fast::is_socket(run) {
        fast::prepare_socket(run);
        // SAFETY: as the caller's.
        let fd = unsafe { next(domain, ty, protocol) };
        let made = SocketType::created(domain, ty, protocol);
        return fast::socket(run, fd, made, flags);
    }
    // SAFETY: as the caller's.
    unsafe { judged_socket(run, domain, ty, protocol, flags) }
}

/// socket(2), with rules to be asked.
///
/// # Safety
/// As socket(2).
// `extern "C"`: the compiler knows from the start that nothing unwinds out of it,
// and the hook stays a jump.
#[allow(improper_ctypes_definitions)]
#[inline(never)]
unsafe extern "C" fn judged_socket(
    run: &Run,
    domain: c_int,
    ty: c_int,
    protocol: c_int,
    flags: u16,
) -> c_int {
    let next = real::socket();
    let made = SocketType::created(domain, ty, protocol);
    let before = errno();
    let mut record = Record::new(Call::Socket);
    record.flags = flags;
    let plan = guard(Call::Socket, stage::POLICY, || {
        decide_create(run, made, &mut record)
    });
    if let Some(Some(e)) = plan {
        guard(Call::Socket, stage::RECORD, || emit::emit(run, &mut record));
        return refuse(e);
    }
    let carrier = guard(Call::Socket, stage::IDENTIFY, || {
        make_carrier(run, (domain, ty, protocol), made, &mut record)
    });
    let (fd, after) = match carrier.flatten() {
        Some(Ok(fd)) => (fd, before),
        Some(Err(e)) => (-1, c_int::from(e.0)),
        None => {
            // SAFETY: as the caller's.
            let fd = unsafe { next(domain, ty, protocol) };
            let after = errno();
            if fd >= 0 {
                fds::made(fd, made);
                if run.is_ruled {
                    redirect::host::made(filter::allowed(), fd, &record);
                }
            }
            (fd, after)
        }
    };
    if plan.is_some() {
        guard(Call::Socket, stage::RECORD, || {
            record.fd = fd;
            if record.stages & stage::MODEL == 0 {
                answered(&mut record, if fd < 0 { after as u16 } else { 0 });
            }
            emit::emit(run, &mut record);
        });
    }
    finish(fd, before, after)
}

/// Makes a Unix socket in the place of the one that was asked for, where the
/// judge says so and it can be kept; the answer for the program.
#[inline(never)]
fn make_carrier(
    run: &Run,
    (domain, ty, protocol): (c_int, c_int, c_int),
    made: SocketType,
    record: &mut Record,
) -> Option<Result<c_int, Errno>> {
    let allowed = filter::allowed();
    let carrier = match judge::socket::carrier(&driver::caller(run), domain, ty, protocol) {
        Ok(carrier) => carrier.filter(|_| redirect::may_make_carrier(allowed))?,
        Err(e) => {
            // The run's vsock host says so, not the kernel.
            record.stages |= stage::MODEL;
            (record.check, record.errno) = (Check::SockCreate, e);
            return Some(Err(Errno(e)));
        }
    };
    record.stages |= stage::POLICY;
    let fd = match sys::socket(allowed, c_int::from(carrier.domain), ty, 0) {
        Ok(fd) => fd,
        Err(e) => return Some(Err(e)),
    };
    if redirect::carrier_made(allowed, run, fd, made, record) {
        fds::made(fd, carrier);
        return Some(Ok(fd));
    }
    record.used = RawAddr::EMPTY;
    sys::close(allowed, fd);
    None
}

/// socketpair(2).
///
/// # Safety
/// As socketpair(2).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn socketpair(
    domain: c_int,
    ty: c_int,
    protocol: c_int,
    pair: *mut c_int,
) -> c_int {
    let next = real::socketpair();
    let before = errno();
    let Some(run) = session::get() else {
        // SAFETY: as the caller's.
        return unsafe { next(domain, ty, protocol, pair) };
    };
    let made = SocketType::created(domain, ty, protocol);
    let mut record = Record::new(Call::Socketpair);
    let plan = guard(Call::Socketpair, stage::POLICY, || {
        decide_create(run, made, &mut record)
    });
    if let Some(Some(e)) = plan {
        guard(Call::Socketpair, stage::RECORD, || {
            emit::emit(run, &mut record);
        });
        return refuse(e);
    }
    // SAFETY: as the caller's.
    let ret = unsafe { next(domain, ty, protocol, pair) };
    let after = errno();
    if ret == 0 {
        // SAFETY: the kernel has just written two descriptors there.
        let (a, b) = unsafe { (pair.read_unaligned(), pair.add(1).read_unaligned()) };
        for fd in [a, b] {
            fds::made(fd, made);
            // A connected pair needs no name: nothing will be bound for it.
            fds::bound(fd);
        }
    }
    if plan.is_some() {
        guard(Call::Socketpair, stage::RECORD, || {
            answered(&mut record, if ret < 0 { after as u16 } else { 0 });
            emit::emit(run, &mut record);
        });
    }
    finish(ret, before, after)
}
