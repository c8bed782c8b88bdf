//! The ports that a run leases: `--lease`, and the line `host lease` of its policy.

use std::os::fd::OwnedFd;

use bindgate_core::model::host::Sysctls;
use bindgate_host_live::machine;
use bindgate_os::unix;

use crate::args::{RuleSource, Run};
use crate::{Failure, exit};

/// Ports are claimed in blocks of so many.
const BLOCK: u16 = 128;
/// Below it are the ports of many well-known services.
const LOWEST: u16 = 10_240;

/// How many ports a run leases that has ports of its own, if it is told nothing.
const UNASKED: u16 = 256;

/// The option as a line of the policy language.
pub fn rule(count: u16) -> RuleSource {
    RuleSource::Option("--lease", format!("host lease {count}"))
}

/// How many ports a run leases, with what [`claim`] says of them. `written` is what its
/// policy says; `outers`, how many the run around it leases.
///
/// # Errors
/// If there are not as many as it is told.
pub fn of_run(
    run: &Run,
    written: Option<u16>,
    outers: Option<u16>,
) -> Result<Option<(u16, Claimed)>, Failure> {
    if let Some(count) = written {
        return Ok(Some((count, claim(count, run.is_sealed)?)));
    }
    // Of its own, for a run inside another one: nobody else's table says which ports
    // are taken.
    let unasked = outers.or(run.has_own_ports.then_some(UNASKED));
    let count = unasked.filter(|_| run.lease != Some(0));
    // Where there is no room the run goes without.
    Ok(count.and_then(|count| Some((count, claim(count, run.is_sealed).ok()?))))
}

/// The first of the ports, and the names that hold them for as long as they are open.
type Claimed = (u16, Vec<OwnedFd>);

/// `count` ports in a row that no automatic bind on this host gets, and no other run
/// leases.
///
/// Each block has an abstract Unix name, which is known in the network namespace that
/// the ports are in. In a network of the run's own there is nobody else.
///
/// # Errors
/// If there are not so many.
fn claim(count: u16, is_sealed: bool) -> Result<Claimed, Failure> {
    let taken = match is_sealed {
        true => vec![Sysctls::DEFAULT.local_port_range],
        false => machine::automatic_ports(),
    };
    let blocks = count.div_ceil(BLOCK);
    let mut names = Vec::new();
    let mut first = u16::MAX / BLOCK * BLOCK;
    while first >= LOWEST {
        let last = first.saturating_add(BLOCK - 1);
        let is_free = !taken.iter().any(|(a, b)| *a <= last && first <= *b);
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
    let claimed = unix::claim(format!("\0bindgate/lease/{first}").as_bytes());
    let failed = |e| Failure::new(exit::SYSTEM, "--lease: an abstract Unix name", e);
    Ok(claimed.map_err(failed)?.map(Some))
}
