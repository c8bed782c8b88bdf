use super::*;

fn moved(cookie: u64) -> Moved {
    Moved {
        cookie,
        netns: 1,
        kind: kind::SAME_FAMILY,
        marks: 0,
        uid: 0,
        rule: 1,
        device: 3,
        socket: SocketType::created(2, 1, 0),
        virt: RawAddr::new(&[1; 16]).unwrap(),
        real: RawAddr::new(&[2; 110]).unwrap(),
    }
}

/// As [`moved`], at a virtual and a real port.
fn at(cookie: u64, virt: u16, real: u16) -> Moved {
    let addr = |port| {
        crate::addr::Addr::Inet {
            ip: [127, 0, 0, 1],
            port,
        }
        .write()
    };
    Moved {
        virt: addr(virt),
        real: addr(real),
        ..moved(cookie)
    }
}

fn with_table(f: impl FnOnce(&Moves) + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(128 << 20)
        .spawn(|| f(&std::boxed::Box::new(Moves::new())))
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn found_by_cookie_and_by_tag_until_removed() {
    with_table(|t| {
        let tag = t.insert(&moved(5)).unwrap();
        assert_eq!(t.find(5), Some(moved(5)));
        assert_eq!(t.by_tag(tag), Some(moved(5)));
        assert_eq!(t.tag(5), Some(tag));
        t.set_marks(5, mark::LISTENING | mark::V6ONLY, 0);
        t.set_marks(5, 0, mark::V6ONLY);
        assert_eq!(t.find(5).unwrap().marks, mark::LISTENING);
        t.remove(5);
        assert_eq!(t.find(5), None);
        assert_eq!(t.by_tag(tag), None);
    });
}

#[test]
fn an_entry_crosses_to_another_table_with_its_tag() {
    with_table(|old| {
        let tag = old.insert(&moved(5)).unwrap();
        let bytes = old.find(5).unwrap().to_bytes(tag);
        with_table(move |new| {
            let (entry, tag) = Moved::from_bytes(&bytes).unwrap();
            assert!(new.restore(&entry, tag));
            assert_eq!(new.find(5), Some(moved(5)));
            assert_eq!(new.by_tag(tag), Some(moved(5)));
            assert!(!new.restore(&entry, tag));
        });
    });
}

#[test]
fn an_old_tag_does_not_name_a_new_socket_in_the_same_place() {
    with_table(|t| {
        let old = t.insert(&moved(5)).unwrap();
        let new = t.insert(&moved(5)).unwrap();
        assert_ne!(old, new);
        assert_eq!(t.by_tag(old), None);
    });
}

#[test]
fn entries_are_found_by_where_they_are_and_where_they_seem_to_be() {
    with_table(|t| {
        for n in 1..=500u16 {
            t.insert(&at(u64::from(n), n, 20000 + n)).unwrap();
        }
        let peer = Moved {
            kind: kind::CONNECT,
            ..at(77 | PEER_KEY, 300, 20300)
        };
        t.insert(&peer).unwrap();
        for n in [1, 77, 300, 500] {
            let wanted = at(u64::from(n), n, 20000 + n);
            let by_virt = t.first_at(Some(&wanted.virt), None, |m| m.virt == wanted.virt);
            let by_real = t.first_at(None, Some(&wanted.real), |m| m.real == wanted.real);
            assert_eq!((by_virt, by_real), (Some(u64::from(n)), Some(u64::from(n))));
        }
        t.remove(300);
        let gone = at(300, 300, 20300);
        let same = |m: &Moved| (m.virt, m.real) == (gone.virt, gone.real);
        assert_eq!(t.first_at(Some(&gone.virt), Some(&gone.real), same), None);
    });
}

#[test]
fn where_there_is_no_room_a_sweep_keeps_what_the_kernel_knows() {
    with_table(|t| {
        let mut n = 1;
        while t.insert(&moved(n)).is_some() {
            n += 1;
        }
        assert!(n > MOVES as u64 / 2, "{n}");
        assert!(!t.has_room(n));
        t.insert(&moved(5 | PEER_KEY));
        let sweep = t.sweep();
        sweep.met(5);
        let mut asked = 0;
        sweep.end(|m, age| {
            asked += 1;
            assert_eq!(age, 1);
            m.cookie != 6
        });
        assert!(asked + 3 >= n, "asked about {asked} of {n}");
        assert!(t.insert(&moved(n)).is_some());
        assert!(t.find(5).is_some() && t.find(6).is_some());
        assert!(t.find(7).is_none());
    });
}

#[test]
fn a_sweep_is_not_about_what_comes_while_it_goes_on() {
    with_table(|t| {
        t.insert(&moved(1)).unwrap();
        let first = t.sweep();
        t.insert(&moved(2)).unwrap();
        let second = t.sweep();
        t.insert(&moved(3)).unwrap();
        second.met(2);
        let mut asked = std::vec::Vec::new();
        first.end(|m, _| {
            asked.push(m.cookie);
            false
        });
        assert_eq!(asked, [1]);
        asked.clear();
        second.end(|m, _| {
            asked.push(m.cookie);
            true
        });
        assert_eq!(asked, [1]);
        assert!(t.find(1).is_none() && t.find(2).is_some() && t.find(3).is_some());
    });
}

#[test]
fn a_place_that_nobody_goes_on_to_write_is_taken_back() {
    with_table(|t| {
        let i = Moves::probe(9).next().unwrap();
        t.keys[i].store(WRITING | u64::from(t.sweeps.load(Relaxed)), Relaxed);
        for _ in 0..2 {
            t.sweep().end(|_, _| true);
        }
        assert_eq!(t.keys[i].load(Relaxed), 0);
    });
}

#[test]
fn tags_are_port_ranges_that_the_kernel_takes() {
    for (index, generation) in [(0, 0), (MOVES - 1, u32::MAX), (17, 0x8000)] {
        let tag = Tag::new(index, generation);
        let (low, high) = (tag.0 & 0xffff, tag.0 >> 16);
        assert!(low >= 1 && low <= high, "{low} {high}");
        assert_eq!(tag.index(), Some(index));
    }
}
