//! Memory: mapped, asked about, written by way of the kernel.

use core::ffi::c_void;

use super::{Errno, getpid};

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

/// Maps `len` bytes; `fd` −1 for anonymous memory.
pub fn mmap(len: usize, prot: i32, flags: i32, fd: i32) -> Result<*mut c_void, Errno> {
    let at = call!(libc::SYS_mmap, 0, len, prot, flags, fd, 0)?;
    Ok(core::ptr::with_exposed_provenance_mut(at))
}

/// Unmaps what [`mmap`] gave.
///
/// # Safety
/// Nothing may use the memory afterwards.
pub unsafe fn munmap(at: *mut c_void, len: usize) {
    let _ = call!(libc::SYS_munmap, at, len);
}

/// madvise(2).
pub fn madvise(at: *mut c_void, len: usize, advice: i32) -> Result<(), Errno> {
    call!(libc::SYS_madvise, at, len, advice)?;
    Ok(())
}

/// Is the 8-byte-aligned word around `at` readable? Asks the kernel to read it
/// as a signal set with a `how` that it refuses, so nothing else happens.
pub fn is_readable(at: usize) -> bool {
    const BAD_HOW: i32 = !0;
    let asked = call!(libc::SYS_rt_sigprocmask, BAD_HOW, at & !7, 0, 8);
    asked != Err(Errno(libc::EFAULT as u16))
}

/// process_vm_writev(2) on ourselves: the kernel checks `to`, nobody else need.
pub fn write_own_memory(to: *mut c_void, bytes: &[u8]) -> Result<(), Errno> {
    let local = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: to,
        iov_len: bytes.len(),
    };
    let written = call!(
        libc::SYS_process_vm_writev,
        getpid(),
        &raw const local,
        1,
        &raw const remote,
        1,
        0
    )?;
    if written == bytes.len() {
        Ok(())
    } else {
        Err(Errno(libc::EFAULT as u16))
    }
}
