//! The names of a socket, by the kernel's word.

use bindgate_core::addr::RawAddr;
use bindgate_core::record::Words;

use crate::redirect::block;
use crate::sys::{self, Allowed, Errno};

/// Longer names than this exist in no family.
const LONGEST: usize = 128;

/// getsockname(2): where a socket is, in the words of the run's host.
pub fn local(allowed: Allowed, fd: i32) -> Result<RawAddr, Errno> {
    let mut raw = real_local(allowed, fd)?;
    if let Some(run) = block::run() {
        block::rename_local(allowed, run, fd, &mut raw);
    }
    Ok(raw)
}

/// getsockname(2), in the kernel's words.
pub fn real_local(allowed: Allowed, fd: i32) -> Result<RawAddr, Errno> {
    let mut buf = [0u8; LONGEST];
    let len = sys::getsockname(allowed, fd, &mut buf)?;
    buf.get(..len)
        .and_then(RawAddr::of_name)
        .ok_or(Errno(libc::EINVAL as u16))
}

/// getsockname(2), for an IP address.
pub fn local_ip(allowed: Allowed, fd: i32) -> Result<Words, Errno> {
    let mut words = [0u64; 4];
    let len = sys::getsockname(allowed, fd, &mut words)?;
    let len = len.min(size_of_val(&words)) as u8;
    Ok(Words { words, len })
}

/// getpeername(2), in the words of the run's host.
pub fn peer(allowed: Allowed, fd: i32) -> Result<RawAddr, Errno> {
    let mut raw = real_peer(allowed, fd)?;
    if let Some(run) = block::run() {
        block::rename_peer(allowed, run, fd, &mut raw);
    }
    Ok(raw)
}

/// getpeername(2), in the kernel's words.
pub fn real_peer(allowed: Allowed, fd: i32) -> Result<RawAddr, Errno> {
    let mut buf = [0u8; LONGEST];
    let len = sys::getpeername(allowed, fd, &mut buf)?;
    buf.get(..len)
        .and_then(RawAddr::new)
        .ok_or(Errno(libc::EINVAL as u16))
}
