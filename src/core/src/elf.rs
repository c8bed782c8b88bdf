//! Can this executable be seen at all?
//!
//! `LD_PRELOAD` works through the dynamic loader of one libc and for
//! programs that make their system calls through that libc. [`Classifier`]
//! says from a file's bytes whether a program is one of them. It does no I/O:
//! it says which bytes it wants next, so that the launcher, the exec hook (on
//! a stack buffer) and a test can feed it alike.
//!
//! ```
//! use bindgate_core::elf::{Class, Classifier, Host, Step};
//! # fn pread(_: u64, _: &mut [u8]) -> usize { 0 }
//! let mut buffer = [0; Classifier::CHUNK];
//! let mut it = Classifier::new(Host::THIS);
//! let class = loop {
//!     match it.step() {
//!         Step::Read { offset, len } => {
//!             let n = pread(offset, &mut buffer[..len]);
//!             it.feed(&buffer[..n]);
//!         }
//!         Step::Done(class) => break class,
//!     }
//! };
//! assert_eq!(class, Class::NotElf);
//! ```

use core::ops::Range;

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $why:literal, $advice:literal;)*) => {
        /// What kind of executable a file is, as far as a preload is
        /// concerned. The numbers are stable: they are the `reason` of
        /// records about programs that cannot be seen.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Class { $($(#[$doc])* $variant = $number,)* }

        impl Class {
            /// Every class, in the order of its number.
            pub const ALL: &'static [Class] = &[$(Class::$variant,)*];

            /// The name in the log.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Class::$variant => $name,)* }
            }

            /// What it means, as the end of the sentence "the program …".
            #[must_use]
            pub const fn why(self) -> &'static str {
                match self { $(Class::$variant => $why,)* }
            }

            /// What can be done about it; empty where there is nothing to do.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Class::$variant => $advice,)* }
            }

            /// The class with this number.
            #[must_use]
            pub fn from_u16(n: u16) -> Option<Class> {
                Self::ALL.get(usize::from(n)).copied()
            }
        }
    };
}

classes! {
    /// Loaded by this libc's dynamic loader: can be seen.
    Visible = 0, "visible", "is loaded by the dynamic loader and can be seen", "";
    /// No dynamic loader.
    Static = 1, "static", "is linked statically: no dynamic loader runs, so no library can be preloaded",
        "use a dynamically linked build of it";
    /// Made by the Go toolchain.
    Go = 2, "go", "is a Go program: its sockets are made by system calls of its own, not through libc",
        "there is no build of it that goes through libc; give it a network name space or an address of its own instead";
    /// A dynamic loader that is not this libc's.
    OtherLibc = 3, "other-libc", "is loaded by another C library than the one that bindgate was built for",
        "build bindgate for that C library and point BINDGATE_LIBRARY at it, or use a build of the program for this one";
    /// Another class, byte order or machine.
    WrongArch = 4, "wrong-arch", "is built for another processor architecture or word size than bindgate",
        "build bindgate for that architecture and point BINDGATE_LIBRARY at it";
    /// Starts with `#!`: what counts is its interpreter.
    Script = 5, "script", "is a script: its interpreter decides whether it can be seen", "";
    /// Neither ELF nor script.
    NotElf = 6, "not-elf", "is neither an ELF executable nor a `#!` script", "";
    /// Changes its user or group when it starts.
    Setuid = 7, "setuid", "has the set-user-ID or set-group-ID bit: the loader then drops LD_PRELOAD",
        "start it as the user that it would become, or start a copy of it without the bit";
    /// Gains capabilities from its file when it starts.
    FileCaps = 8, "file-caps", "has file capabilities: the loader then drops LD_PRELOAD",
        "start a copy of it without them (`cp` drops them); for low ports a `move` rule needs no capability";
    /// Cannot be read, so nothing is known.
    Unreadable = 9, "unreadable", "cannot be read, so it is not known whether it can be seen",
        "make it readable for the user who starts it";
    /// The library cannot be loaded where the program runs.
    OutOfReach = 10, "out-of-reach", "cannot load the bindgate library: it is not readable where the program runs",
        "install the library where every user can read it (scripts/install)";
}

impl Class {
    /// Does a preload reach it? `Script` and `NotElf` count as seen: their
    /// interpreters are asked about separately.
    #[must_use]
    pub const fn is_seen(self) -> bool {
        matches!(self, Class::Visible | Class::Script | Class::NotElf)
    }
}

/// The libc that the library was built for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Libc {
    /// The GNU C library.
    Glibc,
    /// musl.
    Musl,
}

/// What programs must be built for to be seen.
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

/// Where the interpreter and its argument stand in a script's first line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shebang {
    /// The interpreter's path.
    pub interpreter: Range<usize>,
    /// The one argument, which may hold blanks.
    pub argument: Option<Range<usize>>,
}

/// Reads a `#!` line as `load_script` of Linux does: at most 256 bytes, one
/// argument, blanks around both dropped.
#[must_use]
pub fn shebang(head: &[u8]) -> Option<Shebang> {
    const LIMIT: usize = 256;
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let head = head.get(..head.len().min(LIMIT))?;
    let line = head.strip_prefix(b"#!")?;
    let end = line
        .iter()
        .position(|b| matches!(b, b'\n' | 0))
        .unwrap_or(line.len());
    let line = line.get(..end)?;
    let start = line.iter().position(|b| !blank(b))?;
    let line = line.get(..line.iter().rposition(|b| !blank(b))? + 1)?;
    let path_end = line
        .get(start..)?
        .iter()
        .position(blank)
        .map_or(line.len(), |n| start + n);
    // A path that the limit cut off is no path.
    if end + 2 == LIMIT && path_end == line.len() {
        return None;
    }
    let argument = line
        .get(path_end..)?
        .iter()
        .position(|b| !blank(b))
        .map(|n| path_end + n + 2..line.len() + 2);
    Some(Shebang {
        interpreter: start + 2..path_end + 2,
        argument,
    })
}

/// Do these mode bits make the loader drop `LD_PRELOAD`? The bits count for
/// nothing if the ids are the caller's already (`bprm_fill_uid`); the caller
/// says so in `uid` and `gid`, its real ids.
#[must_use]
pub const fn changes_ids(mode: u32, owner: u32, group: u32, uid: u32, gid: u32) -> bool {
    const SETUID: u32 = 0o4000;
    const SETGID: u32 = 0o2010;
    mode & SETUID != 0 && owner != uid || mode & SETGID == SETGID && group != gid
}

/// What a [`Classifier`] wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Feed it what the file holds here, at most `len` bytes.
    Read {
        /// Offset in the file.
        offset: u64,
        /// Bytes wanted, at most [`Classifier::CHUNK`].
        len: usize,
    },
    /// It knows.
    Done(Class),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    Head,
    Headers,
    Interpreter,
    Notes(usize),
    Done(Class),
}

/// Classifies one file, step by step.
#[derive(Clone, Debug)]
pub struct Classifier {
    host: Host,
    want: Want,
    offset: u64,
    len: usize,
    headers: usize,
    interpreter: Option<(u64, usize)>,
    notes: [(u64, usize); Self::NOTES],
    /// The class if no note says Go.
    found: Class,
}

impl Classifier {
    /// Most bytes asked for at a time.
    pub const CHUNK: usize = 4096;
    /// Note segments looked at; executables have two or three.
    const NOTES: usize = 4;

    /// Starts with the file's first bytes.
    #[must_use]
    pub const fn new(host: Host) -> Classifier {
        Classifier {
            host,
            want: Want::Head,
            offset: 0,
            len: Self::CHUNK,
            headers: 0,
            interpreter: None,
            notes: [(0, 0); Self::NOTES],
            found: Class::Static,
        }
    }

    /// What it wants next.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self.want {
            Want::Done(class) => Step::Done(class),
            _ => Step::Read {
                offset: self.offset,
                len: self.len,
            },
        }
    }

    /// Takes the bytes that [`Step::Read`] asked for: fewer at the file's end.
    pub fn feed(&mut self, bytes: &[u8]) {
        match self.want {
            Want::Head => self.head(bytes),
            Want::Headers => self.program_headers(bytes),
            Want::Interpreter => {
                let path = bytes.split(|b| *b == 0).next().unwrap_or(bytes);
                self.found = if self.host.loads(path) {
                    Class::Visible
                } else {
                    Class::OtherLibc
                };
                self.note(0);
            }
            Want::Notes(n) => {
                if self.is_go(bytes) {
                    self.want = Want::Done(Class::Go);
                } else {
                    self.note(n + 1);
                }
            }
            Want::Done(_) => {}
        }
    }

    fn ask(&mut self, want: Want, offset: u64, len: usize) {
        self.want = want;
        self.offset = offset;
        self.len = len.min(Self::CHUNK);
    }

    fn head(&mut self, b: &[u8]) {
        self.want = Want::Done(match b {
            [b'#', b'!', ..] => Class::Script,
            [0x7f, b'E', b'L', b'F', class, data, ..] => {
                if (*class, *data) != (self.host.class, self.host.data)
                    || self.host.machine != 0 && self.half(b, 18) != Some(self.host.machine)
                {
                    Class::WrongArch
                } else if let Some((offset, size, count)) = self.table(b) {
                    self.headers = size;
                    let len = size * count;
                    self.ask(Want::Headers, offset, len);
                    let here = offset as usize..(offset as usize).saturating_add(self.len);
                    if let Some(found) = b.get(here) {
                        self.program_headers(found);
                    }
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
        const PT_INTERP: u32 = 3;
        const PT_NOTE: u32 = 4;
        let mut notes = 0;
        for header in b.chunks_exact(self.headers.max(1)) {
            let place = if self.host.class == 2 {
                self.long(header, 8).zip(self.long(header, 32))
            } else {
                let wide = |n: Option<u32>| n.map(u64::from);
                wide(self.int(header, 4)).zip(wide(self.int(header, 16)))
            };
            let Some((offset, len)) = place else { break };
            let place = (offset, usize::try_from(len).unwrap_or(usize::MAX));
            match self.int(header, 0) {
                Some(PT_INTERP) => self.interpreter = Some(place),
                Some(PT_NOTE) => {
                    if let Some(note) = self.notes.get_mut(notes) {
                        *note = place;
                        notes += 1;
                    }
                }
                _ => {}
            }
        }
        match self.interpreter {
            Some((offset, len)) => self.ask(Want::Interpreter, offset, len),
            None => self.note(0),
        }
    }

    fn note(&mut self, n: usize) {
        match self.notes.get(n) {
            Some((_, 0)) | None => self.want = Want::Done(self.found),
            Some(&(offset, len)) => self.ask(Want::Notes(n), offset, len),
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
        let b = b.get(at..at + 2)?.try_into().ok()?;
        Some(if self.host.data == 2 {
            u16::from_be_bytes(b)
        } else {
            u16::from_le_bytes(b)
        })
    }

    fn int(&self, b: &[u8], at: usize) -> Option<u32> {
        let b = b.get(at..at + 4)?.try_into().ok()?;
        Some(if self.host.data == 2 {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        })
    }

    fn long(&self, b: &[u8], at: usize) -> Option<u64> {
        let b = b.get(at..at + 8)?.try_into().ok()?;
        Some(if self.host.data == 2 {
            u64::from_be_bytes(b)
        } else {
            u64::from_le_bytes(b)
        })
    }
}

#[cfg(test)]
mod tests;
