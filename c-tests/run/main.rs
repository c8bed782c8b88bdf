//! `bindgate run` beside the program that it runs: nobody before it, behind
//! it or above it can tell the two apart.

mod agree;
mod bounds;
mod carried;
mod check;
mod container;
mod disk;
mod docs;
mod ends;
mod explained;
mod guest;
mod hosted;
mod isolate;
mod learn;
mod leases;
mod low_ports;
mod messages;
mod policy;
mod predicted;
mod process;
mod publish;
mod random;
mod reach;
mod runs;
mod sealed;
mod simulate;
mod tamper;
mod terminal;
mod user;
mod vsock;
mod vsock_vmm;
mod wait;
mod why;

/// Why a test does not run in a container.
const NAMESPACES: &str = "a program makes a namespace";

/// A program in Python that knows `until_logged`, see `logged.py`.
fn python(text: &str) -> support::Run {
    let text = include_str!("logged.py").to_owned() + text;
    support::Run::new("python3").arg("-c").arg(text)
}

fn main() {
    support::main(|| {
        let mut trials = process::trials();
        trials.extend(agree::trials());
        trials.extend(bounds::trials());
        trials.extend(carried::trials());
        trials.extend(check::trials());
        trials.extend(container::trials());
        trials.extend(disk::trials());
        trials.extend(docs::trials());
        trials.extend(ends::trials());
        trials.extend(explained::trials());
        trials.extend(guest::trials());
        trials.extend(hosted::trials());
        trials.extend(learn::trials());
        trials.extend(leases::trials());
        trials.extend(low_ports::trials());
        trials.extend(messages::trials());
        trials.extend(policy::trials());
        trials.extend(tamper::trials());
        trials.extend(predicted::trials());
        trials.extend(simulate::trials());
        trials.extend(terminal::trials());
        trials.extend(publish::trials());
        trials.extend(reach::trials());
        trials.extend(runs::trials());
        trials.extend(sealed::trials());
        trials.extend(isolate::trials());
        trials.extend(random::trials());
        trials.extend(user::trials());
        trials.extend(vsock::trials());
        trials.extend(vsock_vmm::trials());
        trials.extend(wait::trials());
        trials.extend(why::trials());
        trials
    })
}
