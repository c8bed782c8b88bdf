//! The fast path in front of the judge: one look at family and port that says
//! for which binds no rule can match, and nothing else.

use super::Caller;
use crate::addr::af;
use crate::policy::{BIND_PORTS, Candidates, Op, Paths, View};
use crate::record::Words;

/// The binds that need a look at the rules.
#[derive(Clone, Copy, Debug)]
pub enum LookedAt<'p> {
    /// None of them: there is no rule about bind(2).
    None,
    /// Those of IP addresses with these ports ([`View::bind_ports`]), and all
    /// of other families.
    Ports(&'p [u64; BIND_PORTS]),
    /// All of them.
    All,
}

impl<'p> LookedAt<'p> {
    /// What a policy wants to be looked at.
    #[must_use]
    pub fn of(view: &View<'p>) -> LookedAt<'p> {
        match view.bind_ports() {
            _ if !view.has_rules(Op::Bind) => LookedAt::None,
            Some(ports) => LookedAt::Ports(ports),
            None => LookedAt::All,
        }
    }

    /// Can no rule match a bind to an address of this family with this port?
    #[must_use]
    #[inline]
    pub fn is_without(&self, family: u16, port: u16) -> bool {
        match self {
            LookedAt::None => true,
            LookedAt::Ports(ports) => {
                matches!(family, af::INET | af::INET6) && !has_port(ports, port)
            }
            LookedAt::All => false,
        }
    }
}

#[inline]
fn has_port(ports: &[u64; BIND_PORTS], port: u16) -> bool {
    let word = ports.get(usize::from(port / 64));
    word.is_none_or(|word| word >> (port % 64) & 1 != 0)
}

/// May a rule be about a bind that the kernel chooses the port for?
#[must_use]
pub fn may_concern_auto(view: &View<'_>) -> bool {
    !LookedAt::of(view).is_without(af::INET, 0)
}

/// Does a listen on a socket that has a port or name pass, whatever it is? Then
/// no rule is about it, nor about the bind that would come with it.
#[must_use]
pub fn passes_bound_listens(view: &View<'_>) -> bool {
    !view.has_rules(Op::Listen) && !may_concern_auto(view)
}

/// The rules that fit a bind to the IP address with these bytes. `None` for
/// `::`, of which more has to be known, and for other addresses.
#[must_use]
#[inline]
pub fn candidates(caller: &Caller<'_>, asked: &Words) -> Option<Candidates<'static>> {
    let paths = Paths {
        program: caller.program,
        script: caller.script,
    };
    caller
        .view
        .ip_candidates(asked, caller.unprivileged_start, paths)
}
