//! What kinds of executables there are, as far as a preload is concerned, and
//! the words that doctor, run and the log use for them.

macro_rules! classes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $why:literal, $advice:literal;)*) => {
        /// What kind of executable a file is, as far as a preload is
        /// concerned. The numbers are stable: they are the `reason` of
        /// records about programs that cannot be intercepted.
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
    /// This libc's dynamic loader loads it, and the library with it.
    Intercepted = 0, "intercepted", "is loaded by the dynamic loader and can be intercepted", "";
    /// No dynamic loader.
    Static = 1, "static", "is linked statically: no dynamic loader runs, so no library can be preloaded",
        "use a dynamically linked build of it";
    /// Made by the Go toolchain.
    Go = 2, "go", "is a Go program: its sockets are made by system calls of its own, not through libc",
        "there is no build of it that goes through libc; give it a network namespace or an address of its own instead";
    /// A dynamic loader that is not this libc's.
    OtherLibc = 3, "other-libc", "is loaded by another C library than the one that bindgate was built for",
        "build bindgate for that C library and point BINDGATE_LIBRARY at it, or use a build of the program for this one";
    /// Another class, byte order or machine.
    WrongArch = 4, "wrong-arch", "is built for another processor architecture or word size than bindgate",
        "build bindgate for that architecture and point BINDGATE_LIBRARY at it";
    /// Starts with `#!`: its interpreter decides.
    Script = 5, "script", "is a script: its interpreter decides whether it can be intercepted", "";
    /// Neither ELF nor script.
    NotElf = 6, "not-elf", "is neither an ELF executable nor a `#!` script", "";
    /// Its set-user-ID or set-group-ID bit changes an ID when it starts.
    Setuid = 7, "setuid", "has the set-user-ID or set-group-ID bit: the loader then drops LD_PRELOAD",
        "start it as the user that it would become, or start a copy of it without the bit";
    /// It gains capabilities from its file when it starts.
    FileCaps = 8, "file-caps", "has file capabilities: the loader then drops LD_PRELOAD",
        "start a copy of it without them (`cp` drops them); for low ports a `move` rule needs no capability";
    /// It cannot be read, so nothing is known.
    Unreadable = 9, "unreadable", "cannot be read, so it is not known whether it can be intercepted",
        "make it readable for the user who starts it";
    /// The library cannot be loaded where the program runs.
    OutOfReach = 10, "out-of-reach", "cannot load the bindgate library: it is not readable where the program runs",
        "install the library where every user can read it (scripts/install)";
    /// The dynamic loader itself, run as a program.
    Loader = 11, "loader", "is the dynamic loader: the program that it is told to run decides whether it can be intercepted", "";
    /// The real and the effective IDs differ when it starts.
    Privileged = 12, "privileged", "is started by a process whose effective user or group is not its real one: the loader then drops LD_PRELOAD",
        "let that process give up its real or its effective ID before it starts the program (setresuid)";
}

impl Class {
    /// Does a preload reach it? A script, a file that is no executable and the
    /// loader count as reached: another file decides there, and it is asked
    /// about separately.
    #[must_use]
    pub const fn is_intercepted(self) -> bool {
        matches!(
            self,
            Class::Intercepted | Class::Script | Class::NotElf | Class::Loader
        )
    }
}
