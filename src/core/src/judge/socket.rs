//! socket(2) and socketpair(2).

use super::call::{Ask, Call};
use super::{Caller, Socket};
use crate::addr::af;
use crate::policy::{Implicit, Op, Paths};
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

/// The Unix socket that is made where a program asks for `socket(domain, ty,
/// protocol)` and may: a *carrier*. `None`: what it asked for is made.
///
/// Where the run is a vsock host each vsock socket is one.
///
/// A vsock socket that a rule may redirect to a Unix name is one from its birth.
/// Then nothing refers to it yet that would have to be carried over, and it can
/// be had where the kernel refuses or does not know the family. What no rule
/// redirects goes to the kernel's own socket, which takes the carrier's place
/// first ([`super::Action::Restore`]).
///
/// # Errors
/// As a vsock host has them: [`super::vsock::create`].
pub fn carrier(
    caller: &Caller<'_>,
    domain: i32,
    ty: i32,
    protocol: i32,
) -> Result<Option<SocketType>, u16> {
    const VSOCK: i32 = af::VSOCK as i32;
    if domain == VSOCK && caller.is_vsock_host() {
        return super::vsock::create(ty, protocol).map(Some);
    }
    // The kernel says what is wrong with any other of this family.
    let made = SocketType::created(domain, ty, protocol);
    if domain != VSOCK || !made.is_stream() || !matches!(protocol, 0 | VSOCK) {
        return Ok(None);
    }
    let paths = Paths {
        program: caller.program,
        script: caller.script,
    };
    let is_carrier = caller.has_carriers() && caller.view.moves_vsock_of(paths);
    Ok(is_carrier.then_some(SocketType {
        domain: af::UNIX,
        ty: made.ty,
        protocol: 0,
    }))
}
