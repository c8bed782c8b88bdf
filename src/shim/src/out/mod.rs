//! What leaves the process: records, the log of a preload without a launcher,
//! and reports of our own failures.

pub mod emit;
pub mod faults;
pub mod file_log;
