//! Runs the unit tests of the launcher, whose executable has a `main` of C
//! that cannot stand beside the test harness's.

#![allow(dead_code)]

#[path = "mod.rs"]
mod launcher;
