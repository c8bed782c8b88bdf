//! Reading the program's memory, which may not be there.
//!
//! The kernel answers a bad pointer with `EFAULT`; so must we, and never with
//! a crash. Memory on the page that we stand on is there. Any other page is
//! asked about first. Between the question and the reading another thread
//! could unmap it; so could it between the check and the reading of any
//! program that checks.

use bindgate_core::addr::{Addr, RawAddr, STORAGE};
use bindgate_core::record::Words;

use bytemuck::AnyBitPattern;

use crate::own::process;
use crate::sys::{self, Allowed, Call, Errno};

const PAGE: usize = 4096;

/// Why an address could not be read. The kernel is left to say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable;

/// The call that the program makes with an address.
#[derive(Clone, Copy)]
pub enum Made {
    /// bind(2) on this descriptor.
    Bind(i32),
    /// connect(2) on this descriptor.
    Connect(i32),
    /// A send: there is no such call that does nothing else.
    Send,
}

/// Copies the `len` bytes of a socket address at `from`, which the program
/// makes this call with. The kernel is asked first whether they are there.
///
/// # Errors
/// [`Unreadable`] if the length is not one that the kernel would take, or if
/// the memory is not there or cannot be asked about.
pub fn copy_addr(
    allowed: Allowed,
    from: *const libc::sockaddr,
    len: libc::socklen_t,
    made: Made,
) -> Result<RawAddr, Unreadable> {
    let (at, len) = (from as usize, len as usize);
    if len > STORAGE {
        return Err(Unreadable);
    }
    let readable = match may_ask(allowed) || is_known(at, len) {
        true => is_readable(allowed, at, len),
        false => is_readable_by(made, at, len),
    };
    if !readable {
        return Err(Unreadable);
    }
    // SAFETY: all bytes were asked about, or lie on this thread's stack.
    Ok(unsafe { copy(from, len) })
}

/// An address for the record of a call that failed with `errno`: it is read
/// where the kernel can be asked, or where it needs no question, and never
/// after `EFAULT`. Anybody can have answered the call, a seccomp filter too,
/// so that a failure does not show that the kernel has read the address.
pub fn copy_addr_of_failed(
    allowed: Allowed,
    from: *const libc::sockaddr,
    len: libc::socklen_t,
    errno: u16,
) -> Option<RawAddr> {
    let (at, len) = (from as usize, len as usize);
    if len > STORAGE || i32::from(errno) == libc::EFAULT {
        return None;
    }
    // SAFETY: all bytes were asked about, or lie on this thread's stack.
    is_readable(allowed, at, len).then(|| unsafe { copy(from, len) })
}

/// The address of a call that has succeeded.
///
/// # Safety
/// The kernel has read `len` bytes at `from` without complaint.
pub unsafe fn copy_addr_of_granted(
    from: *const libc::sockaddr,
    len: libc::socklen_t,
) -> Option<RawAddr> {
    // SAFETY: as the caller says.
    (len as usize <= STORAGE).then(|| unsafe { copy(from, len as usize) })
}

/// An IP address that the kernel has just read. `None` for other lengths than
/// those of `struct sockaddr_in` and `struct sockaddr_in6`.
///
/// # Safety
/// The kernel has read `len` bytes at `from` without complaint.
#[inline]
pub unsafe fn ip_words(from: *const libc::sockaddr, len: libc::socklen_t) -> Option<Words> {
    let at: *const u64 = from.cast();
    // SAFETY: the first 16 of the `len` bytes that the kernel has read.
    let two = || unsafe { [at.read_unaligned(), at.add(1).read_unaligned()] };
    let ([first, second], third, fourth) = match len {
        16 => (two(), 0, 0),
        // SAFETY: the rest of the 28 bytes that the kernel has read.
        28 => unsafe {
            (
                two(),
                at.add(2).read_unaligned(),
                last_half(at.add(3).cast()),
            )
        },
        _ => return None,
    };
    Some(Words {
        words: [first, second, third, fourth],
        len: len as u8,
    })
}

/// Four bytes as the first half of a word.
///
/// # Safety
/// They can be read.
unsafe fn last_half(at: *const [u8; 4]) -> u64 {
    // SAFETY: as the caller's.
    let [a, b, c, d] = unsafe { at.read() };
    u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
}

/// The family of an address, and the port if it is an IP address; `None` if it
/// is too short for one, or if the memory is not there. See [`is_rest_readable`].
#[inline(always)]
pub fn family_and_port(
    allowed: Allowed,
    from: *const libc::sockaddr,
    len: libc::socklen_t,
) -> Option<(u16, u16)> {
    let at = from as usize;
    if !(16..=STORAGE as u32).contains(&len)
        || !is_on_this_page(at, 4) && !is_readable(allowed, at, 4)
    {
        return None;
    }
    // SAFETY: the first four bytes were asked about.
    let [a, b, c, d] = unsafe { from.cast::<[u8; 4]>().read() };
    Some((u16::from_ne_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Are all `len` bytes at `from` there, of which the first ones are?
#[inline]
pub fn is_rest_readable(
    allowed: Allowed,
    from: *const libc::sockaddr,
    len: libc::socklen_t,
) -> bool {
    let (at, len) = (from as usize, len as usize);
    at % PAGE + len <= PAGE || is_readable(allowed, at, len)
}

/// # Safety
/// `len` bytes at `from` can be read.
unsafe fn copy(from: *const libc::sockaddr, len: usize) -> RawAddr {
    RawAddr::filled(len, |to| {
        // SAFETY: the caller knows of `from`, and `to` is as long.
        unsafe { core::ptr::copy_nonoverlapping(from.cast(), to.as_mut_ptr(), len) }
    })
    .unwrap_or(RawAddr::EMPTY)
}

/// Is it known without a question that the bytes are there?
fn is_known(at: usize, len: usize) -> bool {
    len == 0
        || at
            .checked_add(len - 1)
            .is_some_and(|last| is_on_stack(at, last))
}

/// The same as [`is_readable`] behind a filter of the program's own, which lets
/// us ask nothing but what the program asks itself: the very call that it
/// makes, with the address cut down to one byte. An address that has no room
/// for a family is refused by every family, after the kernel has read it and
/// before anything else is done.
fn is_readable_by(made: Made, at: usize, len: usize) -> bool {
    let Some(last) = at.checked_add(len.saturating_sub(1)) else {
        return false;
    };
    let ask = |at: usize| match made {
        Made::Bind(fd) => sys::bind_one_byte(fd, at),
        Made::Connect(fd) => sys::connect_one_byte(fd, at),
        Made::Send => Ok(()),
    };
    // A filter could have answered itself: then it does not know this one.
    const NOWHERE: usize = 8;
    let fault = Err(Errno(libc::EFAULT as u16));
    ask(NOWHERE) == fault && ask(at) != fault && (at / PAGE == last / PAGE || ask(last) != fault)
}

/// May the kernel be asked about memory?
fn may_ask(allowed: Allowed) -> bool {
    allowed.may(Call::RtSigprocmask)
}

/// Are `len` bytes at `at` there to be read? `len` spans at most two pages.
/// `false` also where that is not known and may not be asked.
#[must_use]
pub fn is_readable(allowed: Allowed, at: usize, len: usize) -> bool {
    if len == 0 {
        return true;
    }
    let Some(last) = at.checked_add(len - 1) else {
        return false;
    };
    if at < PAGE {
        // Never there; and a null set of signals is no question to the kernel.
        return false;
    }
    if is_on_stack(at, last) {
        return true;
    }
    let ask = |at| sys::is_readable(allowed, at) == Some(true);
    ask(at) && (at / PAGE == last / PAGE || ask(last))
}

/// Do the bytes lie between our own frame and the end of its page?
#[inline(always)]
fn is_on_this_page(at: usize, len: usize) -> bool {
    let here = &raw const at as usize;
    at >= here && (here | (PAGE - 1)).checked_sub(at) >= Some(len - 1)
}

/// Are the bytes on this thread's stack, above us? What lies between our own
/// frame and the end of its page is, and on the main thread's stack all up to
/// its beginning, and the arguments and the environment that lie there.
fn is_on_stack(first: usize, last: usize) -> bool {
    /// The kernel leaves at least this much between the main stack and
    /// anything mapped below it (`mmap_base`), so closer means on it.
    const GAP: usize = 100 << 20;
    let here = &raw const first as usize;
    if first < here {
        return false;
    }
    let top = process::stack_end();
    let end = if here < top && top - here < GAP {
        process::stack_top()
    } else {
        (here / PAGE + 1) * PAGE
    };
    last < end
}

/// A value of the program's, copied out, if it is there.
#[must_use]
pub fn read<T: AnyBitPattern>(allowed: Allowed, from: *const T) -> Option<T> {
    if from.is_null() || !is_readable(allowed, from as usize, size_of::<T>()) {
        return None;
    }
    // SAFETY: the bytes were asked about, and any bytes are a value of `T`.
    Some(unsafe { from.read_unaligned() })
}

// What exec is given is read unasked behind a filter of the program's own: a
// program that shuts itself up and then starts another one would otherwise
// start it without us.

/// An entry of a list of strings that ends with a null pointer, as exec gets
/// it.
pub fn read_entry(
    allowed: Allowed,
    from: *const *const libc::c_char,
) -> Option<*const libc::c_char> {
    let entry: usize = read_argument(allowed, from.cast())?;
    Some(entry as *const libc::c_char)
}

/// A value of what exec or posix_spawn(3) is given.
pub fn read_argument<T: AnyBitPattern>(allowed: Allowed, from: *const T) -> Option<T> {
    if from.is_null() || !is_argument(allowed, from as usize, size_of::<T>()) {
        return None;
    }
    // SAFETY: the bytes were asked about, or nobody can be asked and they are
    // part of what the program gives to the kernel, or to libc; and any bytes
    // are a value of `T`.
    Some(unsafe { from.read_unaligned() })
}

/// Copies a NUL-terminated string that exec gets, without its NUL, into `to`:
/// as much of it as there is room for, and whether that is all of it. `None`
/// if it is not there.
pub fn copy_str(
    allowed: Allowed,
    from: *const libc::c_char,
    to: &mut [u8],
) -> Option<(&[u8], bool)> {
    let start = from as usize;
    let (mut checked, mut len) = (start, 0);
    loop {
        let at = start.checked_add(len)?;
        if at >= checked {
            if !is_argument(allowed, at, 1) {
                return None;
            }
            checked = (at | (PAGE - 1)).checked_add(1)?;
        }
        // SAFETY: the page of this byte was asked about, or nobody can be asked
        // and it is part of a string that the program gives to the kernel.
        let byte = unsafe { from.wrapping_add(len).read() } as u8;
        match to.get_mut(len) {
            Some(to) if byte != 0 => *to = byte,
            _ => return Some((to.get(..len)?, byte == 0)),
        }
        len += 1;
    }
}

/// As [`is_readable`], but `true` where nobody can be asked.
fn is_argument(allowed: Allowed, at: usize, len: usize) -> bool {
    is_readable(allowed, at, len) || at >= PAGE && !may_ask(allowed)
}

/// Writes an address where the program wants it: as much as fits in `room`
/// bytes, and before that its full length, as `move_addr_to_user` does.
/// `false` if the memory is not there to be written.
///
/// # Safety
/// `addr` and `len` are what the program gave to be told an address.
pub unsafe fn hand_over(
    allowed: Allowed,
    addr: *mut libc::sockaddr,
    len: *mut libc::socklen_t,
    room: libc::socklen_t,
    name: &Addr,
) -> bool {
    let raw = name.write();
    let bytes = raw.bytes();
    let fits = bytes.get(..room as usize).unwrap_or(bytes);
    // SAFETY: as the caller says.
    unsafe {
        write(allowed, len.cast(), &(bytes.len() as u32).to_ne_bytes())
            && write(allowed, addr.cast(), fits)
    }
}

/// Writes into the program's memory by way of the kernel, which knows whether
/// it is there and may be written.
///
/// # Safety
/// `to` is where the program wants an answer of that many bytes.
#[must_use]
pub unsafe fn write(allowed: Allowed, to: *mut libc::c_void, bytes: &[u8]) -> bool {
    // SAFETY: as the caller says.
    bytes.is_empty() || unsafe { sys::write_own_memory(allowed, to, bytes) }.is_ok()
}

/// Pages of our own for a short while: what would be too much for a thread
/// with a small stack. Zeroed.
pub struct Pages {
    at: *mut libc::c_void,
    len: usize,
    allowed: Allowed,
}

impl Pages {
    /// At least `len` bytes.
    pub fn new(allowed: Allowed, len: usize) -> Option<Pages> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = sys::mmap(allowed, len, prot, flags, -1).ok()?;
        Some(Pages { at, len, allowed })
    }

    /// Runs a part with at least `len` bytes; `None` if there are none to be
    /// had. Like [`sys::without_signals`] it has no guard in builds that cannot
    /// panic, whose clean-up would keep the compiler from seeing that.
    pub fn with<T>(allowed: Allowed, len: usize, part: impl FnOnce(&mut Pages) -> T) -> Option<T> {
        let pages = Pages::new(allowed, len)?;
        #[cfg(not(any(debug_assertions, feature = "inject")))]
        let pages = core::mem::ManuallyDrop::new(pages);
        let mut pages = pages;
        let done = part(&mut pages);
        #[cfg(not(any(debug_assertions, feature = "inject")))]
        let pages = core::mem::ManuallyDrop::into_inner(pages);
        drop(pages);
        Some(done)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped with that size, and only written through `&mut`.
        unsafe { core::slice::from_raw_parts(self.at.cast(), self.len) }
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped with that size, and nobody else has it.
        unsafe { core::slice::from_raw_parts_mut(self.at.cast(), self.len) }
    }

    /// The memory as pointers, null at first.
    pub fn pointers_mut(&mut self) -> &mut [*const libc::c_char] {
        let len = self.len / size_of::<*const libc::c_char>();
        // SAFETY: mapped with at least that size, page-aligned, and nobody
        // else has it; all-zero bytes are null pointers.
        unsafe { core::slice::from_raw_parts_mut(self.at.cast(), len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the borrows of the memory ended before this.
        unsafe { sys::munmap(self.allowed, self.at, self.len) };
    }
}
