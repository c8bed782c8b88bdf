//! Breaks each branch of the model in turn and looks whether the comparison
//! with the kernel notices.
//!
//! First the sound model plays some sequences, and for each branch it is
//! written down which of them reach it. A broken branch is then played on
//! those alone: the others cannot notice. What the comparison does not notice is
//! shown to other judges: test programs that compare nothing with a kernel.

use std::collections::BTreeMap;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bindgate_core::model::mutant;

use crate::compare::Bench;
use bindgate_host_live::draw::Rng;

/// Sequences that are kept for each branch.
const KEPT: usize = 1500;
/// The longest that one branch is played.
const LIMIT: Duration = Duration::from_secs(60);

/// A branch, as `scripts/mutate-model` lists it.
struct Branch {
    number: u32,
    /// Kind and reason, if the source marks it as one that this kernel cannot
    /// show broken.
    mark: Option<String>,
    text: String,
    /// Sequences that reach it, and how far the sound model knows them.
    seeds: Vec<(u64, usize)>,
}

fn read(list: &str) -> io::Result<Vec<Branch>> {
    let branch = |line: &str| {
        let (number, rest) = line.split_once('\t')?;
        let (mark, text) = rest.split_once('\t')?;
        Some(Branch {
            number: number.parse().ok()?,
            mark: (mark != "-").then(|| mark.to_owned()),
            text: text.to_owned(),
            seeds: Vec::new(),
        })
    };
    let text = std::fs::read_to_string(list)?;
    Ok(text.lines().filter_map(branch).collect())
}

/// How a broken branch fared.
enum Fate {
    Caught,
    Crashed,
    Hung,
    Survived,
}

/// Plays the branch's sequences in a process of its own: a broken model may
/// crash or never end.
fn fate(bench: &mut Bench, branch: &Branch) -> io::Result<Fate> {
    // SAFETY: this process has one thread.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        mutant::set_broken(branch.number);
        std::panic::set_hook(Box::new(|_| {}));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            branch.seeds.iter().any(|(seed, played)| {
                // Not to know any more what was known is a difference, too.
                bench.agrees(&mut Rng::new(*seed)) != (*played, false)
            })
        }));
        let code = match caught {
            Ok(false) => 0,
            Ok(true) => 1,
            Err(_) => 2,
        };
        // SAFETY: ends this process without running what the other one will.
        unsafe { libc::_exit(code) };
    }
    let since = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if ended == pid {
            return Ok(match libc::WEXITSTATUS(status) {
                _ if !libc::WIFEXITED(status) => Fate::Crashed,
                0 => Fate::Survived,
                1 => Fate::Caught,
                _ => Fate::Crashed,
            });
        }
        if since.elapsed() > LIMIT {
            // SAFETY: our own child.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, &raw mut status, 0);
            }
            return Ok(Fate::Hung);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Does a test program fail with this branch broken? One that never ends
/// counts as failing.
fn fails(judge: &str, number: u32) -> io::Result<bool> {
    let mut child = Command::new(judge)
        .env(mutant::VARIABLE, number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(!status.success());
        }
        if since.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The first judge that notices, by the name of its program.
fn judged<'a>(judges: &'a [String], branch: &Branch) -> io::Result<Option<&'a str>> {
    for judge in judges {
        if fails(judge, branch.number)? {
            let name = judge.rsplit('/').next().unwrap_or(judge);
            return Ok(Some(name.rsplit_once('-').map_or(name, |(n, _)| n)));
        }
    }
    Ok(None)
}

fn share(part: usize, whole: usize) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    format!("{part} of {whole} ({percent:.1} %)")
}

fn table(title: &str, rows: &[(&Branch, Option<&str>)]) {
    println!("\n{title} ({}):", rows.len());
    for (b, judge) in rows {
        let by = judge.map_or(String::from("nobody"), |j| format!("by {j}"));
        println!(
            "{:>5} sequences  {}  {}  {by}",
            b.seeds.len(),
            b.number,
            b.text
        );
    }
}

/// Does it and prints the tables. True if all is as it should be.
pub fn run(
    bench: &mut Bench,
    list: &str,
    judges: &[String],
    first: u64,
    sequences: u64,
) -> io::Result<bool> {
    let mut branches = read(list)?;
    for judge in judges {
        if fails(judge, 0)? {
            println!("{judge} fails with the sound model");
            return Ok(false);
        }
    }
    for seed in first..first + sequences {
        let (played, differs) = bench.agrees(&mut Rng::new(seed));
        if differs {
            println!("seed {seed} differs with the sound model");
            return Ok(false);
        }
        for branch in &mut branches {
            if mutant::take_reached(branch.number) && branch.seeds.len() < KEPT {
                branch.seeds.push((seed, played));
            }
        }
    }
    let mut slowest = Duration::ZERO;
    let (mut shown, mut marked) = (0, 0);
    // By kind of mark; those without are the first.
    let mut left: BTreeMap<&str, Vec<(&Branch, Option<&str>)>> = BTreeMap::new();
    for branch in &branches {
        let since = Instant::now();
        let fate = if branch.seeds.is_empty() {
            Fate::Survived
        } else {
            fate(bench, branch)?
        };
        match fate {
            Fate::Survived => {
                let mark = branch.mark.as_deref().unwrap_or("");
                let judge = judged(judges, branch)?;
                left.entry(mark).or_default().push((branch, judge));
                continue;
            }
            Fate::Caught => slowest = slowest.max(since.elapsed()),
            // What it was doing is not finished.
            Fate::Crashed | Fate::Hung => bench.renew()?,
        }
        match branch.mark {
            None => shown += 1,
            Some(_) => marked += 1,
        }
    }
    let unmarked = branches.iter().filter(|b| b.mark.is_none()).count();
    let unreached = branches.iter().filter(|b| b.seeds.is_empty()).count();
    let by_judges = left.values().flatten().filter(|(_, j)| j.is_some()).count();
    println!(
        "{} branches, {unreached} not reached in {sequences} sequences; {} marked",
        branches.len(),
        branches.len() - unmarked
    );
    println!(
        "noticed by the comparison, of those without a mark: {}, the slowest after {:.1} s",
        share(shown, unmarked),
        slowest.as_secs_f64()
    );
    println!(
        "noticed by the comparison, of all: {}",
        share(shown + marked, branches.len())
    );
    println!(
        "noticed by the comparison or another judge, of all: {}",
        share(shown + marked + by_judges, branches.len())
    );
    for (mark, rows) in &left {
        let title = match *mark {
            "" => "not noticed, without a mark",
            mark => mark,
        };
        table(title, rows);
    }
    Ok(true)
}
