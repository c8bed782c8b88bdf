//! Processes that make system calls for this one, each as a user of its own.
//!
//! A [`Hand`] is a process that waits on a page which both see, makes the calls
//! written there, and writes what they returned. It has its own descriptors, user
//! and capabilities; a descriptor goes from one hand to another by `SCM_RIGHTS`.
//!
//! A hand has this process's memory, as a vfork child has it: the two take turns
//! at every call, and a change of memory is what an emulated processor takes
//! longest for. So it must not touch what belongs to a thread, `errno` for one.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, c_long, c_void};

/// Calls that one request may hold.
const CALLS: usize = 64;
/// Bytes of a request's memory.
const MEMORY: usize = 16 * 1024;
/// An argument from here on stands for what an earlier call of the request
/// returned.
const RESULT: u64 = 0xfffe_0000_0000_0000;
/// After this time without an answer a process has ended.
const PATIENCE: Duration = Duration::from_secs(20);

#[repr(C)]
#[derive(Clone, Copy)]
struct Sys {
    number: i64,
    args: [u64; 6],
    result: i64,
}

/// What both sides look at while the other may write.
#[repr(C)]
struct Signals {
    asked: AtomicU32,
    answered: AtomicU32,
    quit: AtomicU32,
}

/// Bytes of a hand's stack.
const STACK: usize = 64 * 1024;

/// What belongs to one side at a time: to the hand from `asked` to `answered`.
#[repr(C)]
struct Request {
    count: u32,
    calls: [Sys; CALLS],
    memory: [u8; MEMORY],
}

#[repr(C)]
struct Page {
    signals: Signals,
    request: Request,
}

/// Whose rights a process has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// User and group.
    pub uid: u32,
    /// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN`, `CAP_NET_RAW`. Other
    /// capabilities are root's alone.
    pub capabilities: [bool; 3],
}

/// The bits of [`Identity::capabilities`] in the kernel's sets.
const CAPABILITIES: [u32; 3] = [10, 12, 13];

/// A process that makes calls.
#[derive(Debug)]
pub struct Hand {
    page: *mut Page,
    stack: *mut c_void,
    pid: c_int,
    count: usize,
    used: usize,
    /// The two ends that descriptors are passed through.
    door: [c_int; 2],
}

/// A system call that leaves `errno` alone.
///
/// # Safety
///
/// As the call's: it may write where its arguments point to.
unsafe fn raw(number: i64, a: [u64; 6]) -> i64 {
    let ret: i64;
    // SAFETY: the kernel's calling convention; the caller stands for the rest.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => ret,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    // SAFETY: the same.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a[0] => ret,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack)
        );
    }
    ret
}

fn futex(word: &AtomicU32, op: c_int, value: u32, wait: Option<Duration>) {
    let time = wait.map(|w| libc::timespec {
        tv_sec: w.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(w.subsec_nanos()),
    });
    let time = time
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref::<libc::timespec>);
    let op = (op | libc::FUTEX_PRIVATE_FLAG) as u64;
    let args = [word.as_ptr() as u64, op, value.into(), time as u64, 0, 0];
    // SAFETY: `word` and `time` outlive the call, which reads them.
    unsafe { raw(libc::SYS_futex, args) };
}

/// What a hand does until it is told to end.
extern "C" fn serve(page: *mut c_void) -> c_int {
    let page: *mut Page = page.cast();
    let mut last = 0;
    loop {
        // SAFETY: mapped as long as this process lives; atomics only.
        let signals = unsafe { &(*page).signals };
        let asked = signals.asked.load(Ordering::Acquire);
        if signals.quit.load(Ordering::Relaxed) != 0 {
            // SAFETY: ends this process without running anything of Rust's.
            unsafe { raw(libc::SYS_exit_group, [0; 6]) };
        }
        if asked == last {
            futex(&signals.asked, libc::FUTEX_WAIT, last, None);
            continue;
        }
        last = asked;
        // SAFETY: asked and not yet answered: the request is this process's
        // alone, and the reference ends before the answer.
        let page = unsafe { &mut (*page).request };
        for i in 0..(page.count as usize).min(CALLS) {
            let Sys { number, args, .. } = page.calls[i];
            let a = args.map(|a| {
                if a >= RESULT && a < RESULT + CALLS as u64 {
                    page.calls[(a - RESULT) as usize].result as u64
                } else {
                    a
                }
            });
            // SAFETY: the request's author stands for it: pointers are into
            // the page's memory, and long enough.
            page.calls[i].result = unsafe { raw(number, a) };
        }
        signals.answered.store(asked, Ordering::Release);
        futex(&signals.answered, libc::FUTEX_WAKE, 1, None);
    }
}

/// Memory of zeroes.
fn map(len: usize) -> io::Result<*mut c_void> {
    let (access, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a fresh anonymous mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(at)
}

/// Gives back what [`map`] gave.
fn unmap(at: *mut c_void, len: usize) {
    // SAFETY: nobody uses it any more.
    unsafe { libc::munmap(at, len) };
}

/// The two ends of a passage for descriptors, inherited by hands made later.
pub fn door() -> io::Result<[c_int; 2]> {
    let mut door = [0; 2];
    let ty = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors.
    let ret = unsafe { libc::socketpair(libc::AF_UNIX, ty, 0, door.as_mut_ptr()) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(door)
}

impl Hand {
    /// Makes one. The caller has no threads.
    pub fn new(identity: &Identity, door: [c_int; 2]) -> io::Result<Hand> {
        // Zeroes are a valid `Page`.
        let page = map(size_of::<Page>())?;
        let stack = map(STACK).inspect_err(|_| unmap(page, size_of::<Page>()))?;
        // SAFETY: `serve` has a stack of its own, which stays until it has ended,
        // and touches nothing of this thread's but the page.
        let pid = unsafe {
            libc::clone(
                serve,
                stack.byte_add(STACK),
                libc::CLONE_VM | libc::SIGCHLD,
                page,
            )
        };
        let failed = (pid < 0).then(io::Error::last_os_error);
        let mut hand = Hand {
            page: page.cast(),
            stack,
            pid,
            count: 0,
            used: 0,
            door,
        };
        if let Some(e) = failed {
            return Err(e);
        }
        hand.take_identity(identity)?;
        Ok(hand)
    }

    /// Its process id.
    #[allow(dead_code)]
    pub fn pid(&self) -> u32 {
        self.pid as u32
    }

    fn page(&mut self) -> &mut Request {
        // SAFETY: mapped until `self` is dropped, and ours: `go` returns only
        // when everything asked has been answered.
        unsafe { &mut (*self.page).request }
    }

    fn signals(&self) -> &Signals {
        // SAFETY: mapped until `self` is dropped; atomics only.
        unsafe { &(*self.page).signals }
    }

    /// Memory of the request with these bytes, as an argument.
    pub fn memory(&mut self, bytes: &[u8]) -> u64 {
        let at = self.used;
        let page = self.page();
        let place = &mut page.memory[at..at + bytes.len()];
        place.copy_from_slice(bytes);
        let address = place.as_ptr() as u64;
        self.used += bytes.len().next_multiple_of(16);
        address
    }

    /// What lies there now.
    pub fn read(&mut self, address: u64, len: usize) -> Vec<u8> {
        let page = self.page();
        let at = (address - page.memory.as_ptr() as u64) as usize;
        page.memory[at..(at + len).min(MEMORY)].to_vec()
    }

    /// One more call of the request. Gives an argument that stands for its
    /// result in later calls.
    pub fn call(&mut self, number: c_long, args: &[u64]) -> u64 {
        let i = self.count;
        assert!(i < CALLS, "a request of more than {CALLS} calls");
        let mut sys = Sys {
            number,
            args: [0; 6],
            result: 0,
        };
        sys.args[..args.len()].copy_from_slice(args);
        self.page().calls[i] = sys;
        self.count += 1;
        RESULT + i as u64
    }

    /// How many more calls the request can hold.
    pub fn room(&self) -> usize {
        CALLS - self.count
    }

    /// Has the calls made.
    pub fn go(&mut self) {
        let count = self.count as u32;
        (self.count, self.used) = (0, 0);
        if count == 0 {
            return;
        }
        self.page().count = count;
        let pid = self.pid;
        let page = self.signals();
        let asked = page.asked.load(Ordering::Relaxed).wrapping_add(1);
        page.asked.store(asked, Ordering::Release);
        futex(&page.asked, libc::FUTEX_WAKE, 1, None);
        let since = Instant::now();
        loop {
            let answered = page.answered.load(Ordering::Acquire);
            if answered == asked {
                return;
            }
            futex(
                &page.answered,
                libc::FUTEX_WAIT,
                answered,
                Some(Duration::from_secs(1)),
            );
            assert!(since.elapsed() < PATIENCE, "process {pid} does not answer");
        }
    }

    /// What a call of the last request returned.
    pub fn result(&mut self, call: u64) -> Result<i64, i32> {
        match self.page().calls[(call - RESULT) as usize].result {
            r if r < 0 => Err(-r as i32),
            r => Ok(r),
        }
    }

    /// One call as a request of its own.
    pub fn one(&mut self, number: c_long, args: &[u64]) -> Result<i64, i32> {
        let call = self.call(number, args);
        self.go();
        self.result(call)
    }

    fn take_identity(&mut self, identity: &Identity) -> io::Result<()> {
        let failed = |e| Err(io::Error::from_raw_os_error(e));
        let check = |hand: &mut Hand, number: c_long, args: &[u64]| match hand.one(number, args) {
            Err(e) => failed(e),
            Ok(_) => Ok(()),
        };
        let all = [true; 3];
        let id = u64::from(identity.uid);
        if identity.uid != 0 {
            // One alone in a user namespace may not; it has no groups there.
            let _ = self.one(libc::SYS_setgroups, &[0, 0]);
            let keep = libc::PR_SET_KEEPCAPS as u64;
            check(self, libc::SYS_prctl, &[keep, 1])?;
            check(self, libc::SYS_setresgid, &[id, id, id])?;
            check(self, libc::SYS_setresuid, &[id, id, id])?;
        }
        if identity.uid != 0 || identity.capabilities != all {
            // _LINUX_CAPABILITY_VERSION_3, this process.
            let head: Vec<u8> = [0x2008_0522u32, 0].map(u32::to_ne_bytes).concat();
            let (header, data) = (self.memory(&head), self.memory(&[0; 24]));
            let call = self.call(libc::SYS_capget, &[header, data]);
            self.go();
            if let Err(e) = self.result(call) {
                return failed(e);
            }
            let now = self.read(data, 24);
            let word = |i: usize| {
                let bytes = now[4 * i..4 * i + 4].try_into().unwrap_or([0; 4]);
                u64::from(u32::from_ne_bytes(bytes))
            };
            let mut has = word(1) | word(4) << 32;
            if identity.uid != 0 {
                has &= CAPABILITIES.iter().fold(0, |set, bit| set | 1 << bit);
            }
            for (bit, wanted) in CAPABILITIES.iter().zip(identity.capabilities) {
                if !wanted {
                    has &= !(1 << bit);
                }
            }
            let (low, high) = (has as u32, (has >> 32) as u32);
            let set = [low, low, 0, high, high, 0].map(u32::to_ne_bytes).concat();
            let (header, data) = (self.memory(&head), self.memory(&set));
            check(self, libc::SYS_capset, &[header, data])?;
        }
        let die = [libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64];
        check(self, libc::SYS_prctl, &die)
    }

    /// A message header with room for one descriptor, in the request's memory.
    fn message(&mut self, fd: c_int) -> (u64, u64) {
        let byte = self.memory(&[0; 16]);
        let iov = [byte, 1].map(u64::to_ne_bytes).concat();
        let iov = self.memory(&iov);
        // A cmsghdr, SOL_SOCKET, SCM_RIGHTS, one descriptor, padding.
        let mut control = Vec::from(20u64.to_ne_bytes());
        control.extend([1, 1, fd, 0].map(i32::to_ne_bytes).concat());
        let control = self.memory(&control);
        let header = [0, 0, iov, 1, control, 24, 0]
            .map(u64::to_ne_bytes)
            .concat();
        (self.memory(&header), control)
    }

    /// Gives one of its descriptors to another hand, which gets one more.
    pub fn give(&mut self, fd: c_int, to: &mut Hand) -> Result<c_int, i32> {
        let (header, _) = self.message(fd);
        let door = self.door;
        self.one(libc::SYS_sendmsg, &[door[0] as u64, header, 0])?;
        let (header, control) = to.message(-1);
        let flags = libc::MSG_CMSG_CLOEXEC as u64;
        to.one(libc::SYS_recvmsg, &[door[1] as u64, header, flags])?;
        let bytes = to.read(control + 16, 4);
        Ok(i32::from_ne_bytes(bytes.try_into().unwrap_or([0xff; 4])))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let page = self.signals();
        page.quit.store(1, Ordering::Relaxed);
        page.asked.fetch_add(1, Ordering::Release);
        futex(&page.asked, libc::FUTEX_WAKE, 1, None);
        if self.pid > 0 {
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        }
        unmap(self.page.cast(), size_of::<Page>());
        unmap(self.stack, STACK);
    }
}
