//! Memory: mapped, asked about, written by way of the kernel.

use core::ffi::c_void;

use crate::{Allowed, Call, Errno, getpid};

/// Asks the processor for the cache line at `at` and the next one, to be
/// written; where it cannot, for nothing.
#[inline]
pub fn prefetch_for_write<T>(at: &T) {
    let at: *const T = at;
    // SAFETY: a hint. It reads and writes nothing that the program could see,
    // and faults on no address.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "prefetchw [{0}]", "prefetchw [{0} + 64]", in(reg) at,
            options(nostack, preserves_flags, readonly)
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "prfm pstl1keep, [{0}]", "prfm pstl1keep, [{0}, #64]", in(reg) at,
            options(nostack, preserves_flags, readonly)
        );
    }
}

/// Maps `len` bytes at an address of the kernel's choice; `fd` −1 for
/// anonymous memory.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn mmap(
    allowed: Allowed,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
) -> Result<*mut c_void, Errno> {
    // SAFETY: without `MAP_FIXED`, which no caller gives, a new mapping touches
    // nothing that is there.
    let at = unsafe {
        call!(
            allowed,
            Call::Mmap,
            libc::SYS_mmap,
            0,
            len,
            prot,
            flags & !libc::MAP_FIXED,
            fd,
            0
        )?
    };
    Ok(core::ptr::with_exposed_provenance_mut(at))
}

/// Unmaps what [`mmap`] gave.
///
/// # Safety
/// Nothing may use the memory afterwards.
#[inline]
pub unsafe fn munmap(allowed: Allowed, at: *mut c_void, len: usize) {
    // SAFETY: the caller's promise.
    let _ = unsafe { call!(allowed, Call::Munmap, libc::SYS_munmap, at, len) };
}

/// madvise(2) with an advice that changes no contents of this process's
/// memory: `MADV_WIPEONFORK`, or none.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn madvise(allowed: Allowed, at: *mut c_void, len: usize, advice: i32) -> Result<(), Errno> {
    if !matches!(advice, libc::MADV_WIPEONFORK | -1) {
        return Err(Errno(libc::EINVAL as u16));
    }
    // SAFETY: no contents change.
    unsafe { call!(allowed, Call::Madvise, libc::SYS_madvise, at, len, advice)? };
    Ok(())
}

/// Is the 8-byte-aligned word around `at` readable? `None` if that may not be
/// asked. The kernel is asked to read it as a signal set with a `how` that it
/// refuses, so nothing else happens.
#[inline]
pub fn is_readable(allowed: Allowed, at: usize) -> Option<bool> {
    const BAD_HOW: i32 = !0;
    if !allowed.may(Call::RtSigprocmask) {
        return None;
    }
    // SAFETY: the kernel only reads, and checks what it reads.
    let asked = unsafe {
        call!(
            allowed,
            Call::RtSigprocmask,
            libc::SYS_rt_sigprocmask,
            BAD_HOW,
            at & !7,
            0,
            8
        )
    };
    Some(asked != Err(Errno(libc::EFAULT as u16)))
}

/// process_vm_writev(2) on ourselves: the kernel checks that `to` is there and
/// may be written.
///
/// # Safety
/// `to` is what the program gave for an answer of that many bytes.
///
/// # Errors
/// `EFAULT`, or the kernel's.
#[inline]
pub unsafe fn write_own_memory(
    allowed: Allowed,
    to: *mut c_void,
    bytes: &[u8],
) -> Result<(), Errno> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: to,
        iov_len: bytes.len(),
    };
    // SAFETY: the kernel reads live locals and the slice that one of them
    // names, and writes where the program wants it.
    let written = unsafe {
        call!(
            allowed,
            Call::ProcessVmWritev,
            libc::SYS_process_vm_writev,
            getpid(allowed),
            &raw const local,
            1,
            &raw const remote,
            1,
            0
        )?
    };
    if written == bytes.len() {
        Ok(())
    } else {
        Err(Errno(libc::EFAULT as u16))
    }
}
