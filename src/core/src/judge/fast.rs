//! The fast path in front of the judge: one look at family and port that says
//! for which binds no rule can match, and one at the rules that says which
//! binds pass. It says nothing that the judge would not say: a test compares
//! them.

use super::Caller;
use super::rules::passing;
use crate::addr::af;
use crate::policy::{BIND_PORTS, Implicit, Op, Outlook, Search, View};
use crate::record::Words;
use crate::socket::SocketType;

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
    /// All of them, and what the rules let pass has to be looked at as well.
    AllTheWay,
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
            LookedAt::All | LookedAt::AllTheWay => false,
        }
    }

    /// May what is foreseen to pass go the short way?
    #[must_use]
    #[inline]
    pub fn may_foresee(&self) -> bool {
        !matches!(self, LookedAt::AllTheWay)
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

/// What can be said at once of a bind(2) to an IP address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foresight {
    /// It passes by this rule, whatever the socket is and whoever the user.
    Passes(u32),
    /// It passes by this rule if the socket is what it was believed to be, or of
    /// the [sibling](super::sibling) protocol.
    PassesAsBelieved(u32),
    /// More has to be known: [`super::bind::bind`] decides.
    Open,
}

/// What the machine of [`super::bind::bind`] will say of a bind to the IP
/// address with these bytes, where the rules let it pass and nothing else is
/// to be noted. `has_raw`: a raw socket reads another address there.
#[must_use]
#[inline(never)]
pub fn foresee(
    caller: &Caller<'_>,
    asked: &Words,
    has_raw: bool,
    believed: SocketType,
) -> Foresight {
    let view = caller.view;
    let mut q = caller.query(Op::Bind);
    if asked.family() == believed.domain {
        q.kinds = believed.kinds();
    }
    let Some(outlook) = view.ip_outlook(asked, &q) else {
        return Foresight::Open;
    };
    match outlook {
        // A raw socket may be asked for another address.
        Outlook::NoRule(_) | Outlook::Allowed(_) if has_raw && view.names_raw(Op::Bind) => {
            Foresight::Open
        }
        Outlook::NoRule(ruling) | Outlook::Allowed(ruling) => match passing(&ruling) {
            Some(rule) => Foresight::Passes(rule),
            None => Foresight::Open,
        },
        Outlook::Open(_)
            if view.tells_siblings(Op::Bind)
                || view.needs_user(Op::Bind)
                || view.needs_privilege(Op::Bind) =>
        {
            Foresight::Open
        }
        Outlook::Open(foreseen) => {
            let settled = view.settled(Op::Bind, Implicit::No, &Search::new(foreseen));
            match settled.as_ref().and_then(passing) {
                Some(rule) => Foresight::PassesAsBelieved(rule),
                None => Foresight::Open,
            }
        }
    }
}
