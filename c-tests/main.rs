//! The C programs, each run plain and under bindgate.
//!
//! A program's outcome is its exit status or signal, stdout and stderr. Every
//! program must end the same with the library preloaded, under the launcher,
//! and under a launcher that only observes a policy which would refuse it
//! everything. What it does under rules, the program's first comment says; see
//! [`cases`].

mod cases;
mod demo;
mod filtered;
mod harness;
mod hooks;
mod learned;
mod neighbours;
mod records;

fn main() {
    support::main(|| {
        if let Some(trials) = harness::inner() {
            return trials;
        }
        let mut trials = cases::trials();
        if support::emulator().is_some() {
            trials.extend(records::trials());
            return trials;
        }
        trials.extend(harness::trials());
        trials.extend(neighbours::trials());
        trials.extend(demo::trials());
        trials.extend(hooks::trials());
        trials.extend(records::trials());
        trials
    })
}
