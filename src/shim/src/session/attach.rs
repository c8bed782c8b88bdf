//! Joining the run of a launcher.
//!
//! `BINDGATE_RUN` is `ID.SECRET.PID.POLICY.STATE.MODE[.f]`: the run's id (16
//! hex digits), the word that opens it (32 hex digits), the drainer's pid and
//! its two descriptors, `e` if the policy enforces, `o` if it does not, an `f`
//! if the run has a socket in `/tmp`, and, if the launcher was under seccomp
//! filters, a `c` with their number, `-` and the system calls that they let
//! through ([`Calls::word`], in hex digits). Without an `f` a socket of the
//! run's name is somebody else's.
//!
//! Three ways in: the drainer's descriptors under `/proc`, which needs no
//! socket; the run's abstract Unix name, which works after a change of user,
//! in a chroot and in another mount or pid name space; and a Unix socket in
//! `/tmp`, which works in another network name space too.

use bindgate_core::policy::View;
use bindgate_core::shared::{DOOR, DOOR_FILE, State};

use super::{Found, Refused, Sink, complain};
use crate::own::{filter, text};
use crate::sys::{self, Allowed, Calls};

/// The text of `BINDGATE_RUN`, taken apart.
pub struct Ticket<'a> {
    id_text: &'a [u8; 16],
    id: u64,
    secret: &'a [u8; 32],
    pid: u32,
    policy_fd: u32,
    state_fd: u32,
    enforces: bool,
    has_file: bool,
    filters: Option<(u32, Calls)>,
}

impl Ticket<'_> {
    /// Reads the text.
    pub fn read(text: &[u8]) -> Result<Ticket<'_>, Refused> {
        Ticket::parse(text).ok_or_else(|| {
            complain(&[b"BINDGATE_RUN is not what a launcher wrote"]);
            Refused
        })
    }

    fn parse(text: &[u8]) -> Option<Ticket<'_>> {
        let mut fields = text.split(|c| *c == b'.');
        let id_text: &[u8; 16] = fields.next()?.try_into().ok()?;
        let secret = fields.next()?.try_into().ok()?;
        let mut number =
            || -> Option<u32> { core::str::from_utf8(fields.next()?).ok()?.parse().ok() };
        let (pid, policy_fd, state_fd) = (number()?, number()?, number()?);
        let mut ticket = Ticket {
            id_text,
            id: u64::from_str_radix(core::str::from_utf8(id_text).ok()?, 16).ok()?,
            secret,
            pid,
            policy_fd,
            state_fd,
            enforces: fields.next() != Some(b"o"),
            has_file: false,
            filters: None,
        };
        for field in fields {
            match field {
                b"f" => ticket.has_file = true,
                [b'c', filters @ ..] => ticket.filters = filters_of(filters),
                _ => {}
            }
        }
        Some(ticket)
    }

    /// What this process may do under the filters that the launcher was under
    /// too; `None` if there are others, or if nobody knows.
    pub fn inherited(&self, allowed: Allowed) -> Option<Allowed> {
        let (count, calls) = self.filters?;
        let now = sys::filter::count(allowed)?;
        (now <= count).then_some(Allowed::only(calls))
    }
}

/// `COUNT-CALLS`.
fn filters_of(text: &[u8]) -> Option<(u32, Calls)> {
    let (count, calls) = core::str::from_utf8(text).ok()?.split_once('-')?;
    let calls = u64::from_str_radix(calls, 16).ok()?;
    Some((count.parse().ok()?, Calls::from_word(calls)))
}

/// The run's policy and state.
pub fn policy(ticket: &Ticket<'_>) -> Result<Option<Found>, Refused> {
    let allowed = filter::allowed();
    let found = by_proc(allowed, ticket).or_else(|| by_name(allowed, ticket));
    match found {
        Some(found) => Ok(Some(found)),
        None if ticket.enforces => {
            complain(&[b"this process cannot reach its run, and the policy enforces: not started"]);
            Err(Refused)
        }
        None => Ok(None),
    }
}

fn by_proc(allowed: Allowed, ticket: &Ticket<'_>) -> Option<Found> {
    let open = |fd: u32, flags: i32| {
        let (mut dir, mut path) = ([0u8; 32], [0u8; 48]);
        let dir = text::print(&mut dir, b"/proc/", u64::from(ticket.pid), b"/fd/")?;
        let path = text::print(&mut path, dir.strip_suffix(b"\0")?, u64::from(fd), b"")?;
        sys::open(allowed, path, flags).ok()
    };
    let state = open(ticket.state_fd, libc::O_RDWR)?;
    let found = open(ticket.policy_fd, libc::O_RDONLY).and_then(|policy| {
        let found = map(allowed, ticket, policy, state);
        sys::close(allowed, policy);
        found
    });
    sys::close(allowed, state);
    found.map(|found| Found {
        drainer: ticket.pid,
        ..found
    })
}

fn by_name(allowed: Allowed, ticket: &Ticket<'_>) -> Option<Found> {
    let fd = sys::socket(
        allowed,
        libc::AF_UNIX,
        libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
        0,
    )
    .ok()?;
    let found = ask(allowed, ticket, fd);
    sys::close(allowed, fd);
    found
}

fn ask(allowed: Allowed, ticket: &Ticket<'_>, fd: i32) -> Option<Found> {
    let mut name = [0u8; 2 + 1 + DOOR.len() + 16];
    name[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    name[3..3 + DOOR.len()].copy_from_slice(DOOR);
    name[3 + DOOR.len()..].copy_from_slice(ticket.id_text);
    let named = sys::connect(allowed, fd, &name);
    if named.is_err() && !ticket.has_file {
        return None;
    }
    let mut path = [0u8; 2 + DOOR_FILE.len() + 16 + 1];
    path[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    path[2..2 + DOOR_FILE.len()].copy_from_slice(DOOR_FILE);
    path[2 + DOOR_FILE.len()..][..16].copy_from_slice(ticket.id_text);
    named.or_else(|_| sys::connect(allowed, fd, &path)).ok()?;
    let mut hello = [0u8; 40];
    hello[..32].copy_from_slice(ticket.secret);
    hello[32..36].copy_from_slice(&sys::getpid(allowed).to_ne_bytes());
    hello[36..].copy_from_slice(&sys::gettid(allowed).to_ne_bytes());
    sys::send(allowed, fd, &hello).ok()?;
    let (policy, state) = receive(allowed, fd)?;
    let found = map(allowed, ticket, policy, state);
    sys::close(allowed, policy);
    sys::close(allowed, state);
    found
}

/// Two descriptors, as `SCM_RIGHTS` brings them.
fn receive(allowed: Allowed, fd: i32) -> Option<(i32, i32)> {
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut data = [0u8; 8];
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
    Some((int(16)?, int(20)?))
}

fn map(allowed: Allowed, ticket: &Ticket<'_>, policy: i32, state: i32) -> Option<Found> {
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
    if !shared.is_run(ticket.id) {
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
    })
}
