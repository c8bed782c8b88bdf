//! What a script without a file system takes for granted of Unix paths: the
//! comparison with the kernel always asks one.

use bindgate_core::model::linux::PathState;
use bindgate_core::model::script::{Player, parse};
use bindgate_core::model::{Errno, Generation, Host, No, Pick, Step};

/// The answer to the last call of a script, and the check that gave it.
fn last(text: &str, path: Option<PathState>) -> (Option<Errno>, Option<Step>) {
    let script = parse(text, Host::loopback(Generation::Linux6_18)).expect(text);
    let mut player = Player::new(&script, 8);
    let mut last = (None, None);
    for (i, line) in script.lines.iter().enumerate() {
        player.path = path.filter(|_| i + 1 == script.lines.len());
        let outcome = player.play(&script, line, Pick::Random(7));
        last = (
            outcome.result.err().and_then(No::errno),
            outcome.trail.last(),
        );
    }
    last
}

const SERVER: &str = "process alice uid 1000\nprocess bob uid 1001\n\
    alice: s = socket unix\nalice: bind s unix:/run/a\nalice: listen s\n";

#[test]
fn a_path_is_free_until_it_is_bound() {
    let text = "s = socket unix\nconnect s unix:/run/a\n";
    let no_file = (Some(Errno::ENOENT), Some(Step::UnixConnectPath));
    assert_eq!(last(text, None), no_file);
}

#[test]
fn only_its_user_and_root_connect_to_a_path() {
    let connected = (None, Some(Step::UnixConnected));
    let refused = (Some(Errno::EACCES), Some(Step::UnixConnectPath));
    for (who, answer) in [("alice", connected), ("root", connected), ("bob", refused)] {
        let text = format!("{SERVER}{who}: c = socket unix\n{who}: connect c unix:/run/a\n");
        assert_eq!(last(&text, None), answer, "{who}");
    }
}

#[test]
fn the_file_outlives_the_socket() {
    let nobody = (Some(Errno::ECONNREFUSED), Some(Step::UnixConnectFile));
    let text = format!("{SERVER}close s\nc = socket unix\nconnect c unix:/run/a\n");
    assert_eq!(last(&text, None), nobody);
    let used = (Some(Errno::EADDRINUSE), Some(Step::UnixPathExists));
    let text = format!("{SERVER}close s\nc = socket unix\nbind c unix:/run/a\n");
    assert_eq!(last(&text, None), used);
}

#[test]
fn of_a_socket_with_two_paths_nothing_is_said() {
    let text = format!("{SERVER}c = socket unix\nconnect c unix:/run/b\n");
    let (_, step) = last(&text, Some(PathState::Elsewhere));
    assert_eq!(step, Some(Step::UnknownPath));
}

#[test]
fn the_options_that_name_a_socket_are_read_and_written() {
    for option in ["SO_PASSCRED on", "SO_PASSPIDFD on"] {
        let text = format!("{SERVER}c = socket unix\nset c {option}\n");
        let script = parse(&text, Host::loopback(Generation::Linux6_18)).expect(&text);
        let line = script.lines.last().expect("lines");
        assert_eq!(script.line_text(line), format!("root: set c {option}"));
        let mut player = Player::new(&script, 8);
        let connect = format!("{text}connect c unix:/run/a\n");
        let script = parse(&connect, script.host).expect(&connect);
        let play = |line| player.play(&script, line, Pick::Random(0x12345));
        let outcome = script.lines.iter().map(play).last().expect("lines");
        assert_eq!(outcome.result, Ok(()));
        let name = outcome.name.map(|n| n.to_string());
        assert_eq!(name.as_deref(), Some("unix:@12345"));
        let peer = outcome.peer.map(|n| n.bytes().to_vec());
        assert_eq!(peer.as_deref(), Some(b"/run/a".as_slice()));
    }
}
