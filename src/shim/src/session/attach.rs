//! Joining the run of a launcher.
//!
//! [`Ticket`] says which ways lead in.

use bindgate_core::addr::Addr;
use bindgate_core::judge::broker;
use bindgate_core::policy::View;
use bindgate_core::shared::{State, Ticket, door};

use super::{Found, Refused, Sink, complain};
use crate::own::{filter, text};
use crate::sys::allowed::needs;
use crate::sys::{self, Allowed, Call, Calls, Errno};

/// Reads the text of `BINDGATE_RUN`.
pub fn ticket(text: &[u8]) -> Result<Ticket, Refused> {
    Ticket::parse(text).ok_or_else(|| {
        complain(&[b"BINDGATE_RUN is not what a launcher wrote"]);
        Refused
    })
}

/// What this process, bound by so many filters, may do under those that the
/// launcher was under too; `None` if there are others, or if nobody knows.
pub fn inherited(ticket: &Ticket, now: Option<u32>) -> Option<Allowed> {
    let (count, calls) = ticket.filters?;
    (now? <= count).then_some(Allowed::only(Calls::from_word(calls)))
}

/// What it takes to ask at the door.
const AT_DOOR: Allowed = Allowed::only(needs::START.and(Calls::of(&[
    Call::SocketUnix,
    Call::Connect,
    Call::Sendto,
    Call::Recvmsg,
])));

/// The run's policy and state. If it is unknown whose the filters are, the
/// calls of the start may be made, and where the policy enforces those of the
/// door: without an answer the program would not run anyway.
pub fn policy(ticket: &Ticket, is_unknown: bool) -> Result<Option<Found>, Refused> {
    let allowed = filter::allowed();
    let at_door = match is_unknown && ticket.enforces && ticket.filters.is_some() {
        true => AT_DOOR,
        false => allowed,
    };
    let found = by_proc(allowed, ticket).or_else(|| by_name(at_door, ticket));
    match found {
        Some(found) => Ok(Some(found)),
        None if ticket.enforces => {
            complain(&[
                b"cannot attach to the run: its log process was killed or cannot be reached; \
                  refusing to start because the policy enforces",
            ]);
            Err(Refused)
        }
        None => Ok(None),
    }
}

fn by_proc(allowed: Allowed, ticket: &Ticket) -> Option<Found> {
    let open = |fd: u32, flags: i32| {
        let (mut dir, mut path) = ([0u8; 32], [0u8; 48]);
        let dir = text::print(&mut dir, b"/proc/", u64::from(ticket.daemon), b"/fd/")?;
        let path = text::print(&mut path, dir.strip_suffix(b"\0")?, u64::from(fd), b"")?;
        sys::open(allowed, path, flags).ok()
    };
    let state = open(ticket.state, libc::O_RDWR)?;
    let found = open(ticket.policy, libc::O_RDONLY).and_then(|policy| {
        let found = map(allowed, ticket, policy, state);
        sys::close(allowed, policy);
        found
    });
    sys::close(allowed, state);
    found.map(|found| Found {
        drainer: ticket.daemon,
        ..found
    })
}

fn by_name(allowed: Allowed, ticket: &Ticket) -> Option<Found> {
    on_socket(allowed, |fd| ask(allowed, ticket, fd))
}

/// Connects to the run's door.
fn connect(allowed: Allowed, ticket: &Ticket, fd: i32) -> Option<()> {
    // An abstract name begins with a NUL, a path ends with one.
    let mut name = [0u8; 64];
    let abstract_name = address(&mut name, &[b"\0", &ticket.abstract_name()])?;
    if sys::connect(allowed, fd, abstract_name).is_ok() {
        return Some(());
    }
    if !ticket.has_file {
        return None;
    }
    let path = address(&mut name, &[&ticket.file_name(), b"\0"])?;
    sys::connect(allowed, fd, path).ok()
}

/// Sends and receives on this socket take no longer than so many seconds each.
fn set_patience(allowed: Allowed, fd: i32, seconds: libc::time_t) -> Option<()> {
    for name in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        let [seconds, micros] = [seconds, 0].map(libc::time_t::to_ne_bytes);
        let mut time = [0; 2 * size_of::<libc::time_t>()];
        for (to, from) in time.iter_mut().zip(seconds.iter().chain(&micros)) {
            *to = *from;
        }
        sys::setsockopt(allowed, fd, libc::SOL_SOCKET, name, &time).ok()?;
    }
    Some(())
}

/// Has the run's port broker bind a socket: a connection of its own, with the
/// socket. Nobody answers: `EACCES`, at the latest after two seconds. With signals
/// blocked: a descriptor is open meanwhile.
#[inline(never)]
pub fn bind_by_broker(
    allowed: Allowed,
    ticket: &[u8],
    socket: i32,
    addr: &Addr,
) -> Result<(), Errno> {
    let refused = Err(Errno(broker::REFUSED));
    let Some(ticket) = Ticket::parse(ticket) else {
        return refused;
    };
    let answer = on_socket(allowed, |fd| {
        set_patience(allowed, fd, 1)?;
        let mut name = [0u8; 64];
        let name = address(&mut name, &[b"\0", &ticket.ports_name()])?;
        sys::connect(allowed, fd, name).ok()?;
        let (message, len) = broker::message(&ticket.secret, addr);
        let message = message.get(..len)?;
        sys::send_descriptor(allowed, fd, message, socket).ok()?;
        let mut answer = [0; 2];
        let n = sys::read(allowed, fd, &mut answer).ok()?;
        (n == answer.len()).then(|| u16::from_ne_bytes(answer))
    });
    match answer {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno(errno)),
        None => refused,
    }
}

/// Asks the daemon whether anybody of the run holds an address. `None` where there
/// is no daemon that could answer: then the kernel alone judges. With signals
/// blocked: a descriptor is open meanwhile.
#[inline(never)]
pub fn claim(allowed: Allowed, ticket: &[u8], claim: &door::Claim) -> Option<door::Answer> {
    let ticket = Ticket::parse(ticket)?;
    let mut answer = [0; door::Answer::LEN];
    let bytes = claim.to_bytes(&ticket.secret);
    exchange(allowed, &ticket, &bytes, &mut answer)?;
    door::Answer::from_bytes(&answer)
}

/// Asks the host that the daemon keeps, likewise.
#[inline(never)]
pub fn ask_host(allowed: Allowed, ticket: &[u8], asks: &door::AskHost) -> Option<door::HostSays> {
    let ticket = Ticket::parse(ticket)?;
    let mut answer = [0; door::HostSays::LEN];
    let bytes = asks.to_bytes(&ticket.secret);
    exchange(allowed, &ticket, &bytes, &mut answer)?;
    door::HostSays::from_bytes(&answer)
}

/// One question and its whole answer: a connection of its own, 20 to 30 µs.
#[inline(never)]
fn exchange(allowed: Allowed, ticket: &Ticket, asks: &[u8], answer: &mut [u8]) -> Option<()> {
    /// Seconds that an answer may take.
    const PATIENCE: libc::time_t = 2;
    on_socket(allowed, |fd| {
        set_patience(allowed, fd, PATIENCE)?;
        connect(allowed, ticket, fd)?;
        sys::send(allowed, fd, asks).ok()?;
        let n = sys::read(allowed, fd, answer).ok()?;
        (n == answer.len()).then_some(())
    })
}

/// Talks on a socket of one's own, which is closed then.
#[inline(always)]
fn on_socket<T>(allowed: Allowed, talk: impl FnOnce(i32) -> Option<T>) -> Option<T> {
    let ty = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    let fd = sys::socket(allowed, libc::AF_UNIX, ty, 0).ok()?;
    let said = talk(fd);
    sys::close(allowed, fd);
    said
}

fn ask(allowed: Allowed, ticket: &Ticket, fd: i32) -> Option<Found> {
    connect(allowed, ticket, fd)?;
    let hello = ticket.hello(sys::getpid(allowed), sys::gettid(allowed));
    sys::send(allowed, fd, &hello).ok()?;
    let (policy, state, filters) = receive(allowed, fd)?;
    let found = map(allowed, ticket, policy, state);
    sys::close(allowed, policy);
    sys::close(allowed, state);
    found.map(|found| Found { filters, ..found })
}

/// The address of a Unix socket.
fn address<'a>(room: &'a mut [u8; 64], name: &[&[u8]]) -> Option<&'a [u8]> {
    let family = (libc::AF_UNIX as u16).to_ne_bytes();
    let mut len = 0;
    for byte in family.iter().chain(name.iter().copied().flatten()) {
        *room.get_mut(len)? = *byte;
        len += 1;
    }
    room.get(..len)
}

/// Two descriptors, as `SCM_RIGHTS` brings them, and how many filters the
/// daemon has counted.
fn receive(allowed: Allowed, fd: i32) -> Option<(i32, i32, Option<u32>)> {
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut data = [0u8; door::HANDED_OUT];
    let mut iov = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all-zero bytes are a value of it, on musl too.
    let mut msg: libc::msghdr = unsafe { core::mem::zeroed() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.0.as_mut_ptr().cast();
    msg.msg_controllen = size_of::<Control>() as _;
    // SAFETY: all that the message points to is live, with these sizes.
    unsafe { sys::recvmsg(allowed, fd, &mut msg) }.ok()?;
    // cmsghdr: length (8), level (4), type (4), then the descriptors.
    let int = |at: usize| -> Option<i32> {
        Some(i32::from_ne_bytes(
            control.0.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    if (msg.msg_controllen as usize) < 24
        || int(8)? != libc::SOL_SOCKET
        || int(12)? != libc::SCM_RIGHTS
    {
        return None;
    }
    Some((int(16)?, int(20)?, door::filters(data)))
}

fn map(allowed: Allowed, ticket: &Ticket, policy: i32, state: i32) -> Option<Found> {
    let state_len = sys::fstat(allowed, state).ok()?.st_size as usize;
    let policy_len = sys::fstat(allowed, policy).ok()?.st_size as usize;
    if state_len != State::SIZE || policy_len < 8 {
        return None;
    }
    let rw = libc::PROT_READ | libc::PROT_WRITE;
    let at = sys::mmap(allowed, state_len, rw, libc::MAP_SHARED, state).ok()?;
    // SAFETY: a mapping of exactly that size, page-aligned, of atomics for
    // which any bytes are a value; the file is sealed against shrinking, and
    // the mapping is never undone.
    let shared: &'static State = unsafe { &*at.cast::<State>() };
    if !shared.is_run(ticket.run) {
        // SAFETY: the reference is not used again.
        unsafe { sys::munmap(allowed, at, state_len) };
        return None;
    }
    let at = sys::mmap(
        allowed,
        policy_len,
        libc::PROT_READ,
        libc::MAP_SHARED,
        policy,
    )
    .ok()?;
    // SAFETY: a mapping of that many bytes, page-aligned, of a file sealed
    // against writing and shrinking, never undone.
    let words: &'static [u64] =
        unsafe { core::slice::from_raw_parts(at.cast::<u64>(), policy_len / 8) };
    let (options, words) = words.split_first()?;
    Some(Found {
        state: shared,
        options: *options as u32,
        view: View::new(words).ok()?,
        sink: Sink::Ring,
        json: false,
        drainer: 0,
        filters: None,
    })
}
