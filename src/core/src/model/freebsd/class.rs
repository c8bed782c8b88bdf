//! Owners in classes, as FreeBSD tells them apart, and the look-ups by them.
//!
//! `in_pcblookup_local` walks the owners of a port and finds the first of
//! those that fit best. What it does with that one depends on its kind of
//! address, its options, whether it is connected, and its user. So it need not
//! be known which one it is, unless those that fit equally well differ in that.

use super::pcb::{ADDR, LB, PORT, connected};
use super::{INP_IPV4, INP_IPV6, INP_REUSEPORT, quirks};
use crate::addr::af;
use crate::model::net::{
    Asker, Class, Classes, NAMED, Net, Scope, Sock, SockId, each, mapped, meet,
};

/// `::`, for IPv4 too.
const ANY_DUAL: Classes = kind(0);
/// `::` with `IPV6_V6ONLY`.
const ANY_SIX: Classes = kind(1);
/// 0.0.0.0
pub(super) const ANY_FOUR: Classes = kind(2);
/// `::ffff:0.0.0.0`
const ANY_MAPPED: Classes = kind(3);
/// An IPv4 address, mapped or not.
const FOUR: Classes = kind(4);
/// An IPv6 address.
const SIX: Classes = kind(5);
/// An IPv6 address of a socket that speaks IPv4 as well: only 9.1 has such, by
/// a second bind that failed.
const BOTH: Classes = kind(6);

/// `INP_IPV4`, of those at a wildcard.
const ANY_OF_FOUR: Classes = ANY_DUAL | ANY_FOUR | ANY_MAPPED;
/// `INP_IPV6`, of those at a wildcard.
const ANY_OF_SIX: Classes = ANY_DUAL | ANY_SIX;
/// IPv6 sockets whose IPv4 address is 0.
pub(super) const ANY_OF_V6_SOCKETS: Classes = ANY_DUAL | ANY_SIX | ANY_MAPPED;

/// A class is its kind of address, three options, and connected or not.
const EACH_KIND: u32 = 16;
pub(super) const CONNECTED: Classes = u128::MAX / 3 * 2;

const fn kind(n: u32) -> Classes {
    0xffff << (n * EACH_KIND)
}

/// The classes that have one of these options.
pub(super) fn with_options(of: u8) -> Classes {
    // A bit of four for each kind; the options are bits 1 to 3 of a class.
    const ALL_KINDS: Classes = u128::MAX / 0xffff;
    let one = |bit: u8, classes: Classes| if of & bit != 0 { classes } else { 0 };
    ALL_KINDS * (one(ADDR, 0xcccc) | one(PORT, 0xf0f0) | one(LB, 0xff00))
}

/// Bits of `so_options` that others see. In 9.1 that is `INP_REUSEPORT` alone.
fn options(s: &Sock) -> u8 {
    u8::from(s.reuse != 0) * ADDR
        + u8::from(s.bsd & INP_REUSEPORT != 0) * PORT
        + u8::from(s.reuseport_lb()) * LB
}

/// The class of a FreeBSD host's socket.
pub(in crate::model) fn class_of(s: &Sock) -> u8 {
    let any = s.rcv6 == [0; 16];
    let kind = match s.bsd & (INP_IPV4 | INP_IPV6) {
        _ if s.kind.domain == af::INET => {
            if s.rcv4 == 0 {
                2
            } else {
                4
            }
        }
        INP_IPV4 => {
            if s.rcv4 == 0 {
                3
            } else {
                4
            }
        }
        INP_IPV6 => {
            if any {
                1
            } else {
                5
            }
        }
        _ if any => 0,
        _ => 6,
    };
    kind * EACH_KIND as u8 + options(s) * 2 + u8::from(connected(s))
}

/// The view that a look-up has: of IPv4 or of IPv6 sockets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum View {
    Four(u32),
    Six([u8; 16]),
}

impl View {
    pub fn is_any(self) -> bool {
        match self {
            View::Four(a) => a == 0,
            View::Six(a) => u128::from_ne_bytes(a) == 0,
        }
    }

    /// The classes of owners at the wildcard.
    pub fn wildcards(self) -> Classes {
        match self {
            View::Four(_) => ANY_OF_FOUR,
            View::Six(_) => ANY_OF_SIX,
        }
    }

    fn addr(self) -> [u8; 16] {
        match self {
            View::Four(a) => mapped(a),
            View::Six(a) => a,
        }
    }

    /// Owners at the very address that is asked for.
    fn same(self) -> Classes {
        match self {
            _ if self.is_any() => self.wildcards(),
            View::Four(_) => FOUR,
            View::Six(_) => SIX | BOTH,
        }
    }

    /// `wildcard` in `in_pcblookup_local`: what an unconnected owner of these
    /// classes counts; a connected one counts one more, the least is the best.
    fn costs(self) -> [(Classes, u32); 4] {
        let four = ANY_FOUR | ANY_MAPPED;
        match self {
            View::Four(0) => [(four, 0), (FOUR, 1), (ANY_DUAL, 3), (BOTH, 4)],
            View::Four(_) => [(FOUR, 0), (four, 1), (ANY_DUAL, 4), (0, 0)],
            View::Six(a) if a == [0; 16] => [(ANY_OF_SIX, 0), (SIX | BOTH, 1), (0, 0), (0, 0)],
            View::Six(_) => [(SIX | BOTH, 0), (ANY_OF_SIX, 1), (0, 0), (0, 0)],
        }
    }
}

/// The owners that a look-up finds equally good.
#[derive(Clone, Copy)]
pub(super) struct Best {
    classes: Classes,
    /// Where those are that must have the address asked for.
    group: Option<u32>,
    view: View,
    /// The oldest of them comes first.
    back: bool,
    /// The jail that looks.
    jail: u32,
}

impl Best {
    /// The classes that must have the address asked for: the others are at the
    /// wildcard, or may have any.
    fn own(&self) -> Classes {
        if self.view.is_any() {
            0
        } else {
            self.view.same()
        }
    }

    fn holds(&self, s: &Sock) -> bool {
        let class = Class::of(s).bit() & self.classes;
        meet(s.dev, self.jail) && self.at(s, class)
    }

    fn at(&self, s: &Sock, class: Classes) -> bool {
        class & !self.own() != 0 || (class != 0 && s.rcv6 == self.view.addr())
    }

    /// The scopes in which they are counted.
    fn scopes(&self, port: Scope) -> [(Scope, Classes); 2] {
        let own = self.classes & self.own();
        let group = self.group.map_or(port, Scope::Group);
        [(port, self.classes & !own), (group, own)]
    }
}

/// Which owners stand in the way, if the best one is of theirs.
#[derive(Clone, Copy)]
pub(super) struct Stopping {
    pub classes: Classes,
    /// Only those of another user.
    pub other_user: bool,
}

/// What the best owner says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Met {
    Passes,
    /// The owner, if it is among those that were looked at.
    Stops(Option<SockId>),
}

impl Net<'_> {
    /// `in_pcblookup_local` with or without `INPLOOKUP_WILDCARD`: unconnected
    /// owners of this very address, or the best of all that overlap.
    pub(super) fn in_pcblookup_local(
        &self,
        a: &Asker,
        port: u16,
        view: View,
        wild: bool,
    ) -> Option<Best> {
        let port = u32::from(port);
        if self.bucket(a.table, port).count == 0 {
            return None;
        }
        let present = self.seen(Self::port_scope(a.table, port), a, port);
        let (any, same) = (view.is_any(), view.same());
        let group = match any {
            true => None,
            false => self.group(a.table, port, &view.addr()),
        };
        let seen = match group {
            _ if any => present,
            Some(g) => (present & !same) | (self.seen(Scope::Group(g), a, port) & same),
            None => present & !same,
        };
        let best = |classes, back| Best {
            classes,
            group,
            view,
            back,
            jail: a.dev,
        };
        if !wild {
            let classes = seen & same & !CONNECTED;
            let rest = classes & !ANY_MAPPED;
            return match classes {
                0 => None,
                // _in_pcbinshash_wild appends the mapped ones to the chain.
                _ if any && quirks::mapped_wildcards_last(self.host.generation) => {
                    Some(match rest {
                        0 => best(classes, true),
                        _ => best(rest, false),
                    })
                }
                _ => Some(best(classes, false)),
            };
        }
        // No owner of another address overlaps a specific one.
        let (mut found, mut least) = (0, u32::MAX);
        for (classes, unconnected) in view.costs() {
            let fit = seen & classes;
            if fit == 0 {
                continue;
            }
            let (classes, cost) = match fit & !CONNECTED {
                0 => (fit, unconnected + 1),
                free => (free, unconnected),
            };
            if cost < least {
                (found, least) = (classes, cost);
            } else if cost == least {
                found |= classes;
            }
            // mutants: faster: what follows costs more
            if least <= unconnected {
                break;
            }
        }
        (found != 0).then(|| best(found, false))
    }

    /// The classes of a scope's owners that the asker's jail sees
    /// (`prison_equal_ip4`).
    fn seen(&self, scope: Scope, a: &Asker, port: u32) -> Classes {
        let sum = self.summary(scope);
        if self.host.jails.as_slice().is_empty() {
            return sum.present();
        }
        each(sum.present())
            .filter(|class| self.tally(scope, &sum, *class, a, port).0 > 0)
            .fold(0, |seen, class| seen | class.bit())
    }

    /// Does the best owner stand in the way? The first of them in the port's
    /// list is asked where they differ.
    pub(super) fn meet_best(&self, a: &Asker, port: u16, best: &Best, stopping: Stopping) -> Met {
        let port = u32::from(port);
        let stopped = best.classes & stopping.classes;
        let mut pass = best.classes & !stopping.classes != 0;
        let mut stop = stopped != 0 && !stopping.other_user;
        if stopped != 0 && stopping.other_user {
            for (scope, classes) in best.scopes(Self::port_scope(a.table, port)) {
                let classes = classes & stopped;
                if classes == 0 {
                    continue;
                }
                let sum = self.summary(scope);
                // mutants: faster: all are of one user
                if sum.mixed() == 0 && self.own_class(scope, a, port).is_none() {
                    if meet(sum.dev(), a.dev) {
                        stop |= sum.uid() != a.uid;
                        pass |= sum.uid() == a.uid;
                    }
                    continue;
                }
                for class in each(classes) {
                    let (n, same) = self.tally(scope, &sum, class, a, port);
                    stop |= n > same;
                    pass |= same > 0;
                }
            }
        }
        if !stop {
            return Met::Passes;
        }
        if pass {
            return match self.first_of(a, port, best, usize::MAX) {
                Some((o, s))
                    if Class::of(s).bit() & stopping.classes != 0
                        && !(stopping.other_user && s.uid == a.uid) =>
                {
                    Met::Stops(Some(o))
                }
                _ => Met::Passes,
            };
        }
        let first = self.first_of(a, port, best, NAMED).or_else(|| {
            self.of_classes(a.table, port, best.classes)
                .take(NAMED)
                .find(|(_, s)| best.holds(s))
        });
        Met::Stops(first.map(|(o, _)| o))
    }

    /// Are all owners of a scope of the best, wherever they are in it?
    fn hold_all(&self, scope: Scope, best: &Best) -> bool {
        let sum = self.summary(scope);
        sum.mixed() == 0 && meet(sum.dev(), best.jail) && sum.present() & !best.classes == 0
    }

    /// The first of the best owners in the kernel's order, if it is among so
    /// many: of its address's where it must have that, else of the port's.
    fn first_of(&self, a: &Asker, port: u32, best: &Best, most: usize) -> Option<(SockId, &Sock)> {
        if best.back {
            let mut owners = self.owners_back(a.table, port).take(most);
            return owners.find(|(_, s)| best.holds(s));
        }
        let own = best.own();
        if best.classes & !own == 0 {
            let group = best.group?;
            let mut owners = self.of_group(group).take(most);
            // mutants: faster: all in the group are of the best
            return match self.hold_all(Scope::Group(group), best) {
                true => owners.next(),
                false => owners.find(|(_, s)| best.holds(s)),
            };
        }
        let mut owners = self.owners(a.table, port).take(most);
        // mutants: faster: all of the port are of the best
        if own == 0 && self.hold_all(Self::port_scope(a.table, port), best) {
            return owners.next();
        }
        owners.find(|(_, s)| best.holds(s))
    }
}
