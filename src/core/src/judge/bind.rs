//! bind(2), and the bind that connect(2), listen(2) or a send brings about.

use super::Caller;
use super::call::{Ask, Call};
use crate::addr::Addr;
use crate::policy::{Candidates, Implicit, Op};
use crate::socket::SocketType;

/// A bind to `addr`, which is `None` where its bytes are no address that can be
/// read. `raw` is what [`super::as_raw_ipv4`] makes of the same bytes.
#[must_use]
pub fn bind<'a>(
    caller: &'a Caller<'a>,
    addr: Option<&'a Addr>,
    raw: Option<&'a Addr>,
    implicit: Implicit,
    believed: Option<SocketType>,
) -> Call<'a> {
    let ask = Ask {
        caller,
        op: Op::Bind,
        addr,
        raw,
        implicit,
        candidates: None,
    };
    Call::new(ask, believed)
}

/// bind(2) to an IP address whose candidates were found already, as
/// [`super::fast`] does: an IPv4 address, or an IPv6 one but `::`.
#[must_use]
#[inline]
pub fn bind_found<'a>(
    caller: &'a Caller<'a>,
    addr: &'a Addr,
    raw: Option<&'a Addr>,
    candidates: Candidates<'a>,
    believed: Option<SocketType>,
) -> Call<'a> {
    let ask = Ask {
        caller,
        op: Op::Bind,
        addr: Some(addr),
        raw,
        implicit: Implicit::No,
        candidates: Some(candidates),
    };
    Call::new(ask, believed)
}
