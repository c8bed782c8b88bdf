//! connect(2), and a send that names a peer.

use super::Caller;
use super::call::{Ask, Call};
use crate::addr::Addr;
use crate::policy::{Implicit, Op};
use crate::socket::SocketType;

/// A connect, or a send, to `addr`, which is `None` where its bytes are no
/// address that can be read. `AF_UNSPEC` dissolves an association, and is not
/// asked about.
#[must_use]
pub fn connect<'a>(
    caller: &'a Caller<'a>,
    addr: Option<&'a Addr>,
    believed: Option<SocketType>,
) -> Call<'a> {
    let ask = Ask {
        caller,
        op: Op::Connect,
        addr,
        raw: None,
        implicit: Implicit::No,
    };
    Call::new(ask, believed)
}
