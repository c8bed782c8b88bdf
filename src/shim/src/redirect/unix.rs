//! Putting a Unix socket in the place of one of another family.
//!
//! The new socket takes every descriptor number that the old one has in this
//! process, its flags, its options and its epoll registrations. All of that is
//! read from the kernel at the moment of the move, not from what hooks saw.
//! Between the first and the last descriptor another thread could see one of
//! each kind; no program binds and uses a socket at the same time.

use bindgate_core::addr::{Addr, RawAddr, UnixKind, UnixName, af};
use bindgate_core::record::{Check, Record, flag, refusal, stage};
use bindgate_core::socket::SocketType;

use super::{Placing, enter, holders, options};
use crate::own::{fds, name, text};
use crate::session::Run;
use crate::sys::{self, Allowed, Errno};

/// Descriptors and registrations that one move can carry over.
const MOST: usize = 16;

/// Binds a new Unix socket to the target and puts it at `fd`.
#[inline(never)]
pub fn replace(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    placing: &Placing,
    record: &mut Record,
) -> Result<(), Errno> {
    let fail = |record: &mut Record, e: i32, why: u16| {
        record.check = Check::MoveRefused;
        record.reason = why;
        Err(Errno(e as u16))
    };
    let was = placing.socket.ty;
    if !was.is_stream() {
        return fail(record, libc::EOPNOTSUPP, refusal::DATAGRAM);
    }
    let inode = sys::inode(allowed, fd)?;
    if holders::is_shared(allowed, inode) {
        return fail(record, libc::EADDRNOTAVAIL, refusal::SHARED);
    }
    let Some(Addr::Unix(name)) = placing.real.read() else {
        return fail(record, libc::EAFNOSUPPORT, refusal::FAMILY);
    };
    if !make_way(allowed, &name) {
        return fail(record, libc::EADDRINUSE, refusal::PATH);
    }
    let new = sys::socket(
        allowed,
        af::UNIX.into(),
        i32::from(was.ty) | libc::SOCK_CLOEXEC,
        0,
    )?;
    let bound = move_in(allowed, run, fd, new, inode, placing);
    sys::close(allowed, new);
    record.stages |= stage::FORWARD;
    record.flags |= flag::FORWARDED;
    match bound {
        Ok((cookie, real)) => {
            record.used = real;
            enter(allowed, run, fd, placing, cookie, real, record.rule);
            fds::made(
                fd,
                SocketType {
                    domain: af::UNIX,
                    ty: was.ty,
                    protocol: 0,
                },
            );
            Ok(())
        }
        Err(e) => {
            record.used = placing.real;
            record.kernel = e.0;
            record.check = Check::UnixBind;
            Err(e)
        }
    }
}

/// Removes a socket file that nobody is bound to any more; `false` if
/// something else is in the way.
pub fn make_way(allowed: Allowed, name: &UnixName) -> bool {
    if name.kind != UnixKind::Path {
        return true;
    }
    let mut path = [0u8; 110];
    let Some(path) = holders::join(&mut path, &[name.bytes()]) else {
        return false;
    };
    match sys::stat(allowed, path) {
        Err(_) => true,
        Ok(st) if st.st_mode & libc::S_IFMT == libc::S_IFSOCK => {
            is_abandoned(allowed, name) && sys::unlink(allowed, path).is_ok()
        }
        Ok(_) => false,
    }
}

/// Is nobody bound to the socket file of this name? The file counts and not how
/// it is spelt, nor the network name space that the socket is in.
///
/// A datagram socket asks: `unix_find_other` refuses it with `ECONNREFUSED` only
/// where there is nobody, and a server of another type hears nothing of it.
fn is_abandoned(allowed: Allowed, name: &UnixName) -> bool {
    let Ok(fd) = sys::socket(
        allowed,
        af::UNIX.into(),
        libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
        0,
    ) else {
        return false;
    };
    let answer = sys::connect(allowed, fd, Addr::Unix(*name).write().bytes());
    sys::close(allowed, fd);
    answer == Err(Errno(libc::ECONNREFUSED as u16))
}

#[inline(never)]
fn move_in(
    allowed: Allowed,
    run: &Run,
    fd: i32,
    new: i32,
    inode: u64,
    placing: &Placing,
) -> Result<(u64, RawAddr), Errno> {
    sys::bind(allowed, new, placing.real.bytes())?;
    let real = name::local(allowed, new)?;
    let cookie = sys::cookie(allowed, new)?;
    options::carry_over(allowed, run, fd, new, cookie, placing.socket.ty);
    for (get, set) in [
        (libc::F_GETFL, libc::F_SETFL),
        (libc::F_GETOWN, libc::F_SETOWN),
        (10 + 1, 10), // F_GETSIG, F_SETSIG
    ] {
        if let Ok(value) = sys::fcntl(allowed, fd, get, 0) {
            let _ = sys::fcntl(allowed, new, set, value);
        }
    }
    let watches = Watches::of(allowed, inode, fd);
    let mut wanted = [0u8; 40];
    let wanted = holders::link_text(inode, &mut wanted);
    let mut duplicates = [-1; MOST];
    let mut count = 0;
    let listed = holders::each_own_fd(allowed, |at, link| {
        if link == wanted
            && let Some(slot) = duplicates.get_mut(count)
        {
            *slot = at;
            count += 1;
        }
    });
    if !listed || count == 0 {
        // No /proc here: the one descriptor that is known.
        duplicates[0] = fd;
        count = 1;
    }
    for &at in duplicates.get(..count).unwrap_or(&[]) {
        let close_on_exec =
            sys::fcntl(allowed, at, libc::F_GETFD, 0) == Ok(libc::FD_CLOEXEC as usize);
        let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
        sys::dup3(allowed, new, at, flags)?;
        if at != fd {
            fds::copied(fd, at);
        }
    }
    watches.restore(allowed);
    Ok((cookie, real))
}

/// The epoll registrations of a socket: the kernel drops them when the old
/// socket goes.
struct Watches {
    all: [(i32, i32, u32, u64); MOST],
    count: usize,
}

impl Watches {
    /// Registrations in any epoll instance of this process, as
    /// `/proc/self/fdinfo` tells them. None are looked for if no hook saw the
    /// descriptor being watched and its whole life was seen.
    fn of(allowed: Allowed, inode: u64, fd: i32) -> Watches {
        let mut watches = Watches {
            all: [(0, 0, 0, 0); MOST],
            count: 0,
        };
        if !fds::get(fd).is_watched() {
            return watches;
        }
        holders::each_own_fd(allowed, |ep, link| {
            if link == b"anon_inode:[eventpoll]" {
                watches.read(allowed, ep, inode);
            }
        });
        watches
    }

    /// Lines of an epoll descriptor's fdinfo:
    /// `tfd:        5 events:       19 data:  5  pos:0 ino:… sdev:…`
    fn read(&mut self, allowed: Allowed, ep: i32, inode: u64) {
        let mut path = [0u8; 48];
        if let Some(path) = text::print(&mut path, b"/proc/self/fdinfo/", ep as u64, b"") {
            holders::each_line(allowed, path, |line| self.line(ep, line, inode));
        }
    }

    fn line(&mut self, ep: i32, line: &[u8], inode: u64) {
        let field = |name: &[u8], radix: u32| -> Option<u64> {
            let at = line.windows(name.len()).position(|w| w == name)? + name.len();
            let text = line.get(at..)?.trim_ascii_start();
            let digits = || text.iter().map_while(|c| char::from(*c).to_digit(radix));
            digits().next()?;
            digits().try_fold(0u64, |n, digit| {
                n.checked_mul(u64::from(radix))?
                    .checked_add(u64::from(digit))
            })
        };
        let parsed = (|| {
            let target = i32::try_from(field(b"tfd:", 10)?).ok()?;
            let events = field(b"events:", 16)? as u32;
            let data = field(b"data:", 16)?;
            let found = field(b" ino:", 16)?;
            (found == inode).then_some((ep, target, events, data))
        })();
        if let (Some(watch), Some(to)) = (parsed, self.all.get_mut(self.count)) {
            *to = watch;
            self.count += 1;
        }
    }

    fn restore(&self, allowed: Allowed) {
        for &(ep, target, events, data) in self.all.get(..self.count).unwrap_or(&[]) {
            let _ = sys::epoll_add(allowed, ep, target, events, data);
            fds::watched(target);
        }
    }
}
