//! The processes that play.

use bindgate_core::model::script::{Caps, Process};

use super::Rng;

/// The processes that play: users, and capabilities where they are not the
/// user's own.
pub fn cast() -> Vec<Process> {
    let with = |name, uid, caps| Process {
        caps,
        ..Process::new(name, uid)
    };
    let none = Caps::default();
    vec![
        Process::new("root", 0),
        Process::new("root2", 0),
        Process::new("alice", 1000),
        Process::new("bob", 1001),
        with(
            "carol",
            1000,
            Caps {
                net_bind_service: true,
                ..none
            },
        ),
        with("dave", 0, none),
        with(
            "erin",
            1001,
            Caps {
                net_raw: true,
                ..none
            },
        ),
        with(
            "frank",
            1000,
            Caps {
                net_admin: true,
                ..none
            },
        ),
    ]
}
/// Two to four processes of the cast, and their places there.
pub(super) fn troupe(rng: &mut Rng) -> (Vec<Process>, Vec<usize>) {
    let all = cast();
    let mut players = Vec::new();
    let wanted = 2 + rng.below(3);
    while players.len() < wanted {
        // The common three more often than the others.
        let p = if rng.chance(60) {
            rng.of(&[0, 2, 3])
        } else {
            rng.below(all.len())
        };
        if !players.contains(&p) {
            players.push(p);
        }
    }
    let cast = players.iter().map(|p| all[*p].clone()).collect();
    (cast, players)
}
