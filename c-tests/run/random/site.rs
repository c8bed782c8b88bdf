//! A place where sequences are played: a network namespace, and in it the program
//! that makes the calls, in a run or not.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bindgate_core::model::script::{Call, Process};
use bindgate_host_live::diag::{Diag, Found, Which};
use bindgate_host_live::draw::Sysctls;
use bindgate_host_live::kernel::{self, Namespace};
use support::{Patience, Run};

use super::acts::{self, Act, What};

/// The requests of `plays_calls.c`.
mod op {
    pub const SOCKET: i32 = 0;
    pub const SET: i32 = 1;
    pub const BIND: i32 = 2;
    pub const LISTEN: i32 = 3;
    pub const CONNECT: i32 = 4;
    pub const ACCEPT: i32 = 5;
    pub const SHUTDOWN: i32 = 6;
    pub const CLOSE: i32 = 7;
    pub const DUP: i32 = 8;
    pub const FILE: i32 = 9;
    pub const GIVE: i32 = 10;
    pub const TAKE: i32 = 11;
    pub const SEND: i32 = 12;
    pub const RECEIVE: i32 = 13;
    pub const GET: i32 = 14;
    pub const PID: i32 = 15;
    pub const END: i32 = 16;
}

/// What came of an act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The error number, 0 for none.
    pub errno: i32,
    /// A byte that was received, an option's value.
    pub value: i32,
    /// `SO_REUSEADDR`, `SO_REUSEPORT`, `IPV6_V6ONLY`, `SO_ACCEPTCONN`; -1 for none.
    pub options: [i32; 4],
    /// What getsockname(2) tells afterwards, getpeername(2), and accept(2) or
    /// recvfrom(2) told.
    pub names: [Vec<u8>; 3],
}

const REQUEST: usize = 24 + 256;
const NAME: usize = 4 + 128;
const ANSWER: usize = 28 + 3 * NAME;

/// How long a connect waits that nobody answers, in microseconds.
const WAIT: i32 = 200_000;

/// See the module.
pub struct Site {
    home: Namespace,
    net: Namespace,
    diag: Diag,
    program: Option<support::Process>,
    hands: Vec<OwnedFd>,
    /// Where each variable's descriptor is: the hand, and its number there.
    vars: Vec<Option<(usize, i32)>>,
    /// Which hand plays which process.
    players: Vec<usize>,
    sysctls: Option<Sysctls>,
    /// The index of a device with addresses of its own, if there is one.
    pub bridge: u32,
}

impl Site {
    /// Starts `run`, whose program is `plays_calls`, in the namespace `outer`, with a
    /// process for each of the cast; `furnish` is done in the network where it is then.
    pub fn start(
        run: &Run,
        uid: u32,
        cast: &[Process],
        outer: &Namespace,
        furnish: impl FnOnce() -> io::Result<u32>,
    ) -> io::Result<Site> {
        let home = Namespace::here()?;
        let mut run = run.clone();
        let mut hands = Vec::new();
        let mut theirs: Vec<OwnedFd> = Vec::new();
        for process in cast {
            let [ours, other] = pair()?;
            let (user, caps) = match uid {
                0 => (process.uid as i32, mask(process)),
                _ => (-1, -1),
            };
            run = run.arg(format!("{}:{user}:{caps}", other.as_raw_fd()));
            hands.push(ours);
            theirs.push(other);
        }
        let run = run.inherits(theirs.iter().map(AsRawFd::as_raw_fd));
        outer.enter()?;
        let program = run.spawn();
        home.enter()?;
        drop(theirs);
        let mut site = Site {
            program: Some(program),
            diag: Diag::new()?,
            net: Namespace::here()?,
            home,
            hands,
            vars: Vec::new(),
            players: Vec::new(),
            sysctls: None,
            bridge: 0,
        };
        let (pid, _) = site.ask(0, [op::PID, 0, 0, 0, 0], &[])?;
        site.net = Namespace::of(pid as u32)?;
        site.net.enter()?;
        let made = furnish().and_then(|bridge| Ok((bridge, Diag::new()?)));
        site.home.enter()?;
        (site.bridge, site.diag) = made?;
        Ok(site)
    }

    /// Does something in the network of the site.
    pub fn within<T>(&self, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.net.enter()?;
        let done = f();
        self.home.enter()?;
        done
    }

    fn ask(&self, hand: usize, words: [i32; 5], data: &[u8]) -> io::Result<(i32, Answer)> {
        let mut request = [0u8; REQUEST];
        for (to, word) in request.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        let len = data.len().min(256);
        request[20..24].copy_from_slice(&(data.len() as u32).to_ne_bytes());
        request[24..24 + len].copy_from_slice(&data[..len]);
        let fd = self.hands[hand].as_raw_fd();
        let mut answer = [0u8; ANSWER];
        // SAFETY: reads the request, which is as long as that; writes no more than
        // the answer is long.
        let n = unsafe {
            libc::send(fd, request.as_ptr().cast(), REQUEST, libc::MSG_NOSIGNAL);
            libc::recv(fd, answer.as_mut_ptr().cast(), ANSWER, 0)
        };
        if n != ANSWER as isize {
            let why = io::Error::last_os_error();
            return Err(io::Error::other(format!(
                "process {hand} does not answer to {words:?}: {why}"
            )));
        }
        let word = |at: usize| {
            let bytes = answer[at..at + 4].try_into().unwrap_or([0; 4]);
            i32::from_ne_bytes(bytes)
        };
        let name = |n: usize| {
            let at = 28 + n * NAME;
            let len = (word(at) as usize).min(128);
            answer[at + 4..at + 4 + len].to_vec()
        };
        let answer = Answer {
            errno: word(4),
            value: word(8),
            options: [word(12), word(16), word(20), word(24)],
            names: [name(0), name(1), name(2)],
        };
        Ok((word(0), answer))
    }

    /// Another sequence.
    pub fn restart(&mut self, vars: usize, players: &[usize]) {
        self.vars.clear();
        self.vars.resize(vars, None);
        self.players = players.to_vec();
    }

    /// A descriptor of the variable's socket at a hand, and whether it is only lent.
    fn lend(&mut self, hand: usize, var: usize) -> io::Result<(i32, bool)> {
        let Some((owner, fd)) = self.vars[var] else {
            return Ok((-1, false));
        };
        if owner == hand {
            return Ok((fd, false));
        }
        self.ask(owner, [op::GIVE, fd, 0, 0, 0], &[])?;
        let (fd, answer) = self.ask(hand, [op::TAKE, -1, 0, 0, 0], &[])?;
        match fd {
            0.. => Ok((fd, true)),
            _ => Err(io::Error::from_raw_os_error(answer.errno)),
        }
    }

    fn close(&mut self, var: usize) -> io::Result<Answer> {
        let (hand, fd) = self.vars[var].take().unwrap_or((0, -1));
        Ok(self.ask(hand, [op::CLOSE, fd, 0, 0, 0], &[])?.1)
    }

    /// Makes the calls of an act.
    pub fn play(&mut self, act: &Act) -> io::Result<Answer> {
        let hand = self.players[act.process];
        let mut act = act.clone();
        if let Some(of) = act.port_of {
            let name = self.name_of(of)?;
            if let Some(port @ 1..) = acts::port(&name) {
                act.set_port(port);
            }
        }
        let What::Call(call) = &act.what else {
            return self.talk(hand, &act);
        };
        match call {
            Call::Close => return self.close(act.var),
            Call::Socket {
                domain,
                ty,
                protocol,
            } => {
                let made = self.ask(hand, [op::SOCKET, -1, *domain, *ty, *protocol], &[])?;
                return self.keep(hand, act.var, made);
            }
            Call::File => {
                let made = self.ask(hand, [op::FILE, -1, 0, 0, 0], &[])?;
                return self.keep(hand, act.var, made);
            }
            Call::Dup { of: subject } | Call::Accept { from: subject } => {
                let (fd, lent) = self.lend(hand, *subject)?;
                let way = (act.var % 2) as i32;
                let what = match call {
                    Call::Dup { .. } => op::DUP,
                    _ => op::ACCEPT,
                };
                let made = self.ask(hand, [what, fd, way, 0, 0], &[])?;
                if lent {
                    self.ask(hand, [op::CLOSE, fd, 0, 0, 0], &[])?;
                }
                return self.keep(hand, act.var, made);
            }
            _ => {}
        }
        let (fd, lent) = self.lend(hand, act.var)?;
        let done = match call {
            Call::Set(option) => {
                let (level, name, value) = kernel::option_value(*option);
                self.ask(hand, [op::SET, fd, level, name, 0], &value)
            }
            Call::Bind { bytes, len } => {
                let len = len.unwrap_or(bytes.len() as i32);
                self.ask(hand, [op::BIND, fd, len, 0, 0], bytes)
            }
            Call::BindNowhere { len } => self.ask(hand, [op::BIND, fd, *len, 1, 0], &[]),
            Call::Listen => self.ask(hand, [op::LISTEN, fd, 16, 0, 0], &[]),
            Call::Connect { bytes } => self.ask(hand, [op::CONNECT, fd, WAIT, 0, 0], bytes),
            Call::Shutdown(how) => self.ask(hand, [op::SHUTDOWN, fd, i32::from(*how), 0, 0], &[]),
            Call::Get(option) => {
                let (level, name) = kernel::number_of(*option);
                self.ask(hand, [op::GET, fd, level, name, 0], &[])
            }
            // What is asked after every call.
            _ => self.ask(hand, [op::GET, fd, libc::SOL_SOCKET, libc::SO_TYPE, 0], &[]),
        };
        if lent {
            self.ask(hand, [op::CLOSE, fd, 0, 0, 0], &[])?;
        }
        Ok(done?.1)
    }

    fn name_of(&mut self, var: usize) -> io::Result<Vec<u8>> {
        let Some((hand, fd)) = self.vars[var] else {
            return Ok(Vec::new());
        };
        let words = [op::GET, fd, libc::SOL_SOCKET, libc::SO_TYPE, 0];
        let [name, ..] = self.ask(hand, words, &[])?.1.names;
        Ok(name)
    }

    fn talk(&mut self, hand: usize, act: &Act) -> io::Result<Answer> {
        let (fd, lent) = self.lend(hand, act.var)?;
        let done = match &act.what {
            What::Send { to, by, byte } => {
                let to = to.as_deref().unwrap_or(&[]);
                self.ask(hand, [op::SEND, fd, *by, i32::from(*byte), 0], to)
            }
            What::Receive { by } => self.ask(hand, [op::RECEIVE, fd, *by, 0, 0], &[]),
            _ => self.ask(
                hand,
                [op::GET, fd, libc::SOL_SOCKET, libc::SO_ERROR, 0],
                &[],
            ),
        };
        if lent {
            self.ask(hand, [op::CLOSE, fd, 0, 0, 0], &[])?;
        }
        Ok(done?.1)
    }

    /// The variable becomes what a call has made.
    fn keep(&mut self, hand: usize, var: usize, made: (i32, Answer)) -> io::Result<Answer> {
        let (fd, answer) = made;
        if self.vars[var].is_some() {
            self.close(var)?;
        }
        self.vars[var] = (fd >= 0).then_some((hand, fd));
        Ok(answer)
    }

    /// Closes everything, and ends what is left of it.
    pub fn clear(&mut self) -> io::Result<()> {
        // What is connected ends by a reset.
        let at_once = [1i32.to_ne_bytes(), [0; 4]].concat();
        for var in 0..self.vars.len() {
            if let Some((hand, fd)) = self.vars[var] {
                let words = [op::SET, fd, libc::SOL_SOCKET, libc::SO_LINGER, 0];
                self.ask(hand, words, &at_once)?;
                self.close(var)?;
            }
        }
        let mut patience = Patience::new();
        loop {
            let left: Vec<Found> = self.diag.dump(Which::Connections)?;
            if left.is_empty() {
                return Ok(());
            }
            for socket in &left {
                let _ = self.diag.destroy(socket);
            }
            if patience.is_over() {
                return Err(io::Error::other(format!("{} sockets left", left.len())));
            }
        }
    }

    /// Sets what sequences vary.
    pub fn set_sysctls(&mut self, wanted: &Sysctls) -> io::Result<()> {
        if self.sysctls.as_ref() == Some(wanted) {
            return Ok(());
        }
        let now = self.sysctls.replace(*wanted);
        let text = |s: &Sysctls| {
            let flag = |on: bool| if on { "1" } else { "0" }.to_owned();
            let span = |(a, b): (u16, u16), by| format!("{a}{by}{b}");
            BTreeMap::from([
                ("ipv4/ip_local_port_range", span(s.range, " ")),
                (
                    "ipv4/ip_local_reserved_ports",
                    s.reserved.map_or("\n".to_owned(), |r| span(r, "-")),
                ),
                ("ipv4/ip_nonlocal_bind", flag(s.nonlocal)),
                ("ipv6/ip_nonlocal_bind", flag(s.nonlocal6)),
                ("ipv4/ip_autobind_reuse", flag(s.autobind_reuse)),
                ("ipv6/bindv6only", flag(s.bindv6only)),
                (
                    "ipv4/ip_unprivileged_port_start",
                    s.unprivileged.to_string(),
                ),
                (
                    "ipv4/ping_group_range",
                    format!("{} {}", s.ping_groups.0, s.ping_groups.1),
                ),
            ])
        };
        let before = now.as_ref().map(text).unwrap_or_default();
        self.within(|| {
            for (name, value) in text(wanted) {
                if before.get(name) != Some(&value) {
                    std::fs::write(format!("/proc/sys/net/{name}"), value)?;
                }
            }
            Ok(())
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.home.enter();
        for hand in &self.hands {
            let mut request = [0u8; REQUEST];
            request[..4].copy_from_slice(&op::END.to_ne_bytes());
            // SAFETY: reads the request, which is as long as that.
            unsafe {
                let at = request.as_ptr().cast();
                libc::send(hand.as_raw_fd(), at, REQUEST, libc::MSG_NOSIGNAL)
            };
        }
        if let Some(program) = self.program.take() {
            let _ = program.end();
        }
    }
}

/// The capabilities of a process; -1 where they are its user's.
fn mask(process: &Process) -> i32 {
    let caps = process.caps;
    let is = [caps.net_bind_service, caps.net_admin, caps.net_raw];
    match (process.uid, is) {
        (0, [true, true, true]) => -1,
        _ => is
            .iter()
            .enumerate()
            .fold(0, |set, (i, is)| set | i32::from(*is) << i),
    }
}

/// Two ends of a passage for requests, neither of which a program inherits.
fn pair() -> io::Result<[OwnedFd; 2]> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let wait = libc::timeval {
        tv_sec: Patience::time().as_secs() as libc::time_t,
        tv_usec: 0,
    };
    // SAFETY: reads a timeval; the descriptors are new, and nobody else's.
    unsafe {
        let len = size_of_val(&wait) as libc::socklen_t;
        let at = (&raw const wait).cast();
        libc::setsockopt(ends[0], libc::SOL_SOCKET, libc::SO_RCVTIMEO, at, len);
        Ok(ends.map(|fd| OwnedFd::from_raw_fd(fd)))
    }
}
