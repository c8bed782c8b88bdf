//! launcher
fn main() {}
