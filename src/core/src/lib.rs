//! The pure core of bindgate.
//!
//! Values in, values out: nothing here does I/O, takes a lock, uses `unsafe`
//! or assumes that it runs inside the program that it judges. The shim, the
//! launcher and the tests share it.
//!
//! | room | what lives there |
//! |---|---|
//! | [`addr`] | socket addresses as the kernel reads them |
//! | [`socket`] | what a socket is: family, type, protocol, kinds |
//! | [`model`] | what a kernel would answer: the bind model |
//! | [`policy`] | the rule language: parse, print, compile, match |
//! | [`judge`] | one call, decided: what the shim, `explain` and the tests all ask |
//! | [`check`] | what a check expects of a run, and whether it has come about |
//! | [`record`] | one decision as plain words |
//! | [`render`] | a record as a line of text or JSON |
//! | [`errno`] | error numbers, names and texts |
//! | [`infer`] | which check of the kernel an errno came from |
//! | [`shared`] | the layout of the state that the processes of a run share |
//! | [`uapi`] | the kernel's byte layouts, each once |
//! | [`reach`] | can this executable be intercepted |
//! | [`why`] | why a bind or a connect failed |
//!
//! With the feature `alloc` off, what is left is what may run inside a hook:
//! no path of it allocates.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
#[cfg(feature = "alloc")]
pub mod check;
pub mod errno;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod infer;
pub mod judge;
pub mod model;
pub mod plain;
pub mod policy;
pub mod reach;
pub mod record;
pub mod render;
pub mod shared;
pub mod socket;
mod sync;
mod text;
pub mod uapi;
#[cfg(feature = "alloc")]
pub mod why;
