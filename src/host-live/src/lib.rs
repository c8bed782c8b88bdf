//! This machine as a host of the model, and scripted calls on its kernel.
//!
//! | module | what it holds |
//! |---|---|
//! | [`machine`] | this machine's addresses, sysctls and sockets, as the model sees a host |
//! | [`evidence`] | what the machine shows of a bind or connect that failed |
//! | [`lineage`] | where a process comes from |
//! | [`processes`] | which process has a socket open |
//! | [`kernel`] | the calls of a script, made on the real kernel: the oracle of the model |
//! | [`draw`] | random sequences of calls, for tests |
//! | [`diag`] | what the kernel still has in a network namespace, for tests |

pub mod diag;
pub mod draw;
pub mod evidence;
pub mod kernel;
pub mod lineage;
pub mod machine;
pub mod processes;
