//! Are the answers the same?

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use bindgate_core::model::script::Call;
use bindgate_core::model::{Errno, Opt};

use super::acts::{self, Act, What};
use super::site::Answer;
use super::{Engine, Played};

/// Where the two places gave different answers.
pub struct Difference {
    /// The index of the act.
    pub at: usize,
    pub text: String,
}

/// The ports and names that the kernel chose: which of one place is which of the other.
#[derive(Default)]
struct Chosen {
    to: HashMap<(u8, u32), u32>,
    from: HashMap<(u8, u32), u32>,
}

/// The part of a name that the kernel chose, and its kind.
fn choice(fixed: &[u16], ty: u8, name: &[u8]) -> Option<(Range<usize>, (u8, u32))> {
    Some(match *name {
        [2 | 10, 0, high, low, ..] => {
            let port = u16::from_be_bytes([high, low]);
            if port == 0 || fixed.contains(&port) {
                return None;
            }
            (2..4, (ty, u32::from(port)))
        }
        // An abstract name of five digits.
        [1, 0, 0, a, b, c, d, e] => (3..8, (101, u32::from_be_bytes([a ^ b, c, d, e]))),
        [16, 0, _, _, a, b, c, d, ..] => match u32::from_ne_bytes([a, b, c, d]) {
            0..=8 => return None,
            pid => (4..8, (116, pid)),
        },
        [40, 0, _, _, a, b, c, d, ..] => match u32::from_ne_bytes([a, b, c, d]) {
            0..=1024 | 20000 | 20001 | 29999 | u32::MAX => return None,
            port => (4..8, (140, port)),
        },
        _ => return None,
    })
}

impl Chosen {
    /// Are two names the same, but for what the kernel chose, and is that what it chose
    /// before?
    fn same(&mut self, fixed: &[u16], ty: u8, bare: &[u8], run: &[u8]) -> bool {
        if let ([17, ..], [17, ..]) = (bare, run) {
            // A packet socket also tells its device's hardware address.
            return bare.get(..8) == run.get(..8);
        }
        match (choice(fixed, ty, bare), choice(fixed, ty, run)) {
            (Some((at, one)), Some((there, other))) if at == there => {
                let rest = |name: &[u8]| [&name[..at.start], &name[at.end..]].concat();
                rest(bare) == rest(run)
                    && *self.to.entry(one).or_insert(other.1) == other.1
                    && *self.from.entry(other).or_insert(one.1) == one.1
            }
            _ => bare == run,
        }
    }
}

/// The first difference; or how many answers were the same.
pub fn compare(
    engine: Engine,
    acts: &[Act],
    bare: &[Answer],
    run: &[Answer],
) -> Result<Played, Difference> {
    let fixed: Vec<u16> = acts.iter().filter_map(Act::port).collect();
    let mut chosen = Chosen::default();
    let mut played = Played::default();
    let mut past = Past::default();
    for (at, (act, (bare, run))) in acts.iter().zip(bare.iter().zip(run)).enumerate() {
        let mut adapted = run.clone();
        let mut told = bare.clone();
        let excepted = engine == Engine::Address && past.except(act, &mut told, &mut adapted);
        let ty = past.ty_of(act);
        let names = told.names.iter().zip(&adapted.names);
        let mut same = names.fold(true, |same, (b, r)| chosen.same(&fixed, ty, b, r) && same);
        adapted.names.clone_from(&told.names);
        same &= adapted == told;
        if !same && (past.is_shared(act) || engine == Engine::Address && past.ends(act, bare, run))
        {
            played.cut = 1;
            return Ok(played);
        }
        if !same {
            let [bare, run] = [bare, run].map(say);
            let text = format!("bare {bare}\n  #           in the run: {run}");
            return Err(Difference { at, text });
        }
        played.excepted += usize::from(excepted);
        played.calls += 1;
        past.add(act, bare);
    }
    Ok(played)
}

/// What has come before.
#[derive(Default)]
struct Past {
    /// The socket of each variable, by the number of the act that made it.
    ids: BTreeMap<usize, usize>,
    count: usize,
    /// The last answer about each variable.
    latest: BTreeMap<usize, Answer>,
    /// Those that accept(2) has made.
    accepted: BTreeSet<usize>,
    /// What socket(2) was asked for: `SOCK_STREAM`, …
    types: BTreeMap<usize, u8>,
    /// Those that a connect was called for.
    called: BTreeSet<usize>,
    /// Those with `IP_BIND_ADDRESS_NO_PORT`.
    without_port: BTreeSet<usize>,
    /// Those that have a port at the one place, which is left of a call, and none at the
    /// other.
    stale: BTreeSet<usize>,
    /// Those that are told `::1` for an IPv4 address, or the other way round.
    swapped: BTreeSet<usize>,
    /// Those that have sent to `::1`.
    sent_six: BTreeSet<usize>,
    /// Those that have sent to another address of the run's than 127.0.0.1.
    sent: BTreeSet<usize>,
}

impl Past {
    fn add(&mut self, act: &Act, answer: &Answer) {
        let (id, ty) = (self.id_of(act), self.ty_of(act));
        self.latest.insert(act.var, answer.clone());
        self.types.insert(act.var, ty);
        match &act.what {
            What::Call(Call::Accept { .. }) => drop(self.accepted.insert(id)),
            What::Call(Call::Connect { .. }) => drop(self.called.insert(id)),
            What::Call(Call::Set(Opt::NoPort(true))) => drop(self.without_port.insert(id)),
            What::Send { to: Some(to), .. } => match ip(to) {
                Some([127, 0, 0, 1]) | None => {}
                Some(SIX | [0, 0, 0, 0]) => drop(self.sent_six.insert(id)),
                Some(_) => drop(self.sent.insert(id)),
            },
            _ => {}
        }
        self.ids.insert(act.var, id);
        self.count += 1;
    }

    /// The socket that an act is about: variables that are copies have the same one.
    fn id_of(&self, act: &Act) -> usize {
        match &act.what {
            What::Call(Call::Socket { .. } | Call::File | Call::Accept { .. }) => self.count,
            What::Call(Call::Dup { of }) => self.id(*of),
            _ => self.id(act.var),
        }
    }

    fn id(&self, var: usize) -> usize {
        self.ids.get(&var).copied().unwrap_or(usize::MAX)
    }

    /// The type of the socket that an act is about.
    fn ty_of(&self, act: &Act) -> u8 {
        let of = |var: &usize| self.types.get(var).copied().unwrap_or(0);
        match &act.what {
            What::Call(Call::Socket { ty, .. }) => *ty as u8,
            What::Call(Call::Dup { of: other } | Call::Accept { from: other }) => of(other),
            _ => of(&act.var),
        }
    }

    /// Was a connect called for the socket of an act?
    fn was_called(&self, act: &Act) -> bool {
        let is_now = matches!(act.what, What::Call(Call::Connect { .. }));
        is_now || self.called.contains(&self.id_of(act))
    }

    fn was_accepted(&self, act: &Act) -> bool {
        let is_now = matches!(act.what, What::Call(Call::Accept { .. }));
        is_now || self.accepted.contains(&self.id_of(act))
    }

    /// Makes the answer in the run that of the other place where they differ by nothing but
    /// a limit that `docs/hosts.md` states; did they?
    fn except(&mut self, act: &Act, bare: &mut Answer, run: &mut Answer) -> bool {
        let mut any = false;
        let has_no_peer = bare.names[1].is_empty() && run.names[1].is_empty();
        let (called, accepted) = (self.was_called(act), self.was_accepted(act));
        let errno = bare.errno;
        let id = self.id_of(act);
        let stale = self.stale.contains(&id);
        let names = bare.names.iter_mut().zip(&mut run.names);
        for (n, (bare_name, run_name)) in names.enumerate() {
            let (Some(b), Some(r)) = (ip(bare_name), ip(run_name)) else {
                continue;
            };
            let is_left = n == 0 && has_no_peer && (called || accepted);
            let address = b != r
                && match (b, r) {
                    // A client of another address of a wildcard server is told the first.
                    ([127, 0, 0..8, _], [127, 0, 0, 1]) => {
                        self.sent.insert(id);
                        true
                    }
                    // A socket at [::] that calls ::1, and one that has called ::1 and calls
                    // 127.0.0.1 now.
                    (SIX, [127, 0, 0, 1]) | ([127, 0, 0..8, _], SIX)
                        if is_six(bare_name) && is_six(run_name) =>
                    {
                        self.swapped.insert(id);
                        true
                    }
                    // What is left of a connection is told the wildcard, or the address.
                    (_, [0, 0, 0, 0]) | ([0, 0, 0, 0], _) => is_left,
                    _ => false,
                };
            // What is left of a call that came to nothing has no port.
            let port = n == 0
                && acts::port(bare_name) != Some(0)
                && acts::port(run_name) == Some(0)
                && (is_left || stale || errno != 0);
            if port {
                self.stale.insert(id);
            }
            if !(address || port && b == r) {
                continue;
            }
            any = true;
            if port {
                bare_name.clear();
                run_name.clear();
                continue;
            }
            let own = acts::port(run_name).unwrap_or(0);
            run_name.clone_from(bare_name);
            if let Some(place) = run_name.get_mut(2..4) {
                place.copy_from_slice(&own.to_be_bytes());
            }
        }
        // What was accepted at ::1, has called it, or is bound there without a port.
        if (accepted || called || self.without_port.contains(&id))
            && (bare.options[2], run.options[2]) == (1, 0)
        {
            run.options[2] = 1;
            any = true;
        }
        any
    }

    /// Has a socket the port that an act names for which a connect was called, or accept(2)?
    fn is_beside_client(&self, act: &Act) -> bool {
        let is_client = |var: &usize| {
            let id = self.id(*var);
            self.called.contains(&id) || self.accepted.contains(&id)
        };
        let has_port =
            |answer: &Answer| act.port().is_some() && acts::port(&answer.names[0]) == act.port();
        act.port_of.is_some_and(|of| is_client(&of))
            || self
                .latest
                .iter()
                .any(|(var, answer)| is_client(var) && has_port(answer))
    }

    /// Has somebody else the port of this socket, both with `SO_REUSEPORT`, and is it about
    /// what has come to one of them? The kernel draws who is served.
    fn is_shared(&self, act: &Act) -> bool {
        let subject = match act.what {
            What::Call(Call::Accept { from }) => from,
            What::Receive { .. } => act.var,
            _ => return false,
        };
        let port = |var: &usize| {
            let answer = self.latest.get(var)?;
            let shares = answer.options[..2].contains(&1);
            acts::port(&answer.names[0]).filter(|port| *port != 0 && shares)
        };
        let Some(shared) = port(&subject) else {
            return false;
        };
        let mut others = self.latest.keys().filter(|var| **var != subject);
        others.any(|var| port(var) == Some(shared))
    }

    /// Do the answers differ by a limit that `docs/hosts.md` states, after which the two
    /// places go on differently?
    fn ends(&self, act: &Act, bare: &Answer, run: &Answer) -> bool {
        const IN_USE: i32 = libc::EADDRINUSE;
        let id = self.id_of(act);
        let before = self.latest.get(&act.var);
        let is_named = before.is_some_and(|b| acts::port(&b.names[0]).is_some_and(|p| p != 0));
        if act
            .port_of
            .is_some_and(|of| self.stale.contains(&self.id(of)))
        {
            return true;
        }
        match (&act.what, bare.errno, run.errno) {
            // An automatic port at 0.0.0.0 is taken at ::1, too.
            (What::Call(Call::Bind { bytes, .. }), 0, IN_USE)
                if act.port_of.is_some() && bytes.first() == Some(&10) =>
            {
                true
            }
            // The kernel's own memory of a call to the other family.
            (What::Call(Call::Connect { .. }), libc::EINPROGRESS, _) => self.called.contains(&id),
            // Told one family, it is one of the other.
            (What::Call(Call::Connect { .. }) | What::Send { .. } | What::Error, ..)
                if self.swapped.contains(&id) =>
            {
                true
            }
            // What was accepted at ::1 speaks IPv6 alone, as its listener does.
            (What::Call(Call::Bind { .. }), libc::EINVAL, _)
            | (What::Call(Call::Connect { .. }), libc::EISCONN, _)
                if self.accepted.contains(&id) =>
            {
                true
            }
            // What has sent to an IPv4 address, though it speaks IPv6 alone.
            (What::Call(Call::Bind { .. }), libc::EINVAL, _) if self.stale.contains(&id) => true,
            // A leased port stays the socket's.
            (What::Call(Call::Bind { .. }), 0, IN_USE)
                if act
                    .port_of
                    .is_some_and(|of| self.called.contains(&self.id(of))) =>
            {
                true
            }
            (What::Call(Call::Bind { .. }), _, libc::EINVAL) if self.called.contains(&id) => true,
            (What::Call(Call::Listen), 0, IN_USE) => bare.options[..2].contains(&1),
            // An address of the other family is refused either way.
            (What::Call(Call::Bind { bytes, .. }), libc::EAFNOSUPPORT, libc::EINVAL) => {
                bytes.first() == Some(&2)
            }
            // The port of a client is free at the run's own addresses, and a socket at the
            // wildcard keeps it when it has called somebody.
            (What::Call(Call::Bind { .. }), 0, IN_USE)
            | (What::Call(Call::Bind { .. }), IN_USE, 0)
                if self.is_beside_client(act) =>
            {
                true
            }
            // Who has sent to ::1 is found there alone.
            (What::Receive { .. }, 0, libc::EAGAIN | 0) if self.sent_six.contains(&id) => true,
            // The kernel goes by what it remembers of the last one with SO_REUSEPORT, and by its
            // address: that of the wildcard is that of 127.0.0.1 in the run.
            (What::Call(Call::Bind { .. }), 0, IN_USE)
            | (What::Call(Call::Bind { .. }), IN_USE, 0) => {
                let others = self.latest.iter().filter(|(var, answer)| {
                    **var != act.var && acts::port(&answer.names[0]) == act.port()
                });
                bare.options[1] == 1 && others.count() >= 1 || bare.errno == IN_USE && is_named
            }
            // For the same reason both are in one group.
            (What::Call(Call::Set(Opt::AttachReuseport)), ..) => {
                bare.options[1] == 1 || self.called.contains(&id)
            }
            (What::Call(Call::Set(_)), 0, libc::EINVAL) => self.called.contains(&id),
            // A socket at the wildcard that calls itself by another address.
            (What::Call(Call::Connect { .. }), libc::ECONNREFUSED, 0) => {
                run.names[0] == run.names[1]
            }
            // For another address of a wildcard server there is the first, and that answers.
            (What::Receive { .. } | What::Send { .. }, libc::ECONNREFUSED, _)
            | (What::Receive { .. } | What::Send { .. }, _, libc::ECONNREFUSED) => {
                self.sent.contains(&id)
            }
            (What::Error, 0, 0) => run.value == libc::ECONNREFUSED && self.sent.contains(&id),
            // A leased port stays the socket's.
            (What::Call(Call::Connect { bytes }), 0, 0)
                if bytes.first() == Some(&0) && acts::port(&bare.names[0]) == Some(0) =>
            {
                true
            }
            (_, one, other) if one == other && self.was_called(act) => {
                let is_other = acts::port(&bare.names[0]) != acts::port(&run.names[0]);
                is_other
                    && ip(&bare.names[0]) == ip(&run.names[0])
                    && acts::port(&run.names[0]) >= Some(61000)
            }
            _ => false,
        }
    }
}

/// What stands for `::1` among IPv4 addresses here.
const SIX: [u8; 4] = [0, 0, 0, 1];

/// The IPv4 address in a name, or the last four bytes of one that begins with zeroes.
fn ip(name: &[u8]) -> Option<[u8; 4]> {
    match name {
        [2, 0, _, _, a, b, c, d, ..] => Some([*a, *b, *c, *d]),
        [10, 0, _, _, _, _, _, _, ip @ ..] => {
            let (head, tail) = (ip.get(..12)?, ip.get(12..16)?);
            let is_known = head == [0; 12] || head == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];
            tail.try_into().ok().filter(|_| is_known)
        }
        _ => None,
    }
}

fn is_six(name: &[u8]) -> bool {
    name.first() == Some(&10)
}

fn say(answer: &Answer) -> String {
    let result = match answer.errno {
        0 => "ok".to_owned(),
        e => Errno::from_linux(e).map_or(format!("errno {e}"), |e| e.name().into()),
    };
    let [name, peer, from] = answer.names.each_ref().map(|name| match name.len() {
        0 => "-".to_owned(),
        _ => acts::name(name),
    });
    let (value, options) = (answer.value, answer.options);
    format!("{result}, value {value}, name {name}, peer {peer}, from {from}, options {options:?}")
}
