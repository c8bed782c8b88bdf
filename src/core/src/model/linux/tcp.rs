//! TCP's bind table: `inet_csk_get_port` and the functions round it.

use super::quirks;
use crate::model::net::{
    ALL, AT_ANY, Asker, Bucket, Classes, Ctx, LISTEN, MAPPED_ANY, NAMED, Net, REUSE, REUSEPORT,
    Scope, Sock, SockId, State, TIME_WAIT, Table, V6ONLY, each, meet, unmapped,
};
use crate::model::step::Step;
use crate::model::{Errno, No};

/// How strictly owners are looked at.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// `relax`: SO_REUSEADDR counts.
    pub relax: bool,
    /// `reuseport_ok`: SO_REUSEPORT counts.
    pub reuseport_ok: bool,
}

/// bind() with a port, and listen().
pub(super) const BIND: Look = Look {
    relax: true,
    reuseport_ok: true,
};

#[derive(PartialEq)]
enum Kind {
    Any,
    Mapped,
    Other,
}

fn kind(v6: &[u8; 16]) -> Kind {
    if *v6 == [0; 16] {
        Kind::Any
    } else if unmapped(v6).is_some() {
        Kind::Mapped
    } else {
        Kind::Other
    }
}

/// One side of an address comparison.
pub(super) struct Side<'a> {
    pub v6: &'a [u8; 16],
    pub v4: u32,
    pub v6only: bool,
}

impl Sock {
    pub(super) fn side(&self) -> Side<'_> {
        Side {
            v6: &self.rcv6,
            v4: self.rcv4,
            v6only: self.v6only(),
        }
    }
}

impl Asker {
    pub(super) fn side(&self) -> Side<'_> {
        Side {
            v6: &self.rcv6,
            v4: self.rcv4,
            v6only: self.v6only(),
        }
    }
}

/// `ipv4_rcv_saddr_equal`
fn ipv4_rcv_saddr_equal(a: &Side<'_>, b: &Side<'_>, wild_a: bool, wild_b: bool) -> bool {
    !b.v6only && (a.v4 == b.v4 || (wild_a && a.v4 == 0) || (wild_b && b.v4 == 0))
}

/// `ipv6_rcv_saddr_equal`: a wildcard covers the others of its side if asked;
/// one without V6ONLY covers IPv4 too.
fn ipv6_rcv_saddr_equal(a: &Side<'_>, b: &Side<'_>, wild_a: bool, wild_b: bool) -> bool {
    match (kind(a.v6), kind(b.v6)) {
        (Kind::Mapped, Kind::Mapped) => ipv4_rcv_saddr_equal(a, b, wild_a, wild_b),
        (ka, Kind::Any) if wild_b && !(b.v6only && ka == Kind::Mapped) => true,
        (Kind::Any, kb) if wild_a && !(a.v6only && kb == Kind::Mapped) => true,
        _ => a.v6 == b.v6,
    }
}

/// `inet_rcv_saddr_equal`, wildcards matching.
pub(in crate::model) fn inet_rcv_saddr_equal(a: &Asker, b: &Sock) -> bool {
    if a.is_v6() {
        ipv6_rcv_saddr_equal(&a.side(), &b.side(), true, true)
    } else {
        ipv4_rcv_saddr_equal(&a.side(), &b.side(), true, true)
    }
}

/// `inet_bind_conflict`: do the options of two overlapping sockets collide?
/// What [`Net::colliding`] says of classes, of one owner.
// mutants: holder: only asked once a conflict is certain
pub(super) fn inet_bind_conflict(s: &Asker, o: &Sock, look: Look) -> bool {
    if !meet(s.dev, o.dev) {
        return false;
    }
    let by_reuseport =
        s.may_reuseport() && o.reuseport() && (o.state == State::TimeWait || s.uid == o.uid);
    if s.reuse() && o.reuse != 0 && o.state != State::Listen {
        !look.relax || (!look.reuseport_ok && by_reuseport)
    } else {
        !look.reuseport_ok || !by_reuseport
    }
}

/// Where a conflict was found.
pub(super) struct Found {
    step: Step,
    /// The classes whose owners conflict, or some of them do.
    classes: Classes,
    /// The group of the owners' address; none if they have any.
    group: Option<u32>,
}

impl Net<'_> {
    /// `inet_bind_conflict` for all owners of a scope at once: the classes, of
    /// those asked about, in which somebody collides; the first ones found.
    fn colliding(
        &self,
        scope: Scope,
        within: Classes,
        a: &Asker,
        port: u32,
        look: Look,
    ) -> Classes {
        let sum = self.summary(scope);
        let set = sum.present() & within;
        if set == 0 {
            return 0;
        }
        let own = self.own_class(scope, a, port).is_some();
        let alone = !own && (a.dev == 0 || (sum.mixed() == 0 && meet(sum.dev(), a.dev)));
        // mutants: faster: nobody agrees with an asker without options
        if alone && !a.reuse() && !a.may_reuseport() {
            return set;
        }
        // SO_REUSEADDR agrees for these; SO_REUSEPORT can agree for those.
        let reuse = if a.reuse() { REUSE & !LISTEN } else { 0 };
        let port_bit = if a.may_reuseport() { REUSEPORT } else { 0 };
        // Collide in any case, if of the same user, if of another.
        let (always, if_same, if_other) = match (look.relax, look.reuseport_ok) {
            (true, true) => (!reuse & !port_bit, 0, !reuse & port_bit & !TIME_WAIT),
            (true, false) => (
                !reuse | (port_bit & TIME_WAIT),
                reuse & port_bit & !TIME_WAIT,
                0,
            ),
            (false, true) => (reuse | !port_bit, 0, !reuse & port_bit & !TIME_WAIT),
            (false, false) => (ALL, 0, 0),
        };
        if alone {
            if set & always != 0 {
                return set & always;
            }
            if sum.mixed() == 0 {
                let by_uid = if sum.uid() == a.uid {
                    if_same
                } else {
                    if_other
                };
                return set & by_uid;
            }
        }
        each(set & (always | if_same | if_other))
            .find(|class| {
                let (n, same) = self.tally(scope, &sum, *class, a, port);
                if class.bit() & always != 0 {
                    n > 0
                } else if class.bit() & if_same != 0 {
                    same > 0
                } else {
                    n > same
                }
            })
            .map_or(0, |class| class.bit())
    }

    /// `inet_bhash2_addr_any_conflict` and `inet_csk_bind_conflict` in one: is
    /// there an owner of the port that stands against the asker?
    pub(super) fn inet_csk_bind_conflict(&self, a: &Asker, port: u16, look: Look) -> Option<Found> {
        let port = u32::from(port);
        if self.bucket(Table::Tcp, port).count == 0 {
            return None;
        }
        if !a.is_specific() {
            let scope = Self::port_scope(Table::Tcp, port);
            let classes = self.colliding(scope, a.overlapped(), a, port, look);
            return (classes != 0).then_some(Found {
                step: Step::CskConflict,
                classes,
                group: None,
            });
        }
        let at = |addr: &[u8; 16]| {
            let group = self.group(Table::Tcp, port, addr)?;
            let classes = self.colliding_at(group, addr, a, port, look);
            (classes != 0).then_some((group, classes))
        };
        let any_at = |addr: &[u8; 16]| at(addr).map(|found| (Step::CskAnyConflict, found));
        let scope = Self::port_scope(Table::Tcp, port);
        let mut found = None;
        // mutants: faster: nobody is at :: if the port has none of its classes
        if self.summary(scope).present() & AT_ANY != 0 {
            found = any_at(&[0; 16]);
        }
        if found.is_none() && a.is_four() {
            found = any_at(&MAPPED_ANY);
        }
        if found.is_none() {
            found = at(&a.rcv6).map(|found| (Step::CskSameConflict, found));
        }
        let (step, (group, classes)) = found?;
        Some(Found {
            step,
            classes,
            group: Some(group),
        })
    }

    /// Those classes at an address in which somebody collides with an asker at a
    /// specific one.
    fn colliding_at(
        &self,
        group: u32,
        addr: &[u8; 16],
        a: &Asker,
        port: u32,
        look: Look,
    ) -> Classes {
        let within = if a.is_four() { ALL & !V6ONLY } else { ALL };
        // mutants: generation: of 6.1 alone
        if *addr == MAPPED_ANY && a.is_v6() && quirks::mapped_any_is_not_seen(self.host.generation)
            // An owner at 0.0.0.0 that came later is in the same bucket.
            && self.group_is_six(group)
        {
            return 0;
        }
        self.colliding(Scope::Group(group), within, a, port, look)
    }

    /// One of the owners in the way: the first in the kernel's order, if it is
    /// among the first 64; else one of its class.
    // mutants: holder: who it is no program can see
    pub(super) fn holder(&self, a: &Asker, port: u16, look: Look, found: &Found) -> Option<SockId> {
        let port = u32::from(port);
        let stands = |(o, s): &(SockId, &Sock)| {
            let meets = match found.group {
                None => inet_rcv_saddr_equal(a, s),
                Some(group) => s.is_in(group) && !(a.is_four() && s.v6only()),
            };
            !a.is(*o) && meets && inet_bind_conflict(a, s, look)
        };
        let scope = found
            .group
            .map_or(Self::port_scope(Table::Tcp, port), Scope::Group);
        // They are all alike.
        if self.summary(scope).alike() {
            let another = |(o, _): &(SockId, &Sock)| !a.is(*o);
            let first = match found.group {
                None => self.owners(Table::Tcp, port).find(another),
                Some(group) => self.of_group(group).find(another),
            };
            return first.map(|(o, _)| o);
        }
        let first = match found.group {
            None => self.owners(Table::Tcp, port).take(NAMED).find(stands),
            Some(group) => self.of_group(group).take(NAMED).find(stands),
        };
        first
            .or_else(|| {
                self.of_classes(Table::Tcp, port, found.classes)
                    .take(NAMED)
                    .find(stands)
            })
            .map(|(o, _)| o)
    }

    /// `sk_reuseport_match`
    fn sk_reuseport_match(&self, b: &Bucket, s: &Sock) -> bool {
        if b.fastreuseport <= 0 || !s.reuseport() || s.group() || b.fastuid != s.uid {
            return false;
        }
        if b.fastreuseport == 1 {
            return true;
        }
        let fast = Side {
            v6: &b.fast6,
            v4: b.fast4,
            v6only: b.fast_v6only != 0,
        };
        if b.fast_six != 0 {
            ipv6_rcv_saddr_equal(&fast, &s.side(), true, false)
        } else {
            ipv4_rcv_saddr_equal(&fast, &s.side(), true, false)
        }
    }

    /// `udp_reuseport_add_sock`, `inet_reuseport_add_sock`: a socket with
    /// SO_REUSEPORT joins the group of the first one that is like it, which
    /// gets one by this if it was bound before it had the option.
    pub(super) fn reuseport_add_sock(&mut self, id: SockId, counts: impl Fn(&Sock) -> bool) {
        let s = self.get(id);
        if !s.reuseport() {
            return;
        }
        let scope = Self::port_scope(s.table, s.num);
        // mutants: faster: nobody is like it if nobody has the option
        let some = self.summary(scope).present() & REUSEPORT != 0;
        let like = |(o, other): &(SockId, &Sock)| {
            *o != id
                && counts(other)
                && other.is_v6() == s.is_v6()
                && other.v6only() == s.v6only()
                && other.dev == s.dev
                && other.reuseport()
                && other.uid == s.uid
                && if s.is_v6() {
                    ipv6_rcv_saddr_equal(&s.side(), &other.side(), false, false)
                } else {
                    ipv4_rcv_saddr_equal(&s.side(), &other.side(), false, false)
                }
        };
        let first = match some {
            true => self.owners(s.table, s.num).find(like).map(|(o, _)| o),
            false => None,
        };
        self.note(id, |s| s.set_group(true));
        if let Some(first) = first {
            self.note(first, |o| o.set_group(true));
        }
    }

    /// `inet_csk_update_fastreuse`
    fn inet_csk_update_fastreuse(&mut self, id: SockId, port: u16, cx: &mut Ctx) {
        let s = self.get(id);
        let port = u32::from(port);
        let b = self.bucket(Table::Tcp, port);
        let generation = self.host.generation;
        // mutants: generation: nobody asks for a positive fastreuse since 6.8
        let reuse = s.reuse != 0 && s.state != State::Listen;
        // The bucket has its address group by now, so it never looks new; it
        // did before 6.8.
        // mutants: generation: never new since 6.8
        let new = b.count == 0 && quirks::fastreuse_lives(generation);
        let matches = self.sk_reuseport_match(b, s);
        let (reuseport, uid, v6only, six) = (s.reuseport(), s.uid, s.v6only(), s.is_v6());
        let (rcv4, rcv6) = (s.rcv4, s.rcv6);
        self.edit_bucket(Table::Tcp, port, |b| {
            // mutants: generation: nobody asks for a positive fastreuse since 6.8
            if new {
                b.fastreuse = i8::from(reuse);
            } else if !reuse {
                b.fastreuse = 0;
            }
            if !reuseport {
                b.fastreuseport = 0;
            // mutants: generation `new`: never since 6.8
            } else if new || !matches {
                b.fastreuseport = if new { 1 } else { 2 };
                b.fastuid = uid;
                b.fast4 = rcv4;
                b.fast6 = rcv6;
                b.fast_v6only = u8::from(v6only);
                b.fast_six = u8::from(six);
            }
        });
        cx.pass(match (reuseport, matches) {
            (false, _) => Step::CskUpdateClear,
            (true, false) => Step::CskUpdateSet,
            (true, true) => Step::CskUpdateKeep,
        });
    }

    /// `inet_csk_get_port`: takes port `snum`, or one of the kernel's choice
    /// if that is 0; for listen() the port that the socket has already.
    pub(super) fn inet_csk_get_port(
        &mut self,
        id: SockId,
        snum: u16,
        cx: &mut Ctx,
    ) -> Result<(), No> {
        let mut port = snum;
        if snum == 0 {
            match self.inet_csk_find_open_port(id, cx) {
                Some(found) => port = found,
                None => return cx.fail(Step::CskNoOpenPort, Errno::EADDRINUSE),
            }
            cx.pass(Step::CskOpenPort);
        } else {
            self.check_port(id, port, cx)?;
        }
        self.inet_csk_update_fastreuse(id, port, cx);
        if !self.get(id).hashed() {
            self.edit(id, |s| s.num = u32::from(port));
            self.inet_bind_hash(id);
        }
        Ok(())
    }

    fn check_port(&self, id: SockId, port: u16, cx: &mut Ctx) -> Result<(), No> {
        let s = self.get(id);
        let b = self.bucket(Table::Tcp, u32::from(port));
        if b.count == 0 {
            cx.pass(Step::CskNewBucket);
            return Ok(());
        }
        // mutants: generation: fastreuse is never positive since 6.8
        let reuse = s.reuse != 0 && s.state != State::Listen;
        if s.reuse == 2 {
            cx.pass(Step::CskForceReuse);
        // mutants: generation `reuse`: fastreuse is never positive since 6.8
        } else if b.fastreuse > 0 && reuse {
            cx.pass(Step::CskFastReuse);
        } else if self.sk_reuseport_match(b, s) {
            cx.pass(Step::CskFastReuseport);
        } else {
            let asker = Asker::of(id, s);
            if let Some(found) = self.inet_csk_bind_conflict(&asker, port, BIND) {
                cx.holder = self.holder(&asker, port, BIND, &found);
                return cx.fail(found.step, Errno::EADDRINUSE);
            }
            cx.pass(Step::CskShared);
        }
        Ok(())
    }
}
