//! What the program is and has, by the kernel's word.
//!
//! | module | what it holds |
//! |---|---|
//! | [`fds`] | which socket a descriptor is: a cache without locks |
//! | [`filter`] | which system calls we may make, as a value |
//! | [`memory`] | the program's memory, which may be anything |
//! | [`name`] | the names of a socket |
//! | [`process`] | the process: pid, slot, the processor's counter |
//! | [`text`] | short texts without an allocator |
//! | [`thread`] | the calling thread |
//! | [`time`] | clocks |

pub mod fds;
pub mod filter;
pub mod memory;
pub mod name;
pub mod process;
pub mod text;
pub mod thread;
pub mod time;
