//! One decision as plain words.
//!
//! A [`Record`] travels through mapped memory that the program can scribble
//! on, so it is plain integers and bytes: [`Record::to_words`] always
//! succeeds, [`Record::from_words`] checks every range and returns `None` for
//! what no shim wrote.

use crate::addr::{Addr, RawAddr, STORAGE};
use crate::socket::SocketType;

/// Words of a record, at most.
pub const WORDS: usize = HEAD + MORE + 2 * ADDR_WORDS;
/// Words that every record has. Together with the ring's claim they are one
/// cache line.
pub const HEAD: usize = 7;
/// Words that follow where [`Record::cookie`], [`Record::holder`] or
/// [`Record::uid`] say something.
const MORE: usize = 3;
const ADDR_WORDS: usize = STORAGE / 8;

/// Bits of the shape, which says what follows the head.
mod shape {
    /// Cookie, holder and user.
    pub const MORE: u8 = 1;
    /// The address used is the one asked for, and is not there twice.
    pub const SAME: u8 = 1 << 1;
}

macro_rules! names {
    ($(#[$meta:meta])* $enum:ident { $(#[$d0:meta])* $v0:ident = $n0:literal, $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[repr(u8)]
        pub enum $enum { #[default] $(#[$d0])* $v0, $($(#[$doc])* $variant,)* }

        impl $enum {
            /// Every value, in the order of its number.
            pub const ALL: &'static [$enum] = &[$enum::$v0, $($enum::$variant,)*];

            /// The name in the log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $enum::$v0 => $n0, $($enum::$variant => $name,)* }
            }

            fn from_u8(n: u8) -> Option<$enum> {
                Self::ALL.get(usize::from(n)).copied()
            }
        }
    };
}

names! {
    /// The libc function that the program called.
    Call {
        /// socket(2)
        Socket = "socket",
        /// socketpair(2)
        Socketpair = "socketpair",
        /// bind(2)
        Bind = "bind",
        /// listen(2)
        Listen = "listen",
        /// connect(2)
        Connect = "connect",
        /// sendto(2)
        Sendto = "sendto",
        /// sendmsg(2)
        Sendmsg = "sendmsg",
        /// sendmmsg(2)
        Sendmmsg = "sendmmsg",
        /// execve(2), fexecve(3), posix_spawn(3) and their relatives
        Exec = "exec",
        /// A fault inside the shim, reported instead of a decision.
        Fault = "fault",
    }
}

names! {
    /// What was decided.
    Verdict {
        /// Forwarded as asked.
        Allow = "allow",
        /// Refused without asking the kernel.
        Deny = "deny",
        /// Placed elsewhere.
        Move = "move",
        /// Placed where nobody can reach it.
        Hide = "hide",
        /// The shim failed and the call was forwarded as asked.
        Passed = "passed",
    }
}

names! {
    /// How sure the socket's identity is.
    Identity {
        /// No identity was needed or there is no socket.
        None = "none",
        /// From the descriptor cache, not checked with the kernel.
        Cached = "cached",
        /// `SO_COOKIE`, asked for this decision.
        Cookie = "cookie",
        /// The inode number, where `SO_COOKIE` is refused.
        Inode = "inode",
    }
}

names! {
    /// The check that decided, in the kernel's own words.
    Check {
        /// Nothing refused.
        None = "-",
        /// The policy, where the kernel asks the LSM for socket().
        SecuritySocketCreate = "security_socket_create",
        /// The policy, where the kernel asks the LSM for bind().
        SecuritySocketBind = "security_socket_bind",
        /// The policy, where the kernel asks the LSM for listen().
        SecuritySocketListen = "security_socket_listen",
        /// The policy, where the kernel asks the LSM for connect().
        SecuritySocketConnect = "security_socket_connect",
        /// The policy, where the kernel asks the LSM for execve().
        SecurityBprmCheck = "security_bprm_check",
        /// Two virtual addresses on one real one, or one virtual address twice.
        VirtualConflict = "bindgate_virtual_conflict",
        /// A move that cannot be carried out.
        MoveRefused = "bindgate_move",
        /// `sockfd_lookup_light`: not a descriptor, or not a socket.
        SockfdLookup = "sockfd_lookup_light",
        /// `move_addr_to_kernel`: length or memory of the address.
        MoveAddrToKernel = "move_addr_to_kernel",
        /// `__sock_create`: family, type, protocol.
        SockCreate = "__sock_create",
        /// `inet_create` or `inet6_create`.
        InetCreate = "inet_create",
        /// `inet_bind` / `__inet_bind`.
        InetBind = "__inet_bind",
        /// `inet6_bind` / `__inet6_bind`.
        Inet6Bind = "__inet6_bind",
        /// `inet_csk_get_port`: the TCP bind table.
        InetCskGetPort = "inet_csk_get_port",
        /// `udp_lib_get_port`: the UDP bind table.
        UdpLibGetPort = "udp_lib_get_port",
        /// `inet_listen`.
        InetListen = "inet_listen",
        /// `unix_bind`.
        UnixBind = "unix_bind",
        /// `vsock_bind` and `__vsock_bind`.
        VsockBind = "__vsock_bind",
        /// `netlink_bind`.
        NetlinkBind = "netlink_bind",
        /// `packet_bind`.
        PacketBind = "packet_bind",
        /// The protocol's connect.
        Connect = "connect",
        /// Something else in the kernel.
        Kernel = "kernel",
    }
}

/// Stages of the way through the house, as bits of [`Record::stages`].
pub mod stage {
    #![allow(missing_docs)]
    pub const HOOK: u16 = 1;
    pub const IDENTIFY: u16 = 1 << 1;
    pub const ADDRESS: u16 = 1 << 2;
    pub const POLICY: u16 = 1 << 3;
    pub const MODEL: u16 = 1 << 4;
    pub const FORWARD: u16 = 1 << 5;
    pub const RECORD: u16 = 1 << 6;

    /// Bits with their names, in the order of the way.
    pub const NAMES: [(u16, &str); 7] = [
        (HOOK, "hook"),
        (IDENTIFY, "identify"),
        (ADDRESS, "address"),
        (POLICY, "policy"),
        (MODEL, "model"),
        (FORWARD, "forward"),
        (RECORD, "record"),
    ];
}

/// Marks of a record, as bits of [`Record::flags`].
pub mod flag {
    #![allow(missing_docs)]
    /// The bind was not asked for by bind(2).
    pub const IMPLICIT: u16 = 1;
    /// `mode observe`: the verdict is what would have happened.
    pub const OBSERVED: u16 = 1 << 1;
    /// The check named is inferred from the errno.
    pub const INFERRED: u16 = 1 << 2;
    /// The call came through syscall(2).
    pub const RAW_SYSCALL: u16 = 1 << 3;
    /// `kernel` and `used` hold what the kernel answered.
    pub const FORWARDED: u16 = 1 << 4;
    /// The program was under a seccomp filter: nothing was asked.
    pub const SECCOMP: u16 = 1 << 5;
    /// A `for`-matched rule could not be checked (no executable name).
    pub const NO_PROGRAM: u16 = 1 << 6;
    /// The executable cannot be seen ([`crate::elf`]); `note` says why.
    pub const UNSEEN: u16 = 1 << 7;
    /// `time_ns` is what the processor's counter said. Only in the ring: the
    /// reader makes a time of it.
    pub const COUNTER: u16 = 1 << 8;
}

/// Why a move was refused: [`Record::reason`] of [`Check::MoveRefused`].
pub mod refusal {
    #![allow(missing_docs)]
    /// The socket's family cannot bind the target.
    pub const FAMILY: u16 = 1;
    /// The run's table of moved sockets is full.
    pub const TABLE_FULL: u16 = 2;
    /// Another process holds a duplicate of the socket.
    pub const SHARED: u16 = 3;
    /// Something stands at the target path that is no socket, or one in use.
    pub const PATH: u16 = 4;
    /// A datagram socket cannot be moved to a Unix socket.
    pub const DATAGRAM: u16 = 5;
    /// The program is under a seccomp filter: nothing can be set up for it.
    pub const SECCOMP: u16 = 6;
}

/// [`Record::rule`] where the policy's default decided.
pub const RULE_DEFAULT: u32 = u32::MAX - 1;
/// [`Record::rule`] where no rule had a say.
pub const RULE_NONE: u32 = u32::MAX;

/// One decision. Field by field the log schema of `docs/log.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Nanoseconds since the epoch (`CLOCK_REALTIME`).
    pub time_ns: u64,
    /// Process id as the process sees itself.
    pub pid: u32,
    /// Thread id as the thread sees itself.
    pub tid: u32,
    /// Slot of the process table ([`crate::run`]), 0 for none.
    pub process: u32,
    /// Descriptor, −1 for none.
    pub fd: i32,
    /// The function called.
    pub call: Call,
    /// What was decided.
    pub verdict: Verdict,
    /// How sure `cookie` is.
    pub identity: Identity,
    /// The check that refused, if one did.
    pub check: Check,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Bits of [`stage`].
    pub stages: u16,
    /// `SO_DOMAIN`.
    pub domain: u16,
    /// `SO_TYPE`.
    pub ty: u16,
    /// `SO_PROTOCOL`.
    pub protocol: u16,
    /// errno that the program saw, 0 for success.
    pub errno: u16,
    /// errno that the kernel gave, 0 for success, meaningful with
    /// [`flag::FORWARDED`].
    pub kernel: u16,
    /// Reason number: for [`Call::Exec`] and [`flag::UNSEEN`] the
    /// [`crate::elf`] class, for [`Call::Fault`] the stage bit, for
    /// [`Check::MoveRefused`] why.
    pub reason: u16,
    /// Index of the rule that decided, [`RULE_DEFAULT`] or [`RULE_NONE`].
    pub rule: u32,
    /// Index of the first `note` rule that matched, or [`RULE_NONE`].
    pub note: u32,
    /// `SO_COOKIE`, or the inode number.
    pub cookie: u64,
    /// Cookie of the socket that holds the address, for
    /// [`Check::VirtualConflict`]; 0 for none.
    pub holder: u64,
    /// Effective user id, where a rule asked for it; `u32::MAX` otherwise.
    pub uid: u32,
    /// Address asked for.
    pub asked: RawAddr,
    /// Address really used (with the port that was got); empty if none.
    pub used: RawAddr,
}

impl Record {
    /// An empty record of `call`.
    #[must_use]
    pub const fn new(call: Call) -> Record {
        Record {
            time_ns: 0,
            pid: 0,
            tid: 0,
            process: 0,
            fd: -1,
            call,
            verdict: Verdict::Allow,
            identity: Identity::None,
            check: Check::None,
            flags: 0,
            stages: 0,
            domain: 0,
            ty: 0,
            protocol: 0,
            errno: 0,
            kernel: 0,
            reason: 0,
            rule: RULE_NONE,
            note: RULE_NONE,
            cookie: 0,
            holder: 0,
            uid: u32::MAX,
            asked: RawAddr::EMPTY,
            used: RawAddr::EMPTY,
        }
    }

    /// Was something refused or changed? Such records have reserved room.
    #[must_use]
    pub fn is_important(&self) -> bool {
        self.verdict != Verdict::Allow || matches!(self.call, Call::Exec | Call::Fault)
    }

    /// The record as words, and how many there are.
    #[must_use]
    pub fn to_words(&self) -> ([u64; WORDS], usize) {
        let mut w = [0; WORDS];
        let more = (self.cookie, self.holder, self.uid) != (0, 0, u32::MAX);
        let same = self.used.bytes() == self.asked.bytes();
        let form = if more { shape::MORE } else { 0 } | if same { shape::SAME } else { 0 };
        let (asked, used) = (self.asked.bytes(), self.used.bytes());
        w[..HEAD].copy_from_slice(&self.head(form, asked.len() as u8, used.len() as u8));
        let mut at = HEAD;
        if more {
            w[at..at + MORE].copy_from_slice(&[self.cookie, self.holder, u64::from(self.uid)]);
            at += MORE;
        }
        put_bytes(&mut w[at..], asked);
        at += asked.len().div_ceil(8);
        if !same {
            put_bytes(&mut w[at..], used);
            at += used.len().div_ceil(8);
        }
        (w, at)
    }

    fn head(&self, form: u8, asked: u8, used: u8) -> [u64; HEAD] {
        [
            self.time_ns,
            two(self.pid, self.tid),
            two(self.process, self.fd as u32),
            u64::from_le_bytes([
                self.call as u8,
                self.verdict as u8,
                self.identity as u8,
                self.check as u8,
                asked,
                used,
                form,
                0,
            ]),
            four(self.flags, self.stages, self.domain, self.ty),
            four(self.protocol, self.errno, self.kernel, self.reason),
            two(self.rule, self.note),
        ]
    }

    /// Reads words that may be anything; `None` if no shim wrote them.
    #[must_use]
    pub fn from_words(w: &[u64; WORDS]) -> Option<Record> {
        let lo = |n: u64| n as u32;
        let hi = |n: u64| (n >> 32) as u32;
        let four = |n: u64| {
            [
                n as u16,
                (n >> 16) as u16,
                (n >> 32) as u16,
                (n >> 48) as u16,
            ]
        };
        let [call, verdict, identity, check, asked, used, form, 0] = w[3].to_le_bytes() else {
            return None;
        };
        let [flags, stages, domain, ty] = four(w[4]);
        let [protocol, errno, kernel, reason] = four(w[5]);
        if errno > 4095 || kernel > 4095 || form & !(shape::MORE | shape::SAME) != 0 {
            return None;
        }
        let mut rest = w.get(HEAD..)?;
        let (mut cookie, mut holder, mut uid) = (0, 0, u32::MAX);
        if form & shape::MORE != 0 {
            let more;
            (more, rest) = rest.split_at_checked(MORE)?;
            (cookie, holder, uid) = (more[0], more[1], u32::try_from(more[2]).ok()?);
        }
        let asked = get_addr(rest, asked)?;
        let used = if form & shape::SAME != 0 {
            if usize::from(used) != asked.bytes().len() {
                return None;
            }
            asked
        } else {
            get_addr(rest.get(asked.bytes().len().div_ceil(8)..)?, used)?
        };
        Some(Record {
            time_ns: w[0],
            pid: lo(w[1]),
            tid: hi(w[1]),
            process: lo(w[2]),
            fd: hi(w[2]) as i32,
            call: Call::from_u8(call)?,
            verdict: Verdict::from_u8(verdict)?,
            identity: Identity::from_u8(identity)?,
            check: Check::from_u8(check)?,
            flags,
            stages,
            domain,
            ty,
            protocol,
            errno,
            kernel,
            reason,
            rule: lo(w[6]),
            note: hi(w[6]),
            cookie,
            holder,
            uid,
            asked,
            used,
        })
    }
}

/// A call that was allowed, forwarded and granted: the common case, which
/// should cost a program little. It becomes the words of the
/// [`Record`] with the same values, without the copies.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// [`Record::time_ns`]
    pub time_ns: u64,
    /// [`Record::pid`]
    pub pid: u32,
    /// [`Record::tid`]
    pub tid: u32,
    /// [`Record::process`]
    pub process: u32,
    /// [`Record::fd`]
    pub fd: i32,
    /// [`Record::call`]
    pub call: Call,
    /// [`Record::identity`]
    pub identity: Identity,
    /// [`Record::flags`], but for [`flag::FORWARDED`], which is always set.
    pub flags: u16,
    /// [`Record::stages`], but for [`stage::FORWARD`] and [`stage::RECORD`],
    /// which are always set.
    pub stages: u16,
    /// [`Record::domain`], [`Record::ty`], [`Record::protocol`]
    pub socket: SocketType,
    /// [`Record::rule`]
    pub rule: u32,
    /// [`Record::cookie`]
    pub cookie: u64,
    /// [`Record::uid`]
    pub uid: u32,
}

impl Granted {
    /// Gives the record's words to `put`, each with its place. Without `used`
    /// the address used is the one asked for.
    #[inline(always)]
    pub fn each_word(&self, asked: &Words, used: Option<&Words>, mut put: impl FnMut(usize, u64)) {
        let (mut form, used_len) = match used {
            None => (shape::SAME, asked.len),
            Some(used) => (0, used.len),
        };
        let mut at = HEAD;
        if (self.cookie, self.uid) != (0, u32::MAX) {
            form |= shape::MORE;
            put(at, self.cookie);
            put(at + 1, 0);
            put(at + 2, u64::from(self.uid));
            at += MORE;
        }
        put(0, self.time_ns);
        put(1, two(self.pid, self.tid));
        put(2, two(self.process, self.fd as u32));
        put(
            3,
            u64::from_le_bytes([
                self.call as u8,
                Verdict::Allow as u8,
                self.identity as u8,
                Check::None as u8,
                asked.len,
                used_len,
                form,
                0,
            ]),
        );
        let flags = self.flags | flag::FORWARDED;
        let stages = self.stages | stage::FORWARD | stage::RECORD;
        put(4, four(flags, stages, self.socket.domain, self.socket.ty));
        put(5, four(self.socket.protocol, 0, 0, 0));
        put(6, two(self.rule, RULE_NONE));
        at = asked.each(at, &mut put);
        if let Some(used) = used {
            used.each(at, &mut put);
        }
    }
}

/// An IP address as the words of a record, zeros behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words {
    /// The bytes: a `struct sockaddr_in6` fits.
    pub words: [u64; 4],
    /// How many bytes, at most 32.
    pub len: u8,
}

impl Words {
    /// The meaning of the address, if the bytes are a whole `struct
    /// sockaddr_in` or `struct sockaddr_in6`.
    #[must_use]
    pub fn addr(&self) -> Option<Addr> {
        let bytes: &[u8; 32] = bytemuck::cast_ref(&self.words);
        Addr::read(bytes.get(..usize::from(self.len))?)
    }

    /// Gives the words that carry something to `put`, from place `at` on; the
    /// place behind them.
    #[inline(always)]
    fn each(&self, at: usize, put: &mut impl FnMut(usize, u64)) -> usize {
        let [a, b, c, d] = self.words;
        if self.len > 0 {
            put(at, a);
            put(at + 1, b);
        }
        if self.len > 16 {
            put(at + 2, c);
            put(at + 3, d);
        }
        at + usize::from(self.len).div_ceil(8)
    }
}

fn two(a: u32, b: u32) -> u64 {
    u64::from(a) | u64::from(b) << 32
}

fn four(a: u16, b: u16, c: u16, d: u16) -> u64 {
    two(
        u32::from(a) | u32::from(b) << 16,
        u32::from(c) | u32::from(d) << 16,
    )
}

/// How many words a record with this head has; the head may be anything.
#[must_use]
pub fn len_of(head: &[u64; HEAD]) -> usize {
    let [.., asked, used, form, _] = head[3].to_le_bytes();
    let words = |len: u8| usize::from(len).div_ceil(8);
    let more = if form & shape::MORE != 0 { MORE } else { 0 };
    let used = if form & shape::SAME != 0 {
        0
    } else {
        words(used)
    };
    (HEAD + more + words(asked) + used).min(WORDS)
}

fn put_bytes(words: &mut [u64], bytes: &[u8]) {
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut b = [0; 8];
        b[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(b);
    }
}

fn get_addr(words: &[u64], len: u8) -> Option<RawAddr> {
    RawAddr::filled(usize::from(len), |bytes| {
        for (chunk, word) in bytes.chunks_mut(8).zip(words) {
            let word = word.to_ne_bytes();
            chunk.copy_from_slice(word.get(..chunk.len()).unwrap_or(&word));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_carry_a_record() {
        let mut r = Record::new(Call::Bind);
        r.time_ns = u64::MAX;
        r.fd = -7;
        r.verdict = Verdict::Move;
        r.check = Check::Kernel;
        r.errno = 98;
        r.flags = flag::IMPLICIT | flag::FORWARDED;
        r.cookie = 0x1234_5678_9abc;
        r.asked = RawAddr::new(&[7; 110]).unwrap();
        r.used = RawAddr::new(&[9; 128]).unwrap();
        assert_eq!(Record::from_words(&r.to_words().0), Some(r));
        r.used = r.asked;
        (r.cookie, r.holder, r.uid) = (0, 0, u32::MAX);
        let (words, len) = r.to_words();
        assert_eq!(len, HEAD + 14);
        assert_eq!(Record::from_words(&words), Some(r));
        assert_eq!(len_of(words.first_chunk().unwrap()), len);
    }

    #[test]
    fn what_was_granted_reads_as_the_record_it_stands_for() {
        let granted = Granted {
            time_ns: 5,
            pid: 1,
            tid: 2,
            process: 3,
            fd: 4,
            call: Call::Bind,
            identity: Identity::Cached,
            flags: flag::RAW_SYSCALL,
            stages: stage::HOOK | stage::POLICY,
            socket: SocketType {
                domain: 10,
                ty: 1,
                protocol: 6,
            },
            rule: RULE_DEFAULT,
            cookie: 0,
            uid: u32::MAX,
        };
        let mut r = Record::new(Call::Bind);
        (r.time_ns, r.pid, r.tid, r.process, r.fd) = (5, 1, 2, 3, 4);
        (r.domain, r.ty, r.protocol) = (10, 1, 6);
        r.identity = Identity::Cached;
        r.flags = flag::RAW_SYSCALL | flag::FORWARDED;
        r.stages = stage::HOOK | stage::POLICY | stage::FORWARD | stage::RECORD;
        r.rule = RULE_DEFAULT;
        r.asked = RawAddr::new(&[7; 28]).unwrap();
        r.used = r.asked;
        let last = u64::from_ne_bytes([7, 7, 7, 7, 0, 0, 0, 0]);
        let seven = u64::from_ne_bytes([7; 8]);
        let asked = Words {
            words: [seven, seven, seven, last],
            len: 28,
        };
        let words_of = |granted: &Granted, asked: &Words, used: Option<&Words>| {
            let mut w = [0; WORDS];
            granted.each_word(asked, used, |i, word| w[i] = word);
            w
        };
        let words = |asked: &Words, used: Option<&Words>| words_of(&granted, asked, used);
        assert_eq!(words(&asked, None), r.to_words().0);
        r.used = RawAddr::new(&[9; 16]).unwrap();
        let nine = u64::from_ne_bytes([9; 8]);
        let used = Words {
            words: [nine, nine, 0, 0],
            len: 16,
        };
        assert_eq!(words(&asked, Some(&used)), r.to_words().0);
        (r.cookie, r.uid) = (77, 0);
        let known = Granted {
            cookie: 77,
            uid: 0,
            ..granted
        };
        assert_eq!(words_of(&known, &asked, Some(&used)), r.to_words().0);
        (r.cookie, r.uid) = (0, u32::MAX);
        (r.asked, r.used) = (RawAddr::EMPTY, RawAddr::EMPTY);
        assert_eq!(words(&Words::default(), None), r.to_words().0);
    }

    #[test]
    fn what_no_shim_wrote_is_no_record() {
        let (good, len) = Record::new(Call::Socket).to_words();
        assert_eq!(len, HEAD);
        for (word, value) in [
            (3, 0xff),
            (3, 0xff << 8),
            (3, 129 << 32),
            (3, 4 << 48),
            (3, 1 << 40 | 2 << 48),
            (5, 5000 << 16),
        ] {
            let mut w = good;
            w[word] = value;
            assert_eq!(Record::from_words(&w), None, "{word} {value:#x}");
        }
    }
}
