use super::*;
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

fn classify(host: Host, file: &[u8]) -> Class {
    let mut it = Classifier::new(host);
    for _ in 0..20 {
        match it.step() {
            Step::Done(class) => return class,
            Step::Read { offset, len } => {
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
        (elf(64, &[(3, LD)]), Class::Visible),
        (elf(64, &[(6, b""), (3, LD), (4, GNU)]), Class::Visible),
        (elf(9000, &[(3, LD)]), Class::Visible),
        (
            elf(64, &[(3, b"/nix/store/x/ld-2.31.so\0")]),
            Class::Visible,
        ),
        (elf(64, &[(1, b"code")]), Class::Static),
        (elf(64, &[(4, GNU)]), Class::Static),
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
    let file = elf(64, &[(3, LD), (4, GO), (4, GNU)]);
    for cut in 0..file.len() {
        classify(X86_64, &file[..cut]);
        let mut lie = file.clone();
        lie[cut] = 0xff;
        classify(X86_64, &lie);
    }
}

#[test]
fn this_test_can_be_seen_if_it_is_dynamic() {
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let want = if cfg!(target_feature = "crt-static") {
        Class::Static
    } else {
        Class::Visible
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
fn bits_that_change_nothing_do_not_count() {
    assert!(changes_ids(0o4755, 0, 0, 1000, 1000));
    assert!(!changes_ids(0o4755, 0, 0, 0, 0));
    assert!(changes_ids(0o2755, 0, 5, 0, 0));
    assert!(
        !changes_ids(0o2745, 0, 5, 0, 0),
        "without g+x: mandatory locking"
    );
    assert!(!changes_ids(0o755, 0, 0, 1000, 1000));
}

#[test]
fn numbers_are_stable() {
    for (n, class) in Class::ALL.iter().enumerate() {
        assert_eq!(*class as usize, n);
        assert_eq!(Class::from_u16(n as u16), Some(*class));
    }
}
