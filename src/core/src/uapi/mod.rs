//! The kernel's byte layouts and numbers, each once: bytes in, bytes out.
//!
//! Nothing here makes a system call. The shim, the daemon and the tests read
//! and write what these functions describe.

pub mod inet_diag;
pub mod sock_diag;
pub mod unix_diag;
pub mod vsock;
