//! The bind table of one network namespace: who holds which address.
//!
//! The sockets stand in a [`Net`], so that who may share an address with whom
//! is the model's to say. Records tell who bound what; nothing tells when a
//! socket is closed. So the kernel corrects the table: a bind that it grants
//! shows that whoever stood in its way has gone, and after one that it refuses
//! sock_diag lists who is there ([`BindTable::reconcile`]).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bindgate_core::addr::{Addr, RawAddr, af};
use bindgate_core::model::linux::PathState;
use bindgate_core::model::{
    Ask, Cred, Errno, Fd, Host, Net, No, Outside, OwnedNet, Pick, Pointer, Sock, SockId, State,
    Step, Table, conflict, overlapping, table_of,
};
use bindgate_core::record::RULE_NONE;
use bindgate_core::render::HolderState;
use bindgate_core::socket::{BindOptions, SocketType};
use bindgate_core::uapi::inet_diag;
use bindgate_host_live::machine;

/// Sockets that a table has room for.
const SOCKETS: u32 = 16 << 10;
/// Stale owners that one bind can push out of its way.
const STALE: usize = 256;
/// Owners of a port that are taken over from sock_diag.
const OWNERS: usize = 256;
/// Ports whose last owner is remembered.
const REMEMBERED: usize = 4096;
/// Sockets that have left a port, of those with automatic ones and of the others, that
/// are remembered for the history of a port.
const STAYS: usize = 4096;

/// Who bound a socket.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Slot of the process table; 0 outside the run.
    pub process: u32,
    /// Process id, as the process sees itself; 0 if it is not known.
    pub pid: u32,
    /// Its descriptor.
    pub fd: i32,
    /// Its user; `None` if it is not known.
    pub uid: Option<u32>,
    /// Its executable; empty if it is not known.
    pub program: Arc<[u8]>,
    /// `SO_COOKIE`, 0 if nobody asked.
    pub cookie: u64,
    /// Inode number, likewise.
    pub inode: u32,
    /// When it was bound, in nanoseconds since the epoch, likewise.
    pub since_ns: u64,
    /// Is it a socket of this run?
    pub in_run: bool,
    /// Did a connect() or a send bind it on its way?
    pub on_the_way: bool,
    /// Did its bind leave the port to the kernel?
    pub automatic: bool,
    /// The rule that decided, as a record names it.
    pub rule: u32,
    /// The options that it had before the bind.
    pub options: BindOptions,
    /// A redirected socket has two addresses: of one in the table of real
    /// addresses, where its program believes it is; of one in the other
    /// table, where it really is.
    pub elsewhere: Option<Box<RawAddr>>,
}

impl Owner {
    /// A socket that nobody of the run has bound, as sock_diag shows it.
    fn outside(s: &inet_diag::Socket, now_ns: u64) -> Owner {
        // `TCP_TIMEWAIT_LEN`
        const TIME_WAIT_MS: u64 = 60_000;
        let waits = s.state == inet_diag::state::TIME_WAIT;
        let waited_ms = TIME_WAIT_MS.saturating_sub(u64::from(s.expires_ms));
        Owner {
            process: 0,
            pid: 0,
            fd: -1,
            uid: (!waits).then_some(s.uid),
            program: Arc::from([]),
            cookie: s.cookie,
            inode: s.inode,
            since_ns: if waits {
                now_ns.saturating_sub(waited_ms * 1_000_000)
            } else {
                0
            },
            in_run: false,
            on_the_way: false,
            automatic: false,
            rule: RULE_NONE,
            options: BindOptions(BindOptions::UNKNOWN),
            elsewhere: None,
        }
    }
}

/// Somebody who holds an address, or has held it.
#[derive(Clone, Debug)]
pub struct Held {
    /// Whose it is.
    pub owner: Owner,
    /// The address.
    pub addr: RawAddr,
    /// What the socket does there.
    pub state: HolderState,
    /// It was there when the bind failed, and has gone since.
    pub gone: bool,
}

/// A bind that the kernel has answered.
#[derive(Clone, Copy, Debug)]
pub struct Bind<'a> {
    /// The socket.
    pub kind: SocketType,
    /// Where the kernel was asked to bind it.
    pub addr: &'a RawAddr,
    /// Its options.
    pub options: BindOptions,
    /// Its device, or 0.
    pub device: u32,
    /// Who calls.
    pub cred: Cred,
    /// The slot and the descriptor.
    pub by: (u32, i32),
    /// What the file system says of a Unix path.
    pub path: PathState,
}

impl Bind<'_> {
    fn ask(&self) -> Ask<'_> {
        Ask {
            kind: self.kind,
            addr: self.addr.bytes(),
            options: self.options,
            device: self.device,
            uid: self.cred.uid,
        }
    }
}

/// What the model says of a bind.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Its answer.
    pub result: Result<(), No>,
    /// The check that decided.
    pub step: Option<Step>,
    /// Who is in the way.
    pub holder: Option<SockId>,
}

struct Entry {
    owner: Owner,
    /// The kernel chose its port.
    auto: bool,
    /// A claim: no record has said yet what the kernel answered.
    claimed: bool,
    /// Which of the sockets it is that had this place one after the other.
    serial: u64,
}

/// Numbers hash to themselves, spread.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_i32(&mut self, n: i32) {
        self.write_u64(u64::from(n.cast_unsigned()));
    }

    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0.rotate_left(26) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

type Numbers<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// See the module.
pub struct BindTable {
    net: OwnedNet,
    entries: Vec<Option<Entry>>,
    /// The sockets by who bound them last under which number.
    by: Numbers<(u32, i32), SockId>,
    /// By cookie, as far as that is known.
    cookies: Numbers<u64, SockId>,
    /// The order in which they came: with automatic ports, and the others.
    order: [VecDeque<(SockId, u64)>; 2],
    serial: u64,
    /// The last ones to leave their port.
    past: Numbers<(u32, u32), Held>,
    /// Whoever has left a port: with automatic ones, and the others.
    stays: [VecDeque<Stay>; 2],
    /// About when it is.
    now_ns: u64,
}

/// A socket of the run that had a port.
#[derive(Clone, Debug)]
pub struct Stay {
    at: At,
    /// The process that bound it.
    pub pid: u32,
    /// Its executable.
    pub program: Arc<[u8]>,
    /// When it was bound.
    pub since_ns: u64,
    /// When it was known to have left; 0 if it has not.
    pub left_ns: u64,
    /// The kernel had chosen the port.
    pub automatic: bool,
}

/// Where a socket was.
#[derive(Clone, Copy, Debug)]
struct At {
    table: Table,
    port: u16,
    /// Its address; IPv4 mapped.
    ip: [u8; 16],
    domain: u16,
    state: State,
}

impl At {
    fn of(sock: &Sock) -> At {
        At {
            table: sock.table,
            port: sock.num as u16,
            ip: sock.rcv6,
            domain: sock.kind.domain,
            state: sock.state,
        }
    }
}

impl Stay {
    fn of(at: At, owner: &Owner, left_ns: u64) -> Stay {
        Stay {
            at,
            pid: owner.pid,
            program: owner.program.clone(),
            since_ns: owner.since_ns,
            left_ns,
            automatic: owner.automatic,
        }
    }

    /// Did it listen?
    pub fn listened(&self) -> bool {
        self.at.state == State::Listen
    }

    /// Its address.
    pub fn addr(&self) -> Addr {
        let At { ip, port, .. } = self.at;
        match std::net::Ipv6Addr::from(ip).to_ipv4_mapped() {
            Some(ip) if self.at.domain == af::INET => Addr::Inet {
                ip: ip.octets(),
                port,
            },
            _ => Addr::inet6(ip, port),
        }
    }
}

impl BindTable {
    /// Nobody holds anything.
    pub fn new(host: Host) -> BindTable {
        BindTable {
            net: OwnedNet::new(host, SOCKETS),
            entries: Vec::new(),
            by: HashMap::default(),
            cookies: HashMap::default(),
            order: [VecDeque::new(), VecDeque::new()],
            serial: 0,
            past: HashMap::default(),
            stays: [VecDeque::new(), VecDeque::new()],
            now_ns: 0,
        }
    }

    /// About when what follows happens.
    pub fn set_now(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// What the host is like.
    pub fn host(&self) -> &Host {
        &self.net.host
    }

    /// Who of the run has the port or had it, the oldest first.
    pub fn history(&mut self, kind: SocketType, port: u16) -> Vec<Stay> {
        let Some(table) = table_of(kind) else {
            return Vec::new();
        };
        let is_at = |stay: &&Stay| stay.at.table == table && stay.at.port == port;
        let mut all: Vec<Stay> = self.stays.iter().flatten().filter(is_at).cloned().collect();
        for id in self.owners(table, port) {
            let net = self.net.net();
            let at = At::of(net.get(id));
            if at.state == State::TimeWait {
                // No socket of a process.
                continue;
            }
            if let Some(entry) = self.entry(id).filter(|e| e.owner.in_run && !e.claimed) {
                all.push(Stay::of(at, &entry.owner, 0));
            }
        }
        all.sort_by_key(|stay| stay.since_ns);
        all
    }

    /// The host is like this by now.
    pub fn set_host(&mut self, host: Host) {
        self.net.host = host;
    }

    /// A bind that the kernel has answered with `kernel`: what the model says
    /// of it, after which the table agrees with the kernel.
    pub fn bind(&mut self, b: &Bind<'_>, kernel: u16, owner: impl FnOnce() -> Owner) -> Said {
        if let Some(said) = self.bind_again(b, kernel) {
            return said;
        }
        let granted = kernel == 0;
        if granted
            && b.kind.domain == af::UNIX
            && let Some(before) = self.net.net().owner_of_path(b.addr.bytes())
        {
            // Its file was unlinked, or is that of another root.
            self.leave(before);
        }
        let Some(id) = self.open(b) else {
            return Said {
                result: Err(No::Unknown(Step::NoRoom)),
                step: None,
                holder: None,
            };
        };
        let mut said = self.try_bind(id, b);
        // Whoever stood in the way of what the kernel has granted has gone.
        for _ in 0..STALE {
            if !granted || said.result != Err(Errno::EADDRINUSE.into()) {
                break;
            }
            match said.holder {
                Some(stale) => self.leave(stale),
                None => self.clear_port(b),
            }
            said = self.try_bind(id, b);
        }
        if granted && said.result.is_ok() {
            self.enter(id, b, owner());
        } else {
            self.net.net().forget(id);
            if granted {
                self.enter_anyhow(b, owner());
            }
        }
        said
    }

    /// What the model says of a bind, without any consequence.
    pub fn ask(&mut self, b: &Bind<'_>) -> Said {
        let Some(id) = self.open(b) else {
            return Said {
                result: Err(No::Unknown(Step::NoRoom)),
                step: None,
                holder: None,
            };
        };
        let said = self.try_bind(id, b);
        self.net.net().forget(id);
        said
    }

    /// Is it a second bind of a socket that has its address? If not, the
    /// descriptor names another socket than before.
    fn bind_again(&mut self, b: &Bind<'_>, kernel: u16) -> Option<Said> {
        let before = *self.by.get(&b.by)?;
        let mut net = self.net.net();
        if kernel == Errno::EINVAL.linux() && net.get(before).kind == b.kind {
            let pick = Pick::Random(0);
            let to = Pointer::to(b.addr.bytes());
            net.path = b.path;
            let answer = net.bind(Fd::Socket(before), to, &b.cred, pick);
            return Some(Said {
                result: answer.result,
                step: answer.trail.last(),
                holder: answer.holder,
            });
        }
        self.leave(before);
        None
    }

    fn open(&mut self, b: &Bind<'_>) -> Option<SockId> {
        let opened = self.net.net().open(&b.ask(), &b.cred);
        opened.or_else(|| {
            self.make_room();
            self.net.net().open(&b.ask(), &b.cred)
        })
    }

    fn try_bind(&mut self, id: SockId, b: &Bind<'_>) -> Said {
        let to = Pointer::to(b.addr.bytes());
        let pick = Pick::Random(1);
        let mut net = self.net.net();
        net.path = b.path;
        let answer = net.bind(Fd::Socket(id), to, &b.cred, pick);
        Said {
            result: answer.result,
            step: answer.trail.last(),
            holder: answer.holder,
        }
    }

    /// The oldest go: those with automatic ports first, which hardly anybody
    /// asks for again.
    fn make_room(&mut self) {
        for queue in 0..self.order.len() {
            let oldest = loop {
                let next = self.order.get_mut(queue).and_then(VecDeque::pop_front);
                match next {
                    Some((id, serial)) if !self.is(id, serial) => {}
                    other => break other,
                }
            };
            if let Some((id, _)) = oldest {
                self.leave(id);
                return;
            }
        }
    }

    fn is(&self, id: SockId, serial: u64) -> bool {
        self.entry(id).is_some_and(|e| e.serial == serial)
    }

    fn entry(&self, id: SockId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    fn entry_mut(&mut self, id: SockId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    fn enter(&mut self, id: SockId, b: &Bind<'_>, owner: Owner) {
        let auto = b.addr.read().is_some_and(|a| a.is_auto());
        if owner.process != 0 {
            self.by.insert(b.by, id);
        }
        self.put(id, owner, auto);
    }

    fn put(&mut self, id: SockId, owner: Owner, auto: bool) {
        self.serial += 1;
        let serial = self.serial;
        let at = id.0 as usize;
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, || None);
        }
        if owner.cookie != 0 {
            self.cookies.insert(owner.cookie, id);
        }
        if let Some(place) = self.entries.get_mut(at) {
            *place = Some(Entry {
                owner,
                auto,
                claimed: false,
                serial,
            });
        }
        let [autos, others] = &mut self.order;
        let queue = if auto { autos } else { others };
        queue.push_back((id, serial));
        if queue.len() > 4 * SOCKETS as usize {
            let entries = &self.entries;
            queue.retain(|(id, serial)| {
                let entry = entries.get(id.0 as usize).and_then(Option::as_ref);
                entry.is_some_and(|e| e.serial == *serial)
            });
        }
    }

    /// The kernel has granted what the model refuses for another reason than
    /// an owner: an address that is there by now, an option that nobody saw.
    fn enter_anyhow(&mut self, b: &Bind<'_>, owner: Owner) {
        let Some((addr, port)) = b.addr.read().as_ref().and_then(mapped) else {
            return;
        };
        let has = |option| b.options.has(option);
        let id = self.net.net().adopt(&Outside {
            kind: b.kind,
            uid: b.cred.uid,
            addr,
            port,
            state: State::Close,
            reuse: has(BindOptions::REUSEADDR),
            reuseport: has(BindOptions::REUSEPORT),
            v6only: has(BindOptions::V6ONLY),
            dev: b.device,
        });
        if let Some(id) = id {
            self.enter(id, b, owner);
        }
    }

    /// The socket is not there any more.
    fn leave(&mut self, id: SockId) {
        let mut net = self.net.net();
        let sock = net.get(id);
        let (at, table, port) = (At::of(sock), sock.table, sock.num);
        let (addr, state) = (net.getsockname(id), holder_state(sock.state));
        net.forget(id);
        let Some(entry) = self.entries.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        let (by, cookie) = ((entry.owner.process, entry.owner.fd), entry.owner.cookie);
        if self.by.get(&by) == Some(&id) {
            self.by.remove(&by);
        }
        if cookie != 0 && self.cookies.get(&cookie) == Some(&id) {
            self.cookies.remove(&cookie);
        }
        let is_ip = matches!(table, Table::Tcp | Table::Udp | Table::UdpLite);
        // Of a claim no record has told when it was bound.
        let has_port = is_ip && port != 0 && entry.owner.since_ns != 0;
        if entry.owner.in_run && has_port && at.state != State::TimeWait {
            let [autos, others] = &mut self.stays;
            let stays = if entry.owner.automatic { autos } else { others };
            if stays.len() >= STAYS {
                stays.pop_front();
            }
            stays.push_back(Stay::of(at, &entry.owner, self.now_ns));
        }
        if entry.auto {
            return;
        }
        if self.past.len() >= REMEMBERED {
            self.past.clear();
        }
        let held = Held {
            owner: entry.owner,
            addr: addr.write(),
            state,
            gone: true,
        };
        self.past.insert((u32::from(table.0), port), held);
    }

    /// All that is known at a port is stale.
    fn clear_port(&mut self, b: &Bind<'_>) {
        let port = b.addr.read().and_then(|a| a.port()).unwrap_or(0) as u16;
        if let Some(table) = table_of(b.kind) {
            for id in self.owners(table, port) {
                self.leave(id);
            }
        }
    }

    fn owners(&mut self, table: Table, port: u16) -> Vec<SockId> {
        let net = self.net.net();
        let owners = net.owners_of(table, port).filter(|id| {
            // The one that is being tried is nobody's yet.
            self.entries.get(id.0 as usize).is_some_and(Option::is_some)
        });
        owners.collect()
    }

    /// A socket of the process listens.
    pub fn listens(&mut self, by: (u32, i32)) {
        if let Some(id) = self.by.get(&by) {
            self.net.net().set_state(*id, State::Listen);
        }
    }

    /// Who a socket of the table is.
    pub fn held(&mut self, id: SockId) -> Option<Held> {
        let net = self.net.net();
        let state = holder_state(net.get(id).state);
        let addr = net.getsockname(id).write();
        let owner = self.entry(id)?.owner.clone();
        Some(Held {
            owner,
            addr,
            state,
            gone: false,
        })
    }

    /// What a socket of the table is.
    pub fn kind(&mut self, id: SockId) -> SocketType {
        self.net.net().get(id).kind
    }

    /// Every socket of the run, with what it is.
    pub fn of_run(&mut self) -> Vec<(SocketType, Held)> {
        let net = self.net.net();
        let mut all = Vec::new();
        for (at, entry) in (0..).map(SockId).zip(&self.entries) {
            let Some(entry) = entry.as_ref().filter(|e| e.owner.in_run && !e.claimed) else {
                continue;
            };
            let sock = net.get(at);
            let held = Held {
                owner: entry.owner.clone(),
                addr: net.getsockname(at).write(),
                state: holder_state(sock.state),
                gone: false,
            };
            all.push((sock.kind, held));
        }
        all
    }

    /// Who had the port last, of those that have left it.
    pub fn past(&self, kind: SocketType, port: u16) -> Option<Held> {
        self.past.get(&past_key(kind, port)?).cloned()
    }

    /// The last ones to leave each port.
    pub fn all_past(&self) -> Past {
        Past(self.past.clone())
    }

    /// sock_diag shows these owners of a port, and only these. `lists_bound`:
    /// also those of TCP that are bound and no more than that.
    pub fn reconcile(
        &mut self,
        kind: SocketType,
        port: u16,
        shown: &[inet_diag::Socket],
        lists_bound: bool,
        now_ns: u64,
    ) {
        let Some(table) = table_of(kind) else { return };
        let mut left: Vec<&inet_diag::Socket> = shown.iter().filter(|s| s.port == port).collect();
        for id in self.owners(table, port) {
            let net = self.net.net();
            let sock = net.get(id);
            let (six, addr, state) = (sock.kind.domain == af::INET6, sock.rcv6, sock.state);
            let cookie = self.entry(id).map_or(0, |e| e.owner.cookie);
            let is_it = |s: &&inet_diag::Socket| match cookie {
                0 => {
                    machine::outside_of(kind, s).addr == addr
                        && (u16::from(s.family) == af::INET6) == six
                        && s.state != inet_diag::state::TIME_WAIT
                }
                known => s.cookie == known,
            };
            match left.iter().position(is_it) {
                Some(at) => {
                    let s = left.swap_remove(at);
                    self.net
                        .net()
                        .set_state(id, machine::outside_of(kind, s).state);
                    if let Some(entry) = self.entry_mut(id) {
                        (entry.owner.cookie, entry.owner.inode) = (s.cookie, s.inode);
                        entry.owner.uid = Some(s.uid);
                    }
                }
                None if table == Table::Tcp && state == State::Close && !lists_bound => {}
                None => self.leave(id),
            }
        }
        // Listeners first: there may be thousands of connections.
        left.sort_by_key(|s| s.state != inet_diag::state::LISTEN);
        for s in left.into_iter().take(OWNERS) {
            self.adopt(kind, s, now_ns);
        }
    }

    /// Enters a socket that sock_diag shows.
    fn adopt(&mut self, kind: SocketType, s: &inet_diag::Socket, now_ns: u64) {
        // Had both sockets' options agreed, the kernel would not have refused.
        let outside = machine::outside_of(kind, s);
        let state = outside.state;
        let Some(id) = self.net.net().adopt(&outside) else {
            return;
        };
        let mut owner = Owner::outside(s, now_ns);
        let before = self.past(kind, s.port).filter(|past| past.owner.in_run);
        if let Some(Held { owner: past, .. }) = before {
            if past.cookie == s.cookie && s.cookie != 0 {
                // It was taken for gone.
                owner = past;
            } else if state == State::TimeWait {
                // What a connection of the last owner's left behind.
                let since_ns = owner.since_ns;
                owner = Owner { since_ns, ..past };
            }
        }
        self.put(id, owner, false);
    }

    /// Corrects what is known of an owner.
    pub fn correct(&mut self, id: SockId, with: impl FnOnce(&mut Owner)) {
        if let Some(entry) = self.entry_mut(id) {
            with(&mut entry.owner);
        }
    }

    /// The socket of the table with this cookie.
    pub fn by_cookie(&self, cookie: u64) -> Option<SockId> {
        let id = *self.cookies.get(&cookie)?;
        self.entry(id)
            .is_some_and(|e| e.owner.cookie == cookie)
            .then_some(id)
    }

    /// Who stands in the way of this bind?
    pub fn conflict(&mut self, b: &Bind<'_>) -> Option<SockId> {
        let mut net: Net<'_> = self.net.net();
        conflict(&mut net, &b.ask())
    }

    /// Is anybody redirected to an address that this bind would share, whose
    /// program believes that it is elsewhere than `virt`?
    pub fn redirected_there(&mut self, b: &Bind<'_>, virt: &RawAddr) -> Option<SockId> {
        let entries = &self.entries;
        let other = |id: SockId| {
            let entry = entries.get(id.0 as usize).and_then(Option::as_ref);
            let believes = entry.and_then(|e| e.owner.elsewhere.as_deref());
            believes.is_some_and(|believes| believes != virt)
        };
        overlapping(&mut self.net.net(), &b.ask(), other)
    }

    /// The owner of the socket at the port that has this cookie, as far as the kernel
    /// has told its.
    pub fn at_port(&mut self, kind: SocketType, port: u16, cookie: u64) -> Option<&Owner> {
        let ids = self.owners(table_of(kind)?, port);
        let is_it = |owner: &&Owner| owner.cookie == cookie && cookie != 0;
        ids.into_iter().find_map(|id| self.owner(id).filter(is_it))
    }

    /// The owner of a socket of the table.
    pub fn owner(&self, id: SockId) -> Option<&Owner> {
        self.entry(id).map(|e| &e.owner)
    }

    /// Enters a socket that is about to be bound, beside those that may be in
    /// its way: the kernel has not said anything yet.
    pub fn claim(&mut self, b: &Bind<'_>, owner: Owner) {
        if let Some(before) = self.by.get(&b.by).copied() {
            self.leave(before);
        }
        let cookie = owner.cookie;
        self.enter_anyhow(b, owner);
        if let Some(id) = self.by_cookie(cookie) {
            self.set_claimed(id, true);
        }
    }

    /// Has no record said yet what the kernel answered?
    pub fn is_claimed(&self, id: SockId) -> bool {
        self.entry(id).is_some_and(|e| e.claimed)
    }

    /// Marks a claim, or takes the mark off.
    pub fn set_claimed(&mut self, id: SockId, claimed: bool) {
        if let Some(entry) = self.entry_mut(id) {
            entry.claimed = claimed;
        }
    }

    /// The socket is known to be gone.
    pub fn forget(&mut self, id: SockId) {
        self.leave(id);
    }
}

fn past_key(kind: SocketType, port: u16) -> Option<(u32, u32)> {
    let table = table_of(kind)?;
    Some((u32::from(table.0), u32::from(port)))
}

/// Who had each port last, of those that have left it.
pub struct Past(Numbers<(u32, u32), Held>);

impl Past {
    /// Who had this one.
    pub fn get(&self, kind: SocketType, port: u16) -> Option<&Held> {
        self.0.get(&past_key(kind, port)?)
    }
}

/// The IPv6 form of an address, and the port.
fn mapped(addr: &Addr) -> Option<([u8; 16], u16)> {
    match addr {
        Addr::Inet { ip, port } => {
            let ip = std::net::Ipv4Addr::from(*ip).to_ipv6_mapped();
            Some((ip.octets(), *port))
        }
        Addr::Inet6 { ip, port, .. } => Some((*ip, *port)),
        _ => None,
    }
}

fn holder_state(state: State) -> HolderState {
    match state {
        State::Listen => HolderState::Listening,
        State::TimeWait => HolderState::TimeWait,
        State::Close => HolderState::Bound,
        _ => HolderState::Connected,
    }
}

#[cfg(test)]
mod tests;
