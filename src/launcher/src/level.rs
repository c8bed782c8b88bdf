//! What the library may do under the seccomp filters that bind the launcher
//! too.
//!
//! Every process of an ordinary container, and of a systemd unit with
//! `SystemCallFilter=`, is under such filters from its first instruction. The
//! programs of a run are under the same ones, so the launcher tries the calls
//! of the library and hands on which ones work.

use bindgate_sys::{Allowed, Calls, filter};

/// The filters that bind the launcher.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// How many there are; `None` where the kernel does not say.
    count: Option<u32>,
    /// The calls that they let through.
    calls: Calls,
}

impl Inherited {
    /// Looks for filters, and tries what they let through; `None` if there are
    /// none.
    pub fn find() -> Option<Inherited> {
        let all = Allowed::ALL;
        filter::is_there(all).then(|| Inherited {
            count: filter::count(all),
            calls: filter::trial(),
        })
    }

    /// What `BINDGATE_RUN` says of it. Nothing where the filters cannot be
    /// counted: a process of the run could not know whether it has others.
    pub fn for_ticket(&self) -> Option<(u32, u64)> {
        Some((self.count?, self.calls.word()))
    }
}
