//! The running kernel as a world: what fills its tables is held by other
//! processes, in a network namespace of our own.

use std::ffi::c_int;
use std::time::Instant;

use crate::world::{At, Sort, World, fill_with};

/// Sockets that one process holds: the usual hard limit of descriptors is not
/// ours to raise.
const EACH: u32 = 15_000;

/// The running kernel; what fills it is held by other processes.
#[derive(Default)]
pub struct Kernel {
    holders: Vec<Holder>,
}

/// A process that holds sockets until its pipe is closed.
struct Holder {
    pid: c_int,
    pipe: c_int,
}

impl Kernel {
    /// Starts a process that binds these, and waits until it has.
    fn holder(
        &mut self,
        which: &dyn Fn(u32) -> (Sort, At),
        range: std::ops::Range<u32>,
    ) -> Result<(), String> {
        let mut pair = [0; 2];
        // SAFETY: room for two descriptors; the child of this program of one
        // thread goes on like the parent, and ends in `_exit`.
        let pid = unsafe {
            if libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, pair.as_mut_ptr()) != 0 {
                return Err(std::io::Error::last_os_error().to_string());
            }
            libc::fork()
        };
        let [ours, theirs] = pair;
        if pid == 0 {
            self.close(ours);
            for h in &self.holders {
                // SAFETY: a descriptor of this process that nobody else uses.
                unsafe { libc::close(h.pipe) };
            }
            let said = match fill_with(self, which, range, &mut Vec::new()) {
                Ok(()) => "ok".to_owned(),
                Err(e) => e,
            };
            let mut end = [0u8; 1];
            // SAFETY: the buffers have the lengths given.
            unsafe {
                libc::write(theirs, said.as_ptr().cast(), said.len());
                libc::read(theirs, end.as_mut_ptr().cast(), 1);
                libc::_exit(0);
            }
        }
        self.close(theirs);
        if pid < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        self.holders.push(Holder { pid, pipe: ours });
        let mut said = [0u8; 200];
        // SAFETY: the buffer has the length given.
        let n = unsafe { libc::read(ours, said.as_mut_ptr().cast(), said.len()) };
        match said.get(..usize::try_from(n).unwrap_or(0)) {
            Some(b"ok") => Ok(()),
            Some(text) => Err(String::from_utf8_lossy(text).into_owned()),
            None => Err("a holder ended".to_owned()),
        }
    }
}

impl World for Kernel {
    type Socket = c_int;

    fn socket(&mut self, sort: Sort) -> Result<c_int, String> {
        let domain = if sort.six {
            libc::AF_INET6
        } else {
            libc::AF_INET
        };
        let ty = 1 + c_int::from(sort.udp);
        // SAFETY: socket(2) takes numbers only.
        let fd = unsafe { libc::socket(domain, ty, 0) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        for (on, opt) in [
            (sort.reuseaddr, libc::SO_REUSEADDR),
            (sort.reuseport, libc::SO_REUSEPORT),
        ] {
            if on {
                let one: c_int = 1;
                // SAFETY: the value is an int that outlives the call, and its
                // size is given.
                unsafe {
                    libc::setsockopt(fd, libc::SOL_SOCKET, opt, (&raw const one).cast(), 4);
                }
            }
        }
        Ok(fd)
    }

    fn bind(&mut self, s: c_int, at: At, six: bool) -> Result<(), c_int> {
        let (bytes, len) = at.bytes(six);
        // SAFETY: `len` bytes are there, and are only read.
        if unsafe { libc::bind(s, bytes.as_ptr().cast(), len as libc::socklen_t) } == 0 {
            return Ok(());
        }
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    fn close(&mut self, s: c_int) {
        // SAFETY: `s` is a socket of ours that nobody else uses.
        unsafe {
            libc::close(s);
        }
    }

    fn fill(&mut self, n: u32, which: &dyn Fn(u32) -> (Sort, At)) -> Result<(), String> {
        let begun = Instant::now();
        for from in (0..n).step_by(EACH as usize) {
            self.holder(which, from..n.min(from + EACH))?;
            if begun.elapsed().as_secs() > 100 {
                return Err(format!("stopped at {from} after 100 s"));
            }
        }
        Ok(())
    }

    fn empty(&mut self) {
        for h in std::mem::take(&mut self.holders) {
            self.close(h.pipe);
            // SAFETY: a child of ours, waited for once.
            unsafe {
                libc::waitpid(h.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// A kernel to ask: a network namespace of our own with `lo` up, and the
/// descriptors that a holder needs.
pub fn own_namespace() -> Result<(), String> {
    let failed = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
    // SAFETY: the structures are whole and outlive the calls; the ioctl takes
    // an ifreq of which it reads name and flags.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(u64::from(EACH) + 1_000);
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            return Err(failed("RLIMIT_NOFILE"));
        }
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return Err(failed("a network namespace"));
        }
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut ifr: libc::ifreq = std::mem::zeroed();
        ifr.ifr_name[0] = b'l' as libc::c_char;
        ifr.ifr_name[1] = b'o' as libc::c_char;
        ifr.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        let up = libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const ifr);
        libc::close(fd);
        if up != 0 {
            return Err(failed("lo up"));
        }
    }
    Ok(())
}
