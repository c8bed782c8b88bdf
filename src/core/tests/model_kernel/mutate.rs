//! Breaks each branch of the model in turn and looks whether the comparison
//! with the kernel notices.
//!
//! First the sound model plays some sequences, and for each branch it is
//! written down which of them reach it. A broken branch is then played on
//! those alone: the others cannot notice.

use std::io;
use std::time::{Duration, Instant};

use bindgate_core::model::mutant;

use crate::compare::Bench;
use crate::draw::Rng;

/// Sequences that are kept for each branch.
const KEPT: usize = 1500;
/// The longest that one branch is played.
const LIMIT: Duration = Duration::from_secs(60);

/// A branch, as `scripts/mutate-model` lists it.
struct Branch {
    number: u32,
    text: String,
    /// Sequences that reach it, and how far the sound model knows them.
    seeds: Vec<(u64, usize)>,
}

fn read(list: &str) -> io::Result<Vec<Branch>> {
    let branch = |line: &str| {
        let (number, text) = line.split_once('\t')?;
        Some(Branch {
            number: number.parse().ok()?,
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

/// Does it and prints the table. True if all is as it should be.
pub fn run(bench: &mut Bench, list: &str, first: u64, sequences: u64) -> io::Result<bool> {
    let mut branches = read(list)?;
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
    let (mut caught, mut slowest) = (0, Duration::ZERO);
    let mut unreached = Vec::new();
    let mut survived = Vec::new();
    for branch in &branches {
        if branch.seeds.is_empty() {
            unreached.push(branch);
            continue;
        }
        let since = Instant::now();
        let fate = fate(bench, branch)?;
        match fate {
            Fate::Survived => survived.push(branch),
            Fate::Caught => {
                slowest = slowest.max(since.elapsed());
                caught += 1;
            }
            Fate::Crashed | Fate::Hung => {
                caught += 1;
                // What it was doing is not finished.
                bench.renew()?;
            }
        }
    }
    let reached = branches.len() - unreached.len();
    println!(
        "{} branches, {} not reached in {sequences} sequences, {reached} broken in turn",
        branches.len(),
        unreached.len()
    );
    println!(
        "{caught} noticed ({:.1} %), the slowest after {:.1} s",
        100.0 * f64::from(caught) / reached.max(1) as f64,
        slowest.as_secs_f64()
    );
    for (title, list) in [("not noticed", &survived), ("not reached", &unreached)] {
        println!("\n{title}:");
        for b in list.iter() {
            println!("{:>6} sequences  {}  {}", b.seeds.len(), b.number, b.text);
        }
    }
    Ok(true)
}
