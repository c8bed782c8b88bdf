//! The loopback of a run that has ports of its own, carried out: which addresses
//! the kernel is given in place of those that the program names, and what the
//! program is told in place of those that the kernel names.
//!
//! Where an address is, and what is to be asked about it, is the core's to say
//! ([`bindgate_core::judge::block`]). This lies below everything else: rules and
//! redirects know nothing of it.

use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::judge::block::{self, Block, Known, Real, Spot, held};
use bindgate_core::judge::redirect::CONFLICT;
use bindgate_core::record::RULE_NONE;
use bindgate_core::shared::MANY_ADDRESSES;
use bindgate_core::shared::{Moved, NAME_KEY, PortKind, Ports, move_kind, move_mark};
use bindgate_core::socket::{BindOptions, SocketType, proto, ty};
use bindgate_core::uapi::inet_diag;
use bindgate_core::uapi::sock_diag::Class;

use super::{alive, diag, is_v6only, reuse_marks, set_reuse, table};
use crate::own::{fds, name};
use crate::session::{self, Run};
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed, Errno};

/// The option of a socket that is bound without a port.
const NO_PORT: (i32, i32) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
/// How often another port is tried because somebody outside has it.
const TRIES: u32 = 8;
/// How often a bind is tried that somebody else's may only have got in the way of.
const TURNS: u32 = 4;

/// A socket of a run with a block.
#[derive(Clone, Copy)]
struct Socket<'r> {
    run: &'r Run,
    block: Block,
    ports: &'r Ports,
    fd: i32,
    kind: PortKind,
    ty: SocketType,
}

/// A socket with ports, of a run that has a block.
fn socket(allowed: Allowed, run: &Run, fd: i32) -> Option<Socket<'_>> {
    let block = run.block?;
    let cached = fds::get(fd);
    let ty = match cached.is_valid() {
        true => cached.socket(),
        false => fds::identify(allowed, fd).ok()?.ty,
    };
    Some(Socket {
        run,
        block,
        ports: &run.state.block_ports,
        fd,
        kind: block::port_kind(ty)?,
        ty,
    })
}

impl Socket<'_> {
    /// Is the address of the socket's own family?
    fn is_of_family(&self, addr: &Addr) -> bool {
        addr.family() == self.ty.domain
    }

    /// The number of a scratch socket that meets those of the block.
    fn scratch(&self) -> SocketType {
        match self.kind {
            PortKind::Tcp => SocketType {
                domain: af::INET,
                ty: ty::STREAM,
                protocol: proto::TCP,
            },
            // UDP-Lite has ports of its own.
            PortKind::Udp => SocketType {
                domain: af::INET,
                ty: ty::DGRAM,
                protocol: match self.ty.protocol {
                    proto::UDPLITE => proto::UDPLITE,
                    _ => proto::UDP,
                },
            },
        }
    }

    /// Has anybody this port at the wildcard of the machine, and nobody of the run?
    #[inline(never)]
    fn is_taken_outside(&self, allowed: Allowed, real: u16) -> bool {
        let ever = self.ports.held(self.kind, self.ports.virt(self.kind, real));
        // Not where another thread asks the same just now: two addresses are taken at
        // once only by whoever has all of them.
        let is_taken = |n: u32| {
            let at = self.block.nobodys(n, real).write();
            alive::try_plain_bind(allowed, self.scratch(), at.bytes(), false, |_| Ok(()))
                == Some(Err(Errno(CONFLICT)))
        };
        let me = sys::gettid(allowed);
        ever & held::AUTOMATIC == 0 && is_taken(me) && is_taken(me.wrapping_mul(31) + 7)
    }

    /// Does a socket hold this place of the block?
    #[inline(never)]
    fn is_held(&self, allowed: Allowed, spot: Spot, real: u16) -> bool {
        let at = self.block.real(spot, af::INET, real).write();
        let one = 1i32.to_ne_bytes();
        let reuse = |fd| match self.kind {
            // What is left of connections is nobody.
            PortKind::Tcp => {
                sys::setsockopt(allowed, fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &one)
            }
            PortKind::Udp => Ok(()),
        };
        alive::try_plain_bind(allowed, self.scratch(), at.bytes(), false, reuse)
            == Some(Err(Errno(CONFLICT)))
    }

    /// Is the place of 127.0.0.1 taken by such alone as do not overlap with `spot`? By
    /// the kernel's word on who is there.
    #[inline(never)]
    fn is_clear(&self, allowed: Allowed, spot: Spot, other: Spot, ever: u16, real: u16) -> bool {
        if other.number() != 1 || !block::is_unclear(spot, ever) {
            return false;
        }
        let ways = block::overlapping(spot);
        let mut is_clear = true;
        let port = self.ports.virt(self.kind, real);
        for domain in [af::INET, af::INET6] {
            let class = Class::of(SocketType {
                domain,
                ..self.scratch()
            });
            let all = diag::each(allowed, class, real, |alive| {
                if let Some(found) = alive.inet
                    && (alive.port, found.peer_port) == (real, 0)
                    && self.bit_of(found, port, ever) & ways != 0
                {
                    is_clear = false;
                }
            });
            is_clear &= all;
        }
        is_clear
    }

    /// How a socket at the place of 127.0.0.1 holds its port.
    fn bit_of(&self, found: &inet_diag::Socket, port: u16, ever: u16) -> u16 {
        let addr = found.local();
        if addr.ipv4() != Some(self.block.first()) {
            return 0;
        }
        let known = match self.block.known(&addr, port, ever) {
            Some(Known::As(addr)) => addr,
            Some(Known::Unless(addr)) => self
                .run
                .state
                .moves
                .find(found.cookie | NAME_KEY)
                .and_then(|kept| kept.virt.read())
                .unwrap_or(addr),
            None => return 0,
        };
        block::spot(&known, false).map_or(0, |spot| spot.bit)
    }

    /// The other address than 127.0.0.1 where somebody is at this port; by the kernel's
    /// word, where there were several.
    #[inline(never)]
    fn last(&self, allowed: Allowed, port: u16, real: u16) -> u16 {
        let kept = self.ports.last(self.kind, port);
        if kept != MANY_ADDRESSES {
            return kept;
        }
        let mut last = 0;
        for domain in [af::INET, af::INET6] {
            let class = Class::of(SocketType {
                domain,
                ..self.scratch()
            });
            diag::each(allowed, class, real, |alive| {
                if let Some(found) = alive.inet
                    && (alive.port, found.peer_port) == (real, 0)
                    && let Some(number) = self.block.other(&found.local())
                {
                    last = number;
                }
            });
        }
        last
    }

    /// Is it a service of the machine's that the run shares?
    fn is_shared(&self, addr: &Addr) -> bool {
        block::is_shared(&self.run.shares, self.kind, addr)
            || self.run.view.is_shared(self.kind == PortKind::Udp, addr)
    }

    /// The port of the program's that a real name has.
    fn port_of(&self, addr: &Addr) -> u16 {
        let real = addr.port().unwrap_or(0) as u16;
        self.ports.virt(self.kind, real)
    }
}

/// What came of a bind.
pub struct Bound {
    /// The kernel's answer.
    pub answer: Result<(), Errno>,
    /// Where in the block the socket is, or was to be.
    pub real: Option<Real>,
    /// `IPV6_V6ONLY`, as the program set it.
    pub v6only: bool,
}

/// bind(2): `None` where it is none of the run's own addresses, so that the
/// kernel gets it as it is. `is_leased`: the port was chosen for the program, which
/// asked for any.
#[inline(never)]
pub fn bind(allowed: Allowed, run: &Run, fd: i32, asked: &[u8], is_leased: bool) -> Option<Bound> {
    let s = socket(allowed, run, fd)?;
    let addr = Addr::read(asked)?;
    if !s.is_of_family(&addr) {
        // The kernel refuses it.
        return None;
    }
    let v6only = matches!(addr, Addr::Inet6 { .. }) && is_v6only(allowed, fd);
    if v6only
        && addr.ipv4().is_some()
        && let Some(spot) = block::spot(&addr, false)
    {
        // The kernel refuses it, whatever the port; one below 1024 for that.
        let at = s.block.real(spot, af::INET6, 0);
        return Some(Bound {
            answer: sys::bind(allowed, fd, at.write().bytes()),
            real: Real::of(&at),
            v6only,
        });
    }
    let spot = block::spot(&addr, v6only)?;
    let options = fds::get(fd).options();
    if options.has(BindOptions::DEVICE) && !options.has(BindOptions::UNKNOWN) {
        return None;
    }
    let port = addr.port()? as u16;
    if (port == 0 || is_leased) && addr.is_wildcard() {
        return automatic(allowed, &s, asked, v6only);
    }
    let family = addr.family();
    if v6only {
        set_v6only(allowed, fd, false);
    }
    let bound = at_port(allowed, &s, spot, family, port, v6only);
    if v6only && bound.answer.is_err() {
        set_v6only(allowed, fd, true);
    }
    Some(bound)
}

/// The address of the block alone, where nothing may be asked or set up.
pub fn bare(run: &Run, fd: i32, asked: &[u8]) -> Option<Real> {
    let ty = fds::get(fd).socket();
    Real::of(&real_of(run, ty, false, &Addr::read(asked)?)?)
}

fn set_v6only(allowed: Allowed, fd: i32, on: bool) {
    let on = i32::from(on).to_ne_bytes();
    let _ = sys::setsockopt(allowed, fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &on);
}

fn at_port(
    allowed: Allowed,
    s: &Socket<'_>,
    spot: Spot,
    family: u16,
    port: u16,
    v6only: bool,
) -> Bound {
    let (group, first) = block::group(spot.bit);
    if spot.bit == held::OTHER && port != 0 {
        s.ports.keep_last(s.kind, port, spot.number());
    }
    let mut before = match port {
        0 => 0,
        port => s.ports.hold(s.kind, port, spot.bit, group, first),
    };
    let mut real = s.block.real(spot, family, s.ports.real(s.kind, port));
    let mut answer = Err(Errno(CONFLICT));
    for _ in 0..TRIES {
        answer = beside(allowed, s, spot, before, port, &real);
        let taken = real.port().unwrap_or(0) as u16;
        if answer != Err(Errno(CONFLICT)) || port == 0 || !s.is_taken_outside(allowed, taken) {
            break;
        }
        real = real.with_port(s.ports.instead(s.kind, port, taken).into());
    }
    if answer.is_err() {
        return Bound {
            answer,
            real: Real::of(&real),
            v6only,
        };
    }
    let mut port = port;
    if port == 0 {
        if let Ok(now) = name::real_local(allowed, s.fd)
            && let Some(now) = now.read()
        {
            real = now;
        }
        port = s.port_of(&real);
        before = match port {
            0 => 0,
            port => s.ports.hold(s.kind, port, spot.bit, group, first),
        };
        if spot.bit == held::OTHER {
            s.ports.keep_last(s.kind, port, spot.number());
        }
    }
    const PLAIN: u16 = held::PLAIN4 | held::PLAIN6 | held::AUTOMATIC;
    if before & PLAIN != 0 {
        s.ports.release(s.kind, port, PLAIN);
    }
    if before & group & !spot.bit != 0 {
        keep_name(allowed, s, block::named(spot, family, port), false);
    }
    fds::at_home(s.fd);
    Bound {
        answer,
        real: Real::of(&real),
        v6only,
    }
}

/// Keeps as what the program knows this socket, where its place does not say it.
#[inline(never)]
fn keep_name(allowed: Allowed, s: &Socket<'_>, known: Addr, v6only: bool) {
    let Ok(cookie) = sys::cookie(allowed, s.fd) else {
        return;
    };
    let entry = Moved {
        cookie: cookie | NAME_KEY,
        netns: sys::netns_cookie(allowed, s.fd).unwrap_or(0),
        kind: move_kind::NAMED,
        marks: if v6only { move_mark::V6ONLY } else { 0 } | move_mark::NO_TAG,
        uid: 0,
        rule: RULE_NONE,
        device: 0,
        socket: fds::get(s.fd).socket(),
        virt: known.write(),
        real: RawAddr::EMPTY,
    };
    table::enter_name(allowed, s.run, &entry);
}

/// Binds the socket while nobody holds the places that overlap with its own and
/// that the kernel does not compare: this process has them meanwhile.
fn beside(
    allowed: Allowed,
    s: &Socket<'_>,
    spot: Spot,
    ever: u16,
    port: u16,
    real: &Addr,
) -> Result<(), Errno> {
    let to = real.write();
    let last = match port {
        0 => return sys::bind(allowed, s.fd, to.bytes()),
        port => s.last(allowed, port, real.port().unwrap_or(0) as u16),
    };
    if block::unseen(spot, ever, last).next().is_none() {
        return sys::bind(allowed, s.fd, to.bytes());
    }
    sys::without_signals(allowed, || {
        with_unseen(allowed, s, (spot, ever, last), real, false, |allowed| {
            sys::bind(allowed, s.fd, to.bytes())
        })
    })
}

/// Makes a call while sockets like this one are at the places that overlap with
/// its own; `listens`: and listen there.
#[inline(never)]
fn with_unseen(
    allowed: Allowed,
    s: &Socket<'_>,
    (spot, ever, last): (Spot, u16, u16),
    real: &Addr,
    listens: bool,
    call: impl Fn(Allowed) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if !listens && fds::is_bound_now(allowed, s.fd) {
        // The kernel says EINVAL.
        return call(allowed);
    }
    let marks = reuse_marks(allowed, s.fd);
    let port = real.port().unwrap_or(0) as u16;
    let mut answer = Err(Errno(CONFLICT));
    for turn in 0..TURNS {
        let mut held = [-1; 2];
        let mut is_free = Ok(());
        for (other, slot) in block::unseen(spot, ever, last).zip(&mut held) {
            let at = s.block.real(other, af::INET, port).write();
            let (fd, answer) = hold(allowed, s.scratch(), marks, at.bytes(), listens);
            *slot = fd;
            if answer.is_err() && !s.is_clear(allowed, spot, other, ever, port) {
                is_free = answer;
                break;
            }
        }
        answer = match is_free {
            Ok(()) => call(allowed),
            Err(e) => Err(e),
        };
        for fd in held.into_iter().filter(|fd| *fd >= 0) {
            sys::close(allowed, fd);
        }
        if answer != Err(Errno(CONFLICT)) {
            break;
        }
        // Not all wait alike.
        for _ in 0..(turn + 1) * u32::from(spot.bit.trailing_zeros() as u16 + 1) {
            sys::yield_now(allowed);
        }
    }
    answer
}

/// A socket that is at a place for a moment.
fn hold(
    allowed: Allowed,
    ty: SocketType,
    marks: u32,
    at: &[u8],
    listens: bool,
) -> (i32, Result<(), Errno>) {
    let kind = i32::from(ty.ty) | libc::SOCK_CLOEXEC;
    let fd = match sys::socket(allowed, ty.domain.into(), kind, ty.protocol.into()) {
        Ok(fd) => fd,
        Err(e) => return (-1, Err(e)),
    };
    set_reuse(allowed, fd, marks);
    let bound = sys::bind(allowed, fd, at);
    let answer = match (bound, listens) {
        (Ok(()), true) => sys::listen(allowed, fd, 0),
        (answer, _) => answer,
    };
    (fd, answer)
}

/// bind(2) to a wildcard without a port: the kernel's own, for the socket may be
/// one that goes outside. Whoever calls it on loopback finds it there.
fn automatic(allowed: Allowed, s: &Socket<'_>, asked: &[u8], v6only: bool) -> Option<Bound> {
    // Only a socket for both families reaches the block.
    let opens = v6only && s.kind == PortKind::Udp;
    if opens {
        set_v6only(allowed, s.fd, false);
    }
    let answer = sys::bind(allowed, s.fd, asked);
    if answer.is_ok() {
        plain(allowed, s);
        if opens {
            let known = Addr::any(af::INET6)?;
            keep_name(allowed, s, known, true);
        }
    } else if opens {
        set_v6only(allowed, s.fd, true);
    }
    Some(Bound {
        answer,
        real: None,
        v6only,
    })
}

/// Says where the socket is reached that is not in the block.
#[inline(never)]
fn plain(allowed: Allowed, s: &Socket<'_>) {
    let Ok(raw) = name::real_local(allowed, s.fd) else {
        return;
    };
    let Some(local) = raw.read() else {
        return;
    };
    let is_six = local.family() == af::INET6;
    if !s.block.has(&local) && local.port() != Some(0) {
        let mut bits = held::AUTOMATIC;
        if s.kind == PortKind::Udp {
            bits |= held::PLAIN4;
        }
        if is_six {
            bits |= held::PLAIN6;
        }
        s.ports.hold(s.kind, s.port_of(&local), bits, 0, 0);
    }
    if local.port() != Some(0) {
        fds::at_home(s.fd);
    }
}

/// A socket may have got a port by a call other than bind(2): whoever calls it on
/// loopback is to find it there.
#[inline(never)]
pub fn named_itself(allowed: Allowed, run: &Run, fd: i32) {
    if !fds::get(fd).is_at_home()
        && let Some(s) = socket(allowed, run, fd)
    {
        plain(allowed, &s);
    }
}

/// listen(2) of a socket that is bound: refused where another one listens at a
/// place that overlaps with its own and that the kernel does not compare.
#[inline(never)]
pub fn may_listen(allowed: Allowed, run: &Run, fd: i32) -> Result<(), Errno> {
    let Some(s) = socket(allowed, run, fd) else {
        return Ok(());
    };
    let Some(real) = name::real_local(allowed, fd)
        .ok()
        .and_then(|raw| raw.read())
    else {
        return Ok(());
    };
    let port = s.port_of(&real);
    if port == 0 || !s.block.has(&real) || s.kind != PortKind::Tcp {
        return Ok(());
    }
    let ever = s.ports.held(s.kind, port);
    let last = s.last(allowed, port, real.port().unwrap_or(0) as u16);
    if ever & held::MET_UNSEEN == 0 {
        return Ok(());
    }
    let Some(known) = name::local(allowed, fd).ok().and_then(|raw| raw.read()) else {
        return Ok(());
    };
    let v6only = known.is_wildcard() && s.block.is_six(&real);
    let Some(spot) = block::spot(&known, v6only) else {
        return Ok(());
    };
    if block::unseen(spot, ever, last).next().is_none() {
        return Ok(());
    }
    sys::without_signals(allowed, || {
        with_unseen(allowed, &s, (spot, ever, last), &real, true, |_| Ok(()))
    })
}

/// Where a call to the run's own loopback goes.
#[derive(Clone, Copy)]
pub enum Called {
    /// To an address of the block.
    At {
        /// That address.
        real: Real,
        /// Did the socket speak IPv6 alone, and does no longer for this call?
        was_v6only: bool,
    },
    /// The kernel gets it as it is.
    AsAsked,
    /// Nowhere.
    Refused(Errno),
}

/// Where a connect to `asked` goes; `None`, if not to the run's own loopback.
#[inline(never)]
pub fn connect(allowed: Allowed, run: &Run, fd: i32, asked: &[u8]) -> Option<Called> {
    let s = socket(allowed, run, fd)?;
    let addr = Addr::read(asked)?;
    if s.kind == PortKind::Tcp && !s.is_of_family(&addr) {
        // The kernel refuses it.
        return None;
    }
    let source = source(allowed, &s);
    let addr = block::called(&addr, source.is_mapped, source.own);
    let spot = block::spot(&addr, false)?;
    if s.is_shared(&addr) {
        return None;
    }
    if let Some(called) = source.keeps_from(&addr, block::no_route(&addr)) {
        return match s.kind {
            // The kernel says what else a connection is in the way of.
            PortKind::Tcp if is_under_way(allowed, fd) => Some(Called::AsAsked),
            _ => Some(called),
        };
    }
    let Some(real) = place_of(allowed, &s, spot, &addr) else {
        return Some(Called::AsAsked);
    };
    // A listener for IPv6 alone is called at the machine's own `::1`.
    let by_four = real.ipv4().is_some();
    let was_v6only = spot.is_six() && by_four && from_six(allowed, &s, spot);
    Real::of(&real).map(|real| Called::At { real, was_v6only })
}

/// Which addresses a socket calls from.
#[derive(Clone, Copy, Default)]
struct Source {
    /// From one that stands for IPv4.
    is_mapped: bool,
    /// From IPv6 alone: `sk_ipv6only`.
    is_six: bool,
    /// From an IPv6 address that is not one of the run's.
    is_elsewhere: bool,
    /// From this IPv4 address of the run's.
    own: Option<[u8; 4]>,
}

impl Source {
    /// Why nothing at this address of the run's is called; `None` if it is.
    fn keeps_from(self, addr: &Addr, error: u16) -> Option<Called> {
        match addr.ipv4() {
            _ if self.is_elsewhere => Some(Called::AsAsked),
            Some(_) if self.is_six => Some(Called::Refused(Errno(error))),
            // The kernel knows no way from there either.
            None if self.is_mapped => Some(Called::AsAsked),
            _ => None,
        }
    }
}

/// What a socket that speaks IPv6 was bound to, as far as calls depend on that.
#[inline(never)]
fn source(allowed: Allowed, s: &Socket<'_>) -> Source {
    let Some(real) = name::real_local(allowed, s.fd)
        .ok()
        .and_then(|raw| raw.read())
    else {
        return Source::default();
    };
    let is_six = matches!(real, Addr::Inet6 { .. });
    if real.is_wildcard() {
        let only = || v6only(allowed, s.run, s.fd).unwrap_or_else(|| is_v6only(allowed, s.fd));
        return Source {
            is_mapped: is_six && real.ipv4().is_some(),
            is_six: is_six && only(),
            ..Source::default()
        };
    }
    if real.ipv4().is_none() {
        return Source {
            is_elsewhere: name::real_peer(allowed, s.fd).is_err(),
            ..Source::default()
        };
    }
    let told = local_of(allowed, s.run, s.fd, &real.write()).unwrap_or(real);
    Source {
        is_mapped: is_six && told.ipv4().is_some(),
        is_six: is_six && v6only(allowed, s.run, s.fd) == Some(true),
        is_elsewhere: false,
        own: told.ipv4().filter(|ip| *ip != [0; 4]),
    }
}

/// Is a connection there already, or one that is being made, or a listener?
fn is_under_way(allowed: Allowed, fd: i32) -> bool {
    let listens = sys::getsockopt_int(allowed, fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN);
    name::real_peer(allowed, fd).is_ok() || listens == Ok(1)
}

/// A connect has failed, or a connection is dissolved: a socket that got the place of
/// `::1` for it is at `[::]` again.
#[inline(never)]
pub fn left(allowed: Allowed, run: &Run, fd: i32, was_v6only: bool) {
    let Some(s) = socket(allowed, run, fd) else {
        return;
    };
    if s.kind == PortKind::Tcp
        && let Ok(raw) = name::real_local(allowed, fd)
        && let Some(local) = raw.read()
        && s.block.is_six(&local)
        // The program has bound nothing there.
        && s.ports.held(s.kind, s.port_of(&local)) & (held::ANY6 | held::LOOP6) == 0
        && sys::getsockopt_int(allowed, fd, NO_PORT.0, NO_PORT.1) != Ok(1)
        && name::real_peer(allowed, fd).is_err()
        && let Some(any) = Addr::any(af::INET6)
    {
        bind_without_port(allowed, &s, &any);
        if was_v6only {
            set_v6only(allowed, fd, true);
        }
    }
}

/// A connect has come to `::1`, of a socket that spoke IPv6 alone: so it still says.
#[inline(never)]
pub fn stays_v6only(allowed: Allowed, run: &Run, fd: i32) {
    if let Some(s) = socket(allowed, run, fd)
        && s.kind == PortKind::Tcp
        && let Ok(raw) = name::real_local(allowed, fd)
        && let Some(local) = raw.read()
    {
        keep_any(allowed, &s, &local, true);
    }
}

/// Gives a TCP socket an address, and no port yet.
fn bind_without_port(allowed: Allowed, s: &Socket<'_>, at: &Addr) {
    let set = |on: i32| {
        let name = libc::IP_BIND_ADDRESS_NO_PORT;
        let _ = sys::setsockopt(allowed, s.fd, libc::IPPROTO_IP, name, &on.to_ne_bytes());
    };
    let name = NO_PORT;
    let was = sys::getsockopt_int(allowed, s.fd, name.0, name.1).unwrap_or(0);
    set(1);
    let _ = sys::bind(allowed, s.fd, at.write().bytes());
    set(was);
}

/// Keeps that the program did not bind this socket, which is at the place of `::1`.
#[inline(never)]
fn keep_any(allowed: Allowed, s: &Socket<'_>, local: &Addr, v6only: bool) {
    s.ports.hold(s.kind, s.port_of(local), held::IMPLICIT, 0, 0);
    if let Some(known) = Addr::any(af::INET6) {
        keep_name(allowed, s, known, v6only);
    }
}

/// Gives a socket that is to call `::1` the address that stands for it, if it has
/// none yet; was it one for IPv6 alone?
#[inline(never)]
fn from_six(allowed: Allowed, s: &Socket<'_>, spot: Spot) -> bool {
    if fds::get(s.fd).is_bound() || fds::is_bound_now(allowed, s.fd) {
        return false;
    }
    let v6only = is_v6only(allowed, s.fd);
    if v6only {
        set_v6only(allowed, s.fd, false);
    }
    let at = s.block.real(spot, af::INET6, 0);
    if s.kind == PortKind::Tcp {
        bind_without_port(allowed, s, &at);
    } else {
        let name = NO_PORT;
        let set = |on: i32| {
            let _ = sys::setsockopt(allowed, s.fd, name.0, name.1, &on.to_ne_bytes());
        };
        let has_no_port = sys::getsockopt_int(allowed, s.fd, name.0, name.1) == Ok(1);
        if has_no_port {
            set(0);
        }
        let _ = sys::bind(allowed, s.fd, at.write().bytes());
        if has_no_port {
            set(1);
        }
        if let Ok(raw) = name::real_local(allowed, s.fd)
            && let Some(local) = raw.read()
        {
            keep_any(allowed, s, &local, v6only);
        }
        fds::at_home(s.fd);
    }
    v6only
}

/// A connect has come back: where answers to it are to go.
#[inline(never)]
pub fn connected(allowed: Allowed, run: &Run, fd: i32) {
    if let Some(s) = socket(allowed, run, fd)
        && s.kind == PortKind::Udp
    {
        plain(allowed, &s);
    }
}

/// Where a datagram to `asked` goes; `None` where the kernel gets it as it is.
#[inline(never)]
pub fn send(allowed: Allowed, run: &Run, fd: i32, asked: &[u8]) -> Option<Called> {
    let s = socket(allowed, run, fd)?;
    let addr = Addr::read(asked)?;
    let source = source(allowed, &s);
    let addr = block::called(&addr, source.is_mapped, source.own);
    let spot = block::spot(&addr, false)?;
    if s.is_shared(&addr) {
        return None;
    }
    if let Some(called) = source.keeps_from(&addr, block::NO_ROUTE) {
        return Some(called);
    }
    if s.kind == PortKind::Udp && !fds::get(fd).is_at_home() {
        let ever = s.ports.held(s.kind, addr.port()? as u16);
        if spot.is_six() && ever & spot.plain() == 0 && !spot.is_four_only(ever) {
            from_six(allowed, &s, spot);
        }
        go_home(allowed, &s);
    }
    Real::of(&place_of(allowed, &s, spot, &addr)?).map(|real| Called::At {
        real,
        was_v6only: false,
    })
}

/// Sees to it that answers find the socket.
#[inline(never)]
fn go_home(allowed: Allowed, s: &Socket<'_>) {
    let unbound = name::real_local(allowed, s.fd)
        .ok()
        .and_then(|raw| raw.read())
        .filter(|local| local.port() == Some(0));
    let mut v6only = false;
    if let Some(local) = unbound {
        if local.family() == af::INET6 {
            v6only = is_v6only(allowed, s.fd);
            set_v6only(allowed, s.fd, false);
        }
        // As the kernel would do it now.
        if let Some(any) = Addr::any(local.family()) {
            let _ = sys::bind(allowed, s.fd, any.write().bytes());
        }
    }
    plain(allowed, s);
    if v6only && let Some(known) = Addr::any(af::INET6) {
        keep_name(allowed, s, known, true);
    }
}

fn place_of(allowed: Allowed, s: &Socket<'_>, spot: Spot, addr: &Addr) -> Option<Addr> {
    let port = addr.port()? as u16;
    let ever = s.ports.held(s.kind, port);
    if spot.is_four_only(ever) {
        // Nobody is there for IPv6; from the block no way leads to `::1`.
        let local = name::real_local(allowed, s.fd).ok()?.read()?;
        return s.block.has(&local).then(|| s.block.nobody());
    }
    if ever & spot.plain() != 0 {
        let is_in_block = || {
            let local = name::real_local(allowed, s.fd).ok()?.read()?;
            Some(s.block.has(&local))
        };
        let real = s.ports.real(s.kind, port);
        // From the block only IPv4 leads anywhere, but a listener may be IPv6's alone.
        let leads_by_four = real != port && s.kind == PortKind::Udp;
        return match spot.is_six() && (leads_by_four || is_in_block() == Some(true)) {
            true => Some(block::mapped_loopback(real)),
            false if real != port => Some(addr.with_port(real.into())),
            false => None,
        };
    }
    let mut real = s.ports.real(s.kind, port);
    if ever == 0 && port != 0 && real == port && s.is_taken_outside(allowed, real) {
        // Nobody of the run was ever there: who has the port at the machine's wildcard
        // is not to be found.
        real = s.ports.instead(s.kind, port, port);
    }
    let (other, ways) = spot.elsewhere();
    let is_there = ever & ways != 0
        && spot.has_elsewhere()
        && !(ever & spot.here() != 0 && s.is_held(allowed, spot, real))
        && !s.is_clear(allowed, spot, other, ever, real);
    let to = if is_there { other } else { spot };
    Some(s.block.real(to, addr.family(), real))
}

/// A name of the engine's for one that rules and redirects speak of: for a trial
/// bind and for what the kernel lists.
pub fn real_of(run: &Run, ty: SocketType, v6only: bool, addr: &Addr) -> Option<Addr> {
    let block = run.block?;
    let kind = block::port_kind(ty)?;
    let spot = block::spot(addr, v6only)?;
    let port = addr.port()? as u16;
    if port == 0 && addr.is_wildcard() {
        return None;
    }
    let real = run.state.block_ports.real(kind, port);
    Some(block.real(spot, addr.family(), real))
}

/// Makes the local name that the program knows of the one that the kernel gave; was it
/// another one?
#[inline(never)]
pub fn rename_local(allowed: Allowed, run: &Run, fd: i32, raw: &mut RawAddr) -> bool {
    let told = local_of(allowed, run, fd, raw);
    if let Some(told) = told {
        *raw = told.write();
    }
    told.is_some()
}

/// The same of the peer's name.
#[inline(never)]
pub fn rename_peer(allowed: Allowed, run: &Run, fd: i32, raw: &mut RawAddr) {
    let told = raw
        .read()
        .and_then(|addr| peer_name(allowed, run, fd, &addr));
    if let Some(told) = told {
        *raw = told.write();
    }
}

#[inline(never)]
fn local_of(allowed: Allowed, run: &Run, fd: i32, raw: &RawAddr) -> Option<Addr> {
    let addr = raw.read()?;
    if !matches!(addr, Addr::Inet { .. } | Addr::Inet6 { .. }) {
        return None;
    }
    let s = socket(allowed, run, fd)?;
    if addr.is_wildcard() {
        let port = s.port_of(&addr);
        return Some(addr.with_port(port.into()));
    }
    let is_six = matches!(addr, Addr::Inet6 { .. });
    let is_own = is_six && addr.ipv4() == Some([127, 0, 0, 1]);
    if !is_own && !s.block.has(&addr) {
        return None;
    }
    let peer = || name::real_peer(allowed, fd).ok().and_then(|raw| raw.read());
    if !s.block.has(&addr) {
        let as_six = peer().is_some_and(|peer| s.block.is_six(&peer));
        let port = addr.port().unwrap_or(0) as u16;
        return s.block.told(&addr, as_six, port);
    }
    let port = s.port_of(&addr);
    if port == 0
        && s.block.is_six(&addr)
        && let Some(kept) = kept_name(allowed, run, fd)
    {
        // It got its place by a call, and has lost its port.
        return kept.virt.read();
    }
    let ever = s.ports.held(s.kind, port);
    let known = s.block.known(&addr, port, ever)?;
    if !is_six && known == Known::As(s.block.told(&addr, false, port)?) {
        return s.block.told(&addr, false, port);
    }
    if let Some(peer) = peer() {
        return s.block.told(&addr, is_six && s.block.is_six(&peer), port);
    }
    Some(match known {
        Known::As(addr) => addr,
        Known::Unless(addr) => kept_name(allowed, run, fd)
            .and_then(|kept| kept.virt.read())
            .map_or(addr, |kept| kept.with_port(port.into())),
    })
}

fn kept_name(allowed: Allowed, run: &Run, fd: i32) -> Option<Moved> {
    let cookie = sys::cookie(allowed, fd).ok()?;
    run.state.moves.find(cookie | NAME_KEY)
}

/// The peer that the program knows, for the name that the kernel gave.
#[inline(never)]
pub fn peer_name(allowed: Allowed, run: &Run, fd: i32, addr: &Addr) -> Option<Addr> {
    if !matches!(addr, Addr::Inet { .. } | Addr::Inet6 { .. }) {
        return None;
    }
    let s = socket(allowed, run, fd)?;
    let is_six = matches!(addr, Addr::Inet6 { .. });
    let is_own = is_six && addr.ipv4() == Some([127, 0, 0, 1]);
    if !is_own && !s.block.has(addr) {
        return None;
    }
    let as_six = is_six
        && !s.block.is_six(addr)
        && name::real_local(allowed, fd)
            .ok()
            .and_then(|raw| raw.read())
            .is_some_and(|local| s.block.is_six(&local));
    let port = match is_own {
        true => addr.port().unwrap_or(0) as u16,
        false => s.port_of(addr),
    };
    s.block.told(addr, as_six, port)
}

/// `IPV6_V6ONLY` as the program believes it, where the kernel has another word.
#[inline(never)]
pub fn v6only(allowed: Allowed, run: &Run, fd: i32) -> Option<bool> {
    let s = socket(allowed, run, fd)?;
    let local = name::real_local(allowed, fd).ok()?.read()?;
    if matches!(local, Addr::Inet { .. }) {
        return None;
    }
    let port = s.port_of(&local);
    let ever = s.ports.held(s.kind, port);
    if local.is_wildcard() && ever & held::PLAIN6 != 0 {
        let kept = kept_name(allowed, run, fd)?;
        return Some(kept.marks & move_mark::V6ONLY != 0);
    }
    if s.block.is_six(&local)
        && ever & held::IMPLICIT != 0
        && let Some(kept) = kept_name(allowed, run, fd)
    {
        return Some(kept.marks & move_mark::V6ONLY != 0);
    }
    if port == 0 && s.block.is_six(&local) && s.kind == PortKind::Tcp {
        // `IP_BIND_ADDRESS_NO_PORT`
        return Some(true);
    }
    // Bound to any other address than the wildcard, too (`__inet6_bind`); not a
    // client's.
    (s.block.is_six(&local) && ever & (held::ANY6 | held::LOOP6) != 0).then_some(true)
}

/// Does the run's table hold anything but the mark that the run has a block?
pub fn has_moves(run: &Run) -> bool {
    run.state.header.moves.load(Relaxed) > 1
}

/// The run, if it has a block.
#[inline]
pub fn run() -> Option<&'static Run> {
    match session::has_block() {
        true => session::get().filter(|run| run.block.is_some()),
        false => None,
    }
}

/// May the names of a socket be asked for?
pub fn may_ask(allowed: Allowed) -> bool {
    allowed.may_all(needs::IDENTIFY)
}

/// May all be done that it takes?
pub fn may(allowed: Allowed) -> bool {
    allowed.may_all(needs::REDIRECT)
}
