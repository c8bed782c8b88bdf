//! This machine as a host of the model, and scripted calls on its kernel.
//!
//! | module | what it holds |
//! |---|---|
//! | [`machine`] | this machine's addresses, sysctls and sockets, as the model sees a host |
//! | [`kernel`] | the calls of a script, made on the real kernel: the oracle of the model |
//! | [`draw`] | random sequences of calls, for tests |
//! | [`diag`] | what the kernel still has in a network namespace, for tests |

pub mod diag;
pub mod draw;
pub mod kernel;
pub mod machine;
pub mod processes;
