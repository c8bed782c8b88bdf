//! A guest's side of a virtual machine monitor. Whoever wants a port of the run
//! connects to `PATH` and says `CONNECT port`; the connection itself is handed to
//! whoever listens on that port, through the listener's own queue: this thread
//! connects to it under a name that the library knows, and sends the descriptor.
//! From then on it has nothing to do with it, and no byte passes through here.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use bindgate_core::judge::vsock::{At, Delivered, Host, Line, Name, request, welcome};
use bindgate_core::policy::View;

use super::{Setup, Shared};
use bindgate_os::vmm::{self, Heard};
use bindgate_os::{self as sys, Instant, unix};

/// How long somebody may take for the line.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many may be at it. Of any more the oldest are shown out.
const MOST: usize = 256;
/// How many names are tried, if some are still on their way.
const TRIES: u32 = 64;

struct Client {
    fd: OwnedFd,
    line: Line,
    since: Instant,
}

/// Serves until the process ends; not at all where the run has no such path.
pub fn run(_: &'static Shared, setup: &'static Setup) {
    let view = View::new(&setup.policy.0);
    let host = view.ok().as_ref().and_then(Host::of);
    let (Some(monitor), Some(host)) = (&setup.monitor, host) else {
        return;
    };
    let mut clients: Vec<Client> = Vec::new();
    let mut count = 0;
    loop {
        let mut fds: Vec<RawFd> = vec![monitor.fd().as_raw_fd()];
        fds.extend(clients.iter().map(|client| client.fd.as_raw_fd()));
        let patience = match clients.is_empty() {
            true => Duration::MAX,
            false => Duration::from_secs(1),
        };
        let ready = sys::poll(&fds, patience);
        let mut is_ready = ready.iter().skip(1).copied();
        let mut waiting = Vec::new();
        for mut client in std::mem::take(&mut clients) {
            let heard = match is_ready.next() {
                Some(true) => vmm::hear(&client.fd, &mut client.line),
                _ => Heard::Part,
            };
            match heard {
                Heard::Part if client.since.elapsed() < PATIENCE => waiting.push(client),
                Heard::Whole => answer(&host, client, &mut count),
                Heard::Part | Heard::Nothing => {}
            }
        }
        clients = waiting;
        if ready.first() == Some(&true) {
            admit(monitor.fd(), &host, &mut clients, &mut count);
        }
    }
}

/// Lets in whoever came. Most have said all in their first write.
fn admit(listener: &OwnedFd, host: &Host<'_>, clients: &mut Vec<Client>, count: &mut u32) {
    loop {
        let fd = match unix::accept(listener) {
            Ok(Some(fd)) => fd,
            Ok(None) => return,
            // No descriptor is free, for one.
            Err(_) => return std::thread::sleep(Duration::from_millis(1)),
        };
        let mut client = Client {
            fd,
            line: Line::default(),
            since: Instant::now(),
        };
        match vmm::hear(&client.fd, &mut client.line) {
            Heard::Part => {
                if clients.len() >= MOST {
                    clients.remove(0);
                }
                clients.push(client);
            }
            Heard::Whole => answer(host, client, count),
            Heard::Nothing => {}
        }
    }
}

/// Hands a connection to whoever listens on the port that was asked for, or
/// closes it: nobody is there, or the queue is full. Neither is waited for.
fn answer(host: &Host<'_>, client: Client, count: &mut u32) {
    let Some(port) = request(client.line.get()) else {
        return;
    };
    for _ in 0..TRIES {
        let delivered = Delivered::numbered(port, *count);
        let answer = deliver(host, &client.fd, delivered);
        let is_taken = |e: &std::io::Error| e.kind() == std::io::ErrorKind::AddrInUse;
        let is_taken = answer.as_ref().is_err_and(is_taken);
        if is_taken || answer.is_ok() {
            *count = count.wrapping_add(1);
        }
        if !is_taken {
            return;
        }
    }
}

fn deliver(host: &Host<'_>, client: &OwnedFd, delivered: Delivered) -> std::io::Result<()> {
    let no_name = std::io::ErrorKind::InvalidInput;
    let own = host.delivery(delivered.from).ok_or(no_name)?;
    let mut answer = Err(no_name.into());
    for at in [At::Own, At::Any] {
        let name = Name {
            cid: host.cid,
            port: delivered.port,
            at,
        };
        answer = vmm::call(&own, &host.unix(name).ok_or(no_name)?);
        let is_nobody = |e: &std::io::Error| {
            use std::io::ErrorKind::{ConnectionRefused, NotFound};
            [ConnectionRefused, NotFound].contains(&e.kind())
        };
        if !answer.as_ref().is_err_and(is_nobody) {
            break;
        }
    }
    let delivery = answer?;
    vmm::mark(client, delivered)?;
    // Before anything that the program sends.
    vmm::say(client, welcome(delivered.from).get());
    unix::send_with(&delivery, b"!", &[client.as_raw_fd()])
}
