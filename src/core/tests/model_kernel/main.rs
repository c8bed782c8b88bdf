//! The model against the kernel that runs the test: random calls on both,
//! and every answer must be the same.
//!
//! `BINDGATE_SOAK=SECONDS` runs for so long instead of a few thousand
//! sequences and prints what was drawn and reached; `BINDGATE_SEED` chooses
//! the sequences, `BINDGATE_DIFFERENCES` how many end it. Without the right to a network namespace it says so and
//! passes: there is nothing to compare with.

mod compare;
mod draw;
#[path = "../../../launcher/simulate_kernel.rs"]
mod kernel;
mod world;

use std::time::{Duration, Instant};

use compare::Bench;
use draw::Rng;

#[test]
fn the_model_answers_as_the_kernel_does() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let soak = number("BINDGATE_SOAK");
    let mut seed = number("BINDGATE_SEED").unwrap_or(0x0b1d_6a7e);
    // A thread of its own: it changes its namespace and its user.
    std::thread::scope(|scope| {
        let run = scope.spawn(move || {
            let world = match world::World::new() {
                Ok(world) => world,
                Err(e) => {
                    eprintln!("no network namespace here ({e}): nothing compared");
                    return;
                }
            };
            let mut bench = Bench::new(world);
            let until = soak.map(|s| Instant::now() + Duration::from_secs(s));
            let most = if soak.is_some() { u64::MAX } else { 4000 };
            let most_differences = number("BINDGATE_DIFFERENCES").unwrap_or(1);
            let mut differences = 0;
            let mut n = 0;
            while n < most && until.is_none_or(|t| Instant::now() < t) {
                let mut rng = Rng::new(seed);
                if let Err(report) = bench.sequence(&mut rng) {
                    println!("seed {seed}, after {n} sequences:\n{report}");
                    differences += 1;
                    assert!(differences < most_differences, "the model differs");
                }
                seed = seed.wrapping_add(1);
                n += 1;
            }
            assert!(differences == 0, "{differences} differences");
            if soak.is_some() {
                bench.report(n);
            }
        });
        if let Err(e) = run.join() {
            std::panic::resume_unwind(e);
        }
    });
}
