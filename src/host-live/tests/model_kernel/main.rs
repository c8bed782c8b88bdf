//! The model against the kernel that runs the test: random calls of several
//! processes on both, and every answer must be the same.
//!
//! Without arguments it plays a few thousand sequences. `--help` lists the
//! others. Without the right to a network namespace it says so and passes:
//! there is nothing to compare with.

mod compare;
mod cover;

use bindgate_core::model::Generation;
use bindgate_host_live::{kernel, machine};
#[cfg(feature = "mutants")]
mod mutate;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bindgate_host_live::draw::Rng;
use compare::Bench;

const HELP: &str = "\
model_kernel [OPTION VALUE]...
    --seed N          the first sequence's seed; each next one is one more
    --kernel RELEASE  the rules to compare with, instead of the running kernel's
                      (6.12, 6.18.15)
    --sequences N     so many sequences (4000)
    --seconds N       at most so long
    --differences N   how many differences end it (1)
    --vsock-loopback yes  connect by AF_VSOCK too: only in a guest that has
                      vsock_loopback and no other transport
    --report          print what was drawn and reached
    --progress N      say every N sequences how far it is
    --mutants FILE    break each branch that FILE lists (scripts/mutate-model)
    --judge PROGRAM   shown what the comparison does not notice; several times
";

struct Arguments {
    seed: u64,
    kernel: Generation,
    sequences: u64,
    seconds: Option<u64>,
    differences: u64,
    progress: u64,
    report: bool,
    vsock_loopback: bool,
    #[cfg_attr(not(feature = "mutants"), allow(dead_code))]
    mutants: Option<String>,
    #[cfg_attr(not(feature = "mutants"), allow(dead_code))]
    judges: Vec<String>,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut a = Arguments {
        seed: 0x0b1d_6a7e,
        kernel: machine::running(),
        sequences: 4000,
        seconds: None,
        differences: 1,
        progress: 0,
        report: false,
        vsock_loopback: false,
        mutants: None,
        judges: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--kernel" {
            let release = words.next().unwrap_or_default();
            a.kernel = Generation::of_name(&format!("linux {release}"))
                .ok_or_else(|| format!("no release of Linux: {release}\n"))?;
            continue;
        }
        let mut number = || {
            let value = words.next().unwrap_or_default();
            value.parse().map_err(|_| format!("{word} takes a number"))
        };
        match word.as_str() {
            "--seed" => a.seed = number()?,
            "--sequences" => a.sequences = number()?,
            "--seconds" => a.seconds = Some(number()?),
            "--differences" => a.differences = number()?,
            "--progress" => a.progress = number()?,
            "--mutants" => a.mutants = words.next(),
            "--judge" => a.judges.extend(words.next()),
            "--report" => a.report = true,
            "--vsock-loopback" => a.vsock_loopback = words.next().as_deref() == Some("yes"),
            "--help" => return Err(HELP.into()),
            // As `cargo test -- FILTER` calls every test.
            "--list" => return Ok(None),
            w if w.starts_with('-') => {}
            filter if "the_model_answers_as_the_kernel_does".contains(filter) => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(a))
}

fn main() -> ExitCode {
    match arguments() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(a)) => run(&a),
        Err(message) => {
            eprint!("{message}");
            ExitCode::from(2)
        }
    }
}

fn run(a: &Arguments) -> ExitCode {
    kernel::stay_on_one_processor();
    if a.vsock_loopback && !kernel::vsock_is_loopback_only() {
        eprintln!("--vsock-loopback: there is another transport, or none");
        return ExitCode::from(2);
    }
    let mut world = match world::World::new(a.kernel) {
        Ok(world) => world,
        Err(e) => {
            eprintln!("no network namespace here ({e}): nothing compared");
            return ExitCode::SUCCESS;
        }
    };
    world.vsock_loopback = a.vsock_loopback;
    let mut bench = match Bench::new(world) {
        Ok(bench) => bench,
        Err(e) => {
            eprintln!("no processes to compare with: {e}");
            return ExitCode::FAILURE;
        }
    };
    #[cfg(feature = "mutants")]
    if let Some(list) = &a.mutants {
        return match mutate::run(&mut bench, list, &a.judges, a.seed, a.sequences) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(e) => {
                eprintln!("{list}: {e}");
                ExitCode::FAILURE
            }
        };
    }
    let since = Instant::now();
    let until = a.seconds.map(|s| since + Duration::from_secs(s));
    let mut differences = 0;
    let mut n = 0;
    while n < a.sequences && until.is_none_or(|t| Instant::now() < t) {
        let seed = a.seed.wrapping_add(n);
        if let Err(report) = bench.sequence(&mut Rng::new(seed)) {
            println!("seed {seed}, after {n} sequences:\n{report}");
            differences += 1;
        }
        n += 1;
        if a.progress != 0 && n % a.progress == 0 {
            let seconds = since.elapsed().as_secs();
            println!(
                "{n} sequences, next seed {}, {seconds} s",
                seed.wrapping_add(1)
            );
        }
        if differences >= a.differences {
            break;
        }
    }
    println!(
        "{n} sequences from seed {} on, {differences} differences from {}",
        a.seed, a.kernel
    );
    println!("{}", bench.summary());
    if a.report || differences > 0 {
        bench.report();
    }
    if differences == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
