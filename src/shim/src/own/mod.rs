//! What the program is and has, by the kernel's word.
//!
//! | module | what it holds |
//! |---|---|
//! | [`fds`] | which socket a descriptor is: a cache without locks |
//! | [`memory`] | the program's memory, which may be anything |
//! | [`process`] | the process, and what it may ask of the kernel |
//! | [`thread`] | the calling thread |

pub mod fds;
pub mod memory;
pub mod process;
pub mod thread;
