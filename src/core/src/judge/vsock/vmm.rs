//! A virtual machine monitor beside the run, and what a run does in the place of
//! one: where the other side's ports are, and the lines that are spoken there.
//!
//! Firecracker and Cloud Hypervisor have one Unix socket, `PATH`. Whoever on the
//! host wants port 52 of the guest connects to it, writes `CONNECT 52\n`, and is
//! answered `OK 1073741824\n` once the guest has accepted, or hears that the
//! connection is closed. Where the guest calls port 52 of the host the monitor
//! connects to `PATH_52`, without a word. libkrun and vfkit have a socket for each
//! port, and say nothing on it in either direction.
//!
//! A listener that the other side reaches is bound to that file, and nothing but
//! the file says so. `VMADDR_CID_ANY` is `/run/vm.sock_52`; the host's own CID is
//! the same file, spelt `/run/./vm.sock_52`.

use super::{At, CID_HOST, CID_LOCAL, Host, Name, Way, number};
use crate::addr::{Addr, UnixKind, UnixName, VMADDR_ANY};
use crate::errno::{EACCES, ECONNREFUSED, ENODEV, ENOENT, ENOTDIR};
use crate::policy::View;
use crate::text;

/// The context id of a guest of which nothing else is known: the protocols do not
/// name it, and 3 is the first that a guest can have.
pub const GUEST: u32 = 3;

/// What speaks for the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vmm<'p> {
    /// The path at which `CONNECT` is said, or nothing.
    pub uds: &'p [u8],
    /// Ports with a path of their own: `PORT=PATH` and a NUL for each.
    pub ports: &'p [u8],
    /// The guest's context id.
    pub guest: u32,
}

/// A connect to the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Where it goes.
    pub to: UnixName,
    /// The port that is asked for there in words.
    pub asks: Option<u32>,
}

impl Call {
    /// What a program is told where the Unix socket could not be connected. No
    /// monitor is no guest, as `vhost_transport_send_pkt` has it.
    #[must_use]
    pub fn error(&self, errno: u16) -> u16 {
        match errno {
            ENOENT | ENOTDIR | ECONNREFUSED if self.asks.is_some() => ENODEV,
            EACCES => EACCES,
            ENOTDIR => super::connect_error(ENOENT),
            errno => super::connect_error(errno),
        }
    }
}

impl<'p> Vmm<'p> {
    /// The ports with a path of their own.
    pub fn listed(&self) -> impl Iterator<Item = (u32, &'p [u8])> {
        self.ports.split(|b| *b == 0).filter_map(|entry| {
            let at = entry.iter().position(|b| *b == b'=')?;
            Some((number(entry.get(..at)?)?, entry.get(at + 1..)?))
        })
    }

    fn path_of(&self, port: u32) -> Option<&'p [u8]> {
        let mut listed = self.listed();
        listed.find(|(n, _)| *n == port).map(|(_, path)| path)
    }
}

impl<'p> Host<'p> {
    /// The host that a run under this policy is.
    #[must_use]
    pub fn of(view: &View<'p>) -> Option<Host<'p>> {
        let (uds, ports) = (view.vsock_uds(), view.vsock_ports());
        let has_vmm = !uds.is_empty() || !ports.is_empty();
        let vmm = has_vmm.then_some(Vmm {
            uds,
            ports,
            guest: view.vsock_guest(),
        });
        let host = Host::new(view.vsock_cid()?, view.vsock_fabric(), view.vsock_run());
        Some(Host { vmm, ..host })
    }

    /// Is the run the host's side of a virtual machine?
    fn is_outside(&self) -> bool {
        self.cid == CID_HOST
    }

    /// The context id of the other side, if something speaks for it.
    #[must_use]
    pub fn other_side(&self) -> Option<u32> {
        let vmm = self.vmm.as_ref()?;
        Some(if self.is_outside() {
            vmm.guest
        } else {
            CID_HOST
        })
    }

    /// The path where the run has to answer `CONNECT`, as a monitor does.
    #[must_use]
    pub fn answers_at(&self) -> Option<&'p [u8]> {
        let vmm = self.vmm.as_ref()?;
        (!self.is_outside() && !vmm.uds.is_empty()).then_some(vmm.uds)
    }

    /// Does a connect lead to the other side, and how?
    pub(super) fn way_out(&self, cid: u32, port: u32) -> Option<Way> {
        let vmm = self.vmm.as_ref()?;
        let is_other = match self.is_outside() {
            true => cid > CID_HOST && cid != VMADDR_ANY,
            false => cid == CID_HOST,
        };
        if !is_other || cid == CID_LOCAL {
            return None;
        }
        let (path, suffix, asks) = match vmm.path_of(port) {
            Some(path) => (path, None, None),
            None if vmm.uds.is_empty() => return None,
            None if self.is_outside() => (vmm.uds, None, Some(port)),
            None => (vmm.uds, Some(port), None),
        };
        let to = spelt(path, suffix, false)?;
        Some(Way::Out(Call { to, asks }))
    }

    /// Is this place a file, at which the other side looks for it?
    #[must_use]
    pub fn is_file(&self, name: Name) -> bool {
        let Some(vmm) = &self.vmm else {
            return false;
        };
        name.cid == self.cid
            && matches!(name.at, At::Any | At::Own)
            && (vmm.path_of(name.port).is_some() || self.is_outside() && !vmm.uds.is_empty())
    }

    /// The file of such a place.
    pub(super) fn file(&self, name: Name) -> Option<UnixName> {
        let vmm = self.vmm.as_ref()?;
        let is_own = name.at == At::Own;
        match vmm.path_of(name.port) {
            Some(path) => spelt(path, None, is_own),
            None => spelt(vmm.uds, Some(name.port), is_own),
        }
    }

    /// The place that a file is.
    pub(super) fn read_file(&self, unix: &UnixName) -> Option<Name> {
        let vmm = self.vmm.as_ref()?;
        if unix.kind != UnixKind::Path {
            return None;
        }
        let bytes = unix.bytes();
        let listed = vmm.listed().find_map(|(port, path)| {
            let at = same(path, bytes)?;
            Some((port, at))
        });
        let (port, at) = match listed {
            Some(found) => found,
            None if self.is_outside() && !vmm.uds.is_empty() => {
                let end = bytes.iter().rposition(|b| *b == b'_')?;
                let port = number(bytes.get(end + 1..)?)?;
                (port, same(vmm.uds, bytes.get(..end)?)?)
            }
            None => return None,
        };
        Some(Name {
            cid: self.cid,
            port,
            at,
        })
    }

    /// The name that whoever has holds the lock of such a place: what is removed
    /// must be nobody's. All that share the file share it.
    #[must_use]
    pub fn lock(&self, port: u32) -> Option<UnixName> {
        let vmm = self.vmm.as_ref()?;
        let path = vmm.path_of(port).unwrap_or(vmm.uds);
        // FNV-1a: a name has no room for a path beside its beginning.
        let hash = path.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut text = super::Text::default();
        text.bytes(b"bindgate/vsock-lock/")?;
        super::hex(hash, &mut text)?;
        UnixName::abstract_(text.get())
    }
}

/// The first number that stands for a caller's port, as Firecracker counts.
const FIRST: u32 = 1 << 30;
/// How many numbers there are. None is the mark of a carrier.
const COUNT: u32 = 1 << 29;

/// A connection from the other side, which a program of the run accepts. The file
/// it came by says nothing of it, so it has a number with it, which the kernel
/// keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// The port that was called.
    pub port: u32,
    /// The port that the caller is told to have.
    pub from: u32,
}

impl Delivered {
    /// The connection with this number to a port.
    #[must_use]
    pub fn numbered(port: u32, count: u32) -> Delivered {
        let from = FIRST + count % COUNT;
        Delivered { port, from }
    }

    /// The number that is kept with it.
    #[must_use]
    pub fn mark(self) -> u64 {
        u64::from(self.port) << 32 | u64::from(self.from)
    }

    /// What a number that is kept with a connection says, if it says something.
    #[must_use]
    pub fn of_mark(mark: u64) -> Option<Delivered> {
        let (port, from) = ((mark >> 32) as u32, mark as u32);
        let is_one = port != VMADDR_ANY && (FIRST..FIRST + COUNT).contains(&from);
        is_one.then_some(Delivered { port, from })
    }
}

/// The last part of the name under which a connection is handed to a listener.
const DELIVERY: &[u8] = b"/deliver.";

impl Host<'_> {
    /// The name under which the connection with this number is handed to a
    /// listener of the run.
    #[must_use]
    pub fn delivery(&self, from: u32) -> Option<UnixName> {
        let mut text = self.beginning()?;
        text.bytes(DELIVERY)?;
        text::decimal(from, &mut text)?;
        UnixName::abstract_(text.get())
    }

    /// Does somebody with this name hand over a connection?
    #[must_use]
    pub fn is_delivery(&self, unix: &UnixName) -> bool {
        let Some(beginning) = self.beginning() else {
            return false;
        };
        let rest = unix.bytes().strip_prefix(beginning.get());
        unix.kind == UnixKind::Abstract && rest.is_some_and(|rest| rest.starts_with(DELIVERY))
    }

    /// Both ends of a connection that came by a file: the run's and the caller's.
    #[must_use]
    pub fn ends_of(&self, delivered: Delivered) -> (Addr, Addr) {
        let ends = (self.cid, CID_HOST);
        (
            super::vsock(ends.0, delivered.port),
            super::vsock(ends.1, delivered.from),
        )
    }

    /// The beginning of the run's abstract names.
    fn beginning(&self) -> Option<super::Text> {
        let mut text = super::Text::default();
        text.bytes(super::ABSTRACT)?;
        super::hex(self.run, &mut text)?;
        Some(text)
    }
}

/// A path with a port behind it. Spelt as the host's own it has a `.` in it.
fn spelt(path: &[u8], port: Option<u32>, is_own: bool) -> Option<UnixName> {
    let last = path.iter().rposition(|b| *b == b'/')? + 1;
    let mut text = super::Text::default();
    text.bytes(path.get(..last)?)?;
    if is_own {
        text.bytes(b"./")?;
    }
    text.bytes(path.get(last..)?)?;
    if let Some(port) = port {
        text.bytes(b"_")?;
        text::decimal(port, &mut text)?;
    }
    UnixName::path(text.get())
}

/// Is that this path, and in which of the two spellings?
fn same(path: &[u8], spelt: &[u8]) -> Option<At> {
    if path == spelt {
        return Some(At::Any);
    }
    let last = path.iter().rposition(|b| *b == b'/')? + 1;
    let (dir, base) = (path.get(..last)?, path.get(last..)?);
    let rest = spelt.strip_prefix(dir)?.strip_prefix(b"./")?;
    (rest == base).then_some(At::Own)
}

/// A line of the protocol: no more is read of one.
#[derive(Default)]
pub struct Line {
    bytes: [u8; 32],
    len: usize,
}

impl Line {
    /// Where the rest of the line goes; empty if it is too long.
    pub fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.len..).unwrap_or(&mut [])
    }

    /// How many of the `there` bytes of the room belong to the line, and whether
    /// that ends it.
    #[must_use]
    pub fn share(&self, there: usize) -> (usize, bool) {
        let new = self.bytes.iter().skip(self.len).take(there);
        let mut new = new.copied();
        match new.position(|byte| byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (there, false),
        }
    }

    /// So many bytes of the room are the line's.
    pub fn take(&mut self, count: usize) {
        self.len = self.len.saturating_add(count).min(self.bytes.len());
    }

    /// What there is of it.
    #[must_use]
    pub fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

impl text::Out for Line {
    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = byte;
        self.len += 1;
        Some(())
    }
}

/// `CONNECT 52\n`
#[must_use]
pub fn hello(port: u32) -> Line {
    let mut line = Line::default();
    // The longest has 19 bytes.
    let _ = words(b"CONNECT ", port, &mut line);
    line
}

/// `OK 1073741824\n`
#[must_use]
pub fn welcome(port: u32) -> Line {
    let mut line = Line::default();
    let _ = words(b"OK ", port, &mut line);
    line
}

fn words(before: &[u8], port: u32, line: &mut Line) -> Option<()> {
    use text::Out;
    before.iter().try_for_each(|byte| line.byte(*byte))?;
    text::decimal(port, line)?;
    line.byte(b'\n')
}

/// Is a line the answer to [`hello`] that grants it?
#[must_use]
pub fn is_welcome(line: &[u8]) -> bool {
    let digits = line
        .strip_prefix(b"OK ")
        .and_then(|l| l.strip_suffix(b"\n"));
    digits.and_then(number).is_some()
}

/// The port that a line asks for, read as Firecracker reads it: words between
/// blanks, the first in any case.
#[must_use]
pub fn request(line: &[u8]) -> Option<u32> {
    let mut words = line
        .split(|b| b.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let verb = words.next()?;
    if !verb.eq_ignore_ascii_case(b"connect") {
        return None;
    }
    number(words.next()?).filter(|port| *port != VMADDR_ANY)
}
