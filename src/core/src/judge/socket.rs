//! socket(2) and socketpair(2).

use super::call::{Ask, Call};
use super::{Caller, Socket};
use crate::policy::{Implicit, Op};
use crate::socket::SocketType;

/// A socket of type `made` is to be created.
#[must_use]
pub fn create<'a>(caller: &'a Caller<'a>, made: SocketType) -> Call<'a> {
    let ask = Ask {
        caller,
        op: Op::Socket,
        addr: None,
        raw: None,
        implicit: Implicit::No,
    };
    Call::knowing(ask, Socket::described(made))
}
