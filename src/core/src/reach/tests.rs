use super::*;
use crate::policy::{ExecRuling, Says};
use core::ops::Range;
use std::vec::Vec;

const X86_64: Host = Host {
    class: 2,
    data: 1,
    machine: 62,
    libc: Libc::Glibc,
};

/// An x86-64 executable with these segments, its headers at `headers`.
fn elf(headers: usize, segments: &[(u32, &[u8])]) -> Vec<u8> {
    let mut f = std::vec![0u8; headers];
    f[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
    f[18] = 62;
    f[32..40].copy_from_slice(&(headers as u64).to_le_bytes());
    f[54] = 56;
    f[56] = segments.len() as u8;
    let mut data: Vec<u8> = Vec::new();
    for (kind, bytes) in segments {
        let mut header = [0u8; 56];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        let at = headers + 56 * segments.len() + data.len();
        header[8..16].copy_from_slice(&(at as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        f.extend(header);
        data.extend(*bytes);
    }
    f.extend(data);
    f
}

/// A shared object without an interpreter that is called so.
fn loader(name: &[u8]) -> Vec<u8> {
    let mut strings = std::vec![0u8; 4];
    strings.extend(name);
    strings.push(0);
    let entries = |at: u64| {
        let pairs = [(14, 4), (5, at), (0, 0)];
        let words = pairs.iter().flat_map(|&(tag, value)| [tag, value]);
        words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()
    };
    // The strings follow two headers and the entries; addresses are offsets
    // and a page more.
    let at = (64 + 2 * 56 + entries(0).len()) as u64;
    let mut file = elf(64, &[(2, &entries(at + 0x1000)), (1, &strings)]);
    file[64 + 56 + 16..64 + 56 + 24].copy_from_slice(&(at + 0x1000).to_le_bytes());
    file
}

fn classify(host: Host, file: &[u8]) -> Class {
    let mut it = Classifier::new(host);
    for _ in 0..20 {
        match it.want() {
            Want::Nothing(class) => return class,
            Want::Bytes { offset, len } => {
                let from = (offset as usize).min(file.len());
                let to = (from + len).min(file.len());
                it.feed(&file[from..to]);
            }
        }
    }
    panic!("no end");
}

const GO: &[u8] = b"\x04\0\0\0\x04\0\0\0\x04\0\0\0Go\0\0abcd";
const GNU: &[u8] = b"\x04\0\0\0\x02\0\0\0\x03\0\0\0GNU\0ab\0\0";
const LD: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";

#[test]
fn executables_are_told_apart() {
    let both = [GNU, GO].concat();
    for (file, want) in [
        (elf(64, &[(3, LD)]), Class::Intercepted),
        (elf(64, &[(6, b""), (3, LD), (4, GNU)]), Class::Intercepted),
        (elf(9000, &[(3, LD)]), Class::Intercepted),
        (
            elf(64, &[(3, b"/nix/store/x/ld-2.31.so\0")]),
            Class::Intercepted,
        ),
        (elf(64, &[(1, b"code")]), Class::Static),
        (elf(64, &[(4, GNU)]), Class::Static),
        (loader(b"ld-linux-x86-64.so.2"), Class::Loader),
        (loader(b"libm.so.6"), Class::Static),
        (loader(b"ld-musl-x86_64.so.1"), Class::Static),
        (elf(64, &[(4, GO)]), Class::Go),
        (elf(9000, &[(4, GNU), (4, GO)]), Class::Go),
        (elf(64, &[(3, LD), (4, &both)]), Class::Go),
        (
            elf(64, &[(3, b"/lib/ld-musl-x86_64.so.1\0")]),
            Class::OtherLibc,
        ),
        (elf(64, &[(3, b"/system/bin/linker64\0")]), Class::OtherLibc),
        (b"#!/bin/sh\n".to_vec(), Class::Script),
        (b"\x7fELF".to_vec(), Class::NotElf),
        (elf(64, &[])[..40].to_vec(), Class::NotElf),
        (Vec::new(), Class::NotElf),
    ] {
        assert_eq!(classify(X86_64, &file), want, "{file:?}");
    }
    let mut arm = elf(64, &[(3, LD)]);
    arm[18] = 183;
    assert_eq!(classify(X86_64, &arm), Class::WrongArch);
    let mut narrow = elf(64, &[(3, LD)]);
    narrow[4] = 1;
    assert_eq!(classify(X86_64, &narrow), Class::WrongArch);
}

#[test]
fn torn_and_lying_files_end() {
    for file in [elf(64, &[(3, LD), (4, GO), (4, GNU)]), loader(b"ld.so.1")] {
        for cut in 0..file.len() {
            classify(X86_64, &file[..cut]);
            let mut lie = file.clone();
            lie[cut] = 0xff;
            classify(X86_64, &lie);
        }
    }
}

#[test]
fn this_test_can_be_intercepted_if_it_is_dynamic() {
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let want = if cfg!(target_feature = "crt-static") {
        Class::Static
    } else {
        Class::Intercepted
    };
    assert_eq!(classify(Host::THIS, &file), want);
}

#[test]
fn shebangs_are_read_as_the_kernel_reads_them() {
    let read = |line: &[u8]| {
        let s = shebang(line)?;
        let text = |r: Range<usize>| std::string::String::from_utf8_lossy(&line[r]).into_owned();
        Some((text(s.interpreter), s.argument.map(text)))
    };
    let is = |a: &str, b: Option<&str>| Some((a.into(), b.map(Into::into)));
    assert_eq!(read(b"#!/bin/sh\necho"), is("/bin/sh", None));
    assert_eq!(
        read(b"#! \t/usr/bin/env  -S a b \n"),
        is("/usr/bin/env", Some("-S a b"))
    );
    assert_eq!(read(b"#!/bin/sh"), is("/bin/sh", None));
    for bad in [&b"#!"[..], b"#!\n", b"#!  \n/bin/sh", b"#/bin/sh", b""] {
        assert_eq!(read(bad), None);
    }
    let mut long = b"#!/".to_vec();
    long.resize(300, b'a');
    assert_eq!(read(&long), None);
}

#[test]
fn numbers_are_stable() {
    for (n, class) in Class::ALL.iter().enumerate() {
        assert_eq!(*class as usize, n);
        assert_eq!(Class::from_u16(n as u16), Some(*class));
    }
}

/// What an examination is told: the files by name, and who executes them.
struct World {
    files: Vec<(&'static str, Vec<u8>, Status)>,
    arguments: Vec<&'static str>,
    ids: Ids,
    no_new_privs: bool,
    nosuid: bool,
    capabilities: bool,
    may_execute: bool,
    library: bool,
    ruling: fn(&str, Class) -> ExecRuling,
    stance: Stance,
}

const USER: Ids = Ids {
    uid: 1000,
    euid: 1000,
    gid: 1000,
    egid: 1000,
};
const ENFORCING: Stance = Stance {
    enforces: true,
    allows: false,
    searched: false,
    looks_ahead: false,
};

fn mode(mode: u32) -> Status {
    Status {
        is_regular: true,
        mode,
        uid: 0,
        gid: 0,
    }
}

impl World {
    fn new(files: &[(&'static str, Vec<u8>)]) -> World {
        let files = files.iter().cloned();
        World {
            files: files.map(|(n, b)| (n, b, mode(0o755))).collect(),
            arguments: Vec::new(),
            ids: USER,
            no_new_privs: false,
            nosuid: false,
            capabilities: false,
            may_execute: true,
            library: true,
            ruling: |_, _| ExecRuling::default(),
            stance: ENFORCING,
        }
    }

    fn mode(mut self, bits: u32) -> World {
        self.files[0].2.mode = bits;
        self
    }

    /// The verdict on the first file, and what was needed on the way.
    fn examine(&self) -> (Verdict, Vec<Need>) {
        let mut it = Examiner::new(self.stance);
        let mut needs = Vec::new();
        for _ in 0..100 {
            let need = match it.step() {
                Step::Done(verdict) => return (verdict, needs),
                Step::Need(need) => need,
            };
            needs.push(need);
            let name = |file| match file {
                File::Asked => self.files[0].0,
                File::Interpreter => core::str::from_utf8(it.interpreter()).unwrap(),
                File::Argument(n) => self.arguments[n as usize],
            };
            let found = |file| self.files.iter().find(|(n, ..)| *n == name(file));
            let answer = match need {
                Need::Status(file) => Answer::Status(found(file).map(|f| f.2)),
                Need::Executable(_) => Answer::Bool(self.may_execute),
                Need::Read { file, offset, len } => {
                    let bytes = &found(file).unwrap().1;
                    let from = (offset as usize).min(bytes.len());
                    let to = (from + len).min(bytes.len());
                    let readable = found(file).unwrap().2.mode & 0o444 != 0;
                    Answer::Bytes(readable.then(|| &bytes[from..to]))
                }
                Need::Ids => Answer::Ids(self.ids),
                Need::NoNewPrivs => Answer::Bool(self.no_new_privs),
                Need::Nosuid(_) => Answer::Bool(self.nosuid),
                Need::Capabilities(_) => Answer::Bool(self.capabilities),
                Need::Argument(n) => {
                    let argument = self.arguments.get(n as usize);
                    Answer::Argument(argument.map(|a| a.as_bytes()))
                }
                Need::Rule { file, class } => Answer::Ruling((self.ruling)(name(file), class)),
                Need::Library => Answer::Bool(self.library),
            };
            // The borrow of the interpreter's name ends here.
            let mut next = it.clone();
            next.feed(answer);
            it = next;
        }
        panic!("no end: {needs:?}");
    }

    fn class(&self) -> Class {
        self.examine().0.class
    }
}

fn dynamic() -> Vec<u8> {
    elf(64, &[(3, LD)])
}

fn fixed() -> Vec<u8> {
    elf(64, &[(1, b"code")])
}

#[test]
fn an_ordinary_program_needs_few_questions() {
    let (verdict, needs) = World::new(&[("/p", dynamic())]).examine();
    assert!(verdict.starts && verdict.refused.is_none() && verdict.is_intercepted());
    let read = Need::Read {
        file: File::Asked,
        offset: 0,
        len: Classifier::CHUNK,
    };
    let rule = Need::Rule {
        file: File::Asked,
        class: Class::Intercepted,
    };
    let file = File::Asked;
    let all = [
        Need::Status(file),
        read,
        Need::Ids,
        Need::Capabilities(file),
        rule,
        Need::Library,
    ];
    assert_eq!(needs, all);
    let root = World {
        ids: Ids {
            uid: 0,
            euid: 0,
            gid: 0,
            egid: 0,
        },
        ..World::new(&[("/p", dynamic())])
    };
    assert!(!root.examine().1.contains(&Need::Capabilities(file)));
}

#[test]
fn set_id_bits_count_where_the_kernel_heeds_them() {
    let world = || World::new(&[("/p", dynamic())]);
    assert_eq!(world().mode(0o4755).class(), Class::Setuid);
    assert_eq!(world().mode(0o2755).class(), Class::Setuid);
    let word = "without g+x it is mandatory locking";
    assert_eq!(world().mode(0o2745).class(), Class::Intercepted, "{word}");
    let mut it = world().mode(0o4755);
    it.nosuid = true;
    assert_eq!(it.class(), Class::Intercepted);
    let mut it = world().mode(0o4755);
    it.no_new_privs = true;
    assert_eq!(it.class(), Class::Intercepted);
    let mut it = world().mode(0o4755);
    it.files[0].2.uid = 1000;
    assert_eq!(it.class(), Class::Intercepted, "its own");
    let mut it = world().mode(0o4711);
    it.files[0].2.mode = 0o4111;
    assert_eq!(it.class(), Class::Setuid, "unreadable");
    let mut it = World::new(&[("/p", b"#!/sh\n".to_vec()), ("/sh", dynamic())]).mode(0o4755);
    assert_eq!(it.class(), Class::Intercepted, "of a script");
    it.files[1].2.mode = 0o4755;
    assert_eq!(it.class(), Class::Setuid, "of its interpreter");
}

#[test]
fn ids_that_differ_drop_the_preload() {
    let mut it = World::new(&[("/p", dynamic())]);
    it.ids.euid = 1001;
    assert_eq!(it.class(), Class::Privileged);
    it.files[0].2.mode = 0o4755;
    it.files[0].2.uid = 1000;
    assert_eq!(
        it.class(),
        Class::Intercepted,
        "the bit makes them the same"
    );
    it.nosuid = true;
    assert_eq!(it.class(), Class::Privileged);
}

#[test]
fn file_capabilities_count_under_no_new_privs_too() {
    let mut it = World::new(&[("/p", dynamic())]);
    it.capabilities = true;
    assert_eq!(it.class(), Class::FileCaps);
    it.no_new_privs = true;
    assert_eq!(it.class(), Class::FileCaps);
    it.nosuid = true;
    assert_eq!(it.class(), Class::Intercepted);
    it.nosuid = false;
    it.ids = Ids {
        uid: 0,
        euid: 0,
        gid: 0,
        egid: 0,
    };
    assert_eq!(it.class(), Class::Intercepted, "root has them anyway");
}

#[test]
fn scripts_are_followed_as_far_as_the_kernel_does() {
    let to = |name: &str| std::format!("#!{name}\n").into_bytes();
    let it = World::new(&[("/a", to("/b")), ("/b", to("/c")), ("/c", fixed())]);
    let (verdict, _) = it.examine();
    let at = (verdict.class, verdict.file, verdict.refused);
    assert_eq!(at, (Class::Static, File::Interpreter, Some(13)));
    let turns = World::new(&[("/a", to("/a"))]);
    assert!(!turns.examine().0.starts, "ELOOP");
    let nowhere = World::new(&[("/a", to("/no"))]);
    assert!(!nowhere.examine().0.starts, "ENOENT");
}

#[test]
fn what_the_kernel_does_not_know_is_a_shells_in_a_search() {
    let mut it = World::new(&[("/a", b"echo\n".to_vec()), ("/bin/sh", fixed())]);
    assert_eq!(it.class(), Class::Intercepted);
    it.stance.searched = true;
    assert_eq!(it.class(), Class::Static);
}

#[test]
fn the_loader_answers_for_what_it_is_told_to_run() {
    let it = |arguments: &[&'static str]| World {
        arguments: arguments.to_vec(),
        ..World::new(&[
            ("/ld.so", loader(b"ld-linux-x86-64.so.2")),
            ("/dynamic", dynamic()),
            ("/static", fixed()),
        ])
    };
    for (arguments, class) in [
        (&["ld.so", "/dynamic"][..], Class::Intercepted),
        (&["ld.so", "/static"], Class::Static),
        (&["ld.so"], Class::Intercepted),
        (&["ld.so", "--verify", "/static"], Class::Intercepted),
        (&["ld.so", "--list", "/static"], Class::Intercepted),
        (&["ld.so", "--argv0", "/dynamic", "/static"], Class::Static),
        (
            &["ld.so", "--inhibit-cache", "--preload", "/x", "/static"],
            Class::Static,
        ),
        (
            &["ld.so", "--argv0", "/static", "/dynamic"],
            Class::Intercepted,
        ),
        (&["ld.so", "libwhat.so"], Class::Unreadable),
    ] {
        assert_eq!(it(arguments).class(), class, "{arguments:?}");
    }
    let (verdict, _) = it(&["ld.so", "/no"]).examine();
    assert!(!verdict.starts);
}

#[test]
fn the_stance_and_the_rules_decide_what_starts() {
    let mut it = World::new(&[("/p", fixed())]);
    assert_eq!(it.examine().0.refused, Some(13));
    it.stance.allows = true;
    assert_eq!(it.examine().0.refused, None);
    it.stance = Stance::default();
    let (verdict, _) = it.examine();
    assert_eq!((verdict.class, verdict.refused), (Class::Static, None));
    it.stance = ENFORCING;
    it.ruling = |name, class| ExecRuling {
        says: Says::Allow,
        rule: Some(u32::from(name == "/p" && class == Class::Static)),
        note: None,
    };
    let (verdict, _) = it.examine();
    assert_eq!((verdict.refused, verdict.ruling.rule), (None, Some(1)));
    it.ruling = |_, _| ExecRuling {
        says: Says::Deny(2),
        rule: Some(5),
        note: None,
    };
    it.files[0].1 = dynamic();
    let (verdict, _) = it.examine();
    assert_eq!((verdict.refused, verdict.ruling.rule), (Some(2), Some(5)));
    assert!(verdict.is_intercepted());
}

#[test]
fn a_rule_may_refuse_the_interpreter() {
    let mut it = World::new(&[("/a", b"#!/sh\n".to_vec()), ("/sh", dynamic())]);
    it.ruling = |name, _| ExecRuling {
        says: if name == "/sh" {
            Says::Deny(13)
        } else {
            Says::Allow
        },
        ..ExecRuling::default()
    };
    let (verdict, _) = it.examine();
    assert_eq!(
        (verdict.file, verdict.refused),
        (File::Interpreter, Some(13))
    );
}

#[test]
fn what_may_not_be_executed_is_the_kernels_to_refuse() {
    let mut it = World::new(&[("/p", fixed())]);
    it.may_execute = false;
    assert!(!it.examine().0.starts);
    it.stance.searched = true;
    assert!(!it.examine().0.starts);
}

#[test]
fn a_library_that_cannot_be_read_is_an_obstacle() {
    let mut it = World::new(&[("/p", dynamic())]);
    it.library = false;
    let (verdict, _) = it.examine();
    assert_eq!(
        (verdict.class, verdict.refused),
        (Class::OutOfReach, Some(13))
    );
    it.ruling = |_, _| ExecRuling {
        says: Says::Allow,
        ..ExecRuling::default()
    };
    assert_eq!(it.examine().0.refused, None);
}

#[test]
fn an_answer_to_another_question_ends_it() {
    let mut it = Examiner::new(ENFORCING);
    it.feed(Answer::Bool(true));
    assert!(matches!(
        it.step(),
        Step::Done(Verdict { starts: false, .. })
    ));
}

#[test]
fn what_another_user_would_meet_is_said_where_asked() {
    let root = Ids {
        uid: 0,
        euid: 0,
        gid: 0,
        egid: 0,
    };
    let mut it = World::new(&[("/p", dynamic())]).mode(0o4755);
    it.ids = root;
    it.stance.looks_ahead = true;
    let (verdict, _) = it.examine();
    let said = (verdict.class, verdict.latent);
    assert_eq!(said, (Class::Intercepted, Some(Class::Setuid)));
    it.nosuid = true;
    assert_eq!(it.examine().0.latent, None);
    it.nosuid = false;
    it.files[0].2.mode = 0o755;
    assert_eq!(it.examine().0.latent, None);
    it.capabilities = true;
    let (verdict, _) = it.examine();
    let said = (verdict.class, verdict.latent);
    assert_eq!(said, (Class::Intercepted, Some(Class::FileCaps)));
    it.stance.looks_ahead = false;
    assert_eq!(it.examine().0.latent, None);
}
