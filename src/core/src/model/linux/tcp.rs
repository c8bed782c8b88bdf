//! TCP's bind table: `inet_csk_get_port` and the functions round it.

use super::quirks;
use crate::model::Errno;
use crate::model::net::{Bucket, Ctx, MAPPED_ANY, Net, Sock, SockId, State, Table, unmapped};
use crate::model::step::Step;

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
            v6only: self.v6only,
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
        (Kind::Any, Kind::Any) => true,
        (ka, Kind::Any) if wild_b && !(b.v6only && ka == Kind::Mapped) => true,
        (Kind::Any, kb) if wild_a && !(a.v6only && kb == Kind::Mapped) => true,
        _ => a.v6 == b.v6,
    }
}

/// `inet_rcv_saddr_equal`, wildcards matching.
pub(super) fn inet_rcv_saddr_equal(a: &Sock, b: &Sock) -> bool {
    if a.is_v6() {
        ipv6_rcv_saddr_equal(&a.side(), &b.side(), true, true)
    } else {
        ipv4_rcv_saddr_equal(&a.side(), &b.side(), true, true)
    }
}

/// May both be bound to devices as they are?
pub(super) fn devices_meet(a: &Sock, b: &Sock) -> bool {
    a.dev == 0 || b.dev == 0 || a.dev == b.dev
}

/// `inet_bind_conflict`: do the options of two overlapping sockets collide?
fn inet_bind_conflict(s: &Sock, o: &Sock, look: Look) -> bool {
    if !devices_meet(s, o) {
        return false;
    }
    let by_reuseport =
        s.reuseport && o.reuseport && !s.group && (o.state == State::TimeWait || s.uid == o.uid);
    if s.reuse != 0 && o.reuse != 0 && o.state != State::Listen {
        !look.relax || (!look.reuseport_ok && by_reuseport)
    } else {
        !look.reuseport_ok || !by_reuseport
    }
}

impl Net<'_> {
    /// `inet_bhash2_addr_any_conflict` and `inet_csk_bind_conflict` in one:
    /// the first owner of the port that stands against socket `id`.
    pub(super) fn inet_csk_bind_conflict(
        &self,
        id: SockId,
        port: u16,
        look: Look,
    ) -> Option<(Step, SockId)> {
        let s = self.get(id);
        let port = u32::from(port);
        if self.bucket(Table::Tcp, port).count == 0 {
            return None;
        }
        if !s.is_specific() {
            return self
                .owners(Table::Tcp, port)
                .find(|(o, sock)| {
                    *o != id && inet_bind_conflict(s, sock, look) && inet_rcv_saddr_equal(s, sock)
                })
                .map(|(o, _)| (Step::CskConflict, o));
        }
        let four = !s.is_v6() || unmapped(&s.rcv6).is_some();
        let against = |step, addr| {
            self.at_addr(Table::Tcp, port, addr)
                .find(|(o, sock)| {
                    *o != id && !(four && sock.v6only) && inet_bind_conflict(s, sock, look)
                })
                .map(|(o, _)| (step, o))
        };
        against(Step::CskAnyConflict, [0; 16])
            .or_else(|| {
                four.then(|| against(Step::CskAnyConflict, MAPPED_ANY))
                    .flatten()
            })
            .or_else(|| against(Step::CskSameConflict, s.rcv6))
    }

    /// `sk_reuseport_match`
    fn sk_reuseport_match(&self, b: &Bucket, s: &Sock) -> bool {
        if b.fastreuseport <= 0 || !s.reuseport || s.group || b.fastuid != s.uid {
            return false;
        }
        if b.fastreuseport == 1 {
            return true;
        }
        let fast = Side {
            v6: &b.fast6,
            v4: b.fast4,
            v6only: b.fast_v6only,
        };
        if b.fast_six {
            ipv6_rcv_saddr_equal(&fast, &s.side(), true, false)
        } else {
            ipv4_rcv_saddr_equal(&fast, &s.side(), true, false)
        }
    }

    /// `inet_csk_update_fastreuse`
    fn inet_csk_update_fastreuse(&mut self, id: SockId, port: u16, cx: &mut Ctx) {
        let s = *self.get(id);
        let port = u32::from(port);
        let b = *self.bucket(Table::Tcp, port);
        let generation = self.core.host.generation;
        let reuse = s.reuse != 0 && s.state != State::Listen;
        // The bucket has its address group by now, so it never looks new; it
        // did before 6.8.
        let new = b.count == 0 && quirks::fastreuse_lives(generation);
        let matches = self.sk_reuseport_match(&b, &s);
        self.edit_bucket(Table::Tcp, port, |b| {
            if new {
                b.fastreuse = i8::from(reuse);
            } else if !reuse {
                b.fastreuse = 0;
            }
            if !s.reuseport {
                b.fastreuseport = 0;
            } else if new || !matches {
                b.fastreuseport = if new { 1 } else { 2 };
                b.fastuid = s.uid;
                b.fast4 = s.rcv4;
                b.fast6 = s.rcv6;
                b.fast_v6only = s.v6only;
                b.fast_six = s.is_v6();
            }
        });
        cx.pass(match (s.reuseport, matches) {
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
    ) -> Result<(), Errno> {
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
        if !self.get(id).hashed {
            self.edit(id, |s| s.num = u32::from(port));
            self.inet_bind_hash(id);
        }
        Ok(())
    }

    fn check_port(&self, id: SockId, port: u16, cx: &mut Ctx) -> Result<(), Errno> {
        let s = self.get(id);
        let b = self.bucket(Table::Tcp, u32::from(port));
        if b.count == 0 {
            cx.pass(Step::CskNewBucket);
            return Ok(());
        }
        let reuse = s.reuse != 0 && s.state != State::Listen;
        if s.reuse == 2 {
            cx.pass(Step::CskForceReuse);
        } else if b.fastreuse > 0 && reuse {
            cx.pass(Step::CskFastReuse);
        } else if self.sk_reuseport_match(b, s) {
            cx.pass(Step::CskFastReuseport);
        } else if let Some((step, holder)) = self.inet_csk_bind_conflict(id, port, BIND) {
            cx.holder = Some(holder);
            return cx.fail(step, Errno::EADDRINUSE);
        } else {
            cx.pass(Step::CskShared);
        }
        Ok(())
    }
}
