//! bind(2), and the bind that connect(2), listen(2) or a send brings about.

use super::Caller;
use super::call::{Ask, Call};
use crate::addr::Addr;
use crate::policy::{Implicit, Op};
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
    };
    Call::new(ask, believed)
}
