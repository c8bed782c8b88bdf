//! Every descriptor of a socket in this process, and every epoll registration:
//! what another socket has to get that takes its place.
//!
//! All of it is read from the kernel at the moment of the move, not from what
//! hooks saw, and before anything is changed. However many there are, they fit:
//! they lie on pages of their own.

use super::holders;
use crate::own::fds;
use crate::own::memory::Pages;
use crate::own::text;
use crate::sys::{self, Allowed};

/// The descriptors of one socket.
pub struct Duplicates {
    pages: Option<Pages>,
    only: [u8; NUMBER],
    len: usize,
}

/// Bytes of a descriptor's number.
const NUMBER: usize = 4;

impl Duplicates {
    /// Those of the socket `inode`, one of which is `fd`; `None` if they cannot
    /// be told.
    pub fn of(allowed: Allowed, inode: u64, fd: i32) -> Option<Duplicates> {
        let mut found = 0;
        let mut pages: Option<Pages> = None;
        // Counted first, then kept; more often if another thread makes more of
        // them meanwhile.
        loop {
            let room = pages.as_ref().map_or(0, |p| p.bytes().len() / NUMBER);
            let mut count = 0;
            let mut keep = |at: i32| {
                let slot = pages
                    .as_mut()
                    .and_then(|p| p.bytes_mut().get_mut(count * NUMBER..)?.first_chunk_mut());
                if let Some(slot) = slot {
                    *slot = at.to_ne_bytes();
                }
                count += 1;
            };
            if !each_of(allowed, inode, &mut keep) {
                return None;
            }
            if count <= room && room > 0 {
                found = count;
                break;
            }
            if count <= 1 {
                pages = None;
                break;
            }
            pages = Some(Pages::new(allowed, 2 * count * NUMBER)?);
        }
        Some(Duplicates {
            pages,
            only: fd.to_ne_bytes(),
            len: found.max(1),
        })
    }

    /// The numbers.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        let bytes = match &self.pages {
            Some(pages) => pages.bytes(),
            None => &self.only,
        };
        let (numbers, _) = bytes.as_chunks::<NUMBER>();
        numbers
            .iter()
            .take(self.len)
            .map(|number| i32::from_ne_bytes(*number))
    }
}

/// Calls `visit` with each descriptor of the socket `inode`; `false` if nobody
/// can tell which those are.
fn each_of(allowed: Allowed, inode: u64, visit: &mut impl FnMut(i32)) -> bool {
    let mut wanted = [0u8; 40];
    let wanted = holders::link_text(inode, &mut wanted);
    holders::each_own_fd(allowed, |at, link| {
        if link == wanted {
            visit(at);
        }
    }) || each_by_asking(allowed, inode, visit)
}

/// The same where there is no `/proc`: asks about each number that the hooks
/// have seen.
#[inline(never)]
fn each_by_asking(allowed: Allowed, inode: u64, visit: &mut impl FnMut(i32)) -> bool {
    for fd in 0..fds::end() {
        if sys::inode(allowed, fd) == Ok(inode) && sys::cookie(allowed, fd).is_ok() {
            visit(fd);
        }
    }
    true
}

/// The epoll registrations of a socket: the kernel drops them when the old
/// socket goes.
pub struct Watches {
    pages: Option<Pages>,
    len: usize,
}

/// Bytes of one: the epoll descriptor, the number that was registered, events,
/// data.
const WATCH: usize = 20;

impl Watches {
    /// Registrations in any epoll instance of this process, as
    /// `/proc/self/fdinfo` tells them. None are looked for if no hook saw one of
    /// the descriptors in `by` being watched and their whole life was seen. `None`
    /// if they cannot be told, or if one of them is not by a number in `by`.
    pub fn of(allowed: Allowed, inode: u64, by: &Duplicates) -> Option<Watches> {
        let mut watches = Watches {
            pages: None,
            len: 0,
        };
        if !by.numbers().any(|fd| fds::get(fd).is_watched()) {
            return Some(watches);
        }
        loop {
            let room = watches
                .pages
                .as_ref()
                .map_or(0, |p| p.bytes().len() / WATCH);
            watches.len = 0;
            let mut all = true;
            let listed = holders::each_own_fd(allowed, |ep, link| {
                if link == b"anon_inode:[eventpoll]" {
                    all &= watches.read(allowed, ep, inode);
                }
            });
            if !listed || !all {
                // Without /proc nobody knows; if an epoll instance could be
                // made at all, there may be some.
                return None;
            }
            if watches.len <= room {
                break;
            }
            watches.pages = Some(Pages::new(allowed, 2 * watches.len * WATCH)?);
        }
        let known = |number: i32| by.numbers().any(|by| by == number);
        watches.each(|w| known(w.number)).then_some(watches)
    }

    /// Lines of an epoll descriptor's fdinfo:
    /// `tfd:        5 events:       19 data:  5  pos:0 ino:… sdev:…`
    fn read(&mut self, allowed: Allowed, ep: i32, inode: u64) -> bool {
        let mut path = [0u8; 48];
        let Some(path) = text::print(&mut path, b"/proc/self/fdinfo/", ep as u64, b"") else {
            return false;
        };
        holders::each_line(allowed, path, |line| {
            if let Some(watch) = Watch::read(ep, line, inode) {
                self.keep(&watch);
            }
        })
    }

    fn keep(&mut self, watch: &Watch) {
        let slot = self
            .pages
            .as_mut()
            .and_then(|p| p.bytes_mut().get_mut(self.len * WATCH..)?.first_chunk_mut());
        if let Some(slot) = slot {
            *slot = watch.to_bytes();
        }
        self.len += 1;
    }

    /// Whether `visit` says yes to each of them.
    fn each(&self, mut visit: impl FnMut(&Watch) -> bool) -> bool {
        let bytes = self.pages.as_ref().map_or(&[][..], Pages::bytes);
        let (watches, _) = bytes.as_chunks::<WATCH>();
        watches
            .iter()
            .take(self.len)
            .all(|bytes| Watch::from_bytes(bytes).is_some_and(|w| visit(&w)))
    }

    /// Registers the socket that has the numbers now.
    pub fn restore(&self, allowed: Allowed) {
        self.each(|w| {
            let _ = sys::epoll_add(allowed, w.epoll, w.number, w.events, w.data);
            fds::watched(w.number);
            true
        });
    }
}

/// The value of a hexadecimal digit.
fn digit(c: u8) -> Option<u32> {
    match c {
        b'0'..=b'9' => Some(u32::from(c - b'0')),
        b'a'..=b'f' => Some(u32::from(c - b'a') + 10),
        _ => None,
    }
}

struct Watch {
    epoll: i32,
    number: i32,
    events: u32,
    data: u64,
}

impl Watch {
    fn read(epoll: i32, line: &[u8], inode: u64) -> Option<Watch> {
        let field = |name: &[u8], radix: u32| -> Option<u64> {
            let at = (0..line.len()).find(|at| {
                let rest = line.get(*at..).unwrap_or(&[]);
                rest.starts_with(name)
            })?;
            let text = line.get(at + name.len()..)?.trim_ascii_start();
            let digits = || text.iter().map_while(|c| digit(*c).filter(|n| *n < radix));
            digits().next()?;
            digits().try_fold(0u64, |n, digit| {
                n.checked_mul(u64::from(radix))?
                    .checked_add(u64::from(digit))
            })
        };
        let watch = Watch {
            epoll,
            number: i32::try_from(field(b"tfd:", 10)?).ok()?,
            events: field(b"events:", 16)? as u32,
            data: field(b"data:", 16)?,
        };
        (field(b" ino:", 16)? == inode).then_some(watch)
    }

    fn to_bytes(&self) -> [u8; WATCH] {
        let mut b = [0; WATCH];
        b[..4].copy_from_slice(&self.epoll.to_ne_bytes());
        b[4..8].copy_from_slice(&self.number.to_ne_bytes());
        b[8..12].copy_from_slice(&self.events.to_ne_bytes());
        b[12..].copy_from_slice(&self.data.to_ne_bytes());
        b
    }

    fn from_bytes(b: &[u8; WATCH]) -> Option<Watch> {
        Some(Watch {
            epoll: i32::from_ne_bytes(*b.first_chunk()?),
            number: i32::from_ne_bytes(*b.get(4..)?.first_chunk()?),
            events: u32::from_ne_bytes(*b.get(8..)?.first_chunk()?),
            data: u64::from_ne_bytes(*b.get(12..)?.first_chunk()?),
        })
    }
}
