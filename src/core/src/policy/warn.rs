//! What in a policy is probably not meant.

use alloc::vec::Vec;

use super::ast::Policy;
use super::diag::Diagnostic;

/// Looks for it.
pub(super) fn warnings(_p: &Policy) -> Vec<Diagnostic> {
    Vec::new()
}
