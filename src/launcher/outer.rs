//! A run inside a run: the outer rules come first.

use bindgate_core::policy::Policy;

use super::Failure;

/// The run that this process is in.
pub struct Outer;

impl Outer {
    /// Does it only observe?
    pub fn observes(&self) -> bool {
        false
    }
}

/// The run that the environment names, if there is one.
pub fn find() -> Result<Option<Outer>, Failure> {
    Ok(None)
}

/// The inner policy behind the outer one.
pub fn nest(_outer: Option<&Outer>, inner: Policy) -> Result<Policy, Failure> {
    Ok(inner)
}
