use super::*;
use loom::thread;
use std::sync::Arc;

/// An entry whose every field tells whose it is.
fn moved(n: u64) -> Moved {
    let word = n as u32;
    Moved {
        cookie: n,
        netns: n,
        kind: kind::SAME_FAMILY,
        marks: word,
        uid: word,
        rule: word,
        device: word,
        socket: SocketType {
            domain: n as u16,
            ty: n as u16,
            protocol: n as u16,
        },
        virt: RawAddr::new(&[n as u8; 8]).unwrap(),
        real: RawAddr::new(&[n as u8; 8]).unwrap(),
    }
}

/// The first of two cookies is 1: the other one that begins at the same place.
fn rival() -> u64 {
    let first = |cookie| Moves::probe(cookie).next();
    (2..).find(|n| first(*n) == first(1)).unwrap()
}

fn start() -> Arc<Moves> {
    Arc::new(Moves::new())
}

#[test]
fn a_place_is_read_whole_while_it_changes_hands() {
    crate::sync::model(|| {
        let (moves, second) = (start(), rival());
        assert!(moves.insert(&moved(1)).is_some());
        let writer = {
            let moves = moves.clone();
            thread::spawn(move || {
                moves.remove(1);
                assert!(moves.insert(&moved(second)).is_some());
            })
        };
        let found = moves.find(second);
        assert!(found.is_none_or(|m| m == moved(second)), "{found:?}");
        writer.join().unwrap();
        assert_eq!(moves.find(1), None);
        assert_eq!(moves.find(second), Some(moved(second)));
    });
}

#[test]
fn a_tag_names_nobody_else_when_its_place_changes_hands() {
    crate::sync::model(|| {
        let (moves, second) = (start(), rival());
        let tag = moves.insert(&moved(1)).unwrap();
        let writer = {
            let moves = moves.clone();
            thread::spawn(move || {
                moves.remove(1);
                assert!(moves.insert(&moved(second)).is_some());
            })
        };
        let by_tag = moves.by_tag(tag);
        assert!(by_tag.is_none_or(|m| m == moved(1)), "{by_tag:?}");
        writer.join().unwrap();
        assert_eq!(moves.by_tag(tag), None);
    });
}

#[test]
fn two_who_come_at_once_have_two_places() {
    crate::sync::model(|| {
        let (moves, second) = (start(), rival());
        let other = {
            let moves = moves.clone();
            thread::spawn(move || moves.insert(&moved(second)))
        };
        let tag = moves.insert(&moved(1)).unwrap();
        let other = other.join().unwrap().unwrap();
        assert_ne!(tag, other);
        assert_eq!(moves.by_tag(tag), Some(moved(1)));
        assert_eq!(moves.by_tag(other), Some(moved(second)));
    });
}

/// The kernel knows the socket before its entry is written; a sweep asks the
/// kernel after it has begun.
#[test]
fn a_sweep_leaves_who_is_alive() {
    crate::sync::model(|| {
        let moves = start();
        let kernel = Arc::new(AtomicU64::new(0));
        let program = {
            let (moves, kernel) = (moves.clone(), kernel.clone());
            thread::spawn(move || {
                kernel.store(1, Release);
                assert!(moves.insert(&moved(1)).is_some());
            })
        };
        let sweep = moves.sweep();
        if kernel.load(Acquire) == 1 {
            sweep.met(1);
        }
        sweep.end(|_, _| true);
        program.join().unwrap();
        assert_eq!(moves.find(1), Some(moved(1)));
    });
}

#[test]
fn a_sweep_takes_who_is_gone_and_nobody_else() {
    crate::sync::model(|| {
        let moves = start();
        assert!(moves.insert(&moved(1)).is_some());
        // Its socket is closed without a word.
        let program = {
            let moves = moves.clone();
            thread::spawn(move || moves.insert(&moved(rival())).is_some())
        };
        moves.sweep().end(|m, _| m.cookie == 1);
        assert!(program.join().unwrap());
        assert_eq!(moves.find(1), None);
        assert_eq!(moves.find(rival()), Some(moved(rival())));
    });
}
