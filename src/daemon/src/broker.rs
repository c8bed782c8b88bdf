//! The port broker: binds sockets of a run that root started as another user to
//! ports that take a privilege.
//!
//! A process of its own, because the daemon has more to do than one capability lets
//! it: this one is a user that nobody else is, holds `CAP_NET_BIND_SERVICE` and nothing
//! else, and has no descriptor but its door and the line whose other end the daemon
//! holds. What it binds is [`judge::broker`]'s to say; a socket comes by `SCM_RIGHTS`,
//! and who sends it is the kernel's word.
//!
//! [`judge::broker`]: bindgate_core::judge::broker

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use bindgate_core::judge::broker::{self, Granting, Handed, MESSAGE, REFUSED};
use bindgate_core::policy::View;
use bindgate_core::shared::PORTS;
use bindgate_core::socket::SocketType;
use bindgate_os::{self as os, Instant, process, signal, unix, user};
use bindgate_sys::{self as sys, Allowed};

/// What it has to know.
pub struct Setup {
    /// The run.
    pub run_id: u64,
    /// What a process must know to ask: 32 hex digits.
    pub secret: [u8; 32],
    /// The compiled policy.
    pub words: Vec<u64>,
    /// Which of its rules name a privileged port.
    pub names_port: Vec<bool>,
    /// The port below which binds take a privilege.
    pub unprivileged_start: u16,
    /// The user that the run's program is.
    pub uid: u32,
}

/// One that runs.
pub struct Broker {
    /// It ends when everybody has closed this.
    pub line: OwnedFd,
    /// Its process id.
    pub pid: i32,
}

/// Clients that have connected and said nothing yet, at most; more wait at the door.
const CLIENTS: usize = 512;
/// How long one may say nothing.
const PATIENCE: Duration = Duration::from_secs(1);

impl Broker {
    /// Starts it; `is_child`: it is to be a child of this process.
    ///
    /// # Errors
    /// If it cannot have its name, or the capability.
    pub fn fork(setup: Setup, is_child: bool) -> io::Result<Broker> {
        let mut name = vec![0];
        name.extend_from_slice(PORTS);
        name.extend_from_slice(format!("{:016x}", setup.run_id).as_bytes());
        let door = unix::listen(&name)?;
        let (line, theirs) = unix::pair()?;
        let Some(pid) = process::fork()? else {
            drop(line);
            if !is_child && !matches!(process::fork(), Ok(None)) {
                process::exit_now(0);
            }
            main(&setup, &door, &theirs);
            process::exit_now(0)
        };
        if !is_child {
            process::wait(pid, true)?;
        }
        drop(theirs);
        let mut answer = [0; 4];
        match unix::receive(&line, &mut answer, true)? {
            4 if answer == [0; 4] => Ok(Broker { line, pid }),
            4 => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(answer))),
            _ => Err(io::Error::other("it did not start")),
        }
    }
}

/// The life of the broker.
fn main(setup: &Setup, door: &OwnedFd, line: &OwnedFd) {
    process::new_group();
    process::set_name(c"bindgate-ports");
    let _ = std::env::set_current_dir("/");
    os::close_all_but(&[door.as_raw_fd(), line.as_raw_fd()]);
    let kept = user::keep_only(user::NET_BIND_SERVICE);
    let errno = kept
        .err()
        .map_or(0, |e| e.raw_os_error().unwrap_or(libc::EPERM));
    if unix::send(line, &errno.to_ne_bytes()).is_err() || errno != 0 {
        return;
    }
    let Ok(view) = View::new(&setup.words) else {
        return;
    };
    let granting = Granting {
        view: &view,
        names_port: &setup.names_port,
        unprivileged_start: setup.unprivileged_start,
        uid: setup.uid,
        netns: sys::netns_cookie(Allowed::ALL, door.as_raw_fd()).unwrap_or(0),
    };
    serve(&granting, &setup.secret, door, line);
}

fn serve(granting: &Granting<'_>, secret: &[u8; 32], door: &OwnedFd, line: &OwnedFd) {
    let mut clients: Vec<(OwnedFd, Instant)> = Vec::new();
    loop {
        let is_full = clients.len() >= CLIENTS;
        let mut fds = vec![
            line.as_raw_fd(),
            if is_full { -1 } else { door.as_raw_fd() },
        ];
        fds.extend(clients.iter().map(|(client, _)| client.as_raw_fd()));
        let ready = os::poll(&fds, PATIENCE);
        let _unheld = signal::Unheld::new();
        if ready.first() == Some(&true) {
            // The run is over: nothing is ever sent on this line.
            return;
        }
        let mut spoke = ready.iter().skip(2);
        clients.retain(|(client, since)| {
            let has_spoken = spoke.next() == Some(&true);
            !(has_spoken && answer(granting, secret, client)) && since.elapsed() < PATIENCE
        });
        while clients.len() < CLIENTS {
            let Ok(Some(client)) = unix::accept(door) else {
                break;
            };
            // Most have said it by now.
            if !answer(granting, secret, &client) {
                clients.push((client, Instant::now()));
            }
        }
    }
}

/// Answers a client; false if it has said nothing yet.
fn answer(granting: &Granting<'_>, secret: &[u8; 32], client: &OwnedFd) -> bool {
    let mut message = [0; MESSAGE];
    let (n, fds) = match unix::receive_any(client, &mut message, false) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
        Err(_) => return true,
        Ok(received) => received,
    };
    let errno = match <[OwnedFd; 1]>::try_from(fds) {
        Ok([socket]) => {
            let said = message.get(..n).unwrap_or_default();
            bound(granting, secret, client, said, &socket).map_or_else(|e| e, |()| 0)
        }
        Err(_) => REFUSED,
    };
    let _ = unix::send(client, &errno.to_ne_bytes());
    true
}

/// Binds the socket of a client, if that is granted.
fn bound(
    granting: &Granting<'_>,
    secret: &[u8; 32],
    client: &OwnedFd,
    said: &[u8],
    socket: &OwnedFd,
) -> Result<(), u16> {
    let raw = broker::asked(said, secret).ok_or(REFUSED)?;
    let addr = raw.read().ok_or(REFUSED)?;
    let handed = handed(client, socket).ok_or(REFUSED)?;
    broker::grant(granting, &handed, &addr)?;
    sys::bind(Allowed::ALL, socket.as_raw_fd(), raw.bytes()).map_err(|e| e.0)
}

/// What the kernel says of it; `None` if it is not a socket.
fn handed(client: &OwnedFd, socket: &OwnedFd) -> Option<Handed> {
    let fd = socket.as_raw_fd();
    let ask = |option| sys::getsockopt_int(Allowed::ALL, fd, libc::SOL_SOCKET, option).ok();
    let number = |option| ask(option).and_then(|n| u16::try_from(n).ok());
    Some(Handed {
        socket: SocketType {
            domain: number(libc::SO_DOMAIN)?,
            ty: number(libc::SO_TYPE)?,
            protocol: number(libc::SO_PROTOCOL)?,
        },
        // The program still has the socket, and can change that until it is bound.
        v6only: false,
        netns: sys::netns_cookie(Allowed::ALL, fd).ok()?,
        uid: process::peer_user(client)?,
    })
}
