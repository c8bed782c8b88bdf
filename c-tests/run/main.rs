//! `bindgate run` beside the program that it runs: nobody before it, behind
//! it or above it can tell the two apart.

mod bounds;
mod disk;
mod policy;
mod predicted;
mod process;
mod simulate;
#[path = "../support/mod.rs"]
mod support;
mod tamper;
mod terminal;
mod unseen;

fn main() {
    support::main(|| {
        let mut trials = process::trials();
        trials.extend(bounds::trials());
        trials.extend(disk::trials());
        trials.extend(policy::trials());
        trials.extend(tamper::trials());
        trials.extend(predicted::trials());
        trials.extend(simulate::trials());
        trials.extend(terminal::trials());
        trials.extend(unseen::trials());
        trials
    })
}
