//! The library made to fail at every place where it may (feature `inject`).
//!
//! The list of those places is read from the source: every call of `guard`.
//! The program `inject_calls` makes every hooked call, and a library behind
//! bindgate counts what arrives there. Wherever a fault strikes, each call
//! ends as without bindgate or as without the fault, no call is made twice,
//! the program goes on to its end, and the log names call and stage.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};

use support::{Outcome, Run, Way, compile};

/// Rules that have a say in everything …
const MANY: [&str; 12] = [
    "note bind any *",
    "deny socket netlink",
    "deny bind tcp *:{8071,8041}",
    "hide bind tcp *:8072",
    "move bind tcp *:8080 to loopback:18080",
    "move bind tcp *:8090 to unix:$DIR/sock",
    "deny bind udp *:auto implicit for **/none",
    "deny bind inet6 *:auto implicit",
    "deny listen tcp *:8061",
    "deny connect tcp *:8062",
    "move connect tcp *:8063 to loopback:8060",
    "note connect any *",
];

/// … and one that is about nothing: then calls go a shorter way.
const FEW: [&str; 1] = ["deny bind tcp *:9"];

/// Of a run that is a vsock host.
const HOST: [&str; 1] = ["host cid 3"];

/// Of a run that has ports of its own.
const OWN_PORTS: [&str; 1] = ["note bind tcp *"];

/// Of a run that root starts as a user whose ports another process binds.
const BROKER: [&str; 1] = ["allow bind tcp *:81"];

/// How a program is run, and under which rules.
type Setting = (Way, &'static [&'static str]);
const SETTINGS: [Setting; 7] = [
    (Way::Preload, &MANY),
    (Way::Run, &MANY),
    (Way::Preload, &FEW),
    (Way::Run, &FEW),
    (Way::Run, &HOST),
    (Way::Run, &OWN_PORTS),
    (Way::Run, &BROKER),
];

/// Where the calls are made: arguments of the program.
const PLACES: [&[&str]; 4] = [&["main"], &["child"], &["thread"], &["signal", "24576"]];

/// A call of `guard` in the source.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Site {
    /// `FILE:LINE`; of a guard in a macro, where the macro is used.
    at: String,
    /// The name of the stage's bit.
    stage: String,
}

fn main() {
    support::main(|| {
        let mut sites = sites();
        if !support::has_nobody() {
            sites.retain(|site| !(site.at.contains("hook/bind.rs") && site.stage == "forward"));
        }
        assert!(sites.len() > 20, "{sites:?}");
        let trial = |site: Site| {
            let name = format!("{} {}", site.at, site.stage);
            Trial::test(name, move || strike(&site))
        };
        sites.into_iter().map(trial).collect()
    })
}

// --- the list --------------------------------------------------------------

/// Every file below `dir`.
fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn sites() -> BTreeSet<Site> {
    let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    sources(&root.join("src/shim/src"), &mut files);
    let mut all = BTreeSet::new();
    for file in files {
        if file.extension().is_none_or(|e| e != "rs") || file.ends_with("out/faults.rs") {
            continue;
        }
        let name = file
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        sites_of(&name, &fs::read_to_string(&file).unwrap(), &mut all);
    }
    all
}

fn sites_of(file: &str, text: &str, all: &mut BTreeSet<Site>) {
    let lines: Vec<&str> = text.lines().collect();
    let mut in_macro = None;
    for (n, line) in lines.iter().enumerate() {
        if let Some(rest) = line.strip_prefix("macro_rules! ") {
            in_macro = rest.split_whitespace().next();
        } else if *line == "}" {
            in_macro = None;
        }
        let code = line.split("//").next().unwrap();
        if !code.contains("guard(") || code.contains("fn guard") {
            continue;
        }
        let from = code.find("guard(").unwrap();
        let rest = code[from..].to_owned() + &lines[n + 1..lines.len().min(n + 3)].concat();
        let stage = rest.split("stage::").nth(1).expect("the stage of a guard");
        let stage = stage
            .split(|c: char| !c.is_ascii_uppercase())
            .next()
            .unwrap()
            .to_lowercase();
        let mut add = |line: usize| {
            let at = format!("{file}:{}", line + 1);
            all.insert(Site {
                at,
                stage: stage.clone(),
            });
        };
        match in_macro {
            None => add(n),
            Some(name) => {
                let used = format!("{name}! {{");
                (0..lines.len()).filter(|&n| lines[n] == used).for_each(add);
            }
        }
    }
}

/// The bit of a stage, as the library names it.
fn bit(stage: &str) -> u32 {
    let names = [
        "hook", "identify", "address", "policy", "model", "forward", "record",
    ];
    1 << names.iter().position(|name| *name == stage).expect(stage)
}

// --- the runs --------------------------------------------------------------

/// The counting library.
fn counter() -> String {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let flags = ["-shared", "-fPIC", "-fno-builtin", "-ldl"];
        let path = compile("count_calls", &flags).unwrap();
        path.to_str().unwrap().to_owned()
    })
    .clone()
}

fn program(place: &[&str]) -> Run {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| compile("inject_calls", &[]).unwrap());
    Run::new(program).args(place).env("LD_PRELOAD", counter())
}

fn under((way, rules): Setting, place: &[&str]) -> Run {
    let run = program(place).way(way).rules(rules).logged();
    match rules {
        ["host cid 3"] => run.env("VSOCK_HOST", "1"),
        ["note bind tcp *"] => run.launcher_arg("--isolate"),
        ["allow bind tcp *:81"] => run.launcher_arg("--user=65534"),
        _ => run,
    }
}

/// What is known of a setting before anything fails.
struct Known {
    setting: Setting,
    /// Lines of the program.
    lines: Vec<String>,
    /// The guards that were passed, as the library names them.
    passed: BTreeSet<String>,
}

fn lines(outcome: &Outcome) -> Result<Vec<String>, String> {
    let lines: Vec<String> = outcome.stdout.lines().map(str::to_owned).collect();
    if outcome.status != "exit 0" || lines.last().is_none_or(|line| line != "end") {
        return Err(outcome.seen());
    }
    Ok(lines)
}

/// Lines of the program without bindgate.
fn plain() -> Result<&'static Vec<String>, String> {
    static PLAIN: OnceLock<Result<Vec<String>, String>> = OnceLock::new();
    let plain = PLAIN.get_or_init(|| lines(&program(PLACES[0]).finish()));
    plain.as_ref().map_err(Clone::clone)
}

fn known() -> Result<&'static Vec<Known>, String> {
    static KNOWN: OnceLock<Result<Vec<Known>, String>> = OnceLock::new();
    let look = |setting| {
        let run = under(setting, PLACES[0])
            .env("BINDGATE_INJECT", "list")
            .finish();
        let (lines, passed) = (lines(&run)?, run.stderr.lines().map(str::to_owned));
        Ok(Known {
            setting,
            lines,
            passed: passed.collect(),
        })
    };
    let known = KNOWN.get_or_init(|| {
        // Only root can start a program as somebody else.
        let can_be = |setting: &Setting| setting.1 != BROKER || support::has_nobody();
        SETTINGS.into_iter().filter(can_be).map(look).collect()
    });
    known.as_ref().map_err(Clone::clone)
}

fn strike(site: &Site) -> Result<(), Failed> {
    let is_here = |name: &&String| {
        let mut words = name.split(' ');
        words.next() == Some(&site.at) && words.nth(1) == Some(&bit(&site.stage).to_string())
    };
    let mut reached = BTreeSet::new();
    for known in known()? {
        for name in known.passed.iter().filter(is_here) {
            // A call that behaves as before is not looked at again.
            let is_first = reached.insert((name, known.setting.0 == Way::Run));
            let places = match (is_first, known.setting.0) {
                (false, _) => &[],
                (_, Way::Run) => &PLACES[..1],
                _ => &PLACES[..],
            };
            for place in places {
                strike_at(known, site, name, "before", place)?;
            }
            for position in ["after", "twice"] {
                for place in places.iter().take(1) {
                    strike_at(known, site, name, position, place)?;
                }
            }
        }
    }
    if reached.is_empty() {
        let passed = known()?.iter().flat_map(|known| &known.passed);
        let all: String = passed.map(|name| format!("{name}\n")).collect();
        return Err(format!("no call of the program comes here; passed were\n{all}").into());
    }
    Ok(())
}

fn strike_at(
    known: &Known,
    site: &Site,
    name: &str,
    position: &str,
    place: &[&str],
) -> Result<(), String> {
    let way = known.setting.0;
    let what = format!("{name} {position}, in {}, {way:?}", place[0]);
    let outcome = under(known.setting, place)
        .env("BINDGATE_INJECT", format!("{name} {position}"))
        .finish();
    let fail = |why: &str| Err(format!("{what}: {why}\n{}", outcome.seen()));
    let call = name.split(' ').nth(1).unwrap();
    if site.at.starts_with("src/shim/src/session/") && call == "fault" && site.stage == "hook" {
        // Before there is a policy: nothing runs.
        let is_told = outcome.stderr.contains("a fault at start-up: not started");
        return match outcome.status == "exit 78" && outcome.stdout.is_empty() && is_told {
            true => Ok(()),
            false => fail("expected exit 78"),
        };
    }
    if !outcome.stderr.is_empty() && way == Way::Preload {
        return fail("something on stderr");
    }
    let lines = lines(&outcome).map_err(|e| format!("{what}: {e}"))?;
    let plain = plain()?;
    if lines.len() != plain.len() {
        return fail("lines are missing");
    }
    for ((line, plain), ours) in lines.iter().zip(plain).zip(&known.lines) {
        // What a part had done before it failed cannot be undone: then the
        // answer may be another one, but no call is made twice.
        let is_once = line.ends_with(" 0 forwarded") || line.ends_with(" 1 forwarded");
        // The kernel's own answer for a Unix socket that took a TCP socket's place.
        let is_unix = line.contains(" option ") && line.ends_with("EOPNOTSUPP, 1 forwarded");
        // And for one that took a vsock socket's.
        let is_carrier = line.starts_with("vsock ") && is_once;
        // What is not led to the run's own ports is on the machine's.
        let is_led = known.setting.1 == OWN_PORTS && site.stage == "model" && is_once;
        let may_differ = is_unix || is_carrier || is_led || position == "after" && is_once;
        if line != plain && line != ours && !may_differ {
            return fail(&format!(
                "{line}\nplain: {plain}\nwithout the fault: {ours}"
            ));
        }
    }
    let records = outcome.records();
    let is_said = records.iter().any(|r| {
        let stages = r.0["stages"].as_array();
        r.text("call") == "fault"
            && r.text("reason") == call
            && stages.is_some_and(|all| all.iter().any(|s| s.as_str() == Some(&site.stage)))
    });
    // The fault of a fault is not recorded, but counted by the run.
    let may_be_silent = position == "twice";
    // What comes after `filter::begin` may ask for nothing any more, so that a
    // log of its own cannot be written.
    let is_shut = site.at.contains("hook/descriptor.rs")
        && (call, site.stage.as_str(), position) == ("fault", "hook", "after")
        && way == Way::Preload;
    if is_said == may_be_silent && !is_shut {
        let all: String = records.iter().map(|r| format!("{}\n", r.0)).collect();
        return fail(&format!("record of the fault: {is_said}\n{all}"));
    }
    Ok(())
}
