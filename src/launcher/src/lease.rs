//! The ports that a run leases: `--lease`, and the line `host lease` of its policy.

use std::io;
use std::os::fd::OwnedFd;

use bindgate_os::{network, unix};

use crate::args::RuleSource;
use crate::{Failure, exit};

/// Ports are claimed in blocks of so many.
const BLOCK: u16 = 128;
/// Below it are the ports of many well-known services.
const LOWEST: u16 = 10_240;

/// How many ports a run leases that has ports of its own, if it is told nothing.
pub const UNASKED: u16 = 256;

/// The option as a line of the policy language.
pub fn rule(count: u16) -> RuleSource {
    RuleSource::Option("--lease", format!("host lease {count}"))
}

/// `count` ports in a row that no automatic bind on this host gets, and no other run
/// leases: the first of them, and the names that hold them for as long as they are
/// open.
///
/// Each block has an abstract Unix name, which is known in the network namespace that
/// the ports are in. In a network of the run's own there is nobody else.
///
/// # Errors
/// If there are not so many.
pub fn claim(count: u16, is_sealed: bool) -> Result<(u16, Vec<OwnedFd>), Failure> {
    let taken = match is_sealed {
        true => network::AutomaticPorts::default(),
        false => network::AutomaticPorts::here(),
    };
    let blocks = count.div_ceil(BLOCK);
    let mut names = Vec::new();
    let mut first = u16::MAX / BLOCK * BLOCK;
    while first >= LOWEST {
        let is_free = !taken.meets(first, first.saturating_add(BLOCK - 1));
        match is_free.then(|| hold(first, is_sealed)).transpose()? {
            Some(Some(name)) => names.push(name),
            _ => names.clear(),
        }
        if names.len() == usize::from(blocks) {
            return Ok((first, names.into_iter().flatten().collect()));
        }
        first -= BLOCK;
    }
    Err(Failure::say(
        exit::SYSTEM,
        format!(
            "--lease={count}: there are not so many ports in a row that are outside \
             net.ipv4.ip_local_port_range and that no other run leases; a smaller number may do"
        ),
    ))
}

/// The block that begins there, if nobody has it; without a name where nobody can.
fn hold(first: u16, is_sealed: bool) -> Result<Option<Option<OwnedFd>>, Failure> {
    if is_sealed {
        return Ok(Some(None));
    }
    match unix::listen(format!("\0bindgate/lease/{first}").as_bytes()) {
        Ok(name) => Ok(Some(Some(name))),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(e) => Err(Failure::new(
            exit::SYSTEM,
            "--lease: an abstract Unix name",
            e,
        )),
    }
}
