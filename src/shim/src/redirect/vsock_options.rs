//! The options of the family of a vsock socket that is a Unix socket: no scratch
//! socket can be asked about them where the family is refused or unknown.

use core::ffi::c_void;

use bindgate_core::addr::af;
use bindgate_core::uapi::vsock::{self, Options};

use super::alive;
use super::table::Found;
use crate::own::memory;
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// The memory for a value is not there.
const NOT_THERE: Errno = Errno(libc::EFAULT as u16);

/// Is it a Unix socket in the place of a vsock one?
pub fn is_of(found: &Found) -> bool {
    found.is_replaced() && found.moved.socket.domain == af::VSOCK
}

/// What was set on a socket, or on the one that it was accepted from.
fn of(run: &Run, cookies: [u64; 2]) -> Options {
    let mut options = Options::default();
    let table = &run.state.socket_options;
    for name in Options::NAMES {
        let kept = cookies
            .into_iter()
            .find_map(|cookie| table.get(cookie, vsock::LEVEL, name));
        if let Some((value, _)) = kept {
            options.restore(name, &value);
        }
    }
    options
}

/// `SO_VM_SOCKETS_CONNECT_TIMEOUT` in nanoseconds.
pub fn timeout(run: &Run, cookie: u64) -> u64 {
    of(run, [cookie, cookie]).timeout()
}

/// As much as `SO_VM_SOCKETS_BUFFER_SIZE` says may be on its way. `SO_SNDBUF` ends
/// at `net.core.wmem_max`, for a program without `CAP_NET_ADMIN`.
fn make_room(allowed: Allowed, fd: i32, size: u64) {
    let size = i32::try_from(size).unwrap_or(i32::MAX).to_ne_bytes();
    let set = |name| sys::setsockopt(allowed, fd, libc::SOL_SOCKET, name, &size);
    if set(libc::SO_SNDBUFFORCE).is_err() {
        let _ = set(libc::SO_SNDBUF);
    }
}

/// setsockopt(2), of a value that may be anything. `None`: the kernel is to be
/// asked as the program asked.
pub fn set(
    allowed: Allowed,
    run: &Run,
    (fd, found): (i32, &Found),
    (level, name): (i32, i32),
    value: *const c_void,
    len: u32,
) -> Option<Result<(), Errno>> {
    if level == libc::SOL_SOCKET {
        return None;
    }
    let bytes = match Options::reads(level, name, len) {
        Ok(8) => memory::read(allowed, value.cast::<[u64; 1]>()).map(|[word]| [word, 0]),
        Ok(_) => memory::read(allowed, value.cast::<[u64; 2]>()),
        Err(e) => return Some(Err(Errno(e))),
    };
    let Some([first, second]) = bytes else {
        return Some(Err(NOT_THERE));
    };
    let before = of(run, [found.cookie, found.moved.cookie]);
    let mut after = before;
    if let Err(e) = after.set(name, &vsock::bytes([first, second])) {
        return Some(Err(Errno(e)));
    }
    if after.size() != before.size() {
        make_room(allowed, fd, after.size());
    }
    for name in Options::NAMES {
        let value = after.value(name);
        if value != before.value(name) {
            let kept = value.get(..Options::len(name)).unwrap_or(&[]);
            let (cookie, netns) = (found.cookie, found.moved.netns);
            alive::keep_option(allowed, run, cookie, netns, (vsock::LEVEL, name), kept);
        }
    }
    Some(Ok(()))
}

/// getsockopt(2), into memory that may be anything.
///
/// # Safety
/// `value` and `len` are what the program gave for an answer to be written to.
pub unsafe fn get(
    allowed: Allowed,
    run: &Run,
    found: &Found,
    (level, name): (i32, i32),
    value: *mut c_void,
    len: *mut u32,
) -> Result<(), Errno> {
    let room = memory::read(allowed, len.cast::<i32>()).ok_or(NOT_THERE)?;
    let options = of(run, [found.cookie, found.moved.cookie]);
    let (bytes, told) = options.get(level, name, room).map_err(Errno)?;
    let bytes = bytes.get(..told).unwrap_or(&[]);
    let told = (told as u32).to_ne_bytes();
    // SAFETY: as the caller says.
    let is_told = unsafe {
        memory::write(allowed, value, bytes) && memory::write(allowed, len.cast(), &told)
    };
    is_told.then_some(()).ok_or(NOT_THERE)
}

/// Keeps for a new carrier what was set on the old one.
pub fn hand_on(allowed: Allowed, run: &Run, new: i32, [old, cookie]: [u64; 2]) {
    let kept = of(run, [old, old]);
    make_room_of(allowed, new, &kept);
    for name in Options::NAMES {
        let value = kept.value(name);
        if value != Options::default().value(name) {
            let value = value.get(..Options::len(name)).unwrap_or(&[]);
            alive::keep_option(allowed, run, cookie, 0, (vsock::LEVEL, name), value);
        }
    }
}

fn make_room_of(allowed: Allowed, fd: i32, options: &Options) {
    if options.size() != Options::default().size() {
        make_room(allowed, fd, options.size());
    }
}

/// Sets on the kernel's own socket what was kept for its carrier.
pub fn give_back(allowed: Allowed, run: &Run, new: i32, carrier: u64) {
    let kept = of(run, [carrier, carrier]);
    for name in Options::NAMES {
        let value = kept.value(name);
        if value != Options::default().value(name) {
            let value = value.get(..Options::len(name)).unwrap_or(&[]);
            let _ = sys::setsockopt(allowed, new, vsock::LEVEL, name, value);
        }
    }
}
