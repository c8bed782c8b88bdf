//! What an executable's bytes say: whose loader loads it, if any.
//!
//! [`Classifier`] says which bytes of the file it wants next, so that the
//! launcher, the exec hook (on a stack buffer) and a test can feed it alike.

use super::Class;

/// The libc that the library was built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Libc {
    /// The GNU C library.
    Glibc,
    /// musl.
    Musl,
}

/// What programs must be built for to be intercepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// `EI_CLASS`: 1 for 32 bits, 2 for 64.
    pub class: u8,
    /// `EI_DATA`: 1 for little endian, 2 for big.
    pub data: u8,
    /// `e_machine`; 0 matches every machine.
    pub machine: u16,
    /// Whose loader it must be.
    pub libc: Libc,
}

impl Host {
    /// What this crate is built for.
    pub const THIS: Host = Host {
        class: if cfg!(target_pointer_width = "64") {
            2
        } else {
            1
        },
        data: if cfg!(target_endian = "little") { 1 } else { 2 },
        machine: if cfg!(target_arch = "x86_64") {
            62
        } else if cfg!(target_arch = "aarch64") {
            183
        } else if cfg!(target_arch = "x86") {
            3
        } else if cfg!(target_arch = "arm") {
            40
        } else if cfg!(target_arch = "riscv64") {
            243
        } else if cfg!(target_arch = "powerpc64") {
            21
        } else if cfg!(target_arch = "s390x") {
            22
        } else if cfg!(target_arch = "loongarch64") {
            258
        } else {
            0
        },
        libc: if cfg!(target_env = "musl") {
            Libc::Musl
        } else {
            Libc::Glibc
        },
    };

    /// Is `interpreter` (the path in `PT_INTERP`) the loader of this libc?
    fn loads(&self, interpreter: &[u8]) -> bool {
        let name = interpreter
            .rsplit(|b| *b == b'/')
            .next()
            .unwrap_or(interpreter);
        let musl = name.starts_with(b"ld-musl");
        match self.libc {
            Libc::Musl => musl,
            // `ld-linux-x86-64.so.2`, `ld64.so.2`, `ld.so.1`, `ld-2.31.so`
            Libc::Glibc => {
                !musl
                    && [&b"ld-linux"[..], b"ld64.so", b"ld.so", b"ld-2."]
                        .iter()
                        .any(|p| name.starts_with(p))
            }
        }
    }
}

/// What a [`Classifier`] wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Feed it what the file holds here, at most `len` bytes.
    Bytes {
        /// Offset in the file.
        offset: u64,
        /// Bytes wanted, at most [`Classifier::CHUNK`].
        len: usize,
    },
    /// It knows.
    Nothing(Class),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Head,
    Headers,
    Interpreter,
    Dynamic,
    Soname,
    Notes(usize),
    Done(Class),
}

/// A segment as far as it lies in the file.
#[derive(Clone, Copy, Debug)]
struct Segment {
    offset: u64,
    address: u64,
    len: u64,
}

impl Segment {
    const NONE: Segment = Segment {
        offset: 0,
        address: 0,
        len: 0,
    };
}

/// Classifies one file, step by step.
#[derive(Clone, Debug)]
pub struct Classifier {
    host: Host,
    state: State,
    offset: u64,
    len: usize,
    headers: usize,
    interpreter: Option<Segment>,
    dynamic: Option<Segment>,
    loads: [Segment; Self::LOADS],
    notes: [Segment; Self::NOTES],
    /// The class if no note says Go.
    found: Class,
}

impl Classifier {
    /// Most bytes asked for at a time: the headers, the interpreter and the
    /// notes of an ordinary executable are in the first so many.
    pub const CHUNK: usize = 1024;
    /// Note segments looked at; executables have two or three.
    const NOTES: usize = 4;
    /// Loaded segments looked at for the loader's own name, which is in the first.
    const LOADS: usize = 2;

    /// Starts with the file's first bytes.
    #[must_use]
    pub const fn new(host: Host) -> Classifier {
        Classifier {
            host,
            state: State::Head,
            offset: 0,
            len: Self::CHUNK,
            headers: 0,
            interpreter: None,
            dynamic: None,
            loads: [Segment::NONE; Self::LOADS],
            notes: [Segment::NONE; Self::NOTES],
            found: Class::Static,
        }
    }

    /// What it wants next.
    #[must_use]
    pub const fn want(&self) -> Want {
        match self.state {
            State::Done(class) => Want::Nothing(class),
            _ => Want::Bytes {
                offset: self.offset,
                len: self.len,
            },
        }
    }

    /// Takes the bytes that [`Want::Bytes`] asked for: fewer at the file's end.
    pub fn feed(&mut self, bytes: &[u8]) {
        let from = self.offset;
        self.take(bytes);
        // What is among them need not be read again. There are no more states
        // than that to go through.
        for _ in 0..8 {
            let here = self
                .offset
                .checked_sub(from)
                .and_then(|n| usize::try_from(n).ok());
            let part = here
                .and_then(|at| bytes.get(at..))
                .and_then(|rest| rest.get(..self.len));
            match (self.state, part) {
                (State::Done(_), _) | (_, None) => return,
                (_, Some(part)) => self.take(part),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        match self.state {
            State::Head => self.head(bytes),
            State::Headers => self.program_headers(bytes),
            State::Interpreter => {
                self.found = if self.host.loads(up_to_nul(bytes)) {
                    Class::Intercepted
                } else {
                    Class::OtherLibc
                };
                self.note(0);
            }
            State::Dynamic => match self.soname(bytes) {
                Some(at) => self.ask(State::Soname, at, Self::SONAME),
                None => self.note(0),
            },
            State::Soname => {
                if self.host.loads(up_to_nul(bytes)) {
                    self.found = Class::Loader;
                }
                self.note(0);
            }
            State::Notes(n) => {
                if self.is_go(bytes) {
                    self.state = State::Done(Class::Go);
                } else {
                    self.note(n + 1);
                }
            }
            State::Done(_) => {}
        }
    }

    /// Bytes read of a library's name.
    const SONAME: u64 = 64;

    fn ask(&mut self, state: State, offset: u64, len: u64) {
        self.state = state;
        self.offset = offset;
        self.len = usize::try_from(len).unwrap_or(usize::MAX).min(Self::CHUNK);
    }

    fn head(&mut self, b: &[u8]) {
        self.state = State::Done(match b {
            [b'#', b'!', ..] => Class::Script,
            [0x7f, b'E', b'L', b'F', class, data, ..] => {
                if (*class, *data) != (self.host.class, self.host.data)
                    || self.host.machine != 0 && self.half(b, 18) != Some(self.host.machine)
                {
                    Class::WrongArch
                } else if let Some((offset, size, count)) = self.table(b) {
                    self.headers = size;
                    self.ask(State::Headers, offset, (size * count) as u64);
                    return;
                } else {
                    Class::NotElf
                }
            }
            _ => Class::NotElf,
        });
    }

    /// Offset, entry size and number of the program headers.
    fn table(&self, b: &[u8]) -> Option<(u64, usize, usize)> {
        let (offset, at, least) = if self.host.class == 2 {
            (self.long(b, 32)?, 54, 56)
        } else {
            (u64::from(self.int(b, 28)?), 42, 32)
        };
        let size = usize::from(self.half(b, at)?);
        let count = usize::from(self.half(b, at + 2)?);
        (size >= least && size <= 256 && count > 0).then_some((offset, size, count))
    }

    fn program_headers(&mut self, b: &[u8]) {
        const PT_LOAD: u32 = 1;
        const PT_DYNAMIC: u32 = 2;
        const PT_INTERP: u32 = 3;
        const PT_NOTE: u32 = 4;
        let (mut loads, mut notes) = (self.loads.iter_mut(), self.notes.iter_mut());
        let reader = Reader(self.host);
        for header in b.chunks_exact(self.headers.max(1)) {
            let Some(segment) = reader.segment(header) else {
                break;
            };
            match reader.int(header, 0) {
                Some(PT_LOAD) => {
                    if let Some(to) = loads.next() {
                        *to = segment;
                    }
                }
                Some(PT_DYNAMIC) => self.dynamic = Some(segment),
                Some(PT_INTERP) => self.interpreter = Some(segment),
                Some(PT_NOTE) => {
                    if let Some(to) = notes.next() {
                        *to = segment;
                    }
                }
                _ => {}
            }
        }
        match (self.interpreter, self.dynamic) {
            (Some(at), _) => self.ask(State::Interpreter, at.offset, at.len),
            (None, Some(at)) => self.ask(State::Dynamic, at.offset, at.len),
            (None, None) => self.note(0),
        }
    }

    /// Where the file has the name that a dynamic section gives it as a library.
    fn soname(&self, b: &[u8]) -> Option<u64> {
        const DT_STRTAB: u64 = 5;
        const DT_SONAME: u64 = 14;
        let reader = Reader(self.host);
        let (mut strings, mut name) = (None, None);
        let size = if self.host.class == 2 { 16 } else { 8 };
        // Never 0, which the compiler sees only so.
        for entry in b.chunks_exact(size.max(1)) {
            match reader.pair(entry) {
                Some((DT_STRTAB, at)) => strings = Some(at),
                Some((DT_SONAME, at)) => name = Some(at),
                _ => {}
            }
        }
        let (strings, name) = (strings?, name?);
        let at = strings.checked_add(name)?;
        let load = self.loads.iter().find(|l| {
            at.checked_sub(l.address)
                .is_some_and(|behind| behind < l.len)
        })?;
        load.offset.checked_add(at - load.address)
    }

    fn note(&mut self, n: usize) {
        match self.notes.get(n) {
            None | Some(Segment { len: 0, .. }) => self.state = State::Done(self.found),
            Some(&Segment { offset, len, .. }) => self.ask(State::Notes(n), offset, len),
        }
    }

    /// Is one of these notes the Go linker's build id (name `Go`, type 4)?
    fn is_go(&self, mut b: &[u8]) -> bool {
        while let (Some(name), Some(desc), Some(kind)) =
            (self.int(b, 0), self.int(b, 4), self.int(b, 8))
        {
            if kind == 4 && b.get(12..16) == Some(b"Go\0\0") {
                return true;
            }
            let round = |n: u32| (n as usize).saturating_add(3) & !3;
            let next = round(name).saturating_add(round(desc)).saturating_add(12);
            let Some(rest) = b.get(next..) else { break };
            b = rest;
        }
        false
    }

    fn half(&self, b: &[u8], at: usize) -> Option<u16> {
        Reader(self.host).half(b, at)
    }

    fn int(&self, b: &[u8], at: usize) -> Option<u32> {
        Reader(self.host).int(b, at)
    }

    fn long(&self, b: &[u8], at: usize) -> Option<u64> {
        Reader(self.host).long(b, at)
    }
}

fn up_to_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or(bytes)
}

/// Numbers in the byte order and the word size of the host.
#[derive(Clone, Copy)]
struct Reader(Host);

impl Reader {
    fn half(self, b: &[u8], at: usize) -> Option<u16> {
        let b = b.get(at..at + 2)?.try_into().ok()?;
        Some(if self.0.data == 2 {
            u16::from_be_bytes(b)
        } else {
            u16::from_le_bytes(b)
        })
    }

    fn int(self, b: &[u8], at: usize) -> Option<u32> {
        let b = b.get(at..at + 4)?.try_into().ok()?;
        Some(if self.0.data == 2 {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        })
    }

    fn long(self, b: &[u8], at: usize) -> Option<u64> {
        let b = b.get(at..at + 8)?.try_into().ok()?;
        Some(if self.0.data == 2 {
            u64::from_be_bytes(b)
        } else {
            u64::from_le_bytes(b)
        })
    }

    /// A number as wide as an address.
    fn word(self, b: &[u8], at: usize) -> Option<u64> {
        if self.0.class == 2 {
            self.long(b, at)
        } else {
            self.int(b, at).map(u64::from)
        }
    }

    /// Offset, address and length in the file of a program header.
    fn segment(self, header: &[u8]) -> Option<Segment> {
        let (offset, address, len) = if self.0.class == 2 {
            (8, 16, 32)
        } else {
            (4, 8, 16)
        };
        Some(Segment {
            offset: self.word(header, offset)?,
            address: self.word(header, address)?,
            len: self.word(header, len)?,
        })
    }

    /// Tag and value of an entry of a dynamic section.
    fn pair(self, entry: &[u8]) -> Option<(u64, u64)> {
        let half = entry.len() / 2;
        Some((self.word(entry, 0)?, self.word(entry, half)?))
    }
}
