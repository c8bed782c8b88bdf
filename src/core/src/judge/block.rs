//! The loopback of a run that has ports of its own (`--isolate`): a block of
//! 127.0.0.0/8, on the machine's own `lo`.
//!
//! ```text
//!   what the program says         where it is            of a block 127.77.16.0/20
//!   127.0.R.N, R < 8              127.a.(b+R).N          127.77.16.1 for 127.0.0.1
//!   0.0.0.0                       127.a.b.1              the kernel has the conflicts
//!   ::ffff:127.0.R.N, [::]        ::ffff: and the same, `IPV6_V6ONLY` off
//!   ::1, [::] with IPV6_V6ONLY    ::ffff:127.a.(b+8).1   127.77.24.1
//! ```
//!
//! Both ways are arithmetic, without a table; ports have one
//! ([`crate::shared::Ports`]). The engine lies between everything else and the
//! kernel: rules, redirects and the log speak of the addresses that the program
//! knows.
//!
//! An automatic port at a wildcard is the kernel's own as it is, for the socket
//! may be a client's that goes outside. Only loopback clients are led to the block.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::{Addr, af};
use crate::shared::PortKind;
use crate::socket::{KindSet, SocketType};

/// How a port of the run was ever held.
///
/// The kernel knows that a port of the block is taken. What it is not told is
/// kept here: as what the program knows the socket there, and that some addresses
/// which it takes for different ones overlap. The bits say which of the questions
/// are worth asking; they are never cleared, because a process may be killed at
/// any time.
pub mod held {
    #![allow(missing_docs)]
    /// 0.0.0.0, of an AF_INET socket.
    pub const ANY4: u16 = 1;
    /// 127.0.0.1, of an AF_INET socket.
    pub const LOOP4: u16 = 1 << 1;
    /// `[::]`, for both families.
    pub const DUAL: u16 = 1 << 2;
    /// `::ffff:127.0.0.1`
    pub const MAPPED: u16 = 1 << 3;
    /// `::ffff:0.0.0.0`
    pub const MAPPED_ANY: u16 = 1 << 4;
    /// `[::]` with `IPV6_V6ONLY`.
    pub const ANY6: u16 = 1 << 5;
    /// `::1`
    pub const LOOP6: u16 = 1 << 6;
    /// Another address of 127.0.0.0/21.
    pub const OTHER: u16 = 1 << 7;
    /// Those of them that are at one address of the block and that only the
    /// socket's family tells apart.
    pub const GROUPS: [u16; 3] = [ANY4 | LOOP4, DUAL | MAPPED | MAPPED_ANY, ANY6 | LOOP6];
    /// Which of its group came first, unless it is the one of the lowest bit.
    pub const FIRST_LOOP4: u16 = 1 << 8;
    pub const FIRST_MAPPED: u16 = 1 << 9;
    pub const FIRST_MAPPED_ANY: u16 = 1 << 10;
    pub const FIRST_LOOP6: u16 = 1 << 11;
    /// An automatic port of a datagram socket that is at the machine's own
    /// wildcard or loopback address, and is reached there.
    pub const PLAIN4: u16 = 1 << 12;
    /// The same of a socket of either kind that IPv6 clients reach.
    pub const PLAIN6: u16 = 1 << 13;
    /// An automatic port of the run's at the machine's own wildcard.
    pub const AUTOMATIC: u16 = 1 << 14;
    /// The place of `::1` where a socket came by a call and not by a bind: the program
    /// knows it as `[::]`.
    pub const IMPLICIT: u16 = 1 << 15;
    /// Those that overlap with others at other addresses of the block.
    pub const MET_UNSEEN: u16 = OTHER | ANY6 | LOOP6;
}

/// A block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    second: u8,
    third: u8,
}

/// How many blocks there are: 127.2.0.0/20 to 127.254.240.0/20.
pub const BLOCKS: u32 = 253 * 16;
/// Rows of a block that stand for 127.0.0.0/21; those beyond, for IPv6.
const ROWS: u8 = 8;
/// A row to which no address of the program's leads.
const NOBODYS: u8 = 15;

/// An address of the program's loopback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// How a socket that is bound there holds its port: a bit of [`held`].
    pub bit: u16,
    row: u8,
    last: u8,
}

impl Spot {
    /// 127.0.0.1 and what is at its place.
    const fn at_one(bit: u16) -> Spot {
        Spot {
            bit,
            row: 0,
            last: 1,
        }
    }

    const fn six(bit: u16) -> Spot {
        Spot {
            bit,
            row: ROWS,
            last: 1,
        }
    }

    /// Is it an address of the IPv6 half?
    #[must_use]
    pub fn is_six(self) -> bool {
        self.row >= ROWS
    }

    /// The number of the address among all of 127.0.0.0/21.
    #[must_use]
    pub fn number(self) -> u16 {
        u16::from_be_bytes([self.row, self.last])
    }

    /// The ways of holding a port outside the block that a client of this address
    /// reaches there.
    #[must_use]
    pub fn plain(self) -> u16 {
        match self.is_six() {
            true => held::PLAIN6,
            false => held::PLAIN4,
        }
    }

    /// Has a port that was held in these ways, the automatic one of a socket at the
    /// machine's `0.0.0.0`, nobody for IPv6? The kernel would lead a client of `::1` there.
    #[must_use]
    pub fn is_four_only(self, ever: u16) -> bool {
        const SIX: u16 = held::PLAIN6 | held::ANY6 | held::LOOP6 | held::DUAL | held::IMPLICIT;
        self.is_six() && ever & held::AUTOMATIC != 0 && ever & SIX == 0
    }

    /// May a client of this address find a listener at another place?
    #[must_use]
    pub fn has_elsewhere(self) -> bool {
        self.bit & held::MET_UNSEEN != 0
    }

    /// The place of the other half or of the wildcard where a client of this
    /// address may find a listener, which is bound in one of these ways.
    #[must_use]
    pub fn elsewhere(self) -> (Spot, u16) {
        match self.bit {
            held::LOOP6 | held::ANY6 => (Spot::at_one(held::DUAL), held::DUAL),
            _ => (
                Spot::at_one(self.bit),
                held::ANY4 | held::DUAL | held::MAPPED_ANY,
            ),
        }
    }

    /// In which ways a socket may be at the very place that a client of this
    /// address calls.
    #[must_use]
    pub fn here(self) -> u16 {
        match self.bit {
            held::LOOP6 | held::ANY6 => held::LOOP6 | held::ANY6,
            _ => held::OTHER,
        }
    }
}

/// The ways of holding a port that overlap with this one, and that the kernel
/// does not see because they are at another address of the block: each with its
/// place, where `last` is the one that was kept of [`held::OTHER`].
pub fn unseen(spot: Spot, ever: u16, last: u16) -> impl Iterator<Item = Spot> {
    use held::{ANY4, ANY6, DUAL, LOOP6, MAPPED_ANY, OTHER};
    let [row, n] = last.to_be_bytes();
    let other = Spot {
        bit: OTHER,
        row,
        last: n,
    };
    let six = Spot::six(LOOP6);
    let one = Spot::at_one(DUAL);
    let is = |bits: u16| spot.bit & bits != 0;
    let was = |bits: u16| ever & bits != 0;
    let all = [
        (is(DUAL) && was(ANY6 | LOOP6)).then_some(six),
        (is(ANY6 | LOOP6) && was(DUAL)).then_some(one),
        (is(ANY4 | DUAL | MAPPED_ANY) && was(OTHER) && last != 0).then_some(other),
        (is(OTHER) && was(ANY4 | DUAL | MAPPED_ANY)).then_some(one),
    ];
    all.into_iter().flatten()
}

/// Which ways of being at the place of 127.0.0.1 overlap with this one, that is at
/// another place.
#[must_use]
pub fn overlapping(spot: Spot) -> u16 {
    match spot.bit {
        held::ANY6 | held::LOOP6 => held::DUAL,
        held::OTHER => held::ANY4 | held::DUAL | held::MAPPED_ANY,
        _ => 0,
    }
}

/// Was anybody ever at the place of 127.0.0.1 who does not overlap with this way? Then
/// that the place is taken does not say that somebody is in the way.
#[must_use]
pub fn is_unclear(spot: Spot, ever: u16) -> bool {
    let [four, mapped, _] = held::GROUPS;
    let ways = overlapping(spot);
    ways != 0 && ever & (four | mapped) & !ways != 0
}

/// The group of a way, and the mark that goes along if it is the first of it.
#[must_use]
pub fn group(bit: u16) -> (u16, u16) {
    use held::{
        FIRST_LOOP4, FIRST_LOOP6, FIRST_MAPPED, FIRST_MAPPED_ANY, GROUPS, LOOP4, LOOP6, MAPPED,
        MAPPED_ANY,
    };
    let group = GROUPS.into_iter().find(|g| g & bit != 0).unwrap_or(0);
    let first = match bit {
        LOOP4 => FIRST_LOOP4,
        MAPPED => FIRST_MAPPED,
        MAPPED_ANY => FIRST_MAPPED_ANY,
        LOOP6 => FIRST_LOOP6,
        _ => 0,
    };
    (group, first)
}

/// As what a program knows the socket that is bound at an address of the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// As this alone.
    As(Addr),
    /// It is known as several; as this one, if the run's table has no other word
    /// for the socket.
    Unless(Addr),
}

/// As what the program knows a socket that it bound at a spot.
#[must_use]
pub fn named(spot: Spot, family: u16, port: u16) -> Addr {
    let ip = match spot.bit {
        held::ANY4 | held::MAPPED_ANY => [0; 4],
        held::LOOP4 | held::MAPPED => OWN,
        held::DUAL | held::ANY6 => return Addr::inet6([0; 16], port),
        held::LOOP6 => return LOOPBACK6.with_port(port.into()),
        _ => [127, 0, spot.row, spot.last],
    };
    match family {
        af::INET6 => Addr::inet6(mapped(ip), port),
        _ => Addr::Inet { ip, port },
    }
}

/// `::1`
pub const LOOPBACK6: Addr = Addr::inet6(Ipv6Addr::LOCALHOST.octets(), 0);

/// A service of the machine's loopback that the run shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// TCP or UDP.
    pub kind: PortKind,
    /// Its address.
    pub addr: Addr,
}

impl Share {
    const THERE: u64 = 1 << 63;
    const UDP: u64 = 1 << 62;
    const SIX: u64 = 1 << 61;

    /// It as a word that is not 0; `None` for an address that is not on loopback.
    #[must_use]
    pub fn word(&self) -> Option<u64> {
        let port = u64::from(self.addr.port()? as u16);
        let udp = if self.kind == PortKind::Udp {
            Self::UDP
        } else {
            0
        };
        let place = match (self.addr, self.addr.ipv4()) {
            (_, Some(ip @ [127, ..])) => u64::from(u32::from_be_bytes(ip)) << 16,
            (Addr::Inet6 { ip, .. }, _) if ip == Ipv6Addr::LOCALHOST.octets() => Self::SIX,
            _ => return None,
        };
        Some(Self::THERE | udp | place | port)
    }

    /// What a word stands for.
    #[must_use]
    pub fn of_word(word: u64) -> Option<Share> {
        if word & Self::THERE == 0 {
            return None;
        }
        let port = word as u16;
        Some(Share {
            kind: match word & Self::UDP {
                0 => PortKind::Tcp,
                _ => PortKind::Udp,
            },
            addr: match word & Self::SIX {
                0 => Addr::Inet {
                    ip: ((word >> 16) as u32).to_be_bytes(),
                    port,
                },
                _ => LOOPBACK6.with_port(port.into()),
            },
        })
    }
}

/// Is the address one that the run shares with the machine?
#[must_use]
pub fn is_shared(shares: &Shares, kind: PortKind, addr: &Addr) -> bool {
    shares
        .iter()
        .flatten()
        .any(|share| share.kind == kind && same(&share.addr, addr))
}

/// Room for as many shares as a run may have.
pub type Shares = [Option<Share>; 16];

fn same(a: &Addr, b: &Addr) -> bool {
    a.port() == b.port()
        && match (a.ipv4(), b.ipv4()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => {
                matches!((a, b), (Addr::Inet6 { ip: a, .. }, Addr::Inet6 { ip: b, .. }) if a == b)
            }
            _ => false,
        }
}

/// Which table of ports a socket's are in, if it has any that are translated.
#[must_use]
pub fn port_kind(socket: SocketType) -> Option<PortKind> {
    let kinds = socket.kinds();
    match socket.domain {
        af::INET | af::INET6 if kinds.intersects(KindSet::TCP) => Some(PortKind::Tcp),
        af::INET | af::INET6 if kinds.intersects(KindSet::UDP) => Some(PortKind::Udp),
        _ => None,
    }
}

/// An address of the program's loopback; `v6only`, as the program set it. `None`
/// of any other address, and of one that the kernel refuses.
#[must_use]
pub fn spot(addr: &Addr, v6only: bool) -> Option<Spot> {
    match *addr {
        Addr::Inet { ip, .. } => spot4(ip, [held::ANY4, held::LOOP4]),
        Addr::Inet6 { ip, .. } if ip == [0; 16] && v6only => Some(Spot::six(held::ANY6)),
        Addr::Inet6 { ip, .. } if ip == [0; 16] => Some(Spot::at_one(held::DUAL)),
        Addr::Inet6 { ip, .. } if ip == Ipv6Addr::LOCALHOST.octets() => {
            Some(Spot::six(held::LOOP6))
        }
        // The kernel says EINVAL.
        Addr::Inet6 { .. } if v6only => None,
        Addr::Inet6 { .. } => spot4(addr.ipv4()?, [held::MAPPED_ANY, held::MAPPED]),
        _ => None,
    }
}

fn spot4(ip: [u8; 4], [any, one]: [u16; 2]) -> Option<Spot> {
    match ip {
        [0, 0, 0, 0] => Some(Spot::at_one(any)),
        [127, 0, 0, 1] => Some(Spot::at_one(one)),
        [127, 0, row, last] if row < ROWS => Some(Spot {
            bit: held::OTHER,
            row,
            last,
        }),
        _ => None,
    }
}

/// The error of a call from a socket for IPv6 alone to an IPv4 address.
pub const NO_ROUTE: u16 = 101; // ENETUNREACH

/// The error of a connect from there, which also looks at the address's family.
#[must_use]
pub fn no_route(addr: &Addr) -> u16 {
    match addr {
        Addr::Inet { .. } => 97, // EAFNOSUPPORT
        _ => NO_ROUTE,
    }
}

/// The address that a client means who calls this one: the wildcards are the
/// loopback addresses then, of IPv4 for a client that `is_mapped`; that of IPv4 is the
/// client's `own` address.
#[must_use]
pub fn called(addr: &Addr, is_mapped: bool, own: Option<[u8; 4]>) -> Addr {
    let one = own.unwrap_or(OWN);
    match *addr {
        Addr::Inet6 {
            ip,
            port,
            flow,
            scope,
        } if is_mapped && ip == [0; 16] => Addr::Inet6 {
            ip: mapped(OWN),
            port,
            flow,
            scope,
        },
        Addr::Inet {
            ip: [0, 0, 0, 0],
            port,
        } => Addr::Inet { ip: one, port },
        Addr::Inet6 {
            ip,
            port,
            flow,
            scope,
        } if ip == [0; 16] => Addr::Inet6 {
            ip: Ipv6Addr::LOCALHOST.octets(),
            port,
            flow,
            scope,
        },
        Addr::Inet6 {
            port, flow, scope, ..
        } if addr.ipv4() == Some([0; 4]) => Addr::Inet6 {
            ip: mapped(one),
            port,
            flow,
            scope,
        },
        other => other,
    }
}

fn mapped(ip: [u8; 4]) -> [u8; 16] {
    Ipv4Addr::from(ip).to_ipv6_mapped().octets()
}

/// `::ffff:127.0.0.1`, the machine's own.
#[must_use]
pub fn mapped_loopback(port: u16) -> Addr {
    Addr::inet6(mapped(OWN), port)
}

/// The machine's own loopback address of a family.
const OWN: [u8; 4] = [127, 0, 0, 1];

/// An address of a block, or a loopback address of the machine's, in little room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Real {
    is_mapped: bool,
    /// `None`: `::1`.
    ip: Option<[u8; 4]>,
    port: u16,
}

impl Real {
    /// It, of an address with IPv4 in it or of `::1`.
    #[must_use]
    pub fn of(addr: &Addr) -> Option<Real> {
        let is_one = |ip: &[u8; 16]| *ip == Ipv6Addr::LOCALHOST.octets();
        let ip = match addr {
            Addr::Inet6 { ip, .. } if is_one(ip) => None,
            addr => Some(addr.ipv4()?),
        };
        Some(Real {
            is_mapped: matches!(addr, Addr::Inet6 { .. }),
            ip,
            port: addr.port()? as u16,
        })
    }

    /// The address.
    #[must_use]
    pub fn addr(self) -> Addr {
        match (self.ip, self.is_mapped) {
            (None, _) => LOOPBACK6.with_port(self.port.into()),
            (Some(ip), true) => Addr::inet6(mapped(ip), self.port),
            (Some(ip), false) => Addr::Inet {
                ip,
                port: self.port,
            },
        }
    }
}

impl Block {
    /// The block of a number from 1 to [`BLOCKS`].
    #[must_use]
    pub fn numbered(n: u32) -> Option<Block> {
        let n = n.checked_sub(1).filter(|n| *n < BLOCKS)?;
        Some(Block {
            second: 2 + (n / 16) as u8,
            third: (n % 16) as u8 * 16,
        })
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        1 + u32::from(self.second.wrapping_sub(2)) * 16 + u32::from(self.third / 16)
    }

    fn ip(self, row: u8, last: u8) -> [u8; 4] {
        [127, self.second, self.third | row & 15, last]
    }

    /// Its first address, which stands for 127.0.0.1.
    #[must_use]
    pub fn first(self) -> [u8; 4] {
        self.ip(0, 1)
    }

    /// One of the addresses of the block at which nobody of the run is: whoever has a
    /// port there has it at the wildcard.
    #[must_use]
    pub fn nobodys(self, n: u32, port: u16) -> Addr {
        Addr::Inet {
            ip: self.ip(NOBODYS, n as u8),
            port,
        }
    }

    /// An address where nobody is, as an IPv6 socket names it: at a port that hardly
    /// anybody has at the wildcard.
    #[must_use]
    pub fn nobody(self) -> Addr {
        Addr::inet6(mapped(self.ip(NOBODYS, 1)), 1)
    }

    /// The number of an address of the block that stands for another one of IPv4's than
    /// 127.0.0.1.
    #[must_use]
    pub fn other(self, addr: &Addr) -> Option<u16> {
        let (row, last) = self.place(addr)?;
        Some(u16::from_be_bytes([row, last])).filter(|n| row < ROWS && *n != 1)
    }

    /// Where a spot is, for a socket of this family.
    #[must_use]
    pub fn real(self, spot: Spot, family: u16, port: u16) -> Addr {
        let ip = self.ip(spot.row, spot.last);
        match family {
            af::INET6 => Addr::inet6(mapped(ip), port),
            _ => Addr::Inet { ip, port },
        }
    }

    /// The row and the last number of an address of the block.
    fn place(self, addr: &Addr) -> Option<(u8, u8)> {
        match addr.ipv4()? {
            [127, second, third, last] if second == self.second && third & 0xf0 == self.third => {
                Some((third & 0x0f, last))
            }
            _ => None,
        }
    }

    /// Is the address one of the block's?
    #[must_use]
    pub fn has(self, addr: &Addr) -> bool {
        self.place(addr).is_some()
    }

    /// Is the address one of the IPv6 half of the block?
    #[must_use]
    pub fn is_six(self, addr: &Addr) -> bool {
        self.place(addr).is_some_and(|(row, _)| row >= ROWS)
    }

    /// What the program is told of an address of the block, with the port that is
    /// given: the address that stands for it. `as_six`: it is that of a socket
    /// that speaks IPv6 to its peer.
    #[must_use]
    pub fn told(self, addr: &Addr, as_six: bool, port: u16) -> Option<Addr> {
        let (row, last) = match self.place(addr) {
            Some(place) => place,
            // The machine's own address of a client that speaks IPv6.
            None if as_six && addr.ipv4() == Some(OWN) => (ROWS, 1),
            None => return None,
        };
        let is_six = as_six || row >= ROWS;
        let ip = match row {
            0..ROWS => [127, 0, row, last],
            _ => OWN,
        };
        Some(match addr {
            Addr::Inet6 { .. } if is_six => Addr::inet6(Ipv6Addr::LOCALHOST.octets(), port),
            Addr::Inet6 { .. } => Addr::inet6(mapped(ip), port),
            _ => Addr::Inet { ip, port },
        })
    }

    /// As what a program knows the socket that is bound at `addr` of the block and
    /// has no peer, with the port that is given; `ever` is how that was ever held.
    #[must_use]
    pub fn known(self, addr: &Addr, port: u16, ever: u16) -> Option<Known> {
        use held::{
            DUAL, FIRST_LOOP4, FIRST_LOOP6, FIRST_MAPPED, FIRST_MAPPED_ANY, GROUPS, MAPPED,
            MAPPED_ANY,
        };
        let told = self.told(addr, false, port)?;
        let (row, last) = self.place(addr)?;
        let [four, mapped_group, six_group] = GROUPS;
        let (group, first) = match (addr, row, last) {
            (Addr::Inet { .. }, 0, 1) => (four, ever & FIRST_LOOP4 != 0),
            (Addr::Inet6 { .. }, 0, 1) => {
                (mapped_group, ever & (FIRST_MAPPED | FIRST_MAPPED_ANY) != 0)
            }
            (Addr::Inet6 { .. }, ROWS.., _) => (six_group, ever & FIRST_LOOP6 != 0),
            _ => return Some(Known::As(told)),
        };
        let any = match addr {
            Addr::Inet { .. } => Addr::Inet { ip: [0; 4], port },
            _ if group == mapped_group && ever & FIRST_MAPPED_ANY != 0 => {
                Addr::inet6(mapped([0; 4]), port)
            }
            _ => Addr::inet6([0; 16], port),
        };
        let ways = ever & group;
        let is_told = first && !(group == mapped_group && ever & FIRST_MAPPED_ANY != 0);
        let known = if is_told || ways == 0 { told } else { any };
        Some(match ways.count_ones() {
            0 | 1 if group != six_group || ever & held::IMPLICIT == 0 => Known::As(known),
            _ => Known::Unless(known),
        })
        .filter(|_| ways & !(DUAL | MAPPED | MAPPED_ANY | four | six_group) == 0)
    }
}

#[cfg(test)]
mod tests;
