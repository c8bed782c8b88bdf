//! One table of all hooks: `every_hook.c` turns every argument of every hooked
//! call into everything that it should not be, and each answer must be the one
//! of a run without bindgate, byte counts and `errno` after success included.

use std::collections::BTreeSet;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::filtered;
use support::{NOBODY, Run, Way, compile, has_nobody, same, skipped, stage, which};

/// Rules that have every call looked at and change none of the table's.
const LOOKED_AT: [&str; 6] = [
    "note socket any",
    "deny bind tcp 127.0.0.99:9",
    "deny bind udp 127.0.0.99:9",
    "deny connect any 127.0.0.99:9",
    "move bind tcp 127.0.0.98:9 to loopback:1009",
    "move bind tcp 127.0.0.97:9 to unix:$DIR/other",
];
/// Rules that would refuse everything, for runs that only observe.
const REFUSED: [&str; 4] = [
    "deny socket any",
    "deny bind any *",
    "deny listen any *",
    "deny connect any *",
];

/// How the table is run.
struct Scene {
    name: &'static str,
    ways: &'static [Way],
    rules: &'static [&'static str],
    /// Where the table's own server is to be found, if not where it thinks.
    server: Option<&'static str>,
}

const SCENES: [Scene; 5] = [
    Scene {
        name: "nothing to do",
        ways: &[Way::Preload, Way::Run],
        rules: &[],
        server: None,
    },
    Scene {
        name: "looked at",
        ways: &[Way::Preload, Way::Run],
        rules: &LOOKED_AT,
        server: None,
    },
    Scene {
        name: "observed",
        ways: &[Way::Observe],
        rules: &REFUSED,
        server: None,
    },
    Scene {
        name: "moved",
        ways: &[Way::Preload, Way::Run],
        rules: &["move bind tcp *:9999 to loopback:19999"],
        server: Some("19999"),
    },
    Scene {
        name: "moved to a Unix socket",
        ways: &[Way::Preload, Way::Run],
        rules: &["move bind tcp *:9999 to unix:$DIR/moved"],
        server: Some("$DIR/moved"),
    },
];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![Trial::test("every_hook::has a row", every_hook_has_a_row)];
    for scene in &SCENES {
        for rows in ["calls", "programs"] {
            // What starts a program does not ask where a server is.
            if rows == "programs" && scene.server.is_some() {
                continue;
            }
            let name = format!("every_hook::{rows}, {}", scene.name);
            trials.push(Trial::test(name, || same_answers(scene, rows)));
        }
    }
    // What starts a program is not told by the calls of the one before it.
    let name = "every_hook::calls, filtered";
    trials.push(match which("strace") {
        Some(_) => Trial::test(name, || {
            filtered::run(&table("calls")?, "every_hook", &REFUSED)
        }),
        None => skipped(name, "strace is not installed"),
    });
    trials
}

fn table(rows: &str) -> Result<Run, String> {
    Ok(Run::new(compile("every_hook", &[])?).arg(rows))
}

/// Functions that no row can call, and the program that does.
const WITHOUT_ROWS: [(&str, &str); 1] = [
    // Returns twice, so that its caller must not return.
    ("vfork", "records_vfork"),
];

/// What the library exports is what the program calls; each of these has a row
/// in which the call succeeds.
fn every_hook_has_a_row() -> Result<(), Failed> {
    let output = Command::new("nm")
        .args(["-D", "--defined-only", "--format=posix"])
        .arg(&stage().library)
        .output()
        .map_err(|e| format!("nm: {e}"))?;
    let symbols = String::from_utf8(output.stdout)?;
    let hooks: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|hook| WITHOUT_ROWS.iter().all(|(name, _)| name != hook))
        .collect();
    if !hooks.contains("bind") {
        return Err(format!("the library's symbols:\n{symbols}").into());
    }
    let list = table("list")?.finish().stdout;
    let rows: BTreeSet<&str> = list.lines().collect();
    if hooks != rows {
        let (missing, strange): (Vec<_>, Vec<_>) = (
            hooks.difference(&rows).collect(),
            rows.difference(&hooks).collect(),
        );
        let text = format!(
            "exported without a row in every_hook_rows.h: {missing:?}; a row but no hook: {strange:?}"
        );
        return Err(text.into());
    }

    let said = table("calls")?.finish().stdout + &table("programs")?.finish().stdout;
    let succeeds = |line: &str, hook: &str| {
        let answer = line.rsplit(": ").next().unwrap_or_default();
        line.strip_prefix(hook)
            .is_some_and(|rest| rest.starts_with(' '))
            && line.contains(": as it should be: ")
            && (answer.starts_with("exit ") || answer.starts_with(|c: char| c.is_ascii_digit()))
    };
    for hook in hooks {
        if !said.lines().any(|line| succeeds(line, hook)) {
            return Err(format!("no row in which {hook} succeeds").into());
        }
    }
    Ok(())
}

fn same_answers(scene: &Scene, rows: &str) -> Result<(), Failed> {
    for user in [0, NOBODY] {
        if user != 0 && (!has_nobody() || scene.server.is_some()) {
            continue;
        }
        let plain = table(rows)?.user(user).finish().seen();
        for way in scene.ways {
            let mut run = table(rows)?.user(user).way(*way).rules(scene.rules);
            if *way != Way::Preload || !scene.rules.is_empty() {
                run = run.logged();
            }
            if let Some(server) = scene.server {
                let server = run.in_place(server);
                run = run.arg(server);
            }
            let seen = run.finish().seen();
            same(&plain, &seen, &format!("{way:?} as user {user}"))?;
        }
    }
    Ok(())
}
