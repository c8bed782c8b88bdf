//! What is bound in the run right now, for `bindgate ls`.
//!
//! The bind tables say who bound what, by which rule and since when; the kernel
//! says what of it is still there, and what else is: the sockets of programs that
//! cannot be intercepted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use bindgate_core::addr::{Addr, RawAddr, UnixKind, af};
use bindgate_core::judge::block;
use bindgate_core::judge::vsock::{self, At};
use bindgate_core::policy::View;
use bindgate_core::record::{Call, RULE_NONE, Record};
use bindgate_core::render::{self, Bound, HolderState, Listed, Published, RuleRef, json_listing};
use bindgate_core::shared::{DOOR, DOOR_FILE, PortKind};
use bindgate_core::socket::{BindOptions, SocketType, proto, ty};
use bindgate_core::uapi::inet_diag::{self, state};
use bindgate_host_live::machine::{self, UnixSocket};
use bindgate_host_live::processes;
use bindgate_os::{Instant, inet, process};

use super::alive::Alive;
use super::hosted::Hosted;
use super::relay::{self, Service};
use super::space::{self, Space};
use super::table::{Held, Past};
use super::waiting::{Server, Waiting};
use super::{Setup, Shared, predict};

/// The run and its sockets, as a line of JSON.
pub fn json(shared: &'static Shared, setup: &'static Setup) -> String {
    let mut text = String::new();
    let Ok(view) = View::new(&setup.policy.0) else {
        return text;
    };
    // The kernel first, which takes its time while nobody is held up: what was there
    // when it was asked stands in the tables when they are looked at after it. A
    // sealed run can have brought sockets with it from the network outside.
    let ways = shared.spaces.ask().ways();
    let mut shown: HashMap<u64, Option<Shown>> = ways
        .into_iter()
        .map(|(inode, way)| (inode, way.within(Shown::ask).ok()))
        .collect();
    let open = processes::holders();
    settle(shared);
    let (network, known) = {
        let mut spaces = shared.spaces.ask();
        let known: Vec<Known> = spaces
            .ways()
            .into_iter()
            .map(|(inode, way)| {
                let is_sealed = way.is_sealed();
                Known::of(inode, is_sealed, spaces.known(inode))
            })
            .collect();
        (spaces.home(), known)
    };
    let alive = Alive::new(shared.state, None, setup.run_id);
    let looker = Looker {
        alive: &alive,
        host: vsock::Host::of(&view),
        open,
        members: RefCell::default(),
    };
    let mut rows = Vec::new();
    for known in &known {
        // One that has come meanwhile was not asked: it is new, and empty.
        if let Some(shown) = shown.remove(&known.inode) {
            looker.look(known, shown, &mut rows);
        }
    }
    rows.sort_by_key(|row| (row.since_ns, row.cookie));
    let served = rows
        .iter()
        .filter(|row| Waiting::is_served(row.socket, row.state));
    shared.waiting.found(served.map(|row| Server {
        socket: row.socket,
        address: &row.address,
        real: &row.real,
        options: row.options.unwrap_or_default(),
        pid: row.pids.first().copied().unwrap_or(0),
        program: &row.program,
    }));
    let socket_rule = |row: &Row| {
        let asked = Record::new(Call::Bind);
        RuleRef::find(&view, row.rule, &asked)
    };
    let addresses: Vec<(&Service, Vec<Addr>)> = relay::published(&setup.services)
        .filter_map(|all| {
            Some((
                all.first()?,
                all.iter().map(|s| inet::addr(&s.near)).collect(),
            ))
        })
        .collect();
    let published: Vec<_> = addresses
        .iter()
        .map(|(service, addresses)| Published {
            kind: service.kind_name(),
            port: service.port(),
            addresses,
        })
        .collect();
    let own = space::of_process("self");
    let is_hidden = |row: &Row| {
        let rule = socket_rule(row);
        rule.is_some_and(|rule| rule.text.to_string().starts_with("hide "))
    };
    let reached = rows.iter().map(|row| match is_hidden(row) {
        true => Vec::new(),
        false => row.outside(&published, network, own),
    });
    let reached: Vec<Vec<Addr>> = reached.collect();
    let bound: Vec<_> = rows
        .iter()
        .zip(&reached)
        .map(|(row, outside)| Bound {
            outside,
            socket: row.socket,
            address: row.address,
            real: row.real,
            state: row.state,
            pids: &row.pids,
            program: &row.program,
            uid: row.uid,
            rule: socket_rule(row),
            since_ns: row.since_ns,
            options: row.options,
            network: row.network,
            cookie: row.cookie,
            inode: row.inode,
            is_recorded: row.is_recorded,
        })
        .collect();
    let command: Vec<&[u8]> = setup.command.iter().map(Vec::as_slice).collect();
    let run = Listed {
        run: setup.run_id,
        since_ns: setup.since_ns,
        daemon: process::pid().cast_unsigned(),
        pid: shared.program.load(Relaxed),
        command: &command,
        uid: process::effective_uid(),
        is_sealed: setup.is_sealed,
        has_own_ports: setup.block.is_some(),
        network,
        enforces: setup.enforces,
        // A forked child that has made no call yet is in no table.
        processes: alive.scan(false).found.max(alive.living()),
        published: &published,
    };
    // Writing to a string does not fail.
    let _ = json_listing(&mut text, &run, &bound);
    text
}

/// Waits until what was bound before the question stands in the tables.
fn settle(shared: &Shared) {
    const PATIENCE: Duration = Duration::from_millis(500);
    let start = Instant::now();
    // Twice: the first look may have been under way before.
    let until = shared.emptied.load(Acquire) + 2;
    while shared.emptied.load(Acquire) < until && start.elapsed() < PATIENCE {
        shared.ring();
        std::thread::sleep(Duration::from_micros(50));
    }
}

struct Row {
    socket: SocketType,
    address: RawAddr,
    real: RawAddr,
    state: HolderState,
    pids: Vec<u32>,
    program: Arc<[u8]>,
    uid: Option<u32>,
    rule: u32,
    since_ns: u64,
    options: Option<BindOptions>,
    network: u64,
    cookie: u64,
    inode: u32,
    is_recorded: bool,
}

impl Row {
    /// Where clients outside the run reach it. `home` is the network that the run
    /// began in, and `own` the machine's.
    fn outside(&self, published: &[Published<'_>], home: u64, own: u64) -> Vec<Addr> {
        let (Some(known), Some(real)) = (self.address.read(), self.real.read()) else {
            return Vec::new();
        };
        let is_udp = match (block::port_kind(self.socket), self.state) {
            (Some(PortKind::Tcp), HolderState::Listening) => false,
            (Some(PortKind::Udp), HolderState::Bound) => true,
            _ => return Vec::new(),
        };
        match real {
            Addr::Inet { .. } | Addr::Inet6 { .. } => {
                let published = if self.network == home { published } else { &[] };
                render::outside(published, self.network != own, is_udp, &known, &real)
            }
            _ => Vec::new(),
        }
    }

    /// What the record of a bind says: the kernel knows the rest better.
    fn of_record(network: u64, held: &Held, socket: SocketType, address: RawAddr) -> Row {
        let owner = &held.owner;
        Row {
            socket,
            address,
            real: held.addr,
            state: held.state,
            pids: Vec::new(),
            program: owner.program.clone(),
            uid: owner.uid,
            rule: owner.rule,
            since_ns: owner.since_ns,
            options: Some(owner.options),
            network,
            cookie: owner.cookie,
            inode: 0,
            is_recorded: true,
        }
    }
}

/// What the tables say of one network.
struct Known {
    inode: u64,
    is_sealed: bool,
    recorded: Vec<(SocketType, Held)>,
    virt: HashMap<u64, (SocketType, RawAddr)>,
    past: Option<Past>,
    hosted: Hosted,
}

impl Known {
    fn of(inode: u64, is_sealed: bool, space: Option<&mut Space>) -> Known {
        let mut known = Known {
            inode,
            is_sealed,
            recorded: Vec::new(),
            virt: HashMap::new(),
            past: None,
            hosted: Hosted::default(),
        };
        if let Some(space) = space {
            known.recorded = space.table.of_run();
            let virt = space.virt.of_run().into_iter();
            known.virt = virt
                .filter(|(_, held)| held.owner.cookie != 0)
                .map(|(kind, held)| (held.owner.cookie, (kind, held.addr)))
                .collect();
            known.past = Some(space.table.all_past());
            known.hosted = space.hosted.clone();
        }
        known
    }
}

/// What the kernel shows of one network.
struct Shown {
    inet: Vec<(SocketType, inet_diag::Socket)>,
    unix: Vec<UnixSocket>,
}

impl Shown {
    /// All that there is in the network of whoever asks.
    fn ask() -> Shown {
        let kinds = [
            (ty::STREAM, proto::TCP),
            (ty::DGRAM, proto::UDP),
            (ty::DGRAM, proto::UDPLITE),
        ];
        let mut inet = Vec::new();
        for (ty, protocol) in kinds {
            let kind = SocketType {
                domain: af::INET,
                ty,
                protocol,
            };
            let all = machine::inet_sockets(kind).unwrap_or_default();
            inet.extend(all.into_iter().map(|s| {
                let domain = s.family.into();
                (SocketType { domain, ..kind }, s)
            }));
        }
        Shown {
            inet,
            unix: machine::unix_sockets(),
        }
    }

    /// Takes a socket of the table out, where it is there.
    fn take_inet(&mut self, kind: SocketType, held: &Held) -> Option<inet_diag::Socket> {
        let protocol = match kind.protocol {
            proto::MPTCP => proto::TCP,
            protocol => protocol,
        };
        let real = held.addr.read()?;
        let is_it = |(shown, s): &(SocketType, inet_diag::Socket)| {
            let is_kind = shown.protocol == protocol && shown.domain == kind.domain;
            let by_cookie = held.owner.cookie != 0 && kind.protocol != proto::MPTCP;
            is_kind
                && s.state != state::TIME_WAIT
                && match by_cookie {
                    true => s.cookie == held.owner.cookie,
                    // What a listener has accepted has its address, too.
                    false => {
                        address_of(s) == real && s.inode != 0 && {
                            held.state != HolderState::Listening || s.state == state::LISTEN
                        }
                    }
                }
        };
        let all = self.inet.iter().enumerate().filter(|(_, one)| is_it(one));
        let (at, _) = all.min_by_key(|(_, (_, s))| match state_of(s) {
            HolderState::Listening => 0,
            HolderState::Bound => 1,
            _ => 2,
        })?;
        Some(self.inet.swap_remove(at).1)
    }

    fn take_unix(&mut self, kind: SocketType, held: &Held) -> Option<UnixSocket> {
        let Some(Addr::Unix(name)) = held.addr.read() else {
            return None;
        };
        // One that took another family's place was recorded by the other's cookie;
        // one that was accepted has its listener's name.
        let by_cookie = |s: &UnixSocket| s.cookie != 0 && s.cookie == held.owner.cookie;
        let by_name = |s: &UnixSocket| s.is_named(&name) && s.ty == kind.ty && !s.is_connected;
        let all = || self.unix.iter();
        let at = all()
            .position(by_cookie)
            .or_else(|| all().position(by_name))?;
        Some(self.unix.swap_remove(at))
    }
}

/// The local address of a socket.
fn address_of(s: &inet_diag::Socket) -> Addr {
    match (u16::from(s.family), s.addr) {
        (af::INET6, ip) => Addr::Inet6 {
            ip,
            port: s.port,
            flow: 0,
            scope: 0,
        },
        (_, [a, b, c, d, ..]) => Addr::Inet {
            ip: [a, b, c, d],
            port: s.port,
        },
    }
}

fn state_of(s: &inet_diag::Socket) -> HolderState {
    match s.state {
        state::LISTEN => HolderState::Listening,
        state::CLOSE | state::BOUND_INACTIVE => HolderState::Bound,
        _ => HolderState::Connected,
    }
}

struct Looker<'a> {
    alive: &'a Alive,
    /// The vsock host that the run is.
    host: Option<vsock::Host<'a>>,
    /// Who has sockets open, by inode.
    open: HashMap<u32, Vec<u32>>,
    /// Processes that were asked whether they are of the run.
    members: RefCell<HashMap<u32, bool>>,
}

impl Looker<'_> {
    /// What is bound in one network.
    fn look(&self, known: &Known, mut shown: Option<Shown>, rows: &mut Vec<Row>) {
        let lists_bound = space::lists_bound();
        for (kind, held) in &known.recorded {
            let kind = *kind;
            let Some((state, inode, uid)) = self.found(kind, held, shown.as_mut(), lists_bound)
            else {
                continue;
            };
            let owner = &held.owner;
            if owner.on_the_way && state == HolderState::Connected {
                continue;
            }
            let mut pids = self.open.get(&inode).cloned().unwrap_or_default();
            if !pids.is_empty() && !known.is_sealed && !pids.iter().any(|p| self.is_member(*p)) {
                // Closed, and somebody else has the address by now.
                continue;
            }
            if pids.is_empty() {
                pids.extend((owner.pid != 0).then_some(owner.pid));
            }
            let believed = known
                .virt
                .get(&owner.cookie)
                .filter(|_| owner.elsewhere.is_some());
            let (socket, address) = match (believed, &owner.elsewhere) {
                (Some((kind, addr)), _) => (*kind, *addr),
                (None, Some(asked)) => (kind, **asked),
                (None, None) => (kind, held.addr),
            };
            let row = Row::of_record(known.inode, held, socket, address);
            rows.push(Row {
                state,
                pids,
                uid: uid.or(owner.uid),
                inode,
                ..row
            });
        }
        if let Some(shown) = shown {
            self.others(known, shown, rows);
        }
    }

    /// Is a socket of the table still there? Its state, inode and user.
    fn found(
        &self,
        kind: SocketType,
        held: &Held,
        shown: Option<&mut Shown>,
        lists_bound: bool,
    ) -> Option<(HolderState, u32, Option<u32>)> {
        let unseen = || {
            let lives = !self.alive.is_dead(held.owner.process);
            lives.then_some((held.state, 0, None))
        };
        let Some(shown) = shown else {
            return unseen();
        };
        match (kind.domain, kind.protocol) {
            (af::INET | af::INET6, proto::TCP | proto::MPTCP | proto::UDP | proto::UDPLITE) => {
                match shown.take_inet(kind, held) {
                    Some(s) => Some((state_of(&s), s.inode, Some(s.uid))),
                    None if kind.is_stream()
                        && held.state == HolderState::Bound
                        && !lists_bound =>
                    {
                        unseen()
                    }
                    None => None,
                }
            }
            (af::UNIX, _) => {
                let s = shown.take_unix(kind, held)?;
                Some((predict::state_of(&s), s.inode, s.uid))
            }
            (af::VSOCK, _) => unseen(),
            _ => None,
        }
    }

    /// The record of a socket that was taken for gone, because another one has its
    /// descriptor's number: a duplicate of it may live on.
    fn known_before<'k>(
        &self,
        known: &'k Known,
        kind: SocketType,
        s: &inet_diag::Socket,
    ) -> Option<&'k Held> {
        let before = known.past.as_ref()?.get(kind, s.port)?;
        let owner = &before.owner;
        let is_it = match owner.cookie {
            0 => {
                let has_it = |pids: &Vec<u32>| pids.contains(&owner.pid);
                before.addr == address_of(s).write() && self.open.get(&s.inode).is_some_and(has_it)
            }
            cookie => cookie == s.cookie,
        };
        (owner.in_run && is_it).then_some(before)
    }

    /// Whatever else is bound there by the run.
    fn others(&self, known: &Known, shown: Shown, rows: &mut Vec<Row>) {
        let mut put = |socket: SocketType, [addr, real]: [Addr; 2], state, uid, cookie, inode| {
            let pids = self.open.get(&inode).cloned().unwrap_or_default();
            if pids.contains(&process::pid().cast_unsigned()) {
                // What the relay holds is not the run's.
                return;
            }
            let is_ours = known.is_sealed || pids.iter().any(|pid| self.is_member(*pid));
            if !is_ours {
                return;
            }
            let program = pids
                .first()
                .map_or_else(Vec::new, |p| processes::program(*p));
            rows.push(Row {
                socket,
                address: addr.write(),
                real: real.write(),
                state,
                pids,
                program: program.into(),
                uid,
                rule: RULE_NONE,
                since_ns: 0,
                options: None,
                network: known.inode,
                cookie,
                inode,
                is_recorded: false,
            });
        };
        let again = |kind, held: &Held, state, uid: Option<u32>, cookie, inode| {
            let asked = held.owner.elsewhere.as_deref().copied();
            let row = Row::of_record(known.inode, held, kind, asked.unwrap_or(held.addr));
            Row {
                state,
                pids: self.open.get(&inode).cloned().unwrap_or_default(),
                uid: uid.or(row.uid),
                cookie,
                inode,
                ..row
            }
        };
        let mut recorded = Vec::new();
        for (kind, s) in shown.inet {
            let is_bound = match state_of(&s) {
                HolderState::Listening => true,
                // Those of TCP are on their way to a connection, or to listen.
                HolderState::Bound => !kind.is_stream(),
                _ => false,
            };
            if is_bound && s.port != 0 {
                let (state, at) = (state_of(&s), address_of(&s));
                match self.known_before(known, kind, &s) {
                    Some(held) => {
                        recorded.push(again(kind, held, state, Some(s.uid), s.cookie, s.inode));
                    }
                    None => put(kind, [at; 2], state, Some(s.uid), s.cookie, s.inode),
                }
            }
        }
        for s in shown.unix {
            let is_bound = s.listens || s.ty == ty::DGRAM;
            let Some(name) = s.name else { continue };
            let unix = Addr::Unix(name);
            let place = self.host.and_then(|host| host.read(&name));
            let mut socket = SocketType {
                domain: af::UNIX,
                ty: s.ty,
                protocol: 0,
            };
            let state = predict::state_of(&s);
            let Some(place) = place else {
                let is_door = match name.kind {
                    UnixKind::Abstract => name.bytes().starts_with(DOOR),
                    _ => name.bytes().starts_with(DOOR_FILE),
                };
                if is_bound && !is_door {
                    put(socket, [unix; 2], state, s.uid, s.cookie, s.inode);
                }
                continue;
            };
            if s.is_connected {
                continue;
            }
            socket.domain = af::VSOCK;
            // A place of another host of the fabric, or a client's, is in no record.
            let is_bound =
                self.host.is_some_and(|host| host.is_here(place)) && place.at != At::Loop;
            let before = known.hosted.get(place).filter(|_| is_bound);
            match before.filter(|(kind, _)| kind.ty == s.ty) {
                Some((kind, held)) => recorded.push(Row {
                    real: unix.write(),
                    ..again(*kind, held, state, s.uid, s.cookie, s.inode)
                }),
                None => put(
                    socket,
                    [place.bound_to(), unix],
                    state,
                    s.uid,
                    s.cookie,
                    s.inode,
                ),
            }
        }
        rows.append(&mut recorded);
    }

    fn is_member(&self, pid: u32) -> bool {
        let known = self.members.borrow().get(&pid).copied();
        known.unwrap_or_else(|| {
            let is = self.alive.is_member(pid) || self.alive.has_marker(pid);
            self.members.borrow_mut().insert(pid, is);
            is
        })
    }
}
