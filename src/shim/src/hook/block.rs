//! Where messages come from and go to, in a run that has a block for its loopback:
//! the addresses that come with them are put into the program's words.

use core::ffi::{c_int, c_uint, c_void};

use bindgate_core::addr::Addr;
use bindgate_core::record::{Call, stage};
use libc::{cmsghdr, mmsghdr, msghdr, sockaddr, socklen_t, ssize_t};

use super::descriptor::{self, HEADER};
use super::{errno, set_errno, vsock};
use crate::out::faults::guard;
use crate::own::{filter, memory};
use crate::real::{self, rare};
use crate::redirect::block as own;
use crate::session;

/// recvfrom(2) that wants to know the source.
///
/// # Safety
/// As recvfrom(2).
#[cold]
#[inline(never)]
pub unsafe fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    flags: c_int,
    from: *mut sockaddr,
    from_len: *mut socklen_t,
) -> ssize_t {
    if vsock::has_no_source(fd) {
        // SAFETY: as the caller's, but for the source.
        return unsafe { vsock::recvfrom_nobody(fd, buffer, len, flags, from_len) };
    }
    let before = errno();
    let room = guard(Call::Connect, stage::HOOK, || {
        memory::read(filter::allowed(), from_len)
    })
    .flatten();
    // SAFETY: as the caller's.
    let ret = unsafe { rare::recvfrom()(fd, buffer, len, flags, from, from_len) };
    if let (0.., Some(room)) = (ret, room) {
        guard(Call::Connect, stage::IDENTIFY, || {
            // SAFETY: the kernel has just written there.
            unsafe { told_source(fd, from, from_len, room) }
        });
        set_errno(before);
    }
    vsock::received(fd, ret)
}

/// Puts a source into the program's words.
///
/// # Safety
/// The kernel has just written an address to `from`, of which there is room for
/// `room` bytes, and its length to `len`.
#[inline(never)]
unsafe fn told_source(
    fd: c_int,
    from: *mut sockaddr,
    len: *mut socklen_t,
    room: socklen_t,
) -> Option<()> {
    let run = own::run()?;
    let allowed = filter::allowed();
    // SAFETY: as the caller says.
    let there = unsafe { len.read_unaligned() }.min(room);
    // SAFETY: as the caller says.
    let addr = unsafe { memory::copy_addr_of_granted(from, there) }?.read()?;
    if !own::may_ask(allowed) {
        return None;
    }
    let told = own::peer_name(allowed, run, fd, &addr)?;
    // SAFETY: the program wants an address there.
    unsafe { memory::hand_over(allowed, from, len, room, &told) }.then_some(())
}

/// How much room a message has for a source.
pub fn room(msg: *const msghdr) -> socklen_t {
    if !session::has_block() {
        return 0;
    }
    guard(Call::Connect, stage::HOOK, || {
        let at = msg.wrapping_byte_add(core::mem::offset_of!(msghdr, msg_namelen));
        memory::read(filter::allowed(), at.cast::<socklen_t>())
    })
    .flatten()
    .unwrap_or(0)
}

/// A message has arrived: the addresses that came with it are put into the
/// program's words.
///
/// # Safety
/// The kernel has just filled the message in, which had `room` for a source.
pub unsafe fn arrived(fd: c_int, msg: *mut msghdr, room: socklen_t) {
    if !session::has_block() {
        return;
    }
    let before = errno();
    guard(Call::Connect, stage::IDENTIFY, || {
        // SAFETY: as the caller's; it need not be aligned.
        let now = unsafe { msg.read_unaligned() };
        if !now.msg_name.is_null() && now.msg_namelen != 0 {
            let len = msg.wrapping_byte_add(core::mem::offset_of!(msghdr, msg_namelen));
            // SAFETY: as the caller's.
            let _ = unsafe { told_source(fd, now.msg_name.cast(), len.cast(), room) };
        }
        // SAFETY: as the caller's.
        unsafe { each_source(now.msg_control.cast(), now.msg_controllen, told_ip) };
    });
    set_errno(before);
}

/// The address of the program's for one of the block.
fn told_ip(addr: &Addr) -> Option<Addr> {
    own::run()?.block?.told(addr, false, 0)
}

/// The address of the block for one of the program's.
fn real_ip(addr: &Addr) -> Option<Addr> {
    use bindgate_core::judge::block::spot;
    if addr.is_wildcard() {
        return None;
    }
    Some(
        own::run()?
            .block?
            .real(spot(addr, false)?, addr.family(), 0),
    )
}

/// Exchanges the addresses of `IP_PKTINFO` and `IPV6_PKTINFO` among control
/// messages: were there any?
///
/// # Safety
/// `len` bytes at `at` can be read and written.
unsafe fn each_source(at: *mut u8, len: usize, change: impl Fn(&Addr) -> Option<Addr>) -> bool {
    let mut any = false;
    let exchange = |header: &cmsghdr, data: *mut u8| {
        // struct in_pktinfo: an index and two addresses; struct in6_pktinfo: an
        // address and an index.
        let (of4, of6): (&[usize], bool) = match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if header.cmsg_len >= HEADER + 12 => {
                (&[4, 8], false)
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if header.cmsg_len >= HEADER + 20 => {
                (&[], true)
            }
            _ => (&[], false),
        };
        for offset in of4 {
            let ip = data.wrapping_add(*offset).cast::<[u8; 4]>();
            // SAFETY: within the length of this control message.
            let was = unsafe { ip.read_unaligned() };
            let addr = Addr::Inet { ip: was, port: 0 };
            if let Some(Addr::Inet { ip: to, .. }) = change(&addr) {
                // SAFETY: as above.
                unsafe { ip.write_unaligned(to) };
                any = true;
            }
        }
        if of6 {
            let ip = data.cast::<[u8; 16]>();
            // SAFETY: within the length of this control message.
            let was = unsafe { ip.read_unaligned() };
            if let Some(Addr::Inet6 { ip: to, .. }) = change(&Addr::inet6(was, 0)) {
                // SAFETY: as above.
                unsafe { ip.write_unaligned(to) };
                any = true;
            }
        }
    };
    // SAFETY: as the caller says.
    unsafe { descriptor::each_control(at, len, exchange) };
    any
}

/// Room for the control messages of a send.
pub type Control = [u64; 32];

/// Copies the control messages of a send, if a source is among them that is to be
/// another one; then the header names the copy.
#[inline(never)]
pub fn sourced(header: &mut [u64], room: &mut Control) -> bool {
    let [_, _, _, _, control, len, ..] = header else {
        return false;
    };
    let bytes = *len as usize;
    if !(1..=size_of::<Control>()).contains(&bytes) {
        return false;
    }
    let from: *const u8 = core::ptr::with_exposed_provenance(*control as usize);
    let allowed = filter::allowed();
    if !memory::is_readable(allowed, from as usize, bytes) {
        return false;
    }
    let to = room.as_mut_ptr().cast::<u8>();
    // SAFETY: these bytes were asked about, and there is room for them.
    let any = unsafe {
        core::ptr::copy_nonoverlapping(from, to, bytes);
        each_source(to, bytes, real_ip)
    };
    if any {
        *control = to.expose_provenance() as u64;
    }
    any
}

/// recvmmsg(2).
///
/// # Safety
/// As recvmmsg(2).
#[cold]
#[inline(never)]
pub unsafe fn recvmmsg(
    fd: c_int,
    msgs: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut libc::timespec,
) -> c_int {
    // All of them have as much room for a source as the first, or are told
    // without: nobody has them differ.
    let room = room(msgs.cast_const().cast());
    // SAFETY: as the caller's.
    let ret = unsafe { real::recvmmsg()(fd, msgs, count, flags, timeout) };
    for n in 0..usize::try_from(ret).unwrap_or(0) {
        let msg: *mut msghdr = msgs.wrapping_add(n).cast();
        // SAFETY: the kernel has just filled in this many messages.
        unsafe {
            descriptor::arrived(msg);
            if session::is_vsock_host() {
                vsock::arrived(fd, msg);
            }
            arrived(fd, msg, room);
        }
    }
    ret
}
