//! The shim: `libbindgate.so`, a guest in somebody else's process.
//!
//! # Rules that the code of this crate must follow
//!
//! 1. `bind`, `socket`, `close` are async-signal-safe, so the hooks are: no
//!    lock, no allocation, no std I/O, no `std::env` after start-up, nothing
//!    lazily initialised through a blocking `Once` on the way.
//! 2. Nothing is held across the forward: no guard, no flag, no borrow.
//!    Threads are cancelled there, and `siglongjmp` skips our frames.
//! 3. No descriptor of ours stays open in the program.
//! 4. `errno` after success is what it was before; after failure it is what
//!    the kernel or the policy said, exactly.
//! 5. Hooks work before our constructor, after `fork` in a threaded program,
//!    in a `vfork` child, and in a process whose environment, user or root has
//!    changed.
//! 6. A bad pointer gets `EFAULT`, never a crash.
//! 7. With nothing to do the program cannot tell that the shim is there.
//! 8. A panic in our code never reaches the program, never makes a second real
//!    call, and is reported.
//! 9. What cannot be intercepted is said, not passed over in silence.
//! 10. System calls of our own: at start-up and exec; `getsockopt` and
//!     `getsockname` where a decision or a record needs them; what a matched
//!     move, hide or virtual rule needs. `close`, `dup`, `fcntl` make none.
//! 11. Which system calls of our own may be made is a value, [`sys::Allowed`]:
//!     a seccomp filter may end the program for others. `own::filter` says
//!     which ones this thread may make, and every function of `sys` wants it.
//!
//! # Folders
//!
//! | module | what it holds |
//! |---|---|
//! | [`hook`] | the only place that speaks C: the functions that the program calls |
//! | `redirect` | carrying out moves and hides, and keeping up what they pretend |
//! | `session` | the policy and the shared state: found once, mapped, kept |
//! | `own` | what the program is and has, by the kernel's word: descriptors, memory, process, thread |
//! | `out` | records on their way out, and our own failures |
//! | `real` | the next library's functions |
//! | [`sys`] | the kernel, without libc between |

pub mod hook;
#[cfg(feature = "inject")]
mod inject;
mod out;
mod own;
mod real;
mod redirect;
mod session;

// The kernel, without libc between.
use bindgate_sys as sys;

bindgate_unwind::functions!();
