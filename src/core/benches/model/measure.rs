//! How a bind is measured: by the clock, and by callgrind's count.

use std::ffi::c_int;
use std::process::Command;
use std::time::Instant;

use bindgate_core::model::{Host, OwnedNet};

use crate::of_model::Model;
use crate::scenes::{AUTO, Auto, SCENES, Scene};
use crate::world::{At, Sort, World};

/// Medians of so many blocks are compared, and the least one counts: what else
/// the machine did meanwhile only ever adds.
const BLOCKS: usize = 7;
/// Binds of a block, as many as there is time for.
const ROUNDS: std::ops::Range<usize> = 15..1_001;
const BLOCK_MS: u128 = 150;

/// Nanoseconds of a bind, its socket made and closed outside the time.
fn time<W: World>(w: &mut W, sort: Sort, at: At, answer: Result<(), c_int>) -> Result<f64, String> {
    let begun = Instant::now();
    let mut least = f64::INFINITY;
    for _ in 0..BLOCKS {
        least = least.min(block(w, sort, at, answer)?);
        if begun.elapsed().as_secs() > 20 {
            break;
        }
    }
    Ok(least)
}

/// The median of a block.
fn block<W: World>(
    w: &mut W,
    sort: Sort,
    at: At,
    answer: Result<(), c_int>,
) -> Result<f64, String> {
    let begun = Instant::now();
    let mut rounds = Vec::new();
    while rounds.len() < ROUNDS.start
        || (rounds.len() < ROUNDS.end && begun.elapsed().as_millis() < BLOCK_MS)
    {
        let mut socks = Vec::new();
        // What succeeds must not fill the tables: one at a time.
        let batch = if answer.is_ok() { 1 } else { 20 };
        for _ in 0..batch {
            socks.push(w.socket(sort)?);
        }
        let start = Instant::now();
        for s in &socks {
            let got = w.bind(*s, at, sort.six);
            if got != answer {
                return Err(format!("answers {got:?}"));
            }
        }
        rounds.push(start.elapsed().as_nanos() as f64 / f64::from(batch));
        for s in socks {
            w.close(s);
        }
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}

pub fn scene<W: World>(w: &mut W, scene: &Scene, n: u32) -> Result<f64, String> {
    let ns = w
        .fill(n, &|i| (scene.there, (scene.place)(i)))
        .and_then(|()| time(w, scene.ask, scene.at, scene.answer));
    w.empty();
    ns
}

pub fn auto<W: World>(w: &mut W, auto: &Auto, n: u32) -> Result<f64, String> {
    let at = At {
        ip: auto.ip,
        port: 0,
    };
    let ns = w
        .fill(n, &|_| (auto.sort, at))
        .and_then(|()| time(w, auto.sort, at, Ok(())));
    w.empty();
    ns
}

/// Binds that callgrind counts.
const COUNTED: u32 = 100;

/// Instructions of one bind of the model: callgrind runs this program again.
/// `what` is a scene's number, or `auto` and that of an automatic port.
pub fn instructions(what: &str, n: u32) -> Option<f64> {
    let out = std::env::temp_dir().join(format!("bindgate-model-{}", std::process::id()));
    let status = Command::new("valgrind")
        .args([
            "-q",
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=bind_of_the_model",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().ok()?)
        .arg("--counted")
        .args([what, &n.to_string()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .ok()?;
    let text = std::fs::read_to_string(&out).ok();
    let _ = std::fs::remove_file(&out);
    let total: f64 = text?
        .lines()
        .find_map(|l| {
            l.strip_prefix("totals: ")
                .or_else(|| l.strip_prefix("summary: "))
        })?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    status.success().then_some(total / f64::from(COUNTED))
}

/// What runs under callgrind: fills, asks a few times for the first time, and
/// then what is counted.
pub fn counted(args: &[String]) {
    let number = |i: usize| args[i].parse::<u32>().unwrap();
    let n = number(1);
    let auto = args[0].strip_prefix("auto").map(|i| {
        let i: usize = i.parse().unwrap();
        &AUTO[i]
    });
    let scene = auto.is_none().then(|| &SCENES[number(0) as usize]);
    let on = auto.map_or_else(|| scene.unwrap().on, |a| a.on);
    let mut owned = OwnedNet::new(Host::loopback(on), n + 100);
    let mut w = Model::on(owned.net());
    let (sort, at, answer) = match (auto, scene) {
        (Some(a), _) => {
            let at = At { ip: a.ip, port: 0 };
            w.fill(n, &|_| (a.sort, at)).unwrap();
            (a.sort, at, Ok(()))
        }
        (None, Some(s)) => {
            w.fill(n, &|i| (s.there, (s.place)(i))).unwrap();
            (s.ask, s.at, s.answer)
        }
        (None, None) => return,
    };
    for i in 0..10 + COUNTED {
        w.counted = i >= 10;
        let s = w.socket(sort).unwrap();
        assert_eq!(w.bind(s, at, sort.six), answer);
        w.close(s);
    }
}
