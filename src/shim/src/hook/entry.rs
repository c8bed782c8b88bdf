//! The two entry points that redhook declares.
//!
//! Its macro makes the exported function and catches panics around ours; ours
//! lets none out, so its second call of the real function never happens. The
//! pointer to the real function comes from [`crate::real`]: redhook's own
//! look-up goes through a blocking `Once`, which a signal handler or a forked
//! child could find held.

use core::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::bind::bind_as;
use super::socket::socket_as;

redhook::hook! {
    unsafe fn socket(domain: c_int, ty: c_int, protocol: c_int) -> c_int => hooked_socket {
        // SAFETY: no pointers.
        unsafe { socket_as(domain, ty, protocol, 0) }
    }
}

redhook::hook! {
    unsafe fn bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int => hooked_bind {
        // SAFETY: the address is only read where it is known to be readable.
        unsafe { bind_as(fd, addr, len) }
    }
}
