//! Records as words, and back.

use super::{Call, Check, Identity, RULE_NONE, Record, Verdict, flag, stage};
use crate::addr::{Addr, RawAddr, STORAGE};
use crate::socket::{BindOptions, SocketType};

/// Words of a record, at most.
pub const WORDS: usize = HEAD + MORE + 2 * ADDR_WORDS;
/// Words that every record has. Together with the ring's claim they are one
/// cache line.
pub const HEAD: usize = 7;
/// Words that follow where [`Record::cookie`], [`Record::holder`],
/// [`Record::uid`] or [`Record::device`] say something.
const MORE: usize = 3;
const ADDR_WORDS: usize = STORAGE / 8;

/// Bits of the shape, which says what follows the head.
mod shape {
    /// Cookie, holder, user and device.
    pub const MORE: u8 = 1;
    /// The address used is the one asked for, and is not there twice.
    pub const SAME: u8 = 1 << 1;
}

impl Record {
    /// The record as words, and how many there are.
    #[must_use]
    pub fn to_words(&self) -> ([u64; WORDS], usize) {
        let mut w = [0; WORDS];
        let len = self.each_word(|i, word| {
            if let Some(to) = w.get_mut(i) {
                *to = word;
            }
        });
        (w, len)
    }

    /// Gives the record's words to `put`, each with its place; how many there
    /// are.
    #[inline]
    pub fn each_word(&self, mut put: impl FnMut(usize, u64)) -> usize {
        let more = (self.cookie, self.holder, self.uid, self.device) != (0, 0, u32::MAX, 0);
        let same = self.used.bytes() == self.asked.bytes();
        let form = if more { shape::MORE } else { 0 } | if same { shape::SAME } else { 0 };
        let len = |addr: &RawAddr| addr.bytes().len() as u8;
        let mut at = 0;
        let mut next = |word| {
            put(at, word);
            at += 1;
        };
        for word in self.head(form, len(&self.asked), len(&self.used)) {
            next(word);
        }
        if more {
            next(self.cookie);
            next(self.holder);
            next(two(self.uid, self.device));
        }
        self.asked.words().for_each(&mut next);
        if !same {
            self.used.words().for_each(&mut next);
        }
        at
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
                self.options.0,
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
        let [call, verdict, identity, check, asked, used, form, options] = w[3].to_le_bytes();
        let [flags, stages, domain, ty] = four(w[4]);
        let [protocol, errno, kernel, reason] = four(w[5]);
        if errno > 4095 || kernel > 4095 || form & !(shape::MORE | shape::SAME) != 0 {
            return None;
        }
        let mut rest = w.get(HEAD..)?;
        let (mut cookie, mut holder, mut uid, mut device) = (0, 0, u32::MAX, 0);
        if form & shape::MORE != 0 {
            let more;
            (more, rest) = rest.split_at_checked(MORE)?;
            (cookie, holder) = (more[0], more[1]);
            (uid, device) = (lo(more[2]), hi(more[2]));
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
            options: BindOptions(options),
            device,
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
    /// [`Record::options`]
    pub options: BindOptions,
    /// [`Record::device`]
    pub device: u32,
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
        if (self.cookie, self.uid, self.device) != (0, u32::MAX, 0) {
            form |= shape::MORE;
            put(at, self.cookie);
            put(at + 1, 0);
            put(at + 2, two(self.uid, self.device));
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
                self.options.0,
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
    /// The address family, where there are bytes.
    #[must_use]
    #[inline]
    pub fn family(&self) -> u16 {
        let [first, ..] = self.words;
        let [a, b, ..] = first.to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    /// The port of an IP address.
    #[must_use]
    #[inline]
    pub fn port(&self) -> u16 {
        let [first, ..] = self.words;
        let [_, _, a, b, ..] = first.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

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
    use crate::record::RULE_DEFAULT;

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
        (r.options, r.device) = (BindOptions(u8::MAX), 7);
        r.asked = RawAddr::new(&[7; 110]).unwrap();
        r.used = RawAddr::new(&[9; 128]).unwrap();
        assert_eq!(Record::from_words(&r.to_words().0), Some(r));
        r.used = r.asked;
        (r.cookie, r.holder, r.uid, r.device) = (0, 0, u32::MAX, 0);
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
            options: BindOptions(BindOptions::REUSEADDR),
            device: 0,
        };
        let mut r = Record::new(Call::Bind);
        r.options = granted.options;
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
        (r.cookie, r.uid, r.device) = (77, 0, 5);
        let known = Granted {
            cookie: 77,
            uid: 0,
            device: 5,
            ..granted
        };
        assert_eq!(words_of(&known, &asked, Some(&used)), r.to_words().0);
        (r.cookie, r.uid, r.device) = (0, u32::MAX, 0);
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
