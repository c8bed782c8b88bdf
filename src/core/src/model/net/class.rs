//! Owners in classes: what decides a conflict without looking at each owner.
//!
//! Whether an owner stands in the way of a socket depends on few things: its
//! kind of address, four options, its state, its device, its user. The first
//! six make a [`Class`], one of 72 (of 112 other ones on a FreeBSD host). A
//! port, and each address of a port, keeps a [`Summary`]: which classes it has,
//! and the device and user of its owners as long as all have the same. Only
//! where they differ do the counts by device and user
//! ([`Counts`](super::counts::Counts)) have to be asked.

use bytemuck::{Pod, Zeroable};

use super::{NONE, Sock, SockId, State, Table, unmapped};
use crate::model::freebsd;

/// How many classes there are.
pub(in crate::model) const CLASSES: u8 = 72;

/// What about an owner decides, besides its address, device and user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::model) struct Class(pub u8);

/// A set of classes, a bit for each.
pub(in crate::model) type Classes = u128;

const fn with(field: u8, value: u8) -> Classes {
    let mut set = 0;
    let mut i = 0;
    while i < CLASSES {
        let v = match field {
            0 => i / 24,
            1 => i / 12 % 2,
            2 => i / 6 % 2,
            3 => i / 3 % 2,
            _ => i % 3,
        };
        if v == value {
            set |= 1 << i;
        }
        i += 1;
    }
    set
}

/// Every class.
pub(in crate::model) const ALL: Classes = (1 << CLASSES) - 1;
/// At `::`.
pub(in crate::model) const AT_ANY: Classes = with(0, 0);
/// At an IPv4 address, mapped or not.
pub(in crate::model) const AT_MAPPED: Classes = with(0, 1);
/// `IPV6_V6ONLY`
pub(in crate::model) const V6ONLY: Classes = with(1, 1);
/// `SO_REUSEADDR`
pub(in crate::model) const REUSE: Classes = with(2, 1);
/// `SO_REUSEPORT`
pub(in crate::model) const REUSEPORT: Classes = with(3, 1);
/// Listening.
pub(in crate::model) const LISTEN: Classes = with(4, 1);
/// In TIME_WAIT.
pub(in crate::model) const TIME_WAIT: Classes = with(4, 2);

impl Class {
    pub fn of(s: &Sock) -> Class {
        if s.freebsd() {
            return Class(freebsd::class_of(s));
        }
        let kind = if s.rcv6 == [0; 16] {
            0
        } else if unmapped(&s.rcv6).is_some() {
            1
        } else {
            2
        };
        let state = match s.state {
            State::Listen => 1,
            State::TimeWait => 2,
            _ => 0,
        };
        Class(
            kind * 24
                + u8::from(s.v6only()) * 12
                + u8::from(s.reuse != 0) * 6
                + u8::from(s.reuseport()) * 3
                + state,
        )
    }

    pub fn bit(self) -> Classes {
        1 << (self.0 % 128)
    }
}

/// The classes of a set.
pub(in crate::model) fn each(mut set: Classes) -> impl Iterator<Item = Class> {
    core::iter::from_fn(move || {
        let class = Class(set.trailing_zeros() as u8);
        (set != 0).then(|| {
            set &= set - 1;
            class
        })
    })
}

/// What the owners of a port, or of an address of a port, are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Summary {
    present: [u64; 2],
    /// The device of all owners, unless they are mixed.
    pub(super) dev: u32,
    /// Their user, likewise.
    pub(super) uid: u32,
    /// Owners have had different devices or users since the last time that
    /// there were none: the counts by device and user are kept.
    pub(super) mixed: u32,
    /// How many owners there are, as long as they are of one class, device and
    /// user, as nearly all ports' and addresses' are: then no count is kept
    /// elsewhere, and whoever looks at the owners need not look further than
    /// this. 0 once that has changed, until none is left.
    pub(super) alike: u32,
}

impl Summary {
    pub(super) const EMPTY: Summary = Summary {
        present: [0; 2],
        dev: 0,
        uid: 0,
        mixed: 0,
        alike: 0,
    };

    pub(in crate::model) fn mixed(&self) -> u32 {
        self.mixed
    }

    /// Are all owners of one class, device and user?
    pub(in crate::model) fn alike(&self) -> bool {
        self.alike != 0
    }

    pub(in crate::model) fn dev(&self) -> u32 {
        self.dev
    }

    pub(in crate::model) fn uid(&self) -> u32 {
        self.uid
    }

    pub(in crate::model) fn present(&self) -> Classes {
        Classes::from(self.present[0]) | Classes::from(self.present[1]) << 64
    }

    pub(super) fn set_present(&mut self, set: Classes) {
        self.present = [set as u64, (set >> 64) as u64];
    }
}

/// Whose owners are asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::model) enum Scope {
    /// A port's: the number of its bucket.
    Port(u32),
    /// Those of one address on a port: the number of its group.
    Group(u32),
}

impl Scope {
    pub(super) fn key(self) -> u32 {
        match self {
            Scope::Port(i) => i,
            Scope::Group(i) => i | 1 << 31,
        }
    }
}

/// The socket that asks for a port, as far as that decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::model) struct Asker {
    pub rcv6: [u8; 16],
    pub rcv4: u32,
    pub dev: u32,
    pub uid: u32,
    /// The socket; none for a question in general.
    id: u32,
    /// Its port, if it has one already: it does not stand in its own way.
    num: u32,
    pub table: Table,
    six: u8,
    v6only: u8,
    reuse: u8,
    reuseport: u8,
    group: u8,
    class: u8,
    pad: u8,
}

impl Asker {
    pub const NOBODY: Asker = Asker {
        rcv6: [0; 16],
        rcv4: 0,
        dev: 0,
        uid: 0,
        id: NONE,
        num: 0,
        table: Table::Other,
        six: 0,
        v6only: 0,
        reuse: 0,
        reuseport: 0,
        group: 0,
        class: 0,
        pad: 0,
    };

    pub fn of(id: SockId, s: &Sock) -> Asker {
        let mine = s.hashed();
        Asker {
            rcv6: s.rcv6,
            rcv4: s.rcv4,
            dev: s.dev,
            uid: s.uid,
            id: id.0,
            num: if mine { s.num } else { 0 },
            table: s.table,
            six: u8::from(s.is_v6()),
            v6only: u8::from(s.v6only()),
            reuse: u8::from(s.reuse != 0),
            reuseport: u8::from(s.reuseport()),
            group: u8::from(s.group()),
            class: if mine { Class::of(s).0 } else { 0 },
            pad: 0,
        }
    }

    /// The same question from any socket like this one, about an automatic
    /// port: options that cannot help are left out.
    pub fn in_general(self, options: bool) -> Asker {
        let mut any = Asker {
            id: NONE,
            num: 0,
            class: 0,
            ..self
        };
        if !options {
            any.reuse = 0;
            any.reuseport = 0;
            any.group = 0;
        }
        // The user counts with SO_REUSEPORT only.
        if any.reuseport == 0 || any.group != 0 {
            any.reuseport = 0;
            any.group = 0;
            any.uid = 0;
        }
        any
    }

    /// The same for a FreeBSD host's: there it only matters whether there is
    /// any option at all, and in which jail the caller is.
    pub fn in_general_on_freebsd(self, options: bool) -> Asker {
        Asker {
            id: NONE,
            num: 0,
            class: 0,
            uid: 0,
            reuse: u8::from(options),
            reuseport: 0,
            group: 0,
            ..self
        }
    }

    /// A FreeBSD host's: who calls is in this jail, and the socket speaks these
    /// of IPv4 and IPv6.
    pub fn on_freebsd(self, jail: u32, four: bool, six: bool) -> Asker {
        Asker {
            dev: jail,
            six: u8::from(six),
            v6only: u8::from(!four),
            ..self
        }
    }

    pub fn is_v6(&self) -> bool {
        self.six != 0
    }

    pub fn v6only(&self) -> bool {
        self.v6only != 0
    }

    pub fn reuse(&self) -> bool {
        self.reuse != 0
    }

    /// May it share by `SO_REUSEPORT`: on, and in no group yet?
    pub fn may_reuseport(&self) -> bool {
        self.reuseport != 0 && self.group == 0
    }

    /// See [`Sock::is_specific`].
    pub fn is_specific(&self) -> bool {
        if self.is_v6() && unmapped(&self.rcv6).is_none() {
            self.rcv6 != [0; 16]
        } else {
            self.rcv4 != 0
        }
    }

    /// Does it speak IPv4 only, by family or by its address?
    pub fn is_four(&self) -> bool {
        !self.is_v6() || unmapped(&self.rcv6).is_some()
    }

    /// The class in which it stands itself, if it owns this port.
    pub(super) fn own_class(&self, port: u32) -> Option<Class> {
        (self.num == port && port != 0).then_some(Class(self.class))
    }

    pub fn is(&self, id: SockId) -> bool {
        self.id == id.0
    }

    /// The classes of a port whose addresses a wildcard overlaps
    /// (`inet_rcv_saddr_equal` with both wildcards matching).
    pub fn overlapped(&self) -> Classes {
        if !self.is_v6() {
            !V6ONLY & ALL
        } else if self.rcv6 != [0; 16] {
            // ::ffff:0.0.0.0
            !V6ONLY & (AT_ANY | AT_MAPPED)
        } else if self.v6only() {
            !AT_MAPPED & ALL
        } else {
            ALL
        }
    }
}
