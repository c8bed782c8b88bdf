//! `--user`: the program is another user, and a broker binds its privileged ports.

use std::ffi::{OsStr, OsString};

use bindgate_core::policy::Rule;
use bindgate_daemon::broker::{Broker, Setup};
use bindgate_os::process;
use bindgate_os::user::{NET_BIND_SERVICE, User};

use crate::{Failure, complain, exit};

/// The user whom `--user` names.
pub fn find(given: Option<&str>) -> Result<Option<User>, Failure> {
    let Some(given) = given else {
        return Ok(None);
    };
    if process::effective_uid() != 0 {
        let why = "--user: only root can start a program as another user, and bindgate was not \
                   started by root; --low-ports is for everybody";
        return Err(Failure::say(exit::USAGE, why));
    }
    User::find(given)
        .map(Some)
        .map_err(|why| Failure::new(exit::USAGE, "--user", why))
}

/// Is there a broker to be? Where a port below `start` takes a privilege, and a rule
/// names one.
pub fn needs_broker(user: &User, rules: &[Rule], start: u16) -> bool {
    if start <= 1 || user.uid == 0 {
        return false;
    }
    let is_named = rules.iter().any(|rule| rule.names_port_below(start));
    let can = process::has_capability(NET_BIND_SERVICE);
    if !is_named {
        complain(format_args!(
            "--user: no rule names a port below {start}, so the program may not bind one; \
             -r 'allow bind tcp *:80' gives it port 80"
        ));
    } else if !can {
        complain(format_args!(
            "warning: --user: CAP_NET_BIND_SERVICE is not there: no port below {start} can be bound"
        ));
    }
    is_named && can
}

/// Starts the broker.
pub fn broker(setup: Setup, is_child: bool) -> Result<Broker, Failure> {
    Broker::fork(setup, is_child)
        .map_err(|e| Failure::new(exit::SYSTEM, "the process that binds privileged ports", e))
}

/// The environment of the program: what names the user is that one's, as with
/// runuser(1).
pub fn environment(lines: Vec<OsString>, user: &User) -> Vec<OsString> {
    let Some([name, home, shell]) = &user.entry else {
        return lines;
    };
    let own = [
        ("HOME", home),
        ("SHELL", shell),
        ("USER", name),
        ("LOGNAME", name),
    ];
    let is_own = |line: &OsString| {
        own.iter().any(|(key, _)| {
            let rest = line.as_encoded_bytes().strip_prefix(key.as_bytes());
            rest.is_some_and(|rest| rest.first() == Some(&b'='))
        })
    };
    let mut all: Vec<_> = lines.into_iter().filter(|line| !is_own(line)).collect();
    for (key, value) in own {
        let mut line = OsString::from(key);
        line.push("=");
        line.push::<&OsStr>(value);
        all.push(line);
    }
    all
}

/// Why the program did not become that user.
pub fn failure(given: &str, e: &std::io::Error) -> Failure {
    let what = format!("not started: --user {given}: this process cannot become that user");
    Failure::new(exit::SYSTEM, what, e)
}
